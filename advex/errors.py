"""What advex raises and warns with: one tree of exceptions, one of warnings."""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Iterable, Iterator

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
    "UserCodeError",
]


class AdvexError(Exception):
    """Base of every exception that advex raises on purpose.

    Catch it to tell what advex refuses from errors of other code.

    Example:
        >>> import advex
        >>> try:
        ...     advex.PGD(steps=0)
        ... except AdvexError as problem:
        ...     print(type(problem).__name__)
        InvalidInput
    """


class InvalidInput(AdvexError, ValueError):
    """A value that advex cannot work with; the message says what was expected and how to fix it.

    Example:
        >>> import advex
        >>> advex.Linf(8)
        Traceback (most recent call last):
        ...
        advex.errors.InvalidInput: Linf(8): epsilon is a fraction of the box's range, so ...
    """


class InvalidType(AdvexError, TypeError):
    """An argument of the wrong kind, or a keyword that does not exist. The message says which
    fits.
    """


class UnknownName(AdvexError, AttributeError):
    """A name that advex does not have; the message says what it is called here, or that it is not
    there yet.

    Example:
        >>> import advex
        >>> advex.Pgd
        Traceback (most recent call last):
        ...
        advex.errors.UnknownName: ...
    """


class GradientUnavailable(AdvexError, ValueError):
    """The model (or the loss) has no gradient with respect to what was asked for.

    Use an attack that needs none, such as `SquareAttack` or `CGBA`, or replace the part that cuts
    the gradient.
    """


class AttackError(AdvexError, RuntimeError):
    """An attack broke its contract: another shape, another dtype, changed weights.

    It points at the attack, not at the model or the data. `advex.testing.check_attack` finds the
    rest.
    """


class UserCodeError(AdvexError, RuntimeError):
    """Code given to advex, such as `preprocess` or a loss, failed: the message names it,
    `__cause__` is its error.
    """


class ImageError(AdvexError, ValueError):
    """A file that is not an image advex can use; the message says why and, where it can, what to
    do.
    """


class Interrupted(KeyboardInterrupt):
    """Long work was stopped by Ctrl-C; the message says what is kept and how to go on.

    It is a `KeyboardInterrupt`, not an `AdvexError`.
    """


class AdvexWarning(UserWarning):
    """Base of every warning that advex gives.

    `warnings.simplefilter("error", AdvexWarning)` turns them all into exceptions.
    """


class ModelWarning(AdvexWarning):
    """Something about the model, the data or the settings that makes the figures doubtful.

    The same sentences are in `result.info["warnings"]`.
    """


COMPILED = (
    "It is called with tensors and compiled: write it with keras.ops, without NumPy, float(),"
    " .numpy(), or an if that asks a tensor"
)


@contextlib.contextmanager
def blaming(what: str, hint: str = COMPILED) -> Iterator[None]:
    """Say which part of the user's own code has failed, where its error alone would not.

    Args:
        what: the argument it came from, such as "preprocess".
        hint: what can be done.

    Raises:
        UserCodeError: in place of whatever the block raised, unless that is advex's own.
    """
    try:
        yield
    except AdvexError:
        raise
    except Exception as problem:
        # Keras puts the message into colours, behind a line that says which layer was called.
        lines = [
            line for line in re.sub(r"\x1b\[\d*m", "", str(problem)).splitlines() if line.strip()
        ]
        text = (
            " ".join(
                lines[:2]
                if lines[:1] and lines[0].startswith("Exception encountered")
                else lines[:1]
            )
            or "no message"
        )
        text = text if len(text) <= 240 else f"{text[:237]}..."
        raise UserCodeError(
            f"{what} failed with {type(problem).__name__}: {text.rstrip('.')}. {hint}"
        ) from problem


def nearest(word: str, known: Iterable[str], count: int = 1) -> list[str]:
    """The ``count`` entries of ``known`` that look most like ``word``, best first; possibly
    none.
    """
    known = list(known)
    lower = {entry.lower(): entry for entry in known}
    close = difflib.get_close_matches(word.lower(), lower, n=count, cutoff=0.5)
    return [lower[entry] for entry in close]


def __dir__() -> list[str]:
    return __all__
