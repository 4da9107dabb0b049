"""Letters of every script in pictures, and what is drawn where no font has them."""

import sys
import warnings

import numpy as np
import pytest

from advex import _fonts, images
from advex.errors import AdvexWarning

GREY = np.full((8, 8), 128, "uint8")
SCRIPTS = ["裤子", "衬衫", "T恤/上衣", "Straßenschuh", "Pokémon", "ботинок", "パンツ"]


def drawn(words):
    return np.asarray(images.sheet([[(GREY, words)]]))


@pytest.fixture
def afresh(monkeypatch):
    """Nothing was looked for yet, and nothing was warned about."""

    def forget():
        for cached in (_fonts._opened, _fonts._drawn, _fonts._has, _fonts._inside):
            cached.cache_clear()

    forget()
    monkeypatch.setattr(_fonts, "_warned", [])
    yield
    forget()


@pytest.fixture
def without(monkeypatch, afresh):
    """A machine without fonts but Pillow's own."""
    monkeypatch.setattr(_fonts, "FILES", ())
    monkeypatch.setattr(_fonts, "PACKAGES", ())


@pytest.fixture
def by_package_alone(monkeypatch, afresh):
    monkeypatch.setattr(_fonts, "FILES", ())


def test_chinese_names_are_drawn(by_package_alone):
    """With the font that the developer's packages bring: this test must not be skipped."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trousers, shirt = drawn("裤子"), drawn("衬衫")
        mixed = drawn("T恤/上衣")
    assert not np.array_equal(trousers, shirt)
    for one in (trousers, shirt, mixed):
        assert (one < 100).any(axis=-1).sum() > 40  # ink
    assert "noto_cjk_sans_jp_regular" not in sys.modules  # looked up, not imported


def test_each_letter_is_itself(by_package_alone):
    """Not the box that a font draws for all that it lacks."""
    assert len({drawn(letter).tobytes() for letter in "裤子衬衫上衣鞋包"}) == 8
    _, font = _fonts.legible("裤", 12)
    assert bytes(font.getmask("裤")) != bytes(font.getmask(_fonts.NOWHERE))


@pytest.mark.parametrize("words", SCRIPTS)
def test_the_font_that_is_chosen_has_every_letter(words, afresh):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text, font = _fonts.legible(words, 12)
    assert text == words
    missing = bytes(font.getmask(_fonts.NOWHERE))
    assert all(bytes(font.getmask(letter)) != missing for letter in words)


def test_a_font_without_the_letters_is_passed_over(monkeypatch, afresh, tmp_path):
    latin = next(iter(_fonts._inside("matplotlib", "mpl-data/fonts/ttf/DejaVuSans.ttf")))
    broken = tmp_path / "broken.ttf"
    broken.write_bytes(b"no font")
    monkeypatch.setattr(_fonts, "FILES", ("not there.ttf", str(broken), latin))
    _, font = _fonts.legible("裤子", 12)
    assert "Noto Sans CJK" in font.getname()[0]
    _, font = _fonts.legible("é", 12)
    assert font.getname()[0] == "DejaVu Sans"
    _, font = _fonts.legible("shirt 9%", 12)
    assert font.getname()[0] not in ("DejaVu Sans", "Noto Sans CJK JP")


def test_without_a_font_there_are_escapes_and_one_warning(without):
    with pytest.warns(AdvexWarning, match=r"No font was found for 子裤: .* show .* as \\u5b50"):
        text, _ = _fonts.legible("裤子 9%", 12)
    assert text == "\\u88e4\\u5b50 9%"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not np.array_equal(drawn("裤子"), drawn("衬衫"))


def test_other_letters_ask_for_another_font(without):
    with pytest.warns(AdvexWarning, match="such as DejaVu Sans"):
        assert _fonts.legible("ботинок", 12)[0].startswith("\\u0431")


def test_spaces_and_plain_words_need_no_font(without):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert _fonts.legible("Ankle boot\u3000 100.0%", 12)[0] == "Ankle boot\u3000 100.0%"
        drawn([("✓ fooled", "red"), ("✗ not", "black")])


def test_signs_and_colours():
    plain, tick, cross = (drawn([(f"{sign}a", "black")]) for sign in ("", "✓ ", "✗ "))
    assert not np.array_equal(tick, cross) and not np.array_equal(plain, tick)
    red = drawn([("a", "#d6293e")]).reshape(-1, 3)
    assert (red == (0xD6, 0x29, 0x3E)).all(axis=1).any()
    assert not (plain.reshape(-1, 3) == (0xD6, 0x29, 0x3E)).all(axis=1).any()


def test_chinese_is_broken_between_any_letters(by_package_alone):
    from PIL import Image, ImageDraw

    from advex import _sheets

    ruler = ImageDraw.Draw(Image.new("L", (1, 1)))
    first, second = _sheets._broken("很长的名字" * 3, 112, ruler)
    assert first + second == "很长的名字" * 3
    pieces = _sheets._broken("很长的名字" * 9, 112, ruler)
    assert len(pieces) == 2 and pieces[1].endswith("…")
    assert _sheets._broken("one word and another word", 112, ruler) == [
        "one word and",
        "another word",
    ]


def test_a_gap_has_words_and_no_picture():
    row = [(None, "beside\nthe pictures"), (GREY, "")]
    with_gap = np.asarray(images.sheet([row], side=64))
    assert (with_gap[10:74, 84:148] == 128).all()
    left = with_gap[10:74, 10:74]
    assert (left == 255).mean() > 0.8 and (left < 100).any()
