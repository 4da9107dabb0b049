"""A Keras model under attack, and the domain of its inputs."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, ClassVar

import keras
from keras import ops, tree

from advex import _backend
from advex._arrays import Array, Tensor
from advex._settings import helpful, shown
from advex.domain import Domain
from advex.errors import InvalidInput, InvalidType
from advex.goals.base import TREE, Reading
from advex.model import cache, outputs
from advex.model.domain import checked_domain, checked_names
from advex.model.forward import KerasForward, structured
from advex.model.perturbed import checked_perturb, input_names, layer_of, unknown, which_input
from advex.model.protocol import Forward, Model
from advex.model.refusals import SeveralOutputs, way_in
from advex.model.several import SeveralForward
from advex.model.training import bare


class Classifier(Model):
    """A Keras model and the domain of its inputs. Needed only where that domain is not [0, 1].

    When to use it:
        Whenever a model does not take values from 0 to 1, needs preprocessing, has several inputs
        or outputs, or when its class names are to appear in pictures. Otherwise give the model
        itself.

    Args:
        model: any ``keras.Model``: functional, sequential, subclassed, compiled or not. It may end
            in logits, softmax, one sigmoid unit, or one for each class; for goals that are not
            about classes in anything, see ``advex.goals``.
        box: lowest and highest legal value of ``x``, before preprocessing; or a ``Domain``; of
            several inputs that are attacked a dict with one of these for each.
        preprocess: applied to ``x`` before the model: a function of backend tensors, or a layer; of
            several inputs a function of all, in the structure that the model takes.
        classes: the names of the classes, or of the labels, for captions.
        output: which of several outputs is attacked: its name (the key of a dict, or the name of
            its layer) or its number. None: there is but one, or the goal says it, see
            ``advex.Output``.
        perturb: which of several inputs is attacked: its name (the key of a dict, or the name of
            the input) or its number; the others stay as they are, row by row. A list of names: all
            these at once, with a budget each. The name of a layer: the output of that layer, such
            as an embedding; the model may be subclassed. ``box`` is about what is attacked.

    Raises:
        InvalidInput: a box without two finite, increasing ends; several inputs of which none is
            chosen; an input, a layer or an output that is not there.
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
    known_as: str = ""
    """What people call the model, such as the file it came from; empty where nobody has said."""

    @helpful
    def __init__(
        self,
        model: keras.Model,
        box: tuple[float, float] | Domain | Mapping[str, tuple[float, float] | Domain] = (0, 1),
        preprocess: Callable[[Tensor], Tensor] | None = None,
        classes: Sequence[str] | None = None,
        output: str | int | None = None,
        perturb: str | int | Sequence[str | int] | None = None,
    ) -> None:
        model = bare(model)
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
        self.model, self.preprocess = model, preprocess
        self.perturb = checked_perturb(perturb)
        self._demand_inputs()
        self.boxes = _boxes(box, self.perturb)
        self.domain = next(iter(self.boxes.values()))
        ends = [each.ends for each in self.boxes.values()]
        self.box = min(low for low, _ in ends), max(high for _, high in ends)
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

    def _demand_inputs(self) -> None:
        """Raise unless it is known what is attacked, as far as the graph tells."""
        names = input_names(self.model)
        if names is None:
            return
        own = [each[0] for each in names]
        if not self.perturb and len(own) > 1:
            raise InvalidInput(which_input(own))
        for name in self.perturb:
            if not any(name in each for each in names) and layer_of(self.model, name) is None:
                raise unknown(name, self.model, own)

    def domain_of(self, name: str) -> Domain:
        names = input_names(self.model) or []
        aliases = next((each for each in names if name in map(str, each)), [name])
        for alias in aliases:
            if str(alias) in self.boxes:
                return self.boxes[str(alias)]
        return self.domain

    def ask(self, inputs: Any) -> Any:
        """What the model itself answers to tensors in the structure that it takes."""
        raw = inputs if self.preprocess is None else self.preprocess(inputs)
        return self.model(structured(self.model, raw), training=False)

    @property
    def layer(self) -> str | int | None:
        """The layer whose output is attacked; None: an input is."""
        if len(self.perturb) != 1:
            return None
        name = self.perturb[0]
        known = input_names(self.model)
        if known is None:
            return name if layer_of(self.model, name) is not None else None
        return None if any(name in each for each in known) else name

    @property
    def input_shape(self) -> tuple[int | None, ...] | None:
        inputs = getattr(self.model, "inputs", None)
        if not inputs or len(inputs) > 1 or self.layer is not None:
            return None
        return tuple(inputs[0].shape)

    @property
    def input_dtype(self) -> str | None:
        inputs = getattr(self.model, "inputs", None)
        if not inputs or self.layer is not None:
            return None
        if len(inputs) == 1:
            return str(inputs[0].dtype)
        names = input_names(self.model) or []
        chosen = [place for place, each in enumerate(names) if set(each) & set(self.perturb)]
        whole = [str(inputs[place].dtype) for place in chosen]
        return next((dtype for dtype in whole if "float" not in dtype), whole[0] if whole else None)

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
        chosen = list(self.perturb) or None
        made = Classifier(self.model, (0, 1), self.preprocess, None, output, chosen)
        made.boxes, made.domain, made.box = self.boxes, self.domain, self.box
        made.known_as = self.known_as
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

    def forward(self, sample: Any, reading: Reading = "scores") -> Forward:
        reading = self._resolved(sample, reading)

        key = "forward", self.output, reading, self.layer
        forward: Any = self.compiled(key, lambda: self._fresh(sample, reading))
        if isinstance(reading, str) and reading != "raw" and isinstance(forward.classes, int):
            self._check_names(forward.classes)
        return forward

    def judge(self, sample: Any, reading: Reading = "scores") -> Callable[[Tensor], Any]:
        return _backend.immediate(self.forward(sample, reading).exact)

    def renewed(self, sample: Any, logits: Array, reading: Reading = "scores") -> bool:
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
        self.compiled(("forward", self.output, reading, self.layer), lambda: fresh)
        return True

    def about(self, reading: Reading) -> Hashable:
        return self.output, reading, self.layer

    def kept(self) -> cache.Kept:
        return cache.kept(self.model, self.preprocess)

    def _resolved(self, sample: Any, reading: Reading) -> Reading:
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

    def _fresh(self, sample: Any, reading: Reading) -> Forward:
        """The forward pass, with a look at the head."""
        points = tree.map_structure(ops.convert_to_tensor, sample)
        ends = self.domain.low, self.domain.high
        about, layer = (self.model, self.preprocess, points, ends), self.layer
        if not isinstance(reading, str):
            return SeveralForward(*about, reading, self.output, layer=layer)
        if reading.endswith(TREE):
            raw = KerasForward(*about, 0, "raw", layer).raw
            structure = outputs.structure(self.model, raw, points)
            every = range(len(tree.flatten(structure)))
            parts = tuple((number, reading) for number in every)
            return SeveralForward(*about, parts, None, structure, layer)
        return KerasForward(*about, self.output, reading, layer)

    def _check_names(self, count: int) -> None:
        if self.names is not None and len(self.names) != count:
            raise InvalidInput(
                f"classes has {len(self.names)} names, but the model has {count} classes: name"
                " each of them"
            )

    def __repr__(self) -> str:
        output = "" if self.output is None else f", output={shown(self.output)}"
        chosen = list(self.perturb) if len(self.perturb) != 1 else self.perturb[0]
        perturb = f", perturb={chosen!r}" if self.perturb else ""
        told = {
            name: domain.ends if domain.plain and domain.fixed is None else domain
            for name, domain in self.boxes.items()
        }
        box = told.get("", told)
        return f"Classifier({self.model.name!r}, box={box}{output}{perturb})"


def _boxes(box: Any, perturb: tuple[str | int, ...]) -> dict[str, Domain]:
    """The domain of each input that is attacked by name; under no name that of all."""
    if not isinstance(box, Mapping) or not perturb:
        return {"": checked_domain(box)}
    if set(box) != set(perturb):
        raise InvalidInput(
            f"box as a dict must have an entry for each input that is attacked, {list(perturb)};"
            f" received boxes of {', '.join(map(repr, box)) or 'nothing'}"
        )
    return {str(name): checked_domain(each) for name, each in box.items()}
