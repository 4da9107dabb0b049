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
    matrices = []
    for axis in smooth_axes(shape):
        kept = cosines(shape[axis])[: max(1, round(share * shape[axis]))]
        matrices.append(kept.T @ kept)
    return _along(noise, shape, matrices)


def waves(noise: Tensor, shape: tuple[int, ...], share: float, power: float) -> Tensor:
    """White ``noise``, (..., *shape), turned into noise whose amplitude falls with its frequency f,
    as ``(1 + (f / (share * size)) ** 2) ** (-power / 2)``; of variance 1 on average. As it is where
    there are no axes that have frequencies.
    """
    smooth = smooth_axes(shape)
    if not smooth:
        return noise
    square = np.zeros((1,) * len(shape))
    for axis in smooth:
        each = np.square(np.arange(shape[axis]) / (share * shape[axis]))
        square = square + each.reshape([-1 if place == axis else 1 for place in range(len(shape))])
    weights = (1 + square) ** (-power / 2)
    weights /= np.sqrt(np.square(weights).mean())
    noise = noise * ops.convert_to_tensor(weights.astype("float32"))
    return _along(noise, shape, [cosines(shape[axis]) for axis in smooth])


def blurred(values: Tensor, shape: tuple[int, ...], share: float) -> Tensor:
    """``values``, (..., *shape), blurred by a Gaussian as wide as ``share`` of each axis."""
    kernels = []
    for axis in smooth_axes(shape):
        place = np.arange(shape[axis])
        width = max(share * shape[axis], 1e-6)
        bell = np.exp(-np.square(place[:, None] - place) / (2 * width**2))
        kernels.append((bell / bell.sum(1, keepdims=True)).T)
    return _along(values, shape, kernels)


def _along(values: Tensor, shape: tuple[int, ...], matrices: list[Array]) -> Tensor:
    """``values`` times a matrix, (size, size), along each of the smooth axes."""
    for axis, matrix in zip(smooth_axes(shape), matrices, strict=True):
        place = len(values.shape) - len(shape) + axis
        last = ops.moveaxis(values, place, -1)
        last = ops.matmul(last, ops.convert_to_tensor(matrix.astype("float32")))
        values = ops.moveaxis(last, -1, place)
    return values
