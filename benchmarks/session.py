"""One decision of a session: a bar told, then the next child order, one order, on one thread.

Decisions per second by the 99th percentile of their times, against 20 ms: a closed bar taken and the next child
order said, fills in between. The first decision of an order reads the whole lookback, later ones carry it on. In turns
with it, the schedule of the whole grid in one shot.
"""

import time
from collections.abc import Iterator

import torch

from benchmarks import report
from benchmarks.inference import CONFIGURATIONS, FEATURES, random_orders
from lem_models.config import LEMConfig
from lem_models.events import ClosedBar, Fill, Outlook, ParentOrder
from lem_models.lem import LEM
from lem_models.orders import Benchmark, OrderBatch, Side, Target
from lem_models.session import ExecutionSession

AIM_MS = 20.0
AIMS = {"default configuration": 1, "the paper's sizes": 1 / 5}  # nobody is expected to register the latter
SESSIONS = 60  # of twelve decisions each


def decisions(model: LEM, orders: OrderBatch) -> Iterator[float]:
    """Milliseconds of each decision of one order on a random window, fully filled from bar to bar."""
    config, market = model.config, orders.market
    expected = tuple(market.expected_volume[0].tolist())
    order = ParentOrder("1", "XYZ", Side.BUY, Benchmark.VWAP, Target.QUANTITY, 1000.0, config.horizon // 2)
    session = ExecutionSession(order, model)

    def outlook(row: int) -> Outlook:
        step = max(0, row + 1 - config.lookback)
        features = dict(zip(FEATURES, orders.features[0, row].tolist(), strict=True))
        return Outlook(features, float(market.volatility[0, step]), expected)

    arrival = float(market.arrival[0])
    for row in range(config.lookback):
        session.on_bar(ClosedBar(row, arrival, arrival, 1000.0, outlook(row)))
    for step in range(config.horizon):
        start = time.perf_counter()
        advice = session.advise()
        told = time.perf_counter() - start
        price, close, volume = (float(each[0, step]) for each in (market.price, market.close, market.volume))
        if advice.to_trade:
            session.on_fill(Fill(str(step), advice.to_trade, price))
        after = outlook(config.lookback + step) if step + 1 < config.horizon else None
        bar = ClosedBar(config.lookback + step, price, close, volume, after)
        start = time.perf_counter()
        session.on_bar(bar)
        yield 1e3 * (told + time.perf_counter() - start)


def measure(name: str, config: LEMConfig, aim: float) -> None:
    torch.manual_seed(0)
    model = LEM(config).eval()
    ours, baseline = [], []
    for number in range(-2, SESSIONS):  # two to warm up
        orders = random_orders(config, 1)
        taken = list(decisions(model, orders))
        start = time.perf_counter()
        model.schedule(orders)
        if number >= 0:
            ours += taken
            baseline.append(1e3 * (time.perf_counter() - start))
    p50, p99 = torch.tensor(ours).quantile(torch.tensor([0.5, 0.99])).tolist()
    one_shot = float(torch.tensor(baseline).quantile(0.5))
    more = {"p50_ms": round(p50, 2), "p99_ms": round(p99, 2), "one_shot_p50_ms": round(one_shot, 2)}
    title = f"session: decisions per second by the 99th percentile, {name}, over one in 20 ms"
    report(title, round(1e3 / p99, 1), 1e3 / AIM_MS, aim, **more)


def main() -> None:
    torch.set_num_threads(1)
    for name, (config, _) in CONFIGURATIONS.items():
        measure(name, config, AIMS[name])


if __name__ == "__main__":
    main()
