"""Write the gallery of the documentation: one image, every attack, every norm.

    python examples/make_gallery.py
    python examples/make_gallery.py --measured gallery.json   # draw again without attacking again

Each attack meets one image of the network that ships with advex, twice; the second call is timed,
since the first one compiles. Seconds are those of the processor, all threads together. Writes
``docs/gallery.md`` and the pictures that it shows.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras
import numpy as np
from PIL import Image, ImageDraw, ImageFont

import advex
from advex import zoo
from advex.errors import InvalidInput

ROOT = Path(__file__).parent.parent
ROW = 1  # a pullover, neither the easiest image nor the hardest
BUDGETS = (advex.Linf(8 / 255), advex.L2(0.5), advex.L1(5), advex.L0(12))
MAPS = ("SegPGD", "SEA")  # attack a class at each pixel, and so not this model
ENLARGED = {"Linf": 10, "L2": 5, "L1": 3, "L0": 1}  # how much, for the eye
QUERIES = 500  # for attacks that see no gradients
READS = {"gradients": "gradients", "scores": "scores", "labels": "labels"}


def shifted(problem: advex.Problem, x: Any) -> Any:
    """The image with a little noise: what ``AveragedGradient`` averages over."""
    return x + 0.02 * problem.normal(tuple(x.shape[1:]))


WITH_SETTINGS = {
    "AveragedGradient": (advex.AveragedGradient(advex.PGD(), shifted, 4), "PGD(), noise, 4"),
    "Ensemble": (advex.Ensemble(advex.FGSM(), advex.APGD()), "FGSM(), APGD()"),
    "EveryTarget": (advex.EveryTarget(advex.PGD(), 9), "PGD(), 9"),
    "Restarts": (advex.Restarts(advex.PGD(), 5), "PGD(), 5"),
    "fine": (advex.fine(), ""),
}


def names() -> list[str]:
    """The public attacks, wrappers and settings that are called like attacks."""
    return [
        name
        for name in advex.__all__
        if name == "fine" or (name != "Attack" and isinstance(getattr(advex, name), type)
        and issubclass(getattr(advex, name), advex.Attack))
    ]  # fmt: skip


def chosen(name: str) -> tuple[Any, str]:
    """The attack of that name, and its settings as typed."""
    if name in WITH_SETTINGS:
        return WITH_SETTINGS[name]
    attack = getattr(advex, name)()
    if getattr(attack, "needs", "gradients") == "gradients":
        return attack, ""
    return getattr(advex, name)(steps=QUERIES), f"steps={QUERIES}"


def has_form(attack: Any, budget: advex.Budget) -> bool:
    """Whether the attack is defined in that norm."""
    try:
        attack.check(None, budget)
    except InvalidInput:
        return False
    return True


def in_norm(budget: advex.Budget) -> Iterator[str]:
    """The names of the attacks that have a form in that norm and attack classes."""
    for name in names():
        if name not in MAPS and has_form(chosen(name)[0], budget):
            yield name


def measure(keep: Path | None) -> dict[str, Any]:
    """Every attack in every norm: what it found, and what that took.

    With ``keep`` every measurement is written there at once, and those that are there are not made
    again.
    """
    model = zoo.fashion_mnist()
    images, labels = zoo.fashion_images()
    x, label = images[[ROW]], labels[[ROW]]
    if keep and keep.exists():
        found: dict[str, Any] = json.loads(keep.read_text(encoding="utf-8"))
    else:
        found = {
            "machine": f"{processor()}, {platform.system()} {platform.machine()}, Python"
            f" {platform.python_version()}, "
            + ", ".join(f"{name} {version(name)}" for name in (keras.backend.backend(), "keras")),
            "day": time.strftime("%Y-%m-%d"),
            "image": x[0].tolist(),
            "class": model.names[label[0]],
            "classes": model.names,
            "norms": {type(budget).__name__: [] for budget in BUDGETS},
        }
    for budget in BUDGETS:
        norm = type(budget).__name__
        rows = found["norms"][norm]
        for name in in_norm(budget):
            if name in [row["attack"] for row in rows]:
                continue
            attack, settings = chosen(name)
            asked = budget if attack.needs_epsilon else type(budget)()
            attack(model, x, label, asked, progress=False)
            began = time.process_time()
            result = attack(model, x, label, asked, progress=False)
            rows.append(
                {
                    "attack": name,
                    "settings": settings,
                    "reads": getattr(attack, "needs", "gradients"),
                    "limited": bool(attack.needs_epsilon),
                    "success": bool(result.success[0]),
                    "seen": model.names[result.prediction[0]],
                    "confidence": float(result.confidence[0]),
                    "distance": float(result.distance[0]) if result.success[0] else None,
                    "changed": int((result.perturbation[0] != 0).sum()),
                    "forward": int(result.queries[0]),
                    "backward": int(result.gradients[0]),
                    "seconds": time.process_time() - began,
                    "pixels": result.x[0].tolist(),
                }
            )
            if keep:
                keep.write_text(json.dumps(found), encoding="utf-8")
            print(norm, *(value for key, value in rows[-1].items() if key != "pixels"), flush=True)
    return found


def processor() -> str:
    """What the machine calls its processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{named[0]}, {len(named)} cores" if named else platform.processor()


def in_order(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The smallest change first, failures last."""
    return sorted(rows, key=lambda row: (not row["success"], row["distance"] or 0))


# What is drawn

INK, SOFT, RED, BLUE = (34, 40, 49), (92, 99, 110), (190, 45, 35), (30, 90, 165)
SIDE, GAP, CAPTION, ACROSS = 84, 14, 46, 6
FINE = 2  # drawn twice as large as the text of the page is


def sized(norm: str, value: float) -> str:
    """A distance as people say it."""
    if norm == "Linf":
        return f"{value * 255:.0f}/255"
    return f"{value:.0f}" if norm == "L0" else f"{value:.2f}"


def sheet(measured: dict[str, Any], norm: str, path: Path) -> None:
    """One cell for each attack: the changed image, the difference enlarged, and what it is seen
    as.
    """
    rows = in_order(measured["norms"][norm])
    original = np.array(measured["image"], "float64")
    cell = (2 * SIDE + 4 + GAP, SIDE + CAPTION + GAP)
    across = ACROSS // 2 * 2 - 2
    down = -(-len(rows) // across)
    picture = Image.new("RGB", (across * cell[0] * FINE, down * cell[1] * FINE), "white")
    pen = ImageDraw.Draw(picture)

    def write(x: float, y: float, words: str, size: int, colour: tuple[int, int, int]) -> None:
        font = ImageFont.load_default(size=size * FINE)
        pen.text((x * FINE, y * FINE), words, fill=colour, font=font, anchor="lm")

    for place, row in enumerate(rows):
        left = place % across * cell[0] + GAP // 2
        top = place // across * cell[1] + GAP // 2
        write(left, top + 8, row["attack"], 13, INK)
        pixels = np.array(row["pixels"], "float64")
        difference = np.clip(128 + ENLARGED[norm] * (pixels - original), 0, 255)
        for shift, shown in ((0, pixels), (SIDE + 4, difference)):
            small = advex.images.picture(shown.astype("uint8")).convert("RGB")
            large = small.resize((SIDE * FINE, SIDE * FINE), Image.Resampling.NEAREST)
            picture.paste(large, (round((left + shift) * FINE), (top + 18) * FINE))
        below = top + 18 + SIDE
        if row["success"]:
            write(
                left, below + 10, f"{row['seen']}, change {sized(norm, row['distance'])}", 12, RED
            )
        else:
            write(left, below + 10, f"held: still {row['seen']}", 12, BLUE)
    picture.quantize(128, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(
        path, optimize=True
    )
    print(f"{path}: {path.stat().st_size:,} bytes")


# What is written

HEAD = """\
# Gallery: one image, every attack

<!-- Written by examples/make_gallery.py. Edit the script, not this page. -->

One {kind} of Fashion-MNIST and the network that ships with advex. Every attack of advex tries to
change what the network sees, in every norm that the attack knows.

```sh
python examples/make_gallery.py   # writes this page and its pictures again
```

How to read the tables:

- **Reads**: what the attack needs of the model. `gradients` is a white box. `scores` and `labels`
  are black boxes, here with at most {queries:,} queries.
- **Aim**: `smallest` means that no limit was set, and the attack looked for the smallest change.
  `limit` means that any change within the limit of the section was a success.
- **Change**: the size of the change that was found. The smallest
  change comes first.
- **Passes**: forward and backward passes through the model.
- **CPU seconds**: all threads together, in the second call on this one image. The first call also
  compiles, which takes seconds more.

One image does not show which attack is best. For that see [Which attack?](which_attack.md) and
[the smallest changes on 100 images](optimality.md). What it shows is what kind of change each norm
allows, what an attack costs, and that an attack can fail where others succeed.

Measured on {day}: {machine}.
Other programs ran on the machine at the same time: take the seconds as rough.
"""

SECTIONS = {
    "Linf": "Every pixel may change a little. The limit is `Linf({limit})`: {levels} of 255 grey"
    " levels.",
    "L2": "The change is short as a vector. The limit is `L2({limit})`.",
    "L1": "The sum of all changes is small. The limit is `L1({limit})`. One white pixel turned"
    " black costs 1.",
    "L0": "Few pixels change, by any amount. The limit is `L0({limit})`: {limit} of 784 pixels.",
}


def page(measured: dict[str, Any]) -> str:
    """The page in Markdown."""
    parts = [
        HEAD.format(
            kind=measured["class"].lower(),
            queries=QUERIES,
            day=measured["day"],
            machine=measured["machine"],
        )
    ]
    for budget in BUDGETS:
        norm = type(budget).__name__
        rows = measured["norms"][norm]
        limit = sized(norm, budget.epsilon) if norm != "L2" else f"{budget.epsilon:g}"
        limit = f"{budget.epsilon:g}" if norm == "L1" else limit
        parts.append(f"## {norm}\n")
        parts.append(
            SECTIONS[norm].format(limit=limit.replace("/", " / "), levels=limit.split("/")[0])
            + f" The right half of each pair is the difference, enlarged {ENLARGED[norm]} times;"
            " grey is no change.\n"
            if ENLARGED[norm] > 1
            else SECTIONS[norm].format(limit=limit, levels="")
            + " The right half of each pair is the difference; grey is no change.\n"
        )
        held = [row["attack"] for row in rows if not row["success"]]
        parts.append(
            f"![The {measured['class'].lower()} changed by {len(rows)} attacks in {norm}, and the"
            f" differences](pictures/pages/gallery_{norm.lower()}.png)\n"
        )
        parts.append(table(norm, rows))
        parts.append(
            f"Failed on this image: {', '.join(f'`{name}`' for name in held)}.\n"
            if held
            else "Every attack succeeded on this image.\n"
        )
        absent = [name for name in names() if name not in MAPS]
        absent = [name for name in absent if name not in {row["attack"] for row in rows}]
        parts.append(f"No form in {norm}: {', '.join(f'`{name}`' for name in absent)}.\n")
    parts.append("## Not in the tables\n")
    parts.append(
        f"{' and '.join(f'`{name}`' for name in MAPS)} attack models that give a class to each"
        " pixel: [which kind of model have you?](which_model.md#a-class-for-each-pixel)\n"
    )
    return "\n".join(parts)


def table(norm: str, rows: list[dict[str, Any]]) -> str:
    """The figures."""
    lines = [
        "| attack | reads | aim | seen as | change | passes | CPU seconds |",
        "|---|---|---|---|---:|---:|---:|",
    ]
    for row in in_order(rows):
        settings = f"`{row['attack']}({row['settings']})`".replace("()`", "`")
        passes = f"{row['forward']:,} + {row['backward']:,}"
        change = sized(norm, row["distance"]) if row["success"] else "-"
        seen = f"{row['seen']} {row['confidence']:.1%}" if row["success"] else "held"
        lines.append(
            f"| {settings} | {READS[row['reads']]} | {'limit' if row['limited'] else 'smallest'}"
            f" | {seen} | {change} | {passes} | {row['seconds']:.2f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="folder of the page")
    parser.add_argument(
        "--measured",
        type=Path,
        help="file of the measurements: those that it has are not made again",
    )
    arguments = parser.parse_args()
    measured = measure(arguments.measured)
    pictures = arguments.out / "pictures" / "pages"
    pictures.mkdir(parents=True, exist_ok=True)
    for norm in measured["norms"]:
        sheet(measured, norm, pictures / f"gallery_{norm.lower()}.png")
    (arguments.out / "gallery.md").write_text(page(measured), encoding="utf-8")


if __name__ == "__main__":
    main()
