"""An evaluation on several processes or machines, by Ray: each worker holds the model, takes
blocks, and leaves Parquet files.

The files lie beside the run file, one for each block, under a name that follows from the block: a
block that two workers have done, since one of them was killed, is still there once. What they hold
is then put into the run file, and the run ends as one on a single machine does.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import mmap
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from advex._arrays import Array
from advex.errors import InvalidInput
from advex.evaluation.pieces import (
    PICTURES,
    Clean,
    Plan,
    Verdicts,
    attacked,
    clean,
    write_clean,
    write_verdicts,
)
from advex.evaluation.source import Block, Source
from advex.evaluation.store import packed, seal, unpacked
from advex.images import replacing

if TYPE_CHECKING:
    from advex.evaluation.running import Runner

CLEAN = ("label", "prediction", "confidence", "status")
VERDICT = ("status", "distance", "prediction", "confidence", "gradients", "queries", "broken_by")
ALIKE = (
    "KERAS_BACKEND",
    "TF_CPP_MIN_LOG_LEVEL",
    "TF_ENABLE_ONEDNN_OPTS",
    "OPENBLAS_CORETYPE",
    "PYTHONPATH",
)


class Damaged(InvalidInput):
    """A part whose content is not what was written."""


def fill(runner: Runner, source: Source, workers: int, stop: Callable[[], bool]) -> None:
    """Let workers do every block that the run file does not have, and put what they found into it.

    Raises:
        InvalidInput: the folder of parts belongs to another run. ImportError: Ray is missing.
        KeyboardInterrupt: ``stop()`` answered True.
    """
    plan, store = runner.plan, runner.store
    assert plan is not None  # evaluate has seen to these
    assert source.arrays is not None
    assert store.path is not None
    folder = store.path.with_name(f"{store.path.name}.parts")
    mark = hashlib.blake2b(
        json.dumps(store.fact("identity"), sort_keys=True).encode(), digest_size=16
    ).hexdigest()
    x, labels = source.arrays

    def block(number: int) -> Block:
        rows = slice(number * plan.block, (number + 1) * plan.block)
        part = Block(number, rows.start, np.array(x[rows]), np.array(labels[rows]))
        runner.demand_unchanged(part)
        return part

    def take(number: int, part: Block) -> None:
        before, found = read_part(folder / name_of(number), plan, part, mark)
        with store.transaction():
            write_clean(store, part, before)
            for attack, verdicts in enumerate(found):
                write_verdicts(store, plan, part, attack, verdicts)
        runner.told(part, worked=True)

    known = {number for (number,) in store.rows("SELECT id FROM blocks")}
    waiting = [number for number in range(-(-len(x) // plan.block)) if number not in known]
    for number in [number for number in waiting if (folder / name_of(number)).exists()]:
        try:
            take(number, block(number))
        except Damaged:  # by what stopped the run, perhaps: it is done again
            (folder / name_of(number)).unlink()
        else:
            waiting.remove(number)
    if not waiting:
        return
    folder.mkdir(exist_ok=True)
    with _ray(workers) as ray:
        from ray import cloudpickle

        settings = {
            "plan": cloudpickle.dumps(plan),
            "x": _sent(ray, x),
            "labels": _sent(ray, labels),
        }
        tasks = ray.data.from_items(
            [{"block": number} for number in waiting], override_num_blocks=len(waiting)
        )
        done = tasks.map_batches(
            Worker,
            fn_constructor_kwargs=settings | {"folder": str(folder), "mark": mark},
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=min(workers, len(waiting))),
            num_cpus=1,
        )
        for row in done.iter_rows():
            take(int(row["block"]), block(int(row["block"])))
            if stop():
                raise KeyboardInterrupt


class Worker:
    """One process with the model: block numbers in, Parquet files on the disk, block numbers
    out.
    """

    def __init__(self, plan: bytes, x: Any, labels: Any, folder: str, mark: str) -> None:
        import pickle

        self.plan: Plan = pickle.loads(plan)  # noqa: S301 - written by the process that started this one
        self.x, self.labels = _received(x), _received(labels)
        self.folder, self.mark = Path(folder), mark

    def __call__(self, batch: dict[str, Array]) -> dict[str, Array]:
        for number in batch["block"].tolist():
            path = self.folder / name_of(number)
            if not path.exists():  # another worker may have done it before it was killed
                rows = slice(number * self.plan.block, (number + 1) * self.plan.block)
                block = Block(
                    number, rows.start, np.array(self.x[rows]), np.array(self.labels[rows])
                )
                before = clean(self.plan, block.x, block.labels)
                found = [attacked(self.plan, name, block.x, before) for name in self.plan.attacks]
                write_part(path, self.plan, block, before, found, self.mark)
        return batch


# Parts: one Parquet file for each block, one row for each example.


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
    for name, verdicts in zip(plan.attacks, found, strict=True):
        place = {int(row): number for number, row in enumerate(verdicts.rows)}
        for column in VERDICT:
            values = getattr(verdicts, column).tolist()
            columns[f"{name}.{column}"] = [
                values[place[row]] if row in place else None for row in range(count)
            ]
        kept = _kept(plan, verdicts)
        columns[f"{name}.adversarial"] = [
            packed(verdicts.x[place[row]]) if place.get(row) in kept else None
            for row in range(count)
        ]
    about: dict[str, Any] = {
        "run": mark,
        "digest": block.digest,
        "clean": [before.queries, before.seconds],
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
        *about["clean"],
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
            x[place] = None if code is None else unpacked(code, block.x.shape[1:])
        kinds = {
            "status": "<U7",
            "distance": "float64",
            "confidence": "float64",
            "broken_by": "str",
        }
        arrays: dict[str, Any] = {
            column: np.asarray(own[column], kinds.get(column, "int64")) for column in VERDICT
        }
        found.append(
            Verdicts(rows=rows, x=x, checks=checks, seconds=seconds, warnings=warnings, **arrays)
        )
    return before, found


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
    broken = np.flatnonzero(found.status == "broken")
    if plan.keep == "success":
        return set(broken.tolist())
    order = broken[np.argsort(found.distance[broken], kind="stable")]
    back = broken[np.argsort(-found.distance[broken], kind="stable")]
    return {*order[:PICTURES].tolist(), *back[:PICTURES].tolist()}


# Ray.


@contextlib.contextmanager
def _ray(workers: int) -> Iterator[Any]:
    """Ray, started on this machine unless it runs already; then it is left as it is."""
    try:
        import ray
        import ray.data
    except ImportError:
        raise ImportError("several workers are Ray's: pip install 'advex[ray]'") from None
    quiet = logging.getLogger("ray.data")
    level = quiet.level
    quiet.setLevel(logging.ERROR)  # plans of execution and the like
    own = not ray.is_initialized()
    if own:
        alike = {name: os.environ[name] for name in ALIKE if name in os.environ}
        quietly: dict[str, Any] = {
            "include_dashboard": False,
            "log_to_driver": False,
            "logging_level": logging.ERROR,
        }
        ray.init(num_cpus=workers, runtime_env={"env_vars": alike}, **quietly)
    context = ray.data.DataContext.get_current()
    bars, context.enable_progress_bars = context.enable_progress_bars, False
    try:
        yield ray
    finally:
        context.enable_progress_bars = bars
        quiet.setLevel(level)
        if own:
            ray.shutdown()


def _sent(ray: Any, values: Array) -> Any:
    """How workers get an array: a file that they can open too, or Ray's memory."""
    name: Any = getattr(values, "filename", None)
    if (
        isinstance(values, np.memmap)
        and isinstance(getattr(values, "base", None), mmap.mmap)
        and values.flags.c_contiguous
        and name
    ):
        return {
            "file": str(name),
            "dtype": values.dtype.str,
            "shape": values.shape,
            "offset": values.offset,
        }
    return {"memory": ray.put(np.asarray(values))}


def _received(sent: dict[str, Any]) -> Array:
    if "memory" in sent:
        import ray

        values: Array = ray.get(sent["memory"])
        return values
    return np.memmap(sent["file"], sent["dtype"], "r", sent["offset"], sent["shape"])
