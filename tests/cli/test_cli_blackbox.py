"""A function in place of a model, as it is named on the command line."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

import advex
from advex import cli

CODE = """
import numpy as np

ASKED = []
WEIGHTS = np.random.default_rng(0).normal(size=(36, 3))
FAILS_AT = float("inf")


def scores(x):
    assert x.shape[1:] in ((6, 6), (6, 6, 1)) and x.dtype == "float32"
    ASKED.append(len(x))
    if sum(ASKED) > FAILS_AT:
        raise ConnectionError("503")
    return (x.reshape(len(x), 36) - 0.5) @ WEIGHTS


def predict(x):
    return scores(x).argmax(axis=1)


def names(x):
    return [("cat", "dog", "fish")[number] for number in predict(x)]


def coloured(x):
    assert x.shape[1:] == (6, 6, 3) and x.max() > 1
    return (x.mean(axis=(1, 2, 3)) > 127).astype(int)


class Judge:
    def predict(self, x):
        return predict(x)


class Refined:
    def predict_proba(self, x):
        return scores(x)


judge, refined, number = Judge(), Refined(), 3
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with modules, four pictures, and arrays of them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    (tmp_path / "oracle_of_mine.py").write_text(CODE)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "same.py").write_text(f"from beside import WEIGHTS\n{CODE}")
    (tmp_path / "sub" / "beside.py").write_text("WEIGHTS = None")
    (tmp_path / "broken_of_mine.py").write_text("import os\n\nlimit = 1 / 0\n")
    (tmp_path / "needy_of_mine.py").write_text("import no_such_package\n")
    (tmp_path / "leaving_of_mine.py").write_text("raise SystemExit('gone')\n")
    (tmp_path / "names.json").write_text('["cat", "dog", "fish"]')
    (tmp_path / "photos").mkdir()
    x = np.random.default_rng(1).integers(100, 156, (4, 6, 6)).astype("uint8")
    for number, picture in enumerate(x):
        Image.fromarray(picture).save(tmp_path / "photos" / f"{number}.png")
    np.savez("data.npz", x=x, labels=oracle().predict(x[..., None] / np.float32(255)))
    oracle().ASKED.clear()
    return tmp_path


def oracle():
    sys.path.insert(0, ".")
    try:
        return __import__("oracle_of_mine")
    finally:
        sys.path.remove(".")


def attack(*words):
    return cli.main(["attack", "photos", "--shape", "6x6x1", *map(str, words)])


def asked(capsys, *words, code=0):
    assert attack(*words, "--json") == code
    return json.loads(capsys.readouterr().out)


CGBA = ["--classes", "3", "--attack", "cgba", "--norm", "l2", "--epsilon", "inf", "--queries", 50]


def test_labels_of_a_function(place, capsys):
    report = asked(capsys, "--blackbox", "oracle_of_mine:predict", *CGBA)
    assert report["fooled"] == 4 and report["settings"]["model"] == "oracle_of_mine:predict"
    assert "answers='labels'" in report["settings"]["blackbox"]
    assert report["settings"]["attack_name"] == "CGBA (50 queries)"
    assert not any("--model" in note for note in report["notes"])
    for entry in report["images"]:
        assert entry["queries"] == 50 and entry["confidence"] is None
        before, after = (np.asarray(Image.open(entry[name])) for name in ("file", "output"))
        said = oracle().predict(np.stack([before, after])[..., None] / np.float32(255))
        assert [str(number) for number in said] == [entry["before"], entry["after"]]
        moved = np.linalg.norm(before.astype(float) - after) / 255
        assert moved == pytest.approx(entry["distance"], rel=1e-4)


def test_every_question_is_reported(place, capsys):
    """The function's own count: what the table says, and one for each file."""
    report = asked(capsys, "--blackbox", "oracle_of_mine:predict", *CGBA)
    assert sum(oracle().ASKED) == report["queries"] + 4 == 204
    assert attack("--blackbox", "oracle_of_mine:predict", *CGBA, "--overwrite") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "asked 200 queries, and once more about each of 4 files" in said
    assert "4 of 4 images fooled by CGBA (50 queries) in L2 without a limit" in said
    assert "confidence" not in said and "%" not in said and "nan" not in said


def test_the_same_as_in_python(place, capsys):
    report = asked(capsys, "--blackbox", "oracle_of_mine:predict", *CGBA)
    box = advex.BlackBox(oracle().predict, 3, answers="labels")
    x = np.load("data.npz")["x"][..., None]
    result = advex.CGBA(steps=50)(box, x, None, advex.L2())
    assert [entry["distance"] for entry in report["images"]] == result.distance.tolist()


def test_scores_of_a_function(place, capsys):
    words = ["--answers", "scores", "--attack", "square", "--epsilon", "0.2", "--classes", 3]
    report = asked(capsys, "--blackbox", "oracle_of_mine:scores", *words, "--queries", 100)
    assert report["fooled"] == 4
    assert all(0 < entry["confidence"] <= 1 for entry in report["images"])
    assert max(entry["queries"] for entry in report["images"]) <= 100
    assert attack("--blackbox", "oracle_of_mine:scores", *words, "--overwrite") == 0
    said = capsys.readouterr().out
    assert "%" in said and "queries" in said


@pytest.mark.parametrize(
    "named",
    ["oracle_of_mine.py:predict", "./oracle_of_mine.py:predict", "oracle_of_mine:judge.predict"],
)
def test_ways_to_name_a_function(place, capsys, named):
    report = asked(capsys, "--blackbox", named, *CGBA)
    assert report["fooled"] == 4


def test_a_file_elsewhere_with_another_beside_it(place, capsys):
    report = asked(capsys, "--blackbox", f"{place}/sub/same.py:predict", *CGBA)
    assert report["fooled"] == 4
    assert "same" not in sys.modules


def test_names_of_classes(place, capsys):
    """The function may answer with them, and a target be one."""
    words = ["--blackbox", "oracle_of_mine:names", *CGBA, "--classes", "names.json"]
    assert attack(*words, "--target", "fish", "--json") in (0, 1)
    report = json.loads(capsys.readouterr().out)
    assert {entry["status"] for entry in report["images"]} <= {"fooled", "already the target"}
    for entry in report["images"]:
        assert (entry["before"] == "fish") == (entry["status"] == "already the target")
        assert entry["after"] in ("fish", None)
        assert bool(entry["output"]) == (entry["status"] == "fooled")
        assert entry["queries"] == (1 if entry["status"] != "fooled" else 50)
    assert sum(oracle().ASKED) == report["queries"] + report["fooled"]


def test_pictures_without_channels_and_with_colours(place, capsys):
    report = asked(capsys, "--blackbox", "oracle_of_mine:predict", *CGBA, "--shape", "6x6")
    assert report["fooled"] == 4
    words = ["--blackbox", "oracle_of_mine:coloured", "--classes", 2, "--box", 0, 255]
    assert cli.main(["attack", "photos", *map(str, [*words, *CGBA[2:], "--overwrite"])]) in (0, 1)
    assert "of 4 images fooled by CGBA" in capsys.readouterr().out


@pytest.mark.parametrize("answers", ["labels", "scores"])
def test_what_was_found_stays_when_the_function_fails(place, capsys, monkeypatch, answers):
    monkeypatch.setattr(oracle(), "FAILS_AT", 150)
    named = {"labels": "predict", "scores": "scores"}[answers]
    words = ["--blackbox", f"oracle_of_mine:{named}", *CGBA, "--answers", answers]
    report = asked(capsys, *words, code=1)
    assert "failed with ConnectionError: 503." in report["stopped"]
    assert not report["success"] and report["fooled"] == 0
    found = [entry for entry in report["images"] if entry["output"]]
    assert found
    for entry in found:
        assert entry["status"] == "not verified" and entry["verified"] is None
        x = np.asarray(Image.open(entry["output"]))[None, ..., None] / np.float32(255)
        monkeypatch.setattr(oracle(), "FAILS_AT", float("inf"))
        assert str(oracle().predict(x)[0]) != entry["before"]
    monkeypatch.setattr(oracle(), "FAILS_AT", 150)
    oracle().ASKED.clear()
    assert attack(*words, "--overwrite") == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "Stopped: the function of --blackbox failed with ConnectionError" in said
    assert "Pictures in adversarial" in said and "Traceback" not in said


def test_a_function_that_fails_at_once(place, capsys, monkeypatch):
    monkeypatch.setattr(oracle(), "FAILS_AT", 0)
    assert attack("--blackbox", "oracle_of_mine:predict", *CGBA) == 2
    said = capsys.readouterr().err
    assert "failed with ConnectionError: 503. It was asked about an array (4, 6, 6, 1)" in said
    assert "Traceback" not in said


def test_a_function_that_fails_about_a_file(place, capsys, monkeypatch):
    monkeypatch.setattr(oracle(), "FAILS_AT", 201)
    report = asked(capsys, "--blackbox", "oracle_of_mine:predict", *CGBA, code=1)
    assert sum(bool(entry["output"]) for entry in report["images"]) == 4
    assert "503" in report["stopped"]


def test_interrupted(place, capsys, monkeypatch):
    module = oracle()

    def stops(x):
        if sum(module.ASKED) > 150:
            raise KeyboardInterrupt
        return module.scores(x).argmax(axis=1)

    monkeypatch.setattr(module, "predict", stops)
    assert attack("--blackbox", "oracle_of_mine:predict", *CGBA) == 130
    assert "interrupted; 4 pictures found until then: adversarial" in capsys.readouterr().err
    assert len(list((place / "adversarial").glob("?.png"))) == 4


def test_other_shapes_are_left_when_the_function_has_failed(place, capsys, monkeypatch):
    Image.fromarray(np.zeros((9, 9, 3), "uint8")).save("photos/9.png")
    module = oracle()

    def fails(x):
        if sum(module.ASKED) > 50:
            raise ValueError
        module.ASKED.append(len(x))
        return (x.mean(axis=(1, 2, 3)) > 0.5).astype(int)

    monkeypatch.setattr(module, "predict", fails)
    words = ["attack", "photos", "--blackbox", "oracle_of_mine:predict", *map(str, CGBA), "--json"]
    assert cli.main(words) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["images"][-1]["status"] == "stopped"


def test_the_usual_attack(place, capsys):
    words = ["--blackbox", "oracle_of_mine:predict", "--classes", 3, "--norm", "l2"]
    report = asked(capsys, *words, "--epsilon", "inf", "--queries", 50)
    assert report["fooled"] == 4 and "MinimumNorm" in report["settings"]["attack_name"]
    assert all(entry["queries"] <= 50 for entry in report["images"])
    assert asked(capsys, *words, "--epsilon", "3", "--overwrite")["fooled"] == 4


# Evaluations.


def evaluate(*words):
    given = ["evaluate", "--data", "data.npz", "--norm", "l2", "--epsilon", "inf"]
    return cli.main([*given, *map(str, words)])


def test_evaluate_goes_on_and_knows_its_function(place, capsys, monkeypatch):
    words = ["--shape", "6x6x1", *CGBA[:4], "--queries", 30, "--run", "run.advex"]
    words += ["--blackbox", "oracle_of_mine:predict"]
    assert evaluate(*words) == 0
    said = capsys.readouterr().out
    assert "0.0%: 0 of 4 examples not broken by CGBA within L2()" in said and "30.0" in said
    spent = sum(oracle().ASKED)
    assert evaluate(*words, "--json") == 0
    assert sum(oracle().ASKED) <= spent + 8  # a look at the first rows
    assert json.loads(capsys.readouterr().out)["evaluation"]["examples"] == 4
    assert evaluate(*words[:-1], "./oracle_of_mine.py:predict") == 0  # the same code
    capsys.readouterr()
    code = CODE.replace("return scores(x).argmax(axis=1)", "return scores(x).argmax(axis=-1)")
    (place / "oracle_of_mine.py").write_text(code)
    assert evaluate(*words[:-1], "./oracle_of_mine.py:predict") == 2
    assert "Changed: model" in capsys.readouterr().err


def test_evaluate_counts_all_but_the_doctors_questions(place, capsys):
    words = ["--blackbox", "oracle_of_mine:predict", *CGBA[:4], "--no-doctor", "--json"]
    assert evaluate(*words, "--shape", "6x6x1", "--queries", 30) == 0
    found = json.loads(capsys.readouterr().out)["evaluation"]
    assert found["attacks"][0]["queries"] == 4 * 30
    assert 4 * 30 <= sum(oracle().ASKED) <= 4 * 32


def test_evaluate_a_function_that_fails(place, capsys, monkeypatch):
    monkeypatch.setattr(oracle(), "FAILS_AT", 20)
    words = ["--blackbox", "oracle_of_mine:predict", *CGBA[:4], "--shape", "6x6x1"]
    assert evaluate(*words, "--queries", 30) == 2
    said = capsys.readouterr().err
    assert "the function of --blackbox failed with ConnectionError: 503" in said
    assert "Traceback" not in said


def test_evaluate_with_the_usual_attack(place, capsys):
    words = ["--blackbox", "oracle_of_mine:predict", "--classes", 3, "--shape", "6x6x1"]
    assert evaluate(*words, "--queries", 30, "--json") == 0
    assert json.loads(capsys.readouterr().out)["evaluation"]["attacks"][0]["queries"] <= 4 * 30


# What is wrong.


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("oracle_of_mine", "a module and a function in it are needed"),
        (":predict", "a module and a function in it are needed"),
        ("oracle_of_mine:", "a module and a function in it are needed"),
        ("nothing_of_mine:f", "there is no module nothing_of_mine in this folder, which has"),
        ("oracle_of_mine:predct", "has no predct; it has predict"),
        ("oracle_of_mine:judge.predct", "the Judge in oracle_of_mine"),
        ("oracle_of_mine:number", "is no function but 3"),
        ("oracle_of_mine:Judge", "is a class; a function is needed"),
        ("broken_of_mine:f", "broken_of_mine.py, line 3: ZeroDivisionError: division by zero"),
        ("broken_of_mine.py:f", "broken_of_mine.py, line 3: ZeroDivisionError: division by zero"),
        ("needy_of_mine:f", "line 1: ModuleNotFoundError: No module named 'no_such_package'"),
        ("leaving_of_mine:f", "SystemExit: gone"),
        ("missing.py:f", "no such file; beside it: broken_of_mine.py"),
        ("./photos:f", "./photos is a folder"),
        ("os.nothing:f", "there is no module os.nothing"),
        ("x" * 5000 + ":f", "there is no module"),
        ("a\0b:f", "a module and a function in it are needed"),
    ],
    ids=lambda value: value[:24].replace("\0", "NUL"),
)
def test_functions_that_are_none(place, capsys, named, said):
    assert attack("--blackbox", named, *CGBA) == 2
    captured = capsys.readouterr()
    assert said in captured.err and "Traceback" not in captured.err and not captured.out
    assert len(captured.err.splitlines()) == 1
    assert not (place / "adversarial").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--classes", "3", "--model", "m.keras"], "leave out --model m.keras"),
        (["--classes", "1"], "--classes must be at least 2; received 1"),
        (["--classes", "9" * 50], "--classes: no function tells 1,000,000 classes apart"),
        (["--classes", "no.json"], "no such file"),
        (["--classes", "3", "--queries", "0"], "--queries must be at least 1"),
        (["--classes", "3", "--shape", "6x6x2"], "'6x6x2' is not the shape of a picture"),
        (["--classes", "3", "--shape", "0x6"], "'0x6' is not the shape of a picture"),
        (["--classes", "3", "--shape", "six"], "'six' is not the shape of a picture"),
        (["--classes", "3", "--answers", "words"], "invalid choice"),
        (["--classes", "3", "--attack", "cgbo"], "did you mean cgba"),
        (["--classes", "3", "--box", "1", "0"], "box must be"),
    ],
    ids=lambda value: " ".join(value)[:30] if isinstance(value, list) else "",
)
def test_wrong_words_beside_a_function(place, capsys, words, said):
    norm = ["--norm", "l2", "--epsilon", "inf", "--queries", "5", "--attack", "cgba"]
    assert attack("--blackbox", "oracle_of_mine:predict", *norm, *words) == 2
    captured = capsys.readouterr()
    assert said in captured.err and "Traceback" not in captured.err
    assert not (place / "adversarial").exists()


@pytest.mark.parametrize("name", ["--answers=labels", "--shape=6x6"])
def test_what_belongs_to_a_function(place, capsys, name):
    assert cli.main(["attack", "photos", name]) == 2
    assert f"{name.partition('=')[0]} belongs to --blackbox" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--workers=2", "--output=a", "--perturb=a"])
def test_what_belongs_to_a_model(place, capsys, option):
    assert evaluate("--blackbox", "oracle_of_mine:predict", "--classes", 3, option) == 2
    assert f"{option.partition('=')[0]} belongs to a model" in capsys.readouterr().err
