"""The benchmarks run, on small models and for a moment; what they measure is for ``make bench``."""

import importlib
import json
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

PLACE = Path(__file__).resolve().parent.parent / "benchmarks"

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="the benchmarks measure the TensorFlow backend"
)


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


def test_steps_of_training_beside_bare_ones(benchmark, monkeypatch):
    training = benchmark("training")
    kinds = training.kinds()
    assert [passes for _, passes in kinds.values()] == [7, 1, 1, 7, 7, 7]
    monkeypatch.setattr(training, "kinds", lambda: {"N-FGSM": kinds["N-FGSM"]})

    def small():
        return keras.Sequential([keras.Input((4, 4, 1)), layers.Flatten(), layers.Dense(10)])

    (line,) = training.measured(rounds=1, steps=2, batch=4, make=small)
    assert len(line) == len(training.HEAD)
    assert line[0] == "N-FGSM"
    assert float(line[3]) > 0 and line[5] == "2.2"
    assert training.network().count_params() == 289_434


def test_rows_that_leave_and_rows_that_stay_give_the_same_verdicts(benchmark, capsys, tmp_path):
    leaving_rows = benchmark("leaving_rows")
    missing = str(tmp_path / "none.npz")
    assert (
        leaving_rows.main(["--data", missing, "--count", "8", "--steps", "4", "--epsilon", "8"])
        == 0
    )
    said = capsys.readouterr().out
    assert "verdicts identical" in said
    assert "of 8" in said


def test_the_drivers_put_the_ordinary_one_back(benchmark):
    import advex
    from advex.driver.batch import Batch
    from advex.driver.programs import Program

    leaving_rows = benchmark("leaving_rows")
    ordinary = Program.step, Batch.ended
    x, labels = advex.testing.linear_data()
    plain = leaving_rows.Driver(plain=True)
    attack, model = advex.PGD(steps=3), advex.testing.linear_model()
    result, evaluated, _ = leaving_rows.attacked(
        plain, attack, model, x, labels, advex.Linf(0.3), None
    )
    assert (Program.step, Batch.ended) == ordinary
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
    assert common.table(["a", "b"], [["long", "1"]]).splitlines() == [
        "a     b",
        "----  -",
        "long  1",
    ]
    assert "cores" in common.machine()
    assert "keras" in common.versions()


def test_an_unknown_peer_is_an_error(benchmark, capsys):
    with pytest.raises(SystemExit):
        benchmark("peers").main(["foolbx"])
    assert "choose among" in capsys.readouterr().err


def test_the_torch_peer_gets_neither_tensorflow_nor_advex(benchmark):
    peers = benchmark("peers")
    said = str(peers.commands("autoattack"))
    assert "'torch==2.13.0', 'pyautoattack'" in said
    assert "tensorflow" not in said and "--editable" not in said
    assert "tensorflow==" in str(peers.commands("foolbox")) and "--editable" in str(
        peers.commands("foolbox")
    )
    assert set(peers.PEERS) == set(peers.MODULES) | set(peers.TORCH_MODULES)


def uneven():
    """A net in which a transposed kernel, channels in the wrong order or even padding would
    show."""
    conv = layers.Conv2D(4, 3, strides=2, padding="same", use_bias=False)
    parts = [
        conv,
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.Conv2D(5, (2, 3), activation="relu"),
        layers.Dropout(0.5),
    ]
    parts += [
        layers.Conv2D(6, 2, padding="same"),
        layers.BatchNormalization(scale=False),
        layers.Activation("tanh"),
    ]
    return [*parts, layers.Flatten(), layers.Dense(7, activation="relu"), layers.Dense(4)]


@pytest.fixture(params=["functional", "sequential"])
def saved(request, tmp_path):
    keras.utils.set_random_seed(3)
    start = keras.Input((10, 7, 2))
    if request.param == "sequential":
        model = keras.Sequential([start, *uneven()])
    else:
        out = start
        for part in uneven():
            out = part(out)
        model = keras.Model(start, out)
    random = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(
            random.uniform(0.1, 0.9, weight.shape)
            if "variance" in weight.path
            else random.normal(0, 0.5, weight.shape)
        )
    model.save(tmp_path / "net.keras")
    x = random.random((6, 10, 7, 2), dtype="float32")
    return tmp_path / "net.keras", x, np.asarray(model(x, training=False))


def test_the_network_rebuilt_in_torch_is_the_same(benchmark, saved):
    torch = pytest.importorskip("torch")
    reference = benchmark("reference")
    path, x, logits = saved
    net, channels_first = reference.Net(path), torch.tensor(np.moveaxis(x, -1, 1).copy())
    assert reference.checked(net, channels_first, logits) < 1e-5
    with pytest.raises(ValueError, match="another"):
        reference.checked(net, channels_first, logits + 1e-3)


def test_passes_are_counted_by_examples_and_parts(benchmark, saved):
    torch = pytest.importorskip("torch")
    net = benchmark("reference").Net(saved[0])
    x = torch.tensor(np.moveaxis(saved[1], -1, 1).copy())

    def part(x, labels):
        net(x[:2])
        x = x.clone().requires_grad_()
        logits = net(x)
        logits.sum().backward(retain_graph=True)
        return torch.autograd.grad(logits[:, 0].sum(), x)[0]

    assert net.metered("part", part)(x, None).abs().sum() > 0
    net(x[:1])
    count = {key: value for key, value in net.passes.items() if key[1] != "seconds"}
    assert count == {
        ("part", "examples"): 6,
        ("part", "forward"): 8,
        ("part", "backward"): 12,
        ("checks", "forward"): 1,
    }
    assert not any(weight.requires_grad for weight in net.parameters())


def test_what_is_no_chain_is_not_rebuilt(benchmark, tmp_path):
    pytest.importorskip("torch")
    start = keras.Input((6,))
    keras.Model(start, layers.Dense(3)(layers.Add()([layers.Dense(6)(start), start]))).save(
        tmp_path / "skip.keras"
    )
    with pytest.raises(ValueError, match="Add cannot be rebuilt"):
        benchmark("reference").Net(tmp_path / "skip.keras")
    layer = layers.Dense(6)
    keras.Model(start, layer(layer(start))).save(tmp_path / "twice.keras")
    with pytest.raises(ValueError, match="only a chain"):
        benchmark("reference").Net(tmp_path / "twice.keras")


def test_the_reference_says_what_held_and_what_it_cost(benchmark, saved, monkeypatch):
    torch = pytest.importorskip("torch")
    reference = benchmark("reference")
    net, x = reference.Net(saved[0]), torch.tensor(np.moveaxis(saved[1], -1, 1).copy())
    monkeypatch.setitem(
        reference.LIBRARIES,
        "torch",
        lambda net, *_: net.metered("Square", lambda x, _: (net(x), x + 0.25)[1]),
    )
    labels = net.bare(x).argmax(1)
    said = reference.evaluated(net, "torch", x, labels, "L2", 0.5, seed=0, batch=6)
    assert said["clean_accuracy"] == 1.0
    assert said["robust"] == [int(held) for held in net.bare(x + 0.25).argmax(1) == labels]
    assert said["largest"] == pytest.approx(0.25 * 140**0.5, rel=1e-6)
    assert (said["forward_per_example"], said["backward_per_example"]) == (1, 0)
    assert said["parts"]["Square"]["examples"] == 6
    json.dumps(said)


def recorded(folder, robust, **more):
    said = {
        "norm": "Linf",
        "eps": 0.05,
        "count": len(robust),
        "seed": 0,
        "forward_per_example": 30,
        "backward_per_example": 20,
    }
    path = folder / "recorded.json"
    path.write_text(json.dumps({**said, "robust": robust, **more}))
    return str(path)


def autoattacked(autoattack, tmp_path, path, *more):
    import advex

    model = str(Path(advex.__file__).parent / "data" / "fashion_mnist.keras")
    common = [
        "--model",
        model,
        "--data",
        str(tmp_path / "none.npz"),
        "--epsilon",
        "0.05",
        "--attacks",
        "PGD",
        "--chunk",
        "5",
    ]
    return autoattack.main([*common, "--count", "8", "--recorded", path, *more])


def test_verdicts_are_compared_with_recorded_ones(benchmark, capsys, tmp_path, monkeypatch):
    autoattack = benchmark("autoattack")
    monkeypatch.setitem(autoattack.BARS, "PGD", 1)
    assert (
        autoattacked(
            autoattack, tmp_path, recorded(tmp_path, [0, 0, 1, 0, 0, 0, 0, 0]), "--warm", "2"
        )
        == 0
    )
    said = capsys.readouterr().out
    assert "PGD, seed 0: missed none, at most 1 may be: kept; more [2]" in said
    assert "compilation about" in said
    row = next(line.split() for line in said.splitlines() if line.startswith("recorded"))
    assert row == ["recorded", "12.5%", *"------", "30.0", "20.0", "50.0", "-"]


def test_a_broken_bar_is_an_exit_code(benchmark, capsys, tmp_path, monkeypatch):
    autoattack = benchmark("autoattack")
    none = "--epsilon", "0"
    monkeypatch.setitem(autoattack.BARS, "PGD", 1)
    path = recorded(tmp_path, [0] * 10, eps=0.0)
    assert autoattacked(autoattack, tmp_path, path, *none, "--cold", "--seeds", "0", "1") == 1
    said = capsys.readouterr().out
    assert (
        "PGD, seed 1: missed [0, 1, 2, 3, 4, 5, 6, 7], at most 1 may be: NOT KEPT; more none"
        in said
    )
    assert "all seeds" in said
    monkeypatch.setitem(autoattack.BARS, "PGD", 8)
    assert autoattacked(autoattack, tmp_path, path, *none, "--cold") == 0


def test_a_record_of_another_budget_or_none_is_refused(benchmark, tmp_path):
    autoattack = benchmark("autoattack")
    with pytest.raises(SystemExit, match="not of Linf"):
        autoattacked(autoattack, tmp_path, recorded(tmp_path, [1], norm="L2"))
    with pytest.raises(SystemExit, match="not found"):
        autoattack.recording(Path("fmnist_robust.keras"), "Linf", 0.123)


def test_the_records_in_the_repository_can_be_read(benchmark):
    said = benchmark("autoattack").recording(Path("fmnist_robust.keras"), "L2", 1.5)
    assert said["count"] == len(said["robust"]) == 100
    assert said["robust_accuracy"] == pytest.approx(np.mean(said["robust"]))


def test_the_reference_is_asked_chunk_by_chunk(benchmark, monkeypatch, tmp_path):
    autoattack = benchmark("autoattack")
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "reference.py").write_text(
        """import json, sys, numpy
path = next(part.removeprefix("--inputs=") for part in sys.argv if part.startswith("--inputs="))
labels = numpy.load(path)["labels"]
print(json.dumps({"options": sys.argv}), flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    robust = labels[asked["start"]:asked["stop"]].tolist()
    said = {"robust": robust, "count": len(robust), "seconds": 2.0, "cpu_seconds": 3.0}
    parts = {"Square": {"examples": len(robust), "seconds": 1.0}}
    print(json.dumps({**said, "forward_per_example": 5.0, "backward_per_example": 4.0, "parts": parts}), flush=True)
"""  # noqa: E501
    )
    monkeypatch.setattr(autoattack, "ROOT", tmp_path)
    monkeypatch.setattr(autoattack, "python", lambda _: sys.executable)
    settings = autoattack.Settings("pyautoattack", "Linf", 0.1, 2)
    with autoattack.Reference(
        settings, Path("net.keras"), np.zeros((3, 1)), np.array([0, 1, 1]), np.zeros((3, 2))
    ) as peer:
        assert "--epsilon=0.1" in peer.hello["options"] and "--serve" in peer.hello["options"]
        whole = autoattack.joined([peer(0, 2, 0), peer(2, 3, 0)])
        peer.process.kill()
        with pytest.raises((SystemExit, BrokenPipeError)):
            peer(0, 1, 0)
    assert whole.robust.tolist() == [False, True, True]
    assert whole[1:] == (4.0, 6.0, 15.0, 12.0)
    assert peer.parts == {"Square": {"examples": 3.0, "seconds": 2.0}}


def test_attacks_by_labels_and_the_count_of_a_peer(benchmark, capsys, tmp_path):
    labels_alone = benchmark("labels_alone")
    model = keras.Sequential([keras.Input((4, 4, 1)), layers.Flatten(), layers.Dense(10)])
    x = np.random.default_rng(0).integers(0, 256, (40, 4, 4)).astype("uint8")
    said = np.asarray(model((x / 255).astype("float32")[..., None])).argmax(1)
    model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "data.npz", x_test=x, y_test=said)
    files = ["--model", str(tmp_path / "model.keras"), "--data", str(tmp_path / "data.npz")]
    assert labels_alone.main([*files, "--count", "3", "--steps", "30", "--norms", "L0"]) == 0
    assert "advex Pointwise, 8 bits" in capsys.readouterr().out
    oracle = labels_alone.Oracle(lambda points: points.sum(1) > 1, np.zeros(4), 0, "L2", 3)
    assert oracle(np.eye(4)[:1] * 0.5).tolist() == [False]
    assert oracle(np.ones((5, 4))) is None  # two of them were still asked
    assert oracle.queries == 3
    assert oracle.best.tolist() == [2.0] * len(labels_alone.MARKS)
