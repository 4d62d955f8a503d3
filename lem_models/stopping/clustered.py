"""The optimum where volatility clusters and bars surprise: dynamic programming over gap and volatility.

The volatility of the coming bar is known before it, so the state is the gap in units of that volatility, and its log.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

_GAPS, _REACH = 201, 10.0
_LEVELS, _LEVEL_REACH = 9, 3.0
_GROUPS = 200


@dataclass(frozen=True)
class Clusters:
    """Log volatility as a stationary Gaussian autoregression.

    Attributes:
        spread: Its standard deviation.
        keep: Its correlation from bar to bar.
    """

    spread: float
    keep: float


def value_with_clusters(horizon: int, fill: Tensor, move: Tensor, clusters: Clusters) -> Tensor:
    """Expected gain of the optimal rule by minimum duration, in units of the first bar's known volatility.

    Args:
        horizon: Bars.
        fill: Draws of a bar's fill price over the close before, in units of known volatility; (N,).
        move: The close of the same bars over the close before; (N,). Both are used with either sign.
        clusters: How volatility moves.

    Returns:
        (M,), float64.
    """
    gaps = torch.linspace(-_REACH, _REACH, _GAPS, dtype=torch.float64)
    levels = torch.linspace(-_LEVEL_REACH, _LEVEL_REACH, _LEVELS, dtype=torch.float64)
    later_level = clusters.keep * levels[:, None] + (1 - clusters.keep**2) ** 0.5 * _NODES
    scale = torch.exp(clusters.spread * (later_level - levels[:, None]))  # (L, nodes)

    def expected(values: Tensor, bar: int) -> Tensor:
        """Before a bar, of values after it; both (L, G)."""
        shocks = _groups(torch.cat([fill / bar - move, move - fill / bar]).double())
        answer = torch.zeros_like(values)
        for level in range(_LEVELS):
            for node, weight in enumerate(_WEIGHTS.tolist()):
                after = _between(values, levels, later_level[level, node])
                gap = ((bar - 1) / bar * gaps[:, None] + shocks) / scale[level, node]
                answer[level] += weight * scale[level, node] * _interpolate(after, gap).mean(-1)
        return answer

    values = [((horizon - 1) / horizon * gaps).expand(_LEVELS, -1)]
    for bar in range(horizon - 1, 0, -1):
        values.append(torch.maximum((bar - 1) / bar * gaps, expected(values[-1], bar)))
    values.reverse()
    by_minimum = []
    for minimum in range(1, horizon + 1):
        value = values[minimum - 1]
        for bar in range(minimum - 1, 0, -1):
            value = expected(value, bar)
        by_minimum.append(torch.stack([_between(value, levels, node) for node in _NODES])[:, _GAPS // 2] @ _WEIGHTS)
    return torch.stack(by_minimum)


# Gauss-Hermite quadrature of the standard normal with five nodes.
_NODES = torch.tensor([-(5 + 10**0.5), -(5 - 10**0.5), 0.0, 5 - 10**0.5, 5 + 10**0.5], dtype=torch.float64)
_NODES = _NODES.sign() * _NODES.abs().sqrt()
_WEIGHTS = torch.tensor([0.011257411327721, 0.222075922005613, 0.533333333333333], dtype=torch.float64)
_WEIGHTS = torch.cat([_WEIGHTS, _WEIGHTS[:2].flip(0)])


def _groups(draws: Tensor) -> Tensor:
    """Means of equally many neighbours: the distribution in few points, its mean kept."""
    ordered = draws.sort().values
    return ordered[: len(ordered) // _GROUPS * _GROUPS].view(_GROUPS, -1).mean(-1)


def _between(values: Tensor, levels: Tensor, level: Tensor) -> Tensor:
    place = ((level - levels[0]) / (levels[1] - levels[0])).clamp(0, len(levels) - 1)
    low = int(place.clamp_max(len(levels) - 2))
    return torch.lerp(values[low], values[low + 1], place - low)


def _interpolate(values: Tensor, gap: Tensor) -> Tensor:
    place = ((gap + _REACH) * (len(values) - 1) / (2 * _REACH)).clamp(0, len(values) - 1)
    low = place.long().clamp_max(len(values) - 2)
    return torch.lerp(values[low], values[low + 1], place - low)
