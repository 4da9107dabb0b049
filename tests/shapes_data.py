"""Images of discs, squares and triangles with a class for every pixel, and a small U-Net for them:
what the tests of segmentation attack.

Without the faint texture, and with all shapes away from the edges, an attack got no further than
three pixels in four: the network knew that no shape is as large as the image. A texture is seen
anywhere, and 99 % of the pixels can be made wrong within a few of 255 levels.

``images(count, seed)`` draws, ``trained_unet()`` is the network with the weights that are kept in
``recorded/shapes_unet.npz``. They were made by ``KERAS_BACKEND=tensorflow python
tests/shapes_data.py``, which trains anew (three quarters of a minute on one core), says how good
the network is, and overwrites the file.
"""

import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from keras import layers

WEIGHTS = Path(__file__).resolve().parent / "recorded" / "shapes_unet.npz"
SIDE = 32
CLASSES = ("background", "disc", "square", "triangle")
VOID = 255  # the label of pixels that do not count
NOISE = 0.015  # on every pixel and channel
TEXTURE = 0.035  # of the faint texture inside a shape
FRESH = 1_000_000  # the seed of images that no training has seen


# The images.


def filled(kind, size, row, column):
    """Which pixels a shape covers; its middle lies within the image."""
    y, x = np.mgrid[:SIDE, :SIDE] - np.array([row, column])[:, None, None]
    if kind == 1:
        return x * x + y * y <= size * size
    if kind == 2:
        return np.maximum(abs(x), abs(y)) <= size
    return (abs(y) <= size) & (2 * abs(x) <= y + size)  # the tip is above


def texture(kind):
    """1 and -1 by turns: along the rows in a disc, along the columns in a square, along both in a
    triangle.
    """
    y, x = np.mgrid[:SIDE, :SIDE]
    return (1 - 2 * ((0, x, y, x + y)[kind] % 2))[..., None]


def grown(mask):
    """A mask and all pixels that touch it, with their sides or corners."""
    wide = np.pad(mask, 1)
    shifts = [wide[i : i + SIDE, j : j + SIDE] for i in range(3) for j in range(3)]
    return np.any(shifts, axis=0)


def drawn(rng):
    """An image and its labels."""
    ground = rng.uniform(0.1, 0.9, 3)
    image = np.broadcast_to(ground, (SIDE, SIDE, 3)).copy()
    labels = np.zeros((SIDE, SIDE), "int32")
    for _ in range(rng.integers(1, 4)):
        kind, size = int(rng.integers(1, 4)), int(rng.integers(4, 11))
        colour = rng.uniform(0.1, 0.9, 3)
        for _ in range(20):  # a shape that finds no free place is left out
            mask = filled(kind, size, *rng.integers(0, SIDE, 2))
            border = grown(mask) & ~mask
            if not labels[mask | border].any():
                image[mask] = (colour + TEXTURE * texture(kind))[mask]
                image[border] = (ground + colour) / 2
                labels[mask], labels[border] = kind, VOID
                break
    image = image + rng.normal(0, NOISE, image.shape)
    return np.clip(image, 0, 1).astype("float32"), labels


def images(count, seed=0):
    """``count`` images (count, 32, 32, 3) in [0, 1], and labels (count, 32, 32): the index in
    ``CLASSES``, or ``VOID`` on the border of a shape. Each image has a seed of its own, so that the
    first ones do not depend on ``count``.
    """
    pairs = [drawn(np.random.default_rng((seed, index))) for index in range(count)]
    return np.stack([x for x, _ in pairs]), np.stack([y for _, y in pairs])


def fresh(count):
    """Images that the network was not trained on."""
    return images(count, FRESH)


# The network.


def unet():
    """An untrained U-Net of three levels: images to logits (32, 32, 4). Convolutions, means and
    copies of pixels only, which are the same on all backends.
    """

    def conv(x, width):
        return layers.Conv2D(
            width, 3, padding="same", activation="relu", kernel_initializer="he_normal"
        )(x)

    def double(x, width):
        return conv(conv(x, width), width)

    image = keras.Input((SIDE, SIDE, 3))
    high = double(image, 12)
    middle = double(layers.AveragePooling2D(2)(high), 24)
    low = double(layers.AveragePooling2D(2)(middle), 32)
    up = layers.Concatenate()([middle, layers.UpSampling2D(2)(low)])
    up = layers.Concatenate()([high, layers.UpSampling2D(2)(conv(up, 24))])
    logits = layers.Conv2D(len(CLASSES), 1)(conv(up, 12))
    return keras.Model(image, logits, name="shapes_unet")


def trained_unet():
    """The network with the weights that are kept."""
    model = unet()
    with np.load(WEIGHTS) as kept:
        model.set_weights([kept[name].astype("float32") for name in kept.files])
    return model


def train(count=2000, epochs=7, seed=0):
    """A network trained in plain Keras, with its weights rounded to float16 as they are kept."""
    keras.utils.set_random_seed(seed)
    model = unet()
    x, labels = images(count, seed)
    counts = labels != VOID
    steps = epochs * -(-count // 8)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, steps - steps // 10, warmup_target=5e-3, warmup_steps=steps // 10
    )
    model.compile(
        keras.optimizers.Adam(rate), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    model.fit(
        x,
        np.where(counts, labels, 0),
        batch_size=8,
        epochs=epochs,
        sample_weight=counts.astype("float32"),
        verbose=2,
    )
    model.set_weights([kept.astype("float16").astype("float32") for kept in model.get_weights()])
    return model


# What a network is worth.


def predicted(model, x):
    """The class of every pixel."""
    return np.asarray(model.predict(x, verbose=0)).argmax(-1)


def scores(classes, labels):
    """Pixel accuracy, and mean intersection over union of the classes, over all pixels that
    count.
    """
    counts = labels != VOID
    table = np.zeros((len(CLASSES), len(CLASSES)), int)
    np.add.at(table, (labels[counts], classes[counts]), 1)
    right = np.diag(table)
    return right.sum() / table.sum(), (right / (table.sum(0) + table.sum(1) - right)).mean()


def wrong(classes, labels):
    """Of each image, the share of the pixels that count whose class is wrong."""
    counts = labels != VOID
    return ((classes != labels) & counts).sum((1, 2)) / counts.sum((1, 2))


def main():
    """Train, say what came of it, and keep it."""
    start = time.perf_counter()
    model = train()
    print(f"{model.count_params()} parameters, trained in {time.perf_counter() - start:.0f} s")
    WEIGHTS.parent.mkdir(exist_ok=True)
    np.savez_compressed(WEIGHTS, *[kept.astype("float16") for kept in model.get_weights()])
    x, labels = fresh(500)
    accuracy, overlap = scores(predicted(trained_unet(), x), labels)
    print(f"{WEIGHTS.stat().st_size / 1000:.0f} kB; on 500 fresh images: pixel accuracy", end=" ")
    print(f"{accuracy:.4f}, mIoU {overlap:.4f}")


if __name__ == "__main__":
    main()
