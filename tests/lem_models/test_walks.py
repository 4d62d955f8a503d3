import pytest
import torch
from builders import GRID, HORIZON, LOOKBACK, rng

from lem_models.config import LEMConfig, TrainingConfig
from lem_models.objective import paper_objective
from lem_models.simulation import WalkLaw
from lem_models.walks import WALK_FEATURES, train_on_walks, walk_orders

LAW = WalkLaw(bar_averages=True, clusters=0.4, surprise=0.4)
MODEL = LEMConfig(WALK_FEATURES, lookback=LOOKBACK, width=8, embedding=4, memory_width=8, head_width=8)
SHORT = TrainingConfig(batch_size=8, batches_per_epoch=2, max_epochs=2)


def draw(count, generator):
    return walk_orders(LAW, count, LOOKBACK, HORIZON, 0.01, generator)


def test_windows_on_walks_begin_at_an_arrival_price_of_one_and_go_on_from_it():
    market = draw(50_000, rng(0)).market
    assert (market.arrival == 1).all()
    first_fill = (market.price[:, 0] - 1) / market.volatility[:, 0]
    assert first_fill.mean().item() == pytest.approx(0, abs=4 * first_fill.std().item() / 50_000**0.5)
    assert first_fill.var().item() == pytest.approx(1 / 3, rel=0.1)


def test_the_features_of_a_bar_are_the_return_and_volume_of_the_bar_before():
    orders = draw(20, rng(0))
    assert orders.features.shape == (20, LOOKBACK + HORIZON - 1, len(WALK_FEATURES))
    market = orders.market
    returns = (market.close / market.last_close).log() / market.volatility
    known = orders.features[:, LOOKBACK:]
    assert torch.allclose(known[..., 0], returns[:, :-1], atol=1e-3)
    assert torch.allclose(known[..., 1], market.volume.log()[:, :-1], atol=1e-5)


def test_training_on_walks_reports_each_epoch_and_repeats_itself():
    seen = []
    one = train_on_walks(draw, MODEL, SHORT, report=lambda windows, _: seen.append(windows))
    torch.manual_seed(99)
    again = train_on_walks(draw, MODEL, SHORT)
    assert seen == [16, 32]
    assert not one.training
    for weight, twin in zip(one.parameters(), again.parameters(), strict=True):
        assert torch.equal(weight, twin)


def test_training_on_walks_minimises_the_objective_it_is_given():
    one, other = train_on_walks(draw, MODEL, SHORT), train_on_walks(draw, MODEL, SHORT, paper_objective)
    orders = draw(10, rng(1))
    assert not torch.equal(one(orders).path, other(orders).path)
    assert one.grid == GRID
