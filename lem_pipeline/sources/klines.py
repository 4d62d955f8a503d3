"""Kline shapes: how each venue is asked for a page of bars, and what the fields of its rows mean."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd

from lem_pipeline.sources.paging import Paging


@dataclass(frozen=True)
class PageRequest:
    """One page to ask for.

    Attributes:
        client: The venue's ccxt client.
        market: The market, as ccxt describes it.
        bar_size: Length of one bar, by its name in ccxt.
        since: Start of the page in milliseconds, inclusive.
        until: End of the page in milliseconds, exclusive.
    """

    client: Any
    market: dict[str, Any]
    bar_size: str
    since: int
    until: int

    @property
    def interval(self) -> Any:
        """What the venue calls the bar size."""
        return self.client.timeframes[self.bar_size]


@dataclass(frozen=True)
class KlineShape:
    """The klines of one venue.

    Attributes:
        fields: The values of a row in their order; those that ``RAW_BARS`` names are stored. ``vwap`` becomes
            ``notional``, and a row whose ``is_closed`` is not 1 is left out.
        ask: Asks for a page and takes the rows out of the answer.
        walk: How pages follow each other.
        time_unit_ms: The unit of ``bar_start`` in milliseconds.
    """

    fields: list[str]
    ask: Callable[[PageRequest], Any]
    walk: Callable[[Paging], Iterator[pd.DataFrame]]
    time_unit_ms: int = 1

    def frame(self, rows: list[list[Any]]) -> pd.DataFrame:
        """Rows of the venue as numbers, with ``bar_start`` in milliseconds.

        Raises:
            ValueError: A row has other fields, or no time.
        """
        for row in rows:
            if len(row) != len(self.fields):
                raise ValueError(f"a row of {len(row)} fields where {len(self.fields)} are known")
        frame = pd.DataFrame(rows, columns=self.fields)
        frame = frame.mask(frame == "").astype(float)
        frame["bar_start"] = (frame["bar_start"] * self.time_unit_ms).astype("int64")
        return frame

    def bars(self, paging: Paging) -> pd.DataFrame:
        """All bars of a period, ascending, ties in the order received, with ``bar_start`` in UTC."""
        frame = pd.concat([self.frame([]), *self.walk(paging)], ignore_index=True)
        if "is_closed" in frame:
            frame = frame[frame["is_closed"] == 1]
        if "vwap" in frame:
            frame = frame.assign(notional=frame["vwap"] * frame["volume"])
        frame = frame.assign(bar_start=pd.to_datetime(frame["bar_start"], unit="ms", utc=True))
        return frame.sort_values("bar_start", kind="stable")


def shape_of(client: Any) -> KlineShape:
    """The raw klines of a venue that is known here, ccxt's unified candles of any other."""
    return SHAPES.get(client.id) or _unified(client)


def _binance(request: PageRequest) -> Any:
    return request.client.publicGetKlines(
        {
            "symbol": request.market["id"],
            "interval": request.interval,
            "startTime": request.since,
            "endTime": request.until - 1,
            "limit": 1000,
        }
    )


def _okx(request: PageRequest) -> Any:
    # From six hours on, OKX's bars begin at midnight in Hong Kong unless their name says otherwise.
    utc = "utc" if request.client.parse_timeframe(request.bar_size) >= 6 * 3600 else ""
    return request.client.publicGetMarketHistoryCandles(
        {
            "instId": request.market["id"],
            "bar": f"{request.interval}{utc}",
            "after": request.until,  # OKX means: older than
            "limit": 300,
        }
    )["data"]


def _bybit(request: PageRequest) -> Any:
    return request.client.publicGetV5MarketKline(
        {
            "category": "spot",
            "symbol": request.market["id"],
            "interval": request.interval,
            "end": request.until - 1,
            "limit": 1000,
        }
    )["result"]["list"]


def _kraken(request: PageRequest) -> Any:
    return request.client.publicGetOHLC(
        {
            "pair": request.market["id"],
            "interval": request.interval,
            "since": request.since // 1000 - 1,  # Kraken means: after
        }
    )["result"][request.market["id"]]


def _unified(client: Any) -> KlineShape:
    limit = client.feature_value_by_type("spot", None, "fetchOHLCV", "limit", 100) or 100

    def ask(request: PageRequest) -> Any:
        return client.fetch_ohlcv(request.market["symbol"], request.bar_size, request.since, limit)

    return KlineShape(
        fields="bar_start open high low close volume".split(),
        ask=ask,
        walk=partial(Paging.oldest_first, window=limit),
    )


BINANCE = KlineShape(
    fields=(
        "bar_start open high low close volume close_time notional trade_count "
        "taker_buy_volume taker_buy_notional unused"
    ).split(),
    ask=_binance,
    walk=Paging.oldest_first,
)
OKX = KlineShape(
    fields="bar_start open high low close volume volume_in_currency notional is_closed".split(),
    ask=_okx,
    walk=Paging.newest_first,
)
BYBIT = KlineShape(
    fields="bar_start open high low close volume notional".split(),
    ask=_bybit,
    walk=Paging.newest_first,
)
KRAKEN = KlineShape(
    fields="bar_start open high low close vwap volume trade_count".split(),
    ask=_kraken,
    walk=partial(Paging.latest, kept=720),
    time_unit_ms=1000,
)
SHAPES = {
    "binance": BINANCE,
    "binanceus": BINANCE,
    "okx": OKX,
    "okxus": OKX,
    "myokx": OKX,
    "bybit": BYBIT,
    "bybiteu": BYBIT,
    "kraken": KRAKEN,
}
