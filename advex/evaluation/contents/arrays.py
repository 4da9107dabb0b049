"""Arrays and tensors: what they hold."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from advex import _backend
from advex.evaluation.contents.containers import within
from advex.evaluation.contents.found import Parts
from advex.evaluation.contents.origin import called


def array(found: Parts, values: Any, path: str) -> None:
    """Put down an array of NumPy."""
    if values.dtype.hasobject:
        found.put(path, b"objects", repr(values.shape).encode())
        within(found, values.ravel().tolist(), path)
        return
    content = hashlib.blake2b(np.ascontiguousarray(values).tobytes(), digest_size=16).digest()
    found.put(path, b"array", f"{values.dtype}{values.shape}".encode(), content)


def tensor(found: Parts, thing: Any, path: str) -> None:
    """Put down a tensor by its values; those of handles and data sets are no numbers."""
    try:
        values = np.asarray(_backend.to_numpy(thing))
    except Exception:  # of whatever kind a framework has for it
        found.put(path, b"a", called(type(thing)), str(getattr(thing, "dtype", "")).encode())
        return
    array(found, values, path)
