"""The benchmarks run, on small models and for a moment; what they measure is for ``make bench``."""

import importlib
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

PLACE = Path(__file__).resolve().parent.parent / "benchmarks"

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the benchmarks measure the TensorFlow backend")


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(PLACE))
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(PLACE)):
            del sys.modules[name]


def test_step_cost_measures_steps_and_bare_gradients(benchmark):
    step_cost = benchmark("step_cost")
    model = keras.Sequential([keras.Input((6, 6, 3)), layers.Flatten(), layers.Dense(10)])
    lines = step_cost.measured("advex", "tiny", rounds=1, steps=2, batch=4, model=model)
    assert [line[0] for line in lines] == ["tiny, advex, step by step", "tiny, advex, whole calls"]
    assert all(len(line) == len(step_cost.HEAD) for line in lines)
    assert all(float(line[1]) > 0 and float(line[2]) > 0 for line in lines[:1])


def test_step_cost_refuses_to_measure_steps_that_were_not_taken(benchmark, monkeypatch):
    step_cost = benchmark("step_cost")
    model = keras.Sequential([keras.Input((6, 6, 3)), layers.Flatten(), layers.Dense(10)])
    monkeypatch.setattr(step_cost, "EPSILON", 0.4)
    with pytest.raises(AssertionError, match="not all taken"):
        step_cost.advex_calls(step_cost.task("tiny", 4, model))(20)


def test_rows_that_leave_and_rows_that_stay_give_the_same_verdicts(benchmark, capsys, tmp_path):
    leaving_rows = benchmark("leaving_rows")
    missing = str(tmp_path / "none.npz")
    assert leaving_rows.main(["--data", missing, "--count", "8", "--steps", "4", "--epsilon", "8"]) == 0
    said = capsys.readouterr().out
    assert "verdicts identical" in said
    assert "of 8" in said


def test_the_drivers_put_the_ordinary_one_back(benchmark):
    import advex
    from advex import search

    leaving_rows = benchmark("leaving_rows")
    ordinary = search.Search
    x, labels = advex.testing.linear_data()
    _, plain = leaving_rows.drivers()
    attack, model = advex.PGD(steps=3), advex.testing.linear_model()
    result, evaluated, _ = leaving_rows.attacked(plain, attack, model, x, labels, advex.Linf(0.3), None)
    assert search.Search is ordinary
    attacked = len(x) - int((result.distance == 0).sum())
    assert evaluated == 3 * attacked


def test_agreement_compares_points_where_both_succeed(benchmark):
    agreement = benchmark("agreement")
    one = agreement.Found(np.array([True, True, False]), np.array([1, 2, 0]), np.zeros((3, 2)))
    other = agreement.Found(np.array([True, True, True]), np.array([1, 3, 1]), np.full((3, 2), 0.5))
    row, differ = agreement.line("a", one, other, points=True, steps=True)
    assert differ == 2
    assert row == ["a", "3", "2", "3", "2", "5.0e-01", "5.0e-01", "1.0e+00"]
    assert len(row) == len(agreement.HEAD)


def test_a_table_is_aligned(benchmark):
    common = benchmark("common")
    assert common.table(["a", "b"], [["long", "1"]]).splitlines() == ["a     b", "----  -", "long  1"]
    assert "cores" in common.machine()
    assert "keras" in common.versions()


def test_an_unknown_peer_is_an_error(benchmark, capsys):
    with pytest.raises(SystemExit):
        benchmark("peers").main(["foolbx"])
    assert "choose among" in capsys.readouterr().err
