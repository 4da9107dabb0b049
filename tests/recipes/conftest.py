"""What the tests of recipes share."""

import pytest

from advex.driver import call


@pytest.fixture
def unsearched(monkeypatch):
    """Attacks that do all but search: what a recipe is about is known before, and a search costs a
    second of compiling.
    """
    monkeypatch.setattr(call, "run_wave", lambda *given: None)
