"""The run file: one SQLite database, one transaction per finished piece of work; what is written once is never lost."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from advex._arrays import Array
from advex.errors import InvalidInput

MARK = 0x61647678  # "advx": says whose database it is
FORMAT = 1
PNG = b"\x89PNG"

SCHEMA = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE attacks (id INTEGER PRIMARY KEY, name TEXT NOT NULL, settings TEXT NOT NULL);
CREATE TABLE blocks (id INTEGER PRIMARY KEY, first INTEGER NOT NULL, rows INTEGER NOT NULL, digest TEXT NOT NULL,
    queries INTEGER NOT NULL, seconds REAL NOT NULL);
CREATE TABLE examples (id INTEGER PRIMARY KEY, label INTEGER NOT NULL, prediction INTEGER NOT NULL, confidence REAL,
    status TEXT NOT NULL);
CREATE TABLE work (block INTEGER, attack INTEGER, checks INTEGER NOT NULL, seconds REAL NOT NULL, warnings TEXT NOT NULL,
    PRIMARY KEY (attack, block)) WITHOUT ROWID;
CREATE TABLE verdicts (attack INTEGER, example INTEGER, status TEXT NOT NULL, distance REAL, prediction INTEGER NOT NULL,
    confidence REAL, gradients INTEGER NOT NULL, queries INTEGER NOT NULL, seconds REAL NOT NULL, broken_by TEXT NOT NULL,
    adversarial BLOB, PRIMARY KEY (attack, example)) WITHOUT ROWID;
CREATE TABLE pictures (place TEXT, attack INTEGER, example INTEGER, distance REAL NOT NULL, before BLOB NOT NULL,
    after BLOB NOT NULL, PRIMARY KEY (place, attack, example)) WITHOUT ROWID;
"""


class Store:
    """An open run file, or a database in memory where ``path`` is None.

    Args:
        path: the file. Its ``-wal`` beside it belongs to it while a run is going on or was killed.
        write: make it if there is none, and keep others from writing; else it must exist and is only read.

    Raises:
        InvalidInput: no such file, another program's file, a newer format, or one that another process writes.
        OSError: it cannot be written.
    """

    def __init__(self, path: Path | None, *, write: bool) -> None:
        self.path = path
        if path is not None:
            if path.is_symlink() or path.is_dir():
                raise InvalidInput(f"{path} is a {'folder' if path.is_dir() else 'symbolic link'}, not a run file")
            if not write and not path.exists():
                raise InvalidInput(f"{path}: no such run file")
        with self.named():
            self.database = sqlite3.connect(":memory:" if path is None else path, isolation_level=None, timeout=1)
            try:
                self._open(write)
            except BaseException:
                self.database.close()
                raise

    def _open(self, write: bool) -> None:
        ask = self.database.execute
        left = self.path is not None and self.path.with_name(f"{self.path.name}-wal").exists()
        if left or (write and self.path is not None):
            ask("PRAGMA locking_mode = EXCLUSIVE")  # one writer; and no shared memory file, for which a full disk has no room
        fresh = ask("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
        mark, version = (ask(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
        if (fresh and not write) or (not fresh and mark != MARK) or (fresh and mark not in (0, MARK)):
            raise InvalidInput(f"{self.path} is a database, but no run file of advex")
        if not fresh and version != FORMAT:
            raise InvalidInput(f"{self.path} has the format {version} of run files, this advex reads {FORMAT}")
        if write and self.path is not None:
            ask("PRAGMA journal_mode = WAL")
            ask("PRAGMA synchronous = FULL")
        if fresh:
            with self.transaction():
                for statement in SCHEMA.split(";"):
                    ask(statement)
                ask(f"PRAGMA application_id = {MARK}")
                ask(f"PRAGMA user_version = {FORMAT}")
        elif write:
            with self.transaction():  # takes the lock now, not after the first block
                pass

    @contextlib.contextmanager
    def named(self) -> Iterator[None]:
        """What SQLite has to complain about, as errors of advex."""
        try:
            yield
        except sqlite3.Error as problem:
            code, text = getattr(problem, "sqlite_errorcode", 0) & 0xFF, str(problem)
            where = self.path or "the database in memory"
            if code == sqlite3.SQLITE_NOTADB or "not a database" in text:
                raise InvalidInput(f"{where} is no run file of advex") from None
            if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise InvalidInput(f"{where} is in use by another process: wait until it has finished") from None
            if code == sqlite3.SQLITE_CORRUPT:
                raise InvalidInput(f"{where} is damaged ({text}): start a new run") from None
            if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
                raise OSError(
                    errno.ENOSPC,
                    f"{where} could not be written ({text}): is the disk full? All that was recorded before stays; make room and"
                    " call again with the same run file",
                ) from None
            if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
                raise OSError(errno.EACCES, f"{where} cannot be opened for writing ({text})") from None
            raise

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All of what the block writes is kept, or nothing."""
        with self.named():
            self.database.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.database.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self.database.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close the file; one that was written becomes one plain file again."""
        with contextlib.suppress(sqlite3.Error):
            if self.path is not None and not self.database.in_transaction:
                self.database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.database.close()

    def finish(self) -> None:
        """Leave one plain file, which can be read where nothing may be written."""
        if self.path is not None:
            with self.named():
                self.database.execute("PRAGMA journal_mode = DELETE")

    # Reading and writing.

    def rows(self, question: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of the answer."""
        with self.named():
            return self.database.execute(question, values).fetchall()

    def stream(self, question: str, values: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
        """The rows of the answer one by one."""
        with self.named():
            for row in self.database.execute(question, values):  # noqa: UP028 - yield from would close the cursor after its database
                yield row

    def one(self, question: str, values: Sequence[Any] = ()) -> tuple[Any, ...]:
        """The first row of the answer; it must have one."""
        with self.named():
            row: tuple[Any, ...] = self.database.execute(question, values).fetchone()
            return row

    def insert(self, table: str, rows: Iterable[Sequence[Any]]) -> None:
        """Write rows; within a transaction."""
        listed = [tuple(map(_plain, row)) for row in rows]
        if listed:
            places = ", ".join("?" * len(listed[0]))
            self.database.executemany(f"INSERT INTO {table} VALUES ({places})", listed)  # noqa: S608 - tables of this file

    def fact(self, name: str, otherwise: Any = None) -> Any:
        """One entry of the table of facts."""
        found = self.rows("SELECT value FROM facts WHERE name = ?", (name,))
        return json.loads(found[0][0]) if found else otherwise

    def state(self, facts: dict[str, Any]) -> None:
        """Write entries of the table of facts; within a transaction."""
        values = [(name, json.dumps(value, allow_nan=False)) for name, value in facts.items()]
        self.database.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", values)


def _plain(value: Any) -> Any:
    """A value as SQLite takes it; what is not finite becomes NULL."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def packed(values: Array) -> bytes:
    """One input as bytes: a PNG for 8-bit pictures, else a compressed npy file."""
    from advex import images

    if values.dtype == np.uint8 and images.is_image(values[None]):
        buffer = io.BytesIO()
        images.picture(values).save(buffer, format="PNG")
        return buffer.getvalue()
    buffer = io.BytesIO()
    np.save(buffer, values.astype("float32") if values.dtype.kind == "V" else values, allow_pickle=False)
    return zlib.compress(buffer.getvalue(), 1)


def unpacked(code: bytes, shape: Sequence[int]) -> Array:
    """What ``packed`` was given, an input of ``shape``."""
    if code.startswith(PNG):
        from PIL import Image

        with Image.open(io.BytesIO(code), formats=["PNG"]) as picture:
            return np.asarray(picture, "uint8").reshape(tuple(shape))
    values: Array = np.load(io.BytesIO(zlib.decompress(code)), allow_pickle=False)
    return values.reshape(tuple(shape))
