"""The errors about what cannot be attacked, each with the way to what can."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from advex import _backend
from advex.errors import InvalidInput
from advex.model.protocol import Model

FRAMEWORK_NAMES = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "torch"}
KERAS_2_MODULES = (
    "tf_keras.",
    "keras.engine.",
    "keras.src.engine.",
    "tensorflow.python.keras.",
)
FUNCTION_RECIPE = "keras.Sequential([keras.Input(x.shape[1:]), keras.layers.Lambda(model)])"


def demand_rows(asked: int, shape: tuple[Any, ...]) -> None:
    """Raise unless a model has given one answer to each input.

    Raises:
        InvalidInput: it gave more, or fewer.
    """
    if not shape or shape[0] != asked:
        raise InvalidInput(
            f"the model must answer with one row for each input; for {asked} inputs it answered"
            f" with shape {tuple(shape)}. If an input has several parts, such as the frames of a"
            " clip, let the model end in their mean"
        )


def way_in(model: Any) -> str:
    """How that which is no Keras 3 model gets to be attacked: the end of the error's sentence."""
    kind = model if isinstance(model, type) else type(model)
    homes = [base.__module__ for base in kind.__mro__]
    if isinstance(model, Model):
        taken = ": its model is another's already: model.model"
        return taken if model.model is not None else ": pass it to the attack as it is"
    if isinstance(model, type):
        ours = issubclass(model, keras.Model | Model)
        return f": make one, model = {kind.__name__}(...)" if ours else ""
    if isinstance(model, str | os.PathLike):
        return f": model = keras.models.load_model({str(model)!r})"
    if any(home.startswith(KERAS_2_MODULES) for home in homes):
        return _from_keras_2(homes[0].startswith(KERAS_2_MODULES))
    if any(home.startswith("torch.nn.modules") for home in homes):
        return _from_torch()
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
            " call_endpoint='serving_default') is a layer; model ="
            " keras.Sequential([keras.Input(x.shape[1:]), layer])"
        )
    if callable(model):
        return (
            ": without gradients advex.BlackBox(model, classes=10) for a plain function of a NumPy"
            f" array; a function of {FRAMEWORK_NAMES[_backend.NAME]} tensors keeps its gradients in"
            f" model = {FUNCTION_RECIPE}"
        )
    return ""


def _from_keras_2(plain: bool) -> str:
    """For models of Keras 2; ``plain`` ones have a class of Keras itself."""
    route = (
        "convert it: model.save('model.h5'), then model = keras.models.load_model('model.h5',"
        " compile=False)"
        if plain
        else "its subclasses cannot be converted; as a function on TensorFlow it keeps its"
        f" gradients: model = {FUNCTION_RECIPE}"
    )
    return f", a Keras 2 model (tf_keras), and advex needs one of Keras 3: {route}"


def _from_torch() -> str:
    wrapped = "keras.Sequential([keras.Input(x.shape[1:]), keras.layers.TorchModuleWrapper(model)])"
    if _backend.NAME == "torch":
        return f", a module of PyTorch: model = {wrapped}"
    return (
        f", a module of PyTorch: set KERAS_BACKEND=torch and model = {wrapped}; or without"
        " gradients advex.BlackBox(lambda x: model(torch.from_numpy(x)).detach().numpy(),"
        " classes=10)"
    )


def no_scores(shape: tuple[int | None, ...]) -> InvalidInput:
    """The error for a model that answers with nothing for each input."""
    return InvalidInput(
        f"the model must answer with (batch, ...), but its output has shape {shape}, which has"
        " nothing in it"
    )


class SeveralOutputs(InvalidInput):
    """A model with several outputs, where one is needed."""

    @classmethod
    def of(cls, names: Sequence[str | int]) -> SeveralOutputs:
        """The error that names them, and says how to choose."""
        listed = ", ".join(map(repr, names))
        first = repr(names[0])
        return cls(
            f"the model has several outputs ({listed}); attack one of them: model ="
            f" advex.Classifier(model, output={first}); or a goal for each:"
            f" advex.AnyOf(advex.Output({first}, labels), advex.Output({names[-1]!r}, labels))"
        )
