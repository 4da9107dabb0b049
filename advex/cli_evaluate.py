"""``advex evaluate`` and ``advex report``: data from a folder or an npz file, a run file, tables
and pages.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advex import cli
from advex.errors import ImageError, InvalidInput, nearest

if TYPE_CHECKING:
    from advex._arrays import Array
    from advex.attacks import Attack
    from advex.budgets import Budget
    from advex.evaluation import Evaluation
    from advex.model.classifier import Classifier

ATTACKS = {
    "verdict": "Verdict",
    "autoattack": "AutoAttack",
    "square": "SquareAttack",
    "apgd": "APGD",
    "fab": "FAB",
    "minimum-norm": "MinimumNorm",
    **{name: kind for name, kind in cli.ATTACKS.items() if name not in ("fine", "gradient-ascent")},
}
# names of arrays in npz files, the first is taken
PAIRS = (
    ("x_test", "y_test"),
    ("x", "labels"),
    ("x", "y"),
    ("images", "labels"),
)
BATCH = 64  # image files that are read at a time
EPILOG = """\
exit codes: 0 evaluated, whatever was found; 1 some image files could not be read;
  2 wrong usage; 130 interrupted

examples:
  advex evaluate --model mine.keras --data test.npz --epsilon 8/255 --run mine.advex
  advex evaluate --model MobileNetV2 --data photos --epsilon 2/255 --attack pgd \\
    --attack square --run photos.advex
  advex report mine.advex --out mine.html --csv mine.csv

The same call goes on with a run that was stopped. A folder holds one folder of images
for each class.
"""


def add_parsers(commands: Any, number: Any, whole: Any) -> None:
    """``evaluate`` and ``report`` for the parser of the command line."""
    layout = argparse.RawDescriptionHelpFormatter
    evaluate = commands.add_parser(
        "evaluate",
        help="how far a model holds on a data set",
        epilog=EPILOG,
        formatter_class=layout,
    )
    add = evaluate.add_argument
    add(
        "--model",
        metavar="FILE.keras|NAME",
        help="as for attack; without it the small classifier of clothes",
    )
    add(
        "--data",
        type=Path,
        required=True,
        metavar="FOLDER|FILE.npz",
        help="a folder for each class, or arrays x and labels",
    )
    add(
        "--box",
        nargs=2,
        type=float,
        metavar=("LO", "HI"),
        help="lowest and highest value the model file takes (0 1)",
    )
    add("--classes", type=Path, metavar="NAMES.json", help="class names: a list, or index -> name")
    add(
        "--attack",
        action="append",
        metavar="NAME",
        help=f"{', '.join(ATTACKS)} (verdict and square); may be repeated",
    )
    add(
        "--norm",
        type=str.lower,
        choices=list(cli.NORMS),
        default="linf",
        help="how a change is measured (linf)",
    )
    add(
        "--epsilon",
        type=number,
        required=True,
        metavar="E",
        help="largest change: 8/255, or inf with --attack minimum-norm",
    )
    add(
        "--steps",
        type=whole,
        metavar="N",
        help="number of steps of every attack (their own defaults)",
    )
    add("--count", type=whole, metavar="N", help="only the first N examples")
    add("--batch-size", type=whole, metavar="N", help="examples per step")
    add(
        "--keep",
        choices=("none", "success"),
        default="none",
        help="success keeps every adversarial input in the run file (none)",
    )
    add("--seed", type=whole, default=0, metavar="N", help="decides all random numbers (0)")
    add(
        "--workers",
        type=whole,
        metavar="N",
        help="processes, by Ray; data from an npz file only (this process alone)",
    )
    add(
        "--no-doctor",
        action="store_true",
        help="leave out the checks of whether the figures can be trusted",
    )
    add(
        "--run",
        type=Path,
        metavar="FILE",
        help="keeps what was found; a run in it goes on (nothing is kept)",
    )
    add("--json", action="store_true", help="print one JSON document instead of a table")

    report = commands.add_parser("report", help="what a run file holds, as a page or as tables")
    report.add_argument("run", type=Path, metavar="RUN", help="the file of advex evaluate --run")
    report.add_argument(
        "--out", type=Path, metavar="PAGE.html", help="write one self-contained page"
    )
    report.add_argument("--csv", type=Path, metavar="FILE", help="write one line for each example")
    report.add_argument("--overwrite", action="store_true", help="replace these files")
    report.add_argument(
        "--json", action="store_true", help="print one JSON document instead of a table"
    )


def evaluate(options: argparse.Namespace) -> dict[str, Any]:
    """All of ``advex evaluate`` but the printing."""
    import advex

    attacks, budget = _attacks(options), _budget(options)
    names = cli.class_names(options.classes) if options.classes is not None else None
    classifier = cli.chosen_model(options, names)
    data = _data(options, classifier)
    found = advex.evaluate(
        classifier,
        data,
        attacks,
        budget,
        run=options.run,
        seed=options.seed,
        batch_size=options.batch_size,
        keep=options.keep,
        diagnose=not options.no_doctor,
        engine="local" if options.workers is None else "ray",
        workers=options.workers or 1,
    )
    unread = getattr(data, "unread", {})
    for reason in unread.values():
        print(f"advex: left out {cli.printable(reason)}", file=sys.stderr)
    return {
        "command": "evaluate",
        "success": not unread,
        "evaluation": found,
        "unread": sorted(map(str, unread)),
        "run": options.run and str(options.run),
    }


def report(options: argparse.Namespace) -> dict[str, Any]:
    """All of ``advex report`` but the printing."""
    from advex.evaluation import Evaluation

    found = Evaluation.load(options.run)
    written = []
    for path, write in ((options.out, found.report), (options.csv, found.to_csv)):
        if path is not None:
            if not path.parent.is_dir():
                raise InvalidInput(f"{path}: there is no folder {path.parent}")
            written.append(str(write(path, overwrite=options.overwrite)))
    return {
        "command": "report",
        "success": True,
        "evaluation": found,
        "written": written,
        "run": str(options.run),
    }


def show(outcome: dict[str, Any]) -> None:
    """The tables, and where files are."""
    found: Evaluation = outcome["evaluation"]
    screen = cli.console()

    def say(line: str) -> None:
        screen.print(cli.printable(line), markup=False)

    say(found.headline())
    if found.interval is not None:
        low, high = found.interval
        say(
            f"With 95 % confidence {low:.1%} to {high:.1%}; an upper bound: a better attack may"
            f" find less."
        )
    columns = [
        "attack",
        "attacked",
        "broken",
        "by it\nalone",
        "not\nbroken",
        "gradients\neach",
        "queries\neach",
        "seconds",
    ]
    rows = []
    for attack in found.attacks:
        each = max(1, attack.attacked)
        share = "" if attack.accuracy is None else f"{attack.accuracy:.1%}"
        counts = [str(attack.attacked), str(attack.broken), str(attack.alone), share]
        rows.append(
            [
                attack.name,
                *counts,
                f"{attack.gradients / each:.1f}",
                f"{attack.queries / each:.1f}",
                f"{attack.seconds:.1f}",
            ]
        )
    screen.print(cli.table(columns, rows, columns[1:]))
    for flag in found.flags:
        say(f"FLAG {flag.id}, {flag.name}: {flag.found} {flag.advice}")
    if found.diagnosis is None:
        say("The doctor has not looked.")
    elif not found.flags:
        say("The doctor found nothing to warn of.")
    for count, what in (
        (found.invalid, "answered with NaN: in no figure"),
        (found.undecided, "undecided"),
    ):
        if count:
            say(f"{cli.plural(count, 'example')} {what}")
    for sentence in found.warnings:
        say(sentence)
    for path in outcome.get("written", ()):
        say(f"Written: {path}")
    if outcome["command"] == "evaluate" and outcome["run"]:
        say(f"Kept in {outcome['run']}. As a page: advex report {outcome['run']} --out report.html")


# What is asked for.


def _attacks(options: argparse.Namespace) -> list[Attack] | None:
    import advex

    if options.attack is None:
        if options.steps is not None:
            raise InvalidInput("--steps belongs to an attack: --attack pgd --steps 40")
        return None
    made: list[Attack] = []
    for given in options.attack:
        name = given.lower().replace("_", "-")
        if name not in ATTACKS:
            close = nearest(name, ATTACKS)
            raise InvalidInput(
                f"there is no attack {given!r}; "
                + (f"did you mean {close[0]}?" if close else ", ".join(ATTACKS))
            )
        settings = (
            {}
            if options.steps is None or name in ("fgsm", "verdict", "autoattack", "minimum-norm")
            else {"steps": options.steps}
        )
        made.append(getattr(advex, ATTACKS[name])(**settings))
    return made


def _budget(options: argparse.Namespace) -> Budget:
    import advex

    kind = getattr(advex, cli.NORMS[options.norm])
    if math.isinf(options.epsilon):
        unlimited: Budget = kind()
        return unlimited
    limited: Budget = kind(
        int(options.epsilon)
        if options.norm == "l0" and options.epsilon.is_integer()
        else options.epsilon
    )
    return limited


def _data(options: argparse.Namespace, classifier: Classifier) -> Any:
    if options.count is not None and options.count < 1:
        raise InvalidInput(f"--count must be at least 1; received {options.count}")
    path = options.data
    if not path.exists():
        raise InvalidInput(f"--data {path}: no such file or folder")
    if path.is_dir():
        return Folder(path, classifier, options.count)
    return _arrays(path, classifier, options.count)


def _arrays(path: Path, classifier: Classifier, count: int | None) -> tuple[Array, Array]:
    """Inputs and labels from an npz file."""
    import zipfile

    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as stored:
            if not hasattr(stored, "files"):
                raise InvalidInput(
                    f"--data {path}: one array alone; an npz file with x and labels is needed"
                )
            pair = next((pair for pair in PAIRS if set(pair) <= set(stored.files)), None)
            if pair is None:
                wanted = ", ".join(" and ".join(pair) for pair in PAIRS)
                raise InvalidInput(
                    f"--data {path}: it holds {', '.join(stored.files) or 'nothing'}; looked for"
                    f" {wanted}"
                )
            x, labels = stored[pair[0]][:count], stored[pair[1]][:count]
    except (ValueError, EOFError, zipfile.BadZipFile) as problem:
        if isinstance(problem, InvalidInput):
            raise
        raise InvalidInput(f"--data {path} is no npz file of plain arrays ({problem})") from None
    shape = classifier.input_shape
    if shape is not None and len(shape) == x.ndim + 1 and shape[-1] == 1:
        x = x[..., None]  # grey pictures are often kept without their axis of channels
    return x, labels


class Folder:
    """Images in one folder for each class, read a few at a time, in the order of their names.

    Args:
        path: the folder. Its folders are named as the classes, or by their numbers; with other
            names they are numbered in order.
        classifier: says what size and how many channels pictures must have.
        count: at most so many files.

    Attributes:
        examples: how many files there are.
        unread: file -> why it could not be read; known once all were tried.

    Raises:
        InvalidInput: no such folders, or no image files in them.
    """

    def __init__(self, path: Path, classifier: Classifier, count: int | None = None) -> None:
        from advex import images

        folders = sorted(
            entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith(".")
        )
        if not folders:
            raise InvalidInput(
                f"--data {path}: expected one folder of images for each class, found no folders"
            )
        self.size, self.channels = cli.picture_shape(classifier)
        if self.size is None:
            raise InvalidInput(
                "the model takes pictures of any size, and batches need one: evaluate it from"
                " Python"
            )
        numbers = _class_numbers([folder.name for folder in folders], classifier.names)
        self.files = [
            (file, number)
            for folder, number in zip(folders, numbers, strict=True)
            for file in sorted(folder.iterdir())
            if file.suffix.lower() in images.suffixes()
            and not file.name.startswith(".")
            and not file.is_dir()
        ][:count]
        if not self.files:
            raise InvalidInput(f"--data {path}: no image files in its folders")
        self.examples = len(self.files)
        self.unread: dict[Path, str] = {}

    def __iter__(self) -> Iterator[tuple[Array, Array]]:
        import numpy as np

        from advex import images

        for start in range(0, len(self.files), BATCH):
            pixels, labels = [], []
            for path, label in self.files[start : start + BATCH]:
                try:
                    pixels.append(images.read(path, channels=self.channels, size=self.size).pixels)
                    labels.append(label)
                except ImageError as problem:
                    self.unread[path] = str(problem)
            if pixels:
                yield np.stack(pixels), np.asarray(labels)


def _class_numbers(folders: list[str], names: list[str] | None) -> list[int]:
    """The class of each folder."""
    if names is not None:
        known = {name: number for number, name in enumerate(names)}
        if all(folder in known for folder in folders):
            return [known[folder] for folder in folders]
    if all(folder.isdecimal() for folder in folders):
        return [int(folder) for folder in folders]
    if names is None or len(folders) == len(names):
        return list(range(len(folders)))
    wrong = next(folder for folder in folders if folder not in names)
    close = nearest(wrong, names)
    hint = (
        f"; did you mean {close[0]!r}?"
        if close
        else f": the model has {len(names)} classes, such as {names[0]!r}"
    )
    raise InvalidInput(f"--data: there is no class {wrong!r}{hint}")
