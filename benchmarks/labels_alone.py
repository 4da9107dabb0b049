"""Attacks by labels alone: the median change after so many queries, advex and its peers.

    python -m venv peers/labels && peers/labels/bin/pip install foolbox \\
        adversarial-robustness-toolbox packaging scikit-learn
    .venv/bin/python benchmarks/labels_alone.py --model shared/models/fmnist_standard.keras \\
        --data shared/data/fashion_mnist.npz --python peers/labels/bin/python

All attack the first images that the model gets right. Peers run in a process of their own, one
image at a time, and ask this one for classes: it counts every row, keeps the smallest change among
those that were misclassified and inside the box, and stops them at the limit. advex's figures are
``result.trace``, which its tests compare with such a count.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from multiprocessing.connection import Connection, Listener
from typing import Any

import keras
import numpy as np
from common import machine, table, versions

import advex

MARKS = (250, 1000, 5000)
KEY = b"labels"
OURS = {
    "L2": (advex.CGBA, advex.SurFree, advex.HopSkipJump),
    "Linf": (advex.RayS, advex.HopSkipJump),
    "L0": (advex.Pointwise,),
}
PEERS = {
    "L2": ("art HopSkipJump", "art SignOPTAttack", "art BoundaryAttack", "foolbox HopSkipJump"),
    "Linf": ("art HopSkipJump", "foolbox HopSkipJump"),
    "L0": ("foolbox Pointwise",),
}
PEER = """
import sys, warnings
import numpy as np
from multiprocessing.connection import Client

warnings.filterwarnings("ignore")
port, name, norm = int(sys.argv[1]), sys.argv[2], sys.argv[3]
wire = Client(("127.0.0.1", port), authkey=b"labels")

class Limit(Exception):
    pass

def ask(points):
    wire.send(np.asarray(points, "float32"))
    answer = wire.recv()
    if answer is None:
        raise Limit
    return np.eye(10, dtype="float32")[answer]

def run(image, label):
    if name.startswith("art"):
        import art.attacks.evasion as evasion
        from art.estimators.classification import BlackBoxClassifier
        model = BlackBoxClassifier(ask, image.shape, 10, clip_values=(0.0, 1.0))
        kind = name.split()[1]
        words = {"targeted": False}
        if kind == "HopSkipJump":
            words["norm"] = np.inf if norm == "Linf" else 2
        attack = getattr(evasion, kind)(model, verbose=False, **words)
        attack.set_params(max_iter=100000)
        attack.generate(image[None].copy(), y=np.eye(10, dtype="float32")[[label]])
        return
    import foolbox as fb
    model = fb.NumPyModel(ask, bounds=(0, 1), data_format="channels_last")
    if name.endswith("Pointwise"):
        attack = fb.attacks.PointwiseAttack()
    else:
        attack = fb.attacks.HopSkipJumpAttack(steps=100000, constraint=norm.lower())
    goal = fb.criteria.Misclassification(np.array([label]))
    attack(model, image[None].copy(), goal, epsilons=None)

while True:
    given = wire.recv()
    if given is None:
        break
    np.random.seed(0)
    try:
        run(*given)
    except Limit:
        pass
    except Exception as error:
        print(name, type(error).__name__, str(error)[:100], file=sys.stderr)
    wire.send(None)
"""


class Oracle:
    """Classes of one image's points; what is asked is counted, and the best is kept.

    Args:
        ask: points -> classes.
        image: the original.
        label: its class.
        norm: in which changes are measured.
        limit: of queries.
    """

    def __init__(self, ask: Any, image: Any, label: int, norm: str, limit: int) -> None:
        self.ask, self.image, self.label, self.norm = ask, image, label, norm
        self.limit, self.queries = limit, 0
        self.best = np.full(len(MARKS), np.inf)

    def __call__(self, points: Any) -> Any:
        points = points.reshape(-1, *self.image.shape)[: self.limit - self.queries]
        if not len(points):
            return None
        said = self.ask(points)
        delta = (points - self.image).reshape(len(points), -1).astype("float64")
        size = {
            "L2": lambda: np.sqrt(np.square(delta).sum(1)),
            "Linf": lambda: np.abs(delta).max(1),
            "L0": lambda: (np.abs(delta) > 1e-7).sum(1).astype("float64"),
        }[self.norm]()
        flat = points.reshape(len(points), -1)
        inside = (flat.min(1) >= -1e-6) & (flat.max(1) <= 1 + 1e-6)
        size = np.where((said != self.label) & inside, size, np.inf)
        number = self.queries + 1 + np.arange(len(points))
        for place, mark in enumerate(MARKS):
            self.best[place] = min(self.best[place], size[number <= mark].min(initial=np.inf))
        self.queries += len(points)
        return said if self.queries < self.limit else None


def peer(python: str, name: str, norm: str, ask: Any, x: Any, labels: Any, limit: int) -> Any:
    """What a peer has found of each image at each mark, (n, marks)."""
    with Listener(("127.0.0.1", 0), authkey=KEY) as listener:
        port = str(listener.address[1])
        process = subprocess.Popen([python, "-c", PEER, port, name, norm])
        with listener.accept() as wire:
            best = [
                _one(wire, ask, image, label, norm, limit)
                for image, label in zip(x, labels, strict=True)
            ]
            wire.send(None)
        process.wait()
    return np.array(best)


def _one(wire: Connection, ask: Any, image: Any, label: int, norm: str, limit: int) -> Any:
    oracle = Oracle(ask, image, int(label), norm, limit)
    wire.send((image, int(label)))
    while (points := wire.recv()) is not None:
        wire.send(oracle(points))
    return oracle.best


def main(arguments: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--python", help="the Python that has the peers; without it advex alone")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--steps", type=int, default=MARKS[-1])
    parser.add_argument("--norms", nargs="*", default=list(OURS))
    options = parser.parse_args(arguments)
    model = keras.models.load_model(options.model, compile=False)
    with np.load(options.data) as data:
        x = (data["x_test"][: 4 * options.count + 100] / 255).astype("float32")
        y = data["y_test"][: len(x)].astype("int64")
    x = x.reshape(len(x), *model.input_shape[1:])

    def ask(points: Any) -> Any:
        return np.asarray(model.predict_on_batch(points)).argmax(1)

    some = np.flatnonzero(ask(x) == y)[: options.count]
    x, y, lines = x[some], y[some], []
    for norm in options.norms:
        for kind in OURS[norm]:
            for name, given in (("", x), (", 8 bits", np.rint(255 * x).astype("uint8"))):
                began = time.monotonic()
                result = kind(steps=options.steps)(
                    model, given, y, getattr(advex, norm)(), marks=MARKS
                )
                lines.append(_line(f"advex {kind.__name__}{name}", norm, result.trace.sizes, began))
        for name in PEERS[norm] if options.python else ():
            began = time.monotonic()
            best = peer(options.python, name, norm, ask, x, y, options.steps)
            lines.append(_line(name, norm, best, began))
    print(machine(), versions(), sep="\n")
    print(f"{options.model}: {len(x)} images, {options.steps} queries each; medians")
    print(table(["attack", "norm", *map(str, MARKS), "nothing", "seconds"], lines))
    return 0


def _line(name: str, norm: str, sizes: Any, began: float) -> list[str]:
    medians = [f"{np.median(column):.4g}" for column in sizes.T]
    nothing = str(int(np.isinf(sizes[:, -1]).sum()))
    return [name, norm, *medians, nothing, f"{time.monotonic() - began:.0f}"]


if __name__ == "__main__":
    sys.exit(main())
