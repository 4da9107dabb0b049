"""A text classifier, attacked where words have become vectors: behind its embedding.

    python examples/text.py

Makes short reviews, trains a tiny network for a few seconds, and moves the embedded words as
little as it takes. Prints which words the moved vectors are nearest to. A vector between words is
no text: how near the boundary is in this space is a bound on the model, not a sentence to send.
"""

from __future__ import annotations

from advex.cli.quiet import wake_keras

wake_keras()  # without the lines that its C++ libraries write

import keras
import numpy as np
from keras import layers

import advex

GOOD = ["lovely", "great", "fine", "funny", "clever", "warm", "bright", "charming"]
BAD = ["awful", "boring", "dull", "sad", "stupid", "cold", "grey", "tedious"]
OTHER = [
    "the",
    "a",
    "film",
    "story",
    "actor",
    "plot",
    "was",
    "is",
    "and",
    "very",
    "quite",
    "rather",
]
WORDS = [*GOOD, *BAD, *OTHER]
LENGTH = 8


def reviews(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Word numbers (n, 8), and whether somebody liked it (n,)."""
    rng = np.random.default_rng(seed)
    words = rng.integers(len(GOOD) + len(BAD), len(WORDS), (count, LENGTH))
    liked = rng.integers(0, 2, count)
    for row, good in zip(words, liked, strict=True):
        kinds = rng.uniform(size=3) < (0.9 if good else 0.1)
        row[rng.choice(LENGTH, 3, replace=False)] = rng.integers(0, 8, 3) + np.where(kinds, 0, 8)
    good_words = (words < 8).sum(axis=1)
    return words.astype("int32"), (good_words > 1.5).astype(int)


def nearest(vectors: np.ndarray, table: np.ndarray) -> np.ndarray:
    """The number of the word whose vector is nearest to each of ``vectors``, (n, length, size)."""
    away = np.linalg.norm(vectors[:, :, None] - table, axis=-1)
    return np.asarray(away.argmin(axis=-1))


def main() -> tuple[advex.Result, np.ndarray, np.ndarray]:
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((LENGTH,), dtype="int32"),
            layers.Embedding(len(WORDS), 8, name="embedding"),
            layers.GlobalAveragePooling1D(),
            layers.Dense(2),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.02), loss)
    model.fit(*reviews(1000, seed=1), epochs=6, verbose=0)
    table = model.get_layer("embedding").get_weights()[0]

    words, liked = reviews(40, seed=2)
    ends = float(table.min()), float(table.max())
    classifier = advex.Classifier(model, box=ends, classes=("bad", "good"), perturb="embedding")
    result = advex.MinimumNorm("L2")(classifier, words, liked)
    near = nearest(result.x, table)
    broken = result.status == "broken"
    length = np.median(result.distance[broken])
    print(f"{broken.sum()} of {len(result)} broken; the median change has length {length:.2f}")
    swapped = (near != words).sum(axis=1)
    print(f"{(swapped[broken] > 0).sum()} of these have a vector that is nearer to another word")
    for row in np.flatnonzero(broken)[np.argsort(-swapped[broken])[:3]]:
        was, now = (classifier.caption(entry[row]) for entry in (result.before, result.prediction))
        pairs = zip(words[row], near[row], strict=True)
        said = [WORDS[a] if a == b else f"{WORDS[a]}->{WORDS[b]}" for a, b in pairs]
        print(f"    {was} -> {now}: {' '.join(said)}")

    try:
        result.save("advex-out")
    except advex.errors.InvalidInput as error:
        print(error)
    return result, words, table


if __name__ == "__main__":
    main()
