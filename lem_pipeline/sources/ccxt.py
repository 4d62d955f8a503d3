"""Live bars from a Binance-shaped exchange, through ccxt's raw klines endpoint."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

import pandas as pd
import pyarrow as pa
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt
from tenacity.wait import wait_exponential_jitter

from lem_pipeline.errors import (
    ConfigurationError,
    LemError,
    UnknownSymbolError,
    VenueRefusedError,
    VenueUnreachableError,
)
from lem_pipeline.sources.base import BarSource, raw_bars
from lem_pipeline.universe import CRYPTO_HOURLY, AssetClass, only_closed

VENUES = ("binance", "binanceus")
KLINE = (
    "bar_start open high low close volume close_time notional trade_count taker_buy_volume taker_buy_notional unused"
).split()
PAGE_ROWS = 1000
REFUSALS = {403, 451}
LONGEST_WAIT_S = 300.0


class _RateLimitedError(VenueRefusedError):
    """The venue asks this client to come back later."""

    def __init__(self, message: str, retry_after_s: float):
        super().__init__(message)
        self.retry_after_s = retry_after_s


class CcxtBars(BarSource):
    """Spot klines of an exchange, with the quote volume that ccxt's unified candles leave out.

    Attributes:
        venue: The exchange, by its name in ccxt; it must speak Binance's klines.
        bar_size: Length of one bar, such as ``1h``.
        api_url: Address that stands in for the exchange's public API, such as a proxy.
        attempts: How often a request is tried before the venue counts as unreachable.
        backoff_s: Wait after the first failed attempt; it doubles with each further one.
    """

    venue: str = "binance"
    bar_size: str = "1h"
    api_url: str | None = None
    attempts: int = 4
    backoff_s: float = 1.0

    @property
    def provenance(self) -> str:
        """Where the bars come from, for a reader of a report."""
        return f"ccxt {self.venue} spot klines, {self.bar_size}"

    def fetch(self, instrument: str, start: datetime, end: datetime) -> pa.Table:
        """Closed bars as traded, with notional, trade count and taker-buy volume."""
        asset = self._asset
        market_id = self._market_id(instrument)
        # Read before the download: a bar that ends during it is then still open, and left for next time.
        now = datetime.fromtimestamp(self._ask(self._client.fetch_time) / 1000, UTC)
        klines = {int(kline[0]): kline for kline in self._klines(market_id, asset.bar_size, start, end)}
        columns = _columns([klines[opened] for opened in sorted(klines)])
        return only_closed(raw_bars(columns, symbol=instrument, venue=self.venue), asset, now)

    @cached_property
    def _client(self) -> Any:
        import ccxt

        if self.venue not in VENUES:
            raise ConfigurationError(
                f"Venue {self.venue!r} is not supported: its klines have no known notional; "
                f"configure one of {', '.join(VENUES)}."
            )
        # Without the two options ccxt also asks hosts that serve futures and wallets.
        config: dict[str, Any] = {
            "enableRateLimit": True,
            "timeout": 30_000,
            "options": {"fetchMarkets": {"types": ["spot"]}, "fetchCurrencies": False},
        }
        if self.api_url is not None:
            config["urls"] = {"api": {"public": f"{self.api_url.rstrip('/')}/api/v3"}}
        return getattr(ccxt, self.venue)(config)

    @property
    def _asset(self) -> AssetClass:
        sizes = [size for size in self._client.timeframes if size != "1M"]  # a month has no fixed length
        if self.bar_size not in sizes:
            raise ConfigurationError(
                f"Bar size {self.bar_size!r} is not one that {self.venue} serves; configure one of {', '.join(sizes)}."
            )
        return replace(CRYPTO_HOURLY, bar_size=timedelta(seconds=self._client.parse_timeframe(self.bar_size)))

    def _market_id(self, instrument: str) -> str:
        markets = self._ask(self._client.load_markets)
        if instrument not in markets:
            raise UnknownSymbolError(f"{self.venue} has no spot market {instrument!r}; symbols look like BTC/USDT.")
        return str(markets[instrument]["id"])

    def _klines(self, market_id: str, bar_size: timedelta, start: datetime, end: datetime) -> Iterator[list[Any]]:
        start_ms, end_ms, bar_ms = _ms(start), _ms(end), bar_size // timedelta(milliseconds=1)
        since = start_ms
        # An empty page ends the walk, a short one does not: venues may cap a page below what was asked.
        while since < end_ms:
            query = {
                "symbol": market_id,
                "interval": self.bar_size,
                "startTime": since,
                "endTime": end_ms - 1,
                "limit": PAGE_ROWS,
            }
            page = self._ask(self._client.publicGetKlines, query)
            if not page:
                return
            newest = max(int(kline[0]) for kline in page)
            if newest < since:
                raise VenueUnreachableError(
                    f"{self.venue} answers the same klines of {market_id} again and again "
                    f"when asked for those after {datetime.fromtimestamp(since / 1000, UTC):%Y-%m-%d %H:%M}."
                )
            yield from (kline for kline in page if start_ms <= int(kline[0]) < end_ms)
            since = newest + bar_ms

    def _ask(self, call: Callable[..., Any], *arguments: Any) -> Any:
        retrying = Retrying(
            retry=retry_if_exception_type((VenueUnreachableError, _RateLimitedError)),
            stop=stop_after_attempt(self.attempts),
            wait=self._wait_s,
            reraise=True,
        )
        return retrying(self._ask_once, call, *arguments)

    def _ask_once(self, call: Callable[..., Any], *arguments: Any) -> Any:
        import ccxt

        try:
            answer = call(*arguments)
        except ccxt.BaseError as error:
            raise self._explained(error) from error
        # ccxt passes a page of HTML on as text and reads no markets or time from it: a proxy's login page.
        if isinstance(answer, str) or answer is None or answer == {}:
            raise VenueUnreachableError(
                f"Something between here and {self.venue} answered in its place; check the network or proxy."
            )
        return answer

    def _wait_s(self, state: RetryCallState) -> float:
        backoff = wait_exponential_jitter(initial=self.backoff_s, max=60, jitter=self.backoff_s)
        error = state.outcome.exception() if state.outcome else None
        return backoff(state) + getattr(error, "retry_after_s", 0.0)

    def _explained(self, error: Exception) -> LemError:
        import ccxt

        # ccxt raises one class for 403, 451 and 503; only the HTTP error under it tells them apart.
        response = getattr(error.__context__, "response", None)
        status = getattr(response, "status_code", None)
        if status in REFUSALS:
            return VenueRefusedError(
                f"{self.venue} refuses to serve this country or network (HTTP {status}); "
                "configure another venue, such as binanceus, or a bar archive."
            )
        if isinstance(error, ccxt.DDoSProtection | ccxt.RateLimitExceeded):
            return self._rate_limited(getattr(response, "headers", {}).get("Retry-After", ""))
        what = f"HTTP {status}" if status else type(error).__name__
        return VenueUnreachableError(
            f"{self.venue} could not be reached in {self.attempts} attempts ({what}); "
            "check the network, or configure another venue."
        )

    def _rate_limited(self, retry_after: str) -> VenueRefusedError:
        retry_after_s = float(retry_after) if retry_after.isdigit() else 0.0
        if retry_after_s > LONGEST_WAIT_S:
            return VenueRefusedError(
                f"{self.venue} has banned this network's address; try again in {retry_after_s:.0f} seconds."
            )
        return _RateLimitedError(
            f"{self.venue} still limits this client's rate after {self.attempts} attempts; try again later.",
            retry_after_s,
        )


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _columns(klines: list[list[Any]]) -> dict[str, object]:
    frame = pd.DataFrame(klines, columns=KLINE).astype(float).astype({"bar_start": int, "trade_count": int})
    frame["bar_start"] = pd.to_datetime(frame["bar_start"], unit="ms", utc=True)
    return {name: frame[name] for name in KLINE}
