"""Square Attack in the maximum norm: from stripes, window by window, to the ends of the ball."""

from __future__ import annotations

from keras import ops

from advex._arrays import Tensor, flat, rows
from advex.attacks.square_windows import Frame, Schedule, whole, window
from advex.driver.problem import Problem


def start_linf(problem: Problem, frame: Frame) -> Tensor:
    """Vertical stripes at the ends of ball and box, each channel with signs of its own."""
    stripes = (1, frame.width) if frame.width > 1 else (frame.height, 1)
    up = frame.closed(problem.signs((*stripes, frame.channels))) > 0
    return ops.where(up, problem.upper, problem.lower)


def propose_linf(problem: Problem, best: Tensor, frame: Frame, schedule: Schedule) -> Tensor:
    """One window to one end of ball and box, up or down for each channel."""
    lower, upper = problem.lower, problem.upper
    sides = whole([frame.window(p) for p in schedule.shares])
    sizes = ops.take(sides, schedule.passed(problem), axis=0)
    drawn = problem.uniform((2 + frame.channels,))
    _, _, down, along = window(frame, sizes, drawn[:, :2])
    way = ops.reshape(ops.where(drawn[:, 2:] < 0.5, 1.0, -1.0), (-1, 1, 1, frame.channels))
    jump = 2 * problem.span * frame.closed(down * (along * way))  # farther than any end
    proposal = ops.clip(best + jump, lower, upper)
    # What would change nothing is turned round: a query is not spent on the same point twice.
    change = ops.sum(flat(ops.abs(proposal - best)), axis=1)
    turn = rows(ops.where(change > 0, 1.0, -1.0), best)
    return ops.clip(best + turn * jump, lower, upper)
