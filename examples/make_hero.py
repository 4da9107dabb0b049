"""The picture at the top of README.md: a photo of a cat, a change, a toaster.

    python examples/make_hero.py --network ../shared/imagenet/efficientnet_lite0.keras \\
        --names ../shared/imagenet/imagenet_classes.json --photo ../shared/imagenet/chelsea.png
    python examples/make_hero.py ... --language zh --font NotoSansCJK-Regular.ttc

The network is EfficientNet-Lite0 (Apache-2.0), the photo Chelsea of scikit-image (CC0). Neither is
part of advex. The pixels shown are those of the 8-bit image that was judged, enlarged.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

import advex

SIZE = 224  # of the network's input, in pixels
BOX = (-127 / 128, 1.0)  # (pixel - 127) / 128
TOASTER = 859
TIMES = 20  # the change is shown so many times larger

PANEL, GAP, EDGE, FOOT = 352, 56, 24, 104
INK, SOFT, RED = (28, 32, 40), (96, 104, 116), (190, 44, 34)

WORDS = {
    "en": {
        "change": f"the change, {TIMES} times larger",
        "most": "no pixel moved by more than {levels} of 255 grey levels",
        "sure": "{name}, {share:.0%}",
        "photo": "a photo",
        "same": "the same photo to you",
    },
    "zh": {
        "change": f"改动，放大 {TIMES} 倍",
        "most": "每个像素最多改变 {levels} 个灰度级（共 255 级）",
        "sure": "{name}，{share:.0%}",
        "photo": "原图",
        "same": "人眼看不出区别",
        "Egyptian cat": "埃及猫",
        "toaster": "烤面包机",
    },
}


def attacked(network: Path, names: Path, photo: Path, levels: int) -> advex.Result:
    """The photo, cropped as the network wants it, and the toaster that is made of it."""
    table = json.loads(names.read_text(encoding="utf-8"))
    classes = [table[str(number)].split(",")[0] for number in range(len(table))]
    model = advex.Classifier(keras.models.load_model(network), box=BOX, classes=classes)
    with Image.open(photo) as file:
        picture = ImageOps.fit(file.convert("RGB"), (SIZE, SIZE), Image.Resampling.BICUBIC)
    goal = advex.Targeted(TOASTER, confidence=0.98)
    return advex.fine()(model, np.asarray(picture)[None], goal, advex.Linf(levels / 255))


def drawn(result: advex.Result, levels: int, language: str, font: Path | None) -> Image.Image:
    """Three panels, their captions, and what was allowed."""
    words = WORDS[language]
    before, after = result.original[0].astype(int), result.x[0].astype(int)
    names = result.classifier.names
    captions = [
        (caption(words, names[result.before[0]], result.before_confidence[0]), INK),
        (words["change"], INK),
        (caption(words, names[result.prediction[0]], result.confidence[0]), RED),
    ]
    notes = [words["photo"], words["most"].format(levels=levels), words["same"]]
    images = [before, np.clip(127 + TIMES * (after - before), 0, 255), after]

    width, height = 3 * PANEL + 2 * GAP + 2 * EDGE, PANEL + FOOT + EDGE
    canvas = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(canvas)
    large, small, sign = (letters(size, font) for size in (30, 17, 48))
    for place, (pixels, (text, colour), note) in enumerate(
        zip(images, captions, notes, strict=True)
    ):
        left = EDGE + place * (PANEL + GAP)
        panel = Image.fromarray(pixels.astype("uint8"))
        canvas.paste(panel.resize((PANEL, PANEL), Image.Resampling.BICUBIC), (left, EDGE))
        middle = left + PANEL // 2
        pen.text((middle, EDGE + PANEL + 32), text, fill=colour, font=large, anchor="mm")
        pen.text((middle, EDGE + PANEL + 68), note, fill=SOFT, font=small, anchor="mm")
        if place:
            between = (left - GAP // 2, EDGE + PANEL // 2)
            pen.text(between, "+="[place - 1], fill=SOFT, font=sign, anchor="mm")
    return canvas


def caption(words: dict[str, str], name: str, share: float) -> str:
    return words["sure"].format(name=words.get(name, name), share=float(share))


def letters(size: int, font: Path | None) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(font, size) if font else ImageFont.load_default(size=size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", type=Path, required=True, help="EfficientNet-Lite0, .keras")
    parser.add_argument("--names", type=Path, required=True, help="its class names, .json")
    parser.add_argument("--photo", type=Path, required=True)
    parser.add_argument("--levels", type=int, default=2, help="grey levels a pixel may move (2)")
    parser.add_argument("--language", choices=sorted(WORDS), default="en")
    parser.add_argument("--font", type=Path, help="a font with the letters of the language")
    parser.add_argument("--out", type=Path, default=Path("docs/pictures/hero.png"))
    given = parser.parse_args()

    result = attacked(given.network, given.names, given.photo, given.levels)
    print(result)
    if not result.success[0]:
        raise SystemExit("no toaster within this budget: allow more --levels")
    drawn(result, given.levels, given.language, given.font).save(given.out, optimize=True)
    print(f"Look at {given.out}")


if __name__ == "__main__":
    main()
