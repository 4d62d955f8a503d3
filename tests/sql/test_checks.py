"""Every check passes on a sound warehouse and finds, with a reason, what was broken on purpose."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from warehouses import PARAMETERS, build, daily, execute, hourly, read, run, with_raw_tables

from lem_models.baselines.twap import Twap
from lem_models.evaluation import evaluate
from lem_models.orders import Limits
from lem_pipeline.panel import read_panel
from lem_pipeline.results import order_results
from lem_pipeline.sql_assets import SQL, check_result, sql_files
from lem_pipeline.storage import Warehouse

LOOKBACK, HORIZON = PARAMETERS["lookback"], PARAMETERS["horizon"]
CHECKS = {f"{file.table}: {file.path.stem}": file for file in sql_files("checks")}
OF_DATA = [check for check, file in CHECKS.items() if not file.table.startswith("results.")]
A_BAR = "symbol = 'BTC/USDT' and bar_start = timestamptz '2024-01-15 00:00:00+00'"
DATED = "results.order_results: orders_are_priced_by_the_bars_of_their_date"
PRICES = "bars.market_bars: prices_are_positive_and_ordered"


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    warehouse = build(folder, hourly(600), daily(320))
    data = read_panel(warehouse, ["crypto", "dow"])
    batches = evaluate([Twap(Limits(HORIZON))], data.panel, data.rows("test"), LOOKBACK, HORIZON)
    warehouse.write_table("results.order_results", pa.concat_tables(order_results("a model", data, batches)))
    return folder


@pytest.fixture
def warehouse(sound, tmp_path) -> Warehouse:
    """A copy of the sound warehouse, to be broken."""
    shutil.copy(sound / "warehouse.duckdb", tmp_path)
    return Warehouse(path=str(tmp_path / "warehouse.duckdb"))


def offending(warehouse: Warehouse, check: str, live: Sequence[str] = ()) -> pd.DataFrame:
    file = CHECKS[check]
    return read(warehouse, file.text, **file.bind(PARAMETERS | {"live": list(live)}))


@dataclass(frozen=True)
class Damage:
    """What breaks a check, and what the check then says."""

    check: str
    statement: str
    reason: str
    rows: int


DAMAGES = {
    "a bar that has not ended": Damage(
        "bars.market_bars: no_bar_from_the_future",
        f"update bars.market_bars set bar_end = now() + interval 1 minute where {A_BAR}",
        "the bar ends in the future, so it is not final; check the clock and the archive's time zone",
        1,
    ),
    "results an hour late": Damage(
        DATED,
        "update results.order_results set bar_start = bar_start + interval 1 hour "
        "where symbol = 'BTC/USDT' and bar_start = (select max(bar_start) - interval 9 hour from results.order_results "
        "where symbol = 'BTC/USDT')",
        "BTC/USDT at 2024-01-25 12:00:00+00: equal slices cost",
        1,
    ),
    "results of a day without a window": Damage(
        DATED,
        "update results.order_results set bar_start = timestamptz '2030-01-01 00:00:00+00' "
        "where symbol = 'BTC/USDT' and bar_start = (select min(bar_start) from results.order_results "
        "where symbol = 'BTC/USDT')",
        "BTC/USDT at 2030-01-01 00:00:00+00: no order window begins there",
        1,
    ),
    "a missing price": Damage(
        PRICES, f"update bars.market_bars set close = null where {A_BAR}", "a price or the volume is missing", 1
    ),
    "a missing volume": Damage(
        PRICES, f"update bars.market_bars set volume = null where {A_BAR}", "a price or the volume is missing", 1
    ),
    "a price of zero": Damage(
        PRICES, f"update bars.market_bars set low = 0 where {A_BAR}", "a price is not positive", 1
    ),
    "a negative price": Damage(
        PRICES, f"update bars.market_bars set open = -1 where {A_BAR}", "a price is not positive", 1
    ),
    "a negative volume": Damage(
        PRICES, f"update bars.market_bars set volume = -1 where {A_BAR}", "the volume is negative", 1
    ),
    "a high below the close": Damage(
        PRICES,
        f"update bars.market_bars set high = close * 0.999 where {A_BAR}",
        "high is not the highest price or low not the lowest",
        1,
    ),
    "a low above the open": Damage(
        PRICES,
        f"update bars.market_bars set low = least(open, close) * 1.0001 where {A_BAR}",
        "high is not the highest price or low not the lowest",
        1,
    ),
    "a bar stored three times": Damage(
        "bars.market_bars: one_row_per_bar",
        f"insert into bars.market_bars select market_bars.* from bars.market_bars, range(2) where {A_BAR}",
        "the bar is stored 3 times; ingest its month again with refetch",
        1,
    ),
    "a live market that nobody fetched": Damage(
        "bars.market_bars: live_series_reach_the_present",
        "update bars.market_bars set bar_end = bar_end - interval 1 hour where asset_class = 'crypto'",
        "UTC; run job backfill, and read why the last ingestion failed",
        1,
    ),
    "a split adjustment that scales prices alone": Damage(
        "staging.dow_bars: split_adjustment_keeps_notional",
        "update staging.dow_bars set close = close / 4 where symbol = 'AAPL' and bar_start < '2022-03-01'",
        "split adjustment changes the notional of the bar",
        39,
    ),
    "a dividend that was not scaled with its price": Damage(
        "staging.dow_bars: split_adjustment_keeps_notional",
        "update staging.dow_bars set dividend = 1 where symbol = 'AAPL' and bar_start = '2022-03-01'",
        "split adjustment changes the notional of the bar",
        1,
    ),
    "a market with too many doubtful bars": Damage(
        "quality.completeness: most_bars_are_sound",
        "update quality.completeness set masked = 61 where symbol = 'BTC/USDT'",
        "only 1139 of 1200 bars can be relied on; see quality.gap_ledger",
        1,
    ),
    "a masked bar in a window": Damage(
        "windows.order_windows: windows_hold_no_masked_bar",
        f"insert into quality.gap_ledger by name select asset_class, symbol, bar_start, bar_number, 'stale' as kind, "
        f"'repeats the bar before' as reason, true as is_masked from bars.market_bars where {A_BAR}",
        "the window holds a bar that the ledger masks (stale: repeats the bar before)",
        LOOKBACK + HORIZON - 1,
    ),
    "a daily bar without session": Damage(
        "bars.market_bars: bars_fall_on_their_clock",
        "update bars.market_bars set bar_number = null "
        "where symbol = 'AAPL' and bar_start in ('2022-03-01', '2022-03-02')",
        "the exchange was closed on this date",
        2,
    ),
    "features stored twice": Damage(
        "features.bar_features: one_row_per_bar",
        f"insert into features.bar_features select * from features.bar_features where {A_BAR}",
        "the bar has 2 rows of features",
        1,
    ),
    "an infinite feature": Damage(
        "features.bar_features: features_are_finite",
        f"update features.bar_features set return_4 = 'inf' where {A_BAR}",
        "return_4 is inf; guard its division or logarithm",
        1,
    ),
    "features that are no numbers": Damage(
        "features.bar_features: features_are_finite",
        f"update features.bar_features set bar_range = 'nan', hour_sin = 'nan' where {A_BAR}",
        "is nan; guard its division or logarithm",
        2,
    ),
    "a null in a complete row": Damage(
        "features.bar_features: features_are_finite",
        f"update features.bar_features set volume_trend = null where {A_BAR}",
        "volume_trend is null; guard its division or logarithm",
        1,
    ),
    "no window to test on": Damage(
        "windows.order_windows: every_split_has_windows",
        "delete from windows.order_windows where asset_class = 'dow' and split = 'test'",
        "no order window of dow fits the test split: a window spans 11 bars after 48 of history, "
        "and the longest unbroken run has 320; ingest a longer period, or shorten lookback or horizon",
        1,
    ),
    "no window at all": Damage(
        "windows.order_windows: every_split_has_windows",
        "delete from windows.order_windows where asset_class = 'crypto'",
        "no order window of crypto fits the ",
        3,
    ),
    "a validation window at the end of training": Damage(
        "windows.order_windows: splits_share_no_bar",
        "insert into windows.order_windows select * replace ('validation' as split) from windows.order_windows "
        "where asset_class = 'crypto' and split = 'train' order by bar_number desc limit 1",
        "the last bar of train lies in a window of validation",
        1,
    ),
    "a test window whose lookback reaches into validation": Damage(
        "windows.order_windows: splits_share_no_bar",
        "update windows.order_windows set bar_number = bar_number - 1 where asset_class = 'dow' and split = 'test'",
        "the last bar of validation lies in a window of test",
        1,
    ),
    "an unseen symbol that is trained on": Damage(
        "windows.order_windows: unseen_symbols_are_tested_on_alone",
        "update windows.order_windows set is_unseen_symbol = true where symbol = 'IBM' and split = 'train' "
        "and bar_number = (select max(bar_number) from windows.order_windows where symbol = 'IBM' and split = 'train')",
        "an unseen symbol has a window in the train split",
        1,
    ),
    "a fold without a test": Damage(
        "windows.walk_forward: every_fold_has_windows",
        "delete from windows.walk_forward where asset_class = 'dow' and fold = 2 and split = 'test'",
        "walk-forward fold 2 of dow has no test window; ask for fewer folds, or ingest a longer period",
        1,
    ),
    "a fold that is tested on bars it trained on": Damage(
        "windows.walk_forward: folds_share_no_bar",
        "update windows.walk_forward set bar_number = bar_number - 1 "
        "where asset_class = 'crypto' and fold = 1 and split = 'test'",
        "fold 1: the last bar of validation is not before the first bar of test",
        1,
    ),
    "a fold that reaches the hold-out": Damage(
        "windows.walk_forward: folds_share_no_bar",
        "insert into windows.walk_forward select 2, asset_class, symbol, bar_start, bar_number, 'test' "
        "from windows.order_windows where asset_class = 'dow' and split = 'test' limit 1",
        "fold 2: the last bar of test is not before the first bar of hold-out",
        1,
    ),
    "a bar that is missing": Damage(
        "windows.order_windows: windows_never_straddle_a_gap_or_split",
        f"delete from bars.market_bars where {A_BAR}",
        "a bar is missing inside the window",
        LOOKBACK + HORIZON - 1,
    ),
    "a split": Damage(
        "windows.order_windows: windows_never_straddle_a_gap_or_split",
        f"update bars.market_bars set split_ratio = 2 where {A_BAR}",
        "a split falls inside the window",
        LOOKBACK + HORIZON - 2,
    ),
}


def test_every_check_has_a_damage_that_it_must_find():
    assert {damage.check for damage in DAMAGES.values()} == set(CHECKS)


@pytest.mark.parametrize("check", CHECKS)
def test_a_sound_warehouse_passes(sound, check):
    assert offending(Warehouse(path=str(sound / "warehouse.duckdb")), check).empty


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damage_is_found_and_explained(warehouse, name):
    damage = DAMAGES[name]
    execute(warehouse, damage.statement)
    found = offending(warehouse, damage.check, live=["crypto"])
    assert len(found) == damage.rows
    assert found["reason"].str.contains(damage.reason, regex=False).all()
    assert "asset_class" in found.columns


@pytest.mark.parametrize("check", CHECKS)
def test_a_check_is_named_as_a_claim_and_says_it_in_its_first_line(check):
    file = CHECKS[check]
    assert file.text.startswith("-- ") and file.description.endswith(".")
    assert "_" in file.path.stem and file.path.stem == file.path.stem.lower()
    assert "reason" in [column.alias_or_name for column in file.parsed.selects]
    assert (SQL / f"{file.table.replace('.', '/')}.sql").exists() or file.table == "results.order_results"


def test_the_first_reason_is_what_a_failed_check_says(warehouse):
    damage = DAMAGES["a bar that is missing"]
    execute(warehouse, damage.statement)
    examples = offending(warehouse, damage.check).to_dict("records")
    failed = check_result(len(examples), examples[:10])
    assert not failed.passed
    assert failed.description == f"{damage.reason} ({damage.rows} rows offend)"
    assert failed.metadata["offending_rows"].value == damage.rows
    assert len(failed.metadata["examples"].records) == 10
    assert check_result(0, []).passed


def test_a_bar_on_a_closed_date_is_reported_from_its_raw_row_on(tmp_path):
    bars = daily(320, ["AAPL"])
    saturday = bars.head(1).assign(bar_start=pd.Timestamp("2022-01-08", tz="UTC"))
    warehouse = build(tmp_path, dow=pd.concat([bars, saturday]))
    found = offending(warehouse, "bars.market_bars: bars_fall_on_their_clock")
    assert found["bar_start"].tolist() == saturday["bar_start"].tolist()
    assert len(read(warehouse, "from features.bar_features")) == len(bars)


def test_a_bar_off_the_hour_is_reported_and_does_not_shift_the_clock_of_the_others(tmp_path):
    bars = hourly(400)
    early = bars.head(1).assign(bar_start=bars["bar_start"][0] - pd.Timedelta(minutes=30))
    warehouse = build(tmp_path, crypto=pd.concat([early, bars]))
    found = offending(warehouse, "bars.market_bars: bars_fall_on_their_clock")
    assert found["bar_start"].tolist() == early["bar_start"].tolist()
    assert found["reason"].str.startswith("the bar does not begin on the hour").all()
    assert read(warehouse, "from quality.gap_ledger where kind = 'missing'").empty
    assert len(read(warehouse, "from features.bar_features")) == len(bars)


@pytest.mark.parametrize("column", ["close", "volume", "taker_buy_volume"])
@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_bar_with_a_number_that_is_none_is_left_out_and_blocks_nothing(tmp_path, column, value):
    warehouse = with_raw_tables(tmp_path, hourly(600), daily(320))
    for table, symbol in (("crypto_bars", "BTC/USDT"), ("dow_bars", "AAPL")):
        execute(
            warehouse,
            f"update raw.{table} set {column} = '{value}' "
            f"where symbol = '{symbol}' and bar_start = (select min(bar_start) from raw.{table})",
        )
    run(warehouse)
    for check in OF_DATA:
        assert offending(warehouse, check).empty, check
    assert read(warehouse, "from quality.gap_ledger")["kind"].tolist() == ["incomplete"] * 2


def test_a_silent_bar_breaks_no_check(tmp_path):
    bars = hourly(900, ["BTC/USDT"])
    bars.loc[300:302, ["volume", "notional", "taker_buy_volume"]] = 0.0
    warehouse = build(tmp_path, bars, daily(320))
    assert all(offending(warehouse, check).empty for check in OF_DATA)


@pytest.mark.parametrize("column", ["high", "volume"])
@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_price_or_volume_that_is_no_number_is_found(warehouse, column, value):
    execute(warehouse, f"update bars.market_bars set {column} = '{value}' where {A_BAR}")
    assert len(offending(warehouse, PRICES)) == 1


def test_an_asset_class_without_any_feature_has_no_windows_either(warehouse):
    execute(warehouse, "delete from features.bar_features where asset_class = 'dow'")
    run(warehouse, schemas=["windows"])
    assert set(offending(warehouse, "windows.order_windows: every_split_has_windows")["asset_class"]) == {"dow"}
