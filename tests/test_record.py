"""The driver finds what it has always found: a part of ``record.py`` on every backend."""

import json

import pytest
from record import KEPT, cell, cells

pytestmark = pytest.mark.backends

FEW = cells()[0]
RECORD = json.loads((KEPT / "record.json").read_text())


@pytest.mark.parametrize("name", FEW)
def test_what_was_found_is_found(name):
    found = cell(*FEW[name])
    for key, value in RECORD[name].items():
        assert found[key] == value, key
