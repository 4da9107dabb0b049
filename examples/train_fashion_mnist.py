"""Train the small Fashion-MNIST classifier that ships with advex, and pick the 32 images beside it.

    python examples/train_fashion_mnist.py --out my_model

Writes ``fashion_mnist.keras`` (the network, which ends in logits) and ``fashion_mnist.npz`` (the
first 32 test images that it classifies correctly, with their labels and the class names). About
three minutes on two CPU cores. The data come from ``keras.datasets.fashion_mnist``, or from
``--data``, an npz file with the same four arrays.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from advex.cli.quiet import wake_keras

wake_keras()  # without the lines that its C++ libraries write

import keras
import numpy as np
from keras import layers

CLASSES = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
]


def network() -> keras.Model:
    """A plain convolutional network: 28 x 28 grey values in [0, 1] in, ten logits out."""
    image = keras.Input((28, 28, 1), name="image")
    x = layers.Conv2D(16, 3, padding="same", activation="relu")(image)
    for filters in (32, 64, 32):
        x = layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization()(x)
        x = layers.ReLU()(x)
    x = layers.Flatten()(x)
    x = layers.Dense(96, activation="relu")(x)
    return keras.Model(image, layers.Dense(10, name="logits")(x), name="fashion_mnist")


def load(path: Path | None) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training and test images (uint8, one channel) with their labels."""
    if path is None:
        try:
            (x_train, y_train), (x_test, y_test) = keras.datasets.fashion_mnist.load_data()
        except Exception as problem:  # Keras raises a bare Exception where a download fails
            reason = str(problem).splitlines()[0]
            raise SystemExit(
                f"Fashion-MNIST could not be fetched ({reason}). Give the file: --data data.npz"
            ) from None
    else:
        with np.load(path) as data:
            x_train, y_train, x_test, y_test = (
                data[key] for key in ("x_train", "y_train", "x_test", "y_test")
            )
    return x_train[..., None], y_train, x_test[..., None], y_test


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data",
        type=Path,
        help="npz with x_train, y_train, x_test, y_test; default: keras.datasets",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("fashion_mnist"), help="folder for the two files"
    )
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--limit", type=int, help="train on so many images only (for a quick look)")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()

    keras.utils.set_random_seed(arguments.seed)
    x_train, y_train, x_test, y_test = load(arguments.data)
    x_train, y_train = x_train[: arguments.limit], y_train[: arguments.limit]
    model = network()
    steps = arguments.epochs * -(-len(x_train) // 128)
    model.compile(
        optimizer=keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(3e-3, steps)),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(
        x_train / np.float32(255), y_train, batch_size=128, epochs=arguments.epochs, verbose=2
    )

    predictions = model.predict(x_test / np.float32(255), verbose=0).argmax(1)
    print(f"test accuracy {(predictions == y_test).mean():.4f} on {len(y_test)} images")

    arguments.out.mkdir(parents=True, exist_ok=True)
    bare = keras.Model(model.input, model.output, name=model.name)  # without the optimizer's memory
    bare.save(arguments.out / "fashion_mnist.keras")
    chosen = np.flatnonzero(predictions == y_test)[:32]
    np.savez_compressed(
        arguments.out / "fashion_mnist.npz",
        images=x_test[chosen],
        labels=y_test[chosen].astype("int64"),
        index=chosen.astype("int64"),
        classes=np.array(CLASSES),
    )
    size = (arguments.out / "fashion_mnist.keras").stat().st_size
    print(
        f"{arguments.out / 'fashion_mnist.keras'}: {model.count_params():,} parameters, {size:,}"
        f" bytes"
    )


if __name__ == "__main__":
    main()
