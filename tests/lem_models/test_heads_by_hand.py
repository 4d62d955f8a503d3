"""Allocation heads against the equations of the model specification, one order and one scalar at a time."""

import math
from dataclasses import replace
from itertools import product

import pytest
import torch
from builders import random_market, rng
from torch import Tensor

from lem_models.heads import AllocationHeads
from lem_models.orders import LOT, SCENARIOS, Benchmark, Limits, MarketPath, OrderGrid, Scenario, Target

BARS, CONTEXT, WIDTH = 4, 2, 3
SMALL = OrderGrid(BARS)
HEADS = pytest.mark.parametrize("independent", [False, True], ids=["shared heads", "independent heads"])


def silu(z: float) -> float:
    return z * sigmoid(z)


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def logit(fraction: float) -> float:
    inside = min(max(fraction, LOT), 1 - LOT)
    return math.log(inside / (1 - inside))


def within(value: float, least: float, greatest: float) -> float:
    return min(max(value, least), greatest)


def market_average(price: list[float], volume: list[float], kind: Benchmark, arrival: float) -> float:
    """Of some bars; the arrival price where none of them traded."""
    traded = [(p, v if kind is Benchmark.VWAP else 1.0) for p, v in zip(price, volume, strict=True) if v > 0]
    return sum(p * v for p, v in traded) / sum(v for _, v in traded) if traded else arrival


def fill_average(fills: list[tuple[float, float]], target: Target, arrival: float) -> float:
    """P = Σ a p / Σ a of a fixed quantity, Σ a / Σ (a / p) of a fixed notional."""
    filled = sum(a for a, _ in fills)
    if not filled:
        return arrival
    if target is Target.QUANTITY:
        return sum(a * p for a, p in fills) / filled
    return filled / sum(a / p for a, p in fills)


def plain_decisions(
    heads: AllocationHeads, context: Tensor, market: MarketPath, in_lots: bool = True
) -> tuple[Tensor, Tensor]:
    """Path and finish probability of every order; ``in_lots=False`` leaves out the rounding, which has no slope."""
    weights = {name: value.tolist() for name, value in heads.named_parameters()}
    path = torch.zeros(len(market), len(SCENARIOS), BARS, BARS, dtype=torch.float64)
    probability = torch.zeros_like(path)
    columns = {name: value.tolist() for name, value in vars(market).items()}
    for b, (s, scenario), m in product(range(len(market)), enumerate(SCENARIOS), range(BARS)):
        own = {name: value[b] for name, value in columns.items()}
        decided = plain_order(weights, heads.limits, context[b].tolist(), own, scenario, (s, m), in_lots)
        path[b, s, m], probability[b, s, m] = torch.tensor(decided, dtype=torch.float64).T
    return path, probability


def plain_order(
    weights: dict, limits: Limits, context: list, market: dict, scenario: Scenario, place: tuple[int, int], lots: bool
) -> list[tuple[float, float]]:
    """Child order and finish probability bar by bar."""
    s, m = place
    group = s * BARS + m if len(weights["out.bias"]) > 1 else 0
    cap, floor = limits.cap_in_lots, limits.floor_in_lots

    def affine(name: str, x: list[float]) -> list[float]:
        matrix, bias = weights[f"{name}.weight"][group], weights[f"{name}.bias"][group]
        return [bias[o] + sum(x[i] * matrix[i][o] for i in range(len(x))) for o in range(len(bias))]

    side, arrival = scenario.side.value, market["arrival"]
    remaining, course, fills, decided = 1.0, 0.0, [], []
    for t in range(BARS):
        known = arrival if t == 0 else market["close"][t - 1]
        benchmark = market_average(market["price"][:t], market["volume"][:t], scenario.benchmark, arrival)
        sigma = market["volatility"][t] * arrival
        gap = side * (benchmark - known) / sigma
        own_gap = side * (benchmark - fill_average(fills, scenario.target, arrival)) / sigma
        expected = market["expected_volume"] if scenario.benchmark is Benchmark.VWAP else [1.0] * BARS
        share = expected[t] / sum(expected[t:])
        state = [
            remaining,
            within(gap, -8, 8),
            within(own_gap, -8, 8),
            within(remaining * gap + (1 - remaining) * own_gap, -8, 8),
            share,
            max(m - t, 0) / BARS,
            (BARS - t) / BARS,
            float(remaining <= limits.cap_in_lots),
        ]
        code = weights["order_code"][s][m][t]
        first = zip(affine("from_state", state), affine("from_context", context[t]), code, strict=True)
        hidden = [silu(z) for z in affine("hidden", [silu(sum(parts)) for parts in first])]
        own = weights["own_out"][s][m][t]
        shift, finish_shift = (
            shared + sum(h * row[k] for h, row in zip(hidden, own, strict=True))
            for k, shared in enumerate(affine("out", hidden))
        )

        course += share * (1 - course)
        wanted = sigmoid(logit(course) + weights["prior.shift"][m][t] + shift)
        hi = min(cap, remaining)
        lo = min(max(min(floor, remaining), remaining - (BARS - t - 1) * cap), hi)
        executed = 1 - remaining
        still_open = max(min(hi, remaining - LOT), lo)
        after = within(wanted, executed + lo, executed + still_open)
        after = max(math.floor(after / LOT) * LOT, executed + lo) if lots else after
        fits_next = 1 - cap
        may_end_next = t + 1 < BARS and m <= t + 1
        if may_end_next and fits_next - 0.1 * cap <= after < fits_next <= executed + still_open:
            after = fits_next  # who all but fits is made to fit
        child = after - executed
        finish = sigmoid(weights["prior.finish_logit"][m][t] + finish_shift) if remaining <= hi else 0.0
        if lo >= remaining:
            finish = 1.0
        if market["volume"][t] == 0:
            child = finish = 0.0
        decided.append((child, finish))
        fills.append((child, market["price"][t]))
        remaining -= child
    return decided


def lively_heads(independent: bool, limits: Limits, seed: int = 0) -> AllocationHeads:
    heads = AllocationHeads(SMALL, limits, CONTEXT, WIDTH, independent, prior="curve", own_readout=True).double()
    with torch.no_grad():
        for weight in heads.parameters():
            weight.copy_(0.8 * torch.randn(weight.shape, generator=rng(seed)))
        for weight in (heads.out.weight, heads.out.bias, heads.own_out, heads.prior.shift):
            weight.mul_(0.3)  # an order that is filled at once has no state to speak of
    return heads


def in_float64(market: MarketPath) -> MarketPath:
    return MarketPath(**{name: value.double() for name, value in vars(market).items()})


def some_context(orders: int) -> Tensor:
    return torch.randn(orders, BARS, CONTEXT, dtype=torch.float64, generator=rng(3))


@HEADS
@pytest.mark.parametrize("untraded", [0.0, 0.3])
@pytest.mark.parametrize("limits", [Limits(BARS), Limits(BARS, floor=0.05, cap=0.4)], ids=str)
def test_the_heads_equal_their_equations_order_by_order(independent, limits, untraded):
    heads, market = lively_heads(independent, limits), in_float64(random_market(3, untraded=untraded, horizon=BARS))
    context = some_context(3)
    decisions = heads(context, market)
    path, probability = plain_decisions(heads, context, market)
    assert torch.allclose(decisions.path, path, rtol=0, atol=2e-6)
    assert torch.allclose(decisions.finish_probability, probability, rtol=0, atol=2e-6)
    assert (path[..., :-1] > 0.02).double().mean() > 0.5


@HEADS
def test_the_gradients_of_the_heads_are_finite_differences_of_their_equations(independent):
    heads, market = lively_heads(independent, Limits(BARS)), in_float64(random_market(1, horizon=BARS))
    with torch.no_grad():
        heads.from_state.weight.zero_()  # the state is observed: what it does to later answers has no gradient
        for weight in (heads.out.weight, heads.out.bias, heads.own_out, heads.prior.shift):
            weight.mul_(0.1)  # at the bounds of a child order there is a kink and no slope
    context = some_context(1).requires_grad_()
    weigh = torch.randn(2, 1, *SMALL.shape, BARS, dtype=torch.float64, generator=rng(4))

    def total(in_lots: bool) -> float:
        path, probability = plain_decisions(heads, context.detach(), market, in_lots)
        return float((weigh[0] * path + weigh[1] * probability).sum())

    decisions = heads(context, market)
    (weigh[0] * decisions.path + weigh[1] * decisions.finish_probability).sum().backward()
    for name, values in {"context": context, **dict(heads.named_parameters())}.items():
        largest = values.grad.abs().flatten().topk(min(2, values.numel())).indices.tolist()
        for index in {*largest, values.numel() // 2}:
            entry = values.detach().view(-1)
            kept, sides = entry[index].item(), []
            for move in (1e-5, -1e-5):
                entry[index] = kept + move
                sides.append(total(in_lots=False))
            entry[index] = kept
            slope = (sides[0] - sides[1]) / 2e-5
            assert values.grad.view(-1)[index].item() == pytest.approx(slope, rel=1e-4, abs=1e-7), (name, index)


# --- what an order knows of itself --------------------------------------------------------------------------------


def states_of(heads: AllocationHeads, market: MarketPath) -> Tensor:
    """What the heads read of the state of every order; (H, B, S, M, N_STATE)."""
    read: list[Tensor] = []
    hook = heads.from_state.register_forward_hook(lambda _, inputs, __: read.append(inputs[0]))
    heads(torch.zeros(len(market), market.horizon, CONTEXT), market)
    hook.remove()
    return torch.stack([rows.view(len(market), *heads.grid.shape, -1) for rows in read])


def silent_heads(horizon: int = 12) -> AllocationHeads:
    """Heads that follow the base curve and all but never finish."""
    heads = AllocationHeads(OrderGrid(horizon), Limits(horizon), CONTEXT, WIDTH, independent=False, prior="curve")
    with torch.no_grad():
        heads.out.weight.zero_()
    return heads


def test_an_order_that_trades_as_its_benchmark_does_stands_at_it_bar_by_bar():
    """A fill booked at another bar's price, or a notional where a price belongs, would show at once."""
    market = random_market(20)
    foreseen = replace(market, expected_volume=market.volume)
    own_gap = states_of(silent_heads(), foreseen)[1:, ..., 2]
    is_notional = SMALL.is_notional[:, 0, 0]
    assert own_gap[:, :, ~is_notional].abs().max() < 2e-3
    assert 2e-3 < own_gap[:, :, is_notional].abs().max() < 0.5


def test_the_price_of_a_bar_is_known_to_the_state_from_the_next_bar_on():
    market = random_market(5)
    states = states_of(silent_heads(), market)
    for bar in range(12):
        dearer = replace(market, price=market.price.clone())
        dearer.price[:, bar] *= 1.02
        moved = (states_of(silent_heads(), dearer) != states).flatten(2).any(-1).all(-1)
        assert moved.tolist() == [step > bar for step in range(12)]


def test_the_state_knows_prices_and_shares_and_no_notional():
    market = random_market(5)
    tiny = replace(market, volume=market.volume * 2.0**-60, expected_volume=market.expected_volume * 2.0**-60)
    dear = replace(market, **{name: getattr(market, name) * 2.0**20 for name in ("arrival", "price", "close")})
    states = states_of(silent_heads(), market)
    assert torch.equal(states, states_of(silent_heads(), tiny))
    assert torch.equal(states, states_of(silent_heads(), dear))


def test_an_order_against_twap_is_decided_without_any_look_at_volume():
    market = random_market(5)
    other = random_market(5, seed=9)
    busier = replace(market, volume=other.volume, expected_volume=other.expected_volume)
    same = (states_of(silent_heads(), market) == states_of(silent_heads(), busier)).all(-1).all(-1).flatten(0, 1).all(0)
    assert same.tolist() == [scenario.benchmark is Benchmark.TWAP for scenario in SCENARIOS]
