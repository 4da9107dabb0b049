"""Results as rows: for a frame, for a file of comma-separated values."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from advex._arrays import Array
from advex.images import replacing


def cut(told: Any, rows: Any) -> Any:
    """Some of the rows of an array, or of each of several in a dict or a list."""
    if isinstance(told, dict):
        return {name: cut(part, rows) for name, part in told.items()}
    return told[rows] if not isinstance(told, list | tuple) else [cut(part, rows) for part in told]


def one_number(confidence: Any, row: int) -> float:
    """How sure the model is of one row: of several labels of the one it is least sure of; NaN where
    it does not say.
    """
    if not isinstance(confidence, np.ndarray):
        return float("nan")
    sure = confidence[row]
    return float(np.maximum(sure, 1 - sure).min()) if np.ndim(sure) else float(sure)


def listed(columns: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """One dict for each row: numbers and words; several numbers are a list, maps are left out."""
    plain = {name: values for name, values in _spread(columns).items() if values.ndim <= 2}
    lists = {name: values.tolist() for name, values in plain.items()}
    return [{name: values[row] for name, values in lists.items()} for row in range(count)]


def _spread(columns: dict[str, Any]) -> dict[str, Array]:
    """Dicts of several outputs as a column for each of them."""
    made: dict[str, Array] = {}
    for name, values in columns.items():
        if isinstance(values, dict):
            made |= _spread({f"{name}.{key}": part for key, part in values.items()})
        elif isinstance(values, list | tuple):
            made |= _spread({f"{name}.{key}": part for key, part in enumerate(values)})
        else:
            made[name] = np.asarray(values)
    return made


def write_csv(
    path: Path, names: Sequence[str], rows: Sequence[dict[str, Any]], overwrite: bool
) -> None:
    """A file with a line for each row below one of names; whole or absent."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]) if rows else names)
    writer.writeheader()
    writer.writerows(rows)
    with replacing(path, overwrite=overwrite) as handle:
        handle.write(text.getvalue().encode())
