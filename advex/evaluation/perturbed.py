"""What of its inputs a run attacks, in words and as facts: which of several inputs, the output of
which layer, within which domain.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from advex._arrays import Array
from advex._inputs import Bundle, Examples, Part
from advex.domain import Domain
from advex.evaluation.budgets import Within
from advex.model.protocol import Model

NO_DOCTOR = (
    "The doctor has not looked: its checks are about one array of numbers in a box, and one budget"
    " for all; here {what}. Compare with an attack that looks at scores alone, such as"
    " advex.SquareAttack(steps=1000)."
)


def domains(classifier: Model) -> dict[str, Domain]:
    """The domain of each input that is attacked by name; under no name that of all."""
    found: dict[str, Domain] = getattr(classifier, "boxes", {"": classifier.domain})
    return found


def boxed(classifier: Model) -> bool:
    """Whether there is one box of two ends, and nothing else."""
    known = domains(classifier)
    return list(known) == [""] and known[""].plain and known[""].fixed is None


def attacked_fact(classifier: Model, x: Array | Examples) -> dict[str, Any] | None:
    """What is written down of it; None for one array in a box.

    A dict of "text", in words; "layer", its name or None; and "inputs", what is attacked, each with
    name, shape, dtype, where it begins in the vector of all, and its box.
    """
    if not isinstance(x, Examples):
        if boxed(classifier):
            return None
        parts = (Part("", x.shape[1:], x.dtype, classifier.domain),)
        return {"text": _of_domain(parts[0]), "layer": None, "inputs": _inputs(parts)}
    form = x.form
    names = [f"{part.name!r} {part.shape}" for part in form.parts]
    beside = sorted(map(repr, x.beside))
    if form.layer is not None:
        text = f"the output of the layer {names[0]}"
    elif form.flat:
        first = ", ".join(names[:-1])
        text = f"the inputs {first} and {names[-1]} at once, each within a budget of its own"
    else:
        text = f"the input {names[0]}"
    if beside:
        verb = "stay as they are" if len(beside) > 1 else "stays as it is"
        text += f"; {', '.join(beside)} {verb}"
    for part in form.parts:
        if not part.domain.plain or part.domain.fixed is not None:
            text += f"; {_of_domain(part)}"
    return {"text": text, "layer": form.layer, "inputs": _inputs(form.parts)}


def _of_domain(part: Part) -> str:
    """A domain in words."""
    domain, shape = part.domain, part.shape
    name = f" of {part.name!r}" if part.name else ""
    said = [f"{int(np.prod(shape))} features{name} within their domain"]
    for mask, word in ((domain.fixed, "fixed"), (domain.integer, "whole")):
        if mask is not None and mask.any():
            said.append(f"{int(np.broadcast_to(mask, shape).sum())} {word}")
    if groups := len(domain.one_hot):
        said.append(f"{groups} group{'s' * (groups > 1)} of which exactly one is 1")
    if domain.repair is not None:
        said.append("relations restored by repair")
    if domain.valid is not None:
        said.append("nothing for which valid is False")
    if domain.low.ndim or domain.high.ndim:
        said.append("epsilon in units of each feature's own range")
    return ", ".join(said)


def _inputs(parts: tuple[Part, ...]) -> list[dict[str, Any]]:
    return [
        {
            "name": part.name,
            "shape": list(part.shape),
            "dtype": str(part.dtype),
            "start": part.start,
            "box": list(part.domain.ends),
        }
        for part in parts
    ]


def split(values: Array, fact: dict[str, Any] | None) -> Any:
    """One attacked input as it was kept; of several at once each by name."""
    if fact is None or len(fact["inputs"]) < 2:
        return values
    made = {}
    for part in fact["inputs"]:
        stop = part["start"] + int(np.prod(part["shape"]))
        own = values[part["start"] : stop].reshape(part["shape"])
        made[part["name"]] = own.astype(part["dtype"])
    return made


def no_doctor(classifier: Model, budget: Within, x: Array | Bundle) -> str | None:
    """Why the doctor cannot look at inputs such as ``x``; None where it can."""
    if isinstance(x, Bundle) or classifier.perturb or isinstance(budget, dict):
        what = _what(classifier)
    elif not boxed(classifier):
        what = "the inputs have a domain"
    elif budget.epsilons is not None:
        what = "every example has an epsilon of its own"
    elif budget.mask is not None and budget.mask.ndim == x.ndim and len(budget.mask) > 1:
        what = "every example has a mask of its own"
    else:
        return None
    return NO_DOCTOR.format(what=what)


def _what(classifier: Model) -> str:
    """What is attacked, where it is not one array that is all of the inputs."""
    if len(classifier.perturb) > 1:
        return f"{len(classifier.perturb)} inputs are attacked at once"
    layer = getattr(classifier, "layer", None)
    if layer is not None:
        return f"what is attacked is the output of the layer {layer!r}"
    return "what is attacked is one of several inputs"
