"""Every strategy on the same orders, through the one accounting."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lem_models.baselines import Strategy
from lem_models.execution import OrderResults, settle
from lem_models.orders import InformationSet, OrderGrid
from lem_models.windows import MarketPanel


@dataclass
class EvaluatedBatch:
    """Results of one strategy on some order windows.

    Attributes:
        strategy: Its name, which says so where it looks ahead.
        rows: Panel rows where the windows begin; (B,).
        results: What the orders cost; fields (B, S, M).
        volatility_bps: One-bar volatility known at each order's start; (B,).
    """

    strategy: str
    rows: Tensor
    results: OrderResults
    volatility_bps: Tensor


def evaluate(
    strategies: Sequence[Strategy],
    panel: MarketPanel,
    rows: Tensor,
    lookback: int,
    horizon: int,
    batch_size: int = 256,
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
        information_set: What a model among the strategies is made for; baselines read no features.
    """
    grid = OrderGrid(horizon)
    for part in torch.split(rows, batch_size):
        orders = panel.orders(part, lookback, horizon, information_set)
        for strategy in strategies:
            results = settle(strategy.schedule(orders), orders.market, grid)
            yield EvaluatedBatch(strategy.name, part, results, orders.market.volatility[:, 0] * 1e4)
