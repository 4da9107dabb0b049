"""Pictures of several sizes in one call: grouped by shape, results in order, compiled once each."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import advex
from advex import _backend
from advex.errors import InvalidInput

BUDGET = advex.Linf(20 / 255)


@pytest.fixture(scope="module")
def model():
    """A model for pictures of any size whose scores differ from picture to picture."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((None, None, 1))
    hidden = layers.Conv2D(8, 3, activation="relu", padding="same")(inputs)
    top = layers.Dense(3)
    made = keras.Model(inputs, top(layers.GlobalAveragePooling2D()(hidden)))
    every = np.concatenate([scores(made, x) for x in pictures(20)])
    top.set_weights([top.get_weights()[0], -every.mean(axis=0)])
    return made


def pictures(count, sizes=20):
    generator = np.random.default_rng(0)
    shapes = [(10 + number, 12 + number * 7 % 9, 1) for number in range(sizes)]
    lowest = generator.integers(0, 200, count)
    return [
        generator.integers(low, 256, shapes[number % sizes]).astype("uint8")
        for number, low in enumerate(lowest)
    ]


def scores(model, x):
    return np.asarray(ops.convert_to_numpy(model(ops.convert_to_tensor(x[None] / np.float32(255)))))


def labels_of(model, x):
    return np.array([int(scores(model, picture).argmax()) for picture in x])


@pytest.fixture
def counted(monkeypatch):
    """How often something was traced for compilation."""
    count, real = [0], _backend.compiled

    def compiled(function, *rest):
        def traced(*tensors):
            count[0] += 1
            return function(*tensors)

        return real(traced, *rest)

    monkeypatch.setattr(_backend, "compiled", compiled)
    return count


@pytest.mark.skipif(not _backend.TRACED, reason="nothing is compiled")
def test_200_pictures_of_20_sizes_cost_20_compilations_and_then_none(model, counted):
    x = pictures(200)
    labels = labels_of(model, x)
    first = advex.PGD(steps=5)(model, x, labels, BUDGET)
    assert 0 < counted[0] <= 20
    counted[0] = 0
    again = advex.PGD(steps=5)(model, x, labels, BUDGET)
    assert counted[0] == 0
    assert all(map(np.array_equal, first.x, again.x)) and 0 < first.success.sum() < 200


@pytest.mark.backends
def test_each_row_is_what_it_is_alone(model):
    x = pictures(9, 3)
    labels = labels_of(model, x)
    result = advex.PGD(steps=5)(model, x, labels, BUDGET)
    assert [found.shape for found in result.x] == [picture.shape for picture in x]
    for row, picture in enumerate(x):
        alone = advex.PGD(steps=5)(model, picture[None], labels[row : row + 1], BUDGET)
        assert np.array_equal(alone.x[0], result.x[row])
        for name in ("status", "success", "prediction", "distance", "gradients", "queries"):
            assert getattr(alone, name)[0] == getattr(result, name)[row]
        after = scores(model, result.x[row]).argmax()
        assert (after != labels[row]) == result.success[row]
    assert len(result) == 9 and len(result.rows()) == 9
    assert sum(line["gradients"] for line in result.info["stages"]) == result.gradients.sum()


def test_a_budget_a_start_and_a_goal_for_each(model):
    x = pictures(8, 2)
    labels = labels_of(model, x)
    epsilons = np.linspace(4, 40, 8) / 255
    result = advex.PGD(steps=5)(model, x, labels, advex.Linf(epsilons))
    moved = [np.abs(one.astype(int) - other).max() for one, other in zip(result.x, x, strict=True)]
    assert (np.array(moved) <= epsilons * 255 + 1e-9).all()
    found = advex.FMN(steps=30)(model, x, labels, advex.Linf())
    nearer = advex.FMN(steps=30)(model, x, labels, advex.Linf(), start=found)
    assert (nearer.distance <= found.distance).all()
    own = advex.PGD(steps=5)(model, x, None, BUDGET)
    assert np.array_equal(own.goal.labels, labels)


def test_progress_is_that_of_one_call(model):
    told = []
    x = pictures(8, 3)
    result = advex.PGD(steps=3)(model, x, None, BUDGET, progress=lambda *now: told.append(now))
    assert {total for _, total, _ in told} == {8}
    assert told[-1] == (8, 8, result.success.sum())
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)


def test_a_folder(model, tmp_path):
    x = pictures(5, 3)
    for number, picture in enumerate(x):
        advex.images.write(tmp_path / f"{number}.png", picture, overwrite=True)
    result = advex.PGD(steps=5)(model, tmp_path, None, advex.Linf(40 / 255))
    assert all(map(np.array_equal, result.original, x))
    files = result.save(tmp_path / "out")
    assert len(files) == result.success.sum() > 0 and all(file.verified for file in files)
    assert result.show().width > 100 and "<img" in result._repr_html_()
    (tmp_path / "none").mkdir()
    with pytest.raises(InvalidInput, match="no pictures in it"):
        advex.PGD()(model, tmp_path / "none", None, BUDGET)


def test_sizes_that_the_model_does_not_take():
    keras.utils.set_random_seed(0)
    fixed = keras.Sequential([keras.Input((10, 12, 1)), layers.Flatten(), layers.Dense(3)])
    with pytest.raises(InvalidInput, match=r"takes x of shape \(n, 10, 12, 1\)"):
        advex.PGD()(fixed, pictures(3, 3), None, BUDGET)
