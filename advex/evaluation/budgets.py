"""The budget of a run: one for all, or one for each of several inputs that are attacked at once;
and what of it belongs to some of the examples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from advex._arrays import Array
from advex._inputs import Examples
from advex._settings import shown
from advex.attacks.call import checked_budgets
from advex.budgets import Budget
from advex.budgets.each import Each
from advex.errors import InvalidInput, InvalidType
from advex.model.protocol import Model

Within: TypeAlias = "Budget | dict[str, Budget]"
"""One budget, or one for each input that is attacked, by name."""


def checked_budget(budget: Any) -> Within:
    """The budget, or an error that says what is wrong with it."""
    if budget is None:
        raise InvalidInput("evaluate needs a budget, such as advex.Linf(8/255)")
    if isinstance(budget, Mapping):
        return checked_budgets(budget)
    if not isinstance(budget, Budget):
        raise InvalidType(f"budget must be such as advex.Linf(8/255); received {shown(budget)}")
    return budget


def joined(budget: Within, classifier: Model) -> Budget:
    """One budget that stands for all, before the shapes of the inputs are known."""
    names = [str(name) for name in classifier.perturb]
    if isinstance(budget, Budget) and len(names) < 2:
        return budget
    parts = dict.fromkeys(names, budget) if isinstance(budget, Budget) else budget
    if len(parts) == 1:
        return next(iter(parts.values()))
    return Each.of(parts, tuple((place, place + 1) for place in range(len(parts))))


def radius(budget: Budget) -> float | None:
    """The epsilon within which something is known of all examples; None without a limit."""
    if not budget.limited:
        return None
    return float(budget.epsilon if budget.epsilons is None else budget.epsilons.min())


def norm_of(budget: Budget) -> str:
    """In what distances are told: "Each" stands for the largest share of an epsilon."""
    if isinstance(budget, Each) and not budget.limited:
        return "the largest norm"
    return type(budget).__name__


def even(budget: Budget) -> bool:
    """Whether a distance means the same for all examples and inputs."""
    return not isinstance(budget, Each) and budget.epsilons is None


def plain(budget: Budget) -> bool:
    """Whether nothing of it is about single examples or elements."""
    return even(budget) and budget.mask is None


def demand_count(budget: Within, examples: int) -> None:
    """Raise unless a budget for each example is one for each of so many."""
    for each in budget.values() if isinstance(budget, dict) else [budget]:
        if each.epsilons is not None and len(each.epsilons) != examples:
            raise InvalidInput(
                f"{type(each).__name__} has {len(each.epsilons)} epsilons, one for each"
                f" example; data has {examples} examples"
            )


def of_rows(budget: Within, x: Array | Examples, rows: Array) -> Within:
    """The budget of the examples ``x``, whose numbers in the data are ``rows``.

    Raises:
        InvalidInput: there are fewer epsilons, or rows of a mask.
    """
    if isinstance(budget, Budget):
        return _of_rows(budget, x.ndim, rows)
    axes = {}
    if isinstance(x, Examples):
        axes = {part.name: 1 + len(part.shape) for part in x.form.parts}
    return {name: _of_rows(each, axes.get(name, 0), rows) for name, each in budget.items()}


def _of_rows(budget: Budget, axes: int, rows: Array) -> Budget:
    mask = budget.mask
    own = mask is not None and mask.ndim == axes and len(mask) != 1  # one for each example
    counts = [0 if budget.epsilons is None else len(budget.epsilons), len(mask) if own else 0]
    have = min((count for count in counts if count), default=math.inf)
    if len(rows) and rows.max() >= have:
        what = "mask is" if own and len(mask) == have else "the epsilons are"
        raise InvalidInput(
            f"{what} for {have} examples, one for each, and data has more: so many of them, or one"
            " for all"
        )
    part = budget.part(rows)
    return replace(part, mask=mask[rows]) if own else part
