"""Recipes in messages about evaluations, diagnoses, results and files, and of what to install."""

import functools
import itertools
import re
import sys
import tomllib
import types
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest
from messages import CODE, cut, executes, installed_by, keywords, said, typed

import advex
from advex.doctor.call import CHECKS
from advex.errors import AdvexWarning
from advex.evaluation import curve as curve_of
from advex.evaluation import diagnose, text
from advex.testing import linear_data, linear_model

BUDGET, ATTACK = advex.Linf(0.02), advex.FGSM()
PROJECT = Path(__file__).parents[2] / "pyproject.toml"


@functools.cache
def linear():
    return linear_model()


def evaluated(**settings):
    settings = {"progress": False, "diagnose": False, **settings}
    data, budget = settings.pop("data", linear_data(6)), settings.pop("budget", BUDGET)
    return advex.evaluate(linear(), data, ATTACK, budget, **settings)


@pytest.fixture(scope="module")
def found():
    return evaluated()


@pytest.fixture(scope="module")
def result():
    x, labels = linear_data(4)
    return ATTACK(linear(), x, labels, BUDGET)


# What to install


@executes(
    "frames are made by pandas",
    "pictures of curves are drawn by matplotlib",
    "reports are made by Jinja2 and matplotlib",
    "the charts of a report are drawn by matplotlib",
    "several workers are Ray's",
)
def test_what_is_to_be_installed(found, result, monkeypatch, tmp_path):
    from advex.evaluation import cluster
    from advex.evaluation.page import drawing

    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    known = {f"{project['name']}[{extra}]" for extra in extras}
    known |= {re.match(r"[\w-]+", each).group() for each in itertools.chain(*extras.values())}

    def drawn():
        with drawing.context():
            pass

    def workers():
        with cluster._ray(1):
            pass

    curve = curve_of(result)
    for call, missing, holds in (
        (found.to_pandas, "pandas", "pandas"),
        (result.to_pandas, "pandas", "pandas"),
        (lambda: curve.show(tmp_path / "curve.png"), "matplotlib.figure", "matplotlib"),
        (lambda: found.report(tmp_path / "page.html"), "jinja2", "jinja2"),
        (drawn, "matplotlib.style", "matplotlib"),
        (workers, "ray", "ray"),
    ):
        with monkeypatch.context() as patched:
            patched.setitem(sys.modules, missing, None)
            name = installed_by(said(call, ImportError))
        assert name in known
        extra = extras.get(name.partition("[")[2].rstrip("]"), [name])
        assert any(each.startswith(holds) for each in extra), (name, holds)


# Evaluations


@executes(
    "advex.evaluate(model, (x, labels), attacks, budget{})",
    ", goal=advex.MultiLabel",
    ", goal=lambda y: advex.Regression(y, off=0.5)",
    ", goal=advex.Segmentation",
    "diagnose is about classes",
)
def test_figures_of_other_goals(found):
    image = keras.Input((2, 2, 1))
    flat = keras.layers.Flatten()(image)
    x = np.random.default_rng(0).random((4, 2, 2, 1)).astype("float32")
    for name, layer, labels in (
        ("per_label", keras.layers.Dense(3)(flat), np.ones((4, 3), int)),
        ("errors", keras.layers.Dense(1)(flat), np.full(4, 9.5)),
        ("pixel_accuracy", keras.layers.Conv2D(2, 1)(image), np.ones((4, 2, 2), int)),
        ("mean_iou", keras.layers.Conv2D(2, 1)(image), np.ones((4, 2, 2), int)),
    ):
        message = said(lambda name=name: getattr(found, name))
        names = {"model": keras.Model(image, layer), "x": x, "labels": labels}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AdvexWarning)
            made = typed(message, r"advex\.evaluate.*$", **names, attacks=ATTACK, budget=BUDGET)
            assert getattr(made, name)
            if name == "per_label":
                message = said(lambda: diagnose(names["model"], x, labels, BUDGET))  # noqa: B023
                typed(message, r"advex\.evaluate.*$", **names, attacks=ATTACK, budget=BUDGET)


@executes("this run did not keep adversarial inputs")
def test_inputs_that_were_not_kept(found):
    message = said(lambda: found.adversarial(0))
    data = linear_data(2)
    names = {"model": linear(), "data": data, "attacks": ATTACK, "budget": advex.Linf(0.4)}
    made = typed(message, r"advex\.evaluate\(.*\)", **names)
    assert made.adversarial(0).shape == data[0][0].shape


@executes("engine='ray' needs a run file")
def test_data_for_several_workers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x, labels = linear_data(4)
    message = said(lambda: evaluated(engine="ray"))
    np.save("x.npy", x)
    # Ray itself is started by the tests of the engine
    monkeypatch.setattr(advex.evaluation.call, "_evaluated", lambda *asked: asked)
    names = {"model": linear(), "labels": labels, "attacks": ATTACK, "budget": BUDGET}
    _, source, path, _, workers = typed(message, r"advex\.evaluate\(.*\)", **names)
    assert source.arrays is not None and str(path) == "run.advex" and workers > 0


@executes("nothing was kept: with run='run.advex'", "the same call with run={} goes on from there")
def test_a_run_that_was_stopped(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = {"data": linear_data(40), "batch_size": 2}

    def stopped(**run):
        def told(*_):
            raise KeyboardInterrupt

        return said(lambda: evaluated(**settings, **run, progress=told), KeyboardInterrupt)

    run = keywords(stopped(), r"run='run\.advex'")
    again = keywords(stopped(**run), r"run='.*?'")
    assert again == run and evaluated(**settings, **again).examples == 40


@executes("which means something to SQLite alone: run=None")
def test_a_run_in_memory():
    message = said(lambda: evaluated(run=":memory:"))
    assert evaluated(**keywords(message, r"run=None")).examples == 6


@executes("is .batch(n) missing?")
def test_a_data_set_without_batches():
    tf = pytest.importorskip("tensorflow")
    data = tf.data.Dataset.from_tensor_slices(linear_data(6))
    message = said(lambda: evaluated(data=data))
    made = eval(f"data{cut(message, r'is (.*) missing')}", {"data": data, "n": 3})
    assert evaluated(data=made).examples == 6


@executes("run it with advex.{}()")
def test_a_curve_beyond_its_limit():
    x, labels = linear_data(4)
    for budget in (advex.Linf(0.01), advex.L2(0.01)):
        attack = advex.FMN(steps=2)
        curve = curve_of(attack(linear(), x, labels, budget))
        message = said(lambda curve=curve: curve.at(0.5))
        whole = attack(linear(), x, labels, typed(message, r"with (advex.*)$"))
        assert 0 <= curve_of(whole).at(0.5) <= 1


@executes(
    "compare needs two evaluations, such as advex.Evaluation.load('before.advex')",
    "cannot be compared. Run both within the same: budget=advex.{}",
    "whether the data are the same cannot be told. Give both runs block={}",
    "rows in the same order: advex.evaluate(model, (x, labels), attacks, budget)",
)
def test_runs_that_cannot_be_compared(found, tmp_path, monkeypatch):
    compare = advex.evaluation.compare
    monkeypatch.chdir(tmp_path)
    before = evaluated(run="before.advex")
    message = said(lambda: compare(before, "after.advex"))
    loaded = typed(message, r"(advex\.Evaluation\.load\('before.advex'\))")
    assert compare(loaded, found).examples == 6
    other = evaluated(budget=advex.Linf(0.03))
    again = evaluated(**keywords(said(lambda: compare(found, other)), r"(budget=.*)$"))
    assert compare(found, again).change == 0
    x, labels = linear_data(6)
    message = said(lambda: compare(found, evaluated(data=(x[:4], labels[:4]))))
    names = {"model": linear(), "x": x, "labels": labels, "attacks": ATTACK, "budget": BUDGET}
    assert compare(found, typed(message, r"(advex\.evaluate\(.*)$", **names)).examples == 6
    stream = [(x[:3], labels[:3]), (x[3:], labels[3:])]
    whole, halves = (evaluated(data=iter(stream), block=block) for block in (6, 3))
    message = said(lambda: compare(whole, halves))
    again = evaluated(data=iter(stream), **keywords(message, r"(block=\d+)$"))
    assert compare(whole, again).examples == 6


@executes("The doctor has not looked (diagnose=False).")
def test_the_doctor_has_not_looked(found):
    assert keywords(str(found), r"diagnose=False") == {"diagnose": False}


@executes(
    "Attack with advex.AveragedGradient",
    "or larger first steps, such as advex.PGD(step_size=",
    "Use advex.Restarts(attack, 10)",
    "Believe advex.SquareAttack(steps=5000), or attacks that need labels alone, rather than",
    "search with advex.AveragedGradient(attack)",
)
def test_what_the_doctor_advises():
    """Each piece of code in the advice makes an attack."""
    tried = 0
    for check in CHECKS.values():
        if CODE.search(check.advice):
            code = r"advex\.\w+\((?:[^()]|\([^()]*\))*\)"
            assert isinstance(typed(check.advice, code, attack=ATTACK), advex.Attack)
            tried += 1
    assert tried == 5


# Files


@executes("exists; pass overwrite=True to replace it, or another folder")
def test_pictures_that_exist(tmp_path):
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    x = (np.random.default_rng(0).random((2, 8, 8, 1)) * 255).astype("uint8")
    result = ATTACK(model, x, None, advex.Linf(0.1))
    assert result.save(tmp_path, rows="all")
    message = said(lambda: result.save(tmp_path, rows="all"))
    assert result.save(tmp_path, rows="all", **keywords(message, r"overwrite=True"))


@executes("advex.PGD with more steps, or advex.Verdict()", "advex.SigmaZero() or advex.FMN()")
def test_what_to_run_where_the_doctor_broke_more():
    found = types.SimpleNamespace(facts={"norm": "Linf"}, robust_at_most=0.25, robust_accuracy=0.5)
    assert text.stronger(found).startswith("Quote 25.0%, not 50.0%; or,")
    assert isinstance(typed(text.stronger(found), r"or (advex\.\w+\(\))"), advex.Attack)
    found.facts["norm"] = "L0"
    for code in (r"(advex\.\w+\(\)) or", r"or (advex\.\w+\(\))"):
        assert isinstance(typed(text.stronger(found), code), advex.Attack)


@executes("{} exists; pass overwrite=True to replace it")
def test_files_that_exist(found, tmp_path):
    found.to_csv(tmp_path / "rows.csv")
    message = said(lambda: found.to_csv(tmp_path / "rows.csv"), Exception)
    assert found.to_csv(tmp_path / "rows.csv", **keywords(message, r"overwrite=True"))
