"""Daily bars of US shares from Yahoo Finance, with dividends and splits beside the prices."""

from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from typing import Any

import pandas as pd
import pyarrow as pa
from pydantic import Field
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt
from tenacity.wait import wait_exponential_jitter

from lem_pipeline.errors import LemError, UnknownSymbolError, VenueRefusedError, VenueUnreachableError
from lem_pipeline.sources.base import BarSource, raw_bars
from lem_pipeline.sources.mirror import Mirror
from lem_pipeline.universe import DOW_DAILY, FIRST_MONTH, nyse_sessions, only_closed

COLUMNS = {
    "Open": "open",
    "High": "high",
    "Low": "low",
    "Close": "close",
    "Volume": "volume",
    "Adj Close": "adjusted_close",
    "Dividends": "dividend",
    "Stock Splits": "split_ratio",
}
CHART = "/v8/finance/chart/"
REFUSALS = {401, 403, 451}
NOTHING_THEN = "Data doesn't exist for startDate"


class _RateLimitedError(VenueRefusedError):
    """Yahoo asks this client to come back later."""


class YFinanceBars(BarSource):
    """Daily sessions as Yahoo Finance reports them: prices adjusted for splits, not for dividends.

    Attributes:
        attempts: How often a ticker is asked for before Yahoo counts as unreachable.
        api_url: Address that stands in for every Yahoo host, such as a proxy.
        backoff_s: Wait after the first failed attempt; it doubles with each further one.
        timeout_s: How long one request may take.
    """

    attempts: int = 4
    api_url: str | None = Field(default=None, repr=False)
    backoff_s: float = 1.0
    timeout_s: float = 30.0

    @property
    def provenance(self) -> str:
        """Where the bars come from, for a reader of a report."""
        return "Yahoo Finance daily bars through yfinance, split-adjusted"

    def fetch(self, instrument: str, start: datetime, end: datetime) -> pa.Table:
        """Closed sessions; a price that Yahoo leaves out stays null for the checks to report."""
        now = datetime.now(UTC)
        # Up to tomorrow, whatever the period: Yahoo rescales all history at a split, and says so on its day alone.
        asked = (instrument, _first_session_date(start), _first_session_date(now + timedelta(days=1)))
        history = self._ask(*asked)
        if _holes(history):
            # Yahoo leaves sessions out at random; what is missing twice is missing.
            history = max(history, self._ask(*asked), key=_priced)
        bars = raw_bars(_columns(history, start, end), symbol=instrument, venue="yahoo")
        return only_closed(bars, DOW_DAILY, now)

    def _ask(self, instrument: str, first: date, last: date) -> pd.DataFrame:
        retrying = Retrying(
            retry=retry_if_exception_type((VenueUnreachableError, _RateLimitedError)),
            stop=stop_after_attempt(self.attempts),
            wait=wait_exponential_jitter(initial=self.backoff_s, max=60, jitter=self.backoff_s),
            reraise=True,
        )
        return retrying(self._ask_once, instrument, first, last)

    @cached_property
    def _session(self) -> Any:
        return _yahoo_session(self.api_url, self.timeout_s)

    def _ask_once(self, instrument: str, first: date, last: date) -> pd.DataFrame:
        import yfinance as yf
        from yfinance.data import YfData
        from yfinance.exceptions import YFPricesMissingError

        yf.config.debug.hide_exceptions = False
        yf.config.network.retries = 0  # one policy of attempts, ours: two would multiply
        # yfinance remembers answers for the life of the process, failed ones included.
        YfData.cache_get.cache_clear()
        self._session.chart_status = None
        ticker = yf.Ticker(instrument, session=self._session)
        try:
            # `keepna`, or yfinance drops sessions without prices and a gap goes unseen.
            history = ticker.history(start=first, end=last, auto_adjust=False, actions=True, keepna=True)
        except YFPricesMissingError as error:
            if self._session.chart_status < 500 and _is_rightly_empty(error, first):
                return pd.DataFrame(columns=list(COLUMNS), index=pd.DatetimeIndex([]), dtype=float)
            raise self._explained(instrument, error) from error
        except Exception as error:  # yfinance lets through whatever its parsing of a bad answer ran into
            raise self._explained(instrument, error) from error
        return pd.DataFrame(history)

    def _explained(self, instrument: str, error: Exception) -> LemError:
        from yfinance.exceptions import YFPricesMissingError, YFRateLimitError, YFTzMissingError

        # The status says what happened; the exception often only says where the parsing gave up.
        status = self._session.chart_status
        if isinstance(error, YFRateLimitError):
            return _RateLimitedError(
                f"Yahoo Finance still limits this client's rate after {self.attempts} attempts "
                f"(ticker {instrument}); try again later."
            )
        if status in REFUSALS:
            return VenueRefusedError(
                f"Yahoo Finance refuses to serve this network (HTTP {status}, ticker {instrument}); "
                "try from another network or use a bar archive."
            )
        if status == 404 or (isinstance(error, YFTzMissingError) and status is not None and status < 500):
            return UnknownSymbolError(
                f"Yahoo Finance does not know the ticker {instrument!r}, or not any more; correct it or take it out of "
                "the instruments: its stored bars stay."
            )
        what = "an answer without prices" if isinstance(error, YFPricesMissingError) else type(error).__name__
        what = f"HTTP {status}" if status is not None and status >= 400 else what
        return VenueUnreachableError(
            f"Yahoo Finance gave no bars of {instrument} in {self.attempts} attempts ({what}); "
            "check the network or try again later."
        )


def _yahoo_session(api_url: str | None, timeout_s: float) -> Any:
    from curl_cffi.requests import Session

    mirror = Mirror.at(api_url) if api_url else None

    class YahooSession(Session):
        """yfinance's own kind of session, which also remembers how the last chart request was answered."""

        chart_status: int | None = None

        def request(self, method: Any, url: str, *args: Any, **kwargs: Any) -> Any:
            if mirror:
                _, _, path = url.removeprefix("https://").partition("/")
                url = f"{mirror.url}/{path}"
            response = super().request(method, url, *args, **kwargs | {"timeout": timeout_s})
            if CHART in url:
                self.chart_status = response.status_code
            return response

    # Yahoo turns away clients that do not greet it like a browser.
    return YahooSession(impersonate="chrome", auth=mirror.login if mirror else None)


def _first_session_date(moment: datetime) -> date:
    """The earliest session whose label, midnight UTC of its date, is not before ``moment``."""
    label: date = pd.Timestamp(moment).ceil("D").date()
    return label


def _is_rightly_empty(error: Any, first: date) -> bool:
    """Whether no bars is the truth: no session has closed since, or Yahoo says that it has none."""
    if error.yahoo_reason is not None:
        return bool(error.yahoo_reason.startswith(NOTHING_THEN))
    now = datetime.now(UTC)
    closes = nyse_sessions(datetime(first.year, first.month, first.day, tzinfo=UTC), now)["closes_at"]
    return not (closes <= now).any()


def _labels(history: pd.DataFrame) -> pd.DatetimeIndex:
    """Midnight UTC of each session's date, which is how daily bars are labelled here."""
    return pd.DatetimeIndex(history.index).tz_localize(None).tz_localize("UTC").normalize()


def _holes(history: pd.DataFrame) -> int:
    """Sessions between the first and the last of an answer that it leaves out or gives no close for."""
    if history.empty:
        return 0
    labels = _labels(history)
    expected = nyse_sessions(FIRST_MONTH, labels.max().to_pydatetime())["bar_start"]
    priced = labels[history["Close"].notna().to_numpy()]
    return int((~expected[expected >= labels.min()].isin(priced)).sum())


def _priced(history: pd.DataFrame) -> int:
    """Sessions that have a close; an answer that ends early has fewer, though it may have no hole."""
    return int(history["Close"].notna().sum())


def _columns(history: pd.DataFrame, start: datetime, end: datetime) -> dict[str, object]:
    frame = history.rename(columns=COLUMNS)
    frame["bar_start"] = _labels(history)
    frame["splits_until"] = frame["bar_start"].max()
    frame = frame[(frame["bar_start"] >= start) & (frame["bar_start"] < end)].sort_values("bar_start", kind="stable")
    # Yahoo writes 0 on a day without a split, where the ratio of shares is 1.
    frame["split_ratio"] = frame["split_ratio"].replace(0.0, 1.0)
    return {name: frame[name] for name in ["bar_start", "splits_until", *COLUMNS.values()]}
