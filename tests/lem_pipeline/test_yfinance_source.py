"""The real yfinance client against recorded Yahoo answers."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from datetime import UTC, datetime, timedelta

import pytest
from replay import in_turn

from lem_pipeline.errors import UnknownSymbolError, VenueRefusedError, VenueUnreachableError
from lem_pipeline.replay.answers import Answer, Query, Route
from lem_pipeline.replay.server import ReplayServer
from lem_pipeline.sources.base import RAW_BARS
from lem_pipeline.sources.yfinance import YFinanceBars
from lem_pipeline.universe import nyse_sessions

pytestmark = pytest.mark.usefixtures("no_remembered_zones")

AAPL = "/v8/finance/chart/AAPL"
SPLIT_DAY = datetime(2020, 8, 31, tzinfo=UTC)
AFTER_LAST_DAY = datetime(2020, 11, 7, tzinfo=UTC)
UNKNOWN = {"code": "Not Found", "description": "No data found, symbol may be delisted"}
NOTHING_THEN = {
    "code": "Bad Request",
    "description": "Data doesn't exist for startDate = 946702800, endDate = 949381200",
}


def chart_error(error: dict, status: int) -> Answer:
    return Answer({"chart": {"result": None, "error": error}}, status)


def once_the_zone_is_known(known: Answer, then: Route) -> Callable[[Query], Answer]:
    """yfinance first asks for one day to learn the exchange's zone, then for the period."""

    def answer(query: Query) -> Answer:
        if "period1" not in query:
            return known
        return then if isinstance(then, Answer) else then(query)

    return answer


@pytest.fixture
def payload(shared_data) -> Callable[[str], dict]:
    def read(name: str) -> dict:
        exchange = json.loads((shared_data / "payloads/yahoo" / name).read_text())
        return exchange["response"]["bodyJson"]

    return read


@pytest.fixture
def aapl(payload) -> dict:
    return payload("chart-AAPL-2020-08-31-to-2020-11-07.json")


@contextmanager
def yahoo(routes: dict[str, Route]) -> Iterator[ReplayServer]:
    greeting = {"/": Answer("hello"), "/v1/test/getcrumb": Answer("crumb")}
    with ReplayServer(greeting | routes) as server:
        yield server


def fetch(url: str, ticker: str = "AAPL", start: datetime = SPLIT_DAY, end: datetime = AFTER_LAST_DAY, **settings):
    return YFinanceBars(api_url=url, **{"backoff_s": 0.001} | settings).fetch(ticker, start, end)


def quotes(body: dict) -> dict:
    return body["chart"]["result"][0]["indicators"]["quote"][0]


def test_the_apple_split_is_an_event_and_the_prices_are_the_payloads(aapl):
    with yahoo({AAPL: Answer(aapl)}) as server:
        bars = fetch(server.url)
    assert bars.schema == RAW_BARS
    rows = {row["bar_start"]: row for row in bars.to_pylist()}
    assert list(rows) == list(nyse_sessions(SPLIT_DAY, AFTER_LAST_DAY)["bar_start"])
    assert {start: row["split_ratio"] for start, row in rows.items() if row["split_ratio"] != 1} == {SPLIT_DAY: 4.0}
    assert {start: row["dividend"] for start, row in rows.items() if row["dividend"]} == {
        datetime(2020, 11, 6, tzinfo=UTC): 0.205
    }
    for ours in ("open", "high", "low", "close", "volume"):
        assert bars[ours].to_pylist() == quotes(aapl)[ours]
    adjusted = aapl["chart"]["result"][0]["indicators"]["adjclose"][0]["adjclose"]
    assert bars["adjusted_close"].to_pylist() == adjusted
    assert bars["notional"].null_count == bars.num_rows
    assert set(bars["splits_until"].to_pylist()) == {datetime(2020, 11, 6, tzinfo=UTC)}
    assert set(bars["venue"].to_pylist()) == {"yahoo"}


def test_the_end_is_exclusive_and_yahoo_is_asked_up_to_tomorrow_for_splits_to_come(aapl):
    with yahoo({AAPL: Answer(aapl)}) as server:
        bars = fetch(server.url, end=datetime(2020, 9, 2, tzinfo=UTC))
    assert bars["bar_start"].to_pylist() == [SPLIT_DAY, datetime(2020, 9, 1, tzinfo=UTC)]
    asked = [query for query in server.asked(AAPL) if "period1" in query]
    assert int(asked[0]["period1"]) == int(SPLIT_DAY.timestamp()) + 4 * 3600  # midnight in New York
    assert 0 < int(asked[0]["period2"]) - datetime.now(UTC).timestamp() <= 3 * 86_400
    assert set(bars["splits_until"].to_pylist()) == {datetime(2020, 11, 6, tzinfo=UTC)}


def test_a_session_without_prices_stays_as_nulls(aapl):
    for prices in quotes(aapl).values():
        prices[3] = None
    aapl["chart"]["result"][0]["indicators"]["adjclose"][0]["adjclose"][3] = None
    with yahoo({AAPL: Answer(aapl)}) as server:
        bars = fetch(server.url)
    assert bars.num_rows == 49
    assert len([query for query in server.asked(AAPL) if "period1" in query]) == 2  # a hole is asked for once more
    assert [bars[price][3].as_py() for price in ("open", "high", "low", "close", "adjusted_close")] == [None] * 5


def test_a_session_that_has_not_closed_is_left_out(aapl):
    now = datetime.now(UTC)
    coming = nyse_sessions(now, now + timedelta(days=14)).iloc[-1]
    result = aapl["chart"]["result"][0]
    result["timestamp"][-1] = int(coming["opens_at"].timestamp())
    del result["events"]["dividends"]  # one is paid on the day that has been moved away
    with yahoo({AAPL: Answer(aapl)}) as server:
        bars = fetch(server.url, end=now + timedelta(days=30))
    assert bars.num_rows == 48
    assert max(bars["bar_start"].to_pylist()) < now


def test_an_unknown_ticker_is_named(aapl):
    routes = {"/v8/finance/chart/NOPE": chart_error(UNKNOWN, 404)}
    with yahoo(routes) as server, pytest.raises(UnknownSymbolError, match=r"'NOPE', .* take it out"):
        fetch(server.url, "NOPE")
    assert len(server.asked("/v8/finance/chart/NOPE")) <= 4


def test_a_period_before_the_listing_is_a_table_without_rows(aapl):
    with yahoo({AAPL: once_the_zone_is_known(Answer(aapl), chart_error(NOTHING_THEN, 400))}) as server:
        bars = fetch(server.url, start=datetime(2000, 1, 1, tzinfo=UTC), end=datetime(2000, 2, 1, tzinfo=UTC))
    assert bars.num_rows == 0
    assert bars.schema == RAW_BARS


def test_a_hole_that_the_second_answer_fills_is_no_hole(aapl):
    holed = deepcopy(aapl)
    for prices in quotes(holed).values():
        prices[3] = None
    period = in_turn(Answer(holed), Answer(aapl))
    with yahoo({AAPL: once_the_zone_is_known(Answer(aapl), period)}) as server:
        assert fetch(server.url)["close"].null_count == 0


def test_a_second_answer_that_is_cut_short_is_not_taken_for_one_without_holes(aapl):
    holed, short = deepcopy(aapl), deepcopy(aapl)
    for prices in quotes(holed).values():
        prices[3] = None
    result = short["chart"]["result"][0]
    for values in (*quotes(short).values(), result["indicators"]["adjclose"][0]["adjclose"], result["timestamp"]):
        del values[10:]
    del result["events"]["dividends"]  # one is paid on a day that has been cut off
    period = in_turn(Answer(holed), Answer(short))
    with yahoo({AAPL: once_the_zone_is_known(Answer(aapl), period)}) as server:
        assert fetch(server.url).num_rows == 49


def test_a_period_without_a_closed_session_is_a_table_without_rows(payload):
    weekend = payload("chart-AAPL-2025-02-01-to-2025-02-02-includePrePost-false-interval-1m.json")
    now = datetime.now(UTC)
    last_close = nyse_sessions(now - timedelta(days=14), now)["closes_at"].loc[lambda closes: closes <= now].max()
    with yahoo({AAPL: Answer(weekend)}) as server:
        bars = fetch(server.url, start=last_close.to_pydatetime(), end=now)
    assert bars.num_rows == 0


def test_an_empty_answer_for_a_month_of_sessions_is_an_error(payload):
    empty = payload("chart-AAPL-2025-02-01-to-2025-02-02-includePrePost-false-interval-1m.json")
    with yahoo({AAPL: Answer(empty)}) as server, pytest.raises(VenueUnreachableError, match="without prices"):
        fetch(server.url, start=datetime(2025, 2, 1, tzinfo=UTC), end=datetime(2025, 3, 1, tzinfo=UTC))


def test_a_period_before_the_first_bar_is_a_table_without_rows(aapl):
    with yahoo({AAPL: Answer(aapl)}) as server:
        bars = fetch(server.url, start=datetime(2020, 2, 1, tzinfo=UTC), end=datetime(2020, 3, 1, tzinfo=UTC))
    assert bars.num_rows == 0


def test_a_rate_limit_that_lifts_gives_the_bars(aapl):
    limited = Answer("Too Many Requests", 429)
    with yahoo({AAPL: in_turn(*[limited] * 4, Answer(aapl))}) as server:
        assert fetch(server.url).num_rows == 49


def test_a_rate_limit_that_does_not_lift_is_a_refusal():
    with yahoo({AAPL: Answer("Too Many Requests", 429)}) as server:
        with pytest.raises(VenueRefusedError, match=r"2 attempts \(ticker AAPL\)"):
            fetch(server.url, attempts=2)


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_is_not_tried_again(status):
    denied = Answer({"finance": {"result": None, "error": {"code": "Unauthorized"}}}, status)
    with yahoo({AAPL: denied}) as server, pytest.raises(VenueRefusedError, match=f"HTTP {status}"):
        fetch(server.url)
    assert len(server.asked(AAPL)) <= 2


@pytest.mark.parametrize(
    "outage",
    [
        Answer("<html>Internal Server Error</html>", 500),
        Answer({"chart": {"result": None, "error": {"code": "Internal", "description": "oops"}}}, 503),
        Answer({"finance": {"result": None, "error": None}}, 502),
    ],
    ids=["html", "chart error", "other error"],
)
@pytest.mark.parametrize("zone_is_known", [True, False])
def test_an_outage_is_never_an_unknown_ticker_or_an_empty_table(aapl, outage, zone_is_known):
    route = once_the_zone_is_known(Answer(deepcopy(aapl)), outage) if zone_is_known else outage
    with yahoo({AAPL: route}) as server:
        with pytest.raises(VenueUnreachableError, match=rf"AAPL in 2 attempts \(HTTP {outage.status}\)"):
            fetch(server.url, attempts=2)


def test_an_outage_that_passes_gives_the_bars(aapl):
    outage = Answer("<html>Internal Server Error</html>", 500)
    period = in_turn(*[outage] * 4, Answer(aapl))
    with yahoo({AAPL: once_the_zone_is_known(Answer(aapl), period)}) as server:
        assert fetch(server.url).num_rows == 49


def test_no_network_is_one_sentence(closed_port):
    with pytest.raises(VenueUnreachableError) as caught:
        fetch(closed_port)
    message = str(caught.value)
    assert message.startswith("Yahoo Finance gave no bars of AAPL in 4 attempts (ConnectionError)")
    assert message.count(".") == 1
    assert "\n" not in message


def test_provenance_says_that_prices_are_adjusted_for_splits():
    assert "split-adjusted" in YFinanceBars().provenance
