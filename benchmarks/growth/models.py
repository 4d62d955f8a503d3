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
from lem_models.orders import Benchmark, OrderGrid, Side, Target

DECISIONS = 4  # of each session: the first reads the whole lookback, later ones carry it on
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


def sessions(folder: Path, sessions: int, horizon: int = 12) -> Work:
    """So many orders under way, each told its history and then bar by bar in lockstep with the others."""
    from lem_models.events import ClosedBar, Fill, Outlook, ParentOrder
    from lem_models.session import ExecutionSession

    model = untrained(configured(horizon, 8))
    outlook = Outlook(dict.fromkeys(FEATURES, 0.1), 0.01, (1000.0,) * horizon)
    grid = OrderGrid(horizon)

    def run(count: int = sessions) -> None:
        desk = [
            ExecutionSession(
                ParentOrder(str(n), "XYZ", Side.BUY, Benchmark.VWAP, Target.QUANTITY, 1000.0, grid.horizon), model
            )
            for n in range(count)
        ]
        for number in range(model.config.lookback + DECISIONS):
            for each in desk:
                if number >= model.config.lookback and (advice := each.advise()).to_trade:
                    each.on_fill(Fill(str(number), advice.to_trade, 100.0))
                each.on_bar(ClosedBar(number, 100.0, 100.0, 1000.0, outlook))
        held.append(desk)

    held: list[object] = []
    run(2)
    return run
