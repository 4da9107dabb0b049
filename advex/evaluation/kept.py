"""What is kept of examples for goals that are not about one class, read example by example."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from advex.evaluation.schema import BEFORE
from advex.evaluation.store import Store
from advex.evaluation.table import Table


class Kept(NamedTuple):
    """Of one example."""

    before: dict[str, Any]
    after: dict[int, dict[str, Any]]
    """Attack -> what it came to; empty where the goal was reached before."""


def read_kept(store: Store, table: Table) -> Iterator[Kept]:
    """Of each example that the figures are of, in order."""
    counted = set(table.example[table.counted].tolist())
    rows = store.stream("SELECT example, attack, detail FROM details ORDER BY example, attack")
    for example, group in itertools.groupby(rows, key=lambda row: row[0]):
        if example in counted:
            found = {attack: json.loads(detail) for _, attack, detail in group}
            yield Kept(found.pop(BEFORE), found)
