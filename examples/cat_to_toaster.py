"""A photo of a cat that a network takes for a toaster, and that no person can tell from the
original.

    python examples/cat_to_toaster.py
    python examples/cat_to_toaster.py --image my_cat.jpg --target 859
    python examples/cat_to_toaster.py --image photo.png --model my_model.keras --target 3

The first downloads InceptionV3 and a photo of a cat, the second takes your photo (859 is the
toaster of ImageNet), the third your model, too, and asks for no network.

First the loop that everybody types on the first evening: climb the gradient of the toaster's
probability, and clip, so that no value moves by more than 0.01 in the range from -1 to 1. Then the
same in three lines, on the 8-bit grid of the file. A model from ``--model`` must take inputs from
-1 to 1 and end in probabilities (softmax).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from advex.cli.quiet import wake_keras

wake_keras()  # without the lines that its C++ libraries write

import keras
import numpy as np

import advex

CAT = "https://storage.googleapis.com/download.tensorflow.org/example_images/320px-Felis_catus-cat_on_snow.jpg"
TOASTER = 859


def by_hand(
    model: keras.Model, original_image: np.ndarray, target: int, enough: float, rounds: int
) -> np.ndarray:
    """The tutorial's loop. In Keras 2 it began with ``K.gradients`` and ``K.function``; the rest is
    as it was.
    """
    cost = model.outputs[0][0, target]
    (gradient,) = advex.gradients(cost, model.inputs)
    cost_and_gradient = advex.function(model.inputs, [cost, gradient])

    learning_rate = 0.1
    highest, lowest = original_image + 0.01, original_image - 0.01
    hacked_image = original_image.copy()
    for done in range(rounds):
        likelihood, slope = cost_and_gradient([hacked_image])
        if done % 20 == 0 or likelihood >= enough:
            print(f"  round {done:4d}: class {target} has {likelihood:.2%}")
        if likelihood >= enough:
            break
        hacked_image = hacked_image + learning_rate * slope
        hacked_image = np.clip(hacked_image, lowest, highest)
        hacked_image = np.clip(hacked_image, -1.0, 1.0)
    return hacked_image


def fetched(what: str, instead: str, fetch: Callable[[], Any]) -> Any:
    """What ``fetch`` downloads, or one line about what to do without a network."""
    try:
        return fetch()
    except Exception as problem:  # Keras raises a bare Exception where a download fails
        reason = str(problem).splitlines()[0]
        raise SystemExit(
            f"{what} could not be fetched ({reason}). Take your own: {instead}"
        ) from None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image", type=Path, help="a photo; default: a cat on snow, downloaded")
    parser.add_argument(
        "--model",
        type=Path,
        help="a .keras file; default: InceptionV3 with ImageNet weights, downloaded",
    )
    parser.add_argument(
        "--target",
        type=int,
        default=TOASTER,
        help="number of the class to reach (default 859, toaster)",
    )
    parser.add_argument(
        "--confidence", type=float, default=0.8, help="probability to reach (default 0.8)"
    )
    parser.add_argument(
        "--rounds", type=int, default=300, help="steps of the raw gradient, at most (default 300)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("advex-out"),
        help="folder for the pictures (default advex-out)",
    )
    arguments = parser.parse_args()

    classes = None
    if arguments.model:
        model = keras.models.load_model(arguments.model)
    else:
        own = "--model my_model.keras --image photo.png --target 3"
        model = fetched(
            "InceptionV3", own, lambda: keras.applications.InceptionV3(weights="imagenet")
        )
        decode = keras.applications.imagenet_utils.decode_predictions
        every_class = fetched("The class names", own, lambda: decode(np.eye(1000), top=1))
        classes = [name for ((_, name, _),) in every_class]
    path = arguments.image or fetched(
        "The photo of a cat",
        "--image photo.png",
        lambda: keras.utils.get_file("cat_on_snow.jpg", CAT),
    )
    height, width, channels = (size or 299 for size in model.input_shape[1:])
    pixels = advex.images.read(path, channels=channels, size=(height, width)).pixels[None]

    print("By hand, with the raw gradient:")
    original_image = pixels / np.float32(127.5) - 1
    hacked_image = by_hand(
        model, original_image, arguments.target, arguments.confidence, arguments.rounds
    )
    rounded = np.round((hacked_image + 1) * 127.5) / np.float32(127.5) - 1
    likelihoods = advex.function(model.inputs, model.outputs[0][:, arguments.target])
    ((before, after),) = likelihoods(np.concatenate([hacked_image, rounded]))
    print(f"  {before:.2%} for the array; {after:.2%} after rounding to the 8 bits of a file.")

    # epsilon is a fraction of the box's range: 0.01 of a range of 2 is 0.005, which allows one grey
    # level.
    print("By advex, on the grid of the file:")
    classifier = advex.Classifier(model, box=(-1, 1), classes=classes)
    goal, budget = (
        advex.Targeted(arguments.target, confidence=arguments.confidence),
        advex.Linf(0.005),
    )
    for attack in (advex.GradientAscent(steps=arguments.rounds), advex.fine()):
        result = attack(classifier, pixels, goal, budget)
        print(f"  {result}")
    if not result.success[0]:
        print("Not this time. Ask for less (--confidence 0.5), or for another --target.")
        return
    (record,) = result.save(arguments.out, [f"class_{arguments.target}.png"], overwrite=True)
    result.show().save(arguments.out / "before_and_after.png")
    print(
        f"{record.path}: {record.before} -> {record.after}, {record.confidence:.1%} sure, changed"
        f" by {record.levels} grey level."
    )
    print(
        "Read back from the file and judged again: "
        + ("it holds." if record.verified else "it does not hold.")
    )
    print(f"Look at {arguments.out / 'before_and_after.png'}")


if __name__ == "__main__":
    main()
