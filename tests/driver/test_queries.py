"""Attacks that need no gradients: every question is counted, none is asked beyond the limit, and
nothing that was found is lost.
"""

import itertools
import os
import threading
import warnings

import numpy as np
import pytest

import advex
from advex.errors import GradientUnavailable, InvalidInput, InvalidType, ModelWarning
from advex.model.blackbox import BlackBox
from tests.labels_data import CLASSES, LIMITS, Oracle, asking, best_at, inputs, scores

BY_LABELS = {
    "Linf": (advex.HopSkipJump,),
    "L2": (advex.CGBA, advex.HopSkipJump),
}
BY_SCORES = {
    "Linf": (advex.NES, advex.SPSA),
    "L2": (advex.SimBA, advex.SquareAttack),
    "L0": (advex.SparseRS,),
}
LIMITED = {"Linf": 0.1, "L2": 0.6, "L1": 2.0, "L0": 4}
RUNS = int(os.environ.get("ADVEX_QUERY_RUNS", "12"))
"""How many in all; ``make queries`` takes 1,000."""


def runs():
    """Attack, norm, limit, dtype and seed, drawn at random: each kind often."""
    drawn = np.random.default_rng(7)
    pairs = [
        (kind, norm, attack)
        for kind, table in (("labels", BY_LABELS), ("scores", BY_SCORES))
        for norm, attacks in table.items()
        for attack in attacks
    ]
    order = itertools.cycle(pairs)
    for number in range(RUNS):
        kind, norm, attack = next(order)
        steps = int(drawn.choice(LIMITS))
        if RUNS > 100 and drawn.uniform() < 0.1:
            steps = int(drawn.choice([250, 1000, 5000], p=[0.6, 0.3, 0.1]))
        dtype = ("float32", "uint8", "float64", "float16")[int(drawn.integers(4))]
        limited = kind == "scores" or bool(drawn.integers(2))
        yield kind, norm, attack, steps, dtype, limited, number


def as_typed(x, dtype):
    return np.rint(x * 255).astype("uint8") if dtype == "uint8" else x.astype(dtype)


def test_as_many_rows_as_are_counted_and_none_beyond_the_limit():
    for kind, norm, attack, steps, dtype, limited, seed in runs():
        x, labels = inputs(6, seed)
        oracle = Oracle(kind)
        box = asking(oracle)
        budget = getattr(advex, norm)(*([LIMITED[norm]] if limited else []))
        steps = max(steps, 4) if attack is advex.SquareAttack else steps
        made = attack(steps=steps)
        if not limited and made.needs_epsilon:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ModelWarning)  # too few queries for a start
            result = made(box, as_typed(x, dtype), labels, budget, seed=seed, batch_size=4)
        told = f"{made} {budget} {dtype}"
        assert oracle.rows == result.queries.sum() + result.info["checks"]["queries"], told
        assert result.queries.max() <= steps, told
        assert oracle.largest <= 4, told
        assert result.gradients.sum() == 0


@pytest.mark.parametrize("attack", [advex.CGBA, advex.HopSkipJump], ids=lambda one: one.__name__)
def test_the_trace_is_what_the_oracle_has_seen(attack):
    """Row by row: the best of the points that it was shown, by a count of its own."""
    x, labels = inputs(4)
    marks = (1, 5, 20, 50, 111, 300)
    for row in range(len(x)):
        oracle = Oracle()
        box = asking(oracle)
        one = slice(row, row + 1)
        result = attack(steps=300)(box, x[one], labels[one], advex.L2(), marks=marks)
        seen = best_at(oracle.points, x[row], labels[row], marks, "L2")
        np.testing.assert_allclose(result.trace.sizes[0], seen, rtol=2e-5)
        assert result.trace.sizes[0, -1] == result.distance[0]


def test_the_trace_of_several_rows_is_that_of_each_alone():
    x, labels = inputs(9)
    box = asking(Oracle())
    attack = advex.CGBA(steps=120)
    whole = attack(box, x, labels, advex.L2(), batch_size=4)
    for row in range(len(x)):
        one = attack(box, x[row : row + 1], labels[row : row + 1], advex.L2())
        np.testing.assert_allclose(one.trace.sizes[0], whole.trace.sizes[row], rtol=1e-5)
        np.testing.assert_allclose(one.x[0], whole.x[row], atol=1e-5)
    assert (whole.trace.sizes[:, 1:] <= whole.trace.sizes[:, :-1]).all()
    assert (whole.trace.sizes[4] == 0).all()  # wrong before
    assert whole.trace.queries.tolist() == [1, 2, 5, 10, 20, 50, 100, 120]


def test_the_trace_within_a_limit_says_when_a_row_fell():
    x, labels = inputs(9)
    box = asking(Oracle())
    result = advex.CGBA(steps=60)(box, x, labels, advex.L2(0.1), marks=range(1, 61))
    fell = result.queries - 1  # the last judgement comes after
    for row in np.flatnonzero(result.status == "broken"):
        assert np.isinf(result.trace.sizes[row, : fell[row] - 1]).all()
        assert (result.trace.sizes[row, fell[row] - 1 :] == result.distance[row]).all()
    assert np.isinf(result.trace.sizes[result.status == "held"]).all()
    assert (result.status == "broken").any()
    assert (result.status == "held").any()


def test_composites_count_the_queries_of_the_runs_before():
    x, labels = inputs(3)
    oracle = Oracle()
    box = asking(oracle)
    both = advex.Ensemble(advex.HopSkipJump(steps=80), advex.CGBA(steps=80))
    one = slice(0, 1)
    result = both(box, x[one], labels[one], advex.L2(), marks=(40, 80, 120, 160))
    seen = best_at(oracle.points, x[0], labels[0], (40, 80, 120, 160), "L2")
    np.testing.assert_allclose(result.trace.sizes[0], seen, rtol=2e-5)
    assert oracle.rows == result.queries.sum() <= 160


def test_a_gradient_attack_has_no_trace():
    x, labels = advex.testing.linear_data(2)
    result = advex.PGD(steps=2)(advex.testing.linear_model(), x, labels, advex.Linf(0.1))
    assert result.trace is None


class Failure(Exception):
    pass


@pytest.mark.parametrize("error", [Failure("down"), KeyboardInterrupt()], ids=["error", "ctrl-c"])
@pytest.mark.parametrize("attack", [advex.CGBA, advex.HopSkipJump], ids=lambda one: one.__name__)
def test_a_failing_oracle_loses_nothing(attack, error):
    """What was found by then is in the error; every row that was sent is counted."""
    x, labels = inputs(10)
    whole = attack(steps=200)(asking(Oracle()), x, labels, advex.L2(), batch_size=4)
    for after in (3, 60, 900):
        oracle = Oracle(after=after, error=error)
        box = asking(oracle)
        with pytest.raises(type(error)) as caught:
            attack(steps=200)(box, x, labels, advex.L2(), batch_size=4)
        assert caught.value is error
        if after < len(x):  # the first look at the inputs
            continue
        found = error.result
        assert found.queries.sum() == oracle.rows
        assert set(found.info["unfinished"]) | set(np.flatnonzero(found.success)) >= set(range(10))
        finished = np.setdiff1d(np.arange(10), found.info["unfinished"])
        np.testing.assert_array_equal(found.x[finished], whole.x[finished])
        for row in np.flatnonzero(found.success):
            assert scores(found.x[row : row + 1]).argmax(1)[0] != labels[row]
        # the best of all points that were answered, of each row
        answered = oracle.points
        for row in np.flatnonzero(found.status != "clean"):
            delta = (answered - x[row]).reshape(len(answered), -1)
            near = np.sqrt(np.square(delta).sum(1))
            near = near[scores(answered).argmax(1) != labels[row]]
            assert found.distance[row] >= near.min(initial=np.inf) - 1e-6
        del error.result


def test_an_error_in_a_later_batch_of_one_question():
    """Of the points that a step asks about, those that were answered count."""
    x, labels = inputs(4)
    attack = advex.CGBA(steps=400)
    for after in range(100, 106):
        error = Failure()
        oracle = Oracle(after=after, error=error)
        box = asking(oracle)
        with pytest.raises(Failure):
            attack(box, x, labels, advex.L2(), batch_size=3)
        assert error.result.queries.sum() == oracle.rows


def test_an_error_in_the_last_judgement():
    """Whatever is asked last: what was found is there, and what was sent is counted."""
    x, labels = inputs(6)
    oracle = Oracle()
    attack = advex.CGBA(steps=60)
    whole = attack(asking(oracle), x, labels, advex.L2(), batch_size=2)
    total = oracle.rows
    for after in range(total - 5, total):
        error = Failure()
        oracle = Oracle(after=after, error=error)
        with pytest.raises(Failure):
            attack(asking(oracle), x, labels, advex.L2(), batch_size=2)
        assert error.result.queries.sum() == oracle.rows
        np.testing.assert_array_equal(error.result.x, whole.x)


def test_scores_that_fail_lose_nothing_either():
    x, labels = inputs(8)
    error = Failure()
    oracle = Oracle("scores", after=40, error=error)
    with pytest.raises(Failure):
        advex.SquareAttack(steps=100)(asking(oracle), x, labels, advex.Linf(0.1))
    assert error.result.queries.sum() == oracle.rows
    assert "Failure" in error.result.info["stopped"]


def test_a_progress_that_stops_keeps_what_was_found():
    x, labels = inputs(6)
    box = asking(Oracle())

    def stop(done, total, found):
        if found > 3:
            raise Failure

    with pytest.raises(Failure) as caught:
        advex.CGBA(steps=100)(box, x, labels, advex.L2(0.6), progress=stop, batch_size=2)
    assert caught.value.result.success.sum() >= 3


def test_a_box_asked_from_several_threads():
    x, labels = inputs(6)
    box = asking(Oracle())
    attack = advex.CGBA(steps=60)
    alone = attack(box, x, labels, advex.L2())
    found = [None] * 3

    def run(number):
        found[number] = attack(box, x, labels, advex.L2())

    threads = [threading.Thread(target=run, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in found:
        np.testing.assert_array_equal(result.x, alone.x)


# What answers with labels may look like.


@pytest.mark.parametrize(
    "answer",
    [
        lambda said: said.tolist(),
        lambda said: said[:, None],
        lambda said: said.astype("float64"),
        lambda said: said.astype("uint8"),
        lambda said: [np.int32(one) for one in said],
    ],
    ids=["list", "column", "float", "uint8", "scalars"],
)
def test_labels_of_every_kind(answer):
    x, labels = inputs(4)
    plain = BlackBox(Oracle(), classes=CLASSES, answers="labels")
    odd = BlackBox(lambda batch: answer(Oracle()(batch)), classes=CLASSES, answers="labels")
    attack = advex.HopSkipJump(steps=40)
    one, two = (attack(box, x, labels, advex.L2()) for box in (plain, odd))
    np.testing.assert_array_equal(one.x, two.x)
    assert np.isnan(one.confidence).all()
    assert set(np.unique(one.margin_before)) <= {-1.0, 1.0}


def test_names_of_classes_as_answers():
    x, labels = inputs(4)
    names = ["cat", "dog", "fox"]
    box = BlackBox(lambda batch: [names[k] for k in Oracle()(batch)], names, answers="labels")
    result = advex.HopSkipJump(steps=40)(box, x, labels, advex.L2())
    assert result.success.any()


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (lambda said: said[:-1], InvalidInput, "one class number for each input"),
        (lambda said: np.eye(3)[said], InvalidInput, "scores are advex.BlackBox"),
        (lambda said: said + 1, InvalidInput, "answered class 3, and there are 3 classes"),
        (lambda said: said - 5, InvalidInput, "answered class -.*the lowest must be 0"),
        (lambda said: said + 0.5, InvalidType, "must return class numbers"),
        (lambda said: ["cat"] * len(said), InvalidType, "must return class numbers"),
        (lambda said: said * np.nan, InvalidType, "must return class numbers"),
        (lambda said: None, InvalidInput, "it returned NoneType"),
        (lambda said: 3, InvalidInput, "it returned int"),
    ],
    ids=["rows", "scores", "one-based", "negative", "half", "names", "nan", "nothing", "one"],
)
def test_wrong_labels(answer, kind, words):
    x, labels = inputs(6)
    labels[:] = 2
    x[:] = np.where(scores(x).argmax(1) == 2, 1, 1)[:, None, None, None] * x
    said = Oracle()
    box = BlackBox(lambda batch: answer(said(batch)), classes=CLASSES, answers="labels")
    with pytest.raises(kind, match=words):
        advex.HopSkipJump(steps=10)(box, x, labels, advex.L2())


def test_what_a_class_alone_cannot_tell():
    x, labels = inputs(4)
    box = asking(Oracle())
    for goal, words in (
        (advex.Targeted(1, confidence=0.9), "its confidence"),
        (advex.TopK(labels, k=2), "which classes are the 2 likeliest"),
        (advex.AnyOf(advex.Targeted(1, confidence=0.5)), "its confidence"),
        (advex.MultiLabel(np.eye(3, dtype=int)[labels]), "several labels"),
    ):
        with pytest.raises(InvalidInput, match=words):
            advex.HopSkipJump(steps=10)(box, x, goal, advex.L2())
    with pytest.raises(GradientUnavailable, match=r"answers with a class alone.*CGBA"):
        advex.SquareAttack(steps=10)(box, x, labels, advex.L2(1.0))
    with pytest.raises(GradientUnavailable, match=r"answers with a class alone.*RayS"):
        advex.PGD()(box, x, labels, advex.Linf(0.1))
    assert advex.TopK(labels, k=1).more_than_a_class == ""


def test_answers_are_scores_or_labels():
    with pytest.raises(InvalidInput, match="'scores' or 'labels'; received 'classes'"):
        BlackBox(Oracle(), 3, answers="classes")


# Where a search begins.


def half_space(count=6, distance=2.0, elements=784):
    """A half-space at this distance from each input, and inputs of [0, 1] well inside the box."""
    drawn = np.random.default_rng(5)
    normal = drawn.normal(size=elements)
    normal /= np.linalg.norm(normal)
    x = drawn.uniform(0.3, 0.7, size=(count, elements))
    x -= np.outer(x @ normal - 0.5 * normal.sum(), normal)
    limit = 0.5 * normal.sum() + distance
    far = np.clip(x + 3 * normal, 0, 1).astype("float32")
    assert (far.astype("float64") @ normal > limit).all()

    def predict(batch):
        return (batch.astype("float64") @ normal > limit).astype(int)

    return predict, x.astype("float32"), far


def test_noise_never_crosses_a_half_space_and_data_of_another_class_does():
    predict, x, far = half_space()
    box = BlackBox(predict, classes=2, answers="labels")
    zeros, attack = np.zeros(len(x), int), advex.CGBA(steps=400)
    with pytest.warns(advex.errors.ModelWarning, match="For 6 of 6 inputs no start was found"):
        nothing = attack(box, x, zeros, advex.L2())
    assert not nothing.success.any()
    assert nothing.queries.max() < 40
    for start in (far, advex.Others(far, np.ones(6, int)), advex.Others(far)):
        result = attack(box, x, zeros, advex.L2(), start=start)
        assert result.success.all()
        assert (result.distance >= 2 - 1e-5).all()
    among = attack(box, np.concatenate([x, far]), np.repeat([0, 1], 6), advex.L2())
    assert among.success.all()
    assert any("began at other rows" in note for note in among.info["notes"])


def test_starts_that_are_refused():
    x, labels = inputs(4)
    box = asking(Oracle())
    attack = advex.CGBA(steps=20)
    with pytest.raises(InvalidInput, match="Others must hold inputs like x"):
        attack(box, x, labels, advex.L2(), start=advex.Others(x[:, :3]))
    with pytest.raises(InvalidInput, match="Others: x has 4 examples but there are 3 labels"):
        advex.Others(x, labels[:3])
    with pytest.raises(InvalidType, match="Others needs inputs"):
        advex.Others(None)
    with pytest.raises(InvalidInput, match="for attacks that need labels alone"):
        advex.FMN()(
            advex.testing.linear_model(),
            *advex.testing.linear_data(2),
            advex.L2(),
            start=advex.Others(advex.testing.linear_data(2)[0]),
        )
    for marks, words in (("250", "marks must be"), ((), "received none"), ((0, 5), "at least 1")):
        with pytest.raises((InvalidInput, InvalidType), match=words):
            attack(box, x, labels, advex.L2(), marks=marks)
