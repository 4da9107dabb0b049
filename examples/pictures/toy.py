"""Two classes in a plane: a trained line between them, a sample that crosses it, and what moves."""

from __future__ import annotations

from functools import cache

import keras
import numpy as np

import advex

from .canvas import (
    BLUE,
    INK,
    LIGHT_BLUE,
    LIGHT_RED,
    RED,
    SOFT,
    Axes,
    Canvas,
    Say,
    regions,
)

COLOURS = (LIGHT_BLUE, LIGHT_RED)


@cache
def points() -> tuple[np.ndarray, np.ndarray]:
    """Forty points of each of two classes, in a square from 0 to 1."""
    generator = np.random.default_rng(7)
    middle = np.array([(0.32, 0.64), (0.68, 0.36)])
    labels = np.repeat([0, 1], 40)
    return np.clip(generator.normal(middle[labels], 0.11), 0, 1).astype("float32"), labels


@cache
def trained() -> tuple[keras.Model, list[np.ndarray]]:
    """A line that was learned, and where it was after each epoch: kernel and bias as three rows."""
    x, labels = points()
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    # a bad line to begin with
    model.set_weights([np.array([(-0.1, 0.1), (0.5, -0.5)]), np.array([-0.32, 0.32])])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.5), loss)
    history = [np.vstack(model.get_weights())]
    for _ in range(100):
        model.train_on_batch(x, labels)
        history.append(np.vstack(model.get_weights()))
    return model, history


def side(weights: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Above 0: class two; 0 on the line."""
    across, up, constant = weights[:, 1] - weights[:, 0]
    return across * x + up * y + constant


def ends(weights: np.ndarray) -> list[tuple[float, float]]:
    """The two points where the line leaves the square."""
    across, up, constant = weights[:, 1] - weights[:, 0]
    candidates = [(x, -(constant + across * x) / up) for x in (0.0, 1.0)]
    candidates += [(-(constant + up * y) / across, y) for y in (0.0, 1.0)]
    inside = [(x, y) for x, y in candidates if min(x, y) >= -1e-9 and max(x, y) <= 1 + 1e-9]
    return sorted(inside)[:: max(1, len(inside) - 1)]


def plane(axes: Axes, weights: np.ndarray) -> None:
    axes.fill(regions((side(weights, *axes.grid()) > 0).astype(int), COLOURS))


def scatter(axes: Axes, faint: bool = False) -> None:
    for (x, y), label in zip(*points(), strict=True):
        mark = axes.canvas.square if label else axes.canvas.dot
        colour = (RED, BLUE)[1 - label]
        if faint:
            colour = tuple(round(0.45 * part + 0.55 * 235) for part in colour)
        mark(axes.at(x, y), colour, 4.5 if not label else 4)


def labelled(canvas: Canvas, box: tuple[int, int, int, int], say: Say) -> Axes:
    axes = Axes(canvas, box, (0, 1), (0, 1))
    left, top, right, bottom = box
    words = say("first feature", "第一个特征"), say("second feature", "第二个特征")
    canvas.text(((left + right) / 2, bottom + 16), words[0], 13, SOFT, "mm")
    canvas.aside((left - 16, (top + bottom) / 2), words[1])
    return axes


def two_classes(say: Say) -> tuple[Canvas, dict]:
    """Two classes and the line that a trained model draws between them."""
    _, history = trained()
    x, labels = points()
    weights = history[-1]
    right = ((side(weights, *x.T) > 0) == labels).mean()

    canvas = Canvas(640, 430)
    axes = labelled(canvas, (50, 20, 620, 390), say)
    plane(axes, weights)
    scatter(axes)
    canvas.text(axes.at(0.03, 0.93), say("here: class one", "这一侧：类别一"), 19, BLUE, "lm")
    canvas.text(
        axes.at(0.97, 0.07), say("here: class two", "这一侧：类别二"), 19, (120, 40, 0), "rm"
    )
    canvas.text(axes.at(0.84, 0.94), say("decision boundary", "决策边界"), 14, INK, "rm")
    return canvas, {"right": float(right), "points": len(x)}


@cache
def crossed() -> dict:
    """A point near the line and one far from it, and how far advex had to move each."""
    model, history = trained()
    x, labels = points()
    distance = np.abs(side(history[-1], *x.T)) / np.hypot(*np.diff(history[-1], axis=1)[:2, 0])
    ours = np.flatnonzero(labels == 0)
    near = ours[np.argsort(np.abs(distance[ours] - 0.11))[0]]
    far = ours[np.argsort(-distance[ours] + np.where(x[ours, 0] < 0.12, 9, 0))[0]]
    rows = [near, far]
    classifier = advex.Classifier(model, box=(0, 1))
    result = advex.DDN()(classifier, x[rows], labels[rows], advex.L2())
    assert result.success.all()
    length = 1.4 * float(result.distance[0])  # a little across, so that it is seen
    step = result.perturbation[0] / np.linalg.norm(result.perturbation[0])
    turned = [np.deg2rad(angle) for angle in (72, 126, 180, 234, 288)]
    others = np.array(
        [
            (step[0] * np.cos(a) - step[1] * np.sin(a), step[0] * np.sin(a) + step[1] * np.cos(a))
            for a in turned
        ]
    )
    return {
        "near": x[near],
        "far": x[far],
        "distances": [float(value) for value in result.distance],
        "measured": [float(value) for value in distance[rows]],
        "moved": x[near] + length * step,
        "short": x[near] + (length - 0.012) * step,  # where the arrow ends, before the mark
        "others": x[near] + length * others,
        "length": length,
    }


def crossing(say: Say) -> tuple[Canvas, dict]:
    """A sample that crosses the line, and steps of the same length that do not."""
    _, history = trained()
    facts = crossed()
    weights = history[-1]
    facts["crosses"] = bool(side(weights, *facts["moved"]) > 0)
    facts["others cross"] = int((side(weights, *facts["others"].T) > 0).sum())

    canvas = Canvas(640, 430)
    axes = labelled(canvas, (50, 20, 620, 390), say)
    plane(axes, weights)
    scatter(axes, faint=True)
    for other in facts["others"]:
        axes.arrow(facts["near"], other, SOFT, 1.5)
    axes.arrow(facts["near"], facts["short"], (150, 0, 0), 3)
    near, far, moved = (axes.at(*facts[name]) for name in ("near", "far", "moved"))
    canvas.dot(near, INK, 7, 1.5)
    canvas.dot(far, INK, 7, 1.5)
    canvas.square(moved, (150, 0, 0), 6)
    canvas.text(axes.at(0.03, 0.93), say("class one", "类别一"), 19, BLUE, "lm")
    canvas.text(axes.at(0.97, 0.07), say("class two", "类别二"), 19, (120, 40, 0), "rm")
    words = say("moved to here: class two", "移到这里：判为类别二")
    canvas.text((moved[0] + 14, moved[1] + 2), words, 14, (150, 0, 0), "lm", halo=LIGHT_RED)
    for number, line in enumerate(
        say(
            "grey: steps of the same length,\nanother way; still class one",
            "灰色：长度相同，方向不同，\n仍然判为类别一",
        ).split("\n")
    ):
        place = axes.at(0.46, 0.94 - 0.05 * number)
        canvas.text(place, line, 13, SOFT, "lm")
    canvas.text(
        (near[0] - 8, near[1] + 18),
        say("near: {:.2f}", "近：{:.2f}").format(facts["distances"][0]),
        14,
        INK,
        "rm",
        halo=LIGHT_BLUE,
    )
    canvas.text(
        (far[0], far[1] - 18),
        say("far: {:.2f}", "远：{:.2f}").format(facts["distances"][1]),
        14,
        INK,
        "mm",
        halo=LIGHT_BLUE,
    )
    return canvas, facts


def train_and_attack(say: Say) -> tuple[Canvas, dict]:
    """Training moves the line, not the points; attacking moves a point, not the line."""
    _, history = trained()
    x, labels = points()
    facts = crossed()
    canvas = Canvas(680, 400)
    shown = [0, 1, 3, 8, len(history) - 1]
    wrong = [int(((side(history[epoch], *x.T) > 0) != labels).sum()) for epoch in (0, shown[-1])]

    left = Axes(canvas, (20, 60, 330, 340), (0, 1), (0, 1))
    left.fill(np.full((2, 2, 3), 248, "uint8"))
    scatter(left)
    for number, epoch in enumerate(shown):
        last = epoch == shown[-1]
        grey = tuple(round(200 - 150 * number / len(shown)) for _ in range(3))
        canvas.line(
            [left.at(*end) for end in ends(history[epoch])],
            INK if last else grey,
            3 if last else 1.5,
            0 if last else 7,
        )
    canvas.text(left.at(0.02, 0.69), say("before", "训练前"), 13, SOFT, "lm")
    canvas.text(left.at(0.98, 0.83), say("after", "训练后"), 13, INK, "rm")

    right = Axes(canvas, (350, 60, 660, 340), (0, 1), (0, 1))
    plane(right, history[-1])
    scatter(right, faint=True)
    right.arrow(facts["near"], facts["short"], (150, 0, 0), 3)
    canvas.dot(right.at(*facts["near"]), INK, 7, 1.5)
    canvas.square(right.at(*facts["moved"]), (150, 0, 0), 6)
    for axes, title, what, formula in (
        (
            left,
            say("Training moves the weights", "训练：动的是参数"),
            say("the data stay, the loss goes down", "数据不动，损失下降"),
            "w ← w − α ∂L/∂w",
        ),
        (
            right,
            say("Attacking moves the input", "攻击：动的是输入"),
            say("the weights stay, the loss goes up", "参数不动，损失上升"),
            "x ← x + α ∂L/∂x",
        ),
    ):
        middle = (axes.box[0] + axes.box[2]) / 2
        canvas.text((middle, 22), title, 17, INK, "mm")
        canvas.text((middle, 44), what, 13, SOFT, "mm")
        canvas.text((middle, 366), formula, 16, INK, "mm")
    return canvas, {"wrong": wrong}


PICTURES = {"two_classes": two_classes, "crossing": crossing, "train_and_attack": train_and_attack}
