"""What an evaluation found, as one self-contained HTML page: no script, no font, no picture from
elsewhere.
"""

from __future__ import annotations

import html as codes
import unicodedata
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advex._settings import shown
from advex.errors import InvalidType
from advex.evaluation.figures import Figures
from advex.evaluation.page import checking, comparing, content, numbers
from advex.evaluation.paired import Paired
from advex.evaluation.text import described
from advex.images import replacing

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["check", "comparison_fragment", "fragment", "html", "write", "write_comparison"]


def write(
    evaluation: Figures,
    path: Path,
    *,
    overwrite: bool = False,
    title: str = "",
    author: str = "",
    note: str = "",
) -> Path:
    """Write the page; the file is whole or absent.

    Args:
        evaluation: finished or not.
        path: the file, in a folder that exists.
        overwrite: whether an existing file may be replaced.
        title: above the page; by default what the model calls itself.
        author: who has made the evaluation: below the title, and in the BibTeX entry.
        note: a remark below that, plain text.

    Returns:
        ``path``.

    Raises:
        InvalidInput: the file exists and ``overwrite`` is False. InvalidType: a title, author or
        note that is no text. ImportError: Jinja2 or matplotlib is missing. OSError: it cannot be
        written.
    """
    path = Path(path)
    with replacing(path, overwrite=overwrite) as handle:
        text = html(evaluation, title=title, author=author, note=note)
        handle.write(text.encode("utf-8", "replace"))
    return path


def html(evaluation: Figures, *, title: str = "", author: str = "", note: str = "") -> str:
    """The page as text; the arguments are those of ``write``.

    Raises:
        InvalidType: a title, author or note that is no text. ImportError: Jinja2 or matplotlib is
        missing.

    Example:
        >>> import advex
        >>> model, data = advex.testing.linear_model(), advex.testing.linear_data()
        >>> found = advex.evaluate(model, data, advex.PGD(steps=5), advex.Linf(0.05),
        ...     diagnose=False)
        >>> html(found, title="Linear model").startswith("<!DOCTYPE html>")
        True
    """
    words = said(title, author, note)
    filled = content.page(evaluation, words)
    sections = [
        ("result", "Result"),
        *((("radii", "Curve"),) if filled["curved"] and not filled["goal"]["ends"] else ()),
        *((("goal", "Goal"),) if filled["goal"]["table"] else ()),
        *((("classes", "Classes"),) if filled["goal"]["classes"] else ()),
        ("attacks", "Attacks"),
        ("pictures", "Pictures"),
        ("doctor", "Doctor"),
        ("costs", "Cost"),
        ("repeat", "Cite and repeat"),
    ]
    return _environment().get_template("page.html").render(filled | {"sections": sections})


def said(title: str, author: str, note: str) -> content.Words:
    """The user's words, or an error that says which of them is no text."""
    for name, text in (("title", title), ("author", author), ("note", note)):
        if not isinstance(text, str):
            raise InvalidType(f"{name} must be a text; received {shown(text)}")
    return content.Words(*map(_legible, (title, author, note)))


def _legible(text: str) -> str:
    """A text without control characters: no page and no bibliography takes them."""
    kept = (one for one in text if one in "\n\t" or unicodedata.category(one) != "Cc")
    return "".join(kept).strip()


def fragment(evaluation: Figures) -> str:
    """Headline, flags, chart, attacks and pictures, for a notebook; without Jinja2 plain text in
    HTML, without matplotlib no chart.
    """
    try:
        environment = _environment()
    except ImportError:
        return f"<pre>{codes.escape(described(evaluation))}</pre>"
    return environment.get_template("fragment.html").render(content.notebook(evaluation))


def write_comparison(
    found: Paired,
    path: Path,
    *,
    overwrite: bool = False,
    title: str = "",
    author: str = "",
    note: str = "",
) -> Path:
    """Write the page of two runs; the arguments are those of ``write``."""
    path = Path(path)
    with replacing(path, overwrite=overwrite) as handle:
        text = _comparison_html(found, said(title, author, note))
        handle.write(text.encode("utf-8", "replace"))
    return path


def _comparison_html(found: Paired, words: content.Words) -> str:
    filled = comparing.comparison(found, words)
    return _environment().get_template("compare.html").render(filled)


def check(path: Path, found: Figures | Paired) -> list[checking.Difference]:
    """Where a page differs from the run, or from the comparison, that it is said to be of.

    Args:
        path: the page.
        found: of which it is made again, with the title, author and note of the page.

    Returns:
        The places, page and run side by side; none where the page is the same, byte for byte.

    Raises:
        InvalidInput: the file is no page of advex, or of another version. ImportError: Jinja2 or
        matplotlib is missing. OSError: it cannot be read.
    """

    def made(words: content.Words) -> str:
        if isinstance(found, Paired):
            return _comparison_html(found, said(*words))
        return html(found, **words._asdict())

    return checking.differences(Path(path), made)


def comparison_fragment(found: Paired) -> str:
    """The change and each class, for a notebook; without Jinja2 plain text in HTML."""
    try:
        environment = _environment()
    except ImportError:
        return f"<pre>{codes.escape(comparing.verdict(found))}</pre>"
    return environment.get_template("compare_fragment.html").render(comparing.in_short(found))


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
        "counted": numbers.counted,
        "cost": numbers.cost,
        "wide": numbers.wide,
        "kept": checking.kept,
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
