"""The rule of thumb of buyback desks: hurry while the price beats the running benchmark, take time otherwise."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lem_models.execution import feasible_bounds, gap_to_benchmark, whole_lots
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
        traded = (market.volume > 0)[:, None, None]
        minimum = grid.minimum_duration.to(market.price.device)
        remaining = market.price.new_ones(len(market), *grid.shape)
        schedule = []
        for step in range(horizon):
            lo, hi = feasible_bounds(remaining, horizon - step, self.limits)
            bars = torch.where(gap[..., step] > 0, (minimum - step).clamp_min(1), horizon - step)
            child = torch.where(traded[..., step], whole_lots(remaining / bars, lo, hi), 0.0)
            schedule.append(child)
            remaining = remaining - child
        return torch.stack(schedule, dim=-1)
