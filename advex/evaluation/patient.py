"""The first examples that are classified correctly: what the doctor looks at."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from advex import attacks
from advex._arrays import Array
from advex._inputs import Bundle
from advex.budgets import Budget
from advex.doctor import EXAMPLES, Diagnosis, diagnose
from advex.errors import AdvexWarning, GradientUnavailable
from advex.evaluation.pieces import Clean, Plan
from advex.evaluation.source import Block

SAMPLE_STEPS = 100  # of the attack that says how far a few examples are from the boundary


class Patient:
    """The first examples that are classified correctly, for the doctor."""

    def __init__(self) -> None:
        self.x: list[Array] = []
        self.labels: list[Array] = []

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

    def seen(self, plan: Plan) -> Diagnosis:
        """What the doctor says."""
        x, labels = np.concatenate(self.x), np.concatenate(self.labels)
        assert isinstance(plan.budget, Budget)  # the doctor is not asked otherwise
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AdvexWarning)
            return diagnose(
                plan.classifier, x, labels, plan.budget, seed=plan.seed, batch_size=plan.batch
            )

    def sample(self, plan: Plan) -> dict[str, Any] | None:
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
                    type(plan.budget)(),
                    seed=plan.seed,
                    batch_size=plan.batch,
                    progress=False,
                )
            except GradientUnavailable:
                return None
        distances = [value if np.isfinite(value) else None for value in found.distance.tolist()]
        return {"attack": repr(attack), "distances": distances}
