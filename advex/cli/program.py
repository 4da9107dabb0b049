"""Commands as the reader can paste them."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

NAME = "advex"
ROOM, INDENT = 78, 2  # columns of a command before it goes on in the next line; before it


def program() -> str:
    """What starts this program from here: ``advex`` where that is found, ``.venv/bin/advex`` where
    it is not, or ``python -m advex`` where it was started so.
    """
    given = Path(sys.argv[0] or NAME)
    if given.name == "__main__.py" and given.parent.name == NAME:
        return f"{_pasted(sys.executable)} -m {NAME}"
    return _pasted(str(given)) if given.stem.lower() == NAME else NAME


def command(words: Sequence[str], room: int | None = None) -> str:
    """A whole command. One longer than ``room`` (the terminal's) goes on in the next line, by a
    backslash.
    """
    room = room or min(ROOM, shutil.get_terminal_size().columns - INDENT)
    if os.name == "nt":
        return f"{program()} {subprocess.list2cmdline(words)}"
    lines, start = [program()], True
    for part in _parts(words):
        if len(lines[-1]) + len(part) + 3 > room and not start:
            lines[-1] += " \\"
            lines.append("   ")
        lines[-1] += f" {part}"
        start = False
    return "\n".join(lines)


def _parts(words: Sequence[str]) -> list[str]:
    """The words, quoted; an option and its value are one."""
    parts: list[str] = []
    for word in words:
        bound = parts and parts[-1].startswith("--") and " " not in parts[-1]
        if bound and not word.startswith("--"):
            parts[-1] += f" {shlex.quote(word)}"
        else:
            parts.append(shlex.quote(word))
    return parts


def _pasted(path: str) -> str:
    """A path as short as it can be typed."""
    given = Path(path)
    known, found = shutil.which(given.name), shutil.which(path)
    whole = Path(found or path).absolute()
    if known is not None and Path(known).absolute() == whole:
        return shlex.quote(given.name)
    here = Path.cwd()
    if not whole.is_relative_to(here):
        return shlex.quote(str(whole))
    near = str(whole.relative_to(here))
    return shlex.quote(near if os.sep in near else f"{os.curdir}{os.sep}{near}")
