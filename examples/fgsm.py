"""One gradient, one step: the fast gradient sign method on the model and the images that ship with advex.

    python examples/fgsm.py
    python examples/fgsm.py --epsilon 4 --out my-folder

Writes one PNG per fooled image and ``fgsm.png``, a sheet with the originals beside them.
"""

from __future__ import annotations

import argparse
from importlib.resources import files
from pathlib import Path

import keras
import numpy as np

import advex


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epsilon", type=int, default=16, help="grey levels (of 255) by which a pixel may change (default 16)")
    parser.add_argument("--out", type=Path, default=Path("advex-out"), help="folder for the pictures (default advex-out)")
    arguments = parser.parse_args()

    model = keras.models.load_model(files("advex") / "data" / "fashion_mnist.keras")
    data = np.load(files("advex") / "data" / "fashion_mnist.npz")
    classifier = advex.Classifier(model, classes=data["classes"])

    result = advex.FGSM()(classifier, data["images"], data["labels"], advex.Linf(arguments.epsilon / 255))

    for before, after, confidence in zip(result.before, result.prediction, result.confidence, strict=True):
        fate = f"-> {classifier.caption(after)}" if after != before else "   still seen right"
        print(f"{classifier.caption(before):>12} {fate:<18} ({confidence:.0%} sure)")
    print(f"{result.success.sum()} of {len(result)} images fooled by one step within {arguments.epsilon} grey levels.")

    records = result.save(arguments.out / "fgsm", overwrite=True)
    result.show().save(arguments.out / "fgsm.png")
    print(f"{sum(record.verified for record in records)} of {len(records)} files read back and judged again: still fooled.")
    print(f"Look at {arguments.out / 'fgsm.png'}")


if __name__ == "__main__":
    main()
