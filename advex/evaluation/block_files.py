"""What a worker has found about a block, as one Parquet file with one row for each example.

Files lie beside the run file under names that follow from their blocks: a block that two workers
have done, since one of them was killed, is still there once.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from advex._arrays import Array
from advex.errors import InvalidInput
from advex.evaluation.pieces import Clean, Plan, Verdicts
from advex.evaluation.schema import seal
from advex.evaluation.shown import ends
from advex.evaluation.source import Block
from advex.evaluation.values import packed, unpacked
from advex.images import replacing

CLEAN = ("label", "prediction", "confidence", "status")
VERDICT = ("status", "distance", "prediction", "confidence", "gradients", "queries", "broken_by")

KINDS = {"status": "<U7", "distance": "float64", "confidence": "float64", "broken_by": "str"}


class Damaged(InvalidInput):
    """A part whose content is not what was written."""


class Part(NamedTuple):
    """All that was found about one block."""

    block: Block
    before: Clean
    found: list[Verdicts]
    """One for each attack of the plan."""


def name_of(number: int) -> str:
    """The file of a block."""
    return f"block-{number:06d}.parquet"


def write_part(
    path: Path, plan: Plan, block: Block, before: Clean, found: list[Verdicts], mark: str
) -> None:
    """Write what was found about a block; the file is whole or absent."""
    import pyarrow
    from pyarrow import parquet

    count = len(block)
    columns: dict[str, list[Any]] = {"example": list(range(block.first, block.first + count))}
    columns |= dict(
        zip(
            CLEAN,
            (
                part.tolist()
                for part in (before.labels, before.prediction, before.confidence, before.status)
            ),
            strict=True,
        )
    )
    if before.details is not None:
        columns["detail"] = list(before.details)
    for name, verdicts in zip(plan.attacks, found, strict=True):
        place = {int(row): number for number, row in enumerate(verdicts.rows)}
        for column in VERDICT:
            values = getattr(verdicts, column).tolist()
            columns[f"{name}.{column}"] = [
                values[place[row]] if row in place else None for row in range(count)
            ]
        if verdicts.details is not None:
            columns[f"{name}.detail"] = [
                verdicts.details[place[row]] if row in place else None for row in range(count)
            ]
        kept = _kept(plan, verdicts)
        if verdicts.maps is not None:
            columns[f"{name}.maps"] = [
                packed(verdicts.maps[place[row]]) if place.get(row) in kept else None
                for row in range(count)
            ]
        columns[f"{name}.adversarial"] = [
            packed(verdicts.x[place[row]]) if place.get(row) in kept else None
            for row in range(count)
        ]
    about: dict[str, Any] = {
        "run": mark,
        "digest": block.digest,
        "clean": [before.queries, before.seconds],
        "shape": list(found[0].x.shape[1:]) if found else [],
        "work": [[verdicts.checks, verdicts.seconds, verdicts.warnings] for verdicts in found],
    }
    about["sum"] = _sum(about, columns)
    table = pyarrow.table(columns).replace_schema_metadata({"advex": json.dumps(about)})
    with replacing(path, overwrite=True) as handle:
        parquet.write_table(table, handle)


def read_part(path: Path, plan: Plan, block: Block, mark: str) -> tuple[Clean, list[Verdicts]]:
    """What ``write_part`` has written.

    Raises:
        InvalidInput: the file belongs to another run. Damaged: it was cut, or bits flipped.
    """
    about, columns = _checked_part(path)
    if about["run"] != mark or about["digest"] != block.digest:
        raise InvalidInput(
            f"{path} belongs to another run: remove {path.parent}, or give another run file"
        )
    label, prediction, confidence, status = (columns[name] for name in CLEAN)
    before = Clean(
        np.asarray(label, "int32"),
        np.asarray(prediction, "int64"),
        np.asarray(confidence, "float64"),
        np.asarray(status),
        queries=about["clean"][0],
        seconds=about["clean"][1],
        details=columns.get("detail"),
    )
    rows = np.flatnonzero(before.status == "correct")
    found = []
    for name, (checks, seconds, warnings) in zip(plan.attacks, about["work"], strict=True):
        own = {
            column: [columns[f"{name}.{column}"][row] for row in rows]
            for column in (*VERDICT, "adversarial")
        }
        x = np.empty(len(rows), object)
        for place, code in enumerate(own["adversarial"]):
            x[place] = None if code is None else unpacked(code, about["shape"])
        more = _details(columns, name, rows)
        arrays: dict[str, Any] = {
            column: np.asarray(own[column], KINDS.get(column, "int64")) for column in VERDICT
        }
        found.append(
            Verdicts(
                rows=rows, x=x, checks=checks, seconds=seconds, warnings=warnings, **arrays, **more
            )
        )
    return before, found


def _details(columns: dict[str, list[Any]], name: str, rows: Array) -> dict[str, Any]:
    """What there is of an attack for goals that are not about one class."""
    made: dict[str, Any] = {}
    if f"{name}.detail" in columns:
        made["details"] = [columns[f"{name}.detail"][row] for row in rows]
    if f"{name}.maps" in columns:
        made["maps"] = np.empty(len(rows), object)
        for place, row in enumerate(rows):
            code = columns[f"{name}.maps"][row]
            made["maps"][place] = None if code is None else unpacked(code)
    return made


def _checked_part(path: Path) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """What is in a file, once its checksum was found right."""
    from pyarrow import parquet

    try:
        table = parquet.read_table(path)
        about = json.loads((table.schema.metadata or {})[b"advex"])
        columns = {name: table.column(name).to_pylist() for name in table.column_names}
        whole = about.pop("sum") == _sum(about, columns)
    except FileNotFoundError:
        raise
    except Exception as problem:  # of whatever kind pyarrow has for what is no Parquet file
        raise Damaged(
            f"{path} is damaged ({type(problem).__name__}): remove it, and call again"
        ) from None
    if not whole:
        raise Damaged(f"{path} is damaged: remove it, and call again")
    return about, columns


def _sum(about: dict[str, Any], columns: dict[str, list[Any]]) -> str:
    """The checksum of a part."""
    return seal(json.dumps(about, sort_keys=True), sorted(columns.items())).hex()


def _kept(plan: Plan, found: Verdicts) -> set[int]:
    """The places whose adversarial inputs are wanted: all that were asked for, and those that may
    be shown.
    """
    first, last = ends(found)
    kept = {*first.tolist(), *last.tolist()}
    if plan.keep == "success":
        kept |= set(np.flatnonzero(found.status == "broken").tolist())
    return kept
