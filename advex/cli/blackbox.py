"""``--blackbox``: a function of the user's own in place of a model."""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import importlib.util
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from advex._settings import shown
from advex.cli.words import option, whole
from advex.errors import AdvexError, InvalidInput, UserCodeError, blaming, nearest

if TYPE_CHECKING:
    from advex.model.blackbox import BlackBox

Shape = tuple[int, ...]

USUAL = "--blackbox module:function, or --blackbox path/to/file.py:function"
LOADED = "advex_blackbox_"  # begins the name of a module that was loaded by its path
LONGEST_NAME = 200  # characters of what a message repeats
METHODS = ("predict", "predict_proba")  # of an estimator
BOX_REPR = r"\b(?:Pictures|BlackBox)\(\w+, classes=\d+, box=\([^)]*\)[^)]*\)"
IN_OPTIONS = (
    (r": use an attack that .*", ": leave out --attack, and one that needs no more is chosen"),
    (r": class numbers are enough with .*", ": leave out --answers scores"),
    (r": scores are advex\.BlackBox.*", ": that is --answers scores"),
    (r"use a goal about the class, .*", "leave out --confidence, or use --answers scores"),
    (
        r"this BlackBox answers .*",
        "the function answers with one class; scores are --answers scores",
    ),
)
"""What errors propose in Python, and on the command line."""


def shape_of(text: str) -> Shape:
    """``28x28`` or ``224x224x3`` as numbers."""
    try:
        sizes = tuple(whole(part) for part in text.lower().split("x"))
    except argparse.ArgumentTypeError:
        sizes = ()
    known = len(sizes) == 2 or (len(sizes) == 3 and sizes[2] in (1, 3))
    if not known or min(sizes) < 1:
        raise argparse.ArgumentTypeError(
            f"{shown(text, 40)} is not the shape of a picture such as 28x28, 28x28x1 or"
            " 224x224x3: height, width, and 1 or 3 channels"
        )
    return sizes


OPTIONS = (
    option(
        "--blackbox",
        metavar="MODULE:FUNCTION",
        help="a function of your own in place of a model, such as service:predict or"
        " path/to/file.py:predict. It takes an array of pictures, float32, in the box, and answers"
        " with a class for each. Its module is imported: whatever code is in it runs",
    ),
    option(
        "--answers",
        choices=("labels", "scores"),
        help="what the function of --blackbox answers: a class for each picture (labels), or a"
        " score for each class",
    ),
    option(
        "--shape",
        type=shape_of,
        metavar="HxW[xC]",
        help="of the pictures that the function of --blackbox takes: 28x28, 28x28x1, 224x224x3"
        " (colour, of the size that they have)",
    ),
    option(
        "--queries",
        type=whole,
        metavar="N",
        help="how often an attack that needs no gradients asks about each input at most (its own"
        " default)",
    ),
)


def demand_alone(options: argparse.Namespace) -> None:
    """Raise ``InvalidInput`` where an option belongs to ``--blackbox`` and there is none, or to a
    model and there is a function.
    """
    if options.queries is not None and options.queries < 1:
        raise InvalidInput(f"--queries must be at least 1; received {options.queries}")
    if options.blackbox is None:
        for name in ("answers", "shape"):
            if getattr(options, name) is not None:
                raise InvalidInput(f"--{name} belongs to --blackbox MODULE:FUNCTION")
        return
    if options.model is not None:
        raise InvalidInput(
            f"--blackbox {options.blackbox} stands in place of a model: leave out --model"
            f" {options.model}"
        )
    for name in ("perturb", "output", "workers"):
        if getattr(options, name, None) is not None:
            raise InvalidInput(
                f"--{name} belongs to a model; the function of --blackbox has one input and one"
                " answer, and runs in this process"
            )
    if options.classes is None:
        raise InvalidInput(
            f"--blackbox {options.blackbox} needs the number of classes, --classes 10, or their"
            " names, --classes NAMES.json"
        )


def black_box(options: argparse.Namespace, classes: Any) -> BlackBox:
    """The ``BlackBox`` that ``--blackbox``, ``--box``, ``--answers`` and ``--shape`` mean."""
    from advex.model.blackbox import BlackBox

    class Pictures(BlackBox):
        """One that knows what pictures it takes."""

        @property
        def input_shape(self) -> tuple[int | None, ...] | None:
            if options.shape is not None:
                return (None, *options.shape)
            # Arrays of any shape may come from an npz file; pictures come in colour.
            return None if hasattr(options, "data") else (None, None, None, 3)

    box = tuple(options.box or (0, 1))
    predict = _blamed(function(options.blackbox))
    try:
        return Pictures(predict, classes, box, options.answers or "labels")
    except InvalidInput as problem:
        if isinstance(classes, int) and classes < 2:
            raise InvalidInput(f"--classes must be at least 2; received {classes}") from None
        raise InvalidInput(re.sub(r"^classes\b", "--classes", str(problem))) from None


@contextlib.contextmanager
def in_options(options: argparse.Namespace) -> Iterator[None]:
    """Say with options of the command line what an error says about a ``BlackBox`` in Python."""
    try:
        yield
    except AdvexError as problem:
        said = str(problem)
        if options.blackbox is None or isinstance(problem, UserCodeError):
            raise
        for pattern, words in IN_OPTIONS:
            said = re.sub(pattern, words, said)
        if said == str(problem):
            raise
        named = f"--blackbox {options.blackbox}"
        said = re.sub(rf"{BOX_REPR}|^predict\b", lambda _: named, said)
        raise InvalidInput(said) from None


def function(named: str) -> Callable[..., Any]:
    """The function that ``MODULE:FUNCTION`` or ``FILE.py:FUNCTION`` names; its module is imported.

    Raises:
        InvalidInput: there is no such module or function, it cannot be called, or the module fails.
    """
    import keras

    from advex.model.protocol import Model

    said = f"--blackbox {named if len(named) < LONGEST_NAME else named[:LONGEST_NAME] + '...'}"
    place, _, name = named.rpartition(":")
    if not place or not name or "\0" in named:
        raise InvalidInput(f"{said}: a module and a function in it are needed: {USUAL}")
    module = _loaded(said, place)
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            raise _no_name(said, module, found, part)
        found = getattr(found, part)
    if not callable(found) or isinstance(found, type | keras.Model | Model):
        raise _no_function(said, found)
    return found


def _blamed(predict: Callable[..., Any]) -> Callable[..., Any]:
    """The function, whose errors say whose they are."""

    @functools.wraps(predict)
    def asked(batch: Any) -> Any:
        with blaming("the function of --blackbox", f"It was asked about an array {batch.shape}"):
            return predict(batch)

    asked.__module__ = "__main__"  # the user's own, whatever it calls: an evaluation hashes it
    return asked


# The module.


def _loaded(said: str, place: str) -> ModuleType:
    """The module of this name, or in this file."""
    file = Path(place)
    if file.suffix == ".py" or os.sep in place:
        if file.is_dir() or not file.exists():
            what = "a folder" if file.is_dir() else "no such file"
            raise InvalidInput(f"{said}: {place} is {what}; beside it: {_nearby(file.parent)}")
        name = LOADED + file.stem
        _look_in(file.resolve().parent)
        spec = importlib.util.spec_from_file_location(name, file)
        if spec is None or spec.loader is None:
            raise InvalidInput(f"{said}: {place} is no Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        with _importing(said, place):
            spec.loader.exec_module(module)
        return module
    _look_in(Path.cwd())
    try:
        with _importing(said, place):
            return importlib.import_module(place)
    except ModuleNotFoundError:
        raise InvalidInput(
            f"{said}: there is no module {place} in this folder, which has"
            f" {_nearby(Path.cwd())}, and none is installed"
        ) from None


def _look_in(folder: Path) -> None:
    """Let modules be found in a folder, as Python does with that of a script."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    importlib.invalidate_caches()


@contextlib.contextmanager
def _importing(said: str, place: str) -> Iterator[None]:
    """Say where a module fails; that it does not exist is left to others."""
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as problem:  # a module may call sys.exit()
        missing = getattr(problem, "name", None)
        wanted = [place.rsplit(".", count)[0] for count in range(place.count(".") + 1)]
        if isinstance(problem, ModuleNotFoundError) and missing in wanted:
            raise
        where = [frame for frame in traceback.extract_tb(problem.__traceback__) if _own(frame)]
        line = f"{where[-1].filename}, line {where[-1].lineno}: " if where else ""
        text = " ".join(str(problem).split())
        raise InvalidInput(
            f"{said}: importing {place} failed: {line}{type(problem).__name__}"
            f"{': ' * bool(text)}{text}"
        ) from problem


def _own(frame: traceback.FrameSummary) -> bool:
    """Whether a frame is in a file, and neither here nor in Python's own importing."""
    return not frame.filename.startswith("<") and not frame.filename.startswith(
        (__file__, str(Path(importlib.__file__).parent))
    )


# What is wrong with it.


def _nearby(folder: Path) -> str:
    """What a folder has."""
    with contextlib.suppress(OSError):
        files = sorted(entry.name for entry in folder.glob("*.py"))
        if files:
            more = f" and {len(files) - 3} more" if files[3:] else ""
            return f"{', '.join(files[:3])}{more}"
    return "no Python files"


def _no_name(said: str, module: ModuleType, owner: Any, part: str) -> InvalidInput:
    """The error for a name that is not in a module, or not in something in it."""
    file = getattr(module, "__file__", None) or "built into Python"
    whose = f"{module.__name__.removeprefix(LOADED)} ({file})"
    if owner is not module:
        whose = f"the {type(owner).__name__} in {whose}"
    known = [name for name in dir(owner) if not name.startswith("_")]
    known = [name for name in known if callable(getattr(owner, name, None))]
    close = nearest(part, known, 1) or (known[:3] if owner is module else [])
    hint = f"; it has {', '.join(close)}" if close else ""
    return InvalidInput(f"{said}: {whose} has no {part}{hint}")


def _no_function(said: str, found: Any) -> InvalidInput:
    """The error for something that is no function."""
    if isinstance(found, type):
        return InvalidInput(
            f"{said} is a class; a function is needed, array -> a class for each: write one that"
            f" calls {found.__name__}"
        )
    if callable(found):
        return InvalidInput(
            f"{said} is a Keras model, not a function: save it, and attack the file with --model"
            " FILE.keras"
        )
    methods = [name for name in METHODS if callable(getattr(found, name, None))]
    if methods:
        scores = " --answers scores" if methods[0] == "predict_proba" else ""
        return InvalidInput(
            f"{said} is no function but a {type(found).__name__}: give its method,"
            f" {said}.{methods[0]}{scores}"
        )
    return InvalidInput(
        f"{said} is no function but {shown(found)}; a function is needed, array -> a class for each"
    )
