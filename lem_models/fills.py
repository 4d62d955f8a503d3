"""From what is wanted to what is filled, bar by bar: limits, lots, and what a bar can take (specification, section 4).

A bar fills the lesser of the child order decided before it and of its capacity, which is known only after it. What does
not fill stays open and is decided on anew before the next bar. ``docs/execution.md`` says what this takes for granted.

Axes: B orders, S scenarios, M minimum durations, H bars of the horizon.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from lem_models.execution import relative_price, units_per_fraction
from lem_models.orders import LOT, Limits, MarketPath, OrderGrid, OrderSize


def feasible_bounds(remaining: Tensor, bars_left: int, limits: Limits) -> tuple[Tensor, Tensor]:
    """Least and greatest child order that keep the parent order fillable under its limits.

    Args:
        remaining: Unexecuted fraction, a whole number of lots; any shape.
        bars_left: Bars left including this one.
        limits: Floor and cap.

    Returns:
        ``lo`` and ``hi``, whole numbers of lots with ``0 <= lo <= hi <= cap`` wherever the order is still fillable.
    """
    must = remaining - (bars_left - 1) * limits.cap_in_lots
    lo = torch.maximum(remaining.clamp_max(limits.floor_in_lots), must)
    hi = remaining.clamp_max(limits.cap_in_lots)
    return lo.clamp_max(hi), hi


def whole_lots(fraction: Tensor, lo: Tensor, hi: Tensor) -> Tensor:
    """Round down to whole lots within ``[lo, hi]``; the gradient passes through unchanged."""
    bounded = torch.minimum(torch.maximum(fraction, lo), hi)
    rounded = torch.maximum(torch.floor(bounded.detach() / LOT) * LOT, lo)
    return rounded + (bounded - bounded.detach())


def capacity(market: MarketPath, size: OrderSize | None = None) -> Tensor:
    """The greatest fraction of its parent order that each bar can take, in whole lots; (B, S or 1, 1, H).

    Zero in a bar without trades. Else one, or for orders of a size what their part of the bar's volume comes to:
    participation cap × volume over the units that the whole order comes to at the bar's price. It is a fact of the bar
    itself, so only fills may depend on it, never the decision of that bar.
    """
    traded = (market.volume > 0)[:, None, None]
    if size is None:
        return traded.to(market.price.dtype)
    room = size.participation_cap * market.volume.double()[:, None, None]
    wanted = size.quantity.double()[:, None, None, None] * units_per_fraction(market, OrderGrid(market.horizon))
    # Float64, so that lots rounded down are never more than the bar has room for.
    fraction = torch.where(room >= wanted, 1.0, room / wanted) * traded
    return (torch.floor(fraction / LOT) * LOT).to(market.price.dtype)


def fill(child: Tensor, capacity: Tensor) -> Tensor:
    """What a bar takes of a child order; no gradient flows to what it does not take."""
    return torch.where((child > capacity) | (capacity <= 0), capacity, child)


@dataclass
class OpenOrder:
    """What parent orders know of themselves before a bar; both broadcast to (B, S, M).

    Attributes:
        remaining: Unexecuted fraction, a whole number of lots.
        sums: Sum over the fills so far of fraction times :func:`~lem_models.execution.relative_price`.
    """

    remaining: Tensor
    sums: Tensor

    @classmethod
    def untouched(cls, like: Tensor) -> Self:
        """Orders of which nothing is filled, of the shape of ``like``."""
        return cls(torch.ones_like(like), torch.zeros_like(like))

    def after(self, filled: Tensor, relative_price: Tensor) -> "OpenOrder":
        """The orders once a bar has filled so much of them, each unit adding so much."""
        return OpenOrder(self.remaining - filled, self.sums + filled * relative_price)


Decide = Callable[[int, OpenOrder], Tensor]
"""The child orders of a bar, counted from 0, in whole lots and no more than remains."""


def execute(decide: Decide, start: OpenOrder, market: MarketPath, size: OrderSize | None = None) -> Tensor:
    """Decide, fill, go on with what remains: the loop that every strategy trades in.

    Args:
        decide: Knows nothing of its bar but that it begins.
        start: The orders before their first bar.
        market: What fills.
        size: Of the orders; without one, a bar with trades takes any child order.

    Returns:
        What was filled; (B, S, M, H), or less as far as ``start`` has less. It adds up to less than one where the
        market did not take the order within its horizon.
    """
    taken, price = capacity(market, size), relative_price(market, OrderGrid(market.horizon))
    order, schedule = start, []
    for step in range(market.horizon):
        filled = fill(decide(step, order), taken[..., step])
        order = order.after(filled, price[..., step])
        schedule.append(filled)
    return torch.stack(schedule, dim=-1)


def follow(desired: Tensor, market: MarketPath, limits: Limits, size: OrderSize | None = None) -> Tensor:
    """The feasible schedule nearest to a desired one, bar by bar.

    Args:
        desired: Fraction of the *remaining* order to trade in each bar; broadcasts to (B, S, M, H).
        market: What fills; what a bar does not take stays unexecuted.
        limits: Floor and cap.
        size: Of the orders, where the market's volume limits them.

    Returns:
        A schedule of the shape of ``desired``.
    """

    def decide(step: int, order: OpenOrder) -> Tensor:
        lo, hi = feasible_bounds(order.remaining, market.horizon - step, limits)
        return whole_lots(order.remaining * desired[..., step], lo, hi)

    return execute(decide, OpenOrder.untouched(desired[..., 0]), market, size)
