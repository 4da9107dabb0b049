"""What a run is about: hashes and settings that must be the same when it goes on."""

from __future__ import annotations

import hashlib
import inspect
import re
import sys
from collections.abc import Mapping
from typing import Any

import keras

from advex import _backend
from advex._version import VERSION
from advex.attacks import Attack
from advex.attacks.base import fingerprint
from advex.classifier import Classifier
from advex.errors import InvalidInput

MEANT = {  # what the message calls a part, and what can be done
    "advex": "the version of advex: install the one of the run to go on",
    "keras": "the version of Keras: install the one of the run to go on",
    "backend": "the backend or its version",
    "model": "the model",
    "weights": "the weights of the model",
    "box": "the box of the model",
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
}


def identity(classifier: Classifier, attacks: Mapping[str, Attack], settings: Mapping[str, Any]) -> dict[str, Any]:
    """All that decides what a run finds, but for the data: name -> value, all of them JSON."""
    model = getattr(classifier, "model", None) if classifier.symbolic else None
    return {
        "advex": VERSION,
        "keras": keras.__version__,
        "backend": f"{_backend.NAME} {backend_version()}",
        "model": layers(model) if model is not None else repr(classifier),
        "weights": weights_hash(model) if model is not None else code_hash(getattr(classifier, "predict", None)),
        "box": list(classifier.box),
        "preprocess": code_hash(classifier.preprocess),
        "classes": list(classifier.names or ()),
        "attacks": {name: [without_addresses(attack), code_hash(type(attack))] for name, attack in attacks.items()},
        **settings,
    }


def demand_same(before: Mapping[str, Any], now: Mapping[str, Any], where: Any) -> None:
    """Raise if the run file was begun with something else.

    Raises:
        InvalidInput: it names every part that has changed.
    """
    changed = [name for name in [*before, *(name for name in now if name not in before)] if before.get(name) != now.get(name)]
    if changed:
        told = "; ".join(difference(name, before.get(name), now.get(name)) for name in changed)
        raise InvalidInput(
            f"{where} was begun with something else, and rows of both would be mixed. Changed: {', '.join(changed)} ({told})."
            " Give another run file, or what the run was begun with"
        )


def difference(name: str, before: Any, now: Any) -> str:
    """One changed part, in words."""
    if isinstance(before, dict) and isinstance(now, dict):
        parts = [part for part in [*before, *(part for part in now if part not in before)] if before.get(part) != now.get(part)]
        before, now = ({part: values.get(part, ["none"])[0] for part in parts} for values in (before, now))
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


def weights_hash(model: keras.Model) -> str:
    """A hash of all weights in their order."""
    made = hashlib.blake2b(digest_size=16)
    for value in fingerprint(model).values():
        made.update(value)
    return made.hexdigest()


def layers(model: keras.Model) -> str:
    """The kinds of the model's layers, in their order. What they answer is compared when a run goes on."""
    kinds = [type(layer).__name__ for layer in model._flatten_layers()]
    return (
        f"{type(model).__name__} of {len(kinds)} layers, {hashlib.blake2b(' '.join(kinds).encode(), digest_size=4).hexdigest()}"
    )


def code_hash(thing: Any) -> str:
    """A name, with a hash of the code where it is not advex's own: the version stands for that."""
    if thing is None:
        return ""
    owner = thing if inspect.isclass(thing) or inspect.isroutine(thing) else type(thing)
    name = f"{owner.__module__}.{owner.__qualname__}"
    if (house := owner.__module__.split(".")[0]) in ("advex", "keras"):  # what a layer of Keras answers is looked at
        return name if owner is thing or house == "keras" else f"{name} {without_addresses(thing)}"
    try:
        code = inspect.getsource(owner).encode()
    except (OSError, TypeError):
        code = getattr(getattr(owner, "__code__", None), "co_code", b"")
    return f"{name} {hashlib.blake2b(code, digest_size=8).hexdigest()}"


def without_addresses(thing: Any) -> str:
    """``repr`` without what changes from process to process."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(thing))
