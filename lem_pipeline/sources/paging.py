"""How the pages of a venue follow each other, without loss, overlap or endless loops."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import pandas as pd

from lem_pipeline.errors import HistoryUnavailableError, VenueUnreachableError

Page = Callable[[int, int], pd.DataFrame]


@dataclass(frozen=True)
class Paging:
    """All pages of one series with ``since <= bar_start < until``; every time is in milliseconds.

    Rows outside what a page was asked for are dropped, so that no bar comes twice unless the venue repeats it.

    Attributes:
        series: Whose bars they are, for error sentences, such as ``binance 1h bars of BTC/USDT``.
        page: Asks for one page by its ``since`` and ``until``; a frame with the column ``bar_start``.
        since: Start of the period, inclusive.
        until: End of the period, exclusive.
        bar: Length of a bar.
    """

    series: str
    page: Page
    since: int
    until: int
    bar: int

    def oldest_first(self, window: int | None = None) -> Iterator[pd.DataFrame]:
        """Pages that begin with the first bar after the moment asked for.

        Args:
            window: How many bars ahead the venue looks; None where it looks ahead without limit, so that an empty page
                is the end.

        Raises:
            VenueUnreachableError: A page does not advance.
        """
        since = self.since
        while since < self.until:
            page = self._answered_page(since, self.until)
            if len(page):
                newest = int(page["bar_start"].max())
                if newest < since:
                    raise self._standstill(f"after {_utc(since)}")
                yield _within(page, since, self.until)
                since = newest + self.bar
            elif window is not None:
                since += window * self.bar
            else:
                return

    def newest_first(self) -> Iterator[pd.DataFrame]:
        """Pages that end with the last bar before the moment asked for.

        Raises:
            VenueUnreachableError: A page does not advance.
        """
        until = self.until
        while self.since < until:
            page = self._answered_page(self.since, until)
            if page.empty:
                return
            oldest = int(page["bar_start"].min())
            if oldest >= until:
                raise self._standstill(f"before {_utc(until)}")
            yield _within(page, self.since, until)
            until = oldest

    def latest(self, kept: int) -> Iterator[pd.DataFrame]:
        """The one page of a venue that keeps no more than its latest bars.

        Args:
            kept: How many bars, the open one included.

        Raises:
            HistoryUnavailableError: The period begins before the oldest bar that the venue kept.
        """
        page = self._answered_page(self.since, self.until)
        if len(page) >= kept and (oldest := int(page["bar_start"].min())) - self.bar >= self.since:
            raise HistoryUnavailableError(
                f"There are no {self.series} before {_utc(oldest)}, because the venue keeps only the latest {kept}; "
                "start there or later, or configure another venue or a bar archive."
            )
        yield _within(page, self.since, self.until)

    def _answered_page(self, since: int, until: int) -> pd.DataFrame:
        page = self.page(since, until)
        # A venue under load may answer with nothing by mistake; nothing is believed once it was said twice.
        return self.page(since, until) if page.empty else page

    def _standstill(self, asked: str) -> VenueUnreachableError:
        return VenueUnreachableError(
            f"The venue answers the same {self.series} again and again when asked for those {asked}; "
            "try again later, or configure another venue."
        )


def _within(page: pd.DataFrame, since: int, until: int) -> pd.DataFrame:
    return page[(page["bar_start"] >= since) & (page["bar_start"] < until)]


def _utc(moment_ms: int) -> str:
    return f"{datetime.fromtimestamp(moment_ms / 1000, UTC):%Y-%m-%d %H:%M}"
