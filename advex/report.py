"""The page of an evaluation: written to a file, as text, or in short for a notebook."""

from advex.evaluation.page import fragment, html, write

__all__ = ["fragment", "html", "write"]
