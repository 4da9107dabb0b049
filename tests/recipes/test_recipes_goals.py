"""Recipes in messages about labels and goals."""

import functools
import warnings
from dataclasses import dataclass

import keras
import numpy as np
import pytest
from keras import ops
from messages import cut, executes, keywords, said, typed

import advex
from advex.errors import AdvexWarning

pytestmark = pytest.mark.usefixtures("unsearched")

BUDGET, ATTACK = advex.Linf(0.1), advex.FGSM()
X = np.random.default_rng(0).random((4, 4, 4, 1)).astype("float32")


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AdvexWarning)
        yield


def network(*layers):
    return keras.Sequential([keras.Input((4, 4, 1)), *layers])


@functools.cache
def classes(units=3, activation=None):
    return network(keras.layers.Flatten(), keras.layers.Dense(units, activation=activation))


@functools.cache
def maps(units=3):
    return network(keras.layers.Conv2D(units, 1))


@functools.cache
def heads(age=2):
    image = keras.Input((4, 4, 1))
    flat = keras.layers.Flatten()(image)
    answers = {"age": keras.layers.Dense(age)(flat), "sex": keras.layers.Dense(2)(flat)}
    return keras.Model(image, answers)


def fits(goal, model, attack=ATTACK):
    """Whether the goal can be pursued."""
    return len(attack(model, X, goal, BUDGET)) == len(X)


def refused(goal, model, attack=ATTACK):
    return said(lambda: attack(model, X, goal, BUDGET))


def note(goal, model, words):
    """What the result of an attack says with these words."""
    return next(each for each in ATTACK(model, X, goal, BUDGET).info["notes"] if words in each)


def evaluated(goal, labels, model):
    found = advex.evaluate(
        model, (X, labels), ATTACK, BUDGET, goal=goal, progress=False, diagnose=False
    )
    return found.examples == len(X)


# Labels


@executes(
    ": a class for each pixel is advex.Segmentation",
    ": a class for each pixel is advex.Segmentation({})",
    "labels of shape (n, {}) are one-hot",
)
def test_labels_of_maps():
    labels = np.zeros((4, 4, 4), int)
    message = refused(labels, maps())
    assert fits(typed(message, r"is (advex\.Segmentation\(labels\))", labels=labels), maps())
    hot = np.eye(3)[labels]
    message = refused(advex.Segmentation(hot), maps())
    made = typed(message, r"is (np.*)$", labels=hot)
    assert fits(advex.Segmentation(made), maps())


@executes(": numbers are advex.Regression")
def test_labels_that_are_numbers():
    labels = np.full(4, 0.5)
    message = refused(labels, classes(1))
    assert fits(typed(message, r"advex\.Regression\(.*\)", labels=labels), classes(1))


@executes(
    "rows with no 1 or with several are several labels",
    "advex.MultiLabel(np.asarray({}) > 0.5) if they are several labels",
)
def test_rows_of_labels():
    for labels in (np.array([[1, 0, 1]] * 4), [[0, 0, 0]] * 4, [[0.7, 0.2, 0.9]] * 4):
        message = refused(labels, classes())
        made = typed(message, r"advex\.MultiLabel\((?:labels|np\..* 0\.5)\)", labels=labels)
        assert fits(made, classes())


@executes("if it is a number, a regression: advex.Regression(labels, off=0.5)")
def test_labels_of_one_unit():
    labels = [36, 41, 44, 40]
    message = refused(labels, classes(1))
    assert fits(typed(message, r"regression: (advex.*\)), moved", labels=labels), classes(1))


@executes(": are they 1-based?")
def test_labels_from_1():
    for labels in ([1, 2, 3, 1], np.array([1, 2, 3, 1])):
        message = refused(labels, classes())
        assert fits(typed(message, r"Subtract 1: (.*)$", labels=labels), classes())


@executes("Targeted needs class numbers, not names")
def test_a_target_by_name():
    message = said(lambda: advex.Targeted("dog"))
    made = typed(message, r": (names.*\)) with", names=["cat", "dog", "cow"])
    assert fits(advex.Targeted(made), classes())


@executes("k must be at most")
def test_more_classes_than_there_are():
    message = refused(advex.TopK(np.zeros(4, int), k=3), classes())
    made = typed(message, r"k must be at most (\d+)")
    assert fits(advex.TopK(np.zeros(4, int), k=made), classes())


# Several labels, numbers, maps


@executes("np.asarray(labels)[:, None] if there is one label for each example")
def test_labels_without_an_axis():
    for labels in ([0, 1, 0, 1], np.array([0, 1, 0, 1])):
        message = said(lambda labels=labels: advex.MultiLabel(labels))
        column = typed(message, r": (np\.asarray\(labels\)\[:, None\])", labels=labels)
        assert fits(advex.MultiLabel(column), classes(1))
        row = typed(message, r", (np\.asarray\(labels\)\[None\])", labels=labels)
        assert len(ATTACK(classes(4), X[:1], advex.MultiLabel(row), BUDGET)) == 1


@executes("np.asarray(labels) > 0.5 if they are probabilities")
def test_labels_that_are_probabilities():
    for labels in ([[0.7, 0.2, 0.9]] * 4, np.full((4, 3), 0.7)):
        message = said(lambda labels=labels: advex.MultiLabel(labels))
        made = typed(message, r": (np.* 0\.5) if", labels=labels)
        assert fits(advex.MultiLabel(made), classes())


@executes(
    ": model = keras.Sequential([keras.Input(x.shape[1:]), model, keras.layers.Reshape(({},))])",
    "one place with its classes is model",
)
def test_one_place():
    small = network(keras.layers.GlobalAveragePooling2D(keepdims=True), keras.layers.Dense(3))
    for goal in (advex.MultiLabel(), None):
        message = refused(goal, small)
        made = typed(message, r"model = keras\.Sequential\(.*\)\]\)", model=small, x=X)
        assert fits(goal, made)


@executes("Regression needs one of off=")
def test_a_regression_without_a_limit():
    values = [1.0, 2.0, 3.0, 4.0]
    message = said(lambda: advex.Regression(values))
    assert fits(typed(message, r"such as (.*?); received", values=values), classes(1))


@executes("if it stands for pixels that do not count")
def test_pixels_that_do_not_count():
    labels = np.zeros((4, 4, 4), int)
    labels[:, 0] = 99
    message = refused(advex.Segmentation(labels), maps())
    assert fits(advex.Segmentation(labels, **keywords(message, r"ignore=\d+")), maps())


@executes("Segmentation needs scores at each place")
def test_maps_of_a_model_that_answers_with_classes():
    labels = np.zeros(4, int)
    message = refused(advex.Segmentation(np.zeros((4, 2, 2), int)), classes())
    assert fits(typed(message, r"advex\.Untargeted\(labels\)", labels=labels), classes())


@executes("taken for {} places with the scores of {} classes. If each is a place")
def test_places_of_one_unit():
    model = network(keras.layers.Reshape((4, 4)), keras.layers.Dense(4))
    message = note(advex.Segmentation(), model, "If each is a place")
    goal = typed(message, r"map: (.*)\.$", model=model, x=X)
    assert fits(goal, model) and goal.labels.shape == (4, 4, 4)


@executes("If they are one-hot, a class for each of {} places")
def test_one_hot_rows_of_places():
    steps = network(keras.layers.Reshape((4, 4)))
    labels = np.eye(4)[np.zeros((4, 4), int)]
    message = note(advex.Segmentation(labels), steps, "If they are one-hot")
    made = typed(message, r"(np\.[^:]*)\.$", labels=labels)
    assert fits(advex.Segmentation(made), steps)


@executes(
    "advex.Segmentation() to leave what the model itself says",
    "a class for each place (segmentation, tagging)",
)
def test_a_model_that_answers_with_maps():
    labels = np.zeros((4, 4, 4), int)
    for goal in (None, np.zeros(4, int)):
        message = refused(goal, maps())
        made = typed(message, r"advex\.Segmentation\(labels\)", labels=labels)
        assert fits(made, maps())
        if goal is None:
            assert fits(typed(message, r"advex\.Segmentation\(\)"), maps())


# Goals made of goals


@executes("{}(advex.Output('age', labels), advex.Output('sex', labels))")
def test_goals_for_several_outputs():
    labels = np.zeros(4, int)
    for kind in (advex.AnyOf, advex.AllOf):
        message = said(kind)
        made = typed(message, r"such as (.*);", labels=labels)
        assert isinstance(made, kind) and fits(made, heads())
    message = said(lambda: advex.Output("age", made))
    assert fits(typed(message, r"; (.*) joins", labels=labels), heads())


@executes("needs goals or labels, such as")
def test_goals_that_are_none():
    labels = np.zeros(4, int)
    for given in (None, "cat"):
        message = said(lambda given=given: advex.AnyOf(given))
        assert fits(advex.AnyOf(typed(message, r"such as (.*?);", labels=labels)), classes())


@executes("the goal is the class {}: make one of it", "values, off=0.5", "labels, k=2")
def test_the_class_of_a_goal():
    labels, both = np.zeros(4, int), np.zeros((4, 3), int)
    goals = [advex.Untargeted(labels), advex.TopK(labels, k=2)]
    for goal, model, given in (
        (advex.Untargeted, classes(), labels),
        (advex.Targeted, classes(), labels),
        (advex.TopK, classes(), labels),
        (advex.MultiLabel, classes(), both),
        (advex.Segmentation, maps(), np.zeros((4, 4, 4), int)),
        (advex.Regression, classes(1), labels),
        (advex.Output, heads(), labels),
        (advex.AnyOf, classes(), labels),
        (advex.AllOf, classes(), labels),
    ):
        message = refused(goal, model)
        names = {"labels": given, "values": given, "goals": goals}
        made = typed(message, r"make one of it, (.*)$", **names)
        assert isinstance(made, goal) and fits(made, model)


@executes("advex.Output({}, {}[{}])", "advex.AnyOf({})", "numbers are advex.Regression(values")
def test_a_dict_of_labels_or_goals():
    labels = {"age": np.zeros(4, int), "sex": np.zeros(4, int)}
    goals = {"age": advex.Regression(off=0.1), "sex": advex.Targeted(1)}
    pattern = r"output: (.*?)(?:;|$)"
    assert fits(typed(refused(labels, heads()), pattern, labels=labels), heads())
    assert fits(typed(refused(goals, heads(1)), pattern, goals=goals), heads(1))
    message = refused({"sex": labels["sex"]}, heads())
    assert fits(typed(message, pattern, labels=labels), heads())
    values = typed(message, r"numbers are (.*) within", values=[1, 2, 3, 4])
    assert fits(advex.Output("age", values), heads(1))


@executes("of goals is one goal as advex.AnyOf(*goals)")
def test_a_list_of_goals():
    goals = [advex.Targeted(1), advex.Targeted(2)]
    message = refused(goals, classes())
    assert fits(typed(message, r"as (advex.*?\)), any", goals=goals), classes())
    assert fits(typed(message, r"or (advex.*?\))$", goals=goals), classes())


@executes("an attack needs what it returns, goal(labels)")
def test_a_function_as_a_goal():
    goal, labels = functools.partial(advex.TopK, k=2), np.zeros(4, int)
    message = refused(goal, classes())
    assert fits(typed(message, r"goal\(labels\)$", goal=goal, labels=labels), classes())


class Plain(advex.Goal):
    def margin(self, logits):
        return logits[:, 0]


@dataclass(frozen=True, eq=False)
class Beyond(advex.Goal):
    limits: object

    def margin(self, logits):
        return logits[:, 0] - self.limits


@executes("entries for the examples are a NumPy array", "a goal must be a frozen dataclass")
def test_a_goal_of_ones_own():
    limits = ops.zeros(4)
    message = refused(Beyond(limits), classes())
    assert fits(Beyond(typed(message, r", (np\..*)$", limits=limits)), classes())
    message = refused(Plain(), classes())
    lines = cut(message, r"dataclass: (from .*?), and"), cut(message, r"and (@.*) above")
    scope = {"Base": Plain}
    exec("\n".join([*lines, "class Plain(Base): ..."]), scope)
    assert fits(scope["Plain"](), classes())


# The goal of an evaluation


@executes("goal=advex.Regression needs a limit", "numbers are goal=functools.partial")
def test_numbers_of_an_evaluation():
    values = np.full(4, 0.5)
    for goal in (advex.Regression, None):
        message = said(lambda goal=goal: evaluated(goal, values, classes(1)))
        made = keywords(message, r"goal=functools\.partial\(.*\)")
        assert evaluated(made["goal"], values, classes(1))


@executes("; for evaluate: {}", "goal=advex.{}")
def test_labels_of_another_kind_in_an_evaluation():
    several, pixels = np.array([[1, 0, 1]] * 4), np.zeros((4, 4, 4), int)
    for labels, model in ((several, classes()), (pixels, maps())):
        message = said(lambda labels=labels, model=model: evaluated(None, labels, model))
        made = keywords(message, r"; for evaluate: (goal=advex\.\w+)$")
        assert evaluated(made["goal"], labels, model)


@executes(
    "each block of the data has labels of its own: goal=lambda labels: {}",
    "advex.MultiLabel(labels)",
    "goal must return a goal, such as",
    "{}(labels, {})",
    "{}(labels, k={})",
    "{}({}, {})",
)
def test_a_goal_in_place_of_a_function():
    labels, several, values = np.zeros(4, int), np.ones((4, 3), int), np.full(4, 0.5)
    for goal, given, model in (
        ("MultiLabel", several, classes()),
        (advex.MultiLabel(several), several, classes()),
        (advex.TopK(labels, k=2), labels, classes()),
        (advex.Regression(values, above=2.0), values, classes(1)),
        (advex.Regression(values, off=values), values, classes(1)),
        (advex.Segmentation(), np.zeros((4, 4, 4), int), maps()),
        (advex.Output("age", advex.Regression(values, off=0.5)), values, heads(1)),
        (advex.AnyOf(advex.Output("age", labels), advex.Output("sex", labels)), labels, heads()),
        (Beyond(labels), np.zeros(4, "float32"), classes()),
        (lambda y: y, several, classes()),
    ):
        message = said(lambda goal=goal, given=given, model=model: evaluated(goal, given, model))
        made = keywords(message, r"goal=lambda labels: .*?(?=; received)", Beyond=Beyond)
        assert evaluated(made["goal"], given, model)


@executes("a number for each output is a column of one")
def test_labels_of_several_outputs_in_an_evaluation():
    labels = {"age": np.zeros(4, int), "sex": np.ones(4, int)}
    message = said(lambda: evaluated(None, labels, heads()))
    columns = typed(message, r"labels = np\.stack.*?, 1\)", labels=labels)
    made = keywords(message, r"and (goal=lambda y: .*?);")
    assert evaluated(made["goal"], columns, heads())
    assert evaluated(
        lambda y: advex.Output("age", typed(message, r"numbers are (.*) within", y=y)),
        columns,
        heads(1),
    )
