"""Every attack keeps the contract, and tests that notice when it does not."""

import copy
import pickle
import re
from dataclasses import dataclass, fields, replace
from typing import ClassVar

import keras
import numpy as np
import pytest
from keras import ops

import advex
from advex._settings import setting
from advex.errors import AttackError, InvalidInput, InvalidType
from advex.testing import check_attack, linear_data, linear_model, small_network, walk

pytestmark = pytest.mark.backends

ATTACKS = [
    advex.FGSM(),
    advex.BIM(steps=4),
    advex.PGD(steps=4),
    advex.MomentumIterative(steps=4),
    advex.NesterovIterative(steps=4),
    advex.GradientAscent(steps=4, learning_rate=0.5),
    advex.Restarts(advex.PGD(steps=3), 2),
    advex.fine(5),
]
BUDGETS = (advex.Linf(0.02), advex.L2(0.15), advex.L1(0.7), advex.L0(2))


TENSORFLOW = keras.backend.backend() == "tensorflow"
WHOLE = (advex.PGD, advex.Restarts)  # whole on every backend: random numbers, several runs


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: type(attack).__name__)
def test_contract(attack, contract):
    # On JAX and torch the programs are compiled once more for each norm and shape: one norm there,
    # all four on TensorFlow.
    contract(attack, BUDGETS if TENSORFLOW else BUDGETS[:1], whole=isinstance(attack, WHOLE))


@dataclass(frozen=True, kw_only=True)
class Momentum(advex.Attack):
    """Ascent along a running sum of normalised gradients: the whole attack of the documentation."""

    steps: int = 10
    decay: float = 1.0

    def init(self, problem):
        return problem.x0, ops.zeros_like(problem.x0)

    def step(self, problem, x, velocity):
        _, gradient = problem.gradient(x, advex.losses.cross_entropy)
        velocity = self.decay * velocity + advex.unit(gradient, order=1)
        x = x + problem.epsilon / self.steps * problem.budget.steepest(velocity)
        return problem.project(x), velocity


def test_a_users_attack_of_fifteen_lines():
    check_attack(Momentum(steps=4, decay=0.9), BUDGETS if TENSORFLOW else BUDGETS[:1])


@dataclass(frozen=True, kw_only=True)
class ReturnsItsInput(advex.FGSM):
    def step(self, problem, x, memory):
        problem.gradient(x, self.loss)
        return x, memory


@dataclass(frozen=True, kw_only=True)
class SkipsItsLastStep(advex.FGSM):
    steps: int = 1

    def step(self, problem, x, memory):
        last = problem.step[0] >= self.steps - 1
        moved, memory = advex.FGSM.step(self, problem, x, memory)
        return ops.where(last, x, moved), memory


@dataclass(frozen=True, kw_only=True)
class NeverMoves(advex.PGD):
    def step(self, problem, x, memory):
        problem.gradient(x, self.loss)
        return x, memory


@dataclass(frozen=True, kw_only=True)
class DropsItsLastStep(advex.BIM):
    def step(self, problem, x, memory):
        last = ops.reshape(
            problem.step >= self.steps - 1, (-1, 1) if len(x.shape) == 2 else (-1, 1, 1, 1)
        )
        moved, memory = advex.BIM.step(self, problem, x, memory)
        return ops.where(last, x, moved), memory


@pytest.mark.parametrize(
    "mutant",
    [ReturnsItsInput(), SkipsItsLastStep(), NeverMoves(), DropsItsLastStep(steps=4)][
        : None if TENSORFLOW else 1
    ],
    ids=lambda mutant: type(mutant).__name__,
)
def test_check_attack_sees_an_attack_that_does_nothing(mutant):
    with pytest.raises(AssertionError, match="last step moves"):
        check_attack(mutant, BUDGETS[:1])


@dataclass(frozen=True, kw_only=True)
class LooksAtItsNeighbours(advex.BIM):
    def step(self, problem, x, memory):
        _, gradient = problem.gradient(x, self.loss)
        common = ops.mean(gradient, axis=0, keepdims=True)
        return problem.move(x, gradient + 3 * common, self.step_size), memory


def test_check_attack_sees_rows_that_are_no_strangers():
    with pytest.raises(AssertionError, match=r"same|alike|permuted"):
        check_attack(LooksAtItsNeighbours(steps=4), BUDGETS[:1])


@dataclass(frozen=True, kw_only=True)
class LeavesTheBall(advex.Attack):
    steps: int = 3
    honest: bool = False

    def init(self, problem):
        return problem.x0, ()

    def step(self, problem, x, memory):
        _, gradient = problem.gradient(x, advex.losses.margin)
        return ops.clip(x + 0.2 * ops.sign(gradient), 0.0, 1.0), memory


def test_points_outside_the_budget_never_count():
    model, (x, labels) = linear_model(), linear_data(40)
    assert advex.FGSM()(model, x, labels, advex.Linf(0.4)).success.all()
    result = LeavesTheBall()(model, x, labels, advex.Linf(0.01))
    inside = advex.FGSM()(model, x, labels, advex.Linf(0.01))
    assert not (result.success & ~inside.success).any()
    assert (np.abs(result.x - x) <= np.float32(0.01)).all()


def test_shapes_and_dtypes_of_a_step_are_checked():
    model, (x, labels) = linear_model(), linear_data(4)

    @dataclass(frozen=True, kw_only=True)
    class Half(advex.BIM):
        def step(self, problem, x, memory):
            return ops.cast(x, "float16"), memory

    @dataclass(frozen=True, kw_only=True)
    class Narrow(advex.BIM):
        def step(self, problem, x, memory):
            return x[:, :3], memory

    @dataclass(frozen=True, kw_only=True)
    class Forgetful(Momentum):
        def step(self, problem, x, velocity):
            return x, ()

    for attack, words in ((Half(), "float16"), (Narrow(), "shape"), (Forgetful(), "memory")):
        with pytest.raises(AttackError, match=words):
            attack(model, x, labels, advex.Linf(0.1))


def test_momentum_and_nesterov_are_what_their_papers_say():
    """Two steps by hand, in L2 and far apart, so that every term counts."""
    model = small_network()
    x = np.random.default_rng(0).uniform(0.4, 0.6, size=(6, 6, 6, 3)).astype("float32")
    labels = advex.FGSM()(model, x, None, advex.Linf(0.0)).before
    budget, size, mu = advex.L2(1.0), 0.3, 0.7
    image, label = keras.Input((6, 6, 3)), keras.Input((), dtype="int32")
    loss = keras.losses.sparse_categorical_crossentropy(label, model(image), from_logits=True)
    gradient = advex.function([image, label], advex.gradients(loss, image))

    def over(values, order):
        return values / np.linalg.norm(values.reshape(6, -1), ord=order, axis=1).reshape(
            -1, 1, 1, 1
        )

    g1 = over(gradient([x, labels])[0], 1)
    x1 = x + size * over(g1, 2)
    momentum = x1 + size * over(mu * g1 + over(gradient([x1, labels])[0], 1), 2)
    ahead = x1 + size * mu * over(g1, 2)
    nesterov = x1 + size * over(mu * g1 + over(gradient([ahead, labels])[0], 1), 2)
    plain = x1 + size * over(gradient([x1, labels])[0], 2)
    # the terms do count
    assert min(np.abs(momentum - plain).max(), np.abs(momentum - nesterov).max()) > 1e-4
    settings = {"steps": 2, "step_size": size, "decay": mu}
    for attack, expected in (
        (advex.MomentumIterative(**settings), momentum),
        (advex.NesterovIterative(**settings), nesterov),
        (advex.BIM(steps=2, step_size=size), plain),
    ):
        found = walk(attack, model, x, advex.Untargeted(labels), budget).points[-1]
        np.testing.assert_allclose(found, expected, atol=5e-6)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: type(attack).__name__)
@pytest.mark.parametrize("budget", BUDGETS if TENSORFLOW else BUDGETS[1:2], ids=repr)
def test_every_point_on_the_way_is_inside(attack, budget):
    """The driver would not count a point outside; a built-in attack does not even go there."""
    model, x = (
        small_network(),
        np.random.default_rng(0).uniform(size=(8, 6, 6, 3)).astype("float32"),
    )
    goal = advex.Untargeted(np.arange(8) % 4)
    for point in walk(attack.plan()[0].attack, model, x, goal, budget).points:
        assert (point >= 0).all() and (point <= 1).all()
        rounding = budget.measure(np.full((1, 108), 2.0**-24))[0] if budget.homogeneous else 0.0
        assert (
            budget.measure(point.astype("float64") - x) <= budget.epsilon * (1 + 1e-6) + rounding
        ).all()


def test_bim_takes_steps_of_the_stated_size():
    model, (x, labels) = linear_model(), linear_data(10)
    x = 0.4 + 0.2 * x
    labels = advex.FGSM()(model, x, None, advex.Linf(0.0)).before
    goal, budget = advex.Untargeted(labels), advex.Linf(0.1)
    constant = walk(advex.BIM(steps=3, step_size=0.25), model, x, goal, budget).points
    sizes = [float(np.abs(point - x).max()) for point in constant]
    assert sizes == pytest.approx([0, 0.025, 0.05, 0.075], abs=1e-6)
    decaying = walk(
        advex.BIM(steps=4, step_size=advex.LinearDecay(0.4)), model, x, goal, budget
    ).points
    sizes = [float(np.abs(point - x).max()) for point in decaying]
    assert sizes == pytest.approx([0, 0.04, 0.07, 0.09, 0.1], abs=1e-6)


def test_settings():
    attack = advex.PGD(steps=7, loss=advex.losses.dlr)
    assert replace(attack, steps=3).steps == 3
    assert repr(attack) == "PGD(steps=7, step_size=0.25, loss=dlr)"
    assert hash(attack) == hash(advex.PGD(steps=7, loss=advex.losses.dlr))


@dataclass(frozen=True, kw_only=True)
class Own(advex.Attack):
    """Settings of other kinds than those of the same name in shipped attacks."""

    steps: int = 10
    patience: int | None = None
    decay: object = 1.0
    loss: str = "mine"
    classes: tuple = (1, 2)
    step_size: object = None
    restarts: str = "never"

    def init(self, problem):
        return problem.x0, ()

    def step(self, problem, x, memory):
        problem.logits(x)
        return x, memory


def test_settings_of_a_users_attack_are_its_own():
    def half(progress):
        return progress / 2

    attack = Own(decay=half, loss="yours", classes=(3, 4), step_size=[1, 2], restarts="always")
    assert (attack.decay, attack.classes, attack.step_size) == (half, (3, 4), [1, 2])

    @dataclass(frozen=True, kw_only=True)
    class Fading(advex.MomentumIterative):
        decay: object = None  # declared anew: no longer the number of the base

    assert Fading(decay=half).decay is half
    with pytest.raises(InvalidInput, match=r"Fading\(step_size=\.\.\.\) must be"):
        Fading(step_size=0)


@pytest.mark.parametrize(
    ("word", "value", "error"),
    [
        ("steps", 0, InvalidInput),
        ("steps", "ten", InvalidType),
        ("steps", None, InvalidType),
        ("patience", 0, InvalidInput),
        ("patience", "long", InvalidType),
    ],
)
def test_the_words_of_the_driver_are_checked_in_every_attack(word, value, error):
    with pytest.raises(error, match=rf"Own\({word}=\.\.\.\) must be a whole number"):
        Own(**{word: value})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: advex.PGD(step_size="big"), "PGD(step_size=...) must be a number"),
        (lambda: advex.PGD(loss="margin"), "PGD(loss=...) must be a function (logits, goal)"),
        (lambda: advex.EveryTarget(advex.PGD(), 0), "EveryTarget(classes=...) must be a whole"),
        (lambda: advex.AveragedGradient(advex.PGD(), None, 0), "AveragedGradient(samples=...)"),
        (lambda: advex.DDN(gamma=1), "DDN(gamma=...) is a share, below 1; received 1"),
        (lambda: advex.SquareAttack(p=1.5), "SquareAttack(p=...) is a share of the image, at most"),
        (lambda: advex.JSMA(candidates=1), "must be a whole number of at least 2; received 1"),
        (lambda: advex.DDN(step_size=abs), "DDN(step_size=...) must be a number"),
        (lambda: advex.APGD(rho=-1), "APGD(rho=...) must be a finite number of at least 0"),
    ],
)
def test_what_is_said_of_settings(make, message):
    with pytest.raises((InvalidInput, InvalidType), match=re.escape(message)):
        make()


def test_a_setting_is_one_of_its_choices():
    @dataclass(frozen=True, kw_only=True)
    class Chosen(Own):
        way: str = setting("up", "choice", among=("up", "down"))

    assert Chosen().way == "up" and Chosen(way="down").way == "down"
    for wrong in ("left", None):
        with pytest.raises(InvalidInput, match=r"Chosen\(way=\.\.\.\) must be one of 'up', 'down'"):
            Chosen(way=wrong)


def test_settings_survive_a_copy():
    attack = advex.DDN(steps=5, gamma=0.2)
    for twin in (replace(attack), copy.deepcopy(attack), pickle.loads(pickle.dumps(attack))):
        assert twin == attack
    pickle.dumps([field.metadata["advex"] for field in fields(advex.DDN)])  # for workers
    with pytest.raises(InvalidInput, match="gamma"):
        replace(attack, gamma=2)


def test_norms_are_refused_in_one_way():
    labels = advex.Untargeted([0])

    @dataclass(frozen=True, kw_only=True)
    class Round(Own):
        norms: ClassVar = (advex.L2, advex.L1)

    for attack, budget, message in (
        (advex.DDN(), advex.Linf(), "DDN supports only L2; received Linf()"),
        (advex.CarliniWagner(), advex.L0(), "CarliniWagner supports only L2 and Linf; received L0"),
        (advex.JSMA(), advex.L2(), "JSMA supports only L0; received L2()"),
        (advex.APGD(), advex.L0(2), "APGD has no L0 form; use Linf, L2 or L1"),
        (advex.DeepFool(), advex.L0(), "DeepFool has no L0 form; use Linf, L2 or L1"),
        (Round(), advex.L0(2), "Round supports only L2 and L1; received L0(2)"),
    ):
        with pytest.raises(InvalidInput, match=re.escape(message)):
            attack.check(labels, budget)
    Round().check(labels, advex.L1(2.0))


def test_a_norm_of_ones_own_is_refused_where_an_attack_is_made_for_one_norm_alone():
    class Weighted(advex.L2.__base__):
        size = nearest = steepest = extreme = sample = project = measure = None

    Weighted.__abstractmethods__ = frozenset()
    goal, budget = advex.Untargeted([0]), Weighted(0.1)
    for attack in (advex.APGD(), advex.FAB(), advex.SquareAttack(), advex.PGD(), advex.FMN()):
        attack.check(goal, budget)
    with pytest.raises(InvalidInput, match="PDGD supports only L2"):
        advex.PDGD().check(goal, budget)


@pytest.mark.parametrize(
    "loss",
    [advex.losses.cross_entropy, advex.losses.margin, advex.losses.dlr, advex.losses.confidence],
)
@pytest.mark.parametrize("targeted", [False, True])
def test_losses_climb_towards_success(loss, targeted):
    """Every loss grows with the margin on a two-class ray and is finite everywhere."""
    logits = np.zeros((41, 5), "float32")
    logits[:, 0] = np.linspace(8, -8, 41)
    logits[:, 1] = -logits[:, 0]
    logits[:, 2:] = [-20.0, -21.0, -23.0]
    labels = np.full(41, 1 if targeted else 0, "int32")
    goal = (advex.Targeted if targeted else advex.Untargeted)(labels)
    values = np.asarray(ops.convert_to_numpy(loss(ops.convert_to_tensor(logits), goal)))
    assert values.shape == (41,) and np.isfinite(values).all()
    assert (np.diff(values) >= 0).all() and values[-1] > values[0]
    extreme = ops.convert_to_tensor(logits * 1e4)
    assert np.isfinite(np.asarray(ops.convert_to_numpy(loss(extreme, goal)))).all()


def test_cross_entropy_is_the_cross_entropy():
    generator = np.random.default_rng(0)
    logits, labels = (
        (generator.normal(size=(30, 7)) * 5).astype("float32"),
        generator.integers(0, 7, 30),
    )
    expected = keras.ops.convert_to_numpy(
        keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    )
    found = advex.losses.cross_entropy(ops.convert_to_tensor(logits), advex.Untargeted(labels))
    np.testing.assert_allclose(
        np.asarray(ops.convert_to_numpy(found)), np.asarray(expected), rtol=1e-5, atol=1e-6
    )


def test_few_classes_fall_back_to_the_margin():
    logits = ops.convert_to_tensor(np.array([[1.0, 3.0]], "float32"))
    goal = advex.Untargeted([1])
    assert (
        float(advex.losses.dlr(logits, goal)[0])
        == float(advex.losses.margin(logits, goal)[0])
        == -2.0
    )
