"""From a source to a raw table: incremental, safe to run twice, resumable instrument by instrument."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time

import pyarrow as pa

from lem_pipeline.errors import (
    ConfigurationError,
    IncompleteIngestionError,
    LemError,
    UnknownSymbolError,
    VenueRefusedError,
)
from lem_pipeline.fetched import FETCHED, FETCHED_SCHEMA, Period, fetched_periods, missing_periods, note_fetched
from lem_pipeline.refusals import refuse_an_empty_period, refuse_to_lose, refuse_to_mix, stored
from lem_pipeline.revisions import REVISIONS, REVISIONS_SCHEMA, take_in
from lem_pipeline.settings.markets import MarketSettings
from lem_pipeline.sources.base import RAW_BARS, BarSource
from lem_pipeline.storage import Warehouse, create_if_missing, tables_in
from lem_pipeline.universe import ASSET_CLASSES, FIRST_MONTH, AssetClass

LOST_CAUSE = 3  # instruments that fail one after the other: the source is down, not the instrument


@dataclass
class Ingested:
    """What one ingestion did.

    Attributes:
        bars: Rows written per instrument.
        revisions: Values that a source gave differently from before, or twice in one answer.
        gone: Instruments that the source served once and does not know any more.
    """

    bars: dict[str, int] = field(default_factory=dict)
    revisions: int = 0
    gone: list[str] = field(default_factory=list)

    @property
    def empty(self) -> list[str]:
        """Instruments without a new bar in the period."""
        return [instrument for instrument, count in self.bars.items() if not count]


def wanted_period(market: MarketSettings, start: datetime, end: datetime) -> Period:
    """The part of a partition window that the settings ask for; empty where the end comes first."""
    since, until = _midnight(market.start), _midnight(market.end) if market.end else datetime.now(UTC)
    return max(start, since), min(end, until, datetime.now(UTC))


def make_ready(warehouse: Warehouse) -> None:
    """Create raw tables and their notes where they are missing, so that what reads them finds them without rows."""
    bars = {f"raw.{name}_bars": RAW_BARS for name in ASSET_CLASSES}
    schemas = {**bars, FETCHED: FETCHED_SCHEMA, REVISIONS: REVISIONS_SCHEMA}
    if not (schemas.keys() - warehouse.tables()):
        return
    with warehouse.transaction(*schemas) as connection:
        missing = schemas.keys() - tables_in(connection)
        for name in sorted(missing):
            create_if_missing(connection, name, schemas[name])
        for name in sorted(missing & bars.keys()):
            warehouse.divide(connection, name, "symbol")


def ingest(
    source: BarSource,
    asset: AssetClass,
    instruments: Sequence[str],
    warehouse: Warehouse,
    table: str,
    start: datetime,
    end: datetime,
    *,
    refetch: bool = False,
    is_share: bool = False,
    log: Callable[[str], None] = print,
) -> Ingested:
    """Fetch what has not settled yet, and write each answer in one transaction.

    An instrument that fails does not stop the others; a source that refuses, or is down for three in a row, stops. One
    that has bars and that the source does not know any more was delisted or renamed: that is noted, and no failure.

    Args:
        source: Where bars come from.
        asset: The family of the instruments; says when bars settle.
        instruments: What to fetch.
        warehouse: Where bars go.
        table: The raw table.
        start: Start of the period, inclusive.
        end: End of the period, exclusive.
        refetch: Fetch the whole period again, and drop stored bars that the source no longer has.
        is_share: Others fetch other instruments; whether any of all has a bar is not for this one to judge.
        log: Told about each answer.

    Raises:
        ConfigurationError: Simulated bars would come to stand among real ones, or real among simulated.
        UnknownSymbolError: The source does not know an instrument without bars, and says so before any download.
        IncompleteIngestionError: Some instruments could not be fetched; the others are stored.
        EmptyPeriodError: No instrument has a bar in a period that should hold some. An empty answer never takes the
            place of bars, and is noted as asked for, not as fetched.
    """
    refuse_to_mix(source, warehouse, table)
    done = Ingested(dict.fromkeys(instruments, 0), gone=_gone(source, instruments, warehouse, table))
    fetched = {} if refetch else fetched_periods(warehouse, table, asset, start, end)
    failed: dict[str, LemError] = {}
    in_a_row = 0
    for number, instrument in enumerate(instruments, 1):
        for since, until in missing_periods(fetched.get(instrument, []), start, end):
            try:
                answer = _answer(source, instrument, since, until, warehouse, table, done.gone)
                is_lacking = not len(answer) and asset.expects_bars(since, until)
                if is_lacking and instrument not in done.gone:
                    refuse_to_lose(warehouse, table, instrument, since, until)
            except ConfigurationError:
                raise
            except LemError as error:
                failed[instrument] = error
                log(f"{table}: {instrument} failed: {error} ({number}/{len(instruments)})")
                break
            keeps_all = instrument in done.gone
            revised = store(
                warehouse, table, instrument, answer, (since, until), drop_withdrawn=refetch and not keeps_all
            )
            done.bars[instrument] += len(answer)
            done.revisions += revised
            if is_lacking:
                why = "is not known to the source any more" if keeps_all else "has no bar"
                log(f"{table}: {instrument} {why} since {since:%Y-%m-%d %H:%M}; asked again next time")
                continue
            changes = f", {revised} values revised" if revised else ""
            log(
                f"{table}: {instrument} {len(answer):,} bars since {since:%Y-%m-%d %H:%M}{changes} "
                f"({number}/{len(instruments)})"
            )
        # To answer that it does not know an instrument, a source must be up.
        is_down = instrument in failed and not isinstance(failed[instrument], UnknownSymbolError)
        in_a_row = in_a_row + 1 if is_down else 0
        if in_a_row == LOST_CAUSE or isinstance(failed.get(instrument), VenueRefusedError):
            break
    if failed:
        raise IncompleteIngestionError(_what_failed(failed, instruments[number:], len(instruments)))
    if not is_share:
        refuse_an_empty_period(done.bars, source, asset, warehouse, table, start, end)
    return done


def together(shares: Sequence[Ingested], instruments: Sequence[str]) -> Ingested:
    """What the ingestions of shares of the instruments did, in the order of the instruments."""
    bars = {instrument: count for share in shares for instrument, count in share.bars.items()}
    return Ingested(
        {instrument: bars[instrument] for instrument in instruments if instrument in bars},
        sum(share.revisions for share in shares),
        [instrument for share in shares for instrument in share.gone],
    )


def store(
    warehouse: Warehouse, table: str, instrument: str, answer: pa.Table, period: Period, *, drop_withdrawn: bool = False
) -> int:
    """Write an answer, its revisions and the fact that its period was fetched: all or nothing.

    Returns:
        How many revisions were recorded.
    """
    seen_at = datetime.now(UTC)
    with warehouse.transaction(table, FETCHED, REVISIONS) as connection:
        revised = take_in(connection, table, instrument, answer, period, seen_at=seen_at, drop_withdrawn=drop_withdrawn)
        note_fetched(connection, table, instrument, period, seen_at, len(answer))
    return revised


def _gone(source: BarSource, instruments: Sequence[str], warehouse: Warehouse, table: str) -> list[str]:
    """Instruments that have bars and that the source does not know any more; one without bars is refused."""

    def is_unknown(instrument: str) -> bool:
        try:
            source.check([instrument])
        except UnknownSymbolError:
            return True
        return False

    try:
        source.check(instruments)
    except UnknownSymbolError:
        unknown = [instrument for instrument in instruments if is_unknown(instrument)]
        source.check([i for i in unknown if not stored(warehouse, table, FIRST_MONTH, datetime.now(UTC), i)])
        return unknown
    return []


def _answer(
    source: BarSource,
    instrument: str,
    since: datetime,
    until: datetime,
    warehouse: Warehouse,
    table: str,
    gone: list[str],
) -> pa.Table:
    if instrument not in gone:
        try:
            return source.fetch(instrument, since, until)
        except UnknownSymbolError:
            if not stored(warehouse, table, FIRST_MONTH, until, instrument):
                raise
            gone.append(instrument)
    return RAW_BARS.empty_table()


def _what_failed(failed: Mapping[str, LemError], not_asked: Sequence[str], count: int) -> str:
    named: dict[str, list[str]] = {}
    for instrument, error in failed.items():
        named.setdefault(str(error).rstrip("."), []).append(instrument)
    reasons = "; ".join(f"{', '.join(instruments)}: {reason}" for reason, instruments in named.items())
    rest = f", and {len(not_asked)} were not asked any more" if not_asked else ""
    return (
        f"{len(failed)} of {count} instruments could not be fetched{rest}, while all other answers are stored "
        f"({reasons}); run again to fetch only what is missing"
    )


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
