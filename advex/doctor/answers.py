"""D4, D5 and D6: what the model answers to the inputs themselves."""

from __future__ import annotations

import numpy as np

from advex.doctor.checks import Outcome, check, flag, flag_if, noted, ok
from advex.doctor.examination import Examination
from advex.driver.judging import CHECKED

REPEATS = 5  # of one batch
RANDOM_TOLERANCE = 1e-4  # between normalised logits; in D5 relative to the largest logit
COARSE_TOLERANCE = 5e-2  # likewise in D5, of models in half precision
CONSTANT_TOLERANCE = 1e-6  # relative to the largest logit


@check(
    "D4",
    "random model",
    means="The same input gets different answers: a success can be luck, and so can a failure.",
    advice="Attack with advex.AveragedGradient(attack), and report shares over many evaluations of"
    " the same array.",
)
def random_model(exam: Examination) -> Outcome:
    """Whether the model answers alike when it is asked again."""
    answers = [exam.logits(exam.x).astype("float64") for _ in range(REPEATS)]
    every = np.stack(
        [
            logits / np.maximum(np.linalg.norm(logits, axis=1, keepdims=True), 1e-30)
            for logits in answers
        ]
    )
    spread = np.linalg.norm(every - every[0], axis=2).max(axis=0)
    classes = np.stack([logits.argmax(axis=1) for logits in answers])
    flips = int((classes != classes[0]).any(axis=0).sum())
    largest = float(spread.max(initial=0))
    return flag_if(
        bool(largest > RANDOM_TOLERANCE or flips or np.isnan(largest)),
        f"{REPEATS} answers to {exam.n} inputs differ by up to {largest:.2g} (normalised logits);"
        f" {flips} classes flip",
        spread=largest,
        flips=flips,
        examples=exam.n,
    )


def steady(exam: Examination) -> str:
    """The model is not random."""
    return "the model is random, see D4" if exam.findings["D4"].status == "flag" else ""


@check(
    "D5",
    "batch-dependent",
    needs=(steady,),
    means="The answer to an input depends on its neighbours in the batch: no figure holds for an"
    " input alone.",
    advice="Look for layers that compute statistics of the batch at inference, and judge every"
    " input alone.",
)
def batch_dependent(exam: Examination) -> Outcome:
    """Whether the model answers alike in another order, and alone."""
    together = exam.logits(exam.x)
    order = np.random.default_rng(exam.seed % 2**63).permutation(exam.n)
    shuffled = np.empty_like(together)
    shuffled[order] = exam.logits(exam.x[order])
    few = min(exam.n, CHECKED)
    alone = exam.alone(exam.x[:few])
    scale = max(float(np.abs(together).max(initial=0)), 1e-6)
    by_order = float(np.abs(shuffled - together).max(initial=0)) / scale
    by_company = float(np.abs(alone - together[:few]).max(initial=0)) / scale
    limit = COARSE_TOLERANCE if exam.forward.coarse else RANDOM_TOLERANCE
    return flag_if(
        max(by_order, by_company) > limit,
        f"logits change by {by_company:.2g} of the largest alone ({few} inputs), by"
        f" {by_order:.2g} in another order",
        alone=by_company,
        permuted=by_order,
    )


@check(
    "D6",
    "not logits",
    means="The model answers with probabilities whose logits advex cannot reach: their logarithms"
    " lose all detail near 0 and 1.",
    advice="Give the model without its final softmax or sigmoid.",
)
def not_logits(exam: Examination) -> Outcome:
    """What the model's head is, and how often its answer is saturated."""
    head = exam.forward.head.name
    logits = exam.logits(exam.x)
    odds = np.exp(logits - logits.max(axis=1, keepdims=True)).astype("float32")
    sure = float((odds.sum(axis=1, dtype="float32") == 1).mean())
    found = f"head: {head}; {sure:.1%} of the examples have p = 1 exactly"
    if head in ("logits", "logit, one unit"):
        return ok(found, saturated=sure)
    if head.startswith("probabilit") and exam.classifier.differentiable:
        return flag(found, saturated=sure)
    return noted(f"{found}; advex works with logits all the same", saturated=sure)


def constant(exam: Examination) -> bool:
    """Whether every input, random ones included, gets the same answer."""
    low, high = exam.classifier.box
    noise = np.random.default_rng(exam.seed % 2**63).random((CHECKED, *exam.x.shape[1:]))
    values = noise * 255 if exam.grid.levels else low + noise * (high - low)
    seen = np.concatenate([exam.logits(exam.x), exam.logits(values.astype(exam.x.dtype))])
    return bool(
        np.ptp(seen, axis=0).max() <= CONSTANT_TOLERANCE * max(float(np.abs(seen).max()), 1e-6)
    )
