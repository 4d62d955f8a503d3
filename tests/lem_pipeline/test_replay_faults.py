"""What each fault of a replayed venue leads to in the real client: the right bars, a clear error, or wrong bars."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

import pyarrow as pa
import pytest
from markets import (
    AFTER_LAST_DAY,
    AFTER_LAST_HOUR,
    FIRST_DAY,
    FIRST_HOUR,
    SPLIT_DAY,
    SPLIT_RATIO,
    crypto_archive,
    dow_archive,
)

from lem_pipeline.errors import VenueRefusedError, VenueUnreachableError
from lem_pipeline.replay import binance, yahoo
from lem_pipeline.replay.bars import Clock
from lem_pipeline.replay.catalogue import parse
from lem_pipeline.replay.server import ReplayServer
from lem_pipeline.replay.wire_faults import Timeout
from lem_pipeline.sources.ccxt import CcxtBars
from lem_pipeline.sources.yfinance import YFinanceBars

pytestmark = pytest.mark.usefixtures("no_remembered_zones")

PRICES = ("open", "high", "low", "close")
COLUMNS = (
    *PRICES,
    "volume",
    "notional",
    "trade_count",
    "taker_buy_volume",
    "adjusted_close",
    "dividend",
    "split_ratio",
)
Rows = dict[datetime, dict]


@dataclass
class Venue:
    """A replayed venue, the real client that asks it, and what it answers while nothing is wrong."""

    server: ReplayServer
    said: list[str]
    path: str
    fetch: Callable[[], pa.Table]
    right: Rows = field(init=False)

    def __post_init__(self) -> None:
        self.right = by_start(self.fetch())

    def fetch_with(self, fault: str) -> pa.Table:
        """Fetch while bars are asked for with this fault, and make sure that it struck."""
        (parsed,) = parse(fault)
        aimed = parsed.model_copy(update={"path": self.path})
        self.said.clear()
        try:
            with self.server.faults.add(aimed):
                return self.fetch()
        finally:
            assert any(line.endswith(str(aimed)) for line in self.said)

    def changed_by(self, fault: str) -> tuple[Rows, Rows]:
        """The bars that differ because of a fault: as they arrived, and as they should have been."""
        arrived = by_start(self.fetch_with(fault))
        changed = {start: row for start, row in arrived.items() if row != self.right[start]}
        return changed, {start: self.right[start] for start in changed}


def by_start(bars: pa.Table) -> Rows:
    return {row["bar_start"]: {name: row[name] for name in COLUMNS} for row in bars.to_pylist()}


@pytest.fixture(scope="module")
def said() -> list[str]:
    return []


@pytest.fixture(scope="module")
def server(tmp_path_factory, said) -> Iterator[ReplayServer]:
    folder, clock = tmp_path_factory.mktemp("archive"), Clock(AFTER_LAST_HOUR)
    routes = binance.routes(crypto_archive(folder), ["BTC/USDT"], clock) | yahoo.routes(dow_archive(folder), clock)
    with ReplayServer(routes, clock=clock, log=said.append) as server:
        yield server


@pytest.fixture(scope="module")
def exchange(server, said) -> Venue:
    def fetch() -> pa.Table:
        # A source of its own each time: one that was refused does not ask again.
        return CcxtBars(api_url=server.url, backoff_s=0.001).fetch("BTC/USDT", FIRST_HOUR, AFTER_LAST_HOUR)

    return Venue(server, said, "klines", fetch)


@pytest.fixture(scope="module")
def vendor(server, said) -> Venue:
    client = YFinanceBars(api_url=server.url, backoff_s=0.001)
    return Venue(server, said, "chart", lambda: client.fetch("AAPL", FIRST_DAY, AFTER_LAST_DAY))


@pytest.fixture(params=["exchange", "vendor"])
def venue(request) -> Venue:
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize(
    "fault",
    [
        "connection-reset:first=3",
        "status:code=429,first=3",
        "status:code=503,first=3",
        "truncated-body:first=3",
        "html-page:first=3",
        "slow-drip:piece_bytes=9999,pause_s=0.01",
        "unordered-bars",
        "duplicated-bar",
    ],
)
def test_a_fault_that_passes_or_can_be_seen_through_gives_the_right_bars(venue, fault):
    assert by_start(venue.fetch_with(fault)) == venue.right


def test_a_bar_contradicted_by_its_double_keeps_its_prices(venue):
    arrived = by_start(venue.fetch_with("contradicted-bar"))
    assert {start: row["close"] for start, row in arrived.items()} == {
        start: row["close"] for start, row in venue.right.items()
    }


@pytest.mark.parametrize(
    ("fault", "error", "reason"),
    [
        ("connection-reset", VenueUnreachableError, r"4 attempts \((Network|Connection)Error\)"),
        ("status:code=503", VenueUnreachableError, "HTTP 503"),
        ("status:code=429", VenueRefusedError, "limits this client's rate"),
        ("status:code=451", VenueRefusedError, "refuses to serve"),
        ("truncated-body", VenueUnreachableError, "check the network"),
        ("html-page", VenueUnreachableError, "check the network"),
    ],
)
def test_a_fault_that_stays_is_one_clear_sentence(venue, fault, error, reason):
    with pytest.raises(error, match=reason) as caught:
        venue.fetch_with(fault)
    message = str(caught.value)
    assert message.endswith(".")
    assert message.count(".") == 1
    assert "\n" not in message


def test_a_ban_by_the_exchange_is_not_waited_for(exchange):
    with pytest.raises(VenueRefusedError, match="3600 seconds"):
        exchange.fetch_with("status:code=418,retry_after_s=3600")


@pytest.mark.parametrize("fault", ["no-bars", "nan-field"])
def test_a_chart_without_prices_or_numbers_is_an_error(vendor, fault):
    with pytest.raises(VenueUnreachableError, match=r"no bars of AAPL in 4 attempts \((an answer without|JSONDecode)"):
        vendor.fetch_with(fault)


def test_an_exchange_without_klines_is_a_table_without_rows(exchange):
    assert exchange.fetch_with("no-bars").num_rows == 0


def test_a_missing_bar_is_not_made_up(venue):
    missing = venue.right.keys() - by_start(venue.fetch_with("missing-bar")).keys()
    assert len(missing) == (2 if venue.path == "klines" else 1)  # one of every page


@pytest.mark.parametrize(
    ("venue", "fault"),
    [("exchange", "null-field"), ("exchange", "nan-field"), ("vendor", "null-field")],
    indirect=["venue"],
)
def test_prices_that_the_venue_leaves_out_arrive_as_nulls(venue, fault):
    changed, right = venue.changed_by(fault)
    assert changed
    for start, row in changed.items():
        assert [row[price] for price in PRICES] == [None] * 4
        assert row["volume"] == right[start]["volume"]


@pytest.mark.parametrize("column", ["volume", "notional", "taker_buy_volume"])
def test_a_number_that_the_exchange_leaves_out_arrives_as_null(exchange, column):
    changed, right = exchange.changed_by(f"null-field:field={column}")
    assert changed == {start: row | {column: None} for start, row in right.items()}
    assert len(changed) == 2


def test_a_volume_that_yahoo_leaves_out_arrives_as_zero(vendor):
    changed, right = vendor.changed_by("null-field:field=volume")
    assert changed == {start: row | {"volume": 0.0} for start, row in right.items()}
    assert len(changed) == 1


def test_a_price_a_hundred_times_too_large_arrives(venue):
    changed, right = venue.changed_by("mispriced-bar")
    assert changed
    for start, row in changed.items():
        assert [row[price] for price in PRICES] == [100 * right[start][price] for price in PRICES]
        assert row["volume"] == right[start]["volume"]


def test_a_half_formed_bar_that_the_clock_calls_closed_arrives_and_is_mended_by_the_next_fetch(venue):
    changed, right = venue.changed_by("half-formed-bar:elapsed=0.25")
    last = max(venue.right)
    assert changed[last]["volume"] == right[last]["volume"] / 4
    assert changed[last]["open"] == right[last]["open"]
    assert by_start(venue.fetch()) == venue.right


def test_an_invented_split_arrives_without_a_change_of_price(vendor):
    changed, right = vendor.changed_by("invented-split:ratio=3")
    assert changed == {start: row | {"split_ratio": 3.0} for start, row in right.items()}
    assert len(changed) == 1


def test_an_unapplied_split_arrives_with_prices_as_they_were_traded(vendor):
    changed, right = vendor.changed_by("unapplied-split")
    assert changed.keys() == {start for start in vendor.right if start < SPLIT_DAY}
    for start, row in changed.items():
        assert row["close"] == right[start]["close"] * SPLIT_RATIO
        assert row["volume"] == right[start]["volume"] / SPLIT_RATIO


@pytest.mark.parametrize("client", [CcxtBars, YFinanceBars])
def test_a_venue_that_never_answers_is_given_up_after_the_attempts(server, client):
    impatient = client(api_url=server.url, timeout_s=0.1, attempts=2, backoff_s=0.001)
    instrument = "AAPL" if client is YFinanceBars else "BTC/USDT"
    with server.faults.add(Timeout()), pytest.raises(VenueUnreachableError, match=r"2 attempts \(.*Timeout\)"):
        impatient.fetch(instrument, FIRST_DAY, AFTER_LAST_HOUR)
