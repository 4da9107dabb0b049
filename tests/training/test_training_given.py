"""What ``fit`` refuses by name, what validation leaves alone, and what cannot be copied."""

import copy
import inspect
import pickle

import keras
import numpy as np
import pytest
from keras import layers
from training_data import LINF, compiled, data

import advex
from advex.errors import InvalidInput, InvalidType
from advex.training import Adversarial
from advex.training.given import first_batch

X, LABELS = data(16)


def wrapped(**settings):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((6, 6, 3)), layers.Flatten(), layers.Dense(4)])
    return compiled(Adversarial(model, advex.PGD(steps=1), LINF, **settings))


def broken(value):
    x = X.copy()
    x[3, 0, 0] = value
    return x


def batches(*each):
    return (batch for batch in each)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((broken(np.nan), LABELS), "3 numbers that are NaN, in 1 of 16 rows, the first in row 3"),
        ((broken(2.0), LABELS), "outside the box"),
        ((batches((broken(np.nan), LABELS)),), "that are NaN"),
        ((X[:0], LABELS[:0]), "x is empty"),
        ((X,), "or their labels"),
        ((), "the data are missing"),
        ((batches(),), "no batches"),
        ((batches((X,)),), "must give batches .* a tuple of 1"),
        ((batches(X),), r"must give batches .* an array of shape \(16, 6, 6, 3\)"),
        ((batches((X, None)),), "must give batches"),
        ((batches((X[0], LABELS[0])),), r"the model takes \(None, 6, 6, 3\)"),
        ((X[0], LABELS[:1]), r"one input is x\[None\]"),
        ((X, LABELS[:9]), "16 examples but there are 9 labels"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_data_that_cannot_be_trained_on(given, words):
    with pytest.raises(InvalidInput, match=words):
        wrapped().fit(*given, verbose=0)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((X.tolist(), LABELS), "x must be one array.* a list of 16"),
        ((X, LABELS.tolist()), "y must be one array"),
        (({"image": X}, LABELS), r"x must be one array.* a dict of \['image'\]"),
        (([(X, LABELS)],), "x must be one array"),
        (("x.npz",), "x must be one array"),
        ((batches(({"image": X}, LABELS)),), "x of a batch must be one array"),
        ((batches((X, [1, 2])),), "y of a batch must be one array"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_what_is_no_array(given, words):
    with pytest.raises(InvalidType, match=words):
        wrapped().fit(*given, verbose=0)


def test_labels_after_the_first_batch_are_looked_at():
    x, labels = data(140)
    labels[-1] = 7
    with pytest.raises(InvalidInput, match="1 labels are outside, such as 7"):
        wrapped().fit(x, labels, verbose=0)


def test_nothing_is_taken_from_a_generator():
    (first, _), whole = first_batch(batches((X[:8], LABELS[:8]), (X[8:], LABELS[8:])))
    assert first is not None and inspect.isgenerator(whole)
    assert [len(x) for x, _ in whole] == [8, 8]


def test_two_outputs():
    inputs = keras.Input((6, 6, 3))
    flat = layers.Flatten()(inputs)
    model = keras.Model(inputs, {"a": layers.Dense(4)(flat), "b": layers.Dense(2)(flat)})
    with pytest.raises(InvalidInput, match="models of one output"):
        Adversarial(model)


@pytest.mark.backends
def test_validation_changes_no_training_and_tells_the_same_twice():
    def trained(**settings):
        robust = wrapped(validation=advex.PGD(steps=1))
        robust.fit(X, LABELS, batch_size=8, epochs=3, shuffle=False, verbose=0, **settings)
        return robust

    held_out = data(64, seed=1)
    alone, beside = trained(), trained(validation_data=held_out)
    for one, other in zip(alone.get_weights(), beside.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    first, second = (beside.evaluate(*held_out, verbose=0, return_dict=True) for _ in "ab")
    assert first["robust_accuracy"] == second["robust_accuracy"]


def test_validation_takes_nothing_from_a_generator_and_leaves_the_probe():
    taken = []

    def held_out():
        for number in range(2):
            taken.append(number)
            yield X[8:], LABELS[8:]

    robust, probes = wrapped(), []
    watch = keras.callbacks.LambdaCallback(
        on_train_begin=lambda logs: probes.append(robust.probe),
        on_epoch_end=lambda epoch, logs: probes.append(robust.probe),
    )
    robust.fit(
        X[:8],
        LABELS[:8],
        epochs=3,
        verbose=0,
        callbacks=[watch],
        validation_data=held_out(),
        validation_steps=2,
    )
    assert taken == [0, 1]  # Keras goes round in what it has kept
    robust.evaluate(X, LABELS, verbose=0)
    for x, labels in [*probes, robust.probe]:
        np.testing.assert_array_equal(x, X[:8])
        np.testing.assert_array_equal(labels, LABELS[:8])


@pytest.mark.parametrize("how", [copy.deepcopy, pickle.dumps, keras.models.clone_model])
def test_it_is_not_copied(how):
    with pytest.raises(InvalidType, match=r"which is robust\.model"):
        how(wrapped())
