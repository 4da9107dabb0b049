"""Pictures in groups of one shape: read, attacked, saved, drawn side by side, and what became of
each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from advex.cli.files import SHEET
from advex.cli.screen import plural, printable
from advex.errors import ImageError, UserCodeError

if TYPE_CHECKING:
    from advex._arrays import Array
    from advex._sheets import Caption
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
    """fooled, not fooled, already the target, not verified, no answer, stopped, unreadable."""
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
    queries: int | None = None
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


INTERRUPTED = "interrupted"
STOPPED = "The call was stopped by"  # begins a note of a result that tells the same
SHEET_PICTURES = 60  # on one contact sheet

Line = list[tuple["Array", "Caption"]]
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


def attacked(
    job: Job, images: Sequence[Image], stopped: str | None = None
) -> tuple[list[Line], dict[str, Any]]:
    """Attack images of one shape, save what was found, and fill their records.

    Args:
        job: what is done.
        images: the pictures.
        stopped: why nothing is asked any more of a function in place of a model.

    Returns:
        The lines of the contact sheet, and ``Result.info``, with the word "stopped" if a function
        in place of a model has failed; both empty where nothing was attacked.
    """
    import numpy as np

    import advex

    if stopped is not None:
        _leave([image.record for image in images])
        return [], {}
    x = np.stack([image.picture.pixels for image in images])
    if len(job.classifier.input_shape or ()) == 3:
        x = x[..., 0]
    goal = (
        None if job.target is None else advex.Targeted(job.target, confidence=job.confidence or 0.0)
    )
    if job.classifier.metered:  # each look counts, and the attack takes one by itself
        return _metered(job, images, x, goal)
    open_rows = _open_rows(job.classifier, x, goal, [image.record for image in images])
    if not open_rows:
        return [], {}
    some = [images[row] for row in open_rows]
    result = job.attack(job.classifier, x[open_rows], goal, job.budget, seed=job.seed)
    return _saved(job, some, result, range(len(some))), dict(result.info)


def _saved(job: Job, images: Sequence[Image], result: Result, rows: Sequence[int]) -> list[Line]:
    """Save what was found, fill the records of ``rows``; their lines of the contact sheet."""
    names = [image.output for image in images]
    saved = {file.index: file for file in result.save(job.out, names, overwrite=job.overwrite)}
    for row in rows:
        _fill(images[row].record, result, row, saved.get(row))
    return [_line(images[row].record, result, row) for row in rows]


def _metered(
    job: Job, images: Sequence[Image], x: Array, goal: Targeted | None
) -> tuple[list[Line], dict[str, Any]]:
    """Attack through a function in place of a model. If that fails, what was found stays."""
    result = None
    try:
        result = job.attack(job.classifier, x, goal, job.budget, seed=job.seed)
        rows = [row for row, status in enumerate(result.status) if status != "clean"]
        new = result.success & (result.status != "clean")  # the others need no file
        lines = _saved(job, images, replace(result, success=new), rows)
    except (UserCodeError, KeyboardInterrupt) as problem:
        result = result or getattr(problem, "result", None)
        _keep(job, images, result)
        said = str(problem) if isinstance(problem, UserCodeError) else INTERRUPTED
        info = dict(result.info) if result else {}
        notes = [note for note in info.get("notes", []) if not note.startswith(STOPPED)]
        return [], {**info, "notes": notes, "stopped": said}
    for row, image in enumerate(images):
        if row not in rows:
            _fill(image.record, result, row, None)
            image.record.status = "already the target"
    return lines, dict(result.info)


def _keep(job: Job, images: Sequence[Image], result: Result | None) -> None:
    """Write what a search has found that was stopped: nobody can be asked about the files."""
    from advex.images import write

    if result is None:
        _leave([image.record for image in images])
        return
    open_rows = result.info.get("unfinished", [])
    for row, image in enumerate(images):
        record, status = image.record, result.status[row]
        _fill(record, result, row, None)
        if status == "clean":
            record.status = "already the target"
        elif result.success[row]:
            job.out.mkdir(parents=True, exist_ok=True)
            path = job.out / image.output
            write(path, result.x[row], overwrite=True)
            record.status, record.output = "not verified", str(path)
            record.distance = float(result.distance[row])
            record.reason = "found, and kept; the function was not asked about the file"
        elif row in open_rows:
            _leave([record])


def _leave(records: Sequence[Record]) -> None:
    """Nothing was found for these when the function failed."""
    for record in records:
        record.status = "stopped"


def percent(confidence: float | None) -> str:
    """A probability for a caption; nothing where there is none."""
    return "" if confidence is None else f"{confidence:.1%}"


def known(confidence: Any) -> float | None:
    """A probability, where there are any."""
    return None if math.isnan(confidence) else float(confidence)


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
    record.before_confidence = known(result.before_confidence[row])
    record.gradients, record.queries = int(result.gradients[row]), int(result.queries[row])
    record.status = "not fooled"
    if written is not None:
        record.status = "fooled" if written.verified else "not verified"
        record.after, record.confidence = written.after, known(written.confidence)
        record.levels, record.distance = written.levels, float(result.distance[row])
        record.verified, record.output = written.verified, str(written.path)
        record.notes += [written.reason] if written.reason else []


def _line(record: Record, result: Result, row: int) -> Line:
    """One row of the contact sheet, from a record that is filled."""
    from advex import images
    from advex._drawing import ATTEMPT, GREY, RED

    original, fooled = result.original[row], record.status == "fooled"
    ink = RED if fooled else "black"
    if record.after is None or record.levels is None:
        adversarial, said, fate = result.attempt[row], [(ATTEMPT, GREY)], "\u2717 not fooled"
    else:
        adversarial = result.x[row]
        said = [(record.after, ink), (percent(record.confidence), ink)]
        sign = "\u2713" if fooled else "\u2717"
        fate = f"{sign} {record.status}, {plural(record.levels, 'level')}"
    return [
        (original, f"{record.before}\n{percent(record.before_confidence)}"),
        (adversarial, said),
        (
            images.enlarged(original, adversarial),
            [(fate, ink), (printable(Path(record.file).name), "black")],
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
