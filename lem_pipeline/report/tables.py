"""The report's numbers as tables ready to read: each mean with its interval, its dispersion beside it."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from lem_pipeline.edges import MODEL_STRATEGY, STOPPING_STRATEGY, TWAP_STRATEGY, headline_orders

NORMAL_95 = 1.96
DETECTABLE_80 = NORMAL_95 + 0.8416  # standard errors: what a test at 5 % finds four times out of five

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


def detectable(standard_error: float, digits: int = 2) -> str:
    """The effect that a test at 5 % would have found with a power of 80 %.

    >>> detectable(0.2), detectable(float("nan"))
    ('0.56', '?')
    """
    return "?" if math.isnan(standard_error) else f"{DETECTABLE_80 * standard_error:.{digits}f}"


def share(mean: float, standard_error: float, digits: int = 1) -> str:
    """A mean of fractions with its 95 % interval, in percent.

    >>> share(0.123, 0.002)
    '12.3 ± 0.4 %'
    """
    return f"{100 * mean:.{digits}f} {margin(100 * standard_error, digits)} %"


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


def shown_durations(horizon: int) -> list[int]:
    """The key durations, and no minimum at all.

    >>> shown_durations(12)
    [1, 6, 9, 11, 12]
    """
    return sorted({1, *key_durations(horizon)})


def strategies(frame: pd.DataFrame, column: str = "strategy") -> list[str]:
    """Strategies in reading order: the model, the two it is paired with, then the others by name."""
    first = [MODEL_STRATEGY, STOPPING_STRATEGY, TWAP_STRATEGY]
    present = set(frame[column])
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


def headline_edges(edges: pd.DataFrame) -> dict[str, float]:
    """What each model gains over no-forecast stopping at the shortest key duration, in bps."""
    found: dict[str, float] = {}
    for model in sorted(set(edges["model"])):
        over_stopping = by_duration(edges, model, STOPPING_STRATEGY)
        shortest = next((m for m in key_durations(max(over_stopping, default=1)) if m in over_stopping), None)
        if shortest is not None:
            found[model] = round(float(over_stopping[shortest]["mean_bps"]), 4)
    return found


def _headline_rows(improvements: pd.DataFrame, edges: pd.DataFrame, model: str, spread: pd.Series) -> Iterable[Row]:
    horizon = int(improvements["minimum_duration"].max())
    learned = by_duration(improvements, model, MODEL_STRATEGY)
    over_stopping, over_twap = (by_duration(edges, model, b) for b in (STOPPING_STRATEGY, TWAP_STRATEGY))
    for duration in key_durations(horizon):
        if duration not in learned:
            continue
        edge, twap = (found.get(duration, _UNKNOWN) for found in (over_stopping, over_twap))
        yield {
            "model": model,
            "minimum duration": f"{duration} (fixed)" if duration == horizon else str(duration),
            "LEM over no-forecast stopping, bps": with_interval(edge),
            "detectable, bps": f"{edge['minimum_detectable_bps']:.2f}",
            "LEM over TWAP, bps": with_interval(twap),
            "detectable over TWAP, bps": f"{twap['minimum_detectable_bps']:.2f}",
            "LEM on VWAP, σ": with_interval(learned[duration], "sigma", 3),
            "detectable on VWAP, σ": f"{learned[duration]['minimum_detectable_sigma']:.3f}",
            "std of one order: LEM / stopping / TWAP": " / ".join(
                f"{spread.get((model, s, duration), math.nan):.1f}"
                for s in (MODEL_STRATEGY, STOPPING_STRATEGY, TWAP_STRATEGY)
            ),
            "order windows": f"{learned[duration]['order_windows']:,}",
        }


@dataclass(frozen=True)
class Cell:
    """One figure of a table: the mean on a first line, what belongs to it on a second."""

    mean: str
    note: str = ""

    def __str__(self) -> str:
        return f"{self.mean} ({self.note})" if self.note else self.mean


def stacked(frame: pd.DataFrame) -> pd.DataFrame:
    """A table for a page: what is detectable stands on a second line under the mean that it belongs to.

    Args:
        frame: Text; a column whose name begins with ``detectable`` follows the column of its mean.
    """
    columns: dict[str, list[Any]] = {}
    for name in frame:
        if str(name).startswith("detectable"):
            of = next(reversed(columns))
            pairs = zip(columns[of], frame[name], strict=True)
            columns[of] = [Cell(mean, f"det. {least}") for mean, least in pairs]
        else:
            columns[str(name)] = list(frame[name])
    return pd.DataFrame(columns)


def estimate_columns(
    frame: pd.DataFrame, name: str, mean: str, standard_error: str, digits: int = 2
) -> dict[str, list[str]]:
    """Means with their 95 % intervals, then what is detectable: two columns of a table."""
    pairs = list(zip(frame[mean], frame[standard_error], strict=True))
    return {
        name: [estimate(m, error, digits) for m, error in pairs],
        f"detectable, {name}": [detectable(error, digits) for _, error in pairs],
    }


def unsigned_columns(frame: pd.DataFrame, name: str, mean: str, standard_error: str) -> dict[str, list[str]]:
    """The same of what is never negative."""
    pairs = list(zip(frame[mean], frame[standard_error], strict=True))
    return {
        name: [f"{m:.2f} {margin(error)}" for m, error in pairs],
        f"detectable, {name}": [detectable(error) for _, error in pairs],
    }


def share_columns(
    frame: pd.DataFrame, name: str, mean: str, standard_error: str, digits: int = 1
) -> dict[str, list[str]]:
    """The same of fractions, in percent."""
    pairs = list(zip(frame[mean], frame[standard_error], strict=True))
    return {
        name: [share(m, error, digits) for m, error in pairs],
        f"detectable, {name}": [f"{detectable(100 * error, digits)} %" for _, error in pairs],
    }
