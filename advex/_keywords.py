"""Calls that cannot be: answers to keywords that do not exist, and to too few or too many
arguments.
"""

from __future__ import annotations

import dataclasses
import inspect
from abc import ABCMeta
from typing import Any

from advex.errors import InvalidType, nearest

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


def public_name(kind: type) -> str:
    """What one types for a class of this package, or of one's own."""
    name = kind.__name__
    return f"advex.{name}" if kind.__module__.startswith("advex.") else name


class Called(ABCMeta):
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
                f" {public_name(cls)}()(model, x, labels, budget)"
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
