"""The pictures of the primer: drawn again they are what is committed, they say what the pages say
of them, and both languages tell the same story.
"""

import ast
import re
import sys
from itertools import pairwise
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image, ImageFont

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PICTURES = DOCS / "pictures"
SHARED = ROOT.parent / "shared"
PRIMER = {"en": DOCS / "principles.md", "zh": DOCS / "principles.zh.md"}

sys.path.insert(0, str(ROOT / "examples"))
import make_pictures  # noqa: E402
from pictures import canvas, fonts, network, photo, slopes, toy  # noqa: E402

sys.path.remove(str(ROOT / "examples"))

tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="the pictures are drawn with TensorFlow"
)


def english(words, _):
    return words


def chinese(_, words):
    return words


def said(language):
    return PRIMER[language].read_text(encoding="utf-8")


@tensorflow
@pytest.mark.parametrize("name", sorted(set(make_pictures.PICTURES) - {"banner", "budgets"}))
def test_drawn_again(name, tmp_path):
    if fonts.found() is None:
        with pytest.raises(SystemExit, match="apt install fonts-noto-cjk"):
            make_pictures.PICTURES[name](chinese)
        return
    for say, ending in ((english, ".png"), (chinese, ".zh.png")):
        make_pictures.PICTURES[name](say)[0].save(tmp_path / f"{name}{ending}")
        with (
            Image.open(tmp_path / f"{name}{ending}") as new,
            Image.open(PICTURES / f"{name}{ending}") as old,
        ):
            assert new.size == old.size
            drawn, kept = (np.asarray(one.convert("RGB"), "float32") for one in (new, old))
        # another font or another processor moves a few edges; another picture moves many
        assert (np.abs(drawn - kept).max(-1) > 48).mean() < 0.01, f"{name}{ending} is out of date"


def test_every_picture_is_there_in_both_languages():
    for name in make_pictures.ALL:
        sizes = []
        for ending in (".png", ".zh.png"):
            path = PICTURES / f"{name}{ending}"
            assert path.stat().st_size < (400_000 if name in photo.PICTURES else 100_000)
            with Image.open(path) as picture:
                sizes.append(picture.size)
        assert sizes[0] == sizes[1]
        pair = [(PICTURES / f"{name}{ending}").read_bytes() for ending in (".png", ".zh.png")]
        assert pair[0] != pair[1], f"{name}.zh.png is not in Chinese"


@pytest.mark.parametrize("language", PRIMER)
def test_pages_show_every_picture_of_the_primer(language):
    shown = re.findall(r"!\[([^]]*)\]\(pictures/([\w.]+)\)", said(language))
    ending = {"en": ".png", "zh": ".zh.png"}[language]
    expected = {*make_pictures.ALL} - {"banner", "budgets"}
    assert {name for _, name in shown} == {name + ending for name in expected}
    assert all(len(words) > 30 for words, _ in shown), "an alt text says what is to be seen"


# What the pages say of the pictures.


@tensorflow
@pytest.mark.skipif(fonts.found() is None, reason="the formulas in the pictures need a font")
def test_slopes_say_what_they_show():
    _, facts = slopes.descent(english)
    assert facts["rounds"] == 20 and facts["y"] - 2 <= 0.01 < slopes.walk(6, 0.1, 18)[-1, 1] - 2
    for number, (x, y) in enumerate(slopes.walk(6, 0.1, 19), 1):
        if number in (1, 2, 3, 10, 19, 20):
            for language in PRIMER:
                assert f"| {number} | {x:.5f} | {y:.5f} |" in said(language)
    _, facts = slopes.learning_rates(english)
    small, right, large = (facts[rate] for rate in (0.01, 0.1, 1.05))
    assert len(small) == len(right) == 21 and small[-1] > 1.9 and abs(right[-1]) < 0.1
    assert all(a * b < 0 and abs(b) > abs(a) for a, b in pairwise(large))
    _, facts = slopes.gradient(english)
    assert facts["parts"] == pytest.approx((1.8, 2.4))
    _, facts = slopes.up_and_down(english)
    assert facts["low"] == pytest.approx(0.5, abs=0.02) and facts["high"] == pytest.approx(
        3.5, abs=0.02
    )


@tensorflow
def test_toy_says_what_it_shows():
    assert toy.two_classes(english)[1]["right"] > 0.95
    _, facts = toy.crossing(english)
    assert facts["crosses"] and facts["others cross"] == 0 and len(facts["others"]) == 5
    # the distances that advex found are those of geometry
    assert facts["distances"] == pytest.approx(facts["measured"], rel=0.02)
    assert facts["distances"][1] > 3 * facts["distances"][0]
    _, history = toy.trained()
    x, labels = toy.points()
    wrong = [((toy.side(at, *x.T) > 0) != labels).sum() for at in (history[0], history[-1])]
    assert wrong[0] > 10 * wrong[1]


@tensorflow
def test_network_says_what_it_shows():
    names = {"en": network.load()[3], "zh": network.CHINESE}
    _, facts = network.boundary(english)
    arms, label = facts["arms"], facts["label"]
    assert {*arms["left"], *arms["up"], *arms["down"]} == {label}
    assert arms["right"][0] == label != arms["right"][-1] == facts["after"]
    assert 4 < facts["distance"] < 7
    for language, form in (("en", "{:.1f} levels"), ("zh", "{:.1f} 级")):
        assert form.format(facts["distance"]) in said(language)
        assert names[language][label].lower() in said(language)
        assert names[language][facts["after"]] in said(language)

    facts = network.two_pixels()
    (start, end), kinds = facts["track"][[0, -1]], facts["seen"]
    assert kinds[0, 0] == network.load()[2][facts["row"]] != kinds[-1, -1]
    assert (start[:2] == 0).all() and (end[:2] == 1).all()
    assert (np.diff(facts["track"][:, 2]) > -1e-3).all(), "uphill"
    for language in PRIMER:
        assert f"{start[2]:.2f}" in said(language) and f"{end[2]:.2f}" in said(language)
        for kind in (kinds[0, 0], kinds[-1, -1]):
            assert names[language][kind].lower() in said(language)

    facts = network.climbed()
    assert 9 <= facts["when"] <= 11, "about the tenth step"
    for language in PRIMER:
        for kind in (network.load()[2][facts["row"]], facts["track"][-1].argmax()):
            assert names[language][kind] in said(language)


@tensorflow
@pytest.mark.reference
@pytest.mark.skipif(not (SHARED / "imagenet").is_dir(), reason="needs the network of ../shared")
def test_photo_says_what_it_shows():
    facts = photo.hacked(SHARED / "imagenet")
    toaster, cats = facts["track"][:, photo.TOASTER], facts["track"][:, photo.CATS].sum(1)
    assert facts["changed"] == photo.LEVELS == 2 and len(toaster) == 17
    for share in (cats[0], cats[-1], toaster[-1], facts["in_file"][photo.TOASTER]):
        for language in PRIMER:
            assert f"{share:.1%}" in said(language)
    shown = [facts["names"][facts["track"][step].argmax()] for step in (0, 4, 8, 12, 16)]
    assert ", ".join(shown) in said("en")


# Two languages, one story.


def blocks(path):
    text = path.read_text(encoding="utf-8")
    return re.findall(r"^```python[ ]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def program(code, words):
    """What the code does, whatever its comments say; without its texts if they are translated."""
    tree = ast.parse(code)
    for node in ast.walk(tree) if not words else ():
        if isinstance(node, ast.JoinedStr):
            node.values = [value for value in node.values if isinstance(value, ast.FormattedValue)]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.value = ""
    return ast.dump(tree)


@pytest.mark.parametrize(("page", "words"), [("principles", True), ("quick_start", False)])
def test_chinese_page_keeps_up_with_the_english_one(page, words):
    paths = [DOCS / f"{page}{ending}" for ending in (".md", ".zh.md")]
    here, there = (path.read_text(encoding="utf-8") for path in paths)
    assert len(blocks(paths[0])) == len(blocks(paths[1])) > 0
    for code, other in zip(*map(blocks, paths), strict=True):
        assert program(code, words) == program(other, words)
    for mark in (r"^\$\$ ", r"^!\[", r"^```"):
        counts = [len(re.findall(mark, text, re.MULTILINE)) for text in (here, there)]
        assert counts[0] == counts[1], mark
    headings = [
        re.findall(r"^## ", text.split("## 接下来")[0], re.MULTILINE) for text in (here, there)
    ]
    assert abs(len(headings[0]) - len(headings[1])) <= 1


@pytest.mark.parametrize("path", sorted(DOCS.glob("*.zh.md")), ids=lambda path: path.name)
def test_chinese_is_set_as_chinese(path):
    """A paragraph is one line, since a break becomes a space; punctuation is full width."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    chinese = "[\u4e00-\u9fff]"
    broken = re.search(rf"{chinese}[\uff0c\u3002\uff1b\uff1a]?\n{chinese}", text)
    assert not broken, broken and broken[0]
    half = re.search(rf"{chinese}[,;:?!]|[,;:?!]{chinese}", text)
    assert not half, half and text[half.start() - 10 : half.end() + 10]


# The fonts and the colours.


def test_a_font_that_lacks_a_character_is_not_used():
    plain = ImageFont.load_default(size=20)
    assert fonts.lacks(plain, "loss 决策 ∂x") == "决策∂"
    assert not fonts.missing("decision boundary") and fonts.missing("决策边界")
    if fonts.found():
        assert not fonts.lacks(fonts.font_for("决策边界", 20), "决策边界")


def test_without_a_font_the_script_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(fonts, "candidates", lambda: iter([(str(tmp_path / "none.ttf"), 0)]))
    fonts.found.cache_clear()
    try:
        with pytest.raises(SystemExit, match=r"noto-cjk-sans-jp-regular.*PICTURES_FONT"):
            fonts.font_for("没有字体", 20)
    finally:
        fonts.found.cache_clear()


def contrast(one, other):
    def light(colour):
        part = np.array(colour) / 255
        linear = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
        return linear @ (0.2126, 0.7152, 0.0722)

    low, high = sorted((light(one), light(other)))
    return (high + 0.05) / (low + 0.05)


def test_colours_survive_grey():
    assert contrast(canvas.LIGHT_BLUE, canvas.LIGHT_RED) > 1.3
    for region in (canvas.LIGHT_BLUE, canvas.LIGHT_RED):
        assert contrast(canvas.INK, region) > 7, "the line between the regions"
    for colour in (canvas.BLUE, canvas.RED, canvas.GREEN, canvas.SOFT):
        assert contrast(colour, canvas.WHITE) > 4.5
    assert contrast(canvas.BLUE, canvas.LIGHT_BLUE) > 4.5
