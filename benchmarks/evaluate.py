"""Evaluation as the main job does it: every strategy, all 96 kinds of orders, 20,000 windows, intervals included.

Accounting (slippage against three benchmarks, completion, filled fraction, impact) is timed apart from deciding (the
model's and the baselines' schedules), in orders per second, against the same accounting as a plain loop over orders;
the two agree on a sample first. The whole adds the rows of the result table, daily improvements by the repository's own
SQL, batch by batch, and the bootstrap of improvements and edges. The model is an untrained LEM of the default
configuration on a simulated market; what it decides does not matter here.

Memory is the growth of a process of its own at its peak, while results stream: windows of the large test set over those
of the small one, per MB, so that the ratio is their number's if memory is bounded by the batch. It needs Linux.
"""

import gc
import math
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import torch

from benchmarks import report, resident_mb, seconds_in_turns
from lem_models.baselines import Strategy
from lem_models.config import LEMConfig
from lem_models.costs import order_costs
from lem_models.evaluation import EvaluatedBatch, evaluate
from lem_models.execution import settle
from lem_models.lem import LEM
from lem_models.orders import SCENARIOS, Benchmark, MarketPath, OrderBatch, OrderGrid, Side, Target
from lem_models.simulation import SimulatedSymbol, hours_of_week
from lem_models.windows import MarketPanel
from lem_pipeline.contestants import charged, contestants
from lem_pipeline.edges import KIND, edge_intervals, improvement_intervals
from lem_pipeline.panel import OrderPanel
from lem_pipeline.results import MEASURES, order_results
from lem_pipeline.sql_assets import SQL

FEATURES = ("volume_surprise", *(f"feature_{number}" for number in range(1, 17)))
CONFIG = LEMConfig(FEATURES)
SYMBOLS, WINDOWS, FEWER = 12, 20_000, 5_000
TRIAL = charged("crypto", 0.01, participation_cap=None)
SPEED_AIM, SECONDS_AIM, MEMORY_AIM = 200, 120, 1
SAMPLE = 16  # windows that the loop is timed on


def order_panel(windows: int, symbols: int = SYMBOLS, config: LEMConfig = CONFIG) -> OrderPanel:
    """Simulated hourly bars with so many test windows that do not overlap, after one training window each symbol."""
    lookback, horizon = config.lookback, config.horizon
    each = math.ceil(windows / symbols)
    bars = 2 * lookback + (1 + each) * horizon
    market = [
        SimulatedSymbol(f"S{number:02}", 7, 100.0, 0.01, 1e3, hours_of_week()).bars(np.arange(bars) % 168)
        for number in range(symbols)
    ]
    column = {name: torch.from_numpy(np.concatenate([s[name] for s in market])) for name in market[0]}
    rows = symbols * bars
    generator = torch.Generator().manual_seed(0)
    panel = MarketPanel(
        features=torch.randn(rows, len(config.features), generator=generator),
        price=column["notional"] / column["volume"],
        close=column["close"],
        volume=column["volume"],
        volatility=torch.full((rows,), 0.01, dtype=torch.float64),
        expected_volume=torch.full((rows,), 1e3, dtype=torch.float64),
    )
    split = np.full(bars, None, dtype=object)
    split[lookback] = "train"
    split[2 * lookback + horizon :: horizon] = "test"
    keys = {
        "asset_class": np.repeat("crypto", rows),
        "symbol": np.repeat([f"S{number:02}" for number in range(symbols)], bars),
        "bar_start": np.tile(pd.date_range(datetime(2020, 1, 1, tzinfo=UTC), periods=bars, freq="h"), symbols),
        "bar_number": np.tile(np.arange(bars), symbols),
        "split": np.tile(split, symbols),
    }
    return OrderPanel(panel, config.features, pa.table(keys), "simulated")


@dataclass(frozen=True)
class Bars:
    """What one window's market did, as plain numbers."""

    arrival: float
    price: list[float]
    volume: list[float]
    volatility: list[float]
    daily_volume: float

    @classmethod
    def of(cls, market: MarketPath) -> list["Bars"]:
        """Those of every window."""
        daily = market.expected_daily_volume(TRIAL.costs.bars_per_day)
        columns = (market.arrival, market.price, market.volume, market.volatility, daily)
        return [cls(*values) for values in zip(*(column.tolist() for column in columns), strict=True)]


def plain_loop(schedule: list[float], bars: Bars, scenario: int, minimum: int) -> tuple[float, ...]:
    """The measures of one order and its impact, bar by bar."""
    kind = SCENARIOS[scenario]
    by_volume, notional = kind.benchmark is Benchmark.VWAP, kind.target is Target.NOTIONAL
    filled = sums = impact = weight = worth = 0.0
    last, benchmarks = 0, []
    for bar, (child, price, volume) in enumerate(zip(schedule, bars.price, bars.volume, strict=True), 1):
        if volume > 0:
            weight += volume if by_volume else 1.0
            worth += price * (volume if by_volume else 1.0)
        benchmarks.append(worth / weight if weight else bars.arrival)
        if child > 0:
            last = bar
            filled += child
            sums += child / price if notional else child * price
            units = child * TRIAL.fraction_of_daily_volume * (bars.arrival / price if notional else 1.0)
            daily_volatility = bars.volatility[bar - 1] * math.sqrt(TRIAL.costs.bars_per_day)
            impact += child * 1e4 * daily_volatility * math.sqrt(units)
    fill = (filled / sums if notional else sums / filled) if filled else bars.arrival
    completion = len(schedule) if filled < 1 - 1e-5 else max(last, minimum)
    sign = 1e4 if kind.side is Side.BUY else -1e4
    references = (benchmarks[completion - 1], benchmarks[-1], bars.arrival)
    slippage = [sign * (fill / reference - 1) for reference in references]
    return *slippage, completion, filled, impact / filled if filled else 0.0


def loop_over(schedules: torch.Tensor, market: MarketPath) -> list[tuple[float, ...]]:
    bars = Bars.of(market)
    return [
        plain_loop(slices, bars[order], scenario, minimum + 1)
        for order, by_scenario in enumerate(schedules.tolist())
        for scenario, by_minimum in enumerate(by_scenario)
        for minimum, slices in enumerate(by_minimum)
    ]


def account(schedule: torch.Tensor, orders: OrderBatch) -> list[torch.Tensor]:
    """The same, as the evaluation does it."""
    results = settle(schedule, orders.market, OrderGrid(orders.market.horizon))
    costs = order_costs(schedule, orders.market, TRIAL.size(orders), TRIAL.costs)
    return [*(getattr(results, name) for name in MEASURES), costs.impact_bps]


def assert_same(ours: list[torch.Tensor], looped: list[tuple[float, ...]]) -> None:
    """Raise an AssertionError where any measure of any order differs."""
    for measure, theirs in zip(ours, torch.tensor(looped).T, strict=True):
        torch.testing.assert_close(measure.flatten().float(), theirs, atol=0.05, rtol=1e-4)


def accounting(data: OrderPanel, config: LEMConfig = CONFIG, batch: int = 256) -> None:
    """Orders per second, settled in batches over settled one by one."""
    model = untrained(config)
    strategies = contestants(model, [], data, config)
    rows = data.rows("test", 1)
    few, many = (data.panel.orders(rows[:count], config.lookback, config.horizon) for count in (SAMPLE, batch))
    loops = [strategy.schedule(few) for strategy in strategies]
    wholes = [strategy.schedule(many) for strategy in strategies]
    for schedule in loops:
        assert_same(account(schedule, few), loop_over(schedule, few.market))
    works = [
        lambda: [account(schedule, many) for schedule in wholes],
        lambda: [loop_over(schedule, few.market) for schedule in loops],
    ]
    taken = seconds_in_turns(works, 10)
    orders = [sum(schedule[..., 0].numel() for schedule in schedules) for schedules in (wholes, loops)]
    rates = (round(each / seconds) for each, seconds in zip(orders, taken, strict=True))
    report("evaluate: orders accounted for per second, over a plain loop", *rates, SPEED_AIM)


def untrained(config: LEMConfig) -> LEM:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LEM(config).eval()


class Clock:
    """Seconds spent in each part of a whole."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}

    def add(self, part: str, since: float) -> None:
        """Count the time since then to a part."""
        self.spent[part] = self.spent.get(part, 0.0) + time.perf_counter() - since


@dataclass(frozen=True)
class Timed:
    """A strategy whose decisions are clocked."""

    strategy: Strategy
    clock: Clock
    part: str

    @property
    def name(self) -> str:
        """That of the strategy."""
        return self.strategy.name

    def schedule(self, orders: OrderBatch) -> torch.Tensor:
        """Its schedule, and the time that takes."""
        start = time.perf_counter()
        schedule = self.strategy.schedule(orders)
        self.clock.add(self.part, start)
        return schedule


def streamed(data: OrderPanel, config: LEMConfig, clock: Clock, keep: int | None = None) -> pd.DataFrame:
    """Rows of `reports.daily_improvements` of all strategies on the test windows, added up batch by batch.

    Args:
        data: Bars and windows.
        config: Of the model.
        clock: Is told what takes how long.
        keep: So many test windows; all where not given.
    """
    import duckdb

    field = contestants(untrained(config), [], data, config)
    strategies = [Timed(each, clock, "model" if "LEM" in each.name else "baselines") for each in field]
    rows = data.rows("test")[:keep]
    statement = (SQL / "reports/daily_improvements.sql").read_text()
    daily: pd.DataFrame | None = None
    with duckdb.connect() as memory:
        memory.execute("create schema results; set threads = 1")
        batches = evaluate(strategies, data.panel, rows, config.lookback, config.horizon, trial=TRIAL)
        for _, of_rows in groupby(clocked(batches, clock), key=lambda batch: int(batch.rows[0])):
            evaluated = list(of_rows)  # of one batch of windows, all strategies
            start = time.perf_counter()
            table = pa.concat_tables(order_results("simulated", data, evaluated))
            clock.add("rows", start)
            start = time.perf_counter()
            memory.register("given", table)
            memory.execute("create or replace view results.order_results as from given")
            part = memory.sql(statement).df()
            daily = added_up(part if daily is None else pd.concat([daily, part]))
            clock.add("daily sums", start)
    assert daily is not None
    return daily


def added_up(parts: pd.DataFrame) -> pd.DataFrame:
    keys = ["model", "asset_class", "strategy", *KIND, "trading_day"]
    return parts.groupby(keys, sort=False, as_index=False).sum()


def clocked(batches: Iterator[EvaluatedBatch], clock: Clock) -> Iterator[EvaluatedBatch]:
    """The same batches; what making them takes beside deciding is accounting."""
    while True:
        decided, start = sum(clock.spent.get(part, 0.0) for part in ("model", "baselines")), time.perf_counter()
        batch = next(batches, None)
        if batch is None:
            return
        decided_since = sum(clock.spent.get(part, 0.0) for part in ("model", "baselines")) - decided
        clock.add("accounting", start + decided_since)
        yield batch


def peak_growth_mb(windows: int, of: int = WINDOWS) -> float:
    """Memory that evaluating so many windows of a panel takes at its peak, beyond the panel."""
    torch.set_num_threads(1)
    data = order_panel(of)
    streamed(data, CONFIG, Clock(), keep=512)  # what libraries load on their first use is not counted
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = resident_mb("VmRSS")
    streamed(data, CONFIG, Clock(), keep=windows)
    return resident_mb("VmHWM") - before


def of_own_process(windows: int) -> float:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(peak_growth_mb, windows).result()


def whole(data: OrderPanel, config: LEMConfig = CONFIG) -> None:
    """Seconds of the whole, and of its parts."""
    clock, start = Clock(), time.perf_counter()
    daily = streamed(data, config, clock)
    bootstrap = time.perf_counter()
    improvements, edges = improvement_intervals(daily), edge_intervals(daily)
    clock.add("bootstrap", bootstrap)
    taken = time.perf_counter() - start
    assert improvements["order_windows"].eq(len(data.rows("test"))).all() and edges["low_bps"].notna().any()
    orders = len(data.rows("test")) * daily["strategy"].nunique() * len(SCENARIOS) * config.horizon
    parts = {f"{part}_s": round(spent, 1) for part, spent in clock.spent.items()}
    more = {"orders": orders, "seconds": round(taken, 1), **parts}
    report(
        "evaluate: orders per second, intervals included", round(orders / taken), round(orders / SECONDS_AIM), 1, **more
    )


def main() -> None:
    data = order_panel(WINDOWS)
    accounting(data)
    whole(data)
    small, large = (of_own_process(windows) for windows in (FEWER, WINDOWS))
    rates = (round(windows / mb, 1) for windows, mb in ((WINDOWS, large), (FEWER, small)))
    more = {"growth_mb": [round(small, 1), round(large, 1)], "windows": [FEWER, WINDOWS]}
    report("evaluate: windows per MB, of the large test set over the small", *rates, WINDOWS / FEWER / 1.25, **more)


if __name__ == "__main__":
    main()
