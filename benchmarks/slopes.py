"""Whether something grows: a straight line through measurements, with the uncertainty of its slope."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LAGS = 6  # measurements that neighbours may hang together over


@dataclass(frozen=True)
class Slope:
    """Growth per unit of time, with its 95 % interval.

    Attributes:
        estimate: Least squares.
        low: Lower end.
        high: Upper end.
    """

    estimate: float
    low: float
    high: float

    @property
    def is_growth(self) -> bool:
        """Whether the interval lies above zero."""
        return self.low > 0

    def rounded(self, digits: int = 2) -> dict[str, float]:
        """For a line of JSON."""
        return {name: round(value, digits) for name, value in vars(self).items()}


def slope(times: Sequence[float], values: Sequence[float], lags: int = LAGS) -> Slope:
    """The slope of values over times, with an interval that holds where neighbours hang together (Newey and West).

    Raises:
        ValueError: Fewer than three measurements fix no interval.

    Example:
        >>> grown = slope([0, 1, 2, 3], [5.0, 7.1, 8.9, 11.0])
        >>> round(grown.estimate, 2), grown.is_growth
        (1.98, True)
    """
    import statsmodels.api as sm  # of which arch is made

    if len(times) < 3:
        raise ValueError(f"{len(times)} measurements fix no slope; measure for longer")
    x = np.asarray(times, float)
    design = sm.add_constant(x - x.mean())
    options = {"maxlags": min(lags, len(x) - 2), "use_correction": True}
    fit = sm.OLS(np.asarray(values, float), design).fit(cov_type="HAC", cov_kwds=options, use_t=True)
    low, high = fit.conf_int()[1]
    return Slope(float(fit.params[1]), float(low), float(high))
