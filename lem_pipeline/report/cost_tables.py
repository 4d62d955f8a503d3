"""What remains after costs, and how much of the market one model's orders are: tables ready to read."""

import pandas as pd

from lem_pipeline.report.tables import (
    Row,
    estimate_columns,
    key_durations,
    records,
    share_columns,
    strategies,
    unsigned_columns,
    with_interval,
)

SIZES_SHOWN = (0.1, 1.0, 5.0, 25.0)  # percent of a day's volume
FEES_SHOWN = (0.0, 2.0, 5.0, 10.0)  # bps, with the half-spread


def break_even_table(curves: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Up to which order size one model gains over another strategy, once impact is paid: on average, and surely."""
    rows = []
    for duration, curve in curves[curves["baseline"] == baseline].groupby("minimum_duration"):
        curve = curve.sort_values("size_percent")
        if duration not in key_durations(int(curves["minimum_duration"].max())):
            continue
        rows.append(
            {
                "minimum duration": str(duration),
                **_net_cells({row["size_percent"]: row for row in records(curve)}, fee=0.0, digits=2),
                "gains on average up to": _largest_gaining(curve, "mean_bps"),
                "gains surely up to": _largest_gaining(curve, "low_bps"),
            }
        )
    return pd.DataFrame(rows)


def _largest_gaining(curve: pd.DataFrame, column: str) -> str:
    """The largest of the sizes tried up to which all gain; impact only grows with size."""
    gaining = (curve[column] > 0).cummin()
    if not gaining.any():
        return "none tried"
    size = curve["size_percent"][gaining].max()
    return f"{size:g} %" if size < curve["size_percent"].max() else f"≥ {size:g} %"


def capped_table(capped: pd.DataFrame) -> pd.DataFrame:
    """Large orders of one model under participation caps, ready to read."""
    capped = _in_reading_order(capped, ["participation_cap", "minimum_duration"])
    return pd.DataFrame(
        {
            "at most of a bar": capped["participation_cap"].map("{:.0%}".format),
            "minimum duration": capped["minimum_duration"],
            "strategy": capped["strategy"],
            **estimate_columns(capped, "improvement on VWAP, bps", "mean_improvement_bps", "standard_error_bps"),
            **unsigned_columns(capped, "impact, bps", "mean_impact_bps", "impact_standard_error_bps"),
            **share_columns(capped, "filled", "mean_filled_fraction", "filled_fraction_standard_error"),
            **share_columns(capped, "filled whole", "share_filled", "share_filled_standard_error"),
            **unsigned_columns(capped, "completion bar", "mean_completion_bar", "completion_bar_standard_error"),
            **share_columns(
                capped, "largest child of its bar", "mean_largest_participation", "largest_participation_standard_error"
            ),
        }
    )


def net_cost_table(net: pd.DataFrame) -> pd.DataFrame:
    """What is left of the improvement on VWAP of one model after fee, half-spread and impact, ready to read.

    Fee and half-spread take the same from whoever trades the whole order: they shift a mean and its interval.

    Args:
        net: Rows of `reports.net_improvements`, of one model.
    """
    durations = key_durations(int(net["minimum_duration"].max()))
    rows = []
    for duration in durations:
        for fee in FEES_SHOWN:
            for strategy in strategies(net):
                chosen = net[(net["minimum_duration"] == duration) & (net["strategy"] == strategy)]
                sizes = {row["size_percent"]: row for row in records(chosen)}
                rows.append(
                    {"minimum duration": str(duration), "fee + half-spread": f"{fee:g} bps", "strategy": strategy}
                    | _net_cells(sizes, fee, digits=1)
                )
    return pd.DataFrame(rows)


def _net_cells(sizes: dict[float, Row], fee: float, digits: int) -> dict[str, str]:
    cells = {}
    for size in SIZES_SHOWN:
        left = sizes[size] | {f"{end}_bps": sizes[size][f"{end}_bps"] - fee for end in ("mean", "low", "high")}
        cells[f"{size:g} % of a day"] = with_interval(left, digits=digits)
        cells[f"detectable, {size:g} %"] = f"{left['minimum_detectable_bps']:.{digits}f}"
    return cells


def participation_table(participation: pd.DataFrame) -> pd.DataFrame:
    """How much of its bar's volume a child order of one model and its rivals is, by key minimum duration.

    Args:
        participation: Rows of `reports.participation`, of one model.
    """
    durations = key_durations(int(participation["minimum_duration"].max()))
    rows = participation[participation["minimum_duration"].isin(durations)]
    rows = _in_reading_order(rows, ["minimum_duration"])
    return pd.DataFrame(
        {
            "minimum duration": rows["minimum_duration"].astype(str),
            "strategy": rows["strategy"],
            **share_columns(rows, "mean child order", "mean_participation", "mean_standard_error", 2),
            **share_columns(rows, "largest child order", "largest_participation", "largest_standard_error", 2),
            "one order in twenty has one above": rows["p95_participation"].map("{:.1%}".format),
            "the largest of all": rows["most_participation"].map("{:.0%}".format),
        }
    )


def _in_reading_order(rows: pd.DataFrame, first: list[str]) -> pd.DataFrame:
    """Sorted by some columns, then the model first and its rivals after it."""
    place = {name: number for number, name in enumerate(strategies(rows))}
    return rows.assign(place=rows["strategy"].map(place)).sort_values([*first, "place"]).drop(columns="place")
