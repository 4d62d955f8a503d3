"""Where the Dagster UI and the MLflow UI name each other's pages."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from lem_pipeline.settings import settings
from lem_pipeline.tracking import Tracking


def dagster_tags(run_id: str, made_by: dg.AssetKey) -> dict[str, str]:
    """Tags by which an MLflow run, or a version, names the Dagster run and the asset that it was made by."""
    return {
        "dagster.run_id": run_id,
        "dagster.run_page": f"{settings().dagster_ui}/runs/{run_id}",
        "dagster.asset": made_by.to_user_string(),
    }


def with_note(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags of an MLflow run, with a name and a description that links to Dagster: addresses in tags are plain text."""
    run, page, asset = tags["dagster.run_id"], tags["dagster.run_page"], tags["dagster.asset"]
    asset_page = f"{settings().dagster_ui}/assets/{asset}"
    return {
        **tags,
        "mlflow.runName": f"{asset} in {run[:8]}",
        "mlflow.note.content": f"Made by asset [{asset}]({asset_page}) in [Dagster run {run}]({page}).",
    }


def mlflow_pages(name: str, version: Any, tracking: Tracking) -> dict[str, dg.UrlMetadataValue]:
    """Links to a registered version and to the run that made it."""
    address = settings().mlflow_ui
    experiment = tracking.client().get_run(version.run_id).info.experiment_id
    return {
        "mlflow_model": dg.MetadataValue.url(f"{address}/#/models/{name}/versions/{version.version}"),
        "mlflow_run": dg.MetadataValue.url(f"{address}/#/experiments/{experiment}/runs/{version.run_id}"),
    }
