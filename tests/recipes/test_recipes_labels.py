"""Recipes about functions that answer with a class alone, and about attacks without gradients."""

import sys
import warnings

import numpy as np
import pytest
from messages import cut, executes, installed_by, said, typed

import advex
from advex.attacks.call import Attackable
from advex.evaluation import curve as curve_of
from tests.labels_data import Oracle, asking, inputs

X, LABELS = inputs(4)
LABELS[:] = 0  # all but those that are answered so are wrong before
ATTACK = advex.HopSkipJump(steps=12)
BUDGETS = {"Linf": advex.Linf(0.1), "L2": advex.L2(0.5), "L1": advex.L1(2.0), "L0": advex.L0(3)}
ATTACKS = r"advex\.\w+\([^()]*\)"


def classes(x):
    return Oracle()(x)


def scores(x):
    return Oracle("scores")(x)


def quiet(box, goal=LABELS, attack=ATTACK, budget=None, x=X, **words):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", advex.errors.AdvexWarning)
        return attack(box, x, goal, advex.L2() if budget is None else budget, **words)


def boxed(message, pattern=r"advex\.BlackBox\(.*?\)(?=$|,|\.| )", **names):
    return typed(message, pattern, **names)


@executes(": class numbers are enough with")
def test_class_numbers_in_place_of_scores():
    message = said(lambda: quiet(advex.BlackBox(classes, classes=3)))
    box = boxed(message, predict=classes, classes=3)
    attack = typed(message, r"such as (advex\..*)$")
    assert box.answers == "labels"
    assert isinstance(attack, advex.MinimumNorm)
    assert len(quiet(box)) == len(X)


@executes(": scores are advex.BlackBox", "predict must return one class number for each input")
def test_scores_in_place_of_class_numbers():
    message = said(lambda: quiet(advex.BlackBox(scores, classes=3, answers="labels")))
    assert "answers='labels'" in message
    box = boxed(message, r"are (advex\..*)$", predict=scores, classes=3)
    assert len(quiet(box)) == len(X)


@executes("classes={}, or subtract the lowest number that it answers")
def test_class_numbers_from_one():
    def from_one(x):
        return classes(x) * 0 + 3

    message = said(lambda: quiet(advex.BlackBox(from_one, classes=3, answers="labels")))
    count = int(cut(message, r"classes=(\d+)"))
    assert len(quiet(advex.BlackBox(from_one, classes=count, answers="labels"))) == len(X)


@executes("The function answers with zeros and ones only")
def test_a_class_as_zeros_and_ones():
    def hard(x):
        return np.eye(3)[classes(x)]

    with pytest.warns(advex.errors.ModelWarning) as caught:
        advex.SquareAttack(steps=4)(advex.BlackBox(hard, 3), X, LABELS, advex.L2(0.1))
    message = next(str(one.message) for one in caught if "zeros and ones" in str(one.message))
    box = boxed(message, r"one: (advex\..*)\.$", predict=hard, classes=3)
    assert len(quiet(box)) == len(X)


class Classes:
    classes_ = np.arange(3)

    def predict(self, x):
        return classes(x)


class Probabilities(Classes):
    def predict_proba(self, x):
        return scores(x)


@executes(", answers='labels'", "is an estimator: advex.BlackBox(model.{}, classes=len(model.cl")
def test_estimators():
    for model, answers in ((Classes(), "labels"), (Probabilities(), "labels")):
        message = said(
            lambda model=model, answers=answers: advex.BlackBox(model, 3, answers=answers)
        )
        box = boxed(message, r"advex\..*$", model=model)
        assert box.answers == "labels"
        assert len(quiet(box)) == len(X)


@executes("the goal is about several labels of each input, and this BlackBox")
def test_several_labels_and_a_class_alone():
    goal = advex.MultiLabel(np.eye(3, dtype=int)[LABELS])
    message = said(lambda: quiet(advex.BlackBox(classes, 3, answers="labels"), goal))
    box = boxed(message, r"is (advex\..*)$", predict=scores, classes=3)
    assert len(quiet(box, goal, advex.SquareAttack(steps=4), advex.L2(0.1))) == len(X)


@executes("is about more than a class")
def test_more_than_a_class():
    box = asking(Oracle())
    message = said(lambda: quiet(box, advex.Targeted(1, confidence=0.9)))
    goal = typed(message, r"such as (advex\.\w+\(.*?\))")
    assert isinstance(goal, advex.Targeted)
    assert len(quiet(box, advex.Targeted(1))) == len(X)
    more = boxed(message, r"scores, (advex\..*)$", predict=scores, classes=3)
    found = quiet(more, advex.Targeted(1, confidence=0.9), advex.SquareAttack(steps=4), advex.L2(9))
    assert len(found) == len(X)


@executes("use an attack that needs no more, such as", "or at labels alone, such as")
def test_what_an_attack_needs():
    for kind in ("labels", "scores"):
        for name, budget in BUDGETS.items():
            box = asking(Oracle(kind))
            message = said(
                lambda box=box, budget=budget: quiet(box, attack=advex.PGD(), budget=budget)
            )
            attack = typed(message, rf"such as ({ATTACKS})$")
            assert attack.needs == "labels", name
            attack.check(None, budget)


@executes("start=Others(...) is for attacks that need labels alone")
def test_others_for_an_attack_that_begins_elsewhere():
    model, (x, labels) = advex.testing.linear_model(), advex.testing.linear_data(2)
    start = advex.Others(x)
    message = said(lambda: quiet(model, labels, advex.FMN(steps=2), x=x, start=start))
    attack = typed(message, rf"such as ({ATTACKS})")
    assert isinstance(attack, Attackable)
    assert attack.needs == "labels"
    assert len(quiet(model, labels, ATTACK, x=x, start=start)) == 2


@executes("inputs no start was found", "inputs began at other rows of x")
def test_starts():
    normal = np.zeros(36)
    normal[7] = 1  # one element alone decides

    def predict(x):
        return (x.reshape(len(x), -1) @ normal == 0.75).astype(int)

    x = np.full((3, 6, 6, 1), 0.25, "float32")
    far = x.copy()
    far[:, 1, 1] = 0.75
    box = advex.BlackBox(predict, classes=2, answers="labels")
    with pytest.warns(advex.errors.ModelWarning, match="no start was found") as caught:
        advex.HopSkipJump(steps=60)(box, x, [0, 0, 0], advex.L2())
    message = str(caught[0].message)
    start = typed(message, r"start=(advex\.Others\(x, labels\))", x=far, labels=[1, 1, 1])
    assert quiet(box, [0, 0, 0], advex.HopSkipJump(steps=60), x=x, start=start).success.all()
    both = np.concatenate([x, far])
    found = quiet(box, [0, 0, 0, 1, 1, 1], advex.HopSkipJump(steps=60), x=both)
    note = next(note for note in found.info["notes"] if "began at other rows" in note)
    start = typed(note, r"start=(advex\.Others\(x, labels\))", x=far, labels=[1, 1, 1])
    again = quiet(box, [0, 0, 0], advex.HopSkipJump(steps=60), x=x, start=start)
    assert not any("began at other rows" in note for note in again.info["notes"])


@executes("a run without a limit asks on after its first success")
def test_curves_over_queries():
    box = asking(Oracle())
    message = said(lambda: curve_of(quiet(box), over="queries"))
    assert "queries" in typed(message, r"(result\.trace\.table\(\))", result=quiet(box))
    budget = cut(message, r"such as (advex\.\w+)")
    limited = quiet(box, budget=eval(budget)(0.5))
    assert "queries" in curve_of(limited, over="queries").table()
    whole = advex.evaluate(box, (X, LABELS), ATTACK, advex.L2(), diagnose=False)
    message = said(lambda: whole.query_curve)
    limited = eval(cut(message, r"such as (advex\.\w+)"))(0.5)
    found = advex.evaluate(box, (X, LABELS), ATTACK, limited, diagnose=False)
    assert "queries" in found.query_curve.table()


@executes("pictures of traces are drawn by matplotlib")
def test_pictures_of_traces(monkeypatch):
    found = quiet(asking(Oracle()))
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    message = said(lambda: found.trace.show(), ImportError)
    assert installed_by(message) == "advex[report]"
