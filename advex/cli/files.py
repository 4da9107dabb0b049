"""Files that are read, and whether those that are written can be."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from advex.cli.screen import plain_letters
from advex.errors import InvalidInput

SHEET = "contact_sheet.png"


def sources(given: Iterable[Path]) -> list[Path]:
    """The image files among ``given``: files as they are, and those inside folders."""
    from advex import images

    files: list[Path] = []
    for path in given:
        if "\0" in str(path) or not path.exists():
            raise InvalidInput(f"{path}: no such file or folder")
        if not path.is_dir():
            files.append(path)
            continue
        inside = [
            entry
            for entry in sorted(path.iterdir())
            if entry.suffix.lower() in images.suffixes()
            and not entry.name.startswith(".")
            and not entry.is_dir()
        ]
        if not inside:
            raise InvalidInput(
                f"{path}: no image files in this folder (folders in it are not opened)"
            )
        files += inside
    return files


def output_names(files: Sequence[Path]) -> list[str]:
    """The PNG that each source becomes, or an error where two would become the same."""
    seen = {SHEET: "the contact sheet"}
    chosen = []
    for path in files:
        name = plain_letters(path.stem).replace("\\", "_") + ".png"
        if name.casefold() in seen:
            raise InvalidInput(
                f"{path} and {seen[name.casefold()]} would both be saved as {name}; rename one, or"
                f" use two calls"
            )
        seen[name.casefold()] = str(path)
        chosen.append(name)
    return chosen


def check_folder(
    folder: Path, names: Iterable[str], sources: Iterable[Path] = (), overwrite: bool = False
) -> None:
    """Raise ``InvalidInput`` unless the files ``names`` can be written to ``folder``."""
    if "\0" in str(folder):
        raise InvalidInput(f"{str(folder)!r} is not a folder's name")
    above = folder
    while not os.path.lexists(above) and above != above.parent:
        above = above.parent
    if not above.is_dir():
        raise InvalidInput(f"--out {folder}: {above} is not a folder")
    if not os.access(above, os.W_OK | os.X_OK):
        raise InvalidInput(f"--out {folder}: {above} cannot be written")
    if above != folder:
        return
    originals = {path.resolve() for path in sources}
    paths = [folder / name for name in names]
    for path in paths:
        if path.resolve() in originals:
            raise InvalidInput(f"{path} would replace its own source; choose another --out")
        if path.is_symlink() or path.is_dir():
            raise InvalidInput(
                f"{path} is a {'symbolic link' if path.is_symlink() else 'folder'}; choose another"
                f" --out"
            )
    taken = [path for path in paths if path.exists()]
    if taken and not overwrite:
        files = (
            f"{taken[0]} exists"
            if len(taken) == 1
            else f"{len(taken)} files exist, such as {taken[0]}"
        )
        raise InvalidInput(f"{files}; --overwrite replaces, --out DIR writes elsewhere")
