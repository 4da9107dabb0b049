"""The run file: one SQLite database, one transaction per finished piece of work; what is written
once is never lost.

SQLite does not notice a flipped bit, nor rows that are gone. So each piece of work is written with
its checksum, the seal, in the same transaction, and one more seal is the sum of all of these.
Nothing is read from a file before all its seals were found right.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import marshal
import os
import sqlite3
import stat
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from advex._arrays import Array
from advex._settings import shown
from advex.errors import InvalidInput, InvalidType

MARK = 0x61647678  # "advx": says whose database it is
FORMAT = 2
SEAL = 16  # bytes
PNG = b"\x89PNG"

SCHEMA = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE attacks (id INTEGER PRIMARY KEY, name TEXT NOT NULL, settings TEXT NOT NULL);
CREATE TABLE blocks (id INTEGER PRIMARY KEY, first INTEGER NOT NULL, rows INTEGER NOT NULL,
    digest TEXT NOT NULL,
    queries INTEGER NOT NULL, seconds REAL NOT NULL);
CREATE TABLE examples (id INTEGER PRIMARY KEY, label INTEGER NOT NULL,
    prediction INTEGER NOT NULL, confidence REAL,
    status TEXT NOT NULL);
CREATE TABLE work (block INTEGER, attack INTEGER, checks INTEGER NOT NULL, seconds REAL NOT NULL,
    warnings TEXT NOT NULL,
    PRIMARY KEY (attack, block)) WITHOUT ROWID;
CREATE TABLE verdicts (attack INTEGER, example INTEGER, status TEXT NOT NULL, distance REAL,
    prediction INTEGER NOT NULL,
    confidence REAL, gradients INTEGER NOT NULL, queries INTEGER NOT NULL, seconds REAL NOT NULL,
    broken_by TEXT NOT NULL,
    adversarial BLOB, PRIMARY KEY (attack, example)) WITHOUT ROWID;
CREATE TABLE pictures (place TEXT, attack INTEGER, example INTEGER, distance REAL NOT NULL,
    before BLOB NOT NULL,
    after BLOB NOT NULL, PRIMARY KEY (place, attack, example)) WITHOUT ROWID;
CREATE TABLE seals (what TEXT, attack INTEGER, number INTEGER, sum BLOB NOT NULL,
    PRIMARY KEY (what, attack, number))
    WITHOUT ROWID;
"""

LOOKS = "SELECT id, first, rows, digest, queries, seconds FROM blocks ORDER BY id"
EXAMPLES = (
    "SELECT id, label, prediction, confidence, status FROM examples WHERE id >= ? AND id <"
    " ? ORDER BY id"
)
WORK = (
    "SELECT w.attack, w.block, w.checks, w.seconds, w.warnings, b.first, b.rows FROM work w LEFT"
    " JOIN blocks b ON b.id = w.block"
    " ORDER BY w.attack, w.block"
)
VERDICTS = (
    "SELECT attack, example, status, distance, prediction, confidence, gradients, queries,"
    " seconds, broken_by,"
    " adversarial IS NULL FROM verdicts WHERE attack = ? AND example >= ? AND example < ? ORDER BY"
    " example"
)


def seal(*things: Any) -> bytes:
    """The checksum of plain values, lists and tuples of them.

    Version 2 of marshal's format has one way to write each of them, and is the fastest there is: a
    second for a million rows.
    """
    return hashlib.blake2b(marshal.dumps(things, 2), digest_size=SEAL).digest()


def checked_path(run: Any, argument: str = "run") -> Path:
    """The path of a run file, or an error that says why it cannot be one."""
    try:
        name = os.fspath(run)
    except TypeError:
        name = None
    if not isinstance(name, str):
        raise InvalidType(
            f"{argument} must be the name of a file, such as 'run.advex'; received {shown(run)}"
        )
    if not name or "\0" in name or not _encodable(name):
        raise InvalidInput(
            f"{argument} must be the name of a file, such as 'run.advex'; received {shown(name)}"
        )
    if name == ":memory:" or name.startswith("file:"):
        raise InvalidInput(
            f"{argument} must be the name of a file, such as 'run.advex'; received {shown(name)},"
            f" which means something to SQLite"
            " alone: run=None keeps nothing"
        )
    return Path(name)


def _encodable(name: str) -> bool:
    try:
        os.fsencode(name)
    except UnicodeError:
        return False
    return True


class Store:
    """An open run file, or a database in memory where ``path`` is None.

    Args:
        path: the file. Its ``-wal`` beside it belongs to it while a run is going on or was killed.
        write: make it if there is none, and keep others from writing; else it must exist and is
            only read.

    Raises:
        InvalidInput: no such file, another program's file, a newer format, or one that another
        process writes. OSError: it cannot be written.
    """

    def __init__(self, path: Path | None, *, write: bool) -> None:
        self.path, self.write = path, write
        if path is not None:
            if path.is_symlink() or path.is_dir():
                raise InvalidInput(
                    f"{path} is a {'folder' if path.is_dir() else 'symbolic link'}, not a run file"
                )
            if not write and not path.exists():
                raise InvalidInput(f"{path}: no such run file")
            if path.exists() and not stat.S_ISREG(path.stat().st_mode):
                raise InvalidInput(f"{path} is a device or a pipe, not a run file")
        with self.named():
            self.database = sqlite3.connect(
                ":memory:" if path is None else path, isolation_level=None, timeout=1
            )
            try:
                self._open(write)
            except BaseException:
                self.database.close()
                raise

    def _open(self, write: bool) -> None:
        ask = self.database.execute
        left = self.path is not None and self.path.with_name(f"{self.path.name}-wal").exists()
        if left or (write and self.path is not None):
            # one writer; and no shared memory file, for which a full disk has no room
            ask("PRAGMA locking_mode = EXCLUSIVE")
        fresh = ask("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
        mark, version, pages = (
            ask(f"PRAGMA {name}").fetchone()[0]
            for name in ("application_id", "user_version", "page_count")
        )
        if fresh and mark == MARK:
            raise self.damaged("its tables are gone")
        if (fresh and (not write or mark != 0 or pages > 1)) or (not fresh and mark != MARK):
            raise InvalidInput(f"{self.path} is a database, but no run file of advex")
        if not fresh and version != FORMAT:
            why = "which has no checksums" if version < FORMAT else "which a newer advex wrote"
            raise InvalidInput(
                f"{self.path} has format {version} of run files, {why}; this advex reads {FORMAT}:"
                f" start a new run, or install"
                " the advex that began it"
            )
        if not fresh and write and self.path is not None:
            self.verify()
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

    def damaged(self, how: str) -> InvalidInput:
        """The error for a file whose content is not what was written."""
        return InvalidInput(
            f"{self.path} is damaged ({how}): take a copy that is whole, or start a new run"
        )

    @contextlib.contextmanager
    def named(self) -> Iterator[None]:
        """What SQLite has to complain about, as errors of advex."""
        try:
            yield
        except sqlite3.Error as problem:
            if isinstance(problem, sqlite3.ProgrammingError | sqlite3.InterfaceError):
                raise  # ours
            code, text = getattr(problem, "sqlite_errorcode", 0) & 0xFF, str(problem)
            where = self.path or "the database in memory"
            if code == sqlite3.SQLITE_NOTADB or "not a database" in text:
                raise InvalidInput(f"{where} is no run file of advex") from None
            if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise InvalidInput(
                    f"{where} is in use by another process: wait until it has finished"
                ) from None
            if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and self.write):
                raise OSError(
                    errno.ENOSPC,
                    f"{where} could not be written ({text}): is the disk full? All that was"
                    f" recorded before stays; make room and"
                    " call again with the same run file",
                ) from None
            if code == sqlite3.SQLITE_IOERR:
                raise OSError(errno.EIO, f"{where} could not be read ({text})") from None
            if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
                raise OSError(
                    errno.EACCES, f"{where} cannot be opened{' for writing' * self.write} ({text})"
                ) from None
            raise self.damaged(
                text
            ) from None  # no such table, no text: what was asked is right, so the file is not
        except (UnicodeError, OverflowError, MemoryError) as problem:
            raise self.damaged(f"{type(problem).__name__}: {problem}") from None

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

    # Seals.

    def seal(self, what: str, attack: int, number: int, sum_: bytes | None) -> None:
        """Write the checksum of one thing, or take it away where ``sum_`` is None; within a
        transaction.
        """
        if self.path is None:
            return  # nothing can happen to it
        place = "what = ? AND attack = ? AND number = ?", (what, attack, number)
        was = self.database.execute(
            f"SELECT sum FROM seals WHERE {place[0]}",  # noqa: S608
            place[1],
        ).fetchone()
        whole = self.database.execute("SELECT sum FROM seals WHERE what = 'all'").fetchone()
        total = int.from_bytes(whole[0] if whole else b"", "little")
        total += _weight(what, attack, number, sum_) - _weight(
            what, attack, number, was[0] if was else None
        )
        if sum_ is None:
            self.database.execute(f"DELETE FROM seals WHERE {place[0]}", place[1])  # noqa: S608
        else:
            self.database.execute(
                "INSERT OR REPLACE INTO seals VALUES (?, ?, ?, ?)", (what, attack, number, sum_)
            )
        everything = (total % 2 ** (8 * SEAL)).to_bytes(SEAL, "little")
        self.database.execute("INSERT OR REPLACE INTO seals VALUES ('all', 0, 0, ?)", (everything,))

    def seal_look(self, block: int) -> None:
        """Seal the first look at a block that was just written; within a transaction."""
        if self.path is None:
            return
        row = self.database.execute(
            LOOKS.replace("ORDER", "WHERE id = ? ORDER"), (block,)
        ).fetchone()
        self.seal(
            "look",
            0,
            block,
            seal(row, self.database.execute(EXAMPLES, (row[1], row[1] + row[2])).fetchall()),
        )

    def seal_work(self, attack: int, block: int) -> None:
        """Seal what an attack did to a block, which was just written; within a transaction."""
        if self.path is None:
            return
        row = self.database.execute(
            WORK.replace("ORDER", "WHERE w.attack = ? AND w.block = ? ORDER"), (attack, block)
        ).fetchone()
        self.seal(
            "work",
            attack,
            block,
            seal(
                row, self.database.execute(VERDICTS, (attack, row[5], row[5] + row[6])).fetchall()
            ),
        )

    def seal_facts(self) -> None:
        """Seal the tables of facts and attacks; within a transaction."""
        self.seal("facts", 0, 0, self._facts())

    def _facts(self) -> bytes:
        ask = self.database.execute
        return seal(
            ask("SELECT name, value FROM facts ORDER BY name").fetchall(),
            ask("SELECT id, name, settings FROM attacks ORDER BY id").fetchall(),
        )

    def sealed(self, what: str, attack: int, number: int, sum_: bytes) -> None:
        """Raise unless this is the checksum that was written.

        Raises:
            InvalidInput: the file is damaged.
        """
        if self.path is None:
            return
        if self.rows(
            "SELECT sum FROM seals WHERE what = ? AND attack = ? AND number = ?",
            (what, attack, number),
        ) != [(sum_,)]:
            raise self.damaged(_told(what, attack, number))

    def verify(self) -> None:
        """Raise unless all that is in the file is what was written. Memory does not grow with it.

        Kept inputs and pictures are looked at when they are asked for; here only which there are.

        Raises:
            InvalidInput: the file is damaged; the message names the first place.
        """
        ask = self.database.execute
        with self.named():
            for (said,) in ask("PRAGMA quick_check(1)"):
                if said != "ok":
                    raise self.damaged(str(said).replace("\n", " "))
            total, units, whole = 0, 0, b""
            for what, attack, number, sum_ in ask("SELECT what, attack, number, sum FROM seals"):
                if what == "all":
                    whole = sum_
                else:
                    total, units = (
                        total + _weight(what, attack, number, sum_),
                        units + (what in ("look", "work")),
                    )
            if not whole:
                if units or ask("SELECT count(*) FROM facts").fetchone()[0]:
                    raise self.damaged("its checksum is gone")
                return  # killed before the first thing was written
            if (total % 2 ** (8 * SEAL)).to_bytes(SEAL, "little") != whole:
                raise self.damaged("parts of it are gone or changed")
            self.sealed("facts", 0, 0, self._facts())
            seen = {"blocks": 0, "work": 0, "examples": 0, "verdicts": 0}
            for row in ask(LOOKS):
                inside = ask(EXAMPLES, (row[1], row[1] + row[2])).fetchall()
                self.sealed("look", 0, row[0], seal(row, inside))
                seen["blocks"], seen["examples"] = (
                    seen["blocks"] + 1,
                    seen["examples"] + len(inside),
                )
            for row in ask(WORK):
                inside = (
                    []
                    if row[5] is None
                    else ask(VERDICTS, (row[0], row[5], row[5] + row[6])).fetchall()
                )
                self.sealed("work", row[0], row[1], seal(row, inside))
                seen["work"], seen["verdicts"] = seen["work"] + 1, seen["verdicts"] + len(inside)
            for table, count in seen.items():
                if ask(f"SELECT count(*) FROM {table}").fetchone()[0] != count:  # noqa: S608 - tables of this file
                    raise self.damaged(f"the table of {table} has rows that nobody wrote")
            kinds = (
                "SELECT 'input', attack, example FROM verdicts WHERE adversarial IS NOT NULL",
                "SELECT place, attack, example FROM pictures",
            )
            wanted = (
                "SELECT what, attack, number FROM seals WHERE what IN ('input', 'nearest',"
                " 'farthest')"
            )
            there = f"SELECT * FROM ({kinds[0]} UNION ALL {kinds[1]})"  # noqa: S608
            for one, other in ((wanted, there), (there, wanted)):
                for row in ask(f"{one} EXCEPT {other} LIMIT 1"):
                    raise self.damaged(_told(*row))
            if units != seen["blocks"] + seen["work"]:
                raise self.damaged("parts of it are gone")

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
            self.database.executemany((f"INSERT INTO {table} VALUES ({places})"), listed)  # noqa: S608 - tables of this file

    def fact(self, name: str, otherwise: Any = None) -> Any:
        """One entry of the table of facts."""
        found = self.rows("SELECT value FROM facts WHERE name = ?", (name,))
        return json.loads(found[0][0]) if found else otherwise

    def state(self, facts: dict[str, Any]) -> None:
        """Write entries of the table of facts; within a transaction."""
        values = [(name, json.dumps(value, allow_nan=False)) for name, value in facts.items()]
        self.database.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", values)
        self.seal_facts()


def _weight(what: str, attack: int, number: int, sum_: bytes | None) -> int:
    """What one seal adds to the sum of all."""
    return 0 if sum_ is None else int.from_bytes(seal(what, attack, number, sum_), "little")


def _told(what: str, attack: Any, number: Any) -> str:
    """Which part a seal is of, in words."""
    parts = {
        "look": f"block {number}",
        "work": f"attack {attack} on block {number}",
        "facts": "the settings",
    }
    return parts.get(what, f"the input kept of example {number}") + " is not as it was written"


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
    np.save(
        buffer, values.astype("float32") if values.dtype.kind == "V" else values, allow_pickle=False
    )
    return zlib.compress(buffer.getvalue(), 1)


def unpacked(code: bytes, shape: Sequence[int]) -> Array:
    """What ``packed`` was given, an input of ``shape``."""
    if code.startswith(PNG):
        from PIL import Image

        with Image.open(io.BytesIO(code), formats=["PNG"]) as picture:
            return np.asarray(picture, "uint8").reshape(tuple(shape))
    values: Array = np.load(io.BytesIO(zlib.decompress(code)), allow_pickle=False)
    return values.reshape(tuple(shape))
