"""``advex evaluate``: how far a model holds on a data set."""

from __future__ import annotations

import argparse
import contextlib
import functools
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advex.cli import words
from advex.cli.blackbox import OPTIONS as BLACKBOX
from advex.cli.blackbox import demand_alone, in_options
from advex.cli.classes import given_classes
from advex.cli.data import data_of
from advex.cli.models import chosen_model
from advex.cli.program import command
from advex.cli.registry import Known
from advex.cli.screen import console, printable, say_whole
from advex.cli.summary import summarise
from advex.cli.words import BOX, CLASSES, NORM, SEED, add_groups, number, option, whole
from advex.errors import InvalidInput

if TYPE_CHECKING:
    from advex.attacks import Attack

GOALS = {
    "multilabel": "MultiLabel",
    "regression": "Regression",
    "segmentation": "Segmentation",
    "topk": "TopK",
}
SETTINGS = {"off": ("regression", "off"), "k": ("topk", "k"), "share": ("segmentation", "share")}
EPILOG = """\
exit codes: 0 evaluated, whatever was found; 1 some image files could not be read

examples:
  advex evaluate --model mine.keras --data test.npz --epsilon 8/255 --run mine.advex
  advex evaluate --model MobileNetV2 --data photos --epsilon 2/255 --attack pgd \\
    --attack square --run photos.advex
  advex report mine.advex --out mine.html --csv mine.csv

  advex evaluate --blackbox service:predict --classes 10 --data test.npz --norm l2 \\
    --epsilon inf --attack cgba --queries 1000 --run service.advex
  advex evaluate --model labels.keras --data test.npz --epsilon 2/255 --goal multilabel

The same call goes on with a run that was stopped. A folder holds one folder of images
for each class.
"""

GROUPS = {
    "model": (
        option(
            "--model",
            metavar="FILE.keras|NAME",
            help="as for attack; without it the small classifier of clothes",
        ),
        BOX,
        CLASSES,
        option("--output", metavar="NAME", help="which output of the model, its name or number"),
        option(
            "--perturb",
            action="append",
            metavar="NAME",
            help="which of the model's inputs is attacked, or which layer's output; may be"
            " repeated",
        ),
        *BLACKBOX[:3],
    ),
    "data": (
        option(
            "--data",
            type=Path,
            required=True,
            metavar="FOLDER|FILE.npz",
            help="a folder for each class, or arrays x and labels; of a model of several inputs an"
            " array for each by name, and labels",
        ),
        option("--count", type=whole, metavar="N", help="only the first N examples"),
        option(
            "--goal",
            choices=tuple(GOALS),
            metavar="GOAL",
            help="what the labels are: multilabel, regression (with --off), segmentation, or topk"
            " (a class for each example)",
        ),
        option(
            "--off", type=number, metavar="D", help="regression: more than so much is a success"
        ),
        option("--k", type=whole, metavar="K", help="topk: the likeliest classes to leave (5)"),
        option(
            "--share",
            type=number,
            metavar="S",
            help="segmentation: the share of the pixels to be wrong (0.99)",
        ),
    ),
    "attack": (
        option(
            "--attack",
            action="append",
            metavar="NAME",
            help="pgd, verdict, square, ...: 'advex attacks' lists all (verdict and square; with"
            " --blackbox: square, or minimum-norm where scores are not there); may be repeated",
        ),
        NORM,
        option(
            "--epsilon",
            type=number,
            required=True,
            metavar="E",
            help="largest change: 8/255, or inf for the smallest, with --attack minimum-norm",
        ),
        option(
            "--steps",
            type=whole,
            metavar="N",
            help="number of steps of every attack (their own defaults)",
        ),
        *BLACKBOX[3:],
        SEED,
    ),
    "running": (
        option("--batch-size", type=whole, metavar="N", help="examples per step"),
        option(
            "--workers",
            type=whole,
            metavar="N",
            help="processes, by Ray; data from an npz file only (this process alone)",
        ),
        option(
            "--no-doctor",
            action="store_true",
            help="leave out the checks of whether the figures can be trusted",
        ),
    ),
    "output": (
        option(
            "--run",
            type=Path,
            metavar="FILE",
            help="keeps what was found; a run in it goes on (nothing is kept)",
        ),
        option(
            "--keep",
            choices=("none", "success"),
            default="none",
            help="success keeps every adversarial input in the run file (none)",
        ),
        option("--json", action="store_true", help="print one JSON document instead of a table"),
    ),
}


def add(commands: Any) -> None:
    """The parser of this command."""
    add_groups(
        commands.add_parser(
            "evaluate",
            help="how far a model holds on a data set",
            epilog=EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        ),
        GROUPS,
    )


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Evaluate the model on the data; the report as plain values and an ``Evaluation``."""
    import advex

    demand_alone(options)
    named = [words.runnable(given) for given in options.attack or ()]
    norm = words.norm_of(options, named, options.epsilon)
    attacks, budget = _attacks(options, named), words.budget_of(norm, options.epsilon)
    goal = _goal(options)
    classifier = chosen_model(options, given_classes(options))
    if options.output is not None:
        name = options.output
        classifier = classifier.only(int(name) if name.isdecimal() else name)
    if options.goal not in (None, "topk") and options.data.is_dir():
        raise InvalidInput(
            f"--goal {options.goal} needs labels from an npz file: a folder of images says one"
            " class for each; --data FILE.npz"
        )
    if options.workers is not None and options.run is None:
        raise InvalidInput("--workers needs a run file: --run run.advex")
    if options.workers is not None and options.data.is_dir():
        raise InvalidInput("--workers needs data from an npz file: --data FILE.npz")
    data = data_of(options.data, classifier, options.count)
    with _flags(), in_options(options):
        found = advex.evaluate(
            classifier,
            data,
            attacks,
            budget,
            run=options.run,
            seed=options.seed,
            batch_size=options.batch_size,
            keep=options.keep,
            goal=goal,
            diagnose=not options.no_doctor,
            engine="local" if options.workers is None else "ray",
            workers=options.workers or 1,
        )
    unread = getattr(data, "unread", {})
    for reason in unread.values():
        print(f"advex: left out {printable(reason)}", file=sys.stderr)
    return {
        "command": "evaluate",
        "success": not unread,
        "evaluation": found,
        "unread": sorted(map(str, unread)),
        "run": options.run and str(options.run),
    }


def show(outcome: dict[str, Any]) -> None:
    """The tables, and how to get a page."""
    screen, file = console(), outcome["run"]
    summarise(screen, outcome["evaluation"])
    if file:
        say_whole(screen, f"Kept in {file}. As a page:")
    else:
        file = "found.advex"
        say_whole(
            screen, f"Nothing was kept. The same call with --run {file} keeps it; then, as a page:"
        )
    say_whole(screen, f"  {command(['report', str(file), '--out', 'report.html'])}")


@contextlib.contextmanager
def _flags() -> Iterator[None]:
    """Say with options of the command line what an error says in Python."""
    try:
        yield
    except InvalidInput as problem:
        said = words.as_options(str(problem))
        said = re.sub(r"needs a limit, such as .*", "needs a limit: --epsilon 8/255", said)
        if said != str(problem):
            raise InvalidInput(said) from None
        text, mark, hint = said.partition("; for evaluate: ")
        name = next((name for name, kind in GOALS.items() if kind in hint), None)
        if not mark or name is None:
            raise
        more = " --off 0.5" if name == "regression" else ""
        raise InvalidInput(f"{text}; here that is --goal {name}{more}") from None


def _attacks(options: argparse.Namespace, named: list[Known]) -> list[Attack] | None:
    """The attacks of ``--attack``; None for the default ones."""
    import advex

    if not named:
        count = options.steps if options.queries is None else options.queries
        if count is not None and options.blackbox is not None:
            recommended: Any = advex.MinimumNorm
            return [recommended(steps=count)]
        if options.queries is not None:
            raise InvalidInput(f"--queries belongs to an attack: --attack square --queries {count}")
        if options.steps is not None:
            raise InvalidInput("--steps belongs to an attack: --attack pgd --steps 40")
        return None
    made: list[Attack] = [known.maker(**words.limited(known, options)) for known in named]
    if options.queries is not None and not any(words.asks(known, options) for known in named):
        raise InvalidInput(words.NO_QUERIES.format(named[0].name))
    return made


def _goal(options: argparse.Namespace) -> Callable[..., Any] | None:
    """The goal of ``--goal`` and what belongs to it; None for one class each."""
    import advex

    for name, (goal, _) in SETTINGS.items():
        if getattr(options, name) is not None and options.goal != goal:
            raise InvalidInput(f"--{name} belongs to --goal {goal}")
    if options.goal is None:
        return None
    if options.goal == "regression" and options.off is None:
        raise InvalidInput("--goal regression needs how far is too far: --off 0.5")
    given = {
        setting: getattr(options, name)
        for name, (_, setting) in SETTINGS.items()
        if getattr(options, name) is not None
    }
    return functools.partial(getattr(advex, GOALS[options.goal]), **given)
