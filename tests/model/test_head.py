"""What the outputs of a model are taken for; what is kept of a model; who is a model. No network is
attacked.
"""

import inspect
from abc import ABC

import keras
import numpy as np
import pytest
from keras import ops

import advex
from advex.errors import InvalidType
from advex.model import cache, head
from advex.model.blackbox import Answers, BlackBox
from advex.model.classifier import Classifier
from advex.model.forward import KerasForward
from advex.model.head import Head, activated, guessed
from advex.model.protocol import Forward, Model

ODDS = np.random.default_rng(0).normal(size=(5, 3))


def never():
    pytest.fail("random inputs were asked about for nothing")


@pytest.mark.parametrize(
    ("answers", "elsewhere", "name"),
    [
        (ODDS, never, "logits"),
        (activated("softmax", ODDS), never, "probabilities"),
        (activated("sigmoid", ODDS), lambda: True, "probabilities, one per class"),
        (activated("sigmoid", ODDS), lambda: False, "logits"),
        (ODDS[:, :1], never, "logit, one unit"),
        (activated("sigmoid", ODDS[:, :1]), lambda: True, "probability, one unit"),
        (activated("sigmoid", ODDS[:, :1]), lambda: False, "logit, one unit"),
        (np.where(ODDS > 9, 0, np.nan), never, "logits"),
    ],
)
def test_what_answers_are_taken_for(answers, elsewhere, name):
    found = guessed(answers, coarse=False, probable_elsewhere=elsewhere)
    assert found.name == name and found.classes == max(2, answers.shape[1])
    assert found.logarithms == found.warns == name.startswith("probabilit")
    assert found.independent == (name == "probabilities, one per class")


def test_rounded_probabilities_of_half_precision():
    rounded = activated("softmax", ODDS) * 1.01
    assert guessed(rounded, True, never).name == "probabilities"
    assert guessed(rounded, False, lambda: False).name == "logits"


@pytest.mark.backends
@pytest.mark.parametrize("units", [1, 3])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_logits_give_the_probabilities_back(units, activation):
    """Of what the model answers itself, and of the logits before its last activation."""
    if units == 1 and activation == "softmax":
        return  # always 1
    odds = ODDS[:, :units]
    answers = activated(activation, odds)
    expected = np.concatenate([1 - answers, answers], axis=1) if units == 1 else answers
    for found, given in (
        (guessed(answers, False, lambda: True), answers),
        (head.recovered(activation, units), odds),
    ):
        logits = found.logits(ops.convert_to_tensor(given.astype("float32")))
        assert logits.shape == (5, max(2, units))
        seen = ops.convert_to_numpy(found.probabilities(logits))
        np.testing.assert_allclose(seen, expected, atol=1e-6)


@pytest.mark.backends
def test_probabilities_of_0_and_1_have_finite_logits():
    ends = ops.convert_to_tensor(np.eye(2, dtype="float32"))
    for found in (
        Head("probabilities", 2, logarithms=True),
        Head("probabilities, one per class", 2, logarithms=True, independent=True),
    ):
        logits = ops.convert_to_numpy(found.logits(ends))
        assert np.isfinite(logits).all() and (logits.argmax(1) == [0, 1]).all()


def test_the_oldest_function_goes_and_the_canary_stays():
    kept = {}
    cache.compiled(lambda: kept, ("canary", 0), lambda: "canary")
    for number in range(cache.MAX_FUNCTIONS + 5):
        cache.compiled(lambda: kept, ("step", number), lambda: "step")
    assert len(kept) == cache.MAX_FUNCTIONS + 1 and ("canary", 0) in kept
    assert ("step", 4) not in kept and ("step", 5) in kept
    assert cache.compiled(lambda: kept, ("canary", 0), never) == "canary"
    assert cache.compiled(lambda: kept, ("step", []), lambda: "anew") == "anew"  # not hashable
    assert len(kept) == cache.MAX_FUNCTIONS + 1


def test_what_was_made_is_kept_with_the_model_as_it_is_then():
    """The first call builds a model, and what was kept before that goes."""
    groups = {}

    def kept():
        return groups.setdefault("built" if groups.get("called") else "not built", {})

    def make():
        groups["called"] = True
        return "made"

    cache.compiled(kept, "key", make)
    assert groups["built"] == {"key": "made"} and not groups["not built"]


@pytest.mark.parametrize("kind", [Classifier, BlackBox, KerasForward, Answers])
def test_a_class_is_abstract_or_final(kind):
    above = [base for base in kind.__mro__[1:] if base not in (object, ABC)]
    assert above in ([Model], [Forward])
    assert all(map(inspect.isabstract, above)) and not inspect.isabstract(kind)


def test_what_is_a_model_stays_what_it_is():
    model = advex.testing.linear_model()
    for given in (advex.Classifier(model, box=(0, 2)), advex.BlackBox(len, classes=2)):
        assert advex.Classifier.of(given) is given
    wrapped = advex.Classifier.of(model)
    assert wrapped.model is model and wrapped.box == (0, 1)
    assert wrapped.differentiable and not wrapped.metered
    box = advex.BlackBox(len, classes=["a", "b"])
    assert box.model is None and box.metered and not box.differentiable
    assert box.caption(1) == "b" and not box.renewed(np.zeros((1, 2)), np.zeros((1, 2)))


def test_no_model_inside_a_model():
    with pytest.raises(InvalidType, match=r"received BlackBox: pass it to the attack as it is"):
        advex.Classifier(advex.BlackBox(len, classes=2))
    with pytest.raises(InvalidType, match=r"another's already: model\.model"):
        advex.Classifier(advex.Classifier(advex.testing.linear_model()))
    with pytest.raises(InvalidType, match="needs no BlackBox"):
        advex.BlackBox(advex.BlackBox(len, classes=2), classes=2)
    with pytest.raises(InvalidType, match=r"make one, model = BlackBox\(\.\.\.\)"):
        advex.Classifier(advex.BlackBox)


def test_the_zoo_is_an_attribute():
    from advex import zoo

    assert advex.zoo is zoo and "zoo" in dir(advex)
    with pytest.raises(AttributeError, match="attack on scores is not there yet"):
        _ = advex.ZOO
    assert isinstance(advex.zoo.fashion_mnist().model, keras.Model)
