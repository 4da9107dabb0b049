"""What a run is about: hashes and settings that must be the same when it goes on."""

from __future__ import annotations

import contextlib
import inspect
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from advex import _backend
from advex._version import VERSION
from advex.attacks import Attack
from advex.budgets import Budget
from advex.domain import Domain
from advex.errors import InvalidInput
from advex.evaluation.budgets import Within
from advex.evaluation.contents import (
    changed,
    combined,
    is_own,
    model_parts,
    parts,
    weights_hash,
)
from advex.evaluation.perturbed import boxed, domains
from advex.evaluation.wanted import Make, written
from advex.model.protocol import Model

MEANT = {  # what the message calls a part, and what can be done
    "advex": "the version of advex: install the one of the run to go on",
    "keras": "the version of Keras: install the one of the run to go on",
    "backend": "the backend or its version",
    "python": "the version of Python, which decides what the code of functions looks like",
    "model": "the model",
    "weights": "the weights of the model",
    "box": "the box of the model",
    "domain": "the domain of the inputs",
    "perturb": "which input of the model is attacked",
    "preprocess": "the preprocessing of the model",
    "classes": "the classes of the model",
    "data": "the data",
    "inputs": "the dtype or shape of the inputs",
    "attacks": "the attacks or their settings",
    "budget": "the budget",
    "seed": "the seed",
    "block": "the number of rows per block",
    "batch_size": "the batch size",
    "keep": "what is kept of the adversarial inputs",
    "goal": "the goal",
    "output": "the output of the model",
}


CODED = {
    "model",
    "preprocess",
    "attacks",
    "goal",
    "domain",
}  # the entries that may hold hashes of code


@dataclass(frozen=True)
class About:
    """All that decides what a run finds, but for the data.

    Attributes:
        entries: name -> value, all of them JSON.
        parts: what was hashed: the name of a thing -> the paths of its parts -> their hashes. What
            a run changes by itself, such as a counter in a closure, is no setting: with its path in
            ``state`` it does not count.
    """

    entries: dict[str, Any]
    parts: dict[str, dict[str, str]]

    def identity(self, state: Collection[str] = ()) -> dict[str, Any]:
        """The entries with one hash for each thing."""
        made = {name: combined(known, _of(name, state)) for name, known in self.parts.items()}
        attacks = {
            name: [text, made[f"attacks {name}"]] for name, text in self.entries["attacks"].items()
        }
        both = {
            name: f"{self.entries[name]} {made[name]}"
            for name in ("model", "preprocess", "goal", "domain")
            if self.entries.get(name)
        }
        return self.entries | both | {"attacks": attacks}

    def changed(
        self, known: Mapping[str, Mapping[str, str]], state: Collection[str] = ()
    ) -> list[str]:
        """The paths of what is not as in other ``parts``, each after the name of its thing and
        "/".
        """
        return [
            f"{name}/{path}"
            for name in self.parts
            for path in changed(known.get(name, {}), self.parts[name], _of(name, state))
        ]


def _of(name: str, state: Collection[str]) -> list[str]:
    return [path.removeprefix(f"{name}/") for path in state if path.startswith(f"{name}/")]


def about(
    classifier: Model, attacks: Mapping[str, Attack], settings: Mapping[str, Any], goal: Make = None
) -> About:
    """What a run with these is about; the model must have been built."""
    model = classifier.model
    ask = getattr(classifier, "predict", None)
    found = {f"attacks {name}": parts({"": attack}) for name, attack in attacks.items()}
    found["preprocess"] = (
        parts({"": classifier.preprocess}) if classifier.preprocess is not None else {}
    )
    found["model"] = model_parts(model) if model is not None else parts({"": ask})
    entries = {
        "advex": VERSION,
        "keras": keras.__version__,
        "backend": f"{_backend.NAME} {backend_version()}",
        "model": layers(model) if model is not None else repr(classifier),
        "weights": weights_hash(model) if model is not None else "",
        "box": list(classifier.box),
        "preprocess": name_of(classifier.preprocess),
        "classes": list(classifier.names or ()),
        "attacks": {name: without_addresses(attack) for name, attack in attacks.items()},
        "python": f"{sys.version_info[0]}.{sys.version_info[1]}",
        **settings,
    }
    if getattr(classifier, "output", None) is not None:
        entries["output"] = classifier.output  # type: ignore[attr-defined]
    if classifier.perturb:
        entries["perturb"] = list(classifier.perturb)
    if not boxed(classifier):
        known = domains(classifier)
        told = [f"{name}: {domain!r}" if name else repr(domain) for name, domain in known.items()]
        entries["domain"] = ", ".join(sorted(told))
        found["domain"] = parts({name: _fields(domain) for name, domain in known.items()})
    if goal is not None:
        entries["goal"], found["goal"] = written(goal), parts({"": goal})
    return About(entries, found)


def _fields(domain: Domain) -> dict[str, Any]:
    """All that decides what is legal: not what columns are called."""
    return {
        name: getattr(domain, name)
        for name in ("low", "high", "fixed", "integer", "one_hot", "repair", "valid")
    }


def budget_text(budget: Within) -> str:
    """A budget to the last digit; what else there is of it as a hash; of several inputs a dict."""
    if not isinstance(budget, Budget):
        each = ", ".join(f"{name!r}: {budget_text(budget[name])}" for name in sorted(budget))
        return f"{{{each}}}"
    text, kind = repr(budget.bare()), type(budget)
    number = budget.epsilon if budget.limited else None
    with contextlib.suppress(TypeError, ValueError):
        if (
            number is not None
            and text == f"{kind.__name__}({number:g})"
            and float(f"{number:g}") != number
        ):
            text = f"{kind.__name__}({number!r})"
    rest = parts(
        {
            name: value
            for name, value in vars(budget).items()
            if name != "epsilon" and value is not None
        }
    )
    code = parts({"": kind}) if is_own(kind.__module__) else {}
    content = (
        parts({"": number}) if number is not None and not isinstance(number, int | float) else {}
    )
    return f"{text} {combined(rest | code | content)}" if rest or code or content else text


def demand_same(
    before: Mapping[str, Any], now: Mapping[str, Any], where: Any, paths: Sequence[str] = ()
) -> None:
    """Raise if the run file was begun with something else; ``paths`` are the parts within functions
    and objects that differ.

    Raises:
        InvalidInput: it names every part that has changed.
    """
    changed = [
        name
        for name in [*before, *(name for name in now if name not in before)]
        if before.get(name) != now.get(name)
    ]
    if not CODED & set(changed):  # where no code is compared, any Python will do
        changed = [name for name in changed if name != "python"]
    if changed:
        told = "; ".join(difference(name, before.get(name), now.get(name)) for name in changed)
        within = [
            path
            for path in paths
            if path.split("/")[0].split(" ")[0] in changed and path.split("/")[1]
        ]
        more = f" and {len(within) - 5} more" if len(within) > 5 else ""
        listed = ", ".join(path.replace("/", "", 1) for path in within[:5])
        told += f"; what differs within: {listed}{more}" if within else ""
        raise InvalidInput(
            f"{where} was begun with something else, and rows of both would be mixed. Changed:"
            f" {', '.join(changed)} ({told}). Give another run file, or what the run was begun"
            " with"
        )


def difference(name: str, before: Any, now: Any) -> str:
    """One changed part, in words."""
    if isinstance(before, dict) and isinstance(now, dict):
        parts = [
            part
            for part in [*before, *(part for part in now if part not in before)]
            if before.get(part) != now.get(part)
        ]
        both = [
            {part: values.get(part, ["none", ""]) for part in parts} for values in (before, now)
        ]
        # the settings: then code or closures differ
        same = all(entry[0] == both[1][part][0] for part, entry in both[0].items())
        before, now = (
            {part: " ".join(entry if same else entry[:1]) for part, entry in side.items()}
            for side in both
        )
    if name == "goal":
        before, now = (side or "Untargeted" for side in (before, now))
    was, is_ = _short(before), _short(now)
    return f"{MEANT.get(name, name)}: {was} in the file, {is_} now"


def _short(value: Any) -> str:
    if isinstance(value, dict):
        value = ", ".join(f"{name}: {entry}" for name, entry in value.items())
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."


def backend_version() -> str:
    """The version of the framework below Keras, which Keras has imported."""
    return str(getattr(sys.modules.get(_backend.NAME), "__version__", "?"))


def layers(model: keras.Model) -> str:
    """The kind of model and the number of its layers, for people."""
    return f"{type(model).__name__} of {len(list(model._flatten_layers()))} layers,"


def name_of(thing: Any) -> str:
    """The name of a function, or of the class of an object; empty for None."""
    if thing is None:
        return ""
    owner = thing if inspect.isclass(thing) or inspect.isroutine(thing) else type(thing)
    return f"{owner.__module__}.{owner.__qualname__}"


def without_addresses(thing: Any) -> str:
    """``repr`` without what changes from process to process."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(thing))
