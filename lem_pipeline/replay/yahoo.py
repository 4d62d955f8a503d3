"""Yahoo Finance's chart API for daily bars of US shares, answered from bars.

As Yahoo does, it rescales all history for the splits that have happened by its clock, and sends the session in
progress as the last row, stamped with the time of its last trade instead of its open.
"""

from datetime import UTC, date, datetime, time, timedelta
from fractions import Fraction
from functools import partial
from math import isnan
from typing import Any
from zoneinfo import ZoneInfo

from lem_pipeline.errors import UnknownSymbolError
from lem_pipeline.replay.answers import Answer, Page, Query, Route, Row
from lem_pipeline.replay.bars import Clock, History, half_formed, split_adjusted
from lem_pipeline.sources.base import BarSource
from lem_pipeline.universe import nyse_sessions

NEW_YORK = ZoneInfo("America/New_York")
OPENS_AT = time(9, 30)
PRICES = ("open", "high", "low", "close")


def routes(source: BarSource, clock: Clock) -> dict[str, Route]:
    """What Yahoo answers, by path: the cookie and crumb that clients ask for first, and charts.

    Args:
        source: Where bars come from.
        clock: Yahoo's clock.
    """
    history = History(source, clock)

    def answer_chart(query: Query) -> Answer | Page:
        try:
            sessions = history.bars(query["symbol"]).to_pylist()
        except UnknownSymbolError:
            sessions = []
        return chart(query["symbol"], sessions, query, clock())

    return {
        "/": Answer("", headers={"Set-Cookie": "A3=replay; Path=/"}),
        "/v1/test/getcrumb": Answer("replay"),
        "/v8/finance/chart/*": answer_chart,
    }


def chart(ticker: str, sessions: list[Row], query: Query, now: datetime) -> Answer | Page:
    """The daily bars of a period, or of the newest session.

    Args:
        ticker: The share.
        sessions: All its bars, ascending.
        query: ``period1`` (inclusive) and ``period2`` (exclusive) in seconds, else ``range=1d``; ``interval=1d``;
            ``events``, of which dividends and splits are known.
        now: Yahoo's clock; sessions that open later do not exist.
    """
    rows = split_adjusted([row for row in sessions if _opens_at(row) < now])
    if not rows:
        return error(404, "Not Found", "No data found, symbol may be delisted")
    rows[-1] = _so_far(rows[-1], now)
    if query.get("interval", "1d") != "1d" or ("period1" not in query and query.get("range") != "1d"):
        return error(422, "Unprocessable Entity", "This replay has interval=1d, for period1 and period2 or range=1d.")
    first = int(query.get("period1", _stamp(rows[-1])))
    last = int(query.get("period2", now.timestamp() + 1))
    if last <= _stamp(rows[0]) or first > _stamp(rows[-1]):
        return error(400, "Bad Request", f"Data doesn't exist for startDate = {first}, endDate = {last}")
    before = [row for row in rows if _stamp(row) < first]
    meta = _meta(ticker, rows, now) | {"chartPreviousClose": before[-1]["close"] if before else None}
    asked = [row for row in rows[len(before) :] if _stamp(row) < last]
    return Page(asked, partial(_result, meta, query.get("events", "")))


def error(status: int, code: str, description: str) -> Answer:
    """A request that Yahoo refuses, in its shape."""
    return Answer({"chart": {"result": None, "error": {"code": code, "description": description}}}, status)


def _result(meta: dict[str, Any], events: str, rows: list[Row]) -> Answer:
    result: dict[str, Any] = {"meta": meta}
    if rows:
        result["timestamp"] = [_stamp(row) for row in rows]
    if happened := _events(events, rows):
        result["events"] = happened
    quote = {name: [row[name] for row in rows] for name in PRICES}
    quote["volume"] = [_whole(row["volume"]) for row in rows]
    adjusted = [row["close"] if row["adjusted_close"] is None else row["adjusted_close"] for row in rows]
    result["indicators"] = {"quote": [quote if rows else {}], "adjclose": [{"adjclose": adjusted} if rows else {}]}
    return Answer({"chart": {"result": [result], "error": None}})


def _events(asked_for: str, rows: list[Row]) -> dict[str, dict[str, Any]]:
    dividends, splits = {}, {}
    for row in rows:
        opened = int(_opens_at(row).timestamp())
        if row["dividend"] and "div" in asked_for:
            dividends[str(opened)] = {"amount": row["dividend"], "date": opened}
        if (row["split_ratio"] or 1) != 1 and "split" in asked_for:
            new, old = Fraction(row["split_ratio"]).limit_denominator(1000).as_integer_ratio()
            told = {"date": opened, "numerator": new, "denominator": old, "splitRatio": f"{new}:{old}"}
            splits[str(opened)] = told
    return {name: told for name, told in (("dividends", dividends), ("splits", splits)) if told}


def _meta(ticker: str, rows: list[Row], now: datetime) -> dict[str, Any]:
    newest, local = rows[-1], now.astimezone(NEW_YORK)
    year = [row for row in rows if row["bar_start"] > now - timedelta(days=365)]
    opens_at, closes_at = _session(local.date())
    zone = {"timezone": local.tzname(), "gmtoffset": int((local.utcoffset() or timedelta()).total_seconds())}
    periods = {
        "pre": (opens_at - timedelta(hours=5.5), opens_at),
        "regular": (opens_at, closes_at),
        "post": (closes_at, closes_at + timedelta(hours=4)),
    }
    return {
        "currency": "USD",
        "symbol": ticker,
        "exchangeName": "NYQ",
        "fullExchangeName": "NYSE",
        "instrumentType": "EQUITY",
        "firstTradeDate": _stamp(rows[0]),
        "regularMarketTime": int(min(now, _session(newest["bar_start"].date())[1]).timestamp()),
        "hasPrePostMarketData": True,
        **zone,
        "exchangeTimezoneName": NEW_YORK.key,
        "regularMarketPrice": newest["close"],
        "fiftyTwoWeekHigh": max((row["high"] for row in year if row["high"] is not None), default=None),
        "fiftyTwoWeekLow": min((row["low"] for row in year if row["low"] is not None), default=None),
        "regularMarketDayHigh": newest["high"],
        "regularMarketDayLow": newest["low"],
        "regularMarketVolume": _whole(newest["volume"]),
        "longName": ticker,
        "shortName": ticker,
        "priceHint": 2,
        "currentTradingPeriod": {
            name: {**zone, "start": int(start.timestamp()), "end": int(end.timestamp())}
            for name, (start, end) in periods.items()
        },
        "dataGranularity": "1d",
        "range": "",
        "validRanges": ["1d"],
    }


def _so_far(newest: Row, now: datetime) -> Row:
    """The newest session; while it lasts, half-formed and stamped with its last trade instead of its open."""
    opens_at, closes_at = _session(newest["bar_start"].date())
    if not opens_at <= now < closes_at:
        return newest
    return half_formed(newest, (now - opens_at) / (closes_at - opens_at)) | {"last_trade": now}


def _session(day: date) -> tuple[datetime, datetime]:
    """Open and close of the first session from a day on."""
    midnight = datetime.combine(day, time(), UTC)
    found = nyse_sessions(midnight, midnight + timedelta(days=15)).iloc[0]
    return found["opens_at"].to_pydatetime(), found["closes_at"].to_pydatetime()


def _opens_at(row: Row) -> datetime:
    return datetime.combine(row["bar_start"].date(), OPENS_AT, NEW_YORK)


def _stamp(row: Row) -> int:
    return int(row.get("last_trade", _opens_at(row)).timestamp())


def _whole(number: float | None) -> float | None:
    return number if number is None or isnan(number) else round(number)
