"""An attack of your own in fifteen lines: momentum, as in MI-FGSM, and the check that it keeps
every promise.

    python examples/custom_attack.py
    python examples/custom_attack.py --decay 0.5 --steps 20

You write where to start and how to step. The loop, the budget, the box, the 8-bit grid,
best-so-far, early stopping and the counting of gradients are advex's work.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from advex.cli.quiet import wake_keras

wake_keras()  # without the lines that its C++ libraries write

from keras import ops

import advex
from advex import zoo


@dataclass(frozen=True, kw_only=True)
class Momentum(advex.Attack):
    """Ascent along a running sum of normalised gradients."""

    steps: int = 10
    decay: float = 1.0

    def init(self, problem):
        return problem.x0, ops.zeros_like(problem.x0)

    def step(self, problem, x, velocity):
        _, gradient = problem.gradient(x, advex.losses.cross_entropy)
        velocity = self.decay * velocity + advex.unit(gradient, order=1)
        x = x + problem.epsilon / self.steps * problem.budget.steepest(velocity)
        return problem.project(x), velocity


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument(
        "--decay", type=float, default=1.0, help="how much of the old direction is kept (default 1)"
    )
    parser.add_argument(
        "--epsilon",
        type=int,
        default=6,
        help="grey levels (of 255) by which a pixel may change (default 6)",
    )
    arguments = parser.parse_args()

    model = zoo.fashion_mnist()
    images, labels = zoo.fashion_images()
    budget = advex.Linf(arguments.epsilon / 255)
    mine = Momentum(steps=arguments.steps, decay=arguments.decay)
    for attack in (advex.FGSM(), mine):
        print(attack(model, images, labels, budget))

    print(
        "Checking the contract: budget, box, dtypes, batch sizes, order, seeds, nothing touched ..."
    )
    advex.testing.check_attack(mine, budgets=(advex.Linf(0.2),))
    print("Kept.")


if __name__ == "__main__":
    main()
