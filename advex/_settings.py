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
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, ParamSpec, Self, TypeVar

from advex._keywords import Called, unknown_keyword
from advex.errors import InvalidInput, InvalidType

LARGEST = 2**31 - 1  # of a whole number
HUGE = 1e38  # float32 ends a little above it
CHECK = "advex"  # the key of a check in the metadata of its field

PER_FEATURE = (
    "a range for each feature is a domain, box=advex.Domain(low, high): there one epsilon is a"
    " fraction of each feature's own range"
)

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


def helpful(function: Callable[P, R]) -> Callable[P, R]:
    """Answer a misspelt keyword of ``function`` with the nearest one."""
    known = [
        name
        for name, parameter in inspect.signature(function).parameters.items()
        if name != "self" and parameter.kind is not parameter.POSITIONAL_ONLY
    ]
    whole = function.__qualname__.removesuffix(".__init__") + "()"
    signature = inspect.signature(function)

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        called = function.__name__ == "__call__" and args
        owner = f"the call of {type(args[0]).__name__}()" if called else whole
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


def _number(
    name: str,
    value: Any,
    *,
    at_least: float = 0.0,
    above: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
    share: str = "a share",
) -> None:
    """An error that names the argument unless ``value`` is a number within its limits."""
    lowest = at_least if above is None else above
    number = real_number(name, value, lowest=lowest, strict=above is not None)
    if below is not None and number >= below:
        raise InvalidInput(f"{name} is {share}, below {below:g}; received {value!r}")
    if at_most is not None and number > at_most:
        raise InvalidInput(f"{name} is {share}, at most {at_most:g}; received {value!r}")


def _whole(name: str, value: Any, *, at_least: int = 1) -> None:
    whole_number(name, value, lowest=at_least)


def _schedule(name: str, value: Any, **limits: Any) -> None:
    if not callable(value):
        _number(name, value, **limits)


def _function(name: str, value: Any) -> None:
    if not callable(value):
        raise InvalidType(
            f"{name} must be a function (logits, goal) -> (batch,), such as advex.losses.margin;"
            f" received {shown(value)}"
        )


def _choice(name: str, value: Any, *, among: tuple[str, ...]) -> None:
    if not isinstance(value, str) or value not in among:
        known = ", ".join(map(repr, among))
        raise InvalidInput(f"{name} must be one of {known}; received {shown(value)}")


KINDS: dict[str, Callable[..., Any]] = {
    "whole": _whole,
    "number": _number,
    "schedule": _schedule,
    "function": _function,
    "choice": _choice,
    "switch": switch,
}


@dataclasses.dataclass(frozen=True)
class Check:
    """Raises an error that names the argument where a value is not what it must be.

    Args:
        kind: "whole" (a whole number), "number", "schedule" (a number, or a function of progress),
            "function", "choice" or "switch".
        optional: let None pass.
        limits: of whole numbers ``at_least``; of numbers ``at_least`` or ``above``, and ``below``
            or ``at_most``; of choices ``among``.
    """

    kind: str
    optional: bool = False
    limits: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __call__(self, name: str, value: Any) -> None:
        if not (self.optional and value is None):
            KINDS[self.kind](name, value, **self.limits)


def setting(default: T, kind: str, **limits: Any) -> T:
    """A field of a ``Settings`` class whose values are checked, see ``Check``; None passes where it
    is the default.

    The check is kept in the metadata of the field and applies to it alone: a subclass that declares
    a field of the same name has one of its own.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True, kw_only=True)
        ... class Fading(Settings):
        ...     decay: float = setting(0.9, "number", at_least=0)
        >>> Fading(decay=-1)
        Traceback (most recent call last):
        advex.errors.InvalidInput: Fading(decay=...) must be a finite number of at least 0; ...
    """
    check = Check(kind, default is None, limits)
    made: T = dataclasses.field(default=default, metadata={CHECK: check})
    return made


class Settings(metaclass=Called):
    """Base of the frozen dataclasses that hold settings: keywords are checked before they are
    stored.
    """

    _words: ClassVar[Mapping[str, Check]] = {}
    """Checks of the names that mean the same in every subclass, however it declares them."""

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
        checks = {field.name: field.metadata.get(CHECK) for field in fields}
        for word, value in [*zip(names, args, strict=False), *kwargs.items()]:
            if check := checks.get(word) or cls._words.get(word):
                check(f"{cls.__name__}({word}=...)", value)
        return super().__new__(cls)
