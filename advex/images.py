"""Pictures in and out: files are read carefully, written whole or not at all, and laid out in
grids, by Pillow.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import secrets
import stat
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from advex._arrays import Array
from advex._others import face
from advex._sheets import Cell, laid_out
from advex.errors import ImageError, InvalidInput

__all__ = ["Picture", "coloured", "read", "save", "sheet", "write"]

LARGEST = 64_000_000  # pixels; more is taken for a decompression bomb

SMALL, THIN, THINNEST = 8, 4, 50
"""Sides below 8 pixels, and sides more than 4 or 50 times as long as the other, speak against a
picture: see ``is_image``.
"""

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "QOI", "TIFF", "WEBP")
"""What is read. Pillow knows more, but some of those start other programs (EPS) or take any file
for theirs (TGA).
"""

GREY = ("1", "L", "I", "I;16", "I;16L", "I;16B", "I;16N")

UPRIGHT = {  # the EXIF orientation -> what undoes it
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}


@dataclass(frozen=True)
class Picture:
    """An image file that could be read: what `read` returns.

    Attributes:
        path: the file.
        pixels: (height, width, channels), uint8.
        notes: what had to be done to it, in sentences.
    """

    path: Path
    pixels: Array
    notes: tuple[str, ...] = ()


def encodable(name: str) -> bool:
    """Whether a file can be called so: no half of a surrogate pair, which no file system knows."""
    try:
        os.fsencode(name)
    except UnicodeError:
        return False
    return True


def read(path: str | Path, *, channels: int = 3, size: tuple[int, int] | None = None) -> Picture:
    """Read one image file as 8-bit pixels.

    The picture is turned upright as its EXIF data say; transparency is laid on white; palettes,
    CMYK and 16-bit values are converted; of an animation the first frame is taken; colour profiles
    and gammas are not applied. Whatever was done, and what the file says and was not done, is in
    ``notes``.

    Args:
        path: a file in one of ``FORMATS``, whatever its name.
        channels: 3 for colour, 1 for grey.
        size: (height, width): a picture of another size is cropped to its central square (or the
            largest central part of the wanted shape) and resized, bicubic.

    Returns:
        A ``Picture``.

    Raises:
        ImageError: the file is missing, empty, broken, too large, or not an image.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write(Path(folder, "grey.png"), np.zeros((4, 6), "uint8"))
        ...     read(Path(folder, "grey.png"), size=(2, 2)).notes
        ('cropped from 6 x 4 to the central 4 x 4 and resized to 2 x 2',)
    """
    from PIL import Image, UnidentifiedImageError

    path = Path(path)
    if channels not in (1, 3):
        raise InvalidInput(f"channels must be 1 or 3; received {channels}")
    notes: list[str] = []
    try:
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise ImageError(f"{path}: is a folder")
        if not stat.S_ISREG(found.st_mode):
            raise ImageError(f"{path}: not a regular file")
        if found.st_size == 0:
            raise ImageError(f"{path}: the file is empty")
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            pixels = _decoded(path, channels, size, notes)
        # Pillow's own limit is above LARGEST, so that its warning says nothing new.
        others = (
            entry.message
            for entry in said
            if not issubclass(entry.category, Image.DecompressionBombWarning)
        )
        notes += dict.fromkeys(f"Pillow: {message}" for message in others)
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file") from None
    except Image.DecompressionBombError:
        raise ImageError(f"{path}: too many pixels (a decompression bomb?)") from None
    except UnidentifiedImageError:
        raise ImageError(
            f"{path}: not an image in a format that is read ({', '.join(FORMATS)})"
        ) from None
    except Exception as problem:  # Pillow's decoders raise whatever they like on a broken file
        raise ImageError(f"{path}: broken image ({type(problem).__name__}: {problem})") from None
    return Picture(path, pixels, tuple(notes))


def _decoded(path: Path, channels: int, size: tuple[int, int] | None, notes: list[str]) -> Array:
    """The pixels of a file, (height, width, channels) uint8; ``notes`` is added to."""
    from PIL import Image

    Image.init()
    with Image.open(path, formats=[name for name in FORMATS if name in Image.OPEN]) as opened:
        if opened.width * opened.height > LARGEST:
            raise ImageError(
                f"{path}: {opened.width} x {opened.height} pixels are more than {LARGEST:,} (a"
                f" decompression bomb?)"
            )
        if path.suffix and path.suffix.lower() not in suffixes(opened.format):
            notes.append(f"is a {opened.format} file, whatever its name says")
        if getattr(opened, "is_animated", False):
            notes.append("first of several frames")
        deep = any(";16" in str(tile[-1]) for tile in opened.tile)
        opened.load()
        notes += _unapplied(opened)
        image, kind = opened.copy(), opened.format
        try:
            turn = UPRIGHT.get(opened.getexif().get(0x0112, 1))
        except Exception:  # EXIF data are decoded as carelessly as they are written
            turn = None
            notes.append("EXIF data unreadable")
    if turn is not None:
        image = image.transpose(Image.Transpose[turn])
        notes.append("turned upright")
    if image.mode.startswith("I;16") or (image.mode == "I" and kind in ("PNG", "PPM")):
        if "transparency" in image.info:
            notes.append("transparency not applied")
        image = Image.fromarray(
            np.clip(np.rint(np.asarray(image, "float64") / 257), 0, 255).astype("uint8")
        )
        deep = True
    elif image.mode in ("I", "F"):
        raise ImageError(
            f"{path}: 32 bits per pixel whose white is unknown; save it with 8 or 16 bits"
        )
    if deep:
        notes.append("16 bits cut to 8")
    mode = image.mode
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema()[0] < 255:
            notes.append("transparency laid on white")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
        mode = {"LA": "L", "La": "L"}.get(mode, "RGB")
    if mode == "LAB":  # Pillow knows no way from it to grey
        image = image.convert("RGB")
    if mode not in GREY and (channels == 1 or mode != "RGB"):
        notes.append(
            f"converted from {mode}" + (" to grey" if channels == 1 and _coloured(image) else "")
        )
    wanted = "RGB" if channels == 3 else "L"
    if image.mode != wanted:
        image = image.convert(wanted)
    if size is not None and (image.height, image.width) != size:
        image = _fitted(image, size, notes)
    pixels = np.array(image, "uint8")
    return pixels if pixels.ndim == 3 else pixels[..., None]


def _unapplied(image: Any) -> Iterator[str]:
    """What a file says about its colours beyond their numbers, all of which is left out: in
    words.
    """
    if profile := image.info.get("icc_profile"):
        try:
            from PIL import ImageCms

            name = ImageCms.getProfileDescription(
                ImageCms.ImageCmsProfile(io.BytesIO(profile))
            ).strip()
        except Exception:  # Pillow without its colour management, or a broken profile
            name = "unreadable"
        if "srgb" not in name.lower() and "61966" not in name:  # the number of the standard
            yield f"colour profile not applied ({name or 'without a name'})"
    gamma = image.info.get("gamma")
    if gamma and "srgb" not in image.info and abs(gamma - 1 / 2.2) > 0.01:
        yield f"gamma not applied ({gamma:g})"


def _coloured(image: Any) -> bool:
    """Whether a picture has anything but shades of grey."""
    red, *others = np.moveaxis(np.asarray(image.convert("RGB")), -1, 0)
    return any((other != red).any() for other in others)


def _fitted(image: Any, size: tuple[int, int], notes: list[str]) -> Any:
    """The central part of a picture in another size, (height, width); ``notes`` is added to."""
    from PIL import Image

    before, middle = image.size, _middle(image.size, (size[1], size[0]))
    part = (middle[2] - middle[0], middle[3] - middle[1])
    cropped = part != before
    resized = part != (size[1], size[0])
    enlarged = " (enlarged)" if part[0] < size[1] or part[1] < size[0] else ""
    to = f"{size[1]} x {size[0]}{enlarged}"
    if cropped:
        rest = f" and resized to {to}" if resized else ""
        notes.append(
            f"cropped from {before[0]} x {before[1]} to the central {part[0]} x {part[1]}{rest}"
        )
    else:
        notes.append(f"resized from {before[0]} x {before[1]} to {to}")
    return image.crop(middle).resize((size[1], size[0]), Image.Resampling.BICUBIC)


def _middle(size: tuple[int, int], shape: tuple[int, int]) -> tuple[int, int, int, int]:
    """The largest central part (left, upper, right, lower) of a picture that has the proportions of
    ``shape``.

    It is cut off before the picture is resized: what lies outside must not shine in.
    """
    width = min(size[0], max(1, round(size[1] * shape[0] / shape[1])))
    height = min(size[1], max(1, round(size[0] * shape[1] / shape[0])))
    left, upper = (size[0] - width) // 2, (size[1] - height) // 2
    return left, upper, left + width, upper + height


def suffixes(kind: str | None = None) -> set[str]:
    """The endings of file names, in small letters, of one format or of all ``FORMATS``."""
    from PIL import Image

    kinds = (
        FORMATS
        if kind is None
        else {"MPO": ("MPO", "JPEG"), "JPEG": ("JPEG", "MPO")}.get(kind, (kind,))
    )
    return {
        suffix.lower() for suffix, name in Image.registered_extensions().items() if name in kinds
    }


def picture(pixels: Array) -> Any:
    """A ``PIL.Image`` of (height, width), (height, width, 1) or (height, width, 3) uint8."""
    from PIL import Image

    return Image.fromarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[-1] == 1 else pixels)


def write(path: Path, pixels: Array, *, overwrite: bool = False) -> None:
    """Write a PNG under a temporary name, flush it to the disk, and give it its name: the file is
    whole or absent.

    Args:
        path: the file, in a folder that exists.
        pixels: (height, width), (height, width, 1) or (height, width, 3) uint8.
        overwrite: whether an existing file may be replaced.

    Raises:
        InvalidInput: the file exists and ``overwrite`` is False. OSError: it cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write(Path(folder, "grey.png"), np.full((4, 6), 128, "uint8"))
        ...     read(Path(folder, "grey.png"), channels=1).pixels.shape
        (4, 6, 1)
    """
    save(path, picture(pixels), overwrite=overwrite)


def save(path: Path, image: Any, *, overwrite: bool = False) -> None:
    """Write a `PIL.Image` as `write` does: the file is whole or absent.

    Args:
        path: the file, in a folder that exists.
        image: the picture.
        overwrite: whether an existing file may be replaced.

    Raises:
        InvalidInput: the file exists and `overwrite` is False.
        OSError: it cannot be written.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(Path(folder, "grey.png"), Image.new("L", (6, 4), 128))
        ...     read(Path(folder, "grey.png")).pixels.shape
        (4, 6, 3)
    """
    with replacing(path, overwrite=overwrite) as handle:
        image.save(handle, format="PNG")


@contextlib.contextmanager
def replacing(path: Path, *, overwrite: bool) -> Iterator[BinaryIO]:
    """A binary file that takes the name ``path`` when the block ends well, and is gone when it does
    not.
    """
    taken = f"{path} exists; pass overwrite=True to replace it"
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "there is no such folder", str(path.parent))
    if not overwrite and os.path.lexists(path):
        raise InvalidInput(taken)
    temporary = path.with_name(f".advex-{secrets.token_hex(8)}.part")
    try:
        with temporary.open("xb") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        if overwrite:
            os.replace(temporary, path)
        else:
            _named(temporary, path, taken)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def _named(temporary: Path, path: Path, taken: str) -> None:
    """Give a file its name unless that name has been taken in the meantime."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise InvalidInput(taken) from None
    except OSError:  # a file system without links
        os.replace(temporary, path)


def is_image(x: Array) -> bool:
    """Whether ``x`` (n, ...) is a batch of grey or colour pictures, which can be drawn and written
    as files.

    The one rule that ``Result.save`` and ``show``, run files, reports and the doctor go by:

    * (n, height, width, 1), (n, height, width, 3) and, in ``uint8``, (n, height, width) are
      pictures, but for strips: a side of one pixel, a side below 8 pixels and the other more than 4
          times as long, or any side 50 times as long as the other;
    * (n, height, width) floats are pictures if both sides are at least 8 and neither is more than 4
      times the other: a series (n, steps, channels) has as many axes.

    Example:
        >>> is_image(np.zeros((8, 28, 28), "float32")), is_image(np.zeros((8, 100, 3), "float32"))
        (True, False)
    """
    return not no_picture(x)


def no_picture(x: Array) -> str:
    """Why ``x`` (n, ...) is no batch of pictures; empty if it is one. The rule is that of
    ``is_image``.
    """
    what = f"x of shape {x.shape} and dtype {x.dtype}"
    if x.ndim not in (3, 4) or (x.ndim == 4 and x.shape[-1] not in (1, 3)):
        return f"{what} is neither (n, height, width) nor (n, height, width, 1 or 3)"
    shorter, longer = sorted(x.shape[1:3])
    strip = (
        shorter < 2 or longer > THINNEST * shorter or (shorter < SMALL and longer > THIN * shorter)
    )
    ambiguous = x.ndim == 3 and x.dtype != np.uint8
    if strip or (ambiguous and (shorter < SMALL or longer > THIN * shorter)):
        series = " is taken for series, (n, steps, channels):" if x.ndim == 3 else " holds strips:"
        return f"{what}{series} as pictures they would be {x.shape[2]} wide and {x.shape[1]} high"
    return ""


def enlarged(before: Array, after: Array, factor: int = 10) -> Array:
    """The difference of two uint8 pictures times ``factor``, on middle grey: uint8."""
    return np.clip(128 + factor * (after.astype("int16") - before), 0, 255).astype("uint8")


PALETTE = (
    (32, 32, 40),
    (230, 97, 1),
    (94, 60, 153),
    (27, 158, 119),
    (231, 41, 138),
    (102, 166, 30),
    (230, 171, 2),
    (56, 108, 176),
    (166, 118, 29),
    (190, 174, 212),
)
"""Colours of the classes of a map; more classes begin again, a little lighter."""


def coloured(numbers: Array, classes: int) -> Array:
    """A map of class numbers as a picture.

    Args:
        numbers: class numbers, (h, w).
        classes: how many there are.

    Returns:
        Pixels, (h, w, 3) uint8: a colour for each class.

    Example:
        >>> coloured(np.array([[0, 1], [1, 2]]), 3).shape
        (2, 2, 3)
    """
    every = np.asarray(PALETTE, "float64")[np.arange(classes) % len(PALETTE)]
    lighter = 0.4 * (np.arange(classes) // len(PALETTE) % 2)[:, None]
    shades = every + (255 - every) * lighter
    return shades[np.clip(numbers, 0, classes - 1)].astype("uint8")


def sheet(
    rows: Sequence[Sequence[Cell]],
    headings: Sequence[str] = (),
    side: int = 112,
    across: int = 1,
    note: str = "",
) -> Any:
    """A ``PIL.Image``: rows of pictures with a caption under each and headings above the columns.

    Letters that Pillow's font lacks, such as those of Chinese names, are drawn with a font of this
    machine. Where there is none, they are written as escapes, and a warning says so once.

    Args:
        rows: each a list of (pixels uint8, caption); pixels may be None for a gap. A caption is
            text, or a list of (line, colour). Lines are broken between words where they are too
            long; one that begins with ✓ or ✗ begins with that sign.
        headings: one per column, or none.
        side: length of the longer side of each picture, in pixels; small ones are enlarged without
            smoothing.
        across: how many rows stand side by side.
        note: a line below all of them; empty for none.

    Example:
        >>> grey = np.full((8, 8), 128, "uint8")
        >>> sheet([[(grey, "cat"), (grey, [("✓ dog", "red")])]], ("before", "after")).width
        254
    """
    return laid_out(rows, headings, side, across, note)


if not TYPE_CHECKING:
    __getattr__, __dir__ = face(__name__, __all__)
