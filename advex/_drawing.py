"""A result as pictures: what was chosen of it, as one image and as a page of figures."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from advex import images
from advex._arrays import Array
from advex._sheets import BETWEEN, GAP
from advex.budgets import L0, Budget, Linf

ROWS = 8  # of a result that are drawn unasked
PHOTO, ALONE = 160, 224  # pixels: what has a side of so many is drawn at that size, or alone larger
# pixels: the longer side of what is drawn; the shorter one at least; the longer at most
SIDE, SHORTER, LONGEST = 112, 28, 448
NARROWER = 84  # on a page: three rows beside each other in a window of 1,000 pixels
WIDEST = 1160  # pixels that rows side by side may take
HEAVY = 48_000  # bytes of a PNG above which a page shows a picture as JPEG
RED, GREY = "#d6293e", "#767676"  # both readable on white and on black
FOOLED, NOT = "✓", "✗"
ATTEMPT = "last attempt"  # the title of a picture that is no success


@dataclass(frozen=True)
class Panel:
    """One picture of a row: what it is, its pixels, and a line or two about it."""

    title: str
    pixels: Array
    caption: str = ""


@dataclass(frozen=True)
class Drawn:
    """One row of a result, ready to be drawn."""

    row: int
    panels: tuple[Panel, ...]
    before: str
    """What the model said about the original; empty where the panels say it."""
    after: str
    status: str
    moved: str
    """How far it was moved, such as "Linf 8/255"; empty where it was not."""

    @property
    def broken(self) -> bool:
        return self.status == "broken"

    def fate(self, targeted: bool) -> str:
        """What became of it, behind a sign."""
        if self.status == "clean":
            return "at the target before" if targeted else "wrong before"
        same = self.before and _class_of(self.before) == _class_of(self.after)
        words = {"held": "not fooled", "invalid": "not fooled, NaN"}
        # a demanded probability of a class that the model has said before
        words["broken"] = "goal reached" if same else "fooled"
        told = words.get(self.status, f"not fooled, {self.status}")
        return f"{FOOLED if self.broken else NOT} {told}"


def _class_of(said: str) -> str:
    """The first line of what the model says; how sure it is comes below."""
    return said.partition("\n")[0]


def chosen(status: Array, before: Array | None, limit: int) -> list[int]:
    """Which rows are drawn unasked: those that were broken, one of each class first; a quarter are
    those that held, where there are any; the others where there is room left.

    Example:
        >>> chosen(np.array(["held", "broken", "clean", "broken"]), np.array([0, 1, 1, 1]), 2)
        [1, 3]
    """
    broken = np.flatnonzero(status == "broken").tolist()
    if before is not None:
        first = {kind: row for row, kind in reversed([(row, int(before[row])) for row in broken])}
        broken.sort(key=lambda row: row not in first.values())
    held = np.flatnonzero(~np.isin(status, ["broken", "clean"])).tolist()
    clean = np.flatnonzero(status == "clean").tolist()
    kept = held[: limit // 4]
    some = sorted(broken[: limit - len(kept)])
    rest = held[len(kept) :] + clean
    return (some + kept + rest)[:limit]


def moved(budget: Budget, distance: float) -> str:
    """How far, in the budget's norm.

    Example:
        >>> moved(Linf(0.1), 8 / 255), moved(L0(5), 3.0)
        ('Linf 8/255', 'L0 3')
    """
    if not math.isfinite(distance) or distance == 0:
        return ""
    if isinstance(budget, Linf):
        levels = distance * 255
        near = abs(levels - round(levels)) < 1e-3
        return f"Linf {round(levels) if near else f'{levels:.3g}'}/255"
    return (
        f"{type(budget).__name__} {distance:.0f}"
        if isinstance(budget, L0)
        else (f"{type(budget).__name__} {distance:.3g}")
    )


def difference(change: Array) -> Array:
    """A change in grey levels, ten times enlarged, on middle grey."""
    return np.clip(128 + 10 * change, 0, 255).astype("uint8")


def _side(rows: Sequence[Drawn], small: int) -> int:
    """The longer side of each picture. The shorter one is to be seen as well: strips are drawn
    larger.
    """
    sizes = [panel.pixels.shape[:2] for row in rows for panel in row.panels]
    height, width = np.max(sizes or [(1, 1)], axis=0)
    photo = ALONE if len(rows) < 3 else PHOTO
    usual = photo if max(height, width) >= PHOTO else small
    return int(np.clip(SHORTER * max(height, width) / min(height, width), usual, LONGEST))


def sheet(rows: Sequence[Drawn], titles: Sequence[str], many: int, targeted: bool) -> Any:
    """All rows as one ``PIL.Image``, as many side by side as find room; how many of ``many`` they
    are stands below.
    """
    lines = []
    for row in rows:
        captions: list[list[tuple[str, str]]] = [_lines(panel.caption) for panel in row.panels]
        if row.before or row.after:
            captions[0] = _lines(row.before)
            said = _lines(row.after, RED if row.broken else "black")
            captions[1] = [(ATTEMPT, GREY)] if row.panels[1].title == ATTEMPT else said
        fate = (row.fate(targeted), RED if row.broken else "black")
        captions[-1] = [fate, (row.moved or f"row {row.row}", GREY)]
        lines.append(
            [(panel.pixels, words) for panel, words in zip(row.panels, captions, strict=True)]
        )
    side = _side(rows, SIDE)
    block = len(titles) * (side + GAP) - GAP
    fit = max(1, (WIDEST - 2 * GAP + BETWEEN) // (block + BETWEEN))
    across = math.ceil(len(rows) / math.ceil(len(rows) / fit)) if rows else 1
    note = f"{len(rows)} of {many} rows" if len(rows) < many else ""
    return images.sheet(lines, titles, side=side, across=across, note=note)


def _lines(text: str, colour: str = "black") -> list[tuple[str, str]]:
    return [(line, colour) for line in text.split("\n")]


def page(rows: Sequence[Drawn], many: int, targeted: bool) -> str:
    """All rows as figures in a grid that fills the width; their captions are text."""
    side = _side(rows, NARROWER)
    panels = max(len(row.panels) for row in rows)
    wide = panels * (side + 4) - 4
    figures = "".join(_figure(row, side, wide, targeted) for row in rows)
    note = "Differences are amplified 10\u00d7 and drawn on middle grey."
    if len(rows) < many:
        note = (
            f"{len(rows)} of {many} rows. <code>result.show(range({many}))</code> draws them all."
            f" {note}"
        )
    return (
        '<div style="display:grid;gap:14px 22px;justify-content:start;'
        f'grid-template-columns:repeat(auto-fill,minmax({wide}px,max-content))">{figures}</div>'
        f'<p style="color:{GREY};margin:10px 0 0"><small>{note}</small></p>'
    )


def _figure(row: Drawn, side: int, wide: int, targeted: bool) -> str:
    pictures = "".join(_picture(panel, side) for panel in row.panels)
    before, after = (_flat(text) for text in (row.before, row.after))
    told = before
    if row.broken and after:
        told = f'{before} \u2192 <b style="color:{RED}">{after}</b>'
    fate, tried = _fate(row, targeted), any(panel.title == ATTEMPT for panel in row.panels)
    words = [part for part in (fate, ATTEMPT if tried else html.escape(row.moved)) if part]
    named = [
        f"{html.escape(panel.title)}: {_flat(panel.caption)}"
        for panel in row.panels
        if panel.caption
    ]
    second = " \u00b7 ".join([*words, *named, f"row {row.row}"])
    return (
        f'<figure style="margin:0;width:{wide}px">'
        f'<div style="display:flex;gap:4px;align-items:flex-start">{pictures}</div>'
        f'<figcaption style="font-size:13px;line-height:1.35">{told}{"<br>" if told else ""}'
        f"<small>{second}</small></figcaption></figure>"
    )


def _fate(row: Drawn, targeted: bool) -> str:
    text = html.escape(row.fate(targeted))
    return f'<span style="color:{RED}">{text}</span>' if row.broken else text


def _flat(text: str) -> str:
    return html.escape(" ".join(text.split("\n")).strip())


def _picture(panel: Panel, side: int) -> str:
    height, width = panel.pixels.shape[:2]
    scale = side / max(height, width)
    size = f'width="{max(1, round(width * scale))}" height="{max(1, round(height * scale))}"'
    look = "pixelated" if scale >= 2 else "auto"
    told = html.escape(panel.title, quote=True)
    return (
        f'<img alt="{told}" title="{told}" {size} style="image-rendering:{look};margin:0"'
        f' src="{_uri(panel.pixels, 2 * side)}">'
    )


def _uri(pixels: Array, largest: int) -> str:
    """A picture in the page itself: as PNG; as JPEG where that is much smaller."""
    made = images.picture(pixels)
    if max(made.size) > largest:
        made.thumbnail((largest, largest))
    kind, buffer = "png", io.BytesIO()
    made.save(buffer, format="PNG", optimize=True)
    if buffer.tell() > HEAVY:
        kind, buffer = "jpeg", io.BytesIO()
        made.save(buffer, format="JPEG", quality=90)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
