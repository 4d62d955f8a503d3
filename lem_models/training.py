"""Fits a LEM with Lightning: sampled windows, early stopping, clipping, a seed, and resumption from a checkpoint."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from torch import Tensor

from lem_models.config import LEMConfig, TrainingConfig
from lem_models.execution import settle
from lem_models.launch import Report, Stopped, in_processes
from lem_models.lem import LEM
from lem_models.objective import mean_dispersion, risk, stop_and_hedge
from lem_models.order_windows import OrderWindows
from lem_models.orders import OrderBatch
from lem_models.ranks import launched, of_all, on_this_machine, world_size
from lem_models.windows import MarketPanel

TASK = "task.pt"  # what several processes are to fit, in the folder of their checkpoints


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


class LEMTraining(lightning.LightningModule):
    """The training loop's view of a LEM."""

    def __init__(self, model: LEM, config: TrainingConfig) -> None:
        super().__init__()
        self.model, self.config = model, config

    def training_step(self, batch: OrderBatch, _: int) -> Tensor:
        """Relaxed objective, exact in expectation over the completion bar."""
        is_martingale = batch.information_set == "causal"
        loss = stop_and_hedge(
            self.model(batch),
            batch.market,
            self.model.grid,
            *self.config.aversion,
            is_martingale=is_martingale,
            gather=of_all,
        )
        if not torch.isfinite(loss):
            raise FloatingPointError(f"training diverged in epoch {self.current_epoch + 1}; lower the learning rate")
        self.log("train_loss", loss, on_epoch=True, on_step=False, batch_size=self.config.batch_size)
        # Gradients flow through one's own windows alone, and are then averaged over processes, not added up.
        return loss * world_size()

    def validation_step(self, batch: OrderBatch, _: int) -> None:
        """The objective of the hard schedule, and how far the relaxed one is from it."""
        decisions = self.model(batch)
        results = settle(decisions.schedule(), batch.market, self.model.grid)
        cost = of_all(results.slippage_bps / (batch.market.volatility[:, 0] * 1e4)[:, None, None])
        risk_aversion, cvar_level = self.config.aversion
        certain = torch.ones_like(cost)[..., None]
        hard = cost.mean() + risk_aversion * risk(certain, cost[..., None], cvar_level).mean()
        relaxed = mean_dispersion(decisions, batch.market, self.model.grid, risk_aversion, cvar_level, of_all)
        size = len(cost)
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
        try:
            if self.report and trainer.is_global_zero:
                self.report(trainer.current_epoch, metrics)
            stopped = False
        except Stopped:
            stopped = True
        trainer.should_stop |= trainer.strategy.reduce_boolean_decision(stopped, all=False)

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
    """Train a LEM, on a GPU where there is one; on several devices where the configuration or ``torchrun`` says so.

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
    training_config.refuse_world(world_size())
    task = _Task(panel, train_rows, validation_rows, model_config, training_config)
    train = _in_processes if training_config.devices > 1 and not launched() else _here
    history = train(task, checkpoints, report)
    module = LEMTraining(LEM(model_config), training_config)
    module.load_state_dict(torch.load(checkpoints / "best.ckpt", map_location="cpu", weights_only=True)["state_dict"])
    windows_seen = len(history) * training_config.batches_per_epoch * training_config.batch_size
    return Fit(module.model.eval(), history, windows_seen)


@dataclass(frozen=True)
class _Task:
    """What is to be fitted, and how; the arguments of :func:`fit`."""

    panel: MarketPanel
    train_rows: Tensor
    validation_rows: Tensor
    model: LEMConfig
    training: TrainingConfig

    def write(self, file: Path) -> None:
        plain = {"panel": vars(self.panel), "model": self.model.to_dict(), "training": asdict(self.training)}
        torch.save(vars(self) | plain, file)

    @classmethod
    def read(cls, file: Path) -> "_Task":
        # Mapped, not read: all processes of a machine share one copy of the bars.
        parts = torch.load(file, mmap=True, weights_only=True)
        panel, model = MarketPanel(**parts["panel"]), LEMConfig.from_dict(parts["model"])
        training = TrainingConfig(**parts["training"])
        return cls(panel, parts["train_rows"], parts["validation_rows"], model, training)


def _here(task: _Task, checkpoints: Path, report: Report | None) -> list[dict[str, float]]:
    """Train in this process, one of several where it was launched so; the metrics of each epoch."""
    training = task.training
    lightning.seed_everything(training.seed, verbose=False)
    module = LEMTraining(LEM(task.model), training)
    if training.compile:
        module.model.compile()
    history = _History(report)
    best = ModelCheckpoint(checkpoints, "best", monitor="validation_loss", enable_version_counter=False)
    # `save_last` would save only what is best: an epoch that is not would be trained again.
    latest = ModelCheckpoint(checkpoints, "last", monitor=None, enable_version_counter=False)
    with _quiet(), _threads(training.threads):
        trainer = lightning.Trainer(
            accelerator="auto",
            devices=on_this_machine(),
            num_nodes=world_size() // on_this_machine(),
            strategy="ddp" if world_size() > 1 else "auto",
            plugins=[TorchElasticEnvironment()] if launched() else None,
            use_distributed_sampler=False,  # windows are shared out before
            precision=training.precision,
            max_epochs=training.max_epochs,
            gradient_clip_val=training.gradient_clip,
            deterministic=True,
            callbacks=[history, EarlyStopping("validation_loss", patience=training.patience), best, latest],
            reload_dataloaders_every_n_epochs=1,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        data = OrderWindows(task.panel, task.train_rows, task.validation_rows, task.model, training)
        last = checkpoints / "last.ckpt"
        trainer.fit(module, data, ckpt_path=last if last.exists() else None, weights_only=True)
    return history.epochs


def _in_processes(task: _Task, checkpoints: Path, report: Report | None) -> list[dict[str, float]]:
    """Train in several processes of this machine, which find in a file what they are to fit."""
    checkpoints.mkdir(parents=True, exist_ok=True)
    task.write(checkpoints / TASK)
    found = in_processes(_rank, (checkpoints,), task.training.devices, report)
    (checkpoints / TASK).unlink()
    if isinstance(found, FloatingPointError):
        raise found
    history: list[dict[str, float]] = found
    return history


def _rank(checkpoints: Path, report: Report | None) -> list[dict[str, float]] | FloatingPointError:
    try:
        return _here(_Task.read(checkpoints / TASK), checkpoints, report)
    except FloatingPointError as error:  # in all of them, and it would be the same again: no case for a restart
        return error


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
    loggers = {name: logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")}
    levels = {name: logger.level for name, logger in loggers.items()}
    for logger in loggers.values():
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, logger in loggers.items():
            logger.setLevel(levels[name])
