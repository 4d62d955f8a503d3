"""The strategy plays its plan: on walks of its own kind it earns what the plan says, at the dispersion it says."""

from dataclasses import replace

import pytest
import torch
from builders import FREE, GRID, HORIZON, random_market, rng
from torch import Tensor

from lem_models.baselines.optimal_stopping import OptimalStopping
from lem_models.baselines.twap import Twap
from lem_models.execution import finish, settle
from lem_models.orders import SCENARIOS, Benchmark, Limits, MarketPath, OrderBatch, Side, Target
from lem_models.simulation import random_walks
from lem_models.stopping.gaps import BAR_AVERAGES, POINT_PRICES, BarMoves
from lem_models.stopping.plan import plan_for

SIGMA = 1e-3  # so small that the convexity of notional orders cannot be seen
PATHS = 8_000
MOVES = pytest.mark.parametrize("moves", [POINT_PRICES, BAR_AVERAGES], ids=["points", "averages"])


def walks(moves: BarMoves, seed: int, paths: int = PATHS) -> OrderBatch:
    """Driftless walks on which a bar fills as told, each with its reflection; every bar trades the same volume."""
    market = random_walks(paths // 2, HORIZON, SIGMA, rng(seed))
    move = torch.log(market.close / market.last_close)
    own = SIGMA * torch.randn(move.shape, generator=rng(seed + 1)) * (moves.fill_variance - moves.covariance**2) ** 0.5
    price = market.last_close * torch.exp(moves.covariance * move + own)
    both = MarketPath(**{name: torch.cat([values, values]) for name, values in vars(market).items()})
    close, price = (torch.cat([each, 1 / each]) for each in (market.close, price))
    return OrderBatch(torch.zeros(paths, 1, 1), replace(both, close=close, price=price, volume=torch.ones_like(price)))


def gains(schedule: Tensor, orders: OrderBatch) -> Tensor:
    """In σ; (B, S, M)."""
    return -settle(schedule, orders.market, GRID).slippage_bps / (SIGMA * 1e4)


def scenario(side: Side, benchmark: Benchmark, target: Target) -> int:
    return next(i for i, s in enumerate(SCENARIOS) if (s.side, s.benchmark, s.target) == (side, benchmark, target))


BUY = scenario(Side.BUY, Benchmark.TWAP, Target.QUANTITY)
SELL = scenario(Side.SELL, Benchmark.TWAP, Target.QUANTITY)

# --- on driftless walks -------------------------------------------------------------------------------------------


@MOVES
@pytest.mark.parametrize(
    "limits",
    [FREE, Limits(HORIZON, cap=0.2), Limits(HORIZON, cap=0.1), Limits(HORIZON, floor=0.1, cap=0.3)],
    ids=["free", "cap of 0.2", "cap of 0.1", "floor of 0.1"],
)
def test_it_earns_what_its_plan_says_at_the_dispersion_it_says(limits, moves):
    orders = walks(moves, seed=10)
    found = gains(OptimalStopping(limits, moves).schedule(orders), orders)
    plan = plan_for(limits, moves, OptimalStopping.risk_aversion)
    for side in (BUY, SELL):
        mean, spread = found[:, side].mean(0), found[:, side].std(0)
        # Reflected paths share their randomness, so this error is an upper bound for buys and sells alike.
        standard_error = spread / (PATHS / 2) ** 0.5
        assert ((mean - plan.mean).abs() < 3.5 * standard_error + 2e-3).all()
        assert spread == pytest.approx(plan.variance.sqrt(), rel=0.05, abs=3e-3)


@MOVES
def test_all_scenarios_decide_alike_where_every_bar_trades_the_same_volume(moves):
    orders = walks(moves, seed=20, paths=500)
    schedule = OptimalStopping(FREE, moves).schedule(orders)
    for side, like in ((Side.BUY, BUY), (Side.SELL, SELL)):
        for i, other in enumerate(SCENARIOS):
            if other.side is side:
                # A gap that sits on the boundary to the last bit may fall on either side of it.
                agree = (schedule[:, i] - schedule[:, like]).abs().amax(-1) < 1e-3
                assert agree.float().mean() > 0.99


@MOVES
def test_the_schedule_of_least_variance_beats_equal_slices_at_the_same_stopping_rule(moves):
    orders = walks(moves, seed=30)
    ours = OptimalStopping(FREE, moves).schedule(orders)
    finished_at = (ours.cumsum(-1) >= 1).int().argmax(-1, keepdim=True)
    minimum = GRID.minimum_duration[:, None] - 1
    equal = Twap(FREE).schedule(orders).expand_as(ours)
    alike = finish(equal, torch.arange(HORIZON) == torch.maximum(finished_at, minimum))
    found, plain = gains(ours, orders)[:, BUY], gains(alike, orders)[:, BUY]
    difference = found - plain
    assert (difference.mean(0).abs() < 3.5 * difference.std(0) / (PATHS / 2) ** 0.5 + 1e-6).all()
    for minimum_duration in (1, 3, 6, 9):
        assert found[:, minimum_duration - 1].std() < 0.9 * plain[:, minimum_duration - 1].std()


def test_an_order_of_fixed_duration_is_twap():
    orders = OrderBatch(torch.zeros(200, 1, 1), random_market(200, seed=3))
    schedule = OptimalStopping(FREE).schedule(orders)[:, :, -1]
    assert (schedule - 1 / HORIZON).abs().max() < 2e-3


# --- on any market ------------------------------------------------------------------------------------------------


def test_the_two_sides_mirror():
    market = random_market(300, seed=4)
    mirrored = replace(
        market, price=2 * market.arrival[:, None] - market.price, close=2 * market.arrival[:, None] - market.close
    )
    strategy, features = OptimalStopping(Limits(HORIZON, cap=0.2)), torch.zeros(300, 1, 1)
    buys = strategy.schedule(OrderBatch(features, market))[:, :4]
    sells = strategy.schedule(OrderBatch(features, mirrored))[:, 4:]
    agree = (buys - sells).abs().amax(-1) < 1e-3
    assert agree.float().mean() > 0.99


def test_neither_the_currency_nor_the_unit_of_volume_matters():
    market = random_market(300, seed=5)
    other = replace(
        market,
        arrival=64 * market.arrival,
        price=64 * market.price,
        close=64 * market.close,
        volume=market.volume / 32,
    )
    strategy, features = OptimalStopping(FREE), torch.zeros(300, 1, 1)
    assert torch.equal(strategy.schedule(OrderBatch(features, market)), strategy.schedule(OrderBatch(features, other)))


def test_it_finishes_sooner_where_the_gap_is_larger_in_volatilities():
    market = random_market(500, seed=6)
    calmer = replace(market, volatility=market.volatility / 2)
    strategy, features = OptimalStopping(FREE), torch.zeros(500, 1, 1)
    bars = [
        settle(strategy.schedule(OrderBatch(features, each)), market, GRID).completion_bar[:, :, 5]
        for each in (market, calmer)
    ]
    assert (bars[1] <= bars[0]).all()
    assert (bars[1] < bars[0]).float().mean() > 0.1


def test_a_market_without_volatility_and_one_beyond_all_bounds_still_give_schedules():
    market = random_market(50, seed=7)
    for volatility in (0.0, 1e-30, 1e30):
        orders = OrderBatch(torch.zeros(50, 1, 1), replace(market, volatility=torch.full((50, HORIZON), volatility)))
        schedule = OptimalStopping(FREE).schedule(orders)
        assert torch.equal(schedule.sum(-1), torch.ones(50, *GRID.shape))
        assert schedule.min() >= 0
        assert (schedule[:, :, -1] - 1 / HORIZON).abs().max() < 2e-3  # no gap ends an order that may not end


def test_a_plan_is_solved_once():
    assert plan_for(Limits(HORIZON), BAR_AVERAGES, 0.01) is plan_for(Limits(HORIZON), BAR_AVERAGES, 0.01)
