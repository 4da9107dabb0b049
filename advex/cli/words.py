"""Words of the command line as numbers, attacks and budgets; options that several commands have."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advex._settings import shown
from advex.errors import InvalidInput, nearest

if TYPE_CHECKING:
    from advex.budgets import Budget

ATTACKS = {
    "fgsm": "FGSM",
    "bim": "BIM",
    "pgd": "PGD",
    "momentum": "MomentumIterative",
    "nesterov": "NesterovIterative",
    "gradient-ascent": "GradientAscent",
    "fine": "fine",
}
ASKING = {
    "minimum-norm": "MinimumNorm",
    "square": "SquareAttack",
    "hop-skip-jump": "HopSkipJump",
    "cgba": "CGBA",
    "rays": "RayS",
    "pointwise": "Pointwise",
    "surfree": "SurFree",
    "nes": "NES",
    "spsa": "SPSA",
    "simba": "SimBA",
    "sparse-rs": "SparseRS",
}
"""Attacks that can do without gradients; their steps are a limit of queries."""
NO_QUERIES = (
    "--queries is the limit of an attack that needs no gradients, and {} needs them: its own limit"
    " is --steps"
)
NORMS = {"linf": "Linf", "l2": "L2", "l1": "L1", "l0": "L0"}

LONGEST_NUMBER = 100  # characters of a whole number

Option = tuple[str, dict[str, Any]]


def number(text: str) -> float:
    """``2/255`` or ``0.01`` as a float."""
    above, slash, below = text.partition("/")
    try:
        return float(above) / float(below) if slash else float(text)
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(
            f"{shown(text)} is not a number such as 2/255 or 0.01"
        ) from None


def whole(text: str) -> int:
    """A whole number of at most 64 bits. Python itself refuses to read more than 4,300 digits."""
    try:
        value = int(text) if len(text) < LONGEST_NUMBER else 2**64
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{shown(text)} is not a whole number such as 10"
        ) from None
    if not -(2**63) <= value < 2**64:
        raise argparse.ArgumentTypeError(
            f"{shown(text, 20)} is not a whole number of at most 64 bits"
        )
    return value


def option(name: str, **keywords: Any) -> Option:
    """An option as data: its name, and the keywords of ``ArgumentParser.add_argument``."""
    return name, keywords


BOX = option(
    "--box",
    nargs=2,
    type=float,
    metavar=("LO", "HI"),
    help="lowest and highest value the model file, or the function, takes (0 1)",
)
CLASSES = option(
    "--classes",
    type=Path,
    metavar="NAMES.json",
    help="class names: a list, or index -> name; with --blackbox their number will do",
)
NORM = option(
    "--norm",
    type=str.lower,
    choices=list(NORMS),
    default="linf",
    help="how a change is measured (linf)",
)
SEED = option("--seed", type=whole, default=0, metavar="N", help="decides all random numbers (0)")


def add_options(parser: argparse.ArgumentParser, options: Iterable[Option]) -> None:
    """Give each option to a parser."""
    for name, keywords in options:
        parser.add_argument(name, **keywords)


def demand_attack(name: str, known: Mapping[str, str], given: str) -> None:
    """Raise ``InvalidInput`` unless ``name`` is one of the ``known`` attacks; ``given`` is what the
    message repeats.
    """
    if name not in known:
        close = nearest(name, known)
        raise InvalidInput(
            f"there is no attack {given!r}; "
            + (f"did you mean {close[0]}?" if close else ", ".join(known))
        )


def limited(name: str, options: argparse.Namespace, without_steps: Iterable[str]) -> dict[str, Any]:
    """The settings that ``--steps`` and ``--queries`` are of an attack: both may be given where
    several attacks run.
    """
    if asks(name, options) and options.queries is not None:
        return {"steps": options.queries}
    fixed = options.steps is None or (name in without_steps and not asks(name, options))
    return {} if fixed else {"steps": options.steps}


def asks(name: str, options: argparse.Namespace) -> bool:
    """Whether an attack has a limit of queries: the recommended ones, where gradients are not
    there.
    """
    return name in ASKING and (name != "minimum-norm" or options.blackbox is not None)


def budget_of(norm: str, epsilon: float) -> Budget:
    """``--norm`` and ``--epsilon`` as a budget, without a limit for inf; L0 counts, in whole
    numbers where it can.
    """
    import advex

    if epsilon == math.inf:
        unlimited: Budget = getattr(advex, NORMS[norm])()
        return unlimited

    size = int(epsilon) if norm == "l0" and epsilon.is_integer() else epsilon
    budget: Budget = getattr(advex, NORMS[norm])(size)
    return budget
