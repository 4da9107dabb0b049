"""Gradients as a layer of Keras: what makes them a part of models, which are saved, cloned and
trained.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
from keras import KerasTensor

from advex._arrays import Tensor
from advex._backend.scope import Scope
from advex.errors import InvalidInput
from advex.graph.program import Program
from advex.graph.walk import Graph, Opened, Symbol


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a layer of gradients does.

    Attributes:
        losses: their sum is differentiated.
        tensors: by these.
        weights: and by these variables.
        unconnected: what becomes of those that the losses do not depend on, "error" or "zero".
        given: where the layer's own pass begins, when it runs inside of a ``keras.Model``.
        opened: models with some of ``tensors`` inside.
    """

    losses: list[KerasTensor]
    tensors: list[KerasTensor]
    weights: list[keras.Variable]
    unconnected: str
    given: list[KerasTensor]
    opened: list[Opened]

    @property
    def wanted(self) -> list[Symbol]:
        """What is differentiated by, in the order of the layer's outputs."""
        return [*self.tensors, *self.weights]


@keras.saving.register_keras_serializable("advex")
class Gradients(keras.layers.Layer):
    """The gradients of the sum of some losses, as a layer that is called on symbolic tensors and
    reads how they came about.

    In ``advex.function`` they come out of the pass that computes everything else. In a
    ``keras.Model`` Keras runs each layer for
    itself, so this one passes through its own part of the graph again: with draws of its own, but
        without a second update
    of batch statistics and other states.

    Args:
        weights: which of the variables that the losses read: places in the order in which ``Graph``
            finds them.
        unconnected: "error" or "zero".
        cut: which of the tensors the layer's own pass begins at.
    """

    def __init__(
        self,
        weights: Sequence[int | None] = (),
        unconnected: str = "error",
        cut: Sequence[int] = (),
        **settings: Any,
    ) -> None:
        # Neither cast nor be cast: what comes out has the dtype of what it is a gradient of.
        super().__init__(autocast=False, **{"dtype": keras.config.floatx(), **settings})
        self.supports_masking = True
        self.places, self.cut, self.unconnected = tuple(weights), tuple(cut), unconnected
        self.plan: Plan | None = None
        self._program: Program | None = None

    def prepare(self, plan: Plan) -> None:
        """Say what the next call on symbolic tensors is about; otherwise the call finds out for
        itself.
        """
        object.__setattr__(self, "plan", plan)

    def compute_mask(self, inputs: Any, previous_mask: Any) -> None:
        """Gradients have no mask."""

    def symbolic_call(
        self, losses: Any, tensors: Any, leaves: Any, **settings: Any
    ) -> list[KerasTensor]:
        if self.plan is None:  # loaded or cloned
            weights = list(Graph(losses).variables.values())
            given = [tensors[place] for place in self.cut] + list(leaves)
            chosen = [weights[place] for place in self.places if place is not None]
            self.prepare(Plan(losses, tensors, chosen, self.unconnected, given, []))
        return super().symbolic_call(losses, tensors, leaves, **settings)

    def compute_output_spec(
        self, losses: Any, tensors: Any, leaves: Any, training: Any = None
    ) -> list[KerasTensor]:
        assert self.plan is not None
        return [KerasTensor(symbol.shape, dtype=symbol.dtype) for symbol in self.plan.wanted]

    def call(
        self, losses: Any, tensors: Any, leaves: Any, training: bool | None = None
    ) -> list[Tensor]:
        """Run by Keras, as a part of a model."""
        assert self.plan is not None
        program = self._program
        if program is None:
            asked = self._inbound_nodes[0].outputs
            program = Program(Graph(asked, self.plan.given), self.plan.given, asked)
            object.__setattr__(self, "_program", program)
        with Scope() as scope:
            found = program([*(tensors[place] for place in self.cut), *leaves], training)
        for variable, value in scope.changes():
            # the loss itself has changed the other states already
            if "seed_generator" in variable.path:
                variable.assign(value)
        return found

    def get_config(self) -> dict[str, Any]:
        assert self.plan is not None
        if self.plan.opened or None in self.places:
            raise InvalidInput(
                f"the model cannot be saved or cloned: the layer {self.name!r} differentiates by a"
                " tensor inside a nested model, or by a variable that no layer owns. Call the"
                " nested model's layers one by one, or save the model without gradients and add"
                " them again after loading"
            )
        return {
            **super().get_config(),
            "weights": self.places,
            "unconnected": self.unconnected,
            "cut": self.cut,
        }
