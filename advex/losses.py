"""What attacks climb: per-example functions ``(logits, goal) -> (batch,)``, larger meaning nearer
to success.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keras import ops

from advex._arrays import Tensor
from advex._others import face
from advex.errors import InvalidType
from advex.goals import Goal, others, picked

__all__ = ["confidence", "cross_entropy", "dlr", "margin"]

SATURATED = -64.0
"""Log-odds below which the gradient of cross-entropy (``exp`` of it) is on its way to underflow in
float32.
"""


def _labels(goal: Goal, loss: str) -> Tensor:
    labels = getattr(goal, "labels", None)
    if labels is None:
        raise InvalidType(
            f"losses.{loss} needs a goal with labels; {type(goal).__name__} has none: use"
            f" losses.margin"
        )
    return labels


def log_odds(logits: Tensor, labels: Tensor) -> Tensor:
    """log of the odds against each example's class, ``log((1 - p) / p)``: shape (batch,)."""
    return ops.logsumexp(others(logits, labels), axis=1) - picked(logits, labels)


def cross_entropy(logits: Tensor, goal: Goal) -> Tensor:
    """Cross-entropy of the label (untargeted), or minus that of the target (targeted).

    ``-log p = softplus(u)``, where ``u = log((1 - p) / p)``. Computed so, its gradient keeps its
    relative precision however sure the model is; the usual form cancels to zero from p = 1 - 1e-7
    on. Where even this gradient would underflow (u < -64) the loss goes on as ``u + 64``, whose
    gradient is that of a smooth margin: no example is stuck.

    Args:
        logits: shape (batch, classes).
        goal: a goal with ``labels``.

    Returns:
        Shape (batch,), in nats.
    """
    labels = _labels(goal, "cross_entropy")
    u = log_odds(logits, labels)
    # the target must beat the other units, and its own sigmoid must rise
    if goal.targeted and goal.independent:
        u = ops.logaddexp(u, -picked(logits, labels))
    value = ops.where(u > SATURATED, ops.softplus(ops.maximum(u, SATURATED)), u - SATURATED)
    return -value if goal.targeted else value


def margin(logits: Tensor, goal: Goal) -> Tensor:
    """The goal's own margin: best wrong logit minus the right one (targeted: target minus best
    other).
    """
    return goal.margin(logits)


def confidence(logits: Tensor, goal: Goal) -> Tensor:
    """The raw probability of the target (targeted), or minus that of the label (untargeted): what
    the old tutorials climb.
    """
    probability = picked(goal.probabilities(logits), _labels(goal, "confidence"))
    return probability if goal.targeted else -probability


def spread(goal: Goal) -> int:
    """How many classes ``dlr`` needs."""
    return 4 if goal.targeted else 3


def dlr(logits: Tensor, goal: Goal) -> Tensor:
    """Difference of logits ratio: the margin divided by a spread of the logits, so that their scale
    does not matter.

    Untargeted: margin / (z1 - z3); targeted: margin / (z1 - (z3 + z4) / 2), with z1 >= z2 >= ...
    the sorted logits. A model with fewer than 3 (targeted: 4) classes has no such spread: the
    margin itself is used.

    Reference: Croce and Hein, Reliable evaluation of adversarial robustness with an ensemble of
    diverse parameter-free attacks, 2020. Deviation: a ``Targeted`` goal does not know the true
    label; its margin is to the best other class.
    """
    needed = spread(goal)
    if logits.shape[1] < needed:
        return goal.margin(logits)
    ordered, _ = ops.top_k(logits, needed)
    low = (ordered[:, 2] + ordered[:, 3]) / 2 if goal.targeted else ordered[:, 2]
    return goal.margin(logits) / (ordered[:, 0] - low + 1e-12)


if not TYPE_CHECKING:
    __getattr__, __dir__ = face(__name__, __all__)
