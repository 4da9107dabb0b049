"""``diagnose``: every check asked once, in the order that spares most work."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from advex._settings import helpful, shown, whole_number
from advex.attacks.inputs import checked_inputs
from advex.budgets import Budget
from advex.doctor import answers, attacks, gradients, successes
from advex.doctor.checks import Check, not_run
from advex.doctor.diagnosis import Diagnosis
from advex.doctor.examination import Examination
from advex.errors import AdvexWarning, InvalidInput, InvalidType
from advex.goals import Goal, Untargeted, axes_of, class_numbers
from advex.model.classifier import Classifier
from advex.model.protocol import Model

IN_TURN = [
    check
    for module in (answers, gradients, attacks, successes)
    for check in vars(module).values()
    if isinstance(check, Check)
]
"""All checks, in the order in which they are asked: from top to bottom of each module."""

CHECKS = {check.id: check for check in sorted(IN_TURN, key=lambda check: int(check.id[1:]))}
"""The same by id, in the order in which they are shown."""


@helpful
def diagnose(
    model: keras.Model | Model,
    x: Any,
    labels: Any,
    budget: Budget,
    *,
    seed: int = 0,
    batch_size: int | None = None,
) -> Diagnosis:
    """Look for what makes attacks on a model fail for the wrong reasons: fifteen checks, D1 to D15.

    When to use it:
        Before a robust accuracy is published, and whenever an attack fails surprisingly often.
        `evaluate` calls it by default.

    Each says what it found in figures. A flag does not mean that the model is bad, but that an
    evaluation by gradient attacks (some flags: by any attack) would be too kind to it. No flag
    means that none of these fifteen reasons was seen, not more. Checks that count examples fire at
    3 or at 2 % of them, whichever is more (D11: 5 %, since near the boundary other starts break 3 %
    of an honest model's examples). How some of them look:

    - D1 and D2 also fire where every one of fewer than 3 examples is concerned. D2 is about the
      cross-entropy of the textbook and of other libraries, that of advex does not die.
    - D3's step is a tenth of epsilon, at most 0.02 of the range and at least one level of an 8-bit
      image, and stays in the box.
    - D7, D8, D10, D11 and D12 mean PGD with cross-entropy and then with the margin, and look at 48
      of the examples that stand. D8 is SquareAttack with 500 queries and 100 corners of the ball.
      In L0, where PGD is weak, D7, D10, D11 and D12 are not run.
    - D9 allows Linf(1), whatever the norm. D14 compares compiled, uncompiled and alone; another
      dtype is not tried.
    - A ``BlackBox`` is not asked what needs gradients, nor D8, which would be the attack itself.

    Args:
        model: a ``keras.Model`` on [0, 1], a ``Classifier``, or a ``BlackBox`` (checks that need
            gradients are not run).
        x: inputs, (n, ...), uint8 or floats in the box; the first 128 that are classified correctly
            are used.
        labels: true classes, (n,).
        budget: within which attacks are to be judged, such as ``Linf(8/255)``, in units of the
            box's range. Without a limit: 8/255 in Linf, 0.5 in L2, 10 in L1, 20 elements in L0.
        seed: of all random numbers.
        batch_size: examples per step, the memory's limit.

    Returns:
        A ``Diagnosis``; in a notebook, a table.

    Raises:
        InvalidInput: a value that cannot be worked with.
        InvalidType: an argument of the wrong kind.

    Example:
        >>> import advex
        >>> x, labels = advex.testing.linear_data()
        >>> diagnose(advex.testing.linear_model(), x, labels, advex.Linf(0.05)).flags
        ()
    """
    classifier = Classifier.of(model)
    _demand_a_box(classifier, x, budget)
    if not isinstance(budget, Budget):
        raise InvalidType(f"budget must be such as advex.Linf(8/255); received {shown(budget)}")
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
        raise InvalidType(f"seed must be a whole number; received {shown(seed)}")
    if batch_size is not None:
        batch_size = whole_number("batch_size", batch_size)
    x = checked_inputs(classifier, x)
    _demand_classes(labels)
    goal = Untargeted(labels).check(len(x), classifier.known_classes)
    with warnings.catch_warnings():
        # what attacks would say is what the findings say
        warnings.simplefilter("ignore", AdvexWarning)
        exam = Examination(classifier, x, goal.labels, budget, int(seed), batch_size)
        for check in IN_TURN:
            exam.findings[check.id] = (
                check(exam)
                if exam.n
                else check.finding(not_run("none of the examples is classified correctly"))
            )
    within = repr(budget)
    return Diagnosis(
        findings=tuple(exam.findings[name] for name in CHECKS),
        examples=exam.n,
        budget=within if exam.budget is budget else f"{exam.budget!r} (in place of {within})",
        seed=exam.seed,
        gradients=int(exam.gradients),
        queries=int(exam.queries),
    )


def _demand_a_box(classifier: Model, x: Any, budget: Any) -> None:
    """Raise unless one array of numbers in a box is attacked, within one budget: the checks are
    about nothing else.
    """
    domain = classifier.domain
    each = isinstance(budget, Budget) and budget.epsilons is not None
    if classifier.perturb or isinstance(x, Mapping) or isinstance(budget, Mapping):
        what = "one of several inputs, or the output of a layer, is attacked"
    elif not domain.plain or domain.fixed is not None:
        what = f"the inputs are of {domain!r}"
    elif each:
        raise InvalidInput(
            f"diagnose is about one epsilon for all examples; received {budget!r}:"
            f" budget=advex.{type(budget).__name__}({budget.epsilons.max():g}), the largest of them"
        )
    else:
        return
    raise InvalidInput(
        f"diagnose is about one array of numbers in a box, and here {what}: whether gradients tell"
        " the truth is seen beside an attack without them, advex.evaluate(model, (x, labels),"
        " [advex.PGD(), advex.SquareAttack(steps=1000)], budget)"
    )


def _demand_classes(labels: Any) -> None:
    """Raise unless labels look like one class for each example: the checks are about nothing
    else.
    """
    several = axes_of(labels) > 1
    if several:
        with contextlib.suppress(InvalidInput, InvalidType):
            class_numbers("labels", labels)
            several = False
    if several or isinstance(labels, Goal):
        told = f"labels of shape {np.shape(labels)}" if several else f"{labels!r}"
        raise InvalidInput(
            "diagnose is about classes, and needs one class number for each example, labels of"
            f" shape (n,); received {told}: other goals are for advex.evaluate(model, (x, labels),"
            " attacks, budget, goal=advex.MultiLabel)"
        )
