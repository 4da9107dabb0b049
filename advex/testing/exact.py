"""What is inside budget and box, in rational numbers."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from advex._arrays import Array
from advex.budgets import L1, L2, Budget, Linf


def inside(x: Array, x0: Array, budget: Budget, box: tuple[float, float] = (0.0, 1.0)) -> bool:
    """Whether every row of ``x`` is inside budget and box, in rational arithmetic against the
    epsilon that was typed.
    """
    for row, row0 in zip(x.reshape(len(x), -1), x0.reshape(len(x0), -1), strict=True):
        if x.dtype == np.uint8:
            delta = [Fraction(abs(int(a) - int(b))) for a, b in zip(row, row0, strict=True)]
            limit = (
                Fraction(budget.epsilon)
                * (255 if budget.homogeneous else 1)
                * (1 + Fraction(1, 2**52))
            )
        else:
            kind = np.float32 if x.dtype == np.float64 else x.dtype
            low, high = (float(np.asarray(end, kind)) for end in box)
            if not all(low <= float(a) <= high for a in row):
                return False
            delta = [
                abs(Fraction(float(a)) - Fraction(float(np.asarray(b, kind))))
                for a, b in zip(row, row0, strict=True)
            ]
            limit = Fraction(budget.epsilon) * (
                Fraction(box[1]) - Fraction(box[0]) if budget.homogeneous else 1
            )
        if isinstance(budget, Linf):
            fits = max(delta, default=Fraction(0)) <= limit
        elif isinstance(budget, L2):
            fits = sum((d * d for d in delta), Fraction(0)) <= limit * limit
        elif isinstance(budget, L1):
            fits = sum(delta, Fraction(0)) <= limit
        else:
            fits = sum(d != 0 for d in delta) <= limit
        if not fits:
            return False
    return True
