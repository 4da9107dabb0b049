"""Small networks and data for the tests of training."""

import keras
import numpy as np
from keras import layers

import advex

LOGITS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
LINF = advex.Linf(0.1)


def data(count=64, seed=0):
    """Inputs (n, 6, 6, 3) whose class is the brightest quarter of their red channel."""
    random = np.random.default_rng(seed)
    x = random.uniform(0.2, 0.6, size=(count, 6, 6, 3)).astype("float32")
    labels = random.integers(0, 4, count)
    for row, label in enumerate(labels):
        down, right = divmod(int(label), 2)
        x[row, 3 * down : 3 * down + 3, 3 * right : 3 * right + 3, 0] += 0.3
    return x, labels


def network(*more, seed=0, normalised=True, dropout=0.0, end=None, units=4):
    """A small network with all that may go wrong in a search."""
    keras.utils.set_random_seed(seed)
    inside = [layers.Conv2D(4, 3)]
    inside += [layers.BatchNormalization()] if normalised else []
    inside += [layers.ReLU(), layers.Flatten()]
    inside += [layers.Dropout(dropout)] if dropout else []
    made = keras.Sequential(
        [keras.Input((6, 6, 3)), *more, *inside, layers.Dense(units, activation=end)]
    )
    random = np.random.default_rng(seed)  # backends draw other weights
    for weight in made.trainable_weights:
        if len(weight.shape) > 1:
            reach = np.sqrt(6 / (np.prod(weight.shape[:-1]) + weight.shape[-1]))
            weight.assign(random.uniform(-reach, reach, weight.shape))
    return made


def compiled(model, rate=0.05, **settings):
    settings.setdefault("loss", LOGITS)
    model.compile(keras.optimizers.SGD(rate, momentum=0.9), **settings)
    return model


def state(model):
    """All numbers that a step may change, as bytes."""
    slots = model.optimizer.variables if getattr(model, "optimizer", None) else []
    return [keras.ops.convert_to_numpy(each.value).tobytes() for each in [*model.variables, *slots]]
