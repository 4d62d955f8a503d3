"""Bar features in polars: one lazy query, windows over the number of an unbroken run."""

import math
from pathlib import Path

import pandas as pd
import polars as pl
from polars import col

SERIES = ["asset_class", "symbol"]
KEYS = [*SERIES, "bar_number"]
READ = [*KEYS, "bar_start", "season", "high", "low", "close", "price", "volume"]
READ += ["trade_count", "taker_buy_volume", "split_ratio"]
FACTS_OF_THE_BAR = ["segment", "history_bars", "price", "close", "volume", "expected_volume"]
FEATURES = [
    "return_1",
    "return_4",
    "return_24",
    "close_over_price",
    "bar_range",
    "volume_surprise",
    "volume_trend",
    "volatility_trend",
    "market_return",
    "market_volume_surprise",
]


def load(path: Path) -> pl.DataFrame:
    """Bars as a frame."""
    return pl.read_parquet(path)


def to_pandas(features: pl.DataFrame) -> pd.DataFrame:
    """The same columns as a pandas frame."""
    return features.to_pandas()


def features(bars: pl.DataFrame, horizon: int) -> pl.DataFrame:
    """The columns of ``features.bar_features``."""
    numbered = bars.lazy().filter(col("bar_number").is_not_null(), col("fault").is_null()).select(READ).sort(KEYS)
    is_crypto = col("asset_class") == "crypto"
    seasonal = pl.concat(
        [
            with_expected_volume(numbered.filter(is_crypto), 168, horizon),
            with_expected_volume(numbered.filter(~is_crypto), 5, horizon),
        ]
    )
    return seasonal.pipe(segmented).pipe(with_facts).pipe(known_before).collect()


def with_expected_volume(bars: pl.LazyFrame, season_length: int, horizon: int) -> pl.LazyFrame:
    """Mean volume of the same season over 26 weeks, known a horizon before."""
    weeks = 26 * season_length
    frame = {"offset": f"-{weeks}i", "period": f"{weeks - horizon}i", "closed": "both"}
    mean = col("volume").mean().rolling("bar_number", **frame).over(*SERIES, "season")
    return bars.with_columns(expected_volume=unless_zero(mean))


def unless_zero(value: pl.Expr) -> pl.Expr:
    """Null in place of zero."""
    return pl.when(value != 0).then(value)


def segmented(bars: pl.LazyFrame) -> pl.LazyFrame:
    """Bars in which something could be traded, with their unbroken run and their place in it."""
    is_sound, is_first, is_break = col("is_sound"), col("is_first"), col("is_break")
    follows = (col("bar_number").diff() == 1) & is_sound.shift()
    return (
        bars.with_columns(
            is_sound=((col("volume") > 0) & (col("low") > 0)).fill_null(False),
            is_first=pl.any_horizontal(col(SERIES).ne_missing(col(SERIES).shift())),
        )
        .with_columns(is_break=~is_sound | (col("split_ratio") != 1).fill_null(False) | ~(is_first | follows))
        .with_columns(run=(is_break | is_first).cum_sum().set_sorted())
        .with_columns(segment=is_break.cum_sum().over(SERIES), history_bars=pl.int_range(pl.len()).over("run"))
        .filter(is_sound)
    )


def with_facts(bars: pl.LazyFrame) -> pl.LazyFrame:
    """Facts of each bar, known once it has closed."""
    close, volume, log_return, unit = col("close"), col("volume"), col("log_return"), col("unit")
    units_per_trade = col("units_per_trade")

    def change(bars: int) -> pl.Expr:
        return (close / close.shift(bars).over("run")).log()

    return (
        bars.with_columns(
            log_return=change(1),
            units_per_trade=pl.when(col("trade_count") > 0).then(volume / col("trade_count")),
        )
        .with_columns(
            volatility=log_return.rolling_std(168, min_samples=2).over("run"),
            recent_volatility=log_return.rolling_std(24, min_samples=2).over("run"),
            recent_volume=volume.rolling_mean(12, min_samples=1).over("run"),
            usual_volume=volume.rolling_mean(168, min_samples=1).over("run"),
            usual_units_per_trade=units_per_trade.rolling_mean(168, min_samples=1).over("run"),
        )
        .with_columns(unit=unless_zero(col("volatility")))
        .with_columns(
            return_1=log_return / unit,
            return_4=change(4) / (2 * unit),
            return_24=change(24) / (math.sqrt(24) * unit),
            close_over_price=(close / col("price")).log() / unit,
            bar_range=(col("high") / col("low")).log() / unit,
            volume_surprise=(volume / col("expected_volume")).log(),
            volume_trend=(col("recent_volume") / col("usual_volume")).log(),
            volatility_trend=(unless_zero(col("recent_volatility")) / unit).log(),
            taker_imbalance=(2 * col("taker_buy_volume") / volume - 1).fill_null(0),
            trade_size=(units_per_trade / col("usual_units_per_trade")).log().fill_null(0),
        )
        .with_columns(
            market_return=col("return_1").mean().over("asset_class", "bar_number"),
            market_volume_surprise=col("volume_surprise").mean().over("asset_class", "bar_number"),
        )
    )


def known_before(bars: pl.LazyFrame) -> pl.LazyFrame:
    """What is known before each bar, and what its orders meet."""
    expected = col("expected_volume")
    hour = 2 * math.pi * col("bar_start").dt.hour() / 24
    weekday = 2 * math.pi * col("bar_start").dt.weekday() / 7
    return bars.select(
        *KEYS,
        "bar_start",
        *FACTS_OF_THE_BAR,
        col("volatility", "taker_imbalance", "trade_size", *FEATURES).shift().over("run"),
        season_volume=(expected / expected.rolling_mean(168, min_samples=1).over("run")).log(),
        hour_sin=hour.sin(),
        hour_cos=hour.cos(),
        weekday_sin=weekday.sin(),
        weekday_cos=weekday.cos(),
    ).with_columns(is_complete=pl.all_horizontal(col("season_volume", *FEATURES).is_not_null()))
