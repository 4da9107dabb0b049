"""``advex attack``: your own images and model."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advex.cli.advice import advice, in_box
from advex.cli.batch import (
    INTERRUPTED,
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
from advex.cli.models import chosen_model, demand_model, is_file, picture_shape
from advex.cli.outcome import show
from advex.cli.registry import NORMS, USUAL, Known
from advex.cli.screen import plural
from advex.cli.words import (
    BOX,
    CLASSES,
    NO_QUERIES,
    NORM,
    SEED,
    add_groups,
    asks,
    better_box,
    budget_of,
    limited,
    norm_of,
    number,
    option,
    own_steps,
    runnable,
    typed_number,
    whole,
)
from advex.errors import Interrupted, InvalidInput, UserCodeError

__all__ = ["add", "run", "show"]

if TYPE_CHECKING:
    from advex.attacks import Attack
    from advex.model.protocol import Model

SHIPPED = (
    "No --model was given: the small classifier of clothes that ships with advex was attacked."
)
IN_THE_BOX = (
    "The model file was given values from 0 to 1. If it takes others, say so: --box -1 1, or"
    " --box 0 255."
)
USUAL_EPSILON = "2/255"
EPILOG = """\
exit codes: 0 every image was fooled; 1 some were not, or could not be read

examples:
  advex attack cat.jpg --model MobileNetV2 --target toaster --confidence 0.8
  advex attack photos --model mine.keras --box 0 255 --classes names.json \\
    --epsilon 4/255 --out broken
  advex attack digit.png --model mine.keras --attack deepfool --norm l2
  advex attack cat.jpg --blackbox service:predict --classes names.json \\
    --norm l2 --epsilon inf --queries 2000
"""

GROUPS = {
    "images": (
        option(
            "image",
            nargs="+",
            type=Path,
            metavar="IMAGE",
            help="an image file, or a folder: all images in it",
        ),
    ),
    "model": (
        option(
            "--model",
            metavar="FILE.keras|NAME",
            help="a model file, or a model of keras.applications (fetched by Keras); without it"
            " the small classifier of clothes",
        ),
        BOX,
        CLASSES,
        *BLACKBOX[:3],
    ),
    "what to reach": (
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
        NORM,
        option(
            "--epsilon",
            type=typed_number,
            metavar="E",
            help="largest change, as a fraction of the box: 2/255, 0.01 (2/255); inf looks for"
            " the smallest",
        ),
    ),
    "attack": (
        option(
            "--attack",
            metavar="NAME",
            help="pgd, verdict, deepfool, square, ...: 'advex attacks' lists all (pgd; with"
            " --confidence: fine; with --blackbox: minimum-norm, which chooses one)",
        ),
        option(
            "--steps", type=whole, metavar="N", help="number of steps (the attack's own default)"
        ),
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
        *BLACKBOX[3:],
        SEED,
    ),
    "output": (
        option(
            "--out",
            type=Path,
            default=Path("adversarial"),
            metavar="DIR",
            help="where the pictures go (adversarial)",
        ),
        option("--overwrite", action="store_true", help="replace files in DIR"),
        option("--json", action="store_true", help="print one JSON document instead of a table"),
    ),
}


def add(commands: Any) -> None:
    """The parser of this command."""
    add_groups(
        commands.add_parser(
            "attack",
            help="attack your own images and model",
            epilog=EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        ),
        GROUPS,
    )


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Read the images, attack them, write what was found; the report as plain values."""
    demand_alone(options)
    _check_confidence(options)
    known, norm, epsilon = _chosen(options)
    attack, budget = _made(known, norm, options), budget_of(norm, number(epsilon))
    files = sources(options.image)
    outputs = output_names(files)
    names = given_classes(options)
    demand_model(options)  # before the folder: without a model no other --out helps
    check_folder(options.out, [*outputs, SHEET], files, options.overwrite)
    classifier = chosen_model(options, names)
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
    held = [record.file for record in records if record.status == "not fooled"]
    box = better_box(info.get("warnings", []))
    asked = [record.queries for record in records if record.queries is not None]
    return {
        "command": "attack",
        "success": all(record.status == "fooled" for record in records),
        "fooled": sum(record.status == "fooled" for record in records),
        "total": len(records),
        "settings": _settings(job, options, norm, info),
        "images": [dataclasses.asdict(record) for record in records],
        # one of attempts that all failed would only stand in the way of the next call
        "contact_sheet": contact_sheet(job, lines)
        if lines and any(record.output for record in records)
        else None,
        "attacked": len(lines),
        "queries": sum(asked) if classifier.metered else None,
        "stopped": info.get("stopped"),
        "in_box": None if box is None else in_box(options, box),
        "advice": advice(options, held, known.name, norm, epsilon, box) if held else [],
        "notes": _notes(options, box is not None) + info.get("notes", []),
    }


def _notes(options: argparse.Namespace, warned: bool) -> list[str]:
    """What is said of the model: that it is the one that ships with advex, or which values a file
    was given, as without labels nobody can tell that it takes others.
    """
    if options.blackbox is not None:
        return []
    if options.model is None:
        return [SHIPPED]
    return [IN_THE_BOX] if is_file(options.model) and options.box is None and not warned else []


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


def _chosen(options: argparse.Namespace) -> tuple[Known, str, str]:
    """The attack, its norm, and epsilon as it was typed."""
    usual = "fine" if options.confidence else "pgd"
    name = options.attack or ("minimum-norm" if options.blackbox is not None else usual)
    known, epsilon = runnable(name), options.epsilon
    if known.family == "maps":
        raise InvalidInput(f"{known.name}: {known.way_round}")
    norm = norm_of(options, [known], None if epsilon is None else number(epsilon))
    if epsilon is None and norm != "linf":
        if known.needs_limit or not known.smallest:
            elements = "a number of array elements, " if norm == "l0" else ""
            raise InvalidInput(f"--norm {norm} needs --epsilon, {elements}such as {USUAL[norm]}")
        epsilon = "inf"
    return known, norm, epsilon or USUAL_EPSILON


def _made(known: Known, norm: str, options: argparse.Namespace) -> Attack:
    """The attack with the settings that were given."""
    import advex

    name = known.name
    if options.steps is not None:
        if name == "fgsm":
            raise InvalidInput("fgsm takes one step; leave out --steps, or use bim")
        if not own_steps(known, options):
            raise InvalidInput(f"{name} takes steps of its own on a model, and no others")
        if options.steps < 1:
            raise InvalidInput(f"--steps must be at least 1; received {options.steps}")
    if options.queries is not None and not asks(known, options):
        raise InvalidInput(NO_QUERIES.format(name))
    settings = limited(known, options)
    if options.learning_rate is not None:
        if name != "gradient-ascent":
            raise InvalidInput("--learning-rate belongs to --attack gradient-ascent")
        settings["learning_rate"] = options.learning_rate
    if name == "minimum-norm":
        settings["norm"] = NORMS[norm]
    attack: Any = known.maker(**settings)
    if options.restarts != 1:
        if name != "pgd":
            raise InvalidInput(f"--restarts belongs to --attack pgd; received --attack {name}")
        attack = advex.Restarts(attack, options.restarts)
    return attack


def _settings(
    job: Job, options: argparse.Namespace, norm: str, info: dict[str, Any]
) -> dict[str, Any]:
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
        "norm": norm,
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
