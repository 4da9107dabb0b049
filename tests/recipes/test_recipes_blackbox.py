"""Recipes about a function in place of a model, given to the command line."""

import shlex
import sys

import numpy as np
import pytest
from messages import cut, executes
from PIL import Image

from advex import cli

CODE = """
import numpy as np

WEIGHTS = np.random.default_rng(0).normal(size=(36, 3))


def scores(x):
    return (x.reshape(len(x), -1)[:, :36] - 0.5) @ WEIGHTS


def predict(x):
    return scores(x).argmax(axis=1)


class Judge:
    def __init__(self, name, answer):
        setattr(self, name, answer)


judge, refined = Judge("predict", predict), Judge("predict_proba", scores)
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a module, a picture and arrays."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    (tmp_path / "module.py").write_text(f"{CODE}\nfunction = predict\n")
    (tmp_path / "path" / "to").mkdir(parents=True)
    (tmp_path / "path" / "to" / "file.py").write_text(f"{CODE}\nfunction = predict\n")
    (tmp_path / "NAMES.json").write_text(str([f"class {n}" for n in range(10)]).replace("'", '"'))
    x = np.random.default_rng(1).integers(100, 156, (2, 6, 6)).astype("uint8")
    Image.fromarray(x[0]).save("a.png")
    np.savez("FILE.npz", x=x, labels=[0, 1])
    return tmp_path


SMALL = ["--attack", "cgba", "--norm", "l2", "--epsilon", "1", "--queries", "5"]
ATTACK = ["attack", "a.png", "--overwrite"]
EVALUATE = ["evaluate", "--data", "FILE.npz", "--epsilon", "1", "--norm", "l2", "--no-doctor"]


@pytest.fixture
def refused(here, capsys):
    def run(*words):
        assert cli.main([*words]) == 2
        return " ".join(capsys.readouterr().err.split())

    return run


def works(*words):
    return cli.main([*words]) in (0, 1)


def options(message, pattern):
    return shlex.split(cut(message, pattern))


@executes("--blackbox module:function, or --blackbox path/to/file.py:function")
def test_how_a_function_is_named(refused):
    message = refused(*ATTACK, "--blackbox", "module", "--classes", "10", *SMALL)
    for pattern in ("(--blackbox module:function),", "or (--blackbox path/to/file.py:function)"):
        assert works(*ATTACK, *options(message, pattern), "--classes", "10", *SMALL)


@executes(" needs the number of classes, --classes 10, or their names, --classes NAMES.json")
def test_how_many_classes(refused):
    message = refused(*ATTACK, "--blackbox", "module:predict", *SMALL)
    for pattern in ("classes, (--classes 10)", "names, (--classes NAMES.json)"):
        words = options(message, pattern)
        assert works(*ATTACK, "--blackbox", "module:predict", *words, *SMALL)


@executes("--{} belongs to --blackbox MODULE:FUNCTION")
def test_what_belongs_to_a_function(refused):
    message = refused(*ATTACK, "--answers", "labels")
    words = [*options(message, "to (--blackbox) "), "module:function", "--classes", "3"]
    assert works(*ATTACK, "--answers", "labels", *words, *SMALL)


@executes("--blackbox {} stands in place of a model: leave out --model {}")
def test_a_function_and_a_model(refused):
    given = [*ATTACK, "--blackbox", "module:function", "--classes", "3", *SMALL]
    message = refused(*given, "--model", "mine.keras")
    assert options(message, "leave out (.*)") == ["--model", "mine.keras"]
    assert works(*given)


@executes(": give its method, {}.{}{}", " --answers scores")
def test_an_estimator(refused):
    for name, answers in (("judge", []), ("refined", ["--answers", "scores"])):
        message = refused(*ATTACK, "--blackbox", f"module:{name}", "--classes", "3", *SMALL)
        words = options(message, "method, (.*)")
        assert words[2:] == answers
        assert works(*ATTACK, *words, "--classes", "3", *SMALL)


@executes("--queries belongs to an attack: --attack square --queries {}")
def test_queries_of_which_attack(refused, monkeypatch):
    given = [*EVALUATE, "--blackbox", "module:scores", "--answers", "scores", "--classes", "3"]
    message = refused(*EVALUATE, "--queries", "9")
    assert works(*given, *options(message, "attack: (.*)"))


@executes("and {} needs them: its own limit is --steps")
def test_queries_of_an_attack_with_gradients(refused):
    message = refused(*ATTACK, "--attack", "bim", "--queries", "2")
    assert works(*ATTACK, "--attack", "bim", *options(message, "is (--steps)$"), "2")


@executes(": leave out --attack, and one that needs no more is chosen")
def test_an_attack_that_needs_more(refused):
    given = ["--blackbox", "module:predict", "--classes", "3", *SMALL]
    message = refused(*ATTACK, *given, "--attack", "square")
    assert cut(message, "leave out (--attack),") == "--attack"
    assert works(*ATTACK, *given)


@executes(": leave out --answers scores")
def test_a_class_where_scores_are_said(refused):
    given = ["--blackbox", "module:predict", "--classes", "3", *SMALL]
    message = refused(*ATTACK, *given, "--answers", "scores")
    assert options(message, "leave out (.*)") == ["--answers", "scores"]
    assert works(*ATTACK, *given)


@executes(": that is --answers scores")
def test_scores_where_a_class_is_said(refused):
    given = ["--blackbox", "module:scores", "--classes", "3", *SMALL]
    message = refused(*ATTACK, *given)
    assert works(*ATTACK, *given, *options(message, "that is (.*)"))


@executes("leave out --confidence, or use --answers scores")
def test_a_confidence_of_a_class_alone(refused):
    given = ["--classes", "3", *SMALL, "--target", "2"]
    message = refused(*ATTACK, "--blackbox", "module:predict", *given, "--confidence", "0.4")
    words = options(message, "or use (.*)")
    scores = ["--blackbox", "module:scores", *given, "--confidence", "0.4"]
    assert works(*ATTACK, *scores, *words)


@executes("the function answers with one class; scores are --answers scores")
def test_several_labels_of_a_class_alone(refused):
    np.savez("many.npz", x=np.load("FILE.npz")["x"], labels=np.eye(3, dtype=int)[:2])
    given = [*EVALUATE, "--data", "many.npz", "--classes", "3", "--goal", "multilabel"]
    given += ["--attack", "cgba", "--queries", "5"]
    message = refused(*given, "--blackbox", "module:predict")
    words = options(message, "scores are (.*)")
    assert works(*given, "--blackbox", "module:scores", *words)


@executes("save it, and attack the file with --model FILE.keras")
def test_a_keras_model(refused, here):
    code = "import keras\nmodel = keras.Sequential([keras.Input((6, 6, 1)), keras.layers.Flatten(),"
    (here / "keras_of_mine.py").write_text(f"{code} keras.layers.Dense(3)])\n")
    message = refused(*ATTACK, "--blackbox", "keras_of_mine:model", "--classes", "3", *SMALL)
    sys.modules["keras_of_mine"].model.save("FILE.keras")
    assert works(*ATTACK, *options(message, "with (--model .*)"), "--attack", "fgsm")


@executes("pictures are read in one: --shape 224x224x3")
def test_the_shape_of_pictures(refused, here):
    (here / "classes" / "0").mkdir(parents=True)
    (here / "a.png").rename(here / "classes" / "0" / "a.png")
    given = [*EVALUATE, "--data", "classes", "--blackbox", "module:predict", "--classes", "3"]
    given += ["--attack", "cgba", "--queries", "3"]
    message = refused(*given)
    assert works(*given, *options(message, "one: (.*)"))
