"""What was counted is kept: stopped, killed and gone on with, the figures are the same."""

import functools
import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import advex
from advex import certify
from advex.certification import run as run_module
from advex.errors import InvalidInput, InvalidType
from advex.testing import linear_data, linear_model

SETTINGS = {"samples": 320, "batch_size": 320}


@functools.cache
def linear():
    """One model for all: what is compiled once need not be compiled again."""
    return linear_model()


def certified(run=None, count=40, **settings):
    x, labels = linear_data(count)
    settings = {"model": linear(), "x": x, "labels": labels, **SETTINGS, **settings}
    return certify(**settings, run=run)


def figures(found):
    return [found.chosen.tolist(), found.counts.tolist(), found.radius.tolist()]


class Counting:
    """The linear model, which may be asked about ``left`` rows more: a counter is no setting."""

    def __init__(self, left=10**9):
        self.left = left

    def __call__(self, batch):
        self.left -= len(batch)
        if self.left < 0:
            raise RuntimeError("the service is gone")
        return ((batch - 0.5) @ np.sin(np.arange(1, 13)) > 0).astype(int)

    @property
    def model(self):
        return advex.BlackBox(self, classes=2, answers="labels")


@pytest.mark.backends
def test_stopped_after_any_row_it_goes_on(tmp_path):
    whole = figures(certified())
    for number, rows in enumerate((1, 15, 16, 17, 40)):
        told = []

        def stop(done, total, held, told=told, rows=rows):
            told.append((done, total, held))
            if done >= rows:
                raise ZeroDivisionError

        run = tmp_path / str(number)
        with pytest.raises(ZeroDivisionError):
            certified(run, progress=stop)
        done = told[-1][0]
        assert rows <= done <= rows + 1 and told[-1][1] == 40
        told.clear()
        assert figures(certified(run, progress=lambda *now: told.append(now))) == whole  # noqa: B023
        assert told[-1][:2] == (40, 40) and told[-1][2] == sum(r > 0 for r in whole[2])
        assert not (run / "working.npz").exists()
        assert not list(run.glob(".advex-*"))


def test_no_sample_is_drawn_twice(tmp_path):
    """A function that fails at different moments: all calls together ask about each sample once,
    but for the step that failed; a finished certification asks about none.
    """
    rows, each = 20, 100 + 320
    whole = figures(certified(count=rows, model=Counting().model))
    for enough in (1, 1700, 3000, 7000):
        first, then, again = Counting(enough), Counting(), Counting()
        run = tmp_path / str(enough)
        with pytest.raises(RuntimeError, match="the service is gone"):
            certified(run, rows, model=first.model)
        assert figures(certified(run, rows, model=then.model)) == whole
        asked = enough - first.left + 10**9 - then.left
        assert rows * each <= asked <= rows * each + SETTINGS["batch_size"]
        assert figures(certified(run, rows, model=again.model)) == whole
        assert again.left == 10**9


CHILD = """
import os, signal, sys, threading, time
sys.path[:0] = {paths!r}
import test_certify_kept as t
from advex.certification import run
run.EVERY = 0
steps = 0
def progress(done, total, held):
    if done == {rows}:
        os.kill(os.getpid(), signal.SIGKILL)
t.certified({run!r}, progress=progress)
print("done", flush=True)
"""


@pytest.mark.parametrize("rows", [5, 21])
def test_killed_in_the_middle(tmp_path, rows):
    """A real process and a real SIGKILL."""
    run = tmp_path / "certified"
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    code = CHILD.format(paths=paths, run=str(run), rows=rows)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    files = {path.name for path in run.iterdir()}
    assert {"certification.json", "working.npz"} <= files
    assert ("block-000000.npz" in files) == (rows > 16)
    assert figures(certified(run)) == figures(certified())


def test_ctrl_c_says_how_to_go_on(tmp_path, capsys):
    def press(done, total, held):
        if done == 3:
            signal.raise_signal(signal.SIGINT)

    usual = signal.getsignal(signal.SIGINT)
    run = tmp_path / "certified"
    with pytest.raises(advex.errors.Interrupted, match=r"after 3 rows; the same call with run="):
        certified(run, progress=press)
    assert signal.getsignal(signal.SIGINT) is usual
    assert figures(certified(run)) == figures(certified())
    with pytest.raises(KeyboardInterrupt, match="nothing was kept: with run='certified'"):
        certified(progress=press)
    assert "Ctrl-C again stops at once" in capsys.readouterr().err


def test_a_bar_is_drawn(capsys):
    certified(progress=True, count=20)
    drawn = capsys.readouterr().err
    assert "certifying" in drawn and "20/20" in drawn and "certified so far" in drawn


def test_the_batch_size_may_change_and_nothing_else(tmp_path):
    run = tmp_path / "certified"
    whole = figures(certified(run, 20))
    assert figures(certified(run, 20, batch_size=64)) == whole
    x, labels = linear_data(20)
    other = linear_model(np.ones((12, 2)) * [-1, 1])
    for changed, settings in {
        "sigma": {"sigma": 0.5},
        "samples": {"samples": 321},
        "selection": {"selection": 101},
        "alpha": {"alpha": 0.01},
        "seed": {"seed": 1},
        "weights": {"model": other},
        "box": {"model": advex.Classifier(linear_model(), box=(-1, 1))},
        "data": {"labels": 1 - labels},
        "inputs": {"x": x.astype("float64")},
    }.items():
        with pytest.raises(InvalidInput, match=f"Changed: (data, )?{changed}"):
            certified(run, 20, **settings)
    assert figures(certified(run, 20)) == whole


def test_a_stream_is_compared_block_by_block(tmp_path):
    x, labels = linear_data(40)

    def batches(rows=40, first=0):
        order = np.roll(np.arange(rows), -first)
        return [(x[some], labels[some]) for some in np.array_split(order, 5)]

    run = tmp_path / "certified"
    whole = figures(certify(linear(), batches(), **SETTINGS, run=run))
    assert whole == figures(certified())
    assert figures(certify(linear(), iter(batches()), **SETTINGS, run=run)) == whole
    for data, words in ((batches(first=1), "shuffled"), (batches(32), "more rows than 32")):
        with pytest.raises(InvalidInput, match=f"Changed: data .*{words}"):
            certify(linear(), data, **SETTINGS, run=run)
    more = linear_data(50)
    longer = itertools.chain(batches(), [(more[0][40:], more[1][40:])])
    with pytest.raises(InvalidInput, match="Changed: data"):
        certify(linear(), longer, **SETTINGS, run=run)


def test_rows_that_are_at_work_must_be_the_same(tmp_path):
    x, labels = linear_data(20)
    run = tmp_path / "certified"

    def stop(done, total, held):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        certify(linear(), [(x, labels)], **SETTINGS, run=run, progress=stop)
    with pytest.raises(InvalidInput, match="shuffled"):
        certify(linear(), [(x[::-1], labels[::-1])], **SETTINGS, run=run)


def test_damaged_files_are_not_read(tmp_path):
    run = tmp_path / "certified"
    whole = figures(certified(run, 20))
    block = run / "block-000001.npz"
    content = block.read_bytes()
    random = np.random.default_rng(0)
    for place in random.integers(0, len(content), 20).tolist():
        changed = bytearray(content)
        changed[place] ^= 1 << int(random.integers(8))
        block.write_bytes(bytes(changed))
        try:
            assert figures(certified(run, 20)) == whole  # a byte that says nothing
        except InvalidInput as problem:
            assert "damaged" in str(problem) or "Changed: data" in str(problem)  # noqa: PT017
    block.write_bytes(content[:100])
    with pytest.raises(InvalidInput, match=r"block-000001.npz is damaged: remove it"):
        certified(run, 20)
    block.unlink()
    assert figures(certified(run, 20)) == whole
    about = run / "certification.json"
    told = json.loads(about.read_text())
    about.write_text(json.dumps(told | {"format": 99}))
    with pytest.raises(InvalidInput, match="has format 99"):
        certified(run, 20)
    about.write_text("{")
    with pytest.raises(InvalidInput, match=r"certification.json is damaged"):
        certified(run, 20)


def test_where_it_may_not_be_kept(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InvalidInput, match=r"and .* is a file"):
        certified(tmp_path / "file", 2)
    with pytest.raises(InvalidInput, match="holds no certification"):
        certified(tmp_path, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    with pytest.raises((InvalidInput, InvalidType)):
        certified(tmp_path / "new", 2, labels=[0, 5])
    assert not (tmp_path / "new").exists()
    (tmp_path / "empty").mkdir()
    assert len(certified(tmp_path / "empty", 2)) == 2


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(OSError, match="closed"):
        certified(tmp_path / "closed" / "run", 2)


def test_steps_of_a_long_block_are_kept(tmp_path, monkeypatch):
    """As often as was said, not only at the end."""
    written = []
    monkeypatch.setattr(run_module, "EVERY", 0)
    kept = run_module.Folder.write_votes
    monkeypatch.setattr(
        run_module.Folder,
        "write_votes",
        lambda self, *given: (written.append(given[2].done), kept(self, *given)),
    )
    certified(tmp_path / "certified", 4)
    assert written == sorted(written) and len(written) >= 5
