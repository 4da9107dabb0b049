"""Attacks on linear models, where the answer is a formula."""

import numpy as np
import pytest

import advex
from advex.testing import linear_extreme, linear_model

pytestmark = pytest.mark.backends

BUDGETS = {
    "linf": lambda g: advex.Linf(float(g.uniform(0.02, 0.3))),
    "l2": lambda g: advex.L2(float(g.uniform(0.1, 0.9))),
    "l1": lambda g: advex.L1(float(g.uniform(0.2, 2))),
    "l0": lambda g: advex.L0(int(g.integers(1, 5))),
}


@pytest.mark.parametrize("norm", BUDGETS)
@pytest.mark.parametrize("targeted", [False, True])
def test_fgsm_succeeds_exactly_where_the_formula_says(norm, targeted):
    """1,000 random cases over the four norms and both goals, with the box active and not: no
    exception.
    """
    generator = np.random.default_rng([len(norm), ord(norm[-1]), targeted])
    seen = {True: 0, False: 0}
    for shift in np.linspace(0, 1.4, 5):
        weights = generator.normal(size=(10, 2)).astype("float32")
        centre = generator.uniform(0.2, 0.8, size=10)
        bias = (-centre @ weights + shift * np.array([1, -1])).astype("float32")
        model = linear_model(weights, bias)
        spread = generator.choice([0.05, 0.5])  # near the middle the box is not active, else it is
        x = np.clip(centre + generator.uniform(-spread, spread, size=(26, 10)), 0, 1).astype(
            "float32"
        )
        logits = x.astype("float64") @ weights.astype("float64") + bias
        labels = logits.argmax(axis=1)
        budget = BUDGETS[norm](generator)
        goal = advex.Targeted(1 - labels) if targeted else labels
        result = advex.FGSM()(model, x, goal, budget)
        for row, label in enumerate(labels):
            gradient = (weights[:, 1 - label] - weights[:, label]).astype("float64")
            best = (
                logits[row, 1 - label]
                - logits[row, label]
                + linear_extreme(gradient, x[row], budget)
            )
            if abs(best) > 2e-5:  # closer to a tie than float32 can tell
                assert result.success[row] == (best > 0), (norm, targeted, best)
                seen[bool(best > 0)] += 1
    assert min(seen.values()) > 10  # both outcomes occur


@pytest.mark.parametrize("head", ["logits", "softmax", "sigmoid"])
def test_every_head_has_the_same_verdicts(head):
    x = np.random.default_rng(1).uniform(size=(40, 12)).astype("float32")
    plain = linear_model()
    labels = np.asarray(advex.FGSM()(plain, x, None, advex.Linf(0.01)).before)
    expected = advex.FGSM()(plain, x, labels, advex.Linf(0.1))
    found = advex.FGSM()(linear_model(head=head), x, labels, advex.Linf(0.1))
    assert (found.success == expected.success).all()
    assert 0 < found.success.sum() < 40
    np.testing.assert_allclose(found.confidence, expected.confidence, atol=1e-5)


def test_other_boxes_scale_epsilon_and_distance():
    generator = np.random.default_rng(5)
    weights = generator.normal(size=(10, 2)).astype("float32")
    x = generator.uniform(0.3, 0.7, size=(30, 10)).astype("float32")
    labels = (x @ weights).argmax(axis=1)
    for budget in (advex.Linf(0.02), advex.L2(0.07), advex.L1(0.1), advex.L0(1)):
        plain = advex.FGSM()(linear_model(weights), x, labels, budget)
        assert 0 < plain.success.sum() < 30
        for low, high in ((-1.0, 1.0), (0.0, 255.0)):
            span = high - low
            # The same function of a rescaled input.
            model = linear_model(weights / span, -(low / span) * weights.sum(axis=0))
            scaled = (low + span * x).astype("float32")
            other = advex.FGSM()(advex.Classifier(model, box=(low, high)), scaled, labels, budget)
            assert (other.success == plain.success).all()
            found = plain.success
            np.testing.assert_allclose(other.distance[found], plain.distance[found], rtol=1e-4)


def test_no_budget_is_wasted():
    """Where the box is not active: saturated pixels within one unit of epsilon, L2 above 99.9999 %
    of it.
    """
    x = np.random.default_rng(2).uniform(0.4, 0.6, size=(50, 12)).astype("float32")
    model = linear_model(np.stack([np.zeros(12), np.ones(12)], 1), [0.0, -6.0])
    labels = (x.sum(axis=1) > 6).astype(int)
    at = advex.FGSM()(model, x, labels, advex.Linf(0.05))
    moved = at.success & (at.distance > 0)
    assert moved.any()
    gap = np.abs(0.05 - np.abs(at.x[moved].astype("float64") - x[moved].astype("float64")))
    assert gap.max() <= np.spacing(np.float32(1))
    two = advex.FGSM()(model, x, labels, advex.L2(0.2))
    moved = two.success & (two.distance > 0)
    assert (two.distance[moved] > 0.2 * 0.999999).all()
    one = advex.FGSM()(model, x, labels, advex.L1(0.5))
    moved = one.success & (one.distance > 0)
    assert (one.distance[moved] > 0.5 * 0.999998).all()


@pytest.mark.parametrize("budget", [advex.L2(1e-3), advex.L1(1e-2)], ids=repr)
def test_tiny_curved_budgets_lose_nothing_to_rounding(budget):
    """Where rounding to float32 is a good part of the ball: every input that the budget suffices
    for is broken all the same.
    """
    generator = np.random.default_rng(0)
    weights = generator.normal(size=(400, 2)).astype("float32")
    x = generator.uniform(0.5, 0.6, size=(60, 400)).astype("float32")
    gradient = (weights[:, 1] - weights[:, 0]).astype("float64")
    reach = linear_extreme(gradient, x[0], budget)
    # All inputs 2 % inside their reach.
    x -= np.outer(
        x.astype("float64") @ gradient + 0.98 * reach, gradient / (gradient @ gradient)
    ).astype("float32")
    model = linear_model(weights)
    result = advex.FGSM()(model, x, np.zeros(60, int), budget)
    assert (result.success & (result.distance > 0)).mean() > 0.95


def test_gradient_ascent_reaches_the_demanded_probability():
    model = linear_model()
    x = np.full((4, 12), 0.5, "float32")
    x += np.linspace(-0.05, 0.05, 4, dtype="float32")[:, None]
    goal = advex.Targeted(1 - advex.FGSM()(model, x, None, advex.Linf(0.0)).before, confidence=0.8)
    result = advex.GradientAscent(steps=200, learning_rate=0.1)(model, x, goal, advex.Linf())
    assert result.success.all()
    assert (result.confidence >= 0.8).all()
    assert (result.confidence < 0.9).all()  # and stops there: the smallest success is kept
    assert (result.prediction == goal.labels).all()


def test_saturated_cross_entropy_does_not_stop_an_attack():
    weights = np.zeros((12, 3), "float32")
    weights[:, 0], weights[:, 1] = 400.0, -400.0
    model = linear_model(weights, [-2400.0, 2400.0, -9000.0])
    # some 100 nats from the boundary, or more
    x = np.random.default_rng(0).uniform(0.55, 0.6, size=(3, 12)).astype("float32")
    with pytest.warns(advex.errors.ModelWarning, match="saturated"):
        result = advex.PGD(steps=20)(model, x, np.zeros(3, int), advex.Linf(0.3))
    assert result.success.all()
    naive = np.exp(-2 * np.abs(x @ weights[:, 0] - 2400).astype("float32"))
    assert not naive.any()  # the gradient of the usual cross-entropy is exactly zero there
