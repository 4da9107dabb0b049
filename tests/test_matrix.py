"""Every attack in every norm, with and without a limit, on bytes and floats: called, evaluated and
behind another attack.

The promises are those of ``check_attack``; here it is the breadth that counts. Rows wait, join,
leave and are filled up in every cell. ``make test`` runs a covering part, ``make matrix``
(ADVEX_MATRIX=all) every cell on the three backends.
"""

import inspect
import itertools
import os
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pytest

import advex
from advex.attacks.autoattack import VERSIONS
from advex.errors import AdvexError, AdvexWarning
from advex.testing.exact import inside

pytestmark = pytest.mark.backends

BACKEND = keras.backend.backend()
WHOLE = os.environ.get("ADVEX_MATRIX") == "all"
CLASSES, COUNT, WRONG = 4, 11, 5
WAITING = 4  # a batch: rows wait, join and leave
# evaluate, which fills batches up to multiples of a sixteenth of it: here with nearly as many as
# there are rows
FILLED = 256
TIGHT = {"Linf": advex.Linf(0.05), "L2": advex.L2(0.2), "L1": advex.L1(0.6), "L0": advex.L0(1)}
SAID = ("status", "broken_by", "gradients", "queries", "distance")
# The attacks without settings of their own take thousands of steps on rows that stand: there nearly
# all fall at once.
WIDE = {"Linf": advex.Linf(0.4), "L2": advex.L2(1.6), "L1": advex.L1(6), "L0": advex.L0(8)}
# A little below what one of the rows needs: it stands, so near to the boundary that every part of
# Verdict has its turn.
NEAR = {
    "Linf": advex.Linf(0.0717),
    "L2": advex.L2(0.2375),
    "L1": advex.L1(0.449),
    "L0": advex.L0(1),
}


@dataclass(frozen=True)
class Entry:
    """An attack in the matrix.

    Args:
        attack: with so few steps that compiling takes most of the time.
        alike: a row fares the same behind another attack as alone: nothing is drawn, and nothing
            begins where others ended.
        long: takes so many steps, without a limit at least, that only the whole matrix has it
            there.
        budgets: within which limits.
        waiting: the size of a batch in which rows wait for others.
    """

    attack: advex.Attack
    alike: bool = True
    long: bool = False
    budgets: Any = None
    waiting: int = WAITING


def _shifted(problem: advex.Problem, x: Any) -> Any:
    return x * 0.98 + 0.01


ENTRIES = {
    "FGSM": Entry(advex.FGSM()),
    "GradientAscent": Entry(advex.GradientAscent(steps=4, learning_rate=0.5)),
    "BIM": Entry(advex.BIM(steps=4)),
    "PGD": Entry(advex.PGD(steps=4), alike=False),
    "MomentumIterative": Entry(advex.MomentumIterative(steps=4)),
    "NesterovIterative": Entry(advex.NesterovIterative(steps=4)),
    "fine": Entry(advex.fine(4)),
    "APGD": Entry(advex.APGD(steps=6), alike=False),
    "APGD wide": Entry(
        advex.APGD(steps=10, loss=advex.losses.dlr, radii=(3.0, 2.0, 1.0)), alike=False
    ),
    "FAB": Entry(advex.FAB(steps=4)),
    "SquareAttack": Entry(advex.SquareAttack(steps=30), alike=False),
    "HopSkipJump": Entry(advex.HopSkipJump(steps=60, probes=20), alike=False),
    "CGBA": Entry(advex.CGBA(steps=60), alike=False),
    "RayS": Entry(advex.RayS(steps=40), alike=False),
    "Pointwise": Entry(advex.Pointwise(steps=40), alike=False),
    "SurFree": Entry(advex.SurFree(steps=40), alike=False),
    "NES": Entry(advex.NES(steps=40, pairs=5), alike=False),
    "SPSA": Entry(advex.SPSA(steps=40, pairs=5, step_size=0.05), alike=False),
    "SimBA": Entry(advex.SimBA(steps=40), alike=False),
    "SimBA waves": Entry(advex.SimBA(steps=40, basis="dct"), alike=False),
    "SparseRS": Entry(advex.SparseRS(steps=40), alike=False),
    "DDN": Entry(advex.DDN(steps=8, radius=0.1)),
    "FMN": Entry(advex.FMN(steps=6)),
    "ALMA": Entry(advex.ALMA(steps=12)),
    "PDGD": Entry(advex.PDGD(steps=12)),
    "PDPGD": Entry(advex.PDPGD(steps=12, price=1e-2)),
    "SigmaZero": Entry(advex.SigmaZero(steps=12)),
    "CarliniWagner": Entry(advex.CarliniWagner(steps=24, rounds_of=8, searches=2, step_size=0.05)),
    "ElasticNet": Entry(advex.ElasticNet(steps=12, searches=2, step_size=0.1)),
    "DeepFool": Entry(advex.DeepFool(steps=6)),
    "DeepFool 1": Entry(
        advex.DeepFool(steps=4, classes=1)
    ),  # as many classes as are asked for are looked at, not all
    "JSMA": Entry(advex.JSMA(steps=4)),
    "Restarts": Entry(advex.Restarts(advex.PGD(steps=4), 3), alike=False),
    "EveryTarget": Entry(
        advex.EveryTarget(advex.BIM(steps=4, loss=advex.losses.dlr), 9)
    ),  # nine, and three wrong classes
    "Ensemble": Entry(
        advex.Ensemble(advex.BIM(steps=4), advex.Restarts(advex.PGD(steps=4), 2)), alike=False
    ),
    "AveragedGradient": Entry(advex.AveragedGradient(advex.BIM(steps=4), _shifted, 2)),
    "MinimumNorm": Entry(advex.MinimumNorm(), alike=False, long=True, budgets=WIDE),
    **{
        f"MinimumNorm {norm}": Entry(advex.MinimumNorm(norm), alike=False, long=True, budgets=WIDE)
        for norm in ("Linf", "L2", "L1", "L0")
    },
    **{
        f"AutoAttack {version}": Entry(
            advex.AutoAttack(version), alike=False, long=version != "standard", budgets=WIDE
        )
        for version in VERSIONS
    },
    "Verdict": Entry(
        advex.Verdict(), alike=False, budgets=NEAR, waiting=16
    ),  # its runs side by side wait,
}


@dataclass(frozen=True)
class Cell:
    """What is tried: an attack within a limit, or with none, on inputs of one kind."""

    name: str
    norm: str
    limited: bool
    kind: str

    @property
    def entry(self) -> Entry:
        return ENTRIES[self.name]

    @property
    def budget(self) -> advex.Budget:
        limits = self.entry.budgets or TIGHT
        return limits[self.norm] if self.limited else type(limits[self.norm])()

    def __str__(self) -> str:
        return f"{self.norm}{'' if self.limited else '()'}-{self.kind}-{self.name}".replace(
            " ", "_"
        )


def _accepted(cell: Cell) -> bool:
    try:
        cell.entry.attack.check(advex.Untargeted(np.zeros(1, "int32")), cell.budget)
    except advex.errors.InvalidInput:
        return False
    return True


# Norm and kind outside, so that the attack in front is compiled once for all who stand behind it.
EVERY = [
    Cell(name, norm, limited, kind)
    for norm, kind, limited, name in itertools.product(
        TIGHT, ("uint8", "float32"), (True, False), ENTRIES
    )
]
CELLS = [cell for cell in EVERY if _accepted(cell)]


def covering(cells: Iterable[Cell], wanted: Callable[[Cell], set[Any]]) -> list[Cell]:
    """Cells, as few as a greedy choice finds, that have all that is ``wanted`` of any."""
    left, chosen = list(cells), []
    missing = set().union(*map(wanted, left))
    while missing:
        best = max(left, key=lambda cell: len(wanted(cell) & missing))  # the first of those
        chosen.append(best)
        missing -= wanted(best)
    return sorted(chosen, key=CELLS.index)


def wanted(cell: Cell) -> set[Any]:
    """Every attack; beside it every norm with every limit and kind, and every limit with every
    kind.

    On JAX, where each cell is seconds of compiling, one entry of each class of attacks is enough.
    """
    name = type(cell.entry.attack).__name__ if BACKEND == "jax" else cell.name
    return {name, *itertools.combinations((("norm", cell.norm), cell.limited, cell.kind), 2)}


def chosen(backend: str = BACKEND) -> list[Cell]:
    """All cells, or those of ``make test``: a covering one, another on every backend, as nearly all
    of it is the same code.
    """
    if WHOLE:
        return CELLS
    # Verdict, by far the longest, on TensorFlow alone: all that it consists of is in other cells.
    short = [cell for cell in CELLS if backend == "tensorflow" or cell.name != "Verdict"]
    quick = [
        cell for cell in short if not cell.entry.long or (cell.limited and " " not in cell.name)
    ]
    begin = ("tensorflow", "jax", "torch").index(backend) * len(quick) // 3
    return covering([*quick[begin:], *quick[:begin]], wanted)


@pytest.fixture(scope="module")
def model() -> keras.Model:
    """A network so small that nothing but the attacks takes time; its 4 classes are what DLR with a
    target needs.
    """
    generator = np.random.default_rng(3)
    layers = [
        keras.layers.Flatten(),
        keras.layers.Dense(6, activation="tanh"),
        keras.layers.Dense(CLASSES),
    ]
    model = keras.Sequential([keras.Input((4, 4, 1)), *layers])
    scales = (0.8, 0.3, 0.8, 0.1)
    weights = [
        generator.normal(size=w.shape) * scale
        for w, scale in zip(model.get_weights(), scales, strict=True)
    ]
    model.set_weights([w.astype("float32") for w in weights])
    return model


@pytest.fixture(scope="module")
def data(model):
    levels = np.random.default_rng(0).integers(0, 256, (COUNT, 4, 4, 1)).astype("uint8")
    levels[1] = levels[0]  # equal rows
    labels = answers(model, levels)
    labels[WRONG] = (labels[WRONG] + 1) % CLASSES
    return levels, labels


def answers(model: keras.Model, x: Any) -> Any:
    """What the model itself says to each row alone."""
    seen = x.astype("float32") / np.float32(255) if x.dtype == np.uint8 else x
    return np.array(
        [
            np.asarray(keras.ops.convert_to_numpy(model(row[None], training=False)))[0].argmax()
            for row in seen
        ]
    )


def measured(x: Any, x0: Any, norm: str) -> Any:
    """Sizes of changes in float64, in units of the box's range."""
    change = np.abs(x.astype("float64") - x0.astype("float64")).reshape(len(x), -1) / (
        255 if x.dtype == np.uint8 else 1
    )
    return {
        "Linf": change.max(1),
        "L2": np.sqrt(np.square(change).sum(1)),
        "L1": change.sum(1),
        "L0": (change != 0).sum(1),
    }[norm]


def most(attack: advex.Attack, budget: advex.Budget) -> int:
    """Queries that an attack may spend on a row: two a step, or one for each look, and a few before
    and after.
    """
    waves = attack.plan(budget)
    looks = 20 if "Averag" in repr(waves) else 1
    runs = [run for wave in waves for run in wave.runs]
    return sum((2 * looks + 1) * (run.end - run.begin) + 4 for run in runs)


def one_by_one(attack: advex.Attack, budget: advex.Budget) -> bool:
    """Whether the runs of an attack come one after the other."""
    return not budget.limited or all(len(wave.runs) == 1 for wave in attack.plan(budget))


def demand_contract(
    result: advex.Result, cell: Cell, attack: advex.Attack, model: keras.Model, x: Any, labels: Any
) -> None:
    """What every call promises."""
    assert (
        result.x.dtype == x.dtype
        and result.x.shape == x.shape
        and np.isfinite(result.x.astype("float64")).all()
    )
    if cell.limited:
        assert inside(result.x, x, cell.budget)
        assert (result.distance[result.success] <= cell.budget.epsilon).all()
    assert cell.kind == "uint8" or (result.x.min() >= 0 and result.x.max() <= 1)
    now = answers(model, result.x)
    assert (now == result.prediction).all()
    assert (now != labels)[result.success].all()
    failed = ~result.success
    assert (
        (result.x[failed] == x[failed]).all()
        and (now == labels)[failed].all()
        and np.isinf(result.distance[failed]).all()
    )
    np.testing.assert_allclose(
        result.distance[~failed], measured(result.x, x, cell.norm)[~failed], rtol=1e-12, atol=0
    )
    assert result.success[WRONG] and result.distance[WRONG] == 0 and result.gradients[WRONG] == 0
    assert result.queries[WRONG] == 1 and (
        result.broken_by[WRONG],
        result.broken_by[failed].tolist(),
    ) == (
        "clean",
        [""] * failed.sum(),
    )
    rest = np.arange(COUNT) != WRONG
    assert (result.queries[rest] >= 2).all() and (result.queries <= most(attack, cell.budget)).all()
    gradients = any(wave.attack.needs_gradient for wave in attack.plan(cell.budget))
    assert ((result.gradients[rest] > 0) == gradients).all()
    # kernels round the rows of a batch differently
    near = 1e-3 if cell.entry.long and not cell.limited else 1e-5
    near *= 255 if cell.kind == "uint8" else 1
    assert (
        np.abs(result.x[0].astype("float64") - result.x[1]).max() <= near
        and result.success[0] == result.success[1]
    )
    assert result.queries[0] == result.queries[1] or not one_by_one(attack, cell.budget)
    assert not result.info["invalid"]


@pytest.mark.parametrize("cell", chosen(), ids=str)
def test_every_way_of_calling(cell, model, data):
    levels, labels = data
    x = levels if cell.kind == "uint8" else (levels / 255).astype("float32")
    held = x.tobytes(), labels.tobytes(), [w.tobytes() for w in model.get_weights()]
    attack, budget = cell.entry.attack, cell.budget
    behind = advex.Ensemble(
        advex.FGSM() if cell.limited else advex.GradientAscent(steps=2, learning_rate=0.5), attack
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AdvexWarning)
        alone = attack(model, x, labels, budget, batch_size=cell.entry.waiting)
        follows = behind(model, x, labels, budget, batch_size=cell.entry.waiting)
        # On JAX another size of a batch is compiled anew, and all batches are filled up to the
        # whole size.
        size = cell.entry.waiting if BACKEND == "jax" and not WHOLE else FILLED
        found = advex.evaluate(
            model,
            (x, labels),
            {"alone": attack, "behind": behind},
            budget,
            diagnose=False,
            batch_size=size,
            progress=False,
        )
    demand_contract(alone, cell, attack, model, x, labels)
    demand_contract(follows, cell, behind, model, x, labels)
    assert not (alone.info["fragile"] or follows.info["fragile"])

    rows = list(found.rows())
    right = np.arange(COUNT) != WRONG
    for name, tried, result in (("alone", attack, alone), ("behind", behind, follows)):
        said = {
            what: [rows[place][f"{name}.{what}"] for place in np.flatnonzero(right)]
            for what in SAID
        }
        assert [status == "broken" for status in said["status"]] == result.success[right].tolist()
        if cell.limited:
            assert said["broken_by"] == result.broken_by[right].tolist()
        # of two members that come equally near, rounding decides, and with it the size of a batch
        else:
            assert {*said["broken_by"], *result.broken_by[right]} <= {
                "",
                "clean",
                *(run.label for wave in tried.plan(budget) for run in wave.runs),
            }
        # How many runs side by side a row was in before one of them broke it depends on the room
        # there was.
        same = ~result.success[right] | one_by_one(tried, budget)
        for what in ("gradients", "queries"):
            assert (np.array(said[what]) == getattr(result, what)[right])[same].all(), what
        distances = np.array(
            [np.inf if distance is None else distance for distance in said["distance"]]
        )
        # Over hundreds of steps down to the boundary, what kernels round differently in batches of
        # another size adds up.
        near = 1e-3 if cell.entry.long and not cell.limited else 1e-5
        np.testing.assert_allclose(distances, result.distance[right], rtol=near, atol=1e-5)
    assert [row["verdict"] for row in rows] == [
        "wrong" if place == WRONG else "broken" if broken else "held"
        for place, broken in enumerate(alone.success | follows.success)
    ]

    first = np.char.startswith(follows.broken_by, behind.attacks[0].plan()[0].runs[0].label)
    if cell.entry.alike and cell.limited:
        assert (follows.success == (first | alone.success)).all()
    elif cell.entry.alike:
        assert (follows.distance <= alone.distance * (1 + 1e-5)).all()
    assert held == (x.tobytes(), labels.tobytes(), [w.tobytes() for w in model.get_weights()])


def test_the_matrix_is_complete():
    known = {type(entry.attack).__name__ for entry in ENTRIES.values()} | set(ENTRIES)
    known |= {"SEA", "SegPGD"}  # of maps alone: attacks/test_segmentation
    for name in {*advex.attacks.__all__, *advex.__all__}:
        value = getattr(advex, name)
        if inspect.isclass(value) and issubclass(value, advex.Attack) and value is not advex.Attack:
            assert name in known, f"{name} is missing from ENTRIES"
        elif inspect.isfunction(value) and name in advex.attacks.__all__:
            assert isinstance(value(), advex.Attack) and name in known, (
                f"{name} is missing from ENTRIES"
            )
    norms = {
        name
        for name in advex.__all__
        if inspect.isclass(value := getattr(advex, name)) and issubclass(value, advex.Budget)
    }
    assert norms - {"Budget"} == set(TIGHT) == set(WIDE)
    assert {cell.name for cell in CELLS} == set(ENTRIES)
    part = chosen()
    left = set() if WHOLE or BACKEND == "tensorflow" else {"Verdict"}
    assert {type(cell.entry.attack) for cell in part} == {
        type(entry.attack) for name, entry in ENTRIES.items() if name not in left
    }
    assert {(cell.norm, cell.limited, cell.kind) for cell in CELLS} == set(
        itertools.product(TIGHT, (True, False), ("uint8", "float32"))
    )
    assert set().union(*map(wanted, part)) >= set().union(*map(wanted, CELLS)) - {
        name for name, entry in ENTRIES.items() if entry.long or name in left
    }


@pytest.mark.parametrize(
    "cell", [cell for cell in EVERY if not _accepted(cell)][:: 1 if WHOLE else 7], ids=str
)
def test_what_is_refused_is_refused_at_the_call(cell, model, data):
    levels, labels = data
    for attempt in (
        lambda attack: attack(model, levels, labels, cell.budget),
        lambda attack: advex.evaluate(model, (levels, labels), attack, cell.budget, diagnose=False),
        lambda attack: advex.Ensemble(attack)(model, levels, labels, cell.budget),
    ):
        with pytest.raises(AdvexError):
            attempt(cell.entry.attack)
