"""The threat model in words: what the attacker sees, and how far an input may be changed."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from advex import images
from advex.evaluation.figures import Figures
from advex.evaluation.page.numbers import brief, levels


class Threat(NamedTuple):
    """Two texts.

    Attributes:
        label: in the field's words.
        words: the same for everybody.
    """

    label: str
    words: str


def threat(evaluation: Figures) -> Threat:
    """The threat model of a run."""
    box = access(evaluation)
    seen = {
        "white box": "The attacks may use the model's gradients.",
        "black box": "The attacks see only the model's answers.",
    }[box]
    return Threat(f"{box}, {brief(evaluation.budget)}", f"{change(evaluation)} {seen}")


def access(evaluation: Figures) -> str:
    """White box where an attack has used gradients, else black box."""
    if str(evaluation.facts["model"]).startswith("BlackBox("):
        return "black box"
    passes = evaluation.passes
    return "black box" if passes["queries"] and not passes["gradients"] else "white box"


def change(evaluation: Figures) -> str:
    """How far an input may be changed, in a sentence."""
    norm, epsilon = evaluation.facts["norm"], evaluation.facts["epsilon"]
    own = evaluation.attacked or not evaluation.facts.get("curve", True)
    if own or norm not in ("Linf", "L2", "L1", "L0"):
        return f"Each input may change within {evaluation.budget}."
    if epsilon is None:
        return f"Each input may change without a limit, and as little as possible in {norm}."
    value = "pixel" if picture(evaluation) else "input value"
    if norm in ("L0", "L1") and _coloured(evaluation):  # of a pixel's values each counts
        value = "input value"
    if norm == "Linf":
        return f"Every {value} may change by up to {_size(epsilon, value == 'pixel')}."
    if norm == "L0":
        several = " (a pixel has several)" if _coloured(evaluation) else ""
        value += "" if epsilon == 1 else "s"
        return f"At most {epsilon:g} {value}{several} may change, by any amount."
    if norm == "L1":
        return f"The changes of all {value}s may add up to {epsilon:g} times the input range."
    return (
        f"The change as a whole may have a length of up to {epsilon:g} in L2, with the input range"
        " as 1."
    )


def picture(evaluation: Figures) -> bool:
    """Whether the inputs are pictures."""
    shape = evaluation._shape
    return bool(shape) and images.is_image(np.broadcast_to(np.uint8(0), (1, *shape)))


def _coloured(evaluation: Figures) -> bool:
    """Whether the inputs are pictures whose pixels have several values."""
    return picture(evaluation) and len(evaluation._shape) == 3 and evaluation._shape[-1] > 1


def _size(epsilon: float, pixel: bool) -> str:
    level = levels(epsilon) if pixel else None
    if level is not None:
        return f"{level:g} of 255 grey levels"
    return f"{100 * epsilon:.3g}% of the input range"
