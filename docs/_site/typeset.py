"""Formulas as MathML, made when the site is built, and short texts as HTML for cells of tables."""

from __future__ import annotations

import functools
import html
import re

from latex2mathml.converter import convert

PIECE = re.compile(
    r"(``.+?``|`[^`]+`)|(\$\$.+?\$\$)|(?<![\\$\w])\$(?!\s)([^$\n]+?)(?<!\s)\$(?![\w$])|(https?://[^\s<>]+[^\s<>.,;:)])",
    re.DOTALL,
)
WRAPPED = re.compile(r'<(span|div) class="arithmatex">(.*?)</\1>', re.DOTALL)


@functools.cache
def formula(latex: str, display: bool = False) -> str:
    """A formula in LaTeX as MathML, with the LaTeX as its text for whoever copies or hears it."""
    latex = latex.strip()
    made = convert(latex, display="block" if display else "inline")
    label = html.escape(" ".join(latex.split()), quote=True)
    return made.replace("<math ", f'<math aria-label="{label}" ', 1)


def inline(text: str) -> str:
    """One paragraph of a docstring as HTML: code, formulas and addresses, the rest as it is."""
    parts, end = [], 0
    text = " ".join(text.split())
    for found in PIECE.finditer(text):
        parts.append(html.escape(text[end : found.start()], quote=False))
        code, block, within, address = found.groups()
        if code:
            parts.append(f"<code>{html.escape(code.strip('`'), quote=False)}</code>")
        elif block:
            parts.append(formula(block.strip("$"), display=True))
        elif within:
            parts.append(formula(within))
        else:
            link = html.escape(address)
            parts.append(f'<a href="{link}">{link.removeprefix("https://")}</a>')
        end = found.end()
    parts.append(html.escape(text[end:], quote=False))
    return "".join(parts)


def rendered(page: str) -> str:
    """The HTML of a page with its formulas, which Markdown has only marked, as MathML."""

    def made(found: re.Match[str]) -> str:
        latex = html.unescape(found[2]).strip()
        for left, right in (("\\(", "\\)"), ("\\[", "\\]")):
            latex = latex.removeprefix(left).removesuffix(right)
        block = found[1] == "div"
        tag = "div" if block else "span"
        return f'<{tag} class="formula">{formula(latex, display=block)}</{tag}>'

    return WRAPPED.sub(made, page)
