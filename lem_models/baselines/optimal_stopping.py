"""The optimum without forecasts: finishes when that is best on a driftless walk, with σ from past bars."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lem_models.execution import gap_to_benchmark
from lem_models.fills import OpenOrder, execute, feasible_bounds, whole_lots
from lem_models.orders import LOT, Limits, OrderBatch, OrderGrid
from lem_models.stopping.gaps import BAR_AVERAGES, BarMoves
from lem_models.stopping.plan import LEAST_RISK_AVERSION, plan_for


@dataclass(frozen=True)
class OptimalStopping:
    """Finishes once the running benchmark is far enough on the good side of the last close, and hedges until then.

    It knows σ, the running benchmark and the last close, and nothing of where price or volume may go. All eight
    scenarios follow the same plan, that of a fixed quantity against TWAP: a notional's convexity is of second order
    in σ, and tilting the plan towards the seasonal volume curve against VWAP moved the dispersion on real bars by less
    than one percent.

    Attributes:
        limits: Horizon, floor and cap.
        moves: What a bar fills at: averages on real bars, points on ``simulation.random_walks``.
        risk_aversion: Weight of the variance of slippage, per σ. At the default the mean is within a thousandth of the
            optimum under a cap; more of it buys less dispersion with less mean.
    """

    limits: Limits
    moves: BarMoves = BAR_AVERAGES
    risk_aversion: float = LEAST_RISK_AVERSION
    name: str = "no-forecast stopping"

    @torch.no_grad()
    def schedule(self, orders: OrderBatch) -> Tensor:
        """Fractions of the parent order per bar; (B, S, M, H)."""
        market, limits = orders.market, self.limits
        grid, plan = OrderGrid(limits.horizon), plan_for(limits, self.moves, self.risk_aversion)
        gap = gap_to_benchmark(market, grid)

        def decide(step: int, order: OpenOrder) -> Tensor:
            remaining = order.remaining
            lo, hi = feasible_bounds(remaining, limits.horizon - step, limits)
            kept, boundary = plan.look_up(step, remaining, gap[..., step])
            finishes = (gap[..., step] > boundary) & (remaining <= hi)
            open_hi = torch.maximum(torch.minimum(hi, remaining - LOT), lo)  # an open order keeps at least a lot
            # A lot more than planned, lest rounding leave more than one bar's cap to finish with.
            return torch.where(finishes, remaining, whole_lots(remaining - kept + LOT, lo, open_hi))

        start = OpenOrder.untouched(torch.empty(len(market), *grid.shape))
        return execute(decide, start, market, orders.size)
