"""Several labels for one picture, and a number for one: a clock whose hands say what is there.

    python examples/labels_and_numbers.py

Trains two small networks for a few seconds: which of four corners are lit, and how bright the
middle is. Prints what it takes to flip a label, to hide one and leave the others, and to move the
number.
"""

from __future__ import annotations

from advex.cli.quiet import wake_keras

wake_keras()  # without the lines that its C++ libraries write

import keras
import numpy as np
from keras import layers

import advex

CORNERS = ("top left", "top right", "bottom left", "bottom right")


def lamps(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pictures (n, 12, 12, 1), which corners are lit (n, 4), and how bright the middle is (n,)."""
    rng = np.random.default_rng(seed)
    pictures = rng.uniform(0, 0.3, (count, 12, 12, 1))
    lit, bright = rng.integers(0, 2, (count, 4)), rng.uniform(0, 1, count)
    for number, place in enumerate([(0, 0), (0, 8), (8, 0), (8, 8)]):
        rows, columns = (slice(start, start + 4) for start in place)
        pictures[:, rows, columns] += 0.25 * lit[:, number, None, None, None]
    pictures[:, 5:7, 5:7] = bright[:, None, None, None]
    return np.clip(pictures, 0, 1).astype("float32"), lit, bright.astype("float32")


def network(units: int, activation: str | None) -> keras.Model:
    image = keras.Input((12, 12, 1))
    x = layers.Conv2D(8, 3, activation="relu")(image)
    x = layers.Dense(24, activation="relu")(layers.Flatten()(x))
    return keras.Model(image, layers.Dense(units, activation=activation)(x))


def main() -> None:
    keras.utils.set_random_seed(0)
    pictures, lit, bright = lamps(1000, seed=1)
    labels, number = network(4, "sigmoid"), network(1, None)
    labels.compile("adam", "binary_crossentropy")
    labels.fit(pictures, lit, epochs=6, verbose=0)
    number.compile("adam", "mse")
    number.fit(pictures, bright, epochs=6, verbose=0)

    pictures, lit, bright = lamps(16, seed=2)
    for word, goal in {
        "any label flips": advex.MultiLabel(lit),
        "all of them flip": advex.MultiLabel(lit, flip="all"),
        "the first flips, the others stay": advex.MultiLabel(lit, flip=[0], keep=True),
    }.items():
        found = advex.FMN(steps=150)(labels, pictures, goal, advex.Linf())
        levels = np.median(found.distance) * 255
        print(f"{word:34s} median {levels:5.1f} grey levels")
    classifier = advex.Classifier(labels, classes=CORNERS)
    result = advex.PGD()(classifier, pictures, advex.MultiLabel(lit), advex.Linf(0.2))
    row = int(np.flatnonzero(result.status == "broken")[0])
    for said in (result.before[row], result.prediction[row]):
        print("lit:", ", ".join(name for name, there in zip(CORNERS, said, strict=True) if there))
    moved = advex.PGD()(number, pictures, advex.Regression(bright, off=0.2), advex.Linf(0.1))
    pushed, off = (int((moved.status == word).sum()) for word in ("broken", "clean"))
    print(f"{pushed} of {len(moved)} numbers pushed off by more than 0.2, {off} more were before")


if __name__ == "__main__":
    main()
