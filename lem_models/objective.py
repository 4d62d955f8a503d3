"""What training minimises."""

import torch
from torch import Tensor
from torch.nn import functional as F

from lem_models.execution import expected_slippage
from lem_models.heads import Decisions
from lem_models.orders import MarketPath, OrderGrid

_LEAST_DISPERSION = 0.02  # σ; an order that can be hedged perfectly does not outweigh all others


def mean_dispersion(decisions: Decisions, market: MarketPath, grid: OrderGrid, risk_aversion: float) -> Tensor:
    """Expected slippage plus ``risk_aversion`` times expected squared slippage, in σ of one bar.

    The expectation over the completion bar is exact. This is what validation measures, on hard decisions.

    Returns:
        The mean over all orders; a scalar.
    """
    mean, second_moment = _in_sigmas(decisions.path, decisions, market, grid)
    return (mean + risk_aversion * second_moment).mean()


def stop_and_hedge(decisions: Decisions, market: MarketPath, grid: OrderGrid, risk_aversion: float) -> Tensor:
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
        risk_aversion: Weight of squared slippage, per unit of that root mean square.

    Returns:
        The mean over all orders; a scalar without unit.
    """
    mean, _ = _in_sigmas(decisions.path.detach(), decisions, market, grid)
    _, second_moment = _in_sigmas(decisions.path, decisions, market, grid)
    square = second_moment.detach().mean(0) + _LEAST_DISPERSION**2  # (S, M)
    return (mean / square.sqrt() + risk_aversion * second_moment / square).mean()


def paper_objective(decisions: Decisions, market: MarketPath, grid: OrderGrid, risk_aversion: float = 0.0) -> Tensor:
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


def _in_sigmas(path: Tensor, decisions: Decisions, market: MarketPath, grid: OrderGrid) -> tuple[Tensor, Tensor]:
    """Expected and expected squared slippage in σ of the order's first bar, both (B, S, M)."""
    mean, second_moment = expected_slippage(path, decisions.finish_probability, market, grid)
    sigma_bps = (market.volatility[:, 0] * 1e4)[:, None, None]
    return mean / sigma_bps, second_moment / sigma_bps.square()
