"""Per-feature embedding and variable selection (Lim et al. 2021)."""

import torch
from torch import Tensor, nn

from lem_models.layers.gating import GRN


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
        return torch.einsum("btf,btfd->btd", weights, self.transform(embedded)), weights
