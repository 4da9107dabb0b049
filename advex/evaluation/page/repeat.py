"""The Python code that repeats a run, with gaps where model and data belong."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any

from advex import attacks, budgets, goals, losses
from advex.evaluation.figures import Figures
from advex.evaluation.page.listing import assigned, comment

CLASS_NAMES = 20  # that are written out
GOALS = ("Goal", "Targeted", "Untargeted")
PUBLIC: dict[str, tuple[str, Any]] = {
    **{name: ("advex.losses.", getattr(losses, name)) for name in losses.__all__},
    **{name: ("advex.", getattr(goals, name)) for name in GOALS},
    **{name: ("advex.", getattr(budgets, name)) for name in budgets.__all__},
    **{name: ("advex.", getattr(attacks, name)) for name in attacks.__all__},
}
"""What the settings of a run may name: its place, and what it is."""


GENERIC = re.compile(r"(?:sequential|functional|model)(?:_\d+)?")
"""What Keras calls a model to which nobody has given a name."""


def model_name(evaluation: Figures) -> str:
    """What people call the model: the name of its file, or what it calls itself; where Keras has
    named it, the name of the run file, and of a run that was not kept what the model is.
    """
    if known := known_name(evaluation):
        return known
    return model_kind(evaluation) if evaluation.path is None else Path(evaluation.path).name


def known_name(evaluation: Figures) -> str:
    """The name of the model's file, or what it calls itself; empty where Keras has named it."""
    if known := str(evaluation.facts.get("known as", "")):
        return known
    name = _own_name(evaluation)
    return "" if GENERIC.fullmatch(name) else name


def model_kind(evaluation: Figures) -> str:
    """What the model is, such as "Sequential model of 9 layers"."""
    said = str(evaluation.facts["identity"].get("model", ""))
    name, layers = _own_name(evaluation), re.match(r"(\w+) of (\d+) layers", said)
    if GENERIC.fullmatch(name):
        kind = "Keras" if name.startswith("model") else name.partition("_")[0].title()
    else:
        kind = layers.group(1) if layers else name
    return f"{kind} model of {layers.group(2)} layers" if layers else f"{kind} model"


def _own_name(evaluation: Figures) -> str:
    """What the model calls itself."""
    found = re.match(r"""Classifier\((['"])(.*?)\1, box=""", evaluation.facts["model"])
    return found.group(2) if found else str(evaluation.facts["model"]).partition("(")[0]


def snippet(evaluation: Figures) -> str:
    """A script that makes the same run again."""
    about, facts = evaluation.facts["identity"], evaluation.facts
    listed = [f"    {attack.name!r}: {_code(attack.settings)}," for attack in evaluation.attacks]
    settings = {name: about[name] for name in ("seed", "batch_size", "block", "keep")}
    goal = ""
    if "goal" in facts:
        named = re.fullmatch(r"(advex\.\w+) \w+", about["goal"])
        goal = f"goal={named.group(1) if named else '...'}, "
    if evaluation.diagnosis is None and not (goal or facts.get("doctor")):
        settings["diagnose"] = False
    versions = ", ".join(f"{name} {version}" for name, version in evaluation.versions.items())
    rows = f"{len(evaluation.distance)} rows, in the same order"
    lines = [
        "import advex",
        "",
        *_yours("\n".join(listed)),
        *comment(versions),
        *comment(f"{_named(facts['model'])}, weights {about['weights'] or 'not known'}"),
        "model = ...",
        *comment(f"{evaluation.attacked or facts['inputs'] or 'no inputs'}, {rows}"),
        "x, labels = ..., ...",
        "",
        *_classifier(about, facts["model"]),
        *(comment(f"goal: {about['goal']}, {evaluation.goal}") if goal else []),
        *_attacks(listed),
        *_statement(f"budget = {_code(evaluation.budget)}"),
        *assigned(
            f"found = advex.evaluate(classifier, (x, labels), attacks, budget,"
            f" {goal}{_keywords(settings)})"
        ),
        "print(found)",
    ]
    return "\n".join(lines) + "\n"


def _statement(code: str) -> list[str]:
    """A statement; one with a gap keeps the comment that says what belongs there."""
    return [code.rstrip()] if "..." in code else assigned(code)


def _attacks(listed: list[str]) -> list[str]:
    code = "\n".join(["attacks = {", *listed, "}"])
    if "..." in code:  # a gap, and the comment that says what belongs there
        return code.splitlines()
    made = assigned(code)
    return made if len(made) > 1 else code.splitlines()


def _named(model: str) -> str:
    """What a model calls itself, without the names of its classes, which follow."""
    return re.sub(r"classes=\[[^\]]*\]", "classes=[...]", str(model))


def _classifier(about: dict[str, Any], model: str) -> list[str]:
    """The lines that say what the model's domain is."""
    box = f"box=({about['box'][0]!r}, {about['box'][1]!r})"
    names, parts, notes = about["classes"], ["model", box], []
    if not model.startswith("Classifier("):
        _, _, rest = model.partition(", ")
        if 0 < len(names) <= CLASS_NAMES:
            rest = rest.replace(f"classes={len(names)}", f"classes={names!r}", 1)
        if "domain" in about or not rest.startswith("classes="):
            return [f"classifier = model  # an advex.BlackBox, {box}"]
        return ["# model is the function", *assigned(f"classifier = advex.BlackBox(model, {rest}")]
    if "domain" in about:
        parts[1] = "box=..."
        notes.append(f"its domain: {_line(about['domain'])}")
    if "perturb" in about:
        own = about["perturb"]
        parts.append(f"perturb={(own[0] if len(own) == 1 else own)!r}")
    if "output" in about:
        parts.append(f"output={about['output']!r}")
    if about["preprocess"]:
        parts.append("preprocess=...")
        notes.append(f"preprocessing: {_line(about['preprocess'])}")
    if 0 < len(names) <= CLASS_NAMES:
        parts.append(f"classes={names!r}")
    elif names:
        parts.append("classes=...")
        notes.append(f"the names of its {len(names)} classes")
    said = comment("; ".join(notes)) if notes else []
    return [*said, *assigned(f"classifier = advex.Classifier({', '.join(parts)})")]


def _yours(code: str) -> list[str]:
    """A comment on names that advex does not have: a user's own attacks and losses."""
    own = {
        node.id for node in ast.walk(ast.parse(f"{{{code}\n}}")) if isinstance(node, ast.Name)
    } - {"advex"}
    return [f"# from your own code: {', '.join(sorted(own))}"] if own else []


def _keywords(settings: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in settings.items() if value is not None)


def _line(text: str) -> str:
    """A text that fits into a comment."""
    return " ".join(str(text).split())


def _code(settings: str) -> str:
    """The ``repr`` of an attack or a budget as code that needs ``import advex`` alone; a gap where
    that cannot be.
    """
    try:
        tree = _Public().visit(ast.parse(settings, mode="eval"))
    except (SyntaxError, ValueError):
        return f"...  # {_line(settings)}\n   "
    return ast.unparse(tree)


class _Public(ast.NodeTransformer):
    """``PGD(loss=margin)`` becomes ``advex.PGD(loss=advex.losses.margin)``."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """A call without the keywords whose value is a default that has no public name."""
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        _, owner = PUBLIC.get(name, ("", None))
        if inspect.isclass(owner):
            usual = {
                name: getattr(part.default, "__name__", "")
                for name, part in inspect.signature(owner).parameters.items()
            }
            node.keywords = [part for part in node.keywords if not _private(part, usual)]
        return self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        """A name in its public place; others belong to whoever made the run."""
        return ast.parse(f"{_home(node.id) or ''}{node.id}", mode="eval").body


def _private(part: ast.keyword, usual: dict[str, str]) -> bool:
    name = part.value.id if isinstance(part.value, ast.Name) else None
    return name is not None and _home(name) is None and usual.get(str(part.arg)) == name


def _home(name: str) -> str | None:
    """Where a name is found, from ``advex`` on; None outside."""
    return PUBLIC[name][0] if name in PUBLIC else None
