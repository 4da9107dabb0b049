"""Recipes in messages about symbolic gradients and functions."""

import keras
import numpy as np
from keras import ops
from messages import executes, keywords, said, typed

import advex
from advex.errors import AdvexError

ONES = np.ones((2, 3), "float32")


def parts():
    """An input, a layer on it with a penalty, and the model of both."""
    x = keras.Input((3,))
    layer = keras.layers.Dense(2, kernel_regularizer="l2")
    return x, layer, keras.Model(x, layer(x))


@executes("already: write it with advex.symbol(weight)")
def test_a_loss_of_weights_alone():
    _, layer, _ = parts()
    weight = layer.kernel
    message = said(lambda: advex.gradients(ops.sum(weight**2), weight))
    loss = ops.sum(typed(message, r"with (advex.*)$", weight=weight) ** 2)
    (found,) = advex.function([], advex.gradients(loss, weight))([])
    assert np.allclose(found, 2 * weight.numpy(), atol=1e-6)


@executes("symbol() takes a keras.Variable, such as layer.kernel")
def test_what_can_be_a_symbol():
    _, layer, model = parts()
    message = said(lambda: advex.symbol(layer.kernel * 1))
    for pattern in (r"such as (layer\.kernel)", r"such as (lambda: .*?\));"):
        made = advex.symbol(typed(message, pattern, layer=layer, model=model))
        assert np.isfinite(np.asarray(advex.function([], [made])([])[0])).all()


@executes(
    "give it as a function, advex.symbol(lambda: sum(model.losses)), or make symbols of the"
    " variables, keras.ops.sum(advex.symbol(layer.kernel) ** 2)"
)
def test_arrays_that_were_variables():
    x, layer, model = parts()
    array = ops.sum(layer.kernel**2)
    loss = ops.sum(model.output) + array
    message = said(lambda: advex.gradients(loss, layer.kernel))
    names = {"model": model, "layer": layer, "array": array}
    for pattern in (
        r"advex\.symbol\(lambda.*?\)\)",
        r"keras\.ops\.sum\(adv.*?2\)",
        r"keras\.ops\.convert_to_numpy\(array\)",
    ):
        made = ops.sum(model.output) + typed(message, pattern, **names)
        assert np.isfinite(advex.function([x], advex.gradients(made, x))([ONES])[0]).all()


@executes('advex.gradients(loss, variables, unconnected="zero")')
def test_what_has_no_gradient():
    x, _, model = parts()
    lonely = keras.Variable(np.zeros(3, "float32"))
    rounded = ops.sum(ops.cast(ops.cast(x, "int32"), "float32"))

    def found(loss, variables):
        return advex.function([x], advex.gradients(loss, variables))([ONES])

    for loss, variables in ((ops.sum(model.output), lonely), (rounded, x)):
        message = said(lambda loss=loss, variables=variables: found(loss, variables))
        names = {"loss": loss, "variables": variables}
        (zeros,) = typed(message, r"advex\.gradients\(.*?\)", **names)
        assert not np.asarray(advex.function([x], [zeros])([ONES])[0]).any()
        none = keywords(message, r'unconnected="none"')
        assert advex.gradients(loss, variables, **none) == [None]


@executes("Write it as a function of the old value")
def test_new_values_that_are_arrays():
    x, variable = keras.Input(()), keras.Variable(0.0, name="count")
    message = said(lambda: advex.function([x], [x], updates=[(variable, variable + 1)]))
    for pattern in (r"\(variable, lambda old: old \+ 1\)", r"advex\.symbol\(variable\) \+ 1"):
        made = typed(message, pattern, variable=variable)
        made = made if isinstance(made, tuple) else (variable, made)
        before = float(variable.numpy())
        advex.function([x], [x], updates=[made])([np.ones(2)])
        assert float(variable.numpy()) == before + 1


@executes("optimizer must be a", "make one of its own for these")
def test_optimizers():
    x, layer, _ = parts()
    loss, weights = ops.sum(layer(x)), layer.trainable_weights
    message = said(lambda: advex.updates("adam", loss, weights))
    made = typed(message, r"such as (.*?);")
    advex.function([x], [loss], updates=advex.updates(made, loss, weights))([ONES])
    _, other, _ = parts()
    strange = ops.sum(other(x))
    message = said(lambda: advex.updates(made, strange, other.trainable_weights))
    again = typed(message, r"type\(optimizer\).*$", optimizer=made)
    assert advex.updates(again, strange, other.trainable_weights)


@executes("The learning phase is no longer an input")
def test_the_learning_phase():
    x, _, model = parts()
    message = said(lambda: advex.function([x, 1], [model.output]))
    names = {"inputs": [x], "outputs": [model.output]}
    for run in (
        typed(message, r"advex\.function\(.*?\)", **names),
        advex.function(*names.values(), **keywords(message, r"training=False")),
    ):
        assert run([ONES])[0].shape == (2, 2)


@executes("call it on an input, model(keras.Input(shape))")
def test_a_model_without_a_symbolic_output():
    model = keras.Sequential([keras.layers.Dense(2)])
    x = keras.Input((3,))
    message = said(lambda: advex.function([x], model))
    made = typed(message, r"model\(keras\.Input\(shape\)\)", model=model, shape=(3,))
    assert made.shape == (None, 2)
    assert advex.function([x], [model(x)])([ONES])[0].shape == (2, 2)


@executes("Begin it with a symbol")
def test_outputs_that_are_arrays():
    x, layer, model = parts()
    variable, array = layer.kernel, ONES
    message = said(lambda: advex.function([x], [ops.sum(variable**2)]), AdvexError)
    made = typed(message, r"(advex\.symbol\(variable\)) instead", variable=variable)
    assert np.isfinite(np.asarray(advex.function([x], [ops.sum(made**2)])([ONES])[0]))
    message = said(lambda: advex.function([model.input], [model(array)]))
    made = typed(message, r"(model\(model\.input\)) instead", model=model)
    assert advex.function([model.input], [made])([ONES])[0].shape == (2, 2)
