"""How near to the best known perturbations each minimum-norm attack comes: those of advex and of
five other libraries.

    .venv/bin/python benchmarks/optimality.py --count 100
    .venv/bin/python benchmarks/optimality.py --norms L2 --attacks DDN FMN --models robust

The others are not run but read from ``recorded/optimality``, where ``minimum_peers.py`` has put
them; ``--record`` puts those of advex beside them, and with ``--recorded`` they are read as well
where they are there. ``--write`` writes docs/optimality.md.

The measure is that of Cina et al., AttackBench: Evaluating Gradient-based Attacks for Adversarial
Examples, 2024. An attack's curve is the robust accuracy that it leaves at each epsilon: the share
of images whose adversarial distance is larger. The envelope is the curve of the smallest distances
that anybody found, e0 the epsilon at which it falls to 0. With A the area under a curve from 0 to
e0, and c the clean accuracy, so that c e0 is the area of an attack that finds nothing,

    optimality = 1 - (A(attack) - A(envelope)) / (c e0 - A(envelope)),

1 for an attack that is always the best known, 0 for one that finds nothing below e0. Curves are
steps, so that A is the mean of min(distance, e0); AttackBench's code joins the steps by straight
lines. Where nobody breaks an image, e0 is the farthest distance of the others. An attack that is
recorded on fewer images is compared with the envelope of these alone.

The limit is 1,000 forward and 1,000 backward passes an image. It is kept by force with the others,
of which the best point they looked at counts (see ``minimum_peers.py``); those of advex are asked
for as many steps as fit, and what they return counts.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from common import machine, now, table, versions
from leaving_rows import DATA, ROOT, images

Array = np.ndarray[Any, Any]
Outcomes = dict[str, "Outcome"]
RECORDED = ROOT / "benchmarks" / "recorded" / "optimality"
PAGE = ROOT / "docs" / "optimality.md"
MODELS = ("standard", "robust")
LIMIT = 1000
# advex looks at the original and at the last point as well, and judges the answer once more
STEPS = LIMIT - 3
ATTACKS: dict[str, dict[str, Callable[[Any], Any]]] = {  # of the module advex
    "L2": {
        "MinimumNorm": lambda advex: advex.MinimumNorm(),
        "DDN": lambda advex: advex.DDN(steps=STEPS),
        "FMN": lambda advex: advex.FMN(steps=STEPS),
        "ALMA": lambda advex: advex.ALMA(steps=STEPS),
        "PDGD": lambda advex: advex.PDGD(steps=STEPS),
        "PDPGD": lambda advex: advex.PDPGD(steps=STEPS),
        "FAB": lambda advex: advex.FAB(steps=100),
        "CarliniWagner": lambda advex: advex.CarliniWagner(steps=STEPS),
        "DeepFool": lambda advex: advex.DeepFool(steps=100),
    },
    "Linf": {
        "MinimumNorm": lambda advex: advex.MinimumNorm(),
        "FMN": lambda advex: advex.FMN(steps=STEPS),
        "PDPGD": lambda advex: advex.PDPGD(steps=STEPS),
        "FAB": lambda advex: advex.FAB(steps=100),
        "CarliniWagner": lambda advex: advex.CarliniWagner(steps=STEPS),
        "DeepFool": lambda advex: advex.DeepFool(steps=100),
    },
    "L1": {
        "MinimumNorm": lambda advex: advex.MinimumNorm(),
        "FMN": lambda advex: advex.FMN(steps=STEPS),
        "ALMA": lambda advex: advex.ALMA(steps=STEPS),
        "PDPGD": lambda advex: advex.PDPGD(steps=STEPS),
        "FAB": lambda advex: advex.FAB(steps=100),
        "ElasticNet": lambda advex: advex.ElasticNet(steps=STEPS),
        "DeepFool": lambda advex: advex.DeepFool(steps=100),
    },
    "L0": {
        "MinimumNorm": lambda advex: advex.MinimumNorm(),
        "SigmaZero": lambda advex: advex.SigmaZero(steps=STEPS),
        "FMN": lambda advex: advex.FMN(steps=STEPS),
        "PDPGD": lambda advex: advex.PDPGD(steps=STEPS),
        "JSMA": lambda advex: advex.JSMA(),
    },
}
HEAD = (
    "attack",
    "library",
    "images",
    *(f"{name} {what}" for name in MODELS for what in ("optimality", "median", "found")),
)
COSTS = ("forward", "backward", "s/image")
LEGEND = """
- optimality: 1 is the best known change on every image, 0 is nothing found.
- median: distance of the images that the network gets right.
- found: share of them with an adversarial example.
- forward, backward: passes per image, the mean of all images.
- s/image: one thread. advex ran in TensorFlow, compilation included. The others ran in torch, on another day.
- *: over the limit on some image."""  # noqa: E501


class Outcome(NamedTuple):
    """What an attack did: distances image by image (inf: none found, 0: wrong already), mean
    passes, seconds of all.
    """

    library: str
    distances: Array
    forward: float
    backward: float
    seconds: float
    over: bool = False


# The measure.


def envelope(outcomes: Outcomes, count: int) -> Array:
    """The smallest distance that anybody found, for each image."""
    best = np.full(count, np.inf)
    for outcome in outcomes.values():
        some = outcome.distances[:count]
        best[: len(some)] = np.minimum(best[: len(some)], some)
    return best


def optimality(distances: Array, best: Array) -> float:
    """How near an attack's curve is to that of the best known distances of the same images; see
    above.
    """
    farthest = best[np.isfinite(best)].max(initial=0.0)
    area, least = (np.minimum(each, farthest).mean() for each in (distances, best))
    most = np.count_nonzero(best) / len(best) * farthest
    return float(1 - (area - least) / (most - least)) if most > least else 1.0


# Files, and the attacks of advex.


def read(file: Path) -> Outcomes:
    """What is recorded, by label; nothing where there is no file."""
    if not file.exists():
        return {}
    said = json.loads(file.read_text(encoding="utf-8"))["attacks"]
    return {
        label: Outcome(
            one["library"],
            np.array([np.inf if distance is None else distance for distance in one["distances"]]),
            one["forward"],
            one["backward"],
            one["seconds"],
            one.get("over", False),
        )
        for label, one in said.items()
    }


def write(file: Path, outcomes: Outcomes) -> None:
    """Record, an attack a line; a reader finds the old file or the new one."""
    lines = []
    for label, outcome in outcomes.items():
        distances = [
            round(each, 6) if np.isfinite(each) else None for each in outcome.distances.tolist()
        ]
        figures = {
            key: round(getattr(outcome, key), 2) for key in ("forward", "backward", "seconds")
        }
        said = {
            "library": outcome.library,
            **figures,
            **({"over": True} if outcome.over else {}),
            "distances": distances,
        }
        lines.append(f"{json.dumps(label)}: {json.dumps(said)}")
    file.parent.mkdir(parents=True, exist_ok=True)
    scratch = file.with_suffix(".part")
    scratch.write_text(
        f'{{"limit": {LIMIT}, "attacks": {{\n' + ",\n".join(lines) + "\n}}\n", encoding="utf-8"
    )
    os.replace(scratch, file)


def ours(attack: Any, model: Any, x: Array, labels: Array, budget: Any, seed: int) -> Outcome:
    """Run an attack of advex."""
    import advex

    before = now()
    result = attack(model, x, labels, budget, seed=seed, progress=False)
    seconds = (now() - before).wall
    forward, backward = result.queries, result.gradients
    over = bool((np.maximum(forward, backward) > LIMIT).any())
    distances = np.asarray(result.distance, "float64")
    return Outcome(
        f"advex {advex.__version__}",
        distances,
        float(forward.mean()),
        float(backward.mean()),
        seconds,
        over,
    )


def same(outcomes: Outcomes, where: str) -> None:
    """An error if not all attacks met the same network: they agree which images it gets wrong."""
    longest = max(
        (outcome.distances for outcome in outcomes.values()), key=len, default=np.zeros(0)
    )
    for label, outcome in outcomes.items():
        if ((outcome.distances == 0) != (longest[: len(outcome.distances)] == 0)).any():
            raise SystemExit(
                f"{label} was recorded on another network or other images than {where}"
            )


# What is said.


def figure(value: float, digits: int) -> str:
    """A number, or a dash."""
    return f"{value:.{digits}f}" if np.isfinite(value) else "-"


def cells(outcome: Outcome | None, best: Array, norm: str) -> list[str]:
    """Optimality, median and success of an attack on a network."""
    if outcome is None:
        return ["-"] * 3
    tried = outcome.distances[outcome.distances > 0]
    score = optimality(outcome.distances, best[: len(outcome.distances)])
    return [
        f"{score:.3f}",
        figure(float(np.median(tried)), 1 if norm == "L0" else 4),
        f"{np.isfinite(tried).mean():.1%}",
    ]


def lines(by_model: dict[str, Outcomes], norm: str, count: int) -> list[list[str]]:
    """The rows of the table of a norm, best first."""
    cut = {
        name: {
            label: one._replace(distances=one.distances[:count]) for label, one in outcomes.items()
        }
        for name, outcomes in by_model.items()
    }
    best = {name: envelope(outcomes, count) for name, outcomes in cut.items()}
    rows = []
    for label in dict.fromkeys(label for outcomes in by_model.values() for label in outcomes):
        met = {name: outcomes[label] for name, outcomes in cut.items() if label in outcomes}
        full = [by_model[name][label] for name in met]
        scores = [
            optimality(one.distances, best[name][: len(one.distances)]) for name, one in met.items()
        ]
        means = [np.mean([getattr(one, way) for one in full]) for way in ("forward", "backward")]
        seconds = np.mean([one.seconds / len(one.distances) for one in full])
        library = full[0].library
        attack = label.removeprefix(f"{library.split()[0]}-") + "*" * any(one.over for one in full)
        number = "/".join(dict.fromkeys(str(len(one.distances)) for one in met.values()))
        shown = [
            cell
            for name in MODELS
            if name in by_model
            for cell in cells(met.get(name), best[name], norm)
        ]
        costs = [*(figure(float(each), 0) for each in means), figure(float(seconds), 2)]
        rows.append((float(np.mean(scores)), [attack, library, number, *shown, *costs]))
    return [cells for _, cells in sorted(rows, key=lambda row: -row[0])]


def against_the_others(by_model: dict[str, Outcomes], count: int) -> str:
    """The best attack of advex, measured by the envelope of the other libraries alone: above 1 if
    it goes below that.
    """
    said = []
    for name, outcomes in by_model.items():
        cut = {
            label: one._replace(distances=one.distances[:count]) for label, one in outcomes.items()
        }
        best = envelope(
            {label: one for label, one in cut.items() if not label.startswith("advex-")}, count
        )
        ours = {
            label: one
            for label, one in cut.items()
            if label.startswith("advex-") and len(one.distances) == count
        }
        if ours and best.any():
            score, label = max(
                (optimality(one.distances, best), label.removeprefix("advex-"))
                for label, one in ours.items()
            )
            said.append(f"{name} {score:.3f} ({label})")
    return (
        "The best attack of advex, measured against the other libraries only: "
        + ", ".join(said)
        + "."
    )


def on_more(by_model: dict[str, Outcomes], count: int) -> str:
    """The same on more images, beside those of the others that are recorded on as many; nothing if
    none is.
    """
    most = max(
        (len(one.distances) for outcomes in by_model.values() for one in outcomes.values()),
        default=0,
    )
    if most <= count:
        return ""
    long = {
        name: {label: one for label, one in all_.items() if len(one.distances) == most}
        for name, all_ in by_model.items()
    }
    others = {
        label for outcomes in long.values() for label in outcomes if not label.startswith("advex-")
    }
    return (
        f" On {most} images, beside the {len(others)} of them recorded there: "
        + against_the_others(long, most).split(": ", 1)[1]
    )


def head(models: Sequence[str]) -> list[str]:
    """Titles of the columns."""
    return [
        *(title for title in HEAD if title.split()[0] not in MODELS or title.split()[0] in models),
        *COSTS,
    ]


def page(
    tables: dict[str, list[list[str]]], notes: dict[str, str], titles: list[str], count: int
) -> str:
    """The tables as a page of the documentation."""
    said = [
        "# How near to the best known perturbation",
        "",
        f"Who finds the smallest change? Here are minimum-norm attacks on the first {count} test"
        f" images of Fashion-MNIST. They attack a network",
        "trained as usual (standard) and one trained adversarially (hardened), with at most 1,000"
        " forward and 1,000 backward passes for each",
        "image. The measure, settings and limits are those of `benchmarks/optimality.py` and"
        " `benchmarks/minimum_peers.py`. The measure",
        "comes from [AttackBench](https://arxiv.org/abs/2404.19460).",
        "",
        "![Optimality of each attack in each norm: advex beside other libraries, on an ordinary and"
        " on a hardened network](pictures/pages/optimality.png)",
        "",
        "The chart draws the tables below (`python examples/make_page_pictures.py --only"
        " optimality`). On the ordinary network most",
        "attacks come near the best known change. On the adversarially trained one they differ.",
        "",
        *LEGEND.replace("*:", r"\*:").strip().splitlines(),
        "",
        f"{machine()}; {versions()}.",
    ]
    for norm, rows in tables.items():
        said += [
            "",
            f"## {norm}",
            "",
            notes[norm],
            "",
            "| " + " | ".join(titles) + " |",
            "|---|---|" + "---:|" * (len(titles) - 2),
        ]
        said += ["| " + " | ".join(cell.replace("*", r"\*") for cell in row) + " |" for row in rows]
    # a network is not called more than it was seen to be
    return "\n".join(said).replace("robust", "hardened") + "\n"


def main(argv: list[str] | None = None) -> int:
    """Run, compare and print; 0 if no attack broke down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--count", type=int, default=500, help="the first so many test images (500)"
    )
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--norms", nargs="+", choices=list(ATTACKS), default=list(ATTACKS))
    parser.add_argument(
        "--attacks",
        nargs="*",
        metavar="NAME",
        help="of advex; all if not given, none for the others alone",
    )
    parser.add_argument(
        "--data", type=Path, default=DATA, help="Fashion-MNIST as .npz with x_test and y_test"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--record", action="store_true", help="keep what the attacks of advex did")
    parser.add_argument(
        "--recorded", action="store_true", help="do not run attacks of advex that are recorded"
    )
    parser.add_argument("--write", action="store_true", help="write docs/optimality.md")
    options = parser.parse_args(argv)
    names = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
    # read when the frameworks are imported
    os.environ.update(dict.fromkeys(names, str(options.threads)))

    import keras

    import advex

    if not options.data.exists():
        parser.error(
            f"what is recorded is on the test images of Fashion-MNIST; {options.data} is not there"
        )
    x, labels = images(options.data, options.count)
    print(f"{machine()}\n{versions()}\n{len(x)} images", flush=True)
    found: dict[str, dict[str, Outcomes]] = {norm: {} for norm in options.norms}
    good = True
    for name in options.models:
        path = ROOT.parent / "shared" / "models" / f"fmnist_{name}.keras"
        model = keras.saving.load_model(str(path), compile=False)
        for norm in options.norms:
            file = RECORDED / f"advex_{name}_{norm}.json"
            kept = read(file)
            outcomes = read(RECORDED / f"{name}_{norm}.json")
            for label, make in ATTACKS[norm].items():
                if options.attacks is not None and label not in options.attacks:
                    continue
                if not (
                    options.recorded and label in kept and len(kept[label].distances) >= len(x)
                ):
                    if not hasattr(advex, label):
                        print(f"advex has no {label} yet")
                        continue
                    try:
                        kept[label] = ours(
                            make(advex), model, x, labels, getattr(advex, norm)(), options.seed
                        )
                    except Exception as problem:
                        print(
                            f"{name}, {norm}, {label} of advex broke down: {problem!r}", flush=True
                        )
                        good = False
                        continue
                    if options.record:
                        write(file, kept)
                    print(f"{name}, {norm}, {label}: {kept[label].seconds:.1f} s", flush=True)
                outcomes[f"advex-{label}"] = kept[label]
            same(outcomes, path.name)
            found[norm][name] = outcomes
    tables = {norm: lines(by_model, norm, len(x)) for norm, by_model in found.items()}
    titles = head(options.models)
    notes = {
        norm: against_the_others(by_model, len(x)) + on_more(by_model, len(x))
        for norm, by_model in found.items()
    }
    for norm, rows in tables.items():
        print(f"\n{norm}\n{table(titles, rows)}\n{notes[norm]}")
    print(LEGEND)
    if options.write:
        PAGE.write_text(page(tables, notes, titles, len(x)), encoding="utf-8")
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
