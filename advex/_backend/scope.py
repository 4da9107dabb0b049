"""What layers read and change while a graph runs, seen and held back: the same on every backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import keras

Tap: TypeAlias = Callable[[int, Any], Any]  # (key, tensor) -> the tensor to go on with
Run: TypeAlias = Callable[[Tap], dict[int, Any]]
# keys of losses, keys of what they are differentiated by
Group: TypeAlias = tuple[Sequence[int], Sequence[int]]


class Scope(keras.StatelessScope):
    """Variables that are assigned inside of it keep their values; the new ones are in
    ``changes()``.

    Unlike Keras' own scope it lets an enclosing one be heard: what is not mapped here is read
    there.
    """

    def __init__(self, mapping: list[tuple[Any, Any]] | None = None) -> None:
        super().__init__(mapping, collect_losses=True)  # ``model.losses`` knows them then
        self.changed: dict[int, Any] = {}
        self.read: dict[int, Any] = {}  # variables whose own value was asked for

    def add_update(self, update: tuple[Any, Any]) -> None:
        super().add_update(update)
        self.changed[id(update[0])] = update[0]

    def get_current_value(self, variable: Any) -> Any:
        value = super().get_current_value(variable)
        if value is None and self.original_scope is not None:
            return self.original_scope.get_current_value(variable)
        if value is None:
            self.read[id(variable)] = variable
            # some of Keras takes it for granted that each has one here
            value = getattr(variable, "_value", None)
        return value

    def changes(self) -> list[tuple[Any, Any]]:
        """Pairs (variable, new value)."""
        return [(variable, self.state_mapping[key]) for key, variable in self.changed.items()]

    def apply(self) -> None:
        """Assign what was held back: to be called outside of the scope."""
        for variable, value in self.changes():
            variable.assign(value)
