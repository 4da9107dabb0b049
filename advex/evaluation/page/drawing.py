"""Drawing: what matplotlib draws becomes an SVG that takes its colours from the page."""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 4.6  # inches: on a phone letters keep their size

# Stand-ins that become colours of the page; on paper and in the dark they differ.
COLOURS = {
    "ink": "#010101",
    "muted": "#020202",
    "rule": "#030303",
    "accent": "#040404",
    "pale": "#050505",
}


@contextlib.contextmanager
def context() -> Iterator[None]:
    """Matplotlib as it comes, whatever the user has set; text stays text."""
    try:
        import matplotlib
        import matplotlib.style
    except ImportError:
        raise ImportError(
            "the charts of a report are drawn by matplotlib: pip install 'advex[report]'"
        ) from None
    ours: dict[str, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": "advex",
        "font.size": 10,
        "text.color": COLOURS["ink"],
        "axes.labelcolor": COLOURS["ink"],
        "axes.edgecolor": COLOURS["muted"],
        "axes.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "axes.facecolor": "none",
        "xtick.color": COLOURS["muted"],
        "ytick.color": COLOURS["muted"],
        "xtick.labelcolor": COLOURS["ink"],
        "ytick.labelcolor": COLOURS["ink"],
        "grid.color": COLOURS["rule"],
        "grid.linewidth": 0.6,
        "text.parse_math": False,
    }
    with matplotlib.style.context(["default", ours]), warnings.catch_warnings():
        # names in any script: the browser has the letters
        warnings.filterwarnings("ignore", "Glyph")
        yield


def figure(
    height: float, left: float, bottom: float, top: float = 0.1, right: float = 0.15
) -> tuple[Figure, Axes]:
    """A figure with one pair of axes; all lengths in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height))
    box = (
        left / WIDTH,
        bottom / height,
        (WIDTH - left - right) / WIDTH,
        (height - bottom - top) / height,
    )
    return figure, figure.add_axes(box)


def svg(figure: Figure, name: str, title: str, description: str, *, halo: bool = False) -> Markup:
    """The figure as an element of the page.

    Args:
        figure: what was drawn with ``_drawing``.
        name: of the chart; all its ids begin with it.
        title: what it shows.
        description: its main figures, for those who cannot see it.
        halo: whether letters stand out from what they lie on.
    """
    from markupsafe import Markup, escape

    buffer = io.StringIO()
    nothing: dict[str, Any] = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue()
    body = text[text.index(">", text.index("<svg")) + 1 :]
    body = re.sub(r"<style.*?</style>", "", body, count=1, flags=re.S)
    # tags alone: names of classes stay as they are
    body = re.sub(r"<[^>]+>", lambda found: _tag(found.group(), name), body)
    body = re.sub(r"\s*\n\s*", "\n", body)
    width, height = (72 * inches for inches in figure.get_size_inches())
    head = (
        f'<svg class="chart{" halo" if halo else ""}" role="img" viewBox="0 0 {width:g} {height:g}"'
        f' aria-labelledby="{name}-title {name}-text">'
        f'<title id="{name}-title">{escape(title)}</title><desc'
        f' id="{name}-text">{escape(description)}</desc>'
    )
    return Markup(head + body.strip())  # noqa: S704 - matplotlib escapes text, the rest is escaped here


def _tag(tag: str, name: str) -> str:
    """A tag without what would meet others on the page: ids of groups go, the rest get the chart's
    name.
    """
    if tag.startswith("<g "):
        tag = re.sub(r' id="[^"]*"', "", tag)
    tag = re.sub(r' id="([^"]*)"', rf' id="{name}-\1"', tag)
    tag = re.sub(r"url\(#([^)]*)\)", rf"url(#{name}-\1)", tag)
    tag = re.sub(r'xlink:href="#([^"]*)"', rf'href="#{name}-\1"', tag)
    # matplotlib before 3.10
    tag = re.sub(r"font: (?:[\w-]+ )*([\d.]+px) [^;\"]*", r"font-size: \1", tag)
    tag = re.sub(r"font-family: [^;\"]+;? ?", "", tag)
    for colour, code in COLOURS.items():
        tag = tag.replace(code, f"var(--{colour})")
    return tag
