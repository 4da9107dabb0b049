"""Goals as a user types them: what is wrong with one is said, with the way to what works."""

import functools
import warnings
from dataclasses import dataclass

import keras
import numpy as np
import pytest
from keras import ops

import advex
from advex.cli.main import main
from advex.errors import AdvexWarning, InvalidInput, InvalidType

BUDGET, ATTACK = advex.Linf(0.05), advex.PGD(steps=2)
X = np.random.default_rng(0).random((4, 4, 4, 1)).astype("float32")


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AdvexWarning)
        yield


def network(*layers):
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((4, 4, 1)), *layers])


def classes(units=3, activation=None):
    return network(keras.layers.Flatten(), keras.layers.Dense(units, activation=activation))


def maps(units=3):
    return network(keras.layers.Conv2D(units, 1))


def heads():
    image = keras.Input((4, 4, 1))
    flat = keras.layers.Flatten()(image)
    answers = {"age": keras.layers.Dense(1)(flat), "sex": keras.layers.Dense(2)(flat)}
    return keras.Model(image, answers)


def refused(goal, model, *words, attack=ATTACK, kind=(InvalidInput, InvalidType)):
    with pytest.raises(kind) as caught:
        attack(model, X, goal, BUDGET)
    for word in words:
        assert word in str(caught.value)


def test_a_class_of_goals_is_no_goal():
    refused(advex.MultiLabel, classes(), "advex.MultiLabel(labels)")


def test_the_model_is_looked_at_before_it_is_asked_for_its_own_answer():
    refused(advex.Segmentation(), classes(), "model answers with (3,)")
    refused(advex.MultiLabel(), maps(), "model answers with (4, 4, 3)")


def test_labels_without_an_axis():
    one, five = classes(1), classes(5)
    with pytest.raises(InvalidInput, match=r"np\.asarray\(labels\)\[:, None\]"):
        advex.MultiLabel(np.zeros(4, int))
    assert len(ATTACK(one, X, advex.MultiLabel(np.asarray([0, 1, 0, 1])[:, None]), BUDGET)) == 4
    assert (
        len(ATTACK(five, X[:1], advex.MultiLabel(np.asarray([0, 1, 0, 1, 1])[None]), BUDGET)) == 1
    )


def test_one_place_is_none():
    small = network(keras.layers.GlobalAveragePooling2D(keepdims=True), keras.layers.Dense(3))
    refused(advex.MultiLabel(), small, "keras.layers.Reshape((3,))")
    refused(None, small, "a call without a goal is one class for each example")
    flat = keras.Sequential([keras.Input(X.shape[1:]), small, keras.layers.Reshape((3,))])
    assert len(ATTACK(flat, X, advex.MultiLabel(), BUDGET)) == 4


@pytest.mark.parametrize(("side", "said"), [("off", True), ("above", False)])
def test_a_limit_is_not_about_the_models_own_answer(side, said):
    limit = advex.Regression(**{side: 0.1})
    for goal, model in (
        (limit, classes(1)),
        (advex.AllOf(advex.Output("age", limit), advex.Output("sex", np.zeros(4, int))), heads()),
    ):
        notes = ATTACK(model, X, goal, BUDGET).info["notes"]
        assert any("own answers" in note for note in notes) == said


def test_labels_of_several_outputs():
    sex = np.zeros(4, int)
    refused({"sex": sex}, heads(), "advex.Output('sex', labels['sex'])")
    refused({"age": sex, "sex": sex}, heads(), "advex.AnyOf(advex.Output('age', labels['age']),")
    labels = {"age": sex, "sex": sex}
    goal = advex.AnyOf(advex.Output("age", labels["age"]), advex.Output("sex", labels["sex"]))
    assert len(ATTACK(heads(), X, goal, BUDGET)) == 4
    with pytest.raises(InvalidType, match=r"np\.stack\(list\(labels\.values\(\)\), 1\)"):
        advex.evaluate(heads(), (X, labels), ATTACK, BUDGET, goal=lambda y: y, progress=False)
    columns = np.stack(list(labels.values()), 1)
    found = advex.evaluate(
        heads(),
        (X, columns),
        ATTACK,
        BUDGET,
        goal=lambda y: advex.AnyOf(advex.Output("age", y[:, 0]), advex.Output("sex", y[:, 1])),
        progress=False,
    )
    assert found.matrix.shape == (1, 4)


def test_what_a_goal_is_made_of():
    refused(lambda labels: labels, classes(), "goal(labels)")
    refused(functools.partial(advex.TopK, k=2), classes(), "goal(labels)")
    goals = {"age": advex.Regression(off=0.1), "sex": advex.Targeted(1)}
    refused(goals, heads(), "advex.AnyOf(advex.Output('age', goals['age']), advex.Output('sex'")
    refused(np.full(4, 0.5), classes(1), "advex.Regression(labels, off=0.5)")


def test_a_list_of_goals():
    goals = [advex.Targeted(1), advex.Targeted(2)]
    with pytest.raises(InvalidType, match=r"AnyOf\(\*goals\)"):
        advex.AnyOf(goals)
    refused(goals, classes(), "advex.AnyOf(*goals)", "advex.AllOf(*goals)")
    assert len(advex.AnyOf(*goals).goals) == 2


def test_one_hot_maps():
    model = maps()
    hot = np.eye(3)[model.predict(X, verbose=0).argmax(-1)]
    refused(advex.Segmentation(hot), model, "np.asarray(labels).argmax(-1)")
    result = ATTACK(model, X, advex.Segmentation(np.asarray(hot).argmax(-1)), BUDGET)
    assert not (result.status == "clean").any()
    steps = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Reshape((4, 4))])
    told = ATTACK(steps, X, advex.Segmentation(np.eye(4)[np.zeros((4, 4), int)]), BUDGET)
    assert any("argmax(-1)" in note for note in told.info["notes"])


def test_maps_without_a_place_that_counts():
    labels = np.zeros((4, 4, 4), int)
    labels[1:3] = 255
    result = ATTACK(maps(), X, advex.Segmentation(labels), BUDGET)
    assert any(note.startswith("2 of 4 examples") for note in result.info["notes"])
    assert not result.success[1:3].any()


def test_a_black_box_whose_labels_share_one_probability():
    model = classes(activation="softmax")
    box = advex.BlackBox(lambda points: model.predict(points, verbose=0), classes=3)
    refused(advex.MultiLabel(), box, "share one", attack=advex.SquareAttack(steps=5))


def test_names_are_counted_for_each_classifier():
    model = maps()
    ATTACK(model, X, advex.Segmentation(), BUDGET)
    refused(advex.Segmentation(), advex.Classifier(model, classes=["a", "b"]), "2 names")


def test_names_are_of_labels_and_classes():
    one, model = classes(1), heads()
    assert len(ATTACK(advex.Classifier(one, classes=["cat"]), X, advex.MultiLabel(), BUDGET)) == 4
    refused(np.zeros(4, int), advex.Classifier(one, classes=["cat"]), "1 names")
    for names in (["a", "b", "c"], []):
        with pytest.raises(InvalidInput):
            advex.Classifier(one, classes=names)
    with pytest.raises(InvalidInput, match="1 names"):
        advex.Classifier(classes(2), classes=["cat"])
    named = advex.Classifier(model, classes=["a", "b", "c"])
    number = ATTACK(named, X, advex.Output("age", advex.Regression(off=0.1)), BUDGET)
    assert len(number) == 4
    refused(advex.Output("sex", np.zeros(4, int)), named, "3 names")


def test_no_inputs_say_as_much_as_others():
    none = ATTACK(classes(), X[:0], advex.MultiLabel(), BUDGET, until="end")
    assert none.info["until"] == "end" and none.info["clean_wrong"] == 0


def test_attacks_on_classes_name_themselves():
    goal = advex.Regression(off=0.1)
    refused(goal, classes(1), "AutoAttack", "advex.Verdict()", attack=advex.AutoAttack())
    refused(goal, classes(1), "EveryTarget", attack=advex.EveryTarget(ATTACK))


@dataclass(frozen=True, eq=False)
class First(advex.Goal):
    def margin(self, logits):
        return logits[:, 0]


class Column(First):
    def margin(self, logits):
        return logits[:, :1]


class Whether(First):
    def margin(self, logits):
        return logits[:, 0] > 0


class Mean(First):
    def margin(self, logits):
        return ops.mean(logits)


class Plain(advex.Goal):
    def margin(self, logits):
        return logits[:, 0]


class Misread(First):
    reads = "logits"


class Half(First):
    def margin(self, logits):
        return ops.cast(logits[:, 0], "float16")


@dataclass(frozen=True, eq=False)
class Beyond(advex.Goal):
    limits: object

    def margin(self, logits):
        return logits[:, 0] - self.limits


@pytest.mark.parametrize("goal", [Column(), Whether(), Mean(), Half()])
def test_a_margin_is_one_number_for_each_example(goal):
    refused(goal, classes(), f"{type(goal).__name__}.margin", "one number for each example")


def test_a_goal_of_ones_own_is_a_dataclass():
    refused(Plain(), classes(), "@dataclass(frozen=True, eq=False) above class Plain")
    refused(Misread(), classes(), "'scores', 'labels' or 'raw'")
    assert len(ATTACK(classes(), X, First(), BUDGET)) == 4
    limits = ops.zeros(4)
    refused(Beyond(limits), classes(), "Beyond.limits is a tensor", "np.asarray(limits)")
    assert len(ATTACK(classes(), X, Beyond(np.asarray(limits)), BUDGET)) == 4


def test_the_goal_of_an_evaluation_is_called_with_arrays():
    with pytest.raises(advex.errors.UserCodeError, match="a NumPy array"):
        advex.evaluate(
            classes(), (X, np.zeros(4)), ATTACK, BUDGET, goal=lambda y: y.there, progress=False
        )


def test_the_command_line_speaks_of_its_own_options(tmp_path, capsys):
    model = classes(1)
    model.save(tmp_path / "model.keras")
    values = model.predict(X, verbose=0)[:, 0]
    np.savez(tmp_path / "data.npz", x=X, labels=values)
    call = ["evaluate", "--model", str(tmp_path / "model.keras"), "--attack", "fgsm"]
    call += ["--data", str(tmp_path / "data.npz"), "--epsilon", "0.05"]
    assert main(call) == 2
    assert "--goal regression --off 0.5" in capsys.readouterr().err
    assert main([*call, "--goal", "regression", "--off", "0.5"]) == 0


def test_what_numbers_of_labels_were_taken_for_is_said():
    model, x = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]), np.zeros((2, 4)) + 0.5
    result = advex.FGSM()(model, x.astype("float32"), advex.MultiLabel(), advex.Linf(0.1))
    assert any("taken for their logits" in note for note in result.info["notes"])


def test_a_limit_needs_no_values_and_says_none():
    assert repr(advex.Regression(above=3.0)) == "Regression(above=3)"
    assert repr(advex.Regression(off=3.0)) == "Regression(the model's own answers, off=3)"
