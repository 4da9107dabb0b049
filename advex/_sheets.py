"""Pictures side by side, with words under them: one ``PIL.Image``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from advex import _fonts
from advex._arrays import Array

Caption = str | Sequence[tuple[str, str]]
"""Lines of text, black; or pairs of a line and its colour."""
Cell = tuple[Array | None, Caption]
"""A picture, or a gap, and what is written under it."""

FONT, LINE, GAP, BETWEEN = 12, 15, 10, 34
SIGN = 14  # pixels from a sign to what follows it
SIGNS = {  # drawn by hand, as Pillow's own font lacks them
    "\u2713": ((0, 7), (3, 10), (9, 2)),
    "\u2717": ((1, 2), (8, 10), None, (8, 2), (1, 10)),
}
TOKEN = re.compile(
    r" *(?:[\u1100-\u11ff\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\uff00-\uffef]"
    r"|[^ \u1100-\u11ff\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\uff00-\uffef]+)"
)
"""Where a line may be broken: between words, and between any letters of Chinese."""


def laid_out(
    rows: Sequence[Sequence[Cell]],
    headings: Sequence[str],
    side: int,
    across: int,
    note: str = "",
) -> Any:
    """See ``advex.images.sheet``."""
    from PIL import Image, ImageDraw

    across = max(1, min(across, len(rows)))
    columns = max([len(row) for row in rows] + [len(headings)], default=1)
    block = columns * (side + GAP) - GAP
    ruler = ImageDraw.Draw(Image.new("L", (1, 1)))

    def wrapped(caption: Caption) -> list[tuple[str, str]]:
        lines = (
            [(line, "black") for line in caption.split("\n")]
            if isinstance(caption, str)
            else caption
        )
        return [(part, colour) for line, colour in lines for part in _broken(line, side, ruler)]

    def drawn(pixels: Array) -> tuple[int, int]:
        height, width = pixels.shape[:2]
        scale = side / max(height, width)
        return max(1, round(width * scale)), max(1, round(height * scale))

    # no white above and below flat pictures
    tall = max(
        [drawn(pixels)[1] for row in rows for pixels, _ in row if pixels is not None], default=side
    )
    captions = [[wrapped(caption) for _, caption in row] for row in rows]
    titles = [wrapped(heading) for heading in headings]
    top = GAP + LINE * max(map(len, titles), default=0)
    heights = []
    for start in range(0, len(rows), across):
        part = range(start, min(start + across, len(rows)))
        # words beside pictures, in a gap, are as high as the pictures are
        lines = max(
            (
                len(words)
                for row in part
                for (pixels, _), words in zip(rows[row], captions[row], strict=True)
                if pixels is not None
            ),
            default=0,
        )
        heights.append(tall + LINE * lines + 2 * GAP)
    width = across * (block + BETWEEN) - BETWEEN + 2 * GAP
    told = _broken(note, width - 2 * GAP, ruler) if note else []
    bottom = top + sum(heights)
    canvas = Image.new("RGB", (width, bottom + LINE * len(told) + 2), "white")
    draw = ImageDraw.Draw(canvas)
    _write(draw, (GAP, bottom - GAP // 2), [(line, "black") for line in told])
    for place in range(across if titles else 0):
        for column, title in enumerate(titles):
            left = GAP + place * (block + BETWEEN) + column * (side + GAP)
            _write(draw, (left, GAP // 2), title)
    for index, row in enumerate(rows):
        upper = top + sum(heights[: index // across])
        for column, (pixels, _) in enumerate(row):
            left = GAP + (index % across) * (block + BETWEEN) + column * (side + GAP)
            if pixels is None:
                _write(draw, (left, upper), captions[index][column])
                continue
            image = Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels)
            image = image.convert("RGB")
            method = (
                Image.Resampling.NEAREST
                if side >= 2 * max(image.size)
                else Image.Resampling.BICUBIC
            )
            image = image.resize(drawn(pixels), method)
            canvas.paste(
                image, (left + (side - image.width) // 2, upper + (tall - image.height) // 2)
            )
            _write(draw, (left, upper + tall + 2), captions[index][column])
    return canvas


def _write(draw: Any, place: tuple[int, int], lines: Sequence[tuple[str, str]]) -> None:
    """Lines below each other; a sign at the beginning of one is drawn."""
    left, top = place
    for number, (line, colour) in enumerate(lines):
        x, y = left, top + LINE * number
        if line[:1] in SIGNS:
            points: list[tuple[int, int]] = []
            for point in (*SIGNS[line[0]], None):
                if point is None:
                    draw.line(points, fill=colour, width=2)
                    points = []
                else:
                    points.append((x + point[0], y + 1 + point[1]))
            x, line = x + SIGN, line[1:].lstrip()
        text, font = _fonts.legible(line, FONT)
        base = y + _fonts.legible("", FONT)[1].getmetrics()[0]  # one line for every font
        draw.text((x, base), text, fill=colour, font=font, anchor="ls")


def _length(line: str, draw: Any) -> float:
    sign = SIGN if line[:1] in SIGNS else 0
    text, font = _fonts.legible(line[1:].lstrip() if sign else line, FONT)
    return float(sign + draw.textlength(text, font=font))


def _broken(line: str, width: int, draw: Any) -> list[str]:
    """The line in pieces that fit the width, two at most, the last one cut if it must be."""

    def fits(words: str) -> bool:
        return _length(words, draw) <= width

    words = TOKEN.findall(line.replace("_", " ")) if not fits(line) else [line]
    pieces = [words[0] if words else ""]
    for word in words[1:]:
        if len(pieces) < 2 and not fits(pieces[-1] + word):
            pieces.append(word.lstrip())
        else:
            pieces[-1] += word
    for number, piece in enumerate(pieces):
        while len(piece) > 1 and not fits(pieces[number]):
            piece = piece[:-1]
            pieces[number] = f"{piece}…"
    return pieces
