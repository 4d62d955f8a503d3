"""Bar features as the pipeline makes them: its own statement, from table to table, here in a database in memory."""

from pathlib import Path

import duckdb
import pandas as pd

from lem_pipeline.sql_assets import SQL, SqlFile
from lem_pipeline.storage import SCHEMAS

FEATURES = SqlFile(SQL / "features" / "bar_features.sql")
HOURLY = {"crypto_source_bar_minutes": 60, "crypto_bar_minutes": 60, "typically_priced": []}


def database() -> duckdb.DuckDBPyConnection:
    """An empty warehouse in memory."""
    connection = duckdb.connect()
    connection.execute("set timezone = 'UTC'; set enable_progress_bar = false")
    for schema in SCHEMAS:
        connection.execute(f"create schema {schema}")
    return connection


def load(path: Path) -> duckdb.DuckDBPyConnection:
    """A database with the table ``bars.market_bars``."""
    connection = database()
    connection.execute("create table bars.market_bars as from read_parquet($path)", {"path": str(path)})
    return connection


def features(connection: duckdb.DuckDBPyConnection, horizon: int) -> duckdb.DuckDBPyConnection:
    """The same database with the table ``features.bar_features``."""
    statement = f"create or replace table {FEATURES.table} as {FEATURES.text}"
    return connection.execute(statement, FEATURES.bind({"horizon": horizon, **HOURLY}))


def to_pandas(connection: duckdb.DuckDBPyConnection) -> pd.DataFrame:
    """The table of features."""
    return connection.execute(f"from {FEATURES.table}").df()
