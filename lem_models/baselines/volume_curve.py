"""Slices in proportion to the volume that the season of each bar lets expect."""

from dataclasses import dataclass

from torch import Tensor

from lem_models.curves import volume_shares
from lem_models.fills import follow
from lem_models.orders import Limits, OrderBatch, OrderGrid


@dataclass(frozen=True)
class VolumeCurve:
    """Trades the historical volume curve over the whole horizon; known in full before the order starts."""

    limits: Limits
    name: str = "volume curve"

    def schedule(self, orders: OrderBatch) -> Tensor:
        """Fractions of the parent order per bar; (B, S, M, H)."""
        shares = volume_shares(orders.market)[:, None, None]
        grid = OrderGrid(self.limits.horizon)
        desired = shares.expand(len(orders), *grid.shape, -1)
        return follow(desired, orders.market, self.limits, orders.size)
