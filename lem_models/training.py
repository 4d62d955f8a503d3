"""Fits a LEM with Lightning: sampled windows, early stopping, clipping, a seed, and resumption from a checkpoint."""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from lem_models.config import LEMConfig, TrainingConfig
from lem_models.execution import settle
from lem_models.lem import LEM
from lem_models.objective import mean_dispersion, risk, stop_and_hedge
from lem_models.orders import OrderBatch
from lem_models.windows import MarketPanel, evenly_spread

Report = Callable[[int, dict[str, float]], None]


@dataclass
class Fit:
    """A trained model and how it came about.

    Attributes:
        model: Weights of the best epoch, in evaluation mode.
        history: Metrics of each epoch.
        windows_seen: Training windows drawn in all.
    """

    model: LEM
    history: list[dict[str, float]]
    windows_seen: int


class _Batches(IterableDataset[OrderBatch]):
    def __init__(self, panel: MarketPanel, batches: list[Tensor], config: LEMConfig) -> None:
        self.panel, self.batches, self.config = panel, batches, config

    def __iter__(self) -> Iterator[OrderBatch]:
        for rows in self.batches:
            yield self.panel.orders(rows, self.config.lookback, self.config.horizon, self.config.information_set)


class OrderWindows(lightning.LightningDataModule):
    """Draws training windows anew each epoch, in an order that depends on seed and epoch alone."""

    def __init__(
        self,
        panel: MarketPanel,
        train_rows: Tensor,
        validation_rows: Tensor,
        model: LEMConfig,
        training: TrainingConfig,
    ) -> None:
        super().__init__()
        self.panel, self.model, self.training = panel, model, training
        self.train_rows, self.validation_rows = train_rows, validation_rows

    def train_dataloader(self) -> DataLoader[OrderBatch]:
        """One epoch of random windows."""
        epoch = self.trainer.current_epoch if self.trainer else 0
        # A resumed run draws what an undisturbed one would have drawn.
        generator = torch.Generator().manual_seed(self.training.seed * 1_000_003 + epoch)
        shape = (self.training.batches_per_epoch, self.training.batch_size)
        drawn = self.train_rows[torch.randint(len(self.train_rows), shape, generator=generator)]
        return self._loader(list(drawn))

    def val_dataloader(self) -> DataLoader[OrderBatch]:
        """The same windows each time."""
        rows = evenly_spread(self.validation_rows, self.training.validation_orders)
        return self._loader(list(torch.split(rows, self.training.batch_size)))

    def _loader(self, batches: list[Tensor]) -> DataLoader[OrderBatch]:
        return DataLoader(_Batches(self.panel, batches, self.model), batch_size=None)


class LEMTraining(lightning.LightningModule):
    """The training loop's view of a LEM."""

    def __init__(self, model: LEM, config: TrainingConfig) -> None:
        super().__init__()
        self.model, self.config = model, config

    def training_step(self, batch: OrderBatch, _: int) -> Tensor:
        """Relaxed objective, exact in expectation over the completion bar."""
        is_martingale = batch.information_set == "causal"
        loss = stop_and_hedge(self.model(batch), batch.market, self.model.grid, *self.config.aversion, is_martingale)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"training diverged in epoch {self.current_epoch + 1}; lower the learning rate")
        self.log("train_loss", loss, on_epoch=True, on_step=False, batch_size=len(batch))
        return loss

    def validation_step(self, batch: OrderBatch, _: int) -> None:
        """The objective of the hard schedule, and how far the relaxed one is from it."""
        decisions = self.model(batch)
        results = settle(decisions.schedule(), batch.market, self.model.grid)
        cost = results.slippage_bps / (batch.market.volatility[:, 0] * 1e4)[:, None, None]
        risk_aversion, cvar_level = self.config.aversion
        certain = torch.ones_like(cost)[..., None]
        hard = cost.mean() + risk_aversion * risk(certain, cost[..., None], cvar_level).mean()
        relaxed = mean_dispersion(decisions, batch.market, self.model.grid, risk_aversion, cvar_level)
        size = len(batch)
        self.log("validation_loss", hard, batch_size=size)
        self.log("relaxation_gap", hard - relaxed, batch_size=size)
        self.log("improvement_sigma", -cost.mean(), batch_size=size)

    def configure_optimizers(self) -> Any:
        """AdamW on a one-cycle learning rate."""
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.config.learning_rate)
        steps = self.config.max_epochs * self.config.batches_per_epoch
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.config.learning_rate, total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class _History(Callback):
    def __init__(self, report: Report | None) -> None:
        self.report, self.epochs = report, list[dict[str, float]]()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        names = ("train_loss", "validation_loss", "relaxation_gap", "improvement_sigma")
        metrics = {name: float(trainer.callback_metrics[name]) for name in names}
        self.epochs.append(metrics)
        if self.report:
            self.report(trainer.current_epoch, metrics)

    def state_dict(self) -> dict[str, Any]:
        return {"epochs": self.epochs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.epochs = state_dict["epochs"]


def fit(
    panel: MarketPanel,
    train_rows: Tensor,
    validation_rows: Tensor,
    model_config: LEMConfig,
    training_config: TrainingConfig,
    checkpoints: Path,
    report: Report | None = None,
) -> Fit:
    """Train a LEM, on a GPU where there is one.

    Args:
        panel: All bars.
        train_rows: Rows where training windows begin.
        validation_rows: Rows where validation windows begin.
        model_config: Shape of the model.
        training_config: How to fit it.
        checkpoints: Folder of checkpoints; training that was cut short goes on from ``last.ckpt`` there.
        report: Called after each epoch with its number and metrics.

    Returns:
        The model with the weights of its best epoch.
    """
    lightning.seed_everything(training_config.seed, verbose=False)
    module = LEMTraining(LEM(model_config), training_config)
    history = _History(report)
    best = ModelCheckpoint(checkpoints, "best", monitor="validation_loss", enable_version_counter=False)
    # `save_last` would save only what is best: an epoch that is not would be trained again.
    latest = ModelCheckpoint(checkpoints, "last", monitor=None, enable_version_counter=False)
    with _quiet(), _threads(training_config.threads):
        trainer = lightning.Trainer(
            accelerator="auto",
            devices=1,
            max_epochs=training_config.max_epochs,
            gradient_clip_val=training_config.gradient_clip,
            deterministic=True,
            callbacks=[history, EarlyStopping("validation_loss", patience=training_config.patience), best, latest],
            reload_dataloaders_every_n_epochs=1,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        data = OrderWindows(panel, train_rows, validation_rows, model_config, training_config)
        last = checkpoints / "last.ckpt"
        trainer.fit(module, data, ckpt_path=last if last.exists() else None, weights_only=True)
    weights = torch.load(best.best_model_path, map_location="cpu", weights_only=True)["state_dict"]
    module.load_state_dict(weights)
    windows_seen = len(history.epochs) * training_config.batches_per_epoch * training_config.batch_size
    return Fit(module.model.cpu().eval(), history.epochs, windows_seen)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Lightning's advice about loggers, workers and hardware: none of it concerns a user here."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
