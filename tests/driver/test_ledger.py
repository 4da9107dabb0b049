"""The ledger alone: who counts, what is counted, what is handed on."""

import numpy as np
import pytest

from advex.driver.ledger import Jobs, Ledger, Outcome
from advex.driver.plan import Run, Wave


class Leaf:
    rounds = 5

    def __init__(self, notes=None):
        self.notes = notes or {}


def a_ledger(count=6, limited=True):
    aim = "first" if limited else "smallest"
    return Ledger(np.zeros((count, 1), "float32"), aim, lambda points, rows: points)


def a_wave(runs, notes=None, **settings):
    leaf = Leaf(notes)
    return Wave(tuple(Run(leaf, repetition=run, rank=run, **settings) for run in range(runs)))


def jobs(*pairs):
    row, run = np.array(pairs).T
    return Jobs(row, run)


def outcome(count, **columns):
    """What ``count`` seats say: nothing, but for ``columns``; a seat's point is its number + 1."""
    said = {name: np.zeros(count, bool) for name in ("found", "nan", "flat", "doubt")}
    said |= {name: np.ones(count, "int64") for name in ("gradients", "queries")}
    said |= {"size": np.ones(count), "notes": {}, "margin": np.full(count, -1.0)}
    said |= {
        name: np.asarray(values) if name != "notes" else values for name, values in columns.items()
    }
    points = lambda index: np.asarray(index, "float32")[:, None] + 1  # noqa: E731
    last = lambda index: -np.asarray(index, "float32")[:, None] - 1  # noqa: E731
    return Outcome(points=points, last=last, **said)


def test_jobs_are_run_by_run_over_the_rows_that_still_need_it():
    ledger = a_ledger(4)
    ledger.clean(np.array([False, True, False, False]), np.zeros((4, 1), "int32"))
    ledger.nan[3] = True
    row, run = ledger.open(a_wave(2))
    assert row.tolist() == [0, 2, 0, 2] and run.tolist() == [0, 0, 1, 1]
    assert ledger.broken_by.tolist() == ["", "clean", "", ""] and (ledger.queries == 1).all()


def test_who_looks_for_the_smallest_goes_on_with_rows_that_are_found():
    ledger = a_ledger(3, limited=False)
    ledger.clean(np.array([False, True, False]), np.zeros((3, 1), "int32"))
    ledger.found[0], ledger.size[0] = True, 0.5
    assert ledger.open(a_wave(1)).row.tolist() == [0, 2]  # row 1 is wrong already: nothing smaller


def test_a_wave_for_some_asks_what_the_ledger_knows():
    ledger = a_ledger(4)
    ledger.doubt[[1, 2]] = True
    ledger.found[2] = True
    wave = Wave(a_wave(1).runs, who=lambda ledger: ledger.doubt)
    assert ledger.open(wave).row.tolist() == [1]
    ledger.found[:] = True
    nobody = Wave(a_wave(1).runs, who=lambda ledger: pytest.fail("asked for nobody"))
    assert len(ledger.open(nobody)) == 0


def test_the_earlier_run_counts_when_both_end_at_once():
    ledger = a_ledger(3)
    ledger.open(a_wave(2))
    now = jobs((1, 1), (1, 0), (2, 1))
    ledger.record(now, outcome(3, found=[True] * 3), np.array([True] * 3))
    assert ledger.found.tolist() == [False, True, True]
    assert ledger.points[1, 0] == 2 and ledger.points[2, 0] == 3  # of the seats 1 and 2
    assert ledger.broken_by[1] == "Leaf(target 1)" and ledger.broken_by[2] == "Leaf(target 2)"


@pytest.mark.parametrize("swapped", [False, True])
def test_the_earlier_run_counts_when_it_ends_later(swapped):
    ledger = a_ledger(2)
    ledger.open(a_wave(2))
    first = np.array([False, True])
    now = jobs((0, 0), (0, 1))
    leaving = ledger.record(now, outcome(2, found=[False, True]), first)
    assert leaving.tolist() == [False, True]  # the earlier run may still find something
    assert ledger.broken_by[0] == "Leaf(target 2)" and ledger.points[0, 0] == 2
    ledger.record(now, outcome(2, found=[not swapped, True]), ~first)
    assert ledger.broken_by[0] == ("Leaf(target 2)" if swapped else "Leaf(target 1)")
    assert ledger.points[0, 0] == (2 if swapped else 1)


def test_a_later_run_is_overtaken_and_its_passes_count():
    ledger = a_ledger(2)
    ledger.open(a_wave(3))
    now = jobs((0, 0), (0, 2), (1, 2), (-1, -1))
    said = outcome(4, found=[True, False, False, False], gradients=[3, 5, 7, 9])
    leaving = ledger.record(now, said, np.array([True, False, False, False]))
    assert leaving.tolist() == [True, True, False, False]
    assert ledger.gradients.tolist() == [8, 0]
    assert ledger.overtaken(jobs((0, 1), (0, 0), (1, 1))).tolist() == [True, False, False]


def test_nothing_is_counted_for_seats_that_stay_or_are_free():
    ledger = a_ledger(3)
    ledger.open(a_wave(1))
    now = jobs((0, 0), (1, 0), (-1, -1))
    said = outcome(3, gradients=[2, 3, 50], queries=[4, 5, 50], flat=[True, True, True])
    ledger.record(now, said, np.array([True, False, False]))
    assert ledger.gradients.tolist() == [2, 0, 0] and ledger.queries.tolist() == [4, 0, 0]
    assert ledger.flat.tolist() == [True, False, False]


def test_a_run_that_meets_nan_takes_back_what_a_later_one_has_found():
    ledger = a_ledger(2)
    ledger.open(a_wave(2))
    now = jobs((0, 0), (0, 1))
    ledger.record(now, outcome(2, found=[False, True]), np.array([False, True]))
    assert ledger.found[0]
    ledger.record(now, outcome(2, nan=[True, False]), np.array([True, False]))
    assert not ledger.found[0] and ledger.nan[0] and ledger.broken_by[0] == ""
    assert ledger.points[0, 0] == 0 and np.isinf(ledger.size[0])


def test_nan_in_a_later_run_leaves_an_earlier_success_alone():
    ledger = a_ledger(1)
    ledger.open(a_wave(2))
    ledger.record(
        jobs((0, 0), (0, 1)),
        outcome(2, found=[True, False], nan=[False, True]),
        np.array([True, True]),
    )
    assert ledger.found[0] and not ledger.nan[0]


def test_an_earlier_success_counts_though_a_later_run_has_met_nan_before():
    ledger = a_ledger(1)
    ledger.open(a_wave(2))
    now = jobs((0, 0), (0, 1))
    ledger.record(now, outcome(2, nan=[False, True]), np.array([False, True]))
    assert ledger.nan[0]
    ledger.record(now, outcome(2, found=[True, False]), np.array([True, False]))
    assert ledger.found[0] and not ledger.nan[0] and ledger.broken_by[0] == "Leaf(target 1)"


def test_of_successes_the_smaller_is_kept():
    ledger = a_ledger(2, limited=False)
    for size, kept in ((0.5, 1), (0.7, 1), (0.3, 2)):
        ledger.open(a_wave(1))
        seat = jobs((1, 0)) if kept == 1 else jobs((-1, -1), (1, 0))
        found = np.arange(len(seat)) == len(seat) - 1
        said = outcome(len(seat), found=found, size=np.full(len(seat), size))
        ledger.record(seat, said, found)
        assert ledger.points[1, 0] == kept
    assert ledger.size[1] == 0.3


def test_the_account_adds_up():
    ledger = a_ledger(3)
    ledger.open(a_wave(2))
    now = jobs((0, 0), (1, 0), (2, 0), (1, 1), (2, 1))
    said = outcome(5, found=[True, False, False, True, False], gradients=[1, 2, 3, 4, 5])
    ledger.record(now, said, np.ones(5, bool))
    ledger.close(3.0)
    one, two = ledger.account
    assert (one["attack"], one["examples"], one["broken"], one["gradients"]) == (
        "Leaf(target 1)",
        3,
        1,
        6,
    )
    assert (two["attack"], two["examples"], two["broken"], two["gradients"]) == (
        "Leaf(target 2)",
        2,
        1,
        9,
    )
    assert one["gradients"] + two["gradients"] == ledger.gradients.sum() == 15
    assert one["queries"] + two["queries"] == ledger.queries.sum() == 5
    assert one["seconds"] + two["seconds"] == pytest.approx(3)
    assert one["seconds"] == pytest.approx(3 * 9 / 20)


def test_runs_that_go_on_share_a_line_of_the_account():
    ledger = a_ledger(2)
    leaf = Leaf()
    for begin in (0, 3):
        ledger.open(Wave((Run(leaf, begin=begin, steps=3),)))
        found = [begin == 3, False]
        ledger.record(jobs((0, 0), (1, 0)), outcome(2, found=found), np.array([True, True]))
        ledger.close(1.0)
    assert len(ledger.account) == 1
    line = ledger.account[0]
    assert line["examples"] == 2 and line["gradients"] == 4 and line["broken"] == 1


def test_notes_are_merged_by_what_the_attack_says():
    notes = {"gap": np.minimum, "best": np.maximum, "order": None}
    leaf = Leaf(notes)
    ledger = a_ledger(3)

    def told(begin, gap, best, order):
        ledger.open(Wave((Run(leaf, begin=begin, steps=1), Run(leaf, begin=begin, steps=1))))
        values = {"gap": np.array(gap), "best": np.array(best), "order": np.array(order)}
        ledger.record(jobs((0, 0), (2, 0), (0, 1)), outcome(3, notes=values), np.ones(3, bool))

    told(0, [5.0, 6.0, 4.0], [5.0, 6.0, 4.0], [1, 2, 1])
    assert ledger.notes["gap"][[0, 2]].tolist() == [4, 6]  # the first part writes, seat by seat
    told(1, [3.0, 8.0, 7.0], [3.0, 8.0, 7.0], [3, 4, 3])
    assert ledger.notes["gap"].tolist() == [3, 0, 6]
    assert ledger.notes["best"].tolist() == [7, 0, 8]
    assert ledger.notes["order"].tolist() == [3, 0, 4]
    told(0, [9.0, 9.0, 9.0], [1.0, 1.0, 1.0], [0, 0, 0])  # the attack begins anew
    assert ledger.notes["gap"].tolist() == [9, 0, 9] and ledger.notes["best"].tolist() == [1, 0, 1]


def test_how_far_a_row_came_is_what_the_last_of_its_runs_says():
    """Of runs side by side the later one, whenever it ends; of waves the later wave."""
    ledger = a_ledger(2)
    ledger.clean(np.zeros(2, bool), np.zeros((2, 2), "int32"))
    ledger.open(a_wave(2))
    both, ended = jobs((0, 0), (0, 1), (1, 1)), np.array([False, True, True])
    ledger.record(both, outcome(3, margin=[-1.0, -2.0, -3.0]), ended)
    assert ledger.attempts[:, 0].tolist() == [-2, -3] and ledger.margin.tolist() == [-2, -3]
    ledger.record(both.of(slice(1)), outcome(1, margin=[-9.0]), np.array([True]))
    assert ledger.attempts[0, 0] == -2 and ledger.margin[0] == -2
    ledger.open(a_wave(1))
    ledger.record(jobs((0, 0)), outcome(1, margin=[-7.0]), np.array([True]))
    assert ledger.attempts[0, 0] == -1 and ledger.margin[0] == -7 and ledger.tried.all()


def test_rows_with_a_success_or_nan_keep_no_last_point():
    ledger = a_ledger(3)
    ledger.clean(np.zeros(3, bool), np.zeros((3, 1), "int32"))
    ledger.open(a_wave(1))
    said = outcome(3, found=[True, False, False], nan=[False, True, False])
    ledger.record(jobs((0, 0), (1, 0), (2, 0)), said, np.ones(3, bool))
    assert ledger.tried.tolist() == [False, False, True]


def test_of_all_points_the_strongest_is_kept_and_a_success_before_any_other():
    ledger = Ledger(np.zeros((3, 1), "float32"), "strongest", lambda p, rows: p, leaves=False)
    ledger.clean(np.array([False, False, True]), np.zeros((3, 1), "int32"))

    def wave(found, size):
        assert ledger.open(a_wave(1)).row.tolist() == [0, 1, 2]  # no row leaves, nor a clean one
        said = outcome(3, found=found, size=size)
        ledger.record(jobs((0, 0), (1, 0), (2, 0)), said, np.ones(3, bool))
        return ledger.size.tolist()

    assert wave([False, False, False], [-1.0, -1.0, -1.0]) == [-1, -1, -1]
    assert not ledger.points.any() and ledger.found.tolist() == [False, False, True]
    assert wave([True, False, False], [2.0, -2.0, 0.0]) == [2, -2, -1]  # a success counts more
    assert wave([False, True, True], [-9.0, -3.0, 1.0]) == [2, -3, 1]
    assert wave([True, True, True], [1.0, -1.0, 2.0]) == [1, -3, 1]
    assert ledger.found.all() and ledger.points[:, 0].tolist() == [1, 2, 3]
    assert ledger.attempts[:, 0].tolist() == [1, 2, 3]


def test_the_strongest_until_a_success_leaves_then():
    ledger = Ledger(np.zeros((2, 1), "float32"), "strongest", lambda points, rows: points)
    ledger.clean(np.zeros(2, bool), np.zeros((2, 1), "int32"))
    ledger.open(a_wave(1))
    said = outcome(2, found=[True, False], size=[-1.0, 3.0])
    ledger.record(jobs((0, 0), (1, 0)), said, np.ones(2, bool))
    assert ledger.open(a_wave(1)).row.tolist() == [1]
