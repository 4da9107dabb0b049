"""Environments for the peers, one each: ``python benchmarks/peers.py [NAME...]`` makes
``.venv-peers/NAME``.

Peers that attack Keras models get the TensorFlow and Keras of the Python that runs this script, and
advex itself in editable mode; ``autoattack`` and ``minimum`` have torch instead, and
``reference.py`` rebuilds the model for them. A peer that cannot be installed is told in one line;
what pip had to say is in ``.venv-peers/NAME.log``.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLACE = ROOT / ".venv-peers"
PEERS = {
    "foolbox": ["foolbox"],
    "cleverhans": ["cleverhans", "tensorflow-probability==0.25"],
    "art": ["adversarial-robustness-toolbox"],
    "autoattack": ["torch==2.13.0", "pyautoattack", "torchattacks", "h5py"],
    "minimum": [
        "torch==2.13.0",
        "foolbox",
        "adversarial-robustness-toolbox",
        "packaging",
        "torchattacks",
        "h5py",
    ],
}
# Installed after the others and without what they ask for: visdom has to be built, TensorFlow
# Probability is of no use here.
ALONE = {"minimum": ["adv-lib", "cleverhans"]}
# What must be importable in the end: of the peers that attack Keras models, and of those that do
# without Keras.
MODULES = {
    "foolbox": "foolbox",
    "cleverhans": "cleverhans.tf2.attacks.projected_gradient_descent",
    "art": "art.estimators",
}
TORCH_MODULES = {
    "autoattack": "pyautoattack, torchattacks, h5py",
    "minimum": "foolbox, art.attacks.evasion, torchattacks, adv_lib,"
    " cleverhans.torch.attacks.carlini_wagner_l2, h5py",
}


def python(name: str) -> Path:
    """The interpreter of a peer's environment."""
    return PLACE / name / "bin" / "python"


def ready(name: str) -> bool:
    """Whether the environment was completed by an earlier run."""
    return (PLACE / name / "ready").exists()


def commands(name: str) -> list[list[str]]:
    """What makes the environment of a peer."""
    pip = [str(python(name)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if name in TORCH_MODULES:
        installs = [
            [*pip, *PEERS[name]],
            *([[*pip, "--no-deps", *ALONE[name]]] if name in ALONE else []),
        ]
    else:
        same = [
            f"{package}=={importlib.metadata.version(package)}"
            for package in ("tensorflow", "keras")
        ]
        installs = [
            [*pip, "setuptools<81", "pillow", *same, *PEERS[name]],
            [*pip, "--no-deps", "--editable", str(ROOT)],
        ]
    modules = {**MODULES, **TORCH_MODULES}[name]
    return [
        [sys.executable, "-m", "venv", "--clear", str(PLACE / name)],
        *installs,
        [str(python(name)), "-c", f"import {modules}"],
    ]


def make(name: str) -> str | None:
    """Make the environment of one peer; what went wrong, in a line, or None."""
    if ready(name):
        return None
    PLACE.mkdir(exist_ok=True)
    with (PLACE / f"{name}.log").open("w") as log:
        for command in commands(name):
            if subprocess.run(command, stdout=log, stderr=log, check=False).returncode:
                return f"{name}: could not be installed; see .venv-peers/{name}.log"
    (PLACE / name / "ready").touch()
    return None


def main(argv: list[str] | None = None) -> int:
    """Make the environments asked for; 0 if at least one of them works."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"among {', '.join(PEERS)}; all if none is given"
    )
    names = parser.parse_args(argv).names or list(PEERS)
    if unknown := [name for name in names if name not in PEERS]:
        parser.error(f"unknown peer {unknown[0]}; choose among {', '.join(PEERS)}")
    problems = [make(name) for name in names]
    for name, problem in zip(names, problems, strict=True):
        print(problem or f"{name}: ready")
    return int(all(problems))


if __name__ == "__main__":
    sys.exit(main())
