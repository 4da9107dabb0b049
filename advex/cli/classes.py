"""Class names from a file, and the class that a word means."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from advex._settings import shown
from advex.cli.words import LONGEST_NUMBER
from advex.errors import InvalidInput, nearest

MOST_CLASSES = 10**6  # of a function in place of a model
LARGEST_FILE = 2**24  # bytes of a file of class names


def given_classes(options: Any) -> list[str] | int | None:
    """The names that ``--classes`` means; of a function in place of a model it may be a number."""
    path = options.classes
    if path is None:
        return None
    if options.blackbox is not None and str(path).isdecimal():
        count = int(str(path)[:LONGEST_NUMBER])
        if count > MOST_CLASSES:
            raise InvalidInput(
                f"--classes: no function tells {MOST_CLASSES:,} classes apart; received"
                f" {shown(count, 40)}"
            )
        return count
    return class_names(path)


def class_names(path: Path) -> list[str]:
    """Class names from a JSON file: a list, or an object index -> name (or -> [identifier, name],
    as Keras has it).
    """
    if "\0" in str(path) or path.is_dir() or not path.exists():
        raise InvalidInput(
            f"--classes {path}: {'a folder' if path.is_dir() else 'no such file'}; a JSON file of"
            f" names is needed"
        )
    with path.open("rb") as handle:
        raw = handle.read(LARGEST_FILE + 1)
    if len(raw) > LARGEST_FILE:
        raise InvalidInput(
            f"--classes {path}: larger than any list of names, {LARGEST_FILE // 2**20} MB"
        )
    try:
        listed = json.loads(raw.decode("utf-8-sig"), object_pairs_hook=_without_doubles)
    except RecursionError:
        raise InvalidInput(
            f"{path}: brackets in brackets without end; a list of names, or an object index -> name"
        ) from None
    except ValueError as problem:
        raise InvalidInput(f"{path}: not a JSON file ({problem})") from None
    if isinstance(listed, dict):
        missing = [index for index in range(len(listed)) if str(index) not in listed]
        if missing:
            raise InvalidInput(f"{path}: {len(listed)} names, but none for class {missing[0]}")
        listed = [listed[str(index)] for index in range(len(listed))]
    if not isinstance(listed, list) or not listed:
        raise InvalidInput(f"{path}: expected a list of names, or an object index -> name")
    listed = [name[-1] if isinstance(name, list) and name else name for name in listed]
    if not all(isinstance(name, str) and name for name in listed):
        raise InvalidInput(f"{path}: every class needs a name, a text that is not empty")
    return listed


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, whose last entry would win where two have the same key."""
    made = dict(pairs)
    if len(made) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(
            f"the key {shown(next(key for key in keys if keys.count(key) > 1), 40)} is there twice"
        )
    return made


def class_number(word: str, names: Sequence[str] | None) -> int:
    """The class that ``word`` means: a name, one of its comma-separated synonyms, whatever the
    case, or an index.

    Raises:
        InvalidInput: unknown or ambiguous; the message lists the nearest.

    Example:
        >>> class_number("Tabby cat", ["tench", "tabby, tabby cat"])
        1
    """
    names = names or []
    said = word if len(word) < LONGEST_NUMBER else f"{word[:LONGEST_NUMBER]}..."
    is_index = word.strip().isdecimal()
    if is_index and len(word.strip()) >= LONGEST_NUMBER:
        raise InvalidInput(f"--target {said}: no model has so many classes")
    found = _classes_called(word, names)
    if is_index and int(word) not in found:
        if names and int(word) >= len(names) and not found:
            raise InvalidInput(
                f"--target {said}: there are {len(names)} classes, 0 to {len(names) - 1}"
            )
        found.append(int(word))
    if len(found) > 1:
        listed = ", ".join(
            f"{index} ({names[index]})" if index < len(names) else str(index) for index in found
        )
        clearer = "the whole name" if is_index else "the index"
        raise InvalidInput(f"--target {said} is ambiguous: {listed}; give {clearer}")
    if not found:
        raise _unknown_class(word, said, names)
    return found[0]


def _plain(text: str) -> str:
    return " ".join(text.replace("_", " ").casefold().split())


def _classes_called(word: str, names: Sequence[str]) -> list[int]:
    """The classes of this name; if there are none, those with this synonym."""
    wanted = _plain(word)
    return [index for index, name in enumerate(names) if _plain(name) == wanted] or [
        index for index, name in enumerate(names) if wanted in map(_plain, name.split(","))
    ]


def _unknown_class(word: str, said: str, names: Sequence[str]) -> InvalidInput:
    """The error for a name that no class has, with the nearest ones."""
    if not names:
        return InvalidInput(
            f"--target {said}: the class names are not known; give an index, or --classes"
            f" NAMES.json"
        )
    wanted = _plain(word)
    synonyms = {_plain(part): index for index, name in enumerate(names) for part in name.split(",")}
    close = [part for part in synonyms if wanted in part.split()][:3]
    close += [part for part in nearest(wanted, synonyms, 3) if part not in close]
    hint = ", ".join(f"{synonyms[part]} ({names[synonyms[part]]})" for part in close[:4])
    return InvalidInput(
        f"--target {said}: no such class" + (f"; the nearest: {hint}" if close else "")
    )
