"""A Keras model under attack, and the domain of its inputs."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, ClassVar

import keras
from keras import ops, tree

from advex import _backend
from advex._arrays import Array, Tensor
from advex._settings import helpful, shown
from advex.errors import InvalidInput, InvalidType
from advex.goals.base import TREE, Reading
from advex.model import cache, outputs
from advex.model.domain import checked_box, checked_names
from advex.model.forward import KerasForward
from advex.model.protocol import Forward, Model
from advex.model.refusals import SeveralOutputs, several_inputs, way_in
from advex.model.several import SeveralForward


class Classifier(Model):
    """A Keras model and the domain of its inputs. Needed only where that domain is not [0, 1].

    Args:
        model: any ``keras.Model`` with one input: functional, sequential, subclassed, compiled or
            not. It may end in logits, softmax, one sigmoid unit, or one for each class; for goals
            that are not about classes in anything, see ``advex.goals``.
        box: lowest and highest legal value of ``x``, before preprocessing.
        preprocess: applied to ``x`` before the model: a function of backend tensors, or a layer.
        classes: the names of the classes, or of the labels, for captions.
        output: which of several outputs is attacked: its name (the key of a dict, or the name of
            its layer) or its number. None: there is but one, or the goal says it, see
            ``advex.Output``.

    Raises:
        InvalidInput: a box without two finite, increasing ends; several inputs; an output that is
            not there.
        InvalidType: something that is not a ``keras.Model``.

    Example:
        >>> import keras
        >>> layers = [keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(10)]
        >>> model = keras.Sequential(layers, name="small")
        >>> Classifier(model, box=(0, 255), preprocess=lambda x: x / 127.5 - 1)
        Classifier('small', box=(0.0, 255.0))
    """

    differentiable: ClassVar[bool] = True
    metered: ClassVar[bool] = False
    model: keras.Model

    @helpful
    def __init__(
        self,
        model: keras.Model,
        box: tuple[float, float] = (0, 1),
        preprocess: Callable[[Tensor], Tensor] | None = None,
        classes: Sequence[str] | None = None,
        output: str | int | None = None,
    ) -> None:
        if not isinstance(model, keras.Model):
            kind = model.__name__ if isinstance(model, type) else type(model).__name__
            raise InvalidType(
                "model must be a keras.Model or an advex.Classifier; received"
                f" {kind}{way_in(model)}"
            )
        if preprocess is not None and not callable(preprocess):
            raise InvalidType(
                f"preprocess must be a function of a tensor; received {type(preprocess).__name__}"
            )
        if len(getattr(model, "inputs", None) or [0]) != 1:
            raise InvalidInput(several_inputs(model))
        self.model, self.preprocess = model, preprocess
        self.box = checked_box(box)
        self.names = checked_names(classes)
        if isinstance(output, bool) or not isinstance(output, str | int | None):
            raise InvalidType(
                f"output must be the name of an output, or its number; received {shown(output)}"
            )
        self.output = output
        if output is not None and self._symbol is None and getattr(model, "outputs", None):
            outputs.place(getattr(model, "_outputs_struct", model.outputs), output, model)
        count = self.known_classes
        if self._one_unit and self.names is not None:
            count = 1 if len(self.names) == 1 else 2  # a label, or two classes
        if count is not None:
            self._check_names(count)

    @classmethod
    def of(cls, model: Any) -> Model:
        """``model`` itself if it is a ``Classifier`` or a ``BlackBox``, else a classifier with the
        box [0, 1].
        """
        return model if isinstance(model, Model) else cls(model)

    @property
    def input_shape(self) -> tuple[int | None, ...] | None:
        inputs = getattr(self.model, "inputs", None)
        return tuple(inputs[0].shape) if inputs else None

    @property
    def input_dtype(self) -> str | None:
        inputs = getattr(self.model, "inputs", None)
        return str(inputs[0].dtype) if inputs else None

    def only(self, output: str | int) -> Classifier:
        """The same model with one of its outputs chosen.

        Raises:
            InvalidInput: another one is chosen already, or there is none of this name.
        """
        if self.output is not None and self.output != output:
            raise InvalidInput(
                f"the goal is about the output {shown(output)}, and the classifier has chosen"
                f" another, output={shown(self.output)}: leave that out"
            )
        made = Classifier(self.model, self.box, self.preprocess, None, output)
        made.names = self.names  # counted where the goal is about classes: a number has none
        return made

    @property
    def _symbol(self) -> Any:
        """The output in question as a symbol, where there is a graph and but one such output."""
        symbols = getattr(self.model, "outputs", None)
        if not symbols or (len(symbols) > 1 and self.output is None):
            return None
        if self.output is None:
            return symbols[0]
        structure = getattr(self.model, "_outputs_struct", symbols)
        return symbols[outputs.place(structure, self.output, self.model)]

    @property
    def _one_unit(self) -> bool:
        symbol = self._symbol
        return symbol is not None and (len(symbol.shape) == 1 or tuple(symbol.shape[1:]) == (1,))

    @property
    def known_classes(self) -> int | None:
        symbol = self._symbol
        if symbol is None or len(symbol.shape) > 2:
            return None
        if len(symbol.shape) == 2 and symbol.shape[1] is None:
            return None
        return max(2, symbol.shape[1]) if len(symbol.shape) == 2 else 2

    def forward(self, sample: Array, reading: Reading = "scores") -> Forward:
        reading = self._resolved(sample, reading)

        key = "forward", self.output, reading
        forward: Any = self.compiled(key, lambda: self._fresh(sample, reading))
        if isinstance(reading, str) and reading != "raw" and isinstance(forward.classes, int):
            self._check_names(forward.classes)
        return forward

    def judge(self, sample: Array, reading: Reading = "scores") -> Callable[[Tensor], Any]:
        return _backend.immediate(self.forward(sample, reading).exact)

    def renewed(self, sample: Array, logits: Array, reading: Reading = "scores") -> bool:
        """Whether the head is another one than it was, by another look where ``logits`` make it
        doubtful: then all that was compiled goes. Where nothing is compiled, nothing else would
        show it.
        """
        reading = self._resolved(sample, reading)
        known = self.forward(sample, reading)
        if known.suits(logits):
            return False
        fresh = self._fresh(sample, reading)
        if fresh.head.name == known.head.name:
            known.spent += fresh.spent
            return False
        self.forget()
        self.compiled(("forward", self.output, reading), lambda: fresh)
        return True

    def about(self, reading: Reading) -> Hashable:
        return self.output, reading

    def kept(self) -> cache.Kept:
        return cache.kept(self.model, self.preprocess)

    def _resolved(self, sample: Array, reading: Reading) -> Reading:
        """The reading; that of all outputs becomes that of one, if there is but one."""
        if not isinstance(reading, str) or not reading.endswith(TREE):
            return reading
        one = reading.removesuffix(TREE)
        symbols = getattr(self.model, "outputs", None)
        if self.output is not None or (symbols and len(symbols) == 1):
            return one
        if symbols:
            return reading
        try:
            self.forward(sample, one)
        except SeveralOutputs:
            return reading
        return one

    def _fresh(self, sample: Array, reading: Reading) -> Forward:
        """The forward pass, with a look at the head."""
        points = ops.convert_to_tensor(sample)
        about = self.model, self.preprocess, points, self.box
        if not isinstance(reading, str):
            return SeveralForward(*about, reading, self.output)
        if reading.endswith(TREE):
            raw = KerasForward(*about, 0, "raw").raw
            structure = outputs.structure(self.model, raw, points)
            every = range(len(tree.flatten(structure)))
            parts = tuple((number, reading) for number in every)
            return SeveralForward(*about, parts, None, structure)
        return KerasForward(*about, self.output, reading)

    def _check_names(self, count: int) -> None:
        if self.names is not None and len(self.names) != count:
            raise InvalidInput(
                f"classes has {len(self.names)} names, but the model has {count} classes: name"
                " each of them"
            )

    def __repr__(self) -> str:
        output = "" if self.output is None else f", output={shown(self.output)}"
        return f"Classifier({self.model.name!r}, box={self.box}{output})"
