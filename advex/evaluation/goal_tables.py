"""The figures of a goal that is not about one class, as a table of words."""

from __future__ import annotations

from typing import NamedTuple

from advex.evaluation.figures import Figures
from advex.evaluation.wanted import LABELS, MAPS, NUMBERS


class GoalTable(NamedTuple):
    """Headings, and lines of as many words."""

    caption: str
    headings: list[str]
    rows: list[list[str]]
    note: str


def goal_table(figures: Figures) -> GoalTable | None:
    """The table of a run; None where there is none."""
    made = {LABELS: _labels, NUMBERS: _errors, MAPS: _maps}.get(figures.measured)
    return made(figures) if made is not None and figures.examples else None


def in_short(figures: Figures) -> str:
    """What an attack does to numbers or maps, in a few words; empty for other goals."""
    if not figures.examples:
        return ""
    if figures.measured == NUMBERS:
        found = figures.errors.quantiles()
        return (
            f"median error {found['before'].median:.4g} before, {found['worst'].median:.4g} after"
        )
    if figures.measured == MAPS:
        pixels, iou = figures.pixel_accuracy, figures.mean_iou
        return (
            f"pixel accuracy {pixels.before:.1%} before, {pixels.worst:.1%} after; mean IoU"
            f" {iou.before:.1%} before, {iou.worst:.1%} after"
        )
    return ""


def _labels(figures: Figures) -> GoalTable:
    rows = [
        [
            one.name,
            str(one.there),
            f"{one.right / max(1, one.examples):.1%}",
            *(str(one.flipped[name]) for name in figures.names),
        ]
        for one in figures.per_label
    ]
    return GoalTable(
        "Each label: in how many examples it is, and of how many an attack turned it.",
        ["label", "there", "right before", *(f"flipped by {name}" for name in figures.names)],
        rows,
        "A success may turn one label or several; one that was not reached turns none.",
    )


def _errors(figures: Figures) -> GoalTable:
    rows = [
        [_when(name), *(f"{value:.4g}" for value in (one.median, one.ninety, one.largest))]
        for name, one in figures.errors.quantiles().items()
    ]
    return GoalTable(
        "The absolute error of the model.",
        ["", "median", "90 %", "largest"],
        rows,
        "After an attack: at the point to which it brought the example, whether the goal was"
        " reached there or not.",
    )


def _maps(figures: Figures) -> GoalTable:
    pixels, iou = figures.pixel_accuracy, figures.mean_iou
    rows = [["before", pixels.before, iou.before]]
    rows += [[name, pixels.attacks[name], iou.attacks[name]] for name in figures.names]
    rows.append(["worst case of all", pixels.worst, iou.worst])
    return GoalTable(
        "All pixels that count, of all examples together.",
        ["", "pixel accuracy", "mean IoU"],
        [[str(row[0]), *(f"{share:.1%}" for share in row[1:])] for row in rows],
        "Worst case: of each example the attack that leaves the fewest pixels right; for the mean"
        " IoU the attack that makes that of all together lowest, chosen greedily.",
    )


def _when(name: str) -> str:
    return {"before": "before", "worst": "worst case of all"}.get(name, name)
