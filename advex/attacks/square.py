"""Square Attack: random windows, kept where the loss grows; scores are all it needs of a model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import keras
import numpy as np
from keras import ops

from advex._arrays import Array, Tensor, flat, rows
from advex._settings import real_number, switch
from advex.attacks.base import Attack
from advex.budgets import L0, L1, Budget, Linf
from advex.budgets.base import SHY
from advex.driver.problem import Loss, Problem
from advex.errors import InvalidInput
from advex.goals import Goal
from advex.losses import margin

HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # proposals after which p is halved
PLANNED = 10_000  # proposals that these numbers were made for
SPARE = 3  # queries that are no proposals: the clean input, the start, the last judgement
TILES = 5  # along the shorter side of the image, at the start in L2 and L1
LEAST = 3  # elements along a window in L2 and L1
TINY = 1e-12


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
                " channels), (n, height, width) or"
                f" (n, features); received (n, {', '.join(map(str, shape))})"
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
        high, wide = (max(side, LEAST) // 2 * 2 + 1 for side in self.window(p))
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


def _profiles(height: int, width: int, power: int) -> tuple[Array, Array, Array]:
    """A window of two pyramids, one above the other: ``down`` and ``signed``, (height,), and
    ``along``, (width,).

    The k-th ring around the middle of a pyramid is the sum of 1 / m**power over m > k: the larger
    the nearer to the middle. Rings are square, so a pixel's value is the smaller one of ``down`` at
    its row and ``along`` at its column; ``signed`` gives both halves the same size, together 1 (a
    sum of absolute values for ``power`` 4, else Euclidean), and turns one of them over.
    """
    halves = [half for half in (height // 2, height - height // 2) if half]
    rings = 1.0 / np.arange(1, max(width // 2, halves[-1] // 2) + 2) ** power
    heights = np.cumsum(rings[::-1])[::-1]
    along = heights[np.abs(np.arange(width) - width // 2)]
    downs, scales = [], []
    for half, sign in zip(reversed(halves), (-1, 1), strict=False):
        down = heights[np.abs(np.arange(half) - half // 2)]
        values = np.minimum(down[:, None], along[None])
        size = (
            values.sum() * len(halves)
            if power == 4
            else np.sqrt(np.square(values).sum() * len(halves))
        )
        downs.append(down)
        scales.append(np.full(half, sign / size))
    return np.concatenate(downs[::-1]), np.concatenate(scales[::-1]), along


def eta(height: int, width: int, power: int) -> Array:
    """The pattern of the paper, of length 1: shape (height, width), float64; see ``_profiles``."""
    down, signed, along = _profiles(height, width, power)
    return np.asarray(np.minimum(down[:, None], along[None]) * signed[:, None])


def _whole(values: Any) -> Tensor:
    """Numbers known beforehand, as an int32 tensor."""
    return ops.convert_to_tensor(np.asarray(values, "int32"))


def _window(frame: Frame, size: Tensor, place: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Windows of ``size``, (batch, 2) int32, at the random ``place``, (batch, 2) in [0, 1); every
    place is equally likely.

    Returns:
        The place of each row of pixels within the window, (batch, height) int32, and of each
        column, (batch, width); and which rows, (batch, height, 1, 1), and columns, (batch, 1,
        width, 1), are in it: 1.0 or 0.0.
    """
    room = _whole([[frame.height + 1, frame.width + 1]]) - size
    corner = ops.cast(place * ops.cast(room, "float32"), "int32")
    down = _whole([range(frame.height)]) - corner[:, :1]
    along = _whole([range(frame.width)]) - corner[:, 1:]
    inside = (
        ops.cast(ops.logical_and(offset >= 0, offset < side), "float32")
        for offset, side in ((down, size[:, :1]), (along, size[:, 1:]))
    )
    down_in, along_in = inside
    return down, along, down_in[:, :, None, None], along_in[:, None, :, None]


@dataclass(frozen=True, kw_only=True)
class SquareAttack(Attack):
    """Random search over square windows of an image; a proposal is kept if the loss grows. Scores
    suffice: no gradients.

    Linf: from vertical stripes at +-epsilon, window by window, each channel of a window goes to
    +epsilon or -epsilon. L2 and L1: from a grid of small patterns, the change within one window and
    what the budget has left over go into another window, as what was there plus a pattern of two
    pyramids, up and down (in L1 with several channels more than that, and the whole is projected).
    A window covers the share ``p`` of the image at first; p is halved after 10, 50, 200, 500,
    1,000, 2,000, 4,000, 6,000 and 8,000 proposals.

    Works on images (n, height, width, channels), or channels first where Keras is set so; on grey
    ones without an axis of channels, (n, height, width); and on tables (n, features), where a
    window is a run of neighbouring features.

    Args:
        steps: the limit of queries per example, at least 4. All count: the clean input, the start,
            the proposals (``steps - 3`` at most) and the last judgement. An example that is never
            broken needs ``steps - 1``.
        p: the share of the image that the first windows cover, above 0 and at most 1.
        loss: what must grow: ``(logits, goal) -> (batch,)``.
        rescale: stretch the schedule of p, which is made for 10,000 proposals, to ``steps``.

    Raises:
        InvalidInput: at the call, for ``L0``, fewer than 4 steps, or inputs that are neither images
        nor tables; for a p out of
            range. InvalidType: p is not a number.

    Example:
        >>> import advex
        >>> x, labels = advex.testing.linear_data()
        >>> result = SquareAttack(steps=100)(advex.testing.linear_model(), x, labels,
        ...     advex.Linf(0.3))
        >>> int(result.gradients.sum()), bool(result.queries.max() <= 100)
        (0, True)

    References: Andriushchenko, Croce, Flammarion and Hein, Square Attack: a query-efficient
    black-box adversarial attack via random search, 2020; for L1: Croce and Hein, Mind the box:
    l1-APGD for sparse adversarial attacks on image classifiers, 2021, and the authors'
    implementation. Deviations: every example draws its own windows (the implementation: one for the
    whole batch); a window may touch the lower and right edges; a proposal that would change nothing
    (Linf) gets the opposite signs, where the paper draws again and the implementation asks in vain;
    ``steps`` counts every query; the loss is the margin for targets, too (the paper: cross-entropy,
    ``loss=losses.cross_entropy``); the tiles of the start fill images of every size.
    """

    steps: int = 5000
    p: float = 0.8
    loss: Loss = margin
    rescale: bool = False

    needs_gradient: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if real_number("SquareAttack(p=...)", self.p, strict=True) > 1:
            raise InvalidInput(
                f"SquareAttack(p=...) is a share of the image, at most 1; received {self.p!r}"
            )
        switch("SquareAttack(rescale=...)", self.rescale)

    @property
    def rounds(self) -> int:
        """The number of proposals."""
        return self.steps - SPARE

    def check(self, goal: Goal | None, budget: Budget) -> None:
        super().check(goal, budget)
        if isinstance(budget, L0):
            raise InvalidInput("SquareAttack has no L0 form; use Linf, L2 or L1")
        if self.rounds < 1:
            raise InvalidInput(
                f"SquareAttack needs at least {SPARE + 1} steps; received {self.steps}: each is a"
                f" query, and {SPARE} of them go"
                " to the input itself, the start and the last judgement"
            )

    def check_inputs(self, shape: tuple[int, ...]) -> None:
        Frame.of(shape)

    def init(self, problem: Problem) -> tuple[Tensor, Any]:
        frame = Frame.of(tuple(problem.x0.shape[1:]))
        if isinstance(problem.budget, Linf):
            stripes = (1, frame.width) if frame.width > 1 else (frame.height, 1)
            up = frame.closed(problem.signs((*stripes, frame.channels))) > 0
            x = ops.where(up, problem.upper, problem.lower)
        else:
            x = self._tiled(problem, frame)
        return x, {"best": x, "value": ops.zeros_like(problem.progress)}

    def step(self, problem: Problem, x: Tensor, memory: Any) -> tuple[Tensor, Any]:
        value = self.loss(problem.logits(x), problem.goal)
        better = ops.logical_or(problem.step == 0, value > memory["value"])
        best = ops.where(rows(better, x), x, memory["best"])
        propose = self._flipped if isinstance(problem.budget, Linf) else self._moved
        proposal = propose(problem, best, Frame.of(tuple(problem.x0.shape[1:])))
        return proposal, {"best": best, "value": ops.where(better, value, memory["value"])}

    def _shares(self, problem: Problem) -> tuple[Tensor, list[float]]:
        """At which of the shares of the image each example is, (batch,) int32, and the shares."""
        ends = _whole([halvings(self.steps, self.rescale)])
        passed = ops.sum(ops.cast(ops.expand_dims(problem.step, 1) >= ends, "int32"), axis=1)
        return passed, [self.p / 2**count for count in range(ends.shape[1] + 1)]

    def _flipped(self, problem: Problem, best: Tensor, frame: Frame) -> Tensor:
        """One window to one end of ball and box, up or down for each channel."""
        now, shares = self._shares(problem)
        sizes = ops.take(_whole([frame.window(p) for p in shares]), now, axis=0)
        drawn = problem.uniform((2 + frame.channels,))
        _, _, down, along = _window(frame, sizes, drawn[:, :2])
        jump = 2 * problem.span * ops.where(drawn[:, 2:] < 0.5, 1.0, -1.0)  # farther than any end
        jump = frame.closed(down * (along * ops.reshape(jump, (-1, 1, 1, frame.channels))))
        proposal = ops.clip(best + jump, problem.lower, problem.upper)
        # What would change nothing is turned round: a query is not spent on the same point twice.
        change = ops.sum(flat(ops.abs(proposal - best)), axis=1)
        return ops.clip(
            best + rows(ops.where(change > 0, 1.0, -1.0), best) * jump, problem.lower, problem.upper
        )

    def _moved(self, problem: Problem, best: Tensor, frame: Frame) -> Tensor:
        """What the change has in a second window, and what the budget has left, goes into a first
        one.
        """
        sparse = isinstance(problem.budget, L1)
        now, shares = self._shares(problem)
        windows = [frame.odd_window(p) for p in shares]
        sizes = ops.take(_whole(windows), now, axis=0)
        drawn = problem.uniform((5 + frame.channels,))
        down, along, down_in, along_in = _window(frame, sizes, drawn[:, :2])
        inside = down_in * along_in
        _, _, down_in, along_in = _window(frame, sizes, drawn[:, 2:4])
        delta = frame.opened(best - problem.x0)
        kept, rest = inside * delta, (1 - inside) * (1 - down_in * along_in) * delta

        def size(values: Tensor) -> Tensor:
            """Of each channel: the sum of absolute values, or of squares."""
            return ops.sum(
                ops.abs(values) if sparse else ops.square(values), axis=(1, 2), keepdims=True
            )

        def root(values: Tensor) -> Tensor:
            return values if sparse else ops.sqrt(values)

        sign = ops.reshape(ops.where(drawn[:, 5:] < 0.5, 1.0, -1.0), (-1, 1, 1, frame.channels))
        pattern = self._pattern(
            frame, down, along, windows, now, drawn[:, 4] < 0.5, 4 if sparse else 2
        )
        fresh = sign * pattern + kept / (root(size(kept)) + TINY)
        limit = SHY * problem.epsilon
        whole = size(delta)
        spare = (limit if sparse else ops.square(limit)) - ops.sum(whole, axis=3, keepdims=True)
        # Negative, the spare is a rounding error, which so does not pile up.
        goal = root(ops.maximum(spare / frame.channels + whole - size(rest), 0.0))
        overshoot = sparse and frame.channels > 1
        # the projection then takes from every element what the window has too much: the change gets
        # sparser
        if overshoot:
            goal = goal * frame.channels
        fresh = fresh * (goal / (root(size(fresh)) + TINY))
        x = problem.x0 + frame.closed(fresh + rest)
        return problem.project(x) if overshoot else ops.clip(x, problem.lower, problem.upper)

    def _pattern(
        self,
        frame: Frame,
        down: Tensor,
        along: Tensor,
        windows: list[tuple[int, int]],
        now: Tensor,
        turned: Tensor,
        power: int,
    ) -> Tensor:
        """``eta`` in each example's window, turned by a right angle or not, zero around it: (batch,
        height, width, 1).
        """
        longest = max(max(sides) for sides in windows)
        # the last place of a profile: outside
        table = np.zeros((len(windows), 2, longest + 1, 2), "float32")
        for place, (height, width) in zip(table, windows, strict=True):
            profile, signed, across = _profiles(height, width, power)
            place[0, :height] = np.stack([profile, signed], axis=1)
            place[1, :width, 0], place[1, :width, 1] = across, 1
        flat_table = ops.convert_to_tensor(table.reshape(-1, 2))
        turned = ops.cast(turned, "int32") if frame.width > 1 else ops.zeros_like(now)

        def looked_up(offset: Tensor, kind: Tensor) -> Tensor:
            offset = ops.where(ops.logical_and(offset >= 0, offset < longest), offset, longest)
            return ops.take(flat_table, offset + (2 * now + kind)[:, None] * (longest + 1), axis=0)

        first, second = looked_up(down, turned), looked_up(along, 1 - turned)
        scale = first[:, :, None, 1:] * second[:, None, :, 1:]
        return ops.minimum(first[:, :, None, :1], second[:, None, :, :1]) * scale

    def _tiled(self, problem: Problem, frame: Frame) -> Tensor:
        """The start in L2 and L1: tiles of ``eta``, each with its own signs and turned or not."""
        sparse = isinstance(problem.budget, L1)
        side = max(1, min(frame.height, frame.width) // TILES)
        down, along = frame.height // side, frame.width // side
        top, left = (frame.height - down * side) // 2, (frame.width - along * side) // 2
        margins = (
            (top, frame.height - down * side - top),
            (left, frame.width - along * side - left),
        )
        tile = eta(side, side, 4 if sparse else 2).astype("float32")

        def spread(values: Tensor) -> Tensor:
            return ops.repeat(ops.repeat(values, side, axis=1), side, axis=2)

        upright, turned = (
            ops.convert_to_tensor(np.tile(values, (down, along))[None, :, :, None])
            for values in (tile, tile.T)
        )
        drawn = problem.signs((down, along, 1 + frame.channels))
        pattern = ops.where(spread(drawn[..., :1]) > 0, upright, turned) * spread(drawn[..., 1:])
        delta = frame.closed(ops.pad(pattern, ((0, 0), *margins, (0, 0))))
        if sparse:
            return problem.project(problem.x0 + problem.span * delta)
        length = math.sqrt(down * along * frame.channels)
        return problem.project(problem.x0 + SHY * problem.epsilon / length * delta)
