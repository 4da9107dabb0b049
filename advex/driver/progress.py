"""Tells the outside how far a call is: a bar, a function, or nobody."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import keras

Progress = bool | Callable[[int, int, int], Any] | None

PATIENCE = 2.0  # seconds before a bar appears by itself


class Count(float):
    """A number that Keras' bar, which shows means of metrics, shows as the whole number it is."""

    def __truediv__(self, other: float) -> Count:
        return Count(float(self) / other)

    def __format__(self, _: str) -> str:
        return str(round(self))


class Report:
    """Called after every round of the loop.

    Args:
        progress: True, False, None (a bar if it lasts and somebody watches), or ``progress(done,
            total, found)``.
        total: the number of rows.
        before: how many had reached the goal before any attack: a bar counts them apart.
        word: what they were.
    """

    def __init__(
        self, progress: Progress, total: int, before: int = 0, word: str = "wrong before"
    ) -> None:
        self._total, self._before, self._word = total, before, word
        self._bar: Any = None
        self._began = time.monotonic()
        self._call = progress if callable(progress) else None
        self._wanted = progress is True
        watched = sys.stdout.isatty() or "ipykernel" in sys.modules
        self._allowed = progress is None and watched

    def __call__(self, done: int, found: int) -> None:
        if self._call is not None:
            self._call(done, self._total, found)
        late = time.monotonic() - self._began > PATIENCE
        if self._bar is None and (self._wanted or (self._allowed and late)):
            self._bar = keras.utils.Progbar(
                self._total, unit_name="example", stateful_metrics=["fooled", self._word]
            )
        if self._bar is not None:
            counts = [("fooled", Count(max(0, found - self._before)))]
            counts += [(self._word, Count(self._before))] if self._before else []
            self._bar.update(done, counts, finalize=done == self._total)
