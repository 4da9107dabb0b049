"""The base of every attack: settings, ``init`` and ``step``; the call that judges lives here, the
loop in ``search``.
"""

from __future__ import annotations

import hashlib
import math
import os
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import keras
import numpy as np

from advex import _backend
from advex._arrays import Array, Tensor
from advex._grid import ACCEPTED, HALVES, Grid
from advex._settings import Check, Settings, helpful, shown, whole_number
from advex.budgets import L0, L1, L2, Budget, Linf
from advex.classifier import HOLD, Classifier
from advex.errors import AdvexWarning, AttackError, GradientUnavailable, InvalidInput, InvalidType
from advex.goals import Goal, Untargeted, axes_of
from advex.problem import Problem
from advex.result import Result
from advex.search import Progress, Stage, search

CLONE = (
    "keras.models.clone_model(model, input_tensors=keras.Input(model.input_shape[1:]),"
    " clone_function=lambda layer: layer)"
)
REBUILT = (  # the same for models in models
    "rebuilt = lambda layer: keras.models.clone_model(layer,"
    " input_tensors=keras.Input(layer.input_shape[1:]),"
    " clone_function=rebuilt) if isinstance(layer, keras.Sequential) or len(getattr(layer,"
    " 'inputs', [])) == 1 else layer"
)
SEVERAL = (
    "a model of several inputs is attacked with all but one fixed, such as other of shape (1,"
    " ...): image ="
    f" keras.Input(image_shape); {HOLD.format('image')}; model = keras.Model(image, model([image,"
    f" hold(other)]))"
)
OTHERWISE = "Give other numbers as x.astype('float32')."
ONE_HOT_OR_SEVERAL = (
    "The model has a sigmoid for each class and every row of the labels has a single 1: they were"
    " taken for one class number"
    " each. Several labels for one example (multi-label) are not supported yet."
)

StepSize = float | Callable[[Any], Any]


@dataclass(frozen=True, kw_only=True)
class Attack(Settings):
    """Base class of attacks. A subclass is a frozen, keyword-only dataclass with ``steps``,
    ``init`` and ``step``.

    Example:
        >>> import advex
        >>> @dataclass(frozen=True, kw_only=True)
        ... class Halfway(advex.Attack):
        ...     steps: int = 1
        ...     def init(self, problem):
        ...         return problem.x0, ()
        ...     def step(self, problem, x, memory):
        ...         _, gradient = problem.gradient(x, advex.losses.margin)
        ...         way = problem.budget.steepest(gradient)
        ...         return problem.project(x + problem.epsilon / 2 * way), memory
        >>> model = advex.testing.linear_model()
        >>> Halfway()(model, *advex.testing.linear_data(), advex.Linf(0.1)).success.shape
        (32,)
    """

    _words: ClassVar[dict[str, Check]] = {
        "steps": Check("whole"),
        "patience": Check("whole", optional=True),
    }

    if TYPE_CHECKING:

        @property
        def steps(self) -> int:
            """Number of steps: a field where it is a setting, a class variable where it is not."""

    @property
    def rounds(self) -> int:
        """How many times ``step`` is taken at most; another number than ``steps`` where that
        setting counts something else.
        """
        return self.steps

    needs_epsilon: ClassVar[bool] = True
    """Whether the attack is only defined for a limited budget."""
    needs_gradient: ClassVar[bool] = True
    """Whether the attack differentiates the model. One that does not can attack a ``BlackBox``."""
    targets: ClassVar[bool] = True
    """Whether the attack can pursue a ``Targeted`` goal."""
    starts: ClassVar[bool] = False
    """Whether the attack can begin at points that are given, ``start=``."""
    norms: ClassVar[tuple[type[Budget], ...]] = ()
    """The only norms it is defined in. Empty: every norm, one of your own too, but ``lacks``."""
    lacks: ClassVar[tuple[type[Budget], ...]] = ()
    """The norms in which it has no form."""
    carries: ClassVar[dict[str, np.ufunc | None]] = {}
    """What of its memory a part of the attack hands on to later parts, see ``Stage``."""

    @property
    def default_budget(self) -> Budget | None:
        """The budget of a call that names none. None: there must be one."""
        return None

    @abstractmethod
    def init(self, problem: Problem) -> tuple[Tensor, Any]:
        """The first points, (batch, ...), and the memory: a tree of tensors whose first axis is the
        batch.
        """

    @abstractmethod
    def step(self, problem: Problem, x: Tensor, memory: Any) -> tuple[Tensor, Any]:
        """The next points and the next memory."""

    def done(self, problem: Problem, x: Tensor, memory: Any) -> Tensor | None:
        """Which examples need no further step, (batch,) of bool; their next points are still looked
        at. None: all go on.

        Here: those that have not improved for ``patience`` steps, if the attack has such a setting.
        """
        patience = getattr(self, "patience", None)
        return None if patience is None else problem.idle >= patience

    def stages(self, budget: Budget | None = None) -> list[Stage]:
        """The runs this attack consists of; wrappers have several. ``budget`` None stands for
        any.
        """
        return [Stage(self)]

    def check(self, goal: Goal | None, budget: Budget) -> None:
        """Raise an error if this attack cannot pursue ``goal`` within ``budget``."""
        name = type(self).__name__
        if self.needs_epsilon and not budget.limited:
            raise InvalidInput(
                f"{name} needs a limit: {type(budget).__name__}(epsilon), such as advex.Linf(8/255)"
            )
        if goal is not None and goal.targeted and not self.targets:
            raise InvalidInput(
                f"{name} has no targeted form; use another attack, or labels instead of Targeted"
            )
        if self.norms and not isinstance(budget, self.norms):
            raise InvalidInput(
                f"{name} supports only {listed(self.norms, 'and')}; received {budget!r}: use an"
                f" attack that takes every norm, such as advex.FMN()"
            )
        if isinstance(budget, self.lacks):
            others = [norm for norm in (Linf, L2, L1, L0) if norm not in self.lacks]
            raise InvalidInput(
                f"{name} has no {listed(self.lacks, 'or')} form; use {listed(others, 'or')}"
            )

    def check_inputs(self, shape: tuple[int, ...]) -> None:
        """Raise an error if this attack cannot work on inputs of ``shape``, without the batch
        axis.
        """

    @helpful
    def __call__(
        self,
        model: keras.Model | Classifier,
        x: Any,
        goal: Any = None,
        budget: Budget | None = None,
        *,
        seed: int = 0,
        batch_size: int | None = None,
        progress: Progress = None,
        start: Any = None,
    ) -> Result:
        """Attack ``x``.

        Args:
            model: a ``keras.Model`` on [0, 1], a ``Classifier`` that says what its domain is, or a
                ``BlackBox``.
            x: the inputs, (n, ...): uint8 images, or floats in the box of the model. Float64 is cut
                to float32 first.
            goal: true labels (n,), a ``Goal`` such as ``Targeted(859)``, or None: the model's own
                predictions are left.
            budget: how far each input may be moved, such as ``Linf(8/255)``.
            seed: decides all random numbers, together with each input's content.
            batch_size: examples per step, the memory's limit; no result depends on it.
            progress: True or False for a bar, None for a bar if it takes long and somebody watches,
                or a function ``progress(done, total, found)``.
            start: where to begin, for attacks that look for the smallest perturbation: the
                ``Result`` of another attack on ``x``, or points of the shape of ``x``.

        Returns:
            A ``Result``, one row per input.

        Raises:
            InvalidInput: a value that cannot be worked with. InvalidType: an argument of the wrong
            kind. GradientUnavailable: the model has no gradient. AttackError: the attack broke its
            contract.
        """
        if batch_size is not None:
            batch_size = whole_number("batch_size", batch_size)
        if not (progress is None or isinstance(progress, bool) or callable(progress)):
            raise InvalidType(
                f"progress must be True, False, None or a function; received {shown(progress)}"
            )
        classifier, x, goal, budget, seed = checked_call(self, model, x, goal, budget, seed)
        if start is not None:
            start = self._checked_start(classifier, start, x)
        stages = self.stages(budget)
        for stage in stages:
            stage.attack.check_inputs(x.shape[1:])
            if stage.attack.needs_gradient and not classifier.symbolic:
                raise GradientUnavailable(
                    f"{stage.label} needs gradients, and {classifier!r} has none: use an attack"
                    f" that looks at scores alone,"
                    " such as advex.SquareAttack()"
                )
            _demand_fractions(classifier, stage.label, stage.attack.needs_gradient, x)
        foreign = classifier.symbolic and any(
            type(stage.attack).__module__.split(".")[0] != "advex" for stage in stages
        )
        before = fingerprint(classifier.model) if foreign else {}
        result = search(
            classifier,
            self,
            stages,
            x,
            goal,
            budget,
            seed=seed,
            batch_size=batch_size,
            progress=progress,
            start=start,
        )
        if foreign:
            _demand_untouched(self, classifier, before, x)
        if result.info["head"] in ("sigmoid", "probabilities, one per class") and any(
            "One-hot" in note for note in result.goal.notes
        ):
            result.info["notes"].append(ONE_HOT_OR_SEVERAL)
        result.info["notes"] += _about_levels(x)
        return result

    def _checked_start(self, classifier: Classifier, start: Any, x: Array) -> Array:
        if not self.starts:
            raise InvalidInput(
                f"{type(self).__name__} begins where it chooses: it has no use for start="
            )
        start = checked_inputs(classifier, start.x if isinstance(start, Result) else start)
        if start.shape != x.shape or start.dtype != x.dtype:
            raise InvalidInput(
                f"start must be points for each of x, {x.dtype} of shape {x.shape}; received"
                f" {start.dtype} of shape {start.shape}"
            )
        return start


def listed(norms: Sequence[type[Budget]], word: str) -> str:
    """Their names, as in "Linf, L2 or L1"; ``word`` goes before the last one."""
    *first, last = (norm.__name__ for norm in norms)
    return f"{', '.join(first)} {word} {last}" if first else last


def checked_call(
    attack: Any, model: Any, x: Any, goal: Any, budget: Any, seed: Any
) -> tuple[Classifier, Array, Goal | None, Budget, int]:
    """What a call of ``attack`` is given, as the search takes it, or an error that says what is
    wrong with it.
    """
    name = type(attack).__name__
    classifier = Classifier.of(model)
    if isinstance(goal, Budget):
        raise InvalidType(
            f"the third argument is the goal (labels), the budget comes after it: budget={goal!r}"
        )
    budget = attack.default_budget if budget is None else budget
    if budget is None:
        raise InvalidInput(f"{name} needs a budget, such as advex.Linf(8/255)")
    if not isinstance(budget, Budget):
        raise InvalidType(f"budget must be such as advex.Linf(8/255); received {shown(budget)}")
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
        raise InvalidType(f"seed must be a whole number; received {shown(seed)}")
    if not -(2**63) <= seed < 2**64:
        raise InvalidInput(
            f"seed must be a whole number of at most 64 bits; received {shown(seed)}"
        )
    whole_number(f"{name}.steps", getattr(attack, "steps", None))
    if goal is not None and not isinstance(goal, Goal):
        goal = _labelled(goal, classifier, x)
    attack.check(goal, budget)
    x = checked_inputs(classifier, x)
    return (
        classifier,
        x,
        None if goal is None else goal.check(len(x), classifier.known_classes),
        budget,
        int(seed),
    )


def fingerprint(model: keras.Model) -> dict[str, bytes]:
    """A hash of each weight of the model."""
    return {
        w.path: hashlib.blake2b(np.ascontiguousarray(_backend.to_numpy(w.value)).tobytes()).digest()
        for w in model.weights
    }


def _demand_untouched(
    attack: Attack, classifier: Classifier, before: dict[str, bytes], x: Array
) -> None:
    """Raise if weights have changed, but for those that the model changes by itself whenever it is
    called.
    """
    now = fingerprint(classifier.model)
    changed = {path for path in before if now.get(path) != before[path]}
    if not changed:
        return
    sample = Grid(x.dtype, classifier.box).working(x[:1])
    classifier.forward(sample).raw(keras.ops.convert_to_tensor(sample))
    again = fingerprint(classifier.model)
    if guilty := sorted(path for path in changed if again[path] == now[path]):
        raise AttackError(
            f"{type(attack).__name__} changed the weights of the model: {', '.join(guilty[:3])}"
        )


def _labelled(labels: Any, classifier: Classifier, x: Any) -> Goal:
    """Labels as a goal; one number for all is that of one example, which has perhaps no batch axis
    either.
    """
    if (
        axes_of(labels) == 0
        and isinstance(labels, int | float | np.number | np.ndarray)
        and not isinstance(labels, bool)
    ):
        checked_inputs(classifier, x, "; and its label as a list, [label]")
        raise InvalidInput(
            f"labels must have shape (n,), one for each example; received one number:"
            f" [{shown(labels, 20)}] for one example. The"
            f" first axis of x, {np.shape(x)}, counts the examples: x[None] if that is one alone"
        )
    return Untargeted(labels)


def _demand_fractions(classifier: Classifier, label: str, gradient: bool, x: Array) -> None:
    """Raise if the model turns its input into whole numbers: no gradient passes, and fractions are
    cut off unseen.
    """
    dtype = classifier.input_dtype
    whole = dtype is not None and "float" not in dtype
    nested = None if whole or not classifier.symbolic else _whole_within(classifier.model)
    if not whole and nested is None:
        return
    if not gradient and (
        nested is not None or (x.dtype == np.uint8 and classifier.box == (0, 255))
    ):
        return
    where = (
        f"the input of {nested.name!r}, a model in the model,"
        if nested is not None
        else "the model's input"
    )
    dtype = str(nested.inputs[0].dtype) if nested is not None else dtype
    named = "rebuilt(model)" if nested is not None else CLONE
    recipe = f"{REBUILT}; model = {named}" if nested is not None else f"model = {named}"
    if not gradient:
        raise InvalidInput(
            f"{where} has dtype {dtype}, which cuts off the fractions of {x.dtype} in the box"
            f" {classifier.box}: give images as"
            " uint8 and advex.Classifier(model, box=(0, 255)), or give the same layers a float"
            " input:"
            f" {recipe}"
        )
    raise GradientUnavailable(
        f"{label} needs gradients, and {where} has dtype {dtype}: no gradient passes through whole"
        f" numbers. Give the same"
        f" layers a float input: {recipe}; token numbers have no gradient in any case"
    )


def _whole_within(model: Any) -> Any:
    """A model inside ``model`` whose one input is of whole numbers; None if there is none."""
    for layer in model._flatten_layers(include_self=False):
        inputs = getattr(layer, "inputs", None) if isinstance(layer, keras.Model) else None
        if inputs and len(inputs) == 1 and "float" not in str(inputs[0].dtype):
            return layer
    return None


def _about_levels(x: Array) -> list[str]:
    """What uint8 was taken for, where it may have been meant otherwise."""
    if x.dtype != np.uint8 or not len(x):
        return []
    if x.ndim == 2:
        return [
            f"x is a table of uint8: its values were taken for 8-bit grey levels of 255."
            f" {OTHERWISE}"
        ]
    if x.max() == 1:
        return [
            f"x holds nothing but 0 and 1 as uint8: they were taken for the lowest of 255 grey"
            f" levels. {OTHERWISE}"
        ]
    return []


def checked_inputs(classifier: Classifier, values: Any, rest: str = "") -> Array:
    """``x`` as an array that the search can work with, or an error that says what is wrong with it.

    ``rest`` is what else to say where the first axis is missing.
    """
    x = values if isinstance(values, np.ndarray) else _as_array(values, classifier.input_shape)
    if x.dtype.kind in "fiu" and not x.dtype.isnative:
        x = x.astype(x.dtype.newbyteorder("="))
    if x.dtype not in ACCEPTED:
        raise InvalidType(
            _of_another_dtype(x, "x" if hasattr(values, "astype") else "np.asarray(x)")
        )
    low, high = classifier.box
    _check_shape(
        x, classifier.input_shape, "x" if hasattr(values, "shape") else "np.asarray(x)", rest
    )
    if math.prod(x.shape[1:]) == 0:
        raise InvalidInput(
            f"x must have at least one value for each example; received shape {x.shape}"
        )
    if len(x) and x.dtype == np.uint8 and x.ndim == 2 and x.max() <= 1:
        raise InvalidInput(
            f"x is a table, {x.shape}, of 0 and 1 as uint8, which stands for 8-bit grey levels, 0"
            f" to 255: x.astype('float32')"
        )
    if not len(x) or x.dtype == np.uint8:
        return np.ascontiguousarray(x)
    with np.errstate(over="ignore"):
        finite = np.isfinite(x.astype("float32"))
    if not finite.all():
        bad = np.unique(np.nonzero(~finite)[0])
        raise InvalidInput(
            f"x has {int((~finite).sum())} values that are NaN or infinite, in rows"
            f" {bad[:5].tolist()}"
        )
    exact = x.dtype if x.dtype in HALVES else np.dtype("float32")
    seen_low, seen_high = float(x.astype(exact).min()), float(x.astype(exact).max())
    if seen_low < float(np.asarray(low, exact)) or seen_high > float(np.asarray(high, exact)):
        seen = f"x reaches from {seen_low:g} to {seen_high:g}, outside the box ({low:g}, {high:g})"
        if seen_low >= 0 and 1 < seen_high <= 255 and (low, high) == (0, 1):
            raise InvalidInput(f"{seen}: advex.Classifier(model, box=(0, 255)) or divide by 255?")
        if seen_low < low:
            raise InvalidInput(
                f"{seen}: if it is normalised already, pass it before the normalisation and put"
                f" that into"
                " Classifier(model, preprocess=...): advex.Classifier(model,"
                " preprocess=keras.layers.Normalization(mean=mean, variance=std**2))"
            )
        end = math.ceil(seen_high) if seen_high > 2 else seen_high
        raise InvalidInput(
            f"{seen}: advex.Classifier(model, box=({low:g}, {end})) if that is the model's domain"
        )
    if x.dtype in HALVES:
        spacing = float(np.spacing(np.asarray(max(abs(low), abs(high)), "float32"))) * (
            2**13 if HALVES[x.dtype] == "float16" else 2**16
        )
        if spacing > (high - low) / 255:
            import warnings

            warnings.warn(
                f"{x.dtype} values near the end of the box are {spacing:g} apart, more than a grey"
                f" level: use float32 or uint8",
                AdvexWarning,
                stacklevel=4,
            )
    return np.ascontiguousarray(x)


def _of_another_dtype(x: Array, name: str) -> str:
    """The error about a dtype that is none of those worked with, with the way to one that is."""
    start = (
        f"x has dtype {x.dtype}; give 8-bit images as uint8 (0 to 255), everything else as float32"
    )
    number = f"{name}.astype('float32')"
    if (
        x.dtype.kind in "iu"
        and x.dtype.itemsize > 1
        and x.size
        and x.min() >= 0
        and 1 < x.max() <= 255
    ):
        return f"{start}: {name}.astype('uint8') for images of 0 to 255, {number} for other numbers"
    if x.dtype == np.uint16:
        return f"{start}: {number} / 65535 for 16-bit images and a model on [0, 1]"
    if x.dtype.kind == "c":
        return (
            f"{start}; the model has no complex input: {name}.real.astype('float32') if"
            f" that is what it takes"
        )
    if x.dtype.kind in "mM":
        return (
            f"{start}; times must become the numbers that the model takes:"
            f" {name}.astype('int64').astype('float32')"
        )
    if x.dtype.kind in "SUTOV":
        return (
            f"{start}: texts and records are no inputs; encode them as the model was"
            f" trained, as numbers"
        )
    return f"{start}: {number}"


def _as_array(values: Any, shape: tuple[int | None, ...] | None) -> Array:
    """Whatever holds numbers as one array; ``shape`` is that of the model's input, where it is
    known.
    """
    kind = type(values).__name__
    if isinstance(values, dict):
        names = sorted(map(str, values))
        several = f"; {SEVERAL}" if len(names) > 1 else ""
        first = next(iter(values), "name")
        raise InvalidInput(
            f"x must be one array; received a dict with {names}: pass x[...], one of them,"
            f" x[{first!r}]{several}"
        )
    if isinstance(values, str | bytes | os.PathLike):
        raise InvalidType(
            f"x must be an array of numbers, shape (n, ...); received {shown(values)}: x ="
            f" advex.images.read(path).pixels[None]"
            " for the image in a file"
        )
    if _is_data(values):
        raise InvalidType(
            f"x must be an array, shape (n, ...), and labels another; received {kind}. A data set,"
            f" batches (x, labels), belongs"
            " to advex.evaluate(model, data, advex.PGD(), advex.Linf(8/255))"
        )
    if (
        isinstance(values, list | tuple)
        and len(values)
        and all(np.ndim(entry) > 1 for entry in _arrays(values))
    ):
        parts = [np.shape(entry) for entry in values]
        stacked = (len(parts), *parts[0])
        known = shape is not None and _fits(stacked[1:], shape[1:])
        if len(set(parts)) == 1 and not known and (shape is None or len(shape) == len(parts[0])):
            raise InvalidInput(
                f"x must be one array; received a {kind} of {len(parts)} arrays of shape"
                f" {parts[0]}: np.stack(x) if each is one"
                f" example, np.concatenate(x) if each is a batch; {SEVERAL}"
            )
    try:
        x = np.asarray(_backend.to_numpy(values))
    except Exception:  # what an object that is no array raises here may be anything
        entries = values if isinstance(values, list | tuple) else []
        shapes = [_shape_of(entry) for entry in entries][:5]
        if not shapes:
            raise InvalidType(
                f"x must be an array of numbers, shape (n, ...); received {kind}"
            ) from None
        several = (
            f": {SEVERAL}" if len(entries) < 5 and all(len(each) > 1 for each in shapes) else ""
        )
        raise InvalidInput(
            f"x must be one array; received a {kind} of shapes {shapes}{several}"
        ) from None
    if x.dtype == object:
        if hasattr(values, "to_numpy"):  # a table of pandas with columns of several kinds
            raise InvalidType(
                f"x must be an array of numbers, shape (n, ...); received {kind} with columns of"
                f" several kinds:"
                " x.to_numpy('float32') once all are numbers"
            )
        raise InvalidType(f"x must be an array of numbers, shape (n, ...); received {kind}")
    return x


def _arrays(values: list[Any] | tuple[Any, ...]) -> list[Any]:
    """The entries of a list if they are arrays or tensors; nothing otherwise: nested lists of
    numbers are one array.
    """
    return [entry if hasattr(entry, "shape") else 0 for entry in values]


def _shape_of(entry: Any) -> tuple[int, ...]:
    try:
        return tuple(np.shape(entry))
    except Exception:  # ragged within
        return (len(entry),) if hasattr(entry, "__len__") else ()


def _is_data(values: Any) -> bool:
    """Whether this gives batches, one after the other, and is no array."""
    if isinstance(values, keras.utils.PyDataset | Iterator):
        return True
    if isinstance(values, list | tuple):  # (x, labels), or a list of such pairs
        pairs = [entry for entry in values[:3] if isinstance(entry, tuple)]
        arrays = all(hasattr(part, "shape") for part in (pairs[0] if pairs else values[:3]))
        short = (
            len(values) == 2
            and arrays
            and not pairs
            and np.ndim(values[0]) > 1 == np.ndim(values[1])
        )
        return short or (
            len(pairs) == len(values[:3]) > 0
            and all(len(pair) in (2, 3) for pair in pairs)
            and arrays
        )
    if (
        hasattr(values, "shape")
        or hasattr(values, "__array__")
        or hasattr(values, "__array_interface__")
    ):
        return False
    return hasattr(values, "element_spec") or (
        hasattr(values, "dataset") and hasattr(values, "__iter__")
    )


def _fits(have: tuple[int, ...], want: tuple[int | None, ...]) -> bool:
    """Whether an example of shape ``have`` is what a model takes whose input, without the batch
    axis, is ``want``.
    """
    return len(have) == len(want) and all(w in (None, h) for w, h in zip(want, have, strict=True))


def _check_shape(x: Array, shape: tuple[int | None, ...] | None, name: str, rest: str) -> None:
    """Raise if ``x`` cannot be a batch for a model whose input has ``shape`` (batch axis
    included).
    """
    if x.ndim < 2:
        raise InvalidInput(
            f"x must be a batch, shape (n, ...); received shape {x.shape}: {name}[None] makes one"
            f" example a batch{rest}"
            if x.ndim
            else f"x must be a batch, shape (n, ...); received one number, {x[()]}"
        )
    if shape is None:
        return
    want = shape[1:]

    def fits(have: tuple[int, ...]) -> bool:
        return _fits(have, want)

    if fits(x.shape[1:]):
        return
    wanted = f"(n, {', '.join('any' if size is None else str(size) for size in want)})"
    message = f"the model takes x of shape {wanted}; received {x.shape}"
    if fits(x.shape):
        raise InvalidInput(f"{message}, one example without a batch axis: pass {name}[None]{rest}")
    if x.ndim == len(shape) == 4:
        moved = (x.shape[2], x.shape[3], x.shape[1])
        if fits(moved):
            raise InvalidInput(
                f"{message}, which is channels first for a channels-last model: np.moveaxis(x, 1,"
                f" -1)"
            )
        if fits((x.shape[3], x.shape[1], x.shape[2])):
            raise InvalidInput(
                f"{message}, which is channels last for a channels-first model: np.moveaxis(x, -1,"
                f" 1)"
            )
        if x.shape[3] == 1 and want[-1] == 3:
            raise InvalidInput(
                f"{message}, grey images (one channel) for a colour model (three): np.repeat(x, 3,"
                f" axis=-1)"
            )
        if x.shape[3] == 3 and want[-1] == 1:
            raise InvalidInput(
                f"{message}, colour images (three channels) for a model of grey ones (one channel)"
            )
    if fits((*x.shape[1:], 1)):
        raise InvalidInput(f"{message}, without a channel axis: pass {name}[..., None]")
    if fits((*x.shape, 1)):
        raise InvalidInput(
            f"{message}, one example without batch and channel axes: pass {name}[None, ...,"
            f" None]{rest}"
        )
    raise InvalidInput(message)
