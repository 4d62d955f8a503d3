"""Bars put together from shorter ones: what they hold, what a missing part does, and that nothing looks ahead."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from warehouses import FEATURES, MONDAY, PARAMETERS, bars_at, build, daily, read

from lem_pipeline.causality import look_ahead
from lem_pipeline.sources.archive import ArchiveBars

MARKET = ("staging", "bars")
CHECKED = ("staging", "bars", "quality")
SUMS = ["volume", "notional", "taker_buy_volume", "trade_count"]
PRICES = ["open", "high", "low", "close"]
AT = 12 * 24 + 30  # a 5-minute bar of the second day, at 02:30
RULES = dict(open="first", high="max", low="min", close="last") | dict.fromkeys(SUMS, "sum")


def lengths(source: int, market: int) -> dict[str, Any]:
    return PARAMETERS | {"crypto_source_bar_minutes": source, "crypto_bar_minutes": market}


def every(minutes: int, count: int, symbols: tuple[str, ...] = ("BTC/USDT",), since: str = MONDAY) -> pd.DataFrame:
    """Bars without a gap, symbol by symbol."""
    starts = pd.date_range(since, periods=count, freq=f"{minutes}min", tz="UTC")
    return pd.concat([bars_at(starts, symbol) for symbol in symbols], ignore_index=True)


def market(path: Path, bars: pd.DataFrame, source: int, length: int) -> pd.DataFrame:
    warehouse = build(path, bars, parameters=lengths(source, length), schemas=MARKET)
    return read(warehouse, "from bars.market_bars order by symbol, bar_start")


def resampled(bars: pd.DataFrame, length: int) -> pd.DataFrame:
    """What pandas makes of them, without the bars at the ends that are not whole."""
    groups = bars.set_index("bar_start").resample(f"{length}min", origin="epoch")
    whole = groups["close"].count() == groups["close"].count().max()
    return groups.agg(RULES)[whole]


@pytest.mark.parametrize("length", [5, 15, 90, 240, 250, 1440])
def test_a_bar_put_together_is_what_pandas_makes_of_its_parts(tmp_path, length):
    bars = every(5, 12 * 24 * 4 + 7, since="2024-01-01 03:35")
    expected = resampled(bars, length)
    table = market(tmp_path, bars, 5, length)
    assert table["bar_start"].tolist() == expected.index.tolist()
    for column in [*PRICES, "trade_count"]:
        np.testing.assert_array_equal(table[column], expected[column], err_msg=column)
    for column in ("volume", "notional", "taker_buy_volume"):
        np.testing.assert_allclose(table[column], expected[column], rtol=1e-13, err_msg=column)
    np.testing.assert_allclose(table["price"], expected["notional"] / expected["volume"])
    assert not table["price_is_proxy"].any()
    assert table["fault"].isna().all()
    assert (table["bar_end"] - table["bar_start"] == timedelta(minutes=length)).all()
    assert table["bar_number"].tolist() == [int(s.timestamp()) // (60 * length) for s in table["bar_start"]]


@pytest.mark.parametrize("length", [5, 15, 90, 240, 250, 720])
def test_each_place_in_the_week_has_a_bar_in_every_whole_week(tmp_path, length):
    table = market(tmp_path, every(5, 12 * 24 * 21), 5, length)
    week = table["bar_start"].dt.isocalendar()["week"]
    assert table["season"].nunique() == 10_080 // length
    places = table.groupby(week)["season"].nunique()
    assert places.iloc[1] == 10_080 // length
    if 10_080 % length == 0:
        first, second = (table.loc[week == number, "season"].tolist() for number in week.unique()[:2])
        assert first == second


def test_without_notional_the_typical_prices_of_the_parts_stand_in_weighted_by_volume(tmp_path):
    bars = every(15, 4 * 24 * 2).assign(notional=np.nan)
    typical = bars[["high", "low", "close"]].mean(axis=1)
    expected = resampled(bars.assign(notional=typical * bars["volume"]), 90)
    table = market(tmp_path, bars, 15, 90)
    np.testing.assert_allclose(table["notional"], expected["notional"])
    np.testing.assert_allclose(table["price"], expected["notional"] / expected["volume"])
    assert table["price_is_proxy"].all() and table["vwap"].isna().all()
    assert table["price"].between(table["low"], table["high"]).all()


@pytest.mark.parametrize("notional", [np.nan, 10.0], ids=["unknown", "against its prices"])
def test_one_part_without_a_notional_to_believe_makes_the_whole_price_a_proxy(tmp_path, notional):
    bars = every(15, 4 * 24)
    bars.loc[9, "notional"] *= notional
    table = market(tmp_path, bars, 15, 90)
    assert table["price_is_proxy"].tolist() == [False, True, *[False] * (len(table) - 2)]
    parts = bars.loc[6:11]
    typical = parts[["high", "low", "close"]].mean(axis=1)
    assert table["price"][1] == pytest.approx(np.average(typical, weights=parts["volume"]))


def test_notional_rounded_to_cents_in_a_part_is_believed(tmp_path):
    bars = every(15, 4 * 24)
    bars.loc[9, ["volume", "taker_buy_volume", "notional"]] = 1e-6, 0.0, 0.01
    table = market(tmp_path, bars, 15, 90)
    assert not table["price_is_proxy"].any()


def test_the_settings_may_ask_for_typical_prices_where_the_vwap_is_known(tmp_path):
    crypto, dow = every(15, 4 * 24), daily(30, ["AAPL"])
    parameters = lengths(15, 90) | {"typically_priced": ["crypto"]}
    warehouse = build(tmp_path, crypto, dow, parameters=parameters, schemas=MARKET)
    table = read(warehouse, "from bars.market_bars order by bar_start").set_index("asset_class")
    np.testing.assert_array_equal(table.loc["crypto", "price"], table.loc["crypto", "typical_price"])
    assert table.loc["crypto", "price_is_proxy"].all() and not table.loc["dow", "price_is_proxy"].any()
    np.testing.assert_allclose(table["vwap"], table["notional"] / table["volume"])


def ledger(path: Path, bars: pd.DataFrame, length: int) -> pd.DataFrame:
    warehouse = build(path, bars, parameters=lengths(5, length), schemas=CHECKED)
    return read(warehouse, "from quality.gap_ledger order by bar_start, symbol")


DAMAGES = {
    "missing": lambda bars: bars.drop(index=AT),
    "without a close": lambda bars: bars.assign(close=bars["close"].mask(bars.index == AT)),
    "impossible": lambda bars: bars.assign(low=bars["low"].mask(bars.index == AT, bars["high"] * 2)),
    "in another unit": lambda bars: bars.assign(
        **{c: bars[c].mask(bars.index == AT, bars[c] * 100) for c in [*PRICES, "notional"]}
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_bar_with_a_part_missing_or_faulty_is_incomplete_and_nothing_bridges_it(tmp_path, name):
    bars = every(5, 12 * 24 * 30, ("BTC/USDT", "ETH/USDT"))
    warehouse = build(tmp_path, DAMAGES[name](bars), parameters=lengths(5, 90))
    (fault,) = read(warehouse, "from quality.gap_ledger").to_dict("records")
    assert (fault["kind"], fault["symbol"], fault["is_masked"]) == ("incomplete", "BTC/USDT", True)
    assert fault["bar_start"] == bars.loc[AT, "bar_start"].floor("90min")
    assert fault["reason"].startswith(f"{2 if name == 'in another unit' else 1} of the bars it is put together from")
    assert not fault["is_explained"]
    months = read(warehouse, "from quality.completeness order by symbol")
    assert months["expected"].tolist() == months["stored"].tolist() == [480, 480]
    assert months["masked"].tolist() == [1, 0]
    features = read(warehouse, "from features.bar_features where symbol = 'BTC/USDT' order by bar_start")
    assert fault["bar_number"] not in set(features["bar_number"])
    assert features.loc[features["bar_number"] > fault["bar_number"], "history_bars"].iloc[0] == 0
    windows = read(warehouse, "from windows.order_windows where symbol = 'BTC/USDT'")["bar_number"]
    assert len(windows)
    near = range(fault["bar_number"] - PARAMETERS["horizon"] + 1, fault["bar_number"] + PARAMETERS["lookback"])
    assert set(windows).isdisjoint(near)


def test_a_bar_without_any_part_is_missing(tmp_path):
    bars = every(5, 12 * 24 * 3, ("BTC/USDT", "ETH/USDT"))
    start = bars.loc[AT, "bar_start"].floor("90min")
    lost = (bars["symbol"] == "BTC/USDT") & bars["bar_start"].between(start, start + timedelta(minutes=85))
    found = ledger(tmp_path, bars[~lost], 90)
    assert found[["kind", "symbol"]].to_numpy().tolist() == [["missing", "BTC/USDT"]]
    assert found["bar_start"].tolist() == [start]


def test_parts_that_every_symbol_lacks_are_an_outage(tmp_path):
    bars = every(5, 12 * 24 * 3, ("BTC/USDT", "ETH/USDT"))
    stood_still = bars["bar_start"].between(bars.loc[AT, "bar_start"], bars.loc[AT + 2, "bar_start"])
    found = ledger(tmp_path, bars[~stood_still], 90)
    assert found["kind"].tolist() == ["incomplete"] * 2
    assert found["is_explained"].all() and found["is_masked"].all()
    assert found["reason"].unique().tolist() == [
        "every symbol lacks some of the bars it is put together from: the venue stood still"
    ]


def test_a_bar_in_which_the_series_begins_or_ends_is_left_for_later(tmp_path):
    bars = every(5, 12 * 24, since="2024-01-01 00:05")
    warehouse = build(tmp_path, bars, parameters=lengths(5, 240), schemas=CHECKED)
    starts = read(warehouse, "from bars.market_bars order by bar_start")["bar_start"]
    assert [start.strftime("%H:%M") for start in starts] == ["04:00", "08:00", "12:00", "16:00", "20:00"]
    assert read(warehouse, "from quality.gap_ledger").empty
    assert read(warehouse, "from quality.expected_bars")["is_stored"].tolist() == [True] * 5


def test_a_part_that_is_stored_twice_is_no_other_part(tmp_path):
    bars = every(5, 12 * 24)
    table = market(tmp_path, pd.concat([bars, bars.loc[[40]]]).drop(index=41), 5, 90)
    assert table.loc[table["bar_start"].duplicated(keep=False), "fault"].tolist() == ["incomplete"] * 2


def test_a_source_bar_off_its_clock_has_no_number_and_takes_part_in_no_other(tmp_path):
    bars = every(15, 4 * 24)
    table = market(
        tmp_path, pd.concat([bars, bars.loc[[9]].assign(bar_start=bars["bar_start"][9] + timedelta(minutes=5))]), 15, 90
    )
    assert table.loc[table["bar_number"].isna(), "bar_start"].tolist() == [bars["bar_start"][9] + timedelta(minutes=5)]
    assert table.loc[table["bar_number"].notna(), "fault"].isna().all()
    np.testing.assert_allclose(table.loc[table["bar_number"].notna(), "volume"], resampled(bars, 90)["volume"])


@pytest.mark.parametrize(("source", "length", "days"), [(5, 15, 12), (15, 90, 60), (5, 250, 100)])
def test_no_feature_of_bars_of_another_length_looks_ahead(tmp_path, source, length, days):
    bars = every(source, days * 1440 // source, ("BTC/USDT", "ETH/USDT"))
    parameters = lengths(source, length)
    warehouse = build(tmp_path / "one", bars, parameters=parameters)
    assert look_ahead(warehouse, FEATURES, parameters) == []

    # The same from the source's own bars on: whatever comes later changes nothing that was known.
    cut = bars["bar_start"].min() + timedelta(days=days * 0.9)
    later = bars["bar_start"] >= cut
    bars.loc[later, [*PRICES, "notional"]] *= 1.7
    bars.loc[later, ["volume", "notional", "taker_buy_volume"]] *= 5
    overwritten = build(tmp_path / "other", bars, parameters=parameters)
    known = f"from features.bar_features where bar_start + to_minutes({length}) <= $cut order by symbol, bar_number"
    one, other = (read(each, known, cut=cut.to_pydatetime()) for each in (warehouse, overwritten))
    assert one["is_complete"].any()
    pd.testing.assert_frame_equal(one, other)


def test_hours_put_together_from_real_quarters_are_those_of_the_exchange(tmp_path, shared_data):
    for folder in ("crypto-binance-spot-15m", "crypto-binance-spot-1h"):
        if not (shared_data / folder).is_dir():
            pytest.skip(f"no {folder}")
    since, until = datetime(2021, 3, 1, tzinfo=UTC), datetime(2021, 11, 1, tzinfo=UTC)  # three outages

    def fetched(folder: str) -> pd.DataFrame:
        source = ArchiveBars(path=str(shared_data / folder / "bars.parquet"))
        answers = [source.fetch(symbol, since, until).to_pandas() for symbol in ("AAVE/USDT", "FIL/USDT", "NEAR/USDT")]
        return pd.concat(answers, ignore_index=True)

    hours = fetched("crypto-binance-spot-1h").set_index(["symbol", "bar_start"])
    table = market(tmp_path, fetched("crypto-binance-spot-15m"), 15, 60).set_index(["symbol", "bar_start"])
    whole = table[table["fault"].isna()].join(hours, rsuffix="_of_the_exchange", how="left")
    assert len(whole) > 17_000
    assert len(whole) < len(hours), "an hour with a quarter missing is not whole, though the exchange has one"
    for column in PRICES:
        np.testing.assert_array_equal(whole[column], whole[f"{column}_of_the_exchange"], err_msg=column)
    np.testing.assert_allclose(whole["volume"], whole["volume_of_the_exchange"], rtol=1e-14)
    np.testing.assert_allclose(whole["notional"], whole["notional_of_the_exchange"], rtol=1e-6)
    assert set(table["fault"].dropna()) <= {"incomplete"}
