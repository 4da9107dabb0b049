"""Domains and inputs as users type them: they work, or one clear error says what was expected."""

import keras
import numpy as np
import pytest
from keras import ops

import advex
from advex.errors import InvalidInput, InvalidType, UserCodeError
from advex.testing import linear_data, linear_model

PGD, BUDGET = advex.PGD(steps=2), advex.Linf(0.1)


def table(**more):
    return advex.Domain(np.zeros(12), np.ones(12), **more)


def attacked(**more):
    x, labels = linear_data(4)
    return PGD(advex.Classifier(linear_model(), box=table(**more)), x, labels, BUDGET)


@pytest.mark.parametrize("make", [table, lambda **more: advex.Domain.from_data(HOT, **more)])
@pytest.mark.parametrize("groups", [5, [5], [None], "ab", ["a", "b"], {"a": [0, 1]}])
def test_what_is_no_list_of_groups(make, groups):
    with pytest.raises(InvalidType, match=r"must be groups of features, .*; received") as caught:
        make(one_hot=groups)
    assert repr(groups) in str(caught.value)


HOT = np.eye(12)


@pytest.mark.parametrize("name", ["fixed", "integer"])
@pytest.mark.parametrize("numbers", [[0], [1], [0, 1], np.array([1])])
def test_numbers_0_and_1_are_no_mask(name, numbers):
    with pytest.raises(InvalidInput, match="If these are numbers of features"):
        table(**{name: numbers})
    with pytest.raises(InvalidInput, match="If these are numbers of features"):
        advex.Domain(0, 1, **{name: numbers[:1]})


def test_masks_of_0_and_1():
    assert table(fixed=[1] + [0] * 11).fixed.sum() == 1
    assert advex.Domain([0], [1], fixed=[0]).fixed.tolist() == [False]
    assert advex.Domain(0, 1, fixed=[1, 0, 0]).fixed.tolist() == [True, False, False]
    assert advex.Domain(np.zeros((4, 4, 1)), 1, fixed=[0, 1]).shape == (4, 4, 2)


def test_names_of_columns_in_any_list():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"age": [20, 30], "pay": [1.5, 2.5], "job": [0, 1]})
    names = ["age", "job"]
    for given in (names, tuple(names), set(names), np.array(names), frame.columns[[0, 2]]):
        assert advex.Domain.from_data(frame, fixed=given).fixed.tolist() == [True, False, True]
    masks = frame.columns != "pay", pandas.Series([True, False, True]), np.array([True] * 3)
    for given in masks:
        assert advex.Domain.from_data(frame, fixed=given).fixed[[0, 2]].all()
    assert advex.Domain.from_data(frame, fixed=np.array(True)).fixed.all()


def test_a_repair_that_fails_where_gradients_are_taken():
    def repair(x):
        if "64" in keras.backend.standardize_dtype(x.dtype):
            return x
        raise RuntimeError("of the user's own")

    with pytest.raises(UserCodeError, match=r"repair failed with RuntimeError: of the user's own"):
        attacked(repair=repair)


def test_a_repair_that_makes_nan():
    with pytest.raises(InvalidInput, match="repair changes 4 rows of x"):
        attacked(repair=lambda x: x * np.nan)


def test_what_valid_is_asked_with_is_said():
    with pytest.raises(UserCodeError, match=r"valid failed with IndexError: .*array of NumPy"):
        attacked(valid=lambda x: x["age"])


@pytest.mark.parametrize("answer", [True, None, np.ones((4, 12, 2), bool)])
def test_valid_answers_for_each_example(answer):
    with pytest.raises(InvalidInput, match="one boolean for each example") as caught:
        attacked(valid=lambda _: answer)
    assert "lambda" not in str(caught.value)


@pytest.mark.parametrize("number", [0.5, np.nan, -1])
def test_valid_answers_with_booleans(number):
    with pytest.raises(InvalidInput, match="valid must return booleans"):
        attacked(valid=lambda x: np.full(len(x), number))
    with pytest.raises(InvalidInput, match="valid must return booleans"):
        table(valid=lambda x: np.array(["yes"] * len(x))).holds(HOT)


def test_valid_may_answer_in_many_ways():
    for rule in (
        lambda x: [True] * len(x),
        lambda x: np.ones(len(x)),
        lambda x: ops.all(ops.convert_to_tensor(x) >= 0, axis=1),
    ):
        assert len(attacked(valid=rule)) == 4


def sizes():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((None, None, 1))
    pooled = keras.layers.GlobalMaxPooling2D()(keras.layers.Conv2D(3, 2)(inputs))
    generator = np.random.default_rng(0)
    shapes = [(4, 4, 1), (5, 3, 1), (4, 4, 1)]
    scores = keras.layers.Rescaling(5, offset=-3)(pooled)
    return keras.Model(inputs, scores), [generator.random(s).astype("float32") for s in shapes]


def test_where_to_begin_with_several_sizes():
    model, x = sizes()
    search = advex.FMN(steps=3)
    for start in (3, "x", {0: x[0]}, x[:2], x[::-1][:2], [x[1], x[0], x[2]], [x[0], 1.0, x[2]]):
        with pytest.raises(InvalidInput, match="start must be points for each of x"):
            search(model, x, None, advex.Linf(), start=start)
    first = search(model, x, None, advex.Linf())
    for start in (first, first.x, tuple(first.x)):
        again = search(model, x, None, advex.Linf(), start=start)
        assert [row.shape for row in again.x] == [row.shape for row in x]


def test_a_start_that_moved_what_is_fixed():
    x, labels = linear_data(6)
    domain = table(fixed=[True, True] + [False] * 10)
    start = np.clip(x + 0.2, 0, 1)
    model = advex.Classifier(linear_model(), box=domain)
    result = advex.FMN(steps=5)(model, x, labels, advex.Linf(), start=start)
    assert domain.holds(result.x, x).all() and domain.holds(result.attempt, x).all()


@pytest.mark.filterwarnings("ignore::advex.errors.ModelWarning")
def test_an_epsilon_for_each_example_in_every_composite():
    x, labels = linear_data(6)
    epsilons = np.array([0, 0.05, 0.1, 0.2, 0.01, 0.3])
    for attack in (
        advex.EveryTarget(PGD),
        advex.Restarts(PGD, 2),
        advex.Ensemble(advex.FGSM(), PGD),
        advex.SquareAttack(steps=8),
    ):
        result = attack(linear_model(), x, labels, advex.Linf(epsilons))
        moved = np.abs(np.asarray(result.x, "float64") - x).max(axis=1)
        assert (moved <= epsilons).all()
    assert len(PGD(linear_model(), x[:0], labels[:0], advex.Linf(0.1))) == 0
