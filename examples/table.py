"""A table with mixed types and rules: applications for a loan, a network and boosted trees.

    python examples/table.py

Makes the applications, trains both models for a few seconds, and prints how many refusals become
approvals when numbers move by a fraction of their range and every rule still holds.
"""

from __future__ import annotations

from advex.cli.quiet import wake_keras

wake_keras()  # without the lines that its C++ libraries write

import keras
import numpy as np
from keras import layers, ops
from sklearn.ensemble import HistGradientBoostingClassifier

import advex

COLUMNS = [
    "age",  # in years: whole, and nobody changes it
    "rents",
    "owns",
    "with family",  # exactly one of these three is 1
    "income",  # a year
    "savings",
    "shares",
    "assets",  # savings + shares
    "loan",
    "months",  # whole
    "rate",  # a month: loan / months
]
NUMBER = {name: place for place, name in enumerate(COLUMNS)}


def derived(x: object) -> object:
    """Two equalities: what follows from other columns is computed again."""
    column = ops.unstack(x, axis=1)
    column[NUMBER["assets"]] = column[NUMBER["savings"]] + column[NUMBER["shares"]]
    column[NUMBER["rate"]] = column[NUMBER["loan"]] / column[NUMBER["months"]]
    return ops.stack(column, axis=1)


def affordable(x: np.ndarray) -> np.ndarray:
    """An inequality: the bank's form accepts no rate above half of a month's income."""
    return 12 * x[:, NUMBER["rate"]] <= x[:, NUMBER["income"]] / 2


def applications(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A table (n, 11) of float64, and who has paid back (n,)."""
    rng = np.random.default_rng(seed)
    x = np.zeros((4 * count, len(COLUMNS)))
    x[:, 0] = rng.integers(18, 80, len(x))
    x[np.arange(len(x)), rng.integers(1, 4, len(x))] = 1
    x[:, NUMBER["income"]] = rng.gamma(4, 12_000, len(x)).clip(8_000, 150_000).round()
    x[:, NUMBER["savings"]] = rng.gamma(1, 15_000, len(x)).clip(0, 90_000).round()
    x[:, NUMBER["shares"]] = rng.gamma(0.5, 20_000, len(x)).clip(0, 90_000).round()
    x[:, NUMBER["loan"]] = rng.uniform(1_000, 50_000, len(x)).round()
    x[:, NUMBER["months"]] = rng.integers(6, 73, len(x))
    x[:, NUMBER["assets"]] = x[:, NUMBER["savings"]] + x[:, NUMBER["shares"]]
    x[:, NUMBER["rate"]] = x[:, NUMBER["loan"]] / x[:, NUMBER["months"]]
    x = x[affordable(x)][:count]
    share = 12 * x[:, NUMBER["rate"]] / x[:, NUMBER["income"]]
    ease = 2 - 9 * share + x[:, NUMBER["assets"]] / 25_000 + 0.8 * x[:, 2] + x[:, 0] / 60
    return x, (ease + rng.logistic(0, 0.4, len(x)) > 2).astype(int)


def network(x: np.ndarray, paid: np.ndarray) -> keras.Model:
    scale = layers.Normalization()
    scale.adapt(x)
    dense = [layers.Dense(32, activation="relu"), layers.Dense(32, activation="relu")]
    model = keras.Sequential([keras.Input((len(COLUMNS),)), scale, *dense, layers.Dense(2)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss)
    model.fit(x, paid, epochs=10, batch_size=64, verbose=0)
    return model


def told(name: str, result: advex.Result, domain: advex.Domain) -> None:
    """How many rows break, whether the rules hold, and what has changed in one row."""
    broken, before = (int((result.status == word).sum()) for word in ("broken", "clean"))
    against = int((~domain.holds(result.x, result.original)).sum())
    print(
        f"{name}: {broken} of {len(result)} refusals become approvals, {before} were approved"
        f" before; {against} rows break a rule"
    )
    row = int(np.flatnonzero(result.status == "broken")[0])
    for column, old, new in zip(COLUMNS, result.original[row], result.x[row], strict=True):
        if old != new:
            print(f"    {column:12s} {old:10,.2f} -> {new:10,.2f}")


def main() -> dict[str, advex.Result]:
    keras.utils.set_random_seed(0)
    x, paid = applications(3000, seed=1)
    new, truth = applications(400, seed=2)
    domain = advex.Domain.from_data(
        np.concatenate([x, new]),  # all there is: it tells the range of each column
        fixed=np.isin(COLUMNS, ["age"]),
        integer=np.isin(COLUMNS, ["age", "months"]),
        one_hot=[[NUMBER["rents"], NUMBER["owns"], NUMBER["with family"]]],
        repair=derived,
        valid=affordable,
    )
    print(domain)
    refused = new[truth == 0][:40]
    labels = np.zeros(len(refused), int)
    budget = advex.Linf(0.1)  # a tenth of the range of each column

    model = advex.Classifier(network(x, paid), box=domain)
    smallest = advex.MinimumNorm("Linf")(model, refused, labels)
    trees = HistGradientBoostingClassifier(max_iter=50, random_state=0).fit(x, paid)
    box = advex.BlackBox(trees.predict_proba, 2, box=domain)
    found = {
        "network, PGD": advex.PGD()(model, refused, labels, budget),
        "network, MinimumNorm": smallest,
        "trees, SquareAttack": advex.SquareAttack(steps=100)(box, refused, labels, budget),
    }
    for name, result in found.items():
        told(name, result, domain)
    share = np.median(smallest.distance[smallest.status == "broken"])
    print(f"Half of the refusals need no more than {share:.1%} of the range of a column")
    return found


if __name__ == "__main__":
    main()
