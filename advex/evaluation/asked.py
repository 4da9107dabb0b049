"""What ``evaluate`` is asked to do: its arguments, checked before there is a file."""

from __future__ import annotations

import contextlib
import itertools
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from advex import attacks as shipped
from advex._arrays import Array
from advex._inputs import Bundle, Examples
from advex._keywords import public_name
from advex._settings import shown
from advex._space import grid_of
from advex.attacks import Attack
from advex.attacks.call import checked_call, demand_given
from advex.attacks.inputs import checked_inputs
from advex.budgets import Budget
from advex.budgets.each import Each, searched
from advex.driver.shapes import default_batch
from advex.errors import AdvexWarning, InvalidInput, InvalidType
from advex.evaluation.budgets import Within, demand_count, joined, of_rows, plain
from advex.evaluation.identity import budget_text
from advex.evaluation.pieces import Plan
from advex.evaluation.schema import checked_path
from advex.evaluation.source import Block, Source
from advex.evaluation.wanted import CLASSES, Make, kind_of, wanted
from advex.goals import Untargeted
from advex.model.protocol import Model

QUERIES = 1000  # of the attack without gradients, on each example
SAMPLE = 16  # rows that are used to build the model

BATCHES = 4  # of a block: rows can leave and others take their places

Attacks = Attack | Sequence[Attack] | Mapping[str, Attack] | None


@dataclass(frozen=True)
class Asked:
    """The arguments of an evaluation, checked, without the data."""

    classifier: Model
    attacks: dict[str, Attack]
    budget: Within
    seed: int
    batch_size: int | None
    block: int | None
    keep: str
    diagnose: bool
    goal: Make = None
    no_doctor: str | None = None
    """Why the doctor cannot look."""

    @property
    def settings(self) -> dict[str, Any]:
        """What must be the same when a run goes on, besides model and attacks."""
        return {
            "budget": budget_text(self.budget),
            "seed": self.seed,
            "batch_size": self.batch_size,
            "block": self.block,
            "keep": self.keep,
        }

    def plan(self, x: Array | Bundle, attacks: dict[str, Attack]) -> Plan:
        """What is done to each block of inputs such as ``x``; ``attacks`` in their order."""
        batch = self.batch_size or default_batch(self._example(x))
        size = self.block or BATCHES * batch
        return Plan(
            self.classifier,
            attacks,
            self.budget,
            self.seed,
            size,
            min(batch, size),
            self.keep,
            self.goal,
        )

    def blocks(self, source: Source) -> Iterator[Block]:
        """The blocks; their size follows from the batch size, or from the first inputs, where
        nobody has said it.
        """
        if self.block is not None or self.batch_size is not None:
            yield from source.blocks(self.block or BATCHES * (self.batch_size or 1))
            return
        batches = source.batches()
        first = next(batches, None)
        if first is None:
            return
        yield from Source(itertools.chain([first], batches), several=source.several).blocks(
            BATCHES * default_batch(self._example(first[0]))
        )

    def _example(self, x: Array | Bundle) -> tuple[int, ...]:
        """The shape of one example; of several inputs, or a layer's output, how long all are."""
        if not isinstance(x, Bundle) and not self.classifier.perturb:
            return x.shape[1:]
        with warnings.catch_warnings(), contextlib.suppress(InvalidInput, InvalidType):
            warnings.simplefilter("ignore", AdvexWarning)
            given = checked_inputs(self.classifier, x[:1])
            every = (
                [given]
                if not isinstance(given, Examples)
                else [given.attacked, *given.beside.values()]
            )
            return (sum(math.prod(each.shape[1:]) for each in every),)
        return x.shape[1:]  # what is wrong with them is said later


def checked_run(run: Any) -> Path | None:
    """The path of the run file; its folder exists."""
    if run is None:
        return None
    path = checked_path(run)
    if not path.parent.is_dir():
        raise InvalidInput(f"run={str(run)!r}: there is no folder {path.parent}")
    return path


def checked_seed(seed: Any) -> int:
    """The seed as a whole number of at most 64 bits."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
        raise InvalidType(f"seed must be a whole number; received {shown(seed)}")
    if not -(2**63) <= seed < 2**64:
        raise InvalidInput(
            f"seed must be a whole number of at most 64 bits; received {shown(seed)}"
        )
    return int(seed)


def named_attacks(attacks: Any, classifier: Model, budget: Budget) -> dict[str, Attack]:
    """The attacks with a name each: those given, their types, or the default ones."""
    if attacks is None:
        if classifier.gives == "labels":
            attacks = [shipped.MinimumNorm(steps=QUERIES)]
        elif not budget.limited:
            several = isinstance(budget, Each)
            attacks = [shipped.FMN() if several else shipped.MinimumNorm()]
        elif classifier.differentiable:
            attacks = [shipped.Verdict(), shipped.SquareAttack(steps=QUERIES)]
        else:
            attacks = [shipped.SquareAttack(steps=QUERIES)]
    if isinstance(attacks, Attack | type):  # a class is answered below
        attacks = [attacks]
    if isinstance(attacks, Mapping):
        if odd := [name for name in attacks if not isinstance(name, str) or not name.isprintable()]:
            raise InvalidType(
                f"the names of attacks must be text, such as 'PGD'; received {shown(odd[0])}"
            )
        named = dict(attacks)
    elif isinstance(attacks, list | tuple):
        named = {}
        for attack in attacks:
            name = type(attack).__name__
            same = sum(known == name or known.startswith(f"{name} ") for known in named)
            named[f"{name} {same + 1}" if same else name] = attack
    else:
        raise InvalidType(
            f"attacks must be one attack, a list of them, or names and attacks; received"
            f" {shown(attacks)}"
        )
    wrong = [attack for attack in named.values() if not isinstance(attack, Attack)]
    if wrong or not named:
        hint = (
            f": {public_name(wrong[0])}() with its brackets"
            if wrong and isinstance(wrong[0], type)
            else ""
        )
        raise InvalidType(
            "attacks must be attacks, such as advex.PGD(); received"
            f" {shown(wrong[0] if wrong else 'none')}{hint}"
        )
    return {name: attack.fitted(classifier) for name, attack in named.items()}


def demand_suitable(
    attacks: Mapping[str, Attack], classifier: Model, budget: Budget, goal: Make
) -> None:
    """Raise unless every attack can pursue labels within the budget, with what the model tells.
    With a goal, whether they can pursue it is asked when there are labels: ``examined``.
    """
    for attack in attacks.values():
        attack.check_settings()
        try:
            attack.check(Untargeted(np.zeros(0, "int32")), searched(budget))
        except InvalidType:
            if goal is None:
                raise
        for run in (run for wave in attack.plan(searched(budget)) for run in wave.runs):
            demand_given(run.attack, run.label, classifier, budget)


def examined(asked: Asked, source: Source, first: Block | None) -> list[str]:
    """Raise what can be said against the data before anything is written; of arrays too large to be
    copied the digests.

    Of data that come as a stream only the first block can be looked at.
    """
    if first is None:
        return []
    classifier, attacks = asked.classifier, asked.attacks
    x = checked_inputs(classifier, first.x)
    for attack in attacks.values():
        for wave in attack.plan():
            wave.attack.check_inputs(x.shape[1:])
    goal = wanted(asked.goal, first.labels, classifier).goal
    goal.check(len(first), classifier.known_classes if kind_of(goal) == CLASSES else None)
    whole = joined(asked.budget, classifier)
    for attack in attacks.values() if asked.goal is not None else ():
        attack.check(goal, searched(whole))
    if source.arrays is not None:
        demand_count(asked.budget, len(source.arrays[1]))
    if whole is not asked.budget or not plain(whole):
        rows = np.arange(len(first))
        for attack in attacks.values():  # whether the names of inputs, and masks, are theirs
            checked_call(attack, classifier, x, None, of_rows(asked.budget, x, rows), asked.seed)
    # builds the model, too
    sample = grid_of(classifier, x).entered(x[:SAMPLE])
    forward = classifier.forward(sample, goal.reading)
    digests = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AdvexWarning)  # the calls that follow say the same
        for block in [first] if source.arrays is None else source.blocks(len(first)):
            checked_inputs(classifier, block.x)
            goal = wanted(asked.goal, block.labels, classifier).goal
            goal.check(len(block), forward.classes)
            if source.arrays is not None and not source.copied:
                digests.append(block.digest)
    return digests
