"""Jobs named for what people do; schedules and sensors that are off until someone switches them on."""

from datetime import timedelta

import dagster as dg

from lem_pipeline.engine import tried_again
from lem_pipeline.ingest import wanted_period
from lem_pipeline.main_job import END_TAG, START_TAG
from lem_pipeline.settings import settings
from lem_pipeline.universe import ASSET_CLASSES, DAY

NIGHTLY = {"crypto": "30 1 * * *", "dow": "0 2 * * *"}  # one after the other, long after New York closes

TABLES = dg.AssetSelection.groups("raw", "staging", "bars", "quality", "features", "windows")
FOR_READERS = dg.AssetSelection.assets(["reports", "readers_copy"])
MODELS = dg.AssetSelection.groups("models")
EVIDENCE = dg.AssetSelection.groups("results", "reports", "promotions")

JOBS = {
    "main": (
        dg.AssetSelection.all(),
        "Everything, from source to report: fetch bars, rebuild tables, train, compare, judge who trades. "
        "Choose all months; one run takes them all, and does only what is new.",
    ),
    "backfill": (
        TABLES | FOR_READERS,
        "Months of your choice, of every market: fetch what is missing in them, one run however many they are, and "
        "rebuild the tables. Setting refetch of raw bars asks again for what is stored, too.",
    ),
    "train": (
        MODELS,
        "Train and register each model whose data, code or settings have changed since its last version. A model "
        "that fails a gate is not registered. No test order is played.",
    ),
    "compare": (
        EVIDENCE,
        "Play the test orders with the latest version of each model, once per version; write the comparison report; "
        "judge which version trades.",
    ),
}


def ingest_job(market: str) -> tuple[dg.AssetSelection, str]:
    """What the job that fetches bars of one market makes, and what it is for; other markets' bars stay as they are."""
    others = [dg.AssetKey(["raw", f"{name}_bars"]) for name in ASSET_CLASSES if name != market]
    return (TABLES | FOR_READERS) - dg.AssetSelection.assets(*others), (
        f"Fetch {market} bars that are new or have not settled yet in the months chosen, then rebuild tables, features "
        "and windows, and the copy for readers. A new home begins with backfill, since a check wants windows of all."
    )


def nightly_ingest(market: str) -> dg.ScheduleDefinition:
    """One run a night over the months that hold bars which are new, or young enough to be corrected by their venue."""

    @dg.schedule(
        name=f"nightly_{market}",
        job_name=f"ingest_{market}",
        cron_schedule=NIGHTLY[market],
        execution_timezone="UTC",
        description=f"Fetch {market} bars that are new or have not settled yet, every night; twice more on failure.",
    )
    def nightly(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        now = context.scheduled_execution_time
        since, until = wanted_period(settings().markets[market], now - ASSET_CLASSES[market].settles_after - DAY, now)
        if until <= since:
            return dg.SkipReason(f"the settings ask for {market} bars until {until:%Y-%m-%d}, and those have settled")
        return dg.RunRequest(
            run_key=f"{now:%Y-%m-%d}",
            tags={
                START_TAG: f"{since:%Y-%m}-01",
                END_TAG: f"{until - timedelta.resolution:%Y-%m}-01",
                "dagster/max_retries": "2",
                "dagster/retry_strategy": "FROM_FAILURE",
            },
        )

    return nightly


@dg.definitions
def automation() -> dg.Definitions:
    """Jobs, schedules, and the sensor by which tables follow their bars."""
    markets = settings().markets
    jobs = JOBS | {f"ingest_{name}": ingest_job(name) for name in markets}
    again = tried_again(settings())  # whatever these jobs make, making it twice does no harm
    weekly = dg.ScheduleDefinition(
        name="weekly_training",
        target=MODELS | EVIDENCE,
        cron_schedule="0 3 * * 0",
        execution_timezone="UTC",
        description="Jobs train and compare in one run, every Sunday at 03:00 UTC.",
    )
    follow = dg.AutomationConditionSensorDefinition(
        "tables_follow_their_bars",
        target=dg.AssetSelection.all(),
        description="Rebuild features, windows and report tables whenever what they are made of has changed.",
    )
    return dg.Definitions(
        jobs=[
            dg.define_asset_job(name, made, description=text, op_retry_policy=again)
            for name, (made, text) in jobs.items()
        ],
        schedules=[*map(nightly_ingest, markets), weekly],
        sensors=[follow],
    )
