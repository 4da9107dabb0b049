"""What a run file says of its run before the first row is attacked."""

from __future__ import annotations

import contextlib
import os
import platform
import time
from typing import Any

import keras
import numpy as np

from advex import _backend
from advex._version import VERSION
from advex.evaluation.asked import Asked
from advex.evaluation.budgets import even, joined, norm_of, radius
from advex.evaluation.identity import About, backend_version
from advex.evaluation.pieces import Plan
from advex.evaluation.wanted import described, kind_of
from advex.goals import Goal

MOST_PARTS = 10_000  # of functions and objects: more are not written down one by one


NO_DOCTOR = (
    "The doctor has not looked: its checks are about the class of each example, and the goal of"
    " this run is {goal}."
)


def first_facts(
    asked: Asked, what: About, plan: Plan | None, inputs: str | None, goal: Goal | None = None
) -> dict[str, Any]:
    """Name -> value, all of them JSON.

    Args:
        asked: what is asked for.
        what: all that decides what the run finds.
        plan: what is done to each block; None where no rows came.
        inputs: dtype and shape of one input; None likewise.
        goal: of the first block, where the run has one of its own.
    """
    parts, budget = what.parts, joined(asked.budget, asked.classifier)
    return {
        "identity": what.identity(),
        "parts": parts if sum(map(len, parts.values())) <= MOST_PARTS else {},
        "state": [],
        "inputs": inputs,
        "block": plan.block if plan else None,
        "batch": plan.batch if plan else None,
        "doctor": asked.diagnose,
        "norm": norm_of(budget),
        "epsilon": radius(budget),
        "model": repr(asked.classifier),
        "known as": getattr(asked.classifier, "known_as", ""),
        "classes": asked.classifier.names,
        "versions": {
            "advex": VERSION,
            "keras": keras.__version__,
            _backend.NAME: backend_version(),
            "numpy": np.__version__,
        },
        "machine": machine(),
        "began": now(),
        "finished": False,
        **({} if even(budget) else {"curve": False}),
        **({"no doctor": asked.no_doctor} if asked.no_doctor else {}),
    } | ({} if goal is None else goal_facts(goal))


def now() -> str:
    """The time, as it is written down."""
    return time.strftime("%Y-%m-%d %H:%M:%S %Z")


def machine() -> dict[str, Any]:
    """What a run works on: kinds and numbers, nothing that names the computer."""
    listed: list[str] = []
    with contextlib.suppress(Exception):  # not every backend has a list
        listed = [
            str(device).partition(":")[0].upper() for device in keras.distribution.list_devices()
        ]
    kinds = {kind: listed.count(kind) for kind in sorted(set(listed))}
    if len(kinds) > 1:
        kinds.pop("CPU", None)
    return {
        "devices": kinds,
        "system": platform.system(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
    }


def goal_facts(goal: Goal) -> dict[str, Any]:
    """What is written down of a goal."""
    text = described(goal)
    return {
        "goal": {"kind": kind_of(goal), "text": text, "targeted": bool(goal.targeted)},
        "no doctor": NO_DOCTOR.format(goal=text),
    }
