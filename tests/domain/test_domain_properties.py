"""What every result holds on a domain, judged by plain NumPy and the model itself: random domains,
dtypes, norms, epsilons, masks and attacks.

``make domains`` has 10,000 rows; here are a few calls of each kind.
"""

import os
import warnings
from collections import Counter

import domain_oracle
import numpy as np
import pytest

import advex
from advex.errors import AdvexWarning

CASES = int(os.environ.get("ADVEX_DOMAIN_CASES", 0))  # make domains: calls of 40 rows
LIMITS = {
    advex.Linf: (0.02, 0.45),
    advex.L2: (0.05, 1.8),
    advex.L1: (0.05, 3.0),
    advex.L0: (1, 5),
}
EVERY = tuple(LIMITS)
ATTACKS = {
    "FGSM": (advex.FGSM(), EVERY),
    "PGD": (advex.PGD(steps=10), EVERY),
    "MomentumIterative": (advex.MomentumIterative(steps=5), EVERY),
    "APGD": (advex.APGD(steps=10), (advex.Linf, advex.L2, advex.L1)),
    "SquareAttack": (advex.SquareAttack(steps=20), (advex.Linf, advex.L2)),
    "FMN": (advex.FMN(steps=20), EVERY),
    "DeepFool": (advex.DeepFool(steps=10), (advex.Linf, advex.L2)),
    "FAB": (advex.FAB(steps=8), (advex.Linf, advex.L2, advex.L1)),
    "CarliniWagner": (advex.CarliniWagner(steps=30, rounds_of=10), (advex.Linf, advex.L2)),
    "DDN": (advex.DDN(steps=20), (advex.L2,)),
    "ALMA": (advex.ALMA(steps=20), (advex.L2, advex.L1)),
    "PDPGD": (advex.PDPGD(steps=20), EVERY),
    "SigmaZero": (advex.SigmaZero(steps=20), (advex.L0,)),
    "JSMA": (advex.JSMA(steps=10), (advex.L0,)),
    "MinimumNorm": (advex.MinimumNorm(), EVERY),
}
LIMITED = {"FGSM", "PGD", "MomentumIterative", "APGD", "SquareAttack", "JSMA"}
KINDS = ("fixed", "integer", "one_hot", "repair", "valid")


@pytest.fixture(autouse=True)
def quiet():
    """What a model or a wide epsilon is taken for is told elsewhere."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AdvexWarning)
        yield


def checked(seed, name, norm, dtype, kinds, count, limited=True, each=False, masked=False):
    """One call, and everything that its result promises: how many rows had a success."""
    generator = np.random.default_rng(seed)
    case = (
        domain_oracle.pictures(generator, count, kinds)
        if dtype == "uint8"
        else domain_oracle.table(generator, dtype, count, kinds)
    )
    low, high = LIMITS[norm]
    epsilon = (
        generator.integers(low, high, count)
        if norm is advex.L0
        else np.exp(generator.uniform(np.log(low), np.log(high), count))
    )
    if each and seed % 2:
        epsilon[0] = 0
    mask = generator.random(case.x.shape[1:]) < 0.7 if masked else None
    if mask is not None and not (mask & (True if case.fixed is None else ~case.fixed)).any():
        mask = None
    budget = norm(None if not limited else epsilon if each else epsilon[1].item(), mask=mask)
    aimed = seed % 4 == 3 and name != "DeepFool"
    goal = advex.Targeted((case.labels + 1) % domain_oracle.CLASSES) if aimed else case.labels
    result = ATTACKS[name][0](
        case.classifier,
        case.x,
        goal,
        budget,
        until="end" if limited and seed % 3 == 0 else "success",
        batch_size=(7, 16, 64)[seed % 3],
    )
    about = seed, name, norm.__name__, dtype, kinds, budget
    for points in (result.x, result.attempt):
        assert points.dtype == case.x.dtype, about
        for rule, rows in case.wrong(points, budget, mask).items():
            assert not rows.any(), (rule, *about, np.flatnonzero(rows))
    said = case.answers(result.x).argmax(axis=1)
    holds = said == (case.labels + 1) % domain_oracle.CLASSES if aimed else said != case.labels
    assert (holds | ~result.success).all(), about
    assert (result.x[~result.success] == case.x[~result.success]).all(), about
    sizes = case.sizes(result.x, norm)[result.success]
    np.testing.assert_allclose(result.distance[result.success], sizes, rtol=1e-9, err_msg=about)
    if limited:
        most = np.broadcast_to(epsilon if each else epsilon[1], (count,))
        assert (result.distance <= most)[result.success].all()
    return int(result.success.sum())


# A covering part: every attack, norm, dtype, kind of domain and way of calling once at least.
PART = [
    ("PGD", advex.L1, "float32", ("integer", "one_hot", "valid"), {"each": True}),
    ("PGD", advex.Linf, "float64", KINDS[1:], {}),
    ("FGSM", advex.L2, "float32", ("integer", "one_hot", "fixed"), {"masked": True}),
    ("APGD", advex.L2, "float16", ("integer", "valid"), {"each": True}),
    ("SquareAttack", advex.Linf, "uint8", ("channels", "fixed"), {"each": True}),
    ("FMN", advex.L0, "float64", ("integer", "one_hot", "repair"), {"limited": False}),
    ("DeepFool", advex.L2, "float32", ("fixed", "repair", "valid"), {"limited": False}),
    ("FAB", advex.L1, "float64", ("one_hot",), {"each": True}),
    ("CarliniWagner", advex.Linf, "float32", ("integer", "fixed"), {"limited": False}),
    ("MomentumIterative", advex.L1, "uint8", ("channels",), {"masked": True}),
]


@pytest.mark.parametrize(
    ("seed", "name", "norm", "dtype", "kinds", "how"),
    [(seed, *case) for seed, case in enumerate(PART)],
    ids=[f"{case[0]}-{case[1].__name__}-{case[2]}" for case in PART],
)
def test_every_result_is_legal_and_what_it_says(seed, name, norm, dtype, kinds, how):
    """40 rows each, 400 in all; nearly half of them have a success."""
    assert checked(seed, name, norm, dtype, kinds, 40, **how) > 0


def test_the_smallest_legal_change_is_legal():
    assert checked(2, "MinimumNorm", advex.Linf, "float32", KINDS, 12, limited=False) > 0


@pytest.mark.skipif(not CASES, reason="make domains")
def test_ten_thousand_rows():
    """0 violations in 250 calls of 40 rows."""
    seen, broken = Counter(), 0
    for seed in range(1000, 1000 + CASES):
        generator = np.random.default_rng(seed)
        name = str(generator.choice([name for name in ATTACKS if seed % 25 == 0 or name[0] != "M"]))
        norms = ATTACKS[name][1]
        norm = norms[generator.integers(len(norms))]
        dtype = str(generator.choice(["float32", "float64", "float16", "uint8"]))
        kinds = tuple(kind for kind in KINDS if generator.random() < 0.5)
        if dtype == "float16":  # where sums are rounded too much to be legal before any attack
            kinds = tuple(kind for kind in kinds if kind != "repair")
        if dtype == "uint8":
            kinds = tuple(kind for kind in ("channels", "fixed") if generator.random() < 0.6)
        limited = name in LIMITED or generator.random() < 0.5
        each, masked = limited and generator.random() < 0.5, generator.random() < 0.3
        broken += checked(seed, name, norm, dtype, kinds, 40, limited, each, masked)
        seen[name] += 40
    print(f"\n{sum(seen.values())} rows, {broken} successes: {dict(seen)}")
    assert broken > sum(seen.values()) / 4
