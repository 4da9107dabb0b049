"""What the benchmarks share: the machine in words, the clock, tables."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")


class Spent(NamedTuple):
    """Seconds by the wall, and seconds of all cores together: the second hardly feels what else the
    machine does.
    """

    wall: float
    cpu: float

    def __sub__(self, other: Spent) -> Spent:
        return Spent(self.wall - other.wall, self.cpu - other.cpu)

    def __truediv__(self, count: float) -> Spent:
        return Spent(self.wall / count, self.cpu / count)


def now() -> Spent:
    """The two clocks."""
    return Spent(time.perf_counter(), time.process_time())


def timed(function: Callable[[], Any]) -> Spent:
    """What one call costs."""
    start = now()
    function()
    return now() - start


def machine() -> str:
    """Processor, cores and load, without the name of the host."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next(
            line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")
        )
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{model}, {os.cpu_count()} cores{load}, {platform.system()} {platform.machine()}"


def versions(*more: str) -> str:
    """Versions of Python and of the packages that decide."""
    names = ("tensorflow", "keras", "numpy", *more)
    return ", ".join(
        [
            f"Python {platform.python_version()}",
            *(f"{name} {importlib.metadata.version(name)}" for name in names),
        ]
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns set below one another: the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]

    def line(row: Sequence[str]) -> str:
        padded = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        return "  ".join([row[0].ljust(widths[0]), *padded[1:]]).rstrip()

    return "\n".join([line(head), line(["-" * width for width in widths]), *map(line, rows)])
