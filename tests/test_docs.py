"""Nothing published is unexecuted: README, documentation and docstrings."""

import doctest
import importlib
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


# pages show what is lost when floats are written to files
@pytest.mark.filterwarnings("ignore:Of .* saved, :advex.errors.ModelWarning")
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
        if target.startswith(
            "api/"
        ):  # made when the site is built, which tests/test_site.py looks at
            assert page.name.startswith("index."), f"{page.name}: on GitHub {target} leads nowhere"
        elif not target.startswith("https://"):
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
