"""A placebo: a model that reads the features of other orders."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lem_models.baselines import Strategy
from lem_models.orders import OrderBatch


@dataclass(frozen=True)
class ShuffledFeatures:
    """The same strategy on the same market paths, each order with the features of another one of its batch.

    What a model still earns so, it does not owe to its features. Prices, volumes and its own fills it keeps.

    Attributes:
        strategy: What is asked.
        seed: Of the exchange.
    """

    strategy: Strategy
    seed: int = 0

    @property
    def name(self) -> str:
        """That of the strategy, marked."""
        return f"{self.strategy.name}, features shuffled"

    def schedule(self, orders: OrderBatch) -> Tensor:
        """Fractions of the parent order per bar; (B, S, M, H)."""
        # A batch of neighbours in time is shifted by at least a quarter of itself, so that none keeps its own season.
        size = len(orders)
        generator = torch.Generator().manual_seed(self.seed)
        shift = size // 4 + int(torch.randint(max(size // 2, 1), (1,), generator=generator))
        return self.strategy.schedule(replace(orders, features=orders.features.roll(shift, dims=0)))
