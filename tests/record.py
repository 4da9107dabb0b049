"""What a fixed set of attacks finds, row by row: the driver may be rebuilt, this may not change.

``python tests/record.py out.json`` writes the record of all cells on the backend of KERAS_BACKEND;
``python tests/record.py out.json --against old.json`` compares it byte for byte with another one of
the same machine. ``test_record.py`` compares a part of the cells with the record that is kept here,
by all that does not depend on the machine's arithmetic: verdicts, what broke a row, passes.
"""

import argparse
import hashlib
import json
import sys
import time
import warnings
from pathlib import Path

import keras
import numpy as np
from keras import ops

import advex
from advex.testing import small_network

KEPT = Path(__file__).parent / "recorded"
CLASSES = 4


def shifted(problem, x):
    return x * 0.98 + 0.01 * problem.uniform((1, 1, 1))


def stairs(model):
    """A model whose gradient is next to nothing at every grey level."""
    image = keras.Input(model.input_shape[1:])
    steep = 2 * np.pi * 255
    return keras.Model(image, model(image - ops.sin(steep * image) / steep))


def scene(levels, masked=False):
    """Small network, 24 inputs (uint8 where ``levels``), labels of which two are wrong already."""
    model = small_network(seed=2, classes=CLASSES)
    model = stairs(model) if masked else model
    x = np.random.default_rng(4).integers(0, 256, size=(24, 6, 6, 3)).astype("uint8")
    x[3] = x[9]
    working = x.astype("float32") / np.float32(255)
    labels = np.asarray(ops.convert_to_numpy(model(ops.convert_to_tensor(working)))).argmax(1)
    labels[[5, 17]] = (labels[[5, 17]] + 1) % CLASSES
    return model, x if levels else working, labels


LINF, L2, L1, L0 = advex.Linf(0.045), advex.L2(0.2), advex.L1(0.6), advex.L0(2)
HARD = {"Linf": advex.Linf(0.02), "L2": advex.L2(0.09), "L1": advex.L1(0.25)}


def targeted(labels):
    return advex.Targeted((labels + 1) % CLASSES)


def cells():
    """Name -> (attack, budget, settings of the cell)."""
    pgd = advex.PGD(steps=6)
    few = {
        "fgsm linf": (advex.FGSM(), LINF),
        "pgd linf": (pgd, LINF),
        "pgd linf uint8": (pgd, advex.Linf(8 / 255), {"levels": True}),
        "pgd l2 targeted": (pgd, L2, {"goal": targeted}),
        "pgd own labels": (pgd, L1, {"goal": None}),
        "bim l0": (advex.BIM(steps=6), L0),
        "restarts": (advex.Restarts(pgd, 4), HARD["Linf"]),
        "every target": (advex.EveryTarget(advex.PGD(steps=4), 3), HARD["L2"]),
        "ensemble": (advex.Ensemble(advex.FGSM(), pgd, advex.Restarts(pgd, 3)), HARD["Linf"]),
        "averaged": (advex.AveragedGradient(advex.PGD(steps=4), shifted, 3), LINF),
        "ddn": (advex.DDN(steps=20), advex.L2()),
        "carlini l2": (advex.CarliniWagner(steps=40, rounds_of=10), advex.L2()),
        "square box": (advex.SquareAttack(steps=40), LINF, {"box": True}),
        "square restarts box": (
            advex.Restarts(advex.SquareAttack(steps=15), 3),
            HARD["Linf"],
            {"box": True},
        ),
        "verdict linf": (advex.Verdict(), HARD["Linf"]),
    }
    more = {
        "fgsm l1": (advex.FGSM(), L1),
        "bim uint8 l2": (advex.BIM(steps=6), L2, {"levels": True}),
        "momentum": (advex.MomentumIterative(steps=6), LINF),
        "nesterov": (advex.NesterovIterative(steps=6), LINF),
        "ascent": (advex.GradientAscent(steps=6, learning_rate=0.3), advex.Linf()),
        "apgd linf": (advex.APGD(steps=20), HARD["Linf"]),
        "apgd dlr l2": (advex.APGD(steps=20, loss=advex.losses.dlr), HARD["L2"]),
        "apgd l1 radii": (advex.APGD(steps=20, radii=(3.0, 2.0, 1.0)), HARD["L1"]),
        "fab linf none": (advex.FAB(steps=8), advex.Linf()),
        "fab l1": (advex.FAB(steps=8), HARD["L1"]),
        "square l2": (advex.SquareAttack(steps=40), L2),
        "square l1 uint8": (advex.SquareAttack(steps=40), L1, {"levels": True}),
        "carlini linf": (advex.CarliniWagner(steps=40, rounds_of=10), advex.Linf()),
        "carlini limit": (advex.CarliniWagner(steps=30, rounds_of=10), L2),
        "elastic net": (advex.ElasticNet(steps=40, searches=4), advex.L1()),
        "fmn l0": (advex.FMN(steps=20), advex.L0()),
        "fmn l1": (advex.FMN(steps=20), advex.L1()),
        "alma": (advex.ALMA(steps=30), advex.L2()),
        "pdgd": (advex.PDGD(steps=20), advex.L2()),
        "pdpgd": (advex.PDPGD(steps=20), advex.Linf()),
        "sigma zero": (advex.SigmaZero(steps=20), advex.L0()),
        "deepfool": (advex.DeepFool(steps=10), advex.L2()),
        "jsma": (advex.JSMA(steps=4), advex.L0()),
        "fine": (advex.fine(), advex.Linf(2 / 255), {"levels": True, "goal": targeted}),
        "restarts of targets": (
            advex.Restarts(advex.EveryTarget(advex.PGD(steps=3), 2), 2),
            HARD["Linf"],
        ),
        "targets of restarts": (
            advex.EveryTarget(advex.Restarts(advex.PGD(steps=3), 3), 2),
            HARD["Linf"],
        ),
        "restarts none": (advex.Restarts(advex.FAB(steps=4), 3), advex.L2()),
        "autoattack linf": (advex.AutoAttack(), HARD["Linf"], {"rows": 8}),
        "autoattack l1 uint8": (advex.AutoAttack(), HARD["L1"], {"rows": 8, "levels": True}),
        "autoattack plus": (advex.AutoAttack("plus"), HARD["L2"], {"rows": 6}),
        "autoattack rand": (advex.AutoAttack("rand"), LINF, {"rows": 6}),
        "verdict l2 uint8": (advex.Verdict(), HARD["L2"], {"levels": True}),
        "verdict l1 targeted": (advex.Verdict(), HARD["L1"], {"goal": targeted}),
        "verdict masked": (advex.Verdict(), HARD["Linf"], {"rows": 6, "masked": True}),
        "verdict large batch": (advex.Verdict(), HARD["Linf"], {"batch": None}),
        "minimum linf": (advex.MinimumNorm(), advex.Linf(), {"rows": 8}),
        "minimum l2": (advex.MinimumNorm("L2"), None, {"rows": 8}),
        "minimum l1 limit": (advex.MinimumNorm(), L1, {"rows": 8}),
        "minimum l0": (advex.MinimumNorm("L0"), None, {"rows": 8}),
    }
    return few, more


def cell(attack, budget, options=None):
    """One cell: what it finds, and what the account says."""
    options = options or {}
    model, x, labels = scene(options.get("levels", False), options.get("masked", False))
    count = options.get("rows", len(x))
    x, labels = x[:count], labels[:count]
    goal = options.get("goal", lambda labels: labels)
    if options.get("box"):
        net = model
        model = advex.BlackBox(
            lambda batch: np.asarray(ops.convert_to_numpy(net(ops.convert_to_tensor(batch)))),
            CLASSES,
        )
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        batch_size = options.get("batch", 8)
        result = attack(
            model, x, goal and goal(labels), budget, seed=3, batch_size=batch_size, progress=False
        )
    return {
        "x": hashlib.blake2b(result.x.tobytes(), digest_size=16).hexdigest(),
        "success": "".join(map(str, result.success.astype(int))),
        "prediction": result.prediction.tolist(),
        "broken_by": result.broken_by.tolist(),
        "gradients": result.gradients.tolist(),
        "queries": result.queries.tolist(),
        "distance": [float(value).hex() for value in result.distance],
        "confidence": [float(value).hex() for value in result.confidence],
        "suspicious": result.info["suspicious"],
        "checks": result.info["checks"]["queries"],
        "stages": [
            {name: value for name, value in stage.items() if name != "seconds"}
            for stage in result.info["stages"]
        ],
        "notes": result.info["notes"],
        "warnings": sorted(
            {str(each.message) for each in said if issubclass(each.category, UserWarning)}
        ),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--few", action="store_true", help="the cells of the test alone")
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    few, more = cells()
    chosen = few if options.few else few | more
    old = json.loads(options.against.read_text()) if options.against else {}
    record, wrong = {}, []
    for name, arguments in chosen.items():
        if options.only not in name:
            continue
        began = time.monotonic()
        record[name] = cell(*arguments)
        same = old.get(name, {})
        odd = [key for key, value in record[name].items() if old and same.get(key) != value]
        wrong += [name] if odd else []
        print(
            f"{name}: {time.monotonic() - began:.1f} s", "DIFFERS: " * bool(odd), *odd, flush=True
        )
    options.out.write_text(json.dumps(record, indent=1))
    print(f"{keras.backend.backend()}: {len(record)} cells", f"differ: {wrong}" if old else "")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
