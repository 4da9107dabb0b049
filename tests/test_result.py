"""Results: their fields, their files, their pictures."""

import base64
import errno
import io
import os
import re

import keras
import numpy as np
import pytest
from keras import ops
from PIL import Image

import advex
from advex.result import Result
from advex.testing import linear_data, linear_model, small_network

EPSILON = advex.Linf(24 / 255)
EIGHT = np.random.default_rng(3).integers(0, 256, (8, 6, 6, 3), dtype="uint8")
FLOAT = np.random.default_rng(3).uniform(size=(8, 6, 6, 3)).astype("float32")


def predictions(model, x):
    return ops.convert_to_numpy(model(ops.convert_to_tensor(x.astype("float32")), training=False)).argmax(1)


@pytest.fixture(scope="module")
def model():
    return small_network()


@pytest.fixture(scope="module")
def eight(model):
    return advex.PGD(steps=8)(advex.Classifier(model, classes=["a", "b", "c", "d"]), EIGHT, None, EPSILON)


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
    for name, kind in (("success", "b"), ("prediction", "i"), ("before", "i"), ("gradients", "i"), ("queries", "i")):
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
    assert set(eight.info) >= {"head", "goal", "budget", "attack", "seed", "backend", "versions", "warnings"}
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
    assert re.fullmatch(rf"Result\(\d of 8 broken by {attack} within Linf\(24/255\), [\d.]+ gradients each\)", repr(eight))
    assert "robust" not in repr(eight)


def test_repr_counts_what_was_wrong_before():
    x, labels = linear_data(8)
    labels[:2] = 1 - labels[:2]
    result = advex.FGSM()(linear_model(), x, labels, advex.Linf(0.0))
    assert "2 of 8 broken" in repr(result)
    assert "2 of them wrong before" in repr(result)
    assert (result.distance[:2] == 0).all()
    assert (result.gradients[:2] == 0).all()


def test_empty(model):
    result = advex.PGD()(model, EIGHT[:0], [], EPSILON)
    assert repr(result) == "Result(no inputs)"
    assert result.x.shape == (0, 6, 6, 3)
    assert result.perturbation.shape == (0, 6, 6, 3)
    assert result.success_rate is None
    assert result.budget == EPSILON
    assert "<img" not in result._repr_html_()
    assert isinstance(result.show(), Image.Image)


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
    assert list(record.keys()) == ["path", "index", "before", "after", "confidence", "levels", "verified"]
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
        assert np.abs(pixels.astype("float64") / 255 - FLOAT[record.index]).max() <= 24 / 255 + 0.5 / 255 + 1e-6
        assert record.levels <= 24
        now = predictions(model, pixels[None] / np.float32(255))[0]
        assert record.after == str(now)
        assert not record.verified or now != floats.before[record.index]
        assert record.verified or not floats.success[record.index] or now == floats.before[record.index]
    assert sum(record.verified for record in records) >= 1


@pytest.mark.parametrize("budget", [advex.L2(1.0), advex.L1(8), advex.L0(12)], ids=repr)
@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_files_within_the_other_norms(model, tmp_path, budget, kind):
    x = EIGHT if kind == "uint8" else (EIGHT / 255).astype("float32")
    result = advex.FGSM()(model, x, None, budget)
    for record in result.save(tmp_path):
        with Image.open(record.path) as image:
            delta = (np.asarray(image).astype("float64") - EIGHT[record.index]) / (255 if budget.homogeneous else 1)
        size = budget.measure(delta[None])[0]
        assert not record.verified or size <= budget.epsilon * (1 + 1e-6)
        assert kind == "float32" or record.verified


def test_an_l0_budget_is_counted_on_the_file(model, tmp_path):
    """A float image off the grid: what rounding alone changes is no change, what the attack changes counts."""
    result = advex.FGSM()(model, FLOAT, None, advex.L0(12))
    start = np.clip(np.rint(FLOAT * 255.0), 0, 255)
    for record in result.save(tmp_path):
        with Image.open(record.path) as image:
            changed = (np.asarray(image) != start[record.index]).sum()
        assert changed <= 12 or not record.verified


def test_a_file_that_is_not_adversarial_is_not_verified(eight, model, tmp_path):
    still = advex.FGSM()(model, EIGHT, None, advex.Linf(0.0))
    records = still.save(tmp_path, rows="all")
    assert len(records) == 8
    assert not any(record.verified for record in records)
    assert all(record.levels == 0 for record in records)


def test_grey_pictures(tmp_path):
    grey = small_network((5, 7, 1))
    for shape in ((4, 5, 7, 1), (4, 5, 7)):
        x = np.random.default_rng(0).integers(0, 256, shape, dtype="uint8")
        model = grey if len(shape) == 4 else keras.Sequential([keras.Input((5, 7)), keras.layers.Reshape((5, 7, 1)), grey])
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
    assert [record.path.name for record in records] == [f"photo {record.index}.jpg.png" for record in records]
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


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes everywhere")
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
    assert eight.show(rows=[3]).height < eight.show(rows=[3, -1]).height
    assert floats.show([0]).size == eight.show([0]).size
    assert np.asarray(sheet).std() > 10


@pytest.mark.parametrize("row", [8, -9, True])
def test_show_a_row_that_does_not_exist(eight, row):
    with pytest.raises(advex.errors.InvalidType, match="rows must be numbers below 8"):
        eight.show(rows=[row])


@pytest.mark.backends
def test_html(eight):
    html = eight._repr_html_()
    assert "broken by PGD" in html
    code = re.search(r'src="data:image/png;base64,([^"]+)"', html).group(1)
    with Image.open(io.BytesIO(base64.b64decode(code))) as image:
        assert image.size == eight.show().size


def test_html_shows_warnings_and_escapes():
    x, labels = linear_data(12)
    with pytest.warns(advex.errors.ModelWarning, match="less than chance"):
        result = advex.FGSM()(linear_model(), x, 1 - labels, advex.Linf(0.1))
    result.info["warnings"].append("a < b & c")
    html = result._repr_html_()
    assert "less than chance" in html
    assert "a &lt; b &amp; c" in html
    assert "<img" not in html


def test_tabular():
    x, labels = linear_data(6)
    result = advex.BIM(steps=4)(linear_model(), x, labels, advex.L2(1))
    assert result.perturbation.shape == x.shape
    np.testing.assert_allclose(
        np.linalg.norm(result.perturbation[result.success], axis=1), result.distance[result.success], rtol=1e-5
    )
    assert "<img" not in result._repr_html_()


def test_a_result_cannot_be_changed_by_assignment(eight):
    with pytest.raises(AttributeError):
        eight.success = np.ones(8, bool)
