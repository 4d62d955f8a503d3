"""One decision as a desk asks for it: the schedule of one window, all orders of the grid, on one thread.

Calls per second by the median call, against the no-forecast optimum on the same window, in turns. The line also gives
the median and the 99th percentile in milliseconds, and the model's calls per second when windows come 256 at a time.
"""

import time
from collections.abc import Callable

import torch

from benchmarks import report, seconds
from lem_models.baselines.optimal_stopping import OptimalStopping
from lem_models.config import LEMConfig
from lem_models.lem import LEM
from lem_models.orders import OrderBatch
from lem_models.simulation import random_walks

FEATURES = tuple(f"feature_{number}" for number in range(12))
# One plan look-up a bar, against a network read over the whole lookback: aims are what is tolerable, not what is best.
CONFIGURATIONS = {
    "default configuration": (LEMConfig(FEATURES), 1 / 20),
    "the paper's sizes": (LEMConfig.paper(FEATURES), 1 / 100),
}
CALLS, WINDOWS = 500, 256


def random_orders(config: LEMConfig, count: int) -> OrderBatch:
    rng = torch.Generator().manual_seed(count)
    features = torch.randn(count, config.lookback + config.horizon - 1, len(FEATURES), generator=rng)
    return OrderBatch(features, random_walks(count, config.horizon, 0.01, rng))


def milliseconds(works: list[Callable[[], object]], calls: int) -> torch.Tensor:
    """Times of single calls, in turns; (works, calls)."""
    times = torch.empty(len(works), calls)
    for call in range(calls):
        for row, work in enumerate(works):
            start = time.perf_counter()
            work()
            times[row, call] = 1e3 * (time.perf_counter() - start)
    return times


def measure(name: str, config: LEMConfig, aim: float) -> None:
    torch.manual_seed(0)
    model, optimum = LEM(config), OptimalStopping(config.limits)
    one, many = random_orders(config, 1), random_orders(config, WINDOWS)
    works: list[Callable[[], object]] = [lambda: model.schedule(one), lambda: optimum.schedule(one)]
    milliseconds(works, 10)  # to warm up
    ours, baseline = milliseconds(works, CALLS)
    more = {
        "p50_ms": round(float(ours.quantile(0.5)), 2),
        "p99_ms": round(float(ours.quantile(0.99)), 2),
        "baseline_p50_ms": round(float(baseline.quantile(0.5)), 2),
        "baseline_p99_ms": round(float(baseline.quantile(0.99)), 2),
        "windows_per_second_by_256": round(WINDOWS / seconds(lambda: model.schedule(many), 3)),
    }
    rates = (round(float(1e3 / each.quantile(0.5)), 1) for each in (ours, baseline))
    report(f"inference: schedules per second, {name}, over the no-forecast optimum", *rates, aim, **more)


def main() -> None:
    torch.set_num_threads(1)
    for name, (config, aim) in CONFIGURATIONS.items():
        measure(name, config, aim)


if __name__ == "__main__":
    main()
