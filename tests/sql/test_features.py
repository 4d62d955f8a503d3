"""Every feature against plain numpy, and the proof that none of them looks ahead or over a break."""

import re
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from warehouses import FEATURES, PARAMETERS, build, daily, hourly, raw, read, run

from lem_pipeline.causality import look_ahead, look_ahead_in
from lem_pipeline.sql_assets import SqlFile
from lem_pipeline.storage import Warehouse

HORIZON = PARAMETERS["horizon"]
HOURS, GAP, ZERO_VOLUME, SPLIT = 620, 430, 250, 340
SEASON_LENGTH = {"crypto": 168, "dow": 5}
LAGGED = dict(re.findall(r"lag\((\w+)\) over by_segment as (\w+)", FEATURES.text))  # fact: feature
FACTS_OF_THE_BAR = ["price", "close", "volume"]
KEYS = ["asset_class", "symbol", "bar_number"]
SEASONAL = ["expected_volume", "season_volume", "volume_surprise", "market_volume_surprise"]


def broken_market() -> pd.DataFrame:
    """Hourly bars: the first symbol lacks three bars, the second has a bar without volume, the third a split."""
    bars = hourly(HOURS, ("BTC/USDT", "ETH/USDT", "SOL/USDT"))
    place = bars.groupby("symbol").cumcount()
    bars.loc[(bars["symbol"] == "ETH/USDT") & (place == ZERO_VOLUME), ["volume", "notional", "taker_buy_volume"]] = 0.0
    bars.loc[(bars["symbol"] == "SOL/USDT") & (place == SPLIT), "split_ratio"] = 2.0
    return bars[~((bars["symbol"] == "BTC/USDT") & place.between(GAP, GAP + 2))].reset_index(drop=True)


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory) -> Warehouse:
    return build(tmp_path_factory.mktemp("features"), broken_market(), daily(320, ("AAPL", "IBM")))


@pytest.fixture(scope="module")
def market(warehouse) -> pd.DataFrame:
    return read(warehouse, "from bars.market_bars order by asset_class, symbol, bar_number")


def features_of(warehouse: Warehouse) -> pd.DataFrame:
    return read(warehouse, "from features.bar_features").set_index(KEYS).sort_index()


@pytest.fixture(scope="module")
def features(warehouse) -> pd.DataFrame:
    return features_of(warehouse)


# An independent computation: one symbol, one bar at a time.


def trailing(function, values: np.ndarray, length: int, least: int = 1) -> np.ndarray:
    """A function of the last ``length`` values up to and including each."""
    windows = [values[max(0, end - length) : end] for end in range(1, len(values) + 1)]
    known = [window[~np.isnan(window)] for window in windows]
    return np.array([function(window) if len(window) >= least else np.nan for window in known])


def before(values: np.ndarray) -> np.ndarray:
    return np.concatenate([[np.nan], values[:-1]])


def over(values: np.ndarray, bars: int) -> np.ndarray:
    """Log change over some bars."""
    changed = np.full(len(values), np.nan)
    changed[bars:] = np.log(values[bars:] / values[:-bars])
    return changed


def segments_of(bars: pd.DataFrame) -> np.ndarray:
    count, numbers = 0, []
    sound = (bars["volume"] > 0).to_numpy()
    for row, (number, ratio) in enumerate(zip(bars["bar_number"], bars["split_ratio"], strict=True)):
        first = row == 0
        gap = not first and number != bars["bar_number"].iloc[row - 1] + 1
        after_unsound = not first and not sound[row - 1]
        count += bool(not sound[row] or ratio != 1 or gap or after_unsound)
        numbers.append(count)
    return np.array(numbers)


def expected_volumes(bars: pd.DataFrame, season_length: int) -> np.ndarray:
    numbers, seasons, volume = (bars[name].to_numpy() for name in ("bar_number", "season", "volume"))
    expected = []
    for number, season in zip(numbers, seasons, strict=True):
        ago = number - numbers
        history = volume[(seasons == season) & (ago >= HORIZON) & (ago <= 26 * season_length)]
        expected.append(history.mean() if history.any() else np.nan)
    return np.array(expected)


def facts_of_symbol(bars: pd.DataFrame, season_length: int) -> pd.DataFrame:
    bars = bars.assign(segment=segments_of(bars), expected_volume=expected_volumes(bars, season_length))
    parts = []
    for _, part in bars[bars["volume"] > 0].groupby("segment"):
        close, volume = part["close"].to_numpy(), part["volume"].to_numpy()
        per_trade = volume / part["trade_count"].to_numpy()
        returned = over(close, 1)
        deviation = trailing(partial(np.std, ddof=1), returned, 168, least=2)
        facts = {
            "history_bars": np.arange(len(part)),
            "volatility_after": deviation,
            "return_1": returned / deviation,
            "return_4": over(close, 4) / (2 * deviation),
            "return_24": over(close, 24) / (np.sqrt(24) * deviation),
            "close_over_price": np.log(close / part["price"]) / deviation,
            "bar_range": np.log(part["high"] / part["low"]) / deviation,
            "volume_surprise": np.log(volume / part["expected_volume"]),
            "volume_trend": np.log(trailing(np.mean, volume, 12) / trailing(np.mean, volume, 168)),
            "volatility_trend": np.log(trailing(partial(np.std, ddof=1), returned, 24, least=2) / deviation),
            "taker_imbalance": 2 * part["taker_buy_volume"] / volume - 1,
            "trade_size": np.log(per_trade / trailing(np.mean, per_trade, 168)),
            "season_volume": np.log(
                part["expected_volume"] / trailing(np.mean, part["expected_volume"].to_numpy(), 168)
            ),
        }
        parts.append(part.assign(**facts))
    return pd.concat(parts)


@pytest.fixture(scope="module")
def expected(market) -> pd.DataFrame:
    facts = pd.concat(
        facts_of_symbol(bars, SEASON_LENGTH[asset_class])
        for (asset_class, _), bars in market.groupby(["asset_class", "symbol"])
    )
    for name in ("return_1", "volume_surprise"):
        facts[f"market_{name}".replace("return_1", "return")] = facts.groupby(["asset_class", "bar_number"])[
            name
        ].transform("mean")
    run_of_bars = facts.groupby(["asset_class", "symbol", "segment"])
    for fact, feature in LAGGED.items():
        facts[f"{feature} known"] = run_of_bars[fact].shift()
    for feature in LAGGED.values():
        facts[feature] = facts.pop(f"{feature} known")
    start = facts["bar_start"]
    hour, weekday = 2 * np.pi * start.dt.hour / 24, 2 * np.pi * (start.dt.dayofweek + 1) / 7
    facts["hour_sin"], facts["hour_cos"] = np.sin(hour), np.cos(hour)
    facts["weekday_sin"], facts["weekday_cos"] = np.sin(weekday), np.cos(weekday)
    known_before = [*LAGGED.values(), "season_volume"]
    facts["is_complete"] = facts[known_before].notna().all(axis=1)
    return facts.set_index(KEYS).sort_index()


COLUMNS = [name for name in FEATURES.column_descriptions if name not in {*KEYS, "bar_start"}]


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("asset_class", ["crypto", "dow"])
def test_every_column_agrees_with_an_independent_computation(features, expected, asset_class, column):
    ours, theirs = features.loc[asset_class, column], expected.loc[asset_class, column]
    pd.testing.assert_series_equal(
        ours.astype(float), theirs.astype(float), check_names=False, check_exact=False, rtol=1e-8, atol=1e-9
    )
    assert ours.notna().mean() > 0.5


def test_features_are_those_that_the_file_describes(warehouse):
    assert set(COLUMNS) | {*KEYS, "bar_start"} == set(read(warehouse, "from features.bar_features").columns)
    assert set(LAGGED.values()) < set(COLUMNS)


def test_every_sound_bar_has_one_row(features, market):
    sound = market[market["volume"] > 0].set_index(KEYS).sort_index()
    assert features.index.equals(sound.index)
    assert features.index.is_unique


def test_complete_rows_are_finite(features):
    numbers = features.select_dtypes("number")[features["is_complete"]]
    assert np.isfinite(numbers).all(axis=None)
    assert len(numbers) > 500


def test_the_feature_called_hour_is_the_hour_and_that_called_weekday_the_weekday(features):
    starts = features["bar_start"]
    hour = np.round(np.arctan2(features["hour_sin"], features["hour_cos"]) * 24 / (2 * np.pi)) % 24
    weekday = np.round(np.arctan2(features["weekday_sin"], features["weekday_cos"]) * 7 / (2 * np.pi)) % 7
    assert (hour == starts.dt.hour).all()
    assert (weekday == (starts.dt.dayofweek + 1) % 7).all()
    assert hour.loc["crypto"].nunique() == 24 and weekday.loc["crypto"].nunique() == 7


def changed(bars: pd.DataFrame, chosen: pd.Series, **factors: float) -> pd.DataFrame:
    bars = bars.copy()
    for column, factor in factors.items():
        bars.loc[chosen, column] *= factor
    return bars


def rebuilt(path: Path, crypto: pd.DataFrame) -> pd.DataFrame:
    return features_of(build(path, crypto, schemas=["staging", "bars", "features"]))


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One symbol without any break, and its features."""
    bars = hourly(400, ["BTC/USDT"])
    return bars, rebuilt(tmp_path_factory.mktemp("plain"), bars)


def test_volume_is_normalised_exactly_once(plain, tmp_path):
    bars, features = plain
    row = 300
    doubled = rebuilt(tmp_path, changed(bars, bars.index == row, volume=2, notional=2, taker_buy_volume=2))
    surprise = (doubled["volume_surprise"] - features["volume_surprise"]).to_numpy()
    assert surprise[row + 1] == pytest.approx(np.log(2))
    assert np.abs(np.delete(surprise[170 : row + 160], row + 1 - 170)).max() == 0


def test_features_know_neither_the_unit_of_price_nor_that_of_volume(plain, tmp_path):
    bars, features = plain
    units = dict.fromkeys(["open", "high", "low", "close"], 1000.0) | {"volume": 50.0, "taker_buy_volume": 50.0}
    other = rebuilt(tmp_path, changed(bars, bars["volume"] > 0, **units, notional=50_000.0))
    scale_free = [c for c in features if c not in [*FACTS_OF_THE_BAR, "expected_volume", "bar_start"]]
    pd.testing.assert_frame_equal(other[scale_free], features[scale_free], rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(other["expected_volume"], features["expected_volume"] * 50)


def test_rebuilding_the_features_of_the_same_bars_gives_the_same_features_to_the_last_digit(tmp_path):
    warehouse = build(tmp_path, hourly(400, [f"symbol {number}" for number in range(20)]), schemas=["staging", "bars"])
    rebuilds = []
    with warehouse.connection() as connection:
        connection.execute("set threads = 4")
        for _ in range(4):
            built = connection.execute(FEATURES.text, FEATURES.bind(PARAMETERS)).df()
            rebuilds.append(built.set_index(KEYS).sort_index())
    assert all(rebuild.equals(rebuilds[0]) for rebuild in rebuilds)


def test_the_trade_size_of_bars_whose_trades_are_not_counted_says_nothing(plain, tmp_path):
    bars, features = plain
    (tmp_path / "none").mkdir()
    none = rebuilt(tmp_path / "none", bars.assign(trade_count=None))
    assert (none["trade_size"].iloc[1:] == 0).all() and none["is_complete"].equals(features["is_complete"])
    row = 300
    counts = bars["trade_count"].where(bars.index != row, 0)
    (tmp_path / "once").mkdir()
    once = rebuilt(tmp_path / "once", bars.assign(trade_count=counts))
    assert once["trade_size"].iloc[row + 1] == 0 != features["trade_size"].iloc[row + 1]
    per_trade = (bars["volume"] / bars["trade_count"]).drop(row)
    usual = per_trade.loc[row + 1 - 167 : row + 1].mean()
    assert once["trade_size"].iloc[row + 2] == pytest.approx(np.log(per_trade[row + 1] / usual))


# Breaks.


@pytest.mark.parametrize(
    ("symbol", "starts_at"),
    [
        ("BTC/USDT", [GAP + 3]),
        ("ETH/USDT", [ZERO_VOLUME + 1]),
        ("SOL/USDT", [SPLIT]),
    ],
    ids=["a gap", "a bar without volume", "a split"],
)
def test_a_break_starts_a_new_segment_without_history(features, symbol, starts_at):
    rows = features.loc["crypto", symbol]
    anew = rows.index[rows["segment"].diff().fillna(0) != 0] - rows.index[0]
    assert anew.tolist() == starts_at
    first = rows.loc[rows.index[0] + starts_at[0]]
    assert first["history_bars"] == 0
    assert first[[*LAGGED.values()]].isna().all()
    assert not first["is_complete"]
    following = rows[rows["segment"] == first["segment"]]
    assert following["history_bars"].tolist() == list(range(len(following)))
    for column, bars in (("return_1", 3), ("return_4", 5), ("return_24", 25), ("volatility", 3)):
        assert following[column].notna().to_numpy().argmax() == bars, column


def test_a_bar_without_volume_has_no_features(features):
    numbers = features.loc["crypto", "ETH/USDT"].index
    assert ZERO_VOLUME not in numbers - numbers[0]


@pytest.mark.parametrize("symbol", ["BTC/USDT", "ETH/USDT", "SOL/USDT"])
def test_no_feature_but_the_season_reaches_back_over_a_break(features, tmp_path, symbol):
    bars = broken_market()
    own = bars["symbol"] == symbol
    last_break = features.loc["crypto", symbol].query("history_bars == 0")["bar_start"].max()
    earlier = own & (bars["bar_start"] < last_break)
    other = rebuilt(
        tmp_path,
        changed(bars, earlier, open=3, high=3.3, low=2.7, close=2.9, volume=7, notional=20, taker_buy_volume=5),
    )
    after = features["bar_start"].loc["crypto", symbol] >= last_break
    compared = [column for column in features if column not in SEASONAL]
    ours = features.loc[("crypto", symbol)][compared][after]
    pd.testing.assert_frame_equal(other.loc[("crypto", symbol)][compared][after], ours, rtol=1e-9)


@pytest.mark.parametrize("column", ["volume", "low"])
def test_a_bar_with_a_missing_value_starts_a_new_segment_too(tmp_path, column):
    bars = hourly(400, ["BTC/USDT"])
    bars.loc[300, column] = np.nan  # null in the warehouse
    assert raw(bars)[column].null_count == 1
    features = rebuilt(tmp_path, bars)
    numbers = features.index.get_level_values("bar_number")
    assert features.loc[numbers == numbers[0] + 301, "history_bars"].tolist() == [0]


# Causality.


def test_no_column_looks_ahead(warehouse):
    assert look_ahead(warehouse, FEATURES, PARAMETERS) == []
    assert look_ahead_in(warehouse.read("from bars.market_bars"), FEATURES, {**PARAMETERS, "horizon": 12}) == []


def test_causality_of_no_bars_is_not_in_doubt(warehouse):
    assert look_ahead_in(warehouse.read("from bars.market_bars limit 0"), FEATURES, PARAMETERS) == []


def leaky(path: Path, causal: str, leak: str) -> SqlFile:
    """The features' own statement with an expression (a regular expression matches it) replaced by another."""
    text, replaced = re.subn(causal, leak, FEATURES.path.read_text())
    assert replaced
    file = path / "features" / "bar_features.sql"
    file.parent.mkdir()
    file.write_text(text)
    return SqlFile(file)


LAG = r"lag\((\w+)\) over by_segment(?= as)"
SEASONAL_MEAN = r"(?<=season_length preceding and )\$horizon preceding"
LEAKS = {
    "every feature of its own bar": (set(LAGGED.values()), LAG, r"\1"),
    "every feature of the next bar": (
        set(LAGGED.values()),
        LAG,
        r"lead(\1) over by_segment",
    ),
    "one feature of its own bar": ({"return_1"}, r"lag\(return_1\) over by_segment", "return_1"),
    "a trade size of its own bar": ({"trade_size"}, r"lag\(trade_size\) over by_segment", "trade_size"),
    "a seasonal mean with the bar itself": ({"expected_volume", "season_volume"}, SEASONAL_MEAN, "current row"),
    "a seasonal mean up to the bar before": ({"expected_volume"}, SEASONAL_MEAN, "1 preceding"),
    "a market return of all time": (
        {"market_return"},
        r"lag\(market_return\) over by_segment",
        "avg(return_1) over (partition by asset_class)",
    ),
    "a return less its full-sample mean": (
        {"return_1"},
        r"lag\(return_1\) over by_segment",
        "lag(return_1) over by_segment - avg(return_1) over (partition by symbol)",
    ),
    "a seasonal volume over bars to come": (
        {"season_volume"},
        r"(?<=167 preceding and )current row(?=\)\)\s+as season_volume)",
        "167 following",
    ),
}


@pytest.mark.parametrize("name", LEAKS)
def test_a_leak_put_in_on_purpose_is_found(warehouse, tmp_path, name):
    columns, causal, leak = LEAKS[name]
    bars = warehouse.read("from bars.market_bars")
    # Two weeks of sessions, so that a horizon spans several seasons of a day.
    found = look_ahead_in(bars, leaky(tmp_path, causal, leak), {**PARAMETERS, "horizon": 12})
    assert {row["column_name"] for row in found} == columns
    for row in found:
        assert row["rows"] > 0
        assert row["reason"].startswith(f"{row['column_name']} moves when only later bars change")


def without_last(bars: pd.DataFrame, last: pd.Series) -> pd.DataFrame:
    return bars[~last]


def with_split(bars: pd.DataFrame, last: pd.Series) -> pd.DataFrame:
    return bars.assign(split_ratio=bars["split_ratio"].where(~last, 3.0))


FUTURES = {
    "dearer": partial(changed, open=2, high=3, low=1.5, close=2.5, notional=2),
    "on another level": partial(changed, open=100, high=100, low=100, close=100, notional=100),
    "busier": partial(changed, volume=9, notional=9, taker_buy_volume=2),
    "without volume": partial(changed, volume=0, notional=0, taker_buy_volume=0),
    "missing": without_last,
    "split": with_split,
}


@pytest.mark.parametrize("name", FUTURES)
def test_another_last_bar_changes_no_row_before_it_and_none_of_its_own_features(tmp_path, name):
    bars = pd.concat([hourly(400, ("BTC/USDT", "ETH/USDT"))])
    last = bars["bar_start"] == bars["bar_start"].max()
    warehouse = build(tmp_path, bars, schemas=["staging", "bars", "features"])
    untouched = features_of(warehouse)
    warehouse.write_table("raw.crypto_bars", raw(FUTURES[name](bars, last)))
    run(warehouse, schemas=["staging", "bars", "features"])
    touched = features_of(warehouse)

    is_last = untouched["bar_start"] == bars["bar_start"].max()
    past = untouched[~is_last]
    pd.testing.assert_frame_equal(touched.loc[past.index], past, rtol=1e-12)
    if name in ("dearer", "busier"):
        known = [column for column in untouched if column not in FACTS_OF_THE_BAR]
        pd.testing.assert_frame_equal(touched.loc[is_last, known], untouched.loc[is_last, known], rtol=1e-12)
        assert not touched.loc[is_last, FACTS_OF_THE_BAR].equals(untouched.loc[is_last, FACTS_OF_THE_BAR])
    else:
        assert len(touched) == (len(untouched) if name == "split" else len(past))


def test_expected_volume_is_known_a_whole_horizon_before(tmp_path):
    bars = daily(60, ["AAPL"])
    late = bars.index >= len(bars) - 1 - HORIZON
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    volumes = [
        read(build(tmp_path / name, dow=each, schemas=["staging", "bars", "features"]), "from features.bar_features")
        .set_index("bar_number")["expected_volume"]
        .sort_index()
        for name, each in (("one", bars), ("other", changed(bars, late, volume=9)))
    ]
    assert volumes[0].iloc[:-1].equals(volumes[1].iloc[:-1])
    assert np.isfinite(volumes[0].iloc[-1])
