"""Values in a run file: numbers as SQLite takes them, one input as bytes."""

from __future__ import annotations

import io
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from advex import images
from advex._arrays import Array

PNG_MARK = b"\x89PNG"


def plain(value: Any) -> Any:
    """A value as SQLite takes it; what is not finite becomes NULL."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def packed(values: Array) -> bytes:
    """One input as bytes: a PNG for 8-bit pictures, else a compressed npy file."""
    if values.dtype == np.uint8 and images.is_image(values[None]):
        buffer = io.BytesIO()
        images.picture(values).save(buffer, format="PNG")
        return buffer.getvalue()
    buffer = io.BytesIO()
    np.save(
        buffer, values.astype("float32") if values.dtype.kind == "V" else values, allow_pickle=False
    )
    return zlib.compress(buffer.getvalue(), 1)


def unpacked(code: bytes, shape: Sequence[int] | None = None) -> Array:
    """What ``packed`` was given, an input of ``shape``; what is no picture knows its own."""
    if shape is not None and code.startswith(PNG_MARK):
        from PIL import Image

        with Image.open(io.BytesIO(code), formats=["PNG"]) as picture:
            return np.asarray(picture, "uint8").reshape(tuple(shape))
    values: Array = np.load(io.BytesIO(zlib.decompress(code)), allow_pickle=False)
    return values if shape is None else values.reshape(tuple(shape))
