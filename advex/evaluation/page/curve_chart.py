"""The charts of accuracy over radii."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from advex.evaluation.curves import Curve
from advex.evaluation.figures import Figures
from advex.evaluation.page import drawing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LINE_POINTS = 300


def curves(evaluation: Figures) -> list[dict[str, Any]]:
    """The chart of all examples within the budget and, if the doctor has looked, the one of a few
    without limit.
    """
    if not evaluation.examples:
        return []
    made = [_curve("curve", evaluation.curve, evaluation)]
    sample = evaluation.sample_curve
    if sample is not None and len(sample.distances):
        made.append(_curve("sample", sample, evaluation))
    return made


def _curve(name: str, curve: Curve, evaluation: Figures) -> dict[str, Any]:
    epsilon = evaluation.facts["epsilon"]
    end = max(_end(curve, epsilon), 1e-12)
    levels = curve.norm == "Linf" and (
        _whole(epsilon * 255) if epsilon is not None else end * 255 >= 4
    )
    ticks = marks(end, levels=levels, whole=curve.norm == "L0")
    listed = [
        (_radius(mark, levels), curve.at(mark))
        for mark in sorted({*ticks, end} if math.isfinite(curve.limit) else ticks)
    ]
    whose = "examples" if name == "curve" else "correctly classified examples"
    title = f"Share of {len(curve.distances)} {whose} not broken, over the {curve.norm} radius"
    told = ", ".join(f"{share:.1%} at {radius}" for radius, share in listed)
    with drawing.context():
        figure = _curve_figure(name, curve, end, ticks, levels, epsilon, evaluation.interval)
        svg = drawing.svg(figure, name, title, told)
    return {
        "name": name,
        "svg": svg,
        "rows": listed,
        "norm": curve.norm,
        "n": len(curve.distances),
        "limit": _radius(end, levels),
    }


def _curve_figure(
    name: str,
    curve: Curve,
    end: float,
    ticks: Sequence[float],
    levels: bool,
    epsilon: float | None,
    interval: tuple[float, float] | None,
) -> Figure:
    figure, axes = drawing.figure(2.7, left=0.62, bottom=0.52)
    x, y = _points(curve, end)
    axes.step(x, y, where="post", color=drawing.COLOURS["accent"], linewidth=2)
    axes.set(xlim=(0, end * 1.06), ylim=(0, 104))
    if math.isfinite(curve.limit) and interval is not None:
        low, high = (
            [max(0.0, value)] for value in (y[-1] - 100 * interval[0], 100 * interval[1] - y[-1])
        )
        axes.errorbar(
            [end],
            [y[-1]],
            yerr=[low, high],
            color=drawing.COLOURS["accent"],
            marker="o",
            markersize=5,
            capsize=4,
            clip_on=False,
        )
    if epsilon and name == "sample":
        axes.axvline(epsilon, color=drawing.COLOURS["muted"], linewidth=1, linestyle=(0, (4, 3)))
        # The label stands where the line has room.
        right = epsilon < end / 2
        place: dict[str, Any] = (
            {"ha": "left", "xytext": (5, 0)} if right else {"ha": "right", "xytext": (-5, 0)}
        )
        height = 95 if np.interp(epsilon, x, y) < 60 else 8
        axes.annotate(
            f"budget {_radius(epsilon, levels)}",
            (epsilon, height),
            textcoords="offset points",
            fontsize=9,
            **place,
        )
    axes.set_xticks(ticks, [f"{round(mark * 255)}" if levels else f"{mark:g}" for mark in ticks])
    axes.set_yticks(range(0, 101, 25))
    axes.set_xlabel(
        f"{curve.norm} radius"
        + (" in 1/255" if levels else " (elements changed)" if curve.norm == "L0" else "")
    )
    axes.set_ylabel("not broken, in %")
    axes.grid()
    axes.tick_params(length=0)
    return figure


def _points(curve: Curve, end: float) -> tuple[Any, Any]:
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


def _end(curve: Curve, epsilon: float | None) -> float:
    """Where the chart ends: at the limit, or a little beyond the farthest success."""
    if math.isfinite(curve.limit):
        return curve.limit
    return max(float(curve.radii.max(initial=0.0)) * 1.05, (epsilon or 0.0) * 1.2)


def _whole(value: float) -> bool:
    return abs(value - round(value)) < 1e-6


def _radius(value: float, levels: bool) -> str:
    if levels and _whole(value * 255):
        return f"{round(value * 255)}/255" if value else "0"
    return f"{value:.3g}"


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
