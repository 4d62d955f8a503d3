"""Base curves: the fraction of the remaining order that a plain schedule trades in each bar."""

import torch
from torch import Tensor

from lem_models.orders import MarketPath


def equal_shares(market: MarketPath) -> Tensor:
    """1 / bars left: equal slices over the horizon; (H,)."""
    bars_left = torch.arange(market.horizon, 0, -1, device=market.price.device, dtype=market.price.dtype)
    return 1 / bars_left


def volume_shares(market: MarketPath) -> Tensor:
    """Each bar's part of the expected volume still to come: the historical volume curve; (B, H)."""
    expected = market.expected_volume.clamp_min(torch.finfo(market.expected_volume.dtype).tiny)
    return expected / expected.flip(-1).cumsum(-1).flip(-1)
