"""Two small markets in files, in prices and volumes that travel without rounding."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from lem_pipeline.sources.archive import ArchiveBars
from lem_pipeline.universe import nyse_sessions

HOURS = 1200
FIRST_HOUR, AFTER_LAST_HOUR = datetime(2021, 1, 1, tzinfo=UTC), datetime(2021, 5, 1, tzinfo=UTC)
FIRST_DAY, AFTER_LAST_DAY = datetime(2020, 1, 1, tzinfo=UTC), datetime(2021, 1, 1, tzinfo=UTC)
SPLIT_DAY, SPLIT_RATIO = datetime(2020, 8, 31, tzinfo=UTC), 4.0
DIVIDENDS = {datetime(2020, 8, 7, tzinfo=UTC): 0.8, datetime(2020, 11, 6, tzinfo=UTC): 0.25}  # as paid


def crypto_archive(folder: Path) -> ArchiveBars:
    """Hours of BTC/USDT, with everything that Binance tells of a bar."""
    starts = pd.date_range(FIRST_HOUR, periods=HOURS, freq="h")
    return _written(folder / "crypto.parquet", _bars("BTCUSDT", starts))


def dow_archive(folder: Path) -> ArchiveBars:
    """Sessions of AAPL as traded, with a split and two dividends."""
    bars = _bars("AAPL", nyse_sessions(FIRST_DAY, AFTER_LAST_DAY)["bar_start"])
    bars["split_ratio"] = np.where(bars["ts"] == SPLIT_DAY, SPLIT_RATIO, 1.0)
    bars["dividend"] = bars["ts"].map(DIVIDENDS).fillna(0.0)
    before = bars["ts"] < SPLIT_DAY
    bars.loc[before, ["open", "high", "low", "close"]] *= SPLIT_RATIO
    return _written(folder / "dow.parquet", bars)


def _bars(symbol: str, starts: pd.DatetimeIndex | pd.Series) -> pd.DataFrame:
    draw = np.random.default_rng(7)
    count = len(starts)
    opened = 100 + draw.integers(-8, 9, count).cumsum() / 4
    close = opened + draw.integers(-8, 9, count) / 4
    volume = draw.integers(4, 400, count) * 4.0
    return pd.DataFrame(
        {
            "ts": starts,
            "symbol": symbol,
            "open": opened,
            "high": np.maximum(opened, close) + draw.integers(1, 9, count) / 4,
            "low": np.minimum(opened, close) - draw.integers(1, 9, count) / 4,
            "close": close,
            "volume": volume,
            "notional": volume * (opened + close) / 2,
            "trade_count": draw.integers(1, 500, count),
            "taker_buy_volume": volume / 4,
        }
    )


def _written(path: Path, bars: pd.DataFrame) -> ArchiveBars:
    bars.to_parquet(path)
    return ArchiveBars(path=str(path))
