"""What an ingestion refuses: bars of two worlds in one table, an answer in the place of bars, a period without any."""

from collections.abc import Mapping
from datetime import datetime

from lem_pipeline.errors import ConfigurationError, EmptyPeriodError
from lem_pipeline.sources.base import BarSource
from lem_pipeline.storage import Warehouse
from lem_pipeline.universe import AssetClass


def refuse_to_mix(source: BarSource, warehouse: Warehouse, table: str) -> None:
    """Refuse simulated bars among real ones, and real among simulated."""
    if not warehouse.has_table(table):
        return
    venues = warehouse.read(
        f"select distinct venue from {table} where (venue = 'simulated') <> $simulated order by all",  # noqa: S608 - our own names, values bound
        {"simulated": source.provenance.startswith("SIMULATED")},
    )["venue"].to_pylist()
    if venues:
        raise ConfigurationError(
            f"{table} already holds bars of {', '.join(venues)}, which must not mix with those of {source.provenance}; "
            "give the profile a home of its own"
        )


def refuse_to_lose(warehouse: Warehouse, table: str, instrument: str, start: datetime, end: datetime) -> None:
    """Refuse an answer without a bar for a period of which bars are stored."""
    if count := stored(warehouse, table, start, end, instrument):
        raise EmptyPeriodError(
            f"the source answers without a bar between {start:%Y-%m-%d %H:%M} and {end:%Y-%m-%d %H:%M}, where "
            f"{count:,} are stored; they stay, and the source is asked again next time"
        )


def refuse_an_empty_period(
    bars: Mapping[str, int],
    source: BarSource,
    asset: AssetClass,
    warehouse: Warehouse,
    table: str,
    start: datetime,
    end: datetime,
) -> None:
    """Refuse a period that should hold bars and has none, of whatever instrument.

    Args:
        bars: How many bars the source answered, by instrument.
        source: Who was asked.
        asset: Says whether the period should hold bars.
        warehouse: May hold bars of the period since an earlier run.
        table: The raw table.
        start: Start of the period, inclusive.
        end: End of the period, exclusive.

    Raises:
        EmptyPeriodError: There is none, now or before.
    """
    if not any(bars.values()) and asset.expects_bars(start, end) and not stored(warehouse, table, start, end):
        raise EmptyPeriodError(
            f"{source.provenance} has no bar of {', '.join(bars) or 'any instrument'} between "
            f"{start:%Y-%m-%d} and {end:%Y-%m-%d}; choose a period that it covers"
        )


def stored(warehouse: Warehouse, table: str, start: datetime, end: datetime, instrument: str | None = None) -> int:
    """How many bars of an instrument, or of all, are stored."""
    if not warehouse.has_table(table):
        return 0
    count = warehouse.read(
        f"select count(*) as bars from {table} "  # noqa: S608 - our own names, values bound
        "where symbol = coalesce($symbol, symbol) and bar_start >= $start and bar_start < $end",
        {"symbol": instrument, "start": start, "end": end},
    )
    return int(count["bars"][0].as_py())
