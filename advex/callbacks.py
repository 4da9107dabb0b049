"""Callbacks for ``model.fit``: accuracy under attack beside ``val_accuracy``."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras

from advex._arrays import Array, Tensor
from advex._inputs import Bundle
from advex._others import face
from advex._settings import helpful, shown, whole_number
from advex.attacks import Attack
from advex.attacks.inputs import checked_inputs
from advex.budgets import Budget
from advex.domain import Domain
from advex.driver.ranges import MARGIN, TRAINED
from advex.errors import AdvexWarning, InvalidInput, InvalidType, ModelWarning
from advex.evaluation.budgets import checked_budget, demand_count
from advex.evaluation.source import Source, joined
from advex.evaluation.wanted import checked_goal, wanted
from advex.goals import Goal
from advex.model.classifier import Classifier
from advex.model.perturbed import checked_perturb
from advex.model.training import warn_of_another

__all__ = ["RobustAccuracy"]

OTHER = re.compile(r"robust|top_")  # accuracies that are not the share of clean rows that are right
AS_ARGUMENTS = (  # what is said of an attack, and what that is here
    (
        re.compile(r"advex\.Classifier\(model"),
        "advex.callbacks.RobustAccuracy(data, attack, budget",
    ),
    (re.compile(r"attack (\S.*) in place of x$"), r"data = (\1, labels)"),
)


class RobustAccuracy(keras.callbacks.Callback):
    """The share of `data` that is classified correctly and that `attack` does not break, at the
    end of an epoch.

    When to use it:
        To watch robust accuracy in any training, adversarial or not. `Adversarial` logs it by
        itself.

    Where `data` lie in another range than the model's, that is said once: as soon as two looks in a
    row show it, or at the end of training if the last one does. It is not said while the logs have
    an accuracy that is no better than that on `data`: such a model has only begun to learn.

    It is put into the logs as `name`, so that `ModelCheckpoint(monitor="val_robust_accuracy")`,
    `EarlyStopping`, `CSVLogger` and TensorBoard see it: list this callback before them.

    Args:
        data: (x, labels), or batches of such pairs; a few hundred examples are enough. They are
            kept in memory. Of a model of several inputs x is a dict, a tuple or a list of arrays.
        attack: a cheap one, such as ``advex.PGD(steps=10)``.
        budget: such as ``advex.Linf(8/255)``, or a dict with one for each input that is attacked.
        every: look every so many epochs; the last value is logged in between.
        name: the entry of the logs.
        goal: as in ``advex.evaluate``: a function from labels to a goal, such as
            ``advex.MultiLabel``; then it is the share of the examples whose goal is reached neither
            before nor by the attack.
        box, preprocess: as in ``advex.Classifier``, where the model's domain is not [0, 1]; ``box``
            may be a ``Domain``.
        perturb: as there, which of several inputs is attacked, or which layer's output.
        seed: of the attack.
        batch_size: examples per step of the attack.

    Raises:
        InvalidType: an argument of the wrong kind.
        InvalidInput: no data, or a value that cannot be worked with.

    Cost:
        That of the attack on `data`, every so many epochs.

    Example:
        >>> import advex
        >>> x, labels = advex.testing.linear_data()
        >>> model = keras.Sequential([keras.Input((12,)), keras.layers.Dense(2)])
        >>> model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        >>> watch = RobustAccuracy((x, labels), advex.PGD(steps=5), advex.Linf(0.05))
        >>> history = model.fit(x, labels, callbacks=[watch], verbose=0).history
        >>> 0 <= history["val_robust_accuracy"][0] <= 1
        True
    """

    @helpful
    def __init__(
        self,
        data: Any,
        attack: Attack,
        budget: Budget | Mapping[str, Budget],
        *,
        every: int = 1,
        name: str = "val_robust_accuracy",
        goal: Callable[[Any], Goal] | None = None,
        box: tuple[float, float] | Domain | Mapping[str, tuple[float, float] | Domain] = (0, 1),
        preprocess: Callable[[Tensor], Tensor] | None = None,
        seed: int = 0,
        batch_size: int | None = None,
        perturb: str | int | Sequence[str | int] | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(attack, Attack):
            raise InvalidType(
                f"attack must be an attack, such as advex.PGD(steps=10); received {shown(attack)}"
            )
        within = checked_budget(budget)
        for each in within.values() if isinstance(within, dict) else [within]:
            attack.check(None, each)
        self.perturb = checked_perturb(perturb)
        batches = list(Source(data, several=bool(self.perturb)).batches())
        if not batches:
            raise InvalidInput("data must have at least one example")
        self.x: Array | Bundle = joined([x for x, _ in batches])
        self.labels: Array = joined([labels for _, labels in batches])
        demand_count(within, len(self.labels))
        self.attack, self.budget, self.name = attack, within, name
        self.goal = checked_goal(goal)
        self.every = whole_number("every", every)
        self.box, self.preprocess, self.seed, self.batch_size = box, preprocess, seed, batch_size
        self.value: float | None = None
        self._ranged, self._told, self._right = "", False, 0.0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Warn where the model is trained within another budget."""
        self._ranged = ""
        warn_of_another(self.model, self.budget, f"RobustAccuracy(name={self.name!r})")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Attack the model as it is now and put the share of what holds into ``logs``."""
        if (epoch + 1) % self.every == 0 or self.value is None:
            before, self.value = self._ranged, self.look()
            if self._has_only_begun(logs or {}):
                self._ranged = ""
            if before:  # once may be chance
                self._say()
        if logs is not None:
            logs[self.name] = self.value

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Warn where the last look has shown data in another range than the model's."""
        self._say()

    def look(self) -> float:
        """The share of the data that is right and not broken, for the model of the callback."""
        chosen = list(self.perturb) or None
        classifier = Classifier(self.model, self.box, self.preprocess, perturb=chosen)
        x = checked_inputs(classifier, self.x)
        goal, only = wanted(self.goal, self.labels, classifier)
        with warnings.catch_warnings():
            # a model that has only begun to learn is no better than chance
            warnings.simplefilter("ignore", AdvexWarning)
            result = self.attack(
                only,
                x,
                goal,
                self.budget,
                seed=self.seed,
                batch_size=self.batch_size,
                progress=False,
            )
        self._right = 1 - result.info["clean_wrong"] / len(result)
        self._ranged = next((each for each in result.info["warnings"] if TRAINED in each), "")
        return float(1 - (result.status != "held").mean())

    def _has_only_begun(self, logs: dict[str, Any]) -> bool:
        """Whether the model is no better where it is trained than on ``data``, as far as the logs
        know.
        """
        known = {
            key: value
            for key, value in logs.items()
            if key.endswith(("acc", "accuracy")) and key != self.name and not OTHER.search(key)
        }
        # those of validation are of the same weights; those of training lag behind
        held_out = [value for key, value in known.items() if key.startswith("val_")]
        best = max(held_out or known.values(), default=math.inf)
        return float(best) - self._right <= MARGIN

    def _say(self) -> None:
        """Say once what the last look has shown of the range."""
        if self._told or not self._ranged:
            return
        self._told, sentence = True, self._ranged
        for code, here in AS_ARGUMENTS:
            sentence = code.sub(here, sentence)
        warnings.warn(f"RobustAccuracy(name={self.name!r}): {sentence}", ModelWarning, stacklevel=3)


if not TYPE_CHECKING:
    __getattr__, __dir__ = face(__name__, __all__)
