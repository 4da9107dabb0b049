"""``evaluate``: data of any length, attacked block by block; each finished piece is written down
before the next begins.
"""

from __future__ import annotations

import contextlib
import itertools
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import keras
import numpy as np

from advex import _backend
from advex import attacks as known
from advex._arrays import Array
from advex._grid import Grid
from advex._settings import helpful, shown, switch, whole_number
from advex._version import VERSION
from advex.attacks import Attack
from advex.attacks.inputs import checked_inputs
from advex.budgets import Budget
from advex.doctor import EXAMPLES, Diagnosis
from advex.doctor import diagnose as look
from advex.driver.judging import Judge
from advex.driver.progress import Progress
from advex.driver.shapes import default_batch
from advex.errors import (
    AdvexError,
    AdvexWarning,
    GradientUnavailable,
    Interrupted,
    InvalidInput,
    InvalidType,
    ModelWarning,
)
from advex.evaluation.evaluation import Evaluation
from advex.evaluation.identity import About, about, backend_version, budget_text, demand_same
from advex.evaluation.pieces import (
    Clean,
    Plan,
    attacked,
    clean,
    held,
    recalled,
    write_clean,
    write_verdicts,
)
from advex.evaluation.progress import Report
from advex.evaluation.source import Block, Source
from advex.evaluation.store import Store, checked_path
from advex.goals import Untargeted
from advex.model.classifier import Classifier
from advex.model.protocol import Model

BATCHES = 4  # of a block: rows can leave and others take their places
SAMPLE_STEPS = 100  # of the attack that says how far a few examples are from the boundary
CLOSE = 1e-3  # of the largest logit: how much the model's answers may differ when a run goes on
LOOKED_AT = 16  # rows whose answers are kept for that, fewer where there are many classes
NUMBERS = 2**16  # of these answers at most
PARTS = 10_000  # of functions and objects: more are not written down one by one
KEEP = ("none", "success")

Attacks = Attack | Sequence[Attack] | Mapping[str, Attack] | None


@helpful
def evaluate(
    model: keras.Model | Model,
    data: Any,
    attacks: Attacks = None,
    budget: Budget | None = None,
    *,
    run: str | Path | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    block: int | None = None,
    keep: Literal["none", "success"] = "none",
    diagnose: bool = True,
    progress: Progress = None,
    engine: Literal["local", "ray"] = "local",
    workers: int = 2,
) -> Evaluation:
    """How many inputs of ``data`` the model still gets right when each may be moved within
    ``budget``.

    The data are read once, in order, a block at a time; memory does not grow with their length.
    Every attack is tried on every input that is classified correctly, so that the attacks can be
    compared; ``Ensemble(a, b)`` lets only survivors go on.

    Args:
        model: a ``keras.Model`` on [0, 1], a ``Classifier`` that says what its domain is, or a
            ``BlackBox``.
        data: (x, labels), a ``tf.data.Dataset``, a ``keras.utils.PyDataset``, a torch
            ``DataLoader``, or any iterable of batches (x, labels). To go on with a run it must
            bring the same examples in the same order: no shuffling.
        attacks: one, several, or names and attacks. Default: ``Verdict()`` and, against masked
            gradients, ``SquareAttack`` with 1,000 queries; for a ``BlackBox`` the latter alone, for
            a budget without limit ``MinimumNorm()``.
        budget: how far each input may be moved, such as ``Linf(8/255)``.
        run: the file that keeps what was found, an SQLite database. If it is there already, the run
            in it goes on; it must have been begun with the same model, data and settings. None:
            nothing is kept.
        seed: decides all random numbers, together with each input's content.
        batch_size: examples per step, the memory's limit.
        block: rows per transaction, what a kill can cost at most; default four batches.
        keep: "success" keeps each adversarial input in the file, 8-bit pictures as PNG; "none" just
            a few for the report.
        diagnose: whether the doctor looks at up to 128 inputs, see ``advex.evaluation.diagnose``.
        progress: True or False for a bar, None for a bar if somebody watches, or ``progress(done,
            total, held)``, total None where it is not known.
        engine: "local", or "ray" for several processes or machines (``pip install 'advex[ray]'``),
            which needs ``run``.
        workers: how many, with "ray".

    Returns:
        An ``Evaluation``.

    Raises:
        InvalidInput: a value that cannot be worked with; a run file that was begun with something
        else, which is named. InvalidType: an argument of the wrong kind.
        Interrupted: after Ctrl-C, a ``KeyboardInterrupt``; the message says how to go on.
        OSError: the run file cannot be written; what was recorded before stays.

    Example:
        >>> import advex
        >>> model, data = advex.testing.linear_model(), advex.testing.linear_data()
        >>> found = evaluate(model, data, advex.PGD(steps=5), advex.Linf(0.05), diagnose=False)
        >>> found.attacks[0].name, found.examples
        ('PGD', 32)
    """
    classifier = Classifier.of(model)
    budget = _checked_budget(budget)
    named = named_attacks(attacks, classifier, budget)
    for attack in named.values():
        attack.check_settings()
        attack.check(Untargeted(np.zeros(0, "int32")), budget)
        for each in (run for wave in attack.plan(budget) for run in wave.runs):
            if each.attack.needs_gradient and not classifier.differentiable:
                raise GradientUnavailable(
                    f"{each.label} needs gradients, and {classifier!r} has none: use an attack"
                    f" that looks at scores alone,"
                    " such as advex.SquareAttack()"
                )
    if not isinstance(keep, str) or keep not in KEEP:
        raise InvalidInput(f"keep must be 'none' or 'success'; received {shown(keep)}")
    if not isinstance(engine, str) or engine not in ("local", "ray"):
        raise InvalidInput(f"engine must be 'local' or 'ray'; received {shown(engine)}")
    seed = _checked_seed(seed)
    batch_size = None if batch_size is None else whole_number("batch_size", batch_size)
    block = None if block is None else whole_number("block", block)
    workers = whole_number("workers", workers)
    switch("diagnose", diagnose)
    if not (progress is None or isinstance(progress, bool) or callable(progress)):
        raise InvalidType(
            f"progress must be True, False, None or a function; received {shown(progress)}"
        )
    path = _checked_path(run)
    source = Source(data)
    if engine == "ray" and (path is None or source.arrays is None):
        raise InvalidInput(
            "engine='ray' needs a run file, and data as arrays that every worker can open:"
            " evaluate(model, (np.load('x.npy', mmap_mode='r'), labels), run='run.advex',"
            " engine='ray')"
        )
    settings = {
        "budget": budget_text(budget),
        "seed": seed,
        "batch_size": batch_size,
        "block": block,
        "keep": keep,
    }
    blocks = _rows(source, block, batch_size)
    first = next(blocks, None)
    # before there is a file: a refused call leaves none
    digests = _examined(classifier, named, source, first)
    there = path is not None and path.exists()
    store = Store(path, write=True)
    runner = None
    try:
        what = about(classifier, named, settings | {"data": source.digest})
        runner = Runner(
            classifier,
            named,
            budget,
            settings,
            store,
            what,
            Report(progress, source.total),
            diagnose=diagnose,
        )
        runner.digests = digests
        with _stopping() as stop, contextlib.closing(runner.report):
            runner.run(source, first, blocks, stop, workers if engine == "ray" else 0)
    except BaseException as problem:
        how = _given_up(store, path, runner, remove=isinstance(problem, AdvexError) and not there)
        if isinstance(problem, KeyboardInterrupt):
            raise Interrupted(how) from problem
        raise
    if path is None:
        return Evaluation(None, store)
    store.close()
    return Evaluation(path)


class Runner:
    """One run in this process."""

    def __init__(
        self,
        classifier: Model,
        attacks: dict[str, Attack],
        budget: Budget,
        settings: dict[str, Any],
        store: Store,
        what: About,
        report: Report,
        *,
        diagnose: bool,
    ) -> None:
        self.diagnose = diagnose
        self.classifier, self.attacks, self.budget, self.settings = (
            classifier,
            attacks,
            budget,
            settings,
        )
        self.store, self.what, self.report = store, what, report
        self.plan: Plan | None = None
        self.patient = Patient()
        self.said: set[str] = set()
        self.reported: set[int] = set()
        self.digests: list[str] = []

    def run(
        self,
        source: Source,
        first: Block | None,
        blocks: Iterator[Block],
        stop: Callable[[], bool],
        workers: int,
    ) -> None:
        """All blocks of ``source``; of those that are recorded already only what is missing."""
        store = self.store
        before = store.fact("identity")
        # begun, and given up before the first block
        if before is not None and not store.one("SELECT count(*) FROM blocks")[0]:
            with store.transaction():
                store.database.execute("DELETE FROM facts")
                store.database.execute("DELETE FROM attacks")
            before = None
        if before is not None:
            state = store.fact("state", [])
            now = self.what.identity(state)
            if None in (before["data"], now["data"]):  # a stream: each block is compared
                now["data"] = before["data"]
            demand_same(before, now, store.path, self.what.changed(store.fact("parts", {}), state))
            # Equal, but perhaps in another order, and the file knows attacks by their numbers.
            self.attacks = {
                name: self.attacks[name]
                for (name,) in store.rows("SELECT name FROM attacks ORDER BY id")
            }
        if first is not None:
            self._begin(first, before)
            blocks = itertools.chain([first], blocks)
        elif before is None:
            with store.transaction():
                self._state(None)
        if workers and first is not None:
            from advex.evaluation import cluster

            cluster.fill(self, source, workers, stop)
        finished, seen = bool(store.fact("finished")), 0
        for block in blocks:
            self._block(block, stop, finished)
            seen += len(block)
        recorded = store.one("SELECT coalesce(sum(rows), 0) FROM blocks")[0]
        if recorded != seen:
            _refuse_data(store, f"there were {recorded} rows, now there are {seen}")
        self._diagnosed(last=True, stop=stop)
        moved = self.moved()
        if not finished or moved:
            with store.transaction():
                store.state({"finished": True} | moved)
        store.finish()

    def moved(self) -> dict[str, Any]:
        """The facts that follow from what a run has changed by itself: a counter in a closure, a
        list that somebody fills.

        That is no setting, and the run goes on with another value of it.
        """
        state = self.store.fact("state", [])
        now = about(self.classifier, self.attacks, {})
        if not (more := now.changed(self.what.parts, state)):
            return {}
        state = sorted({*state, *more})
        kept = self.store.fact("identity")
        return {"state": state, "identity": self.what.identity(state) | {"data": kept["data"]}}

    # The parts.

    def _begin(self, block: Block, before: dict[str, Any] | None) -> None:
        """Settle what depends on the first rows; write down what the run is about, or compare
        it.
        """
        x = checked_inputs(self.classifier, block.x)
        batch = self.settings["batch_size"] or default_batch(x.shape[1:])
        size = self.settings["block"] or BATCHES * batch
        batch = min(batch, size)
        self.plan = Plan(
            self.classifier,
            self.attacks,
            self.budget,
            self.settings["seed"],
            size,
            batch,
            self.settings["keep"],
        )
        kind = f"{x.dtype} {list(x.shape[1:])}"
        if before is None:
            with self.store.transaction():
                self._state(kind)
        elif self.store.fact("inputs") not in (None, kind):
            demand_same({"inputs": self.store.fact("inputs")}, {"inputs": kind}, self.store.path)

    def _state(self, kind: str | None) -> None:
        """What is known before the first row is attacked."""
        names = self.classifier.names
        self.store.insert(
            "attacks",
            [
                (number, name, repr(attack))
                for number, (name, attack) in enumerate(self.attacks.items())
            ],
        )
        self.store.state(
            {
                "identity": self.what.identity(),
                "parts": self.what.parts
                if sum(map(len, self.what.parts.values())) <= PARTS
                else {},
                "state": [],
                "inputs": kind,
                "block": self.plan.block if self.plan else None,
                "batch": self.plan.batch if self.plan else None,
                "doctor": self.diagnose,
                "norm": type(self.budget).__name__,
                "epsilon": float(self.budget.epsilon) if self.budget.limited else None,
                "model": repr(self.classifier),
                "classes": names,
                "versions": {
                    "advex": VERSION,
                    "keras": keras.__version__,
                    _backend.NAME: backend_version(),
                    "numpy": np.__version__,
                },
                "began": time.strftime("%Y-%m-%d %H:%M:%S %Z"),
                "finished": False,
            }
        )

    def _block(self, block: Block, stop: Callable[[], bool], finished: bool) -> None:
        """One block: the clean look, then one attack after the other."""
        assert self.plan is not None  # _begin was called
        store, plan = self.store, self.plan
        self.demand_unchanged(block)
        recorded = store.rows("SELECT digest, rows FROM blocks WHERE id = ?", (block.number,))
        if recorded:
            if recorded[0] != (block.digest, len(block)):
                last = block.first + len(block) - 1
                _refuse_data(
                    store,
                    f"rows {block.first} to {last} are others; is the data set shuffled, or longer"
                    f" than before?",
                )
            before = recalled(store, block)
            if block.number == 0:
                self._compare(block, before)
        elif finished:
            _refuse_data(store, "there are more rows than before, and the run had come to its end")
        elif stop():
            raise KeyboardInterrupt
        else:
            before = clean(plan, block.x, block.labels)
            answers = self.answers(block) if block.number == 0 else None
            with store.transaction():
                write_clean(store, block, before)
                if answers is not None:
                    store.state({"answers": answers})
        self.patient.add(block, before)
        # before the long work: who sees its flags may want to stop
        self._diagnosed(last=False, stop=stop)
        done = {
            row[0] for row in store.rows("SELECT attack FROM work WHERE block = ?", (block.number,))
        }
        for number, name in enumerate(plan.attacks):
            if number not in done:
                if stop():
                    raise KeyboardInterrupt
                part = self.report.part(len(block), number, len(plan.attacks))
                verdicts = attacked(plan, name, block.x, before, part)
                with store.transaction():
                    write_verdicts(store, plan, block, number, verdicts)
                self._say(name, verdicts.warnings)
        self.told(block, worked=not recorded or len(done) < len(plan.attacks))

    def told(self, block: Block, *, worked: bool) -> None:
        """Let those who watch know that a block is finished; once for each."""
        assert self.plan is not None  # _begin was called
        if block.number not in self.reported:
            self.reported.add(block.number)
            self.report(len(block), held(self.store, block, len(self.plan.attacks)), worked=worked)

    def answers(self, block: Block) -> dict[str, Any] | None:
        """What the model itself says to the first rows: not what was compiled of it perhaps long
        ago.
        """
        assert self.plan is not None  # _begin was called
        if self.classifier.metered:
            return None  # a query is not asked for nothing: its first look is compared
        grid, few = Grid(block.x.dtype, self.classifier.box), block.x[:LOOKED_AT]
        judge = Judge(self.classifier, grid, LOOKED_AT, grid.working(few))
        forward = judge.forward
        logits = judge.logits(few[: max(1, NUMBERS // max(1, forward.classes))]).astype("float64")
        told = [
            [value if np.isfinite(value) else str(value) for value in row]
            for row in logits.tolist()
        ]
        return {"logits": told, "coarse": forward.coarse}

    def _compare(self, block: Block, before: Clean) -> None:
        """Raise unless the model answers to the first rows as it did when the run began."""
        assert self.plan is not None  # _begin was called
        known = self.store.fact("answers")
        if known is None:
            few = slice(0, min(LOOKED_AT, len(block)))
            now, again = (clean(self.plan, block.x[few], before.labels[few]) for _ in range(2))
            was, close = before.confidence[few], CLOSE
            alike: Any = np.isclose(now.confidence, was, rtol=0, atol=close, equal_nan=True)
            same = (now.prediction == before.prediction[few]) | (before.status[few] == "invalid")
            alike &= same
            random = not np.allclose(
                now.confidence, again.confidence, rtol=0, atol=close, equal_nan=True
            )
        else:
            one, other = (self._numbers(self.answers(block)) for _ in range(2))
            kept = self._numbers(known)
            close = (5e-2 if known["coarse"] else CLOSE) * max(
                float(np.abs(kept[np.isfinite(kept)]).max(initial=0)), 1e-6
            )
            if one.shape != kept.shape:
                alike, random = np.zeros(len(kept), bool), False
            else:
                alike = np.asarray(np.isclose(one, kept, rtol=0, atol=close, equal_nan=True)).all(
                    axis=1
                )
                random = not np.allclose(one, other, rtol=0, atol=close, equal_nan=True)
        if not alike.all() and not random:
            differ = f"{int((~alike).sum())} of the first {len(alike)} answers differ"
            demand_same(
                {"model": "its answers to the first rows"}, {"model": differ}, self.store.path
            )

    @staticmethod
    def _numbers(answers: dict[str, Any] | None) -> Array:
        return np.asarray(
            [[float(value) for value in row] for row in (answers or {"logits": []})["logits"]],
            "float64",
        )

    def demand_unchanged(self, block: Block) -> None:
        """Raise if the user's array is not what it was when the run began."""
        if self.digests and block.digest != self.digests[block.number]:
            last = block.first + len(block) - 1
            raise InvalidInput(
                f"rows {block.first} to {last} of data were changed by somebody while evaluate"
                f" ran, and arrays of this size are"
                " not copied: give a copy that nobody writes to"
            )

    def _say(self, name: str, sentences: list[str]) -> None:
        """Each kind of warning once in a run; all of them are in the file."""
        for sentence in sentences:
            kind = "".join(letter for letter in sentence if not letter.isdigit())
            if kind not in self.said:
                self.said.add(kind)
                warnings.warn(f"{name}: {sentence}", ModelWarning, stacklevel=2)

    def _diagnosed(self, last: bool, stop: Callable[[], bool]) -> None:
        """Let the doctor look, once, as soon as there are enough examples."""
        if not self.diagnose or self.store.fact("diagnosis") is not None or self.plan is None:
            return
        if not last and len(self.patient) < EXAMPLES:
            return
        if stop():
            raise KeyboardInterrupt
        found, sample = self.patient.seen(self.plan), self.patient.sample(self.plan)
        with self.store.transaction():
            self.store.state({"diagnosis": found.to_dict(), "sample": sample})
        for flag in found.flags:
            warnings.warn(f"{flag.id} {flag.name}: {flag.found}", ModelWarning, stacklevel=2)


class Patient:
    """The first examples that are classified correctly, for the doctor."""

    def __init__(self) -> None:
        self.x: list[Array] = []
        self.labels: list[Array] = []

    def __len__(self) -> int:
        return sum(map(len, self.x))

    def add(self, block: Block, before: Clean) -> None:
        """Take what is still wanted."""
        rows = np.flatnonzero(before.status == "correct")[: max(0, EXAMPLES - len(self))]
        if len(rows) or not self.x:
            self.x.append(block.x[rows])
            self.labels.append(before.labels[rows])

    def seen(self, plan: Plan) -> Diagnosis:
        """What the doctor says."""
        x, labels = np.concatenate(self.x), np.concatenate(self.labels)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AdvexWarning)
            return look(
                plan.classifier, x, labels, plan.budget, seed=plan.seed, batch_size=plan.batch
            )

    def sample(self, plan: Plan) -> dict[str, Any] | None:
        """How far these few are from the boundary, whatever the budget: attacks within a limit do
        not tell.
        """
        if not plan.budget.limited or plan.classifier.metered or not len(self):
            return None
        attack = known.FMN(steps=SAMPLE_STEPS)
        x, labels = np.concatenate(self.x), np.concatenate(self.labels)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AdvexWarning)
            try:
                found = attack(
                    plan.classifier,
                    x,
                    labels,
                    type(plan.budget)(),
                    seed=plan.seed,
                    batch_size=plan.batch,
                    progress=False,
                )
            except GradientUnavailable:
                return None
        distances = [value if np.isfinite(value) else None for value in found.distance.tolist()]
        return {"attack": repr(attack), "distances": distances}


def _refuse_data(store: Store, reason: str) -> None:
    raise InvalidInput(
        f"{store.path or 'the run'} was begun with something else, and rows of both would be"
        f" mixed. Changed: data ({reason})."
        " Give another run file, or what the run was begun with"
    )


# What is asked for.


def _rows(source: Source, size: int | None, batch: int | None) -> Iterator[Block]:
    """The blocks; their size follows from the batch size, or from the first inputs, where nobody
    has said it.
    """
    size = BATCHES * batch if size is None and batch is not None else size
    if size is not None:
        yield from source.blocks(size)
        return
    batches = source.batches()
    first = next(batches, None)
    if first is None:
        return
    yield from Source(itertools.chain([first], batches)).blocks(
        BATCHES * default_batch(first[0].shape[1:])
    )


def _checked_budget(budget: Any) -> Budget:
    if budget is None:
        raise InvalidInput("evaluate needs a budget, such as advex.Linf(8/255)")
    if not isinstance(budget, Budget):
        raise InvalidType(f"budget must be such as advex.Linf(8/255); received {shown(budget)}")
    return budget


def _checked_path(run: Any) -> Path | None:
    if run is None:
        return None
    path = checked_path(run)
    if not path.parent.is_dir():
        raise InvalidInput(f"run={str(run)!r}: there is no folder {path.parent}")
    return path


def _checked_seed(seed: Any) -> int:
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
        raise InvalidType(f"seed must be a whole number; received {shown(seed)}")
    if not -(2**63) <= seed < 2**64:
        raise InvalidInput(
            f"seed must be a whole number of at most 64 bits; received {shown(seed)}"
        )
    return int(seed)


def _examined(
    classifier: Model, attacks: Mapping[str, Attack], source: Source, first: Block | None
) -> list[str]:
    """Raise what can be said against the data before anything is written; of arrays too large to be
    copied the digests.

    Of data that come as a stream only the first block can be looked at.
    """
    if first is None:
        return []
    x = checked_inputs(classifier, first.x)
    for attack in attacks.values():
        for wave in attack.plan():
            wave.attack.check_inputs(x.shape[1:])
    classes = classifier.known_classes
    Untargeted(first.labels).check(len(first), classes)
    # builds the model, too
    forward = classifier.forward(Grid(x.dtype, classifier.box).working(x[:LOOKED_AT]))
    digests = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AdvexWarning)  # the calls that follow say the same
        for block in [first] if source.arrays is None else source.blocks(len(first)):
            checked_inputs(classifier, block.x)
            Untargeted(block.labels).check(len(block), forward.classes)
            if source.arrays is not None and not source.copied:
                digests.append(block.digest)
    return digests


def _given_up(store: Store, path: Path | None, runner: Runner | None, *, remove: bool) -> str:
    """Close the run file after an error, and say how to go on; one that this call has made for
    nothing is taken away.
    """
    how = _how_to_go_on(store, path)
    with contextlib.suppress(AdvexError, OSError, ValueError, TypeError):
        if runner is not None and store.fact("identity") is not None and (moved := runner.moved()):
            with store.transaction():
                store.state(moved)
    empty = False
    with contextlib.suppress(AdvexError, OSError):
        empty = store.one("SELECT count(*) FROM work")[0] == 0
    store.close()
    if path is not None and remove and empty:
        for name in (path, *(path.with_name(f"{path.name}-{part}") for part in ("wal", "shm"))):
            name.unlink(missing_ok=True)
    return how


def named_attacks(attacks: Any, classifier: Model, budget: Budget) -> dict[str, Attack]:
    """The attacks with a name each: those given, their types, or the default ones."""
    if attacks is None:
        if not budget.limited:
            attacks = [known.MinimumNorm()]
        elif classifier.differentiable:
            attacks = [known.Verdict(), known.SquareAttack(steps=1000)]
        else:
            attacks = [known.SquareAttack(steps=1000)]
    if isinstance(attacks, Attack):
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
            f": {wrong[0].__name__}() with its brackets"
            if wrong and isinstance(wrong[0], type)
            else ""
        )
        raise InvalidType(
            f"attacks must be attacks, such as advex.PGD(); received"
            f" {shown(wrong[0] if wrong else 'none')}{hint}"
        )
    return named


@contextlib.contextmanager
def _stopping() -> Iterator[Callable[[], bool]]:
    """Ctrl-C sets a flag that is looked at between two pieces of work; a second one interrupts at
    once.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    usual = signal.getsignal(signal.SIGINT)

    def handle(_: int, __: FrameType | None) -> None:
        asked.set()
        print("\nadvex: stopping after this block; Ctrl-C again stops at once", file=sys.stderr)
        signal.signal(signal.SIGINT, usual if usual is not None else signal.default_int_handler)

    if usual is signal.SIG_IGN:
        yield asked.is_set
        return
    signal.signal(signal.SIGINT, handle)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, usual if usual is not None else signal.default_int_handler)


def _how_to_go_on(store: Store, path: Path | None) -> str:
    rows = store.one("SELECT coalesce(sum(rows), 0) FROM blocks")[0]
    if path is None:
        return (
            f"stopped after {rows} rows; nothing was kept: with run='run.advex' the same"
            f" call would go on"
        )
    return f"stopped after {rows} rows; the same call with run={str(path)!r} goes on from there"
