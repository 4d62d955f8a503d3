"""The real ccxt client at a venue in trouble: waited out where it may pass, one sentence where it will not."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import count
from time import monotonic, sleep

import pyarrow as pa
import pytest
from exchanges import BINANCE, BITSTAMP, COINBASE, KRAKEN, OKX, SYMBOL, Exchange, after, hourly

from lem_pipeline.errors import VenueBlockedError, VenueRefusedError, VenueUnreachableError
from lem_pipeline.replay.answers import Answer, Query, Route
from lem_pipeline.replay.server import ReplayServer
from lem_pipeline.sources.ccxt import CcxtBars

pytestmark = pytest.mark.usefixtures("unthrottled")

START = datetime(2024, 1, 1, tzinfo=UTC)
BARS = hourly(START, 5)
MARKETS, CLOCK, KLINES = BINANCE.markets[0], BINANCE.clock[0], BINANCE.klines
JSON = {"Content-Type": "application/json"}
LOGIN_PAGE = Answer("<html>Please log in</html>")
CUT_OFF = Answer('[[1634943780000,"606', headers=JSON)
HUNG_UP = Answer('[[1634943780000,"606', headers=JSON | {"Content-Length": "9999"})
OKX_UPGRADING = Answer({"code": "50001", "msg": "Matching engine upgrading.", "data": []})
KRAKEN_DOWN = Answer({"error": ["EService:Unavailable"]})
FOR_EVER = 99

every_path = pytest.mark.parametrize(
    ("exchange", "path"),
    [
        pytest.param(exchange, path, id=f"{exchange} {path}")
        for exchange in (BINANCE, OKX, KRAKEN, COINBASE, BITSTAMP)
        for path in (exchange.markets[0], *(exchange.clock[:1] if exchange.clock else ()), exchange.klines)
    ],
)


@contextmanager
def trouble(exchange: Exchange, path: str, answer: Route, times: int = FOR_EVER) -> Iterator[ReplayServer]:
    """The exchange, which answers this to the first requests for a path, and later as usual."""
    routes = exchange.routes(BARS, after(BARS))
    asked = count()

    def troubled(query: Query) -> Answer:
        route = answer if next(asked) < times else routes[path]
        return route if isinstance(route, Answer) else route(query)

    with ReplayServer(routes | {path: troubled}) as server:
        yield server


def rate_limited(status: int, retry_after: str) -> Answer:
    return Answer({"code": -1003, "msg": "Too many requests."}, status, {"Retry-After": retry_after})


def fetch(server: ReplayServer | str, exchange: Exchange = BINANCE, **settings) -> pa.Table:
    url = server if isinstance(server, str) else server.url
    settings = {"venues": [exchange.name], "api_url": url, "backoff_s": 0.001} | settings
    return CcxtBars(**settings).fetch(SYMBOL, START, after(BARS))


@every_path
def test_two_answers_of_a_proxy_and_then_the_venues_give_the_bars(exchange, path):
    with trouble(exchange, path, LOGIN_PAGE, times=2) as server:
        assert len(fetch(server, exchange)) == len(BARS)
    assert len(server.asked(path)) == 3


@pytest.mark.parametrize("path", [MARKETS, CLOCK, KLINES])
@pytest.mark.parametrize(
    "answer",
    [Answer("<html>busy</html>", 503), Answer(status=500), CUT_OFF, HUNG_UP],
    ids=["503", "500", "cut off", "hung up"],
)
def test_two_failures_and_then_an_answer_give_the_bars(path, answer):
    with trouble(BINANCE, path, answer, times=2) as server:
        assert len(fetch(server)) == len(BARS)
    assert len(server.asked(path)) == 3


@pytest.mark.parametrize(
    ("exchange", "answer"), [(OKX, OKX_UPGRADING), (OKX, Answer(OKX_UPGRADING.body, 503)), (KRAKEN, KRAKEN_DOWN)]
)
def test_a_failure_in_the_body_of_an_answer_is_waited_out(exchange, answer):
    with trouble(exchange, exchange.klines, answer, times=2) as server:
        assert len(fetch(server, exchange)) == len(BARS)


def test_silence_longer_than_the_timeout_is_asked_again():
    def silent(_: Query) -> Answer:
        sleep(0.4)
        return Answer([])

    with trouble(BINANCE, KLINES, silent, times=1) as server:
        assert len(fetch(server, timeout_s=0.2)) == len(BARS)
    with trouble(BINANCE, KLINES, silent) as server:
        with pytest.raises(VenueUnreachableError, match=r"in 2 attempts \(RequestTimeout\)"):
            fetch(server, timeout_s=0.2, attempts=2)


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (Answer(status=503), r"^binance could not be reached in 3 attempts \(HTTP 503\); check the network"),
        (HUNG_UP, r"could not be reached in 3 attempts \(NetworkError\)"),
        (LOGIN_PAGE, "does not answer in JSON: its answer was cut off, or a proxy answered in its place"),
        (CUT_OFF, "does not answer in JSON"),
    ],
)
def test_a_failure_that_stays_ends_after_the_last_attempt(answer, sentence):
    with trouble(BINANCE, KLINES, answer) as server, pytest.raises(VenueUnreachableError, match=sentence) as caught:
        fetch(server, attempts=3)
    assert len(server.asked(KLINES)) == 3
    assert "\n" not in str(caught.value)


def test_maintenance_that_stays_is_called_by_its_name():
    with trouble(OKX, OKX.klines, OKX_UPGRADING) as server:
        with pytest.raises(VenueUnreachableError, match=r"^okx is under maintenance; try again later\.$"):
            fetch(server, OKX)


@pytest.mark.parametrize("status", [451, 403])
@pytest.mark.parametrize("path", [MARKETS, CLOCK, KLINES])
def test_a_refused_country_is_not_asked_again(path, status):
    with trouble(BINANCE, path, Answer({"code": 0, "msg": "restricted location"}, status)) as server:
        with pytest.raises(VenueBlockedError, match=r"\(binance\) refuses .* configure another venue"):
            fetch(server)
    assert len(server.asked(path)) == 1


def test_a_request_that_can_never_succeed_is_made_once():
    unknown = Answer({"code": "51001", "msg": "Instrument ID does not exist", "data": []})
    with trouble(OKX, OKX.klines, unknown) as server:
        with pytest.raises(VenueRefusedError, match=r"okx turns the request down .*Instrument ID does not exist"):
            fetch(server, OKX)
    assert len(server.asked(OKX.klines)) == 1


@pytest.mark.parametrize("status", [418, 429])
def test_a_rate_limit_waits_as_many_seconds_as_the_venue_asks(status):
    with trouble(BINANCE, CLOCK, rate_limited(status, "1"), times=1) as server:
        began = monotonic()
        assert len(fetch(server)) == len(BARS)
    assert monotonic() - began >= 1


def test_a_rate_limit_waits_until_the_date_that_the_venue_names():
    until = (datetime.now(UTC) + timedelta(seconds=2)).replace(microsecond=0)
    with trouble(BINANCE, CLOCK, rate_limited(429, format_datetime(until, usegmt=True)), times=1) as server:
        assert len(fetch(server)) == len(BARS)
    assert datetime.now(UTC) >= until


def test_a_wait_that_cannot_be_read_is_the_usual_one():
    with trouble(BINANCE, CLOCK, rate_limited(429, "soon"), times=1) as server:
        assert len(fetch(server)) == len(BARS)


def test_a_rate_limit_that_does_not_lift_is_a_refusal():
    with trouble(BINANCE, CLOCK, rate_limited(429, "0")) as server:
        with pytest.raises(VenueRefusedError, match=r"limits this client's rate after 2 attempts \(HTTP 429\)"):
            fetch(server, attempts=2)
    assert len(server.asked(CLOCK)) == 2


@pytest.mark.parametrize("status", [418, 503])
def test_a_wait_of_an_hour_is_left_to_the_user(status):
    with trouble(BINANCE, CLOCK, rate_limited(status, "3600")) as server:
        with pytest.raises(VenueRefusedError, match=rf"left alone for at least 3600 seconds \(HTTP {status}\)"):
            fetch(server)
    assert len(server.asked(CLOCK)) == 1


def test_no_network_is_one_sentence(closed_port):
    with pytest.raises(VenueUnreachableError) as caught:
        fetch(closed_port)
    message = str(caught.value)
    assert message.startswith("binance could not be reached in 4 attempts")
    assert message.count(".") == 1
    assert "\n" not in message


def test_whoever_waits_says_so(caplog):
    caplog.set_level(logging.INFO)
    with trouble(BINANCE, KLINES, Answer(status=503), times=2) as server:
        fetch(server)
    waits = [record.message for record in caplog.records if "trying again" in record.message]
    assert waits == ["binance: HTTP 503, trying again in 0 s"] * 2
