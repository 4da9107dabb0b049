"""Recipes in messages about models, classifiers and black boxes."""

import functools
import warnings

import keras
import numpy as np
import pytest
from messages import cut, executes, keywords, said, typed

import advex
from advex import zoo
from advex.errors import AdvexWarning

BUDGET, ATTACK = advex.Linf(0.1), advex.FGSM()
X = np.random.default_rng(0).random((4, 6)).astype("float32")
LABELS = np.zeros(4, int)


@functools.cache
def small(units=3, activation=None):
    return keras.Sequential([keras.Input((6,)), keras.layers.Dense(units, activation=activation)])


def heads():
    image = keras.Input((6,))
    return keras.Model(image, {name: keras.layers.Dense(2)(image) for name in ("age", "sex")})


def attacked(model, goal=None, attack=ATTACK):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AdvexWarning)
        return attack(model, X, goal, BUDGET)


def note(model, goal, words):
    info = attacked(model, goal).info
    return next(each for each in info["notes"] + info["warnings"] if words in each)


@executes("received a dict: [names[number] for number in sorted(names)]")
def test_a_dict_of_class_names():
    names = {2: "cow", 0: "cat", 1: "dog"}
    message = said(lambda: advex.Classifier(small(), classes=names))
    made = typed(message, r"(\[names.*\]) if", names=names)
    assert advex.Classifier(small(), classes=made).names == ["cat", "dog", "cow"]


@executes("NumPy has no gradients: write it with keras.ops, such as")
def test_preprocessing_in_numpy():
    model = advex.Classifier(small(), preprocess=lambda x: np.asarray([[0.5] * 6] * 4))
    message = said(lambda: attacked(model))
    made = typed(message, r"such as (.*)$", mean=0.5, std=0.2)
    assert len(attacked(advex.Classifier(small(), preprocess=made))) == 4


@executes("taken for the logit of a binary classifier")
def test_one_unit():
    message = note(small(1), None, "taken for the logit")
    goal = typed(message, r"regression: (advex.*)\.$", values=[1.0, 2.0, 3.0, 4.0])
    assert len(attacked(small(1), goal)) == 4


@executes("taken for their logits", "for one class each, advex.TopK(labels, k=2) for the likeliest")
def test_classes_that_exclude_each_other():
    message = note(small(), advex.MultiLabel(), "taken for their logits")
    goal = typed(message, r"or (advex.*)\.$", labels=LABELS)
    assert len(attacked(small(), goal)) == 4
    model = small(activation="softmax")
    message = said(lambda: attacked(model, advex.MultiLabel()))
    for pattern in (r"advex\.Untargeted\(labels\)", r"advex\.TopK\(.*?\)"):
        assert len(attacked(model, typed(message, pattern, labels=LABELS))) == 4


@executes("another, output={}: leave that out")
def test_a_goal_about_another_output():
    model, goal = heads(), advex.Output("sex", LABELS)
    message = said(lambda: attacked(advex.Classifier(model, output="age"), goal))
    chosen = keywords(message, r"output='\w+'")
    assert chosen == {"output": "age"}
    assert len(attacked(advex.Classifier(model), goal)) == 4


@executes("has one output alone: leave advex.Output({}) out")
def test_one_output_alone():
    box = advex.BlackBox(lambda x: np.tile(np.float32([0.2, 0.8]), (len(x), 1)), classes=2)
    goal, square = advex.Output("age", LABELS), advex.SquareAttack(steps=4)
    message = said(lambda: attacked(box, goal, square))
    assert cut(message, r"leave advex\.Output\((.*?)\) out").startswith(repr("age"))
    assert len(attacked(box, LABELS, square)) == 4


class Estimator:
    classes_ = np.arange(3)

    def fit(self, x, y): ...

    def predict(self, x):
        return self.predict_proba(x).argmax(axis=1)

    def predict_proba(self, x):
        return np.tile(np.float32([0.2, 0.5, 0.3]), (len(x), 1))


@executes(
    "is an estimator: advex.BlackBox(model.{}, classes=len(model.classes_){})",
    "with its number of classes",
    "for a plain function of a NumPy array",
)
def test_black_boxes():
    square = advex.SquareAttack(steps=4)
    model = Estimator()
    message = said(lambda: advex.BlackBox(model, classes=3))
    assert len(attacked(typed(message, r"advex\..*$", model=model), attack=square)) == 4

    def ten(x):
        return np.tile(np.arange(10, dtype="float32"), (len(x), 1))

    model.predict_proba = ten
    message = said(lambda: attacked(model))
    assert len(attacked(typed(message, r"advex\.Bl.*?\)", model=model), attack=square)) == 4
    message = said(lambda: attacked(ten))
    assert len(attacked(typed(message, r"advex\.Bl.*?\)", model=ten), attack=square)) == 4


@executes("a BlackBox answers with one score")
def test_a_black_box_and_another_goal():
    def predict(x):
        return keras.ops.mean(x, axis=1, keepdims=True)

    goal, square = advex.Regression(off=0.01), advex.SquareAttack(steps=4)
    box = advex.BlackBox(lambda x: np.tile(np.float32([0.2, 0.8]), (len(x), 1)), classes=2)
    message = said(lambda: attacked(box, goal, square))
    assert len(attacked(typed(message, r"by (keras.*)$", predict=predict, x=X), goal)) == 4


@executes(
    "convert it: model.save('model.h5'), then model = keras.models.load_model("
    "'model.h5', compile=False)"
)
def test_a_model_of_keras_2(tmp_path, monkeypatch):
    """The file that the recipe writes, written by the Keras that is here."""

    class KerasTwo:
        def __call__(self, x, training=False):
            return x

    KerasTwo.__module__ = "tf_keras.src.engine.sequential"
    message = said(lambda: attacked(KerasTwo()))
    monkeypatch.chdir(tmp_path)
    typed(message, r"model\.save\('model\.h5'\)", model=small())
    assert len(attacked(typed(message, r"model = keras\.models.*$"))) == 4


@executes("a SavedModel without a call")
def test_a_folder_of_a_saved_model(tmp_path):
    tf = pytest.importorskip("tensorflow")
    small().export(tmp_path / "saved", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "saved")
    message = said(lambda: attacked(loaded))
    layer = typed(message, r"(keras\.layers\.TFSMLayer.*?\)) is", folder=str(tmp_path / "saved"))
    model = typed(message, r"model = keras.*$", x=X, layer=layer)
    assert (attacked(model).before == small().predict(X, verbose=0).argmax(axis=1)).all()


@executes("only .keras files are loaded")
def test_a_file_of_another_format(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small().save("model.h5")
    message = said(lambda: zoo.load("model.h5", (0, 1)))
    model = keras.models.load_model("model.h5", compile=False)
    typed(message, r"model\.save\('.*?'\)", model=model)
    file = cut(message, r"model\.save\('(.*?)'\)")
    assert len(attacked(zoo.load(file, (0, 1)))) == 4
