"""A function that answers with a class alone, counts what it is asked, and keeps the best point of
each input by itself.
"""

import numpy as np

import advex

SHAPE, CLASSES = (6, 6, 1), 3
KERNEL = np.random.default_rng(3).normal(size=(36, CLASSES))
LIMITS = (1, 2, 3, 4, 7, 20, 60)


def scores(batch):
    return batch.reshape(len(batch), -1).astype("float64") @ KERNEL


def inputs(count=6, seed=0):
    """Images, and their classes; every fifth is wrong already."""
    x = np.random.default_rng(seed).uniform(0.2, 0.8, size=(count, *SHAPE)).astype("float32")
    labels = scores(x).argmax(1)
    labels[4::5] = (labels[4::5] + 1) % CLASSES
    return x, labels


class Oracle:
    """Classes of a linear model; raises ``error`` once it was asked about more than ``after``
    rows.
    """

    def __init__(self, kind="labels", after=None, error=None):
        self.kind, self.after, self.error = kind, after, error
        self.rows, self.largest, self.batches = 0, 0, []

    def __call__(self, batch):
        self.rows += len(batch)
        self.largest = max(self.largest, len(batch))
        if self.after is not None and self.rows > self.after:
            raise self.error
        self.batches.append(batch.copy())
        said = scores(batch)
        return said.argmax(1) if self.kind == "labels" else said

    @property
    def points(self):
        return np.concatenate(self.batches)


def best_at(points, x, label, marks, norm):
    """The smallest change among the first points that are of another class, for one input."""
    delta = (points - x).reshape(len(points), -1).astype("float64")
    size = {
        "L2": lambda: np.sqrt(np.square(delta).sum(1)),
        "Linf": lambda: np.abs(delta).max(1),
        "L1": lambda: np.abs(delta).sum(1),
        "L0": lambda: (delta != 0).sum(1).astype("float64"),
    }[norm]()
    size = np.where(scores(points).argmax(1) != label, size, np.inf)
    return np.array([size[:mark].min(initial=np.inf) for mark in marks])


class Through:
    """A black box that asks whichever oracle it is pointed at: what is compiled for it is compiled
    once.
    """

    def __init__(self, kind):
        self.oracle = None
        self.box = advex.BlackBox(self._ask, classes=CLASSES, answers=kind)

    def _ask(self, batch):
        return self.oracle(batch)

    def to(self, oracle):
        self.oracle = oracle
        return self.box


THROUGH = {kind: Through(kind) for kind in ("labels", "scores")}


def asking(oracle):
    """The black box in front of an oracle."""
    return THROUGH[oracle.kind].to(oracle)
