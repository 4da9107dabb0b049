"""``advex report``: what a run file holds, as a page or as tables; what changed between two."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from advex.cli.screen import console, say, sign
from advex.cli.summary import summarise
from advex.cli.words import add_options, option
from advex.errors import InvalidInput

OPTIONS = (
    option(
        "run",
        type=Path,
        nargs="+",
        metavar="RUN",
        help="the file of advex evaluate --run; two of them, before and after, are compared",
    ),
    option("--out", type=Path, metavar="PAGE.html", help="write one self-contained page"),
    option("--title", default="", metavar="TEXT", help="the title of the page"),
    option("--author", default="", metavar="NAME", help="who has made the evaluation"),
    option("--note", default="", metavar="TEXT", help="a remark below the title of the page"),
    option(
        "--check",
        type=Path,
        metavar="PAGE.html",
        help="say whether that page still says what the run says; exit code 1 if it does not",
    ),
    option("--csv", type=Path, metavar="FILE", help="write one line for each example of one run"),
    option("--overwrite", action="store_true", help="replace these files"),
    option("--json", action="store_true", help="print one JSON document instead of a table"),
)
OF_PAGE = ("title", "author", "note")
MOST_PLACES = 5  # that differ, and are shown
MOST_WORDS = 300  # letters of one of them


def add(commands: Any) -> None:
    """The parser of this command."""
    add_options(
        commands.add_parser(
            "report", help="what a run file holds, as a page or as tables; or two compared"
        ),
        OPTIONS,
    )


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Read the run files and write what was asked for; the report as plain values."""
    from advex.evaluation import Evaluation, compare
    from advex.evaluation.page import check

    words = {name: getattr(options, name) for name in OF_PAGE}
    _demand_sense(options)
    for path in (options.out, options.csv):
        if path is not None and os.path.lexists(path) and not options.overwrite:
            raise InvalidInput(f"{path} exists; --overwrite replaces it")
    runs = [Evaluation.load(path) for path in options.run]
    found: Any = compare(*runs) if len(runs) == 2 else runs[0]
    written = []
    if options.out is not None:
        written.append(str(found.report(options.out, overwrite=options.overwrite, **words)))
    if options.csv is not None:
        written.append(str(runs[0].to_csv(options.csv, overwrite=options.overwrite)))
    names = [str(path) for path in options.run]
    checked = None
    if options.check is not None:
        places = [place._asdict() for place in check(options.check, found)]
        checked = {"page": str(options.check), "same": not places, "differences": places}
    return {
        "command": "report",
        "success": checked is None or checked["same"],
        "check": checked,
        "comparison" if len(runs) == 2 else "evaluation": found,
        "written": written,
        "run": names if len(runs) == 2 else names[0],
    }


def _demand_sense(options: argparse.Namespace) -> None:
    """Raise unless the options belong together and the folders are there."""
    if len(options.run) > 2:
        raise InvalidInput(
            f"one run is shown, or two are compared; received {len(options.run)}: advex report"
            " before.advex after.advex"
        )
    if len(options.run) == 2 and options.csv is not None:
        raise InvalidInput(
            "--csv is a table of one run; of a comparison there is a document with the numbers of"
            " the examples, --json"
        )
    if options.out is None and (given := [name for name in OF_PAGE if getattr(options, name)]):
        raise InvalidInput(f"--{given[0]} is for a page: --out report.html")
    for path in (options.out, options.csv):
        if path is not None and not path.parent.is_dir():
            raise InvalidInput(f"{path}: there is no folder {path.parent}")


def show(outcome: dict[str, Any]) -> None:
    """The tables, and where files are."""
    screen = console()
    if outcome["check"] is not None:
        _show_check(screen, outcome["check"], outcome["run"])
    elif "comparison" in outcome:
        for line in str(outcome["comparison"]).splitlines():
            say(screen, line)
    else:
        summarise(screen, outcome["evaluation"])
    for path in outcome["written"]:
        say(screen, f"Written: {path}")


def _show_check(screen: Any, checked: dict[str, Any], run: str | list[str]) -> None:
    """Whether a page says what the run says, and where it does not."""
    of = run if isinstance(run, str) else " and ".join(run)
    if checked["same"]:
        many = "say" if not isinstance(run, str) else "says"
        say(screen, f"{sign(True)} {checked['page']} says what {of} {many}, to the last byte.")
        return
    places = checked["differences"]
    many = f"{len(places)} places" if len(places) > 1 else "one place"
    say(screen, f"{sign(False)} {checked['page']} differs from {of} in {many}.")
    for place in places[:MOST_PLACES]:
        for whose in ("page", "run"):
            if place[whose]:
                say(screen, f"  {whose:>4}: {_cut(place[whose])}")


def _cut(text: str) -> str:
    return text if len(text) <= MOST_WORDS else f"{text[: MOST_WORDS - 3]}..."
