"""What an evaluation found, read from its run file: figures, tables, one line for each example."""

from __future__ import annotations

import csv
import functools
import io
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from advex._arrays import Array
from advex._settings import helpful, shown
from advex.doctor import Diagnosis, Finding
from advex.errors import InvalidInput
from advex.evaluation.curves import Curve
from advex.evaluation.pieces import PICTURES
from advex.evaluation.store import Store, checked_path, seal, unpacked
from advex.images import replacing

POINTS = 200  # of a curve, in JSON
VERDICT = ("held", "broken", "undecided", "wrong", "invalid", "unfinished")


@dataclass(frozen=True)
class AttackSummary:
    """What one attack did: counts of the examples that were classified correctly, passes,
    seconds.
    """

    name: str
    settings: str
    attacked: int
    broken: int
    held: int
    fragile: int
    """Successes that rounding errors could undo; in neither count."""
    invalid: int
    """The model answered NaN during the search; in neither count."""
    alone: int
    """Broken by this attack and by no other."""
    accuracy: float | None
    """The share of all examples, the wrong ones included, that are right and not broken by this
    attack.
    """
    median_distance: float | None
    """Of those it broke."""
    gradients: int
    queries: int
    seconds: float


@dataclass(frozen=True)
class ClassSummary:
    """The examples of one class."""

    label: int
    name: str
    examples: int
    clean_accuracy: float | None
    robust_accuracy: float | None


@dataclass(frozen=True)
class Pair:
    """One adversarial input that was kept for the report."""

    example: int
    attack: str
    distance: float
    label: str
    """The true class."""
    prediction: str
    """What the model takes the changed input for."""
    confidence: float
    before: Array
    after: Array


class Evaluation:
    """What ``advex.evaluate`` found. ``Evaluation.load`` reads the run file of an earlier one.

    Every figure is of all examples to which the model answers at all; an accuracy under attack is
    an upper bound: a better attack may find less. An example counts as broken if any attack broke
        it, as held if none did, and as undecided if an attack came to
    no clear end there (a success within rounding errors, NaN during the search).

    Example:
        >>> import advex
        >>> data = advex.testing.linear_data()
        >>> found = advex.evaluate(advex.testing.linear_model(), data, advex.PGD(steps=5),
        ...     advex.Linf(0.2), diagnose=False)
        >>> found.clean_accuracy, found.robust_accuracy <= found.clean_accuracy
        (1.0, True)
    """

    def __init__(self, path: Path | None, store: Store | None = None) -> None:
        self.path = path
        self._store = store
        self._verified: tuple[Any, ...] | None = None

    @classmethod
    @helpful
    def load(cls, path: str | Path) -> Evaluation:
        """The evaluation in a run file, finished or not.

        Raises:
            InvalidInput: no such file, not a run file, a damaged one, or one that is being written.
            OSError: it cannot be read.
        """
        found = cls(checked_path(path, "path"))
        with found._open() as store:
            if store.fact("identity") is None:
                raise InvalidInput(f"{path} holds no run yet")
        return found

    # Reading.

    def _open(self) -> _Reading:
        return _Reading(self)

    @functools.cached_property
    def facts(self) -> dict[str, Any]:
        """What was written down about the run: versions, budget, classes and so on."""
        with self._open() as store:
            return {
                name: json.loads(value)
                for name, value in store.rows("SELECT name, value FROM facts")
            }

    @functools.cached_property
    def names(self) -> list[str]:
        """The names of the attacks."""
        with self._open() as store:
            return [name for (name,) in store.rows("SELECT name FROM attacks ORDER BY id")]

    @functools.cached_property
    def _table(self) -> dict[str, Array]:
        """One entry per example: number, label, prediction, worst verdict, smallest distance."""
        count = len(self.names)
        question = (
            "SELECT e.id, e.label, e.prediction, e.status, coalesce(sum(v.status = 'broken'), 0),"
            " coalesce(sum(v.status = 'held'), 0), count(v.status), min(v.distance)"
            " FROM examples e LEFT JOIN verdicts v ON v.example = e.id GROUP BY e.id ORDER BY e.id"
        )
        number, label, prediction, verdict, distance = [], [], [], [], []
        with self._open() as store:
            for id_, true, seen, status, broken, held, looked, near in store.stream(question):
                worst = (
                    status
                    if status != "correct"
                    else "broken"
                    if broken
                    else "unfinished"
                    if looked < count
                    else ""
                )
                worst = worst or ("held" if held == count else "undecided")
                number.append(id_)
                label.append(true)
                prediction.append(seen)
                verdict.append(VERDICT.index(worst))
                distance.append(0.0 if worst == "wrong" else math.inf if near is None else near)
        numbers, verdicts = np.asarray(number, "int64"), np.asarray(verdict, "int8")
        for first, last in self._partial:  # the wrong ones alone would give a false picture
            verdicts[(numbers >= first) & (numbers <= last)] = VERDICT.index("unfinished")
        return {
            "example": numbers,
            "label": np.asarray(label, "int64"),
            "prediction": np.asarray(prediction, "int64"),
            "verdict": verdicts,
            "distance": np.asarray(distance, "float64"),
        }

    @functools.cached_property
    def _partial(self) -> list[tuple[int, int]]:
        """The first and last example of each block that not all attacks have seen: none of it is in
        a figure.
        """
        with self._open() as store:
            return store.rows(
                "SELECT first, first + rows - 1 FROM blocks b WHERE (SELECT count(*)"
                " FROM work w WHERE w.block = b.id) < ?"
                " ORDER BY first",
                (len(self.names),),
            )

    def _is(self, *verdicts: str) -> Array:
        return np.isin(self._table["verdict"], [VERDICT.index(name) for name in verdicts])

    @property
    def _counted(self) -> Array:
        """Which examples the figures are of."""
        return self._is("held", "broken", "undecided", "wrong")

    # The figures.

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return bool(self.facts.get("finished"))

    @property
    def examples(self) -> int:
        """How many examples the figures are of."""
        return int(self._counted.sum())

    @property
    def invalid(self) -> int:
        """How many examples the model answers with NaN: they are in no figure."""
        return int(self._is("invalid").sum())

    @property
    def undecided(self) -> int:
        """How many examples no attack broke and at least one attack came to no clear end on."""
        return int(self._is("undecided").sum())

    @property
    def clean_accuracy(self) -> float | None:
        """The share of examples that are classified correctly without any attack; None without
        examples.
        """
        return _share(self._is("held", "broken", "undecided"), self._counted)

    @property
    def robust_accuracy(self) -> float | None:
        """The share of examples that are classified correctly and that no attack broke; None
        without examples.
        """
        return _share(self._is("held"), self._counted)

    @property
    def interval(self) -> tuple[float, float] | None:
        """Where ``robust_accuracy`` lies for more data of the same kind, with 95 % confidence
        (Wilson's interval).
        """
        return _wilson(int(self._is("held").sum()), self.examples)

    @property
    def label(self) -> Array:
        """The true class of each example, (n,) int."""
        return self._table["label"]

    @property
    def prediction(self) -> Array:
        """The class predicted for each example as it is, (n,) int."""
        return self._table["prediction"]

    @property
    def distance(self) -> Array:
        """The smallest change that any attack found for each example, (n,) float64: 0 where it was
        wrong, inf where none did.
        """
        return self._table["distance"]

    @property
    def broken(self) -> Array:
        """Whether an attack broke each example, (n,) bool; False where it was wrong before."""
        return self._is("broken")

    @functools.cached_property
    def matrix(self) -> Array:
        """Which attack broke which example, (attacks, n) bool, in the order of ``attacks``."""
        made = np.zeros((len(self.names), len(self._table["example"])), bool)
        with self._open() as store:
            for attack, example in store.stream(
                "SELECT attack, example FROM verdicts WHERE status = 'broken'"
            ):
                made[attack, np.searchsorted(self._table["example"], example)] = True
        made[:, self._is("unfinished")] = False
        return made

    @functools.cached_property
    def attacks(self) -> list[AttackSummary]:
        """What each attack did."""
        alone = (self.matrix & (self.matrix.sum(axis=0) == 1)).sum(axis=1)
        wrong = int(self._is("wrong").sum())
        made = []
        with self._open() as store:
            for number, name, settings in store.rows(
                "SELECT id, name, settings FROM attacks ORDER BY id"
            ):
                counts: dict[str, int] = {}
                gradients = queries = 0
                distances: list[float] = []
                whole = "".join(
                    f" AND NOT example BETWEEN {first} AND {last}" for first, last in self._partial
                )
                for status, count, backward, forward in store.rows(
                    "SELECT status, count(*), sum(gradients), sum(queries)"  # noqa: S608
                    " FROM verdicts"
                    f" WHERE attack = ?{whole} GROUP BY status",
                    (number,),
                ):
                    counts[status] = count
                    gradients, queries = gradients + backward, queries + forward
                for (distance,) in store.stream(
                    (
                        f"SELECT distance FROM verdicts WHERE attack = ? AND status ="  # noqa: S608
                        f" 'broken'{whole}"
                    ),
                    (number,),
                ):
                    distances.append(distance)
                seconds = store.one(
                    "SELECT coalesce(sum(seconds), 0) FROM work WHERE attack = ?", (number,)
                )[0]
                total = sum(counts.values())
                made.append(
                    AttackSummary(
                        name,
                        settings,
                        total,
                        counts.get("broken", 0),
                        counts.get("held", 0),
                        counts.get("fragile", 0),
                        counts.get("invalid", 0),
                        int(alone[number]),
                        counts.get("held", 0) / (total + wrong) if total + wrong else None,
                        float(np.median(distances)) if distances else None,
                        int(gradients),
                        int(queries),
                        float(seconds),
                    )
                )
        return made

    @property
    def per_class(self) -> list[ClassSummary]:
        """Accuracies of the examples of each class."""
        made = []
        right, held, counted = (
            self._is("held", "broken", "undecided"),
            self._is("held"),
            self._counted,
        )
        for label in np.unique(self.label[counted]):
            own = counted & (self.label == label)
            summary = ClassSummary(
                int(label),
                self.caption(int(label)),
                int(own.sum()),
                _share(right, own),
                _share(held, own),
            )
            made.append(summary)
        return made

    @property
    def curve(self) -> Curve:
        """Accuracy over radii, an upper bound: attacks within a limit look for any success inside,
        not for the nearest one.
        """
        epsilon = self.facts["epsilon"]
        limit = math.inf if epsilon is None else epsilon
        distances = np.where(self._is("undecided"), limit, self.distance)[self._counted]
        return Curve(distances, self.facts["norm"], limit)

    @property
    def sample_curve(self) -> Curve | None:
        """Accuracy over all radii, of the few examples that were classified correctly and that the
        doctor looked at, by ``FMN``.

        None without the doctor, without gradients, or where the budget has no limit: then ``curve``
        says it of all.
        """
        sample = self.facts.get("sample")
        if sample is None:
            return None
        return Curve(
            np.asarray([math.inf if value is None else value for value in sample["distances"]]),
            self.facts["norm"],
        )

    @property
    def passes(self) -> dict[str, int]:
        """Forward passes (``queries``) and backward passes (``gradients``) of the attacks;
        ``clean`` and ``checks`` beside.
        """
        with self._open() as store:
            clean = store.one("SELECT coalesce(sum(queries), 0) FROM blocks")[0]
            checks = store.one("SELECT coalesce(sum(checks), 0) FROM work")[0]
        gradients, queries = (
            sum(getattr(attack, name) for attack in self.attacks)
            for name in ("gradients", "queries")
        )
        return {"gradients": gradients, "queries": queries, "clean": clean, "checks": checks}

    @property
    def seconds(self) -> float:
        """Seconds spent on all blocks, in whatever process."""
        with self._open() as store:
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
    def warnings(self) -> list[str]:
        """What the attacks warned of, each kind once, with the number of blocks if it was said of
        several.
        """
        kinds: dict[str, list[str]] = {}
        with self._open() as store:
            rows = store.rows(
                "SELECT a.name, w.warnings FROM work w JOIN attacks a ON a.id ="
                " w.attack WHERE w.warnings != '[]'"
                " ORDER BY w.attack, w.block"
            )
        for name, code in rows:
            for sentence in json.loads(code):
                kind = name + "".join(letter for letter in sentence if not letter.isdigit())
                kinds.setdefault(kind, []).append(f"{name}: {sentence}")
        return [
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
        import hashlib

        made = hashlib.blake2b(digest_size=16)
        with self._open() as store:
            for (digest,) in store.stream("SELECT digest FROM blocks ORDER BY id"):
                made.update(digest.encode())
        return {"weights": self.facts["identity"]["weights"], "data": made.hexdigest()}

    def caption(self, label: int) -> str:
        """The name of a class, or its number."""
        names = self.facts["classes"]
        return names[label] if names and 0 <= label < len(names) else str(label)

    # The examples.

    def rows(self) -> Iterator[dict[str, Any]]:
        """One dict per example: label, prediction, verdict, and of each attack status, distance,
        label, confidence, passes.
        """
        with self._open() as store:
            verdicts = store.stream(
                "SELECT example, attack, status, distance, prediction, confidence,"
                " gradients, queries, seconds, broken_by"
                " FROM verdicts ORDER BY example, attack"
            )
            held = next(verdicts, None)
            columns = (
                "status",
                "distance",
                "prediction",
                "confidence",
                "gradients",
                "queries",
                "seconds",
                "broken_by",
            )
            confidences = store.stream("SELECT confidence FROM examples ORDER BY id")
            for place, (confidence,) in enumerate(confidences):
                entry = {
                    "example": int(self._table["example"][place]),
                    "label": int(self.label[place]),
                    "prediction": int(self.prediction[place]),
                    "confidence": confidence,
                    "verdict": VERDICT[self._table["verdict"][place]],
                    "distance": float(self.distance[place]),
                }
                found: dict[int, tuple[Any, ...]] = {}
                while held is not None and held[0] == entry["example"]:
                    found[held[1]] = held[2:]
                    held = next(verdicts, None)
                for number, name in enumerate(self.names):
                    values = found.get(number, (None,) * len(columns))
                    entry |= {
                        f"{name}.{column}": value
                        for column, value in zip(columns, values, strict=True)
                    }
                yield entry

    def adversarial(self, example: int, attack: str | int = 0) -> Array | None:
        """The adversarial input that was kept of one example, dtype and shape of the data's; None
        where there is none.

        Raises:
            InvalidInput: nothing was kept (``keep="success"``), or no such attack.
        """
        if self.facts["identity"]["keep"] != "success":
            raise InvalidInput(
                "this run did not keep adversarial inputs: evaluate(..., keep='success')"
            )
        number = self._number(attack)
        with self._open() as store:
            found = store.rows(
                "SELECT adversarial FROM verdicts WHERE attack = ? AND example = ?",
                (number, int(example)),
            )
            if not found or found[0][0] is None:
                return None
            store.sealed("input", number, int(example), seal(found[0][0]))
        return unpacked(found[0][0], self._shape)

    @property
    def _shape(self) -> list[int]:
        shape: list[int] = json.loads(self.facts["inputs"].partition(" ")[2])
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
        """The broken examples that are nearest to the boundary, or farthest from it: at most four,
        no example twice.
        """
        if place not in ("nearest", "farthest"):
            raise InvalidInput(f"place must be 'nearest' or 'farthest'; received {shown(place)}")
        made: list[Pair] = []
        with self._open() as store:
            rows = store.rows(
                "SELECT p.example, p.attack, p.distance, p.before, p.after,"
                " v.prediction, v.confidence FROM pictures p"
                " JOIN verdicts v ON v.attack = p.attack AND v.example = p.example"
                " WHERE p.place = ?"
                " ORDER BY p.distance, p.example",
                (place,),
            )
            for (
                example,
                attack,
                distance,
                before,
                after,
                *_,
            ) in rows:  # all: a wrong distance would let others be chosen
                store.sealed(place, attack, example, seal(distance, before, after))
        best: dict[int, tuple[Any, ...]] = {}
        for row in rows:
            best.setdefault(row[0], row)
        chosen = (
            list(best.values())[:PICTURES]
            if place == "nearest"
            else list(best.values())[::-1][:PICTURES]
        )
        for example, attack, distance, before, after, prediction, confidence in chosen:
            made.append(
                Pair(
                    example,
                    self.names[attack],
                    distance,
                    self.caption(int(self.label[example])),
                    self.caption(prediction),
                    confidence,
                    unpacked(before, self._shape),
                    unpacked(after, self._shape),
                )
            )
        return made

    # For others.

    def to_dict(self) -> dict[str, Any]:
        """All figures as plain values for JSON; not the single examples."""
        curve = self.curve
        few: Array = np.unique(
            np.linspace(0, max(0, len(curve.radii) - 1), POINTS).round().astype(int)
        )[: len(curve.radii)]
        return {
            "advex": self.versions["advex"],
            "finished": self.finished,
            "model": self.facts["model"],
            "budget": self.budget,
            "norm": self.facts["norm"],
            "epsilon": self.facts["epsilon"],
            "examples": self.examples,
            "invalid": self.invalid,
            "undecided": self.undecided,
            "clean_accuracy": self.clean_accuracy,
            "robust_accuracy": self.robust_accuracy,
            "interval": list(self.interval) if self.interval is not None else None,
            "attacks": [asdict(attack) for attack in self.attacks],
            "classes": [asdict(summary) for summary in self.per_class],
            "curve": {"radii": curve.radii[few].tolist(), "accuracy": curve.accuracy[few].tolist()},
            "sample": self.facts.get("sample"),
            "flags": [asdict(flag) for flag in self.flags],
            "diagnosis": self.facts.get("diagnosis"),
            "warnings": self.warnings,
            "passes": self.passes,
            "seconds": self.seconds,
            "began": self.facts["began"],
            "seed": self.seed,
            "hashes": self.hashes,
            "versions": self.versions,
            "settings": self.facts["identity"],
        }

    @helpful
    def to_json(self, path: str | Path | None = None, overwrite: bool = False) -> str:
        """``to_dict`` as text; also written to ``path`` if there is one."""
        text = json.dumps(self.to_dict(), indent=2, allow_nan=False)
        if path is not None:
            with replacing(Path(path), overwrite=overwrite) as handle:
                handle.write(text.encode())
        return text

    @helpful
    def to_csv(self, path: str | Path, overwrite: bool = False) -> Path:
        """One line per example; written to ``path``."""
        path = Path(path)
        with replacing(path, overwrite=overwrite) as handle:
            text = io.TextIOWrapper(handle, "utf-8", newline="")
            writer: Any = None
            for entry in self.rows():
                if writer is None:
                    writer = csv.DictWriter(text, list(entry))
                    writer.writeheader()
                writer.writerow(entry)
            text.flush()
            text.detach()
        return path

    def to_pandas(self) -> Any:
        """One row per example as a pandas frame, the example's number its index.

        Raises:
            ImportError: pandas is missing.
        """
        try:
            import pandas
        except ImportError:
            raise ImportError("frames are made by pandas: pip install pandas") from None
        listed = list(self.rows())
        return pandas.DataFrame(listed).set_index("example") if listed else pandas.DataFrame()

    @helpful
    def report(self, path: str | Path, overwrite: bool = False) -> Path:
        """One self-contained HTML page.

        Raises:
            InvalidInput: the file exists already. ImportError: Jinja2 or matplotlib is missing.
        """
        from advex import report

        return report.write(self, Path(path), overwrite=overwrite)

    # For people.

    def __repr__(self) -> str:
        flags = f", flags: {', '.join(flag.id for flag in self.flags)}" if self.flags else ""
        return f"Evaluation({self.headline()}{flags})"

    def headline(self) -> str:
        """The result in one sentence."""
        if not self.examples:
            return "no examples"
        names = ", ".join(self.names)
        state = "" if self.finished else "unfinished: "
        sentence = (
            f"{state}{self.robust_accuracy:.1%} of {self.examples} examples not broken by"
            f" {names} within {self.budget}"
        )
        return f"{sentence}, {self.clean_accuracy:.1%} right without attack"

    def __str__(self) -> str:
        lines = [self.headline()]
        if self.interval is not None:
            lines.append(
                f"95 % interval {self.interval[0]:.1%} to {self.interval[1]:.1%}; an"
                f" upper bound: a better attack may find less"
            )
        width = max((len(name) for name in self.names), default=6)
        lines.append(
            f"{'attack':<{width}}  attacked  broken  alone  not broken  gradients  queries  seconds"
        )
        for attack in self.attacks:
            count = max(1, attack.attacked)
            lines.append(
                f"{attack.name:<{width}}  {attack.attacked:8}  {attack.broken:6} "
                f" {attack.alone:5}  "
                f"{'' if attack.accuracy is None else f'{attack.accuracy:.1%}':>10} "
                f" {attack.gradients / count:9.1f}"
                f"  {attack.queries / count:7.1f}  {attack.seconds:7.1f}"
            )
        lines += [f"FLAG {flag.id} {flag.name}: {flag.found}" for flag in self.flags]
        if self.diagnosis is None:
            lines.append("The doctor has not looked (diagnose=False).")
        lines += [
            f"{count} {what}"
            for count, what in ((self.invalid, "invalid"), (self.undecided, "undecided"))
            if count
        ]
        return "\n".join(lines + self.warnings)

    def _repr_html_(self) -> str:
        from advex import report

        return report.fragment(self)


class _Reading:
    """A store that is open, or one that is opened for the time of a question and verified if it has
    changed since.
    """

    def __init__(self, evaluation: Evaluation) -> None:
        self.evaluation, self.store, self.path = evaluation, evaluation._store, evaluation.path

    def __enter__(self) -> Store:
        if self.store is not None or self.path is None:
            self.opened = self.store if self.store is not None else Store(None, write=False)
            return self.opened
        self.opened = Store(self.path, write=False)
        try:
            with self.opened.named():
                self.opened.database.execute("BEGIN")  # what was looked through is what is read
            seen = _state(self.path)
            if seen != self.evaluation._verified:
                self.opened.verify()
                self.evaluation._verified = seen
        except BaseException:
            self.opened.database.close()
            raise
        return self.opened

    def __exit__(self, *_: Any) -> None:
        if self.store is None:
            self.opened.database.close()


def _state(path: Path) -> tuple[Any, ...]:
    """What changes whenever a file is written."""
    about = path.stat()
    return about.st_ino, about.st_size, about.st_mtime_ns


def _share(part: Array, whole: Array) -> float | None:
    """The share of ``part`` among ``whole``; None without any."""
    return float((part & whole).sum() / whole.sum()) if whole.any() else None


def _wilson(count: int, total: int) -> tuple[float, float] | None:
    """The 95 % interval of a share."""
    if not total:
        return None
    z, share = 1.959964, count / total
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = (
        z
        / (1 + z * z / total)
        * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    )
    return max(0.0, middle - half), min(1.0, middle + half)
