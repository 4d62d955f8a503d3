"""The report's numbers as tables ready to read: each mean with its interval, its dispersion beside it."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from lem_pipeline.edges import MODEL_STRATEGY, STOPPING_STRATEGY, TWAP_STRATEGY, headline_orders
from lem_pipeline.yardsticks import Slippage, published_for

NORMAL_95 = 1.96
_SIZES_SHOWN = (0.1, 1.0, 5.0, 25.0)

Row = dict[str, Any]
_UNKNOWN: Row = {name: math.nan for name in ("mean_bps", "low_bps", "high_bps", "minimum_detectable_bps")}


def signed(value: float | None, digits: int = 2) -> str:
    """A number with its sign, for reading: a true minus, no negative zero, a dash where there is none.

    >>> signed(-3.14159), signed(-0.001), signed(None)
    ('−3.14', '+0.00', '–')
    """
    if value is None or math.isnan(value):
        return "–"
    return f"{round(value, digits) + 0.0:+.{digits}f}".replace("-", "−")


def margin(standard_error: float, digits: int = 2) -> str:
    """Half of a 95 % interval; a question mark where a single day leaves the error unknown.

    >>> margin(0.2), margin(float("nan"))
    ('± 0.39', '± ?')
    """
    return "± ?" if math.isnan(standard_error) else f"± {NORMAL_95 * standard_error:.{digits}f}"


def estimate(mean: float, standard_error: float, digits: int = 2) -> str:
    """A mean with its 95 % interval.

    >>> estimate(3.1, 0.2)
    '+3.10 ± 0.39'
    """
    return signed(mean, digits) if math.isnan(mean) else f"{signed(mean, digits)} {margin(standard_error, digits)}"


def with_interval(row: Row, unit: str = "bps", digits: int = 2) -> str:
    """A mean with its bootstrap interval; a question mark where too few days leave it unknown.

    >>> with_interval({"mean_bps": 3.1, "low_bps": 2.7, "high_bps": 3.5})
    '+3.10 [+2.70, +3.50]'
    """
    mean, low, high = (row[f"{name}_{unit}"] for name in ("mean", "low", "high"))
    if math.isnan(mean):
        return signed(mean)
    known = "?" if math.isnan(low) else f"{signed(low, digits)}, {signed(high, digits)}"
    return f"{signed(mean, digits)} [{known}]"


def key_durations(horizon: int) -> list[int]:
    """Minimum durations worth a row: half, three quarters, all but one bar, and the fixed duration.

    >>> key_durations(12)
    [6, 9, 11, 12]
    """
    return sorted({math.ceil(horizon / 2), math.ceil(horizon * 3 / 4), max(horizon - 1, 1), horizon})


def strategies(frame: pd.DataFrame) -> list[str]:
    """Strategies in reading order: the model, the two it is paired with, then the others by name."""
    first = [MODEL_STRATEGY, STOPPING_STRATEGY, TWAP_STRATEGY]
    present = set(frame["strategy"])
    return [s for s in first if s in present] + sorted(present.difference(first))


def by_duration(frame: pd.DataFrame, model: str, name: str) -> dict[int, Row]:
    """Headline rows by minimum duration: improvements of a strategy, or edges over a baseline, of that name."""
    rows = headline_orders(frame)
    column = "strategy" if "strategy" in rows else "baseline"
    rows = rows[(rows["model"] == model) & (rows[column] == name)]
    return {row["minimum_duration"]: row for row in records(rows)}


def records(frame: pd.DataFrame) -> list[Row]:
    """Rows as dictionaries, keyed by column name."""
    return [{str(column): value for column, value in row.items()} for row in frame.to_dict("records")]


def single_order_std(scenarios: pd.DataFrame) -> pd.DataFrame:
    """Dispersion of a single headline order, pooled over buying and selling.

    The side average has next to none of it: an unfavourable window for the buyer is a favourable one for the
    seller of the same schedule. A client holds one side.

    Returns:
        Columns model, strategy, minimum_duration, order_std_bps.
    """
    orders = headline_orders(scenarios)
    variance = (orders["std_slippage_bps"] ** 2).rename("order_std_bps")
    keys = [orders[key] for key in ("model", "strategy", "minimum_duration")]
    return variance.groupby(keys).mean().pow(0.5).reset_index()


def headline_table(improvements: pd.DataFrame, edges: pd.DataFrame, scenarios: pd.DataFrame) -> pd.DataFrame:
    """One row per model and key minimum duration, ready to read: means with intervals, beside dispersion."""
    spread = single_order_std(scenarios).set_index(["model", "strategy", "minimum_duration"])["order_std_bps"]
    return pd.DataFrame(
        [
            row
            for model in sorted(set(headline_orders(improvements)["model"]))
            for row in _headline_rows(improvements[improvements["model"] == model], edges, model, spread)
        ]
    )


def _headline_rows(improvements: pd.DataFrame, edges: pd.DataFrame, model: str, spread: pd.Series) -> Iterable[Row]:
    horizon = int(improvements["minimum_duration"].max())
    learned = by_duration(improvements, model, MODEL_STRATEGY)
    over_stopping, over_twap = (by_duration(edges, model, b) for b in (STOPPING_STRATEGY, TWAP_STRATEGY))
    for duration in key_durations(horizon):
        if duration not in learned:
            continue
        edge = over_stopping.get(duration, _UNKNOWN)
        yield {
            "model": model,
            "minimum duration": f"{duration} (fixed)" if duration == horizon else str(duration),
            "LEM over no-forecast stopping, bps": with_interval(edge),
            "detectable, bps": f"{edge['minimum_detectable_bps']:.2f}",
            "LEM over TWAP, bps": with_interval(over_twap.get(duration, _UNKNOWN)),
            "LEM on VWAP, σ": with_interval(learned[duration], "sigma", 3),
            "std of one order: LEM / stopping / TWAP": " / ".join(
                f"{spread.get((model, s, duration), math.nan):.1f}"
                for s in (MODEL_STRATEGY, STOPPING_STRATEGY, TWAP_STRATEGY)
            ),
            "order windows": f"{learned[duration]['order_windows']:,}",
        }


@dataclass(frozen=True)
class Cell:
    """One figure of the published layout: the mean on a first line, its dispersion on a second."""

    mean: str
    std: str = ""


def _own_cell(rows: pd.DataFrame, side: str) -> Cell:
    row = next(iter(records(rows[rows["side"] == side])), None)
    if row is None:
        return Cell("–")
    return Cell(estimate(row["mean_slippage_bps"], row["standard_error_bps"]), f"std {row['std_slippage_bps']:.1f}")


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


def _estimates(frame: pd.DataFrame, mean: str, standard_error: str, digits: int = 2) -> list[str]:
    return [estimate(m, se, digits) for m, se in zip(frame[mean], frame[standard_error], strict=True)]


def scenario_table(scenarios: pd.DataFrame) -> pd.DataFrame:
    """Every scenario of one model and strategy, ready to read."""
    fixed_window = ("mean_fixed_window_slippage_bps", "fixed_window_standard_error_bps")
    return pd.DataFrame(
        {
            "side": scenarios["side"],
            "benchmark": scenarios["benchmark"],
            "target": scenarios["target"],
            "minimum duration": scenarios["minimum_duration"],
            "orders": scenarios["orders"].map("{:,}".format),
            "mean": _estimates(scenarios, "mean_slippage_bps", "standard_error_bps"),
            "std": scenarios["std_slippage_bps"].map("{:.1f}".format),
            "best 1 %": scenarios["p01_slippage_bps"].map(signed),
            "best 5 %": scenarios["p05_slippage_bps"].map(signed),
            "median": scenarios["median_slippage_bps"].map(signed),
            "worst 5 %": scenarios["p95_slippage_bps"].map(signed),
            "worst 1 %": scenarios["p99_slippage_bps"].map(signed),
            "CVaR 95": scenarios["cvar95_slippage_bps"].map(signed),
            "worst": scenarios["worst_slippage_bps"].map(signed),
            "won": scenarios["win_rate"].map("{:.0%}".format),
            "fixed window": _estimates(scenarios, *fixed_window),
            "arrival": _estimates(scenarios, "mean_arrival_slippage_bps", "arrival_standard_error_bps"),
            "completion bar": scenarios["mean_completion_bar"].map("{:.2f}".format),
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
            "improvement, σ": [with_interval(row, "sigma", 3) for row in records(improvements)],
            "detectable, bps": improvements["minimum_detectable_bps"].map("{:.2f}".format),
        }
    )


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


def break_even_table(curves: pd.DataFrame) -> pd.DataFrame:
    """Up to which order size one model gains over TWAP, once impact is paid: on average, and surely."""
    rows = []
    for duration, curve in curves[curves["baseline"] == TWAP_STRATEGY].groupby("minimum_duration"):
        curve = curve.sort_values("size_percent")
        if duration not in key_durations(int(curves["minimum_duration"].max())):
            continue
        rows.append(
            {
                "minimum duration": str(duration),
                **{
                    f"{size:g} % of a day": with_interval(row)
                    for size, row in zip(curve["size_percent"], records(curve), strict=True)
                    if size in _SIZES_SHOWN
                },
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
    return f"{size:g} %" if size < curve["size_percent"].max() else f"{size:g} %, the largest tried"


def capped_table(capped: pd.DataFrame) -> pd.DataFrame:
    """Large orders of one model under participation caps, ready to read."""
    capped = capped.sort_values(["participation_cap", "minimum_duration", "strategy"])
    return pd.DataFrame(
        {
            "at most of a bar": capped["participation_cap"].map("{:.0%}".format),
            "minimum duration": capped["minimum_duration"],
            "strategy": capped["strategy"],
            "improvement on VWAP, bps": _estimates(capped, "mean_improvement_bps", "standard_error_bps"),
            "impact, bps": capped["mean_impact_bps"].map("{:.2f}".format),
            "filled": capped["mean_filled_fraction"].map("{:.1%}".format),
            "filled whole": capped["share_filled"].map("{:.0%}".format),
            "completion bar": capped["mean_completion_bar"].map("{:.2f}".format),
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
