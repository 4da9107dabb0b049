"""What stands on the page: plain values for the templates, each figure as text once."""

from __future__ import annotations

import math
import time
from typing import Any, NamedTuple

from advex.doctor import Diagnosis, Finding
from advex.evaluation.figures import Figures
from advex.evaluation.page import (
    attack_table,
    cite,
    class_chart,
    curve_chart,
    goal_part,
    pictures,
    questions,
    repeat,
)
from advex.evaluation.page.numbers import NONE, brief, count, counted, distance, percent
from advex.evaluation.page.threat import threat
from advex.evaluation.text import OFF, doctor_broke, no_doctor, stronger, wrong_before
from advex.evaluation.wanted import CLASSES

SIGNS = {
    "flag": ("▲", "flag"),
    "ok": ("✓", "passed"),
    "noted": ("•", "noted"),
    "not run": (NONE, "not run"),
}
SMALL = 200  # examples: fewer are a small sample
FORMAT = "%Y-%m-%d %H:%M:%S"


class Words(NamedTuple):
    """What the user says of the page: empty for nothing."""

    title: str = ""
    author: str = ""
    note: str = ""


def summary(evaluation: Figures) -> dict[str, Any]:
    """What a notebook shows: headline, flags, attacks."""
    absent = no_doctor(evaluation)
    return {
        "result": _result(evaluation),
        "threat": threat(evaluation),
        "doctor": None if absent else _doctor(evaluation.diagnosis),
        "absent": {"text": absent, "off": absent == OFF},
        "beside": _beside(evaluation),
        "attacks": attack_table.attacks(evaluation),
        "wrong_range": evaluation.wrong_range,
        "warnings": evaluation.warnings,
        "goal": goal_part.goal(evaluation),
    }


def page(evaluation: Figures, words: Words) -> dict[str, Any]:
    """All of the page."""
    title = words.title or f"Robustness evaluation: {repeat.model_name(evaluation)}"
    return summary(evaluation) | {
        "words": words._replace(title=title),
        "curve": curve_chart.chart(evaluation) if curved(evaluation) else None,
        "curved": curved(evaluation),
        "classes": class_chart.classes(evaluation) if evaluation.measured == CLASSES else {},
        "overlap": attack_table.overlap(evaluation),
        "pictures": pictures.galleries(evaluation),
        "costs": _costs(evaluation),
        "where": _where(evaluation),
        "record": _record(evaluation),
        "citation": cite.citation(evaluation),
        "bibtex": cite.bibtex(evaluation, title, words.author),
        "row": cite.table_row(evaluation),
        "downloads": cite.downloads(evaluation),
        "snippet": repeat.snippet(evaluation),
    }


def notebook(evaluation: Figures) -> dict[str, Any]:
    """What a notebook shows, with its chart and its pictures."""
    name = f"curve-{evaluation.hashes['data'][:8]}"
    chart = None
    if curved(evaluation):
        try:
            chart = curve_chart.chart(evaluation, name)
        except ImportError:  # matplotlib is missing
            chart = None
    shown = pictures.galleries(evaluation)
    if not shown["maps"]:  # the page has the farthest, too
        shown["places"] = [one for one in shown["places"] if one["name"] != "farthest"]
    return summary(evaluation) | {"curve": chart, "pictures": shown}


def curved(evaluation: Figures) -> bool:
    """Whether a radius means the same for all examples and all that is attacked."""
    return bool(evaluation.facts.get("curve", True))


def _result(evaluation: Figures) -> dict[str, Any]:
    budget, limited = brief(evaluation.budget), evaluation.facts["epsilon"] is not None
    interval = evaluation.interval
    nearest = evaluation.curve.median if evaluation.examples and not limited else math.inf
    share = percent(evaluation.robust_accuracy)
    held = round((evaluation.robust_accuracy or 0.0) * evaluation.examples)
    attacks = listed(evaluation.names) or "any attack"
    within = budget if limited else f"{budget}, a change of any size"
    return {
        "model": repeat.model_name(evaluation),
        "kind": repeat.model_kind(evaluation),
        "weights": str(evaluation.hashes["weights"] or "")[:8],
        "finished": evaluation.finished,
        "share": share,
        "held": held,
        "none": not held and not evaluation.undecided,
        "all": held == evaluation.examples,
        # "at most" says nothing of none and of all
        "bound": 0 < held < evaluation.examples and not share.startswith(">"),
        "examples": evaluation.examples,
        "small": evaluation.examples < SMALL,
        "attacks": attacks,
        "budget": within,
        "interval": None if interval is None else tuple(map(percent, interval)),
        "bar": None
        if interval is None
        else [round(100 * value, 2) for value in (*interval, evaluation.robust_accuracy or 0.0)],
        "clean": percent(evaluation.clean_accuracy),
        "wrong": evaluation.wrong,
        "before": wrong_before(evaluation),
        "saying": _saying(evaluation, held, attacks, within),
        "broken": int(evaluation.broken.sum()),
        "median": None if limited else distance(nearest, evaluation.facts["norm"]),
        "undecided": evaluation.undecided,
        "invalid": evaluation.invalid,
        "waiting": len(evaluation.distance) - evaluation.examples - evaluation.invalid,
        "began": evaluation.facts["began"],
        "attacked": evaluation.attacked,
    }


def _saying(evaluation: Figures, held: int, attacks: str, within: str) -> str:
    """The headline in a sentence or two."""
    examples, broken, wrong = evaluation.examples, int(evaluation.broken.sum()), evaluation.wrong
    before = f"{wrong_before(evaluation)} before any attack"
    one = examples == 1
    if examples and wrong == examples:
        who = "The only example was" if one else f"All {count(examples)} examples were"
        return f"{who} {before}: none was left to be attacked."
    others = f" Of the others {count(wrong)} {_were(wrong)} {before}." if wrong else ""
    if held or evaluation.undecided:
        said = f"{count(held)} of {counted(examples)} {_were(examples)} not broken by {attacks}"
        return f"{said} within {within}.{others}"
    if one:
        return f"The only example did not hold: it was broken by {attacks} within {within}."
    return (
        f"None of the {count(examples)} examples held: {count(broken)} {_were(broken)} broken by"
        f" {attacks} within {within}.{others}"
    )


def _were(number: int) -> str:
    return "was" if number == 1 else "were"


def _beside(evaluation: Figures) -> dict[str, str] | None:
    """What only the doctor has broken, in words; None where that is nothing."""
    said = doctor_broke(evaluation)
    return {"said": said, "advice": stronger(evaluation)} if said else None


def listed(names: list[str]) -> str:
    """Names in a sentence.

    Example:
        >>> listed(["PGD", "FGSM", "FAB"])
        'PGD, FGSM and FAB'
    """
    *most, last = names or [""]
    return f"{', '.join(most)} and {last}" if most else last


def _doctor(diagnosis: Diagnosis | None) -> dict[str, Any] | None:
    if diagnosis is None:
        return None
    findings = [_finding(finding) for finding in diagnosis.findings]
    rest = [one for one in findings if one["kind"] != "flag"]
    kinds = [one["kind"] for one in findings]
    counted = [f"{kinds.count('ok')} of {len(kinds)} passed"]
    counted += [
        f"{kinds.count(kind)} {words}"
        for kind, words in (("noted", "noted"), ("not-run", "not run"))
        if kind in kinds
    ]
    return {
        "examples": diagnosis.examples,
        "budget": diagnosis.budget,
        "flags": [one for one in findings if one["kind"] == "flag"],
        "rest": rest,
        "counted": ", ".join(counted),
        "checks": len(findings),
        "ran": len(findings) - kinds.count("not-run"),
        "skipped": [one for one in findings if one["kind"] == "not-run"],
        "passes": diagnosis.gradients + diagnosis.queries,
        "gradients": diagnosis.gradients,
        "queries": diagnosis.queries,
    }


def _finding(finding: Finding) -> dict[str, Any]:
    sign, status = SIGNS.get(finding.status, ("?", finding.status))
    return {
        "id": finding.id,
        "name": finding.name,
        "sign": sign,
        "status": status,
        "kind": finding.status.replace(" ", "-"),
        "question": questions.question(finding),
        "answer": questions.answer(finding),
        "found": questions.found(finding),
        "means": finding.means,
        "advice": finding.advice,
    }


def _costs(evaluation: Figures) -> list[tuple[str, int | float, float | None]]:
    """What was spent: (what, in total, per example)."""
    passes, seconds = evaluation.passes, evaluation.seconds

    def row(what: str, value: int | float) -> tuple[str, int | float, float | None]:
        return what, value, value / evaluation.examples if evaluation.examples else None

    rows = [
        row("Forward passes of the attacks", passes["queries"]),
        row("Backward passes of the attacks", passes["gradients"]),
        row("Forward passes on the inputs as they are", passes["clean"]),
        row("Forward passes to check the model", passes["checks"]),
    ]
    if evaluation.diagnosis is not None:
        rows.append(("Forward passes of the doctor", evaluation.diagnosis.queries, None))
        rows.append(("Backward passes of the doctor", evaluation.diagnosis.gradients, None))
    return [*rows, row("Time, clean pass included (s)", seconds)]


def _where(evaluation: Figures) -> list[tuple[str, str]]:
    """On what, and when: (what, as text)."""
    facts = evaluation.facts
    rows = [("Machine", machine(facts["machine"]))] if "machine" in facts else []
    batch = facts.get("batch")
    rows += [("Batch", f"{batch} rows")] if batch else []
    rows.append(("Begun", facts["began"]))
    if "ended" in facts:
        rows.append(("Ended", facts["ended"]))
        passed = _seconds(facts["ended"]) - _seconds(facts["began"])
        if passed >= 0:
            rows.append(("Duration, pauses and the doctor included", duration(passed)))
    return rows


def machine(fact: dict[str, Any]) -> str:
    """What a run worked on, in words.

    Example:
        >>> machine({"devices": {"GPU": 2}, "system": "Linux", "processor": "x86_64", "cores": 8})
        '2 GPUs, 8 CPU cores, Linux x86_64'
    """
    devices = [
        kind if number == 1 else f"{number} {kind}s"
        for kind, number in fact.get("devices", {}).items()
        if kind != "CPU"
    ]
    cores = fact.get("cores")
    devices += [f"{cores} CPU core{'s' if cores != 1 else ''}"] if cores else ["CPU"]
    return ", ".join([*devices, f"{fact.get('system', '')} {fact.get('processor', '')}".strip()])


def duration(seconds: float) -> str:
    """So many seconds in words.

    Example:
        >>> duration(75), duration(7260), duration(3)
        ('1 min 15 s', '2 h 1 min', '3 s')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _seconds(written: str) -> float:
    return time.mktime(time.strptime(str(written)[:19], FORMAT))


def _record(evaluation: Figures) -> list[tuple[str, str]]:
    """What decides the result: (what, as text)."""
    facts = evaluation.facts
    about = facts["identity"]
    block = f"{facts['block']} rows" if facts["block"] else "not settled: no rows came"
    rows = [
        *((("Known as", facts["known as"]),) if facts.get("known as") else ()),
        ("Model", facts["model"]),
        ("Layers", about["model"]),
        ("Preprocessing", about["preprocess"] or "none"),
        *((("Attacked", evaluation.attacked),) if evaluation.attacked else ()),
        *((("Domain", about["domain"]),) if "domain" in about else ()),
        ("Box", f"{about['box'][0]:g} to {about['box'][1]:g}"),
        ("Weights, hash", evaluation.hashes["weights"] or "not known: a black box"),
        ("Inputs", facts["inputs"] or "none"),
        ("Data, hash", evaluation.hashes["data"]),
        *((("Goal", evaluation.goal),) if "goal" in facts else ()),
        ("Budget", evaluation.budget),
        ("Seed", str(evaluation.seed)),
        *((f"Attack {attack.name}", attack.settings) for attack in evaluation.attacks),
        ("Block", block),
        (
            "Batch",
            f"{about['batch_size']} rows"
            if about["batch_size"]
            else "automatic, from the size of an input",
        ),
        ("Adversarial inputs kept", "all" if about["keep"] == "success" else "those shown here"),
        ("Backend", about["backend"]),
        (
            "Versions",
            ", ".join(f"{name} {version}" for name, version in evaluation.versions.items()),
        ),
        ("Finished", "yes" if evaluation.finished else "no"),
    ]
    return [(what, str(text)) for what, text in rows]
