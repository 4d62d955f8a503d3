"""The benchmark of features compares like with like."""

from pathlib import Path

import pandas as pd
import pytest

from benchmarks import seconds_in_turns
from benchmarks.bar_features import in_pandas, in_polars
from benchmarks.bar_features.market import write_market
from benchmarks.features import KEYS, assert_all_agree, features_by


@pytest.fixture(scope="module")
def market(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("market") / "bars.parquet"
    write_market(path, symbols=(2, 2), bars=(4_800, 600), break_every=150)
    return path


@pytest.mark.parametrize("horizon", [5, 12])  # a week of sessions, and what the benchmark takes
def test_pandas_and_polars_make_the_features_that_sql_makes(market, horizon):
    assert_all_agree(market, horizon)


def test_the_market_has_every_kind_of_break(market):
    bars = pd.read_parquet(market)
    for asset_class, own in bars.groupby("asset_class"):
        numbered = own.dropna(subset="bar_number").sort_values(KEYS)
        assert (numbered.groupby("symbol")["bar_number"].diff() > 1).any(), asset_class
        assert (own["volume"] == 0).any() and own["volume"].isna().any(), asset_class
        assert (own["split_ratio"] == 2).any(), asset_class
    assert bars.loc[bars["asset_class"] == "dow", "bar_number"].isna().any()


def test_what_is_compared_has_rows_with_and_without_all_features(market):
    complete = features_by("sql", market).groupby("asset_class")["is_complete"]
    assert complete.sum().min() > 500
    assert (complete.size() - complete.sum()).min() > 50


@pytest.mark.parametrize(
    ("library", "function"), [(in_pandas, "expected_volumes"), (in_polars, "with_expected_volume")]
)
def test_a_contestant_that_sees_one_bar_less_is_found(market, monkeypatch, library, function):
    right = getattr(library, function)
    monkeypatch.setattr(library, function, lambda bars, season, horizon: right(bars, season, horizon + 1))
    with pytest.raises(AssertionError, match="expected_volume"):
        assert_all_agree(market, horizon=5)


def test_contestants_are_timed_in_turns():
    calls = []
    seconds_in_turns([lambda: calls.append("a"), lambda: calls.append("b")], repeats=2)
    assert calls == ["a", "b"] * 3
