"""The real ccxt client against recorded and generated Binance answers."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from time import monotonic

import dagster as dg
import pytest
from replay import Answer, Query, ReplayServer, Route, in_turn

from lem_pipeline.errors import (
    ConfigurationError,
    UnknownSymbolError,
    VenueRefusedError,
    VenueUnreachableError,
)
from lem_pipeline.sources.base import RAW_BARS
from lem_pipeline.sources.ccxt import CcxtBars

HOUR_MS = 3_600_000
MARKETS, TIME, KLINES = "/api/v3/exchangeInfo", "/api/v3/time", "/api/v3/klines"
RECORDED_START = datetime(2021, 10, 22, 23, 3, tzinfo=UTC)
RECORDED_END = RECORDED_START + timedelta(minutes=10)
DURING_LAST_BAR = RECORDED_END - timedelta(seconds=30)
BLOCKED = Answer({"code": 0, "msg": "Service unavailable from a restricted location"}, status=451)


def ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def clock(now: datetime) -> Answer:
    return Answer({"serverTime": ms(now)})


def venue_of(klines: list[list]) -> Callable[[Query], Answer]:
    """Answers a klines query from a list, as Binance pages it."""

    def answer(query: Query) -> Answer:
        since, until = int(query["startTime"]), int(query["endTime"])
        return Answer([k for k in klines if since <= k[0] <= until][: int(query["limit"])])

    return answer


@pytest.fixture
def recorded(shared_data) -> list[list]:
    return json.loads((shared_data / "payloads/binance/klines-BTCUSDT-1m-10-2021.json").read_text())


@pytest.fixture
def hourly(recorded) -> list[list]:
    """2,500 hours from 2021 in the recorded shape."""
    start = ms(datetime(2021, 1, 1, tzinfo=UTC))
    opens = range(start, start + 2500 * HOUR_MS, HOUR_MS)
    return [[opened, *recorded[0][1:6], opened + HOUR_MS - 1, *recorded[0][7:]] for opened in opens]


@pytest.fixture
def binance(shared_data, recorded):
    """A context manager: the recorded venue, with some of its routes replaced."""
    markets = json.loads((shared_data / "payloads/binance/exchangeInfo-2021-10-two-symbols.json").read_text())

    @contextmanager
    def serve(routes: dict[str, Route] | None = None) -> Iterator[ReplayServer]:
        usual = {MARKETS: Answer(markets), TIME: clock(DURING_LAST_BAR), KLINES: venue_of(recorded)}
        with ReplayServer(usual | (routes or {})) as server:
            yield server

    return serve


def source(server: ReplayServer | str, **settings) -> CcxtBars:
    url = server if isinstance(server, str) else server.url
    return CcxtBars(**{"api_url": url, "bar_size": "1m", "backoff_s": 0.001} | settings)


def fetch(server: ReplayServer | str, symbol: str = "BTC/USDT", **settings):
    return source(server, **settings).fetch(symbol, RECORDED_START, RECORDED_END)


def test_notional_trade_count_and_taker_volume_are_kept_as_recorded(binance, recorded):
    with binance() as server:
        bars = fetch(server)
    assert bars.schema == RAW_BARS
    for row, kline in zip(bars.to_pylist(), recorded, strict=False):
        assert ms(row["bar_start"]) == kline[0]
        assert [row["open"], row["high"], row["low"], row["close"]] == [float(x) for x in kline[1:5]]
        assert row["volume"] == float(kline[5])
        assert row["notional"] == float(kline[7])
        assert row["trade_count"] == kline[8]
        assert row["taker_buy_volume"] == float(kline[9])
    assert set(bars["venue"].to_pylist()) == {"binance"}
    assert set(bars["price_basis"].to_pylist()) == {"as_traded"}
    assert set(bars["symbol"].to_pylist()) == {"BTC/USDT"}


def test_a_bar_that_the_venues_clock_says_is_open_is_left_out(binance, recorded):
    with binance() as server:
        while_open = fetch(server)
    with binance({TIME: clock(RECORDED_END)}) as server:
        once_closed = fetch(server)
    assert while_open.num_rows == len(recorded) - 1
    assert once_closed.num_rows == len(recorded)


def test_several_pages_join_into_one_ascending_run(binance, hourly):
    routes = {KLINES: venue_of(hourly), TIME: clock(datetime(2022, 1, 1, tzinfo=UTC))}
    with binance(routes) as server:
        bars = source(server, bar_size="1h").fetch(
            "BTC/USDT", datetime(2021, 1, 1, tzinfo=UTC), datetime(2022, 1, 1, tzinfo=UTC)
        )
    starts = bars["bar_start"].to_pylist()
    assert len(starts) == len(hourly)
    assert all(later - earlier == timedelta(hours=1) for earlier, later in pairwise(starts))
    assert len(server.asked(KLINES)) == 4


def test_a_venue_that_caps_its_pages_loses_nothing(binance, hourly):
    def capped(query: Query) -> Answer:
        return venue_of(hourly)(query | {"limit": "300"})

    routes = {KLINES: capped, TIME: clock(datetime(2022, 1, 1, tzinfo=UTC))}
    start = datetime(2021, 1, 1, tzinfo=UTC)
    with binance(routes) as server:
        bars = source(server, bar_size="1h").fetch("BTC/USDT", start, start + timedelta(hours=1000))
    assert bars.num_rows == 1000


def test_bars_outside_the_period_and_repeated_bars_are_dropped(binance, recorded):
    with binance({KLINES: Answer([*recorded, *reversed(recorded)]), TIME: clock(RECORDED_END)}) as server:
        bars = source(server).fetch(
            "BTC/USDT", RECORDED_START + timedelta(minutes=2), RECORDED_START + timedelta(minutes=5)
        )
    assert [ms(start) for start in bars["bar_start"].to_pylist()] == [kline[0] for kline in recorded[2:5]]


def test_a_page_that_does_not_advance_ends_in_an_error_instead_of_a_loop(binance, recorded):
    with binance({KLINES: Answer(recorded)}) as server, pytest.raises(VenueUnreachableError, match="again"):
        source(server).fetch("BTC/USDT", RECORDED_START, RECORDED_END + timedelta(hours=1))
    assert len(server.asked(KLINES)) == 2


def test_a_period_before_the_listing_is_a_table_without_rows(binance):
    with binance() as server:
        bars = source(server).fetch("BTC/USDT", RECORDED_START - timedelta(days=2), RECORDED_START - timedelta(days=1))
    assert bars.num_rows == 0
    assert bars.schema == RAW_BARS


def test_markets_are_looked_up_once_for_many_fetches(binance):
    with binance() as server:
        bars = source(server)
        for symbol in ("BTC/USDT", "ETH/USDT", "BTC/USDT"):
            bars.fetch(symbol, RECORDED_START, RECORDED_END)
    assert len(server.asked(MARKETS)) == 1
    assert [query["symbol"] for query in server.asked(KLINES)] == ["BTCUSDT", "ETHUSDT", "BTCUSDT"]


def test_it_works_as_a_dagster_resource(binance, recorded):
    @dg.asset
    def rows(crypto: CcxtBars) -> None:
        assert crypto.fetch("BTC/USDT", RECORDED_START, RECORDED_END).num_rows == len(recorded) - 1
        crypto.fetch("ETH/USDT", RECORDED_START, RECORDED_END)

    with binance() as server:
        assert dg.materialize([rows], resources={"crypto": source(server)}).success
    assert len(server.asked(MARKETS)) == 1


def test_a_bad_symbol_is_named_with_its_venue_before_any_download(binance):
    with binance() as server, pytest.raises(UnknownSymbolError, match=r"binance.*'FOO/USDT'"):
        fetch(server, "FOO/USDT")
    assert not server.asked(KLINES)


@pytest.mark.parametrize("bar_size", ["7m", "1M", ""])
def test_an_unsupported_bar_size_is_refused_before_any_request(binance, bar_size):
    with binance() as server, pytest.raises(ConfigurationError, match=f"'{bar_size}'.*1h"):
        fetch(server, bar_size=bar_size)
    assert not server.requests


def test_a_venue_of_another_shape_is_refused_in_a_sentence(closed_port):
    with pytest.raises(ConfigurationError, match=r"'kraken'.*binance, binanceus"):
        fetch(closed_port, venue="kraken")


def test_binanceus_speaks_the_same_klines(binance, recorded):
    with binance() as server:
        bars = fetch(server, venue="binanceus")
    assert set(bars["venue"].to_pylist()) == {"binanceus"}
    assert bars.num_rows == len(recorded) - 1


@pytest.mark.parametrize("status", [451, 403])
def test_a_refused_country_is_told_to_configure_another_venue_at_once(binance, status):
    refusal = Answer(BLOCKED.body, status=status)
    with binance({MARKETS: refusal}) as server, pytest.raises(VenueRefusedError, match="another venue"):
        fetch(server)
    assert len(server.requests) == 1


@pytest.mark.parametrize("path", [MARKETS, TIME, KLINES])
@pytest.mark.parametrize("status", [503, 500])
def test_two_outages_and_then_success_give_the_bars(binance, recorded, path, status):
    with binance() as server:
        outage = Answer("<html>busy</html>", status=status)
        usual = server.routes[path]
        answers = iter([outage, outage])
        server.routes[path] = lambda query: (
            next(answers, None) or (usual if isinstance(usual, Answer) else usual(query))
        )
        assert fetch(server).num_rows == len(recorded) - 1


def test_an_outage_that_stays_ends_after_the_last_attempt(binance):
    with binance({KLINES: Answer(status=503)}) as server:
        with pytest.raises(VenueUnreachableError, match=r"3 attempts \(HTTP 503\)"):
            fetch(server, attempts=3)
    assert len(server.asked(KLINES)) == 3


@pytest.mark.parametrize("status", [429, 418])
def test_a_rate_limit_waits_as_long_as_the_venue_asks(binance, recorded, status):
    limited = Answer({"code": -1003, "msg": "Too many requests."}, status, {"Retry-After": "1"})
    with binance({TIME: in_turn(limited, clock(DURING_LAST_BAR))}) as server:
        began = monotonic()
        bars = fetch(server)
    assert bars.num_rows == len(recorded) - 1
    assert monotonic() - began >= 1


def test_a_rate_limit_that_does_not_lift_is_a_refusal(binance):
    limited = Answer({"code": -1003, "msg": "Too many requests."}, 429)
    with binance({TIME: limited}) as server, pytest.raises(VenueRefusedError, match="2 attempts"):
        fetch(server, attempts=2)
    assert len(server.asked(TIME)) == 2


def test_a_ban_of_an_hour_is_not_waited_for(binance):
    banned = Answer({"code": -1003, "msg": "Way too many requests; IP banned."}, 418, {"Retry-After": "3600"})
    with binance({TIME: banned}) as server, pytest.raises(VenueRefusedError, match="3600 seconds"):
        fetch(server)
    assert len(server.asked(TIME)) == 1


def test_no_network_is_one_sentence(closed_port):
    with pytest.raises(VenueUnreachableError) as caught:
        fetch(closed_port)
    message = str(caught.value)
    assert message.startswith("binance could not be reached in 4 attempts")
    assert message.count(".") == 1
    assert "\n" not in message


@pytest.mark.parametrize("path", [MARKETS, TIME, KLINES])
def test_a_login_page_in_place_of_the_venue_is_not_taken_for_an_answer(binance, path):
    with binance({path: Answer("<html>Please log in</html>")}) as server:
        with pytest.raises(VenueUnreachableError, match="proxy"):
            fetch(server)


def test_provenance_names_the_venue_and_the_bar_size():
    assert CcxtBars().provenance == "ccxt binance spot klines, 1h"
