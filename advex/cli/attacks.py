"""``advex attacks``: what there is, and when to use which."""

from __future__ import annotations

import argparse
import inspect
import re
from typing import Any

from advex.cli.program import command
from advex.cli.registry import ACCESS, ATTACKS, FAMILIES, NORMS, USUAL, Known, attack_called
from advex.cli.screen import console, say, say_whole, table
from advex.cli.words import add_options, option

OPTIONS = (
    option("name", nargs="?", metavar="ATTACK", help="one of them: its settings and defaults"),
    option("--json", action="store_true", help="print one JSON document instead of a table"),
)
EPILOG = """\
examples:
  advex attacks
  advex attacks pgd
"""
NAMES, NORMS_WIDE, COST = 17, 13, 11  # columns of a terminal
COLUMNS = ("attack".ljust(NAMES), "norms".ljust(NORMS_WIDE), "each step".ljust(COST), "when")


def add(commands: Any) -> None:
    """The parser of this command."""
    add_options(
        commands.add_parser(
            "attacks",
            help="list the attacks, and when to use which",
            epilog=EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        ),
        OPTIONS,
    )


def run(options: argparse.Namespace) -> dict[str, Any]:
    """The attacks as plain values; with a name that one alone."""
    chosen = list(ATTACKS.values()) if options.name is None else [attack_called(options.name)]
    return {
        "command": "attacks",
        "success": True,
        "one": options.name is not None,
        "attacks": [_values(known) for known in chosen],
    }


def _values(known: Known) -> dict[str, Any]:
    """One attack as plain values."""
    said = _documented(known)
    return {
        "name": known.name,
        "python": known.kind,
        "also": known.also.split(),
        "kind": known.family,
        "when": known.when,
        "about": said.pop("", ""),
        "norms": list(known.norms),
        "goals": list(known.goals),
        "needs": known.needs,
        "needs_epsilon": known.needs_limit,
        "each_step": known.cost,
        "settings": [
            {"name": name, "default": _typed(default), "meaning": said.get(name, "")}
            for name, default in known.settings.items()
        ],
    }


def _typed(default: Any) -> str | None:
    """A default as one types it; None where there is none."""
    if default is inspect.Parameter.empty:
        return None
    return getattr(default, "__name__", None) or repr(default)


def _documented(known: Known) -> dict[str, str]:
    """What the documentation says of each setting, and under ``""`` of the attack."""
    text = inspect.getdoc(known.maker) or ""
    start, _, rest = text.partition("\nArgs:\n")
    about = {"": " ".join(start.split("\n\n")[0].replace("``", "").split())}
    listed = re.split(r"\n(?=\S)", rest)[0]
    for entry in re.finditer(r"^    (\w+): (.*(?:\n     .*)*)", listed, re.MULTILINE):
        about[entry[1]] = " ".join(entry[2].replace("``", "").split())
    return about


def show(report: dict[str, Any]) -> None:
    """The table, or one attack."""
    screen = console()
    if report["one"]:
        _show_one(screen, report["attacks"][0])
        return
    first = True
    for family, title in FAMILIES.items():
        rows = [_cells(entry) for entry in report["attacks"] if entry["kind"] == family]
        if not first:
            say(screen)
        say(screen, title, style="bold")
        spare = (COLUMNS[2],)
        screen.print(table(screen, COLUMNS, rows, wraps=(COLUMNS[3],), spare=spare, heads=first))
        first = False
    say(screen)
    say(screen, "F: a forward pass of the model, B: a backward pass; a query is a forward pass.")
    say(screen, "More about one:")
    say_whole(screen, f"  {command(['attacks', 'pgd'])}")


def _cells(entry: dict[str, Any]) -> list[str]:
    norms = "any norm" if len(entry["norms"]) == len(NORMS) else " ".join(entry["norms"])
    return [
        entry["name"].ljust(NAMES),
        norms.ljust(NORMS_WIDE),
        entry["each_step"].ljust(COST),
        entry["when"],
    ]


def _show_one(screen: Any, entry: dict[str, Any]) -> None:
    say(screen, entry["name"], style="bold")
    say(screen, entry["about"])
    say(screen)
    also = f", or {', '.join(entry['also'])}" if entry["also"] else ""
    limit = "a limit is needed" if entry["needs_epsilon"] else "inf looks for the smallest change"
    facts = {
        "when": entry["when"],
        "kind": FAMILIES[entry["kind"]],
        "called": f"{entry['name']}{also}; in Python advex.{entry['python']}",
        "norms": ", ".join(entry["norms"]),
        "goals": ", ".join(entry["goals"]),
        "needs": ACCESS[entry["needs"]],
        "epsilon": limit,
        "each step": entry["each_step"],
    }
    for name, words in facts.items():
        say(screen, f"  {name:10} {words}")
    if entry["settings"]:
        say(screen)
        rows = [
            [
                setting["name"],
                "needed" if setting["default"] is None else setting["default"],
                setting["meaning"],
            ]
            for setting in entry["settings"]
        ]
        heads = ("setting", "default", "meaning")
        screen.print(table(screen, heads, rows, wraps=("meaning",)))
    known = ATTACKS[entry["name"]]
    say(screen)
    say(screen, known.way_round or "From here:")
    if not known.instead:
        say_whole(screen, f"  {command(['attack', 'IMAGE', *typed(known)])}")


def typed(known: Known) -> list[str]:
    """The options that choose an attack."""
    norm = known.norms[0]
    words = ["--attack", known.name]
    if norm != "linf":
        words += ["--norm", norm]
    if known.needs_limit and norm != "linf":
        words += ["--epsilon", USUAL[norm]]
    elif known.smallest:
        words += ["--epsilon", "inf"]
    return words
