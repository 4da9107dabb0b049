"""What is wrong with an evaluation before its figures are believed: fifteen checks of a model under
attack.
"""

from __future__ import annotations

import html
import math
import warnings
from collections.abc import Callable, Hashable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, Self

import keras
import numpy as np
from keras import ops

from advex import _backend, images
from advex._arrays import Array, Tensor, flattened, rows
from advex._grid import Grid
from advex._settings import helpful, shown, whole_number
from advex.attacks.base import Attack
from advex.attacks.call import Attackable
from advex.attacks.composite import Ensemble, Restarts
from advex.attacks.fgsm import FGSM
from advex.attacks.inputs import checked_inputs
from advex.attacks.pgd import PGD
from advex.attacks.square import SquareAttack
from advex.budgets import L0, L1, L2, Budget, Linf
from advex.driver.honesty import stale
from advex.driver.judging import CHECKED, Judge
from advex.driver.problem import NO_GRADIENT, Problem
from advex.driver.shapes import default_batch, power_of_two
from advex.errors import AdvexWarning, GradientUnavailable, InvalidInput, InvalidType
from advex.goals import FRAGILE, Goal, Untargeted, picked
from advex.losses import cross_entropy, log_odds, margin
from advex.model.classifier import Classifier
from advex.model.protocol import Model
from advex.result import Result

__all__ = ["Diagnosis", "Finding", "diagnose"]

EXAMPLES = 128  # correctly classified ones that are looked at
SURVIVORS = 48  # of those that one run leaves standing, in the checks that cost most
STEPS = 40
RESTARTS = 5
BLACK_BOX, CORNERS = 500, 100  # queries of the random search, corners of the ball
FORWARDS, LOOKS = 5, 10  # of one batch; of each success
SHORT = 0.1  # of epsilon: the step on which the gradient's promise is tested
# of the box: that step's largest change of one element, beyond which honest models bend, too
FAR = 0.02
GAP = 0.5  # between promise and gain, relative, above which the gradient lies
LIES = 0.05  # of the examples
RESTARTED = 0.05  # likewise: near the boundary other starts break 3 % of an honest model's examples
RANDOM = 1e-4  # between normalised logits; relative, between an example alone and in its batch
LATE, GAIN = 0.1, 0.05  # of the steps, of the loss's range
LUCK = 0.02
# log-odds below which the usual gradient is rounding error and nothing else
UNDERFLOW = math.log(2.0**-126)
NOISE = 1e-5  # of the largest logit: a change of the margin that says nothing
# where the budget has no limit
RADII: dict[type[Budget], float] = {
    Linf: 8 / 255,
    L2: 0.5,
    L1: 10.0,
    L0: 20,
}

Status = Literal["ok", "flag", "not run", "noted"]

CHECKS: dict[str, tuple[str, str, str]] = {  # name, what it means, what to try next
    "D1": (
        "no gradient",
        "Attacks that follow gradients have nothing to follow; that they find nothing says nothing"
        " about the model.",
        "Use BlackBox or SquareAttack, or give the part that cannot be differentiated a gradient"
        " that passes straight through.",
    ),
    "D2": (
        "dead loss",
        "The usual cross-entropy is so saturated that its gradient is exactly zero, while the"
        " margin still has one. Attacks of"
        " other libraries stand still there; advex goes on with the margin.",
        "Climb losses.margin or losses.dlr, whatever the library, and ask why the logits are so"
        " large.",
    ),
    "D3": (
        "gradient lies",
        "A short step along the gradient does not gain what the gradient promises: it is"
        " shattered, noisy or made up.",
        "Use SquareAttack, or AveragedGradient with small random shifts as transforms; give the"
        " part that shatters the gradient"
        " one that passes straight through.",
    ),
    "D4": (
        "random model",
        "The same input gets different answers: a success can be luck, and so can a failure.",
        "Attack with AveragedGradient(attack), and report shares over many evaluations of the same"
        " array.",
    ),
    "D5": (
        "batch-dependent",
        "The answer to an input depends on its neighbours in the batch: no figure holds for an"
        " input alone.",
        "Look for layers that compute statistics of the batch at inference, and judge every input"
        " alone.",
    ),
    "D6": (
        "not logits",
        "The model answers with probabilities whose logits advex cannot reach: their logarithms"
        " lose all detail near 0 and 1.",
        "Give the model without its final softmax or sigmoid.",
    ),
    "D7": (
        "one step wins",
        "One big step breaks what many small ones do not: the small ones are led astray near the"
        " input.",
        "Use more restarts, SquareAttack, or larger first steps, such as"
        " PGD(step_size=advex.attacks.LinearDecay(1.0)).",
    ),
    "D8": (
        "black box wins",
        "Blind random search breaks what no gradient attack breaks: the gradients hide the way.",
        "Believe SquareAttack(steps=5000) rather than gradient attacks, or run AutoAttack, which"
        " contains it.",
    ),
    "D9": (
        "unbounded fails",
        "With the whole range of values allowed every model can be led astray: an attack that"
        " cannot does not work here.",
        "Mend the attack or the gradients first: whatever it reports within a smaller budget means"
        " nothing.",
    ),
    "D10": (
        "not converged",
        "The attack was still gaining when its steps ran out, or never got going.",
        "Give it more steps, or APGD, which finds its step size by itself.",
    ),
    "D11": (
        "restart-sensitive",
        "Other random starts break more: one run depends on its luck.",
        "Use Restarts(attack, 10) or more, or AutoAttack.",
    ),
    "D12": (
        "not monotone",
        "Examples that fall within epsilon hold within twice as much: the attack, not the model,"
        " fails there.",
        "Use several step sizes and restarts, and keep what was found with the smaller budget.",
    ),
    "D13": (
        "luck",
        "Successes seem to be successes only sometimes: the model is random, and the search has"
        " picked lucky draws.",
        "Count a success by its share over many fresh evaluations; search with"
        " AveragedGradient(attack).",
    ),
    "D14": (
        "fragile",
        "The verdict on these changes with the way the model is run, or hangs on rounding errors:"
        " they belong in neither count.",
        "Leave them out, or say how many there are.",
    ),
    "D15": (
        "lost in 8 bits",
        "Successes that need finer steps than an 8-bit file has are gone once the picture is"
        " saved.",
        "Pass the images as uint8: advex then searches among 8-bit images.",
    ),
}

NEEDS_GRADIENT = ("D1", "D2", "D3", "D7", "D8", "D9", "D10", "D11", "D12")
NEEDS_RADIUS = ("D3", "D7", "D8", "D10", "D11", "D12", "D13", "D14", "D15")


@dataclass(frozen=True)
class Finding:
    """One check and its outcome.

    Attributes:
        id: "D1" to "D15".
        name: the check in two words.
        status: "flag" (something is wrong), "ok", "noted" (a figure to know about, no alarm) or
            "not run".
        found: what was measured, a sentence with figures; for "not run" the reason.
        means: what that means for an evaluation; empty for "ok" and "not run".
        advice: what to try next; likewise.
        measure: the figures by name.
    """

    id: str
    name: str
    status: Status
    found: str
    means: str
    advice: str
    measure: dict[str, float]


@dataclass(frozen=True, repr=False)
class Diagnosis:
    """What ``diagnose`` has found.

    Attributes:
        findings: one ``Finding`` for each of D1 to D15, in this order.
        examples: how many correctly classified examples were looked at.
        budget: the budget within which attacks ran, as text.
        seed: of the random numbers.
        gradients: backward passes spent in total.
        queries: forward passes spent in total.
    """

    findings: tuple[Finding, ...]
    examples: int
    budget: str
    seed: int
    gradients: int
    queries: int

    @property
    def flags(self) -> tuple[Finding, ...]:
        """The findings that fired."""
        return tuple(finding for finding in self.findings if finding.status == "flag")

    def __getitem__(self, name: str) -> Finding:
        """The finding with this id, such as ``diagnosis["D8"]``."""
        for finding in self.findings:
            if finding.id == name:
                return finding
        raise KeyError(name)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, dicts, texts and finite numbers, as JSON takes them."""
        return asdict(self) | {"findings": [asdict(finding) for finding in self.findings]}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The diagnosis that ``to_dict`` has written.

        Raises:
            InvalidInput: something else.
        """
        try:
            findings = tuple(Finding(**finding) for finding in values["findings"])
            return cls(**{**values, "findings": findings})
        except (TypeError, KeyError) as problem:
            raise InvalidInput(f"this is not what Diagnosis.to_dict() writes: {problem}") from None

    def _headline(self) -> str:
        fired = ", ".join(finding.id for finding in self.flags)
        flags = (
            f"{len(self.flags)} flag{'s' if len(self.flags) > 1 else ''} ({fired})"
            if fired
            else "no flags"
        )
        left = sum(finding.status == "not run" for finding in self.findings)
        skipped = f", {left} checks not run" if left else ""
        return (
            f"Diagnosis of {self.examples} correctly classified examples within"
            f" {self.budget}: {flags}{skipped}"
        )

    def __repr__(self) -> str:
        lines = [self._headline(), f"{'id':<4} {'check':<17} {'':<8}found"]
        for finding in self.findings:
            status = "fired" if finding.status == "flag" else finding.status
            lines.append(f"{finding.id:<4} {finding.name:<17} {status:<8}{finding.found}")
        lines += [f"{flag.id}: {flag.means} {flag.advice}" for flag in self.flags]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        def cells(tag: str, *texts: str) -> str:
            return "<tr>" + "".join(f"<{tag}>{text}</{tag}>" for text in texts) + "</tr>"

        lines = [cells("th", "id", "check", "", "found", "what it means, what to try")]
        for finding in self.findings:
            parts = [
                html.escape(text)
                for text in (finding.id, finding.name, finding.status, finding.found)
            ]
            parts[2] = "<b>fired</b>" if finding.status == "flag" else parts[2]
            lines.append(
                cells("td", *parts, html.escape(f"{finding.means} {finding.advice}".strip()))
            )
        return f"<p>{html.escape(self._headline())}</p><table>{''.join(lines)}</table>"


@helpful
def diagnose(
    model: keras.Model | Model,
    x: Any,
    labels: Any,
    budget: Budget,
    *,
    seed: int = 0,
    batch_size: int | None = None,
) -> Diagnosis:
    """Look for what makes attacks on a model fail for the wrong reasons: fifteen checks, D1 to D15.

    Each says what it found in figures. A flag does not mean that the model is bad, but that an
    evaluation by gradient attacks (some flags: by any attack) would be too kind to it. No flag
    means that none of these fifteen reasons was seen, not more. Checks that count examples fire at
    3 or at 2 % of them, whichever is more (D11: 5 %, since near the boundary other starts break 3 %
    of an honest model's examples). How some of them look:

    - D1 and D2 also fire where every one of fewer than 3 examples is concerned. D2 is about the
      cross-entropy of the textbook and of other libraries, that of advex does not die.
    - D3's step is a tenth of epsilon, at most 0.02 of the range and at least one level of an 8-bit
      image, and stays in the box.
    - D7, D8, D10, D11 and D12 mean PGD with cross-entropy and then with the margin, and look at 48
      of the examples that stand. D8 is SquareAttack with 500 queries and 100 corners of the ball.
      In L0, where PGD is weak, D7, D10, D11 and D12 are not run.
    - D9 allows Linf(1), whatever the norm. D14 compares compiled, uncompiled and alone; another
      dtype is not tried.
    - A ``BlackBox`` is not asked what needs gradients, nor D8, which would be the attack itself.

    Args:
        model: a ``keras.Model`` on [0, 1], a ``Classifier``, or a ``BlackBox`` (checks that need
            gradients are not run).
        x: inputs, (n, ...), uint8 or floats in the box; the first 128 that are classified correctly
            are used.
        labels: true classes, (n,).
        budget: within which attacks are to be judged, such as ``Linf(8/255)``, in units of the
            box's range. Without a limit: 8/255 in Linf, 0.5 in L2, 10 in L1, 20 elements in L0.
        seed: of all random numbers.
        batch_size: examples per step, the memory's limit.

    Returns:
        A ``Diagnosis``; in a notebook, a table.

    Raises:
        InvalidInput: a value that cannot be worked with. InvalidType: an argument of the wrong
        kind.

    Example:
        >>> import advex
        >>> x, labels = advex.testing.linear_data()
        >>> diagnose(advex.testing.linear_model(), x, labels, advex.Linf(0.05)).flags
        ()
    """
    classifier = Classifier.of(model)
    if not isinstance(budget, Budget):
        raise InvalidType(f"budget must be such as advex.Linf(8/255); received {shown(budget)}")
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
        raise InvalidType(f"seed must be a whole number; received {shown(seed)}")
    if batch_size is not None:
        batch_size = whole_number("batch_size", batch_size)
    x = checked_inputs(classifier, x)
    goal = Untargeted(labels).check(len(x), classifier.known_classes)
    with warnings.catch_warnings():
        # what attacks would say is what the findings say
        warnings.simplefilter("ignore", AdvexWarning)
        return _Examination(classifier, x, goal.labels, budget, int(seed), batch_size).diagnosis()


@dataclass(frozen=True, kw_only=True)
class Corners(Attack):
    """Random corners of ball and box: the extreme points of random linear functions.

    Args:
        steps: how many.
    """

    steps: int = CORNERS

    needs_gradient: ClassVar[bool] = False

    @property
    def rounds(self) -> int:
        """The driver looks at the last point by itself."""
        return self.steps - 1

    def init(self, problem: Problem) -> tuple[Tensor, Any]:
        return self._corner(problem), ()

    def step(self, problem: Problem, x: Tensor, memory: Any) -> tuple[Tensor, Any]:
        problem.logits(x)
        return self._corner(problem), memory

    def _corner(self, problem: Problem) -> Tensor:
        slope = 2 * problem.uniform(tuple(problem.x0.shape[1:])) - 1
        return problem.budget.extreme(slope, problem.x0, problem.lower, problem.upper)


class _Draws:
    """Random numbers outside the driver, for ``Budget.sample``."""

    def __init__(self, x0: Tensor, span: float, seed: int) -> None:
        self.x0, self.span = x0, span
        self._generator = np.random.default_rng(seed % 2**63)

    def uniform(self, shape: tuple[int, ...]) -> Tensor:
        return ops.convert_to_tensor(
            self._generator.random((len(self.x0), *shape), dtype="float32")
        )

    def signs(self, shape: tuple[int, ...]) -> Tensor:
        return ops.where(self.uniform(shape) < 0.5, -1.0, 1.0)


def _usual(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy as it is usually written, whose gradient underflows where the model is too
    sure.
    """
    return ops.logsumexp(logits, axis=1) - picked(logits, labels)


def _radius(budget: Budget) -> Budget | None:
    """The budget with a limit; None where nobody knows a sensible one."""
    if budget.limited:
        return budget
    return type(budget)(RADII[type(budget)]) if type(budget) in RADII else None


def _many(count: int, total: int, share: float = 0.02) -> bool:
    """The count rule: any single example cries wolf on honest models."""
    return count >= max(3, share * total)


def _finding(name: str, status: Status, found: str, **measure: float) -> Finding:
    title, means, advice = CHECKS[name]
    quiet = status in ("ok", "not run")
    numbers = {
        key: value.item() if isinstance(value, np.generic) else value
        for key, value in measure.items()
    }
    numbers = {key: value for key, value in numbers.items() if math.isfinite(value)}
    return Finding(
        name, title, status, found, "" if quiet else means, "" if quiet else advice, numbers
    )


def _judgement(name: str, fired: bool, found: str, **measure: float) -> Finding:
    return _finding(name, "flag" if fired else "ok", found, **measure)


class _Examination:
    """One call of ``diagnose``: the examples, what was spent, what was found so far."""

    def __init__(
        self,
        classifier: Model,
        x: Array,
        labels: Array,
        budget: Budget,
        seed: int,
        batch_size: int | None,
    ) -> None:
        self.classifier, self.budget, self.seed, self.batch_size = (
            classifier,
            budget,
            seed,
            batch_size,
        )
        self.grid = Grid(x.dtype, classifier.box)
        self.radius = _radius(budget)
        self.batch = batch_size or default_batch(x.shape[1:])
        if not _backend.RAGGED:
            self.batch = min(power_of_two(self.batch), power_of_two(max(len(x), 1)))
        self.gradients = self.queries = 0
        self.findings: dict[str, Finding] = {}
        self.index = self._correct(x, labels) if len(x) else np.zeros(0, "int64")
        self.x, self.labels = x[self.index], labels[self.index]
        self.n = len(self.x)
        self.random = False  # whether D4 fired
        self.found: dict[
            int, tuple[Result, int]
        ] = {}  # of each broken example: the result that has it, and its row there

    # The course of it.

    def diagnosis(self) -> Diagnosis:
        """All checks, in the order that spares most work."""
        if not self.n:
            self._skip(tuple(CHECKS), "none of the examples is classified correctly")
        else:
            self._about_answers()
            self._about_gradients()
            self._about_successes()
        budget = repr(self.budget)
        if not self.budget.limited and self.radius is not None:
            budget = f"{self.radius!r} (in place of {budget})"
        findings = tuple(self.findings[name] for name in CHECKS)
        return Diagnosis(
            findings, self.n, budget, self.seed, int(self.gradients), int(self.queries)
        )

    def _add(self, finding: Finding) -> None:
        self.findings.setdefault(finding.id, finding)

    def _skip(self, names: tuple[str, ...], reason: str) -> None:
        for name in names:
            self._add(_finding(name, "not run", reason))

    def _about_answers(self) -> None:
        """D4, D5, D6: what the model answers to the inputs themselves."""
        self._add(self._random_model())
        if self.random:
            self._skip(("D5",), "the model is random, see D4")
        else:
            self._add(self._batch_dependent())
        self._add(self._not_logits())

    def _about_gradients(self) -> None:
        """D1 to D3 and D7 to D12: gradients, and attacks that follow them."""
        if not self.classifier.differentiable:
            self._skip(NEEDS_GRADIENT, "a black box has no gradients")
        still = self._immovable()
        if still:
            self._skip(NEEDS_RADIUS, still)
        elif isinstance(self.radius, L0):
            self._skip(
                ("D7", "D10", "D11", "D12"),
                "PGD is too weak in L0 to be compared with itself; SigmaZero is made for it",
            )
        blind = not self.classifier.differentiable
        if not blind:
            try:
                self._gradients_themselves(not still)
                self._add(self._unbounded())
            except GradientUnavailable as problem:
                blind = True
                self._add(_finding("D1", "flag", f"there is none: {problem}", missing=self.n))
                if self._constant():
                    self._add(
                        _finding(
                            "D9",
                            "flag",
                            "constant model: every input gets the same answer",
                            constant=1,
                        )
                    )
        standing = np.ones(self.n, bool)
        if not (blind or still):
            standing = self._attacks()
        if not still:
            self._black_box(standing, blind)
        self._skip(NEEDS_GRADIENT, "the model has no gradient, see D1")

    def _about_successes(self) -> None:
        """D13 to D15: whether what was found stays."""
        if not self.found:
            self._skip(("D13", "D14", "D15"), "nothing was broken")
            return
        self._add(self._luck())
        self._add(self._fragile())
        self._add(self._eight_bits())

    # Tools.

    def _correct(self, x: Array, labels: Array) -> Array:
        """The first rows that are classified correctly."""
        sample = self.grid.working(x[:CHECKED])
        forward = self.classifier.forward(sample)
        Untargeted(labels).check(len(x), forward.classes)
        self.judge = Judge(self.classifier, self.grid, self.batch, sample)
        if not self.classifier.metered:
            first = self._logits(x[:CHECKED])
            if self.classifier.renewed(sample, first):
                self.judge = Judge(self.classifier, self.grid, self.batch, sample)
                first = self._logits(x[:CHECKED])
            old, spent = stale(self.classifier, self.judge, x[:CHECKED], first)
            if old:  # something in the model has been changed since it was compiled
                self.classifier.forget()
                self.judge = Judge(self.classifier, self.grid, self.batch, sample)
            self.queries += spent + self.judge.forward.spent
            self.judge.forward.spent = 0
        chosen: list[int] = []
        for start in range(0, len(x), self.batch):
            part = self.judge(x[start : start + self.batch], None)
            right = (part["prediction"] == labels[start : start + self.batch]) & ~part["broken"]
            chosen += (start + np.flatnonzero(right)).tolist()
            self.queries += len(right)
            if len(chosen) >= EXAMPLES:
                break
        return np.asarray(chosen[:EXAMPLES], "int64")

    @property
    def forward(self) -> Any:
        return self.classifier.forward(self.grid.working(self.x[:CHECKED]))

    def _logits(self, x: Array) -> Array:
        """By the model itself as it is called by hand, batch by batch; a random model draws
        anew.
        """
        self.queries += len(x)
        return self.judge.logits(x)

    def _alone(self, x: Array) -> Array:
        """Likewise, each input in a batch of its own."""
        self.queries += len(x)
        return self.judge.alone(x)

    def _function(
        self, name: Hashable, function: Callable[[Tensor, Tensor], Any]
    ) -> Callable[[Tensor, Tensor], Any]:
        """``function`` of points and labels, compiled once per model."""
        forward, shape = self.forward, self.x.shape[1:]
        signature: Any = [((None, *shape), "float32"), ((None,), "int32")]
        return self.classifier.compiled(
            ("doctor", name, shape),
            lambda: _backend.compiled(function, signature, forward.variables),
        )

    def _chunks(self, index: Array) -> Iterator[tuple[Array, int]]:
        """The rows ``index`` in batches, with the number of true ones; padded where shapes must not
        change.
        """
        for start in range(0, len(index), self.batch):
            part = index[start : start + self.batch]
            padding = 0 if _backend.RAGGED else self.batch - len(part)
            yield np.concatenate([part, np.repeat(part[:1], padding)]), len(part)

    def _attack(
        self, attack: Attackable, chosen: Array, budget: Budget | None = None, seed: int = 0
    ) -> Array:
        """Which examples the attack breaks, (n,) of bool; it sees the ``chosen`` ones only, (n,) of
        bool.
        """
        broken, index = np.zeros(self.n, bool), np.flatnonzero(chosen)
        if not len(index):
            return broken
        inside = self.radius if budget is None else budget
        result = attack(
            self.classifier,
            self.x[index],
            self.labels[index],
            inside,
            seed=(self.seed + seed) % 2**63,
            batch_size=self.batch_size,
            progress=False,
        )
        self.gradients += int(result.gradients.sum())
        self.queries += int(result.queries.sum()) + result.info["checks"]["queries"]
        broken[index] = result.success
        if budget is None:
            for row in np.flatnonzero(result.success):
                self.found.setdefault(int(index[row]), (result, int(row)))
        return broken

    def _first(self, chosen: Array) -> Array:
        """At most ``SURVIVORS`` of the chosen examples, (n,) of bool."""
        return chosen & (np.cumsum(chosen) <= SURVIVORS)

    def _immovable(self) -> str:
        """Why no attack can move anything; empty if it can."""
        if self.radius is None:
            return f"{self.budget!r} has no limit, and no sensible one is known for it"
        if self.radius.epsilon == 0 or (self.grid.levels and self.radius.levels() == 0):
            return f"within {self.radius!r} nothing can move"
        return ""

    # D4, D5, D6: answers.

    def _random_model(self) -> Finding:
        answers = [self._logits(self.x).astype("float64") for _ in range(FORWARDS)]
        every = np.stack(
            [
                logits / np.maximum(np.linalg.norm(logits, axis=1, keepdims=True), 1e-30)
                for logits in answers
            ]
        )
        spread = np.linalg.norm(every - every[0], axis=2).max(axis=0)
        flips = np.stack([logits.argmax(axis=1) for logits in answers])
        flipped = int((flips != flips[0]).any(axis=0).sum())
        largest = float(spread.max(initial=0))
        self.random = bool(largest > RANDOM or flipped or np.isnan(largest))
        found = (
            f"{FORWARDS} answers to {self.n} inputs differ by up to {largest:.2g}"
            f" (normalised logits); {flipped} classes flip"
        )
        return _judgement("D4", self.random, found, spread=largest, flips=flipped, examples=self.n)

    def _batch_dependent(self) -> Finding:
        together = self._logits(self.x)
        order = np.random.default_rng(self.seed % 2**63).permutation(self.n)
        shuffled = np.empty_like(together)
        shuffled[order] = self._logits(self.x[order])
        few = min(self.n, CHECKED)
        alone = self._alone(self.x[:few])
        scale = max(float(np.abs(together).max(initial=0)), 1e-6)
        by_order = float(np.abs(shuffled - together).max(initial=0)) / scale
        by_company = float(np.abs(alone - together[:few]).max(initial=0)) / scale
        limit = 5e-2 if self.forward.coarse else RANDOM
        found = (
            f"logits change by {by_company:.2g} of the largest alone ({few} inputs), by"
            f" {by_order:.2g} in another order"
        )
        return _judgement(
            "D5", max(by_order, by_company) > limit, found, alone=by_company, permuted=by_order
        )

    def _not_logits(self) -> Finding:
        head = self.forward.head.name
        logits = self._logits(self.x)
        odds = np.exp(logits - logits.max(axis=1, keepdims=True)).astype("float32")
        sure = float((odds.sum(axis=1, dtype="float32") == 1).mean())
        found = f"head: {head}; {sure:.1%} of the examples have p = 1 exactly"
        if head in ("logits", "logit, one unit"):
            return _finding("D6", "ok", found, saturated=sure)
        lost = head.startswith("probabilit") and self.classifier.differentiable
        found += "" if lost else "; advex works with logits all the same"
        return _finding("D6", "flag" if lost else "noted", found, saturated=sure)

    def _constant(self) -> bool:
        """Whether every input, also random ones, gets the same answer."""
        low, high = self.classifier.box
        noise = np.random.default_rng(self.seed % 2**63).random((CHECKED, *self.x.shape[1:]))
        values = noise * 255 if self.grid.levels else low + noise * (high - low)
        seen = np.concatenate([self._logits(self.x), self._logits(values.astype(self.x.dtype))])
        return bool(np.ptp(seen, axis=0).max() <= 1e-6 * max(float(np.abs(seen).max()), 1e-6))

    # D1, D2, D3: gradients.

    def _looked(self, points: Array) -> tuple[Array, Array, Array, Array]:
        """Margin, log-odds against the label, gradients of the usual cross-entropy and of the
        margin: (n,) and (n, ...) twice.
        """
        forward = self.forward

        def look(x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            goal = _goal(labels)

            def losses(point: Tensor) -> tuple[Tensor, Tensor]:
                logits = forward.exact(point)
                return ops.stack([_usual(logits, labels), margin(logits, goal)], axis=1), logits

            values, jacobian, logits = _backend.jacobian(losses, x)
            if jacobian is None:
                raise GradientUnavailable(NO_GRADIENT)
            return values[:, 1], log_odds(logits, labels), jacobian

        run = self._function("look", look)
        parts = []
        for index, count in self._chunks(np.arange(len(points))):
            answers = run(
                ops.convert_to_tensor(points[index]), ops.convert_to_tensor(self.labels[index])
            )
            parts.append([_backend.to_numpy(answer)[:count] for answer in answers])
        self.queries += len(points)
        self.gradients += 2 * len(points)
        margins, odds, slopes = (np.concatenate(column) for column in zip(*parts, strict=True))
        return margins, odds, slopes[:, 0], slopes[:, 1]

    def _gradients_themselves(self, movable: bool) -> None:
        """D1, D2 and, where there is a radius, D3."""
        x0 = self.grid.working(self.x)
        margins, _, _, slope = here = self._looked(x0)
        places = [here, self._looked(self._random_start())] if movable else [here]
        dead = np.stack([_zero(steep) for _, _, _, steep in places])
        faint = np.stack([_zero(usual) | (odds < UNDERFLOW) for _, odds, usual, _ in places])
        wild = np.stack(
            [~np.isfinite(flattened(slope)).all(axis=1) for place in places for slope in place[2:]]
        ).any(axis=0)
        none, gone, broken = (
            int(dead.any(axis=0).sum()),
            int((faint & ~dead).any(axis=0).sum()),
            int(wild.sum()),
        )
        at = "the inputs or a random start near them" if movable else "the inputs"
        found = (
            f"of {self.n} examples, {none} have a gradient that is exactly zero at {at},"
            f" {broken} one that is not finite"
        )
        self._add(
            _judgement(
                "D1",
                broken > 0 or _many(none, self.n) or none == self.n,
                found,
                zero=none,
                not_finite=broken,
            )
        )
        found = (
            f"{gone} of {self.n} examples have no cross-entropy gradient at {at}, but one"
            f" of the margin"
        )
        self._add(_judgement("D2", _many(gone, self.n) or gone == self.n, found, dead=gone))
        if movable:
            self._add(self._lies(x0, margins, slope))

    def _random_start(self) -> Array:
        """A random point of the budget for each example, in the model's units."""
        parts = []
        for index, count in self._chunks(np.arange(self.n)):
            room = self._room(index)
            parts.append(_backend.to_numpy(room.start(self.seed))[:count])
        return np.concatenate(parts)

    def _room(self, index: Array) -> _Room:
        return _Room(self.grid, self.radius, self.x[index])  # type: ignore[arg-type]

    def _lies(self, x0: Array, before: Array, slope: Array) -> Finding:
        """D3. The point stays in the box; 8-bit inputs move by whole levels, at least one."""
        low, high = (np.float32(end) for end in self.classifier.box)
        level = (high - low) / 255
        assert self.radius is not None
        finite = np.where(np.isfinite(slope), slope, 0).astype("float32")
        if self.radius.homogeneous:
            reach = SHORT * self.radius.limit(self.grid.span)
            move = reach * _backend.to_numpy(self.radius.steepest(ops.convert_to_tensor(finite)))
        else:
            move = level * np.sign(finite)
        largest = (
            np.abs(flattened(move)).max(axis=1, initial=0).reshape((-1,) + (1,) * (move.ndim - 1))
        )
        move = move * np.minimum(1, FAR * (high - low) / np.maximum(largest, 1e-30))
        if self.grid.levels:
            move = np.rint(move * np.maximum(1, level / np.maximum(largest, 1e-30)) / level) * level
        point = np.clip(x0 + move, low, high).astype("float32")
        after, *_ = self._looked(point)
        gain = (after - before).astype("float64")
        promise = (
            flattened(finite).astype("float64") * flattened(point.astype("float64") - x0)
        ).sum(axis=1)
        total = np.abs(gain) + np.abs(promise)
        told = total > NOISE * np.abs(self._logits(self.x)).max(axis=1)
        gap = np.where(told, np.abs(gain - promise) / np.maximum(total, 1e-30), 0.0)
        lies = int((gap > GAP).sum())
        middle = float(np.median(gap))
        found = (
            f"for {lies} of {self.n} examples a short step misses what the gradient"
            f" promises (median gap {middle:.2g})"
        )
        fired = lies > LIES * self.n and _many(lies, self.n)
        return _judgement("D3", fired, found, lies=lies, share=lies / self.n, median_gap=middle)

    # D7 to D12: attacks.

    def _attacks(self) -> Array:
        """D7, D10, D11, D12; returns which examples every gradient attack has left standing."""
        first = self._attack(PGD(steps=STEPS), np.ones(self.n, bool))
        small = first | self._attack(PGD(steps=STEPS, loss=margin), ~first)
        one = self._attack(FGSM(), ~small)
        count, standing = int(one.sum()), int((~small).sum())
        found = f"FGSM breaks {count} of the {standing} examples that {STEPS} steps of PGD do not"
        self._add(_judgement("D7", _many(count, self.n), found, wins=count, standing=standing))
        left = self._first(~small)
        more = self._longer(left)
        again = self._attack(Restarts(PGD(steps=STEPS), RESTARTS - 1), left, seed=1)
        count, tried = int(again.sum()), int(left.sum())
        found = f"{RESTARTS - 1} more starts break {count} of {tried} examples that one does not"
        self._add(
            _judgement("D11", _many(count, self.n, RESTARTED), found, more=count, tried=tried)
        )
        self._add(self._not_monotone(self._first(first)))
        return ~(small | one | again | more)

    def _not_monotone(self, broken: Array) -> Finding:
        assert self.radius is not None
        if self.radius.homogeneous:
            double = 2 * self.radius.epsilon
            wide = type(self.radius)(min(double, 1.0) if isinstance(self.radius, Linf) else double)
        else:
            wide = type(self.radius)(int(2 * self.radius.epsilon))
        held = broken & ~self._attack(PGD(steps=STEPS), broken, wide)
        lost = int((held & ~self._attack(PGD(steps=STEPS, loss=margin), held, wide)).sum())
        found = (
            f"{lost} of {int(broken.sum())} examples that fall within {self.radius!r} hold"
            f" within {wide!r}"
        )
        return _judgement("D12", _many(lost, self.n), found, lost=lost, tried=int(broken.sum()))

    def _longer(self, chosen: Array) -> Array:
        """D10: plain ascent for twice the steps; returns which of the examples the second half
        breaks as well as the first.
        """
        index = np.flatnonzero(chosen)
        if not len(index):
            self._add(
                _finding(
                    "D10", "ok", "every example falls before the steps are spent", stuck=0, more=0
                )
            )
            return np.zeros(self.n, bool)
        values, points, when = self._climbed(index)
        best = np.maximum.accumulate(values, axis=0)[: STEPS + 1]
        reach = best[-1] - values[: STEPS + 1].min(axis=0)
        stuck = int((reach == 0).sum())
        mean = best.mean(axis=0) if best.ndim == 1 else best.mean(axis=1)
        late = mean[-1] - mean[round(STEPS * (1 - LATE))]
        gain = float(late / max(mean[-1] - mean[0], 1e-30)) if mean[-1] > mean[0] else 0.0
        true = self._true(points, index) & (when < len(values))
        count = int((true & (when > STEPS)).sum())
        fired = gain > GAIN or _many(stuck, self.n) or _many(count, self.n)
        found = (
            f"the last {LATE:.0%} of {STEPS} steps bring {gain:.1%} of the loss's gain; {stuck} of"
            f" {len(index)} examples are"
            f" stuck; {STEPS} steps more break {count}"
        )
        self._add(
            _judgement(
                "D10", fired, found, late_gain=gain, stuck=stuck, more=count, tried=len(index)
            )
        )
        broken = np.zeros(self.n, bool)
        broken[index] = true
        return broken

    def _climbed(self, index: Array) -> tuple[Array, Array, Array]:
        """2 * STEPS steps of PGD where nobody leaves: losses (steps + 1, m), the first points
        across, and at which step.
        """
        forward = self.forward

        def climb(x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            goal = _goal(labels)

            def loss(point: Tensor) -> tuple[Tensor, Tensor]:
                logits = forward.exact(point)
                return cross_entropy(logits, goal), logits

            value, gradient, logits = _backend.value_and_gradient(loss, x)
            if gradient is None:
                raise GradientUnavailable(NO_GRADIENT)
            return value, gradient, goal.reached(logits, 2 * forward.slack)

        run = self._function("climb", climb)
        losses, points, times = [], [], []
        for part, count in self._chunks(index):
            room, labels = self._room(part), ops.convert_to_tensor(self.labels[part])
            x, trace, when = room.start(self.seed + 2), [], np.full(len(part), 2 * STEPS + 1)
            best = room.seen(x)
            for step in range(2 * STEPS + 1):
                seen = room.seen(x)
                value, gradient, reached = run(seen, labels)
                new = _backend.to_numpy(reached) & (when > step)
                best = ops.where(rows(ops.convert_to_tensor(new), best), seen, best)
                when = np.where(new, step, when)
                trace.append(_backend.to_numpy(value)[:count])
                x = room.moved(x, gradient)
            losses.append(np.stack(trace))
            points.append(_backend.to_numpy(best)[:count])
            times.append(when[:count])
        self.queries += len(index) * (2 * STEPS + 1)
        self.gradients += len(index) * (2 * STEPS + 1)
        return np.concatenate(losses, axis=1), np.concatenate(points), np.concatenate(times)

    def _true(self, points: Array, index: Array) -> Array:
        """Whether points in the model's units are successes for the examples ``index``, judged on
        arrays of the user's kind.
        """
        assert self.radius is not None
        x = self.grid.settled(self.grid.returned(points), self.x[index], self.radius)
        verdict = self.judge(x, Untargeted(self.labels[index]))["reached"]
        self.queries += len(x)
        return np.asarray(verdict & self.grid.within(x, self.x[index], self.radius))

    def _black_box(self, standing: Array, blind: bool) -> None:
        """D8; where there are no gradients, also what D13 to D15 look at."""
        searches: list[Attack] = [Corners()]
        try:
            SquareAttack().check(None, self.radius)  # type: ignore[arg-type]
            SquareAttack().check_inputs(self.x.shape[1:])
            searches.append(SquareAttack(steps=BLACK_BOX))
        except InvalidInput:  # it has no form for this norm or these inputs
            searches = [Corners(steps=BLACK_BOX + CORNERS)]
        left = self._first(standing)
        count, tried = int(self._attack(Ensemble(*searches), left).sum()), int(left.sum())
        whom = (
            "examples (there is no gradient attack)"
            if blind
            else "examples that every gradient attack leaves standing"
        )
        found = f"random search breaks {count} of {tried} {whom}"
        self._add(_judgement("D8", _many(count, self.n), found, wins=count, tried=tried))

    def _unbounded(self) -> Finding:
        """D9."""
        attack = PGD(steps=STEPS, loss=margin)
        broken = self._attack(attack, np.ones(self.n, bool), Linf(1.0))
        held = int((~broken).sum())
        found = (
            f"with the whole range allowed, {STEPS} steps on the margin break"
            f" {self.n - held} of {self.n}"
        )
        constant = held > 0 and self._constant()
        if constant:
            found = f"constant model: every input gets the same answer; {found}"
        return _judgement("D9", held > 0, found, held=held, constant=int(constant))

    # D13, D14, D15: successes.

    def _successes(self) -> tuple[Array, Array]:
        """The points that were found, in the user's dtype, and the labels."""
        points = np.stack([result.x[row] for result, row in self.found.values()])
        return points, self.labels[list(self.found)]

    def _luck(self) -> Finding:
        points, labels = self._successes()
        again = float(
            np.mean([self._logits(points).argmax(axis=1) != labels for _ in range(LOOKS)])
        )
        first, mean = len(points) / self.n, again * len(points) / self.n
        found = (
            f"{first:.1%} of the examples fall at first sight, {mean:.1%} in the mean of"
            f" {LOOKS} fresh looks"
        )
        return _judgement("D13", first - mean > LUCK, found, first=first, mean=mean)

    def _fragile(self) -> Finding:
        points, labels = self._successes()
        together, alone = self._logits(points), self._alone(points)
        answers = [together, alone]
        if self.classifier.differentiable:
            self.queries += len(points)
            answers.append(self.judge.compiled_logits(self.classifier, points))
        verdicts = np.stack([logits.argmax(axis=1) != labels for logits in answers])
        changing = (verdicts != verdicts[0]).any(axis=0)
        ordered = np.sort(together, axis=1)
        tie = ordered[:, -1] - ordered[:, -2] <= FRAGILE * np.abs(together).max(axis=1)
        which = self.index[np.asarray(list(self.found))[changing | tie]].tolist()
        listed = (
            f": {', '.join(map(str, which[:10]))}{', ...' if len(which) > 10 else ''}"
            if which
            else ""
        )
        found = (
            f"{len(which)} of {len(points)} successes change with compilation or alone, or"
            f" are nearly ties{listed}"
        )
        return _finding(
            "D14",
            "noted" if which else "ok",
            found,
            fragile=len(which),
            changing=int(changing.sum()),
            ties=int(tie.sum()),
        )

    def _eight_bits(self) -> Finding:
        before = len(self.found)
        if self.grid.levels:
            found = f"the inputs are 8-bit images, and so are all {before} successes"
            return _finding("D15", "ok", found, before=before, after=before)
        if not images.is_image(self.x):
            return _finding("D15", "not run", "the inputs are no pictures")
        kept = sum(
            result._judged_file(result._pixels(row), row)[2] for result, row in self.found.values()
        )
        self.queries += before
        found = (
            f"{kept} of {before} successes are left when rounded to 8 bits (towards the original)"
        )
        return _finding(
            "D15", "noted" if kept < before else "ok", found, before=before, after=int(kept)
        )


class _Room:
    """Ball and box around some examples, as tensors: where a plain ascent may go."""

    def __init__(self, grid: Grid, budget: Budget, x: Array) -> None:
        lower, upper = grid.bounds(x, budget)
        self.grid, self.span = grid, float(grid.span)
        self.x0, self.lower, self.upper = (
            ops.convert_to_tensor(values) for values in (grid.working(x), lower, upper)
        )
        self.limit = np.float32(budget.limit(grid.span))
        self.budget = budget.bound(ops.convert_to_tensor(self.limit))

    def start(self, seed: int) -> Tensor:
        """A random point."""
        return self._inside(self.x0 + self.budget.sample(_Draws(self.x0, self.span, seed)))

    def seen(self, x: Tensor) -> Tensor:
        """What the model is shown for ``x``."""
        return self.grid.snapped(
            x, self.x0, self.budget, self.lower, self.upper, ops.convert_to_tensor(np.float32(255))
        )

    def moved(self, x: Tensor, gradient: Tensor) -> Tensor:
        """A step of PGD's size."""
        reach = float(self.limit) if self.budget.homogeneous else float(self.limit) * self.span
        return self._inside(x + 0.25 * reach * self.budget.steepest(gradient))

    def _inside(self, x: Tensor) -> Tensor:
        return self.budget.nearest(x, self.x0, self.lower, self.upper)


def _goal(labels: Tensor) -> Goal:
    """The goal of leaving ``labels``, which are a tensor."""
    return Untargeted(np.zeros(1, "int32")).bound({"labels": labels})


def _zero(gradient: Array) -> Array:
    """Which rows are exactly zero."""
    return np.asarray((flattened(gradient) == 0).all(axis=1))
