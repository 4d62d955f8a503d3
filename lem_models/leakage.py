"""Whether a strategy knows what it cannot know: two experiments that any strategy has to pass on any orders."""

from dataclasses import replace

import torch
from torch import Tensor

from lem_models.baselines import Strategy
from lem_models.orders import MarketPath, OrderBatch, OrderGrid
from lem_models.simulation import average_within, martingale


def moved_by_the_future(strategy: Strategy, orders: OrderBatch, generator: torch.Generator) -> list[int]:
    """Bars whose child orders move when that bar and all later ones turn out otherwise.

    Args:
        strategy: What is asked.
        orders: Left as they are.
        generator: Of the other outcomes.

    Returns:
        Bars counted from 1; none where every decision is causal.
    """
    schedule = strategy.schedule(orders)
    return [
        step + 1
        for step in range(orders.market.horizon)
        if not torch.equal(
            schedule[..., : step + 1], strategy.schedule(overwritten(orders, step, generator))[..., : step + 1]
        )
    ]


def overwritten(orders: OrderBatch, step: int, generator: torch.Generator) -> OrderBatch:
    """The same orders, with another outcome for bar ``step``, counted from 0, and all later ones.

    What is known before the bar is kept: its row of features, its volatility, and the volume that is expected.
    """
    market, horizon = orders.market, orders.market.horizon
    bar = torch.arange(horizon, device=market.price.device)

    def other(values: Tensor, first: int) -> Tensor:
        factor = torch.exp(0.5 * torch.randn(values.shape, generator=generator)).to(values)
        return torch.where(bar >= first, values * factor, values)

    row = torch.arange(orders.features.shape[1], device=orders.features.device)
    noise = torch.randn(orders.features.shape, generator=generator).to(orders.features)
    known = (row <= orders.features.shape[1] - horizon + step)[:, None]
    return replace(
        orders,
        features=torch.where(known, orders.features, noise),
        market=replace(
            market,
            price=other(market.price, step),
            close=other(market.close, step),
            volume=other(market.volume, step),
            volatility=other(market.volatility, step + 1),
        ),
    )


def on_driftless_walks(orders: OrderBatch, generator: torch.Generator) -> OrderBatch:
    """The same features, volumes and volatilities, on prices that are martingales and know nothing of them."""
    market = orders.market
    move = torch.randn(market.price.shape, generator=generator)
    volatility = market.volatility.cpu()
    opened, close = martingale(move, volatility)
    price = opened + average_within(move, volatility, generator)
    arrival = market.arrival[:, None]
    walk = replace(market, price=arrival * price.exp().to(arrival), close=arrival * close.exp().to(arrival))
    return replace(orders, market=walk)


def foresight(schedule: Tensor, market: MarketPath, grid: OrderGrid) -> Tensor:
    """How much better than their bar's start child orders fill, in σ of one bar; (B, S, M).

    ``−side · Σ a_t (p_t / last close_t − 1) / σ_t``: its mean is zero for whoever does not know the bar it trades in,
    wherever prices are martingales.
    """
    surprise = (market.price / market.last_close - 1) / market.volatility
    side = grid.side.to(schedule.device)
    return -(side * schedule * surprise[:, None, None]).sum(dim=-1)
