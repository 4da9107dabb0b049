"""NES, SPSA, SimBA and Sparse-RS: closed forms, counts, limits, and what they make of levels."""

import itertools
import math
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import ops

import advex
from advex.attacks.nes import NES
from advex.attacks.simba import SimBA
from advex.attacks.sparse_rs import ENDS, SHARES, SparseRS
from advex.attacks.spsa import SPSA
from advex.errors import GradientUnavailable, InvalidInput, InvalidType
from advex.testing import linear_data, linear_model, small_network, stepwise, walk

TENSORFLOW = keras.backend.backend() == "tensorflow"
WIDE = (advex.Linf(0.02), advex.L2(0.15))
CASES = {
    "NES": (NES(steps=40, pairs=5), WIDE),
    "SPSA": (SPSA(steps=40, pairs=5, step_size=0.05), WIDE),
    "SimBA": (SimBA(steps=40), WIDE),
    "waves": (SimBA(steps=40, basis="dct"), WIDE),
    "SparseRS": (SparseRS(steps=40), (advex.L0(2),)),
}
BUDGETS = {"SparseRS": advex.L0(4)}  # otherwise the one below
USUAL = advex.Linf(0.1)


def attacks(steps):
    return {
        "NES": NES(steps=steps, pairs=5),
        "SPSA": SPSA(steps=steps, pairs=5, step_size=0.05),
        "SimBA": SimBA(steps=steps),
        "waves": SimBA(steps=steps, basis="dct"),
        "SparseRS": SparseRS(steps=steps),
    }


NAMES = list(CASES)


class Counting:
    """A function of scores that writes down what it is asked."""

    def __init__(self, weights, bias=0.0):
        self.weights, self.bias, self.asked = np.asarray(weights, "float64"), bias, []

    def __call__(self, x):
        x = np.asarray(x)
        self.asked.append(x.copy())
        return (x.reshape(len(x), -1) @ self.weights + self.bias).astype("float32")

    @property
    def points(self):
        return np.concatenate(self.asked)


def data(shape=(9, 9, 1), count=12, classes=3, seed=0):
    generator = np.random.default_rng(seed)
    x = generator.uniform(size=(count, *shape)).astype("float32")
    weights = generator.normal(size=(math.prod(shape), classes))
    labels = (x.reshape(count, -1) @ weights).argmax(1)
    return x, labels, weights


def margins(points, labels, weights):
    logits = points.reshape(len(points), -1).astype("float64") @ weights
    right = np.take_along_axis(logits, labels[:, None], 1)[:, 0]
    np.put_along_axis(logits, labels[:, None], -np.inf, 1)
    return logits.max(1) - right


def halfspace(normal):
    """A linear model whose margin grows along ``normal``, and is 0 in the middle of the box."""
    normal = np.asarray(normal, "float32")
    weights = np.stack([-normal / 2, normal / 2], axis=1)
    return linear_model(weights, bias=-weights.sum(axis=0) / 2)


# What all of them promise.


@pytest.mark.backends
@pytest.mark.parametrize("name", NAMES)
def test_scores_contract(contract, name):
    contract(*CASES[name])


@pytest.mark.backends
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 50, 500] if TENSORFLOW else [1, 7, 50])
def test_as_many_are_asked_as_are_counted_and_never_more_than_the_limit(name, steps):
    x, labels, weights = data()
    labels[3] = (labels[3] + 1) % 3
    predict = Counting(weights)
    box = advex.BlackBox(predict, classes=3)
    budget = advex.L0(1) if name == "SparseRS" else advex.Linf(0.01)
    result = attacks(steps)[name](box, x, labels, budget, batch_size=5)
    assert len(predict.points) == result.queries.sum()
    assert result.queries.max() <= max(steps, 1) and result.queries[3] == 1
    held = ~result.success
    assert held.any() or steps > 7
    if name in ("NES", "SPSA", "SparseRS"):  # SimBA may run out of what changes anything
        assert (result.queries[held] == max(steps - 1, 1)).all()
    assert (result.gradients == 0).all()


@pytest.mark.backends
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("levels", [False, True])
def test_only_legal_points_are_asked(name, levels):
    """Of the box, and in the maximum norm of the ball; of levels nothing but levels."""
    x, labels, weights = data()
    x[:, :4] = np.round(x[:, :4])  # many elements at the ends
    labels = (x.reshape(len(x), -1) @ weights).argmax(1)
    given = np.rint(255 * x).astype("uint8") if levels else x
    x = given / np.float32(255) if levels else x
    predict = Counting(weights)
    budget = BUDGETS.get(name, advex.Linf(0.02))
    result = attacks(80)[name](advex.BlackBox(predict, classes=3), given, labels, budget)
    points = predict.points
    assert (points >= 0).all() and (points <= 1).all()
    if levels:
        assert np.abs(points * 255 - np.rint(points * 255)).max() < 1e-3
        assert result.x.dtype == np.uint8
    if name != "SparseRS":
        far = np.abs(points[:, None].astype("float64") - x[None]).max(axis=(2, 3, 4))
    else:
        far = (points[:, None] != x[None]).sum(axis=(2, 3, 4))
    assert (far.min(axis=1) <= budget.epsilon * 1.0001).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["float32", "uint8"])
def test_the_same_for_every_size_of_a_batch_and_for_a_function(name, kind):
    x, labels, weights = data(shape=(12,))
    x = x if kind == "float32" else np.rint(255 * x).astype("uint8")
    model = linear_model(weights.astype("float32"))
    budget = BUDGETS.get(name, USUAL)
    whole = attacks(60)[name](model, x, labels, budget)
    small = attacks(60)[name](model, x, labels, budget, batch_size=5)
    box = advex.BlackBox(Counting(weights), classes=3)
    asked = attacks(60)[name](box, x, labels, budget, batch_size=7)
    for other in (small, asked):
        assert (other.success == whole.success).all()
        assert (other.queries == whole.queries).all()
    assert (small.x == whole.x).all()


@pytest.mark.backends
@pytest.mark.parametrize("name", NAMES)
def test_targets(name):
    x, _, weights = data(shape=(12,), count=16)
    model = linear_model(weights.astype("float32"))
    second = (x @ weights).argsort(1)[:, -2]
    budget = advex.L0(5) if name == "SparseRS" else advex.L2(1.0)
    result = attacks(200)[name](model, x, advex.Targeted(second), budget)
    assert result.success.mean() > 0.6
    assert (result.prediction[result.success] == second[result.success]).all()


@pytest.mark.parametrize("name", NAMES)
def test_nothing_changes_outside_a_mask(name):
    x, labels, weights = data(shape=(9, 9, 1))
    mask = np.zeros((9, 9, 1), bool)
    mask[2:6, 1:8] = True
    budget = advex.L0(40, mask=mask) if name == "SparseRS" else advex.L2(2.0, mask=mask)
    predict = Counting(weights)
    result = attacks(300)[name](advex.BlackBox(predict, classes=3), x, labels, budget)
    assert result.success.sum() > 3
    outside = predict.points[:, None, ~mask] == x[None, :, ~mask]
    assert (
        outside.all(axis=(2, 3)).any(axis=1).all()
        if outside.ndim == 4
        else outside.all(2).any(1).all()
    )


def test_they_do_what_gradient_attacks_do_and_no_more():
    """On a linear model no success below the distance of the boundary, and most a little above."""
    model, (x, labels) = linear_model(), linear_data(24)
    least = advex.DeepFool()(model, x, labels, advex.L2()).distance
    for attack in (NES(steps=400, pairs=6), SPSA(steps=400, pairs=6), SimBA(steps=400)):
        for share, expected in ((0.98, 0.0), (1.25, 0.9)):
            epsilons = np.maximum(share * least, 1e-6)
            result = attack(model, x, labels, advex.L2(epsilons))
            alive = least > 0
            assert result.success[alive].mean() >= expected
            if not expected:
                assert not result.success[alive].any()


# Estimates of the gradient.


def estimates(attack, elements, levels=False, count=64):
    """The cosine of each row's first estimate with the gradient of a linear loss."""
    generator = np.random.default_rng(1)
    normal = generator.normal(size=elements)
    x = generator.uniform(0.45, 0.55, size=(count, elements)).astype("float32")
    x = np.rint(255 * x).astype("uint8") if levels else x
    labels = np.zeros(count, int)
    sums = np.zeros((count, elements))
    for seen in stepwise(attack, halfspace(normal), x, labels, advex.Linf(0.4)):
        memory = seen.rows.memory
        if int(np.asarray(ops.convert_to_numpy(memory["moves"])).max()) > 0:
            break
        sums = np.asarray(ops.convert_to_numpy(memory["slope"]))
    past = memory["past"]
    made = np.asarray(ops.convert_to_numpy(past.get("velocity", past.get("mean"))), "float64")
    assert np.abs(sums).sum() > 0
    way = made if "velocity" in past else -made
    return way @ normal / np.linalg.norm(way, axis=1) / np.linalg.norm(normal)


@pytest.mark.backends
@pytest.mark.parametrize("pairs", [20, 50, 150])
def test_the_cosine_of_an_estimate_is_that_of_the_formula(pairs):
    elements = 150
    found = estimates(NES(pairs=pairs, sigma=0.01), elements)
    assert abs(found.mean() - math.sqrt(pairs / (pairs + elements + 1))) < 0.02
    found = estimates(SPSA(pairs=pairs), elements)
    assert abs(found.mean() - math.sqrt(pairs / (pairs + elements - 1))) < 0.02


def test_levels_do_not_hide_the_slope():
    """With a sigma far below a level all points of a round would be one image."""
    found = estimates(NES(pairs=50, sigma=1e-4), 150, levels=True)
    assert found.min() > 0.2 and abs(found.mean() - 0.5) < 0.03


@pytest.mark.parametrize("levels", [False, True])
def test_an_estimate_is_made_of_what_was_shown(levels):
    """Where a point of a pair cannot leave the box, or is rounded, its real place counts."""
    x, _, weights = data(count=1)
    x[:, :6] = np.round(x[:, :6])
    given = np.rint(255 * x).astype("uint8") if levels else x
    x = given[0].ravel() / np.float64(255) if levels else x[0].ravel().astype("float64")
    labels = np.asarray([1])
    predict = Counting(weights, bias=np.asarray([0.0, 40.0, 0.0]))
    attack = NES(steps=2 + 60 + 1, pairs=30, sigma=0.02, step_size=1.0)
    epsilon = 2.0
    attack(advex.BlackBox(predict, classes=3), given, labels, advex.L2(epsilon))
    points = predict.points.reshape(len(predict.points), -1).astype("float64")
    assert len(points) == 62
    points, moved = points[1:61], points[61] - x
    logits = points @ weights + predict.bias
    value = np.maximum(logits[:, 0], logits[:, 2]) - logits[:, 1]
    slope = ((value[::2] - value[1::2])[:, None] * (points[::2] - points[1::2])).sum(0)
    inner = (x > 0) & (x < 1) & (np.abs(moved) < 0.9 * np.minimum(x, 1 - x))
    way, found = slope[inner], moved[inner]
    ratio = found @ way / (way @ way)
    tolerance = 1 / 255 if levels else 1e-5
    assert inner.sum() > 8 and ratio > 0 and np.abs(found - ratio * way).max() < tolerance


def test_the_moves_are_those_of_the_papers():
    """NES: a fifth of epsilon against the signs, and a running mean; SPSA: Adam's first step."""
    x, labels, weights = data(shape=(12,), count=8)
    model = linear_model(weights.astype("float32"))
    x = 0.3 + 0.4 * x
    labels = (x @ weights).argmax(1)
    points = walk(NES(steps=60, pairs=3), model, x, labels, advex.Linf(0.05)).points
    moved = [after - before for before, after in itertools.pairwise(points)]
    size = np.stack([np.abs(change).max(1) for change in moved])
    assert np.isclose(size[size > 1e-6].max(), 0.01, rtol=1e-3)
    first = moved[0]
    np.testing.assert_allclose(np.abs(first), 0.01, rtol=1e-3)
    points = walk(SPSA(steps=30, pairs=3), model, x, labels, advex.Linf(0.05)).points
    np.testing.assert_allclose(np.abs(points[1] - points[0]), 0.01, rtol=1e-2)


def test_the_velocity_is_a_running_mean():
    x, labels, weights = data(shape=(12,), count=4)
    model = linear_model(weights.astype("float32"))

    def velocities(decay):
        attack = NES(steps=200, pairs=3, decay=decay)
        seen = itertools.islice(stepwise(attack, model, x, labels, advex.Linf(0.05)), 1, 3)
        return [ops.convert_to_numpy(each.rows.memory["past"]["velocity"]) for each in seen]

    (one, two), (first, second) = velocities(0.0), velocities(0.75)  # the first moves are the same
    np.testing.assert_allclose(first, one / 4, rtol=1e-4)
    np.testing.assert_allclose(second, 3 / 16 * one + two / 4, rtol=1e-3, atol=1e-9)


def test_a_last_round_is_as_short_as_the_limit_wants():
    """So that its point is looked at: 20 pairs, a move, and what is left for six more."""
    x, labels, weights = data(count=1)
    predict = Counting(weights)
    attack = NES(steps=2 + 40 + 1 + 2 * 6 + 1, pairs=20)
    result = attack(advex.BlackBox(predict, classes=3), x, labels, advex.Linf(1e-4))
    assert not result.success.any() and len(predict.points) == result.queries[0] == 55
    points = predict.points.reshape(55, -1)
    one, two = points[41], points[54]
    np.testing.assert_allclose(
        points[1:41].reshape(20, 2, -1).mean(1).mean(0), x.ravel(), atol=1e-4
    )
    assert np.allclose(np.abs(one - x.ravel()), 2e-5, atol=1e-6) and np.abs(two - one).max() > 1e-6
    assert np.abs(two - x.ravel()).max() < 5e-5  # two moves away, not at the end of the ball
    # one pair after the other, not all ahead first
    assert (points[1:41:2] != points[2:42:2]).any(1).all()


# SimBA.


@pytest.mark.backends
def test_simba_on_a_linear_model_is_a_formula():
    """All directions are worth the same: T = margin / (step * weight) of them, a change of step *
    sqrt(T), and 1.5 queries for each.
    """
    elements, weight, step = 200, 0.7, 0.02
    generator = np.random.default_rng(3)
    normal = weight * generator.choice([-1.0, 1.0], size=elements)
    x = generator.uniform(0.4, 0.6, size=(40, elements)).astype("float32")
    labels = ((x - 0.5) @ normal > 0).astype(int)
    model = halfspace(normal)
    need = np.abs((x.astype("float64") - 0.5) @ normal)
    count = np.floor(need / (step * weight)) + 1
    usable = (count < elements) & (np.abs(need / (step * weight) % 1 - 0.5) < 0.48)
    result = SimBA(step_size=step)(model, x, labels, advex.L2())
    assert usable.sum() > 30 and result.success[usable].all()
    np.testing.assert_allclose(result.distance[usable], step * np.sqrt(count[usable]), rtol=1e-4)
    spent = result.queries - 3  # the clean input twice, and the last judgement
    assert (spent[usable] >= count[usable]).all() and (spent <= 2 * count)[usable].all()
    assert abs(spent[usable].sum() / count[usable].sum() - 1.5) < 0.06


def test_simba_ends_at_the_first_success_where_there_is_no_limit():
    x, labels, weights = data(shape=(12,))
    predict = Counting(weights)
    result = SimBA(steps=400)(advex.BlackBox(predict, classes=3), x, labels, advex.L2())
    assert result.success.all() and result.queries.max() < 60


@pytest.mark.parametrize("shape", [(9, 10, 2), (8, 9), (20,), (4, 12, 1)], ids=str)
@pytest.mark.parametrize("basis", ["pixels", "dct"])
def test_directions_are_an_orthonormal_basis(shape, basis):
    attack, elements = SimBA(basis=basis, step_size=0.2, stride=3), math.prod(shape)
    one, nothing = ops.convert_to_tensor(1.0), ops.convert_to_tensor(0.0)
    x0 = ops.zeros((elements, *shape))
    problem = SimpleNamespace(x0=x0, span=one, width=one, grain=nothing)
    index = ops.arange(elements, dtype="int32")
    made = attack._way(problem, index, ops.zeros_like(index))
    made = np.asarray(ops.convert_to_numpy(made), "float64").reshape(elements, -1) / 0.2
    np.testing.assert_allclose(made @ made.T, np.eye(elements), atol=1e-5)
    waves = basis == "dct" and any(side >= 8 for side in shape) and len(shape) > 1
    assert (np.count_nonzero(np.abs(made) > 1e-6, axis=1) > 1).any() == waves


def test_slow_waves_come_first():
    attack, shape = SimBA(basis="dct"), (28, 28, 1)
    block = attack._blocks(shape)[..., 0]
    assert (block[:7, :7] == 0).all() and (block[7:14, :7] == 1).all() and block.max() == 3
    assert (block[21:] == 3).all() and (block[:, 21:] == 3).all() and block[13, 13] == 1
    large = attack._blocks((224, 224, 3))
    assert (large[:28, :28] == 0).all() and (large[28:35, 0] == 1).all() and large[35, 0, 0] == 2
    assert not SimBA()._blocks(shape).any()
    x, labels, _ = data(shape=(28, 28, 1), count=3)
    model = keras.Sequential(
        [keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(3)]
    )
    seen = next(iter(stepwise(attack, model, x, labels, advex.L2(1.0))))
    order = np.asarray(ops.convert_to_numpy(seen.rows.memory["order"]))
    assert (np.sort(order, axis=1) == np.arange(784)).all()  # none twice
    assert (np.diff(block.ravel()[order], axis=1) >= 0).all()
    assert (order[0] != order[1]).any()


def test_simba_asks_nothing_that_changes_nothing():
    """Elements at an end are asked about once; and when all were tried, again in a new order."""
    weights = np.stack([np.ones(6), -np.ones(6)], axis=1)  # grows downwards: black is worst
    predict = Counting(weights, bias=np.asarray([1.5, 0.2]))
    x = np.zeros((1, 6), "float32")
    result = SimBA(steps=30)(advex.BlackBox(predict, classes=2), x, [0], advex.Linf(0.1))
    points = predict.points
    assert not result.success.any()
    up = points[2:]  # after the clean input, twice
    assert (np.count_nonzero(up, axis=1) == 1).all() and abs(up.max() - 0.1) < 1e-6
    rounds = up[:24].argmax(1).reshape(4, 6)
    assert (np.sort(rounds, axis=1) == np.arange(6)).all()
    assert len({tuple(order) for order in rounds.tolist()}) > 1


def test_simba_keeps_what_grows():
    x, labels, weights = data(shape=(12,), count=8)
    model = linear_model(weights.astype("float32"))
    points = walk(SimBA(steps=60), model, x, labels, advex.L2(0.3)).points
    values = np.stack([margins(point, labels, weights) for point in points])
    assert (np.diff(values, axis=0) >= -1e-5).all() and (values[-1] > values[0]).all()


# Sparse-RS.


def test_the_schedule_is_that_of_the_authors():
    def shares(it):
        table = zip((*ENDS[1:], 10**9), SHARES[1:], strict=True)
        return 1 if it <= 0 else next(share for end, share in table if it <= end)

    for steps, rescale in ((10_000, True), (5000, True), (400, True), (400, False)):
        attack = SparseRS(steps=steps, alpha=0.8, rescale=rescale)
        step = np.arange(0, steps, 7)
        size = ops.full((len(step),), 100, dtype="int32")
        problem = SimpleNamespace(step=ops.convert_to_tensor(step.astype("int32")))
        found = ops.convert_to_numpy(attack._exchanged(problem, size))
        scaled = step * 10_000 // steps if rescale else step
        expected = [max(int(80 / shares(it) + 1e-4), 1) for it in scaled]
        assert found.tolist() == expected


@pytest.mark.backends
def test_a_proposal_exchanges_elements_and_is_kept_if_the_loss_grows():
    x, labels, weights = data(shape=(6, 6, 1), count=6)
    x = 0.2 + 0.6 * x
    labels = (x.reshape(6, -1) @ weights).argmax(1)
    model = keras.Sequential(
        [keras.Input((6, 6, 1)), keras.layers.Flatten(), keras.layers.Dense(3)]
    )
    model.layers[-1].set_weights([weights.astype("float32"), np.zeros(3, "float32")])
    size = 10
    points = walk(SparseRS(steps=62, rescale=False), model, x, labels, advex.L0(size)).points
    assert (points[0] == x).all()
    values = np.stack([margins(point, labels, weights) for point in points[1:]])
    assert (np.diff(values, axis=0) >= -1e-5).all() and (values[-1] > values[0]).all()
    kept = 0
    for before, after in itertools.pairwise(points[1:]):
        assert ((after != x).sum(axis=(1, 2, 3)) == size).all()
        assert np.isin(after[after != x], (0.0, 1.0)).all()
        gone = ((before != x) & (after == x)).sum(axis=(1, 2, 3))
        come = ((before == x) & (after != x)).sum(axis=(1, 2, 3))
        assert (gone == come).all() and gone.max() <= 1  # int(0.15 * 10)
        stay = (before != x) & (after != x)
        assert (before[stay] == after[stay]).all()
        kept += int(gone.sum())
    assert kept > 20
    changed = (points[1] != x).reshape(6, -1)
    assert len({tuple(row) for row in changed.tolist()}) == 6  # every row draws its own


def test_an_element_at_an_end_goes_to_the_other():
    x, labels, weights = data(shape=(30,), count=4)
    x = np.round(x)
    predict = Counting(weights)
    SparseRS(steps=20)(advex.BlackBox(predict, classes=3), x, labels, advex.L0(3))
    changed = (predict.points[:, None] != x[None]).sum(2).min(1)
    assert set(changed.tolist()) == {0, 3}


def test_as_many_elements_as_there_are():
    """Then there is nothing to exchange, and ends are drawn anew."""
    x, labels, weights = data(shape=(5,), count=4)
    for size in (5, 9, 4, 0):
        predict = Counting(weights)
        result = SparseRS(steps=40, alpha=1.0)(
            advex.BlackBox(predict, classes=3), x, labels, advex.L0(size)
        )
        assert len(predict.points) == result.queries.sum()
        assert result.success.any() == (size > 0)
        changed = (predict.points[:, None] != x[None]).sum(2).min(1)
        assert set(changed.tolist()) <= {0, min(size, 5)}  # none is put back for nothing
    sizes = advex.L0([1, 2, 3, 4])  # one for each
    result = SparseRS(steps=40)(linear_model(weights.astype("float32")), x, labels, sizes)
    assert (result.distance[result.success] <= np.asarray([1, 2, 3, 4])[result.success]).all()


def test_elements_that_may_not_change_are_not_chosen():
    x, labels, weights = data(shape=(40,), count=4)
    mask = np.arange(40) % 5 == 0
    for size in (5, 8):  # of eight
        predict = Counting(weights)
        budget = advex.L0(size, mask=mask)
        SparseRS(steps=30)(advex.BlackBox(predict, classes=3), x, labels, budget)
        changed = (predict.points[:, None] != x[None]).sum(2).min(1)
        assert set(changed.tolist()) == {0, size}


# What they refuse.


def test_what_does_not_fit_is_refused():
    model, (x, labels) = linear_model(), linear_data(4)
    for attack in (NES(), SPSA()):
        with pytest.raises(InvalidInput, match="needs a limit"):
            attack(model, x, labels, advex.L2())
        for budget in (advex.L1(1.0), advex.L0(2)):
            with pytest.raises(InvalidInput, match="supports only Linf and L2"):
                attack(model, x, labels, budget)
    with pytest.raises(InvalidInput, match="supports only L2 and Linf"):
        SimBA()(model, x, labels, advex.L0(2))
    with pytest.raises(InvalidInput, match="supports only L0"):
        SparseRS()(model, x, labels, advex.Linf(0.1))
    with pytest.raises(InvalidInput, match="needs a limit"):
        SparseRS()(model, x, labels, advex.L0())
    with pytest.raises(InvalidInput, match=r"SimBA\(basis=\.\.\.\)"):
        SimBA(basis="dft")
    with pytest.raises(InvalidInput, match=r"SparseRS\(alpha=\.\.\.\)"):
        SparseRS(alpha=1.5)
    with pytest.raises(InvalidInput, match=r"NES\(pairs=\.\.\.\)"):
        NES(pairs=0)
    with pytest.raises(InvalidType, match=r"SPSA\(delta=\.\.\.\)"):
        SPSA(delta="0.1")
    box = advex.BlackBox(lambda x: np.zeros(len(x), int), classes=2, answers="labels")
    with pytest.raises(GradientUnavailable, match=r"NES\(margin\) needs scores"):
        NES()(box, x, labels, advex.Linf(0.1))


def test_restarts_and_targets_go_around_them():
    model, x = small_network(), np.random.default_rng(0).uniform(size=(6, 6, 6, 3))
    x = x.astype("float32")
    labels = np.asarray(ops.convert_to_numpy(model(x))).argmax(1)
    for attack in (
        advex.Restarts(SparseRS(steps=12), 2),
        advex.EveryTarget(SparseRS(steps=12), 2),
    ):
        result = attack(model, x, labels, advex.L0(10))
        assert (result.queries <= 24).all()
