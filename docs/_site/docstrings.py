"""A docstring in its sections: what the pages of the site are made from."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass, field

SECTIONS = {
    "when to use it": "When to use it",
    "no formula": "No formula",
    "args": "Args",
    "attributes": "Attributes",
    "returns": "Returns",
    "yields": "Returns",
    "raises": "Raises",
    "cost": "Cost",
    "example": "Example",
    "examples": "Example",
    "reference": "Reference",
    "references": "Reference",
    "deviations": "Deviations",
}
HEADING = re.compile(
    rf"^({'|'.join(sorted(SECTIONS, key=len, reverse=True))}):[ ]*(.*)$", re.IGNORECASE
)
ENTRY = re.compile(
    r"^(\*{0,2}[A-Za-z_][\w.]*(?:, \*{0,2}[A-Za-z_][\w.]*)*)(?: \(([^)]*)\))?: ?(.*)$"
)
# An older habit: several errors in one paragraph.
NEXT_ERROR = re.compile(r"(?<=[.;]) (?=[A-Z]\w+: )")
PAPER = re.compile(r"[ ]?The papers?:[ ]((?:[^.]|\.(?=[\w/]))+)\.?")


@dataclass
class Entry:
    """One argument, attribute or exception, with what is said of it."""

    name: str
    text: str
    paper: str = ""


@dataclass
class Docstring:
    """The parts of a docstring. ``body`` is what stands between the first line and the sections."""

    summary: str = ""
    body: str = ""
    sections: dict[str, str] = field(default_factory=dict)

    def __getitem__(self, section: str) -> str:
        return self.sections.get(section, "")

    def entries(self, section: str) -> list[Entry]:
        """The entries of ``Args``, ``Attributes`` or ``Raises``."""
        found: list[list[str]] = []
        for line in self[section].splitlines():
            match = ENTRY.match(line)
            if match:
                found.append([match[1], match[3]])
            elif found:
                found[-1][1] += "\n" + line.strip()
        listed = []
        for name, text in found:
            parts = NEXT_ERROR.split(" ".join(text.split())) if section == "Raises" else [text]
            listed.append((name, parts[0]))
            listed += [tuple(part.split(": ", 1)) for part in parts[1:]]
        entries = []
        for name, text in listed:
            paper = PAPER.search(" ".join(text.split())) if section == "Args" else None
            rest = PAPER.sub("", " ".join(text.split()), count=1) if paper else text
            entries.append(Entry(name, rest.strip(), paper[1].strip() if paper else ""))
        return entries

    @property
    def formulas(self) -> list[str]:
        """What stands between pairs of dollars, on lines of their own."""
        return re.findall(r"\$\$(.+?)\$\$", self.body, re.DOTALL)


def parsed(text: str | None) -> Docstring:
    """A docstring in parts: the first paragraph, what follows, and the sections by their names."""
    lines = inspect.cleandoc(text or "").splitlines()
    parts: dict[str, list[str]] = {"": []}
    current, inline = "", False
    for line in lines:
        heading = HEADING.match(line)
        if heading:
            current, inline = SECTIONS[heading[1].lower()], bool(heading[2])
            parts.setdefault(current, [])
            if heading[2]:
                parts[current].append(heading[2])
        elif current and line and not line.startswith(" ") and not inline:
            current = ""
            parts[""] += ["", line]
        elif current and inline and not line:
            current = ""
        else:
            # An older habit: the deviations follow the reference in one paragraph.
            before, found, after = line.partition("Deviations: ")
            if current == "Reference" and inline and found:
                parts[current].append(before)
                current = "Deviations"
                line = after
                parts[current] = []
            parts[current].append(line)
    free = "\n".join(parts.pop("")).strip()
    summary, _, body = free.partition("\n\n")
    sections = {name: inspect.cleandoc("\n".join(found)) for name, found in parts.items()}
    if "Reference" in sections and "Deviations" not in sections:
        before, found, after = sections["Reference"].partition("Deviations: ")
        if found:
            sections |= {"Reference": before.strip(), "Deviations": after.strip()}
    return Docstring(" ".join(summary.split()), body.strip(), sections)
