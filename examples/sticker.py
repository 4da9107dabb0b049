"""A sticker and a frame: a few pixels may become anything, all others stay as they are.

    python examples/sticker.py
    python examples/sticker.py --size 8 --out my-folder

Attacks the images of clothes that ship with advex, and writes ``sticker.png`` and ``frame.png``,
sheets with the originals beside them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from advex.cli.quiet import wake_keras

wake_keras()  # without the lines that its C++ libraries write

import numpy as np

import advex
from advex import zoo


def main() -> dict[str, tuple[advex.Result, np.ndarray]]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=6, help="side of the sticker (default 6)")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("advex-out"),
        help="folder for the pictures (default advex-out)",
    )
    arguments = parser.parse_args()

    model = zoo.fashion_mnist()
    images, labels = zoo.fashion_images()
    sticker, frame = (np.zeros(images.shape[1:], bool) for _ in range(2))  # (28, 28, 1)
    middle = slice(14 - arguments.size // 2, 14 - arguments.size // 2 + arguments.size)
    sticker[middle, middle] = True  # where a change is allowed
    frame[:] = True
    frame[1:-1, 1:-1] = False

    arguments.out.mkdir(parents=True, exist_ok=True)
    found = {}
    for name, mask in {"sticker": sticker, "frame": frame}.items():
        budget = advex.Linf(1, mask=mask)  # from black to white, there
        attack = advex.APGD(loss=advex.losses.margin)
        result = attack(model, images, labels, budget)
        found[name] = result, mask
        broken, before = (int((result.status == word).sum()) for word in ("broken", "clean"))
        print(
            f"{name}: {broken} of {len(result)} broken by {mask.sum()} pixels of {mask.size},"
            f" {before} more were wrong before"
        )
        sheet = arguments.out / f"{name}.png"
        result.show(limit=6).save(sheet)
        print(f"Look at {sheet}")
    return found


if __name__ == "__main__":
    main()
