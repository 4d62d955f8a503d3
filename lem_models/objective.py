"""What training minimises."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from lem_models.execution import expected_slippage, slippage_on_finish
from lem_models.heads import Decisions
from lem_models.orders import MarketPath, OrderGrid

Gather = Callable[[Tensor], Tensor]
"""From the orders that this process holds of a batch to those of all processes; the first axis counts orders."""

_LEAST_DISPERSION = 0.02  # σ; an order that can be hedged perfectly does not outweigh all others


def only_own(orders: Tensor) -> Tensor:
    """A process by itself holds the whole batch."""
    return orders


def mean_dispersion(
    decisions: Decisions,
    market: MarketPath,
    grid: OrderGrid,
    risk_aversion: float,
    cvar_level: float | None = None,
    gather: Gather = only_own,
) -> Tensor:
    """Expected slippage plus ``risk_aversion`` times its :func:`risk`, in σ of one bar.

    The expectation over the completion bar is exact. This is what validation measures, on hard decisions.

    Args:
        decisions: Of the model.
        market: The path that the orders trade on.
        grid: Meaning of axes S and M.
        risk_aversion: Weight of the risk.
        cvar_level: As in :func:`risk`.
        gather: Where several processes hold a batch together.

    Returns:
        The mean over all orders; a scalar.
    """
    weight, slippage = slippage_on_finish(decisions.path, decisions.finish_probability, market, grid)
    sigma = _sigma_bps(market)
    mean = gather((weight * slippage).sum(-1) / sigma)
    weight, cost = gather(weight), gather(slippage / sigma[..., None])
    return mean.mean() + risk_aversion * risk(weight, cost, cvar_level).mean()


def stop_and_hedge(
    decisions: Decisions,
    market: MarketPath,
    grid: OrderGrid,
    risk_aversion: float,
    cvar_level: float | None = None,
    is_martingale: bool = True,
    schedule_gain: float = 1.0,
    gather: Gather = only_own,
) -> Tensor:
    """The mean teaches when to stop, the dispersion how to trade until then.

    Where prices are martingales the mean depends on stopping alone and the schedule sets the dispersion (model
    specification, section 7): the gradient of the mean with respect to child orders is zero in expectation and, in a
    batch, far larger than that of the dispersion. It is left out; what a schedule earns by letting an order finish in
    time it still hears of, through the completion probability.

    Each scenario and minimum duration counts in units of its own root mean square slippage in the batch: that of a
    minimum duration of 11 bars is a fifth of that of 6, and would drown.

    Args:
        decisions: Of the model.
        market: The path that the orders trade on.
        grid: Meaning of axes S and M.
        risk_aversion: Weight of the risk, per unit of that root mean square or, of squared slippage, of its square.
        cvar_level: As in :func:`risk`.
        is_martingale: False where a model sees the bar it trades in: a schedule then earns, and hears of the mean, too.
            Taught by squared slippage alone it would give away what stopping gains.
        schedule_gain: By how much the gradient of risk is raised where it reaches the schedule. In layers that stopping
            shares it drowns: on walks drawn without end 10 hedges closer, on real bars it is learnt by heart.

        gather: Where several processes hold a batch together. Units and quantiles are those of the whole batch, so the
            loss is, too.

    Returns:
        The mean over all orders; a scalar without unit.
    """
    path = decisions.path.detach() if is_martingale else decisions.path
    mean, _ = expected_slippage(path, decisions.finish_probability, market, grid)
    raised = path + schedule_gain * (decisions.path - path) if is_martingale else path
    weight, slippage = slippage_on_finish(raised, decisions.finish_probability, market, grid)
    sigma = _sigma_bps(market)
    mean, weight, cost = gather(mean / sigma), gather(weight), gather(slippage / sigma[..., None])
    square = risk(weight, cost).detach() + _LEAST_DISPERSION**2  # (S, M)
    unit = square if cvar_level is None else square.sqrt()
    return (mean / square.sqrt()).mean() + risk_aversion * (risk(weight, cost, cvar_level) / unit).mean()


def risk(weight: Tensor, cost: Tensor, cvar_level: float | None = None) -> Tensor:
    """How far costs disperse over the orders of a batch and their completion bars; (S, M).

    Args:
        weight: Chance of each completion bar; (B, S, M, H).
        cost: What the order costs if it completes there; (B, S, M, H).
        cvar_level: None for the mean square; else for the mean of the worst ``1 − cvar_level`` of the orders.
    """
    if cvar_level is None:
        return (weight * cost.square()).sum(-1).mean(0)
    return conditional_value_at_risk(weight, cost, cvar_level)


def conditional_value_at_risk(weight: Tensor, cost: Tensor, level: float) -> Tensor:
    """Mean of the worst ``1 − level`` of the costs in a batch, as a minimum over q (Rockafellar and Uryasev, 2000).

    ``min_q q + E[(cost − q)₊] / (1 − level)``, where the quantile is the best q. Which of the costs that is has no
    gradient and needs none (envelope theorem); the one that it is lies in the tail with the rest of its mass.

    Args:
        weight: Probability of each cost within its order, adding up to one over the last axis; (B, S, M, H).
        cost: Positive where an order did worse; (B, S, M, H).
        level: Part of the probability that is not among the worst.

    Returns:
        One value per scenario and minimum duration; (S, M).
    """
    worst = (1 - level) * len(cost)
    costs, masses = (each.movedim(0, -1).flatten(-2) for each in (cost, weight))  # (S, M, H · B)
    order = costs.detach().argsort(dim=-1, descending=True)
    mass = masses.detach().gather(-1, order).cumsum(-1)
    place = (mass < worst).sum(-1, keepdim=True).clamp_max(costs.shape[-1] - 1)
    quantile = costs.gather(-1, order.gather(-1, place))  # (S, M, 1)
    beyond = masses * (costs - quantile).clamp_min(0)
    return (quantile + beyond.sum(-1, keepdim=True) / worst)[..., 0]


def paper_objective(
    decisions: Decisions,
    market: MarketPath,
    grid: OrderGrid,
    risk_aversion: float = 0.0,
    cvar_level: float | None = None,
) -> Tensor:
    """The objective of Genet & Inzirillo (arXiv 2509.25211), a baseline: softplus of slippage in percent.

    Flexible orders: softplus of a buy's and a sell's slippage together. Fixed ones (minimum duration = horizon):
    softplus of its absolute value. It knows no aversion to risk.

    Returns:
        The mean over all orders; a scalar.
    """
    mean, _ = expected_slippage(decisions.path, decisions.finish_probability, market, grid)
    percent = mean / 100
    buys, sells = percent.chunk(2, dim=1)
    flexible = F.softplus((buys + sells)[..., :-1])
    fixed = F.softplus(percent[..., -1:].abs())
    return torch.cat([flexible.flatten(), fixed.flatten()]).mean()


def _sigma_bps(market: MarketPath) -> Tensor:
    """σ of the order's first bar, known before it; (B, 1, 1)."""
    return (market.volatility[:, 0] * 1e4)[:, None, None]
