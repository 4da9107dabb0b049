"""What the page says of goals that are not about one class: tables, errors, maps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from advex._arrays import Array
from advex.evaluation.error_figures import Errors
from advex.evaluation.figures import Figures
from advex.evaluation.goal_tables import goal_table, in_short
from advex.evaluation.page import drawing
from advex.evaluation.page.numbers import percent
from advex.evaluation.wanted import CLASSES, MAPS, NUMBERS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BINS = 30
HEADINGS = {"labels": "Each label", "numbers": "The error", "maps": "Pixels and classes"}

PALETTE = (
    *((31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40), (148, 103, 189)),
    *((140, 86, 75), (227, 119, 194), (188, 189, 34), (23, 190, 207), (174, 199, 232)),
    *((255, 187, 120), (152, 223, 138), (255, 152, 150), (197, 176, 213), (196, 156, 148)),
    *((247, 182, 210), (219, 219, 141), (158, 218, 229), (57, 59, 121), (99, 121, 57)),
)
"""The colours of classes in turn, the first two of them for a model of two."""
UNCOUNTED = (127, 127, 127)


def goal(evaluation: Figures) -> dict[str, Any]:
    """What the goal is, and its figures."""
    kind, table = evaluation.kind, goal_table(evaluation)
    return {
        "kind": kind,
        "own": "goal" in evaluation.facts,
        "text": evaluation.goal,
        "heading": HEADINGS.get(kind, "The goal"),
        "table": table,
        "short": in_short(evaluation),
        "pixels": percent(evaluation.pixel_accuracy.worst)
        if evaluation.measured == MAPS and evaluation.examples
        else None,
        "svg": _histogram(evaluation) if kind == NUMBERS and evaluation.examples else None,
        "classes": evaluation.measured == CLASSES,
        "one": kind == CLASSES,
        "targeted": evaluation.towards_classes,
        "ends": kind in (NUMBERS, MAPS) and evaluation.facts["epsilon"] is not None,
    }


def coloured(numbers: Array, classes: int) -> Array:
    """A map of class numbers in the colours of the palette: (h, w) -> (h, w, 3) float64; grey where
    the number is no class.
    """
    palette = np.asarray(PALETTE, "float64")[np.arange(classes) % len(PALETTE)]
    inside = (numbers >= 0) & (numbers < classes)
    return np.where(inside[..., None], palette[np.where(inside, numbers, 0)], UNCOUNTED)


def _histogram(evaluation: Figures) -> Any:
    found = evaluation.errors
    title = f"How many of {len(found.before)} examples have an error of which size"
    quantiles = found.quantiles()
    told = (
        f"median {quantiles['before'].median:.4g} before, {quantiles['worst'].median:.4g} after the"
        " worst attack"
    )
    with drawing.context():
        return drawing.svg(_bars(found), "errors", title, told)


def _bars(found: Errors) -> Figure:
    """Two outlines: before, and after the attack that is worst for each example."""
    figure, axes = drawing.figure(2.4, left=0.6, bottom=0.5, top=0.1, right=0.15)
    most = float(max(found.before.max(), found.worst.max()))
    edges = np.linspace(0, most if most > 0 else 1.0, BINS + 1)
    axes.hist(
        found.before,
        bins=edges.tolist(),
        facecolor=drawing.COLOURS["pale"],
        edgecolor=drawing.COLOURS["muted"],
        label="before",
    )
    axes.hist(
        found.worst,
        bins=edges.tolist(),
        histtype="step",
        edgecolor=drawing.COLOURS["accent"],
        linewidth=1.6,
        label="after, worst case",
    )
    axes.set(xlim=(0, edges[-1]), xlabel="absolute error", ylabel="examples")
    axes.legend(frameon=False)
    return figure
