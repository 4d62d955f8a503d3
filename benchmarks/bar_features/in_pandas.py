"""Bar features in pandas: rows in the order of symbol and time, then operations over whole columns.

Windows that begin anew after a break have their bounds computed for all rows at once (``BaseIndexer``): a third of the
time of rolling windows per group.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api.indexers import BaseIndexer
from pandas.api.typing import Rolling

KEYS = ["asset_class", "symbol", "bar_number"]
READ = [*KEYS, "bar_start", "season", "high", "low", "close", "price", "volume"]
READ += ["trade_count", "taker_buy_volume", "split_ratio"]
KEPT = [*KEYS, "bar_start", "segment", "history_bars", "price", "close", "volume", "expected_volume"]
MAY_BE_NULL = ["volatility", "taker_imbalance", "trade_size"]  # in a row that counts as complete

Rows = NDArray[np.int64]


class Frames(BaseIndexer):
    """A window for each row, from row ``first`` up to row ``end``, exclusive."""

    first: Rows
    end: Rows

    def get_window_bounds(
        self,
        num_values: int = 0,
        min_periods: int | None = None,
        center: bool | None = None,
        closed: str | None = None,
        step: int | None = None,
    ) -> tuple[Rows, Rows]:
        """The bounds, whatever pandas asks for."""
        return self.first, self.end


def load(path: Path) -> pd.DataFrame:
    """Bars as a frame, names as categories."""
    return pd.read_parquet(path).astype(dict.fromkeys(["asset_class", "symbol"], "category"))


def to_pandas(features: pd.DataFrame) -> pd.DataFrame:
    """The frame itself."""
    return features


def features(bars: pd.DataFrame, horizon: int) -> pd.DataFrame:
    """The columns of ``features.bar_features``."""
    numbered = bars["bar_number"].notna() & bars["fault"].isna()
    bars = bars.loc[numbered, READ].astype({"bar_number": np.int64})
    bars = bars.sort_values(KEYS, ignore_index=True)
    series = bars.groupby(["asset_class", "symbol"], observed=True, sort=False).ngroup()
    bars["expected_volume"] = expected_volumes(bars, series, horizon)
    bars = segmented(bars, series)
    facts = facts_of(bars)
    is_first = bars["history_bars"] == 0
    known = facts.shift()
    known.loc[is_first] = np.nan
    expected = bars["expected_volume"]
    season_volume = np.log(expected / trailing(expected, bars["history_bars"], 168).mean())
    hour = 2 * np.pi * bars["bar_start"].dt.hour / 24
    weekday = 2 * np.pi * (bars["bar_start"].dt.day_of_week + 1) / 7
    return bars[KEPT].assign(
        **known,
        season_volume=season_volume,
        hour_sin=np.sin(hour),
        hour_cos=np.cos(hour),
        weekday_sin=np.sin(weekday),
        weekday_cos=np.cos(weekday),
        is_complete=season_volume.notna() & known.drop(columns=MAY_BE_NULL).notna().all(axis=1),
    )


def expected_volumes(bars: pd.DataFrame, series: pd.Series, horizon: int) -> pd.Series:
    """Mean volume of the same season over 26 weeks, known a horizon before."""
    season = (series * 256 + bars["season"]).to_numpy()
    order = np.argsort(season, kind="stable")
    weeks = 26 * np.where(bars["asset_class"] == "crypto", 168, 5)[order]
    number = bars["bar_number"].to_numpy()[order]
    # One clock for all seasons, on which windows of different seasons never meet.
    clock = season[order] * 2 * (np.ptp(number) + weeks.max() + horizon) + number
    frames = Frames(first=np.searchsorted(clock, clock - weeks), end=np.searchsorted(clock, clock - horizon, "right"))
    mean = bars["volume"].iloc[order].rolling(frames, min_periods=1).mean()
    return mean.mask(mean == 0)


def segmented(bars: pd.DataFrame, series: pd.Series) -> pd.DataFrame:
    """Bars in which something could be traded, with their unbroken run and their place in it."""
    is_first = series.diff().ne(0)
    is_sound = (bars["volume"] > 0) & (bars["low"] > 0)
    follows = bars["bar_number"].diff().eq(1) & is_sound.shift(fill_value=False)
    is_break = ~is_sound | bars["split_ratio"].fillna(1).ne(1) | ~(follows | is_first)
    breaks = is_break.cumsum()
    before = (breaks - is_break).groupby(series).transform("first")
    run = (is_break | is_first).cumsum()
    bars = bars.assign(segment=breaks - before, history_bars=run.groupby(run).cumcount())
    return bars[is_sound].reset_index(drop=True)


def trailing(column: pd.Series, history: pd.Series, bars: int) -> Rolling:
    """Windows of the last bars of a segment, up to and including each."""
    end = np.arange(1, len(column) + 1)
    return column.rolling(Frames(first=end - 1 - history.clip(upper=bars - 1).to_numpy(), end=end), min_periods=1)


def facts_of(bars: pd.DataFrame) -> pd.DataFrame:
    """Facts of each bar, known once it has closed."""
    history, close, volume = bars["history_bars"], bars["close"], bars["volume"]

    def change(bars: int) -> pd.Series:
        return np.log(close / close.shift(bars).where(history >= bars))

    log_return = change(1)
    volatility = trailing(log_return, history, 168).std()
    unit = volatility.mask(volatility == 0)
    recent_volatility = trailing(log_return, history, 24).std()
    recent_volume, usual_volume = (trailing(volume, history, length).mean() for length in (12, 168))
    units_per_trade = volume / bars["trade_count"].where(bars["trade_count"] > 0)
    facts = pd.DataFrame(
        {
            "volatility": volatility,
            "return_1": log_return / unit,
            "return_4": change(4) / (2 * unit),
            "return_24": change(24) / (np.sqrt(24) * unit),
            "close_over_price": np.log(close / bars["price"]) / unit,
            "bar_range": np.log(bars["high"] / bars["low"]) / unit,
            "volume_surprise": np.log(volume / bars["expected_volume"]),
            "volume_trend": np.log(recent_volume / usual_volume),
            "volatility_trend": np.log(recent_volatility.mask(recent_volatility == 0) / unit),
            "taker_imbalance": (2 * bars["taker_buy_volume"] / volume - 1).fillna(0),
            "trade_size": np.log(units_per_trade / trailing(units_per_trade, history, 168).mean()).fillna(0),
        }
    )
    by_bar = facts.groupby([bars["asset_class"], bars["bar_number"]], observed=True, sort=False)
    means = by_bar[["return_1", "volume_surprise"]].transform("mean")
    return facts.assign(market_return=means["return_1"], market_volume_surprise=means["volume_surprise"])
