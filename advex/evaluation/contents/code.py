"""Code, and what it names."""

from __future__ import annotations

import dis
import hashlib
import struct
import sys
import types
from collections.abc import Iterator
from typing import Any


def hashed(*tokens: bytes) -> bytes:
    """One hash of several texts."""
    made = hashlib.blake2b(digest_size=12)
    for token in tokens:
        made.update(struct.pack("<q", len(token)))
        made.update(token)
    return made.digest()


def code_hash(code: types.CodeType) -> bytes:
    """What code does: not its name, its file and its lines."""
    numbers = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    exceptions: bytes = getattr(code, "co_exceptiontable", b"")
    constants = [_constant(value) for value in code.co_consts]
    return hashed(
        repr(sys.version_info[:2]).encode(),
        repr((numbers, names)).encode(),
        code.co_code,
        exceptions,
        *constants,
    )


def _constant(value: Any) -> bytes:
    if isinstance(value, types.CodeType):
        return code_hash(value)
    if isinstance(value, tuple):
        return hashed(b"tuple", *map(_constant, value))
    if isinstance(value, frozenset):
        return hashed(b"frozenset", *sorted(map(_constant, value)))
    return hashed(type(value).__name__.encode(), repr(value).encode())


def _code_within(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for value in code.co_consts:
        if isinstance(value, types.CodeType):
            yield from _code_within(value)


def named_globals(code: types.CodeType) -> Iterator[tuple[str, ...]]:
    """The globals that code reads, each with the attributes asked of it: ("np", "float32"); imports
    begin with ".": (".os",).
    """
    for part in _code_within(code):
        chain: list[str] = []
        for instruction in dis.get_instructions(part):
            if instruction.opname in ("LOAD_ATTR", "LOAD_METHOD") and chain:
                chain.append(str(instruction.argval))
                continue
            if instruction.opname in ("CACHE", "PUSH_NULL", "PRECALL"):
                continue
            if chain:
                yield tuple(chain)
            chain = []
            if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
                chain = [str(instruction.argval)]
            elif instruction.opname == "IMPORT_NAME":
                yield from ((f".{instruction.argval}", name) for name in part.co_names)
        if chain:
            yield tuple(chain)
