"""Accuracy over radii, from the distances of one run."""

from __future__ import annotations

import html
import importlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from advex._arrays import Array
from advex._settings import real_number, shown
from advex.errors import InvalidInput, InvalidType
from advex.evaluation.budgets import radius
from advex.images import replacing
from advex.result import Result
from advex.trace import ladder

ROWS = 11  # of a table
FEW_LEVELS, MANY_LEVELS = 4, 64  # between which a radius is told in them, where there is no limit
BETWEEN = (
    "Nothing was measured between these radii: an attack within a limit stops at its first success."
)


@dataclass(frozen=True)
class Curve:
    """How many inputs a model still gets right when each may be moved by so much: an upper bound, a
    better attack finds less.

    Attributes:
        distances: (n,) float64, the smallest perturbation found of each input: 0 for wrong already,
            inf for none.
        norm: "Linf", "L2", "L1" or "L0".
        limit: the largest radius about which the run says anything; inf for a budget without a
            limit.
        exact: whether the smallest change was looked for. An attack within a limit stops at its
            first success anywhere inside: then only 0 and the limit say something, and nothing is
            drawn or listed between them.
    """

    distances: Array
    norm: str
    limit: float = float("inf")
    exact: bool = True

    def at(self, radius: float) -> float:
        """The share of inputs that hold within ``radius``, in the budget's units.

        Raises:
            InvalidInput: a radius below 0, or beyond the limit of the run.
        """
        radius = real_number("radius", radius)
        if radius > self.limit:
            raise InvalidInput(
                f"the attack looked within {self.norm}({self.limit:g}) alone and knows nothing of"
                f" {radius:g}: run it with advex.{self.norm}()"
            )
        return float((self.distances > radius).mean())

    @property
    def radii(self) -> Array:
        """Where the curve falls: the distances that occur, in increasing order, (m,)."""
        return np.unique(self.distances[np.isfinite(self.distances)])

    @property
    def accuracy(self) -> Array:
        """The share of inputs that hold at each of ``radii``, (m,)."""
        ordered = np.sort(self.distances)
        return 1 - np.searchsorted(ordered, self.radii, side="right") / len(ordered)

    @property
    def median(self) -> float:
        """The median distance; inf if half of the inputs hold at every radius."""
        return float(np.median(self.distances))

    def table(self, radii: Any = None) -> str:
        """Radius and accuracy in two columns.

        Args:
            radii: which radii; by default about ten round ones up to where nothing is left.
        """
        radii = (
            self._round()
            if radii is None
            else [real_number("radii", radius) for radius in np.ravel(radii)]
        )
        lines = [f"{self._axis:>12}  {self._share}"]
        width = len(self._share)
        names = list(map(self._name, radii))
        if {"/" in name for name in names if name != "0"} == {True, False}:  # one way for all
            names = [f"{radius:g}" for radius in radii]
        lines += [
            f"{name:>12}  {self.at(radius):{width}.1%}"
            for name, radius in zip(names, radii, strict=True)
        ]
        return "\n".join(lines)

    def show(self, path: str | Path | None = None, overwrite: bool = False) -> Any:
        """The curve as a matplotlib figure.

        Args:
            path: also written there, as the suffix says: .png, .svg, .pdf.
            overwrite: whether an existing file may be replaced.

        Raises:
            InvalidInput: the file exists already. ImportError: matplotlib is missing.
        """
        figure = self._figure()
        if path is not None:
            path = Path(path)
            with replacing(path, overwrite=overwrite) as handle:
                figure.savefig(handle, format=path.suffix.lstrip(".") or "png", dpi=150)
        return figure

    def _round(self) -> list[float]:
        if not self.exact:
            return [0.0, self.limit] if self.limit else [0.0]
        finite = self.radii[self.radii <= self.limit]
        most = float(finite.max(initial=0.0)) if not np.isfinite(self.limit) else self.limit
        if most == 0:
            return [0.0]
        if self.norm == "L0":
            return [float(value) for value in np.unique(np.linspace(0, most, ROWS).round())]
        if self._in_levels(most):  # whole ones of 0 to 255
            every = max(1, int(np.ceil(most * 255 / (ROWS - 1) - 1e-9)))
            listed = [every * n / 255 for n in range(int(np.ceil(most * 255 / every - 1e-9)) + 1)]
            return listed if not np.isfinite(self.limit) else [*listed[:-1], self.limit]
        step = most / (ROWS - 1)
        if np.isfinite(self.limit):
            return [step * number for number in range(ROWS - 1)] + [most]
        scale = 10.0 ** np.floor(np.log10(step))
        step = scale * min(
            (nice for nice in (1, 2, 2.5, 5, 10) if nice * scale >= step), default=10
        )
        return [step * number for number in range(int(np.ceil(most / step)) + 1)]

    def _in_levels(self, most: float) -> bool:
        """Whether radii up to ``most`` are told in levels of 0 to 255."""
        if self.norm != "Linf":
            return False
        if np.isfinite(self.limit):
            return abs(self.limit * 255 - round(self.limit * 255)) < 1e-6
        return FEW_LEVELS <= most * 255 <= MANY_LEVELS

    @property
    def _axis(self) -> str:
        return f"{self.norm} radius"

    @property
    def _share(self) -> str:
        return "accuracy"

    def _name(self, radius: float) -> str:
        levels = radius * 255
        if self.norm == "Linf" and levels > 0 and abs(levels - round(levels)) < 1e-9:
            return f"{round(levels)}/255"
        return f"{radius:g}"

    def _figure(self) -> Any:
        try:
            figures = importlib.import_module("matplotlib.figure")
        except ImportError:
            raise ImportError(
                "pictures of curves are drawn by matplotlib: pip install 'advex[report]'"
            ) from None
        figure = figures.Figure(figsize=(6, 3.6), layout="constrained")
        axes = figure.subplots()
        end = (
            float(self.radii.max(initial=0.0)) * 1.05 if not np.isfinite(self.limit) else self.limit
        )
        x = np.concatenate([[0.0], self.radii, [max(end, 1e-12)]])
        y = np.concatenate(
            [[(self.distances > 0).mean()], self.accuracy, [(self.distances > end).mean()]]
        )
        if self.exact:
            axes.step(x, 100 * y, where="post", linewidth=2)
        else:  # two points are known, and no line between them
            axes.plot([0, end], 100 * y[[0, -1]], "o", markersize=7, clip_on=False)
        axes.set(xlim=(0, x[-1]), ylim=(0, 102), xlabel=self._axis, ylabel=f"{self._share} in %")
        axes.grid(alpha=0.3)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        return figure

    def __str__(self) -> str:
        return self.table() if self.exact else f"{self.table()}\n{BETWEEN}"

    def __repr__(self) -> str:
        clean = (self.distances > 0).mean()
        return (
            f"Curve({self.norm}, {len(self.distances)} inputs, accuracy {clean:.1%} at 0,"
            f" median distance {self.median:.4g})"
        )

    def _repr_html_(self) -> str:
        try:
            buffer = io.StringIO()
            self._figure().savefig(buffer, format="svg")
            picture = buffer.getvalue()
            picture = picture[picture.index("<svg") :]
        except ImportError:
            picture = ""
        return f"<div>{picture}<pre>{html.escape(str(self))}</pre></div>"


class SampleCurve(Curve):
    """The curve of examples that were classified correctly, alone: it begins at 100%."""

    @property
    def _share(self) -> str:
        return "accuracy of those classified correctly"

    @property
    def _of(self) -> str:
        count = len(self.distances)
        return f"{count} example{'s' if count != 1 else ''} classified correctly"

    def __str__(self) -> str:
        return (
            f"{self.table()}\nOf {self._of}. For all examples multiply by the clean accuracy: an"
            " estimate."
        )

    def __repr__(self) -> str:
        return f"Curve({self.norm}, of {self._of} alone, median distance {self.median:.4g})"


class QueryCurve(Curve):
    """How many inputs a model still gets right within a budget after so many queries for each.

    It is that of one run without gradients, and an upper bound: a better attack needs fewer
    queries.

    Attributes:
        distances: the queries that each input took, (n,) float64: 0 for wrong already, inf for not
            broken.
        norm: "Linf", "L2", "L1" or "L0".
        limit: the largest number of queries that any input was asked.
    """

    def at(self, radius: float) -> float:
        """The share of inputs that hold after so many queries.

        Raises:
            InvalidInput: fewer than 0, or more than were asked.
        """
        queries = real_number("queries", radius)
        if queries > self.limit:
            raise InvalidInput(
                f"no input was asked about more than {self.limit:g} times, and the run knows"
                f" nothing of {queries:g} queries: give the attack more steps"
            )
        return float((self.distances > queries).mean())

    def _round(self) -> list[float]:
        return [float(mark) for mark in ladder(max(1, int(self.limit)))]

    @property
    def _axis(self) -> str:
        return "queries"

    def _name(self, radius: float) -> str:
        return f"{radius:,.0f}"

    def __repr__(self) -> str:
        clean, end = (self.distances > 0).mean(), np.isinf(self.distances).mean()
        return (
            f"QueryCurve({len(self.distances)} inputs, accuracy {clean:.1%} before, {end:.1%} after"
            f" at most {self.limit:,.0f} queries each)"
        )


def curve(result: Result, over: Literal["radius", "queries"] = "radius") -> Curve:
    r"""The accuracy at every radius, or after any number of queries, from one run.

    Without a limit, `attack(model, x, labels, advex.L2())`, it reaches as far as the attack found
    anything. A run within a limit stops at its first success, which need not be the nearest: the
    curve then is a looser bound, and ends at the limit.

    $$ A(r) = \frac{1}{n}\, \#\{i : d_i > r\} $$

    $d_i$ is the smallest change found for input $i$: 0 where it was wrong already, infinite where
    nothing was found.

    Args:
        result: of a run with labels; with a target, "holds" stands for "does not become the
            target".
        over: "radius"; or "queries", of a run within a limit: what an attacker without gradients
            needs. Without a limit ``result.trace`` says how small the change was after so many.

    Returns:
        A `Curve`; with `over="queries"` a `QueryCurve`.

    Raises:
        InvalidType: something else than a ``Result``.
        InvalidInput: a result without rows; queries of a run that looked for the smallest change.

    Example:
        >>> import advex
        >>> x, labels = advex.testing.linear_data()
        >>> result = advex.DeepFool()(advex.testing.linear_model(), x, labels, advex.L2())
        >>> advex.evaluation.curve(result).at(0)
        1.0
    """
    if not isinstance(result, Result):
        raise InvalidType(f"curve needs what an attack returned; received {type(result).__name__}")
    if not len(result):
        raise InvalidInput("a curve needs at least one input; the result has none")
    budget = result.budget
    if not isinstance(over, str) or over not in ("radius", "queries"):
        raise InvalidInput(f"over must be 'radius' or 'queries'; received {shown(over)}")
    if over == "queries":
        if not budget.limited:
            raise InvalidInput(
                "a run without a limit asks on after its first success: result.trace.table() says"
                " how small the change was after so many queries; a curve over queries is of a run"
                f" within a limit, such as advex.{type(budget).__name__}(...)"
            )
        return query_curve(result.status, result.queries)
    within = radius(budget)
    limit = float("inf") if within is None else within
    distances = np.asarray(result.distance, "float64")
    return Curve(distances, type(budget).__name__, limit, exact=within is None)


def query_curve(status: Array, queries: Array) -> QueryCurve:
    """The curve of inputs with these words for what became of them, and so many queries each."""
    broken, clean = status == "broken", status == "clean"
    taken = np.where(clean, 0.0, np.where(broken, queries.astype("float64"), np.inf))
    return QueryCurve(taken, "queries", float(queries.max(initial=1)))
