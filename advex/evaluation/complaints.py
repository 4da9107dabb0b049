"""What SQLite has to complain about, as errors of advex."""

from __future__ import annotations

import contextlib
import errno
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from advex.errors import InvalidInput


def damaged(path: Path | None, how: str) -> InvalidInput:
    """The error for a file whose content is not what was written."""
    return InvalidInput(f"{path} is damaged ({how}): take a copy that is whole, or start a new run")


@contextlib.contextmanager
def translated(path: Path | None, *, write: bool) -> Iterator[None]:
    """Errors of SQLite, of text that cannot be decoded and of numbers that are too large, as errors
    of advex.
    """
    try:
        yield
    except sqlite3.Error as problem:
        if isinstance(problem, sqlite3.ProgrammingError | sqlite3.InterfaceError):
            raise  # ours
        raise _named(problem, path, write) from None
    except (UnicodeError, OverflowError, MemoryError) as problem:
        raise damaged(path, f"{type(problem).__name__}: {problem}") from None


def _named(problem: sqlite3.Error, path: Path | None, write: bool) -> Exception:
    """An error of SQLite, by its code."""
    code, text = getattr(problem, "sqlite_errorcode", 0) & 0xFF, str(problem)
    where = path or "the database in memory"
    if code == sqlite3.SQLITE_NOTADB or "not a database" in text:
        return InvalidInput(f"{where} is no run file of advex")
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return InvalidInput(f"{where} is in use by another process: wait until it has finished")
    if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and write):
        return OSError(
            errno.ENOSPC,
            f"{where} could not be written ({text}): is the disk full? All that was recorded"
            " before stays; make room and call again with the same run file",
        )
    if code == sqlite3.SQLITE_IOERR:
        return OSError(errno.EIO, f"{where} could not be read ({text})")
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return OSError(errno.EACCES, f"{where} cannot be opened{' for writing' * write} ({text})")
    # no such table, no text: what was asked is right, so the file is not
    return damaged(path, text)
