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
LONG = 120  # signs of LaTeX that one line holds
WRAPPED = re.compile(r'<(span|div) class="arithmatex">(.*?)</\1>', re.DOTALL)


@functools.cache
def formula(latex: str, display: bool = False) -> str:
    """A formula in LaTeX as MathML, with the LaTeX as its text for whoever copies or hears it."""
    latex = latex.strip()
    try:
        made = convert(latex, display="block" if display else "inline")
    except Exception as problem:
        raise ValueError(f"no formula that latex2mathml can read: {latex}") from problem
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


def in_lines(latex: str) -> list[str]:
    """A formula in the parts between its wide spaces, if it is too long for one line."""
    parts, depth, start = [], 0, 0
    if len(latex) <= LONG or "\\begin" in latex:
        return [latex]
    for found in re.finditer(r"\\qquad|(?<!\\)[{}]|\\left\b|\\right\b", latex):
        depth += (found[0] in ("{", "\\left")) - (found[0] in ("}", "\\right"))
        if found[0] == "\\qquad" and not depth:
            parts.append(latex[start : found.start()])
            start = found.end()
    return [part for part in (*parts, latex[start:]) if part.strip()]


def rendered(page: str) -> str:
    """The HTML of a page with its formulas, which Markdown has only marked, as MathML."""

    def made(found: re.Match[str]) -> str:
        latex = html.unescape(found[2]).strip()
        for left, right in (("\\(", "\\)"), ("\\[", "\\]")):
            latex = latex.removeprefix(left).removesuffix(right)
        if found[1] == "span":
            return f'<span class="formula">{formula(latex)}</span>'
        lines = "".join(formula(line, display=True) for line in in_lines(latex))
        return f'<div class="formula">{lines}</div>'

    return WRAPPED.sub(made, page)
