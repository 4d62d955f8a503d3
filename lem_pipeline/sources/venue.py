"""One exchange through its ccxt client: its markets, its clock, its bars."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from typing import Any
from urllib.parse import urlsplit

import ccxt
import dagster as dg
import pandas as pd

from lem_pipeline.errors import ConfigurationError, UnknownSymbolError
from lem_pipeline.names import quoted
from lem_pipeline.progress import Paced
from lem_pipeline.sources.klines import PageRequest, shape_of
from lem_pipeline.sources.mirror import Mirror
from lem_pipeline.sources.paging import Paging
from lem_pipeline.sources.patience import Patience

LONGEST_BAR = timedelta(weeks=1)  # a month has no fixed length, and Kraken's two weeks last 15 days
CLOCK_ALLOWANCE = timedelta(minutes=1)


class Venue:
    """An exchange's spot markets, in bars of one size.

    Args:
        name: The exchange, by its name in ccxt.
        bar_size: Length of one bar, such as ``1h``.
        api_url: Address that stands in for every host of the exchange, or None.
        timeout_s: How long one request may stay silent.
        patience: How the exchange is asked.

    Raises:
        ConfigurationError: There is no such venue, or it does not serve such bars.
    """

    def __init__(self, name: str, bar_size: str, api_url: str | None, timeout_s: float, patience: Patience):
        self.name = name
        self._client = _client(name, api_url, timeout_s)
        self._bar_size = bar_size
        self._patience = patience
        self._shape = shape_of(self._client)
        lengths = _bar_lengths(self._client)
        if bar_size not in lengths:
            raise ConfigurationError(
                f"Bar size {bar_size!r} is not one that {name} serves; configure one of {', '.join(lengths)}."
            )
        self.bar = lengths[bar_size]

    def check(self, instruments: Sequence[str]) -> None:
        """Look all instruments up in the list of markets.

        Raises:
            UnknownSymbolError: Some have no spot market here; the sentence names them all.
        """
        markets = self._spot_markets()
        unknown = [_with_near_matches(symbol, list(markets)) for symbol in instruments if symbol not in markets]
        if unknown:
            raise UnknownSymbolError(
                f"{self.name} has no spot market {', '.join(unknown)}; symbols look like {next(iter(markets))}."
            )

    def now(self) -> datetime:
        """The venue's time; where it has no clock, this computer's less a minute, in case that one is fast."""
        if self._client.has["fetchTime"] is not True:
            return datetime.now(UTC) - CLOCK_ALLOWANCE
        return self._patience.ask(lambda: datetime.fromtimestamp(self._client.fetch_time() / 1000, UTC))

    def bars(self, instrument: str, start: datetime, end: datetime) -> pd.DataFrame:
        """Bars with ``start <= bar_start < end`` as the venue gives them, the open one perhaps among them.

        Returns:
            The columns of ``RAW_BARS`` that the venue fills, and others; ascending, ties in the order received.
        """
        self.check([instrument])
        market = self._spot_markets()[instrument]

        tell = Paced(dg.get_dagster_logger().info)

        def page(since: int, until: int) -> pd.DataFrame:
            tell(f"{instrument}: asking {self.name} for bars from {_moment(since)} to {_moment(until)}")
            request = PageRequest(self._client, market, self._bar_size, since, until)
            return self._patience.ask(lambda: self._shape.frame(self._shape.ask(request)))

        series = f"{self.name} {self._bar_size} bars of {instrument}"
        return self._shape.bars(Paging(series, page, _ms(start), _ms(end), self.bar // timedelta(milliseconds=1)))

    def _spot_markets(self) -> dict[str, Any]:
        markets = self._patience.ask(self._client.load_markets)  # asked once, then remembered by the client
        spot = {symbol: market for symbol, market in markets.items() if market["spot"]}
        if not spot:
            raise ConfigurationError(f"{self.name} lists no spot market; configure a venue that does.")
        return spot


def _client(name: str, api_url: str | None, timeout_s: float) -> Any:
    if name not in ccxt.exchanges:
        raise ConfigurationError(f"ccxt knows no venue {_with_near_matches(name, ccxt.exchanges)}.")
    client = _only_json(getattr(ccxt, name))(
        {"enableRateLimit": True, "timeout": timeout_s * 1000, "has": {"fetchCurrencies": False}}
    )
    if client.has["fetchOHLCV"] is not True:
        raise ConfigurationError(f"{name} serves no bars; configure another venue.")
    listing = client.options.get("fetchMarkets")
    if isinstance(listing, dict) and isinstance(listing.get("types"), list):
        listing["types"] = ["spot"]  # else it also asks hosts that serve futures
    if api_url is not None:
        mirror = Mirror.at(api_url)
        client.urls["api"] = _on_host(mirror.url, client.urls["api"])
        client.session.auth = mirror.login
    return client


def _only_json(exchange: Any) -> Any:
    class OnlyJson(exchange):
        """ccxt takes a page of text, such as a proxy's log-in, for an answer without markets or bars."""

        def handle_errors(
            self, code: int, reason: str, url: str, method: str, headers: Any, body: str, response: Any, *request: Any
        ) -> Any:
            if code < 400 and response is None:
                raise ccxt.BadResponse(f"{self.id} does not answer in JSON")
            return super().handle_errors(code, reason, url, method, headers, body, response, *request)

    return OnlyJson


def _on_host(base: str, urls: Any) -> Any:
    if isinstance(urls, dict):
        return {name: _on_host(base, url) for name, url in urls.items()}
    return base + urlsplit(urls).path


def _bar_lengths(client: Any) -> dict[str, timedelta]:
    lengths = {}
    for size in client.timeframes:
        with suppress(ccxt.NotSupported):  # of some venues ccxt lists sizes that it cannot read
            lengths[size] = timedelta(seconds=client.parse_timeframe(size))
    return {size: length for size, length in lengths.items() if length <= LONGEST_BAR}


def _with_near_matches(name: str, known: Sequence[str]) -> str:
    near = get_close_matches(name, known)
    return f"{name!r} (did you mean {' or '.join(near)}?)" if near else quoted(name)


def _moment(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M}"


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
