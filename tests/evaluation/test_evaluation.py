"""Curves: what they say, how they look, what they refuse."""

import builtins

import numpy as np
import pytest
from PIL import Image

import advex
from advex.errors import InvalidInput, InvalidType
from advex.evaluation import Curve, curve
from advex.testing import linear_data, linear_model


@pytest.fixture(scope="module")
def run():
    x, labels = linear_data(200)
    labels[:10] = 1 - labels[:10]  # wrong already
    return advex.DeepFool()(linear_model(), x, labels, advex.L2())


def test_every_radius_from_one_run(run):
    whole = curve(run)
    assert whole.at(0) == 0.95
    for radius in (0.01, 0.1, 0.35):
        assert whole.at(radius) == (run.distance > radius).mean()
        inside = advex.DeepFool()(run.classifier, run.original, run.goal, advex.L2(radius))
        assert abs(whole.at(radius) - (1 - inside.success_rate)) < 0.01
    assert whole.at(run.distance.max()) == 0
    assert whole.median == np.median(run.distance)
    np.testing.assert_allclose(
        whole.accuracy, [whole.at(radius) for radius in whole.radii], atol=1e-12
    )
    assert (np.diff(whole.accuracy) < 0).all()


def test_the_table_falls_from_clean_to_nothing(run):
    lines = str(curve(run)).splitlines()
    assert lines[0].split() == ["L2", "radius", "accuracy"]
    shares = [float(line.split()[1].rstrip("%")) for line in lines[1:]]
    assert shares == sorted(shares, reverse=True)
    assert (shares[0], shares[-1]) == (95.0, 0.0)
    assert 5 <= len(shares) <= 13
    assert curve(run).table([0.25]).splitlines()[1].split()[0] == "0.25"
    assert repr(curve(run)).startswith(
        "Curve(L2, 200 inputs, accuracy 95.0% at 0, median distance "
    )


def test_a_run_within_a_limit_ends_there():
    x, labels = linear_data(50)
    short = curve(advex.PGD(steps=5)(linear_model(), x, labels, advex.Linf(8 / 255)))
    assert short.table().splitlines()[-1].split()[0] == "8/255"
    with pytest.raises(InvalidInput, match=r"run it with advex\.Linf\(\)"):
        short.at(0.1)


def test_nothing_is_told_where_nothing_was_measured():
    """An attack within a limit stops anywhere inside: two rows, two points, no line."""
    x, labels = linear_data(50)
    short = curve(advex.PGD(steps=5)(linear_model(), x, labels, advex.Linf(8 / 255)))
    assert [line.split()[0] for line in short.table().splitlines()[1:]] == ["0", "8/255"]
    assert "Nothing was measured between these radii" in str(short) and not short.exact
    assert "Nothing was measured" in short._repr_html_()
    (points,) = short._figure().axes[0].get_lines()
    assert points.get_linestyle() == "None" and len(points.get_xdata()) == 2
    assert short.at(4 / 255) >= short.at(8 / 255)  # a bound all the same


@pytest.mark.parametrize(
    ("most", "radii"),
    [
        (7.2, [f"{level}/255" for level in range(1, 9)]),
        (30, [f"{level}/255" for level in range(3, 31, 3)]),
        (2.5, ["0.001", "0.002"]),
        (200, ["0.1", "0.2", "0.3"]),
    ],
)
def test_radii_are_whole_levels(most, radii):
    whole = Curve(np.linspace(0.5, most, 40) / 255, "Linf")
    told = [line.split()[0] for line in whole.table().splitlines()[1:]]
    assert told[0] == "0" and told[1 : 1 + len(radii)] == radii
    assert "Nothing was measured" not in str(whole)


def test_nothing_found_and_everything_wrong():
    held = Curve(np.full(4, np.inf), "L2")
    assert (held.at(1e9), held.median) == (1.0, np.inf)
    assert held.table().splitlines()[1:] == ["           0    100.0%"]
    wrong = Curve(np.zeros(4), "L0")
    assert wrong.at(0) == 0
    for one in (held, wrong):
        assert "<svg" in one._repr_html_()


def test_elements_are_whole_numbers():
    x, labels = linear_data(60)
    table = curve(advex.JSMA()(linear_model(), x, labels, advex.L0())).table()
    assert all(float(line.split()[0]).is_integer() for line in table.splitlines()[1:])


def test_the_picture(run, tmp_path):
    figure = curve(run).show(tmp_path / "curve.png")
    axes = figure.axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("L2 radius", "accuracy in %")
    (line,) = axes.get_lines()
    heights = line.get_ydata()
    assert heights[0] == 95
    assert heights[-1] == 0
    with Image.open(tmp_path / "curve.png") as picture:
        assert picture.size == (900, 540)
    with pytest.raises(InvalidInput, match="exists"):
        curve(run).show(tmp_path / "curve.png")
    curve(run).show(tmp_path / "curve.svg")
    assert (tmp_path / "curve.svg").read_text().startswith("<?xml")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curve.png", "curve.svg"]


def test_without_matplotlib_there_are_numbers_and_a_hint(run, monkeypatch):
    real = builtins.__import__

    def missing(name, *rest, **more):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr("importlib.import_module", lambda name: missing(name))
    with pytest.raises(ImportError, match=r"advex\[report\]"):
        curve(run).show()
    assert "<svg" not in curve(run)._repr_html_()
    assert "95.0%" in curve(run)._repr_html_()


def test_what_is_no_result_is_refused(run):
    with pytest.raises(InvalidType, match="curve needs what an attack returned"):
        curve(run.distance)
    with pytest.raises(InvalidInput, match="at least one"):
        curve(
            advex.DeepFool()(
                linear_model(), np.zeros((0, 12), "float32"), np.zeros(0, int), advex.L2()
            )
        )
    with pytest.raises(InvalidInput, match="radius"):
        curve(run).at(-1)
