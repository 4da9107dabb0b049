"""What it saves that finished rows leave: PGD on the shipped classifier, beside a plain loop of the
same attack over all rows.

``python benchmarks/leaving_rows.py`` attacks the first 500 test images of Fashion-MNIST
(``../shared/data/fashion_mnist.npz`` or ``--data``; without such a file the 32 images that ship
with advex) twice, with the same seed: as advex does it, and with a driver that keeps every row to
the last step, as most libraries do; counted are the rows that really went through the compiled
step. Verdicts must be the same, also those of ``advex.testing.walk``, a loop apart from any driver.
Exit code 0 if they are.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from common import machine, now, table, versions

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT.parent / "shared" / "data" / "fashion_mnist.npz"


def images(path: Path, count: int) -> tuple[Any, Any]:
    """Test images in [0, 1], (n, 28, 28, 1), and their labels."""
    import numpy as np

    if path.exists():
        with np.load(path) as data:
            x, labels = data["x_test"][:count, ..., None], data["y_test"][:count].astype("int64")
    else:
        with np.load(str(resources.files("advex.data") / "fashion_mnist.npz")) as data:
            x, labels = data["images"][:count], data["labels"][:count]
    return x.astype("float32") / 255, labels


def shipped() -> Any:
    """The classifier that ships with advex."""
    import keras

    return keras.saving.load_model(
        str(resources.files("advex.data") / "fashion_mnist.keras"), compile=False
    )


@dataclass(frozen=True)
class Driver:
    """A driver of advex: as it is, or one from which no row leaves before its last step."""

    plain: bool = False


@contextlib.contextmanager
def driving(driver: Driver) -> Iterator[list[int]]:
    """This driver meanwhile; gives the rows of every compiled step."""
    from advex.driver.batch import Batch
    from advex.driver.programs import Program

    step, ended = Program.step, Batch.ended
    seats: list[int] = []

    def counted(self: Any, rows: Any) -> Any:
        seats.append(rows.seats)
        return step(self, rows)

    def late(self: Any, ends: Any, limited: bool) -> Any:
        import keras

        done = keras.ops.convert_to_numpy(self.rows.step) >= ends[self.jobs.run]
        return done & self.taken, ended(self, ends, limited)[1]

    Program.step = counted  # type: ignore[method-assign]
    Batch.ended = late if driver.plain else ended  # type: ignore[method-assign]
    try:
        yield seats
    finally:
        Program.step, Batch.ended = step, ended  # type: ignore[method-assign]


def attacked(
    driver: Driver, attack: Any, model: Any, x: Any, labels: Any, budget: Any, batch: int | None
) -> tuple[Any, int, float]:
    """The result, the gradient evaluations and the seconds of one call with this driver."""
    with driving(driver) as seats:
        attack(model, x, labels, budget, batch_size=batch, progress=False)  # compiled now
        seats.clear()
        start = now()
        result = attack(model, x, labels, budget, batch_size=batch, progress=False)
        return result, sum(seats), (now() - start).wall


def main(argv: list[str] | None = None) -> int:
    """Measure, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, default=DATA, help="Fashion-MNIST as .npz with x_test and y_test"
    )
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument(
        "--epsilon", type=float, nargs="+", default=[8.0, 1.0], help="in grey levels"
    )
    parser.add_argument("--batch", type=int)
    options = parser.parse_args(argv)

    import advex

    model = shipped()
    x, labels = images(options.data, options.count)
    attack = advex.PGD(steps=options.steps)
    print(
        f"{machine()}\n{versions()}\n{attack!r}, {len(x)} images, the shipped Fashion-MNIST"
        f" classifier"
    )
    different = 0
    for epsilon in options.epsilon:
        budget = advex.Linf(epsilon / 255)
        runs = [
            attacked(driver, attack, model, x, labels, budget, options.batch)
            for driver in (Driver(), Driver(plain=True))
        ]
        results, evaluations, seconds = zip(*runs, strict=True)
        names = ("finished rows leave (advex)", "every row to the last step")
        lines = [
            [
                name,
                f"{result.success.sum()} of {len(x)}",
                str(evaluated),
                f"{evaluated / len(x):.2f}",
                f"{spent:.2f}",
            ]
            for name, (result, evaluated, spent) in zip(names, runs, strict=True)
        ]
        print(
            "\n"
            + table([repr(budget), "fooled", "gradient evaluations", "per image", "seconds"], lines)
        )
        walked = advex.testing.walk(attack, model, x, advex.Untargeted(labels), budget).found
        changed = int(
            ((results[0].success != results[1].success) | (results[0].success != walked)).sum()
        )
        verdicts = "identical" if not changed else f"DIFFERENT for {changed} images"
        fewer, faster = evaluations[1] / max(1, evaluations[0]), seconds[1] / seconds[0]
        print(
            f"verdicts {verdicts}; {fewer:.1f} times fewer gradient evaluations, {faster:.1f}"
            f" times less time"
        )
        different += changed
    return int(different > 0)


if __name__ == "__main__":
    sys.exit(main())
