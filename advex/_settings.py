"""Frozen settings objects, and calls, whose misspelt or unusable keywords are answered helpfully."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
import numbers
from abc import ABC
from collections.abc import Callable
from typing import Any, ParamSpec, Self, TypeVar

from advex.errors import InvalidInput, InvalidType, nearest

P = ParamSpec("P")
R = TypeVar("R")

ELSEWHERE = {
    "eps": "the size of the budget is given at the call: attack(model, x, labels, advex.Linf(8/255))",
    "norm": "the norm is chosen by the budget at the call: advex.Linf(8/255), advex.L2(0.5), advex.L1(10), advex.L0(20)",
    "model": "the model is given at the call: attack(model, x, labels, advex.Linf(8/255))",
    "targeted": "the goal is given at the call: attack(model, x, advex.Targeted(labels), advex.Linf(8/255))",
    "batch_size": "the batch size is given at the call: attack(model, x, labels, budget, batch_size=64)",
    "seed": "the seed is given at the call: attack(model, x, labels, budget, seed=1)",
    "n_restarts": "restarts are a wrapper: advex.Restarts(attack, 5)",
}
ELSEWHERE |= {"epsilon": ELSEWHERE["eps"], "box": "the box belongs to the model: advex.Classifier(model, box=(0, 255))"}
ELSEWHERE |= {"clip_min": ELSEWHERE["box"], "clip_max": ELSEWHERE["box"], "restarts": ELSEWHERE["n_restarts"]}


def unknown_keyword(owner: str, word: str, known: list[str]) -> InvalidType:
    """The error for a keyword that does not exist, with its proper place or the nearest that does exist."""
    if word in ELSEWHERE and not known_as(word, known):
        return InvalidType(f"{owner} has no keyword {word!r}: {ELSEWHERE[word]}")
    if close := nearest(word, known):
        return InvalidType(f"{owner} has no keyword {word!r}; did you mean {close[0]!r}?")
    return InvalidType(f"{owner} has no keyword {word!r}; it knows {', '.join(map(repr, known)) or 'none'}")


def known_as(word: str, known: list[str]) -> bool:
    """Whether one of the ``known`` keywords is ``word`` in another form: eps is epsilon, n_restarts is restarts."""
    return any(name.startswith(word) or word.endswith(f"_{name}") for name in known)


def helpful(function: Callable[P, R]) -> Callable[P, R]:
    """Answer a misspelt keyword of ``function`` with the nearest one."""
    known = [
        name
        for name, parameter in inspect.signature(function).parameters.items()
        if name != "self" and parameter.kind is not parameter.POSITIONAL_ONLY
    ]
    owner = function.__qualname__.removesuffix(".__call__").removesuffix(".__init__") + "()"

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        for word in kwargs:
            if word not in known:
                raise unknown_keyword(owner, word, known)
        return function(*args, **kwargs)

    return checked


def whole_number(name: str, value: Any, *, lowest: int = 1) -> int:
    """``value`` as an int, or an error that names the argument."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise InvalidType(f"{name} must be a whole number of at least {lowest}; received {value!r}")
    if not math.isfinite(value) or value != math.floor(value) or value < lowest:
        raise InvalidInput(f"{name} must be a whole number of at least {lowest}; received {value!r}")
    if not isinstance(value, numbers.Integral):
        raise InvalidType(f"{name} must be a whole number, not a {type(value).__name__}; received {value!r}")
    return int(value)


def real_number(name: str, value: Any, *, lowest: float = 0.0, strict: bool = False) -> float:
    """``value`` as a finite float not below ``lowest`` (above it if ``strict``), or an error that names the argument."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise InvalidType(f"{name} must be a number; received {value!r}")
    number = float(value)
    if not math.isfinite(number) or number < lowest or (strict and number == lowest):
        raise InvalidInput(
            f"{name} must be a finite number {'above' if strict else 'of at least'} {lowest:g}; received {value!r}"
        )
    return number


def switch(name: str, value: Any) -> None:
    """An error that names the argument unless ``value`` is True or False."""
    if not isinstance(value, bool):
        raise InvalidType(f"{name} must be True or False; received {value!r}")


def _number_or_schedule(name: str, value: Any) -> None:
    if not callable(value):
        real_number(name, value, strict=True)


def _callable(name: str, value: Any) -> None:
    if not callable(value):
        raise InvalidType(
            f"{name} must be a function (logits, goal) -> (batch,), such as advex.losses.margin; received {value!r}"
        )


def _whole_or_none(name: str, value: Any) -> Any:
    return None if value is None else whole_number(name, value)


CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "steps": whole_number,
    "restarts": whole_number,
    "classes": whole_number,
    "samples": whole_number,
    "patience": _whole_or_none,
    "step_size": _number_or_schedule,
    "learning_rate": _number_or_schedule,
    "decay": real_number,
    "loss": _callable,
}


class Settings(ABC):  # noqa: B024, the abstract methods are its subclasses'
    """Base of the frozen dataclasses that hold settings: keywords are checked before they are stored."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__repr__" not in cls.__dict__:  # before ``dataclass`` writes one that shows the addresses of functions
            cls.__repr__ = next(base.__repr__ for base in cls.__mro__[1:] if "__repr__" in base.__dict__)  # type: ignore[assignment]

    def __repr__(self) -> str:
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        shown = [(field.name, getattr(self, field.name)) for field in fields if field.repr]
        parts = (f"{name}={getattr(value, '__name__', None) or repr(value)}" for name, value in shown)
        return f"{type(self).__name__}({', '.join(parts)})"

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        fields = dataclasses.fields(cls) if hasattr(cls, "__dataclass_fields__") else ()  # type: ignore[arg-type]
        names = [field.name for field in fields if field.init]
        for word in kwargs:
            if names and word not in names:
                raise unknown_keyword(cls.__name__, word, names)
        for word, value in [*zip(names, args, strict=False), *kwargs.items()]:
            if word in CHECKS:
                CHECKS[word](f"{cls.__name__}({word}=...)", value)
        return super().__new__(cls)
