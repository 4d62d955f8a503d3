"""The exchange calendar and the question whether a bar has ended."""

from datetime import UTC, date, datetime, timedelta

import pandas as pd
import pyarrow as pa
import pytest
from warehouses import sessions

from lem_pipeline.universe import (
    ASSET_CLASSES,
    CRYPTO_HOURLY,
    DOW_DAILY,
    FIRST_MONTH,
    dow_members,
    nyse_sessions,
    only_closed,
)


@pytest.fixture(scope="module")
def calendar() -> pd.DataFrame:
    return sessions().set_index(sessions()["bar_start"].dt.date)


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)


@pytest.mark.parametrize(
    ("day", "closes_at"),
    [
        (date(2024, 7, 3), utc(2024, 7, 3, 17)),  # the day before Independence Day
        (date(2024, 11, 29), utc(2024, 11, 29, 18)),  # the day after Thanksgiving
        (date(2024, 12, 24), utc(2024, 12, 24, 18)),
        (date(2024, 3, 8), utc(2024, 3, 8, 21)),  # the last session of winter time
        (date(2024, 3, 11), utc(2024, 3, 11, 20)),  # the first session of summer time
        (date(2024, 11, 1), utc(2024, 11, 1, 20)),
        (date(2024, 11, 4), utc(2024, 11, 4, 21)),
    ],
)
def test_sessions_close_when_new_york_closes(calendar, day, closes_at):
    assert calendar.loc[day, "closes_at"] == closes_at


@pytest.mark.parametrize(
    "day",
    [date(2024, 3, 29), date(2024, 7, 4), date(2024, 3, 9), date(2001, 9, 12), date(2012, 10, 29), date(2025, 1, 9)],
    ids=["Good Friday", "Independence Day", "Saturday", "September 2001", "hurricane Sandy", "a day of mourning"],
)
def test_the_exchange_is_closed_on_holidays_and_weekends(calendar, day):
    assert day not in calendar.index


def test_session_numbers_are_consecutive_from_the_first_session_of_2000(calendar):
    assert calendar.index[0] == date(2000, 1, 3)
    assert calendar["session_number"].tolist() == list(range(len(calendar)))


def test_a_session_has_the_same_number_whatever_range_is_asked_for(calendar):
    part = nyse_sessions(utc(2024, 3, 1), utc(2024, 3, 20))
    assert part["session_number"].tolist() == calendar.loc[part["bar_start"].dt.date, "session_number"].tolist()
    assert part["bar_start"].min() == utc(2024, 3, 1)
    assert part["bar_start"].max() == utc(2024, 3, 19)


def test_a_session_is_labelled_with_midnight_utc_of_its_date(calendar):
    assert (calendar["bar_start"] == calendar["bar_start"].dt.normalize()).all()
    assert (calendar["opens_at"].dt.date == calendar["bar_start"].dt.date).all()
    assert (calendar["opens_at"] < calendar["closes_at"]).all()


def closed_starts(asset: str, starts: list[datetime], now: datetime) -> list[datetime]:
    return only_closed(pa.table({"bar_start": starts}), ASSET_CLASSES[asset], now)["bar_start"].to_pylist()


@pytest.mark.parametrize(
    ("now", "closed"),
    [
        (utc(2024, 3, 10, 3), [1, 2]),
        (utc(2024, 3, 10, 2, 59, 59), [1]),
        (utc(2024, 3, 10, 1, 30), []),
        (utc(2024, 3, 10, 9), [1, 2, 3, 4]),
    ],
)
def test_an_hourly_bar_is_closed_an_hour_after_it_began(now, closed):
    hours = [utc(2024, 3, 10, hour) for hour in (1, 2, 3, 4)]
    assert closed_starts("crypto", hours, now) == [utc(2024, 3, 10, hour) for hour in closed]


@pytest.mark.parametrize(
    ("label", "closes_at"),
    [
        (utc(2024, 3, 11), utc(2024, 3, 11, 20)),
        (utc(2024, 7, 3), utc(2024, 7, 3, 17)),
    ],
)
def test_a_daily_bar_is_closed_once_its_session_has_closed(label, closes_at):
    assert closed_starts("dow", [label], closes_at - timedelta(seconds=1)) == []
    assert closed_starts("dow", [label], closes_at) == [label]


def test_a_daily_bar_on_a_date_without_session_is_kept_a_day_later_for_the_checks_to_report():
    saturday = utc(2024, 3, 9)
    assert closed_starts("dow", [saturday], utc(2024, 3, 9, 23)) == []
    assert closed_starts("dow", [saturday], utc(2024, 3, 10)) == [saturday]


def test_only_bars_that_have_not_ended_are_dropped_and_columns_stay():
    bars = pa.table({"bar_start": [utc(2024, 1, 1, hour) for hour in range(3)], "close": [1.0, 2.0, 3.0]})
    assert only_closed(bars, CRYPTO_HOURLY, utc(2024, 1, 1, 2)).equals(bars.slice(0, 2))
    assert only_closed(bars.slice(0, 0), DOW_DAILY, utc(2024, 1, 1)).equals(bars.slice(0, 0))


def test_asset_classes_know_their_instruments():
    assert len(DOW_DAILY.instruments) == len(set(DOW_DAILY.instruments)) == dow_members()["symbol"].nunique()
    assert all(instrument.endswith("/USDT") for instrument in CRYPTO_HOURLY.instruments)
    assert (CRYPTO_HOURLY.always_open, DOW_DAILY.always_open) == (True, False)
    assert utc(2000, 1, 1) == FIRST_MONTH


def test_the_index_has_thirty_members_on_every_day_since_2000():
    members = dow_members()
    for day in pd.date_range("2000-01-01", "2026-01-01", freq="D"):
        joined = members["member_from"] <= day
        assert (joined & ~(members["member_until"] <= day)).sum() == 30, day


def test_members_are_those_of_the_day():
    members = dow_members().set_index("ticker")
    assert members.loc["AAPL", "member_from"] == pd.Timestamp("2015-03-19")
    assert members.loc["HON", "member_until"].tolist() == [pd.Timestamp("2008-02-19"), pd.NaT]
    assert members.loc["SBC", "symbol"] == "T"
    assert pd.isna(members.loc["T", "symbol"])  # AT&T Corp., whose series no vendor carries any more


@pytest.mark.parametrize(
    ("asset", "start", "end", "expected"),
    [
        (CRYPTO_HOURLY, utc(2024, 1, 1), utc(2024, 1, 1, 1), True),
        (CRYPTO_HOURLY, utc(2024, 1, 1), utc(2024, 1, 1, 0, 59), False),
        (DOW_DAILY, utc(2024, 1, 6), utc(2024, 1, 8, 20), False),  # a weekend, and a Monday before its close
        (DOW_DAILY, utc(2024, 1, 6), utc(2024, 1, 8, 21), True),
        (DOW_DAILY, utc(2024, 1, 9, 1), utc(2024, 1, 10), False),  # the session's label is before the start
    ],
)
def test_a_period_in_which_no_bar_begins_and_ends_expects_none(asset, start, end, expected):
    assert asset.expects_bars(start, end) is expected
