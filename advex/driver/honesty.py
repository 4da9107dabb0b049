"""Does the model answer honestly: the same answer twice, in any batch, compiled or not?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from keras import ops, tree

from advex import _backend
from advex._arrays import Array
from advex._inputs import Examples
from advex.driver.judging import CHECKED, Judge
from advex.driver.ledger import Jobs, Ledger
from advex.driver.loop import Scene
from advex.driver.plan import Run, Wave
from advex.driver.programs import Programs
from advex.errors import blaming
from advex.goals import Goal
from advex.model.protocol import Model

ALONE = 2  # rows, and successes, that are asked about one by one

STALE = "stale"  # of ``honesty``: what was compiled answers otherwise than the model itself
RANDOM = (
    "The model answers differently to the same input: it is random at inference. Successes"
    " may be luck."
)
NEIGHBOURS = (
    "The model's answer to an input depends on the rest of its batch, or on the place in it."
    " Every input was judged alone; the attack searched in batches, and may have missed"
    " successes."
)
COMPILED = (
    "The compiled model answers differently from the model itself: the search, which is compiled,"
    " may miss successes. Those that are counted were judged by the model itself."
)


def spread(count: int, most: int) -> Array:
    """At most ``most`` of the numbers below ``count``, evenly spread."""
    return np.unique(np.linspace(0, max(0, count - 1), min(count, most)).round().astype("int64"))[
        :count
    ]


def telling(count: int, most: int, size: int) -> Array:
    """The same, with both sides of the border between the first two batches of ``size``: the place
    there may be special.
    """
    if count <= max(most, size):
        return spread(count, most)
    return np.unique(np.concatenate([spread(count, most - 2), [size - 1, size]]))


class Look(NamedTuple):
    """The first look at the inputs, and at the model."""

    judge: Judge
    before: dict[str, Any]
    """What the judge says about the clean inputs."""
    odd: str
    """What is odd about the model: a sentence, or nothing."""
    spent: int
    """Queries of the checks."""


def first_look(
    judge: Judge, classifier: Model, x: Array | Examples, goal: Goal | None, ranked: int
) -> Look:
    """Judge the clean inputs, and whether the model can be trusted with the rest.

    Args:
        judge: a new one.
        classifier: the model.
        x: the inputs.
        goal: what is wanted of them; None: nothing yet.
        ranked: how many wrong classes of each are wanted.
    """
    before = judge(x, goal, ranked)
    if classifier.metered:
        return Look(judge, before, "", 0)
    again, sample = 0, judge.sample
    if classifier.renewed(sample, before["logits"], judge.reading):
        judge, again = judge.renewed(classifier), len(x)
        before = judge(x, goal, ranked)
    some = telling(len(x), CHECKED, judge.size(len(x)))
    odd, spent = honesty(
        classifier, judge, x[some], before["logits"][some], whole=len(some) == len(x)
    )
    spent += again
    if odd == NEIGHBOURS:
        judge.singly, spent = True, spent + len(x)
        before = judge(x, goal, ranked)
    if not odd and not _backend.RAGGED:
        old, more = stale(classifier, judge, x[some], before["logits"][some])
        odd, spent = STALE if old else "", spent + more
    # The model has been changed since it was compiled; or compilation changes its answer.
    if odd == STALE:
        classifier.forget()
        spent += judge.spent
        judge = judge.renewed(classifier)
        before = judge(x, goal, ranked)
        old, more = stale(classifier, judge, x[some], before["logits"][some])
        odd, spent = COMPILED if old else "", spent + more + len(x)
    spent += judge.forward.fold(
        tree.map_structure(ops.convert_to_tensor, sample), before["logits"][:CHECKED]
    )
    return Look(judge, before, odd, spent)


def honesty(
    classifier: Model, judge: Judge, x: Array | Examples, together: Array, whole: bool
) -> tuple[str, int]:
    """Does the model answer alike twice, alone, and in another place with other neighbours?

    Where a compiled function takes any number of rows, most of it is asked of that, which is
    quicker, and tells at the same time whether the function is stale. Only what then looks odd is
    asked of the model itself.

    Args:
        classifier: the model.
        judge: as it has judged so far.
        x: a few inputs.
        together: the logits that it has for them, from a batch with others.
        whole: whether there are no other inputs: then only parts of them are other company.

    Returns:
        What is wrong, a sentence or nothing (``STALE`` is no sentence); queries spent.
    """
    every, few = np.arange(len(x)), spread(len(x), ALONE + 1)[-ALONE:]
    halves = [every[1::2][::-1], every[::2][::-1]]

    def odd(ask: Callable[[Any], Array]) -> bool:
        elsewhere = np.empty_like(together)
        for others in halves if whole else [np.concatenate(halves)]:
            if len(others):
                elsewhere[others] = ask(x[others])
        alone = np.concatenate([ask(x[row : row + 1]) for row in few])
        return judge.differs(elsewhere, together) or judge.differs(alone, together[few])

    def itself(part: Array | Examples) -> Array:
        return judge.alone(part) if len(part) == 1 else judge.logits(part)

    spent = len(x) + len(few)
    if judge.traces and _backend.RAGGED:
        middle = few[len(few) // 2 :][:1]
        spent += 1
        if not (
            odd(lambda part: judge.compiled_logits(classifier, part))
            or judge.differs(itself(x[middle]), together[middle])
        ):
            return "", spent
        spent += len(x) + len(few)
        if not odd(itself):
            return STALE, spent
    elif not odd(itself):
        return "", spent
    random = judge.differs(judge.logits(x), judge.logits(x))
    return RANDOM if random else NEIGHBOURS, spent + 2 * len(x)


def alike(
    classifier: Model, judge: Judge, x: Array | Examples, together: Array
) -> tuple[bool, int]:
    """Whether a few more inputs are answered alone as they were ``together`` with others; queries
    spent.
    """
    few = telling(len(x), ALONE, judge.size(len(x)))
    if judge.traces and _backend.RAGGED:  # quicker; the model itself has the last word
        quick = np.concatenate([judge.compiled_logits(classifier, x[row : row + 1]) for row in few])
        if not judge.differs(quick, together[few]):
            return True, len(few)
        return not judge.differs(judge.alone(x[few]), together[few]), 2 * len(few)
    return not judge.differs(judge.alone(x[few]), together[few]), len(few)


def stale(classifier: Model, judge: Judge, x: Array | Examples, true: Array) -> tuple[bool, int]:
    """Does what was compiled for the model answer otherwise than the model itself, whose logits are
    ``true``? Queries spent.
    """
    if not judge.traces:
        return False, 0
    return judge.differs(judge.compiled_logits(classifier, x), true), len(x)


def unseeded(waves: list[Wave], programs: Programs, scene: Scene) -> list[str]:
    """Sentences about transforms that draw random numbers of their own: asked twice for the same,
    they answer differently.
    """
    said = []
    attacks = [run.attack for wave in waves for run in wave.runs]
    transforms = {
        id(one): one for attack in attacks for one in getattr(attack, "transforms", None) or ()
    }
    few = scene.first(CHECKED)
    for transform in transforms.values():
        run = Run(waves[0].attack)
        jobs = Jobs(np.arange(len(few.x)), np.zeros(len(few.x), "int64"))
        ledger = Ledger(few.x, scene.aim, lambda points, _: points)
        rows = few.rows(Wave((run,)), jobs, len(few.x), ledger)
        looks = []
        for _ in range(2):
            problem = programs.problem(run.attack, rows)
            with blaming("transforms"):
                shown = ops.convert_to_tensor(transform(problem, problem.x0))
                looks.append(_backend.to_numpy(shown))
        if not np.array_equal(looks[0], looks[1], equal_nan=True):
            name = getattr(transform, "__name__", type(transform).__name__)
            said.append(
                f"The transform {name} draws random numbers of its own: the same seed does not give"
                " the same result. Let it draw from problem.uniform, as in lambda problem, x: x *"
                " problem.uniform((1, 1, 1))."
            )
    return said
