"""The run file: one SQLite database, one transaction per finished piece of work; what is written
once is never lost.

Each piece of work is written with its checksum in the same transaction. Nothing is read from a file
before all its checksums were found right.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from advex.errors import InvalidInput
from advex.evaluation.complaints import damaged, translated
from advex.evaluation.schema import FORMAT, FORMATS, GOALS, MARK, SCHEMA, WITH_GOALS
from advex.evaluation.seals import Seals
from advex.evaluation.values import plain


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
            self.seals = Seals(self.database, path)
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
        fresh = self._demand_ours(write)
        if not fresh and write and self.path is not None:
            self.seals.verify()
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

    def _demand_ours(self, write: bool) -> bool:
        """Raise if this is another program's database, or one of another format; whether it is
        empty.
        """
        ask = self.database.execute
        fresh: bool = ask("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
        mark, version, pages = (
            ask(f"PRAGMA {name}").fetchone()[0]
            for name in ("application_id", "user_version", "page_count")
        )
        if fresh and mark == MARK:
            raise damaged(self.path, "its tables are gone")
        if (fresh and (not write or mark != 0 or pages > 1)) or (not fresh and mark != MARK):
            raise InvalidInput(f"{self.path} is a database, but no run file of advex")
        if not fresh and version not in FORMATS:
            why = "which has no checksums" if version < FORMAT else "which a newer advex wrote"
            raise InvalidInput(
                f"{self.path} has format {version} of run files, {why}; this advex reads"
                f" {' and '.join(map(str, FORMATS))}: start a new run, or install the advex that"
                " began it"
            )
        self.seals.goals = version == WITH_GOALS
        return fresh

    def extend(self) -> None:
        """Make the tables for a goal that is not about one class; within a transaction."""
        for statement in GOALS.split(";"):
            self.database.execute(statement)
        self.database.execute(f"PRAGMA user_version = {WITH_GOALS}")
        self.seals.goals = True

    def named(self) -> contextlib.AbstractContextManager[None]:
        """What SQLite has to complain about, as errors of advex."""
        return translated(self.path, write=self.write)

    def verify(self) -> None:
        """Raise ``InvalidInput`` unless all that is in the file is what was written."""
        with self.named():
            self.seals.verify()

    def sealed(self, what: str, attack: int, number: int, sum_: bytes) -> None:
        """Raise ``InvalidInput`` unless this is the checksum that was written."""
        with self.named():
            self.seals.demand(what, attack, number, sum_)

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
        listed = [tuple(map(plain, row)) for row in rows]
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
        self.seals.write_facts()
