"""What attacks climb: per-example functions ``(logits, goal) -> (batch,)``, larger meaning nearer
to success.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keras import ops

from advex._arrays import Tensor
from advex._others import face
from advex.goals.base import Goal, about_scores
from advex.goals.classes import entropy_of, picked

__all__ = ["confidence", "cross_entropy", "dlr", "margin"]


def cross_entropy(logits: Tensor, goal: Goal) -> Tensor:
    """Cross-entropy of the label (untargeted), or minus that of the target (targeted); for other
    goals the smooth loss that their docstring names, or the margin where a goal of your own has no
    ``labels`` and no ``entropy``.

    ``-log p = softplus(u)``, where ``u = log((1 - p) / p)``. Computed so, its gradient keeps its
    relative precision however sure the model is; the usual form cancels to zero from p = 1 - 1e-7
    on. Where even this gradient would underflow (u < -64) the loss goes on as ``u + 64``, whose
    gradient is that of a smooth margin: no example is stuck.

    Args:
        logits: what the model answers: for a goal about classes (batch, classes).
        goal: the goal.

    Returns:
        Shape (batch,), in nats where it is about classes.
    """
    return entropy_of(logits, goal)


def margin(logits: Tensor, goal: Goal) -> Tensor:
    """The goal's own margin: best wrong logit minus the right one (targeted: target minus best
    other).
    """
    return goal.margin(logits)


def confidence(logits: Tensor, goal: Goal) -> Tensor:
    """The raw probability of the target (targeted), or minus that of the label (untargeted): what
    the old tutorials climb. The margin where the goal is not about one class for each example.
    """
    labels = getattr(goal, "labels", None)
    if not _of_classes(logits, labels):
        return goal.margin(logits)
    probability = picked(goal.probabilities(logits), labels)
    return probability if goal.targeted else -probability


def _of_classes(answer: Tensor, labels: Tensor | None) -> bool:
    """Whether an answer is scores (batch, classes), and there is one label for each example."""
    return labels is not None and len(labels.shape) == 1 and has_classes(answer)


def has_classes(answer: Tensor) -> bool:
    """Whether an answer is one row of scores for each example, (batch, classes)."""
    return len(getattr(answer, "shape", ())) == 2


def spread(goal: Goal) -> int:
    """How many classes ``dlr`` needs."""
    return 4 if goal.targeted else 3


def dlr(logits: Tensor, goal: Goal) -> Tensor:
    """Difference of logits ratio: the margin divided by a spread of the logits, so that their scale
    does not matter.

    Untargeted: margin / (z1 - z3); targeted: margin / (z1 - (z3 + z4) / 2), with z1 >= z2 >= ...
    the sorted logits. A model with fewer than 3 (targeted: 4) classes, or a goal that is not about
    one class for each example, has no such spread: the margin itself is used.

    Reference: Croce and Hein, Reliable evaluation of adversarial robustness with an ensemble of
    diverse parameter-free attacks, 2020. Deviation: a ``Targeted`` goal does not know the true
    label; its margin is to the best other class.
    """
    needed = spread(goal)
    if not (about_scores(goal) and has_classes(logits)) or logits.shape[1] < needed:
        return goal.margin(logits)
    ordered, _ = ops.top_k(logits, needed)
    low = (ordered[:, 2] + ordered[:, 3]) / 2 if goal.targeted else ordered[:, 2]
    return goal.margin(logits) / (ordered[:, 0] - low + 1e-12)


if not TYPE_CHECKING:
    __getattr__, __dir__ = face(__name__, __all__)
