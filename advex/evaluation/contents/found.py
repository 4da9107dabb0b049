"""The parts that were found, each under a path with a hash."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from advex.evaluation.contents.code import hashed


class Parts:
    """What a walk over things has put down; what was met before is named by where it was met.

    Args:
        describe: puts down one thing at a path; it walks on to what is in it.
        met: things by their addresses, with the paths where they were met, and the things
            themselves: an address may not be used again meanwhile.
        depth: how deep within other things.
    """

    def __init__(
        self,
        describe: Callable[[Parts, Any, str], None],
        met: dict[int, tuple[str, Any]] | None = None,
        depth: int = 0,
    ) -> None:
        self.describe, self.depth = describe, depth
        self.met: dict[int, tuple[str, Any]] = {} if met is None else met
        self.parts: dict[str, bytes] = {}

    def put(self, path: str, *tokens: bytes) -> None:
        """Add to the hash of one path."""
        self.parts[path] = hashed(self.parts.get(path, b""), *tokens)

    def walk(self, thing: Any, path: str) -> None:
        """Put down what ``thing`` is."""
        self.describe(self, thing, path)

    def inner(self) -> Parts:
        """Parts of something that becomes one hash."""
        return Parts(self.describe, self.met, self.depth + 1)
