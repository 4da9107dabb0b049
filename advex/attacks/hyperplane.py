"""The decision boundary as a linear function: the nearest of the hyperplanes between the label and
other classes.
"""

from __future__ import annotations

import math
from typing import Any

from keras import ops

from advex._arrays import Tensor
from advex.driver.problem import Problem
from advex.goals import Goal, leaves, others

SMALLEST_STEEPNESS = 1e-30  # guards a division


def boundary(logits: Tensor, goal: Goal) -> Tensor:
    """What is zero on the boundary of success: the margin; with a demanded probability, the
    log-odds above it if lower.
    """
    return goal.surplus(logits)


def classes_at_start(problem: Problem, count: int) -> dict[str, Tensor]:
    """The memory that ``linearised`` needs if it is to look at ``count`` classes alone: the
    likeliest of the clean input.
    """
    if not leaves(problem.goal):
        return _ways_at_start(problem, count)
    if not count < problem.classes - 1:
        return {}
    return {"classes": _likeliest(problem, problem.logits(problem.x0), count)}


def linearised(
    problem: Problem, x: Tensor, memory: dict[str, Tensor]
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Value and gradient of what is to become positive, (batch,) and (batch, ...), and the memory
    for the next step.

    To leave the label: the logit of the wrong class whose hyperplane is nearest in the budget's
    norm, minus that of the label.
    """
    if not leaves(problem.goal) and "ways" in memory:
        return _nearest_way(problem, x, memory)
    if not leaves(problem.goal) or problem.classes == 2:
        return *problem.gradient(x, boundary), memory
    label = ops.expand_dims(problem.goal.labels, 1)  # type: ignore[attr-defined]
    wrong = memory.get("classes")
    if wrong is None:
        wrong = (label + ops.arange(1, problem.classes, dtype="int32")) % problem.classes
    count = int(wrong.shape[1])
    logits, jacobian = problem.jacobian(x, ops.concatenate([label, wrong], axis=1))
    gaps = ops.take_along_axis(logits, wrong, axis=1) - ops.take_along_axis(logits, label, axis=1)
    normals = jacobian[:, 1:] - jacobian[:, :1]
    steepness = problem.budget.dual(ops.reshape(normals, (-1, *x.shape[1:])))
    distance = ops.abs(gaps) / ops.maximum(ops.reshape(steepness, (-1, count)), SMALLEST_STEEPNESS)
    index = ops.cast(ops.expand_dims(ops.argmin(distance, axis=1), 1), "int32")
    normal = ops.take_along_axis(
        ops.reshape(normals, (-1, count, math.prod(x.shape[1:]))), ops.expand_dims(index, 2), axis=1
    )
    if "classes" in memory:
        memory = memory | {"classes": _likeliest(problem, logits, count)}
    return ops.take_along_axis(gaps, index, axis=1)[:, 0], ops.reshape(normal, ops.shape(x)), memory


def _ways_at_start(problem: Problem, count: int) -> dict[str, Tensor]:
    """The memory for a goal with several ways: those that are most promising, ``count`` at most."""
    if not problem.goal.branches(problem.classes):
        return {}
    ways: Any = problem.goal.ways(problem.logits(problem.x0))
    most = min(count, int(ways.shape[1]))
    return {"ways": ops.cast(ops.top_k(ways, most)[1], "int32")}


def _nearest_way(
    problem: Problem, x: Tensor, memory: dict[str, Tensor]
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """The same for a goal with several ways: the one whose hyperplane is nearest."""
    chosen = memory["ways"]
    count = int(chosen.shape[1])

    def values(answer: Any, goal: Goal) -> Tensor:
        return ops.take_along_axis(goal.ways(answer), chosen, axis=1)

    gaps, normals = problem.slopes(x, values)
    steepness = problem.budget.dual(ops.reshape(normals, (-1, *x.shape[1:])))
    distance = ops.abs(gaps) / ops.maximum(ops.reshape(steepness, (-1, count)), SMALLEST_STEEPNESS)
    index = ops.cast(ops.expand_dims(ops.argmin(distance, axis=1), 1), "int32")
    normal = ops.take_along_axis(
        ops.reshape(normals, (-1, count, math.prod(x.shape[1:]))), ops.expand_dims(index, 2), axis=1
    )
    ways = problem.goal.ways(problem.answer)
    memory = memory | {"ways": ops.cast(ops.top_k(ways, count)[1], "int32")}
    return ops.take_along_axis(gaps, index, axis=1)[:, 0], ops.reshape(normal, ops.shape(x)), memory


def _likeliest(problem: Problem, logits: Tensor, count: int) -> Any:
    wrong = others(logits, problem.goal.labels)  # type: ignore[attr-defined]
    return ops.cast(ops.top_k(wrong, count)[1], "int32")
