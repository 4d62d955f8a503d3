"""The best that hindsight could have done: a bound, never a strategy."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lem_models.execution import relative_price, settle
from lem_models.fills import capacity
from lem_models.orders import LOT, Limits, OrderBatch, OrderGrid


@dataclass(frozen=True)
class Oracle:
    """Knows every price and volume to come. It breaks the first rule of this package on purpose.

    Of all completion bars the best: until then it trades the floor in every bar, all it can in the bars that turn out
    cheapest (dearest, for a seller), and at least a lot in the last. No schedule under the same limits scores better
    against the realised window, but for the price of that lot.
    """

    limits: Limits
    name: str = "oracle (sees the future)"

    @torch.no_grad()
    def schedule(self, orders: OrderBatch) -> Tensor:
        """Fractions of the parent order per bar; (B, S, M, H)."""
        market, grid = orders.market, OrderGrid(self.limits.horizon)
        # A notional adds up inverse prices, which are dear where prices are cheap.
        sign = grid.side * torch.where(grid.is_notional, -1.0, 1.0)
        cost = (sign * relative_price(market, grid))[:, :, 0]  # (B, S, H)
        room = capacity(market, orders.size)[:, :, 0].clamp_max(self.limits.cap_in_lots).double().expand(cost.shape)
        best = self._cheapest(cost, room, self.limits.horizon).expand(-1, -1, *grid.shape[1:], -1)
        least = settle(best, market, grid).slippage_bps
        for last in range(1, self.limits.horizon):
            schedule = self._cheapest(cost, room, last).expand(*best.shape)
            results = settle(schedule, market, grid)
            better = (results.slippage_bps < least) & (results.filled_fraction == 1)
            best = torch.where(better[..., None], schedule, best)
            least = torch.where(better, results.slippage_bps, least)
        return best

    def _cheapest(self, cost: Tensor, room: Tensor, last: int) -> Tensor:
        """The cheapest schedule that trades in no bar after ``last``; (B, S, 1, H). It may not fill the order."""
        bar = torch.arange(1, self.limits.horizon + 1, device=cost.device)
        room = room.masked_fill(bar > last, 0.0)
        # The last child order is what remains, however little.
        base = torch.where(bar == last, LOT, self.limits.floor_in_lots).minimum(room)
        base = base.minimum((1 - (base.cumsum(-1) - base)).clamp_min(0))
        by_cost = cost.masked_fill(room <= 0, torch.inf).argsort(-1)
        spare = (room - base).gather(-1, by_cost)
        extra = (1 - base.sum(-1, keepdim=True) - (spare.cumsum(-1) - spare)).clamp_min(0).minimum(spare)
        return (base + torch.zeros_like(base).scatter(-1, by_cost, extra)).to(cost.dtype)[:, :, None]
