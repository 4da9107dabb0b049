"""The first examples that are classified correctly: what the doctor looks at."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np

from advex import attacks
from advex._arrays import Array
from advex._inputs import Bundle
from advex.budgets import Budget
from advex.doctor import EXAMPLES, Diagnosis, diagnose
from advex.errors import AdvexWarning, GradientUnavailable
from advex.evaluation.budgets import radius
from advex.evaluation.pieces import Clean, Plan
from advex.evaluation.schema import HELD, PICTURES, SAMPLE
from advex.evaluation.source import Block
from advex.evaluation.values import plain

SAMPLE_STEPS = 100  # of the attack that says how far a few examples are from the boundary


class Sample(NamedTuple):
    """What the doctor's search for the smallest change has found.

    Attributes:
        fact: what is written down of each example.
        pictures: (place, in place of an attack, example, distance, before, after) each.
    """

    fact: dict[str, Any]
    pictures: list[tuple[str, int, int, float, Array, Array]]


class Patient:
    """The first examples that are classified correctly, for the doctor."""

    def __init__(self) -> None:
        self.x: list[Array] = []
        self.labels: list[Array] = []
        self.examples: list[Array] = []  # their numbers in the data

    def __len__(self) -> int:
        return sum(map(len, self.x))

    @property
    def complete(self) -> bool:
        """Whether there are as many as the doctor looks at."""
        return len(self) >= EXAMPLES

    def add(self, block: Block, before: Clean) -> None:
        """Take what is still wanted."""
        if isinstance(block.x, Bundle):
            return  # which the doctor cannot look at
        rows = np.flatnonzero(before.status == "correct")[: max(0, EXAMPLES - len(self))]
        if len(rows) or not self.x:
            self.x.append(block.x[rows])
            self.labels.append(before.labels[rows])
            self.examples.append(block.first + rows)

    def seen(self, plan: Plan) -> Diagnosis:
        """What the doctor says."""
        x, labels = np.concatenate(self.x), np.concatenate(self.labels)
        assert isinstance(plan.budget, Budget)  # the doctor is not asked otherwise
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AdvexWarning)
            return diagnose(
                plan.classifier, x, labels, plan.budget, seed=plan.seed, batch_size=plan.batch
            )

    def sample(self, plan: Plan) -> Sample | None:
        """How far these few are from the boundary, whatever the budget: attacks within a limit do
        not tell.
        """
        assert isinstance(plan.budget, Budget)
        if not plan.budget.limited or plan.classifier.metered or not len(self):
            return None
        attack = attacks.FMN(steps=SAMPLE_STEPS)
        x, labels = np.concatenate(self.x), np.concatenate(self.labels)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AdvexWarning)
            try:
                found = attack(
                    plan.classifier,
                    x,
                    labels,
                    plan.budget.bound(None),
                    seed=plan.seed,
                    batch_size=plan.batch,
                    progress=False,
                )
            except GradientUnavailable:
                return None
        examples = np.concatenate(self.examples)
        fact = {
            "attack": repr(attack),
            "examples": examples.tolist(),
            "distances": [plain(value) for value in found.distance],
            "predictions": np.asarray(found.prediction).tolist(),
            "confidences": [plain(value) for value in found.confidence],
        }
        pictures = [
            (place, kept, int(examples[row]), float(found.distance[row]), x[row], found.x[row])
            for place, kept, rows in _shown(found.distance, radius(plan.budget) or 0.0)
            for row in rows
        ]
        return Sample(fact, pictures)


def _shown(distance: Array, epsilon: float) -> list[tuple[str, int, Array]]:
    """Which are kept to be shown: the nearest, the farthest within the budget, and the nearest
    beyond it, of which some may hold. (place, in place of an attack, rows) each.
    """
    order = np.argsort(distance, kind="stable")
    order = order[np.isfinite(distance[order])]
    inside = distance[order] <= epsilon
    return [
        ("nearest", SAMPLE, order[inside][:PICTURES]),
        ("farthest", SAMPLE, order[inside][::-1][:PICTURES]),
        ("farthest", HELD, order[~inside][: 2 * PICTURES]),
    ]
