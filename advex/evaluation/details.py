"""What is kept of an example where the goal is not about one class: JSON, before and after."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from advex._arrays import Array
from advex._table import cut
from advex.evaluation.wanted import CLASSES, LABELS, MAPS, NUMBERS, kind_of
from advex.goals import Goal, MultiLabel, Regression, Segmentation


def details(
    goal: Goal, prediction: Any, confidence: Any, classes: Any, *, before: bool
) -> list[str] | None:
    """What the model says about each example, one text each; None for goals about one class.

    Args:
        goal: of these examples.
        prediction: what ``goal.said`` gives.
        confidence: likewise.
        classes: how many there are at each place of a map.
        before: of the inputs as they are: with what is true.
    """
    kind = kind_of(goal)
    if kind == CLASSES:
        return None
    if kind == MAPS:
        assert isinstance(goal, Segmentation)
        made = [sparse(one) for one in goal.confusion(prediction, int(classes))]
    elif kind == LABELS:
        assert isinstance(goal, MultiLabel)
        made = [
            {"prediction": _plain(said), "confidence": _plain(sure)}
            for said, sure in zip(prediction, confidence, strict=True)
        ]
        if before:
            made = [
                {"labels": _plain(true)} | one for true, one in zip(goal.labels, made, strict=True)
            ]
    elif kind == NUMBERS:
        assert isinstance(goal, Regression)
        errors = goal.errors(prediction)
        made = [
            {"answer": _plain(np.ravel(said)), "error": _plain(error)}
            for said, error in zip(prediction, errors, strict=True)
        ]
        if before:
            made = [
                {"values": _plain(np.ravel(true))} | one
                for true, one in zip(goal.values, made, strict=True)
            ]
    else:
        made = [
            _other(goal, cut(prediction, row), cut(confidence, row))
            for row in range(_rows(prediction))
        ]
    return [json.dumps(one, allow_nan=False) for one in made]


def sparse(confusion: Array) -> dict[str, Any]:
    """A confusion matrix by the cells that are not empty: place and count in turn."""
    flat = confusion.ravel()
    places = np.flatnonzero(flat)
    cells = np.stack([places, flat[places]], axis=1).ravel()
    return {"classes": len(confusion), "cells": cells.tolist()}


def words(kind: str, detail: str, names: list[str] | None, *, true: bool = False) -> str:
    """What a detail says, in a word or two; ``true``: what is true of the example, where it is
    known.
    """
    told = json.loads(detail)
    if kind == MAPS:
        return f"{right(detail):.1%} of the pixels as labelled"
    if kind == LABELS:
        there = np.flatnonzero(told["labels" if true else "prediction"])
        called = [names[one] if names and one < len(names) else str(one) for one in there]
        return ", ".join(called) or "no label"
    if kind == NUMBERS:
        numbers = told["values" if true else "answer"]
        listed = ", ".join("NaN" if one is None else f"{one:.4g}" for one in numbers[:3])
        return listed + (", ..." if len(numbers) > 3 else "")
    return str(told["words"])


def right(detail: str) -> float:
    """The share of the pixels that is right, of an example's confusion matrix."""
    told = json.loads(detail)
    cells, step = told["cells"], told["classes"] + 1
    counts = cells[1::2]
    same = sum(count for place, count in zip(cells[::2], counts, strict=True) if not place % step)
    return float(same / max(1, sum(counts)))


def numbers_of(detail: str) -> list[float]:
    """All numbers of a detail, in order."""
    found: list[float] = []

    def walk(part: Any) -> None:
        if isinstance(part, dict | list):
            for one in part.values() if isinstance(part, dict) else part:
                walk(one)
        elif not isinstance(part, str):
            found.append(math.nan if part is None else float(part))

    walk(json.loads(detail))
    return found


def _other(goal: Goal, prediction: Any, confidence: Any) -> dict[str, Any]:
    """Of goals that are joined, or a user's own."""
    return {
        "words": goal.words(prediction, confidence, str),
        "prediction": _plain(prediction),
        "confidence": _plain(confidence),
    }


def _plain(value: Any) -> Any:
    """Values as JSON takes them: what is not finite is null, what has two axes is left out."""
    if isinstance(value, dict):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    array = np.asarray(value)
    if array.ndim > 1:
        return None
    return [_one(part) for part in array.tolist()] if array.ndim else _one(array.item())


def _one(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _rows(told: Any) -> int:
    """How many examples an answer is about."""
    while isinstance(told, dict | list | tuple):
        told = next(iter(told.values())) if isinstance(told, dict) else told[0]
    return len(told)
