"""evaluate with several inputs, a layer's output, a domain, and budgets for each example."""

import contextlib
import functools
import json
import shutil
import sqlite3
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

import advex
from advex.cli import main
from advex.errors import InvalidInput, InvalidType
from advex.evaluation import Evaluation, runner
from advex.evaluation.block_files import read_part, write_part
from advex.evaluation.cluster import _received, _sent
from advex.evaluation.pieces import Plan, attacked, clean
from advex.evaluation.source import Block, Source
from advex.evaluation.store import Store

pytestmark = pytest.mark.filterwarnings("ignore::advex.errors.ModelWarning")

ROWS = 20
ATTACKS = {"steps": advex.PGD(steps=3), "one": advex.FGSM()}
LOW, HIGH = np.asarray([18, 0, 0, 0, 0.0]), np.asarray([90, 1, 1, 5e4, 2])


@keras.saving.register_keras_serializable("advex tests")
class Subclassed(keras.Model):
    """A model that is called with a dict, and has a layer of its own to be attacked."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.embedding = keras.layers.Dense(6, "tanh", name="embedding")
        self.head = keras.layers.Dense(3)

    def call(self, inputs):
        image = ops.reshape(inputs["image"], (-1, 64))
        return self.head(self.embedding(ops.concatenate([image, inputs["meta"]], axis=1)))


def functional():
    inputs = {
        name: keras.Input(shape, name=name)
        for name, shape in (("image", (8, 8, 1)), ("meta", (3,)), ("audio", (6,)))
    }
    flat = [keras.layers.Flatten()(inputs["image"]), inputs["meta"], inputs["audio"]]
    hidden = keras.layers.Dense(8, "tanh", name="embedding")(keras.layers.Concatenate()(flat))
    return keras.Model(inputs, keras.layers.Dense(3)(hidden))


def total(x):
    """The last feature follows from others."""
    return ops.concatenate([x[:, :4], x[:, 1:2] + x[:, 3:4] / 5e4], axis=1)


def table(**changed):
    settings = {
        "fixed": [True, False, False, False, False],
        "integer": [True, False, False, False, False],
        "one_hot": [[1, 2]],
        "repair": total,
        "valid": lambda x: x[:, 3] >= 0,
    }
    return advex.Domain(LOW, HIGH, **settings | changed)


def scaled(x):
    return ops.convert_to_tensor(x) / ops.convert_to_tensor(HIGH.astype("float32"))


@functools.cache
def case(kind):
    """A model, inputs, labels of which the first is wrong, and a budget."""
    keras.utils.set_random_seed(0)
    random = np.random.default_rng(0)
    if kind == "table":
        x = np.stack([random.integers(18, 90, ROWS), random.integers(0, 2, ROWS)], 1)
        x = np.column_stack([x, 1 - x[:, 1], random.random(ROWS) * 5e4])
        x = np.column_stack([x, x[:, 1] + x[:, 3] / 5e4])
        model = keras.Sequential(
            [keras.Input((5,)), keras.layers.Dense(5, "tanh"), keras.layers.Dense(2)]
        )
        bias = -answer(model, scaled(x.astype("float32"))).mean(axis=0)
        model.layers[-1].bias.assign(bias)
        labels = answer(model, scaled(x.astype("float32"))).argmax(1)
        budget = advex.Linf(0.45)
    else:
        x = {
            "image": random.random((ROWS, 8, 8, 1)).astype("float32"),
            "meta": random.normal(size=(ROWS, 3)).astype("float32"),
        }
        model = Subclassed() if "subclassed" in kind else functional()
        if "subclassed" not in kind:
            x["audio"] = random.random((ROWS, 6)).astype("float32")
        labels = answer(model, x).argmax(1)
        budget = advex.Linf(0.08)
        if kind == "two":
            budget = {"image": advex.L2(0.4), "audio": advex.Linf(0.05)}
    labels[0] = (labels[0] + 1) % 2
    return model, x, labels, budget


def answer(model, x):
    tensors = keras.tree.map_structure(ops.convert_to_tensor, x)
    return np.array(ops.convert_to_numpy(model(tensors)))


@functools.cache
def usual(kind):
    """What is compiled for it is compiled once."""
    return classifier(kind)


def classifier(kind, **changed):
    model = case(kind)[0]
    settings = {
        "one": {"perturb": "image"},
        "two": {"perturb": ["image", "audio"]},
        "layer": {"perturb": "embedding", "box": (-1, 1)},
        "subclassed": {"perturb": "image"},
        "subclassed layer": {"perturb": "embedding", "box": (-1, 1)},
        "table": {"box": table(), "preprocess": scaled},
    }[kind]
    return advex.Classifier(model, **settings | changed)


KINDS = ("one", "two", "layer", "subclassed", "subclassed layer", "table")


def evaluated(kind, run=None, **settings):
    _, x, labels, budget = case(kind)
    settings = {"block": 10, "batch_size": 10, "keep": "success"} | settings
    return advex.evaluate(
        settings.pop("model", None) or usual(kind),
        settings.pop("data", (x, labels)),
        settings.pop("attacks", ATTACKS),
        settings.pop("budget", budget),
        run=run,
        **settings,
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A finished run of each kind, made when it is asked for."""
    folder = tmp_path_factory.mktemp("runs")

    @functools.cache
    def made(kind):
        return evaluated(kind, folder / f"{kind}.advex")

    return made


def figures(found):
    kept = found.to_dict()
    for entry in (kept, *kept["attacks"]):
        entry.pop("seconds")
    kept.pop("began")
    rows = [
        {name: value for name, value in row.items() if "seconds" not in name}
        for row in found.rows()
    ]
    inputs = [
        [None if leaf is None else leaf.tolist() for leaf in keras.tree.flatten(pair)]
        for pair in [found.adversarial(row, attack) for row in range(ROWS) for attack in (0, 1)]
    ]
    pairs = [
        [leaf.tolist() for leaf in keras.tree.flatten([pair.before, pair.after])]
        for pair in found.pairs() + found.pairs("farthest")
    ]
    return json.dumps([kept, rows, inputs, pairs], sort_keys=True)


# What it finds, and what it keeps.


@pytest.mark.backends
@pytest.mark.parametrize("kind", KINDS)
def test_it_finds_what_the_attacks_find(runs, kind):
    found, (_, x, labels, budget) = runs(kind), case(kind)
    assert found.clean_accuracy == (ROWS - 1) / ROWS and found.diagnosis is None
    for number, attack in enumerate(ATTACKS.values()):
        result = attack(usual(kind), x, labels, budget, batch_size=10)
        broken = result.status == "broken"
        assert (found.matrix[number] == broken).all()
        for row in range(ROWS):
            kept = found.adversarial(row, number)
            assert (kept is not None) == broken[row]
            if kept is None:
                continue
            for name, values in kept.items() if isinstance(kept, dict) else [("", kept)]:
                own = result.x if kind in ("table", "layer", "subclassed layer") else None
                own = result.x[name or "image"] if own is None else own
                assert values.dtype == own.dtype and values.shape == own.shape[1:]
                np.testing.assert_allclose(values, own[row], rtol=0, atol=1e-5)
    assert 0 < found.broken.sum() < ROWS


@pytest.mark.backends
def test_what_is_kept_breaks_the_model(runs):
    """Beside the inputs that stay as they are, and legal where there is a domain."""
    for pair in runs("two").pairs() + runs("two").pairs("farthest"):
        assert set(pair.before) == set(pair.after) == {"image", "audio"}
        for name, values in pair.before.items():
            assert (values == case("two")[1][name][pair.example]).all()
    for kind in ("one", "two"):
        found, (model, x, labels, _) = runs(kind), case(kind)
        for row in np.flatnonzero(found.matrix[0]):
            kept = found.adversarial(int(row))
            mixed = {name: values[[row]].copy() for name, values in x.items()}
            for name, values in (kept if kind == "two" else {"image": kept}).items():
                mixed[name] = values[None]
            assert answer(model, mixed).argmax() != labels[row]
    found, (model, x, labels, _) = runs("table"), case("table")
    for row in np.flatnonzero(found.matrix[0]):
        kept = found.adversarial(int(row))[None]
        assert kept.dtype == "float64" and table().holds(kept, x[[row]]).all()
        assert answer(model, scaled(kept.astype("float32"))).argmax() != labels[row]


@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_every_transaction(runs, kind, tmp_path, monkeypatch):
    """What is on the disk after each commit goes on to the same end, and nothing twice."""
    expected, moments = figures(runs(kind)), []
    real = Store.transaction

    @contextlib.contextmanager
    def copying(store):
        with real(store):
            yield
        folder = tmp_path / str(len(moments))
        folder.mkdir()
        for path in tmp_path.glob("run.advex*"):
            shutil.copy(path, folder / path.name)
        moments.append(folder / "run.advex")

    monkeypatch.setattr(Store, "transaction", copying)
    evaluated(kind, tmp_path / "run.advex")
    monkeypatch.setattr(Store, "transaction", real)
    assert len(moments) == 1 + 1 + 2 * 3 + 1
    assert Evaluation.load(moments[6]).examples == 10
    for place in (1, 3, 6):  # settings; a look and an attack; the second block and one attack
        assert figures(evaluated(kind, moments[place])) == expected
    monkeypatch.setattr(runner, "attacked", None)  # nothing is left to do
    assert figures(evaluated(kind, moments[-1])) == expected


# Where the data come from.


def parts(size, several):
    """Batches as a generator gives them."""
    _, x, labels, _ = case("one")
    for start in range(0, ROWS, size):
        rows = slice(start, start + size)
        made = {name: values[rows] for name, values in x.items()}
        yield (made if several is dict else several(made.values())), labels[rows]


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 4

    def __getitem__(self, number):
        return list(parts(5, dict))[number]


def loader():
    torch = pytest.importorskip("torch")
    _, x, labels, _ = case("one")
    rows = [({name: values[row] for name, values in x.items()}, labels[row]) for row in range(ROWS)]
    return torch.utils.data.DataLoader(rows, batch_size=7)


def dataset():
    tf = pytest.importorskip("tensorflow")
    _, x, labels, _ = case("one")
    return tf.data.Dataset.from_tensor_slices((x, labels)).batch(6)


DATA = {
    "dicts": lambda: parts(7, dict),
    "a list of batches": lambda: list(parts(10, dict)),
    "PyDataset": Batches,
    "DataLoader": loader,
    "tf.data": dataset,
    "another order": lambda: (
        {name: case("one")[1][name] for name in ("meta", "image", "audio")},
        case("one")[2].tolist(),
    ),
}


@pytest.mark.parametrize("name", DATA)
def test_data_of_every_kind_go_on_with_the_same_run(runs, name, tmp_path, monkeypatch):
    path = tmp_path / "run.advex"
    shutil.copy(runs("one").path, path)
    monkeypatch.setattr(runner, "attacked", None)  # every block is the one that was attacked
    assert figures(evaluated("one", path, data=DATA[name]())) == figures(runs("one"))


@pytest.mark.parametrize("kind", [tuple, list])
def test_tuples_of_inputs(runs, kind):
    """In the order of the model's inputs; two of them are no pair (x, labels)."""
    _, x, labels, _ = case("one")
    made = kind(x[tensor.name] for tensor in case("one")[0].inputs)
    whole = evaluated("one", data=(made, labels))
    assert (whole.matrix == runs("one").matrix).all()
    cut = [(kind(each[rows] for each in made), labels[rows]) for rows in (slice(9), slice(9, 20))]
    assert (evaluated("one", data=cut).matrix == whole.matrix).all()
    two = Source((kind(made[:2]), labels), several=True)
    assert len(two.arrays[0]) == ROWS and len(two.arrays[0].leaves) == 2
    assert Source((kind(made[:2]), labels)).arrays is None  # a batch (x, labels), and something


def test_data_that_are_copies(runs):
    _, x, labels, _ = case("one")
    source = Source((x, labels))
    assert source.copied and source.total == ROWS
    assert not np.shares_memory(source.arrays[0].tree["image"], x["image"])
    blocks = list(source.blocks(7))
    assert [len(block) for block in blocks] == [7, 7, 6]
    other = {name: values.copy() for name, values in x.items()}
    other["meta"][19] += 1
    digests = [block.digest for block in Source((other, labels)).blocks(7)]
    assert [block.digest for block in blocks][:2] == digests[:2] and digests[2] != blocks[2].digest
    renamed = {"bells": x["audio"], "image": x["image"], "meta": x["meta"]}
    assert Source((renamed, labels)).digest != source.digest


def test_workers_get_all_inputs(tmp_path):
    """Files that they can open too."""
    x = {}
    for name, values in case("one")[1].items():
        np.save(tmp_path / f"{name}.npy", values)
        x[name] = np.load(tmp_path / f"{name}.npy", mmap_mode="r")
    source = Source((x, case("one")[2]))
    assert not source.copied
    got = _received(_sent(None, source.arrays[0]))
    assert all(isinstance(leaf, np.memmap) for leaf in got.leaves)
    assert Source((got.tree, source.arrays[1])).digest == source.digest
    made = tuple(x.values())
    got = _received(_sent(None, Source((made, source.arrays[1]), several=True).arrays[0]))
    assert isinstance(got.tree, tuple) and (got.tree[0] == made[0]).all()


@pytest.mark.parametrize("kind", ["one", "two", "layer"])
def test_a_part_of_a_worker_comes_back(kind, tmp_path):
    pytest.importorskip("pyarrow")
    _, x, labels, budget = case(kind)
    plan = Plan(usual(kind), ATTACKS, budget, 0, ROWS, ROWS, "success")
    source = Source((x, labels))
    block = Block(0, 0, *source.arrays)
    before = clean(plan, block.x, block.labels)
    found = [attacked(plan, name, block.x, before) for name in ATTACKS]
    write_part(tmp_path / "part", plan, block, before, found, "mark")
    _, verdicts = read_part(tmp_path / "part", plan, block, "mark")
    for now, was in zip(verdicts, found, strict=True):
        kept = [row for row, values in enumerate(now.x) if values is not None]
        assert kept == np.flatnonzero(was.status == "broken").tolist()
        assert all((now.x[row] == was.x[row]).all() for row in kept)


# A run goes on with what it was begun with alone.


def test_another_input_or_budget_is_refused_by_name(runs):
    with pytest.raises(InvalidInput, match=r"Changed: .*perturb \(which input of the model"):
        evaluated("one", runs("one").path, model=classifier("one", perturb="audio"))
    moved = {name: values.copy() for name, values in case("one")[1].items()}
    moved["meta"][3] += 1
    with pytest.raises(InvalidInput, match=r"Changed: data"):
        evaluated("one", runs("one").path, data=(moved, case("one")[2]))
    for budget in (
        {"image": advex.L2(0.4), "audio": advex.Linf(0.0500001)},
        {"image": advex.L2(0.4), "audio": advex.L2(0.05)},
        advex.Linf(0.05),
    ):
        with pytest.raises(InvalidInput, match=r"Changed: budget \(the budget: \{'audio': "):
            evaluated("two", runs("two").path, budget=budget)
    boxes = {"image": (0, 1), "audio": (-1, 1)}
    with pytest.raises(InvalidInput, match=r"Changed: .*domain"):
        evaluated("two", runs("two").path, model=classifier("two", box=boxes))
    turned = dict(reversed(case("two")[3].items()))
    assert figures(evaluated("two", runs("two").path, budget=turned)) == figures(runs("two"))


CHANGES = {
    "low": {"low": LOW - [1, 0, 0, 0, 0]},
    "fixed": {"fixed": [False, False, False, False, False]},
    "integer": {"integer": None},
    "one_hot": {"one_hot": None},
    "repair": {"repair": lambda x: total(x) + 0.0},
    "valid": {"valid": lambda x: x[:, 3] >= -1},
}


@pytest.mark.parametrize("name", CHANGES)
def test_another_domain_is_refused_by_name(runs, name):
    change = dict(CHANGES[name])
    low = change.pop("low", LOW)
    domain = table(**change)
    domain = advex.Domain(
        low, HIGH, domain.fixed, domain.integer, domain.one_hot or None, domain.repair, domain.valid
    )
    with pytest.raises(InvalidInput, match=rf"domain \(the domain of the inputs.*\.{name}|Changed"):
        evaluated("table", runs("table").path, model=classifier("table", box=domain))
    with pytest.raises(InvalidInput, match=r"Changed: [a-z, ]*domain"):
        evaluated("table", runs("table").path, model=classifier("table", box=domain))


# A budget for each example.


def test_an_epsilon_for_each_example(tmp_path):
    _, x, labels, _ = case("one")
    epsilons = np.linspace(0.01, 0.2, ROWS)
    budget = advex.Linf(epsilons)
    found = evaluated("one", tmp_path / "run.advex", budget=budget, attacks=ATTACKS["steps"])
    result = ATTACKS["steps"](usual("one"), x, labels, budget, batch_size=10)
    assert (found.matrix[0] == (result.status == "broken")).all() and found.broken.any()
    assert (found.distance[found.broken] <= epsilons[found.broken]).all()
    assert found.distance[found.broken].max() > epsilons[0]
    assert found.facts["epsilon"] == 0.01 and not found.facts["curve"]
    assert "0.01 to 0.2, one for each example" in str(found)
    moved = epsilons.copy()
    moved[19] += 1e-12
    with pytest.raises(InvalidInput, match="Changed: budget"):
        evaluated("one", found.path, budget=advex.Linf(moved), attacks=ATTACKS["steps"])
    assert evaluated("one", found.path, budget=budget, attacks=ATTACKS["steps"]).finished
    both = {"image": advex.Linf(epsilons), "audio": advex.Linf(0.05)}
    pair = evaluated("two", budget=both, attacks=ATTACKS["steps"])
    result = ATTACKS["steps"](usual("two"), x, labels, both, batch_size=10)
    assert (pair.matrix[0] == (result.status == "broken")).all()


def test_a_mask_for_each_example():
    mask = np.zeros((ROWS, 8, 8, 1), bool)
    mask[::2, :4], mask[1::2, 4:] = True, True
    found = evaluated("one", budget=advex.Linf(0.3, mask=mask), attacks=ATTACKS["steps"])
    assert found.broken[::2].any() and found.broken[1::2].any()
    for row in np.flatnonzero(found.broken):
        moved = found.adversarial(int(row)) != case("one")[1]["image"][row]
        assert moved.any() and not moved[~mask[row]].any()


# What is said.


@pytest.mark.parametrize("kind", KINDS)
def test_the_page(runs, kind, tmp_path):
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    sys.path.insert(0, str(Path(__file__).parent))
    try:
        from test_report import checked
    finally:
        sys.path.pop(0)
    found = runs(kind)
    page = checked(found)
    words = {
        "one": "the input 'image' (8, 8, 1); 'audio', 'meta' stay as they are",
        "two": "the inputs 'image' (8, 8, 1) and 'audio' (6,) at once",
        "layer": "the output of the layer 'embedding' (8,)",
        "subclassed": "the input 'image' (8, 8, 1); 'meta' stays as it is",
        "subclassed layer": "the output of the layer 'embedding' (6,)",
        "table": "5 features within their domain, 1 fixed, 1 whole, 1 group of which exactly one",
    }[kind]
    assert (
        words in page.text
        and words in str(found)
        and words in found._repr_html_().replace("&#39;", "'")
    )
    html = found.report(tmp_path / "page.html").read_text()
    assert ("data:image/png" in html) == (kind in ("one", "two", "subclassed"))
    assert ("is not a picture" in page.text) == ("layer" in kind)
    assert ("accuracy over epsilon" in page.text) == (kind != "two")
    assert "The doctor has not looked: its checks are about one array of numbers" in page.text
    assert ("of epsilon: " in page.text) == (kind == "two")


def test_the_code_that_repeats_a_run(runs):
    from advex.evaluation.page.repeat import snippet

    assert "perturb='image')" in snippet(runs("one"))
    both = snippet(runs("two"))
    assert "perturb=['image', 'audio'])" in both
    assert "budget = {'audio': advex.Linf(0.05), 'image': advex.L2(0.4)}" in both
    assert "its domain: Domain(of 5 features" in snippet(runs("table"))
    for kind in KINDS:
        compile(snippet(runs(kind)), kind, "exec")


def test_runs_without_any_of_it_are_as_they_were(tmp_path):
    x, labels = advex.testing.linear_data()
    model, path = advex.testing.linear_model(), tmp_path / "run.advex"
    found = advex.evaluate(
        model, (x, labels), ATTACKS["one"], advex.Linf(0.05), run=path, diagnose=False
    )
    assert not {"attacked", "curve", "no doctor"} & set(found.facts)
    assert not {"perturb", "domain"} & set(found.facts["identity"])
    with contextlib.closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (2,)
    assert not found.attacked and "Attacked" not in str(found)


X = {"image": np.zeros((4, 8, 8, 1), "f4"), "meta": np.zeros((4, 3), "f4")}
BAD = {
    "no budget for one": ({"budget": {"image": advex.Linf(0.1)}}, "attacked are 'image', 'audio'"),
    "a limit and none": (
        {"budget": {"image": advex.Linf(0.1), "audio": advex.L2()}},
        "must all have a limit, or none",
    ),
    "rows": (
        {"data": ({**case("one")[1], "meta": X["meta"]}, case("one")[2])},
        "the same number: audio has 20, image has 20, meta has 4",
    ),
    "labels": ({"data": (case("one")[1], [0, 1])}, "data has 20 inputs and 2 labels"),
    "a missing input": ({"data": (X, [0, 1, 2, 0])}, "x lacks 'audio'"),
    "too few epsilons": ({"budget": advex.Linf([0.1] * 7)}, "7 epsilons.*data has 20 examples"),
    "an epsilon for each, and L2": (
        {"budget": {"image": advex.Linf([0.1] * ROWS), "audio": advex.L2(0.1)}},
        "the budget of 'image' has an epsilon for each example",
    ),
    "too few, of one": (
        {"budget": {"image": advex.Linf([0.1] * 7), "audio": advex.Linf(0.1)}},
        "7 epsilons.*data has 20 examples",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_refused(name, tmp_path):
    settings, words = BAD[name]
    with pytest.raises((InvalidInput, InvalidType), match=words) as caught:
        evaluated("two", tmp_path / "run.advex", **settings)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_epsilons_for_a_stream():
    for count, words in ((15, "the epsilons are for 15 examples"), (25, "data has 20 examples")):
        with pytest.raises(InvalidInput, match=words):
            evaluated("one", data=parts(10, dict), budget=advex.Linf([0.1] * count))


def test_batches_that_change():
    first, second = list(parts(10, dict))
    second[0]["meta"] = second[0]["meta"].astype("float64")
    with pytest.raises(InvalidInput, match=r"from .*meta float32 \(3,\) to .*meta float64 \(3,\)"):
        evaluated("one", data=[first, second])


def test_the_doctor_is_about_a_box():
    for kind in ("one", "table"):
        _, x, labels, budget = case(kind)
        with pytest.raises(InvalidInput, match="one array of numbers in a box") as caught:
            advex.evaluation.diagnose(usual(kind), x, labels, budget)
        assert "\n" not in str(caught.value)


def test_curves_of_results():
    _, x, labels, budget = case("two")
    found = advex.evaluation.curve(ATTACKS["one"](usual("two"), x, labels, budget))
    assert found.limit == 1 and found.at(0) == (ROWS - 1) / ROWS
    each = advex.Linf(np.linspace(0.1, 0.2, ROWS))
    found = advex.evaluation.curve(ATTACKS["one"](usual("one"), x, labels, each))
    assert found.limit == 0.1


# In training, and from the command line.


@pytest.mark.parametrize("kind", ["one", "two", "table"])
def test_in_training(kind):
    model, x, labels, budget = case(kind)
    own = usual(kind)
    settings = {"box": table(), "preprocess": scaled} if kind == "table" else {
        "perturb": list(own.perturb)
    }  # fmt: skip
    data = (x, labels) if kind == "table" else parts(7, dict)
    watch = advex.callbacks.RobustAccuracy(data, ATTACKS["one"], budget, **settings)
    watch.set_model(model)
    held = ATTACKS["one"](own, x, labels, budget).status == "held"
    assert 0 < held.mean() < 1 and watch.look() == pytest.approx(held.mean())


def test_the_command_line(tmp_path, capsys):
    model, x, labels, _ = case("one")
    model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "data.npz", labels=labels, **x)
    call = ["evaluate", "--model", str(tmp_path / "model.keras"), "--epsilon", "0.08"]
    call += ["--attack", "fgsm", "--data"]
    perturb = ["--perturb", "image"]
    assert main([*call, str(tmp_path / "data.npz"), *perturb]) == 0
    found = evaluated("one", attacks=ATTACKS["one"])
    said = " ".join(capsys.readouterr().out.split())
    assert f"robust accuracy {found.robust_accuracy:.1%}: " in said
    assert "of 20 examples not broken by FGSM" in said
    assert "Attacked: the input 'image' (8, 8, 1); 'audio', 'meta' stay as they are" in said
    np.savez(tmp_path / "less.npz", image=x["image"], meta=x["meta"])
    (tmp_path / "folder").mkdir()
    for given, words in (
        (["less.npz", *perturb], "and lacks 'audio', 'labels'"),
        (["folder", *perturb], "a folder of images has one input, the model has 3"),
        (["data.npz"], "--perturb audio says which one is attacked"),
        (["data.npz", "--perturb", "sound"], "perturb names 'sound', which is neither"),
    ):
        assert main([*call, str(tmp_path / given[0]), *given[1:]]) == 2
        assert words in " ".join(capsys.readouterr().err.split())
    picture = tmp_path / "picture.png"
    advex.images.picture(np.zeros((8, 8, 1), "uint8")).save(picture)
    assert main(["attack", str(picture), "--model", str(tmp_path / "model.keras")]) == 2
    assert "images alone are no inputs for it" in " ".join(capsys.readouterr().err.split())
