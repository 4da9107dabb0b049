"""Square Attack in L2 and L1: what a window holds, and what the budget has left, goes into another
window as a pattern of two pyramids.
"""

from __future__ import annotations

import math

import numpy as np
from keras import ops

from advex._arrays import Array, Tensor
from advex.attacks.square_windows import Frame, Schedule, whole, window
from advex.budgets import L1
from advex.budgets.base import SHY
from advex.driver.problem import Problem

TILES = 5  # along the shorter side of the image, at the start
SMALLEST_SIZE = 1e-12  # guards divisions
L2_POWER, L1_POWER = 2, 4  # how fast the pyramids fall off: the ring m adds 1 / m**power


def start_l2(problem: Problem, frame: Frame) -> Tensor:
    """Tiles of ``eta``, each with its own signs and turned by a right angle or not."""
    sparse = isinstance(problem.budget, L1)
    side = max(1, min(frame.height, frame.width) // TILES)
    down, along = frame.height // side, frame.width // side
    top, left = (frame.height - down * side) // 2, (frame.width - along * side) // 2
    margins = (
        (top, frame.height - down * side - top),
        (left, frame.width - along * side - left),
    )
    tile = eta(side, side, L1_POWER if sparse else L2_POWER).astype("float32")

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


def propose_l2(problem: Problem, best: Tensor, frame: Frame, schedule: Schedule) -> Tensor:
    """What the change has in a second window, and what the budget has left, goes into a first
    one.
    """
    x0, sparse, channels = problem.x0, isinstance(problem.budget, L1), frame.channels
    now, sides = schedule.passed(problem), [frame.odd_window(p) for p in schedule.shares]
    sizes = ops.take(whole(sides), now, axis=0)
    drawn = problem.uniform((5 + channels,))
    down, along, down_in, along_in = window(frame, sizes, drawn[:, :2])
    inside = down_in * along_in
    _, _, down_in, along_in = window(frame, sizes, drawn[:, 2:4])
    delta = frame.opened(best - x0)
    kept, rest = inside * delta, (1 - inside) * (1 - down_in * along_in) * delta

    def size(values: Tensor) -> Tensor:
        """Of each channel: the sum of absolute values, or of squares."""
        return ops.sum(
            ops.abs(values) if sparse else ops.square(values), axis=(1, 2), keepdims=True
        )

    def root(values: Tensor) -> Tensor:
        return values if sparse else ops.sqrt(values)

    sign = ops.reshape(ops.where(drawn[:, 5:] < 0.5, 1.0, -1.0), (-1, 1, 1, channels))
    places = _places(frame, down, along, drawn[:, 4] < 0.5)
    pattern = _pattern(places, sides, now, L1_POWER if sparse else L2_POWER)
    fresh = sign * pattern + kept / (root(size(kept)) + SMALLEST_SIZE)
    limit = SHY * problem.epsilon
    held = size(delta)
    spare = (limit if sparse else ops.square(limit)) - ops.sum(held, axis=3, keepdims=True)
    # Negative, the spare is a rounding error, which so does not pile up.
    goal = root(ops.maximum(spare / channels + held - size(rest), 0.0))
    # In L1 the projection takes what is too much from every element: the change gets sparser.
    overshoot = sparse and channels > 1
    if overshoot:
        goal = goal * channels
    fresh = fresh * (goal / (root(size(fresh)) + SMALLEST_SIZE))
    x = x0 + frame.closed(fresh + rest)
    return problem.project(x) if overshoot else ops.clip(x, problem.lower, problem.upper)


Places = tuple[Tensor, Tensor, Tensor]


def _places(frame: Frame, down: Tensor, along: Tensor, turned: Tensor) -> Places:
    """The places of ``window`` and, for each example, 1 where the pattern is turned by a right
    angle, else 0.
    """
    turned = ops.cast(turned, "int32")
    return down, along, turned if frame.width > 1 else ops.zeros_like(turned)


def _pattern(places: Places, sides: list[tuple[int, int]], now: Tensor, power: int) -> Tensor:
    """``eta`` in each example's window, zero around it: (batch, height, width, 1).

    Args:
        places: see ``_places``.
        sides: heights and widths of all windows.
        now: which of them is each example's.
        power: see ``_profiles``.
    """
    down, along, turned = places
    longest = max(max(pair) for pair in sides)
    # the last place of a profile: outside
    table = np.zeros((len(sides), 2, longest + 1, 2), "float32")
    for place, (height, width) in zip(table, sides, strict=True):
        profile, signed, across = _profiles(height, width, power)
        place[0, :height] = np.stack([profile, signed], axis=1)
        place[1, :width, 0], place[1, :width, 1] = across, 1
    flat_table = ops.convert_to_tensor(table.reshape(-1, 2))

    def looked_up(offset: Tensor, kind: Tensor) -> Tensor:
        offset = ops.where(ops.logical_and(offset >= 0, offset < longest), offset, longest)
        return ops.take(flat_table, offset + (2 * now + kind)[:, None] * (longest + 1), axis=0)

    first, second = looked_up(down, turned), looked_up(along, 1 - turned)
    scale = first[:, :, None, 1:] * second[:, None, :, 1:]
    return ops.minimum(first[:, :, None, :1], second[:, None, :, :1]) * scale


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
