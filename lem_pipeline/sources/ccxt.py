"""Live bars from crypto exchanges, through ccxt."""

from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import dagster as dg
import pyarrow as pa
from pydantic import Field

from lem_pipeline.errors import VenueBlockedError
from lem_pipeline.sources.base import BarSource, raw_bars
from lem_pipeline.universe import CRYPTO_HOURLY, only_closed

if TYPE_CHECKING:
    from lem_pipeline.sources.venue import Venue

T = TypeVar("T")


class CcxtBars(BarSource):
    """Spot bars of the first exchange that serves this country, with their notional where it tells.

    Only a refusal makes room for the next exchange. An outage does not, since it would mix venues in one series for no
    lasting reason.

    Attributes:
        venues: Exchanges in order of preference, by their names in ccxt.
        bar_size: Length of one bar, such as ``1h``.
        api_url: Address that stands in for every host of the exchanges, such as a proxy.
        attempts: How often a request is tried before the venue counts as unreachable.
        backoff_s: Wait after the first failed attempt; it doubles with each further one.
        timeout_s: How long one request may stay silent.
    """

    venues: list[str] = Field(default=["binance"])
    bar_size: str = "1h"
    api_url: str | None = Field(default=None, repr=False)
    attempts: int = 4
    backoff_s: float = 1.0
    timeout_s: float = 30.0

    @property
    def provenance(self) -> str:
        """Where the bars come from, for a reader of a report."""
        return f"ccxt {' or '.join(self.venues)} spot bars, {self.bar_size}"

    def check(self, instruments: Sequence[str]) -> None:
        """Look venues, bar size and instruments up before anything is downloaded."""
        self._of_first_that_serves(lambda venue: venue.check(instruments))

    def fetch(self, instrument: str, start: datetime, end: datetime) -> pa.Table:
        """Closed bars as traded; notional, trade count and taker-buy volume are null where the venue has none."""
        return self._of_first_that_serves(lambda venue: _closed_bars(venue, instrument, start, end))

    @cached_property
    def _serving(self) -> "deque[Venue]":
        from lem_pipeline.sources.patience import Patience
        from lem_pipeline.sources.venue import Venue

        return deque(
            Venue(name, self.bar_size, self.api_url, self.timeout_s, Patience(name, self.attempts, self.backoff_s))
            for name in self.venues
        )

    def _of_first_that_serves(self, answer: Callable[["Venue"], T]) -> T:
        while self._serving:
            try:
                return answer(self._serving[0])
            except VenueBlockedError as refusal:
                self._serving.popleft()
                instead = f" Asking {self._serving[0].name} instead." if self._serving else ""
                dg.get_dagster_logger().warning(f"{refusal}{instead}")
        raise VenueBlockedError(
            f"Every configured venue ({', '.join(self.venues)}) refuses to serve this country or network; "
            "configure another venue, such as kraken, or a bar archive."
        )


def _closed_bars(venue: "Venue", instrument: str, start: datetime, end: datetime) -> pa.Table:
    # Read before the download: a bar that ends during it is then still open, and left for next time.
    now = venue.now()
    columns = dict(venue.bars(instrument, start, end).items())
    bars = raw_bars(columns, symbol=instrument, venue=venue.name)
    closed = only_closed(bars, CRYPTO_HOURLY.with_bars_of(venue.bar), now)
    if len(closed) and (first := closed["bar_start"][0].as_py()) - start > venue.bar:
        dg.get_dagster_logger().warning(
            f"{venue.name} has no bar of {instrument} from {start:%Y-%m-%d %H:%M} to {first:%Y-%m-%d %H:%M}: "
            "not listed yet, halted, or no longer kept"
        )
    return closed
