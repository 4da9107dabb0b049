"""``Certificate``: what ``certify`` has found, as numbers, as a table and as a curve."""

from __future__ import annotations

import functools
import html
from dataclasses import dataclass
from typing import Any

import numpy as np

from advex._arrays import Array
from advex._table import listed
from advex.certification.binomial import lower_bound, radius
from advex.errors import InvalidInput
from advex.evaluation.curves import Curve

ABSTAINED = -1


class CertifiedCurve(Curve):
    """How many inputs are classified correctly, whatever moves each of them by so much: a lower
    bound, so far as the certificates hold.

    ``distances`` are the certified radii: 0 where the smoothed classifier abstained or was wrong.
    """

    @property
    def _share(self) -> str:
        return "certified accuracy"

    def __repr__(self) -> str:
        return (
            f"CertifiedCurve({len(self.distances)} inputs, certified accuracy {self.at(0):.1%} at"
            f" 0, median radius {self.median:.4g})"
        )


@dataclass(frozen=True, repr=False, eq=False)
class Certificate:
    """What ``advex.certify`` has found about n inputs.

    Every radius, and ``sigma``, is an L2 distance in units of the box's range. The certificates are
    those of the smoothed classifier, which answers with the class that the model says most often of
    an input with Gaussian noise: not of the model itself. Each is false with a probability of at
    most ``alpha``.

    Attributes:
        label: the class of each input, (n,) int64.
        chosen: the class that was counted, (n,) int64.
        counts: how many of ``samples`` noisy inputs were of that class, (n,) int64.
        sigma: the standard deviation of the noise.
        samples: how many noisy inputs were counted for each input.
        selection: how many others chose the class.
        alpha: how probable it may be that a certificate is false.
        info: the seed, the head of the model, the backend, versions.

    Example:
        >>> import advex
        >>> x, labels = advex.testing.linear_data(4)
        >>> found = advex.certify(advex.testing.linear_model(), x, labels, samples=1000)
        >>> found.accuracy(0.1) <= found.accuracy(0)
        True
    """

    label: Array
    chosen: Array
    counts: Array
    sigma: float
    samples: int
    selection: int
    alpha: float
    info: dict[str, Any]

    @functools.cached_property
    def bound(self) -> Array:
        """How much of the noise the chosen class has at least, at a confidence of 1 - alpha: (n,)
        float64.
        """
        made = [lower_bound(count, self.samples, self.alpha) for count in self.counts.tolist()]
        return np.asarray(made, "float64")

    @functools.cached_property
    def prediction(self) -> Array:
        """The class that the smoothed classifier says, (n,) int64; -1 where it abstains."""
        return np.where(self.bound > 0.5, self.chosen, ABSTAINED)

    @functools.cached_property
    def radius(self) -> Array:
        """Within which L2 distance the prediction is certified to be the label, (n,) float64; 0
        where the smoothed classifier abstains or is wrong.
        """
        made = [radius(bound, self.sigma) for bound in self.bound.tolist()]
        return np.where(self.correct, np.asarray(made, "float64"), 0.0)

    @property
    def abstained(self) -> Array:
        """Where too few samples agree to say anything, (n,) bool."""
        return np.asarray(self.prediction == ABSTAINED)

    @property
    def correct(self) -> Array:
        """Where the prediction is the label, (n,) bool."""
        return np.asarray(self.prediction == self.label)

    def __len__(self) -> int:
        return len(self.label)

    def accuracy(self, radius: float = 0.0) -> float:
        """The certified accuracy: the share of inputs whose prediction is right and stays so
        within a radius.

        Args:
            radius: an L2 distance in units of the box's range, at least 0.

        Returns:
            A share from 0 to 1.

        Raises:
            InvalidInput: a radius below 0; there are no inputs.
        """
        return self.curve.at(radius)

    @property
    def curve(self) -> CertifiedCurve:
        """The certified accuracy at every radius: ``table()``, ``at(radius)``, and ``show()``, a
        matplotlib figure.

        Raises:
            InvalidInput: there are no inputs.
        """
        if not len(self):
            raise InvalidInput("a curve needs at least one input; the certificate has none")
        return CertifiedCurve(self.radius, "L2")

    def rows(self) -> list[dict[str, Any]]:
        """One dict for each input: `pandas.DataFrame(found.rows())` is a frame.

        Returns:
            A list of n dicts of plain values.
        """
        columns = {
            "row": np.arange(len(self)),
            "label": self.label,
            "prediction": self.prediction,
            "correct": self.correct,
            "radius": self.radius,
            "counts": self.counts,
            "bound": self.bound,
        }
        return listed(columns, len(self))

    @property
    def _headline(self) -> str:
        if not len(self):
            return "no inputs"
        abstained = int(self.abstained.sum())
        wrong = len(self) - abstained - int(self.correct.sum())
        return (
            f"{self.accuracy():.1%} of {len(self):,} inputs right and certified, {wrong} wrong,"
            f" {abstained} abstained; median L2 radius {self.curve.median:.3g}"
        )

    @property
    def _settings(self) -> str:
        return (
            f"noise of sigma {self.sigma:g} of the box's range, {self.samples:,} samples for each"
            f" input; each certificate is false with a probability of at most {self.alpha:g}"
        )

    def __str__(self) -> str:
        table = [self.curve.table()] if len(self) else []
        return "\n".join([self._headline, self._settings, *table])

    def __repr__(self) -> str:
        return f"Certificate(sigma {self.sigma:g}: {self._headline})"

    def _repr_html_(self) -> str:
        told = f"<pre>{html.escape(self._headline)}\n{html.escape(self._settings)}</pre>"
        return f"<div>{told}{self.curve._repr_html_() if len(self) else ''}</div>"
