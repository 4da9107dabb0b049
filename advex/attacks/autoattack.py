"""AutoAttack: the ensemble that the field compares itself with."""

from __future__ import annotations

from dataclasses import dataclass

from advex._settings import shown
from advex.attacks.apgd import APGD
from advex.attacks.composite import AveragedGradient, Composite, Ensemble, EveryTarget, Restarts
from advex.attacks.fab import FAB
from advex.attacks.square import SquareAttack
from advex.budgets import L1, Budget
from advex.driver.plan import Wave
from advex.errors import InvalidInput
from advex.goals import Goal
from advex.losses import dlr

VERSIONS = ("standard", "plus", "rand")
WIDER = (3.0, 2.0, 1.0)  # the radii of APGD in L1


def members(version: str, budget: Budget | None) -> Ensemble:
    """The attacks of a version, with the settings of the papers for the budget's norm."""
    sparse = isinstance(budget, L1)
    if version == "rand":
        return Ensemble(
            AveragedGradient(APGD(), None, 20), AveragedGradient(APGD(loss=dlr), None, 20)
        )
    if version == "plus":
        return Ensemble(
            Restarts(APGD(), 5),
            Restarts(APGD(loss=dlr), 5),
            Restarts(FAB(), 5),
            SquareAttack(),
            EveryTarget(APGD(loss=dlr), 9),
            EveryTarget(FAB(), 9),
        )
    first, second = (
        (APGD(radii=WIDER), APGD(loss=dlr, radii=WIDER)) if sparse else (APGD(), APGD(loss=dlr))
    )
    return Ensemble(
        Restarts(first, 5) if sparse else first,
        EveryTarget(second, 5 if sparse else 9),
        EveryTarget(FAB(), 9),
        SquareAttack(),
    )


@dataclass(frozen=True)
class AutoAttack(Composite):
    """APGD, targeted APGD, targeted FAB and Square, one after the other: the field's standard
    measure of robust accuracy.

    When to use it:
        For a robust accuracy that can be compared with RobustBench and with papers. `Verdict` gives
        the same verdict for a fraction of the cost in most cases.

    No formula:
        An ensemble. The formulas are those of `APGD`, `FAB` and `SquareAttack`.

    Each part attacks only the examples that no part before it broke. `result.broken_by` tells what
    broke each row, `result.info["stages"]` what each part cost and broke.

    Args:
        version: `"standard"`: APGD on cross-entropy, APGD on the targeted DLR loss and FAB for 9
            targets each, Square with 5,000 queries (in L1: 5 restarts, 5 targets, wider balls
            first). `"plus"`: 5 restarts of untargeted APGD, on both losses, and of untargeted FAB
            as well. `"rand"`, for models that are random at inference: APGD on both losses, with
            gradients averaged over 20 looks.

    Raises:
        InvalidInput: an unknown version; at the call, for `L0`, for a budget without a limit, or
            for a
            goal without labels.

    Cost:
        An example that holds pays for everything. In Linf and L2: 100 gradients for APGD, 900 for
        targeted APGD, 900 for targeted FAB (fewer with fewer than 10 classes), 5,000 queries for
        Square.

    Example:
        >>> import advex
        >>> x, labels = advex.testing.linear_data(4)
        >>> result = AutoAttack()(advex.testing.linear_model(), x, labels, advex.Linf(0.02))
        >>> len(result.info["stages"])
        4

    Reference:
        Croce and Hein, Reliable evaluation of adversarial robustness with an ensemble of diverse
        parameter-free attacks, ICML 2020. https://arxiv.org/abs/2003.01690

        In L1: Croce and Hein, Mind the box: l1-APGD for sparse adversarial attacks on image
        classifiers, ICML 2021. https://arxiv.org/abs/2103.01208

    Deviations:
        Those of the parts. An example leaves at its first success. With fewer than four classes DLR
        becomes the margin (`info` says so). A `Targeted` goal is pursued by every part.
    """

    version: str = "standard"

    def __post_init__(self) -> None:
        if not isinstance(self.version, str) or self.version not in VERSIONS:
            raise InvalidInput(
                f"version must be one of {', '.join(map(repr, VERSIONS))}; received"
                f" {shown(self.version)}"
            )

    def check(self, goal: Goal | None, budget: Budget) -> None:
        super().check(goal, budget)
        if goal is not None and not hasattr(goal, "labels") and self.version != "rand":
            raise InvalidInput(
                f"AutoAttack tries one class after another, and {type(goal).__name__} has no"
                " labels: advex.Verdict() is an ensemble that takes every goal"
            )
        members(self.version, budget).check(goal, budget)

    def plan(self, budget: Budget | None = None) -> list[Wave]:
        return members(self.version, budget).plan(budget)
