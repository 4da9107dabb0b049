"""Recipes in messages about training."""

import keras
import numpy as np
import pytest
from messages import cut, executes, keywords, said, typed
from training_data import LINF, compiled, data, network

import advex
from advex.driver.ranges import TRAINED
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


@executes(" box={}, else x = {}")
def test_levels_for_a_model_of_shares():
    levels = (X * 255).astype("uint8")
    robust = compiled(Adversarial(network(), advex.FGSM(), LINF))
    message = said(lambda: robust.fit(levels, LABELS, verbose=0))
    robust.fit(typed(message, r"x = x\.astype\('float32'\) / 255", x=levels), LABELS, verbose=0)


LEVELS = (X * 255).astype("uint8")
OUTSIDE = {  # x, the box, what the message says: a box, the code that scales
    "levels, centred": (LEVELS, (-1, 1), (0, 255), "x.astype('float32') / 127.5 - 1"),
    "levels as floats": (X * 255, (-1, 1), (0, 255), "x / 127.5 - 1"),
    "levels as int64": (LEVELS.astype("int64"), (-1, 1), (0, 255), "x.astype('float32') / 127.5"),
    "dark levels": (LEVELS // 200, (0.5, 1), (0, 255), "np.interp(x, (0, 255), (0.5, 1))"),
    "levels, odd": (LEVELS, (-2.1, 2.6), (0, 255), "np.interp(x, (0, 255), (-2.1, 2.6))"),
    "centred": (X * 2 - 1, (0, 1), (-1, 1), "(x + 1) / 2"),
    "shares, odd": (X, (0.4, 0.6), (0, 1), "np.interp(x, (0, 1), (0.4, 0.6))"),
}


@executes(
    " box={}, else x = {}",
    "np.interp(x, {}, {}).astype('float32')",
    "if the model takes them, box={}",
    "x.astype('float32')",
)
def test_inputs_outside_of_the_box():
    """Both ways out work as typed, and neither is the union of two ranges."""

    def wrapped(**box):
        return compiled(Adversarial(network(), advex.FGSM(), LINF, **box))

    for x, box, better, code in OUTSIDE.values():
        message = said(lambda x=x, box=box: wrapped(box=box).fit(x, LABELS, verbose=0))
        assert f"else x = {code}" in message
        told = keywords(message, r", (box=\(.*?\)), else")
        assert told == {"box": better}
        wrapped(**told).fit(x, LABELS, verbose=0)
        scaled = typed(message, r"else (x = .*)$", x=x)
        assert scaled.dtype == "float32" and scaled.std() > 0
        wrapped(box=box).fit(scaled, LABELS, verbose=0)
    for x, box in ((X * 4 - 2, (0, 1)), (X * 6 - 3, (0, 1)), (X * 300 + 50, (-1, 1))):
        message = said(lambda x=x, box=box: wrapped(box=box).fit(x, LABELS, verbose=0))
        told = keywords(message, r"box=\(.*?\)$")
        low, high = told["box"]
        assert high - low <= max(np.ptp(x) + 2, x.max() + 1) and (low, high) != box
        wrapped(**told).fit(x, LABELS, verbose=0)


@executes(" Train it on 0 to 255, with box={} and x = {}; or leave that layer out.")
@pytest.mark.parametrize("box", [(0, 1), (-1, 1)])
def test_a_layer_that_is_made_for_another_range(box):
    model = network(keras.layers.Rescaling(1 / 255))
    x = (X - X.min()) / np.ptp(X) * (box[1] - box[0]) + box[0]
    with pytest.warns(advex.errors.ModelWarning, match="begins with the Rescaling layer") as told:
        compiled(Adversarial(model, advex.FGSM(), LINF, box=box)).fit(x, LABELS, verbose=0)
    ours = [each for each in told if each.category is advex.errors.ModelWarning]
    (message,) = (str(each.message) for each in ours)
    wide = keywords(message, r"box=\(.*?\)")
    levels = typed(message, r"(x = .*);", x=x)
    np.testing.assert_allclose([levels.min(), levels.max()], (0, 255), atol=1e-3)
    compiled(Adversarial(model, advex.FGSM(), LINF, **wide)).fit(
        levels.clip(0, 255), LABELS, verbose=0
    )


@executes("advex.callbacks.RobustAccuracy(data, attack, budget")
def test_a_callback_that_looks_in_another_range():
    """Its line is that of an attack in its own words; where it is said: ``test_watching.py``."""
    watch = advex.callbacks.RobustAccuracy((X, LABELS), advex.FGSM(), LINF)
    for sentence in (
        f"{TRAINED}advex.Classifier(model, preprocess=lambda x: x * 2 - 1)",
        f"{TRAINED}advex.Classifier(model, box=(-1, 1))",
        f"{TRAINED}attack x * 255 in place of x",
    ):
        watch._ranged, watch._told = sentence, False
        with pytest.warns(advex.errors.ModelWarning) as told:
            watch.on_train_end()
        message = str(told[0].message)
        names = {"data": (X, LABELS), "attack": advex.FGSM(), "budget": LINF}
        if "attack x" in sentence:
            x, labels = typed(message, r"data = .*$", x=X, labels=LABELS)
            assert labels is LABELS
            np.testing.assert_array_equal(x, X * 255)
            continue
        better = typed(message, r"advex\.callbacks\.RobustAccuracy\(.*\)$", **names)
        assert better.box == ((-1, 1) if "box" in sentence else (0, 1))
        assert (better.preprocess is None) == ("box" in sentence)


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
