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
    r"""Cross-entropy of the label (untargeted), or minus that of the target (targeted).

    When to use it:
        The usual loss of `PGD`, `APGD` and training. Where logits have an odd scale `dlr` or
        `margin` find more.

    $$
    \ell(z) = -\log p_y = \log(1 + e^{u}), \qquad
    u = \log \frac{1 - p_y}{p_y} = \log \sum_{j \ne y} e^{z_j} - z_y
    $$

    $z$ are the logits, $y$ is the label and $p_y$ its probability. Computed through $u$, the
    gradient keeps its relative precision however sure the model is; the usual form cancels to zero
    from p = 1 - 1e-7 on. Where even this gradient would underflow (u < -64) the loss goes on as
    $u + 64$, whose gradient is that of a smooth margin: no example is stuck.

    For other goals it is the smooth loss that their docstring names, or the margin where a goal of
    your own has no `labels` and no `entropy`.

    Args:
        logits: what the model answers: for a goal about classes a tensor of shape (batch, classes).
        goal: the goal.

    Returns:
        The loss, shape (batch,), in nats where it is about classes.

    Example:
        >>> import advex
        >>> import keras
        >>> goal = advex.Untargeted([0])
        >>> round(float(cross_entropy(keras.ops.convert_to_tensor([[0.0, 0.0]]), goal)[0]), 4)
        0.6931
    """
    return entropy_of(logits, goal)


def margin(logits: Tensor, goal: Goal) -> Tensor:
    r"""The goal's own margin: best wrong logit minus the right one (targeted: target minus best
    other).

    When to use it:
        Near the boundary, and for attacks on scores: it is above 0 exactly where the attack has
        succeeded.

    $$
    \ell(z) = \max_{j \ne y} z_j - z_y \qquad
    \text{(targeted: } z_c - \max_{j \ne c} z_j \text{)}
    $$

    $z$ are the logits, $y$ is the label, $c$ the target.

    Args:
        logits: what the model answers: for a goal about classes a tensor of shape (batch, classes).
        goal: the goal.

    Returns:
        The margin, shape (batch,), in units of the logits.

    Example:
        >>> import advex
        >>> import keras
        >>> goal = advex.Untargeted([0])
        >>> float(margin(keras.ops.convert_to_tensor([[2.0, 5.0, 1.0]]), goal)[0])
        3.0
    """
    return goal.margin(logits)


def confidence(logits: Tensor, goal: Goal) -> Tensor:
    r"""The raw probability of the target (targeted), or minus that of the label (untargeted).

    When to use it:
        To repeat old tutorials. Its gradient vanishes where the model is sure.

    $$
    \ell(z) = p_c \qquad
    \text{(untargeted: } -p_y \text{)}, \qquad
    p = \operatorname{softmax}(z)
    $$

    $z$ are the logits, $c$ is the target, $y$ the label; where each class has a sigmoid of its own
    $p$ is that. The margin where the goal is not about one class for each example.

    Args:
        logits: what the model answers: for a goal about classes a tensor of shape (batch, classes).
        goal: the goal.

    Returns:
        The probability or minus it, shape (batch,).

    Example:
        >>> import advex
        >>> import keras
        >>> goal = advex.Untargeted([0])
        >>> float(confidence(keras.ops.convert_to_tensor([[0.0, 0.0]]), goal)[0])
        -0.5
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
    r"""Difference of logits ratio: the margin divided by a spread of the logits.

    When to use it:
        Where the scale of the logits hides the gradient of cross-entropy, as in models that are
        very sure: the scale does not matter here. It needs three classes, with a target four.

    $$
    \ell(z) = \frac{\max_{j \ne y} z_j - z_y}{z_{(1)} - z_{(3)}}, \qquad
    \text{targeted:}\;\; \frac{z_c - \max_{j \ne c} z_j}{z_{(1)} - \tfrac{1}{2} (z_{(3)} + z_{(4)})}
    $$

    $z$ are the logits, $y$ is the label, $c$ the target, and $z_{(1)} \ge z_{(2)} \ge \ldots$ are
    the sorted logits. A model with fewer classes, or a goal that is not about one class for each
    example, has no such spread: the margin itself is used.

    Args:
        logits: what the model answers: for a goal about classes a tensor of shape (batch, classes).
        goal: the goal.

    Returns:
        The loss, shape (batch,), without a unit.

    Example:
        >>> import advex
        >>> import keras
        >>> goal = advex.Untargeted([0])
        >>> float(dlr(keras.ops.convert_to_tensor([[2.0, 5.0, 1.0]]), goal)[0])
        0.75

    Reference:
        Croce and Hein, Reliable evaluation of adversarial robustness with an ensemble of diverse
        parameter-free attacks, ICML 2020. https://arxiv.org/abs/2003.01690

    Deviations:
        A `Targeted` goal does not know the true label; its margin is to the best other class.
    """
    needed = spread(goal)
    if not (about_scores(goal) and has_classes(logits)) or logits.shape[1] < needed:
        return goal.margin(logits)
    ordered, _ = ops.top_k(logits, needed)
    low = (ordered[:, 2] + ordered[:, 3]) / 2 if goal.targeted else ordered[:, 2]
    return goal.margin(logits) / (ordered[:, 0] - low + 1e-12)


if not TYPE_CHECKING:
    __getattr__, __dir__ = face(__name__, __all__)
