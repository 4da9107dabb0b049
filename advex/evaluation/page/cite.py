"""What others need of a run: sentences and an entry of a bibliography that cite it, a row for a
table, the figures as files inside the page.
"""

from __future__ import annotations

import base64
import csv
import io
import json
from typing import Any

from advex.evaluation.figures import Figures
from advex.evaluation.goal_tables import in_short
from advex.evaluation.page import threat
from advex.evaluation.page.numbers import brief, count, counted, percent
from advex.evaluation.page.repeat import model_name
from advex.evaluation.text import doctor_broke, no_doctor, wrong_before

MOST_ROWS = 2000  # of examples that are inside the page


def citation(evaluation: Figures) -> str:
    """The result in a few sentences that can stand in a paper."""
    if not evaluation.examples:
        return "No example has been looked at yet: there is nothing to cite."
    ids = ", ".join(flag.id for flag in evaluation.flags)
    doctor = "not examined" if no_doctor(evaluation) else f"flags {ids}" if ids else "no flags"
    broke = f"; {said[0].lower()}{said[1:-1]}" if (said := doctor_broke(evaluation)) else ""
    low, high = map(percent, evaluation.interval or (0.0, 1.0))
    attacked = f"attacked: {evaluation.attacked}; " if evaluation.attacked else ""
    goal = f"goal {evaluation.goal}" if "goal" in evaluation.facts else ""
    short = "".join(f"; {text}" for text in (goal, in_short(evaluation)) if text)
    before = wrong_before(evaluation)
    wrong = f" ({count(evaluation.wrong)} {before} before)" if evaluation.wrong else ""
    names = ", ".join(evaluation.names) or "any attack"
    broken = f"not broken by {names}" if evaluation.robust_accuracy else f"attacked by {names}"
    if evaluation.wrong == evaluation.examples:
        broken = f"no attack, all {before} before"
    return (
        f"{'Unfinished: ' if not evaluation.finished else ''}Robust accuracy"
        f" {_most(evaluation, 'at most ')}{percent(evaluation.robust_accuracy)} of"
        f" {counted(evaluation.examples)} (95% interval {low} to {high}): {broken}"
        f" within {brief(evaluation.budget)}, {threat.access(evaluation)}. Clean accuracy"
        f" {percent(evaluation.clean_accuracy)}{wrong}{short}. advex"
        f" {evaluation.versions['advex']}, {evaluation.facts['identity']['backend']}, seed"
        f" {evaluation.seed}, {attacked}doctor: {doctor}{broke}, begun {evaluation.facts['began']}."
    )


def _most(evaluation: Figures, words: str) -> str:
    """The words, but for a robust accuracy of 0, which nothing can lower."""
    return words if evaluation.robust_accuracy else ""


def bibtex(evaluation: Figures, title: str, author: str) -> str:
    """An entry of a bibliography for the run."""
    began, advex = str(evaluation.facts["began"]), evaluation.versions["advex"]
    key = f"advex-{evaluation.hashes['data'][:8]}"
    fields = {
        "title": f"{{{_plain(title)}}}",
        "author": f"{{{_plain(author) if author else 'The authors of the evaluation'}}}",
        "year": f"{{{began[:4]}}}",
        "howpublished": f"{{Report of an evaluation by advex {_plain(advex)}}}",
        "note": f"{{{_plain(citation(evaluation))}}}",
    }
    lines = [f"  {name:<12} = {value}," for name, value in fields.items()]
    return "\n".join([f"@misc{{{key},", *lines, "}"]) + "\n"


def table_row(evaluation: Figures) -> str:
    """The run as a table of one row, in Markdown."""
    if not evaluation.examples:
        return ""
    beside = (
        f" (the doctor: {percent(evaluation.robust_at_most)})" if doctor_broke(evaluation) else ""
    )
    cells = {
        "Model": model_name(evaluation),
        "Clean accuracy": percent(evaluation.clean_accuracy),
        "Robust accuracy": _most(evaluation, "≤ ") + percent(evaluation.robust_accuracy) + beside,
        "Threat model": threat.threat(evaluation).label,
        "Attacks": ", ".join(evaluation.names),
        "Examples": count(evaluation.examples),
    }
    rows = [list(cells), ["---"] * len(cells), list(cells.values())]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in row)} |" for row in rows) + "\n"


def downloads(evaluation: Any) -> list[dict[str, str]]:
    """The figures as JSON, and the examples as CSV, for links: (name, what, address)."""
    made = []
    if hasattr(evaluation, "to_dict"):
        text = json.dumps(evaluation.to_dict(), indent=2, allow_nan=False)
        made.append(
            {
                "name": "evaluation.json",
                "what": "All figures, JSON",
                "href": _address("application/json", text),
            }
        )
    if 0 < evaluation.examples <= MOST_ROWS:
        made.append(
            {
                "name": "examples.csv",
                "what": "Every example, CSV",
                "href": _address("text/csv", _csv(evaluation)),
            }
        )
    return made


def _csv(evaluation: Figures) -> str:
    text, writer = io.StringIO(newline=""), None
    for entry in evaluation.rows():
        if writer is None:
            writer = csv.DictWriter(text, list(entry))
            writer.writeheader()
        writer.writerow(entry)
    return text.getvalue()


def _address(kind: str, text: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(text.encode('utf-8', 'replace')).decode()}"


def _plain(text: str) -> str:
    """A text as TeX takes it, without commands."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {letter: f"\\{letter}" for letter in "{}$&#_%"}
    return "".join(special.get(letter, letter) for letter in " ".join(str(text).split()))


def _cell(text: str) -> str:
    return " ".join(str(text).split()).replace("|", "\\|")
