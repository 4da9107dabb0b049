"""What a step of adversarial training costs, beside a bare step of ``fit`` and beside ART.

``python benchmarks/training.py`` measures steps of the network of Fashion-MNIST (289,434
parameters, random weights, batch 128): bare ``fit`` and each method in turn, round after round, and
the median of the ratios, round by round. The bar of a method with k gradients of its attack is (1 +
k) * 1.1 bare steps. "CPU ratio" is the same with seconds of processor time, which hardly feels what
else the machine does.

``--with-art`` trains the same network on the same images, for the same epochs and by the same
attack (PGD, 7 steps) with ART's ``AdversarialTrainer`` and with advex, one after the other in one
process of ART's environment, and attacks both with the same attack afterwards. ART is left out
where its environment cannot be made.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import Spent, machine, table, timed, versions
from peers import ROOT, make, python

EPSILON = 0.1
STEPS = 7
STEP = 2.5 / STEPS  # of epsilon
BATCH = 128
HEAD = ("training", "step, ms", "bare, ms", "ratio", "CPU ratio", "bar")


def network() -> Any:
    """The architecture of the networks that the tests know."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(1)
    parts: list[Any] = [keras.Input((28, 28, 1))]
    for filters, size, strides in ((16, 3, 1), (32, 4, 2), (32, 3, 1), (64, 4, 2), (64, 3, 1)):
        convolution = layers.Conv2D(filters, size, strides=strides, padding="same", use_bias=False)
        parts += [convolution, layers.BatchNormalization(), layers.ReLU()]
    return keras.Sequential(
        [*parts, layers.Flatten(), layers.Dense(64, activation="relu"), layers.Dense(10)]
    )


def compiled(model: Any) -> Any:
    """The model, ready for ``fit``."""
    import keras

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss)
    return model


def kinds() -> dict[str, tuple[Any, int]]:
    """Each way of training, around a model, and the gradients of its attack."""
    import advex
    from advex.training import AWP, MART, NFGSM, TRADES, Adversarial

    pgd, budget = advex.PGD(steps=STEPS, step_size=STEP), advex.Linf(EPSILON)

    def around(attack: Any, method: Any = None) -> Callable[[Any], Any]:
        return lambda model: Adversarial(model, attack, budget, method)

    return {
        "PGD, 7 steps": (around(pgd), STEPS),
        "N-FGSM": (around(NFGSM()), 1),
        "FGSM": (around(advex.FGSM()), 1),
        "TRADES, 7 steps": (around(pgd, TRADES()), STEPS),
        "MART, 7 steps": (around(pgd, MART()), STEPS),
        "AWP, 7 steps": (around(pgd, AWP(gamma=0.01)), STEPS),
    }


def measured(rounds: int, steps: int, batch: int, make: Callable[[], Any] = network) -> list[Any]:
    """A line of the table for each kind."""
    random = np.random.default_rng(0)
    model = make()
    shape = tuple(model.input_shape[1:])
    x = random.random((batch * steps, *shape), dtype="float32")
    labels = random.integers(0, 10, len(x))
    found = kinds()
    models = {"bare": compiled(model)}
    models |= {name: compiled(around(make())) for name, (around, _) in found.items()}

    def epoch(each: Any) -> Spent:
        return timed(lambda: each.fit(x, labels, batch_size=batch, verbose=0)) / steps

    for each in models.values():  # traced
        epoch(each)
    spent: dict[str, list[Spent]] = {name: [] for name in models}
    for _ in range(rounds):
        for name, each in models.items():
            spent[name].append(epoch(each))
    lines = []
    for name, (_, passes) in found.items():
        pairs = list(zip(spent[name], spent["bare"], strict=True))
        wall, cpu = (
            float(np.median([getattr(one, clock) / getattr(bare, clock) for one, bare in pairs]))
            for clock in ("wall", "cpu")
        )
        step, bare = (float(np.median([each[place].wall for each in pairs])) for place in (0, 1))
        lines.append(
            (
                name,
                f"{1000 * step:.0f}",
                f"{1000 * bare:.0f}",
                f"{wall:.2f}",
                f"{cpu:.2f}",
                f"{1.1 * (1 + passes):.1f}",
            )
        )
    return lines


def beside_art(data: str, count: int, epochs: int) -> dict[str, Any]:
    """Seconds and robust accuracy of ART and of advex; in ART's environment."""
    import keras
    import tensorflow as tf
    from art.attacks.evasion import ProjectedGradientDescent
    from art.defences.trainer import AdversarialTrainer
    from art.estimators.classification import TensorFlowV2Classifier

    import advex
    from advex.training import Adversarial

    with np.load(data) as held:
        x, labels = (held["x_train"][:count, ..., None] / 255).astype("float32"), held["y_train"]
        seen = (held["x_test"][:500, ..., None] / 255).astype("float32"), held["y_test"][:500]
    labels = labels[:count].astype("int64")
    told: dict[str, Any] = {}

    def looked(name: str, model: Any, spent: Spent) -> None:
        result = advex.PGD(steps=20)(model, seen[0], seen[1].astype("int64"), advex.Linf(EPSILON))
        told[name] = {
            "seconds": spent.wall,
            "cpu": spent.cpu,
            "robust": float((result.status == "held").mean()),
            "clean": float((result.status != "clean").mean()),
        }

    model = network()
    classifier = TensorFlowV2Classifier(
        model=model,
        nb_classes=10,
        input_shape=(28, 28, 1),
        clip_values=(0.0, 1.0),
        loss_object=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        optimizer=keras.optimizers.Adam(1e-3),
    )
    attack = ProjectedGradientDescent(
        classifier,
        eps=EPSILON,
        eps_step=STEP * EPSILON,
        max_iter=STEPS,
        num_random_init=1,
        batch_size=BATCH,
        verbose=False,
    )
    trainer = AdversarialTrainer(classifier, attack, ratio=1.0)
    spent = timed(lambda: trainer.fit(x, labels, batch_size=BATCH, nb_epochs=epochs))
    looked("ART", model, spent)
    model = network()
    pgd = advex.PGD(steps=STEPS, step_size=STEP)
    robust = compiled(Adversarial(model, pgd, advex.Linf(EPSILON)))
    spent = timed(lambda: robust.fit(x, labels, batch_size=BATCH, epochs=epochs, verbose=0))
    looked("advex", model, spent)
    return told


def main(argv: list[str] | None = None) -> int:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=12, help="training steps in a round")
    parser.add_argument("--with-art", action="store_true")
    parser.add_argument("--count", type=int, default=5000, help="images beside ART")
    parser.add_argument("--epochs", type=int, default=2, help="epochs beside ART")
    parser.add_argument(
        "--data", default=str(ROOT.parent / "shared" / "data" / "fashion_mnist.npz")
    )
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    if given.inside:
        print(json.dumps(beside_art(given.data, given.count, given.epochs)))
        return 0
    print(f"{machine()}\n{versions()}\n")
    if given.rounds:
        print(table(HEAD, measured(given.rounds, given.steps, BATCH)))
    if not given.with_art:
        return 0
    if problem := make("art"):
        print(problem)
        return 1
    command = [str(python("art")), str(Path(__file__).resolve()), "--inside"]
    command += ["--count", str(given.count), "--epochs", str(given.epochs), "--data", given.data]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout.splitlines()[-1])
    rows = [
        (
            name,
            f"{each['seconds']:.1f}",
            f"{each['cpu']:.1f}",
            f"{each['clean']:.1%}",
            f"{each['robust']:.1%}",
        )
        for name, each in told.items()
    ]
    head = (f"{given.count:,} images, {given.epochs} epochs", "seconds", "CPU", "clean", "robust")
    print("\n" + table(head, rows))
    wall, cpu = (told["ART"][name] / told["advex"][name] for name in ("seconds", "cpu"))
    print(f"\nART takes {wall:.1f} times as long, and {cpu:.1f} times the seconds of processors")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
