"""Tables and colours: what a terminal of 60 or 80 columns shows, and one without colours."""

import io

import pytest
from rich.console import Console

from advex.cli import outcome, screen, summary

NAMES = ["a-very-long-name-of-a-photo.png", "裤子和衬衫的照片和其他的东西.png", "b.png"]


def drawn(width, columns, rows, *given, **named):
    """The lines of a table in a terminal."""
    out = io.StringIO()
    terminal = Console(file=out, width=width, force_terminal=True, color_system=None)
    terminal.print(screen.table(terminal, columns, rows, *given, **named))
    return [line.rstrip() for line in out.getvalue().splitlines()]


@pytest.mark.parametrize("width", [40, 60, 80])
def test_no_row_breaks_and_none_is_too_wide(width):
    rows = [
        [name, "not fooled", "Ankle boot 100%", str(8 * place)] for place, name in enumerate(NAMES)
    ]
    lines = drawn(width, ["file", "result", "before", "n"], rows, ["n"], whole=["result"])
    assert len(lines) == 2 + len(rows)
    assert max(map(screen._width, lines)) <= width
    for line, (_, _, _, number) in zip(lines[2:], rows, strict=True):
        assert "not fooled" in line and line.endswith(number)
    assert lines[2].split()[0].endswith(".png") and lines[2][0] == "a"
    assert ("…" in lines[2]) == (width < 80)


def test_columns_are_spared_in_order():
    rows = [["PGD", "100", "200", "300"]]
    columns = ["attack", "one", "two", "three"]
    settings = {"spare": ["three", "one"]}
    heads = [
        drawn(width, columns, rows, columns[1:], **settings)[0].split() for width in (30, 20, 12)
    ]
    assert heads == [columns, ["attack", "one", "two"], ["attack", "two"]]


@pytest.mark.parametrize(
    ("text", "width", "short"),
    [
        ("a-long-name.png", 10, "a-lon….png"),
        ("short", 10, "short"),
        ("裤子衬衫外套", 7, "裤子…套"),
    ],
)
def test_shortened(text, width, short):
    assert screen.shortened(text, width) == short
    assert screen._width(short) <= width


class Tty(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


@pytest.mark.parametrize("quiet", [True, False])
def test_no_color_leaves_text_alone(quiet, monkeypatch):
    out = Tty()
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if quiet:
        monkeypatch.setenv("NO_COLOR", "1")
    outcome.show(report())
    said = out.getvalue()
    assert ("\x1b" in said) != quiet
    assert "✓ fooled" in said and "✗ not fooled" in said


def entry(name, status, **more):
    names = "reason after confidence levels distance verified queries output"
    empty = dict.fromkeys(names.split())
    was = {"file": f"photos/{name}", "status": status, "before": "Coat", "before_confidence": 0.9}
    return empty | {"notes": []} | was | more


def report(**more):
    found = {
        "after": "Bag",
        "confidence": 0.8,
        "levels": 8,
        "verified": True,
        "output": "out/a.png",
    }
    images = [
        entry("a.png", "fooled", **found),
        entry("b.png", "fooled", **found),
        entry("c.png", "not fooled"),
        entry("d.png", "already the target"),
        entry("e.png", "unreadable", before=None, reason="the file is empty"),
    ]
    settings = {
        "budget": "Linf(8/255)",
        "epsilon": 8 / 255,
        "norm": "linf",
        "attack_name": "PGD (40 steps)",
        "target": {"name": "Bag"},
        "confidence": None,
    }
    whole = {"images": images, "settings": settings, "fooled": 2, "queries": None, "stopped": None}
    whole |= {"notes": [], "contact_sheet": "out/contact_sheet.png", "attacked": 3, "advice": []}
    whole |= {"in_box": None}
    return whole | more


def test_totals_add_up_and_what_is_the_same_is_said_once(capsys):
    outcome.show(report())
    said = capsys.readouterr().out
    head = said.splitlines()[0].split()
    assert head == ["file", "result", "before", "after"]
    assert "2 of 3 images fooled as Bag by PGD (40 steps) within Linf(8/255)" in said
    assert "1 more was Bag before, and was not attacked" in said
    assert "1 more could not be read" in said and "e.png: the file is empty" in said
    assert "Largest change of a pixel in each: 8 grey levels" in said
    assert "All 2 PNGs were read back and judged again: verified" in said
    assert "1 was not fooled. A better attack may break more." in said


def test_what_differs_is_a_column(capsys):
    given = report()
    given["images"][0] |= {"levels": 7, "verified": False, "status": "not verified"}
    outcome.show(given)
    said = capsys.readouterr().out
    assert said.splitlines()[1].split()[-2:] == ["levels", "verified"]
    assert "NO" in said and "Largest change" not in said and "judged again" not in said


def test_what_a_narrow_terminal_leaves_out_is_known():
    assert set(summary.SPARE) < set(summary.COLUMNS)
    assert {"attack", "broken"} <= set(summary.COLUMNS) - set(summary.SPARE)


def test_signs_where_no_signs_are_known(monkeypatch):
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert (screen.sign(True), screen.sign(False)) == ("+", "-")
    assert screen.shortened("a-long-name.png", 10) == "a-lon~.png"
