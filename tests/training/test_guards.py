"""Callbacks that watch adversarial training."""

import keras
import numpy as np
import pytest
from keras import ops
from training_data import LINF, LOGITS, compiled, data, network

import advex
from advex.training import NFGSM, Adversarial, KeepBest, StopCollapse

pytestmark = pytest.mark.backends
X, LABELS = data()


def state(robust):
    held = [*robust.model.variables, *robust.optimizer.variables]
    return [ops.convert_to_numpy(each.value).copy() for each in held]


class Broken(keras.callbacks.Callback):
    """Breaks the model in one epoch, and says that its own attack does not see it."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch, self.before = epoch, None

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            self.before = state(self.model)

    def on_epoch_end(self, epoch, logs=None):
        if epoch == self.epoch:
            layer = self.model.model.layers[-1]
            layer.kernel.assign(-layer.kernel.value)
            self.model.own_accuracy = lambda *_: 1.0


def test_a_collapse_stops_training_and_gives_back_the_state_before():
    robust = Adversarial(network(normalised=False), advex.PGD(steps=2), advex.Linf(0.03))
    compiled(robust).fit(X, LABELS, batch_size=16, epochs=15, verbose=0)
    breaks, guard = Broken(2), StopCollapse()
    with pytest.warns(advex.errors.ModelWarning, match="collapsed in epoch 3"):
        history = robust.fit(
            X, LABELS, batch_size=16, epochs=9, verbose=0, callbacks=[breaks, guard]
        )
    assert guard.collapsed == 2 and len(history.history["loss"]) == 3
    for now, before in zip(state(robust), breaks.before, strict=True):
        np.testing.assert_array_equal(now, before)


def test_sound_training_goes_on():
    robust = compiled(Adversarial(network(), advex.PGD(steps=2), LINF))
    guard = StopCollapse((X[:32], LABELS[:32]))
    history = robust.fit(X, LABELS, batch_size=16, epochs=6, verbose=0, callbacks=[guard])
    assert guard.collapsed is None and len(history.history["loss"]) == 6


@pytest.mark.parametrize(
    ("told", "collapsed"),
    [
        ([(0.1, 0.3), (0.2, 0.8), (0.3, 0.9)], None),  # apart, and several steps rise
        ([(0.0, 0.3), (0.0, 0.9)], 0),  # apart from the first epoch on
        ([(0.3, 0.3), (0.14, 0.9)], 0),
        ([(0.5, 0.6), (0.2, 0.4)], None),  # both fall
        ([(0.5, 0.6), (0.45, 0.6), (0.38, 0.6), (0.29, 0.6)], 2),  # by a little in each epoch
    ],
)
def test_what_a_collapse_is(told, collapsed, monkeypatch):
    robust, guard = compiled(Adversarial(network(normalised=False))), StopCollapse()
    seen = iter([advex.training.guards.State([np.zeros(1)], [], *each) for each in told])
    monkeypatch.setattr(StopCollapse, "_state", lambda _: next(seen))
    given_back = []
    monkeypatch.setattr(robust, "set_weights", given_back.append)
    monkeypatch.setattr(type(robust.optimizer), "variables", [])
    guard.set_model(robust)
    guard.on_train_begin()
    for epoch in range(len(told) - 1):
        if collapsed == epoch:
            with pytest.warns(advex.errors.ModelWarning, match="collapsed"):
                guard.on_epoch_end(epoch)
        else:
            guard.on_epoch_end(epoch)
    assert guard.collapsed == collapsed and len(given_back) == (collapsed is not None)


def test_the_best_epoch_is_given_back():
    robust = compiled(Adversarial(network(), advex.PGD(steps=2), LINF))
    kept = {}

    class Falling(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["val_robust_accuracy"] = [0.2, 0.6, 0.5, 0.6][epoch]
            kept[epoch] = self.model.get_weights()

    robust.fit(X, LABELS, batch_size=16, epochs=4, verbose=0, callbacks=[Falling(), KeepBest()])
    for now, best in zip(robust.get_weights(), kept[1], strict=True):
        np.testing.assert_array_equal(now, best)


def test_guards_say_what_they_need():
    model = compiled(network())
    with pytest.raises(advex.errors.InvalidType, match=r"watches advex\.training\.Adversarial"):
        model.fit(X, LABELS, verbose=0, callbacks=[StopCollapse()])
    with pytest.raises(advex.errors.InvalidInput, match="drop"):
        StopCollapse(drop=1.5)
    with pytest.raises(advex.errors.InvalidType, match="data must be"):
        StopCollapse(data=X)


@pytest.mark.matrix
def test_a_real_collapse_and_none_with_noise():
    """A single step without noise within a wide budget learns to fool itself; N-FGSM does not."""
    x, labels = data(1024)

    def trained(attack, epsilon):
        keras.utils.set_random_seed(0)
        convolutions = [keras.layers.Conv2D(32, 3, activation="relu") for _ in range(2)]
        dense = [keras.layers.Dense(64, activation="relu"), keras.layers.Dense(4)]
        layers = [keras.Input((6, 6, 3)), *convolutions, keras.layers.Flatten(), *dense]
        robust = Adversarial(keras.Sequential(layers), attack, advex.Linf(epsilon))
        robust.compile(keras.optimizers.Adam(5e-3), LOGITS)
        guard = StopCollapse((x[:100], labels[:100]))
        robust.fit(x, labels, batch_size=32, epochs=25, verbose=0, callbacks=[guard])
        return guard

    with pytest.warns(advex.errors.ModelWarning, match="collapsed"):
        guard = trained(advex.FGSM(), 0.15)
    assert guard.collapsed is not None
    assert guard._state().several == guard._good.several > 0.2
    guard = trained(NFGSM(), 0.12)
    assert guard.collapsed is None and guard._state().several > 0.4


def test_another_budget_than_that_of_the_training_is_said():
    robust = compiled(Adversarial(network(), advex.PGD(steps=2), LINF))
    watch = advex.callbacks.RobustAccuracy((X, LABELS), advex.FGSM(), advex.Linf(0.2))
    with pytest.warns(
        advex.errors.ModelWarning, match=r"within Linf\(0.1\).*within Linf\(51/255\)"
    ):
        robust.fit(X, LABELS, batch_size=16, verbose=0, callbacks=[watch])
    same = advex.callbacks.RobustAccuracy((X, LABELS), advex.FGSM(), LINF, name="same")
    logs = robust.fit(X, LABELS, batch_size=16, verbose=0, callbacks=[same]).history
    held = advex.FGSM()(robust, X, LABELS, LINF).status == "held"
    assert logs["same"][-1] == pytest.approx(held.mean())
    with pytest.warns(advex.errors.ModelWarning, match="evaluate looks within"):
        advex.evaluate(robust, (X, LABELS), advex.FGSM(), advex.Linf(0.05), diagnose=False)
