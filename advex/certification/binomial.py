"""What a count of samples proves: the exact lower bound of a share, and the radius from it."""

from __future__ import annotations

import functools
import math
from statistics import NormalDist

NEGLIGIBLE = 1e-17  # of a sum: terms that do not change it
ROUNDS = 200  # of Newton; about ten are used
LARGEST_ALPHA = 1 - 1e-6  # nearer to 1 rounding decides; a smaller one gives a lower bound
LARGEST = 1 - 2.0**-53  # the largest number below 1


@functools.lru_cache(maxsize=4096)
def lower_bound(count: int, samples: int, alpha: float) -> float:
    """The exact one-sided lower confidence bound of a share (Clopper and Pearson, 1934): the p with
    ``P(X >= count) = alpha`` where X is binomial of ``samples`` and p.

    Args:
        count: how many of the samples were hits.
        samples: how many there were.
        alpha: how probable it may be that the bound lies above the true share.

    Example:
        >>> lower_bound(1000, 1000, 0.001) == 0.001 ** (1 / 1000)
        True
        >>> round(lower_bound(60, 100, 0.05), 4)
        0.513
    """
    if count == 0:
        return 0.0
    if count == samples:
        return min(alpha ** (1 / samples), LARGEST)
    alpha = min(alpha, LARGEST_ALPHA)
    # P(X >= count) <= choose(samples, count) p^count: this p is not above the bound. The logarithm
    # of the tail is concave in p, so that Newton's steps go up to the bound and never beyond it.
    p = math.exp(min(0.0, (math.log(alpha) - _log_choose(samples, count)) / count))
    p = min(p, count / samples * (1 - 2.0**-40))
    if p == 0:  # below the smallest number
        return 0.0
    for _ in range(ROUNDS):
        log_tail, share = _tail(count, samples, p)
        step = (math.log(alpha) - log_tail) * p * share / count
        if step <= 1e-16 * p:
            break
        p = min(p + step, LARGEST)
    return p


def radius(bound: float, sigma: float) -> float:
    """How far the class is certain, ``sigma`` times the normal quantile of ``bound`` (Cohen et al.,
    theorem 1); 0 where the bound is not above one half.
    """
    return sigma * NormalDist().inv_cdf(bound) if bound > 0.5 else 0.0


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _tail(count: int, samples: int, p: float) -> tuple[float, float]:
    """log P(X >= count), and that sum in units of its first term, P(X = count)."""
    first = _log_choose(samples, count) + count * math.log(p) + (samples - count) * math.log1p(-p)
    odds, term, total = p / (1 - p), 1.0, 1.0
    for hits in range(count, samples):
        term *= (samples - hits) / (hits + 1) * odds
        total += term
        if term < NEGLIGIBLE * total:
            break
    return first + math.log(total), total
