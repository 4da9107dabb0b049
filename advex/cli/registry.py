"""The attacks of advex as the command line knows them: their names, and when to use which.

What can be read from a class (norms, what it needs of a model, its settings) is read from it.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from advex.errors import AdvexError, InvalidInput, nearest

if TYPE_CHECKING:
    from advex.attacks import Attack

NORMS = {"linf": "Linf", "l2": "L2", "l1": "L1", "l0": "L0"}
USUAL = {"linf": "8/255", "l2": "0.5", "l1": "10", "l0": "20"}
"""An epsilon of each norm, as one types it."""

_SMALL = {"linf": 0.1, "l2": 0.1, "l1": 0.1, "l0": 1}

FAMILIES = {
    "limit": "A change within a limit, by gradients (white box)",
    "smallest": "The smallest change, by gradients (white box)",
    "scores": "Scores are enough (black box)",
    "labels": "A class is enough (black box)",
    "maps": "Maps of classes, by gradients",
    "wrappers": "Around another attack",
}
ACCESS = {
    "gradients": "gradients (white box)",
    "scores": "scores (black box)",
    "labels": "a class (black box)",
}
ONE_EACH, QUERY, VARIES, TIMES = "1F + 1B", "1 query", "varies", "times N"
MAPS = (
    "a class for each pixel needs maps of labels:"
    " advex evaluate --data FILE.npz --goal segmentation --epsilon 8/255 --attack {name}"
)
RESTARTS = "it is an option of pgd: --attack pgd --restarts 5"
FROM_PYTHON = "it works on another attack, from Python: advex.{kind}(advex.PGD())"


class _Said(NamedTuple):
    """What no class says about itself."""

    name: str
    kind: str
    when: str
    cost: str = ONE_EACH
    also: str = ""
    instead: str = ""


class Known(_Said):
    """An attack.

    Attributes:
        name: what it is called on the command line.
        kind: what it is called in Python, as a name of ``advex``.
        when: when to use it, in one line.
        cost: what a step costs of each example: forward (F) and backward (B) passes, or queries.
        also: other names that are understood.
        instead: what to type where the name alone cannot run.
    """

    @cached_property
    def family(self) -> str:
        """Its part of the table, a key of ``FAMILIES``."""
        return next(family for family, listed in _FAMILIES.items() if self in listed)

    @property
    def way_round(self) -> str:
        """``instead``, about this attack."""
        return self.instead.format(name=self.name, kind=self.kind)

    @property
    def maker(self) -> Any:
        """The class, or the function, that makes it."""
        from advex import attacks

        return getattr(attacks, self.kind)

    @property
    def settings(self) -> dict[str, Any]:
        """Its settings with their defaults, in the order of the constructor."""
        return {
            name: parameter.default
            for name, parameter in inspect.signature(self.maker).parameters.items()
        }

    @property
    def takes_steps(self) -> bool:
        """Whether ``--steps`` (or ``--queries``) is a setting of it."""
        return "steps" in self.settings

    @property
    def wrapper(self) -> bool:
        """Whether it needs another attack."""
        return self.family == "wrappers"

    @cached_property
    def example(self) -> Attack:
        """One with its own defaults, around PGD where it needs another."""
        from advex.attacks import PGD

        made: Attack = self.maker(PGD()) if self.wrapper else self.maker()
        return made

    @cached_property
    def norms(self) -> tuple[str, ...]:
        """The norms it is defined in, as ``--norm`` has them."""
        return tuple(norm for norm in NORMS if self._takes(norm, _SMALL[norm]))

    @cached_property
    def needs_limit(self) -> bool:
        """Whether ``--epsilon`` must be a number: without one it looks for the smallest change."""
        return not self._takes(self.norms[0], None)

    @property
    def smallest(self) -> bool:
        """Whether looking for the smallest change is what it is for."""
        return not self.needs_limit and self.name != "gradient-ascent"

    def _takes(self, norm: str, epsilon: float | None) -> bool:
        from advex import budgets
        from advex.errors import InvalidType

        kind = getattr(budgets, NORMS[norm])
        try:
            self.example.check(None, kind() if epsilon is None else kind(epsilon))
        except InvalidType:  # it asks for another goal, which comes after the budget
            return True
        except AdvexError:
            return False
        return True

    @cached_property
    def needs(self) -> str:
        """The least that it needs of a model: gradients, scores or labels."""
        if self.name == "minimum-norm":  # it chooses by what there is
            return "labels"
        from advex import budgets

        norm = self.norms[0]
        budget = getattr(budgets, NORMS[norm])(_SMALL[norm])
        asked = {run.attack.needs for wave in self.example.plan(budget) for run in wave.runs}
        return next(needed for needed in ACCESS if needed in asked)

    @property
    def goals(self) -> tuple[str, ...]:
        """What it can pursue from the command line."""
        if self.family == "maps":
            return ("segmentation",)
        untargeted = self.name != "every-target"
        return ("untargeted", *["targeted"] * (untargeted and self.example.targets))


_FAMILIES: Mapping[str, tuple[Known, ...]] = {
    "limit": (
        Known("fgsm", "FGSM", "to teach: one gradient, weak"),
        Known("pgd", "PGD", "the usual first attack"),
        Known("bim", "BIM", "as pgd, without randomness", also="ifgsm"),
        Known("momentum", "MomentumIterative", "as bim, with momentum", also="mifgsm mim"),
        Known("nesterov", "NesterovIterative", "as momentum, looking ahead", also="nifgsm"),
        Known("apgd", "APGD", "no step size to choose"),
        Known("fine", "fine", "a target in a tight limit"),
        Known("gradient-ascent", "GradientAscent", "to learn: the textbook's loop"),
        Known("verdict", "Verdict", "the last word, at fewer passes", cost=VARIES),
        Known("autoattack", "AutoAttack", "to compare with published work", cost=VARIES, also="aa"),
    ),
    "smallest": (
        Known("minimum-norm", "MinimumNorm", "first choice: the best of several", cost=VARIES),
        Known("fmn", "FMN", "quick, in every norm"),
        Known("deepfool", "DeepFool", "a first estimate, in few steps", cost="1F + 10B"),
        Known("fab", "FAB", "AutoAttack's part, by itself", cost="1F + 10B"),
        Known("ddn", "DDN", "quick, in L2"),
        Known("alma", "ALMA", "many small steps, L2 and L1"),
        Known("pdgd", "PDGD", "hardened models, L2"),
        Known("pdpgd", "PDPGD", "hardened models, any norm"),
        Known("carlini-wagner", "CarliniWagner", "to compare: the classic of L2", also="cw c&w"),
        Known("elastic-net", "ElasticNet", "to compare: the classic of L1", also="ead"),
        Known("sigma-zero", "SigmaZero", "as few elements as possible"),
        Known("jsma", "JSMA", "to compare: the classic of L0", cost="2F + 2B"),
    ),
    "scores": (
        Known("square", "SquareAttack", "first choice", cost=QUERY),
        Known("sparse-rs", "SparseRS", "first choice in L0", cost=QUERY),
        Known("simba", "SimBA", "one element at a time", cost=QUERY),
        Known("nes", "NES", "gradients by asking", cost=QUERY),
        Known("spsa", "SPSA", "as nes, with Adam", cost=QUERY),
    ),
    "labels": (
        Known("rays", "RayS", "first choice in Linf", cost=QUERY),
        Known("cgba", "CGBA", "first choice in L2", cost=QUERY),
        Known("pointwise", "Pointwise", "first choice in L1 and L0", cost=QUERY),
        Known("hop-skip-jump", "HopSkipJump", "to compare: the classic", cost=QUERY, also="hsja"),
        Known("surfree", "SurFree", "as cgba, no normals estimated", cost=QUERY),
    ),
    "maps": (
        Known("segpgd", "SegPGD", "pgd, a class for each pixel", instead=MAPS),
        Known("sea", "SEA", "the worst of four runs", cost=VARIES, instead=MAPS),
    ),
    "wrappers": (
        Known("restarts", "Restarts", "several random starts", cost=TIMES, instead=RESTARTS),
        Known(
            "every-target",
            "EveryTarget",
            "each likely class in turn",
            cost=TIMES,
            instead=FROM_PYTHON,
        ),
        Known(
            "averaged-gradient",
            "AveragedGradient",
            "models that answer at random",
            cost=TIMES,
            instead=FROM_PYTHON,
        ),
        Known(
            "ensemble",
            "Ensemble",
            "one attack after the other",
            cost="the sum",
            instead=FROM_PYTHON,
        ),
    ),
}
ATTACKS: dict[str, Known] = {known.name: known for listed in _FAMILIES.values() for known in listed}


def attack_called(given: str) -> Known:
    """The attack of this name, however it is spelt; class names of Python are understood, too.

    Raises:
        InvalidInput: there is none; the message names the nearest.

    Example:
        >>> attack_called("Carlini_Wagner").name, attack_called("cw").name
        ('carlini-wagner', 'carlini-wagner')
    """
    spelt = {}
    for known in ATTACKS.values():
        for word in (*known.also.split(), known.kind, known.name):
            spelt[_plain(word)] = known
    if _plain(given) in spelt:
        return spelt[_plain(given)]
    close = nearest(given, ATTACKS, 3) or [spelt[word].name for word in nearest(given, spelt)]
    shown = given if len(given) < 60 else f"{given[:60]}..."
    raise InvalidInput(
        f"there is no attack {shown!r}; "
        + (f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(ATTACKS)}")
    )


def _plain(word: str) -> str:
    return word.casefold().replace("-", "").replace("_", "")
