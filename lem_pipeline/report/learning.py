"""How a registered model was trained, epoch by epoch, from its MLflow run."""

from typing import TYPE_CHECKING

import pandas as pd

from lem_pipeline.settings import Settings
from lem_pipeline.tracking import Tracking

if TYPE_CHECKING:
    import mlflow

METRICS = ("train_loss", "validation_loss", "improvement_sigma")


def learning_curves(chosen: Settings, tracking: Tracking) -> pd.DataFrame:
    """Losses and improvement of each epoch of the models compared.

    Returns:
        Columns model, epoch (counted from 1), train_loss, validation_loss, improvement_sigma (on validation windows, in
        volatilities of one bar), is_kept: the epoch whose weights were registered, that of the least validation loss.
    """
    client = tracking.client()
    curves = [_curve(client, tracking.latest(name).run_id or "").assign(model=name) for name in chosen.models]
    return pd.concat(curves, ignore_index=True)


def _curve(client: "mlflow.MlflowClient", run: str) -> pd.DataFrame:
    columns = {name: {m.step + 1: m.value for m in client.get_metric_history(run, name)} for name in METRICS}
    curve = pd.DataFrame(columns, columns=list(METRICS)).rename_axis("epoch").sort_index()
    loss = curve["validation_loss"]
    return curve.assign(is_kept=curve.index == (loss.idxmin() if loss.notna().any() else 0)).reset_index()
