"""Staging and the market of all asset classes: numbering, typing, split adjustment, average prices."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from warehouses import build, daily, hourly, read, sessions

SESSIONS = 40


def staged(path, **bars: pd.DataFrame) -> pd.DataFrame:
    """The market of one asset class, which has every column of its staging table and an average price."""
    warehouse = build(path, **bars, schemas=["staging", "bars"])
    return read(warehouse, "from bars.market_bars order by symbol, bar_start")


def test_crypto_bars_are_numbered_by_the_hour_and_seasoned_by_the_hour_of_the_week(tmp_path):
    bars = hourly(400, ["BTC/USDT"])
    table = staged(tmp_path, crypto=bars)
    starts = bars["bar_start"]
    assert table["bar_number"].tolist() == [int(start.timestamp()) // 3600 for start in starts]
    assert (table["bar_number"].diff().dropna() == 1).all()
    assert table["season"].tolist() == [start.isoweekday() * 24 + start.hour for start in starts]
    assert table["season"].nunique() == 168
    assert (table["bar_end"] - table["bar_start"] == timedelta(hours=1)).all()


def test_crypto_bars_keep_their_prices_and_average_them_by_notional(tmp_path):
    bars = hourly(50, ["BTC/USDT"])
    table = staged(tmp_path, crypto=bars)
    for column in ("open", "high", "low", "close", "volume", "notional", "taker_buy_volume"):
        np.testing.assert_array_equal(table[column], bars[column])
    np.testing.assert_allclose(table["price"], bars["notional"] / bars["volume"])
    assert not table["price_is_proxy"].any()


@pytest.mark.parametrize("asset_class", ["crypto", "dow"])
def test_the_typical_price_stands_in_where_the_venue_gives_no_notional(tmp_path, asset_class):
    bars = (hourly if asset_class == "crypto" else daily)(20, ["X"]).assign(notional=np.nan)
    table = staged(tmp_path, **{asset_class: bars})
    typical = (bars["high"] + bars["low"] + bars["close"]) / 3
    np.testing.assert_allclose(table["price"], typical)
    np.testing.assert_allclose(table["notional"], typical * bars["volume"])
    assert table["price_is_proxy"].all()


def test_a_bar_without_volume_has_the_typical_price(tmp_path):
    bars = hourly(10, ["X"])
    bars.loc[4, ["volume", "notional"]] = 0.0
    table = staged(tmp_path, crypto=bars)
    assert table["price"][4] == pytest.approx(bars.loc[4, ["high", "low", "close"]].mean())


def test_dow_bars_are_numbered_by_session_and_end_when_it_closes(tmp_path):
    bars = daily(SESSIONS, ["AAPL"], since="2024-11-20")
    table = staged(tmp_path, dow=bars)
    calendar = sessions().set_index("bar_start").loc[bars["bar_start"]]
    assert table["bar_number"].tolist() == calendar["session_number"].tolist()
    assert table["bar_end"].tolist() == calendar["closes_at"].tolist()
    assert table["season"].tolist() == [start.isoweekday() for start in bars["bar_start"]]
    half_day = table.loc[table["bar_start"] == datetime(2024, 12, 24, tzinfo=UTC), "bar_end"]
    assert half_day.tolist() == [datetime(2024, 12, 24, 18, tzinfo=UTC)]


def test_a_daily_bar_on_a_date_without_session_has_no_number(tmp_path):
    bars = daily(5, ["AAPL"])
    saturday = pd.Timestamp("2022-01-08", tz="UTC")
    table = staged(tmp_path, dow=pd.concat([bars, bars.head(1).assign(bar_start=saturday)]))
    assert table.loc[table["bar_number"].isna(), "bar_start"].tolist() == [saturday]
    assert len(table) == 6


def traded(bars: pd.DataFrame, splits: dict[int, float]) -> pd.DataFrame:
    """What continuous bars looked like when they were traded, before later splits."""
    raw = bars.copy()
    for session, ratio in splits.items():
        before = raw.index < session
        raw.loc[before, ["open", "high", "low", "close"]] *= ratio
        raw.loc[before, ["volume", "taker_buy_volume"]] /= ratio
        raw.loc[session, "split_ratio"] = ratio
    return raw


@pytest.mark.parametrize("splits", [{20: 4.0}, {10: 2.0, 25: 7.0}, {15: 0.1}, {39: 3.0}], ids=str)
def test_splits_are_adjusted_so_that_prices_continue_and_notional_stays(tmp_path, splits):
    continuous = daily(SESSIONS, ["AAPL"])
    table = staged(tmp_path, dow=traded(continuous, splits))
    for column in ("open", "high", "low", "close", "volume", "taker_buy_volume", "notional"):
        np.testing.assert_allclose(table[column], continuous[column])
    np.testing.assert_allclose(table["price"], continuous["notional"] / continuous["volume"])
    assert table.index[table["split_ratio"] != 1].tolist() == list(splits)


def test_the_split_of_one_share_leaves_the_others_alone(tmp_path):
    bars = daily(SESSIONS, ["AAPL"])
    other = daily(SESSIONS, ["IBM"])
    table = staged(tmp_path, dow=pd.concat([traded(bars, {20: 4.0}), other]))
    np.testing.assert_allclose(table.loc[table["symbol"] == "IBM", "close"], other["close"])


@pytest.mark.parametrize("known_until", [None, SESSIONS - 1], ids=["all splits", "splits up to the last session"])
def test_prices_that_a_vendor_has_adjusted_are_not_adjusted_again(tmp_path, known_until):
    bars = daily(SESSIONS, ["AAPL"])
    bars["splits_until"] = pd.NaT if known_until is None else bars["bar_start"][known_until]
    bars.loc[20, "split_ratio"] = 4.0
    table = staged(tmp_path, dow=bars)
    np.testing.assert_allclose(table["close"], bars["close"])
    np.testing.assert_allclose(table["volume"], bars["volume"])
    assert table["split_ratio"][20] == 4.0


def test_bars_that_a_vendor_gave_before_a_split_continue_in_those_it_gave_after(tmp_path):
    continuous = daily(SESSIONS, ["AAPL"])
    bars = continuous.assign(splits_until=continuous["bar_start"].iloc[-1])
    early = bars.index < 15  # fetched that evening, when Yahoo knew nothing of the split five sessions later
    bars.loc[early, "splits_until"] = bars["bar_start"][14]
    bars.loc[early, ["open", "high", "low", "close"]] *= 4
    bars.loc[early, ["volume", "taker_buy_volume"]] /= 4
    bars.loc[20, "split_ratio"] = 4.0
    table = staged(tmp_path, dow=bars)
    for column in ("open", "high", "low", "close", "volume", "price", "notional"):
        np.testing.assert_allclose(table[column], build_price(continuous)[column])


def build_price(bars: pd.DataFrame) -> pd.DataFrame:
    return bars.assign(price=bars["notional"] / bars["volume"])


def test_the_market_holds_every_bar_of_both_asset_classes(tmp_path):
    crypto, dow = hourly(30), daily(20)
    market = read(build(tmp_path, crypto, dow, schemas=["staging", "bars"]), "from bars.market_bars")
    assert market.groupby("asset_class").size().to_dict() == {"crypto": len(crypto), "dow": len(dow)}
    assert market.columns[0] == "asset_class"
    assert market["bar_number"].notna().all()


def test_a_market_without_one_of_the_asset_classes_holds_the_other(tmp_path):
    market = read(build(tmp_path, dow=daily(20)), "from bars.market_bars")
    assert set(market["asset_class"]) == {"dow"}


def test_the_average_price_does_not_depend_on_how_small_or_large_the_volume_is(tmp_path):
    bars = hourly(50, ["A"])
    sizes = ["volume", "notional", "taker_buy_volume"]
    units = {"A": 1.0, "B": 1e-15, "C": 1e15}
    table = staged(
        tmp_path, crypto=pd.concat(bars.assign(symbol=s, **(bars[sizes] * unit)) for s, unit in units.items())
    )
    assert not table["price_is_proxy"].any()
    one, small, large = (table.loc[table["symbol"] == symbol, "price"] for symbol in units)
    np.testing.assert_allclose(small, one, rtol=1e-12)
    np.testing.assert_allclose(large, one, rtol=1e-12)
