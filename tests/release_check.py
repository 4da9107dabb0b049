"""Is this tree fit to be released? Builds the wheel, tries it in an environment of its own, and
compares the tag with the version.

    make release-check          everything; a tag on this commit must be v and the version
    python tests/release_check.py --tag v0.1.0    the tag alone, before it is made
"""

import argparse
import re
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
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
assert all(file.verified for file in result.save("pictures"))
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


def wheel(folder):
    """Build it."""
    run(sys.executable, "-m", "build", "--wheel", "--outdir", folder, ROOT)
    (path,) = Path(folder).glob("*.whl")
    return path


def left_out(path):
    """Files of the package that the wheel has not."""
    listed = run("git", "ls-files", "advex", cwd=ROOT).stdout.splitlines()
    with zipfile.ZipFile(path) as archive:
        return sorted(set(listed) - set(archive.namelist()))


def smoke(path, folder):
    """Install the wheel by itself, and attack with it."""
    home = Path(folder) / "venv"
    venv.create(home, with_pip=True)
    python = home / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", path)
    run(python, "-c", SMOKE, version(), cwd=folder)
    run(home / "bin" / "advex", "--help", cwd=folder)


def run(*words, cwd=None):
    done = subprocess.run(
        [str(word) for word in words], cwd=cwd, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{' '.join(map(str, words[:4]))} failed:\n{done.stdout}{done.stderr}")
    return done


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--tag", help="compare this tag with the version, and do no more")
    given = parser.parse_args(arguments)
    wanted = version()
    if said := complaints(wanted, [given.tag] if given.tag else tags()):
        sys.exit("\n".join(said))
    if given.tag:
        return
    with tempfile.TemporaryDirectory() as folder:
        path = wheel(folder)
        if missing := left_out(path):
            sys.exit(f"{path.name} lacks {', '.join(missing)}")
        smoke(path, folder)
        print(f"{path.name} is fit to be released as v{wanted}")


if __name__ == "__main__":
    main()
