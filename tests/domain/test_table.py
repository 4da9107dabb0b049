"""A table like those of the literature: every result satisfies everything, in its own units."""

import numpy as np
import pytest
import table_data
from keras import ops

import advex


@pytest.fixture(scope="module")
def model():
    return table_data.scaled_model()


def said(model, x):
    return np.asarray(ops.convert_to_numpy(model(table_data.scale(x.astype("float32"))))).argmax(1)


@pytest.mark.parametrize("budget", [advex.Linf(0.1), advex.L2(0.3), advex.L0(3), advex.Linf()])
def test_every_result_satisfies_everything(model, budget):
    x, labels = table_data.rows(100)
    classifier = advex.Classifier(model, box=table_data.domain(), preprocess=table_data.scale)
    both = (advex.PGD(), advex.MinimumNorm()) if isinstance(budget, advex.Linf) else (advex.PGD(),)
    for attack in both if budget.limited else (advex.FMN(steps=100),):
        result = attack(classifier, x, labels, budget)
        for points in (result.x, result.attempt):
            assert points.dtype == np.float64
            assert {
                name: int(wrong.sum()) for name, wrong in table_data.broken(points, x).items()
            } == dict.fromkeys(table_data.broken(x, x), 0)
            size = abs(points - x) / (classifier.domain.high - classifier.domain.low)
            if isinstance(budget, advex.Linf) and budget.limited:
                assert (size <= budget.epsilon).all()
            elif isinstance(budget, advex.L2):
                assert (np.sqrt((size**2).sum(axis=1)) <= budget.epsilon).all()
            elif isinstance(budget, advex.L0):
                group = (size[:, table_data.GROUP] > 0).any(axis=1)
                rest = np.delete(size, table_data.GROUP, axis=1) > 0
                assert (rest.sum(axis=1) + group <= budget.epsilon).all()
        assert np.array_equal(said(model, result.x) != labels, result.success)
        clean = said(model, x) != labels
        assert (result.success & ~clean).sum() >= 10  # and it breaks rows


@pytest.mark.backends
def test_rules_hold_on_every_backend(model):
    """Relations in float64, and a rule that is asked inside of the search."""
    x, labels = table_data.rows(30)
    classifier = advex.Classifier(model, box=table_data.domain(), preprocess=table_data.scale)
    result = advex.PGD(steps=10)(classifier, x, labels, advex.L2(0.4))
    for points in (result.x, result.attempt):
        assert not np.any(list(table_data.broken(points, x).values()))
    clean = said(model, x) != labels
    assert np.array_equal(said(model, result.x) != labels, result.success)
    assert (result.success & ~clean).sum() >= 3
