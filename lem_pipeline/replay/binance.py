"""Binance's public spot API, answered from bars.

As the exchange does, it sends the bar in progress as the last kline, with the values that it has so far.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lem_pipeline.errors import UnknownSymbolError
from lem_pipeline.replay.answers import Answer, Page, Query, Route, Row
from lem_pipeline.replay.bars import BEGINNING, Clock, History, half_formed
from lem_pipeline.sources.base import BarSource

MILLISECOND = timedelta(milliseconds=1)
DEFAULT_ROWS, MOST_ROWS = 500, 1000
TICK = "0.00000001"


def routes(
    source: BarSource,
    instruments: Iterable[str],
    clock: Clock,
    interval: str = "1h",
    bar_size: timedelta = timedelta(hours=1),
) -> dict[str, Route]:
    """What the exchange answers, by path.

    Args:
        source: Where bars come from.
        instruments: Offered as markets, such as ``BTC/USDT``, as far as the source knows them.
        clock: The exchange's clock.
        interval: The only kline interval there is, in Binance's words.
        bar_size: Its length.
    """
    history = History(source, clock)
    ids = {instrument.replace("/", ""): instrument for instrument in instruments}

    def known(instrument: str) -> bool:
        try:
            return bool(len(history.bars(instrument)))
        except UnknownSymbolError:
            return False

    def answer_klines(query: Query) -> Answer | Page:
        if not query.get("symbol"):
            return error(-1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed.")
        if query["symbol"] not in ids or not known(ids[query["symbol"]]):
            return error(-1121, "Invalid symbol.")
        if query.get("interval") != interval:
            return error(-1120, "Invalid interval.")
        return klines(history.bars(ids[query["symbol"]]), query, clock(), bar_size)

    return {
        "/api/v3/time": lambda _: Answer({"serverTime": _ms(clock())}),
        "/api/v3/exchangeInfo": lambda _: exchange_info(filter(known, ids.values()), clock()),
        "/api/v3/klines": answer_klines,
    }


def klines(bars: pa.Table, query: Query, now: datetime, bar_size: timedelta) -> Page:
    """The bars of one page: the oldest since ``startTime``, or the newest where that is not given.

    Args:
        bars: All bars of the instrument, in ``RAW_BARS``.
        query: ``startTime``, ``endTime`` and ``limit``, each optional, as the client sent them.
        now: The exchange's clock; bars that begin later do not exist.
        bar_size: Length of a bar.
    """
    since = BEGINNING + int(query.get("startTime", 0)) * MILLISECOND
    until = min(now, BEGINNING + (int(query["endTime"]) + 1) * MILLISECOND) if "endTime" in query else now
    limit = min(int(query.get("limit", DEFAULT_ROWS)), MOST_ROWS)
    asked = bars.filter((pc.field("bar_start") >= since) & (pc.field("bar_start") < until))
    rows = asked.slice(0 if "startTime" in query else max(len(asked) - limit, 0), limit).to_pylist()
    if rows and (elapsed := (now - rows[-1]["bar_start"]) / bar_size) < 1:
        rows[-1] = half_formed(rows[-1], elapsed)
    return Page(rows, lambda sent: Answer([kline(row, bar_size) for row in sent]))


def kline(row: Row, bar_size: timedelta) -> list[Any]:
    """One bar as Binance writes it: times and counts are integers, all other numbers strings of eight decimals.

    What the bar does not say is null.
    """
    taker_notional = None
    if row["volume"] and None not in (row["taker_buy_volume"], row["notional"]):
        taker_notional = row["taker_buy_volume"] * row["notional"] / row["volume"]
    return [
        _ms(row["bar_start"]),
        *(_decimal(row[name]) for name in ("open", "high", "low", "close", "volume")),
        _ms(row["bar_start"] + bar_size) - 1,
        _decimal(row["notional"]),
        row["trade_count"],
        _decimal(row["taker_buy_volume"]),
        _decimal(taker_notional),
        "0",
    ]


def exchange_info(instruments: Iterable[str], now: datetime) -> Answer:
    """The markets, all trading, with the filters that Binance gives a typical one."""
    return Answer(
        {
            "timezone": "UTC",
            "serverTime": _ms(now),
            "rateLimits": [
                {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 6000},
                {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": 100},
                {"rateLimitType": "ORDERS", "interval": "DAY", "intervalNum": 1, "limit": 200000},
                {"rateLimitType": "RAW_REQUESTS", "interval": "MINUTE", "intervalNum": 5, "limit": 61000},
            ],
            "exchangeFilters": [],
            "symbols": [_market(*instrument.split("/")) for instrument in instruments],
        }
    )


def error(code: int, message: str) -> Answer:
    """A request that Binance refuses, in its words."""
    return Answer({"code": code, "msg": message}, status=400)


def _market(base: str, quote: str) -> dict[str, Any]:
    precisions = ("baseAssetPrecision", "quotePrecision", "quoteAssetPrecision")
    commissions = ("baseCommissionPrecision", "quoteCommissionPrecision")
    return {
        "symbol": f"{base}{quote}",
        "status": "TRADING",
        "baseAsset": base,
        "quoteAsset": quote,
        **dict.fromkeys([*precisions, *commissions], 8),
        "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET", "STOP_LOSS_LIMIT", "TAKE_PROFIT_LIMIT"],
        "icebergAllowed": True,
        "ocoAllowed": True,
        "quoteOrderQtyMarketAllowed": True,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": TICK, "maxPrice": "1000000.00000000", "tickSize": TICK},
            {"filterType": "LOT_SIZE", "minQty": TICK, "maxQty": "9000000.00000000", "stepSize": TICK},
            {
                "filterType": "NOTIONAL",
                "minNotional": "5.00000000",
                "applyMinToMarket": True,
                "maxNotional": "9000000.00000000",
                "applyMaxToMarket": False,
                "avgPriceMins": 5,
            },
        ],
        "permissions": [],
        "permissionSets": [["SPOT"]],
        "defaultSelfTradePreventionMode": "EXPIRE_MAKER",
        "allowedSelfTradePreventionModes": ["EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH"],
    }


def _decimal(number: float | None) -> str | None:
    return None if number is None else f"{number:.8f}"


def _ms(moment: datetime) -> int:
    return (moment - BEGINNING) // MILLISECOND
