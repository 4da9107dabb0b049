"""A class for each pixel: a small U-Net for discs and squares, and how much of its maps is left.

    python examples/unet.py
    python examples/unet.py --epsilon 4 --out my-folder

Trains for a few seconds, attacks with SegPGD and SEA, and writes ``unet.png``: pictures and maps,
before and after.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from advex.cli.quiet import wake_keras

wake_keras()  # without the lines that its C++ libraries write

import keras
import numpy as np
from keras import layers

import advex

VOID = 255


def shapes(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (n, 32, 32, 3) of a bright disc or a dark square, and a class for each pixel; the
    pixels at the edge of a shape do not count.
    """
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:32, :32]
    pictures = rng.uniform(0.3, 0.7, (count, 1, 1, 3)) + rng.normal(0, 0.05, (count, 32, 32, 3))
    maps = np.zeros((count, 32, 32), int)
    for picture, labels in zip(pictures, maps, strict=True):
        row, column = rng.integers(8, 24, 2)
        size, square = rng.integers(4, 9), rng.integers(0, 2)
        away = np.abs(np.stack([y - row, x - column]))
        distance = away.max(0) if square else np.hypot(*away)
        picture[distance <= size] += (-0.3 if square else 0.3) * rng.uniform(0.5, 1, 3)
        labels[distance <= size] = 1 + square
        labels[np.abs(distance - size) < 0.75] = VOID
    return np.clip(pictures, 0, 1).astype("float32"), maps


def unet() -> keras.Model:
    def block(x, filters):
        return layers.Conv2D(filters, 3, padding="same", activation="relu")(x)

    image = keras.Input((32, 32, 3))
    fine = block(image, 8)
    middle = block(layers.MaxPooling2D()(fine), 16)
    coarse = block(block(layers.MaxPooling2D()(middle), 32), 32)
    x = layers.Concatenate()([layers.UpSampling2D()(coarse), middle])
    x = layers.Concatenate()([layers.UpSampling2D()(block(x, 16)), fine])
    return keras.Model(image, layers.Conv2D(3, 1)(block(x, 8)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epsilon", type=int, default=8, help="grey levels (default 8)")
    parser.add_argument("--epochs", type=int, default=8, help="of training (default 8)")
    parser.add_argument("--steps", type=int, default=40, help="of each attack (default 40)")
    parser.add_argument(
        "--out", type=Path, default=Path("advex-out"), help="folder for the picture"
    )
    arguments = parser.parse_args()

    keras.utils.set_random_seed(0)
    model = unet()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=VOID)
    model.compile(keras.optimizers.Adam(5e-3), loss)
    model.fit(*shapes(600, seed=1), epochs=arguments.epochs, verbose=0)

    pictures, maps = shapes(8, seed=2)
    goal, budget = advex.Segmentation(maps), advex.Linf(arguments.epsilon / 255)
    for name, attack, limit in [
        ("clean", advex.FGSM(), advex.Linf(0)),
        ("SegPGD", advex.SegPGD(steps=arguments.steps), budget),
        ("SEA", advex.SEA(steps=arguments.steps), budget),
    ]:
        result = attack(model, pictures, goal, limit)
        accuracy = result.pixel_accuracy.mean()
        print(f"{name:7s} pixel accuracy {accuracy:6.1%}   mean IoU {result.mean_iou:6.1%}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    result.show(limit=6).save(arguments.out / "unet.png")
    print(arguments.out / "unet.png")


if __name__ == "__main__":
    main()
