"""Labels alone: a random forest says which digit it sees, and nothing else.

    python examples/labels_only.py
    python examples/labels_only.py --steps 200 --out my-folder

Grows the forest on the digits that come with scikit-learn, looks for the smallest change of each of
16 others that it has never seen, and writes ``labels_only.png``, a sheet with the originals beside
them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from advex.cli.quiet import wake_keras

wake_keras()  # without the lines that its C++ libraries write

import numpy as np

import advex

try:
    from sklearn.datasets import load_digits
    from sklearn.ensemble import RandomForestClassifier
except ImportError:
    sys.exit("This example needs scikit-learn: pip install scikit-learn")


def main() -> advex.Result:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1000, help="queries per digit (default 1000)")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("advex-out"),
        help="folder for the picture (default advex-out)",
    )
    arguments = parser.parse_args()

    images, digits = load_digits(return_X_y=True)
    images = (images / 16).astype("float32").reshape(-1, 8, 8)  # from white to black, 0 to 1
    forest = RandomForestClassifier(50, random_state=0).fit(
        images[:-200].reshape(-1, 64), digits[:-200]
    )
    x, labels = images[-200:], digits[-200:]
    right = np.flatnonzero(forest.predict(x.reshape(-1, 64)) == labels)[:16]
    x, labels = x[right], labels[right]

    box = advex.BlackBox(
        lambda x: forest.predict(x.reshape(len(x), -1)), classes=10, answers="labels"
    )
    result = advex.CGBA(steps=arguments.steps)(box, x, labels, advex.L2())

    print(result)
    print("queries  found  median")
    for row in result.trace.rows():
        print(f"{row['queries']:7,d}  {row['found']:5d}  {row['median']:6.3f}")
    print(f"{result.queries.sum():,} queries, at most {result.queries.max():,} for each digit")
    arguments.out.mkdir(parents=True, exist_ok=True)
    sheet = arguments.out / "labels_only.png"
    result.show(limit=8).save(sheet)
    print(f"Look at {sheet}")
    return result


if __name__ == "__main__":
    main()
