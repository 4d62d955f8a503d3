"""Everything that fixes a model and its training, as plain values."""

from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

from lem_models.orders import Limits


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
        prior: What untrained heads answer: ``stopping``, the optimum without forecasts, or ``curve``, a base curve that
            leaves all stopping to be learned.
        floor: Least fraction of the order per bar.
        cap: Greatest fraction of the order per bar.
    """

    features: tuple[str, ...] = ()
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
    prior: Literal["stopping", "curve"] = "stopping"
    floor: float = 0.0
    cap: float = 1.0

    def __post_init__(self) -> None:
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
            prior="curve",
        )

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """Rebuild from :meth:`to_dict`."""
        return cls(**{**fields, "features": tuple(fields["features"])})

    def to_dict(self) -> dict[str, Any]:
        """Plain values that survive JSON."""
        return {**asdict(self), "features": list(self.features)}


@dataclass(frozen=True)
class TrainingConfig:
    """How a model is fitted.

    Attributes:
        batch_size: Windows per step; each carries the whole order grid.
        batches_per_epoch: Steps between validations.
        validation_orders: Windows per validation, evenly spread over the split.
        max_epochs: Upper bound of epochs; the learning rate falls to zero there.
        patience: Epochs without a better validation loss before training stops.
        learning_rate: Peak of the one-cycle schedule.
        risk_aversion: Weight of squared slippage: in training, relative to the dispersion of the order
            (``objective.stop_and_hedge``); in validation, per σ of one bar (``objective.mean_dispersion``).
        gradient_clip: Greatest gradient norm.
        seed: Fixes initial weights and window sampling.
        threads: CPU threads. Small models are not faster on two, and several times slower where a neighbour keeps one
            of the cores busy.
    """

    batch_size: int = 128
    batches_per_epoch: int = 40
    validation_orders: int = 512
    max_epochs: int = 8
    patience: int = 4
    learning_rate: float = 2e-3
    risk_aversion: float = 0.3
    gradient_clip: float = 1.0
    seed: int = 0
    threads: int = 1
