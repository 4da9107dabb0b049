"""AutoAttack and Verdict of advex beside the reference AutoAttack: verdicts image by image,
seconds, passes.

``python benchmarks/peers.py autoattack`` makes the environment of the reference; then, for
instance:

    .venv/bin/python benchmarks/autoattack.py --count 200 --chunk 100
    .venv/bin/python benchmarks/autoattack.py --norm L2 --epsilon 1.5 --recorded

The reference runs in torch and in a process of its own (``reference.py``), on the same network,
rebuilt; its logits are compared with those of Keras first. Chunk by chunk one after the other takes
the same images, and who begins changes, so that what else the machine does hits all alike.
``--recorded`` compares with verdicts that were saved instead, without torch and without its
seconds.

torchattacks takes 10 steps where AutoAttack has 100: that is its default, and no standard
evaluation; torchattacks-100 has the settings of the paper.

Exit code 0 if ``AutoAttack`` misses at most one image that the reference breaks, with every seed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from common import machine, now, table, versions
from leaving_rows import DATA, ROOT, images
from peers import python, ready

Array = np.ndarray[Any, Any]
MODEL = ROOT.parent / "shared" / "models" / "fmnist_robust.keras"
RECORDED = (ROOT.parent / "shared" / "models" / "autoattack", ROOT / "benchmarks" / "recorded")
LIBRARIES = ("pyautoattack", "torchattacks", "torchattacks-100")
BARS = {"AutoAttack": 1}  # how many images that the reference breaks may be missed
TINY = (
    1e-3  # of epsilon: a budget in which nothing falls, so that every part of an attack is compiled
)
HEAD = (
    "robust accuracy",
    "missed",
    "more",
    "seconds",
    "faster",
    "CPU s",
    "less CPU",
    "forward",
    "backward",
    "both",
    "fewer",
)
LEGEND = """
missed: images that the reference breaks and this does not; more: the reverse. forward, backward: passes per image.
faster, less CPU, fewer: the reference's seconds, CPU seconds and passes divided by those of this one."""  # noqa: E501


class Answer(NamedTuple):
    """Verdicts on some images, True where the network held, and what they cost altogether; nan
    where that is not known.
    """

    robust: Array
    seconds: float
    cpu: float
    forward: float
    backward: float


# of the first image, the one after the last, and the seed
Contestant = Callable[[int, int, int], Answer]


def joined(answers: Sequence[Answer]) -> Answer:
    """Several answers as one."""
    robust, *costs = zip(*answers, strict=True)
    return Answer(np.concatenate(robust), *map(sum, costs))


# The contestants.


def named(name: str) -> Any:
    """An attack of advex by its name."""
    import advex

    if name not in dir(advex):
        raise SystemExit(f"advex has no attack {name!r}")
    return advex.AutoAttack(version="standard") if name == "AutoAttack" else getattr(advex, name)()


def ours(attack: Any, model: Any, x: Array, labels: Array, budget: Any) -> Contestant:
    """An attack of advex."""

    def run(start: int, stop: int, seed: int) -> Answer:
        before = now()
        result = attack(model, x[start:stop], labels[start:stop], budget, seed=seed, progress=False)
        spent = now() - before
        return Answer(
            ~result.success,
            spent.wall,
            spent.cpu,
            float(result.queries.sum()),
            float(result.gradients.sum()),
        )

    return run


class Settings(NamedTuple):
    """Options of ``reference.py``."""

    library: str
    norm: str
    epsilon: float
    batch: int


class Reference:
    """The reference in a process of its own; ``hello`` is what it says at the start, ``parts`` sums
    up its parts.
    """

    def __init__(
        self, settings: Settings, model: Path, x: Array, labels: Array, logits: Array
    ) -> None:
        self.folder = tempfile.TemporaryDirectory()
        inputs = Path(self.folder.name) / "inputs.npz"
        np.savez(inputs, x=x, labels=labels, logits=logits)
        given = {"model": model, "inputs": inputs, **settings._asdict()}
        script = [str(python("autoattack")), str(ROOT / "benchmarks" / "reference.py"), "--serve"]
        command = [*script, *(f"--{key}={value}" for key, value in given.items())]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.parts: dict[str, dict[str, float]] = {}
        self.hello = self.answer()

    def answer(self) -> dict[str, Any]:
        """The next line."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.close()
            raise SystemExit("the reference has ended; what it said is above")
        return json.loads(line)

    def __call__(self, start: int, stop: int, seed: int) -> Answer:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"start": start, "stop": stop, "seed": seed}) + "\n")
        self.process.stdin.flush()
        said = self.answer()
        for part, figures in said["parts"].items():
            sums = self.parts.setdefault(part, dict.fromkeys(figures, 0.0))
            for kind, value in figures.items():
                sums[kind] += value
        passes = (said[f"{way}_per_example"] * said["count"] for way in ("forward", "backward"))
        return Answer(np.array(said["robust"], bool), said["seconds"], said["cpu_seconds"], *passes)

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()
        self.folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def recording(model: Path, norm: str, epsilon: float, given: Path | None = None) -> dict[str, Any]:
    """What the reference once said about this network and budget, or an error that says where
    nothing is.
    """
    name = f"{model.stem.removeprefix('fmnist_')}_{norm.lower()}_{epsilon:g}.json"
    places = [given] if given else [folder / name for folder in RECORDED]
    found = next((place for place in places if place.exists()), None)
    if found is None:
        raise SystemExit(f"no recorded verdicts: {' and '.join(map(str, places))} not found")
    said = json.loads(found.read_text(encoding="utf-8"))
    if (said["norm"], said["eps"]) != (norm, epsilon):
        raise SystemExit(
            f"{found.name} is of {said['norm']}({said['eps']:g}), not of {norm}({epsilon:g})"
        )
    return said


def remembered(said: dict[str, Any], count: int) -> Contestant:
    """Recorded verdicts. Their seconds are of another day and left out, and so are passes if not
    all images are compared.
    """
    passes = [
        said[f"{way}_per_example"] if count == said["count"] else np.nan
        for way in ("forward", "backward")
    ]
    robust = np.array(said["robust"], bool)
    return lambda start, stop, _: Answer(
        robust[start:stop], np.nan, np.nan, *(each * (stop - start) for each in passes)
    )


# What is said.


def warmed(name: str, attack: Any, model: Any, x: Array, labels: Array, budget: Any) -> str:
    """Run everything once on a few images, and once more to tell the compilation from the rest."""
    run = ours(attack, model, x, labels, type(budget)(budget.epsilon * TINY))
    first, again = (run(0, len(x), 0).seconds for _ in range(2))
    said = (
        f"first call {first:.1f} s, next {again:.1f} s, so compilation about {first - again:.1f} s"
    )
    return f"{name}, {len(x)} images, tiny budget: {said}"


def figure(value: float, digits: int) -> str:
    """A number, or a dash."""
    return f"{value:.{digits}f}" if np.isfinite(value) else "-"


def line(name: str, mine: Answer, theirs: Answer | None) -> list[str]:
    """A row of the table."""
    count, both = len(mine.robust), mine.forward + mine.backward
    cells = [name, f"{mine.robust.mean():.1%}", "-", "-"]
    ratios = [np.nan] * 3
    if theirs is not None and theirs is not mine:
        cells[2:] = [
            str(int((mine.robust & ~theirs.robust).sum())),
            str(int((~mine.robust & theirs.robust).sum())),
        ]
        pairs = (
            (theirs.seconds, mine.seconds),
            (theirs.cpu, mine.cpu),
            (theirs.forward + theirs.backward, both),
        )
        ratios = [one / other if other else np.nan for one, other in pairs]
    cells += [
        figure(mine.seconds, 1),
        figure(ratios[0], 2),
        figure(mine.cpu, 1),
        figure(ratios[1], 2),
    ]
    return [
        *cells,
        *(figure(value / count, 1) for value in (mine.forward, mine.backward, both)),
        figure(ratios[2], 2),
    ]


def judged(name: str, seed: int, mine: Answer, theirs: Answer) -> tuple[str, bool]:
    """Which images the verdicts differ on, in words, and whether the bar is kept."""
    missed = np.nonzero(mine.robust & ~theirs.robust)[0].tolist()
    more = np.nonzero(theirs.robust & ~mine.robust)[0].tolist()
    bar = BARS.get(name, len(mine.robust))
    words = (
        f", at most {bar} may be: {'kept' if len(missed) <= bar else 'NOT KEPT'}"
        if name in BARS
        else ""
    )
    return f"{name}, seed {seed}: missed {missed or 'none'}{words}; more {more or 'none'}", len(
        missed
    ) <= bar


def compare(
    contestants: dict[str, Contestant],
    reference: str | None,
    seeds: list[int],
    count: int,
    chunk: int,
) -> bool:
    """Ask everyone about everything, and print; whether the bars are kept."""
    every: dict[str, list[Answer]] = {name: [] for name in contestants}
    remarks, good = [], True
    for seed in seeds:
        answers: dict[str, list[Answer]] = {name: [] for name in contestants}
        for number, start in enumerate(range(0, count, chunk)):
            stop, turn = min(count, start + chunk), number % len(contestants)
            order = [*contestants][turn:] + [*contestants][:turn]
            for name in order:
                answers[name].append(contestants[name](start, stop, seed))
            seconds = ", ".join(
                f"{name} {figure(answers[name][-1].seconds, 1)}"
                for name in order
                if name != "recorded"
            )
            print(f"seed {seed}, images {start} to {stop - 1}, seconds: {seconds}", flush=True)
        for name in contestants:
            every[name].append(joined(answers[name]))
            if reference not in (None, name):
                words, kept = judged(name, seed, every[name][-1], every[reference][-1])
                remarks.append(words)
                good &= kept
    for number, title in enumerate(
        [f"seed {seed}" for seed in seeds] + ["all seeds"] * (len(seeds) > 1)
    ):
        ones = {
            name: runs[number] if number < len(seeds) else joined(runs)
            for name, runs in every.items()
        }
        print(
            "\n"
            + table(
                [title, *HEAD],
                [
                    line(name, one, ones[reference] if reference else None)
                    for name, one in ones.items()
                ],
            )
        )
    print("\n".join([LEGEND, *remarks]))
    return good


def main(argv: list[str] | None = None) -> int:
    """Measure, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--model",
        type=Path,
        default=MODEL,
        help="a .keras file; the shipped classifier if there is none",
    )
    parser.add_argument(
        "--data", type=Path, default=DATA, help="Fashion-MNIST as .npz with x_test and y_test"
    )
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--epsilon", type=float, default=0.1)
    parser.add_argument("--norm", choices=["Linf", "L2", "L1"], default="Linf")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument(
        "--chunk", type=int, default=100, help="images per call, and the reference's batch"
    )
    parser.add_argument("--attacks", nargs="+", default=["AutoAttack", "Verdict"], metavar="NAME")
    against = parser.add_mutually_exclusive_group()
    against.add_argument("--peer", choices=[*LIBRARIES, "none"], default="pyautoattack")
    against.add_argument(
        "--recorded",
        type=Path,
        nargs="?",
        const=Path(),
        metavar="FILE",
        help="compare with saved verdicts",
    )
    start = parser.add_mutually_exclusive_group()
    start.add_argument(
        "--warm",
        type=int,
        default=4,
        metavar="N",
        help="compile on this many images first, untimed (4)",
    )
    start.add_argument(
        "--cold", action="store_const", dest="warm", const=0, help="compile within the timed calls"
    )
    parser.add_argument(
        "--threads",
        type=int,
        help="for both sides; shared cores make several threads wait for one another",
    )
    options = parser.parse_args(argv)
    if options.threads:  # read when the frameworks are imported
        names = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
        os.environ.update(dict.fromkeys(names, str(options.threads)))
    live = options.recorded is None and options.peer != "none"
    if live and not ready("autoattack"):
        parser.error("the reference has no environment yet: python benchmarks/peers.py autoattack")

    import keras

    import advex

    path = options.model
    if path == MODEL and not path.exists():
        path = Path(str(resources.files("advex.data") / "fashion_mnist.keras"))
    said = None
    if options.recorded is not None:
        if options.recorded == Path() and not options.data.exists():
            parser.error(
                f"the recorded verdicts are on the test images of Fashion-MNIST; {options.data} is"
                f" not there"
            )
        said = recording(
            path,
            options.norm,
            options.epsilon,
            options.recorded if options.recorded != Path() else None,
        )
    attacks = {name: named(name) for name in options.attacks}
    budget = getattr(advex, options.norm)(options.epsilon)
    x, labels = images(options.data, min(options.count, said["count"] if said else options.count))
    model = keras.saving.load_model(str(path), compile=False)
    logits = np.asarray(model(x, training=False))
    print(
        f"{machine()}\n{versions()}\n{path.stem}, {budget!r}, {len(x)} images, {options.chunk} at"
        f" a time",
        flush=True,
    )
    contestants: dict[str, Contestant] = {}
    with contextlib.ExitStack() as stack:
        if live:
            settings = Settings(options.peer, options.norm, options.epsilon, options.chunk)
            contestants[options.peer] = peer = stack.enter_context(
                Reference(settings, path, x, labels, logits)
            )
            off, threads = peer.hello["logits_off"], peer.hello["threads"]
            print(
                f"{options.peer}: torch {peer.hello['torch']}, {threads} threads, logits off by"
                f" {off:.0e} at most",
                flush=True,
            )
        elif said:
            contestants["recorded"] = remembered(said, len(x))
        reference = next(iter(contestants), None)
        if options.warm:
            right = np.nonzero(logits.argmax(axis=1) == labels)[0][: options.warm]
            for name, attack in attacks.items():
                print(warmed(name, attack, model, x[right], labels[right], budget), flush=True)
        contestants |= {
            name: ours(attack, model, x, labels, budget) for name, attack in attacks.items()
        }
        good = compare(contestants, reference, options.seeds, len(x), options.chunk)
        if live:
            rows = [
                [part, *(f"{value:.0f}" for value in figures.values())]
                for part, figures in peer.parts.items()
            ]
            print(
                "\n"
                + table(
                    (f"parts of {options.peer}", "images", "seconds", "forward", "backward"), rows
                )
            )
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
