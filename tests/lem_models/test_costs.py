import math
from dataclasses import replace
from itertools import product

import pytest
import torch
from builders import GRID, HORIZON, random_market, random_size, rng, wild_markets
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lem_models.costs import CostModel, order_costs
from lem_models.fills import follow
from lem_models.orders import SCENARIOS, Limits, MarketPath, OrderSize, Target

HOURLY = CostModel(bars_per_day=24, half_spread_bps=1.5, fee_bps=0.7, impact_coefficient=0.8, impact_exponent=0.489)
FREE_OF_CHARGE = CostModel(bars_per_day=24, impact_coefficient=0)
EXPONENTS = pytest.mark.parametrize("exponent", [0.489, 0.5, 1.0])


def schedules(market: MarketPath, seed: int) -> Tensor:
    """Some filled, some not; none of two scenarios alike."""
    desired = torch.rand((len(market), *GRID.shape, HORIZON), generator=rng(seed)) ** 3
    return follow(desired, market, Limits(HORIZON), random_size(market, seed + 1))


def of_a_day(market: MarketPath, fraction: float) -> OrderSize:
    return OrderSize.of_daily_volume(market, fraction, HOURLY.bars_per_day)


def steady(volatility: float = 0.01) -> MarketPath:
    """Nothing happens: prices, volume and volatility stay."""
    flat = torch.ones(1, HORIZON)
    return MarketPath(torch.ones(1), flat, flat, 1000 * flat, volatility * flat, 1000 * flat)


def equal_slices(bars: int) -> Tensor:
    return ((torch.arange(HORIZON) < bars) / bars).expand(1, *GRID.shape, -1)


# --- against a plain loop -----------------------------------------------------------------------------------------


def plain_impact_bps(
    fractions: list[float], market: MarketPath, size: OrderSize, order: int, scenario: int, day: float
) -> float:
    """Model specification, section 3, for one order in plain Python."""
    total = filled = 0.0
    for bar, fraction in enumerate(fractions):
        if fraction > 0:
            units = fraction * size.quantity[order].item()
            if SCENARIOS[scenario].target is Target.NOTIONAL:
                units *= market.arrival[order].item() / market.price[order, bar].item()
            daily_volatility = market.volatility[order, bar].item() * math.sqrt(24)
            impact = 0.8 * daily_volatility * (units / day) ** 0.489
            total += fraction * impact * 1e4
            filled += fraction
    return total / filled if filled else 0.0


@pytest.mark.parametrize("given_day", [False, True])
def test_impact_equals_a_plain_loop_over_every_order(given_day):
    market = random_market(5, seed=1, untraded=0.3)
    size, schedule = random_size(market, seed=2), schedules(market, seed=3)
    daily_volume = torch.tensor([500.0, 3e4, 2e5, 1e6, 7e4]) if given_day else None
    costs = order_costs(schedule, market, size, HOURLY, daily_volume)
    for order, s, m in product(range(5), range(len(SCENARIOS)), range(HORIZON)):
        expected_volume = market.expected_volume[order].tolist()
        day = daily_volume[order].item() if given_day else 24 * sum(expected_volume) / HORIZON
        expected = plain_impact_bps(schedule[order, s, m].tolist(), market, size, order, s, day)
        assert costs.impact_bps[order, s, m].item() == pytest.approx(expected, rel=1e-4, abs=1e-6), (order, s, m)


def test_a_tenth_of_the_daily_volume_in_one_child_moves_the_price_by_a_third_of_the_daily_volatility():
    market = steady(volatility=0.01)
    model = CostModel(bars_per_day=24)
    impact = order_costs(equal_slices(1), market, of_a_day(market, 0.1), model).impact_bps
    assert impact.flatten().tolist() == pytest.approx([100 * math.sqrt(24) * math.sqrt(0.1)] * 96, rel=1e-5)


def test_spread_and_fee_are_charged_on_what_was_filled_and_the_total_is_the_sum():
    market = random_market(30, seed=4, untraded=0.3)
    market.volume[:5] = 0
    schedule = schedules(market, seed=5)
    costs = order_costs(schedule, market, random_size(market, seed=6), HOURLY)
    filled = schedule.sum(-1) > 0
    assert (costs.half_spread_bps[filled] == 1.5).all() and (costs.half_spread_bps[~filled] == 0).all()
    assert costs.fee_bps[filled].allclose(torch.tensor(0.7)) and (costs.fee_bps[~filled] == 0).all()
    assert torch.equal(costs.total_bps, costs.half_spread_bps + costs.fee_bps + costs.impact_bps)
    assert (~filled).any() and (costs.total_bps[~filled] == 0).all()
    assert (costs.total_bps[filled] > 2.2).all()


# --- what must hold for every order -------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(wild_markets(with_untraded_bars=True), st.integers(0, 2**31), st.floats(-8, 3), st.floats(0.01, 1.0))
def test_a_cost_is_a_cost_for_every_order_on_every_market(market, seed, size, exponent):
    model = replace(HOURLY, impact_exponent=exponent)
    costs = order_costs(schedules(market, seed), market, of_a_day(market, 10**size), model)
    for name, values in vars(costs).items():
        assert values.dtype == torch.float32
        assert torch.isfinite(values).all(), name
        assert (values >= 0).all(), name


def test_a_model_that_charges_nothing_charges_nothing():
    market = random_market(10, seed=7)
    costs = order_costs(schedules(market, seed=8), market, random_size(market, seed=9), FREE_OF_CHARGE)
    assert (costs.total_bps == 0).all()


def test_buying_and_selling_cost_the_same():
    market = random_market(10, seed=10)
    one = schedules(market, seed=11)[:, :4]
    costs = order_costs(torch.cat([one, one], dim=1), market, random_size(market, seed=12), HOURLY).total_bps
    assert torch.equal(costs[:, :4], costs[:, 4:])


def test_quantity_and_notional_orders_cost_the_same_at_the_arrival_price():
    market = random_market(10, seed=13)
    flat = replace(market, price=market.arrival[:, None].expand(-1, HORIZON))
    one = schedules(flat, seed=14)[:, :1]
    costs = order_costs(one.expand(-1, 8, -1, -1), flat, random_size(market, seed=15), HOURLY).total_bps
    assert torch.equal(costs, costs[:, :1].expand_as(costs))


@EXPONENTS
def test_impact_grows_with_size_to_the_exponent(exponent):
    market = random_market(10, seed=16)
    schedule, model = schedules(market, seed=17), replace(HOURLY, impact_exponent=exponent)
    impact = [order_costs(schedule, market, of_a_day(market, size), model).impact_bps for size in (0.01, 0.02, 0.03)]
    assert torch.allclose(impact[1], 2**exponent * impact[0], rtol=1e-5)
    rise = [impact[1] - impact[0], impact[2] - impact[1]]
    assert (rise[1] > 0).any() and (rise[1] <= rise[0] * (1 + 1e-3)).all()


@EXPONENTS
def test_an_order_in_equal_children_pays_less_the_more_they_are(exponent):
    market, model = steady(), replace(HOURLY, impact_exponent=exponent)
    size = of_a_day(market, 0.05)
    whole = order_costs(equal_slices(1), market, size, model).impact_bps
    for bars in range(2, HORIZON + 1):
        split = order_costs(equal_slices(bars), market, size, model).impact_bps
        assert torch.allclose(split, whole / bars**exponent, rtol=1e-5)


@pytest.mark.parametrize("other", [0.25, 4.0])
def test_neither_the_unit_of_volume_nor_the_currency_matters(other):
    market = random_market(10, seed=18)
    schedule, size = schedules(market, seed=19), random_size(market, seed=20)
    rescaled = replace(
        market,
        volume=other * market.volume,
        expected_volume=other * market.expected_volume,
        arrival=market.arrival / other,
        price=market.price / other,
    )
    costs = order_costs(schedule, market, size, HOURLY).total_bps
    same = order_costs(schedule, rescaled, OrderSize(other * size.quantity), HOURLY).total_bps
    assert torch.allclose(costs, same, rtol=1e-6)


def test_the_cost_of_a_schedule_knows_nothing_of_what_the_market_did_but_the_prices_of_notional_orders():
    market = random_market(10, seed=21)
    schedule, size = schedules(market, seed=22), random_size(market, seed=23)
    costs = order_costs(schedule, market, size, HOURLY).total_bps
    happened = replace(market, volume=7 * market.volume, close=3 * market.close)
    assert torch.equal(order_costs(schedule, happened, size, HOURLY).total_bps, costs)
    dearer = order_costs(schedule, replace(market, price=2 * market.price), size, HOURLY).total_bps
    quantity = ~GRID.is_notional[:, 0, 0]
    assert torch.equal(dearer[:, quantity], costs[:, quantity])
    some = schedule[:, ~quantity].sum(-1) > 0
    assert (dearer[:, ~quantity] < costs[:, ~quantity])[some].all()  # fewer units for the same notional


def test_an_order_where_no_volume_is_expected_leaves_the_others_as_they_were():
    market = random_market(4, seed=24)
    schedule, size = schedules(market, seed=25), random_size(market, seed=26)
    costs = order_costs(schedule, market, size, HOURLY).total_bps
    expected = market.expected_volume.clone()
    expected[3] = 0
    other = order_costs(schedule, replace(market, expected_volume=expected), size, HOURLY).total_bps
    assert torch.equal(other[:3], costs[:3])
    assert torch.isfinite(other).all()
    assert (other[3] > 1000 * costs[3]).all()


def test_costs_have_a_gradient_even_where_nothing_is_filled():
    market = random_market(2, seed=27)
    size = random_size(market, seed=28)
    schedule = torch.rand((2, *GRID.shape, HORIZON), generator=rng(29), dtype=torch.float64) / HORIZON
    schedule[..., 3:6] = 0
    schedule.requires_grad_()
    order_costs(schedule, market, size, HOURLY).total_bps.sum().backward()
    gradient = schedule.grad
    assert torch.isfinite(gradient).all()
    step = torch.zeros_like(schedule)
    step[..., 7] = 1e-6
    with torch.no_grad():
        above, below = (
            order_costs(schedule + sign * step, market, size, HOURLY).total_bps.double() for sign in (1, -1)
        )
    assert torch.allclose((above - below) / 2e-6, gradient[..., 7], rtol=1e-4, atol=1e-6)


# --- participation ------------------------------------------------------------------------------------------------


def test_participation_equals_a_plain_loop_over_every_order():
    market = random_market(5, seed=30, untraded=0.3)
    market.volume[0] = 0  # nothing of this order fills
    size, schedule = random_size(market, seed=31), schedules(market, seed=32)
    costs = order_costs(schedule, market, size, HOURLY)
    for order, s, m in product(range(5), range(len(SCENARIOS)), range(HORIZON)):
        rates = []
        for bar, fraction in enumerate(schedule[order, s, m].tolist()):
            if fraction > 0:
                units = fraction * size.quantity[order].item()
                if SCENARIOS[s].target is Target.NOTIONAL:
                    units *= market.arrival[order].item() / market.price[order, bar].item()
                rates.append(units / market.volume[order, bar].item())
        largest, mean = costs.largest_participation[order, s, m], costs.mean_participation[order, s, m]
        assert largest.item() == pytest.approx(max(rates, default=0.0), rel=1e-5), (order, s, m)
        assert mean.item() == pytest.approx(sum(rates) / max(len(rates), 1), rel=1e-5), (order, s, m)


@pytest.mark.parametrize("cap", [0.01, 0.1])
def test_no_child_order_is_more_of_its_bar_than_the_participation_cap(cap):
    market = random_market(30, seed=33)
    size = OrderSize.of_daily_volume(market, 0.2, HOURLY.bars_per_day, participation_cap=cap)
    schedule = follow(torch.full((30, *GRID.shape, HORIZON), 0.5), market, Limits(HORIZON), size)
    costs = order_costs(schedule, market, size, HOURLY)
    assert (costs.largest_participation <= cap * (1 + 1e-5)).all()
    assert (costs.largest_participation > 0.99 * cap).any()
    assert (costs.mean_participation <= costs.largest_participation * (1 + 1e-6)).all()


def test_twice_the_order_is_twice_the_participation():
    market = random_market(10, seed=34)
    schedule = schedules(market, seed=35)
    small, large = (order_costs(schedule, market, of_a_day(market, size), HOURLY) for size in (0.01, 0.02))
    assert torch.allclose(large.largest_participation, 2 * small.largest_participation, rtol=1e-5)
    assert torch.allclose(large.mean_participation, 2 * small.mean_participation, rtol=1e-5)


# --- settings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ({"half_spread_bps": -0.1}, "half_spread_bps is -0.1; a cost is a finite number that is not negative"),
        ({"fee_bps": math.nan}, "fee_bps is nan; a cost is"),
        ({"impact_coefficient": math.inf}, "impact_coefficient is inf; a cost is"),
        ({"impact_exponent": 0.0}, "impact_exponent is 0.0; impact grows with size"),
        ({"impact_exponent": 1.5}, "impact_exponent is 1.5; impact grows with size"),
        ({"bars_per_day": 0}, "bars_per_day is 0; a day has a positive number of bars"),
        ({"bars_per_day": math.inf}, "bars_per_day is inf; a day has"),
    ],
)
def test_costs_that_are_none_are_refused_in_one_sentence(setting, complaint):
    with pytest.raises(ValueError) as refusal:
        CostModel(**{"bars_per_day": 24, **setting})
    assert str(refusal.value).startswith(complaint)
    assert "\n" not in str(refusal.value)
