"""Every row of the bad-input table: the class of the error, the argument it names, what it
received, and the fix.
"""

import contextlib
import copy
import inspect
import pickle
import re
import warnings
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

import keras
import numpy as np
import pytest
from keras import ops

import advex
from advex import _others
from advex.errors import AdvexWarning, GradientUnavailable, InvalidInput, InvalidType, ModelWarning
from advex.testing import linear_data, linear_model, small_network

BUDGET = advex.Linf(0.1)
ATTACK = advex.FGSM()


class Bell(keras.layers.Layer):
    """Passes its input on, and counts how often it was asked to."""

    def __init__(self):
        super().__init__()
        self.rung = []

    def call(self, x):
        self.rung.append(1)
        return x


def belled(shape=(6, 6, 3), classes=4):
    """A small model and the list that grows whenever it is called."""
    bell = Bell()
    layers = [keras.Input(shape), bell, keras.layers.Flatten(), keras.layers.Dense(classes)]
    model = keras.Sequential(layers)
    bell.rung.clear()
    return model, bell.rung


def images(count=3, shape=(6, 6, 3), seed=0):
    return np.random.default_rng(seed).uniform(size=(count, *shape)).astype("float32")


def refused(
    kind,
    parts,
    x,
    goal=None,
    budget=BUDGET,
    model_shape=(6, 6, 3),
    classes=4,
    wrap=None,
    **keywords,
):
    """The attack fails with ``kind`` and a message that has all ``parts``, before the model is
    called.
    """
    model, rung = belled(model_shape, classes)
    if wrap is not None:
        model = wrap(model)
    rung.clear()
    with pytest.raises(kind) as caught:
        ATTACK(model, x, goal, budget, **keywords)
    assert not rung, "the model was called"
    for part in parts:
        assert part in str(caught.value)
    assert isinstance(caught.value, advex.errors.AdvexError)


# x


def test_pixels_up_to_255_in_a_box_up_to_1():
    refused(
        InvalidInput,
        [
            "x reaches from",
            "to 253.291",
            "box (0, 1)",
            "Classifier(model, box=(0, 255)) or divide by 255?",
        ],
        images() * 254,
    )


def test_normalised_x_below_the_box():
    refused(
        InvalidInput,
        ["x reaches from -", "box (0, 1)", "Classifier(model, preprocess=...)"],
        (images() - 0.5) / 0.2,
    )


def test_x_above_the_box():
    refused(InvalidInput, ["x reaches from", "Classifier(model, box=("], images() * 300)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_or_inf_in_x(value):
    x = images(9)
    x[[2, 7], 0, 0, 0] = value
    refused(InvalidInput, ["x has 2 values that are NaN or infinite", "[2, 7]"], x)


def test_float64_beyond_float32():
    refused(InvalidInput, ["x has", "NaN or infinite"], images().astype("float64") * 1e300)


@pytest.mark.backends
@pytest.mark.parametrize(
    ("x", "kind", "parts"),
    [
        (
            (images() * 255).astype("int64"),
            InvalidType,
            ["x has dtype int64", "uint8", "astype('float32')"],
        ),
        (images() > 0.5, InvalidType, ["x has dtype bool", "astype('float32')"]),
        (None, InvalidType, ["x must be an array", "NoneType"]),
        (
            "photo.png",
            InvalidType,
            ["x must be an array", "'photo.png'", "advex.images.read(path).pixels[None]"],
        ),
        ({"image": images()}, InvalidInput, ["x must be one array", "['image']", "x['image']"]),
        ([[1.0, 2.0], [1.0]], InvalidInput, ["x must be one array", "list of shapes [(2,), (1,)]"]),
    ],
    ids=["int64", "bool", "none", "text", "dict", "ragged"],
)
def test_x_of_a_kind_that_is_no_batch_of_numbers(x, kind, parts):
    refused(kind, parts, x)


@pytest.mark.backends
def test_one_image_without_batch_axis():
    refused(InvalidInput, ["(n, 6, 6, 3)", "received (6, 6, 3)", "x[None]"], images()[0])


def test_one_row_of_a_table():
    refused(
        InvalidInput,
        ["received shape (12,)", "x[None]"],
        np.zeros(12, "float32"),
        model_shape=(12,),
    )


@pytest.mark.backends
def test_channels_first():
    refused(
        InvalidInput,
        ["(n, 6, 6, 3)", "(3, 3, 6, 6)", "channels first", "channels-last", "moveaxis"],
        images(shape=(3, 6, 6)),
    )


def test_channels_last_for_a_channels_first_model():
    refused(
        InvalidInput,
        ["channels last", "channels-first", "moveaxis"],
        images(2),
        model_shape=(3, 6, 6),
    )


def test_grey_for_a_colour_model():
    refused(
        InvalidInput,
        ["received (3, 6, 6, 1)", "grey", "colour model", "np.repeat"],
        images(shape=(6, 6, 1)),
    )
    refused(InvalidInput, ["one channel", "three channels"], images(), model_shape=(6, 6, 1))


def test_no_channel_axis():
    refused(
        InvalidInput,
        ["received (3, 6, 6)", "x[..., None]"],
        images(shape=(6, 6)),
        model_shape=(6, 6, 1),
    )


def test_another_size():
    refused(InvalidInput, ["(n, 6, 6, 3)", "received (3, 5, 6, 3)"], images(shape=(5, 6, 3)))


@pytest.mark.backends
@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
def test_empty_batch(dtype):
    model, rung = belled()
    result = ATTACK(model, np.zeros((0, 6, 6, 3), dtype), [], BUDGET)
    assert result.x.shape == (0, 6, 6, 3)
    assert result.x.dtype == dtype
    assert result.success_rate is None
    assert result.goal.labels.shape == (0,)
    assert result.budget is BUDGET
    assert not rung
    assert ATTACK(model, np.zeros((0, 6, 6, 3), dtype), None, BUDGET).success.shape == (0,)


def test_only_pictures_can_be_shown_and_saved(tmp_path):
    x, labels = linear_data(4)
    result = ATTACK(linear_model(), x, labels, BUDGET)
    with pytest.raises(InvalidInput, match=r"only pictures.*\(4, 12\)"):
        result.save(tmp_path)
    with pytest.raises(InvalidInput, match=r"only pictures.*\(4, 12\)"):
        result.show()


# labels and goals


@pytest.mark.backends
@pytest.mark.parametrize("count", [1, 2, 4])
def test_another_number_of_labels(count):
    refused(InvalidInput, ["3 examples", f"{count} labels"], images(), np.zeros(count, int))
    if count > 1:
        refused(
            InvalidInput,
            ["3 examples", f"{count} labels"],
            images(),
            advex.Targeted(np.zeros(count, int)),
        )


def test_one_hot_labels_are_converted_and_noted():
    x, labels = linear_data(8)
    result = ATTACK(linear_model(), x, np.eye(2)[labels], BUDGET)
    assert (result.goal.labels == labels).all()
    assert any("One-hot" in note for note in result.info["notes"])


def test_soft_labels():
    refused(
        InvalidInput,
        ["labels of shape (3, 4)", "neither class numbers nor one-hot", "argmax"],
        images(),
        np.full((3, 4), 0.25),
    )


def test_labels_as_a_column_and_as_whole_floats():
    x, labels = linear_data(8)
    for given in (
        labels[:, None],
        labels.astype("float32"),
        labels.tolist(),
        labels.astype("uint8"),
    ):
        result = ATTACK(linear_model(), x, given, BUDGET)
        assert (result.goal.labels == labels).all()


@pytest.mark.parametrize("value", [3.5, np.nan, np.inf])
def test_labels_that_are_not_whole(value):
    refused(
        InvalidInput,
        ["labels must be whole class numbers", str(value)],
        images(),
        [0.0, 1.0, value],
    )


@pytest.mark.backends
@pytest.mark.parametrize(
    ("labels", "parts"),
    [
        ([0, 1, 4], ["4 classes, 0 to 3", "1 labels are outside", "4"]),
        ([0, -1, 1], ["4 classes", "-1"]),
        ([1, 2, 4], ["1-based?", "Subtract 1"]),
    ],
    ids=["too high", "negative", "1-based"],
)
def test_labels_outside_the_classes(labels, parts):
    refused(InvalidInput, parts, images(), labels)
    refused(InvalidInput, parts[:1], images(), advex.Targeted(labels))


@pytest.mark.parametrize(
    "labels", [["cat", "dog", "cow"], [True, False, True], [None] * 3, "toaster"]
)
def test_labels_that_are_no_numbers(labels):
    refused(InvalidType, ["labels must be class numbers"], images(), labels)


def test_a_targeted_name():
    with pytest.raises(InvalidType, match=r"class numbers, not names.*toaster"):
        advex.Targeted("toaster")


@pytest.mark.parametrize(
    ("value", "kind"),
    [(1.5, InvalidInput), (-0.1, InvalidInput), (np.nan, InvalidInput), ("0.8", InvalidType)],
)
def test_confidence_that_is_no_probability(value, kind):
    with pytest.raises(kind, match="confidence"):
        advex.Targeted(0, confidence=value)


def test_accuracy_below_chance_is_a_warning_with_the_figure():
    x, labels = linear_data(20)
    with pytest.warns(ModelWarning, match=r"0\.0% of these inputs right"):
        result = ATTACK(linear_model(), x, 1 - labels, BUDGET)
    assert any("less than chance" in sentence for sentence in result.info["warnings"])


def test_no_goal_is_the_models_own_prediction():
    x, labels = linear_data(8)
    result = ATTACK(linear_model(), x, budget=BUDGET)
    assert (result.goal.labels == labels).all()
    assert "own predictions" in result.info["goal"]
    assert any("own predictions" in note for note in result.info["notes"])
    assert "accuracy" not in repr(result) + str(result.info)


@pytest.mark.backends
def test_targets_that_are_predicted_already():
    x, labels = linear_data(8)
    targets = np.where(np.arange(8) < 3, labels, 1 - labels)
    result = ATTACK(linear_model(), x, advex.Targeted(targets), BUDGET)
    assert (
        result.success[:3].all()
        and (result.distance[:3] == 0).all()
        and (result.x[:3] == x[:3]).all()
    )
    assert (result.broken_by[:3] == "clean").all() and (result.broken_by[3:] != "clean").all()
    assert (result.gradients[:3] == 0).all()
    assert "3 of 8 targets are what the model predicts already." in result.info["notes"]


def test_a_target_that_is_predicted_but_not_with_the_confidence_demanded_is_fine():
    x, labels = linear_data(8)
    result = advex.fine(20)(linear_model(), x, advex.Targeted(labels, confidence=0.99), advex.L2(3))
    assert result.success.all()
    assert (result.confidence >= 0.99).all()


def test_targets_for_an_attack_without_a_targeted_form():
    @dataclass(frozen=True, kw_only=True)
    class Away(advex.FGSM):
        targets = False

    model, rung = belled()
    with pytest.raises(InvalidInput, match="Away has no targeted form; use another attack"):
        Away()(model, images(), advex.Targeted(1), BUDGET)
    assert not rung


def test_the_budget_in_the_place_of_the_goal():
    refused(InvalidType, ["third argument is the goal", "budget="], images(), BUDGET, None)


# budgets


@pytest.mark.parametrize("budget", [advex.Linf, advex.L2, advex.L1, advex.L0])
@pytest.mark.parametrize(
    ("epsilon", "kind"),
    [
        (-1, InvalidInput),
        (np.nan, InvalidInput),
        (np.inf, InvalidInput),
        ("8/255", InvalidType),
        (True, InvalidType),
        ([[1]], InvalidInput),
        ([-1, 1], InvalidInput),
        ([np.nan, 1], InvalidInput),
        (["1"], InvalidType),
    ],
    ids=["negative", "nan", "inf", "text", "bool", "table", "one negative", "one nan", "texts"],
)
def test_epsilon_that_is_no_size(budget, epsilon, kind):
    with pytest.raises(
        kind, match=rf"{budget.__name__}\(epsilon.*received|finite, in {budget.__name__}\(epsilon"
    ):
        budget(epsilon)


def test_epsilon_above_1():
    with pytest.raises(
        InvalidInput, match=r"Linf\(8\): epsilon is a fraction of the box's range.*Linf\(8/255\)"
    ):
        advex.Linf(8)


def test_epsilon_of_half_the_range_is_a_warning():
    with pytest.warns(
        AdvexWarning, match=r"Linf\(0\.5\) lets every element move by half the range"
    ):
        advex.Linf(0.5)


def test_l0_of_half_an_element():
    with pytest.raises(InvalidInput, match=r"L0\(epsilon\).*whole number.*2\.5"):
        advex.L0(2.5)


def test_no_budget():
    refused(InvalidInput, ["FGSM needs a budget", "advex.Linf(8/255)"], images(), None, None)
    refused(InvalidInput, ["FGSM needs a limit", "advex.Linf(8/255)"], images(), None, advex.Linf())


def test_a_number_for_a_budget():
    refused(InvalidType, ["budget must be such as advex.Linf(8/255)", "0.03"], images(), None, 0.03)


# settings


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (0, InvalidInput),
        (-3, InvalidInput),
        (2.5, InvalidInput),
        (np.nan, InvalidInput),
        ("10", InvalidType),
        (True, InvalidType),
    ],
    ids=["zero", "negative", "half", "nan", "text", "bool"],
)
def test_counts_that_are_no_counts(value, kind):
    with pytest.raises(kind, match=r"PGD\(steps=\.\.\.\) must be a whole number"):
        advex.PGD(steps=value)
    with pytest.raises(kind, match=r"Restarts\(restarts=\.\.\.\) must be a whole number"):
        advex.Restarts(advex.PGD(), value)
    refused(kind, ["batch_size must be a whole number", repr(value)], images(), batch_size=value)


def test_a_batch_size_above_the_number_of_inputs():
    x, labels = linear_data(3)
    assert len(ATTACK(linear_model(), x, labels, BUDGET, batch_size=1000)) == 3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("step_size", 0),
        ("step_size", -1.0),
        ("step_size", "big"),
        ("loss", "margin"),
        ("decay", -1),
    ],
)
def test_other_settings(name, value):
    with pytest.raises(
        (InvalidInput, InvalidType), match=rf"MomentumIterative\({name}=\.\.\.\) must be"
    ):
        advex.MomentumIterative(**{name: value})


@pytest.mark.parametrize(
    ("seed", "kind"),
    [(1.0, InvalidType), ("1", InvalidType), (True, InvalidType), (2**70, InvalidInput)],
)
def test_seed(seed, kind):
    refused(kind, ["seed must be a whole number"], images(), seed=seed)


def test_progress():
    refused(
        InvalidType,
        ["progress must be True, False, None or a function", "'bar'"],
        images(),
        progress="bar",
    )


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (lambda: advex.PGD(step=3), ["'step'", "did you mean 'steps'?"]),
        (lambda: advex.PGD(stepsize=3), ["'stepsize'", "did you mean 'step_size'?"]),
        (lambda: advex.Linf(eps=0.1), ["'eps'", "did you mean 'epsilon'?"]),
        (lambda: advex.Targeted(label=1), ["'label'", "did you mean 'labels'?"]),
        (
            lambda: advex.Classifier(linear_model(), boxes=(0, 1)),
            ["'boxes'", "did you mean 'box'?"],
        ),
        (
            lambda: ATTACK(linear_model(), images(), batchsize=3),
            ["'batchsize'", "did you mean 'batch_size'?"],
        ),
        (lambda: advex.Restarts(advex.PGD(), restart=3), ["'restart'", "did you mean 'restarts'?"]),
        (lambda: advex.PGD(eps=0.1), ["'eps'", "advex.Linf(8/255)"]),
        (lambda: advex.PGD(epsilon=0.1), ["'epsilon'", "advex.Linf(8/255)"]),
        (lambda: advex.PGD(norm=2), ["'norm'", "advex.L2(0.5)"]),
        (lambda: advex.PGD(n_restarts=2), ["'n_restarts'", "advex.Restarts(attack, 5)"]),
        (lambda: advex.PGD(clip_max=1), ["'clip_max'", "advex.Classifier(model, box=(0, 255))"]),
        (lambda: advex.PGD(needs_epsilon=False), ["'needs_epsilon'"]),
    ],
)
def test_misspelt_keyword(make, parts):
    with pytest.raises(InvalidType) as caught:
        make()
    for part in parts:
        assert part in str(caught.value)


def test_restarts_of_no_attack():
    with pytest.raises(
        InvalidType, match=r"Restarts needs an attack, such as advex\.PGD\(\); received"
    ):
        advex.Restarts(advex.PGD)


# the model


@pytest.mark.parametrize("model", [None, "model.keras", lambda x: x, keras.layers.Dense(2)])
def test_no_model(model):
    with pytest.raises(
        InvalidType, match=r"model must be a keras\.Model or an advex\.Classifier; received"
    ):
        ATTACK(model, images(), budget=BUDGET)


@pytest.mark.parametrize(
    ("box", "kind"),
    [
        ((1, 0), InvalidInput),
        ((0, 0), InvalidInput),
        ((0, np.inf), InvalidInput),
        (1, InvalidType),
        ("01", InvalidType),
        ((0, 1, 2), InvalidType),
    ],
)
def test_box(box, kind):
    with pytest.raises(kind, match="box must be"):
        advex.Classifier(linear_model(), box=box)


@pytest.mark.parametrize(
    ("classes", "kind"),
    [("ab", InvalidType), (2, InvalidType), (["a"], InvalidInput), (["a", "b", "c"], InvalidInput)],
)
def test_names_of_the_classes(classes, kind):
    with pytest.raises(kind, match="classes"):
        advex.Classifier(linear_model(), classes=classes)


def test_preprocess_that_is_no_function():
    with pytest.raises(
        InvalidType, match="preprocess must be a function of a tensor; received int"
    ):
        advex.Classifier(linear_model(), preprocess=255)


@pytest.mark.backends
def test_several_outputs():
    image = keras.Input((12,))
    heads = keras.layers.Dense(2, name="a")(image), keras.layers.Dense(3, name="b")(image)
    for outputs in (list(heads), dict(zip("ab", heads, strict=True))):
        with pytest.raises(
            InvalidInput, match=r"several outputs \(.*Classifier\(model, output=(0|'a')\)"
        ):
            ATTACK(keras.Model(image, outputs), linear_data(4)[0], budget=BUDGET)
    one = keras.Model(image, {"a": heads[0]})  # a dict of one is that one
    assert ATTACK(one, linear_data(4)[0], budget=BUDGET).prediction.shape == (4,)


@pytest.mark.backends
def test_several_outputs_of_a_subclassed_model():
    class Two(keras.Model):
        def call(self, x):
            return {"a": x, "b": x}

    with pytest.raises(InvalidInput, match=r"several outputs \('a', 'b'\)"):
        ATTACK(Two(), linear_data(4)[0], budget=BUDGET)


def test_several_inputs():
    inputs = [keras.Input((12,)), keras.Input((12,))]
    model = keras.Model(inputs, keras.layers.Dense(2)(ops.add(*inputs)))
    with pytest.raises(InvalidInput, match=r"2 inputs, .*advex\.Classifier\(model, perturb="):
        ATTACK(model, linear_data(4)[0], budget=BUDGET)


def test_a_model_that_does_not_classify():
    model = keras.Sequential([keras.Input((6, 6, 3)), keras.layers.Conv2D(2, 1)])
    with pytest.raises(InvalidInput, match=r"each place .*advex\.Segmentation\(labels\)"):
        ATTACK(model, images(), budget=BUDGET)
    with pytest.raises(InvalidInput, match=r"\(6, 6, 2\) for each.*advex\.Segmentation"):
        ATTACK(model, images(), np.zeros(len(images()), int), BUDGET)


class Poisoned(keras.layers.Layer):
    """NaN where the first element is above a threshold."""

    def __init__(self, above):
        super().__init__()
        self.above = above

    def call(self, x):
        return ops.where(x[:, :1] > self.above, np.nan, x)


def poisoned(above):
    model = linear_model()
    return keras.Sequential([keras.Input((12,)), Poisoned(above), *model.layers])


@pytest.mark.backends
def test_nan_logits_on_clean_inputs():
    x, labels = linear_data(8)
    x[:, 0] = [0.1, 0.2, 0.9, 0.3, 0.9, 0.1, 0.1, 0.1]
    with pytest.raises(
        InvalidInput, match=r"NaN for 2 of 8 clean inputs, first at \[2, 4\].*leave them out"
    ):
        ATTACK(poisoned(0.5), x, labels, BUDGET)


@pytest.mark.backends
def test_nan_logits_during_the_search_make_the_row_invalid():
    x, labels = linear_data(16)
    x[:, 0] = 0.499
    # the weight of element 0 is positive for class 1
    labels = ops.convert_to_numpy(linear_model()(x)).argmax(axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "The model answered NaN during the search", ModelWarning)
        result = advex.PGD(steps=5)(poisoned(0.5), x, labels, advex.Linf(0.05))
    assert any("NaN during the search" in sentence for sentence in result.info["warnings"])
    bad = np.asarray(result.info["invalid"])
    assert len(bad)
    assert not result.success[bad].any()
    assert (result.x[bad] == x[bad]).all()
    assert f"{len(bad)} invalid" in repr(result)
    assert np.isfinite(result.confidence).all()


class Steps(keras.layers.Layer):
    def call(self, x):
        return ops.one_hot(ops.argmax(x, axis=1), 12)


class Rounded(keras.layers.Layer):
    def call(self, x):
        return ops.round(x * 4) / 4


@pytest.mark.backends
@pytest.mark.parametrize("layer", [Steps, Rounded])
def test_no_gradient(layer):
    model = keras.Sequential([keras.Input((12,)), layer(), keras.layers.Dense(2)])
    x = linear_data(8)[0]
    backend = keras.backend.backend()
    # there this gradient is zero, not absent
    if backend == "jax" or (backend == "torch" and layer is Rounded):
        with pytest.warns(ModelWarning, match="gradient was exactly zero at the start for 8 of 8"):
            ATTACK(model, x, budget=BUDGET)
    else:
        with pytest.raises(GradientUnavailable, match=r"black-box attack.*passes straight through"):
            ATTACK(model, x, budget=BUDGET)


class Shaken(keras.layers.Layer):
    def __init__(self):
        super().__init__()
        self.noise = keras.random.SeedGenerator(3)

    def call(self, x):
        return x + keras.random.normal(ops.shape(x), stddev=0.1, seed=self.noise)


@pytest.mark.backends
def test_randomness_at_inference_is_flagged():
    model = keras.Sequential([keras.Input((12,)), Shaken(), *linear_model().layers])
    x, labels = linear_data(16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ModelWarning)
        result = advex.PGD(steps=2)(model, x, labels, BUDGET)
    assert any("random at inference" in sentence for sentence in result.info["warnings"])


@pytest.mark.backends
def test_an_answer_that_depends_on_the_batch_is_flagged():
    class Centred(keras.layers.Layer):
        def call(self, x):
            return x - ops.mean(x, axis=0, keepdims=True)

    model = keras.Sequential([keras.Input((12,)), Centred(), *linear_model().layers])
    x, labels = linear_data(16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ModelWarning)
        result = ATTACK(model, x, labels, BUDGET)
    assert any(
        "depends on the rest of its batch" in sentence for sentence in result.info["warnings"]
    )


@pytest.mark.parametrize(
    ("classes", "targeted", "needed"), [(2, False, 3), (3, True, 4), (3, False, None)]
)
def test_dlr_with_few_classes_is_the_margin(classes, targeted, needed):
    weights = np.random.default_rng(0).normal(size=(12, classes))
    x, labels = linear_data(8, model=linear_model(weights))
    goal = advex.Targeted((labels + 1) % classes) if targeted else labels
    result = advex.BIM(steps=2, loss=advex.losses.dlr)(linear_model(weights), x, goal, BUDGET)
    margin = advex.BIM(steps=2, loss=advex.losses.margin)(linear_model(weights), x, goal, BUDGET)
    notes = [note for note in result.info["notes"] if "DLR" in note]
    assert bool(notes) == (needed is not None)
    if needed:
        assert f"needs {needed} classes and the model has {classes}" in notes[0]
        assert (result.success == margin.success).all()


@pytest.mark.parametrize(("dtype", "warned"), [("float16", False), ("bfloat16", True)])
def test_half_precision_warns_where_a_grey_level_is_lost(dtype, warned):
    import ml_dtypes  # noqa: F401, NumPy learns the name bfloat16

    x, labels = linear_data(8)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ATTACK(linear_model(), x.astype(dtype), labels, BUDGET)
    assert any("more than a grey level" in str(warning.message) for warning in caught) == warned


# files


@pytest.fixture(scope="module")
def pictures():
    model = small_network()
    x = images(3)
    return advex.PGD(steps=5)(model, (x * 255).astype("uint8"), None, advex.Linf(0.2))


@pytest.mark.parametrize(
    "name", ["../x.png", "/tmp/x.png", "a/b.png", "..", ".", "", "x\0.png", "a\\b.png"]
)
def test_a_name_that_leaves_the_folder(pictures, tmp_path, name):
    with pytest.raises(InvalidInput, match="is not a plain file name"):
        pictures.save(tmp_path / "out", [name, "b", "c"], rows="all")
    assert not (tmp_path / "out").exists()


def test_names_that_are_doubled(pictures, tmp_path):
    for names in (["a", "a", "b"], ["a.png", "A", "b"]):
        with pytest.raises(InvalidInput, match="two rows would be saved as"):
            pictures.save(tmp_path, names, rows="all")
    assert not list(tmp_path.iterdir())


def test_an_existing_file(pictures, tmp_path):
    (tmp_path / "c.png").write_text("mine")
    with pytest.raises(InvalidInput, match=r"c\.png exists; pass overwrite=True"):
        pictures.save(tmp_path, ["a", "b", "c"], rows="all")
    assert [path.name for path in tmp_path.iterdir()] == ["c.png"]
    assert (tmp_path / "c.png").read_text() == "mine"


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_symbolic_link(pictures, tmp_path, overwrite):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("mine")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "c.png").symlink_to(elsewhere)
    with pytest.raises(InvalidInput, match="symbolic link"):
        pictures.save(tmp_path / "out", ["a", "b", "c"], rows="all", overwrite=overwrite)
    assert elsewhere.read_text() == "mine"
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_another_number_of_names(pictures, tmp_path):
    with pytest.raises(InvalidInput, match="2 names for 3 files"):
        pictures.save(tmp_path, ["a", "b"], rows="all")


def test_rows_of_another_kind(pictures, tmp_path):
    with pytest.raises(InvalidInput, match="rows must be 'success' or 'all'; received 'failed'"):
        pictures.save(tmp_path, rows="failed")


def test_a_folder_with_a_nul(pictures, tmp_path):
    with pytest.raises(InvalidInput, match="folder must be the name of a folder"):
        pictures.save(f"{tmp_path}/a\0b")


# Whatever comes


class Unwritable:
    """An object of somebody else's: neither its text nor its array can be had."""

    shape = (3, 4)

    def __repr__(self):
        raise RuntimeError("no text")

    def __array__(self, *_, **__):
        raise RuntimeError("no array")


NASTY = [
    *(
        None,
        True,
        0,
        -1,
        0.5,
        np.nan,
        np.inf,
        10**30,
        10**400,
        10**5000,
        2**31,
        1e39,
        1j,
        Fraction(10**400),
        Decimal("0.1"),
    ),
    *(
        "abc",
        "",
        "\0",
        b"x",
        [],
        [1],
        [[1, 2], [3]],
        (1, 2),
        {},
        {"a": 1},
        {1},
        ...,
        slice(3),
        int,
        advex.PGD,
        Unwritable(),
    ),
    *(
        np.array(3),
        np.ones(4),
        np.array([None, 1]),
        np.zeros((3, 0), "float32"),
        np.zeros((0, 0), "float32"),
        np.True_,
    ),
    *(
        np.float32(0.1),
        np.longdouble(0.1),
        np.int8(3),
        np.array(["2020-01-01"], "datetime64[D]"),
        np.array("abc"),
        linear_model(),
    ),
]


def answered(call):
    """Only what advex says on purpose comes out, or a result."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AdvexWarning)
        with contextlib.suppress(advex.errors.AdvexError):
            call()


def test_whatever_a_constructor_is_given_is_answered_by_advex():
    makers = [
        getattr(advex, name)
        for name in advex.__all__
        if name not in ("Problem", "Result", "Trace", "Evaluation", "evaluate", "Certificate")
    ]
    makers = [maker for maker in makers if isinstance(maker, type) or maker is advex.fine]
    for maker in makers:
        words = [
            name
            for name in inspect.signature(
                maker.__init__ if isinstance(maker, type) else maker
            ).parameters
            if name != "self"
        ]
        usual = {
            "attack": advex.PGD(),
            "model": linear_model(),
            "predict": len,
            "classes": 2,
            "labels": 1,
        }
        answered(maker)
        for value in NASTY:
            answered(lambda maker=maker, value=value: maker(value))
            answered(lambda maker=maker, value=value: maker(value, value))
            for word in {*words} - {"args", "attacks"}:
                given = {
                    name: thing
                    for name, thing in usual.items()
                    if name in words and name != "classes"
                }
                given |= {"classes": 2} if maker is advex.BlackBox else {}
                answered(
                    lambda maker=maker, given=given, word=word, value=value: repr(
                        maker(**{**given, word: value})
                    )
                )


def test_whatever_a_call_is_given_is_answered_by_advex():
    x, labels = linear_data(4)
    given = {"model": linear_model(), "x": x, "goal": labels, "budget": BUDGET, "progress": False}
    for word in ("model", "x", "goal", "budget", "seed", "batch_size", "progress", "start"):
        for value in NASTY:
            # what a function of the user raises passes through
            if word != "progress" or not callable(value):
                answered(lambda word=word, value=value: ATTACK(**{**given, word: value}))


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (lambda: advex.L2(10**400), ["L2(epsilon) must be a finite number", "received 1000"]),
        (lambda: advex.L2(10**5000), ["L2(epsilon)", "a number of thousands of digits"]),
        (lambda: advex.L2(1e39), ["L2(epsilon)", "float32 can hold"]),
        (lambda: advex.L2(Decimal("0.5")), ["L2(epsilon)", "float(Decimal('0.5'))"]),
        (lambda: advex.PGD(steps=10**30), ["PGD(steps=...)", "at most 2147483647"]),
        (
            lambda: advex.PGD(40),
            ["PGD takes its settings by name (steps, ", "advex.PGD()(model, x, labels, budget)"],
        ),
        (lambda: advex.PGD(linear_model(), 1), ["advex.PGD()(model, x, labels, budget)"]),
        (lambda: advex.Attack(), ["base class"]),
        (lambda: advex.Budget(0.1), ["base class"]),
        (lambda: advex.Restarts(), ["Restarts()", "missing", "attack"]),
        (lambda: advex.Classifier(), ["Classifier()", "missing", "model"]),
        (lambda: advex.PGD()(linear_model()), ["the call of PGD()", "missing", "x"]),
        (
            lambda: advex.Classifier(linear_model(), box=(0, 10**400)),
            ["each end of box must be a finite number"],
        ),
        (
            lambda: advex.Classifier(linear_model(), box=(1, 1 + 1e-12)),
            ["box must have room", "float32"],
        ),
        (
            lambda: advex.Classifier(linear_model(), box=(0, 1e300)),
            ["each end of box", "float32 can hold"],
        ),
        (
            lambda: advex.Classifier(linear_model(), classes={0: "a", 1: "b"}),
            ["received a dict", "[names[number]"],
        ),
        (lambda: advex.Classifier(linear_model(), classes={"a", "b"}), ["in order"]),
    ],
)
def test_numbers_and_arguments_that_cannot_be(make, parts):
    with pytest.raises((InvalidInput, InvalidType)) as caught:
        make()
    for part in parts:
        assert part in str(caught.value)
    assert len(str(caught.value)) < 600


def test_numbers_of_other_kinds_are_numbers():
    for value in (Fraction(1, 10), np.float32(0.1), np.longdouble(0.1), np.float64(0.1)):
        assert advex.Linf(value).epsilon == float(value)
    assert (
        len(
            advex.BIM(steps=np.int64(2))(
                linear_model(), linear_data(4)[0], None, BUDGET, seed=np.uint64(2**64 - 1)
            )
        )
        == 4
    )


@pytest.mark.parametrize("shape", [(3, 0), (0, 0), (3, 4, 0), (0, 4, 0)])
def test_axes_without_a_value(shape):
    class Flat(keras.Model):
        def __init__(self):
            super().__init__()
            self.top = keras.layers.Dense(3)

        def call(self, x):
            return self.top(ops.reshape(x, (-1, int(np.prod(x.shape[1:])))))

    for dtype in ("float32", "uint8"):
        with pytest.raises(
            InvalidInput, match=r"at least one value for each example; received shape \("
        ):
            ATTACK(Flat(), np.zeros(shape, dtype), None, BUDGET)


def test_walk_takes_labels_as_a_call_does():
    x, labels = linear_data(4)
    model = linear_model()
    points = [
        advex.testing.walk(advex.BIM(steps=2), given, pixels, goal, BUDGET).points[-1]
        for given, pixels, goal in (
            (model, x, labels),
            (model, x.tolist(), labels.tolist()),
            (advex.Classifier(model), x, np.eye(2)[labels]),
            (model, x, advex.Untargeted(labels)),
            (model, x, None),
        )
    ]
    assert all((point == points[0]).all() for point in points)
    assert (points[0] != x).any()
    for goal, kind in (([0, 1], InvalidInput), ("cat", InvalidType), ([9, 0, 0, 0], InvalidInput)):
        with pytest.raises(kind, match="labels"):
            advex.testing.walk(ATTACK, linear_model(), x, goal, BUDGET)
    with pytest.raises(
        InvalidInput, match=r"an attack of a single run.*attack\.plan\(\)\[0\]\.attack"
    ):
        advex.testing.walk(advex.Restarts(advex.PGD(), 2), linear_model(), x, labels, BUDGET)
    with pytest.raises(InvalidType, match="walk needs an attack"):
        advex.testing.walk(None, linear_model(), x, labels, BUDGET)


# Names


@pytest.mark.parametrize(
    ("module", "name", "part"),
    [
        ("", "CW", "here it is advex.CarliniWagner"),
        ("", "L2CarliniWagnerAttack", "here it is advex.CarliniWagner"),
        ("", "PDG", "did you mean advex.PGD?"),
        ("", "MIFGSM", "here it is advex.MomentumIterative"),
        ("", "Momentum", "here it is advex.MomentumIterative"),
        ("", "LinfPGD", "here it is advex.PGD; the norm is chosen by the budget"),
        ("", "ProjectedGradientDescent", "here it is advex.PGD"),
        ("", "BasicIterativeMethod", "here it is advex.BIM"),
        ("", "FastGradientMethod", "here it is advex.FGSM"),
        ("", "AutoPGD", "here it is advex.APGD"),
        ("", "Square", "here it is advex.SquareAttack"),
        ("", "fgsm", "here it is advex.FGSM"),
        ("", "HSJA", "here it is advex.HopSkipJump"),
        ("", "BoundaryAttack", "on class numbers is not there yet"),
        ("", "TRADES", "here it is advex.training.TRADES"),
        ("", "AdversarialTrainer", "in front of fit: robust = advex.training.Adversarial("),
        ("", "torchattacks", "another library"),
        ("", "Classifer", "did you mean advex.Classifier"),
        ("", "xyzzy", "dir(advex) lists what there is"),
        ("losses", "crossentropy", "here it is advex.losses.cross_entropy"),
        ("losses", "CW", "here it is advex.losses.margin"),
        ("budgets", "LInf", "here it is advex.budgets.Linf"),
        ("goals", "Target", "here it is advex.goals.Targeted"),
        ("attacks", "CW", "here it is advex.attacks.CarliniWagner"),
    ],
)
def test_names_of_others_and_misspelt_ones(module, name, part):
    home = getattr(advex, module) if module else advex
    with pytest.raises(AttributeError) as caught:
        getattr(home, name)
    assert isinstance(caught.value, advex.errors.UnknownName)
    assert part in str(caught.value)
    assert not hasattr(home, name)
    for named in re.findall(r"here it is advex\.([\w.]+)", str(caught.value)):
        value = advex
        for step in named.split("."):
            value = getattr(value, step)


def test_every_name_that_others_are_sent_to_exists():
    for name in _others.HERE:
        value = advex
        for step in name.split("."):
            value = getattr(value, step)


def test_python_itself_looks_for_names_without_harm():
    with pytest.raises(ImportError):
        from advex import nonsense  # noqa: F401
    for name in ("__wrapped__", "_repr_html_", "__file__x"):
        with pytest.raises(AttributeError) as caught:
            getattr(advex, name)
        assert type(caught.value) is AttributeError
    assert pickle.loads(pickle.dumps(advex.Restarts(advex.PGD(), 3))) == advex.Restarts(
        advex.PGD(), 3
    )
    assert copy.copy(advex.Ensemble(advex.PGD())) == advex.Ensemble(advex.PGD())
    assert inspect.unwrap(advex.PGD) is advex.PGD
