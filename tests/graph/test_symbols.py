"""What graphs of symbols must not do in silence: freeze a variable, draw twice, forget a state,
lose a weight.
"""

import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers, ops

import advex
from advex.errors import GradientUnavailable, InvalidInput, InvalidType, UserCodeError

pytestmark = pytest.mark.backends
BACKEND = keras.backend.backend()


@pytest.fixture(autouse=True)
def seeded():
    keras.utils.set_random_seed(0)


def values(thing):
    return np.array(ops.convert_to_numpy(thing))


def ones(*shape):
    return np.ones(shape, "float32")


# Draws, masks, states: one pass.


def test_everything_in_a_call_belongs_to_one_draw():
    x = keras.Input((40,))
    noise = layers.GaussianNoise(1.0)(x, training=True)
    loss = ops.sum(noise**2, axis=1)
    run = advex.function([x], [noise, loss, *advex.gradients(loss, [x, noise])])
    drawn, loss, by_input, by_noise = run([ones(2, 40)])
    np.testing.assert_allclose(loss, (drawn**2).sum(1), rtol=1e-5)
    np.testing.assert_allclose(by_input, 2 * drawn, rtol=1e-5)
    np.testing.assert_allclose(by_noise, 2 * drawn, rtol=1e-5)


def test_gradients_asked_for_apart_belong_to_one_draw():
    x = keras.Input((40,))
    dense = layers.Dense(3)
    hidden = layers.Dropout(0.5)(x, training=True)
    first, second = ops.sum(hidden**2), ops.sum(dense(hidden))
    asked = [
        hidden,
        *advex.gradients(first, x),
        *advex.gradients(second, dense.kernel),
        *advex.gradients(second, x),
    ]
    drawn, by_input, by_kernel, other = advex.function([x], asked)([ones(2, 40)])
    np.testing.assert_allclose(by_input, 2 * drawn * (drawn > 0) * 2, rtol=1e-5)
    np.testing.assert_allclose(by_kernel, np.repeat(drawn.sum(0)[:, None], 3, 1), rtol=1e-5)
    np.testing.assert_allclose(
        other, 2 * (drawn > 0) * values(dense.kernel).sum(1), rtol=1e-4, atol=1e-6
    )


def test_a_gradient_alone_draws_anew_each_time():
    x = keras.Input((40,))
    run = advex.function([x], advex.gradients(layers.Dropout(0.5)(x, training=True), x))
    assert len({run([ones(1, 40)])[0].tobytes() for _ in range(8)}) == 8


@pytest.mark.parametrize("with_gradient", [False, True], ids=["forward", "gradient"])
def test_states_are_kept_as_the_model_keeps_them(with_gradient):
    data = np.random.default_rng(0).normal(size=(6, 3)).astype("float32") + 5

    def network():
        keras.utils.set_random_seed(1)
        x = keras.Input((3,))
        return keras.Model(x, layers.Dense(2)(layers.BatchNormalization()(x)))

    by_keras, ours = network(), network()
    asked = advex.gradients(ours.output, ours.input) if with_gradient else [ours.output]
    run = advex.function(ours.input, asked, training=True)
    for _ in range(2):
        by_keras(data, training=True)
        run([data])
    for one, other in zip(by_keras.get_weights(), ours.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_a_recurrent_state_goes_on():
    x = keras.Input(batch_shape=(1, 2, 3))
    layer = layers.LSTM(4, stateful=True)
    y = layer(x)
    run = advex.function([x], [y, *advex.gradients(y, [x, layer.cell.kernel])])
    data = ones(1, 2, 3)
    first, second = run([data])[0], run([data])[0]
    layer.reset_states()
    by_keras = keras.Model(x, y)
    np.testing.assert_allclose(first, values(by_keras(data)), rtol=1e-5)
    np.testing.assert_allclose(second, values(by_keras(data)), rtol=1e-5)
    assert not np.allclose(first, second)


def test_a_mask_stays_where_it_is():
    ids = np.array([[3, 5, 2, 0, 0, 0], [1, 4, 6, 7, 0, 0]], "int32")
    tokens = keras.Input((6,), dtype="int32")
    table = layers.Embedding(20, 8, mask_zero=True)
    embedded = table(tokens)
    mixed = layers.MultiHeadAttention(2, 4)(embedded, embedded)
    y = layers.Dense(2)(layers.GlobalAveragePooling1D()(mixed))
    by_output, by_table = advex.gradients(y[:, 0], [embedded, table.embeddings])
    alone = advex.function([tokens], [by_output])([ids])[0]
    out, together, reference = advex.function([tokens], [y, by_output, by_table])([ids])
    summed = np.zeros_like(reference)
    np.add.at(summed, ids, together)
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(summed, reference, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(out, values(keras.Model(tokens, y)(ids)), rtol=1e-5)


@pytest.mark.parametrize(
    "layer",
    [layers.Dropout(0.5), layers.Identity(), layers.ActivityRegularization(l2=0.1)],
    ids=lambda layer: layer.name,
)
def test_layers_that_hand_their_input_on(layer):
    """The tensor before and the tensor behind are one object on some backends, but not one
    symbol.
    """
    x = keras.Input((3,))
    before = ops.multiply(x, 2)
    behind = layer(before)
    loss = before * 5 + behind * 3
    run = advex.function([x], advex.gradients(loss, [before, behind, x]))
    assert [found[0, 0] for found in run([ones(1, 3)])] == [8, 3, 16]


# Inference or training.


def test_the_mode_is_chosen_once_and_what_a_layer_was_told_comes_first():
    x = keras.Input((30,))
    plain, wild = layers.Dropout(0.5)(x), layers.Dropout(0.5)(x, training=True)
    tamed = keras.Sequential([keras.Input((30,)), layers.Dropout(0.5)])(x, training=False)
    for training, zeros in ((False, [False, True, False]), (True, [True, True, False])):
        found = advex.function([x], [plain, wild, tamed], training=training)([ones(1, 30)])
        assert [bool((value == 0).any()) for value in found] == zeros


def test_the_old_learning_phase_is_explained():
    x = keras.Input((3,))
    for phase in (0, True, np.bool_(False), np.array(0), ops.convert_to_tensor(0)):
        with pytest.raises(InvalidType, match=r"training=True"):
            advex.function([x, phase], [x * 2])
    with pytest.raises(InvalidType, match="training"):
        advex.function([x], [x * 2], training=1)


# Arrays that were variables.


def penalties():
    dense = layers.Dense(3, kernel_regularizer="l2")
    scale = keras.Variable(0.0)
    return dense, {
        "summed": lambda y: ops.sum(y) + 0.5 * ops.sum(ops.square(dense.kernel)),
        "model.losses": lambda y: ops.sum(y) + sum(dense.losses),
        "learned scale of 1": lambda y: ops.sum(y) * ops.convert_to_tensor(ops.exp(-scale.value)),
        "tied weights": lambda y: ops.sum(
            ops.matmul(y, ops.transpose(ops.multiply(dense.kernel, 1.0)))
        ),
        "weights of ones": lambda y: (
            ops.sum(y) + 0.5 * ops.sum(ops.square(ops.ones(3) + dense.bias))
        ),
        "masked weights": lambda y: ops.sum(
            ops.matmul(y, ops.ones((3, 5))) * ops.sum(dense.kernel * 2)
        ),
    }


@pytest.mark.parametrize("name", list(penalties()[1]))
def test_an_array_that_was_a_variable_is_refused(name):
    dense, made = penalties()
    x = keras.Input((5,))
    loss = made[name](dense(x))
    with pytest.raises(InvalidInput, match=r"advex\.symbol\(lambda: sum"):
        advex.gradients(loss, dense.kernel)
    with pytest.raises(InvalidInput, match="convert_to_numpy"):
        advex.function([x], [loss])


def test_what_the_refusal_says_works():
    dense, _ = penalties()
    x = keras.Input((5,))
    model = keras.Model(x, dense(x))
    loss = (
        ops.sum(model.output)
        + advex.symbol(lambda: sum(model.losses))
        + ops.sum(advex.symbol(dense.kernel) ** 2)
    )
    run = advex.function([x], advex.gradients(loss, dense.kernel))
    for factor in (1, 3):
        dense.kernel.assign(factor * dense.kernel)
        np.testing.assert_allclose(
            run([ones(2, 5)])[0], 2 + (2 * 0.01 + 2) * values(dense.kernel), rtol=1e-5
        )
    busy = keras.Model(x, layers.Dense(2, kernel_regularizer="l1", activity_regularizer="l2")(x))
    run = advex.function([x], [ops.sum(busy.output) + advex.symbol(lambda: sum(busy.losses))])
    np.testing.assert_allclose(
        run([ones(2, 5)])[0], values(ops.sum(busy(ones(2, 5))) + sum(busy.losses)), rtol=1e-5
    )
    penalty = advex.symbol(lambda: 0.5 * ops.sum(dense.kernel**2))
    np.testing.assert_allclose(
        advex.function([], advex.gradients(penalty, dense.kernel))()[0],
        values(dense.kernel),
        rtol=1e-6,
    )
    with pytest.raises(UserCodeError, match="symbol"):
        advex.symbol(lambda: dense.nonsense)


def test_constants_are_let_through():
    x = keras.Input((4, 4, 3))
    features = layers.Conv2D(2, 3)(x)
    target = keras.Model(x, features)(0.5 * ones(1, 4, 4, 3))
    label = keras.Input((2,))
    made = {
        "a target of style": ops.mean((features - target) ** 2),
        "preprocessing": ops.sum(keras.applications.vgg16.preprocess_input(x) ** 2),
        "a logarithm": ops.sum(features) * ops.log(2 * np.pi),
        "a number": ops.sum(features) * ops.convert_to_tensor(0.37),
        "one-hot": ops.sum(features * ops.one_hot(1, 2)),
        "steps": ops.sum(features * ops.arange(2, dtype="float32")),
        "NumPy": ops.sum(features * np.random.default_rng(0).normal(size=2)),
        "hinge": keras.losses.categorical_hinge(label, 0.1 * features[:, 0, 0]),
        "cross-entropy": keras.losses.binary_crossentropy(
            label, ops.sigmoid(features[:, 0, 0]), label_smoothing=0.1
        ),
    }
    if BACKEND != "jax":  # where Keras' own fails on symbols
        made["huber"] = keras.losses.huber(label, features[:, 0, 0])
    for name, loss in made.items():
        if BACKEND == "jax" and name != "a target of style":  # each would be compiled
            assert advex.gradients(loss, x)
            continue
        found = advex.function([x, label], advex.gradients(loss, x))(
            [ones(1, 4, 4, 3), ones(1, 2)]
        )[0]
        assert np.isfinite(found).all() and found.any(), name


def test_outputs_and_losses_that_are_arrays_already():
    x, dense = keras.Input((3,)), layers.Dense(2)
    y = dense(x)
    with pytest.raises(InvalidType, match=r"advex\.symbol"):
        advex.gradients(ops.sum(dense.kernel**2), dense.kernel)
    with pytest.raises(InvalidType, match=r"advex\.symbol"):
        advex.function([x], [y, ops.sum(dense.kernel**2)])


# Updates.


def test_updates_follow_the_variable():
    x = keras.Input(())
    count, average, source, target = (
        keras.Variable(start) for start in (0.0, 0.0, 2.0, [0.0, 0.0])
    )
    drawn, seeds = keras.Variable(0.0), keras.random.SeedGenerator(1)
    run = advex.function(
        [x],
        [count],
        updates=[
            (count, lambda old: old + 1),
            (average, lambda old: 0.9 * old + 0.1 * ops.mean(x)),
            (target, lambda old: 0.1 * source + 0.9 * old),
            (drawn, lambda old: old + keras.random.uniform((), seed=seeds)),
        ],
    )
    seen = []
    for number in range(1, 6):
        assert run([np.full(3, number)])[0] == number - 1
        seen.append(float(values(drawn)))
    assert float(values(count)) == 5
    np.testing.assert_allclose(values(average), 1.31441, rtol=1e-5)
    np.testing.assert_allclose(values(target), 2 * (1 - 0.9**5) * np.ones(2), rtol=1e-5)
    assert len(set(np.diff(seen))) == 4


def test_updates_by_symbols_and_constants():
    x, dense = keras.Input((3,)), layers.Dense(1, use_bias=False)
    loss = ops.mean(dense(x) ** 2)
    (slope,) = advex.gradients(loss, dense.kernel)
    old = values(dense.kernel)
    reset, kept = keras.Variable([1.0, 2.0]), keras.Variable(7.0)
    updates = [
        (dense.kernel, advex.symbol(dense.kernel) - 0.1 * slope),
        (reset, 0),
        (kept, np.float32(3)),
    ]
    found, before = advex.function([x], [slope, dense.kernel], updates=updates)([ones(2, 3)])
    np.testing.assert_array_equal(before, old)
    np.testing.assert_allclose(values(dense.kernel), old - 0.1 * found, rtol=1e-6)
    assert values(reset).tolist() == [0, 0] and values(kept) == 3


def test_updates_that_cannot_work_are_named():
    x, count = keras.Input(()), keras.Variable(0.0, name="count")
    with pytest.raises(InvalidType, match=r"lambda old: old \+ 1"):
        advex.function([x], [x], updates=[(count, count + 1)])
    with pytest.raises(InvalidInput, match=r"has the shape \(3,\)"):
        advex.function([x], [x], updates=[(count, np.ones(3))])
    with pytest.raises(InvalidType, match="pairs"):
        advex.function([x], [x], updates=[count])
    run = advex.function([x], [x], updates=[(count, lambda old: old.nonsense())])
    with pytest.raises(UserCodeError, match="'count'"):
        run([ones(2)])


@pytest.mark.parametrize(
    "optimizer",
    [
        keras.optimizers.SGD(0.1, momentum=0.9),
        keras.optimizers.Adam(
            keras.optimizers.schedules.ExponentialDecay(0.05, 2, 0.5),
            clipnorm=0.5,
            weight_decay=0.01,
        ),
        keras.optimizers.RMSprop(0.01, use_ema=True, ema_overwrite_frequency=2),
        keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), dynamic_growth_steps=1),
    ],
    ids=lambda optimizer: optimizer.name,
)
def test_a_training_step_is_what_fit_does(optimizer):
    data = np.random.default_rng(0)
    x, y = data.normal(size=(8, 3)).astype("float32"), data.normal(size=(8, 2)).astype("float32")

    def network():
        keras.utils.set_random_seed(1)
        return keras.Sequential(
            [
                keras.Input((3,)),
                layers.Dense(4, "tanh"),
                layers.BatchNormalization(),
                layers.Dense(2),
            ]
        )

    def fresh():
        return keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(optimizer))

    by_fit, ours = network(), network()
    by_fit.compile(fresh(), "mse")
    for _ in range(4):
        by_fit.train_on_batch(x, y)
    label = keras.Input((2,))
    loss = ops.mean((ours.outputs[0] - label) ** 2)
    step = advex.updates(fresh(), loss, ours.trainable_weights)
    run = advex.function([*ours.inputs, label], [loss], updates=step, training=True)
    losses = [float(run([x, y])[0]) for _ in range(4)]
    for one, other in zip(by_fit.get_weights(), ours.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    assert losses[-1] < losses[0]


def test_optimizers_that_cannot_work_are_named():
    x, dense, other = keras.Input((3,)), layers.Dense(1), layers.Dense(1)
    loss, strange = ops.sum(dense(x)), ops.sum(other(x))
    with pytest.raises(InvalidType, match="Optimizer"):
        advex.updates("adam", loss, dense.trainable_weights)
    optimizer = keras.optimizers.SGD()
    advex.updates(optimizer, loss, dense.trainable_weights)
    with pytest.raises(InvalidInput, match="other variables"):
        advex.updates(optimizer, strange, other.trainable_weights)


# Weights that the loss does not reach.


def penalty():
    critic = keras.Sequential([keras.Input((5,)), layers.Dense(4, "tanh"), layers.Dense(1)])
    x = keras.Input((5,))
    (slope,) = advex.gradients(critic(x), x)
    return critic, x, ops.mean(ops.sum(slope**2, axis=1))


def test_a_weight_that_drops_out():
    critic, x, loss = penalty()
    weights = critic.trainable_weights
    run = advex.function([x], advex.gradients(loss, weights))
    with pytest.raises(GradientUnavailable, match=r"bias.*unconnected=\"zero\""):
        run([ones(2, 5)])
    zero = advex.function([x], advex.gradients(loss, weights, unconnected="zero"))([ones(2, 5)])
    assert [bool(found.any()) for found in zero] == [True, True, True, False]
    none = advex.gradients(loss, weights, unconnected="none")
    assert [found is None for found in none] == [False, False, False, True]
    returned = advex.function([x], none)([ones(2, 5)])
    assert returned[3] is None
    for one, other in zip(zero[:3], returned[:3], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


FLAT = {
    "round": ops.round,
    "floor": ops.floor,
    "sign": ops.sign,
    "stop_gradient": ops.stop_gradient,
    "cast": lambda x: ops.cast(ops.cast(x, "int32"), "float32"),
    "argmax": lambda x: ops.cast(ops.argmax(x, axis=1), "float32"),
    "comparison": lambda x: ops.cast(x > 0, "float32"),
}


@pytest.mark.parametrize("name", list(FLAT))
def test_no_derivative_is_no_derivative_on_every_backend(name):
    x = keras.Input((2,))
    loss = FLAT[name](x * 2)
    with pytest.raises(GradientUnavailable, match="rounding"):
        advex.function([x], advex.gradients(loss, x))([ones(1, 2)])
    assert advex.gradients(loss, x, unconnected="none") == [None]
    assert not advex.function([x], advex.gradients(loss, x, unconnected="zero"))([ones(1, 2)])[
        0
    ].any()
    assert advex.function([x], advex.gradients(loss + x, x))([ones(1, 2)])[0].all()


def test_strangers():
    x, other, lonely = (
        keras.Input((2,)),
        keras.Input((4,), name="stranger"),
        keras.Variable([1.0, 2.0], name="lonely"),
    )
    for thing, name in ((other, "stranger"), (lonely, "lonely")):
        with pytest.raises(InvalidInput, match=name):
            advex.gradients(x * 2, [x, thing])
        assert advex.gradients(x * 2, [x, thing], unconnected="none")[1] is None
    found = advex.function([x, other], advex.gradients(x * 2, [lonely, other], unconnected="zero"))(
        [ones(1, 2), ones(1, 4)]
    )
    assert [value.tolist() for value in found] == [[0, 0], [[0, 0, 0, 0]]]
    with pytest.raises(InvalidInput, match="unconnected"):
        advex.gradients(x * 2, x, unconnected="None")


def test_a_variable_in_a_closure():
    factor = keras.Variable(2.0)
    x = keras.Input((3,))
    y = layers.Lambda(lambda x: x * factor)(x)
    run = advex.function([x], [y, *advex.gradients(y, factor)])
    assert run([ones(2, 3)])[1] == 6
    factor.assign(5.0)
    assert run([ones(2, 3)])[0][0, 0] == 5


# Structures, and tensors inside of other models.


def test_any_structure():
    a, b = keras.Input((3,), name="a"), keras.Input((3,), name="b")
    several = keras.Model([a, b], [a * b, a + b])
    named = keras.Model({"a": a, "b": b}, {"product": a * b, "sum": a + b})
    two, three = 2 * ones(1, 3), 3 * ones(1, 3)
    (slope,) = advex.function(
        [several.inputs], advex.gradients(several.outputs, several.inputs[0])
    )([[two, three]])
    assert slope[0, 0] == 4
    found = advex.function(several, several)([two, three])
    assert [value[0, 0] for value in found] == [6, 5]
    found = advex.function(named, named)({"b": three, "a": two})
    assert {key: value[0, 0] for key, value in found.items()} == {"product": 6, "sum": 5}
    found = advex.function(several.inputs, {"first": [several.outputs[0]], "rest": None})(
        {"a": two, "b": three}
    )
    assert found["rest"] is None and found["first"][0][0, 0] == 6
    turned = advex.function([a, b], {"b": a * 2, "a": [b * 2, a]})([two, three])
    assert (turned["b"][0, 0], turned["a"][0][0, 0], turned["a"][1][0, 0]) == (4, 6, 2)
    turned = advex.gradients(a * b, {"z": a, "b": b})
    assert [advex.function([a, b], turned)([two, three])[key][0, 0] for key in "zb"] == [3, 2]
    slopes = advex.gradients(a * b, named.input)
    assert sorted(slopes) == ["a", "b"]
    assert advex.function([a, b], [slopes])([two, three])[0]["a"][0, 0] == 3
    with pytest.raises(InvalidInput, match="'b'"):
        advex.function(named.input, several.outputs)({"a": two})
    with pytest.raises(InvalidInput, match="received none for 'b'"):
        advex.function(several.inputs, several.outputs)({"a": two})


def test_tensors_of_the_backend_are_taken_as_they_are():
    x = keras.Input((3,))
    assert advex.function([x], [x * 2])([ops.ones((1, 3))])[0].tolist() == [[2, 2, 2]]
    assert advex.function([x], [x * 2])(ops.ones((1, 3), "int32"))[0].tolist() == [[2, 2, 2]]


def backbone():
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(4, 3, name="conv"),
            layers.Dropout(0.5),
            layers.ReLU(),
        ],
        name="backbone",
    )


@pytest.mark.parametrize("deep", [False, True], ids=["nested", "nested twice"])
def test_a_layer_inside_a_nested_model(deep):
    inside = backbone()
    outer = keras.Sequential([keras.Input((8, 8, 3)), inside], name="outer") if deep else inside
    x = keras.Input((8, 8, 3))
    head = layers.Dense(2)
    y = head(layers.Flatten()(outer(layers.Rescaling(0.5)(x))))
    conv = inside.get_layer("conv")
    data = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
    features, slope, out = advex.function(
        [x], [conv.output, *advex.gradients(y[:, 0], conv.output), y]
    )([data])
    reference = values(conv(0.5 * data))
    np.testing.assert_allclose(features, reference, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        advex.function([x], [conv.output])([data])[0], reference, rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(
        slope.reshape(2, -1), values(head.kernel)[:, 0] * (reference > 0).reshape(2, -1), rtol=1e-4
    )
    np.testing.assert_allclose(out, values(keras.Model(x, y)(data)), rtol=1e-4, atol=1e-5)


def test_a_model_that_is_called_twice_has_no_one_value_inside():
    inside = backbone()
    one, other = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    y = ops.sum(inside(one)) + ops.sum(inside(other))
    with pytest.raises(InvalidInput, match="more than once"):
        advex.gradients(y, inside.get_layer("conv").output)


def test_a_sequential_model_that_grew():
    model = keras.Sequential()
    model.add(keras.Input((3,)))
    for width in (4, 5, 2):
        model.add(layers.Dense(width, "tanh"))
    first = model.layers[0]
    run = advex.function(
        model.layers[0].input, [*advex.gradients(model, [first.output, first.input])]
    )
    hidden, by_input = run([ones(2, 3)])
    assert hidden.shape == (2, 4) and by_input.shape == (2, 3)


def test_a_twin_is_no_relative():
    """The same layer on another input is not what was asked for."""
    one, other, shared = keras.Input((3,)), keras.Input((3,)), layers.Dense(2)
    wanted, used = shared(one), shared(other)
    with pytest.raises(InvalidInput, match="another input"):
        advex.gradients(used, wanted)


# Models that contain gradients.


def with_gradients():
    x = keras.Input((5,))
    hidden = layers.Dense(4, "tanh")(x)
    y = layers.Dense(1)(hidden)
    by_input, by_hidden, by_kernel = advex.gradients(
        y, [x, hidden, y._keras_history.operation.kernel]
    )
    return keras.Model(x, [y, by_input, by_hidden, by_kernel])


def demand_gradients(model, x):
    one, bias, two = model.get_weights()[:3]
    hidden = np.tanh(x @ one + bias)
    _, by_input, by_hidden, by_kernel = map(values, model(x))
    np.testing.assert_allclose(
        by_input, ((1 - hidden**2) * two[:, 0]) @ one.T, rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(by_hidden, np.repeat(two.T, len(x), 0), rtol=1e-5)
    np.testing.assert_allclose(by_kernel, hidden.sum(0)[:, None], rtol=1e-4, atol=1e-6)


def test_save_load_clone(tmp_path):
    model = with_gradients()
    x = np.random.default_rng(0).normal(size=(3, 5)).astype("float32")
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for one, other in zip(model(x), loaded(x), strict=True):
        np.testing.assert_allclose(values(one), values(other), rtol=1e-6)
    for other in (model, loaded, keras.models.clone_model(model)):
        assert len(other.weights) == 4
        other.set_weights([2 * weight + 0.1 for weight in model.get_weights()])
        demand_gradients(other, x)
        model.set_weights([0.3 * weight for weight in model.get_weights()])


def test_what_cannot_be_saved_says_so(tmp_path):
    inside, x = backbone(), keras.Input((8, 8, 3))
    y = ops.sum(inside(x), axis=(1, 2, 3))
    model = keras.Model(x, advex.gradients(y, inside.get_layer("conv").output))
    assert model(ones(1, 8, 8, 3)).shape == (1, 6, 6, 4)
    with pytest.raises(InvalidInput, match="cannot be saved"):
        model.save(tmp_path / "model.keras")


def test_a_penalty_trains_inside_fit():
    critic, x, loss = penalty()
    model = keras.Model(x, ops.reshape(loss, (1, 1)) + 0 * critic(x))
    assert len(model.trainable_weights) == 4
    model.compile("sgd", loss=lambda true, found: ops.mean(found))
    data = np.random.default_rng(0).normal(size=(32, 5)).astype("float32")
    before = float(advex.function(x, loss)(data)[0])
    model.fit(data, np.zeros((32, 1)), epochs=3, verbose=0)
    assert float(advex.function(x, loss)(data)[0]) < 0.99 * before


def test_batch_statistics_move_once_in_a_model():
    x = keras.Input((3,))
    norm = layers.BatchNormalization(momentum=0.5)
    y = norm(x, training=True)
    model = keras.Model(x, [y, *advex.gradients(y**2, x)])
    model(4 * ones(6, 3), training=True)
    np.testing.assert_allclose(values(norm.moving_mean), 2.0, rtol=1e-5)


# Numbers.


@pytest.fixture
def policy():
    before, precision = keras.config.dtype_policy(), keras.config.floatx()
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy(before)
    keras.config.set_floatx(precision)


def test_mixed_precision(policy):
    policy("mixed_float16" if BACKEND != "torch" else "mixed_bfloat16")
    x = keras.Input((8,))
    dense = layers.Dense(16, "tanh")
    hidden = dense(x)
    y = layers.Dense(1, dtype="float32")(hidden)
    slopes = advex.gradients(y, [dense.kernel, hidden, x])
    promised = [slope.dtype for slope in slopes]
    assert promised == ["float32", hidden.dtype, x.dtype]
    data = np.random.default_rng(0).normal(size=(4, 8)).astype("float32")
    inside = [
        keras.backend.standardize_dtype(found.dtype) for found in keras.Model(x, slopes)(data)
    ]
    assert inside == promised
    assert [str(found.dtype) for found in advex.function([x], slopes)([data])] == promised


@pytest.mark.skipif(BACKEND == "jax", reason="float64 has to be switched on before JAX starts")
def test_float64(policy):
    keras.config.set_floatx("float64")
    policy("float64")
    x = keras.Input((3,))
    dense = layers.Dense(2, "tanh")
    y = dense(x)
    run = advex.function([x], [ops.sum(y), *advex.gradients(y, x)])
    point, kernel = np.random.default_rng(0).normal(size=(2, 3)), values(dense.kernel)
    _, slope = run([point])
    assert slope.dtype == "float64"
    np.testing.assert_allclose(slope, (1 - np.tanh(point @ kernel) ** 2) @ kernel.T, rtol=1e-6)


def test_jacobian_and_hessian():
    x = keras.Input((3,))
    dense = layers.Dense(2)
    y = dense(x**2)
    rows, by_kernel = advex.jacobian(y, [x, dense.kernel])
    (slope,) = advex.gradients(y[:, 0], x)
    direction = keras.Input((3,))
    (product,) = advex.gradients(ops.sum(slope * direction, axis=1), x)
    data, along = np.random.default_rng(0).normal(size=(2, 4, 3)).astype("float32")
    found, weights, hessian = advex.function([x, direction], [rows, by_kernel, product])(
        [data, along]
    )
    kernel = values(dense.kernel)
    np.testing.assert_allclose(found, kernel.T * 2 * data[:, None], rtol=1e-5)
    np.testing.assert_allclose(hessian, 2 * kernel[:, 0] * along, rtol=1e-5)
    np.testing.assert_allclose(
        weights, (data**2).sum(0)[None, :, None] * np.eye(2)[:, None], rtol=1e-5
    )
    with pytest.raises(InvalidInput, match=r"\(batch, k\)"):
        advex.jacobian(ops.sum(y, axis=1), x)


def test_nothing_grows_and_nothing_is_traced_anew():
    calls = []

    class Counting(layers.Layer):
        def call(self, x):
            calls.append(None)
            return x * 1

    x = keras.Input((4,))
    y = layers.Dense(3)(Counting()(x))
    run = advex.function([x], [y, *advex.gradients(y, x)])
    sizes = (1, 7, 32, 33, 128)
    for size in sizes:
        run([ones(size, 4)])
    calls.clear()
    for number in range(100):
        run([ones(sizes[number % 5], 4)])
    assert len(calls) == (100 if BACKEND == "torch" else 0)


DEVICES = {
    "tensorflow": """
import tensorflow as tf
processor = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * 2)
import subprocess
import sys

import keras
scope = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope()
""",
    "jax": """
import contextlib, os
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
import subprocess
import sys

import keras
devices = keras.distribution.list_devices("cpu")
keras.distribution.set_distribution(keras.distribution.DataParallel(devices=devices, auto_shard_dataset=False))
scope = contextlib.nullcontext()
""",  # noqa: E501
}
STEPS = """
import numpy as np
from keras import layers, ops
import advex
data = np.random.default_rng(0).normal(size=(4, 3)).astype("float32"), np.ones((4, 2), "float32")
def network():
    keras.utils.set_random_seed(0)
    x = keras.Input((3,))
    return keras.Model(x, layers.Dense(2)(layers.BatchNormalization()(x)))
with scope:
    model, label = network(), keras.Input((2,))
    loss = ops.mean((model.output - label) ** 2)
    step = advex.updates(keras.optimizers.Adam(0.1), loss, model.trainable_weights)
    slopes = advex.gradients(loss, model.trainable_weights[2:])
    run = advex.function([model.input, label], [loss, *slopes], updates=step, training=True)
    losses = [float(run(data)[0]) for _ in range(3)]
    ours = model.get_weights()
other = network()
other.compile(keras.optimizers.Adam(0.1), "mse")
np.testing.assert_allclose(losses, [float(other.train_on_batch(*data)) for _ in range(3)], rtol=1e-5)
for one, two in zip(ours, other.get_weights()):
    np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)
"""  # noqa: E501


@pytest.mark.skipif(BACKEND == "torch", reason="Keras has no distribution on torch")
def test_on_two_devices():
    script = DEVICES[BACKEND] + STEPS
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
