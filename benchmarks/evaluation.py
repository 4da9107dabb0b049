"""Memory and throughput of ``advex.evaluate``: does memory grow with the length of the data?

    .venv/bin/python benchmarks/evaluation.py --count 10000

PGD with 40 steps and SquareAttack on Fashion-MNIST's test images and the standard model, 8/255,
read through a generator. Resident memory is read from /proc after each block; what counts is the
end against the moment after the first thousand rows.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
from common import machine, versions
from leaving_rows import DATA, ROOT


def resident() -> float:
    """Resident memory of this process in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--epsilon", type=float, default=8 / 255)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument(
        "--model", type=Path, default=ROOT.parent / "shared" / "models" / "fmnist_standard.keras"
    )
    options = parser.parse_args()

    import keras

    import advex

    print(machine(), versions(), sep="\n")
    with np.load(DATA) as stored:
        x, labels = stored["x_test"][: options.count, ..., None], stored["y_test"][: options.count]
    model = keras.models.load_model(options.model, compile=False)
    attacks = [advex.PGD(), advex.SquareAttack(steps=options.queries)]
    marks: dict[int, float] = {}

    def look(done: int, _: int | None, held: int) -> None:
        marks[done] = resident()
        print(
            f"{done:6} rows  {marks[done]:7.1f} MiB  {done / (time.monotonic() - began):6.1f}"
            f" rows/s  {held / done:.1%} held",
            flush=True,
        )

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.advex"
        began = time.monotonic()
        batches = (
            (x[start : start + 100], labels[start : start + 100]) for start in range(0, len(x), 100)
        )
        found = advex.evaluate(
            model, batches, attacks, advex.Linf(options.epsilon), run=path, progress=look
        )
        seconds = time.monotonic() - began
        print(f"file: {path.stat().st_size / 2**20:.1f} MiB")
        print(found)
    first, last = (
        marks[min(done for done in marks if done >= min(1000, options.count))],
        marks[max(marks)],
    )
    grown = last / first - 1
    print(
        f"{len(x) / seconds:.1f} rows/s; memory {first:.1f} MiB after 1,000 rows, {last:.1f} after"
        f" all: {grown:+.1%}"
    )


if __name__ == "__main__":
    main()
