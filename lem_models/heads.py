"""Allocation heads: from market context and the order's own state to child orders and completion probabilities."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lem_models.curves import equal_shares, volume_shares
from lem_models.execution import average_fill_price, finish, gap_to_benchmark, relative_price
from lem_models.fills import OpenOrder, capacity, execute, feasible_bounds, fill, whole_lots
from lem_models.layers.gating import GroupedLinear
from lem_models.orders import LOT, Limits, MarketPath, OrderGrid, OrderSize
from lem_models.priors import PRIORS

N_STATE = 8
_GAP_LIMIT = 8.0  # gaps beyond this many σ decide the same
_RAMP_SLOPE = 10.0  # by how much the gradient of the ramp is raised: stopping's would drown it
_RAMP, _RAMP_WITHIN = 0.2, 0.02  # widths of the gradient's ramp above and below the cap, as parts of it
_NEARLY = 0.1  # part of the cap by which an order may miss what it has to have executed to finish next, and is given it


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


@dataclass
class View:
    """What the heads see of the market before each bar.

    Attributes:
        market: The path; of bar t the heads use what is known before it.
        context: The network's context as the hidden layer adds it; (B, H, groups, width).
        gap: :func:`~lem_models.execution.gap_to_benchmark`; (B, S, 1, H).
        share: :func:`base_shares`; (B, S, 1, H).
        course: Fraction that the base curve has executed by the end of each bar; (B, S, 1, H).
    """

    market: MarketPath
    context: Tensor
    gap: Tensor
    share: Tensor
    course: Tensor

    def of(self, places: Tensor) -> "View":
        """The views at some places of the batch, each as often as it is named; (B,) of places."""
        market = MarketPath(**{name: values[places] for name, values in vars(self.market).items()})
        return View(market, *(each[places] for each in (self.context, self.gap, self.share, self.course)))


class AllocationHeads(nn.Module):
    """One small MLP per order of the grid, run bar by bar, all orders in fused products.

    Each bar's network sees the market context of the bar, the order's state in scale-free terms, and a learned
    code of (scenario, minimum duration, bar). Its answer shifts that of the prior, in logits: how much to have executed
    by the end of the bar, and whether to finish in it. What is best to have executed is a hedge that does not depend on
    what was executed before, so an order off its course returns at once. Untrained heads all but follow the prior.

    Args:
        grid: The orders.
        limits: Their participation limits.
        context: Width of the market context, D.
        width: Width of the hidden layers.
        independent: True gives every (scenario, minimum duration) weights of its own, as the paper does; False
            shares them and tells orders apart by their code alone.
        prior: What untrained heads answer; see ``priors``.
        own_readout: Every order and bar reads the hidden layer with weights of its own beside those of its group.
    """

    def __init__(
        self,
        grid: OrderGrid,
        limits: Limits,
        context: int,
        width: int,
        independent: bool,
        prior: str,
        own_readout: bool = False,
    ) -> None:
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
        self.own_out = nn.Parameter(torch.zeros(scenarios, durations, grid.horizon, width, 2)) if own_readout else None
        self.prior = PRIORS[prior](grid, limits)
        nn.init.normal_(self.out.weight, std=0.01)
        nn.init.zeros_(self.out.bias)

    def forward(self, context: Tensor, market: MarketPath) -> Decisions:
        """Decide every bar of every order, whether it finishes left open: what training learns from.

        Args:
            context: Row t knows nothing of bar t or later; (B, H, D).
            market: The path; its bars enter only through what precedes the bar being decided, and as fills.
        """
        view = self.view(context, market)
        taken, price = capacity(market), relative_price(market, self.grid)
        order = OpenOrder.untouched(context.new_empty(len(market), *self.grid.shape))
        path, probabilities = [], []
        for step in range(self.grid.horizon):
            child, probability = self.decide(step, order, view)
            child = fill(child, taken[..., step])
            path.append(child)
            probabilities.append(torch.where(taken[..., step] > 0, probability, 0.0))
            order = order.after(child, price[..., step])
        return Decisions(torch.stack(path, dim=-1), torch.stack(probabilities, dim=-1))

    def schedule(self, context: Tensor, market: MarketPath, size: OrderSize | None = None) -> Tensor:
        """Trade every order to its end, finishing where the probability exceeds one half; (B, S, M, H).

        An order that finishes asks for all that remains; what the bar does not take stays open and is decided on anew.
        Where every bar takes all that is asked for, this is :meth:`Decisions.schedule` to the last bit.

        Args:
            context: As in :meth:`forward`.
            market: As in :meth:`forward`.
            size: Of the orders, where the market's volume limits them.

        Raises:
            FloatingPointError: The network overflows on these orders.
        """
        view = self.view(context, market)

        def decide(step: int, order: OpenOrder) -> Tensor:
            child, probability = self.decide(step, order, view)
            if not (torch.isfinite(child).all() and torch.isfinite(probability).all()):
                raise FloatingPointError("the network overflows on these orders; check its weights and its inputs")
            return torch.where(probability > 0.5, order.remaining, child)

        start = OpenOrder.untouched(context.new_empty(len(market), *self.grid.shape))
        return execute(decide, start, market, size)

    def view(self, context: Tensor, market: MarketPath) -> View:
        """What the decision of each bar sees of the market; entry t of every field knows only what precedes bar t."""
        groups = self.from_context.weight.shape[0]
        shares = base_shares(market, self.grid)
        return View(
            market=market,
            context=self.from_context(context[:, :, None].expand(-1, -1, groups, -1)),
            gap=gap_to_benchmark(market, self.grid),
            share=shares,
            course=1 - (1 - shares).cumprod(-1),
        )

    def decide(self, step: int, order: OpenOrder, view: View) -> tuple[Tensor, Tensor]:
        """One decision for every order, before its bar.

        Args:
            step: The bar, counted from 0.
            order: The orders before the bar.
            view: Of :meth:`view`.

        Returns:
            The child order of an order that does not choose to finish, and the chance of finishing; both (B, S, M).
        """
        remaining = order.remaining
        gap = view.gap[..., step]
        shift, finish_shift = self._answer(view.context[:, step], self._state(step, order, view), step)
        base, finish_logit = self.prior(step, remaining, gap, view.course[..., step])
        lo, hi = feasible_bounds(remaining, self.grid.horizon - step, self.limits)
        open_hi = torch.maximum(torch.minimum(hi, remaining - LOT), lo)  # an open order keeps at least a lot
        executed = 1 - remaining
        target = modulate(base, shift, executed + lo, executed + open_hi)
        if step + 1 < self.grid.horizon:
            may_end = self.grid.minimum_duration.to(remaining) <= step + 2  # in the next bar
            target = get_ready(target, executed + open_hi, may_end, self.limits.cap_in_lots)
        ready = may_finish(remaining, hi, self.limits.cap_in_lots)
        return target - executed, torch.where(lo >= remaining, 1.0, torch.sigmoid(finish_logit + finish_shift) * ready)

    @torch.no_grad()
    def _state(self, step: int, order: OpenOrder, view: View) -> Tensor:
        """The order's state before a bar, free of scale; (B, S, M, N_STATE).

        It is observed, not differentiated: at an optimal policy the value does not change with how later decisions
        respond to the state (envelope theorem), and gradients through twelve divisions by small fills explode.
        """
        remaining, market, horizon = order.remaining, view.market, self.grid.horizon
        gap, share = view.gap[..., step], view.share[..., step]
        own_price = average_fill_price(1 - remaining[..., None], order.sums[..., None], market, self.grid)[..., 0]
        unit = (market.volatility[:, step] * market.arrival)[:, None, None]
        side = self.grid.side[..., 0].to(remaining.device)
        own_gap = gap + side * (market.last_close[:, step, None, None] - own_price) / unit
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

    def _answer(self, from_context: Tensor, state: Tensor, step: int) -> tuple[Tensor, Tensor]:
        batch, *grid = state.shape[:-1]
        groups = self.from_state.weight.shape[0]
        rows = state.reshape(batch, -1, groups, N_STATE)
        code = self.order_code[:, :, step].reshape(1, *rows.shape[1:3], -1)
        x = F.silu(self.from_state(rows) + from_context[:, None] + code)
        x = F.silu(self.hidden(x))
        answer = self.out(x).reshape(batch, *grid, 2)
        if self.own_out is not None:
            answer = answer + torch.einsum("bsmd,smdk->bsmk", x.reshape(batch, *grid, -1), self.own_out[:, :, step])
        shift, finish_shift = answer.unbind(-1)
        return shift, finish_shift


def base_shares(market: MarketPath, grid: OrderGrid) -> Tensor:
    """The fraction of the remaining order that the base curve trades in each bar; (B, S, 1, H).

    Equal slices against TWAP; against VWAP the bar's part of the expected volume still to come.
    """
    by_volume = volume_shares(market)[:, None, None]
    return torch.where(grid.is_vwap.to(by_volume.device), by_volume, equal_shares(market))


def modulate(base: Tensor, shift: Tensor, lo: Tensor, hi: Tensor) -> Tensor:
    """Shift an executed fraction, in logits; the result stays within its feasible interval.

    Args:
        base: Logit of the fraction of the parent order to have executed by the end of the bar.
        shift: How far to trade ahead of it (positive) or behind it, in logits.
        lo: Least feasible fraction.
        hi: Greatest feasible fraction.

    Returns:
        The fraction to have executed, in whole lots within ``[lo, hi]`` (model specification, section 4).
    """
    return whole_lots(torch.sigmoid(base + shift), lo, hi)


def get_ready(target: Tensor, hi: Tensor, may_end: Tensor, cap: float) -> Tensor:
    """Of an order that all but fits into the next bar, make one that fits; the gradient passes through unchanged.

    It is best to keep as much as fits and no more, and a network that aims at the edge of a cliff would fall off it
    every other time.

    Args:
        target: Fraction to have executed by the end of the bar.
        hi: Greatest feasible fraction.
        may_end: Whether the order may finish in the next bar; broadcasts to ``target``.
        cap: In lots.
    """
    enough = 1 - cap
    nearly = may_end & (target < enough) & (target >= enough - _NEARLY * cap) & (enough <= hi)
    return torch.where(nearly, enough + (target - target.detach()), target)


def may_finish(remaining: Tensor, hi: Tensor, cap: float) -> Tensor:
    """One where all that remains fits into the bar, else zero; its gradient is that of a ramp around the cap.

    The step itself has no gradient, so nothing would teach a schedule to trade ahead until the rest fits. The ramp is
    steep below the cap: what fits already gains nothing by trading further ahead, and pays for it with dispersion.
    """
    fits = (remaining <= hi).to(remaining.dtype)
    if cap >= 1:
        return fits
    width = torch.where(remaining > cap, _RAMP, _RAMP_WITHIN)
    ramp = 2 * width / _RAMP * torch.sigmoid((cap - remaining) / (cap * width))
    return fits + _RAMP_SLOPE * (ramp - ramp.detach())
