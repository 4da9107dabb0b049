"""Attacks of segmentation on a small U-Net: ALMA prox of adv-lib, SegPGD and PGD in plain torch,
and those of advex.

    python benchmarks/peers.py minimum
    .venv/bin/python benchmarks/segmentation.py --record
    .venv/bin/python benchmarks/segmentation.py --advex

Images and network are those of ``tests/shapes_data.py``. The peers run in torch and in a process of
their own (``segmentation_peers.py``) on the same network, rebuilt; its logits are compared with
those of Keras first. What they find is judged here, by plain Keras: whether a point is in the box
and in the ball, and the class of every pixel. ``--record`` keeps the answer in
``recorded/segmentation_peers.json``; with ``--advex`` the peers are not run but read from there.

Smallest perturbation: an image is broken where 99 % of the pixels that count are wrong; the median
is over all images, of which one that is not broken is at infinity. Fixed epsilon: pixel accuracy
and mean intersection over union of all pixels of all images that count, of the last points and of
the points with the most wrong pixels on the way. The size of a step is not the same in all papers:
all are tried that are asked for.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import machine, now, table, versions
from peers import python

Array = np.ndarray[Any, Any]
ROOT = Path(__file__).resolve().parent.parent
RECORDED = ROOT / "benchmarks" / "recorded" / "segmentation_peers.json"
LEVELS = (2, 4, 8)  # epsilon, of 255
STEP_SIZES = (0.1, 1 / 3)  # of epsilon
STEPS = 300
STEPS_MINIMUM = 500
SHARE = 0.99
SLACK = 1e-6  # outside ball or box, this is rounding


def judged(model: Any, x: Array, labels: Array, points: Array) -> dict[str, Any]:
    """What the points are worth, by plain Keras: per image the share of wrong pixels and the
    distance, inf if it is not broken; accuracy and mIoU of all.
    """
    import shapes_data

    outside = float(max(0.0, -points.min(), points.max() - 1))
    if outside > SLACK:
        raise ValueError(f"points are outside of the box by {outside:.2g}")
    points = np.clip(points, 0, 1)
    classes = shapes_data.predicted(model, points)
    wrong = shapes_data.wrong(classes, labels)
    sizes = abs(points.astype("float64") - x).max((1, 2, 3))
    accuracy, overlap = shapes_data.scores(classes, labels)
    return {
        "pixel_accuracy": float(accuracy),
        "miou": float(overlap),
        "wrong": [round(float(some), 5) for some in wrong],
        "largest": float(sizes.max()),
        "distances": [
            float(size) if some >= SHARE else None for size, some in zip(sizes, wrong, strict=True)
        ],
    }


def median(distances: Sequence[float | None]) -> float:
    """The median, with infinity for what was not found."""
    return float(np.median([np.inf if some is None else some for some in distances]))


def finite(number: float) -> float | None:
    """JSON has no infinity."""
    return number if np.isfinite(number) else None


def within(answer: dict[str, Any], level: int) -> dict[str, Any]:
    """The answer of an attack with a fixed epsilon, if it kept to it."""
    if answer["largest"] > level / 255 + SLACK:
        raise ValueError(f"a point is {answer['largest'] * 255:.5f}/255 away, not {level}/255")
    return {key: answer[key] for key in ("pixel_accuracy", "miou", "wrong")}


def measured(
    model: Any, x: Array, labels: Array, interpreter: Path, steps: int, steps_minimum: int
) -> dict[str, Any]:
    """What the peers find."""
    logits = np.asarray(model.predict(x, verbose=0))
    weights = {f"weights_{i:02}": kept for i, kept in enumerate(model.get_weights())}
    with tempfile.TemporaryDirectory() as folder:
        inputs, out = Path(folder) / "inputs.npz", Path(folder) / "points.npz"
        np.savez(inputs, x=x, labels=labels, logits=logits, **weights)
        script = Path(__file__).resolve().parent / "segmentation_peers.py"
        command = [str(interpreter), str(script), str(inputs), str(out)]
        command += ["--steps", str(steps), "--steps-minimum", str(steps_minimum), "--epsilons"]
        command += [str(level / 255) for level in LEVELS]
        command += ["--step-sizes", *map(str, STEP_SIZES)]
        said = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
        with np.load(out) as data:
            points = {name: data[name] for name in data.files}
    smallest = judged(model, x, labels, points["alma_prox"])
    fixed = []
    for index, level in enumerate(LEVELS):
        for size in STEP_SIZES:
            for kind in ("segpgd", "pgd"):
                name = f"{kind}_{index}_{size:g}"
                for which in ("last", "best"):
                    answer = judged(model, x, labels, points[f"{name}_{which}"])
                    head = {"attack": kind, "steps": steps, "epsilon_of_255": level}
                    head |= {"step_of_epsilon": round(size, 4), "which": which}
                    fixed.append({**head, **within(answer, level), **said["costs"][name]})
    return {
        "versions": said["versions"],
        "logits_off": said["logits_off"],
        "alma_prox": {
            "steps": steps_minimum,
            "share": SHARE,
            "median_linf": finite(median(smallest["distances"])),
            "found": sum(some is not None for some in smallest["distances"]),
            "distances": smallest["distances"],
            "wrong": smallest["wrong"],
            **said["costs"]["alma_prox"],
        },
        "fixed": fixed,
    }


def origin(model: Any, x: Array, labels: Array, seed: int) -> dict[str, Any]:
    """What was attacked, so that nobody compares numbers of other images or another network."""
    clean = judged(model, x, labels, x)
    weights = b"".join(kept.tobytes() for kept in model.get_weights())
    return {
        "images": {
            "seed": seed,
            "count": len(x),
            "sha256": hashlib.sha256(x.tobytes() + labels.tobytes()).hexdigest(),
        },
        "network": {
            "weights": "tests/recorded/shapes_unet.npz",
            "sha256": hashlib.sha256(weights).hexdigest(),
        },
        "clean": {key: clean[key] for key in ("pixel_accuracy", "miou")},
    }


def smallest_by_advex(model: Any, x: Array, labels: Array) -> list[list[str]]:
    """Minimum-norm attacks of advex, judged in the same way."""
    import advex

    goal = advex.Segmentation(labels, share=SHARE, ignore=255)
    attacks = {
        f"FMN-{STEPS_MINIMUM}": advex.FMN(steps=STEPS_MINIMUM),
        f"PDPGD-{STEPS_MINIMUM}": advex.PDPGD(steps=STEPS_MINIMUM),
        "MinimumNorm": advex.MinimumNorm(),
    }
    lines = []
    for name, attack in attacks.items():
        start = now()
        result = attack(model, x, goal, advex.Linf())
        seconds = (now() - start).wall
        # Where it failed, result.x is the image, and the judge says so.
        answer = judged(model, x, labels, result.x)
        lines.append(smallest_line(f"advex {name}", answer["distances"], seconds))
    return lines


def fixed_by_advex(model: Any, x: Array, labels: Array) -> list[list[str]]:
    """SegPGD and SEA of advex: all steps, for as many wrong pixels as there can be."""
    import advex

    goal = advex.Segmentation(labels, share=1.0, ignore=255)
    attacks = {
        "PGD-300": advex.PGD(steps=300),
        "SegPGD-300": advex.SegPGD(steps=300),
        "SEA": advex.SEA(),
    }
    lines = []
    for level in LEVELS:
        for name, attack in attacks.items():
            start = now()
            result = attack(model, x, goal, advex.Linf(level / 255), until="end")
            seconds = (now() - start).wall
            answer = within(judged(model, x, labels, result.attempt), level)
            lines.append(fixed_line(f"advex {name}", level, "", "", answer, seconds))
    return lines


def smallest_line(name: str, distances: Sequence[float | None], seconds: float) -> list[str]:
    """A smallest perturbation in a line."""
    found = sum(some is not None for some in distances)
    middle = median(distances)
    return [name, f"{middle:.5f}", f"{middle * 255:.3f}", str(found), f"{seconds:.1f}"]


def fixed_line(
    name: str, level: int, step: str, which: str, answer: dict[str, Any], seconds: float
) -> list[str]:
    """An attack with a fixed epsilon in a line."""
    scores = [f"{answer[key]:.2%}" for key in ("pixel_accuracy", "miou")]
    return [name, f"{level}/255", step, which, *scores, f"{seconds:.1f}"]


def told(peers: dict[str, Any], smallest: list[list[str]], fixed: list[list[str]]) -> None:
    """Print the tables, with those of advex below the others."""
    alma = peers["alma_prox"]
    clean = peers["clean"]
    print(f"{peers['images']['count']} images, clean pixel accuracy", end=" ")
    print(f"{clean['pixel_accuracy']:.2%}, mIoU {clean['miou']:.2%}\n")
    name = f"adv-lib alma_prox-{alma['steps']}"
    head = ("smallest, Linf", "median", "of 255", "found", "seconds")
    line = smallest_line(name, alma["distances"], alma["seconds"])
    print(table(head, [line, *smallest]), end="\n\n")
    head = ("fixed epsilon", "epsilon", "step", "point", "pixel accuracy", "mIoU", "seconds")
    lines = [
        fixed_line(
            f"torch {line['attack']}-{line['steps']}",
            line["epsilon_of_255"],
            f"{line['step_of_epsilon']:.3f} eps",
            line["which"],
            line,
            line["seconds"],
        )
        for line in peers["fixed"]
    ]
    print(table(head, [*lines, *fixed]))


def main(argv: list[str] | None = None) -> int:
    """Measure, or read what was measured, and tell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=16, help="images")
    parser.add_argument("--seed", type=int, default=77, help="of the images")
    parser.add_argument("--steps", type=int, default=STEPS, help="of SegPGD and PGD")
    parser.add_argument("--steps-minimum", type=int, default=STEPS_MINIMUM, help="of ALMA prox")
    parser.add_argument("--python", type=Path, default=python("minimum"), help="of the peers")
    parser.add_argument("--record", action="store_true", help="keep what the peers found")
    parser.add_argument("--advex", action="store_true", help="advex beside what is recorded")
    options = parser.parse_args(argv)

    sys.path.insert(0, str(ROOT / "tests"))
    import shapes_data

    model = shapes_data.trained_unet()
    x, labels = shapes_data.images(options.count, options.seed)
    print(f"{machine()}\n{versions()}\n", file=sys.stderr)
    attacked = origin(model, x, labels, options.seed)
    if options.advex:
        peers = json.loads(RECORDED.read_text(encoding="utf-8"))
        for key in ("images", "network"):
            if peers[key] != attacked[key]:
                parser.error(f"the peers attacked other {key}: run with --record first")
        told(peers, smallest_by_advex(model, x, labels), fixed_by_advex(model, x, labels))
        return 0
    found = measured(model, x, labels, options.python, options.steps, options.steps_minimum)
    peers = {**attacked, **found}
    told(peers, [], [])
    if options.record:
        RECORDED.write_text(json.dumps(peers, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
