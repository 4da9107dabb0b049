"""Every example runs, with small local models, and says and writes what it should."""

import re
import runpy
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import scipy.fft
import threadpoolctl
from PIL import Image

import advex

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run an example as a script, in an empty folder, and return what it prints; what its ``main``
    returns is ``run.returned``.
    """

    def script(name, *arguments):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        namespace = runpy.run_path(str(EXAMPLES / name))
        main = namespace["main"]
        module = sys.modules["__main__"]
        for (
            key,
            value,
        ) in namespace.items():  # classes of the example are pickled by their place in __main__
            if isinstance(value, type) and value.__module__ == "<run_path>":
                value.__module__ = "__main__"
                monkeypatch.setattr(module, key, value, raising=False)
        script.returned = main()
        return capsys.readouterr().out

    return script


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small softmax model on [-1, 1], sensitive enough to be led anywhere by one grey level, and
    a photo.
    """
    folder = tmp_path_factory.mktemp("small")
    generator = np.random.default_rng(0)
    model = keras.Sequential(
        [
            keras.Input((64, 64, 3)),
            keras.layers.Conv2D(8, 3, strides=2, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    for layer, scale in ((model.layers[0], 0.2), (model.layers[-1], 0.25)):
        kernel, bias = layer.get_weights()
        layer.set_weights([generator.normal(scale=scale, size=kernel.shape), bias])
    model.save(folder / "small.keras")
    pixels = generator.integers(40, 210, (5, 6, 3)).astype("uint8")
    Image.fromarray(pixels).resize((96, 80), Image.Resampling.BICUBIC).save(folder / "photo.png")
    picture = (
        advex.images.read(folder / "photo.png", size=(64, 64)).pixels[None] / np.float32(127.5) - 1
    )
    order = np.argsort(np.asarray(keras.ops.convert_to_numpy(model(picture, training=False)))[0])
    return folder, int(order[-3])


@pytest.mark.backends
def test_gradient_descent(run):
    lines = run("gradient_descent.py").splitlines()
    numbers = [
        re.fullmatch(r"batch +(\d+)   x = +([\d.]+)   y = +([\d.]+)", line) for line in lines[:-1]
    ]
    assert all(numbers)
    assert 5 <= len(numbers) <= 25
    assert [int(match[1]) for match in numbers] == list(range(1, len(numbers) + 1))
    first, last = numbers[0], numbers[-1]
    assert 1 <= float(first[2]) <= 10
    assert float(last[3]) - 2 < 0.01 <= float(numbers[-2][3]) - 2
    for match in numbers:
        assert float(match[3]) == pytest.approx(float(match[2]) ** 2 + 2, abs=1e-3)
    assert "found" in lines[-1]


def test_gradient_descent_that_overshoots(run):
    assert (
        "not found" in run("gradient_descent.py", "--rate", "1.0", "--seed", "1").splitlines()[-1]
    )


@pytest.mark.backends
def test_fgsm(run, tmp_path):
    out = run("fgsm.py", "--out", tmp_path / "pictures")
    fooled, total = map(int, re.search(r"(\d+) of (\d+) images fooled", out).groups())
    verified, files = map(int, re.search(r"(\d+) of (\d+) files", out).groups())
    assert total == 32
    assert (
        0 < fooled == verified == files == len(list((tmp_path / "pictures" / "fgsm").glob("*.png")))
    )
    assert (tmp_path / "pictures" / "fgsm.png").exists()


def test_custom_attack(run):
    out = run("custom_attack.py", "--steps", "5")
    assert out.splitlines()[-1] == "Kept."
    assert len(re.findall(r"Result\(\d+ of 32 broken by", out)) == 2


def test_custom_attack_fits_in_fifteen_lines():
    text = (EXAMPLES / "custom_attack.py").read_text()
    body = text[text.index("@dataclass") : text.index("def main")].strip().splitlines()
    assert len([line for line in body if line.strip() and '"""' not in line]) <= 15


@pytest.mark.backends
def test_grad_cam(run, tmp_path):
    out = run("grad_cam.py", "--index", "3", "--out", tmp_path / "pictures")
    assert out.count("the network looks most at") == 2
    assert (tmp_path / "pictures" / "grad_cam.png").exists()


def test_grad_cam_against_the_formula():
    """For a pooled linear head the weights of Grad-CAM are the weights of the head, divided by the
    number of places.
    """
    heat_maps = runpy.run_path(str(EXAMPLES / "grad_cam.py"))["heat_maps"]
    image = keras.Input((8, 8, 1))
    features = keras.layers.ReLU()(keras.layers.Conv2D(4, 3, padding="same")(image))
    head = keras.layers.Dense(3)
    model = keras.Model(image, head(keras.layers.GlobalAveragePooling2D()(features)))
    x = np.random.default_rng(0).uniform(size=(5, 8, 8, 1)).astype("float32")
    maps, logits = (
        np.asarray(keras.ops.convert_to_numpy(value))
        for value in (keras.Model(image, features)(x), model(x))
    )
    kernel = head.get_weights()[0][:, logits.argmax(1)].T[:, None, None, :]
    expected = np.maximum((maps * kernel / 64).sum(-1), 0)
    expected = expected / (expected.max((1, 2), keepdims=True) + 1e-12)
    np.testing.assert_allclose(heat_maps(model, x), expected, atol=1e-4)


@pytest.mark.backends
def test_cat_to_toaster(run, small, tmp_path):
    folder, target = small
    arguments = [
        "--model",
        folder / "small.keras",
        "--image",
        folder / "photo.png",
        "--target",
        target,
        "--out",
        tmp_path / "o",
    ]
    out = run("cat_to_toaster.py", *arguments, "--rounds", "60")
    assert "By hand" in out
    assert "it holds" in out
    model = keras.models.load_model(folder / "small.keras")
    before = advex.images.read(folder / "photo.png", size=(64, 64)).pixels
    after = advex.images.read(tmp_path / "o" / f"class_{target}.png").pixels
    # 0.01 of a range of 2 is one grey level and a bit
    assert np.abs(after.astype(int) - before.astype(int)).max() == 1
    probability = np.asarray(
        keras.ops.convert_to_numpy(model(after[None] / np.float32(127.5) - 1, training=False))
    )[0]
    assert probability.argmax() == target
    assert probability[target] >= 0.8 - 1e-4
    assert (tmp_path / "o" / "before_and_after.png").exists()


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("cat_to_toaster.py", "--model my_model.keras --image photo.png --target 3"),
        ("train_fashion_mnist.py", "--data data.npz"),
    ],
)
def test_without_a_network_one_line_says_what_to_give(run, monkeypatch, name, instead):
    def fail(*given, **named):
        raise Exception("URL fetch failure on https://...\nmore")

    monkeypatch.setattr(keras.applications, "InceptionV3", fail)
    monkeypatch.setattr(keras.datasets.fashion_mnist, "load_data", fail)
    with pytest.raises(SystemExit) as ended:
        run(name)
    said = str(ended.value)
    assert "could not be fetched (URL fetch failure on https://...)" in said
    assert said.endswith(instead) and len(said.splitlines()) == 1


def test_cat_to_toaster_gives_up_politely(run, small, tmp_path):
    folder, target = small
    arguments = [
        "--model",
        folder / "small.keras",
        "--image",
        folder / "photo.png",
        "--target",
        target,
        "--out",
        tmp_path / "o",
    ]
    out = run("cat_to_toaster.py", *arguments, "--rounds", "2", "--confidence", "1")
    assert "Not this time" in out or "it holds" in out


def test_pictures(run, tmp_path):
    said = run("make_pictures.py", "--out", tmp_path / "pictures", "--only", "two_classes")
    made = {path.name for path in (tmp_path / "pictures").iterdir()}
    assert made == {"two_classes.png", "two_classes.zh.png"}
    assert all(name in said for name in made)
    with pytest.raises(SystemExit):  # the cat needs a network that is not here
        run("make_pictures.py", "--out", tmp_path, "--only", "cat_to_toaster")


def test_two_heads(run):
    said = run("two_heads.py")
    numbers = re.findall(r"^ *(\d+) of 50: .*, (\d+) more before any attack$", said, re.MULTILINE)
    counts = [int(broken) + int(before) for broken, before in numbers]
    age, smile, either, both = counts
    assert either >= max(age, smile) > 0 and both <= min(age, smile)


def test_labels_and_numbers(run):
    said = run("labels_and_numbers.py")
    one, every, first = (float(n) for n in re.findall(r"median +([\d.]+)", said))
    assert 0 < one <= first and one <= every
    assert len(re.findall(r"^lit: ", said, re.MULTILINE)) == 2
    pushed, off = re.search(r"(\d+) of 16 numbers .*, (\d+) more were before", said).groups()
    assert 0 < int(pushed) + int(off) <= 16


def test_unet(run, tmp_path):
    said = run("unet.py", "--epochs", 6, "--steps", 8)
    clean, _, sea = (float(n) for n in re.findall(r"accuracy +([\d.]+)%", said))
    assert sea < clean
    with Image.open(tmp_path / "advex-out" / "unet.png") as picture:
        assert picture.width > 5 * 100


def test_table(run):
    """Every rule by NumPy alone, on the very rows that are returned."""
    with threadpoolctl.threadpool_limits(1):  # trees of a moment: threads would wait for each other
        said = run("table.py")
    assert re.findall(r"(\d+) rows break a rule", said) == ["0", "0", "0"]
    assert re.search(r"    income +[\d,.]+ -> +[\d,.]+", said)
    pgd, smallest, trees = run.returned.values()
    for result in (pgd, smallest, trees):
        x, before = result.x, result.original
        age, _, _, _, income, savings, shares, assets, loan, months, rate = x.T
        assert x.dtype == "float64" and (result.status == "broken").sum() >= 10
        assert not result.info["fragile"]
        assert (age == before[:, 0]).all()
        assert (np.sort(x[:, 1:4], axis=1) == [0, 0, 1]).all()
        assert (months == np.rint(months)).all()
        assert (assets == savings + shares).all() and (rate == loan / months).all()
        assert (12 * rate <= income / 2).all()
        low, high = result.classifier.domain.low, result.classifier.domain.high
        assert ((x >= low) & (x <= high)).all()
        if result is not smallest:
            wide = np.where(high > low, high - low, 1)
            assert (np.abs(x - before) / wide <= 0.1).all()
    answers = keras.ops.convert_to_numpy(pgd.classifier.model(pgd.x[pgd.success], training=False))
    assert (answers.argmax(axis=1) == 1).all()


def test_time_series(run):
    said = run("time_series.py")
    assert len(re.findall(r"largest changes: acceleration", said)) == 3
    everywhere, window, smooth = run.returned.values()
    span = np.array([60.0, 180.0, 8.0])
    delta = [(r.x.astype("float64") - r.original) / span for r in run.returned.values()]
    assert np.abs(delta[0]).max() <= 0.02 and np.abs(delta[1]).max() <= 0.04
    outside = np.r_[0:20, 40:64]
    assert (window.x[:, outside] == window.original[:, outside]).all()
    assert (np.sqrt((delta[2] ** 2).sum(axis=(1, 2))) <= 0.5).all()
    faster = scipy.fft.dct(delta[2], axis=1, norm="ortho")[:, 6:]
    assert (1000 * np.sqrt((faster**2).sum(axis=(1, 2))) <= 0.5).all()
    for result in (everywhere, window, smooth):
        assert (result.status == "broken").sum() >= 10
        assert (result.x >= [-30, 40, 34]).all() and (result.x <= [30, 220, 42]).all()


def test_text(run):
    said = run("text.py")
    broken, _ = re.search(r"(\d+) of (\d+) broken", said).groups()
    result, words, table = run.returned
    assert int(broken) == (result.status == "broken").sum() > 10
    assert result.x.shape == (*words.shape, table.shape[1])
    assert (result.original == table[words]).all()
    for before, after, changed in re.findall(r"^    (\w+) -> (\w+): (.+)$", said, re.MULTILINE):
        assert {before, after} == {"good", "bad"} and "->" in changed
    assert "embedding" in said and "which no file can hold" in said


def test_image_and_metadata(run):
    said = run("image_and_metadata.py")
    image, meta, both = run.returned.values()
    for result in (image, meta, both):
        assert (result.status == "broken").sum() >= 5
        assert f"{(result.status == 'broken').sum()} of 60 change" in said
    assert (image.x["meta"] == image.original["meta"]).all()
    assert (meta.x["image"] == meta.original["image"]).all()
    assert both.success.sum() >= image.success.sum()
    for result in (image, both):
        delta = result.x["image"].astype("float64") - result.original["image"]
        assert np.abs(delta).max() <= 4 / 255
    for result in (meta, both):
        x, before = result.x["meta"], result.original["meta"]
        assert (x[:, 0] == np.rint(x[:, 0])).all() and (np.sort(x[:, 1:]) == [0, 0, 0, 1]).all()
        place = (x[:, 1:] != before[:, 1:]).any(axis=1)
        assert (place + (x[:, 0] != before[:, 0]) <= 1).all()


def test_sticker(run, tmp_path):
    said = run("sticker.py", "--out", tmp_path / "sheets")
    for name, (result, mask) in run.returned.items():
        count = (result.status == "broken").sum()
        assert f"{name}: {count} of 32 broken by {mask.sum()} pixels" in said and count >= 16
        assert (result.x == result.original)[:, ~mask].all()
        assert (result.x != result.original)[result.status == "broken"].any(axis=(1, 2, 3)).all()
        with Image.open(tmp_path / "sheets" / f"{name}.png") as picture:
            assert picture.width > 3 * 100
    assert run.returned["sticker"][1].sum() == 36


def test_labels_only(run, tmp_path):
    with threadpoolctl.threadpool_limits(1):
        said = run("labels_only.py", "--steps", "60", "--out", tmp_path / "sheets")
    result = run.returned
    assert result.success.all() and (result.queries <= 60).all()
    assert f"{result.queries.sum():,} queries" in said
    rows = re.findall(r"^ +([\d,]+) +(\d+) +([\d.]+|inf)$", said, re.MULTILINE)
    assert rows[-1][:2] == ("60", "16")
    medians = [float(median) for _, _, median in rows]
    assert medians == sorted(medians, reverse=True) and 0 < medians[-1] < medians[3]
    with Image.open(tmp_path / "sheets" / "labels_only.png") as picture:
        assert picture.width > 3 * 100


def test_labels_only_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(SystemExit, match=r"^This example needs .*: pip install scikit-learn$"):
        runpy.run_path(str(EXAMPLES / "labels_only.py"))


def test_service(run):
    said = run("service.py", "--steps", "40")
    result, stopped = run.returned
    counted, requests, reported = map(
        int, re.search(r"about (\d+) pictures in (\d+) requests; reported: (\d+)", said).groups()
    )
    assert counted == reported == result.queries.sum() == 8 * 40 and 0 < requests < counted
    answered = int(re.search(r"failed, .*503.*, after (\d+) pictures", said)[1])
    assert answered <= counted // 2
    assert stopped.success.sum() > 0 and "HTTPError" in stopped.info["stopped"]
    begun = re.search(r"Begun from there: ([\d.]+|inf) -> ([\d.]+)", said)
    assert float(begun[2]) <= float(begun[1])


def test_make_notebooks(tmp_path, monkeypatch, capsys):
    """A notebook is executed in a process of its own and written back without times and logs."""
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("nbclient")
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "")
    script = runpy.run_path(str(EXAMPLES / "make_notebooks.py"))
    cells = [
        "import sys\nprint('said'); print('kept', file=sys.stderr)",
        "print('I0000 00:00:17.07 port.cc:153] oneDNN', file=sys.stderr)",
        "print(' 0/32 0s/example\\b\\b\\b\\b 32/32 1s/example\\nafter')",
        "DATA = None\nDATA",
        "class Drawn:\n    def _repr_html_(self):\n        return '<b>drawn</b>'\nDrawn()",
    ]
    made = [nbformat.v4.new_code_cell(cell) for cell in cells]
    path = tmp_path / "small.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=made), path)
    done = script["executed"](path, {"DATA = None": "DATA = 7"})
    nbformat.validate(done)
    assert [cell.source for cell in done.cells] == cells
    said, log, bar, value, drawn = (cell.outputs for cell in done.cells)
    assert {(o.name, o.text) for o in said} == {("stdout", "said\n"), ("stderr", "kept\n")}
    assert log == [] and [output.text for output in bar] == ["after\n"]
    assert value[0].data == {"text/plain": "7"} and drawn[0].data == {"text/html": "<b>drawn</b>"}
    assert all(cell.execution_count is None and not cell.metadata for cell in done.cells)
    nowhere = tmp_path / "nowhere"
    assert script["settings"]("hardening", nowhere, nowhere) is None
    assert script["settings"]("cat_to_toaster", nowhere, nowhere) is None
    assert script["settings"]("primer", nowhere, nowhere) == {}


@pytest.fixture(scope="module")
def clothes(fashion, tmp_path_factory):
    """An npz file with a few images of clothes, as ``--data`` takes it: (path, test images)."""
    x, labels = (array[:, ..., 0] if array.ndim == 4 else array for array in fashion)
    path = tmp_path_factory.mktemp("clothes") / "clothes.npz"
    test = {"x_test": x[:16], "y_test": labels[:16]}
    np.savez(path, x_train=x[16:400], y_train=labels[16:400], **test)
    return path, test["x_test"][..., None] / np.float32(255), test["y_test"]


def test_train_robust(run, clothes, tmp_path):
    path, x, labels = clothes
    folder = tmp_path / "o"
    arguments = ["--epochs", 1, "--count", 256, "--held-out", 64, "--test", 16, "--quick"]
    said = run("train_robust.py", "--data", path, "--out", folder, *arguments)
    clean = re.search(r"^clean accuracy +([\d.]+)% +([\d.]+)%$", said, re.MULTILINE).groups()
    for name, share in zip(("ordinary", "adversarial"), clean, strict=True):
        model = keras.models.load_model(folder / f"{name}.keras")
        right = np.asarray(keras.ops.convert_to_numpy(model(x))).argmax(1) == labels
        assert float(share) == pytest.approx(100 * right.mean(), abs=0.06)
        found = run.returned[name]
        assert found.clean_accuracy == right.mean() >= found.robust_accuracy
        assert f"{found.robust_accuracy:.1%}" in said
        assert "<svg" in (folder / f"{name}.html").read_text(encoding="utf-8")
    with Image.open(folder / "accuracy.png") as picture:
        assert picture.width > 5 * 100


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_example_explains_itself(path):
    text = path.read_text()
    assert f"python examples/{path.name}" in text.split('"""')[1], (
        "the docstring gives the command line"
    )
    assert not re.search(r"/(home|work|tmp|Users)/", text)
