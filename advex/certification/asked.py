"""What ``certify`` is asked to do: its arguments, checked before a sample is drawn."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from advex._arrays import Array
from advex._inputs import Bundle, Examples
from advex._settings import real_number, shown, whole_number
from advex._space import grid_of
from advex.attacks.inputs import checked_inputs
from advex.errors import InvalidInput, InvalidType
from advex.evaluation.source import Source
from advex.goals import Untargeted
from advex.model.protocol import Model


@dataclass(frozen=True)
class Asked:
    """The arguments of a certification, checked, without the data."""

    classifier: Model
    sigma: float
    samples: int
    selection: int
    alpha: float
    seed: int
    batch_size: int | None

    @property
    def settings(self) -> dict[str, Any]:
        """What must be the same when a certification goes on, besides model and data."""
        names = ("sigma", "samples", "selection", "alpha", "seed")
        return {name: getattr(self, name) for name in names}

    @property
    def deviation(self) -> float:
        """The standard deviation of the noise in the model's units."""
        low, high = self.classifier.box
        return self.sigma * (high - low)

    def entered(self, x: Array | Bundle) -> Array:
        """The rows of a block as the model takes them, float32."""
        given = self.checked(x)
        return np.asarray(grid_of(self.classifier, given).entered(given), "float32")

    def checked(self, x: Array | Bundle) -> Array:
        """The rows of a block in their own dtype, which noise can be added to."""
        given = checked_inputs(self.classifier, x)
        domain = self.classifier.domain
        if isinstance(given, Examples):
            raise InvalidInput(
                "certify adds noise to one array that is the input, and here there are several, or"
                " a layer: make a model of that input alone, the others constants within it"
            )
        if not domain.plain or domain.fixed is not None:
            raise InvalidInput(
                f"certify adds noise to every number of an input in a box; received {domain!r}: a"
                " box alone is advex.Classifier(model, box=(0, 1))"
            )
        kind = self.classifier.input_dtype
        if kind is not None and "float" not in kind:
            raise InvalidInput(
                f"certify adds noise to the input, and the model turns that into {kind}: give the"
                " part of it that takes floats, such as what comes after an embedding"
            )
        return given


def alpha_of(alpha: Any) -> float:
    """``alpha`` between 0 and 1."""
    number = real_number("alpha", alpha, strict=True)
    if number >= 1:
        raise InvalidInput(
            "alpha is the probability that a certificate is false, above 0 and below 1; received"
            f" {shown(alpha)}"
        )
    return number


def asked(classifier: Model, **given: Any) -> Asked:
    """The arguments, checked."""
    whole = {name: whole_number(name, given[name]) for name in ("samples", "selection")}
    batch = given["batch_size"]
    return Asked(
        classifier,
        sigma=real_number("sigma", given["sigma"], strict=True),
        alpha=alpha_of(given["alpha"]),
        seed=given["seed"],
        batch_size=None if batch is None else whole_number("batch_size", batch),
        **whole,
    )


def folder_of(run: Any) -> Path | None:
    """The path of the folder that keeps the certification; the folder above it exists."""
    if run is None:
        return None
    name = os.fspath(run) if isinstance(run, str | os.PathLike) else None
    if not isinstance(name, str):
        raise InvalidType(
            f"run must be the name of a folder, such as 'certified'; received {shown(run)}"
        )
    if not name or "\0" in name:
        raise InvalidInput(
            f"run must be the name of a folder, such as 'certified'; received {shown(name)}"
        )
    path = Path(name)
    if not path.absolute().parent.is_dir():
        raise InvalidInput(f"run must lie in a folder, and there is no {path.absolute().parent}")
    return path


def source_of(x: Any, labels: Any, *, several: bool) -> Source:
    """The examples: arrays and their labels, or a data set that brings both."""
    if labels is None:
        if hasattr(x, "shape"):
            raise InvalidInput(
                "x is an array, and its labels are missing: advex.certify(model, x, labels), or a"
                " data set that brings them"
            )
        return Source(x, several=several)
    plain = hasattr(x, "shape") or isinstance(x, list | tuple | dict | str | bytes | Bundle)
    if isinstance(x, keras.utils.PyDataset) or (isinstance(x, Iterable) and not plain):
        raise InvalidInput(
            f"x is a data set ({type(x).__name__}), whose batches bring labels of their own:"
            " advex.certify(model, x)"
        )
    return Source((x, labels), several=several)


def classes_of(labels: Array, count: int, classes: int | None) -> Array:
    """The labels of a block as class numbers, (n,) int64."""
    try:
        goal = Untargeted(labels).check(count, classes)
    except InvalidInput as problem:
        raise InvalidInput(f"{problem}; certify is about one class for each input alone") from None
    return np.asarray(goal.labels, "int64")
