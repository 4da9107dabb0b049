"""Batch normalisation folded away: the same answers and gradients, live weights, and what is left
as it is.
"""

import keras
import numpy as np
import pytest
from keras import layers, ops

import advex
from advex import _backend
from advex.model import folding


def array(values):
    return np.asarray(_backend.to_numpy(values))


def stirred(model, seed=0):
    """``model`` with random weights, moving means and variances."""
    generator = np.random.default_rng(seed)
    for layer in model._flatten_layers():
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights(
                [
                    generator.uniform(0.5, 2, size=w.shape).astype("float32")
                    for w in layer.get_weights()
                ]
            )
        elif not list(getattr(layer, "layers", [])) and layer.get_weights():
            layer.set_weights(
                [
                    generator.normal(size=w.shape).astype("float32") * 0.3
                    for w in layer.get_weights()
                ]
            )
    return model


def plain():
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(4, 3, strides=2, padding="same", use_bias=False),
            layers.BatchNormalization(scale=False),
            layers.ReLU(),
            layers.DepthwiseConv2D(3, depth_multiplier=2),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dense(6),
            layers.BatchNormalization(center=False),
            layers.ReLU(),
            layers.Dense(3),
        ]
    )


def nested():
    inner = plain()
    image = keras.Input((8, 8, 3))
    shortcut = layers.Conv2D(3, 1)(image)
    joined = layers.Add()([image, layers.BatchNormalization()(shortcut)])
    return keras.Model(image, layers.Activation("softmax")(inner(joined)))


@pytest.mark.backends
@pytest.mark.parametrize("make", [plain, nested])
def test_answers_stay_the_same_and_follow_the_weights(make):
    model = stirred(make())
    assert folding.folds(model)
    x = ops.convert_to_tensor(np.random.default_rng(1).uniform(size=(5, 8, 8, 3)).astype("float32"))
    for seed in (0, 1):
        stirred(model, seed)
        true = array(model(x, training=False))
        np.testing.assert_allclose(
            array(folding.answer(model, x)), true, rtol=2e-5, atol=2e-6 * np.abs(true).max()
        )


@pytest.mark.backends
def test_attacks_find_the_same_and_judge_by_the_model_itself():
    model = stirred(plain())
    x = np.random.default_rng(2).uniform(size=(20, 8, 8, 3)).astype("float32")
    labels = array(model(ops.convert_to_tensor(x), training=False)).argmax(1)
    attack, budget = advex.PGD(steps=5), advex.Linf(0.03)
    folded = attack(model, x, labels, budget)
    forward = advex.Classifier(model).forward(x)
    assert forward.folded
    again = array(model(ops.convert_to_tensor(folded.x), training=False)).argmax(1)
    np.testing.assert_array_equal(again != labels, folded.success)
    unfolded = pytest.MonkeyPatch()
    with unfolded.context() as patch:
        patch.setattr(folding, "folds", lambda model: False)
        other = attack(model, x, labels, budget)
        assert not forward.folded
    np.testing.assert_array_equal(folded.success, other.success)
    np.testing.assert_allclose(folded.x, other.x, atol=1e-3)


def left(kind):
    image = keras.Input((8, 8, 3))
    convolution = layers.Conv2D(
        3, 3, padding="same", activation="relu" if kind == "activation" else None
    )
    norm = layers.BatchNormalization(axis=1 if kind == "axis" else -1)
    y = convolution(image)
    z = norm(y)
    if kind == "second reader":
        z = layers.Add()([y, z])
    if kind == "shared convolution":
        z = layers.Add()([z, convolution(z)])
    if kind == "shared norm":
        z = norm(layers.ReLU()(z))
    return keras.Model(image, layers.Dense(2)(layers.Flatten()(z)))


@pytest.mark.parametrize(
    "kind", ["activation", "axis", "second reader", "shared convolution", "shared norm"]
)
def test_what_cannot_be_folded_is_left_alone(kind):
    model = stirred(left(kind))
    assert not folding.folds(model)
    x = np.random.default_rng(3).uniform(size=(2, 8, 8, 3)).astype("float32")
    np.testing.assert_allclose(
        array(folding.answer(model, x)), array(model(x, training=False)), rtol=1e-5, atol=1e-6
    )


def test_half_precision_subclasses_and_plain_models_are_left_alone():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = plain()

        def call(self, x, training=None):
            return self.inner(x, training=training)

    assert not folding.folds(Own())
    assert not folding.folds(advex.testing.small_network())
    half = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(2, 3, dtype="mixed_float16"),
            layers.BatchNormalization(dtype="mixed_float16"),
        ]
    )
    assert not folding.folds(half)


def test_a_fold_that_changes_the_answers_is_not_used(monkeypatch):
    model = stirred(plain())
    x = np.random.default_rng(4).uniform(size=(6, 8, 8, 3)).astype("float32")
    true = folding.answer
    for off, used in ((1e-7, True), (1e-4, False)):
        monkeypatch.setattr(folding, "answer", lambda model, x, off=off: true(model, x) * (1 + off))
        result = advex.FGSM()(model, x, None, advex.Linf(0.01))
        assert advex.Classifier(model).forward(x).folded == used
        assert result.info["checks"]["queries"] >= 6


def test_the_judge_asks_the_model_itself(monkeypatch):
    model = stirred(plain())
    x = np.random.default_rng(5).uniform(size=(3, 8, 8, 3)).astype("float32")
    classifier = advex.Classifier(model)
    forward = classifier.forward(x)
    forward.folded = True

    def never(model, x):
        raise RuntimeError("folded")

    monkeypatch.setattr(folding, "answer", never)
    np.testing.assert_allclose(
        array(classifier.judge(x)(ops.convert_to_tensor(x))),
        array(model(x, training=False)),
        rtol=1e-4,
        atol=1e-4,
    )
    with pytest.raises(RuntimeError, match="folded"):
        forward(ops.convert_to_tensor(x))


def test_layers_gain_no_nodes():
    """The user's layers keep their one output: ``layer.output`` stays defined."""
    model = stirred(plain())
    advex.FGSM()(model, np.full((2, 8, 8, 3), 0.5, "float32"), None, advex.Linf(0.01))
    for layer in model.layers:
        assert len(layer._inbound_nodes) == 1
