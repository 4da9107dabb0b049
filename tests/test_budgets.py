"""Projections by brute force, directions by their definitions, and the exactness of what is returned."""

import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras import ops

import advex
from advex.testing import inside, linear_extreme, linear_model

NORMS = {"linf": advex.Linf, "l2": advex.L2, "l1": advex.L1, "l0": advex.L0}


def array(values):
    return np.asarray(ops.convert_to_numpy(values))


def tensor(values):
    return ops.convert_to_tensor(values)


def bound(budget, x0, low, high):
    """The budget as a problem sees it, with the limits of each element."""
    lower, upper = budget.bounds(x0, (low, high), advex.budgets.base.Fraction(high) - advex.budgets.base.Fraction(low))
    return budget.bound(tensor(np.float32(budget.epsilon))), tensor(lower), tensor(upper)


@pytest.mark.backends
@pytest.mark.parametrize("budget", [advex.Linf(0.2), advex.L2(0.5), advex.L1(0.8), advex.L0(2)], ids=repr)
def test_projection_is_nearest_idempotent_and_identity_inside(budget):
    generator = np.random.default_rng(0)
    x0 = generator.uniform(size=(200, 5)).astype("float32")
    x0[:50] = np.round(x0[:50])  # at the ends of the box
    x = (x0 + generator.normal(size=x0.shape) * generator.choice([0.05, 0.5, 3], size=(200, 1))).astype("float32")
    limited, lower, upper = bound(budget, x0, 0.0, 1.0)
    projected = array(limited.nearest(tensor(x), tensor(x0), lower, upper))
    again = array(limited.nearest(tensor(projected), tensor(x0), lower, upper))
    np.testing.assert_allclose(again, projected, atol=1e-6)
    assert (budget.measure(projected.astype("float64") - x0) <= budget.epsilon * (1 + 1e-6)).all()
    assert (projected >= 0).all() and (projected <= 1).all()
    already = (budget.measure(x.astype("float64") - x0) <= budget.epsilon * 0.999) & ((x >= 0) & (x <= 1)).all(1)
    assert already.any() or isinstance(budget, advex.L0)
    np.testing.assert_array_equal(projected[already], x[already])
    # No legal point is nearer: neither random ones, nor those between the projection and random legal points.
    own = np.linalg.norm(projected.astype("float64") - x, axis=1)
    for _ in range(300):
        delta = generator.normal(size=x0.shape) * generator.choice([0.01, 0.1, 1.0])
        if isinstance(budget, advex.L0):
            delta *= np.argsort(np.argsort(generator.uniform(size=x0.shape), 1), 1) < 2
            delta *= 10
        other = np.clip(x0 + delta, 0, 1)
        if isinstance(budget, advex.L0):
            other = np.where(delta != 0, np.clip(x, 0, 1), x0)  # the best that these elements can do
        else:
            size = budget.measure(other - x0)
            other = x0 + (other - x0) * np.minimum(1, budget.epsilon / np.maximum(size, 1e-12))[:, None]
            other = projected + generator.uniform(size=(200, 1)) * (other - projected)
        assert (np.linalg.norm(other - x, axis=1) >= own - 1e-5).all()


@pytest.mark.backends
@pytest.mark.parametrize("norm", NORMS)
def test_extreme_is_the_maximum_of_the_linear_function(norm):
    generator = np.random.default_rng(3)
    for _ in range(10):
        budget = NORMS[norm](int(generator.integers(1, 6)) if norm == "l0" else float(generator.uniform(0.05, 0.49)))
        x0 = generator.uniform(size=(20, 7)).astype("float32")
        x0[:10] = np.round(x0[:10])
        gradient = generator.normal(size=x0.shape).astype("float32")
        gradient[:, 0] = 0
        limited, lower, upper = bound(budget, x0, 0.0, 1.0)
        x = array(limited.extreme(tensor(gradient), tensor(x0), lower, upper)).astype("float64")
        gained = np.sum(gradient * (x - x0), axis=1)
        best = [linear_extreme(g, row, budget) for g, row in zip(gradient, x0, strict=True)]
        np.testing.assert_allclose(gained, best, rtol=2e-5, atol=1e-6)


@pytest.mark.backends
@pytest.mark.parametrize("norm", NORMS)
def test_zero_gradient_and_zero_perturbation(norm):
    budget = NORMS[norm](1 if norm == "l0" else 0.4)
    x0 = np.array([[0.0, 0.5, 1.0]], "float32")
    limited, lower, upper = bound(budget, x0, 0.0, 1.0)
    zero = np.zeros_like(x0)
    np.testing.assert_array_equal(array(budget.steepest(tensor(zero))), zero)
    np.testing.assert_array_equal(array(limited.extreme(tensor(zero), tensor(x0), lower, upper)), x0)
    np.testing.assert_array_equal(array(limited.nearest(tensor(x0), tensor(x0), lower, upper)), x0)
    np.testing.assert_array_equal(array(budget.project(tensor(zero))), zero)
    assert array(budget.size(tensor(zero)))[0] == 0
    for values in (np.full_like(x0, 1e-38), np.full_like(x0, 1e38)):
        assert np.isfinite(array(budget.steepest(tensor(values)))).all()


@pytest.mark.backends
@pytest.mark.parametrize("norm", NORMS)
def test_steepest_has_size_one(norm):
    budget = NORMS[norm](1 if norm == "l0" else 0.4)
    gradient = np.random.default_rng(0).normal(size=(6, 8, 8, 3)).astype("float32")
    np.testing.assert_allclose(array(budget.size(budget.steepest(tensor(gradient)))), 1, rtol=1e-5)


ATTACKS = (
    advex.FGSM(),
    advex.BIM(steps=2),
    advex.PGD(steps=2),
    advex.MomentumIterative(steps=2),
    advex.NesterovIterative(steps=2),
    advex.GradientAscent(steps=2, learning_rate=3.0),
)
BOXES = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0), (0.3, 0.7), (-2.117, 2.64))
DTYPES = ("float32", "uint8", "float64", "float16")


@pytest.fixture(scope="module")
def ill_conditioned():
    """One linear model per box; its classes are so arranged that most attacks succeed with all of their budget."""
    models = {}
    for box in BOXES:
        weights = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
        models[box] = advex.Classifier(linear_model(weights / np.float32(box[1] - box[0])), box=box)
    return models


@settings(max_examples=85, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_nothing_leaves_ball_or_box(ill_conditioned, data):
    """170 calls of 60 rows: more than 10,000 cases over norm, attack, box, dtype and epsilon, in rational arithmetic.

    Each norm, attack, box and dtype that is drawn has two epsilons and two sets of rows: what is compiled is used twice.
    """
    box = data.draw(st.sampled_from(BOXES))
    attack = data.draw(st.sampled_from(ATTACKS))
    dtype = data.draw(st.sampled_from(DTYPES))
    norm = data.draw(st.sampled_from(list(NORMS)))
    number = st.one_of(st.floats(0, 0.49), st.integers(0, 100).map(lambda k: k / 255), st.floats(0, 1e-6))
    for _ in range(2):
        budget = advex.L0(data.draw(st.integers(0, 8))) if norm == "l0" else NORMS[norm](data.draw(number))
        legal(ill_conditioned[box], attack, box, dtype, budget, data)


def legal(model, attack, box, dtype, budget, data):
    generator = np.random.default_rng(data.draw(st.integers(0, 2**31)))
    if dtype == "uint8":
        x = generator.integers(0, 256, size=(60, 8)).astype("uint8")
    else:
        x = generator.uniform(*box, size=(60, 8)).astype(dtype)
        x[:8], x[8:16] = np.asarray(box[0], dtype), np.asarray(box[1], dtype)
        kind = np.dtype("float32" if dtype == "float64" else dtype)
        low, high = np.asarray(box, kind)
        x[16:20] *= 1e-20 if box[0] <= 0 and dtype != "float16" else 1
        x = np.clip(x.astype(kind), low, high).astype(dtype)
    labels = generator.integers(0, 3, size=60)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", advex.errors.AdvexWarning)  # the labels are random
        result = attack(model, x, labels, budget, progress=False)
    assert inside(result.x, x, budget, box)
    assert (result.distance[result.success] <= budget.epsilon).all()
    if budget.epsilon == 0:
        assert result.x.tobytes() == x.tobytes()


@pytest.mark.parametrize("budget", [advex.L2(1e-3), advex.L1(1e-2), advex.L2(0.5)], ids=repr)
@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
def test_a_hair_outside_is_pulled_in_and_not_given_up(budget, dtype):
    from advex._grid import Grid

    if dtype == "uint8":
        budget = type(budget)(0.5)
    grid, generator = Grid(np.dtype(dtype), (0.0, 1.0)), np.random.default_rng(0)
    x0 = (generator.uniform(0.2, 0.8, size=(50, 40)) * (255 if dtype == "uint8" else 1)).astype(dtype)
    delta = generator.normal(size=x0.shape)
    delta *= (budget.epsilon * 1.00001 / budget.measure(delta))[:, None] * (255 if dtype == "uint8" else 1)
    x = (np.rint(x0 + delta) if dtype == "uint8" else x0.astype("float64") + delta).astype(dtype)
    assert not grid.within(x, x0, budget).all()
    settled = grid.settled(x, x0, budget)
    assert grid.within(settled, x0, budget).all()
    if dtype == "float32":
        assert (grid.distance(settled, x0, budget) > 0.999 * budget.epsilon).all()
    elif dtype == "uint8":
        assert (grid.distance(settled, x0, budget) > 0.5 * budget.epsilon).all()


def test_the_property_test_can_fail():
    """A point one unit outside is seen, for every norm and dtype."""
    x0 = np.array([[0.25, 0.5]], "float32")
    for budget in (advex.Linf(0.1), advex.L2(0.1), advex.L1(0.1)):
        x = x0.copy()
        x[0, 0] = np.float32(0.25) + np.float32(0.1)
        while inside(x, x0, budget):
            x[0, 0] = np.nextafter(x[0, 0], np.float32(1))
        assert abs(float(x[0, 0]) - 0.35) < 1e-6
    levels = np.array([[10, 20]], "uint8")
    assert inside(levels + np.uint8(8), levels, advex.Linf(8 / 255))
    assert not inside(levels + np.uint8(9), levels, advex.Linf(8 / 255))


def test_levels_are_the_largest_count_within_epsilon():
    for k in range(256):
        if k < 128:
            assert advex.Linf(k / 255).levels() == k
        below = np.nextafter(k / 255, 0)
        if 0 < k < 128:
            assert advex.Linf(below).levels() == k - 1
