"""One pass through a graph: losses, activations and all gradients, from the same random draws,
masks and states.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import keras
from keras import KerasTensor, ops

# masks travel with tensors, which nothing public can read
from keras.src.backend import (
    get_keras_mask,
    set_keras_mask,
)

from advex import _backend
from advex._arrays import Tensor
from advex._backend.scope import Scope, Tap
from advex.errors import GradientUnavailable
from advex.graph.walk import Derivation, Graph, Step, Symbol, Values, name

WITHOUT_GRADIENT = (
    'advex.gradients(loss, variables, unconnected="zero") gives zeros for it, unconnected="none"'
    " gives None"
)
"""How one says that something may be without a gradient."""


class Wanted(NamedTuple):
    """The gradients of one sum of losses: of several ``gradients(loss, ...)`` for the same loss,
    all.
    """

    losses: tuple[int, ...]
    keys: dict[int, Symbol]
    to: list[tuple[Derivation, list[Symbol]]]


class Program:
    """A graph, ready to be run.

    Steps are in levels: on level 0 all that needs no gradient, on level 1 the gradients of what is
    computed there and all that needs these, and so on. Each level is differentiated as a whole,
    once, with the levels below inside of it.

    Args:
        graph: what to compute.
        given: the tensors whose values will be given.
        asked: the tensors whose values are wanted.
    """

    def __init__(
        self, graph: Graph, given: Sequence[KerasTensor], asked: Sequence[KerasTensor]
    ) -> None:
        self.graph, self.given, self.asked = graph, list(given), list(asked)
        self.dead: dict[int, Symbol] | None = (
            None  # if a dict: what no derivative comes to is noted there, instead of an error
        )
        levels = 1 + max((step.level for step in graph.steps), default=0)
        self._calls: list[list[Step]] = [[] for _ in range(levels)]
        self._wanted: list[list[Wanted]] = [[] for _ in range(levels)]
        for step in graph.steps:
            if not isinstance(step, Derivation):
                self._calls[step.level].append(step)
                continue
            losses, symbols = tuple(id(loss) for loss in step.plan.losses), step.plan.wanted
            same = next(
                (wanted for wanted in self._wanted[step.level] if wanted.losses == losses), None
            )
            if same is None:
                same = Wanted(losses, {}, [])
                self._wanted[step.level].append(same)
            same.keys.update({id(symbol): symbol for symbol in symbols})
            same.to.append((step, symbols))

    def __call__(self, values: Sequence[Tensor], training: bool | None) -> list[Tensor]:
        """The values of ``asked``, given those of ``given``."""
        start = {id(symbol): value for symbol, value in zip(self.given, values, strict=True)}
        found = self._run(len(self._calls) - 1, start, [], training)
        return [found[id(symbol)] for symbol in self.asked]

    def _run(
        self, level: int, start: Values, taps: list[tuple[set[int], Tap]], training: bool | None
    ) -> Values:
        """All values up to ``level``. ``taps`` are told, from the outermost to the innermost, of
        the tensors in their sets.
        """
        if level == 0:
            values = {key: _tapped(key, value, taps) for key, value in start.items()}
        else:
            values = self._differentiated(level, start, taps, training)
        for step in self._calls[level]:
            for symbol, value in zip(step.outputs, step.run(values, training), strict=True):
                values[id(symbol)] = _tapped(id(symbol), value, taps)
        return values

    def _differentiated(
        self, level: int, start: Values, taps: list[tuple[set[int], Tap]], training: bool | None
    ) -> Values:
        groups = self._wanted[level]
        if not groups:
            return self._run(level - 1, start, taps, training)
        keys = {key: symbol for wanted in groups for key, symbol in wanted.keys.items()}
        variables = {
            key: symbol for key, symbol in keys.items() if isinstance(symbol, keras.Variable)
        }
        inside = keys.keys() - variables.keys()
        values, found = _backend.differentiate(
            lambda tap: self._run(level - 1, start, [*taps, (inside, tap)], training),
            [(wanted.losses, list(wanted.keys)) for wanted in groups],
            variables,
            {key: value for key, value in start.items() if key in inside},
        )
        for wanted, slopes in zip(groups, found, strict=True):
            for step, symbols in wanted.to:
                for output, symbol in zip(step.outputs, symbols, strict=True):
                    slope = self._sound(slopes[id(symbol)], symbol, values, step.plan.unconnected)
                    values[id(output)] = _tapped(id(output), slope, taps)
        return values

    def _sound(
        self, slope: Tensor | None, symbol: Symbol, values: Values, unconnected: str
    ) -> Tensor:
        """A gradient as it was promised: of its symbol's dtype, and zeros or an error where there
        is none.
        """
        if slope is None:
            if self.dead is not None:
                self.dead[id(symbol)] = symbol
            elif unconnected == "error":
                raise GradientUnavailable(
                    f"the loss has no gradient with respect to {name(symbol)}: either the loss"
                    " does not change with it, or something between them is not differentiable"
                    f" (rounding, argmax, a look-up, a cast to integers). {WITHOUT_GRADIENT}"
                )
            if isinstance(symbol, keras.Variable):
                return ops.zeros(symbol.shape, symbol.dtype)
            return ops.zeros_like(values[id(symbol)])
        # Of a tensor's own dtype, if Keras says something else of its symbol.
        kind = (symbol.value if isinstance(symbol, keras.Variable) else values[id(symbol)]).dtype
        return (
            slope if slope.dtype == kind else ops.cast(slope, keras.backend.standardize_dtype(kind))
        )


def _tapped(key: int, value: Tensor, taps: list[tuple[set[int], Tap]]) -> Tensor:
    for keys, tap in taps:
        if key in keys:
            mask = get_keras_mask(value)
            value = tap(key, value)
            if mask is not None:
                set_keras_mask(value, mask)
    return value


def probed(program: Program) -> tuple[dict[int, Symbol], dict[int, keras.Variable]]:
    """What no derivative comes to, and all variables that are read, found by a run on zeros;
    nothing is changed by it.
    """
    problem: Exception | None = None
    for size in (2, 8, 32, 224):  # of axes whose length is not known
        shapes = [(2, *tensor.shape[1:])[: len(tensor.shape)] for tensor in program.given]
        shapes = [tuple(size if length is None else length for length in shape) for shape in shapes]
        zeros = [
            ops.zeros(shape, tensor.dtype)
            for shape, tensor in zip(shapes, program.given, strict=True)
        ]
        program.dead = {}
        try:
            with Scope() as scope:
                program(zeros, None)
            return program.dead, scope.read
        except Exception as error:
            problem = error
        finally:
            program.dead = None
    assert problem is not None
    raise problem
