"""A seeded simulated market: the embedded default, for trying the pipeline without any data or network."""

import zlib
from collections.abc import Sequence
from datetime import datetime

import numpy as np
import pandas as pd
import pyarrow as pa

from lem_models.simulation import SimulatedSymbol, days_of_week, hours_of_week
from lem_pipeline.errors import UnknownSymbolError
from lem_pipeline.sources.base import BarSource, raw_bars
from lem_pipeline.universe import ASSET_CLASSES, nyse_sessions, only_closed

_SPLITS = {"AAPL": (200, 4.0), "HD": (520, 2.0)}  # session since the origin, new shares per old share


class SimulatedBars(BarSource):
    """Bars of a seeded market; the same seed and origin give the same bars whatever period is asked for."""

    asset_class: str = "crypto"
    seed: int = 7
    origin: str = "2024-01-01"

    @property
    def provenance(self) -> str:
        """Says SIMULATED first."""
        return f"SIMULATED {self.asset_class} market, seed {self.seed}, from {self.origin}"

    def check(self, instruments: Sequence[str]) -> None:
        """Refuse symbols that the simulated market does not have."""
        known = ASSET_CLASSES[self.asset_class].instruments
        if unknown := [instrument for instrument in instruments if instrument not in known]:
            raise UnknownSymbolError(
                f"the simulated {self.asset_class} market has no {', '.join(map(repr, unknown))}; "
                f"it has {', '.join(known)}"
            )

    def fetch(self, instrument: str, start: datetime, end: datetime) -> pa.Table:
        """Closed simulated bars; see :meth:`BarSource.fetch`."""
        self.check([instrument])
        asset = ASSET_CLASSES[self.asset_class]
        origin = pd.Timestamp(self.origin, tz="UTC")
        if asset.always_open:
            starts = pd.date_range(origin, end, freq=asset.bar_size, inclusive="left")
            season_index = starts.dayofweek.to_numpy() * 24 + starts.hour.to_numpy()
        else:
            starts = pd.DatetimeIndex(nyse_sessions(origin.to_pydatetime(), end)["bar_start"])
            season_index = starts.dayofweek.to_numpy()
        columns: dict[str, object] = dict(self._symbol(instrument).bars(season_index.astype(np.int64)))
        if self.asset_class == "dow":
            columns |= _split(instrument, columns)
        table = raw_bars({"bar_start": starts, **columns}, symbol=instrument, venue="simulated")
        table = table.filter(pa.array(np.asarray(starts >= pd.Timestamp(start))))
        return only_closed(table, asset, datetime.now(start.tzinfo))

    def _symbol(self, instrument: str) -> SimulatedSymbol:
        spread = zlib.crc32(instrument.encode()) % 1000 / 1000  # symbols differ in price, volatility and size
        if self.asset_class == "crypto":
            return SimulatedSymbol(
                instrument,
                self.seed,
                first_price=10 ** (4.5 * spread),
                volatility=0.006 + 0.006 * spread,
                bar_volume=10 ** (6 - 4 * spread),
                season=hours_of_week(),
            )
        return SimulatedSymbol(
            instrument,
            self.seed,
            first_price=40 + 300 * spread,
            volatility=0.012 + 0.008 * spread,
            bar_volume=2e6 + 2e7 * (1 - spread),
            season=days_of_week(),
            overnight_share=0.25,
        )


def _split(instrument: str, columns: dict[str, object]) -> dict[str, object]:
    """Make prices and volumes what they were when traded: before a split, dearer and fewer shares."""
    count = len(columns["open"])  # type: ignore[arg-type]
    session, ratio = _SPLITS.get(instrument, (count, 1.0))
    split_ratio = np.ones(count)
    if session < count:
        split_ratio[session] = ratio
    factor = np.where(np.arange(count) < session, ratio, 1.0)
    priced = {name: np.asarray(columns[name]) * factor for name in ("open", "high", "low", "close")}
    traded = {name: np.asarray(columns[name]) / factor for name in ("volume", "taker_buy_volume")}
    return {**priced, **traded, "split_ratio": split_ratio}
