"""What MkDocs calls while it builds the site: the folder to build from, formulas, API links."""

from __future__ import annotations

import atexit
import json
import logging
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import api_pages
import api_source
import stage
import typeset
from mkdocs.plugins import event_priority
from mkdocs.utils import get_relative_url

log = logging.getLogger("mkdocs.hooks.site")
HAN = re.compile(r"(?<=[\u3400-\u9fff])(?=[\u3400-\u9fff])")
SKIPPED = re.compile(
    r"(<(pre|a|h1|h2|h3|h4|math|nav|button)\b.*?</\2>)|<code>([^<]{2,80})</code>", re.DOTALL
)
NAME = re.compile(r"(?:advex\.)?((?:[a-z]+\.)?[A-Za-z]\w*?)(?:\.([a-z]\w+))?(?:\(.*\))?", re.DOTALL)
# Pages that come before the others of their group.
FIRST = {
    "attacks": "api/attacks/Attack.md",
    "budgets": "api/budgets/Linf.md",
    "evaluation": "api/evaluation/evaluate.md",
}
_staged: dict[str, Any] = {}


@event_priority(100)
def on_config(config: Any) -> Any:
    """Build from a folder that is made anew, once for all languages."""
    i18n = config.plugins.get("i18n")
    if getattr(i18n, "building", False):  # a further language of the same build
        return config
    forget()
    folder = Path(tempfile.mkdtemp(prefix="advex-site-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    stage.Stage(folder).fill()
    config.docs_dir = str(folder)
    config.nav = _nav(config.nav, folder)
    return config


def forget() -> None:
    """Read everything again: ``make docs`` builds anew when a docstring was edited."""
    for kept in (
        api_source.package,
        api_source.constants,
        api_source.entries,
        api_pages.raisers,
        api_pages.guides,
        api_pages.mentions,
    ):
        kept.cache_clear()
    _staged.clear()


def _nav(items: list[Any], folder: Path) -> list[Any]:
    """The navigation of mkdocs.yml; ``api/`` and ``examples/`` stand for all their pages."""
    made: list[Any] = []
    for item in items:
        if isinstance(item, dict):
            ((title, inner),) = item.items()
            if isinstance(inner, list):
                made.append({title: _nav(inner, folder)})
            elif inner == "api/":
                made.append({title: _api_nav()})
            elif inner == "examples/":
                pages = sorted(path.name for path in (folder / "examples").glob("*.md"))
                pages = [page for page in pages if not page.startswith("index.")]
                made.append({title: ["examples/index.md", *(f"examples/{p}" for p in pages)]})
            else:
                made.append(item)
        else:
            made.append(item)
    files = sorted(path.name for path in (folder / "files").glob("*.md"))
    if files and items and items[-1] == "project/license.md":
        made.append({"Files": [f"files/{page}" for page in files]})
    return made


def _api_nav() -> list[Any]:
    listed: list[Any] = ["api/index.md"]
    for group, (title, _, _) in api_source.GROUPS.items():
        pages = [entry.page for entry in api_source.entries() if entry.group == group]
        pages.sort(key=lambda page: (page != FIRST.get(group), page.lower()))
        listed.append({title: [f"api/{group}/index.md", *pages]})
    return listed


@event_priority(-50)
def on_page_content(text: str, page: Any, **_: Any) -> str:
    """Formulas as MathML; names of advex as links to their pages."""
    return _linked(typeset.rendered(text), page)


def _names() -> dict[str, str]:
    """What may stand in a page -> the page of the API that it means."""
    if "names" not in _staged:
        found = {}
        for entry in api_source.entries():
            found[entry.path] = entry.page
            short = entry.path.removeprefix("advex.")
            for name in (short, entry.name):
                if "." in name or name[0].isupper():  # "gradients" and "load" are words as well
                    found.setdefault(name, entry.page)
        _staged["names"] = found
    return _staged["names"]


def _linked(text: str, page: Any) -> str:
    """A page in which the first mention of each public name is a link."""
    names, seen = _names(), set()
    language = getattr(page.file, "locale_alternate_of", "en")
    prefix = "" if language == "en" else f"{language}/"
    source = re.sub(rf"\.{language}\.md$", ".md", page.file.src_uri)

    def one(found: re.Match[str]) -> str:
        if found[1]:
            return found[0]
        full = NAME.fullmatch(found[3].strip())
        if not full:
            return found[0]
        name = full[1]
        whole = found[3].strip().partition("(")[0]
        to = names.get(whole) or (names.get(name) if name[0].isupper() else None)
        if not to or to == source or to in seen:
            return found[0]
        seen.add(to)
        address = get_relative_url(prefix + to.removesuffix(".md") + ".html", page.url)
        return f'<a class="api" href="{address}">{found[0]}</a>'

    return SKIPPED.sub(one, text)


@event_priority(-100)
def on_page_context(context: Any, page: Any, config: Any, **_: Any) -> Any:
    """The links of the language menu, relative on every page: the site may lie in any folder."""
    alternates = getattr(page.file, "alternates", {})
    for other in config.extra.get("alternate", ()):
        if other["lang"] in alternates:
            other["link"] = alternates[other["lang"]].url or "index.html"
    return context


@event_priority(-200)
def on_post_build(config: Any) -> None:
    """The index of the search: Chinese words can be found, as a mark between signs is where it may
    cut; what is the same in both languages is found once.
    """
    path = Path(config.site_dir) / "search" / "search_index.json"
    if not path.exists():
        return
    index = json.loads(path.read_text(encoding="utf-8"))
    english = {(doc["location"], doc["text"]) for doc in index["docs"]}
    index["docs"] = [
        doc | {key: HAN.sub("\u200b", doc[key]) for key in ("title", "text")}
        for doc in index["docs"]
        if (doc["location"].removeprefix("zh/"), doc["text"]) not in english
        or not doc["location"].startswith("zh/")
    ]
    path.write_text(json.dumps(index, ensure_ascii=False), encoding="utf-8")


def on_serve(server: Any, **_: Any) -> Any:
    """Build again when a page, a docstring or an example changes."""
    for folder in ("docs", "advex", "examples"):
        server.watch(str(stage.ROOT / folder))
    return server
