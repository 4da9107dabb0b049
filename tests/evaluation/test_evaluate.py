"""evaluate: any kind of data, nothing lost, nothing attacked twice, a foreign file refused by
name."""

import contextlib
import json
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

import advex
from advex.attacks.call import attacked_by, checked_call
from advex.errors import Interrupted, InvalidInput, InvalidType, ModelWarning
from advex.evaluation import Evaluation, progress, runner
from advex.evaluation.store import Store
from advex.evaluation.values import packed, unpacked

BUDGET = advex.Linf(0.1)
ATTACKS = {"steps": advex.PGD(steps=5), "one": advex.FGSM()}


@dataclass(frozen=True, kw_only=True)
class Still(advex.Attack):
    """Breaks nothing."""

    steps: int = 1

    def init(self, problem):
        return problem.x0, ()

    def step(self, problem, x, memory):
        return x, memory


def network(seed=0, classes=3, shape=(6, 5, 1)):
    keras.utils.set_random_seed(seed)
    layers = [
        keras.Input(shape),
        keras.layers.Flatten(),
        keras.layers.Dense(16, "tanh"),
        keras.layers.Dense(classes),
    ]
    return keras.Sequential(layers, name="small")


def examples(model, count=40, seed=1, wrong=0.1):
    """Inputs as floats on 8-bit levels, and labels of which some are wrong."""
    random = np.random.default_rng(seed)
    x = (random.integers(0, 256, (count, *model.input_shape[1:])) / 255).astype("float32")
    labels = (
        np.asarray(model(x)).argmax(1)
        if keras.backend.backend() != "torch"
        else model(x).detach().numpy().argmax(1)
    )
    other = random.random(count) < wrong
    return x, np.where(other, (labels + 1) % 3, labels).astype("int64")


@pytest.fixture(scope="module")
def case():
    model = network()
    return model, *examples(model)


def evaluated(case, run=None, **settings):
    model, x, labels = case
    settings = {
        "attacks": ATTACKS,
        "budget": BUDGET,
        "block": 16,
        "batch_size": 8,
        "diagnose": False,
    } | settings
    data = settings.pop("data", (x, labels))
    return advex.evaluate(settings.pop("model", model), data, run=run, **settings)


def figures(found):
    """All that must be equal however often a run was killed: everything but the clock."""
    kept = found.to_dict()
    for entry in (kept, *kept["attacks"]):
        entry.pop("seconds")
    kept.pop("began")
    rows = [
        {name: value for name, value in row.items() if "seconds" not in name}
        for row in found.rows()
    ]
    return json.dumps([kept, rows], sort_keys=True)


# What it finds.


@pytest.mark.backends
def test_the_figures_are_those_of_the_attacks(case):
    model, x, labels = case
    # shapes cost there
    found = evaluated(
        case, **({"block": 64, "batch_size": 64} if keras.backend.backend() == "jax" else {})
    )
    right = np.asarray(
        [result.before == labels for result in [ATTACKS["one"](model, x, labels, BUDGET)]]
    )[0]
    assert 0 < right.sum() < len(x)
    worst = np.zeros(len(x), bool)
    for number, (name, attack) in enumerate(ATTACKS.items()):
        result = attack(model, x, labels, BUDGET)
        assert found.attacks[number].name == name
        assert (found.matrix[number] == (result.success & right)).all()
        assert found.attacks[number].gradients == result.gradients[right].sum()
        worst |= result.success
    assert found.clean_accuracy == pytest.approx(right.mean())
    assert found.robust_accuracy == pytest.approx((~worst).mean())
    assert 0 < worst.mean() < 1
    assert (found.broken == (worst & right)).all()
    assert found.curve.at(0) == found.clean_accuracy
    assert found.curve.at(0.1) == found.robust_accuracy
    assert sum(entry.examples for entry in found.per_class) == found.examples == len(x)
    assert found.interval[0] < found.robust_accuracy < found.interval[1]
    assert "not broken by steps, one within Linf(0.1)" in repr(found)
    assert found.wrong == (~right).sum()
    said = f"robust accuracy {found.robust_accuracy:.1%}: {(~worst).sum()} of {len(x)} examples not"
    assert said in found.headline()
    assert found.headline().endswith(f"{right.mean():.1%} ({found.wrong} wrong before)")


def test_no_wrong_example_no_word_about_it(case):
    model, x, _ = case
    right = np.asarray(ops.convert_to_numpy(model(x, training=False))).argmax(1)
    found = evaluated((model, x, right), attacks=advex.FGSM())
    assert found.headline().endswith("; clean accuracy 100.0%")


@pytest.mark.parametrize("wrong", [0, 3])
def test_a_bar_says_how_many_were_wrong_before(wrong, capsys):
    report = progress.Report(True, 20)
    report(10, 6, wrong, worked=True)
    report(10, 2, 0, worked=True)
    said = report.bar.tasks[0].fields["held"]
    report.close()
    assert said == "40.0% not broken so far" + (", 3 wrong before" if wrong else "")


def test_one_attack_is_enough_to_break(case):
    alone, both = (
        evaluated(case, attacks=advex.FGSM()),
        evaluated(case, attacks=[Still(), advex.FGSM()]),
    )
    assert alone.broken.any()
    assert (both.broken == alone.broken).all()
    assert both.robust_accuracy == alone.robust_accuracy
    assert [entry.alone for entry in both.attacks] == [0, alone.broken.sum()]


def kinds(x, labels):
    import tensorflow as tf
    import torch

    class Pieces(keras.utils.PyDataset):
        def __len__(self):
            return 6

        def __getitem__(self, number):
            rows = slice(7 * number, 7 * number + 7)
            return x[rows], labels[rows]

    pairs = torch.utils.data.TensorDataset(torch.tensor(x), torch.tensor(labels))
    return {
        "list": ([(x[:5], labels[:5]), (x[5:], labels[5:])]),
        "generator": (
            (x[start : start + 9], labels[start : start + 9]) for start in range(0, len(x), 9)
        ),
        "tf.data": tf.data.Dataset.from_tensor_slices((x, labels)).batch(13),
        "PyDataset": Pieces(),
        "DataLoader": torch.utils.data.DataLoader(pairs, batch_size=11),
        "weights": [(x, labels, np.ones(len(x)))],
        "one-hot": (x, keras.utils.to_categorical(labels, 3)),
        "columns": (x, labels[:, None].astype("float32")),
    }


def test_any_kind_of_data(case):
    _, x, labels = case
    expected = evaluated(case)
    for name, data in kinds(x, labels).items():
        found = evaluated(case, data=data)
        assert (found.matrix == expected.matrix).all(), name
        assert found.robust_accuracy == expected.robust_accuracy, name
        assert (found.label == labels).all(), name


def test_eight_bit_inputs_are_kept_as_pictures(case, tmp_path):
    model, x, labels = case
    pixels = np.rint(x * 255).astype("uint8")
    found = evaluated(case, tmp_path / "run.advex", data=(pixels, labels), keep="success")
    for row in np.flatnonzero(found.matrix[0]):
        kept = found.adversarial(row, "steps")
        assert kept.dtype == "uint8" and kept.shape == x.shape[1:]
        assert np.abs(kept.astype(int) - pixels[row]).max() <= 25
        answer = ops.convert_to_numpy(model(kept[None].astype("float32") / 255)).argmax()
        assert answer != labels[row]
    assert found.adversarial(int(np.flatnonzero(~found.matrix[0])[0])) is None
    database = sqlite3.connect(tmp_path / "run.advex")
    assert (
        database.execute("SELECT adversarial FROM verdicts WHERE adversarial IS NOT NULL")
        .fetchone()[0]
        .startswith(b"\x89PNG")
    )
    assert [len(found.pairs(place)) for place in ("nearest", "farthest")] == [4, 4]
    near = found.pairs("nearest")
    assert [pair.distance for pair in near] == sorted(pair.distance for pair in near)
    assert near[0].distance == found.distance[found.broken].min()
    assert near[0].before.dtype == "uint8" and (near[0].before == pixels[near[0].example]).all()


@pytest.mark.parametrize(
    "values", [np.arange(12, dtype="uint8").reshape(3, 4, 1), np.linspace(0, 1, 7, dtype="float32")]
)
def test_inputs_come_back_as_they_were(values):
    back = unpacked(packed(values), values.shape)
    assert back.dtype == values.dtype and (back == values).all()


def test_inputs_that_the_model_answers_with_nan_are_counted_apart(case):
    model, x, labels = case

    class Hole(keras.layers.Layer):
        def call(self, x):
            return ops.where(ops.sum(x, axis=(1, 2, 3), keepdims=True) == 0, np.nan, x)

    holed = keras.Sequential([keras.Input((6, 5, 1)), Hole(), model])
    x = x.copy()
    x[[3, 20]] = 0
    found = evaluated(case, model=holed, data=(x, labels))
    assert found.invalid == 2 and found.examples == len(x) - 2
    assert list(found.rows())[3]["verdict"] == "invalid"
    json.loads(found.to_json())


def test_a_success_within_rounding_errors_is_in_neither_count(case, monkeypatch):
    real = runner.attacked

    def doubtful(*args):
        found = real(*args)
        found.status[found.status == "held"] = "fragile"
        return found

    monkeypatch.setattr(runner, "attacked", doubtful)
    found = evaluated(case)
    assert found.robust_accuracy == 0 and found.undecided > 0
    assert found.clean_accuracy == evaluated(case).clean_accuracy == found.curve.at(0)
    assert found.curve.at(0.1) == 0


def test_no_examples():
    found = advex.evaluate(network(), [], advex.FGSM(), BUDGET)
    assert (
        found.examples == 0 and found.robust_accuracy is None and found.attacks[0].accuracy is None
    )
    assert "no examples" in repr(found)
    json.loads(found.to_json())


def test_a_budget_without_a_limit(case):
    found = evaluated(case, attacks=advex.DDN(steps=20), budget=advex.L2())
    assert found.robust_accuracy == 0
    assert found.curve.at(0) == found.clean_accuracy
    assert 0 < found.curve.median < np.inf
    assert evaluated(
        case, attacks=None, budget=advex.L2(), data=(case[1][:4], case[2][:4])
    ).names == ["MinimumNorm"]


def test_a_black_box_is_asked_as_often_as_is_said(case):
    model, x, _ = case
    asked = []

    def predict(batch):
        asked.append(len(batch))
        return ops.convert_to_numpy(model(batch))

    found = evaluated(
        case, model=advex.BlackBox(predict, classes=3), attacks=advex.SquareAttack(steps=30)
    )
    passes = found.passes
    assert sum(asked) == passes["queries"] + passes["clean"] + passes["checks"]
    assert passes["gradients"] == 0 and passes["clean"] == len(x)


@pytest.mark.parametrize("rows", [1, 2, 5, 16])
def test_batches_that_are_filled_up_find_the_same(case, rows):
    """Long evaluations keep the number of batch sizes small; what fills a batch up changes nothing
    and is not counted.
    """
    model, x, labels = case
    for attack in (
        advex.PGD(steps=6),
        advex.Ensemble(advex.FGSM(), advex.APGD(steps=10)),
        advex.DDN(steps=8),
    ):
        budget = advex.L2() if isinstance(attack, advex.DDN) else BUDGET
        usual = attack(model, x, labels, budget, batch_size=16)
        call = checked_call(attack, model, x, labels, budget, 0)
        filled = attacked_by(attack, call._replace(batch_size=16, multiple=rows))
        for name in ("success", "gradients", "queries", "prediction", "broken_by"):
            assert (getattr(usual, name) == getattr(filled, name)).all(), name
        assert np.allclose(usual.x, filled.x, atol=1e-5)


def test_names_of_attacks(case):
    found = evaluated(case, attacks=[advex.FGSM(), advex.FGSM(), advex.PGD(steps=2)])
    assert found.names == ["FGSM", "FGSM 2", "PGD"]


def test_tables_for_others(case, tmp_path):
    found = evaluated(case)
    frame = found.to_pandas()
    assert (
        len(frame) == len(case[1])
        and (frame["steps.status"] == "broken").sum() == found.attacks[0].broken
    )
    lines = found.to_csv(tmp_path / "rows.csv").read_text().splitlines()
    assert len(lines) == len(case[1]) + 1 and lines[0].startswith("example,label,prediction")
    with pytest.raises(InvalidInput, match="overwrite"):
        found.to_csv(tmp_path / "rows.csv")
    assert json.loads(found.to_json(tmp_path / "all.json"))["examples"] == len(case[1])


def test_nothing_of_the_data_is_touched(case):
    model, x, labels = case
    before = [x.copy(), labels.copy(), [value.copy() for value in model.get_weights()]]
    evaluated(case)
    assert (x == before[0]).all() and (labels == before[1]).all()
    assert all((now == was).all() for now, was in zip(model.get_weights(), before[2], strict=True))


# Nothing lost.


def test_a_finished_run_is_read_not_made_again(case, tmp_path, monkeypatch):
    first = evaluated(case, tmp_path / "run.advex")
    monkeypatch.setattr(runner, "attacked", None)
    assert (
        figures(evaluated(case, tmp_path / "run.advex"))
        == figures(first)
        == figures(Evaluation.load(tmp_path / "run.advex"))
    )
    assert [path.name for path in tmp_path.iterdir()] == ["run.advex"]


def counted(monkeypatch):
    """How often each example was given to each attack."""
    counts = {}
    real = runner.attacked

    def count(plan, name, x, before, *rest):
        for row in x[before.status == "correct"]:
            counts[name, row.tobytes()] = counts.get((name, row.tobytes()), 0) + 1
        return real(plan, name, x, before, *rest)

    monkeypatch.setattr(runner, "attacked", count)
    return counts


def test_killed_at_every_transaction(case, tmp_path, monkeypatch):
    """What is on the disk before and after each commit is what a kill there leaves: each goes on to
    the same end.
    """
    expected = figures(evaluated(case))
    moments = []
    real = Store.transaction

    def copied(store):
        number = len(moments)
        folder = tmp_path / f"moment{number}"
        folder.mkdir()
        for path in tmp_path.glob("run.advex*"):
            shutil.copy(path, folder / path.name)
        moments.append(folder / "run.advex")

    class Watched:
        def __init__(self, store):
            self.store, self.inner = store, real(store)

        def __enter__(self):
            copied(self.store)
            return self.inner.__enter__()

        def __exit__(self, *problem):
            copied(self.store)  # written, but not committed
            ended = self.inner.__exit__(*problem)
            copied(self.store)
            return ended

    monkeypatch.setattr(Store, "transaction", lambda store: Watched(store))
    evaluated(case, tmp_path / "run.advex")
    monkeypatch.setattr(Store, "transaction", real)
    # schema, settings, three blocks of a look and two attacks, the end
    assert len(moments) == 3 * (1 + 1 + 3 * 3 + 1)
    counts = counted(monkeypatch)
    least = len(examples(case[0])[0])
    for path in moments:
        with contextlib.closing(sqlite3.connect(path)) as database:
            tables = database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            kept = (
                database.execute("SELECT attack, example FROM verdicts").fetchall()
                if tables
                else []
            )
        counts.clear()
        found = evaluated(case, path)
        assert figures(found) == expected
        again = {
            ("steps", "one")[attack] + case[1][example].tobytes().hex() for attack, example in kept
        }
        assert not again & {name + row.hex() for name, row in counts}, (
            "attacked again although it was recorded"
        )
        assert all(count == 1 for count in counts.values())
        assert len(counts) + len(kept) == sum(entry.attacked for entry in found.attacks)
        least = min(least, len(kept))
    assert least == 0 and len(kept) > 60


CHILD = """
import sys, time, signal, os, threading, random
sys.path[:0] = {paths!r}
import test_evaluate as t
case = t.network(), *t.examples(t.network())
print("ready", flush=True)
if {delay} >= 0:
    threading.Thread(target=lambda: (time.sleep({delay}), os.kill(os.getpid(), signal.SIGKILL)), daemon=True).start()
t.evaluated(case, {run!r})
print("done", flush=True)
"""  # noqa: E501


def test_killed_at_random_moments(case, tmp_path):
    """Real processes and a real SIGKILL; ADVEX_KILLS=20 for more of them."""
    expected = figures(evaluated(case))
    random = np.random.default_rng(0)
    killed = 0
    for number in range(int(os.environ.get("ADVEX_KILLS", "2"))):
        run = tmp_path / f"{number}.advex"
        delay = float(random.uniform(0.05, 2.5))
        code = CHILD.format(
            paths=[str(Path(__file__).parent), str(Path(__file__).parents[1])],
            delay=delay,
            run=str(run),
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        )
        assert "ready" in done.stdout, done.stderr
        killed += done.returncode == -signal.SIGKILL
        assert figures(evaluated(case, run)) == expected
    assert killed


def test_two_processes_do_not_write_one_file(case, tmp_path):
    store = Store(tmp_path / "run.advex", write=True)
    with pytest.raises(InvalidInput, match="in use by another process"):
        evaluated(case, tmp_path / "run.advex")
    store.close()
    evaluated(case, tmp_path / "run.advex")


def test_ctrl_c_stops_at_the_next_piece_and_says_how_to_go_on(case, tmp_path, capsys):
    def press(done, total, held):
        signal.raise_signal(signal.SIGINT)

    usual = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted, match=r"16 rows; the same call with run=.*goes on"):
        evaluated(case, tmp_path / "run.advex", progress=press)
    assert signal.getsignal(signal.SIGINT) is usual
    assert "Ctrl-C again stops at once" in capsys.readouterr().err
    partial = Evaluation.load(tmp_path / "run.advex")
    assert not partial.finished and partial.examples == 16 and "unfinished" in repr(partial)
    assert figures(evaluated(case, tmp_path / "run.advex")) == figures(evaluated(case))
    with pytest.raises(KeyboardInterrupt, match="nothing was kept"):
        evaluated(case, progress=press)


def test_an_exception_on_the_way_loses_nothing(case, tmp_path):
    def fail(done, total, held):
        if done == 32:
            raise RuntimeError("of the user")

    with pytest.raises(RuntimeError, match="of the user"):
        evaluated(case, tmp_path / "run.advex", progress=fail)
    assert Evaluation.load(tmp_path / "run.advex").examples == 32
    assert figures(evaluated(case, tmp_path / "run.advex")) == figures(evaluated(case))


def test_a_transaction_is_kept_as_a_whole_or_not_at_all(case, tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("between two tables")

    with monkeypatch.context() as patch:
        patch.setattr("advex.evaluation.records._write_pictures", fail)
        with pytest.raises(RuntimeError, match="between two tables"):
            evaluated(case, tmp_path / "run.advex")
    with contextlib.closing(sqlite3.connect(tmp_path / "run.advex")) as database:
        assert database.execute("SELECT count(*) FROM blocks").fetchone() == (1,)
        assert database.execute("SELECT count(*) FROM verdicts").fetchone() == (0,)
        assert database.execute("SELECT count(*) FROM work").fetchone() == (0,)
    assert figures(evaluated(case, tmp_path / "run.advex")) == figures(evaluated(case))


def test_a_full_disk(case, tmp_path):
    """As far as a process may write: one clear error, what was recorded stays, the run goes on when
    there is room.
    """
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    path = tmp_path / "run.advex"
    random = np.random.default_rng(0)
    x = random.random((400, 6, 5, 1)).astype("float32")
    labels = ops.convert_to_numpy(case[0](x)).argmax(1)
    settings = {"data": (x, labels), "keep": "success", "budget": advex.Linf(0.3)}
    expected = figures(evaluated(case, **settings))
    resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"is the disk full.*stays; make room"):
            evaluated(case, path, **settings)
        path.with_name(
            "run.advex-shm"
        ).mkdir()  # no room even for shared memory, which SQLite likes to have for reading
        partial = Evaluation.load(path)
        assert 0 < partial.examples < 400 and not partial.finished
        assert partial.examples % 16 == 0, "a block that is not finished is in no figure"
        assert {
            attack.attacked + round((1 - partial.clean_accuracy) * partial.examples)
            for attack in partial.attacks
        } == {partial.examples}
        assert partial.adversarial(int(np.flatnonzero(partial.matrix[0])[0])) is not None
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    path.with_name("run.advex-shm").rmdir()
    assert figures(evaluated(case, path, **settings)) == expected


def test_a_folder_that_cannot_be_written(case, tmp_path):
    with pytest.raises(InvalidInput, match="no folder"):
        evaluated(case, tmp_path / "missing" / "run.advex")
    with pytest.raises(InvalidInput, match="is a folder"):
        evaluated(case, tmp_path)


# Another run's file.


@dataclass(frozen=True, kw_only=True)
class Own(advex.Attack):
    steps: int = 1

    def init(self, problem):
        return problem.x0, ()

    def step(self, problem, x, memory):
        return problem.project(x + problem.epsilon), memory


def changes(case):
    model, x, labels = case
    moved = x.copy()
    moved[-1, 0, 0, 0] = 1 - moved[-1, 0, 0, 0]
    relabelled = np.where(np.arange(len(labels)) == 39, (labels + 1) % 3, labels)
    other = network()
    other.set_weights([value + 1e-3 for value in model.get_weights()])
    curved = keras.Sequential(
        [
            keras.Input((6, 5, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(16, "relu"),
            keras.layers.Dense(3),
        ]
    )
    curved.set_weights(model.get_weights())
    deeper = keras.Sequential([*model.layers, keras.layers.Activation("linear")])
    return {
        "weights": {"model": other},
        "model": {"model": deeper},
        "model ": {"model": curved},
        "box": {"model": advex.Classifier(model, box=(0, 2))},
        "preprocess": {"model": advex.Classifier(model, preprocess=lambda x: x * 1.0)},
        "classes": {"model": advex.Classifier(model, classes=["a", "b", "c"])},
        "data": {"data": (moved, labels)},
        "data ": {"data": (x, relabelled)},
        "data  ": {"data": (x[::-1], labels[::-1])},
        "data   ": {"data": (x[:-1], labels[:-1])},
        "data    ": {"data": [(x[::-1], labels[::-1])]},
        "data     ": {"data": [(x[:-1], labels[:-1])]},
        "data      ": {"data": [(np.concatenate([x, x]), np.concatenate([labels, labels]))]},
        "attacks": {"attacks": ATTACKS | {"steps": advex.PGD(steps=6)}},
        "attacks ": {"attacks": {"one": ATTACKS["one"]}},
        "attacks  ": {"attacks": ATTACKS | {"own": Own()}},
        "budget": {"budget": advex.Linf(0.11)},
        "seed": {"seed": 1},
        "block": {"block": 15},
        "batch_size": {"batch_size": 9},
        "keep": {"keep": "success"},
    }


def test_a_run_of_something_else_is_refused_by_name(case, tmp_path, monkeypatch):
    path = tmp_path / "run.advex"
    before = figures(evaluated(case, path))
    content = path.read_bytes()
    for name, settings in changes(case).items():
        with pytest.raises(InvalidInput, match=f"Changed: ([a-z, ]*, )?{name.strip()}\\b"):
            evaluated(case, path, **settings)
        assert figures(Evaluation.load(path)) == before, name
    for name, replaced in {"advex": "VERSION", "backend": "backend_version"}.items():
        with monkeypatch.context() as patch:
            patch.setattr(
                f"advex.evaluation.identity.{replaced}", "0.0.1" if name == "advex" else lambda: "0"
            )
            with pytest.raises(InvalidInput, match=f"Changed: {name} "):
                evaluated(case, path)
    with monkeypatch.context() as patch:
        patch.setattr(keras, "__version__", "4.0")
        with pytest.raises(InvalidInput, match="Changed: keras "):
            evaluated(case, path)
    assert path.read_bytes()[100:] == content[100:]
    evaluated(case, path)


def test_the_code_of_an_own_attack_belongs_to_the_run(case, tmp_path, monkeypatch):
    path = tmp_path / "run.advex"
    evaluated(case, path, attacks=Own())
    evaluated(case, path, attacks=Own())
    monkeypatch.setattr(
        Own, "step", lambda self, problem, x, memory: (problem.project(x - problem.epsilon), memory)
    )
    with pytest.raises(InvalidInput, match="Changed: attacks"):
        evaluated(case, path, attacks=Own())


def test_a_call_that_was_mended_before_anything_was_done_begins_anew(case, tmp_path):
    _, x, labels = case
    with pytest.raises(InvalidInput, match="classes"):
        evaluated(case, tmp_path / "run.advex", data=(x, labels + 5))
    assert figures(evaluated(case, tmp_path / "run.advex")) == figures(evaluated(case))


def test_a_random_model_goes_on_too(case, tmp_path):
    model, x, _ = case

    class Noise(keras.layers.Layer):
        def call(self, x):
            return x + keras.random.normal(ops.shape(x), stddev=0.3)

    noisy = keras.Sequential([keras.Input((6, 5, 1)), Noise(), model])

    def stop(done, total, held):
        raise RuntimeError("stopped")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ModelWarning)
        with pytest.raises(RuntimeError, match="stopped"):
            evaluated(case, tmp_path / "run.advex", model=noisy, progress=stop)
        assert evaluated(case, tmp_path / "run.advex", model=noisy).examples == len(x)


@pytest.mark.parametrize("content", [b"", b"nonsense " * 100])
def test_files_that_are_no_runs(content, case, tmp_path):
    path = tmp_path / "run.advex"
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match="no run"):
        Evaluation.load(path)
    if content:
        with pytest.raises(InvalidInput, match="no run file of advex"):
            evaluated(case, path)
        assert path.read_bytes() == content
    foreign = tmp_path / "foreign.db"
    with sqlite3.connect(foreign) as database:
        database.execute("CREATE TABLE mine (x)")
    database.close()
    for use in (Evaluation.load, lambda path: evaluated(case, path)):
        with pytest.raises(InvalidInput, match="no run file of advex"):
            use(foreign)


# Bad input.


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"budget": None}, InvalidInput, "needs a budget"),
        ({"budget": 0.1}, InvalidType, "budget must be"),
        ({"attacks": "PGD"}, InvalidType, "attacks must be"),
        ({"attacks": advex.PGD}, InvalidType, "attacks must be"),
        ({"attacks": [advex.PGD]}, InvalidType, r"advex\.PGD\(\) with its brackets"),
        ({"attacks": []}, InvalidType, "received 'none'"),
        ({"budget": advex.Linf()}, InvalidInput, "needs a limit"),
        ({"keep": "all"}, InvalidInput, "keep must be"),
        ({"engine": "spark"}, InvalidInput, "engine must be"),
        ({"seed": 1.5}, InvalidType, "seed must be"),
        ({"block": 0}, InvalidInput, "block"),
        ({"batch_size": 2.5}, InvalidInput, "batch_size"),
        ({"blocks": 3}, InvalidType, "did you mean 'block'"),
        ({"data": np.zeros((3, 6, 5, 1))}, InvalidType, "labels belong"),
        ({"data": {"x": 1}}, InvalidType, "data must be"),
        ({"data": (np.zeros((3, 6, 5, 1)), [0, 1])}, InvalidInput, "3 inputs and 2 labels"),
        ({"data": [np.zeros((3, 6, 5, 1))]}, InvalidType, "pair"),
        (
            {
                "data": [
                    (np.zeros((3, 6, 5, 1), "float32"), np.zeros(3)),
                    (np.zeros((3, 6, 5, 1), "uint8"), np.zeros(3)),
                ]
            },
            InvalidInput,
            "change from",
        ),
        ({"data": (np.zeros((3, 6, 5, 1), "float32"), [0, 1, 3])}, InvalidInput, "classes"),
        ({"data": (np.full((3, 6, 5, 1), 200.0), [0, 1, 2])}, InvalidInput, "box"),
        ({"data": (np.full((3, 6, 5, 1), np.nan), [0, 1, 2])}, InvalidInput, "NaN"),
    ],
)
def test_bad_input_is_answered(settings, error, words, case):
    with pytest.raises(error, match=words):
        evaluated(case, **settings)


def test_warnings_are_given_once_and_kept(case):
    x = case[1]
    flat = keras.Sequential(
        [
            keras.Input((6, 5, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(3, kernel_initializer="zeros", bias_initializer="ones"),
        ]
    )
    flat.layers[-1].set_weights([np.zeros((30, 3)), np.array([2.0, 1, 0])])
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = evaluated(case, model=flat, data=(x, np.zeros(len(x), int)))
    # once, though two attacks and three blocks say it
    assert [entry.category for entry in said] == [ModelWarning]
    assert len(found.warnings) == 2 and found.warnings[0].endswith("(and 2 more blocks)")
    assert "zero" in str(found)


# In training.


# After so few steps the network answers better in another range, and is told so.
@pytest.mark.filterwarnings("ignore:The model gets:advex.errors.ModelWarning")
@pytest.mark.backends
def test_the_callback_logs_what_an_evaluation_finds():
    model = network(seed=5)
    labels = np.arange(60) % 3
    x = np.random.default_rng(0).uniform(0.2, 0.8, (60, 6, 5, 1)).astype("float32")
    x[np.arange(60), labels] += 0.2  # a brighter line
    model.compile(
        keras.optimizers.Adam(0.02),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    watch = advex.callbacks.RobustAccuracy(
        (x, labels), advex.PGD(steps=3), advex.Linf(0.05), every=2
    )
    log = model.fit(
        x, labels, epochs=4, verbose=0, callbacks=[watch], validation_data=(x, labels)
    ).history
    values = log["val_robust_accuracy"]
    assert (
        len(values) == 4
        and values[0] != values[-1]
        and values[1] == values[2]
        and 0 < values[-1] < 1
    )
    assert all(
        under <= clean for under, clean in zip(values[1::2], log["val_accuracy"][1::2], strict=True)
    )
    found = advex.evaluate(model, (x, labels), advex.PGD(steps=3), advex.Linf(0.05), diagnose=False)
    assert values[-1] == pytest.approx(found.robust_accuracy)


def test_the_callback_answers_bad_input(case):
    with pytest.raises(InvalidType, match="attack must be"):
        advex.callbacks.RobustAccuracy(case[1:], "PGD", BUDGET)
    with pytest.raises(InvalidType, match="budget must be"):
        advex.callbacks.RobustAccuracy(case[1:], advex.PGD(), 0.1)
    with pytest.raises(InvalidInput, match="at least one"):
        advex.callbacks.RobustAccuracy([], advex.PGD(), BUDGET)
