"""Inputs before and after an attack, as PNG in the page itself."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import replace
from typing import Any

import numpy as np

from advex import images
from advex._arrays import Array
from advex.evaluation.figures import Figures
from advex.evaluation.page.goal_part import coloured
from advex.evaluation.page.numbers import distance, unit
from advex.evaluation.pooled import DOCTOR
from advex.evaluation.summaries import Pair
from advex.evaluation.wanted import MAPS, NUMBERS

IGNORED = 255  # a label that often stands for pixels that do not count
LARGEST = 448  # pixels of the longer side; larger ones are shown smaller
SOME = 8  # pictures where none is known to be nearer than others
SMALL = 128  # below it pixels stay squares
GREY = 128.0
NICE = tuple(base * 10.0**power for power in range(-2, 5) for base in (1, 2, 5))
USUAL = 10.0
HEADINGS = {
    "nearest": "Broken by the smallest changes",
    "farthest": "Broken by the largest changes",
    "some": "Broken",
    "doctor": "Broken by the doctor alone (not counted above)",
    "held": "Held",
}
MAP_HEADINGS = HEADINGS | {"nearest": "The most wrong", "farthest": "The fewest wrong"}
VISIBLE = 8.0  # grey levels that the largest change must have to be seen


def galleries(evaluation: Figures) -> dict[str, Any]:
    """What was kept to be shown: both ends of those that were broken, those that the doctor alone
    has broken, and some that held; or a sentence where there is nothing to be seen.
    """
    kinds = ("nearest", "farthest", "doctor", "held")
    ends = {place: evaluation.pairs(place) for place in kinds}
    blank: dict[str, Any] = {"reason": "", "places": [], "pairs": [], "maps": False, "broken": True}
    blank |= {"doctor": False, "differ": False}
    if not any(ends.values()):
        return blank | {"reason": "There is no picture to show.", "broken": False}
    broken = bool(ends["nearest"])
    attacked = evaluation.facts.get("attacked")
    box = tuple(evaluation.facts["identity"]["box"])
    if attacked is not None and len(attacked["inputs"]) > 1:
        ends, box = _of_one(ends, attacked["inputs"], box)
    first = next(pair for pairs in ends.values() for pair in pairs)
    if reason := _no_pictures(first, attacked):
        told = [*ends["nearest"], *ends["farthest"]]
        return blank | {
            "reason": reason,
            "pairs": _listed(evaluation, told, ends["doctor"]),
            "broken": broken,
        }
    seen = {pair.example for pair in ends["nearest"]}
    # Where few examples fell, the farthest would be the nearest over again.
    ends["farthest"] = [pair for pair in ends["farthest"] if pair.example not in seen]
    norm, maps = evaluation.facts["norm"], evaluation.kind == MAPS
    if not maps and not _ranked(evaluation, ends["nearest"]):
        some = [*ends["nearest"], *ends["farthest"]][:SOME]
        ends = {"some": some, "doctor": ends["doctor"], "held": ends["held"]}
    places: list[dict[str, Any]] = [
        {
            "name": name,
            "heading": (MAP_HEADINGS if maps else HEADINGS)[name],
            "note": _note(evaluation, name, pairs),
            "pairs": [
                _shown(pair, box, norm)
                | _maps(pair)
                | _held(name, pair)
                | {"others": _others(evaluation, pair)}
                for pair in pairs
            ],
        }
        for name, pairs in ends.items()
        if pairs
    ]
    drawn = [pair for place in places for pair in place["pairs"]]
    return blank | {
        "places": places,
        "maps": maps,
        "broken": broken,
        "doctor": any(pair["attack"] == DOCTOR for pair in drawn),
        "differ": any(not pair["alone"] for pair in drawn),
    }


def _note(evaluation: Figures, name: str, pairs: list[Pair]) -> str:
    """What is said of a group of pictures."""
    if name == "some":
        first = "Within a limit an attack stops at its first success: which"
        who = "Which" if evaluation.kind == NUMBERS else first
        return f"{who} of these are near the boundary was not measured."
    if name == "doctor":
        return (
            "No attack of the run broke these within the budget, and the doctor's search did. The"
            " figures above do not count them as broken."
        )
    if name != "held":
        return ""
    if math.isinf(pairs[0].distance):
        return "No attack broke these within the budget."
    return (
        "No attack broke these within the budget. Beside each: the smallest change that the"
        " doctor's search found, which is beyond it."
    )


def _others(evaluation: Figures, pair: Pair) -> str:
    """The attacks of the run that broke an example, too, where the doctor's search came nearer."""
    if pair.attack != DOCTOR:
        return ""
    place = int(np.searchsorted(evaluation._table.example, pair.example))
    return ", ".join(
        name for name, row in zip(evaluation.names, evaluation.matrix, strict=True) if row[place]
    )


def shown_pairs(evaluation: Figures, pairs: list[Pair]) -> list[dict[str, Any]]:
    """Pairs that may be of any run, drawn; none where they are not pictures."""
    attacked = evaluation.facts.get("attacked")
    box = tuple(evaluation.facts["identity"]["box"])
    if not pairs:
        return []
    ends = {"some": pairs}
    if attacked is not None and len(attacked["inputs"]) > 1:
        ends, box = _of_one(ends, attacked["inputs"], box)
    if _no_pictures(ends["some"][0], attacked):
        return []
    norm = evaluation.facts["norm"]
    return [_shown(pair, box, norm) | _maps(pair) | _held("", pair) for pair in ends["some"]]


def _ranked(evaluation: Figures, nearest: list[Pair]) -> bool:
    """Whether the smallest change of what is shown was looked for: else nearest and farthest say
    nothing.
    """
    if evaluation.facts["epsilon"] is None:
        return True
    known = evaluation.known.sample
    return any(pair.example in known for pair in nearest)


def _held(name: str, pair: Pair) -> dict[str, Any]:
    """Of an example that held: whether a change beyond the budget is known that breaks it."""
    return {
        "others": "",
        "held": name == "held",
        "alone": name == "held" and math.isinf(pair.distance),
    }


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
    first = next(pair for pairs in ends.values() for pair in pairs)
    for one in inputs:
        name = one["name"]
        if images.is_image(first.before[name][None]):
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


def _listed(evaluation: Figures, pairs: list[Pair], beside: list[Pair]) -> list[dict[str, Any]]:
    """Inputs that are not pictures, in words; ``beside`` are those that the doctor alone broke."""
    norm = evaluation.facts["norm"]
    made = {pair.example: _words(pair, norm) | {"beside": False} for pair in pairs}
    made |= {pair.example: _words(pair, norm) | {"beside": True} for pair in beside}
    return list(made.values())


def _words(pair: Pair, norm: str) -> dict[str, Any]:
    moved = f"{distance(pair.distance, norm)} {unit(norm)}"
    return {
        "example": pair.example,
        "attack": pair.attack,
        "label": pair.label,
        "prediction": pair.prediction,
        "confidence": _number(pair.confidence),
        # of maps it is the share of the pixels that is right, which the prediction says
        "distance": moved if pair.maps is None else "",
    }


def _number(confidence: float | None) -> float | None:
    """How sure the model is; None where it does not say."""
    return None if confidence is None or math.isnan(confidence) else confidence


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
