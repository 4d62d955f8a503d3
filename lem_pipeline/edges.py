"""From improvements per day to means with intervals: of each strategy, and of the model over each other strategy."""

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd

from lem_models.significance import Intervals, better_than_zero, intervals

MODEL_STRATEGY = "LEM"
KIND = ["benchmark", "target", "minimum_duration"]

PAID_AGAINST = ("TWAP", "no-forecast stopping")
SIZES_PERCENT = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 25.0)

# A run of days holds the horizon of an order and what moves markets from one week to the next.
_BLOCK_DAYS = {"crypto": 7, "dow": 35}


def improvement_intervals(daily: pd.DataFrame) -> pd.DataFrame:
    """Mean improvement of every strategy in every kind of order, with 95 % intervals.

    Args:
        daily: Rows of `reports.daily_improvements`.

    Returns:
        Columns model, asset_class, strategy, benchmark, target, minimum_duration, order_windows, days and, in bps and
        in σ, mean, low, high and minimum_detectable improvement; no interval where the days hold less than two blocks.
    """
    return pd.concat(
        [
            _described(_matrix(rows, "improvement_bps"), asset_class, "bps")
            .join(_described(_matrix(rows, "improvement_sigma"), asset_class, "sigma"))
            .assign(model=model, asset_class=asset_class, **_size(rows))
            .reset_index()
            for (model, asset_class), rows in daily.groupby(["model", "asset_class"])
        ],
        ignore_index=True,
    )


def edge_intervals(daily: pd.DataFrame) -> pd.DataFrame:
    """What the model gains over each other strategy on the same orders, in bps.

    Args:
        daily: Rows of `reports.daily_improvements`.

    Returns:
        Columns model, asset_class, baseline, benchmark, target, minimum_duration, order_windows, days, mean_bps,
        low_bps, high_bps, minimum_detectable_bps, and is_better: above zero after correction for all kinds of orders
        that were looked at against this baseline.
    """
    return pd.concat([edges for _, rows in daily.groupby(["model", "asset_class"]) for edges in _edges(rows)])


def cost_curves(daily: pd.DataFrame) -> pd.DataFrame:
    """What the model gains over TWAP and over stopping without forecasts once impact is paid, by order size, in bps.

    Fees and the half-spread are the same for all who trade the whole order and cancel. Impact at one percent of a
    day's volume grows with the square root of size.

    Args:
        daily: Rows of `reports.daily_improvements`.

    Returns:
        Columns model, baseline, minimum_duration, size_percent, mean_bps, low_bps, high_bps, minimum_detectable_bps:
        headline orders alone.
    """
    headline = daily[(daily["benchmark"] == "VWAP") & (daily["target"] == "quantity")]
    curves = []
    for (model, asset_class), rows in headline.groupby(["model", "asset_class"]):
        gain, impact = _matrix(rows, "improvement_bps"), _matrix(rows, "impact_bps")
        for baseline in gain.columns.unique("strategy").intersection(PAID_AGAINST):
            edge = gain[MODEL_STRATEGY] - gain[baseline]
            extra = impact[MODEL_STRATEGY] - impact[baseline]
            net = {size: edge - extra * math.sqrt(size) for size in SIZES_PERCENT}
            found = _described(pd.concat(net, axis=1, names=["size_percent"]), str(asset_class), "bps")
            curves.append(found.reset_index().assign(model=model, baseline=baseline))
    return pd.concat(curves, ignore_index=True).drop(columns=["benchmark", "target"])


def _edges(rows: pd.DataFrame) -> Iterator[pd.DataFrame]:
    matrix = _matrix(rows, "improvement_bps")
    model, asset_class = rows["model"].iloc[0], rows["asset_class"].iloc[0]
    for baseline in sorted(set(matrix.columns.get_level_values("strategy")) - {MODEL_STRATEGY}):
        paired = matrix[MODEL_STRATEGY] - matrix[baseline]
        described = _described(paired, asset_class, "bps")
        block = _block(paired, asset_class)
        enough = len(paired) >= 2 * block
        is_better = better_than_zero(paired.to_numpy(), block) if enough else np.zeros(paired.shape[1], dtype=bool)
        facts = {"model": model, "asset_class": asset_class, "baseline": baseline, **_size(rows)}
        yield described.assign(**facts, is_better=is_better).reset_index()


def _matrix(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """A row per day, a column per strategy and kind of order; the mean over rows is the mean over order windows."""
    sums = rows.pivot(index="trading_day", columns=["strategy", *KIND], values=column).sort_index()
    windows = rows.pivot(index="trading_day", columns=["strategy", *KIND], values="order_windows")
    return sums * (len(sums) / windows.sum())


def _described(matrix: pd.DataFrame, asset_class: str, unit: str) -> pd.DataFrame:
    values, block = matrix.to_numpy(), _block(matrix, asset_class)
    if len(values) >= 2 * block:
        found = intervals(values, block)
    else:
        unknown = np.full(values.shape[1], math.nan)
        found = Intervals(values.mean(0), unknown, unknown, unknown)
    columns = {
        "mean": found.mean,
        "low": found.low,
        "high": found.high,
        "minimum_detectable": found.minimum_detectable,
    }
    return pd.DataFrame({f"{name}_{unit}": value for name, value in columns.items()}, index=matrix.columns)


def _block(matrix: pd.DataFrame, asset_class: str) -> int:
    """Rows of one block: order windows that do not overlap may begin many days apart."""
    days = pd.DatetimeIndex(matrix.index)
    apart = max(float(np.median(np.diff(days.to_numpy()) / np.timedelta64(1, "D"))), 1.0) if len(days) > 1 else 1.0
    return math.ceil(_BLOCK_DAYS[asset_class] / apart)


def _size(rows: pd.DataFrame) -> dict[str, int]:
    one = rows[(rows[["strategy", *KIND]] == rows[["strategy", *KIND]].iloc[0]).all(axis=1)]
    return {"order_windows": int(one["order_windows"].sum()), "days": len(one)}
