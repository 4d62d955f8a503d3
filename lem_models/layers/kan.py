"""A Kolmogorov-Arnold layer: a learned univariate function on every edge, as cubic B-splines plus a base."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

N_SPLINES = 6  # cubic splines on three intervals over [−1, 1]: 3 + order
_SPACING = 2.0 / 3.0
_CENTRES = tuple(-5.0 / 3.0 + _SPACING * i for i in range(N_SPLINES))


def cubic_b_splines(v: Tensor) -> Tensor:
    """Values of the six cubic B-splines on uniform knots −3, −7/3, …, 3.

    All six are shifts of one symmetric bump, which in units u of the knot spacing is
    ``((2 − |u|)₊³ − 4 (1 − |u|)₊³) / 6``: no recursion over orders is needed.

    Args:
        v: Any shape.

    Returns:
        Shape of ``v`` plus a last axis of 6. On [−1, 1] the six add up to one; outside [−3, 3] all are zero.

    Example:
        >>> cubic_b_splines(torch.tensor([-1.0, 0.3, 1.0])).sum(-1)
        tensor([1.0000, 1.0000, 1.0000])
    """
    centres = torch.tensor(_CENTRES, dtype=v.dtype, device=v.device)
    distance = ((v[..., None] - centres) / _SPACING).abs()
    return ((2 - distance).clamp_min(0).pow(3) - 4 * (1 - distance).clamp_min(0).pow(3)) / 6


class SplineRows:
    """:func:`cubic_b_splines` and their slopes for one step of a scan: whole rows per spline, no new memory.

    Args:
        v: Gives shape (B, D), type and device.
    """

    def __init__(self, v: Tensor) -> None:
        self.centres = torch.tensor(_CENTRES, dtype=v.dtype, device=v.device)[:, None] / _SPACING
        self.u, self.outer, self.inner = v.new_empty(3, v.shape[0], N_SPLINES, v.shape[1])

    def values(self, v: Tensor, out: Tensor) -> None:
        """Write the splines of v, (B, D), into ``out``, (B, 6, D)."""
        self._hats(v, (1 / 6) ** (1 / 3))
        torch.sub(self.outer.pow_(3), self.inner.pow_(3), alpha=4, out=out)

    def slopes(self, v: Tensor, out: Tensor) -> None:
        """Write their derivatives, ``−sign(u) ((2 − |u|)₊² − 4 (1 − |u|)₊²) / 2`` per knot spacing."""
        self._hats(v, (1 / 2 / _SPACING) ** (1 / 2))
        torch.sub(self.outer.square_(), self.inner.square_(), alpha=4, out=self.outer)
        torch.copysign(self.outer, self.u.neg_(), out=out)

    def _hats(self, v: Tensor, unit: float) -> None:
        """u, (2 − |u|)₊ and (1 − |u|)₊, all times ``unit``, so that no power of them needs a factor."""
        torch.sub((v * (unit / _SPACING))[:, None], self.centres * unit, out=self.u)
        torch.abs(self.u, out=self.outer).neg_().add_(2 * unit).relu_()
        torch.sub(self.outer, unit, out=self.inner).relu_()


class KANLayer(nn.Module):
    """``relu(v̂) W_b + b + B(v̂) W_s`` with ``v̂ = LayerNorm(v)`` (model specification, section 5.3).

    Args:
        inputs: Width of v.
        outputs: Width of the answer.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(inputs)
        self.base = nn.Linear(inputs, outputs)
        self.spline = nn.Parameter(torch.empty(outputs, inputs * N_SPLINES))
        nn.init.normal_(self.spline, std=0.1 / inputs**0.5)

    def forward(self, v: Tensor) -> Tensor:
        """Map (..., inputs) to (..., outputs)."""
        v = self.norm(v)
        base: Tensor = self.base(F.relu(v))
        return base + F.linear(cubic_b_splines(v).flatten(-2), self.spline)

    def stacked_weight(self) -> Tensor:
        """W_b and W_s as one matrix for rows (relu(v̂), first splines, …, sixth splines); (7 inputs, outputs)."""
        outputs, inputs = self.base.weight.shape
        by_spline = self.spline.view(outputs, inputs, N_SPLINES).permute(2, 1, 0)
        return torch.cat([self.base.weight.T[None], by_spline]).flatten(0, 1)
