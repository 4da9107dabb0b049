"""An attack by hand: all rows, one step after the other, nothing compiled."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops, tree

from advex import _backend
from advex._arrays import Array
from advex._settings import shown
from advex._space import grid_of, scale_of
from advex.attacks.base import Attack
from advex.attacks.call import checked_call
from advex.budgets import Budget
from advex.driver.judging import CHECKED
from advex.driver.loop import Scene, Seen, by_hand
from advex.driver.plan import Run
from advex.driver.programs import Programs
from advex.errors import InvalidInput, InvalidType
from advex.goals import Untargeted
from advex.model.protocol import Model


def walk(
    attack: Any, model: keras.Model | Model, x: Any, goal: Any, budget: Budget, seed: int = 0
) -> Walk:
    """The attack by a plain loop: all rows to the last step, nothing leaves, nothing is compiled.

    What the driver must agree with, and a way to look at an attack step by step.

    Args:
        attack: one that is a single run (not ``Restarts``).
        model: as in a call of the attack.
        x: as in a call of the attack, at least one.
        goal: true labels (n,), a ``Goal``, or None: the model's own predictions are left.
        budget: as in a call of the attack.
        seed: as in a call of the attack.

    Returns:
        A ``Walk``: the points after ``init`` and after every step, and which rows had a success.

    Raises:
        InvalidInput, InvalidType, GradientUnavailable: as in a call of the attack.

    Example:
        >>> import advex
        >>> model, (x, labels) = advex.testing.linear_model(), advex.testing.linear_data(4)
        >>> len(walk(advex.BIM(steps=5), model, x, labels, advex.Linf(0.1)).points)
        6
    """
    run, call = _one_run(attack), _checked(attack, model, x, goal, budget, seed)
    seen = list(by_hand(run, *call))
    return Walk([each.points for each in seen], seen[-1].found)


def stepwise(
    attack: Any, model: keras.Model | Model, x: Any, goal: Any, budget: Budget, seed: int = 0
) -> Iterator[Seen]:
    """The same step by step: after ``init``, and after every step, the points so far.

    Args:
        attack: as for ``walk``.
        model: as for ``walk``.
        x: as for ``walk``.
        goal: as for ``walk``.
        budget: as for ``walk``.
        seed: as for ``walk``.

    Yields:
        ``Seen``: ``points``, (n, ...) in the model's units, ``found``, (n,) of bool, and ``rows``,
        all that the driver holds of a batch, with ``memory`` and ``gradients`` among it.

    Raises:
        InvalidInput, InvalidType, GradientUnavailable: as in a call of the attack.

    Example:
        >>> import advex
        >>> model, (x, labels) = advex.testing.linear_model(), advex.testing.linear_data(4)
        >>> seen = stepwise(advex.BIM(steps=3), model, x, labels, advex.Linf(0.1))
        >>> [each.points.shape for each in seen]
        [(4, 12), (4, 12), (4, 12), (4, 12)]
    """
    return by_hand(_one_run(attack), *_checked(attack, model, x, goal, budget, seed))


def _one_run(attack: Any) -> Run:
    """The only run of an attack, or of what a wrapper makes of one."""
    if isinstance(attack, Attack):
        runs = [run for wave in attack.plan() for run in wave.runs]
        if len(runs) == 1:
            return runs[0]
        raise InvalidInput(
            f"walk needs an attack of a single run; received {attack!r}, which has {len(runs)}:"
            " attack.plan()[0].attack"
        )
    if not hasattr(type(attack), "step"):  # what a wrapper makes of an attack is no Attack
        raise InvalidType(f"walk needs an attack, such as advex.PGD(); received {shown(attack)}")
    return Run(attack)


def _checked(
    attack: Any, model: Any, x: Any, goal: Any, budget: Any, seed: int
) -> tuple[Programs, Scene]:
    call = checked_call(attack, model, x, goal, budget, seed)
    classifier, x, given = call.classifier, call.x, call.examples
    if not len(x) or not classifier.differentiable:
        raise InvalidInput(
            f"walk needs a model and at least one input; received {classifier!r} and {len(x)}"
            f" inputs"
        )
    grid = grid_of(classifier, given, call.budget)
    made = call.goal
    reading = "scores" if made is None else made.reading
    forward = classifier.forward(grid.entered(given[:CHECKED]), reading)
    if made is None or made.open:
        answer = forward(tree.map_structure(ops.convert_to_tensor, grid.entered(given)))
        answer = tree.map_structure(_backend.to_numpy, answer)
        made = Untargeted(answer.argmax(axis=1)) if made is None else made.closed(answer)
    made = made.check(len(x), forward.classes).of(forward.head)
    programs = Programs(classifier, forward, grid, made, call.budget)
    scale = scale_of(call.budget, x)
    return programs, Scene(
        grid,
        x,
        made,
        call.budget,
        call.seed,
        mask=call.mask,
        given=call.given,
        scale=scale,
    )


@dataclass(frozen=True)
class Walk:
    """The points of an attack, ``init`` first, and the rows that had a success at any of them."""

    points: list[Array]
    found: Array
