"""RayS, Pointwise and SurFree: closed forms, counts, and what their last points promise."""

import numpy as np
import pytest
from keras import ops

import advex
from advex.attacks.surfree import OTHER
from advex.testing.walk import stepwise

ATTACKS = {
    "RayS": (advex.RayS, advex.Linf, 0.3),
    "Pointwise": (advex.Pointwise, advex.L0, 4),
    "Pointwise L2": (advex.Pointwise, advex.L2, 0.9),
    "SurFree": (advex.SurFree, advex.L2, 0.6),
}
# Some of these have too few queries for a start.
pytestmark = pytest.mark.filterwarnings("ignore:For .* inputs no start was found")
WHOLE = pytest.mark.parametrize("name", ATTACKS)


class Counting:
    """A black box of labels that counts the rows that it is asked about."""

    def __init__(self, model):
        self.weights, self.bias = model.layers[-1].get_weights()
        self.rows = 0

    def __call__(self, x):
        self.rows += len(x)
        return (x @ self.weights + self.bias).argmax(1)


def _half_space(features=784, distance=2.0, count=4, seed=3):
    """Points at a distance of a plane in the middle of a large box, and others beyond it."""
    generator = np.random.default_rng(seed)
    normal = generator.normal(size=features)
    normal /= np.linalg.norm(normal)
    model = advex.testing.linear_model(
        np.stack([-normal, normal], 1), [normal.sum() / 2, -normal.sum() / 2]
    )
    noise = generator.uniform(-0.1, 0.1, size=(count, features))
    noise -= (noise @ normal)[:, None] * normal
    x = 0.5 + noise - distance * normal
    others = 0.5 + generator.uniform(-0.1, 0.1, size=(count, features)) + 2.5 * normal
    assert (np.abs(x - 0.5) < 0.5).all()
    return model, normal, x.astype("float32"), np.clip(others, 0, 1).astype("float32")


def _around(x):
    """Whole numbers of levels, as 8-bit images."""
    return np.round(x * 255).astype("uint8")


@WHOLE
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 50, 500])
def test_what_is_counted_is_what_was_asked_and_no_more_than_the_limit(name, steps):
    kind, norm, _ = ATTACKS[name]
    model = advex.testing.linear_model()
    x, labels = advex.testing.linear_data(4)
    predict = Counting(model)
    box = advex.BlackBox(predict, 2, answers="labels")
    result = kind(steps=steps)(box, x, labels, norm())
    assert result.queries.max() <= steps
    assert result.queries.sum() <= predict.rows
    if steps >= 50:
        assert result.success.all()


@WHOLE
def test_each_query_is_one_row_of_predict(name):
    kind, norm, _ = ATTACKS[name]
    x, labels = advex.testing.linear_data(6)
    rows = []
    for steps in (30, 31, 60):
        predict = Counting(advex.testing.linear_model())
        box = advex.BlackBox(predict, 2, answers="labels")
        result = kind(steps=steps)(box, x, labels, norm())
        rows.append(predict.rows - result.queries.sum())
    assert len(set(rows)) == 1  # the checks of a call, and nothing that grows with the steps


@WHOLE
@pytest.mark.parametrize("levels", [False, True])
def test_within_a_budget(name, levels):
    kind, norm, epsilon = ATTACKS[name]
    x, labels = advex.testing.linear_data(8)
    given = _around(x) if levels else x
    result = kind(steps=400)(advex.testing.linear_model(), given, labels, norm(epsilon))
    assert result.success.all()
    assert (result.distance <= epsilon).all()
    free = kind(steps=400)(advex.testing.linear_model(), given, labels, norm())
    assert (free.queries >= result.queries).all()  # a success inside is enough


@WHOLE
def test_targets(name):
    kind, norm, _ = ATTACKS[name]
    generator = np.random.default_rng(1)
    model = advex.testing.linear_model(generator.normal(size=(12, 4)))
    x, labels = advex.testing.linear_data(12, model=model)
    pool, classes = advex.testing.linear_data(100, seed=5, model=model)
    wanted = (labels + 1) % 4
    result = kind(steps=300)(
        model, x, advex.Targeted(wanted), norm(), start=advex.Others(pool, classes)
    )
    known = np.isin(wanted, classes)
    assert known.any() and result.success[known].all()
    assert (result.prediction[result.success] == wanted[result.success]).all()


@WHOLE
def test_from_others_to_the_boundary_of_a_half_space(name):
    kind, norm, _ = ATTACKS[name]
    model, normal, x, others = _half_space()
    labels = np.zeros(len(x), int)
    seen = advex.Others(others, np.ones(len(others), int))
    for start in (seen, others):
        result = kind(steps=1000)(model, x, labels, norm(), start=start)
        assert result.success.all()
        across = (result.x - 0.5) @ normal
        assert (across >= 0).all()
        if kind is not advex.Pointwise or norm is not advex.L0:
            assert (across <= 0.1).all()


# RayS


def test_rays_reaches_the_closed_form():
    model, normal, x, others = _half_space(features=60, distance=0.5)
    result = advex.RayS(steps=3000)(model, x, np.zeros(len(x), int), advex.Linf(), start=others)
    exact = 0.5 / np.abs(normal).sum()
    assert (result.distance >= exact * (1 - 1e-4)).all()
    assert (result.distance <= exact * 1.01).all()


def test_rays_leaves_where_no_flip_helps():
    model, _, x, others = _half_space(features=60, distance=0.5)
    result = advex.RayS(steps=3000)(model, x, np.zeros(len(x), int), advex.Linf(), start=others)
    assert result.queries.max() < 1000


def test_rays_on_levels_ends_within_a_level_or_two():
    model, normal, x, others = _half_space(features=60, distance=0.5)
    whole = _around(x)
    result = advex.RayS(steps=3000)(
        model, whole, np.zeros(len(x), int), advex.Linf(), start=_around(others)
    )
    distance = -((whole / 255.0 - 0.5) @ normal)
    exact = np.ceil(distance / np.abs(normal).sum() * 255)
    found = result.distance * 255
    assert (found >= exact - 1e-6).all() and (found <= exact + 1).all()


# Pointwise


def _alone(model, result, x):
    """Whether putting back any single value of a point loses, row by row."""
    told = []
    for point, original in zip(result.x, x, strict=True):
        changed = np.flatnonzero(point != original)
        tried = np.repeat(point[None], len(changed), axis=0)
        tried[np.arange(len(changed)), changed] = original[changed]
        scale = 255 if x.dtype == np.uint8 else 1
        scores = ops.convert_to_numpy(model(tried.astype("float32") / scale))
        told.append((scores.argmax(1) == 0).all())
    return np.array(told)


@pytest.mark.parametrize("levels", [False, True])
def test_no_single_value_can_be_put_back(levels):
    model, _, x, others = _half_space(features=100, distance=0.8)
    if levels:
        x, others = _around(x), _around(others)
    result = advex.Pointwise(steps=3000)(model, x, np.zeros(len(x), int), start=others)
    assert result.success.all() and result.queries.max() < 3000
    assert (result.distance > 1).all()
    assert _alone(model, result, x).all()


def test_groups_are_cheaper_than_single_values():
    model, _, x, others = _half_space(distance=0.8)
    result = advex.Pointwise(steps=400)(model, x, np.zeros(len(x), int), start=others)
    assert result.success.all()
    assert result.distance.max() < 784 / 4


def test_values_left_are_brought_to_the_boundary():
    model, normal, x, others = _half_space(features=100, distance=0.8)
    labels = np.zeros(len(x), int)
    for norm in (advex.L1, advex.L2):
        result = advex.Pointwise(steps=3000)(model, x, labels, norm(), start=others)
        across = (result.x - 0.5) @ normal
        assert (across >= 0).all() and (across <= 0.01).all()


# SurFree


def test_surfree_comes_near_the_distance_of_a_half_space():
    model, _, x, others = _half_space(features=60, distance=0.5)
    result = advex.SurFree(steps=2000)(model, x, np.zeros(len(x), int), advex.L2(), start=others)
    assert (result.distance >= 0.5 * (1 - 1e-5)).all()
    assert (result.distance <= 0.5 * 1.03).all()


def test_directions_are_orthogonal_to_the_way():
    x, labels = advex.testing.linear_data(3)
    goal, model = advex.Untargeted(labels), advex.testing.linear_model()
    looked_at = 0
    for seen in stepwise(advex.SurFree(steps=60), model, x, goal, advex.L2(), seed=0):
        memory = seen.rows.memory
        phase, edge, way = (ops.convert_to_numpy(memory[name]) for name in ("phase", "edge", "way"))
        fresh = phase == OTHER  # one side was tried, and the point has not moved
        looked_at += fresh.sum()
        np.testing.assert_allclose(np.linalg.norm(way[fresh], axis=1), 1, atol=1e-5)
        np.testing.assert_allclose(((edge - x) * way)[fresh].sum(1), 0, atol=1e-4)
    assert looked_at > 10


# All of them


@WHOLE
def test_one_by_one_is_all_together(name):
    kind, norm, _ = ATTACKS[name]
    x, labels = advex.testing.linear_data(5)
    whole = kind(steps=120)(advex.testing.linear_model(), x, labels, norm())
    for size in (1, 3):
        part = kind(steps=120)(advex.testing.linear_model(), x, labels, norm(), batch_size=size)
        np.testing.assert_allclose(part.x, whole.x, atol=1e-5)
        assert (part.queries == whole.queries).all()


@pytest.mark.parametrize("kind", [advex.RayS, advex.SurFree])
def test_the_contract(kind):
    advex.testing.check_attack(kind(steps=60))
