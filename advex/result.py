"""What an attack has found: arrays, pictures and files, each judged by the model again."""

from __future__ import annotations

import functools
import html
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, TypedDict

import numpy as np
from keras import ops, tree

from advex import _backend, _drawing, images
from advex._arrays import Array
from advex._grid import EightBit, Grid
from advex._inputs import Examples
from advex._settings import helpful, shown, switch, whole_number
from advex._space import grid_of
from advex._table import cut, listed, one_number, write_csv
from advex.budgets import Budget
from advex.errors import InvalidInput, InvalidType, ModelWarning
from advex.goals import Goal, Segmentation, Targeted, Untargeted
from advex.goals.segmentation import mean_iou, pixel_accuracy
from advex.model.protocol import Model
from advex.trace import Trace

BATCH = 64  # images side by side that are looked at once more

ARRAY = "np.save('adversarial.npy', result.x)"
ARRAYS = "np.savez('adversarial.npz', *keras.tree.flatten(result.x))"
"""How to keep what is no picture."""
AS_FILES = "Images passed as uint8 are attacked in the 8 bits that a file has."


@dataclass(frozen=True)
class SavedImage:
    """One file written by ``Result.save``. Its fields can be read as attributes or as keys."""

    path: Path
    index: int
    """Row of the result."""
    before: str
    """Predicted class of the original, by name if names are known."""
    after: str
    """Predicted class of the file, read back."""
    confidence: float
    """Probability of that class."""
    levels: int
    """Largest change of any element, in grey levels, measured on the file."""
    verified: bool
    """Whether the file, read back, reaches the goal, and is inside the budget measured from the
    input as it was given.
    """
    distance: float
    """How far the file is from that input, in the budget's norm, in units of the box's range."""
    reason: str
    """Why the file is not verified; empty where it is."""

    def __getitem__(self, name: str) -> Any:
        if name not in self.keys():
            raise KeyError(name)
        return getattr(self, name)

    def keys(self) -> Iterator[str]:
        return iter([entry.name for entry in fields(self)])


class StageInfo(TypedDict):
    """What one run of an attack did; runs that go on from each other have one line."""

    attack: str
    seconds: float
    examples: int
    broken: int
    gradients: int
    queries: int


class Info(TypedDict, total=False):
    """What was done and noticed in a call."""

    head: str | None
    """What the model's outputs are, such as "softmax"."""
    goal: str
    budget: str
    attack: str
    seed: int
    backend: str
    versions: dict[str, str]
    warnings: list[str]
    """Sentences about what is doubtful."""
    notes: list[str]
    """Sentences about what was done, and what was taken for what."""
    fragile: list[int]
    """Rows whose success did not survive the final judgement."""
    invalid: list[int]
    """Rows for which the model answered NaN during the search."""
    suspicious: list[int]
    """Rows whose gradients look as if they hid the way."""
    until: str
    """What ended a row: "success" or "end"."""
    clean_wrong: int
    """Rows whose goal was reached before any attack."""
    checks: dict[str, int]
    """Queries of the checks of the model's honesty."""
    stages: list[StageInfo]
    stopped: str
    """The error that ended the call; such a result is the error's attribute ``result``."""
    unfinished: list[int]
    """Rows that it left unfinished."""


@dataclass(frozen=True, repr=False, eq=False)
class Result:
    """The outcome of an attack on n inputs; every array has n rows.

    Attributes:
        x: adversarial inputs, dtype and shape of the original; the original itself where the attack
            failed.
        attempt: how far each row came: the same as ``x``, but where the attack failed the last
            point that it reached, inside budget and box; with ``until="end"`` the point at which
            the goal was exceeded most.
        success: whether the goal is reached by that very row, inside budget and box, (n,) bool.
        prediction: what the model says about that row: the class predicted, (n,) int; for other
            goals what their docstring says; for goals over several outputs a dict.
        confidence: the probability of that class, (n,) float, likewise.
        margin: the goal's margin at ``attempt``, (n,) float64, above 0 where it is crossed; where
            the attack failed as the search has seen it, and NaN where a search for the smallest
            change has ended outside of the budget: its last point was pulled inside, unasked.
        margin_before: the same for the original.
        distance: size of the change in the budget's norm, in units of the box's range, (n,)
            float64: 0 where the input was wrong already, inf where the attack failed.
        gradients: backward passes spent on each row, (n,) int.
        queries: forward passes spent on each row (those of the gradients included), (n,) int.
        before, before_confidence: prediction and probability for the original.
        broken_by: what broke each row, (n,) str: "clean" where the input was wrong already, ""
            where nothing did.
        status: what became of each row, (n,) str, one word: "clean" where the goal was reached
            before any attack, "broken" where the attack reached it, "held" where it did not,
            "fragile" where a success did not survive the final judgement, "invalid" where the
            model answered NaN during the search. A row that is both is "invalid".
        original, goal, budget, classifier: what was given.
        info: what was done and noticed, see ``Info``.
    """

    classifier: Model
    original: Array
    goal: Goal
    budget: Budget
    x: Array
    attempt: Array
    success: Array
    prediction: Any
    confidence: Any
    margin: Array
    distance: Array
    gradients: Array
    queries: Array
    before: Any
    before_confidence: Any
    margin_before: Array
    broken_by: Array
    status: Array
    info: Info = field(default_factory=lambda: Info())
    given: Examples | None = None
    """Of inputs that are more than one array: what is attacked of them, and what travels along."""
    trace: Trace | None = None
    """The smallest change after so many queries, for attacks without gradients; None for others,
    and with ``until="end"``."""
    sized: tuple[tuple[Array, Result], ...] = ()
    """Of inputs of several sizes: the rows of each size, and their result."""

    @classmethod
    def empty(
        cls, classifier: Model, x: Array | Examples, goal: Goal, budget: Budget, info: Info
    ) -> Result:
        """The result of no inputs."""
        whole, real = np.zeros(0, "int64"), np.zeros(0, "float64")
        return cls(
            classifier=classifier,
            original=_tree(x.copy()),
            goal=goal,
            budget=budget,
            x=_tree(x.copy()),
            attempt=_tree(x.copy()),
            margin=real,
            margin_before=real,
            success=np.zeros(0, bool),
            prediction=whole,
            confidence=real,
            distance=real,
            gradients=whole,
            queries=whole,
            before=whole,
            before_confidence=real,
            broken_by=np.zeros(0, str),
            status=statuses(*np.zeros((4, 0), bool)),
            info=info,
            given=x if isinstance(x, Examples) else None,
        )

    @property
    def perturbation(self) -> Array:
        """``x - x0`` as floats, in the units of ``x``; of several inputs in their structure."""

        def moved(x: Array, original: Array) -> Array:
            kind = "float64" if x.dtype == np.float64 else "float32"
            changed = x.astype(kind) - original.astype(kind)
            return np.where(x == original, np.zeros((), kind), changed)

        made: Array = tree.map_structure(moved, self.x, self.original)
        return made

    @functools.cached_property
    def confusion(self) -> Array:
        """How many pixels that count are of class i and are taken for j, of each image, at
        ``attempt``: (n, i, j). For ``Segmentation`` alone. The model is asked once more when it is
        first looked at, beyond what is counted.

        Raises:
            InvalidInput: the goal is another.
        """
        if not isinstance(self.goal, Segmentation):
            raise InvalidInput(
                f"only results of advex.Segmentation have it; the goal is {self.goal!r}"
            )
        if self.sized:
            order = np.concatenate([rows for rows, _ in self.sized])
            every = np.concatenate([part.confusion for _, part in self.sized])
            return every[np.argsort(order)]
        maps, classes = self._attempted
        return self.goal.confusion(maps, classes)

    @functools.cached_property
    def _attempted(self) -> tuple[Array, int]:
        """The maps that the model answers with at ``attempt``, and how many classes there are."""
        whole, reading = self.examples("attempt"), self.goal.reading
        grid, maps, classes = grid_of(self.classifier, whole), [], 2
        for start in range(0, len(self), BATCH):
            points = grid.entered(whole[start : start + BATCH])
            tensors = tree.map_structure(ops.convert_to_tensor, points)
            answer = self.classifier.judge(points, reading)(tensors)
            maps.append(_backend.to_numpy(answer).argmax(axis=-1))
            classes = int(answer.shape[-1])
        return (np.concatenate(maps) if maps else self.before), classes

    def examples(self, name: str) -> Array | Examples:
        """Adversarial inputs as the model is asked with them.

        Args:
            name: "x", "attempt" or "original".

        Returns:
            The array, (n, ...), or of a model of several inputs all of them.
        """
        values = getattr(self, name)
        if self.given is None:
            plain: Array = values
            return plain
        return self.given.moved(self.given.form.attacked(values))

    @property
    def pixel_accuracy(self) -> Array:
        """The share of the pixels that count that are right at ``attempt``, (n,); see
        ``confusion``.
        """
        return pixel_accuracy(self.confusion)

    @property
    def mean_iou(self) -> float:
        """The mean over the classes of intersection over union, over all images, at ``attempt``;
        see ``confusion``.
        """
        return mean_iou(self.confusion)

    @property
    def success_rate(self) -> float | None:
        """Share of successes, those included that were reached before any attack; None for an empty
        batch.
        """
        return float(self.success.mean()) if len(self.success) else None

    def __len__(self) -> int:
        return len(self.success)

    def rows(self) -> list[dict[str, Any]]:
        """One dict for each row: its number, what became of it, what the model says, and what it
        cost.

        Several labels are lists, several outputs a column each; maps are left out.

        Returns:
            A list of n dicts of plain values: `pandas.DataFrame(result.rows())` is a frame.
        """
        return listed(self._columns, len(self))

    @property
    def _columns(self) -> dict[str, Any]:
        return {
            "row": np.arange(len(self)),
            "status": self.status,
            "success": self.success,
            "before": self.before,
            "before_confidence": self.before_confidence,
            "prediction": self.prediction,
            "confidence": self.confidence,
            "margin_before": self.margin_before,
            "margin": self.margin,
            "distance": self.distance,
            "gradients": self.gradients,
            "queries": self.queries,
            "broken_by": self.broken_by,
        }

    def to_pandas(self) -> Any:
        """`rows` as a pandas frame, the row's number its index.

        Returns:
            A `pandas.DataFrame` of n rows.

        Raises:
            ImportError: pandas is missing.
        """
        try:
            import pandas
        except ImportError:
            raise ImportError("frames are made by pandas: pip install pandas") from None
        rows = self.rows()
        names = None if rows else list(self._columns)
        return pandas.DataFrame(rows, columns=names).set_index("row")

    def to_csv(self, path: str | Path, overwrite: bool = False) -> Path:
        """Write `rows` as a file of comma-separated values; it is whole or absent.

        Args:
            path: the file, in a folder that exists.
            overwrite: whether an existing file may be replaced.

        Returns:
            The path.

        Raises:
            InvalidInput: the file exists, and `overwrite` is False.
        """
        switch("overwrite", overwrite)
        if not isinstance(path, str | os.PathLike):
            raise InvalidType(f"path must be the name of a file; received {shown(path)}")
        write_csv(Path(path), list(self._columns), self.rows(), overwrite)
        return Path(path)

    @helpful
    def save(
        self,
        folder: str | Path,
        names: Sequence[str] | None = None,
        rows: Literal["success", "all"] = "success",
        overwrite: bool = False,
    ) -> list[SavedImage]:
        """Write PNG files, read each back and judge it again.

        Float inputs are rounded to 8 bits towards the original, and kept inside the budget where
        that can be done. A file counts as verified only if it is itself within epsilon of the input
        that was given, in exact
        arithmetic: what rounding the input costs is part of the distance. Where that alone is more
        than epsilon (small budgets in ``L1`` and ``L2``; ``L0``, as soon as more elements than it
        allows lie between two levels), no file can be verified, and ``reason`` says so. A warning
        says how many files are not verified.

        Args:
            folder: where to; made if it does not exist.
            names: one file name per row of the result, or per row written; default ``00000.png``
                and so on.
            rows: ``"success"`` or ``"all"``.
            overwrite: whether existing files may be replaced.

        Returns:
            A list of ``SavedImage``, one per file.

        Raises:
            InvalidInput: not pictures; a name that is taken, doubled or points out of the folder.
            OSError: the folder cannot be written.
        """
        if not isinstance(rows, str) or rows not in ("success", "all"):
            raise InvalidInput(f"rows must be 'success' or 'all'; received {shown(rows)}")
        self._demand_one_array("saved")
        if len(self) and (reason := self._no_picture()):
            raise InvalidInput(
                f"only pictures can be saved: {reason}; np.save('adversarial.npy', result.x) keeps"
                f" the arrays"
            )
        switch("overwrite", overwrite)
        _demand_folder(folder)
        chosen = np.arange(len(self)) if rows == "all" else np.flatnonzero(self.success)
        folder = Path(folder)
        paths = self._paths(folder, names, chosen, overwrite)
        folder.mkdir(parents=True, exist_ok=True)
        files = [self._saved(path, int(row)) for path, row in zip(paths, chosen, strict=True)]
        lost = [file for file in files if self.success[file.index] and not file.verified]
        if lost:
            rounded = self._pictures("x")[lost[0].index].dtype != np.uint8
            warnings.warn(_not_kept(lost, len(files), rounded), ModelWarning, stacklevel=3)
        return files

    def _no_picture(self) -> str:
        """Why the inputs are no pictures; empty if they are."""
        return next(filter(None, map(images.no_picture, self._groups)), "")

    @property
    def _groups(self) -> list[Array]:
        """What is drawn, in arrays of one size each."""
        return [part.x for _, part in self.sized] or [self._pictures("x")]

    def _pictures(self, name: str) -> Array:
        """``x``, ``attempt`` or ``original`` as it is drawn: of several inputs what is attacked."""
        values: Array = getattr(self, name)
        values = values if self.given is None else self.given.form.attacked(values)
        return np.moveaxis(values, 1, -1) if self._channels_first else values

    @property
    def _channels_first(self) -> bool:
        """Whether the pictures are (n, 1 or 3, height, width)."""
        shape = () if self.sized else self.examples("x").shape
        return len(shape) == 4 and shape[1] in (1, 3) and shape[3] not in (1, 3)

    @property
    def _box(self) -> tuple[float, float]:
        """The box of the pictures."""
        if self.given is None:
            return self.classifier.box
        return self.given.form.parts[0].domain.ends

    def _demand_one_array(self, done: str) -> None:
        """Raise unless inputs are pictures in a box, and nothing else."""
        form = None if self.given is None else self.given.form
        layer = None if form is None else form.layer
        plain = self.classifier.domain.plain if form is None else form.parts[0].domain.plain
        if plain and layer is None and (form is None or not form.flat):
            return
        if layer is not None:
            what = f"what was attacked is the output of the layer {layer!r}, which no file can hold"
            code = ARRAY
        elif form is not None and form.flat:
            what = "several inputs were attacked at once"
            code = ARRAYS
        else:
            what = f"the inputs are of {self.classifier.domain!r}"
            code = ARRAY
        raise InvalidInput(f"only pictures can be {done}, and {what}: {code} keeps the arrays")

    def _paths(
        self, folder: Path, names: Sequence[str] | None, chosen: Array, overwrite: bool
    ) -> list[Path]:
        if names is None:
            given = [f"{row:05d}.png" for row in chosen]
        else:
            if isinstance(names, str | bytes) or not isinstance(names, Iterable):
                raise InvalidType(
                    f"names must be file names, one for each row; received {shown(names)}"
                )
            entries = list(names)
            if odd := [name for name in entries if not isinstance(name, str | os.PathLike)]:
                raise InvalidType(
                    f"names must be file names, such as 'cat.png'; received {shown(odd[0])}"
                )
            listed = [str(name) for name in entries]
            if len(listed) == len(self):
                given = [listed[row] for row in chosen]
            elif len(listed) == len(chosen):
                given = listed
            else:
                raise InvalidInput(
                    f"{len(listed)} names for {len(chosen)} files ({len(self)} rows)"
                )
        seen: set[str] = set()
        paths = []
        for name in given:
            plain = (
                name
                and "\0" not in name
                and name not in (".", "..")
                and Path(name).name == name
                and "\\" not in name
            )
            if not plain or not images.encodable(name):
                raise InvalidInput(f"{shown(name)} is not a plain file name")
            name = name if name.lower().endswith(".png") else f"{name}.png"
            if name.casefold() in seen:
                raise InvalidInput(f"two rows would be saved as {name!r}")
            seen.add(name.casefold())
            path = folder / name
            if path.is_symlink():
                raise InvalidInput(f"{path} is a symbolic link; advex does not write through it")
            if os.path.lexists(path) and not overwrite:
                raise InvalidInput(
                    f"{path} exists; pass overwrite=True to replace it, or another folder"
                )
            paths.append(path)
        return paths

    def _saved(self, path: Path, row: int) -> SavedImage:
        pixels, original = self._pixels(row), self._eight_bit(self._pictures("original")[row])
        images.write(path, pixels, overwrite=True)
        back = images.read(
            path, channels=1 if pixels.ndim == 2 or pixels.shape[-1] == 1 else 3
        ).pixels.reshape(pixels.shape)
        after, confidence, verified, distance, reason = self._judged_file(back, row)
        levels = int(np.abs(back.astype("int16") - original.astype("int16")).max(initial=0))
        before = self._words(self.before, self.before_confidence, row)
        return SavedImage(path, row, before, after, confidence, levels, verified, distance, reason)

    def _judged_file(self, pixels: Array, row: int) -> tuple[str, float, bool, float, str]:
        """8-bit pixels judged by the model: what it says, how sure it is, whether they reach the
        goal inside the budget, their distance from the input, and why not.
        """
        goal = self.goal.bound(
            {
                name: ops.convert_to_tensor(values[row : row + 1])
                for name, values in self.goal.rows().items()
            }
        )
        working, reading = self._entered(pixels, row), self.goal.reading
        answer = self.classifier.judge(working, reading)(
            tree.map_structure(ops.convert_to_tensor, working)
        )
        forward = self.classifier.forward(working, reading)
        reached = bool(_backend.to_numpy(goal.reached(answer, forward.slack))[0])
        prediction, confidence = goal.said(tree.map_structure(_backend.to_numpy, answer))
        after = self._words(prediction, confidence, 0)
        distance, reason = self._measured(pixels, row)
        if not reached:
            now = f"the file does not reach the goal: the model takes it for {after}"
            reason = f"{now}; {reason}" if reason else now
        return after, one_number(confidence, 0), not reason, distance, reason

    def _entered(self, pixels: Array, row: int) -> Any:
        """What the model is asked with about 8-bit pixels in place of one row."""
        if self._channels_first:
            pixels = np.moveaxis(pixels, -1, 0)
        if self.given is None:
            return Grid(np.dtype("uint8"), self._box).entered(pixels[None])
        form = self.given.form
        parts = (replace(form.parts[0], dtype=pixels.dtype),)
        beside = {name: values[row : row + 1] for name, values in self.given.beside.items()}
        file = Examples(pixels[None], beside, replace(form, parts=parts))
        return grid_of(self.classifier, file).entered(file)

    def _words(self, prediction: Any, confidence: Any, row: int) -> str:
        """What the model says about one row."""
        said, sure = (cut(part, row) for part in (prediction, confidence))
        return self.goal.words(said, sure, self.classifier.caption)

    def _measured(self, pixels: Array, row: int) -> tuple[float, str]:
        """How far 8-bit pixels are from the input as it was given, and what is wrong with that."""
        budget, original = self.budget.single(row), self._pictures("original")[row]
        if original.dtype == np.uint8:
            grid = Grid(original.dtype, self._box)
            distance = float(grid.distance(pixels[None], original[None], budget)[0])
            inside, start = bool(grid.within(pixels[None], original[None], budget)[0]), 0.0
        else:
            file = EightBit(original, self._box, budget)
            distance, inside, start = (
                file.size(pixels),
                file.within(pixels),
                file.size(file.nearest),
            )
        if inside:
            return distance, ""
        far = (
            f"{distance:.6g} from the input"
            if budget.homogeneous
            else f"{distance:.0f} elements differ from the input"
        )
        reason = f"the file is outside the budget: {far}, epsilon is {budget.epsilon:.6g}"
        if start > 0:
            reason += f"; rounding the input itself to 8 bits already costs {start:.6g}"
        return distance, reason

    def _eight_bit(self, values: Array) -> Array:
        """One input in levels, rounded to nearest."""
        if values.dtype == np.uint8:
            return values
        low, high = self._box
        return np.clip(
            np.rint((values.astype("float64") - low) / (high - low) * 255), 0, 255
        ).astype("uint8")

    def _pixels(self, row: int) -> Array:
        """One adversarial input in levels: rounded towards the original, inside the budget where
        that can be.
        """
        if self._pictures("x")[row].dtype == np.uint8:
            return self._pictures("x")[row]
        file = EightBit(self._pictures("original")[row], self._box, self.budget.single(row))
        return file.rounded(self._pictures("x")[row])

    def show(self, rows: Sequence[int] | None = None, limit: int = 8) -> Any:
        """Pictures as one ``PIL.Image``: original, adversarial and their difference x10, with what
        the model says, and whether the goal was reached. Of a row that held, the last attempt.

        Args:
            rows: which; default some of those that were broken, of different classes first, and
                some that held.
            limit: at most so many where ``rows`` is None.
        """
        self._demand_one_array("shown")
        if reason := self._no_picture():
            raise InvalidInput(
                f"only pictures can be shown: {reason}; draw lines instead, such as matplotlib's"
                " plt.plot(result.perturbation[0].ravel())"
            )
        limit = whole_number("limit", limit, lowest=0)
        if rows is not None and not isinstance(rows, Sequence | np.ndarray | range):
            raise InvalidType(
                f"rows must be numbers below {len(self)}, such as [0]; received {shown(rows)}"
            )
        for row in rows if rows is not None else ():
            if (
                isinstance(row, bool)
                or not isinstance(row, int | np.integer)
                or not -len(self) <= row < len(self)
            ):
                raise InvalidType(f"rows must be numbers below {len(self)}; received {shown(row)}")
        drawn = self._drawn(self._chosen(limit) if rows is None else rows)
        titles = ["original", "adversarial", "difference x10"]
        if isinstance(self.goal, Segmentation):
            titles[1:1], titles[3:3] = ["map before"], ["map after"]
        return _drawing.sheet(drawn, titles, len(self), self.goal.targeted)

    def _chosen(self, limit: int) -> list[int]:
        plain = isinstance(self.before, np.ndarray) and self.before.shape == (len(self),)
        whole = plain and self.before.dtype.kind in "iu"
        return _drawing.chosen(self.status, self.before if whole else None, limit)

    def _drawn(self, rows: Iterable[int]) -> list[_drawing.Drawn]:
        """Rows as pictures and words."""
        maps = isinstance(self.goal, Segmentation)
        made = []
        for row in (int(row) % len(self) for row in rows):
            tried = not maps and self.status[row] == "held"
            name = "attempt" if maps or tried else "x"
            start, end = (self._pictures(each)[row] for each in ("original", name))
            original, adversarial = self._eight_bit(start), self._eight_bit(end)
            span = 255 if original.dtype == end.dtype else self._box[1] - self._box[0]
            change = (end.astype("float64") - start.astype("float64")) / span * 255
            panels = [
                _drawing.Panel("original", original),
                _drawing.Panel(_drawing.ATTEMPT if tried else "adversarial", adversarial),
                _drawing.Panel("difference", _drawing.difference(change)),
            ]
            if maps:
                panels = self._maps_of(row, *panels)
            was = "" if maps else self._caption(self.before, self.before_confidence, row)
            now = "" if maps else self._caption(self.prediction, self.confidence, row)
            away = _drawing.moved(self.budget.single(row), float(self.distance[row]))
            made.append(_drawing.Drawn(row, tuple(panels), was, now, str(self.status[row]), away))
        return made

    def _maps_of(
        self,
        row: int,
        original: _drawing.Panel,
        adversarial: _drawing.Panel,
        change: _drawing.Panel,
    ) -> list[_drawing.Panel]:
        """The pictures of a goal that is a class for each pixel: both points, both maps."""
        maps, classes = self._attempted
        before, after = self.before[row], maps[row]
        adversarial = replace(adversarial, caption=f"{self.pixel_accuracy[row]:.1%} right")
        if before.ndim != 2:
            return [original, adversarial, change]
        drawn = [
            _drawing.Panel(title, images.coloured(one, classes), self._words(each, each, row))
            for title, one, each in (
                ("map before", before, self.before),
                ("map after", after, maps),
            )
        ]
        return [original, drawn[0], adversarial, drawn[1], change]

    def _caption(self, prediction: Any, confidence: Any, row: int) -> str:
        """Two lines: what the model says, and how sure it is, where it says so."""
        sure = one_number(confidence, row)
        told = "" if np.isnan(sure) else f"{sure:.1%}"
        return f"{self._words(prediction, confidence, row)}\n{told}"

    def _repr_html_(self) -> str:
        head = f"<p>{html.escape(repr(self))}</p>"
        notes = "".join(
            f"<p><b>Warning:</b> {html.escape(sentence)}</p>"
            for sentence in self.info.get("warnings", [])
        )
        form = None if self.given is None else self.given.form
        drawn = not (form.flat or form.layer) if form else self.classifier.domain.plain
        if not len(self) or not drawn or not all(map(images.is_image, self._groups)):
            return head + notes
        rows = self._drawn(self._chosen(_drawing.ROWS))
        return head + notes + _drawing.page(rows, len(self), self.goal.targeted)

    def _surer(self) -> int:
        """How many rows have reached a demanded probability of the class that they had before."""
        if type(self.goal) is not Targeted:
            return 0
        return int(((self.status == "broken") & (self.before == self.prediction)).sum())

    def __repr__(self) -> str:
        if not len(self):
            return "Result(no inputs)"
        attack, budget = self.info.get("attack", "?"), self.info.get("budget", "?")
        broken, clean = (int((self.status == word).sum()) for word in ("broken", "clean"))
        right = " correctly classified inputs" if clean and type(self.goal) is Untargeted else ""
        text = f"Result({broken} of {len(self) - clean}{right} broken by {attack} within {budget}"
        if clean:
            was = "was" if clean == 1 else "were"
            text += f" ({clean} {was} {before_word(self.goal.targeted)})"
        if surer := self._surer():
            were = "was" if surer == 1 else "were"
            text += f", {surer} of the broken {were} taken for the target before, less surely"
        if self.info.get("invalid"):
            text += f", {len(self.info['invalid'])} invalid"
        # a black box, or an attack that only asks, has no gradients
        unit = "gradients" if self.gradients.any() else "queries"
        attacked = self.status != "clean"  # the others cost the look at them alone
        spent = getattr(self, unit)[attacked if attacked.any() else ...]
        return f"{text}, {spent.mean():.1f} {unit} each)"


def _tree(x: Array | Examples) -> Any:
    return x.tree if isinstance(x, Examples) else x


def _not_kept(lost: list[SavedImage], count: int, rounded: bool) -> str:
    """That some files of successes are none."""
    which = f"file {lost[0].path.name} is" if len(lost) == 1 else f"{len(lost)} files are"
    return (
        f"Of {count} saved, {which} not adversarial: {lost[0].reason}. `verified` tells them apart."
        f"{' ' + AS_FILES if rounded else ''}"
    )


def before_word(targeted: bool) -> str:
    """What a row was whose goal was reached before any attack."""
    return "at the target before" if targeted else "wrong before"


def more_before(count: int, targeted: bool) -> str:
    """Such rows, in a headline about those that were broken."""
    return f"{count} more {'was' if count == 1 else 'were'} {before_word(targeted)}"


def statuses(clean: Array, success: Array, fragile: Array, invalid: Array) -> Array:
    """One word for each row from masks, (n,) each: ``Result.status``."""
    words = np.full(len(success), "held", "<U7")
    words[fragile] = "fragile"
    words[invalid] = "invalid"
    words[success] = "broken"
    words[clean] = "clean"
    return words


def _demand_folder(folder: Any) -> None:
    if not isinstance(folder, str | os.PathLike):
        raise InvalidType(
            f"folder must be the name of a folder, such as 'adversarial'; received {shown(folder)}"
        )
    if "\0" in str(folder) or not images.encodable(str(folder)):
        raise InvalidInput(f"folder must be the name of a folder; received {shown(folder)}")
