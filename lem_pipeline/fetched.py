"""What sources were asked for, when, and how many bars they answered: what need not be fetched again."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import pyarrow as pa

from lem_pipeline.storage import Warehouse, replace_rows
from lem_pipeline.universe import AssetClass

if TYPE_CHECKING:
    import duckdb

Period = tuple[datetime, datetime]

FETCHED = "raw.fetched_periods"
FETCHED_SCHEMA = pa.schema(
    [
        ("raw_table", pa.string()),
        ("symbol", pa.string()),
        ("fetched_from", pa.timestamp("us", tz="UTC")),
        ("fetched_until", pa.timestamp("us", tz="UTC")),
        ("fetched_at", pa.timestamp("us", tz="UTC")),
        ("bars", pa.int64()),
    ]
)


def note_fetched(
    connection: "duckdb.DuckDBPyConnection", table: str, symbol: str, period: Period, fetched_at: datetime, bars: int
) -> None:
    """Note that a period was asked for, in the place of notes of parts of it; within a transaction."""
    row = dict(zip(FETCHED_SCHEMA.names, [table, symbol, *period, fetched_at, bars], strict=True))
    replace_rows(
        connection,
        FETCHED,
        pa.Table.from_pylist([row], schema=FETCHED_SCHEMA),
        "raw_table = $raw_table and symbol = $symbol "
        "and fetched_from >= $fetched_from and fetched_until <= $fetched_until",
        {name: row[name] for name in ("raw_table", "symbol", "fetched_from", "fetched_until")},
    )


def missing_periods(fetched: Sequence[Period], start: datetime, end: datetime) -> list[Period]:
    """The parts of ``[start, end)`` that no fetched period covers.

    Example:
        >>> from datetime import UTC
        >>> day = [datetime(2024, 1, d, tzinfo=UTC) for d in range(1, 6)]
        >>> [(a.day, b.day) for a, b in missing_periods([(day[1], day[2])], day[0], day[4])]
        [(1, 2), (3, 5)]
    """
    missing, reached = [], start
    for since, until in sorted(fetched):
        if since > reached:
            missing.append((reached, min(since, end)))
        reached = max(reached, until)
        if reached >= end:
            break
    if reached < end:
        missing.append((reached, end))
    return [(since, until) for since, until in missing if since < until]


def fetched_periods(
    warehouse: Warehouse, table: str, asset: AssetClass, start: datetime, end: datetime
) -> dict[str, list[Period]]:
    """What need not be fetched again of each instrument: bars that had settled when they were fetched.

    An answer that ends too early, or has no bars at all, is asked for again from its end on. Only notes of the period
    ``[start, end)`` count, and only bars within these notes: a daily run costs what its month holds, not what was ever
    stored.
    """
    periods: dict[str, list[Period]] = {}
    if not warehouse.has_table(table):
        return periods
    noted = warehouse.read(
        f"""
        with fetched as (
            from {FETCHED}
            where raw_table = $table and fetched_from < $end and fetched_until > $start
        ),

        bars as (
            select symbol, bar_start
            from {table}
            where bar_start >= (select min(fetched_from) from fetched)
                and bar_start < (select max(fetched_until) from fetched)
        )

        select fetched.*, bars.bar_start as last_bar
        from fetched
        asof left join bars on fetched.symbol = bars.symbol and fetched.fetched_until > bars.bar_start
        """,  # noqa: S608 - our own names, values bound
        {"table": table, "start": start, "end": end},
    )
    for row in noted.to_pylist():
        since, last_bar = row["fetched_from"], row["last_bar"]
        settled = min(row["fetched_until"], row["fetched_at"] - asset.settles_after)
        answered = max(since, last_bar + asset.bar_size) if last_bar else since
        if answered < settled and asset.expects_bars(answered, settled):
            settled = answered
        periods.setdefault(row["symbol"], []).append((since, settled))
    return periods
