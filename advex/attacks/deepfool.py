"""DeepFool: from hyperplane to hyperplane of the linearised model until the boundary is crossed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from keras import ops

from advex._arrays import Tensor, flat, rows
from advex._settings import setting
from advex.attacks.base import Attack
from advex.attacks.hyperplane import classes_at_start, linearised
from advex.budgets import L0, L1
from advex.driver.problem import Problem

UNBOUNDED = 1e4  # ranges of the box: a box that is so much wider does not matter
BEYOND = 1e-4  # ranges of the box, in the norm: how far the hyperplane is passed ...
BEYOND_FROM = 4  # ... from this step on
# times the way without a box: a step that is longer because of the box trusts the linearisation too
# far
MAX_DETOUR = 1.02


@dataclass(frozen=True, kw_only=True)
class DeepFool(Attack):
    r"""Steps to the nearest hyperplane of the linearised model, until the boundary is crossed.

    When to use it:
        For a quick estimate of how near the boundary is: a handful of steps is enough. It stops at
        the first crossing; `FAB`, `FMN` and `MinimumNorm` go on to smaller perturbations.

    $$
    r_{t+1} = r_t + \operatorname{argmin}_{r} \; \lVert r \rVert \quad \text{subject to} \quad
    f_k(x_t) + \langle \nabla_x f_k(x_t),\, x_0 + r_t + r - x_t \rangle = \beta_k
    $$

    $$ x_{t+1} = x_0 + (1 + \eta)\, r_{t+1} $$

    $f_k = z_k - z_y$ is the margin of a wrong class $k$ over the label $y$; $k$ is the class with
    the smallest $|f_k(x_t)| / \lVert \nabla_x f_k(x_t) \rVert_\ast$, the distance to its
    hyperplane. $\eta$ is `overshoot`. $\beta_k$ is 0 in the first four steps, then it asks for
    $10^{-4}$ beyond the hyperplane. In the second half of the steps each begins where the last one
    ended, overshoot included: examples that are still not across move along the boundary.

    Args:
        steps: number of steps at most, a whole number from 1. The authors: 50.
        classes: without a target, how many wrong classes are looked at, the likeliest at the last
            point. The authors: 9 wrong ones.
        overshoot: how much farther than the hyperplanes x lies, as a share, at least 0. The
            authors: 0.02.

    Raises:
        InvalidType: a setting of the wrong type.
        InvalidInput: a setting out of range; at the call, for `L0`, whose boundary has no nearest
            point.

    Cost:
        One query and `classes + 1` gradients a step; one gradient with a target or with two
        classes. An example leaves once it is across.

    Example:
        >>> import advex
        >>> x, labels = advex.testing.linear_data()
        >>> result = DeepFool()(advex.testing.linear_model(), x, labels, advex.Linf())
        >>> bool(result.success.all())
        True

    Reference:
        Moosavi-Dezfooli, Fawzi and Frossard, DeepFool: a simple and accurate method to fool deep
        neural networks, CVPR 2016. https://arxiv.org/abs/1511.04599

    Deviations:
        The second half of the steps, as above. The first four steps do not go 1e-4 beyond the
        hyperplane. In the second half, and in L1, the projection onto a hyperplane stays in the
        box, exactly; in the first half it is cut at the box where that makes it shorter. L1 as well
        (as the inner problem of SparseFool is).
    """

    lacks: ClassVar = (L0,)
    needs_epsilon: ClassVar[bool] = False
    starts: ClassVar[bool] = True

    steps: int = setting(50, "whole")
    classes: int = setting(9, "whole")
    overshoot: float = setting(0.02, "number", at_least=0)

    def init(self, problem: Problem) -> tuple[Tensor, Any]:
        memory = {"bare": problem.start, "over": ops.zeros_like(problem.found)}
        return problem.start, memory | classes_at_start(problem, self.classes)

    def step(self, problem: Problem, x: Tensor, memory: Any) -> tuple[Tensor, Any]:
        budget, span, (low, high) = problem.budget, problem.span, problem.box
        value, normal, memory = linearised(problem, x, memory)
        over, early = problem.reached, problem.progress < 0.5
        late = rows(problem.progress >= 0.5, x)
        before, origin = ops.where(late, x, memory["bare"]), ops.where(late, x, problem.x0)
        beyond = ops.where(problem.step >= BEYOND_FROM, BEYOND, 0.0) * problem.width
        beyond = beyond * budget.dual(normal)
        missing = ops.sum(flat(normal * (x - before)), axis=1) - value + beyond
        bare = budget.onto(before, normal, missing, low, high)
        # there the box alone makes a change of more than one element
        if not isinstance(budget, L1):
            wide = UNBOUNDED * span
            free = budget.onto(before, normal, missing, low - wide, high + wide)
            longer = budget.size(bare - before) > MAX_DETOUR * budget.size(free - before)
            cut = rows(ops.logical_and(longer, early), x)
            bare = ops.where(cut, ops.clip(free, low, high), bare)
        ahead = ops.clip(origin + (1 + self.overshoot) * (bare - origin), low, high)
        return ops.where(rows(over, x), x, ahead), memory | {"bare": bare, "over": over}

    def done(self, problem: Problem, x: Tensor, memory: Any) -> Tensor:
        return memory["over"]
