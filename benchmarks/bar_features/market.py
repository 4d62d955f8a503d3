"""A simulated market with every kind of break, staged by the pipeline's own statements."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from benchmarks.bar_features import in_sql
from lem_models.simulation import SimulatedSymbol, days_of_week, hours_of_week
from lem_pipeline.sources.base import raw_bars
from lem_pipeline.sql_assets import sql_files
from lem_pipeline.universe import DOW_DAILY, FIRST_MONTH, nyse_sessions

FATES = ["missing", "without trades", "unknown", "split"]


def write_market(path: Path, symbols: tuple[int, int], bars: tuple[int, int], break_every: int, seed: int = 0) -> None:
    """Write ``bars.market_bars`` of a simulated market as a parquet file.

    Args:
        path: The file.
        symbols: How many crypto symbols and how many Dow symbols.
        bars: Hours per crypto symbol, working days per Dow symbol; the exchange was closed on some of those.
        break_every: About so many bars lie between two that are missing, without trades, unknown, or a split.
        seed: Of the market and of its breaks.
    """
    random = np.random.default_rng(seed)
    hours = pd.date_range("2019-01-01", periods=bars[0], freq="h", tz="UTC")
    days = pd.date_range("2003-01-01", periods=bars[1], freq="B", tz="UTC")
    crypto = [f"C{number:02}/USDT" for number in range(symbols[0])]
    raw = {
        "crypto_bars": pa.concat_tables(_hourly(symbol, hours, break_every, random, seed) for symbol in crypto),
        "dow_bars": pa.concat_tables(
            _daily(s, days, break_every, random, seed) for s in DOW_DAILY.instruments[: symbols[1]]
        ),
        "nyse_sessions": pa.Table.from_pandas(nyse_sessions(FIRST_MONTH, datetime(2026, 1, 1, tzinfo=UTC))),
    }
    with in_sql.database() as connection:
        for table, rows in raw.items():
            connection.register("rows", rows)
            connection.execute(f"create table raw.{table} as from rows")
        for file in (*sql_files("staging"), *sql_files("bars")):
            connection.execute(f"create table {file.table} as {file.text}", file.bind(in_sql.HOURLY))
        connection.table("bars.market_bars").write_parquet(str(path))


def _hourly(symbol: str, starts: pd.DatetimeIndex, every: int, random: np.random.Generator, seed: int) -> pa.Table:
    hour_of_week = starts.day_of_week.to_numpy() * 24 + starts.hour.to_numpy()
    market = SimulatedSymbol(symbol, seed, first_price=100, volatility=0.01, bar_volume=1e4, season=hours_of_week())
    return _broken(symbol, starts, market.bars(hour_of_week.astype(np.int64)), every, random)


def _daily(symbol: str, starts: pd.DatetimeIndex, every: int, random: np.random.Generator, seed: int) -> pa.Table:
    market = SimulatedSymbol(symbol, seed, first_price=100, volatility=0.015, bar_volume=1e7, season=days_of_week())
    columns = market.bars(starts.day_of_week.to_numpy().astype(np.int64))
    told = ("open", "high", "low", "close", "volume")  # as Yahoo, which knows neither notional nor takers
    return _broken(symbol, starts, {name: columns[name] for name in told}, every, random)


def _broken(
    symbol: str,
    starts: pd.DatetimeIndex,
    columns: dict[str, NDArray[np.float64]],
    every: int,
    random: np.random.Generator,
) -> pa.Table:
    """Bars of one symbol, some of them with a fate."""
    struck = random.random(len(starts)) < 1 / every
    fate = np.where(struck, random.choice(FATES, len(starts)), "")
    broken = columns | {"split_ratio": np.where(fate == "split", 2.0, 1.0)}
    for name in columns.keys() & {"volume", "notional", "taker_buy_volume"}:
        broken[name] = np.select([fate == "without trades", fate == "unknown"], [0.0, np.nan], columns[name])
    table = raw_bars({"bar_start": starts, **broken}, symbol=symbol, venue="simulated")
    return table.filter(pa.array(fate != "missing"))
