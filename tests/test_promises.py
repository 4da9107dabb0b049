"""The promises: a success is true, a budget holds, costs are counted, nothing is touched, an attack
cannot lie.
"""

import itertools
import random
import warnings
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

import advex
from advex._grid import Grid
from advex.errors import AttackError, ModelWarning
from advex.testing import linear_data, linear_model, small_network
from advex.testing.exact import inside

BACKEND = keras.backend.backend()
backends = pytest.mark.backends


def network(seed=0):
    return small_network(seed=seed)


def pictures(count=10, seed=0, shape=(6, 6, 3)):
    return np.random.default_rng(seed).uniform(size=(count, *shape)).astype("float32")


def answers(model, x):
    return ops.convert_to_numpy(
        model(ops.convert_to_tensor(np.asarray(x, "float32")), training=False)
    )


def demand_true(result, model, x, labels, box=(0.0, 1.0)):
    """What every result keeps, judged without advex: one row at a time, by the model itself."""
    assert result.x.dtype == x.dtype
    assert result.x.shape == x.shape
    working = result.x / np.float32(255) if x.dtype == np.uint8 else result.x
    alone = np.concatenate(
        [answers(model, working[row : row + 1]) for row in range(len(x))]
    ).argmax(1)
    assert (alone == result.prediction).all()
    assert not (result.success & (alone == labels)).any()
    assert (result.x[~result.success] == x[~result.success]).all()
    if result.budget.limited:
        assert inside(result.x, x, result.budget, box)
        assert (result.distance[result.success] <= result.budget.epsilon).all()


# Costs


class Counter(layers.Layer):
    """Counts examples that pass forwards and backwards."""

    def __init__(self):
        import tensorflow as tf

        super().__init__()
        self.forward, self.backward = tf.Variable(0), tf.Variable(0)

    def call(self, x):
        import tensorflow as tf

        @tf.custom_gradient
        def counted(x):
            def gradient(upstream):
                with tf.control_dependencies([self.backward.assign_add(tf.shape(upstream)[0])]):
                    return tf.identity(upstream)

            return tf.identity(x), gradient

        with tf.control_dependencies([self.forward.assign_add(tf.shape(x)[0])]):
            return counted(tf.identity(x))


@dataclass(frozen=True, kw_only=True)
class Curious(advex.Attack):
    """Looks twice at each step."""

    steps: int = 4

    def init(self, problem):
        problem.margin(problem.x0)
        return problem.x0, ()

    def step(self, problem, x, memory):
        _, gradient = problem.gradient(x, advex.losses.margin)
        ahead = problem.move(x, gradient, 0.1)
        problem.logits(ahead)
        _, gradient = problem.gradient(ahead, advex.losses.cross_entropy)
        return problem.move(ahead, gradient, 0.2), memory


@pytest.mark.skipif(BACKEND != "tensorflow", reason="the wrapper that counts is TensorFlow code")
@pytest.mark.parametrize(
    "attack",
    [
        advex.FGSM(),
        advex.PGD(steps=6),
        advex.NesterovIterative(steps=5),
        advex.Restarts(advex.PGD(steps=3), 3),
        Curious(),
    ],
    ids=lambda attack: type(attack).__name__,
)
@pytest.mark.parametrize(
    ("top", "batch"), [(None, 4), (layers.Softmax, None)], ids=["logits, 4", "softmax, all"]
)
def test_costs_are_those_of_an_independent_counter(attack, top, batch):
    counter = Counter()
    model = keras.Sequential(
        [keras.Input((6, 6, 3)), counter, *network().layers, *([top()] if top else [])]
    )
    x = pictures(11)
    for budget in (advex.Linf(0.03), advex.Linf(0.1)):
        counter.forward.assign(0)
        counter.backward.assign(0)
        result = attack(model, x, None, budget, batch_size=batch)
        assert int(counter.backward) == result.gradients.sum()
        assert int(counter.forward) == result.queries.sum() + result.info["checks"]["queries"]
        assert result.success.any() or budget.epsilon < 0.1
        assert (result.queries >= result.gradients).all()


@backends
def test_costs_of_a_row_do_not_depend_on_its_neighbours():
    # No gradient of this model is near 0, where another batch size or processor could turn a step
    # along signs round.
    model, (x, _) = linear_model(), linear_data(9)
    attack = advex.PGD(steps=6)
    whole = attack(model, x, None, advex.Linf(0.1))
    assert len(set(whole.gradients)) > 2
    for row in range(0, 9, 4):
        alone = attack(model, x[row : row + 1], None, advex.Linf(0.1))
        assert alone.gradients[0] == whole.gradients[row]
        assert alone.queries[0] == whole.queries[row]
        assert alone.success[0] == whole.success[row]
        np.testing.assert_allclose(alone.x[0], whole.x[row], atol=1e-5)


# NaN, interruptions, and everything left as it was


class Trap(layers.Layer):
    """NaN once the mean of an example has moved far enough."""

    def call(self, x):
        mean = ops.mean(x, axis=(1, 2, 3), keepdims=True)
        return ops.where(ops.abs(mean - 0.5) > 0.1, np.nan, x)


@backends
def test_nan_during_the_search_is_no_success_and_said():
    x = pictures(8)
    x[:4] = np.clip(x[:4] - x[:4].mean(axis=(1, 2, 3), keepdims=True) + 0.595, 0, 1)
    model = keras.Sequential([keras.Input((6, 6, 3)), Trap(), *network().layers])
    with pytest.warns(ModelWarning, match="NaN during the search"):
        result = Drift()(model, x, None, advex.Linf(0.3))
    assert result.info["invalid"]
    assert not result.success[result.info["invalid"]].any()
    assert not np.isnan(result.x).any()
    assert not np.isnan(result.confidence).any()


@dataclass(frozen=True, kw_only=True)
class Drift(advex.Attack):
    """Makes everything brighter."""

    steps: int = 6

    def init(self, problem):
        return problem.x0, ()

    def step(self, problem, x, memory):
        problem.logits(x)
        return problem.project(x + problem.epsilon / self.steps), memory


@backends
@pytest.mark.parametrize("kind", [KeyboardInterrupt, ZeroDivisionError])
def test_an_exception_from_progress_passes_through(kind):
    model, x, seen = network(), pictures(), []
    weights = [w.tobytes() for w in model.get_weights()]
    trainable = [w.trainable for w in model.weights]
    before = x.copy()

    def stop(done, total, found):
        seen.append((done, total, found))
        if len(seen) == 2:
            raise kind

    with pytest.raises(kind):
        advex.PGD(steps=10)(model, x, None, advex.Linf(0.01), progress=stop)
    assert len(seen) == 2
    assert [w.tobytes() for w in model.get_weights()] == weights
    assert [w.trainable for w in model.weights] == trainable
    assert (x == before).all()
    assert len(advex.PGD(steps=2)(model, x, None, advex.Linf(0.01))) == len(x)


def test_progress_ends_with_everything_done():
    seen = []
    result = advex.PGD(steps=4)(
        network(),
        pictures(),
        None,
        advex.Linf(0.1),
        batch_size=4,
        progress=lambda *now: seen.append(now),
    )
    assert seen[-1] == (10, 10, result.success.sum())
    assert all(a[0] <= b[0] and a[2] <= b[2] for a, b in itertools.pairwise(seen))


@backends
def test_nothing_of_the_surroundings_is_touched():
    model, x = network(), pictures()
    labels = answers(model, x).argmax(1)
    held = (
        x.tobytes(),
        labels.tobytes(),
        random.getstate(),
        keras.config.floatx(),
        keras.config.dtype_policy().name,
    )
    numpy_state = np.random.get_state()[1].tobytes()  # noqa: NPY002
    model.trainable = False
    advex.PGD(steps=3)(model, x, labels, advex.Linf(0.1))
    assert held == (
        x.tobytes(),
        labels.tobytes(),
        random.getstate(),
        keras.config.floatx(),
        keras.config.dtype_policy().name,
    )
    assert np.random.get_state()[1].tobytes() == numpy_state  # noqa: NPY002
    assert not model.trainable
    if BACKEND == "torch":
        import torch

        assert torch.is_grad_enabled()
        assert all(parameter.grad is None for parameter in model.parameters())


# Attacks that cheat


class Cheat(advex.Attack):
    """Base of attacks with a trick."""

    def init(self, problem):
        return problem.x0, ()


@dataclass(frozen=True, kw_only=True)
class Leaves(Cheat):
    steps: int = 2

    def step(self, problem, x, memory):
        _, gradient = problem.gradient(x, advex.losses.margin)
        return x + 10 * ops.sign(gradient), memory


@dataclass(frozen=True, kw_only=True)
class Nan(Cheat):
    steps: int = 2

    def step(self, problem, x, memory):
        return x * np.nan, memory


@dataclass(frozen=True, kw_only=True)
class Swaps(Cheat):
    steps: int = 2

    def step(self, problem, x, memory):
        problem.logits(ops.flip(x, axis=0))
        return ops.flip(x, axis=0), memory


@dataclass(frozen=True, kw_only=True)
class ClaimsFound(Cheat):
    """Writes into the records."""

    steps: int = 2

    def step(self, problem, x, memory):
        problem._rows = problem._rows._replace(found=ops.ones_like(problem.found))
        return x, memory


@backends
@pytest.mark.parametrize("budget", [advex.Linf(0.15), advex.L2(0.8)], ids=repr)
@pytest.mark.parametrize(
    "attack", [Leaves(), Swaps(), ClaimsFound()], ids=lambda attack: type(attack).__name__
)
def test_a_cheat_gains_nothing(attack, budget):
    model, x = network(), pictures(7)
    labels = answers(model, x).argmax(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ModelWarning)
        result = attack(model, x, labels, budget)
    demand_true(result, model, x, labels)
    if not isinstance(attack, Leaves):
        assert not result.success.any()


@backends
def test_a_step_to_nan_is_invalid():
    model, x = network(), pictures(5)
    with pytest.warns(ModelWarning, match="NaN"):
        result = Nan()(model, x, None, advex.Linf(0.1))
    assert not result.success.any()
    assert result.info["invalid"] == [0, 1, 2, 3, 4]
    assert (result.x == x).all()


@dataclass(frozen=True, kw_only=True)
class Returns(Cheat):
    """Returns something else than it should."""

    what: str
    steps: int = 2

    def init(self, problem):
        if self.what == "scalar memory":
            return problem.x0, ops.zeros(())
        if self.what == "changing memory":
            return problem.x0, (ops.zeros_like(problem.x0),)
        return problem.x0, ops.zeros_like(problem.x0)

    def step(self, problem, x, memory):
        if self.what == "dtype":
            x = ops.cast(x, "float16")
        elif self.what == "shape":
            x = ops.reshape(x, (-1, 108))
        elif self.what == "fewer rows":
            x = x[:1]
        elif self.what == "changing memory":
            memory = ()
        elif self.what == "memory dtype":
            memory = ops.cast(memory, "int32")
        return x, memory


@backends
@pytest.mark.parametrize(
    ("what", "match"),
    [
        ("dtype", "dtype float16; expected .* float32"),
        ("shape", r"shape \(batch, 108\)"),
        ("fewer rows", r"x of shape \(1, 6, 6, 3\) for a batch of 8"),
        (
            "scalar memory",
            r"memory of shape \(\) for a batch of 8: the first axis must be the batch",
        ),
        ("changing memory", "memory of another structure"),
        ("memory dtype", "memory of shape .* dtype int32"),
    ],
)
def test_what_an_attack_returns_is_checked(what, match):
    with pytest.raises(AttackError, match=f"Returns.*{match}"):
        Returns(what=what)(network(), pictures(8), None, advex.Linf(0.1))


@dataclass(frozen=True, kw_only=True)
class SpoilsLate(Cheat):
    """Changes the weights while it is asked for its loss."""

    target: Any = None
    steps: int = 1

    def step(self, problem, x, memory):
        if BACKEND == "torch":
            weight = self.target.layers[0].kernel.value
            weight.copy_(weight.roll(1, 0))
        elif BACKEND == "tensorflow":
            weight = self.target.layers[0].kernel.value
            weight.assign(ops.roll(weight, 1, axis=0))
        return x, memory


@backends
@pytest.mark.skipif(BACKEND == "jax", reason="compiled code on JAX cannot change a weight")
# what was found with other weights
@pytest.mark.filterwarnings("ignore:.*did not survive:advex.errors.ModelWarning")
@pytest.mark.parametrize("wrap", [lambda attack: attack, lambda attack: advex.Restarts(attack, 3)])
def test_an_attack_that_changes_weights_is_caught(wrap):
    """Also where the sum of the weights stays what it was, and inside a wrapper."""
    model = network()
    with pytest.raises(AttackError, match=r"changed the weights of the model: .*kernel"):
        wrap(SpoilsLate(target=model))(model, pictures(4), None, advex.Linf(0.001))


@backends
def test_a_model_that_changes_its_own_weights_is_not_blamed_on_the_attack():
    class Visits(layers.Layer):
        def build(self, shape):
            self.count = self.add_weight(shape=(), initializer="zeros", trainable=False)

        def call(self, x):
            self.count.assign(self.count + 1)
            return x

    model = keras.Sequential([keras.Input((6, 6, 3)), Visits(), *network().layers])
    assert len(Drift()(model, pictures(4), None, advex.Linf(0.05))) == 4


@backends
@pytest.mark.skipif(BACKEND != "torch", reason="only torch has tensors that can be edited in place")
@pytest.mark.parametrize("what", ["x", "x0"])
def test_edits_in_place_are_caught(what):
    @dataclass(frozen=True, kw_only=True)
    class Edits(Cheat):
        steps: int = 3

        def step(self, problem, x, memory):
            (x if what == "x" else problem.x0).add_(0.1)
            return x, memory

    x = pictures(4)
    before = x.copy()
    with pytest.raises(AttackError, match="edited in place"):
        Edits()(network(), x, None, advex.L2(1))
    assert (x == before).all()


# Hairs: what rounding may do is undone, and never counted.


@dataclass(frozen=True, kw_only=True)
class Beyond(Cheat):
    """Goes straight up, and farther than epsilon by a share of it."""

    hair: float = 5e-7
    steps: int = 1

    def step(self, problem, x, memory):
        count = int(np.prod(x.shape[1:]))
        each = count if isinstance(problem.budget, advex.L1) else count**0.5
        return problem.x0 + problem.epsilon * (1 + self.hair) / each, memory


def at_the_edge(budget):
    """A model and inputs that anything upwards breaks, and nothing else does."""
    model = linear_model(np.stack([np.zeros(12), np.ones(12)], 1), [0.0, -6.0])
    x = np.full((5, 12), 0.5, "float32") - np.linspace(1e-3, 2e-3, 5, dtype="float32")[:, None]
    return model, x, np.zeros(5, int)


@pytest.mark.parametrize(
    "budget", [pytest.param(advex.L2(0.3), marks=backends), advex.L1(1.0)], ids=repr
)
def test_a_hair_beyond_the_budget_is_pulled_in_and_counts(budget):
    model, x, labels = at_the_edge(budget)
    result = Beyond()(model, x, labels, budget)
    assert result.success.all()
    assert inside(result.x, x, budget)
    assert (result.distance > 0.9999 * budget.epsilon).all()
    assert result.info["fragile"] == []
    assert not Beyond(hair=1e-2)(
        model, x, labels, budget
    ).success.any()  # more than a hair is no rounding error


@pytest.mark.parametrize(
    "budget", [advex.L2(0.3), advex.L1(1.0), advex.Linf(0.1), advex.L0(3)], ids=repr
)
def test_what_is_left_outside_at_the_end_does_not_count(budget, monkeypatch):
    """The last word asks for the budget once more, whatever was done to the points before it."""
    model, x, labels = at_the_edge(budget)
    monkeypatch.setattr(
        Grid, "settled", lambda self, x, x0, budget: np.minimum(x0 + np.float32(0.2), 1)
    )
    attack = advex.FGSM() if isinstance(budget, advex.L0) else advex.PGD(steps=4)
    with pytest.warns(ModelWarning, match="5 successes did not survive the final judgement"):
        result = attack(model, x, labels, budget)
    assert not result.success.any()
    assert result.info["fragile"] == [0, 1, 2, 3, 4]
    assert (result.x == x).all()
    assert np.isinf(result.distance).all()
    assert set(result.broken_by) == {""}


@pytest.mark.parametrize(("share", "counts"), [(0.25, False), (16, True)])
def test_a_margin_within_rounding_errors_never_counts(share, counts):
    """Logits of 1,000 are known to some 1e-4: what crosses by less may not cross elsewhere. Of 12
    elements each adds its part.
    """
    crossing = share * 1e-6 * 1000
    weights = np.stack([np.zeros(12), np.full(12, 2 * crossing / 12)], axis=1)
    model = linear_model(weights, [1000.0, 1000.0 - crossing])
    x = np.full((3, 12), 0.25, "float32")
    result = advex.FGSM(loss=advex.losses.margin)(model, x, np.zeros(3, int), advex.Linf(0.45))
    # 0.25 + 0.45 is above the middle: in real numbers the boundary is crossed, by 0.4 times
    # ``crossing``.
    margin = answers(model, np.full((1, 12), 0.7, "float32")) @ [-1.0, 1.0]
    assert margin[0] > 0
    assert result.success.all() == result.success.any() == counts
    goal = advex.Untargeted([0]).bound({"labels": ops.convert_to_tensor([0], dtype="int32")})
    for above, reached in ((0.5, False), (2.0, True)):
        logits = ops.convert_to_tensor(np.array([[1.0, 1 + above * 1e-6 * 1.0]], "float32"))
        assert bool(ops.convert_to_numpy(goal.reached(logits))[0]) == reached


def test_an_attack_without_a_step_cannot_be_made():
    @dataclass(frozen=True, kw_only=True)
    class Half(advex.Attack):
        steps: int = 1

        def init(self, problem):
            return problem.x0, ()

    with pytest.raises(TypeError, match=r"Half is a base class: a subclass must have step"):
        Half()


# Goals and budgets of one's own


@dataclass(frozen=True, eq=False)
class OutOfTop(advex.Goal):
    """The label is to fall out of the best ``k`` classes."""

    labels: np.ndarray
    weights: np.ndarray
    k: int = 2

    def margin(self, logits):
        others = ops.where(advex.goals.class_mask(self.labels, logits), -1e9, logits)
        return self.weights * (
            ops.top_k(others, self.k)[0][:, -1] - advex.goals.picked(logits, self.labels)
        )


@backends
def test_a_goal_of_ones_own_with_fields_of_ones_own():
    model, x = network(), pictures(8)
    labels = answers(model, x).argmax(1).astype("int32")
    goal = OutOfTop(labels, np.linspace(0.5, 2, 8, dtype="float32"))
    assert "OutOfTop" in repr(goal)
    attack = advex.PGD(steps=10, loss=advex.losses.margin)
    result = attack(model, x, goal, advex.Linf(0.3), batch_size=3)
    assert result.success.any()
    order = np.argsort(-answers(model, result.x), axis=1)
    fallen = ~(order[:, :2] == labels[:, None]).any(axis=1)
    assert (fallen == result.success).all()
    other = attack(model, x, OutOfTop(labels, goal.weights, k=1), advex.Linf(0.3))
    assert (
        other.success.sum() > result.success.sum() or other.gradients.sum() < result.gradients.sum()
    )


@dataclass(frozen=True, eq=False)
class NoneOf(advex.Goal):
    """None of several classes per example: labels of shape (n, k)."""

    labels: np.ndarray

    def margin(self, logits):
        mask = ops.any(
            ops.expand_dims(self.labels, 2) == ops.arange(logits.shape[1], dtype="int32"), axis=1
        )
        best = ops.max(ops.where(mask, logits, -1e9), axis=1)
        return ops.max(ops.where(mask, -1e9, logits), axis=1) - best


@backends
def test_a_goal_with_several_labels_per_example():
    model, x = network(), pictures(6)
    order = np.argsort(-answers(model, x), axis=1).astype("int32")
    goal = NoneOf(order[:, :2].copy())
    result = advex.BIM(steps=8, loss=advex.losses.margin)(model, x, goal, advex.Linf(0.4))
    assert result.success.any()
    assert not (result.prediction[result.success, None] == goal.labels[result.success]).any()


@pytest.mark.parametrize("budget", [advex.Linf(), advex.L2(), advex.L1(), advex.L0()], ids=repr)
def test_no_limit_keeps_the_smallest_that_was_seen(budget):
    x, labels = linear_data(8)
    model = linear_model()
    attack = advex.GradientAscent(steps=30, learning_rate=0.05, loss=advex.losses.margin)
    result = attack(model, x, labels, budget)
    demand_true(result, model, x, labels)
    assert result.success.all()
    assert (result.gradients == 30).all()  # every row runs to the end, looking for less
    delta = result.perturbation.astype("float64")
    np.testing.assert_allclose(result.distance, budget.measure(delta), rtol=1e-6)
    weights = model.layers[-1].get_weights()[0]
    gap = answers(model, x)
    needed = np.abs(gap[:, 1] - gap[:, 0]) / np.linalg.norm(weights[:, 1] - weights[:, 0])
    assert (
        np.linalg.norm(delta, axis=1) >= needed * (1 - 1e-5)
    ).all()  # nothing below the certified radius


# Arrays of every kind


@backends
@pytest.mark.parametrize(
    ("dtype", "budget"),
    [("float16", advex.Linf(0.15)), ("float16", advex.L0(5)), ("bfloat16", advex.L2(0.8))],
    ids=str,
)
def test_half_precision(dtype, budget):
    import ml_dtypes  # noqa: F401

    model = network()
    x = pictures(6).astype(dtype) * np.asarray(0.5, dtype)
    labels = answers(model, x).argmax(1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*more than a grey level")
        warnings.filterwarnings("ignore", ".*did not survive", ModelWarning)
        result = advex.FGSM()(model, x, labels, budget)
    demand_true(result, model, x, labels)
    assert result.success.any()


@backends
def test_arrays_that_are_read_only_reversed_big_endian_or_strided():
    model, x = network(), pictures(6)
    expected = advex.BIM(steps=3)(model, x, None, advex.Linf(0.1))
    frozen = x.copy()
    frozen.setflags(write=False)
    wide = np.zeros((12, 6, 6, 6), "float32")
    wide[::2, :, :, ::2] = x
    turned = np.ascontiguousarray(x[:, ::-1])[:, ::-1]
    foreign = x.astype(">f4")
    for given in (
        frozen,
        wide[::2, :, :, ::2],
        turned,
        foreign,
        x.tolist(),
        ops.convert_to_tensor(x),
    ):
        held = np.array(given, copy=True) if isinstance(given, np.ndarray) else None
        result = advex.BIM(steps=3)(model, given, None, advex.Linf(0.1))
        assert (result.success == expected.success).all()
        np.testing.assert_allclose(result.x, expected.x, atol=1e-6)
        assert held is None or (held == given).all()


@pytest.mark.parametrize("shape", [(5,), (1, 1, 1), (1, 1, 3), (7, 3, 1), (2, 4, 5, 3)], ids=str)
def test_shapes(shape):
    inner = [layers.Flatten()] if len(shape) > 1 else []
    kernel = keras.initializers.RandomNormal(stddev=2.0, seed=1)
    model = keras.Sequential(
        [keras.Input(shape), *inner, layers.Dense(3, kernel_initializer=kernel)]
    )
    x = pictures(4, shape=shape)
    labels = answers(model, x).argmax(1)
    for values in (x, (x * 255).astype("uint8")):
        expected = labels if values is x else answers(model, values / np.float32(255)).argmax(1)
        budget = advex.Linf(0.4) if values is x else advex.L2(0.4)
        demand_true(advex.PGD(steps=2)(model, values, expected, budget), model, values, expected)


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_one_example_and_any_batch_size(batch):
    model, x = network(), pictures(1)
    result = advex.PGD(steps=4)(model, x, None, advex.Linf(0.2), batch_size=batch)
    demand_true(result, model, x, result.before)


def test_more_steps_restarts_or_budget_never_lose_an_example():
    model, x = network(), pictures(16)
    few = advex.PGD(steps=3)(model, x, None, advex.Linf(0.05))
    more = advex.Restarts(advex.PGD(steps=3), 3)(model, x, None, advex.Linf(0.05))
    assert not (few.success & ~more.success).any()
    assert (more.gradients >= few.gradients).all()


@backends
def test_unhashable_settings_are_compiled_once_per_call():
    traced = []

    @dataclass(frozen=True, kw_only=True)
    class Listed(advex.Attack):
        steps: int = 3
        sizes: Any = None

        def init(self, problem):
            return problem.x0, ()

        def step(self, problem, x, memory):
            traced.append(1)
            _, gradient = problem.gradient(x, advex.losses.margin)
            return problem.move(x, gradient, self.sizes[0]), memory

    result = Listed(sizes=[0.5])(network(), pictures(12), None, advex.Linf(0.1), batch_size=4)
    assert result.success.any()
    if BACKEND == "tensorflow":
        assert len(traced) <= 2
