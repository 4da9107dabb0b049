"""Inputs of several sizes in one call: one group after the other, results in order."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from advex import _backend, images
from advex._arrays import Array
from advex.driver.progress import Report
from advex.errors import InvalidInput
from advex.goals import Goal, Untargeted
from advex.model.classifier import Classifier
from advex.model.protocol import Model
from advex.result import Info, Result

SUFFIXES = (".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")

COLUMNS = (
    "success",
    "prediction",
    "confidence",
    "margin",
    "distance",
    "gradients",
    "queries",
    "before",
    "before_confidence",
    "margin_before",
    "broken_by",
    "status",
)
"""What a result has of each row, besides its points."""


def of_several_sizes(classifier: Model, x: Any) -> list[Array] | None:
    """The examples one by one, if ``x`` is a list of arrays of several shapes, or a folder of
    pictures; None: it is something else.
    """
    if isinstance(x, str | os.PathLike) and Path(x).is_dir():
        return _pictures(classifier, Path(x))
    if not isinstance(x, list | tuple) or not all(hasattr(entry, "shape") for entry in x):
        return None
    ranks, shapes = {len(entry.shape) for entry in x}, {tuple(entry.shape) for entry in x}
    if len(shapes) < 2 or len(ranks) > 1 or 0 in ranks:
        return None
    if isinstance(classifier, Classifier) and (classifier.perturb or ranks == {1}):
        return None
    wanted = classifier.input_shape
    if wanted is not None and len(wanted) - 1 not in ranks:
        return None
    return [np.asarray(_backend.to_numpy(entry)) for entry in x]


def _pictures(classifier: Model, folder: Path) -> list[Array]:
    """The pictures of a folder in the order of their names, each in its own size."""
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not files:
        raise InvalidInput(
            f"x is the folder {str(folder)!r}, and there are no pictures in it: its files must end"
            f" in one of {', '.join(SUFFIXES)}"
        )
    shape = classifier.input_shape or (None, None, None, None)
    channels = 1 if shape[-1] == 1 or len(shape) == 3 else 3
    fixed = len(shape) == 4 and shape[1] is not None and shape[2] is not None
    size: Any = (shape[1], shape[2]) if fixed else None
    found = [images.read(path, channels=channels, size=size).pixels for path in files]
    return [picture[..., 0] for picture in found] if len(shape) == 3 else found


def groups_of(pictures: Sequence[Array]) -> list[Array]:
    """The numbers of those that have one shape and dtype, in order of the first of each."""
    found: dict[Any, list[int]] = {}
    for number, picture in enumerate(pictures):
        found.setdefault((picture.shape, picture.dtype), []).append(number)
    return [np.array(numbers) for numbers in found.values()]


class Told:
    """The progress of all groups as that of one call."""

    def __init__(self, progress: Any, total: int) -> None:
        self._report, self._done, self._found = Report(progress, total), 0, 0

    def part(self, size: int) -> Callable[[int, int, int], None]:
        """What is told about one group."""

        def told(done: int, _: int, found: int) -> None:
            self._report(self._done + done, self._found + found)
            if done == size:
                self._done, self._found = self._done + done, self._found + found

        return told


def joined(
    parts: list[tuple[Array, Result]], pictures: Sequence[Array], goal: Goal | None
) -> Result:
    """The results of the groups as one, rows in the order of the inputs."""
    order = np.concatenate([rows for rows, _ in parts])
    back = np.argsort(order, kind="stable")

    first = parts[0][1]
    columns = {
        name: _together([getattr(result, name) for _, result in parts], back) for name in COLUMNS
    }
    columns |= {
        "original": list(pictures),
        "x": _listed([result.x for _, result in parts], back),
        "attempt": _listed([result.attempt for _, result in parts], back),
    }
    whole = goal if goal is not None and not goal.open else None
    return Result(
        classifier=first.classifier,
        goal=Untargeted(columns["before"]) if whole is None else whole,
        budget=first.budget,
        info=_info(parts),
        sized=tuple(parts),
        **columns,
    )


def _listed(arrays: list[Array], back: Array) -> list[Array]:
    every = [row for array in arrays for row in array]
    return [every[place] for place in back]


def _together(values: list[Any], back: Array) -> Any:
    if isinstance(values[0], dict):
        return {name: _together([part[name] for part in values], back) for name in values[0]}
    if len({value.shape[1:] for value in values}) > 1:  # such as maps
        return _listed(values, back)
    return np.concatenate(values)[back]


def _info(parts: list[tuple[Array, Result]]) -> Info:
    """What was done and noticed in all groups."""
    told: list[tuple[Array, Any]] = [(rows, result.info) for rows, result in parts]
    info: Any = dict(told[0][1])
    for name in ("warnings", "notes"):
        every = [sentence for _, each in told for sentence in each[name]]
        info[name] = list(dict.fromkeys(every))
    for name in ("fragile", "invalid", "suspicious"):
        info[name] = sorted(int(rows[place]) for rows, each in told for place in each[name])
    info["clean_wrong"] = sum(each["clean_wrong"] for _, each in told)
    info["checks"] = {"queries": sum(each["checks"]["queries"] for _, each in told)}
    info["notes"].append(f"The inputs have {len(parts)} sizes: each was attacked by itself.")
    stages: dict[str, Any] = {}
    for _, each in told:
        for number, line in enumerate(each["stages"]):
            known = stages.setdefault(f"{number} {line['attack']}", {**line, **_ZERO})
            for name in _ZERO:
                known[name] += line[name]
    info["stages"] = list(stages.values())
    made: Info = info
    return made


_ZERO: Any = {"seconds": 0.0, "examples": 0, "broken": 0, "gradients": 0, "queries": 0}
