"""A call, from checked arguments to the result: a first look, the waves, the last word."""

from __future__ import annotations

import contextlib
import warnings
from dataclasses import replace
from typing import Any, NamedTuple

import keras
import numpy as np

from advex import _backend
from advex._arrays import Array, flattened
from advex._grid import Grid
from advex._inputs import Examples
from advex._space import Space, grid_of, scale_of
from advex._version import VERSION
from advex.budgets import Budget
from advex.driver import sentences
from advex.driver.candidates import Others, candidates
from advex.driver.honesty import Look, first_look, unseeded
from advex.driver.judging import CHECKED, Judge, copied
from advex.driver.last_word import Word, last_word
from advex.driver.ledger import Ledger
from advex.driver.loop import Scene, run_wave
from advex.driver.plan import Wave, forked, one_by_one, sensible, suitable
from advex.driver.programs import Programs
from advex.driver.progress import Progress, Report
from advex.driver.ranges import another_range
from advex.driver.shapes import Shapes
from advex.errors import InvalidInput, ModelWarning
from advex.goals import Goal, Untargeted
from advex.goals.classes import places
from advex.model.protocol import Model
from advex.result import Info, Result, before_word, statuses
from advex.trace import Trace, ladder

NO_GOAL = (
    "the model answers with scores at each place of an input, not for each input: a goal says what"
    " is wanted of it: advex.Segmentation(labels), or advex.Segmentation() to leave what the model"
    " itself says; if these are the feature maps of a network without its top (include_top=False),"
    " give the whole model, with the layers that classify"
)


AROUND = 2  # queries beside a run's: the look at the clean input, and the last judgement


class Call(NamedTuple):
    """What an attack is called with, checked."""

    classifier: Model
    x: Array
    """What is attacked."""
    goal: Goal | None
    """None: the model's own predictions are left."""
    budget: Budget
    seed: int
    batch_size: int | None = None
    progress: Progress = None
    start: Array | None = None
    others: Others | None = None
    """Data among which starts may be found."""
    marks: tuple[int, ...] | None = None
    """The numbers of queries at which the smallest size is kept. None: 1, 2, 5, 10, ..."""
    until: str = "success"
    """"end": rows take all steps, and the point where the goal is exceeded most is kept."""
    multiple: int = 1
    """Batches are filled up to multiples of so many rows. Kernels cache something for every size
    that they have seen: long evaluations keep the number of sizes small."""
    of_sizes: bool = False
    """Whether there are calls for inputs of other sizes: then only the steps are compiled."""
    given: Examples | None = None
    """``x`` with what travels along, where anything does."""

    looked: bool = False
    """Whether somebody has seen to it already that the inputs lie in the model's range."""

    @property
    def examples(self) -> Array | Examples:
        """What the model is asked with."""
        return self.x if self.given is None else self.given

    @property
    def mask(self) -> Array | None:
        """Which elements may change, where not all may."""
        shape = self.x.shape
        mask, fixed = self.budget.changeable(shape), self._fixed
        if fixed is not None:
            free = np.broadcast_to(~fixed, shape)
            mask = free if mask is None else mask & free
        each = self.budget.epsilons
        if each is not None and (each == 0).any():
            free = np.broadcast_to((each > 0).reshape((-1,) + (1,) * (len(shape) - 1)), shape)
            mask = free if mask is None else mask & free
        return mask

    @property
    def _fixed(self) -> Array | None:
        grid = grid_of(self.classifier, self.examples, self.budget)
        if isinstance(grid, Space):
            return grid.fixed
        return self.classifier.domain.fixed


def attacked(call: Call, attack: Any, waves: list[Wave]) -> Result:
    """Run the waves one after the other over the rows that still need it, and judge what they have
    found.
    """
    if not len(call.x):
        return _nothing(call, attack)
    # The caller may modify its arrays meanwhile.
    given = None if call.given is None else call.given.copy()
    x = call.x.copy() if given is None else given.attacked
    start = None if call.start is None else call.start.copy()
    call = call._replace(x=x, given=given, start=start)
    classifier, grid = call.classifier, grid_of(call.classifier, call.examples, call.budget)
    shapes = Shapes.of_call(len(x), x.shape[1:], call.batch_size, classifier.metered, call.multiple)
    shapes = replace(shapes, shrinks=not call.of_sizes)
    look, goal, waves, ranked = _begun(call, waves, grid, shapes)
    forward, own = look.judge.forward, call.goal is None or call.goal.about_own
    notes = sentences.notes_before(look, classifier, goal, own)
    notes += sentences.about_inputs(grid, call.budget)
    look, elsewhere = _ranged(look, call, goal, own)
    said = sentences.before(look, goal, own, call.budget, grid, elsewhere)

    end = call.until == "end"
    strongest = end or attack.keeps_worst
    budget, mask = call.budget.bare(), call.mask
    scale = scale_of(budget, x)
    scene = Scene(
        grid, x, goal, budget, call.seed, call.start, strongest, mask, not end, call.given, scale
    )
    marks = _marks(call, waves) if scene.aim != "strongest" else ()
    scene = scene._replace(marks=marks)
    if any(wave.attack.needs == "labels" for wave in waves):
        told = look.before["logits"] if len(look.judge.layout.shapes) == 1 else None
        others = candidates(x, call.seed, call.others, goal, told)
        scene = scene._replace(others=others)
    programs = Programs(
        classifier, forward, grid, goal, budget, strongest, not call.of_sizes, marks, shapes.most
    )

    def settled(points: Array, rows: Array) -> Array:
        points = grid.returned(points, x[rows], None if scale is None else scale[rows])
        if mask is not None:
            points = np.where(mask[rows], points, x[rows])
        points = grid.settled(points, x[rows], budget.part(rows))
        if mask is None or not grid.repairs:
            return points
        # Relations may have moved what must not: then there is no way inside.
        still = np.asarray(flattened(mask[rows] | (points == x[rows])).all(axis=1))
        return np.where(still.reshape((-1,) + (1,) * (x.ndim - 1)), points, x[rows])

    ledger = Ledger(x, scene.aim, settled, scene.leaves, marks)
    ledger.clean(look.before["reached"], look.before["ranking"])
    chosen = sensible(waves, goal, ranked, notes)
    said += unseeded(chosen, programs, scene)
    there = int(look.before["reached"].sum())
    report = Report(call.progress, len(x), there, before_word(goal.targeted))
    # Avoid needless queries of a black box; a search for the smallest needs every run.
    together = scene.aim == "first" and not classifier.metered
    every = chosen if together else one_by_one(chosen)
    waiting = len(every)
    try:
        for wave in every:
            waiting -= 1
            run_wave(wave, ledger, programs.of(wave.attack), shapes, scene, report)
        word = last_word(look, classifier, ledger, scene, ranked)
    except BaseException as error:
        with contextlib.suppress(Exception):
            if waiting:
                ledger.pending |= ~ledger.found | (scene.aim != "first")
            found = _stopped(call, attack, goal, look, ledger, grid, error)
            error.result = found  # type: ignore[attr-defined]
        raise
    notes += sentences.notes_after(waves, goal, forward.classes)
    notes += sentences.about_starts(ledger)
    said = word.said + said + sentences.after(waves, word, ledger)
    invalid = ledger.nan & ~word.success
    info = _info(call, attack)
    seen: Info = {
        "head": forward.head.name,
        "goal": repr(goal) + (" (the model's own predictions)" if own else ""),
        "notes": notes,
        "warnings": said,
        "fragile": np.flatnonzero(word.fragile).tolist(),
        "invalid": np.flatnonzero(invalid).tolist(),
        "suspicious": np.flatnonzero(ledger.doubt).tolist(),
        "clean_wrong": int(word.clean.sum()),
        "until": call.until,
        "checks": {"queries": word.spent},
        "stages": ledger.account,
    }
    info.update(seen)
    for sentence in said:
        warnings.warn(sentence, ModelWarning, stacklevel=5)
    return _result(call, goal, ledger, word, grid, info)


def _begun(
    call: Call, waves: list[Wave], grid: Grid, shapes: Shapes
) -> tuple[Look, Goal, list[Wave], int]:
    """The first look at the clean inputs; the goal, about the model as it is; the waves that are
    for it; and how many ways to it are wanted.
    """
    classifier, x, few = call.classifier, call.examples, call.examples[:CHECKED]
    sample = grid.entered(few)
    reading = "scores" if call.goal is None else call.goal.reading
    forward = classifier.forward(sample, reading)
    goal = call.goal and call.goal.check(len(x), forward.classes)
    if goal is None and forward.head.places:
        alone = all(size == 1 for size in forward.example[:-1])
        raise InvalidInput(places("a call without a goal", forward.example) if alone else NO_GOAL)
    ways = forward.classes - 1 if goal is None else goal.branches(forward.classes)
    waves = suitable(waves, goal, grid.discrete)
    if goal is not None:
        waves = forked(waves, goal, ways)
    ranks = [run.rank for wave in waves for run in wave.runs if run.rank is not None]
    ranked = min(1 + max(ranks, default=-1), ways)
    judge = Judge(classifier, grid, shapes.most, few, call.multiple, reading)
    judge.traces = not call.of_sizes
    waits = goal is None or goal.open
    look = first_look(judge, classifier, x, None if waits else goal, ranked)
    _demand_answers(look.before)
    look, goal = _known(look, goal, ranked)
    forward = look.judge.forward
    # By now the kind of scores is known, even for a black box or a changed model.
    return look, goal.check(len(x), forward.classes).of(forward.head), waves, ranked


def _known(look: Look, goal: Goal | None, ranked: int) -> tuple[Look, Goal]:
    """A goal that waits for the model's own answer, and what the judge says about it."""
    if goal is not None and not goal.open:
        return look, goal
    logits = look.before["logits"]
    if goal is None:
        goal, ranked = Untargeted(look.before["prediction"]), 0
    else:
        goal.suit(look.judge.layout.shapes)
        goal = goal.closed(look.judge.layout.shaped(logits))
    told = look.judge.about(logits, goal.check(len(logits), None), ranked)
    if isinstance(goal, Untargeted):
        told |= {name: look.before[name] for name in ("ranking", "saturated")}
    return look._replace(before=told), goal


def _ranged(look: Look, call: Call, goal: Goal, own: bool) -> tuple[Look, str]:
    """The look with what it cost to ask whether the inputs lie in another range than the model's,
    and a sentence about it. Where all steps are taken the answers say nothing: a model in training
    is poor by nature.
    """
    if call.looked:
        return look, ""
    known = isinstance(goal, Untargeted) and not own and call.until != "end"
    labels = goal.labels if known else None  # type: ignore[attr-defined]
    told, spent = another_range(
        look.judge, call.classifier, call.examples, labels, look.before["prediction"]
    )
    return look._replace(spent=look.spent + spent), told


def _demand_answers(before: dict[str, Array]) -> None:
    """Raise if the model answers NaN before anything has been attacked."""
    count = len(before["broken"])
    if before["broken"].any():
        bad = np.flatnonzero(before["broken"])
        raise InvalidInput(
            f"the model answers NaN for {len(bad)} of {count} clean inputs, first at"
            f" {bad[:5].tolist()}: nothing can be said about them; leave them out, or mend the"
            " model"
        )


def _info(call: Call, attack: Any) -> Info:
    """What is known of a call before it begins."""
    return {
        "attack": repr(attack),
        "budget": repr(call.budget),
        "seed": call.seed,
        "backend": _backend.NAME,
        "versions": {
            "keras": keras.__version__,
            "numpy": np.__version__,
            "advex": VERSION,
            _backend.NAME: _backend.version(),
        },
    }


def _nothing(call: Call, attack: Any) -> Result:
    """The result for no inputs."""
    goal = call.goal or Untargeted(np.zeros(0, "int32"))
    info = _info(call, attack)
    nothing: Info = {
        "warnings": [],
        "notes": [],
        "head": None,
        "goal": repr(call.goal),
        "fragile": [],
        "invalid": [],
        "suspicious": [],
        "clean_wrong": 0,
        "until": call.until,
        "checks": {"queries": 0},
        "stages": [],
    }
    info.update(nothing)
    return Result.empty(call.classifier, call.examples, goal, call.budget, info)


def _result(call: Call, goal: Goal, ledger: Ledger, word: Word, grid: Grid, info: Info) -> Result:
    x, budget, before = call.x, call.budget, word.before
    distance = np.where(word.success, 0.0, np.inf)
    changed = np.flatnonzero(word.success & ~word.clean)
    part = budget.part(changed)
    distance[changed] = grid.distance(ledger.points[changed], x[changed], part)
    if budget.limited:  # the points are inside, checked exactly: a quotient may still round up
        limit = part.epsilon if part.epsilons is None else part.epsilons
        distance[changed] = np.minimum(distance[changed], limit)
    given, marks = call.given, ledger.marks

    def whole(points: Array) -> Any:
        return points if given is None else given.moved(points).tree

    return Result(
        classifier=call.classifier,
        original=whole(x),
        goal=goal,
        budget=budget,
        x=whole(ledger.points),
        attempt=whole(ledger.attempts),
        success=word.success,
        prediction=word.prediction,
        confidence=_wide(word.confidence),
        margin=word.margin,
        distance=distance,
        gradients=ledger.gradients,
        queries=ledger.queries,
        before=before["prediction"],
        before_confidence=_wide(before["confidence"]),
        margin_before=before["margin"].astype("float64"),
        broken_by=ledger.broken_by.astype(str),
        status=statuses(word.clean, word.success, word.fragile, ledger.nan & ~word.success),
        info=info,
        given=given,
        trace=_trace(call, ledger, word, grid, distance, marks) if len(marks) else None,
    )


def _marks(call: Call, waves: list[Wave]) -> tuple[int, ...]:
    """The numbers of queries at which sizes are kept: where nothing is differentiated."""
    runs = [run for wave in waves for run in wave.runs]
    if not runs or any(run.attack.needs == "gradients" for run in runs):
        return ()
    if call.marks is not None:
        return call.marks
    spent = sum(run.attack.query_limit or run.end - run.begin for run in runs)
    return ladder(spent + AROUND)


def _stopped(
    call: Call,
    attack: Any,
    goal: Goal,
    look: Look,
    ledger: Ledger,
    grid: Grid,
    error: BaseException,
) -> Result:
    """What was found until an error ended the call. The model is asked no more: successes are those
    of the search.
    """
    before, clean = look.before, look.before["reached"]
    success = ledger.found.copy()
    prediction, confidence = copied(before["prediction"]), copied(before["confidence"])
    won = np.flatnonzero(success & ~clean)
    if isinstance(prediction, np.ndarray) and prediction.ndim == 1:
        prediction[won], confidence[won] = -1, np.nan
    ledger.attempts[won] = ledger.points[won]
    margin = np.where(ledger.tried, ledger.margin, before["margin"]).astype("float64")
    nothing = np.zeros(len(success), bool)
    word = Word(before, clean, success, nothing, prediction, confidence, margin, look.spent, [])
    info = _info(call, attack)
    said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    more: Info = {
        "head": look.judge.forward.head.name,
        "goal": repr(goal),
        "notes": [
            f"The call was stopped by {said}. Successes are those that the search saw, and were not"
            f" judged once more; {int(ledger.pending.sum())} rows were not finished."
        ],
        "warnings": [],
        "fragile": [],
        "invalid": np.flatnonzero(ledger.nan & ~success).tolist(),
        "suspicious": np.flatnonzero(ledger.doubt).tolist(),
        "clean_wrong": int(clean.sum()),
        "until": call.until,
        "checks": {"queries": look.spent},
        "stages": ledger.account,
        "stopped": said,
        "unfinished": np.flatnonzero(ledger.pending).tolist(),
    }
    info.update(more)
    return _result(call, goal, ledger, word, grid, info)


def _trace(
    call: Call, ledger: Ledger, word: Word, grid: Grid, distance: Array, marks: Array
) -> Trace:
    """The sizes at the marks, in the units of the distance."""
    sizes, budget = ledger.trace.copy(), call.budget
    won = word.success & ~word.clean
    if budget.limited:  # the first success ends a row, and the last judgement comes after it
        late = marks >= (ledger.queries - 1)[:, None]
        sizes = np.where(late, distance[:, None], np.inf)
    elif budget.homogeneous:
        sizes /= float(grid.span)
    near = sizes <= distance[:, None] * (1 + 1e-5)
    sizes = np.where(near & won[:, None], distance[:, None], sizes)
    sizes[~word.success] = np.inf
    sizes[word.clean] = 0.0
    return Trace(marks, sizes)


def _wide(confidence: Any) -> Any:
    """Confidence in float64: an array, or one for each output."""
    if isinstance(confidence, dict):
        return {name: _wide(part) for name, part in confidence.items()}
    return confidence.astype("float64")
