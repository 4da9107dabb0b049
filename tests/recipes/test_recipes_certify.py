"""Recipes in messages about certificates."""

import numpy as np
from messages import cut, executes, keywords, said, typed

import advex
from advex.testing import linear_data, linear_model

FEW = {"samples": 20, "selection": 10}


def certified(*given, **settings):
    return advex.certify(linear_model(), *given, **FEW, **settings)


@executes(
    "x is an array, and its labels are missing",
    "whose batches bring labels of their own: advex.certify(model, x)",
)
def test_labels_that_are_missing_or_too_many():
    x, labels = linear_data(3)
    names = {"model": linear_model(), "x": x, "labels": labels}
    message = said(lambda: certified(x))
    code = cut(message, r"advex\.certify\(.*?\)").replace(")", ", samples=20)")
    assert len(eval(code, names | {"advex": advex})) == 3
    data = iter([(x, labels)])
    message = said(lambda: certified(data, labels))
    assert len(typed(message, r"advex\.certify\(.*\)", **names | {"x": data})) == 3


@executes("a box alone is advex.Classifier(model, box=(0, 1))")
def test_a_box_alone():
    x, labels = linear_data(3)
    domain = advex.Domain(0, 1, fixed=np.arange(12) < 3)
    given = advex.Classifier(linear_model(), box=domain)
    message = said(lambda: advex.certify(given, x, labels))
    made = typed(message, r"advex\.Classifier\(.*\)", model=linear_model())
    assert len(advex.certify(made, x, labels, **FEW)) == 3


@executes(
    "nothing was kept: with run='certified' the same call", "the same call with run={} goes on"
)
def test_a_certification_that_was_stopped(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def stopped(**run):
        def told(*_):
            raise KeyboardInterrupt

        return said(lambda: certified(*linear_data(20), **run, progress=told), KeyboardInterrupt)

    run = keywords(stopped(), r"run='certified'")
    again = keywords(stopped(**run), r"run='.*?'")
    assert again == run and len(certified(*linear_data(20), **again)) == 20


@executes(
    "advex.certify(model, x, labels, sigma=0.25)",
    "bounds through the layers are not there yet; advex.certify(model, x, labels)",
)
def test_names_of_certificates_elsewhere():
    x, labels = linear_data(2)
    names = {"model": linear_model(), "x": x, "labels": labels, "advex": advex}
    for name in ("RandomizedSmoothing", "IBP"):
        message = said(lambda name=name: getattr(advex, name), AttributeError)
        code = cut(message, r"advex\.certify\(.*?\)").replace(")", ", samples=20)")
        assert len(eval(code, names)) == 2
    assert "advex.certify" in said(lambda: advex.certifi, AttributeError)
