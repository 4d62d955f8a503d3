"""What is shown of schedules is what was traded, on bars that can be looked up."""

from dataclasses import replace

import duckdb
import numpy as np
import pandas as pd
import pytest
import torch
from warehouses import PARAMETERS, build, hourly, read

from lem_models.baselines.optimal_stopping import OptimalStopping
from lem_models.execution import settle
from lem_models.orders import SCENARIOS, Limits, OrderGrid
from lem_pipeline.panel import OrderPanel, read_panel
from lem_pipeline.schedules import HEADLINE_BUY, example_duration, mean_schedules, order_paths, rows_of
from lem_pipeline.sql_assets import SQL
from lem_pipeline.storage import Warehouse

LOOKBACK, HORIZON = PARAMETERS["lookback"], PARAMETERS["horizon"]
STOPPING = OptimalStopping(Limits(HORIZON))


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory) -> Warehouse:
    return build(tmp_path_factory.mktemp("schedules"), hourly(600))


@pytest.fixture(scope="module")
def data(warehouse) -> OrderPanel:
    return read_panel(warehouse, ["crypto"])


@pytest.fixture(scope="module")
def rows(data) -> torch.Tensor:
    return data.rows("test", HORIZON)


def test_mean_schedules_are_means_over_windows_and_add_up_to_one(data, rows):
    found = mean_schedules(STOPPING, data, rows, LOOKBACK, HORIZON, batch_size=7)
    schedule = STOPPING.schedule(data.panel.orders(rows, LOOKBACK, HORIZON)).double()
    kinds = [(s.side.name.lower(), s.benchmark.value, s.target.value) for s in SCENARIOS]
    found = found.set_index(["side", "benchmark", "target", "minimum_duration", "bar"]).sort_index()
    assert len(found) == 8 * HORIZON * HORIZON and (found["order_windows"] == len(rows)).all()
    for scenario, kind in enumerate(kinds):
        for duration in range(HORIZON):
            mean = found.loc[(*kind, duration + 1), "mean_fraction"]
            np.testing.assert_allclose(mean, schedule[:, scenario, duration].mean(0))
            assert mean.sum() == pytest.approx(1)


def test_the_errors_of_mean_schedules_are_clustered_by_day(data, rows):
    found = mean_schedules(STOPPING, data, rows, LOOKBACK, HORIZON)
    schedule = STOPPING.schedule(data.panel.orders(rows, LOOKBACK, HORIZON))[:, HEADLINE_BUY, 1].double().numpy()
    days = data.keys["bar_start"].take(rows.numpy()).to_pandas().dt.date.to_numpy()
    residuals = schedule - schedule.mean(0)
    sums = np.array([residuals[days == day].sum(0) for day in sorted(set(days))])
    of_buys = found.query("side == 'buy' and benchmark == 'VWAP' and target == 'quantity' and minimum_duration == 2")
    np.testing.assert_allclose(of_buys["standard_error"], np.sqrt((sums**2).sum(0)) / len(rows))
    one_day = mean_schedules(STOPPING, data, rows[days == days[0]], LOOKBACK, HORIZON)
    assert one_day["standard_error"].isna().all()


def test_an_example_is_priced_by_the_bars_of_its_date_and_its_fills_add_up_to_one(warehouse, data, rows):
    keys = data.keys.take(rows[:5].numpy()).to_pandas()
    chosen = rows_of(data, keys["symbol"], keys["bar_start"])
    assert torch.equal(chosen, rows[:5])
    paths = order_paths(STOPPING, data.panel.orders(chosen, LOOKBACK, HORIZON))
    bars = read(warehouse, "select symbol, bar_start, price, close, volume from bars.market_bars")
    bars = bars.set_index(["symbol", "bar_start"])
    for order, path in paths.groupby("order"):
        symbol, start = keys.loc[order, "symbol"], keys.loc[order, "bar_start"]
        arrival = bars.loc[(symbol, start - pd.Timedelta(hours=1)), "close"]
        traded = bars.loc[[(symbol, start + pd.Timedelta(hours=hour)) for hour in range(HORIZON)]]
        np.testing.assert_allclose(path["price_bps"], (traded["price"] / arrival - 1) * 1e4, atol=0.01)
        vwap = (traded["price"] * traded["volume"]).cumsum() / traded["volume"].cumsum()
        np.testing.assert_allclose(path["market_vwap_bps"], (vwap / arrival - 1) * 1e4, atol=0.01)
        assert path["fraction"].sum() == pytest.approx(1)
        done = path["completion_bar"].iloc[0]
        assert path.loc[path["bar"] > done, "fraction"].eq(0).all() and done >= example_duration(HORIZON)
        # Bought at these prices, measured against this VWAP: the slippage that is shown.
        paid = (path["fraction"] * (1 + path["price_bps"] / 1e4)).sum()
        against = 1 + path.loc[path["bar"] == done, "market_vwap_bps"].item() / 1e4
        assert path["slippage_bps"].iloc[0] == pytest.approx((paid / against - 1) * 1e4, abs=0.02)


def test_an_example_is_the_order_that_the_results_tell_of(data, rows):
    orders = data.panel.orders(rows, LOOKBACK, HORIZON)
    results = settle(STOPPING.schedule(orders), orders.market, OrderGrid(HORIZON))
    paths = order_paths(STOPPING, orders).drop_duplicates("order")
    of_order = (slice(None), HEADLINE_BUY, example_duration(HORIZON) - 1)
    np.testing.assert_array_equal(paths["slippage_bps"], results.slippage_bps[of_order])
    np.testing.assert_array_equal(paths["completion_bar"], results.completion_bar[of_order])


@pytest.mark.parametrize("bar", range(1, HORIZON))
def test_what_is_shown_of_a_bar_does_not_depend_on_later_ones(data, rows, bar):
    orders = data.panel.orders(rows, LOOKBACK, HORIZON)
    future = {name: getattr(orders.market, name).clone() for name in ("price", "close", "volume")}
    for values in future.values():
        values[:, bar:] *= 1.7
    shown = ["price_bps", "market_vwap_bps", "volume", "fraction"]
    before, after = (
        order_paths(STOPPING, each).loc[lambda paths: paths["bar"] <= bar, shown]
        for each in (orders, replace(orders, market=replace(orders.market, **future)))
    )
    pd.testing.assert_frame_equal(before, after)


def test_a_window_that_the_panel_lacks_is_named(data):
    with pytest.raises(KeyError, match="2031"):
        rows_of(data, ["BTC/USDT"], [pd.Timestamp("2031-01-01", tz="UTC")])


@pytest.mark.parametrize("orders", [1, 3, 10, 137])
def test_examples_stand_at_their_percentile_whatever_else_is_in_the_results(orders):
    random = np.random.default_rng(orders)
    rows = pd.DataFrame(
        {
            "model": "a model",
            "asset_class": "crypto",
            "strategy": "LEM",
            "symbol": "A",
            "side": "buy",
            "target": "quantity",
            "benchmark": "VWAP",
            "minimum_duration": 6,
            "bar_start": pd.date_range("2024-01-01", periods=orders, freq="12h", tz="UTC"),
            "slippage_bps": random.normal(0, 30, orders).round(-1),  # many alike
        }
    )
    others = [{"strategy": "TWAP"}, {"side": "sell"}, {"target": "notional"}, {"minimum_duration": 7}]
    rest = pd.concat(rows.assign(slippage_bps=1e6, **other) for other in others)
    results = pd.concat([rows, rest, rows.assign(model="another", slippage_bps=0.0)])  # noqa: F841
    query = (SQL / "queries/example_windows.sql").read_text()
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'; create schema results")
        connection.execute("create table results.order_results as from results")
        found = connection.execute(query, {"minimum_duration": 6}).df()
    found = found[found["model"] == "a model"]
    assert list(found["percentile"]) == [10, 50, 90]
    expected = np.percentile(rows["slippage_bps"], [10, 50, 90], method="inverted_cdf")
    np.testing.assert_array_equal(found["slippage_bps"], expected)
