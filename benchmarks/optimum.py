"""The learned model on simulated driftless walks, where the optimum is known: value, its confidence, dispersion.

First, per case (a market, a cap, a prior): parameters, windows seen, and seconds of training until the side-averaged
value at minimum durations 6, 9 and 11 reached 97 % of the optimum. Then a line per order: `value_over_optimum` with a
95 % interval (`low`, `high`) and `dispersion_over_frontier`, the standard deviation over that of the no-forecast
optimum on the same walks. At a minimum duration of 12 the optimum is zero: the interval is that of `value_sigma`, and
against TWAP the frontier's dispersion is zero, too.

Under a cap of c nothing can finish before bar 1 / c, and the optimum is the free one from there on (``stopping.rule``).

Optima: against TWAP by dynamic programming, in units of the volatility known before the order. Against VWAP with
simulated volume the same value is used; knowing past volume, dynamic programming finds 0.8 to 0.9 % more at point
prices and 0.4 to 0.6 % more at bar averages. Orders of fixed notional are priced as those of fixed quantity: the gain
of the harmonic mean is convexity, for a buyer and against a seller, and is shown by itself as `convexity_sigma`.

Means are intercepts of a regression on controls of known mean zero: each bar's fill over the close before, and VWAP
over TWAP. Walks, not market data.
"""

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from lem_models.baselines import Strategy
from lem_models.baselines.optimal_stopping import OptimalStopping
from lem_models.config import LEMConfig, TrainingConfig
from lem_models.execution import RunningMarket, settle
from lem_models.lem import LEM
from lem_models.objective import paper_objective, stop_and_hedge
from lem_models.orders import SCENARIOS, Limits, MarketPath, OrderBatch, OrderGrid, Target
from lem_models.simulation import WalkLaw, walks
from lem_models.stopping.clustered import Clusters, value_with_clusters
from lem_models.stopping.gaps import BAR_AVERAGES, POINT_PRICES, BarMoves, GapProcess
from lem_models.stopping.rule import solve_rule
from lem_models.walks import WALK_FEATURES, Objective, train_on_walks, walk_orders

HORIZON, LOOKBACK, VOLATILITY = 12, 4, 0.003
MINIMUM_DURATIONS = (6, 9, 11, 12)
FRESH, BATCH, WATCHED = 30_000, 2_000, 2_000
GRID = OrderGrid(HORIZON)
MARKETS = {
    "Gaussian, point prices": WalkLaw(),
    "Gaussian, bar averages": WalkLaw(bar_averages=True),
    "clusters and heavy tails, point prices": WalkLaw(clusters=0.4, surprise=0.4),
    "clusters and heavy tails, bar averages": WalkLaw(bar_averages=True, clusters=0.4, surprise=0.4),
}
MODEL = LEMConfig(
    WALK_FEATURES,
    lookback=LOOKBACK,
    horizon=HORIZON,
    width=8,
    embedding=4,
    memory_width=8,
    head_width=16,
    own_readout=True,
)
TRAINING = TrainingConfig(batches_per_epoch=50, max_epochs=8, learning_rate=2e-2, risk_aversion=0.05)
HEDGE_CLOSELY: Objective = partial(stop_and_hedge, schedule_gain=10.0)


@dataclass(frozen=True)
class Case:
    """What is trained and examined; the prior ``curve`` knows nothing of stopping, so that all of it is learned."""

    market: str
    objective: Objective = HEDGE_CLOSELY
    cap: float = 1.0
    prior: Literal["curve", "stopping"] = "curve"

    @property
    def law(self) -> WalkLaw:
        """How its walks move."""
        return MARKETS[self.market]

    @property
    def limits(self) -> Limits:
        """Of its orders."""
        return Limits(HORIZON, cap=self.cap)

    @property
    def labels(self) -> dict[str, str | float]:
        """What names it in every line."""
        objective = "paper" if self.objective is paper_objective else "stop and hedge"
        return {"market": self.market, "objective": objective, "cap": self.cap, "prior": self.prior}

    def rule(self) -> OptimalStopping:
        """The no-forecast optimum that the model is compared with."""
        return OptimalStopping(self.limits, moves_of(self.law))


CASES = (
    *(Case(market) for market in MARKETS),
    Case("Gaussian, point prices", cap=0.2),
    Case("Gaussian, bar averages", cap=0.2),
    Case("Gaussian, bar averages", cap=0.2, prior="stopping"),
    Case("Gaussian, point prices", paper_objective),
)


def moves_of(law: WalkLaw) -> BarMoves:
    return BAR_AVERAGES if law.bar_averages else POINT_PRICES


def optimum(case: Case) -> Tensor:
    """Value by minimum duration, in units of the first bar's known volatility; (M,)."""
    earliest = math.ceil(1 / case.cap - 1e-9)
    return free_optimum(case.law)[torch.arange(1, HORIZON + 1).clamp_min(earliest) - 1]


def free_optimum(law: WalkLaw) -> Tensor:
    """The same without a cap."""
    if not (law.clusters or law.surprise):
        return solve_rule(GapProcess.after_last_close(HORIZON, moves_of(law))).value
    bar = walks(law, 200_000, 1, 1e-4, torch.Generator().manual_seed(11))
    unit = bar.volatility[:, 0]
    fill, move = bar.price[:, 0].log() / unit, bar.close[:, 0].log() / unit
    return value_with_clusters(HORIZON, fill, move, Clusters(law.clusters, law.keep))


def draw_from(law: WalkLaw) -> Callable[[int, torch.Generator], OrderBatch]:
    return lambda count, generator: walk_orders(law, count, LOOKBACK, HORIZON, VOLATILITY, generator)


@dataclass
class Played:
    """Gains on fresh walks in units of known volatility: (N, S, M)."""

    gain: Tensor
    convexity: Tensor


def play(strategy: Strategy, orders: OrderBatch) -> Played:
    schedule = strategy.schedule(orders)
    sigma_bps = (orders.market.volatility[:, 0] * 1e4)[:, None, None]
    gain = -settle(schedule, orders.market, GRID).slippage_bps / sigma_bps
    is_quantity = torch.tensor([s.target is Target.QUANTITY for s in SCENARIOS])
    partner = torch.arange(len(SCENARIOS)) + torch.where(is_quantity, 1, -1)
    swapped = -settle(schedule[:, partner], orders.market, GRID).slippage_bps / sigma_bps
    priced = torch.where(is_quantity[:, None], gain, swapped[:, partner])
    return Played(priced, gain - priced)


def controls(market: MarketPath) -> Tensor:
    """Of mean zero whatever a strategy does: fills over the close before, VWAP over TWAP of 1..t; (N, 2 H − 1)."""
    sigma = market.volatility[:, :1]
    running = RunningMarket.of(market)
    return torch.cat([(market.price - market.last_close) / sigma, ((running.vwap - running.twap) / sigma)[:, 1:]], 1)


def mean_and_error(gain: Tensor, zero_mean: Tensor) -> tuple[float, float]:
    """Intercept of the regression of a gain on controls of mean zero, and its standard error."""
    design = torch.cat([torch.ones(len(gain), 1), zero_mean], dim=1).double()
    inverse = torch.linalg.inv(design.T @ design)
    coefficients = inverse @ (design.T @ gain.double())
    residual = gain.double() - design @ coefficients
    return float(coefficients[0]), float((residual.var() * inverse[0, 0]).sqrt())


def watch(case: Case, values: Tensor) -> tuple[Callable[[int, LEM], None], list[dict[str, float]]]:
    """A report for training that notes seconds and windows until 97 % of the optimum, watching itself excluded."""
    orders = draw_from(case.law)(WATCHED, torch.Generator().manual_seed(12))
    by_rule = play(case.rule(), orders).gain.mean((0, 1))
    reached: list[dict[str, float]] = []
    clock = {"training": 0.0, "since": time.perf_counter()}

    def report(windows: int, model: LEM) -> None:
        clock["training"] += time.perf_counter() - clock["since"]
        chosen = [m - 1 for m in MINIMUM_DURATIONS[:-1]]
        lost = by_rule - play(model, orders).gain.mean((0, 1))  # on the same walks, so that luck cancels
        if not reached and bool((lost[chosen] <= 0.03 * values[chosen]).all()):
            reached.append({"windows": windows, "seconds": round(clock["training"], 1)})
        clock["since"] = time.perf_counter()

    return report, reached


def examine(case: Case, model: LEM, values: Tensor) -> None:
    """Print a line per order on fresh walks."""
    rule = case.rule()
    generator = torch.Generator().manual_seed(13)
    ours, frontier, zero_mean, convexity = [], [], [], []
    for _ in range(FRESH // BATCH):
        orders = draw_from(case.law)(BATCH, generator)
        played = play(model, orders)
        ours.append(played.gain)
        convexity.append(played.convexity.mean(0))
        frontier.append(play(rule, orders).gain)
        zero_mean.append(controls(orders.market))
    gain, by_rule, zero = torch.cat(ours), torch.cat(frontier), torch.cat(zero_mean)
    bent = torch.stack(convexity).mean(0)
    for index, scenario in enumerate(SCENARIOS):
        for minimum in MINIMUM_DURATIONS:
            of_order = gain[:, index, minimum - 1]
            value, error = mean_and_error(of_order, zero)
            spread, least = float(of_order.std()), float(by_rule[:, index, minimum - 1].std())
            unit = float(values[minimum - 1]) if minimum < HORIZON else None
            low, high = (value + z * error for z in (-1.96, 1.96))
            line = {
                **case.labels,
                "side": scenario.side.name.lower(),
                "benchmark": scenario.benchmark.value,
                "target": scenario.target.value,
                "minimum_duration": minimum,
                "value_over_optimum": round(value / unit, 4) if unit else None,
                "low": round(low / (unit or 1), 4),
                "high": round(high / (unit or 1), 4),
                "dispersion_over_frontier": round(spread / least, 3) if least > 0.01 else None,
                "value_sigma": round(value, 5),
                "dispersion_sigma": round(spread, 4),
                "convexity_sigma": round(float(bent[index, minimum - 1]), 5),
            }
            print(json.dumps(line), flush=True)


def run(case: Case) -> None:
    values = optimum(case)
    report, reached = watch(case, values)
    model = train_on_walks(
        draw_from(case.law), replace(MODEL, cap=case.cap, prior=case.prior), TRAINING, case.objective, report
    )
    line = {
        **case.labels,
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "windows_seen": TRAINING.max_epochs * TRAINING.batches_per_epoch * TRAINING.batch_size,
        "windows_to_97_percent": reached[0]["windows"] if reached else None,
        "seconds_to_97_percent": reached[0]["seconds"] if reached else None,
        "optimum_sigma": {str(m): round(float(values[m - 1]), 4) for m in MINIMUM_DURATIONS},
    }
    print(json.dumps(line), flush=True)
    examine(case, model, values)


def main() -> None:
    torch.set_num_threads(1)
    for case in CASES:
        run(case)


if __name__ == "__main__":
    main()
