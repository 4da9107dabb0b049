"""The data of one diagnosis: the model, the examples, what is known of them, the passes spent."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from functools import wraps
from typing import Any, TypeVar

import numpy as np

from advex import _backend
from advex._arrays import Array, Tensor
from advex._grid import Grid
from advex.attacks.call import Attackable
from advex.budgets import L0, L1, L2, Budget, Linf
from advex.doctor.diagnosis import Finding
from advex.driver.honesty import stale
from advex.driver.judging import CHECKED, Judge
from advex.driver.shapes import default_batch, power_of_two
from advex.goals import Untargeted
from advex.model.protocol import Model
from advex.result import Result

EXAMPLES = 128  # correctly classified ones that are looked at
USUAL_RADII: dict[type[Budget], float] = {Linf: 8 / 255, L2: 0.5, L1: 10.0, L0: 20}

Value = TypeVar("Value")


def with_limit(budget: Budget) -> Budget:
    """The budget, or the usual one of its norm if it has no limit and there is one."""
    if budget.limited or type(budget) not in USUAL_RADII:
        return budget
    return type(budget)(USUAL_RADII[type(budget)])


class Examination:
    """One call of ``diagnose``.

    Attributes:
        classifier, grid, seed: of the call.
        budget: within which attacks run, with a limit wherever one is known.
        index, x, labels: the examples: their rows in the call, inputs and classes.
        n: how many.
        batch: rows that the model is asked about at once.
        queries, gradients: passes spent so far.
        broken: of each example that an attack within the budget has broken, the first result that
            has it, and its row there.
        no_gradient: whether the model turned out to have none.
        findings: of the checks that were asked so far.
        measured: what ``shared`` functions found.
    """

    def __init__(
        self,
        classifier: Model,
        x: Array,
        labels: Array,
        budget: Budget,
        seed: int,
        batch_size: int | None,
    ) -> None:
        self.classifier, self.seed, self.batch_size = classifier, seed, batch_size
        self.budget = with_limit(budget)
        self.grid = Grid(x.dtype, classifier.box)
        self.batch = batch_size or default_batch(x.shape[1:])
        if not _backend.RAGGED:
            self.batch = min(power_of_two(self.batch), power_of_two(max(len(x), 1)))
        self.gradients = self.queries = 0
        self.no_gradient = False
        self.findings: dict[str, Finding] = {}
        self.broken: dict[int, tuple[Result, int]] = {}
        self.measured: dict[Hashable, Any] = {}
        self.index = self._correct(x, labels) if len(x) else np.zeros(0, "int64")
        self.x, self.labels = x[self.index], labels[self.index]
        self.n = len(self.x)

    def _correct(self, x: Array, labels: Array) -> Array:
        """The first rows that are classified correctly."""
        sample = self.grid.working(x[:CHECKED])
        Untargeted(labels).check(len(x), self.classifier.forward(sample).classes)
        self.judge = Judge(self.classifier, self.grid, self.batch, sample)
        if not self.classifier.metered:
            self._forget_what_is_stale(x[:CHECKED], sample)
        chosen: list[int] = []
        for start in range(0, len(x), self.batch):
            part = self.judge(x[start : start + self.batch], None)
            right = (part["prediction"] == labels[start : start + self.batch]) & ~part["broken"]
            chosen += (start + np.flatnonzero(right)).tolist()
            self.queries += len(right)
            if len(chosen) >= EXAMPLES:
                break
        return np.asarray(chosen[:EXAMPLES], "int64")

    def _forget_what_is_stale(self, x: Array, sample: Array) -> None:
        """What was compiled for the model before something in it was changed."""
        first = self.logits(x)
        if self.classifier.renewed(sample, first):
            self.judge = Judge(self.classifier, self.grid, self.batch, sample)
            first = self.logits(x)
        old, spent = stale(self.classifier, self.judge, x, first)
        if old:
            self.classifier.forget()
            self.judge = Judge(self.classifier, self.grid, self.batch, sample)
        self.queries += spent + self.judge.forward.spent
        self.judge.forward.spent = 0

    @property
    def forward(self) -> Any:
        """The model as attacks see it."""
        return self.classifier.forward(self.grid.working(self.x[:CHECKED]))

    @property
    def everyone(self) -> Array:
        """All examples, (n,) of bool."""
        return np.ones(self.n, bool)

    def logits(self, x: Array) -> Array:
        """Answers of the model itself, called as by hand, batch by batch.

        A random model draws anew.
        """
        self.queries += len(x)
        return self.judge.logits(x)

    def alone(self, x: Array) -> Array:
        """The same, each input in a batch of its own."""
        self.queries += len(x)
        return self.judge.alone(x)

    def compiled(
        self, name: Hashable, function: Callable[[Tensor, Tensor], Any]
    ) -> Callable[[Tensor, Tensor], Any]:
        """``function`` of points and labels, compiled once per model."""
        forward, shape = self.forward, self.x.shape[1:]
        signature: Any = [((None, *shape), "float32"), ((None,), "int32")]
        return self.classifier.compiled(
            ("doctor", name, shape),
            lambda: _backend.compiled(function, signature, forward.variables),
        )

    def batches(self, index: Array) -> Iterator[tuple[Array, int]]:
        """The rows ``index`` in batches, each with the number of true rows.

        The others are padding, where shapes must not change.
        """
        for start in range(0, len(index), self.batch):
            part = index[start : start + self.batch]
            padding = 0 if _backend.RAGGED else self.batch - len(part)
            yield np.concatenate([part, np.repeat(part[:1], padding)]), len(part)

    def attack(
        self, attack: Attackable, chosen: Array, budget: Budget | None = None, seed: int = 0
    ) -> Array:
        """Which examples the attack breaks.

        Args:
            attack: any.
            chosen: the examples that it sees, (n,) of bool.
            budget: another one than that of the examination. Successes within it are not kept.
            seed: added to that of the call.

        Returns:
            (n,) of bool.
        """
        fell, index = np.zeros(self.n, bool), np.flatnonzero(chosen)
        if not len(index):
            return fell
        result = attack(
            self.classifier,
            self.x[index],
            self.labels[index],
            self.budget if budget is None else budget,
            seed=(self.seed + seed) % 2**63,
            batch_size=self.batch_size,
            progress=False,
        )
        self.gradients += int(result.gradients.sum())
        self.queries += int(result.queries.sum()) + result.info["checks"]["queries"]
        fell[index] = result.success
        if budget is None:
            for row in np.flatnonzero(result.success):
                self.broken.setdefault(int(index[row]), (result, int(row)))
        return fell


def shared(measure: Callable[[Examination], Value]) -> Callable[[Examination], Value]:
    """A measurement that several checks look at, made when the first of them asks."""

    @wraps(measure)
    def known(exam: Examination) -> Value:
        if measure not in exam.measured:
            exam.measured[measure] = measure(exam)
        found: Value = exam.measured[measure]
        return found

    return known
