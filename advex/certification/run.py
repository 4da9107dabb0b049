"""One certification: begun or gone on with, block after block, until the data end."""

from __future__ import annotations

import itertools
import math
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from advex import _backend
from advex._arrays import Array
from advex._version import VERSION
from advex.certification.asked import Asked, classes_of
from advex.certification.binomial import lower_bound
from advex.certification.folder import Folder, Found
from advex.certification.look import doubts
from advex.certification.sampling import Sampler, demand_classes
from advex.certification.votes import Schedule, Votes
from advex.driver.draws import row_keys
from advex.driver.shapes import default_batch
from advex.errors import ModelWarning
from advex.evaluation.identity import About, about, demand_same
from advex.evaluation.progress import Report
from advex.evaluation.source import Block, Source

ROWS = 16  # of a block
EVERY = 5.0  # seconds of samples that a kill may cost


class Run:
    """One certification in this process.

    Args:
        asked: what is done.
        source: the data.
        path: the folder that keeps it; None: nothing is kept.
        report: who is told how far it is.

    Attributes:
        found: of each block that is finished.
        done: how many rows are finished.
    """

    def __init__(self, asked: Asked, source: Source, path: Path | None, report: Report) -> None:
        self.asked, self.source, self.report = asked, source, report
        self.folder = None if path is None else Folder(path)
        self.schedule = Schedule(asked.selection, asked.samples)
        self.found: list[Found] = []
        self.finished, self.state, self.done = 0, list[str](), 0  # finished: how many blocks
        self.sampler: Sampler | None = None
        self.what: About | None = None
        self.warnings = list[str]()

    def __call__(self, stop: Callable[[], bool]) -> None:
        """All blocks; of those that are in the folder only what is missing."""
        blocks = self.source.blocks(ROWS)
        if (first := next(blocks, None)) is None:
            return
        x = self.asked.entered(first.x)
        classifier = self.asked.classifier
        label = classes_of(first.labels, len(first), classifier.known_classes)
        batch = self.asked.batch_size or default_batch(x.shape[1:])
        demand_classes(classifier.forward(x))
        self.warnings = doubts(classifier, self.asked.checked(first.x), label, batch)
        self.sampler = Sampler(classifier, x, self.asked.deviation, batch)
        if self.source.arrays is not None:
            self._examine()
        if self.folder is not None:
            self._begin(self.folder, f"{self.asked.checked(first.x).dtype} {list(x.shape[1:])}")
        for sentence in self.warnings:
            warnings.warn(sentence, ModelWarning, stacklevel=4)
        for block in itertools.chain([first], blocks):
            self._block(block, self.sampler, stop)
        if self.folder is not None:
            if self.folder.blocks() != len(self.found):
                self.folder.refuse_data(f"there were more rows than {self.done}")
            self._settle(self.folder, finished=len(self.found))

    def info(self) -> dict[str, Any]:
        """What made the certificates."""
        head = self.sampler.forward.head.name if self.sampler is not None else ""
        return {
            "seed": self.asked.seed,
            "head": head,
            "backend": _backend.NAME,
            "warnings": self.warnings,
            "versions": {"advex": VERSION, _backend.NAME: _backend.version()},
        }

    def settle(self) -> None:
        """Write down which parts of the user's own objects a run that was stopped has changed."""
        if self.folder is not None and self.what is not None:
            self._settle(self.folder, finished=self.finished)

    def _examine(self) -> None:
        """Raise what can be said against the data before a sample is drawn."""
        assert self.sampler is not None
        for block in self.source.blocks(8 * ROWS):
            self.asked.entered(block.x)
            classes_of(block.labels, len(block), self.sampler.classes)

    def _begin(self, folder: Folder, kind: str) -> None:
        """Write down what the run is about, or compare it."""
        data = {"data": self.source.digest, "inputs": kind}
        self.what = about(self.asked.classifier, {}, self.asked.settings | data)
        before = folder.about()
        if before is None:
            self._write(folder)
            return
        self.finished, self.state = before["finished"], before["state"]
        known, now = before["identity"], self.what.identity(self.state)
        if None in (known["data"], now["data"]):  # a stream: each block is compared
            now["data"] = known["data"]
        demand_same(known, now, folder.path, self.what.changed(before["parts"], self.state))

    def _settle(self, folder: Folder, *, finished: int) -> None:
        """Write down the end, and what the run has changed by itself: a counter in a closure, a
        list that somebody fills. That is no setting.
        """
        assert self.what is not None
        now = about(self.asked.classifier, {}, {})
        more = now.changed(self.what.parts, self.state)
        if more or finished != self.finished:
            self.state, self.finished = sorted({*self.state, *more}), finished
            self._write(folder)

    def _write(self, folder: Folder) -> None:
        assert self.what is not None
        folder.write_about(
            {
                "finished": self.finished,
                "state": self.state,
                "identity": self.what.identity(self.state),
                "parts": self.what.parts,
            }
        )

    def _block(self, block: Block, sampler: Sampler, stop: Callable[[], bool]) -> None:
        """One block, from the folder or by new samples."""
        if stop():
            raise KeyboardInterrupt
        label = classes_of(block.labels, len(block), sampler.classes)
        folder, digest = self.folder, "" if self.folder is None else block.digest
        found = None if folder is None else folder.found(block.number, digest)
        if found is not None:
            self._told(found, slice(None), worked=False)
        elif folder is not None and 0 < self.finished <= block.number:
            folder.refuse_data("there are more rows than before")
        else:
            found = self._sampled(block, digest, label, sampler, stop)
            if folder is not None:
                folder.write_found(block.number, digest, found)
        self.found.append(found)

    def _sampled(
        self, block: Block, digest: str, label: Array, sampler: Sampler, stop: Callable[[], bool]
    ) -> Found:
        """What the samples of a block say; those that were counted by an earlier call stay so."""
        x, folder, rows = self.asked.entered(block.x), self.folder, len(block)
        keys = row_keys(x, self.asked.seed)
        known = None if folder is None else folder.votes(block.number, digest)
        begun = votes = known or Votes.none(rows, sampler.classes)
        kept, moved = -math.inf, self.report.part(1, 0, 1)
        before = self.schedule.finished(rows, votes.done)
        self._told(_found(label, votes), slice(before), worked=False)
        try:
            for votes in self.schedule.run(sampler, x, keys, begun):
                now = self.schedule.finished(rows, votes.done)
                if now > before:
                    done, before = slice(before, now), now
                    self._told(_found(label, votes), done, worked=True)
                if callable(moved):
                    moved(self.schedule.begun(rows, votes.done), self.schedule.counting, 0)
                if folder is not None and time.monotonic() - kept > EVERY:
                    folder.write_votes(block.number, digest, votes)
                    if self.asked.classifier.metered:  # its own counters move with each question
                        self._settle(folder, finished=self.finished)
                    kept = time.monotonic()
                if stop():
                    raise KeyboardInterrupt
        except BaseException:
            if folder is not None:
                folder.write_votes(block.number, digest, votes)
            raise
        return _found(label, votes)

    def _told(self, found: Found, which: slice, *, worked: bool) -> None:
        """Let those who watch know of finished rows."""
        held = abstained = 0
        part = Found(*(each[which] for each in found))
        for label, chosen, hits in zip(*part, strict=True):
            sure = lower_bound(int(hits), self.asked.samples, self.asked.alpha) > 0.5
            held, abstained = held + bool(sure and chosen == label), abstained + (not sure)
        if len(part.label):
            self.done += len(part.label)
            self.report(len(part.label), held, abstained, worked=worked)


def _found(label: Array, votes: Votes) -> Found:
    return Found(label, votes.chosen, votes.hits)
