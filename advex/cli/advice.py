"""What to try when an attack has failed: commands that the reader can paste."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence

from advex.cli.program import command
from advex.cli.words import asks, number, runnable

STRONGER = {"linf": "verdict", "l2": "verdict", "l1": "verdict", "l0": "minimum-norm"}
RESTARTS, FEW = 5, 2


def wider(typed: str, norm: str) -> str | None:
    """An epsilon half as large again, written as ``typed`` was; None where there is no room.

    Example:
        >>> wider("8/255", "linf"), wider("0.5", "l2"), wider("3", "l0"), wider("1", "linf")
        ('12/255', '0.75', '5', None)
        >>> wider("0.5/255", "linf")  # one grey level is the least that a picture can move by
        '1/255'
    """
    above, slash, below = typed.partition("/")
    size = number(typed)
    if not 0 <= size < math.inf:
        return None
    if norm == "l0":
        return str(math.ceil(size * 1.5) or 1)
    if norm == "linf" and 0 < size < 1 / 255:
        return "1/255"
    if slash and above.isdecimal():
        grown = f"{max(int(above) + 2, int(above) * 3 // 2)}/{below}"
    else:
        grown = f"{size * 1.5:.3g}" if size else "2/255"
    return None if norm == "linf" and number(grown) > 1 else grown


def without(words: Sequence[str], name: str, values: int = 1) -> list[str]:
    """The words of a command without an option and its values."""
    kept, skip = [], 0
    for word in words:
        if skip:
            skip -= 1
        elif word == name:
            skip = values
        elif not word.startswith(f"{name}="):
            kept.append(word)
    return kept


def replaced(words: Sequence[str], name: str, *values: str) -> list[str]:
    """The words of a command with an option set anew."""
    return [*without(words, name, len(values)), name, *values]


def in_box(options: argparse.Namespace, box: tuple[str, str]) -> str:
    """The command that was typed, in another box."""
    return command(_again(options, box))


def _again(options: argparse.Namespace, box: tuple[str, str] | None) -> list[str]:
    """The words that were typed, for another call in the same folder."""
    again = replaced(without(options.typed, "--json", 0), "--overwrite")
    return again if box is None else replaced(again, "--box", *box)


def advice(
    options: argparse.Namespace,
    held: Sequence[str],
    attack: str,
    norm: str,
    epsilon: str,
    box: tuple[str, str] | None = None,
) -> list[str]:
    """Commands that may fool the images that held.

    Args:
        options: of the call, with the words as they were ``typed``.
        held: the files; a few are named, more are what was typed.
        attack: its name.
        norm: as ``--norm`` has it.
        epsilon: as it was typed, or its default.
        box: the box that a warning proposes, if one does.
    """
    known, again = runnable(attack), _again(options, box)
    given = list(map(str, options.image))
    if len(held) <= FEW and set(given) <= set(again):
        again = [word for word in again if word not in given]
        again[1:1] = [f"./{name}" if name.startswith("-") else name for name in held]
    made = []
    if (grown := wider(epsilon, norm)) is not None:
        made.append(replaced(again, "--epsilon", grown))
    if asks(known, options):
        queries = options.queries or known.settings["steps"] or 5000
        made.append(replaced(again, "--queries", str(4 * queries)))
    elif options.blackbox is None:
        # fine, then verdict, and not from there to fine again
        weaker = known.name not in ("fine", "verdict")
        aimed = options.target is not None and weaker and norm != "l0"
        other = "fine" if aimed else STRONGER[norm]
        if other != known.name:
            bare = again
            for name in ("--steps", "--restarts", "--learning-rate"):  # of the attack that failed
                bare = without(bare, name)
            made.append(replaced(bare, "--attack", other))
        if known.name == "pgd" and options.restarts == 1:
            made.append(replaced(again, "--restarts", str(RESTARTS)))
    return [command(words) for words in made]
