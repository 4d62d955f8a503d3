"""Stages from the panel on: training, evaluation, bootstrap, serving, sessions; models are untrained."""

import sys
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import lem_models.orders
from benchmarks.evaluate import FEATURES, TRIAL, order_panel, untrained
from benchmarks.growth.measure import Work
from lem_models.config import LEMConfig, TrainingConfig

DECISIONS = LEMConfig(FEATURES).horizon  # of each session, its history told before them
WARM_UP = 24  # windows that load what libraries load on their first use


def configured(horizon: int, scenarios: int) -> LEMConfig:
    """The default model, on one thread; fewer kinds of orders leave out benchmarks and targets before sides."""
    torch.set_num_threads(1)
    import lem_pipeline.results
    import lem_pipeline.serving  # noqa: F401 - both know the kinds by name, and are told of fewer below

    every = len(lem_models.orders.SCENARIOS) // scenarios
    chosen = lem_models.orders.SCENARIOS[::every]
    for module in [each for each in sys.modules.values() if hasattr(each, "SCENARIOS")]:
        module.SCENARIOS = chosen
    return LEMConfig(FEATURES, horizon=horizon)


def training(
    folder: Path, windows: int = 256, panel_windows: int = 400, horizon: int = 12, scenarios: int = 8, batch: int = 32
) -> Work:
    """One epoch, and its validation on one batch."""
    from lem_models.training import fit

    config = configured(horizon, scenarios)
    data = order_panel(panel_windows, config=config)
    batch = min(batch, windows)
    chosen = TrainingConfig(batch, batches_per_epoch=windows // batch, validation_orders=batch, max_epochs=1)
    rows = data.rows("test", 1)
    few = TrainingConfig(batch_size=4, batches_per_epoch=1, validation_orders=4, max_epochs=1)
    fit(data.panel, rows, rows, config, few, folder / "first")
    return partial(fit, data.panel, rows, rows, config, chosen, folder / "checkpoints")


def evaluation(folder: Path, windows: int, symbols: int, horizon: int = 12, scenarios: int = 8) -> Work:
    """Every strategy on so many windows, rows of results in the warehouse, improvements by day."""
    from lem_models.evaluation import evaluate
    from lem_pipeline.contestants import contestants
    from lem_pipeline.results import order_results
    from lem_pipeline.sql_assets import SQL
    from lem_pipeline.storage import Warehouse

    config = configured(horizon, scenarios)
    data = order_panel(windows, symbols, config)
    strategies = contestants(untrained(config), [], data, config)
    rows, warehouse = data.rows("test"), Warehouse(path=str(folder / "warehouse.duckdb"))
    daily = (SQL / "reports/daily_improvements.sql").read_text()

    def run(rows: torch.Tensor = rows) -> None:
        batches = evaluate(strategies, data.panel, rows, config.lookback, config.horizon, trial=TRIAL)
        warehouse.replace_streamed("results.order_results", order_results("m", data, batches), "true", {})
        warehouse.create_table("reports.daily_improvements", daily, {})

    run(rows[:1])
    return run


def bootstrap(folder: Path, days: int, horizon: int = 12, strategies: int = 9) -> Work:
    """Intervals of improvements and of edges."""
    from lem_pipeline.edges import KIND, edge_intervals, improvement_intervals

    names = ["LEM", *(f"baseline {number}" for number in range(1, strategies))]
    kinds = product(names, ("VWAP", "TWAP"), ("quantity", "notional"), range(1, horizon + 1))
    rows = pd.DataFrame(kinds, columns=["strategy", *KIND])
    first = pd.date_range("2000-01-01", periods=days, name="trading_day").to_frame(index=False)
    daily = rows.merge(first, how="cross").assign(model="m", asset_class="crypto", order_windows=8)
    improvements = np.random.default_rng(0).normal(size=(4, len(daily)))
    measures = ("improvement_bps", "improvement_sigma", "fixed_window_improvement_bps", "arrival_improvement_bps")
    daily = daily.assign(**dict(zip(measures, improvements, strict=True)))

    def run() -> None:
        improvement_intervals(daily)
        edge_intervals(daily)

    return run


def serving(folder: Path, windows: int, horizon: int = 12, scenarios: int = 8) -> Work:
    """One prediction of the registered flavour."""
    import mlflow.pyfunc

    from lem_pipeline import serving as flavour

    config = configured(horizon, scenarios)
    files = {"weights": folder / "weights.pt", "config": folder / "config.json"}
    flavour.write(untrained(config), **files)
    mlflow.pyfunc.save_model(
        str(folder / "model"),
        python_model=flavour.__file__,
        artifacts={name: str(file) for name, file in files.items()},
        signature=flavour.signature(config),
        pip_requirements=["mlflow"],
    )
    model = mlflow.pyfunc.load_model(str(folder / "model"))
    data = order_panel(windows + WARM_UP, 1, config)
    rows = data.rows("test")
    first, asked = (
        flavour.as_input(data.panel.orders(part, config.lookback, config.horizon))
        for part in (rows[:2], rows[:windows])
    )
    model.predict(first)
    return partial(model.predict, asked)


def sessions(folder: Path, sessions: int) -> Work:
    """So many orders in one book, from their history to their last bar, one market for fifty of them."""
    from benchmarks import inference
    from benchmarks.lockstep import ORDERS_PER_MARKET, bars_of, orders_of, together

    torch.set_num_threads(1)
    config = LEMConfig(inference.FEATURES)
    model = untrained(config)

    def run(count: int = sessions) -> None:
        together(model, orders_of(count, len(bars), config.horizon), bars)

    markets = inference.random_orders(config, max(1, sessions // ORDERS_PER_MARKET))
    bars = [bars_of(markets, place, config) for place in range(len(markets))]
    run(2)
    return run
