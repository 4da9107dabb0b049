"""Places for the labels of a chart: off its lines and off each other."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from advex._arrays import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LETTER, BOLD = 0.64, 0.7  # of the size of the letters: how wide one is
RISE, FALL = 0.76, 0.24  # of it: how far one reaches above its line, and below
CLEAR = 2.0  # printer's points around a label
WORSE = 20.0  # times: to lie on another label, or beyond the chart, against lying on a line
FAR, OTHER = 0.5, 4.0  # what a point away costs, and the side that is not the first
UP = (5.0, 11.0, 17.0, 25.0, 33.0, 45.0, 60.0)
DOWN = (-14.0, -20.0, -28.0, -36.0, -48.0, -62.0)
LEVELS = (-4.0, *UP, *DOWN)


class Box(NamedTuple):
    """A part of the chart, in printer's points."""

    left: float
    bottom: float
    right: float
    top: float


class Place(NamedTuple):
    """Where a label may stand, in printer's points from what it is of.

    Attributes:
        across: to the right.
        up: of the line that its letters stand on.
        side: "left" for a label that begins there, "right" for one that ends there.
    """

    across: float
    up: float
    side: str


class Label(NamedTuple):
    """A text, what it is of in units of the chart, where it may stand, and how it looks."""

    text: str
    at: tuple[float, float]
    places: list[Place]
    style: dict[str, Any]


def beside(across: float, ups: Sequence[float], *sides: str) -> list[Place]:
    """Places at these heights, the first height first; ``sides``: "left" begins right of the
    point.
    """
    return [Place(across if side == "left" else -across, up, side) for up in ups for side in sides]


class Places:
    """What is drawn on a chart, and where there is room.

    Args:
        figure: of the chart.
        axes: in it; their limits are set.
    """

    def __init__(self, figure: Figure, axes: Axes) -> None:
        self._axes = axes
        self._points = 72 / figure.dpi
        width, height = (72 * inches for inches in figure.get_size_inches())
        ((left, bottom),) = axes.transAxes.transform([(0, 0)]) * self._points
        self._whole = Box(left + 2, bottom + 1, width, height)
        self._lines: list[Box] = []
        self._labels: list[Box] = []

    def steps(self, x: Array, y: Array) -> None:
        """A line that falls in steps, each at its own x."""
        corners = self._at(np.column_stack([x, y]))
        for (x0, y0), (x1, y1) in itertools.pairwise(corners.tolist()):
            self._lines.append(Box(x0, y0 - 1, x1, y0 + 1))
            self._lines.append(Box(x1 - 1, min(y0, y1), x1 + 1, max(y0, y1)))

    def mark(self, x: float, low: float, high: float, shift: float = 0.0) -> None:
        """A dot with its interval, ``shift`` points right of x; or a line straight up."""
        (left, bottom), (_, top) = self._at(np.asarray([(x, low), (x, high)])).tolist()
        self._lines.append(Box(left + shift - 4, bottom - 4, left + shift + 4, top + 4))

    def wide(self, points: float) -> float:
        """So many printer's points to the right, in units of the chart."""
        (one, _), (other, _) = self._at(np.asarray([(0.0, 0.0), (1.0, 0.0)])).tolist()
        return float(points / (other - one))

    def label(self, label: Label) -> None:
        """Write it at the first place that is free, or that is least taken."""
        boxes = [self._box(label, place) for place in label.places]
        costs = [self._taken(box) for box in boxes]
        best = costs.index(min(costs))
        self._write(label, label.places[best], boxes[best])

    def both(self, higher: Label, lower: Label) -> None:
        """Write two, near what they are of and the first not below the second."""
        options = [
            [
                (
                    self._taken(box)
                    + FAR * abs(place.up)
                    + OTHER * (place.side != label.places[0].side),
                    place,
                    box,
                )
                for place in label.places
                for box in [self._box(label, place)]
            ]
            for label in (higher, lower)
        ]
        pairs = [
            (one[0] + other[0] + WORSE * _shared(_round(one[2]), other[2]), one, other)
            for one, other in itertools.product(*options)
            if one[2].bottom >= other[2].bottom
        ]
        _, one, other = min(pairs, key=lambda pair: pair[0])
        self._write(higher, one[1], one[2])
        self._write(lower, other[1], other[2])

    def _write(self, label: Label, place: Place, box: Box) -> None:
        self._labels.append(box)
        self._axes.annotate(
            label.text,
            label.at,
            xytext=(place.across, place.up),
            textcoords="offset points",
            ha=place.side,
            **label.style,
        )

    def _box(self, label: Label, place: Place) -> Box:
        """What the label covers there."""
        size = label.style.get("fontsize", 10)
        bold = label.style.get("fontweight") == "bold"
        wide = len(label.text) * size * (BOLD if bold else LETTER)
        ((x, y),) = self._at(np.asarray([label.at])).tolist()
        left = x + place.across - (wide if place.side == "right" else 0.0)
        return Box(left, y + place.up - FALL * size, left + wide, y + place.up + RISE * size)

    def _at(self, points: Array) -> Array:
        moved: Array = self._axes.transData.transform(points) * self._points
        return moved

    def _taken(self, box: Box) -> float:
        """How much of a place is taken, in square points; 0 where it is free."""
        wide = _round(box)
        beyond = (box.right - box.left) * (box.top - box.bottom) - _shared(box, self._whole)
        worse = sum(_shared(wide, other) for other in self._labels) + beyond
        return WORSE * max(0.0, worse) + sum(_shared(wide, line) for line in self._lines)


def _round(box: Box) -> Box:
    """With what stays free around it."""
    return Box(box.left - CLEAR, box.bottom - CLEAR, box.right + CLEAR, box.top + CLEAR)


def _shared(one: Box, other: Box) -> float:
    """The area that both cover."""
    across = min(one.right, other.right) - max(one.left, other.left)
    up = min(one.top, other.top) - max(one.bottom, other.bottom)
    return max(0.0, across) * max(0.0, up)
