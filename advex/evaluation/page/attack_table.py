"""The table of attacks, without columns that say nothing; and which attacks broke the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from advex.evaluation.figures import Figures
from advex.evaluation.page.numbers import cost, count, distance, percent, unit
from advex.evaluation.summaries import AttackSummary

MOST_SETS = 12  # of attacks that broke the same examples
OVERLAP = 3  # from so many attacks on

Cell = Callable[[AttackSummary], str]


def attacks(evaluation: Figures) -> dict[str, Any]:
    """Headings, a row of words for each attack, and one for all of them together."""
    norm, listed = evaluation.facts["norm"], evaluation.attacks
    limited = evaluation.facts["epsilon"] is not None
    medians = {distance(one.median_distance, norm) for one in listed if one.broken}
    columns: list[tuple[str, Cell, bool]] = [
        ("robust accuracy", lambda one: percent(one.accuracy), True),
        ("broken", lambda one: count(one.broken), True),
        ("only by this", lambda one: count(one.alone), len(listed) > 1),
        ("fragile", lambda one: count(one.fragile), any(one.fragile for one in listed)),
        ("invalid", lambda one: count(one.invalid), any(one.invalid for one in listed)),
        (
            f"median change {unit(norm)}",
            lambda one: distance(one.median_distance, norm),
            # within a limit an attack stops at its first success: most stop at the limit itself
            len(medians) > 1 or (not limited and bool(medians)),
        ),
        (
            "gradients per attacked example",
            lambda one: cost(one.gradients / max(1, one.attacked)),
            any(one.gradients for one in listed),
        ),
        (
            "queries per attacked example",
            lambda one: cost(one.queries / max(1, one.attacked)),
            True,
        ),
        ("seconds", lambda one: cost(one.seconds), True),
    ]
    shown = [(heading, cell) for heading, cell, wanted in columns if wanted]
    headings = [heading for heading, _ in shown]
    together = {
        "robust accuracy": percent(evaluation.robust_accuracy),
        "broken": count(int(evaluation.broken.sum())),
    }
    return {
        "headings": headings,
        "rows": [
            {
                "name": one.name,
                "settings": one.settings,
                "cells": list(zip(headings, (cell(one) for _, cell in shown), strict=True)),
                "share": one.broken / max(1, one.attacked),
            }
            for one in listed
        ],
        "attacked": max((one.attacked for one in listed), default=0),
        "together": [(heading, together.get(heading, "")) for heading in headings]
        if len(listed) > 1
        else [],
        "fragile": "fragile" in headings,
        "invalid": "invalid" in headings,
        "alone": "only by this" in headings,
        "median": f"median change {unit(norm)}" in headings,
        "unit": unit(norm),
    }


def overlap(evaluation: Figures) -> dict[str, Any] | None:
    """How many examples were broken by exactly which attacks, the most frequent sets first; None
    for fewer than three attacks.
    """
    names, matrix = evaluation.names, evaluation.matrix
    if len(names) < OVERLAP or not matrix.any():
        return None
    sets: dict[tuple[int, ...], int] = {}
    for column in matrix.T[matrix.any(axis=0)]:
        key = tuple(column.nonzero()[0].tolist())
        sets[key] = sets.get(key, 0) + 1
    ranked = sorted(sets.items(), key=lambda one: (-one[1], one[0]))
    most = ranked[0][1]
    rows = [
        {
            "names": ", ".join(names[number] for number in key),
            "all": len(key) == len(names),
            "count": held,
            "share": held / most,
        }
        for key, held in ranked[:MOST_SETS]
    ]
    return {"rows": rows, "left": len(ranked) - len(rows)}
