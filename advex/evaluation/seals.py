"""The checksums of a run file: one for each piece of work, and one that is the sum of all these.

SQLite does not notice a flipped bit, nor rows that are gone.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from advex.evaluation.complaints import damaged
from advex.evaluation.schema import (
    BEFORE,
    DETAILS,
    EXAMPLES,
    LOOKS,
    SEAL,
    VERDICTS,
    WORK,
    seal,
)

INPUTS = (
    "SELECT what, attack, number FROM seals WHERE what IN ('input', 'nearest', 'farthest',"
    " 'nearest maps', 'farthest maps')"
)
PICTURES = (
    "SELECT 'input', attack, example FROM verdicts WHERE adversarial IS NOT NULL UNION ALL SELECT"
    " place, attack, example FROM pictures"
)
MAPS = " UNION ALL SELECT place || ' maps', attack, example FROM maps"


class Seals:
    """The table of checksums; a database in memory needs none.

    Attributes:
        goals: whether there are the tables of goals that are not about one class.
    """

    def __init__(self, database: sqlite3.Connection, path: Path | None) -> None:
        self.database, self.path = database, path
        self.goals = False

    def write(self, what: str, attack: int, number: int, sum_: bytes | None) -> None:
        """Write the checksum of one thing, or take it away where ``sum_`` is None; within a
        transaction.
        """
        if self.path is None:
            return  # nothing can happen to it
        ask = self.database.execute
        place = (what, attack, number)
        was = ask(
            "SELECT sum FROM seals WHERE what = ? AND attack = ? AND number = ?", place
        ).fetchone()
        whole = ask("SELECT sum FROM seals WHERE what = 'all'").fetchone()
        total = int.from_bytes(whole[0] if whole else b"", "little")
        total += _weight(*place, sum_) - _weight(*place, was[0] if was else None)
        if sum_ is None:
            ask("DELETE FROM seals WHERE what = ? AND attack = ? AND number = ?", place)
        else:
            ask("INSERT OR REPLACE INTO seals VALUES (?, ?, ?, ?)", (*place, sum_))
        everything = (total % 2 ** (8 * SEAL)).to_bytes(SEAL, "little")
        ask("INSERT OR REPLACE INTO seals VALUES ('all', 0, 0, ?)", (everything,))

    def write_look(self, block: int) -> None:
        """Seal the first look at a block that was just written; within a transaction."""
        if self.path is None:
            return
        ask = self.database.execute
        row = ask(LOOKS.replace("ORDER", "WHERE id = ? ORDER"), (block,)).fetchone()
        self.write("look", 0, block, seal(row, *self._examples(row)))

    def write_work(self, attack: int, block: int) -> None:
        """Seal what an attack did to a block, which was just written; within a transaction."""
        if self.path is None:
            return
        question = WORK.replace("ORDER", "WHERE w.attack = ? AND w.block = ? ORDER")
        row = self.database.execute(question, (attack, block)).fetchone()
        self.write("work", attack, block, seal(row, *self._verdicts(row)))

    def write_facts(self) -> None:
        """Seal the tables of facts and attacks; within a transaction."""
        self.write("facts", 0, 0, self._facts())

    def demand(self, what: str, attack: int, number: int, sum_: bytes) -> None:
        """Raise unless this is the checksum that was written.

        Raises:
            InvalidInput: the file is damaged.
        """
        if self.path is None:
            return
        found = self.database.execute(
            "SELECT sum FROM seals WHERE what = ? AND attack = ? AND number = ?",
            (what, attack, number),
        ).fetchall()
        if found != [(sum_,)]:
            raise damaged(self.path, _told(what, attack, number))

    def verify(self) -> None:
        """Raise unless all that is in the file is what was written. Memory does not grow with it.

        Kept inputs and pictures are looked at when they are asked for; here only which there are.

        Raises:
            InvalidInput: the file is damaged; the message names the first place.
        """
        ask = self.database.execute
        for (said,) in ask("PRAGMA quick_check(1)"):
            if said != "ok":
                raise damaged(self.path, str(said).replace("\n", " "))
        total, units, whole = 0, 0, b""
        for what, attack, number, sum_ in ask("SELECT what, attack, number, sum FROM seals"):
            if what == "all":
                whole = sum_
            else:
                total += _weight(what, attack, number, sum_)
                units += what in ("look", "work")
        if not whole:
            if units or ask("SELECT count(*) FROM facts").fetchone()[0]:
                raise damaged(self.path, "its checksum is gone")
            return  # killed before the first thing was written
        if (total % 2 ** (8 * SEAL)).to_bytes(SEAL, "little") != whole:
            raise damaged(self.path, "parts of it are gone or changed")
        self.demand("facts", 0, 0, self._facts())
        pieces = self._verify_pieces()
        self._verify_inputs()
        if units != pieces:
            raise damaged(self.path, "parts of it are gone")

    def _verify_pieces(self) -> int:
        """Compare each first look and each attack on a block with its seal; how many there are."""
        ask = self.database.execute
        seen = {"blocks": 0, "work": 0, "examples": 0, "verdicts": 0}
        seen |= {"details": 0} if self.goals else {}
        for row in ask(LOOKS):
            inside, *more = self._examples(row)
            self.demand("look", 0, row[0], seal(row, inside, *more))
            seen["blocks"] += 1
            seen["examples"] += len(inside)
            if more:
                seen["details"] += len(more[0])
        for row in ask(WORK):
            inside, *more = [[]] if row[5] is None else self._verdicts(row)
            self.demand("work", row[0], row[1], seal(row, inside, *more))
            seen["work"] += 1
            seen["verdicts"] += len(inside)
            if more:
                seen["details"] += len(more[0])
        for table, count in seen.items():
            if ask(f"SELECT count(*) FROM {table}").fetchone()[0] != count:  # noqa: S608 - tables of this file
                raise damaged(self.path, f"the table of {table} has rows that nobody wrote")
        return seen["blocks"] + seen["work"]

    def _verify_inputs(self) -> None:
        """Each kept input and picture has its seal, and each seal its input."""
        there = f"SELECT * FROM ({PICTURES}{MAPS if self.goals else ''})"  # noqa: S608 - our own
        for one, other in ((INPUTS, there), (there, INPUTS)):
            for row in self.database.execute(f"{one} EXCEPT {other} LIMIT 1"):
                raise damaged(self.path, _told(*row))

    def _examples(self, look: tuple[Any, ...]) -> list[list[tuple[Any, ...]]]:
        rows = (look[1], look[1] + look[2])
        return [
            self.database.execute(EXAMPLES, rows).fetchall(),
            *self._details(BEFORE, *rows),
        ]

    def _verdicts(self, work: tuple[Any, ...]) -> list[list[tuple[Any, ...]]]:
        rows = (work[0], work[5], work[5] + work[6])
        return [self.database.execute(VERDICTS, rows).fetchall(), *self._details(*rows)]

    def _details(self, attack: int, first: int, end: int) -> list[list[tuple[Any, ...]]]:
        """What goals need that are not about one class, where there are such tables."""
        if not self.goals:
            return []
        return [self.database.execute(DETAILS, (attack, first, end)).fetchall()]

    def _facts(self) -> bytes:
        ask = self.database.execute
        return seal(
            ask("SELECT name, value FROM facts ORDER BY name").fetchall(),
            ask("SELECT id, name, settings FROM attacks ORDER BY id").fetchall(),
        )


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
