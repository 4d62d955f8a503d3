"""The Large Execution Model: market context in, child orders of the whole order grid out.

Reads top to bottom as section 5 of the model specification (after Genet & Inzirillo, arXiv 2509.25211), causal as its
section 2 demands: the row of bar t holds what is known before bar t, and no layer looks ahead.
"""

from dataclasses import asdict, dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lem_models.heads import AllocationHeads, Decisions
from lem_models.layers.gating import GRN, Gate
from lem_models.layers.tkan import TKAN
from lem_models.layers.variable_selection import VariableSelection
from lem_models.orders import Limits, OrderBatch, OrderGrid

FEATURE_LIMIT = 8.0  # features are scale-free; beyond this a bad tick says no more than a large move


@dataclass(frozen=True)
class LEMConfig:
    """Everything that fixes the shape of a model.

    Attributes:
        features: Names of the feature columns, in order.
        lookback: Bars of history, L, including the row of the order's first bar.
        horizon: Bars granted to an order, H.
        width: Hidden width, D.
        embedding: Width of one feature's embedding.
        attention_heads: Heads of the causal self-attention; divides ``width``.
        tkan_layers: Stacked TKAN layers.
        memories: KAN memories per TKAN layer.
        memory_width: Width of each KAN memory.
        head_width: Hidden width of the allocation heads.
        independent_heads: True for one set of head weights per order, as in the paper.
        floor: Least fraction of the order per bar.
        cap: Greatest fraction of the order per bar.
    """

    features: tuple[str, ...]
    lookback: int = 48
    horizon: int = 12
    width: int = 32
    embedding: int = 8
    attention_heads: int = 4
    tkan_layers: int = 2
    memories: int = 1
    memory_width: int = 16
    head_width: int = 32
    independent_heads: bool = False
    floor: float = 0.0
    cap: float = 1.0

    def __post_init__(self) -> None:
        if not self.features:
            raise ValueError("features is empty; a model reads at least one feature column")
        if self.lookback < 2:
            raise ValueError(f"lookback is {self.lookback}; a model needs at least 2 bars of history")
        if self.width % self.attention_heads:
            raise ValueError(f"width {self.width} is not a multiple of attention_heads {self.attention_heads}")
        Limits(horizon=self.horizon, floor=self.floor, cap=self.cap)

    @classmethod
    def paper(cls, features: tuple[str, ...]) -> Self:
        """The sizes of the paper: lookback 120, 200 units, embeddings of 20, 8 heads, MLPs of 100."""
        return cls(
            features,
            lookback=120,
            width=200,
            embedding=20,
            attention_heads=8,
            memory_width=200,
            head_width=100,
            independent_heads=True,
        )

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """Rebuild from :meth:`to_dict`."""
        return cls(**{**fields, "features": tuple(fields["features"])})

    def to_dict(self) -> dict[str, Any]:
        """Plain values that survive JSON."""
        return {**asdict(self), "features": list(self.features)}


class CausalAttention(nn.Module):
    """Multi-head self-attention over time in which a bar attends to itself and earlier bars only."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Attend over (B, T, D)."""
        batch, length, width = x.shape
        q, k, v = self.qkv(x).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)  # (B, heads, T, D / heads)
        mixed: Tensor = self.out(attended.transpose(1, 2).reshape(batch, length, width))
        return mixed


class LEM(nn.Module):
    """One network for every kind of parent order."""

    name = "LEM"

    def __init__(self, config: LEMConfig) -> None:
        super().__init__()
        self.config = config
        self.grid = OrderGrid(config.horizon)
        width = config.width
        self.select = VariableSelection(len(config.features), config.embedding, width)
        self.recur = nn.Sequential(
            *(TKAN(width, width, config.memories, config.memory_width) for _ in range(config.tkan_layers))
        )
        self.recur_gate = Gate(width, width)
        self.recur_norm = nn.LayerNorm(width)
        self.enrich = GRN(width, width)
        self.attend = CausalAttention(width, config.attention_heads)
        self.attend_gate = Gate(width, width)
        self.attend_norm = nn.LayerNorm(width)
        limits = Limits(horizon=config.horizon, floor=config.floor, cap=config.cap)
        self.allocate = AllocationHeads(self.grid, limits, width, config.head_width, config.independent_heads)

    def context(self, features: Tensor) -> Tensor:
        """What the market says before each bar of the horizon.

        Args:
            features: (B, L + H − 1, F).

        Returns:
            (B, H, D).
        """
        selected, _ = self.select(features.clamp(-FEATURE_LIMIT, FEATURE_LIMIT))
        recurrent = self.recur_norm(selected + self.recur_gate(self.recur(selected)))
        enriched = self.enrich(recurrent)
        attended: Tensor = self.attend_norm(enriched + self.attend_gate(self.attend(enriched)))
        return attended[:, -self.config.horizon :]

    def forward(self, orders: OrderBatch) -> Decisions:
        """Decide every bar of every order of the grid."""
        decisions: Decisions = self.allocate(self.context(orders.features), orders.market)
        return decisions

    @torch.no_grad()
    def schedule(self, orders: OrderBatch) -> Tensor:
        """Fractions of the parent order per bar, summing to one; (B, S, M, H)."""
        self.eval()
        decisions: Decisions = self(orders)
        return decisions.schedule()
