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
LEVELS: tuple[float, float] = (0, 255)  # what a layer that scales by 1/255 is for
ROWS = 64  # that are asked about
FEW = 8  # with fewer no comparison says anything
POOR = 0.9  # a clean accuracy below it makes one wonder
HALF = 0.5  # a range in which fewer are right is no better range
MARGIN = 0.1  # of the rows: so many more must be right
LEVEL = 0.005  # how often a warning may come by chance
SHUFFLES = 9999
GREY = 2.0  # values up to it, of 0 or more, need not be grey levels
UNIT = (0.9, 2.1)  # how wide a model takes 0 to 255 to be inside: [0, 1], [-1, 1]
TRAINED = "range it was trained on: "  # begins the code of a sentence

FLOAT32 = np.dtype("float32")


class Range(NamedTuple):
    """Another way to show the inputs to the model."""

    words: str
    grid: Grid
    points: Array
    fix: str
    """The code that shows all inputs this way."""


class _Asked:
    """What the model says about some rows in other ranges, each asked once."""

    def __init__(self, judge: Judge) -> None:
        self.judge, self.spent = judge, 0
        self.known: dict[str, Array | None] = {}

    def __call__(self, one: Range) -> Array | None:
        """The classes, -1 for NaN; None where the model refuses such values."""
        if one.words not in self.known:
            self.spent += len(one.points)
            self.known[one.words] = self._said(one)
        return self.known[one.words]

    def _said(self, one: Range) -> Array | None:
        try:
            there = self.judge.of(one.grid)
            told = there.about(there.logits(one.points), None)
        except Exception:  # (the user's code may refuse values that it never asked for)
            return None
        return np.where(told["broken"], -1, told["prediction"])


def another_range(
    judge: Judge,
    classifier: Model,
    x: Array | Examples,
    labels: Array | None,
    prediction: Array,
) -> tuple[str, int]:
    """Whether the model was made for another range than that of the inputs: by what it answers
    there, if there are labels, and by the layer that it begins with.

    A Keras model whose clean accuracy is below 90 % is asked about 64 of the inputs at most, drawn
    with a fixed seed, once for each other range; and none where no answer could be telling: fewer
    than 8 rows, or too few labels that differ. A range counts if the model is right about half of
    the rows there and about a tenth of them more than as they are, and two things are both unlikely
    by chance (0.5 %, shared out among the ranges):

    - that so many more of the rows are right there: by the sign test about the rows that are right
      in one of both alone, or by Fisher's exact test against all inputs as they are, each with half
      of the chance;
    - that as many are right if the labels are shuffled: a model that says one class to all, or
      anything, gains nothing.

    A model that begins with ``Rescaling(1/255)``, or the like, is made for 0 to 255. If the box is
    narrower, that is said without labels too, unless the labels of 8 rows or more speak against it.

    Args:
        judge: the one that has judged the inputs.
        classifier: the model.
        x: the inputs, (n, ...).
        labels: their true classes, (n,); None where nobody knows them.
        prediction: the classes that the model says, (n,).

    Returns:
        A sentence with the code that helps, or nothing; queries spent.
    """
    if classifier.metered or classifier.model is None or not len(x):
        return "", 0
    if isinstance(x, Examples) or not classifier.domain.plain:  # no box that others are like
        return "", 0
    some = np.sort(np.random.default_rng(0).permutation(len(x))[:ROWS])
    asked, layer = _Asked(judge), scaling(classifier)
    labels = labels if len(x) >= FEW else None
    if labels is not None:
        right = prediction == labels
        told = _better(asked, classifier, x, some, labels, right)
        if told:
            return told, asked.spent
    if layer is None:
        return "", asked.spent
    wide = _shown(classifier, x, some, LEVELS)
    if labels is not None:
        said = asked(wide)
        if right_as_it_is(right[some], 0 if said is None else said == labels[some]):
            return "", asked.spent
    told = begins(layer, classifier.box)
    return f"{told} If 0 to 255 is the {TRAINED}{wide.fix}", asked.spent


def begins(layer: tuple[Any, float, float], box: tuple[float, float]) -> str:
    """A sentence about a layer that ``scaling`` has found, and what it gets in the box."""
    first, low, high = layer
    start, end = box
    return (
        f"The model begins with the Rescaling layer {first.name!r}, which turns 0 to 255 into"
        f" {number(round(low, 2))} to {number(round(high, 2))}, and in the box {plain(box)} it gets"
        f" {number(start)} to {number(end)}."
    )


def right_as_it_is(right: Array, there: Any) -> bool:
    """Whether a model was trained on what it is shown: it is right about half of the rows, and
    less often from 0 to 255.
    """
    now = int(right.sum())
    return now >= HALF * len(right) and now - int(np.sum(there)) > MARGIN * len(right)


def _better(
    asked: _Asked, classifier: Model, x: Array, some: Array, every: Array, right: Array
) -> str:
    """A sentence about the range in which the model is right about many more of ``some`` rows."""
    if right.mean() >= POOR:
        return ""
    labels, now = every[some], right[some]
    ranges = others(classifier, x, some)
    level = LEVEL / len(ranges)

    def telling(said: Array) -> bool:
        there = said == labels
        count = int(there.sum())
        if count < HALF * len(some) or count - int(now.sum()) < MARGIN * len(some):
            return False
        fisher = more_often(count, len(some), int(right.sum()), len(x))
        paired = heads(int((there & ~now).sum()), int((there != now).sum()))
        return min(fisher, paired) <= level / 2 and shuffled(said, labels) <= level

    if not telling(labels):
        return ""
    best, most = ranges[0], 0
    for one in ranges:
        said = asked(one)
        if said is None:
            continue
        count = int((said == labels).sum())
        if count > most and telling(said):
            best, most = one, count
    if not most:
        return ""
    return (
        f"The model gets {right.mean():.1%} of these inputs right as they are, and {most} of"
        f" {len(some)} {best.words}. {_scales(classifier.model)}If that is the"
        f" {TRAINED}{best.fix}"
    )


def scaling(classifier: Any) -> tuple[Any, float, float] | None:
    """The layer of a model that begins by taking 0 to 255 to [0, 1], [-1, 1] or the like, with
    what it makes of 0 and of 255. None if there is no such layer, or if it gets about 0 to 255: if
    there is preprocessing, nobody knows what it gets.
    """
    low, high = classifier.box
    if classifier.preprocess is not None or high - low > UNIT[1]:
        return None
    first = first_layer(classifier.model)
    if not isinstance(first, keras.layers.Rescaling):
        return None
    scale, offset = np.broadcast_arrays(
        np.asarray(first.scale, "float64"), np.asarray(first.offset, "float64")
    )
    width = scale * LEVELS[1]
    if not ((width >= UNIT[0]) & (width <= UNIT[1]) & (abs(offset) <= UNIT[1])).all():
        return None
    return first, float(offset.mean()), float((offset + width).mean())


def first_layer(model: Any) -> Any:
    """The layer that the inputs come to first, with what only moves or drops values passed over."""
    while isinstance(model, keras.Model):
        inner = (each for each in model.layers if not isinstance(each, keras.layers.InputLayer))
        model = next((each for each in inner if not _moves(each)), None)
    return model


def _moves(layer: Any) -> bool:
    """Whether a layer leaves the range as it is."""
    plain = keras.layers.Reshape | keras.layers.ZeroPadding2D | keras.layers.Resizing
    return isinstance(layer, plain) or type(layer).__name__.startswith("Random")


def _scales(model: Any) -> str:
    """A sentence about the layer that a model begins with, if it scales the inputs."""
    first = first_layer(model)
    if not isinstance(first, keras.layers.Rescaling | keras.layers.Normalization):
        return ""
    return (
        f"It begins with the {type(first).__name__} layer {first.name!r}, so it scales its inputs"
        " itself. "
    )


def others(classifier: Model, x: Array, some: Array) -> list[Range]:
    """The inputs ``some`` of ``x`` in other ranges than now."""
    box, few = classifier.box, x[some]
    made = [_shown(classifier, x, some, other) for other in BOXES if other != box]
    if x.dtype != np.uint8 and box != (0, 1) and x.min() >= 0 and x.max() <= 1:
        points, code = moved(few, (0, 1), box)
        words = f"as they would be if [0, 1] were stretched to the box {plain(box)}"
        made.append(Range(words, Grid(FLOAT32, box), points, f"attack {code} in place of x"))
    return made


def _shown(classifier: Model, x: Array, some: Array, other: tuple[float, float]) -> Range:
    """The inputs ``some`` of ``x`` as they would be in another box."""
    box, few, words = classifier.box, x[some], f"as they would be in the box {plain(other)}"
    if x.dtype == np.uint8:
        return Range(words, Grid(x.dtype, other), few, rebuilt(classifier, other, "x"))
    points, code = moved(few, box, other)
    return Range(words, Grid(FLOAT32, other), points, rebuilt(classifier, box, code))


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


def usual(low: float, high: float, levels: bool = False) -> tuple[float, float] | None:
    """The range of ``BOXES`` that values from ``low`` to ``high`` come from; None if there is none.

    Args:
        low: the lowest value.
        high: the highest.
        levels: whether they are 8-bit grey levels, however few.
    """
    if levels or (low >= 0 and GREY < high <= LEVELS[1]):
        return LEVELS
    return next((box for box in BOXES[:2] if box[0] <= low and high <= box[1]), None)


def own(low: float, high: float) -> str:
    """A box, as one types it, around values of no usual range."""
    ends = [
        0.0 if low >= 0 else math.floor(low) if low < -GREY else float(str(np.float32(low))),
        0.0 if high <= 0 else math.ceil(high) if high > GREY else float(str(np.float32(high))),
    ]
    return plain((ends[0], ends[1]))


def onto(box: tuple[float, float], given: tuple[float, float]) -> str:
    """The code that scales ``x`` from the range ``given`` onto the box, and never beyond it, not
    even by a rounding.
    """
    if box in BOXES:
        return moved(np.zeros(1), given, box)[1]
    return f"np.interp(x, {plain(given)}, {plain(box)}).astype('float32')"


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


def heads(count: int, tosses: int) -> float:
    """How likely a fair coin shows ``count`` heads or more: the sign test."""
    return sum(math.comb(tosses, more) for more in range(count, tosses + 1)) / 2**tosses


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
