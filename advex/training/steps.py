"""A step of training and one of evaluation, on the backends that hand their state on and on those
that keep it in variables.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from keras import ops

from advex._arrays import Tensor
from advex._backend.scope import Scope
from advex.model.training import StandsFor

Prepare = Callable[[Any], Any]
"""From a batch of data to the batch that is trained on; inside of the step."""
Shift = Callable[[Any], "Sequence[Tensor | None]"]
"""By how much each trainable weight is moved while the step takes its gradient."""


class InPlace(StandsFor):
    """Steps on TensorFlow and torch."""

    def stepped(self, data: Any, prepare: Prepare, shift: Shift | None) -> Any:
        """A step of training on what ``prepare`` makes of the data."""
        data = prepare(data)
        if shift is None:
            return super().train_step(data)
        weights = list(self.trainable_variables)
        before = [ops.stop_gradient(ops.copy(weight.value)) for weight in weights]
        with Scope():  # what layers assign there is forgotten
            moved = shift(data)
        for weight, value, by in zip(weights, before, moved, strict=True):
            if by is not None:
                weight.assign(value + by)
        logs = super().train_step(data)
        for weight, value, by in zip(weights, before, moved, strict=True):
            if by is not None:
                weight.assign(value + (weight.value - (value + by)))
        return logs

    def replayed(self, data: Any, body: Prepare) -> Any:
        """A step of training that is ``body`` alone."""
        return body(data)

    def tested(self, data: Any, prepare: Prepare) -> Any:
        """A step of evaluation on what ``prepare`` makes of the data."""
        return super().test_step(prepare(data))


class HandedOn(StandsFor):
    """Steps on JAX: the values of all variables come in and go out."""

    def stepped(self, state: Any, data: Any, prepare: Prepare, shift: Shift | None) -> Any:
        """A step of training on what ``prepare`` makes of the data."""
        weights, others, slots, metrics = state
        held = [
            *zip(self.trainable_variables, weights, strict=True),
            *zip(self.non_trainable_variables, others, strict=True),
            *zip(self.optimizer.variables, slots, strict=True),
        ]
        moved: Sequence[Any] = [None] * len(weights)
        with Scope(held) as scope:
            data = prepare(data)
            others = [scope.get_current_value(each) for each in self.non_trainable_variables]
        if shift is not None:
            with Scope([*held, *zip(self.non_trainable_variables, others, strict=True)]):
                moved = shift(data)
        there = [w if by is None else w + by for w, by in zip(weights, moved, strict=True)]
        logs, state = super().train_step((there, others, slots, metrics), data)
        after = [
            new if by is None else w + (new - at)
            for w, by, at, new in zip(weights, moved, there, state[0], strict=True)
        ]
        return logs, (after, *state[1:])

    def replayed(self, state: Any, data: Any, body: Prepare) -> Any:
        """A step of training that is ``body`` alone."""
        kept = (
            self.trainable_variables,
            self.non_trainable_variables,
            self.optimizer.variables,
            self.metrics_variables,
        )
        held = [
            pair
            for variables, values in zip(kept, state, strict=True)
            for pair in zip(variables, values, strict=True)
        ]
        with Scope(held) as scope:
            logs = body(data)
            state = tuple(
                [scope.get_current_value(each) for each in variables] for variables in kept
            )
        return logs, state

    def tested(self, state: Any, data: Any, prepare: Prepare) -> Any:
        """A step of evaluation on what ``prepare`` makes of the data."""
        weights, others, metrics = state
        held = [
            *zip(self.trainable_variables, weights, strict=True),
            *zip(self.non_trainable_variables, others, strict=True),
        ]
        with Scope(held) as scope:
            data = prepare(data)
            others = [scope.get_current_value(each) for each in self.non_trainable_variables]
        return super().test_step((weights, others, metrics), data)
