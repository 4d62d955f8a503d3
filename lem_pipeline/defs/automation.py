"""Jobs named for what people do; schedules and sensors that are off until someone switches them on."""

from datetime import timedelta

import dagster as dg

from lem_pipeline.main_job import END_TAG, START_TAG
from lem_pipeline.universe import ASSET_CLASSES

TABLES = dg.AssetSelection.groups("raw", "staging", "bars", "quality", "features", "windows")
FOR_READERS = dg.AssetSelection.assets(["reports", "readers_copy"])
MODELS = dg.AssetSelection.groups("models", "results", "reports", "promotions")
UNSETTLED = max(asset.settles_after for asset in ASSET_CLASSES.values()) + timedelta(days=1)

main = dg.define_asset_job("main", dg.AssetSelection.all(), description="Everything: from source to report.")
ingest = dg.define_asset_job(
    "ingest", TABLES | FOR_READERS, description="Fetch new bars, then rebuild features and windows."
)
train = dg.define_asset_job(
    "train_and_compare", MODELS, description="Train, register, evaluate, report, and judge who trades."
)


@dg.schedule(
    job=ingest,
    cron_schedule="30 1 * * *",
    execution_timezone="UTC",
    description="Fetch new bars and those that have not settled yet, nightly at 01:30 UTC; twice more on failure.",
)
def daily_ingest(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """One run over the months that hold bars which are new, or young enough to be corrected by their venue."""
    now = context.scheduled_execution_time
    return dg.RunRequest(
        run_key=f"{now:%Y-%m-%d}",
        tags={
            START_TAG: f"{now - UNSETTLED:%Y-%m}-01",
            END_TAG: f"{now:%Y-%m}-01",
            "dagster/max_retries": "2",
            "dagster/retry_strategy": "FROM_FAILURE",
        },
    )


@dg.definitions
def automation() -> dg.Definitions:
    """Jobs, schedules, and the sensor by which tables follow their bars."""
    weekly = dg.ScheduleDefinition(
        name="weekly_training",
        job=train,
        cron_schedule="0 3 * * 0",
        execution_timezone="UTC",
        description="Train, register and compare every Sunday at 03:00 UTC.",
    )
    follow = dg.AutomationConditionSensorDefinition(
        "tables_follow_their_bars",
        target=dg.AssetSelection.all(),
        description="Rebuild features, windows and report tables whenever what they are made of has changed.",
    )
    return dg.Definitions(jobs=[main, ingest, train], schedules=[daily_ingest, weekly], sensors=[follow])
