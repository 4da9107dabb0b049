"""Whether a page still says what its run file says: it is made again, with the words that its
author gave it, and compared.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

from advex._settings import shown
from advex._version import VERSION
from advex.errors import InvalidInput
from advex.evaluation.page.content import Words

NAME = "advex-report"  # of the element in which a page keeps the words and the version
MOST = 64 * 2**20  # bytes: larger files are no page of advex
DRAWN = "(the same words; a drawing, a picture or a file inside the page differs)"


class Difference(NamedTuple):
    """A place where a page and its run differ, in words; empty where one of them has nothing."""

    page: str
    run: str


def kept(words: Words) -> str:
    """What a page keeps of its making."""
    return json.dumps({"advex": VERSION, **words._asdict()})


def differences(path: Path, made: Callable[[Words], str]) -> list[Difference]:
    """Where the page in the file ``path`` differs from what ``made`` makes of the same words; none
    where it is the same, byte for byte.

    Raises:
        InvalidInput: no page of advex, or one of another version. OSError: it cannot be read.
    """
    if not path.is_file():
        raise InvalidInput(f"{path}: no such page")
    if path.stat().st_size > MOST:
        raise _no_page(path)
    held = path.read_bytes()
    page = _Read(held.decode("utf-8", "replace"))
    try:
        about = json.loads(page.kept)
        version, words = about.pop("advex"), Words(**about)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise _no_page(path) from None
    if version != VERSION:
        raise InvalidInput(
            f"{path} was made by advex {shown(version)}, and this is {VERSION}, which words its"
            f" pages differently: check it with that version, or make it again by --out"
        )
    again = made(words)
    if again.encode("utf-8", "replace") == held:
        return []
    before, after = page.lines, _Read(again).lines
    matched = difflib.SequenceMatcher(None, before, after, autojunk=False)
    found = [
        Difference(" ".join(before[first:last]), " ".join(after[start:end]))
        for kind, first, last, start, end in matched.get_opcodes()
        if kind != "equal"
    ]
    return found or [Difference(DRAWN, "")]


def _no_page(path: Path) -> InvalidInput:
    return InvalidInput(
        f"{path} is no page that this version of advex has made: advex report run.advex --out"
        " report.html makes one"
    )


class _Read(HTMLParser):
    """The words of a page, line by line, and what it keeps of its making."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.kept, self.lines = "", list[str]()
        self._style = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self._style = tag == "style"
        if tag == "meta" and named.get("name") == NAME and not self.kept:
            self.kept = named.get("content") or ""

    def handle_endtag(self, tag: str) -> None:
        self._style = False

    def handle_data(self, data: str) -> None:
        if not self._style:
            self.lines += [" ".join(line.split()) for line in data.splitlines() if line.strip()]
