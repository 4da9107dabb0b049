"""A result is true for whatever model, goal and backend comes: neighbours, places, stale traces,
heads, huge logits, counts.
"""

import contextlib
import warnings
from dataclasses import dataclass

import keras
import numpy as np
import pytest
from keras import layers, ops

import advex
from advex.errors import InvalidInput, InvalidType, ModelWarning, UserCodeError
from advex.model import cache
from advex.testing import linear_data, linear_model, small_network

TENSORFLOW = keras.backend.backend() == "tensorflow"
RNG = np.random.default_rng(0)
X = RNG.uniform(size=(40, 12)).astype("float32")
WEIGHTS = RNG.normal(size=(12, 4)).astype("float32")
BUDGET = advex.Linf(0.05)

# on JAX nearly all time is compiling
QUICK = advex.PGD(steps=5) if keras.backend.backend() != "jax" else advex.FGSM()

pytestmark = pytest.mark.filterwarnings("ignore::advex.errors.ModelWarning")
everywhere = pytest.mark.backends


def top(weights=WEIGHTS, **settings):
    made = layers.Dense(weights.shape[1], **settings)
    made.build((None, weights.shape[0]))
    made.set_weights([weights, np.zeros(weights.shape[1], "float32")])
    return made


def alone(model, x):
    """The model's own answers, each input in a batch of its own."""
    return np.concatenate(
        [ops.convert_to_numpy(model(x[row : row + 1], training=False)) for row in range(len(x))]
    )


def said(result):
    return " ".join([*result.info["warnings"], *result.info["notes"]])


# Models that depend on neighbours, or on the place in the batch


def by_mean(x):
    """Bright inputs see the mean of the batch; dark ones, row 0 among them, do not."""
    bright = ops.mean(x, axis=1, keepdims=True) > 0.5
    return x + ops.where(bright, 0.8 * ops.mean(x, axis=0, keepdims=True), 0.0)


def by_place(x):
    """From the second row on the place counts."""
    place = ops.cumsum(ops.ones_like(x[:, :1]), axis=0) - 1
    return x + ops.where(place > 0, 0.2 * ops.sin(2.0 * place), 0.0)


def by_size(x):
    """Larger batches are treated otherwise than single inputs."""
    count = ops.sum(ops.ones_like(x[:, :1]))
    return x * ops.where(count > 1.5, -1.0, 1.0)


def by_neighbour(x):
    """Each row but the first sees the one before it."""
    before = ops.concatenate([x[:1], x[:-1]], axis=0)
    return x + 0.6 * (before - x)


def by_largest(x):
    """Only one row is as it would be alone."""
    return x - 0.7 * ops.max(x, axis=0, keepdims=True)


def by_last(x):
    """The last row of a batch is another one."""
    count = ops.sum(ops.ones_like(x[:, :1]))
    place = ops.cumsum(ops.ones_like(x[:, :1]), axis=0)
    return ops.where(ops.logical_and(place == count, count > 1.5), 1.0 - x, x)


@everywhere
@pytest.mark.parametrize("odd", [by_mean, by_place, by_size, by_neighbour, by_largest, by_last])
def test_no_false_success_of_a_model_that_depends_on_neighbours_or_place(odd):
    class Odd(layers.Layer):
        def call(self, x):
            return odd(x)

    model = keras.Sequential([keras.Input((12,)), Odd(), top()])
    x = X[np.argsort(X.mean(1))]  # the dark ones first
    labels = alone(model, x).argmax(1)
    labels[7] = (labels[7] + 1) % 4  # wrong already
    result = QUICK(model, x, labels, BUDGET, batch_size=16)
    assert "depends on the rest of its batch, or on the place in it" in said(result)
    truth = alone(model, result.x).argmax(1)
    assert not (result.success & (truth == labels)).any()
    assert (result.before == alone(model, x).argmax(1)).all()
    assert (result.prediction == truth).all()
    assert result.broken_by[7] == "clean" and result.distance[7] == 0


@everywhere
def test_the_last_place_of_a_full_batch():
    """Only the row before the border of two batches is answered otherwise, wherever that border
    is."""

    class Last(layers.Layer):
        def call(self, x):
            count = ops.sum(ops.ones_like(x[:, :1]))
            place = ops.cumsum(ops.ones_like(x[:, :1]), axis=0)
            return ops.where(ops.logical_and(place == count, count > 63.5), -x, x)

    model = keras.Sequential([keras.Input((12,)), top(), Last()])
    x = np.random.default_rng(300).uniform(size=(300, 12)).astype("float32")
    labels = alone(model, x).argmax(1)
    result = advex.FGSM()(model, x, labels, BUDGET, batch_size=64)
    assert "depends on the rest of its batch, or on the place in it" in said(result)
    assert (result.before == labels).all()
    assert not (result.success & (alone(model, result.x).argmax(1) == labels)).any()


def test_what_shows_only_beside_the_boundary_is_found_at_the_end():
    """Clean inputs are answered alike in every company; among adversarial ones the neighbours
    count.
    """

    class Sly(layers.Layer):
        def call(self, x):
            # off the grid 0, 0.5, 1, where the clean inputs lie
            there = ops.abs(x - ops.round(x * 2) / 2) > 1e-3
            crowd = ops.sum(ops.where(there, 1.0, 0.0), axis=0, keepdims=True) > 1.5
            return ops.where(ops.logical_and(there, crowd), 1.0 - x, x)

    model = keras.Sequential([keras.Input((12,)), Sly(), top()])
    x = np.round(X * 2) / 2
    labels = alone(model, x).argmax(1)
    result = advex.PGD(steps=10)(model, x, labels, advex.Linf(0.2))
    assert not (result.success & (alone(model, result.x).argmax(1) == labels)).any()
    assert "depends on the rest of its batch" in said(result) or not result.success.any()


def test_honest_models_are_not_flagged():
    x = np.random.default_rng(0).uniform(size=(20, 6, 6, 3)).astype("float32")
    for model, inputs in ((linear_model(), linear_data(20)[0]), (small_network(), x)):
        result = advex.FGSM()(model, inputs, None, BUDGET)
        assert result.info["warnings"] == []


@everywhere
@pytest.mark.parametrize("rows", ["more", "fewer", "odd"])
def test_a_model_with_another_number_of_rows_is_refused(rows):
    class Frames(keras.Model):
        def __init__(self):
            super().__init__()
            self.top = top(WEIGHTS[:6]) if rows == "more" else top()

        def call(self, x):
            if rows == "more":
                return self.top(ops.reshape(x, (-1, 6)))
            return self.top(
                x[: 1 if rows == "fewer" else max(1, x.shape[0] // 2) if x.shape[0] else None]
            )

    for goal in (None, np.zeros(40, int)):
        with pytest.raises(InvalidInput, match="one row for each input"):
            advex.FGSM()(Frames(), X, goal, BUDGET)


# Stale traces


def changed_closure():
    state = {"sign": 1.0}
    model = keras.Sequential(
        [keras.Input((12,)), layers.Lambda(lambda x: x * state["sign"]), top()]
    )
    return model, lambda: state.update(sign=-1.0)


def changed_list():
    class Scaled(layers.Layer):
        def __init__(self):
            super().__init__()
            self.settings = {"scale": [1.0]}

        def call(self, x):
            return x * float(self.settings["scale"][0])

    layer = Scaled()
    model = keras.Sequential([keras.Input((12,)), layer, top()])

    def change():
        layer.settings["scale"][0] = -1.0

    return model, change


def adapted():
    norm = layers.Normalization()
    norm.adapt(np.random.default_rng(1).normal(0, 1, size=(100, 12)).astype("float32"))
    model = keras.Sequential([keras.Input((12,)), norm, top()])
    other = np.random.default_rng(2).uniform(size=(100, 12)) * np.linspace(0.2, 3, 12)
    return model, lambda: norm.adapt(other.astype("float32"))


def changed_object():
    class Knob:
        sign = 1.0

    knob = Knob()

    class Turned(keras.Model):
        def __init__(self):
            super().__init__()
            self.top = top()

        def call(self, x):
            return self.top(x * knob.sign)

    return Turned(), lambda: setattr(knob, "sign", -1.0)


@everywhere
@pytest.mark.parametrize("make", [changed_closure, changed_list, adapted, changed_object])
def test_a_model_that_has_changed_is_not_answered_from_a_stale_trace(make):
    model, change = make()
    QUICK(model, X, alone(model, X).argmax(1), BUDGET)
    change()
    labels = alone(model, X).argmax(1)
    result = QUICK(model, X, labels, BUDGET)
    assert (result.before == labels).all()
    assert not (result.success & (alone(model, result.x).argmax(1) == labels)).any()
    fresh, change = make()
    change()
    new = QUICK(fresh, X, labels, BUDGET)  # the search, too, saw the model as it is now
    assert (new.success == result.success).all()
    assert result.info["warnings"] == []


class Flagged(keras.Model):
    """Ends in a softmax, or does not, as an inner object says that no mark of the layers shows."""

    def __init__(self):
        super().__init__()
        self.top, self.told = top(), (type("Settings", (), {"soft": False})(),)

    def call(self, x):
        logits = self.top(x) - 6.0  # all below 0: what was taken for a probability would be none
        return ops.softmax(logits) if self.told[0].soft else logits


@everywhere
@pytest.mark.parametrize("first", [False, True])
def test_a_head_that_has_changed_is_looked_at_again(first):
    model = Flagged()
    model.told[0].soft = first
    QUICK(model, X, None, BUDGET)
    model.told[0].soft = not first
    labels = alone(model, X).argmax(1)
    result = QUICK(model, X, labels, BUDGET)
    answers = alone(model, result.x)
    own = answers if not first else ops.convert_to_numpy(ops.softmax(answers))
    assert result.info["head"] == ("logits" if first else "probabilities")
    assert (result.before == labels).all() and (result.prediction == answers.argmax(1)).all()
    np.testing.assert_allclose(result.confidence, own.max(1), atol=1e-5)


@everywhere
def test_a_head_that_has_changed_is_looked_at_again_by_evaluations():
    model = Flagged()
    model.told[0].soft = True
    QUICK(model, X, None, BUDGET)
    model.told[0].soft = False
    labels = alone(model, X).argmax(1)
    found = advex.evaluate(model, (X, labels), QUICK, BUDGET, diagnose=False, progress=False)
    assert found.clean_accuracy == 1
    if keras.backend.backend() == "torch":  # where it takes no compiling
        model.told[0].soft = True
        QUICK(model, X, None, BUDGET)
        model.told[0].soft = False
        assert advex.evaluation.diagnose(model, X[:8], labels[:8], BUDGET).examples == 8


@everywhere
@pytest.mark.parametrize("nested", [False, True])
def test_a_last_layer_that_was_given_another_class(nested):
    """As reloading a module in a notebook does; the softmax, once recovered, is not that of the old
    class.
    """

    class Reversed(layers.Dense):
        def call(self, x, training=None):
            return super().call(-x)

    inner = keras.Sequential([keras.Input((12,)), top(activation="softmax")])
    last = inner.layers[-1]
    model = keras.Sequential([keras.Input((12,)), inner]) if nested else inner
    QUICK(model, X, None, BUDGET)
    last.__class__ = Reversed
    labels = alone(model, X).argmax(1)
    result = QUICK(model, X, labels, BUDGET)
    answers = alone(model, result.x)
    assert (result.before == labels).all() and (result.prediction == answers.argmax(1)).all()
    np.testing.assert_allclose(result.confidence, answers.max(1), atol=1e-5)


def test_a_preprocessing_that_has_changed():
    state = {"sign": 1.0}
    model = keras.Sequential([keras.Input((12,)), top()])
    classifier = advex.Classifier(model, preprocess=lambda x: x * state["sign"])
    advex.FGSM()(classifier, X, None, BUDGET)
    state["sign"] = -1.0
    assert (advex.FGSM()(classifier, X, None, BUDGET).before == alone(model, -X).argmax(1)).all()


@everywhere
def test_a_compiled_model_that_answers_otherwise_is_said_to():
    class Two(layers.Layer):
        def call(self, x):
            traced = "Tracer" in type(x).__name__ or (TENSORFLOW and not hasattr(x, "numpy"))
            return 1.0 - x if traced else x

    model = keras.Sequential([keras.Input((12,)), Two(), top()])
    labels = alone(model, X).argmax(1)
    result = QUICK(model, X, labels, BUDGET)
    assert not (result.success & (alone(model, result.x).argmax(1) == labels)).any()
    if keras.backend.backend() != "torch":  # nothing is compiled there
        assert "The compiled model answers differently from the model itself" in said(result)


def test_the_function_that_is_compared_stays_however_many_are_compiled(monkeypatch):
    monkeypatch.setattr(cache, "MAX_FUNCTIONS", 32)
    model, (x, labels) = linear_model(), linear_data(8)
    classifier = advex.Classifier(model)
    for steps in range(2, 2 + 14):
        advex.BIM(steps=steps)(classifier, x, labels, BUDGET)
        names = [name[0] for name in classifier.kept() if isinstance(name, tuple)]
        assert names.count("forward") == 1 and names.count("canary") == (
            keras.backend.backend() != "torch"
        )
        assert names.index("forward") == 0
        assert len(names) <= 34


# Heads


class Sigmoids(keras.Model):
    """Several sigmoids at the end of a model whose graph nobody knows."""

    def __init__(self, weights, bias):
        super().__init__()
        self.top = layers.Dense(weights.shape[1])
        self.top.build((None, weights.shape[0]))
        self.top.set_weights([weights, bias])

    def call(self, x):
        return ops.sigmoid(self.top(x))


@everywhere
@pytest.mark.parametrize("kind", ["layer", "subclassed", "black box"] if TENSORFLOW else ["layer"])
def test_a_demanded_probability_is_the_models_own_sigmoid(kind):
    bias = np.full(4, -6.0, "float32")
    if kind == "layer":
        model = keras.Sequential([keras.Input((12,)), top(activation="sigmoid")])
        model.layers[-1].set_weights([WEIGHTS * 3, bias])
    else:
        model = Sigmoids(WEIGHTS * 3, bias)
    answers = lambda x: ops.convert_to_numpy(model(x, training=False))  # noqa: E731
    target = (answers(X).argmax(1) + 1) % 4
    subject, attack = model, advex.PGD(steps=40)
    if kind == "black box":
        subject, attack = advex.BlackBox(answers, classes=4), advex.SquareAttack(steps=200)
    result = attack(subject, X, advex.Targeted(target, confidence=0.7), advex.Linf(0.45))
    own = answers(result.x)
    assert result.success.sum() >= 3
    assert (own[np.arange(40), target][result.success] >= 0.7 - 1e-5).all()
    # what is told is what the model gives
    np.testing.assert_allclose(result.confidence, own.max(1), atol=1e-5)
    np.testing.assert_allclose(result.before_confidence, answers(X).max(1), atol=1e-5)
    if kind == "black box":
        return
    # Whatever a linear model can reach is reached: by the formula, within the box.
    ends = np.clip(X + 0.45 * np.sign(WEIGHTS.T[target]), 0, 1)
    reachable = (ends * WEIGHTS.T[target] * 3).sum(1) - 6 > np.log(0.7 / 0.3) + 0.5
    best = np.stack([ends @ WEIGHTS[:, other] for other in range(4)], 1)
    assert (result.success | ~(reachable & (best.argmax(1) == target))).all()


def test_relu_at_the_end_is_no_probability():
    model = keras.Sequential([keras.Input((12,)), top(np.abs(WEIGHTS) * 0.05, activation="relu")])
    assert (ops.convert_to_numpy(model(X)) <= 1).all()
    assert advex.FGSM()(model, X, None, BUDGET).info["head"] == "logits"


def test_logits_between_0_and_1_by_chance_are_no_probabilities():
    class Plain(keras.Model):
        def __init__(self):
            super().__init__()
            self.top = top(WEIGHTS[:, :2])
            # around 0.5
            self.top.set_weights([WEIGHTS[:, :2] * 0.6, 0.5 - 0.3 * WEIGHTS[:, :2].sum(0)])

        def call(self, x):
            return self.top(x)

    model = Plain()
    x = np.random.default_rng(3).uniform(size=(400, 12)).astype("float32")
    answers = ops.convert_to_numpy(model(x))
    by_chance = x[((answers >= 0) & (answers <= 1)).all(1)]
    assert 1 <= len(by_chance) < 200
    assert advex.FGSM()(model, by_chance, None, BUDGET).info["head"] == "logits"


@pytest.mark.parametrize("kind", ["subclassed", "relu"])
def test_one_logit_between_0_and_1_by_chance_is_no_probability(kind):
    class Plain(keras.Model):
        def __init__(self):
            super().__init__()
            self.top = top(WEIGHTS[:, :1])

        def call(self, x):
            return self.top(x)

    model = Plain()
    if kind == "relu":
        model = keras.Sequential([keras.Input((12,)), top(WEIGHTS[:, :1], activation="relu")])
    last = model.layers[-1]
    last.set_weights([WEIGHTS[:, :1], -np.median(X @ WEIGHTS[:, :1], axis=0)])
    answers = alone(model, X)[:, 0]
    x = X[(answers > 0.05) & (answers < 0.45)][:1]  # class 1, which half a probability would not be
    assert len(x)
    result = advex.FGSM()(model, x, [1], BUDGET)
    assert result.info["head"] == "logit, one unit"
    assert result.before.tolist() == [1] and result.broken_by[0] != "clean"


@pytest.mark.parametrize("activation", [None, "sigmoid"])
def test_one_unit_is_said_to_be_taken_for_yes_or_no(activation):
    model = keras.Sequential([keras.Input((12,)), top(WEIGHTS[:, :1] * 3, activation=activation)])
    told = said(advex.FGSM()(model, X, None, BUDGET))
    assert (
        ("one output unit" in told and "regression" in told)
        if activation is None
        else "sigmoid" in told
    )


# Logits that are huge, infinite or nothing


@everywhere
@pytest.mark.parametrize("shift", [-1e33, -1e38, 1e33, 0.0] if TENSORFLOW else [-1e33])
def test_huge_logits_make_no_false_success(shift):
    model = keras.Sequential([keras.Input((12,)), top(WEIGHTS * np.float32(1e30))])
    model.layers[-1].set_weights([WEIGHTS * np.float32(1e30), np.full(4, shift, "float32")])
    labels = alone(model, X).argmax(1)
    for attack in (QUICK, advex.FAB(steps=5), advex.APGD(steps=5))[: 3 if TENSORFLOW else 1]:
        result = attack(model, X, labels, advex.Linf(0.01))
        assert not (result.success & (alone(model, result.x).argmax(1) == labels)).any()


def test_classes_that_are_masked_by_minus_infinity():
    class Masked(layers.Layer):
        def call(self, x):
            return x + ops.convert_to_tensor(np.array([0, 0, -np.inf, 0], "float32"))

    model = keras.Sequential([keras.Input((12,)), top(), Masked()])
    labels = alone(model, X).argmax(1)
    result = advex.PGD(steps=10)(model, X, labels, advex.Linf(0.1))
    plain = keras.Sequential([keras.Input((12,)), top(WEIGHTS[:, [0, 1, 3]])])
    same = advex.PGD(steps=10)(plain, X, np.where(labels == 3, 2, labels), advex.Linf(0.1))
    assert (result.success == same.success).all() and result.success.any()


# Goals


class OutOfTwo(advex.Untargeted):
    """The label is to leave the first two places."""

    def margin(self, logits):
        own = ops.one_hot(self.labels, logits.shape[1])
        best, _ = ops.top_k(logits - 1e6 * own, 2)
        return best[:, 1] - ops.sum(logits * own, axis=1)


@everywhere
@pytest.mark.parametrize(
    "attack",
    [
        advex.DeepFool(),
        advex.EveryTarget(advex.PGD(steps=20, loss=advex.losses.margin), 3),
        advex.FAB(steps=20),
        advex.FMN(steps=40),
        advex.Verdict(),
        advex.AutoAttack(),
    ][: 6 if TENSORFLOW else 1],
    ids=lambda attack: type(attack).__name__,
)
def test_a_goal_derived_from_untargeted_is_pursued_by_its_own_margin(attack):
    model = keras.Sequential([keras.Input((12,)), top()])
    labels = alone(model, X).argmax(1)[:12]
    limited = attack.needs_epsilon or isinstance(attack, advex.EveryTarget)
    result = attack(model, X[:12], OutOfTwo(labels), advex.Linf(0.49) if limited else advex.L2())
    ranks = (alone(model, result.x) > alone(model, result.x)[np.arange(12), labels][:, None]).sum(1)
    assert (ranks[result.success] >= 2).all()
    assert result.success.sum() >= (6 if limited else 10)


def test_jsma_refuses_a_margin_of_its_own():
    with pytest.raises(InvalidType, match="margin of its own"):
        advex.JSMA()(linear_model(), linear_data(4)[0], OutOfTwo([0, 1, 0, 1]), advex.L0(3))


@dataclass(frozen=True, eq=False)
class Unsure(advex.Goal):
    labels: np.ndarray
    most: np.ndarray
    floor: np.ndarray  # one number for all, without axes

    def margin(self, logits):
        own = ops.take_along_axis(ops.softmax(logits), ops.expand_dims(self.labels, 1), axis=1)[
            :, 0
        ]
        return ops.maximum(self.most, float(self.floor)) - own


@everywhere
@pytest.mark.parametrize("kind", ["int64", "int16", "uint8", "uint64"] if TENSORFLOW else ["int64"])
def test_fields_of_a_goal_of_ones_own_in_every_type(kind):
    model = keras.Sequential([keras.Input((12,)), top()])
    labels = alone(model, X).argmax(1).astype(kind)
    goal = Unsure(labels, np.full(40, 0.5, "float64"), np.array(0.1))
    result = advex.PGD(steps=10)(model, X, goal, advex.Linf(0.2))
    own = ops.convert_to_numpy(ops.softmax(alone(model, result.x)))[
        np.arange(40), labels.astype(int)
    ]
    assert (own[result.success] < 0.5).all() and result.success.sum() > 5


def test_fields_that_fit_no_32_bits_or_no_number_are_refused():
    model, x = linear_model(), linear_data(3)[0]
    with pytest.raises(InvalidInput, match="beyond 32 bits"):
        advex.PGD()(model, x, Unsure(np.array([0, 1, 2**40]), np.ones(3), np.array(0.1)), BUDGET)
    with pytest.raises(InvalidType, match="must hold numbers"):
        advex.PGD()(model, x, Unsure(np.array(["a", "b", "c"]), np.ones(3), np.array(0.1)), BUDGET)


# Arrays that somebody else changes


@everywhere
def test_arrays_that_change_during_the_search_change_nothing():
    model, (x, labels) = linear_model(), linear_data(24)
    attack = advex.PGD(steps=5)
    calm = attack(model, x, labels, BUDGET, batch_size=8)
    given, told = x.copy(), labels.copy()

    def spoil(*_):
        given[:] = 0.5
        told[:] = 1 - told

    result = attack(model, given, told, BUDGET, batch_size=8, progress=spoil)
    assert (result.success == calm.success).all() and (result.x == calm.x).all()
    assert (result.original == x).all() and (result.distance == calm.distance).all()
    goal = Unsure(labels.copy(), np.full(24, 0.5, "float32"), np.array(0.1))
    calm = attack(model, x, goal, BUDGET, batch_size=8)

    def spoil_goal(*_):
        goal.most[:] = 2.0

    result = attack(model, x, goal, BUDGET, batch_size=8, progress=spoil_goal)
    assert (result.success == calm.success).all()


def test_a_start_that_changes_during_the_search_changes_nothing():
    model, (x, labels) = linear_model(), linear_data(24)
    start = np.clip(x + 0.3, 0, 1)
    attack = advex.FMN(steps=10)
    calm = attack(model, x, labels, advex.L2(), batch_size=8, start=start)

    def spoil(*_):
        start[:] = 0.0

    result = attack(model, x, labels, advex.L2(), batch_size=8, start=start, progress=spoil)
    assert (result.x == calm.x).all()


# Counts


@pytest.mark.skipif(not TENSORFLOW, reason="the counter is an operation of TensorFlow")
def test_costs_are_those_of_an_independent_counter_in_every_call():
    import tensorflow as tf

    shown = [0]

    class Counter(layers.Layer):
        def call(self, x):
            def count(rows):
                shown[0] += int(rows)
                return np.int64(0)

            with tf.control_dependencies([tf.py_function(count, [tf.shape(x)[0]], tf.int64)]):
                return tf.identity(x)

    entry = keras.Input((12,))
    model = keras.Model(entry, top()(Counter()(entry)))
    labels = alone(model, X).argmax(1)
    attacks = [advex.PGD(steps=2 + number) for number in range(12)]
    attacks += [
        advex.Ensemble(advex.FGSM(), advex.SquareAttack(steps=20)),
        advex.MinimumNorm("L2"),
        advex.DeepFool(),
    ]
    for number, attack in enumerate(attacks):
        budget = advex.L2() if number >= 13 else BUDGET
        shown[0] = 0
        result = attack(model, X, labels, budget, batch_size=16)
        assert int(result.queries.sum()) + result.info["checks"]["queries"] == shown[0], attack
        if number == 3:
            model.layers[-1].activation = keras.activations.softmax  # the head is looked at anew
        if number == 6:
            advex.Classifier(model).forget()


# Padding


@dataclass(frozen=True, kw_only=True)
class Table(advex.Attack):
    """Looks its step size up by the step, and counts in its memory: both end with the last step."""

    steps: int = 4
    stop: int = 4

    def init(self, problem):
        return problem.x0, {"count": ops.zeros_like(problem.step)}

    def step(self, problem, x, memory):
        sizes = ops.convert_to_tensor(np.linspace(0.5, 0.1, self.steps).astype("float32"))
        more = ops.convert_to_tensor(np.linspace(1.0, 2.0, self.steps).astype("float32"))
        # on a CPU a look-up behind the end of a table fails; elsewhere it is clipped or wrong
        if TENSORFLOW:
            import tensorflow as tf

            size = tf.gather(sizes, problem.step) * tf.gather(more, memory["count"])
        else:
            size = ops.take(sizes, problem.step, axis=0) * ops.take(more, memory["count"], axis=0)
        _, gradient = problem.gradient(x, advex.losses.margin)
        x = problem.move(x, gradient, size)
        return x, {"count": memory["count"] + 1}

    def done(self, problem, x, memory):
        return memory["count"] >= self.stop


@everywhere
@pytest.mark.parametrize("stop", [4, 2] if TENSORFLOW else [4])
def test_rows_that_fill_up_or_have_left_walk_off_no_table(stop):
    from advex.attacks.call import attacked_by, checked_call

    model = keras.Sequential([keras.Input((12,)), top()])
    labels = alone(model, X).argmax(1)
    attack = Table(stop=stop)
    plain = attack(model, X, labels, BUDGET)
    for fill, batch in ((5, 7), (16, 16), (3, 40))[: 3 if TENSORFLOW else 1]:
        call = checked_call(attack, model, X, labels, BUDGET, 0)
        result = attacked_by(attack, call._replace(batch_size=batch, multiple=fill))
        assert (result.success == plain.success).all()
        np.testing.assert_allclose(result.x, plain.x, atol=1e-6)
        assert (result.gradients == plain.gradients).all()
    assert 0 < plain.success.sum() < 40


# Code of the user's own that fails is named


def tensor_to_numpy(value):
    return np.asarray(float(np.asarray(value).ravel()[0]))


@everywhere
def test_code_that_does_not_work_on_tensors_is_named():
    model, (x, labels) = linear_model(), linear_data(6)

    def numpy_loss(logits, goal):
        raise TypeError("no NumPy here")

    def numpy_size(progress):
        raise TypeError("no NumPy here")

    def numpy_transform(problem, x):
        raise TypeError("no NumPy here")

    @dataclass(frozen=True, kw_only=True)
    class Broken(advex.FGSM):
        def step(self, problem, x, memory):
            raise TypeError("no NumPy here")

    @dataclass(frozen=True, eq=False)
    class Vain(advex.Goal):
        labels: np.ndarray

        def margin(self, logits):
            raise TypeError("no NumPy here")

    class Model(keras.Model):
        def call(self, x):
            raise TypeError("no NumPy here")

    def bad(x):
        raise TypeError("no NumPy here")

    cases = [
        ("the loss numpy_loss", lambda: advex.PGD(loss=numpy_loss)(model, x, labels, BUDGET)),
        ("step_size", lambda: advex.BIM(step_size=numpy_size)(model, x, labels, BUDGET)),
        (
            "learning_rate",
            lambda: advex.GradientAscent(learning_rate=numpy_size)(model, x, labels, BUDGET),
        ),
        (
            "transform",
            lambda: advex.AveragedGradient(advex.PGD(), numpy_transform, 2)(
                model, x, labels, BUDGET
            ),
        ),
        ("Broken.step", lambda: Broken()(model, x, labels, BUDGET)),
        ("Vain.margin", lambda: advex.PGD()(model, x, Vain(labels), BUDGET)),
        ("the model", lambda: advex.PGD()(Model(), x, labels, BUDGET)),
        (
            "preprocess",
            lambda: advex.PGD()(advex.Classifier(model, preprocess=bad), x, labels, BUDGET),
        ),
    ]
    for name, call in cases:
        with pytest.raises(
            UserCodeError, match=f"^{name}.* failed with TypeError: .*no NumPy here"
        ) as caught:
            call()
        assert isinstance(caught.value.__cause__, TypeError)


@everywhere
@pytest.mark.parametrize("back", [False, True], ids=["array", "tensor"])
def test_a_preprocessing_in_numpy_is_named(back):
    def whitened(images):
        made = (ops.convert_to_numpy(images) if back else np.asarray(images)) * 2 - 1
        return ops.convert_to_tensor(made) if back else made

    with pytest.raises(advex.errors.AdvexError, match="preprocess"):
        advex.PGD()(
            advex.Classifier(linear_model(), preprocess=whitened), linear_data(6)[0], None, BUDGET
        )


@everywhere
def test_random_layers_as_transforms_are_said_to_be_random():
    x = np.random.default_rng(0).uniform(size=(6, 6, 6, 3)).astype("float32")
    noise = layers.GaussianNoise(0.05)
    attack = advex.AveragedGradient(
        advex.PGD(steps=2), lambda problem, x: noise(x, training=True), 2
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = attack(small_network(), x, None, BUDGET)
    assert any("draws random numbers of its own" in str(entry.message) for entry in caught)
    assert "problem.uniform" in said(result)
    own = advex.AveragedGradient(
        advex.PGD(steps=2), lambda problem, x: x * (0.9 + 0.2 * problem.uniform((1, 1, 1))), 2
    )
    assert "random" not in said(own(small_network(), x, None, BUDGET))
    with contextlib.suppress(ModelWarning):
        assert "random" not in said(
            advex.AveragedGradient(advex.PGD(steps=2), None, 2)(small_network(), x, None, BUDGET)
        )


def test_a_goal_with_only_a_reached_of_its_own_is_told_what_attacks_climb(embedded):
    model, x, labels = embedded

    @dataclass(frozen=True)
    class Certain(advex.Untargeted):
        def reached(self, logits, slack=1.0):
            return self.margin(logits) > 3

    attack = advex.PGD(steps=1)
    result = attack(model, x[:2], Certain(labels[:2]), advex.Linf(1 / 255))
    assert any(
        "reached() of its own and the margin() of Untargeted" in note
        for note in result.info["notes"]
    )
    for goal in (advex.Untargeted(labels[:2]), advex.Targeted((labels[:2] + 1) % 10)):
        assert not goal.notes
