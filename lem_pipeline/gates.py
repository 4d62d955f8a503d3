"""What a model must pass before it is registered: on its very own bars it knows nothing that it cannot know.

Gates that ask what a decision is made of look at test windows, as they see no result: the future is overwritten, or
prices are walks. The one that looks at what real bars paid looks at validation windows; the test split stays unseen.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations, product
from statistics import NormalDist
from typing import TYPE_CHECKING

from lem_pipeline.errors import LookAheadError

if TYPE_CHECKING:
    from torch import Tensor

    from lem_models.baselines import Strategy
    from lem_models.orders import Limits, MarketPath, OrderGrid
    from lem_pipeline.panel import OrderPanel

_FALSE_ALARM = 0.001  # chance that one of these gates refuses a sound model, over all kinds of orders
_WINDOWS = 2_048
_OVERWRITTEN = 64  # windows are enough where a single bit counts
_FEWEST_DAYS = 20  # of which a mean says anything

# In σ of one bar. Against TWAP the plan of no-forecast stopping is within so much of the optimum.
_OF_THE_PLAN = 0.001
# Against VWAP, who forecasts volume may time its end a little better than the plan; and real prices have some
# autocorrelation, which an order's own state shows without any feature. It is a twelfth of what stopping itself earns.
_MATERIAL = 0.02

GATES = {
    "splits_share_no_bar": "No bar of a window, lookback and horizon included, lies in a window of another split.",
    "decisions_are_blind_to_the_future": "No child order moves when its own bar and later ones turn out otherwise.",
    "no_foresight_on_driftless_walks": "Where prices are martingales, a fill is no better than its bar's start.",
    "no_gain_on_driftless_walks": "Where prices are martingales, orders fill no better than at arrival.",
    "no_edge_on_driftless_walks": "Where prices are martingales, orders do no better than no-forecast stopping.",
    "no_edge_with_features_of_others": "Told the features of others, orders do no better than no-forecast stopping.",
}


def pass_gates(model: "Strategy", data: "OrderPanel", lookback: int, limits: "Limits", seed: int = 0) -> dict[str, str]:
    """Put a model through every gate.

    Args:
        model: As it would be registered.
        data: Bars and order windows.
        lookback: Bars of history each window carries.
        limits: Horizon and limits of its orders, for the stopping strategy that it is compared with.
        seed: Of the futures that did not happen.

    Returns:
        The evidence for each of ``GATES``.

    Raises:
        LookAheadError: It failed one; the message says how.
    """
    import torch

    from lem_models.leakage import foresight, moved_by_the_future, on_driftless_walks
    from lem_models.orders import OrderGrid
    from lem_models.windows import evenly_spread

    apart = _no_bar_in_two_splits(data, lookback, limits.horizon)
    rows, generator = data.rows("test"), torch.Generator().manual_seed(seed)
    orders = data.panel.orders(evenly_spread(rows, _OVERWRITTEN), lookback, limits.horizon)
    if moved := moved_by_the_future(model, orders, generator):
        raise LookAheadError(
            f"the model looks ahead: its child order of bar {moved[0]} moves when only that bar and later ones change"
        )
    walks = on_driftless_walks(data.panel.orders(evenly_spread(rows, _WINDOWS), lookback, limits.horizon), generator)
    grid, schedule = OrderGrid(limits.horizon), model.schedule(walks)
    gains = _side_averaged(foresight(schedule, walks.market, grid))
    arrival = _side_averaged(_improvement(schedule, walks.market, grid, "arrival_slippage_bps"))
    edges = _edges(schedule, _stopping(limits).schedule(walks), walks.market, grid)
    evidence = (
        apart,
        f"{len(orders):,} windows, each bar and its future overwritten: not a bit moved",
        _nothing_on_walks("over the start of the bars it trades in", gains),
        _nothing_on_walks("over arrival", arrival),
        _nothing_on_walks("over no-forecast stopping", edges, _plan_margins(limits.horizon)),
        _placebo(model, data, lookback, limits),
    )
    return dict(zip(GATES, evidence, strict=True))


def evidence_of(tags: Mapping[str, str]) -> dict[str, str] | None:
    """What a registered version's tags say of each gate; ``None`` where it passed other gates than today's."""
    found = {gate: tags[f"gate.{gate}"] for gate in GATES if f"gate.{gate}" in tags}
    return found if len(found) == len(GATES) else None


def _no_bar_in_two_splits(data: "OrderPanel", lookback: int, horizon: int) -> str:
    """Refuse windows of two splits that hold the same bar of the same symbol, by the numbers of their bars."""
    import numpy as np

    keys = data.keys.to_pandas()
    series = keys.groupby(["asset_class", "symbol"], sort=False).ngroup().to_numpy()
    first = keys["bar_number"].min() - lookback
    bars = int(keys["bar_number"].max() - first) + horizon + 1
    covered = {}
    for split in keys["split"].dropna().unique():
        begins = (keys["split"] == split).to_numpy()
        ends = np.zeros((series.max() + 1, bars), dtype=np.int32)
        at = keys["bar_number"].to_numpy()[begins] - first
        np.add.at(ends, (series[begins], at - lookback + 1), 1)
        np.add.at(ends, (series[begins], at + horizon), -1)
        covered[str(split)] = ends.cumsum(axis=1) > 0
    for one, other in combinations(covered, 2):
        shared = np.argwhere(covered[one] & covered[other])
        if len(shared):
            symbol = keys["symbol"][int(np.argmax(series == shared[0, 0]))]
            raise LookAheadError(
                f"{one} and {other} windows of {symbol} share bar {shared[0, 1] + first} of its clock, and "
                f"{len(shared) - 1:,} more: what is tested would have been trained on; build the windows anew"
            )
    counted = ", ".join(f"{split} {bars.sum():,}" for split, bars in covered.items())
    return f"bars in windows: {counted}; none in two splits"


def _stopping(limits: "Limits") -> "Strategy":
    from lem_models.baselines.optimal_stopping import OptimalStopping

    return OptimalStopping(limits)


def _improvement(schedule: "Tensor", market: "MarketPath", grid: "OrderGrid", measure: str) -> "Tensor":
    """What orders gain, in σ of one bar; (N, S, M)."""
    from lem_models.execution import settle

    sigma_bps = (market.volatility[:, 0] * 1e4)[:, None, None]
    slippage: Tensor = getattr(settle(schedule, market, grid), measure)
    return -slippage / sigma_bps


def _edges(schedule: "Tensor", other: "Tensor", market: "MarketPath", grid: "OrderGrid") -> "Tensor":
    """What orders gain over those of another schedule, paired and side-averaged, in σ of one bar; (N, kinds)."""
    ours, theirs = (_improvement(each, market, grid, "slippage_bps") for each in (schedule, other))
    return _side_averaged(ours - theirs)


def _side_averaged(gains: "Tensor") -> "Tensor":
    """Sides averaged, which takes the luck of the paths out; (N, S, M) to (N, kinds).

    Fixed notionals gain by convexity and are left out.
    """
    from lem_models.orders import SCENARIOS, Target

    quantity = [index for index, scenario in enumerate(SCENARIOS) if scenario.target is Target.QUANTITY]
    buys, sells = gains[:, quantity].double().chunk(2, dim=1)
    return ((buys + sells) / 2).flatten(1)


def _kinds(horizon: int) -> list[tuple[str, int]]:
    """Benchmark and minimum duration of the columns of :func:`_side_averaged`."""
    from lem_models.orders import Benchmark

    return list(product((benchmark.value for benchmark in Benchmark), range(1, horizon + 1)))


def _plan_margins(horizon: int) -> list[float]:
    return [_OF_THE_PLAN if benchmark == "TWAP" else _MATERIAL for benchmark, _ in _kinds(horizon)]


def _nothing_on_walks(over: str, gains: "Tensor", margins: list[float] | None = None) -> str:
    """Refuse a gain where nobody can forecast; (walks, kinds), in σ of one bar."""
    worst = _worst(gains, margins)
    if worst.is_refused:
        raise LookAheadError(
            f"the model gains {over} on driftless walks ({worst.found}), which nobody can without knowing the future"
        )
    return f"at most {worst.found} {over}, of {gains.shape[1]} kinds of orders on {len(gains):,} walks"


def _placebo(model: "Strategy", data: "OrderPanel", lookback: int, limits: "Limits") -> str:
    """Refuse a material edge with the features of other orders, on validation windows that do not overlap.

    Those that begin on one day count as one observation.
    """
    import torch

    from lem_models.baselines.shuffled import ShuffledFeatures
    from lem_models.orders import OrderGrid
    from lem_models.significance import by_day
    from lem_models.windows import evenly_spread

    horizon, found = limits.horizon, []
    for asset_class in data.keys["asset_class"].unique().to_pylist():
        rows = evenly_spread(data.rows("validation", horizon, asset_class), _WINDOWS)
        orders = data.panel.orders(rows, lookback, horizon)
        placebo, plain = (each.schedule(orders) for each in (ShuffledFeatures(model), _stopping(limits)))
        edges = _edges(placebo, plain, orders.market, OrderGrid(horizon))
        days = data.keys["bar_start"].take(rows.tolist()).to_numpy().astype("datetime64[D]")
        daily = torch.from_numpy(by_day(days, edges.numpy()))
        where = f"{len(rows):,} {asset_class} windows of {len(daily):,} validation days"
        if len(daily) < _FEWEST_DAYS:
            found.append(f"{where} are too few to tell")
            continue
        worst = _worst(daily, [_MATERIAL] * daily.shape[1])
        if worst.is_refused:
            raise LookAheadError(
                f"with the features of other orders the model still gains over no-forecast stopping ({worst.found}) "
                f"on {where}: it knows what these bars did without having been told"
            )
        found.append(f"at most {worst.found} over no-forecast stopping, of {daily.shape[1]} kinds of orders on {where}")
    return "; ".join(found)


@dataclass(frozen=True)
class _Worst:
    """The kind of order that gains most, for its error; and whether luck and its margin leave that unexplained."""

    found: str
    is_refused: bool


def _worst(gains: "Tensor", margins: list[float] | None = None) -> _Worst:
    """Look for a mean gain above zero, beyond the false-alarm level, and above its margin.

    Args:
        gains: Independent observations, in σ of one bar; (N, kinds), as :func:`_side_averaged` gives them.
        margins: What a sound model may gain of each kind; nothing where not given.
    """
    import torch

    mean, error = gains.mean(0), gains.std(0) / math.sqrt(len(gains))
    score = (mean / error).nan_to_num()
    kinds = _kinds(gains.shape[1] // 2)
    allowed = torch.tensor(margins or [0.0] * len(kinds), dtype=mean.dtype)
    refused = (score > NormalDist().inv_cdf(1 - _FALSE_ALARM / len(kinds))) & (mean > allowed)
    worst = int(torch.where(refused, score, -torch.inf).argmax() if refused.any() else score.argmax())
    benchmark, duration = kinds[worst]
    interval = f"{mean[worst]:+.4f} ± {1.96 * error[worst]:.4f} σ"
    detail = f"{benchmark} orders of at least {duration} bars, 95 % interval, {score[worst]:+.1f} standard errors"
    return _Worst(f"{interval} [{detail}]", bool(refused.any()))
