"""A schedule fixed at arrival, linear in the features, fitted to the slippage itself."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from lem_models.execution import RunningMarket
from lem_models.fills import follow
from lem_models.orders import FEATURE_LIMIT, Limits, OrderBatch, OrderGrid

_RIDGE = 1e-3  # in logits squared, beside squared slippage over its own mean


@dataclass(frozen=True)
class StaticLinear:
    """The historical volume curve, bent by a linear map of what is known at arrival.

    Fitted on squared slippage against the VWAP of the whole horizon, without a detour over volume forecasts: the static
    model of Genet (arXiv 2502.13722) with a linear map for its network. It trades in every bar, whatever the minimum
    duration.

    Attributes:
        limits: Horizon, floor and cap.
        weight: (F, H).
        bias: (H,).
    """

    limits: Limits
    weight: Tensor
    bias: Tensor
    name: str = "static linear"

    @classmethod
    def fit(cls, limits: Limits, orders: OrderBatch, iterations: int = 60) -> Self:
        """Minimise squared slippage on training orders.

        Args:
            limits: Horizon, floor and cap.
            orders: Training orders.
            iterations: Of the optimiser.
        """
        market = orders.market
        parameters = torch.zeros(orders.features.shape[-1] + 1, limits.horizon, requires_grad=True)
        known, curve = _known_at_arrival(orders), _seasonal_curve(orders)
        relative = (market.price / RunningMarket.of(market).vwap[:, -1:]) - 1
        scale = (curve.exp() * relative).sum(1).square().mean().clamp_min(torch.finfo(torch.float32).tiny)
        optimizer = torch.optim.LBFGS([parameters], max_iter=iterations, line_search_fn="strong_wolfe")

        def loss() -> float:
            optimizer.zero_grad()
            shares = torch.softmax(curve + known @ parameters[:-1] + parameters[-1], dim=1)
            squared = (shares * relative).sum(1).square().mean() / scale + _RIDGE * parameters.square().sum()
            squared.backward()  # type: ignore[no-untyped-call]
            return squared.item()

        optimizer.step(loss)  # type: ignore[no-untyped-call]
        fitted = parameters.detach()
        return cls(limits, fitted[:-1], fitted[-1])

    @torch.no_grad()
    def schedule(self, orders: OrderBatch) -> Tensor:
        """Fractions of the parent order per bar; (B, S, M, H)."""
        logits = _seasonal_curve(orders) + _known_at_arrival(orders) @ self.weight + self.bias
        shares = torch.softmax(logits, dim=1)
        of_remaining = shares / shares.flip(-1).cumsum(-1).flip(-1)
        desired = of_remaining[:, None, None].expand(-1, *OrderGrid(self.limits.horizon).shape, -1)
        return follow(desired, orders.market, self.limits, orders.size)


def _known_at_arrival(orders: OrderBatch) -> Tensor:
    return orders.features[:, -orders.market.horizon].clamp(-FEATURE_LIMIT, FEATURE_LIMIT)


def _seasonal_curve(orders: OrderBatch) -> Tensor:
    """Logs of the shares of the horizon's expected volume; (B, H)."""
    expected = orders.market.expected_volume
    expected = expected.clamp_min(torch.finfo(expected.dtype).tiny)
    return (expected / expected.sum(1, keepdim=True)).log()
