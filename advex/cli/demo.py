"""``advex demo``: the images that ship with advex, attacked in four ways, and a page about it."""

from __future__ import annotations

import argparse
import re
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from advex.cli.files import SHEET, check_folder
from advex.cli.program import command
from advex.cli.screen import console, marked, plural, say, say_whole, table
from advex.cli.words import add_options, option

if TYPE_CHECKING:
    from advex._arrays import Array
    from advex.attacks import Attack
    from advex.budgets import Budget
    from advex.goals import Goal
    from advex.model.protocol import Model
    from advex.result import Result, SavedImage

EPSILON = 8 / 255
SMALLER_EPSILON = 4 / 255  # within which some of the images hold
RUN, PAGE = "evaluation.advex", "report.html"
ON_SHEET = 8  # images side by side; the files of all are in the folders

EPILOG = "exit codes: 0 every PNG holds what was found; 1 one does not"

OPTIONS = (
    option(
        "--out",
        type=Path,
        default=Path("advex-out"),
        metavar="DIR",
        help="where the pictures go (advex-out)",
    ),
    option("--json", action="store_true", help="print one JSON document instead of tables"),
)


class Shipped(NamedTuple):
    """The images and the model that ship with advex."""

    classifier: Model
    x: Array
    labels: Array
    names: list[str]
    """A file name for each image."""


class Attacked(NamedTuple):
    """One attack on all images, and the files that it left, by row."""

    result: Result
    files: dict[int, SavedImage]


def add(commands: Any) -> None:
    """The parser of this command."""
    add_options(
        commands.add_parser(
            "demo",
            help="attack the 32 images and the small classifier that ship with advex",
            epilog=EPILOG,
        ),
        OPTIONS,
    )


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Attack, save and judge; files of an earlier demo are replaced.

    Returns:
        The settings, one entry per attack, one per image for PGD, and the paths.
    """
    import advex
    from advex import images

    began = time.monotonic()
    out, shipped = options.out, _shipped()
    check_folder(out, [SHEET, RUN, PAGE], overwrite=True)
    budget = advex.Linf(EPSILON)
    targets = (shipped.labels + 1) % len(shipped.classifier.names or ())
    goals: dict[str, Any] = {"untargeted": shipped.labels, "targeted": advex.Targeted(targets)}
    found: dict[str, Attacked] = {}
    entries = []
    for word, attack in {"fgsm": advex.FGSM(), "pgd": advex.PGD()}.items():
        for wanted, goal in goals.items():
            folder = out / (f"{word}-targeted" if wanted == "targeted" else word)
            one = _attacked(shipped, attack, goal, budget, folder)
            found[folder.name] = one
            entries.append({**_about(attack, wanted, one), "folder": str(folder)})
    originals = out / "original"
    check_folder(originals, shipped.names, overwrite=True)
    originals.mkdir(parents=True, exist_ok=True)
    for name, pixels in zip(shipped.names, shipped.x, strict=True):
        images.write(originals / name, pixels, overwrite=True)
    images.save(out / SHEET, _sheet(shipped, found), overwrite=True)
    return {
        "command": "demo",
        "success": all(entry["files"] == entry["verified"] for entry in entries),
        "budget": repr(budget),
        "classified_correctly": int((found["pgd"].result.before == shipped.labels).sum()),
        "total": len(shipped.x),
        "attacks": entries,
        "images": [_image(shipped, found["pgd"], row) for row in range(len(shipped.x))],
        "originals": str(originals),
        "contact_sheet": str(out / SHEET),
        "evaluation": _evaluation(out, shipped),
        "seconds": time.monotonic() - began,
    }


def _shipped() -> Shipped:
    from advex import zoo

    classifier = zoo.fashion_mnist()
    x, labels = zoo.fashion_images()
    words = [re.sub(r"[\W_]", "-", classifier.caption(int(label)).lower()) for label in labels]
    names = [f"{row:02d}-{word}.png" for row, word in enumerate(words)]
    return Shipped(classifier, x, labels, names)


def _attacked(
    shipped: Shipped, attack: Attack, goal: Array | Goal, budget: Budget, folder: Path
) -> Attacked:
    """Attack all images and save the successes."""
    import numpy as np

    check_folder(folder, shipped.names, overwrite=True)
    result = attack(shipped.classifier, shipped.x, goal, budget, seed=0, progress=False)
    files = result.save(folder, shipped.names, overwrite=True)
    for row in np.flatnonzero(~result.success).tolist():  # an earlier demo may have left one
        (folder / shipped.names[row]).unlink(missing_ok=True)
    return Attacked(result, {file.index: file for file in files})


def _about(attack: Attack, wanted: str, found: Attacked) -> dict[str, Any]:
    """One attack in numbers."""
    import numpy as np

    result, files = found.result, list(found.files.values())
    changes = np.abs(result.perturbation[result.success])
    return {
        "attack": repr(attack),
        "name": type(attack).__name__,
        "goal": wanted,
        "fooled": int((result.status == "broken").sum()),
        "before": int((result.status == "clean").sum()),
        "images": len(result),
        "largest_levels": max((file.levels for file in files), default=None),
        "mean_levels": float(changes.mean()) if files else None,
        "gradients": float(result.gradients.mean()),
        "files": len(files),
        "verified": sum(file.verified for file in files),
    }


def _image(shipped: Shipped, found: Attacked, row: int) -> dict[str, Any]:
    """One image before and after."""
    result, file = found.result, found.files.get(row)
    return {
        "file": shipped.names[row],
        "before": shipped.classifier.caption(int(result.before[row])),
        "before_confidence": float(result.before_confidence[row]),
        "after": file and file.after,
        "confidence": file and file.confidence,
        "levels": file and file.levels,
        "gradients": int(result.gradients[row]),
        "verified": file and file.verified,
    }


def _evaluation(out: Path, shipped: Shipped) -> dict[str, Any]:
    """How many images hold, checked by the doctor, as a page if Jinja2 and matplotlib are there."""
    import advex
    from advex.errors import ModelWarning

    (out / RUN).unlink(missing_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ModelWarning)  # they are on the page
        found = advex.evaluate(
            shipped.classifier,
            (shipped.x, shipped.labels),
            (advex.PGD(), advex.SquareAttack(steps=500)),
            advex.Linf(SMALLER_EPSILON),
            run=out / RUN,
            progress=False,
        )
    try:
        page = str(found.report(out / PAGE, overwrite=True))
    except ImportError:
        (out / PAGE).unlink(missing_ok=True)
        page = None
    flags = [f"{flag.id}, {flag.name}: {flag.sentence}" for flag in found.flags]
    return {"headline": found.headline(), "flags": flags, "run": str(out / RUN), "page": page}


def _sheet(shipped: Shipped, found: dict[str, Attacked]) -> Any:
    """Some of the images, two lines each: the original and what each attack made of it; below, what
    each attack has changed.
    """
    import numpy as np

    from advex import images
    from advex._drawing import RED, chosen

    caption, pgd = shipped.classifier.caption, found["pgd"].result
    shown = ("fgsm", "pgd", "pgd-targeted")
    rows = chosen(pgd.status, shipped.labels, ON_SHEET)
    moves = [np.abs(found[name].result.perturbation[rows]).max() for name in shown]
    once = f"at most {plural(int(max(moves)), 'level')}\n\n{len(rows)} of {len(shipped.x)} images"
    upper, lower = [], []
    for row in rows:
        x, label = shipped.x[row], caption(int(shipped.labels[row]))
        line: list[Any] = [(x, f"{label}\n{pgd.before_confidence[row]:.1%}")]
        below: list[Any] = [(None, f"change x10\n{once if row == rows[0] else ''}")]
        for name in shown:
            result = found[name].result
            fooled = result.status[row] == "broken"
            words = (
                caption(int(result.prediction[row])),
                f"{result.confidence[row]:.1%}",
                "\u2713 fooled" if fooled else "\u2717 not fooled",
            )
            line.append((result.x[row], [(each, RED if fooled else "black") for each in words]))
            below.append((images.enlarged(x, result.x[row]), ""))
        upper.append(line)
        lower.append(below)
    pairs = [slice(start, start + 2) for start in range(0, len(rows), 2)]
    lines = [line for pair in pairs for line in (*upper[pair], *lower[pair])]
    return images.sheet(lines, ("original", "FGSM", "PGD", "PGD, targeted"), side=96, across=2)


# What is printed.

GRADIENTS, EACH = "gradients", "gradients\neach"
HELD, MEAN = "not\nfooled", "mean\nchange"


def show(report: dict[str, Any]) -> None:
    """Print the tables and say where the pictures are."""
    from advex.result import more_before

    screen, entries, budget = console(), report["attacks"], report["budget"]
    right, total = report["classified_correctly"], report["total"]
    say(
        screen,
        f"{total} test images of Fashion-MNIST, {'all' if right == total else right} of them"
        " classified correctly by the model that ships with advex."
        f" Each pixel may move by {budget}.",
    )
    say(screen, "Untargeted: any other class will do. Targeted: the class after the true one.")
    say(screen)
    say(screen, "PGD, untargeted, image by image:", style="bold")
    columns = ["image", "before", "after", GRADIENTS]
    screen.print(table(screen, columns, map(_image_cells, report["images"]), [GRADIENTS]))
    say(screen)
    say(screen, "All attacks, changes in grey levels:", style="bold")
    largest = {entry["largest_levels"] for entry in entries} - {None}
    columns = ["attack", "goal", "fooled", HELD, MEAN, EACH]
    screen.print(table(screen, columns, map(_attack_cells, entries), columns[2:], spare=[MEAN]))
    say(screen)
    for entry in entries:
        if entry["before"]:
            more = more_before(entry["before"], entry["goal"] == "targeted")
            say(screen, f"{entry['name']}, {entry['goal']}: {more}")
    if largest:
        say(screen, f"Largest change of a pixel: {plural(max(largest), 'grey level')} of 255")
    files, verified = (sum(entry[word] for entry in entries) for word in ("files", "verified"))
    say(screen, f"{verified} of {files} PNGs were read back and judged again: verified")
    say(screen, f"Not fooled is not safe: another attack within {budget} may break more.")
    say(screen)
    _places(screen, report)


def _image_cells(entry: dict[str, Any]) -> list[Any]:
    after = f"{entry['after']} {entry['confidence']:.0%}" if entry["after"] else "not fooled"
    return [
        Path(entry["file"]).stem,
        f"{entry['before']} {entry['before_confidence']:.0%}",
        marked(after, entry["after"] is not None),
        str(entry["gradients"]),
    ]


def _attack_cells(entry: dict[str, Any]) -> list[Any]:
    tried = entry["images"] - entry["before"]
    return [
        entry["name"],
        entry["goal"],
        f"{entry['fooled']} of {tried}",
        str(tried - entry["fooled"]),
        "" if entry["mean_levels"] is None else f"{entry['mean_levels']:.1f}",
        f"{entry['gradients']:.1f}",
    ]


def _places(screen: Any, report: dict[str, Any]) -> None:
    """Where the pictures are, what the evaluation found, and what to try next."""
    originals, evaluation = Path(report["originals"]), report["evaluation"]
    folders = ", ".join(Path(entry["folder"]).name for entry in report["attacks"])
    say_whole(screen, f"Pictures: {originals.parent}, in {originals.name}, {folders}")
    say_whole(screen, f"Side by side: {report['contact_sheet']}")
    say(screen)
    say(screen, "The same model evaluated, as one would show it to somebody:", style="bold")
    say(screen, evaluation["headline"])
    for flag in evaluation["flags"]:
        say(screen, f"FLAG {flag}")
    if evaluation["page"]:
        say_whole(screen, f"Report: {evaluation['page']}")
    else:
        say(screen, "For a page: pip install 'advex[report]', then")
        _paste(screen, "report", evaluation["run"], "--out", "report.html")
    say(screen)
    out = str(originals.parent / "your-turn")
    say(screen, "Your turn: make a bag of each, or see what other attacks there are.", style="bold")
    words = ("attack", report["originals"], "--target", "Bag", "--epsilon", "8/255")
    _paste(screen, *words, "--out", out, "--overwrite")
    _paste(screen, "attacks")


def _paste(screen: Any, *words: str) -> None:
    lines = command([str(word) for word in words]).splitlines()
    say_whole(screen, "\n".join(f"  {line}" for line in lines))
