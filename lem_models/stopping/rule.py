"""When to finish: the optimal stopping rule of a driftless walk, by dynamic programming over the gap alone.

Fills cost the last known price on average, so the expected gain of an order is that of its benchmark at completion,
and how it trades until then does not matter: E[B_τ] − C_0. A cap does not change this. No order under a cap of c can
finish before bar ⌈1/c⌉, and one that trades ahead of time so that at most c remains from there on can finish in
whichever bar it likes: the optimum under a cap is the free one with minimum duration max(m, ⌈1/c⌉).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lem_models.stopping.gaps import GapProcess, gap_grid, transition


@dataclass(frozen=True)
class StoppingRule:
    """Finish in the first bar t ≥ m whose gap reaches the boundary.

    Attributes:
        value: Expected gain by minimum duration 1..n, in σ; (M,).
        boundary: Least gap, in σ, at which finishing in the bar is best; the same for every minimum duration. Infinite
            in bar 1, where nothing is gained yet; minus infinity in the last bar; (H,).
    """

    value: Tensor
    boundary: Tensor

    def value_under_cap(self, cap: float, minimum_duration: int) -> float:
        """Expected gain where each bar takes at most ``cap`` of the order, in σ."""
        earliest = max(minimum_duration, math.ceil(1 / cap - 1e-9))
        return float(self.value[earliest - 1])


def solve_rule(process: GapProcess, points: int = 801) -> StoppingRule:
    """Backward induction over the bars.

    Args:
        process: How the gap moves and what finishing pays.
        points: Gaps on the grid; odd.

    Returns:
        The value for every minimum duration and the boundary that attains it.
    """
    grid = gap_grid(process, points)
    values, boundaries = [process.payoff[-1] * grid], [-math.inf]
    for keep, noise, payoff in reversed(list(zip(process.keep[:-1], process.noise, process.payoff, strict=False))):
        later = transition(keep * grid, noise, grid) @ values[-1]
        values.append(torch.maximum(payoff * grid, later))
        boundaries.append(crossing(payoff * grid - later, grid))
    # Until the minimum duration there is nothing to decide, and the gap is Gaussian.
    reached = zip(process.spread, reversed(values), strict=True)
    value = torch.stack([transition(grid.new_zeros(1), spread, grid)[0] @ each for spread, each in reached])
    return StoppingRule(value, torch.tensor(boundaries[::-1], dtype=torch.float64))


def crossing(advantage: Tensor, grid: Tensor) -> float:
    """Where an advantage that grows with the gap turns positive, between grid points; infinite where it never does."""
    below = int((advantage < 0).nonzero().max()) if bool((advantage < 0).any()) else -1
    if below == -1:
        return -math.inf
    if below + 1 == len(grid):
        return math.inf
    low, high = float(advantage[below]), float(advantage[below + 1])
    return float(grid[below] + (grid[below + 1] - grid[below]) * low / (low - high))
