"""Draw the pictures of the documentation from the model and the images that ship with advex.

    python examples/make_pictures.py
    python examples/make_pictures.py --out my-folder

Everything is computed here, by the same calls that a user makes; Pillow and NumPy draw it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import keras
import numpy as np
from keras import ops
from PIL import Image, ImageDraw, ImageFont

import advex
from advex import zoo

INK, SOFT, FAINT = (34, 40, 49), (110, 118, 129), (221, 225, 230)
BLUE, RED, GREEN, GOLD = (38, 103, 181), (205, 62, 48), (46, 139, 87), (222, 160, 32)
PALETTE = [
    (141, 180, 226),
    (250, 190, 130),
    (160, 214, 160),
    (240, 150, 150),
    (190, 170, 220),
    (200, 170, 150),
    (235, 170, 210),
    (190, 190, 190),
    (210, 214, 130),
    (140, 212, 222),
]
FINE = 3  # drawn so many times larger, then made smaller: smooth edges


class Canvas:
    """A white picture with a coordinate system, drawn large and made smaller at the end."""

    def __init__(self, width: int, height: int) -> None:
        self.size = (width, height)
        self.image = Image.new("RGB", (width * FINE, height * FINE), "white")
        self.pen = ImageDraw.Draw(self.image)

    def text(
        self,
        at: tuple[float, float],
        words: str,
        size: int = 13,
        colour: tuple = INK,
        anchor: str = "lm",
    ) -> None:
        font = ImageFont.load_default(size=size * FINE)
        self.pen.text((at[0] * FINE, at[1] * FINE), words, fill=colour, font=font, anchor=anchor)

    def line(
        self, points: Sequence[tuple[float, float]], colour: tuple = INK, width: float = 1.5
    ) -> None:
        self.pen.line(
            [(x * FINE, y * FINE) for x, y in points],
            fill=colour,
            width=round(width * FINE),
            joint="curve",
        )

    def dot(self, at: tuple[float, float], colour: tuple = INK, radius: float = 4) -> None:
        x, y = at
        box = [(x - radius) * FINE, (y - radius) * FINE, (x + radius) * FINE, (y + radius) * FINE]
        self.pen.ellipse(box, fill=colour, outline="white", width=FINE)

    def rectangle(self, box: Sequence[float], colour: tuple = INK, width: float = 1.5) -> None:
        self.pen.rectangle(
            [value * FINE for value in box], outline=colour, width=round(width * FINE)
        )

    def arrow(
        self,
        start: tuple[float, float],
        end: tuple[float, float],
        colour: tuple = INK,
        width: float = 2,
    ) -> None:
        (x0, y0), (x1, y1) = start, end
        length = max(np.hypot(x1 - x0, y1 - y0), 1e-9)
        ux, uy = (x1 - x0) / length, (y1 - y0) / length
        head = min(8, length * 0.6)
        self.line([start, (x1 - head * 0.7 * ux, y1 - head * 0.7 * uy)], colour, width)
        tip = [(x1, y1)] + [
            (x1 - head * ux + s * head * 0.45 * uy, y1 - head * uy - s * head * 0.45 * ux)
            for s in (1, -1)
        ]
        self.pen.polygon([(x * FINE, y * FINE) for x, y in tip], fill=colour)

    def paste(
        self, pixels: np.ndarray, at: tuple[float, float], side: int, smooth: bool = False
    ) -> None:
        method = Image.Resampling.BICUBIC if smooth else Image.Resampling.NEAREST
        image = (
            advex.images.picture(pixels).convert("RGB").resize((side * FINE, side * FINE), method)
        )
        self.image.paste(image, (round(at[0] * FINE), round(at[1] * FINE)))

    def save(self, path: Path) -> None:
        small = self.image.resize(self.size, Image.Resampling.LANCZOS)
        small.quantize(128, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(
            path, optimize=True
        )
        print(f"{path}: {path.stat().st_size:,} bytes")


class Axes:
    """A rectangle of a canvas in which x and y are data."""

    def __init__(
        self,
        canvas: Canvas,
        box: tuple[int, int, int, int],
        x: tuple[float, float],
        y: tuple[float, float],
    ) -> None:
        self.canvas, self.box, self.x, self.y = canvas, box, x, y

    def at(self, x: float, y: float) -> tuple[float, float]:
        left, top, right, bottom = self.box
        across, up = (
            (x - self.x[0]) / (self.x[1] - self.x[0]),
            (y - self.y[0]) / (self.y[1] - self.y[0]),
        )
        return left + across * (right - left), bottom - up * (bottom - top)

    def frame(
        self,
        x_ticks: Sequence[float],
        y_ticks: Sequence[float],
        form: Callable[[float], str] = "{:g}".format,
    ) -> None:
        left, _, right, bottom = self.box
        for value in y_ticks:
            _, height = self.at(self.x[0], value)
            self.canvas.line([(left, height), (right, height)], FAINT, 1)
            self.canvas.text((left - 8, height), form(value), 12, SOFT, "rm")
        for value in x_ticks:
            across, _ = self.at(value, self.y[0])
            self.canvas.line([(across, bottom), (across, bottom + 4)], SOFT, 1)
            self.canvas.text((across, bottom + 14), f"{value:g}", 12, SOFT, "mm")
        self.canvas.line([(left, bottom), (right, bottom)], SOFT, 1)

    def curve(
        self, xs: Sequence[float], ys: Sequence[float], colour: tuple, width: float = 2.5
    ) -> None:
        self.canvas.line([self.at(x, y) for x, y in zip(xs, ys, strict=True)], colour, width)


def descent(folder: Path) -> None:
    """The walk of ``gradient_descent.py`` down y = x**2 + 2."""
    symbol = keras.Input(shape=())
    height = symbol**2 + 2
    run = advex.function(symbol, [height, *advex.gradients(height, symbol)])
    x, points = np.array([4.5]), []
    for _ in range(12):
        (y,), (slope,) = run(x)
        points.append((float(x[0]), float(y)))
        x = x - 0.1 * slope

    canvas = Canvas(640, 360)
    axes = Axes(canvas, (60, 30, 610, 310), (-5.5, 5.5), (-2, 27))
    axes.frame(range(-5, 6), (2, 10, 20))
    xs = np.linspace(-5, 5, 200)
    axes.curve(xs, xs**2 + 2, BLUE)
    for here, there in pairwise(points):
        canvas.arrow(axes.at(*here), axes.at(*there), RED, 1.5)
    for x_here, y_here in points:
        canvas.dot(axes.at(x_here, y_here), RED)
    canvas.text(axes.at(-4.9, 5), "y = x * x + 2", 15, BLUE)
    start = axes.at(*points[0])
    canvas.text((start[0] - 14, start[1]), "start", 13, RED, "rm")
    second = axes.at(*points[1])
    canvas.text((second[0] - 16, second[1]), "new x = x - 0.1 * slope", 13, RED, "rm")
    bottom = axes.at(0, 2)
    canvas.text(
        (bottom[0], bottom[1] + 14), "steps get shorter where the slope does", 12, SOFT, "mm"
    )
    canvas.save(folder / "descent.png")


def load() -> tuple[keras.Model, np.ndarray, np.ndarray, list[str]]:
    classifier = zoo.fashion_mnist()
    return classifier.model, *zoo.fashion_images(), classifier.names


def banner(folder: Path) -> None:
    """Original + a little = adversarial, for four images that PGD fools with the smallest of a few
    budgets.
    """
    model, images, labels, names = load()
    classifier = advex.Classifier(model, classes=names)
    chosen: dict[int, advex.Result] = {}  # class -> the least changed image of it
    for levels in (4, 6, 8, 12, 16):
        result = advex.fine()(classifier, images, labels, advex.Linf(levels / 255))
        for row in np.flatnonzero(result.success & (result.confidence > 0.8)):
            if labels[row] not in chosen:
                chosen[int(labels[row])] = (result, int(row))
    shown = sorted(chosen.items(), key=lambda item: item[1][0].distance[item[1][1]])[:4]

    side, gap, left = 128, 24, 92
    tops = (34, 34 + side + 50, 34 + 2 * side + 84)
    canvas = Canvas(left + 4 * (side + gap), tops[2] + side + 30)
    for top, words in zip(
        tops,
        (("what it", "was"), ("difference", "ten times"), ("what it is", "taken for")),
        strict=True,
    ):
        for line, word in enumerate(words):
            canvas.text((left - 14, top + side / 2 - 9 + 18 * line), word, 13, SOFT, "rm")
    for column, (_, (result, row)) in enumerate(shown):
        x = left + column * (side + gap)
        middle = x + side / 2
        changed = result.perturbation[row].astype("float64")
        difference = np.clip(128 + 10 * changed, 0, 255).astype("uint8")
        for top, pixels in zip(tops, (images[row], difference, result.x[row]), strict=True):
            canvas.paste(pixels, (x, top), side)
        canvas.text(
            (middle, 16), f"{round(np.abs(changed).max())} of 255 grey levels", 12, SOFT, "mm"
        )
        before, after = names[result.before[row]], names[result.prediction[row]]
        canvas.text(
            (middle, tops[0] + side + 14),
            f"{before}  {result.before_confidence[row]:.0%}",
            13,
            BLUE,
            "mm",
        )
        canvas.text(
            (middle, tops[2] + side + 14), f"{after}  {result.confidence[row]:.0%}", 13, RED, "mm"
        )
        canvas.text((middle, tops[1] - 14), "+", 18, INK, "mm")
        canvas.text((middle, tops[2] - 17), "=", 18, INK, "mm")
    canvas.save(folder / "banner.png")


def ascent(folder: Path) -> None:
    """Probabilities along a hand-written ascent: the true class falls, another rises."""
    model, images, labels, names = load()
    label = keras.Input(shape=(), dtype="int32")
    logits = model.outputs[0]
    loss = keras.losses.sparse_categorical_crossentropy(label, logits, from_logits=True)
    (gradient,) = advex.gradients(loss, model.inputs)
    run = advex.function([*model.inputs, label], [ops.softmax(logits), gradient])
    epsilon, best = np.float32(12 / 255), None
    for row in range(len(images)):
        x0 = images[[row]] / np.float32(255)
        x, track = x0, []
        for _ in range(25):
            probability, slope = run([x, labels[[row]]])
            track.append(probability[0])
            x = np.clip(
                x + np.sign(slope) / 510, np.maximum(x0 - epsilon, 0), np.minimum(x0 + epsilon, 1)
            )
        wins = np.array(track).argmax(1) != labels[row]
        when = int(wins.argmax()) if wins[-1] else 0
        if wins[-1] and (best is None or abs(when - 10) < abs(best[1] - 10)):
            best = (row, when, np.array(track))
    row, when, track = best
    other = int(track[-1].argmax())

    canvas = Canvas(640, 330)
    axes = Axes(canvas, (60, 40, 480, 280), (0, 24), (0, 1))
    axes.frame(range(0, 25, 4), (0, 0.25, 0.5, 0.75, 1), "{:.0%}".format)
    for number in range(10):
        if number not in (labels[row], other):
            axes.curve(range(25), track[:, number], FAINT, 1.5)
    axes.curve(range(25), track[:, labels[row]], BLUE)
    axes.curve(range(25), track[:, other], RED)
    ends = {int(labels[row]): BLUE, other: RED}
    for number, colour in ends.items():
        x, y = axes.at(24, track[-1, number])
        canvas.text((x + 10, y), f"{names[number]}", 14, colour)
    lead = track[:, other] - track[:, labels[row]]
    # where the two curves cross
    x, _ = axes.at(when - lead[when] / (lead[when] - lead[when - 1]), 0)
    canvas.line([(x, 40), (x, 280)], GOLD, 1.5)
    canvas.text((max(x, 170), 24), "here the decision boundary is crossed", 12, GOLD, "mm")
    canvas.text((270, 314), "steps uphill on the loss, half a grey level each", 13, SOFT, "mm")
    canvas.save(folder / "ascent.png")


def boundary(folder: Path) -> None:
    """The plane through an image, along its gradient's sign and across it: which class the network
    sees where.
    """
    model, images, labels, names = load()
    fgsm = advex.FGSM()(model, images, labels, advex.Linf(16 / 255))
    rows = np.flatnonzero(fgsm.success)
    epsilon, reach, count = 16 / 255, 32 / 255, 61
    steps = np.linspace(-reach, reach, count).astype("float32")
    judge = advex.function(model.inputs, model.outputs)
    label = keras.Input(shape=(), dtype="int32")
    loss = keras.losses.sparse_categorical_crossentropy(label, model.outputs[0], from_logits=True)
    slope_of = advex.function([*model.inputs, label], advex.gradients(loss, model.inputs))
    best = None
    for row in rows[:6]:
        x0 = images[[row]] / np.float32(255)
        along = np.sign(slope_of([x0, labels[[row]]])[0])
        across = along * np.random.default_rng(int(row)).choice([-1, 1], along.shape).astype(
            "float32"
        )
        grid = (
            x0
            + steps[:, None, None, None, None] * across
            + steps[None, :, None, None, None] * along
        )
        logits = np.concatenate(
            [judge(part)[0] for part in grid.reshape(count, count, 28, 28, 1)]
        ).reshape(count, count, -1)
        seen = logits.argmax(-1)
        inside = np.abs(steps) <= epsilon
        share = (
            seen[np.ix_(inside, inside)] == labels[row]
        ).mean()  # a picture with both classes in the budget
        if best is None or abs(share - 0.6) < best[0]:
            best = (abs(share - 0.6), int(row), logits)
    _, row, logits = best

    canvas = Canvas(640, 440)
    left, top, side = 40, 30, 380
    size = (side * FINE, side * FINE)  # the logits are interpolated, so that the boundary is smooth
    layers = [
        np.asarray(Image.fromarray(layer).resize(size, Image.Resampling.BICUBIC))
        for layer in np.moveaxis(logits[::-1], -1, 0)
    ]
    seen = np.argmax(layers, axis=0)
    canvas.paste(np.array(PALETTE, "uint8")[seen], (left, top), side)
    axes = Axes(canvas, (left, top, left + side, top + side), (-32, 32), (-32, 32))
    (x0, y1), (x1, y0) = axes.at(-16, -16), axes.at(16, 16)
    canvas.rectangle((x0, y0, x1, y1), INK, 2)
    canvas.text((x0 + 6, y0 + 12), "budget ± 16 levels", 12, INK)
    canvas.dot(axes.at(0, 0), INK, 6)
    canvas.text((axes.at(0, 0)[0], axes.at(0, 0)[1] + 18), "the image", 13, INK, "mm")
    canvas.arrow(axes.at(0.8, 0), axes.at(16, 0), RED, 3)
    canvas.text(
        (left + side / 2, top + side + 16), "along the sign of the gradient", 13, SOFT, "mm"
    )
    aside = Image.new("RGB", (side * FINE, 22 * FINE), "white")
    ImageDraw.Draw(aside).text(
        (side * FINE / 2, 11 * FINE),
        "along random signs",
        fill=SOFT,
        font=ImageFont.load_default(size=13 * FINE),
        anchor="mm",
    )
    canvas.image.paste(aside.rotate(90, expand=True), (10 * FINE, top * FINE))
    kinds, amounts = np.unique(seen, return_counts=True)
    for number, kind in enumerate(kinds[np.argsort(-amounts)]):
        y = top + 12 + 26 * number
        canvas.pen.rectangle(
            [448 * FINE, (y - 8) * FINE, 464 * FINE, (y + 8) * FINE], fill=PALETTE[kind]
        )
        words = names[kind] + ("  (right)" if kind == labels[row] else "")
        canvas.text((474, y), words, 13, INK)
    canvas.text((448, top + side - 150), "the image", 12, SOFT)
    canvas.paste(images[row], (448, top + side - 136), 128)
    canvas.save(folder / "boundary.png")


def budgets(folder: Path) -> None:
    """The four balls in two dimensions, and one image broken within each."""
    model, images, labels, names = load()
    limits = [(advex.Linf, (2 / 255, 4 / 255, 8 / 255, 16 / 255)), (advex.L2, (0.2, 0.4, 0.8, 1.5)),
              (advex.L1, (3, 6, 12, 24)), (advex.L0, (5, 10, 20, 40))]  # fmt: skip
    fates = [
        [advex.PGD()(model, images, labels, kind(size)) for size in sizes] for kind, sizes in limits
    ]
    broken = np.array([fate[-1].success for fate in fates]).sum(axis=0)
    row = int(np.flatnonzero(broken == broken.max())[0])

    side, gap = 140, 20
    canvas = Canvas(4 * (side + gap) + gap, 30 + 2 * side + 100)
    u = np.linspace(-1.6, 1.6, 320)
    a, b = np.abs(np.meshgrid(u, u))
    balls = (np.maximum(a, b) <= 1, np.hypot(a, b) <= 1, a + b <= 1, (np.minimum(a, b) <= 0.02))
    for column, ((kind, _), fate, ball) in enumerate(zip(limits, fates, balls, strict=True)):
        x = gap + column * (side + gap)
        canvas.text((x + side / 2, 14), kind.__name__, 16, INK, "mm")
        colours = np.where(
            ball[..., None], np.array(PALETTE[0], "uint8"), np.array((245, 246, 248), "uint8")
        )
        canvas.paste(colours, (x, 30), side, smooth=True)
        canvas.dot((x + side / 2, 30 + side / 2), INK, 4)
        words = (
            "every element a little",
            "short in a straight line",
            "small in sum",
            "a few elements, freely",
        )[column]
        canvas.text((x + side / 2, 30 + side + 14), words, 12, SOFT, "mm")
        result = next((one for one in fate if one.success[row]), fate[-1])
        y = 30 + side + 32
        canvas.paste(result.x[row], (x, y), side)
        fooled = result.success[row]
        label = (
            f"{result.budget.epsilon * 255:g}/255"
            if kind is advex.Linf
            else f"{result.budget.epsilon:g}"
        )
        canvas.text((x + side / 2, y + side + 14), f"{kind.__name__}({label})", 13, INK, "mm")
        seen = f"{names[result.prediction[row]]}  {result.confidence[row]:.0%}"
        canvas.text(
            (x + side / 2, y + side + 34),
            seen if fooled else "not fooled",
            13,
            RED if fooled else BLUE,
            "mm",
        )
    canvas.save(folder / "budgets.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("docs/pictures"),
        help="folder for the pictures (default docs/pictures)",
    )
    parser.add_argument("--only", choices=PICTURES, help="draw just this one")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, draw in PICTURES.items():
        if arguments.only in (None, name):
            draw(arguments.out)


PICTURES = {
    "banner": banner,
    "descent": descent,
    "ascent": ascent,
    "boundary": boundary,
    "budgets": budgets,
}

if __name__ == "__main__":
    main()
