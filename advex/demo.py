"""``advex demo``: the 32 images that ship with advex, attacked in four ways, and an evaluation of
their model as a page.
"""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

import advex
from advex import cli, images, zoo
from advex.errors import ModelWarning
from advex.result import SavedImage

BUDGET = advex.Linf(8 / 255)
ATTACKS = {"fgsm": advex.FGSM(), "pgd": advex.PGD()}
SHEET = cli.SHEET
SMALLER = advex.Linf(4 / 255)  # within which some of the images hold
EVALUATED = (advex.PGD(), advex.SquareAttack(steps=500))
RUN, PAGE = "evaluation.advex", "report.html"


def run(out: Path) -> dict[str, Any]:
    """Attack, save and judge.

    Args:
        out: the folder for the pictures; files of an earlier demo are replaced.

    Returns:
        What ``show`` prints: the settings, one entry per attack, one per image for PGD, and the
        paths.
    """
    began = time.monotonic()
    classifier = zoo.fashion_mnist()
    x, labels = zoo.fashion_images()
    names = [
        f"{row:02d}-{_plain(classifier.caption(int(label)))}.png"
        for row, label in enumerate(labels)
    ]
    cli.check_folder(out, [SHEET, RUN, PAGE], overwrite=True)
    goals = {
        "untargeted": labels,
        "targeted": advex.Targeted((labels + 1) % len(classifier.names or ())),
    }
    attacks = []
    results: dict[str, advex.Result] = {}
    saved: dict[str, dict[int, SavedImage]] = {}
    for word, attack in ATTACKS.items():
        for wanted, goal in goals.items():
            folder = out / (f"{word}-targeted" if wanted == "targeted" else word)
            cli.check_folder(folder, names, overwrite=True)
            result = attack(classifier, x, goal, BUDGET, seed=0, progress=False)
            files = result.save(folder, names, overwrite=True)
            for row in np.flatnonzero(
                ~result.success
            ).tolist():  # an earlier demo may have left one
                (folder / names[row]).unlink(missing_ok=True)
            results[folder.name], saved[folder.name] = result, {file.index: file for file in files}
            attacks.append(
                {
                    "attack": repr(attack),
                    "name": type(attack).__name__,
                    "goal": wanted,
                    "fooled": int(result.success.sum()),
                    "images": len(x),
                    "largest_levels": max((file.levels for file in files), default=None),
                    "mean_levels": float(np.abs(result.perturbation[result.success]).mean())
                    if files
                    else None,
                    "gradients": float(result.gradients.mean()),
                    "files": len(files),
                    "verified": sum(file.verified for file in files),
                    "folder": str(folder),
                }
            )
    originals = out / "original"
    cli.check_folder(originals, names, overwrite=True)
    originals.mkdir(parents=True, exist_ok=True)
    for name, pixels in zip(names, x, strict=True):
        images.write(originals / name, pixels, overwrite=True)
    sheet = _sheet(x, labels, results, classifier)
    images.save(out / SHEET, sheet, overwrite=True)
    each = []
    for row, name in enumerate(names):
        file = saved["pgd"].get(row)
        each.append(
            {
                "file": name,
                "before": classifier.caption(int(results["pgd"].before[row])),
                "before_confidence": float(results["pgd"].before_confidence[row]),
                "after": file and file.after,
                "confidence": file and file.confidence,
                "levels": file and file.levels,
                "gradients": int(results["pgd"].gradients[row]),
                "verified": file and file.verified,
            }
        )
    return {
        "command": "demo",
        "success": all(entry["files"] == entry["verified"] for entry in attacks),
        "budget": repr(BUDGET),
        "classified_correctly": int((results["pgd"].before == labels).sum()),
        "total": len(x),
        "attacks": attacks,
        "images": each,
        "originals": str(originals),
        "contact_sheet": str(out / SHEET),
        "evaluation": _evaluation(out, classifier, x, labels),
        "seconds": time.monotonic() - began,
    }


def _evaluation(out: Path, classifier: advex.Classifier, x: Any, labels: Any) -> dict[str, Any]:
    """What somebody would be shown: how many images hold, checked by the doctor, as a page if
    Jinja2 and matplotlib are there.
    """
    (out / RUN).unlink(missing_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ModelWarning)  # they are on the page
        found = advex.evaluate(
            classifier, (x, labels), EVALUATED, SMALLER, run=out / RUN, progress=False
        )
    try:
        page = str(found.report(out / PAGE, overwrite=True))
    except ImportError:
        (out / PAGE).unlink(missing_ok=True)
        page = None
    flags = [f"{flag.id}, {flag.name}: {flag.found}" for flag in found.flags]
    return {"headline": found.headline(), "flags": flags, "run": str(out / RUN), "page": page}


def _plain(name: str) -> str:
    """A class name as part of a file name."""
    return "".join(letter if letter.isalnum() else "-" for letter in name.lower())


def _sheet(
    x: Any, labels: Any, results: dict[str, advex.Result], classifier: advex.Classifier
) -> Any:
    """One line per image: original, the three successes, and what PGD has changed."""
    lines = []
    for row in range(len(x)):
        line = [
            (
                x[row],
                f"{classifier.caption(int(labels[row]))}\n{results['pgd'].before_confidence[row]:.0%}",
            )
        ]
        for name in ("fgsm", "pgd", "pgd-targeted"):
            result = results[name]
            after = (
                f"{classifier.caption(int(result.prediction[row]))}\n{result.confidence[row]:.0%}"
            )
            line.append((result.x[row], after if result.success[row] else "not fooled"))
        levels = int(np.abs(results["pgd"].perturbation[row]).max())
        line.append(
            (images.enlarged(x[row], results["pgd"].x[row]), f"max {cli.plural(levels, 'level')}")
        )
        lines.append(line)
    return images.sheet(
        lines, ("original", "FGSM", "PGD", "PGD, targeted", "change x10"), side=84, across=2
    )


def show(report: dict[str, Any]) -> None:
    """Print the tables and say where the pictures are."""
    screen = cli.console()

    def say(line: str = "") -> None:
        screen.print(cli.printable(line), markup=False)

    total = report["total"]
    say(
        f"{total} test images of Fashion-MNIST, {report['classified_correctly']} of them"
        f" classified correctly by the"
    )
    say(f"model that ships with advex; each pixel may move by {report['budget']}.")
    say("Untargeted: any other class will do. Targeted: the class after the true one.")
    say()
    say("PGD, untargeted, image by image:")
    numbers = (
        "grey\nlevels",
        "gradients",
        "fooled",
        "PNGs\nverified",
        "gradients\neach",
        "largest\nchange",
        "mean\nchange",
    )
    rows = [
        [
            Path(entry["file"]).stem,
            f"{entry['before']} {entry['before_confidence']:.0%}",
            f"{entry['after']} {entry['confidence']:.0%}" if entry["after"] else "not broken",
            "" if entry["levels"] is None else str(entry["levels"]),
            str(entry["gradients"]),
            {True: "yes", False: "NO", None: ""}[entry["verified"]],
        ]
        for entry in report["images"]
    ]
    columns = ["image", "before", "after", "grey\nlevels", "gradients", "verified"]
    screen.print(cli.table(columns, rows, numbers))
    say("All attacks, changes in grey levels; each PNG was read back and judged again:")
    rows = [
        [
            entry["name"],
            entry["goal"],
            f"{entry['fooled']} of {entry['images']}",
            "" if entry["largest_levels"] is None else str(entry["largest_levels"]),
            "" if entry["mean_levels"] is None else f"{entry['mean_levels']:.1f}",
            f"{entry['gradients']:.1f}",
            f"{entry['verified']} of {entry['files']}",
        ]
        for entry in report["attacks"]
    ]
    columns = [
        "attack",
        "goal",
        "fooled",
        "largest\nchange",
        "mean\nchange",
        "gradients\neach",
        "PNGs\nverified",
    ]
    screen.print(cli.table(columns, rows, numbers))
    for entry in report["attacks"]:
        if held := entry["images"] - entry["fooled"]:
            say(f"{held} not broken by {entry['name']}, {entry['goal']}, within {report['budget']}")
    say()
    folders = ", ".join(Path(entry["folder"]).name for entry in report["attacks"])
    say(
        f"Pictures: {Path(report['originals']).parent}, in {Path(report['originals']).name},"
        f" {folders}"
    )
    say(f"Side by side: {report['contact_sheet']}")
    say()
    evaluation = report["evaluation"]
    say("The same model evaluated, as one would show it to somebody:")
    say(evaluation["headline"])
    for flag in evaluation["flags"]:
        say(f"FLAG {flag}")
    if evaluation["page"]:
        say(f"Report: {evaluation['page']}")
    else:
        say(
            f"For a page: pip install 'advex[report]', then advex report {evaluation['run']} --out"
            f" report.html"
        )
    say(f"Your turn: advex attack {report['originals']} --target Bag --epsilon 8/255")
