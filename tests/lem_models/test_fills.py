import math
from dataclasses import replace
from itertools import product

import pytest
import torch
from builders import FREE, GRID, HORIZON, LIMITS, random_market, random_size, sizes, wild_markets
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lem_models.curves import equal_shares
from lem_models.execution import settle
from lem_models.fills import OpenOrder, capacity, execute, feasible_bounds, fill, follow, whole_lots
from lem_models.orders import LOT, SCENARIOS, Limits, MarketPath, OrderSize, Target

EVERY_LIMIT = pytest.mark.parametrize("limits", LIMITS.values(), ids=LIMITS.keys())
EVERYTHING = torch.ones(1, *GRID.shape, HORIZON)


# --- feasible by construction -------------------------------------------------------------------------------------


@st.composite
def fillable(draw: st.DrawFn) -> tuple[Limits, int]:
    """Any horizon with limits that can fill the order, tight ones often."""
    horizon = draw(st.integers(2, 60))
    cap = draw(st.one_of(st.just(1 / horizon), st.floats(1 / horizon, 1.0)))
    floor = cap * draw(st.one_of(st.just(0.0), st.just(1.0), st.floats(0.0, 1.0)))
    return Limits(horizon=horizon, floor=floor, cap=cap), horizon


@given(fillable(), st.lists(st.floats(0, 1), min_size=60, max_size=60))
def test_whatever_is_chosen_within_the_bounds_the_order_stays_fillable(limits_and_horizon, choices):
    limits, horizon = limits_and_horizon
    remaining = torch.tensor(1.0)
    for step in range(horizon):
        lo, hi = feasible_bounds(remaining, horizon - step, limits)
        assert 0 <= lo <= hi <= limits.cap_in_lots
        assert hi <= remaining
        assert lo >= min(remaining.item(), limits.floor_in_lots)
        assert lo % LOT == 0
        assert hi % LOT == 0
        child = whole_lots(lo + (hi - lo) * choices[step], lo, hi)
        assert lo <= child <= hi
        remaining = remaining - child
        assert remaining <= (horizon - step - 1) * limits.cap_in_lots
    assert remaining == 0


@given(fillable(), st.floats(0, 1))
def test_finishing_is_within_the_bounds_as_soon_as_the_cap_allows(limits_and_horizon, share):
    limits, horizon = limits_and_horizon
    remaining = torch.tensor(math.floor(share * limits.cap_in_lots / LOT) * LOT)
    for bars_left in range(1, horizon + 1):
        _, hi = feasible_bounds(remaining, bars_left, limits)
        assert hi == remaining


def test_the_bounds_are_the_formulas_of_the_specification():
    limits = Limits(horizon=12, floor=0.0625, cap=0.25)
    for remaining, bars_left, lo, hi in [
        (1.0, 12, 0.0625, 0.25),
        (1.0, 4, 0.25, 0.25),
        (0.875, 4, 0.125, 0.25),
        (0.03125, 3, 0.03125, 0.03125),
        (0.25, 1, 0.25, 0.25),
        (0.0, 5, 0.0, 0.0),
    ]:
        assert feasible_bounds(torch.tensor(remaining), bars_left, limits) == (lo, hi)


def test_rounding_to_lots_passes_the_gradient_through_and_none_beyond_the_bounds():
    fraction = torch.tensor([-0.2, 0.123456789, 0.9], requires_grad=True)
    children = whole_lots(fraction, torch.tensor(0.0), torch.tensor(0.5))
    assert children.tolist() == [0.0, math.floor(0.123456789 / LOT) * LOT, 0.5]
    children.sum().backward()
    assert fraction.grad.tolist() == [0.0, 1.0, 0.0]


@settings(max_examples=60, deadline=None)
@given(
    wild_markets(),
    st.lists(st.floats(-1e6, 1e6), min_size=HORIZON, max_size=HORIZON),
    st.sampled_from(sorted(LIMITS)),
    st.permutations(range(HORIZON)),
)
def test_any_desire_becomes_a_schedule_that_adds_up_exactly(market, desired, name, summation):
    limits = LIMITS[name]
    schedule = follow(torch.tensor(desired)[None, None, None], market, limits)
    assert schedule.min() >= 0
    assert schedule.max() <= limits.cap_in_lots
    assert schedule.sum() == 1
    assert schedule[..., list(summation)].cumsum(-1)[..., -1] == 1


# --- bars without trades ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("untraded", [range(0, 3), range(4, 8), range(9, 12), [0, 5, 11]])
@EVERY_LIMIT
def test_nothing_fills_in_a_bar_without_trades_and_what_stays_open_is_reported(untraded, limits):
    market = random_market(6, seed=10)
    volume = market.volume.clone()
    volume[:, list(untraded)] = 0
    market = replace(market, volume=volume)
    schedule = follow(torch.full((6, *GRID.shape, HORIZON), 1 / 3), market, limits)
    assert (schedule[..., list(untraded)] == 0).all()
    assert schedule.max() <= limits.cap_in_lots
    results = settle(schedule, market, GRID)
    assert torch.equal(results.filled_fraction, schedule.sum(-1))
    assert (results.filled_fraction <= 1).all()
    within_reach = min(1.0, (HORIZON - len(list(untraded))) * limits.cap_in_lots)
    if 11 not in untraded:
        assert (results.filled_fraction == within_reach).all()
    assert all(torch.isfinite(values).all() for values in vars(results).values())


# --- what a bar can take ------------------------------------------------------------------------------------------


def plain_capacity(market: MarketPath, size: OrderSize, order: int, scenario: int, bar: int) -> float:
    """Before rounding to lots, in plain Python."""
    volume, price = market.volume[order, bar].item(), market.price[order, bar].item()
    if volume == 0:
        return 0.0
    units = size.quantity[order].item()
    if SCENARIOS[scenario].target is Target.NOTIONAL:
        units *= market.arrival[order].item() / price
    return min(1.0, size.participation_cap * volume / units)


def test_a_bar_takes_its_part_of_the_volume_over_the_order_in_whole_lots_rounded_down():
    market = random_market(20, seed=1, untraded=0.2)
    size = random_size(market, seed=2)
    taken = capacity(market, size)
    for order, scenario, bar in product(range(20), range(8), range(HORIZON)):
        room = plain_capacity(market, size, order, scenario, bar)
        found = taken[order, scenario, 0, bar].item()
        assert found % LOT == 0
        assert room - LOT < found <= room * (1 + 1e-12)
    assert (taken[(market.volume > 0)[:, None, None].expand_as(taken)] < 1).any()
    assert (taken == 1).any()


def test_orders_without_a_size_and_orders_of_nothing_are_limited_by_no_volume():
    market = random_market(20, seed=1, untraded=0.2)
    traded = (market.volume > 0).float()[:, None, None]
    assert torch.equal(capacity(market), traded)
    nothing = capacity(market, OrderSize(torch.zeros(20), participation_cap=0.1))
    assert torch.equal(nothing, traded.expand_as(nothing))


def test_quantity_and_notional_orders_find_the_same_room_at_the_arrival_price():
    market = random_market(10, seed=1)
    flat = replace(market, price=market.arrival[:, None].expand(-1, HORIZON))
    taken = capacity(flat, random_size(market, seed=2))
    assert torch.equal(taken, taken[:, :1].expand_as(taken))


def test_what_a_bar_does_not_take_has_no_gradient_and_what_it_takes_has_all():
    child = torch.tensor([0.0, 0.1, 0.3, 0.0, 0.3], requires_grad=True)
    filled = fill(child, torch.tensor([1.0, 0.25, 0.25, 0.0, 0.0]))
    assert filled.tolist() == pytest.approx([0.0, 0.1, 0.25, 0.0, 0.0])
    filled.sum().backward()
    assert child.grad.tolist() == [1, 1, 0, 0, 0]


# --- orders of a size ---------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(
    st.data(),
    wild_markets(with_untraded_bars=True),
    st.lists(st.floats(-1e6, 1e6), min_size=HORIZON, max_size=HORIZON),
    st.sampled_from(sorted(LIMITS)),
)
def test_whatever_is_desired_a_bar_takes_its_capacity_and_no_order_more_than_itself(data, market, desired, name):
    limits, size = LIMITS[name], data.draw(sizes(market))
    schedule = follow(torch.tensor(desired).expand_as(EVERYTHING), market, limits, size)
    taken = capacity(market, size)
    assert schedule.dtype == torch.float32
    assert schedule.min() >= 0
    assert (schedule <= taken.clamp_max(limits.cap_in_lots)).all()
    assert (schedule % LOT == 0).all()
    filled = schedule.sum(-1)
    assert (filled <= 1).all()
    # The last bar is asked for all that is left, so only what it cannot take stays open.
    at_last = taken.clamp_max(limits.cap_in_lots).expand_as(schedule)[..., -1]
    assert torch.equal(schedule[..., -1], torch.minimum(1 - schedule[..., :-1].sum(-1), at_last))
    assert all(torch.isfinite(values).all() for values in vars(settle(schedule, market, GRID)).values())


@settings(max_examples=60, deadline=None)
@given(st.data(), wild_markets(with_untraded_bars=True), st.sampled_from(sorted(LIMITS)))
def test_an_order_that_always_asks_for_all_is_filled_exactly_as_far_as_the_market_goes(data, market, name):
    limits, size = LIMITS[name], data.draw(sizes(market))
    filled = follow(EVERYTHING, market, limits, size).sum(-1)
    within_reach = capacity(market, size).clamp_max(limits.cap_in_lots).sum(-1).clamp_max(1)
    assert torch.equal(filled, within_reach.expand_as(filled))


def test_what_a_bar_does_not_take_is_traded_later():
    market = replace(random_market(1), volume=torch.tensor([[50.0, 0.0, 10.0] + [1000.0] * 9]))
    size = OrderSize(torch.tensor([1000.0]), participation_cap=0.5)
    schedule = follow(equal_shares(market).expand_as(EVERYTHING), market, FREE, size)[0, 0, 0]
    assert str(SCENARIOS[0]) == "buy quantity against VWAP"
    assert schedule[:3].tolist() == pytest.approx([0.025, 0.0, 0.005], abs=LOT)
    assert schedule[3:].tolist() == pytest.approx([0.97 / 9] * 9, abs=16 * LOT)
    assert schedule.sum() == 1


def test_an_order_not_filled_within_its_horizon_says_so_and_is_measured_on_what_was():
    market = random_market(30, seed=3)
    size = OrderSize(market.volume.sum(1), participation_cap=0.1)
    results = settle(follow(EVERYTHING.expand(30, -1, -1, -1), market, FREE, size), market, GRID)
    quantity = ~GRID.is_notional[:, 0, 0]
    assert (results.filled_fraction[:, quantity] - 0.1).abs().max() < HORIZON * LOT
    assert (results.completion_bar == HORIZON).all()
    # It traded a tenth of every bar: what it paid is the market's VWAP.
    against_vwap = (GRID.is_vwap & ~GRID.is_notional)[:, 0, 0]
    assert results.slippage_bps[:, against_vwap].abs().max() < 0.05
    assert results.slippage_bps[:, ~against_vwap].abs().max() > 1


def test_both_sides_are_filled_alike():
    market = random_market(20, seed=4, untraded=0.1)
    schedule = follow(EVERYTHING.expand(20, -1, -1, -1) / 4, market, FREE, random_size(market, seed=5))
    assert torch.equal(schedule[:, :4], schedule[:, 4:])


def test_a_decision_knows_the_fills_so_far_and_nothing_else_moves_them():
    market = random_market(6, seed=6, untraded=0.1)
    size, seen = random_size(market, seed=7), list[OpenOrder]()

    def decide(step: int, order: OpenOrder) -> Tensor:
        seen.append(order)
        return whole_lots(order.remaining / 2, torch.tensor(0.0), order.remaining)

    schedule = execute(decide, OpenOrder.untouched(torch.empty(6, *GRID.shape)), market, size)
    price = torch.where(market.volume > 0, market.price / market.arrival[:, None], 1.0)[:, None, None]
    gain = torch.where(GRID.is_notional, 1 / price - 1, price - 1)  # (B, S, 1, H)
    for step, order in enumerate(seen):
        assert torch.equal(order.remaining, 1 - schedule[..., :step].sum(-1))
        assert torch.allclose(order.sums, (schedule * gain)[..., :step].sum(-1), atol=1e-6)
