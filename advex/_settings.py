"""Frozen settings objects, and calls, whose misspelt or unusable keywords are answered
helpfully.
"""

from __future__ import annotations

import dataclasses
import decimal
import functools
import inspect
import math
import numbers
from abc import ABCMeta
from collections.abc import Callable
from typing import Any, ParamSpec, Self, TypeVar

from advex.errors import InvalidInput, InvalidType, nearest

LARGEST = 2**31 - 1  # of a whole number
HUGE = 1e38  # float32 ends a little above it

PER_FEATURE = (
    "a value for each feature is not possible yet. Scale each feature to [0, 1], x = (x - low) /"
    " (high - low), and undo it in"
    " the model, advex.Classifier(model, preprocess=keras.layers.Rescaling(high - low,"
    " offset=low)); there one epsilon is a"
    " fraction of each feature's range"
)

P = ParamSpec("P")
R = TypeVar("R")

ELSEWHERE = {
    "eps": "the size of the budget is given at the call: attack(model, x, labels,"
    " advex.Linf(8/255))",
    "norm": "the norm is chosen by the budget at the call: advex.Linf(8/255), advex.L2(0.5),"
    " advex.L1(10), advex.L0(20)",
    "model": "the model is given at the call: attack(model, x, labels, advex.Linf(8/255))",
    "targeted": "the goal is given at the call: attack(model, x, advex.Targeted(labels),"
    " advex.Linf(8/255))",
    "batch_size": "the batch size is given at the call: attack(model, x, labels, budget,"
    " batch_size=64)",
    "seed": "the seed is given at the call: attack(model, x, labels, budget, seed=1)",
    "n_restarts": "restarts are a wrapper: advex.Restarts(attack, 5)",
}
ELSEWHERE |= {
    "epsilon": ELSEWHERE["eps"],
    "box": "the box belongs to the model: advex.Classifier(model, box=(0, 255))",
}
ELSEWHERE |= {
    "clip_min": ELSEWHERE["box"],
    "clip_max": ELSEWHERE["box"],
    "restarts": ELSEWHERE["n_restarts"],
}


def unknown_keyword(owner: str, word: str, known: list[str]) -> InvalidType:
    """The error for a keyword that does not exist, with its proper place or the nearest that does
    exist.
    """
    if word in ELSEWHERE and not known_as(word, known):
        return InvalidType(f"{owner} has no keyword {word!r}: {ELSEWHERE[word]}")
    if close := nearest(word, known):
        return InvalidType(f"{owner} has no keyword {word!r}; did you mean {close[0]!r}?")
    return InvalidType(
        f"{owner} has no keyword {word!r}; it knows {', '.join(map(repr, known)) or 'none'}"
    )


def known_as(word: str, known: list[str]) -> bool:
    """Whether one of the ``known`` keywords is ``word`` in another form: eps is epsilon, n_restarts
    is restarts.
    """
    return any(name.startswith(word) or word.endswith(f"_{name}") for name in known)


def helpful(function: Callable[P, R]) -> Callable[P, R]:
    """Answer a misspelt keyword of ``function`` with the nearest one."""
    known = [
        name
        for name, parameter in inspect.signature(function).parameters.items()
        if name != "self" and parameter.kind is not parameter.POSITIONAL_ONLY
    ]
    owner = function.__qualname__.removesuffix(".__call__").removesuffix(".__init__") + "()"
    signature = inspect.signature(function)

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        for word in kwargs:
            if word not in known:
                raise unknown_keyword(owner, word, known)
        try:
            signature.bind(*args, **kwargs)
        except TypeError as problem:
            raise InvalidType(f"{owner}: {problem}; it takes {', '.join(known)}") from None
        return function(*args, **kwargs)

    return checked


def shown(value: Any, longest: int = 200) -> str:
    """``repr(value)`` on one line and not too long; Python refuses to write numbers of more than
    4,300 digits at all.
    """
    try:
        text = " ".join(repr(value).split("\n"))
    except Exception:
        text = (
            "a number of thousands of digits"
            if isinstance(value, int)
            else f"a {type(value).__name__}"
        )
    return text if len(text) <= longest else f"{text[:longest]}... ({len(text)} characters)"


def whole_number(name: str, value: Any, *, lowest: int = 1) -> int:
    """``value`` as an int, or an error that names the argument. Counters are int32: there is an end
    to them.
    """
    _demand_one(name, value)
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise InvalidType(
            f"{name} must be a whole number of at least {lowest}; received {shown(value)}"
        )
    whole = isinstance(value, numbers.Integral) or (
        math.isfinite(_as_float(value)) and value == math.floor(value)
    )
    if not whole or value < lowest:
        raise InvalidInput(
            f"{name} must be a whole number of at least {lowest}; received {shown(value)}"
        )
    if not isinstance(value, numbers.Integral):
        raise InvalidType(
            f"{name} must be a whole number, not a {type(value).__name__}; received"
            f" {shown(value)}: int({shown(value)})"
        )
    number = int(value)
    if number > LARGEST:
        raise InvalidInput(
            f"{name} must be a whole number of at most {LARGEST}; received {shown(value)}"
        )
    return number


def real_number(name: str, value: Any, *, lowest: float = 0.0, strict: bool = False) -> float:
    """``value`` as a finite float not below ``lowest`` (above it if ``strict``), or an error that
    names the argument.
    """
    _demand_one(name, value)
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        hint = f": float({shown(value)})" if isinstance(value, decimal.Decimal) else ""
        raise InvalidType(f"{name} must be a number; received {shown(value)}{hint}")
    number = _as_float(value)
    if not math.isfinite(number) or number < lowest or (strict and number == lowest):
        raise InvalidInput(
            f"{name} must be a finite number {'above' if strict else 'of at least'} {lowest:g};"
            f" received {shown(value)}"
        )
    if abs(number) > HUGE:
        raise InvalidInput(
            f"{name} must be a number that float32 can hold, up to {HUGE:g}; received"
            f" {shown(value)}"
        )
    return number


def _as_float(value: Any) -> float:
    """``value`` as a float; infinite where it is beyond what a float can hold, such as 10**400."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _demand_one(name: str, value: Any) -> None:
    """An error where several numbers came in place of one: a value for each feature."""
    shape = getattr(value, "shape", None)
    count = (
        len(value)
        if isinstance(value, list | tuple)
        else math.prod(shape)
        if isinstance(shape, tuple)
        else 1
    )
    if count > 1:
        raise InvalidInput(
            f"{name} must be one number; received {count} of them, {shown(value, 60)}:"
            f" {PER_FEATURE}"
        )


def switch(name: str, value: Any) -> None:
    """An error that names the argument unless ``value`` is True or False."""
    if not isinstance(value, bool):
        raise InvalidType(f"{name} must be True or False; received {shown(value)}")


def _number_or_schedule(name: str, value: Any) -> None:
    if not callable(value):
        real_number(name, value, strict=True)


def _callable(name: str, value: Any) -> None:
    if not callable(value):
        raise InvalidType(
            f"{name} must be a function (logits, goal) -> (batch,), such as advex.losses.margin;"
            f" received {shown(value)}"
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
    "rho": real_number,
    "loss": _callable,
}


class _Called(ABCMeta):
    """Answers a constructor that is called with too much or too little, as Python would, but says
    what to do.
    """

    @property
    def __signature__(cls) -> inspect.Signature:
        """That of the constructor, for help, completion and whoever else asks."""
        whole = inspect.signature(cls.__init__)  # type: ignore[misc]
        return whole.replace(
            parameters=list(whole.parameters.values())[1:],
            return_annotation=inspect.Signature.empty,
        )

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        name = cls.__name__
        if missing := sorted(getattr(cls, "__abstractmethods__", ())):
            raise InvalidType(
                f"{name} is a base class: a subclass must have {', '.join(missing)}; use one of"
                f" advex, or write one"
            )
        fields = dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ()
        if args and fields and all(field.kw_only for field in fields):
            words = ", ".join(field.name for field in fields)
            raise InvalidType(
                f"{name} takes its settings by name ({words}); the model comes at the call:"
                f" {name}()(model, x, labels, budget)"
            )
        try:
            inspect.signature(cls.__init__).bind(None, *args, **kwargs)  # type: ignore[misc]
        except TypeError as problem:
            cls.__new__(cls, *args, **kwargs)  # type: ignore[arg-type]  # answers misspelt keywords and unusable values
            raise InvalidType(
                f"{name}(): {problem}; it takes"
                f" {', '.join(field.name for field in fields) or 'nothing'}"
            ) from None
        return super().__call__(*args, **kwargs)


class Settings(metaclass=_Called):
    """Base of the frozen dataclasses that hold settings: keywords are checked before they are
    stored.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # before ``dataclass`` writes one that shows the addresses of functions
        if "__repr__" not in cls.__dict__:
            bases = (base for base in cls.__mro__[1:] if "__repr__" in base.__dict__)
            cls.__repr__ = next(bases).__repr__  # type: ignore[method-assign, assignment]

    def __repr__(self) -> str:
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        settings = [(field.name, getattr(self, field.name)) for field in fields if field.repr]
        parts = (
            f"{name}={getattr(value, '__name__', None) or shown(value, 10_000)}"
            for name, value in settings
        )
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
