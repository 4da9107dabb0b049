"""``compare``: two runs on the same data, before and after something was changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from advex._settings import helpful, shown
from advex.errors import InvalidInput, InvalidType
from advex.evaluation import page
from advex.evaluation.evaluation import Evaluation
from advex.evaluation.page.comparing import named, points, verdict
from advex.evaluation.paired import Paired
from advex.images import replacing


class Comparison(Paired):
    """What ``compare`` returns: both figures, their change, the examples won and lost, each class.

    Example:
        >>> import advex
        >>> model, data = advex.testing.linear_model(), advex.testing.linear_data()
        >>> runs = [advex.evaluate(model, data, advex.PGD(steps=steps), advex.Linf(0.05),
        ...     diagnose=False) for steps in (5, 10)]
        >>> found = advex.evaluation.compare(*runs)
        >>> found.examples, len(found.won)
        (32, 0)
    """

    @helpful
    def to_json(self, path: str | Path | None = None, overwrite: bool = False) -> str:
        """``to_dict`` as text; also written to ``path`` if there is one."""
        text = json.dumps(self.to_dict(), indent=2, allow_nan=False)
        if path is not None:
            with replacing(Path(path), overwrite=overwrite) as handle:
                handle.write(text.encode())
        return text

    @helpful
    def report(
        self,
        path: str | Path,
        overwrite: bool = False,
        *,
        title: str = "",
        author: str = "",
        note: str = "",
    ) -> Path:
        """One self-contained HTML page.

        Args:
            path: the file.
            overwrite: whether an existing file may be replaced.
            title: above the page; by default the names of both models.
            author: who has made the comparison.
            note: a remark below that, plain text.

        Raises:
            InvalidInput: the file exists already. InvalidType: a title, author or note that is no
            text. ImportError: Jinja2 or matplotlib is missing.
        """
        return page.write_comparison(
            self, Path(path), overwrite=overwrite, title=title, author=author, note=note
        )

    def __repr__(self) -> str:
        return f"Comparison({verdict(self)})"

    def __str__(self) -> str:
        first, second = named(self)
        lines = [
            f"before: {first}",
            f"after:  {second}",
            verdict(self),
            f"{len(self.won)} won, {len(self.lost)} lost, of {self.examples} examples",
        ]
        if not self.same_attacks:
            lines.append("The attacks differ: the change may come from them.")
        width = max((len(one.name) for one in self.per_class), default=0)
        if width:
            lines.append(f"{'class':<{max(5, width)}}  examples  before   after  change")
        lines += [
            f"{one.name:<{max(5, width)}}  {one.examples:8}  {one.robust_before:6.1%}"
            f"  {one.robust_after:6.1%}  {points(one.robust_after - one.robust_before):>6}"
            for one in self.per_class
        ]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return page.comparison_fragment(self)


@helpful
def compare(before: Evaluation, after: Evaluation) -> Comparison:
    """Two runs on the same data within the same budget, example by example: before and after
    hardening, or of two models.

    Args:
        before: the first run, finished.
        after: the second.

    Returns:
        A ``Comparison``.

    Raises:
        InvalidType: something else than an ``Evaluation``. InvalidInput: a run that is not
        finished, or runs of other data, budgets or goals: their figures cannot be compared.

    Example:
        >>> import advex
        >>> data = advex.testing.linear_data()
        >>> runs = [advex.evaluate(advex.testing.linear_model(), data, advex.PGD(steps=5),
        ...     advex.Linf(0.05), diagnose=False, seed=seed) for seed in (0, 1)]
        >>> compare(*runs).change
        0.0
    """
    for run in (before, after):
        if not isinstance(run, Evaluation):
            raise InvalidType(
                "compare needs two evaluations, such as advex.Evaluation.load('before.advex');"
                f" received {shown(run)}"
            )
        if not run.finished:
            raise InvalidInput(
                f"{_place(run)} is not finished, and only whole runs are compared: the call of"
                " advex.evaluate that began it goes on where it stopped"
            )
        if not run.examples:
            raise InvalidInput(f"{_place(run)} has no examples to compare")
    _demand_same_data(before, after)
    one, other = before.facts["identity"]["budget"], after.facts["identity"]["budget"]
    if one != other:
        raise InvalidInput(
            f"{_place(before)} is within {one} and {_place(after)} within {other}: accuracies"
            f" within different budgets cannot be compared. Run both within the same:"
            f" budget=advex.{one}"
        )
    if (before.goal, before.kind, _code(before)) != (after.goal, after.kind, _code(after)):
        raise InvalidInput(
            f"the goal of {_place(before)} is {_goal(before)}, that of {_place(after)} is"
            f" {_goal(after)}: accuracies of different goals cannot be compared. Give both runs the"
            " same goal="
        )
    found = Comparison(before, after)
    if not found.examples:
        raise InvalidInput("no example is counted in both runs: there is nothing to compare")
    return found


def _demand_same_data(before: Evaluation, after: Evaluation) -> None:
    """Raise unless both runs are known to be of the same examples in the same order."""
    whole = [run.facts["identity"]["data"] for run in (before, after)]
    if None not in whole:
        same, hashes = whole[0] == whole[1], whole
    else:  # a stream: hashes of blocks are compared
        hashes = [run.hashes["data"] for run in (before, after)]
        same = hashes[0] == hashes[1]
        if not same and before.facts["block"] != after.facts["block"]:
            raise InvalidInput(
                f"{_place(before)} has blocks of {before.facts['block']} rows and {_place(after)}"
                f" of {after.facts['block']}: whether the data are the same cannot be told. Give"
                f" both runs block={before.facts['block']}"
            )
    if not same:
        raise InvalidInput(
            f"{_place(before)} and {_place(after)} are of different data (hash {hashes[0][:8]} and"
            f" {hashes[1][:8]}), and runs are compared example by example. Give both the same"
            " rows in the same order: advex.evaluate(model, (x, labels), attacks, budget)"
        )


def _goal(run: Evaluation) -> str:
    return str(run.facts["identity"].get("goal") or run.goal)


def _code(run: Evaluation) -> str:
    """What a goal of the caller's own does, as a hash; the module that it stood in is no part."""
    return _goal(run).split(" ")[-1]


def _place(run: Any) -> str:
    return str(run.path) if run.path is not None else f"the run of {run.facts['model']}"
