"""What others write to the terminal: warnings become short lines, Keras is imported silently."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from advex.cli.screen import printable
from advex.cli.words import as_options
from advex.errors import AdvexWarning


@contextlib.contextmanager
def short_warnings(said: list[str]) -> Iterator[None]:
    """Warnings of advex become lines on stderr, each once, and are kept in ``said``."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", AdvexWarning)
        usual = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
            if not issubclass(category, AdvexWarning):
                usual(message, category, *rest, **more)
            elif (told := as_options(str(message))) not in said:
                said.append(told)
                print(f"warning: {printable(told)}", file=sys.stderr)

        warnings.showwarning = show
        yield


def wake_keras() -> None:
    """Import Keras and its backend without the lines that their C++ libraries write; these are
    shown if the import fails.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.stderr.flush()
    with tempfile.TemporaryFile() as kept:
        screen = os.dup(2)
        os.dup2(kept.fileno(), 2)
        awake = False
        try:
            import_module("keras").ops.convert_to_tensor(0.0)  # looks for devices
            awake = True
        finally:
            os.dup2(screen, 2)
            os.close(screen)
            if not awake:
                kept.seek(0)
                os.write(2, kept.read())
