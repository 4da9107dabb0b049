"""The windows of Square Attack: how the axes of an input are height, width and channels, how large
windows are, and where.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from advex._arrays import Tensor
from advex.driver.problem import Problem
from advex.errors import InvalidInput

HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # proposals after which p is halved
PLANNED = 10_000  # proposals that these numbers were made for
MIN_ODD_SIDE = 3  # elements along a window in L2 and L1


class Frame(NamedTuple):
    """How the axes of an input are height, width and channels; a row of a table is one column of
    pixels.

    Attributes:
        height, width, channels: sizes.
        layout: "last" or "first" (where the channels are), "grey" (height and width only), "table"
            (one axis).
    """

    height: int
    width: int
    channels: int
    layout: str

    @classmethod
    def of(cls, shape: tuple[int, ...]) -> Frame:
        """The frame of inputs of ``shape``, without the batch axis."""
        if len(shape) == 1:
            return cls(shape[0], 1, 1, "table")
        if len(shape) == 2:
            return cls(*shape, 1, "grey")
        if len(shape) != 3:
            raise InvalidInput(
                "SquareAttack moves windows of an image: it needs x of shape (n, height, width,"
                " channels), (n, height, width) or (n, features); received (n,"
                f" {', '.join(map(str, shape))})"
            )
        if keras.config.image_data_format() == "channels_first":
            return cls(shape[1], shape[2], shape[0], "first")
        return cls(*shape, "last")

    def opened(self, x: Tensor) -> Tensor:
        """Inputs as (batch, height, width, channels)."""
        if self.layout == "first":
            return ops.transpose(x, (0, 2, 3, 1))
        return (
            x
            if self.layout == "last"
            else ops.reshape(x, (-1, self.height, self.width, self.channels))
        )

    def closed(self, x: Tensor) -> Tensor:
        """What is (batch, height, width, channels), or broadcasts over it, with the axes of the
        inputs.
        """
        if self.layout == "first":
            return ops.transpose(x, (0, 3, 1, 2))
        return (
            x
            if self.layout == "last"
            else ops.squeeze(x, axis=3 if self.layout == "grey" else (2, 3))
        )

    def window(self, p: float) -> tuple[int, int]:
        """Height and width of a square of the share ``p`` of the image; of a table, so many
        features.
        """
        if self.width == 1:
            return max(1, round(p * self.height)), 1
        side = min(max(1, round(math.sqrt(p * self.height * self.width))), self.height, self.width)
        return side, side

    def odd_window(self, p: float) -> tuple[int, int]:
        """The same with an odd number of elements, at least 3, along each side; fewer where the
        image is smaller.
        """
        high, wide = (max(side, MIN_ODD_SIDE) // 2 * 2 + 1 for side in self.window(p))
        if self.width == 1:
            return min(high, self.height), 1
        side = min(high, wide, self.height, self.width)
        return side, side


def halvings(steps: int, rescale: bool) -> list[int]:
    """The proposals, counted from 0, from which on p is a half, a quarter ... of what it was at
    first.
    """
    if not rescale:
        return [last + 1 for last in HALVINGS]
    return [-(-(last + 1) * steps // PLANNED) for last in HALVINGS]


class Schedule(NamedTuple):
    """The share ``p`` of the image that windows cover at first, and how it is halved."""

    p: float
    steps: int
    rescale: bool

    @property
    def shares(self) -> list[float]:
        """The share before the first halving, after it, after the second, ..."""
        return [self.p / 2**count for count in range(len(HALVINGS) + 1)]

    def passed(self, problem: Problem) -> Tensor:
        """How many halvings each example has behind it, (batch,) int32: a place in ``shares``."""
        ends = whole([halvings(self.steps, self.rescale)])
        return ops.sum(ops.cast(ops.expand_dims(problem.step, 1) >= ends, "int32"), axis=1)


def whole(values: Any) -> Tensor:
    """Numbers known beforehand, as an int32 tensor."""
    return ops.convert_to_tensor(np.asarray(values, "int32"))


def window(frame: Frame, size: Tensor, place: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Windows of ``size``, (batch, 2) int32, at the random ``place``, (batch, 2) in [0, 1); every
    place is equally likely.

    Returns:
        The place of each row of pixels within the window, (batch, height) int32, and of each
        column, (batch, width); and which rows, (batch, height, 1, 1), and columns, (batch, 1,
        width, 1), are in it: 1.0 or 0.0.
    """
    room = whole([[frame.height + 1, frame.width + 1]]) - size
    corner = ops.cast(place * ops.cast(room, "float32"), "int32")
    down = whole([range(frame.height)]) - corner[:, :1]
    along = whole([range(frame.width)]) - corner[:, 1:]
    inside = (
        ops.cast(ops.logical_and(offset >= 0, offset < side), "float32")
        for offset, side in ((down, size[:, :1]), (along, size[:, 1:]))
    )
    down_in, along_in = inside
    return down, along, down_in[:, :, None, None], along_in[:, None, :, None]
