"""What advex raises and warns with: one tree of exceptions, one of warnings."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "AdvexError",
    "AdvexWarning",
    "AttackError",
    "GradientUnavailable",
    "ImageError",
    "Interrupted",
    "InvalidInput",
    "InvalidType",
    "ModelWarning",
    "UnknownName",
]


class AdvexError(Exception):
    """Base of every exception that advex raises on purpose."""


class InvalidInput(AdvexError, ValueError):
    """A value that advex cannot work with; the message says what was expected and how to fix it."""


class InvalidType(AdvexError, TypeError):
    """An argument of the wrong kind, or a keyword that does not exist."""


class UnknownName(AdvexError, AttributeError):
    """A name that advex does not have; the message says what it is called here, or that it is not there yet."""


class GradientUnavailable(AdvexError, ValueError):
    """The model (or the loss) has no gradient with respect to what was asked for."""


class AttackError(AdvexError, RuntimeError):
    """An attack broke its contract: another shape, another dtype, changed weights."""


class ImageError(AdvexError, ValueError):
    """A file that is not an image advex can use."""


class Interrupted(KeyboardInterrupt):
    """Long work was stopped by Ctrl-C; the message says what is kept and how to go on."""


class AdvexWarning(UserWarning):
    """Base of every warning that advex gives."""


class ModelWarning(AdvexWarning):
    """Something about the model, the data or the settings that makes the figures doubtful."""


def nearest(word: str, known: Iterable[str], count: int = 1) -> list[str]:
    """The ``count`` entries of ``known`` that look most like ``word``, best first; possibly none."""
    known = list(known)
    lower = {entry.lower(): entry for entry in known}
    close = difflib.get_close_matches(word.lower(), lower, n=count, cutoff=0.5)
    return [lower[entry] for entry in close]
