"""Orders settled per second, against the same accounting as a plain loop over orders."""

import torch

from benchmarks import report, seconds
from lem_models.baselines.twap import Twap
from lem_models.execution import settle
from lem_models.orders import SCENARIOS, Benchmark, Limits, MarketPath, OrderBatch, OrderGrid, Side, Target
from lem_models.simulation import random_walks

HORIZON = 12


def plain_loop(schedule: list[float], price: list[float], volume: list[float], scenario: int, minimum: int) -> float:
    """Slippage in bps of one order."""
    kind = SCENARIOS[scenario]
    if kind.target is Target.QUANTITY:
        fill = sum(a * p for a, p in zip(schedule, price, strict=True))
    else:
        fill = 1 / sum(a / p for a, p in zip(schedule, price, strict=True))
    last = max(minimum, max(t + 1 for t, a in enumerate(schedule) if a > 0))
    weights = volume[:last] if kind.benchmark is Benchmark.VWAP else [1.0] * last
    benchmark = sum(w * p for w, p in zip(weights, price, strict=False)) / sum(weights)
    sign = 1 if kind.side is Side.BUY else -1
    return sign * (fill / benchmark - 1) * 1e4


def loop_over(schedules: torch.Tensor, market: MarketPath) -> list[float]:
    prices, volumes = market.price.tolist(), market.volume.tolist()
    return [
        plain_loop(slices, prices[order], volumes[order], scenario, minimum + 1)
        for order, by_scenario in enumerate(schedules.tolist())
        for scenario, by_minimum in enumerate(by_scenario)
        for minimum, slices in enumerate(by_minimum)
    ]


def main() -> None:
    grid = OrderGrid(HORIZON)
    market = random_walks(512, HORIZON, 0.01, torch.Generator().manual_seed(0))
    schedule = Twap(Limits(HORIZON)).schedule(OrderBatch(torch.zeros(512, 1, 1), market))
    few = MarketPath(**{name: value[:16] for name, value in vars(market).items()})
    looped = torch.tensor(loop_over(schedule[:16], few))
    torch.testing.assert_close(settle(schedule[:16], few, grid).slippage_bps.flatten(), looped, atol=0.05, rtol=0)
    orders = schedule[..., 0].numel()
    ours = orders / seconds(lambda: settle(schedule, market, grid))
    baseline = orders / 32 / seconds(lambda: loop_over(schedule[:16], few))
    report("settle: orders per second, vectorised over a plain loop", round(ours), round(baseline), aim=200)


if __name__ == "__main__":
    main()
