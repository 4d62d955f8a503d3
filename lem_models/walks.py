"""Training on freshly simulated walks: no panel, no window twice, a known optimum to compare with."""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lem_models.config import LEMConfig, TrainingConfig
from lem_models.heads import Decisions
from lem_models.lem import LEM
from lem_models.objective import stop_and_hedge
from lem_models.orders import MarketPath, OrderBatch, OrderGrid
from lem_models.simulation import WalkLaw, walks

WALK_FEATURES = ("last_return", "last_volume")
_KEEP = 0.98  # of the running mean of weights, per step: walks are noise, and so is the last step

Draw = Callable[[int, torch.Generator], OrderBatch]
Objective = Callable[[Decisions, MarketPath, OrderGrid, float, float | None], Tensor]


def walk_orders(
    law: WalkLaw, orders: int, lookback: int, horizon: int, volatility: float, generator: torch.Generator
) -> OrderBatch:
    """Order windows on walks of a law, with two features that are true and say nothing of the future.

    Args:
        law: How the walks move.
        orders: B.
        lookback: L, rows of history.
        horizon: H.
        volatility: Root mean square of one bar's log return.
        generator: Source of randomness.
    """
    path = walks(law, orders, lookback + horizon, volatility, generator)
    last_return = (path.close / path.last_close).log() / path.volatility
    features = torch.stack([last_return, path.volume.log()], dim=-1)[:, :-1]
    arrival = path.close[:, lookback - 1 : lookback]
    ahead = slice(lookback, None)
    market = MarketPath(
        arrival=torch.ones(orders),
        price=path.price[:, ahead] / arrival,
        close=path.close[:, ahead] / arrival,
        volume=path.volume[:, ahead],
        volatility=path.volatility[:, ahead],
        expected_volume=path.expected_volume[:, ahead],
    )
    return OrderBatch(features, market)


def train_on_walks(
    draw: Draw,
    model_config: LEMConfig,
    training_config: TrainingConfig,
    objective: Objective = stop_and_hedge,
    report: Callable[[int, LEM], None] | None = None,
) -> LEM:
    """Train a LEM on walks drawn anew for every step.

    Args:
        draw: Gives so many order windows.
        model_config: Shape of the model.
        training_config: Steps are ``max_epochs * batches_per_epoch``; nothing is validated, so patience is not used.
        objective: What to minimise.
        report: Called with the windows seen so far and the model so far after each epoch.

    Returns:
        The model with the running mean of its weights, in evaluation mode.
    """
    with torch.random.fork_rng():
        torch.manual_seed(training_config.seed)
        model = LEM(model_config)
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(_KEEP))  # type: ignore[no-untyped-call]
    mean = cast(LEM, averaged.module)
    generator = torch.Generator().manual_seed(training_config.seed + 1)
    optimizer = torch.optim.AdamW(model.parameters(), training_config.learning_rate)
    steps = training_config.max_epochs * training_config.batches_per_epoch
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, training_config.learning_rate, total_steps=steps)
    for step in range(1, steps + 1):
        model.train()
        orders = draw(training_config.batch_size, generator)
        loss = objective(model(orders), orders.market, model.grid, *training_config.aversion)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), training_config.gradient_clip)
        optimizer.step()
        schedule.step()
        averaged.update_parameters(model)
        if report and step % training_config.batches_per_epoch == 0:
            report(step * training_config.batch_size, mean)
    return mean.eval()
