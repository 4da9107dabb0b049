"""Features as attacks around attacks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from advex._arrays import Tensor
from advex._settings import setting, shown
from advex.attacks.base import Attack
from advex.budgets import Budget
from advex.errors import InvalidInput, InvalidType, blaming
from advex.goals import Goal
from advex.problem import Loss, Problem
from advex.search import Stage

APART = 1_000_003  # between the random numbers of the members of an ensemble


@dataclass(frozen=True)
class Wrapper(Attack):
    """What wrappers of one attack have in common: they are that attack, but for its stages."""

    steps: ClassVar[int] = 1  # those of the attack count, run by run

    attack: Attack

    def __post_init__(self) -> None:
        if not isinstance(self.attack, Attack):
            raise InvalidType(
                f"{type(self).__name__} needs an attack, such as advex.PGD(); received"
                f" {shown(self.attack)}"
            )

    def check(self, goal: Goal | None, budget: Budget) -> None:
        self.attack.check(goal, budget)

    def stages(self, budget: Budget | None = None) -> list[Stage]:
        return self.attack.stages(budget)

    def init(self, problem: Problem) -> tuple[Tensor, Any]:
        return self.attack.init(problem)

    def step(self, problem: Problem, x: Tensor, memory: Any) -> tuple[Tensor, Any]:
        return self.attack.step(problem, x, memory)

    def done(self, problem: Problem, x: Tensor, memory: Any) -> Tensor | None:
        return self.attack.done(problem, x, memory)


@dataclass(frozen=True)
class Restarts(Wrapper):
    """The same attack again, with other random numbers, on the examples that still stand.

    The first run draws what the attack alone would draw, so restarts never lose a success.

    Args:
        attack: the attack to repeat; it should draw random numbers, as ``PGD`` does, at least where
            ``problem.run`` is above 0.
        restarts: how many runs in all.

    Example:
        >>> import advex
        >>> Restarts(advex.PGD(steps=5), 3)
        Restarts(attack=PGD(steps=5, step_size=0.25, loss=cross_entropy), restarts=3)
    """

    restarts: int = setting(5, "whole")

    def stages(self, budget: Budget | None = None) -> list[Stage]:
        inner = self.attack.stages(budget)
        return [
            replace(
                stage, salt=stage.salt * self.restarts + run, run=stage.run * self.restarts + run
            )
            for run in range(self.restarts)
            for stage in inner
        ]


@dataclass(frozen=True)
class EveryTarget(Wrapper):
    """The attack once for each of the likeliest wrong classes of the clean input, the likeliest
    first.

    In each run the attack pursues the margin of that class over the true one (``goals.Towards``);
    any wrong class ends it. With a ``Targeted`` goal the target is chosen already: the attack runs
    once.

    Args:
        attack: the attack to repeat.
        classes: how many at most.

    Raises:
        InvalidInput: at the call, for a goal without labels.

    Example:
        >>> import advex
        >>> EveryTarget(advex.PGD(steps=5), 3)
        EveryTarget(attack=PGD(steps=5, step_size=0.25, loss=cross_entropy), classes=3)
    """

    classes: int = setting(9, "whole")

    def check(self, goal: Goal | None, budget: Budget) -> None:
        super().check(goal, budget)
        if goal is not None and not hasattr(goal, "labels"):
            raise InvalidInput(f"EveryTarget needs true labels; {type(goal).__name__} has none")

    def stages(self, budget: Budget | None = None) -> list[Stage]:
        inner = self.attack.stages(budget)
        if any(stage.aim is not None for stage in inner):
            raise InvalidInput("EveryTarget around EveryTarget: the targets are chosen already")
        return [
            replace(stage, aim=aim, salt=stage.salt * self.classes + aim)
            for aim in range(self.classes)
            for stage in inner
        ]


@dataclass(frozen=True, init=False)
class Ensemble(Attack):
    """Several attacks, one after the other, each on the examples that still stand.

    Args:
        attacks: the members, cheap ones first.

    Example:
        >>> import advex
        >>> Ensemble(advex.FGSM(), advex.PGD(steps=5))
        Ensemble(FGSM(loss=cross_entropy), PGD(steps=5, step_size=0.25, loss=cross_entropy))
    """

    steps: ClassVar[int] = 1  # those of the members count

    attacks: tuple[Attack, ...]

    def __init__(self, *attacks: Attack) -> None:
        wrong = [attack for attack in attacks if not isinstance(attack, Attack)]
        if wrong or not attacks:
            raise InvalidType(
                "Ensemble needs attacks, such as Ensemble(advex.FGSM(), advex.PGD());"
                f" received {shown(wrong) if wrong else 'none'}"
            )
        object.__setattr__(self, "attacks", attacks)

    def check(self, goal: Goal | None, budget: Budget) -> None:
        for attack in self.attacks:
            attack.check(goal, budget)

    def stages(self, budget: Budget | None = None) -> list[Stage]:
        return [
            replace(stage, salt=stage.salt + number * APART)
            for number, attack in enumerate(self.attacks)
            for stage in attack.stages(budget)
        ]

    def init(self, problem: Problem) -> tuple[Tensor, Any]:
        return self.attacks[0].init(problem)

    def step(self, problem: Problem, x: Tensor, memory: Any) -> tuple[Tensor, Any]:
        return self.attacks[0].step(problem, x, memory)

    def __repr__(self) -> str:
        return f"Ensemble({', '.join(map(repr, self.attacks))})"


Transform = Callable[[Problem, Tensor], Tensor]


def _transformed(transform: Transform, problem: Problem, x: Tensor) -> Tensor:
    with blaming(f"the transform {getattr(transform, '__name__', type(transform).__name__)}"):
        return transform(problem, x)


class _Averaged:
    """A problem whose gradient is a mean; everything else is that of the problem within."""

    def __init__(self, problem: Problem, transforms: tuple[Transform, ...], samples: int) -> None:
        self._problem, self._transforms, self._samples = problem, transforms, samples

    def __getattr__(self, name: str) -> Any:
        return getattr(self._problem, name)

    def gradient(self, x: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
        values, gradients = [], []
        for number in range(self._samples):
            through = None
            if self._transforms:
                transform = self._transforms[number % len(self._transforms)]
                through = lambda point, transform=transform: _transformed(  # noqa: E731
                    transform, self._problem, point
                )
            value, gradient = self._problem.gradient(x, loss, through)
            values.append(value)
            gradients.append(gradient)
        # what the transforms show to the model is no answer; the point itself is looked at once
        if self._transforms:
            self._problem.logits(x)
        return sum(values) / self._samples, sum(gradients) / self._samples


@dataclass(frozen=True)
class AveragedGradient(Wrapper):
    """The attack with gradients that are means over several looks: of a model that is random, or at
    transformed inputs.

    Args:
        attack: the attack whose gradients are averaged.
        transforms: a function ``(problem, x) -> x`` in ``keras.ops``, or several that take turns;
            they may draw from ``problem.uniform``. None: the model itself is random, and is asked
            again and again.
        samples: how many looks, each one query and one gradient.

    Example:
        >>> import advex
        >>> def brighter(problem, x):
        ...     return x * (0.9 + 0.2 * problem.uniform((1, 1, 1)))
        >>> AveragedGradient(advex.FGSM(), brighter, 4)
        AveragedGradient(attack=FGSM(loss=cross_entropy), transforms=brighter, samples=4)

    Reference: Athalye, Engstrom, Ilyas and Kwok, Synthesizing robust adversarial examples, 2018.
    """

    transforms: Transform | tuple[Transform, ...] | None = None
    samples: int = setting(16, "whole")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not all(map(callable, self._all())):
            raise InvalidType(
                f"transforms must be functions (problem, x) -> x; received {shown(self.transforms)}"
            )

    def _all(self) -> tuple[Any, ...]:
        if self.transforms is None:
            return ()
        return (
            tuple(self.transforms)
            if isinstance(self.transforms, tuple | list)
            else (self.transforms,)
        )

    def stages(self, budget: Budget | None = None) -> list[Stage]:
        return [
            replace(stage, attack=_Averaging(stage.attack, self._all(), self.samples))
            for stage in self.attack.stages(budget)
        ]


@dataclass(frozen=True)
class _Averaging:
    """One stage's attack with averaged gradients."""

    attack: Any
    transforms: tuple[Transform, ...]
    samples: int

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.attack, name)

    def _problem(self, problem: Problem) -> Any:
        return _Averaged(problem, self.transforms, self.samples)

    def init(self, problem: Problem) -> Any:
        return self.attack.init(self._problem(problem))

    def step(self, problem: Problem, x: Tensor, memory: Any) -> Any:
        return self.attack.step(self._problem(problem), x, memory)

    def done(self, problem: Problem, x: Tensor, memory: Any) -> Tensor | None:
        return self.attack.done(self._problem(problem), x, memory)
