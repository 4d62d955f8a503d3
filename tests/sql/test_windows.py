"""Order windows against a plain search: none straddles a break, none is forgotten, no two splits share a bar."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from warehouses import PARAMETERS, build, daily, hourly, raw, read, run

from lem_pipeline.storage import Warehouse

LOOKBACK, HORIZON = PARAMETERS["lookback"], PARAMETERS["horizon"]
WARM_UP = 48  # bars of history that the first row of a lookback needs
KEYS = ["asset_class", "symbol", "bar_number"]
SPLITS = ["train", "validation", "test"]


@dataclass
class Built:
    """A warehouse's market and its order windows."""

    market: pd.DataFrame
    windows: pd.DataFrame

    @classmethod
    def of(cls, warehouse: Warehouse) -> "Built":
        market = read(warehouse, "from bars.market_bars order by asset_class, symbol, bar_number")
        return cls(market, read(warehouse, "from windows.order_windows order by asset_class, symbol, bar_number"))


def gappy_market() -> tuple[pd.DataFrame, pd.DataFrame]:
    crypto = hourly(700, ("BTC/USDT", "ETH/USDT", "SOL/USDT"))
    place = crypto.groupby("symbol").cumcount()
    ether = crypto["symbol"] == "ETH/USDT"
    crypto.loc[ether & (place == 420), ["volume", "notional", "taker_buy_volume"]] = 0.0
    missing = (crypto["symbol"] == "BTC/USDT") & place.isin([300, 301, 302, 450, 610])
    dow = daily(400, ("AAPL", "IBM"))
    dow.loc[250, "split_ratio"] = 4.0
    dow.loc[:249, ["open", "high", "low", "close"]] *= 4
    dow.loc[:249, "volume"] /= 4
    return crypto[~missing], dow.drop(index=[180, 181])


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Built:
    return Built.of(build(tmp_path_factory.mktemp("windows"), *gappy_market()))


@pytest.fixture(scope="module")
def gapless(tmp_path_factory) -> Built:
    return Built.of(build(tmp_path_factory.mktemp("gapless"), hourly(600), daily(300)))


def span(first_bar: int) -> range:
    return range(first_bar - LOOKBACK + 1, first_bar + HORIZON)


def bars_of(built: Built) -> dict[tuple[str, str], pd.DataFrame]:
    numbered = built.market[built.market["bar_number"].notna()]
    return {key: bars.set_index("bar_number") for key, bars in numbered.groupby(["asset_class", "symbol"])}


def windows_of(built: Built) -> dict[tuple[str, str], list[int]]:
    found = built.windows.groupby(["asset_class", "symbol"])["bar_number"].apply(list).to_dict()
    return {key: found.get(key, []) for key in bars_of(built)}


def history_of(bars: pd.DataFrame) -> dict[int, int]:
    """Sound, unbroken bars before each sound bar."""
    history: dict[int, int] = {}
    for number, volume, ratio in zip(bars.index, bars["volume"], bars["split_ratio"], strict=True):
        if volume > 0:
            goes_on = number - 1 in history and ratio == 1
            history[number] = history[number - 1] + 1 if goes_on else 0
    return history


def seasonal_bars(bars: pd.DataFrame, season_length: int) -> set[int]:
    """Bars with one of the same season between a horizon and 26 seasons before."""
    known = set()
    for _, same in bars.groupby("season"):
        numbers = same.index.to_numpy()
        ago = numbers[:, None] - numbers
        known |= set(numbers[((ago >= HORIZON) & (ago <= 26 * season_length)).any(axis=1)])
    return known


def whole_windows(bars: pd.DataFrame, season_length: int) -> list[int]:
    """First bars of all windows, found by looking at each one's bars."""
    history, seasonal = history_of(bars), seasonal_bars(bars, season_length)

    def is_whole(first_bar: int) -> bool:
        unbroken = all(number in history for number in span(first_bar)) and all(
            history[later] == history[earlier] + 1 for earlier, later in pairwise(span(first_bar))
        )
        # A row of features needs the seasonal volume of its own bar and of the bar before.
        return (
            unbroken
            and history[first_bar - LOOKBACK + 1] >= WARM_UP
            and all(number in seasonal for number in range(first_bar - LOOKBACK, first_bar + HORIZON))
        )

    return [number for number in bars.index if is_whole(number)]


def in_one_split(windows: list[int], every_bar: pd.Series) -> list[int]:
    first, length = every_bar.min(), every_bar.max() - every_bar.min()
    cuts = [first + PARAMETERS["train"] * length, first + (PARAMETERS["train"] + PARAMETERS["validation"]) * length]
    return [w for w in windows if not any(span(w)[0] < cut <= span(w)[-1] for cut in cuts)]


def assert_windows_are_those_of_a_plain_search(built: Built) -> None:
    featured = built.market[(built.market["volume"] > 0) & built.market["bar_number"].notna()]
    windows = windows_of(built)
    for (asset_class, symbol), bars in bars_of(built).items():
        whole = whole_windows(bars, 168 if asset_class == "crypto" else 5)
        expected = in_one_split(whole, featured.loc[featured["asset_class"] == asset_class, "bar_number"])
        assert windows[asset_class, symbol] == expected


def test_windows_are_those_of_a_plain_search_around_gaps_splits_and_silent_bars(built):
    assert_windows_are_those_of_a_plain_search(built)
    assert all(len(windows) > 50 for windows in windows_of(built).values())


def test_the_bars_of_a_window_are_consecutive_and_of_one_symbol(built):
    every_bar = bars_of(built)
    for key, windows in windows_of(built).items():
        bars = every_bar[key]
        for first_bar in windows:
            rows = bars.loc[span(first_bar)[0] : span(first_bar)[-1]]
            assert rows.index.tolist() == list(span(first_bar))
            assert (rows["volume"] > 0).all()
            assert (rows["split_ratio"].iloc[1:] == 1).all()


def test_window_starts_round_trip_through_their_numbers(built):
    merged = built.windows.merge(built.market, on=KEYS, suffixes=("", "_of_bar"), validate="one_to_one")
    assert len(merged) == len(built.windows)
    assert (merged["bar_start"] == merged["bar_start_of_bar"]).all()
    assert not built.windows.duplicated(KEYS).any()


def test_every_split_is_named_and_follows_the_one_before(built):
    assert set(built.windows["split"]) == set(SPLITS)
    for _, windows in built.windows.groupby("asset_class"):
        spans = windows.groupby("split")["bar_number"].agg(["min", "max"]).loc[SPLITS]
        assert (spans["min"].iloc[1:].to_numpy() > spans["max"].iloc[:-1].to_numpy()).all()


@pytest.mark.parametrize("market", ["built", "gapless"])
def test_no_bar_belongs_to_windows_of_two_splits(market, request):
    for _, windows in request.getfixturevalue(market).windows.groupby("asset_class"):
        bars = [set().union(*map(span, windows.loc[windows["split"] == split, "bar_number"])) for split in SPLITS]
        assert not bars[0] & bars[1] and not bars[1] & bars[2] and not bars[0] & bars[2]


def test_between_two_splits_a_horizon_is_purged_and_a_lookback_embargoed_and_no_bar_more(gapless):
    for _, windows in gapless.windows.groupby("asset_class"):
        first_bars = windows.groupby("split")["bar_number"].agg(["min", "max"])
        for earlier, later in pairwise(SPLITS):
            assert first_bars.loc[later, "min"] - first_bars.loc[earlier, "max"] == LOOKBACK + HORIZON - 1


def test_splits_have_about_the_sizes_asked_for(gapless):
    for asset_class, windows in gapless.windows.groupby("asset_class"):
        numbers = gapless.market.loc[gapless.market["asset_class"] == asset_class, "bar_number"]
        length = numbers.max() - numbers.min()
        last = windows.groupby("split")["bar_number"].max() + HORIZON - 1 - numbers.min()
        assert last["train"] / length == pytest.approx(PARAMETERS["train"], abs=1 / length)
        assert last["validation"] / length == pytest.approx(0.85, abs=1 / length)
        assert last["test"] == length


@pytest.mark.parametrize(("lookback", "horizon"), [(1, 2), (24, 12), (60, 5)])
def test_windows_are_as_long_as_lookback_and_horizon_say(tmp_path, lookback, horizon):
    parameters = PARAMETERS | {"lookback": lookback, "horizon": horizon, "train": 1.1, "validation": 0.1}
    # A season of 168 bars comes first; the features of bar 169 are the first to know how much volume surprised.
    bars = hourly(169 + lookback + horizon - 1, ["A"])
    whole = read(build(tmp_path, bars, parameters=parameters), "from windows.order_windows")
    one_short = read(build(tmp_path, bars[:-1], parameters=parameters), "from windows.order_windows")
    assert whole["bar_start"].tolist() == [bars["bar_start"][169 + lookback - 1]]
    assert one_short.empty


def test_a_series_that_is_too_short_has_no_window(tmp_path):
    assert read(build(tmp_path, hourly(150), daily(40)), "from windows.order_windows").empty


def test_a_market_that_stands_still_begins_no_window_until_it_has_moved_again(tmp_path):
    """Without any volatility there is no unit to measure a gap in; one such window would spoil a whole batch."""
    bars = hourly(900, ["A"])
    still = (bars.index >= 300) & (bars.index < 700)
    bars.loc[still, ["open", "high", "low", "close"]] = 100.0
    bars.loc[still, "notional"] = 100.0 * bars["volume"]
    warehouse = build(tmp_path, bars, parameters=PARAMETERS | {"train": 1.1, "validation": 0.1})
    windows = read(warehouse, "from windows.order_windows order by bar_number")["bar_number"]
    volatility = read(warehouse, "from features.bar_features").set_index("bar_number").sort_index()["volatility"]
    assert (volatility.iloc[300 + 168 + 1 : 700] == 0).all()
    assert (windows < volatility.index[300]).sum() > 100 < (windows > volatility.index[700]).sum()
    for first_bar in windows:
        assert (volatility.loc[span(first_bar)[0] : span(first_bar)[-1]] > 0).all()


@pytest.fixture(scope="module")
def scratch(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("scratch")


HOURS = 420
GAPS = st.lists(st.tuples(st.integers(160, HOURS - 1), st.integers(1, 12)), max_size=6)
# In the last week: a later bar of the same hour would know of no volume to expect, and begin no window either.
SILENT = st.lists(st.integers(HOURS - 168, HOURS - 1), max_size=2)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(gaps=st.tuples(GAPS, GAPS), silent=SILENT, split_at=st.integers(1, HOURS - 1))
def test_no_window_straddles_whatever_gaps_there_are(scratch, gaps, silent, split_at):
    bars = hourly(HOURS, ("A", "B"))
    place = bars.groupby("symbol").cumcount()
    is_missing = np.zeros(len(bars), dtype=bool)
    for symbol, own_gaps in zip("AB", gaps, strict=True):
        for start, length in own_gaps:
            is_missing |= (bars["symbol"] == symbol) & place.between(start, start + length - 1)
    bars.loc[(bars["symbol"] == "A") & place.isin(silent), ["volume", "notional", "taker_buy_volume"]] = 0.0
    bars.loc[(bars["symbol"] == "B") & (place == split_at), "split_ratio"] = 2.0

    warehouse = Warehouse(path=str(scratch / "warehouse.duckdb"))
    if warehouse.has_table("raw.nyse_sessions"):
        warehouse.write_table("raw.crypto_bars", raw(bars[~is_missing]))
        run(warehouse)
    else:
        build(scratch, bars[~is_missing])
    market = Built.of(warehouse)
    event(f"{len(market.windows) // 50 * 50} windows or more")
    assert_windows_are_those_of_a_plain_search(market)


def test_a_series_may_carry_the_name_of_its_time_unless_that_is_another_companys_today(tmp_path):
    bars = daily(600, ("UTX", "DWDP", "T", "SBC"), since="2002-01-02")
    warehouse = build(tmp_path, dow=bars)
    windows = read(warehouse, "select distinct symbol from windows.order_windows order by all")["symbol"].tolist()
    assert windows == ["SBC", "T", "UTX"], "United Technologies and SBC, by either name; DowDuPont joined in 2017"
    coverage = read(warehouse, "from quality.dow_coverage order by year")
    assert coverage["with_bars"].sum() == 600 * 2
    assert "AT&T Corp." in coverage["companies_without_bars"][0].split(", ")
