"""The pieces of an evaluation in its run file: written, and read again."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from advex._arrays import Array
from advex.evaluation.pieces import Clean, Plan, Verdicts
from advex.evaluation.schema import BEFORE, DETAILS, HELD, PICTURES, seal
from advex.evaluation.shown import ends, ranks
from advex.evaluation.source import Block
from advex.evaluation.store import Store
from advex.evaluation.values import packed


def write_clean(store: Store, block: Block, before: Clean) -> None:
    """Record the first look at a block; within a transaction."""
    store.insert(
        "blocks",
        [(block.number, block.first, len(block), block.digest, before.queries, before.seconds)],
    )
    numbers = range(block.first, block.first + len(block))
    store.insert(
        "examples",
        zip(
            numbers, before.labels, before.prediction, before.confidence, before.status, strict=True
        ),
    )
    if before.details is not None:
        store.insert(
            "details",
            ((BEFORE, number, one) for number, one in zip(numbers, before.details, strict=True)),
        )
    store.seals.write_look(block.number)


def write_verdicts(store: Store, plan: Plan, block: Block, attack: int, found: Verdicts) -> None:
    """Record what one attack did to a block; within a transaction."""
    kept = found.status == "broken" if plan.keep == "success" else np.zeros(len(found.rows), bool)
    passes = found.gradients + found.queries
    share = found.seconds * passes / max(1, passes.sum())
    store.insert(
        "work", [(block.number, attack, found.checks, found.seconds, json.dumps(found.warnings))]
    )
    inputs = [packed(x) if keep else None for x, keep in zip(found.x, kept, strict=True)]
    for row, code in zip(found.rows, inputs, strict=True):
        if code is not None:
            store.seals.write("input", attack, block.first + int(row), seal(code))
    store.insert(
        "verdicts",
        (
            (
                attack,
                block.first + int(row),
                found.status[place],
                found.distance[place],
                found.prediction[place],
                found.confidence[place],
                found.gradients[place],
                found.queries[place],
                share[place],
                found.broken_by[place],
                inputs[place],
            )
            for place, row in enumerate(found.rows)
        ),
    )
    if found.details is not None:
        store.insert(
            "details",
            (
                (attack, block.first + int(row), one)
                for row, one in zip(found.rows, found.details, strict=True)
            ),
        )
    store.seals.write_work(attack, block.number)
    _write_pictures(store, plan, block, attack, found)
    if attack == len(plan.attacks) - 1 and found.maps is None:
        _write_held(store, plan, block)


def _write_pictures(store: Store, plan: Plan, block: Block, attack: int, found: Verdicts) -> None:
    """Keep the few successes of this attack that are nearest to the boundary, and the farthest; of
    maps those with the most wrong pixels, and the fewest.
    """
    key = ranks(found)
    for place, few in zip(("nearest", "farthest"), ends(found), strict=True):
        originals = plan.attacked(block.x[found.rows[few]])
        rows = [
            (
                place,
                attack,
                block.first + int(found.rows[row]),
                key[row],
                packed(before),
                packed(found.x[row]),
            )
            for row, before in zip(few, originals, strict=True)
        ]
        store.insert("pictures", rows)
        if found.maps is not None:
            _write_maps(store, place, attack, rows, [found.maps[row] for row in few])
        sign = "" if place == "nearest" else "-"
        ranked = (
            f"SELECT example FROM pictures WHERE place = ? AND attack = ? ORDER BY"  # noqa: S608
            f" {sign}distance, example"
        )
        examples = [example for (example,) in store.rows(ranked, (place, attack))]
        for _, _, example, distance, before, after in rows:
            store.seals.write(place, attack, example, seal(float(distance), before, after))
        for example in examples[PICTURES:]:
            _remove_picture(store, place, attack, example)
            if found.maps is not None:
                store.database.execute(
                    "DELETE FROM maps WHERE place = ? AND attack = ? AND example = ?",
                    (place, attack, example),
                )
                store.seals.write(f"{place} maps", attack, example, None)


def _write_held(store: Store, plan: Plan, block: Block) -> None:
    """Keep the first few examples that every attack left standing; within a transaction."""
    rows = store.rows(
        "SELECT example FROM verdicts WHERE example BETWEEN ? AND ? GROUP BY example HAVING"
        " sum(status = 'held') = ? ORDER BY example LIMIT ?",
        (block.first, block.first + len(block) - 1, len(plan.attacks), PICTURES),
    )
    kept = store.rows(
        "SELECT example FROM pictures WHERE place = 'nearest' AND attack = ?", (HELD,)
    )
    every = sorted(example for (example,) in (*rows, *kept))
    for example in every[:PICTURES]:
        if (example,) in rows:
            row = example - block.first
            one = np.asarray(plan.attacked(block.x[np.asarray([row])]))[0]
            _write_picture(store, ("nearest", HELD, example, 0.0, one, one))
    for example in every[PICTURES:]:
        if (example,) in kept:
            _remove_picture(store, "nearest", HELD, example)


def write_sample(store: Store, pictures: list[tuple[str, int, int, float, Array, Array]]) -> None:
    """Keep what the doctor's search for the smallest change has found; within a transaction."""
    for picture in pictures:
        _write_picture(store, picture)


def _write_picture(store: Store, picture: tuple[str, int, int, float, Array, Array]) -> None:
    place, attack, example, distance, *both = picture
    before, after = map(packed, both)
    store.insert("pictures", [(place, attack, example, distance, before, after)])
    store.seals.write(place, attack, example, seal(float(distance), before, after))


def _remove_picture(store: Store, place: str, attack: int, example: int) -> None:
    store.database.execute(
        "DELETE FROM pictures WHERE place = ? AND attack = ? AND example = ?",
        (place, attack, example),
    )
    store.seals.write(place, attack, example, None)


def _write_maps(
    store: Store, place: str, attack: int, rows: list[tuple[Any, ...]], maps: list[Any]
) -> None:
    """Keep the maps of pictures; within a transaction."""
    for row, three in zip(rows, maps, strict=True):
        code = packed(three)
        store.insert("maps", [(place, attack, row[2], code)])
        store.seals.write(f"{place} maps", attack, row[2], seal(code))


def recalled(store: Store, block: Block) -> Clean:
    """The first look at a block that is recorded."""
    rows = store.rows(
        "SELECT label, prediction, confidence, status FROM examples WHERE id BETWEEN ? AND ? ORDER"
        " BY id",
        (block.first, block.first + len(block) - 1),
    )
    labels, prediction, confidence, status = zip(*rows, strict=True)
    return Clean(
        np.asarray(labels, "int32"),
        np.asarray(prediction, "int64"),
        np.asarray([np.nan if value is None else value for value in confidence]),
        np.asarray(status),
        0,
        0.0,
        recalled_details(store, block),
    )


def recalled_details(store: Store, block: Block) -> list[str] | None:
    """What is recorded of the first look for a goal that is not about one class."""
    if not store.seals.goals:
        return None
    rows = store.rows(DETAILS, (BEFORE, block.first, block.first + len(block)))
    return [detail for _, _, detail in rows] or None


def held(store: Store, block: Block, attacks: int) -> int:
    """How many rows of a block no attack has broken."""
    last = block.first + len(block) - 1
    found: int = store.one(
        "SELECT count(*) FROM (SELECT example FROM verdicts WHERE example BETWEEN ? AND ? AND"
        " attack < ? GROUP BY example HAVING sum(status = 'held') = ?)",
        (block.first, last, attacks, attacks),
    )[0]
    return found


def wrong(store: Store, block: Block) -> int:
    """How many rows of a block were wrong before any attack."""
    found: int = store.one(
        "SELECT count(*) FROM examples WHERE id BETWEEN ? AND ? AND status = 'wrong'",
        (block.first, block.first + len(block) - 1),
    )[0]
    return found
