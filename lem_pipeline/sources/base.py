"""The interface of every source of raw bars, and the one schema they all answer in."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import datetime

import dagster as dg
import pyarrow as pa

RAW_BARS = pa.schema(
    [
        pa.field("symbol", pa.string(), nullable=False),
        pa.field("bar_start", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("open", pa.float64()),
        pa.field("high", pa.float64()),
        pa.field("low", pa.float64()),
        pa.field("close", pa.float64()),
        pa.field("volume", pa.float64()),  # base units: coins or shares
        pa.field("notional", pa.float64()),  # quote currency; null where the venue does not say
        pa.field("trade_count", pa.int64()),
        pa.field("taker_buy_volume", pa.float64()),
        pa.field("adjusted_close", pa.float64()),  # adjusted for splits and dividends, as the vendor says
        pa.field("dividend", pa.float64()),  # cash per share on its ex-date, else 0
        pa.field("split_ratio", pa.float64()),  # new shares per old share on its ex-date, else 1
        pa.field("splits_until", pa.timestamp("us", tz="UTC")),  # see below
        pa.field("venue", pa.string(), nullable=False),
    ]
)
"""Raw bars as a venue reported them, ascending in ``bar_start``.

``splits_until``: prices and volumes already reflect every split with an ex-date up to here. As traded, that is the
bar's own start; a vendor that rescales its history gives the last session it knew; null means all stored splits.
"""


class BarSource(dg.ConfigurableResource, ABC):
    """Where raw bars come from: a venue in production, a file or a simulation elsewhere."""

    @property
    @abstractmethod
    def provenance(self) -> str:
        """What a reader of a report is told about these bars; starts with SIMULATED where they are."""

    def check(self, instruments: Sequence[str]) -> None:
        """Refuse before anything is downloaded what cannot be served; a source that cannot know stays silent.

        Raises:
            UnknownSymbolError: The source does not know an instrument.
            ConfigurationError: The source cannot serve these bars.
            ArchiveError: The archive is missing or malformed.
        """

    @abstractmethod
    def fetch(self, instrument: str, start: datetime, end: datetime) -> pa.Table:
        """Closed bars with ``start <= bar_start < end`` in schema ``RAW_BARS``, ascending.

        A bar that the venue repeats stands there twice, the later row last; ingestion keeps that one and records both.
        A table without rows means that the venue knows the instrument and has no bars in this period.

        Raises:
            UnknownSymbolError: The source does not know the instrument.
            VenueUnreachableError: A live venue cannot be reached.
            VenueRefusedError: A live venue refuses to serve.
            HistoryUnavailableError: A live venue no longer has bars this old.
            ArchiveError: The archive is missing or malformed.
        """


def raw_bars(columns: dict[str, object], *, symbol: str, venue: str) -> pa.Table:
    """Build a ``RAW_BARS`` table from the columns a source has; the others become null, 0 or 1.

    Prices count as traded where ``columns`` has no ``splits_until``.

    Args:
        columns: Arrays by column name; ``bar_start`` and OHLCV are required.
        symbol: The instrument all rows belong to.
        venue: The venue all rows come from.
    """
    rows = len(columns["bar_start"])  # type: ignore[arg-type]
    constants = {
        "symbol": symbol,
        "venue": venue,
        "dividend": 0.0,
        "split_ratio": 1.0,
    }
    arrays = []
    columns = {"splits_until": columns["bar_start"], **columns}
    for field in RAW_BARS:
        values = columns.get(field.name)
        if values is None:
            values = [constants.get(field.name)] * rows
        arrays.append(pa.array(values, type=field.type, from_pandas=True))
    return pa.Table.from_arrays(arrays, schema=RAW_BARS)
