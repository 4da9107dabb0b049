"""The four images of the README's banner, and the four norms."""

from __future__ import annotations

import numpy as np

import advex

from .canvas import BLUE, INK, RED, SOFT, Canvas, Say
from .network import load, names_in

BALL = (141, 180, 226)


def banner(say: Say) -> tuple[Canvas, dict]:
    """Original + a little = adversarial, for four images that PGD fools with the smallest of a few
    budgets.
    """
    model, images, labels, _ = load()
    names = names_in(say)
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
        (
            say("what it\nwas", "原图"),
            say("difference\nten times", "改动\n放大十倍"),
            say("what it is\ntaken for", "加上改动\n之后"),
        ),
        strict=True,
    ):
        for line, word in enumerate(words.split("\n")):
            canvas.text((left - 14, top + side / 2 - 9 + 18 * line), word, 13, SOFT, "rm")
    for column, (_, (result, row)) in enumerate(shown):
        x = left + column * (side + gap)
        middle = x + side / 2
        changed = result.perturbation[row].astype("float64")
        difference = np.clip(128 + 10 * changed, 0, 255).astype("uint8")
        for top, pixels in zip(tops, (images[row], difference, result.x[row]), strict=True):
            canvas.paste(pixels, (x, top), side)
        canvas.text(
            (middle, 16),
            say("{} of 255 grey levels", "{} 级灰度（共 255 级）").format(
                round(np.abs(changed).max())
            ),
            12,
            SOFT,
            "mm",
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
    return canvas, {"rows": [row for _, (_, row) in shown]}


def budgets(say: Say) -> tuple[Canvas, dict]:
    """The four balls in two dimensions, and one image broken within each."""
    model, images, labels, _ = load()
    names = names_in(say)
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
            ball[..., None], np.array(BALL, "uint8"), np.array((245, 246, 248), "uint8")
        )
        canvas.paste(colours, (x, 30), side, smooth=True)
        canvas.dot((x + side / 2, 30 + side / 2), INK, 4)
        words = (
            say("every element a little", "每个元素改一点"),
            say("short in a straight line", "直线距离短"),
            say("small in sum", "改动总和小"),
            say("a few elements, freely", "只改几个元素，幅度不限"),
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
            seen if fooled else say("not fooled", "没有骗过"),
            13,
            RED if fooled else BLUE,
            "mm",
        )
    return canvas, {"row": row, "broken": broken.max()}


PICTURES = {"banner": banner, "budgets": budgets}
