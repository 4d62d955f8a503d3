"""The warehouse and the MLflow store that settings choose."""

import os

from lem_pipeline.addresses import told
from lem_pipeline.lake import Lake
from lem_pipeline.settings import Settings
from lem_pipeline.storage import Warehouse
from lem_pipeline.tracking import Tracking


def warehouse_of(chosen: Settings, patience_s: float | None = None) -> Warehouse:
    """The lake where there is one, else the file in the home.

    Args:
        chosen: The settings.
        patience_s: How long to wait for others, where it is not what the settings say.
    """
    patience = chosen.patience_s if patience_s is None else patience_s
    if not chosen.lake:
        return Warehouse(path=str(chosen.warehouse), patience_s=patience)
    os.environ.update(chosen.s3.environment())
    return Lake(
        path=chosen.lake.data, catalog=told(chosen.lake.catalog), url_style=chosen.s3.url_style, patience_s=patience
    )


def tracking_of(chosen: Settings) -> Tracking:
    """MLflow's store: a database or server where the settings name one, else files in the home."""
    store = chosen.tracking.store
    if not store:
        return Tracking(home=str(chosen.home))
    os.environ.update(chosen.s3.environment())
    return Tracking(home=str(chosen.home), store=told(store), artifacts=chosen.tracking.artifacts)
