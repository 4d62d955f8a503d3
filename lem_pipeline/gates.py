"""What a model must pass before it is registered: on its very test bars it knows nothing of the future."""

import math
from statistics import NormalDist
from typing import TYPE_CHECKING

from lem_pipeline.errors import LookAheadError

if TYPE_CHECKING:
    from torch import Tensor

    from lem_models.baselines import Strategy
    from lem_pipeline.panel import OrderPanel

_FALSE_ALARM = 0.001  # chance that a sound model is refused, over all kinds of orders
_WINDOWS = 2_048
_OVERWRITTEN = 64  # windows are enough where a single bit counts


GATES = {
    "decisions_are_blind_to_the_future": "No child order moves when its own bar and later ones turn out otherwise.",
    "no_foresight_on_driftless_walks": "Where prices are martingales, a fill is no better than its bar's start.",
    "no_gain_on_driftless_walks": "Where prices are martingales, orders fill no better than at arrival.",
}


def pass_gates(model: "Strategy", data: "OrderPanel", lookback: int, horizon: int, seed: int = 0) -> dict[str, str]:
    """Put a model through every gate, on test windows.

    Args:
        model: As it would be registered.
        data: Bars and order windows.
        lookback: Bars of history each window carries.
        horizon: Bars of each order.
        seed: Of the futures that did not happen.

    Returns:
        The evidence for each of ``GATES``.

    Raises:
        LookAheadError: It failed one; the message says how.
    """
    import torch

    from lem_models.execution import settle
    from lem_models.leakage import foresight, moved_by_the_future, on_driftless_walks
    from lem_models.orders import OrderGrid
    from lem_models.windows import evenly_spread

    rows, generator = data.rows("test"), torch.Generator().manual_seed(seed)
    orders = data.panel.orders(evenly_spread(rows, _OVERWRITTEN), lookback, horizon)
    if moved := moved_by_the_future(model, orders, generator):
        raise LookAheadError(
            f"the model looks ahead: its child order of bar {moved[0]} moves when only that bar and later ones change"
        )
    walks = on_driftless_walks(data.panel.orders(evenly_spread(rows, _WINDOWS), lookback, horizon), generator)
    grid, market = OrderGrid(horizon), walks.market
    schedule = model.schedule(walks)
    sigma_bps = (market.volatility[:, 0] * 1e4)[:, None, None]
    arrival = -settle(schedule, market, grid).arrival_slippage_bps / sigma_bps
    evidence = (
        f"{len(orders):,} windows, each bar and its future overwritten: not a bit moved",
        _gains_nothing("over the start of the bars it trades in", foresight(schedule, market, grid)),
        _gains_nothing("over arrival", arrival),
    )
    return dict(zip(GATES, evidence, strict=True))


def _gains_nothing(over: str, gains: "Tensor") -> str:
    """Refuse a mean gain above zero where nobody can forecast; (N, S, M) in σ of one bar.

    Sides are averaged, which takes the luck of the walks out. Fixed notionals gain by convexity and are left out.
    """
    from lem_models.orders import SCENARIOS, Target

    quantity = [index for index, scenario in enumerate(SCENARIOS) if scenario.target is Target.QUANTITY]
    buys, sells = gains[:, quantity].double().chunk(2, dim=1)
    averaged = ((buys + sells) / 2).flatten(1)
    mean, error = averaged.mean(0), averaged.std(0) / math.sqrt(len(averaged))
    score = (mean / error).nan_to_num()
    worst = int(score.argmax())
    found = f"{mean[worst]:+.4f} ± {1.96 * error[worst]:.4f} σ"
    if score[worst] > NormalDist().inv_cdf(1 - _FALSE_ALARM / averaged.shape[1]):
        raise LookAheadError(
            f"the model gains {over} on driftless walks ({found}, {score[worst]:.1f} standard errors), "
            "which nobody can without knowing the future"
        )
    return f"at most {found} {over}, {averaged.shape[1]} kinds of orders on {len(averaged):,} walks"
