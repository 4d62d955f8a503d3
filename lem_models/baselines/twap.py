"""Equal slices over the whole horizon."""

from dataclasses import dataclass

from torch import Tensor

from lem_models.curves import equal_shares
from lem_models.fills import follow
from lem_models.orders import Limits, OrderBatch, OrderGrid


@dataclass(frozen=True)
class Twap:
    """Trades the same fraction in every bar, whatever the market does."""

    limits: Limits
    name: str = "TWAP"

    def schedule(self, orders: OrderBatch) -> Tensor:
        """Fractions of the parent order per bar; (B, S, M, H)."""
        shares = equal_shares(orders.market)
        grid = OrderGrid(self.limits.horizon)
        desired = shares.expand(len(orders), *grid.shape, -1)
        return follow(desired, orders.market, self.limits, orders.size)
