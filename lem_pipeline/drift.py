"""Whether the champion's newest orders are still those it was made for: their features, and what they gain."""

import math
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import pandas as pd
import pyarrow as pa

from lem_pipeline.edges import CHAMPION_STRATEGY, MODEL_STRATEGY, STOPPING_STRATEGY
from lem_pipeline.holdout import UNCAPPED, played_as
from lem_pipeline.promotion import average_edges
from lem_pipeline.report.tables import DETECTABLE_80, NORMAL_95, records, signed, with_interval
from lem_pipeline.results import daily_improvements
from lem_pipeline.settings.models import ShadowSettings
from lem_pipeline.shadow import SHADOW, Watch
from lem_pipeline.sql_assets import SQL
from lem_pipeline.storage import Warehouse

Row = dict[str, Any]

_FEWEST_STRETCHES = 20  # of training, all of which a feature exceeds by luck one time in 21
_ENDS = {"mean": "", "low": "low_", "high": "high_"}
_DAYS = dict.fromkeys(("first_day", "last_day"), pa.date32())
_VERDICT = {**dict.fromkeys(("is_judged", "is_drift"), pa.bool_()), "reason": pa.string()}
FEATURES_SCHEMA = pa.schema(
    {
        **dict.fromkeys(("model", "version", "asset_class", "feature"), pa.string()),
        **dict.fromkeys(("psi", "highest_training_psi"), pa.float64()),
        "stretches": pa.int64(),
        **dict.fromkeys(("training_mean", "training_std", "newest_mean"), pa.float64()),
        "bars": pa.int64(),
        **_DAYS,
        **_VERDICT,
    }
)
EDGES_SCHEMA = pa.schema(
    {
        **dict.fromkeys(("model", "version", "asset_class"), pa.string()),
        **_DAYS,
        **dict.fromkeys(("order_windows", "days"), pa.int64()),
        **dict.fromkeys(("mean_bps", "low_bps", "high_bps", "minimum_detectable_bps"), pa.float64()),
        **dict.fromkeys(("holdout_mean_bps", "holdout_low_bps", "holdout_high_bps"), pa.float64()),
        **dict.fromkeys(("change_sigma", "low_change_sigma", "high_change_sigma"), pa.float64()),
        "minimum_detectable_change_sigma": pa.float64(),
        **_VERDICT,
    }
)


def feature_drift(
    warehouse: Warehouse,
    watch: Watch,
    asset_classes: Sequence[str],
    horizon: int,
    rules: ShadowSettings,
) -> Iterator[Row]:
    """How far each feature of the newest shadow orders is from the time that the champion was trained and chosen in.

    A feature has drifted where its population stability index reaches the threshold and is above that of every stretch
    of training as long: what moves slowly is never spread over some weeks as it is over years.

    Args:
        warehouse: Keeps features and shadow orders.
        watch: The champion.
        asset_classes: What it trades.
        horizon: Bars of an order.
        rules: Weeks and threshold.

    Yields:
        Rows of ``FEATURES_SCHEMA``; none without shadow orders.
    """
    days = 7 * rules.feature_weeks  # every day of the week as often as in training
    if not warehouse.has_table(SHADOW):
        return
    found = warehouse.read(
        (SQL / "queries/feature_drift.sql").read_text(),
        {
            "model": watch.model,
            "version": watch.version,
            "asset_classes": list(asset_classes),
            "horizon": horizon,
            "days": days,
            "trained_from": watch.trained_from,
            "chosen_until": watch.chosen_until,
        },
    )
    for row in found.to_pylist():
        too_few = _too_few(row["last_day"] - row["first_day"], days)
        if not too_few and row["stretches"] < _FEWEST_STRETCHES:
            too_few = f"training holds {row['stretches']} stretches as long, too few to say what is usual"
        is_drift = row["psi"] >= rules.feature_psi and row["psi"] > (row["highest_training_psi"] or 0)
        yield {**row, **_verdict(watch, too_few, is_drift, _moved(row))}


def edge_drift(newest: pd.DataFrame, before: pd.DataFrame, watch: Watch, rules: ShadowSettings) -> Iterator[Row]:
    """What the champion gains over stopping without forecasts in its newest shadow orders, and gained on its hold-out.

    The average over headline orders, whose fall is judged in σ of one bar: in bps an edge shrinks whenever the market
    grows calm. The edge has drifted where the 95 % interval of its change lies below what is let pass, or its own
    interval below zero.

    Args:
        newest: As :func:`shadow_days` gives them.
        before: As :func:`holdout_days` gives them.
        watch: The champion.
        rules: Days and threshold.

    Yields:
        Rows of ``EDGES_SCHEMA``, one per asset class; none without shadow orders.
    """
    if newest.empty:
        return
    then = {} if before.empty else {row["asset_class"]: row for row in _edges(before, watch)}
    for row in _edges(newest, watch):
        days = newest.loc[newest["asset_class"] == row["asset_class"], "trading_day"]
        span = {"first_day": days.min().date(), "last_day": days.max().date()}
        row |= {**span, **_change(row, then.get(row["asset_class"], {}))}
        too_few = _too_few(row["last_day"] - row["first_day"], rules.fewest_edge_days)
        if not too_few and math.isnan(row["low_bps"]):
            too_few = f"{row['days']} days with orders are too few for an interval"
        falls, loses = row["high_change_sigma"] < -rules.edge_fall_sigma, row["high_bps"] < 0
        yield {**row, **_verdict(watch, too_few, falls or loses, f"{row['asset_class']}: {_told(row, falls, loses)}")}


def shadow_days(warehouse: Warehouse, watch: Watch, days: int) -> pd.DataFrame:
    """Rows of `reports.daily_improvements` of the champion's newest shadow orders against VWAP; none without any."""
    if not warehouse.has_table(SHADOW):
        return pd.DataFrame()
    daily = daily_improvements(
        warehouse.read(
            f"""
            from {SHADOW}
            where model = $model and version = $version and benchmark = 'VWAP' and target = 'quantity'
            """,
            {"model": watch.model, "version": watch.version},
        )
    )
    newest = daily.groupby("asset_class")["trading_day"].transform("max")
    return daily[daily["trading_day"] > newest - timedelta(days=days)]


def holdout_days(warehouse: Warehouse, watch: Watch) -> pd.DataFrame:
    """The same of the orders of its own hold-out that were played last; none where it did not play."""
    strategy = played_as(warehouse, watch.model, watch.name, (MODEL_STRATEGY, CHAMPION_STRATEGY))
    if strategy is None or not warehouse.has_table(UNCAPPED):
        return pd.DataFrame()
    return daily_improvements(
        warehouse.read(
            f"""
            select * replace (if(strategy = $strategy, $name, strategy) as strategy)
            from {UNCAPPED}
            where
                model = $model and benchmark = 'VWAP' and target = 'quantity' and bar_start <= $until
                and strategy in ($strategy, $stopping)
            """,  # noqa: S608 - our own names, values bound
            {
                "model": watch.model,
                "strategy": strategy,
                "stopping": STOPPING_STRATEGY,
                "name": watch.name,
                "until": watch.holdout_until,
            },
        )
    )


def _edges(daily: pd.DataFrame, watch: Watch) -> list[Row]:
    return records(average_edges(daily, watch.name, STOPPING_STRATEGY))


def _verdict(watch: Watch, too_few: str, is_drift: bool, reason: str) -> Row:
    whose = {"model": watch.model, "version": watch.version}
    return {**whose, "is_judged": not too_few, "is_drift": is_drift and not too_few, "reason": too_few or reason}


def _change(now: Row, then: Row) -> Row:
    """From the hold-out to now: two independent stretches of days, so their variances add up."""
    change = now["mean_sigma"] - then.get("mean_sigma", math.nan)
    detectable = math.hypot(now["minimum_detectable_sigma"], then.get("minimum_detectable_sigma", math.nan))
    half = detectable * NORMAL_95 / DETECTABLE_80
    return {
        **{f"holdout_{name}_bps": then.get(f"{name}_bps") for name in ("mean", "low", "high")},
        "change_sigma": change,
        "low_change_sigma": change - half,
        "high_change_sigma": change + half,
        "minimum_detectable_change_sigma": detectable,
    }


def _moved(row: Row) -> str:
    return (
        f"{row['asset_class']} {row['feature']} has a stability index of {row['psi']:.2f}, where {row['stretches']} "
        f"stretches of training as long had {row['highest_training_psi'] or math.nan:.2f} at most; its mean was "
        f"{signed(row['training_mean'])} and is {signed(row['newest_mean'])}"
    )


def _told(row: Row, falls: bool, loses: bool) -> str:
    now = f"{with_interval(row)} bps over no-forecast stopping since {row['first_day']:%Y-%m-%d}"
    if row["holdout_mean_bps"] is None:
        before = "its hold-out is not stored to compare with"
    elif math.isnan(row["change_sigma"] + row["minimum_detectable_change_sigma"]):
        before = f"on its hold-out {signed(row['holdout_mean_bps'])}, of too few days to compare with"
    else:
        change = with_interval(
            {f"{end}_sigma": row[f"{prefix}change_sigma"] for end, prefix in _ENDS.items()}, "sigma", digits=3
        )
        before = (
            f"on its hold-out {signed(row['holdout_mean_bps'])}: a change of {change} σ, and one of "
            f"{row['minimum_detectable_change_sigma']:.3f} would have been seen"
        )
    what = " and ".join(["has fallen"] * falls + ["is a loss"] * loses) or "shows neither a fall nor a loss"
    return f"the edge {what}: {now}, {before}"


def _too_few(span: timedelta, days: int) -> str:
    if span >= timedelta(days=days - 1):
        return ""
    return f"{span.days + 1} days of shadow orders are too few to judge; {days} are asked for"
