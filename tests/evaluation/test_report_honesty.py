"""What a page says where a run is not the usual one: targets, what only the doctor broke, nothing
left to attack, one example, runs that differ.
"""

import csv
import functools
import json

import keras
import numpy as np
import pytest
from test_report import Page, checked, diagnosis, made, searched, told

import advex
from advex import report, zoo
from advex.cli.screen import console
from advex.cli.summary import summarise
from advex.errors import InvalidInput
from advex.evaluation import compare, page
from advex.evaluation.page import cite, class_chart, comparing, pictures, repeat, threat
from advex.evaluation.page.numbers import cost
from advex.evaluation.table import VERDICTS, Table, in_order
from advex.evaluation.text import doctor_broke, no_doctor, stronger

BUDGET = advex.Linf(4 / 255)


@pytest.fixture(scope="module")
def case():
    return zoo.fashion_mnist(), *zoo.fashion_images()


# Targets are no truth.


@pytest.fixture(scope="module")
def towards(case):
    model, x, labels = case
    return advex.evaluate(
        model,
        (x, (labels + 1) % 10),
        advex.PGD(steps=10),
        advex.Linf(8 / 255),
        goal=lambda target: advex.Targeted(target),
        progress=False,
    )


def test_a_target_is_not_called_the_true_class(towards, case, tmp_path):
    _, _, labels = case
    page = checked(towards)
    assert towards.broken.any() and "Each class" not in page.text
    assert "Row: true class" not in page.text and "The true classes are not known" in page.text
    assert towards.to_dict()["classes"] == []
    shown = [*towards.pairs("nearest"), *towards.pairs("farthest")]
    assert shown
    for pair in shown:
        true = int(labels[pair.example])
        assert pair.label == towards.caption(true)
        assert pair.prediction == towards.caption((true + 1) % 10)
        assert f"{pair.label} → {pair.prediction} (the target)" in page.text
    for pair in towards.pairs("held"):
        assert pair.label == pair.prediction == towards.caption(int(labels[pair.example]))
    lines = list(csv.DictReader(towards.to_csv(tmp_path / "rows.csv").read_text().splitlines()))
    assert "label" not in lines[0]
    assert [int(line["target"]) for line in lines] == ((labels + 1) % 10).tolist()
    assert (towards.prediction == labels).all() and len(towards.prediction_under_attack) == 32
    for name in ("label", "per_class"):
        with pytest.raises(InvalidInput, match="classes to be reached"):
            getattr(towards, name)


def test_at_the_target_before_is_not_called_wrong():
    identity = made().facts["identity"] | {"goal": "mine 1234"}
    goal = {"kind": "classes", "text": "Targeted()", "targeted": True}
    run = made()
    with run._file.store.transaction():
        ask = run._file.store.database.execute
        ask("UPDATE examples SET status = 'wrong' WHERE id < 2")
        ask("DELETE FROM verdicts WHERE example < 2")
    run = told(run, goal=goal, identity=identity)
    page = checked(run)
    assert "Of the others 2 were at the target before any attack." in page.text
    assert "wrong before" not in page.text and "wrong without" not in page.text
    assert "(2 at the target before)" in run.headline() and "wrong" not in run.headline()
    assert "wrong" not in Page(report.fragment(run)).text
    found = compare(run, run)
    assert found.per_class == []


# Data in order of class.


def test_a_page_says_that_the_doctor_has_seen_few_classes(tmp_path):
    model, (x, labels) = advex.testing.linear_model(), advex.testing.linear_data(400)
    order, found = np.argsort(labels, kind="stable"), {}
    for name, rows in (("sorted", order), ("shuffled", np.random.default_rng(0).permutation(400))):
        data = x[rows], labels[rows]
        found[name] = advex.evaluate(model, data, advex.FGSM(), advex.Linf(0.05), progress=False)
    said = "The doctor has examined 128 examples of 1 of the 2 classes"
    assert found["sorted"].warnings[0].startswith(said)
    assert said in checked(found["sorted"]).text and said in str(found["sorted"])
    assert found["shuffled"].warnings == []


def test_few_classes_are_no_sign_where_the_doctor_has_seen_all_or_few_are_left():
    def table(labels, verdict="held"):
        count = len(labels)
        number, labels = np.arange(count), np.asarray(labels)
        places = np.full(count, VERDICTS.index(verdict))
        return Table(number, labels, labels, places, np.zeros(count), [])

    assert in_order(table([0] * 100 + [1] * 100), 50)
    assert not in_order(table([0] * 100 + [1] * 100), 200)
    assert not in_order(table([0] * 100), 50)
    # two of three are to be expected where the third is rare
    assert not in_order(table([0, 1] * 300 + [2]), 50)
    assert not in_order(table([0] * 100 + [1] * 100, "wrong"), 50)
    assert not in_order(table([]), 0)


# What only the doctor broke.


@pytest.fixture(scope="module")
def weak(case):
    model, x, labels = case
    return advex.evaluate(model, (x, labels), advex.SquareAttack(steps=6), BUDGET, progress=False)


def test_what_the_doctor_alone_broke_has_a_place_of_its_own(weak):
    beside = weak.broken_by_doctor
    more = int(beside.sum())
    assert more and not (beside & weak.broken).any()
    assert (weak.robust_accuracy - weak.curve.at(4 / 255)) * 32 == pytest.approx(more)
    assert weak.robust_at_most == weak.curve.at(4 / 255)
    broken = {pair.example for place in ("nearest", "farthest") for pair in weak.pairs(place)}
    assert all(weak.broken[example] for example in broken)
    shown = weak.pairs("doctor")
    assert shown and all(beside[pair.example] for pair in shown)
    assert not any(beside[pair.example] for pair in weak.pairs("held"))
    names = [place["name"] for place in pictures.galleries(weak)["places"]]
    assert ("nearest" in names) == bool(broken) and "doctor" in names
    said = f"The doctor broke {more} more examples within the budget: robust accuracy is at most"
    page = checked(weak)
    top = page.text.partition("over epsilon")[0]
    assert 0 < top.index(said) < top.index("No flags") and "advex.PGD with more steps" in top
    lower, higher = f"{weak.robust_at_most:.1%}", f"{weak.robust_accuracy:.1%}"
    quote = f"Quote {lower}, not {higher}; or, as the attacks were too weak, run"
    assert quote in top and quote in str(weak)
    checks = weak.diagnosis
    ran = len([one for one in checks.findings if one.status != "not run"])
    calm = f"No flags from the {ran} checks, but the attacks were too weak"
    assert calm in top and "✓ No flags" not in page.text
    assert calm in Page(report.fragment(weak)).text
    assert "Dot and line differ by exactly these." in page.text
    assert "Broken by the doctor alone (not counted above)" in page.text
    (box,) = (a for a in page.all("div") if "doctor" in a.get("class", "").split())
    assert "alarm" in box["class"]
    assert said in str(weak) and said in Page(report.fragment(weak)).text
    assert said.lower() in cite.citation(weak).lower()
    assert f"(the doctor: {weak.robust_at_most:.1%})" in cite.table_row(weak)
    assert weak.to_dict()["broken_by_doctor"] == more
    assert said in comparing._side(compare(weak, weak), 0, "one")["beside"]


def test_nothing_beside_is_said_where_the_doctor_found_no_more():
    found = made(count=30, epsilon=4 / 255)
    nothing = searched(found, [5 / 255] * 30)
    assert not doctor_broke(nothing) and not nothing.broken_by_doctor.any()
    assert "The doctor broke" not in checked(nothing).text
    one = searched(found, [3 / 255 if number == 1 else 5 / 255 for number in range(30)])
    assert doctor_broke(one).startswith("The doctor broke 1 more example within")
    assert "differ by exactly this one" in checked(one).text
    # a search that went astray after the end of the budget, of an example that was broken anyway
    same = searched(found, [3 / 255 if number == 0 else 5 / 255 for number in range(30)])
    assert found.broken[0] and not doctor_broke(same)
    every = searched(made(count=3, status=lambda *_: "held"), [0.001] * 3)
    assert "robust accuracy is 0.0%." in doctor_broke(every)
    assert stronger(every).startswith("Quote 0.0%, not 100.0%; or")
    # one of so many that both figures read the same
    nearly = made(count=3000, status=lambda *_: "held")
    nearly = searched(nearly, [0.001, *[0.5] * 2999])
    assert stronger(nearly).startswith("Quote the lower figure; or")


def in_terminal(found, capsys):
    """What the command line says of a run, in one line."""
    summarise(console(), found)
    return " ".join(capsys.readouterr().out.split())


def test_the_last_line_in_a_terminal_reassures_only_where_all_is_well(weak, capsys):
    quiet = told(weak, sample=None, diagnosis=diagnosis().to_dict())
    assert not quiet.warnings and not doctor_broke(quiet)
    assert in_terminal(quiet, capsys).endswith("The doctor found nothing to warn of.")
    broke = in_terminal(told(weak, diagnosis=diagnosis().to_dict()), capsys)
    assert f"Quote {weak.robust_at_most:.1%}, not {weak.robust_accuracy:.1%}" in broke
    assert broke.endswith("The doctor's checks found nothing further.")
    ranged = told(quiet, range={"said": "The inputs seem to lie in [0, 1].", "queries": 9})
    said = in_terminal(ranged, capsys)
    assert said.endswith("The doctor's checks found nothing further; see the warning above.")
    assert said.index("WARNING: The inputs") < said.index("nothing further")
    flagged = in_terminal(told(ranged, diagnosis=diagnosis(D3="flag").to_dict()), capsys)
    assert "FLAG D3" in flagged and "nothing" not in flagged.partition("FLAG D3")[2][-60:]
    assert not flagged.endswith("above.")
    off = told(quiet, diagnosis=None, doctor=False)
    assert in_terminal(off, capsys).endswith("The doctor has not looked (--no-doctor).")
    assert "(diagnose=False)" in str(off)


def test_a_wrong_range_is_no_calm_box():
    ranged = told(made(), diagnosis=diagnosis().to_dict(), range={"said": "Wrong.", "queries": 9})
    said = "No flags from the 15 checks, but see the warning above"
    for text in (checked(ranged).text, Page(report.fragment(ranged)).text):
        assert said in text
    assert "✓ No flags" not in checked(ranged).text
    assert "✓ No flags" in checked(told(ranged, range={})).text


def test_it_is_said_of_how_many_a_cost_is(capsys):
    """Passes each are of those that were attacked; those of the cost are of all."""
    found = made(count=30)
    with found._file.store.transaction():
        ask = found._file.store.database.execute
        ask("UPDATE examples SET status = 'wrong' WHERE id < 10")
        ask("DELETE FROM verdicts WHERE example < 10")
    found = told(found)
    (attack,) = found.attacks
    assert attack.attacked == 20
    page = checked(found)
    assert "gradients per attacked example" in page.text and "gradients each" not in page.text
    assert "per example of all 30" in page.text
    each = cost(attack.gradients / 20), cost(attack.gradients / 30)
    assert each[0] != each[1] and all(f"{one}" in page.text for one in each)
    assert "each: per attacked example" in str(found)
    assert "each: per attacked example" in in_terminal(found, capsys)


# Reasons are the real ones.


def test_all_wrong_before(case):
    model, x, labels = case
    run = advex.evaluate(model, (x, (labels + 1) % 10), advex.PGD(steps=2), BUDGET, progress=False)
    page = checked(run)
    assert "All 32 examples were wrong before any attack: none was left" in page.text
    assert "No flags" not in page.text and "known causes" not in page.text
    assert "no example was classified correctly without attack" in page.text
    assert "diagnose" not in page.text.partition("What it cost")[0] + str(run)
    assert "were broken by" not in page.text and "No attack was tried" in page.text
    assert "Robust accuracy 0.0% of 32 examples" in cite.citation(run)
    assert "at most 0.0%" not in page.text and "≤ 0.0%" not in cite.table_row(run)


def test_no_examples(case):
    model, x, labels = case
    for diagnose in (True, False):
        run = advex.evaluate(
            model, (x[:0], labels[:0]), advex.PGD(steps=2), BUDGET, diagnose=diagnose
        )
        assert ("diagnose=False" in str(run)) == ("diagnose=False" in repeat.snippet(run))
        assert ("diagnose=False" in str(run)) != diagnose
        page = checked(run)
        assert ("had no example to look at" in page.text) == diagnose
        assert ("diagnose=True" in page.text) != diagnose
        assert run.to_dict()["curve"] == {"radii": [], "accuracy": [], "exact": False}


def test_the_doctor_that_has_not_come_yet():
    run = told(made(finished=False), doctor=True)
    assert "not looked yet" in no_doctor(run) and "diagnose=True" not in checked(run).text
    run = told(made(), doctor=True, diagnosis=diagnosis().to_dict())
    assert not no_doctor(run)
    # it has looked, and there was no gradient to search by
    assert "needs gradients" in checked(run).text


def test_why_the_doctor_does_not_look_at_several_inputs():
    inputs = [keras.Input((3,), name=name) for name in ("left", "right")]
    hidden = keras.layers.Dense(4, name="inner")(keras.layers.Concatenate()(inputs))
    model = keras.Model(inputs, keras.layers.Dense(2)(hidden))
    x = [np.full((4, 3), 0.5, "float32")] * 2
    labels = np.zeros(4, "int32")
    for perturb, words in (
        (["left", "right"], "2 inputs are attacked at once"),
        ("left", "what is attacked is one of several inputs."),
        ("inner", "what is attacked is the output of the layer 'inner'"),
    ):
        box = (-9, 9) if perturb == "inner" else (0, 1)
        classifier = advex.Classifier(model, box=box, perturb=perturb)
        run = advex.evaluate(classifier, (x, labels), advex.FGSM(), advex.Linf(0.1), progress=False)
        assert f"here {words}" in str(run)


# Figures with the number that they belong to.


def regression(epsilon):
    model = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten()])
    model.add(keras.layers.Dense(1, kernel_initializer="ones"))
    x = np.linspace(0.2, 0.8, 8 * 16, dtype="float32").reshape(8, 4, 4, 1)
    return advex.evaluate(
        model,
        (x, x.sum(axis=(1, 2, 3))),
        advex.PGD(steps=3),
        advex.Linf(epsilon),
        goal=functools.partial(advex.Regression, off=0.5),
        progress=False,
    )


def test_regression_within_a_limit_has_no_smallest_changes():
    page = checked(regression(0.1))
    assert "smallest changes" not in page.text and "largest changes" not in page.text
    assert "Which of these are near the boundary was not measured." in page.text


def test_the_interval_of_maps_stands_with_its_number():
    model = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Conv2D(3, 1)])
    x = np.random.default_rng(0).random((8, 4, 4, 1)).astype("float32")
    labels = np.asarray(model(x)).argmax(-1)
    run = advex.evaluate(
        model, (x, labels), advex.PGD(steps=3), advex.Linf(0.2), goal=advex.Segmentation
    )
    text = report.html(run)
    big = text.index('class="figure"')
    share = text.index("Robust accuracy ", big)
    assert big < share < text.index('class="interval"') < text.index("of the robust accuracy ")


def test_a_curve_says_whether_it_is_one(case):
    """Nothing is listed between 0 and the limit where nobody has looked."""
    run = made(count=30, epsilon=4 / 255)
    told_ = json.loads(run.to_json())["curve"]
    assert told_ == {
        "radii": [0.0, 4 / 255],
        "accuracy": [run.clean_accuracy, run.robust_accuracy],
        "exact": False,
    }
    exact = json.loads(searched(run, [0.5] * 30).to_json())["curve"]
    assert exact["exact"] and len(exact["radii"]) > 2


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ((8, 8, 3), "At most 2 input values (a pixel has several) may change"),
        ((8, 8, 1), "At most 2 pixels may change"),
        ((7,), "At most 2 input values may change"),
    ],
)
def test_what_l0_counts(inputs, words):
    run = told(made(inputs=inputs), norm="L0", epsilon=2)
    assert threat.change(run).startswith(words)


# Comparisons.


def test_both_threat_models_and_estimates(tmp_path):
    one = searched(made(count=30), [0.01] * 4)
    two = searched(told(made(count=30), model="BlackBox(mine)"), [0.01] * 30)
    found = compare(one, two)
    text = Page(found.report(tmp_path / "two.html").read_text("utf-8")).text
    assert "Threat model before: white box" in text and "Threat model after: black box" in text
    assert "different threat models" in text
    said = "an estimate from 4 examples that were classified correctly"
    assert f"Before it is {said}" in text and "After it is" not in text
    text = Page(compare(two, two).report(tmp_path / "same.html").read_text("utf-8")).text
    assert "Threat model: black box" in text and "different threat models" not in text
    assert "an estimate" not in text


def test_names_of_classes_that_differ_are_not_used(tmp_path):
    runs = [made(names=names) for names in (list("abc"), list("xyz"), None)]
    names = [[one.name for one in compare(runs[0], run).per_class] for run in runs]
    assert names == [["a", "b", "c"], ["0", "1", "2"], ["a", "b", "c"]]
    text = Page(compare(*runs[:2]).report(tmp_path / "page.html").read_text("utf-8")).text
    assert "name their classes differently" in text


# Words.


def test_control_characters_are_left_out(tmp_path):
    run = made()
    words = {"title": "A\x00 b\x1b[31m", "author": "Li\x07 Wei", "note": "one\ntwo\x85\x9b"}
    text = run.report(tmp_path / "page.html", **words).read_text("utf-8")
    assert not [one for one in "\x00\x1b\x07\x85\x9b" if one in text]
    assert "A b[31m" in text and "By Li Wei" in Page(text).text and "one\ntwo" in text


def test_one_example():
    for verdict in ("held", "broken"):
        run = searched(made(count=1, classes=1, status=lambda *_, it=verdict: it), [0.001])
        text = checked(told(run, diagnosis=replaced(diagnosis().to_dict()))).text
        assert not [
            words
            for words in ("1 examples", "1 correctly classified examples", "1 class ", "the 1 ex")
            if words in text.partition("classified correctly.")[0]
        ]
        assert ("The only example did not hold: it was broken by PGD" in text) == (
            verdict == "broken"
        )
        assert ("1 of 1 example was not broken by PGD" in text) == (verdict == "held")
        assert "1 example " in run.headline() and "1 examples" not in run.headline()


def replaced(fact):
    """A diagnosis of one example."""
    return fact | {"examples": 1}


def test_the_matrix_of_a_usual_run_is_still_there():
    assert class_chart.classes(made(count=30))["taken"]["rows"]


def test_nothing_that_the_doctor_broke_is_shown_as_held(case):
    model, x, labels = case
    run = advex.evaluate(
        model, (x[:8], labels[:8]), advex.SquareAttack(steps=4), advex.Linf(8 / 255), progress=False
    )
    unbroken = ~run.broken
    assert unbroken.any() and (run.broken_by_doctor == unbroken).all()
    assert not run.pairs("held") and "Held" not in checked(run).text


# A page beside its run.


def test_a_page_is_checked_against_its_run(tmp_path):
    run, path = made(), tmp_path / "page.html"
    page.write(run, path, title='A "title" & <more>', author="Li Wei", note="two\nlines")
    text = path.read_text("utf-8")
    assert "advex report run.advex --check report.html" in text
    assert page.check(path, run) == []
    for old, new in (
        ("Li Wei", "Li Bai"),  # also in what the page keeps of its making
        ("50.0%", "60.0%"),
        ("data:image/png;base64,", "data:image/png;base64,AAAA"),
        ("data:text/csv;base64,", "data:text/csv;base64,AAAA"),
        ("</h1>", "</h1><p>Certified.</p>"),
        ("</html>", "</html> "),
    ):
        assert old in text
        path.write_text(text.replace(old, new, 1), "utf-8")
        assert page.check(path, run), old
    path.write_text(text.replace("50.0%", "60.0%", 1), "utf-8")
    ((said, true),) = page.check(path, run)
    assert "60.0%" in said and said.replace("60.0%", "50.0%") == true
    path.write_text(text, "utf-8")
    assert page.check(path, made(seed=1))  # other examples, other pictures


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<html></html>",
        '<meta name="advex-report" content="[]">',
        '<meta name="advex-report" content="{&quot;advex&quot;: 1, &quot;more&quot;: 2}">',
        '<meta name="advex-report">',
    ],
)
def test_what_is_no_page_is_not_checked(text, tmp_path):
    (tmp_path / "page.html").write_text(text)
    with pytest.raises(InvalidInput, match="is no page that this version of advex has made"):
        page.check(tmp_path / "page.html", made())
    for path in (tmp_path, tmp_path / "none.html"):
        with pytest.raises(InvalidInput, match="no such page"):
            page.check(path, made())


def test_a_page_of_another_version_is_not_called_wrong(tmp_path):
    run, path = made(), tmp_path / "page.html"
    page.write(run, path)
    text = path.read_text("utf-8")
    path.write_text(
        text.replace(f"&#34;advex&#34;: &#34;{advex.__version__}", "&#34;advex&#34;: &#34;9.9")
    )
    with pytest.raises(InvalidInput, match="was made by advex '9"):
        page.check(path, run)
