"""A sheet to draw on with Pillow, axes in which x and y are data, and colours that survive grey."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import advex

from .fonts import font_for

Point = tuple[float, float]
Colour = tuple[int, int, int]
Say = Callable[[str, str], str]
"""Chooses between the English words and the Chinese ones."""

INK, SOFT, FAINT, WHITE = (34, 40, 49), (90, 98, 109), (221, 225, 230), (255, 255, 255)
# Blue and vermilion of Okabe and Ito: everybody tells them apart, and so does a grey printer.
BLUE, RED, GREEN, GOLD = (0, 90, 156), (200, 70, 0), (0, 120, 88), (176, 110, 0)
LIGHT_BLUE, LIGHT_RED = (226, 238, 249), (250, 190, 140)
FINE = 3  # drawn so many times larger, then made smaller: smooth edges


class Canvas:
    """A white picture with a coordinate system, drawn large and made smaller at the end."""

    def __init__(self, width: int, height: int) -> None:
        self.size = (width, height)
        self.image = Image.new("RGB", (width * FINE, height * FINE), "white")
        self.pen = ImageDraw.Draw(self.image)

    def text(
        self,
        at: Point,
        words: str,
        size: int = 13,
        colour: Colour = INK,
        anchor: str = "lm",
        halo: Colour | None = None,
    ) -> None:
        font = font_for(words, size * FINE)
        stroke = {"stroke_width": 3 * FINE, "stroke_fill": halo} if halo else {}
        place = (at[0] * FINE, at[1] * FINE)
        self.pen.text(place, words, fill=colour, font=font, anchor=anchor, **stroke)

    def aside(self, at: Point, words: str, size: int = 13, colour: Colour = SOFT) -> None:
        """Words that are read from below to above, around a point."""
        font = font_for(words, size * FINE)
        left, top, right, bottom = font.getbbox(words)
        strip = Image.new("RGB", (right - left + 12, bottom - top + 12), "white")
        ImageDraw.Draw(strip).text((6 - left, 6 - top), words, fill=colour, font=font)
        strip = strip.rotate(90, expand=True)
        corner = (at[0] * FINE - strip.width / 2, at[1] * FINE - strip.height / 2)
        self.image.paste(strip, (round(corner[0]), round(corner[1])))

    def line(
        self,
        points: Sequence[Point],
        colour: Colour = INK,
        width: float = 1.5,
        dash: float = 0,
    ) -> None:
        path = np.asarray(points, float) * FINE
        pieces = [path]
        if dash:
            lengths = np.hypot(*np.diff(path, axis=0).T)
            along = np.concatenate([[0], np.cumsum(lengths)])
            cuts = np.arange(0, along[-1], dash * FINE)
            ends = np.minimum(cuts + dash * FINE * 0.6, along[-1])
            pieces = []
            for start, end in zip(cuts, ends, strict=True):
                inside = (along > start) & (along < end)
                where = np.concatenate([[start], along[inside], [end]])
                pieces.append(
                    np.stack([np.interp(where, along, path[:, axis]) for axis in (0, 1)], 1)
                )
        for piece in pieces:
            points_of_it = [(float(x), float(y)) for x, y in piece]
            self.pen.line(points_of_it, fill=colour, width=round(width * FINE), joint="curve")

    def dot(self, at: Point, colour: Colour = INK, radius: float = 4, edge: float = 1) -> None:
        x, y = at
        box = [(x - radius) * FINE, (y - radius) * FINE, (x + radius) * FINE, (y + radius) * FINE]
        self.pen.ellipse(box, fill=colour, outline="white", width=round(edge * FINE))

    def square(self, at: Point, colour: Colour = INK, radius: float = 4, edge: float = 1) -> None:
        x, y = at
        box = [(x - radius) * FINE, (y - radius) * FINE, (x + radius) * FINE, (y + radius) * FINE]
        self.pen.rectangle(box, fill=colour, outline="white", width=round(edge * FINE))

    def polygon(self, points: Sequence[Point], colour: Colour, edge: Colour | None = None) -> None:
        corners = [(x * FINE, y * FINE) for x, y in points]
        self.pen.polygon(corners, fill=colour, outline=edge)

    def rectangle(
        self, box: Sequence[float], colour: Colour = INK, width: float = 1.5, dash: float = 0
    ) -> None:
        left, top, right, bottom = box
        self.line(
            [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)],
            colour,
            width,
            dash,
        )

    def arrow(self, start: Point, end: Point, colour: Colour = INK, width: float = 2) -> None:
        (x0, y0), (x1, y1) = start, end
        length = max(np.hypot(x1 - x0, y1 - y0), 1e-9)
        ux, uy = (x1 - x0) / length, (y1 - y0) / length
        head = min(5 + 2 * width, length * 0.6)
        self.line([start, (x1 - head * 0.7 * ux, y1 - head * 0.7 * uy)], colour, width)
        tip = [(x1, y1)] + [
            (x1 - head * ux + s * head * 0.45 * uy, y1 - head * uy - s * head * 0.45 * ux)
            for s in (1, -1)
        ]
        self.polygon(tip, colour)

    def paste(self, pixels: np.ndarray, at: Point, side: int, smooth: bool = False) -> None:
        method = Image.Resampling.BICUBIC if smooth else Image.Resampling.NEAREST
        image = advex.images.picture(pixels).convert("RGB")
        self.raster(image.resize((side * FINE, side * FINE), method), at)

    def raster(self, image: Image.Image, at: Point) -> None:
        """An image that is as fine as the canvas already."""
        self.image.paste(image, (round(at[0] * FINE), round(at[1] * FINE)))

    def save(self, path: Path, colours: int = 255) -> None:
        small = self.image.resize(self.size, Image.Resampling.LANCZOS)
        if colours:
            small = small.quantize(
                colours, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE
            )
        small.save(path, optimize=True)
        print(f"{path}: {path.stat().st_size:,} bytes")


class Axes:
    """A rectangle of a canvas in which x and y are data."""

    def __init__(self, canvas: Canvas, box: tuple[int, int, int, int], x: Point, y: Point) -> None:
        self.canvas, self.box, self.x, self.y = canvas, box, x, y

    def at(self, x: float, y: float) -> Point:
        left, top, right, bottom = self.box
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
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
        self,
        xs: Sequence[float],
        ys: Sequence[float],
        colour: Colour,
        width: float = 2.5,
        dash: float = 0,
    ) -> None:
        points = [self.at(x, y) for x, y in zip(xs, ys, strict=True)]
        self.canvas.line(points, colour, width, dash)

    def arrow(self, start: Point, end: Point, colour: Colour = INK, width: float = 2) -> None:
        self.canvas.arrow(self.at(*start), self.at(*end), colour, width)

    def fill(self, image: np.ndarray) -> None:
        """Colours, first row on top, stretched over the axes."""
        left, top, right, bottom = self.box
        size = ((right - left) * FINE, (bottom - top) * FINE)
        picture = Image.fromarray(image).resize(size, Image.Resampling.NEAREST)
        self.canvas.raster(picture, (left, top))

    def grid(self) -> tuple[np.ndarray, np.ndarray]:
        """x and y of each fine pixel of the axes."""
        left, top, right, bottom = self.box
        xs = np.linspace(*self.x, (right - left) * FINE)
        ys = np.linspace(*self.y[::-1], (bottom - top) * FINE)
        return np.meshgrid(xs, ys)


def regions(seen: np.ndarray, colours: Sequence[Colour], edge: float = 2.5) -> np.ndarray:
    """One colour for each class, with a dark line where two classes meet."""
    image = np.asarray(colours, "uint8")[seen]
    border = np.zeros(seen.shape, bool)
    border[:, 1:] |= seen[:, 1:] != seen[:, :-1]
    border[1:] |= seen[1:] != seen[:-1]
    reach = round(edge * FINE / 2)
    wide = border.copy()
    for down in range(-reach, reach + 1):
        for right in range(-reach, reach + 1):
            if down**2 + right**2 <= reach**2:
                wide |= np.roll(border, (down, right), (0, 1)) & ~_rim(seen.shape, reach)
    image[wide] = INK
    return image


def _rim(shape: tuple[int, int], width: int) -> np.ndarray:
    rim = np.ones(shape, bool)
    rim[width:-width, width:-width] = False
    return rim


def shades(values: np.ndarray, low: float = 0, high: float = 1) -> np.ndarray:
    """From pale to dark blue, as dark in grey as in colour."""
    stops = np.array(
        [(247, 251, 255), (198, 219, 239), (107, 174, 214), (33, 113, 181), (8, 48, 107)]
    )
    share = np.clip((values - low) / (high - low), 0, 1) * (len(stops) - 1)
    place = np.arange(len(stops))
    channels = [np.interp(share, place, stops[:, channel]) for channel in range(3)]
    return np.stack(channels, -1).round().astype("uint8")
