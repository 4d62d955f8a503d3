"""The champion in the shadow of the market: newest bars replayed, drift judged, retraining asked for."""

from datetime import datetime
from typing import TYPE_CHECKING, Any

import dagster as dg
import pyarrow as pa

from lem_pipeline.defs.automation import EVIDENCE, MODELS
from lem_pipeline.defs.results import RESULT_COLUMNS
from lem_pipeline.engine import tried_again
from lem_pipeline.failures import explained
from lem_pipeline.findings import findings, note_findings
from lem_pipeline.settings import settings
from lem_pipeline.sql_assets import asset_key, table_metadata
from lem_pipeline.storage import Warehouse, written
from lem_pipeline.tracking import Tracking

if TYPE_CHECKING:
    from lem_pipeline.shadow import Watch

SHADOW_COLUMNS = RESULT_COLUMNS | {
    "strategy": "The champion by its version, or stopping without forecasts on the same order",
    "version": "The champion that was replayed",
    "played_at": "When it was replayed",
}
JUDGED = {
    "version": "The champion that was replayed",
    "first_day": "UTC day of its first shadow order",
    "last_day": "UTC day of the last bar that is judged",
    "is_judged": "False where there is too little to judge by",
    "reason": "The verdict in words",
}
FEATURE_COLUMNS = JUDGED | {
    "feature": "A column of features.bar_features",
    "psi": "Population stability index of the newest bars, over ten bins of training",
    "highest_training_psi": "The highest of any stretch of training that is as long",
    "stretches": "How many such stretches there are",
    "training_mean": "Mean over the time that the champion was trained and chosen in",
    "training_std": "Standard deviation over that time",
    "newest_mean": "Mean over the newest bars",
    "bars": "Newest bars, over all symbols",
    "is_drift": "At the threshold or above, and above every stretch of training",
}
EDGE_COLUMNS = JUDGED | {
    "mean_bps": "What the champion gains over stopping without forecasts since its hold-out, headline orders",
    "low_bps": "Lower end of its 95 % interval, from a bootstrap of runs of days",
    "high_bps": "Upper end",
    "minimum_detectable_bps": "The mean that a test at 5 % would find with a power of 80 %",
    "holdout_mean_bps": "The same on the champion's own hold-out; empty where that is not stored",
    "holdout_low_bps": "Lower end of its 95 % interval",
    "holdout_high_bps": "Upper end",
    "change_sigma": "From the hold-out to now, in volatilities of one bar",
    "low_change_sigma": "Lower end of its 95 % interval",
    "high_change_sigma": "Upper end",
    "minimum_detectable_change_sigma": "The change that a test at 5 % would find with a power of 80 %",
    "is_drift": "A measurable fall, or a measurable loss",
}
# Before anything trains: a new version takes the newest bars into a hold-out of its own.
FIRST = {"dagster/priority": "1"}
MOST_ROWS = 20
SHOWN_FEATURES = ["model", "asset_class", "feature", "psi", "highest_training_psi", "training_mean", "newest_mean"]
SHOWN_EDGES = [
    *["model", "version", "asset_class", "first_day", "last_day", "order_windows", "days"],
    *["mean_bps", "low_bps", "high_bps", "minimum_detectable_bps", "holdout_mean_bps"],
]


@dg.asset(
    key=["results", "shadow_orders"],
    group_name="shadow",
    deps=[asset_key("windows.order_windows"), asset_key("features.bar_features")],
    kinds={"mlflow", "duckdb"},
    op_tags=FIRST,
)
def shadow_orders(context: dg.AssetExecutionContext, warehouse: Warehouse, tracking: Tracking) -> dg.MaterializeResult:
    """What the champion's orders would have cost on bars that came after every hold-out; rows are only ever added."""
    from lem_pipeline.shadow import SHADOW, shadow

    chosen = settings()
    with explained():
        said = [shadow(chosen, warehouse, tracking, model, context.run.run_id) for model in chosen.models]
        for sentence in said:
            context.log.info(sentence)
        if not warehouse.has_table(SHADOW):
            return dg.MaterializeResult(metadata={"shadow": "\n".join(said)})
        with warehouse.connection() as connection:
            stored = written(connection, SHADOW, 0)
    table = table_metadata(stored.columns, stored.rows, SHADOW_COLUMNS)
    return dg.MaterializeResult(metadata={"shadow": "\n".join(said), **table})


@dg.asset(
    key=["reports", "feature_drift"],
    group_name="shadow",
    deps=[asset_key("results.shadow_orders"), asset_key("features.bar_features")],
    kinds={"duckdb"},
    pool="duckdb",
    op_tags=FIRST,
)
def feature_drift(context: dg.AssetExecutionContext, warehouse: Warehouse, tracking: Tracking) -> dg.MaterializeResult:
    """One row per model, asset class and feature: how far its newest bars are from those of the champion's training."""
    from lem_pipeline import drift

    chosen, rules = settings(), settings().shadow
    with explained():
        champions = _champions(warehouse, tracking)
        rows = [
            row
            for watch in champions
            for row in drift.feature_drift(warehouse, watch, chosen.models[watch.model], chosen.model.horizon, rules)
        ]
        note_findings(warehouse, "features", rows, 7 * rules.feature_weeks, context.run.run_id)
        table = warehouse.write_table("reports.feature_drift", pa.Table.from_pylist(rows, drift.FEATURES_SCHEMA))
    return dg.MaterializeResult(
        metadata={
            "champions": _named(champions),
            "most_moved": _table(sorted(rows, key=lambda row: -row["psi"])[:MOST_ROWS], SHOWN_FEATURES),
            **table_metadata(table.columns, table.rows, FEATURE_COLUMNS),
        }
    )


@dg.asset(
    key=["reports", "edge_drift"],
    group_name="shadow",
    # What the champion gained on its hold-out is read where it is stored, and asked for by nobody.
    deps=[asset_key("results.shadow_orders")],
    kinds={"duckdb"},
    pool="duckdb",
    op_tags=FIRST,
)
def edge_drift(context: dg.AssetExecutionContext, warehouse: Warehouse, tracking: Tracking) -> dg.MaterializeResult:
    """One row per model and asset class: what the champion gains since its hold-out, and gained on it."""
    from lem_pipeline import drift
    from lem_pipeline.quality import as_image
    from lem_pipeline.report.pictures import shadow_picture

    rules, pictures = settings().shadow, {}
    rows: list[dict[str, Any]] = []
    with explained():
        champions = _champions(warehouse, tracking)
        for watch in champions:
            newest, before = drift.shadow_days(warehouse, watch, rules.edge_days), drift.holdout_days(warehouse, watch)
            rows += drift.edge_drift(newest, before, watch, rules)
            if not newest.empty:
                picture = as_image(shadow_picture(before, newest, watch.name))
                pictures[watch.model] = dg.MetadataValue.md(f"![edge by day]({picture})")
        note_findings(warehouse, "edge", rows, rules.edge_days, context.run.run_id)
        table = warehouse.write_table("reports.edge_drift", pa.Table.from_pylist(rows, drift.EDGES_SCHEMA))
    return dg.MaterializeResult(
        metadata={
            "champions": _named(champions),
            "edges": _table(rows, SHOWN_EDGES),
            "verdict": "\n".join(row["reason"] for row in rows) or "no shadow orders yet",
            **pictures,
            **table_metadata(table.columns, table.rows, EDGE_COLUMNS),
        }
    )


def _champions(warehouse: Warehouse, tracking: Tracking) -> "list[Watch]":
    from lem_pipeline.shadow import under_watch

    return [watch for model in settings().models if (watch := under_watch(warehouse, tracking, model))]


def _named(champions: "list[Watch]") -> str:
    return ", ".join(watch.name for watch in champions) or "no version trades yet"


def _table(rows: list[dict[str, Any]], columns: list[str]) -> dg.TableMetadataValue:
    def readable(value: object) -> str:
        return f"{value:.3f}" if isinstance(value, float) else "–" if value is None else str(value)

    records = [dg.TableRecord({name: readable(row[name]) for name in columns}) for row in rows]
    return dg.MetadataValue.table(records, dg.TableSchema([dg.TableColumn(name) for name in columns]))


def drift_check(table: str, name: str, claim: str) -> dg.AssetChecksDefinition:
    """The check that warns of what has drifted; it blocks nothing, as the champion decides on what it was told."""

    @dg.asset_check(asset=asset_key(table), name=name, description=claim)
    def check(warehouse: Warehouse) -> dg.AssetCheckResult:
        with explained():
            rows = warehouse.read(f"select model, is_judged, is_drift, reason from {table}").to_pylist()  # noqa: S608 - our own names, values bound
        judged = [row for row in rows if row["is_judged"]]
        drifted = [f"{row['model']}: {row['reason']}" for row in judged if row["is_drift"]]
        unjudged = sorted({f"{row['model']}: {row['reason']}" for row in rows if not row["is_judged"]})
        calm = [f"nothing has drifted, {len(judged)} judged"] if judged else unjudged or ["no shadow orders to judge"]
        return dg.AssetCheckResult(
            passed=not drifted,
            severity=dg.AssetCheckSeverity.WARN,
            description="\n".join(drifted or calm),
            metadata={"judged": len(judged), "drifted": len(drifted)},
        )

    return check


@dg.sensor(
    target=MODELS | EVIDENCE,
    minimum_interval_seconds=3600,
    description="Train and compare, once for every drift that is found in the champion's newest orders.",
)
def retrain_on_drift(context: dg.SensorEvaluationContext, warehouse: Warehouse) -> dg.SensorResult | dg.SkipReason:
    """One run per champion and day on which its drift was found."""
    found = findings(warehouse, *([datetime.fromisoformat(context.cursor)] if context.cursor else []))
    if not found:
        return dg.SkipReason("no drift was found since the last training that was asked for")
    keys = dict.fromkeys(f"drift of {row['model']}/{row['version']} until {row['last_day']}" for row in found)
    return dg.SensorResult([dg.RunRequest(run_key=key) for key in keys], cursor=found[-1]["found_at"].isoformat())


@dg.definitions
def shadow_evaluation() -> dg.Definitions:
    """Shadow orders, both kinds of drift with their checks, and what follows of them."""
    job = dg.define_asset_job(
        "shadow",
        dg.AssetSelection.groups("shadow"),
        description="Replay the champion on the newest bars, and judge whether anything has drifted.",
        op_retry_policy=tried_again(settings()),
    )
    daily = dg.ScheduleDefinition(
        name="daily_shadow",
        job=job,
        cron_schedule="30 2 * * *",
        execution_timezone="UTC",
        description="Replay the champion on the newest bars, nightly at 02:30 UTC: after ingestion, before training.",
    )
    checks = [
        drift_check(
            "reports.feature_drift",
            "features_are_those_of_training",
            "No feature of the champion's newest orders is spread as no stretch of its training was.",
        ),
        drift_check(
            "reports.edge_drift",
            "the_champion_keeps_its_edge",
            "The champion gains no less than on its hold-out, and loses nothing against stopping without forecasts.",
        ),
    ]
    return dg.Definitions(
        assets=[shadow_orders, feature_drift, edge_drift],
        asset_checks=checks,
        jobs=[job],
        schedules=[daily],
        sensors=[retrain_on_drift],
    )
