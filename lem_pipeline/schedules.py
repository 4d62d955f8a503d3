"""How strategies slice their test orders: mean schedules, and a few orders bar by bar."""

import math
from collections.abc import Sequence
from datetime import datetime

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lem_models.baselines import Strategy
from lem_models.execution import RunningMarket, settle
from lem_models.orders import SCENARIOS, Benchmark, OrderBatch, OrderGrid, Side, Target
from lem_pipeline.panel import OrderPanel

HEADLINE_BUY = next(
    number
    for number, scenario in enumerate(SCENARIOS)
    if (scenario.side, scenario.benchmark, scenario.target) == (Side.BUY, Benchmark.VWAP, Target.QUANTITY)
)


def example_duration(horizon: int) -> int:
    """Minimum duration of the orders that are shown bar by bar: half the horizon."""
    return math.ceil(horizon / 2)


def mean_schedules(
    strategy: Strategy, data: OrderPanel, rows: Tensor, lookback: int, horizon: int, batch_size: int = 256
) -> pd.DataFrame:
    """The mean schedule of every kind of order, with its day-clustered standard error.

    Args:
        strategy: Slices the orders.
        data: Bars and order windows.
        rows: Panel rows where order windows begin.
        lookback: Bars of history each window carries.
        horizon: Bars of each order.
        batch_size: Windows at once.

    Returns:
        Columns side, benchmark, target, minimum_duration, bar (counted from 1), order_windows, mean_fraction of the
        parent order, standard_error (missing for a single day).
    """
    starts = data.keys["bar_start"].take(rows.numpy()).to_pandas()
    days, day = np.unique(starts.dt.tz_convert("UTC").dt.date, return_inverse=True)
    shape = (*OrderGrid(horizon).shape, horizon)
    sums, windows = torch.zeros(len(days), *shape, dtype=torch.float64), torch.from_numpy(np.bincount(day))
    batches = (torch.split(each, batch_size) for each in (rows, torch.from_numpy(day)))
    for part, of_day in zip(*batches, strict=True):
        schedule = strategy.schedule(data.panel.orders(part, lookback, horizon))
        sums.index_add_(0, of_day, schedule.double())
    mean = sums.sum(0) / len(rows)
    # Assets move together, so the windows of one day count as one observation.
    error = (sums - windows[:, None, None, None] * mean).square().sum(0).sqrt() / len(rows)
    scenario, duration, bar = (axis.ravel() for axis in np.indices(shape))
    return pd.DataFrame(
        {
            **_kinds(scenario),
            "minimum_duration": duration + 1,
            "bar": bar + 1,
            "order_windows": len(rows),
            "mean_fraction": mean.numpy().ravel(),
            "standard_error": error.numpy().ravel() if len(days) > 1 else math.nan,
        }
    )


def rows_of(data: OrderPanel, symbols: Sequence[str], starts: Sequence[datetime]) -> Tensor:
    """Panel rows of order windows, in the order asked for.

    Raises:
        KeyError: No bar of the panel has such a symbol and start.
    """
    keys = pd.MultiIndex.from_arrays([data.keys["symbol"].to_pandas(), data.keys["bar_start"].to_pandas()])
    wanted = pd.MultiIndex.from_arrays([list(symbols), pd.to_datetime(list(starts), utc=True)])
    rows = keys.get_indexer(wanted)
    if (rows < 0).any():
        raise KeyError(f"the panel has no bar of {wanted[rows < 0][0]}")
    return torch.from_numpy(rows)


def order_paths(strategy: Strategy, orders: OrderBatch) -> pd.DataFrame:
    """What the market and a strategy did in every bar of some buys: a fixed quantity against VWAP, half the horizon.

    Returns:
        A row per order (its place in the batch) and bar, counted from 1: price_bps and market_vwap_bps over arrival,
        the VWAP running from the order's first bar; volume; fraction filled; and of the whole order slippage_bps and
        completion_bar.
    """
    grid, market = OrderGrid(orders.market.horizon), orders.market
    duration = example_duration(grid.horizon) - 1
    schedule = strategy.schedule(orders)
    results = settle(schedule, market, grid)
    of_order = (HEADLINE_BUY, duration)
    order, bar = (axis.ravel() for axis in np.indices((len(orders), grid.horizon)))

    def over_arrival(price: Tensor) -> np.ndarray:
        return ((price.double() / market.arrival[:, None] - 1) * 1e4).numpy().ravel()

    return pd.DataFrame(
        {
            "order": order,
            "bar": bar + 1,
            "price_bps": over_arrival(market.price),
            "market_vwap_bps": over_arrival(RunningMarket.of(market).vwap),
            "volume": market.volume.numpy().ravel(),
            "fraction": schedule[:, *of_order].numpy().ravel(),
            "slippage_bps": results.slippage_bps[:, *of_order].numpy()[order],
            "completion_bar": results.completion_bar[:, *of_order].numpy()[order],
        }
    )


def _kinds(scenario: np.ndarray) -> dict[str, np.ndarray]:
    names = {
        "side": [s.side.name.lower() for s in SCENARIOS],
        "benchmark": [s.benchmark.value for s in SCENARIOS],
        "target": [s.target.value for s in SCENARIOS],
    }
    return {name: np.array(values)[scenario] for name, values in names.items()}
