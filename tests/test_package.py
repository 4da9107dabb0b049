"""The house: who imports whom, what is public, what an import costs."""

import ast
import importlib
import inspect
import subprocess
import sys
import tomllib
from pathlib import Path

import layers
import pytest

import advex

PACKAGE = Path(advex.__file__).parent


@pytest.mark.parametrize("package", ["", *layers.FLOORS], ids=lambda name: name or "rooms")
def test_no_import_goes_up(package):
    assert layers.upward(package) == []


def test_no_modules_import_each_other():
    assert layers.circle() == []


def test_every_module_has_its_place():
    for module in layers.MODULES:
        for package in ("", *layers.FLOORS):
            if layers.within(package, module):
                layers.place(package, module)
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    soon = {"doctor", "model"}  # rooms that are being built
    assert set(layers.ROOMS) - soon <= rooms


def test_frameworks_are_imported_in_one_place():
    for path in PACKAGE.rglob("*.py"):
        if path.parent.name == "_backend":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in names} & {"tensorflow", "jax", "torch"}, path


def test_the_public_face_is_pinned():
    names = """AllOf AnyOf MultiLabel Output Regression Segmentation TopK SEA SegPGD NES SPSA SimBA SparseRS
    Domain ALMA APGD BIM DDN FAB FGSM FMN JSMA L0 L1 L2 PDGD PDPGD PGD Attack AutoAttack AveragedGradient BlackBox Budget
    CarliniWagner Classifier DeepFool ElasticNet Ensemble Evaluation EveryTarget Goal GradientAscent LinearDecay Linf MinimumNorm
    MomentumIterative NesterovIterative Problem Restarts Result SigmaZero SquareAttack Targeted Untargeted Verdict
    __version__ attacks budgets callbacks errors evaluate evaluation fine function goals gradients images jacobian losses symbol
    testing training unit updates zoo Pointwise RayS SurFree
    CGBA HopSkipJump Others Trace Certificate certify"""  # noqa: E501
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


FACES = [
    "attacks",
    "budgets",
    "callbacks",
    "errors",
    "evaluation",
    "goals",
    "images",
    "losses",
    "testing",
    "training",
    "zoo",
]


@pytest.mark.parametrize("name", FACES)
def test_completion_offers_what_is_public(name):
    module = importlib.import_module(f"advex.{name}")
    assert dir(module) == sorted(module.__all__)
    assert all(getattr(module, entry) is not None for entry in module.__all__)


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("advex.PDG", "advex.PGD"),
        ("losses.crossentropy", "losses.cross_entropy"),
        ("zoo.fashion_mnits", "zoo.fashion_mnist"),
        ("testing.check_atack", "testing.check_attack"),
        ("evaluation.diagnos", "evaluation.diagnose"),
        ("images.raed", "images.read"),
    ],
)
def test_misspelt_names_are_answered(misspelt, meant):
    home, name = misspelt.split(".")
    module = advex if home == "advex" else importlib.import_module(f"advex.{home}")
    with pytest.raises(AttributeError, match=meant.split(".")[1]):
        getattr(module, name)
