"""What training minimises."""

from torch import Tensor

from lem_models.execution import expected_slippage
from lem_models.heads import Decisions
from lem_models.orders import MarketPath, OrderGrid


def mean_dispersion(decisions: Decisions, market: MarketPath, grid: OrderGrid, risk_aversion: float) -> Tensor:
    """Expected slippage plus ``risk_aversion`` times expected squared slippage, in σ of one bar.

    The expectation over the completion bar is exact. Under a martingale the mean depends on stopping alone and the
    schedule sets the dispersion (model specification, section 7); the quadratic term is what teaches the schedule.

    Returns:
        The mean over all orders; a scalar.
    """
    mean, second_moment = expected_slippage(decisions.path, decisions.finish_probability, market, grid)
    sigma_bps = (market.volatility[:, 0] * 1e4)[:, None, None]
    return (mean / sigma_bps + risk_aversion * second_moment / sigma_bps.square()).mean()
