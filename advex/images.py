"""Pictures in and out: files are read carefully, written whole or not at all, and laid out in grids, by Pillow."""

from __future__ import annotations

import contextlib
import os
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from advex._arrays import Array
from advex.errors import ImageError, InvalidInput

LARGEST = 64_000_000  # pixels; more is taken for a decompression bomb


@dataclass(frozen=True)
class Picture:
    """An image file that could be read: its pixels (height, width, channels) uint8, and what had to be done to it."""

    path: Path
    pixels: Array
    notes: tuple[str, ...] = ()


def read(path: str | Path, *, channels: int = 3, size: tuple[int, int] | None = None) -> Picture:
    """Read one image file as 8-bit pixels.

    The picture is turned upright as its EXIF data say; transparency is laid on white; palettes, CMYK and 16-bit greys are
    converted; of an animation the first frame is taken. Whatever was done is in ``notes``.

    Args:
        path: a file that Pillow can read.
        channels: 3 for colour, 1 for grey.
        size: (height, width): a picture of another size is cropped to its central square (or the largest central part of the
            wanted shape) and resized, bicubic.

    Returns:
        A ``Picture``.

    Raises:
        ImageError: the file is missing, empty, broken, too large, or not an image.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    path = Path(path)
    if channels not in (1, 3):
        raise InvalidInput(f"channels must be 1 or 3; received {channels}")
    notes: list[str] = []
    try:
        if path.stat().st_size == 0:
            raise ImageError(f"{path}: the file is empty")
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as opened:
                if opened.width * opened.height > LARGEST:
                    raise ImageError(f"{path}: {opened.width} x {opened.height} pixels are more than {LARGEST:,}")
                if getattr(opened, "n_frames", 1) > 1:
                    notes.append("first frame of an animation")
                if opened.format and path.suffix.lower() not in _suffixes(opened.format):
                    notes.append(f"is a {opened.format} file, whatever its name says")
                opened.load()
                image: Any = ImageOps.exif_transpose(opened)
                if image.size != opened.size or image.tobytes() != opened.tobytes():
                    notes.append("turned upright")
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise ImageError(f"{path}: is a folder") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageError(f"{path}: too many pixels (a decompression bomb?)") from None
    except UnidentifiedImageError:
        raise ImageError(f"{path}: not an image that Pillow knows") from None
    except Exception as problem:  # Pillow's decoders raise whatever they like on a broken file
        raise ImageError(f"{path}: broken image ({type(problem).__name__}: {problem})") from None

    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, "float64")
        image = Image.fromarray(np.clip(np.round(values / 257 if values.max() > 255 else values), 0, 255).astype("uint8"))
        notes.append("16-bit grey cut to 8 bits")
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        notes.append("transparency laid on white")
    wanted = "RGB" if channels == 3 else "L"
    if image.mode != wanted:
        if image.mode not in ("RGBA", "L", "1"):
            notes.append(f"converted from {image.mode}")
        image = image.convert(wanted)
    if size is not None and (image.height, image.width) != size:
        notes.append(f"resized from {image.width} x {image.height}")
        image = ImageOps.fit(image, (size[1], size[0]), method=Image.Resampling.BICUBIC)
    pixels = np.array(image, "uint8")
    return Picture(path, pixels if pixels.ndim == 3 else pixels[..., None], tuple(notes))


def _suffixes(kind: str) -> set[str]:
    from PIL import Image

    found = {suffix for suffix, name in Image.registered_extensions().items() if name == kind}
    return found | {".jpg", ".jpeg"} if kind in ("JPEG", "MPO") else found


def picture(pixels: Array) -> Any:
    """A ``PIL.Image`` of (height, width), (height, width, 1) or (height, width, 3) uint8."""
    from PIL import Image

    return Image.fromarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[-1] == 1 else pixels)


def write(path: Path, pixels: Array, *, overwrite: bool = False) -> None:
    """Write a PNG under a temporary name, flush it to the disk, and give it its name: the file is whole or absent.

    Raises:
        InvalidInput: the file exists and ``overwrite`` is False.
        OSError: it cannot be written.
    """
    with replacing(path, overwrite=overwrite) as handle:
        picture(pixels).save(handle, format="PNG")


@contextlib.contextmanager
def replacing(path: Path, *, overwrite: bool) -> Any:
    """A binary file that takes the name ``path`` when the block ends well, and is gone when it does not."""
    if not overwrite and os.path.lexists(path):
        raise InvalidInput(f"{path} exists; pass overwrite=True to replace it")
    descriptor, temporary = tempfile.mkstemp(prefix=".advex-", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def is_image(x: Array) -> bool:
    """Whether ``x`` (n, ...) is a batch of grey or colour pictures."""
    return x.ndim == 3 or (x.ndim == 4 and x.shape[-1] in (1, 3))


def sheet(rows: Sequence[Sequence[tuple[Array, str]]], headings: Sequence[str] = (), side: int = 112) -> Any:
    """A ``PIL.Image``: rows of pictures with a caption under each and headings above the columns.

    Args:
        rows: each a list of (pixels uint8, caption).
        headings: one per column, or none.
        side: length of the longer side of each picture, in pixels; small ones are enlarged without smoothing.
    """
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(size=12)
    columns = max((len(row) for row in rows), default=1)
    text, gap, top = 34, 10, 22 if headings else 6
    width = columns * (side + gap) + gap
    canvas = Image.new("RGB", (width, top + len(rows) * (side + text + gap) + 2), "white")
    draw = ImageDraw.Draw(canvas)
    for column, heading in enumerate(headings):
        draw.text((gap + column * (side + gap), 5), heading, fill="black", font=font)
    for line, row in enumerate(rows):
        for column, (pixels, caption) in enumerate(row):
            image = picture(pixels).convert("RGB")
            scale = side / max(image.size)
            method = Image.Resampling.NEAREST if scale >= 2 else Image.Resampling.BICUBIC
            image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))), method)
            left, upper = gap + column * (side + gap), top + line * (side + text + gap)
            canvas.paste(image, (left + (side - image.width) // 2, upper + (side - image.height) // 2))
            for number, words in enumerate(_lines(caption, side, draw, font)):
                draw.text((left, upper + side + 2 + 15 * number), words, fill="black", font=font)
    return canvas


def _lines(caption: str, width: int, draw: Any, font: Any) -> list[str]:
    """The caption's lines, each cut to the width."""
    fitted = []
    for line in caption.split("\n"):
        words = line
        while words and draw.textlength(words, font=font) > width:
            words = words[:-1]
        fitted.append(words if words == line else words[:-1] + "…")
    return fitted
