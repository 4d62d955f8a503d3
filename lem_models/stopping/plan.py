"""How much to trade before finishing, and when to finish where risk counts too: mean less ``risk_aversion`` × variance.

The state before bar t is bars left × remaining fraction × gap. Say r remains before bar t and r' after it, so that
a = r − r' is traded, and m and v are mean and variance of the gain still to come. In σ, with X = (1 − r') Z − a Y:

    finishing now:   m = (t − 1) / t · gap    v = (1 / t − r)² Var(Y)
    going on:        m = E[m']                v = E[v'] + Var(X + m')

What remains costs Z more after every close, the benchmark's estimate is worth Z more, and the bar fills at Y; the
second line is the law of total variance, m' and v' taken at r' and at the next gap. The mean depends on stopping
alone, so a small risk aversion keeps the optimal rule of ``rule`` and adds its schedule of least variance. A larger
one gives up mean where that is safer, and tracing it from small to large draws the mean–dispersion frontier. Decisions
are consistent: each is best given the later ones.

If trades could be undone, the best r' would be the delta to the price of the benchmark at completion, whatever r: a
hedge. For an order that never finishes early that delta falls in equal steps, which is TWAP.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import ceil, floor, inf
from typing import Self

import torch
from torch import Tensor

from lem_models.orders import Limits
from lem_models.stopping.gaps import BarMoves, GapProcess, gap_grid, transition
from lem_models.stopping.rule import crossing

LEAST_RISK_AVERSION = 0.01
"""Picks the schedule of least variance; under a cap the mean is within a thousandth of the optimum."""

_PARTS = 60  # steps of the remaining fraction, at least
_GAPS = 161


@dataclass(frozen=True)
class Plan:
    """What to do in every state, on grids of the remaining fraction (K, from 0 to 1) and of the gap (G).

    Attributes:
        mean: Expected gain of an order by minimum duration 1..n, in σ; (M,).
        variance: Its variance, in σ²; (M,).
        remaining_after: Fraction to keep after the bar where the order does not finish in it; (M, H, K, G).
        boundary: Least gap, in σ, at which the order finishes in the bar; infinite where it may not; (M, H, K).
        gaps: The grid of gaps, evenly spaced around zero; gaps beyond it decide as its ends; (G,).
    """

    mean: Tensor
    variance: Tensor
    remaining_after: Tensor
    boundary: Tensor
    gaps: Tensor

    def look_up(self, step: int, remaining: Tensor, gap: Tensor) -> tuple[Tensor, Tensor]:
        """What to keep after a bar, and from which gap on to finish in it.

        Args:
            step: The bar, counted from 0.
            remaining: Fraction before the bar; (..., M).
            gap: Running benchmark less last close for a buyer, in σ; broadcasts to ``remaining``.

        Returns:
            Fraction to keep and the boundary; shape of ``remaining``.
        """
        # Where a limit is near, what to keep jumps with the gap: between two grid points it may be good for neither.
        centre = len(self.gaps) // 2
        column = (gap / self.gaps[centre + 1]).clamp(-centre, centre).round().long() + centre
        row = remaining * (self.boundary.shape[-1] - 1)
        low = row.long().clamp_max(self.boundary.shape[-1] - 2)
        order = torch.arange(remaining.shape[-1])
        kept = self.remaining_after[:, step]
        fraction = torch.lerp(kept[order, low, column], kept[order, low + 1, column], row - low)
        return fraction, self.boundary[order, step, row.round().long()]


@lru_cache(maxsize=16)
def plan_for(limits: Limits, moves: BarMoves, risk_aversion: float) -> Plan:
    """The plan of :func:`solve_plan`, solved once; whoever changes its tensors works on a copy."""
    return solve_plan(limits, moves, risk_aversion)


def solve_plan(limits: Limits, moves: BarMoves, risk_aversion: float) -> Plan:
    """Backward induction over the bars, for every minimum duration.

    From its minimum duration on, an order decides as any other that may finish, so those share one recursion.

    Args:
        limits: Horizon, floor and cap.
        moves: What a bar fills at.
        risk_aversion: Weight of the variance, per σ; positive.

    Raises:
        ValueError: The risk aversion is not positive; without any, schedules of the same mean cannot be told apart.
    """
    if risk_aversion <= 0:
        raise ValueError(f"risk_aversion is {risk_aversion}; a small positive one picks the schedule of least variance")
    orders, horizon = _Orders.under(limits, moves, risk_aversion), limits.horizon
    may_finish = torch.arange(orders.parts + 1)[:, None] <= orders.cap
    in_a_hurry = (orders.remaining - orders.cap / orders.parts).clamp_min(0)[:, None].expand(-1, len(orders.gaps))
    kept = in_a_hurry.repeat(horizon, horizon, 1, 1)
    boundary = torch.full((horizon, horizon, orders.parts + 1), inf, dtype=torch.float64)
    boundary[:, -1] = torch.where(may_finish[:, 0], -inf, inf)
    outlooks = [orders.finish(horizon)] * horizon  # before the bar, by minimum duration
    for bar in range(horizon - 1, 0, -1):
        now = orders.finish(bar)
        later, fraction = orders.go_on(bar, outlooks[0], keep_some=True)
        kept[:bar, bar - 1] = fraction.where(later.variance.isfinite(), in_a_hurry)
        advantage = (orders.score(now) - orders.score(later)).masked_fill(~may_finish, -inf)
        boundary[:bar, bar - 1] = torch.tensor([crossing(row, orders.gaps) for row in advantage])
        finishes = advantage >= 0
        mean = torch.where(finishes, now.mean, later.mean)
        variance = torch.where(finishes, now.variance, later.variance)
        outlooks[:bar] = [_finite(_Outlook(mean, variance))] * bar
        for minimum in range(bar + 1, horizon + 1):
            later, fraction = orders.go_on(bar, outlooks[minimum - 1], keep_some=False)
            kept[minimum - 1, bar - 1] = fraction.where(later.variance.isfinite(), in_a_hurry)
            outlooks[minimum - 1] = _finite(later)
    centre = len(orders.gaps) // 2
    # Near the ends of the grid the next gap would often lie outside it, and decisions there are distorted.
    sound = slice(centre - 2 * centre // 3, centre + 2 * centre // 3 + 1)
    return Plan(
        mean=torch.stack([outlook.mean[-1, centre] for outlook in outlooks]),
        variance=torch.stack([outlook.variance[-1, centre] for outlook in outlooks]).clamp_min(0),
        remaining_after=kept[..., sound].float(),
        boundary=boundary.float(),
        gaps=orders.gaps[sound].float(),
    )


@dataclass(frozen=True)
class _Outlook:
    """Mean and variance of the gain still to come before a bar; (K, G)."""

    mean: Tensor
    variance: Tensor


@dataclass(frozen=True)
class _Orders:
    """What is the same in every bar: grids, limits in steps of the remaining fraction, and the aim."""

    process: GapProcess
    moves: BarMoves
    risk_aversion: float
    gaps: Tensor
    parts: int
    cap: int
    floor: int

    @classmethod
    def under(cls, limits: Limits, moves: BarMoves, risk_aversion: float) -> Self:
        process = GapProcess.after_last_close(limits.horizon, moves)
        # Equal slices lie on the grid. A limit between two steps gives way, so that an order stays fillable.
        parts = limits.horizon * ceil(_PARTS / limits.horizon)
        cap, least = ceil(limits.cap * parts - 1e-9), floor(limits.floor * parts + 1e-9)
        return cls(process, moves, risk_aversion, gap_grid(process, _GAPS), parts, cap, least)

    @property
    def remaining(self) -> Tensor:
        return torch.arange(self.parts + 1, dtype=torch.float64) / self.parts

    def score(self, outlook: _Outlook) -> Tensor:
        return outlook.mean - self.risk_aversion * outlook.variance

    def finish(self, bar: int) -> _Outlook:
        """All that remains is traded in the bar."""
        shape = (self.parts + 1, len(self.gaps))
        mean = self.process.payoff[bar - 1] * self.gaps
        variance = (1 / bar - self.remaining).square() * self.moves.fill_variance
        return _Outlook(mean.expand(shape), variance[:, None].expand(shape))

    def go_on(self, bar: int, later: _Outlook, keep_some: bool) -> tuple[_Outlook, Tensor]:
        """What the best fraction to keep lets expect, of infinite variance where there is none, and that fraction."""
        mean, variance, slope = self._seen_from(bar, later)
        kept, traded = self.remaining, self.remaining[:, None] - self.remaining
        fill, covariance = self.moves.fill_variance, self.moves.covariance
        own = (1 - kept).square() + traded.square() * fill - 2 * (1 - kept) * traded * covariance
        own = own.masked_fill(~self._may_keep(bar, keep_some), inf)
        with_gap = (1 - kept) * (covariance / bar - 1) - traded * (fill / bar - covariance)
        score = mean - self.risk_aversion * (variance + own[..., None])  # (K, K', G)
        score.addcmul_(with_gap[..., None], slope, value=-2 * self.risk_aversion)
        # A fraction held in every bar bends the variance by twice their number at most; sharper is the edge of a limit.
        steepest = 2 * self.process.horizon * self.risk_aversion / self.parts**2
        best, choice, shift = _peak(score, steepest)
        chosen = mean.gather(0, choice)
        return _Outlook(chosen, (chosen - best) / self.risk_aversion), (choice + shift) / self.parts

    def _seen_from(self, bar: int, later: _Outlook) -> tuple[Tensor, Tensor, Tensor]:
        """Mean and variance of the later outlook, and its mean's expected slope, given the gap before the bar."""
        noise = self.process.noise[bar - 1]
        weights = transition(self.process.keep[bar - 1] * self.gaps, noise, self.gaps).T
        mean = later.mean @ weights
        variance = later.variance @ weights + later.mean.square() @ weights - mean.square()
        # The covariance with a Gaussian, over its variance, is the expected slope (Stein).
        covariance = (later.mean * self.gaps) @ weights - mean * (self.gaps @ weights)
        return mean, variance, covariance / noise.square().clamp_min(1e-12)

    def _may_keep(self, bar: int, keep_some: bool) -> Tensor:
        """Whether k' steps may remain after the bar where k remained before it; (K, K')."""
        before, after = torch.arange(self.parts + 1)[:, None], torch.arange(self.parts + 1)
        traded = before - after
        within = (traded <= self.cap) & (traded >= before.clamp_max(self.floor)) & (after >= int(keep_some))
        return within & (after <= (self.process.horizon - bar) * self.cap)


def _finite(outlook: _Outlook) -> _Outlook:
    """No variance in states that no order comes to, so that they weigh nothing in what they are averaged with."""
    return _Outlook(outlook.mean, torch.nan_to_num(outlook.variance, posinf=0.0))


def _peak(score: Tensor, steepest: float) -> tuple[Tensor, Tensor, Tensor]:
    """Greatest score over axis 1: its value, its step, and how far beside that step it lies.

    It lies on the parabola through the best step and its neighbours, unless that bends more than ``steepest``.
    """
    best, choice = score.max(dim=1, keepdim=True)
    before = score.gather(1, (choice - 1).clamp_min(0))
    after = score.gather(1, (choice + 1).clamp_max(score.shape[1] - 1))
    bend = 2 * best - before - after
    smooth = (bend > 0) & (bend <= steepest) & (choice > 0) & (choice < score.shape[1] - 1)
    shift = torch.where(smooth, (after - before) / 2 / torch.where(smooth, bend, 1.0), 0.0)
    gain = torch.where(smooth, bend * shift.square() / 2, 0.0)
    return (best + gain)[:, 0], choice[:, 0], shift[:, 0]
