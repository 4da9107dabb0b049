"""What a gradient is, and what walking along it does: up, down, and at three learning rates."""

from __future__ import annotations

from itertools import pairwise

import keras
import numpy as np
from keras import ops

import advex

from .canvas import BLUE, FAINT, GREEN, INK, RED, SOFT, WHITE, Axes, Canvas, Say, shades


def walk(start: float, rate: float, rounds: int, sign: int = -1, function=None) -> np.ndarray:
    """(rounds + 1, 2): x and y before the first round and after each."""
    symbol = keras.Input(shape=())
    height = function(symbol) if function else symbol**2 + 2
    run = advex.function(symbol, [height, *advex.gradients(height, symbol)])
    x, points = np.array([start]), []
    for _ in range(rounds + 1):
        (y,), (slope,) = run(x)
        points.append((float(x[0]), float(y)))
        x = x + sign * rate * slope
    return np.array(points)


def gradient(say: Say) -> tuple[Canvas, dict]:
    """Arrows on the contour lines of f(x, y) = x**2 + 2 y**2, and one of them in its parts."""
    place = keras.Input(shape=(2,))
    surface = place[:, 0] ** 2 + 2 * place[:, 1] ** 2
    slope_at = advex.function(place, advex.gradients(surface, place))
    corners = [(x, y) for x in (-1.8, -0.9, 0, 0.9, 1.8) for y in (-1.2, -0.6, 0, 0.6, 1.2)]
    (slopes,) = slope_at(np.array(corners, "float32"))
    chosen = np.array([(0.9, 0.6)], "float32")
    ((across, up),) = slope_at(chosen)[0]

    canvas = Canvas(680, 390)
    axes = Axes(canvas, (40, 20, 440, 340), (-2.5, 2.5), (-2, 2))
    xs, ys = axes.grid()
    heights = xs**2 + 2 * ys**2
    levels = np.array([0.25, 1, 2, 3.5, 5.5, 8, 11])
    axes.fill(shades(np.searchsorted(levels, heights), 0, 11))
    turn = np.linspace(0, 2 * np.pi, 200)
    for level in levels:
        a, b = np.sqrt(level) * np.cos(turn), np.sqrt(level / 2) * np.sin(turn)
        inside = (np.abs(a) < 2.5) & (np.abs(b) < 2)
        for piece in np.split(np.arange(len(turn)), np.flatnonzero(~inside)):
            piece = piece[inside[piece]]
            if len(piece) > 1:
                axes.curve(a[piece], b[piece], WHITE, 1)
    scale = 0.16
    for (x, y), slope in zip(corners, slopes, strict=True):
        if (x, y) == (0, 0):
            canvas.dot(axes.at(0, 0), INK, 3.5)
        elif (x, y) != (0.9, 0.6):
            axes.arrow((x, y), (x + scale * slope[0], y + scale * slope[1]), INK, 1.5)
    (x, y), long = chosen[0], 0.3
    tip = (x + long * across, y + long * up)
    axes.curve([tip[0], tip[0]], [y, tip[1]], INK, 1, 5)
    axes.curve([x, tip[0]], [tip[1], tip[1]], INK, 1, 5)
    axes.arrow((x, y), (tip[0], y), BLUE, 2.5)
    axes.arrow((x, y), (x, tip[1]), GREEN, 2.5)
    axes.arrow((x, y), tip, RED, 3.5)
    canvas.dot(axes.at(x, y), INK, 5)
    label = axes.at((x + tip[0]) / 2, y)
    canvas.text((label[0], label[1] + 13), "∂f/∂x", 14, BLUE, "mm", halo=WHITE)
    label = axes.at(x, (y + tip[1]) / 2)
    canvas.text((label[0] - 8, label[1]), "∂f/∂y", 14, GREEN, "rm", halo=WHITE)
    label = axes.at(*tip)
    canvas.text((label[0] + 4, label[1] - 12), "∇f", 17, RED, "mm", halo=WHITE)
    canvas.text((240, 356), "x", 14, SOFT, "mm")
    canvas.text((24, 180), "y", 14, SOFT, "mm")
    for height, words, colour, size in (
        (50, "f(x, y) = x² + 2y²", INK, 16),
        (90, "∇f = (∂f/∂x, ∂f/∂y)", RED, 16),
        (116, "     = (2x, 4y)", RED, 16),
        (160, say("at the dot (0.9, 0.6):", "在圆点 (0.9, 0.6) 处："), SOFT, 13),
        (184, f"∂f/∂x = {across:.1f}", BLUE, 15),
        (208, f"∂f/∂y = {up:.1f}", GREEN, 15),
        (252, say("Each arrow points to where", "每个箭头都指向"), SOFT, 13),
        (270, say("f grows fastest, at a right", "f 上升最快的方向，"), SOFT, 13),
        (288, say("angle to the contour line.", "并与等高线垂直。"), SOFT, 13),
        (318, say("dark = high, light = low", "颜色越深，f 越大"), SOFT, 13),
    ):
        canvas.text((460, height), words, size, colour, "lm")
    return canvas, {"parts": (float(across), float(up))}


def up_and_down(say: Say) -> tuple[Canvas, dict]:
    """From one start: minus the gradient leads to the valley, plus the gradient to the top."""

    def curve(x):
        return 1.5 * ops.sin(x) + 2

    start, rate, rounds = 0.0, 0.25, 14
    down = walk(start, rate, rounds, -1, curve)
    up = walk(start, rate, rounds, 1, curve)
    canvas = Canvas(640, 340)
    axes = Axes(canvas, (30, 30, 620, 300), (-3.4, 3.4), (0, 4.1))
    canvas.line([(30, 300), (620, 300)], SOFT, 1)
    xs = np.linspace(-3.3, 3.3, 200)
    axes.curve(xs, 1.5 * np.sin(xs) + 2, INK, 2)
    for track, colour, mark in ((down, BLUE, canvas.dot), (up, RED, canvas.square)):
        for x, y in track[1:]:
            mark(axes.at(x, y), colour, 4.5, 0)
    canvas.dot(axes.at(*down[0]), INK, 7, 1.5)
    words = say("start", "起点")
    spot = axes.at(*down[0])
    canvas.text((spot[0] + 16, spot[1] + 4), words, 14, INK, "lm")
    low, high = axes.at(*down[-1]), axes.at(*up[-1])
    canvas.text((low[0], low[1] - 148), "x ← x − α ∇f", 16, BLUE, "mm")
    canvas.text(
        (low[0], low[1] - 126),
        say("gradient descent: to the minimum", "梯度下降：走向最小值"),
        13,
        BLUE,
        "mm",
    )
    canvas.text((high[0], high[1] + 106), "x ← x + α ∇f", 16, RED, "mm")
    canvas.text(
        (high[0], high[1] + 128),
        say("gradient ascent: to the maximum", "梯度上升：走向最大值"),
        13,
        RED,
        "mm",
    )
    canvas.text(
        (325, 318),
        say("the steps get short where the slope does", "坡越缓，步子越短"),
        13,
        SOFT,
        "mm",
    )
    return canvas, {"low": float(down[-1, 1]), "high": float(up[-1, 1])}


def learning_rates(say: Say) -> tuple[Canvas, dict]:
    """x**2 + 2 with a learning rate that is too small, one that is right and one too large."""
    canvas = Canvas(700, 320)
    facts = {}
    words = (
        (0.01, 20, say("too small", "太小"), say("still at x = {:.2f}", "才走到 x = {:.2f}")),
        (0.1, 20, say("right", "合适"), say("at x = {:.2f}", "走到 x = {:.2f}")),
        (1.05, 8, say("too large", "太大"), say("out at x = {:.2f}", "反而到了 x = {:.2f}")),
    )
    after = say("after {} rounds ", "{} 轮之后")
    for column, (rate, rounds, verdict, form) in enumerate(words):
        track = walk(3.0, rate, rounds)
        facts[rate] = [float(x) for x in track[:, 0]]
        left = 20 + 230 * column
        axes = Axes(canvas, (left, 50, left + 200, 262), (-7.2, 7.2), (-4, 52))
        canvas.line([(left, 262), (left + 200, 262)], SOFT, 1)
        xs = np.linspace(-7, 7, 200)
        axes.curve(xs, xs**2 + 2, (140, 150, 160), 2)
        for here, there in pairwise(track):
            axes.curve(*zip(here, there, strict=True), RED, 1.2)
        for x, y in track[1:]:
            canvas.dot(axes.at(x, y), RED, 3.5, 0)
        start, end = axes.at(*track[0]), axes.at(*track[-1])
        canvas.dot(start, INK, 5)
        if rate < 1:
            canvas.text((start[0] + 10, start[1]), say("start", "起点"), 12, INK, "lm")
        canvas.text((left + 100, 16), f"α = {rate:g}", 17, INK, "mm")
        canvas.text((left + 100, 37), verdict, 14, RED if rate != 0.1 else GREEN, "mm")
        canvas.text(
            (left + 100, 278), after.format(rounds) + form.format(track[-1, 0]), 12, SOFT, "mm"
        )
        canvas.dot(end, INK if rate == 0.1 else RED, 4)
    canvas.text(
        (350, 304),
        say(
            "y = x² + 2, from x = 3: each round x ← x − α · 2x",
            "y = x² + 2，从 x = 3 出发：每一轮 x ← x − α · 2x",
        ),
        14,
        INK,
        "mm",
    )
    return canvas, facts


def descent(say: Say) -> tuple[Canvas, dict]:
    """x**2 + 2 from x = 6 with a learning rate of 0.1, until y is within 0.01 of 2."""
    track = walk(6.0, 0.1, 40)
    rounds = int(np.flatnonzero(track[:, 1] - 2 <= 0.01)[0]) + 1
    track = track[:rounds]
    canvas = Canvas(700, 350)
    axes = Axes(canvas, (40, 30, 350, 300), (-6.8, 6.8), (-2, 42))
    axes.frame(range(-6, 7, 2), (2, 10, 20, 30, 40))
    xs = np.linspace(-6.2, 6.2, 200)
    axes.curve(xs, xs**2 + 2, BLUE)
    for here, there in pairwise(track[:12]):
        canvas.arrow(axes.at(*here), axes.at(*there), RED, 1.5)
    for place in track:
        canvas.dot(axes.at(*place), RED, 4, 0)
    canvas.text(axes.at(-1.6, 28), "y = x² + 2", 16, BLUE, "mm")
    start = axes.at(*track[0])
    canvas.text(
        (start[0] - 10, start[1]),
        say("round 1: x = 6", "第 1 轮：x = 6"),
        13,
        RED,
        "rm",
        halo=WHITE,
    )
    second = axes.at(*track[1])
    canvas.text(
        (second[0] - 12, second[1]), say("round 2: 4.8", "第 2 轮：4.8"), 13, RED, "rm", halo=WHITE
    )
    canvas.text((195, 334), "x", 13, SOFT, "mm")

    right = Axes(canvas, (430, 30, 680, 300), (0, 21), (-3, 2))
    for power in range(-3, 3):
        _, height = right.at(0, power)
        canvas.line([(430, height), (680, height)], FAINT, 1)
        canvas.text((422, height), f"{10.0**power:g}", 12, SOFT, "rm")
    for tick in (1, 5, 10, 15, 20):
        canvas.text((right.at(tick, 0)[0], 314), str(tick), 12, SOFT, "mm")
    right.curve((0, 21), (-2, -2), GREEN, 2, 6)
    canvas.text(
        (438, right.at(0, -2)[1] + 13), say("close enough: 0.01", "足够接近：0.01"), 13, GREEN, "lm"
    )
    for number, (_, y) in enumerate(track, 1):
        canvas.dot(right.at(number, np.log10(y - 2)), RED)
    end = right.at(rounds, np.log10(track[-1, 1] - 2))
    canvas.text((end[0] + 4, end[1] + 16), say(f"round {rounds}", f"第 {rounds} 轮"), 13, RED, "rm")
    canvas.text((555, 16), say("how far y still is from 2", "y 与 2 还差多少"), 13, SOFT, "mm")
    canvas.text((555, 334), say("round", "轮数"), 13, SOFT, "mm")
    return canvas, {"rounds": rounds, "x": float(track[-1, 0]), "y": float(track[-1, 1])}


PICTURES = {
    "gradient": gradient,
    "up_and_down": up_and_down,
    "learning_rates": learning_rates,
    "descent": descent,
}
