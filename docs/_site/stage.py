"""What the site is built from: docs/ with its links as the site needs them, the API reference, the
examples and notebooks as pages, and the files of the project that pages link to.

On GitHub a link of a page leads to a file of the repository, such as ``../examples/fgsm.py``. On
the site it leads to the page that shows this file; a link to a file of the package leads to the API
page of what the file defines.
"""

from __future__ import annotations

import ast
import base64
import json
import posixpath
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import api_pages
import api_source
from api_pages import fenced

ROOT = api_source.ROOT
DOCS = ROOT / "docs"
# Files of the project that are pages of the site.
PROJECT = {
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security.md",
    "README.md": "index.md",
    "README.zh.md": "index.zh.md",
}
LICENCE = "project/license.md"
MARKDOWN_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(\s*([^)\s]+)(\s+\"[^\"]*\")?\s*\)")
HTML_LINK = re.compile(r'\b(href|src|srcset)="([^"]+)"')
FENCE = re.compile(r"^[ ]*(`{3,}|~{3,}).*?^[ ]*\1[ ]*$", re.DOTALL | re.MULTILINE)
SIGN = r"[\u3000-\u303f\u3400-\u9fff\uff00-\uffef]"
LINE_END = re.compile(rf"(?m)^(?![#|])(.*{SIGN})\n[ ]*(?=(?:\*\*|\[)?{SIGN})")
SHOWN = {".py": "py", ".toml": "toml", ".yml": "yaml", ".sh": "sh", ".txt": "text", ".cff": "yaml"}
EXAMPLES = {
    "en": ("Examples", "Programs that run as they are, in `examples/` of the repository."),
    "zh": ("示例程序", "可以直接运行的程序，位于代码库的 `examples/` 目录中。"),
}


def joined(text: str) -> str:
    """Chinese without the spaces that the ends of lines would leave between its signs."""
    return outside_code(text, _lines_joined)


def _lines_joined(text: str) -> str:
    count = 1
    while count:  # the end of one line is the beginning of the next
        text, count = LINE_END.subn(r"\1", text)
    return text


def outside_code(text: str, change: Callable[[str], str]) -> str:
    """A page in which everything but its blocks of code is changed."""
    parts, end = [], 0
    for fence in FENCE.finditer(text):
        parts += [change(text[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, change(text[end:])])


class Stage:
    """A folder from which the site is built."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.wanted: dict[str, str] = {}  # page of a file of the repository -> the file

    def write(self, path: str, text: str) -> None:
        """Put a page into the folder."""
        place = self.folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")

    def fill(self) -> None:
        """Put everything into the folder."""
        for path in sorted(DOCS.rglob("*")):
            place = path.relative_to(DOCS).as_posix()
            if path.is_dir() or place.startswith("_site/") or "/." in f"/{place}":
                continue
            if path.suffix == ".md":
                text = path.read_text(encoding="utf-8")
                text = joined(text) if place.endswith(".zh.md") else text
                self.write(place, self.linked(text, f"docs/{place}", place))
            elif path.suffix == ".ipynb":
                self.notebook(path)
            else:
                (self.folder / place).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, self.folder / place)
        for source, place in PROJECT.items():
            if place.startswith("project/"):
                text = (ROOT / source).read_text(encoding="utf-8")
                self.write(place, self.linked(text, source, place))
        text = (ROOT / "LICENSE").read_text(encoding="utf-8")
        self.write(LICENCE, "# License\n\n" + fenced("text", text) + "\n")
        self.examples()
        for language in ("en", "zh"):
            for place, page in api_pages.pages(language).items():
                self.write(place, page)
        for place, source in self.wanted.items():
            text = (ROOT / source).read_text(encoding="utf-8").rstrip()
            kind = SHOWN.get(Path(source).suffix, "text")
            self.write(place, f"# {source}\n\n{fenced(kind, text)}\n")

    # Links

    def linked(self, text: str, source: str, place: str) -> str:
        """A page with its links as they are on the site.

        Args:
            text: its Markdown.
            source: the file that it comes from, in the repository.
            place: where it is on the site.
        """

        def one(found: re.Match[str]) -> str:
            mark, words, target, title = found.groups()
            new = self.target(target, source, place)
            if new is None:
                return found[0] if mark else words
            if new.endswith(".zh.md") and not place.endswith(".zh.md"):
                return f'<a href="{self.other_language(new, place)}">{words}</a>'
            if place.endswith(".zh.md") and words.strip() == "English":
                return f'<a href="{self.english(place)}">{words}</a>'
            return f"{mark}[{words}]({new}{title or ''})"

        def raw(found: re.Match[str]) -> str:
            new = self.target(found[2], source, place)
            if new is None:
                return found[0]
            if re.search(r"\.zh\.md(#|$)", new) and not place.endswith(".zh.md"):
                new = self.other_language(new, place)
            new = re.sub(r"(\.zh)?\.md(?=#|$)", ".html", new)
            return f'{found[1]}="{new}"'

        return outside_code(text, lambda part: HTML_LINK.sub(raw, MARKDOWN_LINK.sub(one, part)))

    def target(self, link: str, source: str, place: str) -> str | None:
        """Where a link leads on the site, from ``place``; None if there is nothing to lead to."""
        if re.match(r"[a-z]+:|#|//", link):
            return link
        path, _, anchor = link.partition("#")
        full = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        page = self.page(full, anchor)
        if page is None:
            return None
        to, _, own = page.partition("#")
        anchor = own or ("" if full.endswith(".py") else anchor)
        near = posixpath.relpath(to, posixpath.dirname(place) or ".")
        return near + (f"#{anchor}" if anchor else "")

    def page(self, path: str, anchor: str) -> str | None:
        """The page of a file of the repository."""
        if path in PROJECT:
            return PROJECT[path]
        if path in ("LICENSE", "examples"):
            return {"LICENSE": LICENCE, "examples": "examples/index.md"}[path]
        if path.startswith("docs/"):
            place = path.removeprefix("docs/")
            return re.sub(r"\.ipynb$", ".md", place)
        if path.startswith("examples/") and path.endswith(".py") and (ROOT / path).is_file():
            return path.removesuffix(".py") + ".md"
        if path.startswith("advex/"):
            made = self.api_page(path, anchor)
            if made:
                return made
        if (ROOT / path).is_file() and not path.startswith(".."):
            place = f"files/{path.replace('/', '-')}.md"
            self.wanted[place] = path
            return place
        return None

    def api_page(self, path: str, anchor: str) -> str | None:
        """The API page of a file of the package: of what it defines, or of the group."""
        named = [entry for entry in api_source.entries() if entry.file == path]
        for entry in named:
            if anchor.lower() == entry.name.lower():
                return entry.page
        if len(named) == 1:
            return named[0].page
        if named:
            return f"api/{named[0].group}/index.md"
        if path in ("advex/__init__.py", "advex"):
            return "api/index.md"
        module = path.removeprefix("advex/").removesuffix("/__init__.py").removesuffix(".py")
        for group, (_, modules, _) in api_source.GROUPS.items():
            if module in modules:
                return f"api/{group}/index.md"
        return None

    @staticmethod
    def other_language(target: str, place: str) -> str:
        """The address of a Chinese page, from an English one."""
        folder = posixpath.dirname(place)
        to, _, anchor = posixpath.normpath(posixpath.join(folder, target)).partition("#")
        page = posixpath.relpath("zh/" + to.removesuffix(".zh.md") + ".html", folder or ".")
        return page + (f"#{anchor}" if anchor else "")

    @staticmethod
    def english(place: str) -> str:
        """The address of the English page of a Chinese one."""
        up = "../" * (place.count("/") + 1)
        return up + place.removesuffix(".zh.md") + ".html"

    # Pages from files

    def examples(self) -> None:
        """A page for each program in examples/, and one with all of them."""
        listed = []
        for path in sorted((ROOT / "examples").glob("*.py")):
            text = path.read_text(encoding="utf-8")
            said = ast.get_docstring(ast.parse(text)) or ""
            summary, _, rest = said.partition("\n\n")
            summary = " ".join(summary.split())
            page = f"# {path.name}\n\n{summary}\n\n{api_pages.markdown(rest)}\n\n"
            self.write(f"examples/{path.stem}.md", f"{page}{fenced('py', text)}\n")
            listed.append((path, summary))
        for language, (title, words) in EXAMPLES.items():
            rows = [f"| [`{path.name}`]({path.stem}.md) | {text} |" for path, text in listed]
            suffix = "" if language == "en" else f".{language}"
            table = "\n".join(["| | |", "|---|---|", *rows])
            self.write(f"examples/index{suffix}.md", f"# {title}\n\n{words}\n\n{table}\n")

    def notebook(self, path: Path) -> None:
        """A notebook as a page, with the outputs that are stored in it."""
        place = path.relative_to(DOCS).as_posix()
        page = place.removesuffix(".ipynb") + ".md"
        book = json.loads(path.read_text(encoding="utf-8"))
        (self.folder / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, self.folder / place)
        parts = []
        for number, cell in enumerate(book["cells"]):
            text = "".join(cell["source"])
            if cell["cell_type"] == "markdown":
                parts.append(self.linked(text, f"docs/{place}", page))
            elif cell["cell_type"] == "code" and text.strip():
                parts.append(fenced("py", text))
                for count, output in enumerate(_streams_joined(cell.get("outputs", ()))):
                    parts.append(
                        self.output(output, f"{page.removesuffix('.md')}-{number}-{count}")
                    )
        name = path.name
        download = f"{NOTEBOOK}: [{name}]({name}){{: download }}"
        head, _, rest = "\n\n".join(part for part in parts if part).partition("\n\n")
        self.write(page, f"{head}\n\n{download}\n\n{rest}\n")

    def output(self, output: dict[str, Any], name: str) -> str:
        """One output of a cell: a picture, HTML, or text."""
        if output["output_type"] == "stream":
            return _said("".join(output["text"]))
        data = output.get("data", {})
        if "text/html" in data:
            text = "".join(data["text/html"])
            # An empty line would end the HTML, and what is indented would be code.
            whole = "\n".join(line.strip() for line in text.splitlines() if line.strip())
            return f'<div class="output">{whole}</div>'
        if "image/png" in data:
            picture = base64.b64decode("".join(data["image/png"]))
            (self.folder / f"{name}.png").write_bytes(picture)
            return f"![The picture that this code makes]({Path(name).name}.png)"
        return _said("".join(data.get("text/plain", "")))


NOTEBOOK = "This page is a notebook"


def _streams_joined(outputs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What was printed line by line, in one piece."""
    made: list[dict[str, Any]] = []
    for output in outputs:
        stream = output["output_type"] == "stream"
        if made and stream and made[-1]["output_type"] == "stream":
            made[-1] = made[-1] | {"text": "".join([*made[-1]["text"], *output["text"]])}
        else:
            made.append(output)
    return made


def _said(text: str) -> str:
    clean = re.sub(r"\x1b\[[0-9;]*m", "", text).rstrip()
    return fenced("text", clean) if clean.strip() else ""
