"""The model that is meant, and the pictures that it takes."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advex.cli.blackbox import black_box
from advex.cli.screen import tell
from advex.errors import InvalidInput

if TYPE_CHECKING:
    from advex.model.protocol import Model


def chosen_model(options: argparse.Namespace, names: list[str] | int | None) -> Model:
    """What ``--model``, ``--box`` and ``--perturb`` mean, or ``--blackbox``."""
    from advex import zoo

    if options.blackbox is not None:
        return black_box(options, names)
    assert not isinstance(names, int)
    name, perturb = options.model, getattr(options, "perturb", None)
    if name is not None and is_file(name):
        chosen = [int(one) if one.isdecimal() else one for one in perturb or ()]
        more: dict[str, Any] = {"perturb": chosen} if chosen else {}
        try:
            return zoo.load(name, tuple(options.box or (0, 1)), names, **more)
        except InvalidInput as problem:
            raise _said(problem, images=not hasattr(options, "perturb")) from None
    if perturb is not None:
        raise InvalidInput("--perturb belongs to --model FILE.keras; other models have one input")
    if options.box is not None:
        raise InvalidInput("--box belongs to --model FILE.keras; the box of other models is known")
    if name is None:
        return zoo.fashion_mnist(names)
    tell(f"loading {zoo.found(name)}")
    return zoo.application(name, names)


def demand_model(options: argparse.Namespace) -> None:
    """Raise unless there is a model file, or a model, of the name of ``--model``."""
    from advex import zoo

    name = options.model
    if name is None:
        return
    if not is_file(name):
        zoo.found(name)
    elif "\0" in name or not Path(name).exists():
        raise InvalidInput(f"{name}: no such model file")


def is_file(name: str) -> bool:
    """Whether a file is meant, and no model of ``keras.applications``."""
    return bool(Path(name).suffix or os.sep in name or Path(name).exists())


def _said(problem: InvalidInput, *, images: bool) -> InvalidInput:
    """Say with options of the command line what an error says about ``Classifier``."""
    text, mark, rest = str(problem).partition(": say which one is attacked")
    if not mark:
        return problem
    if images:
        return InvalidInput(
            f"{text}: images alone are no inputs for it; with arrays of all inputs, advex evaluate"
            " --model FILE.keras --data FILE.npz --perturb NAME"
        )
    name = rest.partition("perturb='")[2].partition("'")[0]
    return InvalidInput(
        f"{text}: --perturb {name} says which one is attacked, the others stay as they are"
    )


def picture_shape(classifier: Model) -> tuple[tuple[int, int] | None, int]:
    """The size (height, width) of the pictures that the model takes, if it is fixed, and their
    channels.
    """
    from advex.model.blackbox import BlackBox

    shape = classifier.input_shape
    if shape is None and isinstance(classifier, BlackBox):
        raise InvalidInput(
            "the function of --blackbox takes arrays of any shape, and pictures are read in one:"
            " --shape 224x224x3"
        )
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
