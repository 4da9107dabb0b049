"""What every goal is: a margin above 0 where it is reached, and what can be said of an answer."""

from __future__ import annotations

import copy
import dataclasses
from abc import abstractmethod
from collections.abc import Callable, Hashable, Mapping
from typing import Any, ClassVar, Protocol, Self, TypeAlias

import numpy as np
from keras import ops, tree

from advex import _backend
from advex._arrays import Array, Tensor
from advex._settings import Settings, shown
from advex.errors import InvalidInput, InvalidType, blaming

FRAGILE = 1e-6
"""A margin below this fraction of the largest logit may differ from machine to machine: it never
counts as crossed.
"""
INFINITY = float("inf")
LARGEST = 3e38  # what float32 holds

Reading: TypeAlias = "str | tuple[tuple[str | int | None, str], ...]"
"""How a goal wants to be told what the model answers.

"scores": a number for each class along the last axis, before any softmax or sigmoid; one unit is
two classes. "scores 2": the same at each of 2 axes of places. "labels": a number for each label,
before its sigmoid. "raw": what the model itself answers. Several outputs: their names, each with
one of these; the goal receives a dict of ``part_name``.
"""


READS = ("scores", "labels", "raw")
TREE = " tree"
"""Of a reading: where the model has several outputs, all of them, as the model gives them."""


def about_scores(goal: Goal) -> bool:
    """Whether a goal is told the scores of classes, of one output."""
    return isinstance(goal.reading, str) and goal.reading.split()[0] == "scores"


def part_name(output: str | int | None, reads: str) -> str:
    """The key of one output in what a goal over several is told."""
    return f"{'' if output is None else output}: {reads}"


class Seen(Protocol):
    """What a goal is told about the outputs of the model, see ``model.head.Head``."""

    classes: int
    independent: bool
    bare: bool

    @property
    def parts(self) -> Mapping[str, Any]: ...


class Goal(Settings):
    r"""What an attack is to achieve. A goal of your own is a frozen dataclass with `margin`.

    When to use it:
        Derive from it when success is none of `Untargeted`, `Targeted`, `TopK`, `MultiLabel`,
        `Regression`, `Segmentation` and their joins.

    $$ \text{success} \iff f(z(x)) > 0 $$

    $f$ is `margin`, a function of what the model answers, $z(x)$: for classes the logits (batch,
    classes). A margin that is above 0 by less than a millionth of the largest logit does not count,
    as it may differ from machine to machine. Attacks climb the margin, so it should grow steadily
    towards success.

    Fields that are NumPy arrays hold one entry per example and travel with it; inside `margin` they
    are tensors of the batch at hand.

    Raises:
        InvalidInput: at the call, a field whose length is not the number of examples.

    Example:
        >>> import advex
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True, eq=False)
        ... class Above(advex.Goal):  # the second output is to exceed a threshold of each example
        ...     threshold: np.ndarray
        ...     def margin(self, logits):
        ...         return logits[:, 1] - self.threshold
        >>> model, (x, _) = advex.testing.linear_model(), advex.testing.linear_data()
        >>> goal = Above(np.full(32, 0.3))
        >>> advex.PGD()(model, x, goal, advex.Linf(0.1)).success.shape
        (32,)
    """

    targeted: ClassVar[bool] = False
    """Whether ``labels`` are classes to reach (True) or to leave (False); ``losses.cross_entropy``
    asks.
    """
    reads: ClassVar[str] = "scores"
    """What ``margin`` receives: "scores", "labels" or "raw", see ``Reading``."""
    one_output: ClassVar[bool] = False
    """Whether it is about a single output. Others receive those of a model with several as the
    model gives them, a dict or a list."""
    forks: ClassVar[bool] = False
    """Whether an attack is sent along each of ``ways`` by itself: where they begin at the same
    place, or have no scale in common, one gradient cannot tell which is nearer."""
    independent = False
    """Whether each class has a probability of its own, a sigmoid unit each; set from the model, see
    ``of``.
    """
    bare = False
    """Whether the model says nothing but a class; set likewise."""

    @abstractmethod
    def margin(self, logits: Tensor) -> Tensor:
        """How far the decision boundary is crossed, above 0 where it is.

        Args:
            logits: what the model answers, for goals about classes logits of shape (batch,
                classes).

        Returns:
            The margin of each example, (batch,).
        """

    def surplus(self, answer: Tensor) -> Tensor:
        """What is zero on the boundary of success, (batch,): the margin, or less where more than
        that is demanded.
        """
        return self.margin(answer)

    def entropy(self, answer: Tensor) -> Tensor | None:
        """What ``losses.cross_entropy`` is for this goal, (batch,). None: that of ``labels``, or
        the margin where there are none.
        """
        return None

    def ways(self, answer: Tensor) -> Tensor | None:
        """Numbers of which any above 0 is success, (batch, k), if there are several. An attack may
        pursue one of them, see ``towards``.
        """
        return None

    def entropies(self, answer: Tensor) -> Tensor | None:
        """``entropy`` of each of the ways, (batch, k); None: the ways themselves."""
        return None

    def branches(self, classes: int) -> int:
        """How many ways there are, for a model of so many classes."""
        return 0

    def towards(self, way: Tensor) -> Goal:
        """The goal that pursues one way of each example: their numbers, (batch,) int32."""
        return OneWay(self, way)

    def damage(self, answer: Tensor) -> Tensor:
        """By what ``until="end"`` tells the worst point of each example: (batch,)."""
        return self.surplus(answer)

    def reached(self, logits: Tensor, slack: float = 1.0) -> Tensor:
        """Whether each example has succeeded: (batch,) of bool. NaN never has.

        The margin must exceed ``slack`` times the noise of the arithmetic, 1e-6 of the largest
        logit.
        """
        with blaming(f"{type(self).__name__}.margin"):
            margin = self.margin(logits)
        self._demand_one_each(margin)
        return margin > slack * FRAGILE * largest(logits)

    def _demand_one_each(self, margin: Any) -> None:
        shape, kind = getattr(margin, "shape", None), str(getattr(margin, "dtype", "no dtype"))
        if shape is None or len(shape) != 1 or "float32" not in kind:
            told = type(margin).__name__ if shape is None else f"shape {tuple(shape)}, {kind}"
            raise InvalidInput(
                f"{type(self).__name__}.margin must return one number for each example, shape"
                f" (batch,) of float32, above 0 where the goal is reached; it returned {told}"
            )

    def probabilities(self, logits: Tensor) -> Tensor:
        """What the model itself calls the probability of each class, along the last axis: softmax
        or a sigmoid for each.
        """
        if self.bare:
            return ops.full_like(logits, float("nan"))
        return ops.sigmoid(logits) if self.independent else ops.softmax(logits)

    # What is known of the model, and of the examples.

    @property
    def reading(self) -> Reading:
        """How this goal wants to be told what the model answers."""
        if self.reads not in READS:
            raise InvalidInput(
                f"{type(self).__name__}.reads must be 'scores', 'labels' or 'raw'; received"
                f" {shown(self.reads)}"
            )
        return self.reads if self.one_output else self.reads + TREE

    def of(self, head: Seen) -> Self:
        """This goal for a model with these outputs: classes may have probabilities of their own, or
        share one.
        """
        if (head.independent, head.bare) == (self.independent, self.bare):
            return self
        twin = copy.copy(self)
        object.__setattr__(twin, "independent", head.independent)
        object.__setattr__(twin, "bare", head.bare)
        return twin

    @property
    def more_than_a_class(self) -> str:
        """What of it cannot be told from the predicted class alone; nothing where all can."""
        return ""

    def check(self, count: int, classes: int | None) -> Self:
        """This goal, tidied up for ``count`` examples, or an error that says what is wrong with it.

        ``classes`` is None as long as only the model itself, not yet called, could tell their
        number.
        """
        if tensors := [name for name, value in vars(self).items() if ops.is_tensor(value)]:
            name = f"{type(self).__name__}.{tensors[0]}"
            raise InvalidType(
                f"{name} is a tensor: entries for the examples are a NumPy array,"
                f" np.asarray({tensors[0]})"
            )
        tidy = {
            name: tidied(f"{type(self).__name__}.{name}", values)
            for name, values in self.rows().items()
        }
        for name, values in tidy.items():
            if len(values) != count:
                raise InvalidInput(
                    f"{type(self).__name__}.{name} has {len(values)} entries for {count} examples"
                )
        return self.bound(tidy)

    def suit(self, shapes: Any) -> None:
        """Raise unless the answer to one example, of this shape (or tree of shapes), is what the
        goal is about.
        """

    @property
    def open(self) -> bool:
        """Whether it waits for the model's own answer, see ``closed``."""
        return False

    @property
    def about_own(self) -> bool:
        """Whether that answer, right or wrong, is what is attacked."""
        return self.open

    def closed(self, answer: Any) -> Goal:
        """This goal about the model's own answer to the clean examples, arrays (n, ...)."""
        return self

    def rows(self) -> dict[str, Array]:
        """The fields with one entry per example."""
        if not hasattr(self, "__dataclass_fields__"):
            name = type(self).__name__
            raise InvalidType(
                f"a goal must be a frozen dataclass: from dataclasses import dataclass, and"
                f" @dataclass(frozen=True, eq=False) above class {name}"
            )
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        values = {field.name: getattr(self, field.name) for field in fields}
        return {
            name: value
            for name, value in values.items()
            if isinstance(value, np.ndarray) and value.ndim
        }

    def bound(self, rows: Mapping[str, Any]) -> Self:
        """A copy whose per-example fields are ``rows``."""
        twin = copy.copy(self)
        for name, values in rows.items():
            object.__setattr__(twin, name, values)
        return twin

    def part(self, rows: Any) -> Self:
        """The goal of some of its examples."""
        return self.bound({name: values[rows] for name, values in self.rows().items()})

    def key(self) -> Hashable:
        """What a compiled search depends on: everything but the entries per example."""
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        mine, rows = self.bound(dict.fromkeys(self.rows())), self.rows()
        settings = tuple((field.name, _kept(getattr(mine, field.name))) for field in fields)
        shapes = tuple((name, values.shape[1:]) for name, values in rows.items())
        return type(self), settings, shapes, self.independent, self.bare

    @property
    def notes(self) -> tuple[str, ...]:
        """What was done to the values given, in sentences."""
        return ()

    # What is told of an answer.

    def said(self, answer: Any) -> tuple[Any, Any]:
        """What the model says, and how sure it is of it: arrays (n, ...) of an answer, arrays too.

        Here the class and its probability; of an answer that is no score for each class the answer
        itself, and NaN.
        """
        if self.reads == "scores" and isinstance(answer, np.ndarray) and answer.ndim > 1:
            return classes_said(answer, self.probabilities)
        return answer, np.full(len(tree.flatten(answer)[0]), np.nan)

    def words(self, prediction: Any, confidence: Any, name: Callable[[int], str]) -> str:
        """What the model says about one example, in a word or two; ``name`` gives a class' name."""
        if isinstance(prediction, dict):
            return ", ".join(f"{key} {_short(value)}" for key, value in prediction.items())
        whole = np.ndim(prediction) == 0 and np.asarray(prediction).dtype.kind in "iu"
        return name(int(prediction)) if whole else _short(prediction)


def classes_said(scores: Array, probabilities: Callable[[Tensor], Tensor]) -> tuple[Array, Array]:
    """The likeliest class and its probability, of several places the mean: of (n, ..., classes)."""
    likely = ops.max(probabilities(ops.convert_to_tensor(scores)), axis=-1)
    sure = _backend.to_numpy(likely)
    if sure.ndim > 1:
        sure = sure.reshape(len(sure), -1).mean(axis=1)
    return scores.argmax(axis=-1).astype("int64"), sure


def _short(value: Any) -> str:
    flat = np.ravel(value)
    return f"{float(flat[0]):.4g}" if len(flat) == 1 else f"{len(flat)} numbers"


def _kept(value: Any) -> Hashable:
    """A setting as a part of a key: arrays without examples by what they hold."""
    if isinstance(value, np.ndarray):
        return value.tobytes(), value.shape, value.dtype.str
    return tuple(value) if isinstance(value, list) else value


def chance(scores: Array, independent: bool) -> Array:
    """Softmax along the last axis, or a sigmoid of each number, in float64."""
    scores = scores.astype("float64")
    if independent:
        return np.asarray(0.5 * (1 + np.tanh(scores / 2)))
    odds = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=-1, keepdims=True))


def largest(answer: Any) -> Tensor:
    """Each example's largest absolute number, shape (batch,); classes masked out by -1e9 or -inf do
    not take part.
    """
    leaves = tree.flatten(answer)
    if len(leaves) > 1:
        made = largest(leaves[0])
        for leaf in leaves[1:]:
            made = ops.maximum(made, largest(leaf))
        return made
    logits = leaves[0]
    if len(logits.shape) != 2:
        return largest(ops.reshape(logits, (ops.shape(logits)[0], -1)))
    top = ops.max(logits, axis=1, keepdims=True)
    masked = logits < top - 1e4 * (1 + ops.abs(top))
    size = ops.max(ops.abs(ops.where(masked, top, logits)), axis=1)
    return ops.minimum(size, LARGEST)  # a logit that overflowed crosses like any other


@dataclasses.dataclass(frozen=True, eq=False)
class OneWay(Goal):
    """One of the ways to a goal for each example: what an attack pursues in one of its runs.

    Losses see a goal whose margin is that way's number; success is judged by the goal of the call.

    Args:
        goal: the goal.
        way: which of its ways, (batch,) int32.
    """

    goal: Goal
    way: Any

    @property
    def reading(self) -> Reading:
        return self.goal.reading

    def margin(self, logits: Tensor) -> Tensor:
        return self._picked(self.goal.ways(logits))

    def entropy(self, answer: Tensor) -> Tensor:
        own = self.goal.entropies(answer)
        return self.margin(answer) if own is None else self._picked(own)

    def _picked(self, values: Tensor) -> Tensor:
        return ops.take_along_axis(values, ops.expand_dims(self.way, 1), axis=1)[:, 0]


def tidied(name: str, values: Array) -> Array:
    """A copy of one entry per example, of the types that models and losses work with: int32,
    float32, bool.
    """
    kind = values.dtype.kind
    if kind in "iu":
        if values.size and not -(2**31) <= int(values.min()) <= int(values.max()) < 2**31:
            raise InvalidInput(f"{name} holds whole numbers beyond 32 bits, such as {values.max()}")
        return values.astype("int32")
    if kind not in "fb":
        raise InvalidType(
            f"{name} must hold numbers, one entry per example; received an array of {values.dtype}"
        )
    return values.astype("float32" if kind == "f" else bool)
