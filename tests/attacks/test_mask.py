"""``mask=``: what may not change stays bit for bit, in every attack, norm and dtype."""

from dataclasses import dataclass

import numpy as np
import pytest

import advex

NET = advex.testing.small_network()
RNG = np.random.default_rng(3)
X = RNG.uniform(size=(8, 6, 6, 3)).astype("float32")
MASK = np.zeros((6, 6, 1), bool)
MASK[1:5, 2:] = True
LIMITED = {
    advex.Linf: 0.2,
    advex.L2: 0.15,
    advex.L1: 3.0,
    advex.L0: 12,
}
ATTACKS = [
    advex.FGSM(),
    advex.PGD(steps=8),
    advex.APGD(steps=10),
    advex.MomentumIterative(steps=5),
    advex.SquareAttack(steps=40),
    advex.FAB(steps=8),
    advex.DeepFool(steps=8),
    advex.DDN(steps=10),
    advex.FMN(steps=15),
    advex.CarliniWagner(),
    advex.ALMA(steps=20),
    advex.PDPGD(steps=20),
    advex.SigmaZero(steps=15),
    advex.JSMA(steps=6),
    advex.Verdict(),
    advex.MinimumNorm(),
]


def cells():
    for attack in ATTACKS:
        for norm, epsilon in LIMITED.items():
            for budget in (norm(epsilon), norm()):
                try:
                    attack.check(advex.Untargeted([0]), budget)
                except advex.errors.AdvexError:
                    continue
                limited = "" if budget.limited else "-unlimited"
                yield pytest.param(
                    attack, budget, id=f"{type(attack).__name__}-{norm.__name__}{limited}"
                )


@pytest.mark.parametrize("kind", ["float32", "uint8"])
@pytest.mark.parametrize(("attack", "budget"), list(cells()))
def test_what_may_not_change_stays(attack, budget, kind):
    x = X if kind == "float32" else np.round(X * 255).astype("uint8")
    masked = type(budget)(LIMITED[type(budget)] if budget.limited else None, mask=MASK)
    result = attack(NET, x[:3], None, masked)
    free = np.broadcast_to(MASK, x[:3].shape)
    for points in (result.x, result.attempt):
        assert (points[~free] == x[:3][~free]).all()
        assert points.dtype == x.dtype
    if budget.limited:
        assert (result.distance[result.success] <= budget.epsilon).all()


def test_a_mask_for_each_row_and_float64():
    """Float64 is cut to float32 for the model; what is fixed keeps all its digits."""
    x = RNG.uniform(size=(8, 6, 6, 3))
    mask = RNG.uniform(size=(8, 6, 6, 1)) > 0.4
    result = advex.PGD(steps=10)(NET, x, None, advex.Linf(0.2, mask=mask))
    free = np.broadcast_to(mask, x.shape)
    assert result.success.any()
    assert (result.attempt[~free] == x[~free]).all()
    assert (result.attempt[free] != x[free]).any()


@pytest.mark.parametrize("norm", [advex.Linf, advex.L2, advex.L1])
def test_the_optimum_of_a_linear_model_is_that_of_the_free_features(norm):
    """Away from the box the nearest change is the gap over the dual norm of the free weights."""
    weights = np.random.default_rng(0).normal(size=(12, 2)).astype("float32")
    middle = 0.5 * weights.astype("float64").sum(axis=0)
    bias = (-middle + [0.3, 0.0]).astype("float32")  # a gap that is closed before the box ends
    model = advex.testing.linear_model(weights, bias)
    x = np.full((4, 12), 0.5, "float32") + np.linspace(0, 0.01, 4, dtype="float32")[:, None]
    free = np.arange(12) % 3 > 0
    logits = x.astype("float64") @ weights.astype("float64")
    logits += np.asarray(model.get_weights()[1], "float64")
    labels = logits.argmax(axis=1)
    normal = (weights[:, 1] - weights[:, 0]).astype("float64") * free
    dual = {advex.Linf: 1, advex.L2: 2, advex.L1: np.inf}[norm]
    best = np.abs(logits[:, 1] - logits[:, 0]) / np.linalg.norm(normal, dual)
    result = advex.MinimumNorm()(model, x, labels, norm(mask=free))
    assert result.success.all()
    assert (result.distance >= best * (1 - 1e-6)).all()
    np.testing.assert_allclose(result.distance, best, rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (np.zeros((6, 6, 1), bool), "nothing that may change"),
        (np.ones((5, 6, 1), bool), "must broadcast to one input"),
        (np.full((6, 6, 1), 0.5), r"np\.asarray\(mask\) > 0"),
        ("middle", "array of booleans"),
    ],
)
def test_masks_that_cannot_be(mask, said):
    with pytest.raises(advex.errors.AdvexError, match=said):
        advex.PGD()(NET, X, None, advex.Linf(0.1, mask=mask))


def test_budgets_say_that_they_have_a_mask():
    assert repr(advex.Linf(8 / 255, mask=MASK)) == "Linf(8/255, mask=...)"
    assert repr(advex.L2(mask=MASK)) == "L2(mask=...)"


@dataclass(frozen=True, kw_only=True)
class Everywhere(advex.Attack):
    """Moves every element, whatever it is told."""

    steps: int = 2

    def init(self, problem):
        return problem.x0, ()

    def step(self, problem, x, memory):
        return problem.x0 + 0.1, memory


def test_an_attack_that_moves_what_it_may_not_move_shows_nothing_to_the_model():
    """The model fires where the first feature moves, which the mask forbids."""
    model = advex.testing.linear_model([[-10.0, 10.0], [0, 0], [0, 0]], [5.1, 0.0])
    x, mask = np.full((3, 3), 0.25, "float32"), np.array([False, True, True])
    free = Everywhere()(model, x, [0, 0, 0], advex.Linf(0.1))
    held = Everywhere()(model, x, [0, 0, 0], advex.Linf(0.1, mask=mask))
    assert free.success.all()
    assert not held.success.any() and not held.info["fragile"]
    np.testing.assert_allclose(held.margin, held.margin_before, atol=1e-6)
    np.testing.assert_allclose(held.attempt[:, 1:], 0.35, atol=1e-6)
