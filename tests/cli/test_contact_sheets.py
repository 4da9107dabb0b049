"""The sheets that the commands leave beside the files."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import advex
from advex import _drawing, images
from advex.cli import batch, demo

RED = tuple(int(_drawing.RED[place : place + 2], 16) for place in (1, 3, 5))


@pytest.fixture(scope="module")
def attacked():
    shipped, budget = demo._shipped(), advex.Linf(3 / 255)
    free = advex.FGSM()(shipped.classifier, shipped.x, shipped.labels, budget)
    bags = advex.FGSM()(shipped.classifier, shipped.x, advex.Targeted(8), budget)
    assert 0 < (free.status == "broken").sum() < 32
    found = {name: demo.Attacked(free, {}) for name in ("fgsm", "pgd")}
    return shipped, found | {"pgd-targeted": demo.Attacked(bags, {})}


def test_the_sheet_of_the_demo_shows_each_change_under_its_attack(attacked):
    shipped, found = attacked
    sheet = demo._sheet(shipped, found)
    assert sheet.width < 1000 and sheet.height < 1300
    pixels = np.asarray(sheet)
    free, bags = found["fgsm"].result, found["pgd-targeted"].result
    row = _drawing.chosen(free.status, shipped.labels, 8)[0]
    side, upper = 96, 25
    lower = upper + side + 3 * 15 + 20
    for column, result in ((1, free), (2, free), (3, bags)):
        left = 10 + column * (side + 10)
        for top, expected in (
            (upper, result.x[row]),
            (lower, images.enlarged(shipped.x[row], result.x[row])),
        ):
            drawn = images.picture(expected).convert("RGB")
            drawn = drawn.resize((side, side), Image.Resampling.NEAREST)
            assert (pixels[top : top + side, left : left + side] == np.asarray(drawn)).all()
        words = pixels[upper + side : lower - 20, left : left + side].reshape(-1, 3)
        fooled = result.status[row] == "broken"
        assert (words == RED).all(axis=1).any() == fooled


@pytest.mark.parametrize("status", ["fooled", "not fooled"])
def test_a_line_says_what_the_model_takes_it_for(status):
    classifier = SimpleNamespace(caption=lambda number: ["Bag", "Boot"][number])
    x = np.zeros((1, 8, 8, 1), "uint8")
    result = SimpleNamespace(
        classifier=classifier,
        prediction=np.array([0]),
        confidence=np.array([0.875]),
        original=x,
        x=x + 3,
        attempt=x + 3,
    )
    record = batch.Record("a/photo.png", status=status, before="Bag", before_confidence=0.9)
    if status == "fooled":
        record.after, record.confidence, record.levels = "Boot", 0.5, 3
    (_, before), (_, now), (difference, told) = batch._line(record, result, 0)
    assert before == "Bag\n90.0%"
    ink = _drawing.RED if status == "fooled" else "black"
    assert now == [("Boot", ink), ("50.0%", ink)] or status != "fooled"
    assert now == [(_drawing.ATTEMPT, _drawing.GREY)] or status == "fooled"
    assert told[0] == (("✓ fooled, 3 levels" if status == "fooled" else "✗ not fooled"), ink)
    assert told[1][0] == "photo.png" and (difference == 158).all()
