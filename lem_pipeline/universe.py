"""Which instruments exist, how long their bars last, which sessions their calendars hold, who was a Dow member when."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from pathlib import Path

import pandas as pd
import pyarrow as pa

CRYPTO = "BTC/USDT ETH/USDT BNB/USDT XRP/USDT ADA/USDT LTC/USDT LINK/USDT SOL/USDT".split()

FIRST_MONTH = datetime(2000, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


@lru_cache(maxsize=1)
def dow_members() -> pd.DataFrame:
    """The Dow Jones Industrial Average since 2000, one row per membership.

    Returns:
        Columns ``company``, ``ticker`` (at the time), ``symbol`` (the series that vendors carry today; null where none
        has it any more), ``member_from`` (inclusive) and ``member_until`` (exclusive; null for today's members).
    """
    return pd.read_csv(
        Path(__file__).with_name("dow_members.csv"),
        parse_dates=["member_from", "member_until"],
        date_format="%Y-%m-%d",
        keep_default_na=False,
        na_values={"symbol": [""], "member_until": [""]},
    )


@dataclass(frozen=True)
class AssetClass:
    """A family of instruments that trade on the same clock.

    Attributes:
        name: Short name, the value of column ``asset_class``.
        bar_size: Length of one bar unless the settings ask for another; a daily bar stands for one exchange session.
        always_open: True where bars follow each other around the clock.
        settles_after: How long a bar is fetched again after it was first seen, since venues correct recent bars.
        instruments: Every instrument of the family that this project knows.
    """

    name: str
    bar_size: timedelta
    always_open: bool
    settles_after: timedelta
    instruments: tuple[str, ...]

    def with_bars_of(self, bar_size: timedelta) -> "AssetClass":
        """The same family in bars of another length."""
        return replace(self, bar_size=bar_size)

    @property
    def bars_per_day(self) -> float:
        """Bars that trade in one day, or session."""
        return DAY / self.bar_size if self.always_open else 1.0

    def expects_bars(self, start: datetime, end: datetime) -> bool:
        """True where at least one bar both starts and ends within ``[start, end)``."""
        if self.always_open:
            return end - start >= self.bar_size
        sessions = nyse_sessions(FIRST_MONTH, end)
        return bool(((sessions["bar_start"] >= start) & (sessions["closes_at"] <= end)).any())


CRYPTO_HOURLY = AssetClass("crypto", timedelta(hours=1), True, DAY, tuple(CRYPTO))
DOW_DAILY = AssetClass("dow", DAY, False, timedelta(days=7), tuple(sorted(dow_members()["symbol"].dropna().unique())))
ASSET_CLASSES = {a.name: a for a in (CRYPTO_HOURLY, DOW_DAILY)}


def nyse_sessions(start: datetime, end: datetime) -> pd.DataFrame:
    """New York Stock Exchange sessions that open in ``[start, end)``.

    Returns:
        Columns ``bar_start`` (midnight UTC of the session's date, the label of a daily bar),
        ``opens_at`` and ``closes_at`` (UTC, half days included) and ``session_number`` (days of trading
        since the first session of 2000).
    """
    sessions = _sessions_through(end.year)
    inside = (sessions["bar_start"] >= start) & (sessions["bar_start"] < end)
    return sessions[inside].reset_index(drop=True)


@lru_cache(maxsize=4)
def _sessions_through(year: int) -> pd.DataFrame:
    # Whole years, as calendars are slow to make and most questions end at some moment of today.
    import exchange_calendars

    # A fixed first session keeps `session_number` the same whatever range is asked for.
    calendar = exchange_calendars.get_calendar("XNYS", start=FIRST_MONTH.date(), end=date(year, 12, 31))
    schedule = calendar.schedule
    sessions = pd.DataFrame(
        {
            "bar_start": schedule.index.tz_localize("UTC"),
            "opens_at": schedule["open"].to_numpy(),
            "closes_at": schedule["close"].to_numpy(),
            "session_number": range(len(schedule)),
        }
    )
    for column in ("bar_start", "opens_at", "closes_at"):
        sessions[column] = pd.to_datetime(sessions[column], utc=True).dt.as_unit("us")
    return sessions


def only_closed(bars: pa.Table, asset: AssetClass, now: datetime) -> pa.Table:
    """Drop bars that have not ended at ``now``, the venue's clock.

    A daily bar ends when its exchange session closes, an intraday bar one ``bar_size`` after it began.
    """
    starts: Sequence[datetime] = bars["bar_start"].to_pylist()
    if asset.always_open:
        closed = [start + asset.bar_size <= now for start in starts]
    else:
        sessions = nyse_sessions(FIRST_MONTH, now + timedelta(days=7))
        closes = dict(zip(sessions["bar_start"], sessions["closes_at"], strict=True))
        # A date the exchange calendar does not know is kept here and reported by the calendar check.
        closed = [closes.get(pd.Timestamp(start), start + asset.bar_size) <= now for start in starts]
    return bars.filter(pa.array(closed, type=pa.bool_()))
