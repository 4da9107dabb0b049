"""Pictures in groups of one shape: read, attacked, saved, drawn side by side, and what became of
each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from advex.cli.files import SHEET
from advex.cli.screen import plural, printable
from advex.errors import ImageError

if TYPE_CHECKING:
    from advex._arrays import Array
    from advex.attacks import Attack
    from advex.budgets import Budget
    from advex.goals import Targeted
    from advex.images import Picture
    from advex.model.protocol import Model
    from advex.result import Result, SavedImage


@dataclass
class Record:
    """What became of one file."""

    file: str
    status: str = "unreadable"
    """fooled, not fooled, already the target, not verified, no answer, unreadable."""
    reason: str | None = None
    before: str | None = None
    before_confidence: float | None = None
    after: str | None = None
    confidence: float | None = None
    levels: int | None = None
    """Largest change of any element, in grey levels."""
    distance: float | None = None
    """Size of the change in the norm asked for, in units of the box's range."""
    verified: bool | None = None
    output: str | None = None
    gradients: int | None = None
    notes: list[str] = field(default_factory=list)


class Image(NamedTuple):
    """A picture that was read, the name of the file it becomes, and its record."""

    picture: Picture
    output: str
    record: Record


class Job(NamedTuple):
    """What is done to every image of a call."""

    classifier: Model
    attack: Attack
    target: int | None
    confidence: float | None
    budget: Budget
    seed: int
    out: Path
    overwrite: bool


SHEET_PICTURES = 60  # on one contact sheet

Line = list[tuple["Array", str]]
"""One line of the contact sheet: pictures with their captions."""


def groups(
    files: Sequence[Path],
    outputs: Sequence[str],
    records: Sequence[Record],
    size: tuple[int, int] | None,
    channels: int,
) -> list[list[Image]]:
    """The images that can be read, in groups of one shape; the records of the others say why."""
    from advex import images

    groups: dict[tuple[int, ...], list[Image]] = {}
    for path, output, record in zip(files, outputs, records, strict=True):
        try:
            picture = images.read(path, channels=channels, size=size)
        except ImageError as problem:
            record.reason = str(problem).removeprefix(f"{path}: ")
            continue
        record.notes = list(picture.notes)
        groups.setdefault(picture.pixels.shape, []).append(Image(picture, output, record))
    return list(groups.values())


def attacked(job: Job, images: Sequence[Image]) -> tuple[list[Line], dict[str, Any]]:
    """Attack images of one shape, save what was found, and fill their records.

    Returns:
        The lines of the contact sheet, and ``Result.info``; both empty where nothing was attacked.
    """
    import numpy as np

    import advex

    x = np.stack([image.picture.pixels for image in images])
    if len(job.classifier.input_shape or ()) == 3:
        x = x[..., 0]
    goal = (
        None if job.target is None else advex.Targeted(job.target, confidence=job.confidence or 0.0)
    )
    open_rows = _open_rows(job.classifier, x, goal, [image.record for image in images])
    if not open_rows:
        return [], {}
    some = [images[row] for row in open_rows]
    result = job.attack(job.classifier, x[open_rows], goal, job.budget, seed=job.seed)
    names = [image.output for image in some]
    files = result.save(job.out, names, overwrite=job.overwrite)
    saved = {file.index: file for file in files}
    lines = []
    for row, image in enumerate(some):
        _fill(image.record, result, row, saved.get(row))
        lines.append(_line(image.record, result, row))
    return lines, dict(result.info)


def _open_rows(
    classifier: Model, x: Array, goal: Targeted | None, records: Sequence[Record]
) -> list[int]:
    """The rows that are worth an attack; the records of the others are filled."""
    import numpy as np

    from advex.driver.shapes import default_batch
    from advex.evaluation.pieces import judged

    said = judged(classifier, x, goal, default_batch(x.shape[1:]))
    for row in np.flatnonzero(said.silent).tolist():
        records[row].status, records[row].reason = "no answer", "the model answers NaN"
    for row in np.flatnonzero(said.reached).tolist():
        record = records[row]
        record.status = "already the target"
        record.before = classifier.caption(int(said.prediction[row]))
        record.before_confidence = float(said.confidence[row])
    return np.flatnonzero(~said.silent & ~said.reached).tolist()


def _fill(record: Record, result: Result, row: int, written: SavedImage | None) -> None:
    """Write down what a row of the result says, and its file if there is one."""
    record.before = result.classifier.caption(int(result.before[row]))
    record.before_confidence = float(result.before_confidence[row])
    record.gradients = int(result.gradients[row])
    record.status = "not fooled"
    if written is not None:
        record.status = "fooled" if written.verified else "not verified"
        record.after, record.confidence = written.after, written.confidence
        record.levels, record.distance = written.levels, float(result.distance[row])
        record.verified, record.output = written.verified, str(written.path)
        record.notes += [written.reason] if written.reason else []


def _line(record: Record, result: Result, row: int) -> Line:
    """One row of the contact sheet, from a record that is filled."""
    from advex import images

    name, confidence = record.after, record.confidence
    if name is None or confidence is None or record.levels is None:
        name = result.classifier.caption(int(result.prediction[row]))
        confidence, fate = float(result.confidence[row]), "not fooled"
    else:
        fate = f"max {plural(record.levels, 'level')}"
    original, adversarial = result.original[row], result.x[row]
    return [
        (original, f"{record.before}\n{record.before_confidence:.1%}"),
        (adversarial, f"{name}\n{confidence:.1%}"),
        (
            images.enlarged(original, adversarial),
            f"{fate}\n{printable(Path(record.file).name)}",
        ),
    ]


def contact_sheet(job: Job, lines: Sequence[Line]) -> str:
    """Draw and write the contact sheet; its path."""
    from advex import images

    path = job.out / SHEET
    job.out.mkdir(parents=True, exist_ok=True)
    across = min(4, max(1, round(math.sqrt(min(len(lines), SHEET_PICTURES) / 2))))
    side = 224 if len(lines) <= 8 and max(lines[0][0][0].shape) >= 160 else 112
    headings = ("original", "adversarial", "difference x10")
    picture = images.sheet(lines[:SHEET_PICTURES], headings, side=side, across=across)
    images.save(path, picture, overwrite=job.overwrite)
    return str(path)
