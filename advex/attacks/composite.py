"""Attacks made of attacks: repeated, sent to one class after another, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from advex._arrays import Tensor
from advex._settings import setting, shown
from advex.attacks.base import Attack
from advex.attacks.call import Attackable
from advex.budgets import Budget
from advex.driver.plan import Leaf, Run, Wave, gathered
from advex.driver.problem import Loss, Problem
from advex.errors import InvalidInput, InvalidType, blaming
from advex.goals import Goal
from advex.model.protocol import Model

APART = 1_000_003  # between the random numbers of the members of an ensemble


def set_apart(run: Run, number: int) -> Run:
    """The run as that of one member of several: it draws other random numbers than the others."""
    return replace(run, salt=run.salt + number * APART)


class Composite(Attackable):
    """Attacks that consist of others: they have a plan, and take no step themselves."""


Attack.register(Composite)  # type: ignore[type-abstract]  # whoever asks for an attack means one of either kind


@dataclass(frozen=True)
class Wrapper(Composite):
    """What wrappers of one attack have in common: they are that attack, but for its plan."""

    attack: Attackable

    def __post_init__(self) -> None:
        if not isinstance(self.attack, Attack):
            raise InvalidType(
                f"{type(self).__name__} needs an attack, such as advex.PGD(); received"
                f" {shown(self.attack)}"
            )

    def check(self, goal: Goal | None, budget: Budget) -> None:
        self.attack.check(goal, budget)

    def fitted(self, model: Model) -> Attackable:
        return replace(self, attack=self.attack.fitted(model))


@dataclass(frozen=True)
class Restarts(Wrapper):
    """The same attack again, with other random numbers, on the examples that still hold.

    When to use it:
        Around an attack that draws random numbers, such as `PGD` or `FAB`, to see whether another
        start breaks more. `Verdict` gains more from other losses than restarts gain from other
        starts.

    No formula:
        A wrapper: the formula is that of the attack inside.

    The first run draws what the attack alone would draw, so restarts never lose a success.

    Args:
        attack: the attack to repeat. It should draw random numbers, as `PGD` does, at least where
            `problem.run` is above 0.
        restarts: how many runs in all, a whole number from 1.

    Raises:
        InvalidType: `attack` is no attack.
        InvalidInput: `restarts` is below 1 or not whole.

    Cost:
        That of the attack, times `restarts` for the examples that hold.

    Example:
        >>> import advex
        >>> Restarts(advex.PGD(steps=5), 3)
        Restarts(attack=PGD(steps=5, step_size=0.25, loss=cross_entropy), restarts=3)

    Reference:
        Madry, Makelov, Schmidt, Tsipras and Vladu, Towards deep learning models resistant to
        adversarial attacks, ICLR 2018, repeats PGD likewise. https://arxiv.org/abs/1706.06083

    Deviations:
        Only examples that still hold are attacked again.
    """

    restarts: int = setting(5, "whole")

    def plan(self, budget: Budget | None = None) -> list[Wave]:
        def again(run: Run, number: int) -> Run:
            salt, repetition = (
                each * self.restarts + number for each in (run.salt, run.repetition)
            )
            return replace(run, salt=salt, repetition=repetition)

        inner = self.attack.plan(budget)
        return gathered(
            wave.each(again, number) for number in range(self.restarts) for wave in inner
        )


@dataclass(frozen=True)
class EveryTarget(Wrapper):
    r"""The attack once for each of the likeliest wrong classes, the likeliest first.

    When to use it:
        Around `PGD`, `APGD` or `FAB` on models with several classes: runs towards single classes
        find examples that an untargeted run misses. `AutoAttack` and `Verdict` do it already.

    $$
    \ell_c(x) = z_c(x) - z_y(x), \qquad
    c \in \text{the } k \text{ largest of } \{z_j(x_0) : j \ne y\}
    $$

    $z$ are the logits, $y$ is the label, $x_0$ the clean input, $k$ is `classes`. Each run pursues
    the margin $\ell_c$ of its class over the true one, through the loss of the attack; any wrong
    class ends it. With a `Targeted` goal the target is chosen already: the attack runs once.

    Args:
        attack: the attack to repeat.
        classes: how many classes at most, a whole number from 1. AutoAttack: 9.

    Raises:
        InvalidType: `attack` is no attack.
        InvalidInput: `classes` is below 1 or not whole; at the call, for a goal without labels, or
            around another `EveryTarget`.

    Cost:
        That of the attack, times the number of classes for the examples that hold.

    Example:
        >>> import advex
        >>> EveryTarget(advex.PGD(steps=5), 3)
        EveryTarget(attack=PGD(steps=5, step_size=0.25, loss=cross_entropy), classes=3)

    Reference:
        Gowal, Uesato, Qin, Huang, Mann and Kohli, An alternative surrogate loss for PGD-based
        adversarial testing, 2019. https://arxiv.org/abs/1910.09338

    Deviations:
        The likeliest classes alone, as in AutoAttack, where the paper tries all.
    """

    classes: int = setting(9, "whole")

    def check(self, goal: Goal | None, budget: Budget) -> None:
        super().check(goal, budget)
        if goal is not None and not hasattr(goal, "labels"):
            raise InvalidInput(
                f"EveryTarget needs true labels; {type(goal).__name__} has none: use the attack"
                " alone, which is sent along each way to such a goal"
                if goal.forks
                else f"EveryTarget needs true labels; {type(goal).__name__} has none: use the"
                " attack alone"
            )

    def plan(self, budget: Budget | None = None) -> list[Wave]:
        inner = self.attack.plan(budget)
        if any(wave.aimed for wave in inner):
            raise InvalidInput("EveryTarget around EveryTarget: the targets are chosen already")

        def sent(run: Run, rank: int) -> Run:
            return replace(run, rank=rank, salt=run.salt * self.classes + rank)

        return gathered(wave.each(sent, rank) for rank in range(self.classes) for wave in inner)


@dataclass(frozen=True, init=False)
class Ensemble(Composite):
    """Several attacks, one after the other, each on the examples that still hold.

    When to use it:
        For a worst case over attacks of your own choice. Put cheap ones first: what they break, the
        others need not try.

    No formula:
        A sequence: the formulas are those of its members.

    Args:
        *attacks: the members, cheap ones first; at least one.

    Raises:
        InvalidType: a member is no attack, or there is none.

    Cost:
        The sum of its members for the examples that hold. `result.info["stages"]` has it for each.

    Example:
        >>> import advex
        >>> Ensemble(advex.FGSM(), advex.PGD(steps=5))
        Ensemble(FGSM(loss=cross_entropy), PGD(steps=5, step_size=0.25, loss=cross_entropy))
    """

    attacks: tuple[Attackable, ...]

    def __init__(self, *attacks: Attackable) -> None:
        wrong = [attack for attack in attacks if not isinstance(attack, Attack)]
        if wrong or not attacks:
            raise InvalidType(
                "Ensemble needs attacks, such as advex.Ensemble(advex.FGSM(), advex.PGD());"
                f" received {shown(wrong) if wrong else 'none'}"
            )
        object.__setattr__(self, "attacks", attacks)

    def check(self, goal: Goal | None, budget: Budget) -> None:
        for attack in self.attacks:
            attack.check(goal, budget)

    def fitted(self, model: Model) -> Attackable:
        return Ensemble(*(attack.fitted(model) for attack in self.attacks))

    def plan(self, budget: Budget | None = None) -> list[Wave]:
        return gathered(
            wave.each(set_apart, number)
            for number, attack in enumerate(self.attacks)
            for wave in attack.plan(budget)
        )

    def __repr__(self) -> str:
        return f"Ensemble({', '.join(map(repr, self.attacks))})"


Transform = Callable[[Problem, Tensor], Tensor]


@dataclass(frozen=True)
class AveragedGradient(Wrapper):
    r"""The attack with gradients that are means over several looks: expectation over transformation
    (EOT).

    When to use it:
        Against a model that is random at inference, such as one with noise or dropout, and for
        examples that are to survive a change of brightness, place or size.

    $$ g(x) = \frac{1}{n} \sum_{i=1}^{n} \nabla_x\, \ell\bigl(\tau_i(x)\bigr) $$

    $n$ is `samples`, $\ell$ the loss of the attack, $\tau_i$ a transform with random numbers of its
    own ($\tau_i(x) = x$ where there is none). The attack sees $g$ in place of its gradient.

    Args:
        attack: the attack whose gradients are averaged.
        transforms: a function `(problem, x) -> x` in `keras.ops`, or a tuple of several that take
            turns; they may draw from `problem.uniform`. None: the model itself is random, and is
            asked again and again.
        samples: how many looks, a whole number from 1. The paper: at least 30 for transformations.
            AutoAttack: 20.

    Raises:
        InvalidType: `attack` is no attack, or a transform no function.
        InvalidInput: `samples` is below 1 or not whole.

    Cost:
        `samples` queries and `samples` gradients for each gradient of the attack, and one query
        more where there are transforms.

    Example:
        >>> import advex
        >>> def brighter(problem, x):
        ...     return x * (0.9 + 0.2 * problem.uniform((1, 1, 1)))
        >>> AveragedGradient(advex.FGSM(), brighter, 4)
        AveragedGradient(attack=FGSM(loss=cross_entropy), transforms=brighter, samples=4)

    Reference:
        Athalye, Engstrom, Ilyas and Kwok, Synthesizing robust adversarial examples, ICML 2018.
        https://arxiv.org/abs/1707.07397

    Deviations:
        What transforms show to the model is never a success: the point itself is judged. No
        textures and no rendering; any attack, where the paper uses PGD.
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

    def plan(self, budget: Budget | None = None) -> list[Wave]:
        made: dict[int, Leaf] = {}  # one for each attack: runs of one attack may go side by side

        def averaging(run: Run) -> Run:
            new = _Averaging(run.attack, self._all(), self.samples)
            return replace(run, attack=made.setdefault(id(run.attack), new))

        return [wave.each(averaging) for wave in self.attack.plan(budget)]


@dataclass(frozen=True)
class _Averaging:
    """A leaf with averaged gradients; everything else is that of the attack within."""

    attack: Any
    transforms: tuple[Transform, ...]
    samples: int

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.attack, name)

    def init(self, problem: Problem) -> Any:
        return self.attack.init(self._averaged(problem))

    def step(self, problem: Problem, x: Tensor, memory: Any) -> Any:
        return self.attack.step(self._averaged(problem), x, memory)

    def done(self, problem: Problem, x: Tensor, memory: Any) -> Tensor | None:
        return self.attack.done(problem, x, memory)

    def _averaged(self, problem: Problem) -> Problem:
        """The problem, which lasts for this step, with a gradient that is a mean."""
        one = problem.gradient

        def gradient(x: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
            values, gradients = [], []
            for number in range(self.samples):
                through = self._through(problem, number)
                value, gradient = one(x, loss, through)
                values.append(value)
                gradients.append(gradient)
            if self.transforms:
                # What transforms show to the model is no answer: the point itself is looked at.
                problem.logits(x)
            return sum(values) / self.samples, sum(gradients) / self.samples

        problem.gradient = gradient  # type: ignore[method-assign, assignment]
        return problem

    def _through(self, problem: Problem, number: int) -> Callable[[Tensor], Tensor] | None:
        if not self.transforms:
            return None
        transform = self.transforms[number % len(self.transforms)]
        name = getattr(transform, "__name__", type(transform).__name__)

        def through(point: Tensor) -> Tensor:
            with blaming(f"the transform {name}"):
                return transform(problem, point)

        return through
