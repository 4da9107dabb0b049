"""Classifiers by name: every model of ``keras.applications``, and the small one that ships with
advex; model files, safely.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module, resources
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from advex._arrays import Array, Tensor
from advex._others import face
from advex.errors import InvalidInput, nearest
from advex.model.classifier import Classifier

__all__ = ["application", "fashion_images", "fashion_mnist", "load", "names"]

WEIGHTS = "imagenet"  # tests put None here: no download


def names() -> list[str]:
    """The builders of `keras.applications`.

    Returns:
        Their names, sorted.

    Example:
        >>> "MobileNetV2" in names()
        True
    """
    return sorted(
        name
        for name, entry in vars(keras.applications).items()
        if name[0].isupper() and callable(entry)
    )


def found(name: str) -> str:
    """``name`` as Keras spells it, whatever its case.

    Raises:
        InvalidInput: there is no such model; the message names the nearest.

    Example:
        >>> found("mobilenetv2")
        'MobileNetV2'
    """
    spelt = {known.casefold(): known for known in names()}
    if name.casefold() in spelt:
        return spelt[name.casefold()]
    close = nearest(name, names(), 3)
    hint = f"did you mean {' or '.join(close)}?" if close else f"it has {', '.join(names())}"
    raise InvalidInput(f"keras.applications has no model {name!r}; {hint}")


def module(name: str) -> ModuleType:
    """The public module of ``keras.applications`` that belongs to a builder and holds its
    ``preprocess_input``.

    Example:
        >>> module("ResNet50V2").__name__
        'keras.applications.resnet_v2'
    """
    builder = getattr(keras.applications, found(name))
    home = import_module(f"keras.applications.{builder.__module__.rpartition('.')[2]}")
    if not callable(getattr(home, "preprocess_input", None)):
        raise InvalidInput(f"Keras {keras.__version__} has no preprocess_input for {name}")
    return home


@dataclass(frozen=True)
class Preprocessing:
    """The ``preprocess_input`` of a model, on a copy: it edits NumPy arrays and torch tensors in
    place.

    Args:
        name: a model of ``keras.applications``.
    """

    name: str

    def __call__(self, x: Tensor) -> Tensor:
        return module(self.name).preprocess_input(x + 0.0)


def class_names() -> list[str]:
    """The 1,000 classes of ImageNet as Keras names them; Keras fetches its list and keeps it."""
    named = keras.applications.imagenet_utils.decode_predictions(
        np.eye(1000, dtype="float32"), top=1
    )
    return [row[0][1] for row in named]


def application(name: str, classes: Sequence[str] | None = None) -> Classifier:
    """A model of `keras.applications` with its ImageNet weights, preprocessing, box (0, 255) and
    class names.

    Keras downloads weights and class names when they are first asked for.

    Args:
        name: as in `names()`, whatever the case.
        classes: other names for the classes. None: those of ImageNet.

    Returns:
        A `Classifier`.

    Raises:
        InvalidInput: no such model, or it could not be downloaded.

    Example:
        >>> application("MobilNetV2")
        Traceback (most recent call last):
        ...
        advex.errors.InvalidInput: ...MobileNetV2...
    """
    name = found(name)
    module(name)
    try:
        model = getattr(keras.applications, name)(weights=WEIGHTS)
        listed = list(classes) if classes is not None else class_names()
    except Exception as problem:  # Keras raises a bare Exception where a download fails
        raise InvalidInput(f"{name} could not be fetched: {_short(problem)}") from problem
    made = Classifier(model, box=(0, 255), preprocess=Preprocessing(name), classes=listed)
    made.known_as = name
    return made


def check_keras(version: str | None = None) -> None:
    """Raise ``InvalidInput`` if this Keras (or ``version``) lacks the guards for model files from
    elsewhere.

    They are complete in 3.15.0 and, within 3.12, in 3.12.3.
    """
    version = version or keras.__version__
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
    if numbers < (3, 15) and not (3, 12, 3) <= numbers < (3, 13):
        raise InvalidInput(
            f"Keras {version} does not guard well enough against model files that run code: update"
            " it to 3.15.0 (or 3.12.3), or load the model yourself and attack it from Python"
        )


def load(
    path: str | Path,
    box: tuple[float, float] = (0, 1),
    classes: Sequence[str] | None = None,
    perturb: str | int | Sequence[str | int] | None = None,
) -> Classifier:
    """The classifier in a `.keras` file, loaded without running code that the file brings
    (`safe_mode=True`).

    Args:
        path: the file.
        box: lowest and highest value that the model takes.
        classes: the names of its classes. None: numbers.
        perturb: which of several inputs is attacked, or which layer's output, as in `Classifier`.

    Returns:
        A `Classifier`.

    Raises:
        InvalidInput: no such file, another format, broken, in need of code, or a Keras without the
            guards.

    Example:
        >>> import tempfile
        >>> import advex
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "linear.keras")
        ...     advex.testing.linear_model().save(file)
        ...     load(file, classes=["no", "yes"]).names
        ['no', 'yes']
    """
    path = Path(path)
    if not path.exists():
        raise InvalidInput(f"{path}: no such model file")
    if path.suffix.lower() != ".keras" or path.is_dir():
        kind = (
            "a folder (a SavedModel?)"
            if path.is_dir()
            else f"a {path.suffix} file"
            if path.suffix
            else "no .keras file"
        )
        raise InvalidInput(
            f"{path} is {kind}; only .keras files are loaded, others may run code or lack the"
            " network: load it where you trust it and model.save('model.keras')"
        )
    check_keras()
    try:
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as problem:  # a broken file can break the loader anywhere
        raise InvalidInput(
            f"{path} could not be loaded: {_short(problem)} (a model with layers of your own is"
            f" attacked from Python)"
        ) from problem
    made = Classifier(model, box=box, classes=classes, perturb=perturb)
    made.known_as = path.name
    return made


def fashion_mnist(classes: Sequence[str] | None = None) -> Classifier:
    """The small classifier of clothes that ships with advex.

    Args:
        classes: names of the 10 classes. None: the English ones.

    Returns:
        A `Classifier` of inputs (n, 28, 28, 1) in the box (0, 1), 10 classes.

    Example:
        >>> fashion_mnist().names[8]
        'Bag'
    """
    data = resources.files("advex.data")
    with resources.as_file(data / "fashion_mnist.keras") as path:
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    return Classifier(
        model, classes=classes if classes is not None else _fashion_data()["classes"].tolist()
    )


def fashion_images() -> tuple[Array, Array]:
    """The 32 test images that ship with advex, and their labels.

    All of them are classified correctly by `fashion_mnist()`.

    Returns:
        Images (32, 28, 28, 1), uint8, and labels (32,), int64.

    Example:
        >>> images, labels = fashion_images()
        >>> images.shape, labels.shape
        ((32, 28, 28, 1), (32,))
    """
    data = _fashion_data()
    return data["images"], data["labels"]


def _fashion_data() -> dict[str, Any]:
    with (
        (resources.files("advex.data") / "fashion_mnist.npz").open("rb") as handle,
        np.load(handle) as data,
    ):
        return dict(data)


def _short(problem: Exception) -> str:
    """An exception in one line."""
    text = " ".join(str(problem).split())
    return f"{type(problem).__name__}: {text if len(text) <= 300 else text[:300] + '…'}"


if not TYPE_CHECKING:
    __getattr__, __dir__ = face(__name__, __all__)
