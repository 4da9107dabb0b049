"""The site as it is built: every public name has its page, every link leads somewhere."""

import ast
import html
import importlib
import inspect
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

import pytest

import advex

ROOT = Path(__file__).parent.parent
MODULES = (
    "",
    "attacks",
    "budgets",
    "callbacks",
    "errors",
    "evaluation",
    "goals",
    "images",
    "losses",
    "testing",
    "training",
    "zoo",
)
BUDGETS = (advex.Linf(0.1), advex.L2(1), advex.L1(5), advex.L0(3))


@dataclass
class Page:
    """What a test wants to know of a page."""

    text: str
    ids: set = field(default_factory=set)
    links: list = field(default_factory=list)
    fetched: list = field(default_factory=list)
    sections: dict = field(default_factory=dict)


class Reader(HTMLParser):
    """Collects links, anchors and the text below each heading of an article."""

    def __init__(self, page):
        super().__init__()
        self.page, self.section, self.within, self.link = page, "", False, False

    def handle_starttag(self, tag, pairs):
        given = dict(pairs)
        if given.get("id"):
            self.page.ids.add(given["id"])
        for name in ("href", "src"):
            if given.get(name):
                self.page.links.append(given[name])
                if tag in ("script", "img", "link", "iframe", "source"):
                    self.page.fetched.append(given[name])
        if tag == "article":
            self.within = True
        if tag in ("h1", "h2"):
            self.section = given.get("id", "") if tag == "h2" else "title"
        if tag == "math":
            self.handle_data("<math>")

    def handle_endtag(self, tag):
        if tag == "article":
            self.within = False

    def handle_data(self, data):
        if self.within:
            self.page.sections[self.section] = self.page.sections.get(self.section, "") + data


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """The site, built once, whatever the number of workers."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    place, told = base / "site", base / "site.json"
    try:
        place.mkdir()
    except FileExistsError:
        deadline = time.monotonic() + 600
        while not told.exists() and time.monotonic() < deadline:
            time.sleep(0.2)
    else:
        run = subprocess.run(
            [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(place)],
            cwd=ROOT,
            env=os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        part = told.with_suffix(".part")
        part.write_text(json.dumps([run.returncode, run.stdout + run.stderr]), encoding="utf-8")
        part.rename(told)
    code, said = json.loads(told.read_text(encoding="utf-8"))
    assert code == 0, f"mkdocs build --strict: {said}"
    return place


@pytest.fixture(scope="session")
def pages(folder):
    """Path within the site -> the page."""
    found = {}
    for path in sorted(folder.rglob("*.html")):
        text = path.read_text(encoding="utf-8")
        page = found[path.relative_to(folder).as_posix()] = Page(text)
        Reader(page).feed(text)
    return found


def code_of(page):
    """The first piece of code: on an API page the call."""
    block = re.search(r'<div class="[^"]*highlight"><pre>(.*?)</pre>', page.text, re.DOTALL)
    return html.unescape(re.sub(r"<[^>]+>", "", block[1])).strip() if block else ""


def called(text):
    """``advex.PGD`` of ``advex.PGD(*, steps=40)`` and of ``class advex.Result``."""
    return text.removeprefix("class ").partition("(")[0].strip()


@pytest.fixture(scope="session")
def reference(pages):
    """Public name -> its page in English."""
    found = {}
    for path, page in pages.items():
        if re.fullmatch(r"api/\w+/(?!index\b)\w+\.html", path):
            name = called(code_of(page))
            assert name not in found, f"two pages for {name}"
            found[name] = path
    return found


def public():
    """Every public class and function, by the name that users type."""
    names = {}
    for module in MODULES:
        where = f"advex.{module}" if module else "advex"
        for name in importlib.import_module(where).__all__:
            thing = getattr(importlib.import_module(where), name)
            if not inspect.ismodule(thing) and not isinstance(thing, str):
                names.setdefault(thing, f"{where}.{name}")
    return {name: thing for thing, name in names.items()}


PUBLIC = public()


def test_every_public_name_has_its_page(reference):
    assert set(PUBLIC) == set(reference)


def test_index_of_the_reference_has_every_name(pages, reference):
    linked = set(pages["api/index.html"].links)
    for name, path in reference.items():
        group = PurePosixPath(path).parent
        assert path.removeprefix("api/") in linked, f"{name} is not in api/index.html"
        assert PurePosixPath(path).name in pages[f"{group}/index.html"].links, name


def parameters(call, thing):
    """Name -> (kind, default) of a call as it is shown, with the names of the files it is from."""
    known = {}
    for each in reversed(inspect.getmro(thing) if inspect.isclass(thing) else (thing,)):
        known |= vars(importlib.import_module(each.__module__))
    tree = ast.parse(f"def f{call}: pass").body[0]
    made = {}
    exec(compile(ast.Module([tree], []), "shown", "exec"), known, made)
    return inspect.signature(made["f"]).parameters


def same(shown, true):
    if shown is inspect.Parameter.empty or true is inspect.Parameter.empty:
        return shown is true
    return shown is true or repr(shown) == repr(true)


def test_signatures_are_shown_as_they_are(pages, reference):
    """Names, kinds and defaults: the page's are evaluated where the function was written."""
    checked = 0
    for name, path in reference.items():
        shown = code_of(pages[path])
        if shown.startswith("class "):
            continue
        thing = PUBLIC[name]
        true = inspect.signature(thing.__init__ if inspect.isclass(thing) else thing).parameters
        true = {key: each for key, each in true.items() if key != "self"}
        told = parameters(shown[len(name) :], thing)
        assert list(told) == list(true), name
        for key, each in told.items():
            assert each.kind is true[key].kind, f"{name}({key})"
            assert same(each.default, true[key].default), (
                f"{name}({key}={each.default!r}), but it is {true[key].default!r}"
            )
        checked += 1
    assert checked > 80


@pytest.mark.parametrize(
    ("owner", "methods"),
    [
        (advex.Evaluation, ("load",)),
        (advex.Result, ("save", "show")),
        (advex.Domain, ("from_data", "repaired", "holds", "violations")),
        (advex.Attack, ("__call__", "init", "step", "done")),
    ],
)
def test_methods_are_on_the_page(owner, methods, pages, reference):
    page = pages[reference[f"advex.{owner.__name__}"]]
    for name in methods:
        method = getattr(owner, name)
        true = [key for key in inspect.signature(method).parameters if key not in ("self", "cls")]
        start = page.text.index(f'id="{name.strip("_")}"')
        block = re.search(r"<pre>(.*?)</pre>", page.text[start:], re.DOTALL)[1]
        shown = html.unescape(re.sub(r"<[^>]+>", "", block)).strip()
        name = "attack" if name == "__call__" else name
        told = ast.parse(f"def {shown}: pass").body[0].args
        assert [each.arg for each in (*told.posonlyargs, *told.args, *told.kwonlyargs)] == true


def attacks():
    return {
        name: thing
        for name, thing in PUBLIC.items()
        if inspect.isclass(thing) and issubclass(thing, advex.Attack) and thing is not advex.Attack
    }


WRAPPERS = (advex.Restarts, advex.EveryTarget, advex.AveragedGradient, advex.Ensemble)


def test_facts_of_attacks_are_those_of_their_classes(pages, reference):
    """What a page says of access, norms, limits and starting points, against the attack itself."""
    for name, kind in attacks().items():
        said = " ".join(pages[reference[name]].sections["takes"].split())
        if kind in WRAPPERS:
            assert "as the attack inside" in said
            continue
        attack = kind()
        block = re.search(r"<th>Norms</th>(.*?)</tr>", pages[reference[name]].text, re.DOTALL)[1]
        shown = set(re.findall(r'<span class="norm">(\w+)</span>', block))
        taken, goal = set(), None
        if "Segmentation alone" in said:
            goal = advex.Segmentation([[[0, 1], [1, 0]]])
            with pytest.raises(advex.errors.InvalidType):
                attack.check(advex.Untargeted([0]), advex.Linf(0.1))
        for budget in BUDGETS:
            try:
                attack.check(goal, budget)
            except advex.errors.InvalidInput:
                continue
            taken.add(type(budget).__name__)
        assert shown == taken, name
        limited = attack.needs_epsilon
        assert ("must have a limit" in said) == limited, name
        assert ("from another resultyes" in said) == attack.starts, name
        if kind is advex.MinimumNorm:
            assert "gradients (white box), scores (black box), labels alone (black box)" in said
            continue
        waves = attack.plan(advex.Linf(0.1)) if "Linf" in taken else ()
        needs = {run.attack.needs for wave in waves for run in wave.runs} or {attack.needs}

        words = {"gradients": "gradients (", "scores": "scores (", "labels": "labels alone ("}
        strongest = next(need for need in words if need in needs)
        assert words[strongest] in said, name


def test_examples_and_errors_are_shown(pages, reference):
    """What a docstring has, its page has."""
    for name, thing in PUBLIC.items():
        page = pages[reference[name]]
        text = inspect.getdoc(thing) or ""
        for section, anchor in (("Example:", "example"), ("Reference:", "reference")):
            if re.search(rf"^{section}", text, re.MULTILINE):
                assert anchor in page.sections, f"{name}: {section}"
        if re.search(r"^Raises:", text, re.MULTILINE):
            assert "raises" in page.sections, name
        for line in re.findall(r"^    >>> (.*)$", text, re.MULTILINE):
            assert "".join(line.split()) in "".join("".join(page.sections.values()).split()), name


def test_pages_of_attacks_are_whole(pages, reference):
    for name, kind in attacks().items():
        page = pages[reference[name]]
        for section in ("when", "formula", "takes", "returns", "raises", "cost", "example"):
            assert page.sections.get(section, "").strip(), f"{name} has nothing under {section}"
        formula = page.sections["formula"]
        no_formula = "No formula:" in (kind.__doc__ or "")
        assert ("<math>" in formula) or no_formula, f"{name}: no formula and no reason"
        if "reference" in page.sections:
            assert "deviations" in page.sections, name
        if inspect.signature(kind).parameters and kind is not advex.Verdict:
            assert "arguments" in page.sections, name


def test_arguments_are_explained(pages, reference):
    """Every argument of a call has a row, with its type and a sentence."""
    for name, path in reference.items():
        block = re.search(r'<table class="arguments">(.*?)</table>', pages[path].text, re.DOTALL)
        if block is None:
            assert code_of(pages[path]).startswith("class ") or code_of(pages[path]).endswith("()")
            continue
        for row in re.findall(r"<tr><td(.*?)</tr>", block[1], re.DOTALL):
            cells = [re.sub(r"<[^>]+>", "", cell) for cell in re.split(r"<td", row)]
            meaning = cells[-1].partition(">")[2]
            assert meaning.strip(), f"{name}: nothing is said of {cells[0].partition('>')[2]}"


def test_papers_can_be_followed(pages, reference):
    linked = 0
    for name in attacks():
        section = pages[reference[name]].text.partition('id="reference"')[2].partition("<h2")[0]
        linked += bool(re.search(r'href="https://(doi\.org|arxiv\.org/abs)/', section))
    assert linked >= 0.8 * len(attacks()), f"{linked} of {len(attacks())} attacks link their paper"


def test_formulas_are_typeset(pages):
    """No dollar sign and no mark of an unconverted formula is left in the text of a page."""
    for path, page in pages.items():
        assert 'class="arithmatex"' not in page.text, path
        text = re.sub(r"<(pre|code|script|annotation)\b.*?</\1>", "", page.text, flags=re.DOTALL)
        text = re.sub(r"<[^>]+>", "", text)
        assert not re.search(r"\$\$|\\\(|\\frac|\\nabla|\\varepsilon", text), path


# Links


def resolved(path, link):
    """(page, anchor) of a link on the page at ``path``; None for what is not on the site."""
    if re.match(r"[a-z][a-z+.-]*:|//", link):
        return None
    to, _, anchor = link.partition("#")
    to = unquote(to.partition("?")[0])
    whole = os.path.normpath(str(PurePosixPath(path).parent / to)) if to else path
    return whole, unquote(anchor)


def test_no_dead_links(folder, pages):
    dead = []
    for path, page in pages.items():
        if path == "404.html":  # its links are for a server
            continue
        for link in set(page.links):
            found = resolved(path, link)
            if found is None:
                continue
            to, anchor = found
            if link.startswith("/") or not (folder / to).is_file():
                dead.append(f"{path}: {link}")
            elif anchor and to in pages and anchor not in pages[to].ids:
                dead.append(f"{path}: {link} (no such anchor)")
    assert not dead, "\n".join(dead[:20])


def test_every_page_has_a_way_in(folder, pages):
    seen, waiting = set(), ["index.html"]
    while waiting:
        path = waiting.pop()
        if path in seen or path not in pages:
            continue
        seen.add(path)
        waiting += [found[0] for link in pages[path].links if (found := resolved(path, link))]
    assert set(pages) - seen == {"404.html"}


def test_nothing_is_fetched_from_elsewhere(folder, pages):
    for path, page in pages.items():
        for link in page.fetched:
            assert not re.match(r"(https?:)?//", link), f"{path} fetches {link}"
    for sheet in folder.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        assert not re.search(r"url\(\s*['\"]?(https?:)?//", text), sheet.name


def staged():
    sys.path.insert(0, str(ROOT / "docs" / "_site"))
    try:
        return importlib.import_module("stage")
    finally:
        sys.path.pop(0)


@cache
def anchors(text):
    """Headings of a Markdown file as GitHub names them."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    heads = re.findall(r"^#+ (.+?)(?: \{.*\})?$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


README_LINK = re.compile(r"\]\(([^)\s]+)\)|(?:href|src)=\"([^\"]+)\"")


@pytest.mark.parametrize("readme", sorted(ROOT.glob("README*.md")), ids=lambda path: path.name)
def test_links_of_the_readme(readme, folder):
    """They lead to files, to headings that exist, and to files that have a page on the site."""
    stage = staged().Stage(folder)
    for found in README_LINK.finditer(readme.read_text(encoding="utf-8")):
        link = found[1] or found[2]
        if re.match(r"https?:|mailto:", link):
            continue
        path, _, anchor = link.partition("#")
        to = ROOT / path if path else readme
        assert to.exists(), f"{readme.name} links to {link}"
        if anchor and to.suffix == ".md":
            assert anchor in anchors(to.read_text(encoding="utf-8")), f"{readme.name}: {link}"
        if path.startswith("docs/") and to.suffix in (".md", ".ipynb"):
            page = stage.page(path, "")
            place = re.sub(r"^(.*)\.zh\.md$", r"zh/\1.html", page).replace(".md", ".html")
            assert (folder / place).is_file(), f"{readme.name}: {link} has no page"


def test_every_file_of_docs_is_in_the_navigation(folder):
    """Pages and notebooks, those in Chinese under zh/."""
    for path in [*(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "notebooks").glob("*.ipynb")]:
        place = path.relative_to(ROOT / "docs").as_posix()
        place = re.sub(r"^(.*)\.zh\.(md|ipynb)$", r"zh/\1.\2", place)
        assert (folder / re.sub(r"\.(md|ipynb)$", ".html", place)).is_file(), place


# Chinese


def test_chinese_pages(pages):
    for path, page in pages.items():
        if path.startswith("zh/"):
            assert 'lang="zh"' in page.text[:300], path
    home = pages["zh/index.html"]
    assert "对抗样本" in home.text
    assert "参数" in pages["zh/api/attacks/PGD.html"].text
    assert "../index.html" in home.links, "no way back to English"
    assert "zh/index.html" in pages["index.html"].links


def test_chinese_words_can_be_found(folder):
    index = json.loads((folder / "search" / "search_index.json").read_text(encoding="utf-8"))
    zh = [entry for entry in index["docs"] if entry["location"].startswith("zh/index.html")]
    assert any("对\u200b抗\u200b样\u200b本" in entry["text"] for entry in zh)
    assert "u200b" in index["config"]["separator"]
    found = [entry["location"] for entry in index["docs"]]
    assert "api/attacks/PGD.html" in found
    assert "zh/api/attacks/PGD.html" not in found, "found twice: the text is in English"
    found = [entry["location"] for entry in index["docs"]]
    assert "api/attacks/PGD.html" in found
    assert "zh/api/attacks/PGD.html" not in found, "found twice: the text is in English"
