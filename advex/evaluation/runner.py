"""One run: begun or gone on with, block after block, until the data end."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np

from advex._inputs import attacked_of
from advex.attacks.inputs import checked_inputs
from advex.errors import InvalidInput, ModelWarning
from advex.evaluation import cluster
from advex.evaluation.answers import answers, difference
from advex.evaluation.asked import Asked
from advex.evaluation.budgets import demand_count
from advex.evaluation.facts import first_facts, now
from advex.evaluation.identity import About, about, demand_same
from advex.evaluation.journal import Journal
from advex.evaluation.patient import Patient
from advex.evaluation.perturbed import attacked_fact
from advex.evaluation.pieces import Clean, Plan, attacked, clean, goal_again, other_range
from advex.evaluation.progress import Report
from advex.evaluation.records import (
    held,
    recalled,
    write_clean,
    write_sample,
    write_verdicts,
    wrong,
)
from advex.evaluation.source import Block, Source, copied
from advex.evaluation.store import Store
from advex.evaluation.wanted import CLASSES, kind_of


class Runner:
    """One run in this process.

    Args:
        asked: what is done.
        store: the open run file.
        what: all that decides what the run finds.
        report: who is told how far it is.
        digests: hashes of the blocks of data that are not copied, none where they are.
        journal: what a black box has answered already, where that is kept.
    """

    def __init__(
        self,
        asked: Asked,
        store: Store,
        what: About,
        report: Report,
        digests: list[str],
        journal: Journal | None = None,
    ) -> None:
        self.asked, self.store, self.what, self.report = asked, store, what, report
        self.journal = journal
        self.digests = digests
        self.attacks = asked.attacks
        self.plan: Plan | None = None
        self.perturbed: dict[str, Any] | None = None
        self.patient = Patient()
        self.said: set[str] = set()
        self.reported: set[int] = set()

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
        before = self._gone_on_with()
        if first is not None:
            self._begin(first, before)
            blocks = itertools.chain([first], blocks)
        elif before is None:
            with store.transaction():
                self._state(None, None)
        if workers and first is not None:
            self._let_workers(source, workers, stop)
        finished, seen = bool(store.fact("finished")), 0
        for block in blocks:
            self._block(block, stop, finished)
            seen += len(block)
        recorded = store.one("SELECT coalesce(sum(rows), 0) FROM blocks")[0]
        if recorded != seen:
            self._refuse_data(f"there were {recorded} rows, now there are {seen}")
        demand_count(self.asked.budget, seen)
        self._diagnosed(last=True, stop=stop)
        moved = self.moved()
        if not finished or moved:
            with store.transaction():
                ended = {} if finished else {"ended": now()}
                store.state({"finished": True} | ended | moved)
        store.finish()

    def moved(self) -> dict[str, Any]:
        """The facts that follow from what a run has changed by itself: a counter in a closure, a
        list that somebody fills.

        That is no setting, and the run goes on with another value of it.
        """
        state = self.store.fact("state", [])
        now = about(self.asked.classifier, self.attacks, {}, self.asked.goal)
        if not (more := now.changed(self.what.parts, state)):
            return {}
        state = sorted({*state, *more})
        kept = self.store.fact("identity")
        return {"state": state, "identity": self.what.identity(state) | {"data": kept["data"]}}

    # How a run begins.

    def _gone_on_with(self) -> dict[str, Any] | None:
        """The identity of the run in the file, which must be the same as now; None for a new
        run.
        """
        store = self.store
        before: dict[str, Any] | None = store.fact("identity")
        if before is None:
            return None
        # begun, and given up before the first block
        if not store.one("SELECT count(*) FROM blocks")[0]:
            with store.transaction():
                store.database.execute("DELETE FROM facts")
                store.database.execute("DELETE FROM attacks")
            return None
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
        return before

    def _begin(self, block: Block, before: dict[str, Any] | None) -> None:
        """Settle what depends on the first rows; write down what the run is about, or compare
        it.
        """
        given = checked_inputs(self.asked.classifier, block.x)
        x = attacked_of(given)
        self.plan = self.asked.plan(block.x, self.attacks)
        if self.journal is not None:
            box = self.journal.through(self.asked.classifier)
            self.plan = replace(self.plan, classifier=box)
        self.perturbed = attacked_fact(self.asked.classifier, given)
        kind = f"{x.dtype} {list(x.shape[1:])}"
        if before is None:
            with self.store.transaction():
                self._state(kind, block)
        elif self.store.fact("inputs") not in (None, kind):
            demand_same({"inputs": self.store.fact("inputs")}, {"inputs": kind}, self.store.path)

    def _state(self, kind: str | None, block: Block | None) -> None:
        """Write down what is known before the first row is attacked."""
        self.store.insert(
            "attacks",
            [
                (number, name, repr(attack))
                for number, (name, attack) in enumerate(self.attacks.items())
            ],
        )
        goal = None
        if self.plan is not None and block is not None and self.asked.goal is not None:
            goal = self.plan.wanted(block.labels).goal
            if kind_of(goal) != CLASSES:
                self.store.extend()
        facts = first_facts(self.asked, self.what, self.plan, kind, goal)
        self.store.state(facts | ({"attacked": self.perturbed} if self.perturbed else {}))

    # One block.

    def _block(self, block: Block, stop: Callable[[], bool], finished: bool) -> None:
        """The clean look, then one attack after the other."""
        assert self.plan is not None  # _begin was called
        store, plan = self.store, self.plan
        self._demand_unchanged(block)
        recorded = store.rows("SELECT digest, rows FROM blocks WHERE id = ?", (block.number,))
        if recorded:
            before = self._recalled(block, recorded[0])
        elif finished:
            self._refuse_data("there are more rows than before, and the run had come to its end")
        else:
            before = self._looked_at(block, stop)
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
                verdicts = attacked(plan, name, block.x, before, part, block.first)
                with store.transaction():
                    write_verdicts(store, plan, block, number, verdicts)
                self._forget()
                self._say(name, verdicts.warnings)
        self._told(block, worked=not recorded or len(done) < len(plan.attacks))

    def _recalled(self, block: Block, recorded: tuple[Any, ...]) -> Clean:
        """The first look that is in the file, at a block and by a model that are what they were."""
        assert self.plan is not None
        if recorded != (block.digest, len(block)):
            last = block.first + len(block) - 1
            self._refuse_data(
                f"rows {block.first} to {last} are others; is the data set shuffled, or longer"
                f" than before?"
            )
        before = recalled(self.store, block)
        plan, count = self.plan, len(self.plan.attacks)
        done = self.store.one("SELECT count(*) FROM work WHERE block = ?", (block.number,))[0]
        if done < count:
            before = replace(before, goal=goal_again(plan, block.x, block.labels))
        if block.number == 0:
            known = self.store.fact("answers")
            if differ := difference(self.plan, block, before, known):
                was = {"model": "its answers to the first rows"}
                demand_same(was, {"model": differ}, self.store.path)
        return before

    def _looked_at(self, block: Block, stop: Callable[[], bool]) -> Clean:
        """The first look at a block, written down."""
        assert self.plan is not None
        if stop():
            raise KeyboardInterrupt
        before = clean(self.plan, block.x, block.labels)
        told = answers(self.plan, block) if block.number == 0 else None
        facts = self._ranged(block, before)
        with self.store.transaction():
            write_clean(self.store, block, before)
            if told is not None:
                facts["answers"] = told
            if facts:
                self.store.state(facts)
        self._forget()
        return before

    def _forget(self) -> None:
        """What follows from the answers so far is in the run file."""
        if self.journal is not None:
            self.journal.clear()

    def _ranged(self, block: Block, before: Clean) -> dict[str, Any]:
        """The facts about the range of the inputs, said once: by the first block."""
        assert self.plan is not None
        if block.number != 0:
            return {}
        sentence, queries = other_range(self.plan, block.x, block.labels, before)
        if sentence:
            warnings.warn(sentence, ModelWarning, stacklevel=2)
        return {"range": {"said": sentence, "queries": queries}} if sentence or queries else {}

    def _let_workers(self, source: Source, workers: int, stop: Callable[[], bool]) -> None:
        """Let workers do every block that the file does not have, and write down what they find."""
        plan, store = self.plan, self.store
        assert plan is not None  # _begin was called
        assert source.arrays is not None  # evaluate has seen to these
        assert store.path is not None
        x, labels = source.arrays
        identity = json.dumps(store.fact("identity"), sort_keys=True).encode()
        recorded = {number for (number,) in store.rows("SELECT id FROM blocks")}

        def block_of(number: int) -> Block:
            rows = slice(number * plan.block, (number + 1) * plan.block)
            block = Block(number, rows.start, copied(x[rows]), np.array(labels[rows]))
            self._demand_unchanged(block)
            return block

        parts = cluster.finished(
            plan,
            source.arrays,
            block_of,
            [number for number in range(-(-len(x) // plan.block)) if number not in recorded],
            workers,
            folder=store.path.with_name(f"{store.path.name}.parts"),
            mark=hashlib.blake2b(identity, digest_size=16).hexdigest(),
        )
        with contextlib.closing(parts):
            for block, before, found in parts:
                facts = self._ranged(block, before)
                with store.transaction():
                    write_clean(store, block, before)
                    if facts:
                        store.state(facts)
                    for attack, verdicts in enumerate(found):
                        write_verdicts(store, plan, block, attack, verdicts)
                self._told(block, worked=True)
                if stop():
                    raise KeyboardInterrupt

    # What is refused, and what is said.

    def _demand_unchanged(self, block: Block) -> None:
        """Raise if the user's array is not what it was when the run began."""
        if self.digests and block.digest != self.digests[block.number]:
            last = block.first + len(block) - 1
            raise InvalidInput(
                f"rows {block.first} to {last} of data were changed by somebody while evaluate"
                " ran, and arrays of this size are not copied: give a copy that nobody writes to"
            )

    def _say(self, name: str, sentences: list[str]) -> None:
        """Each kind of warning once in a run; all of them are in the file."""
        for sentence in sentences:
            kind = "".join(letter for letter in sentence if not letter.isdigit())
            if kind not in self.said:
                self.said.add(kind)
                warnings.warn(f"{name}: {sentence}", ModelWarning, stacklevel=2)

    def _refuse_data(self, reason: str) -> NoReturn:
        raise InvalidInput(
            f"{self.store.path or 'the run'} was begun with something else, and rows of both would"
            f" be mixed. Changed: data ({reason}). Give another run file, or what the run was"
            " begun with"
        )

    def _told(self, block: Block, *, worked: bool) -> None:
        """Let those who watch know that a block is finished; once for each."""
        assert self.plan is not None  # _begin was called
        if block.number not in self.reported:
            self.reported.add(block.number)
            store, attacks = self.store, len(self.plan.attacks)
            self.report(len(block), held(store, block, attacks), wrong(store, block), worked=worked)

    def _diagnosed(self, last: bool, stop: Callable[[], bool]) -> None:
        """Let the doctor look, once, as soon as there are enough examples."""
        if not self.asked.diagnose or self.store.fact("diagnosis") is not None or self.plan is None:
            return
        if not last and not self.patient.complete:
            return
        if stop():
            raise KeyboardInterrupt
        found, sample = self.patient.seen(self.plan), self.patient.sample(self.plan)
        fact = None if sample is None else sample.fact
        with self.store.transaction():
            self.store.state({"diagnosis": found.to_dict(), "sample": fact})
            if sample is not None:
                write_sample(self.store, sample.pictures)
        for flag in found.flags:
            warnings.warn(f"{flag.id} {flag.name}: {flag.found}", ModelWarning, stacklevel=2)
