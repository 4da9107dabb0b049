"""How small a change was after so many queries."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from advex._arrays import Array
from advex._settings import shown, whole_number
from advex.errors import InvalidInput, InvalidType
from advex.images import replacing

MARKS = "marks must be numbers of queries, such as (250, 1000, 5000)"
STEPS = (1, 2, 5)  # of the marks, times the powers of ten


@dataclass(frozen=True, repr=False, eq=False)
class Trace:
    """The smallest change that each row had after so many queries.

    Attributes:
        queries: the marks, (m,) int, ascending; the look at the clean input is the first query.
        sizes: (n, m) float64, in the norm and the units of ``Result.distance``: inf where nothing
            had been found yet, or where the success did not hold; 0 where the input was wrong
            already.

    Example:
        >>> import advex
        >>> x, labels = advex.testing.linear_data(4)
        >>> model = advex.testing.linear_model()
        >>> result = advex.HopSkipJump(steps=200)(model, x, labels, advex.L2(), marks=(50, 200))
        >>> result.trace.queries.tolist(), result.trace.sizes.shape
        ([50, 200], (4, 2))
        >>> bool((result.trace.sizes[:, 1] <= result.trace.sizes[:, 0]).all())
        True
    """

    queries: Array
    sizes: Array

    @property
    def median(self) -> Array:
        """The median over the rows at each mark, (m,); NaN for no rows."""
        if not len(self.sizes):
            return np.full(len(self.queries), np.nan)
        ordered = np.sort(self.sizes, axis=0)
        # The lower of the two in the middle: the mean of a number and infinity says nothing.
        return np.asarray(ordered[(len(ordered) - 1) // 2])

    def rows(self) -> list[dict[str, Any]]:
        """One dict for each mark: how many rows have a success by then, and the median size.

        Returns:
            A list of m dicts of plain values.
        """
        found = np.isfinite(self.sizes).sum(axis=0)
        return [
            {"queries": int(mark), "found": int(count), "median": float(median)}
            for mark, count, median in zip(self.queries, found, self.median, strict=True)
        ]

    def table(self) -> str:
        """Queries, rows with a success by then, and the median size, in three columns.

        Returns:
            The table as text.
        """
        lines = [f"{'queries':>9}  found  median"]
        lines += [
            f"{row['queries']:>9,}  {row['found']:>5}  {row['median']:.4g}" for row in self.rows()
        ]
        return "\n".join(lines)

    def show(self, path: str | Path | None = None, overwrite: bool = False) -> Any:
        """The median over the queries as a matplotlib figure, with the middle half of the rows.

        Args:
            path: also written there, as the suffix says: .png, .svg, .pdf. None: not written.
            overwrite: whether an existing file may be replaced.

        Returns:
            A `matplotlib.figure.Figure`.

        Raises:
            InvalidInput: the file exists already. ImportError: matplotlib is missing.
        """
        try:
            figures = importlib.import_module("matplotlib.figure")
        except ImportError:
            raise ImportError(
                "pictures of traces are drawn by matplotlib: pip install 'advex[report]'"
            ) from None
        figure = figures.Figure(figsize=(6, 3.6), layout="constrained")
        axes = figure.subplots()
        ordered = np.sort(self.sizes, axis=0)
        known = np.isfinite(self.median)
        if known.any():
            quarter = len(ordered) // 4
            low, high = ordered[quarter], ordered[len(ordered) - 1 - quarter]
            axes.fill_between(
                self.queries, low, high, where=np.isfinite(high), alpha=0.2, linewidth=0
            )
            axes.plot(self.queries[known], self.median[known], marker="o", linewidth=2)
        axes.set(xscale="log", xlabel="queries", ylabel="median size of the change")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        if path is not None:
            path = Path(path)
            with replacing(path, overwrite=overwrite) as handle:
                figure.savefig(handle, format=path.suffix.lstrip(".") or "png", dpi=150)
        return figure

    def __str__(self) -> str:
        return self.table()

    def __iter__(self) -> Iterator[tuple[int, Array]]:
        return iter(zip(self.queries.tolist(), self.sizes.T, strict=True))

    def __repr__(self) -> str:
        middle = ", ".join(
            f"{mark:,}: {size:.4g}" for mark, size in zip(self.queries, self.median, strict=True)
        )
        return f"Trace(median of {len(self.sizes)} rows at queries {{{middle}}})"


def ladder(most: int) -> tuple[int, ...]:
    """1, 2, 5, 10, 20, ... below ``most``, and that."""
    powers = [10**power for power in range(len(str(most)))]
    return (*(step * power for power in powers for step in STEPS if step * power < most), most)


def checked_marks(marks: Sequence[int] | None) -> tuple[int, ...] | None:
    """Numbers of queries, ascending and each once; None stays None."""
    if marks is None:
        return None
    if isinstance(marks, str | bytes):
        raise InvalidType(
            f"marks must be numbers of queries, such as (250, 1000, 5000); received {shown(marks)}"
        )
    try:
        listed = np.asarray(marks).reshape(-1).tolist()
    except (TypeError, ValueError):
        listed = [marks]
    numbers = {whole_number("each of marks", mark) for mark in listed}
    if not numbers:
        raise InvalidInput(
            "marks must be numbers of queries, such as (250, 1000, 5000); received none"
        )
    return tuple(sorted(numbers))
