"""The bars behind a replayed venue: what there is by its clock, and what becomes of a bar on its way to a client."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from math import prod

import pyarrow as pa

from lem_pipeline.replay.answers import Row
from lem_pipeline.sources.base import BarSource

PRICES = ("open", "high", "low", "close", "adjusted_close")
QUANTITIES = ("volume", "taker_buy_volume")
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
END_OF_TIME = datetime.max.replace(tzinfo=UTC)


class Clock:
    """What time it is at the venues: real time, or a moment that stands still until it is moved.

    Attributes:
        stopped_at: The moment; None means real time.
    """

    def __init__(self, stopped_at: datetime | None = None):
        self.stopped_at = stopped_at

    def __call__(self) -> datetime:
        """The time, UTC."""
        return self.stopped_at or datetime.now(UTC)


class History:
    """All bars of a source that have begun by the clock.

    A source that only answers closed bars, by real time, has no bar in progress while the clock is real time.
    """

    def __init__(self, source: BarSource, clock: Clock):
        self.clock = clock
        # Clients page: an instrument is fetched once, and again when an hour has passed.
        self._until = lru_cache(maxsize=128)(lambda instrument, end: source.fetch(instrument, BEGINNING, end))

    def bars(self, instrument: str) -> pa.Table:
        """Bars in ``RAW_BARS`` up to the end of the clock's hour.

        Raises:
            UnknownSymbolError: The source does not know the instrument.
        """
        hour = self.clock().replace(minute=0, second=0, microsecond=0)
        table: pa.Table = self._until(instrument, hour + timedelta(hours=1))
        return table


def scaled(row: Row, columns: tuple[str, ...], factor: float) -> Row:
    """The bar with some of its numbers multiplied; what is null stays null."""
    return {**row, **{name: row[name] * factor for name in columns if row[name] is not None}}


def rescaled(row: Row, ratio: float) -> Row:
    """The bar as it reads after a split into ``ratio`` new shares per old share."""
    return scaled(scaled(row, (*PRICES, "dividend"), 1 / ratio), QUANTITIES, ratio)


def splits_in(rows: list[Row]) -> list[tuple[datetime, float]]:
    """Ex-dates and ratios of the splits among these bars."""
    return [(row["bar_start"], row["split_ratio"]) for row in rows if (row["split_ratio"] or 1) != 1]


def split_adjusted(rows: list[Row]) -> list[Row]:
    """Bars rescaled for every later split among them that they do not reflect yet."""
    splits = splits_in(rows)
    return [rescaled(row, prod(ratio for day, ratio in splits if day > _splits_until(row))) for row in rows]


def half_formed(row: Row, elapsed: float) -> Row:
    """The bar as it stood when a fraction of it had passed: less volume, prices nearer to its open.

    Example:
        >>> whole = dict(open=10.0, high=14.0, low=9.0, close=12.0, volume=8.0, notional=88.0, trade_count=5)
        >>> half = half_formed(whole | dict(adjusted_close=6.0, taker_buy_volume=None), 0.5)
        >>> [half[name] for name in ("high", "low", "close", "adjusted_close", "volume", "notional", "trade_count")]
        [12.0, 9.5, 11.0, 5.5, 4.0, 42.0, 2]
    """
    prices = {name: row[name] for name in ("high", "low", "close")}
    if None in (row["open"], *prices.values()):
        return row
    part = scaled(row, QUANTITIES, elapsed)
    part |= {name: row["open"] + elapsed * (price - row["open"]) for name, price in prices.items()}
    if row["adjusted_close"] is not None:
        part["adjusted_close"] *= part["close"] / row["close"]
    if row["notional"] is not None:  # the average price moves to the open like the other prices
        part["notional"] = elapsed * ((1 - elapsed) * row["open"] * row["volume"] + elapsed * row["notional"])
    if row["trade_count"] is not None:
        part["trade_count"] = int(elapsed * row["trade_count"])
    return part


def _splits_until(row: Row) -> datetime:
    known: datetime | None = row["splits_until"]
    return known or END_OF_TIME
