"""Recipes in messages about evaluations of several inputs, layers and domains."""

import functools
import shlex

import keras
import numpy as np
import pytest
from messages import cut, executes, said, typed

import advex
from advex.cli import main

pytestmark = pytest.mark.filterwarnings("ignore::advex.errors.ModelWarning")


@functools.cache
def several():
    """A model of two inputs, what it is asked about, and what it answers."""
    keras.utils.set_random_seed(0)
    inputs = {name: keras.Input((4,), name=name) for name in ("left", "right")}
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Add()(list(inputs.values()))))
    x = {name: np.random.default_rng(0).random((6, 4)).astype("float32") for name in inputs}
    return model, x, model.predict(x, verbose=0).argmax(1)


@executes("diagnose is about one array of numbers in a box, and here {}: whether gradients")
def test_a_diagnosis_of_several_inputs():
    model, x, labels = several()
    model, budget = advex.Classifier(model, perturb="left"), advex.Linf(0.1)
    message = said(lambda: advex.evaluation.diagnose(model, x, labels, budget))
    names = {"model": model, "x": x, "labels": labels, "budget": budget}
    found = typed(message, r"advex\.evaluate\(.*\)$", **names)
    assert found.names == ["PGD", "SquareAttack"] and found.examples == 6


@executes("diagnose is about one epsilon for all examples; received {}: budget=advex.{}({})")
def test_a_diagnosis_with_an_epsilon_for_each():
    model, (x, labels) = advex.testing.linear_model(), advex.testing.linear_data(4)
    budget = advex.Linf([0.01, 0.02, 0.01, 0.03])
    message = said(lambda: advex.evaluation.diagnose(model, x, labels, budget))
    assert typed(message, r"budget=(advex\.\w+\([\d.]+\))") == advex.Linf(0.03)


@executes(
    "--perturb belongs to --model FILE.keras; other models have one input",
    "{}: images alone are no inputs for it; with arrays of all inputs, advex evaluate",
    "{}: --perturb {} says which one is attacked, the others stay as they are",
)
def test_which_input_on_the_command_line(tmp_path, capsys):
    model, x, labels = several()
    file, data, picture = (tmp_path / name for name in ("model.keras", "data.npz", "picture.png"))
    model.save(file)
    np.savez(data, labels=labels, **x)
    advex.images.picture(np.zeros((8, 8, 1), "uint8")).save(picture)

    def call(*words):
        code = main([str(word) for word in words])
        shown = capsys.readouterr()
        return code, " ".join((shown.err or shown.out).split())

    rest = ["--data", data, "--epsilon", "0.1", "--attack", "fgsm", "--no-doctor"]
    code, message = call("evaluate", "--model", file, *rest)
    flags = shlex.split(cut(message, r"--perturb \w+"))
    assert code == 2
    code, message = call("evaluate", "--model", file, *rest, *flags)
    assert code == 0 and "the input 'left' (4,); 'right' stays as it is" in message
    code, message = call("attack", picture, "--model", file)
    proposed = cut(message, r"advex (evaluate --model FILE\.keras --data FILE\.npz --perturb NAME)")
    proposed = proposed.replace("FILE.keras", str(file)).replace("FILE.npz", str(data))
    assert code == 2
    assert call(*proposed.replace("NAME", "right").split(), *rest[2:])[0] == 0
    code, message = call("evaluate", *rest, *flags)
    flags += [cut(message, r"--model FILE\.keras").replace("FILE.keras", str(file))]
    assert code == 2
    assert call("evaluate", *rest, *flags[:2], *flags[2].split())[0] == 0
