"""The model under attack: every style and head, nothing touched, nothing stale, nothing kept
alive."""

import functools
import gc
import weakref

import keras
import numpy as np
import pytest
from keras import layers, ops

import advex
from advex.errors import InvalidInput, ModelWarning
from advex.testing import linear_model, small_network
from advex.testing.exact import inside

JAX = keras.backend.backend() == "jax"  # there a compilation takes longer than all the rest
BUDGET = advex.Linf(0.2)
X = np.random.default_rng(5).uniform(size=(9, 12)).astype("float32")


def dense(units, activation=None, seed=0, **keywords):
    return layers.Dense(
        units, activation, kernel_initializer=keras.initializers.RandomNormal(seed=seed), **keywords
    )


class Subclassed(keras.Model):
    def __init__(self, activation=None, units=4, seed=0):
        super().__init__()
        self.hidden, self.top = dense(8, "tanh", seed), dense(units, activation, seed + 1)

    def call(self, x):
        return self.top(self.hidden(x))


class Shaped(layers.Layer):
    """A layer of the user's own that applies an activation."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, x):
        return self.function(x)


def functional(*tops, units=4, seed=0):
    """A functional model on (n, 12): a hidden layer, logits, and what comes after them."""
    image = keras.Input((12,))
    logits = dense(units, seed=seed + 1)(dense(8, "tanh", seed)(image))
    answer = logits
    for top in tops:
        answer = top(answer)
    return keras.Model(image, answer), keras.Model(image, logits)


def answers(model, x):
    return ops.convert_to_numpy(model(ops.convert_to_tensor(x), training=False))


def logits_of(classifier, x):
    return ops.convert_to_numpy(classifier.forward(x)(ops.convert_to_tensor(x)))


# Styles


def nested():
    inner = Subclassed()
    image = keras.Input((12,))
    return keras.Model(image, inner(layers.Dropout(0.5)(image)))


def sequential():
    return keras.Sequential(
        [keras.Input((12,)), dense(8, "tanh"), layers.BatchNormalization(), dense(4, seed=1)]
    )


def unbuilt():
    return keras.Sequential([dense(8, "tanh"), dense(4, seed=1)])


def compiled():
    model = sequential()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def frozen():
    model = sequential()
    model.trainable = False
    return model


def dict_input():
    image = keras.Input((12,), name="image")
    return keras.Model({"image": image}, dense(4)(image))


STYLES = [
    lambda: functional()[0],
    sequential,
    Subclassed,
    nested,
    unbuilt,
    compiled,
    frozen,
    dict_input,
]
NAMES = [
    "functional",
    "sequential",
    "subclassed",
    "nested",
    "unbuilt",
    "compiled",
    "frozen",
    "dict input",
]


@pytest.mark.backends
@pytest.mark.parametrize("make", STYLES, ids=NAMES)
def test_styles(make):
    model = make()
    result = advex.BIM(steps=4)(model, X, None, BUDGET)
    assert result.info["head"] == "logits"
    feed = {"image": X} if make is dict_input else X
    again = {"image": result.x} if make is dict_input else result.x
    before = ops.convert_to_numpy(model(feed, training=False))
    after = ops.convert_to_numpy(model(again, training=False))
    assert (before.argmax(1) == result.before).all()
    assert (after.argmax(1) == result.prediction).all()
    assert ((after.argmax(1) != before.argmax(1)) == result.success).all()
    np.testing.assert_allclose(
        result.confidence, ops.convert_to_numpy(ops.softmax(after)).max(1), atol=1e-5
    )
    assert result.success.any()


# Heads


@pytest.mark.backends
@pytest.mark.parametrize(
    ("top", "head"),
    [
        ([], "logits"),
        ([layers.Softmax()], "softmax"),
        ([layers.Activation("softmax")], "softmax"),
        ([ops.softmax], "softmax"),
        ([layers.Softmax(), layers.Reshape((4,))], "softmax"),
        ([layers.Reshape((1, 4)), layers.Softmax(), layers.Flatten()], "softmax"),
        ([keras.Sequential([layers.Softmax()])], "softmax"),
    ],
    ids=["none", "layer", "activation", "operation", "then reshape", "between reshapes", "nested"],
)
def test_softmax_heads(top, head):
    model, true = functional(*top)
    classifier = advex.Classifier(model)
    np.testing.assert_allclose(logits_of(classifier, X), answers(true, X), atol=1e-6)
    assert classifier.forward(X).head.name == head
    assert classifier.forward(X).classes == 4


@pytest.mark.backends
def test_softmax_as_the_activation_of_a_dense_layer():
    _, true = functional()
    kernel, bias = true.layers[-1].get_weights()
    soft = keras.Sequential(
        [keras.Input((12,)), true.layers[1], layers.Dense(4, activation="softmax")]
    )
    soft.layers[-1].set_weights([kernel, bias])
    for wrapped in (
        soft,
        keras.Model(soft.inputs, soft(soft.inputs[0])),
        keras.Sequential([keras.Input((12,)), soft]),
    ):
        classifier = advex.Classifier(wrapped)
        np.testing.assert_allclose(logits_of(classifier, X), answers(true, X), atol=1e-6)
        assert classifier.forward(X).head.name == "softmax"


@pytest.mark.backends
@pytest.mark.parametrize("top", [layers.Activation("sigmoid"), ops.sigmoid])
@pytest.mark.parametrize("rank", [1, 2])
def test_sigmoid_heads(top, rank):
    squeeze = [lambda answer: ops.squeeze(answer, -1)] if rank == 1 else []
    model, true = functional(top, *squeeze, units=1)
    classifier = advex.Classifier(model)
    expected = answers(true, X)
    np.testing.assert_allclose(
        logits_of(classifier, X), np.concatenate([0 * expected, expected], 1), atol=1e-6
    )
    result = advex.BIM(steps=4)(classifier, X, None, BUDGET)
    assert result.info["head"] == "sigmoid, one unit"
    assert (result.before == (expected[:, 0] > 0)).all()
    assert (result.prediction == (answers(model, result.x).reshape(-1) > 0.5)).all()
    np.testing.assert_allclose(
        result.confidence, np.abs(answers(model, result.x).reshape(-1) - 0.5) + 0.5, atol=1e-5
    )


def test_sigmoid_as_the_activation_of_a_dense_layer():
    model = keras.Sequential([keras.Input((12,)), dense(1, "sigmoid")])
    probability = answers(model, X)[:, 0]
    np.testing.assert_allclose(
        logits_of(advex.Classifier(model), X)[:, 1],
        np.log(probability / (1 - probability)),
        atol=1e-5,
    )


@pytest.mark.backends
@pytest.mark.parametrize("rank", [1, 2])
def test_one_logit(rank):
    squeeze = [lambda answer: ops.squeeze(answer, -1)] if rank == 1 else []
    model, true = functional(*squeeze, units=1)
    classifier = advex.Classifier(model)
    assert classifier.forward(X).head.name == "logit, one unit"
    np.testing.assert_allclose(logits_of(classifier, X)[:, 1], answers(true, X)[:, 0], atol=1e-6)


@pytest.mark.backends
@pytest.mark.parametrize("units", [1, 4])
@pytest.mark.parametrize("inside", ["subclassed", "layer"])
def test_probabilities_whose_logits_are_out_of_reach(units, inside):
    """A subclassed model or an unknown layer: logarithms of the probabilities, and a warning."""
    function = keras.activations.sigmoid if units == 1 else keras.activations.softmax
    model = (
        Subclassed(function, units)
        if inside == "subclassed"
        else functional(Shaped(function), units=units)[0]
    )
    with pytest.warns(
        ModelWarning, match="works with the(ir)? logarithms|works with its logarithms"
    ):
        result = advex.BIM(steps=4)(model, X, None, BUDGET)
    probability = answers(model, result.x)
    probability = np.concatenate([1 - probability, probability], 1) if units == 1 else probability
    assert result.info["head"] == ("probability, one unit" if units == 1 else "probabilities")
    assert (result.prediction == probability.argmax(1)).all()
    np.testing.assert_allclose(result.confidence, probability.max(1), atol=1e-4)
    assert result.success.any()


@pytest.mark.backends
def test_masked_classes_do_not_shield_the_others():
    """A class masked out by a huge negative logit is no reason to demand a huge margin."""
    for masked in (-np.inf,) if JAX else (-np.inf, -1e9):
        model, _ = functional(
            lambda z, masked=masked: ops.where(np.array([[True, True, True, False]]), z, masked)
        )
        result = advex.BIM(steps=8)(model, X, None, advex.Linf(0.4))
        assert result.success.mean() > 0.5
        assert (result.prediction != 3).all()


@pytest.mark.backends
@pytest.mark.parametrize(
    ("policy", "activation"),
    [("mixed_float16", None), ("mixed_bfloat16", "softmax"), ("float16", "softmax")],
)
def test_mixed_precision(policy, activation):
    model = keras.Sequential(
        [
            keras.Input((12,)),
            dense(8, "tanh", dtype=policy),
            dense(4, activation, seed=1, dtype=policy),
        ]
    )
    result = advex.BIM(steps=4)(model, X, None, advex.Linf(0.4))
    assert result.info["head"] == (activation or "logits")
    assert result.info["warnings"] == []
    assert result.x.dtype == "float32"
    assert result.success.any()
    after = answers(model, result.x).astype("float32")
    assert (after.argmax(1) == result.prediction).mean() > 0.6  # ties are common in half precision


# The model is left alone


@pytest.mark.backends
@pytest.mark.parametrize("head", ["softmax"] if JAX else ["logits", "softmax", "sigmoid"])
def test_the_model_is_untouched(head):
    model = linear_model(head=head)
    model.compile("sgd", "mse")

    def state():
        lines = []
        model.summary(print_fn=lambda text, **_: lines.append(text))
        nodes = [(len(layer._inbound_nodes), len(layer._outbound_nodes)) for layer in model.layers]
        weights = [w.tobytes() for w in model.get_weights()]
        return (
            model.get_config(),
            weights,
            nodes,
            lines,
            [w.trainable for w in model.weights],
            model.layers[-1].activation,
        )

    before = state()
    advex.Restarts(advex.PGD(steps=3), 2)(model, X, None, BUDGET)
    assert state() == before
    model.train_on_batch(X, answers(model, X) * 0)  # it still learns
    assert model.get_weights()[0].tobytes() != before[1][0]


@pytest.mark.backends
def test_a_model_whose_attribute_changes_is_not_answered_from_a_stale_trace():
    class Scaled(keras.Model):
        def __init__(self):
            super().__init__()
            self.top, self.scale = dense(4), 1.0

        def call(self, x):
            return self.top(x) * self.scale

    model = Scaled()
    first = advex.BIM(steps=2)(model, X, None, BUDGET)
    model.scale = -1.0
    second = advex.BIM(steps=2)(model, X, None, BUDGET)
    assert (first.before == answers(model, X).argmin(1)).all()
    assert (second.before == answers(model, X).argmax(1)).all()
    assert (second.prediction == answers(model, second.x).argmax(1)).all()


@pytest.mark.backends
def test_weights_that_change_between_calls_count_at_once():
    model = small_network()
    x = np.random.default_rng(0).uniform(size=(5, 6, 6, 3)).astype("float32")
    advex.FGSM()(model, x, None, BUDGET)
    model.set_weights([-w for w in model.get_weights()])
    assert (advex.FGSM()(model, x, None, BUDGET).before == answers(model, x).argmax(1)).all()


@pytest.mark.backends
def test_layers_that_change_between_calls_count_at_once():
    model = keras.Sequential([keras.Input((12,)), dense(4), layers.Softmax()])
    classifier = advex.Classifier(model)
    assert advex.FGSM()(classifier, X, None, BUDGET).info["head"] == "softmax"
    model.pop()
    assert advex.FGSM()(classifier, X, None, BUDGET).info["head"] == "logits"
    model.add(dense(3))
    assert (advex.FGSM()(classifier, X, None, BUDGET).before == answers(model, X).argmax(1)).all()


@pytest.mark.backends
@pytest.mark.parametrize(
    "make", [lambda: functional()[0], lambda: functional(layers.Softmax())[0], Subclassed, nested]
)
def test_a_dropped_model_is_not_kept_alive(make):
    model = make()
    gone = weakref.ref(model)
    advex.BIM(steps=2)(model, X, None, BUDGET)
    del model
    gc.collect()
    assert gone() is None


def test_compiled_functions_are_used_again_and_do_not_pile_up():
    model = linear_model()
    for seed in range(3):
        advex.BIM(steps=2)(model, X, None, BUDGET, seed=seed)
    count = len(advex.Classifier(model).kept())
    for _ in range(3):
        advex.BIM(steps=2)(advex.Classifier(model), X, None, advex.Linf(0.1))
    assert len(advex.Classifier(model).kept()) == count
    for _ in range(50):
        advex.Classifier(model, preprocess=lambda x: x).forward(X)
    assert len(advex.Classifier(model).kept()) < 40


# The domain


def test_preprocess_is_a_function_or_a_layer():
    model = linear_model()
    x = X * 255
    for preprocess in (
        lambda t: t / 255,
        layers.Rescaling(1 / 255),
        keras.Sequential([layers.Rescaling(1 / 255)]),
    ):
        result = advex.FGSM()(advex.Classifier(model, (0, 255), preprocess), x, None, BUDGET)
        assert (result.before == answers(model, X).argmax(1)).all()
        assert (result.distance[result.success] <= 0.2).all()
        assert (result.prediction == answers(model, result.x / 255).argmax(1)).all()


@pytest.mark.backends
def test_preprocess_receives_tensors_and_may_work_in_place():
    seen = set()

    def preprocess(t):
        seen.add(ops.is_tensor(t))
        t *= 2.0
        t -= 1.0
        return t

    model, x = linear_model(), X.copy()
    result = advex.BIM(steps=3)(advex.Classifier(model, preprocess=preprocess), x, None, BUDGET)
    assert seen == {True}
    assert (x == X).all()
    assert (result.before == answers(model, X * 2 - 1).argmax(1)).all()
    assert (result.prediction == answers(model, result.x * 2 - 1).argmax(1)).all()


def test_preprocess_that_cannot_be_hashed():
    class Halve:
        __hash__ = None

        def __call__(self, x):
            return x / 2

    assert len(
        advex.FGSM()(advex.Classifier(linear_model(), preprocess=Halve()), X, None, BUDGET)
    ) == len(X)


@functools.cache
def plainly(budget):
    return advex.FGSM()(linear_model(), X, None, budget)


@pytest.mark.parametrize("box", [(-1, 1), (0.3, 0.7), (-3.0, 255.5)], ids=str)
@pytest.mark.parametrize("budget", [advex.Linf(0.2), advex.L2(0.6), advex.L0(5)], ids=repr)
def test_the_same_problem_in_another_box(box, budget):
    low, high = box
    plain = plainly(budget)
    scaled = np.clip(
        np.float32(low) + X * np.float32(high - low), np.float32(low), np.float32(high)
    )
    classifier = advex.Classifier(linear_model(), box, lambda t: (t - low) / (high - low))
    result = advex.FGSM()(classifier, scaled, None, budget)
    assert (result.success == plain.success).all()
    np.testing.assert_allclose(result.distance, plain.distance, rtol=1e-3)
    assert inside(result.x, scaled, budget, box)


@pytest.mark.parametrize("box", [(0, 255), (-1, 1), (0.3, 0.7)])
def test_eight_bits_in_another_box(box):
    low, high = box
    x = np.random.default_rng(1).integers(0, 256, (9, 12), dtype="uint8")
    x[0], x[1] = 0, 255
    classifier = advex.Classifier(linear_model(), box, lambda t: (t - low) / (high - low))
    result = advex.BIM(steps=4)(classifier, x, None, advex.Linf(40 / 255))
    plain = advex.BIM(steps=4)(linear_model(), x, None, advex.Linf(40 / 255))
    assert result.x.dtype == "uint8"
    assert np.abs(result.x.astype(int) - x).max() <= 40
    assert (result.success == plain.success).all()
    assert (result.before == answers(linear_model(), x / np.float32(255)).argmax(1)).all()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_ends_of_a_box_as_the_working_type_sees_them(dtype):
    classifier = advex.Classifier(linear_model(), (0.3, 0.7))
    x = np.where(X > 0.5, 0.7, 0.3).astype(dtype)
    result = advex.FGSM()(classifier, x, None, advex.L0(12))
    assert result.x.min() >= np.asarray(0.3, dtype)
    assert result.x.max() <= np.asarray(0.7, dtype)
    assert result.success.any()
    with pytest.raises(InvalidInput, match="box"):
        advex.FGSM()(classifier, np.nextafter(x, np.asarray(1, dtype)), None, BUDGET)


def test_captions():
    classifier = advex.Classifier(linear_model(), classes=["cat", "dog"])
    assert [classifier.caption(label) for label in (0, 1, 7)] == ["cat", "dog", "7"]
    assert advex.Classifier(linear_model()).caption(1) == "1"
    assert "box=(0.0, 1.0)" in repr(classifier)
