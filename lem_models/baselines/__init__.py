"""Strategies to beat; each is called like a model."""

from typing import Protocol

from torch import Tensor

from lem_models.orders import OrderBatch


class Strategy(Protocol):
    """Anything that slices parent orders."""

    @property
    def name(self) -> str:
        """What reports call it."""
        ...

    def schedule(self, orders: OrderBatch) -> Tensor:
        """Fractions of the parent order per bar, summing to one; (B, S, M, H)."""
        ...
