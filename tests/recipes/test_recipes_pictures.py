"""Recipes about what is drawn."""

import importlib.util
from pathlib import Path

import pytest
from messages import executes, installed_by

from advex import _fonts
from advex.errors import AdvexWarning


@executes("pip install noto-cjk-sans-jp-regular")
def test_a_font_for_chinese_names(monkeypatch):
    packages = _fonts.PACKAGES
    for name, value in (("FILES", ()), ("PACKAGES", ()), ("_warned", [])):
        monkeypatch.setattr(_fonts, name, value)
    with pytest.warns(AdvexWarning, match="No font was found") as caught:
        _fonts.legible("裤子", 12)
    package = installed_by(str(caught[0].message)).replace("-", "_")
    monkeypatch.setattr(
        _fonts, "PACKAGES", tuple(each for each in packages if each[0] in ("matplotlib", package))
    )
    (folder,) = importlib.util.find_spec(package).submodule_search_locations
    text, font = _fonts.legible("裤子", 12)
    assert text == "裤子" and Path(font.path).parent == Path(folder)
