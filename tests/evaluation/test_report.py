"""The page: whole, alone, legible without eyes, colours or scripts, and never more certain than the
run.
"""

import ast
import builtins
import html.parser
import itertools
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import advex
from advex import report, zoo
from advex.doctor import CHECKS
from advex.doctor.checks import Outcome
from advex.errors import InvalidInput
from advex.evaluation import Diagnosis, Evaluation, page
from advex.evaluation.page import curve_chart, numbers, pictures, repeat
from advex.evaluation.store import Store
from advex.evaluation.values import packed

VOID = {"meta", "link", "br", "img", "hr", "input", "col"}
HEADINGS = {"h1", "h2", "h3", "h4", "h5", "h6"}


class Page(html.parser.HTMLParser):
    """The page taken apart; broken nesting is an error."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.texts = [], [], []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs), tuple(self.open)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs), tuple(self.open)))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> closes another"

    def handle_data(self, data):
        if "style" not in self.open:
            self.texts.append(data)

    @property
    def text(self):
        return " ".join("".join(self.texts).split())

    def all(self, tag):
        return [attributes for name, attributes, _ in self.tags if name == tag]


def checked(evaluation):
    """The page of a run, after everything that holds for every page."""
    text = report.html(evaluation)
    page = Page(text)
    names = [tag for tag, _, _ in page.tags]
    # Alone.
    assert not {"script", "iframe", "object", "embed", "base", "form", "audio", "video"} & set(
        names
    )
    for _, attributes, _ in page.tags:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "xlink:href", "srcset", "action", "data", "poster"):
            assert re.match(r"data:image/png;base64,|data:,$|#", attributes.get(name, "#")), (
                attributes
            )
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style and "@import" not in style and "@font-face" not in style
    assert "default-src 'none'" in text
    # Legible.
    assert (
        text.startswith("<!DOCTYPE html>")
        and page.all("html") == [{"lang": "en"}]
        and page.all("meta")[0] == {"charset": "utf-8"}
    )
    ids = [attributes["id"] for _, attributes, _ in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes, _ in page.tags:
        assert set(attributes.get("aria-labelledby", "").split()) <= set(ids)
        for name in ("style", "clip-path", "fill", "mask"):
            assert set(re.findall(r"url\(#([^)]*)\)", attributes.get(name, ""))) <= set(ids)
        assert not attributes.get("href", "").startswith("#") or attributes["href"][1:] in ids
    levels = [int(name[1]) for name in names if name in HEADINGS]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert all(attributes.get("alt") for attributes in page.all("img"))
    assert all(attributes.get("scope") in ("row", "col") for attributes in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))
    drawn = [attributes.get("style", "") for _, attributes, around in page.tags if "svg" in around]
    # the page's alone
    assert not re.findall(
        r"#\w+(?!\w*\))", " ".join(re.sub(r"url\(.*?\)", "", style) for style in drawn)
    )
    for attributes in page.all("svg"):
        assert attributes["role"] == "img" and attributes["aria-labelledby"]
    # Honest.
    assert "robust" not in text.lower()
    assert not re.search(r"\b(nan|inf|None(?! of)|undefined)\b", page.text.partition("To cite")[0])
    ast.parse(repeat.snippet(evaluation))
    few = Page(report.fragment(evaluation))
    assert (
        "robust" not in report.fragment(evaluation).lower()
        and not few.all("h1")
        and not few.all("svg")
    )
    return page


# Runs.


@pytest.fixture(scope="module")
def case():
    return zoo.fashion_mnist(), *zoo.fashion_images()


@pytest.fixture(scope="module")
def run(case):
    model, x, labels = case
    attacks = [advex.PGD(steps=10), advex.SquareAttack(steps=100)]
    return advex.evaluate(
        model, (x, labels), attacks, advex.Linf(4 / 255), batch_size=16, block=32, diagnose=False
    )


def finding(name="D3", status="flag", found="7 of 12 lie"):
    return CHECKS[name].finding(Outcome(status, found, {}))


def diagnosis(**status):
    """All checks are ok but those that are named."""
    findings = tuple(finding(name, status.get(name, "ok"), f"what {name} saw") for name in CHECKS)
    return Diagnosis(findings, 12, "Linf(4/255)", 0, 34, 56)


def told(evaluation, **facts):
    """The same run with other entries in its table of facts."""
    changed = Evaluation(evaluation.path, evaluation._file.store)
    changed.facts = evaluation.facts | facts
    return changed


def made(
    classes=3,
    count=30,
    *,
    status=None,
    names=None,
    finished=True,
    attacks=("PGD",),
    epsilon=4 / 255,
    inputs=None,
    seed=0,
):
    """A run written by hand. ``status(attack, example)`` says what an attack did; None: it has not
    come so far.
    """
    random = np.random.default_rng(seed)
    store = Store(None, write=True)
    status = status or (lambda attack, example: ("broken", "held")[(example + attack) % 2])
    shape = inputs or (4, 5, 1)
    identity = {
        "advex": "1",
        "keras": "3",
        "backend": "tensorflow 2",
        "model": "Functional of 3 layers, 0123",
        "weights": "aa",
        "box": [0.0, 1.0],
        "preprocess": "",
        "classes": names or [],
        "attacks": {},
        "budget": "Linf(4/255)" if epsilon else "Linf()",
        "seed": 0,
        "batch_size": None,
        "block": None,
        "keep": "none",
        "data": None,
    }
    facts = {
        "identity": identity,
        "inputs": f"float32 {json.dumps(shape)}",
        "block": 8,
        "norm": "Linf",
        "epsilon": epsilon,
        "model": "Classifier('by hand', box=(0.0, 1.0))",
        "classes": names,
        "versions": {"advex": "1", "keras": "3", "tensorflow": "2", "numpy": "2"},
        "began": "2026-01-01 00:00:00 UTC",
        "finished": finished,
    }
    with store.transaction():
        store.state(facts)
        store.insert(
            "attacks", [(number, name, f"{name}()") for number, name in enumerate(attacks)]
        )
        store.insert("blocks", [(0, 0, count, "digest", count, 0.5)] if count else [])
        store.insert(
            "examples",
            [
                (number, number % classes, number % classes, 0.9, "correct")
                for number in range(count)
            ],
        )
        for attack in range(len(attacks)):
            store.insert("work", [(0, attack, 2, 0.25, json.dumps(["a <warning>"]))])
            rows = [(number, status(attack, number)) for number in range(count)]
            rows = [(number, what) for number, what in rows if what is not None]
            far = [
                random.uniform(0, epsilon or 0.2) if what == "broken" else None for _, what in rows
            ]
            store.insert(
                "verdicts",
                [
                    (
                        attack,
                        number,
                        what,
                        distance,
                        (number + 1) % classes,
                        0.7,
                        3,
                        4,
                        0.01,
                        "",
                        None,
                    )
                    for (number, what), distance in zip(rows, far, strict=True)
                ],
            )
            broken = sorted(
                (distance, number)
                for (number, _), distance in zip(rows, far, strict=True)
                if distance is not None
            )
            for place, few in (("nearest", broken[:4]), ("farthest", broken[-4:])):
                before = random.random(shape).astype("float32")
                after = np.clip(before + 0.01, 0, 1)
                store.insert(
                    "pictures",
                    [
                        (place, attack, number, far, packed(before), packed(after))
                        for far, number in few
                    ],
                )
    return Evaluation(None, store)


# The page.


@pytest.mark.parametrize("wrong", [1, 3])
def test_what_was_wrong_before_is_counted_apart(wrong, case):
    model, x, labels = case
    labels = np.where(np.arange(len(x)) < wrong, (labels + 1) % 10, labels)
    budget = advex.Linf(4 / 255)
    found = advex.evaluate(model, (x, labels), advex.FGSM(), budget, diagnose=False)
    assert found.wrong == found.to_dict()["wrong"] == wrong
    page = checked(found)
    was = "was" if wrong == 1 else "were"
    assert f". Of the others {wrong} {was} wrong before any attack." in page.text
    said = f"right without attack ({wrong} wrong before)"
    assert said in Page(report.fragment(found)).text
    assert said in page.text.partition("To cite")[2]


def test_a_real_run(run, case):
    page = checked(run)
    share = numbers.percent(run.robust_accuracy)
    assert f"{share} not broken by PGD, SquareAttack within Linf(4/255)" in page.text
    assert "wrong before" not in page.text
    assert (
        f"95 % interval {numbers.percent(run.interval[0])} to {numbers.percent(run.interval[1])}"
        in page.text
    )
    assert (
        "upper bound" in page.text
        and "The doctor has not looked" in page.text
        and "Unfinished" not in page.text
    )
    for text in (
        run.hashes["weights"],
        run.hashes["data"],
        run.versions["advex"],
        "SquareAttack(steps=100",
        run.facts["began"],
    ):
        assert text in page.text
    for attack in run.attacks:
        assert str(attack.broken) in page.text
    assert (
        page.text.index("Accuracy over epsilon")
        < page.text.index("Each class")
        < page.text.index("Which attack broke what")
    )
    assert (
        page.text.index("farthest")
        < page.text.index("What the doctor found")
        < page.text.index("What it cost")
    )
    assert page.text.index("What it cost") < page.text.index("To cite and to repeat")
    assert len(page.all("svg")) == 2 and len(page.all("img")) == 3 * len(
        run.pairs("nearest")
    ) + 3 * len(
        {pair.example for pair in run.pairs("farthest")}
        - {pair.example for pair in run.pairs("nearest")}
    )
    assert all(attributes["class"] == "pixelated" for attributes in page.all("img"))
    assert report.html(run) == report.html(run)


def test_the_code_on_the_page_repeats_the_run(run, case):
    model, x, labels = case
    code = repeat.snippet(run)
    assert code.count("model = ...") == 1 and code.count("x, labels = ..., ...") == 1
    code = (
        code.replace("model = ...", "")
        .replace("x, labels = ..., ...", "")
        .replace("print(found)", "")
    )
    space = {"model": model.model, "x": x, "labels": labels}
    exec(code, space)
    again = space["found"]
    assert (
        again.robust_accuracy == run.robust_accuracy
        and again.hashes == run.hashes
        and again.names == run.names
    )
    assert (again.matrix == run.matrix).all() and repeat.snippet(again) == repeat.snippet(run)


def test_settings_become_code():
    assert (
        repeat._code("FMN(steps=300, patience=None, loss=boundary)")
        == "advex.FMN(steps=300, patience=None)"
    )
    assert repeat._code("FMN(loss=mine)") == "advex.FMN(loss=mine)"
    assert repeat._code(repr(advex.Ensemble(advex.PGD(), advex.FGSM()))).startswith(
        "advex.Ensemble(advex.PGD(steps=40"
    )
    assert repeat._code("PGD(loss=<function mine>)").startswith("...  # PGD(loss=<function mine>)")
    odd = {"PGD": "PGD(loss=<function mine at\n0x1>)", "Mine": "Mine(steps=3, loss=theirs)"}
    run = made(attacks=tuple(odd))
    run.attacks = [replace(attack, settings=odd[attack.name]) for attack in run.attacks]
    assert "# from your own code: Mine, theirs" in repeat.snippet(run)
    checked(run)
    for attack in (
        advex.attacks.Verdict(),
        advex.MinimumNorm(),
        advex.Restarts(advex.PGD(step_size=advex.LinearDecay()), 3),
    ):
        assert repr(eval(repeat._code(repr(attack)))) == repr(attack)


def test_flags_stand_beside_the_headline(run):
    found = told(
        run, diagnosis=diagnosis(D3="flag", D8="flag", D10="not run", D15="noted").to_dict()
    )
    page = checked(found)
    top = page.text.partition("Accuracy over epsilon")[0]
    assert (
        "2 flags" in top
        and "D3 gradient lies: what D3 saw" in top
        and "D8 black box wins: what D8 saw" in top
    )
    assert "Not run: D10 not converged." in top and "D15" not in top
    rest = page.text.partition("What the doctor found")[2]
    assert all(f"{name} {CHECKS[name].name}" in rest for name in CHECKS)
    for words in (
        "▲ flag",
        "✓ ok",
        f"{numbers.NONE} not run",
        "• noted",
        CHECKS["D3"].means,
        CHECKS["D8"].advice,
    ):
        assert words in rest
    few = Page(report.fragment(found)).text
    assert "Flag D3 gradient lies: what D3 saw" in few and "Not run: D10 not converged" in few


def test_no_flags(run):
    page = checked(told(run, diagnosis=diagnosis().to_dict()))
    assert (
        "No flags" in page.text
        and "has not looked" not in page.text
        and "All checks were run." in page.text
    )


def test_what_few_examples_say_without_a_limit(run):
    sample = {"attack": "FMN(steps=100)", "distances": [0.001, 0.02, 0.05, None]}
    page = checked(told(run, sample=sample))
    assert (
        len(page.all("svg")) == 3
        and "The 4 correctly classified examples that the doctor looked at" in page.text
    )


def test_what_users_wrote_is_text_and_nothing_else():
    bad = "<script>alert('x')</script>"
    names = [bad, '"><img src=x onerror=y>', '$x^2$ & ]]> --> 猫 id="classes" url(#p) #010101']
    run = made(names=names, attacks=(bad, "{{ 7 * 7 }}"))
    page = checked(
        told(run, diagnosis=Diagnosis((finding(found=bad),), 1, bad, 0, 0, 0).to_dict(), model=bad)
    )
    assert bad in page.text and "{{ 7 * 7 }}" in page.text and "a <warning>" in page.text
    assert names[1] in page.text and names[2] in page.text
    assert bad not in report.html(run) and bad not in report.fragment(run)


def test_an_unfinished_run():
    run = made(
        finished=False,
        attacks=("PGD", "FGSM"),
        status=lambda attack, example: "held" if example < 20 - 5 * attack else None,
    )
    page = checked(run)
    top = page.text.partition("Accuracy over epsilon")[0]
    assert "Unfinished." in top and "15 more examples are waiting" in top and "Result so far" in top
    assert "Unfinished." in Page(report.fragment(run)).text


def test_a_run_that_has_just_begun():
    page = checked(told(made(count=0, finished=False), inputs=None, block=None))
    assert (
        "No example has been attacked" in page.text
        and not page.all("svg")
        and "nothing to cite" in page.text
    )


def test_undecided_and_invalid_examples_are_named():
    run = made(status=lambda attack, example: "fragile" if example < 2 else "held")
    with run._file.store.transaction():
        run._file.store.database.execute(
            "UPDATE examples SET status = 'invalid', confidence = NULL WHERE id > 26"
        )
        run._file.store.database.execute("DELETE FROM verdicts WHERE example > 26")
    page = checked(run)
    assert re.search(r"undecided\s*2\s*invalid\s*3\b", page.text) and "In no figure." in page.text


def test_nothing_broken():
    page = checked(made(status=lambda attack, example: "held"))
    assert (
        "No attack broke an example" in page.text
        and not page.all("img")
        and "100.0% not broken" in page.text
    )


def test_everything_broken():
    page = checked(made(status=lambda attack, example: "broken", attacks=("PGD", "FGSM")))
    assert "0.0% not broken" in page.text and "30 (100.0%)" in page.text
    assert len(page.all("img")) == 24


def test_inputs_that_are_not_pictures():
    page = checked(made(inputs=(7,)))
    assert "The inputs (shape 7) are not pictures." in page.text and not page.all("img")
    assert re.search(r"Example \d+: \d → \d with confidence 70.0%", page.text)


@pytest.mark.parametrize("count", [1, 2, 30, 31, 1000])
def test_any_number_of_classes(count):
    names = [f"class {number} {'of a long name' * (number % 3)}" for number in range(count)]
    run = made(classes=count, count=2 * count + 3, names=names)
    page = checked(run)
    assert all(name in page.text for name in names)
    assert ("15 weakest and the 15 strongest" in page.text) == (count > 30)
    assert len(page.all("svg")) == (2 if count > 1 else 1)


def test_a_budget_without_a_limit():
    page = checked(made(epsilon=None, status=lambda attack, example: "broken"))
    assert (
        "median of the smallest changes found" in page.text and "a change of any size" in page.text
    )
    checked(made(epsilon=None, status=lambda attack, example: "held"))


def test_nothing_is_rounded_to_all_or_nothing():
    run = made(count=3000, status=lambda attack, example: "broken" if example == 7 else "held")
    page = checked(run)
    assert ">99.9% not broken" in page.text and "100.0% not broken" not in page.text


def test_a_long_curve_is_a_short_line():
    distances = np.sort(np.random.default_rng(0).random(50_000)) * 0.2
    curve = advex.evaluation.Curve(distances, "Linf")
    x, y = curve_chart._points(curve, 0.25)
    assert len(x) < 400 and (np.diff(y) <= 0).all() and y[0] == 100 and y[-1] == 0
    assert (
        max(abs(share - 100 * curve.at(radius)) for radius, share in zip(x, y, strict=True)) < 1e-9
    )


@pytest.mark.parametrize("end", [1e-9, 1 / 255, 0.03, 8 / 255, 0.1, 1.0, 3.0, 17.5, 784.0])
def test_marks_are_few_and_inside(end):
    for levels, whole in ((False, False), (True, False), (False, True)):
        found = curve_chart.marks(end, levels=levels, whole=whole)
        assert (
            1 <= len(found) <= 8
            and found[0] == 0
            and max(found) <= end
            and found == sorted(set(found))
        )


# Pictures.


def decoded(uri):
    import base64
    import io

    from PIL import Image

    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as picture:
        return np.asarray(picture)


@pytest.mark.parametrize(
    ("dtype", "box"), [("uint8", (0.0, 1.0)), ("float32", (-1.0, 1.0)), ("float32", (0.0, 255.0))]
)
@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 1), (6, 5, 3)])
def test_pictures_show_the_very_pixels(dtype, box, shape):
    random = np.random.default_rng(0)
    before = random.integers(20, 200, shape).astype("uint8")
    after = (before + random.integers(-3, 4, shape)).astype("uint8")
    low, high = box
    inputs = [
        level if dtype == "uint8" else (level / 255.0 * (high - low) + low).astype(dtype)
        for level in (before, after)
    ]
    pair = advex.evaluation.Pair(3, "PGD", 3 / 255, "cat", "dog", 0.5, *inputs)
    shown = pictures._shown(pair, box, "Linf")
    flat = [value[..., 0] if value.shape[-1] == 1 else value for value in (before, after)]
    assert (decoded(shown["before"]) == flat[0]).all() and (
        decoded(shown["after"]) == flat[1]
    ).all()
    assert shown["factor"] == "10" and shown["pixelated"] and shown["distance"] == "3/255 in Linf"
    assert (decoded(shown["change"]) == 128 + 10 * (flat[1].astype(int) - flat[0])).all()


def test_large_changes_are_scaled_and_it_is_said():
    black, white = np.zeros((4, 4), "float32"), np.ones((4, 4), "float32")
    shown = pictures._shown(
        advex.evaluation.Pair(0, "PGD", 1.0, "a", "b", 0.5, black, white), (0.0, 1.0), "Linf"
    )
    assert shown["factor"] == "0.5" and (decoded(shown["change"]) == 255).all()


def test_large_pictures_are_shown_smaller():
    large = np.zeros((1000, 500, 3), "uint8")
    shown = pictures._shown(
        advex.evaluation.Pair(0, "PGD", 1.0, "a", "b", 0.5, large, large), (0.0, 1.0), "Linf"
    )
    assert (
        decoded(shown["before"]).shape == (448, 224, 3)
        and shown["reduced"]
        and not shown["pixelated"]
    )


# The file.


def test_the_file_is_whole_or_absent(tmp_path, monkeypatch):
    run, path = made(), tmp_path / "page.html"
    assert run.report(path) == path
    assert path.read_text("utf-8") == report.html(run)
    with pytest.raises(InvalidInput, match="overwrite=True"):
        run.report(path)
    path.write_text("old")
    run.report(path, overwrite=True)
    assert path.read_text("utf-8").startswith("<!DOCTYPE html>")
    monkeypatch.setattr(page, "html", lambda _: 1 / 0)
    other = tmp_path / "other.html"
    with pytest.raises(ZeroDivisionError):
        report.write(run, other)
    assert [entry.name for entry in tmp_path.iterdir()] == ["page.html"]
    with pytest.raises(OSError, match="nowhere"):
        report.write(run, Path(tmp_path / "nowhere" / "page.html"))


@pytest.mark.parametrize("missing", ["jinja2", "matplotlib"])
def test_a_missing_package_is_named(tmp_path, monkeypatch, missing):
    for name in [name for name in sys.modules if name.partition(".")[0] == missing]:
        monkeypatch.delitem(sys.modules, name)
    real = builtins.__import__

    def without(name, *rest):
        if name.partition(".")[0] == missing:
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    run = made()
    with pytest.raises(ImportError, match=r"advex\[report\]"):
        report.write(run, tmp_path / "page.html")
    assert not list(tmp_path.iterdir())
    few = report.fragment(run)
    assert few.startswith("<pre>") == (missing == "jinja2") and "&lt;warning&gt;" in few
    Page(few)
