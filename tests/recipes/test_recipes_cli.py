"""Recipes in what the command line says, given to the command line."""

import json
import re
import shlex
from pathlib import Path

import keras
import numpy as np
import pytest
from messages import cut, executes, typed
from PIL import Image

import advex
from advex import cli, zoo
from advex.cli import demo
from advex.cli.evaluate import GOALS
from advex.cli.screen import console
from advex.cli.words import as_options, better_box
from advex.driver.ranges import others

pytestmark = pytest.mark.usefixtures("unsearched")


@pytest.fixture(scope="module")
def loaded():
    """The shipped model, and whatever a file holds, loaded and compiled once."""
    shipped, load, known = zoo.fashion_mnist(), zoo.load, {}

    def once(name, box, names):
        key = Path(name).resolve(), box, None if names is None else tuple(names)
        if key not in known:
            known[key] = load(name, box, names)
        return known[key]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(zoo, "load", once)
        patched.setattr(zoo, "fashion_mnist", lambda names=None: shipped)
        yield


@pytest.fixture
def here(loaded, tmp_path, monkeypatch):
    """A folder, with a blank in its name, of two images, and their arrays."""
    folder = tmp_path / "my files"
    folder.mkdir()
    monkeypatch.chdir(folder)
    x, labels = zoo.fashion_images()
    names = zoo.fashion_mnist().names
    np.savez("FILE.npz", x=x[:2, ..., 0], labels=labels[:2])
    (folder / "NAMES.json").write_text(json.dumps(names))
    for image, label in zip(x[:2, ..., 0], labels[:2], strict=True):
        place = folder / "classes" / names[label].replace("/", "-")
        place.mkdir(parents=True, exist_ok=True)
        for where in (folder / f"{label}.png", place / "a.png"):
            Image.fromarray(image).save(where)
    return folder


@pytest.fixture
def refused(capsys):
    """``refused(*words)``: what the command line answers to wrong words."""

    def run(*words):
        assert cli.main([*map(str, words)]) == 2
        return " ".join(capsys.readouterr().err.split())

    return run


def works(*words):
    """Whether the command line does what it is told, whatever it finds."""
    return cli.main([*map(str, words)]) in (0, 1)


def options(message, pattern):
    return shlex.split(cut(message, pattern))


FGSM = "--attack", "fgsm", "--epsilon", "2/255"


@executes(
    "is the probability of a class: it needs --target",
    "fgsm takes one step; leave out --steps, or use bim",
    "--learning-rate belongs to --attack gradient-ascent",
    "--restarts belongs to --attack pgd",
    "needs --epsilon, {}",
)
def test_options_of_an_attack(here, refused):
    image = next(here.glob("*.png"))

    def works_in(folder, *words):
        return works("attack", image, "--out", folder, *words)

    message = refused("attack", image, "--confidence", "0.2")
    assert works_in("1", "--confidence", "0.2", *options(message, r"--target$"), "Bag")
    message = refused("attack", image, "--attack", "fgsm", "--steps", "2")
    assert works_in("2", "--attack", cut(message, r"or use (\w+)$"), "--steps", "2")
    words = "--learning-rate", "0.1"
    message = refused("attack", image, *words)
    assert works_in("3", *words, *options(message, r"--attack .*$"))
    message = refused("attack", image, "--attack", "fgsm", "--restarts", "2")
    assert works_in("4", "--restarts", "2", "--steps", "2", *options(message, r"(--attack .*);"))
    for norm in ("l2", "l0"):
        message = refused("attack", image, "--norm", norm, "--attack", "fgsm")
        epsilon = cut(message, r"--epsilon, .*such as (\S+)$")
        assert works_in(norm, "--norm", norm, "--attack", "fgsm", "--epsilon", epsilon)


@executes(
    "{} has no form in {}: --norm {}",
    "{} needs a limit: --epsilon {}",
    "it is an option of pgd: --attack pgd --restarts 5",
    "it works on another attack, from Python:",
    "needs maps of labels: advex evaluate --data FILE.npz --goal segmentation",
)
def test_attacks_that_ask_for_something_else(here, refused):
    image = next(here.glob("*.png"))
    words = "attack", image, "--overwrite"
    message = refused(*words, "--norm", "linf", "--attack", "ddn")
    assert works(*words, "--attack", "ddn", "--steps", "2", *options(message, r"--norm l2$"))
    message = refused(*words, "--attack", "bim", "--epsilon", "inf")
    assert works(*words, "--attack", "bim", "--steps", "2", *options(message, r"--epsilon \S+$"))
    message = refused(*words, "--attack", "restarts")
    assert works(*words, "--steps", "2", *options(message, r"--attack .*$"))
    for name in ("every-target", "averaged-gradient", "ensemble"):
        made = typed(refused(*words, "--attack", name), r"from Python: (.*)$")
        assert isinstance(made, advex.Attack)
    x = keras.Input((28, 28, 1))
    keras.Model(x, keras.layers.Conv2D(2, 1)(x)).save("maps.keras")
    labels = np.ones((2, 28, 28), int)
    np.savez("FILE.npz", x=zoo.fashion_images()[0][:2] / np.float32(255), labels=labels)
    for name in ("segpgd", "sea"):
        message = refused(*words, "--attack", name)
        given = options(message, r"advex (evaluate .*)$")
        assert given[-1] == name
        assert works(*given, "--model", "maps.keras", "--steps", "2", "--no-doctor")


@executes(
    "the class names are not known; give an index, or --classes NAMES.json", "--box belongs to"
)
def test_options_of_a_model(here, refused):
    image = next(here.glob("*.png"))
    model = keras.Sequential(
        [keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(10)]
    )
    model.save("FILE.keras")
    message = refused("attack", image, "--box", "0", "255", *FGSM)
    given = *options(message, r"(--model .*?);"), "--box", "0", "255"
    assert works("attack", image, *given, *FGSM)
    words = "attack", image, *given, *FGSM, "--out", "other", "--target", "Bag"
    message = refused(*words)
    assert works(*words, *options(message, r"--classes \S+$"))


@executes("The model file was given values from 0 to 1. If it takes others, say so:")
def test_a_model_file_without_a_box(here, capsys):
    image = str(next(here.glob("*.png")))
    layers = [keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(10)]
    keras.Sequential(layers).save("plain.keras")
    keras.Sequential([layers[0], keras.layers.Rescaling(1 / 255), *layers[1:]]).save("scaled.keras")

    def notes(model, *words):
        words = ["attack", image, *FGSM, "--model", model, *words, "--overwrite", "--json"]
        assert cli.main(words) in (0, 1)
        found = json.loads(capsys.readouterr().out)["notes"]
        return [note for note in found if "--box" in note]

    (note,) = notes("plain.keras")
    for code in (r"--box -1 1", r"--box 0 255"):
        assert notes("plain.keras", *options(note, code)) == []
    assert notes("plain.keras", "--box", "0", "1") == []
    assert notes("scaled.keras") == []  # a warning says more


@executes(
    "--overwrite replaces, --out DIR writes elsewhere",
    "would replace its own source; choose another --out",
    "is a {}; choose another --out",
)
def test_where_pictures_go(here, refused):
    image = next(here.glob("*.png"))
    words = "attack", image, *FGSM
    assert works(*words)
    (here / "adversarial").mkdir(exist_ok=True)
    (here / "adversarial" / image.name).write_bytes(image.read_bytes())  # of an earlier run
    message = refused(*words)
    assert works(*words, *options(message, r"; (--overwrite) "))
    assert works(*words, *options(message, r"--out DIR"))
    message = refused(*words, "--out", ".")
    assert works(*words, *options(message, r"another (--out)$"), "third")
    (here / "fourth" / image.name).mkdir(parents=True)
    message = refused(*words, "--out", "fourth")
    assert works(*words, *options(message, r"another (--out)$"), "fifth")


EVALUATE = "evaluate", "--no-doctor", "--count", "2"


@executes(
    "one run is shown, or two are compared; received {}: advex report before.advex after.advex",
    "there is a document with the numbers of the examples, --json",
    "--{} is for a page: --out report.html",
)
def test_options_of_a_report(here, refused):
    for run in ("before.advex", "after.advex"):
        data = *EVALUATE, "--data", "FILE.npz", "--epsilon", "2/255"
        assert works(*data, "--attack", "fgsm", "--run", run)
    pair = "report", "before.advex", "after.advex"
    message = refused(*pair, "after.advex")
    assert works(*options(message, r"advex (report .*)$"))
    message = refused(*pair, "--csv", "rows.csv")
    assert works(*pair, *options(message, r"(--json)$"))
    message = refused(*pair, "--title", "Hardening")
    assert works(*pair, "--title", "Hardening", *options(message, r"--out .*$"))
    assert (here / "report.html").exists()


@executes(
    "--steps belongs to an attack: --attack pgd --steps 40",
    "Kept in {}. As a page:",
    "Nothing was kept. The same call with --run {} keeps it; then, as a page:",
    "--workers needs a run file: --run run.advex",
    "--workers needs data from an npz file: --data FILE.npz",
    "needs a limit: --epsilon 8/255",
)
def test_options_of_an_evaluation(here, refused, capsys, monkeypatch):
    data = *EVALUATE, "--data", "FILE.npz", "--epsilon", "2/255"
    message = refused(*data, "--steps", "40")
    assert works(*data, *options(message, r"--attack .*$"), "--run", "my run.advex")
    said = capsys.readouterr().out.replace("\\\n", "")
    assert works(*options(said, r"As a page:\n  advex (.*\.html)"))
    assert (here / "report.html").exists()
    assert works(*data, *FGSM[:2])
    said = capsys.readouterr().out.replace("\\\n", "")
    assert works(*data, *FGSM[:2], *options(said, r"with (--run \S+) keeps"))
    assert works(*options(said, r"as a page:\n  advex (.*\.html)"), "--overwrite")
    message = refused(*data[:-1], "inf", "--attack", "fgsm")
    assert works(*data[:-2], *options(message, r"--epsilon .*$"), "--attack", "fgsm")
    # Ray itself is started by the tests of the engine
    monkeypatch.setattr("advex.evaluation.call._evaluated", lambda *asked: None)
    monkeypatch.setattr("advex.cli.evaluate.show", lambda outcome: None)
    message = refused(*data, "--workers", "2")
    run = options(message, r"--run \S+$")
    message = refused(*data, "--data", "classes", "--workers", "2", *run)
    assert works(*data, *options(message, r"--data \S+$"), "--workers", "2", *run)


@executes(
    "--{} belongs to --goal {}",
    "--goal regression needs how far is too far: --off 0.5",
    "a folder of images says one class for each; --data FILE.npz",
    "{}; here that is --goal {}{}",
    " --off 0.5",
)
def test_options_of_a_goal(here, refused):
    several = {
        "multilabel": (3, np.ones((2, 3), int)),
        "regression": (1, np.full(2, 0.5)),
        "segmentation": (0, np.ones((2, 28, 28), int)),
    }
    words = *EVALUATE, *FGSM, "--data", "FILE.npz"
    message = refused(*words, "--k", "2")
    assert works(*words, "--k", "2", *options(message, r"--goal \w+$"))
    for goal, (units, labels) in several.items():
        image = keras.Input((28, 28, 1))
        last = keras.layers.Dense(units) if units else keras.layers.Conv2D(2, 1)
        keras.Model(image, last(keras.layers.Flatten()(image) if units else image)).save(
            f"{goal}.keras"
        )
        np.savez("FILE.npz", x=zoo.fashion_images()[0][:2] / np.float32(255), labels=labels)
        given = *words, "--model", f"{goal}.keras"
        found = options(refused(*given), r"here that is (.*)$")
        assert found[:2] == ["--goal", goal] and works(*given, *found)
        if goal == "regression":
            message = refused(*given, "--goal", goal)
            assert works(*given, "--goal", goal, *options(message, r"--off .*$"))
        if goal == "multilabel":
            message = refused(*given, "--data", "classes", "--goal", goal)
            assert works(*given, "--goal", goal, *options(message, r"--data \S+$"))
    assert set(several) < set(GOALS)


@executes("if that is the model's domain", "or divide by 255?")
def test_the_box_of_an_evaluation(here, refused):
    keras.Sequential(
        [keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(10)]
    ).save("m.keras")
    words = *EVALUATE, *FGSM, "--data", "FILE.npz", "--model", "m.keras"
    for high in (255.0, 300.0):
        x, labels = zoo.fashion_images()
        np.savez("FILE.npz", x=x[:2] * np.float32(high / 255), labels=labels[:2])
        message = refused(*words)
        assert works(*words, *options(message, r"--box \S+ \d+"))


@executes("exists; --overwrite replaces it")
def test_a_page_that_exists(here, refused):
    assert works(*EVALUATE, *FGSM, "--data", "FILE.npz", "--run", "kept.advex")
    words = "report", "kept.advex", "--out", "page.html"
    assert works(*words)
    assert works(*words, *options(refused(*words), r"; (--overwrite) "))


@executes("First the box: see the warning.")
def test_the_box_comes_first(here, refused, capsys):
    """A warning about the range is in options, and the command with its box is typed first."""
    scaled = keras.layers.Rescaling(1 / 255)
    layers = [keras.Input((28, 28, 1)), scaled, keras.layers.Flatten(), keras.layers.Dense(10)]
    keras.Sequential(layers).save("m.keras")
    image = next(here.glob("*.png"))
    assert works("attack", image, *FGSM, "--model", "m.keras", "--out", "1")
    told = capsys.readouterr()
    (warning,) = [line for line in told.err.splitlines() if line.startswith("warning: ")]
    assert warning.endswith("it was trained on: --box 0 255")
    said = told.out.replace("\\\n", "")
    first = options(said, r"nothing above counts:\n  advex (attack .*)")
    assert first[-3:] == ["--box", "0", "255"]
    if "A better attack" in said or "Then a better" in said:
        assert said.index("First the box") < said.index("Then a better attack")
        assert "--box 0 255" in said.partition("Then a better attack")[2]
    assert works(*first)
    told = capsys.readouterr()
    assert "warning" not in told.err and "First the box" not in told.out


@executes("grey levels write --epsilon")
def test_an_epsilon_in_grey_levels(here, refused):
    image = next(here.glob("*.png"))
    message = refused("attack", image, "--epsilon", "8")
    assert "Linf" not in message and "advex." not in message
    assert "--epsilon 8 is a fraction of the box's range" in message
    assert works("attack", image, "--attack", "fgsm", *options(message, r"write (--epsilon \S+)$"))
    assert refused(*EVALUATE, "--data", "FILE.npz", "--epsilon", "8") == message


@executes("in place of x in the file of --data")
def test_floats_in_another_range(here, capsys):
    """The file is made anew, and the box is typed."""
    x, labels = zoo.fashion_images()
    x = x / np.float32(255)
    shipped = zoo.fashion_mnist().model
    for low, high, given in ((-1, 1, ()), (0, 255, ()), (0, 255, ("--box", "0", "255"))):
        scaled = keras.layers.Rescaling(1 / (high - low), -low / (high - low))
        keras.Sequential([keras.Input((28, 28, 1)), scaled, shipped]).save(f"m{low}.keras")
        np.savez("FILE.npz", x=x, labels=labels)
        words = *EVALUATE, *FGSM, "--data", "FILE.npz", "--model", f"m{low}.keras", "--count", "32"
        assert works(*words, *given)
        told = " ".join(capsys.readouterr().out.split())
        assert "WARNING: The model gets" in told
        code = cut(told, r"trained on: (?:--box \S+ \S+, with )?(\S.*?) in place of x in the file")
        np.savez("FILE.npz", x=eval(code, {"x": x}), labels=labels)
        box = given or options(told, r"trained on: (--box \S+ \S+), with")
        assert works(*words, *box)
        assert "clean accuracy 100.0%" in " ".join(capsys.readouterr().out.split())


def test_a_range_of_floats_in_options():
    """Each sentence about another range, as it is said in Python and here."""
    classifier = zoo.fashion_mnist()
    x = np.zeros((2, 28, 28, 1), "float32")
    for box, proposed in (((0, 1), ["-1 1", "0 255"]), ((-1, 1), ["0 1", "0 255"])):
        given = advex.Classifier(classifier.model, box=box, classes=classifier.names, output=0)
        for one, values in zip(others(given, x + box[0], np.arange(2)), proposed, strict=False):
            told = as_options(
                f"Right {one.words}. If that is the range it was trained on: {one.fix}"
            )
            assert "advex." not in told and f": --box {values}, with x" in told.replace("(x", "x")
            assert better_box([told]) == tuple(values.split())
        eight = (x * 255).astype("uint8")
        for one, values in zip(others(given, eight, np.arange(2)), proposed, strict=True):
            told = as_options(
                f"Right {one.words}. If that is the range it was trained on: {one.fix}"
            )
            assert told.endswith(f": --box {values}")


@executes("For a page: pip install 'advex[report]', then", "or see what other attacks there are.")
def test_what_the_demo_says_at_the_end(here, capsys):
    assert works(*EVALUATE, *FGSM, "--data", "FILE.npz", "--run", "a run.advex")
    capsys.readouterr()
    report = {
        "originals": str(here),
        "contact_sheet": "",
        "attacks": [],
        "evaluation": {"page": None, "run": str(here / "a run.advex"), "headline": "", "flags": []},
    }
    demo._places(console(), report)
    said = capsys.readouterr().out.replace("\\\n", "")  # as a shell reads it
    assert works(*options(said, r"there are\.\n  advex (attack .*)"))
    assert works(*options(said, r"\n  advex (attacks)\n"))
    assert works(*options(said, r"then\n  advex (report .*)"))
    assert re.search(r"pip install 'advex\[report\]'", said)
