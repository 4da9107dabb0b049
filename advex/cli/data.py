"""Data for ``advex evaluate``: arrays in an npz file, or a folder of images for each class."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advex.cli.models import picture_shape
from advex.errors import ImageError, InvalidInput, nearest

if TYPE_CHECKING:
    from advex._arrays import Array
    from advex.model.protocol import Model

# names of arrays in npz files, the first is taken
PAIRS = (
    ("x_test", "y_test"),
    ("x", "labels"),
    ("x", "y"),
    ("images", "labels"),
)
LABELS = ("labels", "y", "y_test")  # likewise, beside the inputs of a model that has several
READ_TOGETHER = 64  # image files


def data_of(path: Path, classifier: Model, count: int | None) -> Any:
    """What ``--data`` means, at most ``--count`` examples of it."""
    if count is not None and count < 1:
        raise InvalidInput(f"--count must be at least 1; received {count}")
    if not path.exists():
        raise InvalidInput(f"--data {path}: no such file or folder")
    names = _several(classifier)
    if path.is_dir() and names:
        raise InvalidInput(
            f"--data {path}: a folder of images has one input, the model has {len(names)}: an npz"
            f" file with {', '.join(map(repr, names))} and labels"
        )
    if path.is_dir():
        return Folder(path, classifier, count)
    return _arrays(path, classifier, count, names)


def _several(classifier: Model) -> dict[str, list[str]]:
    """What each input may be called, by its name, where the model has several."""
    from advex.model.perturbed import input_names

    if not classifier.perturb:
        return {}
    every = [list(map(str, each)) for each in input_names(classifier.model) or ()]
    return {each[0]: each for each in every} if len(every) > 1 else {}


def _arrays(
    path: Path, classifier: Model, count: int | None, names: dict[str, list[str]]
) -> tuple[Any, Array]:
    """Inputs and labels from an npz file; several inputs by name."""
    import zipfile

    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as stored:
            if not hasattr(stored, "files"):
                raise InvalidInput(
                    f"--data {path}: one array alone; an npz file with x and labels is needed"
                )
            if names:
                return _by_name(path, stored, count, names)
            pair = next((pair for pair in PAIRS if set(pair) <= set(stored.files)), None)
            if pair is None:
                wanted = ", ".join(" and ".join(pair) for pair in PAIRS)
                raise InvalidInput(
                    f"--data {path}: it holds {', '.join(stored.files) or 'nothing'}; looked for"
                    f" {wanted}"
                )
            x, labels = stored[pair[0]][:count], stored[pair[1]][:count]
    except (ValueError, EOFError, zipfile.BadZipFile) as problem:
        if isinstance(problem, InvalidInput):
            raise
        raise InvalidInput(f"--data {path} is no npz file of plain arrays ({problem})") from None
    shape = classifier.input_shape
    if shape is not None and len(shape) == x.ndim + 1 and shape[-1] == 1:
        x = x[..., None]  # grey pictures are often kept without their axis of channels
    return x, labels


def _by_name(
    path: Path, stored: Any, count: int | None, names: dict[str, list[str]]
) -> tuple[dict[str, Array], Array]:
    """The inputs of a model that has several, and labels."""
    found = {
        name: next((alias for alias in aliases if alias in stored.files), None)
        for name, aliases in names.items()
    }
    labels = next((name for name in LABELS if name in stored.files), None)
    missing = [repr(name) for name, alias in found.items() if alias is None]
    missing += ["'labels'"] * (labels is None)
    if missing:
        raise InvalidInput(
            f"--data {path}: it holds {', '.join(stored.files) or 'nothing'}, and lacks"
            f" {', '.join(missing)}: an array for each input of the model, by its name, and labels"
        )
    return {name: stored[alias][:count] for name, alias in found.items()}, stored[labels][:count]


class Folder:
    """Images in one folder for each class, read a few at a time.

    The first of each class come first, then the second of each: the first of them, which the doctor
    looks at and ``count`` leaves, are of every class.

    Args:
        path: the folder. Its folders are named as the classes, or by their numbers; with other
            names they are numbered in order.
        classifier: says what size and how many channels pictures must have.
        count: at most so many files.

    Attributes:
        examples: how many files there are.
        unread: file -> why it could not be read; known once all were tried.

    Raises:
        InvalidInput: no such folders, or no image files in them.
    """

    def __init__(self, path: Path, classifier: Model, count: int | None = None) -> None:
        from advex import images

        folders = sorted(
            entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith(".")
        )
        if not folders:
            raise InvalidInput(
                f"--data {path}: expected one folder of images for each class, found no folders"
            )
        self.size, self.channels = picture_shape(classifier)
        if self.size is None:
            raise InvalidInput(
                "the model takes pictures of any size, and batches need one: evaluate it from"
                " Python"
            )
        numbers = _class_numbers([folder.name for folder in folders], classifier.names)
        each = [
            [
                (file, number)
                for file in sorted(folder.iterdir())
                if file.suffix.lower() in images.suffixes()
                and not file.name.startswith(".")
                and not file.is_dir()
            ]
            for folder, number in zip(folders, numbers, strict=True)
        ]
        dealt = chain.from_iterable(zip_longest(*each))
        self.files = [entry for entry in dealt if entry is not None][:count]
        if not self.files:
            raise InvalidInput(f"--data {path}: no image files in its folders")
        self.examples = len(self.files)
        self.unread: dict[Path, str] = {}

    def __iter__(self) -> Iterator[tuple[Array, Array]]:
        import numpy as np

        from advex import images

        for start in range(0, len(self.files), READ_TOGETHER):
            pixels, labels = [], []
            for path, label in self.files[start : start + READ_TOGETHER]:
                try:
                    pixels.append(images.read(path, channels=self.channels, size=self.size).pixels)
                    labels.append(label)
                except ImageError as problem:
                    self.unread[path] = str(problem)
            if pixels:
                yield np.stack(pixels), np.asarray(labels)


def _class_numbers(folders: list[str], names: list[str] | None) -> list[int]:
    """The class of each folder."""
    if names is not None:
        known = {name: number for number, name in enumerate(names)}
        if all(folder in known for folder in folders):
            return [known[folder] for folder in folders]
    if all(folder.isdecimal() for folder in folders):
        return [int(folder) for folder in folders]
    if names is None or len(folders) == len(names):
        return list(range(len(folders)))
    wrong = next(folder for folder in folders if folder not in names)
    close = nearest(wrong, names)
    hint = (
        f"; did you mean {close[0]!r}?"
        if close
        else f": the model has {len(names)} classes, such as {names[0]!r}"
    )
    raise InvalidInput(f"--data: there is no class {wrong!r}{hint}")
