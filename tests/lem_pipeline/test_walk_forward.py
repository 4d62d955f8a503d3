"""A model's way of being made, tried on folds: real windows, real fits, results that any later bar leaves alone."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from warehouses import PARAMETERS, build, execute, hourly

from lem_models.config import LEMConfig, TrainingConfig
from lem_pipeline.edges import walk_forward_edges
from lem_pipeline.panel import on_fold, read_panel
from lem_pipeline.report.walk_forward_tables import walk_forward_table
from lem_pipeline.sql_assets import SQL, SqlFile
from lem_pipeline.walk_forward import RESULTS, attempts, forget_others, keep, make_ready, play, play_all

SHAPE = LEMConfig(
    lookback=PARAMETERS["lookback"],
    horizon=PARAMETERS["horizon"],
    width=8,
    attention_heads=2,
    memory_width=4,
    head_width=8,
)
TRAINING = TrainingConfig(batch_size=16, batches_per_epoch=2, max_epochs=2, validation_orders=16)
DAYS = SqlFile(SQL / "reports/walk_forward_days.sql")


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory):
    return build(tmp_path_factory.mktemp("folds"), hourly(1_500))


@pytest.fixture(scope="module")
def panel(warehouse):
    return read_panel(warehouse, ["crypto"])


@pytest.fixture(scope="module")
def wanted(panel):
    return list(attempts("lem-crypto", replace(SHAPE, features=panel.features), TRAINING, folds=2, seeds=2))


@pytest.fixture(scope="module")
def outcomes(warehouse, panel, wanted):
    folds = {fold: on_fold(panel, warehouse, ["crypto"], fold) for fold in (1, 2)}
    return list(play_all(wanted, folds, workers=1))


def rows(outcomes) -> pd.DataFrame:
    return pd.concat([outcome.results.to_pandas() for outcome in outcomes], ignore_index=True)


def test_a_fold_has_the_bars_of_the_panel_and_splits_of_its_own(warehouse, panel):
    first, second = (on_fold(panel, warehouse, ["crypto"], fold) for fold in (1, 2))
    assert first.panel is panel.panel
    assert set(first.rows("train").tolist()) < set(second.rows("train").tolist()) < set(panel.rows("train").tolist())
    assert first.rows("test").max() not in panel.rows("test")
    keys = first.keys.to_pandas()
    stored = warehouse.read("select symbol, bar_number, split from windows.walk_forward where fold = 1").to_pandas()
    named = keys[keys["split"].notna()][["symbol", "bar_number", "split"]]
    assert set(map(tuple, named.to_numpy())) == set(map(tuple, stored.to_numpy()))


def test_every_fold_is_played_with_every_seed_and_once_by_the_baselines(outcomes):
    played = rows(outcomes).groupby(["fold", "strategy"])["seed"].agg(lambda seeds: sorted(set(seeds.dropna())))
    assert set(played.index.get_level_values("fold")) == {1, 2}
    for (_, strategy), seeds in played.items():
        assert seeds == ([0, 1] if strategy == "LEM" else [])
    counts = rows(outcomes).fillna({"seed": -1}).groupby(["fold", "strategy", "seed"]).size()
    assert all(of_fold.nunique() == 1 for _, of_fold in counts.groupby("fold"))


def test_a_fold_is_tested_after_everything_it_was_trained_and_validated_on(warehouse, outcomes):
    windows = warehouse.read("from windows.walk_forward").to_pandas()
    for fold, played in rows(outcomes).groupby("fold"):
        seen = windows[(windows["fold"] == fold) & (windows["split"] != "test")]
        assert played["bar_start"].min() > seen["bar_start"].max() + pd.Timedelta(hours=PARAMETERS["horizon"] - 1)


def test_bars_after_a_fold_leave_its_fit_and_its_results_as_they_were(warehouse, panel, wanted, outcomes):
    fold = on_fold(panel, warehouse, ["crypto"], 1)
    ends = int(fold.rows("test").max()) + PARAMETERS["horizon"]
    symbols = fold.keys["symbol"].to_numpy(zero_copy_only=False)
    first_symbol = symbols == symbols[0]
    later = np.flatnonzero(fold.keys["bar_number"].to_numpy() > fold.keys["bar_number"].to_numpy()[ends - 1])
    assert first_symbol[later].any() and (~first_symbol)[later].any()
    columns = {name: getattr(fold.panel, name).clone() for name in ("price", "close", "volume")}
    for values in columns.values():
        values[later] *= 3
    features = fold.panel.features.clone()
    features[later] += 5
    future = replace(fold, panel=replace(fold.panel, features=features, **columns))
    before = next(o for o in outcomes if o.attempt == wanted[0])
    again = play(wanted[0], future)
    assert again.history == before.history
    assert again.results.equals(before.results)


def test_the_same_attempt_gives_the_same_results_and_another_seed_others(warehouse, panel, wanted, outcomes):
    fold = on_fold(panel, warehouse, ["crypto"], 1)
    (again,) = play_all([wanted[0]], {1: fold}, workers=1)
    before, other = (next(o for o in outcomes if o.attempt == wanted[number]) for number in (0, 1))
    assert again.results.equals(before.results)
    learned = [o.results.to_pandas().query("strategy == 'LEM'")["slippage_bps"].to_numpy() for o in (before, other)]
    assert not np.array_equal(*learned)


def test_a_fingerprint_tells_attempts_data_and_code_apart(wanted):
    marks = {attempt.fingerprint(data, code) for attempt in wanted for data in "ab" for code in "cd"}
    assert len(marks) == 4 * len(wanted)
    assert wanted[0].fingerprint("a", "c") == wanted[0].fingerprint("a", "c")


def test_fits_are_kept_once_and_forgotten_when_nobody_asks_for_them(warehouse, outcomes):
    assert make_ready(warehouse) == set()
    for _ in range(2):
        keep(warehouse, "first", outcomes[0])
    keep(warehouse, "second", outcomes[1])
    assert make_ready(warehouse) == {"first", "second"}
    assert len(warehouse.read(f"from {RESULTS}")) == len(outcomes[0].results) + len(outcomes[1].results)
    assert forget_others(warehouse, ["second"]).rows == len(outcomes[1].results)
    execute(warehouse, f"delete from {RESULTS}")


@pytest.fixture(scope="module")
def days(warehouse, outcomes) -> pd.DataFrame:
    make_ready(warehouse)
    for number, outcome in enumerate(outcomes):
        keep(warehouse, str(number), outcome)
    found = warehouse.read(DAYS.text).to_pandas()
    execute(warehouse, f"delete from {RESULTS}")
    return found


def test_days_add_up_to_the_orders_behind_them(outcomes, days):
    orders = rows(outcomes).fillna({"seed": -1})
    keys = ["fold", "strategy", "seed", "benchmark", "minimum_duration"]
    windows = orders.groupby([*keys, "symbol", "bar_start"])["slippage_bps"].agg(["mean", "count"])
    assert (windows["count"] == 2).all()
    expected = -windows["mean"].groupby(keys).sum()
    found = days.fillna({"seed": -1}).groupby(keys)["improvement_bps"].sum()
    pd.testing.assert_series_equal(
        found.sort_index(), expected.sort_index(), check_names=False, check_index_type=False, check_dtype=False
    )


def test_an_edge_is_the_mean_over_seeds_and_the_folds_together_hold_all_of_it(outcomes, days):
    edges = walk_forward_edges(days)
    orders = rows(outcomes)
    kind = (orders["benchmark"] == "VWAP") & (orders["minimum_duration"] == 2)
    cost = orders[kind].groupby(["fold", "strategy", "seed"], dropna=False)["slippage_bps"].mean()
    shown = edges[
        (edges["benchmark"] == "VWAP")
        & (edges["minimum_duration"] == 2)
        & (edges["baseline"] == "no-forecast stopping")
    ].set_index("fold")
    for fold in (1, 2):
        single = [cost[fold]["no-forecast stopping"].iloc[0] - cost[fold]["LEM"][seed] for seed in (0, 1)]
        assert shown.loc[fold, "mean_bps"] == pytest.approx(np.mean(single), abs=1e-6)
        assert shown.loc[fold, "lowest_seed_bps"] == pytest.approx(min(single), abs=1e-6)
        assert shown.loc[fold, "highest_seed_bps"] == pytest.approx(max(single), abs=1e-6)
    windows = shown.loc[[1, 2], "order_windows"]
    assert shown.loc[0, "order_windows"] == windows.sum()
    assert shown.loc[0, "mean_bps"] == pytest.approx(np.average(shown.loc[[1, 2], "mean_bps"], weights=windows))
    assert (shown["seeds"] == 2).all()


def test_a_model_of_two_asset_classes_has_an_edge_in_each(days):
    both = pd.concat([days, days.assign(asset_class="dow")])
    edges = walk_forward_edges(both).set_index("asset_class")
    assert set(edges.index) == {"crypto", "dow"}
    np.testing.assert_array_equal(edges.loc["crypto", "mean_bps"], edges.loc["dow", "mean_bps"])


def test_the_table_has_a_row_per_stretch_all_of_them_the_seeds_and_what_would_have_been_seen(days):
    table = walk_forward_table(walk_forward_edges(days), "VWAP")
    assert len(table) == 2 + 3
    assert table["tested on"].iloc[-3:].tolist() == [
        "all stretches",
        "single seeds, lowest to highest of 2",
        "detectable",
    ]
    assert table.columns[1] == "m = 1"
    assert not table.isna().any().any()


def test_without_folds_there_is_no_edge_and_an_empty_table_that_a_warehouse_can_hold(warehouse, days):
    none = walk_forward_edges(days.iloc[:0])
    assert none.empty and set(none.columns) == set(walk_forward_edges(days).columns)
    warehouse.write_table("reports.walk_forward", pa.Table.from_pandas(none, preserve_index=False))
    assert walk_forward_table(none, "VWAP").empty
