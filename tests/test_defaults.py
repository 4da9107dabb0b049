"""What someone types first: every attack and function with its defaults, on the model and the
images that ship with advex.
"""

import inspect
import warnings

import keras
import numpy as np
import pytest

import advex
from advex import zoo
from advex.errors import AdvexWarning
from advex.testing.exact import inside

USUAL = (advex.Linf(2 / 255), advex.L2(0.25), advex.L1(2.0), advex.L0(3))
COUNT = 4
WRAPPED = {  # wrappers have no default for what they wrap
    "Ensemble": lambda: advex.Ensemble(advex.FGSM(), advex.PGD()),
    "Restarts": lambda: advex.Restarts(advex.PGD()),
    "EveryTarget": lambda: advex.EveryTarget(advex.APGD(loss=advex.losses.dlr)),
    "AveragedGradient": lambda: advex.AveragedGradient(advex.PGD()),
}
LONG = ("AutoAttack", "MinimumNorm")  # thousands of steps on rows that stand: in tests of their own


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AdvexWarning)
        yield


@pytest.fixture(scope="module")
def shipped():
    return zoo.fashion_mnist(), *zoo.fashion_images()


def defaults():
    for name in advex.attacks.__all__:
        value = getattr(advex, name)
        if inspect.isclass(value) and issubclass(value, advex.Attack) and value is not advex.Attack:
            yield name, WRAPPED.get(name, value)
        elif inspect.isfunction(value):
            yield name, value


@pytest.mark.matrix  # every docstring calls its attack in make test
@pytest.mark.parametrize(
    ("name", "make"),
    [pair for pair in defaults() if pair[0] not in LONG],
    ids=lambda value: str(value)[:20],
)
def test_every_attack_as_it_comes(name, make, shipped):
    """In the first norm that it takes, bytes and floats by turns."""
    model, levels, labels = shipped
    attack, tried = make(), 0
    for number, budget in enumerate(USUAL):
        try:
            attack.check(advex.Untargeted(labels), budget)
        except advex.errors.InvalidInput:
            continue
        if tried:
            break
        tried += 1
        x = levels[:COUNT] if (number + len(name)) % 2 else (levels[:COUNT] / 255).astype("float32")
        result = attack(model, x, labels[:COUNT], budget)
        assert inside(result.x, x, budget) and result.x.dtype == x.dtype and len(result) == COUNT
    assert tried


@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_evaluate_as_it_comes(kind, shipped, tmp_path):
    """All 32 images within a tight budget: rows that stand by a hair take every part of Verdict,
    batches are filled up.
    """
    model, levels, labels = shipped
    x = levels if kind == "uint8" else (levels / 255).astype("float32")
    count = len(x) if kind == "uint8" else 8
    found = advex.evaluate(
        model, (x[:count], labels[:count]), budget=advex.Linf(2 / 255), diagnose=kind == "float32"
    )
    assert (
        found.finished and found.examples == count and found.robust_accuracy <= found.clean_accuracy
    )
    assert len(list(found.rows())) == count and "{" in found.to_json()
    assert (
        found.to_csv(tmp_path / "rows.csv").stat().st_size
        and found.report(tmp_path / "page.html").stat().st_size
    )
    assert "<" in found._repr_html_() and str(found) and found.curve.radii is not None
    assert (found.diagnosis is not None) == (kind == "float32")


def test_a_result_as_it_comes(shipped, tmp_path):
    model, levels, labels = shipped
    for number, x in enumerate((levels[:COUNT], (levels[:COUNT] / 255).astype("float32"))):
        result = advex.PGD()(model, x, labels[:COUNT], advex.Linf(8 / 255))
        assert result.success.any()
        # a float may lose its success when it becomes a level, a byte may not
        for record in result.save(tmp_path / str(number)):
            assert record.levels <= 8 and record.verified == (record.after != record.before)
            assert record.verified or number
        assert result.show() is not None and "<" in result._repr_html_() and repr(result)


def test_no_labels_and_targets(shipped):
    model, levels, _ = shipped
    assert len(advex.PGD()(model, levels[:COUNT], budget=advex.Linf(2 / 255))) == COUNT
    predicted = advex.PGD()(model, levels[:COUNT], budget=advex.Linf(0)).prediction
    assert (
        len(
            advex.fine()(
                model, levels[:COUNT], advex.Targeted((predicted + 1) % 10), advex.Linf(5 / 255)
            )
        )
        == COUNT
    )


def test_robust_accuracy_in_fit(shipped):
    _, levels, labels = shipped
    x = (levels / 255).astype("float32")
    model = keras.Sequential(
        [keras.Input(x.shape[1:]), keras.layers.Flatten(), keras.layers.Dense(10)]
    )
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    watch = advex.callbacks.RobustAccuracy((x[:8], labels[:8]), advex.PGD(), advex.Linf(8 / 255))
    history = model.fit(x, labels, callbacks=[watch], verbose=0).history
    assert 0 <= history["val_robust_accuracy"][0] <= 1


def test_a_black_box_as_it_comes(shipped):
    model, levels, labels = shipped
    box = advex.BlackBox(
        lambda x: np.asarray(keras.ops.convert_to_numpy(model.model(x))), classes=10
    )
    result = advex.SquareAttack(steps=50)(box, levels[:COUNT], labels[:COUNT], advex.Linf(8 / 255))
    assert (result.gradients == 0).all() and (result.queries <= 50).all()
