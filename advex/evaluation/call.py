"""``evaluate``: data of any length, attacked block by block; each finished piece is written down
before the next begins.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import keras

from advex._settings import helpful, shown, switch, whole_number
from advex.budgets import Budget
from advex.driver.progress import Progress
from advex.errors import AdvexError, Interrupted, InvalidInput, InvalidType
from advex.evaluation.asked import (
    Asked,
    Attacks,
    checked_run,
    checked_seed,
    demand_suitable,
    examined,
    named_attacks,
)
from advex.evaluation.budgets import checked_budget, joined
from advex.evaluation.evaluation import Evaluation
from advex.evaluation.identity import about
from advex.evaluation.journal import Journal
from advex.evaluation.perturbed import no_doctor
from advex.evaluation.progress import Report
from advex.evaluation.runner import Runner
from advex.evaluation.source import Source
from advex.evaluation.stopping import stopping
from advex.evaluation.store import Store
from advex.evaluation.wanted import checked_goal, wanted
from advex.goals import Goal
from advex.model.blackbox import BlackBox
from advex.model.classifier import Classifier
from advex.model.protocol import Model
from advex.model.training import warn_of_another


@helpful
def evaluate(
    model: keras.Model | Model,
    data: Any,
    attacks: Attacks = None,
    budget: Budget | Mapping[str, Budget] | None = None,
    *,
    run: str | Path | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    block: int | None = None,
    keep: Literal["none", "success"] = "none",
    goal: Callable[[Any], Goal] | None = None,
    diagnose: bool = True,
    progress: Progress = None,
    engine: Literal["local", "ray"] = "local",
    workers: int = 2,
) -> Evaluation:
    """How many inputs of ``data`` the model still gets right when each may be moved within
    ``budget``.

    When to use it:
        For the robust accuracy of a model on a data set, with a report that others can check and a
        run that goes on after a stop. For a handful of images call an attack.

    The data are read once, in order, a block at a time; memory does not grow with their length.
    Every attack is tried on every input that is classified correctly, so that the attacks can be
    compared; ``Ensemble(a, b)`` lets only survivors go on.

    Args:
        model: a ``keras.Model`` on [0, 1], a ``Classifier`` that says what its domain is, or a
            ``BlackBox``.
        data: (x, labels), a ``tf.data.Dataset``, a ``keras.utils.PyDataset``, a torch
            ``DataLoader``, or any iterable of batches (x, labels). To go on with a run it must
            bring the same examples in the same order: no shuffling. Of a model of several inputs x
            is a dict of arrays, or a tuple or list of them: ``({"image": image, "meta": meta},
            labels)``; see ``Classifier(model, perturb="image")``.
        attacks: one, several, or names and attacks. Default: ``Verdict()`` and, against masked
            gradients, ``SquareAttack`` with 1,000 queries; for a ``BlackBox`` the latter alone, or
            where it answers with a class alone ``MinimumNorm(steps=1000)``; for a budget without
            limit ``MinimumNorm()``.
        budget: how far each input may be moved, such as ``Linf(8/255)``; where several inputs are
            attacked at once a dict with one for each. An epsilon, or a mask, for each example
            follows the order of the data.
        run: the file that keeps what was found, an SQLite database. If it is there already, the run
            in it goes on; it must have been begun with the same model, data and settings. None:
            nothing is kept.
        seed: decides all random numbers, together with each input's content.
        batch_size: examples per step, the memory's limit.
        block: rows per transaction, what a kill can cost at most; default four batches.
        keep: "success" keeps each adversarial input in the file, 8-bit pictures as PNG; "none" just
            a few for the report.
        goal: what is wanted of each example: a function from the labels of a block, an array (n,
            ...), to a goal, such as ``advex.MultiLabel``, ``advex.Segmentation``,
            ``functools.partial(advex.TopK, k=3)`` or ``lambda y: advex.Regression(y, off=0.5)``.
            An example whose goal is reached before any attack counts as wrong. Of numbers and maps
            the run keeps how far each example came (``until="end"``). None: ``Untargeted``.
        diagnose: whether the doctor looks at up to 128 inputs, see ``advex.evaluation.diagnose``;
            it does so where one array in a box is attacked, and its classes.
        progress: True or False for a bar, None for a bar if somebody watches, or ``progress(done,
            total, held)``, total None where it is not known.
        engine: "local", or "ray" for several processes or machines (``pip install 'advex[ray]'``),
            which needs ``run``.
        workers: how many, with "ray".

    Returns:
        An ``Evaluation``.

    Raises:
        InvalidInput: a value that cannot be worked with; a run file that was begun with something
            else, which is named.
        InvalidType: an argument of the wrong kind.
        Interrupted: after Ctrl-C, a ``KeyboardInterrupt``; the message says how to go on.
        OSError: the run file cannot be written; what was recorded before stays.

    Example:
        >>> import advex
        >>> model, data = advex.testing.linear_model(), advex.testing.linear_data()
        >>> found = evaluate(model, data, advex.PGD(steps=5), advex.Linf(0.05), diagnose=False)
        >>> found.attacks[0].name, found.examples
        ('PGD', 32)
    """
    classifier, make = Classifier.of(model), checked_goal(goal)
    within = checked_budget(budget)
    warn_of_another(model, within, "evaluate")
    whole = joined(within, classifier)
    named = named_attacks(attacks, classifier, whole)
    demand_suitable(named, classifier, whole, make)
    if not isinstance(keep, str) or keep not in ("none", "success"):
        raise InvalidInput(f"keep must be 'none' or 'success'; received {shown(keep)}")
    if not isinstance(engine, str) or engine not in ("local", "ray"):
        raise InvalidInput(f"engine must be 'local' or 'ray'; received {shown(engine)}")
    asked = Asked(
        classifier,
        named,
        within,
        seed=checked_seed(seed),
        batch_size=None if batch_size is None else whole_number("batch_size", batch_size),
        block=None if block is None else whole_number("block", block),
        keep=keep,
        diagnose=diagnose if make is None else False,
        goal=make,
    )
    workers = whole_number("workers", workers)
    switch("diagnose", diagnose)
    if not (progress is None or isinstance(progress, bool) or callable(progress)):
        raise InvalidType(
            f"progress must be True, False, None or a function; received {shown(progress)}"
        )
    path = checked_run(run)
    source = Source(data, several=bool(classifier.perturb))
    if engine == "ray" and (path is None or source.arrays is None):
        raise InvalidInput(
            "engine='ray' needs a run file, and data as arrays that every worker can open:"
            " advex.evaluate(model, (np.load('x.npy', mmap_mode='r'), labels), attacks, budget,"
            " run='run.advex', engine='ray')"
        )
    return _evaluated(asked, source, path, progress, workers if engine == "ray" else 0)


def _evaluated(
    asked: Asked, source: Source, path: Path | None, progress: Progress, workers: int
) -> Evaluation:
    """Run, with ``workers`` if there are any, and close the run file whatever happens."""
    blocks = asked.blocks(source)
    first = next(blocks, None)
    if first is not None:  # the goal may be about one of several outputs
        asked = replace(
            asked, classifier=wanted(asked.goal, first.labels, asked.classifier).classifier
        )
        if asked.diagnose and (reason := no_doctor(asked.classifier, asked.budget, first.x)):
            asked = replace(asked, diagnose=False, no_doctor=reason)
    # before there is a file: a refused call leaves none
    digests = examined(asked, source, first)
    there = path is not None and path.exists()
    store = Store(path, write=True)
    runner, journal, finished = None, None, False
    try:
        if path is not None and isinstance(asked.classifier, BlackBox) and not workers:
            journal = Journal(path)
        settings = asked.settings | {"data": source.digest}
        what = about(asked.classifier, asked.attacks, settings, asked.goal)
        report = Report(progress, source.total)
        runner = Runner(asked, store, what, report, digests, journal)
        with stopping() as stop, contextlib.closing(report):
            runner.run(source, first, blocks, stop, workers)
        finished = True
    except BaseException as problem:
        how = _given_up(store, path, runner, remove=isinstance(problem, AdvexError) and not there)
        if isinstance(problem, KeyboardInterrupt):
            raise Interrupted(how) from problem
        raise
    finally:
        if journal is not None:
            journal.close(finished or path is None or not path.exists())
    if path is None:
        return Evaluation(None, store)
    store.close()
    return Evaluation(path)


def _given_up(store: Store, path: Path | None, runner: Runner | None, *, remove: bool) -> str:
    """Close the run file after an error, and say how to go on; one that this call has made for
    nothing is taken away.
    """
    how = _how_to_go_on(store, path)
    with contextlib.suppress(AdvexError, OSError, ValueError, TypeError):
        if runner is not None and store.fact("identity") is not None and (moved := runner.moved()):
            with store.transaction():
                store.state(moved)
    empty = False
    with contextlib.suppress(AdvexError, OSError):
        empty = store.one("SELECT count(*) FROM work")[0] == 0
    store.close()
    if path is not None and remove and empty:
        for name in (path, *(path.with_name(f"{path.name}-{part}") for part in ("wal", "shm"))):
            name.unlink(missing_ok=True)
    return how


def _how_to_go_on(store: Store, path: Path | None) -> str:
    rows = store.one("SELECT coalesce(sum(rows), 0) FROM blocks")[0]
    if path is None:
        return (
            f"stopped after {rows} rows; nothing was kept: with run='run.advex' the same"
            f" call would go on"
        )
    return f"stopped after {rows} rows; the same call with run={str(path)!r} goes on from there"
