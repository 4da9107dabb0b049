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

import keras
import numpy as np
import pytest

import advex
from advex import report, zoo
from advex.doctor import CHECKS
from advex.doctor.checks import Outcome
from advex.errors import InvalidInput, InvalidType
from advex.evaluation import Diagnosis, Evaluation, curves, page
from advex.evaluation.page import (
    attack_table,
    cite,
    class_chart,
    content,
    curve_chart,
    drawing,
    listing,
    numbers,
    pictures,
    questions,
    repeat,
)
from advex.evaluation.store import Store
from advex.evaluation.values import packed

VOID = {"meta", "link", "br", "img", "hr", "input", "col"}
VERDICT = re.compile(r"\b(?:is|was) robust\b|\brobust (?:model|network|classifier)s?\b", re.I)
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
            assert re.match(r"data:image/png;base64,|data:,$|#", attributes.get(name, "#")) or (
                "download" in attributes
                and re.match(r"data:(application/json|text/csv);base64,", attributes[name])
            ), attributes
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
    assert not VERDICT.search(page.text)
    assert not re.search(r"\b(nan|inf|None(?! of)|undefined)\b", page.text.partition("To cite")[0])
    ast.parse(repeat.snippet(evaluation))
    few = Page(report.fragment(evaluation))
    assert not VERDICT.search(few.text) and not few.all("h1")
    assert all(attributes.get("alt") for attributes in few.all("img"))
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
    said = f"Clean accuracy {found.clean_accuracy:.1%} ({wrong} wrong before)"
    assert said in Page(report.fragment(found)).text
    assert said in page.text.partition("To cite")[2]


def test_a_real_run(run, case):
    page = checked(run)
    share = numbers.percent(run.robust_accuracy)
    held = round(run.robust_accuracy * 32)
    assert f"Robust accuracy ≤{share}" in page.text
    assert (
        f"{held} of 32 examples were not broken by PGD and SquareAttack within Linf(4/255)"
        in page.text
    )
    assert (
        "Threat model: white box, Linf(4/255)."
        " Every pixel may change by up to 4 of 255 grey levels." in page.text
    )
    assert "wrong before" not in page.text and not re.search(r"\d %", page.text)
    assert (
        f"95% interval {numbers.percent(run.interval[0])} to {numbers.percent(run.interval[1])}"
        in page.text
    )
    assert "small sample: 32" in page.text
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
    order = [
        "Robust accuracy over epsilon",
        "Each class",
        "Which attack broke what",
        "Examples that broke, and examples that held",
        "What the doctor found",
        "What it cost",
        "To cite and to repeat",
    ]
    places = [page.text.index(heading) for heading in order]
    assert places == sorted(places)
    broken = {pair.example for end in ("nearest", "farthest") for pair in run.pairs(end)}
    held = run.pairs("held")
    assert len(held) == 4 and all(not run.broken[pair.example] for pair in held)
    assert len(page.all("svg")) == 2 and len(page.all("img")) == 3 * len(broken) + len(held)
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


FLAGGED = {"D3": "flag", "D8": "flag", "D10": "not run", "D15": "noted"}


def test_flags_stand_beside_the_headline(run):
    found = told(run, diagnosis=diagnosis(**FLAGGED).to_dict())
    page = checked(found)
    top = page.text.partition("over epsilon")[0]
    assert "2 flags: the figure may be too kind" in top
    for name in ("D3", "D8"):
        check = CHECKS[name]
        assert f"{name} {check.name}: What {name} saw. What to do: {check.advice}" in top
        assert {"href": f"#{name}"} in page.all("a")
    assert "Not run: D10 not converged." in top and "D15" not in top
    rest = page.text.partition("What the doctor found")[2]
    assert all(f"{name} {CHECKS[name].name}" in rest for name in CHECKS)
    for words in (
        r"Do the gradients tell the truth\?\s*D3 gradient lies\s*▲ flag\s*No\. What D3 saw\.",
        r"Is there a gradient to follow\?\s*D1 no gradient\s*✓ passed\s*Yes\. What D1 saw\.",
        rf"{numbers.NONE} not run\s*Not checked\.",
        r"• noted\s*Worth knowing\.",
        re.escape(CHECKS["D3"].means),
        re.escape(CHECKS["D8"].advice),
    ):
        assert re.search(words, rest)
    few = Page(report.fragment(found)).text
    assert "Flag D3 gradient lies: What D3 saw." in few and "Not run: D10 not converged" in few


def test_what_passed_is_folded_and_flags_are_open(run):
    page = checked(told(run, diagnosis=diagnosis(**FLAGGED).to_dict()))
    around = {
        attributes["id"]: open_
        for tag, attributes, open_ in page.tags
        if tag == "tr" and "id" in attributes
    }
    assert set(around) == set(CHECKS)
    assert {name for name in around if "details" not in around[name]} == {"D3", "D8"}
    assert "11 of 15 passed, 1 noted, 1 not run" in page.text


def test_every_check_has_a_question():
    assert set(questions.QUESTIONS) == set(CHECKS)
    assert all(text.endswith("?") for text in questions.QUESTIONS.values())


def test_flags_do_not_change_a_figure_of_zero():
    found = made(status=lambda attack, example: "broken")
    page = checked(told(found, diagnosis=diagnosis(**FLAGGED).to_dict()))
    top = page.text.partition("over epsilon")[0]
    assert "2 flags, and the figure stands" in top and "too kind" not in top
    assert "no other attack can lower it" in top and "may break more" not in top


def test_a_wrong_range_stands_first_in_the_red_box(run):
    """Before the flags, even where none held."""
    sentence = "The model gets 24.0% of these inputs right as they are, and 49 of 64 elsewhere."
    ranged, title = {"said": sentence, "queries": 128}, "The inputs may lie in the wrong range"
    for flags in ({}, {"D3": "flag"}):
        found = told(run, range=ranged, diagnosis=diagnosis(**flags).to_dict())
        assert title in checked(found).text
        page = report.html(found)
        box = page[page.index('<div class="doctor alarm">') :]
        assert box.index(title) < box.index(sentence) < box.index("</div>")
        assert not flags or box.index(sentence) < box.index('href="#D3"')
        few = report.fragment(found)
        assert few.count(sentence) == 1 and few.index(sentence) < few.index("<table>")
    assert title not in checked(run).text


def test_no_flags(run):
    page = checked(told(run, diagnosis=diagnosis().to_dict()))
    assert "No flags" in page.text and "has not looked" not in page.text
    assert "None of the 15 known causes of inflated robustness" in page.text
    assert "All checks were run." in page.text and "15 of 15 passed" in page.text
    page = checked(told(run, diagnosis=diagnosis(D10="not run").to_dict()))
    assert "None of the 14 known causes" in page.text


# The curve.


def searched(evaluation, distances):
    """The run as if the doctor had searched for the smallest change of its first examples."""
    return told(evaluation, sample={"attack": "FMN(steps=100)", "distances": distances})


def heights(chart):
    """The shares in the table of a chart."""
    return dict(chart["rows"])


def test_without_a_search_there_are_two_points_and_no_line(run):
    chart = curve_chart.chart(run)
    assert not chart["line"] and not chart["extra"]
    assert chart["rows"] == [("0", run.clean_accuracy), ("4/255", run.robust_accuracy)]
    with drawing.context():
        (axes,) = curve_chart._figure(run, None, 5 / 255, [0, 4 / 255], True).axes
    drawn = [line for line in axes.get_lines() if line.get_linestyle() == "-"]
    assert not [line for line in drawn if len(set(line.get_xdata())) > 1]
    assert "Two points are known" in checked(run).text
    assert len(str(run.curve).splitlines()) == 4 and not run.curve.exact


def test_the_line_is_of_the_smallest_change_that_anybody_found():
    found = made(count=30, epsilon=4 / 255)  # 15 broken, 15 held
    distance = found.distance
    nearer = np.where(np.isfinite(distance), distance / 2, 5 / 255)
    chart = curve_chart.chart(searched(found, nearer.tolist()))
    assert chart["line"] and chart["whole"] and chart["extra"] == 0
    for radius in (0, 1, 2, 3, 4):
        assert heights(chart)[f"{radius}/255" if radius else "0"] == pytest.approx(
            (nearer > radius / 255).mean()
        )
    # an attack was nearer than the search
    farther = np.where(np.isfinite(distance), 5 / 255, 5 / 255)
    chart = curve_chart.chart(searched(found, farther.tolist()))
    assert heights(chart)["4/255"] == found.robust_accuracy
    assert heights(chart)["2/255"] == pytest.approx((distance > 2 / 255).mean())


def test_what_the_search_breaks_beyond_the_attacks_is_said():
    found = made(count=30, epsilon=4 / 255)
    distance = np.where(np.isfinite(found.distance), found.distance, 5 / 255)
    distance[np.flatnonzero(~np.isfinite(found.distance))[:3]] = 3 / 255
    page = checked(searched(found, distance.tolist()))
    assert "FMN breaks 3 examples within the budget that the attacks did not." in page.text
    assert "The line is at 40.0% there" in page.text and "Robust accuracy ≤50.0%" in page.text


def test_a_sample_is_scaled_by_the_clean_accuracy_and_called_an_estimate(case):
    model, x, labels = case
    labels = np.where(np.arange(len(x)) < 8, (labels + 1) % 10, labels)
    found = advex.evaluate(
        model, (x, labels), advex.FGSM(), advex.Linf(4 / 255), diagnose=False, progress=False
    )
    found = searched(found, [0.001, 0.02, 0.05, None])
    chart = curve_chart.chart(found)
    assert chart["line"] and not chart["whole"] and chart["n"] == 4
    assert heights(chart)["0"] == found.clean_accuracy == 0.75
    assert heights(chart)["1/255"] == 0.75 * 0.75
    text = checked(found).text
    assert "an estimate from 4 correctly classified examples" in text
    assert "with 18.8% left" in text and "Of the 4 examples behind it" in text
    assert not found.curve.exact and found.sample_curve.at(0.03) == 0.25
    # of those that were classified correctly, and it says so
    said = "4 examples classified correctly"
    assert f"Of {said}. For all examples multiply by the clean accuracy" in str(found.sample_curve)
    assert "accuracy of those classified correctly" in str(found.sample_curve).splitlines()[0]
    assert f"of {said} alone" in repr(found.sample_curve) and "100" not in repr(found.sample_curve)


def line(*distances):
    return curve_chart.Line(curves.Curve(np.asarray(distances), "Linf"), 1.0, len(distances), True)


def test_a_line_that_stops_says_why():
    def stopped(*distances, limited=True):
        return curve_chart.stopped(line(*distances), 21 / 255, "Linf", True, limited)

    assert stopped(0.01, 0.0, 0.05) == ""
    assert stopped(0.01, np.inf, 0.05) == (
        "The line stops at Linf 21/255, with 33.3% left. Of the 3 examples behind it for 1 neither"
        " the attacks nor the doctor's search found any change that breaks it."
    )
    both = stopped(0.01, np.inf, np.inf, 0.5, 0.01, limited=False)
    assert "with 60.0% left. Of the 5 examples behind it 1 breaks by a larger change" in both
    assert both.endswith("beyond the chart, and for 2 no attack found any change that breaks them.")


def test_a_page_says_that_its_line_stops():
    found = made(count=30, epsilon=4 / 255)  # 15 broken, 15 held
    distance = np.where(np.isfinite(found.distance), found.distance, 5 / 255)
    whole = searched(found, distance.tolist())
    assert curve_chart.chart(whole)["stop"] == "" and "The line stops" not in checked(whole).text
    held = np.flatnonzero(~np.isfinite(found.distance))
    distance[held[:2]], distance[held[2]] = np.inf, 0.5
    cut = searched(found, [None if np.isinf(one) else one for one in distance.tolist()])
    text = checked(cut).text
    assert "with 10.0% left. Of the 30 examples behind it 1 breaks by a larger change" in text
    assert "for 2 neither the attacks nor the doctor's search found any" in text
    assert "10.0% left" in curve_chart.chart(cut)["svg"]
    assert "left" not in curve_chart.chart(whole)["svg"]


def test_diamonds_are_named_where_they_are_drawn():
    def chart(*broken):
        run = made(
            attacks=("A", "B")[: len(broken)],
            count=100,
            status=lambda attack, one: "broken" if one < broken[attack] else "held",
        )
        with drawing.context():
            (axes,) = curve_chart._figure(run, None, 5 / 255, [0, 4 / 255], True).axes
        drawn = [mark for mark in axes.get_lines() if mark.get_marker() == "D"]
        return curve_chart.chart(run)["each"], [mark.get_ydata().tolist() for mark in drawn]

    assert chart(50, 20) == ("B 80.0%", [[80.0]])
    assert chart(50, 50) == chart(50, 48) == chart(50) == ("", [])
    alike = made(attacks=("A", "B"), status=lambda attack, one: "held" if one % 2 else "broken")
    assert "Grey" not in checked(alike).text
    apart = made(attacks=("A", "B"), status=lambda attack, one: ("held", "broken")[not attack])
    assert "Grey diamonds, each attack alone: B 100.0%." in checked(apart).text


def test_a_real_search(case):
    """The doctor's pictures are of the smallest changes, and the headline is of the attacks."""
    model, x, labels = case
    found = advex.evaluate(
        model, (x[:12], labels[:12]), advex.PGD(steps=5), advex.Linf(4 / 255), progress=False
    )
    assert found.curve.exact and len(found.curve.distances) == 12
    nearest = found.pairs("nearest")
    order = np.sort(found.known.distance)
    np.testing.assert_allclose([pair.distance for pair in nearest], order[: len(nearest)])
    for pair in (*nearest, *found.pairs("farthest")):
        moved = np.abs(pair.after.astype(int) - pair.before).max() / 255
        assert pair.distance == pytest.approx(moved) and pair.distance <= 4 / 255 + 1e-9
        assert (pair.before == x[pair.example]).all()
        assert pair.label == found.caption(labels[pair.example])
        said = np.asarray(keras.ops.convert_to_numpy(model.model(pair.after[None] / 255.0)))
        assert found.caption(int(said.argmax())) == pair.prediction != pair.label
    for pair in found.pairs("held"):
        assert not found.broken[pair.example] and pair.distance > 4 / 255
    page = checked(found)
    by_doctor = [pair for pair in (*nearest, *found.pairs("farthest")) if pair.attack != "PGD"]
    assert {pair.attack for pair in by_doctor} == {"the doctor's FMN"}
    assert found.matrix[0, by_doctor[0].example]
    assert "the doctor's FMN (also broken by PGD), example" in page.text
    assert page.text.count("FMN is the doctor's search for the smallest change.") == 1
    assert "Broken by the smallest changes" in page.text and "Held" in page.text
    assert "Machine" in page.text and "CPU core" in page.text and "Duration" in page.text


def test_pictures_of_a_limit_are_not_called_near_or_far(run):
    page = checked(run)
    assert "which of these are near the boundary was not measured" in page.text
    assert "smallest changes" not in page.text and "largest changes" not in page.text


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
    top = page.text.partition("over epsilon")[0]
    assert "Unfinished." in top and "15 more examples are waiting" in top
    assert "Robust accuracy so far" in top
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
    assert not re.search(r"undecided|invalid", checked(made()).text)


def test_nothing_broken():
    page = checked(made(status=lambda attack, example: "held"))
    assert "No attack broke an example" in page.text and not page.all("img")
    assert "Robust accuracy 100.0%" in page.text and "That is no proof" in page.text
    assert "30 of 30 examples were not broken by PGD" in page.text


def test_everything_broken():
    page = checked(made(status=lambda attack, example: "broken", attacks=("PGD", "FGSM")))
    assert "Robust accuracy 0.0%" in page.text and "≤" not in page.text.partition("over epsilon")[0]
    assert "None of the 30 examples held: 30 were broken by PGD and FGSM" in page.text
    assert "no other attack can lower it" in page.text and "better attack" not in page.text
    assert len(page.all("img")) == 24


def test_inputs_that_are_not_pictures():
    page = checked(made(inputs=(7,)))
    assert "The inputs (shape 7) are not pictures." in page.text and not page.all("img")
    assert re.search(r"Example \d+: \d → \d with confidence 70.0%", page.text)
    assert "Every input value may change" in page.text


# Classes and attacks.


def test_each_class_has_its_number_and_its_interval():
    run = made(classes=3, count=30)
    found = class_chart.classes(run)
    assert [row["examples"] for row in found["rows"]] == [10, 10, 10]
    low, high = found["rows"][0]["interval"]
    assert 0 < low < found["rows"][0]["held"] < high < 1
    assert "50% of 10" in found["svg"] and "errorbar" not in found["svg"]


def test_what_each_class_is_taken_for():
    """Example e is of class e % 3; what breaks it makes it the next class."""
    run = made(
        classes=3, count=30, status=lambda attack, example: "broken" if example < 9 else "held"
    )
    table = class_chart.taken(run)
    assert table["names"] == ["0", "1", "2"] and not table["pairs"]
    counts = [[cell["count"] for cell in row["cells"]] for row in table["rows"]]
    assert counts == [[7, 3, 0], [0, 7, 3], [3, 0, 7]]
    assert (np.bincount(run.prediction_under_attack) == 10).all()
    many = made(classes=20, count=40, status=lambda *_: "broken")
    found = class_chart.taken(many)
    assert not found["rows"] and [pair["count"] for pair in found["pairs"]] == [2] * 12
    assert "most frequent mistakes" in checked(many).text


def test_the_nearest_success_says_what_an_example_is_taken_for():
    run = made(classes=3, count=3, attacks=("PGD", "FGSM"), status=lambda attack, example: "broken")
    with run._file.store.transaction():
        ask = run._file.store.database.execute
        ask("UPDATE verdicts SET distance = 0.01, prediction = 2 WHERE example = 0 AND attack = 0")
        ask("UPDATE verdicts SET distance = 0.005, prediction = 1 WHERE example = 0 AND attack = 1")
    assert run.prediction_under_attack[0] == 1


def test_columns_that_say_nothing_are_left_out(run):
    found = attack_table.attacks(run)
    assert found["headings"][0] == "robust accuracy"
    assert not {"fragile", "invalid"} & set(found["headings"])
    assert all(len(row["cells"]) == len(found["headings"]) for row in found["rows"])
    alone = attack_table.attacks(made())
    assert "only by this" in found["headings"]
    assert "only by this" not in alone["headings"] and not alone["together"]
    odd = made(status=lambda attack, example: "fragile" if example < 2 else "held")
    assert "fragile" in attack_table.attacks(odd)["headings"]
    assert "Fragile: a success" in checked(odd).text and "Fragile" not in checked(run).text


def test_no_bar_lies_under_digits(run):
    text = report.html(run)
    cells = re.findall(r'<td [^>]*class="level[^"]*">(.*?)</td>', text)
    assert len(cells) == 2
    for cell, attack in zip(cells, run.attacks, strict=True):
        found = re.fullmatch(
            r'<span><i style="--share: ([\d.]+)" aria-hidden="true"></i><b>(\d+)</b></span>', cell
        )
        assert float(found[1]) == pytest.approx(attack.broken / 32, abs=1e-3)
        assert int(found[2]) == attack.broken
    rules = re.findall(r"[^{}]*\.level[^{}]*{[^}]*}", text)
    assert rules and not [rule for rule in rules if "gradient" in rule and ".level i" not in rule]


def test_chinese_names_stand_upright():
    heads = {}
    for names in (["Bag", "Coat", "7"], ["包", "T恤", "Shirt"]):
        page = checked(made(names=names))
        heads[names[0]] = [
            attributes.get("class")
            for tag, attributes, around in page.tags
            if tag == "span" and around[-3:] == ("thead", "tr", "th")
        ]
    assert heads == {"Bag": [None, None, "short"], "包": ["upright", "upright", None]}
    style = report.html(made())
    assert re.search(r"span\.upright {[^}]*text-orientation: upright; transform: none", style)


def test_one_vocabulary_in_python_and_on_the_command_line(run):
    from advex.cli.summary import COLUMNS

    told = str(run)
    heading = next(line for line in told.splitlines() if line.startswith("attack"))
    assert heading.split("  ", 1)[0] == "attack"
    assert [" ".join(name.split()) for name in COLUMNS] == re.split(r" {2,}", heading)
    low, high = run.interval
    assert f"\n95% interval: {low:.1%} to {high:.1%}. This is an upper bound: a better" in told
    row = next(line for line in told.splitlines() if line.startswith("PGD"))
    assert len(row) == len(heading)


def test_flags_end_with_a_stop_before_the_advice(run):
    text = str(told(run, diagnosis=diagnosis(D9="flag").to_dict()))
    assert "FLAG D9, unbounded fails: What D9 saw. Mend the attack or the gradients first" in text


def test_overlap_is_of_three_attacks_or_more():
    assert attack_table.overlap(made(attacks=("A", "B"))) is None
    broken = {0: {0, 1, 2}, 1: {0, 1}, 2: {0}}
    three = made(
        attacks=("A", "B", "C"),
        status=lambda attack, example: "broken" if example in broken[attack] else "held",
    )
    rows = attack_table.overlap(three)["rows"]
    assert [(row["names"], row["count"]) for row in rows] == [("A", 1), ("A, B", 1), ("A, B, C", 1)]
    assert [row["all"] for row in rows] == [False, False, True]
    assert "broken by exactly these attacks" in checked(three).text


# What others need.


def test_the_figures_are_inside_the_page(run):
    import base64
    import csv
    import io

    page = checked(run)
    files = {
        attributes["download"]: base64.b64decode(attributes["href"].partition(",")[2]).decode()
        for attributes in page.all("a")
        if "download" in attributes
    }
    assert json.loads(files["evaluation.json"]) == json.loads(run.to_json())
    rows = list(csv.DictReader(io.StringIO(files["examples.csv"])))
    assert [int(row["example"]) for row in rows] == list(range(32))
    assert not [
        one for one in cite.downloads(made(count=cite.MOST_ROWS + 1)) if "CSV" in one["what"]
    ]


def test_title_author_and_note(run, tmp_path):
    words = {"title": "Clothes & shoes", "author": "Li Wei", "note": "<b>1.0</b> is next."}
    text = run.report(tmp_path / "page.html", **words).read_text("utf-8")
    page = Page(text)
    for said in words.values():
        assert said in page.text
    assert "<b>1.0</b>" not in text and "title" in text
    assert r"title        = {Clothes \& shoes}" in page.text or r"{Clothes \& shoes}" in page.text
    assert "author = {Li Wei}" in page.text
    for name in words:
        with pytest.raises(InvalidType, match=f"{name} must be a text"):
            run.report(tmp_path / "other.html", **{name: 3})
    assert not (tmp_path / "other.html").exists()


@pytest.mark.parametrize(
    ("name", "layers", "title"),
    [
        ("sequential", "Sequential of 9 layers, 0123", "Sequential model of 9 layers"),
        ("functional_12", "Functional of 3 layers, 0123", "Functional model of 3 layers"),
        ("model_1", "Functional of 3 layers, 0123", "Keras model of 3 layers"),
        ("clothes", "Functional of 3 layers, 0123", "clothes"),
    ],
)
def test_a_model_without_a_name_of_its_own(name, layers, title):
    run = made()
    identity = run.facts["identity"] | {"model": layers}
    run = told(run, model=f"Classifier({name!r}, box=(0.0, 1.0))", identity=identity)
    assert repeat.model_name(run) == title
    assert checked(run).text.startswith(f"Robust accuracy 50.0%: Robustness evaluation: {title}, ")


def test_a_model_is_called_by_its_file_else_by_its_run_file(case, tmp_path):
    _, x, labels = case
    network = keras.Sequential(
        [keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(10)],
        name="sequential",
    )
    network.save(tmp_path / "m01.keras")

    def found(model, name):
        return advex.evaluate(
            model,
            (x[:4], labels[:4]),
            advex.FGSM(),
            advex.Linf(0.0),
            run=tmp_path / name,
            diagnose=False,
            progress=False,
        )

    loaded = found(zoo.load(tmp_path / "m01.keras"), "one.advex")
    assert loaded.facts["known as"] == repeat.model_name(loaded) == "m01.keras"
    bare = found(network, "two.advex")
    assert bare.facts["known as"] == "" and repeat.model_name(bare) == "two.advex"
    text = checked(bare).text
    assert "Robustness evaluation: two.advex" in text and str(tmp_path) not in text
    assert len(re.findall(r"Sequential model of \d layers, weights", text)) == 1
    facts = {name: value for name, value in bare.facts.items() if name != "known as"}
    old = told(bare)
    old.facts = facts  # of a run file that older versions have made
    assert repeat.model_name(old) == "two.advex" and checked(old)
    network.name = "clothes"
    assert repeat.model_name(found(network, "three.advex")) == "clothes"


def test_tex_and_tables_take_any_text(run):
    entry = cite.bibtex(run, "50% & {more} $x_1$ #2 \\o/", "Ann_Lee")
    assert r"50\% \& \{more\} \$x\_1\$ \#2 \textbackslash{}o/" in entry
    assert entry.count("{") == entry.count("}") and r"Ann\_Lee" in entry
    assert all(line.count("|") == 7 for line in cite.table_row(run).splitlines())


def test_code_is_88_columns_wide(case):
    model, x, labels = case
    names = [f"a class with a name of its own, number {number}" for number in range(10)]
    classifier = advex.Classifier(model.model, classes=names)
    found = advex.evaluate(
        classifier, (x[:4], labels[:4]), advex.FGSM(), advex.Linf(0.01), diagnose=False
    )
    code = repeat.snippet(found)
    assert max(map(len, code.splitlines())) <= listing.WIDTH
    (listed,) = (node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.List))
    assert ast.literal_eval(listed) == names


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (3600, "1 h 0 min")]
)
def test_durations(seconds, words):
    assert content.duration(seconds) == words


def test_an_older_run_file_has_no_machine(run):
    kept = {name: value for name, value in run.facts.items() if name not in ("machine", "ended")}
    old = Evaluation(run.path, run._file.store)
    old.facts = kept
    assert "Machine" not in checked(old).text and "Ended" not in checked(old).text


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
        "median of the smallest changes found" in page.text
        and "a change of any size" in page.text
        and "as little as possible in Linf" in page.text
    )
    checked(made(epsilon=None, status=lambda attack, example: "held"))


def test_nothing_is_rounded_to_all_or_nothing():
    run = made(count=3000, status=lambda attack, example: "broken" if example == 7 else "held")
    page = checked(run)
    assert (
        "Robust accuracy >99.9%" in page.text and "100.0%" not in page.text.partition("broken")[0]
    )


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
    monkeypatch.setattr(page, "html", lambda *_, **__: 1 / 0)
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
