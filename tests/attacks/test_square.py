"""Square Attack: windows, schedule, acceptance, the limit of queries, and how it fares where the
answer is known.
"""

import itertools

import keras
import numpy as np
import pytest
from keras import ops

import advex
from advex import _backend
from advex._grid import Grid
from advex.attacks.square import SquareAttack
from advex.attacks.square_l2 import eta
from advex.attacks.square_windows import Frame, halvings
from advex.errors import InvalidInput, InvalidType
from advex.testing import linear_data, linear_extreme, linear_model, small_network, walk

BUDGETS = (advex.Linf(0.02), advex.L2(0.15), advex.L1(0.7))
JAX = keras.backend.backend() == "jax"  # there a compilation takes longer than all the rest
TENSORFLOW = keras.backend.backend() == "tensorflow"


def scores(model, x):
    return np.asarray(ops.convert_to_numpy(model(ops.convert_to_tensor(x), training=False)))


def margins(model, x, labels):
    logits = scores(model, x).astype("float64")
    right = np.take_along_axis(logits, labels[:, None], 1)[:, 0]
    np.put_along_axis(logits, labels[:, None], -np.inf, 1)
    return logits.max(1) - right


def images(shape, count=6, seed=0, low=0.0, high=1.0):
    return np.random.default_rng(seed).uniform(low, high, size=(count, *shape)).astype("float32")


def linear_images(shape, classes=3, seed=0):
    """A linear model of images: nothing but a sum, so that a window matters wherever it is."""
    layers = [keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(classes)]
    model = keras.Sequential(layers)
    generator = np.random.default_rng(seed)
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([generator.normal(size=kernel.shape).astype("float32"), bias])
    return model


def walked(attack, model, x, labels, budget, seed=0):
    """The points of every row, and the best one of those before each, by margins that are computed
    here.
    """
    points = walk(attack, model, x, advex.Untargeted(labels), budget, seed).points
    value = np.full(len(x), -np.inf)
    best, before = np.zeros_like(x), []
    for point in points[:-1]:
        now = margins(model, point, labels)
        better = now > value
        best = np.where(better.reshape(-1, *[1] * (x.ndim - 1)), point, best)
        value = np.where(better, now, value)
        before.append(best)
    return points, before


def squares(side, shape):
    """All places of a square window, the last rows and columns included."""
    for top, left in itertools.product(range(shape[0] - side + 1), range(shape[1] - side + 1)):
        yield slice(top, top + side), slice(left, left + side)


def extent(changed):
    """Height and width of the smallest rectangle around what changed, (height, width) of bool."""
    down, along = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    return (down[-1] - down[0] + 1, along[-1] - along[0] + 1) if len(down) else (0, 0)


@pytest.mark.backends
def test_contract(contract):
    contract(SquareAttack(steps=12), BUDGETS)


@pytest.mark.backends
@pytest.mark.parametrize("steps", [5, 100] if JAX else [4, 5, 10, 100])
def test_the_limit_of_queries_is_never_exceeded(steps):
    model, (x, labels) = linear_model(), linear_data(40)
    labels[3] = 1 - labels[3]
    result = SquareAttack(steps=steps)(model, x, labels, advex.Linf(0.12), batch_size=16)
    alive = np.arange(40) != 3
    assert result.queries.max() <= steps
    assert result.queries[3] == 1
    failed = ~result.success
    assert failed.any() and result.success[alive].any()
    assert (result.queries[failed] == steps - 1).all()  # all but the last judgement
    assert (
        result.queries[result.success & alive] >= 3
    ).all()  # clean, one that broke it, the last judgement
    assert (result.gradients == 0).all()


@pytest.mark.backends
def test_no_gradient_is_taken(monkeypatch):
    def forbidden(*_):
        raise AssertionError("a gradient was taken")

    monkeypatch.setattr(_backend, "value_and_gradient", forbidden)
    monkeypatch.setattr(_backend, "jacobian", forbidden)
    # as in the next test: compiled once for both
    x, model = (
        images((9, 9, 2), count=8),
        linear_images((9, 9, 2)),
    )
    labels = scores(model, x).argmax(1)
    for budget in KNOWN:
        result = SquareAttack(steps=40)(model, x, labels, budget)
        assert result.success.any() and (result.gradients == 0).all()


@pytest.mark.backends
def test_the_same_numbers_on_every_backend():
    """How many queries each row took is known: same windows, same signs, same decisions
    everywhere.
    """
    x, model = images((9, 9, 2), count=8), linear_images((9, 9, 2))
    labels = scores(model, x).argmax(1)
    found = [SquareAttack(steps=40)(model, x, labels, budget).queries.tolist() for budget in KNOWN]
    assert found == list(KNOWN.values())


KNOWN = {
    advex.Linf(0.06): [4, 39, 39, 12, 39, 39, 4, 3],
    advex.L2(0.8): [18, 39, 39, 40, 39, 39, 3, 3],
    advex.L1(4.0): [9, 39, 33, 7, 39, 11, 3, 4],
}


# The schedule.


def test_p_is_halved_as_in_the_paper():
    table = {
        0: 0,
        10: 0,
        11: 1,
        50: 1,
        51: 2,
        200: 2,
        201: 3,
        500: 3,
        501: 4,
        1000: 4,
        1001: 5,
        2000: 5,
        2001: 6,
    }
    table |= {4000: 6, 4001: 7, 6000: 7, 6001: 8, 8000: 8, 8001: 9, 9999: 9}
    for proposal, halved in table.items():
        assert sum(proposal >= start for start in halvings(5000, False)) == halved, proposal
    # Stretched: proposal k of 1,000 is where 10 k of 10,000 would be, rounded down.
    for steps, proposal in itertools.product((4, 37, 1000, 5000, 20_000), range(0, 20_000, 7)):
        if proposal < steps:
            place = int(proposal * 10_000 / steps)
            plain = sum(place >= start for start in halvings(steps, False))
            assert sum(proposal >= start for start in halvings(steps, True)) == plain, (
                steps,
                proposal,
            )


def test_sizes_of_windows():
    frame = Frame.of((28, 28, 1))
    shares = [0.8 / 2**k for k in range(10)]
    assert [frame.window(p)[0] for p in shares] == [25, 18, 13, 9, 6, 4, 3, 2, 2, 1]
    assert [frame.odd_window(p)[0] for p in shares] == [25, 19, 13, 9, 7, 5, 3, 3, 3, 3]
    assert Frame.of((32, 32, 3)).window(0.8) == (29, 29)
    assert Frame.of((4, 50, 3)).window(0.8) == (4, 4)  # not larger than the image
    assert Frame.of((4, 50, 3)).odd_window(0.8) == (4, 4)
    assert Frame.of((2, 2)).odd_window(0.1) == (2, 2)
    assert Frame.of((30,)).window(0.8) == (24, 1)
    assert Frame.of((2,)).odd_window(0.1) == (2, 1)


# Linf: what a proposal is.


@pytest.mark.parametrize("shape", [(12, 12, 2), (12, 12), (7, 15, 1)], ids=str)
def test_a_proposal_is_one_square_at_the_ends(shape):
    """From the best point so far, one square of the scheduled size goes, channel by channel, to an
    end of ball and box.
    """
    model, x = linear_images(shape), images(shape)
    labels = scores(model, x).argmax(1)
    budget = advex.Linf(0.07)
    attack = SquareAttack(steps=70)
    points, before = walked(attack, model, x, labels, budget)
    lower, upper = Grid(x.dtype, (0.0, 1.0)).bounds(x, budget)
    spatial = (*shape[:2], -1)
    frame = Frame.of(shape)
    largest, directions = {}, set()
    for step, (best, proposal) in enumerate(zip(before, points[1:], strict=True)):
        assert ((proposal == lower) | (proposal == upper)).all()
        side = frame.window(0.8 / 2 ** sum(step >= start for start in halvings(70, False)))[0]
        for row in range(len(x)):
            was, now = best[row].reshape(spatial), proposal[row].reshape(spatial)
            low, high = lower[row].reshape(spatial), upper[row].reshape(spatial)
            changed = (was != now).any(-1)
            assert changed.any(), "a query for nothing"
            size = extent(changed)
            assert max(size) <= side, (step, size, side)
            signs = [
                ups
                for window in squares(side, shape)
                if not np.delete(changed, np.arange(shape[0])[window[0]], 0).any()
                and not np.delete(changed, np.arange(shape[1])[window[1]], 1).any()
                for ups in itertools.product((True, False), repeat=now.shape[-1])
                if all((now[window] == np.where(ups, high[window], low[window])).all(-1).ravel())
            ]
            assert signs
            directions.add(signs[0])
            largest[side] = tuple(np.maximum(largest.get(side, (0, 0)), size))
    assert largest == {side: (side, side) for side in largest}
    assert len(largest) == 3  # three sizes within 67 proposals
    # each channel has a sign of its own
    assert len(directions) == 2 ** x[0].reshape(spatial).shape[-1]


def test_every_place_is_reached():
    """Windows touch all four edges; every pixel is in one, about as often as in any other draw of
    corners.
    """
    shape = (6, 6, 1)
    x = images(shape, count=400)
    model = linear_images(shape)
    labels = scores(model, x).argmax(1)
    points, before = walked(SquareAttack(steps=4, p=0.1), model, x, labels, advex.Linf(0.05))
    changed = (points[1] != before[0])[..., 0]  # windows of 2 x 2, 5 x 5 places
    tops, lefts = changed.any(2).argmax(1), changed.any(1).argmax(1)
    # A window that lies across stripes may change one of its columns only: the rows are always both
    # seen.
    counts = np.bincount(tops, minlength=5)
    assert len(counts) == 5 and counts.min() > 50
    assert set(np.unique(lefts)) == set(range(6))


def test_the_start_is_striped():
    shape = (6, 8, 3)
    x = images(shape)
    start = walk(
        SquareAttack(steps=4),
        linear_images(shape),
        x,
        advex.Untargeted(np.zeros(6, int)),
        advex.Linf(0.05),
    ).points[0]
    lower, upper = Grid(x.dtype, (0.0, 1.0)).bounds(x, advex.Linf(0.05))
    up, down = (start == upper), (start == lower)
    assert (up.all(1) | down.all(1)).all()  # (rows, width, channels): one sign down each column
    signs = up.all(1).reshape(6, -1)
    assert 0.3 < signs.mean() < 0.7 and len({tuple(row) for row in signs.tolist()}) == 6
    assert (signs.reshape(6, 8, 3).std(axis=1) > 0).any() and (
        signs.reshape(6, 8, 3).std(axis=2) > 0
    ).any()


# L2 and L1.


def paper_eta(height, width, power):
    """Two pyramids built block by block: the k-th block around the middle adds 1 / (k + 1) **
    power.
    """

    def pyramid(high, wide):
        values = np.zeros((high, wide))
        down, along = high // 2, wide // 2
        for k in range(max((height - height // 2) // 2, along) + 1):
            values[max(0, down - k) : down + k + 1, max(0, along - k) : along + k + 1] += (
                1 / (k + 1) ** power
            )
        return values

    def scaled(values):
        return values / (np.sqrt((values**2).sum()) if power == 2 else np.abs(values).sum())

    upper, lower = pyramid(height // 2, width), pyramid(height - height // 2, width)
    return scaled(np.concatenate([scaled(upper) if height > 1 else upper, -scaled(lower)]))


@pytest.mark.parametrize("power", [2, 4])
def test_eta_is_two_pyramids(power):
    for height, width in [
        (1, 1),
        (2, 2),
        (3, 3),
        (4, 4),
        (5, 5),
        (8, 8),
        (13, 13),
        (25, 25),
        (7, 1),
        (24, 1),
    ]:
        np.testing.assert_allclose(
            eta(height, width, power), paper_eta(height, width, power), atol=1e-12
        )


@pytest.mark.parametrize("budget", [advex.L2(0.4), advex.L1(0.4)], ids=repr)
@pytest.mark.parametrize("channels", [1, 2])
def test_the_budget_is_used_up(budget, channels):
    """Far from the box every proposal has just the size that is allowed; near it, none has more."""
    shape = (12, 12, channels)
    model = linear_images(shape)
    for low, high in ((0.48, 0.52), (0.0, 1.0)):
        x = images(shape, low=low, high=high)
        labels = scores(model, x).argmax(1)
        for point in walked(SquareAttack(steps=30), model, x, labels, budget)[0]:
            size = budget.measure(point.astype("float64") - x)
            rounding = budget.measure(np.full((1, x[0].size), 2.0**-24))[0]  # of every element
            assert (
                (size <= budget.epsilon * (1 + 1e-6) + rounding).all()
                and (point >= 0).all()
                and (point <= 1).all()
            )
            assert (size >= budget.epsilon * (0.99999 if low else 0.3)).all()


@pytest.mark.parametrize(("budget", "channels"), [(advex.L2(0.4), 2), (advex.L1(0.4), 1)], ids=repr)
def test_a_proposal_moves_mass_from_window_to_window(budget, channels):
    """From the best point so far: one window of the scheduled size gets the pattern, another one is
    emptied.
    """
    shape = (13, 13, channels)
    model, x = linear_images(shape), images(shape, low=0.45, high=0.55)
    labels = scores(model, x).argmax(1)
    points, before = walked(SquareAttack(steps=30, p=0.05), model, x, labels, budget)
    side = 3  # round(sqrt(0.05 * 169)) = 3, and never less
    patterns = [eta(side, side, 2 if isinstance(budget, advex.L2) else 4)]
    patterns = [
        turned * sign for pattern in patterns for turned in (pattern, pattern.T) for sign in (1, -1)
    ]
    emptied, filled, seen = 0, 0, set()
    for best, proposal in zip(before, points[1:], strict=True):
        for row in range(len(x)):
            was, now = (point[row].astype("float64") - x[row] for point in (best, proposal))
            found = False
            for window in squares(side, shape):
                rest = np.abs(now - was).max(-1) > 2e-6
                rest[window] = False
                high, wide = extent(rest)
                if max(high, wide) > side or np.abs(now[rest]).max(initial=0) > 2e-6:
                    continue  # what changed elsewhere is one window, and is zero now
                fits = []
                for channel in range(channels):
                    old, new = was[window][..., channel], now[window][..., channel]
                    power = (
                        np.sqrt((old**2).sum())
                        if isinstance(budget, advex.L2)
                        else np.abs(old).sum()
                    )
                    target = [pattern + old / (power + 1e-12) for pattern in patterns]
                    near = [
                        np.abs(new * np.abs(t).max() - t * np.abs(new).max()).max() for t in target
                    ]
                    fits.append(int(np.argmin(near)) if min(near) < 1e-5 else None)
                if None not in fits:
                    found = True
                    seen.add(tuple(fits))
                    filled += 1
                    emptied += bool(rest.any())
                    break
            assert found
    assert filled == 27 * 6 and emptied > filled / 2
    # Upright or turned, both channels alike; up or down, each for itself.
    alike = [itertools.product(turned, repeat=channels) for turned in ((0, 1), (2, 3))]
    assert seen == set(itertools.chain(*alike))


def test_only_what_is_better_is_kept():
    """The margin of the best point never falls, and no point but the best is built upon (see the
    two tests above).
    """
    x = images((9, 9, 1), count=30)
    model = linear_images((9, 9, 1))
    labels = scores(model, x).argmax(1)
    for budget in (advex.Linf(0.02), advex.L2(0.1), advex.L1(0.6)):
        points, before = walked(SquareAttack(steps=60), model, x, labels, budget)
        values = np.stack([margins(model, best, labels) for best in before])
        assert (np.diff(values, axis=0) >= 0).all()
        assert (values[-1] > values[0] + 1e-3).all()
        # Points that were no better are there as well: something was refused.
        looked = np.stack([margins(model, point, labels) for point in points[:-1]])
        assert (looked < values - 1e-6).mean() > 0.2


# How it fares.


@pytest.mark.backends
@pytest.mark.parametrize(
    ("budget", "share"),
    [
        pytest.param(advex.Linf(0.015), 0.9, id="Linf"),
        pytest.param(advex.L2(0.15), 0.65, id="L2"),
        pytest.param(advex.L1(0.8), 0.65, id="L1"),
    ][: None if TENSORFLOW else 1],
)
def test_most_of_what_can_be_broken_and_more_than_by_chance(budget, share):
    """On a linear model of images whose weights are smooth. In L1 the best is one pixel, which
    windows of 3 x 3 do not hit.
    """
    shape = (10, 10, 1)
    wave = np.sin(np.arange(10) / 2)
    weights = (wave[:, None] + np.cos(np.arange(10) / 3)[None]).reshape(-1, 1)
    kernel = np.concatenate([-weights, weights], 1).astype("float32")
    model = linear_images(shape, 2)
    model.layers[-1].set_weights([kernel, -kernel.sum(0) / 2])
    x = images(shape, count=120, seed=4, low=0.2, high=0.8)
    labels = scores(model, x).argmax(1)
    clean = margins(model, x, labels)
    best = np.array(
        [
            linear_extreme((kernel[:, 1 - label] - kernel[:, label]).astype("float64"), row, budget)
            for row, label in zip(x, labels, strict=True)
        ]
    )
    possible = clean + best > 1e-3
    assert 30 < possible.sum() < 118
    result = SquareAttack(steps=300)(model, x, labels, budget)
    assert not (result.success & (clean + best < 0)).any()
    assert result.success.sum() >= share * possible.sum()
    # As many looks at random points of the ball (PGD's start, again and again).
    chance = advex.Restarts(advex.PGD(steps=1, step_size=1e-9), 50)(model, x, labels, budget)
    assert result.success.sum() > chance.success.sum() + 10


def test_goals():
    """Targets are reached; towards every class in turn works as well; another loss, too."""
    model = small_network()
    x = images((6, 6, 3), count=24)
    logits = scores(model, x)
    labels, second = np.argsort(-logits, 1)[:, 0], np.argsort(-logits, 1)[:, 1]
    result = SquareAttack(steps=150)(model, x, advex.Targeted(second), advex.Linf(0.15))
    assert (
        result.success.sum() >= 18
        and (result.prediction[result.success] == second[result.success]).all()
    )
    for attack in (
        advex.EveryTarget(SquareAttack(steps=60), 3),
        SquareAttack(steps=150, loss=advex.losses.cross_entropy, rescale=True),
    ):
        assert attack(model, x, labels, advex.Linf(0.1)).success.sum() >= 18


def test_tables():
    """Rows of numbers: windows are runs of neighbours; L2 and L1 as well."""
    model, (x, labels) = linear_model(), linear_data(60)
    gradient = np.sin(np.arange(1, 13)) * 2
    for budget in (advex.Linf(0.1), advex.L2(0.3), advex.L1(0.8)):
        result = SquareAttack(steps=200)(model, x, labels, budget)
        clean = margins(model, x, labels)
        best = [
            linear_extreme(gradient * (1 - 2 * label), row, budget)
            for row, label in zip(x, labels, strict=True)
        ]
        possible = clean + np.array(best) > 1e-3
        assert 10 < possible.sum() < 60
        assert result.success.sum() >= 0.8 * possible.sum()


def test_channels_first():
    keras.config.set_image_data_format("channels_first")
    try:
        shape = (2, 9, 9)
        model, x = linear_images(shape), images(shape)
        labels = scores(model, x).argmax(1)
        points, before = walked(SquareAttack(steps=30, p=0.1), model, x, labels, advex.Linf(0.05))
        sizes = [
            extent((now[row] != was[row]).any(0))
            for was, now in zip(before, points[1:], strict=True)
            for row in range(len(x))
        ]
        assert set(map(max, sizes)) <= {1, 2, 3} and np.max(sizes, axis=0).tolist() == [3, 3]
        for budget in (advex.L2(0.3), advex.L1(2.0)):
            result = SquareAttack(steps=60)(model, x, labels, budget)
            assert (
                result.success.any() and (result.distance[result.success] <= budget.epsilon).all()
            )
    finally:
        keras.config.set_image_data_format("channels_last")


# What cannot be.


def test_bad_settings():
    model, x = linear_images((6, 6, 1)), images((6, 6, 1))
    labels = np.zeros(6, int)
    with pytest.raises(InvalidInput, match="no L0 form"):
        SquareAttack()(model, x, labels, advex.L0(3))
    with pytest.raises(InvalidInput, match="at least 4 steps; received 3"):
        SquareAttack(steps=3)(model, x, labels, advex.Linf(0.1))
    with pytest.raises(InvalidInput, match="needs a limit"):
        SquareAttack()(model, x, labels, advex.Linf())
    for p in (0, -1, 1.5, float("nan")):
        with pytest.raises(InvalidInput, match=r"SquareAttack\(p=\.\.\.\)"):
            SquareAttack(p=p)
    with pytest.raises(InvalidType, match=r"SquareAttack\(p=\.\.\.\)"):
        SquareAttack(p="0.8")
    with pytest.raises(InvalidType, match="True or False"):
        SquareAttack(rescale="no")
    with pytest.raises(InvalidType, match="did you mean 'steps'"):
        SquareAttack(step=10)


def test_inputs_that_are_no_images_are_refused_before_the_first_query():
    called = []

    class Bell(keras.layers.Layer):
        def call(self, x):
            called.append(1)
            return x

    shape = (2, 3, 4, 5)
    model = keras.Sequential(
        [keras.Input(shape), Bell(), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    called.clear()
    for attack in (SquareAttack(steps=9), advex.Restarts(SquareAttack(steps=9), 2)):
        with pytest.raises(InvalidInput, match=r"windows of an image.*received \(n, 2, 3, 4, 5\)"):
            attack(model, images(shape), np.zeros(6, int), advex.Linf(0.1))
    assert not called
