"""Code for a page: lines of at most 88 columns."""

from __future__ import annotations

import ast
import textwrap

WIDTH = 88


def comment(text: str) -> list[str]:
    """A text as lines of comments."""
    return textwrap.wrap(
        " ".join(text.split()),
        WIDTH,
        initial_indent="# ",
        subsequent_indent="# ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def assigned(code: str) -> list[str]:
    """One statement, ``name = value`` or a value, as lines: what is too long has a line for each of
    its parts.
    """
    (statement,) = ast.parse(code).body
    if isinstance(statement, ast.Assign):
        return _laid(statement.value, f"{ast.unparse(statement.targets[0])} = ", "", "")
    assert isinstance(statement, ast.Expr)
    return _laid(statement.value, "", "", "")


def _laid(node: ast.expr, before: str, after: str, indent: str) -> list[str]:
    """An expression with what stands around it."""
    short = f"{indent}{before}{ast.unparse(node)}{after}"
    if len(short) <= WIDTH:
        return [short]
    inner = f"{indent}    "
    if isinstance(node, ast.Call) and (node.args or node.keywords):
        parts: list[tuple[str, ast.expr]] = [("", part) for part in node.args]
        parts += [(f"{part.arg}=" if part.arg else "**", part.value) for part in node.keywords]
        opened, closed = f"{ast.unparse(node.func)}(", ")"
    elif isinstance(node, ast.Dict) and node.keys:
        parts = [
            (f"{ast.unparse(key)}: " if key is not None else "**", value)
            for key, value in zip(node.keys, node.values, strict=True)
        ]
        opened, closed = "{", "}"
    elif isinstance(node, ast.List | ast.Tuple) and len(node.elts) > 1:
        opened, closed = ("[", "]") if isinstance(node, ast.List) else ("(", ")")
        if all(isinstance(part, ast.Constant) for part in node.elts):
            return [
                f"{indent}{before}{opened}",
                *_filled(node.elts, inner),
                f"{indent}{closed}{after}",
            ]
        parts = [("", part) for part in node.elts]
    else:
        return [short]
    lines = [f"{indent}{before}{opened}"]
    for start, part in parts:
        lines += _laid(part, start, ",", inner)
    return [*lines, f"{indent}{closed}{after}"]


def _filled(parts: list[ast.expr], indent: str) -> list[str]:
    """Plain values, as many in a line as there is room for."""
    lines, line = [], indent.rstrip()
    for part in parts:
        word = f"{ast.unparse(part)},"
        longer = f"{line} {word}" if line.strip() else f"{indent}{word}"
        if len(longer) > WIDTH and line.strip():
            lines.append(line)
            longer = f"{indent}{word}"
        line = longer
    return [*lines, line]
