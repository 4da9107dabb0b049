"""Plans: what runs beside what, and what is left out."""

import numpy as np
import pytest

import advex
from advex.attacks.verdict import Cascade, doubtful, near, nearest
from advex.driver.plan import Run, Wave, forked, gathered, one_by_one, sensible

PGD = advex.PGD()


def shape(attack, budget=None):
    """(attack's name, number of runs) of each wave."""
    waves = attack.plan(budget)
    return [(type(wave.attack).__name__, len(wave.runs)) for wave in waves]


def test_a_leaf_is_one_run():
    assert PGD.plan() == [Wave((Run(PGD),))]
    assert isinstance(PGD, advex.Attack)


def test_the_first_run_of_an_attack_stays_alone():
    assert shape(advex.Restarts(PGD, 4)) == [("PGD", 1), ("PGD", 3)]
    assert shape(advex.EveryTarget(PGD, 3)) == [("PGD", 1), ("PGD", 2)]
    assert shape(advex.EveryTarget(advex.Restarts(PGD, 3), 2)) == [("PGD", 1), ("PGD", 5)]
    both = advex.Ensemble(advex.FGSM(), PGD, advex.Restarts(PGD, 3))
    assert shape(both) == [("FGSM", 1), ("PGD", 1), ("PGD", 3)]


def test_runs_that_cannot_be_told_apart_by_numbers_never_share_a_wave():
    other = advex.PGD()
    assert shape(advex.Ensemble(PGD, other, PGD, other)) == [("PGD", 1)] * 4
    first, *rest = (Wave((Run(PGD, begin=begin, steps=2),)) for begin in (0, 2, 4))
    assert gathered([first, *rest]) == [first, *rest]  # a part goes on where the other has ended
    waves = [Wave((Run(PGD, salt=salt),), warm=salt > 1) for salt in range(3)]
    assert gathered(waves) == waves
    some = [Wave((Run(PGD, salt=salt),), who=doubtful if salt else None) for salt in range(3)]
    assert [len(wave.runs) for wave in gathered(some)] == [1, 2]
    aimed = [Wave((Run(PGD, salt=salt, rank=salt or None),)) for salt in (0, 0, 1)]
    assert [len(wave.runs) for wave in gathered(aimed)] == [1, 1, 1]


def test_one_by_one_keeps_order_and_everything_else():
    waves = [Wave((Run(PGD, salt=1), Run(PGD, salt=2)), who=near, warm=True)]
    assert one_by_one(waves) == [Wave((run,), who=near, warm=True) for run in waves[0].runs]


def test_no_two_runs_draw_the_same_numbers():
    attacks = [
        advex.Restarts(PGD, 3),
        advex.EveryTarget(advex.Restarts(PGD, 2), 3),
        advex.Restarts(advex.EveryTarget(PGD, 3), 2),
        advex.Ensemble(PGD, PGD),
    ]
    for attack in attacks:
        runs = [run for wave in attack.plan() for run in wave.runs]
        drawn = {(run.salt, run.rank) for run in runs}
        assert len(drawn) == len(runs) and runs[0].salt == 0, attack
    repeated = [run.repetition for wave in advex.Restarts(PGD, 3).plan() for run in wave.runs]
    assert repeated == [0, 1, 2]


def labels():
    return advex.Untargeted(np.zeros(2, "int32"))


def test_targets_that_do_not_exist_are_left_out_and_said():
    notes = []
    waves = sensible(advex.EveryTarget(PGD, 9).plan(), labels(), 3, notes)
    assert [run.rank for wave in waves for run in wave.runs] == [0, 1, 2]
    assert notes == ["The model has only 3 wrong classes: each of them was tried as a target."]
    notes = []
    waves = sensible(advex.EveryTarget(PGD, 9).plan(), labels(), 1, notes)
    assert [len(wave.runs) for wave in waves] == [1]  # no wave without runs


def test_a_goal_with_a_target_is_pursued_once():
    notes = []
    goal = advex.Targeted(np.zeros(2, "int32"))
    waves = sensible(advex.EveryTarget(advex.Restarts(PGD, 2), 9).plan(), goal, 3, notes)
    assert [(run.rank, run.repetition) for wave in waves for run in wave.runs] == [
        (None, 0),
        (None, 1),
    ]
    assert not notes


def test_each_way_to_a_goal_has_runs_that_draw_what_they_draw_alone():
    goal = advex.Regression(np.zeros(2, "float32"), off=1)
    alone = advex.Restarts(PGD, 3).plan()
    sent = [run for wave in forked(alone, goal, 2) for run in wave.runs]
    assert sorted((run.salt, run.rank) for run in sent) == [
        (salt, rank) for salt in range(3) for rank in range(2)
    ]
    assert forked(alone, advex.Regression(above=1), 0) == alone
    single = forked(alone, advex.AnyOf(advex.Regression(above=1)), 1)
    assert {run.rank for wave in single for run in wave.runs} == {0}


def test_waves_that_go_on_follow_those_of_their_own_way():
    """They take over the notes of the waves before them, which may not be those of another way."""
    goal = advex.Regression(np.zeros(2, "float32"), off=1)
    waves = forked(advex.Verdict().plan(advex.Linf(0.1)), goal, 2)
    told = [(wave.runs[0].begin, wave.runs[0].rank) for wave in waves[:10]]
    begins = [wave.runs[0].begin for wave in advex.Verdict().plan(advex.Linf(0.1))[:5]]
    assert told == [(begin, way) for way in range(2) for begin in begins]


def test_verdict_is_a_table_of_waves():
    waves = advex.Verdict().plan(advex.Linf(0.1))
    cascade, thorough = waves[:5], waves[5:]
    assert [len(wave.runs) for wave in cascade] == [1, 9, 1, 13, 14]
    assert [wave.who for wave in cascade] == [None, None, None, near, nearest]
    assert all(wave.attack == Cascade() and not wave.aimed for wave in cascade)
    runs = [run for wave in cascade for run in wave.runs]
    assert [run.begin for run in runs] == np.cumsum([0, *(run.steps for run in runs)])[:-1].tolist()
    assert sum(run.steps for run in runs) == Cascade.steps
    assert all(run.numbers["begin"] == run.begin for run in runs)
    assert all(wave.who is doubtful for wave in thorough)
    alone = advex.AutoAttack().plan(advex.Linf(0.1))
    assert [wave.attack for wave in thorough] == [wave.attack for wave in alone]


@pytest.mark.parametrize("composite", [advex.Restarts(PGD, 2), advex.AutoAttack(), advex.Verdict()])
def test_composites_are_attacks_that_take_no_step(composite):
    assert isinstance(composite, advex.Attack) and issubclass(type(composite), advex.Attack)
    assert not any(hasattr(composite, name) for name in ("init", "step", "done", "steps"))
