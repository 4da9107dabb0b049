"""The figures of an evaluation, read from its run file."""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from advex._arrays import Array
from advex._settings import shown
from advex.doctor import Diagnosis, Finding
from advex.errors import InvalidInput
from advex.evaluation import summaries
from advex.evaluation.curves import Curve, QueryCurve, query_curve
from advex.evaluation.error_figures import Errors, errors
from advex.evaluation.label_figures import LabelSummary, per_label
from advex.evaluation.map_figures import MapFigure, MapFigures, map_figures
from advex.evaluation.perturbed import split
from advex.evaluation.pooled import (
    About,
    Pooled,
    pooled,
    read_ends,
    read_held,
    some_curve,
    whole_curve,
)
from advex.evaluation.reading import RunFile, read_input, read_pairs, read_rows
from advex.evaluation.schema import PICTURES
from advex.evaluation.store import Store
from advex.evaluation.summaries import AttackSummary, ClassSummary, Pair
from advex.evaluation.table import (
    Table,
    in_order,
    read_answers,
    read_matrix,
    read_table,
    share,
    wilson,
)
from advex.evaluation.wanted import CLASSES, KINDS, LABELS, MAPS, NUMBERS, OTHER


class Figures:
    """All that a run file says about a model: shares, distances, passes, single examples.

    Attributes:
        path: the run file; None for a run that was not kept.
    """

    def __init__(self, path: Path | None, store: Store | None = None) -> None:
        self.path = path
        self._file = RunFile(path, store)

    @functools.cached_property
    def facts(self) -> dict[str, Any]:
        """What was written down about the run: versions, budget, classes and so on."""
        with self._file.open() as store:
            return {
                name: json.loads(value)
                for name, value in store.rows("SELECT name, value FROM facts")
            }

    @functools.cached_property
    def names(self) -> list[str]:
        """The names of the attacks."""
        with self._file.open() as store:
            return [name for (name,) in store.rows("SELECT name FROM attacks ORDER BY id")]

    @functools.cached_property
    def _table(self) -> Table:
        count = len(self.names)  # before: one question at a time
        with self._file.open() as store:
            return read_table(store, count)

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return bool(self.facts.get("finished"))

    @property
    def examples(self) -> int:
        """How many examples the figures are of."""
        return int(self._table.counted.sum())

    @property
    def invalid(self) -> int:
        """How many examples the model answers with NaN: they are in no figure."""
        return int(self._table.are("invalid").sum())

    @property
    def wrong(self) -> int:
        """How many examples are wrong without any attack: none has attacked them."""
        return int(self._table.are("wrong").sum())

    @property
    def undecided(self) -> int:
        """How many examples no attack broke and at least one attack came to no clear end on."""
        return int(self._table.are("undecided").sum())

    @property
    def clean_accuracy(self) -> float | None:
        """The share of examples that are classified correctly without any attack; None without
        examples.
        """
        return share(self._table.are("held", "broken", "undecided"), self._table.counted)

    @property
    def robust_accuracy(self) -> float | None:
        """The share of examples that are classified correctly and that no attack broke; None
        without examples.
        """
        return share(self._table.are("held"), self._table.counted)

    @property
    def interval(self) -> tuple[float, float] | None:
        """Where ``robust_accuracy`` lies for more data of the same kind, with 95 % confidence
        (Wilson's interval).
        """
        return wilson(int(self._table.are("held").sum()), self.examples)

    @property
    def kind(self) -> str:
        """What the goal is about: "classes", "labels", "numbers", "maps" or "other"."""
        return str(self.facts.get("goal", {}).get("kind", CLASSES))

    @property
    def goal(self) -> str:
        """What counts as a success, in words."""
        return str(self.facts.get("goal", {}).get("text", "Untargeted()"))

    @property
    def attacked(self) -> str:
        """What of its inputs was attacked, in words; empty for one array in a box."""
        return str((self.facts.get("attacked") or {}).get("text", ""))

    @property
    def measured(self) -> str:
        """What there are figures of: ``kind``, but "other" for classes and maps that are to be
        reached, of which nothing true is known.
        """
        return OTHER if self.targeted and self.kind in (CLASSES, MAPS) else self.kind

    @property
    def targeted(self) -> bool:
        """Whether the labels of the run are what the attacks are to reach, and not what is true."""
        return bool(self.facts.get("goal", {}).get("targeted"))

    @property
    def towards_classes(self) -> bool:
        """Whether each label is a class that is to be reached: what is true is not known."""
        return self.kind == CLASSES and self.targeted

    def _demand(self, name: str, kind: str, goal: str) -> None:
        """Raise unless the goal is about what a figure needs."""
        if self.measured != kind:
            about = KINDS[self.kind] if self.measured == self.kind else f"{self.kind} to be reached"
            raise InvalidInput(
                f"found.{name} is of runs about {KINDS[kind]}, and this one is about {about}:"
                f" advex.evaluate(model, (x, labels), attacks, budget{goal})"
            )

    @property
    def label(self) -> Array:
        """The true class of each example, (n,) int."""
        self._demand("label", CLASSES, "")
        return self._table.label

    @property
    def prediction(self) -> Array:
        """The class predicted for each example as it is, (n,) int."""
        if not self.towards_classes:
            self._demand("prediction", CLASSES, "")
        return self._table.prediction

    @property
    def distance(self) -> Array:
        """The smallest change that any attack found for each example, (n,) float64: 0 where it was
        wrong, inf where none did.
        """
        return self._table.distance

    @property
    def broken(self) -> Array:
        """Whether an attack broke each example, (n,) bool; False where it was wrong before."""
        return self._table.are("broken")

    @functools.cached_property
    def matrix(self) -> Array:
        """Which attack broke which example, (attacks, n) bool, in the order of ``attacks``."""
        table, count = self._table, len(self.names)
        with self._file.open() as store:
            return read_matrix(store, table, count)

    @functools.cached_property
    def attacks(self) -> list[AttackSummary]:
        """What each attack did."""
        table, matrix = self._table, self.matrix
        with self._file.open() as store:
            found = summaries.per_attack(store, table, matrix)
        return [replace(one, figures=self._figures_of(one.name)) for one in found]

    def _figures_of(self, attack: str) -> dict[str, float]:
        """What there is of an attack for a goal that is not about one class."""
        if not self.examples:
            return {}
        if self.measured == NUMBERS:
            quantiles = self.errors.quantiles()[attack]
            return {f"{name} error": value for name, value in asdict(quantiles).items()}
        if self.measured == MAPS:
            return {
                "pixel accuracy": self.pixel_accuracy.attacks[attack],
                "mean IoU": self.mean_iou.attacks[attack],
            }
        return {}

    @functools.cached_property
    def per_label(self) -> list[LabelSummary]:
        """Of a run with ``goal=advex.MultiLabel``: how often each label is there, is right without
        attack, and is turned by each attack.
        """
        self._demand("per_label", LABELS, ", goal=advex.MultiLabel")
        table, names = self._table, self.names
        with self._file.open() as store:
            return per_label(store, table, names, self.facts["classes"])

    @functools.cached_property
    def errors(self) -> Errors:
        """Of a run with ``advex.Regression``: the absolute errors before and after each attack."""
        self._demand("errors", NUMBERS, ", goal=lambda y: advex.Regression(y, off=0.5)")
        table, names = self._table, self.names
        with self._file.open() as store:
            return errors(store, table, names)

    @property
    def pixel_accuracy(self) -> MapFigure:
        """Of a run with ``goal=advex.Segmentation``: the share of the pixels that are right,
        before, after each attack, and with the worst attack for each image.
        """
        return self._maps("pixel_accuracy").pixel_accuracy

    @property
    def mean_iou(self) -> MapFigure:
        """Of a run with ``goal=advex.Segmentation``: the mean over the classes of intersection over
        union; its worst case is chosen greedily.
        """
        return self._maps("mean_iou").mean_iou

    def _maps(self, name: str) -> MapFigures:
        self._demand(name, MAPS, ", goal=advex.Segmentation")
        found = self._map_figures
        if found is None:
            raise InvalidInput(f"found.{name}: no example has been attacked yet")
        return found

    @functools.cached_property
    def _map_figures(self) -> MapFigures | None:
        table, names = self._table, self.names
        with self._file.open() as store:
            return map_figures(store, table, names)

    @property
    def per_class(self) -> list[ClassSummary]:
        """Accuracies of the examples of each class."""
        self._demand("per_class", CLASSES, "")
        return summaries.per_class(self._table, self.facts["classes"])

    @property
    def curve(self) -> Curve:
        """Accuracy over radii, an upper bound, from the smallest change that is known of each
        example: the doctor's search without a limit is counted with the attacks.

        An attack within a limit stops at its first success, which need not be the nearest: where
        the doctor has not searched for all, only 0 and the limit say something (``exact`` is
        False); ``sample_curve`` is of those for which it has.
        """
        return whole_curve(self._table, self.known, self.facts["norm"], self.facts["epsilon"])

    @functools.cached_property
    def known(self) -> Pooled:
        """The smallest change that is known of each example, whoever found it."""
        return pooled(self._table, self.facts.get("sample"))

    @property
    def broken_by_doctor(self) -> Array:
        """Which examples the doctor's search has broken within the budget and no attack of the run
        has, (n,) bool: the headline counts them as held, or as undecided.
        """
        table, epsilon = self._table, self.facts["epsilon"]
        near = self.known.distance <= (math.inf if epsilon is None else epsilon)
        return self.known.searched & near & table.are("held", "undecided")

    @property
    def robust_at_most(self) -> float | None:
        """``robust_accuracy`` less what the doctor's search has broken; None without examples."""
        return share(self._table.are("held") & ~self.broken_by_doctor, self._table.counted)

    @functools.cached_property
    def prediction_under_attack(self) -> Array:
        """The class predicted for each example after the attack that broke it with the smallest
        change, (n,) int; that of the example as it is where none did.
        """
        if not self.towards_classes:
            self._demand("prediction_under_attack", CLASSES, "")
        table = self._table
        with self._file.open() as store:
            return read_answers(store, table)

    @functools.cached_property
    def query_curve(self) -> QueryCurve:
        """Accuracy within the budget after so many queries for each example, one attack after the
        other in their order: what an attacker without gradients needs.

        Raises:
            InvalidInput: the budget has no limit: then every query may make the change smaller.
        """
        if self.facts["epsilon"] is None:
            raise InvalidInput(
                "a run without a limit asks on after its first success: a curve over queries is of"
                f" a run within a limit, such as advex.{self.facts['norm']}(...)"
            )
        table = self._table
        spent = np.zeros(len(table.example))
        broken = np.zeros(len(table.example), bool)
        with self._file.open() as store:
            asked = store.stream(
                "SELECT example, status, queries FROM verdicts ORDER BY example, attack"
            )
            for example, status, queries in asked:
                place = np.searchsorted(table.example, example)
                if not broken[place]:
                    spent[place] += queries
                    broken[place] = status == "broken"
        status = np.where(table.are("wrong"), "clean", np.where(broken, "broken", "held"))
        return query_curve(status[table.counted], spent[table.counted])

    @property
    def sample_curve(self) -> Curve | None:
        """Accuracy over all radii, of the few examples that were classified correctly and that the
        doctor looked at: by the smallest change that it or an attack of the run found.

        None without the doctor, without gradients, or where the budget has no limit: then ``curve``
        says it of all.
        """
        return some_curve(self._table, self.known, self.facts["norm"])

    @property
    def passes(self) -> dict[str, int]:
        """Forward passes (``queries``) and backward passes (``gradients``) of the attacks;
        ``clean`` and ``checks`` beside.
        """
        with self._file.open() as store:
            clean = store.one("SELECT coalesce(sum(queries), 0) FROM blocks")[0]
            checks = store.one("SELECT coalesce(sum(checks), 0) FROM work")[0]
        checks += self.facts.get("range", {}).get("queries", 0)
        gradients, queries = (
            sum(getattr(attack, name) for attack in self.attacks)
            for name in ("gradients", "queries")
        )
        return {"gradients": gradients, "queries": queries, "clean": clean, "checks": checks}

    @property
    def seconds(self) -> float:
        """Seconds spent on all blocks, in whatever process."""
        with self._file.open() as store:
            clean = store.one("SELECT coalesce(sum(seconds), 0) FROM blocks")[0]
        return float(clean + sum(attack.seconds for attack in self.attacks))

    @property
    def diagnosis(self) -> Diagnosis | None:
        """What the doctor said; None where it was not asked, or has not looked yet."""
        kept = self.facts.get("diagnosis")
        return None if kept is None else Diagnosis.from_dict(kept)

    @property
    def flags(self) -> tuple[Finding, ...]:
        """What the doctor warns of."""
        return self.diagnosis.flags if self.diagnosis is not None else ()

    @property
    def wrong_range(self) -> str:
        """What the first look warned of, if the inputs seem to lie in another range than the
        model's: it is about all figures.
        """
        return str(self.facts.get("range", {}).get("said", ""))

    @property
    def warnings(self) -> list[str]:
        """What the first look and the attacks warned of, each kind once, with the number of blocks
        if it was said of several.
        """
        first = self.wrong_range
        kinds: dict[str, list[str]] = {}
        with self._file.open() as store:
            rows = store.rows(
                "SELECT a.name, w.warnings FROM work w JOIN attacks a ON a.id = w.attack WHERE"
                " w.warnings != '[]' ORDER BY w.attack, w.block"
            )
        for name, code in rows:
            for sentence in json.loads(code):
                kind = name + "".join(letter for letter in sentence if not letter.isdigit())
                kinds.setdefault(kind, []).append(f"{name}: {sentence}")
        order = ""
        if self.diagnosis is not None and self.measured == CLASSES:
            order = in_order(self._table, self.diagnosis.examples)
        return [said for said in (first, order) if said] + [
            said[0] + (f" (and {len(said) - 1} more blocks)" if said[1:] else "")
            for said in kinds.values()
        ]

    @property
    def seed(self) -> int:
        """What decided all random numbers, together with each input's content."""
        return int(self.facts["identity"]["seed"])

    @property
    def budget(self) -> str:
        """How far each input might be moved."""
        return str(self.facts["identity"]["budget"])

    @property
    def versions(self) -> dict[str, str]:
        """Of advex, Keras, the backend and NumPy."""
        return dict(self.facts["versions"])

    @functools.cached_property
    def hashes(self) -> dict[str, str]:
        """Of the weights, and of the data: of each block's hash in order."""
        made = hashlib.blake2b(digest_size=16)
        with self._file.open() as store:
            for (digest,) in store.stream("SELECT digest FROM blocks ORDER BY id"):
                made.update(digest.encode())
        return {"weights": self.facts["identity"]["weights"], "data": made.hexdigest()}

    def caption(self, label: int) -> str:
        """The name of a class, or its number."""
        return summaries.caption(self.facts["classes"], label)

    # The examples.

    def rows(self) -> Iterator[dict[str, Any]]:
        """One dict per example: label, prediction, verdict, and of each attack status, distance,
        label, confidence, passes. Of a run towards classes ``target`` in place of ``label``.
        """
        table, names = self._table, self.names
        with self._file.open() as store:
            rows = read_rows(store, table, names, details=self.kind != CLASSES)
            yield from map(_to_target, rows) if self.towards_classes else rows

    def adversarial(self, example: int, attack: str | int = 0) -> Any:
        """The adversarial input that was kept of one example, dtype and shape of the data's; of a
        layer its output; where several inputs are attacked at once a dict of them. None where there
        is none.

        Raises:
            InvalidInput: nothing was kept (``keep="success"``), or no such attack.
        """
        if self.facts["identity"]["keep"] != "success":
            raise InvalidInput(
                "this run did not keep adversarial inputs: advex.evaluate(model, data, attacks,"
                " budget, keep='success') does"
            )
        number, shape = self._number(attack), self._shape
        with self._file.open() as store:
            found = read_input(store, int(example), number, shape)
        return None if found is None else split(found, self.facts.get("attacked"))

    @property
    def _shape(self) -> list[int]:
        shape: list[int] = json.loads((self.facts["inputs"] or "none []").partition(" ")[2])
        return shape

    def _number(self, attack: str | int) -> int:
        if isinstance(attack, str) and attack in self.names:
            return self.names.index(attack)
        if (
            isinstance(attack, int)
            and not isinstance(attack, bool)
            and 0 <= attack < len(self.names)
        ):
            return attack
        raise InvalidInput(
            f"there is no attack {shown(attack)} in this run; it has {', '.join(self.names)}"
        )

    def pairs(self, place: str = "nearest") -> list[Pair]:
        """Examples that were kept to be shown, at most four, no example twice: the broken ones that
        are nearest to the boundary, those that are farthest from it, some that held, or some that
        only the doctor's search has broken within the budget (``"doctor"``).

        Where the doctor knows how far beyond the budget one that held breaks, the pair is of that
        change; else ``before`` and ``after`` are the same and the distance is inf.
        """
        if place not in ("nearest", "farthest", "held", "doctor"):
            raise InvalidInput(
                f"place must be 'nearest', 'farthest', 'held' or 'doctor'; received {shown(place)}"
            )
        table, kind, classes = self._table, self.kind, self.facts["classes"]
        with self._file.open() as store:
            if kind != CLASSES:
                about = self.names, table.label, classes, self._shape, kind
                ends = place in ("nearest", "farthest")
                found = read_pairs(store, place, PICTURES, *about) if ends else []
            else:
                told = About(
                    self.names, classes, self._shape, self.broken_by_doctor, self._label_of
                )
                found = (
                    read_held(store, table, self.known, told)
                    if place == "held"
                    else read_ends(store, place, table, self.known, told)
                )
        fact = self.facts.get("attacked")
        return [
            replace(pair, before=split(pair.before, fact), after=split(pair.after, fact))
            for pair in found
        ]

    def _label_of(self, example: int) -> str:
        """The true class of an example; of a run towards classes what the model said before."""
        table = self._table
        before = table.prediction if self.targeted else table.label
        return self.caption(int(before[np.searchsorted(table.example, example)]))


def _to_target(entry: dict[str, Any]) -> dict[str, Any]:
    """A row of a run towards classes: what it has as its label is no truth."""
    return {"target" if name == "label" else name: value for name, value in entry.items()}
