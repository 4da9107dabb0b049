"""The page of an evaluation: written to a file, as text, or in short for a notebook."""

from typing import TYPE_CHECKING

from advex._others import face
from advex.evaluation.page import fragment, html, write

__all__ = ["fragment", "html", "write"]

if not TYPE_CHECKING:
    __getattr__, __dir__ = face(__name__, __all__)
