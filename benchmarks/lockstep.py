"""Concurrent sessions that step together: a closed bar of every market, fills, then every next child order.

N orders of every kind on as many markets as a desk has (one for fifty orders, one at least), begun with the same bar.
A step is a bar told to the whole book and the advice for all its orders; fills in between are told and not timed.
Orders a second by the median step, against the same orders as single sessions, told and asked one after another (of
so many as can be waited for). The aims: 1,000 sessions step in less than a second by p99, and twenty times as fast as
one by one. ``SESSIONS`` names other numbers of them, ``MARKETS=own`` gives every order a market of its own.
"""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median

import torch

from benchmarks import report, resident_mb
from benchmarks.inference import FEATURES, random_orders
from lem_models.advice import Advice
from lem_models.config import LEMConfig
from lem_models.events import ClosedBar, Fill, Outlook, ParentOrder
from lem_models.lem import LEM
from lem_models.orders import SCENARIOS, OrderBatch
from lem_models.session import ExecutionSession
from lem_models.session_book import SessionBook

COUNTS = (1, 10, 100, 1000, 10_000)
ORDERS_PER_MARKET = 50
ONE_BY_ONE = 20  # single sessions are timed for no more than these
AIM, WITHIN_MS = 20.0, 1000.0
AIM_OF_FEW = 0.5  # a batch of one costs no more than twice a session


def bars_of(orders: OrderBatch, place: int, config: LEMConfig) -> list[ClosedBar]:
    """A market's closed bars: those of the lookback, then those of the horizon."""
    market = orders.market
    features, price, close = (t[place].tolist() for t in (orders.features, market.price, market.close))
    volatility, expected = market.volatility[place].tolist(), tuple(market.expected_volume[place].tolist())
    arrival, bars = float(market.arrival[place]), []
    for row in range(config.lookback + config.horizon):
        after = min(row, len(features) - 1)
        known = Outlook(
            dict(zip(FEATURES, features[after], strict=True)), volatility[max(0, after + 1 - config.lookback)], expected
        )
        step = row - config.lookback
        bars.append(ClosedBar(row, *((arrival, arrival) if step < 0 else (price[step], close[step])), 1000.0, known))
    return bars


def orders_of(count: int, markets: int, horizon: int) -> list[ParentOrder]:
    """Orders of every scenario and duration, dealt to the markets in turn."""
    kinds = [SCENARIOS[number % len(SCENARIOS)] for number in range(count)]
    return [
        ParentOrder(
            str(n), str(n % markets), kind.side, kind.benchmark, kind.target, 1000.0, horizon // 2 + n % (horizon // 2)
        )
        for n, kind in enumerate(kinds)
    ]


@dataclass
class Steps:
    """What a desk did.

    Attributes:
        taken_ms: Of each step.
        cpu_ms: Of each step, what this process spent of it; other programs of the machine do not count.
        advice: Given in each.
    """

    taken_ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    advice: list[dict[str, Advice]] = field(default_factory=list)


def trade(
    tell: Callable[[dict[str, ClosedBar]], object],
    ask: Callable[[], dict[str, Advice]],
    fill: Callable[[str, Fill], object],
    bars: Sequence[Sequence[ClosedBar]],
    config: LEMConfig,
) -> Steps:
    """Trade every bar of the horizon, filled as planned; a step is a bar told and the next advice."""
    steps = Steps()
    for step in range(config.horizon):
        start, spent = time.perf_counter(), time.process_time()
        if step:
            tell({str(place): each[config.lookback + step - 1] for place, each in enumerate(bars)})
        steps.advice.append(ask())
        steps.taken_ms.append(1e3 * (time.perf_counter() - start))
        steps.cpu_ms.append(1e3 * (time.process_time() - spent))
        for name, advice in steps.advice[-1].items():
            price = bars[int(name) % len(bars)][config.lookback + step].price
            if amount := advice.to_trade:
                fill(name, Fill(f"{name}-{step}", amount if advice.quantity is not None else amount / price, price))
    return steps


def together(model: LEM, orders: Iterable[ParentOrder], bars: Sequence[Sequence[ClosedBar]]) -> Steps:
    """All orders in one book."""
    book, config = SessionBook(model), model.config
    for row in range(config.lookback):
        book.on_bars({str(place): each[row] for place, each in enumerate(bars)})
    for order in orders:
        book.open(order)
    return trade(book.on_bars, book.advise, book.on_fill, bars, config)


def one_by_one(model: LEM, orders: Iterable[ParentOrder], bars: Sequence[Sequence[ClosedBar]]) -> Steps:
    """Every order as a session of its own."""
    config, sessions = model.config, {order.order_id: ExecutionSession(order, model) for order in orders}
    for session in sessions.values():
        for bar in bars[int(session.order.symbol)][: config.lookback]:
            session.on_bar(bar)

    def tell(told: dict[str, ClosedBar]) -> None:
        for session in sessions.values():
            session.on_bar(told[session.order.symbol])

    def ask() -> dict[str, Advice]:
        return {name: session.advise() for name, session in sessions.items()}

    return trade(tell, ask, lambda name, fill: sessions[name].on_fill(fill), bars, config)


def measure(model: LEM, count: int, markets: int) -> None:
    """Print the result for so many sessions."""
    config = model.config
    windows = random_orders(config, markets)
    bars = [bars_of(windows, place, config) for place in range(markets)]
    orders = orders_of(count, markets, config.horizon)
    before = resident_mb("VmRSS")
    ours, singles, spent, spent_alone = [], [], [], []
    for _ in range(max(1, min(10, 200 // count))):
        book = together(model, orders, bars)
        alone = one_by_one(model, orders[:ONE_BY_ONE], bars)
        assert_same(book, alone)
        # The first step reads the whole lookback.
        ours, singles = ours + book.taken_ms[1:], singles + alone.taken_ms[1:]
        spent, spent_alone = spent + book.cpu_ms[1:], spent_alone + alone.cpu_ms[1:]
    p50, p99 = torch.tensor(ours).quantile(torch.tensor([0.5, 0.99])).tolist()
    of_one = min(count, ONE_BY_ONE)
    line = {
        "markets": markets,
        "p50_ms": round(p50, 2),
        "p99_ms": round(p99, 2),
        "first_ms": round(book.taken_ms[0], 1),
    }
    line |= {"us_per_session": round(1e3 * p50 / count, 1), "cpu_us": round(1e3 * median(spent) / count, 1)}
    line |= {"one_by_one_us": round(1e3 * median(singles) / of_one, 1)}
    line |= {"one_by_one_cpu_us": round(1e3 * median(spent_alone) / of_one, 1)}
    line |= {"memory_mb": round(resident_mb("VmRSS") - before, 1)}
    if count == 1000:
        line["within_a_second"] = p99 < WITHIN_MS
    aim = AIM if count >= 1000 else AIM_OF_FEW
    name = f"lockstep: {count:,} sessions on {markets:,} markets, advised a second, over one by one"
    report(name, round(1e3 * count / p50, 1), round(1e3 * of_one / median(singles), 1), aim, **line)


def assert_same(book: Steps, alone: Steps) -> None:
    """Raise an AssertionError where an order is advised otherwise than by a session of its own."""
    for step, told in enumerate(alone.advice):
        for name, advice in told.items():
            assert abs(book.advice[step][name].fraction - advice.fraction) < 1e-6, f"order {name}, bar {step + 1}"


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = LEM(LEMConfig(FEATURES)).eval()
    counts = [int(each) for each in os.environ.get("SESSIONS", " ".join(map(str, COUNTS))).split()]
    measure(model, 1, 1)  # to warm up
    for count in counts:
        measure(model, count, count if os.environ.get("MARKETS") == "own" else max(1, count // ORDERS_PER_MARKET))


if __name__ == "__main__":
    main()
