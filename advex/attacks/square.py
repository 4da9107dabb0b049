"""Square Attack: random windows, kept where the loss grows; scores are all it needs of a model.

What a proposal is, is in ``square_linf`` and, for L2 and L1, in ``square_l2``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from keras import ops

from advex._arrays import Tensor, rows
from advex._settings import setting
from advex.attacks.base import Attack
from advex.attacks.square_l2 import propose_l2, start_l2
from advex.attacks.square_linf import propose_linf, start_linf
from advex.attacks.square_windows import Frame, Schedule
from advex.budgets import L0, Budget, Linf
from advex.driver.problem import Loss, Problem
from advex.errors import InvalidInput
from advex.goals import Goal
from advex.losses import margin
from advex.model.protocol import Gives

NO_PROPOSALS = 3  # queries that propose nothing: the clean input, the start, the last judgement


@dataclass(frozen=True, kw_only=True)
class SquareAttack(Attack):
    r"""Random search over square windows of an image; a proposal is kept if the loss grows.

    When to use it:
        Against a model that gives scores but no gradients, within a budget in Linf, L2 or L1. Also
        as a check on gradients: where it breaks what `PGD` does not, they are masked. In L0 take
        `SparseRS`.

    $$
    x_{t+1} = \begin{cases}
    \tilde x_t & \ell(\tilde x_t) > \ell(x_t) \\
    x_t & \text{otherwise}
    \end{cases}
    $$

    $$
    L_\infty:\;\; \tilde x_t = \mathrm{clip}(x_t + 2\,\sigma_c\,(u - l)\, \mathbb{1}_{W_t}) \in
    \{x_0 \pm \varepsilon\} \cap \text{box}
    $$

    $\ell$ is the loss, $x_0$ the input, $W_t$ a random window of side $\sqrt{p\,h\,w}$, and
    $\sigma_c = \pm 1$ a random sign for each channel: the window goes to one end of ball and box.
    The search begins at vertical stripes. In L2 and L1 it begins at a grid of small patterns. The
    change within one window and what the budget has left over go into another window, as what was
    there plus a pattern of two pyramids, up and down (in L1 with several channels more than that,
    and the whole is projected). p is halved after 10, 50, 200, 500, 1,000, 2,000, 4,000, 6,000 and
    8,000 proposals.

    Works on images (n, height, width, channels), or channels first where Keras is set so; on grey
    ones without an axis of channels, (n, height, width); and on tables (n, features), where a
    window is a run of neighbouring features.

    Args:
        steps: the limit of queries per example, a whole number from 4. All count: the clean input,
            the start, the proposals (`steps - 3` at most) and the last judgement. AutoAttack:
            5,000.
        p: the share of the image that the first windows cover, above 0 and at most 1. The paper:
            0.05 in Linf and 0.1 in L2. AutoAttack: 0.8.
        loss: what must grow, a function `(logits, goal) -> (batch,)`.
        rescale: stretch the schedule of p, which is made for 10,000 proposals, to `steps`.

    Raises:
        InvalidType: a setting of the wrong type.
        InvalidInput: a setting out of range; at the call, for `L0`, for a budget without a limit,
            for
            fewer than 4 steps, or for inputs that are neither images nor tables.

    Cost:
        At most `steps` queries, no gradients. An example that is never broken needs `steps - 1`.

    Example:
        >>> import advex
        >>> x, labels = advex.testing.linear_data()
        >>> result = SquareAttack(steps=100)(advex.testing.linear_model(), x, labels,
        ...     advex.Linf(0.3))
        >>> int(result.gradients.sum()), bool(result.queries.max() <= 100)
        (0, True)

    Reference:
        Andriushchenko, Croce, Flammarion and Hein, Square Attack: a query-efficient black-box
        adversarial attack via random search, ECCV 2020. https://arxiv.org/abs/1912.00049

        For L1: Croce and Hein, Mind the box: l1-APGD for sparse adversarial attacks on image
        classifiers, ICML 2021, and the authors' implementation. https://arxiv.org/abs/2103.01208

    Deviations:
        Every example draws its own windows (the implementation: one for the whole batch); a window
        may touch the lower and right edges; a proposal that would change nothing (Linf) gets the
        opposite signs, where the paper draws again and the implementation asks in vain; ``steps``
        counts every query; the loss is the margin for targets, too (the paper: cross-entropy,
        ``loss=losses.cross_entropy``); the tiles of the start fill images of every size.
    """

    lacks: ClassVar = (L0,)
    needs: ClassVar[Gives] = "scores"

    steps: int = setting(5000, "whole")
    p: float = setting(0.8, "number", above=0, at_most=1, share="a share of the image")
    loss: Loss = setting(margin, "function")
    rescale: bool = setting(False, "switch")

    @property
    def rounds(self) -> int:
        """The number of proposals."""
        return self.steps - NO_PROPOSALS

    def check(self, goal: Goal | None, budget: Budget) -> None:
        super().check(goal, budget)
        if self.rounds < 1:
            raise InvalidInput(
                f"SquareAttack needs at least {NO_PROPOSALS + 1} steps; received {self.steps}:"
                f" each is a query, and {NO_PROPOSALS} of them go to the input itself, the start"
                " and the last judgement"
            )

    def check_inputs(self, shape: tuple[int, ...]) -> None:
        Frame.of(shape)

    def init(self, problem: Problem) -> tuple[Tensor, Any]:
        start = start_linf if isinstance(problem.budget, Linf) else start_l2
        x = start(problem, Frame.of(tuple(problem.x0.shape[1:])))
        return x, {"best": x, "value": ops.zeros_like(problem.progress)}

    def step(self, problem: Problem, x: Tensor, memory: Any) -> tuple[Tensor, Any]:
        value = self.loss(problem.logits(x), problem.goal)
        better = ops.logical_or(problem.step == 0, value > memory["value"])
        best = ops.where(rows(better, x), x, memory["best"])
        propose = propose_linf if isinstance(problem.budget, Linf) else propose_l2
        frame = Frame.of(tuple(problem.x0.shape[1:]))
        proposal = propose(problem, best, frame, Schedule(self.p, self.steps, self.rescale))
        return proposal, {"best": best, "value": ops.where(better, value, memory["value"])}
