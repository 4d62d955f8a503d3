"""The Large Execution Model: market context in, child orders of the whole order grid out.

Reads top to bottom as section 5 of the model specification (after Genet & Inzirillo, arXiv 2509.25211), causal as its
section 2 demands: the row of bar t holds what is known before bar t, and no layer looks ahead.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lem_models.config import LEMConfig
from lem_models.heads import AllocationHeads, Decisions
from lem_models.layers.gating import GRN, Gate
from lem_models.layers.tkan import TKAN
from lem_models.layers.variable_selection import VariableSelection
from lem_models.orders import Limits, OrderBatch, OrderGrid

FEATURE_LIMIT = 8.0  # features are scale-free; beyond this a bad tick says no more than a large move


class CausalAttention(nn.Module):
    """Multi-head self-attention over time in which a bar attends to itself and earlier bars only."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, last: int | None = None) -> Tensor:
        """Attend over (B, T, D); answers for the ``last`` bars alone where given."""
        batch, length, width = x.shape
        last = last or length
        weight, bias = self.qkv.weight, self.qkv.bias
        q = F.linear(x[:, -last:], weight[:width], bias[:width]).view(batch, last, self.heads, -1).transpose(1, 2)
        k, v = F.linear(x, weight[width:], bias[width:]).view(batch, length, 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        seen = torch.ones(last, length, dtype=torch.bool, device=x.device).tril(length - last)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)  # (B, heads, last, D / heads)
        mixed: Tensor = self.out(attended.transpose(1, 2).reshape(batch, last, width))
        return mixed


class LEM(nn.Module):
    """One network for every kind of parent order."""

    name = "LEM"

    def __init__(self, config: LEMConfig) -> None:
        super().__init__()
        if not config.features:
            raise ValueError("the configuration names no features; a model reads at least one feature column")
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
        self.allocate = AllocationHeads(
            self.grid, limits, width, config.head_width, config.independent_heads, config.prior
        )

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
        horizon = self.config.horizon
        attended = self.attend_gate(self.attend(enriched, last=horizon))
        context: Tensor = self.attend_norm(enriched[:, -horizon:] + attended)
        return context.to(features.dtype)  # of products under autocast; orders are settled in full precision

    def forward(self, orders: OrderBatch) -> Decisions:
        """Decide every bar of every order of the grid."""
        decisions: Decisions = self.allocate(self.context(orders.features), orders.market)
        return decisions

    @torch.no_grad()
    def schedule(self, orders: OrderBatch) -> Tensor:
        """Fractions of the parent order per bar, summing to one; (B, S, M, H).

        Raises:
            FloatingPointError: The network overflows on these orders.
        """
        self.eval()
        decisions: Decisions = self(orders)
        if not (torch.isfinite(decisions.path).all() and torch.isfinite(decisions.finish_probability).all()):
            raise FloatingPointError("the network overflows on these orders; check its weights and its inputs")
        return decisions.schedule()
