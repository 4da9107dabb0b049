"""Several workers: what they find is what one process finds, also if one of them is killed."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import advex
from advex.errors import InvalidInput
from advex.evaluation.block_files import name_of, read_part, write_part
from advex.evaluation.pieces import Plan, attacked, clean
from advex.evaluation.source import Block
from advex.evaluation.values import packed

SCRIPT = """
import json, os, signal, subprocess, sys, threading, time
from pathlib import Path
import numpy as np
import advex
from advex import zoo

folder, kill = Path(sys.argv[1]), sys.argv[2] == "kill"
x, labels = np.load(folder / "x.npy", mmap_mode="r"), np.load(folder / "labels.npy")
model = zoo.fashion_mnist()
run = folder / f"{sys.argv[2]}.advex"
killed = []

def murder():
    while not list(Path(f"{run}.parts").glob("block-*.parquet")):
        time.sleep(0.05)
    workers = subprocess.run(["pgrep", "-f", "ray::[M]apWorker"], capture_output=True, text=True).stdout.split()
    os.kill(int(workers[0]), signal.SIGKILL)
    killed.append(int(workers[0]))

if kill:
    threading.Thread(target=murder, daemon=True).start()
found = advex.evaluate(
    model, (x, labels), [advex.PGD(steps=5), advex.SquareAttack(steps=20)], advex.Linf(4 / 255), run=run, block=20,
    diagnose=False, engine=sys.argv[3], workers=2,
)
rows = [{name: value for name, value in row.items() if "seconds" not in name} for row in found.rows()]
print(json.dumps({"rows": rows, "killed": killed, "pairs": [pair.example for pair in found.pairs()], "finished": found.finished}))
"""  # noqa: E501


def test_workers_find_what_one_process_finds(embedded, tmp_path):
    pytest.importorskip("ray")
    _, x, labels = embedded
    np.save(tmp_path / "x.npy", np.tile(x, (5, 1, 1, 1)))
    np.save(tmp_path / "labels.npy", np.tile(labels, 5))

    def run(*words):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(tmp_path), *words],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.splitlines()[-1])

    alone, helped = run("alone", "local"), run("kill", "ray")
    assert helped["killed"] and helped["finished"]
    assert len(alone["rows"]) == 160
    assert helped["rows"] == alone["rows"]
    assert helped["pairs"] == alone["pairs"]


@pytest.fixture
def piece(embedded):
    model, x, labels = embedded
    attacks = {"steps": advex.PGD(steps=3), "one": advex.FGSM()}
    plan = Plan(advex.Classifier(model), attacks, advex.Linf(4 / 255), 0, 32, 32, "none")
    block = Block(3, 96, x, labels)
    before = clean(plan, x, labels)
    return plan, block, before, [attacked(plan, name, x, before) for name in attacks]


def test_a_part_comes_back_as_it_was(piece, tmp_path):
    pytest.importorskip("pyarrow")
    plan, block, before, found = piece
    path = tmp_path / name_of(3)
    write_part(path, plan, block, before, found, "mark")
    again, verdicts = read_part(path, plan, block, "mark")
    for name in ("labels", "prediction", "confidence", "status", "queries"):
        assert np.array_equal(getattr(again, name), getattr(before, name)), name
    for now, was in zip(verdicts, found, strict=True):
        for name in (
            "rows",
            "status",
            "distance",
            "prediction",
            "confidence",
            "gradients",
            "queries",
            "broken_by",
        ):
            assert np.array_equal(getattr(now, name), getattr(was, name)), name
        kept = [place for place, values in enumerate(now.x) if values is not None]
        assert 4 <= len(kept) <= 8
        assert all(packed(now.x[place]) == packed(was.x[place]) for place in kept)
    with pytest.raises(InvalidInput, match="belongs to another run"):
        read_part(path, plan, block, "other")
    moved = Block(3, 96, 255 - block.x, block.labels)
    with pytest.raises(InvalidInput, match="belongs to another run"):
        read_part(path, plan, moved, "mark")
    assert [entry.name for entry in Path(tmp_path).iterdir()] == [path.name]


@pytest.mark.parametrize("settings", [{"run": None}, {"data": []}])
def test_what_workers_cannot_open_is_refused(settings, embedded, tmp_path):
    model, x, labels = embedded
    settings = {"data": (x, labels), "run": tmp_path / "run.advex"} | settings
    with pytest.raises(InvalidInput, match="needs a run file, and data as arrays"):
        advex.evaluate(
            model, settings.pop("data"), advex.FGSM(), advex.Linf(0.1), engine="ray", **settings
        )
