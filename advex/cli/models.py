"""The model that is meant, and the pictures that it takes."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from advex.cli.screen import tell
from advex.errors import InvalidInput

if TYPE_CHECKING:
    from advex.model.classifier import Classifier
    from advex.model.protocol import Model


def chosen_model(options: argparse.Namespace, names: list[str] | None) -> Classifier:
    """The classifier that ``--model`` and ``--box`` mean."""
    from advex import zoo

    name = options.model
    if name is not None and (Path(name).suffix or os.sep in name or Path(name).exists()):
        return zoo.load(name, tuple(options.box or (0, 1)), names)
    if options.box is not None:
        raise InvalidInput("--box belongs to --model FILE.keras; the box of other models is known")
    if name is None:
        return zoo.fashion_mnist(names)
    tell(f"loading {zoo.found(name)}")
    return zoo.application(name, names)


def picture_shape(classifier: Model) -> tuple[tuple[int, int] | None, int]:
    """The size (height, width) of the pictures that the model takes, if it is fixed, and their
    channels.
    """
    shape = classifier.input_shape
    inner = () if shape is None else shape[1:]
    if len(inner) == 2:
        inner = (*inner, 1)
    channels = inner[2] if len(inner) == 3 else None
    if channels not in (1, 3):
        raise InvalidInput(
            f"the model takes x of shape {shape}; pictures are (n, height, width), or (n, height,"
            " width, 1 or 3): attack it from Python"
        )
    height, width = inner[:2]
    return (None if height is None or width is None else (height, width)), channels
