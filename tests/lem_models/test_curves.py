import pytest
import torch
from builders import HORIZON, random_market

from lem_models.curves import equal_shares, volume_shares


def test_equal_shares_of_what_remains_are_equal_slices_of_the_order():
    remaining = 1.0
    for share in equal_shares(random_market(1)).tolist():
        assert remaining * share == pytest.approx(1 / HORIZON, rel=1e-6)
        remaining -= remaining * share
    assert remaining == 0


def test_volume_shares_of_what_remains_follow_the_expected_volume():
    market = random_market(3)
    remaining = torch.ones(3)
    for step, share in enumerate(volume_shares(market).unbind(1)):
        assert torch.allclose(remaining * share, market.expected_volume[:, step] / market.expected_volume.sum(1))
        remaining = remaining - remaining * share
    assert (remaining == 0).all()


def test_a_market_that_expects_no_volume_at_all_is_traded_in_equal_shares():
    market = random_market(2)
    market.expected_volume = torch.zeros(2, HORIZON)
    assert torch.allclose(volume_shares(market), equal_shares(market).expand(2, -1), rtol=1e-5)
