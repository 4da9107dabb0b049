"""What a run file looks like: its tables, the questions that its checksums are of, and its name."""

from __future__ import annotations

import hashlib
import marshal
import os
from pathlib import Path
from typing import Any

from advex._settings import shown
from advex.errors import InvalidInput, InvalidType

MARK = 0x61647678  # "advx": says whose database it is
FORMAT = 2
WITH_GOALS = 3  # has tables of what goals need that are not about one class
FORMATS = (FORMAT, WITH_GOALS)
SEAL = 16  # bytes
PICTURES = 4  # kept of each attack at each end

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

BEFORE = -1  # in place of an attack: of the input as it is
SAMPLE = -2  # likewise, of a picture: by the doctor's search for the smallest change
HELD = -3  # likewise: of an example that no attack broke

GOALS = """
CREATE TABLE IF NOT EXISTS details (attack INTEGER, example INTEGER, detail TEXT NOT NULL,
    PRIMARY KEY (attack, example)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS maps (place TEXT, attack INTEGER, example INTEGER, maps BLOB NOT NULL,
    PRIMARY KEY (place, attack, example)) WITHOUT ROWID;
"""
"""Of runs with a goal of their own. Where it is about maps, the ``distance`` of a picture is the
share of its pixels that are right.
"""

# What the checksum of a first look, or of an attack on a block, is of.
LOOKS = "SELECT id, first, rows, digest, queries, seconds FROM blocks ORDER BY id"
EXAMPLES = (
    "SELECT id, label, prediction, confidence, status FROM examples WHERE id >= ? AND id <"
    " ? ORDER BY id"
)
WORK = (
    "SELECT w.attack, w.block, w.checks, w.seconds, w.warnings, b.first, b.rows FROM work w LEFT"
    " JOIN blocks b ON b.id = w.block ORDER BY w.attack, w.block"
)
VERDICTS = (
    "SELECT attack, example, status, distance, prediction, confidence, gradients, queries,"
    " seconds, broken_by, adversarial IS NULL FROM verdicts WHERE attack = ? AND example >= ? AND"
    " example < ? ORDER BY example"
)

DETAILS = (
    "SELECT attack, example, detail FROM details WHERE attack = ? AND example >= ? AND example < ?"
    " ORDER BY example"
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
            " which means something to SQLite alone: run=None keeps nothing"
        )
    return Path(name)


def _encodable(name: str) -> bool:
    try:
        os.fsencode(name)
    except UnicodeError:
        return False
    return True
