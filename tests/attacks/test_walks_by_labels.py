"""HopSkipJump and CGBA against closed forms: the normal of a plane, the distance to it and to a
ball; 8-bit images.
"""

import math

import keras
import numpy as np
import pytest
from keras import ops

import advex
from advex.testing import stepwise
from tests.labels_data import Oracle, asking, inputs, scores

WIDE = (-4.0, 5.0)
BOTH = pytest.mark.parametrize("kind", [advex.CGBA, advex.HopSkipJump])


def plane(elements, seed=0):
    """A model whose boundary is a plane at right angles to a unit vector, and inputs at distance 1
    from it.
    """
    normal = np.random.default_rng(seed).normal(size=elements)
    normal /= np.linalg.norm(normal)
    model = keras.Sequential([keras.Input((elements,)), keras.layers.Dense(2)])
    weights = np.stack([-normal, normal], axis=1).astype("float32")
    model.layers[0].set_weights([weights, np.zeros(2, "float32")])
    x = np.random.default_rng(seed + 1).uniform(0.2, 0.8, size=(48, elements))
    x -= np.outer(x @ normal + 1.0, normal)
    return advex.Classifier(model, box=WIDE), x.astype("float32"), normal


def in_range(distance):
    return distance * (WIDE[1] - WIDE[0])


@pytest.mark.backends
@pytest.mark.parametrize("probes", [64, 256])
def test_the_normal_is_as_good_as_the_formula_says(probes):
    """cos = sqrt(2 n / (2 n + pi (d - 1))) of n probes in d dimensions."""
    elements = 100
    model, x, normal = plane(elements)
    attack = advex.HopSkipJump(steps=1000, probes=probes)
    found = np.full(len(x), np.nan)
    for seen in stepwise(attack, model, x, np.zeros(len(x), int), advex.L2()):
        memory = {name: ops.convert_to_numpy(leaf) for name, leaf in seen.rows.memory.items()}
        first = (memory["round"] == 2) & (memory["phase"] == 3) & np.isnan(found)
        found[first] = memory["normal"][first] @ normal
        if not np.isnan(found).any():
            break
    expected = math.sqrt(2 * probes / (2 * probes + math.pi * (elements - 1)))
    assert abs(found.mean() - expected) < 0.02


@pytest.mark.backends
@BOTH
def test_the_distance_to_a_plane(kind):
    model, x, _ = plane(24)
    result = kind(steps=1500)(model, x[:8], np.zeros(8, int), advex.L2())
    assert result.success.all()
    assert (in_range(result.distance) >= 1 - 1e-5).all()
    assert np.median(in_range(result.distance)) < 1.02


@BOTH
def test_the_distance_to_a_ball(kind):
    """From within: the boundary bends around the input, and the nearest point is beyond it."""
    middle, radius = np.full(24, 0.5), 1.5

    def predict(batch):
        return (np.linalg.norm(batch.reshape(len(batch), -1) - middle, axis=1) > radius).astype(int)

    drawn = np.random.default_rng(2).normal(size=(6, 24))
    x = (middle + 0.7 * drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype("float32")
    box = advex.BlackBox(predict, classes=2, box=WIDE, answers="labels")
    result = kind(steps=2000)(box, x, np.zeros(6, int), advex.L2())
    true = radius - np.linalg.norm(x - middle, axis=1)
    assert (in_range(result.distance) >= true - 1e-5).all()
    # HopSkipJump's probes are nearer, and the normal of few of them is rougher
    enough = 1.05 if kind is advex.CGBA else 1.12
    assert np.median(in_range(result.distance) / true) < enough


def test_the_cube_around_an_input():
    model, x, normal = plane(24)
    result = advex.HopSkipJump(steps=3000)(model, x[:6], np.zeros(6, int), advex.Linf())
    true = 1 / np.abs(normal).sum()
    assert (in_range(result.distance) >= true - 1e-5).all()
    assert np.median(in_range(result.distance) / true) < 1.25


@BOTH
def test_eight_bits_survive_the_file(kind, tmp_path):
    """The search looks at what a file can hold; a file is as far away as is said."""
    x, labels = inputs(8)
    whole = np.rint(x * 255).astype("uint8")
    labels = scores(whole / 255).argmax(1)
    result = kind(steps=400)(asking(Oracle()), whole, labels, advex.L2())
    assert result.success.all()
    near = kind(steps=400)(asking(Oracle()), (whole / 255).astype("float32"), labels, advex.L2())
    assert np.median(result.distance) < 1.1 * np.median(near.distance) + 0.01
    pictures = np.repeat(result.x, 3, axis=3)
    assert pictures.dtype == np.uint8
    for record in result.save(tmp_path):
        assert record["verified"]
        assert abs(record["distance"] - result.distance[record["index"]]) < 1e-6


@BOTH
def test_targets_from_data_of_their_class(kind):
    x, labels = inputs(30)
    target = (labels[:5] + 1) % 3
    goal = advex.Targeted(target)
    there = scores(x).argmax(1)
    start = advex.Others(x[5:], there[5:])
    result = kind(steps=300)(asking(Oracle()), x[:5], goal, advex.L2(), start=start)
    assert result.success.all()
    assert (scores(result.x).argmax(1) == target).all()


@BOTH
def test_what_must_not_change(kind):
    x, labels = inputs(4)
    mask = np.zeros(x.shape[1:], bool)
    mask[:, :3] = True
    result = kind(steps=200)(asking(Oracle()), x, labels, advex.L2(mask=mask))
    np.testing.assert_array_equal(result.x[:, :, 3:], x[:, :, 3:])
    assert result.success.sum() >= 3


def test_a_table_with_whole_numbers_and_groups():
    """Every point that is asked about is legal, and so is what is found."""
    drawn = np.random.default_rng(4)
    low, high = np.array([0, 0, 18, 0, 0, 0]), np.array([1, 5, 90, 1, 1, 1])
    whole, fixed = np.arange(6) == 2, np.arange(6) == 0
    domain = advex.Domain(low, high, integer=whole, one_hot=[[3, 4, 5]], fixed=fixed)
    x = np.column_stack(
        [
            drawn.uniform(size=8),
            drawn.uniform(0, 5, 8),
            drawn.integers(18, 90, 8),
            np.eye(3)[drawn.integers(3, size=8)],
        ]
    ).astype("float32")
    asked = []

    def predict(batch):
        asked.append(batch)
        return ((batch[:, 1] + batch[:, 2] / 30 + 2 * batch[:, 4]) > 4.5).astype(int)

    box = advex.BlackBox(predict, classes=2, box=domain, answers="labels")
    labels = predict(x)
    result = advex.CGBA(steps=200)(box, x, labels, advex.L2())
    assert result.success.sum() >= 6
    assert domain.holds(result.x, x).all()
    assert (np.concatenate(asked)[:, 2] % 1 == 0).all()


def test_smooth_probes_cost_little_on_a_plane_that_is_not():
    """Where the boundary has nothing to do with smooth changes the prior is turned down."""
    elements = 144
    _, x, normal = plane(elements)
    x, zeros = x[:12].reshape(-1, 12, 12, 1), np.zeros(12, int)
    far = (x.reshape(12, -1) + 2.5 * normal).astype("float32").reshape(x.shape)

    def predict(batch):
        return (batch.reshape(len(batch), -1) @ normal > 0).astype(int)

    box = advex.BlackBox(predict, classes=2, box=WIDE, answers="labels")
    prior, plain = (
        advex.CGBA(steps=2500, smooth=smooth)(box, x, zeros, advex.L2(), start=far)
        for smooth in (True, False)
    )
    with_prior, without = (np.median(in_range(one.distance)) for one in (prior, plain))
    assert without < 1.1
    assert with_prior < 1.03 * without
