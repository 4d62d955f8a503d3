"""What each baseline claims beyond the contract of all strategies."""

from dataclasses import replace

import pytest
import torch
from builders import FREE, GRID, HORIZON, LIMITS, LOOKBACK, random_market, random_orders, random_size, rng, tiny_lem
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lem_models.baselines.buyback import BuybackHeuristic
from lem_models.baselines.dynamic_vwap import DynamicVwap
from lem_models.baselines.optimal_stopping import OptimalStopping
from lem_models.baselines.oracle import Oracle
from lem_models.baselines.shuffled import ShuffledFeatures
from lem_models.baselines.static_linear import StaticLinear
from lem_models.baselines.volume_curve import VolumeCurve
from lem_models.execution import settle
from lem_models.fills import capacity, follow
from lem_models.orders import MarketPath, OrderBatch
from lem_models.simulation import random_walks

COLUMN = 1
FEATURES = ("momentum", "volume_surprise", "season")
BUY_QUANTITY_VWAP = 0


def orders_with_persistent_volume(orders: int, persistence: float, noise: float, seed: int = 0) -> OrderBatch:
    """Volume deviates from a flat season by an autoregression seen through noise; the last bar's is a feature."""
    draw, bars = rng(seed), LOOKBACK + HORIZON
    level = torch.randn(orders, generator=draw)
    seen = []
    for _ in range(bars):
        level = persistence * level + (1 - persistence**2) ** 0.5 * torch.randn(orders, generator=draw)
        seen.append(level + noise * torch.randn(orders, generator=draw))
    surprise = torch.stack(seen, dim=1)
    features = torch.randn(orders, bars - 1, len(FEATURES), generator=draw)
    features[..., COLUMN] = surprise[:, :-1]
    market = replace(
        random_walks(orders, HORIZON, 0.01, draw),
        volume=1000 * surprise[:, LOOKBACK:].exp(),
        expected_volume=torch.full((orders, HORIZON), 1000.0),
    )
    return OrderBatch(features, market)


def risk(schedule: Tensor, market: MarketPath) -> float:
    slippage = settle(schedule, market, GRID).fixed_window_slippage_bps
    return float(slippage[:, BUY_QUANTITY_VWAP, -1].std())


# --- buyback heuristic --------------------------------------------------------------------------------------------


def rising_then_falling() -> OrderBatch:
    """A price above arrival for three bars, then far below the running benchmark."""
    price = torch.cat([torch.linspace(1.01, 1.03, 3), torch.full((HORIZON - 3,), 0.98)])[None]
    flat = torch.ones(1, HORIZON)
    market = MarketPath(torch.ones(1), price, price, flat, 0.01 * flat, flat)
    return OrderBatch(torch.zeros(1, LOOKBACK + HORIZON - 1, 1), market)


def test_the_buyback_heuristic_waits_while_the_price_is_dear_and_hurries_once_it_is_cheap():
    buy, minimum = BuybackHeuristic(FREE).schedule(rising_then_falling())[0, BUY_QUANTITY_VWAP], 6
    schedule = buy[minimum - 1]
    assert schedule[:4].tolist() == pytest.approx([1 / HORIZON] * 4, abs=1e-6)  # bar 4 is decided on bar 3's close
    assert schedule[4:6].tolist() == pytest.approx([(1 - 4 / HORIZON) / 2] * 2, abs=1e-6)
    assert schedule[6:].sum() == 0


def test_the_buyback_heuristic_gains_on_driftless_walks_but_less_than_the_optimum():
    walks = random_walks(20_000, HORIZON, 0.01, rng(3))
    orders = OrderBatch(torch.zeros(20_000, 1, 1), walks)
    gains = [
        -settle(strategy.schedule(orders), walks, GRID).slippage_bps[:, 2, 5].mean().item()
        for strategy in (BuybackHeuristic(FREE), OptimalStopping(FREE))
    ]
    assert 5 < gains[0] < gains[1] - 0.5


# --- dynamic VWAP -------------------------------------------------------------------------------------------------


def test_fitting_finds_the_persistence_of_volume():
    windows = orders_with_persistent_volume(4_000, persistence=0.9, noise=0.0).features
    fitted = DynamicVwap.fit(FREE, FEATURES, windows)
    assert fitted.persistence == pytest.approx(0.9, abs=0.02)
    assert fitted.gain == pytest.approx(1.0, abs=0.05)
    noisy = DynamicVwap.fit(FREE, FEATURES, orders_with_persistent_volume(4_000, 0.9, noise=0.7).features)
    assert 0.2 < noisy.gain < 0.8  # a noisy surprise is believed in part


def test_where_volume_persists_a_forecast_that_learns_lowers_the_risk_of_tracking_vwap():
    train, test = (orders_with_persistent_volume(4_000, 0.8, 0.3, seed) for seed in (1, 2))
    dynamic = DynamicVwap.fit(FREE, FEATURES, train.features)
    assert risk(dynamic.schedule(test), test.market) < 0.95 * risk(VolumeCurve(FREE).schedule(test), test.market)


def test_without_persistence_dynamic_vwap_follows_the_season_and_what_has_traded():
    orders = orders_with_persistent_volume(100, 0.8, 0.3)
    schedule = DynamicVwap(FREE, COLUMN, persistence=0.0, gain=0.0).schedule(orders)
    assert schedule[:, 0, 0, 0].tolist() == pytest.approx([1 / HORIZON] * 100, abs=1e-6)


def test_dynamic_vwap_says_which_feature_it_misses():
    with pytest.raises(ValueError, match="needs the feature volume_surprise; there is momentum, spread"):
        DynamicVwap.fit(FREE, ("momentum", "spread"), torch.zeros(1, 5, 2))


# --- static linear ------------------------------------------------------------------------------------------------


def orders_with_a_tilt(orders: int, seed: int) -> OrderBatch:
    """Volume falls to the late or the early bars, as the first feature at arrival says."""
    batch = random_orders(orders, seed)
    tilt = batch.features[:, LOOKBACK - 1, 0, None] * torch.linspace(-1, 1, HORIZON)
    market = replace(batch.market, volume=1000 * tilt.exp(), expected_volume=torch.full((orders, HORIZON), 1000.0))
    return replace(batch, market=market)


def test_the_linear_schedule_learns_where_volume_goes():
    train, test = orders_with_a_tilt(3_000, 1), orders_with_a_tilt(2_000, 90)
    fitted = StaticLinear.fit(FREE, train)
    assert risk(fitted.schedule(test), test.market) < 0.5 * risk(VolumeCurve(FREE).schedule(test), test.market)


def test_a_linear_schedule_that_has_learned_nothing_is_the_volume_curve():
    orders = random_orders(20)
    untaught = StaticLinear(FREE, torch.zeros(3, HORIZON), torch.zeros(HORIZON))
    assert torch.allclose(untaught.schedule(orders), VolumeCurve(FREE).schedule(orders), atol=1e-5)


# --- oracle -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limits", LIMITS.values(), ids=LIMITS.keys())
@given(seed=st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_no_schedule_beats_the_oracle(limits, seed):
    market = random_market(20, seed)
    orders = OrderBatch(torch.zeros(20, 1, 1), market)
    best = settle(Oracle(limits).schedule(orders), market, GRID).slippage_bps
    desired = torch.rand(20, *GRID.shape, HORIZON, generator=rng(seed)).pow(3)
    desired = torch.where(torch.rand(desired.shape, generator=rng(seed + 1)) < 0.2, 1.0, desired)
    other = settle(follow(desired, market, limits), market, GRID).slippage_bps
    assert (best <= other + 0.05).all()  # float32 sums of bps, and a lot


@pytest.mark.parametrize("limits", LIMITS.values(), ids=LIMITS.keys())
@pytest.mark.parametrize("untraded", [0.0, 0.4])
def test_the_oracle_keeps_to_its_limits(limits, untraded):
    orders = random_orders(50, untraded=untraded)
    schedule = Oracle(limits).schedule(orders)
    assert schedule.min() >= 0
    assert schedule.max() <= limits.cap_in_lots
    assert schedule.sum(-1).max() <= 1
    if not untraded:
        remaining = 1 - (schedule.cumsum(-1) - schedule)
        assert torch.equal(schedule.sum(-1), torch.ones(50, *GRID.shape))
        assert (schedule >= remaining.clamp_max(limits.floor_in_lots)).all()


def test_the_oracle_takes_no_more_than_a_bar_can_and_fills_all_it_may():
    orders = random_orders(60, untraded=0.1)
    sized = replace(orders, size=random_size(orders.market, seed=9))
    schedule, taken = Oracle(FREE).schedule(sized), capacity(sized.market, sized.size)
    assert (schedule <= taken).all()
    assert torch.equal(schedule.sum(-1), taken.double().sum(-1).clamp_max(1).float().expand_as(schedule[..., 0]))


# --- shuffled features --------------------------------------------------------------------------------------------


def test_shuffling_moves_what_reads_features_and_leaves_what_does_not():
    orders = random_orders(16)
    model, blind = tiny_lem(), OptimalStopping(FREE)
    assert not torch.equal(ShuffledFeatures(model).schedule(orders), model.schedule(orders))
    assert torch.equal(ShuffledFeatures(blind).schedule(orders), blind.schedule(orders))
    assert ShuffledFeatures(model).name == "LEM, features shuffled"


def test_shuffled_every_order_reads_the_features_of_another():
    class Reads:
        name = "reads"

        def schedule(self, orders: OrderBatch) -> Tensor:
            return orders.features

    for size in (4, 16, 255):
        orders = random_orders(size)
        for seed in range(5):
            shuffled = ShuffledFeatures(Reads(), seed).schedule(orders)
            assert not (shuffled == orders.features).flatten(1).all(1).any()
            assert torch.equal(shuffled.sort(0).values, orders.features.sort(0).values)
