"""What a paired difference is worth: clustered by day, resampled in blocks of days, corrected for many comparisons.

Orders of one day share its moves and orders of neighbouring days overlap, so days are resampled, in runs, and each run
carries every column along: what is paired stays paired.

The library behind it takes more than a second to import, which whoever only passes by is spared, as steps on a cluster.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

_POWER_80 = 0.8416  # normal quantile at 0.80
_NORMAL_95 = 1.9600  # normal quantile at 0.975


@dataclass(frozen=True)
class Intervals:
    """Means and what is known of them; every field (C,), in the unit of the values.

    Attributes:
        mean: Over all orders.
        low: Lower end of the 95 % percentile interval.
        high: Upper end.
        standard_error: Standard deviation over replicates.
    """

    mean: Array
    low: Array
    high: Array
    standard_error: Array

    @property
    def minimum_detectable(self) -> Array:
        """The effect that a two-sided test at 5 % finds with a power of 80 %."""
        detectable: Array = (_NORMAL_95 + _POWER_80) * self.standard_error
        return detectable


def by_day(days: ArrayLike, values: Array) -> Array:
    """One row per day that has orders, scaled so that the mean over rows is the mean over orders.

    Args:
        days: Day of each order, in any order; (N,).
        values: (N, C).

    Returns:
        (D, C): a day of many orders weighs as much as they do.
    """
    order, row = np.unique(days, return_inverse=True)
    sums = np.zeros((len(order), values.shape[1]))
    np.add.at(sums, row, values)
    scaled: Array = sums * (len(order) / len(values))
    return scaled


def intervals(daily: Array, block: int, replicates: int = 2_000, seed: int = 0) -> Intervals:
    """Circular block bootstrap of column means (Politis & Romano 1992).

    Args:
        daily: As :func:`by_day` gives them; (D, C).
        block: Days resampled together; at least the horizon of an order.
        replicates: Resamples.
        seed: Fixes them.

    Raises:
        ValueError: There are fewer than two blocks of days, which leaves nothing to resample.
    """
    from arch.bootstrap import CircularBlockBootstrap

    days = len(daily)
    if days < 2 * block:
        raise ValueError(f"{days} days hold fewer than two blocks of {block}; test on a longer period")
    bootstrap = CircularBlockBootstrap(block, np.arange(days), seed=seed)
    counts = [np.bincount(drawn, minlength=days) for (drawn,), _ in bootstrap.bootstrap(replicates)]
    means = np.stack(counts) @ daily / days
    low, high = np.quantile(means, [0.025, 0.975], axis=0)
    return Intervals(daily.mean(0), low, high, means.std(0, ddof=1))


def better_than_zero(daily: Array, block: int, replicates: int = 1_000, seed: int = 0) -> NDArray[np.bool_]:
    """Which means are above zero, with a chance of 5 % to call any of them so by luck (StepM of Romano & Wolf 2005).

    Args:
        daily: Differences in which positive is better; (D, C). Columns that never vary are never better.
        block: Days resampled together.
        replicates: Resamples.
        seed: Fixes them.
    """
    from arch.bootstrap import StepM

    varies = daily.std(0) > 0
    found = np.zeros(daily.shape[1], dtype=bool)
    if varies.any():
        # StepM compares means as they are: one that scatters widely would set the bar for all.
        scaled = daily[:, varies] / intervals(daily[:, varies], block, replicates, seed).standard_error
        step = StepM(np.zeros(len(daily)), -scaled, 0.05, block, replicates, "circular", seed=seed)
        step.compute()
        found[np.flatnonzero(varies)[np.asarray(step.superior_models, dtype=int)]] = True
    return found


def among_best(daily: Array, block: int, replicates: int = 1_000, seed: int = 0) -> NDArray[np.bool_]:
    """Which columns may be the best: the 95 % model confidence set of Hansen, Lunde & Nason (2011).

    Args:
        daily: Positive is better; (D, C). Columns that are equal stand or fall together.
        block: Days resampled together.
        replicates: Resamples.
        seed: Fixes them.
    """
    from arch.bootstrap import MCS

    different, column = np.unique(daily, axis=1, return_inverse=True)
    if different.shape[1] == 1:
        return np.ones(daily.shape[1], dtype=bool)
    confidence = MCS(-different, 0.05, replicates, block, bootstrap="circular", seed=seed)
    confidence.compute()
    return np.isin(column.ravel(), np.asarray(confidence.included, dtype=int))
