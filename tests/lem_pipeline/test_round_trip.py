"""With holes in the bars, every window is one of its date; where it is not, the check says so and where."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from warehouses import FEATURES, MONDAY, PARAMETERS, WINDOWS, bars_at, build, daily, hourly, read

from lem_pipeline.panel import OrderPanel
from lem_pipeline.round_trip import of_other_dates, rebuilt, windows_of_other_dates, with_gaps
from lem_pipeline.sql_assets import SqlFile
from lem_pipeline.storage import Warehouse

LOOKBACK, HORIZON = PARAMETERS["lookback"], PARAMETERS["horizon"]
ALSO_READ = ("quality.gap_ledger", "raw.dow_members")


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory) -> Warehouse:
    return build(tmp_path_factory.mktemp("round_trip"), hourly(900), daily(500))


@pytest.fixture(scope="module")
def torn(warehouse) -> pa.Table:
    return with_gaps(warehouse.read("from bars.market_bars"), PARAMETERS)


@pytest.fixture(scope="module")
def sound(warehouse, torn) -> OrderPanel:
    tables = {table: warehouse.read(f"from {table}") for table in ALSO_READ}
    return rebuilt({**tables, "bars.market_bars": torn}, FEATURES, WINDOWS, PARAMETERS)


def offending(data: OrderPanel, bars: pa.Table) -> pd.DataFrame:
    return pd.DataFrame(
        of_other_dates(data, bars, LOOKBACK, HORIZON), columns=["asset_class", "symbol", "bar_start", "reason"]
    )


def holes(bars: pa.Table) -> pd.Series:
    """The first bar after the first hole of each symbol."""
    frame = bars.select(["symbol", "bar_number"]).to_pandas().sort_values(["symbol", "bar_number"])
    after = frame[frame.groupby("symbol")["bar_number"].diff() > 1]
    return after.groupby("symbol")["bar_number"].min()


def test_the_repository_s_own_windows_are_those_of_their_dates(warehouse):
    assert windows_of_other_dates(warehouse, FEATURES, WINDOWS, PARAMETERS) == []


@pytest.mark.parametrize("minutes", [15, 90])
def test_windows_of_bars_of_any_length_are_those_of_their_dates(tmp_path, minutes):
    starts = pd.date_range(MONDAY, periods=2_200, freq="15min", tz="UTC")
    parameters = PARAMETERS | {"crypto_source_bar_minutes": 15, "crypto_bar_minutes": minutes}
    warehouse = build(tmp_path, pd.concat([bars_at(starts, "A"), bars_at(starts, "B")]), parameters=parameters)
    assert len(read(warehouse, "from windows.order_windows")) > 50
    assert windows_of_other_dates(warehouse, FEATURES, WINDOWS, parameters) == []


def test_windows_begin_before_and_after_holes_in_every_symbol(warehouse, torn, sound):
    lost = len(read(warehouse, "from bars.market_bars")) - len(torn)
    assert 20 < lost < 400
    keys = sound.keys.to_pandas().dropna(subset=["split"])
    for symbol, first in holes(torn).items():
        numbers = keys.loc[keys["symbol"] == symbol, "bar_number"]
        assert (numbers < first).any() or first < numbers.min() + 200
        assert (numbers > first).any()
    assert offending(sound, torn).empty


def test_rows_counted_as_if_there_were_no_hole_are_caught_after_it_and_not_before(torn, sound):
    keys = sound.keys.to_pandas()
    crypto = keys["asset_class"] == "crypto"
    first = keys.groupby("symbol")["bar_start"].transform("first")
    counted = first + pd.to_timedelta(keys.groupby("symbol").cumcount(), unit="h")
    keys["bar_start"] = keys["bar_start"].where(~crypto, counted)
    dated = replace(sound, keys=pa.Table.from_pandas(keys, preserve_index=False))
    found = offending(dated, torn)
    windows = keys[crypto & keys["split"].notna()]
    after = windows["bar_number"] > windows["symbol"].map(holes(torn))
    assert len(found) == after.sum() > 0
    assert set(found["symbol"]) == {"BTC/USDT", "ETH/USDT"}


@pytest.mark.parametrize("column", ["price", "close", "volume"])
def test_a_market_shifted_by_one_row_after_a_hole_is_caught(torn, sound, column):
    first = int(np.flatnonzero(np.diff(sound.keys["bar_number"].to_numpy()) > 1)[0]) + 1
    values = getattr(sound.panel, column).clone()
    values[first:-1] = values[first + 1 :].clone()
    found = offending(replace(sound, panel=replace(sound.panel, **{column: values})), torn)
    assert not found.empty
    assert found["reason"].str.contains(f": {column} of bar 1 is").any()


def tampered(file: SqlFile, folder: Path, changes: dict[str, str]) -> SqlFile:
    """A statement with faults put in."""
    text = file.text
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    path = folder / file.path.parent.name / file.path.name
    path.parent.mkdir()
    path.write_text(text)
    return SqlFile(path)


def test_windows_that_go_on_over_a_hole_are_caught(warehouse, tmp_path):
    changes = {"asset_class, symbol, segment": "asset_class, symbol", "features.is_complete and ": ""}
    found = windows_of_other_dates(warehouse, FEATURES, tampered(WINDOWS, tmp_path, changes), PARAMETERS)
    assert {row["asset_class"] for row in found} == {"crypto", "dow"}
    assert any("nan by that bar's date" in row["reason"] for row in found)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("extract('hour' from bar_start)", "extract('month' from bar_start)", "hour_sin of bar"),
        ("extract('isodow' from bar_start)", "extract('isodow' from bar_start + interval 1 day)", "weekday_sin of bar"),
        ("extract('hour' from bar_start)", "extract('hour' from lag(bar_start) over by_segment)", "hour_sin of bar"),
    ],
    ids=["month called hour", "weekday of the next day", "hour of the bar before"],
)
def test_calendar_features_of_another_time_are_caught(warehouse, tmp_path, old, new, complaint):
    features = tampered(FEATURES, tmp_path, {old: new})
    found = windows_of_other_dates(warehouse, features, WINDOWS, PARAMETERS)
    assert any(complaint in row["reason"] for row in found)
