"""Ingestion into a real warehouse: incremental, safe to run twice, resumable."""

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from warehouses import MONDAY, hourly, raw

from lem_pipeline.errors import EmptyPeriodError, VenueUnreachableError
from lem_pipeline.ingest import Ingested, ingest, wanted_period
from lem_pipeline.settings import MarketSettings, SimulatedSource
from lem_pipeline.storage import Warehouse

SYMBOLS = ("BTC/USDT", "ETH/USDT", "BNB/USDT")
TABLE = "raw.crypto_bars"
START = datetime.fromisoformat(MONDAY).replace(tzinfo=UTC)
END = START + timedelta(hours=48)
FIRST_DAY_END = START + timedelta(hours=24)


@dataclass
class Venue:
    """A venue with a listing, that remembers what it was asked and may break down."""

    bars: pd.DataFrame
    breaks_at: str | None = None
    asked: list[tuple[str, datetime, datetime]] = field(default_factory=list)
    provenance: str = "a test venue"

    def fetch(self, instrument: str, start: datetime, end: datetime) -> pa.Table:
        if instrument == self.breaks_at:
            raise VenueUnreachableError("a test venue could not be reached")
        self.asked.append((instrument, start, end))
        inside = (self.bars["bar_start"] >= start) & (self.bars["bar_start"] < end)
        return raw(self.bars[inside & (self.bars["symbol"] == instrument)])


@pytest.fixture
def listing() -> pd.DataFrame:
    return hourly(48, SYMBOLS)


@pytest.fixture
def warehouse(tmp_path) -> Warehouse:
    return Warehouse(path=str(tmp_path / "warehouse.duckdb"))


def take(venue: Venue, warehouse: Warehouse, start: datetime = START, end: datetime = END, **options) -> Ingested:
    return ingest(venue, SYMBOLS, warehouse, TABLE, start, end, log=lambda _: None, **options)


def stored(warehouse: Warehouse) -> pa.Table:
    return warehouse.read(f"from {TABLE} order by symbol, bar_start")


def sorted_raw(bars: pd.DataFrame) -> pa.Table:
    return raw(bars.sort_values(["symbol", "bar_start"]))


def same(left: pa.Table, right: pa.Table) -> bool:
    return left.cast(right.schema).equals(right)


def test_every_bar_of_the_period_is_stored_as_the_venue_sent_it(listing, warehouse):
    done = take(Venue(listing), warehouse)
    assert same(stored(warehouse), sorted_raw(listing))
    assert done.bars == dict.fromkeys(SYMBOLS, 48)
    assert done.written.rows == 3 * 48
    assert done.empty == []


def test_a_second_run_asks_from_the_last_stored_bar_on(listing, warehouse):
    venue = Venue(listing)
    take(venue, warehouse, end=FIRST_DAY_END)
    venue.asked.clear()
    done = take(venue, warehouse)
    last_stored = FIRST_DAY_END - timedelta(hours=1)
    assert venue.asked == [(symbol, last_stored, END) for symbol in SYMBOLS]
    assert done.bars == dict.fromkeys(SYMBOLS, 25)
    assert same(stored(warehouse), sorted_raw(listing))


def test_running_twice_doubles_nothing(listing, warehouse):
    take(Venue(listing), warehouse)
    once = stored(warehouse)
    assert take(Venue(listing), warehouse).written.rows == len(once)
    assert stored(warehouse).equals(once)


def test_refetching_asks_for_the_whole_period_and_takes_over_revisions(listing, warehouse):
    take(Venue(listing), warehouse)
    revised = listing.assign(close=listing["close"] * 1.01)
    venue = Venue(revised.drop(index=5))
    take(venue, warehouse, refetch=True)
    assert venue.asked == [(symbol, START, END) for symbol in SYMBOLS]
    assert same(stored(warehouse), sorted_raw(revised.drop(index=5)))


def test_without_refetching_only_the_last_bar_is_revised(listing, warehouse):
    take(Venue(listing), warehouse)
    revised = listing.assign(close=listing["close"] * 1.01)
    take(Venue(revised), warehouse)
    last = listing["bar_start"] == END - timedelta(hours=1)
    assert same(stored(warehouse), sorted_raw(listing.where(~last, revised)))


def test_bars_outside_the_period_stay_as_they_are(listing, warehouse):
    take(Venue(listing), warehouse)
    revised = Venue(listing.assign(close=listing["close"] * 1.01))
    take(revised, warehouse, START + timedelta(hours=10), START + timedelta(hours=20), refetch=True)
    inside = (listing["bar_start"] >= START + timedelta(hours=10)) & (
        listing["bar_start"] < START + timedelta(hours=20)
    )
    assert same(stored(warehouse), sorted_raw(listing.where(~inside, revised.bars)))


def test_a_period_without_any_bar_is_explained_in_one_sentence(listing, warehouse):
    with pytest.raises(EmptyPeriodError) as caught:
        take(Venue(listing), warehouse, datetime(2010, 1, 1, tzinfo=UTC), datetime(2010, 2, 1, tzinfo=UTC))
    assert str(caught.value) == (
        "a test venue has no bar of BTC/USDT, ETH/USDT, BNB/USDT between 2010-01-01 and 2010-02-01; "
        "choose a period that it covers"
    )


def test_an_instrument_that_was_not_listed_yet_is_named_and_stops_nothing(listing, warehouse):
    done = take(Venue(listing[listing["symbol"] != "BNB/USDT"]), warehouse)
    assert done.empty == ["BNB/USDT"]
    assert done.written.rows == 2 * 48


def test_an_interrupted_ingestion_goes_on_where_it_stopped(listing, warehouse, tmp_path):
    with pytest.raises(VenueUnreachableError):
        take(Venue(listing, breaks_at="BNB/USDT"), warehouse)
    assert stored(warehouse)["symbol"].unique().to_pylist() == ["BTC/USDT", "ETH/USDT"]
    take(Venue(listing), warehouse)

    undisturbed = Warehouse(path=str(Path(tmp_path) / "undisturbed.duckdb"))
    take(Venue(listing), undisturbed)
    assert stored(warehouse).equals(stored(undisturbed))


def test_the_log_says_how_far_the_ingestion_is(listing, warehouse):
    lines: list[str] = []
    ingest(Venue(listing), SYMBOLS, warehouse, TABLE, START, END, log=lines.append)
    assert lines[0] == "raw.crypto_bars: BTC/USDT 48 bars since 2024-01-01 00:00 (1/3)"
    assert len(lines) == 3


def test_a_period_extended_into_the_past_is_fetched_from_its_beginning(listing, warehouse):
    venue = Venue(listing)
    take(venue, warehouse, start=FIRST_DAY_END)
    take(venue, warehouse, start=START)
    assert same(stored(warehouse), sorted_raw(listing))


def test_a_month_between_two_fetched_ones_is_fetched(listing, warehouse):
    venue = Venue(listing)
    hours = [START + timedelta(hours=h) for h in (0, 10, 30)]
    take(venue, warehouse, start=hours[0], end=hours[1])
    take(venue, warehouse, start=hours[2])
    take(venue, warehouse)
    assert same(stored(warehouse), sorted_raw(listing))


def market(start: date, end: date | None = None) -> MarketSettings:
    return MarketSettings(bars=SimulatedSource(source="simulated"), instruments=["BTC/USDT"], start=start, end=end)


def month(number: int) -> datetime:
    return datetime(2024, number, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        (market(date(2023, 1, 1), date(2025, 1, 1)), (month(2), month(3))),
        (market(date(2024, 2, 10), date(2025, 1, 1)), (datetime(2024, 2, 10, tzinfo=UTC), month(3))),
        (market(date(2023, 1, 1), date(2024, 2, 20)), (month(2), datetime(2024, 2, 20, tzinfo=UTC))),
    ],
)
def test_a_partition_is_clipped_to_the_period_of_the_settings(settings, wanted):
    assert wanted_period(settings, month(2), month(3)) == wanted


@pytest.mark.parametrize("settings", [market(date(2024, 5, 1)), market(date(2023, 1, 1), date(2024, 1, 1))])
def test_a_partition_outside_the_period_of_the_settings_is_empty(settings):
    start, end = wanted_period(settings, month(2), month(3))
    assert end <= start


def test_a_period_without_an_end_reaches_up_to_now():
    before = datetime.now(UTC)
    _, end = wanted_period(market(date(2023, 1, 1)), month(2), before + timedelta(days=400))
    assert before <= end <= datetime.now(UTC)
