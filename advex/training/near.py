"""What TRADES and MART change of the attack: what it climbs, and where it begins."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from advex._arrays import Tensor
from advex.attacks.pgd import PGD
from advex.driver.plan import Leaf
from advex.driver.problem import Problem
from advex.errors import InvalidInput
from advex.goals import Goal
from advex.training.methods import divergence

NOISE = 1e-3
"""In units of the box's range."""


class Divergence:
    """A loss for attacks: how far the distribution of the classes is from that of ``clean``, logits
    (batch, classes).
    """

    def __init__(self, clean: Tensor) -> None:
        self._clean = clean

    def __call__(self, logits: Tensor, goal: Goal) -> Tensor:
        return divergence(self._clean, logits)


@dataclass(frozen=True, kw_only=True)
class Near(PGD):
    """``PGD`` from next to the original: the divergence has no gradient at the original itself."""

    def init(self, problem: Problem) -> tuple[Tensor, Any]:
        noise = problem.normal(tuple(problem.x0.shape[1:]))
        return problem.project(problem.x0 + NOISE * problem.span * noise), ()


def near(attack: Leaf, loss: Any, name: str) -> Leaf:
    """``attack``, climbing ``loss`` unless that is None; ``PGD`` begins next to the original."""
    fields = {field.name for field in dataclasses.fields(attack)}  # type: ignore[arg-type]
    if loss is not None and "loss" not in fields:
        raise InvalidInput(
            f"{name} needs an attack that climbs a loss of its choice, with a field loss=;"
            f" {type(attack).__name__} has none: attack=advex.PGD(steps=7)"
        )
    changed = {} if loss is None else {"loss": loss}
    if type(attack) is PGD:
        own = {field: getattr(attack, field) for field in fields}
        return Near(**(own | changed))
    return dataclasses.replace(attack, **changed) if changed else attack  # type: ignore[type-var]
