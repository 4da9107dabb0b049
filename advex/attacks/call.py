"""What can be called to attack a model: the checks of a call, and the way into the driver."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import keras
import numpy as np
from numpy.typing import ArrayLike

from advex import _backend
from advex._arrays import Array
from advex._inputs import Examples, attacked_of
from advex._keywords import public_name
from advex._settings import Settings, helpful, shown, whole_number
from advex._space import grid_of
from advex.attacks.inputs import checked_inputs
from advex.attacks.sizes import Told, groups_of, joined, of_several_sizes
from advex.attacks.whole_inputs import demand_fractions
from advex.budgets import L0, L1, L2, Budget, Linf
from advex.budgets.each import Each, searched
from advex.driver.call import Call, attacked
from advex.driver.candidates import Others
from advex.driver.plan import Leaf, Wave
from advex.driver.progress import Progress
from advex.errors import AttackError, GradientUnavailable, InvalidInput, InvalidType
from advex.goals import Goal, Output, Untargeted, axes_of, demand_made
from advex.goals.base import TREE
from advex.model.classifier import Classifier
from advex.model.protocol import Gives, Model
from advex.result import Result
from advex.trace import checked_marks

OTHERWISE = "Give other numbers as x.astype('float32')."
LABELS_ALONE = {
    "Linf": "RayS",
    "L2": "CGBA",
    "L1": "Pointwise",
    "L0": "Pointwise",
}
"""An attack of each norm that needs labels alone."""
ONE_HOT_OR_SEVERAL = (
    "The model has a sigmoid for each class and every row of the labels has a single 1: they were"
    " taken for one class number each. Several labels for one example (multi-label):"
    " advex.MultiLabel(labels)."
)
USUAL = {
    Linf: "advex.Linf(8/255)",
    L2: "advex.L2(0.5)",
    L1: "advex.L1(10)",
    L0: "advex.L0(20)",
}
"""A budget of each norm, as one types it."""
INDEPENDENT = ("sigmoid", "probabilities, one per class")


class Attackable(Settings):
    """What leaves and composites have in common: they are called, and answer with a plan."""

    needs_epsilon: ClassVar[bool] = True
    """Whether the attack is only defined for a limited budget."""
    targets: ClassVar[bool] = True
    """Whether the attack can pursue a ``Targeted`` goal."""
    keeps_worst: ClassVar[bool] = False
    """Whether ``result.attempt`` of rows that hold is the worst point that was seen, not the last:
    as with ``until="end"``, but for rows that leave at their first success."""
    starts: ClassVar[bool] = False
    """Whether the attack can begin at points that are given, ``start=``."""
    norms: ClassVar[tuple[type[Budget], ...]] = ()
    """The only norms it is defined in. Empty: every norm, one of your own too, but ``lacks``."""
    lacks: ClassVar[tuple[type[Budget], ...]] = ()
    """The norms in which it has no form."""

    def fitted(self, model: Model) -> Attackable:
        """This attack for what the model gives: itself, but where it is a choice."""
        return self

    @property
    def default_budget(self) -> Budget | None:
        """The budget of a call that names none. None: a budget is required."""
        return None

    @abstractmethod
    def plan(self, budget: Budget | None = None) -> list[Wave]:
        """What runs, wave after wave. ``budget`` None stands for any."""

    def check_settings(self) -> None:
        """Raise an error if a setting cannot be worked with."""

    def check(self, goal: Goal | None, budget: Budget) -> None:
        """Raise an error if this attack cannot pursue ``goal`` within ``budget``."""
        name = type(self).__name__
        if self.needs_epsilon and not budget.limited:
            raise InvalidInput(
                f"{name} needs a limit, such as {USUAL.get(type(budget), USUAL[Linf])}"
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

    @helpful
    def __call__(
        self,
        model: keras.Model | Model,
        x: Any,
        goal: Goal | ArrayLike | None = None,
        budget: Budget | Mapping[str, Budget] | None = None,
        *,
        seed: int = 0,
        batch_size: int | None = None,
        progress: Progress = None,
        start: Any = None,
        until: Literal["success", "end"] = "success",
        marks: Sequence[int] | None = None,
    ) -> Result:
        """Attack `x`: the call of every attack, `attack(model, x, goal, budget)`.

        Examples are independent: what a row gets depends on its content, the seed and the settings
        alone, not on its neighbours or the batch size. Every success is judged by the model once
        more, on the very array that is returned.

        Args:
            model: a ``keras.Model`` on [0, 1], a ``Classifier`` that says what its domain is, or a
                ``BlackBox``.
            x: the inputs, (n, ...): uint8 images, or floats in the box of the model. Float64 is cut
                to float32 first, but where the model has a ``Domain``. Of a model of several inputs
                a dict, tuple or list of arrays, a row for each example in all of them. Of inputs of
                several sizes a list of arrays, one for each example, or the name of a folder of
                pictures: the result has such lists.
            goal: true labels (n,), a ``Goal`` such as ``Targeted(859)``, or None: the model's own
                predictions are left.
            budget: how far each input may be moved, such as ``Linf(8/255)``; where several inputs
                are attacked at once a dict with one for each.
            seed: decides all random numbers, together with each input's content.
            batch_size: examples per step, the memory's limit; no result depends on it.
            progress: True or False for a bar, None for a bar if the call is slow and somebody
                watches, or a function ``progress(done, total, found)``.
            until: "success": a row leaves at its first success. "end": each row takes all steps,
                also one that was misclassified before, and the point where the goal is exceeded
                most is kept, in ``result.attempt``: for training, and for how bad it can be.
            start: where to begin, for attacks that look for the smallest perturbation: the
                ``Result`` of another attack on ``x``, or points of the shape of ``x``; for attacks
                that need no gradients also ``Others(data)``, data of other classes.
            marks: for attacks without gradients, the numbers of queries at which ``result.trace``
                keeps the smallest size. None: 1, 2, 5, 10, 20, ...

        Returns:
            A `Result`, one row per input.

        Raises:
            InvalidInput: a value that cannot be worked with.
            InvalidType: an argument of the wrong kind.
            GradientUnavailable: the model has no gradient.
            AttackError: the attack broke its contract.

        Example:
            >>> import advex
            >>> x, labels = advex.testing.linear_data(4)
            >>> model = advex.testing.linear_model()
            >>> result = advex.PGD(steps=5)(model, x, labels, advex.Linf(0.3))
            >>> result.success.shape, result.x.dtype
            ((4,), dtype('float32'))
        """
        marks = checked_marks(marks)
        if batch_size is not None:
            batch_size = whole_number("batch_size", batch_size)
        if not (progress is None or isinstance(progress, bool) or callable(progress)):
            raise InvalidType(
                f"progress must be True, False, None or a function; received {shown(progress)}"
            )
        classifier = Classifier.of(model)
        pictures = of_several_sizes(classifier, x)
        if pictures is not None:
            return self._of_sizes(
                classifier, pictures, goal, budget, seed, batch_size, progress, start, until
            )
        call = checked_call(self, classifier, x, goal, budget, seed)
        call = self._asked(call, batch_size, progress, start, until)
        return attacked_by(self, call._replace(marks=marks))

    def _of_sizes(
        self,
        classifier: Model,
        pictures: list[Array],
        goal: Any,
        budget: Any,
        seed: Any,
        batch_size: int | None,
        progress: Progress,
        start: Any,
        until: Any,
    ) -> Result:
        """The call for inputs of several sizes: one group after the other."""
        count, groups = len(pictures), groups_of(pictures)
        if isinstance(start, Result):
            start = start.x
        start = None if start is None else _points(start, pictures)
        if goal is not None and not isinstance(goal, Goal):
            demand_made(goal)
            goal = _labelled(goal, classifier, np.stack([pictures[row] for row in groups[0]]))
        goal = goal and goal.check(count, None)
        if isinstance(budget, Budget):
            budget.demand_count(count)
        calls = []
        for rows in groups:  # everything is checked before anything is attacked
            x = np.stack([pictures[row] for row in rows])
            part = budget.part(rows) if isinstance(budget, Budget) else budget
            call = checked_call(self, classifier, x, goal and goal.part(rows), part, seed)
            first = None if start is None else np.stack([start[row] for row in rows])
            calls.append(
                self._asked(call, batch_size, progress, first, until)._replace(of_sizes=True)
            )
        told, parts = Told(progress, count), []
        for rows, call in zip(groups, calls, strict=True):
            result = attacked_by(self, call._replace(progress=told.part(len(rows))))
            parts.append((rows, result))
        whole = goal if not isinstance(goal, Output) else goal.goal
        return joined(parts, pictures, whole)

    def _asked(
        self, call: Call, batch_size: int | None, progress: Progress, start: Any, until: Any
    ) -> Call:
        """The call with all that it is to do, checked."""
        if not isinstance(until, str) or until not in ("success", "end"):
            raise InvalidInput(f"until must be 'success' or 'end'; received {shown(until)}")
        if until == "end" and not call.budget.limited:
            raise InvalidInput(
                f"until='end' needs a limit, such as {USUAL.get(type(call.budget), USUAL[Linf])}: a"
                " search for the smallest perturbation takes all its steps in any case"
            )
        others = start if isinstance(start, Others) else None
        if others is not None:
            others, start = self._checked_others(call, others), None
        return call._replace(
            until=until,
            batch_size=batch_size,
            progress=progress,
            start=None if start is None else self._checked_start(call, start),
            others=others,
        )

    def _checked_others(self, call: Call, others: Others) -> Others:
        """Data of other classes, as inputs like those that are attacked."""
        plan = self.fitted(call.classifier).plan(searched(call.budget))
        if not any(wave.attack.needs == "labels" for wave in plan):
            raise InvalidInput(
                f"start=Others(...) is for attacks that need labels alone, such as advex.CGBA();"
                f" {type(self).__name__} begins at points, start=points, or where it chooses"
            )
        points = attacked_of(checked_inputs(call.classifier, others.x))
        if points.shape[1:] != call.x.shape[1:] or points.dtype != call.x.dtype:
            raise InvalidInput(
                f"Others must hold inputs like x, {call.x.dtype} of shape (m,"
                f" {', '.join(map(str, call.x.shape[1:]))}); received {points.dtype} of shape"
                f" {points.shape}"
            )
        return Others(points, others.labels)

    def _checked_start(self, call: Call, start: Any) -> Array:
        if not self.starts:
            raise InvalidInput(
                f"{type(self).__name__} begins where it chooses: it has no use for start="
            )
        given = start.x if isinstance(start, Result) else start
        if call.given is not None and call.given.form.layer is not None:
            start = np.asarray(given)
        else:
            start = attacked_of(checked_inputs(call.classifier, given))
        x = call.x
        if start.shape != x.shape or start.dtype != x.dtype:
            raise InvalidInput(
                f"start must be points for each of x, {x.dtype} of shape {x.shape}; received"
                f" {start.dtype} of shape {start.shape}"
            )
        return start


def _points(start: Any, pictures: Sequence[Array]) -> list[Array]:
    """Where to begin with inputs of several sizes: a point for each, in its size."""
    several = isinstance(start, list | tuple) or bool(getattr(start, "ndim", None))
    given = list(start) if several else None
    if given is None or len(given) != len(pictures):
        raise InvalidInput(
            f"start must be points for each of x, a list of {len(pictures)} arrays; received"
            f" {shown(start) if given is None else len(given)}"
        )
    points = [np.asarray(_backend.to_numpy(point)) for point in given]
    for row, (point, picture) in enumerate(zip(points, pictures, strict=True)):
        if point.shape != picture.shape:
            raise InvalidInput(
                f"start must be points for each of x, each in its size, {picture.shape} in row"
                f" {row}; received {point.shape}"
            )
    return points


def _code(budget: Budget) -> str:
    """The budget as one types it."""
    name = type(budget).__name__
    settings = repr(budget).removeprefix(name).replace("mask=...", "mask=mask")
    return f"{public_name(type(budget))}{settings}"


def listed(norms: Sequence[type[Budget]], word: str) -> str:
    """Their names, as in "Linf, L2 or L1"; ``word`` goes before the last one."""
    *first, last = (norm.__name__ for norm in norms)
    return f"{', '.join(first)} {word} {last}" if first else last


def checked_call(attack: Any, model: Any, x: Any, goal: Any, budget: Any, seed: Any) -> Call:
    """What ``attack`` is called with, or an error that says what is wrong with it."""
    name = type(attack).__name__
    classifier = Classifier.of(model)
    if isinstance(goal, Budget):
        raise InvalidType(
            "the third argument is the goal (labels), the budget comes after it:"
            f" budget={_code(goal)}"
        )
    budget = attack.default_budget if budget is None else budget
    several: dict[str, Budget] | None = None
    if isinstance(budget, Mapping):
        several = checked_budgets(budget)
        budget = next(iter(several.values()))
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
    attack.check_settings()
    if goal is not None and not isinstance(goal, Goal):
        demand_made(goal)
        goal = _labelled(goal, classifier, x)
    if isinstance(goal, Output):  # as if the model had no other
        classifier, goal = classifier.only(goal.name), goal.goal
    attack.check(goal, budget)
    more = "" if goal is None else goal.more_than_a_class
    if more and classifier.gives == "labels":
        raise InvalidInput(
            f"{goal!r} is about more than a class, {more}, and {classifier!r} answers with a class"
            " alone: use a goal about the class, such as advex.Targeted(3), or a function of"
            " scores, advex.BlackBox(predict, classes)"
        )
    x = checked_inputs(classifier, x)
    given = x if isinstance(x, Examples) else None
    budget = _of_parts(budget, several, given)
    x = attacked_of(x)
    if searched(budget) is not budget or isinstance(budget, Each):
        attack.check(goal, searched(budget))
    budget.demand_count(len(x))
    classes = goal is not None and goal.reading in ("scores", f"scores{TREE}")
    known = classifier.known_classes if classes else None
    goal = goal and goal.check(len(x), known)
    call = Call(classifier, x, goal, budget, int(seed), given=given)
    if len(x) and call.mask is not None and not call.mask.any():
        raise InvalidInput("nothing of x may change: the mask and the domain leave nothing")
    return call


def checked_budgets(budgets: Mapping[Any, Any]) -> dict[str, Budget]:
    """A budget for each of several inputs, by name."""
    wrong = [entry for entry in budgets.values() if not isinstance(entry, Budget)]
    if wrong or not budgets:
        raise InvalidType(
            "budget must be such as advex.Linf(8/255), or a dict with one for each input that is"
            f" attacked; received {shown(wrong[0]) if wrong else 'an empty dict'}"
        )
    made = {str(name): entry for name, entry in budgets.items()}
    if len({entry.limited for entry in made.values()}) > 1:
        raise InvalidInput(
            "budgets of several inputs must all have a limit, or none: received"
            f" {', '.join(f'{name!r}: {entry!r}' for name, entry in made.items())}"
        )
    return made


def _of_parts(budget: Budget, several: dict[str, Budget] | None, given: Examples | None) -> Budget:
    """The budget of a call; where several inputs are attacked one for each, side by side."""
    names = [] if given is None else [part.name for part in given.form.parts]
    if several is not None and set(several) != set(names):
        keys = ", ".join(map(repr, several))
        if not names:
            first = next(iter(several.values()))
            raise InvalidInput(
                f"budget has an entry for {keys}, and the model has but one input: budget ="
                f" advex.{first!r}"
            )
        raise InvalidInput(
            f"budget has an entry for {keys}; the inputs that are attacked are"
            f" {', '.join(map(repr, names))}"
        )
    if given is None or len(names) < 2:
        return budget
    parts = {name: budget if several is None else several[name] for name in names}
    places = tuple((part.start, part.stop) for part in given.form.parts)
    masks = []
    for part in given.form.parts:
        shape = (len(given), *part.shape)
        mask = parts[part.name].changeable(shape)
        masks.append(np.ones(shape, bool) if mask is None else mask)
        parts[part.name].demand_count(len(given))
    made = Each.of(parts, places)
    if any(entry.mask is not None for entry in parts.values()):
        flat = np.concatenate([mask.reshape(len(given), -1) for mask in masks], axis=1)
        made = replace(made, mask=flat)
    return made


def attacked_by(attack: Attackable, call: Call) -> Result:
    """The result of a call that was checked."""
    attack = attack.fitted(call.classifier)
    waves = attack.plan(searched(call.budget))
    for run in (run for wave in waves for run in wave.runs):
        run.attack.check_inputs(call.x.shape[1:])
        demand_given(run.attack, run.label, call.classifier, call.budget)
        gradients = run.attack.needs == "gradients"
        demand_fractions(call.classifier, run.label, gradients, call.x)
    foreign = call.classifier.differentiable and any(
        type(wave.attack).__module__.split(".")[0] != "advex" for wave in waves
    )
    before = fingerprint(call.classifier.model) if foreign else {}
    result = attacked(call, attack, waves)
    if foreign:
        _demand_untouched(attack, call.classifier, before, call.examples)
    if result.info["head"] in INDEPENDENT and any("One-hot" in note for note in result.goal.notes):
        result.info["notes"].append(ONE_HOT_OR_SEVERAL)
    result.info["notes"] += _about_levels(call.x)
    return result


GIVEN: tuple[Gives, ...] = ("labels", "scores", "gradients")


def demand_given(attack: Leaf, label: str, model: Model, budget: Budget) -> None:
    """Raise unless the model gives what an attack needs.

    Raises:
        GradientUnavailable: it does not; the message names attacks that need no more than it gives.
    """
    if GIVEN.index(attack.needs) <= GIVEN.index(model.gives):
        return
    norm = type(budget).__name__
    known = LABELS_ALONE.get(norm, "MinimumNorm")
    if model.gives == "labels":
        raise GradientUnavailable(
            f"{label} needs {attack.needs}, and {model!r} answers with a class alone: use an attack"
            f" that needs no more, such as advex.{known}()"
        )
    raise GradientUnavailable(
        f"{label} needs gradients, and {model!r} has none: use an attack that looks at scores"
        f" alone, such as advex.SquareAttack(), or at labels alone, such as advex.{known}()"
    )


def fingerprint(model: keras.Model | None) -> dict[str, bytes]:
    """A hash of each weight of the model."""
    return {
        w.path: hashlib.blake2b(np.ascontiguousarray(_backend.to_numpy(w.value)).tobytes()).digest()
        for w in (model.weights if model is not None else ())
    }


def _demand_untouched(
    attack: Attackable, classifier: Model, before: dict[str, bytes], x: Array | Examples
) -> None:
    """Raise if weights have changed, but for those that the model changes by itself whenever it is
    called.
    """
    now = fingerprint(classifier.model)
    changed = {path for path in before if now.get(path) != before[path]}
    if not changed:
        return
    sample = grid_of(classifier, x).entered(x[:1])
    tensors = keras.tree.map_structure(keras.ops.convert_to_tensor, sample)
    classifier.forward(sample).raw(tensors)
    again = fingerprint(classifier.model)
    if guilty := sorted(path for path in changed if again[path] == now[path]):
        raise AttackError(
            f"{type(attack).__name__} changed the weights of the model: {', '.join(guilty[:3])}"
        )


def _labelled(labels: Any, classifier: Model, x: Any) -> Goal:
    """Labels as a goal; one number for all is that of one example, which has perhaps no batch axis
    either.
    """
    if (
        axes_of(labels) == 0
        and isinstance(labels, int | float | np.number | np.ndarray)
        and not isinstance(labels, bool)
    ):
        checked_inputs(classifier, x, "; and its label as a list, [label]")
        one = labels if isinstance(labels, int | float) else labels.item()
        name = "x" if hasattr(x, "shape") else "np.asarray(x)"
        raise InvalidInput(
            "labels must have shape (n,), one for each example; received one number:"
            f" [{shown(one, 20)}] for one example. The first axis of x, {np.shape(x)}, counts the"
            f" examples: {name}[None] if that is one alone"
        )
    return Untargeted(labels)


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
