"""Inputs in another range than the model's: that is found, the line that is said helps, and nothing
is said of other models, nor are they asked.
"""

import math
import warnings
from fractions import Fraction

import keras
import numpy as np
import pytest

import advex
from advex._grid import Grid
from advex.driver import call, ranges
from advex.driver.ranges import another_range, heads, more_often, moved, shuffled
from advex.errors import ModelWarning
from advex.testing import linear_data, linear_model

STILL, ATTACK = advex.Linf(0), advex.FGSM()
CLASSIFIER = advex.Classifier(linear_model(np.eye(3)))


@pytest.fixture(scope="module")
def eats(embedded):
    """Makes a model that is as good as the shipped one on the inputs of a box."""
    made = {}

    def eats(low, high):
        if (low, high) not in made:
            x = keras.Input(embedded[0].input_shape[1:])
            scaled = keras.layers.Rescaling(1 / (high - low), -low / (high - low))(x)
            made[low, high] = keras.Model(x, embedded[0](scaled))
        return made[low, high]

    return eats


@pytest.fixture(scope="module")
def clothes(fashion):
    """40 images as uint8, and their labels."""
    return fashion[0][:40], fashion[1][:40]


def floats(x8, low, high):
    return (low + x8.astype("float64") / 255 * (high - low)).astype("float32")


def accuracy(result):
    return 1 - result.info["clean_wrong"] / len(result)


def attacked(classifier, x, labels, **settings):
    """The result, and the sentence about the range, or nothing."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        result = ATTACK(classifier, x, labels, STILL, **settings)
    told = [str(one.message) for one in seen if issubclass(one.category, ModelWarning)]
    assert told == result.info["warnings"]
    found = [sentence for sentence in told if "right as they are" in sentence]
    assert len(found) <= 1
    return result, found[0] if found else ""


def typed(sentence, **names):
    """What the line in the sentence makes when it is typed."""
    line = sentence.partition("trained on: ")[2]
    return eval(line, {"advex": advex, **names})


WRONG = {  # what the model eats, the box that is typed, the line that helps: uint8, float
    "255": ((0, 255), (0, 1), "(model, box=(0, 255))", "(model, preprocess=lambda x: x * 255)"),
    "centred": ((-1, 1), (0, 1), "(model, box=(-1, 1))", "(model, preprocess=lambda x: x * 2 - 1)"),
    "unit": (
        (0, 1),
        (-1, 1),
        "(model, box=(0, 1))",
        "(model, box=(-1, 1), preprocess=lambda x: (x + 1) / 2)",
    ),
    "255 centred": (
        (0, 255),
        (-1, 1),
        "(model, box=(0, 255))",
        "(model, box=(-1, 1), preprocess=lambda x: (x + 1) * 127.5)",
    ),
}


@pytest.mark.backends
@pytest.mark.parametrize("kind", ["uint8", "float"])
@pytest.mark.parametrize("case", WRONG)
def test_the_line_that_is_said_helps(case, kind, eats, clothes):
    eaten, box, *lines = WRONG[case]
    model, (x, labels) = eats(*eaten), clothes
    x = x if kind == "uint8" else floats(x, *box)
    given = model if box == (0, 1) else advex.Classifier(model, box=box)
    result, sentence = attacked(given, x, labels)
    assert accuracy(result) < 0.5
    assert sentence.endswith(f"advex.Classifier{lines[kind == 'float']}")
    better, nothing = attacked(typed(sentence, model=model), x, labels)
    assert accuracy(better) > 0.85
    assert nothing == ""


@pytest.mark.parametrize("nested", [False, True])
def test_a_layer_that_scales_is_named(nested, eats, clothes, embedded):
    """A model that scales its inputs says which layer does; one that does not, does not."""
    model = eats(0, 255)
    if nested:
        x = keras.Input(model.input_shape[1:])
        model = keras.Model(x, model(x))
    (layer,) = [each for each in eats(0, 255).layers if isinstance(each, keras.layers.Rescaling)]
    _, sentence = attacked(model, *clothes)
    assert f"It begins with the Rescaling layer {layer.name!r}, so it scales its" in sentence
    _, sentence = attacked(advex.Classifier(embedded[0], box=(-1, 1)), *clothes)
    assert sentence and "It begins" not in sentence


def minus(x):
    return -x


@pytest.mark.backends
@pytest.mark.parametrize("kind", ["uint8", "float"])
def test_what_the_classifier_has_already_stays(kind, eats, clothes):
    """Its preprocessing, after the other range, its names and its output."""
    model, (x, labels) = eats(0, -255), clothes
    names = [f"kind {number}" for number in range(10)]
    x = x if kind == "uint8" else floats(x, 0, 1)
    output = model.output_names[0]
    given = advex.Classifier(model, preprocess=minus, classes=names, output=output)
    _, sentence = attacked(given, x, labels)
    better = typed(sentence, model=model, preprocess=minus, classes=names)
    assert better.names == names
    assert better.output == output
    assert better.box == ((0, 255) if kind == "uint8" else (0, 1))
    assert accuracy(attacked(better, x, labels)[0]) > 0.85


def test_floats_that_do_not_fill_the_box(eats, clothes):
    model, (x, labels) = eats(0, 255), clothes
    x = floats(x, 0, 1)
    classifier = advex.Classifier(model, box=(0, 255))
    _, sentence = attacked(classifier, x, labels)
    assert "if [0, 1] were stretched to the box (0, 255)" in sentence
    assert sentence.endswith(": attack x * 255 in place of x")
    assert accuracy(attacked(classifier, x * 255, labels)[0]) > 0.85


def test_each_line_says_what_was_shown():
    boxes = [*ranges.BOXES, (0.5, 2.0), (-3.0, -1.0)]
    for box in boxes:
        x = np.linspace(*box, 7)
        for other in boxes:
            points, code = moved(x, box, other)
            np.testing.assert_allclose(points, np.linspace(*other, 7), rtol=1e-6, atol=1e-6)
            np.testing.assert_allclose(eval(code, {"x": x}), points, rtol=1e-6, atol=1e-6)


# What it costs.


def test_rows_cost_and_end_as_ever_and_the_questions_are_counted(eats, clothes, monkeypatch):
    x, labels = clothes
    found, sentence = attacked(eats(0, 255), x, labels)
    monkeypatch.setattr(call, "another_range", lambda *_: ("", 0))
    plain, nothing = attacked(eats(0, 255), x, labels)
    assert sentence
    assert not nothing
    for name in ("x", "success", "queries", "gradients", "margin", "prediction"):
        assert (getattr(found, name) == getattr(plain, name)).all(), name
    spent = [result.info["checks"]["queries"] for result in (found, plain)]
    assert spent[0] - spent[1] == 2 * len(x)


NOT_ASKED = {
    "nine in ten right": (40, 10, 36, {}),
    "room for chance alone": (20, 10, 17, {}),
    "few rows": (7, 7, 0, {}),
    "one class": (40, 1, 0, {}),
    "two classes, one of them once": (16, 15, 0, {"labels": [0] * 15 + [1]}),
}


@pytest.mark.parametrize("case", NOT_ASKED)
def test_nothing_is_asked_where_no_answer_could_tell(case):
    count, classes, right, more = NOT_ASKED[case]
    labels = np.asarray(more.get("labels", np.arange(count) % classes))
    prediction = np.where(np.arange(count) < right, labels, labels + 1)
    nobody = object()  # that cannot be asked
    x = np.zeros((count, 3), "float32")
    assert another_range(nobody, CLASSIFIER, x, labels, prediction) == ("", 0)


@pytest.mark.parametrize("case", ["own predictions", "all steps", "black box", "another goal"])
def test_calls_that_are_not_asked_about(case, eats, clothes, monkeypatch):
    (x, labels), model, settings = clothes, eats(0, 255), {}
    if case == "own predictions":
        labels = None
    if case == "all steps":
        settings = {"until": "end"}
    if case == "another goal":
        labels = advex.Targeted(labels)
    if case == "black box":
        model = advex.BlackBox(lambda x: np.eye(10)[x[:, 0, 0, 0].astype(int) % 10], 10)
    attack = advex.SquareAttack(steps=4) if case == "black box" else ATTACK
    monkeypatch.setattr(ranges, "others", None)  # would fail
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ModelWarning)
        attack(model, x, labels, STILL, **settings)


# No false alarms.


class Says:
    """A judge whose model says, in one range after the other, what it is told to."""

    def __init__(self, *said):
        self.said = list(said)

    def of(self, grid):
        assert isinstance(grid, Grid)
        return self

    def logits(self, x):
        said = self.said.pop(0)
        if said is None:
            raise ValueError("not these values")
        return said

    def about(self, said, goal):
        return {"prediction": said, "broken": said < 0}


def alarm(labels, now, *others):
    x = np.zeros((len(labels), 3), "float32")
    some = np.sort(np.random.default_rng(0).permutation(len(x))[:64])
    judge = Says(*(None if each is None else each[some] for each in others))
    told, spent = another_range(judge, CLASSIFIER, x, labels, now)
    assert spent in (0, 2 * min(64, len(x)))
    return told


def test_the_better_range_of_two_is_said():
    labels = np.arange(40) % 10
    wrong, right = labels + 1, labels.copy()
    most = np.where(np.arange(40) % 8 == 0, wrong, labels)
    assert "40 of 40 as they would be in the box (0, 255)" in alarm(labels, wrong, most, right)
    assert "40 of 40 as they would be in the box (-1, 1)" in alarm(labels, wrong, right, most)
    assert alarm(labels, wrong, wrong, wrong) == ""
    assert "box (0, 255)" in alarm(labels, wrong, None, right)  # the model refuses the others
    silent = np.full(40, -1)  # NaN
    assert alarm(labels, wrong, silent, silent) == ""


@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("model", ["random", "one class", "as good everywhere"])
def test_few_alarms_by_chance(model, classes):
    """None in 200 of random and constant models; of models that are as good in each range no more
    than is promised, with a margin for the draw.
    """
    draw, found = np.random.default_rng(7), 0
    for _ in range(200):
        labels = draw.integers(classes, size=60)

        def said(labels=labels):
            if model == "random":
                return draw.integers(classes, size=60)
            if model == "one class":
                return np.full(60, draw.integers(classes))
            return np.where(draw.random(60) < 0.45, labels, (labels + 1) % classes)

        found += alarm(labels, said(), said(), said()) != ""
    assert found <= (3 if model == "as good everywhere" else 0)


def test_a_model_that_says_another_class_to_all_in_each_range_explains_nothing():
    """Most rows are of the class that it says there."""
    labels = np.where(np.arange(16) < 14, 3, 1)
    assert more_often(14, 16, 0, 16) < 1e-4
    assert alarm(labels, np.full(16, 0), np.full(16, 3), np.full(16, 1)) == ""


def mixed(labels, share, draw):
    """Answers of which so many are right."""
    return np.where(draw.random(len(labels)) < share, labels, (labels + 1) % 10)


def test_a_model_that_is_right_about_most_inputs_in_the_wrong_box():
    """58 % as they are and 85 % in another box is a difference; 60 % and 60 % is none, nor is 60 %
    and 65 %.
    """
    draw = np.random.default_rng(3)
    labels = draw.integers(10, size=200)
    missed = 0
    for _ in range(50):
        now, there = mixed(labels, 0.58, draw), mixed(labels, 0.85, draw)
        missed += "in the box (-1, 1)" not in alarm(labels, now, there, mixed(labels, 0.3, draw))
        # and where all that is right now stays right
        both = np.where(draw.random(200) < 0.6, labels, now)
        told = alarm(labels, now, np.where(now == labels, labels, both), labels + 1)
        missed += "in the box (-1, 1)" not in told
    assert missed <= 10
    false = 0
    for _ in range(200):
        now = mixed(labels, 0.6, draw)
        false += alarm(labels, now, mixed(labels, 0.6, draw), mixed(labels, 0.65, draw)) != ""
    assert false <= 3


@pytest.mark.parametrize("count", range(1, 8))
def test_few_rows_are_never_compared(count):
    labels = np.arange(count)
    assert alarm(labels, labels + 1, labels, labels) == ""


def test_a_small_gain_is_no_better_range():
    """12 of 200 more would be no chance (all others the same), and no other range either."""
    labels = np.arange(64) % 10
    now = np.where(np.arange(64) < 44, labels, labels + 1)
    assert heads(20, 20) < 1e-5
    assert alarm(labels, now, np.where(np.arange(64) < 50, labels, labels + 1), labels + 1) == ""
    assert alarm(labels, now, labels, labels + 1) != ""


def test_the_sign_test_is_the_formula():
    assert heads(0, 0) == heads(0, 9) == 1
    assert heads(9, 9) == 1 / 512
    assert heads(8, 9) == 10 / 512


# The layer that a model begins with.


ONE = "The model begins with the Rescaling layer"


def scaled(*first, shape=(28, 28, 1)):
    """A model that begins so, and says one class to all."""
    rest = [keras.layers.Flatten(), keras.layers.Dense(10)]
    return keras.Sequential([keras.Input(shape), *first, *rest])


def told_of(model, x, labels=None, **settings):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ModelWarning)
        result = ATTACK(model, x, labels, STILL, **settings)
    return [each for each in result.info["warnings"] if ONE in each]


@pytest.mark.backends
@pytest.mark.parametrize("kind", ["uint8", "float"])
@pytest.mark.parametrize("count", [1, 7, 40])
def test_a_leading_layer_is_seen_without_labels(count, kind, eats, clothes):
    """And with few labels; the line that is said helps."""
    model, (x, labels) = eats(0, 255), clothes
    given, known = (x if kind == "uint8" else floats(x, 0, 1))[:count], labels[:count]
    (sentence,) = told_of(model, given)
    assert "which turns 0 to 255 into 0 to 1, and in the box (0, 1) it gets 0 to 1." in sentence
    assert told_of(model, given, advex.Targeted((known + 1) % 10)) == [sentence]
    assert told_of(model, given, until="end") == [sentence]
    if count < 8:
        assert told_of(model, given, known) == [sentence]
    better = typed(sentence, model=model)
    assert told_of(better, given) == told_of(better, given, known) == []
    if count > 1:
        assert accuracy(attacked(better, given, known)[0]) > 0.85


RESCALING = keras.layers.Rescaling
LEADING = {
    "1/127.5": ([RESCALING(1 / 127.5, -1)], (0, 1), "0 to 255 into -1 to 1"),
    "1/256": ([RESCALING(1 / 256)], (0, 1), "into 0 to 1"),
    "after a flip": ([keras.layers.RandomFlip(), RESCALING(1 / 255)], (0, 1), "into 0 to 1"),
    "channels": ([RESCALING([1 / 255], [0.0])], (-1, 1), "in the box (-1, 1) it gets -1 to 1"),
}
SILENT = {
    "the box is right": ([RESCALING(1 / 255)], (0, 255)),
    "from -1 to 1": ([RESCALING(0.5, 0.5)], (0, 1)),
    "to -1 to 1": ([RESCALING(2, -1)], (0, 1)),
    "later": ([keras.layers.Conv2D(1, 1), RESCALING(1 / 255)], (0, 1)),
    "a thousand": ([RESCALING(1e-3)], (0, 1)),
    "centred far away": ([RESCALING(1 / 255, -100)], (0, 1)),
}


@pytest.mark.parametrize("case", [*LEADING, *SILENT])
def test_leading_layers(case, clothes):
    layers, box, *words = {**LEADING, **SILENT}[case]
    told = told_of(advex.Classifier(scaled(*layers), box=box), clothes[0][:2])
    assert len(told) == len(words)
    assert all(word in told[0] for word in words)


def test_preprocessing_says_that_somebody_has_thought_of_it(eats, clothes):
    given = advex.Classifier(eats(0, 255), preprocess=lambda x: x * 255)
    assert told_of(given, clothes[0][:3]) == []


def test_labels_may_speak_against_a_leading_layer(clothes):
    """A model that was trained on 0 to 1 before such a layer is right as it is."""
    x, labels = clothes
    judge, classifier = "an answer", advex.Classifier(scaled(RESCALING(1 / 255)))
    for right, there, silent in ((36, 4, True), (24, 4, True), (24, 22, False), (2, 4, False)):
        now = np.where(np.arange(40) < right, labels, labels + 1)
        wide = np.where(np.arange(40) < there, labels, labels + 1)
        judge = Says(*([labels + 1, wide] if right < 36 else [wide]))
        told, _ = another_range(judge, classifier, x, labels, now)
        assert (told == "") == silent, right
        assert (ONE in told) != silent


def test_more_often_is_the_formula_in_whole_numbers():
    for count, rows, others, every in [
        (15, 16, 14, 40),
        (3, 8, 0, 8),
        (0, 5, 2, 9),
        (16, 16, 1, 16),
    ]:
        total = count + others
        exact = sum(
            Fraction(
                math.comb(rows, more) * math.comb(every, total - more),
                math.comb(rows + every, total),
            )
            for more in range(count, min(rows, total) + 1)
        )
        assert more_often(count, rows, others, every) == pytest.approx(float(exact))
    assert more_often(16, 16, 400_000, 1_000_000) == pytest.approx(0.4**16, rel=1e-2)


def test_shuffled_labels_are_right_as_often_as_the_formula_says():
    """Two rows of each of two classes: both sides right in one of 6 orders."""
    labels = np.array([0, 0, 1, 1])
    assert shuffled(labels, labels) == pytest.approx(1 / 6, abs=0.02)
    assert shuffled(np.zeros(4, int), labels) == 1
    assert shuffled(1 - labels, labels) == 1


def test_labels_of_nothing_are_below_chance_as_ever():
    x, labels = linear_data(20)
    with pytest.warns(ModelWarning, match="less than chance"):
        result = ATTACK(linear_model(), x, 1 - labels, STILL)
    assert not any("right as they are" in sentence for sentence in result.info["warnings"])


# In an evaluation.


@pytest.mark.parametrize("kind", ["uint8", "float"])
def test_an_evaluation_says_it_once(kind, eats, clothes, tmp_path):
    x, labels = clothes
    x = x if kind == "uint8" else floats(x, 0, 1)
    model, run, attacks = eats(0, 255), tmp_path / "run.advex", {"one": ATTACK, "two": advex.BIM()}

    def evaluated(model, run=None):
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            found = advex.evaluate(
                model, (x, labels), attacks, STILL, run=run, diagnose=False, batch_size=8
            )
        return found, [str(one.message) for one in seen]

    found, said = evaluated(model, run)
    assert found.clean_accuracy < 0.5
    sentences = [each for each in said if "right as they are" in each]
    assert len(sentences) == 1
    assert found.warnings.count(sentences[0]) == 1
    assert sum("right as they are" in each for each in found.warnings) == 1
    assert sentences[0] in str(advex.evaluation.Evaluation.load(run)) + repr(found)
    better, nothing = evaluated(typed(sentences[0], model=model))
    assert better.clean_accuracy > 0.85
    assert not any("right as they are" in each for each in nothing + better.warnings)
    assert found.passes["checks"] >= 32


@pytest.mark.parametrize("labelled", [True, False])
def test_an_evaluation_says_once_what_the_first_layer_is_for(labelled, eats, clothes):
    """With few labels, and with another goal; the page and the text say it before the flags."""
    x, labels = clothes[0][:6], clothes[1][:6]
    goal = None if labelled else advex.TopK
    attacks = {"one": ATTACK, "two": advex.BIM()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = advex.evaluate(eats(0, 255), (x, labels), attacks, STILL, goal=goal)
    assert [ONE in each for each in found.warnings].count(True) == 1
    text = str(found)
    assert text.count(ONE) == 1
    assert text.index(f"WARNING: {found.wrong_range}") < text.index("95% interval")
    assert repr(found)
