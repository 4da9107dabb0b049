"""What can be said against the model before samples are drawn."""

from __future__ import annotations

import numpy as np

from advex._arrays import Array
from advex._space import grid_of
from advex.driver.honesty import COMPILED, NEIGHBOURS, RANDOM, first_look
from advex.driver.judging import CHECKED, Judge
from advex.driver.ranges import another_range
from advex.model.protocol import Model

SAID = {
    RANDOM: (
        "The model answers differently to the same input: it is random at inference. The"
        " certificates are about the model with its randomness, if each answer has its own."
    ),
    NEIGHBOURS: (
        "The model's answer to an input depends on the rest of its batch, or on the place in it:"
        " what is certified is no function of one input, and the certificates say little."
    ),
    COMPILED: (
        "The compiled model answers differently from the model itself: the certificates are about"
        " the compiled one."
    ),
}


def doubts(classifier: Model, x: Array, label: Array, batch: int) -> list[str]:
    """Sentences about what makes certificates doubtful, from a look at the first rows: (n, ...) of
    the user's kind, and their labels. A stale trace of the model is thrown away. Nothing is asked
    of a black box.
    """
    if classifier.metered:
        return []
    few = x[:CHECKED]
    judge = Judge(classifier, grid_of(classifier, few), max(batch, CHECKED), few)
    look = first_look(judge, classifier, few, None, 0)
    known = ~np.asarray(look.before["broken"])
    prediction = look.before["prediction"]
    said, _ = another_range(
        look.judge, classifier, few[known], label[:CHECKED][known], prediction[known]
    )
    return [sentence for sentence in (SAID.get(look.odd, look.odd), said) if sentence]
