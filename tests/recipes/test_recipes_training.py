"""Recipes in messages about training."""

import keras
import numpy as np
import pytest
from messages import cut, executes, said, typed

import advex
from advex.testing import linear_data
from advex.training import AWP, TRADES, Adversarial, StopCollapse

X, LABELS = linear_data(8)
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def bare():
    return keras.Sequential([keras.Input((12,)), keras.layers.Dense(2)])


def wrapped(attack=None, **settings):
    attack = advex.PGD(steps=1) if attack is None else attack
    robust = Adversarial(bare(), attack, validation=None, **settings)
    robust.compile("sgd", LOSS)
    return robust


@executes(
    "the model's domain is box=(0, 255), or x = x.astype('float32') / 255",
    "the data are missing, or their labels: robust.fit(x, labels)",
    "one input is x[None]",
)
def test_data_for_training():
    levels = np.round(X * 255)
    message = said(lambda: wrapped().fit(levels, LABELS, verbose=0))
    scaled = typed(message, r"x = x\.astype\('float32'\) / 255", x=levels)
    assert wrapped().fit(scaled, LABELS, verbose=0)
    box = typed(message, r"box=(\(0, 255\))")
    assert wrapped(box=box).fit(levels, LABELS, verbose=0)
    message = said(lambda: wrapped().fit(X))
    assert typed(message, r"robust\.fit\(.*?\)", robust=wrapped(), x=X, labels=LABELS).history
    message = said(lambda: wrapped().fit(X[0], LABELS[:1]))
    assert wrapped().fit(typed(message, r"x\[None\]", x=X[0]), LABELS[:1], verbose=0)


@executes("an Adversarial cannot be written down, copied or pickled")
def test_what_is_written_down(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    robust = wrapped()
    message = said(lambda: robust.get_config())
    typed(message, r"robust\.save\(.*?\)", robust=robust)
    loaded = keras.models.load_model("model.keras")
    answers = [each.predict(X, verbose=0) for each in (loaded, robust.model)]
    np.testing.assert_array_equal(*answers)
    assert typed(message, r"robust\.model$", robust=robust) is robust.model


@executes("one of them is keras.Model(model.inputs, model.outputs[0])")
def test_one_output_of_two():
    inputs = keras.Input((12,))
    model = keras.Model(inputs, [keras.layers.Dense(2)(inputs), keras.layers.Dense(3)(inputs)])
    message = said(lambda: Adversarial(model))
    assert Adversarial(typed(message, r"keras\.Model\(.*\)$", model=model)).model.outputs


@executes(
    "method must be such as advex.training.TRADES(beta=6), or None",
    "{} must be an attack, such as advex.PGD(steps=7)",
    "which climbs a loss; received {}: use advex.PGD(steps=7)",
    "budget must be such as advex.Linf(8/255)",
    "budget must have one epsilon for all inputs, such as advex.Linf(8/255)",
    "method must be another method, such as advex.training.TRADES()",
    "with a field loss=; {} has none: attack=advex.PGD(steps=7)",
)
def test_settings_of_training():
    call = r"advex\.[\w.]+\([^()]*\)"
    for wrong in ({"method": "TRADES"}, {"attack": "PGD"}, {"budget": 0.1}):
        (name,) = wrong
        message = said(lambda wrong=wrong: Adversarial(bare(), **wrong))
        assert Adversarial(bare(), **{name: typed(message, call)})
    for wrong in (advex.AutoAttack(), advex.Restarts(advex.PGD(), 3)):
        message = said(lambda wrong=wrong: Adversarial(bare(), wrong))
        assert Adversarial(bare(), typed(message, rf"use ({call})"))
    message = said(lambda: Adversarial(bare(), budget=advex.Linf([0.1, 0.2])))
    assert Adversarial(bare(), budget=typed(message, call))
    message = said(lambda: AWP("TRADES"))
    assert AWP(typed(message, call)).method == TRADES()
    method = TRADES()
    message = said(lambda: Adversarial(bare(), advex.DeepFool(), advex.L2(1), method))
    assert Adversarial(bare(), typed(message, rf"attack=({call})"), advex.L2(1), method)


@executes("around the model, in front of fit: robust = advex.training.Adversarial(")
def test_a_name_of_training_elsewhere():
    message = said(lambda: advex.AdversarialTrainer, AttributeError)
    code = cut(message, r"(advex\.training\.Adversarial\(.*?255\)\))")
    robust = eval(code, {"advex": advex, "model": bare()})
    robust.compile("sgd", LOSS)
    assert robust.fit(X, LABELS, verbose=0)


@executes("What helps: attack = advex.training.NFGSM()")
def test_a_collapse(monkeypatch):
    robust, guard = wrapped(), StopCollapse()
    guard.set_model(robust)
    weights, slots = robust.get_weights(), [each.value for each in robust.optimizer.variables]
    told = ((0.5, 0.5), (0.0, 0.9))
    states = [advex.training.guards.State(weights, slots, *each) for each in told]
    monkeypatch.setattr(StopCollapse, "_state", lambda _: states.pop(0))
    guard.on_train_begin()
    with pytest.warns(advex.errors.ModelWarning) as caught:
        guard.on_epoch_end(0)
    attack = eval(cut(str(caught[0].message), r"attack = (advex\.[\w.]+\(\))"))
    assert wrapped(attack).fit(X, LABELS, verbose=0)
