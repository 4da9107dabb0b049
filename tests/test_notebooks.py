"""The notebooks run, and what they print and draw is committed with them."""

import ast
import base64
import contextlib
import io
import math
import re
import runpy
import sys
import types
import warnings
from pathlib import Path

import numpy as np
import pytest

import advex

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "notebooks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
SHARED = ROOT.parent / "shared"

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("matplotlib")


def read(name):
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def code_of(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def speaks(source):
    """Whether a cell prints, draws, or ends in a value that is shown."""
    last = ast.parse(source).body[-1]
    shown = isinstance(last, ast.Expr) and not source.rstrip().endswith(";")
    quiet = shown and isinstance(last.value, ast.Call) and "fit(" in ast.unparse(last.value)
    return "print(" in source or "plt.subplots" in source or (shown and not quiet)


def test_there_are_six():
    assert set(NAMES) == {
        "quick_start",
        "primer",
        "cat_to_toaster",
        "own_attack",
        "evaluation_and_report",
        "hardening",
    }


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_committed(name):
    notebook, path = read(name), FOLDER / f"{name}.ipynb"
    nbformat.validate(notebook)
    assert path.stat().st_size < 400_000
    for cell in code_of(notebook):
        assert bool(cell.outputs) or not speaks(cell.source), f"no output: {cell.source}"
        assert cell.execution_count is None and not cell.metadata
        for output in cell.outputs:
            assert output.output_type != "error" and output.get("name") != "stderr"
            text = output.get("text", "") + str(output.get("data", {}).get("text/plain", ""))
            assert "0x" not in text and "\b" not in text and "/example" not in text
            for kind, data in output.get("data", {}).items():
                if kind == "image/png":
                    assert base64.b64decode(data).startswith(b"\x89PNG")
    written = path.read_text(encoding="utf-8")
    assert not re.search(r"/(?:home|work|tmp|root|Users)/|shared/", written)
    assert any(each in written for each in ("<figure", "<svg", "image/png"))  # to look at


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a notebook in this process, in an empty folder, with some words replaced; what its cells
    printed, and the values they end in.
    """
    matplotlib = pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    # ipykernel, which another test has imported, makes a bar appear where a step lasts
    monkeypatch.setattr("advex.driver.progress.PATIENCE", math.inf)

    def execute(name, replaced=()):
        module = types.ModuleType(f"notebook_{name}")
        monkeypatch.setitem(sys.modules, module.__name__, module)
        notebook, printed, values = read(name), io.StringIO(), []
        text = "".join(cell.source for cell in code_of(notebook))
        assert all(old in text for old, _ in replaced)
        with (
            matplotlib.rc_context({"backend": "agg"}),
            contextlib.redirect_stdout(printed),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore", advex.errors.AdvexWarning)
            for cell in code_of(notebook):
                source = cell.source
                for old, new in replaced:
                    source = source.replace(old, new)
                body = ast.parse(source).body
                last = body.pop() if isinstance(body[-1], ast.Expr) else None
                exec(compile(ast.Module(body, []), name, "exec"), vars(module))
                if last is not None:
                    values.append(
                        eval(compile(ast.Expression(last.value), name, "eval"), vars(module))
                    )
            matplotlib.pyplot.close("all")
        return types.SimpleNamespace(
            said=printed.getvalue(), values=values, names=vars(module), stored=notebook
        )

    return execute


def printed_in(notebook):
    """What the committed outputs of a notebook say."""
    outputs = [output for cell in code_of(notebook) for output in cell.outputs]
    return "".join(output.text for output in outputs if output.output_type == "stream")


def shape_of(text):
    """Text without its numbers: what must be the same on every machine."""
    return re.sub(r"[\d.#]+", "0", text)


def test_quick_start(run, tmp_path):
    found = run("quick_start")
    drawn = [value for value in found.values if isinstance(value, advex.Result)]
    assert len(drawn) == 2 and all("<figure" in each._repr_html_() for each in drawn)
    files = list((tmp_path / "advex-out" / "notebook").glob("*.png"))
    assert f"{len(files)} of {len(files)} files hold" in found.said and len(files) > 10
    stored, now = (text.splitlines() for text in (printed_in(found.stored), found.said))
    assert len(stored) == len(now), found.said
    assert shape_of(stored[-1]) == shape_of(now[-1])
    page = "".join(str(cell.outputs) for cell in code_of(found.stored))
    assert page.count("<figure") == 16


def test_primer(run):
    found = run("primer")
    shortest = found.names["nearest"].distance[0]
    weights, bias = found.names["line"].get_weights()
    normal, offset = weights[:, 1] - weights[:, 0], bias[1] - bias[0]
    formula = -(found.names["one"][0] @ normal + offset) / np.linalg.norm(normal)
    assert formula <= shortest <= 1.05 * formula
    walks = re.findall(
        r"^\S = ([\d.]+): after 12 steps x = ([\d.]+), f\(x\) = ([\d.]+)", found.said, re.M
    )
    assert [float(rate) for rate, _, _ in walks] == [0.01, 0.1, 1.05]
    for rate, x, height in (map(float, walk) for walk in walks):
        assert x == pytest.approx(4 * (1 - 2 * rate) ** 12, abs=2e-3)
        assert height == pytest.approx(x**2 + 2, abs=0.02)
    assert len(re.findall("Ankle boot", found.said)) == 1  # before, and no longer after
    assert found.values[-1].success.all()


def test_own_attack(run):
    found = run("own_attack", [("check_attack(Momentum())", "check_attack")])
    assert found.said.endswith("kept\n")
    counts = re.findall(r"^(\w+) +(\d+)/32 +([\d.]+)$", found.said, re.MULTILINE)
    assert [name for name, _, _ in counts] == ["FGSM", "BIM", "PGD", "Shorter", "Momentum"]
    assert all(int(broken) > int(counts[0][1]) for _, broken, _ in counts[1:])


def test_evaluation_and_report(run, tmp_path):
    quick = [("steps=200", "steps=20"), ("attacks, budget,", "attacks, budget, diagnose=False,")]
    found = run("evaluation_and_report", quick)
    one = found.names["found"]
    assert f"robust accuracy {one.robust_accuracy:.1%}" in found.said
    assert (tmp_path / "clothes.html").stat().st_size > 10_000
    assert any(isinstance(value, advex.evaluation.Curve) for value in found.values)
    stored = "".join(str(cell.outputs) for cell in code_of(found.stored))
    assert stored.count("<svg") >= 1 and "D15" in stored  # the curve and the doctor


@pytest.fixture
def clothes(fashion, tmp_path):
    """An npz file with a few images of clothes."""
    x, labels = (array[:, ..., 0] if array.ndim == 4 else array for array in fashion)
    path = tmp_path / "clothes.npz"
    np.savez(path, x_train=x[16:400], y_train=labels[16:400], x_test=x[:16], y_test=labels[:16])
    return path


def test_hardening(run, clothes, tmp_path):
    found = run("hardening", [("DATA = None", f"DATA = {str(clothes)!r}")])
    assert found.said.count("robust accuracy") == 2
    assert {path.name for path in (tmp_path / "advex-out" / "robust").iterdir()} == {
        "ordinary.html",
        "adversarial.html",
        "adversarial.keras",
    }
    shares = re.findall(r"robust accuracy ([\d.]+)%", printed_in(found.stored))
    assert float(shares[1]) > float(shares[0]) + 20  # what the page says that it shows


@pytest.mark.reference
def test_cat_to_toaster(run, tmp_path):
    imagenet = SHARED / "imagenet"
    if not imagenet.is_dir():
        pytest.skip("needs ../shared/imagenet")
    make = runpy.run_path(str(ROOT / "examples" / "make_notebooks.py"))
    replaced = make["settings"]("cat_to_toaster", SHARED, imagenet)
    found = run("cat_to_toaster", list(replaced.items()))
    result = next(value for value in found.values if isinstance(value, advex.Result))
    assert result.success.all() and result.confidence[0] >= 0.9
    levels = np.abs(result.perturbation).max()
    assert 0 < levels <= 2
    assert "toaster" in found.said and "verified: True" in found.said
    assert (tmp_path / "advex-out" / "toaster" / "toaster.png").exists()
