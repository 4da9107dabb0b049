"""Recipes in messages about inputs, budgets and the call of an attack."""

import decimal
import fractions
import functools

import keras
import numpy as np
import pytest
from keras import ops
from messages import executes, keywords, said, typed

import advex
from advex import _others
from advex._keywords import ELSEWHERE
from advex.errors import ModelWarning
from advex.testing import linear_data
from advex.testing import linear_model as new_linear_model

pytestmark = pytest.mark.usefixtures("unsearched")

BUDGET, ATTACK = advex.Linf(0.1), advex.FGSM()


def pictures(count=3, shape=(6, 6, 1)):
    return np.random.default_rng(0).uniform(size=(count, *shape)).astype("float32")


@functools.cache
def small(shape=(6, 6, 1), classes=3):
    return keras.Sequential(
        [keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(classes)]
    )


linear_model = functools.cache(new_linear_model)


class Unbuilt(keras.Model):
    """A model that cannot say what it takes."""

    def __init__(self, classes=3):
        super().__init__()
        self.flat, self.top = keras.layers.Flatten(), keras.layers.Dense(classes)

    def call(self, x):
        return self.top(self.flat(x))


# Names and settings


@executes(*[text for text in ELSEWHERE.values() if "(" in text])
def test_keywords_of_other_places():
    model, (x, labels) = linear_model(), linear_data(3)
    names = {"attack": ATTACK, "model": model, "x": x, "budget": BUDGET}
    for word, text in ELSEWHERE.items():
        message = said(lambda word=word: advex.PGD(**{word: 1}))
        assert text in message
        if "(" not in text:
            continue
        given = 1 - labels if "Targeted" in text else labels
        made = typed(message, r".*: (.*)$", **names, labels=given)
        for each in made if isinstance(made, tuple) else (made,):
            assert isinstance(
                each, advex.Result | advex.budgets.Budget | advex.Classifier | advex.Attack
            )


@executes("takes its settings by name")
def test_settings_are_given_by_name():
    model, (x, labels) = linear_model(), linear_data(3)
    for attack in (advex.PGD, advex.FGSM):
        message = said(lambda attack=attack: attack(40))
        made = typed(message, r"call: (.*)$", model=model, x=x, labels=labels, budget=BUDGET)
        assert len(made) == len(x)


OTHERS = {
    "ProjectedGradientDescent": "the norm is chosen by the budget: advex.PGD()(",
    "EOT": "it goes around another attack",
    "Square": "it looks at scores alone",
    "RobustAccuracy": "advex.evaluate(model, (x, labels), advex.PGD(), advex.Linf(8/255))",
    "KerasClassifier": "most models need none",
    "Boundary": "this attack on class numbers is not there yet",
    "ZOO": "this attack on scores is not there yet",
    "foolbox": "that is another library",
    "Zzzzzz": "lists what there is",
}


@pytest.mark.parametrize(("words", "name"), [(words, name) for name, words in OTHERS.items()])
@executes(*OTHERS.values())
def test_names_of_other_libraries(words, name):
    model, (x, labels) = linear_model(), linear_data(3)
    labels = 1 - labels  # all wrong before: nothing is left to be attacked
    if name == "RobustAccuracy":
        name = next(word for word in _others.HERE["evaluate"].split() if word != "robustaccuracy")
    message = said(lambda: getattr(advex, name), AttributeError)
    assert words in message

    def transforms(problem, x):
        return x + 0.001

    code = r"(dir\(advex\)|advex\.\w+\(.*\)(?=$|,| looks))"
    made = typed(message, code, model=model, x=x, labels=labels, transforms=transforms)
    assert made is not None and made is not NotImplemented


@executes("not a {}; received {}: int({})", ": float({})")
def test_numbers_of_another_kind():
    for value in (10.0, np.float32(10), np.float64(10), fractions.Fraction(10)):
        message = said(lambda value=value: advex.PGD(steps=value))
        made = typed(message, r"int\(.*\)$", Fraction=fractions.Fraction)
        assert advex.PGD(steps=made).steps == 10
    message = said(lambda: advex.Linf(decimal.Decimal("0.1")))
    assert advex.Linf(typed(message, r"float\(.*\)$", Decimal=decimal.Decimal)).epsilon == 0.1


# Budgets


@executes("grey levels write advex")
def test_grey_levels():
    message = said(lambda: advex.Linf(8))
    assert typed(message, r"write (.*)$") == advex.Linf(8 / 255)


@executes("other numbers would be an epsilon for each element")
def test_a_mask_of_numbers():
    for mask in (np.full((6, 6, 1), 0.5), [[[0.5]] * 6] * 6):
        message = said(lambda mask=mask: advex.Linf(0.1, mask=mask))
        advex.Linf(0.1, mask=typed(message, r": (np.*)$", mask=mask))


@executes(
    "needs a limit, such as",
    *["advex.Linf(8/255)", "advex.L2(0.5)", "advex.L1(10)", "advex.L0(20)"],
)
def test_a_budget_without_a_limit():
    model, (x, labels) = linear_model(), linear_data(3)
    for norm in (advex.Linf, advex.L2, advex.L1, advex.L0):
        message = said(lambda norm=norm: ATTACK(model, x, 1 - labels, norm()))
        made = typed(message, r"such as (.*)$")
        assert isinstance(made, norm) and len(ATTACK(model, x, 1 - labels, made)) == 3


@executes("until='end' needs a limit")
def test_until_the_end_needs_a_limit():
    model, (x, labels) = linear_model(), linear_data(3)
    for norm in (advex.Linf, advex.L2):
        attack = advex.FMN(steps=2)
        message = said(lambda norm=norm: attack(model, x, labels, norm(), until="end"))  # noqa: B023
        made = typed(message, r"such as (.*?\)):")
        assert isinstance(made, norm) and len(attack(model, x, labels, made, until="end")) == 3


@executes("the budget comes after it", "mask=mask")
def test_a_budget_in_the_place_of_the_goal():
    model, (x, labels) = linear_model(), linear_data(3)
    mask = np.ones(12, bool)
    for budget in (advex.Linf(8 / 255), advex.L2(0.5), advex.L2(0.5, mask=mask)):
        message = said(lambda budget=budget: ATTACK(model, x, budget))
        made = keywords(message, r"after it: (.*)$", mask=mask)
        assert repr(made["budget"]) == repr(budget) and len(ATTACK(model, x, labels, **made)) == 3


@executes(
    "needs a budget, such as",
    "budget must be such as",
    "use an attack that takes every norm, such as",
    "evaluate needs a budget",
    "check_attack needs an attack",
    "walk needs an attack, such as",
    "needs an attack, such as advex.PGD()",
    "Ensemble needs attacks",
    "attack must be an attack",
    "attacks must be attacks, such as",
)
def test_what_stands_for_an_argument():
    """``such as ...`` is an argument that can be given."""
    model, (x, labels) = linear_model(), linear_data(3)
    data = x, labels
    watch = advex.callbacks.RobustAccuracy

    def evaluate(attacks=ATTACK, budget=BUDGET):
        return advex.evaluate(model, data, attacks, budget, progress=False, diagnose=False)

    calls = [
        (lambda budget: ATTACK(model, x, labels, budget), None),
        (lambda budget: ATTACK(model, x, labels, budget), 0.1),
        (lambda budget: evaluate(budget=budget), None),
        (lambda budget: evaluate(budget=budget), 0.1),
        (lambda budget: watch(data, ATTACK, budget), 0.1),
        (lambda attack: watch(data, attack, BUDGET), advex.PGD),
        (lambda attack: evaluate(attacks=attack), [3]),
        (lambda attack: advex.Restarts(attack, 2), "PGD"),
        (advex.Ensemble, advex.PGD),
        (lambda attack: advex.testing.walk(attack, model, x, labels, BUDGET), "PGD"),
    ]
    for call, wrong in calls:
        message = said(lambda call=call, wrong=wrong: call(wrong))
        call(typed(message, r"such as (.*?\))(?=;|:|$)"))
    message = said(lambda: advex.testing.check_attack("PGD", [BUDGET]))
    assert isinstance(typed(message, r"such as (.*?\))(?=;|:|$)"), advex.Attack)
    message = said(lambda: advex.DDN()(model, x, 1 - labels, advex.L1(1)))
    assert len(typed(message, r"such as (.*)$")(model, x, 1 - labels, advex.L1(1))) == 3


@executes("with its brackets")
def test_an_attack_with_its_brackets():
    model, data = linear_model(), linear_data(3)
    message = said(lambda: advex.evaluate(model, data, advex.FGSM, BUDGET))
    made = typed(message, r": (advex\.\w+\(\)) with")
    assert advex.evaluate(model, data, made, BUDGET, progress=False, diagnose=False).examples == 3


@executes("looks at scores alone, such as")
def test_a_black_box_and_an_attack_with_gradients():
    model, (x, labels) = linear_model(), linear_data(3)
    box = advex.BlackBox(lambda x: model.predict(x, verbose=0), classes=2)
    for call in (
        lambda attack: attack(box, x, labels, BUDGET),
        lambda attack: advex.evaluate(box, (x, labels), attack, BUDGET, progress=False),
    ):
        message = said(lambda call=call: call(ATTACK))
        made = typed(message, r"such as (.*?),")
        assert isinstance(made, advex.SquareAttack)
    assert len(advex.SquareAttack(steps=5)(box, x, labels, BUDGET)) == 3


@executes("an attack of a single run")
def test_a_walk_of_several_runs():
    model, (x, labels) = linear_model(), linear_data(3)
    attack = advex.Restarts(ATTACK, 3)
    message = said(lambda: advex.testing.walk(attack, model, x, labels, BUDGET))
    made = typed(message, r": (attack.*)$", attack=attack)
    advex.testing.walk(made, model, x, labels, BUDGET)


# x and labels


@executes("times must become the numbers")
def test_times():
    for x in (np.full((3, 4), 1, "datetime64[s]"), np.full((3, 4), 1, "timedelta64[D]")):
        message = said(lambda x=x: ATTACK(small((4,)), x, None, BUDGET))
        assert len(ATTACK(small((4,)), typed(message, r": (\S+)$", x=x), None, BUDGET)) == 3


@executes("np.stack(x) if each is one example, np.concatenate(x) if each is a batch")
def test_a_list_of_arrays():
    x = [pictures()[0], pictures()[1]]
    model = Unbuilt()
    message = said(lambda: ATTACK(model, x, None, BUDGET))
    assert len(ATTACK(model, typed(message, r"np\.stack\(x\)", x=x), None, BUDGET)) == 2
    x = [pictures(2), pictures(2)]
    message = said(lambda: ATTACK(small(), x, None, BUDGET))
    assert len(ATTACK(small(), typed(message, r"np\.concatenate\(x\)", x=x), None, BUDGET)) == 4


@executes("[None] makes one example a batch")
def test_one_row_of_a_table():
    model = small((4,))
    for x in (pictures(1, (4,))[0], [0.1, 0.2, 0.3, 0.4], ops.ones(4) / 2):
        message = said(lambda x=x: ATTACK(model, x, None, BUDGET))
        made = typed(message, r": (\S+) makes", x=x, ops=ops)
        assert len(ATTACK(model, made, None, BUDGET)) == 1


@executes("counts the examples: {}[None]")
def test_one_label_for_one_example():
    model = Unbuilt()
    for x in (pictures(1)[0], pictures(1)[0].tolist()):
        for label in (1, np.int64(1), np.array(1), 1.0):
            message = said(lambda x=x, label=label: ATTACK(model, x, label, BUDGET))
            whole = typed(message, r": (\S+\[None\]) if", x=x)
            labels = typed(message, r"number: (\[.*?\]) for")
            assert len(ATTACK(model, whole, labels, BUDGET)) == 1


@executes("channels last for a channels-first model")
def test_channels_last_for_a_model_of_channels_first():
    model, x = small((1, 6, 6)), pictures(3, (6, 6, 1))
    message = said(lambda: ATTACK(model, x, None, BUDGET))
    made = typed(message, r"np\.moveaxis.*$", x=x)
    assert (made[:, 0] == x[..., 0]).all() and len(ATTACK(model, made, None, BUDGET)) == 3


@executes("Give other numbers as")
def test_numbers_as_bytes():
    x = np.random.default_rng(0).integers(0, 2, (3, 6, 6, 1)).astype("uint8")
    notes = ATTACK(small(), x, None, BUDGET).info["notes"]
    note = next(note for note in notes if "grey levels" in note)
    made = typed(note, r"as (x\..*)\.$", x=x)
    assert ATTACK(small(), made, None, BUDGET).x.dtype == "float32"


@executes("were taken for one class number each")
def test_one_hot_labels_of_sigmoids():
    image = keras.Input((6, 6, 1))
    top = keras.layers.Dense(3, activation="sigmoid")(keras.layers.Flatten()(image))
    model, labels = keras.Model(image, top), np.eye(3)
    notes = ATTACK(model, pictures(), labels, BUDGET).info["notes"]
    note = next(note for note in notes if "multi-label" in note)
    goal = typed(note, r": (advex.*)\.$", labels=labels)
    assert ATTACK(model, pictures(), goal, BUDGET).goal.labels.shape == (3, 3)


@pytest.mark.filterwarnings("ignore:The model begins with the Rescaling layer")
@executes("cuts off the fractions of")
def test_fractions_for_an_input_of_whole_numbers():
    entry = keras.Input((6, 6, 1), dtype="uint8")
    layers = [entry, keras.layers.Rescaling(1 / 255), keras.layers.Flatten(), keras.layers.Dense(3)]
    model, x = keras.Sequential(layers), pictures()
    square = advex.SquareAttack(steps=5)
    message = said(lambda: square(model, x, None, BUDGET))
    whole = typed(message, r"advex\.Classifier\(model, box=\(0, 255\)\)", model=model)
    assert len(square(whole, (x * 255).astype("uint8"), None, BUDGET)) == 3
    made = typed(message, r"input: (model = .*)$", model=model)
    assert len(square(made, x, None, BUDGET)) == 3


@executes("JSMA needs labels or a target", "needs a class for each pixel, advex.Segmentation")
def test_an_attack_that_cannot_pursue_the_goal():
    goal, model, x = advex.Regression(off=0.1), small(classes=1), pictures()
    for attack, budget in ((advex.JSMA(), advex.L0(3)), (advex.SEA(), BUDGET)):
        message = said(lambda attack=attack, budget=budget: attack(model, x, goal, budget))
        made = typed(message, r"use (advex\.\w+\(\))")
        assert len(made(model, x, goal, budget)) == 3
    maps = keras.Sequential([keras.Input((6, 6, 1)), keras.layers.Conv2D(3, 1)])
    message = said(lambda: advex.SEA()(maps, x, advex.TopK(np.zeros(3, int), k=1), BUDGET))
    labels = np.zeros((3, 6, 6), int)
    goal = typed(message, r"advex\.Segmentation\(labels\)", labels=labels)
    assert len(advex.SEA()(maps, x, goal, BUDGET)) == 3


@executes("advex.Verdict() is an ensemble")
def test_an_ensemble_for_every_goal():
    goal, model, x = advex.Regression(off=0.1), small(classes=1), pictures(1)
    message = said(lambda: advex.AutoAttack()(model, x, goal, BUDGET))
    assert len(typed(message, r"(advex\.\w+\(\)) is")(model, x, goal, BUDGET)) == 1


@executes("random numbers of its own")
def test_random_transforms():
    def noisy(problem, x):
        return x + 0.01 * keras.random.normal(ops.shape(x))

    attack = advex.AveragedGradient(advex.FGSM(), noisy, 2)
    with pytest.warns(ModelWarning, match="random numbers of its own") as caught:
        attack(small(), pictures(), None, BUDGET)
    note = str(caught[0].message)
    made = typed(note, r"as in (lambda.*)\.$")
    attack = advex.AveragedGradient(advex.FGSM(), made, 2)
    assert not attack(small(), pictures(), None, BUDGET).info["warnings"]


@executes("advex.Classifier(model, box=(0, 255)) if the model takes 0 to 255, else {} = {}")
@pytest.mark.parametrize("box", [(-1, 1), (-2.1, 2.6)])
def test_levels_as_floats_in_a_narrower_box(box):
    """Never the union of both ranges, such as (-1, 255)."""
    model, labels = advex.testing.linear_model(np.eye(12)[:, :2] / 1000), np.zeros(3, "int64")
    x = np.linspace(0, 255, 36, dtype="float32").reshape(3, 12)
    message = said(lambda: advex.FGSM()(advex.Classifier(model, box=box), x, labels, BUDGET))
    wide = typed(message, r"advex\.Classifier\(model, box=\(0, 255\)\)", model=model)
    assert len(advex.FGSM()(wide, x, labels, BUDGET)) == 3
    scaled = typed(message, r"else (x = .*)$", x=x)
    np.testing.assert_allclose([scaled.min(), scaled.max()], box, rtol=1e-6)
    assert len(advex.FGSM()(advex.Classifier(model, box=box), scaled, labels, BUDGET)) == 3


@executes("if that is the model's domain")
def test_floats_beyond_any_range():
    model = advex.testing.linear_model(np.eye(12)[:, :2] / 1000)
    x = np.linspace(0, 400, 36, dtype="float32").reshape(3, 12)
    labels = np.zeros(3, "int64")
    message = said(lambda: advex.FGSM()(advex.Classifier(model, box=(-1, 1)), x, labels, BUDGET))
    wide = typed(message, r"advex\.Classifier\(model, box=\(.*?\)\)", model=model)
    assert wide.box == (0, 400)
    assert len(advex.FGSM()(wide, x, labels, BUDGET)) == 3
