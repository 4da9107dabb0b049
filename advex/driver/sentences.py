"""What a call says beside its result: what is doubtful, and what was done."""

from __future__ import annotations

from typing import Any

from advex._grid import Grid
from advex._space import Space
from advex.budgets import Budget, Linf
from advex.driver.candidates import NOTHING, ROW
from advex.driver.honesty import Look
from advex.driver.last_word import Word
from advex.driver.ledger import Ledger
from advex.driver.plan import Wave
from advex.goals import Goal, Untargeted
from advex.goals.base import about_scores
from advex.losses import cross_entropy, dlr
from advex.losses import spread as needed_classes
from advex.model.protocol import Model

TELLING = 10  # labels of which an accuracy below chance says something


def before(
    look: Look, goal: Goal, own: bool, budget: Budget, grid: Grid, elsewhere: str = ""
) -> list[str]:
    """What is doubtful before the attack; ``elsewhere`` is said of another range of the inputs."""
    forward, prediction = look.judge.forward, look.before["prediction"]
    said = [look.odd] if look.odd else []
    if elsewhere:
        said.append(elsewhere)
    elif isinstance(goal, Untargeted) and not own and len(prediction) >= TELLING:
        accuracy = (prediction == goal.labels).mean()
        if accuracy < 1 / forward.classes:
            said.append(
                f"The model gets {accuracy:.1%} of these inputs right before any attack, less than"
                " chance: do labels, box and preprocessing belong to this model?"
            )
    one = budget.limited and budget.epsilons is None
    if grid.levels and one and budget.epsilon > 0 and budget.levels() == 0:
        said.append(f"{budget!r} is less than one grey level: 8-bit inputs cannot move at all.")
    return said + ([forward.head.note] if forward.head.warns else [])


def about_inputs(grid: Grid, budget: Budget) -> list[str]:
    """What is attacked, where that is more than one array or of a domain."""
    if not isinstance(grid, Space):
        return []
    notes = []
    if grid.form is not None and grid.form.layer is not None:
        notes.append(
            f"What is attacked is the output of the layer {grid.form.layer!r}: the result holds"
            " such outputs, not inputs, and no file can be written."
        )
    if grid.grouped is not None and isinstance(budget, Linf) and budget.limited:
        largest = budget.epsilon if budget.epsilons is None else budget.epsilons.max()
        if largest < 1:
            notes.append(
                f"A group of one_hot changes by 1, the whole range: within {budget!r} none can."
            )
    return notes


def notes_before(look: Look, classifier: Model, goal: Goal, own: bool) -> list[str]:
    """What was taken for what."""
    forward, reached = look.judge.forward, look.before["reached"]
    notes = [forward.head.note] if forward.head.note and not forward.head.warns else []
    notes += [*goal.notes, *classifier.notes]
    if own:
        notes.append(
            "No labels were given: the model's own predictions are attacked, right or wrong."
            if isinstance(goal, Untargeted)
            else "The model's own answers to the clean inputs are what is attacked, right or wrong."
        )
    if goal.targeted and reached.any():
        notes.append(
            f"{int(reached.sum())} of {len(reached)} targets are what the model predicts already."
        )
    return notes


def notes_after(waves: list[Wave], goal: Goal, classes: int) -> list[str]:
    """What was done otherwise than asked."""
    runs = [run for wave in waves for run in wave.runs if _loss(run.attack) is dlr]
    if not runs:
        return []
    if not about_scores(goal):
        return [
            f"The DLR loss is about one class for each example, and the goal is"
            f" {type(goal).__name__}: the margin took its place."
        ]
    needed = max((4 if run.rank is not None else needed_classes(goal) for run in runs), default=0)
    if classes >= needed:
        return []
    return [
        f"The DLR loss needs {needed} classes and the model has {classes}: the margin took its"
        " place."
    ]


def about_starts(ledger: Ledger) -> list[str]:
    """Rows whose result depends on others."""
    origin = ledger.notes.get("origin")
    count = 0 if origin is None else int((origin == ROW).sum())
    if not count:
        return []
    return [
        f"{count} of {len(ledger.found)} inputs began at other rows of x, which are answered"
        " otherwise, as noise found nothing: their results depend on those rows."
        " start=advex.Others(x, labels) says where to begin."
    ]


def after(waves: list[Wave], word: Word, ledger: Ledger) -> list[str]:
    """What is doubtful after the attack."""
    said = []
    saturated = int(word.before["saturated"].sum())
    if saturated and any(_loss(wave.attack) is cross_entropy for wave in waves):
        said.append(
            f"The cross-entropy of {saturated} inputs is saturated, its gradient underflows;"
            " the margin was used for them."
        )
    invalid = ledger.nan & ~word.success
    flat = ledger.flat & ~invalid
    if flat.any():
        said.append(
            f"The gradient was exactly zero at the start for {int(flat.sum())} of {len(flat)}"
            " inputs: gradient attacks cannot say how robust the model is there."
        )
    if invalid.any():
        said.append(
            f"The model answered NaN during the search for {int(invalid.sum())} inputs; they count"
            " as failed."
        )
    origin = ledger.notes.get("origin")
    if origin is not None:
        lost = ~word.success & ~word.clean & (origin == NOTHING)
        if lost.any():
            said.append(
                f"For {int(lost.sum())} of {len(lost)} inputs no start was found: noise and corners"
                " of the box are answered as the input is, or the queries were too few. Data of"
                " other classes are a start: start=advex.Others(x, labels)."
            )
    if word.fragile.any():
        said.append(
            f"{int(word.fragile.sum())} successes did not survive the final judgement (outside the"
            " budget, or a margin within rounding errors); they count as failed."
        )
    return said


def _loss(attack: Any) -> Any:
    return getattr(attack, "loss", None)
