"""What a diagnosis returns: a finding for each check, and their table as text and as HTML."""

from __future__ import annotations

import html
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

from advex.errors import InvalidInput

Status = Literal["ok", "flag", "not run", "noted"]


@dataclass(frozen=True)
class Finding:
    """One check and its outcome.

    Attributes:
        id: "D1" to "D15".
        name: the check in two words.
        status: "flag" (something is wrong), "ok", "noted" (a figure to know about, no alarm) or
            "not run".
        found: what was measured, a sentence with figures; for "not run" the reason.
        means: what that means for an evaluation; empty for "ok" and "not run".
        advice: what to try next; likewise.
        measure: the figures by name.
    """

    id: str
    name: str
    status: Status
    found: str
    means: str
    advice: str
    measure: dict[str, float]

    @property
    def sentence(self) -> str:
        """``found`` as a sentence: with a capital letter and a stop."""
        text = self.found.strip()
        text = text[:1].upper() + text[1:]
        return text if text.endswith((".", "!", "?")) or not text else f"{text}."


@dataclass(frozen=True, repr=False)
class Diagnosis:
    """What ``diagnose`` has found.

    Attributes:
        findings: one ``Finding`` for each of D1 to D15, in this order.
        examples: how many correctly classified examples were looked at.
        budget: the budget within which attacks ran, as text.
        seed: of the random numbers.
        gradients: backward passes spent in total.
        queries: forward passes spent in total.
    """

    findings: tuple[Finding, ...]
    examples: int
    budget: str
    seed: int
    gradients: int
    queries: int

    @property
    def flags(self) -> tuple[Finding, ...]:
        """The findings that fired."""
        return tuple(finding for finding in self.findings if finding.status == "flag")

    def __getitem__(self, name: str) -> Finding:
        """The finding with this id, such as ``diagnosis["D8"]``."""
        for finding in self.findings:
            if finding.id == name:
                return finding
        raise KeyError(name)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, dicts, texts and finite numbers, as JSON takes them."""
        return asdict(self) | {"findings": [asdict(finding) for finding in self.findings]}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The diagnosis that ``to_dict`` has written.

        Raises:
            InvalidInput: something else.
        """
        try:
            findings = tuple(Finding(**finding) for finding in values["findings"])
            return cls(**{**values, "findings": findings})
        except (TypeError, KeyError) as problem:
            raise InvalidInput(f"this is not what Diagnosis.to_dict() writes: {problem}") from None

    def _headline(self) -> str:
        fired = ", ".join(finding.id for finding in self.flags)
        flags = (
            f"{len(self.flags)} flag{'s' if len(self.flags) > 1 else ''} ({fired})"
            if fired
            else "no flags"
        )
        left = sum(finding.status == "not run" for finding in self.findings)
        skipped = f", {left} checks not run" if left else ""
        return (
            f"Diagnosis of {self.examples} correctly classified examples within {self.budget}:"
            f" {flags}{skipped}"
        )

    def __repr__(self) -> str:
        lines = [self._headline(), f"{'id':<4} {'check':<17} {'':<8}found"]
        for finding in self.findings:
            status = "fired" if finding.status == "flag" else finding.status
            lines.append(f"{finding.id:<4} {finding.name:<17} {status:<8}{finding.found}")
        lines += [f"{flag.id}: {flag.means} {flag.advice}" for flag in self.flags]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        def cells(tag: str, *texts: str) -> str:
            return "<tr>" + "".join(f"<{tag}>{text}</{tag}>" for text in texts) + "</tr>"

        lines = [cells("th", "id", "check", "", "found", "what it means, what to try")]
        for finding in self.findings:
            parts = [
                html.escape(text)
                for text in (finding.id, finding.name, finding.status, finding.found)
            ]
            parts[2] = "<b>fired</b>" if finding.status == "flag" else parts[2]
            lines.append(
                cells("td", *parts, html.escape(f"{finding.means} {finding.advice}".strip()))
            )
        return f"<p>{html.escape(self._headline())}</p><table>{''.join(lines)}</table>"
