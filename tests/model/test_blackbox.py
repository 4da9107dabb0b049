"""A function in place of a model: every row that it is asked about is counted, and nothing else is
asked.
"""

from dataclasses import dataclass
from typing import ClassVar

import keras
import numpy as np
import pytest
from keras import ops

import advex
from advex.attacks.square import SquareAttack
from advex.errors import GradientUnavailable, InvalidInput, InvalidType, ModelWarning
from advex.model.blackbox import BlackBox
from advex.testing import linear_data, linear_model

JAX = keras.backend.backend() == "jax"  # there a compilation takes longer than all the rest
SHAPE, CLASSES = (7, 7, 1), 4
KERNEL = np.random.default_rng(1).normal(size=(49, CLASSES)).astype("float32")


class Counting:
    """A linear classifier of images in NumPy, in [0, 1], that writes down what it is asked."""

    def __init__(self, head="logits", low=0.0, span=1.0):
        self.head, self.low, self.span = head, low, span
        self.batches = []

    def __call__(self, batch):
        assert isinstance(batch, np.ndarray) and batch.dtype == np.float32 and len(batch)
        self.batches.append(batch.copy())
        logits = ((batch - self.low) / self.span).reshape(len(batch), -1).astype("float64") @ KERNEL
        batch[:] = np.nan  # it may do with its copy as it likes
        if self.head == "logits":
            return logits
        odds = np.exp(logits - logits.max(1, keepdims=True))
        return odds / odds.sum(1, keepdims=True)

    @property
    def rows(self):
        return sum(map(len, self.batches))

    @property
    def points(self):
        return np.concatenate(self.batches)


def data(count=24, seed=0):
    """Images, and labels of which every fifth is wrong already."""
    x = np.random.default_rng(seed).uniform(size=(count, *SHAPE)).astype("float32")
    labels = (x.reshape(count, -1) @ KERNEL).argmax(1)
    labels[::5] = (labels[::5] + 1) % CLASSES
    return x, labels


def counted(result):
    return int(result.queries.sum()) + result.info["checks"]["queries"]


@pytest.mark.backends
@pytest.mark.parametrize(
    ("budget", "batch_size"),
    [(advex.Linf(0.05), 5), (advex.L2(0.2), 16), (advex.Linf(0.05), None), (advex.L1(1.0), 7)][
        : 2 if JAX else None
    ],
    ids=repr,
)
def test_as_many_rows_as_are_counted(budget, batch_size):
    """Rows that were wrong before, that fall early, that never fall, that join later; on JAX among
    rows that only fill up.
    """
    x, labels = data()
    predict = Counting()
    result = SquareAttack(steps=40)(
        BlackBox(predict, classes=CLASSES), x, labels, budget, batch_size=batch_size
    )
    assert 5 < result.success.sum() < 24
    assert predict.rows == counted(result) == result.queries.sum()
    assert (
        result.queries.max() <= 40
        and (result.queries[::5] == 1).all()
        and (result.gradients == 0).all()
    )
    assert max(map(len, predict.batches)) == (batch_size or 24)
    assert (predict.points >= 0).all() and (predict.points <= 1).all()
    # Every point belongs to one input's ball, and that input has been counted so often.
    delta = predict.points.astype("float64")[:, None] - x[None]
    inside = np.stack(
        [budget.measure(delta[:, row]) <= budget.epsilon * 1.001 for row in range(len(x))], 1
    )
    assert (inside.sum(1) == 1).all()
    assert inside.sum(0).tolist() == result.queries.tolist()
    assert any("checks of its honesty were left out" in note for note in result.info["notes"])
    assert result.info["head"] == "logits" and not result.info["warnings"]


@pytest.mark.backends
def test_the_limit_is_never_exceeded():
    x, labels = data()
    for steps in (5,) if JAX else (4, 5, 10):
        predict = Counting()
        result = SquareAttack(steps=steps)(
            BlackBox(predict, classes=CLASSES), x, labels, advex.Linf(0.02), batch_size=7
        )
        assert predict.rows == counted(result) and result.queries.max() <= steps
        assert (result.queries[~result.success] == steps - 1).all()


@pytest.mark.backends
def test_the_same_as_with_the_model_itself():
    """A function around a model is attacked just as the model is: same draws, same points."""
    model, (x, labels) = linear_model(), linear_data(40)
    weights, bias = model.layers[-1].get_weights()
    box = BlackBox(lambda batch: batch @ weights + bias, classes=2)
    for budget in (advex.Linf(0.1), advex.L2(0.3))[: 1 if JAX else 2]:
        direct = SquareAttack(steps=50)(model, x, labels, budget)
        around = SquareAttack(steps=50)(box, x, labels, budget, batch_size=16)
        assert 5 < direct.success.sum() < 40
        assert (direct.success == around.success).all() and (direct.queries == around.queries).all()
        assert (direct.prediction == around.prediction).all()
        np.testing.assert_allclose(direct.x, around.x, atol=1e-6)


@pytest.mark.backends
def test_a_model_behind_the_function():
    """The function may call Keras, compiled or not."""
    model, (x, labels) = linear_model(), linear_data(12)
    box = BlackBox(
        lambda batch: ops.convert_to_numpy(model(ops.convert_to_tensor(batch), training=False)),
        classes=2,
    )
    assert SquareAttack(steps=6)(box, x, labels, advex.Linf(0.2)).success.any()
    box = BlackBox(lambda batch: model.predict(batch, verbose=0), classes=2)
    assert SquareAttack(steps=6)(box, x, labels, advex.Linf(0.2)).success.any()


def test_8_bit_images_come_in_the_units_of_the_box():
    x, labels = data()
    levels = np.round(x * 255).astype("uint8")
    for box, span in (((0, 1), 1.0), ((0, 255), 255.0), ((-1, 1), 2.0)):
        predict = Counting(low=box[0], span=span)
        result = SquareAttack(steps=20)(
            BlackBox(predict, classes=CLASSES, box=box), levels, labels, advex.Linf(12 / 255)
        )
        assert result.x.dtype == np.uint8 and result.success.sum() > 5
        assert predict.rows == counted(result)
        whole = (predict.points.astype("float64") - box[0]) / span * 255
        np.testing.assert_allclose(whole, np.round(whole), atol=1e-4)
        assert np.abs(whole[:24].reshape(24, -1) - levels.reshape(24, -1)).max() < 1e-4
        if box == (0, 255):
            assert (whole == np.round(whole)).all()


def test_probabilities_and_logits_are_the_same():
    x, labels = data()
    results = []
    for head in ("logits", "probabilities"):
        box = BlackBox(Counting(head), classes=CLASSES)
        results.append(SquareAttack(steps=30)(box, x, labels, advex.Linf(0.05)))
        assert results[-1].info["head"] == head
    assert (results[0].success == results[1].success).all()
    np.testing.assert_allclose(results[0].confidence, results[1].confidence, atol=1e-4)
    assert any("probabilities" in note for note in results[1].info["notes"])


def test_no_labels_are_needed_and_targets_can_be_reached():
    x, labels = data()
    own = SquareAttack(steps=30)(BlackBox(Counting(), classes=CLASSES), x, None, advex.Linf(0.05))
    assert (own.queries > 1).all() and own.success.any()
    second = np.argsort(-(x.reshape(24, -1) @ KERNEL), 1)[:, 1]
    predict = Counting()
    result = SquareAttack(steps=60)(
        BlackBox(predict, classes=CLASSES), x, advex.Targeted(second), advex.Linf(0.1)
    )
    assert (
        result.success.sum() > 12
        and (result.prediction[result.success] == second[result.success]).all()
    )
    assert predict.rows == counted(result)
    predict = Counting()
    every = advex.EveryTarget(SquareAttack(steps=12), 3)
    result = every(BlackBox(predict, classes=CLASSES), x, labels, advex.Linf(0.05))
    assert predict.rows == counted(result) and len(result.info["stages"]) == 3


# Other attacks.


@dataclass(frozen=True, kw_only=True)
class TwoLooks(advex.Attack):
    """Looks at two random points in each step, and at one in ``init``: more than one part."""

    steps: int = 6
    needs_gradient: ClassVar[bool] = False

    def init(self, problem):
        x = problem.project(problem.x0 + problem.budget.sample(problem))
        return x, problem.margin(x)

    def step(self, problem, x, best):
        first = problem.project(problem.x0 + problem.budget.sample(problem))
        second = problem.project(problem.x0 + problem.epsilon * problem.signs(SHAPE))
        one, two = problem.margin(first), problem.margin(second)
        ahead = ops.where(ops.reshape(one > two, (-1, 1, 1, 1)), first, second)
        return ahead, ops.maximum(best, ops.maximum(one, two))


@pytest.mark.backends
def test_an_attack_of_ones_own_that_asks_several_times():
    x, labels = data()
    for batch_size in (5,) if JAX else (None, 5):
        predict = Counting()
        box = BlackBox(predict, classes=CLASSES)
        result = TwoLooks()(box, x, labels, advex.Linf(0.06), batch_size=batch_size)
        assert predict.rows == counted(result)
        failed = ~result.success
        assert failed.any() and result.success[np.arange(24) % 5 != 0].any()
        assert (result.queries[failed] == 1 + 1 + 2 * 6 + 1).all()


@pytest.mark.backends
def test_attacks_that_need_gradients_are_refused_before_the_first_query():
    x, labels = data()
    attacks = [
        advex.FGSM(),
        advex.PGD(),
        advex.Restarts(advex.PGD(steps=2), 3),
        advex.Ensemble(SquareAttack(steps=9), advex.PGD(steps=2)),
        advex.EveryTarget(advex.APGD(loss=advex.losses.dlr), 3),
    ]
    for attack in attacks:
        predict = Counting()
        with pytest.raises(
            GradientUnavailable,
            match=r"needs gradients, and BlackBox\(Counting, classes=4.*SquareAttack",
        ):
            attack(BlackBox(predict, classes=CLASSES), x, labels, advex.Linf(0.05))
        assert not predict.batches


def test_a_gradient_in_spite_of_what_was_said():
    @dataclass(frozen=True, kw_only=True)
    class Liar(advex.PGD):
        needs_gradient: ClassVar[bool] = False

    predict = Counting()
    with pytest.raises(GradientUnavailable, match="a BlackBox has no gradient"):
        Liar(steps=2)(BlackBox(predict, classes=CLASSES), *data(), advex.Linf(0.05))
    assert predict.rows == 24  # the look at the clean inputs


def test_compiled_once():
    """A second call, with other numbers, compiles nothing anew."""
    x, labels = data(32)
    box, attack = BlackBox(Counting(), classes=CLASSES), SquareAttack(steps=8)
    attack(box, x, labels, advex.Linf(0.05))
    kept = list(box.kept())
    assert kept
    attack(box, x, labels, advex.Linf(0.1), seed=3)
    assert list(box.kept()) == kept


# What the function does wrong.


def answering(answer):
    return BlackBox(lambda batch: answer(batch, Counting()(batch.copy())), classes=CLASSES)


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (
            lambda batch, scores: scores[:, :3],
            InvalidInput,
            r"shape \(24, 4\).*4 classes; it returned shape \(24, 3\)",
        ),
        (
            lambda batch, scores: scores[:-1],
            InvalidInput,
            r"these 24 inputs.*it returned shape \(23, 4\)",
        ),
        (
            lambda batch, scores: scores.argmax(1),
            InvalidInput,
            r"returned shape \(24,\): class numbers are enough with.*answers='labels'",
        ),
        (lambda batch, scores: scores[0], InvalidInput, r"returned shape \(4,\)"),
        (
            lambda batch, scores: ["cat"] * len(batch),
            InvalidType,
            "array of scores; it returned list",
        ),
        (lambda batch, scores: None, InvalidType, "array of scores; it returned NoneType"),
        (
            lambda batch, scores: np.where(scores > 9, scores, np.nan),
            InvalidInput,
            "answers NaN for 24 of 24 clean inputs",
        ),
    ],
    ids=["classes", "rows", "labels", "one", "text", "nothing", "nan"],
)
def test_wrong_answers(answer, kind, words):
    x, labels = data()
    with pytest.raises(kind, match=words):
        SquareAttack(steps=9)(answering(answer), x, labels, advex.Linf(0.05))


def test_lists_and_other_dtypes_will_do():
    x, labels = data()
    exact = SquareAttack(steps=12)(
        BlackBox(Counting(), classes=CLASSES), x, labels, advex.Linf(0.05)
    )
    for answer in (
        lambda batch, scores: scores.tolist(),
        lambda batch, scores: scores.astype("float32"),
    ):
        result = SquareAttack(steps=12)(answering(answer), x, labels, advex.Linf(0.05))
        assert (result.success == exact.success).all()


def test_answers_that_change_their_kind():
    predict = Counting("probabilities")
    calls = []

    def changing(batch):
        calls.append(1)
        predict.head = "probabilities" if len(calls) < 3 else "logits"
        return predict(batch)

    with pytest.raises(InvalidInput, match="probabilities at first and now with something else"):
        SquareAttack(steps=9)(BlackBox(changing, classes=CLASSES), *data(), advex.Linf(0.05))


def test_zeros_and_ones_are_said_to_be_useless():
    box = answering(lambda batch, scores: np.eye(CLASSES)[scores.argmax(1)])
    with pytest.warns(ModelWarning, match="zeros and ones only"):
        SquareAttack(steps=9)(box, *data(), advex.Linf(0.05))


def test_nan_during_the_search_is_no_success():
    x, labels = data()
    clean = {row.tobytes() for row in x}
    predict = Counting()

    def broken(batch):
        known = [row.tobytes() in clean for row in batch]
        scores = predict(batch)
        scores[np.logical_not(known) & (np.arange(len(batch)) % 2 == 0)] = np.nan
        return scores

    with pytest.warns(ModelWarning, match="NaN during the search"):
        result = SquareAttack(steps=9)(
            BlackBox(broken, classes=CLASSES), x, labels, advex.Linf(0.02)
        )
    assert result.info["invalid"] and not result.success[result.info["invalid"]].any()
    assert predict.rows == counted(result)


@pytest.mark.backends
@pytest.mark.parametrize(
    "error", [RuntimeError("no such host"), KeyboardInterrupt()], ids=["error", "ctrl-c"]
)
def test_exceptions_pass_through_and_leave_all_intact(error):
    x, labels = data()
    predict, calls = Counting(), []

    def failing(batch):
        calls.append(1)
        if len(calls) == 4:
            raise error
        return predict(batch)

    box, attack = BlackBox(failing, classes=CLASSES), SquareAttack(steps=20)
    before = x.tobytes(), labels.tobytes()
    with pytest.raises(type(error)) as caught:
        attack(box, x, labels, advex.Linf(0.05))
    assert caught.value is error
    assert (x.tobytes(), labels.tobytes()) == before
    after = attack(box, x, labels, advex.Linf(0.05))
    fresh = attack(BlackBox(Counting(), classes=CLASSES), x, labels, advex.Linf(0.05))
    assert after.x.tobytes() == fresh.x.tobytes() and (after.queries == fresh.queries).all()


# What it is made of, and what becomes of it.


def test_bad_settings():
    with pytest.raises(InvalidType, match="predict must be a function"):
        BlackBox("https://example.org", classes=10)
    with pytest.raises(InvalidType, match="Sequential needs no BlackBox"):
        BlackBox(linear_model(), classes=2)
    with pytest.raises(
        InvalidInput, match="classes must be a whole number of at least 2; received 1"
    ):
        BlackBox(Counting(), classes=1)
    with pytest.raises(InvalidType, match="classes must be a whole number"):
        BlackBox(Counting(), classes=2.0)
    with pytest.raises(InvalidInput, match="at least two classes"):
        BlackBox(Counting(), classes=["cat"])
    with pytest.raises(InvalidInput, match="lowest < highest"):
        BlackBox(Counting(), classes=2, box=(1, 0))
    with pytest.raises(InvalidType, match="did you mean 'classes'"):
        BlackBox(Counting(), class_names=2)
    with pytest.raises(InvalidType, match=r"BlackBox\(model, classes=10\) for a plain function"):
        SquareAttack()(Counting(), *data(), advex.Linf(0.1))


def test_wrong_inputs_ask_nothing():
    x, labels = data()
    for wrong in (
        {"x": x * 300},
        {"labels": labels[:3]},
        {"labels": labels + 9},
        {"budget": advex.L0(3)},
        {"x": x[:0]},
    ):
        predict = Counting()
        given = {"x": x, "labels": labels, "budget": advex.Linf(0.1)} | wrong
        if not len(given["x"]):
            assert (
                len(
                    SquareAttack(steps=9)(
                        BlackBox(predict, classes=CLASSES), x[:0], labels[:0], given["budget"]
                    )
                )
                == 0
            )
        else:
            with pytest.raises(InvalidInput):
                SquareAttack(steps=9)(
                    BlackBox(predict, classes=CLASSES), given["x"], given["labels"], given["budget"]
                )
        assert not predict.batches


@pytest.mark.backends
def test_the_result_can_be_saved_and_shown(tmp_path):
    x, labels = data()
    predict = Counting()
    names = ["ant", "bee", "cat", "dog"]
    result = SquareAttack(steps=20)(BlackBox(predict, classes=names), x, labels, advex.Linf(0.05))
    asked = predict.rows
    assert "SquareAttack" in repr(result) and "SquareAttack" in result._repr_html_()
    assert result.show().size[0] > 0
    assert predict.rows == asked
    records = result.save(tmp_path)
    assert len(records) == result.success.sum() and predict.rows == asked + len(records)
    assert all(record.verified for record in records) and {
        record.after for record in records
    } <= set(names)
    assert repr(result.classifier) == "BlackBox(Counting, classes=4, box=(0.0, 1.0))"
