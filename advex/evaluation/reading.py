"""A run file that is read: verified whenever it has changed, and its single examples."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from advex._arrays import Array
from advex.evaluation.details import words
from advex.evaluation.schema import BEFORE, seal
from advex.evaluation.store import Store
from advex.evaluation.summaries import Pair, caption
from advex.evaluation.table import VERDICTS, Table
from advex.evaluation.values import unpacked
from advex.evaluation.wanted import CLASSES, MAPS

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


def read_rows(
    store: Store, table: Table, attacks: Sequence[str], *, details: bool = False
) -> Iterator[dict[str, Any]]:
    """One dict per example, see ``Figures.rows``; ``details``: with those of goals that are not
    about one class, as JSON, in place of classes.
    """
    kept = _details(store) if details else None
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
        yield entry if kept is None else _with_details(entry, next(kept), attacks)


def _details(store: Store) -> Iterator[dict[int, str]]:
    """Attack -> what is kept after it, for each example in order."""
    rows = store.stream("SELECT example, attack, detail FROM details ORDER BY example, attack")
    for _, group in itertools.groupby(rows, key=lambda row: row[0]):
        yield {attack: detail for _, attack, detail in group}


def _with_details(
    entry: dict[str, Any], kept: dict[int, str], attacks: Sequence[str]
) -> dict[str, Any]:
    """The entry of an example that does not have one class."""
    made: dict[str, Any] = {}
    after = {name: kept.get(number) for number, name in enumerate(attacks)}
    for name, value in entry.items():
        attack, _, column = name.rpartition(".")
        if column == "prediction":
            made[f"{attack}.detail" if attack else "detail"] = (
                after[attack] if attack else kept[BEFORE]
            )
        elif column not in ("label", "confidence"):
            made[name] = value
    return made


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
    kind: str = CLASSES,
) -> list[Pair]:
    """The pictures kept at one end, ``most`` of them, no example twice."""
    told = _Told(store, kind, names)
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
            told.label(int(labels[example]), example),
            told.prediction(prediction, attack, example),
            confidence,
            unpacked(before, shape),
            unpacked(after, shape),
            told.maps(place, attack, example),
        )
        for example, attack, distance, before, after, prediction, confidence in ordered[:most]
    ]


class _Told:
    """What is said of the examples of pictures, whatever the goal is about."""

    def __init__(self, store: Store, kind: str, names: list[str] | None) -> None:
        self.store, self.kind, self.names = store, kind, names

    def label(self, label: int, example: int) -> str:
        """What is true of an example; of maps what the model says without attack."""
        if self.kind == CLASSES:
            return caption(self.names, label)
        return words(self.kind, self._detail(BEFORE, example), self.names, true=True)

    def prediction(self, prediction: int, attack: int, example: int) -> str:
        """What the model says after an attack."""
        if self.kind == CLASSES:
            return caption(self.names, prediction)
        return words(self.kind, self._detail(attack, example), self.names)

    def maps(self, place: str, attack: int, example: int) -> Array | None:
        """The maps that were kept with a picture."""
        if self.kind != MAPS:
            return None
        question = "SELECT maps FROM maps WHERE place = ? AND attack = ? AND example = ?"
        code = self.store.one(question, (place, attack, example))[0]
        self.store.sealed(f"{place} maps", attack, example, seal(code))
        return unpacked(code)

    def _detail(self, attack: int, example: int) -> str:
        question = "SELECT detail FROM details WHERE attack = ? AND example = ?"
        found: str = self.store.one(question, (attack, example))[0]
        return found
