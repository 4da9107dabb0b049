"""Several processes or machines, by Ray: each worker holds the model, takes blocks, and leaves a
file for each; here the files are read.
"""

from __future__ import annotations

import contextlib
import logging
import mmap
import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from advex._arrays import Array
from advex._inputs import Bundle
from advex.evaluation.block_files import Damaged, Part, name_of, read_part, write_part
from advex.evaluation.pieces import Plan, attacked, clean
from advex.evaluation.source import Block, copied

INHERITED = (
    "KERAS_BACKEND",
    "TF_CPP_MIN_LOG_LEVEL",
    "TF_ENABLE_ONEDNN_OPTS",
    "OPENBLAS_CORETYPE",
    "PYTHONPATH",
)
"""Variables of the environment that workers have in common with this process."""


def finished(
    plan: Plan,
    arrays: tuple[Array | Bundle, Array],
    block_of: Callable[[int], Block],
    waiting: list[int],
    workers: int,
    folder: Path,
    mark: str,
) -> Generator[Part, None, None]:
    """Let workers do the blocks that wait; each as soon as it is done, in any order.

    Args:
        plan: what is done to each block.
        arrays: inputs and labels, as workers get them.
        block_of: the block of a number, as this process has it.
        waiting: numbers of blocks.
        workers: how many processes.
        folder: of the files; those that are there already are taken as they are.
        mark: whose files they are.

    Raises:
        InvalidInput: the folder belongs to another run. ImportError: Ray is missing.
    """

    def part(number: int) -> Part:
        block = block_of(number)
        return Part(block, *read_part(folder / name_of(number), plan, block, mark))

    left = []
    for number in waiting:
        path = folder / name_of(number)
        if not path.exists():
            left.append(number)
            continue
        try:
            whole = part(number)
        except Damaged:  # by what stopped the run, perhaps: it is done again
            path.unlink()
            left.append(number)
            continue
        yield whole
    if left:
        folder.mkdir(exist_ok=True)
        with _ray(workers) as ray:
            for number in _done(ray, plan, arrays, left, workers, folder, mark):
                yield part(number)


def _done(
    ray: Any,
    plan: Plan,
    arrays: tuple[Array | Bundle, Array],
    waiting: list[int],
    workers: int,
    folder: Path,
    mark: str,
) -> Iterator[int]:
    """The numbers of blocks whose files are there."""
    from ray import cloudpickle

    x, labels = arrays
    settings = {
        "plan": cloudpickle.dumps(plan),
        "x": _sent(ray, x),
        "labels": _sent(ray, labels),
        "folder": str(folder),
        "mark": mark,
    }
    tasks = ray.data.from_items(
        [{"block": number} for number in waiting], override_num_blocks=len(waiting)
    )
    done = tasks.map_batches(
        Worker,
        fn_constructor_kwargs=settings,
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=min(workers, len(waiting))),
        num_cpus=1,
    )
    for row in done.iter_rows():
        yield int(row["block"])


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
                block = Block(number, rows.start, copied(self.x[rows]), np.array(self.labels[rows]))
                before = clean(self.plan, block.x, block.labels)
                found = [
                    attacked(self.plan, name, block.x, before, first=block.first)
                    for name in self.plan.attacks
                ]
                write_part(path, self.plan, block, before, found, self.mark)
        return batch


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
        alike = {name: os.environ[name] for name in INHERITED if name in os.environ}
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


def _sent(ray: Any, values: Array | Bundle) -> Any:
    """How workers get an array: a file that they can open too, or Ray's memory; several one by
    one.
    """
    if isinstance(values, Bundle):
        kind = type(values.tree)
        named = values.tree.items() if kind is dict else enumerate(values.tree)
        return {"kind": kind, "several": {name: _sent(ray, each) for name, each in named}}
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


def _received(sent: dict[str, Any]) -> Any:
    if "several" in sent:
        several = {name: _received(each) for name, each in sent["several"].items()}
        return Bundle(several if sent["kind"] is dict else sent["kind"](several.values()))
    if "memory" in sent:
        import ray

        values: Array = ray.get(sent["memory"])
        return values
    return np.memmap(sent["file"], sent["dtype"], "r", sent["offset"], sent["shape"])
