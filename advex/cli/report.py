"""``advex report``: what a run file holds, as a page or as tables."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from advex.cli.screen import console, say
from advex.cli.summary import summarise
from advex.cli.words import add_options, option
from advex.errors import InvalidInput

OPTIONS = (
    option("run", type=Path, metavar="RUN", help="the file of advex evaluate --run"),
    option("--out", type=Path, metavar="PAGE.html", help="write one self-contained page"),
    option("--csv", type=Path, metavar="FILE", help="write one line for each example"),
    option("--overwrite", action="store_true", help="replace these files"),
    option("--json", action="store_true", help="print one JSON document instead of a table"),
)


def add(commands: Any) -> None:
    """The parser of this command."""
    add_options(
        commands.add_parser("report", help="what a run file holds, as a page or as tables"), OPTIONS
    )


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Read the run file and write what was asked for; the report as plain values."""
    from advex.evaluation import Evaluation

    found = Evaluation.load(options.run)
    written = []
    for path, write in ((options.out, found.report), (options.csv, found.to_csv)):
        if path is not None:
            if not path.parent.is_dir():
                raise InvalidInput(f"{path}: there is no folder {path.parent}")
            written.append(str(write(path, overwrite=options.overwrite)))
    return {
        "command": "report",
        "success": True,
        "evaluation": found,
        "written": written,
        "run": str(options.run),
    }


def show(outcome: dict[str, Any]) -> None:
    """The tables, and where files are."""
    screen = console()
    summarise(screen, outcome["evaluation"])
    for path in outcome["written"]:
        say(screen, f"Written: {path}")
