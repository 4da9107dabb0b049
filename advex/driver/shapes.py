"""How large batches are: the only file that knows on which backends a new size is dear."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from advex import _backend

REFILL = 8  # fresh rows join when one seat in REFILL is free
SHRINK = 4  # a batch becomes so many times smaller, where each new size is compiled


def power_of_two(count: int) -> int:
    """The smallest power of two that is not below ``count``."""
    return 1 << max(0, int(count - 1).bit_length())


def default_batch(shape: tuple[int, ...]) -> int:
    """A batch size that keeps a step's tensors within the caches and memory of a small machine."""
    elements = max(1, int(np.prod(shape)))
    most = 256 if elements <= 4096 else 128  # more rows share what a step costs besides the model
    return int(min(most, max(8, power_of_two(2**22 // elements))))


@dataclass(frozen=True)
class Shapes:
    """The sizes of the batches of a call.

    Args:
        most: rows side by side at most.
        multiple: sizes are multiples of this where any size will do. What fills a batch up is
            computed, and counted by nobody.
        ragged: whether any size will do. Where each new size is compiled, a batch is full until
            nobody waits, and shrinks to a quarter then, and again: few sizes, which calls of about
            as many rows have in common.
        shrinks: whether it shrinks at all there.
    """

    most: int
    multiple: int = 1
    ragged: bool = True
    shrinks: bool = True

    @classmethod
    def of_call(
        cls, count: int, example: tuple[int, ...], batch_size: int | None, metered: bool, even: int
    ) -> Shapes:
        """For ``count`` rows of shape ``example``; a ``metered`` model is asked about no others."""
        most = batch_size or default_batch(example)
        if not _backend.RAGGED:  # a metered model is never asked about more rows than was said
            most = min(most if metered else power_of_two(most), power_of_two(count))
        return cls(most, 1 if metered else even, _backend.RAGGED)

    def room(self, seats: int, taken: int) -> int:
        """How many fresh rows have room."""
        return self.most - (seats if self.ragged else taken)

    def joins(self, room: int) -> bool:
        """Whether fresh rows join now: a few cost nearly as much as many."""
        return room >= max(1, self.most // REFILL)

    def fresh(self, room: int) -> int:
        """How many of those that wait join at once."""
        return room - room % self.multiple if self.ragged and room > self.multiple else room

    def filled(self, count: int, room: int) -> int:
        """With how many rows ``init`` is run for ``count`` fresh ones."""
        return count + min(-count % self.multiple, room - count) if self.ragged else self.most

    def judged(self, count: int) -> int:
        """With how many rows ``count`` of a batch are looked at, where any size will do."""
        return count + -count % self.multiple

    def shrunk(self, seats: int, taken: int, waiting: int) -> int:
        """How many seats a batch keeps when some are empty."""
        if not taken:
            return seats if waiting and not self.ragged else 0
        if waiting and not self.ragged:
            return seats
        if self.ragged:
            return min(self.judged(taken), seats)
        while self.shrinks and seats // SHRINK >= taken:
            seats //= SHRINK
        return seats
