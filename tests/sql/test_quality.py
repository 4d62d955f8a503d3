"""The gap ledger: whatever is wrong with a bar is a row with a reason, and nothing that is right is one."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from warehouses import PARAMETERS, bars_at, build, daily, execute, hourly, raw, read, run, sessions, with_raw_tables

from lem_pipeline.fetched import FETCHED_SCHEMA
from lem_pipeline.ingest import store
from lem_pipeline.sources.archive import ArchiveBars
from lem_pipeline.sources.base import RAW_BARS
from lem_pipeline.storage import Warehouse

PRICES = ["open", "high", "low", "close"]
CHECKED = ("staging", "bars", "quality")
AT = 300  # the bar that something is done to


def ledger(path: Path, **bars: pd.DataFrame) -> pd.DataFrame:
    warehouse = build(path, **bars, schemas=CHECKED)
    return read(warehouse, "from quality.gap_ledger order by symbol, bar_start, kind")


def hours(**changes: object) -> pd.DataFrame:
    """Hours of BTC and ETH, with columns of one BTC bar changed."""
    bars = hourly(400)
    for column, value in changes.items():
        bars.loc[AT, column] = value(bars.loc[AT, column]) if callable(value) else value
    return bars


def times(factor: float):
    return lambda value: value * factor


def take_in(warehouse: Warehouse, bars: pd.DataFrame, symbol: str, since: datetime, until: datetime) -> None:
    """Store bars as a source's answer for a period."""
    store(warehouse, "raw.crypto_bars", symbol, raw(bars), (since, until))


def test_sound_bars_leave_the_ledger_empty(tmp_path):
    warehouse = build(tmp_path, hourly(400), daily(300), schemas=CHECKED)
    assert read(warehouse, "from quality.gap_ledger").empty
    months = read(warehouse, "from quality.completeness")
    assert (months["completeness"] == 1).all()
    assert months["expected"].sum() == 2 * 400 + 2 * 300


FAULTS = {
    "without volume": ({"volume": 0.0, "notional": 0.0, "taker_buy_volume": 0.0}, "zero_volume", "nothing was traded"),
    "without a close": ({"close": np.nan}, "incomplete", "missing or not a number"),
    "of infinite volume": ({"volume": np.inf}, "incomplete", "missing or not a number"),
    "of a negative price": ({"low": -1.0}, "impossible", "not positive and ordered"),
    "whose high is low": ({"high": times(0.9)}, "impossible", "not positive and ordered"),
    "of negative volume": ({"volume": -1.0}, "impossible", "the volume is negative"),
    "whose VWAP is too high": ({"notional": times(1.5)}, "out_of_band", "notional and prices disagree"),
    "with a wick": ({"low": times(0.5)}, "bad_tick", "beyond both closes"),
    "of another venue": ({"venue": "elsewhere"}, "venue_change", "the bars come from elsewhere"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_bar_with_a_fault_is_in_the_ledger_with_its_reason(tmp_path, name):
    changes, kind, reason = FAULTS[name]
    bars = hours(**changes)
    found = ledger(tmp_path, crypto=bars)
    first = found.iloc[0]
    assert (first["symbol"], first["bar_start"], first["kind"]) == ("BTC/USDT", bars.loc[AT, "bar_start"], kind)
    assert reason in first["reason"]
    assert set(found["kind"]) == {kind} and len(found) == (2 if kind == "venue_change" else 1)


@pytest.mark.parametrize("column", ["close", "high"])
@pytest.mark.parametrize("value", [None, np.nan, np.inf])
def test_the_bar_behind_one_without_prices_is_beyond_suspicion(tmp_path, column, value):
    crypto, dow = hourly(400), daily(320).assign(adjusted_close=lambda bars: bars["close"])
    dow.loc[AT + 1, "dividend"] = 1e-6
    warehouse = with_raw_tables(tmp_path, crypto, dow)
    with warehouse.connection() as connection:
        for table, bars in (("raw.crypto_bars", crypto), ("raw.dow_bars", dow)):
            at = {"value": value, "symbol": bars["symbol"][AT], "at": bars["bar_start"][AT]}
            connection.execute(f"update {table} set {column} = $value where symbol = $symbol and bar_start = $at", at)
    run(warehouse, schemas=CHECKED)
    found = read(warehouse, "from quality.gap_ledger order by asset_class")
    assert found["bar_start"].tolist() == [crypto["bar_start"][AT], dow["bar_start"][AT]]
    assert found["kind"].tolist() == ["incomplete"] * 2


def test_a_price_in_another_unit_behind_a_bar_without_prices_has_a_reason(tmp_path):
    bars = hours(close=np.nan)
    bars.loc[AT + 1, [*PRICES, "notional"]] *= 100
    found = ledger(tmp_path, crypto=bars)
    assert found["kind"].tolist() == ["incomplete", "level_shift", "level_shift"]
    assert found["reason"].str.contains("times the one before").tolist() == [False, True, True]
    assert not found["reason"].str.contains("nan").any()


@pytest.mark.parametrize("factor", [100, 0.01, 4])
def test_a_price_in_another_unit_is_in_the_ledger_where_it_begins_and_where_it_ends(tmp_path, factor):
    bars = hours(**dict.fromkeys([*PRICES, "notional"], times(factor)))
    found = ledger(tmp_path, crypto=bars)
    assert found["kind"].tolist() == ["level_shift"] * 2
    assert found["bar_start"].tolist() == bars["bar_start"][[AT, AT + 1]].tolist()
    assert "times the one before: another unit, a split that is not stored, or a bad print" in found["reason"][0]


def test_a_share_that_halves_without_a_split_is_looked_at_and_a_coin_is_not(tmp_path):
    def halved(bars: pd.DataFrame) -> pd.DataFrame:
        bars.loc[150:199, [*PRICES, "notional"]] /= 2
        return bars

    found = ledger(tmp_path, crypto=halved(hourly(200, ["BTC/USDT"])), dow=halved(daily(200, ["AAPL"])))
    assert found[["symbol", "kind"]].to_numpy().tolist() == [["AAPL", "large_move"]]
    assert found["reason"][0].endswith("times the one before: news, or a split that is not stored")


def test_a_bar_that_repeats_the_one_before_is_stale(tmp_path):
    bars = hourly(400)
    bars.loc[AT, [*PRICES, "volume", "notional"]] = bars.loc[AT - 1, [*PRICES, "volume", "notional"]]
    found = ledger(tmp_path, crypto=bars)
    assert found["kind"].tolist() == ["stale"]
    assert found["is_masked"].all()


def test_a_missing_bar_is_a_doubt_and_one_that_all_symbols_miss_is_an_outage(tmp_path):
    bars = hourly(400)
    own = (bars["symbol"] == "BTC/USDT") & (bars["bar_start"] == bars.loc[AT, "bar_start"])
    common = bars["bar_start"] == bars.loc[AT + 5, "bar_start"]
    warehouse = with_raw_tables(tmp_path, crypto=bars[~own & ~common])
    everything = {"raw_table": "raw.crypto_bars", "fetched_from": bars["bar_start"].min(), "bars": 0}
    periods = [
        everything | {"symbol": symbol, "fetched_until": bars["bar_start"].max(), "fetched_at": datetime.now(UTC)}
        for symbol in ("BTC/USDT", "ETH/USDT")
    ]
    warehouse.write_table("raw.fetched_periods", FETCHED_SCHEMA.empty_table().from_pylist(periods, FETCHED_SCHEMA))
    run(warehouse, schemas=CHECKED)
    found = read(warehouse, "from quality.gap_ledger order by bar_start, symbol")
    assert found["kind"].tolist() == ["missing"] * 3
    assert found["is_explained"].tolist() == [False, True, True]
    assert found["reason"][0].startswith("the source was asked and has no such bar")
    assert found["reason"][1] == "no symbol has a bar: the venue stood still"
    months = read(warehouse, "from quality.completeness order by symbol")
    assert months["unexplained_gaps"].tolist() == [1, 0]
    assert months["stored"].tolist() == [398, 399]


@pytest.mark.parametrize("symbols", [["BTC/USDT"], ["BTC/USDT", "ETH/USDT"]], ids=["one symbol", "all symbols"])
def test_a_month_that_was_never_fetched_is_told_from_one_that_the_venue_lacks(tmp_path, symbols):
    bars = hourly(24 * 95, symbols)
    months = bars["bar_start"].dt.month
    warehouse = with_raw_tables(tmp_path)
    for month in (1, 3):
        since, until = (datetime(2024, m, 1, tzinfo=UTC) for m in (month, month + 1))
        for symbol in symbols:
            take_in(warehouse, bars[(months == month) & (bars["symbol"] == symbol)], symbol, since, until)
    run(warehouse, schemas=CHECKED)
    found = read(warehouse, "from quality.gap_ledger")
    assert len(found) == 29 * 24 * len(symbols)
    assert found["reason"].unique().tolist() == ["never fetched: backfill its month"]
    assert not found["is_explained"].any()


def test_a_source_that_is_behind_with_every_symbol_is_no_outage(tmp_path):
    bars = hourly(48)
    warehouse = with_raw_tables(tmp_path)
    for symbol in ("BTC/USDT", "ETH/USDT"):
        since = bars["bar_start"].min().to_pydatetime()
        take_in(warehouse, bars[bars["symbol"] == symbol], symbol, since, since + timedelta(hours=60))
    run(warehouse, schemas=CHECKED)
    found = read(warehouse, "from quality.gap_ledger")
    assert len(found) == 2 * 12
    assert found["reason"].str.startswith("no bar since the last one stored").all()
    assert not found["is_explained"].any()


def test_a_series_that_ends_before_the_period_that_was_fetched_is_missed_to_its_end(tmp_path):
    bars = daily(200, ["AAPL"])
    ends = sessions().loc[sessions()["bar_start"] > bars["bar_start"].max(), "bar_start"].iloc[2].to_pydatetime()
    warehouse = with_raw_tables(tmp_path)
    answer = RAW_BARS.empty_table().from_pandas(bars, RAW_BARS, preserve_index=False)
    store(warehouse, "raw.dow_bars", "AAPL", answer, (bars["bar_start"].min().to_pydatetime(), ends))
    run(warehouse, schemas=CHECKED)
    found = read(warehouse, "from quality.gap_ledger")
    assert len(found) == 2
    assert found["reason"].str.startswith("no bar since the last one stored").all()
    assert read(warehouse, "select sum(after_the_last) as n from quality.completeness")["n"].tolist() == [2]


@pytest.mark.parametrize("session", ["2024-11-29", "2024-12-24"], ids=["day after Thanksgiving", "Christmas Eve"])
def test_a_half_day_must_exist_and_a_holiday_need_not(tmp_path, session):
    bars = daily(60, ["AAPL", "IBM"], since="2024-10-15")
    missing = (bars["symbol"] == "IBM") & (bars["bar_start"] == pd.Timestamp(session, tz="UTC"))
    assert missing.sum() == 1
    found = ledger(tmp_path, dow=bars[~missing])
    assert found["bar_start"].dt.strftime("%Y-%m-%d").tolist() == [session]
    assert not found["is_explained"].any()


def test_what_a_source_said_twice_or_differently_is_in_the_ledger(tmp_path):
    warehouse = with_raw_tables(tmp_path)
    bars = hourly(48, ["BTC/USDT"])
    period = (bars["bar_start"][0].to_pydatetime(), bars["bar_start"][0].to_pydatetime() + timedelta(hours=48))
    first = pd.concat([bars, bars.iloc[[7]]]).sort_values("bar_start", kind="stable")
    second = bars.drop(index=20)
    second.loc[9, ["close", "high"]] *= 1.001
    for answer in (first, second):
        table = RAW_BARS.empty_table().from_pandas(answer, RAW_BARS, preserve_index=False)
        store(warehouse, "raw.crypto_bars", "BTC/USDT", table, period)
    run(warehouse, schemas=CHECKED)
    found = read(warehouse, "from quality.gap_ledger order by bar_start").set_index("kind")
    assert found["bar_start"].tolist() == bars["bar_start"][[7, 9, 20]].tolist()
    assert found.index.tolist() == ["duplicate", "restated", "withdrawn"]
    assert found.loc["restated", "reason"].startswith("the source changed close, high at ")
    assert found.loc["duplicate", "done"] == "the later row counts"


@pytest.mark.parametrize("changes", [FAULTS["without a close"][0], {c: times(100) for c in [*PRICES, "notional"]}])
def test_features_never_see_a_bar_with_a_fault_and_begin_anew_behind_it(tmp_path, changes):
    bars = hourly(700, ["BTC/USDT"])
    clean = read(build(tmp_path / "clean", bars), "from features.bar_features order by bar_start")
    for column, value in changes.items():
        bars.loc[AT, column] = value(bars.loc[AT, column]) if callable(value) else value
    warehouse = build(tmp_path / "faulty", bars)
    faulty = read(warehouse, "from features.bar_features order by bar_start")
    at = bars.loc[AT, "bar_start"]
    assert at not in set(faulty["bar_start"])
    pd.testing.assert_frame_equal(faulty[faulty["bar_start"] < at], clean[clean["bar_start"] < at], rtol=1e-12)
    behind = faulty[faulty["bar_start"] > at]
    assert behind["history_bars"].iloc[0] == 0
    assert behind["return_1"].abs().max() < 10
    windows = read(warehouse, "from windows.order_windows")
    reach = timedelta(hours=PARAMETERS["lookback"] - 1)
    assert not windows["bar_start"].between(at - timedelta(hours=PARAMETERS["horizon"] - 1), at + reach).any()


def test_no_window_holds_a_masked_bar_whose_features_are_whole(tmp_path):
    bars = hourly(700, ["BTC/USDT"])
    columns = [*PRICES, "volume", "notional"]
    bars.loc[AT, columns] = bars.loc[AT - 1, columns]
    warehouse = build(tmp_path, bars)
    windows = set(read(warehouse, "from windows.order_windows")["bar_number"])
    stale = read(warehouse, "from quality.gap_ledger")["bar_number"].item()
    reach = range(stale - PARAMETERS["horizon"] + 1, stale + PARAMETERS["lookback"])
    assert windows.isdisjoint(reach)
    assert {reach[0] - 1, reach[-1] + 1} <= windows


def test_a_fault_is_judged_by_earlier_bars_alone(tmp_path):
    bars = hourly(400, ["BTC/USDT"])
    columns = "from bars.market_bars order by bar_start"
    before = read(build(tmp_path / "one", bars, schemas=CHECKED), columns)
    bars.loc[AT:, PRICES] *= 50
    bars.loc[AT + 3, "close"] = np.nan
    after = read(build(tmp_path / "other", bars, schemas=CHECKED), columns)
    pd.testing.assert_frame_equal(after[:AT], before[:AT])
    assert after["fault"][AT] == "level_shift"


def test_a_live_market_must_have_bars_of_the_present(tmp_path):
    now = pd.Timestamp.now("UTC").floor("h")
    bars = bars_at(pd.date_range(end=now - timedelta(hours=2), periods=400, freq="h"), "BTC/USDT")
    check = (Path(__file__).parents[2] / "sql/checks/bars/market_bars/live_series_reach_the_present.sql").read_text()
    warehouse = build(tmp_path, crypto=bars, schemas=CHECKED)
    assert read(warehouse, check, live=["crypto"], crypto_bar_minutes=60).empty
    execute(warehouse, "delete from bars.market_bars where bar_start > now() - interval 40 hours")
    assert len(read(warehouse, check, live=["crypto"], crypto_bar_minutes=60)) == 1
    assert read(warehouse, check, live=["dow"], crypto_bar_minutes=60).empty


def test_coverage_of_the_index_counts_its_members_of_the_day(tmp_path):
    warehouse = build(tmp_path, dow=daily(250, ["AAPL", "IBM"], since="2015-01-02"), schemas=CHECKED)
    (row,) = read(warehouse, "from quality.dow_coverage").to_dict("records")
    joined = sessions()["bar_start"].between("2015-03-19", daily(250, ["IBM"], since="2015-01-02")["bar_start"].max())
    assert row["member_sessions"] == 30 * 250
    assert row["with_bars"] == 250 + joined.sum()
    assert "Apple" not in row["companies_without_bars"].split(", ")
    assert {"Boeing", "General Electric"} <= set(row["companies_without_bars"].split(", "))


def test_the_error_of_the_price_proxy_is_measured_where_the_vwap_is_known(tmp_path):
    bars = hourly(400, ["A", "B"])
    typical = bars[["high", "low", "close"]].mean(axis=1)
    known = bars["symbol"] == "A"
    off = np.where(bars.index % 2, 3e-4, -1e-4)  # of the typical price over the VWAP
    bars["notional"] = np.where(known, bars["volume"] * typical / (1 + off), np.nan)
    silent = bars.index == 7
    bars.loc[silent, ["volume", "notional", "taker_buy_volume"]] = 0.0
    warehouse = build(tmp_path, bars, schemas=CHECKED)
    one, other = read(warehouse, "from quality.price_proxy order by symbol").to_dict("records")
    measured = off[known & ~silent]
    assert (one["bars"], one["bars_with_vwap"], one["proxy_share"]) == (399, 399, 0.0)
    assert one["mean_error_bps"] == pytest.approx(1e4 * measured.mean())
    assert one["rms_error_bps"] == pytest.approx(1e4 * np.sqrt((measured**2).mean()))
    returns = np.log(bars.loc[known & ~silent, "close"]).diff()
    in_sigma = (measured / returns.rolling(168, min_periods=2).std().shift()).dropna()
    assert one["mean_error_sigma"] == pytest.approx(in_sigma.mean())
    assert one["rms_error_sigma"] == pytest.approx(np.sqrt((in_sigma**2).mean()))
    assert (other["bars"], other["bars_with_vwap"], other["proxy_share"]) == (400, 0, 1.0)
    assert np.isnan([other["mean_error_bps"], other["rms_error_sigma"]]).all()


def restored(shared_data: Path, name: str) -> pd.DataFrame:
    """A recorded Yahoo download in the schema of raw bars, labelled by its local date or hour."""
    frame = pd.read_csv(shared_data / "price-repair" / f"{name}.csv")
    label = frame[frame.columns[0]]
    starts = pd.to_datetime(label if "-1h-" in name or "-15m-" in name else label.str[:10], utc=True)
    columns = {"Adj Close": "adjusted_close", "Dividends": "dividend", "Stock Splits": "split_ratio"}
    frame = frame.rename(columns=columns | {c: c.lower() for c in ("Open", "High", "Low", "Close", "Volume")})
    frame["split_ratio"] = frame["split_ratio"].replace(0.0, 1.0)
    given = frame.assign(bar_start=starts, symbol=name, venue="yahoo", splits_until=pd.NaT, notional=np.nan)
    return given.sort_values("bar_start").reindex(columns=RAW_BARS.names)


DEFECTS = {  # a recorded defect: the fault it must be, and where
    "8TRA-DE-1d-missing-div-adjust": ("dividend_mismatch", ["2023-06-02"]),
    "AET-L-1d-100x-error": ("level_shift", ["2022-05-09", "2022-05-20"]),
    "ASAI-L-1h-bad-unit": ("level_shift", ["2024-10-24", "2024-10-25"]),
    "AV-L-1wk-bad-stock-split": ("split_mismatch", ["2022-05-16"]),
    "CNE-L-1d-bad-stock-split": ("split_mismatch", ["2023-05-09", "2023-05-10"]),
    "DEX-AX-1d-bad-stock-split": ("split_mismatch", ["2023-05-22"]),
    "LA-V-1d-bad-stock-split": ("split_mismatch", ["2020-08-26", "2020-08-27"]),
    "MOB-ST-1d-bad-stock-split": ("split_mismatch", ["2023-05-22", "2023-05-23"]),
    "SAND-1d-bad-div": ("dividend_mismatch", ["2024-01-12"]),
    "SPM-MI-1d-bad-stock-split": ("level_shift", ["2022-06-20"]),
    "SSW-JO-1d-100x-error": ("level_shift", ["2023-06-01"]),
}


@pytest.mark.parametrize("name", DEFECTS)
def test_a_recorded_defect_is_flagged_and_explained_and_its_repair_is_not(tmp_path, shared_data, name):
    kind, dates = DEFECTS[name]
    flagged = {}
    for version in (name, f"{name}-fixed"):
        found = ledger(tmp_path / version, dow=restored(shared_data, version))
        found.index = found["bar_start"].dt.strftime("%Y-%m-%d")
        flagged[version] = found[found["kind"] == kind]
    assert set(dates) <= set(flagged[name].index)
    assert set(dates).isdisjoint(flagged[f"{name}-fixed"].index)
    assert flagged[name]["reason"].str.len().min() > 20


@pytest.mark.parametrize("name", ["CALM-1d-no-bad-divs", "EA-15m-no-bad-divs"])
def test_a_recording_without_defect_is_left_alone(tmp_path, shared_data, name):
    found = ledger(tmp_path, dow=restored(shared_data, name))
    assert set(found["kind"]) <= {"zero_volume", "missing"}


def archived(path: Path, symbols: list[str], until: datetime = datetime(2023, 1, 1, tzinfo=UTC)) -> pd.DataFrame:
    source = ArchiveBars(path=str(path))
    answers = [source.fetch(symbol, datetime(1998, 1, 1, tzinfo=UTC), until).to_pandas() for symbol in symbols]
    return pd.concat(answers, ignore_index=True)


def test_outages_and_illiquid_coins_of_a_real_exchange_are_told_apart(tmp_path, shared_data):
    bars = archived(
        shared_data / "crypto-binance-spot-1h" / "bars.parquet", ["BTCUSDT", "ETHUSDT", "FTTUSDT", "IOTXUSDT"]
    )
    found = ledger(tmp_path, crypto=bars)
    count = found.groupby(["kind", "symbol"]).size()
    assert count["missing", "BTCUSDT"] == count["missing", "ETHUSDT"] == 127
    assert found.loc[found["kind"] == "missing", "is_explained"].all()
    silent = bars[bars["volume"] == 0].groupby("symbol").size()
    assert count["zero_volume"].to_dict() == silent.to_dict()
    assert (count["zero_volume", "FTTUSDT"], count["zero_volume", "IOTXUSDT"]) == (63, 153)
    bands = found[found["kind"] == "out_of_band"]
    assert set(bands["symbol"]) >= {"FTTUSDT", "IOTXUSDT"} and not bands["is_masked"].any()
    assert set(found["kind"]) == {"missing", "zero_volume", "out_of_band", "bad_tick"}


BAD_TICKS = {
    "AAPL": ["2000-11-01", "2001-04-05", "2009-09-21", "2010-08-31", "2011-01-03"],
    "AIG": ["2003-11-04", "2009-05-05"],
    "BAC": ["1998-04-24", "2001-11-12"],
    "IBM": ["2002-12-23"],
    "SPY": ["2002-04-02"],
}


def test_the_listed_bad_ticks_of_real_shares_are_flagged(tmp_path, shared_data):
    bars = archived(shared_data / "us-equity-1h" / "bars.parquet", list(BAD_TICKS), datetime(2011, 2, 1, tzinfo=UTC))
    found = ledger(tmp_path, crypto=bars)
    ticks = found[found["kind"] == "bad_tick"]
    flagged = ticks.groupby("symbol")["bar_start"].agg(lambda starts: set(starts.dt.strftime("%Y-%m-%d")))
    for symbol, dates in BAD_TICKS.items():
        assert set(dates) <= flagged[symbol], symbol
    assert len(ticks) < len(bars) / 1000
    assert ticks["is_masked"].all()  # without notional, their typical price rests on the tick


def test_an_empty_warehouse_has_an_empty_ledger(tmp_path):
    warehouse = build(tmp_path, schemas=CHECKED)
    for table in ("expected_bars", "gap_ledger", "completeness", "dow_coverage", "price_proxy"):
        assert read(warehouse, f"from quality.{table}").empty
