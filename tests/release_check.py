"""Is this tree fit to be released? Builds the sdist, and the wheel from it, tries both in
environments of their own, and compares the tag with the version.

    make release-check          everything; a tag on this commit must be v and the version
    python tests/release_check.py --tag v0.2.0    the tag alone, before it is made
    python tests/release_check.py --python python3.13    this interpreter in place of those found
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.11", "3.12", "3.13")
SMOKE = """
import pathlib, sys
import advex
from advex import zoo

assert pathlib.Path(advex.__file__).is_relative_to(sys.prefix), advex.__file__
assert advex.__version__ == sys.argv[1], advex.__version__
for name in advex.__all__:
    getattr(advex, name)
model, (x, labels) = zoo.fashion_mnist(), zoo.fashion_images()
result = advex.PGD(steps=10)(model, x, labels, advex.Linf(8 / 255), progress=False)
assert result.success.mean() > 0.5, result
assert all(file.verified for file in result.save(sys.argv[2]))
"""


def version():
    """That of the tree."""
    text = (ROOT / "advex" / "_version.py").read_text(encoding="utf-8")
    found = re.search(r'VERSION = "([^"]+)"', text)
    assert found, "advex/_version.py has no VERSION"
    return found[1]


def tags():
    """Those on this commit that look like a version."""
    done = run("git", "tag", "--points-at", "HEAD", "--list", "v[0-9]*", cwd=ROOT)
    return done.stdout.split()


def complaints(wanted, given):
    """What is wrong with tags, changelog and citation of a version."""
    said = [f"the tag {tag} is not v{wanted}" for tag in given if tag != f"v{wanted}"]
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    if not re.search(rf"^## \[?{re.escape(wanted)}\b", changes, re.M):
        said.append(f"CHANGELOG.md has no section of {wanted}")
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    if f"\nversion: {wanted}\n" not in citation:
        said.append(f"CITATION.cff does not name {wanted}")
    return said


def reminders():
    """What a person must settle before an upload: nothing here can know it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    said = []
    if not project.get("urls"):
        said.append(
            "pyproject.toml has no [project.urls]: add the address of the repository, and make the"
            " picture and the links of README.md absolute, or PyPI's page will not show them"
        )
    return said


def builds(folder):
    """The sdist, the wheel made from it, and the wheel made from the tree."""
    run(
        sys.executable, "-m", "build", "--outdir", folder, ROOT
    )  # the wheel is built from the sdist
    run(sys.executable, "-m", "build", "--wheel", "--outdir", Path(folder) / "tree", ROOT)
    (source,), (wheel,) = Path(folder).glob("*.tar.gz"), Path(folder).glob("*.whl")
    (tree,) = (Path(folder) / "tree").glob("*.whl")
    return source, wheel, tree


def contents(wheel):
    """Name -> bytes, but for the list of hashes of the wheel itself."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if "RECORD" not in name}


def left_out(wheel):
    """Files of the package that the wheel has not."""
    listed = run("git", "ls-files", "advex", cwd=ROOT).stdout.splitlines()
    return sorted(set(listed) - set(contents(wheel)))


def interpreters():
    """Those of the supported versions that are on this machine: version -> path."""
    found = {"{}.{}".format(*sys.version_info): sys.executable}
    for wanted in PYTHONS:
        places = [shutil.which(f"python{wanted}"), *of_pyenv(wanted)]
        working = [place for place in places if place and answers(place, wanted)]
        if working:
            found.setdefault(wanted, working[0])
    return dict(sorted(found.items()))


def of_pyenv(wanted):
    """The shims of pyenv name versions that are not switched on; these are the files behind."""
    home = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    return sorted(home.glob(f"versions/{wanted}.*/bin/python"))


def answers(place, wanted):
    code = "import sys; print('{}.{}'.format(*sys.version_info))"
    done = subprocess.run([place, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip() == wanted


def smoke(interpreter, wheel, source, folder):
    """Install the wheel with all that it asks for, and attack; then the sdist in its place."""
    home = Path(folder) / "venv"
    run(interpreter, "-m", "venv", home)
    python, pip = home / "bin" / "python", (home / "bin" / "python", "-m", "pip", "--quiet")
    run(*pip, "install", wheel)
    run(python, "-c", SMOKE, version(), "of-the-wheel", cwd=folder)
    run(home / "bin" / "advex", "--help", cwd=folder)
    run(*pip, "check")
    run(*pip, "uninstall", "--yes", "advex")
    run(*pip, "install", "--no-deps", source)
    run(python, "-c", SMOKE, version(), "of-the-sdist", cwd=folder)


def run(*words, cwd=None):
    done = subprocess.run(
        [str(word) for word in words], cwd=cwd, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{' '.join(map(str, words[:5]))} failed:\n{done.stdout}{done.stderr}")
    return done


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--tag", help="compare this tag with the version, and do no more")
    parser.add_argument("--python", help="the interpreter to try it with; default: all found")
    given = parser.parse_args(arguments)
    wanted = version()
    if said := complaints(wanted, [given.tag] if given.tag else tags()):
        sys.exit("\n".join(said))
    if given.tag:
        return
    with tempfile.TemporaryDirectory() as folder:
        source, wheel, tree = builds(folder)
        if missing := left_out(wheel):
            sys.exit(f"{wheel.name} lacks {', '.join(missing)}")
        one, other = contents(wheel), contents(tree)
        if apart := sorted(name for name in one | other if one.get(name) != other.get(name)):
            sys.exit(f"made from {source.name}, the wheel differs in {', '.join(apart)}")
        tried = {"given": given.python} if given.python else interpreters()
        for name, interpreter in tried.items():
            with tempfile.TemporaryDirectory() as place:
                smoke(interpreter, wheel, source, place)
            print(f"Python {name}: {wheel.name} and {source.name} install and attack")
    if not given.python and (missing := sorted(set(PYTHONS) - set(tried))):
        print(f"not on this machine, and so not tried: Python {', '.join(missing)}")
    print("\n".join(f"before an upload: {line}" for line in reminders()))
    print(f"{json.dumps([source.name, wheel.name])} are fit to be released as v{wanted}")


if __name__ == "__main__":
    main()
