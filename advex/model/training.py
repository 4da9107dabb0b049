"""A model that stands for another one while that is trained, see ``advex.training``."""

from __future__ import annotations

import warnings
from typing import Any

import keras

from advex.budgets import Budget
from advex.errors import ModelWarning


class StandsFor(keras.Model):
    """A Keras model around another one, ``model``, that is trained within ``budget``."""

    model: keras.Model
    budget: Budget


def bare(model: Any) -> Any:
    """The model itself, or the one that it stands for."""
    return model.model if isinstance(model, StandsFor) else model


def warn_of_another(model: Any, budget: Any, name: str) -> None:
    """Warn where a model that is trained within one budget is looked at within another."""
    if isinstance(model, StandsFor) and isinstance(budget, Budget) and budget != model.budget:
        warnings.warn(
            f"The model is trained within {model.budget!r}, and {name} looks within {budget!r}: the"
            " robust accuracy is that of another threat model.",
            ModelWarning,
            stacklevel=3,
        )
