"""Proves on stored bars that a window is one of its date: tear holes, rebuild, and look every bar up by its time."""

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from lem_pipeline.panel import PANEL, OrderPanel, panel_of
from lem_pipeline.sql_assets import SQL, Parameters, SqlFile
from lem_pipeline.storage import Warehouse
from lem_pipeline.universe import ASSET_CLASSES, FIRST_MONTH, nyse_sessions

if TYPE_CHECKING:
    import duckdb

_WARM_UP = 48  # bars of history before the first lookback
_EXACT = 1e-5  # panels hand out float32

MEASURED = ("price", "close", "volume")  # of each bar of the horizon

# What a row of features says of the bar it belongs to.
CALENDAR: dict[str, Callable[[pd.DatetimeIndex], np.ndarray]] = {
    "hour_sin": lambda at: np.sin(2 * math.pi * (at.hour + at.minute / 60) / 24),
    "hour_cos": lambda at: np.cos(2 * math.pi * (at.hour + at.minute / 60) / 24),
    "weekday_sin": lambda at: np.sin(2 * math.pi * (at.dayofweek + 1) / 7),
    "weekday_cos": lambda at: np.cos(2 * math.pi * (at.dayofweek + 1) / 7),
}


def windows_of_other_dates(
    warehouse: Warehouse, features: SqlFile, windows: SqlFile, parameters: Parameters
) -> list[dict[str, Any]]:
    """Windows that do not hold the bars of their dates, once recent bars of a few symbols have holes."""
    bars = with_gaps(warehouse.read((SQL / "queries/recent_bars.sql").read_text()), parameters)
    if not len(bars):
        return []
    made_here = {"bars.market_bars", features.table, windows.table}
    others = {table for file in (features, windows) for table in file.upstreams} - made_here
    tables = {table: warehouse.read(f"from {table}") for table in others}
    data = rebuilt({**tables, "bars.market_bars": bars}, features, windows, parameters)
    return list(of_other_dates(data, bars, int(parameters["lookback"]), int(parameters["horizon"])))


def with_gaps(bars: pa.Table, parameters: Parameters, seed: int = 0) -> pa.Table:
    """The bars without a few runs of them, of one bar up to a day's, at random places of every symbol.

    Holes are so few that most bars still have all that a window asks for before and behind them.
    """
    random = np.random.default_rng(seed)
    frame = bars.select(["asset_class", "symbol", "bar_number"]).to_pandas()
    frame = frame.sort_values(["asset_class", "symbol", "bar_number"])
    kept = np.ones(len(frame), dtype=bool)
    for _, rows in frame.groupby(["asset_class", "symbol"], sort=True):
        holes = 1 + len(rows) // (3 * (_WARM_UP + parameters["lookback"] + parameters["horizon"]))
        for first, length in zip(random.integers(0, len(rows), holes), random.integers(1, 25, holes), strict=True):
            kept[rows.index[first : first + length]] = False
    return bars.filter(pa.array(kept))


def rebuilt(tables: dict[str, pa.Table], features: SqlFile, windows: SqlFile, parameters: Parameters) -> OrderPanel:
    """The panel that the repository's own SQL makes of some bars.

    Args:
        tables: What the two statements read, by name.
        features: The statement of ``features.bar_features``.
        windows: The statement of ``windows.order_windows``.
        parameters: What they bind.
    """
    import duckdb

    with duckdb.connect() as memory:
        memory.execute("set timezone = 'UTC'")
        for name, rows in tables.items():
            _create(memory, name, "from given", {}, given=rows)
        for file in (features, windows):
            _create(memory, file.table, file.text, file.bind(parameters))
        classes = tables["bars.market_bars"]["asset_class"].unique().to_pylist()
        return panel_of(memory.sql(PANEL.read_text(), params={"asset_classes": classes}).to_arrow_table())


def _create(
    memory: "duckdb.DuckDBPyConnection", table: str, select: str, bound: dict[str, Any], given: pa.Table | None = None
) -> None:
    if given is not None:
        memory.register("given", given)
    memory.execute(f"create schema if not exists {table.split('.')[0]}")
    memory.execute(f"create table {table} as {select}", bound)


def of_other_dates(data: OrderPanel, bars: pa.Table, lookback: int, horizon: int) -> Iterator[dict[str, Any]]:
    """Windows whose bars are not those of their dates, each with the first thing that shows it.

    A bar is looked up by its symbol and its time alone, so many bars after that of the window's date; where rows lie
    plays no part.

    Args:
        data: The panel.
        bars: Rows of ``bars.market_bars``, in any order.
        lookback: Bars of history each window carries.
        horizon: Bars of each order.
    """
    keys = data.keys.to_pandas()
    market = bars.select(["asset_class", "symbol", "bar_start", "bar_end", "price", "close", "volume"]).to_pandas()
    stored = {series: rows.set_index("bar_start") for series, rows in market.groupby(["asset_class", "symbol"])}
    for (asset_class, symbol), rows in keys[keys["split"].notna()].groupby(["asset_class", "symbol"]):
        starts = pd.DatetimeIndex(rows["bar_start"])
        found = _seen(data, rows.index.to_numpy(), lookback, horizon)
        expected = _by_date(stored[asset_class, symbol], str(asset_class), starts, lookback, horizon)
        wrong = {
            name: np.argwhere(~(np.abs(found[name] - value) <= _EXACT * np.maximum(np.abs(value), 1)))
            for name, value in expected.items()
            if name in found
        }
        offends = {int(window): (name, int(bar)) for name, at in reversed(wrong.items()) for window, bar in at[::-1]}
        for window, (name, bar) in sorted(offends.items()):
            number = bar + 1 if name in MEASURED else bar - lookback + 2
            reason = (
                f"{symbol} at {starts[window]:%Y-%m-%d %H:%M}: {name} of bar {number} is "
                f"{found[name][window, bar]:g}, and {expected[name][window, bar]:g} by that bar's date"
            )
            yield {"asset_class": asset_class, "symbol": symbol, "bar_start": starts[window], "reason": reason}


def _seen(data: OrderPanel, rows: np.ndarray, lookback: int, horizon: int) -> dict[str, np.ndarray]:
    """What orders meet over the horizon, and what calendar features say over lookback and horizon; (windows, bars)."""
    import torch

    orders = data.panel.orders(torch.tensor(rows), lookback, horizon)
    market = {name: getattr(orders.market, name).numpy() for name in MEASURED}
    features = orders.features.numpy()
    calendar = {name: features[..., data.features.index(name)] for name in CALENDAR if name in data.features}
    return market | calendar


def _by_date(
    stored: pd.DataFrame, asset_class: str, starts: pd.DatetimeIndex, lookback: int, horizon: int
) -> dict[str, np.ndarray]:
    """The same by the clock: so many bars after each date, and NaN where there is no such bar."""
    length = (stored["bar_end"] - stored.index).iloc[0]
    times = [_later(asset_class, length, starts, bars) for bars in range(1 - lookback, horizon)]
    before, *ahead = (stored.reindex(at) for at in times[lookback - 2 :])
    arrival = before["close"].to_numpy()
    found = {
        "price": np.stack([bar["price"].to_numpy() / arrival for bar in ahead], axis=1),
        "close": np.stack([bar["close"].to_numpy() / arrival for bar in ahead], axis=1),
        "volume": np.stack([bar["volume"].to_numpy() for bar in ahead], axis=1),
    }
    return found | {name: np.stack([says(at) for at in times], axis=1) for name, says in CALENDAR.items()}


def _later(asset_class: str, length: pd.Timedelta, starts: pd.DatetimeIndex, bars: int) -> pd.DatetimeIndex:
    """When that bar begins which is so many bars after each, or before it where negative."""
    if ASSET_CLASSES[asset_class].always_open:
        return starts + bars * length
    sessions = pd.DatetimeIndex(nyse_sessions(FIRST_MONTH, starts.max() + pd.Timedelta(days=366))["bar_start"])
    return sessions[sessions.get_indexer(starts) + bars]
