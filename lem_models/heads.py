"""Allocation heads: from market context and the order's own state to child orders and completion probabilities."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lem_models.curves import equal_shares, volume_shares
from lem_models.execution import (
    RunningMarket,
    average_fill_price,
    feasible_bounds,
    finish,
    relative_price,
    whole_lots,
)
from lem_models.layers.gating import GroupedLinear
from lem_models.orders import LOT, Limits, MarketPath, OrderGrid

N_STATE = 8
_GAP_LIMIT = 8.0  # gaps beyond this many σ decide the same
_FINISH_BIAS = -3.0  # an untrained head rarely finishes early, so that every bar is reached in training
# Finishing before the minimum duration gives up the option and leaves a benchmark that still moves: pure risk.
_FINISH_BIAS_BEFORE_MINIMUM = -20.0
_SPARE = 0.1  # part of the cap by which an untrained head trades further ahead than it has to


@dataclass
class Decisions:
    """What the heads decide in every bar; all (B, S, M, H).

    Attributes:
        path: Child orders of an order that never chooses to finish; the last bar takes what remains.
        finish_probability: Chance of trading all that remains, given the order is still open.
    """

    path: Tensor
    finish_probability: Tensor

    def schedule(self) -> Tensor:
        """The hard schedule: finish in the first bar whose completion probability exceeds one half."""
        return finish(self.path, self.finish_probability > 0.5)


class AllocationHeads(nn.Module):
    """One small MLP per order of the grid, run bar by bar, all orders in fused products.

    Each bar's network sees the market context of the bar, the order's state in scale-free terms, and a learned
    code of (scenario, minimum duration, bar). Its answer moves the executed fraction away from a base curve: equal
    slices for TWAP orders, the seasonal volume curve for VWAP orders. What is best to have executed by the end of a
    bar is a hedge that does not depend on what was executed before, so an order off its curve returns at once.

    Args:
        grid: The orders.
        limits: Their participation limits.
        context: Width of the market context, D.
        width: Width of the hidden layers.
        independent: True gives every (scenario, minimum duration) weights of its own, as the paper does; False
            shares them and tells orders apart by their code alone.
    """

    def __init__(self, grid: OrderGrid, limits: Limits, context: int, width: int, independent: bool) -> None:
        super().__init__()
        self.grid = grid
        self.limits = limits
        scenarios, durations = grid.shape
        groups = scenarios * durations if independent else 1
        self.from_context = GroupedLinear(groups, context, width)
        self.from_state = GroupedLinear(groups, N_STATE, width)
        self.hidden = GroupedLinear(groups, width, width)
        self.out = GroupedLinear(groups, width, 2)
        self.order_code = nn.Parameter(torch.randn(scenarios, durations, grid.horizon, width) * 0.1)
        self.prior = nn.Parameter(prior_answers(grid, limits))
        nn.init.normal_(self.out.weight, std=0.01)
        with torch.no_grad():
            self.out.bias[:, 1] = _FINISH_BIAS

    def forward(self, context: Tensor, market: MarketPath) -> Decisions:
        """Decide every bar of every order.

        Args:
            context: Row t knows nothing of bar t or later; (B, H, D).
            market: The path; its bars enter only through what precedes the bar being decided.
        """
        grid, horizon = self.grid, self.grid.horizon
        shape = (len(market), *grid.shape)
        benchmark = RunningMarket.of(market).before(grid, market)  # (B, S, 1, H)
        unit_price = relative_price(market, grid)
        traded = (market.volume > 0)[:, None, None]
        shares = base_shares(market, grid)
        base = 1 - (1 - shares).cumprod(-1)
        from_context = self.from_context(context[:, :, None].expand(-1, -1, self.from_context.weight.shape[0], -1))

        remaining = context.new_ones(shape)
        sums = context.new_zeros(shape)
        path, probabilities = [], []
        for step in range(horizon):
            state = self._state(step, remaining, sums, benchmark[..., step], shares[..., step], market)
            desired, finish_logit = self._decide(from_context[:, step], state, step)
            lo, hi = feasible_bounds(remaining, horizon - step, self.limits)
            open_hi = torch.maximum(torch.minimum(hi, remaining - LOT), lo)  # an open order keeps at least a lot
            executed = 1 - remaining
            child = modulate(base[..., step], desired, executed + lo, executed + open_hi) - executed
            ready = may_finish(remaining, hi, self.limits.cap_in_lots)
            probability = torch.where(lo >= remaining, 1.0, torch.sigmoid(finish_logit) * ready)
            child = torch.where(traded[..., step], child, 0.0)
            path.append(child)
            probabilities.append(torch.where(traded[..., step], probability, 0.0))
            sums = sums + child * unit_price[..., step]
            remaining = remaining - child
        return Decisions(torch.stack(path, dim=-1), torch.stack(probabilities, dim=-1))

    @torch.no_grad()
    def _state(
        self, step: int, remaining: Tensor, sums: Tensor, benchmark: Tensor, share: Tensor, market: MarketPath
    ) -> Tensor:
        """The order's state before a bar, free of scale; (B, S, M, N_STATE).

        It is observed, not differentiated: at an optimal policy the value does not change with how later decisions
        respond to the state (envelope theorem), and gradients through twelve divisions by small fills explode.
        """
        own_price = average_fill_price(1 - remaining[..., None], sums[..., None], market, self.grid)[..., 0]
        horizon = self.grid.horizon
        unit = (market.volatility[:, step] * market.arrival)[:, None, None]
        close = market.last_close[:, step, None, None]
        side = self.grid.side[..., 0].to(remaining.device)
        gap = side * (benchmark - close) / unit
        own_gap = side * (benchmark - own_price) / unit
        wait = (self.grid.minimum_duration.to(remaining) - 1 - step).clamp_min(0) / horizon
        columns = [
            remaining,
            gap.clamp(-_GAP_LIMIT, _GAP_LIMIT),
            own_gap.clamp(-_GAP_LIMIT, _GAP_LIMIT),
            (remaining * gap + (1 - remaining) * own_gap).clamp(-_GAP_LIMIT, _GAP_LIMIT),  # gain of finishing now
            share,
            wait,
            torch.full_like(remaining, (horizon - step) / horizon),
            (remaining <= self.limits.cap_in_lots).to(remaining.dtype),
        ]
        return torch.stack([c.expand_as(remaining) for c in columns], dim=-1)

    def _decide(self, from_context: Tensor, state: Tensor, step: int) -> tuple[Tensor, Tensor]:
        batch, *grid = state.shape[:-1]
        groups = self.from_state.weight.shape[0]
        rows = state.reshape(batch, -1, groups, N_STATE)
        code = self.order_code[:, :, step].reshape(1, *rows.shape[1:3], -1)
        x = F.silu(self.from_state(rows) + from_context[:, None] + code)
        x = F.silu(self.hidden(x))
        desired, finish_logit = (self.out(x).reshape(batch, *grid, 2) + self.prior[:, step]).unbind(-1)
        return desired, finish_logit


def base_shares(market: MarketPath, grid: OrderGrid) -> Tensor:
    """The fraction of the remaining order that the base curve trades in each bar; (B, S, 1, H).

    Equal slices against TWAP; against VWAP the bar's part of the expected volume still to come.
    """
    by_volume = volume_shares(market)[:, None, None]
    return torch.where(grid.is_vwap.to(by_volume.device), by_volume, equal_shares(market))


def modulate(base: Tensor, logit_shift: Tensor, lo: Tensor, hi: Tensor) -> Tensor:
    """Move an executed fraction away from the base curve, within its feasible interval; a shift of zero leaves it.

    Args:
        base: Fraction of the parent order that the base curve has executed by the end of the bar.
        logit_shift: How far to trade ahead of it (positive) or behind it, in logits; may be infinite.
        lo: Least feasible fraction.
        hi: Greatest feasible fraction.

    Returns:
        The fraction to have executed, in whole lots within ``[lo, hi]`` (model specification, section 4).
    """
    return whole_lots(torch.sigmoid(torch.logit(base.clamp(LOT, 1 - LOT)) + logit_shift), lo, hi)


def may_finish(remaining: Tensor, hi: Tensor, cap: float) -> Tensor:
    """One where all that remains fits into the bar, else zero; its gradient is that of a ramp around the cap.

    The step itself has no gradient, so nothing would teach a schedule to trade ahead until the rest fits.
    """
    fits = (remaining <= hi).to(remaining.dtype)
    if cap >= 1:
        return fits
    ramp = torch.sigmoid((cap - remaining) / (cap * _SPARE))
    return fits + (ramp - ramp.detach())


def prior_answers(grid: OrderGrid, limits: Limits) -> Tensor:
    """What untrained heads answer: a shift of the base curve and a finish logit; (M, H, 2).

    Without a cap the curve is left alone. Under a cap c nothing can finish before bar 1 / c, and an order may finish
    in any bar from ``max(m, 1 / c)`` on only if it has traded ahead until c remains.
    """
    bar = torch.arange(1, grid.horizon + 1)
    minimum = grid.minimum_duration[:, None]
    first_exit = minimum.clamp_min(math.ceil(1 / limits.cap - LOT))
    even = (bar / grid.horizon).expand(grid.horizon, -1)
    ahead = (bar / (first_exit - 1).clamp_min(1)).clamp_max(1) * (1 - limits.cap * (1 - _SPARE))
    shift = (torch.maximum(even, ahead).logit(LOT) - even.logit(LOT)) * (limits.cap < 1)
    finish_logit = torch.where(bar < minimum, _FINISH_BIAS_BEFORE_MINIMUM - _FINISH_BIAS, 0.0)
    return torch.stack([shift, finish_logit], dim=-1)
