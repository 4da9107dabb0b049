"""Inputs that are more than one array: what is attacked of them, and what travels along."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import tree

from advex._arrays import Array, flattened
from advex.domain import Domain


@dataclass(frozen=True, eq=False)
class Part:
    """One input that is attacked."""

    name: str
    shape: tuple[int, ...]
    """Of one example."""
    dtype: Any
    """The dtype of the user's array: uint8 stands for 8-bit levels."""
    domain: Domain
    start: int = 0
    """Where it begins in the vector of all that is attacked."""

    @property
    def stop(self) -> int:
        return self.start + math.prod(self.shape)


@dataclass(frozen=True, eq=False)
class Form:
    """How the arrays of a call make up what the user gave, and what the model takes.

    Args:
        given: the structure of the user's ``x``, names in place of arrays.
        taken: the structure that the model takes, likewise.
        parts: what is attacked.
        layer: whether that is the output of a layer, and all inputs travel along.
    """

    given: Any
    taken: Any
    parts: tuple[Part, ...]
    layer: str | None = None

    @property
    def flat(self) -> bool:
        """Whether several inputs are attacked at once: then they are one vector."""
        return len(self.parts) > 1

    def entered(self, attacked: Mapping[str, Any], beside: Mapping[str, Any]) -> Any:
        """What the model is asked with: its inputs in its own structure; with a layer these, and
        that layer's output.
        """
        known = {**beside, **attacked}
        inputs = tree.map_structure(lambda name: known[name], self.taken)
        if self.layer is None:
            return inputs
        return {INPUTS: inputs, INNER: attacked[self.layer]}

    def restored(self, attacked: Array, beside: Mapping[str, Array]) -> Any:
        """What the user gave, with these points; of a layer its outputs alone."""
        if self.layer is not None:
            return attacked
        known = {**beside, **self.split(attacked)}
        return tree.map_structure(lambda name: known[name], self.given)

    def attacked(self, given: Any) -> Array:
        """What is attacked of inputs in the user's structure; of a layer its outputs."""
        if self.layer is not None:
            layer: Array = given
            return layer
        names = tree.flatten(self.given)
        known = dict(zip(names, tree.flatten(given), strict=True))
        arrays = [known[part.name] for part in self.parts]
        return vector(arrays) if self.flat else arrays[0]

    def split(self, attacked: Array) -> dict[str, Array]:
        """The parts of what is attacked, in their own shapes and dtypes."""
        if not self.flat:
            return {self.parts[0].name: attacked}
        return {
            part.name: attacked[:, part.start : part.stop]
            .reshape(-1, *part.shape)
            .astype(part.dtype)
            for part in self.parts
        }


INPUTS, INNER = "advex inputs", "advex layer"
"""The keys of what a model is asked with when a layer's output is attacked."""


def vector(parts: list[Array]) -> Array:
    """Several arrays (n, ...) as one (n, d): float64 if any is."""
    wide = any(part.dtype == np.float64 for part in parts)
    kind = "float64" if wide else "float32"
    return np.concatenate([flattened(part).astype(kind) for part in parts], axis=1)


class Examples:
    """What is attacked, (n, ...), and what travels along with each row.

    Attributes:
        attacked: the array that is searched.
        beside: the inputs that stay as they are, (n, ...) each, by name.
        form: how they make up what the user gave.
    """

    def __init__(self, attacked: Array, beside: Mapping[str, Array], form: Form) -> None:
        self.attacked, self.beside, self.form = attacked, dict(beside), form

    @property
    def shape(self) -> tuple[int, ...]:
        return self.attacked.shape

    @property
    def dtype(self) -> Any:
        return self.attacked.dtype

    @property
    def ndim(self) -> int:
        return self.attacked.ndim

    def __len__(self) -> int:
        return len(self.attacked)

    def __getitem__(self, rows: Any) -> Examples:
        beside = {name: values[rows] for name, values in self.beside.items()}
        return Examples(self.attacked[rows], beside, self.form)

    def copy(self) -> Examples:
        beside = {name: values.copy() for name, values in self.beside.items()}
        return Examples(self.attacked.copy(), beside, self.form)

    def moved(self, points: Array) -> Examples:
        """The same rows at other points."""
        return Examples(points, self.beside, self.form)

    @property
    def tree(self) -> Any:
        """What the user gave."""
        return self.form.restored(self.attacked, self.beside)


class Bundle:
    """Inputs that are a dict, a tuple or a list of arrays, row by row, before a model has been
    asked what it takes of them.
    """

    def __init__(self, tree_of_arrays: Any) -> None:
        self.tree = tree_of_arrays

    @property
    def leaves(self) -> list[Array]:
        found: list[Array] = tree.flatten(self.tree)
        return found

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the first array."""
        return self.leaves[0].shape

    @property
    def kind(self) -> tuple[Any, ...]:
        """Shapes and dtypes, which must be the same for all batches."""
        return tuple((leaf.shape[1:], leaf.dtype) for leaf in self.leaves)

    def __len__(self) -> int:
        return len(self.leaves[0])

    def __getitem__(self, rows: Any) -> Bundle:
        return Bundle(tree.map_structure(lambda leaf: leaf[rows], self.tree))

    def copy(self) -> Bundle:
        return Bundle(tree.map_structure(np.array, self.tree))

    def joined(self, others: list[Bundle]) -> Bundle:
        """These rows, and then those of the others."""
        trees = [self.tree, *(other.tree for other in others)]
        return Bundle(tree.map_structure(lambda *leaves: np.concatenate(leaves), *trees))


def attacked_of(x: Array | Examples) -> Array:
    """The array that is searched."""
    return x.attacked if isinstance(x, Examples) else x


def at(x: Array | Examples, rows: Array, points: Array) -> Array | Examples:
    """Some rows of ``x`` at other points."""
    return x[rows].moved(points) if isinstance(x, Examples) else points
