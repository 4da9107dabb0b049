"""Would the model be right about the inputs if they lay in another range, such as [0, 255]?"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import keras
import numpy as np

from advex._arrays import Array
from advex._grid import Grid
from advex._inputs import Examples
from advex._settings import shown
from advex.driver.judging import Judge
from advex.model.protocol import Model

BOXES: tuple[tuple[float, float], ...] = ((0, 1), (-1, 1), (0, 255))  # that models are trained on
ROWS = 16  # that are asked about
FEW = 8  # with fewer nothing is said
POOR = 0.5  # a clean accuracy below it makes one wonder, and is no better range
LEVEL = 0.005  # how often a warning may come by chance
SHUFFLES = 9999

FLOAT32 = np.dtype("float32")


class Range(NamedTuple):
    """Another way to show the inputs to the model."""

    words: str
    grid: Grid
    points: Array
    fix: str
    """The code that shows all inputs this way."""


def another_range(
    judge: Judge, classifier: Model, x: Array | Examples, labels: Array, prediction: Array
) -> tuple[str, int]:
    """Whether the model explains the labels much better where the inputs lie in another range.

    Only a Keras model whose clean accuracy is below one half is asked about 16 of the inputs at
    most, drawn with a fixed seed, once for each other range; and none where no answer could be
    telling: fewer than 8 rows, or too few labels that differ. A range counts if the model is right
    about half of the rows there, and two things are both unlikely by chance (0.5 %, shared out
    among the ranges):

    - that so many of the rows are right there, were the model as often right there as it is about
      all inputs as they are (Fisher's exact test, of one side);
    - that as many are right if the labels are shuffled: a model that says one class to all, or
      anything, gains nothing.

    Args:
        judge: the one that has judged the inputs.
        classifier: the model.
        x: the inputs, (n, ...).
        labels: their true classes, (n,).
        prediction: the classes that the model says, (n,).

    Returns:
        A sentence with the code that helps, or nothing; queries spent.
    """
    right = prediction == labels
    if classifier.metered or classifier.model is None or len(x) < FEW or right.mean() >= POOR:
        return "", 0
    if isinstance(x, Examples) or not classifier.domain.plain:  # no box that others are like
        return "", 0
    some = np.sort(np.random.default_rng(0).permutation(len(x))[:ROWS])
    labels = labels[some]
    ranges = others(classifier, x, some)
    level = LEVEL / len(ranges)

    def telling(said: Array) -> bool:
        count = int((said == labels).sum())
        if count < POOR * len(some):
            return False
        fisher = more_often(count, len(some), int(right.sum()), len(x))
        return fisher <= level and shuffled(said, labels) <= level

    if not telling(labels):
        return "", 0
    best, most, spent = ranges[0], 0, 0
    for one in ranges:
        spent += len(some)
        try:
            there = judge.of(one.grid)
            told = there.about(there.logits(one.points), None)
        except Exception:  # noqa: S112 (the user's code may refuse values that it never asked for)
            continue
        said = np.where(told["broken"], -1, told["prediction"])
        count = int((said == labels).sum())
        if count > most and telling(said):
            best, most = one, count
    if not most:
        return "", spent
    return (
        f"The model gets {right.mean():.1%} of these inputs right as they are, and {most} of"
        f" {len(some)} {best.words}. {_scales(classifier.model)}If that is the range it was"
        f" trained on: {best.fix}"
    ), spent


def _scales(model: keras.Model) -> str:
    """A sentence about the layer that a model begins with, if it scales the inputs."""
    first: Any = model
    while isinstance(first, keras.Model):
        inner = (each for each in first.layers if not isinstance(each, keras.layers.InputLayer))
        first = next(inner, None)
    if not isinstance(first, keras.layers.Rescaling | keras.layers.Normalization):
        return ""
    return (
        f"It begins with the {type(first).__name__} layer {first.name!r}, so it scales its inputs"
        " itself. "
    )


def others(classifier: Model, x: Array, some: Array) -> list[Range]:
    """The inputs ``some`` of ``x`` in other ranges than now."""
    box, few, made = classifier.box, x[some], []
    for other in BOXES:
        if other == box:
            continue
        words = f"as they would be in the box {plain(other)}"
        if x.dtype == np.uint8:
            fix = rebuilt(classifier, other, "x")
            made.append(Range(words, Grid(x.dtype, other), few, fix))
        else:
            points, code = moved(few, box, other)
            fix = rebuilt(classifier, box, code)
            made.append(Range(words, Grid(FLOAT32, other), points, fix))
    if x.dtype != np.uint8 and box != (0, 1) and x.min() >= 0 and x.max() <= 1:
        points, code = moved(few, (0, 1), box)
        words = f"as they would be if [0, 1] were stretched to the box {plain(box)}"
        made.append(Range(words, Grid(FLOAT32, box), points, f"attack {code} in place of x"))
    return made


def moved(x: Array, box: tuple[float, float], other: tuple[float, float]) -> tuple[Array, str]:
    """Floats of one box as they would be in another, float32, and the code for it."""
    (low, high), (start, end) = box, other
    factor = (end - start) / (high - low)
    points = ((x.astype("float64") - low) * factor + start).astype("float32")
    code = "x" if low == 0 else f"x - {number(low)}" if low > 0 else f"x + {number(-low)}"
    if factor != 1:
        code = f"({code})" if low else code
        code += f" * {number(factor)}" if factor > 1 else f" / {number(1 / factor)}"
    if start:
        code += f" + {number(start)}" if start > 0 else f" - {number(-start)}"
    return points, code


def rebuilt(classifier: Any, box: tuple[float, float], code: str) -> str:
    """The code for the same classifier with another box, or with ``code`` before the model; the
    arguments have the names that ``advex.Classifier`` gives to them.
    """
    words = ["model"]
    if code == "x" or box != (0, 1):
        words.append(f"box={plain(box)}")
    if code != "x":
        inner = code if classifier.preprocess is None else f"preprocess({code})"
        words.append(f"preprocess=lambda x: {inner}")
    elif classifier.preprocess is not None:
        words.append("preprocess=preprocess")
    if classifier.names is not None:
        words.append("classes=classes")
    if getattr(classifier, "output", None) is not None:
        words.append(f"output={shown(classifier.output)}")
    return f"advex.Classifier({', '.join(words)})"


def plain(box: tuple[float, float]) -> str:
    """A box as one types it."""
    return f"({number(box[0])}, {number(box[1])})"


def number(value: float) -> str:
    """A number as one types it."""
    return format(value, ".12g")


def more_often(count: int, rows: int, others: int, every: int) -> float:
    """How likely ``count`` or more of ``rows`` are right by chance, where ``others`` of ``every``
    are: Fisher's exact test.
    """
    total = count + others
    return sum(
        math.exp(
            _log_ways(rows, more) + _log_ways(every, total - more) - _log_ways(rows + every, total)
        )
        for more in range(count, min(rows, total) + 1)
    )


def _log_ways(count: int, chosen: int) -> float:
    """The logarithm of the binomial coefficient; for counts that are too large for whole
    numbers.
    """
    return math.lgamma(count + 1) - math.lgamma(chosen + 1) - math.lgamma(count - chosen + 1)


def shuffled(said: Array, labels: Array) -> float:
    """How likely ``said`` is right as often if the labels are shuffled."""
    every = np.tile(labels, (SHUFFLES, 1))
    by_chance = (np.random.default_rng(1).permuted(every, axis=1) == said).sum(axis=1)
    return float((1 + (by_chance >= (said == labels).sum()).sum()) / (1 + SHUFFLES))
