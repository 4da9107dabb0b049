"""``advex.gradients`` and ``advex.function`` against central differences, and their errors."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import advex
from advex.errors import GradientUnavailable, InvalidInput, InvalidType

pytestmark = pytest.mark.backends


@pytest.fixture
def world():
    """A smooth network with a label-dependent loss, and some data."""
    keras.utils.set_random_seed(3)
    image = keras.Input((5, 5, 2), name="image")
    hidden = layers.Conv2D(4, 3, activation="tanh", name="conv")(image)
    dense = layers.Dense(3, name="dense")
    logits = dense(layers.Flatten()(hidden))
    label = keras.Input((), dtype="int32", name="label")
    loss = keras.losses.sparse_categorical_crossentropy(label, logits, from_logits=True)
    model = keras.Model(image, logits)
    generator = np.random.default_rng(0)
    x = generator.normal(size=(3, 5, 5, 2)).astype("float32")
    return {
        "model": model,
        "hidden": hidden,
        "dense": dense,
        "label": label,
        "loss": loss,
        "x": x,
        "y": np.array([0, 2, 1]),
    }


def slope(evaluate, point, direction, h):
    """Central difference of a scalar function along a direction."""
    return (evaluate(point + h * direction) - evaluate(point - h * direction)) / (2 * h)


def agrees(evaluate, point, gradient, h=2e-2):
    """Directional derivatives along the gradient and along random directions, relative error below
    1e-3.

    The gradient's own direction has the largest derivative, so its central difference has the
    smallest relative error; the random ones are compared on the same scale.
    """
    generator = np.random.default_rng(1)
    scale = np.linalg.norm(gradient)
    assert scale > 0
    along = [gradient / scale, *(generator.normal(size=(3, *gradient.shape)))]
    for direction in along:
        direction = (direction / np.linalg.norm(direction)).astype("float32")
        # Two step sizes, combined so that the error of second order cancels (Richardson).
        coarse, fine = (
            slope(evaluate, point, direction, 2 * h),
            slope(evaluate, point, direction, h),
        )
        numeric = (4 * fine - coarse) / 3
        assert abs(numeric - float(np.sum(gradient * direction))) < 1e-3 * scale


def total(values):
    return float(np.sum(values.astype("float64")))


def test_input_with_labels(world):
    (gradient,) = advex.gradients(world["loss"], world["model"].input)
    run = advex.function([world["model"].input, world["label"]], [world["loss"], gradient])
    value = run([world["x"], world["y"]])[1]
    assert value.shape == world["x"].shape
    agrees(lambda x: total(run([x, world["y"]])[0]), world["x"], value)


def test_inner_layer(world):
    (gradient,) = advex.gradients(world["loss"], world["hidden"])
    run = advex.function([world["model"].input, world["label"]], [world["hidden"], gradient])
    hidden, value = run([world["x"], world["y"]])
    rest = advex.function([world["hidden"], world["label"]], [world["loss"]])
    agrees(lambda h: total(rest([h, world["y"]])[0]), hidden, value)


def test_weight(world):
    kernel = world["dense"].kernel
    (gradient,) = advex.gradients(world["loss"], kernel)
    run = advex.function([world["model"].input, world["label"]], [world["loss"], gradient])
    start = np.array(keras.ops.convert_to_numpy(kernel.value))
    value = run([world["x"], world["y"]])[1]

    def evaluate(weights):
        kernel.assign(weights)
        return total(run([world["x"], world["y"]])[0])

    agrees(evaluate, start, value)


def test_second_order(world):
    """A gradient penalty: the gradient of the squared gradient, with respect to input and
    weight.
    """
    (inner,) = advex.gradients(world["loss"], world["model"].input)
    penalty = ops.sum(ops.square(inner), axis=(1, 2, 3))
    kernel = world["dense"].kernel
    by_input, by_weight = advex.gradients(penalty, [world["model"].input, kernel])
    run = advex.function([world["model"].input, world["label"]], [penalty, by_input, by_weight])
    _, value, weight_value = run([world["x"], world["y"]])
    agrees(lambda x: total(run([x, world["y"]])[0]), world["x"], value)
    start = np.array(keras.ops.convert_to_numpy(kernel.value))

    def evaluate(weights):
        kernel.assign(weights)
        return total(run([world["x"], world["y"]])[0])

    agrees(evaluate, start, weight_value)


def test_several_variables_that_depend_on_each_other(world):
    """Each gradient is total, as if it had been asked for alone."""
    wanted = [world["model"].input, world["hidden"], world["dense"].kernel]
    together = advex.gradients(world["loss"], wanted)
    alone = [advex.gradients(world["loss"], symbol)[0] for symbol in wanted]
    run = advex.function([world["model"].input, world["label"]], [*together, *alone])
    values = run([world["x"], world["y"]])
    for one, other in zip(values[:3], values[3:], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


def test_the_tutorial_line(world):
    """``model.output[0, k]`` as the cost, as thousands have typed it."""
    model = world["model"]
    cost = model.output[0, 2]
    run = advex.function([model.input], [cost, advex.gradients(cost, model.input)[0]])
    value, gradient = run([world["x"][:1]])
    assert value.shape == () and gradient.shape == (1, 5, 5, 2)
    agrees(lambda x: total(run([x])[0]), world["x"][:1], gradient)


def test_a_variable_the_loss_does_not_depend_on_is_named(world):
    other = keras.Input((4,), name="stranger")
    with pytest.raises(InvalidInput, match="stranger"):
        advex.gradients(world["loss"], [world["model"].input, other])
    lonely = keras.Variable(np.zeros(3, "float32"), name="lonely")
    with pytest.raises(InvalidInput, match="lonely"):
        advex.gradients(world["loss"], lonely)


def test_wrong_kinds(world):
    with pytest.raises(InvalidType, match="symbolic"):
        advex.gradients(np.zeros(3), world["model"].input)
    with pytest.raises(InvalidType, match=r"model\.input"):
        advex.gradients(world["loss"], np.zeros(3))
    with pytest.raises(InvalidInput, match="int32"):
        advex.gradients(ops.argmax(world["model"].output, axis=1), world["model"].input)
    with pytest.raises(InvalidType, match="'updates'"):
        advex.function([world["model"].input], [world["loss"]], update=[])


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="JAX differentiates rounding, as zero")
def test_no_gradient_on_the_way():
    x = keras.Input((2,))
    run = advex.function([x], advex.gradients(ops.cast(ops.cast(x, "int32"), "float32"), x))
    with pytest.raises(GradientUnavailable, match="differentiable"):
        run([np.ones((1, 2))])


def test_function_updates_use_old_values():
    x = keras.Input(())
    first, second = keras.Variable(1.0), keras.Variable(10.0)
    total_ = ops.sum(x)
    run = advex.function(
        [x],
        [first, total_ + first],
        updates=[(first, second), (second, first), (first, total_ + second)],
    )
    old, result = run(np.array([2.0, 3.0]))
    assert (old, result) == (1.0, 6.0)
    assert float(second.numpy()) == 1.0
    assert float(first.numpy()) == 15.0


def test_function_inputs(world):
    model = world["model"]
    run = advex.function(model.input, model.output)
    (alone,) = run(world["x"])
    (listed,) = run([world["x"]])
    np.testing.assert_array_equal(alone, listed)
    assert isinstance(alone, np.ndarray)
    with pytest.raises(InvalidInput, match="takes 1 arrays"):
        run([world["x"], world["x"]])
    with pytest.raises(InvalidInput, match="shape"):
        run([world["x"][0]])
    with pytest.raises(InvalidInput, match="label"):
        advex.function(model.input, world["loss"])


def test_function_runs_in_inference_mode():
    x = keras.Input((4,))
    y = layers.BatchNormalization()(layers.Dropout(0.9)(x))
    model = keras.Model(x, y)
    before = [w.copy() for w in model.get_weights()]
    run = advex.function([x], [y, *advex.gradients(y, x)])
    values = np.ones((5, 4), "float32")
    np.testing.assert_allclose(run([values])[0], run([values])[0])
    np.testing.assert_allclose(run([values])[0], 1.0, atol=1e-3)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_weights_are_not_frozen_into_the_function(world):
    model = world["model"]
    run = advex.function(model.input, [model.output, *advex.gradients(model.output, model.input)])
    run(world["x"])
    world["dense"].set_weights([w * 0 for w in world["dense"].get_weights()])
    value, gradient = run(world["x"])
    assert not value.any() and not gradient.any()


def test_grad_cam_through_a_nested_model(world):
    outer_in = keras.Input((5, 5, 2))
    outer = keras.Model(outer_in, layers.Softmax()(world["model"](outer_in)))
    (gradient,) = advex.gradients(outer.output[:, 1], outer.input)
    assert advex.function(outer.input, gradient)(world["x"])[0].shape == world["x"].shape
