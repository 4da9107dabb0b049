"""The charts of a report, drawn by matplotlib as SVG that takes its colours from the page."""

from __future__ import annotations

import contextlib
import io
import math
import re
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from advex.evaluation import ClassSummary, Curve, Evaluation

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 4.6  # inches: on a phone letters keep their size
POINTS = 300  # of a line
MANY, FEW = 30, 15  # classes that are all drawn; else so many from each end
NAME = 18  # letters of a class name; wide ones count for more

# Stand-ins that become colours of the page; on paper and in the dark they differ.
COLOURS = {
    "ink": "#010101",
    "muted": "#020202",
    "rule": "#030303",
    "accent": "#040404",
    "pale": "#050505",
}


@contextlib.contextmanager
def _drawing() -> Iterator[None]:
    """Matplotlib as it comes, whatever the user has set; text stays text."""
    try:
        import matplotlib
        import matplotlib.style
    except ImportError:
        raise ImportError(
            "the charts of a report are drawn by matplotlib: pip install 'advex[report]'"
        ) from None
    ours: dict[str, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": "advex",
        "font.size": 10,
        "text.color": COLOURS["ink"],
        "axes.labelcolor": COLOURS["ink"],
        "axes.edgecolor": COLOURS["muted"],
        "axes.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "axes.facecolor": "none",
        "xtick.color": COLOURS["muted"],
        "ytick.color": COLOURS["muted"],
        "xtick.labelcolor": COLOURS["ink"],
        "ytick.labelcolor": COLOURS["ink"],
        "grid.color": COLOURS["rule"],
        "grid.linewidth": 0.6,
        "text.parse_math": False,
    }
    with matplotlib.style.context(["default", ours]), warnings.catch_warnings():
        # names in any script: the browser has the letters
        warnings.filterwarnings("ignore", "Glyph")
        yield


def _figure(
    height: float, left: float, bottom: float, top: float = 0.1, right: float = 0.15
) -> tuple[Figure, Axes]:
    """A figure with one pair of axes; all lengths in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height))
    box = (
        left / WIDTH,
        bottom / height,
        (WIDTH - left - right) / WIDTH,
        (height - bottom - top) / height,
    )
    return figure, figure.add_axes(box)


def _svg(figure: Figure, name: str, title: str, description: str) -> Markup:
    """The figure as an element of the page.

    Args:
        figure: what was drawn with ``_drawing``.
        name: of the chart; all its ids begin with it.
        title: what it shows.
        description: its main figures, for those who cannot see it.
    """
    from markupsafe import Markup, escape

    buffer = io.StringIO()
    nothing: dict[str, Any] = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue()
    body = text[text.index(">", text.index("<svg")) + 1 :]
    body = re.sub(r"<style.*?</style>", "", body, count=1, flags=re.S)
    # tags alone: names of classes stay as they are
    body = re.sub(r"<[^>]+>", lambda found: _tag(found.group(), name), body)
    body = re.sub(r"\s*\n\s*", "\n", body)
    width, height = (72 * inches for inches in figure.get_size_inches())
    head = (
        f'<svg class="chart" role="img" viewBox="0 0 {width:g} {height:g}"'
        f' aria-labelledby="{name}-title {name}-text">'
        f'<title id="{name}-title">{escape(title)}</title><desc'
        f' id="{name}-text">{escape(description)}</desc>'
    )
    return Markup(head + body.strip())  # noqa: S704 - matplotlib escapes text, the rest is escaped here


def _tag(tag: str, name: str) -> str:
    """A tag without what would meet others on the page: ids of groups go, the rest get the chart's
    name.
    """
    if tag.startswith("<g "):
        tag = re.sub(r' id="[^"]*"', "", tag)
    tag = re.sub(r' id="([^"]*)"', rf' id="{name}-\1"', tag)
    tag = re.sub(r"url\(#([^)]*)\)", rf"url(#{name}-\1)", tag)
    tag = re.sub(r'xlink:href="#([^"]*)"', rf'href="#{name}-\1"', tag)
    # matplotlib before 3.10
    tag = re.sub(r"font: (?:[\w-]+ )*([\d.]+px) [^;\"]*", r"font-size: \1", tag)
    tag = re.sub(r"font-family: [^;\"]+;? ?", "", tag)
    for colour, code in COLOURS.items():
        tag = tag.replace(code, f"var(--{colour})")
    return tag


# Accuracy over radii.


def curves(evaluation: Evaluation) -> list[dict[str, Any]]:
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


def _curve(name: str, curve: Curve, evaluation: Evaluation) -> dict[str, Any]:
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
    with _drawing():
        figure = _curve_figure(name, curve, end, ticks, levels, epsilon, evaluation.interval)
        svg = _svg(figure, name, title, told)
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
    figure, axes = _figure(2.7, left=0.62, bottom=0.52)
    x, y = _points(curve, end)
    axes.step(x, y, where="post", color=COLOURS["accent"], linewidth=2)
    axes.set(xlim=(0, end * 1.06), ylim=(0, 104))
    if math.isfinite(curve.limit) and interval is not None:
        low, high = (
            [max(0.0, value)] for value in (y[-1] - 100 * interval[0], 100 * interval[1] - y[-1])
        )
        axes.errorbar(
            [end],
            [y[-1]],
            yerr=[low, high],
            color=COLOURS["accent"],
            marker="o",
            markersize=5,
            capsize=4,
            clip_on=False,
        )
    if epsilon and name == "sample":
        axes.axvline(epsilon, color=COLOURS["muted"], linewidth=1, linestyle=(0, (4, 3)))
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
    if len(radii) > POINTS:
        few = np.unique(np.linspace(0, len(radii) - 1, POINTS).round().astype(int))
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


# Classes.


def classes(summaries: list[ClassSummary]) -> dict[str, Any]:
    """Bars of each class and a table; of many classes the weakest and the strongest have bars."""
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
        }
        for one in summaries
    ]
    if len(summaries) < 2:
        return {"rows": table, "svg": None, "few": None}
    title = (
        f"Share of each class right without attack, and not broken: {len(drawn)} of"
        f" {len(summaries)} classes"
    )
    low, high = ranked[0], ranked[-1]
    told = (
        f"lowest {low.name} {low.robust_accuracy or 0:.1%}, highest {high.name}"
        f" {high.robust_accuracy or 0:.1%}"
    )
    with _drawing():
        svg = _svg(_bars(drawn, FEW if few else None), "classes", title, told)
    return {"rows": table, "svg": svg, "few": FEW if few else None}


def _bars(drawn: list[ClassSummary], cut: int | None) -> Figure:
    """One row per class: an outline for clean accuracy, filled as far as no attack broke it; a gap
    after ``cut`` rows.
    """
    rows = [
        float(number + (1 if cut is not None and number >= cut else 0))
        for number in range(len(drawn))
    ]
    height = 0.235 * (rows[-1] + 1) + 0.55
    figure, axes = _figure(height, left=1.42, bottom=0.5, top=0.05, right=0.9)
    clean, held = (
        [100 * (value or 0.0) for value in values]
        for values in zip(*map(_shares, drawn), strict=True)
    )
    axes.barh(
        rows,
        clean,
        height=0.72,
        facecolor=COLOURS["pale"],
        edgecolor=COLOURS["accent"],
        linewidth=0.8,
    )
    axes.barh(rows, held, height=0.72, facecolor=COLOURS["accent"])
    for row, one in zip(rows, drawn, strict=True):
        axes.annotate(
            _short(one.name),
            (0, row),
            xytext=(-6, 0),
            textcoords="offset points",
            ha="right",
            va="center",
        )
        share = f"{100 * (one.clean_accuracy or 0):.0f} → {100 * (one.robust_accuracy or 0):.0f}"
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
    axes.set_xlabel("of the class, in %")
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
        if used > NAME:
            return f"{name[: max(1, place - 1)]}…"
    return name


def _shares(one: ClassSummary) -> tuple[float | None, float | None]:
    return one.clean_accuracy, one.robust_accuracy
