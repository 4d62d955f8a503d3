"""Jobs named for what people do, and schedules that are off until someone switches them on."""

from collections.abc import Iterator
from datetime import timedelta

import dagster as dg

TABLES = dg.AssetSelection.groups("raw", "staging", "bars", "features", "windows")
MODELS = dg.AssetSelection.groups("models", "results", "reports")

main = dg.define_asset_job("main", dg.AssetSelection.all(), description="Everything: from source to report.")
ingest = dg.define_asset_job("ingest", TABLES, description="Fetch new bars, then rebuild features and windows.")
train = dg.define_asset_job("train_and_compare", MODELS, description="Train, register, evaluate and report.")


@dg.schedule(
    job=ingest,
    cron_schedule="30 1 * * *",
    execution_timezone="UTC",
    description="Fetch new bars and rebuild features and windows every night at 01:30 UTC.",
)
def daily_ingest(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest]:
    """The month of today, and on its first day the month before as well, whose last bars are new."""
    now = context.scheduled_execution_time
    for month in sorted({(now - timedelta(days=1)).replace(day=1).date(), now.replace(day=1).date()}):
        yield dg.RunRequest(run_key=f"{now:%Y-%m-%d}-{month}", partition_key=str(month))


@dg.definitions
def automation() -> dg.Definitions:
    """Jobs and schedules."""
    weekly = dg.ScheduleDefinition(
        name="weekly_training",
        job=train,
        cron_schedule="0 3 * * 0",
        execution_timezone="UTC",
        description="Train, register and compare every Sunday at 03:00 UTC.",
    )
    return dg.Definitions(jobs=[main, ingest, train], schedules=[daily_ingest, weekly])
