"""The notebooks of the documentation, executed, with what they print and draw.

    python examples/make_notebooks.py
    python examples/make_notebooks.py --only primer quick_start

Each runs in an empty folder, from top to bottom, and is written back with its outputs. Times, bars
of progress, execution numbers and the log of the frameworks are left out, so that a second run
changes little.
Two need files that the repository does not have, and are left as they are without them:

* hardening: ``--data``, an npz file with Fashion-MNIST (x_train, y_train, x_test, y_test);
* cat_to_toaster: ``--imagenet``, a folder with efficientnet_lite0.keras, imagenet_classes.json and
  chelsea.png.

Needs ``pip install 'advex[notebook,report]'``.
"""

from __future__ import annotations

import argparse
import os
import re
import tempfile
from pathlib import Path

import nbclient
import nbformat

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "notebooks"
SHARED = ROOT.parent / "shared"
LOG = re.compile(
    r"^(?:[IWE]\d{4} |\d{4}-\d\d-\d\d .*[:\]]|WARNING: All log messages before absl|To enable the"
    r" following instructions)"
)


def settings(name: str, data: Path, imagenet: Path) -> dict[str, str] | None:
    """What is replaced in a notebook before it runs here; None if it cannot run here."""
    if name == "hardening":
        return {"DATA = None": f"DATA = {str(data)!r}"} if data.exists() else None
    if name == "cat_to_toaster":
        if not imagenet.is_dir():
            return None
        return {
            "MODEL = None": f"MODEL = {str(imagenet / 'efficientnet_lite0.keras')!r}",
            "CLASSES = None": f"CLASSES = {str(imagenet / 'imagenet_classes.json')!r}",
            'PHOTO = "cat.jpg"': f"PHOTO = {str(imagenet / 'chelsea.png')!r}",
        }
    return {}


def without_bars(text: str) -> str:
    """What was printed, but for bars of progress, which write over themselves."""
    if "/example" not in text:
        return text
    lines = re.sub(r"[\b\r]+", "\n", text).splitlines()
    return "".join(f"{line}\n" for line in lines if line.strip() and "/example" not in line)


def quiet(output: nbformat.NotebookNode) -> bool:
    """Whether an output is the log of a framework, line by line, and nothing else."""
    return output.output_type == "stream" and all(map(LOG.match, output.text.splitlines()))


def executed(path: Path, replaced: dict[str, str], seconds: int = 600) -> nbformat.NotebookNode:
    """The notebook with its outputs; what was replaced to run it is as it was."""
    notebook = nbformat.read(path, as_version=4)
    sources = [cell.source for cell in notebook.cells]
    for cell in notebook.cells:
        if cell.cell_type == "code":
            for old, new in replaced.items():
                cell.source = cell.source.replace(old, new)
    with tempfile.TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        client = nbclient.NotebookClient(notebook, timeout=seconds, resources=resources)
        client.record_timing = False
        client.execute()
    for cell, source in zip(notebook.cells, sources, strict=True):
        cell.source, cell.metadata = source, {}
        if cell.cell_type != "code":
            continue
        cell.execution_count = None
        for output in cell.outputs:
            if output.output_type == "stream":
                output.text = without_bars(output.text)
        cell.outputs = [output for output in cell.outputs if not quiet(output)]
        for output in cell.outputs:
            output.pop("execution_count", None)
            if output.output_type == "execute_result":
                output.execution_count = None
            data = output.get("data", {})
            if "image/png" in data:
                data.pop("image/jpeg", None)  # the same once more
            if "0x" in data.get("text/plain", "") and len(data) > 1:
                del data["text/plain"]  # the address in memory of what is drawn
    notebook.metadata.pop("widgets", None)
    notebook.metadata.language_info = {"name": "python"}
    return notebook


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="just these")
    parser.add_argument("--data", type=Path, default=SHARED / "data" / "fashion_mnist.npz")
    parser.add_argument("--imagenet", type=Path, default=SHARED / "imagenet")
    arguments = parser.parse_args()
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["PYTHONPATH"] = str(ROOT)
    for name in arguments.only:
        path = FOLDER / f"{name}.ipynb"
        replaced = settings(name, arguments.data, arguments.imagenet)
        if replaced is None:
            print(f"{name}: left as it is, its data are not here")
            continue
        notebook = executed(path, replaced)
        nbformat.write(notebook, path)
        print(f"{name}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
