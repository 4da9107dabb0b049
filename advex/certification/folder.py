"""The folder that keeps a certification: one file for each finished block of rows, and one of the
block that is at work. Each is complete or absent.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np

from advex._arrays import Array
from advex.certification.votes import Votes
from advex.errors import InvalidInput
from advex.images import replacing

FORMAT = 1
ABOUT, WORKING = "certification.json", "working.npz"


class Found(NamedTuple):
    """What the samples of a finished block have said.

    Attributes:
        label: the rows' labels, (rows,).
        chosen: the class of each, (rows,).
        hits: how many of the samples that count were of it, (rows,).
    """

    label: Array
    chosen: Array
    hits: Array


class Folder:
    """The files of one certification.

    Args:
        path: the folder; it is made with the first file.

    Raises:
        InvalidInput: it is a file, or a folder that holds something else.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.exists() and not path.is_dir():
            raise InvalidInput(f"run must be the name of a folder, and {path} is a file")
        if path.is_dir() and not self._known.exists():
            if any(not each.name.startswith(".advex-") for each in path.iterdir()):
                raise InvalidInput(
                    f"{path} is a folder that holds no certification: give the name of a new one"
                )

    @property
    def _known(self) -> Path:
        return self.path / ABOUT

    def about(self) -> dict[str, Any] | None:
        """What the certification is about; None for a new one."""
        if not self._known.exists():
            return None
        try:
            about: dict[str, Any] = json.loads(self._known.read_text(encoding="utf-8"))
            known = about["format"]
        except (ValueError, KeyError, TypeError):
            self._damaged(self._known)
        if known != FORMAT:
            raise InvalidInput(
                f"{self.path} has format {known} of certifications, and this advex reads {FORMAT}:"
                " start a new run, or install the advex that began it"
            )
        return about

    def write_about(self, about: dict[str, Any]) -> None:
        """Write down what the certification is about."""
        self.path.mkdir(exist_ok=True)
        with replacing(self._known, overwrite=True) as handle:
            handle.write(json.dumps({"format": FORMAT, **about}, indent=1).encode())

    def found(self, number: int, digest: str) -> Found | None:
        """A finished block, or None; ``digest`` is that of its rows now.

        Raises:
            InvalidInput: the rows were others; a damaged file.
        """
        known = self._read(self._block(number), Found._fields, digest)
        return None if known is None else Found(*(known[name] for name in Found._fields))

    def write_found(self, number: int, digest: str, found: Found) -> None:
        """Write a finished block; it is no longer at work."""
        self._write(self._block(number), {"digest": digest, **found._asdict()})
        (self.path / WORKING).unlink(missing_ok=True)

    def votes(self, number: int, digest: str) -> Votes | None:
        """How far a block has come; None where it was not at work."""
        known = self._read(self.path / WORKING, ("number", *Votes._fields), None)
        if known is None or int(known["number"]) != number:
            return None
        if str(known["digest"]) != digest:
            self._other_rows()
        return Votes(int(known["done"]), known["selection"], known["counts"])

    def write_votes(self, number: int, digest: str, votes: Votes) -> None:
        """Write how far a block has come."""
        what = {"number": number, "digest": digest, **votes._asdict()}
        self._write(self.path / WORKING, what)

    def blocks(self) -> int:
        """How many blocks are finished."""
        return len(list(self.path.glob("block-*.npz")))

    def _block(self, number: int) -> Path:
        return self.path / f"block-{number:06d}.npz"

    def _read(self, path: Path, names: Sequence[str], digest: str | None) -> dict[str, Any] | None:
        """The arrays of a file, or None where there is none; ``digest`` is that of its rows now."""
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                known = {name: arrays[name] for name in ("digest", *names)}
        except Exception:  # of whatever kind zipfile has for what is no such file
            self._damaged(path)
        if digest is not None and str(known["digest"]) != digest:
            self._other_rows()
        return known

    def _write(self, path: Path, what: dict[str, Any]) -> None:
        with replacing(path, overwrite=True) as handle:
            np.savez_compressed(handle, **what)

    def _damaged(self, path: Path) -> NoReturn:
        raise InvalidInput(f"{path} is damaged: remove it, and call again")

    def _other_rows(self) -> NoReturn:
        self.refuse_data("rows are others; is the data set shuffled?")

    def refuse_data(self, reason: str) -> NoReturn:
        """Raise: the data are not what they were."""
        raise InvalidInput(
            f"{self.path} was begun with something else, and rows of both would be mixed. Changed:"
            f" data ({reason}). Give another folder, or what the run was begun with"
        )
