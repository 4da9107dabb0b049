"""A run file that is read: verified whenever it has changed, and its single examples."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from advex._arrays import Array
from advex.evaluation.schema import seal
from advex.evaluation.store import Store
from advex.evaluation.summaries import Pair, caption
from advex.evaluation.table import VERDICTS, Table
from advex.evaluation.values import unpacked

PER_ATTACK = (
    "status",
    "distance",
    "prediction",
    "confidence",
    "gradients",
    "queries",
    "seconds",
    "broken_by",
)


class RunFile:
    """A store that is open, or one that is opened for the time of a question and verified if it has
    changed since.
    """

    def __init__(self, path: Path | None, store: Store | None) -> None:
        self.path, self.store = path, store
        self.verified: tuple[Any, ...] | None = None

    @contextlib.contextmanager
    def open(self) -> Iterator[Store]:
        """The store, to be read."""
        if self.store is not None or self.path is None:
            yield self.store if self.store is not None else Store(None, write=False)
            return
        opened = Store(self.path, write=False)
        try:
            with opened.named():
                opened.database.execute("BEGIN")  # what was looked through is what is read
            seen = _state(self.path)
            if seen != self.verified:
                opened.verify()
                self.verified = seen
            yield opened
        finally:
            opened.database.close()


def _state(path: Path) -> tuple[Any, ...]:
    """What changes whenever a file is written."""
    about = path.stat()
    return about.st_ino, about.st_size, about.st_mtime_ns


def read_rows(store: Store, table: Table, attacks: Sequence[str]) -> Iterator[dict[str, Any]]:
    """One dict per example, see ``Figures.rows``."""
    verdicts = store.stream(
        "SELECT example, attack, status, distance, prediction, confidence, gradients, queries,"
        " seconds, broken_by FROM verdicts ORDER BY example, attack"
    )
    held = next(verdicts, None)
    confidences = store.stream("SELECT confidence FROM examples ORDER BY id")
    for place, (confidence,) in enumerate(confidences):
        entry = {
            "example": int(table.example[place]),
            "label": int(table.label[place]),
            "prediction": int(table.prediction[place]),
            "confidence": confidence,
            "verdict": VERDICTS[table.verdict[place]],
            "distance": float(table.distance[place]),
        }
        found: dict[int, tuple[Any, ...]] = {}
        while held is not None and held[0] == entry["example"]:
            found[held[1]] = held[2:]
            held = next(verdicts, None)
        for number, name in enumerate(attacks):
            values = found.get(number, (None,) * len(PER_ATTACK))
            entry |= {
                f"{name}.{column}": value for column, value in zip(PER_ATTACK, values, strict=True)
            }
        yield entry


def read_input(store: Store, example: int, attack: int, shape: Sequence[int]) -> Array | None:
    """The adversarial input that was kept of one example; None where there is none."""
    found = store.rows(
        "SELECT adversarial FROM verdicts WHERE attack = ? AND example = ?", (attack, example)
    )
    if not found or found[0][0] is None:
        return None
    store.sealed("input", attack, example, seal(found[0][0]))
    return unpacked(found[0][0], shape)


def read_pairs(
    store: Store,
    place: str,
    most: int,
    attacks: Sequence[str],
    labels: Array,
    names: list[str] | None,
    shape: Sequence[int],
) -> list[Pair]:
    """The pictures kept at one end, ``most`` of them, no example twice."""
    rows = store.rows(
        "SELECT p.example, p.attack, p.distance, p.before, p.after, v.prediction, v.confidence"
        " FROM pictures p JOIN verdicts v ON v.attack = p.attack AND v.example = p.example WHERE"
        " p.place = ? ORDER BY p.distance, p.example",
        (place,),
    )
    best: dict[int, tuple[Any, ...]] = {}
    for row in rows:  # all: a wrong distance would let others be chosen
        example, attack, distance, before, after, *_ = row
        store.sealed(place, attack, example, seal(distance, before, after))
        best.setdefault(example, row)
    ordered = list(best.values()) if place == "nearest" else list(best.values())[::-1]
    return [
        Pair(
            example,
            attacks[attack],
            distance,
            caption(names, int(labels[example])),
            caption(names, prediction),
            confidence,
            unpacked(before, shape),
            unpacked(after, shape),
        )
        for example, attack, distance, before, after, prediction, confidence in ordered[:most]
    ]
