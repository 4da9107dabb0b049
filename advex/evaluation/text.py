"""The figures of an evaluation as text."""

from __future__ import annotations

from advex.evaluation.figures import Figures
from advex.evaluation.goal_tables import GoalTable, goal_table, in_short
from advex.evaluation.summaries import AttackSummary

OF_EACH = "each: per attacked example"
MOST_ROWS = 30  # of a table in a terminal


def headline(figures: Figures) -> str:
    """The result in one sentence."""
    if not figures.examples:
        return "no examples"
    names = ", ".join(figures.names)
    state = "" if figures.finished else "unfinished: "
    held = round((figures.robust_accuracy or 0.0) * figures.examples)
    of = f"{figures.examples} example{'s' if figures.examples != 1 else ''}"
    sentence = (
        f"{state}robust accuracy {figures.robust_accuracy:.1%}: {held} of {of} not broken by"
        f" {names} within {figures.budget}"
    )
    short = in_short(figures)
    more = f"; {short}" if short else ""
    wrong = f" ({figures.wrong} {wrong_before(figures)} before)" if figures.wrong else ""
    return f"{sentence}; clean accuracy {figures.clean_accuracy:.1%}{wrong}{more}"


OFF = "The doctor has not looked (diagnose=False)."


def wrong_before(figures: Figures) -> str:
    """What an example was that no attack was tried on."""
    return "at the target" if figures.towards_classes else "wrong"


def no_doctor(figures: Figures) -> str:
    """Why there is nothing from the doctor; empty where there is."""
    diagnosis = figures.diagnosis
    if diagnosis is None:
        if reason := figures.facts.get("no doctor"):
            return str(reason)
        if not figures.facts.get("doctor"):
            own = "goal" in figures.facts["identity"]  # and no example that says more of it
            return "The doctor looks at runs without a goal of their own." if own else OFF
        if figures.finished:
            return "The doctor had no example to look at."
        return "The doctor has not looked yet: the run is not finished."
    if not diagnosis.examples:
        return (
            "The doctor had nothing to look at: no example was classified correctly without attack."
        )
    return ""


def doctor_broke(figures: Figures) -> str:
    """That the doctor's search has broken what the attacks have not, with advice; empty where it
    has not.
    """
    more = int((figures.broken_by_doctor & figures._table.are("held")).sum())
    if not more:
        return ""
    most = figures.robust_at_most
    return (
        f"The doctor broke {more:,} more example{'s' if more > 1 else ''} within the budget:"
        f" robust accuracy is {f'at most {most:.1%}' if most else '0.0%'}."
    )


def stronger(figures: Figures) -> str:
    """Which figure to quote, and what to do, where the doctor's search has broken what the attacks
    have not.
    """
    better = "advex.PGD with more steps, or advex.Verdict()"
    if figures.facts["norm"] == "L0":
        better = "advex.SigmaZero() or advex.FMN()"
    lower, higher = f"{figures.robust_at_most:.1%}", f"{figures.robust_accuracy:.1%}"
    quote = f"{lower}, not {higher}" if lower != higher else "the lower figure"
    return (
        f"Quote {quote}; or, as the attacks were too weak, run {better}: they use the model's"
        " gradients."
    )


def described(figures: Figures) -> str:
    """Headline, interval, table of attacks, flags and warnings."""
    lines = [headline(figures)]
    if figures.wrong_range:
        lines.append(f"WARNING: {figures.wrong_range}")
    if figures.interval is not None:
        low, high = figures.interval
        lines.append(
            f"95% interval: {low:.1%} to {high:.1%}. This is an upper bound: a better attack may"
            " break more."
        )
    if broke := doctor_broke(figures):
        lines.append(f"{broke} {stronger(figures)}")
    if figures.attacked:
        lines.append(f"Attacked: {figures.attacked}")
    lines += _table_of(figures.attacks, max((len(name) for name in figures.names), default=6))
    if (made := goal_table(figures)) is not None:
        lines += ["", f"{figures.goal}: {made.caption}", *_lines(made), made.note]
    lines += [
        f"FLAG {flag.id}, {flag.name}: {flag.sentence} {flag.advice}".rstrip()
        for flag in figures.flags
    ]
    if absent := no_doctor(figures):
        lines.append(absent)
    for count, what in ((figures.invalid, "invalid"), (figures.undecided, "undecided")):
        if count:
            lines.append(f"{count} {what}")
    return "\n".join(lines + [one for one in figures.warnings if one != figures.wrong_range])


def _lines(made: GoalTable) -> list[str]:
    """A table of words, its columns below each other."""
    every = [made.headings, *made.rows[:MOST_ROWS]]
    widths = [max(map(len, column)) for column in zip(*every, strict=True)]
    lines = [
        "  ".join(
            word.rjust(width) if place else word.ljust(width)
            for place, (word, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in every
    ]
    left = len(made.rows) - MOST_ROWS
    return lines + ([f"and {left} more"] if left > 0 else [])


def _table_of(attacks: list[AttackSummary], width: int) -> list[str]:
    """A line of headings and one line per attack."""
    lines = [
        f"{'attack':<{width}}  attacked  broken  only by this  robust accuracy"
        "  gradients each  queries each  seconds"
    ]
    for attack in attacks:
        count = max(1, attack.attacked)
        accuracy = "" if attack.accuracy is None else f"{attack.accuracy:.1%}"
        lines.append(
            f"{attack.name:<{width}}  {attack.attacked:8}  {attack.broken:6}  {attack.alone:12}"
            f"  {accuracy:>15}  {attack.gradients / count:14.1f}  {attack.queries / count:12.1f}"
            f"  {attack.seconds:7.1f}"
        )
    return [*lines, OF_EACH]
