"""Inputs before and after an attack, as PNG in the page itself."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from typing import Any

import numpy as np

from advex import images
from advex._arrays import Array
from advex.evaluation.figures import Figures
from advex.evaluation.page.goal_part import coloured
from advex.evaluation.page.numbers import distance, unit
from advex.evaluation.summaries import Pair
from advex.evaluation.wanted import MAPS

IGNORED = 255  # a label that often stands for pixels that do not count
LARGEST = 448  # pixels of the longer side; larger ones are shown smaller
SMALL = 128  # below it pixels stay squares
GREY = 128.0
NICE = tuple(base * 10.0**power for power in range(-2, 5) for base in (1, 2, 5))
USUAL = 10.0
VISIBLE = 8.0  # grey levels that the largest change must have to be seen


def galleries(evaluation: Figures) -> dict[str, Any]:
    """Both ends of what was kept, or a sentence where there is nothing to be seen."""
    ends = {place: evaluation.pairs(place) for place in ("nearest", "farthest")}
    if not ends["nearest"]:
        return {
            "reason": "No attack broke an example: there is no picture to show.",
            "places": [],
            "pairs": [],
            "maps": False,
        }
    attacked = evaluation.facts.get("attacked")
    box = tuple(evaluation.facts["identity"]["box"])
    if attacked is not None and len(attacked["inputs"]) > 1:
        ends, box = _of_one(ends, attacked["inputs"], box)
    if reason := _no_pictures(ends["nearest"][0], attacked):
        return {
            "reason": reason,
            "places": [],
            "pairs": _listed(evaluation, ends),
            "maps": False,
        }
    seen = {pair.example for pair in ends["nearest"]}
    # Where few examples fell, the farthest would be the nearest over again.
    ends["farthest"] = [pair for pair in ends["farthest"] if pair.example not in seen]
    norm, maps = evaluation.facts["norm"], evaluation.kind == MAPS
    places = [
        {"name": name, "pairs": [_shown(pair, box, norm) | _maps(pair) for pair in pairs]}
        for name, pairs in ends.items()
        if pairs
    ]
    return {"reason": "", "places": places, "pairs": [], "maps": maps}


def _maps(pair: Pair) -> dict[str, Any]:
    """The maps of a picture: (which, as PNG); none where the goal is not about maps of pictures."""
    if pair.maps is None or pair.maps.ndim != 3:
        return {"maps": []}
    classes = 1 + int(pair.maps[1:].max(initial=0))
    known = max(classes, 1 + int(pair.maps[0].max(initial=0, where=pair.maps[0] < IGNORED)))
    names = ("true map", "predicted before", "predicted after")
    return {
        "maps": [
            (name, uri(coloured(one, known))) for name, one in zip(names, pair.maps, strict=True)
        ]
    }


def _of_one(
    ends: dict[str, list[Pair]], inputs: list[dict[str, Any]], box: tuple[Any, ...]
) -> tuple[dict[str, list[Pair]], tuple[Any, ...]]:
    """The pairs with the first of several inputs that is a picture, and its box; as they were where
    none is.
    """
    for one in inputs:
        name = one["name"]
        if images.is_image(ends["nearest"][0].before[name][None]):
            alone = {
                place: [
                    replace(pair, before=pair.before[name], after=pair.after[name])
                    for pair in pairs
                ]
                for place, pairs in ends.items()
            }
            return alone, tuple(one["box"])
    return ends, box


def _no_pictures(pair: Pair, attacked: dict[str, Any] | None) -> str:
    """Why what was attacked cannot be drawn; empty where it can."""
    if attacked is not None and attacked["layer"] is not None:
        return f"The output of the layer {attacked['layer']!r} is not a picture."
    if isinstance(pair.before, dict):
        return "None of the inputs that were attacked is a picture."
    if images.is_image(pair.before[None]):
        return ""
    return f"The inputs (shape {' by '.join(map(str, pair.before.shape))}) are not pictures."


def _listed(evaluation: Figures, ends: dict[str, list[Pair]]) -> list[dict[str, Any]]:
    """Inputs that are not pictures, in words."""
    norm = evaluation.facts["norm"]
    made = {pair.example: _words(pair, norm) for pairs in ends.values() for pair in pairs}
    return list(made.values())


def _words(pair: Pair, norm: str) -> dict[str, Any]:
    moved = f"{distance(pair.distance, norm)} {unit(norm)}"
    return {
        "example": pair.example,
        "attack": pair.attack,
        "label": pair.label,
        "prediction": pair.prediction,
        "confidence": pair.confidence,
        # of maps it is the share of the pixels that is right, which the prediction says
        "distance": moved if pair.maps is None else "",
    }


def _shown(pair: Pair, box: tuple[Any, ...], norm: str) -> dict[str, Any]:
    before, after = _levels(pair.before, box), _levels(pair.after, box)
    factor = scale(after - before)
    change = np.clip(GREY + factor * (after - before), 0, 255)
    height, width = before.shape[:2]
    return _words(pair, norm) | {
        "before": uri(before),
        "after": uri(after),
        "change": uri(change),
        "factor": f"{factor:g}",
        "pixelated": max(height, width) <= SMALL,
        "reduced": max(height, width) > LARGEST,
        "width": width,
        "height": height,
    }


def _levels(x: Array, box: tuple[Any, ...]) -> Array:
    """An input in grey levels, 0 to 255, as float64."""
    if x.dtype == np.uint8:
        return x.astype("float64")
    low, high = box
    return (x.astype("float64") - low) / (high - low) * 255


def scale(change: Array) -> float:
    """By how much a change (in grey levels) is multiplied so that it is seen: 10 where that does,
    else a round number.

    Example:
        >>> [scale(np.asarray([change])) for change in (8.0, -100.0, 0.01, 0.0)]
        [10.0, 1.0, 10000.0, 10.0]
    """
    most = float(np.abs(change).max(initial=0.0))
    if most == 0 or VISIBLE <= USUAL * most <= GREY:
        return USUAL
    return max((factor for factor in NICE if factor * most <= GREY), default=NICE[0])


def uri(levels: Array) -> str:
    """A picture in grey levels as a PNG that needs no file."""
    made = images.picture(np.clip(np.rint(levels), 0, 255).astype("uint8"))
    made.thumbnail((LARGEST, LARGEST))
    buffer = io.BytesIO()
    made.save(buffer, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
