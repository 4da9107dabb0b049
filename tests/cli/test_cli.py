"""The command line: what people type, what they see, and what is left on the disk."""

import dataclasses
import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from PIL import Image

import advex
from advex import cli, images, zoo
from advex.cli import attack, batch, demo
from advex.cli.classes import class_names, class_number
from advex.errors import InvalidInput

HOUSE = Path(advex.__file__).parents[1]
NAMES = ["tabby, tabby cat", "Toaster", "crane", "Crane", "fish"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a model that is easily fooled, its class names, and six photos of three
    sizes.
    """
    folder = tmp_path_factory.mktemp("place")
    keras.utils.set_random_seed(3)
    layers = [keras.Input((16, 16, 3)), keras.layers.Rescaling(1 / 255), keras.layers.Flatten()]
    keras.Sequential([*layers, keras.layers.Dense(5, kernel_initializer="random_normal")]).save(
        folder / "model.keras"
    )
    (folder / "names.json").write_text(json.dumps(NAMES))
    (folder / "photos").mkdir()
    rng = np.random.default_rng(5)
    for number, shape in enumerate([(16, 16), (16, 16), (16, 16), (16, 16), (40, 30), (9, 12)]):
        Image.fromarray(rng.integers(80, 176, (*shape, 3)).astype("uint8")).save(
            folder / "photos" / f"p{number}.png"
        )
    return folder


@pytest.fixture
def here(place, tmp_path, monkeypatch):
    """The process in an empty folder, and ``attack(*words)``: the exit code of ``advex attack``
    with the model of ``place``.
    """
    monkeypatch.chdir(tmp_path)
    model = [
        "--model",
        str(place / "model.keras"),
        "--box",
        "0",
        "255",
        "--classes",
        str(place / "names.json"),
    ]
    return lambda *words: cli.main(["attack", *map(str, words), *model])


def document(capsys):
    out = capsys.readouterr().out
    return json.loads(out)


def listing(folder):
    return sorted(path.name for path in Path(folder).iterdir())


# The demo.


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """The demo as a user runs it, in a folder where an earlier one and the user have left
    something.
    """
    folder = tmp_path_factory.mktemp("demo")
    stale = folder / "pictures" / "fgsm-targeted"
    stale.mkdir(parents=True)
    for name in ("00-ankle-boot.png", "mine.png"):
        (stale / name).write_bytes(b"old")
    environment = {**os.environ, "PYTHONPATH": str(HOUSE), "COLUMNS": "80"}
    command = [sys.executable, "-m", "advex", "demo", "--out", "pictures"]
    return folder / "pictures", subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True
    )


def test_demo_as_a_user_runs_it(shown):
    folder, done = shown
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "pictures/contact_sheet.png" in done.stdout
    assert "Not fooled is not safe: another attack within Linf(8/255) may break more" in done.stdout
    assert not re.search(r"is robust|robust (?:model|network)", done.stdout.lower())
    assert "00-ankle-boot" in done.stdout
    parts = [
        "contact_sheet.png",
        "evaluation.advex",
        "fgsm",
        "fgsm-targeted",
        "original",
        "pgd",
        "pgd-targeted",
        "report.html",
    ]
    assert listing(folder) == parts
    assert "Report: pictures/report.html" in done.stdout
    assert "not broken by PGD, SquareAttack within Linf(4/255)" in done.stdout
    assert len(listing(folder / "original")) == 32


def test_demo_counts_apart_what_was_wrong_before(shown, capsys):
    folder, _ = shown
    assert cli.main(["demo", "--out", str(folder), "--json"]) == 0
    report = document(capsys)
    for entry in report["attacks"]:
        entry |= {"fooled": 29, "before": 2}
    demo.show(report)
    said = capsys.readouterr().out
    assert re.search(r"PGD +untargeted +29 of 30 +1 ", said)
    assert "PGD, untargeted: 2 more were wrong before" in said
    assert "PGD, targeted: 2 more were at the target before" in said


def test_demo_holds_its_claims_and_runs_twice(shown, capsys):
    folder, _ = shown
    first = (folder / "pgd" / "00-ankle-boot.png").read_bytes()
    assert cli.main(["demo", "--out", str(folder), "--json"]) == 0
    report = document(capsys)
    assert (folder / "pgd" / "00-ankle-boot.png").read_bytes() == first
    assert (folder / "fgsm-targeted" / "mine.png").read_bytes() == b"old"
    by_goal = {(entry["name"], entry["goal"]): entry for entry in report["attacks"]}
    assert by_goal["PGD", "untargeted"]["fooled"] >= 28
    assert report["classified_correctly"] == report["total"] == 32
    classifier = zoo.fashion_mnist()
    x, labels = zoo.fashion_images()
    assert [entry["before"] for entry in report["attacks"]] == [0] * 4
    for entry in report["attacks"]:
        files = {
            path.name: images.read(path, channels=1).pixels
            for path in Path(entry["folder"]).glob("[0-9]*.png")
        }
        assert len(files) == entry["fooled"] == entry["files"] == entry["verified"]
        found = np.stack(list(files.values()))
        rows = [int(name[:2]) for name in files]
        assert np.abs(found.astype(int) - x[rows]).max() <= round(demo.EPSILON * 255)
        answers = keras.ops.convert_to_numpy(
            classifier.model(found.astype("float32") / 255, training=False)
        ).argmax(1)
        wanted = (
            (labels[rows] + 1) % 10 == answers
            if entry["goal"] == "targeted"
            else labels[rows] != answers
        )
        assert wanted.all()


# The attack.


def test_attack_a_folder(here, place, capsys):
    assert here(place / "photos", "--epsilon", "16/255", "--json") == 0
    report = document(capsys)
    assert report["fooled"] == report["total"] == 6
    assert report["settings"]["budget"] == "Linf(16/255)"
    assert report["settings"]["box"] == [0, 255]
    assert listing("adversarial") == [
        "contact_sheet.png",
        *(f"p{number}.png" for number in range(6)),
    ]
    model = keras.models.load_model(place / "model.keras")
    for entry in report["images"]:
        before = images.read(entry["file"], size=(16, 16)).pixels
        after = images.read(entry["output"]).pixels
        change = np.abs(after.astype(int) - before)
        assert entry["levels"] == change.max() <= 16
        assert entry["distance"] == pytest.approx(change.max() / 255)
        answers = keras.ops.convert_to_numpy(
            model(np.stack([before, after]).astype("float32"))
        ).argmax(1)
        assert [NAMES[answer] for answer in answers] == [entry["before"], entry["after"]]
        assert entry["before"] != entry["after"]
        assert entry["verified"]
        resized = {
            "p4.png": ["cropped from 30 x 40 to the central 30 x 30 and resized to 16 x 16"],
            "p5.png": [
                "cropped from 12 x 9 to the central 9 x 9 and resized to 16 x 16 (enlarged)"
            ],
        }
        assert entry["notes"] == resized.get(Path(entry["file"]).name, [])


def test_the_table(here, place, capsys):
    assert here(place / "photos", "--epsilon", "16/255") == 0
    said = capsys.readouterr()
    assert "6 of 6 images fooled by PGD (40 steps) within Linf(16/255)" in said.out
    assert "All 6 PNGs were read back and judged again: verified" in said.out
    assert "A better attack" not in said.out
    assert "p4.png: cropped from 30 x 40" in said.out
    assert "adversarial/contact_sheet.png" in said.out
    assert "Traceback" not in said.err
    header, *lines = [line for line in said.out.splitlines() if line.startswith(("file", "p0.png"))]
    assert header.split()[:4] == ["file", "result", "before", "after"]
    assert lines[0].split()[:3] == ["p0.png", "✓", "fooled"]


def test_failures_decide_the_exit_code(here, place, capsys):
    assert here(place / "photos" / "p0.png", "--epsilon", "0") == 1
    said = capsys.readouterr().out
    assert "0 of 1 image fooled by PGD (40 steps) within Linf(0)" in said
    assert "1 was not fooled. A better attack may break more, such as:" in said
    assert "No picture was written." in said and "Side by side" not in said


def test_a_call_that_fooled_nobody_is_in_nobodys_way(here, place, capsys):
    photo = place / "photos" / "p0.png"
    for _ in range(2):
        assert here(photo, "--epsilon", "0", "--json") == 1
        report = document(capsys)
        assert report["contact_sheet"] is None and report["attacked"] == 1
        assert not list(Path("adversarial").glob("*"))
    assert here(photo, "--epsilon", "16/255") == 0
    assert listing("adversarial") == ["contact_sheet.png", "p0.png"]


def test_the_sheet_shows_the_last_attempt_of_what_held(place):
    """Not the original over again."""
    photo = np.full((2, 4, 4, 3), 100, "uint8")
    attempt = photo + np.uint8(3)
    result = SimpleNamespace(original=photo, x=photo, attempt=attempt)
    record = batch.Record("a.png", "not fooled", before="Bag", before_confidence=0.9)
    _, (shown, words), (change, fate) = batch._line(record, result, 1)
    assert (shown == attempt[1]).all() and words[0][0] == "last attempt"
    assert fate[0][0] == "✗ not fooled" and change.max() > 128


@pytest.mark.parametrize("model", ["nosuch.keras", "no/such", "MobilNetV2"])
def test_a_missing_model_is_said_before_files_that_exist(
    place, tmp_path, monkeypatch, capsys, model
):
    monkeypatch.chdir(tmp_path)
    Path("adversarial").mkdir()
    Path("adversarial", "contact_sheet.png").write_bytes(b"mine")
    photo = str(place / "photos" / "p0.png")
    assert cli.main(["attack", photo, "--model", model]) == 2
    said = capsys.readouterr().err
    expected = "has no model" if model == "MobilNetV2" else f"{model}: no such model file"
    assert expected in said and "exists" not in said
    assert Path("adversarial", "contact_sheet.png").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["attack", "a.png", "--atack", "pgd"], "--atack pgd; did you mean --attack?"),
        (["evaluate", "--data", "a.npz", "--epsilon", "0.1", "--modle=x"], "did you mean --model?"),
        (["report", "a.advex", "--xyzzy"], "unrecognized arguments: --xyzzy\n"),
    ],
)
def test_a_misspelt_option_is_answered_by_its_command(words, hint, capsys):
    assert cli.main(words) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"usage: advex {words[0]} ") and f"advex {words[0]}: error: " in said
    assert hint in said and "COMMAND" not in said


@pytest.mark.parametrize(
    ("words", "attack", "budget"),
    [
        (["--attack", "fgsm"], "FGSM", "Linf(2/255)"),
        (["--attack", "BIM", "--steps", "3", "--norm", "L2", "--epsilon", "0.5"], "BIM", "L2(0.5)"),
        (
            ["--attack", "momentum", "--norm", "l1", "--epsilon", "4", "--steps", "4"],
            "MomentumIterative",
            "L1(4)",
        ),
        (
            ["--attack", "nesterov", "--epsilon", "0.02", "--steps", "4"],
            "NesterovIterative",
            "Linf(0.02)",
        ),
        (
            ["--norm", "l0", "--epsilon", "30", "--restarts", "2", "--steps", "4"],
            "Restarts",
            "L0(30)",
        ),
        (
            ["--attack", "gradient_ascent", "--learning-rate", "50", "--steps", "4"],
            "GradientAscent",
            "Linf(2/255)",
        ),
        (["--attack", "fine", "--steps", "5"], "MomentumIterative", "Linf(2/255)"),
    ],
)
def test_attacks_norms_and_settings(here, place, capsys, words, attack, budget):
    assert here(place / "photos" / "p0.png", "--json", *words) in (0, 1)
    settings = document(capsys)["settings"]
    assert settings["attack"].startswith(attack)
    assert settings["budget"] == budget


def test_a_target_with_a_demanded_confidence(here, place, capsys):
    words = ["--target", "TABBY CAT", "--confidence", "0.9", "--epsilon", "0.2", "--json"]
    code = here(place / "photos", *words)
    report = document(capsys)
    assert report["settings"]["target"] == {"index": 0, "name": NAMES[0]}
    assert report["settings"]["attack"].startswith("MomentumIterative")
    fooled = [entry for entry in report["images"] if entry["status"] == "fooled"]
    assert len(fooled) >= 4
    assert all(entry["after"] == NAMES[0] and entry["confidence"] >= 0.9 for entry in fooled)
    assert code == (0 if len(fooled) == 6 else 1)


def test_an_image_that_is_the_target_already_is_a_status(here, place, capsys):
    assert here(place / "photos" / "p0.png", "--epsilon", "16/255", "--json") == 0
    (entry,) = document(capsys)["images"]
    words = ["--target", NAMES.index(entry["after"]), "--epsilon", "0.3"]
    photos = [entry["output"], place / "photos" / "p1.png"]
    assert here(*photos, *words, "--out", "again", "--json") == 1
    there, other = document(capsys)["images"]
    assert (there["status"], there["before"], there["output"]) == (
        "already the target",
        entry["after"],
        None,
    )
    assert (other["status"], other["after"]) == ("fooled", entry["after"])
    assert here(*photos, *words, "--out", "again", "--overwrite") == 1
    assert "already there" in capsys.readouterr().out
    assert here(*photos, *words, "--out", "third") == 1
    said = capsys.readouterr().out
    assert "1 of 1 image fooled as" in said
    assert f"1 more was {entry['after']} before, and was not attacked" in said


def test_a_model_that_answers_nan_costs_that_image_only(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    x = keras.Input((4, 4, 1))
    mean = keras.ops.mean(x, axis=(1, 2))
    keras.Model(x, keras.ops.concatenate([mean, 0.5 - keras.ops.log(mean) * 0], axis=1)).save(
        "m.keras"
    )
    images.write(Path("bad.png"), np.zeros((4, 4), "uint8"))
    images.write(Path("good.png"), np.full((4, 4), 129, "uint8"))
    assert (
        cli.main(
            ["attack", "bad.png", "good.png", "--model", "m.keras", "--epsilon", "8/255", "--json"]
        )
        == 1
    )
    assert [entry["status"] for entry in document(capsys)["images"]] == ["no answer", "fooled"]


def test_hostile_files_are_one_files_problem(here, place, tmp_path, capsys):
    folder = tmp_path / "mixed"
    folder.mkdir()
    good = (place / "photos" / "p0.png").read_bytes()
    (folder / "good.png").write_bytes(good)
    (folder / "truncated.png").write_bytes(good[:200])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.gif").write_bytes(b"hello")
    (folder / "[red]name\x1b[31m.png").write_bytes(b"odd")
    (folder / "notes.txt").write_text("no image, not meant")
    (folder / ".hidden.png").write_text("not meant")
    with Image.open(place / "photos" / "p1.png") as opened:
        opened.convert("CMYK").save(folder / "cmyk.jpg")
    assert here(folder, "--epsilon", "16/255", "--json") == 1
    report = document(capsys)
    statuses = {Path(entry["file"]).name: entry["status"] for entry in report["images"]}
    assert statuses.pop("good.png") == statuses.pop("cmyk.jpg") == "fooled"
    assert set(statuses) == {"truncated.png", "empty.jpg", "text.gif", "[red]name\x1b[31m.png"}
    assert set(statuses.values()) == {"unreadable"}
    assert all(entry["reason"] for entry in report["images"] if entry["status"] == "unreadable")
    together = images.read("adversarial/good.png").pixels
    assert here(folder / "good.png", "--epsilon", "16/255", "--out", "alone") == 0
    assert np.array_equal(together, images.read("alone/good.png").pixels)
    capsys.readouterr()
    assert here(folder, "--epsilon", "16/255", "--overwrite") == 1
    said = capsys.readouterr().out
    assert "empty.jpg: the file is empty" in said
    assert "\x1b" not in said
    assert "[red]name" in said


def test_no_readable_image_makes_no_folder(here, tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    assert here("a.png") == 1
    assert not Path("adversarial").exists()


def test_the_shipped_model_is_the_default(place, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    x, _ = zoo.fashion_images()
    images.write(Path("boot.png"), x[0])
    assert (
        cli.main(
            [
                "attack",
                "boot.png",
                str(place / "photos" / "p0.png"),
                "--epsilon",
                "0.3",
                "--target",
                "sneaker",
            ]
        )
        == 0
    )
    said = capsys.readouterr().out
    assert "2 of 2 images fooled as Sneaker by PGD" in said
    assert attack.SHIPPED in said


def test_pictures_of_any_size_for_a_model_of_any_size(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    keras.utils.set_random_seed(0)
    layers = [
        keras.Input((None, None, 1)),
        keras.layers.Conv2D(3, 3),
        keras.layers.GlobalAveragePooling2D(),
    ]
    keras.Sequential(layers).save("m.keras")
    for number, shape in enumerate([(8, 8), (9, 7), (8, 8)]):
        images.write(
            Path(f"{number}.png"),
            np.random.default_rng(number).integers(0, 256, shape).astype("uint8"),
        )
    assert cli.main(
        ["attack", "0.png", "1.png", "2.png", "--model", "m.keras", "--epsilon", "0.4", "--json"]
    ) in (0, 1)
    report = document(capsys)
    assert [entry["file"] for entry in report["images"]] == ["0.png", "1.png", "2.png"]
    for entry in report["images"]:
        if entry["output"]:
            assert (
                images.read(entry["output"], channels=1).pixels.shape
                == images.read(entry["file"], channels=1).pixels.shape
            )


def test_a_file_that_does_not_hold_what_was_found_is_no_success(here, place, monkeypatch, capsys):
    saved = advex.Result.save

    def spoilt(*given, **named):
        return [dataclasses.replace(file, verified=False) for file in saved(*given, **named)]

    monkeypatch.setattr(advex.Result, "save", spoilt)
    assert here(place / "photos" / "p0.png", "--epsilon", "16/255") == 1
    said = capsys.readouterr().out
    assert "not verified" in said
    assert "0 of 1 image fooled" in said


def test_warnings_are_lines_and_are_in_the_document(here, place, capsys):
    assert here(place / "photos" / "p0.png", "--epsilon", "0.6", "--json") == 0
    said = capsys.readouterr()
    (warning,) = json.loads(said.out)["warnings"]
    assert f"warning: {warning}" in said.err.splitlines()
    assert "advex/cli" not in said.err


# Wrong usage: one line, exit code 2, nothing done.


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--attack", "pdg"], "or pgd?"),
        (["--attack", "fgsm", "--steps", "3"], "fgsm takes one step"),
        (["--steps", "0"], "--steps must be at least 1"),
        (["--attack", "bim", "--restarts", "3"], "--restarts belongs to --attack pgd"),
        (["--restarts", "0"], "restarts"),
        (["--epsilon", "8"], "8/255"),
        (["--epsilon", "-0.1"], "epsilon"),
        (["--epsilon", "x"], "'x' is not a number such as 2/255"),
        (["--epsilon", "1/0"], "'1/0' is not a number"),
        (["--norm", "l3"], "invalid choice"),
        (["--norm", "l2"], "--norm l2 needs --epsilon"),
        (["--confidence", "0.5"], "needs --target"),
        (["--confidence", "80", "--target", "0"], "between 0 and 1"),
        (["--target", "crane"], "ambiguous: 2 (crane), 3 (Crane)"),
        (["--target", "toster"], "the nearest: 1 (Toaster)"),
        (["--target", "5"], "5 classes, 0 to 4"),
        (["--learning-rate", "3"], "belongs to --attack gradient-ascent"),
        (["--box", "3", "2"], "box"),
        (["--out", "a\0b"], "not a folder's name"),
        (["nowhere.png"], "no such file"),
        (["."], "no image files"),
        (["--seed", "x"], "'x' is not a whole number"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage(place, tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    images_given = [str(place / "photos" / "p0.png"), *([] if words[0].startswith("-") else words)]
    settings = [
        "--model",
        str(place / "model.keras"),
        "--box",
        "0",
        "255",
        "--classes",
        str(place / "names.json"),
    ]
    assert (
        cli.main(["attack", *images_given, *settings, *(words if words[0].startswith("-") else [])])
        == 2
    )
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.out == ""
    assert "Traceback" not in captured.err
    assert listing(".") == []


def test_output_is_checked_before_any_work(here, place, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(zoo, "load", lambda *given: pytest.fail("the model was loaded"))
    photo = place / "photos" / "p0.png"
    (tmp_path / "p0.jpg").write_bytes(photo.read_bytes())
    assert here(photo, "p0.jpg") == 2
    assert "would both be saved as p0.png" in capsys.readouterr().err
    (tmp_path / "contact_sheet.gif").write_bytes(photo.read_bytes())
    assert here("contact_sheet.gif") == 2
    assert "the contact sheet" in capsys.readouterr().err
    Path("taken").mkdir()
    Path("taken/p0.png").write_bytes(b"precious")
    assert here(photo, "--out", "taken") == 2
    assert "--overwrite" in capsys.readouterr().err
    assert here(photo, "--out", "taken/p0.png/below") == 2
    assert "is not a folder" in capsys.readouterr().err
    (tmp_path / "p1.png").write_bytes(photo.read_bytes())
    assert here("p1.png", "--out", ".", "--overwrite") == 2
    assert "would replace its own source" in capsys.readouterr().err
    Path("links").mkdir()
    Path("links/p0.png").symlink_to("../taken/p0.png")
    assert here(photo, "--out", "links", "--overwrite") == 2
    assert "symbolic link" in capsys.readouterr().err
    assert Path("taken/p0.png").read_bytes() == b"precious"


def test_overwrite_replaces(here, place, capsys):
    for _ in range(2):
        assert here(place / "photos" / "p0.png", "--epsilon", "16/255", "--overwrite") == 0
    assert here(place / "photos" / "p0.png", "--epsilon", "16/255") == 2


def test_help_version_and_nothing(capsys):
    assert cli.main(["--help"]) == 0
    assert "attack" in capsys.readouterr().out
    assert cli.main(["--version"]) == 0
    assert advex.__version__ in capsys.readouterr().out
    assert cli.main([]) == 2
    assert "commands:" in capsys.readouterr().err


def test_interrupted(here, place, monkeypatch, capsys):
    def interrupt(*given, **named):
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(advex.PGD, "__call__", interrupt)
    assert here(place / "photos" / "p0.png") == 130
    assert "Traceback" not in capsys.readouterr().err
    assert not Path("adversarial").exists()


def test_a_full_disk_is_one_clear_line(here, place, monkeypatch, capsys):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert here(place / "photos" / "p0.png", "--epsilon", "16/255") == 2
    assert "No space left" in capsys.readouterr().err
    assert listing("adversarial") == []


def test_a_terminal_that_knows_ascii_only(here, place, tmp_path, monkeypatch):
    (tmp_path / "caf\u00e9.png").write_bytes((place / "photos" / "p0.png").read_bytes())
    screen = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", screen)
    assert here("caf\u00e9.png", "--epsilon", "16/255") == 0
    screen.seek(0)
    assert "caf?.png" in screen.read()
    assert Path("adversarial/caf\u00e9.png").exists()


# Class names.


def test_class_names_from_json(tmp_path):
    path = tmp_path / "n.json"
    for listed in (["a", "b"], {"1": "b", "0": "a"}, {"0": ["n1", "a"], "1": ["n2", "b"]}):
        path.write_text(json.dumps(listed))
        assert class_names(path) == ["a", "b"]
    for wrong in ("{", "[]", '{"1": "a"}', "[1, 2]", '"ab"', '["a", ""]'):
        path.write_text(wrong)
        with pytest.raises(InvalidInput, match=r"n\.json"):
            class_names(path)


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"[" * 100000, "brackets in brackets without end"),
        (b'{"a":' * 100000, "brackets in brackets without end"),
        (b'{"0": "a", "0": "b"}', "is there twice"),
        (b"[1" + b"0" * 5000 + b"]", "not a JSON file"),
        (b"\xff\xfe\x00", "not a JSON file"),
        (b"[NaN, Infinity]", "every class needs a name"),
        (b"null", "expected a list of names"),
        (b"", "not a JSON file"),
        (None, "a folder"),
    ],
)
def test_files_of_names_that_are_none(content, part, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.zeros((28, 28), "uint8")).save("a.png")
    if content is None:
        Path("n.json").mkdir()
    else:
        Path("n.json").write_bytes(content)
    assert cli.main(["attack", "a.png", "--classes", "n.json"]) == 2
    said = capsys.readouterr().err
    assert part in said and said.count("\n") == 1 and len(said) < 300
    assert listing(".") == ["a.png", "n.json"]


def test_names_with_a_mark_of_their_encoding(tmp_path):
    path = tmp_path / "n.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(["a", "b"]).encode())
    assert class_names(path) == ["a", "b"]


@pytest.mark.parametrize(
    "words",
    [
        ["--target", "9" * 5000],
        ["--target", "x" * 5000],
        ["--steps", "9" * 5000],
        ["--steps", "9" * 12],
        ["--steps", "-" + "9" * 5000],
        ["--seed", "9" * 5000],
        ["--seed", str(2**64)],
        ["--restarts", "9" * 30],
        ["--epsilon", "1e400"],
        ["--epsilon", "9" * 5000],
        ["--epsilon", "1/1e-400"],
        ["--epsilon", "nan"],
        ["--norm", "l2", "--epsilon", "1e39"],
        ["--confidence", "9" * 5000, "--target", "1"],
        ["--learning-rate", "9" * 5000, "--attack", "gradient-ascent"],
        ["--attack", "p" * 5000],
        ["--classes", os.devnull],
        ["--classes", "n\0ames.json"],
        ["--out", "n\0o"],
        ["--model", "m" * 5000 + ".keras"],
        ["--model", "n\0ame.keras"],
    ],
    ids=lambda words: " ".join(words)[:24].replace("\0", "NUL"),
)
def test_options_beyond_all_measure(words, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.zeros((28, 28), "uint8")).save("a.png")
    assert cli.main(["attack", "a.png", *words]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("advex") and len(said) < 6000
    assert listing(".") == ["a.png"]


@pytest.mark.parametrize("box", [("nan", "nan"), ("0", "1e400"), ("1", "0"), ("0", "1e300")])
def test_a_box_that_is_none(box, place, capsys):
    words = [
        "attack",
        str(place / "photos" / "p0.png"),
        "--model",
        str(place / "model.keras"),
        "--box",
        *box,
    ]
    assert cli.main(words) == 2
    assert "box must be" in capsys.readouterr().err


def test_the_number_of_names_must_fit(here, place, capsys, tmp_path):
    (tmp_path / "few.json").write_text('["a", "b"]')
    words = [
        "attack",
        str(place / "photos" / "p0.png"),
        "--model",
        str(place / "model.keras"),
        "--classes",
        "few.json",
    ]
    assert cli.main(words) == 2
    assert "classes has 2 names, but the model has 5 classes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("word", "index"),
    [
        ("TABBY", 0),
        ("tabby cat", 0),
        ("Egyptian cat", 1),
        ("egyptian_CAT", 1),
        ("2", 2),
        ("cat", 3),
    ],
)
def test_a_class_by_name_synonym_or_index(word, index):
    assert (
        class_number(word, ["tabby, tabby cat", "Egyptian_cat", "dog, hound", "cat", "lion, cat"])
        == index
    )


@pytest.mark.parametrize(
    ("word", "names"),
    [("hound", ["dog, hound", "wolf, hound"]), ("1", ["0", "7", "1"]), ("bird", None)],
)
def test_a_class_that_is_not_clear(word, names):
    with pytest.raises(InvalidInput, match=r"ambiguous|not known"):
        class_number(word, names)


def test_an_index_without_names():
    assert class_number("859", None) == 859


# Model files and models by name.


@pytest.mark.parametrize(
    "name", ["model.pkl", "model.h5", "model.hdf5", "model.pt", "model.joblib", "folder", "noend"]
)
def test_other_formats_are_refused(tmp_path, name):
    (tmp_path / "folder").mkdir()
    if name != "folder":
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(InvalidInput, match=r"only \.keras files are loaded"):
        zoo.load(tmp_path / name)


def test_a_broken_or_missing_model_file(tmp_path):
    (tmp_path / "m.keras").write_bytes(b"not a zip")
    with pytest.raises(InvalidInput, match="could not be loaded"):
        zoo.load(tmp_path / "m.keras")
    with pytest.raises(InvalidInput, match="no such model file"):
        zoo.load(tmp_path / "other.keras")


def test_a_file_that_brings_code_is_refused(tmp_path):
    keras.Sequential([keras.Input((4,)), keras.layers.Lambda(lambda x: x * 2)]).save(
        tmp_path / "m.keras"
    )
    with pytest.raises(InvalidInput, match="could not be loaded"):
        zoo.load(tmp_path / "m.keras")


@pytest.mark.parametrize("version", ["3.12.3", "3.12.9", "3.15.0", "3.15.1", "3.20.0", "4.0.0"])
def test_keras_with_guards(version):
    zoo.check_keras(version)


@pytest.mark.parametrize("version", ["2.15.0", "3.0.5", "3.12.2", "3.13.0", "3.14.9"])
def test_keras_without_guards(version, place, monkeypatch, capsys):
    with pytest.raises(InvalidInput, match=r"3\.15\.0"):
        zoo.check_keras(version)
    monkeypatch.setattr(keras, "__version__", version)
    assert cli.main(["attack", str(place / "photos"), "--model", str(place / "model.keras")]) == 2
    assert "3.15.0" in capsys.readouterr().err


def test_models_that_take_no_pictures(place, tmp_path, capsys):
    keras.Sequential([keras.Input((784,)), keras.layers.Dense(3)]).save(tmp_path / "m.keras")
    assert cli.main(["attack", str(place / "photos"), "--model", str(tmp_path / "m.keras")]) == 2
    assert "attack it from Python" in capsys.readouterr().err


@pytest.mark.parametrize("name", zoo.names())
def test_every_application_has_its_module_and_preprocessing(name):
    home = zoo.module(name.lower())
    assert zoo.found(name.upper()) == name
    # The module that Keras documents for this builder, or the one that it was written in.
    assert hasattr(home, name) or getattr(keras.applications, name).__module__.endswith(
        home.__name__.rpartition(".")[2]
    )
    x = keras.ops.convert_to_tensor(np.full((1, 2, 2, 3), 255, "float32"))
    kept = np.array(keras.ops.convert_to_numpy(x))
    answer = keras.ops.convert_to_numpy(zoo.Preprocessing(name)(x))
    assert np.array_equal(keras.ops.convert_to_numpy(x), kept)
    assert np.array_equal(answer, home.preprocess_input(kept.copy()))


def test_the_modules_that_have_other_names():
    assert zoo.module("ResNet50V2") is keras.applications.resnet_v2
    assert zoo.module("MobileNetV3Small") is keras.applications.mobilenet_v3
    assert zoo.module("EfficientNetV2B0") is keras.applications.efficientnet_v2


def test_an_unknown_application(here, place, capsys):
    assert cli.main(["attack", str(place / "photos"), "--model", "mobilnetv2"]) == 2
    assert "did you mean MobileNetV2" in capsys.readouterr().err
    assert (
        cli.main(["attack", str(place / "photos"), "--model", "MobileNet", "--box", "0", "1"]) == 2
    )
    assert "--box belongs to --model FILE.keras" in capsys.readouterr().err


def test_class_names_of_imagenet(monkeypatch):
    utils = sys.modules[keras.applications.imagenet_utils.decode_predictions.__module__]
    monkeypatch.setattr(
        utils, "CLASS_INDEX", {str(index): [f"n{index}", f"name_{index}"] for index in range(1000)}
    )
    assert zoo.class_names() == [f"name_{index}" for index in range(1000)]


def test_a_download_that_fails(monkeypatch):
    def fail(**given):
        raise Exception("URL fetch failure on https://...: no route")

    monkeypatch.setattr(keras.applications, "MobileNet", fail)
    monkeypatch.setattr(zoo, "module", lambda name: keras.applications.mobilenet)
    with pytest.raises(
        InvalidInput, match="MobileNet could not be fetched: Exception: URL fetch failure"
    ):
        zoo.application("mobilenet")


def test_attack_a_model_by_name(place, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(zoo, "WEIGHTS", None)
    monkeypatch.setattr(zoo, "class_names", lambda: [f"name_{index}" for index in range(1000)])
    keras.utils.set_random_seed(0)
    words = [
        "--model",
        "mobilenet",
        "--attack",
        "fgsm",
        "--epsilon",
        "8/255",
        "--json",
        "--target",
        "name 7",
    ]
    code = cli.main(["attack", str(place / "photos" / "p4.png"), *words])
    report = document(capsys)
    (entry,) = report["images"]
    assert report["settings"]["box"] == [0, 255]
    assert report["settings"]["head"] == "softmax"
    assert entry["before"].startswith("name_")
    assert entry["notes"] == [
        "cropped from 30 x 40 to the central 30 x 30 and resized to 224 x 224 (enlarged)"
    ]
    assert code == (0 if entry["status"] == "fooled" else 1)


# Evaluations.


@pytest.fixture(scope="module")
def clothes(tmp_path_factory):
    """Twelve of the shipped images, as an npz file without the axis of channels, and as folders
    named after classes.
    """
    folder = tmp_path_factory.mktemp("clothes")
    x, labels = zoo.fashion_images()
    np.savez(folder / "clothes.npz", x_test=x[:12, ..., 0], y_test=labels[:12])
    names = [name.replace("/", "-") for name in zoo.fashion_mnist().names]
    (folder / "names.json").write_text(json.dumps(names))
    for number, label in enumerate(labels[:12]):
        place = folder / "photos" / names[label]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(x[number, ..., 0]).save(place / f"{number:02d}.png")
    (folder / "photos" / "broken").mkdir()
    return folder


EVALUATE = ["--epsilon", "4/255", "--attack", "pgd", "--steps", "5", "--no-doctor"]


def test_evaluate_and_report(clothes, tmp_path, capsys):
    run = tmp_path / "run.advex"
    words = ["evaluate", "--data", str(clothes / "clothes.npz"), "--run", str(run), *EVALUATE]
    assert cli.main([*words, "--json"]) == 0
    evaluation = document(capsys)["evaluation"]
    x, labels = zoo.fashion_images()
    expected = advex.PGD(steps=5)(zoo.fashion_mnist(), x[:12], labels[:12], advex.Linf(4 / 255))
    assert evaluation["robust_accuracy"] == pytest.approx(1 - expected.success_rate)
    assert evaluation["examples"] == 12
    assert cli.main(words) == 0
    said = capsys.readouterr()
    assert "of 12 examples not broken by PGD within Linf(4/255)" in said.out
    assert "The doctor has not looked" in said.out
    assert f"advex report {run}" in re.sub(r" \\\n +", " ", said.out)
    assert not re.search(r"is robust|robust (?:model|network)", said.out.lower())
    assert (
        cli.main(
            [
                "report",
                str(run),
                "--out",
                str(tmp_path / "page.html"),
                "--csv",
                str(tmp_path / "rows.csv"),
            ]
        )
        == 0
    )
    assert "page.html" in capsys.readouterr().out
    assert (tmp_path / "page.html").read_text().startswith("<!DOCTYPE html>")
    assert len((tmp_path / "rows.csv").read_text().splitlines()) == 13
    assert cli.main(["report", str(run), "--out", str(tmp_path / "page.html")]) == 2
    assert f"{tmp_path / 'page.html'} exists; --overwrite replaces it" in capsys.readouterr().err
    assert cli.main(["report", str(run), "--out", str(tmp_path / "page.html"), "--overwrite"]) == 0
    capsys.readouterr()
    assert cli.main(["report", str(run), "--json"]) == 0
    assert document(capsys)["evaluation"]["hashes"] == evaluation["hashes"]
    assert cli.main([*words[:-2], "6", "--no-doctor"]) == 2
    assert "Changed: attacks (" in capsys.readouterr().err


def test_a_page_in_the_words_of_its_author_and_two_runs(clothes, tmp_path, capsys):
    runs = []
    for name, how in (("before", "pgd"), ("after", "fgsm")):
        runs.append(str(tmp_path / f"{name}.advex"))
        words = ["--epsilon", "4/255", "--attack", how, "--no-doctor", "--run", runs[-1]]
        assert cli.main(["evaluate", "--data", str(clothes / "clothes.npz"), *words]) == 0
    page = tmp_path / "page.html"
    said = ["--title", "Clothes", "--author", "Li Wei", "--note", "for June"]
    assert cli.main(["report", runs[0], "--out", str(page), *said]) == 0
    text = page.read_text("utf-8")
    assert all(word in text for word in said[1::2])
    assert cli.main(["report", *runs, "--out", str(tmp_path / "both.html"), *said]) == 0
    text = (tmp_path / "both.html").read_text("utf-8")
    assert "Won and lost" in text and "Li Wei" in text
    capsys.readouterr()
    assert cli.main(["report", *runs]) == 0
    assert "won," in capsys.readouterr().out
    assert cli.main(["report", *runs, "--json"]) == 0
    found = document(capsys)
    assert found["run"] == runs and found["comparison"]["examples"] == 12
    assert found["comparison"]["change"] >= 0
    assert cli.main(["report", runs[0], runs[0], "--out", str(tmp_path / "no" / "page.html")]) == 2
    # Whether pages say what runs say.
    capsys.readouterr()
    for of, name in (([runs[0]], "page.html"), (runs, "both.html")):
        page = tmp_path / name
        assert cli.main(["report", *of, "--check", str(page)]) == 0
        assert "to the last byte" in " ".join(capsys.readouterr().out.split())
        text = page.read_text("utf-8")
        assert text.count("for June") >= 1
        page.write_text(text.replace("12 examples", "21 examples", 1), "utf-8")
        assert cli.main(["report", *of, "--check", str(page)]) == 1
        said = " ".join(capsys.readouterr().out.split())
        assert "in one place" in said and "21 examples" in said and "12 examples" in said
        assert cli.main(["report", *of, "--check", str(page), "--json"]) == 1
        checked = document(capsys)["check"]
        assert checked["page"] == str(page) and len(checked["differences"]) == 1
    assert cli.main(["report", runs[1], "--check", str(tmp_path / "page.html")]) == 1


def test_evaluate_a_folder_of_classes(clothes, capsys):
    """Folders are read as the array was, whatever their order; what cannot be read is left out, and
    said.
    """
    words = ["--classes", str(clothes / "names.json"), *EVALUATE, "--json"]
    assert cli.main(["evaluate", "--data", str(clothes / "clothes.npz"), *words]) == 0
    array = document(capsys)["evaluation"]
    (clothes / "photos" / "broken").rmdir() if (clothes / "photos" / "broken").exists() else None
    assert cli.main(["evaluate", "--data", str(clothes / "photos"), *words]) == 0
    folder = document(capsys)["evaluation"]
    assert folder["classes"] == array["classes"]
    assert folder["attacks"][0]["gradients"] == array["attacks"][0]["gradients"]
    few = ["evaluate", "--data", str(clothes / "photos"), *words, "--count", "5"]
    assert cli.main(few) == 0  # the first of five classes, not five of the first
    classes = document(capsys)["evaluation"]["classes"]
    assert [entry["examples"] for entry in classes if entry["examples"]] == [1] * 5
    bad = next((clothes / "photos").iterdir()) / "bad.png"
    bad.write_bytes(b"no picture")
    assert cli.main(["evaluate", "--data", str(clothes / "photos"), *words]) == 1
    said = capsys.readouterr()
    assert json.loads(said.out)["unread"] == [str(bad)]
    assert "left out" in said.err
    bad.unlink()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--attack", "pdg"], "or pgd?"),
        (["--steps", "3"], "--steps belongs to an attack"),
        (["--count", "0"], "--count must be"),
        (["--data", "missing.npz"], "no such file"),
        (["--data", "names.json"], "no npz file of plain arrays"),
        (["--data", "empty.npz"], "it holds other"),
        (["--data", "."], "there is no class"),
        (["--data", "photos/Bag"], "found no folders"),
        (["--run", "missing/run.advex"], "no folder"),
        (["--epsilon", "inf", "--attack", "pgd"], "needs a limit"),
        (["--workers", "2"], "needs a run file"),
    ],
)
def test_evaluate_answers_wrong_words(clothes, monkeypatch, capsys, words, message):
    monkeypatch.chdir(clothes)
    np.savez("empty.npz", other=np.zeros(3))
    (clothes / "photos" / "Bag").mkdir(exist_ok=True)
    assert cli.main(["evaluate", "--data", "clothes.npz", "--epsilon", "4/255", *words]) == 2
    assert message in capsys.readouterr().err


GOALS = {
    "multilabel": (3, lambda said: (said > 0).astype("int64"), [], "flipped by FGSM"),
    "regression": (1, lambda said: said[:, 0], ["--off", "0.1"], "median"),
    "topk": (5, lambda said: said.argmax(1), ["--k", "2"], "of 8 examples"),
    "segmentation": (0, lambda said: said.argmax(-1), ["--share", "1/2"], "mean IoU"),
}


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    """A model and data for each kind of goal."""
    folder = tmp_path_factory.mktemp("tasks")
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).random((8, 6, 6, 1)).astype("float32")
    for name, (units, labels, _, _) in GOALS.items():
        image = keras.Input((6, 6, 1))
        flat = keras.layers.Flatten()(image)
        last = keras.layers.Dense(units, name="out") if units else keras.layers.Conv2D(3, 1)
        heads = {"wanted": last(flat if units else image)}
        if name == "regression":
            heads["other"] = keras.layers.Dense(4, name="other")(flat)
        else:
            heads = heads["wanted"]
        model = keras.Model(image, heads)
        model.save(folder / f"{name}.keras")
        said = model.predict(x, verbose=0)
        said = said["wanted"] if isinstance(said, dict) else said
        np.savez(folder / f"{name}.npz", x=x, labels=labels(said))
    return folder


@pytest.mark.parametrize("goal", GOALS)
def test_evaluate_other_goals(tasks, tmp_path, capsys, goal):
    words = ["--model", str(tasks / f"{goal}.keras"), "--data", str(tasks / f"{goal}.npz")]
    words += ["--epsilon", "0.1", "--attack", "fgsm", "--goal", goal, *GOALS[goal][2]]
    if goal == "regression":
        words += ["--output", "wanted"]
    run = str(tmp_path / "run.advex")
    assert cli.main(["evaluate", *words, "--run", run]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert GOALS[goal][3] in said
    assert "its checks are about the class of each example" in said
    assert cli.main(["report", run, "--json"]) == 0
    text = document(capsys)["evaluation"]["goal"]["text"]
    assert {"--off": "off=0.1", "--k": "k=2", "--share": "share=0.5"}.get(
        "".join(GOALS[goal][2][:1]), "flip='any'"
    ) in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--goal", "regression"], "how far is too far: --off 0.5"),
        (["--off", "1"], "--off belongs to --goal regression"),
        (["--goal", "multilabel", "--k", "1"], "--k belongs to --goal topk"),
        (["--goal", "segmentation", "--data", "photos"], "needs labels from an npz file"),
        (["--goal", "topk", "--k", "10"], "k must be at most 9"),
    ],
)
def test_evaluate_answers_wrong_goals(clothes, monkeypatch, capsys, words, message):
    monkeypatch.chdir(clothes)
    given = ["--data", "clothes.npz", "--epsilon", "4/255", "--attack", "fgsm", *words]
    assert cli.main(["evaluate", *given]) == 2
    assert message in capsys.readouterr().err


def test_report_answers_wrong_words(tmp_path, capsys):
    assert cli.main(["report", str(tmp_path / "run.advex")]) == 2
    assert "no such run file" in capsys.readouterr().err
