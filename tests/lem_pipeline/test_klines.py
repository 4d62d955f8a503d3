"""One contract for the klines of every venue, through the real ccxt client, and what is special about each."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from exchanges import (
    BINANCE,
    BITSTAMP,
    BYBIT,
    COINBASE,
    EXCHANGES,
    KRAKEN,
    OKX,
    SYMBOL,
    Bar,
    Exchange,
    after,
    hourly,
    ms,
)

from lem_pipeline.errors import ConfigurationError, HistoryUnavailableError, VenueUnreachableError
from lem_pipeline.replay.answers import Answer, Query, Route
from lem_pipeline.replay.server import ReplayServer
from lem_pipeline.sources.base import RAW_BARS
from lem_pipeline.sources.ccxt import CcxtBars

pytestmark = pytest.mark.usefixtures("unthrottled")

START = datetime(2024, 1, 1, tzinfo=UTC)
RAW = (BINANCE, OKX, BYBIT, KRAKEN)
NEWEST_FIRST = (OKX, BYBIT, COINBASE)


def of(*exchanges: Exchange) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("exchange", exchanges, ids=str)


def source(server: ReplayServer, exchange: Exchange, **settings) -> CcxtBars:
    return CcxtBars(**{"venues": [exchange.name], "api_url": server.url, "backoff_s": 0.001} | settings)


def served(
    exchange: Exchange,
    bars: list[Bar],
    start: datetime = START,
    end: datetime | None = None,
    now: datetime | None = None,
    klines: Route | None = None,
) -> list[dict]:
    """What the source makes of an exchange that has these bars, or answers queries for klines like this."""
    routes = exchange.routes(bars, now or after(bars))
    with ReplayServer(routes | ({exchange.klines: klines} if klines else {})) as server:
        table = source(server, exchange).fetch(SYMBOL, start, end or after(bars))
    assert table.schema == RAW_BARS
    return table.to_pylist()


def opened(rows: list[dict]) -> list[int]:
    return [ms(row["bar_start"]) for row in rows]


def edited(exchange: Exchange, bars: list[Bar], edit: Callable[[list], list]) -> Route:
    """The exchange, with its third row changed."""
    rows = exchange.rows(bars)
    rows[2] = (rows[2][0], edit(rows[2][1]))
    return exchange.answering(rows)


@of(*EXCHANGES)
def test_what_the_venue_tells_is_kept_and_the_rest_is_null(exchange):
    bars = hourly(START, 5)
    for row, bar in zip(served(exchange, bars), bars, strict=True):
        assert ms(row["bar_start"]) == bar.opened
        assert [row[name] for name in ("open", "high", "low", "close", "volume")] == list(bar[1:6])
        assert row["notional"] == (pytest.approx(bar.vwap * bar.volume, rel=1e-15) if exchange in RAW else None)
        assert row["trade_count"] == (bar.trades if exchange in (BINANCE, KRAKEN) else None)
        assert row["taker_buy_volume"] == (bar.volume / 2 if exchange is BINANCE else None)
        assert row["venue"] == exchange.name


@of(*EXCHANGES)
def test_nothing_is_asked_but_markets_clock_and_klines_of_the_host_that_stands_in(exchange):
    bars = hourly(START, 5)
    with ReplayServer(exchange.routes(bars, after(bars))) as server:
        source(server, exchange).fetch(SYMBOL, START, after(bars))
    clock = exchange.clock[:1] if exchange.clock else ()
    assert {path for path, _ in server.requests} == {exchange.markets[0], *clock, exchange.klines}


@of(*(exchange for exchange in EXCHANGES if exchange.clock))
def test_a_bar_that_the_venues_clock_says_is_open_is_left_out(exchange):
    bars = hourly(START, 5)
    assert len(served(exchange, bars, now=after(bars, timedelta(seconds=-1)))) == 4
    assert len(served(exchange, bars, now=after(bars))) == 5


def test_without_a_venues_clock_a_bar_counts_as_open_for_another_minute():
    now = datetime.now(UTC).replace(microsecond=0)
    half_an_hour_ago, half_a_minute_ago = (
        Bar(ms(now - timedelta(hours=1) - ended), *hourly(START, 1)[0][1:])
        for ended in (timedelta(minutes=30), timedelta(seconds=30))
    )
    bars = [half_an_hour_ago, half_a_minute_ago]
    rows = served(BITSTAMP, bars, start=now - timedelta(hours=2), end=now)
    assert opened(rows) == [half_an_hour_ago.opened]


def test_a_bar_that_okx_calls_unfinished_is_left_out_whatever_the_clock_says():
    bars = hourly(START, 5)
    rows = served(OKX, bars, klines=edited(OKX, bars, lambda row: [*row[:-1], "0"]))
    assert opened(rows) == [bar.opened for bar in bars if bar is not bars[2]]


@of(BINANCE, OKX, BYBIT, COINBASE, BITSTAMP)
def test_a_long_history_with_an_outage_is_paged_without_loss(exchange):
    listed = START + timedelta(days=60)
    bars = hourly(listed, 900) + hourly(listed + timedelta(days=150), 1600)
    with ReplayServer(exchange.routes(bars, after(bars))) as server:
        table = source(server, exchange).fetch(SYMBOL, START, after(bars))
    assert opened(table.to_pylist()) == [bar.opened for bar in bars]
    assert len(server.asked(exchange.klines)) >= 3


@of(BINANCE, OKX, BYBIT)
def test_a_venue_that_caps_its_pages_loses_nothing(exchange):
    bars = hourly(START, 500)
    usual = exchange.answering(exchange.rows(bars))
    rows = served(exchange, bars, klines=lambda query: usual(query | {"limit": "90"}))
    assert opened(rows) == [bar.opened for bar in bars]


@of(BINANCE, OKX, BYBIT, COINBASE, BITSTAMP)
def test_an_empty_page_in_the_middle_is_asked_for_again(exchange):
    bars = hourly(START, 2100)
    usual = exchange.answering(exchange.rows(bars))
    asked = []

    def hiccup(query: Query) -> Answer:
        asked.append(query)
        return Answer(exchange.wrapped([])) if len(asked) == 2 else usual(query)

    assert opened(served(exchange, bars, klines=hiccup)) == [bar.opened for bar in bars]
    assert asked[1] == asked[2]


@of(*EXCHANGES)
def test_a_period_without_bars_is_a_table_without_rows(exchange):
    bars = hourly(START, 5)
    assert served(exchange, bars, start=START - timedelta(days=2), end=START - timedelta(days=1)) == []


@of(*EXCHANGES)
def test_rows_outside_the_period_are_dropped_and_rows_out_of_order_are_sorted(exchange):
    bars = hourly(START, 100)
    rows = exchange.rows(bars)
    Random(0).shuffle(rows)
    everything = Answer(exchange.wrapped([row for _, row in rows]))
    start, end = START + timedelta(hours=20), START + timedelta(hours=50)
    assert opened(served(exchange, bars, start, end, klines=everything)) == [bar.opened for bar in bars[20:50]]


@of(*EXCHANGES)
def test_a_bar_that_the_venue_repeats_is_passed_on_as_often_in_the_order_received(exchange):
    bars = hourly(START, 6)
    repeated = [*bars[:4], bars[3]._replace(close=99.5), *bars[4:]]
    rows = served(exchange, bars, klines=exchange.answering(exchange.rows(repeated)))
    assert opened(rows) == [bar.opened for bar in repeated]
    closes = [bars[3].close, 99.5]
    assert [row["close"] for row in rows[3:5]] == (closes[::-1] if exchange in NEWEST_FIRST else closes)


@of(BINANCE, OKX, BYBIT)
def test_a_page_that_does_not_advance_is_an_error_instead_of_a_loop(exchange):
    bars = hourly(START, 50)
    same = Answer(exchange.wrapped([row for _, row in exchange.rows(bars[20:30])]))
    with pytest.raises(VenueUnreachableError, match=f"the same {exchange} 1h bars of BTC/USDT again and again"):
        served(exchange, bars, klines=same)


@pytest.mark.parametrize("nothing", [None, "", "NaN"])
@of(*EXCHANGES)
def test_a_field_without_a_number_is_null(exchange, nothing):
    bars = hourly(START, 5)
    volume = bars[2].volume

    def without_volume(row):
        if isinstance(row, dict):
            return row | {"volume": nothing}
        return [nothing if value in (volume, str(volume)) else value for value in row]

    rows = served(exchange, bars, klines=edited(exchange, bars, without_volume))
    assert [row["volume"] for row in rows] == [bar.volume if bar is not bars[2] else None for bar in bars]
    assert [row["close"] for row in rows] == [bar.close for bar in bars]


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (lambda row: row[:-1], "a row of"),
        (lambda row: [*row, "1"], "a row of"),
        (lambda row: [None, *row[1:]], "non-finite"),
        (lambda row: [row[0], "soon", *row[2:]], "soon"),
    ],
    ids=["field missing", "field too many", "no time", "no number"],
)
@of(*RAW)
def test_a_row_of_another_shape_is_an_error(exchange, edit, sentence):
    bars = hourly(START, 5)
    with pytest.raises(
        VenueUnreachableError, match=f"{exchange} answered in a shape it is not known for .*({sentence})"
    ):
        served(exchange, bars, klines=edited(exchange, bars, edit))


@of(*RAW)
def test_an_answer_without_klines_is_an_error(exchange):
    with pytest.raises(VenueUnreachableError, match="in a shape it is not known for"):
        served(exchange, hourly(START, 5), klines=Answer({"code": "0", "retCode": 0, "error": []}))


def test_kraken_is_not_asked_for_more_history_than_it_keeps():
    bars = hourly(START, 1000)
    with pytest.raises(HistoryUnavailableError) as caught:
        served(KRAKEN, bars, start=START + timedelta(hours=279))
    assert str(caught.value) == (
        "There are no kraken 1h bars of BTC/USDT before 2024-01-12 16:00, because the venue keeps only the latest 720; "
        "start there or later, or configure another venue or a bar archive."
    )
    rows = served(KRAKEN, bars, start=START + timedelta(hours=280))
    assert opened(rows) == [bar.opened for bar in bars[280:]]


def test_kraken_serves_all_of_a_market_that_is_younger_than_what_it_keeps():
    bars = hourly(START, 700)
    assert len(served(KRAKEN, bars, start=START - timedelta(days=30))) == 700


@pytest.mark.parametrize(("bar_size", "name"), [("1h", "1H"), ("4h", "4H"), ("6h", "6Hutc"), ("1d", "1Dutc")])
def test_long_bars_of_okx_begin_at_midnight_utc(bar_size, name):
    bars = hourly(START, 5)
    with ReplayServer(OKX.routes(bars, after(bars))) as server:
        source(server, OKX, bar_size=bar_size).fetch(SYMBOL, START, after(bars))
    assert {query["bar"] for query in server.asked(OKX.klines)} == {name}


@pytest.mark.parametrize(("exchange", "bar_size"), [(BINANCE, "7m"), (BINANCE, "1M"), (KRAKEN, "2w"), (OKX, "3M")])
def test_a_bar_size_without_a_known_length_is_refused_before_any_request(exchange, bar_size):
    bars = hourly(START, 5)
    with ReplayServer(exchange.routes(bars, after(bars))) as server:
        with pytest.raises(ConfigurationError, match=f"'{bar_size}'.*{exchange}.*1h"):
            source(server, exchange, bar_size=bar_size).check([SYMBOL])
    assert not server.requests
