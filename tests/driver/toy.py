"""A driver without a model: rows that fall after as many steps as their number says."""

from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
from keras import ops

from advex.driver.ledger import Ledger
from advex.driver.plan import Run, Wave
from advex.driver.rows import Rows, blank


class Toy:
    """Programs of an attack on rows of one number each.

    Args:
        falls: ``falls[run][row]`` is the step after which the row has a success in that run; 0:
            inside ``init``; 99: never.
        lost: pairs (run, row) that are answered with NaN at their first step.
        notes: what of its memory it hands on: ``gap``, 9 less the steps of the run.
    """

    rounds = 6
    needs = "gradients"
    query_limit = None

    def __init__(self, falls, lost=(), notes=None):
        self.falls, self.lost = np.asarray(falls), set(lost)
        self.notes = notes or {}
        self.inits, self.steps, self.finishes = [], [], []

    def _falls(self, rows):
        run = np.asarray(ops.convert_to_numpy(rows.repetition))
        row = np.asarray(ops.convert_to_numpy(rows.x0))[:, 0].astype(int)
        return run, row, self.falls[run, row]

    def _looked(self, rows, seen):
        """What a look at the points does: it counts, and finds what is there."""
        run, row, falls = self._falls(rows)
        known = {
            name: np.array(ops.convert_to_numpy(getattr(rows, name)))
            for name in ("live", "found", "nan", "step", "queries", "gradients", "best", "size")
        }
        running = known["live"] & ~known["found"] & ~known["nan"]
        nan = np.array([(r, w) in self.lost for r, w in zip(run, row, strict=True)])
        new = running & (falls <= known["step"] + seen) & ~nan
        best = np.where(new[:, None], 1000 * (run + 1)[:, None] + row[:, None], known["best"])
        made = {
            "found": known["found"] | new,
            "nan": known["nan"] | (nan & running),
            "queries": known["queries"] + running,
            "gradients": known["gradients"] + running,
            "best": best.astype("float32"),
            "size": np.where(new, 1 + run, known["size"]).astype("float32"),
        }
        return rows._replace(**{name: ops.convert_to_tensor(x) for name, x in made.items()})

    def init(self, rows):
        live = np.asarray(ops.convert_to_numpy(rows.live))
        self.inits.append((len(live), int(live.sum())))
        count = ops.zeros_like(rows.size)
        memory = {"gap": count + 9, "seat": count}
        rows = rows._replace(x=rows.x0, memory=memory)
        _, _, falls = self._falls(rows)
        return self._looked(rows, 0) if (falls == 0).any() else rows

    def step(self, rows):
        self.steps.append(rows.seats)
        rows = self._looked(rows, 1)
        memory = {**rows.memory, "gap": rows.memory["gap"] - 1}
        return rows._replace(step=rows.step + 1, memory=memory)

    def finish(self, rows):
        live = np.asarray(ops.convert_to_numpy(rows.live))
        self.finishes.append(int(live.sum()))
        return self._looked(rows, 1)


class Scene(NamedTuple):
    x: np.ndarray
    budget: object

    @property
    def leaves(self):
        return self.budget.limited

    @property
    def aim(self):
        return "first" if self.budget.limited else "smallest"

    def rows(self, wave, jobs, count, ledger):
        fill = count - len(jobs)
        row, run = (np.concatenate([part, np.full(fill, part[0])]) for part in jobs)
        x0 = self.x[row]
        rows = Rows(
            x0=x0,
            mask=(),
            beside={},
            bounds=(),
            goal={},
            key=np.zeros((count, 2), "int32"),
            salt=np.zeros(count, "int32"),
            repetition=np.array([each.repetition for each in wave.runs], "int32")[run],
            numbers={},
            target=(),
            start=(),
            live=np.arange(count) < len(jobs),
            step=np.array([each.begin for each in wave.runs], "int32")[run],
            best=x0,
            **blank(count),
        )
        return rows.map(ops.convert_to_tensor)


def scene(count, limited=True):
    x = np.arange(count, dtype="float32")[:, None]
    return Scene(x, SimpleNamespace(limited=limited))


def ledger_of(stage):
    return Ledger(stage.x, stage.aim, lambda points, _: points)


def wave_of(toy, repetitions, **settings):
    return Wave(tuple(Run(toy, repetition=number, **settings) for number in repetitions))
