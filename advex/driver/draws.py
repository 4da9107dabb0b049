"""Random numbers of a row: a function of the seed, its content, its step and the number of the draw
alone.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
from keras import ops

from advex._arrays import Array, Tensor


def row_keys(x0: Array, seed: int) -> Array:
    """Two int32 per row, from the seed and the row's content alone: (n, 2)."""
    key = int(seed).to_bytes(16, "little", signed=True)
    digests = [
        hashlib.blake2b(row.tobytes(), digest_size=8, key=key).digest()
        for row in np.ascontiguousarray(x0 + np.float32(0))  # -0.0 becomes 0.0
    ]
    return np.frombuffer(b"".join(digests), "int32").reshape(-1, 2)


def step_keys(state: Tensor, like: Tensor) -> Tensor:
    """Two int32 per row, from the state of a ``keras.random.SeedGenerator`` and the row's place in
    the batch: (n, 2), the same on every backend.

    Args:
        state: two numbers, the seed and a counter.
        like: any integers (n,).
    """
    seed, count = ops.cast(state[0], "int32"), ops.cast(state[1], "int32")
    place = ops.cumsum(ops.ones_like(like))
    one = _mixed(place * 0x632BE5AB + _mixed(count + seed * 0x1B873593))
    return ops.stack([one, _mixed(one + seed)], axis=1)


def bits(key: Tensor, step: Tensor, salt: Tensor, draw: int, shape: tuple[int, ...]) -> Tensor:
    """24 random bits per entry, (batch, *shape) int32.

    Args:
        key: of the rows, (batch, 2), see ``row_keys``.
        step: of the rows, (batch,).
        salt: what tells apart the runs of one attack, (batch,).
        draw: how many draws the step had before.
        shape: of what is drawn for each row.
    """
    stream = _mixed(key[:, 0] + step * 0x632BE5AB + draw * 0x1B873593)
    stream = _mixed(ops.bitwise_xor(stream, key[:, 1]) + salt)
    index = (np.arange(math.prod(shape), dtype="int64") * 0x9E3779B1).astype("uint32")
    mixed = _mixed(
        ops.expand_dims(stream, 1) + ops.convert_to_tensor(index.view("int32")[None], "int32")
    )
    mixed = _mixed(mixed + ops.expand_dims(key[:, 0], 1))
    return ops.reshape(ops.bitwise_and(ops.right_shift(mixed, 8), 2**24 - 1), (-1, *shape))


def _mixed(value: Tensor) -> Tensor:
    """A well-mixed 32-bit integer for each entry: the finaliser of a hash, in int32 arithmetic that
    wraps on every backend.
    """
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B - 2**32), (16, None)):
        shifted = ops.bitwise_and(ops.right_shift(value, shift), (1 << (32 - shift)) - 1)
        value = ops.bitwise_xor(value, shifted)
        value = value if factor is None else value * ops.convert_to_tensor(factor, "int32")
    return value
