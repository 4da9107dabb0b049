"""The chart and the table of classes."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Any

from advex.evaluation.figures import Figures
from advex.evaluation.page import drawing
from advex.evaluation.summaries import ClassSummary
from advex.evaluation.table import wilson

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MANY, FEW = 30, 15  # classes that are all drawn; else so many from each end
MATRIX = 12  # classes whose table of answers is shown whole
MISTAKES = 12  # of more classes
NAME_LETTERS = 18  # of a class name; wide ones count for more


def classes(evaluation: Figures) -> dict[str, Any]:
    """Bars of each class and a table; of many classes the weakest and the strongest have bars.
    Beside them what each class was taken for.
    """
    summaries = evaluation.per_class
    ranked = sorted(
        summaries,
        key=lambda one: (one.robust_accuracy or 0.0, one.clean_accuracy or 0.0, one.label),
    )
    few = len(ranked) > MANY
    drawn = [*ranked[:FEW], *ranked[-FEW:]] if few else summaries
    table = [
        {
            "name": one.name,
            "examples": one.examples,
            "clean": one.clean_accuracy,
            "held": one.robust_accuracy,
            "interval": _interval(one),
        }
        for one in summaries
    ]
    made = {"rows": table, "svg": None, "few": FEW if few else None, "taken": taken(evaluation)}
    if len(summaries) < 2:
        return made | {"few": None}
    title = f"Clean and robust accuracy of each class: {len(drawn)} of {len(summaries)} classes"
    low, high = ranked[0], ranked[-1]
    told = (
        f"lowest {low.name} {low.robust_accuracy or 0:.1%}, highest {high.name}"
        f" {high.robust_accuracy or 0:.1%}"
    )
    with drawing.context():
        svg = drawing.svg(_bars(drawn, FEW if few else None), "classes", title, told)
    return made | {"svg": svg}


def _interval(one: ClassSummary) -> tuple[float, float]:
    share = one.robust_accuracy or 0.0
    return wilson(round(share * one.examples), one.examples) or (0.0, 1.0)


def taken(evaluation: Figures) -> dict[str, Any]:
    """What the model says of each class under attack: counts of true class and answer, as a table
    of all or, for many classes, as the most frequent mistakes.
    """
    table = evaluation._table
    some = table.are("held", "broken", "wrong")
    true, said = table.label[some], evaluation.prediction_under_attack[some]
    if not len(true):
        return {"rows": [], "names": [], "pairs": [], "undecided": 0}
    labels = sorted({*true.tolist(), *said.tolist()})
    counts: dict[tuple[int, int], int] = {}
    for pair in zip(true.tolist(), said.tolist(), strict=True):
        counts[pair] = counts.get(pair, 0) + 1
    undecided = int(table.are("undecided").sum())
    if len(labels) > MATRIX:
        wrong = [(number, pair) for pair, number in counts.items() if pair[0] != pair[1]]
        wrong.sort(key=lambda one: (-one[0], one[1]))
        most = [
            {"true": evaluation.caption(one), "said": evaluation.caption(other), "count": number}
            for number, (one, other) in wrong[:MISTAKES]
        ]
        return {"rows": [], "names": [], "pairs": most, "undecided": undecided}
    rows = []
    for one in labels:
        total = sum(counts.get((one, other), 0) for other in labels)
        if total:
            cells = [
                {
                    "count": counts.get((one, other), 0),
                    "share": counts.get((one, other), 0) / total,
                    "own": one == other,
                    "name": evaluation.caption(other),
                }
                for other in labels
            ]
            rows.append({"name": evaluation.caption(one), "cells": cells})
    return {
        "rows": rows,
        "names": [evaluation.caption(one) for one in labels],
        "pairs": [],
        "undecided": undecided,
    }


def _bars(drawn: list[ClassSummary], cut: int | None) -> Figure:
    """One row per class: an outline for clean accuracy, filled as far as no attack broke it; a gap
    after ``cut`` rows.
    """
    rows = [
        float(number + (1 if cut is not None and number >= cut else 0))
        for number in range(len(drawn))
    ]
    height = 0.235 * (rows[-1] + 1) + 0.55
    figure, axes = drawing.figure(height, left=1.42, bottom=0.5, top=0.05, right=1.0)
    clean, held = (
        [100 * (value or 0.0) for value in values]
        for values in zip(*map(_shares, drawn), strict=True)
    )
    axes.barh(
        rows,
        clean,
        height=0.72,
        facecolor=drawing.COLOURS["pale"],
        edgecolor=drawing.COLOURS["accent"],
        linewidth=0.8,
    )
    axes.barh(rows, held, height=0.72, facecolor=drawing.COLOURS["accent"])
    for row, one, share in zip(rows, drawn, held, strict=True):
        low, high = (100 * end for end in _interval(one))
        axes.errorbar(
            [share],
            [row],
            xerr=[[max(0.0, share - low)], [max(0.0, high - share)]],
            color=drawing.COLOURS["ink"],
            elinewidth=1,
            capsize=2.5,
            fmt="none",
        )
    for row, one in zip(rows, drawn, strict=True):
        axes.annotate(
            _short(one.name),
            (0, row),
            xytext=(-6, 0),
            textcoords="offset points",
            ha="right",
            va="center",
        )
        share = f"{one.robust_accuracy or 0:.0%} of {one.examples:,}"
        axes.annotate(
            share,
            (100, row),
            xytext=(8, 0),
            textcoords="offset points",
            ha="left",
            va="center",
            annotation_clip=False,
        )
    if cut is not None:
        axes.annotate(
            "⋮", (0, cut), xytext=(-6, 0), textcoords="offset points", ha="right", va="center"
        )
    axes.set(xlim=(0, 100), ylim=(rows[-1] + 0.6, -0.6))
    axes.set_yticks([])
    axes.set_xticks(range(0, 101, 25))
    axes.set_xlabel("accuracy of the class, in %")
    axes.spines["bottom"].set_visible(False)
    axes.grid(axis="x")
    axes.tick_params(length=0)
    return figure


def _short(name: str) -> str:
    """A name that fits beside the bars."""
    name, used = " ".join(name.split()), 0.0
    for place, letter in enumerate(name):
        wide = unicodedata.east_asian_width(letter) in "WF"
        used += 1.9 if wide else 1.3 if letter.isupper() or letter in "mw@%" else 1.0
        if used > NAME_LETTERS:
            return f"{name[: max(1, place - 1)]}…"
    return name


def _shares(one: ClassSummary) -> tuple[float | None, float | None]:
    return one.clean_accuracy, one.robust_accuracy
