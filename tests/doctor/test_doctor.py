"""The doctor: flags every model built to deceive, keeps quiet about honest ones, and says what it
could not look at.
"""

import json
import random
import warnings

import keras
import numpy as np
import pytest
from conftest import SHARED
from keras import layers, ops

import advex
from advex import zoo
from advex.doctor import CHECKS, Diagnosis, Finding, diagnose, random_search
from advex.doctor.checks import many, room
from advex.doctor.examination import with_limit
from advex.errors import InvalidInput, InvalidType
from advex.testing import linear_data, linear_model, small_network

BACKEND = keras.backend.backend()
backends = pytest.mark.backends
IDS = [f"D{number}" for number in range(1, 16)]


@pytest.fixture
def quick(monkeypatch):
    """A shorter random search, where it is not what matters."""
    monkeypatch.setattr(random_search, "SQUARE_QUERIES", 60)


@pytest.fixture(scope="module")
def linear():
    """One model for many tests: what is compiled for it stays."""
    return linear_model()


def flags(diagnosis):
    return {flag.id for flag in diagnosis.flags}


def status(diagnosis):
    return {finding.id: finding.status for finding in diagnosis.findings}


# Six ways to deceive


class Quantise(layers.Layer):
    """Rounds inputs to a few levels."""

    def __init__(self, levels=8):
        super().__init__()
        self.levels = levels

    def call(self, x):
        return ops.round(x * (self.levels - 1)) / (self.levels - 1)


class Noise(layers.Layer):
    """Random at inference."""

    def __init__(self, deviation):
        super().__init__()
        self.deviation, self.source = deviation, keras.random.SeedGenerator(1)

    def call(self, x):
        return x + self.deviation * keras.random.normal(ops.shape(x), seed=self.source)


class Winners(layers.Layer):
    """k-winners-take-all: all but the largest activations are zero."""

    def __init__(self, share):
        super().__init__()
        self.share = share

    def call(self, x):
        values = ops.reshape(x, (-1, int(np.prod(x.shape[1:]))))
        least = ops.top_k(values, max(1, int(self.share * values.shape[1])))[0][:, -1:]
        return ops.reshape(ops.where(values >= least, values, 0.0), (-1, *x.shape[1:]))


class Sine(layers.Layer):
    """A ripple on the input, too fine to see and steeper than all else."""

    def __init__(self, frequency, size):
        super().__init__()
        self.frequency, self.size = frequency, size

    def call(self, x):
        return x + self.size * ops.sin(self.frequency * x)


class Backwards(layers.Layer):
    """The input, with minus its gradient."""

    def call(self, x):
        return 2 * ops.stop_gradient(x) - x


def before(model, layer):
    x = keras.Input(model.input_shape[1:])
    return keras.Model(x, model(layer(x)))


def after(model, layer):
    return keras.Model(model.inputs, layer(model.outputs[0]))


def with_winners(model, share):
    x = start = keras.Input(model.input_shape[1:])
    for layer in (
        model.layers[1:] if isinstance(model.layers[0], layers.InputLayer) else model.layers
    ):
        x = layer(x)
        if isinstance(layer, layers.ReLU):
            x = Winners(share)(x)
    return keras.Model(start, x)


def constant(model, label):
    dense = layers.Dense(model.output_shape[-1], kernel_initializer="zeros")
    same = keras.Sequential([keras.Input(model.input_shape[1:]), layers.Flatten(), dense])
    dense.set_weights(
        [dense.get_weights()[0], 3.0 * np.eye(model.output_shape[-1], dtype="float32")[label] - 1]
    )
    return same


DECEIVERS = {
    "logits times 4096": (lambda model: after(model, layers.Rescaling(4096.0)), {"D2"}),
    "8 levels": (lambda model: before(model, Quantise()), {"D1", "D8"}),
    "noise": (lambda model: before(model, Noise(0.05)), {"D4"}),
    "winners take all": (lambda model: with_winners(model, 0.2), {"D3"}),
    "sine": (lambda model: before(model, Sine(3000.0, 0.1)), {"D3"}),
    "constant": (lambda model: constant(model, 1), {"D1", "D9", "D10"}),
}


@pytest.mark.parametrize(
    ("name", "budget"),
    [(name, advex.Linf(0.1 if number % 2 else 8 / 255)) for number, name in enumerate(DECEIVERS)],
    ids=str,
)
def test_every_deceiver_is_flagged(embedded, name, budget):
    model, images, labels = embedded
    build, expected = DECEIVERS[name]
    found = diagnose(build(model), (images / 255).astype("float32"), labels, budget)
    assert expected <= flags(found), found
    assert all(flag.means and flag.advice for flag in found.flags)
    if found["D1"].measure.get("missing"):
        assert "not differentiable" in found["D1"].found
        skipped = [finding.id for finding in found.findings if finding.status == "not run"]
        assert skipped == ["D2", "D3", "D7", "D9", "D10", "D11", "D12"]
        assert found["D2"].found == "the model has no gradient, see D1"


# Four honest models


def trained(seed=0):
    """A small network for four blobs in eight dimensions, and data of it."""
    keras.utils.set_random_seed(seed)
    source = np.random.default_rng(seed)
    labels = source.integers(0, 4, 600)
    centres = source.uniform(0.25, 0.75, (4, 8))
    x = np.clip(centres[labels] + source.normal(0, 0.07, (600, 8)), 0, 1).astype("float32")
    model = keras.Sequential(
        [keras.Input((8,)), layers.Dense(24, "relu"), layers.Dense(24, "relu"), layers.Dense(4)]
    )
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(x, labels, batch_size=32, epochs=10, verbose=0)
    return model, x[:128], labels[:128]


def demand_quiet(found):
    assert not found.flags, found
    assert not {finding.status for finding in found.findings} & {"flag"}


def test_no_flag_on_a_small_network():
    found = diagnose(*trained(), advex.Linf(0.1))
    demand_quiet(found)
    assert found.examples > 100


def test_no_flag_on_the_shipped_model(embedded):
    model, images, labels = embedded
    found = diagnose(zoo.fashion_mnist(), images, labels, advex.Linf(8 / 255))
    demand_quiet(found)
    assert found.examples == 32
    assert found["D15"].found.startswith("the inputs are 8-bit images")
    found = diagnose(model, (images / 255).astype("float32"), labels, advex.Linf(2.9 / 255))
    demand_quiet(found)
    assert found["D8"].measure["tried"] > 5  # gradient attacks leave some standing
    assert 0 < found["D15"].measure["after"] < found["D15"].measure["before"]


@pytest.mark.reference
@pytest.mark.parametrize(("name", "epsilon"), [("standard", 8 / 255), ("robust", 0.1)])
def test_no_flag_on_larger_networks(fashion, name, epsilon):
    images, labels = fashion
    model = keras.models.load_model(SHARED / "models" / f"fmnist_{name}.keras", compile=False)
    found = diagnose(model, (images[:36] / 255).astype("float32"), labels[:36], advex.Linf(epsilon))
    demand_quiet(found)
    assert found.examples > 25
    assert (found["D8"].measure["tried"] > 20) == (name == "robust")


@pytest.mark.parametrize("head", [pytest.param("logits", marks=backends), "sigmoid"])
@pytest.mark.usefixtures("quick")
def test_no_flag_on_a_linear_model(head):
    x, labels = linear_data()
    found = diagnose(linear_model(head=head), x, labels, advex.Linf(0.05))
    demand_quiet(found)
    assert status(found)["D6"] == ("ok" if head == "logits" else "noted")
    assert found.gradients > 0
    assert found.queries > found.gradients


# Each rule, by a model that breaks it


class Path(layers.Layer):
    """The score of the first of two classes is a function of how far an input has moved from 0.5,
    in units of ``epsilon``.
    """

    def __init__(self, function, epsilon):
        super().__init__()
        self.function, self.epsilon = function, epsilon

    def call(self, x):
        score = self.function((x - 0.5) / self.epsilon)
        return ops.stack([ops.zeros_like(score), score], axis=1)


def pathological(function, features, epsilon=0.1, count=16, spread=0.0):
    """A model of one ``function``, and examples near 0.5, which are told apart by their last
    feature alone.
    """
    x = np.full((count, features), 0.5, "float32")
    x[:, -1] = np.linspace(0.2, 0.8, count)
    model = keras.Sequential(
        [keras.Input((features,)), Path(lambda moved: function(moved[:, :-1]), epsilon)]
    )
    return diagnose(model, x, np.zeros(count, int), advex.Linf(epsilon)), model


def bent(t, knots, values):
    """The line through the points (knots, values), in ``keras.ops``."""
    total = values[0] + (t - knots[0]) * (values[1] - values[0]) / (knots[1] - knots[0])
    for place in range(1, len(knots) - 1):
        slopes = [
            (values[i + 1] - values[i]) / (knots[i + 1] - knots[i]) for i in (place - 1, place)
        ]
        total = total + (slopes[1] - slopes[0]) * ops.relu(t - knots[place])
    return total


@pytest.mark.usefixtures("quick")
def test_one_step_wins():
    """A hill between the input and the boundary: small steps stay on it, one large step is
    beyond.
    """
    hill = lambda moved: bent(  # noqa: E731
        ops.mean(moved, axis=1), [0.0, 0.3, 0.8, 1.0], [-1.0, -0.5, -1.5, 0.5]
    )
    found, _ = pathological(hill, 200)
    assert "D7" in flags(found), found
    assert found["D7"].measure["wins"] == found["D7"].measure["standing"] == 16


@pytest.mark.usefixtures("quick")
def test_not_monotone():
    """A narrow gap that steps of epsilon / 4 hit and steps of epsilon / 2 do not."""
    gap = lambda moved: bent(  # noqa: E731
        ops.mean(moved, axis=1),
        [0.0, 0.5, 0.55, 0.67, 0.72, 3.0],
        [-1.0, -0.5, 0.5, 0.5, -0.4, -0.1],
    )
    found, _ = pathological(gap, 1600)
    assert found["D12"].measure["lost"] == found["D12"].measure["tried"] == 16, found
    assert "D12" in flags(found)


@pytest.mark.usefixtures("quick")
def test_restart_sensitive():
    """Up or down is decided by the start; only down leads across."""
    fork = lambda moved: bent(moved[:, 0], [-1.0, -0.9, 0.0, 1.0], [0.5, 0.3, -1.0, -0.2])  # noqa: E731
    found, _ = pathological(fork, 2, count=32)
    assert "D11" in flags(found), found
    assert found["D11"].measure["more"] >= 8


@pytest.mark.usefixtures("quick")
def test_not_converged():
    """Each feature counts once the one before it has come nearly to its end: there is always more
    to gain.
    """

    def chain(moved):
        short = ops.cast(moved[:, :-1] <= 0.9, "float32")
        open_ = ops.cast(ops.cumsum(short, axis=1) < 0.5, "float32")
        return ops.sum(open_ * moved[:, 1:], axis=1) + moved[:, 0] - 1000

    found, _ = pathological(chain, 60)
    assert "D10" in flags(found), found
    assert found["D10"].measure["late_gain"] > 0.05


@pytest.mark.usefixtures("quick")
def test_batch_dependent():
    class Centred(layers.Layer):
        def call(self, x):
            return x - 0.1 * ops.mean(x, axis=0, keepdims=True)

    x, labels = linear_data()
    model = keras.Sequential([keras.Input((12,)), Centred(), *linear_model().layers])
    found = diagnose(model, x, labels, advex.Linf(0.01))
    assert "D5" in flags(found), found
    assert status(found)["D4"] == "ok"


@pytest.mark.usefixtures("quick")
def test_probabilities_out_of_reach():
    class Wrapped(keras.Model):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def call(self, x):
            return ops.softmax(50 * self.inner(x))

    x, labels = linear_data()
    found = diagnose(Wrapped(linear_model()), x, labels, advex.Linf(0.05))
    assert "D6" in flags(found), found
    assert found["D6"].measure["saturated"] > 0.1


@pytest.mark.usefixtures("quick")
def test_luck_is_measured(embedded):
    """At a budget where a random model is near its boundary, searches pick lucky draws."""
    model, images, labels = embedded
    found = diagnose(before(model, Noise(0.05)), images, labels, advex.Linf(3 / 255))
    assert {"D4", "D13"} <= flags(found), found
    assert status(found)["D5"] == "not run"
    assert found["D13"].measure["first"] > found["D13"].measure["mean"] + 0.02


@pytest.mark.parametrize(
    ("count", "total", "fires"),
    [(2, 10, False), (3, 10, True), (3, 150, True), (3, 151, False), (4, 151, True)],
)
def test_the_count_rule(count, total, fires):
    assert many(count, total) == fires


# What cannot be looked at is said


def test_a_black_box_is_asked_and_the_rest_is_named():
    model, seen = linear_model(), []
    x, labels = linear_data()

    def predict(batch):
        seen.append(len(batch))
        return np.asarray(model(batch))

    found = diagnose(advex.BlackBox(predict, classes=2), x, labels, advex.Linf(0.1))
    now = status(found)
    assert [name for name in IDS if now[name] == "not run"] == [
        "D1",
        "D2",
        "D3",
        "D7",
        "D8",
        "D9",
        "D10",
        "D11",
        "D12",
        "D15",
    ]
    assert found["D1"].found == "a black box has no gradients"
    assert found["D15"].found == "the inputs are not pictures"
    assert (found.gradients, found.queries) == (0, sum(seen))
    assert found["D13"].measure["first"] > 0.3


@pytest.mark.usefixtures("quick")
def test_constant_is_said_even_without_a_gradient():
    class Nothing(layers.Layer):
        def call(self, x):
            return ops.stop_gradient(ops.stack([x[:, 0] * 0 + 1, x[:, 0] * 0], axis=1))

    x, _ = linear_data()
    found = diagnose(
        keras.Sequential([keras.Input((12,)), Nothing()]), x, np.zeros(32, int), advex.Linf(0.1)
    )
    assert {"D1", "D9"} <= flags(found)
    assert found["D9"].found.startswith("constant model")


def test_nothing_right_and_nothing_at_all(linear):
    x, labels = linear_data()
    for inputs, classes in [(x, 1 - labels), (x[:0], labels[:0])]:
        found = diagnose(linear, inputs, classes, advex.Linf(0.1))
        assert found.examples == 0
        assert set(status(found).values()) == {"not run"}
        assert [finding.id for finding in found.findings] == IDS


@pytest.mark.usefixtures("quick")
def test_only_correct_examples_count_the_first_128(linear):
    x, labels = linear_data(300)
    labels[::3] = 1 - labels[::3]
    found = diagnose(linear, x, labels, advex.Linf(0.02))
    assert found.examples == 128
    demand_quiet(found)


@pytest.mark.parametrize("budget", [advex.Linf(0), advex.L2(0)], ids=repr)
def test_a_budget_in_which_nothing_moves(linear, budget):
    found = diagnose(linear, *linear_data(), budget)
    skipped = [name for name, now in status(found).items() if now == "not run"]
    assert skipped == [name for name, check in CHECKS.items() if room in check.needs]
    assert len(skipped) == 9
    assert "nothing can move" in found["D8"].found
    demand_quiet(found)


def test_less_than_a_level_moves_no_8_bit_image(embedded):
    model, images, labels = embedded
    found = diagnose(model, images[:8], labels[:8], advex.Linf(0.5 / 255))
    assert status(found)["D10"] == "not run"


@pytest.mark.usefixtures("quick")
def test_without_a_limit_a_usual_one_is_taken(linear):
    found = diagnose(linear, *linear_data(12), advex.Linf())
    assert found.budget == "Linf(8/255) (in place of Linf())"
    assert status(found)["D8"] != "not run"
    usual = {norm: repr(with_limit(norm())) for norm in (advex.L2, advex.L1, advex.L0)}
    assert usual == {advex.L2: "L2(0.5)", advex.L1: "L1(10)", advex.L0: "L0(20)"}


@pytest.mark.parametrize("budget", [advex.L1(0.4), advex.L0(3), advex.L2(0.2)], ids=repr)
@pytest.mark.usefixtures("quick")
def test_other_norms(linear, budget):
    found = diagnose(linear, *linear_data(), budget)
    left_out = {"D15", "D7", "D10", "D11", "D12"} if isinstance(budget, advex.L0) else {"D15"}
    assert {name for name, now in status(found).items() if now == "not run"} == left_out
    demand_quiet(found)


# What it returns, and what it leaves alone


@pytest.fixture(scope="module")
def diagnosis():
    x, labels = linear_data()
    model = keras.Sequential([keras.Input((12,)), Backwards(), *linear_model().layers])
    return diagnose(model, x, labels, advex.Linf(0.1), seed=5)


def test_there_and_back_again(diagnosis):
    text = json.dumps(diagnosis.to_dict(), allow_nan=False)
    again = Diagnosis.from_dict(json.loads(text))
    assert again == diagnosis
    assert isinstance(again.findings[0], Finding)
    assert again.seed == 5
    for wrong in ({}, {"findings": [{"id": "D1"}]}, {**diagnosis.to_dict(), "more": 1}, 3):
        with pytest.raises(InvalidInput, match="to_dict"):
            Diagnosis.from_dict(wrong)


def test_how_it_looks(diagnosis):
    lines = str(diagnosis).splitlines()
    assert lines[0].startswith("Diagnosis of 32 correctly classified examples within Linf(0.1): ")
    assert f"{len(diagnosis.flags)} flags (" in lines[0]
    assert [line.split()[0] for line in lines[2:17]] == IDS
    assert "D3   gradient lies     fired" in str(diagnosis)
    assert "D15  lost in 8 bits    not run" in str(diagnosis)
    assert diagnosis["D3"].advice in str(diagnosis)
    assert repr(diagnosis) == str(diagnosis)
    page = diagnosis._repr_html_()
    assert page.count("<tr>") == 16
    assert "<b>fired</b>" in page
    assert "robust" not in (page + str(diagnosis) + str(CHECKS)).lower()
    with pytest.raises(KeyError):
        diagnosis["D16"]


def test_the_same_again(diagnosis):
    x, labels = linear_data()
    model = keras.Sequential([keras.Input((12,)), Backwards(), *linear_model().layers])
    assert flags(diagnose(model, x, labels, advex.Linf(0.1), seed=5, batch_size=7)) == flags(
        diagnosis
    )
    assert {"D3", "D8", "D9"} <= flags(diagnosis)


@backends
@pytest.mark.usefixtures("quick")
def test_random_and_constant_models_on_every_backend():
    x, labels = linear_data()
    noisy = keras.Sequential([keras.Input((12,)), Noise(0.02), *linear_model().layers])
    assert "D4" in flags(diagnose(noisy, x, labels, advex.Linf(0.05)))
    found = diagnose(constant(linear_model(), 1), x, labels, advex.Linf(0.05))
    assert {"D1", "D9"} <= flags(found)


@backends
@pytest.mark.usefixtures("quick")
def test_nothing_is_touched():
    model = small_network()
    x = np.random.default_rng(0).integers(0, 256, (8, 6, 6, 3)).astype("uint8")
    labels = ops.convert_to_numpy(model(ops.convert_to_tensor(x / np.float32(255)))).argmax(1)
    model.trainable = False

    def state():
        return (
            [weight.tobytes() for weight in model.get_weights()],
            [weight.trainable for weight in model.weights],
            (x.tobytes(), labels.tobytes(), random.getstate(), np.random.get_state()[1].tobytes()),  # noqa: NPY002
            (keras.config.floatx(), keras.config.dtype_policy().name, list(warnings.filters)),
        )

    held = state()
    found = diagnose(model, x, labels, advex.Linf(8 / 255))
    assert held == state()
    assert found.examples == 8


@pytest.mark.usefixtures("quick")
def test_warnings_inside_stay_inside():
    """Attacks warn of random models; the doctor says it in its findings (warnings are errors
    here).
    """
    x, labels = linear_data()
    noisy = keras.Sequential([keras.Input((12,)), Noise(0.1), *linear_model().layers])
    filters = list(warnings.filters)
    diagnose(noisy, x, labels, advex.Linf(0.05))
    assert warnings.filters == filters

    class Broken(layers.Layer):
        def call(self, x):
            raise ZeroDivisionError

    model = keras.Sequential([Broken()])
    with pytest.raises(advex.errors.UserCodeError, match="ZeroDivisionError"):
        diagnose(model, x, labels, advex.Linf(0.05))
    assert warnings.filters == filters


@pytest.mark.usefixtures("quick")
def test_a_model_edited_since_it_was_compiled():
    """What was compiled for an attack before is not believed."""
    x, labels = linear_data()
    model = keras.Sequential([keras.Input((12,)), *linear_model().layers])
    advex.PGD(steps=2)(model, x, labels, advex.Linf(0.05))
    model.layers[0].activation = lambda values: (
        0 * values + ops.convert_to_tensor(np.eye(2, dtype="float32")[1] * 3 - 1)
    )
    assert "D9" in flags(diagnose(model, x, labels, advex.Linf(0.05)))


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"budget": 0.1}, InvalidType, "budget must be"),
        ({"labels": np.zeros(3, int)}, InvalidInput, "3 labels"),
        ({"labels": np.full(32, 2)}, InvalidInput, "2 classes"),
        ({"seed": 1.5}, InvalidType, "seed"),
        ({"batch_size": 0}, InvalidInput, "batch_size"),
        ({"x": np.full((32, 12), 200.0, "float32")}, InvalidInput, "box"),
        ({"model": len}, InvalidType, "BlackBox"),
        ({"sed": 1}, InvalidType, "did you mean 'seed'"),
    ],
    ids=lambda value: "",
)
def test_what_is_refused(change, error, match):
    x, labels = linear_data()
    given = {"model": linear_model(), "x": x, "labels": labels, "budget": advex.Linf(0.1)} | change
    with pytest.raises(error, match=match):
        diagnose(**given)
