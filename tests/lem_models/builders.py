"""Random markets, unknown futures, and tiny models with lively weights."""

from dataclasses import replace
from typing import Any, Literal

import torch
from hypothesis import strategies as st
from torch import Tensor

from lem_models.baselines import Strategy
from lem_models.config import LEMConfig
from lem_models.heads import AllocationHeads
from lem_models.lem import LEM
from lem_models.orders import Limits, MarketPath, OrderBatch, OrderGrid, OrderSize

HORIZON = 12
LOOKBACK = 4
FEATURES = ("momentum", "spread", "season")
GRID = OrderGrid(HORIZON)
FREE = Limits(horizon=HORIZON)

LIMITS = {
    "free": FREE,
    "cap of 0.10": Limits(horizon=HORIZON, cap=0.10),
    "cap of exactly one twelfth": Limits(horizon=HORIZON, cap=1 / 12),
    "floor and cap": Limits(horizon=HORIZON, floor=0.05, cap=0.2),
    "floor equal to a tight cap": Limits(horizon=HORIZON, floor=1 / 12, cap=1 / 12),
    "large floor": Limits(horizon=HORIZON, floor=0.3),
}

Volumes = Literal["kept", "overwritten", "untraded"]


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_market(
    orders: int, seed: int = 0, untraded: float = 0.0, volatility: float = 0.01, horizon: int = HORIZON
) -> MarketPath:
    """Walks whose bars have an average, a close and a volume of their own; a share of them without trades."""
    draw = rng(seed)

    def normal() -> Tensor:
        return torch.randn(orders, horizon, generator=draw)

    arrival = 50 + 100 * torch.rand(orders, generator=draw)
    close = arrival[:, None] * torch.exp((volatility * normal()).cumsum(1))
    volume = 1000 * torch.exp(normal())
    return MarketPath(
        arrival=arrival,
        price=close * torch.exp(0.5 * volatility * normal()),
        close=close,
        volume=torch.where(torch.rand(orders, horizon, generator=draw) < untraded, 0.0, volume),
        volatility=volatility * torch.exp(0.2 * normal()),
        expected_volume=1000 * torch.exp(0.5 * normal()),
    )


def random_orders(orders: int, seed: int = 0, untraded: float = 0.0) -> OrderBatch:
    features = torch.randn(orders, LOOKBACK + HORIZON - 1, len(FEATURES), generator=rng(seed + 1))
    return OrderBatch(features, random_market(orders, seed, untraded))


def _powers_of_ten(low: float, high: float) -> st.SearchStrategy[list[float]]:
    exponents = st.lists(st.floats(low, high), min_size=HORIZON, max_size=HORIZON)
    return exponents.map(lambda drawn: [10.0**each for each in drawn])


@st.composite
def wild_markets(draw: st.DrawFn, with_untraded_bars: bool = False) -> MarketPath:
    """One path of any prices within six orders of magnitude, and volumes that span forty."""
    volume = draw(_powers_of_ten(-20, 20))
    if with_untraded_bars:
        traded = draw(st.lists(st.booleans(), min_size=HORIZON, max_size=HORIZON))
        volume = [each * is_traded for each, is_traded in zip(volume, traded, strict=True)]
    arrival = draw(st.sampled_from([1e-6, 1.0, 1e6]))
    rows = [
        [arrival * each for each in draw(_powers_of_ten(-6, 6))],
        [arrival * each for each in draw(_powers_of_ten(-6, 6))],
        volume,
        draw(_powers_of_ten(-6, 1)),
        draw(st.one_of(_powers_of_ten(-20, 20), st.just([0.0] * HORIZON))),
    ]
    return MarketPath(torch.tensor([arrival]), *(torch.tensor([row]) for row in rows))


def random_size(market: MarketPath, seed: int, participation_cap: float = 0.2) -> OrderSize:
    """From orders that any bar takes to orders of five times the volume of the horizon."""
    of_volume = 10 ** (-3 + 3.7 * torch.rand(len(market), generator=rng(seed), dtype=torch.float64))
    return OrderSize(of_volume * market.volume.double().sum(1), participation_cap)


@st.composite
def sizes(draw: st.DrawFn, market: MarketPath) -> OrderSize:
    """Orders of next to nothing up to far more than ever traded, and any participation cap."""
    of_volume = draw(st.one_of(st.just(0.0), st.floats(-6, 3).map(lambda exponent: 10**exponent)))
    cap = draw(st.one_of(st.just(1.0), st.floats(1e-3, 1)))
    return OrderSize(of_volume * market.volume.double().amax(1), cap)


def overwritten_from(orders: OrderBatch, step: int, seed: int, volumes: Volumes) -> OrderBatch:
    """The same orders before bar ``step``; what becomes known in that bar or later is arbitrary.

    Args:
        orders: Left as they are.
        step: First bar with another outcome. What is known before it, its feature row and volatility, is kept.
        seed: Of the other outcome.
        volumes: Whether volumes stay, become others, or become zero after ``step``.
    """
    draw = rng(seed)
    market = orders.market

    def other(values: Tensor, first: int, low: float, high: float) -> Tensor:
        exponent = low + (high - low) * torch.rand(values.shape, generator=draw)
        return torch.where(torch.arange(values.shape[1]) >= first, 10.0**exponent, values)

    features = orders.features.clone()
    later = features[:, LOOKBACK + step :]
    features[:, LOOKBACK + step :] = 100 * torch.randn(later.shape, generator=draw)
    volume = market.volume
    if volumes != "kept":
        volume = other(volume, step, -2, 6)
    if volumes == "untraded":
        volume = torch.where(torch.arange(HORIZON) > step, 0.0, volume)
    changed = replace(
        market,
        price=other(market.price, step, -1, 4),
        close=other(market.close, step, -1, 4),
        volume=volume,
        volatility=other(market.volatility, step + 1, -5, 0),
    )
    return OrderBatch(features, changed, orders.size)


def assert_blind_to_the_future(strategy: Strategy, orders: OrderBatch, volumes: Volumes) -> None:
    """Overwrite the future of every bar: no child order up to that bar may change by a single bit."""
    schedule = strategy.schedule(orders)
    for step in range(HORIZON):
        other = strategy.schedule(overwritten_from(orders, step, seed=100 + step, volumes=volumes))
        seen = slice(0, step + 1)
        assert torch.equal(schedule[..., seen], other[..., seen]), f"bar {step + 1} sees bar {step + 1} or later"


def tiny_lem(seed: int = 0, scale: float = 1.0, **config: Any) -> LEM:
    """A LEM of a few hundred weights whose decisions differ from bar to bar and from market to market."""
    sizes = {"lookback": LOOKBACK, "width": 8, "embedding": 4, "memory_width": 8, "head_width": 8} | config
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LEM(LEMConfig(FEATURES, **sizes))
        with torch.no_grad():
            heads = model.allocate
            heads.from_state.weight.normal_()
            heads.hidden.weight.normal_()
            heads.out.weight.normal_()
            heads.out.bias[:, 1] = -1.0
            for answer in heads.prior.parameters():
                answer.zero_()  # a head that trades at its cap reacts to nothing
            heads.from_context.weight.normal_()
            heads.order_code.mul_(10)
            for name, weight in model.named_parameters():
                # A memory that keeps more than all of itself overflows, which is a test of its own.
                weight.mul_(1.0 if "keep_" in name else scale)
    return model.eval()


def heads_that_answer(desired: Tensor, finish_logit: Tensor, limits: Limits = FREE) -> AllocationHeads:
    """Heads whose network ignores the market and answers these numbers; each broadcasts to (S, M, H)."""
    heads = AllocationHeads(GRID, limits, context=1, width=4, independent=False, prior="curve")
    answers = [answer.expand(*GRID.shape, HORIZON) for answer in (desired, finish_logit)]
    answers = [answer.sign() * _inverse_silu_twice(answer.abs()) for answer in answers]
    with torch.no_grad():
        for weight in heads.parameters():
            weight.zero_()
        # silu turns negative numbers into almost nothing, so each answer travels as a positive and a negative part.
        parts = [part for answer in answers for part in (answer.clamp_min(0), (-answer).clamp_min(0))]
        heads.order_code.copy_(torch.stack(parts, dim=-1))
        heads.hidden.weight.copy_(torch.eye(4)[None])
        heads.out.weight.copy_(torch.tensor([[[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]]))
    return heads


def _inverse_silu_twice(answer: Tensor) -> Tensor:
    """x with silu(silu(x)) = answer ≥ 0, by bisection."""
    low, high = torch.zeros_like(answer), 2 * answer + 4
    for _ in range(60):
        middle = (low + high) / 2
        too_little = torch.nn.functional.silu(torch.nn.functional.silu(middle)) < answer
        low, high = torch.where(too_little, middle, low), torch.where(too_little, high, middle)
    return low


def no_context(market: MarketPath) -> Tensor:
    return torch.zeros(len(market), HORIZON, 1)
