"""A fit that takes a second: a driftless walk, a tiny model, a short training."""

import torch
from builders import FEATURES, LOOKBACK, rng

from lem_models.config import LEMConfig, TrainingConfig
from lem_models.windows import MarketPanel

TINY = LEMConfig(FEATURES, lookback=LOOKBACK, width=8, embedding=4, memory_width=8, head_width=8, prior="curve")
SHORT = TrainingConfig(batch_size=16, batches_per_epoch=3, validation_orders=48, max_epochs=3, patience=10, seed=5)
TRAIN, VALIDATION = torch.arange(10, 400), torch.arange(420, 580)
VOLATILITY = 0.01


def walk_panel(rows: int = 600) -> MarketPanel:
    """One driftless walk, observed at the close of each bar, with features that say nothing."""
    draw = rng(0)
    steps = VOLATILITY * torch.randn(rows, generator=draw, dtype=torch.float64)
    close = 100 * torch.exp(steps.cumsum(0))
    volume = torch.exp(0.5 * torch.randn(rows, generator=draw, dtype=torch.float64))
    flat = torch.ones(rows, dtype=torch.float64)
    features = torch.randn(rows, len(FEATURES), generator=draw)
    return MarketPanel(features, close, close, volume, VOLATILITY * flat, flat)
