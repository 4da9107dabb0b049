"""What is public in advex, read from its source without importing it: names, signatures, facts."""

from __future__ import annotations

import ast
import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import griffe
from docstrings import Docstring, parsed

ROOT = Path(__file__).parent.parent.parent
NORMS = ("Linf", "L2", "L1", "L0")

# Group: title, the modules whose public names it has, and further names of advex.
GROUPS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "attacks": ("Attacks", ("attacks",), ("Others",)),
    "budgets": ("Budgets", ("budgets",), ()),
    "goals": ("Goals", ("goals",), ()),
    "models": ("Models and domains", (), ("Classifier", "BlackBox", "Domain")),
    "results": ("Results", (), ("Result", "Trace")),
    "evaluation": ("Evaluation", ("evaluation",), ()),
    "certificates": ("Certificates", (), ("certify", "Certificate")),
    "training": ("Training", ("training", "callbacks"), ()),
    "losses": ("Losses", ("losses",), ()),
    "symbols": (
        "Symbolic gradients",
        (),
        ("gradients", "function", "jacobian", "symbol", "updates"),
    ),
    "own_attacks": ("Parts for your own attack", (), ("Problem", "unit")),
    "zoo": ("Models that ship", ("zoo",), ()),
    "images": ("Pictures", ("images",), ()),
    "testing": ("Testing", ("testing",), ()),
    "errors": ("Errors and warnings", ("errors",), ()),
}
# What is decided by the parts of an attack, or by a check; tests compare this with the attacks.
DECIDED: dict[str, dict[str, Any]] = {
    "NFGSM": {"norms": ("Linf",)},
    "AutoAttack": {"needs": ("gradients",), "lacks": ("L0",)},
    "Verdict": {"needs": ("gradients",)},
    "SEA": {"needs": ("gradients",)},
    "MinimumNorm": {"needs": ("gradients", "scores", "labels")},
}
# What advex makes and hands out, besides the figures of an evaluation: there is no call to show.
MADE = (
    "Batch",
    "Certificate",
    "ClassChange",
    "Comparison",
    "Picture",
    "Problem",
    "Result",
    "Trace",
    "Trainer",
)
# Attacks on a class for each pixel, which take no other goal; a test compares this, too.
OF_PIXELS = ("SEA", "SegPGD")
# Written to be derived from.
BASES = ("Attack", "Goal", "Method")
WRAPPERS = ("Restarts", "EveryTarget", "AveragedGradient", "Ensemble")


@dataclass
class Argument:
    """One argument of a signature."""

    name: str
    kind: str
    annotation: str = ""
    default: str | None = None
    limits: str = ""


@dataclass
class Entry:
    """One public name: a class or a function."""

    name: str
    group: str
    module: str  # where users find it, such as "advex" or "advex.training"
    source: Any
    doc: Docstring
    page: str
    file: str
    line: int
    kind: str
    arguments: list[Argument] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> str:
        """The whole name, as users type it."""
        return f"{self.module}.{self.name}"

    @property
    def called(self) -> bool:
        """Whether users call it: neither what advex hands out nor an error."""
        figures = self.group == "evaluation" and self.kind == "class"
        return not figures and self.name not in MADE + BASES and self.group != "errors"

    @property
    def signature(self) -> str:
        """The whole call, ``advex.PGD(*, steps=40, ...)``, or the name alone."""
        return self.path + (signature(self.arguments) if self.called else "")


@functools.cache
def package() -> Any:
    """The source of advex, read and not run."""
    return griffe.load(
        "advex", search_paths=[str(ROOT)], allow_inspection=False, try_relative_path=False
    )


def target(member: Any) -> Any:
    """What a name stands for, wherever it was imported from."""
    return member.final_target if member.is_alias else member


def limits_of(call: ast.Call) -> str:
    """The values that ``setting(...)`` lets pass, in signs."""
    given = {word.arg: ast.unparse(word.value) for word in call.keywords}
    kind = ast.literal_eval(call.args[1])
    if kind == "whole":
        return f"≥ {given.get('at_least', 1)}"
    signs = [("at_least", "≥"), ("above", ">"), ("below", "<"), ("at_most", "≤")]
    told = [f"{sign} {given[word]}" for word, sign in signs if word in given]
    if "among" in given:
        return "one of " + ", ".join(map(repr, ast.literal_eval(given["among"])))
    return ", ".join(told)


def parameters_of(source: Any) -> list[Any]:
    """What a class or function is called with, as it is written."""
    if source.is_class and any("init=False" in str(each.value) for each in source.decorators):
        written = (kind.members.get("__init__") for kind in lines_of_descent(source))
        return list(next(call for call in written if call and call.lineno).parameters)
    return [
        parameter
        for parameter in source.parameters
        if not (source.is_class and is_class_variable(source, parameter.name))
    ]


def is_class_variable(source: Any, name: str) -> bool:
    """Whether a name is no field of a dataclass: declared last, it is a ``ClassVar``."""
    declared = attribute(source, name)
    if declared is None or not declared.is_attribute:
        return False
    return (
        str(declared.annotation).startswith("ClassVar")
        or "instance-attribute" not in declared.labels
    )


@functools.cache
def constants(path: Path) -> dict[str, str]:
    """The names in capitals of a file, and what is assigned to them."""
    found = {}
    for line in ast.parse(path.read_text(encoding="utf-8")).body:
        if not isinstance(line, ast.Assign):
            continue
        names, value = line.targets[0], line.value
        pairs = (
            zip(names.elts, value.elts, strict=True)
            if isinstance(names, ast.Tuple) and isinstance(value, ast.Tuple)
            else [(names, value)]
        )
        found |= {ast.unparse(name): ast.unparse(each) for name, each in pairs}
    return found


def default_of(parameter: Any, source: Any) -> tuple[str | None, str]:
    """A default as Python shows it, and the limits within which values pass."""
    if parameter.default is None:
        return None, ""
    text, limits = str(parameter.default), ""
    call = ast.parse(text, mode="eval").body
    if isinstance(call, ast.Call) and ast.unparse(call.func) == "setting":
        text, limits = ast.unparse(call.args[0]), limits_of(call)
    if text.isupper():
        text = constants(Path(source.filepath)).get(text, text)
    return ast.unparse(ast.parse(text, mode="eval").body), limits


def arguments_of(source: Any) -> list[Argument]:
    """The arguments of a class or function, with their defaults as Python shows them."""
    listed = []
    for parameter in parameters_of(source):
        if parameter.name in ("self", "cls"):
            continue
        default, limits = default_of(parameter, source)
        listed.append(
            Argument(
                parameter.name,
                parameter.kind.value,
                "" if parameter.annotation is None else str(parameter.annotation),
                default,
                limits,
            )
        )
    return listed


def signature(arguments: list[Argument]) -> str:
    """``(a, b=1, *, c=2)``: names and defaults."""
    parts, keywords = [], False
    for argument in arguments:
        if argument.kind == "variadic positional":
            keywords = True
            parts.append(f"*{argument.name}")
            continue
        if argument.kind == "variadic keyword":
            parts.append(f"**{argument.name}")
            continue
        if argument.kind == "keyword-only" and not keywords:
            keywords = True
            parts.append("*")
        parts.append(
            argument.name if argument.default is None else f"{argument.name}={argument.default}"
        )
    return f"({', '.join(parts)})"


def lines_of_descent(source: Any) -> list[Any]:
    """A class and the classes of advex that it comes from, nearest first."""
    return [source, *(target(base) for base in source.mro())]


def attribute(source: Any, name: str) -> Any:
    """A class variable or property, from the nearest class that declares it; None if none does."""
    for kind in lines_of_descent(source):
        if name in kind.members:
            return target(kind.members[name])
    return None


def words(source: Any, name: str) -> tuple[str, ...]:
    """A class variable that is a tuple of names, as text."""
    found = attribute(source, name)
    tree = ast.parse(str(found.value), mode="eval").body
    return tuple(ast.unparse(each) for each in tree.elts) if isinstance(tree, ast.Tuple) else ()


def facts_of(name: str, source: Any) -> dict[str, Any]:
    """What an attack needs and takes, from the class variables of its class."""
    ancestors = [kind.name for kind in lines_of_descent(source)]
    if "Attackable" not in ancestors or name == "Attack":
        return {}
    if name in WRAPPERS:
        return {"wrapper": True}
    fixed = DECIDED.get(name, {})
    only = fixed.get("norms") or words(source, "norms")
    lacks = fixed.get("lacks") or words(source, "lacks")
    norms = tuple(norm for norm in NORMS if (norm in only or not only) and norm not in lacks)
    needs = attribute(source, "needs")
    limit = attribute(source, "query_limit")
    return {
        "wrapper": False,
        "norms": norms,
        "own_norms": not only,
        "needs": fixed.get("needs") or (ast.literal_eval(str(needs.value)),),
        "limit_required": str(attribute(source, "needs_epsilon").value) == "True",
        "pixels": name in OF_PIXELS,
        "targets": str(attribute(source, "targets").value) == "True",
        "starts": str(attribute(source, "starts").value) == "True",
        "query_limit": limit is not None and limit.parent.name not in ("Attack", "Attackable"),
    }


def kind_of(source: Any) -> str:
    """The word in front of a signature."""
    return "class" if source.is_class else "function"


@functools.cache
def entries() -> list[Entry]:
    """All public classes and functions, in the order of the pages."""
    found: dict[str, Entry] = {}
    root = package()
    for group, (_, modules, further) in GROUPS.items():
        wanted = [(module, name) for module in modules for name in root[module].exports]
        wanted += [("", name) for name in further]
        taken: set[str] = set()
        for module, name in wanted:
            short = name in root.exports
            source = target((root[module] if module and not short else root)[name])
            if source.is_module:  # a function that has the name of its file
                source = target(source[name])
            if source.path in found:
                continue
            # Two pages whose names differ in case alone are one file on some disks.
            page = name if name.lower() not in taken else f"{name}_{kind_of(source)}"
            taken.add(name.lower())
            found[source.path] = Entry(
                name=name,
                group=group,
                module="advex" if short else f"advex.{module}",
                source=source,
                doc=parsed(source.docstring and source.docstring.value),
                page=f"api/{group}/{page}.md",
                file=Path(source.filepath).relative_to(ROOT).as_posix(),
                line=source.lineno,
                kind=kind_of(source),
                arguments=arguments_of(source),
                facts=facts_of(name, source) if source.is_class else {},
            )
    return list(found.values())


def alias(name: str, source: Any) -> str | None:
    """What an annotation such as ``Loss`` stands for, where advex gives that a name."""
    try:
        found = target(source.module[name])
    except (KeyError, griffe.AliasResolutionError, griffe.CyclicAliasError):
        return None
    if name in ("Array", "Tensor"):  # which everybody knows
        return None
    if found.is_attribute and found.value is not None and found.path.startswith("advex."):
        return str(found.value)
    return None
