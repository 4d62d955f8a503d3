"""Walk-forward folds and unseen symbols: what is tested on was never trained on, in time or by name."""

from itertools import pairwise

import pandas as pd
import pytest
from warehouses import PARAMETERS, build, daily, hourly, read

LOOKBACK, HORIZON, FOLDS = PARAMETERS["lookback"], PARAMETERS["horizon"], 3
SPLITS = ["train", "validation", "test"]
UNSEEN = ["SOL/USDT", "IBM"]
KEYS = ["asset_class", "symbol", "bar_number"]


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory):
    parameters = PARAMETERS | {"folds": FOLDS, "unseen_symbols": UNSEEN}
    crypto = hourly(900, ("BTC/USDT", "ETH/USDT", "SOL/USDT"))
    return build(tmp_path_factory.mktemp("folds"), crypto, daily(500), parameters)


@pytest.fixture(scope="module")
def windows(warehouse) -> pd.DataFrame:
    return read(warehouse, "from windows.order_windows")


@pytest.fixture(scope="module")
def folds(warehouse) -> pd.DataFrame:
    return read(warehouse, "from windows.walk_forward")


def bars(first_bars: pd.Series) -> set[int]:
    return {bar for first in first_bars for bar in range(first - LOOKBACK + 1, first + HORIZON)}


def test_there_are_as_many_folds_as_asked_for_each_with_all_splits(folds):
    for _, found in folds.groupby("asset_class"):
        assert set(found["fold"]) == set(range(1, FOLDS + 1))
        assert (found.groupby("fold")["split"].nunique() == len(SPLITS)).all()


def test_no_bar_belongs_to_two_splits_of_a_fold_and_splits_follow_each_other(folds):
    for _, found in folds.groupby(["asset_class", "fold"]):
        spans = [bars(found.loc[found["split"] == split, "bar_number"]) for split in SPLITS]
        assert all(max(earlier) < min(later) for earlier, later in pairwise(spans))


def test_a_fold_trains_on_all_that_came_before_its_validation(folds, windows):
    for (asset_class, fold), found in folds.groupby(["asset_class", "fold"]):
        last_trained = found.loc[found["split"] == "train", "bar_number"].max()
        before = windows[(windows["asset_class"] == asset_class) & (windows["bar_number"] <= last_trained)]
        assert len(before) == (found["split"] == "train").sum(), fold


def test_each_fold_is_tested_on_the_next_stretch_and_stretches_are_alike(folds):
    for _, found in folds[folds["split"] == "test"].groupby("asset_class"):
        spans = found.groupby("fold")["bar_number"].agg(["min", "max"])
        assert (spans["min"].iloc[1:].to_numpy() > spans["max"].iloc[:-1].to_numpy() + HORIZON - 1).all()
        lengths = spans["max"] - spans["min"]
        assert lengths.max() - lengths.min() <= LOOKBACK + HORIZON


def test_no_fold_holds_a_window_of_the_hold_out_or_shares_a_bar_with_it(folds, windows):
    for asset_class, found in folds.groupby("asset_class"):
        hold_out = windows[(windows["asset_class"] == asset_class) & (windows["split"] == "test")]
        assert max(bars(found["bar_number"])) < min(bars(hold_out["bar_number"]))


def test_every_window_of_a_fold_is_an_order_window(folds, windows):
    developed = windows[windows["split"] != "test"]
    assert len(folds.merge(developed, on=KEYS)) == len(folds)


def test_unseen_symbols_are_tested_on_and_nowhere_else(folds, windows):
    unseen = windows[windows["symbol"].isin(UNSEEN)]
    assert set(unseen["symbol"]) == set(UNSEEN)
    assert set(unseen["split"]) == {"test"}
    assert (windows["is_unseen_symbol"] == windows["symbol"].isin(UNSEEN)).all()
    assert not folds["symbol"].isin(UNSEEN).any()


def test_an_unseen_symbol_leaves_the_windows_of_others_as_they_were(tmp_path, windows):
    seen_all = read(
        build(tmp_path, hourly(900, ("BTC/USDT", "ETH/USDT", "SOL/USDT")), daily(500)), "from windows.order_windows"
    )
    others = seen_all[~seen_all["symbol"].isin(UNSEEN)].merge(windows, on=[*KEYS, "split"])
    assert len(others) == (~windows["symbol"].isin(UNSEEN)).sum()


def test_without_folds_there_is_no_row(tmp_path):
    assert read(build(tmp_path, hourly(500), daily(300), PARAMETERS | {"folds": 0}), "from windows.walk_forward").empty
