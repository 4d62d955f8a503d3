"""Schedule and market in, slippage out: the one definition of success (model specification, section 3).

Axes: B orders, S scenarios, M minimum durations, H bars of the horizon. Schedules are (B, S, M, H).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lem_models.orders import MarketPath, OrderGrid

ROUNDING = 1e-5  # a schedule of someone else's may miss one by so much and still count as filled


def slippage_bps(side: Tensor, fill: Tensor, benchmark: Tensor) -> Tensor:
    """Cost against a benchmark; positive means the order did worse.

    Example:
        >>> slippage_bps(torch.tensor(-1.0), torch.tensor(100.1), torch.tensor(100.0)).round()
        tensor(-10.)
    """
    return side * (fill / benchmark - 1) * 1e4


@dataclass
class RunningMarket:
    """Benchmarks over bars 1..t, for each t; all (B, H).

    A bar without trades has no price and counts in neither benchmark. Before the first traded bar both are
    the arrival price.
    """

    vwap: Tensor
    twap: Tensor

    @classmethod
    def of(cls, market: MarketPath) -> "RunningMarket":
        """Accumulate the benchmarks of a market path."""
        # Sums of volumes span many orders of magnitude, and a common unit would have to look ahead for the largest.
        traded = (market.volume > 0).double()
        # A bar without trades may carry any price, none included.
        price = torch.where(traded > 0, market.price, market.arrival[:, None]).double()
        dtype, arrival = market.price.dtype, market.arrival[:, None].double()
        return cls(
            vwap=_running_mean(price, market.volume.double(), arrival).to(dtype),
            twap=_running_mean(price, traded, arrival).to(dtype),
        )

    def benchmark(self, grid: OrderGrid) -> Tensor:
        """The running benchmark of each scenario; (B, S, 1, H)."""
        return torch.where(grid.is_vwap.to(self.vwap.device), self.vwap[:, None, None], self.twap[:, None, None])

    def before(self, grid: OrderGrid, market: MarketPath) -> Tensor:
        """The benchmark over the bars before t, the arrival price at t = 0; (B, S, 1, H)."""
        running = self.benchmark(grid)
        arrival = market.arrival[:, None, None, None].expand_as(running[..., :1])
        return torch.cat([arrival, running[..., :-1]], dim=-1)


def _running_mean(values: Tensor, weights: Tensor, empty: Tensor) -> Tensor:
    total = weights.cumsum(dim=1)
    return torch.where(total > 0, (values * weights).cumsum(dim=1) / torch.where(total > 0, total, 1.0), empty)


def gap_to_benchmark(market: MarketPath, grid: OrderGrid) -> Tensor:
    """How far the running benchmark is on the good side of the last close, before each bar, in σ; (B, S, 1, H)."""
    unit = (market.volatility * market.arrival[:, None])[:, None, None]
    gap = grid.side.to(unit.device) * (RunningMarket.of(market).before(grid, market) - market.last_close[:, None, None])
    return gap / unit.clamp_min(torch.finfo(unit.dtype).tiny)


@dataclass
class OrderResults:
    """What executed orders cost; every field (B, S, M).

    Attributes:
        slippage_bps: Against the benchmark over the realised window 1..τ; positive is a cost.
        fixed_window_slippage_bps: Against the benchmark over the whole horizon.
        arrival_slippage_bps: Against the last close before the order.
        completion_bar: τ = max(minimum duration, last bar with a fill), counted from 1; the horizon where the order
            could not be filled.
        filled_fraction: 1 unless the market did not trade when it had to.
    """

    slippage_bps: Tensor
    fixed_window_slippage_bps: Tensor
    arrival_slippage_bps: Tensor
    completion_bar: Tensor
    filled_fraction: Tensor


def settle(schedule: Tensor, market: MarketPath, grid: OrderGrid) -> OrderResults:
    """Fill each child order at its bar's price and measure the parent order.

    Args:
        schedule: Fractions of the parent order per bar; (B, S, M, H).
        market: The path that the orders traded on.
        grid: Meaning of axes S and M.

    Returns:
        The results of every order.
    """
    running = RunningMarket.of(market).benchmark(grid).expand(*schedule.shape)
    bar = torch.arange(1, grid.horizon + 1, device=schedule.device)
    last_fill = torch.where(schedule > 0, bar, 0).amax(dim=-1)
    filled = schedule.sum(dim=-1)
    completion = torch.maximum(last_fill, grid.minimum_duration.to(schedule.device))
    completion = torch.where(filled < 1 - ROUNDING, grid.horizon, completion)
    realised = running.gather(-1, completion[..., None] - 1)[..., 0]
    side = grid.side[..., 0].to(schedule.device)
    sums = (schedule * relative_price(market, grid)).sum(dim=-1, keepdim=True)
    fill = average_fill_price(filled[..., None], sums, market, grid)[..., 0]
    return OrderResults(
        slippage_bps=slippage_bps(side, fill, realised),
        fixed_window_slippage_bps=slippage_bps(side, fill, running[..., -1]),
        arrival_slippage_bps=slippage_bps(side, fill, market.arrival[:, None, None]),
        completion_bar=completion,
        filled_fraction=filled,
    )


def units_per_fraction(market: MarketPath, grid: OrderGrid) -> Tensor:
    """Units that one fraction of the parent order comes to in each bar, over those at arrival; (B, S, 1, H) float64.

    One where the quantity is fixed; ``arrival / p`` where the notional is. One in bars without trades.
    """
    traded = market.volume > 0
    at_price = torch.where(traded, market.arrival[:, None].double() / market.price, 1.0)[:, None, None]
    return torch.where(grid.is_notional.to(at_price.device), at_price, 1.0)


def relative_price(market: MarketPath, grid: OrderGrid) -> Tensor:
    """What one unit of schedule adds up in each bar; (B, S, 1, H).

    Fixed quantity averages prices, fixed notional averages inverse prices, both as returns on arrival: the
    arithmetic mean of ``p / arrival − 1`` or of ``arrival / p − 1``. Bars without trades add nothing.
    """
    traded = market.volume > 0
    ratio = torch.where(traded, market.price / market.arrival[:, None], 1.0)[:, None, None]
    return torch.where(grid.is_notional.to(ratio.device), 1 / ratio - 1, ratio - 1)


def average_fill_price(filled: Tensor, sums: Tensor, market: MarketPath, grid: OrderGrid) -> Tensor:
    """The average price of the fills so far, the arrival price where there are none; shape of ``sums``.

    Args:
        filled: Fraction filled.
        sums: Running sum of schedule times :func:`relative_price`.
        market: Gives the arrival price.
        grid: Tells quantity (P = Σ a p) from notional (P = 1 / Σ (a / p)).
    """
    mean = sums / torch.where(filled > 0, filled, 1.0)
    arrival = market.arrival[:, None, None, None]
    return arrival * torch.where(grid.is_notional.to(sums.device), 1 / (1 + mean), 1 + mean)


def slippage_on_finish(
    path: Tensor, finish_probability: Tensor, market: MarketPath, grid: OrderGrid
) -> tuple[Tensor, Tensor]:
    """The exact distribution of slippage over the random completion bar.

    An order that never chooses to finish follows ``path``; in each bar it finishes, trading all that remains, with
    the probability given. The completion bar is the only randomness, so its expectation is a finite sum.

    Args:
        path: Child orders as long as the order has not finished; the last bar takes what remains; (B, S, M, H).
        finish_probability: Chance of finishing in each bar, given it has not finished before; taken as one in the
            last bar; (B, S, M, H).
        market: The path that the orders trade on.
        grid: Meaning of axes S and M.

    Returns:
        The chance of finishing in each bar, which adds up to one, and slippage in bps if it does; both (B, S, M, H).
    """
    price = relative_price(market, grid)
    executed = path.cumsum(-1) - path
    closing = 1 - executed
    # What the last bar cannot take stays unfilled; the order ends there all the same.
    closing = torch.cat([closing[..., :-1], path[..., -1:]], dim=-1)
    sums = (path * price).cumsum(-1) + (closing - path) * price
    fill = average_fill_price(executed + closing, sums, market, grid)
    slippage = slippage_bps(grid.side.to(path.device), fill, benchmark_on_finish(market, grid))
    survival = torch.cumprod(1 - finish_probability, dim=-1)
    survival = torch.cat([torch.ones_like(survival[..., :1]), survival[..., :-1]], dim=-1)
    finish_probability = torch.cat([finish_probability[..., :-1], torch.ones_like(survival[..., :1])], dim=-1)
    return survival * finish_probability, slippage


def expected_slippage(
    path: Tensor, finish_probability: Tensor, market: MarketPath, grid: OrderGrid
) -> tuple[Tensor, Tensor]:
    """Exact mean and second moment of :func:`slippage_on_finish`, in bps and bps², both (B, S, M)."""
    weight, slippage = slippage_on_finish(path, finish_probability, market, grid)
    return (weight * slippage).sum(-1), (weight * slippage.square()).sum(-1)


def benchmark_on_finish(market: MarketPath, grid: OrderGrid) -> Tensor:
    """The realised-window benchmark of an order that finishes in bar t: over bars 1..max(t, m); (B, S, M, H)."""
    running = RunningMarket.of(market).benchmark(grid)
    bar = torch.arange(1, grid.horizon + 1)
    last = torch.maximum(bar[None, :], grid.minimum_duration[:, None]) - 1  # (M, H)
    return running[..., 0, :][..., last.to(running.device)]


def finish(path: Tensor, finishes: Tensor) -> Tensor:
    """The schedule of an order that follows ``path`` and trades all that remains where ``finishes`` is first true.

    Args:
        path: As in :func:`slippage_on_finish`; (B, S, M, H).
        finishes: Where a completing fill happens; (B, S, M, H).
    """
    finished = finishes.to(torch.int8).cumsum(-1) > 0
    before = torch.cat([torch.zeros_like(finished[..., :1]), finished[..., :-1]], dim=-1)
    remaining = 1 - (path.cumsum(-1) - path)
    return torch.where(before, 0.0, torch.where(finishes, remaining, path))
