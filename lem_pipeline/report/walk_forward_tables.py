"""The walk-forward results as a table ready to read: a row per stretch of time, a column per minimum duration m."""

import pandas as pd

from lem_pipeline.edges import STOPPING_STRATEGY
from lem_pipeline.report.tables import records, signed, with_interval


def walk_forward_table(edges: pd.DataFrame, benchmark: str) -> pd.DataFrame:
    """What one model's way of being made gains over stopping without forecasts before the hold-out, in bps.

    Args:
        edges: Rows of `reports.walk_forward`, of one model.
        benchmark: VWAP or TWAP.

    Returns:
        A row per stretch, then all of them together, the means of single seeds, and what would have been detected.
    """
    rows = edges[(edges["baseline"] == STOPPING_STRATEGY) & (edges["benchmark"] == benchmark)]
    stretches = rows[rows["fold"] > 0].sort_values("first_day")
    together = rows[rows["fold"] == 0]
    shown = [
        _row(f"{found['first_day'].iloc[0]:%Y-%m} to {found['last_day'].iloc[0]:%Y-%m}", found)
        for _, found in stretches.groupby("fold", sort=False)
    ]
    if not together.empty:
        shown.append(_row("all stretches", together))
        shown.append(
            {"tested on": f"single seeds, lowest to highest of {together['seeds'].iloc[0]}"}
            | {
                _column(row): f"{signed(row['lowest_seed_bps'])} to {signed(row['highest_seed_bps'])}"
                for row in records(together)
            }
        )
        shown.append(
            {"tested on": "detectable"}
            | {_column(row): f"{row['minimum_detectable_bps']:.2f}" for row in records(together)}
        )
    return pd.DataFrame(shown)


def _row(label: str, rows: pd.DataFrame) -> dict[str, str]:
    ordered = records(rows.sort_values("minimum_duration"))
    return {"tested on": label} | {_column(row): with_interval(row) for row in ordered}


def _column(row: dict[str, object]) -> str:
    return f"m = {row['minimum_duration']}"
