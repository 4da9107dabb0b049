"""Where does the network look? Grad-CAM with ``advex.gradients``, on an image and on its
adversarial twin.

    python examples/grad_cam.py
    python examples/grad_cam.py --index 7 --out my-folder

Writes ``grad_cam.png``: the original and the adversarial image, each with a heat map of what spoke
for the predicted class. What the gradient is taken of, and with respect to what, is up to you: here
it is a layer's output, not the input.

Reference: Selvaraju et al., Grad-CAM: visual explanations from deep networks via gradient-based
localization, 2017.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from advex.cli.quiet import wake_keras

wake_keras()  # without the lines that its C++ libraries write

import keras
import numpy as np
from keras import ops
from PIL import Image

import advex
from advex import zoo


def heat_maps(model: keras.Model, x: np.ndarray) -> np.ndarray:
    """One map per image, (n, height, width) from 0 to 1: large where the last features spoke for
    the predicted class.
    """
    features = [layer for layer in model.layers if isinstance(layer, keras.layers.ReLU)][-1].output
    score = ops.max(model.outputs[0], axis=1)
    (gradient,) = advex.gradients(score, features)
    weights = ops.mean(gradient, axis=(1, 2), keepdims=True)  # how much each feature matters
    maps = ops.relu(ops.sum(weights * features, axis=-1))
    maps = maps / (ops.max(maps, axis=(1, 2), keepdims=True) + 1e-12)
    return advex.function(model.inputs, maps)(x)[0]


def overlay(pixels: np.ndarray, heat: np.ndarray, side: int = 224) -> np.ndarray:
    """A grey image in colour: from blue, where the network does not care, to red, where it does."""
    grey = np.asarray(
        Image.fromarray(pixels[..., 0]).resize((side, side), Image.Resampling.NEAREST), "float32"
    )
    smooth = Image.fromarray((heat * 255).astype("uint8")).resize(
        (side, side), Image.Resampling.BICUBIC
    )
    h = np.asarray(smooth, "float32")[..., None] / 255
    colour = 255 * np.clip(1.5 - np.abs(4 * h - np.array([3.0, 2.0, 1.0], "float32")), 0, 1)
    return (0.55 * grey[..., None] + 0.45 * colour).astype("uint8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--index",
        type=int,
        default=0,
        help="which of the 32 images that ship with advex (default 0)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("advex-out"),
        help="folder for the picture (default advex-out)",
    )
    arguments = parser.parse_args()

    classifier = zoo.fashion_mnist()
    x, labels = (array[[arguments.index]] for array in zoo.fashion_images())
    result = advex.PGD()(classifier, x, labels, advex.Linf(16 / 255))

    pixels = np.concatenate([x, result.x])
    heat = heat_maps(classifier.model, pixels / np.float32(255))
    names = [
        classifier.caption(int(result.before[0])),
        classifier.caption(int(result.prediction[0])),
    ]
    rows = [
        [(p, name), (overlay(p, h), "")] for p, h, name in zip(pixels, heat, names, strict=True)
    ]
    arguments.out.mkdir(parents=True, exist_ok=True)
    advex.images.sheet(rows, ("the image", "what spoke for it"), side=224).save(
        arguments.out / "grad_cam.png"
    )

    for name, h in zip(names, heat, strict=True):
        row, column = np.unravel_index(h.argmax(), h.shape)
        down, across = (
            ("top", "middle", "bottom")[3 * row // h.shape[0]],
            ("left", "centre", "right")[3 * column // h.shape[1]],
        )
        print(f"{name:>12}: the network looks most at the {down} {across}")
    print(f"Look at {arguments.out / 'grad_cam.png'}")


if __name__ == "__main__":
    main()
