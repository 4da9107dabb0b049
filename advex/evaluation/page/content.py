"""What stands on the page: plain values for the templates, each figure as text once."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from advex.doctor import Diagnosis, Finding
from advex.evaluation.figures import Figures
from advex.evaluation.goal_tables import in_short
from advex.evaluation.page import class_chart, curve_chart, goal_part, pictures, repeat
from advex.evaluation.page.numbers import NONE, count, distance, percent, unit
from advex.evaluation.summaries import AttackSummary
from advex.evaluation.wanted import CLASSES

SIGNS = {
    "flag": ("▲", "flag"),
    "ok": ("✓", "ok"),
    "noted": ("•", "noted"),
    "not run": (NONE, "not run"),
}


def summary(evaluation: Figures) -> dict[str, Any]:
    """What a notebook shows: headline, flags, attacks."""
    return {
        "result": _result(evaluation),
        "doctor": _doctor(evaluation.diagnosis),
        "attacks": _attacks(evaluation),
        "warnings": evaluation.warnings,
        "goal": goal_part.goal(evaluation),
    }


def page(evaluation: Figures) -> dict[str, Any]:
    """All of the page."""
    return summary(evaluation) | {
        "curves": curve_chart.curves(evaluation) if _curved(evaluation) else [],
        "curved": _curved(evaluation),
        "classes": class_chart.classes(evaluation.per_class) if evaluation.kind == CLASSES else {},
        "overlap": _overlap(evaluation),
        "pictures": pictures.galleries(evaluation),
        "costs": _costs(evaluation),
        "record": _record(evaluation),
        "citation": _citation(evaluation),
        "snippet": repeat.snippet(evaluation),
    }


def _curved(evaluation: Figures) -> bool:
    """Whether a radius means the same for all examples and all that is attacked."""
    return bool(evaluation.facts.get("curve", True))


def _result(evaluation: Figures) -> dict[str, Any]:
    budget, limited = evaluation.budget, evaluation.facts["epsilon"] is not None
    interval = evaluation.interval
    nearest = evaluation.curve.median if evaluation.examples and not limited else math.inf
    return {
        "title": repeat.model_name(evaluation),
        "finished": evaluation.finished,
        "share": percent(evaluation.robust_accuracy),
        "held": round((evaluation.robust_accuracy or 0.0) * evaluation.examples),
        "examples": evaluation.examples,
        "attacks": ", ".join(evaluation.names) or "any attack",
        "budget": budget if limited else f"{budget}, a change of any size",
        "interval": None if interval is None else tuple(map(percent, interval)),
        "clean": percent(evaluation.clean_accuracy),
        "wrong": evaluation.wrong,
        "median": None if limited else distance(nearest, evaluation.facts["norm"]),
        "undecided": evaluation.undecided,
        "invalid": evaluation.invalid,
        "waiting": len(evaluation.distance) - evaluation.examples - evaluation.invalid,
        "began": evaluation.facts["began"],
        "attacked": evaluation.attacked,
    }


def _doctor(diagnosis: Diagnosis | None) -> dict[str, Any] | None:
    if diagnosis is None:
        return None
    return {
        "examples": diagnosis.examples,
        "budget": diagnosis.budget,
        "flags": diagnosis.flags,
        "skipped": [finding for finding in diagnosis.findings if finding.status == "not run"],
        "findings": [_finding(finding) for finding in diagnosis.findings],
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
        "kind": status.replace(" ", "-"),
        "found": finding.found,
        "means": finding.means,
        "advice": finding.advice,
    }


def _attacks(evaluation: Figures) -> dict[str, Any]:
    norm = evaluation.facts["norm"]
    rows = [_attack(attack, norm) for attack in evaluation.attacks]
    right = round((evaluation.clean_accuracy or 0.0) * evaluation.examples)
    together = {
        "attacked": right,
        "broken": int(evaluation.broken.sum()),
        "share": evaluation.robust_accuracy,
    }
    return {"rows": rows, "together": together if len(rows) > 1 else None, "unit": unit(norm)}


def _attack(attack: AttackSummary, norm: str) -> dict[str, Any]:
    each = max(1, attack.attacked)
    return {
        "name": attack.name,
        "settings": attack.settings,
        "attacked": attack.attacked,
        "broken": attack.broken,
        "alone": attack.alone,
        "fragile": attack.fragile,
        "invalid": attack.invalid,
        "share": attack.accuracy,
        "distance": distance(attack.median_distance, norm),
        "gradients": attack.gradients / each,
        "queries": attack.queries / each,
        "seconds": attack.seconds,
    }


def _overlap(evaluation: Figures) -> dict[str, Any] | None:
    """Of the examples that one attack broke, how many each other one broke too; None for a single
    attack.
    """
    names = evaluation.names
    if len(names) < 2 or not evaluation.matrix.any():
        return None
    broke = evaluation.matrix.astype("float64")
    shared = np.rint(broke @ broke.T).astype(int)
    rows = []
    for place, name in enumerate(names):
        total = int(shared[place, place])
        cells = [
            {"both": int(both), "share": both / total if total else None, "own": other == place}
            for other, both in enumerate(shared[place])
        ]
        rows.append({"name": name, "total": total, "cells": cells})
    return {"names": names, "rows": rows}


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
    return [*rows, row("Seconds of the attacks and the first look", seconds)]


def _record(evaluation: Figures) -> list[tuple[str, str]]:
    """What decides the result: (what, as text)."""
    facts = evaluation.facts
    about = facts["identity"]
    block = f"{facts['block']} rows" if facts["block"] else "not settled: no rows came"
    rows = [
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
        ("Begun", facts["began"]),
        ("Finished", "yes" if evaluation.finished else "no"),
    ]
    return [(what, str(text)) for what, text in rows]


def _goal(evaluation: Figures) -> str:
    return f"goal {evaluation.goal}" if "goal" in evaluation.facts else ""


def _citation(evaluation: Figures) -> str:
    """The result in a few sentences that can stand in a paper."""
    result = _result(evaluation)
    if not evaluation.examples:
        return "No example has been looked at yet: there is nothing to cite."
    ids = ", ".join(flag.id for flag in evaluation.flags)
    doctor = (
        "not examined" if evaluation.diagnosis is None else f"flags {ids}" if ids else "no flags"
    )
    low, high = result["interval"]
    attacked = f"attacked: {evaluation.attacked}; " if evaluation.attacked else ""
    short = "".join(f"; {text}" for text in (_goal(evaluation), in_short(evaluation)) if text)
    wrong = f" ({count(result['wrong'])} wrong before)" if result["wrong"] else ""
    return (
        f"{'Unfinished: ' if not evaluation.finished else ''}{result['share']} of"
        f" {count(evaluation.examples)} examples (95 % interval {low} to {high}) not broken by"
        f" {result['attacks']} within {evaluation.budget}; {result['clean']} right without"
        f" attack{wrong}{short}. advex {evaluation.versions['advex']},"
        f" {evaluation.facts['identity']['backend']}, seed"
        f" {evaluation.seed}, {attacked}doctor: {doctor}, begun {evaluation.facts['began']}."
    )
