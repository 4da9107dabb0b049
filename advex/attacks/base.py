"""The base of every attack: settings, ``init`` and ``step``; the call that judges lives here, the loop in ``search``."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import keras
import numpy as np

from advex import _backend
from advex._arrays import Array, Tensor
from advex._grid import ACCEPTED, HALVES, Grid
from advex._settings import Settings, helpful, whole_number
from advex.budgets import Budget
from advex.classifier import Classifier
from advex.errors import AdvexWarning, AttackError, GradientUnavailable, InvalidInput, InvalidType
from advex.goals import Goal, Untargeted
from advex.problem import Problem
from advex.result import Result
from advex.search import Progress, Stage, search

StepSize = float | Callable[[Any], Any]


@dataclass(frozen=True, kw_only=True)
class Attack(Settings):
    """Base class of attacks. A subclass is a frozen, keyword-only dataclass with ``steps``, ``init`` and ``step``.

    Example:
        >>> import advex
        >>> @dataclass(frozen=True, kw_only=True)
        ... class Halfway(advex.Attack):
        ...     steps: int = 1
        ...     def init(self, problem):
        ...         return problem.x0, ()
        ...     def step(self, problem, x, memory):
        ...         _, gradient = problem.gradient(x, advex.losses.margin)
        ...         return problem.project(x + problem.epsilon / 2 * problem.budget.steepest(gradient)), memory
        >>> model = advex.testing.linear_model()
        >>> Halfway()(model, *advex.testing.linear_data(), advex.Linf(0.1)).success.shape
        (32,)
    """

    if TYPE_CHECKING:

        @property
        def steps(self) -> int:
            """Number of steps: a field where it is a setting, a class variable where it is not."""

    @property
    def rounds(self) -> int:
        """How many times ``step`` is taken at most; another number than ``steps`` where that setting counts something else."""
        return self.steps

    needs_epsilon: ClassVar[bool] = True
    """Whether the attack is only defined for a limited budget."""
    needs_gradient: ClassVar[bool] = True
    """Whether the attack differentiates the model. One that does not can attack a ``BlackBox``."""
    targets: ClassVar[bool] = True
    """Whether the attack can pursue a ``Targeted`` goal."""
    starts: ClassVar[bool] = False
    """Whether the attack can begin at points that are given, ``start=``."""
    carries: ClassVar[dict[str, np.ufunc | None]] = {}
    """What of its memory a part of the attack hands on to later parts, see ``Stage``."""

    @property
    def default_budget(self) -> Budget | None:
        """The budget of a call that names none. None: there must be one."""
        return None

    @abstractmethod
    def init(self, problem: Problem) -> tuple[Tensor, Any]:
        """The first points, (batch, ...), and the memory: a tree of tensors whose first axis is the batch."""

    @abstractmethod
    def step(self, problem: Problem, x: Tensor, memory: Any) -> tuple[Tensor, Any]:
        """The next points and the next memory."""

    def done(self, problem: Problem, x: Tensor, memory: Any) -> Tensor | None:
        """Which examples need no further step, (batch,) of bool; their next points are still looked at. None: all go on.

        Here: those that have not improved for ``patience`` steps, if the attack has such a setting.
        """
        patience = getattr(self, "patience", None)
        return None if patience is None else problem.idle >= patience

    def stages(self, budget: Budget | None = None) -> list[Stage]:
        """The runs this attack consists of; wrappers have several. ``budget`` None stands for any."""
        return [Stage(self)]

    def check(self, goal: Goal | None, budget: Budget) -> None:
        """Raise an error if this attack cannot pursue ``goal`` within ``budget``."""
        name = type(self).__name__
        if self.needs_epsilon and not budget.limited:
            raise InvalidInput(f"{name} needs a limit: {type(budget).__name__}(epsilon), such as advex.Linf(8/255)")
        if goal is not None and goal.targeted and not self.targets:
            raise InvalidInput(f"{name} has no targeted form; use another attack, or labels instead of Targeted")

    def check_inputs(self, shape: tuple[int, ...]) -> None:
        """Raise an error if this attack cannot work on inputs of ``shape``, without the batch axis."""

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
            model: a ``keras.Model`` on [0, 1], a ``Classifier`` that says what its domain is, or a ``BlackBox``.
            x: the inputs, (n, ...): uint8 images, or floats in the box of the model. Float64 is cut to float32 first.
            goal: true labels (n,), a ``Goal`` such as ``Targeted(859)``, or None: the model's own predictions are left.
            budget: how far each input may be moved, such as ``Linf(8/255)``.
            seed: decides all random numbers, together with each input's content.
            batch_size: examples per step, the memory's limit; no result depends on it.
            progress: True or False for a bar, None for a bar if it takes long and somebody watches, or a function
                ``progress(done, total, found)``.
            start: where to begin, for attacks that look for the smallest perturbation: the ``Result`` of another attack on
                ``x``, or points of the shape of ``x``.

        Returns:
            A ``Result``, one row per input.

        Raises:
            InvalidInput: a value that cannot be worked with. InvalidType: an argument of the wrong kind.
            GradientUnavailable: the model has no gradient. AttackError: the attack broke its contract.
        """
        classifier = Classifier.of(model)
        if isinstance(goal, Budget):
            raise InvalidType(f"the third argument is the goal (labels), the budget comes after it: budget={goal!r}")
        budget = self.default_budget if budget is None else budget
        if budget is None:
            raise InvalidInput(f"{type(self).__name__} needs a budget, such as advex.Linf(8/255)")
        if not isinstance(budget, Budget):
            raise InvalidType(f"budget must be such as advex.Linf(8/255); received {budget!r}")
        if batch_size is not None:
            batch_size = whole_number("batch_size", batch_size)
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
            raise InvalidType(f"seed must be a whole number; received {seed!r}")
        if not -(2**63) <= seed < 2**64:
            raise InvalidInput(f"seed must be a whole number of at most 64 bits; received {seed!r}")
        if not (progress is None or isinstance(progress, bool) or callable(progress)):
            raise InvalidType(f"progress must be True, False, None or a function; received {progress!r}")
        whole_number(f"{type(self).__name__}.steps", getattr(self, "steps", None))
        if goal is not None and not isinstance(goal, Goal):
            goal = Untargeted(goal)
        self.check(goal, budget)
        x = checked_inputs(classifier, x)
        if goal is not None:
            goal = goal.check(len(x), classifier.known_classes)
        if start is not None:
            start = self._checked_start(classifier, start, x)
        stages = self.stages(budget)
        for stage in stages:
            stage.attack.check_inputs(x.shape[1:])
            if stage.attack.needs_gradient and not classifier.symbolic:
                raise GradientUnavailable(
                    f"{stage.label} needs gradients, and {classifier!r} has none: use an attack that looks at scores alone,"
                    " such as advex.SquareAttack()"
                )
        foreign = classifier.symbolic and any(type(stage.attack).__module__.split(".")[0] != "advex" for stage in stages)
        before = fingerprint(classifier.model) if foreign else {}
        result = search(
            classifier, self, stages, x, goal, budget, seed=int(seed), batch_size=batch_size, progress=progress, start=start
        )
        if foreign:
            _demand_untouched(self, classifier, before, x)
        return result

    def _checked_start(self, classifier: Classifier, start: Any, x: Array) -> Array:
        if not self.starts:
            raise InvalidInput(f"{type(self).__name__} begins where it chooses: it has no use for start=")
        start = checked_inputs(classifier, start.x if isinstance(start, Result) else start)
        if start.shape != x.shape or start.dtype != x.dtype:
            raise InvalidInput(
                f"start must be points for each of x, {x.dtype} of shape {x.shape}; received {start.dtype} of shape {start.shape}"
            )
        return start


def fingerprint(model: keras.Model) -> dict[str, bytes]:
    """A hash of each weight of the model."""
    return {w.path: hashlib.blake2b(np.ascontiguousarray(_backend.to_numpy(w.value)).tobytes()).digest() for w in model.weights}


def _demand_untouched(attack: Attack, classifier: Classifier, before: dict[str, bytes], x: Array) -> None:
    """Raise if weights have changed, but for those that the model changes by itself whenever it is called."""
    now = fingerprint(classifier.model)
    changed = {path for path in before if now.get(path) != before[path]}
    if not changed:
        return
    sample = Grid(x.dtype, classifier.box).working(x[:1])
    classifier.forward(sample).raw(keras.ops.convert_to_tensor(sample))
    again = fingerprint(classifier.model)
    if guilty := sorted(path for path in changed if again[path] == now[path]):
        raise AttackError(f"{type(attack).__name__} changed the weights of the model: {', '.join(guilty[:3])}")


def checked_inputs(classifier: Classifier, values: Any) -> Array:
    """``x`` as an array that the search can work with, or an error that says what is wrong with it."""
    x = values if isinstance(values, np.ndarray) else _as_array(values)
    if x.dtype.kind in "fiu" and not x.dtype.isnative:
        x = x.astype(x.dtype.newbyteorder("="))
    if x.dtype not in ACCEPTED:
        raise InvalidType(
            f"x has dtype {x.dtype}; give 8-bit images as uint8 (0 to 255), everything else as float32: x.astype('float32')"
        )
    low, high = classifier.box
    shape = classifier.input_shape
    _check_shape(x, shape)
    if not len(x) or x.dtype == np.uint8:
        return np.ascontiguousarray(x)
    with np.errstate(over="ignore"):
        finite = np.isfinite(x.astype("float32"))
    if not finite.all():
        bad = np.unique(np.nonzero(~finite)[0])
        raise InvalidInput(f"x has {int((~finite).sum())} values that are NaN or infinite, in rows {bad[:5].tolist()}")
    exact = x.dtype if x.dtype in HALVES else np.dtype("float32")
    seen_low, seen_high = float(x.astype(exact).min()), float(x.astype(exact).max())
    if seen_low < float(np.asarray(low, exact)) or seen_high > float(np.asarray(high, exact)):
        seen = f"x reaches from {seen_low:g} to {seen_high:g}, outside the box ({low:g}, {high:g})"
        if seen_low >= 0 and 1 < seen_high <= 255 and (low, high) == (0, 1):
            raise InvalidInput(f"{seen}: Classifier(model, box=(0, 255)) or divide by 255?")
        if seen_low < low:
            raise InvalidInput(
                f"{seen}: if it is normalised already, pass it before the normalisation and put that into"
                " Classifier(model, preprocess=...)"
            )
        raise InvalidInput(f"{seen}: Classifier(model, box=({seen_low:g}, {seen_high:g})) if that is the model's domain")
    if x.dtype in HALVES:
        spacing = float(np.spacing(np.asarray(max(abs(low), abs(high)), "float32"))) * (
            2**13 if HALVES[x.dtype] == "float16" else 2**16
        )
        if spacing > (high - low) / 255:
            import warnings

            warnings.warn(
                f"{x.dtype} values near the end of the box are {spacing:g} apart, more than a grey level: use float32 or uint8",
                AdvexWarning,
                stacklevel=4,
            )
    return np.ascontiguousarray(x)


def _as_array(values: Any) -> Array:
    if isinstance(values, dict):
        raise InvalidInput(f"x must be one array; received a dict with {sorted(map(str, values))}: pass x[...], one of them")
    try:
        x = np.asarray(_backend.to_numpy(values))
    except ValueError:
        shapes = [np.shape(entry) for entry in values][:5]
        raise InvalidInput(f"x must be one array; received a {type(values).__name__} of shapes {shapes}") from None
    if x.dtype == object:
        raise InvalidType(f"x must be an array of numbers, shape (n, ...); received {type(values).__name__}")
    return x


def _check_shape(x: Array, shape: tuple[int | None, ...] | None) -> None:
    """Raise if ``x`` cannot be a batch for a model whose input has ``shape`` (batch axis included)."""
    if x.ndim < 2:
        raise InvalidInput(f"x must be a batch, shape (n, ...); received shape {x.shape}: x[None] makes one example a batch")
    if shape is None:
        return
    want = shape[1:]

    def fits(have: tuple[int, ...]) -> bool:
        return len(have) == len(want) and all(w in (None, h) for w, h in zip(want, have, strict=True))

    if fits(x.shape[1:]):
        return
    wanted = f"(n, {', '.join('any' if size is None else str(size) for size in want)})"
    message = f"the model takes x of shape {wanted}; received {x.shape}"
    if fits(x.shape):
        raise InvalidInput(f"{message}, one example without a batch axis: pass x[None]")
    if x.ndim == len(shape) == 4:
        moved = (x.shape[2], x.shape[3], x.shape[1])
        if fits(moved):
            raise InvalidInput(f"{message}, which is channels first for a channels-last model: np.moveaxis(x, 1, -1)")
        if fits((x.shape[3], x.shape[1], x.shape[2])):
            raise InvalidInput(f"{message}, which is channels last for a channels-first model: np.moveaxis(x, -1, 1)")
        if x.shape[3] == 1 and want[-1] == 3:
            raise InvalidInput(f"{message}, grey images (one channel) for a colour model (three): np.repeat(x, 3, axis=-1)")
        if x.shape[3] == 3 and want[-1] == 1:
            raise InvalidInput(f"{message}, colour images (three channels) for a model of grey ones (one channel)")
    if fits((*x.shape[1:], 1)):
        raise InvalidInput(f"{message}, without a channel axis: pass x[..., None]")
    raise InvalidInput(message)
