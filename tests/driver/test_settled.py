"""What rounding leads outside of the budget is pulled inside, and loses nothing else by it."""

import numpy as np
import pytest

import advex
from advex._inputs import Part
from advex._space import Space


@pytest.fixture
def months():
    """A feature with a range of 66 whole numbers beside one with a range of 50,000."""
    domain = advex.Domain([6, 0], [72, 5e4], integer=[True, False], repair=lambda x: x)
    return Space([Part("", (2,), np.dtype("float64"), domain)], np.dtype("float64"), None)


def test_whole_steps_are_kept_where_another_feature_is_a_hair_outside(months):
    x0 = np.array([[30.0, 2e4]])
    out = x0 + np.array([3.0, 2500.00001])
    assert not months.within(out, x0, advex.Linf(0.05)).any()
    made = months.settled(out, x0, advex.Linf(0.05))
    assert months.within(made, x0, advex.Linf(0.05)).all()
    assert made[0, 0] == 33 and made[0, 1] == pytest.approx(22500, abs=1)


def test_whole_steps_go_where_they_are_what_is_outside(months):
    x0 = np.array([[30.0, 2e4]])
    made = months.settled(x0 + np.array([4.0, 100.0]), x0, advex.Linf(0.05))
    assert months.within(made, x0, advex.Linf(0.05)).all()
    assert made[0, 0] == np.rint(made[0, 0]) and 30 < made[0, 0] <= 33
