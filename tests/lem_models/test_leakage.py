"""The experiments catch strategies that look ahead, and pass those that do not."""

from dataclasses import dataclass

import pytest
import torch
from builders import FREE, GRID, HORIZON, LOOKBACK, random_orders, rng, tiny_lem
from torch import Tensor

from lem_models.baselines.optimal_stopping import OptimalStopping
from lem_models.baselines.oracle import Oracle
from lem_models.baselines.twap import Twap
from lem_models.leakage import foresight, moved_by_the_future, on_driftless_walks, overwritten
from lem_models.orders import OrderBatch


@dataclass(frozen=True)
class ReadsRow:
    """Trades by a feature row so many bars ahead of what it may know."""

    ahead: int
    name: str = "reads a feature row"

    def schedule(self, orders: OrderBatch) -> Tensor:
        first = LOOKBACK - 1 + self.ahead
        seen = orders.features[:, first : first + HORIZON, 0].clamp(-1, 1)
        seen = torch.nn.functional.pad(seen, (0, HORIZON - seen.shape[1]))
        return torch.softmax(seen, 1)[:, None, None].expand(-1, *GRID.shape, -1)


@pytest.mark.parametrize("strategy", [Twap(FREE), OptimalStopping(FREE), tiny_lem()], ids=lambda s: s.name)
def test_strategies_that_know_the_past_alone_do_not_move(strategy):
    assert moved_by_the_future(strategy, random_orders(20), rng(91)) == []


def test_a_strategy_that_knows_the_future_moves_in_every_bar_that_has_one():
    assert moved_by_the_future(Oracle(FREE), random_orders(50), rng(91)) == list(range(1, HORIZON + 1))


def test_a_row_of_features_too_early_is_caught():
    # A softmax over the whole horizon knows all of it from the first bar on.
    assert moved_by_the_future(ReadsRow(ahead=1), random_orders(20), rng(91))[0] == 1


@pytest.mark.parametrize("step", range(HORIZON))
def test_what_is_known_before_a_bar_is_kept_and_the_rest_changed(step):
    orders = random_orders(5)
    other = overwritten(orders, step, rng(92))
    known = LOOKBACK + step
    assert torch.equal(other.features[:, :known], orders.features[:, :known])
    assert not (other.features[:, known:] == orders.features[:, known:]).any()
    for name, kept in (("price", step), ("close", step), ("volume", step), ("volatility", step + 1)):
        now, before = getattr(other.market, name), getattr(orders.market, name)
        assert torch.equal(now[:, :kept], before[:, :kept])
        assert not (now[:, kept:] == before[:, kept:]).any()
    assert torch.equal(other.market.expected_volume, orders.market.expected_volume)


def test_walks_keep_all_but_prices_and_are_martingales():
    orders = random_orders(40_000)
    walk = on_driftless_walks(orders, rng(3))
    for name in ("arrival", "volume", "volatility", "expected_volume"):
        assert torch.equal(getattr(walk.market, name), getattr(orders.market, name))
    assert torch.equal(walk.features, orders.features)
    for moved in (walk.market.price / walk.market.last_close, walk.market.close / walk.market.last_close):
        move = (moved - 1) / walk.market.volatility
        assert move.mean(0).abs().max() < 4 * move.std() / 200
    assert ((walk.market.close / walk.market.last_close).log() / walk.market.volatility).std() == pytest.approx(
        1, abs=0.01
    )


def test_foresight_is_zero_in_the_mean_unless_the_bar_is_known():
    walk = on_driftless_walks(random_orders(5_000), rng(4))
    for strategy in (Twap(FREE), OptimalStopping(FREE)):
        gained = foresight(strategy.schedule(walk), walk.market, GRID)
        assert (gained.mean(0).abs() < 4.5 * gained.std(0) / 5_000**0.5 + 1e-6).all()
    assert (foresight(Oracle(FREE).schedule(walk), walk.market, GRID).mean(0) > 0.1).all()
