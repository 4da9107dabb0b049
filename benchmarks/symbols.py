"""What ``advex.function`` costs beside the same written by hand: ``tf.function`` with tapes,
``jax.jit``, torch's autograd.

``KERAS_BACKEND=... python benchmarks/symbols.py``. Loss and input gradient; activation, input and
weights; ten rows of a Jacobian; a training step with Adam: on a convolutional net, interleaved,
medians of the ratios of neighbours. Then the calls of a model so small that nothing counts but the
calling, in milliseconds more than by hand; and what 2,000 calls with five batch sizes leave behind.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from common import machine, table, versions
from keras import layers, ops

import advex

BACKEND = keras.backend.backend()


def net(small: bool) -> Any:
    """The model that is measured, with logits; the activation that is asked for comes out, too."""
    keras.utils.set_random_seed(0)
    image = keras.Input((4,) if small else (32, 32, 3))
    if small:
        hidden = layers.Dense(8, "tanh")(image)
        return keras.Model(image, [layers.Dense(10)(hidden), hidden])
    x = image
    for width in (32, 32, 64):
        x = layers.Conv2D(width, 3, padding="same", activation="relu")(x)
    hidden = layers.MaxPooling2D()(x)
    x = layers.Conv2D(64, 3, padding="same", activation="relu")(hidden)
    return keras.Model(image, [layers.Dense(10)(layers.GlobalAveragePooling2D()(x)), hidden])


def cross_entropy(labels: Any, logits: Any) -> Any:
    """The summed cross-entropy, alike on both sides."""
    return ops.sum(ops.sparse_categorical_crossentropy(labels, logits, from_logits=True))


# By hand: each backend has the same three functions.


def by_tensorflow(model: Any) -> dict[str, Callable[..., Any]]:
    """tf.function and tf.GradientTape."""
    import tensorflow as tf

    shape = (None, *model.input_shape[1:])
    specs = [tf.TensorSpec(shape), tf.TensorSpec((None,), "int32")]
    weights = [v.value for v in model.trainable_variables]
    head = keras.Model(model.outputs[1], model.outputs[0])
    trunk = keras.Model(model.input, model.outputs[1])
    optimizer = keras.optimizers.Adam(1e-4)
    optimizer.build(model.trainable_variables)

    @tf.function(input_signature=specs)
    def gradient(x: Any, y: Any) -> Any:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            loss = cross_entropy(y, model(x, training=False)[0])
        return loss, tape.gradient(loss, x)

    @tf.function(input_signature=specs)
    def groups(x: Any, y: Any) -> Any:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([x, *weights])
            hidden = trunk(x, training=False)
            tape.watch(hidden)
            loss = cross_entropy(y, head(hidden, training=False))
        return loss, *tape.gradient(loss, [x, hidden, *weights])

    @tf.function(input_signature=specs[:1])
    def rows(x: Any) -> Any:
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch(x)
            columns = tf.unstack(model(x, training=False)[0], axis=1)
        return tf.stack([tape.gradient(column, x) for column in columns], 1)

    @tf.function(input_signature=specs)
    def train(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = cross_entropy(y, model(x, training=True)[0])
        optimizer.apply(tape.gradient(loss, weights), model.trainable_variables)
        return loss

    def asked(run: Any) -> Callable[..., Any]:
        return lambda *a: [np.array(v) for v in tf.nest.flatten(run(*map(tf.convert_to_tensor, a)))]

    return {
        "gradient": asked(gradient),
        "groups": asked(groups),
        "rows": asked(rows),
        "train": asked(train),
    }


def by_jax(model: Any) -> dict[str, Callable[..., Any]]:
    """jax.jit, jax.value_and_grad, jax.vjp."""
    import jax
    import jax.numpy as jnp

    head = keras.Model(model.outputs[1], model.outputs[0])
    trunk = keras.Model(model.input, model.outputs[1])
    optimizer = keras.optimizers.Adam(1e-4)
    optimizer.build(model.trainable_variables)
    trainable = [v.value for v in model.trainable_variables]
    other = [v.value for v in model.non_trainable_variables]
    split = len(trunk.trainable_variables)
    state = {"trainable": trainable, "optimizer": [v.value for v in optimizer.variables]}

    def logits(weights: Any, x: Any) -> Any:
        return model.stateless_call(weights, other, x, training=False)[0][0]

    @jax.jit
    def gradient(weights: Any, x: Any, y: Any) -> Any:
        return jax.value_and_grad(lambda x: cross_entropy(y, logits(weights, x)))(x)

    @jax.jit
    def groups(weights: Any, x: Any, y: Any) -> Any:
        def loss(x: Any, shift: Any, weights: Any) -> Any:
            hidden = trunk.stateless_call(weights[:split], [], x, training=False)[0] + shift
            return cross_entropy(
                y, head.stateless_call(weights[split:], [], hidden, training=False)[0]
            )

        shape = (x.shape[0], *model.outputs[1].shape[1:])
        return jax.value_and_grad(loss, (0, 1, 2))(x, jnp.zeros(shape), weights)

    @jax.jit
    def rows(weights: Any, x: Any) -> Any:
        _, pull = jax.vjp(lambda x: logits(weights, x), x)
        seeds = jnp.repeat(jnp.eye(10)[:, None], len(x), axis=1)
        return jnp.moveaxis(jax.vmap(pull)(seeds)[0], 0, 1)

    @jax.jit
    def train(weights: Any, slots: Any, x: Any, y: Any) -> Any:
        def loss(weights: Any) -> Any:
            return cross_entropy(y, model.stateless_call(weights, other, x, training=True)[0][0])

        value, slopes = jax.value_and_grad(loss)(weights)
        return value, *optimizer.stateless_apply(slots, slopes, weights)

    def step(x: Any, y: Any) -> Any:
        value, state["trainable"], state["optimizer"] = train(
            state["trainable"], state["optimizer"], x, y
        )
        return [np.array(value)]

    def asked(run: Any) -> Callable[..., Any]:
        return lambda *a: [
            np.array(v) for v in jax.tree.leaves(run(trainable, *map(jnp.asarray, a)))
        ]

    return {
        "gradient": asked(gradient),
        "groups": asked(groups),
        "rows": asked(rows),
        "train": step,
    }


def by_torch(model: Any) -> dict[str, Callable[..., Any]]:
    """torch.autograd."""
    import torch

    weights = [v.value for v in model.trainable_variables]
    optimizer = keras.optimizers.Adam(1e-4)
    optimizer.build(model.trainable_variables)

    def given(x: Any) -> Any:
        return torch.as_tensor(x).requires_grad_(True)

    def arrays(values: Any) -> list[Any]:
        return [value.detach().numpy().copy() for value in values]

    def gradient(x: Any, y: Any) -> Any:
        x = given(x)
        loss = cross_entropy(torch.as_tensor(y), model(x, training=False)[0])
        return arrays([loss, *torch.autograd.grad(loss, [x])])

    def groups(x: Any, y: Any) -> Any:
        x = given(x)
        logits, hidden = model(x, training=False)
        loss = cross_entropy(torch.as_tensor(y), logits)
        return arrays([loss, *torch.autograd.grad(loss, [x, hidden, *weights])])

    def rows(x: Any) -> Any:
        x = given(x)
        sums = model(x, training=False)[0].sum(0)
        found = [torch.autograd.grad(total, x, retain_graph=True)[0] for total in sums]
        return arrays([torch.stack(found, 1)])

    def train(x: Any, y: Any) -> Any:
        loss = cross_entropy(torch.as_tensor(y), model(torch.as_tensor(x), training=True)[0])
        slopes = torch.autograd.grad(loss, weights)
        with torch.no_grad():
            optimizer.apply(slopes, model.trainable_variables)
        return arrays([loss])

    return {"gradient": gradient, "groups": groups, "rows": rows, "train": train}


BY_HAND = {"tensorflow": by_tensorflow, "jax": by_jax, "torch": by_torch}


def by_advex(model: Any) -> dict[str, Callable[..., Any]]:
    """The same by symbols."""
    x, y = model.input, keras.Input((), dtype="int32")
    logits, hidden = model.outputs
    loss, weights = cross_entropy(y, logits), model.trainable_variables
    step = advex.updates(keras.optimizers.Adam(1e-4), loss, weights)
    return {
        "gradient": run(advex.function([x, y], [loss, *advex.gradients(loss, x)])),
        "groups": run(
            advex.function([x, y], [loss, *advex.gradients(loss, [x, hidden, *weights])])
        ),
        "rows": run(advex.function([x], advex.jacobian(logits, x))),
        "train": run(advex.function([x, y], [loss], updates=step, training=True)),
    }


def run(function: Callable[..., Any]) -> Callable[..., Any]:
    """With arguments instead of a list."""
    return lambda *arrays: function(list(arrays))


def seconds(call: Callable[..., Any], arguments: tuple[Any, ...], repeat: int = 1) -> float:
    """Of one call."""
    start = time.perf_counter()
    for _ in range(repeat):
        call(*arguments)
    return (time.perf_counter() - start) / repeat


def compared(
    name: str, ours: Any, theirs: Any, arguments: tuple[Any, ...], rounds: int, repeat: int = 1
) -> list[str]:
    """A line of the table; the first results are compared, too."""
    for one, other in zip(ours(*arguments), theirs(*arguments), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-3, atol=1e-4 * np.abs(other).max())
    ours(*arguments), theirs(*arguments)
    pairs = []
    for number in range(rounds):
        order = (ours, theirs) if number % 2 else (theirs, ours)
        took = {id(call): seconds(call, arguments, repeat) for call in order}
        pairs.append((took[id(ours)], took[id(theirs)]))
    mine, hand = (float(np.median(column)) * 1e3 for column in zip(*pairs, strict=True))
    ratio = np.median([one / other for one, other in pairs])
    return [name, f"{mine:.3f}", f"{hand:.3f}", f"{ratio:.3f}", f"{mine - hand:+.3f}"]


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--calls", type=int, default=2000)
    options = parser.parse_args(argv)
    print(
        f"{machine()}\n{versions()}\nbackend {BACKEND}, batch {options.batch}, {options.rounds}"
        f" rounds, medians\n"
    )
    generator = np.random.default_rng(0)
    lines = []
    for small in (False, True):
        size = (4,) if small else (32, 32, 3)
        x = generator.random((options.batch, *size), dtype="float32")
        y = generator.integers(0, 10, options.batch).astype("int32")
        ours, theirs = by_advex(net(small)), BY_HAND[BACKEND](net(small))
        for name in ours:
            arguments = (x,) if name == "rows" else (x, y)
            title = f"{'tiny' if small else 'net'}, {name}"
            lines.append(
                compared(
                    title, ours[name], theirs[name], arguments, options.rounds, 50 if small else 1
                )
            )
    print(table(("what", "advex, ms", "by hand, ms", "ratio", "ms more"), lines))

    ours = by_advex(net(small=True))
    traces = 0

    class Counting(layers.Layer):
        def call(self, x: Any) -> Any:
            nonlocal traces
            traces += 1
            return x

    image = keras.Input((4,))
    logits = layers.Dense(10)(Counting()(image))
    counted = advex.function([image], [logits, *advex.gradients(logits, image)])
    sizes = (1, 7, 32, 33, 128)
    for size in sizes:
        counted([generator.random((size, 4), dtype="float32")])
    before, peak = traces, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for call in range(options.calls):
        counted([generator.random((sizes[call % 5], 4), dtype="float32")])
        ours["train"](generator.random((32, 4), dtype="float32"), np.zeros(32, "int32"))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) / 1024
    again = (
        "as often as it is called: nothing is compiled"
        if BACKEND == "torch"
        else f"{traces - before} times"
    )
    print(
        f"\n{options.calls} calls over five batch sizes: traced anew {again}; {grown:.1f} MiB grown"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
