"""The house: who imports whom, what is public, what an import costs."""

import ast
import inspect
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import advex

PACKAGE = Path(advex.__file__).parent

LAYERS = [
    {"errors", "_settings", "_keywords", "_others", "_arrays", "_version", "data"},
    {"_backend"},
    {"graph", "goals", "losses", "budgets", "_grid", "images"},
    {"folding", "classifier", "problem", "result"},
    {"judging", "blackbox"},
    {"search"},
    {"attacks"},
    {"doctor"},
    {
        "zoo",
        "testing",
        "evaluation",
        "callbacks",
        "report",
        "demo",
        "cli",
        "cli_evaluate",
        "__main__",
    },
]
WITHIN = {  # arrows inside a layer, each to something below it
    ("_settings", "errors"),
    ("_settings", "_keywords"),
    ("_keywords", "errors"),
    ("_others", "errors"),
    ("losses", "goals"),
    ("_grid", "budgets"),
    ("classifier", "folding"),
    ("problem", "classifier"),
    ("result", "classifier"),
    ("cli", "zoo"),
    ("cli", "demo"),
    ("demo", "zoo"),
    ("demo", "cli"),
    ("__main__", "cli"),
    ("callbacks", "evaluation"),
    ("report", "evaluation"),
    ("evaluation", "report"),  # Evaluation.report, when it is called
    ("cli", "cli_evaluate"),
    ("cli_evaluate", "cli"),
    ("cli_evaluate", "evaluation"),
}


def imports(path):
    """(imported advex module, line) of every import in a file, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            if node.module == "advex":
                for alias in node.names:
                    yield alias.name, node.lineno
            elif node.module.startswith("advex."):
                yield node.module.split(".")[1], node.lineno
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("advex."):
                    yield alias.name.split(".")[1], node.lineno


def layer(name):
    return next((number for number, names in enumerate(LAYERS) if name in names), None)


def test_no_import_goes_up():
    public = {name for name in advex.__all__ if layer(name) is None} | {"__version__"}
    for path in PACKAGE.rglob("*.py"):
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if own == "__init__":
            continue
        assert layer(own) is not None, f"{path.name} is in no layer"
        for name, line in imports(path):
            if name == own or (name == "_version" and own == "attacks"):
                continue
            if layer(own) == len(LAYERS) - 1 and name in public:
                continue  # what uses attacks may use the public face
            assert layer(name) is not None, f"{path}:{line} imports {name}"
            below = layer(name) < layer(own) or (own, name) in WITHIN
            assert below, (
                f"{path.relative_to(PACKAGE)}:{line}: {own} imports {name}, which is not below it"
            )


def test_frameworks_are_imported_in_one_place():
    for path in PACKAGE.rglob("*.py"):
        if path.parent.name == "_backend":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in names} & {"tensorflow", "jax", "torch"}, path


def test_the_public_face_is_pinned():
    names = """ALMA APGD BIM DDN FAB FGSM FMN JSMA L0 L1 L2 PDGD PDPGD PGD Attack AutoAttack AveragedGradient BlackBox Budget
    CarliniWagner Classifier DeepFool ElasticNet Ensemble Evaluation EveryTarget Goal GradientAscent LinearDecay Linf MinimumNorm
    MomentumIterative NesterovIterative Problem Restarts Result SigmaZero SquareAttack Targeted Untargeted Verdict
    __version__ attacks budgets callbacks errors evaluate evaluation fine function goals gradients images jacobian losses symbol
    testing unit updates zoo"""  # noqa: E501
    assert sorted(advex.__all__) == sorted(names.split())
    for name in advex.__all__:
        assert getattr(advex, name) is not None


def test_import_brings_nothing_optional():
    """What ``import advex`` adds to ``import keras``: no other framework, no optional package, no
    PIL, no rich.
    """
    code = """
import sys, keras
before = set(sys.modules)
import advex
new = {name.split(".")[0] for name in set(sys.modules) - before}
wanted = {"tensorflow", "jax", "torch"} - {keras.backend.backend()} | {"PIL", "IPython", "matplotlib", "scipy", "pandas"}
wanted |= {"hypothesis", "nbformat", "argparse", "sqlite3", "ray", "jinja2", "pyarrow"}
print(sorted(new & wanted))
"""  # noqa: E501
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "name", ["fashion_mnist.keras", "fashion_mnist.npz", "LICENSE-fashion-mnist.txt"]
)
def test_the_embedded_default_is_small(name):
    assert 0 < (PACKAGE / "data" / name).stat().st_size <= 600_000


def test_the_embedded_default_is_as_good_as_said(embedded, fashion):
    model, images, labels = embedded
    assert images.shape == (32, 28, 28, 1) and images.dtype == "uint8"
    assert (model.predict(images / 255.0, verbose=0).argmax(1) == labels).all()
    x, y = fashion
    assert (
        model.predict(x / 255.0, verbose=0).argmax(1) == y
    ).mean() > 0.89  # 92.5 % of all 10,000; 500 of them here


def test_signatures_are_those_of_the_constructors():
    assert list(inspect.signature(advex.PGD).parameters) == ["steps", "step_size", "loss"]
    assert inspect.signature(advex.FMN).parameters["steps"].default == 300
    assert list(inspect.signature(advex.Targeted).parameters) == ["labels", "confidence"]


def test_every_package_is_installed():
    project = PACKAGE.parent / "pyproject.toml"
    listed = set(
        tomllib.loads(project.read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    )
    there = {
        ".".join(path.parent.relative_to(PACKAGE.parent).parts)
        for path in PACKAGE.rglob("__init__.py")
    }
    assert there | {"advex.data"} == listed
