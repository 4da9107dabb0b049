"""Step sizes that change on the way."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from keras import ops

from advex._settings import Settings, real_number
from advex.driver.problem import Problem
from advex.errors import blaming


@dataclass(frozen=True)
class LinearDecay(Settings):
    r"""A step size that falls on a straight line from `start` to 0.

    When to use it:
        As `step_size` of `PGD`, `BIM`, `MomentumIterative` or `NesterovIterative`, when constant
        steps swing to and fro across the best point.

    $$ \alpha(p) = \alpha_0\,(1 - p) $$

    $\alpha_0$ is `start`, and $p$ is how far the example is through its steps, from 0 to just below
    1.

    Args:
        start: the first step as a share of epsilon, above 0.

    Raises:
        InvalidType: `start` is not a number.
        InvalidInput: `start` is not above 0.

    Example:
        >>> LinearDecay(0.5)(0.25)
        0.375
    """

    start: float = 0.5

    def __post_init__(self) -> None:
        real_number("LinearDecay(start)", self.start, strict=True)

    def __call__(self, progress: Any) -> Any:
        return self.start * (1 - progress)


def at(size: Any, problem: Problem, name: str = "step_size") -> Any:
    """The step size of each example now: a number, or (batch,). ``name``: of the setting, for
    errors.
    """
    if not callable(size):
        return size
    with blaming(name):
        return size(problem.progress)


def cosine(start: Any, end: Any, problem: Problem) -> Any:
    """From ``start`` to ``end`` along half a wave, as far as each example has come: (batch,)."""
    return end + (start - end) * (1 + ops.cos(math.pi * problem.progress)) / 2
