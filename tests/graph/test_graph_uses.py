"""What people did with ``K.gradients`` and ``K.function``: against each framework's own
derivatives, and central differences.

A use returns what advex gives and what is right. ``hand`` is ``by_hand.gradients``, or
``by_hand.central``.
"""

import os

import by_hand
import keras
import numpy as np
import pytest
from keras import layers, ops, tree

import advex

pytestmark = pytest.mark.backends

USES, SMOOTH, MIXED = [], [], []


def use(function):
    USES.append(function)
    return function


def smooth(function):
    """Small and smooth enough for central differences, too."""
    SMOOTH.append(function)
    return use(function)


def mixed(function):
    MIXED.append(function)
    return function


def data(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(keras.config.floatx())


def stirred(model, seed=5):
    """No weight is zero or one, as many are at first."""
    for number, weight in enumerate(model.trainable_variables):
        weight.assign(by_hand.array(weight) + 0.2 * data(*weight.shape, seed=seed + number))
    return model


def chain(shape, *steps, **settings):
    inputs = outputs = keras.Input(shape)
    for step in steps:
        outputs = step(outputs)
    return stirred(keras.Model(inputs, outputs, **settings))


def perceptron(inputs=4, outputs=3, units=5, **settings):
    return chain((inputs,), layers.Dense(units, "tanh"), layers.Dense(outputs), **settings)


def convolutional(size=6):
    """Two convolutions and a classifier on top."""
    stem = layers.Conv2D(3, 3, activation="tanh", name="conv")
    head = [
        layers.Conv2D(2, 2, activation="tanh", name="last"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(3),
    ]
    return chain((size, size, 2), stem, *head)


def parts(model):
    """Its layers behind the input."""
    return model.layers[1:]


def tensor(values):
    """torch multiplies no array with a tensor that has a gradient."""
    return ops.convert_to_tensor(values)


def norms(slope):
    """Of each example's gradient."""
    return ops.sqrt(ops.sum(ops.square(slope), axis=1))


def squares(tensor):
    return ops.mean(ops.square(tensor))


def alone(symbols, outputs, values, **settings):
    return advex.function(symbols, outputs, **settings)(values)


# Looking into a network


@smooth
def saliency(hand):
    model, x = perceptron(), data(2, 4)
    (slope,) = advex.gradients(model.output[:, 1], model.input)
    return alone([model.input], [slope], [x]), hand(lambda x: model(x)[:, 1], [x])


@use
def saliency_map(hand):
    """The largest absolute value over the channels, of the class that wins."""
    model, x = convolutional(), data(2, 6, 6, 2)
    (slope,) = advex.gradients(ops.max(model.output, axis=1), model.input)
    found = alone([model.input], [ops.max(ops.abs(slope), axis=-1)], [x])
    (want,) = hand(lambda x: ops.max(model(x), axis=1), [x])
    return found, [np.abs(want).max(-1)]


@smooth
def grad_cam(hand):
    model, x = convolutional(5), data(2, 5, 5, 2)
    conv = model.get_layer("conv")
    (slope,) = advex.gradients(model.output[:, 2], conv.output)
    cam = ops.relu(ops.sum(conv.output * ops.mean(slope, axis=(1, 2), keepdims=True), axis=-1))
    maps = by_hand.array(conv(x))
    (want,) = hand(lambda maps: keras.Sequential(parts(model)[1:])(maps)[:, 2], [maps])
    heat = np.maximum((maps * want.mean((1, 2), keepdims=True)).sum(-1), 0).astype(x.dtype)
    return alone([model.input], [cam, slope, conv.output], [x]), [heat, want, maps]


@use
def grad_cam_of_a_fine_tuned_model(hand):
    """The convolution is inside of a model that is used as a layer."""
    backbone = keras.Sequential(
        [keras.Input((6, 6, 2)), layers.Conv2D(3, 3, name="conv"), layers.ReLU()], name="backbone"
    )
    image = keras.Input((6, 6, 2))
    scaled, dense = layers.Rescaling(0.5), layers.Dense(2)
    model = stirred(keras.Model(image, dense(layers.Flatten()(backbone(scaled(image))))))
    conv, x = backbone.get_layer("conv"), data(2, 6, 6, 2)
    found = alone(
        [image], [*advex.gradients(model.output[:, 0], [conv.output, image]), conv.output], [x]
    )
    maps = by_hand.array(conv(0.5 * x))
    (slope,) = hand(lambda maps: dense(ops.reshape(ops.relu(maps), (2, -1)))[:, 0], [maps])
    (by_image,) = hand(lambda x: model(x)[:, 0], [x])
    return found, [slope, by_image, maps]


@use
def a_layer_two_models_deep(hand):
    inner = keras.Sequential(
        [keras.Input((4,)), layers.Dense(4, "tanh", name="deep"), layers.Dense(3, "tanh")],
        name="inner",
    )
    middle = keras.Sequential([keras.Input((4,)), layers.Dense(4, "tanh"), inner], name="middle")
    model = stirred(keras.Sequential([keras.Input((4,)), middle, layers.Dense(2)]))
    deep, x = inner.layers[0], data(2, 4)
    found = alone(
        model.inputs, advex.gradients(model.outputs[0][:, 1], [deep.output, deep.kernel]), [x]
    )
    start = by_hand.array(deep(middle.layers[0](x)))
    (by_output,) = hand(lambda h: model.layers[1](inner.layers[1](h))[:, 1], [start])
    return found, [by_output, *hand(lambda: model(x)[:, 1], [], [deep.kernel])]


@use
def class_of_each_example(hand):
    """The class is an input: labels, one-hot."""
    model, label, x = perceptron(), keras.Input((3,)), data(3, 4)
    chosen = np.eye(3, dtype="float32")[[2, 0, 1]]
    (slope,) = advex.gradients(ops.sum(model.output * label, axis=1), model.input)
    return alone([model.input, label], [slope], [x, chosen]), hand(
        lambda x: model(x) * tensor(chosen), [x]
    )


@use
def integrated_gradients(hand):
    model, x = perceptron(), data(1, 4)
    path = ((np.arange(50)[:, None] + 0.5) / 50 * x).astype("float32")
    (slope,) = advex.gradients(model.output[:, 0], model.input)
    (found,) = alone([model.input], [slope * model.input], [path])
    (want,) = hand(lambda x: model(x)[:, 0], [path])
    # They add up to the difference that they explain.
    difference = by_hand.array(model(x) - model(0 * x))[0, 0]
    weights = (1 / (np.arange(50) + 0.5))[:, None]
    assert abs((found * weights).sum() - difference) < 1e-3
    return [found], [want * path]


@use
def style_transfer(hand):
    """Gram matrices of one layer, content of another, total variation, by the image."""
    model, image, style = convolutional(), data(1, 6, 6, 2), data(1, 6, 6, 2, seed=1)
    low, high = model.get_layer("conv"), model.get_layer("last")

    def gram(features):
        flat = ops.reshape(features, (-1, features.shape[-1]))
        return ops.matmul(ops.transpose(flat), flat) / 10

    aim, content = by_hand.array(gram(low(style))), by_hand.array(high(low(image[:, ::-1].copy())))

    def loss(first, second, x):
        variation = squares(x[:, 1:] - x[:, :-1]) + squares(x[:, :, 1:] - x[:, :, :-1])
        return (
            squares(ops.subtract(gram(first), aim))
            + 0.3 * squares(ops.subtract(second, content))
            + 0.1 * variation
        )

    total = loss(low.output, high.output, model.input)
    found = alone([model.input], [total, *advex.gradients(total, model.input)], [image])

    def again(x):
        first = low(x)
        return loss(first, high(first), x)

    return found, [by_hand.array(again(ops.convert_to_tensor(image))), *hand(again, [image])]


@use
def image_as_a_variable(hand):
    """Style transfer as it was written first: the image is what an optimizer moves."""
    model, start = convolutional(), data(1, 6, 6, 2)
    image = keras.Variable(start, name="picture")
    loss = squares(model(advex.symbol(image)) - 1.5)
    step = advex.function(
        [], [loss], updates=advex.updates(keras.optimizers.Adam(0.1), loss, [image])
    )
    found = [step([])[0] for _ in range(3)] + [by_hand.array(image)]
    image.assign(start)
    optimizer, want = keras.optimizers.Adam(0.1), []
    for _ in range(3):
        want.append(by_hand.array(squares(model(image.value) - 1.5)))
        descend(
            optimizer, [image], hand(lambda: squares(model(ops.copy(image)) - 1.5), [], [image])
        )
    return found, [*want, by_hand.array(image)]


def descend(optimizer, weights, slopes):
    slopes = [tensor(slope) for slope in slopes]
    if by_hand.BACKEND != "jax":
        optimizer.apply(slopes, weights)
        return
    optimizer.build(weights)  # as Keras does there: the scale of a loss can be applied only so
    old = [weight.value for weight in weights], [variable.value for variable in optimizer.variables]
    new = optimizer.stateless_apply(old[1], slopes, old[0])
    for variable, value in zip([*weights, *optimizer.variables], [*new[0], *new[1]], strict=True):
        variable.assign(value)


@use
def deep_dream(hand):
    """Two layers, gradients of mean size one, three steps upwards."""
    model, x = convolutional(), data(1, 6, 6, 2)
    low, high = model.get_layer("conv"), model.get_layer("last")
    loss = squares(low.output) + 0.5 * squares(high.output)
    (slope,) = advex.gradients(loss, model.input)
    step = advex.function([model.input], [loss, slope / (ops.mean(ops.abs(slope)) + 1e-7)])
    found, want = x, x
    for _ in range(3):
        found = found + 0.1 * step([found])[1]
        (up,) = hand(lambda x: squares(low(x)) + 0.5 * squares(high(low(x))), [want])
        want = want + 0.1 * up / np.abs(up).mean()
    return [found - x], [want - x]


@use
def adversarial_step(hand):
    model, x, label = convolutional(), data(3, 6, 6, 2), np.array([2, 0, 1])
    truth = keras.Input((), dtype="int32")
    cost = keras.losses.sparse_categorical_crossentropy
    loss = cost(truth, model.output, from_logits=True)
    (slope,) = advex.gradients(loss, model.input)
    found = alone([model.input, truth], [slope, model.input + 0.1 * ops.sign(slope)], [x, label])
    (want,) = hand(lambda x: cost(label, model(x), from_logits=True), [x])
    return found, [want, x + 0.1 * np.sign(want)]


@use
def embedding_and_its_table(hand):
    """On TensorFlow the table's gradient is a list of slices; some words come twice, some never."""
    table = layers.Embedding(7, 3)
    words, tokens = keras.Input((4,), dtype="int32"), np.array([[1, 2, 2, 6], [3, 1, 0, 2]])
    looked = table(words)
    gru, dense = layers.GRU(3), layers.Dense(1)
    stirred(keras.Model(words, dense(gru(looked))))
    loss = dense(gru(looked))
    found = alone([words], advex.gradients(loss, [looked, table.embeddings]), [tokens])
    (by_vectors,) = hand(lambda vectors: dense(gru(vectors)), [by_hand.array(table(tokens))])
    return found, [by_vectors, *hand(lambda: dense(gru(table(tokens))), [], [table.embeddings])]


@smooth
def several_symbols_at_once(hand):
    """Input, activation, a weight before it and one behind it, and all that the network says."""
    model, x = perceptron(), data(2, 4)
    first, last = parts(model)
    loss = ops.logsumexp(model.output, axis=1)
    found = alone(
        [model.input],
        [
            *advex.gradients(
                loss, [first.kernel, model.input, last.bias, first.output, last.kernel]
            ),
            model.output,
            loss,
        ],
        [x],
    )

    def logsum(x):
        return ops.logsumexp(model(x), axis=1)

    by_input, *by_weights = hand(logsum, [x], [first.kernel, last.bias, last.kernel])
    hidden, output = by_hand.array(first(x)), by_hand.array(model(x))
    (by_hidden,) = hand(lambda h: ops.logsumexp(last(h), axis=1), [hidden])
    value = np.log(np.exp(output).sum(1))
    return found, [by_weights[0], by_input, by_weights[1], by_hidden, by_weights[2], output, value]


@use
def two_losses_two_groups(hand):
    """Different losses by different symbols in one function, some of them by the same."""
    trunk, left, right = perceptron(outputs=4), layers.Dense(1), layers.Dense(2)
    one, two = squares(left(trunk.output)), ops.sum(ops.tanh(right(trunk.output)))
    stirred(keras.Model(trunk.input, [left.output, right.output]))
    kernel, x = parts(trunk)[0].kernel, data(3, 4)
    asked = [
        advex.gradients(one, [kernel, left.kernel]),
        advex.gradients(two, [right.kernel, kernel]),
    ]
    asked += [advex.gradients([one, two], [kernel, trunk.input])]
    found = alone([trunk.input], asked, [x])
    first = hand(lambda: squares(left(trunk(x))), [], [kernel, left.kernel])
    second = hand(lambda: ops.sum(ops.tanh(right(trunk(x)))), [], [right.kernel, kernel])
    (by_x,) = hand(lambda x: squares(left(trunk(x))) + ops.sum(ops.tanh(right(trunk(x)))), [x])
    return found, [first, second, [first[0] + second[1], by_x]]


# Structures


@use
def list_of_losses(hand):
    shared, x = perceptron(), data(2, 4)
    model = keras.Model(
        shared.input, [ops.tanh(shared.output), ops.square(shared.output), parts(shared)[0].output]
    )
    found = alone([model.input], advex.gradients(model.outputs, model.input), [x])
    return found, hand(lambda x: sum(ops.sum(output) for output in model(x)), [x])


@use
def several_inputs(hand):
    a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
    mixing = layers.Bilinear(2) if hasattr(layers, "Bilinear") else layers.Dense(2, "tanh")
    model = stirred(
        keras.Model(
            [a, b], mixing(layers.Concatenate()([a * ops.sum(b, axis=1, keepdims=True), b]))
        )
    )
    x, y = data(2, 3), data(2, 2, seed=1)
    found = alone(model.input, advex.gradients(model.output, model.input), [x, y])
    return found, hand(lambda x, y: model([x, y]), [x, y])


@use
def inputs_in_a_dict(hand):
    parts = {"b": keras.Input((2,), name="b"), "a": keras.Input((3,), name="a")}
    dense = layers.Dense(2, "tanh")
    model = stirred(
        keras.Model(
            parts, {"score": dense(layers.Concatenate()([parts["a"], ops.square(parts["b"])]))}
        )
    )
    x, y = data(2, 3), data(2, 2, seed=1)
    found = alone(
        model.input,
        {"slopes": advex.gradients(model.output["score"], model.input)},
        {"a": x, "b": y},
    )
    by_x, by_y = hand(lambda x, y: model({"a": x, "b": y})["score"], [x, y])
    return [found["slopes"]["a"], found["slopes"]["b"]], [by_x, by_y]


@smooth
def siamese(hand):
    """One network, called twice: the gradients of its weights come by both ways, those of each
    input by one.
    """
    encoder, a, b = perceptron(3, 2, 3), keras.Input((3,)), keras.Input((3,))
    same = keras.Input((1,))

    def contrast(a, b, same):
        distance = ops.sqrt(ops.sum(ops.square(a - b), axis=1, keepdims=True) + 1e-3)
        return same * ops.square(distance) + (1 - same) * ops.square(ops.softplus(1.0 - distance))

    loss = contrast(encoder(a), encoder(b), same)
    x, y, z = data(2, 3), data(2, 3, seed=1), np.array([[1.0], [0.0]], keras.config.floatx())
    found = alone(
        [a, b, same], advex.gradients(loss, [a, b, *encoder.trainable_weights[:3]]), [x, y, z]
    )
    return found, hand(
        lambda x, y: contrast(encoder(x), encoder(y), tensor(z)),
        [x, y],
        encoder.trainable_weights[:3],
    )


@use
def triplets(hand):
    """The hardest negative is looked for among the batch."""
    encoder, x = perceptron(), data(6, 4)

    def triplet(code):
        distances = ops.sum(
            ops.square(ops.expand_dims(code, 0) - ops.expand_dims(code, 1)), axis=-1
        )
        hardest = ops.argmin(distances + 100 * ops.cast(ops.eye(6), "float32"), axis=1)
        return ops.relu(
            1.0
            + distances[:, 0]
            - ops.sum(ops.square(code - ops.take(code, hardest, axis=0)), axis=1)
        )

    found = alone(
        [encoder.input],
        advex.gradients(triplet(encoder.output), [encoder.input, parts(encoder)[0].kernel]),
        [x],
    )
    return found, hand(lambda x: triplet(encoder(x)), [x], [parts(encoder)[0].kernel])


@use
def sequential_built_by_add(hand):
    model, x = keras.Sequential(), data(2, 4)
    model.add(keras.Input((4,)))
    model.add(layers.Dense(5, "tanh"))
    model.add(layers.Dense(4, "tanh"))
    hidden = model.layers[0].output
    model.add(layers.Dense(2))
    stirred(model)
    found = alone(
        model.inputs,
        [*advex.gradients(model.outputs[0][:, 0], [hidden, model.inputs[0]]), hidden],
        [x],
    )
    start = by_hand.array(model.layers[0](x))
    (by_hidden,) = hand(lambda h: model.layers[2](model.layers[1](h))[:, 0], [start])
    return found, [by_hidden, *hand(lambda x: model(x)[:, 0], [x]), start]


@use
def variable_in_a_closure(hand):
    scale = keras.Variable([0.5, -1.5, 2.0], name="scale")
    scaled = layers.Lambda(lambda x: ops.tanh(x * scale))
    inputs, x = keras.Input((3,)), data(2, 3)
    output = scaled(inputs)
    run = advex.function([inputs], advex.gradients(output, [inputs, scale]))
    found = [run([x])]
    scale.assign([1.0, 0.7, -0.3])
    found += [run([x])]
    last = hand(lambda x: ops.tanh(x * scale), [x], [scale])
    scale.assign([0.5, -1.5, 2.0])
    return found, [hand(lambda x: ops.tanh(x * scale), [x], [scale]), last]


@use
def weights_that_change(hand):
    """What is assigned between two calls counts."""
    model, x = perceptron(), data(2, 4)
    run = advex.function(
        [model.input],
        advex.gradients(ops.logsumexp(model.output, 1), [model.input, parts(model)[0].kernel]),
    )
    found, want = [], []
    for seed in (1, 2):
        stirred(model, seed)
        found.append(run([x]))
        want.append(hand(lambda x: ops.logsumexp(model(x), 1), [x], [parts(model)[0].kernel]))
    return found, want


@use
def unconnected_weights(hand):
    """The bias of the last layer drops out of a gradient penalty: zeros, or None."""
    critic, x = perceptron(outputs=1), data(3, 4)
    (slope,) = advex.gradients(critic.output, critic.input)
    penalty = squares(norms(slope) - 1)
    zeros = advex.gradients(penalty, critic.trainable_weights, unconnected="zero")
    nothing = advex.gradients(penalty, critic.trainable_weights, unconnected="none")
    found = alone([critic.input], zeros + nothing, [x])
    assert nothing[3] is None and found.pop() is None
    want = hand(
        lambda: squares(norms(by_hand.derivative(critic, [ops.convert_to_tensor(x)])[0]) - 1),
        [],
        critic.trainable_weights,
    )
    return found, [*want, *want[:3]]


# Sequences, masks and states


@smooth
def attention_with_a_padding_mask(hand):
    """Attention takes the mask off its input: the gradient is the same when the activations are
    asked for, too.
    """
    words, tokens = keras.Input((4,), dtype="int32"), np.array([[1, 2, 3, 0], [2, 4, 0, 0]])
    table = layers.Embedding(5, 3, mask_zero=True)
    attention, pool, dense = (
        layers.MultiHeadAttention(1, 2),
        layers.GlobalAveragePooling1D(),
        layers.Dense(1),
    )
    vectors = table(words)
    attended = attention(vectors, vectors)
    loss = dense(pool(attended))
    stirred(keras.Model(words, loss))
    slopes = advex.gradients(loss, [vectors, table.embeddings])
    found = [
        *alone([words], slopes, [tokens]),
        *alone([words], [*slopes, attended, vectors, loss], [tokens]),
    ]
    mask = tokens != 0

    def again(vectors):
        attended = attention(
            vectors, vectors, attention_mask=tensor(mask[:, :, None] & mask[:, None])
        )
        return dense(pool(attended, mask=tensor(mask))), attended

    start = by_hand.array(table(tokens))
    want = [
        *hand(lambda v: again(v)[0], [start]),
        *hand(lambda: again(table(tokens))[0], [], [table.embeddings]),
    ]
    value, attended = again(ops.convert_to_tensor(start))
    return found, [*want, *want, by_hand.array(attended), start, by_hand.array(value)]


@use
def transformer_block_with_masks(hand):
    """Causal attention, normalisation, residuals; the weights of the attention."""
    vectors, x = keras.Input((4, 4)), data(2, 4, 4)
    x[:, 3] = 0
    masking, attention = layers.Masking(), layers.MultiHeadAttention(2, 2)
    normal, dense, pool = (
        layers.LayerNormalization(),
        layers.Dense(4, "gelu"),
        layers.GlobalAveragePooling1D(),
    )

    def block(x):
        hidden = masking(x)
        hidden = normal(layers.add([hidden, attention(hidden, hidden, use_causal_mask=True)]))
        return pool(layers.add([hidden, dense(hidden)]))

    model = stirred(keras.Model(vectors, block(vectors)))
    # softmax does not heed it
    weights = [weight for weight in model.trainable_weights if "key/bias" not in weight.path]
    aim = np.linspace(-1, 1, 4, dtype="float32")
    found = alone(
        [vectors], [*advex.gradients(model.output * aim, [vectors, *weights]), model.output], [x]
    )
    return found, [*hand(lambda x: model(x) * tensor(aim), [x], weights), by_hand.array(model(x))]


@use
def pooling_by_mask(hand):
    """A layer that reads the mask: words that are not there have no gradient."""
    words, tokens = keras.Input((5,), dtype="int32"), np.array([[1, 2, 0, 3, 0], [2, 2, 4, 0, 0]])
    table, pool, dense = (
        layers.Embedding(5, 3, mask_zero=True),
        layers.GlobalAveragePooling1D(),
        layers.Dense(2, "tanh"),
    )
    vectors = table(words)
    loss = dense(pool(vectors))
    stirred(keras.Model(words, loss))
    found = alone(
        [words],
        [vectors, *advex.gradients(loss, [vectors, table.embeddings, dense.kernel])],
        [tokens],
    )
    mask = (tokens != 0).astype("float32")[..., None]

    def mean(vectors):
        return dense(ops.sum(vectors * tensor(mask), axis=1) / tensor(mask.sum(1)))

    start = by_hand.array(table(tokens))
    (by_vectors,) = hand(mean, [start])
    assert (by_vectors[tokens == 0] == 0).all()
    return found, [
        start,
        by_vectors,
        *hand(lambda: mean(table(tokens)), [], [table.embeddings, dense.kernel]),
    ]


@smooth
def lstm(hand):
    layer, x = layers.LSTM(2), data(2, 3, 2)
    inputs = keras.Input((3, 2))
    model = stirred(keras.Model(inputs, layer(inputs)))
    found = alone([inputs], advex.gradients(model.output, [inputs, *layer.trainable_weights]), [x])
    return found, hand(model, [x], layer.trainable_weights)


@use
def bidirectional_with_masking(hand):
    inputs, x = keras.Input((4, 2)), data(2, 4, 2)
    x[0, 2:] = x[1, 3:] = 0
    masking, both = (
        layers.Masking(),
        layers.Bidirectional(layers.SimpleRNN(3, return_sequences=True)),
    )
    dense = layers.Dense(1)
    masked = masking(inputs)
    model = stirred(keras.Model(inputs, dense(both(masked))))
    weights = both.trainable_weights
    found = alone(
        [inputs], [*advex.gradients(model.output, [masked, *weights]), masked, model.output], [x]
    )
    mask = np.array([[1, 1, 0, 0], [1, 1, 1, 0]], bool)
    want = hand(lambda x: dense(both(x, mask=tensor(mask))), [x], weights)
    return found, [*want, x, by_hand.array(model(x))]


@use
def stateful_lstm(hand):
    """The second call goes on where the first one ended."""
    inputs, layer, dense = (
        keras.Input(batch_shape=(2, 3, 2)),
        layers.LSTM(3, stateful=True),
        layers.Dense(1, "tanh"),
    )
    model = stirred(keras.Model(inputs, dense(layer(inputs))))
    first, second = data(2, 3, 2), data(2, 3, 2, seed=1)
    run = advex.function(
        [inputs], [model.output, *advex.gradients(model.output, [inputs, layer.cell.kernel])]
    )
    with by_hand.kept(layer.states):
        found = [run([first]), run([second]), by_hand.arrays(layer.states)]
    want = []
    for x in (first, second):
        slopes = hand(model, [x], [layer.cell.kernel], state=layer.states)
        want.append([by_hand.array(model(x)), *slopes])
    return found, [*want, by_hand.arrays(layer.states)]


@use
def states_of_a_gru(hand):
    """Encoder and decoder: the gradient by the state that is handed over, and by one that is
    given.
    """
    inputs, start = keras.Input((3, 2)), keras.Input((3,))
    encoder, decoder = layers.GRU(3, return_state=True), layers.GRU(3, return_sequences=True)
    _, state = encoder(inputs, initial_state=start)
    decoded = decoder(inputs, initial_state=state)
    stirred(keras.Model([inputs, start], decoded))
    loss = ops.sum(ops.square(decoded), axis=(1, 2))
    x, s = data(2, 3, 2), data(2, 3, seed=1)
    found = alone(
        [inputs, start],
        [*advex.gradients(loss, [inputs, start, state, encoder.cell.kernel]), state],
        [x, s],
    )

    def whole(x, s):
        return ops.sum(
            ops.square(decoder(x, initial_state=encoder(x, initial_state=s)[1])), axis=(1, 2)
        )

    middle = by_hand.array(
        encoder(ops.convert_to_tensor(x), initial_state=ops.convert_to_tensor(s))[1]
    )
    by_x, by_s, by_kernel = hand(whole, [x, s], [encoder.cell.kernel])
    (by_state,) = hand(
        lambda state: ops.sum(ops.square(decoder(ops.convert_to_tensor(x), initial_state=state))),
        [middle],
    )
    return found, [by_x, by_s, by_state, by_kernel, middle]


@smooth
def batch_norm_in_training(hand):
    """The gradient goes through the statistics of the batch; the moving ones move once a call."""
    inputs, layer, dense = (
        keras.Input((3,)),
        layers.BatchNormalization(momentum=0.8),
        layers.Dense(2, "tanh"),
    )
    model = stirred(keras.Model(inputs, dense(layer(inputs))))
    x, weights = data(4, 3), [layer.gamma, dense.kernel]
    run = advex.function(
        [inputs], [*advex.gradients(model.output, [inputs, *weights]), model.output], training=True
    )
    with by_hand.kept(model.variables):
        found = [run([x]), run([x]), by_hand.arrays(layer.non_trainable_variables)]
    slopes = hand(lambda x: model(x, training=True), [x], weights, state=model.variables)
    outputs = [by_hand.array(model(x, training=True)) for _ in range(2)]
    assert np.abs(by_hand.array(layer.moving_mean)).max() > 0
    return found, [
        [*slopes, outputs[0]],
        [*slopes, outputs[1]],
        by_hand.arrays(layer.non_trainable_variables),
    ]


@use
def batch_norm_in_inference(hand):
    inputs, layer, dense = keras.Input((3,)), layers.BatchNormalization(), layers.Dense(2, "tanh")
    model = stirred(keras.Model(inputs, dense(layer(inputs))))
    layer.moving_mean.assign([0.3, -0.4, 1.0])
    layer.moving_variance.assign([0.5, 2.0, 1.5])
    x = data(4, 3)
    found = alone(
        [inputs], [*advex.gradients(model.output, [inputs, layer.gamma]), layer.moving_mean], [x]
    )
    return found, [*hand(model, [x], [layer.gamma]), np.array([0.3, -0.4, 1.0], "float32")]


@use
def spectral_normalisation(hand):
    """Its vector, from a power iteration, is kept from call to call."""
    inputs, inner = keras.Input((3,)), layers.Dense(4)
    layer = layers.SpectralNormalization(inner)
    model = keras.Model(inputs, ops.tanh(layer(inputs)))
    x, states = data(2, 3), model.non_trainable_variables
    run = advex.function(
        [inputs], [model.output, *advex.gradients(model.output, inputs)], training=True
    )
    with by_hand.kept(model.variables):
        found = [run([x]), run([x]), by_hand.arrays(states)]
    want = []
    for _ in range(2):
        slopes = hand(lambda x: model(x, training=True), [x], state=model.variables)
        want.append([by_hand.array(model(x, training=True)), *slopes])
    return found, [*want, by_hand.arrays(states)]


# Random draws


@use
def dropout_in_training(hand):
    """What was dropped is to be seen in the output: the gradient is of the same draw, each call has
    another.
    """
    inputs, x = keras.Input((40,)), 1 + np.abs(data(3, 40))
    output = layers.Dropout(0.5)(inputs)
    run = advex.function([inputs], [output, *advex.gradients(output**2, inputs)], training=True)
    found = [run([x]) for _ in range(3)]
    masks = [values != 0 for values, _ in found]
    assert all(0.2 < mask.mean() < 0.8 for mask in masks) and not (masks[0] == masks[1]).all()
    return found, [[2 * x * mask, 8 * x * mask] for mask in masks]


@use
def a_gradient_alone_draws_anew(hand):
    """As the framework does, call by call, from the same seeds."""
    model = chain((6,), layers.Dense(8, "tanh"), layers.Dropout(0.4, seed=1), layers.Dense(2))
    x, kernel = data(3, 6), parts(model)[0].kernel
    run = advex.function(
        [model.input], advex.gradients(ops.tanh(model.output), kernel), training=True
    )
    with by_hand.kept(model.variables):
        found = [run([x])[0] for _ in range(3)]
    assert not np.allclose(found[0], found[1])
    want = []
    for _ in range(3):
        want += hand(lambda: ops.tanh(model(x, training=True)), [], [kernel], state=model.variables)
        model(x, training=True)
    return found, want


@use
def gaussian_noise(hand):
    inputs, x = keras.Input((10,)), data(2, 10)
    noisy = layers.GaussianNoise(1.0)(inputs, training=True)
    loss = ops.sum(noisy**2, axis=1)
    found = alone([inputs], [*advex.gradients(loss, inputs), noisy, loss], [x])
    assert np.abs(found[1] - x).max() > 0.5
    return found, [2 * found[1], found[1], (found[1] ** 2).sum(1)]


class Sampling(layers.Layer):
    def __init__(self):
        super().__init__()
        self.seed_generator = keras.random.SeedGenerator(7)

    def call(self, mean, spread):
        return mean + ops.exp(spread / 2) * keras.random.normal(
            ops.shape(mean), seed=self.seed_generator
        )


@smooth
def variational_autoencoder(hand):
    """Reconstruction and divergence, by the weights before the draw and behind it."""
    inputs, encoder, mean, spread = (
        keras.Input((3,)),
        layers.Dense(3, "tanh"),
        layers.Dense(2),
        layers.Dense(2),
    )
    sampling, decoder = Sampling(), layers.Dense(3)
    hidden = encoder(inputs)
    parts = [mean(hidden), spread(hidden)]
    code = sampling(*parts)
    decoded = decoder(code)
    model = stirred(keras.Model(inputs, [*parts, decoded]))

    def cost(x, mean, spread, decoded):
        divergence = -0.5 * ops.sum(1 + spread - ops.square(mean) - ops.exp(spread), axis=1)
        return ops.sum(ops.square(decoded - x), axis=1) + divergence

    loss = cost(inputs, *model.outputs)
    x, weights = data(2, 3), [encoder.kernel, mean.kernel, spread.kernel, decoder.kernel]
    with by_hand.kept(model.variables):
        found = alone([inputs], [loss, *advex.gradients(loss, [*weights, inputs])], [x])
    by_x, *slopes = hand(lambda x: cost(x, *model(x)), [x], weights, state=model.variables)
    return found, [by_hand.array(cost(tensor(x), *model(x))), *slopes, by_x]


# Penalties, and gradients of gradients


@smooth
def weight_decay(hand):
    """As an expression, and as the layers' own regularizers."""
    inputs, x = keras.Input((3,)), data(2, 3)
    dense = layers.Dense(2, kernel_regularizer=keras.regularizers.L2(0.5))
    model = stirred(keras.Model(inputs, ops.tanh(dense(inputs))))
    kernel = advex.symbol(dense.kernel)
    penalty = 0.5 * ops.sum(kernel**2)
    # Keras has its factor as an array there
    own = penalty if by_hand.BACKEND == "jax" else dense.kernel_regularizer(kernel)
    run = advex.function(
        [inputs],
        [advex.gradients(ops.sum(model.output) + one, dense.kernel) for one in (penalty, own)],
    )
    found, want = [], []
    for factor in (1, 3):
        dense.kernel.assign(factor * dense.kernel)
        found.append(run([x]))
        want.append(
            2
            * [
                hand(
                    lambda: ops.sum(model(x)) + 0.5 * ops.sum(ops.square(dense.kernel)),
                    [],
                    [dense.kernel],
                )
            ]
        )
    return found, want


@smooth
def spectral_penalty(hand):
    """The largest singular value, from a power iteration; and orthogonality."""
    model, start = perceptron(), tensor(data(5, 1))

    def penalty(first, last):
        right = start
        for _ in range(3):
            left = ops.matmul(first, right)
            right = ops.matmul(ops.transpose(first), left / ops.norm(left))
        gram = ops.matmul(ops.transpose(last), last)
        return ops.norm(right) + 0.1 * ops.sum(
            ops.square(gram - ops.eye(3, dtype=keras.config.floatx()))
        )

    weights = [layer.kernel for layer in parts(model)]
    loss = penalty(*map(advex.symbol, weights))
    found = alone([], [loss, *advex.gradients(loss, weights)], [])
    return found, [
        by_hand.array(penalty(*[ops.copy(w) for w in weights])),
        *hand(lambda: penalty(*weights), [], weights),
    ]


@use
def learned_loss_weights(hand):
    """Two tasks, weighed by variables that no layer owns."""
    trunk, x = perceptron(outputs=2), data(3, 4)
    scales = [keras.Variable(0.3, name="first_scale"), keras.Variable(-0.2, name="second_scale")]

    def weighed(output, one, two):
        return (
            ops.exp(-one) * squares(output[:, 0] - 1)
            + one
            + ops.exp(-two) * squares(output[:, 1] + 2)
            + two
        )

    loss = weighed(trunk.output, *map(advex.symbol, scales))
    wanted = [*scales, parts(trunk)[0].kernel]
    return (
        alone([trunk.input], [loss, *advex.gradients(loss, wanted)], [x]),
        [
            by_hand.array(weighed(trunk(x), *scales)),
            *hand(lambda: weighed(trunk(x), *scales), [], wanted),
        ],
    )


@smooth
def wgan_penalty(hand):
    """The critic's whole loss, with interpolates made in the graph, by its weights."""
    critic = perceptron(3, 1, 3)
    real, fake, mix = keras.Input((3,)), keras.Input((3,)), keras.Input((1,))
    between = real * mix + fake * (1 - mix)
    (slope,) = advex.gradients(critic(between), between)
    loss = (
        ops.mean(critic(fake))
        - ops.mean(critic(real))
        + 10 * ops.mean(ops.square(norms(slope) - 1))
    )
    values = [
        data(3, 3),
        data(3, 3, seed=1),
        np.array([[0.2], [0.5], [0.9]], keras.config.floatx()),
    ]
    weights = [parts(critic)[0].kernel, parts(critic)[0].bias, parts(critic)[1].kernel]
    found = alone([real, fake, mix], [loss, *advex.gradients(loss, weights)], values)

    def again():
        real, fake, mix = map(ops.convert_to_tensor, values)
        (slope,) = by_hand.derivative(critic, [real * mix + fake * (1 - mix)])
        penalty = 10 * ops.mean(ops.square(norms(slope) - 1))
        return ops.mean(critic(fake)) - ops.mean(critic(real)) + penalty

    return found, [by_hand.array(again()), *hand(again, [], weights)]


@smooth
def gradient_penalty_by_the_input(hand):
    """The gradient of the squared gradient, by the input and by an activation."""
    model, x = perceptron(3, 2, 3), data(2, 3)
    first, last = parts(model)
    (slope,) = advex.gradients(ops.tanh(model.output), first.output)
    penalty = ops.sum(ops.square(slope), axis=1)
    found = alone(
        [model.input], [*advex.gradients(penalty, [model.input, first.output]), penalty], [x]
    )

    def again(hidden):
        return ops.sum(
            ops.square(by_hand.derivative(lambda h: ops.tanh(last(h)), [hidden])[0]), axis=1
        )

    hidden = by_hand.array(first(x))
    want = [*hand(lambda x: again(first(x)), [x]), *hand(again, [hidden])]
    return found, [*want, by_hand.array(again(ops.convert_to_tensor(hidden)))]


@smooth
def hessian_times_vector(hand):
    """By the input and by the weights; the vectors are inputs."""
    model, x = perceptron(3, 1, 3), data(2, 3)
    kernel = parts(model)[0].kernel
    vectors = [keras.Input((3,)), keras.Input(batch_shape=(3, 3))]
    by_input, by_kernel = advex.gradients(model.output, [model.input, kernel])
    found = alone(
        [model.input, *vectors],
        [
            *advex.gradients(ops.sum(by_input * vectors[0]), model.input),
            *advex.gradients(by_kernel * vectors[1], kernel),
        ],
        [x, values := data(2, 3, seed=1), others := data(3, 3, seed=2)],
    )
    (first,) = hand(lambda x: by_hand.derivative(model, [x])[0] * tensor(values), [x])
    (second,) = hand(
        lambda: by_hand.derivative(lambda: model(x), [], [kernel])[0] * tensor(others), [], [kernel]
    )
    return found, [first, second]


@use
def jacobians(hand):
    model, x = perceptron(), data(2, 4)
    kernel = parts(model)[0].kernel
    found = alone([model.input], advex.jacobian(ops.tanh(model.output), [model.input, kernel]), [x])
    rows = [hand(lambda x, k=k: ops.tanh(model(x))[:, k], [x], [kernel]) for k in range(3)]
    return found, [np.stack([row[0] for row in rows], 1), np.stack([row[1] for row in rows])]


@use
def contractive_autoencoder(hand):
    """The squared Jacobian of the code, by the weights: each gradient of it is differentiated
    again.
    """
    encoder, x = perceptron(3, 2, 3), data(2, 3)
    (rows,) = advex.jacobian(ops.sigmoid(encoder.output), encoder.input)
    weights = encoder.trainable_weights
    found = alone(
        [encoder.input], [*advex.gradients(ops.sum(rows**2), weights), ops.sum(rows**2)], [x]
    )

    def again():
        columns = [lambda x, k=k: ops.sigmoid(encoder(x))[:, k] for k in range(2)]
        return sum(
            ops.sum(ops.square(by_hand.derivative(one, [ops.convert_to_tensor(x)])[0]))
            for one in columns
        )

    return found, [*hand(again, [], weights), by_hand.array(again())]


@use
def differential_equation(hand):
    """A network that solves u'' + u u' = sin(x): third derivatives, by the weights."""
    net, x = perceptron(1, 1, 4), data(5, 1)
    (first,) = advex.gradients(net.output, net.input)
    (second,) = advex.gradients(first, net.input)
    loss = squares(second + net.output * first - ops.sin(net.input))
    weights = net.trainable_weights
    found = alone([net.input], [loss, *advex.gradients(loss, weights), second], [x])

    def slope(x):
        return by_hand.derivative(net, [x])[0]

    def again():
        start = ops.convert_to_tensor(x)
        return squares(
            by_hand.derivative(slope, [start])[0] + net(start) * slope(start) - ops.sin(start)
        )

    return found, [by_hand.array(again()), *hand(again, [], weights), *hand(slope, [x])]


@smooth
def meta_learning(hand):
    """The loss after one step of gradient descent, by the weights before it."""
    inputs, dense = keras.Input((3,)), layers.Dense(2)
    inner = squares(ops.tanh(dense(inputs)) - 0.5)
    stirred(keras.Model(inputs, dense(inputs)))
    (slope,) = advex.gradients(inner, dense.kernel)
    fast = advex.symbol(dense.kernel) - 0.4 * slope
    outer = squares(ops.tanh(ops.matmul(inputs, fast)) + 0.2)
    x = data(3, 3)
    found = alone([inputs], [outer, *advex.gradients(outer, dense.kernel)], [x])

    def again():
        start = ops.convert_to_tensor(x)
        (slope,) = by_hand.derivative(
            lambda: squares(ops.tanh(dense(start)) - 0.5), [], [dense.kernel]
        )
        return squares(ops.tanh(ops.matmul(start, dense.kernel - 0.4 * slope)) + 0.2)

    return found, [by_hand.array(again()), *hand(again, [], [dense.kernel])]


@use
def fisher_information(hand):
    """Squared gradients of the likelihood, as elastic weight consolidation has them; the penalty
    they weigh.
    """
    model, x, y = perceptron(), data(1, 4), np.array([2])
    chosen = ops.log_softmax(model.output)[:, 2]
    weights = model.trainable_weights
    found = alone([model.input], [slope**2 for slope in advex.gradients(chosen, weights)], [x])
    want = hand(
        lambda: keras.losses.sparse_categorical_crossentropy(y, model(x), from_logits=True),
        [],
        weights,
    )
    return found, [slope**2 for slope in want]


@use
def gradients_inside_a_model(hand):
    """A network that answers and says why, called as any other model: its own pass may not begin
    behind a weight.
    """
    model, x = convolutional(), data(2, 6, 6, 2)
    conv, score = model.get_layer("conv"), model.output[:, 0]
    inner = advex.gradients(score, [conv.output, conv.kernel])
    explained = keras.Model(
        model.input, [model.output, *advex.gradients(score, [model.input, conv.kernel]), *inner]
    )
    maps = by_hand.array(conv(x))
    by_input, by_kernel = hand(lambda x: model(x)[:, 0], [x], [conv.kernel])
    (by_maps,) = hand(lambda maps: keras.Sequential(parts(model)[1:])(maps)[:, 0], [maps])
    return by_hand.arrays(explained(x)), [
        by_hand.array(model(x)),
        by_input,
        by_kernel,
        by_maps,
        by_kernel,
    ]


@use
def layer_that_hands_its_input_on(hand):
    """Dropout in inference gives back the very tensor that it is given: its gradient is that of the
    ways behind it.
    """
    inputs, x = keras.Input((3,)), data(2, 3)
    dropped = layers.Dropout(0.5)(inputs)
    loss = ops.sum(inputs**2) + ops.sum(dropped**3)
    return alone([inputs], advex.gradients(loss, [inputs, dropped]), [x]), [
        2 * x + 3 * x**2,
        3 * x**2,
    ]


@use
def two_readers_of_a_mask(hand):
    """Attention takes the mask off: whoever reads it before or after does so in the order of Keras'
    own models.
    """
    words, tokens = keras.Input((4,), dtype="int32"), np.array([[1, 2, 3, 0], [2, 4, 0, 0]])
    table, pool, near, far = (
        layers.Embedding(5, 3, mask_zero=True),
        layers.GlobalAveragePooling1D(),
        *map(layers.Dense, (2, 2)),
    )
    vectors, attention = table(words), layers.MultiHeadAttention(1, 2)
    early, late = (
        near(pool(vectors)),
        far(ops.tanh(ops.tanh(ops.sum(attention(vectors, vectors), axis=1)))),
    )
    model = stirred(keras.Model(words, ops.tanh(early + late)))
    weights = [table.embeddings, near.kernel, far.kernel]
    found = [model.output, *advex.gradients(model.output, weights)]
    return alone([words], found, [tokens]), [
        by_hand.array(model(tokens)),
        *hand(lambda: model(tokens), [], weights),
    ]


# Training


@use
def policy_gradient(hand):
    """The logarithm of the chance of what was done, times its advantage, and the entropy."""
    policy, actions, x = perceptron(), np.array([0, 2, 2, 1]), data(4, 4)
    action, advantage = keras.Input((), dtype="int32"), keras.Input(())
    gains = np.array([1.0, -0.5, 2.0, 0.3], "float32")

    def cost(logits, action, advantage):
        chances = ops.log_softmax(logits)
        entropy = -ops.sum(ops.exp(chances) * chances, axis=1)
        return -ops.mean(
            ops.sum(ops.one_hot(action, 3) * chances, axis=1) * advantage + 0.01 * entropy
        )

    weights = policy.trainable_weights
    loss = cost(policy.output, action, advantage)
    found = alone(
        [policy.input, action, advantage],
        [loss, *advex.gradients(loss, weights)],
        [x, actions, gains],
    )
    given = ops.convert_to_tensor(actions), ops.convert_to_tensor(gains)
    return found, [
        by_hand.array(cost(policy(x), *given)),
        *hand(lambda: cost(policy(x), *given), [], weights),
    ]


def trained(weights, optimizer, loss, symbols, values, cost, hand, steps=3):
    """Losses and weights after some steps: with ``advex.updates``, and with the same optimizer by
    hand.
    """
    step = advex.function(symbols, [loss], updates=advex.updates(optimizer(), loss, weights))
    with by_hand.kept(weights):
        found = [*(step(values)[0] for _ in range(steps)), *by_hand.arrays(weights)]
    other, want = optimizer(), []
    other.build(weights)
    for _ in range(steps):
        want.append(by_hand.array(cost()))
        descend(other, weights, hand(lambda: other.scale_loss(cost()), [], weights))
    return found, [*want, *by_hand.arrays(weights)]


def fitted(optimizer, hand):
    model, x, y = perceptron(), data(4, 4), data(4, 3, seed=1)
    aim = keras.Input((3,))
    loss, weights = squares(model.output - aim), model.trainable_weights
    return trained(
        weights,
        optimizer,
        loss,
        [model.input, aim],
        [x, y],
        lambda: squares(ops.subtract(model(x), tensor(y))),
        hand,
    )


@use
def momentum(hand):
    return fitted(lambda: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True), hand)


@use
def adam_with_clipping_and_schedule(hand):
    rate = keras.optimizers.schedules.ExponentialDecay(0.1, 1, 0.7)
    return fitted(lambda: keras.optimizers.Adam(rate, clipnorm=0.1), hand)


@use
def decay_averages_and_accumulation(hand):
    return fitted(
        lambda: keras.optimizers.AdamW(
            0.1, weight_decay=0.1, use_ema=True, ema_momentum=0.5, global_clipnorm=0.2
        ),
        hand,
    )


@use
def plain_descent(hand):
    """``updates`` as pairs: each new value comes from the old ones."""
    model, x = perceptron(), data(4, 4)
    loss, weights = squares(model.output - 1), model.trainable_weights
    slopes = advex.gradients(loss, weights)
    pairs = [
        (weight, ops.subtract(weight, 0.3 * slope))
        for weight, slope in zip(weights, slopes, strict=True)
    ]
    run = advex.function([model.input], [loss, weights[0]], updates=pairs)
    with by_hand.kept(weights):
        found = [*run([x]), *run([x]), *by_hand.arrays(weights)]
    want = []
    for _ in range(2):
        want += [by_hand.array(squares(model(x) - 1)), by_hand.array(weights[0])]
        for weight, slope in zip(
            weights, hand(lambda: squares(model(x) - 1), [], weights), strict=True
        ):
            weight.assign(by_hand.array(weight) - 0.3 * slope)
    return found, [*want, *by_hand.arrays(weights)]


@use
def moving_averages_and_counters(hand):
    inputs, batches = keras.Input((3,)), [data(4, 3, seed=seed) for seed in range(3)]
    average, count, lag = (
        keras.Variable(start, name=name)
        for start, name in (([0.0] * 3, "mean"), (0.0, "count"), (5.0, "lag"))
    )
    mean = ops.mean(inputs, axis=0)
    changes = [
        (average, 0.9 * advex.symbol(average) + 0.1 * mean),
        (count, lambda old: old + 1),
        (lag, advex.symbol(count)),
    ]
    run = advex.function(
        [inputs], [average, *advex.gradients(mean * advex.symbol(average), inputs)], updates=changes
    )
    found, want, value = [], [], np.zeros(3)
    for batch in batches:
        found.append(run([batch]))
        want.append([value.astype("float32"), np.repeat(value[None] / 4, 4, 0).astype("float32")])
        value = 0.9 * value + 0.1 * batch.mean(0)
    found.append(by_hand.arrays([average, count, lag]))
    return found, [*want, [value.astype("float32"), np.float32(3), np.float32(2)]]


@use
def q_learning(hand):
    """A target network without gradient, which follows slowly."""
    online, target = perceptron(name="online"), perceptron(name="target")
    stirred(target, 9)
    after, action, reward = keras.Input((4,)), keras.Input((), dtype="int32"), keras.Input(())
    states, nexts, done, rewards = (
        data(5, 4),
        data(5, 4, seed=1),
        np.array([0, 1, 2, 1, 0]),
        data(5, seed=2),
    )

    def cost(value, future, action, reward):
        aim = ops.stop_gradient(reward + 0.9 * ops.max(future, axis=1))
        return ops.mean(ops.log(ops.cosh(ops.sum(value * ops.one_hot(action, 3), axis=1) - aim)))

    loss, weights, slow = (
        cost(online.output, target(after), action, reward),
        online.trainable_weights,
        target.trainable_weights,
    )
    changes = advex.updates(keras.optimizers.Adam(0.05), loss, weights)
    changes += [
        (old, 0.2 * advex.symbol(new) + 0.8 * advex.symbol(old))
        for old, new in zip(slow, weights, strict=True)
    ]
    run = advex.function([online.input, after, action, reward], [loss], updates=changes)
    with by_hand.kept(weights + slow):
        found = [run([states, nexts, done, rewards])[0] for _ in range(3)] + by_hand.arrays(
            weights + slow
        )
    optimizer, want = keras.optimizers.Adam(0.05), []
    for _ in range(3):
        want.append(
            by_hand.array(cost(online(states), target(nexts), *map(tensor, (done, rewards))))
        )
        slopes = hand(
            lambda: cost(online(states), target(nexts), *map(tensor, (done, rewards))), [], weights
        )
        for old, new in zip(slow, weights, strict=True):
            old.assign(0.2 * by_hand.array(new) + 0.8 * by_hand.array(old))
        descend(optimizer, weights, slopes)
    return found, [*want, *by_hand.arrays(weights + slow)]


@use
def generator_and_critic(hand):
    """Both networks take a step in one call, each down its own loss, from the same old weights."""
    generator, critic = perceptron(2, 4, name="generator"), perceptron(4, 1, name="critic")
    real, x, z = keras.Input((4,)), data(4, 4), data(4, 2, seed=1)

    def costs(real, noise):
        judged = critic(generator(noise))
        return ops.mean(ops.softplus(-critic(real)) + ops.softplus(judged)), ops.mean(
            ops.softplus(-judged)
        )

    ours, theirs = costs(real, generator.input)
    weights = [critic.trainable_weights, generator.trainable_weights]
    both = [*weights[0], *weights[1]]
    changes = advex.updates(keras.optimizers.SGD(0.5), ours, weights[0])
    changes += advex.updates(keras.optimizers.Adam(0.05), theirs, weights[1])
    run = advex.function([real, generator.input], [ours, theirs], updates=changes)
    with by_hand.kept(both):
        found = [run([x, z]) for _ in range(2)] + by_hand.arrays(both)
    optimizers, want = [keras.optimizers.SGD(0.5), keras.optimizers.Adam(0.05)], []
    for _ in range(2):
        want.append(by_hand.arrays(costs(x, z)))
        slopes = [hand(lambda k=k: costs(x, z)[k], [], weights[k]) for k in range(2)]
        for k in range(2):
            descend(optimizers[k], weights[k], slopes[k])
    return found, [*want, *by_hand.arrays(both)]


@use
def distillation(hand):
    """A teacher that stands still, temperatures, dropout in the student: a training step with
    draws.
    """
    teacher, x = perceptron(), data(4, 4)
    student = chain((4,), layers.Dense(6, "relu"), layers.Dropout(0.3, seed=1), layers.Dense(3))

    def cost(answer, aim):
        return -ops.mean(ops.sum(ops.softmax(aim / 3) * ops.log_softmax(answer / 3), axis=1))

    inputs, weights = keras.Input((4,)), student.trainable_weights
    loss = cost(student(inputs), teacher(inputs))
    run = advex.function(
        [inputs],
        [loss],
        updates=advex.updates(keras.optimizers.SGD(0.5), loss, weights),
        training=True,
    )
    with by_hand.kept(student.variables):
        found = [run([x])[0] for _ in range(3)] + by_hand.arrays(weights)
    optimizer, want = keras.optimizers.SGD(0.5), []
    for _ in range(3):
        slopes = hand(
            lambda: cost(student(x, training=True), teacher(x)),
            [],
            weights,
            state=student.variables,
        )
        want.append(by_hand.array(cost(student(x, training=True), teacher(x))))
        descend(optimizer, weights, slopes)
    return found, [*want, *by_hand.arrays(weights)]


# Mixed precision


@mixed
def mixed_by_everything(hand):
    """Each gradient has the dtype of its symbol."""
    inputs, first, last = (
        keras.Input((4,)),
        layers.Dense(5, "tanh"),
        layers.Dense(2, dtype="float32"),
    )
    hidden = first(inputs)
    model = stirred(keras.Model(inputs, last(hidden)))
    x, asked = data(3, 4), [inputs, hidden, first.kernel, last.kernel]
    slopes = advex.gradients(model.output, asked)
    dtypes = ["float32", "float16", "float32", "float32"]
    assert [slope.dtype for slope in slopes] == dtypes
    found = alone([inputs], slopes, [x])
    inside = by_hand.arrays(keras.Model(inputs, slopes)(x))
    by_input, by_first, by_last = hand(model, [x], [first.kernel, last.kernel])
    (by_hidden,) = hand(last, [by_hand.array(first(x))])
    return [found, inside], 2 * [[by_input, by_hidden, by_first, by_last]]


@mixed
def mixed_penalty(hand):
    """Second order, and a penalty on a weight that is float32."""
    critic, x = perceptron(outputs=1), data(3, 4)
    (slope,) = advex.gradients(critic.output, critic.input)
    weights = [parts(critic)[0].kernel, parts(critic)[1].kernel]
    loss = squares(slope) + 0.1 * ops.sum(advex.symbol(weights[0]) ** 2)
    found = alone([critic.input], advex.gradients(loss, weights), [x])

    def again():
        (slope,) = by_hand.derivative(critic, [ops.convert_to_tensor(x)])
        return squares(slope) + 0.1 * ops.sum(ops.square(weights[0]))

    return found, hand(again, [], weights)


@mixed
def mixed_training(hand):
    """The loss is scaled, and the scale grows; the weights stay float32."""
    return fitted(
        lambda: keras.optimizers.LossScaleOptimizer(
            keras.optimizers.SGD(0.1), 16.0, dynamic_growth_steps=2
        ),
        hand,
    )


# For JAX: there Keras computes most things in float32 anyway, and each takes seconds to compile.


def chosen(cases, share):
    """On JAX, where each is seconds of compiling, one of ``share``; in ``make matrix`` all."""
    return (
        cases[::share]
        if by_hand.BACKEND == "jax" and os.environ.get("ADVEX_MATRIX") != "all"
        else cases
    )


def compare(pair, tolerance):
    found, want = map(tree.flatten, pair)
    assert len(found) == len(want) and any(np.any(values) for values in want)
    for number, (ours, theirs) in enumerate(zip(found, want, strict=True)):
        ours, theirs = np.asarray(ours), np.asarray(theirs)
        kinds = [(values.shape, values.dtype) for values in (ours, theirs)]
        assert kinds[0] == kinds[1], f"number {number} has {kinds[0]} instead of {kinds[1]}"
        error = np.abs(ours.astype("float64") - theirs).max() / (np.abs(theirs).max() or 1)
        assert error < tolerance, (
            f"number {number} of {len(want)} is off by {error:.1e}: {ours} instead of {theirs}"
        )


@pytest.fixture(autouse=True, scope="module")
def hurry():
    """On JAX nearly all time is compiling."""
    if by_hand.BACKEND != "jax":
        yield
        return
    import jax

    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(autouse=True)
def seeds():
    keras.utils.set_random_seed(3)


@pytest.fixture
def precisely():
    """float64 throughout."""
    before = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    if keras.backend.backend() == "jax":
        import jax

        with jax.enable_x64(True):
            yield
    else:
        yield
    keras.config.set_floatx(before[0])
    keras.config.set_dtype_policy(before[1])


@pytest.fixture
def half():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    yield
    keras.config.set_dtype_policy(before)


@pytest.mark.parametrize("case", chosen(USES, 3), ids=lambda case: case.__name__)
def test_as_the_framework_differentiates(case):
    compare(case(by_hand.gradients), 1e-4)


@pytest.mark.parametrize("case", chosen(SMOOTH, 7), ids=lambda case: case.__name__)
def test_central_differences_in_float64(case, precisely):
    compare(case(by_hand.central), 1e-6 if by_hand.BACKEND == "tensorflow" else 1e-4)


@pytest.mark.parametrize("case", MIXED, ids=lambda case: case.__name__)
def test_mixed_precision(case, half):
    compare(case(by_hand.gradients), 1e-2)
