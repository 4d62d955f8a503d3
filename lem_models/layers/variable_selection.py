"""Per-feature embedding and variable selection (Lim et al. 2021)."""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lem_models.layers.gating import GRN, GroupedLinear

_BLOCK = 2**20  # numbers per block of rows: few enough to stay in a CPU's cache from one operation to the next


class VariableSelection(nn.Module):
    """Embeds each feature by itself, then weighs the features bar by bar.

    Args:
        features: F.
        embedding: Width of one feature's embedding, E.
        width: Width of the answer, D.
    """

    def __init__(self, features: int, embedding: int, width: int) -> None:
        super().__init__()
        self.embedding_scale = nn.Parameter(torch.randn(features, embedding))
        self.embedding_shift = nn.Parameter(torch.zeros(features, embedding))
        self.weigh = GRN(features * embedding, features)
        self.transform = GRN(embedding, width, groups=features)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Select from (B, T, F).

        Returns:
            The weighted sum of transformed features (B, T, D), and the weights (B, T, F), which sum to one.
        """
        embedded = x[..., None] * self.embedding_scale + self.embedding_shift  # (B, T, F, E)
        weights = torch.softmax(self.weigh(embedded.flatten(-2)), dim=-1)
        features, width = self.transform.scale.shape
        rows_per_block = max(1, _BLOCK // (features * width))
        blocks = zip(*(torch.split(each.flatten(0, -2), rows_per_block) for each in (x, weights)), strict=True)
        transform = self._transform_of_scalars()
        selected = [(share.T[..., None] * transform(rows.T[..., None])).sum(0) for rows, share in blocks]
        return torch.cat(selected).view(*x.shape[:-1], -1), weights

    def _transform_of_scalars(self) -> Callable[[Tensor], Tensor]:
        """``self.transform`` of the embeddings as a function of the features, (F, rows, 1) to (F, rows, D).

        Between the embedding and the first activation, and between the second layer and its gate, stand affine maps
        only: each chain of them is one affine map, the first of a scalar.
        """
        grn = self.transform
        inner, skip, outer, gate = (cast(GroupedLinear, m) for m in (grn.inner, grn.skip, grn.outer, grn.gate.affine))
        inner_slope, inner_offset = inner.of_scalars(self.embedding_scale, self.embedding_shift)
        skip_slope, skip_offset = skip.of_scalars(self.embedding_scale, self.embedding_shift)
        weight, bias = gate.after(outer)

        def transform(x: Tensor) -> Tensor:
            hidden = F.elu(torch.addcmul(inner_offset, x, inner_slope))
            branch = F.glu(torch.baddbmm(bias, hidden, weight), dim=-1)
            total = torch.addcmul(branch + skip_offset, x, skip_slope)
            normed = F.layer_norm(total, total.shape[-1:])
            return torch.addcmul(grn.shift[:, None], normed, grn.scale[:, None])

        return transform
