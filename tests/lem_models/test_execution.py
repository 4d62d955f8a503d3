import math
from dataclasses import replace
from itertools import product

import pytest
import torch
from builders import FREE, GRID, HORIZON, random_market, rng, wild_markets
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lem_models.execution import (
    RunningMarket,
    benchmark_on_finish,
    expected_slippage,
    finish,
    settle,
    slippage_bps,
)
from lem_models.fills import follow
from lem_models.orders import SCENARIOS, Benchmark, MarketPath, Scenario, Target

TOLERANCE_BPS = 0.01


def slices(*fractions: float) -> Tensor:
    """One schedule for every order of the grid, in a batch of one."""
    return torch.tensor(fractions).expand(1, *GRID.shape, HORIZON)


def random_schedules(market: MarketPath, seed: int) -> Tensor:
    """Schedules of every shape: some finish early, some skip bars, some stay unfinished; none fill without trades."""
    draw = rng(seed)
    shape = (len(market), *GRID.shape, HORIZON)
    weight = torch.rand(shape, generator=draw, dtype=torch.float64)
    weight = weight * (torch.rand(shape, generator=draw) < 0.7)
    last = torch.randint(1, HORIZON + 1, shape[:-1], generator=draw)[..., None]
    weight = weight * (torch.arange(HORIZON) < last) * (market.volume > 0)[:, None, None]
    total = weight.sum(-1, keepdim=True)
    filled = torch.where(torch.rand(shape[:-1], generator=draw) < 0.2, 0.6, 1.0)[..., None]
    return torch.where(total > 0, weight / total * filled, 0.0).float()


# --- an independent definition of cost, in plain Python and float64 -----------------------------------------------


def plain_benchmark(price: list[float], volume: list[float], kind: Benchmark, bars: int, arrival: float) -> float:
    traded = [(p, v) for p, v in zip(price[:bars], volume[:bars], strict=True) if v > 0]
    if not traded:
        return arrival
    if kind is Benchmark.TWAP:
        return sum(p for p, _ in traded) / len(traded)
    return sum(p * v for p, v in traded) / sum(v for _, v in traded)


def plain_settlement(
    fractions: list[float], scenario: Scenario, minimum_duration: int, market: MarketPath, order: int
) -> dict[str, float]:
    """Model specification, section 3, for one order."""
    price, volume = market.price[order].tolist(), market.volume[order].tolist()
    arrival = market.arrival[order].item()
    fills = [(bar, a, price[bar - 1]) for bar, a in enumerate(fractions, start=1) if a > 0]
    filled = sum(a for _, a, _ in fills)
    if not fills:
        average = arrival
    elif scenario.target is Target.QUANTITY:
        average = sum(a * p for _, a, p in fills) / filled
    else:
        average = filled / sum(a / p for _, a, p in fills)
    completion = max([minimum_duration, *(bar for bar, _, _ in fills)])
    if filled < 1 - 1e-5:  # an order that could not be filled is open until its horizon ends
        completion = HORIZON

    def cost(benchmark: float) -> float:
        return scenario.side.value * (average / benchmark - 1) * 1e4

    return {
        "slippage_bps": cost(plain_benchmark(price, volume, scenario.benchmark, completion, arrival)),
        "fixed_window_slippage_bps": cost(plain_benchmark(price, volume, scenario.benchmark, HORIZON, arrival)),
        "arrival_slippage_bps": cost(arrival),
        "completion_bar": completion,
        "filled_fraction": filled,
    }


@pytest.mark.parametrize("untraded", [0.0, 0.3, 0.9])
def test_settlement_equals_a_plain_loop_over_every_order(untraded):
    market = random_market(5, seed=3, untraded=untraded)
    schedule = random_schedules(market, seed=4)
    results = settle(schedule, market, GRID)
    for order, s, m in product(range(5), range(len(SCENARIOS)), range(HORIZON)):
        expected = plain_settlement(schedule[order, s, m].tolist(), SCENARIOS[s], m + 1, market, order)
        for name, value in expected.items():
            tolerance = 1e-6 if name == "filled_fraction" else TOLERANCE_BPS
            assert getattr(results, name)[order, s, m].item() == pytest.approx(value, abs=tolerance), (name, s, m)


# --- yardsticks whose answer is known -----------------------------------------------------------------------------


def test_equal_slices_cost_nothing_against_twap():
    market = random_market(200, seed=1)
    results = settle(torch.full((200, *GRID.shape, HORIZON), 1 / HORIZON), market, GRID)
    is_twap_quantity = ~(GRID.is_vwap | GRID.is_notional)[:, 0, 0]
    assert results.slippage_bps[:, is_twap_quantity].abs().max() < TOLERANCE_BPS
    assert results.slippage_bps[:, ~is_twap_quantity].abs().max() > 1
    assert (results.completion_bar == HORIZON).all()


def test_slices_in_proportion_to_volume_cost_nothing_against_vwap():
    market = random_market(200, seed=1, untraded=0.2)
    share = market.volume / market.volume.sum(1, keepdim=True)
    results = settle(share[:, None, None].expand(200, *GRID.shape, HORIZON), market, GRID)
    is_vwap_quantity = (GRID.is_vwap & ~GRID.is_notional)[:, 0, 0]
    assert results.slippage_bps[:, is_vwap_quantity].abs().max() < TOLERANCE_BPS
    assert results.slippage_bps[:, ~is_vwap_quantity].abs().max() > 1


def test_selling_costs_what_buying_earns():
    market = random_market(20, seed=2, untraded=0.1)
    buys = random_schedules(market, seed=5)[:, :4]
    results = settle(torch.cat([buys, buys], dim=1), market, GRID)
    for cost in (results.slippage_bps, results.fixed_window_slippage_bps, results.arrival_slippage_bps):
        assert torch.equal(cost[:, :4], -cost[:, 4:])
        assert cost.abs().max() > 1


def test_quantity_and_notional_orders_cost_nothing_where_the_price_never_moves():
    market = random_market(10, seed=2)
    flat = replace(market, price=1.3 * market.arrival[:, None].expand(-1, HORIZON))
    results = settle(random_schedules(flat, seed=6), flat, GRID)
    assert results.slippage_bps[results.filled_fraction > 0].abs().max() < TOLERANCE_BPS
    assert results.arrival_slippage_bps[results.filled_fraction > 0].abs().sub(3000).abs().max() < 0.1


def test_a_quantity_order_pays_the_arithmetic_mean_and_a_notional_order_the_harmonic():
    market = random_market(1)
    prices = torch.tensor([[80.0, 125.0] + [100.0] * 10])
    market = replace(market, arrival=torch.tensor([100.0]), price=prices)
    results = settle(slices(0.5, 0.5, *[0.0] * 10), market, GRID)
    for index, scenario in enumerate(SCENARIOS):
        average = 102.5 if scenario.target is Target.QUANTITY else 1 / (0.5 / 80 + 0.5 / 125)
        expected = scenario.side.value * (average / 100 - 1) * 1e4
        assert results.arrival_slippage_bps[0, index, 0].item() == pytest.approx(expected, abs=TOLERANCE_BPS)


@pytest.mark.parametrize("bar", range(1, HORIZON + 1))
def test_an_order_completes_with_its_last_fill_but_not_before_its_minimum_duration(bar):
    children = [0.0] * HORIZON
    children[bar - 1] = 1.0
    completion = settle(slices(*children), random_market(1), GRID).completion_bar[0]
    for m in range(1, HORIZON + 1):
        assert (completion[:, m - 1] == max(bar, m)).all()


def test_the_realised_benchmark_ends_with_the_order_and_the_fixed_one_with_the_horizon():
    market = random_market(1)
    prices = torch.tensor([[100.0, 110.0, 120.0] + [200.0] * 9])
    market = replace(market, arrival=torch.tensor([100.0]), price=prices, volume=torch.ones(1, HORIZON))
    results = settle(slices(0.0, 1.0, *[0.0] * 10), market, GRID)
    buy_quantity_against_twap = 2
    assert str(SCENARIOS[buy_quantity_against_twap]) == "buy quantity against TWAP"
    realised = results.slippage_bps[0, buy_quantity_against_twap]
    for m, benchmark in [(1, 105.0), (2, 105.0), (3, 110.0), (12, 2130 / 12)]:
        assert realised[m - 1].item() == pytest.approx((110 / benchmark - 1) * 1e4, abs=TOLERANCE_BPS)
    fixed = results.fixed_window_slippage_bps[0, buy_quantity_against_twap]
    assert fixed.tolist() == pytest.approx([(110 / (2130 / 12) - 1) * 1e4] * HORIZON, abs=TOLERANCE_BPS)


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_a_cost_is_positive_where_the_order_did_worse(side):
    worse = torch.tensor(100.0 + side)
    cost = slippage_bps(torch.tensor(side), worse, torch.tensor(100.0))
    assert cost.item() == pytest.approx(100, abs=TOLERANCE_BPS)


# --- bars without trades ------------------------------------------------------------------------------------------


def test_a_bar_without_trades_counts_in_no_benchmark_whatever_its_price():
    market = random_market(20, seed=7, untraded=0.4)
    running = RunningMarket.of(market)
    for unknown in (math.nan, math.inf, 0.0, 1e30):
        priced = replace(market, price=torch.where(market.volume > 0, market.price, unknown))
        other = RunningMarket.of(priced)
        assert torch.equal(running.vwap, other.vwap)
        assert torch.equal(running.twap, other.twap)


def test_orders_that_nothing_could_fill_cost_nothing_and_say_so():
    market = replace(random_market(3), volume=torch.zeros(3, HORIZON))
    schedule = follow(torch.ones(3, *GRID.shape, HORIZON), market, FREE)
    results = settle(schedule, market, GRID)
    assert (results.filled_fraction == 0).all()
    assert (results.slippage_bps == 0).all()
    assert (results.completion_bar == HORIZON).all()


def test_one_window_without_volume_leaves_the_others_as_they_were():
    market = random_market(4, seed=8)
    schedule = random_schedules(market, seed=9)
    silent = replace(
        market,
        volume=torch.cat([market.volume[:3], torch.zeros(1, HORIZON)]),
        price=torch.cat([market.price[:3], torch.full((1, HORIZON), math.nan)]),
    )
    results = settle(schedule, market, GRID)
    others = settle(schedule * (silent.volume > 0)[:, None, None], silent, GRID)
    for name, values in vars(results).items():
        assert torch.equal(values[:3], getattr(others, name)[:3]), name
        assert torch.isfinite(getattr(others, name)).all(), name


# --- benchmarks at any scale --------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-12, 1e-9, 1e-3, 1e3, 1e9, 1e12])
def test_volumes_of_any_unit_give_the_same_vwap(scale):
    market = random_market(50, seed=11, untraded=0.1)
    scaled = replace(market, volume=market.volume * scale)
    assert torch.allclose(RunningMarket.of(market).vwap, RunningMarket.of(scaled).vwap, rtol=3e-7, atol=0)


def test_the_running_benchmark_before_a_bar_is_that_of_the_bars_before():
    market = random_market(5, seed=12, untraded=0.3)
    before = RunningMarket.of(market).before(GRID, market)[:, :, 0]
    for order, (s, scenario), t in product(range(5), enumerate(SCENARIOS), range(HORIZON)):
        arrival = market.arrival[order].item()
        price, volume = market.price[order].tolist(), market.volume[order].tolist()
        expected = plain_benchmark(price, volume, scenario.benchmark, t, arrival)
        assert before[order, s, t].item() == pytest.approx(expected, rel=1e-6)


def test_the_running_benchmark_has_no_gradient_from_later_bars():
    market = random_market(3, seed=13)
    market.price.requires_grad_()
    before = RunningMarket.of(market).before(GRID, market)
    for step in range(1, HORIZON):
        (gradient,) = torch.autograd.grad(before[..., step].sum(), market.price, retain_graph=True)
        assert (gradient[:, step:] == 0).all()
        assert (gradient[:, :step] != 0).all()


def changed_later_volume(market: MarketPath, step: int, factor: float) -> MarketPath:
    return replace(market, volume=torch.where(torch.arange(HORIZON) >= step, factor * market.volume, market.volume))


def test_the_running_benchmark_is_blind_to_later_volume_to_the_last_bit():
    market = random_market(100, seed=14)
    before = RunningMarket.of(market).before(GRID, market)
    for step in range(HORIZON):
        other = changed_later_volume(market, step, 3.7)
        assert torch.equal(before[..., : step + 1], RunningMarket.of(other).before(GRID, other)[..., : step + 1])


def test_the_running_benchmark_is_blind_to_an_enormous_later_volume():
    market = replace(random_market(20, seed=14), volume=torch.full((20, HORIZON), 1e-10))
    before = RunningMarket.of(market).before(GRID, market)
    volume = market.volume.clone()
    volume[:, -1] = 1e37
    other = replace(market, volume=volume)
    assert torch.allclose(before, RunningMarket.of(other).before(GRID, other), rtol=1e-6, atol=0)


def test_the_running_benchmark_hardly_notices_an_ordinary_later_volume():
    market = random_market(100, seed=14)
    before = RunningMarket.of(market).before(GRID, market)
    for step in range(HORIZON):
        other = changed_later_volume(market, step, 1000.0)
        after = RunningMarket.of(other).before(GRID, other)
        assert torch.allclose(before[..., : step + 1], after[..., : step + 1], rtol=5e-7, atol=0)


# --- no number is lost --------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(wild_markets(with_untraded_bars=True), st.integers(0, 2**31))
def test_no_market_makes_a_result_that_is_not_a_number(market, seed):
    results = settle(random_schedules(market, seed), market, GRID)
    for name, values in vars(results).items():
        assert torch.isfinite(values).all(), name


# --- the expectation over the completion bar ----------------------------------------------------------------------


def random_paths(market: MarketPath, seed: int) -> Tensor:
    """Paths that keep something open until the last bar, which takes what remains."""
    draw = rng(seed)
    shape = (len(market), *GRID.shape, HORIZON)
    desired = 0.4 * torch.rand(shape, generator=draw)
    desired[..., -1] = 1
    return follow(desired, market, FREE)


def random_probabilities(market: MarketPath, seed: int) -> Tensor:
    probability = torch.rand((len(market), *GRID.shape, HORIZON), generator=rng(seed)) ** 2
    probability[..., -1] = 1
    return torch.where((market.volume > 0)[:, None, None], probability, 0.0)


def traded_at_last(market: MarketPath) -> MarketPath:
    volume = market.volume.clone()
    volume[:, -1] = 7.0
    return replace(market, volume=volume)


@pytest.mark.parametrize("untraded", [0.0, 0.3])
def test_the_expected_cost_is_that_of_every_completion_bar_weighed_by_its_chance(untraded):
    market = traded_at_last(random_market(8, seed=15, untraded=untraded))
    path, probability = random_paths(market, seed=16), random_probabilities(market, seed=17)
    mean, second = expected_slippage(path, probability, market, GRID)
    survival = torch.ones(path.shape[:-1], dtype=torch.float64)
    expected_mean, expected_second = torch.zeros_like(survival), torch.zeros_like(survival)
    for bar in range(HORIZON):
        schedule = torch.zeros_like(path)
        schedule[..., :bar] = path[..., :bar]
        schedule[..., bar] = 1 - path[..., :bar].sum(-1)
        cost = settle(schedule, market, GRID).slippage_bps.double()
        chance = survival * probability[..., bar]
        expected_mean += chance * cost
        expected_second += chance * cost.square()
        survival = survival * (1 - probability[..., bar].double())
    assert (survival == 0).all()
    assert torch.allclose(mean.double(), expected_mean, atol=2 * TOLERANCE_BPS, rtol=1e-5)
    assert torch.allclose(second.double(), expected_second, atol=TOLERANCE_BPS, rtol=1e-4)


@pytest.mark.parametrize("untraded", [0.0, 0.3])
def test_the_expected_cost_of_a_certain_completion_is_the_settled_one(untraded):
    market = traded_at_last(random_market(8, seed=18, untraded=untraded))
    path = random_paths(market, seed=19)
    finishes = random_probabilities(market, seed=20) > 0.4
    mean, second = expected_slippage(path, finishes.float(), market, GRID)
    settled = settle(finish(path, finishes), market, GRID).slippage_bps
    assert torch.allclose(mean, settled, atol=TOLERANCE_BPS)
    assert torch.allclose(second, settled.square(), atol=0.1, rtol=1e-3)


def test_the_benchmark_of_an_order_that_finishes_is_the_one_it_is_settled_against():
    market = random_market(4, seed=21, untraded=0.3)
    on_finish = benchmark_on_finish(market, GRID)
    for order, (s, scenario), m, t in product(range(4), enumerate(SCENARIOS), range(HORIZON), range(HORIZON)):
        price, volume = market.price[order].tolist(), market.volume[order].tolist()
        bars = max(t, m) + 1
        expected = plain_benchmark(price, volume, scenario.benchmark, bars, market.arrival[order].item())
        assert on_finish[order, s, m, t].item() == pytest.approx(expected, rel=1e-6)


def test_an_order_that_finishes_trades_all_that_remains_and_nothing_after():
    market = random_market(4, seed=22)
    path = random_paths(market, seed=23)
    finishes = random_probabilities(market, seed=24) > 0.4
    schedule = finish(path, finishes)
    assert (schedule.sum(-1) == 1).all()
    first = finishes.int().argmax(-1)
    for order, s, m in product(range(4), range(8), range(HORIZON)):
        bar = first[order, s, m].item()
        assert torch.equal(schedule[order, s, m, :bar], path[order, s, m, :bar])
        assert (schedule[order, s, m, bar + 1 :] == 0).all()


def test_the_expected_cost_is_the_same_in_any_currency():
    market = random_market(6, seed=25)
    path, probability = random_paths(market, seed=26), random_probabilities(market, seed=27)
    mean, _ = expected_slippage(path, probability, market, GRID)
    for rate in (1e-4, 150.0):
        exchanged = replace(market, **{name: rate * getattr(market, name) for name in ("arrival", "price", "close")})
        other, _ = expected_slippage(path, probability, exchanged, GRID)
        assert torch.allclose(mean, other, atol=2 * TOLERANCE_BPS)
