"""One gradient, one step: the fast gradient sign method on the model and the images that ship with
advex.

    python examples/fgsm.py
    python examples/fgsm.py --epsilon 4 --out my-folder

Writes one PNG per fooled image and ``fgsm.png``, a sheet with the originals beside them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from advex.cli.quiet import wake_keras

wake_keras()  # without the lines that its C++ libraries write

import advex
from advex import zoo


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--epsilon",
        type=int,
        default=8,
        help="grey levels (of 255) by which a pixel may change (default 8)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("advex-out"),
        help="folder for the pictures (default advex-out)",
    )
    arguments = parser.parse_args()

    classifier = zoo.fashion_mnist()
    images, labels = zoo.fashion_images()
    result = advex.FGSM()(classifier, images, labels, advex.Linf(arguments.epsilon / 255))

    for before, after, confidence in zip(
        result.before, result.prediction, result.confidence, strict=True
    ):
        fate = f"-> {classifier.caption(after)}" if after != before else "   still seen right"
        print(f"{classifier.caption(before):>12} {fate:<18} ({confidence:.0%} sure)")
    fooled, wrong = ((result.status == word).sum() for word in ("broken", "clean"))
    print(
        f"{fooled} of {len(result) - wrong} images fooled by one step within {arguments.epsilon}"
        f" grey levels{f' ({wrong} more were wrong before)' if wrong else ''}."
    )

    records = result.save(arguments.out / "fgsm", overwrite=True)
    result.show().save(arguments.out / "fgsm.png")
    print(
        f"{sum(record.verified for record in records)} of {len(records)} files read back and"
        f" judged again: still fooled."
    )
    print(f"Look at {arguments.out / 'fgsm.png'}")


if __name__ == "__main__":
    main()
