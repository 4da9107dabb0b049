"""Projections by brute force, directions by their definitions, and the exactness of what is
returned.
"""

import warnings
from dataclasses import dataclass
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras import ops

import advex
from advex._grid import EightBit, Grid
from advex.testing import linear_extreme, linear_model
from advex.testing.exact import inside

NORMS = {"linf": advex.Linf, "l2": advex.L2, "l1": advex.L1, "l0": advex.L0}


def array(values):
    return np.asarray(ops.convert_to_numpy(values))


def tensor(values):
    return ops.convert_to_tensor(values)


def bound(budget, x0, low, high):
    """The budget as a problem sees it, with the limits of each element."""
    lower, upper = budget.bounds(
        x0, (low, high), advex.budgets.base.Fraction(high) - advex.budgets.base.Fraction(low)
    )
    return budget.bound(tensor(np.float32(budget.epsilon))), tensor(lower), tensor(upper)


@pytest.mark.backends
@pytest.mark.parametrize(
    "budget", [advex.Linf(0.2), advex.L2(0.5), advex.L1(0.8), advex.L0(2)], ids=repr
)
def test_projection_is_nearest_idempotent_and_identity_inside(budget):
    generator = np.random.default_rng(0)
    x0 = generator.uniform(size=(200, 5)).astype("float32")
    x0[:50] = np.round(x0[:50])  # at the ends of the box
    x = (
        x0 + generator.normal(size=x0.shape) * generator.choice([0.05, 0.5, 3], size=(200, 1))
    ).astype("float32")
    limited, lower, upper = bound(budget, x0, 0.0, 1.0)
    projected = array(limited.nearest(tensor(x), tensor(x0), lower, upper))
    again = array(limited.nearest(tensor(projected), tensor(x0), lower, upper))
    np.testing.assert_allclose(again, projected, atol=1e-6)
    assert (budget.measure(projected.astype("float64") - x0) <= budget.epsilon * (1 + 1e-6)).all()
    assert (projected >= 0).all() and (projected <= 1).all()
    already = (budget.measure(x.astype("float64") - x0) <= budget.epsilon * 0.999) & (
        (x >= 0) & (x <= 1)
    ).all(1)
    assert already.any() or isinstance(budget, advex.L0)
    np.testing.assert_array_equal(projected[already], x[already])
    # No legal point is nearer: neither random ones, nor those between the projection and random
    # legal points.
    own = np.linalg.norm(projected.astype("float64") - x, axis=1)
    for _ in range(300):
        delta = generator.normal(size=x0.shape) * generator.choice([0.01, 0.1, 1.0])
        if isinstance(budget, advex.L0):
            delta *= np.argsort(np.argsort(generator.uniform(size=x0.shape), 1), 1) < 2
            delta *= 10
        other = np.clip(x0 + delta, 0, 1)
        if isinstance(budget, advex.L0):
            # the best that these elements can do
            other = np.where(delta != 0, np.clip(x, 0, 1), x0)
        else:
            size = budget.measure(other - x0)
            other = (
                x0 + (other - x0) * np.minimum(1, budget.epsilon / np.maximum(size, 1e-12))[:, None]
            )
            other = projected + generator.uniform(size=(200, 1)) * (other - projected)
        assert (np.linalg.norm(other - x, axis=1) >= own - 1e-5).all()


@pytest.mark.backends
@pytest.mark.parametrize(
    "budget", [advex.Linf(0.2), advex.L2(0.5), advex.L1(0.8), advex.L0(2)], ids=repr
)
@pytest.mark.parametrize("way", ["project", "nearest", "around"])
def test_what_is_outside_is_brought_to_the_edge_and_no_farther(budget, way):
    """Neither 1 % too far nor 1 % too short, by each of the three ways; a radius of its own for
    each example.
    """
    generator = np.random.default_rng(1)
    x0 = generator.uniform(0.45, 0.55, size=(60, 8)).astype("float32")
    delta = (generator.normal(size=x0.shape) * 2).astype("float32")  # far outside, in all elements
    radius = np.full(60, budget.epsilon, "float32")
    low, high = tensor(np.float32(-100)), tensor(np.float32(100))
    if way == "project":
        moved = array(budget.bound(tensor(np.float32(budget.epsilon))).project(tensor(delta)))
    elif way == "nearest":
        limited, _, _ = bound(budget, x0, 0.0, 1.0)
        ends = (
            (x0 - np.float32(0.2), x0 + np.float32(0.2))
            if isinstance(budget, advex.Linf)
            else (low, high)
        )
        moved = array(limited.nearest(tensor(x0 + delta), tensor(x0), *map(tensor, ends))) - x0
    else:
        radius *= 1 if isinstance(budget, advex.L0) else np.linspace(0.5, 2, 60, dtype="float32")
        radius[30:] += 1 if isinstance(budget, advex.L0) else 0
        moved = array(budget.around(tensor(x0 + delta), tensor(x0), tensor(radius), low, high)) - x0
    size = budget.measure(moved.astype("float64"))
    # Eight elements below 8 are rounded by 2^-22 at most, twice; curved balls are aimed 3e-7 short;
    # the smallest radius is 0.1.
    np.testing.assert_allclose(
        size, radius, rtol=0, atol=16 * 2.0**-22 if budget.homogeneous else 0
    )
    inner = array(
        budget.bound(tensor(np.float32(budget.epsilon))).project(tensor(moved * np.float32(0.4)))
    )
    assert way != "project" or np.array_equal(inner, moved * np.float32(0.4))


@pytest.mark.backends
@pytest.mark.parametrize("norm", NORMS)
def test_extreme_is_the_maximum_of_the_linear_function(norm):
    generator = np.random.default_rng(3)
    for _ in range(10):
        budget = NORMS[norm](
            int(generator.integers(1, 6)) if norm == "l0" else float(generator.uniform(0.05, 0.49))
        )
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
    np.testing.assert_array_equal(
        array(limited.extreme(tensor(zero), tensor(x0), lower, upper)), x0
    )
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
BOXES = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0), (0.1, 0.7), (-2.117, 2.64))
DTYPES = ("float32", "uint8", "float64", "float16", "bfloat16")


@pytest.fixture(scope="module")
def ill_conditioned():
    """One linear model per box; its classes are so arranged that most attacks succeed with all of
    their budget.
    """
    models = {}
    for box in BOXES:
        weights = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
        models[box] = advex.Classifier(linear_model(weights / np.float32(box[1] - box[0])), box=box)
    return models


@settings(max_examples=85, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_nothing_leaves_ball_or_box(ill_conditioned, data):
    """170 calls of 60 rows: more than 10,000 cases over norm, attack, box, dtype and epsilon, in
    rational arithmetic.

    Each norm, attack, box and dtype that is drawn has two epsilons and two sets of rows: what is
    compiled is used twice.
    """
    box = data.draw(st.sampled_from(BOXES))
    attack = data.draw(st.sampled_from(ATTACKS))
    dtype = data.draw(st.sampled_from(DTYPES))
    norm = data.draw(st.sampled_from(list(NORMS)))
    number = st.one_of(
        st.floats(0, 0.49), st.integers(0, 100).map(lambda k: k / 255), st.floats(0, 1e-6)
    )
    for _ in range(2):
        budget = (
            advex.L0(data.draw(st.integers(0, 8)))
            if norm == "l0"
            else NORMS[norm](data.draw(number))
        )
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
        x[16:20] *= np.asarray(1e-20 if box[0] <= 0 and dtype != "float16" else 1, dtype)
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
    if dtype == "uint8":
        budget = type(budget)(0.5)
    grid, generator = Grid(np.dtype(dtype), (0.0, 1.0)), np.random.default_rng(0)
    x0 = (generator.uniform(0.2, 0.8, size=(50, 40)) * (255 if dtype == "uint8" else 1)).astype(
        dtype
    )
    delta = generator.normal(size=x0.shape)
    delta *= (budget.epsilon * 1.00001 / budget.measure(delta))[:, None] * (
        255 if dtype == "uint8" else 1
    )
    x = (np.rint(x0 + delta) if dtype == "uint8" else x0.astype("float64") + delta).astype(dtype)
    assert not grid.within(x, x0, budget).all()
    settled = grid.settled(x, x0, budget)
    assert grid.within(settled, x0, budget).all()
    if dtype == "float32":
        assert (grid.distance(settled, x0, budget) > 0.999 * budget.epsilon).all()
    elif dtype == "uint8":
        assert (grid.distance(settled, x0, budget) > 0.5 * budget.epsilon).all()


# Ends of boxes, and points a hair beyond the edge: no model, rational arithmetic.

ENDS = (
    (0.0, 0.3),
    (0.1, 0.7),
    (-1.1, 2.2),
    (0.0, 1 / 3),
    (-2.117, 2.64),
    (1e-3, 1.7),
    (0.0, 1.0),
    (0.0, 255.0),
)
KINDS = ("float32", "float64", "float16", "bfloat16", "uint8")


def of_kind(values, dtype, box):
    """Values, 0 to 1, of the box as an array that the search takes: the ends are those that the
    dtype can express.
    """
    if dtype == "uint8":
        return np.rint(values * 255).astype("uint8")
    exact = np.dtype("float32" if dtype == "float64" else dtype)
    low, high = (np.asarray(end, exact) for end in box)
    return np.clip((box[0] + values * (box[1] - box[0])).astype(exact), low, high).astype(dtype)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    box=st.sampled_from(ENDS),
    dtype=st.sampled_from(KINDS),
    norm=st.sampled_from(list(NORMS)),
    share=st.floats(1e-3, 0.49),
    hair=st.sampled_from([0.0, 1e-7, 1e-3, 0.5]),
    seed=st.integers(0, 2**31),
)
def test_what_is_settled_is_inside_ball_and_box(box, dtype, norm, share, hair, seed):
    generator = np.random.default_rng(seed)
    grid, budget = (
        Grid(np.dtype(dtype), box),
        advex.L0(int(8 * share)) if norm == "l0" else NORMS[norm](share),
    )
    start = generator.uniform(size=(30, 8))
    start[:10] = np.round(start[:10])  # exactly at the ends
    x0 = of_kind(start, dtype, box)
    assert inside(x0, x0, budget, box)
    assert grid.within(x0, x0, budget).all()
    delta = generator.normal(size=start.shape)
    size = np.maximum(budget.measure(delta), 1e-9)[:, None] if budget.homogeneous else 1
    x = of_kind(
        np.clip(start + delta / size * (share if budget.homogeneous else 1) * (1 + hair), 0, 1),
        dtype,
        box,
    )
    settled = grid.settled(x, x0, budget)
    assert inside(settled, x0, budget, box)
    assert grid.within(settled, x0, budget).all()
    assert settled.dtype == x.dtype
    already = grid.within(x, x0, budget)
    assert (settled[already] == x[already]).all()
    assert (
        hair
        or dtype != "float32"
        or norm in ("l0", "linf")
        or (grid.distance(settled, x0, budget)[10:] > 0.5 * share).any()
    )


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    box=st.sampled_from(ENDS),
    dtype=st.sampled_from(KINDS),
    epsilon=st.floats(0, 0.49),
    seed=st.integers(0, 2**31),
)
def test_limits_of_the_maximum_norm_are_the_last_legal_values(box, dtype, epsilon, seed):
    """Exactly: the limit is inside, and the next value of the dtype is outside or beyond the
    box."""
    grid, budget, generator = (
        Grid(np.dtype(dtype), box),
        advex.Linf(epsilon),
        np.random.default_rng(seed),
    )
    start = generator.uniform(size=(1, 24))
    start[:, :8] = np.round(start[:, :8])
    x0 = of_kind(start, dtype, box)
    working = grid.working(x0)
    for limit, end, way in zip(grid.bounds(x0, budget), box, (-1, 1), strict=True):
        assert limit.dtype == "float32"
        assert (way * limit >= way * working).all()
        last = grid.returned(limit)
        assert inside(last, x0, budget, box)
        if dtype == "uint8":
            beyond = np.clip(last.astype(int) + way, 0, 255).astype("uint8")
        else:
            exact = last.astype(grid.exact)
            beyond = np.nextafter(exact, np.asarray(way * np.inf, grid.exact)).astype(dtype)
            beyond = np.where(exact == np.asarray(end, grid.exact), exact.astype(dtype), beyond)
        for column in range(24):  # one at a time: at the box's end it is the limit itself
            one, of = beyond[:, column : column + 1], x0[:, column : column + 1]
            assert one == last[:, column : column + 1] or not inside(one, of, budget, box)


@settings(max_examples=200, deadline=None)
@given(low=st.floats(-300, 300), span=st.floats(0.1, 600))
def test_the_256_levels_stay_in_any_box_and_are_found_again(low, span):
    box = (low, low + span)
    grid, levels = Grid(np.dtype("uint8"), box), np.arange(256, dtype="uint8")[None]
    values = grid.working(levels)
    assert values.dtype == "float32"
    assert values[0, 0] == np.float32(box[0])
    assert (values <= np.float32(box[1])).all()
    assert np.float32(box[1]) - values[0, -1] <= 4 * np.spacing(np.float32(max(map(abs, box))))
    assert (grid.returned(values) == levels).all()


@pytest.mark.parametrize("box", ENDS)
def test_the_model_is_shown_the_levels_that_are_judged(box):
    """What the search sees of a level is what the judge sees, bit for bit; at the ends of the box
    too.
    """
    grid, levels = Grid(np.dtype("uint8"), box), np.arange(256, dtype="uint8")[:, None]
    x0 = grid.working(levels)
    for budget in (advex.L2(0.5), advex.Linf(0.1)):
        lower, upper = (tensor(values) for values in grid.bounds(levels, budget))
        limit = budget.bound(tensor(np.float32(budget.limit(grid.span))))
        shown = grid.snapped(tensor(x0), tensor(x0), limit, lower, upper, tensor(np.float32(255)))
        np.testing.assert_array_equal(array(shown), x0)


def test_a_point_that_cannot_be_pulled_in_is_given_up():
    grid, x0 = Grid(np.dtype("float32"), (0.0, 1.0)), np.full((2, 3), 0.5, "float32")
    x = x0.copy()
    x[0], x[1, 0] = np.nan, 0.55
    settled = grid.settled(x, x0, advex.L2(0.1))
    assert (settled[0] == x0[0]).all()
    assert (settled[1] == x[1]).all()


@pytest.mark.parametrize("dtype", KINDS[:-1])
@pytest.mark.parametrize("box", [(0.0, 0.3), (0.1, 0.7), (-1.1, 2.2)])
def test_a_value_beyond_the_end_of_the_box_is_outside_within_any_budget(dtype, box):
    """One unit of the dtype is enough; the end itself, as the dtype has it, is inside."""
    grid = Grid(np.dtype(dtype), box)
    for end, way in zip(box, (-np.inf, np.inf), strict=True):
        last = np.asarray([[end, sum(box) / 2]], grid.exact)
        beyond = last.copy()
        beyond[0, 0] = np.nextafter(last[0, 0], np.asarray(way, grid.exact))
        for budget in (advex.Linf(0.4), advex.L2(0.4), advex.L1(0.4), advex.L0(2), advex.L2()):
            assert grid.within(last.astype(dtype), last.astype(dtype), budget).all()
            assert not grid.within(beyond.astype(dtype), last.astype(dtype), budget).any()
            if budget.limited and not isinstance(budget, advex.L0):
                settled = grid.settled(beyond.astype(dtype), last.astype(dtype), budget)
                assert inside(settled, last.astype(dtype), budget, box)


def exactly(levels, original, box, budget):
    """The distance of a file from an input in rational numbers (L2: its square), without any of
    advex's arithmetic.
    """
    low, span = Fraction(box[0]), Fraction(box[1]) - Fraction(box[0])
    change = [
        abs(Fraction(int(level), 255) - (Fraction(float(value)) - low) / span)
        for level, value in zip(levels.ravel(), original.ravel(), strict=True)
    ]
    if isinstance(budget, advex.Linf):
        return max(change)
    return (
        sum((c * c for c in change), Fraction(0))
        if isinstance(budget, advex.L2)
        else sum(change, Fraction(0))
    )


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    box=st.sampled_from(ENDS),
    dtype=st.sampled_from(KINDS[:-1]),
    norm=st.sampled_from(["linf", "l2", "l1"]),
    levels=st.one_of(st.integers(1, 60), st.floats(0.1, 60)),
    snapped=st.sampled_from([0.0, 0.5, 1.0]),
    seed=st.integers(0, 2**31),
)
def test_the_levels_of_a_file_are_inside_in_rational_arithmetic(
    box, dtype, norm, levels, snapped, seed
):
    """Inputs on levels, off them and mixed: inside where that can be, never called inside where it
    is not, towards the input.
    """
    generator = np.random.default_rng(seed)
    start = generator.uniform(size=(1, 12))
    start = np.where(
        generator.uniform(size=start.shape) < snapped, np.rint(start * 255) / 255, start
    )
    original = of_kind(start, dtype, box)[0]
    epsilon = min(levels / 255, 0.49) if norm == "linf" else levels / 255
    budget = NORMS[norm](epsilon)
    delta = generator.normal(size=start.shape) * (generator.uniform(size=start.shape) < 0.7)
    delta *= epsilon / np.maximum(budget.measure(delta), 1e-9)[:, None]
    grid = Grid(np.dtype(dtype), box)
    point = grid.settled(of_kind(np.clip(start + delta, 0, 1), dtype, box), original[None], budget)[
        0
    ]
    file = EightBit(original, box, budget)
    found = file.rounded(point)
    limit = Fraction(epsilon) * (1 + Fraction(1, 2**52))
    power = 2 if norm == "l2" else 1
    size, cost = (exactly(written, original, box, budget) for written in (found, file.nearest))
    assert file.size(found) == pytest.approx(float(size) ** (1 / power), rel=1e-9, abs=1e-12)
    assert file.within(found) <= (size <= limit**power)
    if cost <= Fraction(epsilon) ** power:
        assert file.within(found)
    # Between the input and the point, or where rounding the input itself ends.
    x0, x = (
        np.asarray((values.astype("float64") - box[0]) / (box[1] - box[0]) * 255)
        for values in (original, point)
    )
    between = (found >= np.minimum(x0, x) - 1e-3) & (found <= np.maximum(x0, x) + 1e-3)
    assert (between | (np.abs(found - x0) <= 0.5 + 1e-3)).all()


def test_a_file_of_whole_levels_may_use_all_of_them():
    """8 of 255 levels are inside 8 / 255, which no float64 is exactly; an input a hair below its
    level goes up one less.
    """
    for k in range(1, 128):
        file = EightBit(np.array([128.0, 128.0], "float32"), (0.0, 255.0), advex.Linf(k / 255))
        assert file.rounded(np.array([128.0 + k, 128.0 - k], "float32")).tolist() == [
            128 + k,
            128 - k,
        ]
    hair = np.nextafter(np.float32(100), np.float32(0))
    file = EightBit(np.array([hair, hair]), (0.0, 255.0), advex.Linf(8 / 255))
    assert file.rounded(np.array([108.0, 92.0], "float32")).tolist() == [107, 92]


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", ml_dtypes.bfloat16])
@pytest.mark.parametrize("box", [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)])
def test_which_elements_a_file_changes(dtype, box):
    """L0: inputs that are levels but for the rounding of their dtype are on them; the rest moves by
    being written.
    """
    levels = np.arange(256)
    original = (box[0] + levels / 255 * (box[1] - box[0])).astype(dtype)
    file = EightBit(original, box, advex.L0(3))
    assert file.size(levels.astype("uint8")) == 0
    assert (file.nearest == levels).all() or dtype not in ("float32", "float64")
    changed = levels.copy()
    changed[[3, 70, 200]] += 2
    assert file.size(changed.astype("uint8")) == 3
    assert file.within(changed.astype("uint8"))
    changed[9] += 2
    assert not file.within(changed.astype("uint8"))
    if dtype in ("float32", "float64"):
        off = (original.astype("float64") + 0.3 / 255 * (box[1] - box[0])).astype(dtype)[:-1]
        assert EightBit(off, box, advex.L0(3)).size(levels[:-1].astype("uint8")) == 255


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


def test_a_sticker_may_take_any_value():
    advex.Linf(1, mask=np.eye(3, dtype=bool))  # no warning, which would be an error here
    with pytest.raises(advex.errors.AdvexWarning):
        advex.Linf(1)


def test_a_budget_of_ones_own_measures_what_has_the_shape_of_an_example(embedded):
    """Also where the search asks about rounding."""
    model, images, labels = embedded
    seen = []

    @dataclass(frozen=True, repr=False)
    class Rows(advex.L2):
        def measure(self, delta):
            seen.append(delta.shape[1:])
            return super().measure(delta)

    advex.PGD(steps=2)(model, images[:4] / np.float32(255), labels[:4], Rows(0.5))
    assert set(seen) == {(28, 28, 1)}
