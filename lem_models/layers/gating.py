"""Gated residual networks (Lim et al. 2021), plain or one per group with fused matrix products."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class GroupedLinear(nn.Module):
    """One affine map per group, as a single batched product.

    Args:
        groups: G.
        inputs: Width in.
        outputs: Width out.
    """

    def __init__(self, groups: int, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.empty(groups, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(groups, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., G, inputs) to (..., G, outputs)."""
        rows = x.reshape(-1, *x.shape[-2:]).transpose(0, 1)  # (G, rows, inputs)
        mapped = torch.baddbmm(self.bias[:, None], rows, self.weight).transpose(0, 1)
        return mapped.reshape(*x.shape[:-1], -1)

    def of_scalars(self, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        """What the map makes of ``x · scale + shift`` for a scalar x: the slope and the offset, both (G, 1, outputs).

        Args:
            scale: (G, inputs).
            shift: (G, inputs).
        """
        slope = (scale[..., None] * self.weight).sum(1, keepdim=True)
        return slope, (shift[..., None] * self.weight).sum(1, keepdim=True) + self.bias[:, None]

    def after(self, first: "GroupedLinear") -> tuple[Tensor, Tensor]:
        """Weight and bias, (G, 1, outputs), of ``first`` and this map as one."""
        return first.weight @ self.weight, first.bias[:, None] @ self.weight + self.bias[:, None]


def affine(inputs: int, outputs: int, groups: int | None) -> nn.Module:
    """An affine map, one for all or one per group."""
    return nn.Linear(inputs, outputs) if groups is None else GroupedLinear(groups, inputs, outputs)


class Gate(nn.Module):
    """``affine(x) ⊙ sigmoid(affine(x))``: lets a branch be switched off.

    Args:
        inputs: Width in.
        outputs: Width out.
        groups: None for one gate, or the size of axis −2 for one gate per group.
    """

    def __init__(self, inputs: int, outputs: int, groups: int | None = None) -> None:
        super().__init__()
        self.affine = affine(inputs, 2 * outputs, groups)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., inputs) to (..., outputs)."""
        return F.glu(self.affine(x), dim=-1)


class GRN(nn.Module):
    """Skip plus gated two-layer branch, then layer norm (model specification, section 5.2).

    Args:
        inputs: Width in.
        outputs: Width out and of the hidden layer.
        groups: None for one network, or the size of axis −2 for one network per group.
    """

    def __init__(self, inputs: int, outputs: int, groups: int | None = None) -> None:
        super().__init__()
        self.skip = affine(inputs, outputs, groups)
        self.inner = affine(inputs, outputs, groups)
        self.outer = affine(outputs, outputs, groups)
        self.gate = Gate(outputs, outputs, groups)
        shape = (outputs,) if groups is None else (groups, outputs)
        self.scale = nn.Parameter(torch.ones(shape))
        self.shift = nn.Parameter(torch.zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., inputs) to (..., outputs)."""
        branch = self.gate(self.outer(F.elu(self.inner(x))))
        return F.layer_norm(self.skip(x) + branch, self.scale.shape[-1:]) * self.scale + self.shift
