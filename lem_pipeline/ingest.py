"""From a source to a raw table: incremental, safe to run twice, resumable instrument by instrument."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time

from lem_pipeline.errors import EmptyPeriodError
from lem_pipeline.settings import MarketSettings
from lem_pipeline.sources.base import BarSource
from lem_pipeline.storage import Warehouse, Written


@dataclass
class Ingested:
    """What one ingestion did.

    Attributes:
        written: The raw table afterwards.
        bars: Rows written per instrument.
    """

    written: Written
    bars: dict[str, int] = field(default_factory=dict)

    @property
    def empty(self) -> list[str]:
        """Instruments without a new bar in the period."""
        return [instrument for instrument, count in self.bars.items() if not count]


def wanted_period(market: MarketSettings, start: datetime, end: datetime) -> tuple[datetime, datetime]:
    """The part of a partition window that the settings ask for; empty where the end comes first."""
    since, until = _midnight(market.start), _midnight(market.end) if market.end else datetime.now(UTC)
    return max(start, since), min(end, until)


def ingest(
    source: BarSource,
    instruments: Sequence[str],
    warehouse: Warehouse,
    table: str,
    start: datetime,
    end: datetime,
    *,
    refetch: bool = False,
    log: Callable[[str], None] = print,
) -> Ingested:
    """Fetch each instrument's bars since its last stored one and write them in one transaction each.

    Args:
        source: Where bars come from.
        instruments: What to fetch.
        warehouse: Where bars go.
        table: The raw table.
        start: Start of the period, inclusive.
        end: End of the period, exclusive.
        refetch: Fetch the whole period again, also what is stored.
        log: Told about each instrument.

    Raises:
        EmptyPeriodError: No instrument has a bar in the period.
    """
    stored = {} if refetch else warehouse.last_bars(table, start, end)
    result: Ingested | None = None
    bars: dict[str, int] = {}
    for number, instrument in enumerate(instruments, 1):
        # The last stored bar is fetched again, so that a table never ends in a gap it does not know of.
        since = stored.get(instrument, start)
        fetched = source.fetch(instrument, since, end)
        written = warehouse.replace_window(
            table,
            fetched,
            "symbol = $symbol and bar_start >= $since and bar_start < $end",
            {"symbol": instrument, "since": since, "end": end},
        )
        bars[instrument] = len(fetched)
        log(f"{table}: {instrument} {len(fetched):,} bars since {since:%Y-%m-%d %H:%M} ({number}/{len(instruments)})")
        result = Ingested(written, bars)
    if result is None or not any(bars.values()):
        raise EmptyPeriodError(
            f"{source.provenance} has no bar of {', '.join(instruments) or 'any instrument'} between "
            f"{start:%Y-%m-%d} and {end:%Y-%m-%d}; choose a period that it covers"
        )
    return result


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
