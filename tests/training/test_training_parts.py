"""Parts of a step that nothing else looks at: masks, what augmentation makes, statistics that move
once, and what layers add to the loss.
"""

import keras
import numpy as np
import pytest
from keras import layers, ops
from training_data import LINF, LOGITS, compiled, data, network

import advex
from advex.training import AWP, MART, NFGSM, TRADES, Adversarial

pytestmark = pytest.mark.backends
X, LABELS = data(32)
BATCH = X, LABELS.astype("int32")


def attacked(robust):
    robust._ready(X, LABELS)
    return robust._attacked(tuple(map(ops.convert_to_tensor, BATCH)))[0]


@pytest.mark.parametrize("attack", [advex.PGD(steps=1), NFGSM()], ids=["PGD", "NFGSM"])
def test_a_mask_holds(attack):
    mask = np.zeros((6, 6, 3), bool)
    mask[:3] = True
    robust = Adversarial(network(), attack, advex.Linf(0.1, mask=mask))
    moved = np.abs(ops.convert_to_numpy(attacked(robust).shown) - X)
    assert moved[:, :3].max() > 0.05 and moved[:, 3:].max() == 0


def test_points_stay_in_the_box():
    x = np.where(X > 0.4, 1, 0).astype("float32")
    robust = Adversarial(network(), NFGSM(), LINF, augment=lambda x: 3 * x - 1)
    robust._ready(x, LABELS)
    given = tuple(map(ops.convert_to_tensor, (x, BATCH[1])))
    points = ops.convert_to_numpy(robust._attacked(given)[0].shown)
    assert points.min() >= 0 and points.max() <= 1
    alone = Adversarial(network(), budget=advex.Linf(0.0), augment=lambda x: 3 * x - 1)
    alone._ready(x, LABELS)
    points = ops.convert_to_numpy(alone._attacked(given)[0].shown)
    assert set(np.unique(points)) == {0.0, 1.0}


def test_the_accuracy_that_the_step_does_not_tell_is_that_of_the_other_points():
    model = network(normalised=False)
    for method in (None, MART()):
        robust = Adversarial(model, advex.PGD(steps=4), LINF, method)
        found = attacked(robust)
        some = len(X) // 8
        points = found.shown if method is None else found.other
        other, told = (X, found.right) if method is None else (points, found.held)
        answers = ops.convert_to_numpy(model(ops.convert_to_tensor(other[:some])))
        np.testing.assert_array_equal(
            ops.convert_to_numpy(told), answers.argmax(1) == LABELS[:some]
        )


def test_a_smallest_change_is_trained_on_where_it_was_found():
    """Not where the attack has gone to in the end, which may be on the right side."""
    model = network(normalised=False)
    labels = ops.convert_to_numpy(model(ops.convert_to_tensor(X))).argmax(1)
    robust = Adversarial(model, advex.FMN(steps=5), advex.Linf(0.4))
    robust._ready(X, labels)
    tensors = ops.convert_to_tensor(X), ops.convert_to_tensor(labels.astype("int32"))
    ended = robust._search(robust._leaf, *tensors)
    found = ops.convert_to_numpy(ended.found)
    said = ops.convert_to_numpy(model(ended.points)).argmax(1)
    assert found.mean() > 0.5 and (said[found] != labels[found]).all()


@pytest.mark.parametrize(
    ("method", "twice"), [(None, False), (AWP(gamma=0.1), False), (TRADES(), True)], ids=repr
)
def test_statistics_move_once_for_each_answer_in_training_mode(method, twice):
    model = network()
    normal = model.layers[1]
    robust = Adversarial(model, advex.PGD(steps=2), LINF, method)
    robust.compile(keras.optimizers.SGD(0.0), LOGITS)
    mean = ops.convert_to_numpy(normal.moving_variance).copy()
    robust.fit(X, LABELS, batch_size=len(X), verbose=0)
    # the variance begins at 1; that of a batch is far below, and about the same at both points
    left = (ops.convert_to_numpy(normal.moving_variance) / mean).mean()
    assert left == pytest.approx(normal.momentum ** (2 if twice else 1), abs=4e-3)


def test_layers_add_to_the_loss_of_mart():
    def loss(rate):
        model = network(layers.ActivityRegularization(l2=rate), normalised=False)
        robust = compiled(Adversarial(model, advex.PGD(steps=1), LINF, MART(beta=0.0)))
        return robust.fit(X, LABELS, batch_size=len(X), verbose=0).history["loss"][0]

    # of the clean inputs, as with TRADES
    expected = 0.01 * np.square(X).sum() / len(X)
    assert loss(0.01) - loss(0.0) == pytest.approx(expected, rel=1e-3)


def test_mart_leaves_the_own_class_out_where_it_is_the_largest():
    model = network(normalised=False)
    answers = ops.convert_to_numpy(model(ops.convert_to_tensor(X))).astype("float64")
    labels = answers.argmax(1)
    robust = compiled(Adversarial(model, budget=advex.Linf(0.0), method=MART(beta=0.0)))
    loss = robust.fit(X, labels, batch_size=len(X), verbose=0).history["loss"][0]
    odds = np.sort(np.exp(answers) / np.exp(answers).sum(1, keepdims=True), axis=1)
    expected = (-np.log(odds[:, -1]) - np.log(1.0001 - odds[:, -2])).mean()
    assert loss == pytest.approx(expected, rel=1e-4)
