"""Ingestion into a real warehouse: incremental, safe to run twice, resumable; nothing is lost or silently replaced."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pandas as pd
import pyarrow as pa
import pytest
from warehouses import MONDAY, daily, execute, hourly, raw, read, run, with_raw_tables

from lem_pipeline.defs.ingest import bars_asset
from lem_pipeline.errors import (
    ConfigurationError,
    EmptyPeriodError,
    IncompleteIngestionError,
    LemError,
    UnknownSymbolError,
    VenueRefusedError,
    VenueUnreachableError,
)
from lem_pipeline.fetched import FETCHED
from lem_pipeline.ingest import Ingested, ingest, make_ready, wanted_period
from lem_pipeline.settings import settings
from lem_pipeline.settings.markets import MarketSettings
from lem_pipeline.settings.sources import SimulatedSource
from lem_pipeline.sources.simulated import SimulatedBars
from lem_pipeline.storage import Warehouse
from lem_pipeline.universe import CRYPTO_HOURLY, DOW_DAILY, AssetClass

SYMBOLS = ("BTC/USDT", "ETH/USDT", "BNB/USDT")
TABLE = "raw.crypto_bars"
START = datetime.fromisoformat(MONDAY).replace(tzinfo=UTC)
END = START + timedelta(hours=48)
FIRST_DAY_END = START + timedelta(hours=24)


@dataclass
class Venue:
    """A venue with a listing, that remembers what it was asked and may break down."""

    bars: pd.DataFrame
    breaks_at: dict[str, LemError] = field(default_factory=dict)
    delisted: set[str] = field(default_factory=set)
    asked: list[tuple[str, datetime, datetime]] = field(default_factory=list)
    provenance: str = "a test venue"

    def check(self, instruments: Sequence[str]) -> None:
        known = {*SYMBOLS, "AAPL", "BTC_USDT", "%"} - self.delisted
        if unknown := set(instruments) - known:
            raise UnknownSymbolError(f"a test venue does not know {', '.join(unknown)}")

    def fetch(self, instrument: str, start: datetime, end: datetime) -> pa.Table:
        self.asked.append((instrument, start, end))
        if instrument in self.breaks_at:
            raise self.breaks_at[instrument]
        inside = (self.bars["bar_start"] >= start) & (self.bars["bar_start"] < end)
        return raw(self.bars[inside & (self.bars["symbol"] == instrument)])


class _Unlisted(Venue):
    """A venue without a listing, as Yahoo: it learns that it does not know a symbol when asked for its bars."""

    def check(self, instruments: Sequence[str]) -> None:
        pass


@pytest.fixture
def listing() -> pd.DataFrame:
    return hourly(48, SYMBOLS)


@pytest.fixture
def warehouse(tmp_path) -> Warehouse:
    return Warehouse(path=str(tmp_path / "warehouse.duckdb"))


def take(
    venue: Venue,
    warehouse: Warehouse,
    start: datetime = START,
    end: datetime = END,
    asset: AssetClass = CRYPTO_HOURLY,
    symbols: Sequence[str] = SYMBOLS,
    **options,
) -> Ingested:
    table = f"raw.{asset.name}_bars"
    return ingest(venue, asset, symbols, warehouse, table, start, end, **{"log": lambda _: None} | options)


def stored(warehouse: Warehouse) -> pa.Table:
    return warehouse.read(f"from {TABLE} order by symbol, bar_start")


def revisions(warehouse: Warehouse) -> list[tuple]:
    columns = "symbol, bar_start, field, old_value, new_value, cause"
    found = read(warehouse, f"select {columns} from raw.revisions order by all")
    return list(found.astype(object).where(found.notna(), None).itertuples(index=False, name=None))


def sorted_raw(bars: pd.DataFrame) -> pa.Table:
    return raw(bars.sort_values(["symbol", "bar_start"]))


def same(left: pa.Table, right: pa.Table) -> bool:
    return left.cast(right.schema).equals(right)


def as_if_fetched(warehouse: Warehouse, when: datetime) -> None:
    """Turn back the clock of everything fetched so far."""
    execute(warehouse, f"update {FETCHED} set fetched_at = '{when.isoformat()}'")


def test_every_bar_of_the_period_is_stored_as_the_venue_sent_it(listing, warehouse):
    done = take(Venue(listing), warehouse)
    assert same(stored(warehouse), sorted_raw(listing))
    assert done.bars == dict.fromkeys(SYMBOLS, 48)
    assert done.empty == []
    assert revisions(warehouse) == []


def test_a_second_run_asks_only_for_what_has_not_been_fetched(listing, warehouse):
    venue = Venue(listing)
    take(venue, warehouse, end=FIRST_DAY_END)
    venue.asked.clear()
    done = take(venue, warehouse)
    assert venue.asked == [(symbol, FIRST_DAY_END, END) for symbol in SYMBOLS]
    assert done.bars == dict.fromkeys(SYMBOLS, 24)
    assert same(stored(warehouse), sorted_raw(listing))


@pytest.mark.parametrize("refetch", [False, True])
def test_running_twice_doubles_nothing(listing, warehouse, refetch):
    take(Venue(listing), warehouse)
    once = stored(warehouse)
    take(Venue(listing), warehouse, refetch=refetch)
    assert stored(warehouse).equals(once)
    assert revisions(warehouse) == []


def test_what_was_fetched_before_it_settled_is_fetched_again(listing, warehouse):
    venue = Venue(listing)
    take(venue, warehouse, end=START + timedelta(hours=40))
    as_if_fetched(warehouse, START + timedelta(hours=40))
    venue.asked.clear()
    take(venue, warehouse, end=START + timedelta(hours=41))
    unsettled_since = START + timedelta(hours=40) - CRYPTO_HOURLY.settles_after
    assert venue.asked == [(symbol, unsettled_since, START + timedelta(hours=41)) for symbol in SYMBOLS]
    assert len(stored(warehouse)) == 3 * 41


def test_a_late_bar_of_the_last_sessions_is_filled_in(warehouse):
    sessions = daily(10, ["AAPL"])
    opened = sessions["bar_start"].iloc[0].to_pydatetime()
    end = sessions["bar_start"].iloc[-1].to_pydatetime() + timedelta(days=1)
    dow = {"asset": DOW_DAILY, "symbols": ["AAPL"], "start": opened, "end": end}
    take(Venue(sessions.drop(index=8)), warehouse, **dow)
    as_if_fetched(warehouse, end)
    take(Venue(sessions), warehouse, **dow)
    assert same(warehouse.read("from raw.dow_bars order by bar_start"), raw(sessions))


def test_a_restated_value_is_recorded_with_what_it_was_before(listing, warehouse):
    take(Venue(listing), warehouse)
    revised = listing.copy()
    revised.loc[5, "close"] *= 1.01
    revised.loc[7, "notional"] = None
    revised.loc[9, "high"] *= 1 + 1e-9  # a vendor's rounding
    take(Venue(revised), warehouse, refetch=True)
    before, after, starts = listing["close"][5], revised["close"][5], listing["bar_start"]
    assert revisions(warehouse) == [
        ("BTC/USDT", starts[5], "close", before, after, "restated"),
        ("BTC/USDT", starts[7], "notional", listing["notional"][7], None, "restated"),
    ]
    assert same(stored(warehouse), sorted_raw(revised))


def test_a_bar_that_the_venue_withdraws_stays_and_is_recorded_once(listing, warehouse):
    take(Venue(listing), warehouse)
    for _ in range(2):
        as_if_fetched(warehouse, START + timedelta(hours=30))
        take(Venue(listing.drop(index=40)), warehouse)
    assert same(stored(warehouse), sorted_raw(listing))
    assert revisions(warehouse) == [("BTC/USDT", listing["bar_start"][40], "bar", None, None, "withdrawn")]


def test_refetching_drops_what_the_venue_has_withdrawn(listing, warehouse):
    take(Venue(listing), warehouse)
    venue = Venue(listing.drop(index=5))
    take(venue, warehouse, refetch=True)
    assert venue.asked == [(symbol, START, END) for symbol in SYMBOLS]
    assert same(stored(warehouse), sorted_raw(venue.bars))
    assert [row[-1] for row in revisions(warehouse)] == ["withdrawn"]


def test_of_a_bar_that_comes_twice_the_last_counts_and_both_are_recorded(listing, warehouse):
    twice = pd.concat([listing, listing.loc[[3, 4]]], ignore_index=True)
    twice.loc[len(listing), "close"] *= 1.02  # the later row of bar 3; bar 4 comes twice the same
    twice = twice.sort_values("bar_start", kind="stable")
    take(Venue(twice), warehouse)
    starts = listing["bar_start"]
    assert revisions(warehouse) == [
        ("BTC/USDT", starts[3], "bar", None, None, "repeated"),
        ("BTC/USDT", starts[3], "close", listing["close"][3], listing["close"][3] * 1.02, "repeated"),
        ("BTC/USDT", starts[4], "bar", None, None, "repeated"),
    ]
    kept = listing.copy()
    kept.loc[3, "close"] *= 1.02
    assert same(stored(warehouse), sorted_raw(kept))


def test_history_that_a_split_rescales_is_no_restatement(warehouse):
    sessions = daily(10, ["AAPL"])
    starts = sessions["bar_start"]
    opened, end = starts[0].to_pydatetime(), starts[9].to_pydatetime() + timedelta(days=1)
    dow = {"asset": DOW_DAILY, "symbols": ["AAPL"], "start": opened}
    before = sessions[:6].assign(splits_until=starts[5])
    take(Venue(before), warehouse, **dow, end=starts[6].to_pydatetime())
    as_if_fetched(warehouse, starts[5].to_pydatetime())

    after = sessions.assign(splits_until=starts[9], split_ratio=[1.0] * 7 + [4.0] + [1.0] * 2)
    after.loc[:5, ["open", "high", "low", "close"]] /= 4
    after.loc[:5, "volume"] *= 4
    after.loc[4, "volume"] *= 1.5
    done = take(Venue(after), warehouse, **dow, end=end)
    assert done.revisions == 1
    assert [(row[1], row[2]) for row in revisions(warehouse)] == [(starts[4], "volume")]


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


def test_a_period_in_which_no_bar_can_begin_and_end_may_be_empty(warehouse, listing):
    saturday, sunday = datetime(2024, 1, 6, tzinfo=UTC), datetime(2024, 1, 7, tzinfo=UTC)
    done = take(Venue(listing), warehouse, saturday, sunday, asset=DOW_DAILY, symbols=["AAPL"])
    assert done.bars == {"AAPL": 0}


def test_an_instrument_that_was_not_listed_yet_is_named_and_stops_nothing(listing, warehouse):
    done = take(Venue(listing[listing["symbol"] != "BNB/USDT"]), warehouse)
    assert done.empty == ["BNB/USDT"]
    assert len(stored(warehouse)) == 2 * 48


def test_a_symbol_that_reads_like_a_pattern_is_not_taken_for_another(listing, warehouse):
    take(Venue(listing), warehouse)
    done = take(Venue(listing), warehouse, symbols=["BTC_USDT", "%"])
    assert done.empty == ["BTC_USDT", "%"]


def test_bars_that_an_answer_lacks_at_its_end_are_asked_for_again(listing, warehouse):
    behind = START + timedelta(hours=30)
    take(Venue(listing[listing["bar_start"] < behind]), warehouse)
    venue = Venue(listing)
    take(venue, warehouse)
    assert venue.asked == [(symbol, behind, END) for symbol in SYMBOLS]
    assert same(stored(warehouse), sorted_raw(listing))


def test_a_weekend_at_the_end_of_a_period_is_not_asked_for_again(warehouse):
    sessions = daily(5, ["AAPL"])
    assert sessions["bar_start"].iloc[-1].day_name() == "Friday"
    opened, friday = (sessions["bar_start"].iloc[place].to_pydatetime() for place in (0, -1))
    week = {"asset": DOW_DAILY, "symbols": ["AAPL"], "start": opened, "end": friday + timedelta(days=3)}
    venue = Venue(sessions)
    take(venue, warehouse, **week)
    take(venue, warehouse, **week)
    assert len(venue.asked) == 1


def test_a_symbol_that_has_no_bars_any_more_is_missed_up_to_the_last_time_it_was_asked_for(tmp_path):
    listing = hourly(24 * 20, SYMBOLS)
    last = START + timedelta(days=9)
    alive = Venue(listing[(listing["symbol"] != "ETH/USDT") | (listing["bar_start"] < last)])
    warehouse = with_raw_tables(tmp_path)
    for day in range(8, 21):
        take(alive, warehouse, end=START + timedelta(days=day))
    run(warehouse, schemas=["staging", "bars", "quality"])
    (row,) = read(
        warehouse,
        "select symbol, reason, min(bar_start) as since, count(*) as bars from quality.gap_ledger group by all",
    ).to_dict("records")
    assert (row["symbol"], row["since"], row["bars"]) == ("ETH/USDT", pd.Timestamp(last), 11 * 24)
    assert row["reason"] == "no bar since the last one stored: delisted, renamed, or the source is behind"


@pytest.mark.parametrize("told", ["by the list of markets", "by each answer"])
@pytest.mark.parametrize("refetch", [False, True])
def test_a_symbol_that_the_source_no_longer_knows_keeps_its_bars_and_stops_nothing(listing, warehouse, told, refetch):
    take(Venue(listing), warehouse, end=FIRST_DAY_END)
    venue = Venue(listing)
    if told == "by the list of markets":
        venue.delisted = {"ETH/USDT"}
    else:
        venue.breaks_at = {"ETH/USDT": UnknownSymbolError("a test venue does not know ETH/USDT")}
    done = take(venue, warehouse, refetch=refetch)
    assert done.gone == ["ETH/USDT"]
    assert done.bars["BNB/USDT"] > 0
    kept = stored(warehouse).to_pandas().groupby("symbol").size()
    assert kept.to_dict() == {"BTC/USDT": 48, "ETH/USDT": 24, "BNB/USDT": 48}


def test_a_misspelt_symbol_is_refused_though_another_is_gone(listing, warehouse):
    take(Venue(listing), warehouse, end=FIRST_DAY_END)
    with pytest.raises(UnknownSymbolError, match=r"does not know NOPE$"):
        take(Venue(listing, delisted={"ETH/USDT"}), warehouse, symbols=[*SYMBOLS, "NOPE"])


def test_an_unknown_symbol_is_refused_before_anything_is_downloaded(listing, warehouse):
    venue = Venue(listing)
    with pytest.raises(UnknownSymbolError):
        take(venue, warehouse, symbols=["BTC/USDT", "NOPE/USDT"])
    assert venue.asked == []


def test_an_instrument_that_fails_does_not_lose_the_others_and_is_all_that_is_asked_for_next(listing, warehouse):
    outage = VenueUnreachableError("a test venue gave no bars; try again later.")
    with pytest.raises(IncompleteIngestionError) as caught:
        take(Venue(listing, breaks_at={"ETH/USDT": outage}), warehouse)
    assert str(caught.value) == (
        "1 of 3 instruments could not be fetched, while all other answers are stored (ETH/USDT: a test venue gave no "
        "bars; try again later); run again to fetch only what is missing"
    )
    assert stored(warehouse)["symbol"].unique().to_pylist() == ["BNB/USDT", "BTC/USDT"]

    venue = Venue(listing)
    take(venue, warehouse)
    assert [instrument for instrument, *_ in venue.asked] == ["ETH/USDT"]
    assert same(stored(warehouse), sorted_raw(listing))


def test_a_venue_that_refuses_is_not_asked_for_the_next_instrument(listing, warehouse):
    venue = Venue(listing, breaks_at={"BTC/USDT": VenueRefusedError("a test venue refuses")})
    with pytest.raises(IncompleteIngestionError, match="and 2 were not asked any more"):
        take(venue, warehouse)
    assert [instrument for instrument, *_ in venue.asked] == ["BTC/USDT"]


def test_a_venue_that_fails_three_times_in_a_row_is_given_up(listing, warehouse):
    outage = VenueUnreachableError("a test venue could not be reached")
    venue = Venue(listing, breaks_at=dict.fromkeys(SYMBOLS, outage))
    with pytest.raises(IncompleteIngestionError, match="and 3 were not asked any more") as caught:
        take(venue, warehouse, symbols=[*SYMBOLS, *SYMBOLS])
    assert str(caught.value).count("could not be reached") == 1
    assert len(venue.asked) == 3


def test_three_dead_symbols_in_a_row_do_not_keep_the_next_one_from_being_asked(listing, warehouse):
    dead = {symbol: UnknownSymbolError(f"a test venue does not know {symbol}") for symbol in ("ONE", "TWO", "THREE")}
    with pytest.raises(IncompleteIngestionError, match="3 of 4 instruments could not be fetched, while"):
        take(_Unlisted(listing, breaks_at=dead), warehouse, symbols=[*dead, "BTC/USDT"])
    assert len(stored(warehouse)) == 48


def test_an_interrupted_ingestion_ends_like_an_undisturbed_one(listing, warehouse, tmp_path):
    with pytest.raises(IncompleteIngestionError):
        take(Venue(listing, breaks_at={"BNB/USDT": VenueUnreachableError("away")}), warehouse)
    take(Venue(listing), warehouse)

    undisturbed = Warehouse(path=str(Path(tmp_path) / "undisturbed.duckdb"))
    take(Venue(listing), undisturbed)
    assert stored(warehouse).equals(stored(undisturbed))


def test_the_log_says_how_far_the_ingestion_is(listing, warehouse):
    lines: list[str] = []
    take(Venue(listing), warehouse, log=lines.append)
    assert lines[0] == "raw.crypto_bars: BTC/USDT 48 bars since 2024-01-01 00:00 (1/3)"
    assert len(lines) == 3


def test_a_period_extended_into_the_past_is_fetched_from_its_beginning(listing, warehouse):
    venue = Venue(listing)
    take(venue, warehouse, start=FIRST_DAY_END)
    take(venue, warehouse, start=START)
    assert same(stored(warehouse), sorted_raw(listing))


def test_a_table_that_nothing_was_asked_for_exists_without_rows_and_takes_bars_later(listing, warehouse):
    for _ in range(2):
        make_ready(warehouse)
    assert stored(warehouse).num_rows == 0
    assert revisions(warehouse) == []
    take(Venue(listing), warehouse)
    assert same(stored(warehouse), sorted_raw(listing))


@pytest.mark.parametrize("simulated_first", [False, True])
def test_simulated_bars_never_come_to_stand_among_real_ones(listing, warehouse, simulated_first):
    sources = [Venue(listing), SimulatedBars(asset_class="crypto", origin=MONDAY)]
    first, second = reversed(sources) if simulated_first else sources
    take(first, warehouse)
    before = stored(warehouse)
    with pytest.raises(ConfigurationError, match="must not mix with those of"):
        take(second, warehouse, end=END + timedelta(days=1), refetch=True)
    assert stored(warehouse).equals(before)


def test_a_month_between_two_fetched_ones_is_fetched(listing, warehouse):
    venue = Venue(listing)
    hours = [START + timedelta(hours=h) for h in (0, 10, 30)]
    take(venue, warehouse, start=hours[0], end=hours[1])
    take(venue, warehouse, start=hours[2])
    take(venue, warehouse)
    assert same(stored(warehouse), sorted_raw(listing))


def test_fetching_a_part_again_does_not_forget_that_the_rest_was_fetched(listing, warehouse):
    venue = Venue(listing)
    take(venue, warehouse)
    take(venue, warehouse, end=FIRST_DAY_END, refetch=True)
    venue.asked.clear()
    take(venue, warehouse)
    assert venue.asked == []


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


def test_an_asset_class_that_the_settings_leave_out_has_an_empty_raw_table(tmp_path, monkeypatch):
    monkeypatch.setenv("LEM_PROFILE", "archive-90m")
    settings.cache_clear()
    warehouse = Warehouse(path=str(tmp_path / "warehouse.duckdb"))
    try:
        done = dg.materialize(
            [bars_asset(DOW_DAILY)],
            resources={"sources": {}, "warehouse": warehouse},
            partition_key="2020-01-01",
        )
    finally:
        settings.cache_clear()
    (event,) = done.get_asset_materialization_events()
    assert event.materialization.metadata["note"].value == "the settings ask for no dow bars"
    assert warehouse.read("from raw.dow_bars").num_rows == 0
