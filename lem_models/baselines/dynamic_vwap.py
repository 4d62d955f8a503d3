"""Slices in proportion to a volume forecast that learns from every bar."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from lem_models.fills import OpenOrder, execute, feasible_bounds, whole_lots
from lem_models.orders import FEATURE_LIMIT, Limits, OrderBatch, OrderGrid

VOLUME_SURPRISE = "volume_surprise"


@dataclass(frozen=True)
class DynamicVwap:
    """Keeps the executed fraction at the part of the horizon's volume that it expects to have traded by then.

    Log volume over its seasonal expectation is a first-order autoregression seen through noise, as in Białkowski,
    Darolles & Le Fol (2008); its Kalman filter in the steady state needs two numbers, and both are fitted.

    Attributes:
        limits: Horizon, floor and cap.
        column: Which feature is the log of the last bar's volume over its seasonal expectation.
        persistence: What is left of a deviation after a bar.
        gain: How much of the last bar's surprise is believed.
    """

    limits: Limits
    column: int
    persistence: float
    gain: float
    name: str = "dynamic VWAP"

    @classmethod
    def fit(cls, limits: Limits, features: tuple[str, ...], windows: Tensor, iterations: int = 30) -> Self:
        """Choose persistence and gain by the squared error of the next bar's log volume.

        Args:
            limits: Horizon, floor and cap.
            features: Names of the feature columns.
            windows: Feature windows of training orders; (N, T, F).
            iterations: Of the optimiser.

        Raises:
            ValueError: There is no feature ``volume_surprise``.
        """
        if VOLUME_SURPRISE not in features:
            raise ValueError(f"dynamic VWAP needs the feature {VOLUME_SURPRISE}; there is {', '.join(features)}")
        column = features.index(VOLUME_SURPRISE)
        surprise = windows[..., column].double().clamp(-FEATURE_LIMIT, FEATURE_LIMIT)
        logits = torch.zeros(2, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.LBFGS([logits], max_iter=iterations, line_search_fn="strong_wolfe")

        def loss() -> float:
            optimizer.zero_grad()
            persistence, gain = torch.sigmoid(logits)
            level = filtered(surprise, persistence, gain)
            error = (surprise[:, 1:] - persistence * level[:, :-1]).square().mean()
            error.backward()
            return float(error.detach())

        optimizer.step(loss)  # type: ignore[no-untyped-call]
        persistence, gain = torch.sigmoid(logits.detach()).tolist()
        return cls(limits, column, persistence, gain)

    @torch.no_grad()
    def schedule(self, orders: OrderBatch) -> Tensor:
        """Fractions of the parent order per bar; (B, S, M, H)."""
        market, horizon = orders.market, self.limits.horizon
        grid = OrderGrid(horizon)
        surprise = orders.features[..., self.column].double().clamp(-FEATURE_LIMIT, FEATURE_LIMIT)
        level = filtered(surprise, self.persistence, self.gain)[:, -horizon:]
        # Shifted, not subtracted: the difference of two sums would still know the bar in its last digits.
        before = F.pad(market.volume.double().cumsum(1)[:, :-1], (1, 0))

        def decide(step: int, order: OpenOrder) -> Tensor:
            ahead = torch.arange(1, horizon - step + 1, device=level.device)
            forecast = market.expected_volume[:, step:] * torch.exp(level[:, step, None] * self.persistence**ahead)
            total = before[:, step] + forecast.sum(1)
            course = (before[:, step] + forecast[:, 0]) / torch.where(total > 0, total, 1.0)
            lo, hi = feasible_bounds(order.remaining, horizon - step, self.limits)
            return whole_lots(course.to(lo)[:, None, None] - (1 - order.remaining), lo, hi)

        start = OpenOrder.untouched(market.price.new_empty(len(market), *grid.shape))
        return execute(decide, start, market, orders.size)


def filtered(surprise: Tensor, persistence: Tensor | float, gain: Tensor | float) -> Tensor:
    """The level behind noisy deviations, given all up to each; shape of ``surprise``, (B, T)."""
    level = torch.zeros_like(surprise[:, 0])
    levels = []
    for seen in surprise.unbind(1):
        predicted = persistence * level
        level = predicted + gain * (seen - predicted)
        levels.append(level)
    return torch.stack(levels, dim=1)
