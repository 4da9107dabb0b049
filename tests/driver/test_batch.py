"""Seats and their sizes, with rows that are numbers."""

import numpy as np
import pytest
from keras import ops
from toy import Toy, scene, wave_of

from advex.driver.batch import Batch
from advex.driver.ledger import Jobs
from advex.driver.shapes import Shapes, power_of_two

ANY, FIXED = Shapes(8, ragged=True), Shapes(8, ragged=False)
WAVE = wave_of(Toy([[9] * 32]), [0])


def seated(shapes, *groups):
    """A batch in which the rows of each group sat down, one group after the other."""
    batch, stage = Batch(shapes), scene(32)
    for group in groups:
        jobs = Jobs(np.array(group), np.zeros(len(group), int))
        count = shapes.filled(len(group), batch.room)
        batch.seat(jobs, Toy([[9] * 32]).init(stage.rows(WAVE, jobs, count, None)))
    return batch


def numbers(batch):
    """The rows that the seats say they have, and those whose tensors they hold."""
    return batch.jobs.row.tolist(), ops.convert_to_numpy(batch.rows.x0)[:, 0].astype(int).tolist()


def live(batch):
    return np.asarray(ops.convert_to_numpy(batch.rows.live)).tolist()


@pytest.mark.parametrize("shapes", [ANY, FIXED], ids=["any", "fixed"])
def test_every_seat_holds_the_row_that_it_says(shapes):
    batch = seated(shapes, [3, 1, 4], [5, 9])
    said, held = numbers(batch)
    assert sorted(row for row in said if row >= 0) == [1, 3, 4, 5, 9]
    assert all(row == own for row, own in zip(said, held, strict=True) if row >= 0)
    assert live(batch) == [row >= 0 for row in said]
    batch.leave(np.isin(batch.jobs.row, [3, 9]), waiting=1)
    said, held = numbers(batch)
    assert sorted(row for row in said if row >= 0) == [1, 4, 5]
    assert all(row == own for row, own in zip(said, held, strict=True) if row >= 0)
    assert live(batch) == [row >= 0 for row in said]


def test_sizes_where_any_will_do():
    batch = seated(ANY, [0, 1, 2, 3, 4])
    assert batch.room == 3 and len(batch.jobs) == 5
    batch.leave(np.arange(5) < 2, waiting=0)
    assert len(batch.jobs) == batch.rows.seats == 3 and batch.room == 5
    batch.leave(np.ones(3, bool), waiting=4)
    assert len(batch.jobs) == 0 and batch.room == 8


def test_sizes_where_each_is_dear():
    batch = seated(FIXED, list(range(8)))
    batch.leave(np.arange(8) < 5, waiting=4)  # full until nobody waits
    assert batch.rows.seats == 8 and batch.room == 5
    # A seat that is empty holds a copy of one that is taken.
    said, held = numbers(batch)
    assert said[:5] == [-1] * 5 and set(held[:5]) <= {5, 6, 7}
    batch.leave(np.zeros(8, bool), waiting=0)
    assert batch.rows.seats == 8  # three have no room in a quarter
    batch.leave(batch.jobs.row == 7, waiting=0)
    assert batch.rows.seats == 2 and sorted(numbers(batch)[0]) == [5, 6]
    batch.leave(batch.jobs.row == 5, waiting=0)
    assert batch.rows.seats == 2 and numbers(batch) == ([-1, 6], [6, 6])


def test_multiples():
    shapes = Shapes(16, multiple=4)
    batch = seated(shapes, [0, 1, 2, 3, 4])
    assert batch.rows.seats == 8 and batch.taken.sum() == 5
    assert not any(live(batch)[5:])
    batch.leave(np.arange(8) == 0, waiting=0)
    assert batch.rows.seats == 4


def test_a_batch_is_never_filled_beyond_its_room():
    shapes = Shapes(6, multiple=4)
    assert [shapes.filled(count, 6) for count in (1, 4, 5, 6)] == [4, 4, 6, 6]
    assert [shapes.fresh(room) for room in (3, 4, 5, 6)] == [3, 4, 4, 4]


def test_ended_and_out_of_steps():
    batch = seated(ANY, [0, 1, 2, 3])
    batch.rows = batch.rows._replace(
        step=ops.convert_to_tensor(np.array([5, 6, 6, 2], "int32")),
        found=ops.convert_to_tensor(np.array([False, False, True, False])),
        nan=ops.convert_to_tensor(np.array([False, False, False, True])),
    )
    ended, over = batch.ended(np.array([6]), first=True)
    assert ended.tolist() == [False, True, True, True] and over.tolist() == [
        False,
        True,
        False,
        False,
    ]
    ended, over = batch.ended(np.array([6]), first=False)
    assert ended.tolist() == [False, True, True, True] and over.tolist() == [
        False,
        True,
        True,
        False,
    ]
    assert batch.steps_left(np.array([6])) == 0


@pytest.mark.parametrize("shapes", [ANY, FIXED], ids=["any", "fixed"])
def test_only_those_out_of_steps_are_judged(shapes):
    batch, toy = seated(shapes, [0, 1, 2, 3]), Toy([[1, 1, 9, 1] + [9] * 28])
    over = np.isin(batch.jobs.row, [1, 2])
    before = live(batch)
    batch.judge(over, toy.finish)
    assert toy.finishes == [2]  # two are looked at, whatever the size
    said, held = numbers(batch)
    found = dict(zip(said, np.asarray(ops.convert_to_numpy(batch.rows.found)), strict=True))
    assert found[1] and not found[0] and not found[2] and not found[3]
    assert all(row == own for row, own in zip(said, held, strict=True) if row >= 0)
    assert live(batch) == before


def test_powers_of_two():
    assert [power_of_two(count) for count in (1, 2, 3, 4, 5, 64, 65)] == [1, 2, 4, 4, 8, 64, 128]
