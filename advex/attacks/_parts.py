"""Parts that several attacks share: Adam, a search for c, and a fresh start for some rows."""

from __future__ import annotations

from typing import Any, NamedTuple

from keras import ops, tree

from advex._arrays import Tensor, rows

ADAM_BETA1 = 0.9  # of the mean of the slopes
ADAM_BETA2 = 0.999  # of the mean of their squares
ADAM_EPSILON = 1e-8
MAX_C = 1e10


class Moments(NamedTuple):
    """Adam's memory: running means of the slope and of its square, both like x."""

    mean: Tensor
    square: Tensor

    @classmethod
    def zeros(cls, x: Tensor) -> Moments:
        """Before the first step."""
        return cls(ops.zeros_like(x), ops.zeros_like(x))

    def after(self, slope: Tensor) -> Moments:
        """With one more slope."""
        return Moments(
            ADAM_BETA1 * self.mean + (1 - ADAM_BETA1) * slope,
            ADAM_BETA2 * self.square + (1 - ADAM_BETA2) * ops.square(slope),
        )

    def corrected(self, taken: Tensor) -> tuple[Tensor, Tensor]:
        """The mean, and the root of the mean square, without their bias towards the zeros at first.

        Args:
            taken: how many slopes are in the means, (batch,) int32, at least 1.
        """
        count = ops.cast(taken, "float32")
        mean = rows(1 / (1 - ADAM_BETA1**count), self.mean) * self.mean
        return mean, ops.sqrt(rows(1 / (1 - ADAM_BETA2**count), self.mean) * self.square)


def adam(
    moments: Moments, slope: Tensor, taken: Tensor, epsilon: float = ADAM_EPSILON
) -> tuple[Tensor, Moments]:
    """The direction of a step of Adam, whose elements are about 1 in size, and the next moments.

    Args:
        moments: those of the steps before.
        slope: the gradient of what is minimised; the step goes against the direction.
        taken: how many steps there were before this one, (batch,) int32.
        epsilon: keeps elements still whose slopes are far smaller.

    Reference: Kingma and Ba, Adam: a method for stochastic optimization, 2015.
    """
    moments = moments.after(slope)
    mean, size = moments.corrected(taken + 1)
    return mean / (size + epsilon), moments


class Bracket(NamedTuple):
    """The search for the smallest c with a success, (batch,) each: c, and what is known to be too
    small and to be enough.
    """

    low: Tensor
    high: Tensor
    c: Tensor

    @classmethod
    def around(cls, c: Tensor) -> Bracket:
        """Before the first round: nothing is known."""
        return cls(0 * c, ops.full_like(c, MAX_C), c)

    def narrowed(self, success: Tensor) -> Bracket:
        """After a round with c: the middle where an upper end is known, ten times c where none
        is.
        """
        high = ops.where(success, ops.minimum(self.high, self.c), self.high)
        low = ops.where(success, self.low, ops.maximum(self.low, self.c))
        c = ops.where(high < MAX_C, (low + high) / 2, 10 * self.c)
        return Bracket(low, high, ops.minimum(c, MAX_C))


def replaced(memory: Any, fresh: Any, where: Tensor) -> Any:
    """A tree of tensors with the rows of ``fresh`` for the examples of ``where``, (batch,) bool."""
    return tree.map_structure(lambda new, old: ops.where(rows(where, old), new, old), fresh, memory)
