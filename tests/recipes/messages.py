"""The messages of the package that carry a recipe, and recipes as their reader types them."""

import ast
import functools
import re
from pathlib import Path

import keras
import numpy as np
import pytest

import advex
from advex.errors import AdvexError

PACKAGE = Path(advex.__file__).parent
EXECUTED = {}  # words of a message -> the test that types its recipe
_typed = []  # the messages of which a recipe was typed in the test that runs now

CALL = r"[\w\])}]\((?=[^)])"  # with something in it
CODE = re.compile(
    rf"{CALL}|\b(?:advex|np|keras|plt)\.[\w.]+[(\[]|[\w)}}]\[(?:None|\.\.\.|'|:|\d|{{)"
    r"|\w=[\w'\"{(\[]|\blambda\b|\bpip install\b|\badvex (?:attack|demo|evaluate|report)\b"
    r"|\S\s--[a-z]|\w\)? (?:[-+*/>]|//) [\d.]+\b"
)
QUERY = re.compile(r"\s*(?:SELECT|INSERT|DELETE|CREATE|PRAGMA|WHERE|UNION)\b")


def executes(*words):
    """Mark a test that types the recipes of the messages with these words, each a part of one
    string of the source, with ``{}`` for what is filled in. The test fails if it has typed none of
    such a message; of a test with a parameter ``words`` each case is about its own.
    """

    def marked(test):
        EXECUTED.update(dict.fromkeys(words, test.__name__))

        @functools.wraps(test)
        def checked(**given):
            _typed.clear()
            test(**given)
            for each in [given["words"]] if "words" in given else words:
                pattern = re.compile(".*?".join(map(re.escape, each.split("{}"))))
                assert any(map(pattern.search, _typed)), f"nobody typed: {each}"

        return checked

    return marked


def said(call, kind=AdvexError):
    """The message of the error that ``call`` ends in."""
    with pytest.raises(kind) as caught:
        call()
    return str(caught.value)


def cut(message, pattern):
    """The code in ``message``: the last group of ``pattern``, or all of it."""
    found = re.search(pattern, message)
    assert found, f"no {pattern} in: {message}"
    _typed.append(message)
    return found.group(found.lastindex or 0)


def typed(message, pattern, **names):
    """The value of the code in ``message``, or of the name that its last statement gives one."""
    code = ast.parse(cut(message, pattern))
    scope = {"advex": advex, "keras": keras, "np": np, **names}
    *before, last = code.body
    if isinstance(last, ast.Assign):
        before, last = code.body, ast.Expr(ast.Name(last.targets[0].id, ast.Load()))
    exec(compile(ast.Module(before, []), "<typed>", "exec"), scope)
    whole = ast.fix_missing_locations(ast.Expression(last.value))
    return eval(compile(whole, "<typed>", "eval"), scope)


def keywords(message, pattern, **names):
    """The keywords in ``message``, as they are typed into a call."""
    code = cut(message, pattern)
    return eval(f"dict({code})", {"advex": advex, "np": np, "functools": functools, **names})


def installed_by(message):
    """What ``pip install`` in ``message`` names."""
    return cut(message, r"pip install '?([\w\[\]-]+)")


SILENT = ("evaluation/contents/", "evaluation/identity.py", "evaluation/page/", "_drawing.py")
"""What is written there are digests and pages, not messages; but what to install."""


def strings():
    """All strings of the package but documentation: (file, line, text), with ``{}`` for what is
    filled in.
    """
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        for line, text in _strings(ast.parse(path.read_text(encoding="utf-8"))):
            yield name, line, text


def recipes():
    """Those that hold code for the reader."""
    for name, line, text in strings():
        words = " " in text.strip() or text.startswith(("advex.", "np.", "keras."))
        silent = name.startswith(SILENT) and "pip install" not in text
        if words and CODE.search(text) and not QUERY.match(text) and not silent:
            yield name, line, text


def _strings(node):
    """The strings in ``node``; not documentation, nor the ``repr`` of something, nor what
    ``--help`` says.
    """
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return
    if isinstance(node, ast.FunctionDef) and node.name in ("__repr__", "_repr_html_"):
        return
    if isinstance(node, ast.keyword) and node.arg in ("help", "epilog"):
        return
    inner = list(ast.iter_child_nodes(node))
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.lineno, node.value
    if isinstance(node, ast.JoinedStr):
        parts = [part.value if isinstance(part, ast.Constant) else "{}" for part in node.values]
        yield node.lineno, "".join(parts)
        inner = [part.value for part in node.values if isinstance(part, ast.FormattedValue)]
    for part in inner:
        yield from _strings(part)
