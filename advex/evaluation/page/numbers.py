"""Numbers as text, in one way on the whole page."""

from __future__ import annotations

import math
import re
import unicodedata

NONE = "\u2013"


def percent(share: float | None) -> str:
    """A share; only what is exactly none or all is called so.

    Example:
        >>> percent(0.5), percent(0.9999), percent(1.0)
        ('50.0%', '>99.9%', '100.0%')
    """
    if share is None:
        return NONE
    text = f"{share:.1%}"
    if text == "100.0%" and share < 1:
        return ">99.9%"
    return "<0.1%" if text == "0.0%" and share > 0 else text


def count(value: int) -> str:
    """A whole number, its thousands set off."""
    return f"{value:,}"


def counted(number: int, what: str = "example") -> str:
    """So many of something.

    Example:
        >>> counted(1), counted(1200), counted(2, "flag")
        ('1 example', '1,200 examples', '2 flags')
    """
    return f"{count(number)} {what}{'s' if number != 1 else ''}"


def wide(name: str) -> bool:
    """Whether a name has letters that stand upright below each other, as Chinese ones do.

    Example:
        >>> wide("裤子"), wide("Trouser")
        (True, False)
    """
    return any(unicodedata.east_asian_width(letter) in "WF" for letter in name)


def cost(value: float) -> str:
    """Passes or seconds: one decimal while they are few, more where that would be none."""
    if 0 < value < 0.1:
        return f"{value:.2g}" if value >= 1e-4 else "<0.0001"
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def unit(norm: str) -> str:
    """In what distances are given.

    Example:
        >>> unit("L2"), unit("Each")
        ('in L2', 'of epsilon')
    """
    return "of epsilon" if norm == "Each" else f"in {norm}"


def levels(value: float) -> float | None:
    """A share of the range in levels of 0 to 255, where it is a whole number of them, or less than
    one in quarters; else None.

    Example:
        >>> levels(4 / 255), levels(0.25 / 255), levels(0.05)
        (4.0, 0.25, None)
    """
    steps = 4 if 0 < value * 255 < 1 - 1e-6 else 1
    counted = value * 255 * steps
    near = abs(counted - round(counted)) < 1e-6 and (not value or round(counted) > 0)
    return round(counted) / steps if near else None


def brief(budget: str) -> str:
    """A budget without digits that nobody reads.

    Example:
        >>> brief("Linf(0.0009803921568627451)"), brief("Linf(4/255)"), brief("L2(0.123456789)")
        ('Linf(0.25/255)', 'Linf(4/255)', 'L2(0.1235)')
    """
    linf = budget.startswith("Linf(")

    def short(found: re.Match[str]) -> str:
        value = float(found.group())
        level = levels(value) if linf else None
        return f"{value:.4g}" if level is None else f"{level:g}/255"

    return re.sub(r"\d+\.\d{5,}(?:e-?\d+)?", short, budget)


def distance(value: float | None, norm: str) -> str:
    """How far an input was moved, in the budget's units; grey levels where it is a whole number of
    them.

    Example:
        >>> distance(8 / 255, "Linf"), distance(0.12345, "L2"), distance(3.0, "L0")
        ('8/255', '0.123', '3')
    """
    if value is None or not math.isfinite(value):
        return NONE
    levels = value * 255
    if norm == "Linf" and levels > 0.5 and abs(levels - round(levels)) < 1e-6:
        return f"{round(levels)}/255"
    return f"{value:.3g}"
