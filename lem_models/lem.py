"""The Large Execution Model: market context in, child orders of the whole order grid out.

Reads top to bottom as section 5 of the model specification (after Genet & Inzirillo, arXiv 2509.25211), causal as its
section 2 demands: the row of bar t holds what is known before bar t, and no layer looks ahead.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lem_models.config import LEMConfig
from lem_models.heads import AllocationHeads, Decisions
from lem_models.layers.gating import GRN, Gate
from lem_models.layers.recurrence import Positions, TorchRecurrence
from lem_models.layers.tkan import TKAN
from lem_models.layers.variable_selection import VariableSelection
from lem_models.orders import FEATURE_LIMIT, OrderBatch, OrderGrid


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


class AllFeatures(nn.Module):
    """One affine map of all features, in place of their selection; there are no weights to tell."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.affine = nn.Linear(features, width)

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        """Map (B, T, F) to (B, T, D)."""
        return self.affine(x), None


def recurrence(config: LEMConfig) -> nn.Module:
    """What carries the past from bar to bar: (B, T, D) to (B, T, D), and no bar hears of later ones."""
    width, layers = config.width, config.recurrent_layers
    match config.recurrence:
        case "tkan":
            return nn.Sequential(*(TKAN(width, width, config.memories, config.memory_width) for _ in range(layers)))
        case "lstm":
            return TorchRecurrence(nn.LSTM(width, width, layers, batch_first=True))
        case "gru":
            return TorchRecurrence(nn.GRU(width, width, layers, batch_first=True))
        case "none":
            return Positions(config.lookback + config.horizon - 1, width)


class LEM(nn.Module):
    """One network for every kind of parent order."""

    def __init__(self, config: LEMConfig) -> None:
        super().__init__()
        if not config.features:
            raise ValueError("the configuration names no features; a model reads at least one feature column")
        self.config = config
        self.grid = OrderGrid(config.horizon)
        width = config.width
        features = len(config.features)
        self.select = (
            VariableSelection(features, config.embedding, width)
            if config.variable_selection
            else AllFeatures(features, width)
        )
        self.recur = recurrence(config)
        self.recur_gate = Gate(width, width)
        self.recur_norm = nn.LayerNorm(width)
        self.enrich = GRN(width, width)
        self.attend = CausalAttention(width, config.attention_heads)
        self.attend_gate = Gate(width, width)
        self.attend_norm = nn.LayerNorm(width)
        self.allocate = AllocationHeads(
            self.grid,
            config.limits,
            width,
            config.head_width,
            config.independent_heads,
            config.prior,
            config.own_readout,
        )

    @property
    def name(self) -> str:
        """What reports call it; a model that looks ahead says so wherever it is shown."""
        return "LEM" if self.config.information_set == "causal" else "LEM with look-ahead"

    def context(self, features: Tensor, recur: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """What the market says before each bar of the horizon.

        Args:
            features: (B, L + H − 1, F).
            recur: Another way to run :attr:`recur` with the same answers.

        Returns:
            (B, H, D).
        """
        selected, _ = self.select(features.clamp(-FEATURE_LIMIT, FEATURE_LIMIT))
        recurrent = self.recur_norm(selected + self.recur_gate((recur or self.recur)(selected)))
        enriched = self.enrich(recurrent)
        horizon = self.config.horizon
        attended = self.attend_gate(self.attend(enriched, last=horizon))
        context: Tensor = self.attend_norm(enriched[:, -horizon:] + attended)
        return context.to(features.dtype)  # of products under autocast; orders are settled in full precision

    def forward(self, orders: OrderBatch) -> Decisions:
        """Decide every bar of every order of the grid: what training learns from.

        Raises:
            ValueError: The features tell more, or less, than those the model is made for.
        """
        decisions: Decisions = self.allocate(self._context_of(orders), orders.market)
        return decisions

    @torch.no_grad()
    def schedule(self, orders: OrderBatch) -> Tensor:
        """Fractions of the parent order per bar, summing to one; (B, S, M, H).

        Raises:
            FloatingPointError: The network overflows on these orders.
            ValueError: As :meth:`forward`.
        """
        self.eval()
        return self.allocate.schedule(self._context_of(orders), orders.market, orders.size)

    def _context_of(self, orders: OrderBatch) -> Tensor:
        if orders.information_set != self.config.information_set:
            raise ValueError(
                f"the orders' features are {orders.information_set} and the model is made for "
                f"{self.config.information_set}; gather them with information_set={self.config.information_set!r}"
            )
        return self.context(orders.features)
