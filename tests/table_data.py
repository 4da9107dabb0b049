"""A table like those of the literature on credit: bounds, types, what may not change, a group, two
equalities and an inequality; and a small network that was trained on it.
"""

import keras
import numpy as np
from keras import layers, ops

import advex

NAMES = [
    "age",
    "own",
    "rent",
    "other",
    "income",
    "loan",
    "months",
    "rate",
    "payment",
    "debt",
    "total",
]
AGE, OWN, RENT, OTHER, INCOME, LOAN, MONTHS, RATE, PAYMENT, DEBT, TOTAL = range(11)
FIXED = np.isin(np.arange(11), [AGE, DEBT])
WHOLE = np.isin(np.arange(11), [AGE, MONTHS])
GROUP = [OWN, RENT, OTHER]


def repair(x):
    """The payment of a month follows from the loan, all debt from the loan and the old debt."""
    parts = ops.split(x, 11, axis=1)
    parts[PAYMENT] = parts[LOAN] / parts[MONTHS] * (1 + parts[RATE])
    parts[TOTAL] = parts[LOAN] + parts[DEBT]
    return ops.concatenate(parts, axis=1)


def valid(x):
    """Both equalities to the cent of a thousandth, and no payment above the month's income."""
    payment = x[:, LOAN] / x[:, MONTHS] * (1 + x[:, RATE])
    return (
        (abs(x[:, PAYMENT] - payment) < 1e-5)
        & (abs(x[:, TOTAL] - x[:, LOAN] - x[:, DEBT]) < 1e-5)
        & (x[:, PAYMENT] <= x[:, INCOME] / 12)
    )


def rows(count, seed=0):
    """Features (n, 11) in float64 and labels (n,), all legal."""
    random = np.random.default_rng(seed)
    x = np.zeros((4 * count, 11))
    x[:, AGE] = random.integers(18, 80, len(x))
    x[np.arange(len(x)), 1 + random.integers(3, size=len(x))] = 1
    x[:, INCOME] = random.uniform(12e3, 12e4, len(x))
    x[:, LOAN] = random.uniform(1e3, 4e4, len(x))
    x[:, MONTHS] = random.integers(6, 61, len(x))
    x[:, RATE] = random.uniform(0.02, 0.2, len(x))
    x[:, DEBT] = random.uniform(0, 2e4, len(x))
    x[:, PAYMENT] = x[:, LOAN] / x[:, MONTHS] * (1 + x[:, RATE])
    x[:, TOTAL] = x[:, LOAN] + x[:, DEBT]
    x = x[valid(x)][:count]
    risk = x[:, TOTAL] / 3e4 + x[:, PAYMENT] / 1e3 - x[:, INCOME] / 4e4 - x[:, OWN] + x[:, RATE] * 5
    return x, (risk > np.median(risk)).astype("int64")


def domain():
    low, high = np.zeros(11), np.ones(11)
    low[[AGE, INCOME, LOAN, MONTHS, RATE]] = 18, 12e3, 1e3, 6, 0.02
    high[[AGE, INCOME, LOAN, MONTHS, RATE]] = 80, 12e4, 4e4, 60, 0.2
    high[[PAYMENT, DEBT, TOTAL]] = 1e4, 2e4, 6e4
    return advex.Domain(low, high, FIXED, WHOLE, [GROUP], repair, valid)


def broken(x, before):
    """Which rows of ``x`` break which rule, by NumPy alone."""
    d = domain()
    payment = x[:, LOAN] / x[:, MONTHS] * (1 + x[:, RATE])
    group = x[:, GROUP]
    return {
        "bounds": ((x < d.low) | (x > d.high)).any(axis=1),
        "fixed": (x[:, FIXED] != before[:, FIXED]).any(axis=1),
        "whole numbers": (x[:, WHOLE] != np.rint(x[:, WHOLE])).any(axis=1),
        "group": ((group == 1).sum(axis=1) != 1) | ((group == 0).sum(axis=1) != 2),
        "payment": abs(x[:, PAYMENT] - payment) >= 1e-5,
        "total": abs(x[:, TOTAL] - x[:, LOAN] - x[:, DEBT]) >= 1e-5,
        "payment within income": x[:, PAYMENT] > x[:, INCOME] / 12,
    }


def scaled_model(epochs=12):
    """A network on features from 0 to 1, trained, and its first layer that scales them."""
    keras.utils.set_random_seed(0)
    x, labels = rows(2000, seed=1)
    d = domain()
    model = keras.Sequential(
        [
            keras.Input((11,)),
            layers.Dense(24, activation="relu"),
            layers.Dense(24, activation="relu"),
            layers.Dense(2),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss)
    model.fit((x - d.low) / (d.high - d.low), labels, epochs=epochs, batch_size=64, verbose=0)
    return model


def scale(x):
    d = domain()
    low = ops.convert_to_tensor(d.low.astype("float32"))
    return (ops.convert_to_tensor(x) - low) / ops.convert_to_tensor(
        (d.high - d.low).astype("float32")
    )
