"""Attacks that look for the smallest change, where the smallest change is a formula; and what they have in common."""

import itertools

import keras
import numpy as np
import pytest

import advex
from advex.errors import InvalidInput, InvalidType
from advex.testing import check_attack, linear_data, linear_model, walk

JAX = keras.backend.backend() == "jax"  # there a compilation takes longer than all the rest
NORMS = {"linf": advex.Linf, "l2": advex.L2, "l1": advex.L1, "l0": advex.L0}
SHAPE = (4, 2, 2)
COUNT = 1000


def measured(delta, norm):
    delta = np.abs(delta.reshape(len(delta), -1).astype("float64"))
    return {"linf": delta.max(1), "l2": np.sqrt(np.square(delta).sum(1)), "l1": delta.sum(1), "l0": (delta > 0).sum(1)}[norm]


def smallest(normal, x, rise, norm):
    """Size of the smallest step inside [0, 1] along which ``normal`` gains ``rise`` > 0, inf where there is none; float64: (n,)."""
    weight, free = np.abs(normal), np.where(normal > 0, 1 - x, x)
    gain = weight * free
    reachable = gain.sum(1) > rise
    if norm == "l0":
        ordered = -np.sort(-gain, axis=1)
        return np.where(reachable, 1 + (np.cumsum(ordered, 1) <= rise[:, None]).sum(1), np.inf)
    if norm == "l1":
        order = np.argsort(-weight, axis=1, kind="stable")
        ordered, room = np.take_along_axis(weight, order, 1), np.take_along_axis(free, order, 1)
        before = np.cumsum(ordered * room, 1) - ordered * room
        spent = np.clip((rise[:, None] - before) / np.maximum(ordered, 1e-300), 0, room)
        return np.where(reachable, spent.sum(1), np.inf)
    low, high = np.zeros(len(x)), np.full(len(x), 1e9)
    for _ in range(200):
        middle = (low + high) / 2
        moved = np.minimum(middle[:, None] * (weight if norm == "l2" else 1.0), free)
        enough = (weight * moved).sum(1) >= rise
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    moved = np.minimum(high[:, None] * (weight if norm == "l2" else 1.0), free)
    return np.where(reachable, measured(np.where(weight > 0, moved, 0), norm), np.inf)


@pytest.fixture(scope="module")
def three_classes():
    """A model of three classes, inputs near the middle of the box and all over it, how far each other class is per norm."""
    generator = np.random.default_rng(11)
    weights = generator.normal(size=(16, 3)).astype("float32")
    weights[:, 1] = np.sign(weights[:, 1])  # dense: near in Linf
    weights[4:, 2] *= 0.2  # a few large elements: near in L1 and L0
    bias = (-np.full(16, 0.5) @ weights).astype("float32")
    dense = keras.layers.Dense(3)
    model = keras.Sequential([keras.Input(SHAPE), keras.layers.Flatten(), dense])
    dense.set_weights([weights, bias])
    spread = np.repeat([0.05, 0.5], COUNT // 2)[:, None]
    x = np.clip(0.5 + generator.uniform(-spread, spread, size=(COUNT, 16)), 0, 1).astype("float32")
    x[-100:] = np.round(x[-100:])
    logits = x.astype("float64") @ weights.astype("float64") + bias
    labels, every = logits.argmax(1), np.arange(COUNT)
    wide = weights.astype("float64")
    distances = {
        norm: np.stack(
            [
                smallest((wide[:, other] - wide[:, labels]).T, x, logits[every, labels] - logits[every, other], norm)
                for other in ((labels + 1) % 3, (labels + 2) % 3)
            ]
        )
        for norm in NORMS
    }
    return model, x.reshape(-1, *SHAPE), labels, distances


def test_the_nearest_class_depends_on_the_norm(three_classes):
    nearest = {norm: distances.argmin(0) for norm, distances in three_classes[3].items()}
    for one, other in itertools.combinations(nearest, 2):
        assert (nearest[one] != nearest[other]).sum() > 20, (one, other)
    saturated = (three_classes[1] == 0) | (three_classes[1] == 1)
    assert saturated.reshape(COUNT, -1).any(1).sum() >= 100
