"""The panel that models read holds exactly the bars that the window table names."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from warehouses import FEATURES, PARAMETERS, build, daily, execute, hourly, raw, read, run

from lem_pipeline.errors import NoOrderWindowsError
from lem_pipeline.panel import OrderPanel, read_panel
from lem_pipeline.storage import Warehouse

LOOKBACK, HORIZON = PARAMETERS["lookback"], PARAMETERS["horizon"]
SPLITS = ["train", "validation", "test"]
BOTH = ["crypto", "dow"]
NAMED_BARS = """
    select windows.asset_class, windows.symbol, windows.bar_number as first_bar, bars.*
    from windows.order_windows as windows
    inner join bars.market_bars as bars
        on bars.asset_class = windows.asset_class and bars.symbol = windows.symbol
        and bars.bar_number between windows.bar_number + $first and windows.bar_number + $last
    where windows.split = $split
    order by windows.asset_class, windows.symbol, windows.bar_number, bars.bar_number
"""


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory) -> Warehouse:
    crypto = hourly(600, ("BTC/USDT", "ETH/USDT", "SOL/USDT"))
    gap = (crypto["symbol"] == "ETH/USDT") & crypto.groupby("symbol").cumcount().between(400, 403)
    # Stored in an order of its own: the panel sorts.
    return build(tmp_path_factory.mktemp("panel"), crypto[~gap].sample(frac=1, random_state=0), daily(320))


@pytest.fixture(scope="module")
def panel(warehouse) -> OrderPanel:
    return read_panel(warehouse, BOTH)


def named(warehouse: Warehouse, column: str, split: str, first: int, last: int) -> np.ndarray:
    """A column of the bars of every window, straight from SQL; a row per window."""
    bars = read(warehouse, NAMED_BARS, first=first, last=last, split=split)
    return bars[column].to_numpy().reshape(-1, last - first + 1)


def test_the_panel_holds_every_bar_symbol_by_symbol_in_time_order(warehouse, panel):
    keys = panel.keys.to_pandas()
    bars = read(warehouse, "from features.bar_features order by asset_class, symbol, bar_number")
    for name in ("asset_class", "symbol", "bar_start", "bar_number"):
        assert keys[name].tolist() == bars[name].tolist()
    for name in ("price", "close", "volume", "volatility", "expected_volume"):
        column = getattr(panel.panel, name)
        assert column.dtype == torch.float64
        np.testing.assert_array_equal(column.numpy(), bars[name].to_numpy())
    for place, name in enumerate(panel.features):
        np.testing.assert_array_equal(panel.panel.features[:, place].numpy(), bars[name].to_numpy(dtype=np.float32))


def test_features_are_the_columns_described_as_features(panel):
    described = [name for name, text in FEATURES.column_descriptions.items() if text.startswith("Feature:")]
    assert list(panel.features) == described
    assert panel.panel.features.shape == (len(panel.keys), len(described))


@pytest.mark.parametrize("split", SPLITS)
def test_rows_are_where_the_windows_of_a_split_begin(warehouse, panel, split):
    begun = panel.keys.take(panel.rows(split).numpy()).select(["asset_class", "symbol", "bar_number"])
    select = "select asset_class, symbol, bar_number from windows.order_windows where split = $split order by all"
    assert begun.to_pylist() == warehouse.read(select, {"split": split}).to_pylist()


@pytest.mark.parametrize("split", SPLITS)
def test_orders_gather_exactly_the_bars_that_the_window_table_names(warehouse, panel, split):
    rows = panel.rows(split)
    batch = panel.panel.orders(rows, LOOKBACK, HORIZON)
    arrival = named(warehouse, "close", split, -1, -1)
    close = named(warehouse, "close", split, 0, HORIZON - 1)
    assert len(close) == len(rows) > 0
    np.testing.assert_allclose(batch.market.close.numpy(), close / arrival, rtol=1e-6)
    np.testing.assert_allclose(
        batch.market.price.numpy(), named(warehouse, "price", split, 0, HORIZON - 1) / arrival, rtol=1e-6
    )
    np.testing.assert_allclose(
        batch.market.volume.numpy(), named(warehouse, "volume", split, 0, HORIZON - 1), rtol=1e-6
    )


@pytest.mark.parametrize("split", SPLITS)
def test_the_lookback_of_an_order_ends_with_what_is_known_before_its_first_bar(warehouse, panel, split):
    batch = panel.panel.orders(panel.rows(split), LOOKBACK, HORIZON)
    assert batch.features.shape[1:] == (LOOKBACK + HORIZON - 1, len(panel.features))
    assert torch.isfinite(batch.features).all()
    # Volatility undoes the scale of return_1, whose row t tells of bar t − 1.
    scaled = batch.features[..., panel.features.index("return_1")].numpy()
    volatility = panel.panel.volatility[panel.rows(split)[:, None] + torch.arange(1 - LOOKBACK, HORIZON)].numpy()
    close = named(warehouse, "close", split, -LOOKBACK - 1, HORIZON - 2)
    np.testing.assert_allclose(scaled * volatility, np.diff(np.log(close), axis=1), rtol=1e-4, atol=1e-8)


def test_windows_are_rows_of_one_matrix_and_no_copies(panel):
    features = panel.panel.features
    assert features.dtype == torch.float32 and features.is_contiguous()
    assert features.untyped_storage().nbytes() == len(panel.keys) * len(panel.features) * 4
    windows = sum(len(panel.rows(split)) for split in SPLITS)
    as_copies = windows * (LOOKBACK + HORIZON - 1) * len(panel.features) * 4
    held = sum(t.untyped_storage().nbytes() for t in vars(panel.panel).values())
    assert held < as_copies / 4
    row = int(panel.rows("train")[0])
    features[row].add_(1.0)
    try:
        batch = panel.panel.orders(torch.tensor([row, row + 1]), LOOKBACK, HORIZON)
        assert batch.features[0, LOOKBACK - 1].equal(features[row])
        assert batch.features[1, LOOKBACK - 2].equal(features[row])
    finally:
        features[row].sub_(1.0)


@pytest.mark.parametrize("every", [1, HORIZON, 7])
def test_sparser_rows_begin_together_on_multiples_of_the_bar_number(panel, every):
    numbers = panel.keys["bar_number"].to_numpy()
    rows = panel.rows("train", every).numpy()
    assert set(rows) == {row for row in panel.rows("train").numpy() if numbers[row] % every == 0}
    for _, own in pd.Series(numbers[rows]).groupby(panel.keys.take(rows)["symbol"].to_pylist()):
        assert (own.diff().dropna() >= every).all()


def test_only_the_asset_classes_asked_for_are_read(warehouse, panel):
    parts = [read_panel(warehouse, [name]) for name in BOTH]
    assert [set(part.keys["asset_class"].to_pylist()) for part in parts] == [{"crypto"}, {"dow"}]
    assert sum(len(part.panel) for part in parts) == len(panel.panel)
    assert pa.concat_tables([part.keys for part in parts]).equals(panel.keys.combine_chunks())


def test_the_same_data_have_the_same_snapshot(warehouse, panel):
    run(warehouse, schemas=["windows"])
    again = read_panel(warehouse, BOTH)
    assert again.snapshot == panel.snapshot
    assert again.keys.equals(panel.keys)
    assert read_panel(warehouse, ["crypto"]).snapshot != panel.snapshot


def test_a_panel_that_is_gathered_in_small_parts_is_the_same(warehouse, monkeypatch):
    panel = read_panel(warehouse, BOTH)
    monkeypatch.setattr("lem_pipeline.storage.PART", 100)
    again = read_panel(warehouse, BOTH)
    assert again.snapshot == panel.snapshot and again.keys.num_rows == panel.keys.num_rows
    assert again.keys.combine_chunks().equals(panel.keys.combine_chunks())
    for name, column in vars(panel.panel).items():
        torch.testing.assert_close(getattr(again.panel, name), column, rtol=0, atol=0, equal_nan=True)


def test_one_other_bar_gives_another_snapshot(tmp_path):
    bars = hourly(300)
    warehouse = build(tmp_path, bars)
    before = read_panel(warehouse, ["crypto"]).snapshot
    bars.loc[10, "taker_buy_volume"] *= 1.0001
    warehouse.write_table("raw.crypto_bars", raw(bars))
    run(warehouse)
    assert read_panel(warehouse, ["crypto"]).snapshot != before


def test_another_split_gives_another_snapshot(tmp_path):
    warehouse = build(tmp_path, hourly(400))
    before = read_panel(warehouse, ["crypto"])
    run(warehouse, {**PARAMETERS, "train": 0.6}, schemas=["windows"])
    after = read_panel(warehouse, ["crypto"])
    assert after.snapshot != before.snapshot
    assert len(after.rows("train")) < len(before.rows("train"))


def test_a_panel_without_windows_is_explained_in_one_sentence(tmp_path):
    panel = read_panel(build(tmp_path, hourly(100)), ["crypto"])
    with pytest.raises(NoOrderWindowsError) as caught:
        panel.rows("validation")
    assert str(caught.value) == (
        "there is no validation window; ingest a longer period, or shorten lookback or horizon"
    )


def test_a_window_that_leaves_the_panel_is_refused(panel):
    for row in (0, LOOKBACK - 2, len(panel.panel) - HORIZON + 1):
        with pytest.raises(IndexError, match="leaves the panel"):
            panel.panel.orders(torch.tensor([row]), LOOKBACK, HORIZON)


def test_missing_features_of_early_bars_are_not_numbers_and_begin_no_window(panel):
    first = panel.panel.features[0]
    assert torch.isnan(first).any()
    assert all(torch.isfinite(panel.panel.features[panel.rows(split)]).all() for split in SPLITS)


def test_a_column_added_to_the_features_is_a_feature_of_the_panel(tmp_path):
    warehouse = build(tmp_path, hourly(300))
    execute(warehouse, "alter table features.bar_features add column moon_phase double default 0.5")
    panel = read_panel(warehouse, ["crypto"])
    assert panel.features[-1] == "moon_phase"
    assert (panel.panel.features[:, -1] == 0.5).all()
