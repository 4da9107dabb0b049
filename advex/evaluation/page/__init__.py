"""What an evaluation found, as one self-contained HTML page: no script, no font, no picture from
elsewhere.
"""

from __future__ import annotations

import html as codes
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advex.evaluation.figures import Figures
from advex.evaluation.page import content, numbers
from advex.evaluation.text import described
from advex.images import replacing

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["fragment", "html", "write"]


def write(evaluation: Figures, path: Path, *, overwrite: bool = False) -> Path:
    """Write the page; the file is whole or absent.

    Args:
        evaluation: finished or not.
        path: the file, in a folder that exists.
        overwrite: whether an existing file may be replaced.

    Returns:
        ``path``.

    Raises:
        InvalidInput: the file exists and ``overwrite`` is False. ImportError: Jinja2 or matplotlib
        is missing. OSError: it cannot be written.
    """
    path = Path(path)
    with replacing(path, overwrite=overwrite) as handle:
        handle.write(html(evaluation).encode("utf-8", "replace"))
    return path


def html(evaluation: Figures) -> str:
    """The page as text.

    Raises:
        ImportError: Jinja2 or matplotlib is missing.

    Example:
        >>> import advex
        >>> model, data = advex.testing.linear_model(), advex.testing.linear_data()
        >>> found = advex.evaluate(model, data, advex.PGD(steps=5), advex.Linf(0.05),
        ...     diagnose=False)
        >>> html(found).startswith("<!DOCTYPE html>")
        True
    """
    return _environment().get_template("page.html").render(content.page(evaluation))


def fragment(evaluation: Figures) -> str:
    """The headline, the flags and the table of attacks, for a notebook; plain text in HTML where
    Jinja2 is missing.
    """
    try:
        environment = _environment()
    except ImportError:
        return f"<pre>{codes.escape(described(evaluation))}</pre>"
    return environment.get_template("fragment.html").render(content.summary(evaluation))


def _environment() -> Environment:
    """Jinja2 with the templates that lie beside this file."""
    try:
        import jinja2
    except ImportError:
        raise ImportError(
            "reports are made by Jinja2 and matplotlib: pip install 'advex[report]'"
        ) from None
    here = resources.files("advex.evaluation.page")
    filters: dict[str, Any] = {
        "percent": numbers.percent,
        "count": numbers.count,
        "cost": numbers.cost,
    }
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: here.joinpath(name).read_text("utf-8")),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(filters)
    return environment
