"""Every strategy on the same orders, through the one accounting."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lem_models.baselines import Strategy
from lem_models.costs import CostModel, OrderCosts, order_costs
from lem_models.execution import OrderResults, settle
from lem_models.orders import InformationSet, OrderBatch, OrderGrid, OrderSize
from lem_models.windows import MarketPanel


@dataclass(frozen=True)
class Trial:
    """Orders of one size, and what trading them costs.

    Attributes:
        fraction_of_daily_volume: Size of each parent order.
        participation_cap: Greatest fraction of a bar's volume that a child order fills; ``None`` lets a bar with trades
            take any child order, so that size shows in costs alone.
        costs: What is charged beside slippage; it says how many bars a day has.
    """

    fraction_of_daily_volume: float
    participation_cap: float | None
    costs: CostModel

    def size(self, orders: OrderBatch) -> OrderSize:
        """The size of each order."""
        per_day, cap = self.costs.bars_per_day, self.participation_cap
        return OrderSize.of_daily_volume(orders.market, self.fraction_of_daily_volume, per_day, cap or 1.0)


@dataclass
class EvaluatedBatch:
    """Results of one strategy on some order windows.

    Attributes:
        strategy: Its name, which says so where it looks ahead.
        rows: Panel rows where the windows begin; (B,).
        results: What the orders cost; fields (B, S, M).
        volatility_bps: One-bar volatility known at each order's start; (B,).
        costs: What the orders paid beside slippage, where a trial says how large they are; fields (B, S, M).
    """

    strategy: str
    rows: Tensor
    results: OrderResults
    volatility_bps: Tensor
    costs: OrderCosts | None = None


def evaluate(
    strategies: Sequence[Strategy],
    panel: MarketPanel,
    rows: Tensor,
    lookback: int,
    horizon: int,
    batch_size: int = 256,
    trial: Trial | None = None,
    information_set: InformationSet = "causal",
) -> Iterator[EvaluatedBatch]:
    """Let each strategy slice the same orders, batch by batch: memory is bounded by the batch.

    Args:
        strategies: What to compare.
        panel: All bars.
        rows: Panel rows where order windows begin.
        lookback: Bars of history each window carries.
        horizon: Bars of each order.
        batch_size: Windows at once.
        trial: How large the orders are and what they cost; without one they are small and cost nothing.
        information_set: What a model among the strategies is made for; baselines read no feature row of their bar.
    """
    grid = OrderGrid(horizon)
    for part in torch.split(rows, batch_size):
        orders = panel.orders(part, lookback, horizon, information_set)
        size = trial.size(orders) if trial else None
        if trial and trial.participation_cap is not None:
            orders = replace(orders, size=size)
        for strategy in strategies:
            schedule = strategy.schedule(orders)
            results = settle(schedule, orders.market, grid)
            costs = order_costs(schedule, orders.market, size, trial.costs) if trial and size else None
            yield EvaluatedBatch(strategy.name, part, results, orders.market.volatility[:, 0] * 1e4, costs)
