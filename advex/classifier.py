"""The model under attack: its box, its preprocessing, its head, and logits whatever that head
is.
"""

from __future__ import annotations

import math
import os
import types
import weakref
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from keyword import iskeyword
from typing import Any, ClassVar, TypeAlias

import keras
import numpy as np
from keras import ops

from advex import _backend, folding
from advex._arrays import Array, Tensor, flat
from advex._settings import helpful, real_number, shown
from advex.errors import InvalidInput, InvalidType, blaming

TINY = 1e-37  # the smallest probability whose logarithm is taken
SURE = 1 - 2.0**-24  # the largest one below 1 in float32
FOLDED = 4e-6  # of the largest logit: what folding may change

ITSELF = "Does it run by itself, model(x[:1]), and compiled, model.predict(x[:1])?"

Ask: TypeAlias = Callable[[keras.Model, Any], Any]

_COMPILED: weakref.WeakKeyDictionary[keras.Model, dict[Hashable, Any]] = weakref.WeakKeyDictionary()
KEPT = 32  # compiled functions per model and preprocessing; the oldest goes
PREPARED = 8  # ways of preprocessing for which functions are kept
# these stay: what the head is, and the trace that is older than all others
LASTING = (
    "forward",
    "canary",
)
PROBES = 16  # random inputs that must look like probabilities too before a guess is made

# modules of Keras 2
KERAS_2 = (
    "tf_keras.",
    "keras.engine.",
    "keras.src.engine.",
    "tensorflow.python.keras.",
)
FRAMEWORKS = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "torch"}
# names that the recipe for several inputs uses itself
TAKEN = {
    "x",
    "model",
    "hold",
    "keras",
    "values",
    "advex",
}
# Constants of shape (1, ...) as often as there are rows, on every backend.
HOLD = (
    "hold = lambda values: keras.layers.Lambda(lambda x: keras.ops.repeat(values,"
    " keras.ops.shape(x)[0], axis=0))({})"
)

# operations that leave the values alone
SHAPES = (
    "Reshape",
    "Squeeze",
    "Flatten",
    "ExpandDims",
    "Identity",
)


def _identity(thing: Any) -> Hashable:
    """What stands for ``thing`` in a key: itself, or its address (what is compiled with it keeps it
    alive).
    """
    try:
        hash(thing)
    except TypeError:
        return id(thing)
    return thing


def _layers(model: keras.Model) -> list[keras.layers.Layer]:
    """The model and every layer in it, however deep."""
    return list(model._flatten_layers())


def _mark(model: keras.Model) -> Hashable:
    """What a trace of the model has made constant: its layers, and their attributes that are plain
    values or functions.
    """

    def plain(layer: keras.layers.Layer) -> Iterator[tuple[str, Hashable]]:
        for name, value in vars(layer).items():
            if isinstance(value, types.FunctionType):
                yield name, id(value)  # its closure may hold the model
            elif (
                name[0] != "_"
                and name != "built"
                and isinstance(value, bool | int | float | str | None)
            ):
                yield name, value

    return tuple((id(layer), *plain(layer)) for layer in _layers(model))


def _with_linear_activation(layer: keras.layers.Layer) -> keras.layers.Layer:
    """A layer that shares everything with ``layer`` but its activation: nothing of the user's model
    is touched.
    """
    twin = object.__new__(type(layer))
    twin.__dict__.update(layer.__dict__)
    twin.__dict__["activation"] = keras.activations.linear
    return twin


def _structured(model: keras.Model, x: Tensor) -> Any:
    """``x`` the way a functional model was built to take its one input: alone, in a list or in a
    dict.
    """
    structure = getattr(model, "_inputs_struct", None)
    return (
        keras.tree.pack_sequence_as(structure, [x])
        if isinstance(structure, list | tuple | dict)
        else x
    )


def _ask(model: keras.Model, x: Any) -> Any:
    """What ``model`` itself answers at inference."""
    return model(x, training=False)


def _until(model: keras.Model, tensor: keras.KerasTensor) -> Callable[[Tensor, Ask], Tensor]:
    """``model`` from its input to one of its inner tensors, in inference mode."""
    if tensor is model.inputs[0]:
        return lambda x, _: x
    part = keras.Model(model.inputs[0], tensor, name="advex_part")
    return lambda x, ask: ask(part, x)


def _last(model: keras.Model) -> tuple[keras.Operation, keras.KerasTensor] | None:
    """The last operation of a functional or sequential model that does more than change shapes, and
    its input.
    """
    outputs = getattr(model, "outputs", None)
    if not outputs or len(outputs) != 1 or len(model.inputs) != 1:
        return None
    tensor = outputs[0]
    while (
        history := getattr(tensor, "_keras_history", None)
    ) is not None and history.operation is not None:
        node = history.operation._inbound_nodes[history.node_index]
        if len(node.input_tensors) != 1:
            return None
        tensor = node.input_tensors[0]
        if type(history.operation).__name__ not in SHAPES:
            return history.operation, tensor
    return None


def _before_activation(model: keras.Model) -> tuple[str, Callable[[Tensor, Ask], Tensor]] | None:
    """The name of the final softmax or sigmoid of a functional or sequential model, and the model
    without it.
    """
    last = _last(model)
    if last is None:
        return None
    layer, until = last[0], _until(model, last[1])
    if isinstance(layer, keras.Model):
        inner = _before_activation(layer)
        return inner and (inner[0], lambda x, ask: inner[1](until(x, ask), ask))
    names = {keras.activations.softmax: "softmax", keras.activations.sigmoid: "sigmoid"}
    if isinstance(layer, keras.layers.Activation):
        return (names[layer.activation], until) if layer.activation in names else None
    if isinstance(layer, keras.layers.Layer):
        if isinstance(layer, keras.layers.Softmax):
            return ("softmax", until) if layer.axis in (-1, 1) else None
        if getattr(layer, "activation", None) in names:
            # The twin is made anew each time: the layer may have been given another class or other
            # variables meanwhile.
            return names[layer.activation], lambda x, ask: _with_linear_activation(layer)(
                until(x, ask)
            )
        return None
    # keras.ops.softmax and keras.ops.sigmoid in a functional model
    if type(layer).__name__ in (
        "Softmax",
        "Sigmoid",
    ):
        return type(layer).__name__.lower(), until
    return None


def _ends_known(model: keras.Model | None) -> bool:
    """Whether the graph says that the last layer's activation is none that makes probabilities."""
    last = _last(model) if model is not None else None
    if last is None:
        return False
    if isinstance(last[0], keras.Model):
        return _ends_known(last[0])
    activation = getattr(last[0], "activation", None)
    makers = (
        keras.activations.sigmoid,
        keras.activations.hard_sigmoid,
        keras.activations.softmax,
        keras.activations.sparsemax,
    )
    return activation in vars(keras.activations).values() and activation not in makers


def _probable(values: Array) -> bool:
    """Whether all of them can be probabilities."""
    return bool(np.isfinite(values).all() and (values >= 0).all() and (values <= 1 + 1e-5).all())


def demand_rows(asked: int, shape: tuple[Any, ...]) -> None:
    """Raise unless a model has given one answer to each input.

    Raises:
        InvalidInput: it gave more, or fewer.
    """
    if not shape or shape[0] != asked:
        raise InvalidInput(
            f"the model must answer with one row for each input; for {asked} inputs it answered"
            f" with shape {tuple(shape)}. If an"
            " input has several parts, such as the frames of a clip, let the model end in their"
            " mean"
        )


class Forward:
    """From inputs in the model's units to logits (batch, classes). Holds the model weakly, so that
    it can be cached with it.
    """

    def __init__(self, model: keras.Model, preprocess: Callable[[Tensor], Tensor] | None) -> None:
        self._model = weakref.ref(model)
        self._preprocess = preprocess
        self._recovered: Callable[[Tensor, Ask], Tensor] | None = None
        self.head = ""
        self.note = ""
        self.classes = 0
        self.coarse = False
        """Whether the model computes in half precision."""
        self.independent = False
        """Whether each class has a probability of its own (a sigmoid unit each), which need not sum
        to 1.
        """
        self.spent = 0
        """Passes that looking at the head has cost and nobody has accounted for yet."""
        self.folded = False
        """Whether calls fold batch normalisation away; set where that was seen to change nothing
        that matters.
        """

    def _prepared(self, x: Tensor) -> Tensor:
        if self._preprocess is None:
            return x
        with blaming("preprocess"):
            # A copy: torch lets a preprocessing that is written in place, x -= mean, edit the data
            # of the search.
            made = self._preprocess(ops.copy(x))
        if not ops.is_tensor(made):
            raise InvalidType(
                f"preprocess must return a tensor; it returned {type(made).__name__}. NumPy has no"
                f" gradients: write it with"
                " keras.ops, such as lambda x: (x - mean) / std"
            )
        return made

    def raw(self, x: Tensor, ask: Ask = _ask) -> Any:
        """What the model itself answers."""
        model = self._model()
        if model is None:
            raise ReferenceError("the model is gone: keep a reference to it while it is attacked")
        prepared = _structured(model, self._prepared(x))
        with blaming(f"the model {model.name!r}", ITSELF):
            return ask(model, prepared)

    def variables(self) -> list[keras.Variable]:
        """All that the forward pass reads."""
        model = self._model()
        return [
            *(model.variables if model is not None else []),
            *getattr(self._preprocess, "variables", []),
        ]

    def detect(self, sample: Tensor, box: tuple[float, float] = (0.0, 1.0)) -> None:
        """Find out what the model's outputs are, from its graph and from its answer to a few inputs
        of the ``box``.
        """
        answer = self.raw(sample)
        if isinstance(answer, dict | list | tuple):
            names = list(answer) if isinstance(answer, dict) else list(range(len(answer)))
            raise _several(names)
        shape = tuple(answer.shape)
        if len(shape) not in (1, 2) or (len(shape) == 2 and shape[1] == 0):
            raise _unclassified(shape)
        demand_rows(int(sample.shape[0]), shape)
        values = (
            _backend.to_numpy(ops.cast(answer, "float32")).astype("float64").reshape(shape[0], -1)
        )
        self.classes, self.spent = max(2, values.shape[1]), shape[0]
        model = self._model()
        halves = {
            layer.compute_dtype for layer in (_layers(model) if model is not None else [])
        } & {"float16", "bfloat16"}
        self.coarse = bool(halves)
        found = _before_activation(model) if model is not None else None
        units = values.shape[1]
        if found is not None:
            kind, inner = found
            logits = (
                _backend.to_numpy(ops.cast(inner(self._prepared(sample), _ask), "float32"))
                .astype("float64")
                .reshape(shape[0], -1)
            )
            self.spent += shape[0]
            again = (
                1 / (1 + np.exp(-logits))
                if kind == "sigmoid"
                else np.exp(logits - logits.max(1, keepdims=True))
            )
            again = again if kind == "sigmoid" else again / again.sum(1, keepdims=True)
            if np.allclose(again, values, atol=5e-2 if self.coarse else 1e-3, equal_nan=True):
                self._recovered = inner
                self.head = kind if units > 1 or kind == "softmax" else "sigmoid, one unit"
                self.note = f"The model ends in {kind}; advex works with the logits before it."
                if kind == "sigmoid" and units > 1:
                    self.independent = True
                    self.note += (
                        " Each class has a probability of its own; the largest is the prediction."
                    )
                return
        probable = _probable(values)
        if units == 1:
            # A few logits may lie between 0 and 1 by chance: where the graph tells nothing, random
            # inputs do.
            between = probable and not _ends_known(model) and self._probable_everywhere(sample, box)
            self.head = "probability, one unit" if between else "logit, one unit"
            if self.head.startswith("probability"):
                self.note = (
                    "The model has one output unit between 0 and 1: taken for the probability of"
                    " class 1 (binary). advex works"
                    " with its logarithms, which saturate."
                )
            else:
                self.note = (
                    "The model has one output unit without a sigmoid: taken for the logit of a"
                    " binary classifier, class 1 above"
                    " 0. A regression, whose output is a number, is not supported yet."
                )
        elif probable and (np.abs(values.sum(1) - 1) < (2e-2 if self.coarse else 1e-5)).all():
            self.head = "probabilities"
            self.note = (
                "The model answers with probabilities whose logits could not be recovered; advex"
                " works with their logarithms,"
                " whose gradients vanish where a probability underflows. Give the model without"
                " its softmax if you can."
            )
        elif probable and not _ends_known(model) and self._probable_everywhere(sample, box):
            self.independent = True
            self.head = "probabilities, one per class"
            self.note = (
                "The model answers with numbers from 0 to 1 that do not sum to 1: taken for a"
                " probability of its own for each"
                " class. advex works with their log-odds, which saturate. Give the model without"
                " its sigmoids if you can."
            )
        else:
            self.head = "logits"

    def _probable_everywhere(self, sample: Tensor, box: tuple[float, float]) -> bool:
        """Whether random inputs, too, are answered with numbers from 0 to 1."""
        shape = (PROBES, *map(int, sample.shape[1:]))
        noise = np.random.default_rng(0).uniform(*box, size=shape).astype("float32")
        self.spent += PROBES
        answer = self.raw(ops.convert_to_tensor(noise))
        return _probable(_backend.to_numpy(ops.cast(answer, "float32")).astype("float64"))

    def suits(self, logits: Array) -> bool:
        """Whether the model's answers still look like those of the head that was found: a model may
        have changed since.

        ``logits``, (n, classes), are what became of its answers. False: it is worth another look.
        """
        known = logits[np.isfinite(logits).all(axis=1)].astype("float64")
        if self.doubtful and self.independent:
            # beyond it a number was above 1
            return bool((known <= np.log(SURE) - np.log1p(-SURE) + 1e-3).all())
        if self.doubtful:
            return bool((np.abs(np.exp(np.minimum(known, 99)).sum(axis=1) - 1) < 5e-2).all())
        units = known[:, 1:] if self.head.endswith("one unit") else known
        return not len(known) or not _probable(units) or _ends_known(self._model())

    def differs(self, one: Array, other: Array, scale: float = 1e-6) -> bool:
        """Whether two answers of the model to the same inputs differ by more than rounding errors
        of logits of this ``scale``.
        """
        scale = max(float(np.abs(one[np.isfinite(one)]).max(initial=0)), scale)
        return not np.allclose(
            one, other, rtol=0, atol=(5e-2 if self.coarse else 1e-4) * scale, equal_nan=True
        )

    @property
    def slack(self) -> float:
        """How many times the usual noise of the logits a margin must exceed: half precision is ten
        thousand times noisier.
        """
        return 1e4 if self.coarse else 1.0

    @property
    def caution(self) -> float:
        """How many times the margin of the final judgement the search asks for, which looks through
        this function.
        """
        return 10.0 if self.folded else 2.0

    @property
    def doubtful(self) -> bool:
        """Whether the logits are only logarithms of probabilities."""
        return self.head.startswith("probabilit")

    def fold(self, x: Tensor, logits: Array) -> int:
        """Fold batch normalisation from now on if that leaves ``logits``, the true ones of ``x``,
        as they are; queries spent.
        """
        model = self._model()
        self.folded = False
        if self.coarse or model is None or not folding.folds(model):
            return 0
        twin = _backend.to_numpy(self._asked(x, folding.answer))
        self.folded = bool(
            np.abs(twin - logits).max(initial=0) <= FOLDED * np.abs(logits).max(initial=0)
        )
        return len(logits)

    def __call__(self, x: Tensor, live: Tensor | None = None) -> Tensor:
        """Logits, float32: (batch, ...) -> (batch, classes). Rows that are not ``live`` need no
        true answer.
        """
        return self._asked(x, folding.answer if self.folded else _ask)

    def exact(self, x: Tensor) -> Tensor:
        """The same by nothing but the model itself."""
        return self._asked(x, _ask)

    def _asked(self, x: Tensor, ask: Ask) -> Tensor:
        answer = (
            self._recovered(self._prepared(x), ask)
            if self._recovered is not None
            else self.raw(x, ask)
        )
        if isinstance(x.shape[0], int) and isinstance(answer.shape[0], int):
            demand_rows(int(x.shape[0]), tuple(answer.shape))
        answer = flat(ops.cast(answer, "float32"))
        if self.independent and self.doubtful:
            return ops.log(ops.maximum(answer, TINY)) - ops.log1p(-ops.minimum(answer, SURE))
        if answer.shape[1] == 1:
            if self.doubtful:
                answer = ops.concatenate([1 - answer, answer], axis=1)
            else:
                return ops.concatenate([ops.zeros_like(answer), answer], axis=1)
        return ops.log(ops.maximum(answer, TINY)) if self.doubtful else answer

    def probabilities(self, logits: Tensor) -> Tensor:
        """What the model itself calls the probability of each class: (batch, classes)."""
        return ops.sigmoid(logits) if self.independent else ops.softmax(logits)


class Classifier:
    """A Keras model and the domain of its inputs. Needed only where that domain is not [0, 1].

    Args:
        model: any ``keras.Model`` with one input and one output: functional, sequential,
            subclassed, compiled or not. It may end in logits, softmax, one sigmoid unit, or one for
            each class.
        box: lowest and highest legal value of ``x``, before preprocessing.
        preprocess: applied to ``x`` before the model: a function of backend tensors, or a layer.
        classes: the names of the classes, for captions.

    Raises:
        InvalidInput: a box without two finite, increasing ends; several inputs.
        InvalidType: something that is not a ``keras.Model``.

    Example:
        >>> import keras
        >>> layers = [keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(10)]
        >>> model = keras.Sequential(layers, name="small")
        >>> Classifier(model, box=(0, 255), preprocess=lambda x: x / 127.5 - 1)
        Classifier('small', box=(0.0, 255.0))
    """

    symbolic: ClassVar[bool] = True
    """Whether the model works on tensors: can be traced, compiled and differentiated, and asked for
    nothing at no cost.
    """

    @helpful
    def __init__(
        self,
        model: keras.Model,
        box: tuple[float, float] = (0, 1),
        preprocess: Callable[[Tensor], Tensor] | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        if not isinstance(model, keras.Model):
            kind = model.__name__ if isinstance(model, type) else type(model).__name__
            raise InvalidType(
                f"model must be a keras.Model or an advex.Classifier; received"
                f" {kind}{_way_in(model)}"
            )
        if preprocess is not None and not callable(preprocess):
            raise InvalidType(
                f"preprocess must be a function of a tensor; received {type(preprocess).__name__}"
            )
        if len(getattr(model, "inputs", None) or [0]) != 1:
            raise InvalidInput(_all_but_one(model))
        self.model, self.preprocess = model, preprocess
        self.box = _box(box)
        self.names = _names(classes)
        _check_outputs(model)
        if self.known_classes is not None:
            self._check_names(self.known_classes)

    @classmethod
    def of(cls, model: Any) -> Classifier:
        """``model`` itself if it is a classifier, else one with the box [0, 1]."""
        return model if isinstance(model, Classifier) else cls(model)

    @property
    def input_shape(self) -> tuple[int | None, ...] | None:
        """The model's input shape with the batch axis, where it is known."""
        inputs = getattr(self.model, "inputs", None)
        return tuple(inputs[0].shape) if inputs else None

    @property
    def input_dtype(self) -> str | None:
        """The dtype that the model turns its input into, where its graph tells it."""
        inputs = getattr(self.model, "inputs", None)
        return str(inputs[0].dtype) if inputs else None

    @property
    def known_classes(self) -> int | None:
        """The number of classes, where the model's graph tells it."""
        outputs = getattr(self.model, "outputs", None)
        if not outputs or (len(outputs[0].shape) == 2 and outputs[0].shape[1] is None):
            return None
        return max(2, outputs[0].shape[1]) if len(outputs[0].shape) == 2 else 2

    def _check_names(self, count: int) -> None:
        if self.names is not None and len(self.names) != count:
            raise InvalidInput(
                f"classes has {len(self.names)} names, but the model has {count} classes: name"
                f" each of them"
            )

    def forward(self, sample: Array) -> Forward:
        """The forward pass to logits; ``sample``, a few inputs in the model's units, is used to
        look at the head once.
        """

        def make() -> Forward:
            forward = Forward(self.model, self.preprocess)
            forward.detect(ops.convert_to_tensor(sample), self.box)
            self._check_names(forward.classes)
            return forward

        return self.compiled(("forward",), make)  # type: ignore[return-value]

    def renewed(self, sample: Array, logits: Array) -> bool:
        """Whether the head is another one than it was, by another look where ``logits`` make it
        doubtful: then all that was compiled goes. Nothing else shows that where nothing is
            compiled.
        """
        known = self.forward(sample)
        if known.suits(logits):
            return False
        fresh = Forward(self.model, self.preprocess)
        fresh.detect(ops.convert_to_tensor(sample), self.box)
        if fresh.head == known.head:
            known.spent += fresh.spent
            return False
        self.forget()
        self.compiled(("forward",), lambda: fresh)
        return True

    def kept(self) -> dict[Hashable, Any]:
        """What was compiled for this very model and preprocessing; all of it goes when layers or
        plain attributes change.
        """
        groups = _COMPILED.setdefault(self.model, {})
        mark = _mark(self.model)
        if groups.get("mark") != mark:
            groups.clear()
            groups["mark"] = mark
        name = ("preprocess", _identity(self.preprocess))
        own: dict[Hashable, Any] = groups.pop(name, {})
        groups[name] = own  # the one used last is the last to go
        for oldest in [name for name in groups if name != "mark"][:-PREPARED]:
            del groups[oldest]
        return own

    def forget(self) -> None:
        """Drop all that was compiled for this model and preprocessing."""
        self.kept().clear()

    def compiled(self, key: Hashable, make: Callable[[], Callable[..., Any]]) -> Callable[..., Any]:
        """``make()``, or what it returned for the same key and model before."""
        try:
            hash(key)
        except TypeError:
            return make()
        kept = self.kept()
        if key not in kept:
            made = make()
            kept = self.kept()  # the mark may have changed: the first call builds a model
            kept[key] = made
            passing = [
                name for name in kept if not (isinstance(name, tuple) and name[0] in LASTING)
            ]
            for oldest in passing[:-KEPT]:
                del kept[oldest]
            return made
        found: Callable[..., Any] = kept[key]
        return found

    def judge(self, sample: Array) -> Callable[[Tensor], Tensor]:
        """The model itself, called as its user would call it: a tensor in the model's units ->
        logits. Nothing is compiled.
        """
        return _backend.immediate(self.forward(sample).exact)

    def canary(self, sample: Array) -> Callable[[Tensor], Tensor]:
        """The forward pass as it was compiled before everything else: where it answers as the model
        does, no trace is stale.
        """
        forward = self.forward(sample)
        shape = (None, *sample.shape[1:])
        return self.compiled(
            ("canary", sample.shape[1:]),
            lambda: _backend.compiled(forward.exact, [(shape, "float32")], forward.variables),
        )

    def caption(self, label: int) -> str:
        """The name of a class, or its number."""
        return (
            self.names[label]
            if self.names is not None and 0 <= label < len(self.names)
            else str(label)
        )

    def __repr__(self) -> str:
        return f"Classifier({self.model.name!r}, box={self.box})"


def _box(box: Any) -> tuple[float, float]:
    if isinstance(box, str | bytes | dict | set):
        raise InvalidType(f"box must be a pair (lowest, highest); received {shown(box)}")
    try:
        low, high = box
    except (TypeError, ValueError):
        raise InvalidType(f"box must be a pair (lowest, highest); received {shown(box)}") from None
    low, high = (real_number("each end of box", end, lowest=-math.inf) for end in (low, high))
    if not low < high:
        raise InvalidInput(
            f"box must be (lowest, highest) with lowest < highest; received {shown(box)}"
        )
    if not np.float32(low) < np.float32(high):
        raise InvalidInput(
            f"box must have room between its ends in float32, which the model works in; received"
            f" {shown(box)}"
        )
    return low, high


def _names(classes: Any) -> list[str] | None:
    if classes is None:
        return None
    if isinstance(classes, dict):
        raise InvalidType(
            "classes must be the list of the classes' names, in order; received a dict:"
            " [names[number] for number in sorted(names)] if its keys are the class numbers"
        )
    if isinstance(classes, str | bytes | set | frozenset) or not isinstance(classes, Iterable):
        raise InvalidType(
            f"classes must be the list of the classes' names, in order; received {shown(classes)}"
        )
    try:
        return list(map(str, classes))
    except TypeError:  # an array without axes
        raise InvalidType(
            f"classes must be the list of the classes' names, in order; received {shown(classes)}"
        ) from None


def _way_in(model: Any) -> str:
    """How that which is no Keras 3 model gets to be attacked: the end of the error's sentence."""
    kind = model if isinstance(model, type) else type(model)
    homes = [base.__module__ for base in kind.__mro__]
    own = homes[0].startswith(KERAS_2)
    layer = "keras.Sequential([keras.Input(x.shape[1:]), keras.layers.Lambda(model)])"
    if isinstance(model, Classifier):
        return ": its model is another's already: model.model"
    if isinstance(model, type):
        return (
            f": make one, model = {kind.__name__}(...)"
            if issubclass(model, keras.Model | Classifier)
            else ""
        )
    if isinstance(model, str | os.PathLike):
        return f": model = keras.models.load_model({str(model)!r})"
    if any(home.startswith(KERAS_2) for home in homes):
        route = (
            "convert it: model.save('model.h5'), then model = keras.models.load_model('model.h5',"
            " compile=False)"
            if own
            else (
                f"its subclasses cannot be converted; as a function on TensorFlow it keeps"
                f" its gradients: model = {layer}"
            )
        )
        return f", a Keras 2 model (tf_keras), and advex needs one of Keras 3: {route}"
    if any(home.startswith("torch.nn.modules") for home in homes):
        wrapped = (
            "keras.Sequential([keras.Input(x.shape[1:]), keras.layers.TorchModuleWrapper(model)])"
        )
        asked = "advex.BlackBox(lambda x: model(torch.from_numpy(x)).detach().numpy(), classes=10)"
        if _backend.NAME == "torch":
            return f", a module of PyTorch: model = {wrapped}"
        return (
            f", a module of PyTorch: set KERAS_BACKEND=torch and model = {wrapped}; or"
            f" without gradients {asked}"
        )
    if isinstance(model, keras.layers.Layer):
        return ", a layer alone: model = keras.Sequential([keras.Input(x.shape[1:]), model])"
    for name in ("predict_proba", "decision_function"):
        if callable(getattr(model, name, None)):
            return (
                f": without gradients advex.BlackBox(model.{name}, classes=10), with its"
                f" number of classes"
            )
    if isinstance(getattr(model, "signatures", None), Mapping) and not callable(model):
        return (
            ", a SavedModel without a call: keras.layers.TFSMLayer(folder,"
            " call_endpoint='serving_default') is a layer;"
            " model = keras.Sequential([keras.Input(x.shape[1:]), layer])"
        )
    if callable(model):
        return (
            ": without gradients advex.BlackBox(model, classes=10) for a plain function of a NumPy"
            " array; a function of"
            f" {FRAMEWORKS[_backend.NAME]} tensors keeps its gradients in model = {layer}"
        )
    return ""


def _all_but_one(model: keras.Model) -> str:
    """The error about several inputs: how to attack one of them while the others stay as they
    are.
    """
    inputs = list(model.inputs)
    structure = getattr(model, "_inputs_struct", None)
    given = [str(tensor.name) for tensor in inputs]
    usable = [
        name.isidentifier() and not iskeyword(name) and name not in TAKEN and given.count(name) == 1
        for name in given
    ]
    names = [
        name if fine else f"input_{place}"
        for place, (name, fine) in enumerate(zip(given, usable, strict=True))
    ]
    floats = [place for place, tensor in enumerate(inputs) if "float" in str(tensor.dtype)] or [0]
    chosen = max(floats, key=lambda place: len(inputs[place].shape))
    held = {place: f"hold({name})" if place != chosen else name for place, name in enumerate(names)}
    if isinstance(structure, dict) and all(
        isinstance(tensor, keras.KerasTensor) for tensor in structure.values()
    ):
        place = {id(tensor): number for number, tensor in enumerate(inputs)}
        passed = (
            "{"
            + ", ".join(f"{key!r}: {held[place[id(tensor)]]}" for key, tensor in structure.items())
            + "}"
        )
    else:
        passed = f"[{', '.join(held.values())}]"
    others = [
        f"{names[place]} of shape {(1, *tensor.shape[1:])}"
        for place, tensor in enumerate(inputs)
        if place != chosen
    ]
    return (
        f"the model has {len(inputs)} inputs, {', '.join(given)}; fix all but one:"
        f" {' and '.join(others)},"
        f" the same for every row (other values in each row are not possible yet): {names[chosen]}"
        f" ="
        f" keras.Input({tuple(inputs[chosen].shape[1:])}); {HOLD.format(names[chosen])};"
        f" model = keras.Model({names[chosen]}, model({passed}))"
    )


def _check_outputs(model: keras.Model) -> None:
    """Raise if the graph of a functional or sequential model says that it does not answer with
    (batch, classes).
    """
    outputs = getattr(model, "outputs", None)
    if not outputs:
        return
    structure = getattr(model, "_outputs_struct", None)
    if isinstance(structure, dict):
        raise _several(list(structure), "output")
    if len(outputs) > 1:
        raise _several(list(range(len(outputs))), "outputs")
    if len(outputs[0].shape) not in (1, 2):
        raise _unclassified(tuple(outputs[0].shape))


def _unclassified(shape: tuple[int | None, ...]) -> InvalidInput:
    """The error for a model whose answer is no score for each class. Flatten() would make each
    pixel's scores a class.
    """
    answer = f"the model must answer with (batch, classes), but its output has shape {shape}"
    if len(shape) > 2 and all(size == 1 for size in shape[1:-1]):
        return InvalidInput(
            f"{answer}: one place with its classes is model ="
            f" keras.Sequential([keras.Input(x.shape[1:]), model,"
            f" keras.layers.Reshape(({shape[-1]},))])"
        )
    if len(shape) == 3:
        return InvalidInput(
            f"{answer}: a class for each part of a sequence, or boxes of a detector, are not"
            f" supported yet"
        )
    if len(shape) > 3:
        return InvalidInput(
            f"{answer}: a class for each pixel (segmentation) is not supported yet; if these are"
            f" the feature maps of a network"
            " without its top (include_top=False), give the whole model, with the layers that"
            " classify"
        )
    return InvalidInput(f"{answer}, which has no classes")


def _several(names: list[Any], graph: str = "") -> InvalidInput:
    """The error about several outputs: how to attack the first; ``graph`` is the attribute that has
    them, where one has.
    """
    first = repr(names[0]) if names else 0
    recipe = (
        # keeps the graph, in which a softmax is found
        f"model = keras.Model(model.inputs, model.{graph}[{first}])"
        if graph
        else f"image = keras.Input(x.shape[1:]); model = keras.Model(image, model(image)[{first}])"
    )
    return InvalidInput(f"the model has several outputs ({names}); attack one of them: {recipe}")
