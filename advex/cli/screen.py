"""Text and tables for a terminal, plain values for JSON."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

UNWATCHED_WIDTH = 200  # columns of a table that goes into a file or a pipe
NARROWEST = 7  # columns that are left of a shortened cell
GAP = 2  # blanks between two columns
GOOD, BAD = "green", "red"


def console() -> Any:
    """A rich console for tables; no cell is cut off where the output is not a terminal, and nothing
    but text is written where ``NO_COLOR`` is set.
    """
    from rich.console import Console

    watched = sys.stdout.isatty()
    return Console(
        file=sys.stdout,
        width=None if watched else UNWATCHED_WIDTH,
        color_system=None if os.environ.get("NO_COLOR") else "auto",
        highlight=False,
        soft_wrap=not watched,
    )


def say(screen: Any, line: str = "", *, style: str | None = None) -> None:
    """Print one line of text on a ``console()``; it wraps between words."""
    screen.print(printable(line), markup=False, style=style)


def say_whole(screen: Any, text: str) -> None:
    """Print text that is meant to be copied, such as a path or a command: nothing breaks it."""
    lines = [printable(line) for line in text.splitlines()]
    screen.print("\n".join(lines), markup=False, soft_wrap=True)


def tell(line: str) -> None:
    """Print a line on stderr if it is a terminal."""
    if sys.stderr.isatty():
        print(line, file=sys.stderr)


def table(
    screen: Any,
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    numbers: Sequence[str] = (),
    *,
    whole: Sequence[str] = (),
    wraps: Sequence[str] = (),
    spare: Sequence[str] = (),
    heads: bool = True,
) -> Any:
    """A table that is as wide as ``screen`` at most.

    Args:
        screen: a ``console()``.
        columns: the headings; a line break in one makes it two lines high.
        rows: a text for each column, or a ``marked`` one.
        numbers: columns that are set flush right, and stay whole.
        whole: others that stay whole.
        wraps: columns that go on in the next line where they are too long. All others lose their
            middle, as ``a-long-na….png``.
        spare: columns that are left out where there is no room, the first of them first.
        heads: False: without its headings.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    columns, kept = list(columns), {*numbers, *whole}
    cells = [
        [cell if isinstance(cell, Text) else Text(printable(cell)) for cell in row] for row in rows
    ]
    widths = [
        max(map(_width, [*heading.split("\n"), *(row[place].plain for row in cells)]))
        for place, heading in enumerate(columns)
    ]
    least = [
        width if name in kept else min(width, max(NARROWEST, *map(_width, name.split("\n"))))
        for name, width in zip(columns, widths, strict=True)
    ]
    for name in spare:
        if sum(least) + GAP * (len(least) - 1) <= screen.width:
            break
        if name in columns:
            place = columns.index(name)
            every: list[list[Any]] = [columns, widths, least, *cells]
            for listed in every:
                del listed[place]
    widths = _fitted(widths, least, screen.width - GAP * (len(widths) - 1))

    made = Table(
        box=box.SIMPLE_HEAD if heads else None,
        show_header=heads,
        show_edge=False,
        pad_edge=False,
        padding=(0, GAP - 1 if heads else GAP, 0, 0),
    )
    for name, width in zip(columns, widths, strict=True):
        made.add_column(
            name,
            justify="right" if name in numbers else "left",
            no_wrap=name not in wraps,
            width=width,
        )
    for row in cells:
        for name, width, cell in zip(columns, widths, row, strict=True):
            if name not in wraps:
                cell.plain = shortened(cell.plain, width)
        made.add_row(*row)
    return made


def _width(text: str) -> int:
    """Columns of a terminal: a Chinese character has two."""
    from rich.cells import cell_len

    return cell_len(printable(text))


def _fitted(widths: list[int], least: list[int], room: int) -> list[int]:
    """The widths, the largest made smaller until all fit; none below its least."""
    widths = list(widths)
    while sum(widths) > room:
        spare = [width if width > low else 0 for width, low in zip(widths, least, strict=True)]
        if not any(spare):
            break
        widths[spare.index(max(spare))] -= 1
    return widths


def shortened(text: str, width: int) -> str:
    """``text`` without its middle where it is wider than ``width``.

    Example:
        >>> shortened("a-long-name.png", 10)
        'a-lon….png'
    """
    if _width(text) <= width:
        return text
    mark = printable("…").replace("?", "~")
    start, end = text[: (width + 1) // 2], text[len(text) - (width - 1) // 2 :]
    while _width(start + mark + end) > width and (start or end):
        start, end = (start[:-1], end) if len(start) > len(end) else (start, end[1:])
    return start + mark + end


def marked(text: str, good: bool) -> Any:
    """A cell that tells good from bad by a sign and a colour."""
    from rich.text import Text

    return Text(f"{sign(good)} {printable(text)}", style=GOOD if good else BAD)


def sign(good: bool) -> str:
    """A tick or a cross; a plus or a minus where the terminal knows neither."""
    wanted = "✓" if good else "✗"
    return wanted if printable(wanted) == wanted else "+" if good else "-"


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
