"""The shipped network: its loss over two pixels, the walk uphill, the boundary near an image."""

from __future__ import annotations

from functools import cache
from itertools import combinations

import keras
import numpy as np
from keras import ops
from PIL import Image

import advex
from advex import zoo

from .canvas import (
    BLUE,
    FAINT,
    FINE,
    INK,
    LIGHT_RED,
    RED,
    SOFT,
    WHITE,
    Axes,
    Canvas,
    Say,
    regions,
    shades,
)

CHINESE = (
    "T恤", "裤子", "套头衫", "连衣裙", "外套", "凉鞋", "衬衫", "运动鞋", "包", "短靴",
)  # fmt: skip


@cache
def load() -> tuple[keras.Model, np.ndarray, np.ndarray, list[str]]:
    classifier = zoo.fashion_mnist()
    return classifier.model, *zoo.fashion_images(), classifier.names


def names_in(say: Say) -> list[str]:
    return [say(*both) for both in zip(load()[3], CHINESE, strict=True)]


@cache
def compiled():
    """(image, label) -> logits, loss, gradient of the loss with respect to the image."""
    model = load()[0]
    label = keras.Input(shape=(), dtype="int32")
    logits = model.outputs[0]
    loss = keras.losses.sparse_categorical_crossentropy(label, logits, from_logits=True)
    (gradient,) = advex.gradients(loss, model.inputs)
    return advex.function([*model.inputs, label], [logits, loss, gradient])


# The loss over two pixels.


@cache
def two_pixels() -> dict:
    """The image, two pixels with a steep loss, that loss over all their levels, and the walk."""
    _, images, labels, _ = load()
    run = compiled()
    best = None
    for row in range(len(images)):
        x0 = images[[row]] / np.float32(255)
        logits, loss, slope = run([x0, labels[[row]]])
        if logits[0].argmax() != labels[row] or loss[0] > 0.3:
            continue
        steep = [divmod(int(o), 28) for o in np.argsort(-np.abs(slope[0, :, :, 0]).ravel())[:16]]
        pairs = [
            (p, q) for p, q in combinations(steep, 2) if max(abs(p[0] - q[0]), abs(p[1] - q[1])) > 3
        ]
        tried = np.repeat(x0, len(pairs), 0)
        for number, pair in enumerate(pairs):
            for r, c in pair:
                tried[number, r, c, 0] = slope[0, r, c, 0] > 0
        losses = run([tried, np.repeat(labels[[row]], len(pairs))])[1]
        if best is None or losses.max() > best[0]:
            best = (losses.max(), row, pairs[int(losses.argmax())])
    _, row, pixels = best
    x0 = images[[row]] / np.float32(255)
    levels = np.linspace(0, 1, 41, dtype="float32")
    grid = np.repeat(x0, 41 * 41, 0)
    a, b = np.meshgrid(levels, levels, indexing="ij")
    for (r, c), values in zip(pixels, (a, b), strict=True):
        grid[:, r, c, 0] = values.ravel()
    label = np.repeat(labels[[row]], len(grid))
    logits, loss, _ = run([grid, label])
    x, track = x0.copy(), []
    for _ in range(200):
        _, (height,), slope = run([x, labels[[row]]])
        here = [float(x[0, r, c, 0]) for r, c in pixels]
        if track and np.abs(np.subtract(here, track[-1][:2])).max() < 1e-6:
            break
        track.append((*here, float(height)))
        push = np.array([slope[0, r, c, 0] for r, c in pixels])
        push = 0.06 * push / np.linalg.norm(push)  # steps of equal length, up the slope
        for (r, c), step in zip(pixels, push, strict=True):
            x[0, r, c, 0] = np.clip(x[0, r, c, 0] + step, 0, 1)
    return {
        "row": row,
        "pixels": pixels,
        "loss": loss.reshape(41, 41),
        "seen": logits.argmax(-1).reshape(41, 41),
        "track": np.array(track),
        "last": np.round(x[0] * 255).astype("uint8"),
    }


def loss_surface(say: Say) -> tuple[Canvas, dict]:
    """The loss of the network over the grey levels of two pixels, all others as they are."""
    facts = two_pixels()
    _, images, labels, _ = load()
    names = names_in(say)
    loss, track = facts["loss"], facts["track"]
    canvas = Canvas(700, 430)
    high = float(loss.max())
    scale = 190 / high

    def at(a: float, b: float, z: float) -> tuple[float, float]:
        """Where a point of the landscape is seen: a goes right and down, b right and up."""
        return 60 + 235 * a + 165 * b, 300 + 90 * a - 80 * b - scale * z

    for share in (0, 0.25, 0.5, 0.75, 1):  # the floor
        canvas.line([at(share, 0, 0), at(share, 1, 0)], FAINT, 1)
        canvas.line([at(0, share, 0), at(1, share, 0)], FAINT, 1)
    colour = shades(loss, 0, high)
    step = 1 / 40
    for j in range(39, -1, -1):
        for i in range(40):
            around = [(i, j), (i + 1, j), (i + 1, j + 1), (i, j + 1)]
            corners = [at(p * step, q * step, loss[p, q]) for p, q in around]
            tint = LIGHT_RED if facts["seen"][i, j] != labels[facts["row"]] else colour[i, j]
            canvas.polygon(corners, tuple(int(v) for v in tint))
    for k in range(0, 41, 5):
        canvas.line([at(k * step, j * step, loss[k, j]) for j in range(41)], (150, 165, 180), 0.7)
        canvas.line([at(i * step, k * step, loss[i, k]) for i in range(41)], (150, 165, 180), 0.7)
    path = [at(*place) for place in track]
    canvas.line(path, WHITE, 5)
    canvas.line(path, RED, 3)
    canvas.dot(path[0], INK, 7, 1.5)
    canvas.square(path[-1], RED, 6)
    canvas.text(
        (path[0][0] - 30, path[0][1] + 22),
        say("the image: loss {:.2f}", "原图：损失 {:.2f}").format(track[0, 2]),
        14,
        INK,
        "lm",
        halo=WHITE,
    )
    canvas.text(
        (path[-1][0] - 12, path[-1][1] - 8),
        say("uphill: loss {:.2f}", "上坡之后：损失 {:.2f}").format(track[-1, 2]),
        14,
        RED,
        "rm",
        halo=WHITE,
    )
    for a, b, words, anchor in (
        (0.5, -0.13, say("pixel A, from black to white", "像素 A：从黑到白"), "mm"),
        (1.06, 0.45, say("pixel B, from black to white", "像素 B：从黑到白"), "lm"),
    ):
        canvas.text(
            (at(a, b, 0)[0], at(a, b, 0)[1] + (14 if b < 0 else 12)), words, 13, SOFT, anchor
        )
    row = facts["row"]
    pictures = (
        (images[row], labels[row], INK, 96),
        (facts["last"], facts["seen"].ravel()[0], RED, 96),
    )
    end = int(compiled()([facts["last"][None] / np.float32(255), labels[[row]]])[0][0].argmax())
    for number, (pixels, kind, tint, side) in enumerate(pictures):
        left, top = 470 + 116 * number, 20
        canvas.paste(pixels, (left, top), side)
        kind = (int(labels[row]), end)[number]
        canvas.text((left + side / 2, top + side + 14), names[kind], 14, tint, "mm")
        for letter, (r, c) in zip("AB", facts["pixels"], strict=True):
            unit = side / 28
            box = (
                left + c * unit - 2,
                top + r * unit - 2,
                left + (c + 1) * unit + 2,
                top + (r + 1) * unit + 2,
            )
            canvas.rectangle(box, (255, 160, 0), 2)
            canvas.text(
                (left + (c + 1.9) * unit, top + (r + 0.5) * unit),
                letter,
                13,
                (255, 190, 60),
                "lm",
                halo=INK,
            )
    words = say("orange: taken for a {}", "橙色：判为{}").format(
        say(names[end].lower(), names[end])
    )
    canvas.text((470, 180), words, 13, RED, "lm")
    facts["end"] = end
    return canvas, facts


# The walk uphill.


@cache
def climbed() -> dict:
    """A hand-written ascent on the image that takes about ten steps to the boundary."""
    _, images, labels, _ = load()
    run = compiled()
    epsilon, best = np.float32(12 / 255), None
    for row in range(len(images)):
        x0 = images[[row]] / np.float32(255)
        x, track = x0, []
        for _ in range(25):
            logits, _, slope = run([x, labels[[row]]])
            track.append(ops.convert_to_numpy(ops.softmax(logits[0])))
            low, high = np.maximum(x0 - epsilon, 0), np.minimum(x0 + epsilon, 1)
            x = np.clip(x + np.sign(slope) / 510, low, high)
        wins = np.array(track).argmax(1) != labels[row]
        when = int(wins.argmax()) if wins[-1] else 0
        if wins[-1] and (best is None or abs(when - 10) < abs(best["when"] - 10)):
            best = {"row": row, "when": when, "track": np.array(track)}
    return best


def ascent(say: Say) -> tuple[Canvas, dict]:
    """Probabilities along a hand-written ascent: the true class falls, another rises."""
    facts = climbed()
    names = names_in(say)
    row, when, track = facts["row"], facts["when"], facts["track"]
    true, other = int(load()[2][row]), int(track[-1].argmax())
    canvas = Canvas(640, 330)
    axes = Axes(canvas, (60, 40, 480, 280), (0, 24), (0, 1))
    axes.frame(range(0, 25, 4), (0, 0.25, 0.5, 0.75, 1), "{:.0%}".format)
    for number in range(10):
        if number not in (true, other):
            axes.curve(range(25), track[:, number], FAINT, 1.5)
    axes.curve(range(25), track[:, true], BLUE, 3)
    axes.curve(range(25), track[:, other], RED, 3, 10)
    for number, colour in ((true, BLUE), (other, RED)):
        x, y = axes.at(24, track[-1, number])
        canvas.text((x + 10, y), names[number], 15, colour)
    lead = track[:, other] - track[:, true]
    # where the two curves cross
    x, _ = axes.at(when - lead[when] / (lead[when] - lead[when - 1]), 0)
    canvas.line([(x, 40), (x, 280)], INK, 1.5, 5)
    words = say("here the decision boundary is crossed", "在这里越过决策边界")
    canvas.text((max(x, 170), 24), words, 13, INK, "mm")
    words = say(
        "steps uphill on the loss, half a grey level each", "沿损失上坡的步数，每步半个灰度级"
    )
    canvas.text((270, 314), words, 13, SOFT, "mm")
    return canvas, {**facts, "true": true, "other": other}


# The boundary near an image.

REACH = 16  # grey levels to each side


@cache
def sliced() -> dict:
    """The plane through an image that the boundary passes some five levels away."""
    _, images, labels, _ = load()
    run = compiled()
    steps = np.linspace(-REACH, REACH, 65)
    best = None
    for row in range(len(images)):
        x0 = images[[row]] / np.float32(255)
        along = np.sign(run([x0, labels[[row]]])[2])
        line = np.clip(x0 + (steps / 255).astype("float32")[:, None, None, None] * along, 0, 1)
        logits = run([line, np.repeat(labels[[row]], len(line))])[0]
        others = np.delete(logits, labels[row], 1).max(1)
        lead = (logits[:, labels[row]] - others)[32:]
        if lead[0] <= 0 or lead.min() > 0:
            continue
        first = int(np.argmax(lead <= 0))
        distance = steps[32 + first] - 0.5 * lead[first] / (lead[first] - lead[first - 1])
        if best is None or abs(distance - 5) < abs(best[1] - 5):
            best = (row, distance, along)
    row, distance, along = best
    x0 = images[[row]] / np.float32(255)
    signs = np.random.default_rng(int(row)).choice(np.float32([-1, 1]), along.shape)
    shift = (steps / 255).astype("float32")
    layers = []
    for height in shift:
        part = np.clip(x0 + height * along * signs + shift[:, None, None, None] * along, 0, 1)
        layers.append(run([part, np.repeat(labels[[row]], len(part))])[0])
    return {"row": int(row), "distance": float(distance), "logits": np.array(layers)}


def boundary(say: Say) -> tuple[Canvas, dict]:
    """The plane through an image, along its gradient's sign and across it: what is seen where."""
    facts = sliced()
    _, images, labels, _ = load()
    names, row, logits = names_in(say), facts["row"], facts["logits"]
    canvas = Canvas(680, 450)
    left, top, side = 40, 20, 380
    axes = Axes(canvas, (left, top, left + side, top + side), (-REACH, REACH), (-REACH, REACH))
    size = (side * FINE, side * FINE)  # the logits are interpolated, so that the boundary is smooth
    inside = (
        0.5,
        0.5,
        len(logits) - 0.5,
        len(logits) - 0.5,
    )  # from the middle of the outer samples
    layers = [
        np.asarray(Image.fromarray(layer).resize(size, Image.Resampling.BICUBIC, inside))
        for layer in np.moveaxis(logits[::-1], -1, 0)
    ]
    seen = np.argmax(layers, axis=0)
    kinds = [int(labels[row]), *(int(k) for k in np.unique(seen) if k != labels[row])]
    tints = [(226, 238, 249), (250, 190, 140), (205, 205, 205), (196, 225, 180), (240, 225, 150)]
    colours = np.full((10, 3), 128)
    for kind, tint in zip(kinds, tints, strict=False):
        colours[kind] = tint
    axes.fill(regions(seen, [tuple(c) for c in colours]))
    xs, ys = axes.grid()
    for number, kind in enumerate(kinds):
        ours = seen == kind
        if ours.mean() < 0.02:
            continue
        x, y = _middle(ours)
        clear = ours & (np.abs(xs) + np.abs(ys) > 9) & ((ys > 0) if number == 0 else (ys < 0))
        if clear.mean() > 0.1:  # away from the arrows
            x, y = _middle(clear)
        words = names[kind] + (say(" (right)", "（正确）") if number == 0 else "")
        canvas.text(
            (left + x, top + y),
            words,
            20,
            BLUE if number == 0 else (120, 40, 0),
            "mm",
            halo=tuple(int(v) for v in colours[kind]),
        )
    distance = facts["distance"]
    # Along both directions at once a pixel moves by the sum of the two, or by their difference.
    tips = [axes.at(*tip) for tip in ((8, 0), (0, 8), (-8, 0), (0, -8), (8, 0))]
    canvas.line(tips, SOFT, 1.5, 6)
    words = say("dashed: at most 8 levels", "虚线内：改动不超过 8 级")
    canvas.text((axes.at(-2, 0)[0], axes.at(0, -8)[1] + 12), words, 12, INK, "rm", halo=tints[0])
    axes.arrow((0, 0), (8, 0), RED, 3.5)
    for end in ((0, 8), (0, -8), (-8, 0)):
        axes.arrow((0, 0), end, SOFT, 1.5)
    canvas.dot(axes.at(0, 0), INK, 7, 1.5)
    spot = axes.at(0, 0)
    canvas.text(
        (spot[0] - 10, spot[1] + 18), say("the image", "原图"), 13, INK, "rm", halo=tints[0]
    )
    words = say("along the sign of the gradient, in grey levels", "沿梯度符号的方向，单位：灰度级")
    canvas.text((left + side / 2, top + side + 32), words, 13, SOFT, "mm")
    canvas.aside((14, top + side / 2), say("along random signs", "沿随机符号的方向"))
    for value in (-16, -8, 0, 8, 16):
        canvas.text(
            (axes.at(value, 0)[0], top + side + 12), f"{value:+d}" if value else "0", 12, SOFT, "mm"
        )
    moved = np.sign(compiled()([images[[row]] / np.float32(255), labels[[row]]])[2])[0]
    after = np.clip(images[row] + 8 * moved, 0, 255).astype("uint8")
    logits = compiled()([after[None] / np.float32(255), labels[[row]]])[0]
    for number, (pixels, words, colour) in enumerate((
        (images[row], say("the image: ", "原图：") + names[int(labels[row])], BLUE),
        (after, say("red arrow: ", "红色箭头：") + names[int(logits[0].argmax())], RED),
    )):  # fmt: skip
        y = 20 + 176 * number
        canvas.paste(pixels, (456, y), 140)
        canvas.text((456, y + 154), words, 13, colour, "lm")
    words = say(
        "the boundary: {:.1f} levels\naway to the right", "向右走 {:.1f} 级\n就到边界"
    ).format(distance)
    for number, line in enumerate(words.split("\n")):
        canvas.text((456, 376 + 18 * number), line, 13, INK, "lm")
    kinds_along = facts["logits"].argmax(-1)
    arms = {  # what is seen on the way from the image to the edge of the slice
        "right": kinds_along[32, 32:],
        "left": kinds_along[32, :33],
        "up": kinds_along[32:, 32],
        "down": kinds_along[:33, 32],
    }
    return canvas, {
        **facts,
        "arms": arms,
        "after": int(logits[0].argmax()),
        "label": int(labels[row]),
    }


def _middle(area: np.ndarray) -> tuple[float, float]:
    """A point well inside an area of the fine picture, in pixels of the canvas."""
    small = area[::FINE, ::FINE].copy()
    left = small
    while left.any():  # worn away from outside, the last to go is the middle
        small = left
        left = small.copy()
        left[1:] &= small[:-1]
        left[:-1] &= small[1:]
        left[:, 1:] &= small[:, :-1]
        left[:, :-1] &= small[:, 1:]
        left[[0, -1]] = False
        left[:, [0, -1]] = False
    y, x = np.argwhere(small).mean(0)
    return float(x), float(y)


PICTURES = {"loss_surface": loss_surface, "ascent": ascent, "boundary": boundary}
