"""What stands on the page of a comparison."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advex.evaluation.page import curve_chart, drawing, pictures, repeat
from advex.evaluation.page.content import Words, curved, listed
from advex.evaluation.page.numbers import brief, count, counted, percent
from advex.evaluation.page.places import LEVELS, Label, Places, beside
from advex.evaluation.page.threat import threat
from advex.evaluation.paired import Paired
from advex.evaluation.summaries import Pair
from advex.evaluation.table import wilson
from advex.evaluation.text import doctor_broke, no_doctor
from advex.evaluation.wanted import CLASSES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 60  # numbers of examples that are listed
ASIDE = 5.0  # printer's points: how far each dot stands from the budget, before left, after right


def named(found: Paired) -> tuple[str, str]:
    """What both runs are called: by their models where both are known by name, else by their run
    files; where that is the same, with the run files, or with a piece of the weights' hashes.
    """
    first, second = _called(found)
    files = _files(found)
    if first == second and files and files[0] != files[1]:
        first, second = (f"{first} ({file})" for file in files)
    elif first == second:
        first, second = (
            f"{name} (weights {str(run.hashes['weights'] or 'not known')[:8]})"
            for name, run in ((first, found.before), (second, found.after))
        )
    return first, second


def _called(found: Paired) -> tuple[str, str]:
    """Both names, of the same manner."""
    runs = found.before, found.after
    first, second = map(repeat.known_name, runs)
    if first and second:
        return first, second
    if files := _files(found):
        return files
    first, second = map(repeat.model_kind, runs)
    return first, second


def _files(found: Paired) -> tuple[str, str] | None:
    """The names of the run files, with their folders where the names are the same; None where a
    run was not kept.
    """
    if found.before.path is None or found.after.path is None:
        return None
    one, other = Path(found.before.path), Path(found.after.path)
    return (one.name, other.name) if one.name != other.name else (str(one), str(other))


def points(change: float) -> str:
    """A change of a share, in points of per cent.

    Example:
        >>> points(0.125), points(-0.5), points(0.0)
        ('+12.5', '-50.0', '0.0')
    """
    text = f"{100 * change:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text


def verdict(found: Paired) -> str:
    """The change in a sentence or two."""
    first, second = map(percent, found.robust_accuracy)
    low, high = found.interval
    clean = " to ".join(map(percent, found.clean_accuracy))
    if not (len(found.won) or len(found.lost)):
        return (
            f"robust accuracy {first} in both runs within {found.before.budget}, no change:"
            f" {unchanged(found)}; clean accuracy {clean}"
        )
    sure = "" if low > 0 or high < 0 else "; it may be chance, since the interval includes 0"
    return (
        f"robust accuracy {first} to {second} within {found.before.budget}, change"
        f" {points(found.change)} points (95% interval {points(low)} to {points(high)}{sure});"
        f" clean accuracy {clean}"
    )


def unchanged(found: Paired) -> str:
    """What the runs have in common where no example was won or lost."""
    held = round(found.robust_accuracy[0] * found.examples)
    of = counted(found.examples)
    return f"the same {count(held)} of {of} held" if held else f"none of {of} held in either"


def in_short(found: Paired) -> dict[str, Any]:
    """What a notebook shows."""
    low, high = found.interval
    return {
        "budget": brief(found.before.budget),
        "examples": found.examples,
        "sides": [_side(found, number, name) for number, name in enumerate(named(found))],
        "change": points(found.change),
        "interval": (points(low), points(high)),
        "sure": low > 0 or high < 0,
        "unchanged": "" if len(found.won) or len(found.lost) else unchanged(found),
        "rose": found.change > 0,
        "same_attacks": found.same_attacks,
        "classes": [_class(one) for one in found.per_class],
        "won": _list(found.won),
        "lost": _list(found.lost),
    }


def comparison(found: Paired, words: Words) -> dict[str, Any]:
    """All of the page."""
    title = f"Robustness before and after: {' and '.join(dict.fromkeys(_called(found)))}"
    both = curved(found.before) and curved(found.after)
    weights = [run.hashes["weights"] for run in (found.before, found.after)]
    return in_short(found) | {
        "words": words._replace(title=words.title or title),
        "sections": [
            ("result", "Result"),
            *((("radii", "Curve"),) if both else ()),
            *((("classes", "Classes"),) if found.per_class else ()),
            ("examples", "Won and lost"),
            ("runs", "Runs"),
        ],
        "threats": [threat(run) for run in (found.before, found.after)],
        "other_names": found.other_names,
        "same_weights": bool(weights[0]) and weights[0] == weights[1],
        "curve": chart(found) if both else None,
        "pictures": _pictures(found),
        "download": _address(found),
        "goal": {
            "one": found.before.kind == CLASSES,
            "targeted": found.before.towards_classes,
        },
    }


def _side(found: Paired, number: int, name: str) -> dict[str, Any]:
    run = (found.before, found.after)[number]
    share, clean = found.robust_accuracy[number], found.clean_accuracy[number]
    low, high = wilson(round(share * found.examples), found.examples) or (0.0, 1.0)
    return {
        "when": ("before", "after")[number],
        "name": name,
        "share": percent(share),
        "held": round(share * found.examples),
        "clean": percent(clean),
        "interval": (percent(low), percent(high)),
        "bar": [round(100 * value, 2) for value in (low, high, share)],
        "attacks": listed(run.names),
        "settings": [(attack.name, attack.settings) for attack in run.attacks],
        "doctor": "not examined"
        if no_doctor(run)
        else ", ".join(f"{flag.id} {flag.name}" for flag in run.flags) or "no flags",
        "beside": doctor_broke(run),
        "flags": len(run.flags),
        "model": run.facts["model"],
        "kind": repeat.model_kind(run),
        "weights": run.hashes["weights"] or "not known: a black box",
        "seed": run.seed,
        "began": run.facts["began"],
        "versions": ", ".join(f"{one} {version}" for one, version in run.versions.items()),
        "data": run.hashes["data"],
    }


def _class(one: Any) -> dict[str, Any]:
    change = one.robust_after - one.robust_before
    return {
        "name": one.name,
        "examples": one.examples,
        "clean": (percent(one.clean_before), percent(one.clean_after)),
        "robust": (percent(one.robust_before), percent(one.robust_after)),
        "change": points(change),
        "share": abs(change),
        "kind": "up" if change > 0 else "down" if change < 0 else "same",
        "won": one.won,
        "lost": one.lost,
    }


def _list(examples: Any) -> dict[str, Any]:
    numbers = examples.tolist()
    return {
        "count": len(numbers),
        "text": ", ".join(map(str, numbers[:MOST])),
        "left": max(0, len(numbers) - MOST),
    }


def _pictures(found: Paired) -> list[dict[str, Any]]:
    """Examples won, as the first run broke them, and lost, as the second did, of which pictures
    were kept.
    """
    made = []
    for name, run, examples in (
        ("won", found.before, found.won),
        ("lost", found.after, found.lost),
    ):
        wanted = set(examples.tolist())
        pairs: dict[int, Pair] = {}
        for pair in (*run.pairs("nearest"), *run.pairs("farthest")):
            if pair.example in wanted:
                pairs.setdefault(pair.example, pair)
        shown = pictures.shown_pairs(run, list(pairs.values())[:4])
        if shown:
            made.append({"name": name, "pairs": shown})
    return made


def chart(found: Paired, name: str = "curve") -> dict[str, Any] | None:
    """Both curves where they were measured, and both headlines at the budget."""
    lines = [curve_chart.measured(run) for run in (found.before, found.after)]
    epsilon, norm = found.before.facts["epsilon"], found.before.facts["norm"]
    ends = [curve_chart._end(line, epsilon) for line in lines]
    end = max(*ends, 1e-12)
    levels = curve_chart.in_levels(norm, epsilon, end)
    if epsilon is None and None in lines:
        return None
    shares = found.robust_accuracy
    told = f"before {percent(shares[0])}, after {percent(shares[1])}"
    title = f"Robust accuracy over the {norm} radius, before and after"
    with drawing.context():
        svg = drawing.svg(_figure(found, lines, end, levels), name, title, told, halo=True)
    stops = [
        "" if line is None else curve_chart.stopped(line, end, norm, levels, epsilon is not None)
        for line in lines
    ]
    return {
        "svg": svg,
        "lines": [line is not None for line in lines],
        "estimates": [
            f"{when} it is an estimate from {counted(line.n)} that "
            f"{'was' if line.n == 1 else 'were'} classified correctly, times the clean accuracy."
            for when, line in zip(("Before", "After"), lines, strict=True)
            if line is not None and not line.whole
        ],
        "stops": [
            f"{when}: {stop[0].lower()}{stop[1:]}"
            for when, stop in zip(("Before", "After"), stops, strict=True)
            if stop
        ],
    }


def _figure(found: Paired, lines: list[Any], end: float, levels: bool) -> Figure:
    figure, axes = drawing.figure(2.8, left=0.62, bottom=0.52, top=0.18)
    colours = drawing.COLOURS["muted"], drawing.COLOURS["accent"]
    epsilon, norm = found.before.facts["epsilon"], found.before.facts["norm"]
    ticks = curve_chart.marks(end, levels=levels, whole=norm == "L0")
    styles = ((0, (5, 2)), "solid")
    for line, colour, style in zip(lines, colours, styles, strict=True):
        if line is not None:
            x, y = curve_chart._points(line.curve, end)
            axes.step(x, y * line.scale, where="post", color=colour, linewidth=2, linestyle=style)
    axes.set(xlim=(0, end * 1.03), ylim=(0, 104))
    places = Places(figure, axes)
    for line in lines:
        if line is not None:
            x, y = curve_chart._points(line.curve, end)
            places.steps(x, y * line.scale)
    if epsilon is not None:
        axes.axvline(epsilon, color=drawing.COLOURS["muted"], linewidth=1, linestyle=(0, (1, 2)))
        places.mark(epsilon, 0, 104)
        shares = found.robust_accuracy
        for number, (share, colour) in enumerate(zip(shares, colours, strict=True)):
            low, high = wilson(round(share * found.examples), found.examples) or (0.0, 1.0)
            aside = (-ASIDE, ASIDE)[number]
            places.mark(epsilon, 100 * low, 100 * high, aside)
            axes.errorbar(
                [epsilon + places.wide(aside)],
                [100 * share],
                yerr=[[max(0.0, 100 * (share - low))], [max(0.0, 100 * (high - share))]],
                color=colour,
                marker="o",
                markersize=7,
                capsize=4,
                clip_on=False,
                zorder=5,
            )
        higher = 0 if shares[0] > shares[1] else 1
        labels = [
            Label(
                f"{('before', 'after')[number]} {percent(shares[number])}",
                (epsilon, 100 * shares[number]),
                beside(
                    ASIDE + 8, LEVELS, *(("right", "left") if not number else ("left", "right"))
                ),
                {
                    "fontsize": 9,
                    "fontweight": "bold" if number else "normal",
                    "color": colours[number],
                },
            )
            for number in (higher, 1 - higher)
        ]
        places.both(*labels)
    axes.set_xticks(ticks, [f"{round(mark * 255)}" if levels else f"{mark:g}" for mark in ticks])
    axes.set_yticks(range(0, 101, 25))
    axes.set_xlabel(f"{norm} radius" + (" in 1/255" if levels else ""))
    axes.set_ylabel("robust accuracy, in %")
    axes.grid()
    axes.tick_params(length=0)
    return figure


def _address(found: Paired) -> str:
    text = json.dumps(found.to_dict(), indent=2, allow_nan=False)
    return f"data:application/json;base64,{base64.b64encode(text.encode()).decode()}"
