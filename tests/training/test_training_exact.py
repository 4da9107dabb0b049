"""What is known exactly: ordinary training where nothing is searched, the search of the attack
itself, the maximum on linear models, and that a search moves nothing.
"""

import keras
import numpy as np
import pytest
from keras import ops
from training_data import LINF, LOGITS, compiled, data, network

import advex
from advex.driver.draws import row_keys
from advex.driver.inline import Inline
from advex.goals import Untargeted
from advex.training import AWP, MART, NFGSM, TRADES, Adversarial, Fast, Free, Plain
from advex.training.near import NOISE

pytestmark = pytest.mark.backends

X, LABELS = data()


def weights(model):
    return [weight.tobytes() for weight in model.get_weights()]


@pytest.mark.parametrize(
    ("budget", "method"),
    [
        (advex.Linf(0.0), None),
        (advex.L2(0.0), None),
        (advex.Linf(0.0), AWP(Plain(), gamma=0.0)),
        (LINF, TRADES(beta=0.0)),
    ],
    ids=["Linf", "L2", "AWP", "TRADES"],
)
def test_nothing_to_look_for_is_ordinary_training_bit_for_bit(budget, method):
    def trained(wrap):
        bare = network(dropout=0.3)
        model = compiled(wrap(bare), metrics=["accuracy"])
        keras.utils.set_random_seed(7)
        history = model.fit(X, LABELS, batch_size=16, epochs=2, verbose=0).history
        slots = [ops.convert_to_numpy(each.value).tobytes() for each in model.optimizer.variables]
        return weights(bare), slots, history["loss"], history["accuracy"]

    assert trained(lambda bare: bare) == trained(
        lambda bare: Adversarial(bare, budget=budget, method=method)
    )


def inline(model, budget, box=(0, 1)):
    forward = advex.Classifier(model, box).forward(ops.convert_to_tensor(X[:16]))
    return Inline(forward, box, budget, Untargeted(LABELS).of(forward.head))


@pytest.mark.parametrize(
    ("attack", "budget"),
    [
        (advex.PGD(steps=3), advex.Linf(0.01)),
        (advex.PGD(steps=3), advex.L2(0.02)),
        (advex.BIM(steps=2), advex.L1(0.2)),
        (advex.MomentumIterative(steps=3), advex.Linf(0.01)),
        (advex.FGSM(), advex.L2(0.02)),
    ],
    ids=str,
)
def test_the_points_are_the_attacks_own(attack, budget):
    model = network()
    labels = np.asarray(ops.convert_to_numpy(model(X))).argmax(1)  # all are right, most hold
    result = attack(model, X, labels, budget, seed=5)
    tensors = (X, labels.astype("int32"), row_keys(X, 5))
    ended = inline(model, budget)(attack, *map(ops.convert_to_tensor, tensors), last=True)
    held = ~result.success
    points = ops.convert_to_numpy(ended.points)
    assert held.sum() > 20
    np.testing.assert_allclose(points[held], result.attempt[held], rtol=0, atol=1e-6)
    assert (ops.convert_to_numpy(ended.found) == result.success).all()


@pytest.mark.parametrize("epsilon", [8 / 255, 0.1, 1e-3, 0.3])
@pytest.mark.parametrize("box", [(0, 1), (-1, 1), (0, 255)])
def test_the_limits_are_those_of_a_call_to_the_last_bit(epsilon, box):
    random = np.random.default_rng(1)
    x = random.uniform(*box, size=(40, 6, 6, 3)).astype("float32")
    search = inline(network(), advex.Linf(epsilon), box)
    lower, upper = search._bounds(ops.convert_to_tensor(x), None)
    low, high = search._grid.bounds(x, advex.Linf(epsilon))
    if keras.backend.backend() == "tensorflow":
        assert (ops.convert_to_numpy(lower) == low).all()
        assert (ops.convert_to_numpy(upper) == high).all()
    assert (ops.convert_to_numpy(lower) >= low).all()
    assert (ops.convert_to_numpy(upper) <= high).all()


@pytest.mark.parametrize(
    ("budget", "dual"),
    [(advex.Linf(0.05), 1), (advex.L2(0.2), 2), (advex.L1(0.4), np.inf)],
    ids=str,
)
def test_the_loss_on_a_linear_model_is_that_at_the_margin_less_the_dual_norm(budget, dual):
    random = np.random.default_rng(2)
    x = random.uniform(0.45, 0.55, size=(64, 12)).astype("float32")
    labels = random.integers(0, 2, 64)
    model = keras.Sequential([keras.Input((12,)), keras.layers.Dense(2)])
    robust = Adversarial(model, advex.FGSM(), budget)
    robust.compile(keras.optimizers.SGD(0.0), LOGITS)
    loss = robust.fit(x, labels, batch_size=64, verbose=0).history["loss"][0]
    kernel, bias = model.get_weights()
    z = x.astype("float64") @ kernel + bias
    sign = 2 * labels - 1
    margin = sign * (z[:, 1] - z[:, 0])
    w = kernel[:, 1] - kernel[:, 0]
    expected = np.log1p(np.exp(-(margin - budget.epsilon * np.linalg.norm(w, dual)))).mean()
    assert loss == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("attack", "method"),
    [
        (advex.PGD(steps=2), None),
        (advex.PGD(steps=2), TRADES()),
        (NFGSM(), None),
        (advex.PGD(steps=2), AWP(MART(), gamma=0.1)),
    ],
    ids=["plain", "TRADES", "NFGSM", "AWP"],
)
def test_a_search_moves_no_weight_statistic_slot_or_dropout_mask(attack, method):
    model = network(dropout=0.3)
    robust = Adversarial(model, attack, LINF, method)
    robust.compile(keras.optimizers.SGD(0.0, momentum=0.9), LOGITS)
    robust._ready(X, LABELS)
    batch = tuple(map(ops.convert_to_tensor, (X[:16], LABELS[:16])))
    held = [ops.convert_to_numpy(each.value).tobytes() for each in model.variables]
    found = robust._attacked(batch)
    assert held == [ops.convert_to_numpy(each.value).tobytes() for each in model.variables]
    x = found[0]
    points = ops.convert_to_numpy(x.shown if x.other is None else x.other)
    assert np.abs(points - X[:16]).max() > 0.05
    # nor does a whole step but for what training changes: with a rate of zero the weights stay
    kernels = [weight.tobytes() for weight in map(ops.convert_to_numpy, model.trainable_variables)]
    robust.fit(X, LABELS, batch_size=16, verbose=0)
    assert kernels == [ops.convert_to_numpy(each).tobytes() for each in model.trainable_variables]


def test_awp_goes_up_by_its_share_and_comes_back():
    shifts = AWP(gamma=0.02, warmup=3).shifts
    weight, slope = np.full((3, 4), 2.0, "float32"), np.ones((3, 4), "float32")
    inputs = [ops.convert_to_tensor(each) for each in (weight, slope)]
    for taken, share in ((0, 0.0), (2, 0.0), (3, 0.02)):
        (up,) = shifts(inputs[:1], inputs[1:], ops.convert_to_tensor(taken))
        up = ops.convert_to_numpy(up)
        assert np.linalg.norm(up) == pytest.approx(share * np.linalg.norm(weight), rel=1e-5)
        assert (up >= 0).all()
    assert shifts([inputs[0][0], inputs[0]], [inputs[1][0], None], ops.convert_to_tensor(9)) == [
        None,
        None,
    ]

    def loss_of(gamma):
        model = network(normalised=False)
        robust = Adversarial(model, advex.FGSM(), LINF, AWP(gamma=gamma))
        robust.compile(keras.optimizers.SGD(0.0), LOGITS)
        return robust.fit(X, LABELS, batch_size=64, verbose=0).history["loss"][0]

    low, high, higher = map(loss_of, (0.0, 0.01, 0.02))  # the gradient is taken up there
    assert low + 1e-4 < high < higher - 1e-4


def softmax(z):
    odds = np.exp(z - z.max(1, keepdims=True))
    return odds / odds.sum(1, keepdims=True)


@pytest.mark.parametrize("weighted", [False, True])
def test_trades_and_mart_are_their_formulas(weighted):
    """Without batch normalisation, so that training mode is inference mode."""
    model = network(normalised=False)
    weight = np.linspace(0.5, 2, len(X)).astype("float32") if weighted else None
    for method in (TRADES(beta=3.0), MART(beta=4.0)):
        robust = Adversarial(model, advex.PGD(steps=2), LINF, method)
        robust.compile(keras.optimizers.SGD(0.0), LOGITS)
        robust._ready(X, LABELS)
        batch = tuple(map(ops.convert_to_tensor, (X, LABELS.astype("int32"))))
        found = robust._attacked(batch)[0]
        points = ops.convert_to_numpy(found.other)
        p, q = (
            softmax(ops.convert_to_numpy(model(each)).astype("float64")) for each in (X, points)
        )
        rows = np.arange(len(X))
        moved = (p * np.log(p / q)).sum(1)
        if isinstance(method, TRADES):
            each = -np.log(p[rows, LABELS]) + 3 * moved
        else:
            others = q.copy()
            others[rows, LABELS] = 0
            each = -np.log(q[rows, LABELS]) - np.log(1.0001 - others.max(1))
            each += 4 * moved * (1.0000001 - p[rows, LABELS])
        expected = (each * (1 if weight is None else weight)).mean()
        loss = robust.compute_loss(
            found,
            batch[1],
            model(found.shown, training=True),
            None if weight is None else ops.convert_to_tensor(weight),
        )
        assert float(ops.convert_to_numpy(loss)) == pytest.approx(expected, rel=1e-4)


def test_where_trades_begins_and_what_it_climbs():
    model = network()
    robust = Adversarial(model, advex.PGD(steps=4), LINF, TRADES())
    robust._ready(X, LABELS)
    x = ops.convert_to_tensor(X)
    clean = robust._forward(x)
    leaf = robust.method.attack(robust._leaf, clean)

    def moved(points):
        return ops.convert_to_numpy(leaf.loss(robust._forward(points), None))

    labels = ops.convert_to_tensor(LABELS.astype("int32"))
    points = robust._search(leaf, x, labels).points
    assert (moved(points) > 10 * moved(x + NOISE)).mean() > 0.9
    assert moved(points).min() > 0 and abs(moved(x)).max() < 1e-6

    class Seen(Exception):
        pass

    import dataclasses

    def seen(problem):
        raise Seen(ops.convert_to_numpy(type(leaf).init(leaf, problem)[0]))

    leaf = dataclasses.replace(leaf)
    object.__setattr__(leaf, "init", seen)
    with pytest.raises(Seen) as start:
        robust._search(leaf, x, labels)
    noise = (start.value.args[0] - X).ravel()
    assert noise.std() == pytest.approx(NOISE, rel=0.05) and abs(noise.mean()) < 1e-4


def test_cheap_attacks_are_their_formulas():
    model = network()
    robust = Adversarial(model, NFGSM(), advex.Linf(0.1))
    robust._ready(X, LABELS)
    x, labels = ops.convert_to_tensor(X), ops.convert_to_tensor(LABELS.astype("int32"))
    delta = ops.convert_to_numpy(robust._search(robust._leaf, x, labels).points) - X
    assert 0.25 < np.abs(delta).max() <= 0.3 + 1e-6  # noise of 2 epsilon, a step of one
    assert (np.abs(delta) > 0.1).mean() > 0.3  # not clipped to the budget
    inner = (delta > -0.29) & (delta < 0.29) & (X + delta > 0.01) & (X + delta < 0.99)
    noise = delta[inner]
    # uniform in [-0.2, 0.2], shifted by 0.1 up or down
    assert abs(noise.mean()) < 0.02 and noise.std() == pytest.approx(np.sqrt(0.04 / 3 + 0.01), 0.1)
    fast = robust._search(Fast(), x, labels)
    delta = ops.convert_to_numpy(fast.points) - X
    assert np.abs(delta).max() <= 0.1 + 1e-6
    # a step of 1.25 epsilon leads from anywhere past the middle
    flat = np.abs(delta[(X > 0.2) & (X < 0.8)])
    assert flat.min() >= 0.025 - 1e-6 or (flat < 0.02).mean() < 0.02


def test_random_starts_differ_from_row_to_row_and_from_step_to_step():
    robust = Adversarial(network(), NFGSM(), advex.Linf(0.1), seed=3)
    x = np.full((8, 6, 6, 3), 0.5, "float32")
    robust._ready(x, LABELS[:8])
    tensors = ops.convert_to_tensor(x), ops.convert_to_tensor(LABELS[:8].astype("int32"))
    first, second = (
        ops.convert_to_numpy(robust._search(robust._leaf, *tensors).points) for _ in range(2)
    )
    every = np.concatenate([first, second]).reshape(16, -1)
    assert len(np.unique(every, axis=0)) == 16
    again = Adversarial(network(), NFGSM(), advex.Linf(0.1), seed=3)
    again._ready(x, LABELS[:8])
    assert (ops.convert_to_numpy(again._search(again._leaf, *tensors).points) == first).all()


def test_epsilon_grows_along_the_ramp():
    robust = Adversarial(network(), advex.FGSM(), advex.Linf(0.1), ramp=4)
    compiled(robust)
    robust._ready(X, LABELS)
    batch = tuple(map(ops.convert_to_tensor, (X[:16], LABELS[:16])))
    robust.optimizer.build(robust.trainable_variables)
    for taken, largest in ((0, 0.025), (1, 0.05), (3, 0.1), (9, 0.1)):
        robust.optimizer.iterations.assign(taken)
        points = ops.convert_to_numpy(robust._attacked(batch)[0].shown)
        assert np.abs(points - X[:16]).max() == pytest.approx(largest, abs=1e-6)


def test_free_replays_are_steps_of_the_optimizer_and_of_the_sign():
    """One replay is an ordinary step at a random point; two take the gradient's sign between."""
    bare = network(normalised=False)
    start = bare.get_weights()
    robust = Adversarial(bare, method=Free(replays=2), budget=LINF, seed=3)
    robust.compile(keras.optimizers.SGD(0.1), LOGITS, metrics=["accuracy"])
    loss = robust.fit(X, LABELS, batch_size=64, verbose=0, shuffle=False).history["loss"][0]
    assert int(ops.convert_to_numpy(robust.optimizer.iterations)) == 2

    again = network(normalised=False)
    again.set_weights(start)
    other = Adversarial(again, advex.PGD(steps=1), LINF, seed=3)
    other.compile(keras.optimizers.SGD(0.1), LOGITS)
    other._ready(X, LABELS)
    x, labels = ops.convert_to_tensor(X), ops.convert_to_tensor(LABELS.astype("int32"))
    from advex.driver import draws

    key = draws.step_keys(other._draws.next(), labels)
    problem = other._inline.problem(advex.PGD(steps=1), x, labels, key)
    first, _ = advex.PGD(steps=1).init(problem)
    _, slope = problem.gradient(first, advex.losses.cross_entropy)
    second = problem.move(first, slope, 1.0)
    model = compiled_sgd(again)
    losses = [
        model.train_on_batch(ops.convert_to_numpy(points), LABELS) for points in (first, second)
    ]
    assert loss == pytest.approx(np.mean(losses), abs=1e-4)
    for one, two in zip(bare.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-5)


def compiled_sgd(model):
    model.compile(keras.optimizers.SGD(0.1), LOGITS)
    return model
