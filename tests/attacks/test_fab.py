"""FAB where the nearest point of the boundary is a formula, and the projections it is made of."""

from dataclasses import dataclass

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras import ops

import advex
from advex.attacks.fab import FAB
from advex.errors import InvalidInput, InvalidType
from advex.testing import linear_data, linear_model

NORMS = {"linf": advex.Linf, "l2": advex.L2, "l1": advex.L1}
JAX = keras.backend.backend() == "jax"
EVERYWHERE = ["linf"] if JAX else list(NORMS)  # on JAX a compilation takes longer than all the rest


def array(values):
    return np.asarray(ops.convert_to_numpy(values))


def measured(delta, norm):
    delta = np.abs(delta.reshape(len(delta), -1).astype("float64"))
    return {"linf": delta.max(1), "l2": np.sqrt(np.square(delta).sum(1)), "l1": delta.sum(1)}[norm]


def smallest(normal, x, rise, norm, box=(0.0, 1.0)):
    """Size of the smallest step inside the box along which ``normal`` gains ``rise``, infinite
    where there is none: (n,).

    By bisection over the Lagrange multiplier (L1: by spending on the best elements first), in
    float64.
    """
    normal, x, rise = (np.asarray(values, "float64") for values in (normal, x, rise))
    normal = np.where(rise < 0, -1, 1)[:, None] * normal
    scale = np.maximum(np.abs(normal).max(1), 1e-300)
    rise, weight = np.abs(rise) / scale, np.abs(normal) / scale[:, None]
    free = np.where(normal > 0, box[1] - x, np.where(normal < 0, x - box[0], 0.0))
    reachable = np.sum(weight * free, 1) >= rise
    if norm == "l1":
        order = np.argsort(-weight, axis=1, kind="stable")
        weight, free = np.take_along_axis(weight, order, 1), np.take_along_axis(free, order, 1)
        before = np.cumsum(weight * free, 1) - weight * free
        spent = np.clip((rise[:, None] - before) / np.where(weight > 0, weight, 1), 0, free)
        return np.where(reachable, np.sum(spent, 1), np.inf)

    def moved(multiplier):
        unlimited = multiplier[:, None] * (weight if norm == "l2" else weight > 0)
        return np.minimum(unlimited, free)

    low, high = np.zeros(len(x)), np.full(len(x), 1e9)
    for _ in range(200):
        middle = (low + high) / 2
        enough = np.sum(weight * moved(middle), 1) >= rise
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return np.where(reachable, measured(moved(high), norm), np.inf)


def random_walls(generator, rows, elements, box):
    """Points, normals and rises: at the ends of the box and inside, with zeros, ties and very
    different weights.
    """
    low, high = box
    x = generator.uniform(low, high, size=(rows, elements))
    ends = generator.uniform(size=x.shape) < generator.choice([0, 0.3, 0.9], size=(rows, 1))
    x = np.where(ends, np.where(generator.uniform(size=x.shape) < 0.5, low, high), x).astype(
        "float32"
    )
    normal = generator.normal(size=x.shape) * generator.choice([1, 1, 1e-3, 30], size=x.shape)
    normal[: rows // 4] = np.sign(normal[: rows // 4])
    normal[:, generator.integers(elements)] = 0
    normal = (normal * generator.choice([1e-6, 1, 1e4], size=(rows, 1))).astype("float32")
    farthest = np.sum(np.abs(normal) * (high - low), 1)
    rise = (
        farthest
        * generator.choice([-1, 1], size=rows)
        * generator.choice([0, 1e-4, 0.05, 0.4, 1.5], size=rows)
    )
    return x, normal, rise.astype("float32")


@pytest.mark.parametrize("norm", NORMS)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_onto_is_the_nearest_point_of_hyperplane_and_box(norm, data):
    box = data.draw(st.sampled_from([(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)]))
    generator = np.random.default_rng(data.draw(st.integers(0, 2**31)))
    elements = data.draw(st.integers(2, 40))
    x, normal, rise = random_walls(generator, 50, elements, box)
    y = array(NORMS[norm]().onto(*map(ops.convert_to_tensor, (x, normal, rise)), *box)).astype(
        "float64"
    )
    assert (y >= box[0]).all() and (y <= box[1]).all()
    assert (y[normal == 0] == x[normal == 0]).all()
    scale = np.sum(np.abs(normal.astype("float64")), 1) * (box[1] - box[0])
    gained = np.sum(normal * (y - x), 1)
    shortest = smallest(normal, x, rise, norm, box)
    reachable = np.isfinite(shortest)
    np.testing.assert_allclose(
        gained[reachable] / scale[reachable], rise[reachable] / scale[reachable], atol=2e-6
    )
    own = measured(y - x, norm)
    np.testing.assert_allclose(
        own[reachable], shortest[reachable], rtol=2e-5, atol=2e-6 * elements * (box[1] - box[0])
    )
    end = np.where(normal * np.sign(rise)[:, None] > 0, box[1], box[0])
    corner = np.where(normal != 0, end, x)
    assert (np.abs(y - corner)[~reachable] <= 1e-6 * (box[1] - box[0])).all()


def test_the_formula_itself_is_the_minimum():
    """No random point of hyperplane and box is nearer than ``smallest`` says, and some come
    near."""
    generator = np.random.default_rng(0)
    x = generator.uniform(size=(1, 3)).repeat(200_000, 0)
    normal = np.array([[1.0, -2.0, 0.5]])
    delta = generator.uniform(-1, 1, size=x.shape)
    delta[:, 2] = (0.6 - delta[:, :2] @ normal[0, :2]) / normal[0, 2]
    legal = ((x + delta >= 0) & (x + delta <= 1)).all(1)
    for norm in NORMS:
        shortest = smallest(normal, x[:1], [0.6], norm)[0]
        found = measured(delta[legal], norm).min()
        assert shortest <= found + 1e-12
        assert found < 1.05 * shortest


@pytest.mark.backends
@pytest.mark.parametrize("norm", NORMS)
def test_onto_stays_where_there_is_no_normal_or_nothing_to_gain(norm):
    x = np.array([[0.0, 0.5, 1.0], [0.2, 0.3, 0.4]], "float32")
    none, some = np.zeros_like(x), np.array([[3.0, -2.0, 1e-20], [1e-30, 0, -1e30]], "float32")
    budget = NORMS[norm]()
    for normal, rise in ((none, [1.0, -1.0]), (none, [0.0, 0.0]), (some, [0.0, 0.0])):
        y = array(
            budget.onto(
                *map(ops.convert_to_tensor, (x, normal, np.array(rise, "float32"))), 0.0, 1.0
            )
        )
        np.testing.assert_array_equal(y, x)
    wild = array(
        budget.onto(
            *map(ops.convert_to_tensor, (x, some, np.array([1e30, 1e30], "float32"))), 0.0, 1.0
        )
    )
    assert np.isfinite(wild).all()


@pytest.mark.backends
@pytest.mark.parametrize("norm", NORMS)
def test_dual_is_the_largest_growth_per_size(norm):
    generator = np.random.default_rng(0)
    gradient = generator.normal(size=(30, 4, 3, 2)).astype("float32")
    dual = array(NORMS[norm]().dual(ops.convert_to_tensor(gradient)))
    growth = np.stack(
        [
            (gradient * delta).sum((1, 2, 3)) / measured(delta, norm)
            for delta in generator.normal(size=(200, *gradient.shape))
        ]
    )
    assert (growth <= dual * (1 + 1e-6)).all()
    largest = np.abs(gradient) == np.abs(gradient).max((1, 2, 3), keepdims=True)
    best = {"linf": np.sign(gradient), "l2": gradient, "l1": np.sign(gradient) * largest}[norm]
    np.testing.assert_allclose(
        (gradient * best).sum((1, 2, 3)) / measured(best, norm), dual, rtol=1e-5
    )


def test_there_is_no_l0_form():
    model, (x, labels) = linear_model(), linear_data(4)
    with pytest.raises(InvalidInput, match="FAB has no L0 form"):
        FAB()(model, x, labels, advex.L0(3))
    with pytest.raises(InvalidInput, match="no dual norm"):
        advex.L0().dual(x)
    with pytest.raises(InvalidInput, match="no projection onto hyperplanes"):
        advex.L0().onto(x, x, x[:, 0], 0.0, 1.0)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"alpha": 1.5}, InvalidInput),
        ({"alpha": -0.1}, InvalidInput),
        ({"overshoot": 0}, InvalidInput),
        ({"backward": 1.0}, InvalidInput),
        ({"backward": 0.0}, InvalidInput),
        ({"classes": 0}, InvalidInput),
        ({"alpha": "much"}, InvalidType),
        ({"eta": 1.05}, InvalidType),
    ],
)
def test_settings_are_checked(wrong, error):
    with pytest.raises(error):
        FAB(**wrong)


# Linear models of three classes: 16 elements as an image that is not square.

SHAPE = (4, 2, 2)


@pytest.fixture(scope="module")
def three_classes():
    """A model, 400 inputs near the middle of the box and 400 all over it, and how far both other
    classes are in each norm.
    """
    generator = np.random.default_rng(7)
    weights = generator.normal(size=(16, 3)).astype("float32")
    bias = (-np.full(16, 0.5) @ weights).astype("float32")
    dense = keras.layers.Dense(3)
    model = keras.Sequential([keras.Input(SHAPE), keras.layers.Flatten(), dense])
    dense.set_weights([weights, bias])
    spread = np.repeat([0.05, 0.5], 400)[:, None]
    x = np.clip(0.5 + generator.uniform(-spread, spread, size=(800, 16)), 0, 1).astype("float32")
    x[500:600] = np.round(x[500:600])
    logits = x.astype("float64") @ weights.astype("float64") + bias
    labels, rows = logits.argmax(1), np.arange(800)
    distances = {
        norm: np.stack(
            [
                smallest(
                    (weights[:, other] - weights[:, labels]).T,
                    x,
                    logits[rows, labels] - logits[rows, other],
                    norm,
                )
                for other in ((labels + 1) % 3, (labels + 2) % 3)
            ]
        )
        for norm in NORMS
    }
    return model, x.reshape(-1, *SHAPE), labels, distances


@pytest.mark.backends
@pytest.mark.parametrize("norm", EVERYWHERE)
def test_the_smallest_perturbation_is_found(three_classes, norm):
    """800 cases a norm: with every target, within 1 % of the formula whatever the box does; and
    never below it.
    """
    model, x, labels, distances = three_classes
    truth = distances[norm].min(0)
    assert len(set(distances[norm][:, :400].argmin(0))) == 2  # different classes are the nearest
    result = advex.EveryTarget(FAB(steps=30), 2)(model, x, labels, NORMS[norm](), batch_size=800)
    ratio = result.distance / truth
    assert np.isfinite(truth).all() and result.success.all()
    assert ratio.min() > 1 - 1e-5
    assert ratio.max() < 1.01
    assert (np.delete(result.gradients, 0) == 60).all()  # one a step


@pytest.mark.backends
@pytest.mark.parametrize("norm", EVERYWHERE)
def test_without_a_target_the_nearest_class_is_chosen(three_classes, norm):
    """As near as the formula where the box is not active; where it is, the choice knows of no
    box."""
    model, x, labels, distances = three_classes
    truth = distances[norm].min(0)
    result = FAB(steps=30)(model, x, labels, NORMS[norm](), batch_size=800)
    ratio = result.distance / truth
    assert ratio.min() > 1 - 1e-5
    assert ratio[:400].max() < 1.01
    assert np.median(ratio[400:]) < 1.01 and (ratio[400:] < 1.02).mean() > 0.95
    assert (result.gradients == 90).all()  # three a step
    assert (
        result.queries == 33
    ).all()  # and the judgement of the input, of the last point and of the result


def test_a_chosen_target_is_reached_at_its_own_distance(three_classes):
    model, x, labels, distances = three_classes
    result = FAB(steps=30)(model, x[:400], advex.Targeted((labels[:400] + 1) % 3), advex.L2())
    # In a third of the cases the third class lies between: then no point of the straight way is the
    # target's.
    direct = distances["l2"][0, :400] < distances["l2"][1, :400]
    ratio = result.distance / distances["l2"][0, :400]
    assert result.success.all() and direct.any()
    assert ratio.min() > 1 - 1e-5
    assert np.quantile(ratio[direct], 0.9) < 1.01


@pytest.mark.parametrize("norm", NORMS)
def test_limited_budgets_are_used_exactly(three_classes, norm):
    """Success where the formula's distance is below epsilon, but for a band of 1 %; 9,600 cases in
    all, none below it.
    """
    model, x, labels, distances = three_classes
    truth = distances[norm].min(0)
    for share in (0.02, 0.3, 0.7, 0.95):
        epsilon = float(np.quantile(truth, share))
        result = advex.EveryTarget(FAB(steps=30), 2)(
            model, x, labels, NORMS[norm](epsilon), batch_size=800
        )
        assert not result.success[truth > epsilon * (1 + 1e-5)].any()
        assert result.success[truth < epsilon / 1.01].all()
        assert (result.distance[result.success] <= epsilon).all()
        assert (result.gradients[result.success] < 60).any()  # they leave


@pytest.mark.backends
def test_ten_thousand_cases_and_none_below_the_certified_radius():
    generator = np.random.default_rng(3)
    weights = generator.normal(size=(6, 2)).astype("float32")
    rows = 500 if JAX else 2_000
    x = generator.uniform(size=(rows, 6)).astype("float32")
    bias = (-np.full(6, 0.5) @ weights).astype("float32")
    logits = x.astype("float64") @ weights.astype("float64") + bias
    labels, every = logits.argmax(1), np.arange(rows)
    normal, rise = (
        (weights[:, 1 - labels] - weights[:, labels]).T,
        logits[every, labels] - logits[every, 1 - labels],
    )
    model, cases = linear_model(weights, bias), 0
    for norm in EVERYWHERE:
        truth = smallest(normal, x, rise, norm)
        for share in (0.5,) if JAX else (0.1, 0.5):
            epsilon = float(np.quantile(truth, share))
            result = FAB(steps=20)(model, x, labels, NORMS[norm](epsilon), batch_size=rows)
            assert not (result.success & (truth > epsilon * (1 + 1e-5))).any()
            assert (result.success | (truth > epsilon / 1.01)).all()
            cases += len(x)
    assert cases >= (500 if JAX else 10_000)


# Curved boundaries.


def ellipsoid(scale, radius=0.3):
    """A model whose second class is the inside of ``sum(scale * (x - 0.5)**2) = radius**2``, and
    what is nearest to x there.
    """
    size = len(scale)
    inputs = keras.Input((size,))
    dense = keras.layers.Dense(2)
    outputs = dense(keras.layers.Concatenate()([inputs, keras.layers.Multiply()([inputs, inputs])]))
    model = keras.Model(inputs, outputs)
    kernel = np.zeros((2 * size, 2), "float32")
    kernel[:size, 1], kernel[size:, 1] = scale, -scale
    dense.set_weights([kernel, np.array([0, radius**2 - np.sum(scale) / 4], "float32")])

    def distance(x):
        offset = x.astype("float64") - 0.5
        low, high = np.zeros(len(x)), np.full(len(x), 1e6)
        # of the multiplier: the nearest point is offset / (1 + multiplier * scale)
        for _ in range(200):
            middle = (low + high) / 2
            outside = np.sum(scale * (offset / (1 + middle[:, None] * scale)) ** 2, 1) > radius**2
            low, high = np.where(outside, middle, low), np.where(outside, high, middle)
        return np.linalg.norm(offset - offset / (1 + high[:, None] * scale), axis=1)

    return model, distance


def test_a_curved_boundary_is_followed_to_its_nearest_point():
    scale = np.array([8.0, 3.0, 1.0, 0.5, 0.3], "float32")
    model, distance = ellipsoid(scale)
    x = np.random.default_rng(0).uniform(size=(300, 5)).astype("float32")
    x = x[(scale * (x - 0.5) ** 2).sum(1) > 0.12]
    truth, labels = distance(x), np.zeros(len(x), int)
    result = FAB(steps=100)(model, x, labels, advex.L2())
    ratio = result.distance / truth
    assert ratio.min() > 1 - 1e-4
    assert np.quantile(ratio, 0.95) < 1.01 and ratio.max() < 1.03


def plateau():
    """Flat where the input is, steep at the boundary at 0.5, without any slope from 0.6 on: a first
    step lands far behind it.
    """
    first, second = keras.layers.Dense(3, activation="relu"), keras.layers.Dense(2)
    model = keras.Sequential([keras.Input((4,)), first, second])
    mean = np.full((4, 3), 0.25, "float32")
    first.set_weights([mean, -np.array([0.0, 0.4, 0.6], "float32")])
    # 0.1 u up to 0.4, then 1.0, then 0: at 0.5 it has risen to 0.14.
    second.set_weights(
        [np.array([[0, 0.1], [0, 0.9], [0, -1.0]], "float32"), np.array([0.14, 0], "float32")]
    )
    return model


@pytest.mark.parametrize("norm", NORMS)
def test_from_far_behind_the_boundary_it_comes_back(norm):
    x = np.random.default_rng(0).uniform(0.05, 0.15, size=(20, 4)).astype("float32")
    truth = smallest(np.full_like(x, 0.25), x, 0.5 - x.mean(1), norm)
    result = FAB(steps=60)(plateau(), x, np.zeros(20, int), NORMS[norm]())
    ratio = result.distance / truth
    assert result.success.all()
    assert ratio.min() > 1 - 1e-5
    assert ratio.max() < 1.02


def test_an_input_on_the_boundary_itself_is_pushed_over():
    """Margins from none at all to a millionth: whoever moves by a rounding error only never
    crosses.
    """
    weights = np.random.default_rng(0).normal(size=(50, 2)).astype("float32")
    normal = (weights[:, 1] - weights[:, 0]).astype("float64")
    delta = np.random.default_rng(1).uniform(-0.1, 0.1, size=(40, 50))
    margin = np.concatenate([np.zeros(10), np.logspace(-9, -4, 30)])
    x = 0.5 + delta - np.outer((delta @ normal + margin) / (normal @ normal), normal)
    model, labels = linear_model(weights, -0.5 * weights.sum(0)), np.zeros(40, int)
    for budget in (advex.Linf(), advex.L2(), advex.L1()):
        result = FAB(steps=40)(model, x.astype("float32"), labels, budget)
        assert result.success.all()
        assert result.distance.max() < 1e-4


# The rest of the contract.


@pytest.mark.backends
@pytest.mark.parametrize(
    "attack", [FAB(steps=4), advex.EveryTarget(FAB(steps=3), 2)], ids=["FAB", "EveryTarget"]
)
def test_contract(attack, contract):
    budgets = (advex.Linf(0.02), advex.L2(0.15), advex.L1(0.7))
    contract(attack, budgets if isinstance(attack, FAB) else budgets[:1])


@pytest.mark.backends
@pytest.mark.parametrize("head", ["logits", "sigmoid"])
def test_two_classes_cost_one_gradient_a_step(head):
    x, labels = linear_data(60)
    result = FAB(steps=10)(linear_model(head=head), x, labels, advex.Linf())
    normal = 2 * np.sin(np.arange(1, 13)) * np.where(labels == 0, 1, -1)[:, None]
    truth = smallest(
        normal,
        x,
        np.abs(normal * (x - 0.5).astype("float64")).sum(1) * 0 - np.sum(normal * (x - 0.5), 1),
        "linf",
    )
    assert result.success.all()
    assert (result.gradients == 10).all()
    assert (result.distance > truth * (1 - 1e-4)).all() and (result.distance < truth * 1.01).all()


@pytest.mark.parametrize("classes", [2, 5])
def test_a_model_without_gradient_gives_no_success_and_no_nan(classes):
    model = linear_model(np.zeros((12, classes)), 3 * np.arange(classes)[::-1])
    x = linear_data(6)[0]
    for budget in (advex.Linf(), advex.L2(), advex.L1(), advex.Linf(0.1)):
        for attack in (FAB(steps=5), advex.Restarts(FAB(steps=5), 2)):
            with pytest.warns(advex.errors.ModelWarning, match="gradient was exactly zero"):
                result = attack(model, x, np.zeros(6, int), budget)
            assert not result.success.any()
            assert len(result.info["invalid"]) == 0
            np.testing.assert_array_equal(result.x, x)


@pytest.mark.parametrize("norm", NORMS)
def test_eight_bits(norm):
    """On levels: never below the formula without levels, in Linf hardly ever more than a level
    above it.
    """
    generator = np.random.default_rng(2)
    weights = generator.normal(size=(30, 2)).astype("float32")
    levels = generator.integers(0, 256, size=(200, 30)).astype("uint8")
    bias = (-np.full(30, 0.5) @ weights).astype("float32")
    x = levels / 255
    logits = x @ weights.astype("float64") + bias
    labels, rows = logits.argmax(1), np.arange(200)
    normal, rise = (
        (weights[:, 1 - labels] - weights[:, labels]).T,
        logits[rows, labels] - logits[rows, 1 - labels],
    )
    truth = smallest(normal, x, rise, norm)
    result = FAB(steps=60)(linear_model(weights, bias), levels, labels, NORMS[norm]())
    assert result.x.dtype == np.uint8 and result.success.all()
    assert (result.distance > truth - 1e-9).all()
    if norm == "linf":
        above = np.rint(result.distance * 255) - np.floor(truth * 255)
        assert (above <= 1).mean() > 0.9 and above.max() <= 3
        epsilon = float(np.ceil(np.median(truth) * 255) / 255)
        within = FAB(steps=60)(linear_model(weights, bias), levels, labels, advex.Linf(epsilon))
        reachable = np.floor(truth * 255) + 1 <= np.rint(epsilon * 255)
        assert not within.success[truth > epsilon].any()
        assert within.success[reachable].mean() > 0.95
    else:
        rounding = {"l2": 0.5 * np.sqrt(30), "l1": 15.0}[norm] / 255
        assert (result.distance < truth + rounding).all()


def test_a_demanded_probability_is_reached_and_not_by_far():
    x, labels = linear_data(40)
    for confidence in (0.3, 0.9):
        goal = advex.Targeted(1 - labels, confidence=confidence)
        result = FAB(steps=40)(linear_model(), x, goal, advex.L2())
        assert result.success.all()
        assert (result.confidence >= confidence).all()
        assert result.confidence.max() < max(confidence, 0.5) + 0.06


def test_restarts_begin_elsewhere_and_help():
    generator = np.random.default_rng(0)
    hidden, last = keras.layers.Dense(40, activation="relu"), keras.layers.Dense(5)
    model = keras.Sequential([keras.Input((10,)), hidden, last])
    hidden.set_weights([generator.normal(size=(10, 40)), generator.normal(size=40)])
    last.set_weights([generator.normal(size=(40, 5)), np.zeros(5)])
    x = generator.uniform(size=(100, 10)).astype("float32")
    once = FAB(steps=6)(model, x, None, advex.L2())
    again = advex.Restarts(FAB(steps=6), 3)(model, x, None, advex.L2())
    assert (again.distance <= once.distance * (1 + 1e-6)).all()
    assert (again.distance < 0.999 * once.distance).any()
    assert again.gradients.sum() == 3 * once.gradients.sum()


@dataclass(frozen=True, kw_only=True)
class Repeated(FAB):
    """FAB as in a later run of ``Restarts``."""

    def step(self, problem, x, memory):
        problem.run = problem.run + 1
        return FAB.step(self, problem, x, memory)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("limited", [False, True])
def test_a_repetition_begins_half_way_to_the_boundary(norm, limited):
    generator = np.random.default_rng(1)
    weights = generator.normal(size=(40, 2)).astype("float32")
    x = generator.uniform(0.4, 0.6, size=(30, 40)).astype("float32")
    labels = np.asarray(x @ weights).argmax(1)
    normal, rise = (
        (weights[:, 1 - labels] - weights[:, labels]).T,
        np.abs(np.diff(x @ weights, axis=1)[:, 0]),
    )
    truth = smallest(normal, x, rise, norm)
    epsilon = float(np.median(truth)) if limited else None
    walked = advex.testing.walk(
        Repeated(steps=1), linear_model(weights), x, advex.Untargeted(labels), NORMS[norm](epsilon)
    )
    expected = 0.5 * np.minimum(1.05 * truth, np.inf if epsilon is None else epsilon)
    np.testing.assert_allclose(measured(walked.points[1] - x, norm), expected, rtol=0.02)
    delta = walked.points[1] - x
    # random, not along the gradient
    assert np.abs(np.sum(normal * delta, 1)).max() < 0.9 * rise.max()
    assert len(np.unique(np.round(delta[:, 0] / np.abs(delta).max(1), 4))) > 20  # each its own


@pytest.mark.parametrize("norm", NORMS)
def test_the_projection_of_the_original_draws_nearer(norm):
    """From a random start what is not along the gradient shrinks to a tenth less a step than by the
    steps back alone.
    """
    generator = np.random.default_rng(3)
    weights = generator.normal(size=(40, 2)).astype("float32")
    x = generator.uniform(0.3, 0.7, size=(100, 40)).astype("float32")
    logits = x.astype("float64") @ weights - 0.5 * weights.sum(0)
    labels = logits.argmax(1)
    truth = smallest(
        (weights[:, 1 - labels] - weights[:, labels]).T,
        x,
        np.abs(logits[:, 0] - logits[:, 1]),
        norm,
    )
    model = linear_model(weights, -0.5 * weights.sum(0))
    drawn, left = (
        Repeated(steps=10, alpha=alpha)(model, x, labels, NORMS[norm]()).distance / truth - 1
        for alpha in (0.1, 0.0)
    )
    assert (drawn > 0).all() and (drawn < 0.6 * left).all()


def test_many_classes_are_looked_at_by_the_likeliest():
    generator = np.random.default_rng(5)
    weights = generator.normal(size=(20, 20)).astype("float32")
    x = generator.uniform(0.4, 0.6, size=(50, 20)).astype("float32")
    model = linear_model(weights, -(0.5 * weights.sum(0)))
    all_of_them, nine, one = (
        FAB(steps=20, classes=k)(model, x, None, advex.L2()) for k in (19, 9, 1)
    )
    assert (all_of_them.gradients == 20 * 20).all()
    assert (nine.gradients == 20 * 10).all() and (one.gradients == 20 * 2).all()
    assert (one.queries == all_of_them.queries + 1).all()
    logits = x.astype("float64") @ weights - 0.5 * weights.sum(0)
    labels = logits.argmax(1)
    distances = np.stack(
        [
            np.where(labels == k, np.inf, (logits[np.arange(50), labels] - logits[:, k]))
            / np.maximum(np.linalg.norm(weights[:, [k]] - weights[:, labels], axis=0), 1e-9)
            for k in range(20)
        ]
    )
    truth = distances.min(0)
    assert (all_of_them.distance / truth)[truth > 1e-4].max() < 1.01
    assert (nine.distance / truth)[truth > 1e-4].max() < 1.1
    assert (nine.distance / truth).mean() < (one.distance / truth).mean()


def test_the_likeliest_classes_are_chosen_anew_at_every_step():
    """At the original the second class is likelier than the third, whose boundary is nearer: seen
    on the way to the second's.
    """
    model = linear_model([[0.0, 1.0, 4.0], [0.0, 0.0, 0.0]], [0.0, -0.9, -2.4])
    x = np.stack([np.linspace(0, 0.3, 30), np.full(30, 0.5)], 1).astype("float32")
    result = FAB(steps=20, classes=1)(model, x, np.zeros(30, int), advex.L2())
    ratio = result.distance / (0.6 - x[:, 0])
    assert ratio.min() > 1 - 1e-5
    assert ratio.max() < 1.01


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_the_way_leads_through_points_outside_the_ball(norm, dtype):
    """To the boundary, twice as far away as epsilon, and no farther; of 8-bit inputs the model sees
    points inside alone.
    """
    generator = np.random.default_rng(6)
    weights = generator.normal(size=(30, 2)).astype("float32")
    levels = generator.integers(80, 176, size=(50, 30)).astype("uint8")
    x = (levels / 255).astype("float32")
    logits = x.astype("float64") @ weights - 0.5 * weights.sum(0)
    labels = logits.argmax(1)
    truth = smallest(
        (weights[:, 1 - labels] - weights[:, labels]).T,
        x,
        np.abs(logits[:, 0] - logits[:, 1]),
        norm,
    )
    far = truth > np.median(truth)
    budget = NORMS[norm](0.5 * float(np.median(truth)))
    given = (levels if dtype == "uint8" else x)[far]
    model = linear_model(weights, -0.5 * weights.sum(0))
    walked = advex.testing.walk(FAB(steps=12), model, given, advex.Untargeted(labels[far]), budget)
    assert not walked.found.any()
    for points in walked.points[2:]:
        ratio = measured(points - x[far], norm) / truth[far]
        assert ratio.min() > 0.85
        assert ratio.max() < 1.25
