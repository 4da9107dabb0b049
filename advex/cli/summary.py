"""The figures of an evaluation as a table, with what the doctor and the attacks warn of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from advex.cli.screen import plural, say, table
from advex.cli.words import as_options

if TYPE_CHECKING:
    from advex.evaluation import AttackSummary, Evaluation

ALONE, EACH = "only by\nthis", ("gradients\neach", "queries\neach")
COLUMNS = ("attack", "attacked", "broken", ALONE, "robust\naccuracy", *EACH, "seconds")
SPARE = ("seconds", EACH[1], ALONE, "attacked")
"""What a narrow terminal does without, in this order."""


def summarise(screen: Any, found: Evaluation) -> None:
    """Print headline, table, flags and warnings; first of them that of the range of the inputs, as
    it is about all figures.
    """
    from advex.evaluation.goal_tables import goal_table
    from advex.evaluation.text import OF_EACH, doctor_broke, no_doctor, stronger

    say(screen, found.headline())
    if found.wrong_range:
        say(screen, f"WARNING: {as_options(found.wrong_range)}")
    if found.interval is not None:
        low, high = found.interval
        say(
            screen,
            f"95% interval: {low:.1%} to {high:.1%}. This is an upper bound: a better attack may"
            " break more.",
        )
    if found.attacked:
        say(screen, f"Attacked: {found.attacked}")
    say(screen)
    screen.print(table(screen, COLUMNS, map(_cells, found.attacks), COLUMNS[1:], spare=SPARE))
    say(screen, OF_EACH)
    say(screen)
    if (made := goal_table(found)) is not None:
        say(screen, f"{found.goal}: {made.caption}")
        screen.print(table(screen, made.headings, made.rows, made.headings[1:]))
        say(screen, made.note)
    for flag in found.flags:
        say(screen, f"FLAG {flag.id}, {flag.name}: {flag.sentence} {flag.advice}")
    if broke := doctor_broke(found):
        say(screen, f"{broke} {stronger(found)}")
    if absent := no_doctor(found):
        say(screen, as_options(absent))
    for count, what in (
        (found.invalid, "answered with NaN: in no figure"),
        (found.undecided, "undecided"),
    ):
        if count:
            say(screen, f"{plural(count, 'example')} {what}")
    for sentence in found.warnings:
        if sentence != found.wrong_range:
            say(screen, as_options(sentence))
    if not (absent or found.flags):
        say(screen, _no_flags(len(found.warnings), bool(broke)))


def _no_flags(warnings: int, broke: bool) -> str:
    """What is said of a doctor without flags: calm only where nothing else is to be heeded."""
    if warnings:
        see = f"see the warning{'s' if warnings > 1 else ''} above"
        return f"The doctor's checks found nothing further; {see}."
    if broke:
        return "The doctor's checks found nothing further."
    return "The doctor found nothing to warn of."


def _cells(attack: AttackSummary) -> list[str]:
    each = max(1, attack.attacked)
    return [
        attack.name,
        str(attack.attacked),
        str(attack.broken),
        str(attack.alone),
        "" if attack.accuracy is None else f"{attack.accuracy:.1%}",
        f"{attack.gradients / each:.1f}",
        f"{attack.queries / each:.1f}",
        f"{attack.seconds:.1f}",
    ]
