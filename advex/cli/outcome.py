"""What ``advex attack`` prints: a table of files, remarks about them, and what came of it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from advex.cli.batch import SHEET_PICTURES
from advex.cli.screen import console, marked, plural, say, say_whole, table, yes_or_no

NARROW = 72  # columns of a terminal below which less is shown
LEVELS = "grey\nlevels"
LEFT_OUT = {
    "unreadable": "could not be read",
    "no answer": "got no answer from the model",
    "stopped": "had not been asked about when the function failed",
}
"""Images that no attack was made on."""


def show(report: dict[str, Any]) -> None:
    """Print the report of a call."""
    screen, entries = console(), report["images"]
    columns, rows = _table(report, sure=screen.width >= NARROW)
    numbers = [name for name in columns[4:] if name != "verified"]
    screen.print(table(screen, columns, rows, numbers, whole=["result"]))
    say(screen)
    remarks: dict[str, list[str]] = {}
    for entry in entries:
        for remark in [entry["reason"]] if entry["reason"] else entry["notes"]:
            remarks.setdefault(remark, []).append(Path(entry["file"]).name)
    for remark, files in remarks.items():
        others = f" and {plural(len(files) - 1, 'other')}" if files[1:] else ""
        say(screen, f"{files[0]}{others}: {remark}")
    _totals(screen, report)
    if report["stopped"]:
        say(screen, f"Stopped: {report['stopped']}")
    if report["queries"] is not None:
        say(screen, _about_queries(report))
    for sentence in [*_said_once(entries), *report["notes"]]:
        say(screen, sentence)
    _places(screen, report)
    _what_to_try(screen, report)


def _table(report: dict[str, Any], *, sure: bool) -> tuple[list[str], list[list[Any]]]:
    """Headings and cells; what is the same in all rows is not among them, nor, unless there is
    room, how ``sure`` the model was before.
    """
    entries, norm = report["images"], report["settings"]["norm"]
    further = {
        LEVELS: [_shown(entry["levels"], "d") for entry in entries],
        norm.upper(): [_shown(entry["distance"], ".3g") for entry in entries],
        "queries": [_shown(entry["queries"], ",d") for entry in entries],
        "verified": [yes_or_no(entry["verified"]) for entry in entries],
    }
    kept = {
        LEVELS: _same(entries, "levels") is None,
        norm.upper(): norm != "linf",
        "queries": report["queries"] is not None,
        "verified": not all(entry["verified"] in (True, None) for entry in entries),
    }
    exact = ".1%" if report["settings"]["confidence"] else ".0%"
    rows = [
        [
            Path(entry["file"]).name,
            _fate(entry),
            _named(entry["before"], entry["before_confidence"] if sure else None, ".0%"),
            _named(entry["after"], entry["confidence"], exact),
            *(cells[place] for name, cells in further.items() if kept[name]),
        ]
        for place, entry in enumerate(entries)
    ]
    names = [name for name in further if kept[name]]
    return ["file", "result", "before", "after", *names], rows


def _fate(entry: dict[str, Any]) -> Any:
    """What became of an image."""
    status = entry["status"]
    if status == "already the target":
        return "  already there"
    return marked(status, status == "fooled")


def _named(name: str | None, confidence: float | None, how: str) -> str:
    if not name or confidence is None:
        return name or ""
    return f"{name} {confidence:{how}}"


def _shown(value: float | None, how: str) -> str:
    return "" if value is None else format(value, how)


def _same(entries: list[dict[str, Any]], name: str) -> Any:
    """The value that all entries have that have any; None if there are several, or none."""
    values = {entry[name] for entry in entries} - {None}
    return values.pop() if len(values) == 1 else None


def _totals(screen: Any, report: dict[str, Any]) -> None:
    """How many were fooled of those that were attacked, and what the others are."""
    settings, entries = report["settings"], report["images"]
    within = f"within {settings['budget']}"
    if settings["epsilon"] in (None, math.inf):
        within = f"in {settings['budget'].partition('(')[0]} without a limit"
    target = settings["target"] and settings["target"]["name"]
    goal = f" as {target}" if target else ""
    demanded = f" with {settings['confidence']:.0%}" if settings["confidence"] else ""
    counts = {
        status: sum(entry["status"] == status for entry in entries)
        for status in ("already the target", *LEFT_OUT)
    }
    attacked = len(entries) - sum(counts.values())
    say(
        screen,
        f"{report['fooled']} of {plural(attacked, 'image')} fooled{goal}{demanded} by"
        f" {settings['attack_name']} {within}",
        style="bold",
    )
    if there := counts.pop("already the target"):
        was = "was" if there == 1 else "were"
        say(screen, f"{there} more {was} {target} before, and {was} not attacked")
    for status, count in counts.items():
        if count:
            say(screen, f"{count} more {LEFT_OUT[status]}")


def _said_once(entries: list[dict[str, Any]]) -> list[str]:
    """What is the same in all rows."""
    said = []
    files = [entry["verified"] for entry in entries if entry["verified"] is not None]
    if (levels := _same(entries, "levels")) is not None:
        each = " in each" if len(files) > 1 else ""
        said.append(f"Largest change of a pixel{each}: {plural(levels, 'grey level')}")
    if files and all(files):
        which = "The PNG was" if len(files) == 1 else f"All {len(files)} PNGs were"
        said.append(f"{which} read back and judged again: verified")
    return said


def _places(screen: Any, report: dict[str, Any]) -> None:
    """Where the pictures are."""
    kept = [Path(entry["output"]).parent for entry in report["images"] if entry["output"]]
    if report["stopped"] and kept:
        say_whole(screen, f"Pictures in {kept[0]}")
    if report["contact_sheet"]:
        first = f", the first {SHEET_PICTURES}" if report["attacked"] > SHEET_PICTURES else ""
        say_whole(screen, f"Side by side{first}: {report['contact_sheet']}")
    elif report["attacked"] and not kept:
        say(screen, "No picture was written.")


def _what_to_try(screen: Any, report: dict[str, Any]) -> None:
    """Commands for what was not fooled."""
    held = sum(entry["status"] == "not fooled" for entry in report["images"])
    if report["in_box"]:
        say(screen)
        say(screen, "First the box: see the warning. If it is the wrong one, nothing above counts:")
        _command(screen, report["in_box"])
    if not held:
        return
    was, then = "was" if held == 1 else "were", "Then a" if report["in_box"] else "A"
    say(screen)
    say(
        screen,
        f"{held} {was} not fooled. {then} better attack may break more"
        + (", such as:" if report["advice"] else "."),
    )
    for command in report["advice"]:
        _command(screen, command)


def _command(screen: Any, command: str) -> None:
    """A command to paste, in from the left."""
    say_whole(screen, "\n".join(f"  {line}" for line in command.splitlines()))


def _about_queries(report: dict[str, Any]) -> str:
    """How often a function in place of a model was asked."""
    files = sum(entry["verified"] is not None for entry in report["images"])
    again = f", and once more about {'each of ' * (files > 1)}{plural(files, 'file')}" * (files > 0)
    return f"The function was asked {plural(report['queries'], 'query')}{again}"
