"""What allocation heads answer before they have learned anything: how much to have executed, and whether to finish."""

import math
from dataclasses import fields, replace

import torch
from torch import Tensor, nn

from lem_models.orders import LOT, Limits, OrderGrid
from lem_models.stopping.gaps import BAR_AVERAGES
from lem_models.stopping.plan import LEAST_RISK_AVERSION, Plan, plan_for

_FINISH_LOGIT = -3.0  # an untrained head rarely finishes early, so that every bar is reached in training
# Finishing before the minimum duration gives up the option and leaves a benchmark that still moves: pure risk.
_FINISH_LOGIT_BEFORE_MINIMUM = -20.0
_SPARE = 0.1  # part of the cap by which the curve trades further ahead than it has to
_SOFTNESS = 0.1  # σ of gap by which an order must pass the boundary to finish with odds of e to 1


class CurvePrior(nn.Module):
    """A base curve, and stopping left to be learned: equal slices against TWAP, expected volume against VWAP.

    Without a cap the curve is left alone. Under a cap c nothing can finish before bar 1 / c, and an order may finish in
    any bar from ``max(m, 1 / c)`` on only if it has traded ahead until c remains.
    """

    def __init__(self, grid: OrderGrid, limits: Limits) -> None:
        super().__init__()
        bar = torch.arange(1, grid.horizon + 1)
        minimum = grid.minimum_duration[:, None]
        first_exit = minimum.clamp_min(math.ceil(1 / limits.cap - LOT))
        even = (bar / grid.horizon).expand(grid.horizon, -1)
        ahead = (bar / (first_exit - 1).clamp_min(1)).clamp_max(1) * (1 - limits.cap * (1 - _SPARE))
        self.shift = nn.Parameter((torch.maximum(even, ahead).logit(LOT) - even.logit(LOT)) * (limits.cap < 1))
        before = torch.where(bar < minimum, _FINISH_LOGIT_BEFORE_MINIMUM, _FINISH_LOGIT)
        self.finish_logit = nn.Parameter(before)  # (M, H), as is the shift

    def forward(self, step: int, remaining: Tensor, gap: Tensor, course: Tensor) -> tuple[Tensor, Tensor]:
        """Fraction to have executed by the end of the bar, in logits, and the logit of finishing in it.

        Args:
            step: The bar, counted from 0.
            remaining: Fraction before the bar; (B, S, M).
            gap: How far the running benchmark is on the good side of the last close, in σ; (B, S, 1).
            course: Fraction that the base curve has executed by the end of the bar; (B, S, 1).
        """
        return course.logit(LOT) + self.shift[:, step], self.finish_logit[:, step]


class StoppingPrior(nn.Module):
    """The optimum of a driftless walk: its stopping rule, and its schedule of least variance under the limits.

    Untrained heads all but follow the no-forecast stopping strategy; what they learn is what forecasts add.
    """

    def __init__(self, grid: OrderGrid, limits: Limits) -> None:
        super().__init__()
        plan = plan_for(limits, BAR_AVERAGES, LEAST_RISK_AVERSION)
        # Whether what remains fits is for the heads to say. An order that missed the cap answers here whether it would
        # have finished, or nothing would teach it not to miss.
        parts = plan.boundary.shape[-1] - 1
        at_cap = math.ceil(limits.cap * parts - LOT)
        boundary = plan.boundary[..., torch.arange(parts + 1).clamp_max(at_cap)]
        plan = replace(plan, boundary=boundary)
        for field in fields(plan):  # kept with the weights, so that a registered model decides by the plan it had
            self.register_buffer(field.name, getattr(plan, field.name).clone())

    def forward(self, step: int, remaining: Tensor, gap: Tensor, course: Tensor) -> tuple[Tensor, Tensor]:
        """As :meth:`CurvePrior.forward`."""
        plan = Plan(**{field.name: getattr(self, field.name) for field in fields(Plan)})
        # A network that overflows is refused once it has answered, not here.
        kept, boundary = plan.look_up(step, remaining.nan_to_num(), gap)
        # A lot more than planned, lest rounding leave more than one bar's cap to finish with.
        logit = ((gap - boundary) / _SOFTNESS).clamp(_FINISH_LOGIT_BEFORE_MINIMUM, -_FINISH_LOGIT_BEFORE_MINIMUM)
        return (1 - kept + LOT).logit(LOT / 2), logit


PRIORS: dict[str, type[CurvePrior | StoppingPrior]] = {"curve": CurvePrior, "stopping": StoppingPrior}
