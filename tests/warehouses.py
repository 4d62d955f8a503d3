"""Real DuckDB warehouses, built from given bars by the repository's own SQL files."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from lem_pipeline.fetched import FETCHED_SCHEMA
from lem_pipeline.revisions import REVISIONS_SCHEMA
from lem_pipeline.sources.base import RAW_BARS
from lem_pipeline.sql_assets import SQL, SqlFile, sql_files
from lem_pipeline.storage import Warehouse
from lem_pipeline.universe import FIRST_MONTH, dow_members, nyse_sessions

PARAMETERS: dict[str, Any] = {
    "asset_classes": ["crypto", "dow"],
    "lookback": 8,
    "horizon": 4,
    "live": [],
    "train": 0.7,
    "validation": 0.15,
    "dow_members_only": True,
    "unseen_symbols": [],
    "folds": 2,
    "crypto_source_bar_minutes": 60,
    "crypto_bar_minutes": 60,
    "typically_priced": [],
}
TABLES = ("staging", "bars", "quality", "features", "windows")  # schemas in the order they are built
FEATURES = SqlFile(SQL / "features/bar_features.sql")
WINDOWS = SqlFile(SQL / "windows/order_windows.sql")
MONDAY = "2024-01-01"


@lru_cache(maxsize=1)
def sessions() -> pd.DataFrame:
    """The exchange calendar up to the end of 2025."""
    return nyse_sessions(FIRST_MONTH, datetime(2026, 1, 1, tzinfo=UTC))


def bars_at(starts: pd.DatetimeIndex, symbol: str, seed: int = 0) -> pd.DataFrame:
    """Sound bars of one symbol, as a venue would report them."""
    random = np.random.default_rng([seed, *symbol.encode()])
    count = len(starts)
    close = 100 * np.exp(np.cumsum(random.normal(0, 0.01, count)))
    opened = close * np.exp(random.normal(0, 0.005, count))
    high = np.maximum(opened, close) * np.exp(random.uniform(0.001, 0.01, count))
    low = np.minimum(opened, close) * np.exp(-random.uniform(0.001, 0.01, count))
    volume = random.lognormal(5, 0.5, count)
    return pd.DataFrame(
        {
            "symbol": symbol,
            "bar_start": starts,
            "open": opened,
            "high": high,
            "low": low,
            "close": close,
            "volume": volume,
            "notional": volume * (low + random.uniform(0.2, 0.8, count) * (high - low)),
            "trade_count": random.integers(100, 1000, count),
            "taker_buy_volume": volume * random.uniform(0.3, 0.7, count),
            "adjusted_close": np.nan,
            "dividend": 0.0,
            "split_ratio": 1.0,
            "splits_until": starts,
            "venue": "a test",
        }
    )


def hourly(hours: int, symbols: Sequence[str] = ("BTC/USDT", "ETH/USDT"), seed: int = 0) -> pd.DataFrame:
    """Hourly bars without a gap from a Monday on, symbol by symbol."""
    starts = pd.date_range(MONDAY, periods=hours, freq="h", tz="UTC")
    return pd.concat([bars_at(starts, symbol, seed) for symbol in symbols], ignore_index=True)


def daily(
    count: int, symbols: Sequence[str] = ("AAPL", "IBM"), seed: int = 0, since: str = "2022-01-01"
) -> pd.DataFrame:
    """Daily bars of consecutive exchange sessions, symbol by symbol."""
    after = sessions()["bar_start"] >= pd.Timestamp(since, tz="UTC")
    starts = pd.DatetimeIndex(sessions()["bar_start"][after][:count])
    return pd.concat([bars_at(starts, symbol, seed) for symbol in symbols], ignore_index=True)


def raw(bars: pd.DataFrame | None) -> pa.Table:
    """Bars in the schema that every source answers in."""
    return RAW_BARS.empty_table() if bars is None else pa.Table.from_pandas(bars, RAW_BARS, preserve_index=False)


def with_raw_tables(
    path: Path, crypto: pd.DataFrame | None = None, dow: pd.DataFrame | None = None, into: Warehouse | None = None
) -> Warehouse:
    """A warehouse that holds raw tables alone: a file of a folder, or one that is given."""
    warehouse = into or Warehouse(path=str(path / "warehouse.duckdb"))
    tables = {
        "crypto_bars": raw(crypto),
        "dow_bars": raw(dow),
        "nyse_sessions": pa.Table.from_pandas(sessions(), preserve_index=False),
        "dow_members": pa.Table.from_pandas(dow_members(), preserve_index=False),
        "revisions": REVISIONS_SCHEMA.empty_table(),
        "fetched_periods": pa.concat_tables([_fetched("raw.crypto_bars", crypto), _fetched("raw.dow_bars", dow)]),
    }
    for name, rows in tables.items():
        warehouse.write_table(f"raw.{name}", rows)
    return warehouse


def _fetched(table: str, bars: pd.DataFrame | None) -> pa.Table:
    """The note that each series was fetched, from its first bar up to its last."""
    series = () if bars is None else bars.groupby("symbol")["bar_start"]
    rows = [
        {
            "raw_table": table,
            "symbol": symbol,
            "fetched_from": starts.min(),
            "fetched_until": starts.max(),
            "fetched_at": datetime.now(UTC),
            "bars": len(starts),
        }
        for symbol, starts in series
    ]
    return pa.Table.from_pylist(rows, schema=FETCHED_SCHEMA)


def build(
    path: Path,
    crypto: pd.DataFrame | None = None,
    dow: pd.DataFrame | None = None,
    parameters: Mapping[str, Any] = PARAMETERS,
    schemas: Sequence[str] = TABLES,
) -> Warehouse:
    """A warehouse with every table that the repository's SQL makes of these raw bars."""
    warehouse = with_raw_tables(path, crypto, dow)
    run(warehouse, parameters, schemas)
    return warehouse


def run(warehouse: Warehouse, parameters: Mapping[str, Any] = PARAMETERS, schemas: Sequence[str] = TABLES) -> None:
    """Run the repository's SQL on what the warehouse holds."""
    files = {file.table: file for schema in schemas for file in sql_files(schema)}
    order = TopologicalSorter({table: file.upstreams for table, file in files.items()}).static_order()
    with warehouse.connection() as connection:
        for file in (files[table] for table in order if table in files):
            connection.execute(f"create or replace table {file.table} as {file.text}", file.bind(parameters))


def read(warehouse: Warehouse, select: str, **parameters: Any) -> pd.DataFrame:
    """The answer of a statement as a frame."""
    return warehouse.read(select, parameters).to_pandas()


def execute(warehouse: Warehouse, statement: str) -> None:
    """Change a warehouse by hand, as a test that breaks something must."""
    with warehouse.connection() as connection:
        connection.execute(statement)
