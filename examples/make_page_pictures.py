"""Draw the pictures of single pages of the documentation.

    python examples/make_page_pictures.py
    python examples/make_page_pictures.py --only sizes --photo my_photo.png

``tree`` is the decision tree of "Which attack?", ``curve`` that of "How near is the boundary?",
``optimality`` a chart of the tables of docs/optimality.md, ``sizes`` a photo changed by as much as
common budgets allow, ``report`` the first part of a report, seen by chromium. For ``sizes`` the
photo is scikit-image's cat (CC0), kept outside of this repository. Needs
``pip install 'advex[report]'``.
"""

from __future__ import annotations

import argparse
import html
import io
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).parent.parent
INK, SOFT, BLUE, RED = "#222831", "#5c636e", "#2667b5", "#be2d23"

# The decision tree

BOXES = {  # name: (middle, top, lines, kind); "?" asks, "!" answers
    "budget": (430, 20, ["Is there a budget?"], "?"),
    "white": (220, 130, ["Gradients?", "(a Keras model)"], "?"),
    "free": (690, 130, ["Gradients?", "(a Keras model)"], "?"),
    "time": (140, 250, ["Time?"], "?"),
    "scores": (350, 250, ["Scores, or a class?"], "?"),
    "minimum": (590, 250, ['MinimumNorm("L2")'], "!"),
    "blind": (780, 250, ['MinimumNorm("L2",', "steps=5000)"], "!"),
    "pgd": (80, 370, ["PGD()"], "!"),
    "verdict": (195, 370, ["Verdict()"], "!"),
    "square": (345, 370, ["SquareAttack()", "SparseRS() in L0"], "!"),
    "labels": (510, 370, ["RayS(), CGBA(),", "Pointwise()"], "!"),
}
ARROWS = [
    ("budget", "white", "yes"),
    ("budget", "free", "no: the smallest change"),
    ("white", "time", "yes"),
    ("white", "scores", "no"),
    ("free", "minimum", "yes"),
    ("free", "blind", "no"),
    ("time", "pgd", "seconds"),
    ("time", "verdict", "minutes"),
    ("scores", "square", "scores"),
    ("scores", "labels", "a class"),
]
HIGH, LETTER = 48, 7.6


def wide(lines: list[str]) -> float:
    return max(len(line) for line in lines) * LETTER + 28


def tree(options: argparse.Namespace) -> None:
    """Questions and answers as boxes, in SVG: text stays text."""
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 880 440" width="880" height="440"'
        ' font-family="system-ui, sans-serif" font-size="14" role="img">',
        "<title>Which attack? A decision tree.</title>",
        '<rect width="880" height="440" fill="#ffffff"/>',
    ]
    for start, end, words in ARROWS:
        x0, y0 = BOXES[start][0], BOXES[start][1] + HIGH
        x1, y1 = BOXES[end][0], BOXES[end][1]
        parts.append(
            f'<path d="M{x0},{y0} C{x0},{y0 + 30} {x1},{y1 - 36} {x1},{y1 - 3}" fill="none"'
            f' stroke="{SOFT}" stroke-width="1.5"/>'
            f'<path d="M{x1 - 5},{y1 - 9} L{x1},{y1} L{x1 + 5},{y1 - 9} Z" fill="{SOFT}"/>'
        )
        anchor, shift = ("end", -10) if x1 < x0 else ("start", 10)
        parts.append(
            f'<text x="{x1 + shift}" y="{y1 - 18}" text-anchor="{anchor}" fill="{SOFT}">'
            f"{html.escape(words)}</text>"
        )
    for middle, top, lines, kind in BOXES.values():
        width = wide(lines)
        fill, edge, text = ("#eef3fa", BLUE, INK) if kind == "?" else ("#2667b5", BLUE, "#ffffff")
        parts.append(
            f'<rect x="{middle - width / 2:g}" y="{top}" width="{width:g}" height="{HIGH}"'
            f' rx="{24 if kind == "?" else 6}" fill="{fill}" stroke="{edge}"/>'
        )
        family = ' font-family="ui-monospace, monospace" font-size="13"' if kind == "!" else ""
        first = top + HIGH / 2 + 5 - 9 * (len(lines) - 1)
        for number, line in enumerate(lines):
            parts.append(
                f'<text x="{middle}" y="{first + 18 * number:g}" text-anchor="middle"'
                f' fill="{text}"{family}>{html.escape(line)}</text>'
            )
    parts.append("</svg>\n")
    (options.out / "which_attack.svg").write_text("\n".join(parts), encoding="utf-8")


# Charts


def figure(width: float, height: float, **words: Any) -> tuple[Any, Any]:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    pyplot.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    return pyplot.subplots(figsize=(width, height), layout="constrained", **words)


def curve(options: argparse.Namespace) -> None:
    """Robust accuracy over the size of the change, of the network that ships with advex."""
    import advex

    model, (x, labels) = advex.zoo.fashion_mnist(), advex.zoo.fashion_images()
    drawn, axes = figure(6.4, 3.4)
    for attack, colour, name in (
        (advex.MinimumNorm("L2"), BLUE, "MinimumNorm"),
        (advex.DeepFool(), RED, "DeepFool"),
    ):
        result = attack(model, x, labels, advex.L2(), progress=False)
        sizes = np.sort(result.distance)
        accuracy = 1 - np.arange(len(sizes) + 1) / len(sizes)
        axes.step([0, *sizes], [*accuracy], where="post", color=colour, label=name)
    axes.set(xlabel="L2 size of the change", ylabel="robust accuracy", ylim=(0, 1.02))
    axes.set_xlim(0, 0.6)
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0%", "25%", "50%", "75%", "100%"])
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, title="32 images; lower is a better attack")
    save(drawn, options.out / "near_curve.png")


def optimality(options: argparse.Namespace) -> None:
    """The optimality of every attack of the page, norm by norm."""
    page = (ROOT / "docs" / "optimality.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## (L\w+)\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL))
    drawn, panels = figure(8.6, 10.5, nrows=2, ncols=2)
    for axes, (norm, text) in zip(panels.flat, sections.items(), strict=True):
        rows = [
            [cell.strip().replace("\\*", "") for cell in line.strip("|").split("|")]
            for line in text.splitlines()
            if line.startswith("|") and not line.startswith(("|---", "| attack"))
        ]
        rows.sort(key=lambda row: float(row[6]))
        for height, row in enumerate(rows):
            own = row[1].startswith("advex")
            standard, hardened = max(float(row[3]), 0), max(float(row[6]), 0)
            colour = BLUE if own else SOFT
            axes.plot([standard, hardened], [height] * 2, color=colour, alpha=0.35, linewidth=1)
            axes.plot(standard, height, "o", color="white", markeredgecolor=colour, markersize=5)
            axes.plot(hardened, height, "o", color=colour, markersize=5)
        axes.set_yticks(range(len(rows)), [f"{row[0]}, {row[1].split()[0]}" for row in rows])
        for label, row in zip(axes.get_yticklabels(), rows, strict=True):
            label.set_fontweight("bold" if row[1].startswith("advex") else "normal")
        axes.set(title=norm, xlim=(-0.03, 1.03), ylim=(-0.7, len(rows) - 0.3))
        axes.grid(axis="x", alpha=0.3)
    drawn.supxlabel(
        "optimality (1: the best known change on every image)\n"
        "filled: adversarially trained network; open: ordinary network; bold: advex"
    )
    save(drawn, options.out / "optimality.png")


def save(drawn: Any, path: Path) -> None:
    """A figure of matplotlib."""
    kept = io.BytesIO()
    drawn.savefig(kept, dpi=130)
    few(Image.open(kept), path)


def few(picture: Image.Image, path: Path) -> None:
    """As PNG of few colours."""
    # the method that leaves rare colours, such as that of one small sign
    method, dither = Image.Quantize.MAXCOVERAGE, Image.Dither.NONE
    picture.convert("RGB").quantize(128, method, dither=dither).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size:,} bytes")


# A photo within the budgets


def sizes(options: argparse.Namespace) -> None:
    """The photo, and changes of the largest size that each budget allows; what an ordinary JPEG
    does to it, in the same units.
    """
    photo = Image.open(options.photo).convert("RGB")
    side = min(photo.size)
    photo = photo.crop(
        ((photo.width - side) // 2, (photo.height - side) // 2, (photo.width + side) // 2,
         (photo.height + side) // 2)
    ).resize((224, 224), Image.Resampling.BICUBIC)  # fmt: skip
    x = np.asarray(photo, "float64") / 255
    draw = np.random.default_rng(0)
    signs = draw.choice([-1.0, 1.0], x.shape)
    direction = draw.normal(size=x.shape)
    few = draw.choice(x.size, 300, replace=False)
    spots = x.copy().reshape(-1)
    spots[few] = np.round(1 - spots[few])
    cells = [("the photo", x)]
    cells += [(f"Linf {k}/255", np.clip(x + signs * k / 255, 0, 1)) for k in (2, 8, 16, 32)]
    cells += [
        (f"L2 {size:g}", np.clip(x + size * direction / np.linalg.norm(direction), 0, 1))
        for size in (0.5, 3, 12)
    ]
    cells += [("L0 300", spots.reshape(x.shape))]
    for quality in (95, 75):
        kept = io.BytesIO()
        photo.save(kept, "JPEG", quality=quality)
        cells.append((f"JPEG, quality {quality}", np.asarray(Image.open(kept), "float64") / 255))
    cells.append(("brighter by 5%", np.clip(x * 1.05, 0, 1)))
    across, gap = 3, 10
    canvas = Image.new("RGB", (across * (224 + gap), 4 * (224 + 46)), "white")
    pen = ImageDraw.Draw(canvas)
    print("| change | Linf, in levels | L2 | L1 | L0 |")
    for place, (name, changed) in enumerate(cells):
        left, top = place % across * (224 + gap), place // across * (224 + 46)
        canvas.paste(Image.fromarray(np.rint(changed * 255).astype("uint8")), (left, top + 22))
        pen.text(
            (left, top + 11), name, fill=INK, font=ImageFont.load_default(size=15), anchor="lm"
        )
        moved = np.abs(np.rint(changed * 255) - np.rint(x * 255)).reshape(-1)
        print(
            f"| {name} | {moved.max():.0f} | {np.linalg.norm(moved / 255):.2f}"
            f" | {moved.sum() / 255:,.0f} | {(moved > 0).sum():,} |"
        )
    path = options.out / "sizes.jpg"  # as PNG five times as large
    canvas.save(path, quality=84, subsampling=0, optimize=True)
    print(f"{path}: {path.stat().st_size:,} bytes")


# The first part of a report

SHOT = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"]
SHOT += ["--disable-background-networking", "--disable-component-update", "--hide-scrollbars"]
SEEN, DRAWN = (1280, 1030), (1100, 885)


def report(options: argparse.Namespace) -> None:
    """A report as a browser shows it."""
    import advex
    from advex import zoo

    browser = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
    if browser is None:
        print("report: no chromium was found, the picture is left as it is")
        return
    found = advex.evaluate(
        zoo.fashion_mnist(),
        zoo.fashion_images(),
        [advex.PGD(), advex.SquareAttack(steps=50)],
        advex.Linf(2 / 255),
    )
    with tempfile.TemporaryDirectory() as folder:
        page, shot = Path(folder, "page.html"), Path(folder, "shot.png")
        found.report(page, title="Clothes classifier, release candidate")
        words = [*SHOT, f"--user-data-dir={folder}/browser", "--window-size={},{}".format(*SEEN)]
        subprocess.run([browser, *words, f"--screenshot={shot}", page.as_uri()], check=True)
        few(Image.open(shot).resize(DRAWN, Image.Resampling.LANCZOS), options.out / "report.png")


PICTURES: dict[str, Callable[[argparse.Namespace], None]] = {
    "tree": tree,
    "curve": curve,
    "optimality": optimality,
    "sizes": sizes,
    "report": report,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "pictures" / "pages")
    parser.add_argument("--only", choices=PICTURES, help="draw just this one")
    parser.add_argument(
        "--photo", type=Path, default=ROOT.parent / "shared" / "imagenet" / "chelsea.png"
    )
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name, draw in PICTURES.items():
        if options.only in (None, name):
            draw(options)


if __name__ == "__main__":
    main()
