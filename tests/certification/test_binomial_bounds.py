"""The bound on a share is exact, and holds as often as it says."""

import math

import numpy as np
import pytest
from scipy.stats import beta, norm

from advex.certification.binomial import lower_bound, radius

COUNTS = (1, 2, 3, 10, 100, 1000, 100_000, 1_000_000)
ALPHAS = (1e-12, 1e-6, 0.001, 0.05, 0.3, 0.5, 0.9)


@pytest.mark.parametrize("samples", COUNTS)
@pytest.mark.parametrize("alpha", ALPHAS)
def test_the_bound_is_that_of_scipy(samples, alpha):
    some = np.random.default_rng(samples).integers(0, samples + 1, 4).tolist()
    ends = [0, 1, samples // 2, samples // 2 + 1, int(samples * 0.99), samples - 1, samples]
    for count in {*some, *ends}:
        expected = beta.ppf(alpha, count, samples - count + 1) if count else 0.0
        assert lower_bound(count, samples, alpha) == pytest.approx(expected, rel=5e-9, abs=1e-300)


def test_more_hits_prove_more_and_less_confidence_too():
    bounds = [lower_bound(count, 200, 0.001) for count in range(201)]
    assert bounds[0] == 0 and (np.diff(bounds) > 0).all() and bounds[-1] < 1
    assert (np.diff([lower_bound(150, 200, alpha) for alpha in ALPHAS]) > 0).all()


def test_extremes_give_a_number():
    for alpha in (5e-324, 1e-300, 1 - 2**-53):
        for count, samples in ((0, 1), (1, 1), (1, 2**31 - 1), (99, 100), (2**31 - 1,) * 2):
            bound = lower_bound(count, samples, alpha)
            assert 0 <= bound < 1 and math.isfinite(radius(bound, 0.25))


def test_the_bound_holds_as_often_as_it_says():
    """1,000 times 500 draws, at three confidences: as often above the true share as alpha says, not
    more, and not much less.
    """
    share, samples = 0.8, 500
    counts = np.random.default_rng(7).binomial(samples, share, 1000)
    for alpha in (0.01, 0.05, 0.2):
        wrong = sum(lower_bound(count, samples, alpha) > share for count in counts.tolist())
        most = 1000 * alpha + 3 * math.sqrt(1000 * alpha * (1 - alpha))
        assert 0.4 * 1000 * alpha < wrong < most


def test_the_radius_is_the_normal_quantile():
    for bound in (0.5000001, 0.6, 0.9, 0.999, 1 - 6.9e-5, 1 - 2**-53):
        assert radius(bound, 0.5) == pytest.approx(0.5 * norm.ppf(bound), rel=1e-9)
    assert radius(0.5, 1) == radius(0.1, 1) == radius(0.0, 1) == 0
