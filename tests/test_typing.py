"""Type checkers and the public face: what is right passes mypy and pyright, what is misspelt does
not.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FACE = ROOT / "tests" / "typing_face.py"
MISSPELT = """import advex
advex.PDG()
advex.evalute(1)
advex.nonsense.thing
advex.losses.crossentropy
"""


def mypy(path):
    """Errors by line, in the default mode; that Keras has no types is no fault of the file."""
    words = ["--config-file=", "--follow-imports=silent", "--disable-error-code=import-untyped"]
    cache = f"--cache-dir={path.parent.parent / 'mypy'}"
    done = run("mypy", *words, cache, path.name, cwd=path.parent, MYPYPATH=str(ROOT))
    return {int(line) for line in re.findall(rf"^{path.name}:(\d+): error", done, re.M)}, done


def pyright(path):
    """Likewise."""
    (path.parent / "pyrightconfig.json").write_text(json.dumps({"extraPaths": [str(ROOT)]}))
    words = ["--pythonpath", sys.executable, "--outputjson", path.name]
    done = run("pyright", *words, cwd=path.parent)
    every = json.loads(done)["generalDiagnostics"]
    errors = [entry for entry in every if entry["severity"] == "error"]
    return {entry["range"]["start"]["line"] + 1 for entry in errors}, errors


def run(module, *words, cwd, **environment):
    command = [sys.executable, "-m", module, *words]
    done = subprocess.run(
        command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("checker", [mypy, pyright])
def test_misspelt_names_are_errors(checker, tmp_path):
    path = tmp_path / "misspelt.py"
    path.write_text(MISSPELT)
    lines, said = checker(path)
    assert lines == {2, 3, 4, 5}, said


@pytest.mark.slow
@pytest.mark.parametrize("checker", [mypy, pyright])
def test_the_face_passes(checker, tmp_path):
    path = tmp_path / "face.py"
    path.write_text(FACE.read_text(encoding="utf-8"))
    lines, said = checker(path)
    assert not lines, said


def test_the_attack_is_that_of_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    attack = re.search(r"^@dataclass.*?^class .*?(?=\n\nprint)", readme, re.M | re.S)
    assert attack
    assert attack[0] in FACE.read_text(encoding="utf-8")
