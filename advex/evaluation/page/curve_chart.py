"""The chart of accuracy over radii."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from advex._arrays import Array
from advex.evaluation.curves import Curve
from advex.evaluation.figures import Figures
from advex.evaluation.page import drawing, numbers
from advex.evaluation.page.places import DOWN, LEVELS, UP, Label, Places, beside
from advex.evaluation.table import wilson
from advex.evaluation.text import OFF, no_doctor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LINE_POINTS = 300
FEW = 16  # levels that are all in the table
APART = 0.05  # of accuracy: an attack nearer than that is hidden behind the headline's dot
ROOM = 0.42  # of the chart right of the budget: what two labels beside each other need
BEYOND = 4.0  # times epsilon: where the chart ends at the latest


class Line(NamedTuple):
    """A curve that was measured, as shares of all examples.

    Attributes:
        curve: of the examples that it is of.
        scale: by what its shares are multiplied: the clean accuracy where it is of a sample of the
            correctly classified examples.
        n: how many it is of.
        whole: whether these are all that count.
    """

    curve: Curve
    scale: float
    n: int
    whole: bool

    def at(self, radius: float) -> float:
        """The share of all examples that hold within ``radius``."""
        return self.scale * float((self.curve.distances > radius).mean())


def measured(evaluation: Figures) -> Line | None:
    """The curve that is known; None where nobody has looked for the smallest change."""
    curve = evaluation.curve
    if curve.exact:
        return Line(curve, 1.0, len(curve.distances), True)
    sample = evaluation.sample_curve
    if sample is None or not len(sample.distances):
        return None
    return Line(sample, evaluation.clean_accuracy or 0.0, len(sample.distances), False)


def chart(evaluation: Figures, name: str = "curve") -> dict[str, Any] | None:
    """The chart: a line where the smallest change was looked for, the budget, the headline at it
    with its interval. Without such a search two points.
    """
    if not evaluation.examples:
        return None
    line, epsilon = measured(evaluation), evaluation.facts["epsilon"]
    norm = evaluation.facts["norm"]
    end = max(_end(line, epsilon), 1e-12)
    levels = in_levels(norm, epsilon, end)
    ticks = marks(end, levels=levels, whole=norm == "L0")
    headline = evaluation.robust_accuracy or 0.0
    if line is not None:
        radii = _listed(ticks, end, epsilon, levels)
        rows = [(_radius(mark, levels), line.at(mark)) for mark in radii]
    else:
        rows = [("0", evaluation.clean_accuracy or 0.0), (_radius(epsilon, levels), headline)]
    title = f"Robust accuracy over the {norm} radius, {numbers.counted(evaluation.examples)}"
    told = ", ".join(f"{share or 0:.1%} at {radius}" for radius, share in rows)
    with drawing.context():
        figure = _figure(evaluation, line, end, ticks, levels)
        svg = drawing.svg(figure, name, title, told, halo=True)
    return {
        "svg": svg,
        "rows": rows,
        "norm": norm,
        "line": line is not None,
        "whole": line is not None and line.whole,
        "n": line.n if line is not None else 0,
        "limit": None if epsilon is None else _radius(epsilon, levels),
        "within": None if line is None or epsilon is None else line.at(epsilon),
        "extra": _extra(evaluation, line),
        "each": _told_alone(evaluation),
        "reason": _reason(evaluation) if line is None else "",
        "stop": "" if line is None else stopped(line, end, norm, levels, epsilon is not None),
    }


def _listed(ticks: Sequence[float], end: float, epsilon: float | None, levels: bool) -> list[float]:
    """The radii of the table: every level of a few, else those at the axis; and the budget."""
    if levels and end * 255 <= FEW:
        ticks = [number / 255 for number in range(int(end * 255 + 1e-6) + 1)]
    extra = [] if epsilon is None else [epsilon]
    extra = [one for one in extra if all(abs(one - tick) > 1e-9 for tick in ticks)]
    return sorted([*ticks, *extra])


def _extra(evaluation: Figures, line: Line | None) -> int:
    """How many more examples of those that held the doctor's search has broken within the
    budget.
    """
    if line is None or evaluation.facts["epsilon"] is None:
        return 0
    return int((evaluation.broken_by_doctor & evaluation._table.are("held")).sum())


def _reason(evaluation: Figures) -> str:
    """Why there is no line, and what would bring one."""
    if evaluation.wrong == evaluation.examples:
        return "No example was left to be attacked, so there is no line between them."
    first = "Attacks within a limit stop at their first success, so no line is drawn."
    if (absent := no_doctor(evaluation)) == OFF:
        return (
            f"{first} With the doctor (diagnose=True), or a budget without a limit, there is one."
        )
    if absent:
        return f"{first} {absent} With a budget without a limit there is a line."
    return (
        f"{first} The doctor's search for smaller changes needs gradients, and there are none here:"
        " with a budget without a limit there is a line."
    )


def stopped(line: Line, end: float, norm: str, levels: bool, limited: bool) -> str:
    """Why a line does not come down to 0, in a sentence or two; empty where it does.

    Args:
        line: the curve.
        end: where the chart ends.
        norm: of the radii.
        levels: whether they are told in levels.
        limited: whether the doctor has searched beside the attacks.
    """
    distances = line.curve.distances
    never = int(np.isinf(distances).sum())
    beyond = int((distances > end).sum()) - never
    if not never + beyond:
        return ""
    parts = []
    if beyond:
        verb = "breaks" if beyond == 1 else "break"
        parts.append(f"{beyond:,} {verb} by a larger change that is known, beyond the chart")
    if never:
        who = "neither the attacks nor the doctor's search" if limited else "no attack"
        parts.append(f"for {never:,} {who} found any change that breaks {_them(never)}")
    return (
        f"The line stops at {norm} {_radius(end, levels)}, with {numbers.percent(line.at(end))}"
        f" left. Of the {line.n:,} example{'s' if line.n != 1 else ''} behind it"
        f" {', and '.join(parts)}."
    )


def _them(count: int) -> str:
    return "it" if count == 1 else "them"


def _alone(evaluation: Figures) -> list[tuple[str, float]]:
    """Each attack's name and its robust accuracy, where that can be told from the headline's dot;
    none of a single attack.
    """
    if len(evaluation.names) < 2 or evaluation.facts["epsilon"] is None:
        return []
    headline = evaluation.robust_accuracy or 0.0
    return [
        (attack.name, attack.accuracy)
        for attack in evaluation.attacks
        if attack.accuracy is not None and attack.accuracy - headline >= APART
    ]


def _told_alone(evaluation: Figures) -> str:
    """What the diamonds are."""
    return ", ".join(f"{name} {numbers.percent(share)}" for name, share in _alone(evaluation))


def _figure(
    evaluation: Figures, line: Line | None, end: float, ticks: Sequence[float], levels: bool
) -> Figure:
    figure, axes = drawing.figure(2.8, left=0.62, bottom=0.52, top=0.18)
    epsilon, norm = evaluation.facts["epsilon"], evaluation.facts["norm"]
    if line is not None:
        x, y = _points(line.curve, end)
        counts = np.rint(y / 100 * line.n).astype(int)
        band = np.asarray([wilson(int(count), line.n) or (0, 1) for count in counts])
        low, high = 100 * line.scale * band.T
        axes.fill_between(x, low, high, step="post", color=drawing.COLOURS["pale"], linewidth=0)
        axes.step(x, y * line.scale, where="post", color=drawing.COLOURS["accent"], linewidth=2)
    axes.set(xlim=(0, end * 1.03), ylim=(0, 104))
    places = Places(figure, axes)
    if line is not None:
        places.steps(x, y * line.scale)
    if epsilon is not None:
        _budget(axes, places, evaluation, epsilon, levels, line is None, end)
    if line is not None and (left := line.at(end)) > 0 and end - (epsilon or 0.0) > ROOM * end:
        # the line is nowhere below its end
        where = beside(0.0, (*DOWN[:1], *UP), "right")
        told = f"{numbers.percent(left)} left"
        places.label(Label(told, (end, 100 * left), where, {"fontsize": 9}))
    axes.set_xticks(ticks, [f"{round(mark * 255)}" if levels else f"{mark:g}" for mark in ticks])
    axes.set_yticks(range(0, 101, 25))
    axes.set_xlabel(
        f"{norm} radius"
        + (" in 1/255" if levels else " (elements changed)" if norm == "L0" else "")
    )
    axes.set_ylabel("robust accuracy, in %")
    axes.grid()
    axes.tick_params(length=0)
    return figure


def _budget(
    axes: Any,
    places: Places,
    evaluation: Figures,
    epsilon: float,
    levels: bool,
    points: bool,
    end: float,
) -> None:
    """The budget as a line, each attack and the headline on it; the clean accuracy where there is
    no curve.
    """
    headline = 100 * (evaluation.robust_accuracy or 0.0)
    low, high = (100 * value for value in evaluation.interval or (0.0, 1.0))
    muted, accent = drawing.COLOURS["muted"], drawing.COLOURS["accent"]
    axes.axvline(epsilon, color=muted, linewidth=1, linestyle=(0, (4, 3)))
    places.mark(epsilon, 0, 104)
    if shares := [100 * share for _, share in _alone(evaluation)]:
        axes.plot([epsilon] * len(shares), shares, "D", color=muted, markersize=4, clip_on=False)
    axes.errorbar(
        [epsilon],
        [headline],
        yerr=[[max(0.0, headline - low)], [max(0.0, high - headline)]],
        color=accent,
        marker="o",
        markersize=7,
        capsize=4,
        clip_on=False,
        zorder=5,
    )
    # Right of the budget most curves are not above the headline.
    where = beside(8.0, (*UP[:1], *DOWN[:1]), "left") + beside(8.0, DOWN[:1], "right")
    where += beside(8.0, (*UP[1:], *DOWN[1:]), "left", "right")
    places.label(Label(f"{headline:.1f}%", (epsilon, headline), where, {"fontweight": "bold"}))
    if points:
        clean = 100 * (evaluation.clean_accuracy or 0.0)
        axes.plot([0], [clean], "o", color=accent, fillstyle="none", markersize=7, clip_on=False)
        places.label(Label(f"clean {clean:.1f}%", (0, clean), beside(10.0, LEVELS, "left"), {}))
    sides = ("left", "right") if epsilon < 0.7 * end else ("right", "left")
    where = [
        place
        for side in sides
        for place in beside(8.0, (0.0, -135.0, -14.0, -121.0, -28.0, -107.0), side)
    ]
    told = f"budget {_radius(epsilon, levels)}"
    places.label(Label(told, (epsilon, 97), where, {"fontsize": 9}))


def _points(curve: Curve, end: float) -> tuple[Array, Array]:
    """The corners of the line, in per cent: few enough for a page."""
    radii, accuracy = curve.radii, curve.accuracy
    inside = radii <= end
    radii, accuracy = radii[inside], accuracy[inside]
    if len(radii) > LINE_POINTS:
        few = np.unique(np.linspace(0, len(radii) - 1, LINE_POINTS).round().astype(int))
        radii, accuracy = radii[few], accuracy[few]
    x = np.concatenate([[0.0], radii, [end]])
    y = np.concatenate([[curve.at(0.0)], accuracy, [curve.at(end)]])
    return x, 100 * y


def _end(line: Line | None, epsilon: float | None) -> float:
    """Where the chart ends: a little beyond the farthest success, and not far beyond the budget."""
    if line is None:
        return 1.25 * (epsilon or 0.0)
    most = float(line.curve.radii.max(initial=0.0)) * 1.05
    if epsilon is None:
        return most
    half = 1.2 * line.curve.median
    return max(1.25 * epsilon, min(most, max(BEYOND * epsilon, half)))


def in_levels(norm: str, epsilon: float | None, end: float) -> bool:
    """Whether radii are told in levels of 0 to 255."""
    if norm != "Linf":
        return False
    return end * 255 >= 4 if epsilon is None else numbers.levels(epsilon) is not None


def _radius(value: float, levels: bool) -> str:
    level = numbers.levels(value) if levels else None
    if level is None:
        return f"{value:.3g}"
    return f"{level:g}/255" if level else "0"


def marks(end: float, *, levels: bool = False, whole: bool = False) -> list[float]:
    """Round radii from 0 to ``end``, about five: grey levels in powers of two, whole numbers, or
    decimals.

    Example:
        >>> [round(255 * mark) for mark in marks(8 / 255, levels=True)], marks(0.5)
        ([0, 2, 4, 6, 8], [0.0, 0.1, 0.2, 0.3, 0.4, 0.5])
    """
    unit = 255.0 if levels else 1.0
    span = end * unit * (1 + 1e-9)
    if levels:
        step = float(max(1, 2 ** math.ceil(math.log2(max(span / 5, 1e-9)))))
    else:
        scale = 10.0 ** math.floor(math.log10(span / 5))
        step = next(base * scale for base in (1, 2, 2.5, 5, 10) if base * scale * 5.5 >= span)
        step = max(1.0, round(step)) if whole else step
    return [
        min(float(f"{number * step:.12g}") / unit, end) for number in range(int(span / step) + 1)
    ]
