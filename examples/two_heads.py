"""A network with two heads, an age and a smile: attack one of them, either, or both.

    python examples/two_heads.py

Draws faces of three lines, trains for a few seconds, and prints how many of them break.
"""

from __future__ import annotations

from advex.cli.quiet import wake_keras

wake_keras()  # without the lines that its C++ libraries write

import keras
import numpy as np
from keras import layers

import advex


def faces(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Grey pictures (n, 16, 16, 1), ages in decades (the width of the face), smiles (the mouth)."""
    rng = np.random.default_rng(seed)
    pictures = rng.uniform(0, 0.15, (count, 16, 16, 1)).astype("float32")
    ages, smiles = rng.integers(1, 7, count), rng.integers(0, 2, count)
    for picture, age, smile in zip(pictures, ages, smiles, strict=True):
        picture[2:14, 8 - age : 8 + age] += 0.2
        picture[10 if smile else 11, 6:10] += 0.2
        picture[11 if smile else 10, (5, 10)] += 0.2
    return pictures, ages.astype("float32"), smiles


def main() -> None:
    keras.utils.set_random_seed(0)
    image = keras.Input((16, 16, 1))
    x = layers.Conv2D(8, 3, activation="relu")(image)
    x = layers.Dense(32, activation="relu")(layers.Flatten()(x))
    heads = {
        "age": layers.Dense(1, name="age")(x),
        "smile": layers.Dense(1, activation="sigmoid", name="smile")(x),
    }
    model = keras.Model(image, heads)
    model.compile("adam", {"age": "mse", "smile": "binary_crossentropy"})
    pictures, ages, smiles = faces(1000, seed=1)
    model.fit(pictures, {"age": ages, "smile": smiles}, epochs=10, verbose=0)

    pictures, ages, smiles = faces(50, seed=2)
    older = advex.Output("age", advex.Regression(ages, off=1.0))
    other = advex.Output("smile", smiles)
    budget = advex.Linf(16 / 255)
    for word, goal in {
        "the age is off by more than ten years": older,
        "the smile is taken for none": other,
        "one of the two": advex.AnyOf(older, other),
        "both at once": advex.AllOf(older, other),
    }.items():
        result = advex.PGD()(model, pictures, goal, budget)
        broken, before = (int((result.status == one).sum()) for one in ("broken", "clean"))
        print(f"{broken:3d} of {len(result)}: {word}, {before} more before any attack")


if __name__ == "__main__":
    main()
