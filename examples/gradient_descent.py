"""Find the lowest point of y = x**2 + 2 by walking down its gradient: twenty lines that hold the
whole idea.

    python examples/gradient_descent.py
    python examples/gradient_descent.py --seed 3 --rate 0.3

Adversarial examples come from the same walk: uphill, on the loss of a network, with an image in the
place of x.
"""

from __future__ import annotations

import argparse

from advex.cli.quiet import wake_keras

wake_keras()  # without the lines that its C++ libraries write

import keras
import numpy as np

import advex


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--rate", type=float, default=0.1, help="how far to go along the gradient (default 0.1)"
    )
    parser.add_argument(
        "--seed", type=int, help="of the random start; default: another one each time"
    )
    arguments = parser.parse_args()

    x = keras.Input(shape=())  # a symbol, with room for a batch of numbers
    y = x**2 + 2
    (slope,) = advex.gradients(y, x)  # symbolic: this is 2 * x
    run = advex.function([x], [y, slope])  # compiled: arrays in, arrays out

    here = np.random.default_rng(arguments.seed).uniform(1, 10, size=1)
    height = np.inf
    batch = 0
    while height - 2 >= 0.01 and batch < 1000:
        batch += 1
        here_was = here
        (height,), (gradient,) = run([here])
        here = here - arguments.rate * gradient
        print(f"batch {batch:3d}   x = {here_was[0]:9.5f}   y = {height:9.5f}")
    print(
        "The lowest point is at x = 0, y = 2: "
        + ("found." if height - 2 < 0.01 else "not found; try a smaller --rate.")
    )


if __name__ == "__main__":
    main()
