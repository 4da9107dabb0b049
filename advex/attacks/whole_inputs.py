"""Models that turn their input into whole numbers: no gradient passes, fractions are cut off."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from advex._arrays import Array
from advex.errors import GradientUnavailable, InvalidInput
from advex.model.protocol import Model

CLONE = (
    "keras.models.clone_model(model, input_tensors=keras.Input(model.input_shape[1:]),"
    " clone_function=lambda layer: layer)"
)
REBUILT = (  # the same for models in models
    "rebuilt = lambda layer: keras.models.clone_model(layer,"
    " input_tensors=keras.Input(layer.input_shape[1:]), clone_function=rebuilt) if"
    " isinstance(layer, keras.Sequential) or len(getattr(layer, 'inputs', [])) == 1 else layer"
)


def demand_fractions(classifier: Model, label: str, gradient: bool, x: Array) -> None:
    """Raise if the model turns its input into whole numbers: no gradient passes, and fractions are
    cut off unseen.
    """
    dtype = classifier.input_dtype
    if getattr(classifier, "layer", None) is not None:  # behind which all are fractions
        return
    whole = dtype is not None and "float" not in dtype
    nested = None if whole or classifier.model is None else _whole_within(classifier.model)
    if not whole and nested is None:
        return
    if not gradient and (
        nested is not None or (x.dtype == np.uint8 and classifier.box == (0, 255))
    ):
        return
    where = (
        f"the input of {nested.name!r}, a model in the model,"
        if nested is not None
        else "the model's input"
    )
    dtype = str(nested.inputs[0].dtype) if nested is not None else dtype
    named = "rebuilt(model)" if nested is not None else CLONE
    recipe = f"{REBUILT}; model = {named}" if nested is not None else f"model = {named}"
    if not gradient:
        raise InvalidInput(
            f"{where} has dtype {dtype}, which cuts off the fractions of {x.dtype} in the box"
            f" {classifier.box}: give images as uint8 and advex.Classifier(model, box=(0, 255)),"
            f" or give the same layers a float input: {recipe}"
        )
    raise GradientUnavailable(
        f"{label} needs gradients, and {where} has dtype {dtype}: no gradient passes through whole"
        f" numbers. Give the same layers a float input: {recipe}; token numbers have no gradient"
        f" in any case{_embedding(classifier.model)}"
    )


def _embedding(model: Any) -> str:
    """How to attack what an embedding makes of token numbers, where there is one."""
    layers = [] if model is None else model._flatten_layers(include_self=False)
    names = [layer.name for layer in layers if isinstance(layer, keras.layers.Embedding)]
    if not names:
        return ""
    return (
        ", but what becomes of them has one: model = advex.Classifier(model, box=(-1, 1),"
        f" perturb={names[0]!r})"
    )


def _whole_within(model: Any) -> Any:
    """A model inside ``model`` whose one input is of whole numbers; None if there is none."""
    for layer in model._flatten_layers(include_self=False):
        inputs = getattr(layer, "inputs", None) if isinstance(layer, keras.Model) else None
        if inputs and len(inputs) == 1 and "float" not in str(inputs[0].dtype):
            return layer
    return None
