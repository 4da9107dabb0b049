"""The base of every attack that steps."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from advex._arrays import Tensor
from advex._settings import Check, whole_number
from advex.attacks.call import Attackable
from advex.budgets import Budget
from advex.driver.plan import Run, Wave
from advex.driver.problem import Problem
from advex.model.protocol import Gives

StepSize = float | Callable[[Any], Any]


@dataclass(frozen=True, kw_only=True)
class Attack(Attackable):
    r"""Base class of attacks. A subclass is a frozen, keyword-only dataclass with `steps`, `init`
    and `step`.

    When to use it:
        To write an attack of your own. Leaving, saving, judging, 8-bit images, several norms and
        three backends come with it; `advex.testing.check_attack` tells whether it keeps its
        promises.

    No formula:
        A base class. A step may be any map $x_t \mapsto x_{t+1}$.

    `init(problem)` gives the first points and a memory, `step(problem, x, memory)` the next ones.
    The memory is a tree of tensors whose first axis is the batch. Examples are independent: nothing
    may be reduced over the batch axis. Class variables say what the attack needs: `needs`
    ("gradients", "scores" or "labels"), `norms` or `lacks` (in which norms it works),
    `needs_epsilon` (whether it needs a limit), `starts` (whether it takes `start=`).

    Attributes:
        steps: number of steps: a field where it is a setting, a class variable where it is not.

    Raises:
        InvalidType: a keyword that the attack does not have, or a value of the wrong type.
        InvalidInput: a setting out of range.

    Cost:
        That of its steps: `problem.gradient` is one query and one gradient, `problem.logits`,
        `problem.margin`, `problem.crossed` and `problem.losses` are one query for each point.

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
        steps: int = field(init=False)
        """Number of steps: a field where it is a setting, a class variable where it is not."""

    needs: ClassVar[Gives] = "gradients"
    """The least that it needs of a model: "gradients"; "scores", then it can attack a ``BlackBox``;
    "labels", then also one that answers with a class alone."""
    needs_gradient: ClassVar[bool] = True
    """An older word for the same: False stands for ``needs = "scores"``."""
    notes: ClassVar[Mapping[str, np.ufunc | None]] = {}
    """What of its memory a run hands on to the runs that go on from it, see ``driver.plan.Run``,
    and how the notes of several runs of a row become one (None: any of them)."""

    def __init_subclass__(cls, **words: Any) -> None:
        super().__init_subclass__(**words)
        said = vars(cls)
        if "needs" in said:
            cls.needs_gradient = cls.needs == "gradients"
        elif "needs_gradient" in said:
            cls.needs = "gradients" if cls.needs_gradient else "scores"

    @property
    def query_limit(self) -> int | None:
        """How many queries a run spends at most on each example; the problem answers none beyond.
        The look at the clean input and the last judgement are not among them. None: as many as the
        steps ask.
        """
        return None

    @property
    def rounds(self) -> int:
        """How many times ``step`` is taken at most; another number than ``steps`` where that
        setting counts something else.
        """
        return self.steps

    @abstractmethod
    def init(self, problem: Problem, /) -> tuple[Tensor, Any]:
        """The first points and the memory.

        Args:
            problem: what the attack sees of the world, see `Problem`.

        Returns:
            The points, (batch, ...), and the memory: a tree of tensors whose first axis is the
            batch.
        """

    @abstractmethod
    def step(self, problem: Problem, x: Tensor, memory: Any, /) -> tuple[Tensor, Any]:
        """The next points and the next memory.

        Args:
            problem: what the attack sees of the world now, see `Problem`.
            x: the points of the step before, (batch, ...).
            memory: the memory of the step before.

        Returns:
            The points, (batch, ...), and the memory, both of the shapes that they had.
        """

    def done(self, problem: Problem, x: Tensor, memory: Any, /) -> Tensor | None:
        """Which examples need no further step; their next points are still looked at.

        Here: those that have not improved for `patience` steps, if the attack has such a setting.

        Args:
            problem: what the attack sees of the world, see `Problem`.
            x: the points, (batch, ...).
            memory: the memory.

        Returns:
            Booleans, (batch,). None: all go on.
        """
        patience = getattr(self, "patience", None)
        return None if patience is None else problem.idle >= patience

    def check_settings(self) -> None:
        whole_number(f"{type(self).__name__}.steps", getattr(self, "steps", None))

    def check_inputs(self, shape: tuple[int, ...]) -> None:
        """Raise an error if this attack cannot work on inputs of ``shape``, without the batch
        axis.
        """

    def plan(self, budget: Budget | None = None) -> list[Wave]:
        return [Wave((Run(self),))]
