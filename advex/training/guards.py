"""Callbacks that watch adversarial training: a collapse, and the best epoch."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import keras
import numpy as np

from advex import _backend
from advex._arrays import Array
from advex._settings import helpful, real_number, shown, whole_number
from advex.attacks import PGD
from advex.callbacks import RobustAccuracy
from advex.errors import InvalidInput, InvalidType, ModelWarning
from advex.training.adversarial import Adversarial

APART = 0.5
"""How far accuracy under the attack of the training and that under several steps are apart once a
model has collapsed. Early in sound training on a weak attack they are as far apart, but then the
second one rises."""


class State(NamedTuple):
    """What training goes back to."""

    weights: list[Array]
    slots: list[Array]
    several: float
    """Accuracy on the probe under several steps."""
    own: float
    """Accuracy on the probe under the attack of the training."""


class StopCollapse(keras.callbacks.Callback):
    """Stops training when the model has learnt to fool its own attack, and gives back the state of
    the last good epoch.

    When to use it:
        With one-step attacks such as `Fast`, in the callbacks of `fit`.

    Training on one-step attacks may collapse within an epoch: accuracy at the points that the
    attack finds rises, and under several steps it falls to nothing (catastrophic overfitting). So
    after every epoch some training data is attacked by `PGD` and by the attack of the training. A
    collapse is a fall of accuracy under `PGD` by `drop` or more, while the other does not fall; or
    a gap between the two of more than a half, where accuracy under `PGD` is half of its best or
    less.

    Args:
        data: (x, labels), some of the training data. None: the first batch that `fit` is given.
        drop: by how much accuracy under several steps has to fall, a share above 0 and below 1. The
            authors: 0.2.
        steps: of `PGD`, a whole number from 1.

    Attributes:
        collapsed: the epoch of the collapse, from 0; None.

    Raises:
        InvalidType: an argument of the wrong kind; in `fit`, a model that is no `Adversarial`.
        InvalidInput: a value that cannot be worked with.

    Example:
        >>> StopCollapse(drop=0.3).collapsed is None
        True

    Reference:
        Wong, Rice and Kolter, Fast is better than free: revisiting adversarial training, ICLR 2020.
        https://arxiv.org/abs/2001.03994

    Deviations:
        Training does not go on from the state before, but ends.
    """

    @helpful
    def __init__(self, data: Any = None, drop: float = 0.2, steps: int = 10) -> None:
        super().__init__()
        if data is not None and not (isinstance(data, tuple | list) and len(data) == 2):
            raise InvalidType(f"data must be (x, labels); received {shown(data, 60)}")
        self.data, self.drop = data, real_number("drop", drop, strict=True)
        if self.drop >= 1:
            raise InvalidInput(f"drop is a share of the data, below 1; received {drop!r}")
        self.steps = whole_number("steps", steps)
        self.collapsed: int | None = None
        self._good: State | None = None
        self._best = 0.0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Look at the model as it is."""
        if not isinstance(self.model, Adversarial):
            raise InvalidType(
                "StopCollapse watches advex.training.Adversarial; the model is a"
                f" {type(self.model).__name__}"
            )
        self.collapsed, self._good = None, self._state()
        self._best = self._good.several

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Compare with the epoch before."""
        now, good = self._state(), self._good
        assert good is not None
        fell = self._best - now.several >= self.drop and now.own >= good.own
        apart = now.own - now.several >= APART and now.several <= self._best / 2
        if not (fell or apart):
            self._best = max(self._best, now.several)
            if self._best - now.several < self.drop / 2:
                self._good = now
            return
        self.collapsed = epoch
        self.model.stop_training = True
        self.model.set_weights(good.weights)
        for slot, value in zip(self.model.optimizer.variables, good.slots, strict=True):
            slot.assign(value)
        warnings.warn(
            f"Training has collapsed in epoch {epoch + 1}: accuracy under {self.steps} steps of PGD"
            f" is {now.several:.0%}, it was {good.several:.0%}, and {now.own:.0%} under the attack"
            " of the training. The model is as it was before that. What helps: attack ="
            " advex.training.NFGSM()",
            ModelWarning,
            stacklevel=2,
        )

    def _state(self) -> State:
        trained = self.model
        data = trained.probe if self.data is None else self.data
        watch = RobustAccuracy(data, PGD(steps=self.steps), trained.budget, box=trained.box)
        watch.set_model(trained.model)
        own = trained.own_accuracy(watch.x, watch.labels)
        slots = [np.array(_backend.to_numpy(s.value)) for s in trained.optimizer.variables]
        return State(trained.get_weights(), slots, watch.look(), own)


class KeepBest(keras.callbacks.EarlyStopping):
    """Gives back, when training ends, the weights of the epoch with the best robust accuracy on
    held-out data.

    When to use it:
        In long adversarial trainings with validation data.

    Robust accuracy on new data falls long before training ends (robust overfitting).

    Args:
        monitor: the entry of the log. `Adversarial` writes it with `validation_data`;
            `advex.callbacks.RobustAccuracy`, listed before this callback, writes it as well.
        verbose: 1: say which epoch it was.

    Raises:
        InvalidInput: after the first epoch, if the log has no such entry.

    Example:
        >>> KeepBest().monitor
        'val_robust_accuracy'

    Reference:
        Rice, Wong and Kolter, Overfitting in adversarially robust deep learning, ICML 2020.
        https://arxiv.org/abs/2002.11569

    Deviations:
        None known.
    """

    @helpful
    def __init__(self, monitor: str = "val_robust_accuracy", verbose: int = 0) -> None:
        super().__init__(
            monitor, mode="max", patience=2**31, restore_best_weights=True, verbose=verbose
        )

    def get_monitor_value(self, logs: dict[str, Any] | None) -> Any:
        """The entry of the log."""
        if self.monitor not in (logs or {}):
            known = ", ".join(map(repr, logs or {})) or "nothing"
            raise InvalidInput(
                f"the log has no {self.monitor!r}, only {known}: fit(..., validation_data=(x,"
                " labels)) of an Adversarial with a validation attack writes it"
            )
        return super().get_monitor_value(logs)
