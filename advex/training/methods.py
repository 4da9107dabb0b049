"""What is minimised in adversarial training: the base of every method, and the plain one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol

from keras import ops

from advex._arrays import Tensor
from advex._settings import Settings
from advex.driver.plan import Leaf


class Batch(NamedTuple):
    """A batch of training, once points were searched: what a `Method` is given. None: absent.

    Attributes:
        shown: what the model is called with, (batch, ...): its answers are `y_pred`.
        other: the points that were found, (batch, ...), where `shown` are the clean inputs.
        right: whether clean inputs are classified right: of some rows, of bool.
        held: whether points that were found are classified right: of some rows, of bool.
    """

    shown: Tensor
    """What the model is called with, (batch, ...): its answers are ``y_pred``."""
    other: Tensor | None = None
    """The points that were found, (batch, ...), where ``shown`` are the clean inputs."""
    right: Tensor | None = None
    """Whether clean inputs are classified right: of some rows, of bool."""
    held: Tensor | None = None
    """Whether points that were found are classified right: of some rows, of bool."""


class Trainer(Protocol):
    """What a `Method` sees of the model in training: a protocol, which `Adversarial` fulfils.

    Its methods are `answers(points)`, `logits(answers)`, `labels(y)`, `compiled_loss(y, y_pred,
    sample_weight)` and `added_loss()`.

    Raises:
        TypeError: it cannot be made; a trainer is handed to `Method.loss`.

    Example:
        >>> sorted(name for name in vars(Trainer) if name[0] != "_")
        ['added_loss', 'answers', 'compiled_loss', 'labels', 'logits']
    """

    def answers(self, points: Tensor) -> Tensor:
        """What the model answers, in training mode."""

    def logits(self, answers: Tensor) -> Tensor:
        """Logits (batch, classes) of what the model answers."""

    def labels(self, y: Tensor) -> Tensor:
        """Class numbers (batch,) of the targets."""

    def compiled_loss(self, y: Tensor, y_pred: Tensor, sample_weight: Tensor | None) -> Tensor:
        """The loss of ``compile``, with what layers add to it."""

    def added_loss(self) -> Tensor:
        """What layers add to the loss."""


@dataclass(frozen=True)
class Method(Settings):
    """What is minimised in adversarial training. A method of your own is a frozen dataclass with
    `loss`.

    When to use it:
        Derive from it when none of `Plain`, `TRADES`, `MART`, `AWP`, `Free` and `Noise` is what you
        want to minimise.

    No formula:
        A base class. Its `loss` is any scalar that has a gradient by the weights.

    Example:
        >>> import advex
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Halved(advex.training.Method):
        ...     def loss(self, trainer, batch, y, y_pred, sample_weight):
        ...         return trainer.compiled_loss(y, y_pred, sample_weight) / 2
        >>> Halved()
        Halved()
    """

    clean: ClassVar[bool] = False
    """Whether ``y_pred`` are the answers to the clean inputs; else those to the points that were
    found."""
    compares: ClassVar[bool] = False
    """Whether the search needs the logits of the clean inputs."""

    alone: ClassVar[bool] = False
    """Whether it has a step of its own, which no other method goes around."""

    @property
    def searches(self) -> bool:
        """Whether there is anything to look for."""
        return True

    def attack(self, attack: Leaf, clean: Tensor | None) -> Leaf:
        """The attack whose points are looked for.

        Args:
            attack: the one that was given.
            clean: the logits of the clean inputs, in inference mode: (batch, classes); None unless
                ``self.compares``.
        """
        return attack

    def loss(
        self,
        trainer: Trainer,
        batch: Batch,
        y: Tensor,
        y_pred: Tensor,
        sample_weight: Tensor | None,
    ) -> Tensor:
        """What is minimised, a scalar. Here: the loss of ``compile`` at what the model was shown.

        Args:
            trainer: the model in training.
            batch: the points.
            y: the targets.
            y_pred: the answers to ``batch.shown``, in training mode.
            sample_weight: (batch,), or None.
        """
        return trainer.compiled_loss(y, y_pred, sample_weight)


@dataclass(frozen=True)
class Plain(Method):
    r"""Adversarial training: the loss of `compile` at the points that the attack has found.

    When to use it:
        It is what `Adversarial` does without a method. `TRADES` trades some of its robust accuracy
        for clean accuracy, or the other way round.

    $$ \mathcal{L}\bigl(f_\theta(x'),\, y\bigr) $$

    $f_\theta$ is the model, $\mathcal{L}$ the loss of `compile`, $x'$ the point that the attack has
    found for the input with the label $y$.

    Example:
        >>> Plain()
        Plain()

    Reference:
        Madry, Makelov, Schmidt, Tsipras and Vladu, Towards deep learning models resistant to
        adversarial attacks, ICLR 2018. https://arxiv.org/abs/1706.06083

    Deviations:
        The points are looked for in inference mode, with the running statistics of batch
        normalisation, as the codes after it do.
    """


def mean(values: Tensor, sample_weight: Tensor | None) -> Tensor:
    """The mean over the batch, as Keras reduces losses: weighted, and divided by the batch."""
    if sample_weight is not None:
        values = values * ops.reshape(ops.cast(sample_weight, values.dtype), (-1,))
    return ops.mean(values)


def divergence(clean: Tensor, found: Tensor) -> Tensor:
    """The Kullback-Leibler divergence of the distribution at the found points from that at the
    clean ones, (batch,), from logits (batch, classes).
    """
    clean, found = ops.log_softmax(clean), ops.log_softmax(found)
    return ops.sum(ops.exp(clean) * (clean - found), axis=1)
