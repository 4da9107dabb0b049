"""What somebody who watches an evaluation sees: rows, rows per second, how many hold so far, the
time left.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from advex.driver.progress import Progress


class Report:
    """Tells the outside how far an evaluation is: a bar, a function, or nobody.

    Args:
        progress: True, False, None (a bar where somebody watches), or ``progress(done, total,
            held)``.
        total: the number of rows; None where it is not known.
        words: what is done, what becomes of rows that are held, and what the wrong ones are.
    """

    def __init__(
        self,
        progress: Progress,
        total: int | None,
        words: tuple[str, str, str] = ("evaluating", "not broken", "wrong before"),
    ) -> None:
        self.doing, self.word, self.beside = words
        self.call: Callable[..., Any] | None = progress if callable(progress) else None
        self.total = total
        self.bar: Any = None
        self.task: Any = None
        self.held = self.wrong = self.done = 0
        self.wanted = progress is True or (progress is None and sys.stderr.isatty())
        self.began = time.monotonic()
        self.fresh = 0.0  # rows attacked by this process

    def part(self, rows: int, attack: int, attacks: int) -> Callable[[int, int, int], None] | bool:
        """The progress of one attack on one block, as part of the whole."""
        if not self.wanted or self.call is not None:
            return False

        def moved(done: int, total: int, _: int) -> None:
            share = (attack + done / max(1, total)) / attacks
            self._draw(self.done + rows * share, self.fresh + rows * share)

        return moved

    def __call__(self, rows: int, held: int, wrong: int = 0, *, worked: bool) -> None:
        """A block is finished: its rows, those of them that no attack has broken, those that were
        wrong before, and whether this call has attacked them.
        """
        self.held, self.done, self.wrong = self.held + held, self.done + rows, self.wrong + wrong
        self.fresh += rows * worked
        if self.call is not None:
            self.call(self.done, self.total, self.held)
        if self.wanted:
            self._draw(self.done, self.fresh)

    def close(self) -> None:
        """Leave the last line as it is."""
        if self.bar is not None:
            self.bar.stop()

    def _draw(self, done: float, fresh: float) -> None:
        if self.bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            columns = (
                TextColumn(self.doing),
                BarColumn(bar_width=30),
                MofNCompleteColumn(),
                TextColumn("{task.fields[speed]}"),
                TextColumn("{task.fields[held]}"),
                TimeRemainingColumn(compact=True),
            )
            self.bar = Bar(*columns, console=Console(file=sys.stderr))
            self.task = self.bar.add_task("", total=self.total, speed="", held="")
            self.bar.start()
        seconds = time.monotonic() - self.began
        wrong = f", {self.wrong} {self.beside}" if self.wrong else ""
        self.bar.update(
            self.task,
            completed=int(done),
            speed=f"{fresh / max(seconds, 1e-9):.3g} rows/s",
            held=f"{self.held / self.done:.1%} {self.word} so far{wrong}" if self.done else "",
        )
