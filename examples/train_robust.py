"""From nothing to a network that holds: ordinary and adversarial training on Fashion-MNIST.

    python examples/train_robust.py
    python examples/train_robust.py --method trades --epochs 5 --count 60000

Trains the same network twice, ordinarily and adversarially, attacks both with ``advex.evaluate``
and prints what they scored side by side. Writes both networks, an HTML page about each, and
``accuracy.png``, accuracy over the radius of the attack. A few minutes on two CPU cores. The
data come from ``keras.datasets.fashion_mnist``, or from ``--data``, an npz file with the same four
arrays. Needs matplotlib and Jinja2: ``pip install 'advex[report]'``.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from advex.cli.quiet import wake_keras

wake_keras()  # without the lines that its C++ libraries write

import keras
import numpy as np
from keras import layers
from matplotlib.figure import Figure

import advex
from advex import training

PGD = advex.PGD(steps=7)
METHODS = {  # name: the attack of the training, and what is minimised
    "nfgsm": (training.NFGSM(), None),
    "fast": (training.Fast(), None),
    "pgd": (PGD, None),
    "trades": (PGD, training.TRADES(beta=6)),
    "mart": (PGD, training.MART(beta=5)),
    "awp": (PGD, training.AWP(gamma=0.01)),
}


def network() -> keras.Model:
    """28 x 28 grey values in [0, 1] in, ten logits out."""
    image = keras.Input((28, 28, 1), name="image")
    x = layers.Conv2D(16, 3, padding="same", activation="relu")(image)
    for filters in (32, 64):
        x = layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization(momentum=0.9)(x)  # 0.99 needs more steps than there are
        x = layers.ReLU()(x)
    x = layers.Dense(96, activation="relu")(layers.Flatten()(x))
    return keras.Model(image, layers.Dense(10, name="logits")(x))


def load(path: Path | None) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training and test images (uint8, one channel) with their labels."""
    if path is None:
        (x_train, y_train), (x_test, y_test) = keras.datasets.fashion_mnist.load_data()
    else:
        with np.load(path) as data:
            x_train, y_train, x_test, y_test = (
                data[key] for key in ("x_train", "y_train", "x_test", "y_test")
            )
    return x_train[..., None], y_train, x_test[..., None], y_test


def fitted(model: keras.Model, x: np.ndarray, y: np.ndarray, epochs: int, **settings) -> float:
    """Train a model, ordinary or ``Adversarial``; return the seconds that it took."""
    steps = epochs * -(-len(x) // 128)
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(3e-3, steps)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    began = time.perf_counter()
    model.fit(x, y, batch_size=128, epochs=epochs, verbose=2, **settings)
    return time.perf_counter() - began


def table(found: dict[str, advex.Evaluation], seconds: dict[str, float]) -> str:
    """What both networks scored, side by side."""
    ordinary, hardened = found.values()
    rows = [["", *found]]
    rows.append(["training, seconds", *(f"{seconds[name]:.0f}" for name in found)])
    rows.append(["clean accuracy", *(f"{each.clean_accuracy:.1%}" for each in found.values())])
    for one, other in zip(ordinary.attacks, hardened.attacks, strict=True):
        rows.append([f"accuracy under {one.name}", f"{one.accuracy:.1%}", f"{other.accuracy:.1%}"])
    rows.append(["robust accuracy", *(f"{each.robust_accuracy:.1%}" for each in found.values())])
    intervals = [" to ".join(f"{end:.1%}" for end in each.interval) for each in found.values()]
    rows.append(["  95 % interval", *intervals])
    if ordinary.diagnosis is not None:
        rows.append(["flags of the doctor", *(str(len(each.flags)) for each in found.values())])
    return "\n".join(f"{name:26s}{one:>18s}{other:>18s}" for name, one, other in rows)


def picture(curves: dict[str, advex.evaluation.Curve], epsilon: float) -> Figure:
    """Accuracy over the radius of the attack; the budget of the training is dotted."""
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    end = 2 * epsilon
    for name, curve in curves.items():
        radii = np.linspace(0, end, 201)
        accuracy = [100 * curve.at(radius) for radius in radii]
        axes.step(255 * radii, accuracy, where="post", linewidth=2, label=name)
    axes.axvline(255 * epsilon, color="grey", linestyle=":")
    axes.set(xlim=(0, 255 * end), ylim=(0, 102))
    axes.set(xlabel="largest change of a pixel, grey levels", ylabel="accuracy in %")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return figure


def main() -> dict[str, advex.Evaluation]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data",
        type=Path,
        help="npz with x_train, y_train, x_test, y_test; default: keras.datasets",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("advex-out"), help="folder for what is written"
    )
    parser.add_argument("--method", choices=METHODS, default="nfgsm", help="default nfgsm")
    parser.add_argument("--epsilon", type=int, default=25, help="grey levels (default 25)")
    parser.add_argument("--epochs", type=int, default=3, help="of each training (default 3)")
    parser.add_argument("--count", type=int, default=20_000, help="training images (default 20000)")
    parser.add_argument(
        "--held-out", type=int, default=500, help="further ones, to choose the epoch (default 500)"
    )
    parser.add_argument("--test", type=int, default=300, help="test images (default 300)")
    parser.add_argument(
        "--quick", action="store_true", help="only a look: PGD alone, and no doctor"
    )
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()

    x, y, x_test, y_test = load(arguments.data)
    apart = arguments.held_out  # the best epoch is chosen by them; test images have no part in it
    x = x[: arguments.count + apart] / np.float32(255)
    y = y[: arguments.count + apart].astype("int64")
    held_out = x[-apart:], y[-apart:]
    x, y = x[:-apart], y[:-apart]
    x_test, y_test = x_test[: arguments.test], y_test[: arguments.test].astype("int64")
    budget = advex.Linf(arguments.epsilon / 255)
    attack, method = METHODS[arguments.method]

    networks, seconds = {}, {}
    keras.utils.set_random_seed(arguments.seed)
    networks["ordinary"] = network()
    seconds["ordinary"] = fitted(networks["ordinary"], x, y, arguments.epochs)

    keras.utils.set_random_seed(arguments.seed)
    networks["adversarial"] = network()
    trainer = training.Adversarial(networks["adversarial"], attack, budget, method)
    guards = [training.StopCollapse(), training.KeepBest(verbose=1)]
    seconds["adversarial"] = fitted(
        trainer, x, y, arguments.epochs, validation_data=held_out, callbacks=guards
    )

    arguments.out.mkdir(parents=True, exist_ok=True)
    attacks = [advex.PGD(steps=10)] if arguments.quick else None  # None: Verdict and SquareAttack
    found, curves, classes = {}, {}, advex.zoo.fashion_mnist().names
    for name, model in networks.items():
        model.save(arguments.out / f"{name}.keras")
        named = advex.Classifier(model, classes=classes)
        found[name] = advex.evaluate(
            named, (x_test, y_test), attacks, budget, diagnose=not arguments.quick
        )
        found[name].report(arguments.out / f"{name}.html", overwrite=True)
        few = slice(8 if arguments.quick else 100)
        nearest = (advex.FMN(steps=20) if arguments.quick else advex.MinimumNorm("Linf"))(
            named, x_test[few], y_test[few], advex.Linf()
        )
        curves[name] = advex.evaluation.curve(nearest)
    picture(curves, arguments.epsilon / 255).savefig(arguments.out / "accuracy.png", dpi=150)

    print(f"\n{budget}, {len(x_test)} test images, {len(x)} training images\n")
    print(table(found, seconds))
    print("\nUpper bounds: another attack may find more.")
    for name in ("ordinary.html", "adversarial.html", "accuracy.png"):
        print(arguments.out / name)
    return found


if __name__ == "__main__":
    main()
