"""Do advex and Foolbox mean the same by the same attack? FGSM, BIM and PGD on the shipped
classifier, image by image.

Run it with the Python of Foolbox's environment: ``.venv-peers/foolbox/bin/python
benchmarks/agreement.py`` (``python benchmarks/peers.py foolbox`` makes it). Compared are, at
several budgets:

- FGSM: verdicts, and the points of the images that both have fooled;
- BIM (no random start): the step of the first success, and the point there;
- PGD: verdicts; the random starts differ, so that a few images at the edge may.

Foolbox climbs the textbook cross-entropy, whose gradient in float32 cancels to noise and then to 0
where the model is sure; that of advex keeps its precision there and fools more. So each attack is
compared twice: with the textbook loss in advex as well, where it must agree, and as it comes. Exit
code 0 if with the same loss no FGSM or BIM verdict differs, no element of their points by more than
1e-6, and PGD's verdicts for at most 4 % of the images.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from common import machine, table, versions
from leaving_rows import DATA, images, shipped

Array = np.ndarray[Any, Any]
CLOSE = 1e-6  # a difference above this is no rounding of the last bits
HEAD = (
    "attack, budget",
    "images",
    "advex",
    "Foolbox",
    "verdicts differ",
    "median diff",
    "max diff",
    "elements off",
)


class Found(NamedTuple):
    """What a library found: which images are fooled, after how many steps, and where."""

    success: Array
    step: Array
    x: Array


def textbook(logits: Any, goal: Any) -> Any:
    """Cross-entropy as Foolbox computes it."""
    import tensorflow as tf

    return tf.nn.sparse_softmax_cross_entropy_with_logits(goal.labels, logits)


def ours(attack: Any, model: Any, x: Array, labels: Array, epsilon: float) -> Found:
    """An attack of advex."""
    import advex

    result = attack(model, x, labels, advex.Linf(epsilon), progress=False)
    return Found(result.success, result.queries, result.x)


def theirs(attack: Any, model: Any, x: Array, labels: Array, epsilon: float) -> tuple[Array, Array]:
    """The points of an attack of Foolbox, and whether they fool the model."""
    import foolbox
    import tensorflow as tf

    wrapped = foolbox.TensorFlowModel(model, bounds=(0, 1))
    _, (points,), (success,) = attack(
        wrapped, tf.constant(x), tf.constant(labels), epsilons=[epsilon]
    )
    return points.numpy(), success.numpy()


def first_successes(
    attacks: list[Any], model: Any, x: Array, labels: Array, epsilon: float
) -> Found:
    """Foolbox with 1, 2, 3... steps: the first number that fools, and the point there."""
    success, step, where = np.zeros(len(x), bool), np.full(len(x), -1), x.copy()
    for number, attack in enumerate(attacks, 1):
        points, fooled = theirs(attack, model, x, labels, epsilon)
        fresh = fooled & ~success
        success |= fresh
        step[fresh], where[fresh] = number, points[fresh]
    return Found(success, step, where)


def line(
    name: str, one: Found, other: Found, points: bool, steps: bool = False
) -> tuple[list[str], int]:
    """A line of the table, and how many verdicts differ."""
    differ = one.success != other.success
    if steps:
        differ |= one.success & other.success & (one.step != other.step)
    both = one.success & other.success & ~differ
    cells = ["-", "-", "-"]
    if points and both.any():
        off = np.abs(one.x[both].astype("float64") - other.x[both])
        worst = off.reshape(len(off), -1).max(axis=1)
        cells = [f"{np.median(worst):.1e}", f"{worst.max():.1e}", f"{(off > CLOSE).mean():.1e}"]
    counts = [
        str(len(differ)),
        str(int(one.success.sum())),
        str(int(other.success.sum())),
        str(int(differ.sum())),
    ]
    return [name, *counts, *cells], int(differ.sum())


def main(argv: list[str] | None = None) -> int:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, default=DATA, help="Fashion-MNIST as .npz with x_test and y_test"
    )
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument(
        "--epsilon", type=float, nargs="+", default=[1.0, 2.0, 4.0, 8.0], help="in grey levels"
    )
    options = parser.parse_args(argv)

    import foolbox
    import keras
    from foolbox import attacks

    import advex

    keras.utils.set_random_seed(0)
    model = shipped()
    x, labels = images(options.data, options.count)
    right = np.asarray(model(x, training=False)).argmax(axis=1) == labels
    x, labels = x[right], labels[right]  # the others are fooled before any attack
    lines, wrong, doubtful = [], 0, 0
    numbers = range(1, options.steps + 1)
    for levels in options.epsilon:
        epsilon, budget = levels / 255, f"{levels:g}/255"
        points, success = theirs(attacks.LinfFastGradientAttack(), model, x, labels, epsilon)
        fgsm = Found(success, np.ones(len(x)), points)
        series = [
            attacks.LinfBasicIterativeAttack(rel_stepsize=0.25, steps=number) for number in numbers
        ]
        bim = first_successes(series, model, x, labels, epsilon)
        points, success = theirs(
            attacks.LinfPGD(rel_stepsize=0.25, steps=options.steps), model, x, labels, epsilon
        )
        pgd = Found(success, np.ones(len(x)), points)
        for loss, said in ((textbook, "same loss"), (advex.losses.cross_entropy, "as it comes")):
            settings = {"steps": options.steps, "step_size": 0.25, "loss": loss}
            runs = {
                "FGSM": (ours(advex.FGSM(loss=loss), model, x, labels, epsilon), fgsm),
                f"BIM-{options.steps}": (
                    ours(advex.BIM(**settings), model, x, labels, epsilon),
                    bim,
                ),
                f"PGD-{options.steps}": (
                    ours(advex.PGD(**settings), model, x, labels, epsilon),
                    pgd,
                ),
            }
            for name, (mine, other) in runs.items():
                # Queries of a row: one before the search, one per point that was looked at (x0
                # among them), one at the end.
                mine = mine._replace(step=mine.step - 3)
                random = name.startswith("PGD")
                row, differ = line(
                    f"{name}, {budget}, {said}",
                    mine,
                    other,
                    points=not random,
                    steps=name.startswith("BIM"),
                )
                lines.append(row)
                if loss is textbook and random:
                    doubtful = max(doubtful, differ)
                elif loss is textbook:
                    wrong += differ + (row[-1] not in ("-", "0.0e+00"))
    print(
        f"{machine()}\n{versions()}, foolbox {foolbox.__version__}\n{len(x)} images that the model"
        f" gets right\n"
    )
    print(table(HEAD, lines))
    print(
        "\nmedian and max diff: of the largest element of each image, between 0 and 1; elements"
        " off: share above 1e-6"
    )
    return int(wrong > 0 or doubtful > 0.04 * len(x))


if __name__ == "__main__":
    sys.exit(main())
