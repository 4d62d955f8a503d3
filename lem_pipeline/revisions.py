"""Takes an answer into a raw table, and records what it says differently from what was there."""

from datetime import datetime
from typing import TYPE_CHECKING

import pyarrow as pa

from lem_pipeline.sql_assets import SQL
from lem_pipeline.storage import create_if_missing, replace_rows

if TYPE_CHECKING:
    import duckdb

REVISIONS = "raw.revisions"
REVISIONS_SCHEMA = pa.schema(
    [
        ("raw_table", pa.string()),
        ("symbol", pa.string()),
        ("bar_start", pa.timestamp("us", tz="UTC")),
        ("field", pa.string()),
        ("old_value", pa.float64()),
        ("new_value", pa.float64()),
        ("cause", pa.string()),
        ("seen_at", pa.timestamp("us", tz="UTC")),
    ]
)


def take_in(
    connection: "duckdb.DuckDBPyConnection",
    table: str,
    symbol: str,
    answer: pa.Table,
    period: tuple[datetime, datetime],
    *,
    seen_at: datetime,
    drop_withdrawn: bool = False,
) -> int:
    """Store an answer: the last row of each bar counts, stored bars are replaced, differences are recorded.

    A bar that is stored and that the answer no longer has stays, and is recorded as withdrawn.

    Args:
        connection: Within a transaction.
        table: The raw table; created where missing.
        symbol: The instrument of all rows.
        answer: Bars of the period in schema ``RAW_BARS``, a later row overruling earlier ones of the same bar.
        period: What was asked for, ``[since, until)``.
        seen_at: When the answer came.
        drop_withdrawn: Remove stored bars that the answer no longer has.

    Returns:
        How many revisions were recorded.
    """
    overruled = answer["bar_start"].to_pandas().duplicated(keep="last").to_numpy()
    answered = answer.filter(pa.array(~overruled)) if overruled.any() else answer
    create_if_missing(connection, REVISIONS, REVISIONS_SCHEMA)
    connection.register("answered", answered)
    connection.register("repeated", answer.filter(pa.array(overruled)))
    connection.execute(f"create table if not exists {table} as from answered limit 0")
    window = {"symbol": symbol, "since": period[0], "until": period[1]}
    created = connection.execute(
        f"""
        create or replace temp table earlier as
        select *, 'restated' as cause from {table}
        where symbol = $symbol and bar_start >= $since and bar_start < $until
        union all by name
        select *, 'repeated' as cause from repeated
        """,  # noqa: S608 - our own names, values bound
        window,
    ).fetchall()
    any_earlier = created[0][0] > 0
    recorded = _record(connection, table, symbol, seen_at) if any_earlier else 0
    replaced = "symbol = $symbol and bar_start >= $since and bar_start < $until"
    if not drop_withdrawn:
        replaced += " and bar_start in (select bar_start from answered)"
    replace_rows(connection, table, answered, replaced, window)
    return recorded


def _record(connection: "duckdb.DuckDBPyConnection", table: str, symbol: str, seen_at: datetime) -> int:
    connection.execute(
        f"""
        create or replace temp table splits as
        select bar_start, any_value(split_ratio) as split_ratio
        from (from {table} where symbol = $symbol union all by name from answered)
        where split_ratio <> 1
        group by bar_start
        """,  # noqa: S608 - our own names, values bound
        {"symbol": symbol},
    )
    statement = (SQL / "queries/revisions.sql").read_text()
    inserted = connection.execute(
        f"insert into {REVISIONS} by name {statement}", {"raw_table": table, "seen_at": seen_at}
    ).fetchall()
    return int(inserted[0][0])
