"""What a stream of bars makes known of the next is what the warehouse's feature table later says of it."""

import pandas as pd
import pytest
from warehouses import PARAMETERS, build, daily, hourly, raw, read

from lem_pipeline.bar_feed import BarFeed
from lem_pipeline.errors import ConfigurationError, RefusedEventError
from lem_pipeline.panel import KEYS, MARKET

HOURS, LAST, HORIZON, LOOKBACK = 480, 400, PARAMETERS["horizon"], PARAMETERS["lookback"]
NOT_FEATURES = {*KEYS, *MARKET, "segment", "history_bars", "is_complete"}
CRYPTO, DOW = ("BTC/USDT", "ETH/USDT", "SOL/USDT"), ("AAPL", "IBM")


@pytest.fixture(scope="module")
def bars() -> dict[str, pd.DataFrame]:
    return {"crypto": hourly(HOURS, CRYPTO), "dow": daily(HOURS, DOW)}


@pytest.fixture(scope="module")
def features(bars, tmp_path_factory) -> pd.DataFrame:
    folder = tmp_path_factory.mktemp("feed")
    warehouse = build(folder, bars["crypto"], bars["dow"], schemas=("staging", "bars", "features"))
    return read(warehouse, "from features.bar_features").set_index(["symbol", "bar_start"]).sort_index()


def names(features: pd.DataFrame) -> tuple[str, ...]:
    return tuple(name for name in features.columns if name not in NOT_FEATURES)


def feed_of(asset_class: str, bars: pd.DataFrame, features: tuple[str, ...]) -> BarFeed:
    return BarFeed(asset_class, features, LOOKBACK, PARAMETERS, raw(bars))


def up_to(bars: pd.DataFrame, count: int) -> pd.DataFrame:
    return bars[bars.groupby("symbol").cumcount() < count].reset_index(drop=True)


@pytest.mark.parametrize(("asset_class", "symbol"), [("crypto", "BTC/USDT"), ("dow", "IBM")])
def test_the_outlook_of_a_bar_to_come_is_its_row_in_the_warehouse(asset_class, symbol, bars, features):
    feed = feed_of(asset_class, up_to(bars[asset_class], LAST), names(features))
    known = feed.look(symbol)
    rows = features.loc[symbol]
    number = int(rows.iloc[LAST]["bar_number"])
    assert max(known) == number + HORIZON - 1
    outlook = feed.outlook(known, number)
    expected = rows.iloc[LAST]
    assert [outlook.features[name] for name in names(features)] == pytest.approx(
        [float(expected[name]) for name in names(features)], rel=1e-9, abs=1e-12
    )
    assert outlook.volatility == pytest.approx(expected["volatility"], rel=1e-9)
    to_come = rows.iloc[LAST : LAST + HORIZON]["expected_volume"]
    assert outlook.expected_volume == pytest.approx(to_come.tolist(), rel=1e-9)
    assert known[number].bar_start == rows.index[LAST]


def test_sessions_to_come_trade_by_the_exchange_calendar(bars, features):
    known = feed_of("dow", up_to(bars["dow"], LAST), names(features)).look("IBM")
    to_come = [known[number] for number in sorted(known)[-HORIZON:]]
    assert all(bar.opens_at - bar.bar_start > pd.Timedelta(hours=13) for bar in to_come)  # 9:30 in New York
    assert all(bar.closes_at > bar.opens_at for bar in to_come)


@pytest.mark.parametrize(("asset_class", "symbol"), [("crypto", "BTC/USDT"), ("dow", "IBM")])
def test_bars_told_one_by_one_are_history(asset_class, symbol, bars, features):
    told, later = up_to(bars[asset_class], LAST), up_to(bars[asset_class], LAST + 2)
    one_by_one, at_once = (feed_of(asset_class, each, names(features)) for each in (told, later))
    one_by_one.look(symbol)  # bars to come make way for those that came
    for row in later.merge(told, how="left", indicator=True).query("_merge == 'left_only'").to_dict("records"):
        given = {name: value for name, value in row.items() if name not in ("_merge", "adjusted_close")}
        assert one_by_one.add({**given, "bar_start": row["bar_start"].to_pydatetime()})
    assert one_by_one.look(symbol) == at_once.look(symbol)


def test_the_clock_of_the_order_is_its_own_symbols(bars, features):
    ahead = pd.concat([up_to(bars["crypto"], LAST), bars["crypto"].query("symbol == 'ETH/USDT'")[LAST : LAST + 1]])
    known = feed_of("crypto", ahead, names(features)).look("BTC/USDT")
    assert max(known) == int(features.loc["BTC/USDT"].iloc[LAST]["bar_number"]) + HORIZON - 1


def test_after_a_gap_or_a_halt_nothing_is_known_until_history_has_grown(bars, features):
    one = bars["crypto"].query("symbol == 'BTC/USDT'").reset_index(drop=True)
    gap = one.drop(index=LAST - 20)
    halt = one.copy()
    halt.loc[LAST - 20, ["volume", "notional", "taker_buy_volume"]] = 0.0
    for broken in (gap, halt):
        feed = feed_of("crypto", broken[broken["bar_start"] < one["bar_start"][LAST]], names(features))
        known = feed.look("BTC/USDT")
        first = max(known) - HORIZON + 1
        assert feed.outlook(known, first) is None
        assert feed.closed(known, first - 1).outlook is None


@pytest.mark.parametrize(("ago", "is_known"), [(20, False), (40, False), (60, True)])
def test_features_count_again_once_they_rest_on_as_many_bars_as_in_training(ago, is_known, bars, features):
    one = bars["crypto"].query("symbol == 'BTC/USDT'").reset_index(drop=True)
    with_a_gap = one.drop(index=LAST - ago).head(LAST - 1)
    feed = feed_of("crypto", with_a_gap, names(features))
    known = feed.look("BTC/USDT")
    assert (feed.outlook(known, max(known) - HORIZON + 1) is not None) == is_known


def test_a_faulty_bar_is_known_as_such(bars, features):
    wrong = up_to(bars["crypto"], LAST)
    wrong.loc[LAST - 1, "high"] = 0.001
    known = feed_of("crypto", wrong, names(features)).look("BTC/USDT")
    assert known[max(known) - HORIZON].fault == "impossible"


def test_a_bar_told_twice_is_told_once_and_one_that_differs_is_refused(bars, features):
    feed = feed_of("crypto", up_to(bars["crypto"], LAST), names(features))
    row = bars["crypto"].iloc[LAST - 1]
    given = {"symbol": "BTC/USDT", "bar_start": row["bar_start"].to_pydatetime(), "close": row["close"]}
    assert not feed.add(given)
    with pytest.raises(RefusedEventError, match="was told before with other values; the first ones stand"):
        feed.add({**given, "close": 1.0})


def test_a_model_of_other_features_is_refused():
    with pytest.raises(ConfigurationError, match=r"the model reads mood, which features\.bar_features does not have"):
        BarFeed("crypto", ("return_1", "mood"), LOOKBACK, PARAMETERS, raw(None))


def test_an_unknown_symbol_has_no_bars(features):
    assert feed_of("crypto", hourly(3), names(features)).look("DOGE/USDT") == {}
