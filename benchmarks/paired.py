"""Two ways of slicing the same orders, with intervals from a block bootstrap over days.

The orders of one day are one observation, as assets move together; days are drawn in blocks, as volatility comes in
clusters and an order may last longer than a day.
"""

import math
from dataclasses import dataclass

import numpy as np
from arch.bootstrap import CircularBlockBootstrap, optimal_block_length
from numpy.typing import NDArray

Array = NDArray[np.float64]

REPEATS = 2_000
LEVEL = 0.95


@dataclass
class Slippages:
    """What the same orders cost with one way of slicing them.

    Attributes:
        bps: Positive is a cost; (seeds, orders, sides, kinds).
        days: The day each order begins on, an ordinal number; (orders,).
    """

    bps: Array
    days: NDArray[np.int64]

    @property
    def improvement_bps(self) -> Array:
        """Averaged over orders and sides, which removes drift; (seeds, kinds)."""
        return -self.bps.mean(axis=(1, 2))


@dataclass
class Interval:
    """An estimate and its interval; (kinds,) each."""

    estimate: Array
    low: Array
    high: Array

    def of_kind(self, kind: int) -> list[float]:
        """Estimate, low, high."""
        return [round(float(bound[kind]), 3) for bound in (self.estimate, self.low, self.high)]


@dataclass
class Comparison:
    """One way against another on the same orders, seeds averaged.

    Attributes:
        improvement_bps: Of the one.
        over_other_bps: Its improvement less that of the other.
        dispersion_ratio: Standard deviation of a single order over that with the other.
    """

    improvement_bps: Interval
    over_other_bps: Interval
    dispersion_ratio: Interval


def compare(one: Slippages, other: Slippages, block: int) -> Comparison:
    """Estimates on all days, and intervals from days drawn in blocks of so many."""
    assert np.array_equal(one.days, other.days), "a paired comparison is one of the same orders"
    kinds = one.bps.shape[-1]
    halves = _sums_of_days(one), _sums_of_days(other)
    sums, split = np.concatenate(halves, axis=1), halves[0].shape[1]

    def statistics(drawn: Array) -> Array:
        totals = drawn.sum(axis=0)
        mean, dispersion = _moments(totals[:split], one.bps.shape)
        other_mean, other_dispersion = _moments(totals[split:], other.bps.shape)
        return np.concatenate([mean, mean - other_mean, dispersion / other_dispersion])

    drawn = CircularBlockBootstrap(block, sums, seed=0)
    low, high = drawn.conf_int(statistics, reps=REPEATS, method="percentile", size=LEVEL)
    estimate = statistics(sums)
    cuts = [slice(part * kinds, (part + 1) * kinds) for part in range(3)]
    return Comparison(*(Interval(estimate[cut], low[cut], high[cut]) for cut in cuts))


def block_length(orders: Slippages, least: int) -> int:
    """Days in a block: at least ``least``, and as many as Politis and White's rule finds for the daily improvement."""
    _, day = np.unique(orders.days, return_inverse=True)
    improvement = np.bincount(day, -orders.bps.mean(axis=(0, 2, 3))) / np.bincount(day)
    best = float(optimal_block_length(improvement)["circular"].iloc[0])
    return max(least, math.ceil(best))


def _sums_of_days(orders: Slippages) -> Array:
    """A row per day: its orders, then sums of slippage and of its square per seed, side and kind."""
    _, day = np.unique(orders.days, return_inverse=True)
    per_order = np.moveaxis(orders.bps, 1, 0).reshape(len(day), -1)
    columns = np.concatenate([np.ones((len(day), 1)), per_order, per_order**2], axis=1)
    sums = np.zeros((day.max() + 1, columns.shape[1]))
    np.add.at(sums, day, columns)
    return sums


def _moments(totals: Array, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Mean improvement, and standard deviation of one order around the mean of its seed and side; (kinds,) each."""
    seeds, _, sides, kinds = shape
    first, second = totals[1:].reshape(2, seeds, sides, kinds) / totals[0]
    return -first.mean(axis=(0, 1)), np.sqrt((second - first**2).mean(axis=(0, 1)))
