"""Fonts that have the letters of a caption: Pillow's own where it does, else one of this machine's,
else escapes and one warning.
"""

from __future__ import annotations

import functools
import importlib.util
import unicodedata
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from advex.errors import AdvexWarning

SIZE = 12  # at which it is looked whether a font has a letter
NOWHERE = "\U0010ffff"  # not a letter: what a font draws for it, it draws for all that it lacks

NAMES = """
DejaVuSans.ttf, NotoSans-Regular.ttf, segoeui.ttf, LiberationSans-Regular.ttf,
NotoSansCJK-Regular.ttc, NotoSansCJKsc-Regular.otf, NotoSansSC-Regular.otf, NotoSansSC-Regular.ttf,
SourceHanSansSC-Regular.otf, SourceHanSansCN-Regular.otf, SourceHanSans.ttc,
PingFang.ttc, Hiragino Sans GB.ttc, STHeiti Light.ttc, msyh.ttc, msyh.ttf, simhei.ttf,
wqy-microhei.ttc, wqy-zenhei.ttc, DroidSansFallbackFull.ttf, DroidSansFallback.ttf,
NotoSerifCJK-Regular.ttc, simsun.ttc, uming.ttc, ukai.ttc,
malgun.ttf, AppleSDGothicNeo.ttc, NanumGothic.ttf, YuGothM.ttc, ipag.ttf,
NotoSansArabic-Regular.ttf, NotoSansHebrew-Regular.ttf, NotoSansDevanagari-Regular.ttf,
NotoSansThai-Regular.ttf, FreeSans.ttf, tahoma.ttf, Nirmala.ttf, LeelawUI.ttf, Arial Unicode.ttf,
unifont.otf, unifont.ttf
"""
FILES = tuple(name.strip() for name in NAMES.split(","))
"""Files that Pillow looks for in the folders of fonts of Linux, macOS and Windows: first letters of
Europe, then Chinese, Korean and Japanese, then others.
"""
CHINESE = {"NotoSansCJK-Regular.ttc": 2, "NotoSerifCJK-Regular.ttc": 2}  # of the fonts in one file

PACKAGES = (
    ("matplotlib", "mpl-data/fonts/ttf/DejaVuSans.ttf"),
    ("noto_cjk_sans_jp_regular", "NotoSansCJKjp-Regular.otf"),
)
"""Fonts that come with packages: looked for without importing them."""


def legible(text: str, size: int) -> tuple[str, Any]:
    """A line and the font to draw it with: letters that no font has are written as escapes."""
    best, missing = "", set(text)
    for name in _names():
        lacking = {letter for letter in set(text) if not _has(name, letter)}
        if len(lacking) < len(missing) or not lacking:
            best, missing = name, lacking
        if not missing:
            break
    if missing:
        _warn("".join(sorted(missing)))
    drawn = "".join(_escape(letter) if letter in missing else letter for letter in text)
    return drawn, _opened(best, size)


def _escape(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")


def _names() -> Iterator[str]:
    """Names of fonts, from the first to the last that is tried; "" is Pillow's own."""
    yield ""
    for package, file in PACKAGES[:1]:
        yield from _inside(package, file)
    yield from FILES
    for package, file in PACKAGES[1:]:
        yield from _inside(package, file)


@functools.cache
def _inside(package: str, file: str) -> tuple[str, ...]:
    """Where a package keeps a file; nothing if it is not installed."""
    try:
        found = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return ()
    folders = (found and found.submodule_search_locations) or ()
    return tuple(str(Path(each, file)) for each in folders if Path(each, file).is_file())


@functools.cache
def _opened(name: str, size: int) -> Any:
    """A font by the name of its file; None if it is not there."""
    from PIL import ImageFont

    if not name:
        return ImageFont.load_default(size=size)
    try:
        return ImageFont.truetype(name, size, index=CHINESE.get(name, 0))
    except OSError:
        return None


@functools.cache
def _drawn(name: str, letter: str) -> tuple[Any, bytes]:
    mask = _opened(name, SIZE).getmask(letter)
    return mask.size, bytes(mask)


@functools.cache
def _has(name: str, letter: str) -> bool:
    """Whether a font draws a letter as something of its own."""
    if letter.isspace():
        return True
    return _opened(name, SIZE) is not None and _drawn(name, letter) != _drawn(name, NOWHERE)


_warned: list[str] = []  # once in a process, whatever the letters


def _warn(letters: str) -> None:
    if _warned:
        return
    _warned.append(letters)
    wide = any(unicodedata.east_asian_width(letter) in "WF" for letter in letters)
    cure = (
        "pip install noto-cjk-sans-jp-regular, or install Noto Sans CJK"
        if wide
        else "install a font that has them, such as DejaVu Sans or Noto Sans"
    )
    warnings.warn(
        f"No font was found for {letters[:8]}: pictures show such letters as"
        f" {_escape(letters[0])}. To see them, {cure}.",
        AdvexWarning,
        stacklevel=4,
    )
