"""What an ``Adversarial`` is made of, checked."""

from __future__ import annotations

from typing import Any

import keras

from advex._settings import shown
from advex.attacks.call import Attackable
from advex.budgets import Budget
from advex.driver.plan import Leaf
from advex.errors import InvalidInput, InvalidType
from advex.model.classifier import Classifier
from advex.model.training import StandsFor


def checked_leaf(name: str, attack: Any, budget: Budget) -> Leaf:
    """What steps in an attack that is one run of a fixed number of steps."""
    if not isinstance(attack, Attackable):
        raise InvalidType(
            f"{name} must be an attack, such as advex.PGD(steps=7); received {shown(attack)}"
        )
    attack.check(None, budget)
    waves = attack.plan(budget)
    runs = [run for wave in waves for run in wave.runs]
    if len(runs) != 1 or runs[0].rank is not None or runs[0].attack.needs == "labels":
        raise InvalidInput(
            f"{name} must be one attack with a fixed number of steps, which climbs a loss; received"
            f" {shown(attack)}: use advex.PGD(steps=7)"
        )
    return runs[0].attack


def checked_budget(budget: Any) -> Budget:
    """The budget, with one limit for all inputs."""
    if not isinstance(budget, Budget):
        raise InvalidType(f"budget must be such as advex.Linf(8/255); received {shown(budget)}")
    if not budget.limited or budget.epsilons is not None:
        raise InvalidInput(
            "budget must have one epsilon for all inputs, such as advex.Linf(8/255); received"
            f" {shown(budget)}"
        )
    return budget


def demand_model(model: Any) -> None:
    """Raise unless it is a Keras model with one input and one output."""
    if isinstance(model, Classifier):
        raise InvalidType(
            "model must be the keras.Model itself; received a Classifier: Adversarial(model.model,"
            " box=model.box)"
        )
    if not isinstance(model, keras.Model) or isinstance(model, StandsFor):
        raise InvalidType(f"model must be a keras.Model; received {shown(model)}")
    if len(getattr(model, "inputs", None) or [0]) > 1:
        raise InvalidInput(
            f"Adversarial trains models of one input; {model.name!r} has {len(model.inputs)}"
        )
    if len(getattr(model, "outputs", None) or [0]) > 1:
        raise InvalidInput(
            f"Adversarial trains models of one output; {model.name!r} has {len(model.outputs)}: one"
            " of them is keras.Model(model.inputs, model.outputs[0])"
        )
