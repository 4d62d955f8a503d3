import math
import re
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from builders import GRID, random_orders
from hypothesis import given
from hypothesis import strategies as st

from lem_models.orders import LOT, SCENARIOS, Benchmark, Limits, OrderGrid, OrderSize, Side, Target

LOTS_PER_ORDER = 2**23


def test_the_scenarios_are_all_combinations_of_side_benchmark_and_target():
    combinations = {(side, benchmark, target) for side in Side for benchmark in Benchmark for target in Target}
    assert {(s.side, s.benchmark, s.target) for s in SCENARIOS} == combinations
    assert len(SCENARIOS) == 8


def test_the_axes_of_the_grid_follow_the_scenarios():
    for index, scenario in enumerate(SCENARIOS):
        assert GRID.side[index].item() == scenario.side.value
        assert GRID.is_vwap[index].item() == (scenario.benchmark is Benchmark.VWAP)
        assert GRID.is_notional[index].item() == (scenario.target is Target.NOTIONAL)
    assert GRID.minimum_duration.tolist() == list(range(1, 13))


def test_an_order_of_one_bar_is_refused():
    with pytest.raises(ValueError, match="horizon is 1; an order needs at least 2 bars"):
        OrderGrid(horizon=1)


@given(st.lists(st.integers(0, LOTS_PER_ORDER), min_size=1, max_size=30), st.randoms(use_true_random=False))
def test_children_in_whole_lots_add_up_exactly_in_any_order_of_summation(cuts, random):
    edges = sorted([0, *cuts, LOTS_PER_ORDER])
    children = [(high - low) * LOT for low, high in pairwise(edges)]
    random.shuffle(children)
    total = torch.tensor(0.0)
    for child in children:
        total = total + torch.tensor(child)
    assert total.item() == 1.0
    assert torch.tensor(children).sum().item() == 1.0


@pytest.mark.parametrize("horizon", [2, 3, 7, 12, 13, 49, 120, 390])
def test_a_cap_of_exactly_one_bar_in_n_still_fills_the_order(horizon):
    limits = Limits(horizon=horizon, cap=1 / horizon)
    assert horizon * limits.cap_in_lots >= 1
    assert 0 <= limits.cap_in_lots - 1 / horizon < LOT


@given(st.floats(1e-3, 1.0), st.floats(0.0, 1.0))
def test_lots_widen_the_cap_and_lower_the_floor_by_less_than_a_lot(cap, share):
    limits = Limits(horizon=math.ceil(1 / cap) + 1, floor=cap * share, cap=cap)
    assert 0 <= limits.cap_in_lots - limits.cap < LOT
    assert 0 <= limits.floor - limits.floor_in_lots < LOT
    assert limits.floor_in_lots <= limits.cap_in_lots


@pytest.mark.parametrize("cap", [0.01, 0.05, 0.08, 0.0833])
def test_an_order_that_cannot_be_filled_is_refused_in_one_sentence(cap):
    with pytest.raises(ValueError) as refusal:
        Limits(horizon=12, cap=cap)
    message = str(refusal.value)
    assert message.startswith(f"12 bars at a cap of {cap:g} fill only")
    assert "\n" not in message
    assert ". " not in message


def refusal(horizon: int, cap: float) -> str:
    with pytest.raises(ValueError) as refused:
        Limits(horizon=horizon, cap=cap)
    return str(refused.value)


@pytest.mark.parametrize("cap", [0.01, 0.05, 0.07, 0.0833])
def test_the_horizon_that_a_refusal_suggests_is_accepted(cap):
    (bars,) = re.findall(r"allow (\d+) bars", refusal(12, cap))
    Limits(horizon=int(bars), cap=cap)


def test_the_cap_that_a_refusal_suggests_is_accepted():
    (cap,) = re.findall(r"raise the cap to (\d\.\d+)", refusal(12, 0.05))
    Limits(horizon=12, cap=float(cap))


@pytest.mark.parametrize(
    ("floor", "cap", "complaint"),
    [
        (0.0, 0.0, "cap is"),
        (0.0, 1.1, "cap is"),
        (0.0, -1.0, "cap is"),
        (-0.1, 1.0, "floor is"),
        (0.3, 0.2, "floor is"),
    ],
)
def test_limits_that_contradict_each_other_are_refused(floor, cap, complaint):
    with pytest.raises(ValueError, match=complaint):
        Limits(horizon=12, floor=floor, cap=cap)


@pytest.mark.parametrize("cap", [0.0, -0.1, 1.1, math.nan])
def test_a_participation_cap_that_is_no_part_of_the_volume_is_refused(cap):
    with pytest.raises(ValueError, match=f"participation_cap is {cap}; it is a part of a bar's volume"):
        OrderSize(torch.ones(3), participation_cap=cap)


@pytest.mark.parametrize("quantity", [-3.0, math.nan, math.inf])
def test_an_order_of_no_finite_number_of_units_is_refused(quantity):
    with pytest.raises(ValueError, match=f"quantity holds {quantity:g}; an order trades a finite number of units"):
        OrderSize(torch.tensor([1.0, quantity]))


def test_orders_are_sized_by_the_volume_that_a_day_lets_expect_and_by_nothing_that_happens():
    market = random_orders(5).market
    size = OrderSize.of_daily_volume(market, 0.05, bars_per_day=24, participation_cap=0.1)
    assert size.participation_cap == 0.1
    expected = [0.05 * 24 * sum(bars) / len(bars) for bars in market.expected_volume.tolist()]
    assert size.quantity.tolist() == pytest.approx(expected)
    happened = replace(market, volume=market.volume * 7, price=market.price * 2, close=market.close * 3)
    assert torch.equal(OrderSize.of_daily_volume(happened, 0.05, 24).quantity, size.quantity)


def test_the_last_close_of_a_bar_is_the_close_of_the_bar_before():
    market = random_orders(3).market
    assert torch.equal(market.last_close[:, 0], market.arrival)
    assert torch.equal(market.last_close[:, 1:], market.close[:, :-1])


def test_a_batch_moved_to_a_device_keeps_every_number():
    orders = random_orders(3)
    moved = orders.to("cpu")
    assert len(moved) == len(moved.market) == 3
    assert moved.size is None
    assert torch.equal(moved.features, orders.features)
    for name, values in vars(orders.market).items():
        assert torch.equal(getattr(moved.market, name), values)
    sized = replace(orders, size=OrderSize(torch.tensor([1.0, 2.0, 3.0]), participation_cap=0.3)).to("cpu")
    assert sized.size is not None
    assert sized.size.quantity.tolist() == [1, 2, 3]
    assert sized.size.participation_cap == 0.3
