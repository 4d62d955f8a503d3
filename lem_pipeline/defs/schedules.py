"""How orders were sliced: the model's mean schedules, and a few orders bar by bar."""

import dagster as dg
import pandas as pd
import pyarrow as pa

from lem_pipeline.defs.training import model_key
from lem_pipeline.failures import explained
from lem_pipeline.settings import settings
from lem_pipeline.sql_assets import SQL, asset_key, table_metadata
from lem_pipeline.storage import Warehouse
from lem_pipeline.tracking import Tracking

COLUMNS = {
    "strategy": "LEM, or stopping without forecasts on the same order",
    "bar": "Bar of the order, counted from 1",
    "order_windows": "Test windows behind the mean",
    "mean_fraction": "Mean fraction of the parent order that is traded in the bar",
    "standard_error": "Its day-clustered standard error; empty for a single day",
    "percentile": "Where the model's slippage on this window stands among all its test windows",
    "order_start": "Start of the order's first bar",
    "price_bps": "Bar VWAP over the arrival price",
    "market_vwap_bps": "Market VWAP since the order began over the arrival price",
    "volume": "Units traded in the bar",
    "fraction": "Fraction of the parent order filled in the bar",
    "slippage_bps": "Of the whole order, against VWAP over the realised window; positive is a cost",
    "completion_bar": "Bar in which the order is done, counted from 1",
}


@dg.asset(
    key=["results", "mean_schedules"],
    group_name="results",
    deps=[model_key(name) for name in settings().models],
    kinds={"mlflow", "duckdb"},
    pool="duckdb",
)
def mean_schedules(context: dg.AssetExecutionContext, warehouse: Warehouse, tracking: Tracking) -> dg.MaterializeResult:
    """One row per model, kind of order and bar: how much of the order is traded in it, on average over test windows."""
    from lem_pipeline.panel import read_panel
    from lem_pipeline.schedules import mean_schedules as means
    from lem_pipeline.serving import Registered

    chosen = settings().model
    parts = []
    with explained():
        for name, asset_classes in settings().models.items():
            data, model = read_panel(warehouse, asset_classes), Registered(tracking.load(name))
            for asset_class in asset_classes:
                rows = data.rows("test", chosen.horizon, asset_class)
                context.log.info(f"{name}: mean schedules of {len(rows):,} {asset_class} windows")
                found = means(model, data, rows, chosen.lookback, chosen.horizon)
                parts.append(found.assign(model=name, asset_class=asset_class))
        return _written(warehouse, "results.mean_schedules", parts)


@dg.asset(
    key=["results", "example_orders"],
    group_name="results",
    deps=[asset_key("results.order_results")],
    kinds={"mlflow", "duckdb"},
    pool="duckdb",
)
def example_orders(warehouse: Warehouse, tracking: Tracking) -> dg.MaterializeResult:
    """One row per model, example, strategy and bar: test buys at the model's 10th, 50th and 90th percentile."""
    from lem_models.baselines.optimal_stopping import OptimalStopping
    from lem_pipeline.panel import read_panel
    from lem_pipeline.schedules import example_duration, order_paths, rows_of
    from lem_pipeline.serving import Registered

    chosen = settings().model
    parts = []
    with explained():
        query = (SQL / "queries/example_windows.sql").read_text()
        shown = warehouse.read(query, {"minimum_duration": example_duration(chosen.horizon)}).to_pandas()
        for name, asset_classes in settings().models.items():
            data = read_panel(warehouse, asset_classes)
            windows = shown[shown["model"] == name].rename(columns={"bar_start": "order_start"}).reset_index(drop=True)
            windows = windows.drop(columns="slippage_bps")
            orders = data.panel.orders(
                rows_of(data, windows["symbol"], windows["order_start"]), chosen.lookback, chosen.horizon
            )
            for strategy in (Registered(tracking.load(name)), OptimalStopping(chosen.limits)):
                paths = order_paths(strategy, orders).join(windows, on="order").drop(columns="order")
                parts.append(paths.assign(strategy=strategy.name))
        return _written(warehouse, "results.example_orders", parts)


def _written(warehouse: Warehouse, table: str, parts: list[pd.DataFrame]) -> dg.MaterializeResult:
    rows = pa.Table.from_pandas(pd.concat(parts), preserve_index=False)
    written = warehouse.write_table(table, rows)
    return dg.MaterializeResult(metadata=table_metadata(written.columns, written.rows, COLUMNS))
