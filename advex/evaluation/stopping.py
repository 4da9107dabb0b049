"""Ctrl-C between two pieces of work."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType


@contextlib.contextmanager
def stopping() -> Iterator[Callable[[], bool]]:
    """Ctrl-C sets a flag that is looked at between two pieces of work; a second one interrupts at
    once.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    usual = signal.getsignal(signal.SIGINT)

    def handle(_: int, __: FrameType | None) -> None:
        asked.set()
        print("\nadvex: stopping after this block; Ctrl-C again stops at once", file=sys.stderr)
        signal.signal(signal.SIGINT, usual if usual is not None else signal.default_int_handler)

    if usual is signal.SIG_IGN:
        yield asked.is_set
        return
    signal.signal(signal.SIGINT, handle)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, usual if usual is not None else signal.default_int_handler)
