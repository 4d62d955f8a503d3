"""One model's slippage, improvement and edges as tables ready to read, a row per kind of order or group."""

import calendar

import pandas as pd

from lem_pipeline.edges import MODEL_STRATEGY, STOPPING_STRATEGY, TWAP_STRATEGY, headline_orders
from lem_pipeline.report.tables import (
    Cell,
    Row,
    detectable,
    estimate,
    estimate_columns,
    key_durations,
    records,
    share_columns,
    signed,
    unsigned_columns,
    with_interval,
)
from lem_pipeline.report.yardsticks import Slippage, published_for


def _own_cell(rows: pd.DataFrame, side: str) -> Cell:
    row = next(iter(records(rows[rows["side"] == side])), None)
    if row is None:
        return Cell("–")
    return Cell(
        estimate(row["mean_slippage_bps"], row["standard_error_bps"]),
        f"std {row['std_slippage_bps']:.1f}, det. {detectable(row['standard_error_bps'])}",
    )


def _published_cell(slippage: Slippage | None) -> Cell:
    if slippage is None:
        return Cell("–")
    return Cell(signed(slippage.mean), "" if slippage.std is None else f"std {slippage.std:.1f}")


def published_layout(scenarios: pd.DataFrame) -> list[tuple[str, list[Cell], list[Cell]]]:
    """One model's slippage in the layout of the published results.

    Args:
        scenarios: Rows of one model.

    Returns:
        Per row its label, own buy and sell cells, and the published cells in the order of `published_for`.
    """
    horizon = int(scenarios["minimum_duration"].max())
    published = published_for(str(scenarios["asset_class"].iloc[0]), horizon)
    orders = headline_orders(scenarios)
    layout = []
    for duration in key_durations(horizon):
        rows = orders[(orders["strategy"] == MODEL_STRATEGY) & (orders["minimum_duration"] == duration)]
        theirs = [_published_cell(s) for p in published for s in p.learned[duration]]
        label = f"{duration} (fixed)" if duration == horizon else str(duration)
        layout.append((label, [_own_cell(rows, "buy"), _own_cell(rows, "sell")], theirs))
    naive = orders[(orders["strategy"] == TWAP_STRATEGY) & (orders["minimum_duration"] == horizon)]
    theirs = [_published_cell(s) for p in published for s in (p.naive, None)]
    layout.append(("naive TWAP", [_own_cell(naive, "buy"), _own_cell(naive, "sell")], theirs))
    return layout


def scenario_table(scenarios: pd.DataFrame) -> pd.DataFrame:
    """Every scenario of one model and strategy, ready to read."""
    of_orders = records(scenarios)
    return pd.DataFrame(
        {
            "side": scenarios["side"],
            "benchmark": scenarios["benchmark"],
            "target": scenarios["target"],
            "minimum duration": scenarios["minimum_duration"],
            "orders": scenarios["orders"].map("{:,}".format),
            **estimate_columns(scenarios, "mean", "mean_slippage_bps", "standard_error_bps"),
            **estimate_columns(
                scenarios, "fixed window", "mean_fixed_window_slippage_bps", "fixed_window_standard_error_bps"
            ),
            **estimate_columns(scenarios, "arrival", "mean_arrival_slippage_bps", "arrival_standard_error_bps"),
            "std": scenarios["std_slippage_bps"].map("{:.1f}".format),
            "best 1 %": [signed(row["p01_slippage_bps"], 1) for row in of_orders],
            "best 5 %": [signed(row["p05_slippage_bps"], 1) for row in of_orders],
            "median": [signed(row["median_slippage_bps"], 1) for row in of_orders],
            "worst 5 %": [signed(row["p95_slippage_bps"], 1) for row in of_orders],
            "worst 1 %": [signed(row["p99_slippage_bps"], 1) for row in of_orders],
            **estimate_columns(scenarios, "CVaR 95", "cvar95_slippage_bps", "cvar95_standard_error_bps", 1),
            "worst window": [signed(row["worst_slippage_bps"], 1) for row in of_orders],
            **share_columns(scenarios, "won", "win_rate", "win_rate_standard_error"),
            **unsigned_columns(scenarios, "completion bar", "mean_completion_bar", "completion_bar_standard_error"),
            "completion: 10, 50, 90 %": [
                ", ".join(f"{row[f'{part}_completion_bar']:.0f}" for part in ("p10", "median", "p90"))
                for row in of_orders
            ],
            **share_columns(
                scenarios,
                "largest child of its bar",
                "mean_largest_participation",
                "largest_participation_standard_error",
                2,
            ),
        }
    )


def improvement_table(improvements: pd.DataFrame) -> pd.DataFrame:
    """Side-averaged improvement of one model in every scenario, ready to read."""
    return pd.DataFrame(
        {
            "strategy": improvements["strategy"],
            "benchmark": improvements["benchmark"],
            "target": improvements["target"],
            "minimum duration": improvements["minimum_duration"],
            "improvement, bps": [with_interval(row) for row in records(improvements)],
            "detectable, bps": improvements["minimum_detectable_bps"].map("{:.2f}".format),
            "improvement, σ": [with_interval(row, "sigma", 3) for row in records(improvements)],
            "detectable, σ": improvements["minimum_detectable_sigma"].map("{:.3f}".format),
        }
    )


def window_table(improvements: pd.DataFrame) -> pd.DataFrame:
    """Side-averaged improvement of one model and of stopping without forecasts on each benchmark that could be meant.

    Who may end an order ends the window of its benchmark, too; that of the whole horizon leaves no such choice.
    """
    orders = headline_orders(improvements)
    durations = key_durations(int(orders["minimum_duration"].max()))
    return pd.DataFrame(
        [
            {"minimum duration": str(row["minimum_duration"]), "strategy": strategy}
            | _interval_cells(row, "window of the order, bps", "bps")
            | _interval_cells(row, "whole horizon, bps", "fixed_window_bps")
            | _interval_cells(row, "arrival price, bps", "arrival_bps")
            for duration in durations
            for strategy in (MODEL_STRATEGY, STOPPING_STRATEGY)
            for row in records(orders[(orders["minimum_duration"] == duration) & (orders["strategy"] == strategy)])
        ]
    )


def _interval_cells(row: Row, name: str, unit: str) -> dict[str, str]:
    return {name: with_interval(row, unit), f"detectable, {name}": f"{row[f'minimum_detectable_{unit}']:.2f}"}


def edge_table(edges: pd.DataFrame) -> pd.DataFrame:
    """What one model gains over each other strategy in every scenario, ready to read."""
    return pd.DataFrame(
        {
            "over": edges["baseline"],
            "benchmark": edges["benchmark"],
            "target": edges["target"],
            "minimum duration": edges["minimum_duration"],
            "edge, bps": [with_interval(row) for row in records(edges)],
            "detectable, bps": edges["minimum_detectable_bps"].map("{:.2f}".format),
            "better after correction": edges["is_better"].map({True: "yes", False: "no"}),
        }
    )


def best_table(best: pd.DataFrame) -> pd.DataFrame:
    """The strategies that may be the best of one model's contest, by minimum duration."""
    among = best[best["is_among_best"]].groupby("minimum_duration")["strategy"]
    return pd.DataFrame(
        [
            {"minimum duration": str(duration), "cannot be told from the best": ", ".join(strategies_of)}
            for duration, strategies_of in among
            if duration in key_durations(int(best["minimum_duration"].max()))
        ]
    )


def group_table(groups: pd.DataFrame) -> pd.DataFrame:
    """What one model gains over stopping without forecasts by group of order windows, ready to read."""
    rows = of_groups(groups)
    return pd.DataFrame(
        {
            "by": rows["trait"],
            "group": rows["value"],
            "order windows": rows["order_windows"].map("{:,}".format),
            **estimate_columns(rows, "edge, bps", "mean_edge_bps", "standard_error_bps"),
        }
    )


def of_groups(groups: pd.DataFrame) -> pd.DataFrame:
    """Groups of orders whose minimum duration is half the horizon, in reading order."""
    rows = groups[groups["minimum_duration"] == key_durations(int(groups["minimum_duration"].max()))[0]]
    order = {trait: place for place, trait in enumerate(("year", "session", "volatility", "liquidity"))}
    # Symbols come last: they are many.
    place = rows["trait"].map(order).fillna(len(order)) + (rows["trait"] == "symbol")
    day = rows["value"].map({name: str(number) for number, name in enumerate(calendar.day_name)})
    rows = rows.assign(place=place, name=day.fillna(rows["value"]))
    return rows.sort_values(["place", "trait", "name"]).drop(columns=["place", "name"])
