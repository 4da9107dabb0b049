"""A model that looks at a picture and at what is known about it: attack one of the two, or both.

    python examples/image_and_metadata.py

Makes pictures of spots on skin with the age of the person and the place of the spot, trains a
network for a few seconds, and prints how many diagnoses change.
"""

from __future__ import annotations

from advex.cli.quiet import wake_keras

wake_keras()  # without the lines that its C++ libraries write

import keras
import numpy as np
from keras import layers, ops

import advex

AGE = 0  # the first of the metadata; the others are four places, of which one is 1


def patients(count: int, seed: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Pictures (n, 16, 16, 1) and metadata (n, 5), and who is ill (n,)."""
    rng = np.random.default_rng(seed)
    size, age = rng.uniform(2, 6, count), rng.integers(1, 95, count)
    place = rng.integers(0, 4, count)
    across = np.abs(np.arange(16) - 7.5)
    away = np.hypot(across[:, None], across)
    image = 0.75 - 0.3 * (away < size[:, None, None]) + rng.normal(0, 0.05, (count, 16, 16))
    meta = np.column_stack([age, np.eye(4)[place]])
    ill = size + age / 30 + 0.5 * place > 6.5
    pictures = np.clip(image, 0, 1).astype("float32")[..., None]
    return {"image": pictures, "meta": meta.astype("float32")}, ill.astype(int)


def network() -> keras.Model:
    image, meta = keras.Input((16, 16, 1), name="image"), keras.Input((5,), name="meta")
    x = layers.Conv2D(8, 3, strides=2, activation="relu")(image)
    scaled = layers.Rescaling([1 / 50, 1, 1, 1, 1])(meta)
    x = ops.concatenate([layers.Flatten()(x), scaled], axis=-1)
    x = layers.Dense(2)(layers.Dense(24, activation="relu")(x))
    model = keras.Model({"image": image, "meta": meta}, x)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss)
    return model


def main() -> dict[str, advex.Result]:
    keras.utils.set_random_seed(0)
    model = network()
    model.fit(*patients(1500, seed=1), epochs=8, verbose=0)
    x, ill = patients(60, seed=2)

    # Whole years, and one place of four.
    years = np.arange(5) == AGE
    meta = advex.Domain([0, 0, 0, 0, 0], [100, 1, 1, 1, 1], integer=years, one_hot=[[1, 2, 3, 4]])
    boxes = {"image": (0, 1), "meta": meta}
    of_image = advex.Classifier(model, perturb="image")
    of_meta = advex.Classifier(model, box=meta, perturb="meta")
    of_both = advex.Classifier(model, box=boxes, perturb=["image", "meta"])
    levels, one_column = advex.Linf(4 / 255), advex.L0(1)
    found = {
        "4 grey levels": advex.PGD()(of_image, x, ill, levels),
        "one entry of the metadata": advex.PGD()(of_meta, x, ill, one_column),
        "both": advex.PGD()(of_both, x, ill, {"image": levels, "meta": one_column}),
    }
    for word, result in found.items():
        broken, before = (int((result.status == one).sum()) for one in ("broken", "clean"))
        print(f"{word:26s} {broken:2d} of {len(result)} change, {before} were wrong before")
    both = found["both"]
    row = int(np.flatnonzero(both.status == "broken")[0])
    for name, values in (("before", both.original), ("after", both.x)):
        print(f"    {name:6s} age {values['meta'][row, 0]:.0f}, place {values['meta'][row, 1:]}")
    most = np.abs(both.x["image"].astype("float64") - both.original["image"]).max() * 255
    print(f"    and no pixel by more than {most:.3f} levels")
    return found


if __name__ == "__main__":
    main()
