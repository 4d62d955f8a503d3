"""The report's numbers as tables ready to read: each mean with its interval, its dispersion beside it."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from lem_pipeline.yardsticks import Slippage, published_for

MODEL_STRATEGY = "LEM"
TWAP_STRATEGY = "TWAP"
STOPPING_STRATEGY = "no-forecast stopping"
NORMAL_95 = 1.96

Row = dict[str, Any]
_UNKNOWN: Row = {"mean_improvement_bps": math.nan, "standard_error_bps": math.nan}


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


def headline_orders(frame: pd.DataFrame) -> pd.DataFrame:
    """The orders the first screen is about: a fixed quantity measured against VWAP."""
    return frame[(frame["benchmark"] == "VWAP") & (frame["target"] == "quantity")]


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


def by_duration(improvements: pd.DataFrame, model: str, strategy: str) -> dict[int, Row]:
    """Side-averaged headline rows of one strategy, by minimum duration."""
    rows = headline_orders(improvements)
    rows = rows[(rows["model"] == model) & (rows["strategy"] == strategy)]
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


def headline_table(improvements: pd.DataFrame, scenarios: pd.DataFrame) -> pd.DataFrame:
    """One row per model and key minimum duration, ready to read: means with intervals, beside dispersion."""
    spread = single_order_std(scenarios).set_index(["model", "strategy", "minimum_duration"])["order_std_bps"]
    return pd.DataFrame(
        [
            row
            for model in sorted(set(headline_orders(improvements)["model"]))
            for row in _headline_rows(improvements[improvements["model"] == model], model, spread)
        ]
    )


def _headline_rows(improvements: pd.DataFrame, model: str, spread: pd.Series) -> Iterable[Row]:
    horizon = int(improvements["minimum_duration"].max())
    by_model = by_duration(improvements, model, MODEL_STRATEGY)
    by_stopping = by_duration(improvements, model, STOPPING_STRATEGY)
    for duration in key_durations(horizon):
        if duration not in by_model:
            continue
        learned, stopping = by_model[duration], by_stopping.get(duration, _UNKNOWN)
        yield {
            "model": model,
            "minimum duration": f"{duration} (fixed)" if duration == horizon else str(duration),
            "LEM, bps": estimate(learned["mean_improvement_bps"], learned["standard_error_bps"]),
            "LEM, σ": estimate(learned["mean_improvement_sigma"], learned["standard_error_sigma"], 3),
            f"{STOPPING_STRATEGY}, bps": estimate(stopping["mean_improvement_bps"], stopping["standard_error_bps"]),
            "LEM over stopping, paired, bps": estimate(
                learned["edge_over_stopping_bps"], learned["edge_over_stopping_standard_error_bps"]
            ),
            "LEM over TWAP, paired, bps": estimate(
                learned["edge_over_twap_bps"], learned["edge_over_twap_standard_error_bps"]
            ),
            "std of one order, LEM / stopping / TWAP, bps": " / ".join(
                f"{spread.get((model, s, duration), math.nan):.1f}"
                for s in (MODEL_STRATEGY, STOPPING_STRATEGY, TWAP_STRATEGY)
            ),
            "order windows": f"{learned['orders']:,}",
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
            "best 5 %": scenarios["p05_slippage_bps"].map(signed),
            "median": scenarios["median_slippage_bps"].map(signed),
            "worst 5 %": scenarios["p95_slippage_bps"].map(signed),
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
            "order windows": improvements["orders"].map("{:,}".format),
            "improvement, bps": _estimates(improvements, "mean_improvement_bps", "standard_error_bps"),
            "std": improvements["std_improvement_bps"].map("{:.1f}".format),
            "improvement, σ": _estimates(improvements, "mean_improvement_sigma", "standard_error_sigma", 3),
            **{
                f"over {name}, paired, bps": _estimates(
                    improvements, f"edge_over_{name.lower()}_bps", f"edge_over_{name.lower()}_standard_error_bps"
                )
                for name in ("stopping", "TWAP")
            },
        }
    )
