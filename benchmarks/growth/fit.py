"""A fixed cost and a power: what a stage costs at sizes that were measured, and what that says of others."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

FLAT = 1.5
EXPONENTS = np.linspace(0, 2.5, 251)  # beyond which nobody would want to know more closely


@dataclass(frozen=True)
class Fit:
    """Cost ``fixed + scale · size ^ exponent``.

    Attributes:
        fixed: What nothing at all costs.
        scale: Of the power.
        exponent: One is linear growth.
    """

    fixed: float
    scale: float
    exponent: float

    def at(self, size: float) -> float:
        """The cost of a size."""
        return self.fixed + self.scale * size**self.exponent


def fitted(sizes: Sequence[float], costs: Sequence[float]) -> Fit:
    """The fit of least relative error; fixed cost and scale are never negative.

    A cost that grows by less than half from the least size to the largest is taken as fixed: noise would choose its
    exponent.

    Example:
        >>> found = fitted([1, 10, 30, 100], [0.5 + 2 * size for size in (1, 10, 30, 100)])
        >>> round(found.exponent, 2), round(found.at(1000))
        (1.0, 2000)
    """
    size, cost = np.asarray(sizes, float), np.maximum(np.asarray(costs, float), 1e-9)
    weight = 1 / np.maximum(cost, cost.max() / 100)  # a hundredth of the largest cost is as good as nothing
    best, least = Fit(float(cost.max()), 0.0, 0.0), np.inf
    if cost.max() <= 2e-9:
        return Fit(0.0, 0.0, 0.0)
    if cost.max() < FLAT * cost.min():
        return Fit(float(cost.mean()), 0.0, 0.0)
    for exponent in EXPONENTS:
        powers = (size / size.max()) ** exponent
        (fixed, scale), error = nnls(np.column_stack([weight, weight * powers]), weight * cost)
        if error < least - 1e-9:
            best, least = Fit(fixed, scale / size.max() ** exponent, float(exponent)), error
    return best
