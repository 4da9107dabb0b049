"""Environments for the peers, one each: ``python benchmarks/peers.py [NAME...]`` makes ``.venv-peers/NAME``.

Each gets the TensorFlow and Keras of the Python that runs this script, and advex itself in editable mode. A peer that cannot be
installed is told in one line; what pip had to say is in ``.venv-peers/NAME.log``.
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
}
MODULES = {"foolbox": "foolbox", "cleverhans": "cleverhans.tf2.attacks.projected_gradient_descent", "art": "art.estimators"}


def python(name: str) -> Path:
    """The interpreter of a peer's environment."""
    return PLACE / name / "bin" / "python"


def ready(name: str) -> bool:
    """Whether the environment was completed by an earlier run."""
    return (PLACE / name / "ready").exists()


def make(name: str) -> str | None:
    """Make the environment of one peer; what went wrong, in a line, or None."""
    if ready(name):
        return None
    PLACE.mkdir(exist_ok=True)
    same = [f"{package}=={importlib.metadata.version(package)}" for package in ("tensorflow", "keras")]
    pip = [str(python(name)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    commands = [
        [sys.executable, "-m", "venv", "--clear", str(PLACE / name)],
        [*pip, "setuptools<81", "pillow", *same, *PEERS[name]],
        [*pip, "--no-deps", "--editable", str(ROOT)],
        [str(python(name)), "-c", f"import {MODULES[name]}"],
    ]
    with (PLACE / f"{name}.log").open("w") as log:
        for command in commands:
            if subprocess.run(command, stdout=log, stderr=log, check=False).returncode:
                return f"{name}: could not be installed; see .venv-peers/{name}.log"
    (PLACE / name / "ready").touch()
    return None


def main(argv: list[str] | None = None) -> int:
    """Make the environments asked for; 0 if at least one of them works."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"among {', '.join(PEERS)}; all if none is given")
    names = parser.parse_args(argv).names or list(PEERS)
    if unknown := [name for name in names if name not in PEERS]:
        parser.error(f"unknown peer {unknown[0]}; choose among {', '.join(PEERS)}")
    problems = [make(name) for name in names]
    for name, problem in zip(names, problems, strict=True):
        print(problem or f"{name}: ready")
    return int(all(problems))


if __name__ == "__main__":
    sys.exit(main())
