"""``certify`` on models whose radii are formulas."""

import inspect
from statistics import NormalDist

import keras
import numpy as np
import pytest
from keras import ops

import advex
from advex import certify
from advex.certification import Certificate, sampling
from advex.certification.binomial import lower_bound, radius
from advex.errors import InvalidInput, InvalidType
from advex.testing import linear_data, linear_model

DIRECTION = np.sin(np.arange(1, 13))
PHI = NormalDist()


def distances(x):
    """How far the boundary of ``linear_model`` is."""
    return np.abs((x.astype("float64") - 0.5) @ DIRECTION) / np.linalg.norm(DIRECTION)


def constant(says=1, classes=3, shape=(4,)):
    """A model that says one class of everything."""
    model = keras.Sequential(
        [keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(classes)]
    )
    model.layers[-1].set_weights(
        [np.zeros((int(np.prod(shape)), classes)), np.eye(classes)[says].astype("float32")]
    )
    return model


def same(one, other):
    assert (one.chosen == other.chosen).all() and (one.counts == other.counts).all()
    assert (one.radius == other.radius).all() and (one.prediction == other.prediction).all()


# What is a formula


@pytest.mark.backends
@pytest.mark.parametrize("sigma", [0.1, 0.25, 0.5])
def test_the_radius_of_a_linear_model_is_the_distance(sigma):
    """Never more, but with probability alpha; less by what so many samples leave open."""
    (x, labels), samples = linear_data(12), 20_000
    found = certify(
        linear_model(), x, labels, sigma, samples, 1e-6, selection=1000, batch_size=4096
    )
    exact = distances(x)
    shares = np.array([PHI.cdf(far / sigma) for far in exact])
    width = 9 * np.sqrt(shares * (1 - shares) / samples)  # 4.8 to the bound, 4.2 to the draw
    width += 3e-3 * (shares > 0.99)  # the normal quantile of a rare event falls short
    right = found.chosen == labels
    assert right[shares > 0.6].all() and right.sum() >= 9
    assert (found.radius <= exact).all() and (found.radius[~right] == 0).all()
    assert (found.bound < np.where(right, shares, 1 - shares)).all()
    assert (found.bound > np.where(right, shares, 1 - shares) - width).all()
    least = [sigma * PHI.inv_cdf(max(0.5, share)) for share in shares - width]
    assert (found.radius >= np.where(right, least, 0)).all() and (found.radius > 0).sum() >= 8


@pytest.mark.backends
def test_where_all_samples_agree_the_radius_is_the_largest_there_is():
    x = np.full((3, 4), 0.5, "float32")
    found = certify(constant(), x, [1, 1, 2], sigma=0.25, samples=1000, alpha=0.001)
    most = 0.25 * PHI.inv_cdf(0.001 ** (1 / 1000))
    assert found.counts.tolist() == [1000] * 3 and found.chosen.tolist() == [1] * 3
    assert found.radius.tolist() == [most, most, 0.0]
    assert found.prediction.tolist() == [1, 1, 1] and found.correct.tolist() == [True, True, False]
    assert radius(lower_bound(100_000, 100_000, 0.001), 1) == pytest.approx(3.8115, abs=1e-4)


def test_a_model_without_an_opinion_abstains():
    weights = np.zeros((12, 2), "float32")
    weights[0] = [-1, 1]
    model = linear_model(weights, np.array([0.5, -0.5]))
    x = np.full((6, 12), 0.5, "float32")
    x += np.random.default_rng(0).uniform(0, 0.1, x.shape).astype("float32")
    x[:, 0] = 0.5
    found = certify(model, x, np.ones(6, int), samples=500)
    assert (found.prediction == -1).all() and found.abstained.all() and not found.correct.any()
    assert (found.radius == 0).all() and (found.bound <= 0.5).all() and found.accuracy() == 0
    assert "0 wrong, 6 abstained" in str(found)


@pytest.mark.backends
def test_samples_to_which_the_model_answers_nan_are_of_no_class():
    inputs = keras.Input((12,))
    first = keras.layers.Lambda(lambda x: ops.sqrt(x[:, :1] - 0.5))(inputs)  # NaN for half of all
    model = keras.Model(inputs, keras.layers.Concatenate()([first * 0 + 9, first * 0]))
    x = np.full((2, 12), 0.5, "float32")

    def predict(batch):
        return np.where(batch[:, :1] < 0.5, np.nan, [[9.0, 0.0]])

    for asked in (model, advex.BlackBox(predict, classes=2)):
        found = certify(asked, x, [0, 1], samples=2000)
        assert (found.chosen == 0).all() and (np.abs(found.counts - 1000) < 120).all()


# In which units


@pytest.mark.parametrize("levels", [False, True])
def test_sigma_and_radius_are_in_units_of_the_range(levels):
    """The same model on [0, 1], on [0, 255] and on 8-bit levels."""
    model, (x, labels) = linear_model(), linear_data(8)
    x = np.rint(x * 255).astype("uint8")
    wide = keras.Sequential(
        [keras.Input((12,)), keras.layers.Rescaling(1 / 255), *linear_model().layers]
    )
    classifier = advex.Classifier(wide, box=(0, 255))
    given = x if levels else x.astype("float32")
    found = certify(classifier, given, labels, samples=4000, alpha=1e-4)
    one = certify(model, (x / 255).astype("float32"), labels, samples=4000, alpha=1e-4)
    assert np.abs(found.bound - one.bound).max() < 0.06
    assert found.radius == pytest.approx(one.radius, abs=0.05)
    narrow = certify(model, x, labels, samples=4000, alpha=1e-4)  # levels of [0, 1]
    assert np.abs(narrow.bound - one.bound).max() < 0.06


def test_noise_comes_before_preprocess_and_is_not_clipped():
    seen = []

    def predict(batch):
        seen.append(batch)
        return np.ones(len(batch), int)

    x = np.zeros((2, 5), "float32")
    x[1] = 1
    box = advex.BlackBox(predict, classes=3, box=(-1, 1), answers="labels")
    found = certify(box, x, [1, 1], sigma=0.25, samples=500, selection=20, batch_size=50)
    assert sum(map(len, seen)) == 2 * 520 and max(map(len, seen)) <= 50
    assert found.counts.tolist() == [500, 500]
    points = np.concatenate(seen).astype("float64")
    noise = np.where(points.mean(1, keepdims=True) > 0.5, points - 1, points)
    assert noise.std() == pytest.approx(0.5, rel=0.05) and points.max() > 1.5
    halved = advex.Classifier(constant(shape=(5,)), preprocess=lambda x: x * np.float32(2))
    assert certify(halved, x, [1, 1], samples=64).correct.all()


# Rows are strangers


@pytest.mark.backends
def test_batch_size_order_and_neighbours_do_not_matter():
    model, (x, labels) = linear_model(), linear_data(19)
    whole = certify(model, x, labels, samples=700)
    for batch in (1, 20, 33, 3000):
        count = 2 if batch == 1 else 19
        part = certify(model, x[:count], labels[:count], samples=700, batch_size=batch)
        assert (part.counts == whole.counts[:count]).all()
    order = np.random.default_rng(1).permutation(19)
    mixed = certify(model, x[order], labels[order], samples=700)
    assert (mixed.counts == whole.counts[order]).all()
    alone = certify(model, x[7:8], labels[7:8], samples=700)
    assert alone.counts[0] == whole.counts[7] and alone.radius[0] == whole.radius[7]
    twice = certify(model, x[[3, 3]], labels[[3, 3]], samples=700)
    assert twice.counts[0] == twice.counts[1] == whole.counts[3]


@pytest.mark.backends
def test_the_noise_is_normal_and_new_for_every_sample():
    seen = []

    def predict(batch):
        seen.append(batch)
        return np.zeros(len(batch), int)

    box = advex.BlackBox(predict, classes=2, answers="labels")
    certify(box, np.full((3, 40), [[0.0], [0.5], [1.0]], "float32"), [0] * 3, 1.0, 1000, seed=3)
    points = np.concatenate(seen).astype("float64")
    # which row a sample is of: the mean of its noise is within 5 / sqrt(40) of nothing
    assert len(points) == 3300 and len(np.unique(points, axis=0)) == 3300
    for power, moment in ((2, 1.0), (4, 3.0)):
        spread = points - points.mean(axis=1, keepdims=True)
        assert (spread**power).mean() / (39 / 40) ** (power // 2) == pytest.approx(moment, abs=0.05)
    noise = points[300:1300] - 0.0  # those that count the first row
    assert np.abs(noise.mean(axis=0)).max() < 5 / np.sqrt(1000)
    lag = (noise[:-32] * noise[32:]).mean()  # between one unit and the next
    assert abs(lag) < 5 / np.sqrt(noise.size)
    assert np.unique(noise).size > 0.95 * noise.size


def test_another_seed_is_another_draw():
    model, (x, labels) = linear_model(), linear_data(8)
    one, other, again = (certify(model, x, labels, samples=900, seed=s) for s in (0, 1, 0))
    same(one, again)
    assert (one.counts != other.counts).any()


def test_the_class_is_chosen_by_other_samples_than_those_that_count_it():
    seen = []

    def predict(batch):
        seen.append(batch)
        return np.zeros(len(batch), int)

    box = advex.BlackBox(predict, classes=2, answers="labels")
    certify(box, np.full((1, 6), 0.5, "float32"), [0], samples=100, selection=100)
    assert len(np.unique(np.concatenate(seen), axis=0)) == 200


def test_nothing_is_compiled_twice(monkeypatch):
    traces, counted = [], sampling.Sampler._counted

    def watched(*given):
        traces.append(1)
        return counted(*given)

    monkeypatch.setattr(sampling.Sampler, "_counted", watched)
    model, (x, labels) = linear_model(), linear_data(40)
    for sigma, samples in ((0.25, 300), (0.1, 50), (0.5, 7)):
        certify(model, x, labels, sigma, samples)
    steps = len(traces)
    if keras.backend.backend() != "torch":
        assert steps <= 2


# Data and models of every kind


def test_data_in_batches_are_as_arrays():
    model, (x, labels) = linear_model(), linear_data(21)
    whole = certify(model, x, labels, samples=200)
    batches = [(x[start : start + 6], labels[start : start + 6]) for start in range(0, 21, 6)]
    same(certify(model, batches, samples=200), whole)
    same(certify(model, iter(batches), samples=200), whole)
    same(certify(model, (x, labels), samples=200), whole)
    same(certify(model, x.tolist(), labels.tolist(), samples=200), whole)

    class Data(keras.utils.PyDataset):
        def __len__(self):
            return len(batches)

        def __getitem__(self, number):
            return batches[number]

    same(certify(model, Data(), samples=200), whole)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        data = tf.data.Dataset.from_tensor_slices((x, labels)).batch(5)
        same(certify(model, data, samples=200), whole)
    same(certify(model, x, np.eye(2, dtype=int)[labels], samples=200), whole)


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_every_head(head):
    x, labels = linear_data(6)
    found, plain = (
        certify(model, x, labels, samples=300)
        for model in (linear_model(head=head), linear_model())
    )
    same(found, plain)


def test_a_black_box_of_scores_is_as_the_model_of_its_scores():
    model, (x, labels) = linear_model(), linear_data(5)
    kernel, bias = model.layers[-1].get_weights()
    for answers in ("scores", "labels"):

        def predict(batch, answers=answers):
            scores = batch @ kernel + bias
            return scores if answers == "scores" else scores.argmax(1)

        box = advex.BlackBox(predict, classes=2, answers=answers)
        same(certify(box, x, labels, samples=300), certify(model, x, labels, samples=300))


# Models that are not what they seem


def test_what_was_compiled_before_the_model_changed_takes_no_part():
    sign = [1]
    model, (x, labels) = linear_model(), linear_data(9)
    classifier = advex.Classifier(model, preprocess=lambda x: (x - 0.5) * sign[0] + 0.5)
    before = certify(classifier, x, labels, 0.1, samples=100)
    sign[0] = -1
    after = certify(classifier, x, 1 - labels, 0.1, samples=100)
    assert before.correct.sum() > 5 and after.correct.sum() > 5


def test_an_answer_that_depends_on_the_batch_is_said():
    class Relative(keras.layers.Layer):
        def call(self, x):
            return x - ops.mean(x, axis=0, keepdims=True)

    model = keras.Sequential([keras.Input((12,)), Relative(), *linear_model().layers])
    with pytest.warns(advex.errors.ModelWarning, match="depends on the rest of its batch"):
        found = certify(model, *linear_data(9), samples=10)
    assert "depends on the rest of its batch" in found.info["warnings"][0]
    assert certify(linear_model(), *linear_data(9), samples=10).info["warnings"] == []


def test_inputs_in_another_range_than_the_model_s_are_noticed(embedded):
    model, x, labels = embedded
    wide = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Rescaling(1 / 255), model])
    given = (x / 255).astype("float32")
    with pytest.warns(advex.errors.ModelWarning, match="255"):
        certify(wide, given, labels, sigma=0.05, samples=10, selection=10)


def test_no_inputs():
    found = certify(linear_model(), np.zeros((0, 12), "float32"), np.zeros(0, int))
    assert len(found) == 0 and found.radius.shape == (0,) and "no inputs" in repr(found)
    assert found.rows() == [] and "no inputs" in found._repr_html_()
    with pytest.raises(InvalidInput, match="at least one input"):
        found.accuracy()


# What is printed and drawn


def certificate():
    counts = [1000, 990, 900, 505, 1000]
    return Certificate(
        np.array([0, 1, 2, 0, 1]),
        np.array([0, 1, 2, 0, 2]),
        np.array(counts),
        0.5,
        1000,
        100,
        0.001,
        {},
    )


def test_the_curve_is_the_share_of_larger_radii():
    found = certificate()
    assert found.prediction.tolist() == [0, 1, 2, -1, 2]
    largest = found.radius[0]
    assert found.radius[2] < found.radius[1] < largest and found.radius.tolist()[3:] == [0, 0]
    assert found.accuracy() == 0.6 and found.accuracy(found.radius[1]) == 0.2
    assert found.accuracy(largest) == 0 and found.accuracy(largest - 1e-9) == 0.2
    assert found.curve.at(0.1) == found.accuracy(0.1)
    text = str(found)
    assert "60.0% of 5 inputs right and certified, 1 wrong, 1 abstained" in text
    assert "certified accuracy" in text and "sigma 0.5 of the box's range, 1,000 samples" in text
    assert repr(found) == f"Certificate(sigma 0.5: {text.splitlines()[0]})"
    assert "certified accuracy 60.0% at 0" in repr(found.curve)
    row = found.rows()[3]
    assert row["prediction"] == -1 and row["radius"] == 0 and row["counts"] == 505
    with pytest.raises(InvalidInput, match="at least 0"):
        found.accuracy(-1)


def test_the_curve_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    found = certificate()
    figure = found.curve.show(tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 1000
    axes = figure.axes[0]
    assert axes.get_ylabel() == "certified accuracy in %" and axes.get_xlabel() == "L2 radius"
    page = found._repr_html_()
    assert "<svg" in page and "right and certified" in page


# What is refused


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"sigma": 0}, "sigma must be a finite number above 0"),
        ({"sigma": -0.1}, "sigma must be"),
        ({"sigma": float("inf")}, "sigma must be"),
        ({"sigma": "a lot"}, "sigma must be a number"),
        ({"samples": 0}, "samples must be a whole number of at least 1"),
        ({"samples": 1000.5}, "samples must be"),
        ({"samples": 1e5}, r"int\(100000.0\)"),
        ({"selection": 0}, "selection must be"),
        ({"alpha": 0}, "alpha must be a finite number above 0"),
        ({"alpha": 1}, "alpha is the probability that a certificate is false"),
        ({"alpha": 1.5}, "below 1; received 1.5"),
        ({"batch_size": 0}, "batch_size must be"),
        ({"seed": 0.5}, "seed must be"),
        ({"progress": 3}, "progress must be"),
        ({"run": 3}, "run must be the name of a folder"),
        ({"run": ""}, "run must be the name of a folder"),
        ({"run": "nowhere/certified"}, "there is no .*nowhere"),
        ({"n0": 10}, "n0"),
        ({"labels": [0, 1]}, "3 inputs and 2 labels"),
        ({"labels": [0, 1, 2]}, "class"),
        ({"labels": [0, 1, -1]}, "class"),
        ({"labels": [0.5, 1, 0]}, "whole class numbers.*one class for each input alone"),
        ({"labels": ["a", "b", "c"]}, "labels must be"),
        ({"x": np.zeros((3, 11), "float32")}, "shape"),
        ({"x": np.zeros(12, "float32"), "labels": [0] * 12}, "batch axis"),
        ({"x": np.full((3, 12), 7, "float32")}, "box"),
        ({"x": np.full((3, 12), np.nan, "float32")}, "NaN"),
        ({"x": "pictures"}, "x must be an array"),
        ({"model": "model.keras"}, "model must be"),
    ],
)
def test_what_cannot_be_certified_is_refused_before_a_sample(settings, words):
    (x, labels), asked = linear_data(3), []

    def predict(batch):
        asked.append(len(batch))
        return np.zeros(len(batch), int)

    model = advex.BlackBox(predict, 2, answers="labels")
    if words == "shape":
        model = linear_model()
    given = {"model": model, "x": x, "labels": labels, "samples": 10} | settings
    with pytest.raises((InvalidInput, InvalidType), match=words):
        certify(**given)
    assert not asked


def test_models_that_are_not_about_one_class_of_one_array():
    image, shape = keras.Input((4, 4, 1)), (2, 4, 4, 1)
    x = np.zeros(shape, "float32")
    maps = keras.Model(image, keras.layers.Conv2D(3, 1)(image))
    with pytest.raises(InvalidInput, match=r"one class for each input, .*\(4, 4, 3\)"):
        certify(maps, x, [0, 0])
    flat = keras.layers.Flatten()(image)
    heads = keras.Model(image, [keras.layers.Dense(2, name=name)(flat) for name in "ab"])
    with pytest.raises(InvalidInput, match="several outputs"):
        certify(heads, x, [0, 0])
    chosen = certify(advex.Classifier(heads, output="a"), x, [0, 0], samples=10)
    assert chosen.counts.shape == (2,)
    more = keras.Input((3,), name="more")
    both = keras.layers.Dense(2)(keras.layers.Concatenate()([flat, more]))
    several = advex.Classifier(keras.Model([image, more], both), perturb=0)
    with pytest.raises(
        InvalidInput, match="one array that is the input, and here there are several"
    ):
        certify(several, (x, np.zeros((2, 3), "float32")), [0, 0])
    fixed = advex.Classifier(linear_model(), box=advex.Domain(0, 1, fixed=np.arange(12) < 3))
    with pytest.raises(InvalidInput, match="every number of an input in a box"):
        certify(fixed, *linear_data(3))
    words = keras.Input((5,), dtype="int32")
    tokens = keras.layers.Flatten()(keras.layers.Embedding(9, 2)(words))
    text = advex.Classifier(keras.Model(words, keras.layers.Dense(2)(tokens)), box=(0, 8))
    with pytest.raises((InvalidInput, InvalidType), match="int32"):
        certify(text, np.zeros((2, 5), "float32"), [0, 0])


def test_the_signature_is_the_one_that_was_promised():
    parameters = inspect.signature(certify).parameters
    assert list(parameters)[:6] == ["model", "x", "labels", "sigma", "samples", "alpha"]
    defaults = [parameters[name].default for name in ("sigma", "samples", "alpha", "selection")]
    assert defaults == [0.25, 100_000, 0.001, 100]
