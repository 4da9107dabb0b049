"""Where does the network look? Grad-CAM with ``advex.gradients``, on an image and on its
adversarial twin.

    python examples/grad_cam.py
    python examples/grad_cam.py --index 3 --out my-folder

Writes ``grad_cam.png``: the original and the adversarial image with both probabilities, and a heat
map of what spoke for the predicted class. The last features of this small network are 7 by 7, and
so is the map: coarse. What the gradient is taken of, and with respect to what, is up to you: here
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
from PIL import Image, ImageColor

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


MAGMA = ("#000004", "#3b0f70", "#8c2981", "#de4968", "#fe9f6d", "#fcfdbf")
"""Colours that grow lighter from end to end, so that they survive a grey print."""


def overlay(pixels: np.ndarray, heat: np.ndarray, side: int = 224) -> np.ndarray:
    """A grey image under a heat map, 60% of what is seen: light where the network looks."""
    grey = np.asarray(
        Image.fromarray(pixels[..., 0]).resize((side, side), Image.Resampling.NEAREST), "float32"
    )
    smooth = Image.fromarray((heat * 255).astype("uint8")).resize(
        (side, side), Image.Resampling.BICUBIC
    )
    h = np.asarray(smooth, "float32") / 255
    anchors = np.array([ImageColor.getrgb(colour) for colour in MAGMA])
    places = np.linspace(0, 1, len(anchors))
    colour = np.stack([np.interp(h, places, shades) for shades in anchors.T], axis=-1)
    return (0.4 * grey[..., None] + 0.6 * colour).astype("uint8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--index",
        type=int,
        default=7,
        help="which of the 32 images that ship with advex (default 7)",
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
    probabilities = ops.convert_to_numpy(ops.softmax(classifier.model(pixels / np.float32(255))))
    before, after = int(result.before[0]), int(result.prediction[0])
    names = [classifier.caption(before), classifier.caption(after)]
    rows = []
    for p, h, kind, chances in zip(pixels, heat, (before, after), probabilities, strict=True):
        sure = "\n".join(
            f"{name} {chances[number]:.1%}"
            for name, number in dict(zip(names, (before, after), strict=True)).items()
        )
        rows.append([(p, sure), (overlay(p, h), f"evidence for {classifier.caption(kind)}")])
    arguments.out.mkdir(parents=True, exist_ok=True)
    advex.images.sheet(rows, ("the image", "where the evidence lies"), side=224).save(
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
