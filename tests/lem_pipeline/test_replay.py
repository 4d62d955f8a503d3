"""The replayed venues: what went in as bars comes out of the real clients, in the venues' own shapes."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from markets import (
    AFTER_LAST_DAY,
    AFTER_LAST_HOUR,
    DIVIDENDS,
    FIRST_DAY,
    FIRST_HOUR,
    HOURS,
    SPLIT_DAY,
    SPLIT_RATIO,
    crypto_archive,
    dow_archive,
)

from lem_pipeline.defs.resources import bar_source
from lem_pipeline.errors import UnknownSymbolError
from lem_pipeline.replay import binance, yahoo
from lem_pipeline.replay.bars import Clock
from lem_pipeline.replay.server import ReplayServer
from lem_pipeline.settings import Settings
from lem_pipeline.sources.archive import ArchiveBars
from lem_pipeline.sources.base import BarSource
from lem_pipeline.sources.ccxt import CcxtBars
from lem_pipeline.sources.simulated import SimulatedBars
from lem_pipeline.sources.yfinance import YFinanceBars

pytestmark = pytest.mark.usefixtures("no_remembered_zones")

KLINES, CHART = "/api/v3/klines", "/v8/finance/chart/"
LATER = datetime(2024, 6, 1, tzinfo=UTC)
PRICES = ("open", "high", "low", "close")


@pytest.fixture(scope="module")
def crypto(tmp_path_factory) -> ArchiveBars:
    return crypto_archive(tmp_path_factory.mktemp("archive"))


@pytest.fixture(scope="module")
def dow(tmp_path_factory) -> ArchiveBars:
    return dow_archive(tmp_path_factory.mktemp("archive"))


@pytest.fixture
def venues(crypto, dow) -> Iterator[ReplayServer]:
    """Both venues, a month after their last bar."""
    with replayed(crypto, dow, AFTER_LAST_HOUR) as server:
        yield server


def replayed(crypto: BarSource, dow: BarSource, now: datetime) -> ReplayServer:
    clock = Clock(now)
    return ReplayServer(binance.routes(crypto, ["BTC/USDT"], clock) | yahoo.routes(dow, clock), clock=clock)


def from_binance(server: ReplayServer, start: datetime = FIRST_HOUR, end: datetime = AFTER_LAST_HOUR):
    return CcxtBars(api_url=server.url, backoff_s=0.001).fetch("BTC/USDT", start, end)


def from_yahoo(server: ReplayServer, start: datetime = FIRST_DAY, end: datetime = AFTER_LAST_DAY, ticker: str = "AAPL"):
    return YFinanceBars(api_url=server.url, backoff_s=0.001).fetch(ticker, start, end)


def asked(server: ReplayServer, target: str):
    with urlopen(server.url + target) as answer:
        return json.load(answer)


def seconds(moment: datetime) -> int:
    return int(moment.timestamp())


def newest_kline(server: ReplayServer) -> list:
    return asked(server, f"{KLINES}?symbol=BTCUSDT&interval=1h&limit=1")[0]


def chart(server: ReplayServer) -> dict:
    period = f"period1={seconds(SPLIT_DAY - timedelta(days=60))}&period2={seconds(AFTER_LAST_DAY)}"
    return asked(server, f"{CHART}AAPL?{period}&interval=1d&events=div,splits")["chart"]["result"][0]


def test_klines_come_out_as_the_bars_that_went_in_over_several_pages(venues, crypto):
    went_in = crypto.fetch("BTC/USDT", FIRST_HOUR, AFTER_LAST_HOUR)
    came_out = from_binance(venues)
    assert came_out.num_rows == HOURS
    assert len([query for query in venues.asked(KLINES) if query["limit"] == "1000"]) >= 3
    for column in ("bar_start", *PRICES, "volume", "notional", "trade_count", "taker_buy_volume"):
        assert came_out[column].to_pylist() == went_in[column].to_pylist()


def test_shares_come_out_rescaled_for_the_split_with_their_events(venues, dow):
    went_in = dow.fetch("AAPL", FIRST_DAY, AFTER_LAST_DAY).to_pylist()
    came_out = from_yahoo(venues).to_pylist()
    assert len(came_out) == len(went_in)
    for before, after in zip(went_in, came_out, strict=True):
        ratio = SPLIT_RATIO if before["bar_start"] < SPLIT_DAY else 1.0
        assert after["bar_start"] == before["bar_start"]
        assert [after[price] for price in PRICES] == [before[price] / ratio for price in PRICES]
        assert after["volume"] == before["volume"] * ratio
        assert after["adjusted_close"] == after["close"]
        assert after["dividend"] == DIVIDENDS.get(before["bar_start"], 0.0) / ratio
    assert {row["bar_start"]: row["split_ratio"] for row in came_out if row["split_ratio"] != 1} == {SPLIT_DAY: 4.0}


def test_real_sessions_that_are_split_adjusted_already_come_out_untouched(shared_data, crypto):
    archive = ArchiveBars(path=str(shared_data / "dow30-daily/bars.parquet"), price_basis="split_adjusted")
    period = datetime(2000, 1, 1, tzinfo=UTC), datetime(2024, 3, 9, tzinfo=UTC)
    went_in = archive.fetch("KO", *period)
    with replayed(crypto, archive, LATER) as server:
        came_out = from_yahoo(server, *period, "KO")
    assert came_out.num_rows == 6084
    for column in ("bar_start", *PRICES, "volume", "adjusted_close", "dividend", "split_ratio"):
        assert came_out[column].to_pylist() == went_in[column].to_pylist()


def test_the_simulated_market_comes_out_to_the_eighth_decimal(dow):
    market = SimulatedBars(origin="2024-01-01")
    period = datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 2, 1, tzinfo=UTC)
    with replayed(market, dow, period[1]) as server:
        came_out = from_binance(server, *period)
    went_in = market.fetch("BTC/USDT", *period)
    for column in (*PRICES, "volume", "notional", "taker_buy_volume"):
        assert came_out[column].to_pylist() == pytest.approx(went_in[column].to_pylist(), abs=1e-8)


def test_instruments_that_the_bars_lack_are_unknown_to_both_venues(venues):
    with pytest.raises(UnknownSymbolError, match="'ETH/USDT'"):
        CcxtBars(api_url=venues.url).fetch("ETH/USDT", FIRST_HOUR, AFTER_LAST_HOUR)
    with pytest.raises(UnknownSymbolError, match="'NOPE'"):
        from_yahoo(venues, ticker="NOPE")


def test_a_period_before_the_listing_is_a_table_without_rows(venues):
    assert from_binance(venues, FIRST_HOUR - timedelta(days=9), FIRST_HOUR).num_rows == 0
    assert from_yahoo(venues, FIRST_DAY - timedelta(days=90), FIRST_DAY - timedelta(days=30)).num_rows == 0


def test_a_kline_in_progress_grows_with_the_clock_and_the_client_leaves_it_out(crypto, dow):
    opened = FIRST_HOUR + timedelta(hours=99)
    whole = crypto.fetch("BTC/USDT", opened, opened + timedelta(hours=1)).to_pylist()[0]
    clock = Clock()
    with ReplayServer(binance.routes(crypto, ["BTC/USDT"], clock)) as server:
        for minutes, share in ((15, 0.25), (45, 0.75)):
            clock.stopped_at = opened + timedelta(minutes=minutes)
            kline = newest_kline(server)
            assert kline[0] == seconds(opened) * 1000
            assert float(kline[1]) == whole["open"]
            assert float(kline[5]) == whole["volume"] * share
            assert float(kline[3]) <= float(kline[7]) / float(kline[5]) <= float(kline[2])  # its VWAP
            assert from_binance(server)["bar_start"].to_pylist()[-1] == opened - timedelta(hours=1)
        clock.stopped_at = opened + timedelta(hours=1)
        assert float(newest_kline(server)[5]) == whole["volume"]
        assert from_binance(server)["bar_start"].to_pylist()[-1] == opened


def test_a_session_in_progress_is_half_formed_and_stamped_with_its_last_trade(crypto, dow):
    whole = dow.fetch("AAPL", SPLIT_DAY, SPLIT_DAY + timedelta(days=1)).to_pylist()[0]
    opened = SPLIT_DAY + timedelta(hours=13, minutes=30)
    with replayed(crypto, dow, opened + timedelta(hours=3, minutes=15)) as server:
        during = chart(server)
    with replayed(crypto, dow, opened + timedelta(hours=6, minutes=30)) as server:
        after = chart(server)
    assert during["timestamp"][-1] == during["meta"]["regularMarketTime"] == seconds(opened) + 3.25 * 3600
    assert after["timestamp"][-1] == seconds(opened)
    assert during["indicators"]["quote"][0]["volume"][-1] == whole["volume"] / 2
    assert after["indicators"]["quote"][0]["volume"][-1] == whole["volume"]


def test_history_is_rescaled_once_the_split_has_come(crypto, dow):
    first_close = dow.fetch("AAPL", SPLIT_DAY - timedelta(days=60), AFTER_LAST_DAY)["close"][0].as_py()
    with replayed(crypto, dow, SPLIT_DAY) as server:
        assert chart(server)["indicators"]["quote"][0]["close"][0] == first_close
        assert "splits" not in chart(server)["events"]
    with replayed(crypto, dow, SPLIT_DAY + timedelta(days=1)) as server:
        assert chart(server)["indicators"]["quote"][0]["close"][0] == first_close / SPLIT_RATIO


def test_the_chart_has_the_shape_of_the_recorded_one(venues, shared_data):
    recorded = json.loads((shared_data / "payloads/yahoo/chart-AAPL-2020-08-31-to-2020-11-07.json").read_text())
    assert shape(chart(venues)) == shape(recorded["response"]["bodyJson"]["chart"]["result"][0])


def test_klines_and_markets_have_the_shape_of_the_recorded_ones(venues, shared_data):
    payloads = shared_data / "payloads/binance"
    recorded = json.loads((payloads / "klines-BTCUSDT-1m-10-2021.json").read_text())[0]
    kline = newest_kline(venues)
    assert [kind(value) for value in kline] == [kind(value) for value in recorded]
    assert kline[6] == kline[0] + 3_600_000 - 1
    markets = json.loads((payloads / "exchangeInfo-2021-10-two-symbols.json").read_text())
    ours = asked(venues, "/api/v3/exchangeInfo")
    assert ours.keys() == markets.keys()
    assert ours["symbols"][0].keys() >= markets["symbols"][0].keys()


def shape(value: object) -> object:
    """Names and types, whatever the dates and the number of rows."""
    if isinstance(value, dict):
        return {"date" if name.isdigit() else name: shape(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [shape(value[-1])] if value else []
    return float if isinstance(value, int | float) else type(value)


def kind(value: object) -> object:
    """The type, and of a number in a string its decimals."""
    decimals = re.fullmatch(r"\d+(?:\.(\d+))?", value) if isinstance(value, str) else None
    return (str, len(decimals[1] or "")) if decimals else type(value)


@pytest.mark.parametrize(
    ("query", "code"),
    [("interval=1h", -1102), ("symbol=FOO&interval=1h", -1121), ("symbol=BTCUSDT&interval=7h", -1120)],
)
def test_binance_refuses_a_bad_query_in_its_own_words(crypto, query, code):
    answer = binance.routes(crypto, ["BTC/USDT"], Clock(AFTER_LAST_HOUR))[KLINES]
    refused = answer(dict(pair.split("=") for pair in query.split("&")))
    assert (refused.status, refused.body["code"]) == (400, code)


def test_a_page_holds_500_klines_where_none_are_asked_for_and_never_more_than_1000(venues):
    target = f"{KLINES}?symbol=BTCUSDT&interval=1h"
    newest = asked(venues, target)
    assert (len(newest), newest[-1][0]) == (500, seconds(FIRST_HOUR + timedelta(hours=HOURS - 1)) * 1000)
    oldest = asked(venues, f"{target}&startTime=0&limit=5000")
    assert (len(oldest), oldest[0][0]) == (1000, seconds(FIRST_HOUR) * 1000)


def test_yahoo_says_that_data_do_not_exist_outside_the_listing(venues):
    before, after = "period1=0&period2=86400", f"period1={seconds(LATER)}&period2={seconds(LATER) + 86400}"
    for period in (before, after):
        with pytest.raises(HTTPError, match="400") as caught:
            asked(venues, f"{CHART}AAPL?interval=1d&{period}")
        assert json.load(caught.value)["chart"]["error"]["description"].startswith("Data doesn't exist for startDate")


def test_both_venues_go_by_the_clock(venues):
    assert asked(venues, "/api/v3/time") == {"serverTime": seconds(AFTER_LAST_HOUR) * 1000}
    with urlopen(f"{venues.url}/v1/test/getcrumb") as answer:
        assert parsedate_to_datetime(answer.headers["Date"]) == AFTER_LAST_HOUR


def test_by_hand_it_says_how_to_point_the_live_profile_at_it(tmp_path, monkeypatch):
    command = [sys.executable, "-u", "-m", "lem_pipeline.cli", "replay", "--port", "0", "--now", "2024-02-01"]
    process = subprocess.Popen(
        command,
        env=os.environ | {"LEM_HOME": str(tmp_path)},
        stdout=subprocess.PIPE,
        # A suite that runs in the background is deaf to Ctrl-C, and so would its children be.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    with process, ExitStack() as at_the_end:
        at_the_end.callback(process.send_signal, signal.SIGINT)
        said = iter(process.stdout.readline, b"")
        exported = (line.decode().split()[1].split("=") for line in said if line.startswith(b"export"))
        for name, url in (next(exported), next(exported)):
            monkeypatch.setenv(name, url)
        monkeypatch.setenv("LEM_PROFILE", "live")
        live = Settings()
        hours = bar_source("crypto", live.crypto.bars).fetch("SOL/USDT", datetime(2024, 1, 31, tzinfo=UTC), LATER)
    assert process.returncode == 0
    assert hours.num_rows == 24
    assert live.dow.bars.api_url.get_secret_value() == url
