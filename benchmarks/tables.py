"""Attacks on a table with rules: PGD of ART, rounded at the end, and that of advex.

    python -m venv peers/art && peers/art/bin/pip install adversarial-robustness-toolbox \\
        packaging torch
    .venv/bin/python benchmarks/tables.py --python peers/art/bin/python

Table, rules and network are those of ``tests/table_data.py``: bounds, whole numbers, features that
may not change, a group of which one is 1, two equalities and an inequality. ART runs in a process
of its own, in torch, on the same network rebuilt, in the scaled space, with the features that may
not change masked; what it finds is scaled back and rounded where the table has whole numbers and
groups. Counted are the rows that break a rule, and the rows that are misclassified and break none;
both by NumPy and plain Keras.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from common import machine, table, versions

ROOT = Path(__file__).resolve().parent.parent
ROWS = 200
EPSILON = 0.1
STEPS = 40

PEER = """
import sys
import numpy as np
import torch
from art.attacks.evasion import ProjectedGradientDescentNumpy
from art.estimators.classification import PyTorchClassifier

given = np.load(sys.argv[1])
sizes = [given[f"w{k}"].shape for k in range(3)]
layers = []
for number, (rows, columns) in enumerate(sizes):
    layer = torch.nn.Linear(rows, columns)
    layer.weight.data = torch.from_numpy(given[f"w{number}"].T.copy())
    layer.bias.data = torch.from_numpy(given[f"b{number}"])
    layers += [layer] + ([torch.nn.ReLU()] if number < 2 else [])
model = torch.nn.Sequential(*layers)
classifier = PyTorchClassifier(
    model, torch.nn.CrossEntropyLoss(), (given["x"].shape[1],), 2, clip_values=(0, 1)
)
epsilon, steps = float(given["epsilon"]), int(given["steps"])
attack = ProjectedGradientDescentNumpy(
    classifier, norm=np.inf, eps=epsilon, eps_step=epsilon / 4, max_iter=steps, verbose=False
)
found = attack.generate(given["x"], given["labels"], mask=given["mask"].astype("float32"))
np.savez(sys.argv[2], found=found, logits=classifier.predict(given["x"]))
"""


def art(python: str, model: Any, x: Any, labels: Any, mask: Any) -> tuple[Any, Any]:
    """What ART finds among scaled features, and the logits of its network."""
    weights = model.get_weights()
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder) / "given.npz", Path(folder) / "found.npz"
        arrays = {f"w{k}": weights[2 * k] for k in range(3)}
        arrays |= {f"b{k}": weights[2 * k + 1] for k in range(3)}
        np.savez(given, x=x, labels=labels, mask=mask, epsilon=EPSILON, steps=STEPS, **arrays)
        subprocess.run([python, "-c", PEER, str(given), str(found)], check=True)
        with np.load(found) as saved:
            return saved["found"], saved["logits"]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", help="the Python that has ART; without it advex runs alone")
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT / "tests"))
    import table_data
    from keras import ops

    import advex

    model, (x, labels) = table_data.scaled_model(), table_data.rows(ROWS)
    domain = table_data.domain()

    def said(points: Any) -> Any:
        scaled = table_data.scale(points.astype("float32"))
        return ops.convert_to_numpy(model(scaled)).argmax(axis=1)

    def line(name: str, points: Any) -> list[str]:
        rules = table_data.broken(points, x)
        illegal = np.logical_or.reduce(list(rules.values()))
        fooled = (said(points) != labels) & ~clean
        return [
            name,
            *(str(int(wrong.sum())) for wrong in rules.values()),
            f"{(~illegal).mean():.1%}",
            str(int(fooled.sum())),
            str(int((fooled & ~illegal).sum())),
        ]

    clean = said(x) != labels
    lines = []
    if options.python:
        span = domain.high - domain.low
        scaled = ((x - domain.low) / span).astype("float32")
        mask = ~table_data.FIXED
        found, logits = art(options.python, model, scaled, labels, mask)
        assert np.allclose(logits, ops.convert_to_numpy(model(scaled)), atol=1e-4)
        back = found.astype("float64") * span + domain.low
        raw = back.copy()
        raw[:, table_data.FIXED] = x[:, table_data.FIXED]
        rounded = raw.copy()
        rounded[:, table_data.WHOLE] = np.rint(rounded[:, table_data.WHOLE])
        group = rounded[:, table_data.GROUP]
        rounded[:, table_data.GROUP] = np.eye(3)[group.argmax(axis=1)]
        lines += [line("ART, PGD", raw), line("ART, PGD, rounded", rounded)]
    classifier = advex.Classifier(model, box=domain, preprocess=table_data.scale)
    for attack in (advex.PGD(steps=STEPS), advex.MinimumNorm()):
        result = attack(classifier, x, labels, advex.Linf(EPSILON))
        lines.append(line(f"advex, {type(attack).__name__}", result.x))
    print(f"{machine()}\n{versions()}")
    print(f"{ROWS} rows, {int(clean.sum())} misclassified before, Linf({EPSILON}), {STEPS} steps\n")
    head = ["", *table_data.broken(x, x), "legal", "fooled", "fooled and legal"]
    print(table(head, lines))


if __name__ == "__main__":
    main()
