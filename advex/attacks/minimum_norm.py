"""The recommended attacks for the smallest perturbation, norm by norm."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from advex._settings import setting, shown
from advex.attacks.alma import ALMA
from advex.attacks.base import Attack
from advex.attacks.call import Attackable
from advex.attacks.cgba import CGBA
from advex.attacks.composite import Composite, set_apart
from advex.attacks.fab import FAB
from advex.attacks.fmn import FMN
from advex.attacks.knapsack import Knapsack
from advex.attacks.pdgd import PDGD
from advex.attacks.pdpgd import PDPGD
from advex.attacks.pointwise import Pointwise
from advex.attacks.rays import RayS
from advex.attacks.sigma_zero import SigmaZero
from advex.attacks.sparse_rs import SparseRS
from advex.attacks.square import SquareAttack
from advex.budgets import L0, L1, L2, Budget, Linf
from advex.driver.plan import Wave
from advex.errors import InvalidInput, InvalidType, nearest
from advex.goals import Goal
from advex.goals.classes import Labelled
from advex.model.protocol import Model

NORMS: dict[str, type[Budget]] = {"Linf": Linf, "L2": L2, "L1": L1, "L0": L0}


# Looks at all classes where the others follow the likeliest: exact where the model is linear. 50
# gradients with ten classes.
HYPERPLANES = FAB(steps=5)

# Finds more where there are no classes whose hyperplanes could be looked at.
PATIENT = FMN(steps=300)

# Chooses among whole steps and members of groups, where there are any.
CHOICES = Knapsack()

# Attacks, and whether they begin where the best of those before ended, or at the original as the
# first does: attacks that begin there find changes of different kinds, and the last ones make the
# best of them smaller.
PLANS: dict[type[Budget], list[tuple[Attack, bool]]] = {
    Linf: [
        (FAB(steps=50), False),
        (PATIENT, False),
        (PDPGD(steps=500, price=0.5, price_step=0.1), True),
    ],
    L2: [
        (ALMA(steps=300), False),
        (PDGD(steps=300), False),
        (HYPERPLANES, False),
        (PDGD(steps=200, step_size=0.03), True),
        (FMN(steps=150), True),
    ],
    L1: [
        (ALMA(steps=250), False),
        (PDPGD(steps=300, price_step=0.1), False),
        (HYPERPLANES, False),
        (PDPGD(steps=200, price_step=0.1, step_size=0.03), True),
        (FMN(steps=200), True),
    ],
    L0: [
        (SigmaZero(steps=400), False),
        (PDPGD(steps=350, price_step=0.1), False),
        (SigmaZero(steps=120, step_size=0.3), True),
        (FMN(steps=80), True),
    ],
}


# What is recommended where a function has no gradients, norm by norm.
QUERIES = 5000
BY_LABELS: dict[type[Budget], Callable[..., Attack]] = {
    Linf: RayS,
    L2: CGBA,
    L1: Pointwise,
    L0: Pointwise,
}
BY_SCORES: dict[type[Budget], Callable[..., Attack]] = {
    Linf: SquareAttack,
    L2: SquareAttack,
    L1: SquareAttack,
    L0: SparseRS,
}
"""Within a limit; without one, labels are all that is needed."""


@dataclass(frozen=True, repr=False)
class MinimumNorm(Composite):
    r"""The smallest perturbation that the recommended attacks find, in one call.

    When to use it:
        To learn how near the boundary is: for a curve of robust accuracy over epsilon, or for the
        smallest perturbation of single images. For robust accuracy at one epsilon `Verdict` is
        cheaper.

    $$
    \min_x \; \lVert x - x_0 \rVert \quad \text{subject to} \quad f(x) > 0, \quad l \le x \le u
    $$

    $x_0$ is the input, $f$ the margin, above 0 across the boundary; $l$ and $u$ are the ends of the
    box. For every example the best of several attacks counts; later ones begin where the best of
    those before ended. Linf: `FAB`, `PDPGD`. L2: `ALMA`, `PDGD`, `FAB`, `FMN`. L1: `ALMA`, `PDPGD`,
    `FAB`, `FMN`. L0: `SigmaZero`, `PDPGD`, `FMN`.

    Without a limit in the call the smallest perturbation is looked for; with one, any inside it
    will do. Against a `BlackBox` it is one attack, with a limit of queries. Where labels are all
    there is, or no limit is set to the perturbation: `RayS` in Linf, `CGBA` in L2, `Pointwise` in
    L1 and L0. On scores within a limit: `SquareAttack`, in L0 `SparseRS`.

    Args:
        norm: "Linf", "L2", "L1" or "L0", or the budget's class. None: the norm of the budget in the
            call. With a norm the call needs no budget.
        steps: the limit of queries per example against a `BlackBox`, a whole number from 1. None:
            5,000. The attacks on models with gradients have steps of their own.

    Raises:
        InvalidType: something that is no norm.
        InvalidInput: a norm that does not exist; at the call, a budget of another norm.

    Cost:
        For goals about classes at most 1,000 gradients for each example in Linf, L2 and L1, and 950
        in L0 (measured with 12 classes). Fewer with fewer than ten classes, or within a limit,
        where an example leaves at its first success.

    Example:
        >>> import advex
        >>> x, labels = advex.testing.linear_data(4)
        >>> result = MinimumNorm("L2")(advex.testing.linear_model(), x, labels)
        >>> bool(result.success.all())
        True

    Reference:
        None of its own: the papers are those of its members.

    Deviations:
        The members' steps and prices are advex's choice, see `advex/attacks/minimum_norm.py`.
    """

    needs_epsilon: ClassVar[bool] = False
    starts: ClassVar[bool] = True

    norm: Any = None
    steps: int | None = setting(None, "whole")

    def __post_init__(self) -> None:
        norm = self.norm
        if norm is None:
            return
        if isinstance(norm, str):
            if norm not in NORMS:
                close = nearest(norm, list(NORMS))
                hint = f"; did you mean {close[0]!r}?" if close else ""
                raise InvalidInput(
                    f"MinimumNorm knows {', '.join(map(repr, NORMS))}; received {shown(norm)}{hint}"
                )
            return
        name = norm.__name__ if isinstance(norm, type) else type(norm).__name__
        if not isinstance(norm, Budget) and not (
            isinstance(norm, type) and issubclass(norm, Budget)
        ):
            raise InvalidType(f'MinimumNorm needs a norm, such as "L2"; received {shown(norm)}')
        object.__setattr__(self, "norm", name)
        self.__post_init__()

    @property
    def default_budget(self) -> Budget | None:
        return None if self.norm is None else NORMS[self.norm]()

    def fitted(self, model: Model) -> Attackable:
        if model.gives == "gradients":
            return self
        twin = copy.copy(self)
        object.__setattr__(twin, "_gives", model.gives)
        return twin

    def __repr__(self) -> str:
        told = "" if self.steps is None else f", steps={self.steps}"
        return f"MinimumNorm(norm={self.norm!r}{told})"

    def check(self, goal: Goal | None, budget: Budget) -> None:
        super().check(goal, budget)
        norms = tuple(NORMS.values()) if self.norm is None else (NORMS[self.norm],)
        if not isinstance(budget, norms):
            raise InvalidInput(
                f"{self!r} looks for the smallest change in"
                f" {' or '.join(norm.__name__ for norm in norms)}; received {budget!r}"
            )

    def plan(self, budget: Budget | None = None) -> list[Wave]:
        budget = budget or self.default_budget or L2()
        norm = next(norm for norm in NORMS.values() if isinstance(budget, norm))
        gives = getattr(self, "_gives", "gradients")
        if gives != "gradients":
            table = BY_SCORES if gives == "scores" and budget.limited else BY_LABELS
            return table[norm](steps=self.steps or QUERIES).plan(budget)
        members = [
            replace(
                wave.each(set_apart, number),
                warm=warm,
                suits=_of_another_kind if attack is PATIENT else None,
            )
            for number, (attack, warm) in _numbered(PLANS[norm])
            for wave in attack.plan(budget)
        ]
        return members + [
            replace(wave.each(set_apart, len(members)), warm=True, discrete=True)
            for wave in CHOICES.plan(budget)
        ]


def _numbered(plan: list[tuple[Attack, bool]]) -> list[tuple[int, tuple[Attack, bool]]]:
    """The members with the number that sets their random numbers apart: the one that not all goals
    have comes last.
    """
    usual = [member for member in plan if member[0] is not PATIENT]
    numbers = {id(attack): number for number, (attack, _) in enumerate(usual)}
    return [(numbers.get(id(member[0]), len(usual)), member) for member in plan]


def _of_another_kind(goal: Goal) -> bool:
    """Whether a goal is not about one class for each example."""
    return not isinstance(goal, Labelled)
