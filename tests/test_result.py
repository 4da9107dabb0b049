"""Results: their fields, their files, their pictures."""

import base64
import dataclasses
import errno
import html
import io
import itertools
import os
import re
import warnings
from fractions import Fraction

import keras
import numpy as np
import pytest
from keras import ops
from PIL import Image

import advex
from advex import _drawing, _sheets
from advex._grid import Grid
from advex.result import Result, statuses
from advex.testing import linear_data, linear_model, small_network

EPSILON = advex.Linf(24 / 255)
EIGHT = np.random.default_rng(3).integers(0, 256, (8, 6, 6, 3), dtype="uint8")
FLOAT = np.random.default_rng(3).uniform(size=(8, 6, 6, 3)).astype("float32")


def predictions(model, x):
    return ops.convert_to_numpy(
        model(ops.convert_to_tensor(x.astype("float32")), training=False)
    ).argmax(1)


@pytest.fixture(scope="module")
def model():
    return small_network()


@pytest.fixture(scope="module")
def eight(model):
    return advex.PGD(steps=8)(
        advex.Classifier(model, classes=["a", "b", "c", "d"]), EIGHT, None, EPSILON
    )


@pytest.fixture(scope="module")
def floats(model):
    return advex.PGD(steps=8)(model, FLOAT, None, EPSILON)


@pytest.mark.backends
def test_fields(eight):
    n = len(EIGHT)
    assert isinstance(eight, Result)
    assert len(eight) == n
    assert eight.success.any()
    assert eight.x.shape == EIGHT.shape
    assert eight.x.dtype == "uint8"
    for name, kind in (
        ("success", "b"),
        ("prediction", "i"),
        ("before", "i"),
        ("gradients", "i"),
        ("queries", "i"),
    ):
        values = getattr(eight, name)
        assert values.shape == (n,)
        assert values.dtype.kind == kind
    for name in ("confidence", "before_confidence", "distance"):
        assert getattr(eight, name).shape == (n,)
    assert eight.distance.dtype == "float64"
    assert eight.success_rate == eight.success.mean()
    assert np.isinf(eight.distance[~eight.success]).all()
    assert (eight.distance[eight.success] <= 24 / 255).all()
    assert (eight.x[~eight.success] == EIGHT[~eight.success]).all()
    assert (eight.prediction[~eight.success] == eight.before[~eight.success]).all()
    assert set(eight.info) >= {
        "head",
        "goal",
        "budget",
        "attack",
        "seed",
        "backend",
        "versions",
        "warnings",
    }
    assert eight.info["budget"] == "Linf(24/255)"
    assert eight.info["backend"] == keras.backend.backend()


def test_perturbation(eight, floats):
    assert eight.perturbation.dtype == "float32"
    assert (eight.perturbation == eight.x.astype("float32") - EIGHT).all()
    assert np.abs(eight.perturbation).max() == 24
    assert (eight.perturbation[~eight.success] == 0).all()
    np.testing.assert_array_equal(floats.perturbation, floats.x - FLOAT)


def test_perturbation_of_float64(model):
    x = FLOAT.astype("float64") / 3
    result = advex.FGSM()(model, x, None, EPSILON)
    assert result.x.dtype == result.perturbation.dtype == "float64"
    assert (result.x[~result.success] == x[~result.success]).all()


def test_repr(eight):
    attack = re.escape("PGD(steps=8, step_size=0.25, loss=cross_entropy)")
    assert re.fullmatch(
        rf"Result\(\d of 8 broken by {attack} within Linf\(24/255\), [\d.]+ gradients each\)",
        repr(eight),
    )
    assert "robust" not in repr(eight)


@pytest.mark.parametrize("rows", ["some wrong", "all wrong"])
def test_a_result_without_gradients_speaks_of_queries(rows):
    x, labels = linear_data(8)
    labels[: 2 if rows == "some wrong" else 8] ^= 1
    for attack in (advex.SquareAttack(steps=5), advex.PGD(steps=5)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", advex.errors.ModelWarning)  # the labels
            result = attack(linear_model(), x, labels, advex.Linf(0.01))
        word = "gradients" if result.gradients.any() else "queries"
        assert word == (
            "gradients" if isinstance(attack, advex.PGD) and rows == "some wrong" else "queries"
        )
        attacked = result.status != "clean"  # of the others nothing was spent on an attack
        assert attacked.any() == (rows == "some wrong")
        spent = getattr(result, word)[attacked if attacked.any() else slice(None)]
        said = f"{spent.mean():.1f} {word} each"
        assert repr(result).endswith(f", {said})")
        assert f", {said})</p>" in result._repr_html_()
        assert repr(result).count(" each") == 1


def test_each_is_each_that_was_attacked():
    """As evaluate counts: what was wrong before costs no gradient, and is no part of the mean."""
    x, labels = linear_data(8)
    labels[:6] ^= 1
    result = advex.PGD(steps=10)(linear_model(), x, labels, advex.Linf(0.0))
    assert (result.gradients[:6] == 0).all() and (result.gradients[6:] == 10).all()
    assert repr(result).endswith(" (6 were wrong before), 10.0 gradients each)")


def test_a_picture_says_how_many_of_all_rows_it_shows(eight):
    """By a line below the pictures: the same rows of a smaller result have none."""
    whole, some = eight.show(limit=8), eight.show(rows=[0, 1])
    alone = _drawing.sheet(
        eight._drawn([0, 1]), ("original", "adversarial", "difference"), 2, False
    )
    assert some.height == alone.height + _sheets.LINE
    below = np.asarray(some)[alone.height - 2 :]
    assert below.min() < 128 < below.max()
    every = _drawing.sheet(eight._drawn(range(8)), ("original", "adversarial", "x"), 8, False)
    assert whole.height == every.height


def test_repr_counts_what_was_wrong_before():
    x, labels = linear_data(8)
    labels[:2] = 1 - labels[:2]
    result = advex.FGSM()(linear_model(), x, labels, advex.Linf(0.0))
    assert repr(result).startswith("Result(0 of 6 correctly classified inputs broken by FGSM(")
    assert " within Linf(0) (2 were wrong before), " in repr(result)
    assert result.success.sum() == 2
    assert result.success_rate == 0.25
    assert (result.distance[:2] == 0).all()
    assert (result.gradients[:2] == 0).all()


def test_repr_counts_apart_what_was_there_before_and_what_was_broken():
    x, labels = linear_data(8)
    labels[0] = 1 - labels[0]
    model = linear_model()
    result = advex.PGD()(model, x, labels, advex.Linf(0.4))
    assert repr(result).startswith("Result(7 of 7 correctly classified inputs broken by ")
    assert " (1 was wrong before), " in repr(result)
    result = advex.PGD()(model, x, advex.Targeted(labels), advex.Linf(0.4))
    assert repr(result).startswith("Result(1 of 1 broken by ")
    assert " (7 were at the target before), " in repr(result)


def test_a_demanded_probability_of_the_same_class_is_not_called_fooling():
    x, labels = np.full((3, 2), 0.5, "float32"), [1, 1, 1]
    x[0, 1], x[1, 1], x[2, 1] = 0.51, 0.9, 0.4  # class 1 hardly, surely, not at all
    model = keras.Sequential([keras.Input((2,)), keras.layers.Rescaling(10.0)])
    goal = advex.Targeted(labels, confidence=0.8)
    result = advex.PGD()(model, x, goal, advex.Linf(0.2))
    assert result.status.tolist() == ["broken", "clean", "broken"]
    assert ", 1 of the broken was taken for the target before, less surely," in repr(result)
    fates = [
        _drawing.Drawn(0, (), f"{one}\n50%", "bag\n95%", "broken", "").fate(True)
        for one in ("bag", "boot")
    ]
    assert [fate[2:] for fate in fates] == ["goal reached", "fooled"]
    plain = advex.PGD()(model, x, advex.Targeted(labels), advex.Linf(0.2))
    assert "less surely" not in repr(plain)


@pytest.mark.parametrize("wrong", [0, 2])
def test_a_bar_counts_apart_what_was_wrong_before(wrong, capsys):
    x, labels = linear_data(8)
    labels[:wrong] = 1 - labels[:wrong]
    result = advex.PGD()(linear_model(), x, labels, advex.Linf(0.4), progress=True)
    assert result.success.all()
    last = capsys.readouterr().out.replace("\x08", "").split("/example - ")[-1]
    assert last.strip() == ("fooled: 6 - wrong before: 2" if wrong else "fooled: 8")


def test_empty(model):
    result = advex.PGD()(model, EIGHT[:0], [], EPSILON)
    assert repr(result) == "Result(no inputs)"
    assert result.x.shape == (0, 6, 6, 3)
    assert result.perturbation.shape == (0, 6, 6, 3)
    assert result.success_rate is None
    assert result.budget == EPSILON
    assert "<img" not in result._repr_html_()
    assert isinstance(result.show(), Image.Image)
    assert result.status.shape == (0,)
    assert result.status.dtype.kind == "U"
    assert not (result.status == "held").any()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Upwards(advex.Attack):
    """Adds half of epsilon to each element; where the first one is low, NaN."""

    steps: int = 1

    def init(self, problem):
        return problem.x0, ()

    def step(self, problem, x, memory):
        return ops.where(x[:, :1] < 0.2, np.nan, 1.0) * (problem.x0 + problem.epsilon / 2), memory


def summed(*means):
    """A model that answers 1 where twelve elements add up to more than 6; inputs of these
    means.
    """
    x = np.repeat(np.asarray(means, "float32")[:, None], 12, axis=1)
    return linear_model(np.stack([np.zeros(12), np.ones(12)], 1), [0.0, -6.0]), x


@pytest.mark.backends
def test_status_has_a_word_for_each_row():
    model, x = summed(0.6, 0.47, 0.3, 0.1, 0.48)
    with pytest.warns(advex.errors.ModelWarning, match="NaN during the search"):
        result = Upwards()(model, x, np.zeros(5, int), advex.Linf(0.1))
    words = ["clean", "broken", "held", "invalid", "broken"]
    assert result.status.shape == (5,)
    assert result.status.tolist() == words
    assert [result.status[row] for row in (0, -1)] == ["clean", "broken"]
    assert result.x[result.status == "broken"].shape == (2, 12)
    assert (np.isin(result.status, ["clean", "broken"]) == result.success).all()
    assert (result.broken_by[result.status == "clean"] == "clean").all()
    assert np.flatnonzero(result.status == "invalid").tolist() == result.info["invalid"]


def test_status_of_a_success_that_did_not_survive_the_final_judgement(monkeypatch):
    model, x = summed(0.47, 0.6)
    monkeypatch.setattr(
        Grid, "settled", lambda self, x, x0, budget: np.minimum(x0 + np.float32(0.2), 1)
    )
    with pytest.warns(advex.errors.ModelWarning, match="did not survive the final judgement"):
        result = Upwards()(model, x, np.zeros(2, int), advex.Linf(0.1))
    assert result.status.tolist() == ["fragile", "clean"]
    assert result.info["fragile"] == [0]


def test_status_says_the_weightiest_word():
    masks = np.array(list(itertools.product([False, True], repeat=4))).T  # clean, success, ...
    found = dict(zip(map(tuple, masks.T.tolist()), statuses(*masks).tolist(), strict=True))
    assert found[False, False, False, False] == "held"
    assert found[False, False, True, False] == "fragile"
    assert found[False, False, True, True] == "invalid"
    assert found[False, True, True, True] == "broken"
    assert found[True, True, True, True] == "clean"


def test_empty_saves_nothing(model, tmp_path):
    assert advex.PGD()(model, EIGHT[:0], [], EPSILON).save(tmp_path / "out") == []


# Files


@pytest.mark.backends
def test_saved_eight_bit_files_are_what_was_found(eight, model, tmp_path):
    records = eight.save(tmp_path / "deep" / "out")
    rows = np.flatnonzero(eight.success)
    assert [record.index for record in records] == rows.tolist()
    assert [record.path.name for record in records] == [f"{row:05d}.png" for row in rows]
    for record in records:
        with Image.open(record.path) as image:
            assert image.format == "PNG"
            pixels = np.asarray(image)
        assert (pixels == eight.x[record.index]).all()
        assert record.verified is True
        assert record.levels == np.abs(eight.perturbation[record.index]).max() <= 24
        assert record.before == "abcd"[eight.before[record.index]]
        assert record.after == "abcd"[predictions(model, pixels[None] / np.float32(255))[0]]
        assert record.confidence == pytest.approx(eight.confidence[record.index], abs=1e-5)
    assert not list((tmp_path / "deep" / "out").glob(".*"))


def test_records_are_read_by_attribute_and_by_key(eight, tmp_path):
    record = eight.save(tmp_path)[0]
    names = [
        "path",
        "index",
        "before",
        "after",
        "confidence",
        "levels",
        "verified",
        "distance",
        "reason",
    ]
    assert list(record.keys()) == names
    assert dict(record) == {name: getattr(record, name) for name in record.keys()}  # noqa: SIM118
    with pytest.raises(KeyError):
        record["pixels"]


@pytest.mark.backends
def test_saved_float_inputs_are_rounded_towards_the_original(floats, model, tmp_path):
    records = floats.save(tmp_path, rows="all")
    assert len(records) == 8
    for record in records:
        with Image.open(record.path) as image:
            pixels = np.asarray(image)
        assert np.abs(pixels.astype("float64") / 255 - FLOAT[record.index]).max() <= 24 / 255
        assert record.distance == pytest.approx(
            np.abs(pixels / 255 - FLOAT[record.index]).max(), rel=1e-12
        )
        assert record.levels <= 24
        # Every element between where it was and where the attack took it, or where the original
        # itself is rounded to.
        start, end = FLOAT[record.index] * 255.0, floats.x[record.index] * 255.0
        low, high = np.minimum(start, end) - 1e-3, np.maximum(start, end) + 1e-3
        assert (((pixels >= low) & (pixels <= high)) | (pixels == np.rint(start))).all()
        now = predictions(model, pixels[None] / np.float32(255))[0]
        assert record.after == str(now)
        assert not record.verified or now != floats.before[record.index]
        assert (
            record.verified
            or not floats.success[record.index]
            or now == floats.before[record.index]
        )
    assert sum(record.verified for record in records) >= 1


def exact(pixels, original, budget, box):
    """Whether a file is inside the budget that was typed, measured from the input, in rational
    numbers.
    """
    low, span = Fraction(box[0]), Fraction(box[1]) - Fraction(box[0])
    pairs = zip(pixels.ravel(), original.ravel(), strict=True)
    if original.dtype == np.uint8:
        change = [Fraction(abs(int(level) - int(start)), 255) for level, start in pairs]
    else:
        change = [
            abs(Fraction(int(level), 255) - (Fraction(float(start)) - low) / span)
            for level, start in pairs
        ]
    limit = Fraction(budget.epsilon) * (1 + Fraction(1, 2**52))
    if isinstance(budget, advex.L2):
        return sum((c * c for c in change), Fraction(0)) <= limit * limit
    return (max(change) if isinstance(budget, advex.Linf) else sum(change, Fraction(0))) <= limit


@pytest.fixture(scope="module")
def boxed(model):
    return advex.Classifier(model, box=(0.1, 0.7), preprocess=lambda x: (x - 0.1) / 0.6)


@pytest.mark.parametrize(
    "budget",
    [advex.Linf(24 / 255), advex.L2(1.0), advex.L1(8), advex.L1(0.05), advex.L2(0.01)],
    ids=repr,
)
@pytest.mark.parametrize("kind", ["uint8", "levels", "between", "float16", "box"])
def test_a_verified_file_is_inside_the_budget_that_was_typed(model, boxed, tmp_path, budget, kind):
    """Exactly, measured from the input that was given, which need not lie on a level; and else the
    reason is said.
    """
    box = (0.1, 0.7) if kind == "box" else (0.0, 1.0)
    x = {"uint8": EIGHT, "levels": (EIGHT / 255).astype("float32"), "between": FLOAT}.get(
        kind, FLOAT.astype("float16")
    )
    if kind == "box":
        x = np.float32(0.1) + FLOAT * np.float32(0.599)
    result = advex.FGSM()(boxed if kind == "box" else model, x, None, budget)
    records = result.save(tmp_path, rows="all")
    for record in records:
        with Image.open(record.path) as image:
            pixels = np.asarray(image)
        near = exact(pixels, x[record.index], budget, box)
        assert near or not record.verified
        assert near == ("outside the budget" not in record.reason)
        assert bool(record.reason) != record.verified
        # In memory each row is inside: so is its file, but where the input itself cannot be written
        # inside.
        start = np.clip(
            np.rint((x[record.index].astype("float64") - box[0]) / (box[1] - box[0]) * 255), 0, 255
        )
        cannot = kind != "uint8" and not exact(start, x[record.index], budget, box)
        assert near != cannot
        if cannot:
            cost = budget.measure(
                (box[0] + start / 255 * (box[1] - box[0]) - x[record.index].astype("float64"))[None]
            )[0]
            cost /= box[1] - box[0]
            assert f"rounding the input itself to 8 bits already costs {cost:.6g}" in record.reason
            assert (
                f"{record.distance:.6g} from the input, epsilon is {budget.epsilon:g}"
                in record.reason
            )
    if kind == "uint8":
        assert all(record.verified for record in records if result.success[record.index])
    if budget.epsilon >= 1:
        assert any(record.verified for record in records)


@pytest.mark.filterwarnings("ignore:Of .* saved, :advex.errors.ModelWarning")
@pytest.mark.parametrize("kind", ["uint8", "levels", "between"])
def test_an_l0_budget_is_counted_on_the_file(model, tmp_path, kind):
    """Of an image off the grid every element is moved by being written: more than the budget
    allows, and said.
    """
    x = {"uint8": EIGHT, "levels": (EIGHT / 255).astype("float32"), "between": FLOAT}[kind]
    result = advex.FGSM()(model, x, None, advex.L0(12))
    assert result.success.any()
    for record in result.save(tmp_path):
        if kind == "between":
            assert not record.verified
            assert record.distance > 100
            assert re.search(
                r"\d{3} elements differ from the input, epsilon is 12; rounding .* costs \d{3}$",
                record.reason,
            )
            continue
        with Image.open(record.path) as image:
            changed = (np.asarray(image) != EIGHT[record.index]).sum()
        assert changed == record.distance <= 12
        assert record.verified or "does not reach the goal" in record.reason


def test_a_file_that_is_not_adversarial_is_not_verified(eight, model, tmp_path):
    still = advex.FGSM()(model, EIGHT, None, advex.Linf(0.0))
    records = still.save(tmp_path, rows="all")
    assert len(records) == 8
    assert not any(record.verified for record in records)
    assert all(record.levels == 0 for record in records)
    assert all(record.distance == 0 for record in records)
    assert all(
        record.reason == f"the file does not reach the goal: the model takes it for {record.before}"
        for record in records
    )


def test_files_of_a_budget_without_a_limit(model, tmp_path):
    result = advex.DeepFool()(model, FLOAT, None, advex.L2())
    with pytest.warns(advex.errors.ModelWarning) as caught:
        records = result.save(tmp_path)
    lost = [record for record in records if not record.verified]
    assert 1 < len(lost) <= len(records)
    said = f"Of {len(records)} saved, {len(lost)} files are not adversarial: {lost[0].reason}."
    assert str(caught[0].message).startswith(said) and "uint8" in str(caught[0].message)
    assert caught[0].filename == __file__
    for record in records:
        with Image.open(record.path) as image:
            size = np.linalg.norm(np.asarray(image) / 255 - FLOAT[record.index])
        assert record.distance == pytest.approx(size)
        assert record.verified == (record.after != record.before)


def test_grey_pictures(tmp_path):
    grey = small_network((5, 7, 1))
    for shape in ((4, 5, 7, 1), (4, 5, 7)):
        x = np.random.default_rng(0).integers(0, 256, shape, dtype="uint8")
        model = (
            grey
            if len(shape) == 4
            else keras.Sequential([keras.Input((5, 7)), keras.layers.Reshape((5, 7, 1)), grey])
        )
        result = advex.FGSM()(model, x, None, advex.Linf(60 / 255))
        for record in result.save(tmp_path / str(len(shape))):
            with Image.open(record.path) as image:
                assert image.mode == "L"
                assert (np.asarray(image) == result.x[record.index].reshape(5, 7)).all()
            assert record.verified
        assert isinstance(result.show(), Image.Image)


def test_names(eight, tmp_path):
    names = [f"photo {row}.jpg" for row in range(8)]
    records = eight.save(tmp_path, names)
    assert [record.path.name for record in records] == [
        f"photo {record.index}.jpg.png" for record in records
    ]
    chosen = [f"x{k}.PNG" for k in range(len(records))]
    assert [record.path.name for record in eight.save(tmp_path, chosen)] == chosen


def test_overwrite(eight, tmp_path):
    first = eight.save(tmp_path, rows="all")
    with pytest.raises(advex.errors.InvalidInput, match="exists; pass overwrite=True"):
        eight.save(tmp_path, rows="all")
    first[0].path.write_text("spoiled")
    again = eight.save(tmp_path, rows="all", overwrite=True)
    assert [record.verified for record in again] == [record.verified for record in first]
    assert len(list(tmp_path.iterdir())) == 8


def test_a_misspelt_keyword_of_save(eight, tmp_path):
    with pytest.raises(advex.errors.InvalidType, match="did you mean 'overwrite'"):
        eight.save(tmp_path, overwite=True)


def test_a_folder_that_is_a_file(eight, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(OSError, match="out"):
        eight.save(tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes everywhere"
)
def test_a_folder_that_is_read_only(eight, tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OSError, match="Permission denied"):
            eight.save(tmp_path)
    finally:
        tmp_path.chmod(0o700)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_disk_that_is_full_leaves_no_half_file(eight, tmp_path, monkeypatch, call):
    real, calls = getattr(os, call), []

    def full(*args, **keywords):
        calls.append(args)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*args, **keywords)

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match="No space left"):
        eight.save(tmp_path, rows="all")
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["00000.png"]
    with Image.open(tmp_path / "00000.png") as image:
        assert (np.asarray(image) == eight.x[0]).all()


# Pictures


def test_show(eight, floats):
    sheet = eight.show()
    assert isinstance(sheet, Image.Image)
    assert eight.show(limit=2).height < sheet.height
    assert eight.show(rows=[3]).width < eight.show(rows=[3, -1]).width  # side by side
    assert floats.show([0]).size == eight.show([0]).size
    assert np.asarray(sheet).std() > 10


@pytest.mark.parametrize("row", [8, -9, True])
def test_show_a_row_that_does_not_exist(eight, row):
    with pytest.raises(advex.errors.InvalidType, match="rows must be numbers below 8"):
        eight.show(rows=[row])


def of_shape(result, shape, dtype):
    """A result with other arrays in it: what is drawn does not ask the model."""
    x = np.zeros((len(result), *shape), dtype)
    return dataclasses.replace(result, original=x, x=x.copy(), attempt=x.copy())


@pytest.mark.parametrize(
    "shape",
    [(100, 1), (100, 3), (1000, 12), (100, 1, 1), (1, 100, 3), (2, 128, 1), (12,), (3, 4, 5, 6, 3)],
)
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_series_are_neither_saved_nor_drawn_as_pictures(
    floats, tmp_path, monkeypatch, shape, dtype
):
    if (shape, dtype) == ((1000, 12), "uint8"):
        shape = (1000, 4)
    result = of_shape(floats, shape, dtype)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(advex.errors.InvalidInput, match=re.escape(str(result.x.shape))) as refused:
        result.save("out")
    assert not list(tmp_path.iterdir())
    # as the user would type it
    exec(re.search(r"np\.save\(.*?\)", str(refused.value)).group(), {"np": np, "result": result})
    assert np.array_equal(np.load("adversarial.npy"), result.x)
    with pytest.raises(advex.errors.InvalidInput, match="only pictures can be shown") as refused:
        result.show()
    assert "<img" not in result._repr_html_()
    recipe = re.search(r"plt\.plot\((.*)\)$", str(refused.value)).group(1)
    assert eval(recipe, {"result": result}).ndim == 1


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        *itertools.product(
            [(28, 28), (28, 28, 1), (2, 8, 3), (16, 256, 3), (300, 8, 1), (1, 1, 3), (0, 4, 3)],
            ["uint8", "float32"],
        ),
        ((64, 16), "float64"),
        ((5, 7), "uint8"),
        ((40, 40, 3), "float16"),
    ],
)
def test_what_is_drawn_can_be_seen(floats, shape, dtype):
    """In a notebook nothing raises, and no side of a picture is drawn thinner than a few pixels."""
    result = of_shape(floats, shape, dtype)
    page = result._repr_html_()
    if min(shape[:2]) < 2:
        assert "<img" not in page
        return
    sizes = re.findall(r'<img [^>]*width="(\d+)" height="(\d+)"', page)
    assert len(sizes) == 3 * len(result)
    assert all(int(side) >= 8 for size in sizes for side in size)
    shades = np.asarray(result.show().convert("RGB"))
    grey = (shades == 128).all(axis=-1)  # the difference of two equal pictures
    assert grey.any(axis=0).sum() >= 8
    assert grey.any(axis=1).sum() >= 8


def figures(page):
    """The figures of a page: (pictures, caption as text) each."""
    made = []
    for figure in re.findall(r"<figure.*?</figure>", page, re.DOTALL):
        codes = re.findall(r'src="data:image/\w+;base64,([^"]+)"', figure)
        caption = re.search(r"<figcaption[^>]*>(.*)</figcaption>", figure, re.DOTALL)[1]
        pictures = [Image.open(io.BytesIO(base64.b64decode(code))) for code in codes]
        made.append((pictures, html_text(caption)))
    return made


def html_text(markup):
    return html.unescape(re.sub(r"<[^>]+>", "", markup.replace("<br>", "\n"))).strip()


@pytest.mark.backends
def test_html(eight):
    page = eight._repr_html_()
    assert "broken by PGD" in page
    assert re.search(r"alt=\"(\w+)\"", page)[1] == "original"
    shown = figures(page)
    assert len(shown) == 8
    for (pictures, caption), row in zip(shown, eight._chosen(8), strict=True):
        original, adversarial, difference = map(np.asarray, pictures)
        assert (original == EIGHT[row]).all() and (adversarial == eight.x[row]).all()
        change = eight.x[row].astype(int) - EIGHT[row]
        assert (difference == np.clip(128 + 10 * change, 0, 255)).all()
        first, second = caption.split("\n")
        names = ["abcd"[number] for number in (eight.before[row], eight.prediction[row])]
        assert re.findall(r"\b[abcd]\b", first) == names[: 1 + eight.success[row]]
        assert f"{eight.before_confidence[row]:.1%}" in first
        assert (f"{eight.confidence[row]:.1%}" in first) or not eight.success[row]
        assert second.endswith(f"row {row}")
        assert ("✓ fooled" in second) == eight.success[row] == ("Linf" in second)
        assert ("✗ not fooled" in second) != eight.success[row]


def test_html_escapes_the_names(model):
    names = ["<b>a", '"b"', "c&d", "裤子"]
    result = advex.PGD(steps=4)(advex.Classifier(model, classes=names), EIGHT, None, EPSILON)
    page = result._repr_html_()
    assert "<b>a" not in page
    said = " ".join(caption for _, caption in figures(page))
    assert all(names[number] in said for number in {*result.before, *result.prediction})


def test_some_rows_are_chosen_and_the_rest_is_said():
    status = np.array(["held"] * 9 + ["clean"] * 2 + ["broken"] * 9)
    before = np.array([0] * 11 + [1, 1, 1, 1, 1, 1, 1, 2, 3])
    assert _drawing.chosen(status, before, 8) == [11, 12, 13, 14, 18, 19, 0, 1]
    assert _drawing.chosen(status, None, 8) == [11, 12, 13, 14, 15, 16, 0, 1]
    assert _drawing.chosen(status, before, 0) == []
    assert sorted(_drawing.chosen(status, before, 99)) == list(range(20))
    assert _drawing.chosen(status[:11], before[:11], 10) == [*range(9), 9]
    x, labels = np.zeros((12, 8, 8), "uint8"), np.zeros(12, int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", advex.errors.ModelWarning)  # the gradient is zero
        result = advex.FGSM()(flat_model(), x, labels, advex.Linf(0.0))
        few = advex.FGSM()(flat_model(), x[:8], labels[:8], advex.Linf(0.0))._repr_html_()
    page = result._repr_html_()
    assert page.count("<figure") == 8 and "8 of 12 rows" in page
    recipe = re.search(r"<code>(.*?)</code>", page)[1]
    every = eval(recipe, {"result": result})
    assert every.height > result.show().height and result.show(limit=12).size == every.size
    assert few.count("<figure") == 8 and "of 8 rows" not in few


def flat_model():
    layers = [keras.Input((8, 8)), keras.layers.Flatten(), keras.layers.Dense(3)]
    model = keras.Sequential(layers)
    model.layers[-1].set_weights([np.zeros((64, 3)), np.array([2.0, 0.0, 0.0])])
    return model


def test_a_row_that_was_wrong_before_is_not_called_fooled():
    x, labels = np.zeros((2, 8, 8), "uint8"), np.array([1, 0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", advex.errors.ModelWarning)
        result = advex.FGSM()(flat_model(), x, labels, advex.Linf(0.0))
    held, clean = figures(result._repr_html_())
    assert "✗ not fooled" in held[1] and "row 1" in held[1]
    assert "wrong before" in clean[1] and "fooled" not in clean[1]


def test_of_a_row_that_held_the_last_attempt_is_drawn(model):
    for x in (EIGHT, FLOAT):
        result = advex.FGSM()(model, x, None, advex.Linf(1 / 255))
        held = np.flatnonzero(result.status == "held")
        assert len(held)
        page = result._repr_html_()
        assert 'alt="last attempt"' in page
        shown = [figures(page)[result._chosen(8).index(row)] for row in held]
        for (pictures, caption), row in zip(shown, held, strict=True):
            _, attempt, difference = map(np.asarray, pictures)
            assert (attempt == result._eight_bit(result.attempt[row])).all()
            assert (difference != 128).any() and caption.endswith(f"last attempt · row {row}")
            assert f"{result.confidence[row]:.1%}" in caption.split("\n")[0]
        assert result.show(held.tolist()).width > 100


def test_photos_are_drawn_small_enough_for_a_notebook(floats):
    noise = np.random.default_rng(0).integers(0, 256, (8, 300, 400, 3), dtype="uint8")
    result = dataclasses.replace(floats, original=noise, x=noise.copy(), attempt=noise.copy())
    page = result._repr_html_()
    assert "data:image/jpeg" in page and "data:image/png" in page  # the difference is plain grey
    assert len(page) < 2_000_000
    for pictures, _ in figures(page):
        assert all(picture.size == (320, 240) for picture in pictures)
    assert result.show().width <= 1160


def test_html_shows_warnings_and_escapes():
    x, labels = linear_data(12)
    with pytest.warns(advex.errors.ModelWarning, match="less than chance"):
        result = advex.FGSM()(linear_model(), x, 1 - labels, advex.Linf(0.1))
    result.info["warnings"].append("a < b & c")
    page = result._repr_html_()
    assert "less than chance" in page
    assert "a &lt; b &amp; c" in page
    assert "<img" not in page


def test_tabular():
    x, labels = linear_data(6)
    result = advex.BIM(steps=4)(linear_model(), x, labels, advex.L2(1))
    assert result.perturbation.shape == x.shape
    np.testing.assert_allclose(
        np.linalg.norm(result.perturbation[result.success], axis=1),
        result.distance[result.success],
        rtol=1e-5,
    )
    assert "<img" not in result._repr_html_()


def test_a_result_cannot_be_changed_by_assignment(eight):
    with pytest.raises(AttributeError):
        eight.success = np.ones(8, bool)


def test_the_arrays_of_a_result_share_no_memory(model):
    """An edit of one changes no other, nor what the user gave, nor another result."""
    for x, goal in (
        (EIGHT.copy(), None),
        (FLOAT.copy(), np.arange(8, dtype="int32") % 4),
        (EIGHT[:0].copy(), None),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", advex.errors.AdvexWarning)
            results = [advex.PGD(steps=2)(model, x, goal, EPSILON) for _ in range(2)]
        arrays = [("given", x)] + ([("labels", goal)] if goal is not None else [])
        for number, result in enumerate(results):
            named = [(f.name, getattr(result, f.name)) for f in dataclasses.fields(result)]
            arrays += [
                (f"{name} {number}", value)
                for name, value in named
                if isinstance(value, np.ndarray)
            ]
            arrays += [
                (f"goal {number}", result.goal.labels),
                (f"perturbation {number}", result.perturbation),
            ]
        assert len(arrays) >= 25
        for (one, first), (other, second) in itertools.combinations(arrays, 2):
            assert not np.shares_memory(first, second), (one, other)


ODD = (1, 2.5, -9, 10**5000, "\ud800", "\0", {}, object(), np.array(["a"]), b"x", True)


@pytest.mark.parametrize("odd", ODD, ids=range(len(ODD)))
def test_odd_arguments_are_answered(eight, odd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    calls = [
        lambda: eight.save(odd),
        lambda: eight.save("b", names=[odd] * len(eight), rows="all"),
        lambda: eight.save("c", rows=odd),
        lambda: eight.save("d", overwrite="no"),
        lambda: eight.show(rows=[1.5]),
        lambda: eight.show(limit="many"),
    ]
    calls += [lambda: eight.save("e", names=odd)]
    calls += [] if isinstance(odd, dict) else [lambda: eight.show(rows=odd)]
    for call in calls:
        with pytest.raises(advex.errors.AdvexError):
            call()


@pytest.mark.filterwarnings("ignore:Of .* saved, :advex.errors.ModelWarning")
@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_channels_first_are_saved_and_shown(kind, tmp_path):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((3, 16, 12))
    model = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(inputs)))
    pixels = np.random.default_rng(0).integers(0, 256, (6, 3, 16, 12))
    x = pixels.astype("uint8") if kind == "uint8" else (pixels / np.float32(255)).astype("float32")
    result = advex.PGD()(model, x, None, advex.Linf(4 / 255))
    files = result.save(tmp_path)
    assert len(files) == result.success.sum() > 0
    verified = [file.verified for file in files]
    assert all(verified) if kind == "uint8" else any(verified)
    for file in files:
        back = advex.images.read(file.path).pixels
        assert back.shape == (16, 12, 3)
        levels = np.moveaxis(back, -1, 0)
        assert np.abs(levels.astype(int) - pixels[file.index]).max() == file.levels <= 4
    assert result.show().width > 100 and "<img" in result._repr_html_()
