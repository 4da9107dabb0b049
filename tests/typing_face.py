"""The public face as type checkers see it: ``make types`` runs mypy and pyright over this file, in
their default modes. It is never imported.

The attack is README's own, word for word; ``test_typing.py`` compares them.
"""

from dataclasses import dataclass

import keras
from keras import ops

import advex
from advex import zoo

model = zoo.fashion_mnist()
x, labels = zoo.fashion_images()

# README's attack.


@dataclass(frozen=True, kw_only=True)
class Momentum(advex.Attack):
    """Ascent along a running sum of normalised gradients."""
    steps: int = 10
    decay: float = 1.0

    def init(self, problem):
        return problem.x0, ops.zeros_like(problem.x0)

    def step(self, problem, x, velocity):
        _, gradient = problem.gradient(x, advex.losses.cross_entropy)
        velocity = self.decay * velocity + advex.unit(gradient, order=1)
        x = x + problem.epsilon / self.steps * problem.budget.steepest(velocity)
        return problem.project(x), velocity


# What a user writes.

result: advex.Result = Momentum(decay=0.9)(model, x, labels, advex.L2(0.5))
broken: int = int(result.success.sum())
result.save("advex-out")

budget: advex.Budget = advex.Linf(8 / 255)
goal: advex.Goal = advex.Targeted(8, confidence=0.8)
attacks: list[advex.Attack] = [
    advex.PGD(steps=10, loss=advex.losses.margin),
    advex.APGD(),
    advex.SquareAttack(steps=1000),
    advex.CarliniWagner(),
]
advex.fine()(model, x, goal, budget, seed=3, batch_size=8)
advex.Restarts(advex.PGD(), 3)(model, x, labels, budget)
advex.EveryTarget(advex.PGD(), 3)(model, x, labels, budget)
advex.Ensemble(advex.PGD(), advex.FAB())(model, x, labels, budget)
advex.AutoAttack("standard")(model, x, labels, budget)
advex.Verdict()(model, x, labels, budget)
advex.MinimumNorm("L2")(model, x, labels)

black_box = advex.BlackBox(lambda batch: batch, classes=10)
classifier = advex.Classifier(keras.Sequential(), box=(0, 255))
advex.SquareAttack()(black_box, x, labels, budget)
advex.PGD()(classifier, x, labels, budget)

found: advex.Evaluation = advex.evaluate(model, (x, labels), [advex.PGD()], budget)
found.report("clothes.html", title="Clothes", author="A name", note="A remark")
change: float = advex.evaluation.compare(found, found).change
diagnosis: advex.evaluation.Diagnosis = advex.evaluation.diagnose(model, x, labels, budget)
flagged: list[str] = [finding.id for finding in diagnosis.flags]
advex.testing.check_attack(Momentum())

# Certificates.

certificate: advex.Certificate = advex.certify(model, x, labels, samples=1000, run="certified")
share: float = certificate.accuracy(0.1)
