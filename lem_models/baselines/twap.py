"""Equal slices over the whole horizon."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lem_models.execution import follow
from lem_models.orders import Limits, OrderBatch, OrderGrid


@dataclass(frozen=True)
class Twap:
    """Trades the same fraction in every bar, whatever the market does."""

    limits: Limits
    name: str = "TWAP"

    def schedule(self, orders: OrderBatch) -> Tensor:
        """Fractions of the parent order per bar; (B, S, M, H)."""
        horizon = self.limits.horizon
        bars_left = torch.arange(horizon, 0, -1, dtype=torch.float32)
        desired = (1 / bars_left).expand(len(orders), *OrderGrid(horizon).shape, horizon)
        return follow(desired, orders.market, self.limits)
