"""Proves on stored bars that features are causal: overwrite the future, demand that the past stands still."""

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lem_pipeline.sql_assets import SQL, Parameters, SqlFile
from lem_pipeline.storage import Warehouse

if TYPE_CHECKING:
    import duckdb

FACTS_OF_THE_BAR = ("price", "close", "volume")  # what its orders meet, which no decision reads beforehand


def look_ahead(warehouse: Warehouse, features: SqlFile, parameters: Parameters) -> list[dict[str, Any]]:
    """Columns of the feature table that move before the future does, judged on recent bars of a few symbols."""
    return look_ahead_in(warehouse.read((SQL / "queries/recent_bars.sql").read_text()), features, parameters)


def look_ahead_in(bars: pa.Table, features: SqlFile, parameters: Parameters) -> list[dict[str, Any]]:
    """Columns of the feature table that move before the future does.

    Runs the features' own statement on the bars, then again with every bar from some point on overwritten. Features
    of the first overwritten bar, and of all bars before it, are known before anything was overwritten; the expected
    volume is known a whole horizon before.

    Args:
        bars: Rows of ``bars.market_bars``.
        features: The statement of ``features.bar_features``.
        parameters: What it binds.

    Returns:
        One row per column that looked ahead, with a reason; empty where none did.
    """
    if not len(bars):
        return []
    import duckdb

    with duckdb.connect() as memory:
        memory.execute("set timezone = 'UTC'; create schema bars; create table recent as from bars")
        for name, source in (
            ("untouched", "from recent"),
            ("overwritten", (SQL / "queries/overwritten.sql").read_text()),
        ):
            memory.execute(f"create or replace view bars.market_bars as {source}")
            memory.execute(f"create table {name} as {features.text}", features.bind(parameters))
        columns = [str(row[0]) for row in memory.execute("describe untouched").fetchall()]
        compared = [c for c in columns if c not in FACTS_OF_THE_BAR]
        return [row for column in compared for row in _moved(memory, column, parameters)]


def _moved(memory: "duckdb.DuckDBPyConnection", column: str, parameters: Parameters) -> list[dict[str, Any]]:
    known_before = parameters["horizon"] if column == "expected_volume" else 1
    moved = memory.sql(
        f"""
        select
            asset_class,
            $column as column_name,
            count(*) as rows,
            $column || ' moves when only later bars change; it must read bars before its own alone' as reason
        from untouched
        full join overwritten using (asset_class, symbol, bar_start)
        inner join (
            select asset_class, quantile_disc(bar_number, 0.9) as bar_number from recent group by asset_class
        ) as future using (asset_class)
        where
            coalesce(untouched.bar_number, overwritten.bar_number) < future.bar_number + $known_before
            and untouched.{column} is distinct from overwritten.{column}
            -- Sums over threads may differ in their last digits.
            and coalesce(abs(try_cast(untouched.{column} as double) - try_cast(overwritten.{column} as double))
                > 1e-9 * abs(try_cast(untouched.{column} as double)), true)
        group by asset_class
        """,  # noqa: S608 - columns that our own statement makes
        params={"column": column, "known_before": known_before},
    )
    rows: list[dict[str, Any]] = moved.to_arrow_table().to_pylist()
    return rows
