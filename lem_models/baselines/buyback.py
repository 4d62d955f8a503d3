"""The rule of thumb of buyback desks: hurry while the price beats the running benchmark, take time otherwise."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lem_models.execution import gap_to_benchmark
from lem_models.fills import OpenOrder, execute, feasible_bounds, whole_lots
from lem_models.orders import Limits, OrderBatch, OrderGrid


@dataclass(frozen=True)
class BuybackHeuristic:
    """Paces itself to end with the minimum duration while finishing would gain, with the horizon otherwise.

    It takes no forecast and no volatility: the sign of the gap between the running benchmark and the last close is all
    it looks at.
    """

    limits: Limits
    name: str = "buyback heuristic"

    @torch.no_grad()
    def schedule(self, orders: OrderBatch) -> Tensor:
        """Fractions of the parent order per bar; (B, S, M, H)."""
        market, horizon = orders.market, self.limits.horizon
        grid = OrderGrid(horizon)
        gap = gap_to_benchmark(market, grid)
        minimum = grid.minimum_duration.to(market.price.device)

        def decide(step: int, order: OpenOrder) -> Tensor:
            lo, hi = feasible_bounds(order.remaining, horizon - step, self.limits)
            bars = torch.where(gap[..., step] > 0, (minimum - step).clamp_min(1), horizon - step)
            return whole_lots(order.remaining / bars, lo, hi)

        start = OpenOrder.untouched(market.price.new_empty(len(market), *grid.shape))
        return execute(decide, start, market, orders.size)
