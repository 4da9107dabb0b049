"""What pages say is printed is printed, and their tables have every attack."""

import contextlib
import io
import re
import runpy
import sys
import types
import warnings
from pathlib import Path

import keras
import pytest

import advex
from advex.doctor import CHECKS
from advex.doctor.examination import Examination
from advex.errors import AdvexWarning
from advex.model.classifier import Classifier

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
FENCES = re.compile(r"^```(\w+)[ ]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def pattern(text):
    """Of a text in which ``...`` stands for anything and line ends do not count."""
    return r"\s+".join(".*?".join(map(re.escape, word.split("..."))) for word in text.split())


def test_the_pattern():
    assert re.search(pattern("a b ...\nc"), "x a\nb 1 2 c", re.DOTALL)
    assert not re.search(pattern("a b c"), "a c b", re.DOTALL)


@pytest.mark.parametrize("name", ["troubleshooting.md"])
def test_printed_as_shown(name, tmp_path, monkeypatch):
    """Each block of text that follows code is what that code prints, as far as it goes."""
    if keras.backend.backend() != "tensorflow":
        pytest.skip("the page shows what TensorFlow answers")
    monkeypatch.chdir(tmp_path)
    module = types.ModuleType(f"page_{Path(name).stem}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    said, compared = None, 0
    for kind, code in FENCES.findall((DOCS / name).read_text(encoding="utf-8")):
        if kind == "python":
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                exec(compile(code, name, "exec"), vars(module))
            said = printed.getvalue()
        elif kind == "text" and said is not None:
            assert re.search(pattern(code), said, re.DOTALL), f"{name} shows\n{code}\nnot\n{said}"
            compared += 1
        if kind != "python":
            said = None
    assert compared >= 10


def rows(text):
    """The first cells of the tables in a text."""
    return {
        cell.strip(" `").partition("(")[0]
        for cell in re.findall(r"^\| (`[^|]+`) \|", text, re.MULTILINE)
    }


def public():
    """Every name that can be called like an attack."""
    names = {
        name
        for name in advex.__all__
        if isinstance(getattr(advex, name), type) and issubclass(getattr(advex, name), advex.Attack)
    }
    return (names - {"Attack"}) | {"fine"}


def test_every_attack_has_a_place_in_the_choice():
    text = (DOCS / "which_attack.md").read_text(encoding="utf-8")
    tables = text.partition("## All attacks")[2].partition("## Papers")[0]
    assert public() <= set(re.findall(r"`(\w+)", tables))


def test_the_gallery_has_every_attack_in_every_norm_it_knows():
    made = runpy.run_path(str(ROOT / "examples" / "make_gallery.py"))
    text = (DOCS / "gallery.md").read_text(encoding="utf-8")
    assert set(made["names"]()) == public()
    parts = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    for budget in made["BUDGETS"]:
        section = parts[type(budget).__name__]
        assert rows(section) == set(made["in_norm"](budget)), type(budget)
        absent = set(re.findall(r"`(\w+)`", section.partition("No form in")[2]))
        assert rows(section) | absent | set(made["MAPS"]) == public()
        picture = re.search(r"\((pictures/pages/gallery_\w+\.png)\)", section)[1]
        assert (DOCS / picture).exists()
    assert set(made["MAPS"]) <= set(re.findall(r"`(\w+)`", parts["Not in the tables"]))


def test_every_picture_is_shown_and_has_words():
    """Those of single pages: none is left over, each has an alternative text, none is huge."""
    pages = "".join(page.read_text(encoding="utf-8") for page in DOCS.glob("*.md"))
    shown = dict(re.findall(r"!\[([^\]]*)\]\(pictures/pages/([\w.]+)\)", pages))
    kept = {path.name: path.stat().st_size for path in (DOCS / "pictures" / "pages").iterdir()}
    assert set(shown.values()) == set(kept)
    assert all(len(words.split()) >= 6 for words in shown)
    assert all(
        size < (400_000 if name.endswith(".jpg") else 100_000) for name, size in kept.items()
    )


# The doctor's checks, one by one

REPORT = DOCS / "reading_a_report.md"
NOTED = ("D14", "D15")  # never fire
SHOWN = dict(
    re.findall(
        r"^### (D\d+) .*?^```text\n(.*?)^```",
        REPORT.read_text(encoding="utf-8"),
        re.MULTILINE | re.DOTALL,
    )
)


@pytest.fixture(scope="module")
def page():
    """What the section defines: for each check a model, inputs, labels and a budget."""
    module = types.ModuleType("page_reading_a_report")
    module.advex = advex
    section = REPORT.read_text(encoding="utf-8").partition("## The doctor's checks")[2]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, module.__name__, module)
        for kind, code in FENCES.findall(section):
            if kind == "python" and "print(" not in code:
                exec(compile(code, str(REPORT), "exec"), vars(module))
    return module


def looked_at(name, model, x, labels, budget):
    """What one check finds, asked alone; D5 waits for D4, others for D1."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AdvexWarning)
        exam = Examination(Classifier.of(model), x, labels.astype("int32"), budget, 0, None)
        for asked in dict.fromkeys(("D4", "D1", name)):
            exam.findings[asked] = CHECKS[asked](exam)
    return exam.findings[name]


@pytest.mark.parametrize("name", CHECKS)
def test_a_model_on_the_page_fires_each_check(page, name):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("the page shows what TensorFlow answers")
    finding = looked_at(name, *page.cases[name])
    assert finding.status == ("noted" if name in NOTED else "flag"), finding
    assert re.search(pattern(SHOWN[name]), finding.found, re.DOTALL), finding.found


@pytest.mark.parametrize("name", CHECKS)
def test_no_check_fires_on_the_model_before_them(page, name):
    finding = looked_at(name, page.honest, page.x, page.labels, page.budget)
    assert finding.status in ("ok", "not run")
