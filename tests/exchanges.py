"""Small exchanges for the replay server: each answers as its documentation says, all from the same bars."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from lem_pipeline.replay.answers import Answer, Query, Route

HOUR_MS = 3_600_000
SYMBOL = "BTC/USDT"


class Bar(NamedTuple):
    opened: int  # ms
    open: float
    high: float
    low: float
    close: float
    volume: float
    vwap: float
    trades: int


def hourly(start: datetime, count: int) -> list[Bar]:
    """Bars that follow each other, no two alike."""
    opened = ms(start)
    return [
        Bar(opened + n * HOUR_MS, 100.0 + n, 104.0 + n, 98.0 + n, 101.0 + n, 2.5 + n / 8, 100.5 + n, 7 + n)
        for n in range(count)
    ]


def ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def after(bars: Sequence[Bar], late: timedelta = timedelta(0)) -> datetime:
    """The end of the last bar, or a moment after it."""
    return datetime.fromtimestamp((bars[-1].opened + HOUR_MS) / 1000, UTC) + late


@dataclass(frozen=True)
class Exchange:
    """One venue's public API.

    Attributes:
        name: Its name in ccxt.
        markets: Path and answer of its list of markets.
        clock: Path of its clock, and the answer at a moment in ms; None where it has no clock.
        klines: Path of its klines.
        row: One bar as it writes it.
        chosen: The rows of ``(opened, row)`` that it answers to a query, in its order.
        wrapped: Its answer around rows.
    """

    name: str
    markets: tuple[str, object]
    clock: tuple[str, Callable[[int], object]] | None
    klines: str
    row: Callable[[Bar], list | dict]
    chosen: Callable[[list[tuple[int, object]], Query], list[tuple[int, object]]]
    wrapped: Callable[[list], object]

    def routes(self, bars: Sequence[Bar], now: datetime) -> dict[str, Route]:
        """Everything it serves, from bars and at a moment."""
        path, listing = self.markets
        routes: dict[str, Route] = {path: Answer(listing), self.klines: self.answering(self.rows(bars))}
        if self.clock is not None:
            routes[self.clock[0]] = Answer(self.clock[1](ms(now)))
        return routes

    def rows(self, bars: Sequence[Bar]) -> list[tuple[int, object]]:
        """Bars as it writes them, each with its time."""
        return [(bar.opened, self.row(bar)) for bar in bars]

    def answering(self, rows: list[tuple[int, object]]) -> Callable[[Query], Answer]:
        """Answers queries for klines from rows."""
        return lambda query: Answer(self.wrapped([row for _, row in self.chosen(rows, query)]))

    def __str__(self) -> str:
        return self.name


def between(rows: list[tuple[int, object]], since: float, until: float) -> list[tuple[int, object]]:
    return [row for row in rows if since <= row[0] <= until]


def newest_first(rows: list[tuple[int, object]]) -> list[tuple[int, object]]:
    return rows[::-1]


def _text(*numbers: float) -> list[str]:
    return [str(number) for number in numbers]


def _iso_ms(text: str) -> int:
    return ms(datetime.fromisoformat(text))


BINANCE = Exchange(
    name="binance",
    markets=(
        "/api/v3/exchangeInfo",
        {"symbols": [{"symbol": "BTCUSDT", "status": "TRADING", "baseAsset": "BTC", "quoteAsset": "USDT"}]},
    ),
    clock=("/api/v3/time", lambda now: {"serverTime": now}),
    klines="/api/v3/klines",
    row=lambda bar: [
        bar.opened,
        *_text(*bar[1:6]),
        bar.opened + HOUR_MS - 1,
        str(bar.vwap * bar.volume),
        bar.trades,
        *_text(bar.volume / 2, bar.vwap * bar.volume / 2),
        "0",
    ],
    chosen=lambda rows, query: between(rows, int(query["startTime"]), int(query["endTime"]))[: int(query["limit"])],
    wrapped=lambda rows: rows,
)

OKX = Exchange(
    name="okx",
    markets=(
        "/api/v5/public/instruments",
        {
            "code": "0",
            "data": [{"instId": "BTC-USDT", "instType": "SPOT", "baseCcy": "BTC", "quoteCcy": "USDT", "state": "live"}],
        },
    ),
    clock=("/api/v5/public/time", lambda now: {"code": "0", "data": [{"ts": str(now)}]}),
    klines="/api/v5/market/history-candles",
    row=lambda bar: _text(*bar[:6], bar.vwap * bar.volume, bar.vwap * bar.volume, 1),
    chosen=lambda rows, query: newest_first(between(rows, 0, int(query["after"]) - 1))[: int(query["limit"])],
    wrapped=lambda rows: {"code": "0", "msg": "", "data": rows},
)

BYBIT = Exchange(
    name="bybit",
    markets=(
        "/v5/market/instruments-info",
        {
            "retCode": 0,
            "result": {
                "list": [{"symbol": "BTCUSDT", "baseCoin": "BTC", "quoteCoin": "USDT", "status": "Trading"}],
            },
        },
    ),
    clock=("/v5/market/time", lambda now: {"retCode": "0", "result": {"timeSecond": str(now // 1000)}, "time": now}),
    klines="/v5/market/kline",
    row=lambda bar: _text(*bar[:6], bar.vwap * bar.volume),
    chosen=lambda rows, query: newest_first(between(rows, 0, int(query["end"])))[: int(query["limit"])],
    wrapped=lambda rows: {"retCode": 0, "retMsg": "OK", "result": {"list": rows}},
)

KRAKEN = Exchange(
    name="kraken",
    markets=(
        "/0/public/AssetPairs",
        {
            "error": [],
            "result": {
                "XBTUSDT": {
                    "altname": "XBTUSDT",
                    "wsname": "XBT/USDT",
                    "base": "XXBT",
                    "quote": "USDT",
                    "pair_decimals": 1,
                    "lot_decimals": 8,
                    "status": "online",
                }
            },
        },
    ),
    clock=("/0/public/Time", lambda now: {"error": [], "result": {"unixtime": now // 1000}}),
    klines="/0/public/OHLC",
    row=lambda bar: [bar.opened // 1000, *_text(*bar[1:5], bar.vwap, bar.volume), bar.trades],
    # The current bar always, and never more than the latest 720.
    chosen=lambda rows, query: [row for row in rows if row[0] > int(query["since"]) * 1000 or row is rows[-1]][-720:],
    wrapped=lambda rows: {"error": [], "result": {"XBTUSDT": rows, "last": 0}},
)

COINBASE = Exchange(
    name="coinbaseexchange",
    markets=(
        "/products",
        [{"id": "BTC-USDT", "base_currency": "BTC", "quote_currency": "USDT", "status": "online"}],
    ),
    clock=("/time", lambda now: {"epoch": now / 1000}),
    klines="/products/BTC-USDT/candles",
    row=lambda bar: [bar.opened // 1000, bar.low, bar.high, bar.open, bar.close, bar.volume],
    chosen=lambda rows, query: newest_first(between(rows, _iso_ms(query["start"]), _iso_ms(query["end"])))[:300],
    wrapped=lambda rows: rows,
)

BITSTAMP = Exchange(
    name="bitstamp",
    markets=(
        "/api/v2/markets/",
        [
            {
                "market_symbol": "btcusdt",
                "base_currency": "BTC",
                "counter_currency": "USDT",
                "base_decimals": 8,
                "counter_decimals": 0,
                "trading": "Enabled",
                "market_type": "SPOT",
            }
        ],
    ),
    clock=None,
    klines="/api/v2/ohlc/btcusdt/",
    row=lambda bar: {
        "timestamp": str(bar.opened // 1000),
        **{name: str(getattr(bar, name)) for name in ("open", "high", "low", "close", "volume")},
    },
    chosen=lambda rows, query: between(rows, int(query["start"]) * 1000, int(query["end"]) * 1000)[:1000],
    wrapped=lambda rows: {"data": {"pair": "BTC/USDT", "ohlc": rows}},
)

EXCHANGES = (BINANCE, OKX, BYBIT, KRAKEN, COINBASE, BITSTAMP)
