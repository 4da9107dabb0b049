"""Recipes in messages about training."""

import keras
import numpy as np
import pytest
from messages import cut, executes, keywords, said, typed
from training_data import LINF, compiled, data, network

import advex
from advex.training import AWP, NFGSM, TRADES, Adversarial, Free, KeepBest, Noise, StopCollapse

X, LABELS = data(16)
TABLE, OF_TABLE = advex.testing.linear_data(8)


@executes("around the model, in front of fit: robust = advex.training.Adversarial(")
def test_the_trainers_of_other_libraries():
    message = said(lambda: advex.AdversarialTrainer, AttributeError)
    code = cut(message, r"advex\.training\.Adversarial\(.*\)")
    robust = compiled(eval(code, {"advex": advex, "model": network()}))
    robust.fit(X, LABELS, verbose=0)


@executes(
    "{} must be an attack, such as advex.PGD(steps=7)",
    "{} must be one attack with a fixed number of steps, which climbs a loss",
    "climbs a loss of its choice, with a field loss=",
)
def test_the_attack_inside():
    for wrong in ("pgd", advex.AutoAttack(), advex.Ensemble(advex.PGD(), advex.FGSM())):
        message = said(lambda wrong=wrong: Adversarial(network(), wrong, LINF))
        attack = typed(message, r"advex\.PGD\(steps=7\)")
        assert Adversarial(network(), attack, LINF).attack == attack
    message = said(lambda: Adversarial(network(), advex.DeepFool(), advex.L2(0.1), TRADES()))
    told = keywords(message, r"attack=advex\.PGD\(steps=7\)")
    assert Adversarial(network(), budget=LINF, method=TRADES(), **told).method == TRADES()


@executes(
    "budget must have one epsilon for all inputs, such as",
    "method must be such as advex.training.TRADES(beta=6)",
    "method must be another method, such as advex.training.TRADES()",
)
def test_the_budget_and_the_method():
    for wrong in (advex.Linf(), advex.Linf(np.full(3, 0.1))):
        message = said(lambda wrong=wrong: Adversarial(network(), budget=wrong))
        budget = typed(message, r"advex\.Linf\(8/255\)")
        assert Adversarial(network(), budget=budget).budget == budget
    message = said(lambda: Adversarial(network(), method="trades"))
    method = typed(message, r"advex\.training\.TRADES\(beta=6\)")
    assert Adversarial(network(), method=method).method == method
    for wrong in (AWP(), Noise(), Free(), "trades"):
        message = said(lambda wrong=wrong: AWP(wrong))
        method = typed(message, r"advex\.training\.TRADES\(\)")
        assert AWP(method).method == method


@executes("NFGSM is about the maximum norm alone")
def test_another_norm_than_that_of_nfgsm():
    budget = advex.L2(0.5)
    message = said(lambda: Adversarial(network(), NFGSM(), budget))
    attack = typed(message, r"advex\.training\.Fast\(\)")
    assert Adversarial(network(), attack, budget).attack == attack


@executes("the keras.Model itself; received a Classifier")
def test_a_classifier_in_place_of_its_model():
    model = advex.Classifier(network(), box=(0, 255))
    message = said(lambda: Adversarial(model))
    code = cut(message, r"Adversarial\(.*\)")
    assert eval(code, {"Adversarial": Adversarial, "model": model}).box == (0, 255)


@executes("of an Adversarial with a validation attack writes it")
def test_nothing_to_keep_the_best_by():
    robust = compiled(Adversarial(network(), advex.FGSM(), LINF))
    message = said(lambda: robust.fit(X, LABELS, verbose=0, callbacks=[KeepBest()]))
    code = cut(message, r"validation_data=\(x, labels\)")
    given = eval(f"dict({code})", {"x": X, "labels": LABELS})
    robust.fit(X, LABELS, verbose=0, callbacks=[KeepBest()], **given)


@executes("else x = x.astype('float32') / 255")
def test_levels_for_a_model_of_shares():
    levels = (X * 255).astype("uint8")
    robust = compiled(Adversarial(network(), advex.FGSM(), LINF))
    message = said(lambda: robust.fit(levels, LABELS, verbose=0))
    robust.fit(typed(message, r"x = x\.astype\('float32'\) / 255", x=levels), LABELS, verbose=0)


@executes("if the model takes them, box=(")
@pytest.mark.parametrize("x", [X * 255, (X * 255).astype("uint8"), X * 4 - 2], ids=str)
def test_inputs_outside_of_the_box(x):
    robust = compiled(Adversarial(network(), advex.FGSM(), LINF))
    message = said(lambda: robust.fit(x, LABELS, verbose=0))
    box = keywords(message, r"box=\(.*?\)")
    compiled(Adversarial(network(), advex.FGSM(), LINF, **box)).fit(x, LABELS, verbose=0)


@executes("Training has collapsed in epoch")
def test_a_collapse():
    robust = compiled(Adversarial(network(), advex.FGSM(), LINF))
    robust.own_accuracy = lambda *_: 1.0
    with pytest.warns(advex.errors.ModelWarning) as told:
        robust.fit(X, LABELS, verbose=0, callbacks=[StopCollapse()])
    attack = typed(str(told[-1].message), r"advex\.training\.NFGSM\(\)")
    compiled(Adversarial(network(), attack, LINF)).fit(X, LABELS, verbose=0)


def wrapped():
    model = keras.Sequential([keras.Input((12,)), keras.layers.Dense(2)])
    return compiled(Adversarial(model, advex.PGD(steps=1), LINF, validation=None))


@executes(
    "the data are missing, or their labels: robust.fit(x, labels)",
    "one input is x[None]",
)
def test_data_for_training():
    message = said(lambda: wrapped().fit(TABLE))
    assert typed(message, r"robust\.fit\(.*?\)", robust=wrapped(), x=TABLE, labels=OF_TABLE).history
    message = said(lambda: wrapped().fit(TABLE[0], OF_TABLE[:1]))
    assert wrapped().fit(typed(message, r"x\[None\]", x=TABLE[0]), OF_TABLE[:1], verbose=0)


@executes("an Adversarial cannot be written down, copied or pickled")
def test_what_is_written_down(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    robust = wrapped()
    message = said(lambda: robust.get_config())
    typed(message, r"robust\.save\(.*?\)", robust=robust)
    loaded = keras.models.load_model("model.keras")
    answers = [each.predict(TABLE, verbose=0) for each in (loaded, robust.model)]
    np.testing.assert_array_equal(*answers)
    assert typed(message, r"robust\.model$", robust=robust) is robust.model


@executes("one of them is keras.Model(model.inputs, model.outputs[0])")
def test_one_output_of_two():
    inputs = keras.Input((12,))
    model = keras.Model(inputs, [keras.layers.Dense(2)(inputs), keras.layers.Dense(3)(inputs)])
    message = said(lambda: Adversarial(model))
    assert Adversarial(typed(message, r"keras\.Model\(.*\)$", model=model)).model.outputs
