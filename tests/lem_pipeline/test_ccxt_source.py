"""The ccxt source with recorded Binance answers, and its choice among several venues."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from time import monotonic

import ccxt
import dagster as dg
import pytest
from exchanges import BINANCE, BITSTAMP, COINBASE, OKX, SYMBOL, after, hourly, ms
from replay import in_turn

from lem_pipeline.errors import (
    ConfigurationError,
    UnknownSymbolError,
    VenueBlockedError,
    VenueRefusedError,
    VenueUnreachableError,
)
from lem_pipeline.replay.answers import Answer, Query, Route
from lem_pipeline.replay.server import ReplayServer
from lem_pipeline.sources.base import RAW_BARS
from lem_pipeline.sources.ccxt import CcxtBars
from lem_pipeline.sources.klines import SHAPES
from lem_pipeline.sources.patience import Patience
from lem_pipeline.sources.venue import Venue

MARKETS, CLOCK, KLINES = BINANCE.markets[0], BINANCE.clock[0], BINANCE.klines
RECORDED_START = datetime(2021, 10, 22, 23, 3, tzinfo=UTC)
RECORDED_END = RECORDED_START + timedelta(minutes=10)
DURING_LAST_BAR = RECORDED_END - timedelta(seconds=30)
START = datetime(2024, 1, 1, tzinfo=UTC)
BARS = hourly(START, 5)
BLOCKED = Answer({"code": 0, "msg": "Service unavailable from a restricted location"}, 451)


@pytest.fixture
def recorded(shared_data) -> list[list]:
    return json.loads((shared_data / "payloads/binance/klines-BTCUSDT-1m-10-2021.json").read_text())


@pytest.fixture
def binance(shared_data, recorded) -> Iterator[ReplayServer]:
    """Binance as it was recorded, a minute bar still open."""
    markets = json.loads((shared_data / "payloads/binance/exchangeInfo-2021-10-two-symbols.json").read_text())

    def klines(query: Query) -> Answer:
        since, until = int(query["startTime"]), int(query["endTime"])
        return Answer([kline for kline in recorded if since <= kline[0] <= until][: int(query["limit"])])

    routes = {MARKETS: Answer(markets), CLOCK: Answer({"serverTime": ms(DURING_LAST_BAR)}), KLINES: klines}
    with ReplayServer(routes) as server:
        yield server


@contextmanager
def several(routes: dict[str, Route] | None = None) -> Iterator[ReplayServer]:
    """Binance, OKX and Coinbase on one host, some of their answers replaced."""
    usual: dict[str, Route] = {}
    for exchange in (BINANCE, OKX, COINBASE):
        usual |= exchange.routes(BARS, after(BARS))
    with ReplayServer(usual | (routes or {})) as server:
        yield server


def source(server: ReplayServer, *venues: str, **settings) -> CcxtBars:
    return CcxtBars(**{"venues": list(venues) or ["binance"], "api_url": server.url, "backoff_s": 0.001} | settings)


def minutes(server: ReplayServer, symbol: str = SYMBOL, **settings) -> list[dict]:
    bars = source(server, bar_size="1m", **settings).fetch(symbol, RECORDED_START, RECORDED_END)
    assert bars.schema == RAW_BARS
    return bars.to_pylist()


def hours(bars: CcxtBars) -> list[dict]:
    return bars.fetch(SYMBOL, START, after(BARS)).to_pylist()


def test_bars_are_kept_as_recorded_but_for_the_one_that_was_still_open(binance, recorded):
    rows = minutes(binance)
    for row, kline in zip(rows, recorded[:-1], strict=True):
        assert ms(row["bar_start"]) == kline[0]
        assert [row["open"], row["high"], row["low"], row["close"]] == [float(x) for x in kline[1:5]]
        assert row["volume"] == float(kline[5])
        assert row["notional"] == float(kline[7])
        assert row["trade_count"] == kline[8]
        assert row["taker_buy_volume"] == float(kline[9])
        assert (row["symbol"], row["venue"]) == (SYMBOL, "binance")


def test_binanceus_speaks_the_same_klines(binance, recorded):
    rows = minutes(binance, venues=["binanceus"])
    assert [row["venue"] for row in rows] == ["binanceus"] * (len(recorded) - 1)


def test_a_bar_that_ends_during_the_download_is_left_for_next_time(binance, recorded):
    later = in_turn(binance.routes[CLOCK], Answer({"serverTime": ms(RECORDED_END)}))
    binance.routes[CLOCK] = later
    bars = source(binance, bar_size="1m")
    counts = [bars.fetch(SYMBOL, RECORDED_START, RECORDED_END).num_rows for _ in range(2)]
    assert counts == [len(recorded) - 1, len(recorded)]
    paths = [path for path, _ in binance.requests]
    assert paths.index(CLOCK) < paths.index(KLINES)


def test_markets_are_looked_up_once_for_many_fetches(binance):
    bars = source(binance, bar_size="1m")
    for symbol in ("BTC/USDT", "ETH/USDT", "BTC/USDT"):
        bars.fetch(symbol, RECORDED_START, RECORDED_END)
    assert len(binance.asked(MARKETS)) == 1
    assert [query["symbol"] for query in binance.asked(KLINES)] == ["BTCUSDT", "ETHUSDT", "BTCUSDT"]


def test_requests_keep_the_distance_that_the_venue_allows(binance):
    began = monotonic()
    for _ in range(2):
        minutes(binance)
    assert len(binance.requests) == 6
    assert monotonic() - began >= 4 * 0.05


def test_it_works_as_a_dagster_resource(binance, recorded):
    @dg.asset
    def rows(crypto: CcxtBars) -> None:
        crypto.check(["BTC/USDT", "ETH/USDT"])
        assert crypto.fetch("BTC/USDT", RECORDED_START, RECORDED_END).num_rows == len(recorded) - 1

    assert dg.materialize([rows], resources={"crypto": source(binance, bar_size="1m")}).success


def test_all_unknown_symbols_are_named_before_any_download(binance):
    with pytest.raises(UnknownSymbolError) as caught:
        source(binance).check(["BTC/USDT", "BTC/USTD", "ETH/USDT", "NO/SUCH"])
    assert str(caught.value) == (
        "binance has no spot market 'BTC/USTD' (did you mean BTC/USDT or ETH/USDT?), 'NO/SUCH'; "
        "symbols look like BTC/USDT."
    )
    assert {path for path, _ in binance.requests} == {MARKETS}


def test_an_unknown_symbol_is_not_fetched(binance):
    with pytest.raises(UnknownSymbolError, match="'NO/SUCH'"):
        minutes(binance, "NO/SUCH")
    assert not binance.asked(KLINES)


def test_known_symbols_pass_the_check(binance):
    source(binance).check(["BTC/USDT", "ETH/USDT"])


@pytest.mark.parametrize(
    ("venues", "sentence"),
    [
        (["binance", "krakn"], r"ccxt knows no venue 'krakn' \(did you mean kraken\?\)"),
        (["binance", "coinmate"], "coinmate serves no bars"),
    ],
)
def test_a_venue_that_cannot_serve_is_found_before_any_request_though_it_comes_second(venues, sentence):
    with several() as server, pytest.raises(ConfigurationError, match=sentence):
        source(server, *venues).check([SYMBOL])
    assert not server.requests


def test_a_bar_size_that_the_second_venue_lacks_is_found_before_any_request():
    with several() as server, pytest.raises(ConfigurationError, match=r"'3m'.*coinbaseexchange.*1m, 5m, 15m, 1h"):
        source(server, "binance", "coinbaseexchange", bar_size="3m").check([SYMBOL])
    assert not server.requests


def test_a_perpetual_is_no_spot_market():
    routes = BITSTAMP.routes(BARS, after(BARS))
    path, (spot,) = BITSTAMP.markets
    perpetual = spot | {"market_symbol": "btcusdt-perp", "market_type": "PERPETUAL", "payoff_type": "Linear"}
    with ReplayServer(routes | {path: Answer([spot, perpetual])}) as server:
        with pytest.raises(UnknownSymbolError, match="'BTC/USDT:USDT'"):
            source(server, "bitstamp").check([SYMBOL, "BTC/USDT:USDT"])


def test_a_venue_without_spot_markets_is_told_apart_from_a_misspelt_symbol():
    with several({MARKETS: Answer({"symbols": []})}) as server:
        with pytest.raises(ConfigurationError, match="binance lists no spot market"):
            source(server).check([SYMBOL])


@pytest.mark.parametrize("status", [451, 403])
@pytest.mark.parametrize("path", [MARKETS, CLOCK, KLINES])
def test_a_venue_that_refuses_the_country_makes_room_for_the_next(caplog, path, status):
    with several({path: Answer(BLOCKED.body, status)}) as server:
        rows = hours(source(server, "binance", "okx"))
    assert [row["venue"] for row in rows] == ["okx"] * len(BARS)
    assert f"binance refuses to serve this country or network (HTTP {status}). Asking okx instead." in caplog.messages


def test_a_venue_that_refused_is_not_asked_again():
    with several({MARKETS: BLOCKED, OKX.markets[0]: BLOCKED}) as server:
        bars = source(server, "binance", "okx", "coinbaseexchange")
        bars.check([SYMBOL])
        for _ in range(2):
            assert {row["venue"] for row in hours(bars)} == {"coinbaseexchange"}
    assert len(server.asked(MARKETS)) == len(server.asked(OKX.markets[0])) == 1
    assert not server.asked(CLOCK) + server.asked(KLINES)


def test_a_refusal_half_way_leaves_no_bar_of_the_first_venue():
    bars = hourly(START, 1500)
    answers = iter([BINANCE.answering(BINANCE.rows(bars))])
    okx = OKX.routes(bars, after(bars))

    def refuses_the_second_page(query: Query) -> Answer:
        first = next(answers, None)
        return first(query) if first else BLOCKED

    with several(okx | {KLINES: refuses_the_second_page, CLOCK: Answer({"serverTime": ms(after(bars))})}) as server:
        rows = source(server, "binance", "okx").fetch(SYMBOL, START, after(bars)).to_pylist()
    assert len(server.asked(KLINES)) == 2
    assert [ms(row["bar_start"]) for row in rows] == [bar.opened for bar in bars]
    assert {row["venue"] for row in rows} == {"okx"}


def test_venues_that_all_refuse_are_named_in_one_sentence():
    with several({MARKETS: BLOCKED, OKX.markets[0]: BLOCKED}) as server:
        bars = source(server, "binance", "okx")
        for _ in range(2):
            with pytest.raises(VenueBlockedError) as caught:
                bars.check([SYMBOL])
    assert str(caught.value) == (
        "Every configured venue (binance, okx) refuses to serve this country or network; "
        "configure another venue, such as kraken, or a bar archive."
    )
    assert len(server.requests) == 2


@pytest.mark.parametrize("outage", [Answer(status=503), Answer(status=500), Answer("<html>"), Answer(status=429)])
def test_an_outage_is_no_reason_to_mix_venues(outage):
    with several({KLINES: outage}) as server:
        with pytest.raises((VenueUnreachableError, VenueRefusedError)):
            hours(source(server, "binance", "okx", attempts=2))
    assert {path for path, _ in server.requests} == {MARKETS, CLOCK, KLINES}


def test_a_mirror_stands_in_for_every_host_of_a_venue_with_nested_addresses():
    with ReplayServer({}) as server, pytest.raises(VenueUnreachableError, match="HTTP 404"):
        source(server, "gate", attempts=1).check([SYMBOL])
    assert [path for path, _ in server.requests] == ["/api/v4/margin/currency_pairs"]


def test_the_first_bar_of_a_late_listing_is_told(caplog):
    with several() as server:
        source(server).fetch(SYMBOL, START - timedelta(days=1), after(BARS))
    assert any(
        "binance has no bar of BTC/USDT from 2023-12-31 00:00 to 2024-01-01 00:00" in line for line in caplog.messages
    )


def test_every_venue_of_ccxt_with_hourly_bars_can_be_configured():
    served = []
    for name in ccxt.exchanges:
        with suppress(ConfigurationError):
            Venue(name, "1h", "http://localhost", 1.0, Patience(name, 1, 0.0))
            served.append(name)
    assert len(served) > 80
    assert {*SHAPES, "coinbase", "coinbaseexchange", "gate", "htx", "kucoin", "mexc", "phemex"} <= set(served)


def test_provenance_names_the_venues_and_the_bar_size():
    assert CcxtBars(venues=["binance", "okx"]).provenance == "ccxt binance or okx spot bars, 1h"
