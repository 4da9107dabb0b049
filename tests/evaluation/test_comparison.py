"""Two runs on the same data: what changed, example by example, and which runs are not compared."""

import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.path import Path as Path2
from test_report import Page, made, searched, told

import advex
from advex import report
from advex.errors import InvalidInput, InvalidType
from advex.evaluation import Comparison, compare
from advex.evaluation.page import comparing, curve_chart
from advex.evaluation.paired import newcombe
from advex.testing import linear_data, linear_model


def run(held, **settings):
    """A run of 30 examples, three classes, of which these hold."""
    return made(
        classes=3, count=30, status=lambda _, one: "held" if one in held else "broken", **settings
    )


@pytest.fixture
def pair():
    return compare(run(set(range(6))), run(set(range(3, 18))))


def test_what_is_won_and_lost(pair):
    assert pair.examples == 30
    assert pair.robust_accuracy == (0.2, 0.5) and pair.change == pytest.approx(0.3)
    assert pair.won.tolist() == list(range(6, 18)) and pair.lost.tolist() == [0, 1, 2]
    assert pair.clean_accuracy == (1.0, 1.0)
    low, high = pair.interval
    assert 0 < low < 0.3 < high < 0.6
    classes = pair.per_class
    assert [one.examples for one in classes] == [10, 10, 10]
    assert [(one.won, one.lost) for one in classes] == [(4, 1)] * 3
    assert all(one.robust_before == 0.2 and one.robust_after == 0.5 for one in classes)


def test_the_other_way_round_everything_turns():
    one, other = run(set(range(6))), run(set(range(3, 18)))
    back, forth = compare(other, one), compare(one, other)
    assert back.change == -forth.change
    np.testing.assert_allclose(back.interval, [-end for end in forth.interval[::-1]], atol=1e-12)
    assert back.won.tolist() == forth.lost.tolist()


def test_what_only_one_run_counts_is_left_out():
    one, other = run(set(range(6))), run(set(range(6)))
    with other._file.store.transaction():
        ask = other._file.store.database.execute
        ask("UPDATE examples SET status = 'invalid', confidence = NULL WHERE id < 3")
        ask("DELETE FROM verdicts WHERE example < 3")
    found = compare(one, other)
    assert found.examples == 27 and found.robust_accuracy == (3 / 27, 3 / 27)
    assert not len(found.won) and not len(found.lost)


def test_the_interval_covers_what_it_says():
    """Of many draws with a known difference some 95% of the intervals hold it."""
    random = np.random.default_rng(0)
    shares = {"both": 0.4, "won": 0.25, "lost": 0.1, "neither": 0.25}
    true, inside = shares["won"] - shares["lost"], 0
    for both, won, lost, neither in random.multinomial(80, list(shares.values()), 2000):
        low, high = newcombe(int(both), int(won), int(lost), int(neither))
        inside += low <= true <= high
    assert 0.93 < inside / 2000 < 0.98


@pytest.mark.parametrize("counts", [(0, 0, 0, 5), (5, 0, 0, 0), (0, 5, 0, 0), (0, 0, 5, 0)])
def test_the_interval_at_the_ends(counts):
    both, won, lost, neither = counts
    low, high = newcombe(both, won, lost, neither)
    assert -1 <= low <= (won - lost) / 5 <= high <= 1 and low < high


def test_in_words(pair):
    assert "robust accuracy 20.0% to 50.0% within Linf(4/255), change +30.0 points" in repr(pair)
    assert "12 won, 3 lost, of 30 examples" in str(pair) and "attacks differ" not in str(pair)
    assert len(str(pair).splitlines()) == 8
    told = json.loads(pair.to_json())
    assert told["won"] == pair.won.tolist() and told["robust_accuracy"] == [0.2, 0.5]
    even = compare(run({1}), run({2}))
    assert "it may be chance" in repr(even) and "+" not in repr(even).partition("(95%")[0]


def test_no_change_is_no_chance(tmp_path):
    """Where no example was won or lost there is nothing that chance could have done."""
    same, none = compare(run({1}), run({1})), compare(run(set()), run(set()))
    said = "the same 1 of 30 examples held"
    assert f"robust accuracy 3.3% in both runs within Linf(4/255), no change: {said};" in repr(same)
    assert "no change: none of 30 examples held in either" in str(none)
    page = Page(same.report(tmp_path / "page.html").read_text("utf-8")).text
    few = Page(same._repr_html_()).text
    assert f"No change: {said}. For more data of the same kind" in page and said in few
    for text in (repr(same), page, few):
        assert "chance" not in text and "0.0 points" not in text
    for even in (compare(run({1}), run({2})), compare(run({1}), run({1, 2}))):
        assert "no change" not in Page(even._repr_html_()).text.lower() + repr(even)


def test_the_page(pair, tmp_path):
    path = pair.report(tmp_path / "page.html", title="Hardening", author="Li Wei", note="v2")
    page = Page(path.read_text("utf-8"))
    for words in (
        "Hardening",
        "By Li Wei",
        "v2",
        "Robust accuracy rose: +30.0 points",
        "12 examples won, 3 lost.",
        "Won, 12: held after, not before. 6, 7, 8,",
        "6 of 30 examples were not broken by PGD",
        "small sample: 30",
        "Lost: as the second run broke them",
    ):
        assert words in page.text, words
    assert "different attacks" not in page.text
    with pytest.raises(InvalidInput, match="exists"):
        pair.report(path)
    pair.report(path, overwrite=True)
    assert "Robustness before and after: by hand" in Page(path.read_text("utf-8")).text
    few = Page(pair._repr_html_())
    assert "20.0% → 50.0% robust accuracy" in few.text and "12 won, 3 lost" in few.text


def test_what_makes_a_comparison_unfair_is_said(tmp_path):
    other = compare(run({1, 2}), run({1}, attacks=("FGSM",)))
    text = Page(other.report(tmp_path / "page.html").read_text("utf-8")).text
    assert "The two runs used different attacks" in text and "attacks differ" in str(other)
    assert "Both runs are of the same weights." in text
    assert "includes 0: the difference may be chance" in text


def drawn(figure):
    """The labels that stand in the axes of a figure, and whether one lies on a line of it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    (axes,) = figure.axes
    labels = {text.get_text(): text.get_window_extent(canvas.get_renderer()) for text in axes.texts}
    falling = [line for line in axes.get_lines() if line.get_drawstyle() == "steps-post"]
    on = []
    for line in falling:
        x, y = line.get_data()
        x, y = np.repeat(x, 2)[1:], np.repeat(y, 2)[:-1]
        path = axes.transData.transform_path(Path2(np.column_stack([x, y])))
        on += [text for text, box in labels.items() if path.intersects_bbox(box, filled=False)]
    return labels, len(falling), on


@pytest.mark.parametrize("shares", [(0.765, 0.74), (0.5, 0.5), (1.0, 1.0), (0.0, 0.0), (1.0, 0.0)])
@pytest.mark.parametrize("epsilon", [0.1, 0.4])
def test_no_label_of_the_curve_lies_on_another(pair, monkeypatch, shares, epsilon):
    """Drawn, and measured: whole letters, at either side of the budget."""
    monkeypatch.setattr(comparing.Paired, "robust_accuracy", shares)
    pair.before.facts["epsilon"] = epsilon
    with comparing.drawing.context():
        figure = comparing._figure(pair, [None, None], 0.5, False)
        labels, _, _ = drawn(figure)
    before, after = (
        labels[f"{when} {share:.1%}"]
        for when, share in zip(("before", "after"), shares, strict=True)
    )
    assert not before.overlaps(after)
    assert shares[0] == shares[1] or (before.y0 >= after.y0) == (shares[0] > shares[1])
    dots = [line for line in figure.axes[0].get_lines() if line.get_marker() == "o"]
    assert dots[0].get_xdata()[0] < epsilon < dots[1].get_xdata()[0]


def measured(held, last, seed=0, count=60):
    """A run of which some held, with the smallest change known of each, as far as ``last``."""
    random = np.random.default_rng(seed)
    some = set(random.permutation(count)[: round(held * count)].tolist())
    status = ["held" if one in some else "broken" for one in range(count)]
    distances = [
        4 / 255 * (random.uniform(1.01, last) if what == "held" else random.random())
        for what in status
    ]
    return searched(made(count=count, status=lambda _, one: status[one]), distances)


SHAPES = [(share, last) for share in (0.0, 0.3, 0.6, 1.0) for last in (1.2, 3, 30)]


@pytest.mark.parametrize(("share", "last"), SHAPES)
def test_no_label_lies_on_a_line(share, last):
    """Of the curve of one run, and of two whose figures are equal, or near each other."""
    one = measured(share, last)
    line, epsilon = curve_chart.measured(one), 4 / 255
    end = curve_chart._end(line, epsilon)
    with comparing.drawing.context():
        labels, lines, on = drawn(curve_chart._figure(one, line, end, [0, epsilon], True))
    assert lines == 1 and {f"{share:.1%}", "budget 4/255"} <= set(labels) and not on
    assert not [one for one, other in overlapping(labels)]
    for other in (measured(share, last, seed=1), measured(min(1, share + 0.02), last, seed=1)):
        both = [line, curve_chart.measured(other)]
        with comparing.drawing.context():
            labels, lines, on = drawn(comparing._figure(compare(one, other), both, end, True))
        assert lines == 2 and len(labels) == 2 and not on and not overlapping(labels)


def overlapping(labels):
    pairs = itertools.combinations(labels.items(), 2)
    return [(one, other) for (one, box), (other, place) in pairs if box.overlaps(place)]


def test_letters_stand_out_from_what_they_lie_on():
    one = measured(0.3, 3)
    assert 'class="chart halo"' in curve_chart.chart(one)["svg"]
    assert 'class="chart halo"' in comparing.chart(compare(one, one))["svg"]
    for text in (report.html(one), report.fragment(one)):
        style = text[text.index("<style>") : text.index("</style>")]
        assert re.search(r"\.halo text \{ paint-order: stroke; stroke: var\(--", style)


def test_runs_of_one_model_are_called_by_their_files():
    one, other = run({1}), run({2})
    assert comparing.named(compare(one, other)) == ("by hand (weights aa)",) * 2
    one.path, other.path = Path("here/before.advex"), Path("after.advex")
    found = compare(one, other)
    assert comparing.named(found) == ("by hand (before.advex)", "by hand (after.advex)")
    other.facts["known as"] = "mine.keras"
    assert comparing.named(found) == ("by hand", "mine.keras")
    # a model that nobody has named: both by their files
    one.facts["model"] = "Classifier('sequential_3', box=(0.0, 1.0))"
    assert comparing.named(found) == ("before.advex", "after.advex")
    title = comparing.comparison(found, comparing.Words())["words"].title
    assert title == "Robustness before and after: before.advex and after.advex"
    other.path = Path("there/before.advex")
    assert comparing.named(found) == (str(one.path), str(other.path))
    one.facts["model"] = "Classifier('mine.keras', box=(0.0, 1.0))"
    assert comparing.named(found)[1] == f"mine.keras ({other.path})"
    one.facts["model"] = "Classifier('sequential_3', box=(0.0, 1.0))"
    one.path = None
    assert comparing.named(found) == (
        "Sequential model of 3 layers",
        "Functional model of 3 layers",
    )


def test_every_kind_of_budget_has_a_page(tmp_path):
    for number, epsilon in enumerate((None, 4 / 255)):
        found = compare(run({1}, epsilon=epsilon), run({2}, epsilon=epsilon))
        found.report(tmp_path / f"{number}.html")
    chart = comparing.chart(found)
    assert chart["lines"] == [False, False]


def test_real_runs_and_real_refusals(tmp_path):
    model, (x, labels) = linear_model(), linear_data(20)
    attack, budget = advex.PGD(steps=3), advex.Linf(0.05)

    def evaluated(data=(x, labels), within=budget, **settings):
        given = {"diagnose": False, "progress": False, **settings}
        return advex.evaluate(model, data, attack, within, **given)

    before = evaluated()
    found = compare(before, evaluated(seed=3, block=7))  # blocks do not matter to whole arrays
    assert isinstance(found, Comparison) and found.examples == 20
    with pytest.raises(InvalidInput, match="of different data"):
        compare(before, evaluated((x[::-1].copy(), labels[::-1].copy())))
    with pytest.raises(InvalidInput, match="different data"):
        compare(before, evaluated((x, 1 - labels)))
    with pytest.raises(InvalidInput, match=r"within Linf\(0.05\) and .* within Linf\(0.1\)"):
        compare(before, evaluated(within=advex.Linf(0.1)))
    with pytest.raises(InvalidInput, match="not finished"):
        compare(before, told(evaluated(), finished=False))
    with pytest.raises(InvalidInput, match="different goals"):
        compare(before, evaluated(goal=lambda labels: advex.Targeted(1 - labels)))
    aimed = evaluated(goal=lambda labels: advex.Targeted(1 - labels))
    same = evaluated(goal=lambda labels: advex.Targeted(1 - labels), seed=1)
    other = evaluated(goal=lambda labels: advex.Targeted(labels * 0 + 1))
    assert compare(aimed, same).examples == 20
    with pytest.raises(InvalidInput, match="different goals"):
        compare(aimed, other)
    with pytest.raises(InvalidType, match="two evaluations"):
        compare(before, "after.advex")


def test_a_stream_is_compared_by_its_blocks():
    model, (x, labels) = linear_model(), linear_data(20)

    def stream(block, rows=20):
        data = [(x[first : first + 5], labels[first : first + 5]) for first in range(0, rows, 5)]
        return advex.evaluate(
            model, iter(data), advex.FGSM(), advex.Linf(0.05), block=block, diagnose=False
        )

    assert compare(stream(10), stream(10)).examples == 20
    with pytest.raises(InvalidInput, match="block=10"):
        compare(stream(10), stream(5))
    with pytest.raises(InvalidInput, match="of different data"):
        compare(stream(10), stream(10, rows=10))
