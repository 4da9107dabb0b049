"""``advex attack``: your own images and model."""

from __future__ import annotations

import argparse
import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advex.cli.batch import (
    INTERRUPTED,
    SHEET_PICTURES,
    Job,
    Line,
    Record,
    attacked,
    contact_sheet,
    groups,
)
from advex.cli.blackbox import OPTIONS as BLACKBOX
from advex.cli.blackbox import demand_alone, in_options
from advex.cli.classes import class_number, given_classes
from advex.cli.files import SHEET, check_folder, output_names, sources
from advex.cli.models import chosen_model, picture_shape
from advex.cli.screen import console, plural, say, table, yes_or_no
from advex.cli.words import (
    ASKING,
    BOX,
    CLASSES,
    NO_QUERIES,
    NORM,
    NORMS,
    SEED,
    add_options,
    asks,
    budget_of,
    demand_attack,
    limited,
    number,
    option,
    whole,
)
from advex.cli.words import ATTACKS as STEPPING
from advex.errors import Interrupted, InvalidInput, UserCodeError

if TYPE_CHECKING:
    from advex.attacks import Attack
    from advex.budgets import Budget
    from advex.model.protocol import Model

SHIPPED = (
    "No --model was given: the small classifier of clothes that ships with advex was attacked."
)
USUAL_EPSILON = 2 / 255
ATTACKS = STEPPING | ASKING
EPILOG = """\
exit codes: 0 every image was fooled; 1 some were not, or could not be read;
  2 wrong usage; 130 interrupted

examples:
  advex demo
  advex attack cat.jpg --model MobileNetV2 --target toaster --confidence 0.8
  advex attack photos --model mine.keras --box 0 255 --classes names.json \\
    --epsilon 4/255 --out broken
  advex attack cat.jpg --blackbox service:predict --classes names.json \\
    --norm l2 --epsilon inf --queries 2000
"""

OPTIONS = (
    option(
        "image",
        nargs="+",
        type=Path,
        metavar="IMAGE",
        help="an image file, or a folder: all images in it",
    ),
    option(
        "--model",
        metavar="FILE.keras|NAME",
        help="a model file, or a model of keras.applications (fetched by Keras); without it"
        " the small classifier of clothes",
    ),
    *BLACKBOX,
    BOX,
    CLASSES,
    option(
        "--attack",
        metavar="NAME",
        help=f"{', '.join(ATTACKS)} (pgd; with --confidence: fine; with --blackbox:"
        " minimum-norm, which chooses one)",
    ),
    NORM,
    option(
        "--epsilon",
        type=number,
        metavar="E",
        help="largest change, as a fraction of the box: 2/255, 0.01 (2/255); inf looks for the"
        " smallest",
    ),
    option(
        "--target",
        metavar="NAME|INDEX",
        help="the class to reach; without it any other class will do",
    ),
    option(
        "--confidence",
        type=number,
        metavar="P",
        help="the probability to reach for the target, such as 0.8",
    ),
    option("--steps", type=whole, metavar="N", help="number of steps (the attack's own default)"),
    option(
        "--restarts",
        type=whole,
        default=1,
        metavar="N",
        help="pgd: random starts for each image (1)",
    ),
    option(
        "--learning-rate",
        type=number,
        metavar="R",
        help="gradient-ascent: factor of the gradient (0.1)",
    ),
    SEED,
    option(
        "--out",
        type=Path,
        default=Path("adversarial"),
        metavar="DIR",
        help="where the pictures go (adversarial)",
    ),
    option("--overwrite", action="store_true", help="replace files in DIR"),
    option("--json", action="store_true", help="print one JSON document instead of a table"),
)


def add(commands: Any) -> None:
    """The parser of this command."""
    add_options(
        commands.add_parser(
            "attack",
            help="attack your own images and model",
            epilog=EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        ),
        OPTIONS,
    )


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Read the images, attack them, write what was found; the report as plain values."""
    demand_alone(options)
    _check_confidence(options)
    attack, budget = _chosen_attack(options), _chosen_budget(options)
    files = sources(options.image)
    outputs = output_names(files)
    check_folder(options.out, [*outputs, SHEET], files, options.overwrite)
    classifier = chosen_model(options, given_classes(options))
    size, channels = picture_shape(classifier)
    target = None if options.target is None else class_number(options.target, classifier.names)
    job = Job(
        classifier,
        attack,
        target,
        options.confidence,
        budget,
        options.seed,
        options.out,
        options.overwrite,
    )
    records = [Record(str(path)) for path in files]
    lines: list[Line] = []
    info: dict[str, Any] = {}
    for images in groups(files, outputs, records, size, channels):
        with in_options(options):
            more, told = attacked(job, images, info.get("stopped"))
        lines, info = lines + more, info | told
    if info.get("stopped") == INTERRUPTED:
        found = sum(record.output is not None for record in records)
        raise Interrupted(
            f"interrupted; {plural(found, 'picture')} found until then: {options.out}"
        )
    if info.get("stopped") and all(record.queries is None for record in records):
        raise UserCodeError(info["stopped"])  # it has not answered once
    asked = [record.queries for record in records if record.queries is not None]
    return {
        "command": "attack",
        "success": all(record.status == "fooled" for record in records),
        "fooled": sum(record.status == "fooled" for record in records),
        "total": len(records),
        "settings": _settings(job, options, info),
        "images": [dataclasses.asdict(record) for record in records],
        "contact_sheet": contact_sheet(job, lines) if lines else None,
        "attacked": len(lines),
        "queries": sum(asked) if classifier.metered else None,
        "stopped": info.get("stopped"),
        "notes": ([] if options.model or options.blackbox else [SHIPPED]) + info.get("notes", []),
    }


# The settings.


def _check_confidence(options: argparse.Namespace) -> None:
    if options.confidence is None:
        return
    if options.target is None:
        raise InvalidInput("--confidence is the probability of a class: it needs --target")
    if not 0 <= options.confidence <= 1:
        raise InvalidInput(
            f"--confidence must lie between 0 and 1; received {options.confidence:g}"
        )


def _chosen_attack(options: argparse.Namespace) -> Attack:
    import advex

    usual = "fine" if options.confidence else "pgd"
    name = options.attack or ("minimum-norm" if options.blackbox is not None else usual)
    name = name.lower().replace("_", "-")
    demand_attack(name, ATTACKS, name)
    if options.steps is not None:
        if name == "fgsm":
            raise InvalidInput("fgsm takes one step; leave out --steps, or use bim")
        if name == "minimum-norm" and options.blackbox is None:
            raise InvalidInput("minimum-norm takes steps of its own on a model, and no others")
        if options.steps < 1:
            raise InvalidInput(f"--steps must be at least 1; received {options.steps}")
    if options.queries is not None and not asks(name, options):
        raise InvalidInput(NO_QUERIES.format(name))
    settings = limited(name, options, ())
    if options.learning_rate is not None:
        if name != "gradient-ascent":
            raise InvalidInput("--learning-rate belongs to --attack gradient-ascent")
        settings["learning_rate"] = options.learning_rate
    norm = [NORMS[options.norm]] * (name == "minimum-norm")
    attack: Any = getattr(advex, ATTACKS[name])(*norm, **settings)
    if options.restarts != 1:
        if name != "pgd":
            raise InvalidInput(
                f"--restarts belongs to --attack pgd; {name} draws no random numbers"
            )
        attack = advex.Restarts(attack, options.restarts)
    return attack


def _chosen_budget(options: argparse.Namespace) -> Budget:
    if options.epsilon is None and options.norm != "linf":
        unit = "a number of array elements, such as 20" if options.norm == "l0" else "such as 0.5"
        raise InvalidInput(f"--norm {options.norm} needs --epsilon, {unit}")
    return budget_of(options.norm, USUAL_EPSILON if options.epsilon is None else options.epsilon)


def _settings(job: Job, options: argparse.Namespace, info: dict[str, Any]) -> dict[str, Any]:
    """What was asked for, and what the search says of itself."""
    classifier: Model = job.classifier
    target = job.target
    return {
        "model": options.model or options.blackbox or "fashion_mnist",
        **({"blackbox": repr(classifier)} if options.blackbox is not None else {}),
        "box": classifier.box,
        "attack": repr(job.attack),
        "attack_name": _short_name(job.attack),
        "budget": repr(job.budget),
        "norm": options.norm,
        "epsilon": job.budget.epsilon,
        "target": None if target is None else {"index": target, "name": classifier.caption(target)},
        "confidence": job.confidence,
        "seed": job.seed,
        **{name: info[name] for name in ("head", "backend", "versions") if name in info},
    }


def _short_name(attack: Attack) -> str:
    """The attack in a sentence."""
    restarts = getattr(attack, "restarts", 1)
    inner = getattr(attack, "attack", attack)
    runs = f", {restarts} restarts" if restarts > 1 else ""
    steps = getattr(inner, "steps", None)
    if steps is None:
        return type(inner).__name__
    unit = "step" if getattr(inner, "needs", None) == "gradients" else "query"
    return f"{type(inner).__name__} ({plural(steps, unit)}{runs})"


# What is printed.


def show(report: dict[str, Any]) -> None:
    """The table of files, remarks about them, and the result in a sentence."""
    screen, norm = console(), report["settings"]["norm"].upper()
    metered = report["queries"] is not None
    scores = not metered or any(
        entry["before_confidence"] is not None for entry in report["images"]
    )
    columns = ["file", "status", "before", "after", *(["confidence"] * scores), "grey\nlevels"]
    columns += [*([norm] * (norm != "LINF")), *(["queries"] * metered), "verified"]
    rows = [
        _cells(entry, other_norm=norm != "LINF", scores=scores, metered=metered)
        for entry in report["images"]
    ]
    screen.print(table(columns, rows, ("confidence", "grey\nlevels", norm, "queries")))
    remarks: dict[str, list[str]] = {}
    for entry in report["images"]:
        for remark in [entry["reason"]] if entry["reason"] else entry["notes"]:
            remarks.setdefault(remark, []).append(Path(entry["file"]).name)
    for remark, files in remarks.items():
        others = f" and {plural(len(files) - 1, 'other')}" if files[1:] else ""
        say(screen, f"{files[0]}{others}: {remark}")
    for sentence in _sentences(report):
        say(screen, sentence)


def _cells(entry: dict[str, Any], *, other_norm: bool, scores: bool, metered: bool) -> list[str]:
    """One line of the table."""
    status, before = entry["status"], entry["before"] or ""
    if before and entry["before_confidence"] is not None:
        before += f" {entry['before_confidence']:.0%}"
    cells = [
        Path(entry["file"]).name,
        f"already {entry['before']}" if status == "already the target" else status,
        before,
        entry["after"] or "",
    ]
    if scores:
        cells.append("" if entry["confidence"] is None else f"{entry['confidence']:.1%}")
    cells.append("" if entry["levels"] is None else str(entry["levels"]))
    if other_norm:
        cells.append("" if entry["distance"] is None else f"{entry['distance']:.3g}")
    if metered:
        cells.append("" if entry["queries"] is None else f"{entry['queries']:,}")
    return [*cells, yes_or_no(entry["verified"])]


def _sentences(report: dict[str, Any]) -> list[str]:
    from advex.result import more_before

    settings = report["settings"]
    within = f"within {settings['budget']}"
    if settings["epsilon"] in (None, math.inf):
        within = f"in {settings['budget'].partition('(')[0]} without a limit"
    means = f"{settings['attack_name']} {within}"
    goal = f" as {settings['target']['name']}" if settings["target"] else ""
    demanded = f" with {settings['confidence']:.0%}" if settings["confidence"] else ""
    said = [
        f"{report['fooled']} of {plural(report['total'], 'image')} fooled{goal}{demanded} by"
        f" {means}"
    ]
    if held := sum(entry["status"] == "not fooled" for entry in report["images"]):
        said.append(f"{held} not broken by {means}")
    if there := sum(entry["status"] == "already the target" for entry in report["images"]):
        said.append(
            f"{more_before(there, targeted=True)}, and {'was' if there == 1 else 'were'}"
            " not attacked"
        )
    if report["stopped"]:
        said.append(f"Stopped: {report['stopped']}")
    if report["queries"] is not None:
        said.append(_about_queries(report))
    said += report["notes"]
    kept = [Path(entry["output"]).parent for entry in report["images"] if entry["output"]]
    if report["stopped"] and kept:
        said.append(f"Pictures in {kept[0]}")
    if report["contact_sheet"]:
        sheet, many = Path(report["contact_sheet"]), report["attacked"] > SHEET_PICTURES
        first = f" (the first {SHEET_PICTURES})" if many else ""
        said.append(f"Pictures in {sheet.parent}, side by side{first} in {sheet}")
    return said


def _about_queries(report: dict[str, Any]) -> str:
    """How often a function in place of a model was asked."""
    files = sum(entry["verified"] is not None for entry in report["images"])
    again = f", and once more about {'each of ' * (files > 1)}{plural(files, 'file')}" * (files > 0)
    return f"The function was asked {plural(report['queries'], 'query')}{again}"
