"""How the gap between the running benchmark and the last known price moves on a driftless walk.

Everything is in σ, the standard deviation of one bar's close-to-close move, and from a buyer's side: a seller's gap is
its negative. Closes move by Z ~ N(0, 1) per bar. Bar t fills at Y_t above the close before it, and that is also what
the bar adds to the benchmark B, the mean of the bar prices.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class BarMoves:
    """Joint law of one bar's fill price and close, both measured from the close before; Gaussian, means zero.

    Attributes:
        fill_variance: Var(Y), in units of Var(Z) = 1.
        covariance: Cov(Y, Z).
    """

    fill_variance: float
    covariance: float


POINT_PRICES = BarMoves(fill_variance=1.0, covariance=1.0)
"""The bar fills at its close."""

BAR_AVERAGES = BarMoves(fill_variance=1 / 3, covariance=1 / 2)
"""The bar fills at the time average of a Brownian path, which is what a VWAP is where volume carries no information."""


@dataclass(frozen=True)
class GapProcess:
    """The gap before each bar as a scalar Gaussian Markov chain that starts at zero; fields (H,), float64.

    ``gap[t+1] = keep[t] · gap[t] + noise[t] · ε``. An order that finishes in bar t gains ``payoff[t] · gap[t]`` in
    expectation, whatever it traded before: prices are martingales, so fills cost the last known price on average.
    """

    keep: Tensor
    noise: Tensor
    payoff: Tensor

    @property
    def horizon(self) -> int:
        """Bars."""
        return len(self.keep)

    @property
    def spread(self) -> Tensor:
        """Standard deviation of the gap before each bar; (H,)."""
        variances = [self.keep.new_zeros(())]
        for keep, noise in zip(self.keep[:-1], self.noise[:-1], strict=True):
            variances.append(keep.square() * variances[-1] + noise.square())
        return torch.stack(variances).sqrt()

    @classmethod
    def after_last_close(cls, horizon: int, moves: BarMoves) -> Self:
        """Bar t is decided with the close of t − 1 known; the gap is B − C, before bar t.

        Finishing in bar t lets that bar into the benchmark, hence the payoff (t − 1) / t · gap.
        """
        bar = torch.arange(1, horizon + 1, dtype=torch.float64)
        keep = (bar - 1) / bar
        variance = moves.fill_variance / bar.square() - 2 * moves.covariance / bar + 1
        return cls(keep, variance.clamp_min(0).sqrt(), keep)

    @classmethod
    def after_past_averages(cls, horizon: int) -> Self:
        """As above for bar averages, but closes are never seen: a Kalman filter estimates them from the averages."""
        bar = torch.arange(1, horizon + 1, dtype=torch.float64)
        moves, unknown = BAR_AVERAGES, 0.0  # variance of the last close, given the averages so far
        noise = []
        for t in range(1, horizon + 1):
            surprise = unknown + moves.fill_variance
            gain = (unknown + moves.covariance) / surprise
            noise.append(abs(1 / t - gain) * surprise**0.5)
            unknown += 1 - gain**2 * surprise
        keep = (bar - 1) / bar
        return cls(keep, torch.tensor(noise, dtype=torch.float64), keep)

    @classmethod
    def seeing_own_bar(cls, horizon: int) -> Self:
        """Point prices, bar t decided with its own price known: the look-ahead of the published model.

        It is also what a bank that exercises a buyback on a closing price may do. Never a strategy's information.
        """
        bar = torch.arange(1, horizon + 1, dtype=torch.float64)
        keep = bar / (bar + 1)
        return cls(keep, keep, torch.ones_like(bar))


def gap_grid(process: GapProcess, points: int) -> Tensor:
    """Evenly spaced gaps out to six standard deviations of the widest bar, zero among them; (points,), points odd."""
    reach = 6 * (float(process.spread.max()) or 1.0)  # two bars at point prices have no gap at all
    return torch.linspace(-reach, reach, points, dtype=torch.float64)


def transition(mean: Tensor, spread: Tensor, grid: Tensor) -> Tensor:
    """Weights on the grid of a normal variable around each mean; rows add up to one; (len(mean), len(grid)).

    The trapezoid rule converges faster than any power of the step where a density is smooth; a kink of the integrand
    costs a term of the step squared.
    """
    step = grid[1] - grid[0]
    # A step much narrower than the grid's falls on one point.
    distance = (grid - mean[:, None]) / torch.maximum(spread, step / 8)
    return torch.softmax(-distance.square() / 2, dim=-1)
