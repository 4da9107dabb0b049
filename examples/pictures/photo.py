"""A photo of a cat that becomes a toaster, step by step; the ImageNet network is brought along."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import keras
import numpy as np
from keras import ops

import advex

from .canvas import BLUE, RED, SOFT, Axes, Canvas, Say

FOLDER: Path | None = None
TOASTER, CATS = 859, slice(281, 286)  # tabby, tiger cat, Persian, Siamese, Egyptian
LEVELS, STEPS = 2, 16
BOX = (-127 / 128, 1.0)  # EfficientNet-Lite0 takes (pixel - 127) / 128


def scaled(pixels: np.ndarray) -> np.ndarray:
    return (pixels.astype("float32") - 127) / 128


@cache
def hacked(folder: Path) -> dict:
    """The walk up the toaster's probability, a quarter of a grey level a step, two at most."""
    model = keras.models.load_model(folder / "efficientnet_lite0.keras")
    names = json.loads((folder / "imagenet_classes.json").read_text(encoding="utf-8"))
    names = [names[str(number)].split(",")[0] for number in range(1000)]
    pixels = advex.images.read(folder / "chelsea.png", size=(224, 224)).pixels[None]
    probability = ops.softmax(model.outputs[0][0])
    (gradient,) = advex.gradients(ops.log(probability[TOASTER]), model.inputs)
    run = advex.function(model.inputs, [probability, gradient])

    x0 = scaled(pixels)
    low = np.maximum(x0 - LEVELS / 128, BOX[0]).astype("float32")
    high = np.minimum(x0 + LEVELS / 128, BOX[1]).astype("float32")
    x, frames, track = x0, [], []
    for _ in range(STEPS + 1):
        likelihood, slope = run([x])
        track.append(likelihood)
        frames.append(np.round(x[0] * 128 + 127).astype("uint8"))
        x = np.clip(x + np.sign(slope) * np.float32(0.25 / 128), low, high)
    in_file, _ = run([scaled(frames[-1][None])])
    return {
        "frames": frames,
        "track": np.array(track),
        "in_file": in_file,
        "names": names,
        "changed": int(np.abs(frames[-1].astype(int) - pixels[0].astype(int)).max()),
    }


def cat_to_toaster(say: Say) -> tuple[Canvas, dict]:
    """The photo at five steps with what the network takes it for, and the probabilities between."""
    facts = hacked(FOLDER)
    track, frames, names = facts["track"], facts["frames"], facts["names"]
    chinese = {
        "Egyptian cat": "埃及猫",
        "tiger cat": "虎斑猫",
        "tabby": "虎斑猫",
        "toaster": "烤面包机",
    }
    shown, side, gap = (0, 4, 8, 12, 16), 132, 8
    canvas = Canvas(5 * side + 4 * gap + 20, 470)
    for column, step in enumerate(shown):
        left = 10 + column * (side + gap)
        canvas.paste(frames[step], (left, 30), side, smooth=True)
        top = int(track[step].argmax())
        name = say(names[top], chinese.get(names[top], names[top]))
        middle = left + side / 2
        canvas.text((middle, 15), say(f"step {step}", f"第 {step} 步"), 13, SOFT, "mm")
        colour = RED if top == TOASTER else BLUE
        canvas.text((middle, 30 + side + 15), f"{name} {track[step, top]:.1%}", 14, colour, "mm")

    cats = track[:, CATS].sum(1)
    axes = Axes(canvas, (60, 225, 440, 415), (0, STEPS), (0, 1))
    axes.frame(shown, (0, 0.25, 0.5, 0.75, 1), "{:.0%}".format)
    axes.curve(range(STEPS + 1), cats, BLUE, 3)
    axes.curve(range(STEPS + 1), track[:, TOASTER], RED, 3, 10)
    canvas.text(axes.at(1.2, 0.9), say("any cat", "各种猫"), 14, BLUE, "lm")
    canvas.text(axes.at(15.8, 0.84), say("toaster", "烤面包机"), 14, RED, "rm")
    words = say("steps, a quarter of a grey level each", "步数，每步四分之一个灰度级")
    canvas.text((250, 450), words, 13, SOFT, "mm")

    difference = frames[-1].astype(float) - frames[0].astype(float)
    canvas.paste(np.clip(128 + 40 * difference, 0, 255).astype("uint8"), (500, 225), 190)
    words = say(
        "the whole change, 40 times enlarged:\nno value moved by more than {} of 255",
        "全部改动，放大 40 倍：\n每个值最多变了 {} 级（共 255 级）",
    ).format(facts["changed"])
    for number, line in enumerate(words.split("\n")):
        canvas.text((595, 432 + 18 * number), line, 12, SOFT, "mm")
    return canvas, {**facts, "cats": cats}


PICTURES = {"cat_to_toaster": cat_to_toaster}
