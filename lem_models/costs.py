"""What trading itself costs, beside slippage: half-spread, fees, square-root impact (model specification, section 3).

None of it moves the prices that orders fill at or are measured against: it is charged afterwards, and shown by itself.
``docs/execution.md`` says what this takes for granted. Beside costs stands participation, how much of its bar's volume
a child order was.

Axes: B orders, S scenarios, M minimum durations, H bars of the horizon.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lem_models.execution import units_per_fraction
from lem_models.orders import MarketPath, OrderGrid, OrderSize


@dataclass(frozen=True)
class CostModel:
    """What a venue and its order book take.

    A child order of q units pays ``impact_coefficient · σ_day · (q / day volume) ^ impact_exponent``: the square-root
    law. An exponent of 0.489 ± 0.0015 was measured in arXiv 2411.13965.

    Attributes:
        bars_per_day: 24 for hourly bars of a market that never closes, 1 for daily bars.
        half_spread_bps: Half of the distance between bid and ask, paid by who takes liquidity.
        fee_bps: Fees and taxes on the traded notional.
        impact_coefficient: Y; zero for no impact.
        impact_exponent: 0.5 is the square root.

    Raises:
        ValueError: A number is negative or not finite, or the exponent not in (0, 1].
    """

    bars_per_day: float
    half_spread_bps: float = 0.0
    fee_bps: float = 0.0
    impact_coefficient: float = 1.0
    impact_exponent: float = 0.5

    def __post_init__(self) -> None:
        for name in ("half_spread_bps", "fee_bps", "impact_coefficient"):
            if not 0.0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; a cost is a finite number that is not negative")
        if not 0.0 < self.bars_per_day < math.inf:
            raise ValueError(f"bars_per_day is {self.bars_per_day}; a day has a positive number of bars")
        if not 0.0 < self.impact_exponent <= 1.0:
            raise ValueError(f"impact_exponent is {self.impact_exponent}; impact grows with size to a power in (0, 1]")


@dataclass
class OrderCosts:
    """What parent orders paid beside slippage, and how much of the market they were; (B, S, M), never negative.

    Costs are in bps of what was filled. The average fill price, and so slippage, is one of what was filled too: the two
    may be added. An order of which nothing was filled pays nothing.

    Attributes:
        half_spread_bps: Half of the distance between bid and ask.
        fee_bps: Fees and taxes.
        impact_bps: Square-root impact.
        largest_participation: The largest child order as a fraction of its bar's volume.
        mean_participation: The same of all child orders, averaged over those that were filled.
    """

    half_spread_bps: Tensor
    fee_bps: Tensor
    impact_bps: Tensor
    largest_participation: Tensor
    mean_participation: Tensor

    @property
    def total_bps(self) -> Tensor:
        """All costs."""
        return self.half_spread_bps + self.fee_bps + self.impact_bps


def order_costs(
    schedule: Tensor,
    market: MarketPath,
    size: OrderSize,
    model: CostModel,
    daily_volume: Tensor | None = None,
) -> OrderCosts:
    """Charge what was filled, and hold it against what the market traded.

    Args:
        schedule: Fractions of the parent order filled in each bar; (B, S, M, H).
        market: Volatility known before each bar, expected volume, and the volume that was traded.
        size: Units of the parent orders.
        model: What is charged.
        daily_volume: Units of a day, known before the order starts; (B,). Without it, what the expected volume of the
            horizon's bars comes to in a day.

    Returns:
        Costs of every order; differentiable with respect to the schedule.
    """
    if daily_volume is None:
        daily_volume = market.expected_daily_volume(model.bars_per_day)
    # Float64: where next to no volume is expected, ratios leave the range of float32.
    least = torch.finfo(torch.float32).tiny
    of_a_day = size.quantity.double() / daily_volume.double().clamp_min(least)
    units = units_per_fraction(market, OrderGrid(market.horizon))
    children = of_a_day[:, None, None, None] * units
    daily_volatility = market.volatility.double()[:, None, None] * math.sqrt(model.bars_per_day)
    whole_order = model.impact_coefficient * 1e4 * daily_volatility * children**model.impact_exponent
    filled = schedule.sum(dim=-1)
    # Fraction × (fraction × order) ^ exponent; as one power it has a gradient where nothing is filled.
    weighted = schedule.double() ** (1 + model.impact_exponent) * whole_order
    some = torch.where(filled > 0, filled, 1.0)
    charged = (filled > 0).to(schedule.dtype)
    rates = _participation(schedule, size.quantity.double()[:, None, None, None] * units, market)
    return OrderCosts(
        half_spread_bps=model.half_spread_bps * charged,
        fee_bps=model.fee_bps * charged,
        impact_bps=(weighted.sum(dim=-1) / some).to(schedule.dtype),
        largest_participation=rates.amax(dim=-1).to(schedule.dtype),
        mean_participation=(rates.sum(dim=-1) / (schedule > 0).sum(dim=-1).clamp_min(1)).to(schedule.dtype),
    )


def _participation(schedule: Tensor, whole_order: Tensor, market: MarketPath) -> Tensor:
    """Each child order as a fraction of its bar's volume; (B, S, M, H) float64, zero where nothing was filled."""
    limits = torch.finfo(torch.float32)
    volume = market.volume.double()[:, None, None].clamp_min(limits.tiny)
    return torch.where(schedule > 0, schedule * whole_order / volume, 0.0).clamp_max(limits.max)
