"""The pages of the API reference, as Markdown: one for each public name, and tables."""

from __future__ import annotations

import functools
import html
import re
import textwrap
from collections.abc import Iterator
from typing import Any

import api_source
from api_source import GROUPS, NORMS, Entry, entries
from docstrings import Docstring, parsed
from labels import GROUPS_ZH, TABLES, WORDS
from typeset import inline

CODE = re.compile(r"(``.+?``|`[^`]+`|\$\$.+?\$\$|\$[^$\n]+\$)", re.DOTALL)
WIDEST = 84  # of a signature on one line


def markdown(text: str) -> str:
    """A text of a docstring as Markdown: examples as code; signs that mean something to Markdown
    alone are kept as they are.
    """
    done = []
    for block in re.split(r"\n\s*\n", text.strip("\n")):
        if re.match(r"\s*>>> ", block):
            done.append(fenced("pycon", _dedented(block)))
        elif block.startswith("    ") and not block.lstrip().startswith(("- ", "* ", "1. ")):
            done.append(fenced("text", _dedented(block)))
        else:
            parts = CODE.split(block)
            parts[::2] = [
                re.sub(r"(?<!\w)\*(?=\s)|(?<=\w)\*(?=\w)", r"\*", part.replace("<", "&lt;"))
                for part in parts[::2]
            ]
            # A list needs an empty line before it, and four columns for what goes on below it.
            joined = re.sub(r"(?m)^(\s*(?:\d+\.|-)) +", r"\1 ", "".join(parts))
            joined = re.sub(r"(?m)^([^\s\-\d].*)\n(?=(?:1\.|-) )", r"\1\n\n", joined)
            joined = re.sub(r"(?m)^ {2,3}(?=\S)", "    ", joined)
            done.append(re.sub(r"(?<![\w/(<])(https?://[^\s<>)]+[^\s<>.,;:)])", r"<\1>", joined))
    return "\n\n".join(done)


def fenced(kind: str, text: str) -> str:
    """A block of code; its fence is longer than any within."""
    longest = max(map(len, re.findall(r"`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{kind}\n{text.rstrip()}\n{fence}"


def _dedented(block: str) -> str:
    lines = block.splitlines()
    margin = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    return "\n".join(line[margin:] for line in lines)


def wrapped(name: str, arguments: list[Any]) -> str:
    """A signature, an argument on a line of its own where one line is too short for all."""
    text = api_source.signature(arguments)
    if len(name + text) <= WIDEST or not arguments:
        return name + text
    parts = _split(text[1:-1])
    return name + "(\n" + "".join(f"    {part},\n" for part in parts) + ")"


def _split(text: str) -> list[str]:
    """What stands between the commas that are in no bracket."""
    parts, depth, quote = [""], 0, ""
    for sign in text:
        quote = "" if sign == quote else (sign if not quote and sign in "'\"" else quote)
        depth += (sign in "([{") - (sign in ")]}") if not quote else 0
        if sign == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += sign
    return [part.strip() for part in parts]


def code(text: str) -> str:
    """A short piece of code in HTML."""
    return f"<code>{html.escape(text, quote=False)}</code>"


def table(css: str, heads: list[str], rows: list[list[str]]) -> str:
    """A table in HTML whose cells say what column they are of, for narrow screens."""
    top = "".join(f"<th>{head}</th>" for head in heads)
    body = "".join(
        "<tr>"
        + "".join(
            f'<td data-label="{html.escape(head)}">{cell}</td>'
            for head, cell in zip(heads, row, strict=True)
        )
        + "</tr>\n"
        for row in rows
    )
    return (
        f'<div class="table"><table class="{css}"><thead><tr>{top}</tr></thead>\n'
        f"<tbody>\n{body}</tbody></table></div>"
    )


def type_of(annotation: str, source: Any) -> str:
    """An annotation, and what its name stands for where advex has given it one."""
    if not annotation:
        return ""
    told = _breakable(code(annotation))
    names = set(re.findall(r"\b[A-Z]\w+", annotation))
    for name in sorted(names):
        meant = api_source.alias(name, source)
        if meant and meant != annotation and len(meant) < 90:
            told += f"<br><small>{html.escape(name)} = {_breakable(code(meant))}</small>"
    return told


def _breakable(text: str) -> str:
    """A type that may go on in the next line after a bracket."""
    return text.replace("[", "[<wbr>")


def argument_table(
    arguments: list[Any], doc: Docstring, source: Any, words: dict[str, str], attack: bool
) -> str:
    """Argument, type, values that pass, default, the paper's default, meaning."""
    said: dict[str, Any] = {}
    above = source.mro() if source.is_class else []  # what a base class has said holds here, too
    docs = [parsed(kind.docstring.value) for kind in above if kind.docstring]
    for each in [*reversed(docs), doc]:
        for entry in each.entries("Args"):
            said |= dict.fromkeys(entry.name.replace("*", "").split(", "), entry)
    limits = any(argument.limits for argument in arguments)
    paper = attack or any(entry.paper for entry in said.values())
    heads = ["argument", "type", *(["values"] if limits else []), "default"]
    heads += [*(["paper"] if paper else []), "meaning"]
    rows = []
    for argument in arguments:
        entry = said.get(argument.name)
        stars = {"variadic positional": "*", "variadic keyword": "**"}.get(argument.kind, "")
        row = [
            code(stars + argument.name),
            type_of(argument.annotation, source),
            *([inline(argument.limits)] if limits else []),
            code(argument.default) if argument.default is not None else _required(stars, words),
            *([inline(entry.paper) if entry and entry.paper else "–"] if paper else []),
            inline(entry.text) if entry else "",
        ]
        rows.append(row)
    return table("arguments", [words[head] for head in heads], rows)


def _required(stars: str, words: dict[str, str]) -> str:
    return "" if stars else f"<em>{words['required']}</em>"


def fact_table(entry: Entry, words: dict[str, str]) -> str:
    """What an attack needs of the model, and the norms, budgets and goals that it takes."""
    facts = entry.facts
    if facts["wrapper"]:
        rows = [[words["access"], words["as inside"]], [words["norms"], words["as inside"]]]
    else:
        norms = " ".join(
            f'<span class="{"norm" if norm in facts["norms"] else "norm none"}">{norm}</span>'
            for norm in NORMS
        )
        if facts["own_norms"]:
            norms += f" {words['own norms']}"
        goals = "every goal" if facts["targets"] else "untargeted"
        goals = "pixels" if facts["pixels"] else goals
        steps = next((each.default for each in entry.arguments if each.name == "steps"), None)
        counted = facts["query_limit"] or facts["needs"][-1] != "gradients"
        rows = [
            [words["access"], ", ".join(words[need] for need in facts["needs"])],
            [words["norms"], norms],
            [words["budget"], inline(words["limit" if facts["limit_required"] else "no limit"])],
            [words["goals"], inline(words[goals])],
            [
                words["queries"],
                code(f"steps={steps}") if counted and steps else words["no query limit"],
            ],
            [words["start"], words["yes" if facts["starts"] else "no"]],
        ]
    body = "".join(f"<tr><th>{head}</th><td>{cell}</td></tr>\n" for head, cell in rows)
    return f'<div class="table"><table class="facts"><tbody>\n{body}</tbody></table></div>'


def sections(doc: Docstring, words: dict[str, str], level: str) -> Iterator[str]:
    """``Cost``, ``Example``, ``Reference`` and ``Deviations``, where there are such."""
    for name in ("Cost", "Example", "Reference", "Deviations"):
        if doc[name]:
            said = markdown(doc[name])
            yield f"{level} {words[name]} {{ #{name.lower()} }}\n\n{said[:1].upper()}{said[1:]}"


def explanation(doc: Docstring, words: dict[str, str]) -> str:
    """The formula with what its signs mean, or why there is none, or what else is said."""
    parts = []
    if doc.formulas or doc["No formula"]:
        parts.append(f"## {words['Formula']} {{ #formula }}")
    elif doc.body:
        parts.append(f"## {words['Details']} {{ #details }}")
    if doc["No formula"]:
        parts.append(markdown(doc["No formula"]))
    if doc.body:
        parts.append(markdown(doc.body))
    return "\n\n".join(parts)


def error_table(listed: list[Any], words: dict[str, str]) -> str:
    """Which errors are raised, and when."""
    rows = [[code(each.name), inline(each.text)] for each in listed]
    return table("raises", [words["name"], words["meaning"]], rows)


def members(entry: Entry) -> list[Any]:
    """The public methods and attributes of a class that have a docstring, up to the first of its
    bases that has a page of its own.
    """
    pages = {each.source.path for each in entries()}
    found: dict[str, Any] = {}
    for kind in api_source.lines_of_descent(entry.source):
        if kind is not entry.source and kind.path in pages:
            break
        if kind.name in ("Attackable", "Settings") and entry.name != "Attack":
            break
        for name, member in kind.members.items():
            hidden = name.startswith("_") and name not in ("__call__", "__getitem__")
            if hidden or member.is_alias or name in found or not member.docstring:
                continue
            found[name] = member
    return list(found.values())


def public_bases(entry: Entry) -> list[Entry]:
    """The nearest base that has a page."""
    if entry.kind != "class":
        return []
    pages = {each.source.path: each for each in entries()}
    above = [pages[kind.path] for kind in entry.source.mro() if kind.path in pages]
    if not above and entry.facts:
        above = [each for each in entries() if each.path == "advex.Attack"]
    return above[:1]


def attribute_table(entry: Entry, words: dict[str, str]) -> str:
    """Attributes: those of the section, those with a text of their own, and fields without one."""
    rows, seen = [], set()
    for each in entry.doc.entries("Attributes"):
        names = each.name.split(", ")
        declared = api_source.attribute(entry.source, names[0])
        kind = str(getattr(declared, "annotation", None) or "") if len(names) == 1 else ""
        rows.append(
            [
                ", ".join(code(name) for name in names),
                type_of(kind, entry.source),
                inline(each.text),
            ]
        )
        seen |= set(names)
    arguments = {argument.name for argument in entry.arguments} if entry.called else set()
    if entry.facts:  # what every attack says of itself is on the page of Attack
        arguments |= set(api_source.package()["attacks.base.Attack"].all_members)
    for member in members(entry):
        if not member.is_attribute or member.name in seen | arguments:
            continue
        kind = member.annotation
        text = " ".join(member.docstring.value.split("\n\n")[0].split())
        rows.append([code(member.name), type_of(str(kind or ""), entry.source), inline(text)])
        seen.add(member.name)
    for name, member in entry.source.members.items() if not entry.called else ():
        field = member.is_attribute and "instance-attribute" in member.labels
        if field and name not in seen and not name.startswith("_") and not member.is_alias:
            rows.append([code(name), type_of(str(member.annotation or ""), entry.source), ""])
    if not rows:
        return ""
    return table("attributes", [words["name"], words["type"], words["meaning"]], rows)


def method_pages(entry: Entry, words: dict[str, str]) -> Iterator[str]:
    """Each method with its call, arguments, result, errors and examples."""
    for member in members(entry):
        if not member.is_function:
            continue
        doc = parsed(member.docstring.value)
        arguments = api_source.arguments_of(member)
        name = "attack" if member.name == "__call__" else member.name
        yield f"### `{name}` {{ #{member.name.strip('_')} }}"
        yield fenced("py", wrapped(name, arguments))
        yield markdown(doc.summary)
        if doc.body:
            yield markdown(doc.body)
        if arguments and doc["Args"]:
            yield argument_table(arguments, doc, member, words, attack=False)
        if doc["Returns"]:
            yield f"**{words['Returns']}**: {markdown(doc['Returns'])}"
        if doc["Raises"]:
            yield f"**{words['Raises']}**:\n\n" + error_table(doc.entries("Raises"), words)
        for name in ("Cost", "Example", "Reference", "Deviations"):
            if doc[name]:
                yield f"**{words[name]}**:\n\n{markdown(doc[name])}"


@functools.cache
def raisers() -> dict[str, list[Entry]]:
    """Error -> the public names whose docstrings mention it under ``Raises``."""
    found: dict[str, list[Entry]] = {}
    for entry in entries():
        docs = [entry.doc]
        if entry.kind == "class":
            docs += [parsed(each.docstring.value) for each in members(entry) if each.is_function]
        for name in {each.name for doc in docs for each in doc.entries("Raises")}:
            found.setdefault(name, []).append(entry)
    return found


def link(entry: Entry, origin: str) -> str:
    """A link in HTML from a page of the API to another."""
    up = "" if origin == entry.group else ("" if not origin else "../") + f"{entry.group}/"
    file = entry.page.rpartition("/")[2].removesuffix(".md")
    return f'<a href="{up}{file}.html">{code(entry.name)}</a>'


def source_code(entry: Entry) -> str:
    """The source of a class or function, without its docstring."""
    lines = entry.source.source.splitlines()
    if entry.source.docstring:
        first = entry.source.docstring.lineno - entry.line
        last = entry.source.docstring.endlineno - entry.line
        lines = lines[:first] + lines[last + 1 :]
    return "\n".join(lines).strip("\n")


@functools.cache
def guides() -> dict[str, tuple[str, str]]:
    """The pages of docs/ in English: title and code."""
    found = {}
    for path in sorted((api_source.ROOT / "docs").glob("*.md")):
        text = path.read_text(encoding="utf-8")
        title = re.search(r"^# (.+?)(?: \{.*\})?$", text, re.MULTILINE)
        if title and path.stem != "index" and not path.stem.endswith(".zh"):
            pieces = re.findall(r"^```.*?^```|`[^`\n]+`", text, re.DOTALL | re.MULTILINE)
            found[path.name] = (title[1].replace("`", ""), "\n".join(pieces))
    return found


@functools.cache
def mentions(path: str) -> list[tuple[str, str]]:
    """The pages whose code has a public name: the file and the title, most mentions first."""
    name = path.rpartition(".")[2]
    short = path.removeprefix("advex.")
    words = {path, short if "." in short else path, name if name[0].isupper() else path}
    pattern = re.compile(rf"(?<![\w.])(?:{'|'.join(map(re.escape, sorted(words)))})(?!\w)")
    counts = {file: len(pattern.findall(code)) for file, (_, code) in guides().items()}
    best = sorted((file for file in counts if counts[file]), key=lambda file: -counts[file])
    return [(file, guides()[file][0]) for file in best[:5]]


def page(entry: Entry, language: str) -> str:
    """The whole page of one public name."""
    words, doc = WORDS[language], entry.doc
    attack = bool(entry.facts)
    parts = [f"# {entry.name}", f'<p class="lead" markdown="1">{markdown(doc.summary)}</p>']
    kind = "class " if entry.kind == "class" and not entry.called else ""
    call = wrapped(entry.path, entry.arguments) if entry.called else kind + entry.path
    parts.append(fenced("py", call))
    if not entry.called and entry.group != "errors" and entry.name not in api_source.BASES:
        parts.append(words["made"])
    if doc["When to use it"]:
        parts += [f"## {words['When to use it']} {{ #when }}", markdown(doc["When to use it"])]
    parts.append(explanation(doc, words))
    if attack:
        parts += [f"## {words['What it takes']} {{ #takes }}", fact_table(entry, words)]
    if entry.arguments and entry.called:
        parts.append(f"## {words['Args']} {{ #arguments }}")
        parts.append(argument_table(entry.arguments, doc, entry.source, words, attack))
    if entry.kind == "class":
        attributes = attribute_table(entry, words)
        if attributes:
            parts += [f"## {words['Attributes']} {{ #attributes }}", attributes]
    if doc["Returns"] or attack:
        parts.append(f"## {words['Returns']} {{ #returns }}")
        parts.append(markdown(doc["Returns"]) if doc["Returns"] else words["a result"])
    listed = doc.entries("Raises")
    if listed or attack:
        parts.append(f"## {words['Raises']} {{ #raises }}")
        parts += [error_table(listed, words)] if listed else []
        parts += [words["common errors"]] if attack else []
    parts += sections(doc, words, "##")
    if entry.group == "errors":
        parts += error_page(entry, words)
    if entry.kind == "class":
        methods = list(method_pages(entry, words))
        parts += [f"## {words['Methods']} {{ #methods }}", *methods] if methods else []
    told = mentions(entry.path)
    if told:
        parts.append(f"## {words['See also']} {{ #see-also }}")
        parts.append("\n".join(f"- [{title}](../../{page})" for page, title in told))
    bases = public_bases(entry)
    if bases:
        parts.append(f"{words['inherits']} {link(bases[0], entry.group)}.")
    parts.append(f"## {words['Source']} {{ #source }}")
    parts.append(f"`{entry.file}`, {entry.line}")
    if entry.group in ("attacks", "budgets", "losses"):
        shown = fenced("py", source_code(entry))
        parts.append(f'??? quote "{entry.file}"\n\n' + textwrap.indent(shown, "    "))
    text = "\n\n".join(part for part in parts if part) + "\n"
    # English words on both languages' pages: one of them is enough for the search.
    return text if language == "en" else f"---\nsearch:\n  exclude: true\n---\n\n{text}"


def error_page(entry: Entry, words: dict[str, str]) -> Iterator[str]:
    """What else catches an error, and what raises it."""
    bases = [str(base).rpartition(".")[2] for base in entry.source.bases]
    yield f"{words['also a']} " + ", ".join(f"`{base}`" for base in bases) + "."
    found = raisers().get(entry.name, [])
    if found:
        yield f"## {words['Raised by']} {{ #raised-by }}"
        yield "<p>" + ", ".join(link(each, entry.group) for each in found) + "</p>"


def group_title(group: str, language: str) -> str:
    """The title of a group of pages."""
    return GROUPS[group][0] if language == "en" else GROUPS_ZH[group]


def kind_of_attack(entry: Entry) -> str:
    """The table of the index that an attack belongs to."""
    facts = entry.facts
    if not facts:
        return "parts"
    if facts["wrapper"] or entry.name in ("AutoAttack", "Verdict", "MinimumNorm", "SEA"):
        return "wrapper"
    if facts["needs"] != ("gradients",):
        return str(facts["needs"][0])
    return "budget" if facts["limit_required"] else "smallest"


def attack_tables(language: str) -> Iterator[str]:
    """The attacks by what they need of the model, with their norms."""
    words = WORDS[language]
    for kind, title in TABLES[language].items():
        listed = [e for e in entries() if e.group == "attacks" and kind_of_attack(e) == kind]
        yield f"## {title} {{ #{kind} }}"
        heads = [words["attack"], words["one line"]]
        heads += [] if kind == "parts" else [*NORMS, words["default"]]
        rows = []
        for entry in listed:
            row = [link(entry, "attacks"), inline(entry.doc.summary)]
            if kind != "parts":
                norms = entry.facts.get("norms", ())
                row += ["✓" if norm in norms else "–" for norm in NORMS]
                if entry.facts["wrapper"]:
                    row[2:6] = [words["as inside"], "", "", ""]
                steps = next((a.default for a in entry.arguments if a.name == "steps"), None)
                row.append(code(f"steps={steps}") if steps not in (None, "None") else "–")
            rows.append(row)
        yield table("attacks", heads, rows)


def index(group: str, language: str) -> str:
    """The page of a group: what its modules say, and its names in a table."""
    words = WORDS[language]
    root = api_source.package()
    parts = [f"# {group_title(group, language)}"]
    for module in GROUPS[group][1]:
        said = root[module].docstring
        parts.append(f"`advex.{module}`: {markdown(said.value)}" if said else f"`advex.{module}`")
    if group == "attacks":
        parts += attack_tables(language)
    else:
        rows = [
            [link(entry, group), inline(entry.doc.summary)]
            for entry in entries()
            if entry.group == group
        ]
        parts.append(table("names", [words["name"], words["one line"]], rows))
    return "\n\n".join(parts) + "\n"


def home(language: str) -> str:
    """The first page of the API reference."""
    words = WORDS[language]
    parts = [f"# {words['api']}", words["intro"]]
    for group in GROUPS:
        rows = [
            [link(entry, ""), inline(entry.doc.summary)]
            for entry in entries()
            if entry.group == group
        ]
        parts.append(f"## [{group_title(group, language)}]({group}/index.md) {{ #{group} }}")
        parts.append(table("names", [words["name"], words["one line"]], rows))
    return "\n\n".join(parts) + "\n"


def pages(language: str) -> dict[str, str]:
    """Path -> Markdown of all pages of the API reference in one language."""
    suffix = "" if language == "en" else f".{language}"
    made = {f"api/index{suffix}.md": home(language)}
    for group in GROUPS:
        made[f"api/{group}/index{suffix}.md"] = index(group, language)
    for entry in entries():
        made[entry.page.removesuffix(".md") + f"{suffix}.md"] = page(entry, language)
    return made
