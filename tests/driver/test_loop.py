"""The loop with a toy in place of an attack and its model."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import Toy, ledger_of, scene, wave_of

from advex.driver.loop import run_wave
from advex.driver.plan import Wave, one_by_one
from advex.driver.shapes import Shapes

NEVER = 99


def run(falls, *, most=4, ragged=True, multiple=1, lost=(), apart=False, limited=True):
    """All repetitions of a toy over all rows."""
    toy = Toy(falls, lost)
    stage = scene(len(falls[0]), limited)
    ledger, shapes, told = ledger_of(stage), Shapes(most, multiple, ragged), []
    waves = [wave_of(toy, range(len(falls)))]
    for wave in one_by_one(waves) if apart else waves:
        run_wave(wave, ledger, toy, shapes, stage, lambda *seen: told.append(seen))
    return ledger, toy, told


def expected(falls, lost=()):
    """Of each row: the run that counts, by doing them one after the other; -1: none; None: NaN."""
    counts = []
    for row in range(len(falls[0])):
        winner = -1
        for number, fall in enumerate(falls):
            if (number, row) in lost and fall[row] > 0:
                winner = None
                break
            if fall[row] <= Toy.rounds + 1:
                winner = number
                break
        counts.append(winner)
    return counts


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_what_is_found_is_what_the_runs_find_one_by_one(data):
    runs, count = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 13))
    step = st.sampled_from([1, 2, 3, 6, 7, NEVER, NEVER])
    falls = [[data.draw(step) for _ in range(count)] for _ in range(runs)]
    ragged, most = data.draw(st.booleans()), data.draw(st.sampled_from([1, 2, 4, 16]))
    pairs = list(itertools.product(range(runs), range(count)))
    lost = data.draw(st.sets(st.sampled_from(pairs), max_size=2))
    multiple = data.draw(st.sampled_from([1, 2])) if ragged else 1
    ledger, toy, _ = run(falls, most=most, ragged=ragged, multiple=multiple, lost=lost)
    for row, winner in enumerate(expected(falls, lost)):
        assert bool(ledger.nan[row]) == (winner is None), row
        assert bool(ledger.found[row]) == (winner is not None and winner >= 0), row
        if ledger.found[row]:
            assert ledger.points[row, 0] == 1000 * (winner + 1) + row
    assert sum(line["gradients"] for line in ledger.account) == ledger.gradients.sum()
    assert sum(line["broken"] for line in ledger.account) == ledger.found.sum()
    assert max(toy.steps) <= most


@pytest.mark.parametrize("ragged", [True, False])
def test_passes_are_counted_once_and_for_nobody_else(ragged):
    falls = [[1, 3, NEVER, 7, 2, NEVER, 1]]
    ledger, _, _ = run(falls, most=4, ragged=ragged)
    # A row that falls at step s has spent s; one that never falls, all steps and the last look.
    assert ledger.gradients.tolist() == [1, 3, 7, 7, 2, 7, 1]
    assert ledger.account[0]["examples"] == 7


@pytest.mark.parametrize("ragged", [True, False])
def test_a_success_inside_init_takes_no_step(ragged):
    ledger, toy, _ = run([[0, 0, 0]], ragged=ragged)
    assert ledger.found.all() and not toy.steps and ledger.gradients.tolist() == [1, 1, 1]


def test_batches_are_filled_where_rows_wait():
    _, toy, _ = run([[NEVER] * 16], most=8)
    assert toy.inits == [(8, 8), (8, 8)] and set(toy.steps) == {8}
    _, toy, _ = run([[1] * 4 + [NEVER] * 12], most=8)
    assert toy.inits[1] == (4, 4)  # as soon as there is room


def test_batches_shrink_where_nobody_waits():
    _, toy, _ = run([[1, 2, 3, NEVER, 3, 2, 1, 1]], most=8)
    assert toy.steps == [8, 5, 3, 1, 1, 1]
    _, toy, _ = run([[1, 2, 3, NEVER, 3, 2, 1, 1]], most=8, ragged=False)
    assert toy.steps == [8, 8, 8, 2, 2, 2]


def test_runs_side_by_side_share_batches_and_stop_each_other():
    falls = [[NEVER, NEVER], [1, NEVER], [1, NEVER], [1, NEVER]]
    together, toy, _ = run(falls, most=8)
    apart, slow, _ = run(falls, most=8, apart=True)
    assert (together.broken_by == apart.broken_by).all() and len(toy.steps) < len(slow.steps)
    assert together.points.tolist() == apart.points.tolist()
    assert together.account[2]["broken"] == together.account[3]["broken"] == 0
    assert apart.account[2]["examples"] == 1


def test_who_waits_and_is_overtaken_never_enters():
    _, toy, _ = run([[1] * 4, [1] * 4, [1] * 4], most=4)
    assert toy.inits == [(4, 4)]


def test_progress_rises_to_the_end():
    _, _, told = run([[1, NEVER, 3, NEVER, 2], [NEVER] * 5], most=4)
    done, found = zip(*told, strict=True)
    assert list(done) == sorted(done) and done[-1] == 5
    assert list(found) == sorted(found) and found[-1] == 3


def test_who_looks_for_the_smallest_takes_every_step():
    ledger, _, _ = run([[1, NEVER]], limited=False)
    assert ledger.found.tolist() == [True, False]
    assert ledger.size[0] == 1


def test_a_run_that_goes_on_has_the_notes_of_its_own_row():
    """Notes of four rows that leave and join in another order: nobody gets another's."""
    toy = Toy([[1, NEVER, 2, NEVER, NEVER]], notes={"gap": np.minimum})
    stage = scene(5)
    ledger, shapes = ledger_of(stage), Shapes(2)
    first = wave_of(toy, [0], begin=0, steps=2)
    run_wave(first, ledger, toy, shapes, stage, lambda *_: None)
    assert ledger.notes["gap"].tolist() == [8, 7, 7, 7, 7]
    ledger.notes["gap"] += np.arange(5)
    ledger.found[:] = False
    seen = {}

    class Watched(Toy):
        def step(self, rows):
            for row, gap in zip(
                np.asarray(rows.x0)[:, 0], np.asarray(rows.memory["gap"]), strict=True
            ):
                seen.setdefault(int(row), float(gap))
            return super().step(rows)

    again = Watched(toy.falls, notes=toy.notes)
    second = Wave(wave_of(again, [0], begin=2, steps=2).runs)
    run_wave(second, ledger, again, shapes, stage, lambda *_: None)
    assert seen == {row: float(8 - (row > 0) + row) for row in range(5)}
