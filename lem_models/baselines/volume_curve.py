"""Slices in proportion to the volume that the season of each bar lets expect."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lem_models.execution import follow
from lem_models.orders import Limits, OrderBatch, OrderGrid


@dataclass(frozen=True)
class VolumeCurve:
    """Trades the historical volume curve over the whole horizon; known in full before the order starts."""

    limits: Limits
    name: str = "volume curve"

    def schedule(self, orders: OrderBatch) -> Tensor:
        """Fractions of the parent order per bar; (B, S, M, H)."""
        expected = orders.market.expected_volume
        expected = expected.clamp_min(torch.finfo(expected.dtype).tiny)
        to_come = expected.flip(-1).cumsum(-1).flip(-1)
        horizon = self.limits.horizon
        desired = (expected / to_come)[:, None, None].expand(-1, *OrderGrid(horizon).shape, -1)
        return follow(desired, orders.market, self.limits)
