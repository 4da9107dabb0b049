"""Text and tables for a terminal, plain values for JSON."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

UNWATCHED_WIDTH = 200  # columns of a table that goes into a file or a pipe


def console() -> Any:
    """A rich console for tables; no cell is cut off where the output is not a terminal."""
    from rich.console import Console

    watched = sys.stdout.isatty()
    return Console(
        file=sys.stdout,
        width=None if watched else UNWATCHED_WIDTH,
        highlight=False,
        soft_wrap=not watched,
    )


def say(screen: Any, line: str = "") -> None:
    """Print one line of text on a ``console()``."""
    screen.print(printable(line), markup=False)


def tell(line: str) -> None:
    """Print a line on stderr if it is a terminal."""
    if sys.stderr.isatty():
        print(line, file=sys.stderr)


def table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[str] = ()
) -> Any:
    """A table for ``console()``; the columns in ``numbers`` are set flush right."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for name in columns:
        made.add_column(
            name,
            justify="right" if name in numbers else "left",
            no_wrap=name in numbers,
            overflow="fold",
        )
    for row in rows:
        made.add_row(*(Text(printable(cell)) for cell in row))
    return made


def printable(text: str) -> str:
    """``text`` without anything that would move a cursor, or that the terminal cannot encode."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return plain_letters(text).encode(encoding, "replace").decode(encoding)


def plain_letters(text: str) -> str:
    """``text`` with a replacement character for each control character."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def plural(count: int, noun: str) -> str:
    """``1 level``, ``2 levels``, ``2,000 queries``."""
    if count == 1:
        return f"1 {noun}"
    return f"{count:,} queries" if noun == "query" else f"{count} {noun}s"


def yes_or_no(value: bool | None) -> str:
    """A cell for what was verified, or was not, or could not be."""
    return {True: "yes", False: "NO", None: ""}[value]


def plain_values(value: Any) -> Any:
    """``value`` with infinities and NaN as None, and paths as text, for JSON."""
    if hasattr(value, "to_dict"):
        value = value.to_dict()
    if isinstance(value, dict):
        return {str(name): plain_values(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain_values(entry) for entry in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value
