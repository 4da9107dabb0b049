"""Words of the command line as numbers, attacks and budgets; options that several commands have."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advex._settings import shown
from advex.cli.registry import NORMS, USUAL, Known, attack_called
from advex.errors import InvalidInput

if TYPE_CHECKING:
    from advex.budgets import Budget

NO_QUERIES = (
    "--queries is the limit of an attack that needs no gradients, and {} needs them: its own limit"
    " is --steps"
)

LONGEST_NUMBER = 100  # characters of a whole number

AS_OPTIONS = (  # what is said in Python, and what that is here
    (
        re.compile(
            r"in the box \((\S+), (\S+)\)(.*)advex\.Classifier\(model, .*preprocess=lambda x:"
            r" (?:preprocess\((.*?)\)|([^,]*?))(?:, classes=classes)?(?:, output=[^)]*)?\)$",
            re.DOTALL,
        ),
        r"in the box (\1, \2)\3--box \1 \2, with \4\5 in place of x in the file of --data",
    ),
    (
        re.compile(
            r"advex\.Classifier\(model, box=\(([^\s,]+), ([^\s)]+)\)(?:, preprocess=preprocess)?"
            r"(?:, classes=classes)?(?:, output=[^)]*)?\)"
        ),
        r"--box \1 \2",
    ),
    (re.compile(r"attack (\S.*) in place of x$"), r"\1 in place of x in the file of --data"),
    (re.compile(r"\(diagnose=False\)"), "(--no-doctor)"),
    (re.compile(r"^Linf\((\S+)\): epsilon is"), r"--epsilon \1 is"),
    (re.compile(r"grey levels write advex\.\w+\((\S+)\)"), r"grey levels write --epsilon \1"),
)
BOX_FIRST = re.compile(r"range it was trained on: .*?--box (\S+) ([^\s,]+)", re.DOTALL)

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


def typed_number(text: str) -> str:
    """A number, checked, as it was typed."""
    number(text)
    return text


def as_options(text: str) -> str:
    """A sentence about what to type in Python, said with options of the command line.

    Example:
        >>> as_options("If it takes 0 to 255: advex.Classifier(model, box=(0, 255))")
        'If it takes 0 to 255: --box 0 255'
    """
    for code, here in AS_OPTIONS:
        text = code.sub(here, text)
    return text


def better_box(sentences: Iterable[str]) -> tuple[str, str] | None:
    """The values of ``--box`` that a warning about the range of the inputs proposes."""
    found = (BOX_FIRST.search(as_options(sentence)) for sentence in sentences)
    return next(((one[1], one[2]) for one in found if one), None)


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
    help="how a change is measured (linf, or what the attack is made for)",
)
SEED = option("--seed", type=whole, default=0, metavar="N", help="decides all random numbers (0)")


def add_options(parser: argparse.ArgumentParser, options: Iterable[Option]) -> None:
    """Give each option to a parser."""
    for name, keywords in options:
        parser.add_argument(name, **keywords)


def add_groups(parser: argparse.ArgumentParser, groups: Mapping[str, Iterable[Option]]) -> None:
    """Give options to a parser under headings."""
    for title, options in groups.items():
        group = parser.add_argument_group(title)
        for name, keywords in options:
            group.add_argument(name, **keywords)


def runnable(given: str) -> Known:
    """The attack that is meant.

    Raises:
        InvalidInput: there is none of this name, or it does not run by itself.
    """
    known = attack_called(given)
    if known.wrapper:
        raise InvalidInput(f"{known.name} does not run by itself: {known.way_round}")
    return known


def norm_of(options: argparse.Namespace, chosen: Iterable[Known], epsilon: float | None) -> str:
    """The norm of ``--norm``, or else what all attacks are made for.

    Raises:
        InvalidInput: one of them is not defined in this norm, or not without a limit.
    """
    chosen = list(chosen)
    shared = [norm for norm in NORMS if all(norm in known.norms for known in chosen)]
    norm: str = options.norm or (shared[0] if shared else "linf")
    for known in chosen:
        if norm not in known.norms:
            raise InvalidInput(
                f"{known.name} has no form in {norm}: --norm {' or '.join(known.norms)}"
            )
        if epsilon == math.inf and known.needs_limit:
            raise InvalidInput(f"{known.name} needs a limit: --epsilon {USUAL[norm]}")
    return norm


def limited(known: Known, options: argparse.Namespace) -> dict[str, Any]:
    """The settings that ``--steps`` and ``--queries`` are of an attack: both may be given where
    several attacks run.
    """
    if asks(known, options) and options.queries is not None:
        return {"steps": options.queries}
    fixed = options.steps is None or not own_steps(known, options)
    return {} if fixed else {"steps": options.steps}


def own_steps(known: Known, options: argparse.Namespace) -> bool:
    """Whether ``--steps`` is a setting here: the recommended attacks have none on a model."""
    return known.takes_steps and (known.name != "minimum-norm" or options.blackbox is not None)


def asks(known: Known, options: argparse.Namespace) -> bool:
    """Whether an attack has a limit of queries: the recommended ones, where gradients are not
    there.
    """
    return known.needs != "gradients" and own_steps(known, options)


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
