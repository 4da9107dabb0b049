"""``certify``: randomised smoothing, of data of any length."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import keras
import numpy as np

from advex._settings import helpful, shown
from advex.certification.asked import asked, folder_of, source_of
from advex.certification.certificate import Certificate
from advex.certification.run import Run
from advex.driver.progress import Progress
from advex.errors import AdvexError, Interrupted, InvalidType
from advex.evaluation.asked import checked_seed
from advex.evaluation.progress import Report
from advex.evaluation.stopping import stopping
from advex.model.classifier import Classifier
from advex.model.protocol import Model

WORDS = "certifying", "certified", "abstained"


@helpful
def certify(
    model: keras.Model | Model,
    x: Any,
    labels: Any = None,
    sigma: float = 0.25,
    samples: int = 100_000,
    alpha: float = 0.001,
    *,
    selection: int = 100,
    run: str | Path | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    progress: Progress = None,
) -> Certificate:
    r"""Within which L2 distance of each input the smoothed model is certain to say the same class.

    When to use it:
        For a guarantee that holds against every attack, of a model that was trained with noise (see
        `training.Noise`). For the model as it is, without noise, only attacks tell.

    $$
    g(x) = \operatorname{argmax}_c \; P\bigl(f(x + \sigma u) = c\bigr), \quad u \sim \mathcal{N}(0,
    I), \qquad
    r = \sigma\, \Phi^{-1}(\underline{p})
    $$

    $f$ is the model, $g$ the smoothed one, which answers with the class that $f$ says most often of
    $x$ with noise of standard deviation $\sigma$. If at least a share $\underline{p} > 1/2$ of it
    is of one class, no change of $x$ shorter than $r$ makes it another; $\Phi^{-1}$ is the quantile
    function of the normal distribution. $\underline{p}$ is the exact lower bound (Clopper and
    Pearson) that `samples` noisy inputs prove. No attack takes part.

    Distances and `sigma` are in units of the box's range: of a model that takes 0 to 255,
    `sigma=0.25` is noise of standard deviation 63.75. The noise is added before `preprocess`, and
    noisy inputs are not clipped to the box. A model that was not trained with such noise mostly
    abstains.

    What a row gets depends on its content, the seed and the settings alone; not on its neighbours,
    the order or a resume. `batch_size` changes no random number, only rounding in the model. Each
    backend has random numbers of its own.

    Args:
        model: a ``keras.Model`` on [0, 1], a ``Classifier`` that says what its domain is, or a
            ``BlackBox`` of scores or labels, which is asked about values beyond its box too.
        x: inputs (n, ...): uint8 images, or floats in the box. Or a data set that brings labels: a
            ``tf.data.Dataset``, a ``keras.utils.PyDataset``, a torch ``DataLoader``, or batches (x,
            labels), read once and in order.
        labels: the true classes, (n,), or one-hot. None where x brings them.
        sigma: the standard deviation of the noise: a larger one certifies larger radii of fewer
            inputs.
        samples: noisy inputs that are counted for each input: no radius is above `sigma *
            Phi^-1(alpha ** (1 / samples))`, 3.81 sigma with 100,000 and 0.001.
        alpha: how probable it may be that the certificate of an input is false; for each input, not
            for all of them together.
        selection: noisy inputs that choose the class beforehand. The paper's n0: 100.
        run: the folder that keeps what was counted. If it is there already, the same call goes on;
            another one is refused by the name of what changed. None: nothing is kept.
        seed: decides all random numbers, together with each input's content.
        batch_size: noisy inputs side by side, the memory's limit; on an accelerator more are
            quicker.
        progress: True or False for a bar, None for a bar if somebody watches, or
            ``progress(done, total, certified)`` after each row, total None where it is not known.

    Returns:
        A ``Certificate``: ``radius`` (n,), 0 where it abstained or was wrong; ``prediction`` (n,),
            -1 where it abstained; ``accuracy(radius)`` and ``curve``.

    Raises:
        InvalidInput: a value that cannot be worked with; a folder that was begun with something
            else.
        InvalidType: an argument of the wrong kind.
        Interrupted: after Ctrl-C, a ``KeyboardInterrupt``; the message says how to go on. OSError:
            the folder cannot be written; what was counted before stays.

    Cost:
        `samples + selection` queries for each input, no gradients.

    Example:
        >>> import advex
        >>> x, labels = advex.testing.linear_data(4)
        >>> found = advex.certify(advex.testing.linear_model(), x, labels, samples=1000)
        >>> found.radius.shape, bool((found.radius > 0).any())
        ((4,), True)

    Reference:
        Cohen, Rosenfeld and Kolter, Certified adversarial robustness via randomized smoothing, ICML
        2019: its algorithm CERTIFY. https://arxiv.org/abs/1902.02918

    Deviations:
        An input of the wrong class has radius 0. At radius r the certified accuracy counts radii
        above r, not r itself, since the theorem is about shorter changes. A sample to which the
        model answers NaN is of no class.
    """
    classifier = Classifier.of(model)
    if not (progress is None or isinstance(progress, bool) or callable(progress)):
        raise InvalidType(
            f"progress must be True, False, None or a function; received {shown(progress)}"
        )
    wanted = asked(
        classifier,
        sigma=sigma,
        samples=samples,
        alpha=alpha,
        selection=selection,
        seed=checked_seed(seed),
        batch_size=batch_size,
    )
    path, source = folder_of(run), source_of(x, labels, several=bool(classifier.perturb))
    report = Report(progress, source.total, WORDS)
    work = Run(wanted, source, path, report)
    try:
        with stopping() as stop, contextlib.closing(report):
            work(stop)
    except BaseException as problem:
        with contextlib.suppress(AdvexError, OSError, ValueError, TypeError):
            work.settle()
        if isinstance(problem, KeyboardInterrupt):
            raise Interrupted(_how_to_go_on(work.done, path)) from problem
        raise
    label, chosen, hits = (
        np.concatenate([np.zeros(0, "int64"), *parts])
        for parts in (zip(*work.found, strict=True) if work.found else ((), (), ()))
    )
    return Certificate(
        label,
        chosen,
        hits,
        wanted.sigma,
        wanted.samples,
        wanted.selection,
        wanted.alpha,
        work.info(),
    )


def _how_to_go_on(rows: int, path: Path | None) -> str:
    if path is None:
        return (
            f"stopped after {rows} rows; nothing was kept: with run='certified' the same call would"
            " go on"
        )
    return f"stopped after {rows} rows; the same call with run={str(path)!r} goes on from there"
