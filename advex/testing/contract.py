"""``check_attack``: does an attack keep its contract?"""

from __future__ import annotations

import itertools
import pickle
import warnings
from dataclasses import dataclass, fields, replace
from typing import Any

import keras
import numpy as np
from keras import ops

from advex import _backend
from advex._arrays import Array
from advex._settings import shown
from advex.attacks.base import Attack
from advex.budgets import L0, L1, L2, Budget, Linf
from advex.driver.plan import Run, Wave
from advex.errors import AdvexWarning, InvalidInput, InvalidType
from advex.goals import Targeted, Untargeted
from advex.model.classifier import Classifier
from advex.result import Result
from advex.testing.exact import inside
from advex.testing.models import linear_data, linear_model, small_network
from advex.testing.walk import walk


class _BrokenPromiseError(AssertionError):
    """A promise that an attack broke."""


def _demand(holds: Any, promise: str) -> None:
    if not holds:
        raise _BrokenPromiseError(promise)


def _snapshot(model: keras.Model) -> list[bytes]:
    values = [np.asarray(w).tobytes() for w in model.get_weights()]
    return [*values, repr([w.trainable for w in model.weights]).encode()]


@dataclass(frozen=True)
class _Unscaled:
    """Preprocessing from a box back to [0, 1]."""

    low: float
    span: Any

    def __call__(self, x: Any) -> Any:
        return (x - self.low) / self.span


class _SpoiledError(Exception):
    """Raised by a progress function on purpose."""


def check_attack(attack: Any, budgets: tuple[Budget, ...] | None = None, seed: int = 0) -> None:
    """Put an attack through the contract that every attack of advex keeps.

    When to use it:
        In the tests of an attack of your own.

    Checks: budget and box, exactly, for float32, float64 and uint8; dtype and shape; epsilon 0;
    success judged on the returned array; an input that is wrong already; the last point is looked
    at; the same result for every batch size, order and subset and for the same seed; nothing
    touched, also after an exception; pickling; repr.

    Args:
        attack: an instance, with its settings.
        budgets: the budgets to try. None: one of each norm that the attack accepts.
        seed: of the data and the attack.

    Raises:
        AssertionError: with the promise that was broken.

    Example:
        >>> import advex
        >>> check_attack(advex.FGSM())
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AdvexWarning)
        if not isinstance(attack, Attack):
            raise InvalidType(
                f"check_attack needs an attack, such as advex.PGD(); received {shown(attack)}"
            )
        everything: tuple[Budget, ...] = (Linf(0.02), L2(0.15), L1(0.7), L0(2))
        _check(
            attack,
            budgets or tuple(budget for budget in everything if _accepts(attack, budget)),
            seed,
        )


def _accepts(attack: Attack, budget: Budget) -> bool:
    try:
        attack.check(None, budget)
    except InvalidInput:
        return False
    return True


def _check(attack: Attack, budgets: tuple[Budget, ...], seed: int) -> None:
    try:
        copied = pickle.loads(pickle.dumps(attack))  # noqa: S301
    except (pickle.PicklingError, AttributeError) as problem:
        raise _BrokenPromiseError(
            f"an attack can be pickled, so its class can be imported: {problem}"
        ) from None
    _demand(copied == attack, "an attack is equal to its pickled copy")
    _demand(
        type(attack).__name__ in repr(attack) and " at 0x" not in repr(attack),
        "repr names the class and hides addresses",
    )
    model = small_network(seed=seed)
    x = np.random.default_rng(seed).uniform(size=(12, 6, 6, 3)).astype("float32")
    x[0] = x[1]  # equal rows
    x[2, :2] = 0.0
    x[3, :2] = 1.0
    labels = _predictions(model, x)
    labels[5] = (labels[5] + 1) % 4  # wrong already
    for budget in budgets:
        _one_budget(attack, model, x, labels, budget, seed)
    _targets(attack, model, x, budgets[0], seed)
    _boxes(attack, x, budgets[0], seed)
    _last_point(attack, budgets)
    _untouched(attack, model, x, labels, budgets[0], seed)


def _predictions(model: keras.Model, x: Array) -> Array:
    return np.asarray(_backend.to_numpy(model(ops.convert_to_tensor(x), training=False))).argmax(
        axis=1
    )


def _honest(result: Result, x: Array, labels: Array, budget: Budget, what: str) -> None:
    _demand(
        result.x.dtype == x.dtype and result.x.shape == x.shape, f"{what}: x keeps dtype and shape"
    )
    _demand(np.isfinite(result.x.astype("float64")).all(), f"{what}: x is finite")
    _demand(inside(result.x, x, budget), f"{what}: every row is inside budget and box")
    failed = ~result.success
    _demand(
        (result.x[failed] == x[failed]).all(),
        f"{what}: the original is returned where the attack failed",
    )
    _demand(
        np.isinf(result.distance[failed]).all(), f"{what}: distance is inf where the attack failed"
    )
    _demand(
        (result.distance[result.success] <= budget.epsilon).all(),
        f"{what}: distance is within epsilon",
    )
    working = (
        result.x.astype("float32") / np.float32(255)
        if x.dtype == np.uint8
        else result.x.astype("float32")
    )
    again = _predictions(result.classifier.model, working)
    _demand((again == result.prediction).all(), f"{what}: prediction is that of the returned row")
    _demand(
        ((again != labels) >= result.success).all(), f"{what}: success holds for the returned row"
    )
    _demand(
        (result.gradients >= 0).all() and (result.queries >= 1).all(), f"{what}: costs are counted"
    )


def _same(one: Result, other: Result, what: str) -> None:
    _demand((one.success == other.success).all(), f"{what}: the same verdicts")
    scale = 255 if one.x.dtype == np.uint8 else 1
    near = (
        np.abs(one.x.astype("float64") - other.x.astype("float64")).max(initial=0) <= 1e-5 * scale
    )
    _demand(near, f"{what}: the same points to 1e-5")


def _one_budget(
    attack: Attack, model: keras.Model, x: Array, labels: Array, budget: Budget, seed: int
) -> None:
    what = f"{attack!r} within {budget!r}"
    whole = attack(model, x, labels, budget, seed=seed, progress=False)
    _honest(whole, x, labels, budget, what)
    _demand(
        whole.success[5] and whole.distance[5] == 0 and (whole.x[5] == x[5]).all(),
        f"{what}: wrong already = distance 0",
    )
    _same(whole, attack(model, x, labels, budget, seed=seed, progress=False), f"{what}, run twice")
    _demand(
        (whole.x[0] == whole.x[1]).all() or labels[0] != labels[1], f"{what}: equal rows fare alike"
    )
    for size in (1, 5):
        _same(
            whole,
            attack(model, x, labels, budget, seed=seed, batch_size=size),
            f"{what}, batches of {size}",
        )
    order = np.random.default_rng(seed).permutation(len(x))[:7]
    part = attack(model, x[order], labels[order], budget, seed=seed)
    _demand(
        (part.success == whole.success[order]).all(),
        f"{what}: a permuted subset gets the same verdicts",
    )
    _demand(
        np.abs(part.x - whole.x[order]).max() <= 1e-5,
        f"{what}: a permuted subset gets the same points",
    )
    wide = x.astype("float64")
    _honest(
        attack(model, wide, labels, budget, seed=seed), wide, labels, budget, f"{what}, float64"
    )
    levels = np.round(x * 255).astype("uint8")
    _honest(
        attack(model, levels, labels, budget, seed=seed), levels, labels, budget, f"{what}, uint8"
    )
    nothing = type(budget)(0)
    for values in (x, levels):
        still = attack(model, values, labels, nothing, seed=seed)
        _demand(
            still.x.tobytes() == values.tobytes(),
            f"{what}: epsilon 0 returns the input, bit for bit",
        )
    empty = attack(model, x[:0], labels[:0], budget, seed=seed)
    _demand(
        empty.x.shape == (0, *x.shape[1:]) and len(empty) == 0, f"{what}: no inputs, no outputs"
    )


def _targets(attack: Attack, model: keras.Model, x: Array, budget: Budget, seed: int) -> None:
    goal = Targeted((_predictions(model, x) + 1) % 4)
    try:
        attack.check(goal, budget)
    except InvalidInput:
        return
    result = attack(model, x, goal, budget, seed=seed)
    what = f"{attack!r}, targeted"
    again = _predictions(model, result.x)
    _demand(
        (again[result.success] == goal.labels[result.success]).all(),
        f"{what}: success is the target",
    )
    _demand(inside(result.x, x, budget), f"{what}: every row is inside budget and box")


def _boxes(attack: Attack, x: Array, budget: Budget, seed: int) -> None:
    """The same problem in another box has the same verdicts."""
    for low, high in ((-1.0, 1.0), (0.0, 255.0)):
        span = np.float32(high - low)
        model = small_network(seed=seed)
        other = Classifier(model, box=(low, high), preprocess=_Unscaled(low, span))
        scaled = np.clip(low + x * span, low, high).astype("float32")
        labels = _predictions(model, (scaled - np.float32(low)) / span)
        result = attack(other, scaled, labels, budget, seed=seed)
        _demand(
            inside(result.x, scaled, budget, (low, high)),
            f"{attack!r}: inside budget and box ({low:g}, {high:g})",
        )


def _last_point(attack: Attack, budgets: tuple[Budget, ...]) -> None:
    """Every step moves, the last one too, and the attack breaks what is easy to break."""
    model, (x, labels) = linear_model(), linear_data(16)
    wide = {Linf: Linf(0.45), L2: L2(1.5), L1: L1(4.0), L0: L0(8)}
    budget = next((wide[type(budget)] for budget in budgets if type(budget) in wide), None)
    if budget is None:
        return
    first = attack.plan()[0].runs[0]
    inner: Any = first.attack
    if "steps" in {field.name for field in fields(inner)}:
        inner = replace(inner, steps=2 + inner.steps - inner.rounds)
    walked = None  # a part of an attack never runs alone
    if not first.steps and inner.query_limit is None:
        walked = walk(inner, model, x, Untargeted(labels), budget, seed=0)
        moved = np.abs(walked.points[-1] - walked.points[-2]).max()
        # by itself, as soon as the boundary is crossed, for instance
        stops = type(inner).done is not Attack.done
        _demand(moved > 0 or (stops and walked.found.all()), f"{attack!r}: the last step moves")
    result = attack(model, x, labels, budget)
    _demand(
        result.success.any(),
        f"{attack!r}: some of {len(x)} inputs of a linear model are broken within {budget!r}",
    )
    alone = attack.plan() == [Wave((Run(attack),))] and inner == attack
    if walked is not None and alone:
        same = (result.success == walked.found).all()
        _demand(same, f"{attack!r}: the last point is judged")


def _untouched(
    attack: Attack, model: keras.Model, x: Array, labels: Array, budget: Budget, seed: int
) -> None:
    frozen_x, frozen_labels, weights = x.tobytes(), labels.tobytes(), _snapshot(model)
    random_state, policy = np.random.get_state()[1].tobytes(), keras.config.dtype_policy().name  # type: ignore[index]  # noqa: NPY002

    def intact() -> bool:
        now = np.random.get_state()[1].tobytes()  # type: ignore[index]  # noqa: NPY002
        return (
            x.tobytes() == frozen_x
            and labels.tobytes() == frozen_labels
            and _snapshot(model) == weights
            and now == random_state
            and keras.config.dtype_policy().name == policy
        )

    calls = itertools.count()

    def spoil(done: int, total: int, _: int) -> None:
        if next(calls) == 1 or done == total:
            raise _SpoiledError

    attack(model, x, labels, budget, seed=seed)
    _demand(
        intact(), f"{attack!r}: inputs, labels, weights, random state and policy are as they were"
    )
    try:
        attack(model, x, Untargeted(labels), budget, seed=seed, progress=spoil)
    except _SpoiledError:
        pass
    else:
        raise _BrokenPromiseError(f"{attack!r}: an exception from progress passes through")
    _demand(intact(), f"{attack!r}: everything is as it was after an exception")
