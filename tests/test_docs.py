"""Nothing published is unexecuted: README, documentation and docstrings."""

import doctest
import importlib
import inspect
import pkgutil
import re
import sys
import types
from pathlib import Path

import keras
import pytest

import advex

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "README.zh.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python[ ]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
MODULES = sorted(module.name for module in pkgutil.walk_packages(advex.__path__, "advex."))
NOT_HERE = {
    "advex._backend.tensorflow",
    "advex._backend.jax",
    "advex._backend.torch",
    "advex.__main__",
}


def blocks(page):
    """The code of a page with its line numbers: the blocks that are marked ``python`` and nothing
    else.
    """
    text = page.read_text(encoding="utf-8")
    for found in BLOCK.finditer(text):
        yield "\n" * (text[: found.start()].count("\n") + 1) + found[1]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_blocks(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = types.ModuleType(f"page_{page.stem}")
    # so that classes of the page can be pickled
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for code in blocks(page):
        exec(compile(code, str(page), "exec"), vars(module))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if not target.startswith("https://"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
    for target in re.findall(r"`(examples/[\w.]+)`", text):
        assert (ROOT / target).exists(), f"{page.name} names {target}"


@pytest.mark.parametrize("name", sorted({"advex", *MODULES} - NOT_HERE))
def test_doctests(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if keras.backend.backend() != "tensorflow":
        pytest.skip("the examples print what TensorFlow answers")
    module = importlib.import_module(name)
    failed, _ = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert not failed


# The API reference against the code.

REFERENCE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")


def shown(value):
    return getattr(value, "__name__", None) or repr(value)


def signature(thing):
    """``(a, b=1, *, c=2)`` of a class or function, without annotations."""
    parts, keyword_only = [], False
    for name, parameter in inspect.signature(
        thing.__init__ if inspect.isclass(thing) else thing
    ).parameters.items():
        if name == "self" or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not keyword_only:
            keyword_only = True
            parts.append("*")
        parts.append(
            name if parameter.default is parameter.empty else f"{name}={shown(parameter.default)}"
        )
    return f"({', '.join(parts)})"


def headings():
    """Heading -> the text below it."""
    parts = re.split(r"^### `(.+?)`$", REFERENCE, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


@pytest.mark.parametrize("name", advex.__all__)
def test_public_name_is_in_the_reference(name):
    thing = getattr(advex, name)
    plain = isinstance(thing, types.ModuleType | str) or thing is advex.Result
    heading = name if plain else name + signature(thing)
    assert heading in headings(), f"docs/api.md needs the heading: ### `{heading}`"
    assert len(headings()[heading].split()) >= 4, f"docs/api.md says nothing about {name}"


@pytest.mark.parametrize(
    ("heading", "thing"),
    [
        ("attack", advex.Attack.__call__),
        ("Result.save", advex.Result.save),
        ("Result.show", advex.Result.show),
        ("Domain.from_data", advex.Domain.from_data),
        ("Domain.repaired", advex.Domain.repaired),
        ("Domain.holds", advex.Domain.holds),
        ("Domain.violations", advex.Domain.violations),
    ],
)
def test_calls_are_in_the_reference(heading, thing):
    assert heading + signature(thing) in headings()


@pytest.mark.parametrize("name", advex.training.__all__)
def test_training_is_in_the_reference(name):
    heading = f"training.{name}{signature(getattr(advex.training, name))}"
    assert heading in headings(), f"docs/api.md needs the heading: ### `{heading}`"


@pytest.mark.parametrize("name", ["attacks", "budgets", "errors", "losses", "testing", "training"])
def test_modules_are_in_the_reference(name):
    module, text = getattr(advex, name), headings()[name]
    for entry in module.__all__:
        thing = getattr(module, entry)
        wanted = entry + signature(thing) if name in ("losses", "testing") else entry
        assert f"`{wanted}`" in text, f"docs/api.md, {name}: `{wanted}` is missing"


def test_reference_names_nothing_that_is_gone():
    for heading in headings():
        name = heading.partition("(")[0].partition(".")[0]
        assert name in ("attack", "zoo") or name in advex.__all__, (
            f"docs/api.md has {name}, advex has not"
        )


VERDICT = re.compile(
    r"\b(?:is|are|be|was|were|becomes?|stays?|provably|fully|truly|proven|proved)\s+robust\b"
    r"|\brobust (?:model|network|classifier)s?\b(?! zoo)",
    re.IGNORECASE,
)


def test_never_a_verdict():
    """The field's labels, such as robust accuracy, are welcome; a verdict on a model is not."""
    assert VERDICT.search("This network is robust.") and VERDICT.search("a robust model")
    assert not VERDICT.search("robust accuracy, robustness")
    for page in PAGES:
        found = VERDICT.findall(page.read_text(encoding="utf-8"))
        assert not found, f'{page.name}: say "not broken by <attacks> within <budget>"'
