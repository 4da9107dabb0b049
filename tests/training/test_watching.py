"""Data in another range than the model's: what training and its callback say, and when."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers
from training_data import LINF, LOGITS, compiled, network

import advex
from advex.errors import ModelWarning
from advex.training import Adversarial
from advex.training.given import warn_of_layer

pytestmark = pytest.mark.backends
STILL = advex.Linf(0)
CENTRED = layers.Rescaling(2, -1)
HIGH = {"accuracy": 0.95}


def bright(count, seed=0):
    """Inputs from 0 to 1 whose class is how bright they are: in another range they have another."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 4
    x = np.float32([0.1, 0.4, 0.6, 0.9])[labels][:, None, None, None]
    return (x + random.uniform(-0.1, 0.1, (count, 6, 6, 3))).clip(0, 1).astype("float32"), labels


X, LABELS = bright(64)


@pytest.fixture(scope="module")
def centred():
    """A network that is trained on -1 to 1, and has learnt; not to be trained on."""
    keras.utils.set_random_seed(0)
    dense = [layers.Flatten(), layers.Dense(32, "relu"), layers.Dense(4)]
    model = keras.Sequential([keras.Input((6, 6, 3)), *dense])
    x, labels = bright(256, seed=1)
    model.compile(keras.optimizers.Adam(0.01), LOGITS, metrics=["accuracy"])
    model.fit(x * 2 - 1, labels, batch_size=32, epochs=40, verbose=0)
    assert model.evaluate(X * 2 - 1, LABELS, verbose=0)[1] > 0.95
    return model


def said(do):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        do()
    return [str(each.message) for each in seen if issubclass(each.category, ModelWarning)]


# The layer that a model begins with.


def fitted(model, x=X, **settings):
    robust = compiled(Adversarial(model, advex.FGSM(), LINF, **settings))
    return robust, said(lambda: robust.fit(x, LABELS, verbose=0))


def test_a_layer_for_0_to_255_is_said_once_and_by_the_caller_s_line():
    robust, told = fitted(network(layers.Rescaling(1 / 255)))
    assert len(told) == 1 and "in the box (0, 1) it gets 0 to 1. Train it on" in told[0]
    assert said(lambda: robust.fit(X, LABELS, verbose=0)) == []
    other = compiled(Adversarial(network(layers.Rescaling(1 / 255)), advex.FGSM(), LINF))
    assert said(lambda: other.evaluate(X, LABELS, verbose=0)) == []  # nothing is trained
    with pytest.warns(ModelWarning, match="begins with") as seen:
        other.train_on_batch(X, LABELS)
    assert seen[0].filename == __file__


@pytest.mark.parametrize("case", ["no layer", "the box fits", "a layer for 0 to 1"])
def test_other_models_are_not_warned_about(case):
    first = layers.Rescaling(2, -1) if case == "a layer for 0 to 1" else layers.Rescaling(1 / 255)
    model = network() if case == "no layer" else network(first)
    wide = case == "the box fits"
    assert fitted(model, X * wide * 254 + X, box=(0, 255) if wide else (0, 1))[1] == []


def test_a_model_that_is_right_as_it_is_is_not_warned_about(centred):
    """It was trained on 0 to 1 before its layer."""
    begin = [keras.Input((6, 6, 3)), layers.Rescaling(1 / 255), layers.Rescaling(510, -1)]
    assert fitted(keras.Sequential([*begin, keras.models.clone_model(centred)]), X)[1]
    known = keras.models.clone_model(centred)
    known.set_weights(centred.get_weights())
    assert fitted(keras.Sequential([*begin, known]), X)[1] == []


def test_labels_of_one_class_tell_nothing():
    """They suit a model that has not learnt, and says this class to all."""
    classifier = advex.Classifier(network(layers.Rescaling(1 / 255)))
    for labels, warned in ((LABELS * 0, True), (LABELS, False)):

        def answers(x, labels=labels):
            return labels if x.max() <= 1 else labels + 1

        told = said(lambda labels=labels, one=answers: warn_of_layer(classifier, X, labels, one))
        assert bool(told) == warned


# The callback.


def watched(model, x=None, **settings):
    given = X if x is None else x
    watch = advex.callbacks.RobustAccuracy((given, LABELS), advex.FGSM(), STILL, **settings)
    watch.set_model(model)
    watch.on_train_begin()
    return watch


def epoch(watch, number, **logs):
    return said(lambda: watch.on_epoch_end(number, dict(logs)))


@pytest.mark.parametrize("logs", [HIGH, {}, {"accuracy": 0.2, "val_acc": 0.95}], ids=str)
def test_a_range_is_said_at_the_second_look_and_once(centred, logs):
    watch = watched(centred)
    assert epoch(watch, 0, **logs) == []
    (told,) = epoch(watch, 1, **logs)
    assert told.startswith("RobustAccuracy(name='val_robust_accuracy'): The model gets ")
    assert told.endswith("RobustAccuracy(data, attack, budget, preprocess=lambda x: x * 2 - 1)")
    assert epoch(watch, 2, **logs) == said(watch.on_train_end) == []


def test_a_range_is_said_at_the_end(centred):
    """Of 8-bit levels in a real training of one epoch, with weights that stay."""
    levels = np.round(X * 255).astype("uint8")
    model = keras.models.clone_model(centred)
    model.set_weights(centred.get_weights())
    model.compile(keras.optimizers.SGD(1e-6), LOGITS, metrics=["accuracy"])
    watch = advex.callbacks.RobustAccuracy((levels, LABELS), advex.FGSM(), STILL)
    x = X * 2 - 1
    (told,) = said(lambda: model.fit(x, LABELS, verbose=0, callbacks=[watch]))
    assert told.endswith("RobustAccuracy(data, attack, budget, box=(-1, 1))")


@pytest.mark.parametrize(
    "logs",
    [
        {"accuracy": 0.3},  # no better where it is trained
        {"val_accuracy": 0.3, "accuracy": 0.95},  # that of training lags behind
        {"accuracy": 0.3, "robust_accuracy": 0.9, "sparse_top_k_categorical_accuracy": 0.95},
    ],
    ids=str,
)
def test_a_model_that_has_only_begun_is_not_warned_about(centred, logs):
    watch = watched(centred)
    assert watch.look() <= 0.3 and watch._ranged
    assert epoch(watch, 0, **logs) == epoch(watch, 1, **logs) == said(watch.on_train_end) == []


def test_one_look_alone_may_be_chance(centred):
    watch = watched(centred)
    assert epoch(watch, 0, **HIGH) == []
    watch.set_model(keras.Sequential([keras.Input((6, 6, 3)), CENTRED, centred]))
    assert epoch(watch, 1, **HIGH) == said(watch.on_train_end) == []


def test_data_of_the_model_s_own_range_are_not_warned_about(centred):
    for more in ({"box": (-1, 1), "x": X * 2 - 1}, {"preprocess": lambda x: x * 2 - 1}):
        watch = watched(centred, **more)
        assert epoch(watch, 0) == epoch(watch, 1) == said(watch.on_train_end) == []
        assert watch.value is not None
