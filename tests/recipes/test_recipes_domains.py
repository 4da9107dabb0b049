"""What is said about domains, several inputs and layers, as its reader types it."""

import keras
import numpy as np
import pytest
from keras import layers
from messages import cut, executes, said, typed

import advex
from advex.errors import InvalidInput, InvalidType
from advex.testing import linear_data, linear_model

BUDGET = advex.Linf(0.1)
PGD = advex.PGD(steps=2)


def two_inputs():
    image, meta = keras.Input((6, 6, 1), name="image"), keras.Input((4,), name="meta")
    hidden = layers.Dense(5, name="hidden")(layers.Concatenate()([layers.Flatten()(image), meta]))
    generator = np.random.default_rng(0)
    x = {
        "image": generator.random((6, 6, 6, 1)).astype("float32"),
        "meta": generator.normal(size=(6, 4)).astype("float32"),
    }
    return keras.Model([image, meta], layers.Dense(3)(hidden)), x


def table(**more):
    return advex.Domain(np.zeros(12), np.ones(12), **more)


@executes("outside of the box {}: model = advex.Classifier(model, box={}, perturb={})")
def test_the_range_of_a_layer():
    model, x = two_inputs()
    message = said(
        lambda: PGD(advex.Classifier(model, perturb="hidden"), x, None, BUDGET), InvalidInput
    )
    made = typed(message, r"model = (.*), with", model=model)
    assert len(PGD(made, x, None, BUDGET)) == 6


@executes("the output of one layer is attacked alone, advex.Classifier(model, perturb={})")
def test_a_layer_alone():
    model, x = two_inputs()
    classifier = advex.Classifier(model, box=(-9, 9), perturb=["image", "hidden"])
    message = said(lambda: PGD(classifier, x, None, BUDGET))
    made = typed(message, r"alone, (.*)$", model=model)
    made = advex.Classifier(model, box=(-9, 9), perturb=list(made.perturb))
    assert len(PGD(made, x, None, BUDGET)) == 6


@executes(
    ", but what becomes of them has one: model = advex.Classifier(model, box=(-1, 1), perturb={})"
)
def test_token_numbers():
    inputs = keras.Input((5,), dtype="int32")
    words = layers.Flatten()(layers.Embedding(9, 2)(inputs))
    model = keras.Model(inputs, layers.Dense(3)(words))
    x = np.random.default_rng(0).integers(0, 9, (6, 5))
    classifier = advex.Classifier(model, box=(0, 9))
    message = said(lambda: PGD(classifier, x.astype("float32"), None, BUDGET))
    made = typed(message, r"has one: model = (.*)$", model=model)
    assert PGD(made, x, None, advex.Linf(0.4)).x.shape == (6, 5, 2)


@executes("{} is uint8, which stands for 8-bit levels, and the domain is about numbers: {}.astype(")
def test_levels_in_a_table():
    model, (x, labels) = linear_model(), linear_data(4)
    domain = advex.Domain(0, 255, integer=True)
    classifier = advex.Classifier(model, box=domain, preprocess=lambda x: x / 255)
    levels = np.rint(x * 255).astype("uint8")
    message = said(lambda: PGD(classifier, levels, labels, BUDGET), InvalidInput)
    made = typed(message, r": (.*)$", x=levels)
    assert len(PGD(classifier, made, labels, BUDGET)) == 4


@executes("a domain of all the data, advex.Domain.from_data(x), has room for them")
def test_data_outside_of_the_domain():
    model, (x, labels) = linear_model(), linear_data(4)
    classifier = advex.Classifier(model, box=advex.Domain.from_data(x[:2]))
    message = said(lambda: PGD(classifier, x, labels, BUDGET), InvalidInput)
    made = typed(message, r"the data, (.*), has", x=x)
    assert len(PGD(advex.Classifier(model, box=made), x, labels, BUDGET)) == 4


@executes("x = pandas.get_dummies(x, dtype='float64') makes groups of columns")
def test_columns_of_another_kind():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"age": [20, 30, 50], "town": ["a", "b", "a"]})
    message = said(lambda: advex.Domain.from_data(frame), InvalidInput)
    made = typed(message, r"(x = .*) makes", pandas=pandas, x=frame)
    domain = advex.Domain.from_data(made, one_hot=[["town_a", "town_b"]], fixed="age")
    assert domain.one_hot == ([1, 2],) and domain.fixed.tolist() == [True, False, False]


@executes("if these are several conditions, all must hold: lambda x: valid(x).all(axis=1)")
def test_several_conditions():
    model, (x, labels) = linear_model(), linear_data(4)

    def valid(x):
        return x >= 0

    def attacked(rule):
        return PGD(advex.Classifier(model, box=table(valid=rule)), x, labels, BUDGET)

    message = said(lambda: attacked(valid), InvalidInput)
    assert len(attacked(typed(message, r"hold: (.*)$", valid=valid))) == 4


@executes("If these are numbers of features: {}=np.isin(np.arange(x.shape[-1]), {})")
def test_numbers_in_place_of_a_mask():
    x = linear_data(4)[0]
    for fixed in ([0, 3], [0, 1], [0], [1]):
        message = said(lambda fixed=fixed: table(fixed=fixed), InvalidInput)
        assert said(lambda fixed=fixed: advex.Domain.from_data(x, fixed=fixed)) == message
        made = typed(message, r"fixed=(np.*)$", x=x, fixed=fixed)
        assert np.flatnonzero(table(fixed=made).fixed).tolist() == fixed


@executes("must not be below 0: lambda x: valid(x) >= 0")
def test_a_slack_in_place_of_a_condition():
    def valid(x):
        return x[:, 0] - 0.5

    rows = np.tile([[0.25], [0.75]], 12)
    message = said(lambda: table(valid=valid).holds(rows), InvalidInput)
    made = typed(message, r"below 0: (.*)$", valid=valid)
    assert table(valid=made).holds(rows).tolist() == [False, True]


@executes("integer=({} == np.rint({})).all(axis=0)")
def test_features_that_are_not_whole():
    model, (x, labels) = linear_model(), linear_data(4)
    x[:, 2] = [0, 1, 1, 0]

    def attacked(integer):
        return PGD(advex.Classifier(model, box=table(integer=integer)), x, labels, BUDGET)

    message = said(lambda: attacked(True), InvalidInput)
    made = typed(message, r"integer=(.*)$", x=x)
    assert np.flatnonzero(made).tolist() == [2] and len(attacked(made)) == 4


@executes(
    "which is channels first for a channels-last model: np.moveaxis({}, 1, -1)",
    "which is channels last for a channels-first model: np.moveaxis({}, -1, 1)",
    "for a colour model (three): np.repeat({}, 3, axis=-1)",
)
def test_axes_of_one_of_several_inputs():
    shapes = {(6, 6, 3): [(3, 6, 6), (6, 6, 1)], (3, 6, 6): [(6, 6, 3)]}
    for wanted, given in shapes.items():
        image, meta = keras.Input(wanted, name="image"), keras.Input((4,), name="meta")
        joined = layers.Concatenate()([layers.Flatten()(image), meta])
        model = advex.Classifier(keras.Model([image, meta], layers.Dense(3)(joined)), perturb=0)
        for shape in given:
            x = {"image": np.zeros((2, *shape), "float32"), "meta": np.zeros((2, 4), "float32")}
            message = said(lambda x=x, model=model: PGD(model, x, None, BUDGET), InvalidInput)
            x["image"] = typed(message, r": (np\..*)$", x=x)
            assert len(PGD(model, x, None, BUDGET)) == 2


@executes("their relations do not hold; {} = domain.repaired({}) restores them")
def test_relations_that_do_not_hold():
    model, (x, labels) = linear_model(), linear_data(4)

    def repair(x):
        return keras.ops.concatenate([x[:, :11], x[:, :1]], axis=1)

    domain = table(repair=repair)
    classifier = advex.Classifier(model, box=domain)
    message = said(lambda: PGD(classifier, x, labels, BUDGET), InvalidInput)
    made = typed(message, r"hold; (.*) restores", x=x, domain=domain)
    assert len(PGD(classifier, made, labels, BUDGET)) == 4


@executes(
    "np.save('adversarial.npy', result.x)",
    "np.savez('adversarial.npz', *keras.tree.flatten(result.x))",
)
def test_what_is_no_picture(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model, x = two_inputs()
    inner = PGD(advex.Classifier(model, box=(-9, 9), perturb="hidden"), x, None, BUDGET)
    both = PGD(advex.Classifier(model, box=(-9, 9), perturb=["image", "meta"]), x, None, BUDGET)
    single, (numbers, labels) = linear_model(), linear_data(4)
    plain = PGD(advex.Classifier(single, box=table()), numbers, labels, BUDGET)
    for result, name in ((inner, "npy"), (both, "npz"), (plain, "npy")):
        for call in (lambda result=result: result.save("there"), result.show):
            message = said(call, InvalidInput)
            code = cut(message, r": (np\.save.*) keeps")
            exec(code, {"np": np, "keras": keras, "result": result})
            assert (tmp_path / f"adversarial.{name}").stat().st_size > 0


@executes("and the model has but one input: budget = advex.{}")
def test_a_dict_of_budgets_for_one_input():
    model, (x, labels) = linear_model(), linear_data(4)
    message = said(lambda: PGD(model, x, labels, {"x": BUDGET}), InvalidInput)
    assert len(PGD(model, x, labels, typed(message, r"budget = advex.*$"))) == 4


@executes("this attack has no form for inputs in different norms")
def test_inputs_in_different_norms():
    model, x = two_inputs()
    classifier = advex.Classifier(model, box=(-9, 9), perturb=["image", "meta"])
    budget = {"image": advex.Linf(0.1), "meta": advex.L2(0.1)}
    message = said(lambda: advex.FAB(steps=2)(classifier, x, None, budget), InvalidInput)
    for code in (r"advex\.FMN\(\)", r"advex\.PGD\(\)"):
        assert len(typed(message, code)(classifier, x, None, budget)) == 6
    even = dict.fromkeys(budget, typed(message, r"all of them (advex\.Linf)")(0.1))
    assert len(advex.FAB(steps=2)(classifier, x, None, even)) == 6


@executes("np.asarray({})")
def test_an_input_that_is_a_list():
    model, x = two_inputs()
    classifier = advex.Classifier(model, perturb="image")
    lists = {**x, "image": x["image"][..., 0].tolist()}
    message = said(lambda: PGD(classifier, lists, None, BUDGET), (InvalidInput, InvalidType))
    made = typed(message, r"pass (.*)$", x=lists)
    assert len(PGD(classifier, {**lists, "image": made.astype("float32")}, None, BUDGET)) == 6
