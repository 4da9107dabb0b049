"""evaluate with goals about labels, numbers, maps, top-k and several outputs."""

import contextlib
import dataclasses
import functools
import json
import re
import shutil
import sqlite3
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import advex
from advex.errors import AdvexError, InvalidInput, InvalidType
from advex.evaluation import Evaluation, map_figures, runner
from advex.evaluation.answers import difference
from advex.evaluation.block_files import read_part, write_part
from advex.evaluation.page import goal_part
from advex.evaluation.pieces import Plan, attacked, clean
from advex.evaluation.records import recalled, write_clean
from advex.evaluation.source import Block
from advex.evaluation.store import Store
from advex.goals.segmentation import mean_iou, pixel_accuracy

pytestmark = pytest.mark.filterwarnings("ignore::advex.errors.ModelWarning")

SHAPE = (6, 6, 1)
BUDGET = advex.Linf(0.1)
ATTACKS = {"steps": advex.PGD(steps=3), "one": advex.FGSM()}
ROWS = 20


def several(y):
    return advex.AnyOf(
        advex.Output("age", advex.Regression(y[:, 0], off=0.5)),
        advex.Output("sex", y[:, 1].astype(int)),
    )


def off(y):
    return advex.Regression(y, off=0.5)


GOALS = {
    "labels": advex.MultiLabel,
    "numbers": off,
    "maps": advex.Segmentation,
    "classes": functools.partial(advex.TopK, k=2),
    "other": several,
}


def asked(model, x):
    return model.predict(x, verbose=0)


@functools.cache
def case(kind):
    """A model, inputs and labels; the first row is wrong where it can be."""
    keras.utils.set_random_seed(0)
    random = np.random.default_rng(0)
    x = random.random((ROWS, *SHAPE)).astype("float32")
    image = keras.Input(SHAPE)
    flat = keras.layers.Flatten()(image)
    if kind == "maps":
        hidden = keras.layers.Conv2D(4, 3, padding="same", activation="tanh")(image)
        model = keras.Model(image, keras.layers.Conv2D(3, 1)(hidden))
        labels = asked(model, x).argmax(-1)
        labels[:, 1, 1] = (labels[:, 1, 1] + 1) % 3
        labels[:, 0] = 255
        return model, x, labels
    if kind == "other":
        heads = {
            name: keras.layers.Dense(units, name=name)(flat)
            for name, units in (("age", 1), ("sex", 2))
        }
        model = keras.Model(image, heads)
        said = asked(model, x)
        return model, x, np.stack([said["age"][:, 0], said["sex"].argmax(1)], axis=1)
    units = {"labels": 3, "numbers": 1, "classes": 5}[kind]
    hidden = keras.layers.Dense(8, "tanh")(flat)
    model = keras.Model(image, keras.layers.Dense(units)(hidden))
    said = asked(model, x)
    if kind == "labels":
        labels = (said > 0).astype(int)
        labels[0] = 1 - labels[0]
    elif kind == "numbers":
        labels = said[:, 0] + random.normal(0, 0.1, ROWS)
        labels[0] += 5
    else:
        labels = said.argmax(1)
    return model, x, labels


def evaluated(kind, run=None, goal=None, **settings):
    model, x, labels = case(kind)
    settings = {"block": 10, "batch_size": 10} | settings
    return advex.evaluate(
        settings.pop("model", model),
        settings.pop("data", (x, labels)),
        settings.pop("attacks", ATTACKS),
        settings.pop("budget", BUDGET),
        run=run,
        goal=GOALS[kind] if goal is None else goal,
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
    return json.dumps([kept, rows], sort_keys=True)


def pursued(kind, attack, rows=slice(None), until="success"):
    """The attack itself, on the rows whose goal is not reached."""
    model, x, labels = case(kind)
    return attack(model, x[rows], GOALS[kind](labels[rows]), BUDGET, batch_size=10, until=until)


def not_wrong(kind):
    model, x, labels = case(kind)
    return advex.FGSM()(model, x, GOALS[kind](labels), BUDGET, batch_size=10).status != "clean"


# What it finds.


@pytest.mark.parametrize("kind", GOALS)
def test_successes_are_those_of_the_attacks(runs, kind):
    found, open_rows = runs(kind), not_wrong(kind)
    assert found.kind == kind
    assert found.clean_accuracy == open_rows.mean()
    until = "end" if kind in ("numbers", "maps") else "success"
    for number, attack in enumerate(ATTACKS.values()):
        result = pursued(kind, attack, until=until)
        assert (found.matrix[number] == (result.success & open_rows)).all()
    if kind in ("labels", "numbers"):
        assert not open_rows[0] and open_rows.sum() == ROWS - 1


@pytest.mark.backends
def test_labels(runs):
    found = runs("labels")
    model, x, labels = case("labels")
    said = asked(model, x) > 0
    flipped = {}
    for name, attack in ATTACKS.items():
        result = pursued("labels", attack)
        flipped[name] = (result.prediction != said)[not_wrong("labels")].sum(axis=0)
    assert sum(flipped["one"]) and sum(flipped["steps"])
    for number, one in enumerate(found.per_label):
        assert one.label == number and one.name == str(number) and one.examples == ROWS
        assert one.there == labels[:, number].sum()
        assert one.right == (labels[:, number] == said[:, number]).sum()
        assert one.flipped == {name: flipped[name][number] for name in ATTACKS}
    assert found.to_dict()["labels"][0]["flipped"]["one"] == flipped["one"][0]
    assert re.search(r"\n0 +\d+ +95\.0% +\d+ +\d+\n", str(found))


@pytest.mark.backends
def test_errors(runs):
    found = runs("numbers")
    model, x, labels = case("numbers")
    before = np.abs(asked(model, x)[:, 0] - labels)
    np.testing.assert_allclose(found.errors.before, before, atol=1e-5)
    after = {}
    for name, attack in ATTACKS.items():
        result = pursued("numbers", attack, until="end")
        after[name] = np.abs(asked(model, result.attempt)[:, 0] - labels)
        after[name][0] = before[0]  # it was wrong before
        np.testing.assert_allclose(found.errors.attacks[name], after[name], atol=1e-5)
        assert (after[name] > before)[1:].all()
    worst = np.maximum(after["steps"], after["one"])
    np.testing.assert_allclose(found.errors.worst, worst, atol=1e-5)
    for name, values in {"before": before, **after, "worst": worst}.items():
        told = found.errors.quantiles()[name]
        expected = [np.median(values), np.quantile(values, 0.9), values.max()]
        np.testing.assert_allclose([told.median, told.ninety, told.largest], expected, atol=1e-5)
    assert found.to_dict()["errors"]["worst"]["largest"] == found.errors.worst.max()
    assert found.attacks[1].figures["median error"] == np.median(found.errors.attacks["one"])
    assert "median error" in found.headline()


def confusions():
    """Before, and after each attack: (1 + attacks, n, c, c)."""
    model, x, labels = case("maps")
    goal = GOALS["maps"](labels)
    points = [x, *(pursued("maps", attack, until="end").attempt for attack in ATTACKS.values())]
    return np.stack([goal.confusion(asked(model, each).argmax(-1), 3) for each in points])


@pytest.mark.backends
def test_maps(runs):
    found, made = runs("maps"), confusions()
    assert made.sum() == 3 * ROWS * 30  # a sixth does not count
    pixels = [float(pixel_accuracy(one.sum(axis=0))) for one in made]
    assert pixels[0] > max(pixels[1:])
    assert found.pixel_accuracy.before == pytest.approx(pixels[0])
    assert list(found.pixel_accuracy.attacks.values()) == pytest.approx(pixels[1:])
    assert found.mean_iou.before == pytest.approx(mean_iou(made[0]))
    assert list(found.mean_iou.attacks.values()) == pytest.approx([mean_iou(m) for m in made[1:]])
    worst = pixel_accuracy(made).min(axis=0).mean()
    assert found.pixel_accuracy.worst == pytest.approx(worst) and worst < min(pixels)
    assert found.mean_iou.worst <= min(found.mean_iou.attacks.values())
    assert [one.figures["mean IoU"] for one in found.attacks] == list(
        found.mean_iou.attacks.values()
    )
    assert found.to_dict()["mean_iou"]["worst"] == found.mean_iou.worst


def test_maps_to_be_reached():
    def goal(y):
        return advex.Segmentation(np.zeros_like(y), share=0.5, targeted=True)

    found = evaluated("maps", goal=goal, attacks=ATTACKS["one"])
    assert found.kind == "maps" and "targeted=True" in found.goal
    with pytest.raises(InvalidInput, match="about maps to be reached"):
        found.pixel_accuracy  # noqa: B018
    assert "pixel_accuracy" not in found.to_dict() and "mean IoU" not in str(found)
    assert len(found.pairs()) == 4


def test_the_greedy_worst_case():
    """Against all choices there are, and one by hand in which pixels and IoU want different
    attacks.
    """
    random = np.random.default_rng(0)
    lower = 0
    for _ in range(20):
        matrices = random.integers(0, 9, (3, 5, 3, 3))
        counts = np.stack(
            [np.diagonal(matrices, axis1=2, axis2=3), matrices.sum(axis=3), matrices.sum(axis=2)],
            axis=2,
        )
        assert map_figures.iou(counts.sum(axis=1))[0] == pytest.approx(mean_iou(matrices[0]))
        start = map_figures.lowest(counts)
        assert (start == pixel_accuracy(matrices).argmin(axis=0)).all()
        chosen = map_figures.most_harmful(counts, start)

        def value(choice, matrices=matrices):
            return mean_iou(matrices[choice, np.arange(5)])

        assert value(chosen) <= value(start)
        lower += value(chosen) < value(start)
        best = min(value(list(choice)) for choice in np.ndindex(3, 3, 3, 3, 3))
        assert best <= value(chosen) < best + 0.03
        for image in range(5):  # no single change makes it lower
            for other in range(3):
                changed = chosen.copy()
                changed[image] = other
                assert value(changed) >= value(chosen) - 1e-12
    assert lower > 5


def test_several_outputs_and_one_of_them(runs):
    found = runs("other")
    entry = list(found.rows())[int(np.flatnonzero(found.matrix[1])[0])]
    detail = json.loads(entry["detail"])
    assert set(detail["prediction"]) == {"age", "sex"}
    assert detail["words"].startswith("age ")
    assert "label" not in entry and json.loads(entry["one.detail"]) != detail
    model, x, labels = case("other")
    one = evaluated("other", goal=lambda y: advex.Output("age", off(y[:, 0])))
    assert one.kind == "numbers" and "output='age'" in one.facts["model"]
    chosen = advex.Classifier(model, output="age")
    same = advex.evaluate(
        chosen, (x, labels[:, 0]), ATTACKS, BUDGET, goal=off, block=10, batch_size=10
    )
    assert (same.errors.worst == one.errors.worst).all()


def test_what_the_model_itself_says():
    one = {"attacks": ATTACKS["one"]}
    found = evaluated("numbers", goal=lambda y: advex.Regression(off=0.5), **one)
    assert found.clean_accuracy == 1 and not found.errors.before.any()
    assert found.errors.worst.min() > 0.3
    maps = evaluated("maps", goal=lambda y: advex.Segmentation(), **one)
    assert maps.pixel_accuracy.before == 1 and maps.pixel_accuracy.worst < 1


def test_a_black_box_and_an_unlimited_budget():
    model = case("labels")[0]
    box = advex.BlackBox(lambda x: asked(model, x), classes=3)
    found = evaluated("labels", model=box, attacks=advex.SquareAttack(steps=4), block=ROWS)
    assert found.attacks[0].attacked == ROWS - 1
    far = evaluated("numbers", attacks=advex.FMN(steps=5), budget=advex.L2(), block=ROWS)
    assert far.errors.worst.max() > 0.5


def test_runs_of_classes_are_as_they_were(tmp_path):
    model, x, labels = case("classes")
    settings = {"block": 10, "batch_size": 10, "diagnose": False}
    path = tmp_path / "run.advex"
    found = advex.evaluate(model, (x, labels), ATTACKS, BUDGET, run=path, **settings)
    again = advex.evaluate(
        model, (x, labels), ATTACKS, BUDGET, run=path, goal=advex.Untargeted, **settings
    )
    assert figures(again) == figures(found)
    assert "goal" not in found.facts and "goal" not in found.facts["identity"]
    assert "goal" not in found.to_dict() and "figures" not in found.to_dict()["attacks"][0]
    with contextlib.closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (2,)
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
    assert not tables & {"details", "maps"}


# What is kept.


@pytest.mark.parametrize("kind", GOALS)
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
    part = Evaluation.load(moments[6])  # a block that one attack has not seen is in no figure
    assert part.examples == 10
    if kind == "labels":
        assert part.per_label[0].examples == 10
    if kind == "numbers":
        assert len(part.errors.before) == len(part.errors.worst) == 10
    for place in (1, 3, 6):  # settings; a look and an attack; the look at the second block and one
        assert figures(evaluated(kind, moments[place])) == expected
    monkeypatch.setattr(runner, "attacked", None)  # nothing is left to do
    assert figures(evaluated(kind, moments[-1])) == expected


@pytest.mark.parametrize("kind", ["labels", "maps"])
def test_another_goal_is_refused_by_name(runs, kind):
    found = runs(kind)
    other = {"labels": functools.partial(advex.MultiLabel, flip="all"), "maps": lambda y: (
        advex.Segmentation(y, share=0.5))}[kind]  # fmt: skip
    with pytest.raises(InvalidInput, match=r"Changed: goal \(the goal: "):
        evaluated(kind, found.path, goal=other)
    with pytest.raises(InvalidInput, match="Changed: goal"):
        evaluated("classes", runs("classes").path, goal=advex.Untargeted, diagnose=False)


@pytest.mark.parametrize("table", ["details", "maps"])
def test_a_changed_detail_is_noticed(runs, table, tmp_path):
    path = tmp_path / "run.advex"
    shutil.copy(runs("maps").path, path)
    change = {
        "details": "UPDATE details SET detail = replace(detail, '8', '7') WHERE attack = 1",
        "maps": "DELETE FROM maps WHERE attack = 1",
    }[table]
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute(change)
        database.commit()
    with pytest.raises(InvalidInput, match="is damaged"):
        Evaluation.load(path)


def test_a_changed_map_is_noticed(runs, tmp_path):
    path = tmp_path / "run.advex"
    shutil.copy(runs("maps").path, path)
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE maps SET maps = (SELECT maps FROM maps LIMIT 1)")
        database.commit()
    with pytest.raises(InvalidInput, match="is damaged"):
        Evaluation.load(path).pairs()


@pytest.mark.parametrize("kind", ["labels", "maps"])
def test_a_part_of_a_worker_comes_back(kind, tmp_path):
    pytest.importorskip("pyarrow")
    model, x, labels = case(kind)
    plan = Plan(
        advex.Classifier(model), ATTACKS, BUDGET, 0, ROWS, ROWS, "success", goal=GOALS[kind]
    )
    block, before = Block(0, 0, x, labels), clean(plan, x, labels)
    found = [attacked(plan, name, x, before) for name in ATTACKS]
    write_part(tmp_path / "part", plan, block, before, found, "mark")
    again, verdicts = read_part(tmp_path / "part", plan, block, "mark")
    assert again.details == before.details
    for now, was in zip(verdicts, found, strict=True):
        assert now.details == was.details and len(now.details) == len(now.rows)
        if kind == "maps":
            kept = [row for row, three in enumerate(now.maps) if three is not None]
            assert 4 <= len(kept) <= 8
            assert all((now.maps[row] == was.maps[row]).all() for row in kept)


def test_a_black_box_that_answers_otherwise_is_noticed():
    """It is asked nothing needless: what it said of the first rows is compared with the file."""
    model, x, labels = case("labels")
    moved = advex.BlackBox(lambda x: asked(model, x) + np.float32(0.5), classes=3)
    box = advex.BlackBox(lambda x: asked(model, x), classes=3)
    plan = Plan(box, ATTACKS, BUDGET, 0, ROWS, ROWS, "none", goal=advex.MultiLabel)
    block, store = Block(0, 0, x, labels), Store(None, write=True)
    before = clean(plan, x, labels)
    with store.transaction():
        store.extend()
        write_clean(store, block, before)
    kept = recalled(store, block)
    assert kept.details == before.details and len(kept.details) == ROWS
    assert difference(plan, block, kept, None) is None
    other = dataclasses.replace(plan, classifier=moved)
    assert difference(other, block, kept, None) == "16 of the first 16 answers differ"
    store.close()


def test_frames_and_files(runs, tmp_path):
    for kind in ("labels", "maps"):
        lines = runs(kind).to_csv(tmp_path / f"{kind}.csv").read_text().splitlines()
        assert len(lines) == 1 + ROWS and lines[0].startswith("example,detail,verdict,distance,")
        json.loads(runs(kind).to_json())


# The page.


@pytest.mark.parametrize("kind", GOALS)
def test_the_page(runs, kind):
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    sys.path.insert(0, str(Path(__file__).parent))
    try:
        from test_report import checked
    finally:
        sys.path.pop(0)
    page = checked(runs(kind))
    assert ("Each class" in page.text) == (kind == "classes")
    assert ("Each label" in page.text) == (kind == "labels")
    assert (page.text.count("absolute error") > 0) == (kind == "numbers")
    assert ("predicted after" in page.text) == (kind == "maps")
    assert ("accuracy over epsilon" in page.text) == (kind not in ("numbers", "maps"))
    assert "its checks are about the class of each example" in page.text
    assert runs(kind).goal in page.text


def test_the_pictures_of_maps(runs):
    found, (_, x, labels) = runs("maps"), case("maps")
    made = confusions()
    right = pixel_accuracy(made)[1:].min(axis=0)
    worst = [pair.example for pair in found.pairs()]
    assert len(worst) == 4 and sorted(right[worst]) == pytest.approx(sorted(right)[:4])
    for pair in found.pairs():
        assert (pair.maps[0] == labels[pair.example]).all()
        assert (pair.maps[1] == asked(case("maps")[0], pair.before[None]).argmax(-1)[0]).all()
        assert (pair.maps[2] == asked(case("maps")[0], pair.after[None]).argmax(-1)[0]).all()
        assert (pair.before == x[pair.example]).all()
    colours = goal_part.coloured(np.asarray([[0, 1], [21, 255]]), 22)
    assert colours[0].tolist() == [list(map(float, one)) for one in goal_part.PALETTE[:2]]
    assert colours[1].tolist() == [list(goal_part.PALETTE[1]), list(goal_part.UNCOUNTED)]


# Refused, and said.


def test_what_is_said_of_other_figures(runs):
    for name, kind in (
        ("per_label", "maps"),
        ("errors", "labels"),
        ("pixel_accuracy", "numbers"),
        ("mean_iou", "classes"),
        ("per_class", "labels"),
        ("label", "maps"),
    ):
        with pytest.raises(InvalidInput, match=rf"found\.{name} is of runs about .*evaluate\("):
            getattr(runs(kind), name)


BAD = {
    "an array": (np.zeros(3, int), InvalidType, "goal must be a function"),
    "a goal": (advex.TopK([1, 2]), InvalidType, r"goal=lambda labels: advex\.TopK\(labels, k=5\)"),
    "no limit": (advex.Regression, InvalidInput, r"functools\.partial\(advex\.Regression, off"),
    "labels": (lambda y: y, InvalidType, "goal must return a goal"),
    "broken": (lambda y: 1 / 0, AdvexError, "goal"),
    "other labels": (lambda y: advex.MultiLabel(y[:3]), InvalidInput, "3 rows of labels"),
    "other places": (lambda y: advex.Segmentation(np.zeros((10, 4), int)), InvalidInput, "places"),
}


@pytest.mark.parametrize("name", BAD)
def test_goals_that_are_refused(name, tmp_path):
    goal, kind, words = BAD[name]
    with pytest.raises(kind, match=words) as caught:
        evaluated("labels", tmp_path / "run.advex", goal=goal)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_labels_of_another_kind_get_the_goal_that_is_theirs():
    for kind, words in (
        ("labels", "goal=advex.MultiLabel"),
        ("maps", "goal=advex.Segmentation"),
        ("numbers", r"goal=functools.partial\(advex.Regression, off=0.5\)"),
    ):
        model, x, labels = case(kind)
        with pytest.raises(InvalidInput, match=words):
            advex.evaluate(model, (x, labels), ATTACKS, BUDGET)


def test_the_doctor_is_about_classes():
    model, x, labels = case("labels")
    for given in (labels, advex.MultiLabel(labels)):
        with pytest.raises(InvalidInput, match="diagnose is about classes"):
            advex.evaluation.diagnose(model, x, given, BUDGET)


def test_in_training():
    model, x, labels = case("labels")
    watch = advex.callbacks.RobustAccuracy(
        (x, labels), ATTACKS["one"], BUDGET, goal=advex.MultiLabel
    )
    watch.set_model(model)
    held = pursued("labels", ATTACKS["one"]).status == "held"
    assert 0 < held.mean() < 1 and watch.look() == pytest.approx(held.mean())
    with pytest.raises(InvalidType, match="goal must be a function"):
        advex.callbacks.RobustAccuracy((x, labels), ATTACKS["one"], BUDGET, goal=3)
