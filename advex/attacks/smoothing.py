"""Smooth noise: what is left of it when only low frequencies pass. One matrix product per axis."""

from __future__ import annotations

import math

import keras
import numpy as np
from keras import ops

from advex._arrays import Array, Tensor

SHORTEST = 8  # elements along an axis that has low frequencies to speak of


def cosines(size: int) -> Array:
    """The orthonormal cosine transform (DCT-II) of ``size`` numbers, as a matrix: row k is the wave
    of frequency k.
    """
    place, frequency = np.arange(size) + 0.5, np.arange(size)[:, None]
    waves = np.cos(np.pi * frequency * place / size) * math.sqrt(2 / size)
    waves[0] /= math.sqrt(2)
    return waves


def low_pass(size: int, share: float) -> Array:
    """The matrix that keeps the lowest ``share`` of the frequencies: (size, size), symmetric."""
    kept = cosines(size)[: max(1, round(share * size))]
    return (kept.T @ kept).astype("float32")


def smooth_axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The axes of an input, without the batch axis, along which neighbours are alike: height and
    width, or time; none of a table.
    """
    if len(shape) < 2:
        return ()
    axes = range(len(shape))
    if len(shape) == 3:
        axes = range(1, 3) if keras.config.image_data_format() == "channels_first" else range(2)
    return tuple(axis for axis in axes if shape[axis] >= SHORTEST)


def smoothed(noise: Tensor, shape: tuple[int, ...], share: float) -> Tensor:
    """``noise``, (..., *shape), with its lowest frequencies alone; as it is where there are no
    axes that have any.
    """
    if share >= 1:
        return noise
    for axis in smooth_axes(shape):
        place = len(noise.shape) - len(shape) + axis
        kernel = ops.convert_to_tensor(low_pass(shape[axis], share))
        last = ops.moveaxis(noise, place, -1)
        noise = ops.moveaxis(ops.matmul(last, kernel), -1, place)
    return noise
