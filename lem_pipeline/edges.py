"""From improvements per day to means with intervals: of each strategy, and of the model over each other strategy."""

import math

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lem_models.significance import Intervals, among_best, better_than_zero, intervals

MODEL_STRATEGY = "LEM"
TWAP_STRATEGY = "TWAP"
STOPPING_STRATEGY = "no-forecast stopping"
SHUFFLED = "LEM, features shuffled"
CHAMPION_STRATEGY = "champion"
ORACLE = "oracle (sees the future)"
ALL_KINDS = "all kinds"
KIND = ["benchmark", "target", "minimum_duration"]

PAID_AGAINST = (TWAP_STRATEGY, STOPPING_STRATEGY)
SIZES_PERCENT = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 25.0)

_MEASURES = {
    "improvement_bps": "bps",
    "improvement_sigma": "sigma",
    "fixed_window_improvement_bps": "fixed_window_bps",
    "arrival_improvement_bps": "arrival_bps",
}

# A run of days holds the horizon of an order and what moves markets from one week to the next.
_BLOCK_DAYS = {"crypto": 7, "dow": 35}


def headline_orders(frame: pd.DataFrame) -> pd.DataFrame:
    """The orders the first screen is about: a fixed quantity measured against VWAP."""
    return frame[(frame["benchmark"] == "VWAP") & (frame["target"] == "quantity")]


def improvement_intervals(daily: pd.DataFrame) -> pd.DataFrame:
    """Mean improvement of every strategy in every kind of order, with 95 % intervals.

    Args:
        daily: Rows of `reports.daily_improvements`.

    Returns:
        Columns model, asset_class, strategy, benchmark, target, minimum_duration, order_windows, days and mean, low,
        high and minimum_detectable improvement: in bps and in σ, and in bps against the benchmark of the whole horizon
        (fixed_window_bps) and the arrival price (arrival_bps), each where ``daily`` measures it. No interval where the
        days hold less than two blocks.
    """
    measures = {column: unit for column, unit in _MEASURES.items() if column in daily}
    return pd.concat(
        [
            pd.concat(
                [_described(_matrix(rows, column), str(asset_class), unit) for column, unit in measures.items()],
                axis=1,
            )
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
        low_bps, high_bps, minimum_detectable_bps, and is_better: above zero after correction for all baselines and
        kinds of orders that the model was looked at with.
    """
    found = []
    for (model, asset_class), rows in daily.groupby(["model", "asset_class"]):
        paired = _paired(rows)
        edges = _described(paired, str(asset_class), "bps").assign(is_better=_corrected(paired, str(asset_class)))
        found.append(edges.assign(model=model, asset_class=asset_class, **_size(rows)).reset_index())
    return pd.concat(found, ignore_index=True)


def walk_forward_edges(daily: pd.DataFrame) -> pd.DataFrame:
    """What the way a model is made gains over each baseline, by stretch of time before the hold-out.

    Args:
        daily: Rows of `reports.walk_forward_days`.

    Returns:
        Columns of :func:`edge_intervals`, where the model is the average over its seeds, and fold (0 for all of them
        together), first_day, last_day, seeds, lowest_seed_bps and highest_seed_bps: the means of single seeds. No rows
        where there are no folds.
    """
    numbers = ["mean_bps", "low_bps", "high_bps", "minimum_detectable_bps", "lowest_seed_bps", "highest_seed_bps"]
    none = {
        **dict.fromkeys(["model", "asset_class", "baseline", "benchmark", "target"], "str"),
        **dict.fromkeys(["minimum_duration", "fold", "seeds", "order_windows", "days"], "int64"),
        **dict.fromkeys(["first_day", "last_day"], "datetime64[us]"),
        **dict.fromkeys(numbers, "float64"),
        "is_better": "bool",
    }
    found = [pd.DataFrame(columns=list(none)).astype(none)]
    for _, rows in daily.groupby(["model", "asset_class"]):
        for fold in (0, *sorted(set(rows["fold"]))):
            stretch = rows if fold == 0 else rows[rows["fold"] == fold]
            seeds = stretch["seed"].dropna().unique()
            single = [stretch[stretch["seed"].isna() | (stretch["seed"] == seed)] for seed in seeds]
            means = pd.concat([_paired(_over_seeds(one)).mean() for one in single], axis=1)
            spread = pd.DataFrame({"lowest_seed_bps": means.min(axis=1), "highest_seed_bps": means.max(axis=1)})
            found.append(
                edge_intervals(_over_seeds(stretch))
                .merge(spread.reset_index())
                .assign(
                    fold=fold,
                    seeds=len(seeds),
                    first_day=stretch["trading_day"].min(),
                    last_day=stretch["trading_day"].max(),
                )
            )
    return pd.concat(found, ignore_index=True)


def _over_seeds(rows: pd.DataFrame) -> pd.DataFrame:
    """Averages over the seeds of each fold, its folds side by side."""
    values = ["order_windows", "improvement_bps"]
    keys = ["model", "asset_class", "strategy", *KIND, "trading_day"]
    return rows.groupby([*keys, "fold"])[values].mean().groupby(keys).sum().reset_index()


def _paired(rows: pd.DataFrame) -> pd.DataFrame:
    """What the model gains over each baseline: a row per day, a column per baseline and kind of order."""
    matrix = _matrix(rows, "improvement_bps")
    baselines = [name for name in matrix.columns.unique("strategy") if name != MODEL_STRATEGY]
    return pd.concat({name: matrix[MODEL_STRATEGY] - matrix[name] for name in baselines}, axis=1, names=["baseline"])


def difference_intervals(daily: pd.DataFrame, one: str, other: str) -> pd.DataFrame:
    """What one strategy gains over another on the same orders, by kind of order, and averaged over the kinds.

    Args:
        daily: Rows of `reports.daily_improvements`, of both strategies.
        one: Name of the one.
        other: Name of the other.

    Returns:
        Columns asset_class, benchmark, target, minimum_duration, order_windows, days and, in bps and in σ, mean, low,
        high and minimum_detectable difference. The average over kinds is the row of benchmark ``ALL_KINDS``.
    """
    found = []
    for asset_class, rows in daily.groupby("asset_class"):
        parts = []
        for unit in ("bps", "sigma"):
            matrix = _matrix(rows, f"improvement_{unit}")
            paired = matrix[one] - matrix[other]
            paired[ALL_KINDS, "", 0] = paired.mean(axis=1)
            parts.append(_described(paired, str(asset_class), unit))
        found.append(parts[0].join(parts[1]).assign(asset_class=asset_class, **_size(rows)).reset_index())
    return pd.concat(found, ignore_index=True)


def _corrected(paired: pd.DataFrame, asset_class: str) -> NDArray[np.bool_]:
    block = _block(paired, asset_class)
    if len(paired) < 2 * block:
        return np.zeros(paired.shape[1], dtype=bool)
    return better_than_zero(paired.to_numpy(), block)


def best_strategies(daily: pd.DataFrame) -> pd.DataFrame:
    """Which strategies cannot be told from the one that gains most: a model confidence set per minimum duration.

    Args:
        daily: Rows of `reports.daily_improvements`.

    Returns:
        Columns model, minimum_duration, strategy, is_among_best, of headline orders; no rows where the days hold less
        than two blocks. The bound and the placebo do not compete.
    """
    headline = headline_orders(daily)
    headline = headline[~headline["strategy"].isin([ORACLE, SHUFFLED])]
    none = {"model": "str", "minimum_duration": "int32", "strategy": "str", "is_among_best": "bool"}
    found = [pd.DataFrame(columns=list(none)).astype(none)]
    for (model, asset_class, duration), rows in headline.groupby(["model", "asset_class", "minimum_duration"]):
        matrix = _matrix(rows, "improvement_bps")
        block = _block(matrix, str(asset_class))
        if len(matrix) >= 2 * block:
            names = matrix.columns.get_level_values("strategy")
            best = among_best(matrix.to_numpy(), block)
            columns = {"model": model, "minimum_duration": duration, "strategy": names, "is_among_best": best}
            found.append(pd.DataFrame(columns))
    return pd.concat(found, ignore_index=True)


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
    curves = []
    for (model, asset_class), rows in headline_orders(daily).groupby(["model", "asset_class"]):
        gain, impact = _matrix(rows, "improvement_bps"), _matrix(rows, "impact_bps")
        for baseline in gain.columns.unique("strategy").intersection(PAID_AGAINST):
            edge = gain[MODEL_STRATEGY] - gain[baseline]
            extra = impact[MODEL_STRATEGY] - impact[baseline]
            net = {size: edge - extra * math.sqrt(size) for size in SIZES_PERCENT}
            found = _described(pd.concat(net, axis=1, names=["size_percent"]), str(asset_class), "bps")
            curves.append(found.reset_index().assign(model=model, baseline=baseline))
    return pd.concat(curves, ignore_index=True).drop(columns=["benchmark", "target"])


def net_improvements(daily: pd.DataFrame) -> pd.DataFrame:
    """What is left of the improvement on VWAP once impact is paid, by order size, in bps; fees are still to be paid.

    Args:
        daily: Rows of `reports.daily_improvements`.

    Returns:
        Columns model, strategy, minimum_duration, size_percent, mean_bps, low_bps, high_bps, minimum_detectable_bps:
        headline orders of the model and of those it is paid against.
    """
    found = []
    for (model, asset_class), rows in headline_orders(daily).groupby(["model", "asset_class"]):
        shown = rows[rows["strategy"].isin([MODEL_STRATEGY, *PAID_AGAINST])]
        gain, impact = _matrix(shown, "improvement_bps"), _matrix(shown, "impact_bps")
        net = pd.concat(
            {size: gain - impact * math.sqrt(size) for size in SIZES_PERCENT}, axis=1, names=["size_percent"]
        )
        found.append(_described(net, str(asset_class), "bps").reset_index().assign(model=model))
    return pd.concat(found, ignore_index=True).drop(columns=["benchmark", "target"])


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
