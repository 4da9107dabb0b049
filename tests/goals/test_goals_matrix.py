"""Every attack with every goal that it takes, on tiny models of both kinds.

Whether a row is a success is decided here: by plain Keras and by NumPy, never by advex' goals.
``make test`` runs a covering part, ``make matrix`` every cell.
"""

import functools
import os
import warnings
from dataclasses import dataclass

import keras
import numpy as np
import pytest
from keras import ops

import advex
from advex.errors import AdvexError, AdvexWarning
from advex.testing.exact import inside

pytestmark = pytest.mark.backends

BACKEND = keras.backend.backend()
WHOLE = os.environ.get("ADVEX_MATRIX") == "all"
COUNT, NEAR = 6, 2e-6
LIMITS = {"Linf": advex.Linf(0.06), "L2": advex.L2(0.15), "L1": advex.L1(0.4), "L0": advex.L0(1)}
ENTRIES = {
    "FGSM": advex.FGSM(),
    "GradientAscent": advex.GradientAscent(steps=3, learning_rate=0.5),
    "BIM": advex.BIM(steps=3),
    "PGD": advex.PGD(steps=3),
    "MomentumIterative": advex.MomentumIterative(steps=3),
    "NesterovIterative": advex.NesterovIterative(steps=3),
    "fine": advex.fine(3),
    "APGD": advex.APGD(steps=5),
    "APGD dlr": advex.APGD(steps=5, loss=advex.losses.dlr),
    "FAB": advex.FAB(steps=4),
    "SquareAttack": advex.SquareAttack(steps=20),
    "DDN": advex.DDN(steps=6, radius=0.1),
    "FMN": advex.FMN(steps=5),
    "ALMA": advex.ALMA(steps=8),
    "PDGD": advex.PDGD(steps=8),
    "PDPGD": advex.PDPGD(steps=8),
    "SigmaZero": advex.SigmaZero(steps=8),
    "CarliniWagner": advex.CarliniWagner(steps=12, rounds_of=6, searches=2, step_size=0.05),
    "ElasticNet": advex.ElasticNet(steps=8, searches=2, step_size=0.1),
    "DeepFool": advex.DeepFool(steps=5),
    "JSMA": advex.JSMA(steps=3),
    "Restarts": advex.Restarts(advex.PGD(steps=2), 2),
    "EveryTarget": advex.EveryTarget(advex.BIM(steps=2), 3),
    "Ensemble": advex.Ensemble(advex.FGSM(), advex.PGD(steps=2)),
    "AveragedGradient": advex.AveragedGradient(advex.BIM(steps=2), None, 2),
    "MinimumNorm": advex.MinimumNorm(),
    "AutoAttack": advex.AutoAttack(),
    "Verdict": advex.Verdict(),
}
SMALLEST = {
    "FAB",
    "DDN",
    "FMN",
    "ALMA",
    "PDGD",
    "PDPGD",
    "SigmaZero",
    "CarliniWagner",
    "ElasticNet",
    "DeepFool",
    "MinimumNorm",
    "AutoAttack",
}
LONG = ("MinimumNorm", "AutoAttack", "Verdict")  # thousands of steps on rows that hold


class Plain(keras.Model):
    """A subclassed model with the layers of a functional one."""

    def __init__(self, body, heads):
        super().__init__()
        self.body, self.heads = list(body), heads

    def call(self, x):
        for layer in self.body:
            x = layer(x)
        if isinstance(self.heads, dict):
            return {name: head(x) for name, head in self.heads.items()}
        return self.heads(x)


def built(subclassed, body, heads, shape, seed):
    """The model, with fixed random weights that no class is favoured by."""
    if subclassed:
        model = Plain(body, heads)
        model(ops.zeros((1, *shape)))
    else:
        hold = keras.Input(shape)
        x = hold
        for layer in body:
            x = layer(x)
        out = {n: h(x) for n, h in heads.items()} if isinstance(heads, dict) else heads(x)
        model = keras.Model(hold, out)
    generator = np.random.default_rng(seed)
    every = [*body, *(heads.values() if isinstance(heads, dict) else [heads])]
    for layer in every:  # in an order that both kinds have
        layer.set_weights(
            [(generator.normal(size=w.shape)).astype("float32") for w in layer.get_weights()]
        )
    return model


@functools.cache
def scene(kind, subclassed):
    """Model, inputs and what it answers to them."""
    layers = keras.layers
    if kind == "map":
        shape = (4, 4, 2)
        body = [layers.Conv2D(4, 3, padding="same", activation="tanh")]
        heads = layers.Conv2D(3, 1)
    elif kind == "picture":
        shape = (4, 4, 2)
        body = [layers.Flatten(), layers.Dense(5, activation="tanh")]
        heads = layers.Dense(4)
    else:
        shape = (6,)
        body = [layers.Dense(5, activation="tanh")]
        heads = {
            "table": lambda: layers.Dense(4),
            "number": lambda: layers.Dense(1),
            "two": lambda: {"age": layers.Dense(1), "sex": layers.Dense(3)},
        }[kind]()
    model = built(subclassed, body, heads, shape, 3)
    levels = np.random.default_rng(5).integers(0, 256, (COUNT, *shape)).astype("uint8")
    return model, levels, answer(model, levels)


def answer(model, x):
    """What the model itself says, by plain Keras."""
    x = x.astype("float32") / np.float32(255) if x.dtype == np.uint8 else x.astype("float32")
    told = model(ops.convert_to_tensor(x), training=False)
    return keras.tree.map_structure(lambda leaf: np.asarray(ops.convert_to_numpy(leaf)), told)


def beside(z, labels):
    """The best other score less the own one."""
    own = np.take_along_axis(z, labels[..., None], axis=-1)[..., 0]
    return np.where(np.arange(z.shape[-1]) == labels[..., None], -np.inf, z).max(-1) - own


@dataclass(frozen=True, eq=False)
class Mean(advex.Goal):
    """A goal of one's own."""

    limit: np.ndarray
    reads = "raw"  # one unit of scores would be two classes

    def margin(self, logits):
        leaves = keras.tree.flatten(logits)
        return (
            sum(ops.mean(ops.reshape(leaf, (ops.shape(leaf)[0], -1)), axis=1) for leaf in leaves)
            - self.limit
        )


def average(z):
    return sum(leaf.reshape(len(leaf), -1).mean(1) for leaf in keras.tree.flatten(z))


def decided(z, share):
    """The gain of the pixel that a share ends with, from gains (n, h, w)."""
    flat = -np.sort(-z.reshape(len(z), -1), axis=1)
    return flat[:, int(np.ceil(share * flat.shape[1])) - 1]


def flips(z, there, chosen, keep=False):
    gains = np.where(there, -z, z)
    rest = [n for n in range(z.shape[1]) if n not in chosen]
    least = gains[:, chosen].min(1)
    return np.minimum(least, (-gains[:, rest]).min(1)) if keep and rest else least


def years(z, z0):
    return np.abs(z["age"] - z0["age"])[:, 0] - 0.3


def kinds(z, z0):
    return beside(z["sex"], z0["sex"].argmax(1))


# Goal -> the kind of model, the goal, and what is above 0 where it is reached: of the clean answer
GOALS = {
    "Untargeted": (
        "picture",
        lambda z0: advex.Untargeted(z0.argmax(1)),
        lambda z, z0: beside(z, z0.argmax(1)),
    ),
    "Targeted": (
        "picture",
        lambda z0: advex.Targeted(z0.argmin(1)),
        lambda z, z0: -beside(z, z0.argmin(1)),
    ),
    "TopK": (
        "table",
        lambda z0: advex.TopK(z0.argmax(1), k=2),
        lambda z, z0: (
            -np.sort(-np.where(np.arange(4) == z0.argmax(1)[:, None], -np.inf, z))[:, 1]
            - z[np.arange(COUNT)[: len(z)], z0.argmax(1)]
        ),
    ),
    "MultiLabel any": (
        "picture",
        lambda z0: advex.MultiLabel(z0 > 0),
        lambda z, z0: np.where(z0 > 0, -z, z).max(1),
    ),
    "MultiLabel set": (
        "table",
        lambda z0: advex.MultiLabel(z0 > 0, flip=[0, 2], keep=True),
        lambda z, z0: flips(z, z0 > 0, [0, 2], keep=True),
    ),
    "MultiLabel all": (
        "table",
        lambda z0: advex.MultiLabel(flip="all"),
        lambda z, z0: flips(z, z0 > 0, [0, 1, 2, 3]),
    ),
    "Regression off": (
        "number",
        lambda z0: advex.Regression(z0, off=0.3),
        lambda z, z0: np.abs(z - z0)[:, 0] - 0.3,
    ),
    "Regression above": (
        "number",
        lambda z0: advex.Regression(above=z0[:, 0] + 0.2),
        lambda z, z0: (z - z0)[:, 0] - 0.2,
    ),
    "Regression below": (
        "number",
        lambda z0: advex.Regression(z0, below=z0[:, 0] - 0.2),
        lambda z, z0: (z0 - z)[:, 0] - 0.2,
    ),
    "Segmentation": (
        "map",
        lambda z0: advex.Segmentation(z0.argmax(3), share=0.25),
        lambda z, z0: decided(beside(z, z0.argmax(3)), 0.25),
    ),
    "Segmentation targeted": (
        "map",
        lambda z0: advex.Segmentation(z0.argmin(3), share=0.1, targeted=True),
        lambda z, z0: decided(-beside(z, z0.argmin(3)), 0.1),
    ),
    "AnyOf": (
        "two",
        lambda z0: advex.AnyOf(
            advex.Output("age", advex.Regression(z0["age"], off=0.3)),
            advex.Output("sex", z0["sex"].argmax(1)),
        ),
        lambda z, z0: np.maximum(years(z, z0), kinds(z, z0)),
    ),
    "AllOf": (
        "two",
        lambda z0: advex.AllOf(
            advex.Output("age", advex.Regression(off=0.3)),
            advex.Output("sex", z0["sex"].argmax(1)),
        ),
        lambda z, z0: np.minimum(years(z, z0), kinds(z, z0)),
    ),
    "Output": ("two", lambda z0: advex.Output("sex", z0["sex"].argmax(1)), kinds),
    "own": (
        "map",
        lambda z0: Mean(average(z0) + 0.1),
        lambda z, z0: average(z) - average(z0) - 0.1,
    ),
    "own of two": (
        "two",
        lambda z0: Mean(average(z0) + 0.1),
        lambda z, z0: average(z) - average(z0) - 0.1,
    ),
}


@dataclass(frozen=True)
class Cell:
    """An attack, a goal, a norm, the kind of model and of input."""

    attack: str
    goal: str
    norm: str
    subclassed: bool
    dtype: str

    @property
    def budget(self):
        return LIMITS[self.norm]

    def __str__(self):
        kind = "subclassed" if self.subclassed else "functional"
        return f"{self.attack}-{self.goal}-{self.norm}-{kind}-{self.dtype}".replace(" ", "_")


def taken(attack, goal, budget):
    try:
        attack.check(goal, budget)
    except AdvexError:
        return False
    return True


def a_goal(name):
    kind, make, _ = GOALS[name]
    return make(scene(kind, False)[2])


def every():
    """All cells that are taken; the norm, the kind of model and the dtype go round."""
    for place, (name, attack) in enumerate(ENTRIES.items()):
        norms = [norm for norm in LIMITS if taken(attack, None, LIMITS[norm])]
        for number, goal in enumerate(GOALS):
            for norm in norms if WHOLE else [norms[(place + number) % len(norms)]]:
                turn = place + 2 * number + norms.index(norm)
                dtypes = (
                    ("float32", "uint8", "float64")
                    if GOALS[goal][0] in ("map", "picture")
                    else ("float32", "float64")
                )
                yield Cell(name, goal, norm, turn % 2 == 1, dtypes[turn % len(dtypes)])


def chosen():
    """All, or so many that each attack and each goal has its turn; another part on each backend."""
    cells = list(every())
    if WHOLE:
        return cells
    shift = ("tensorflow", "jax", "torch").index(BACKEND)
    step = {"tensorflow": 13, "jax": 41, "torch": 13}[BACKEND]
    return [cell for cell in cells if cell.attack not in LONG][shift::step] + [
        cell for cell in cells if cell.attack in LONG and BACKEND == "tensorflow"
    ][shift::23]


@pytest.mark.parametrize("cell", chosen(), ids=str)
def test_every_attack_with_every_goal(cell):
    attack, (kind, make, decide) = ENTRIES[cell.attack], GOALS[cell.goal]
    model, levels, _ = scene(kind, cell.subclassed)
    x = levels if cell.dtype == "uint8" else (levels / 255).astype("float32").astype(cell.dtype)
    before = answer(model, x)
    goal = make(before)
    if not taken(attack, goal, cell.budget):
        with pytest.raises(AdvexError) as caught:
            attack(model, x, goal, cell.budget)
        about = goal.goal if isinstance(goal, advex.Output) else goal
        names = type(about).__name__, type(attack).__name__
        assert any(name in str(caught.value) for name in names)
        return
    held_x, held_goal = x.tobytes(), {n: v.tobytes() for n, v in goal.rows().items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AdvexWarning)
        result = attack(model, x, goal, cell.budget, progress=False)
        again = attack(model, x, goal, cell.budget, batch_size=4, progress=False)
        half = COUNT // 2
        parts = [
            attack(model, x[rows], goal.part(rows), cell.budget, progress=False)
            for rows in (slice(0, half), slice(half, COUNT))
        ]
    assert held_x == x.tobytes()
    assert held_goal == {n: v.tobytes() for n, v in goal.rows().items()}
    demand_contract(result, x, cell.budget)
    # what NumPy says of what plain Keras answers
    gain, size = decide(answer(model, result.x), before), largest(before)
    clear = np.abs(gain) > 20 * NEAR * size
    assert (result.success == (gain > 0))[clear].all(), (gain, result.success)
    came = decide(answer(model, result.attempt), before)
    tie = np.abs(came) <= 20 * NEAR * size
    known = ~np.isnan(result.margin)  # not where a search for the smallest ended outside
    assert known[result.success].all() and (known.all() or cell.attack in SMALLEST)
    told = known & ~tie
    assert ((result.margin > 0) == (came > 0))[told].all(), (came, result.margin)
    assert (result.success == (result.margin > 0))[told].all()
    if cell.goal not in ("AnyOf", "AllOf"):  # whose parts have margins of other sizes, all the same
        np.testing.assert_allclose(result.margin[known], came[known], atol=1e-4 * size.max())
    step = 255 if cell.dtype == "uint8" else 1
    rough = 1e-3 if cell.attack in LONG else 1e-4
    for name, other in (("batches", again), ("halves", None)):
        success = other.success if other else np.concatenate([part.success for part in parts])
        points = other.x if other else np.concatenate([part.x for part in parts])
        assert (success == result.success)[~tie].all(), name
        apart = np.abs(points.astype("float64") - result.x.astype("float64")).max(initial=0)
        assert apart <= max(rough * step, 1 if step > 1 else 0), name


def largest(z):
    leaves = [np.abs(leaf.reshape(len(leaf), -1)).max(1) for leaf in keras.tree.flatten(z)]
    return np.maximum.reduce(leaves)


def demand_contract(result, x, budget):
    for points in (result.x, result.attempt):
        assert points.dtype == x.dtype and points.shape == x.shape
        assert inside(points, x, budget)
    failed = ~result.success
    assert (result.x[failed] == x[failed]).all() and np.isinf(result.distance[failed]).all()
    assert (result.x[~failed] == result.attempt[~failed]).all()
    assert (result.distance[~failed] <= budget.epsilon).all()
    assert not result.info["fragile"] and not result.info["invalid"]
    assert (result.queries >= 1).all() and (result.gradients >= 0).all()


@pytest.mark.matrix
@pytest.mark.parametrize("goal", GOALS)
@pytest.mark.parametrize("name", ENTRIES)
def test_to_the_end_with_every_goal(name, goal):
    kind, make, decide = GOALS[goal]
    model, levels, _ = scene(kind, False)
    x = (levels / 255).astype("float32")
    before, attack = answer(model, x), ENTRIES[name]
    if not taken(attack, make(before), LIMITS["Linf"]):
        return  # refused, see above
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AdvexWarning)
        result = attack(model, x, make(before), LIMITS["Linf"], until="end", progress=False)
    demand_contract(result, x, LIMITS["Linf"])
    came = decide(answer(model, result.attempt), before)
    assert ((result.margin > 0) == (came > 0))[np.abs(came) > 40 * NEAR * largest(before)].all()


def test_what_is_refused_says_why():
    model, levels, z = scene("table", False)
    x = (levels / 255).astype("float32")
    for goal in (
        advex.MultiLabel(z > 0),
        advex.TopK(z.argmax(1), k=2),
        advex.AnyOf(z.argmax(1), advex.TopK(z.argmax(1), k=2)),
        Mean(average(z)),
    ):
        with pytest.raises(AdvexError, match="SigmaZero"):
            advex.JSMA()(model, x, goal, advex.L0(2))
    with pytest.raises(AdvexError, match="EveryTarget needs true labels"):
        advex.EveryTarget(advex.PGD())(model, x, Mean(average(z)), advex.Linf(0.1))
    with pytest.raises(AdvexError, match="no L0"):
        advex.APGD()(model, x, advex.MultiLabel(z > 0), advex.L0(2))


def test_the_matrix_is_complete():
    known = {type(attack).__name__ for attack in ENTRIES.values()} | set(ENTRIES)
    missing = set(advex.attacks.__all__) - known
    assert not {
        name
        for name in missing
        if isinstance(getattr(advex, name), type)
        and issubclass(getattr(advex, name), advex.Attack)
        and name not in ("Attack", "SEA", "SegPGD")  # in attacks/test_segmentation
        # of the others one on scores: their goals are those of a function that names classes
        and getattr(getattr(advex, name), "needs", "gradients") == "gradients"
    }
    tried = {type(a_goal(name)).__name__ for name in GOALS}
    assert tried >= set(advex.goals.__all__) - {"Goal"}
