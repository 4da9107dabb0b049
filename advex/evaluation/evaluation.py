"""``Evaluation``: the figures of a run file, with everything that is made of them."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from advex._arrays import Array
from advex._settings import helpful
from advex.errors import InvalidInput
from advex.evaluation import page, text
from advex.evaluation.figures import Figures
from advex.evaluation.schema import checked_path
from advex.evaluation.summaries import AttackSummary
from advex.evaluation.wanted import CLASSES, LABELS, MAPS, NUMBERS
from advex.images import replacing

JSON_POINTS = 200  # of a curve


class Evaluation(Figures):
    """What ``advex.evaluate`` found. ``Evaluation.load`` reads the run file of an earlier one.

    Every figure is of all examples to which the model answers at all; an accuracy under attack is
    an upper bound: a better attack may break more. An example counts as broken if any attack broke
    it, as held if none did, and as undecided if an attack came to no clear end there (a success
    within rounding errors, NaN during the search).

    Example:
        >>> import advex
        >>> data = advex.testing.linear_data()
        >>> found = advex.evaluate(advex.testing.linear_model(), data, advex.PGD(steps=5),
        ...     advex.Linf(0.2), diagnose=False)
        >>> found.clean_accuracy, found.robust_accuracy <= found.clean_accuracy
        (1.0, True)
    """

    @classmethod
    @helpful
    def load(cls, path: str | Path) -> Evaluation:
        """The evaluation in a run file, finished or not.

        Args:
            path: the file that `advex.evaluate(..., run=path)` has written.

        Returns:
            An `Evaluation` with the figures of all that is recorded.

        Raises:
            InvalidInput: no such file, not a run file, a damaged one, or one that is being written.
            OSError: it cannot be read.
        """
        found = cls(checked_path(path, "path"))
        with found._file.open() as store:
            if store.fact("identity") is None:
                raise InvalidInput(f"{path} holds no run yet")
        return found

    def to_dict(self) -> dict[str, Any]:
        """All figures as plain values for JSON; not the single examples.

        Returns:
            A dict of numbers, text, lists and dicts.
        """
        return {
            "advex": self.versions["advex"],
            "finished": self.finished,
            "model": self.facts["model"],
            "budget": self.budget,
            **({"attacked": self.facts["attacked"]} if self.attacked else {}),
            "norm": self.facts["norm"],
            "epsilon": self.facts["epsilon"],
            "examples": self.examples,
            "wrong": self.wrong,
            "invalid": self.invalid,
            "undecided": self.undecided,
            "clean_accuracy": self.clean_accuracy,
            "robust_accuracy": self.robust_accuracy,
            "interval": list(self.interval) if self.interval is not None else None,
            "attacks": [_attack(attack) for attack in self.attacks],
            "classes": [asdict(summary) for summary in self.per_class]
            if self.measured == CLASSES
            else [],
            **self._of_goal(),
            "curve": self._curve(),
            "broken_by_doctor": int(self.broken_by_doctor.sum()),
            "sample": self.facts.get("sample"),
            "flags": [asdict(flag) for flag in self.flags],
            "diagnosis": self.facts.get("diagnosis"),
            "warnings": self.warnings,
            "passes": self.passes,
            "seconds": self.seconds,
            "began": self.facts["began"],
            "seed": self.seed,
            "hashes": self.hashes,
            "versions": self.versions,
            "settings": self.facts["identity"],
        }

    def _curve(self) -> dict[str, Any]:
        """The curve as plain values: where the smallest changes were not looked for, nothing
        between 0 and the limit.
        """
        curve = self.curve
        if not curve.exact:
            radii = [0.0, curve.limit]
            accuracy = [curve.at(radius) for radius in radii] if self.examples else []
            return {"radii": radii[: len(accuracy)], "accuracy": accuracy, "exact": False}
        few: Array = np.unique(
            np.linspace(0, max(0, len(curve.radii) - 1), JSON_POINTS).round().astype(int)
        )[: len(curve.radii)]
        radii, accuracy = curve.radii[few].tolist(), curve.accuracy[few].tolist()
        return {"radii": radii, "accuracy": accuracy, "exact": True}

    def _of_goal(self) -> dict[str, Any]:
        """The figures of a goal of the run's own."""
        made: dict[str, Any] = {"goal": self.facts["goal"]} if "goal" in self.facts else {}
        if not self.examples:
            return made
        if self.measured == LABELS:
            made["labels"] = [asdict(one) for one in self.per_label]
        elif self.measured == NUMBERS:
            quantiles = self.errors.quantiles().items()
            made["errors"] = {name: asdict(one) for name, one in quantiles}
        elif self.measured == MAPS:
            made["pixel_accuracy"] = asdict(self.pixel_accuracy)
            made["mean_iou"] = asdict(self.mean_iou)
        return made

    @helpful
    def to_json(self, path: str | Path | None = None, overwrite: bool = False) -> str:
        """`to_dict` as text; also written to a file if there is a path.

        Args:
            path: the file; None: none.
            overwrite: whether an existing file may be replaced.

        Returns:
            The text.

        Raises:
            InvalidInput: the file exists, and `overwrite` is False.
        """
        text = json.dumps(self.to_dict(), indent=2, allow_nan=False)
        if path is not None:
            with replacing(Path(path), overwrite=overwrite) as handle:
                handle.write(text.encode())
        return text

    @helpful
    def to_csv(self, path: str | Path, overwrite: bool = False) -> Path:
        """One line per example, written as comma-separated values.

        Args:
            path: the file, in a folder that exists.
            overwrite: whether an existing file may be replaced.

        Returns:
            The path.

        Raises:
            InvalidInput: the file exists, and `overwrite` is False.
        """
        path = Path(path)
        with replacing(path, overwrite=overwrite) as handle:
            text = io.TextIOWrapper(handle, "utf-8", newline="")
            writer: Any = None
            for entry in self.rows():
                if writer is None:
                    writer = csv.DictWriter(text, list(entry))
                    writer.writeheader()
                writer.writerow(entry)
            text.flush()
            text.detach()
        return path

    def to_pandas(self) -> Any:
        """One row per example as a pandas frame, the example's number its index.

        Returns:
            A `pandas.DataFrame`.

        Raises:
            ImportError: pandas is missing.
        """
        try:
            import pandas
        except ImportError:
            raise ImportError("frames are made by pandas: pip install pandas") from None
        listed = list(self.rows())
        return pandas.DataFrame(listed).set_index("example") if listed else pandas.DataFrame()

    @helpful
    def report(
        self,
        path: str | Path,
        overwrite: bool = False,
        *,
        title: str = "",
        author: str = "",
        note: str = "",
    ) -> Path:
        """One self-contained HTML page.

        Args:
            path: the file.
            overwrite: whether an existing file may be replaced.
            title: above the page; by default what the model calls itself.
            author: who has made the evaluation: below the title, and in the BibTeX entry.
            note: a remark below that, plain text.

        Raises:
            InvalidInput: the file exists already. InvalidType: a title, author or note that is no
            text. ImportError: Jinja2 or matplotlib is missing.
        """
        return page.write(
            self, Path(path), overwrite=overwrite, title=title, author=author, note=note
        )

    def __repr__(self) -> str:
        flags = f", flags: {', '.join(flag.id for flag in self.flags)}" if self.flags else ""
        return f"Evaluation({self.headline()}{flags})"

    def headline(self) -> str:
        """The result in one sentence."""
        return text.headline(self)

    def __str__(self) -> str:
        return text.described(self)

    def _repr_html_(self) -> str:
        return page.fragment(self)


def _attack(attack: AttackSummary) -> dict[str, Any]:
    """An attack as plain values; figures of other goals only where there are any."""
    made = asdict(attack)
    if not attack.figures:
        del made["figures"]
    return made
