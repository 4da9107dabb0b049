"""The command line: ``demo``, ``attack``, ``evaluate``, ``report``; tables for people, one JSON
document for machines.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import math
import os
import sys
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advex._settings import shown
from advex._version import VERSION
from advex.errors import AdvexError, AdvexWarning, ImageError, InvalidInput, nearest

if TYPE_CHECKING:
    from advex._arrays import Array
    from advex.attacks import Attack
    from advex.budgets import Budget
    from advex.classifier import Classifier
    from advex.goals import Targeted
    from advex.images import Picture

ATTACKS = {
    "fgsm": "FGSM",
    "bim": "BIM",
    "pgd": "PGD",
    "momentum": "MomentumIterative",
    "nesterov": "NesterovIterative",
    "gradient-ascent": "GradientAscent",
    "fine": "fine",
}
NORMS = {"linf": "Linf", "l2": "L2", "l1": "L1", "l0": "L0"}
SHEET = "contact_sheet.png"
NAMES = 2**24  # bytes of a file of class names
SHIPPED = (
    "No --model was given: the small classifier of clothes that ships with advex was attacked."
)
LONGEST = 100  # characters of a whole number
SHOWN = 60  # pictures on one contact sheet
EPILOG = """\
exit codes: 0 every image was fooled; 1 some were not, or could not be read;
  2 wrong usage; 130 interrupted

examples:
  advex demo
  advex attack cat.jpg --model MobileNetV2 --target toaster --confidence 0.8
  advex attack photos --model mine.keras --box 0 255 --classes names.json \\
    --epsilon 4/255 --out broken
"""


@dataclass
class Record:
    """What became of one file."""

    file: str
    status: str = "unreadable"
    """fooled, not fooled, already the target, not verified, no answer, unreadable."""
    reason: str | None = None
    before: str | None = None
    before_confidence: float | None = None
    after: str | None = None
    confidence: float | None = None
    levels: int | None = None
    """Largest change of any element, in grey levels."""
    distance: float | None = None
    """Size of the change in the norm asked for, in units of the box's range."""
    verified: bool | None = None
    output: str | None = None
    gradients: int | None = None
    notes: list[str] = field(default_factory=list)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: its arguments; default those of the process.

    Returns:
        The exit code: 0 if every image was fooled (``demo``: if every file written is what it
        claims to be), 1 if not, 2 for wrong usage, 130 after Ctrl-C.

    Example:
        >>> main(["--version"])
        advex ...
        0
    """
    parser = _parser()
    try:
        options = parser.parse_args(argv)
    except SystemExit as ended:
        return int(ended.code or 0)
    said: list[str] = []
    try:
        # Keras reports downloads on stdout
        with (
            _short_warnings(said),
            contextlib.redirect_stdout(sys.stderr),
        ):
            _import_quietly()
            from advex import cli_evaluate, demo

            if options.command == "demo":
                report: dict[str, Any] = demo.run(options.out)
            else:
                work = {
                    "attack": _attack,
                    "evaluate": cli_evaluate.evaluate,
                    "report": cli_evaluate.report,
                }
                report = work[options.command](options)
        if options.json:
            print(
                json.dumps(
                    {"advex": VERSION, **_plain(report), "warnings": said},
                    indent=2,
                    allow_nan=False,
                )
            )
        else:
            shown = {
                "demo": demo.show,
                "attack": _show,
                "evaluate": cli_evaluate.show,
                "report": cli_evaluate.show,
            }
            shown[options.command](report)
        return 0 if report["success"] else 1
    except KeyboardInterrupt as problem:
        print(f"advex: {printable(str(problem) or 'interrupted')}", file=sys.stderr)
        return 130
    except (AdvexError, OSError, ImportError, MemoryError) as problem:
        print(f"advex: {printable(str(problem))}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    from advex import cli_evaluate

    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "advex",
        description="Adversarial examples of Keras models.",
        epilog=EPILOG,
        formatter_class=layout,
    )
    parser.add_argument("--version", action="version", version=f"advex {VERSION}")
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="demo | attack | evaluate | report"
    )

    demo = commands.add_parser(
        "demo", help="attack the 32 images and the small classifier that ship with advex"
    )
    demo.add_argument(
        "--out",
        type=Path,
        default=Path("advex-out"),
        metavar="DIR",
        help="where the pictures go (advex-out)",
    )
    demo.add_argument(
        "--json", action="store_true", help="print one JSON document instead of tables"
    )

    attack = commands.add_parser(
        "attack", help="attack your own images and model", epilog=EPILOG, formatter_class=layout
    )
    add = attack.add_argument
    add(
        "image",
        nargs="+",
        type=Path,
        metavar="IMAGE",
        help="an image file, or a folder: all images in it",
    )
    add(
        "--model",
        metavar="FILE.keras|NAME",
        help=(
            "a model file, or a model of keras.applications (fetched by Keras); without it"
            " the small classifier of clothes"
        ),
    )
    add(
        "--box",
        nargs=2,
        type=float,
        metavar=("LO", "HI"),
        help="lowest and highest value the model file takes (0 1)",
    )
    add("--classes", type=Path, metavar="NAMES.json", help="class names: a list, or index -> name")
    add("--attack", metavar="NAME", help=f"{', '.join(ATTACKS)} (pgd; with --confidence: fine)")
    add(
        "--norm",
        type=str.lower,
        choices=list(NORMS),
        default="linf",
        help="how a change is measured (linf)",
    )
    add(
        "--epsilon",
        type=_number,
        metavar="E",
        help="largest change, as a fraction of the box: 2/255, 0.01 (2/255)",
    )
    add(
        "--target",
        metavar="NAME|INDEX",
        help="the class to reach; without it any other class will do",
    )
    add(
        "--confidence",
        type=_number,
        metavar="P",
        help="the probability to reach for the target, such as 0.8",
    )
    add("--steps", type=_whole, metavar="N", help="number of steps (the attack's own default)")
    add(
        "--restarts",
        type=_whole,
        default=1,
        metavar="N",
        help="pgd: random starts for each image (1)",
    )
    add(
        "--learning-rate",
        type=_number,
        metavar="R",
        help="gradient-ascent: factor of the gradient (0.1)",
    )
    add("--seed", type=_whole, default=0, metavar="N", help="decides all random numbers (0)")
    add(
        "--out",
        type=Path,
        default=Path("adversarial"),
        metavar="DIR",
        help="where the pictures go (adversarial)",
    )
    add("--overwrite", action="store_true", help="replace files in DIR")
    add("--json", action="store_true", help="print one JSON document instead of a table")

    cli_evaluate.add_parsers(commands, _number, _whole)
    return parser


def _number(text: str) -> float:
    """``2/255`` or ``0.01`` as a float."""
    above, slash, below = text.partition("/")
    try:
        return float(above) / float(below) if slash else float(text)
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(
            f"{shown(text)} is not a number such as 2/255 or 0.01"
        ) from None


def _whole(text: str) -> int:
    """A whole number that a machine can count to; Python itself refuses to read numbers of more
    than 4,300 digits.
    """
    try:
        number = int(text) if len(text) < LONGEST else 2**64
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{shown(text)} is not a whole number such as 10"
        ) from None
    if not -(2**63) <= number < 2**64:
        raise argparse.ArgumentTypeError(
            f"{shown(text, 20)} is not a whole number of at most 64 bits"
        )
    return number


# What is asked for.


def _sources(given: Iterable[Path]) -> list[Path]:
    """The image files that are meant: files as they are, folders opened."""
    from advex import images

    files: list[Path] = []
    for path in given:
        if "\0" in str(path) or not path.exists():
            raise InvalidInput(f"{path}: no such file or folder")
        if not path.is_dir():
            files.append(path)
            continue
        inside = [
            entry
            for entry in sorted(path.iterdir())
            if entry.suffix.lower() in images.suffixes()
            and not entry.name.startswith(".")
            and not entry.is_dir()
        ]
        if not inside:
            raise InvalidInput(
                f"{path}: no image files in this folder (folders in it are not opened)"
            )
        files += inside
    return files


def _output_names(files: Sequence[Path]) -> list[str]:
    """The PNG that each source becomes, or an error where two would become the same."""
    seen = {SHEET: "the contact sheet"}
    chosen = []
    for path in files:
        name = _plain_letters(path.stem).replace("\\", "_") + ".png"
        if name.casefold() in seen:
            raise InvalidInput(
                f"{path} and {seen[name.casefold()]} would both be saved as {name}; rename one, or"
                f" use two calls"
            )
        seen[name.casefold()] = str(path)
        chosen.append(name)
    return chosen


def check_folder(
    folder: Path, names: Iterable[str], sources: Iterable[Path] = (), overwrite: bool = False
) -> None:
    """Raise ``InvalidInput`` unless the files ``names`` can be written to ``folder``."""
    if "\0" in str(folder):
        raise InvalidInput(f"{str(folder)!r} is not a folder's name")
    above = folder
    while not os.path.lexists(above) and above != above.parent:
        above = above.parent
    if not above.is_dir():
        raise InvalidInput(f"--out {folder}: {above} is not a folder")
    if not os.access(above, os.W_OK | os.X_OK):
        raise InvalidInput(f"--out {folder}: {above} cannot be written")
    if above != folder:
        return
    originals = {path.resolve() for path in sources}
    paths = [folder / name for name in names]
    for path in paths:
        if path.resolve() in originals:
            raise InvalidInput(f"{path} would replace its own source; choose another --out")
        if path.is_symlink() or path.is_dir():
            raise InvalidInput(
                f"{path} is a {'symbolic link' if path.is_symlink() else 'folder'}; choose another"
                f" --out"
            )
    taken = [path for path in paths if path.exists()]
    if taken and not overwrite:
        files = (
            f"{taken[0]} exists"
            if len(taken) == 1
            else f"{len(taken)} files exist, such as {taken[0]}"
        )
        raise InvalidInput(f"{files}; --overwrite replaces, --out DIR writes elsewhere")


def _chosen_attack(options: argparse.Namespace) -> Attack:
    import advex

    name = (options.attack or ("fine" if options.confidence else "pgd")).lower().replace("_", "-")
    if name not in ATTACKS:
        close = nearest(name, ATTACKS)
        raise InvalidInput(
            f"there is no attack {name!r}; "
            + (f"did you mean {close[0]}?" if close else ", ".join(ATTACKS))
        )
    settings: dict[str, Any] = {}
    if options.steps is not None:
        if name == "fgsm":
            raise InvalidInput("fgsm takes one step; leave out --steps, or use bim")
        if options.steps < 1:
            raise InvalidInput(f"--steps must be at least 1; received {options.steps}")
        settings["steps"] = options.steps
    if options.learning_rate is not None:
        if name != "gradient-ascent":
            raise InvalidInput("--learning-rate belongs to --attack gradient-ascent")
        settings["learning_rate"] = options.learning_rate
    attack: Any = getattr(advex, ATTACKS[name])(**settings)
    if options.restarts != 1:
        if name != "pgd":
            raise InvalidInput(
                f"--restarts belongs to --attack pgd; {name} draws no random numbers"
            )
        attack = advex.Restarts(attack, options.restarts)
    return attack


def _chosen_budget(options: argparse.Namespace) -> Budget:
    import advex

    epsilon = options.epsilon
    if epsilon is None:
        if options.norm != "linf":
            unit = (
                "a number of array elements, such as 20" if options.norm == "l0" else "such as 0.5"
            )
            raise InvalidInput(f"--norm {options.norm} needs --epsilon, {unit}")
        epsilon = 2 / 255
    elif options.norm == "l0" and epsilon.is_integer():
        epsilon = int(epsilon)
    budget: Budget = getattr(advex, NORMS[options.norm])(epsilon)
    return budget


def class_names(path: Path) -> list[str]:
    """Class names from a JSON file: a list, or an object index -> name (or -> [identifier, name],
    as Keras has it).
    """
    if "\0" in str(path) or path.is_dir() or not path.exists():
        raise InvalidInput(
            f"--classes {path}: {'a folder' if path.is_dir() else 'no such file'}; a JSON file of"
            f" names is needed"
        )
    with path.open("rb") as handle:
        raw = handle.read(NAMES + 1)
    if len(raw) > NAMES:
        raise InvalidInput(f"--classes {path}: larger than any list of names, {NAMES // 2**20} MB")
    try:
        listed = json.loads(raw.decode("utf-8-sig"), object_pairs_hook=_without_doubles)
    except RecursionError:
        raise InvalidInput(
            f"{path}: brackets in brackets without end; a list of names, or an object index -> name"
        ) from None
    except ValueError as problem:
        raise InvalidInput(f"{path}: not a JSON file ({problem})") from None
    if isinstance(listed, dict):
        missing = [index for index in range(len(listed)) if str(index) not in listed]
        if missing:
            raise InvalidInput(f"{path}: {len(listed)} names, but none for class {missing[0]}")
        listed = [listed[str(index)] for index in range(len(listed))]
    if not isinstance(listed, list) or not listed:
        raise InvalidInput(f"{path}: expected a list of names, or an object index -> name")
    listed = [name[-1] if isinstance(name, list) and name else name for name in listed]
    if not all(isinstance(name, str) and name for name in listed):
        raise InvalidInput(f"{path}: every class needs a name, a text that is not empty")
    return listed


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, whose last entry would win where two have the same key."""
    made = dict(pairs)
    if len(made) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(
            f"the key {shown(next(key for key in keys if keys.count(key) > 1), 40)} is there twice"
        )
    return made


def class_number(word: str, names: Sequence[str] | None) -> int:
    """The class that ``word`` means: a name, one of its comma-separated synonyms, whatever the
    case, or an index.

    Raises:
        InvalidInput: unknown or ambiguous; the message lists the nearest.

    Example:
        >>> class_number("Tabby cat", ["tench", "tabby, tabby cat"])
        1
    """

    def plain(text: str) -> str:
        return " ".join(text.replace("_", " ").casefold().split())

    names = names or []
    wanted = plain(word)
    said = word if len(word) < LONGEST else f"{word[:LONGEST]}..."
    if word.strip().isdecimal() and len(word.strip()) >= LONGEST:
        raise InvalidInput(f"--target {said}: no model has so many classes")
    whole = [index for index, name in enumerate(names) if plain(name) == wanted]
    found = whole or [
        index for index, name in enumerate(names) if wanted in map(plain, name.split(","))
    ]
    if word.strip().isdecimal() and int(word) not in found:
        if names and int(word) >= len(names) and not found:
            raise InvalidInput(
                f"--target {said}: there are {len(names)} classes, 0 to {len(names) - 1}"
            )
        found.append(int(word))
    if len(found) > 1:
        listed = ", ".join(
            f"{index} ({names[index]})" if index < len(names) else str(index) for index in found
        )
        raise InvalidInput(
            f"--target {said} is ambiguous: {listed}; give the index"
            if not word.strip().isdecimal()
            else f"--target {said} is ambiguous: {listed}; give the whole name"
        )
    if found:
        return found[0]
    if not names:
        raise InvalidInput(
            f"--target {said}: the class names are not known; give an index, or --classes"
            f" NAMES.json"
        )
    synonyms = {plain(part): index for index, name in enumerate(names) for part in name.split(",")}
    close = [part for part in synonyms if wanted in part.split()][:3]
    close += [part for part in nearest(wanted, synonyms, 3) if part not in close]
    hint = ", ".join(f"{synonyms[part]} ({names[synonyms[part]]})" for part in close[:4])
    raise InvalidInput(
        f"--target {said}: no such class" + (f"; the nearest: {hint}" if close else "")
    )


def chosen_model(options: argparse.Namespace, names: list[str] | None) -> Classifier:
    """The classifier that ``--model`` and ``--box`` mean."""
    from advex import zoo

    name = options.model
    if name is not None and (Path(name).suffix or os.sep in name or Path(name).exists()):
        return zoo.load(name, tuple(options.box or (0, 1)), names)
    if options.box is not None:
        raise InvalidInput("--box belongs to --model FILE.keras; the box of other models is known")
    if name is None:
        return zoo.fashion_mnist(names)
    _tell(f"loading {zoo.found(name)}")
    return zoo.application(name, names)


def _tell(line: str) -> None:
    """A line for somebody who watches."""
    if sys.stderr.isatty():
        print(line, file=sys.stderr)


def picture_shape(classifier: Classifier) -> tuple[tuple[int, int] | None, int]:
    """The size (height, width) of the pictures that the model takes, if it is fixed, and their
    channels.
    """
    shape = classifier.input_shape
    inner = () if shape is None else shape[1:]
    if len(inner) == 2:
        inner = (*inner, 1)
    channels = inner[2] if len(inner) == 3 else None
    if channels not in (1, 3):
        raise InvalidInput(
            f"the model takes x of shape {shape}; pictures are (n, height, width), or (n, height,"
            f" width, 1 or 3):"
            " attack it from Python"
        )
    height, width = inner[:2]
    return (None if height is None or width is None else (height, width)), channels


# The work.


def _attack(options: argparse.Namespace) -> dict[str, Any]:
    """All of ``advex attack`` but the printing."""
    if options.confidence is not None:
        if options.target is None:
            raise InvalidInput("--confidence is the probability of a class: it needs --target")
        if not 0 <= options.confidence <= 1:
            raise InvalidInput(
                f"--confidence must lie between 0 and 1; received {options.confidence:g}"
            )
    attack, budget = _chosen_attack(options), _chosen_budget(options)
    sources = _sources(options.image)
    outputs = _output_names(sources)
    check_folder(options.out, [*outputs, SHEET], sources, options.overwrite)
    names = class_names(options.classes) if options.classes is not None else None
    classifier = chosen_model(options, names)
    size, channels = picture_shape(classifier)
    target = None if options.target is None else class_number(options.target, classifier.names)

    from advex import images

    records = [Record(str(path)) for path in sources]
    groups: dict[tuple[int, ...], list[int]] = {}
    pictures: dict[int, Picture] = {}
    for index, path in enumerate(sources):
        try:
            pictures[index] = images.read(path, channels=channels, size=size)
        except ImageError as problem:
            records[index].reason = str(problem).removeprefix(f"{path}: ")
            continue
        records[index].notes = list(pictures[index].notes)
        groups.setdefault(pictures[index].pixels.shape, []).append(index)

    rows: list[list[tuple[Array, str]]] = []
    info: dict[str, Any] = {}
    for members in groups.values():
        batch = _Batch(
            [records[index] for index in members], [pictures[index] for index in members]
        )
        rows += batch.run(
            classifier, attack, target, budget, options, [outputs[index] for index in members]
        )
        info |= batch.info
    sheet = options.out / SHEET if rows else None
    if sheet is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        across = min(4, max(1, round(math.sqrt(min(len(rows), SHOWN) / 2))))
        side = 224 if len(rows) <= 8 and max(rows[0][0][0].shape) >= 160 else 112
        headings = ("original", "adversarial", "difference x10")
        picture = images.sheet(rows[:SHOWN], headings, side=side, across=across)
        images.save(sheet, picture, overwrite=options.overwrite)
    return {
        "command": "attack",
        "success": all(record.status == "fooled" for record in records),
        "fooled": sum(record.status == "fooled" for record in records),
        "total": len(records),
        "settings": {
            "model": options.model or "fashion_mnist",
            "box": classifier.box,
            "attack": repr(attack),
            "attack_name": _short_name(attack),
            "budget": repr(budget),
            "norm": options.norm,
            "epsilon": budget.epsilon,
            "target": None
            if target is None
            else {"index": target, "name": classifier.caption(target)},
            "confidence": options.confidence,
            "seed": options.seed,
            **{name: info[name] for name in ("head", "backend", "versions") if name in info},
        },
        "images": [dataclasses.asdict(record) for record in records],
        "contact_sheet": sheet and str(sheet),
        "attacked": len(rows),
        "notes": ([] if options.model else [SHIPPED]) + info.get("notes", []),
    }


def _short_name(attack: Attack) -> str:
    """The attack in a sentence."""
    restarts = getattr(attack, "restarts", 1)
    inner = getattr(attack, "attack", attack)
    runs = f", {restarts} restarts" if restarts > 1 else ""
    return f"{type(inner).__name__} ({plural(inner.steps, 'step')}{runs})"


class _Batch:
    """Pictures of one shape, and the records that they fill."""

    def __init__(self, records: Sequence[Record], pictures: Sequence[Picture]) -> None:
        self.records, self.pictures = records, pictures
        self.info: dict[str, Any] = {}

    def run(
        self,
        classifier: Classifier,
        attack: Attack,
        target: int | None,
        budget: Budget,
        options: argparse.Namespace,
        outputs: Sequence[str],
    ) -> list[list[tuple[Array, str]]]:
        """Attack, save, fill the records; returns the rows of the contact sheet."""
        import numpy as np

        import advex

        x = np.stack([entry.pixels for entry in self.pictures])
        if len(classifier.input_shape or ()) == 3:
            x = x[..., 0]
        goal = (
            None if target is None else advex.Targeted(target, confidence=options.confidence or 0.0)
        )
        open_rows = self._looked_at(classifier, x, goal)
        if not open_rows:
            return []
        result = attack(classifier, x[open_rows], goal, budget, seed=options.seed)
        self.info = result.info
        names = [outputs[row] for row in open_rows]
        saved = {
            entry.index: entry
            for entry in result.save(options.out, names, overwrite=options.overwrite)
        }
        lines = []
        for index, row in enumerate(open_rows):
            record, written = self.records[row], saved.get(index)
            record.before, record.before_confidence = (
                classifier.caption(int(result.before[index])),
                float(result.before_confidence[index]),
            )
            record.gradients = int(result.gradients[index])
            record.status = "not fooled"
            name = classifier.caption(int(result.prediction[index]))
            after = f"{name}\n{result.confidence[index]:.1%}"
            fate = "not fooled"
            if written is not None:
                record.status = "fooled" if written.verified else "not verified"
                record.after, record.confidence = written.after, written.confidence
                record.levels, record.distance = written.levels, float(result.distance[index])
                record.verified, record.output = written.verified, str(written.path)
                record.notes += [written.reason] if written.reason else []
                after = f"{written.after}\n{written.confidence:.1%}"
                fate = f"max {plural(written.levels, 'level')}"
            original, adversarial = x[row], result.x[index]
            lines.append(
                [
                    (original, f"{record.before}\n{record.before_confidence:.1%}"),
                    (adversarial, after),
                    (
                        advex.images.enlarged(original, adversarial),
                        f"{fate}\n{printable(Path(record.file).name)}",
                    ),
                ]
            )
        return lines

    def _looked_at(self, classifier: Classifier, x: Array, goal: Targeted | None) -> list[int]:
        """The rows that there is something to do for; the records of the others are filled."""
        import numpy as np

        from advex._grid import Grid
        from advex.driver.judging import Judge
        from advex.driver.shapes import default_batch

        grid = Grid(x.dtype, classifier.box)
        judge = Judge(classifier, grid, default_batch(x.shape[1:]), grid.working(x[:16]))
        found = judge(x, None if goal is None else goal.check(len(x), judge.forward.classes))
        silent, reached = found["broken"], found["reached"]
        for row in np.flatnonzero(silent).tolist():
            self.records[row].status, self.records[row].reason = (
                "no answer",
                "the model answers NaN",
            )
        for row in np.flatnonzero(reached).tolist():
            record = self.records[row]
            record.status = "already the target"
            record.before = classifier.caption(int(found["prediction"][row]))
            record.before_confidence = float(found["confidence"][row])
        return np.flatnonzero(~silent & ~reached).tolist()


# What is printed.


def console() -> Any:
    """Where tables go; nothing is cut off where nobody watches."""
    from rich.console import Console

    watched = sys.stdout.isatty()
    return Console(
        file=sys.stdout, width=None if watched else 200, highlight=False, soft_wrap=not watched
    )


def table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[str] = ()
) -> Any:
    """A table for ``console()``; the columns in ``numbers`` are set flush right."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for name in columns:
        made.add_column(
            name,
            justify="right" if name in numbers else "left",
            no_wrap=name in numbers,
            overflow="fold",
        )
    for row in rows:
        made.add_row(*(Text(printable(cell)) for cell in row))
    return made


def printable(text: str) -> str:
    """``text`` without anything that would move a cursor, or that the terminal cannot encode."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return _plain_letters(text).encode(encoding, "replace").decode(encoding)


def _plain_letters(text: str) -> str:
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def plural(count: int, noun: str) -> str:
    """``1 level``, ``2 levels``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _show(report: dict[str, Any]) -> None:
    """The table of ``advex attack`` and what there is to say beside it."""
    screen, settings = console(), report["settings"]
    records = report["images"]
    other = settings["norm"] != "linf"
    columns = ["file", "status", "before", "after", "confidence", "grey\nlevels"]
    columns += [*([settings["norm"].upper()] * other), "verified"]
    lines = []
    for entry in records:
        status = (
            f"already {entry['before']}"
            if entry["status"] == "already the target"
            else entry["status"]
        )
        before = f"{entry['before']} {entry['before_confidence']:.0%}" if entry["before"] else ""
        confidence = "" if entry["confidence"] is None else f"{entry['confidence']:.1%}"
        levels = "" if entry["levels"] is None else str(entry["levels"])
        cells = [Path(entry["file"]).name, status, before, entry["after"] or "", confidence, levels]
        if other:
            cells.append("" if entry["distance"] is None else f"{entry['distance']:.3g}")
        lines.append([*cells, {True: "yes", False: "NO", None: ""}[entry["verified"]]])
    screen.print(table(columns, lines, ("confidence", "grey\nlevels", settings["norm"].upper())))

    def say(line: str) -> None:
        screen.print(printable(line), markup=False)

    remarks: dict[str, list[str]] = {}
    for entry in records:
        for remark in [entry["reason"]] if entry["reason"] else entry["notes"]:
            remarks.setdefault(remark, []).append(Path(entry["file"]).name)
    for remark, files in remarks.items():
        others = f" and {plural(len(files) - 1, 'other')}" if files[1:] else ""
        say(f"{files[0]}{others}: {remark}")
    means = f"{settings['attack_name']} within {settings['budget']}"
    goal = f" as {settings['target']['name']}" if settings["target"] else ""
    demanded = f" with {settings['confidence']:.0%}" if settings["confidence"] else ""
    say(
        f"{report['fooled']} of {plural(report['total'], 'image')} fooled{goal}{demanded} by"
        f" {means}"
    )
    if held := sum(entry["status"] == "not fooled" for entry in records):
        say(f"{held} not broken by {means}")
    for note in report["notes"]:
        say(note)
    if report["contact_sheet"]:
        first = f" (the first {SHOWN})" if report["attacked"] > SHOWN else ""
        say(
            f"Pictures in {Path(report['contact_sheet']).parent}, side by side{first} in"
            f" {report['contact_sheet']}"
        )


def _plain(value: Any) -> Any:
    """``value`` with infinities and NaN as None, and paths as text, for JSON."""
    if hasattr(value, "to_dict"):
        value = value.to_dict()
    if isinstance(value, dict):
        return {str(name): _plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value


@contextlib.contextmanager
def _short_warnings(said: list[str]) -> Iterator[None]:
    """Warnings of advex become lines on stderr, each once, and are kept in ``said``."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", AdvexWarning)
        usual = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
            if not issubclass(category, AdvexWarning):
                usual(message, category, *rest, **more)
            elif str(message) not in said:
                said.append(str(message))
                print(f"warning: {printable(str(message))}", file=sys.stderr)

        warnings.showwarning = show
        yield


def _import_quietly() -> None:
    """Wake Keras and its backend without the lines that their C++ libraries write; they are shown
    if that fails.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.stderr.flush()
    with tempfile.TemporaryFile() as kept:
        screen = os.dup(2)
        os.dup2(kept.fileno(), 2)
        awake = False
        try:
            import_module("keras").ops.convert_to_tensor(0.0)  # looks for devices
            awake = True
        finally:
            os.dup2(screen, 2)
            os.close(screen)
            if not awake:
                kept.seek(0)
                os.write(2, kept.read())


if __name__ == "__main__":
    sys.exit(main())
