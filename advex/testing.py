"""Models with known answers, and ``check_attack``: does an attack keep its contract?"""

from __future__ import annotations

import itertools
import pickle
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from typing import Any

import keras
import numpy as np
from keras import ops

from advex import _backend
from advex._arrays import Array
from advex._grid import Grid
from advex._settings import shown
from advex.attacks.base import Attack
from advex.attacks.call import checked_call
from advex.budgets import L0, L1, L2, Budget, Linf
from advex.classifier import Classifier
from advex.driver.judging import CHECKED
from advex.driver.loop import Scene, Seen, by_hand
from advex.driver.plan import Run, Wave
from advex.driver.programs import Programs
from advex.errors import AdvexWarning, InvalidInput, InvalidType
from advex.goals import Targeted, Untargeted
from advex.result import Result

__all__ = [
    "check_attack",
    "linear_data",
    "linear_extreme",
    "linear_model",
    "small_network",
    "stepwise",
    "walk",
]

FEATURES = 12


def linear_model(weights: Any = None, bias: Any = None, head: str = "logits") -> keras.Model:
    """A linear classifier on (n, features): logits = x @ weights + bias, whose adversarial optima
    are formulas.

    Args:
        weights: shape (features, classes); by default a fixed choice for 12 features and two
            classes.
        bias: shape (classes,); default 0, or for the default weights the middle of the box on the
            boundary.
        head: ``"logits"``, ``"softmax"``, or ``"sigmoid"`` (two classes in one unit).

    Returns:
        A built, uncompiled ``keras.Sequential``.

    Example:
        >>> linear_model([[1.0, -1.0], [0.0, 2.0]]).output_shape
        (None, 2)
    """
    if weights is None:
        direction = np.sin(np.arange(1, FEATURES + 1)).astype("float32")
        weights = np.stack([-direction, direction], axis=1)
        bias = -weights.sum(axis=0) / 2 if bias is None else bias
    weights = np.asarray(weights, "float32")
    bias = np.zeros(weights.shape[1], "float32") if bias is None else np.asarray(bias, "float32")
    if head == "sigmoid":
        weights, bias = weights[:, 1:] - weights[:, :1], bias[1:] - bias[:1]
    activation = {"logits": "linear", "softmax": "softmax", "sigmoid": "sigmoid"}[head]
    dense = keras.layers.Dense(weights.shape[1], activation=activation)
    model = keras.Sequential([keras.Input((weights.shape[0],)), dense])
    dense.set_weights([weights, bias])
    return model


def linear_data(
    count: int = 32, features: int = FEATURES, seed: int = 0, model: keras.Model | None = None
) -> tuple[Array, Array]:
    """Random inputs in [0, 1], float32, and the classes that ``linear_model()`` (or ``model``)
    gives to them.

    Example:
        >>> x, labels = linear_data(4)
        >>> x.shape, labels.shape
        ((4, 12), (4,))
    """
    x = np.random.default_rng(seed).uniform(size=(count, features)).astype("float32")
    layer = (model or linear_model()).layers[-1]
    weights, bias = (np.asarray(values, "float64") for values in layer.get_weights())
    return x, (x @ weights + bias).argmax(axis=1)


def linear_extreme(
    gradient: Any, x0: Any, budget: Budget, box: tuple[float, float] = (0.0, 1.0)
) -> float:
    """The largest value of ``gradient . (x - x0)`` over budget and box, in float64, for one
    example.

    On a two-class linear model with ``gradient = w_other - w_label`` an input can be broken exactly
    where its margin plus this number is above zero. Written independently of ``Budget.extreme``,
    element by element.

    Args:
        gradient: shape (features,).
        x0: shape (features,).
        budget: a limited ``Linf``, ``L2``, ``L1`` or ``L0``.
        box: the box; epsilon is in units of its range.

    Example:
        >>> linear_extreme([3.0, -4.0], [0.5, 0.5], L2(0.5))
        2.5
    """
    g, start = np.asarray(gradient, "float64").ravel(), np.asarray(x0, "float64").ravel()
    span = box[1] - box[0]
    room = np.where(g > 0, box[1] - start, start - box[0])
    g = np.abs(g)
    if isinstance(budget, Linf):
        return float(np.sum(g * np.minimum(room, budget.epsilon * span)))
    if isinstance(budget, L0):
        return float(np.sum(np.sort(g * room)[::-1][: int(budget.epsilon)]))
    left = budget.epsilon * span
    if isinstance(budget, L1):
        gain = 0.0
        for index in np.argsort(-g, kind="stable"):
            spent = min(left, room[index])
            gain, left = gain + g[index] * spent, left - spent
        return float(gain)
    if not isinstance(budget, L2):
        raise InvalidInput(f"no formula for {budget!r}")
    # min(s g, room) has length epsilon: the elements that saturate first are those with the
    # smallest room / g.
    with np.errstate(divide="ignore", invalid="ignore"):
        order = np.argsort(np.where(g > 0, room / g, np.inf))
    saturated = 0.0
    for place, index in enumerate(order):
        free = order[place:]
        slope = np.sum(g[free] ** 2)
        if slope == 0 or saturated >= left**2:
            break
        s = np.sqrt((left**2 - saturated) / slope)
        if s * g[index] <= room[index]:
            moved = room.copy()
            moved[free] = s * g[free]
            return float(np.sum(g * np.where(g > 0, moved, 0)))
        saturated += room[index] ** 2
    return float(np.sum(g * room))


def small_network(
    shape: tuple[int, ...] = (6, 6, 3), classes: int = 4, seed: int = 0
) -> keras.Model:
    """A small smooth convolutional network with fixed random weights, for tests: (n, height, width,
    channels) -> logits.

    Example:
        >>> small_network().output_shape
        (None, 4)
    """
    generator = np.random.default_rng(seed)
    layers = [
        keras.layers.Conv2D(8, 3, padding="same", activation="tanh"),
        keras.layers.Flatten(),
        keras.layers.Dense(classes),
    ]
    model = keras.Sequential([keras.Input(shape), *layers])
    for layer in model.layers:
        values = [
            generator.normal(size=w.shape) * (2.0 / max(1, np.prod(w.shape[:-1]))) ** 0.5
            for w in layer.get_weights()
        ]
        layer.set_weights([value.astype("float32") for value in values])
    # No class is favoured: the mean logits of random inputs are taken off.
    sample = ops.convert_to_tensor(generator.uniform(size=(64, *shape)).astype("float32"))
    logits = np.asarray(_backend.to_numpy(model(sample, training=False)))
    kernel, bias = layers[-1].get_weights()
    layers[-1].set_weights([kernel, bias - logits.mean(axis=0)])
    return model


class _BrokenPromiseError(AssertionError):
    """A promise that an attack broke."""


def _demand(holds: Any, promise: str) -> None:
    if not holds:
        raise _BrokenPromiseError(promise)


def inside(x: Array, x0: Array, budget: Budget, box: tuple[float, float] = (0.0, 1.0)) -> bool:
    """Whether every row of ``x`` is inside budget and box, in rational arithmetic against the
    epsilon that was typed.
    """
    for row, row0 in zip(x.reshape(len(x), -1), x0.reshape(len(x0), -1), strict=True):
        if x.dtype == np.uint8:
            delta = [Fraction(abs(int(a) - int(b))) for a, b in zip(row, row0, strict=True)]
            limit = (
                Fraction(budget.epsilon)
                * (255 if budget.homogeneous else 1)
                * (1 + Fraction(1, 2**52))
            )
        else:
            kind = np.float32 if x.dtype == np.float64 else x.dtype
            low, high = (float(np.asarray(end, kind)) for end in box)
            if not all(low <= float(a) <= high for a in row):
                return False
            delta = [
                abs(Fraction(float(a)) - Fraction(float(np.asarray(b, kind))))
                for a, b in zip(row, row0, strict=True)
            ]
            limit = Fraction(budget.epsilon) * (
                Fraction(box[1]) - Fraction(box[0]) if budget.homogeneous else 1
            )
        if isinstance(budget, Linf):
            fits = max(delta, default=Fraction(0)) <= limit
        elif isinstance(budget, L2):
            fits = sum((d * d for d in delta), Fraction(0)) <= limit * limit
        elif isinstance(budget, L1):
            fits = sum(delta, Fraction(0)) <= limit
        else:
            fits = sum(d != 0 for d in delta) <= limit
        if not fits:
            return False
    return True


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


def walk(
    attack: Any, model: keras.Model | Classifier, x: Any, goal: Any, budget: Budget, seed: int = 0
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
        >>> x, labels = linear_data(4)
        >>> len(walk(advex.BIM(steps=5), linear_model(), x, labels, advex.Linf(0.1)).points)
        6
    """
    run, call = _one_run(attack), _checked(attack, model, x, goal, budget, seed)
    seen = list(by_hand(run, *call))
    return Walk([each.points for each in seen], seen[-1].found)


def stepwise(
    attack: Any, model: keras.Model | Classifier, x: Any, goal: Any, budget: Budget, seed: int = 0
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
        >>> x, labels = linear_data(4)
        >>> seen = stepwise(advex.BIM(steps=3), linear_model(), x, labels, advex.Linf(0.1))
        >>> [bool(each.found.any()) for each in seen]
        [False, True, True, True]
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
    classifier, x = call.classifier, call.x
    if not len(x) or not classifier.symbolic:
        raise InvalidInput(
            f"walk needs a model and at least one input; received {classifier!r} and {len(x)}"
            f" inputs"
        )
    grid = Grid(x.dtype, classifier.box)
    forward = classifier.forward(grid.working(x[:CHECKED]))
    made = call.goal
    if made is None:
        logits = _backend.to_numpy(forward(ops.convert_to_tensor(grid.working(x))))
        made = Untargeted(logits.argmax(axis=1))
    made = made.check(len(x), forward.classes).of(forward.independent)
    programs = Programs(classifier, forward, grid, made, call.budget)
    return programs, Scene(grid, x, made, call.budget, call.seed)


@dataclass(frozen=True)
class Walk:
    """The points of an attack, ``init`` first, and the rows that had a success at any of them."""

    points: list[Array]
    found: Array


def check_attack(attack: Any, budgets: tuple[Budget, ...] | None = None, seed: int = 0) -> None:
    """Put an attack through the contract that every attack of advex keeps.

    Checks: budget and box, exactly, for float32, float64 and uint8; dtype and shape; epsilon 0;
    success judged on the returned array; an input that is wrong already; the last point is looked
    at; the same result for every batch size, order and subset and for the same seed; nothing
    touched, also after an exception; pickling; repr.

    Args:
        attack: an instance, with its settings.
        budgets: the budgets to try; default one of each norm that the attack accepts.
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
    walked = walk(inner, model, x, Untargeted(labels), budget, seed=0) if not first.steps else None
    result = attack(model, x, labels, budget)
    _demand(
        result.success.any(),
        f"{attack!r}: some of {len(x)} inputs of a linear model are broken within {budget!r}",
    )
    if walked is None:  # a part of an attack, which never runs alone
        return
    moved = np.abs(walked.points[-1] - walked.points[-2]).max()
    # by itself, as soon as the boundary is crossed, for instance
    stops = type(inner).done is not Attack.done
    _demand(moved > 0 or (stops and walked.found.all()), f"{attack!r}: the last step moves")
    same = attack.plan() == [Wave((Run(attack),))] and inner == attack
    _demand(
        not same or (result.success == walked.found).all(), f"{attack!r}: the last point is judged"
    )


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
