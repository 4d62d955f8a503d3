"""From a source to a raw table: incremental, safe to run twice, resumable instrument by instrument."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time

import pyarrow as pa

from lem_pipeline.errors import EmptyPeriodError
from lem_pipeline.settings import MarketSettings
from lem_pipeline.sources.base import BarSource
from lem_pipeline.storage import Warehouse, Written

Period = tuple[datetime, datetime]

LEDGER = "raw.fetched_periods"
LEDGER_SCHEMA = pa.schema(
    [
        ("raw_table", pa.string()),
        ("symbol", pa.string()),
        ("fetched_from", pa.timestamp("us", tz="UTC")),
        ("last_bar_start", pa.timestamp("us", tz="UTC")),
    ]
)


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
    """Fetch what earlier runs have not, and write each instrument's bars in one transaction.

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
    ledger = {} if refetch else fetched_periods(warehouse, table)
    result: Ingested | None = None
    bars: dict[str, int] = {}
    for number, instrument in enumerate(instruments, 1):
        bars[instrument] = 0
        for since, until in missing_periods(ledger.get(instrument, []), start, end):
            fetched = source.fetch(instrument, since, until)
            written = warehouse.replace_window(
                table,
                fetched,
                "symbol = $symbol and bar_start >= $since and bar_start < $until",
                {"symbol": instrument, "since": since, "until": until},
            )
            # After the bars: a run killed in between fetches them again and doubles nothing.
            _record(warehouse, table, instrument, since, fetched)
            bars[instrument] += len(fetched)
            log(
                f"{table}: {instrument} {len(fetched):,} bars since {since:%Y-%m-%d %H:%M} "
                f"({number}/{len(instruments)})"
            )
            result = Ingested(written, bars)
    if result is None or not any(bars.values()):
        raise EmptyPeriodError(
            f"{source.provenance} has no bar of {', '.join(instruments) or 'any instrument'} between "
            f"{start:%Y-%m-%d} and {end:%Y-%m-%d}; choose a period that it covers"
        )
    return result


def missing_periods(fetched: Sequence[Period], start: datetime, end: datetime) -> list[Period]:
    """The parts of ``[start, end)`` that no fetched period covers.

    A fetched period ends with its last bar, which is thus fetched once more and cannot stay half-formed.

    Example:
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


def fetched_periods(warehouse: Warehouse, table: str) -> dict[str, list[Period]]:
    """What earlier runs fetched of each instrument: the period's start, and the start of its last bar."""
    periods: dict[str, list[Period]] = {}
    if warehouse.has_table(LEDGER):
        for row in warehouse.read(f"from {LEDGER} where raw_table = $table", {"table": table}).to_pylist():
            periods.setdefault(row["symbol"], []).append((row["fetched_from"], row["last_bar_start"]))
    return periods


def _record(warehouse: Warehouse, table: str, instrument: str, since: datetime, fetched: pa.Table) -> None:
    if len(fetched):
        last = fetched["bar_start"][-1].as_py()
        row = {"raw_table": table, "symbol": instrument, "fetched_from": since, "last_bar_start": last}
        warehouse.replace_window(
            LEDGER,
            pa.Table.from_pylist([row], schema=LEDGER_SCHEMA),
            "raw_table = $raw_table and symbol = $symbol and fetched_from = $fetched_from",
            {name: row[name] for name in ("raw_table", "symbol", "fetched_from")},
        )


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
