"""SegPGD, SEA and the smallest change of a map, on a U-Net for shapes."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
import shapes_data

import advex
from advex.attacks import pixel_losses, sea

NET = shapes_data.trained_unet()
X, MAPS = shapes_data.images(16, 77)  # those of benchmarks/recorded/segmentation_peers.json
FEW = slice(0, 2)
BUDGET = advex.Linf(4 / 255)
PEERS = json.loads(
    (Path(__file__).parents[2] / "benchmarks/recorded/segmentation_peers.json").read_text()
)


def said(points):
    return np.asarray(keras.ops.convert_to_numpy(NET(points, training=False))).argmax(-1)


def right(points, maps):
    """By plain Keras and NumPy: the share of the pixels that count that are right, (n,)."""
    counts = maps != shapes_data.VOID
    return ((said(points) == maps) & counts).sum((1, 2)) / counts.sum((1, 2))


def iou(points, maps):
    counts, found = maps != shapes_data.VOID, said(points)
    shares = [
        ((found == c) & (maps == c) & counts).sum()
        / max(1, (((found == c) | (maps == c)) & counts).sum())
        for c in range(4)
        if (((found == c) | (maps == c)) & counts).any()
    ]
    return np.mean(shares)


def test_sea_leaves_no_more_than_its_parts_and_than_pgd_and_segpgd():
    x, maps = X[FEW], MAPS[FEW]
    goal = advex.Segmentation(maps)
    whole = advex.SEA()(NET, x, goal, BUDGET)
    left = right(whole.attempt, maps)
    np.testing.assert_allclose(whole.pixel_accuracy, left, atol=1e-12)
    np.testing.assert_allclose(whole.mean_iou, iou(whole.attempt, maps), atol=1e-12)
    done = (1 - left >= 0.99) & whole.success  # left at 99 %, as the goal says
    assert (np.abs(whole.attempt - x).max((1, 2, 3)) <= np.float32(4 / 255)).all()
    for attack in [*advex.SEA().parts.values(), advex.PGD(steps=300), advex.SegPGD(steps=300)]:
        part = attack(NET, x, goal, BUDGET)
        assert (left <= right(part.attempt, maps) + 1e-12)[~done].all(), attack


def test_sea_until_the_end_keeps_the_worst_of_all_points():
    x, maps = X[FEW], MAPS[FEW]
    goal = advex.Segmentation(maps, share=0.5)
    soon = advex.SEA(steps=20)(NET, x, goal, BUDGET)
    late = advex.SEA(steps=20)(NET, x, goal, BUDGET, until="end")
    assert soon.success.any() and (soon.gradients[soon.success] < 80).any()
    assert (late.gradients == 80).all()
    assert (late.pixel_accuracy <= soon.pixel_accuracy + 1e-12).all()
    assert (late.success >= soon.success).all()


def test_the_smallest_change_is_smaller_than_that_of_alma_prox():
    found = advex.MinimumNorm()(NET, X, advex.Segmentation(MAPS), advex.Linf())
    assert found.success.sum() >= PEERS["alma_prox"]["found"]
    assert np.median(found.distance) <= PEERS["alma_prox"]["median_linf"]
    assert (1 - right(found.x, MAPS)[found.success] >= 0.99).all()


@pytest.mark.backends
def test_pixels_that_do_not_count_are_never_attacked():
    """Whatever the model says there, and whatever their label: the same points bit for bit."""
    x, maps = X[:2], MAPS[:2]
    moved = np.where(maps == shapes_data.VOID, 7, maps)
    for attack in (advex.SegPGD(steps=3), advex.PGD(steps=3)):
        one = attack(NET, x, advex.Segmentation(maps), BUDGET)
        other = attack(NET, x, advex.Segmentation(moved, ignore=7), BUDGET)
        np.testing.assert_array_equal(one.attempt, other.attempt)
        np.testing.assert_array_equal(one.margin, other.margin)


@pytest.mark.parametrize("loss", sea.LOSSES, ids=lambda loss: loss.__name__)
def test_the_losses_by_hand(loss):
    """Against NumPy, by differences of the loss itself in float64."""
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(1, 2, 3, 4)).astype("float32")
    labels = np.array([[[0, 1, 255], [2, 3, 0]]])
    goal = advex.Segmentation(labels)

    def by_hand(z):
        z, y = z.reshape(-1, 4), labels.ravel()
        counts = y != 255
        own = np.where(counts, y, 0)
        p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
        ce = -np.log(p[np.arange(6), own])
        standing = scores.reshape(-1, 4).argmax(1) == own
        if loss is pixel_losses.masked_cross_entropy:
            value = ce * standing
        elif loss is pixel_losses.masked_spherical_margin:
            unit = z / np.linalg.norm(z, axis=1, keepdims=True)
            rest = np.where(np.arange(4) == own[:, None], -np.inf, unit).max(1)
            value = (rest - unit[np.arange(6), own]) * standing
        elif loss is pixel_losses.jensen_shannon:
            hot = np.eye(4)[own]
            mixed = (p + hot) / 2
            with np.errstate(divide="ignore", invalid="ignore"):
                first = np.where(hot > 0, hot * np.log(hot / mixed), 0).sum(1)
            value = (first + (p * np.log(p / mixed)).sum(1)) / 2
        else:
            sizes = np.bincount(own[counts], minlength=4)
            weight = 1 / np.maximum(sizes[own], 1)
            return (weight * ce)[counts].sum() / (sizes > 0).sum()
        return value[counts].sum() / counts.sum()

    from advex import _backend

    bound = goal.check(1, 4).bound(
        {k: keras.ops.convert_to_tensor(v) for k, v in goal.rows().items()}
    )
    _, slope, _ = _backend.value_and_gradient(
        lambda z: (loss(z, bound), z), keras.ops.convert_to_tensor(scores)
    )
    slope, wide = keras.ops.convert_to_numpy(slope), scores.astype("float64")
    for place in np.ndindex(scores.shape):
        step = np.zeros_like(wide)
        step[place] = 1e-5
        expected = (by_hand(wide + step) - by_hand(wide - step)) / 2e-5
        np.testing.assert_allclose(slope[place], expected, atol=2e-5)


def test_segpgd_turns_from_standing_pixels_to_all():
    """The weights of its first and of its last step, by the slope of each pixel's own score."""
    scores = np.array([[[[3.0, 0.0], [0.0, 1.0]]]], "float32")  # right, wrong
    goal = advex.Segmentation(np.zeros((1, 1, 2), int)).check(1, 2)
    bound = goal.bound({k: keras.ops.convert_to_tensor(v) for k, v in goal.rows().items()})
    from advex import _backend

    for share, weights in [(1.0, (1.0, 0.0)), (0.75, (0.75, 0.25))]:
        loss = pixel_losses.weighed(keras.ops.convert_to_tensor(np.array([share], "float32")))
        _, slope, _ = _backend.value_and_gradient(
            lambda z, loss=loss: (loss(z, bound), z), keras.ops.convert_to_tensor(scores)
        )
        slope = keras.ops.convert_to_numpy(slope)[0, 0, :, 1]
        p = 1 / (1 + np.exp([3.0, -1.0]))
        np.testing.assert_allclose(slope, np.array(weights) * p / 2, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("attack", [advex.SEA(), advex.SegPGD()], ids=["SEA", "SegPGD"])
def test_another_goal_is_refused_with_the_way_out(attack):
    with pytest.raises(advex.errors.InvalidType, match=r"advex.Segmentation\(labels\)"):
        attack(NET, X, MAPS[:, 0, 0] % 4, BUDGET)


def test_pictures_show_both_maps():
    result = advex.SegPGD(steps=2)(NET, X[:2], advex.Segmentation(MAPS[:2]), BUDGET)
    sheet = result.show()
    plain = advex.images.sheet([[(np.zeros((32, 32, 3), "uint8"), "a")] * 5], side=112)
    assert sheet.width == plain.width
    assert "data:image/png" in result._repr_html_()
