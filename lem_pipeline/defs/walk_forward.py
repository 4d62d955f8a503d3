"""The way each model is made, tried fold by fold and seed by seed on the years before the hold-out."""

from dataclasses import asdict, replace
from itertools import chain
from typing import Any

import dagster as dg
import pyarrow as pa

from lem_pipeline.defs.evaluation import INTERVAL_COLUMNS
from lem_pipeline.defs.links import dagster_tags, with_note
from lem_pipeline.defs.results import RESULT_COLUMNS
from lem_pipeline.engine import training_tags, tried_again
from lem_pipeline.failures import explained
from lem_pipeline.settings import settings
from lem_pipeline.sql_assets import FOLLOW, asset_key, table_metadata
from lem_pipeline.storage import Warehouse
from lem_pipeline.tracking import Tracking

FOLD_COLUMNS = RESULT_COLUMNS | {
    "fold": "Which stretch before the hold-out is tested on, counted from 1",
    "seed": "Of training; null for baselines",
    "fit": "Fingerprint of data, code and settings",
}

EDGE_COLUMNS = {
    "fold": "Which stretch before the hold-out was tested on, counted from 1; 0 for all of them together",
    "first_day": "First UTC day that its orders begin in",
    "last_day": "Last such day",
    "seeds": "Trainings that the model's results are averaged over",
    "lowest_seed_bps": "The mean with the least fortunate seed",
    "highest_seed_bps": "The mean with the most fortunate one",
}


RESULTS = asset_key("results.walk_forward_results")


Context = dg.AssetExecutionContext | dg.OpExecutionContext

DEPENDENCIES = {"windows": asset_key("windows.walk_forward"), "features": asset_key("features.bar_features")}
OF_ALL: dict[str, Any] = {
    "key": RESULTS,
    "group_name": "results",
    "kinds": {"pytorch", "mlflow", "duckdb"},
    "description": (
        "Fixed-quantity orders of each fold, sliced by models that saw earlier bars alone; a run cut short goes on."
    ),
}


def results_asset() -> dg.AssetsDefinition:
    """The results of all fits, tried in one step or in several side by side."""
    chosen = settings()
    fits = len(chosen.models) * chosen.walk_forward.folds * chosen.walk_forward.seeds
    shares = min(chosen.cluster.shards, fits)
    options: dict[str, Any] = {"pool": "gpu", "retry_policy": tried_again(chosen)}
    tags = training_tags(chosen)
    if shares > 1:
        return _divided(shares, options, tags)

    @dg.asset(**OF_ALL, **options, deps=list(DEPENDENCIES.values()), op_tags=tags)
    def walk_forward_results(
        context: dg.AssetExecutionContext, warehouse: Warehouse, tracking: Tracking
    ) -> dg.MaterializeResult:
        return _report(_play(context, warehouse, tracking), warehouse)

    return walk_forward_results  # type: ignore[no-any-return]


def _divided(shares: int, options: dict[str, Any], tags: dict[str, Any]) -> dg.AssetsDefinition:
    """A step per share of the fits, side by side as far as the pool allows; then one that forgets all others."""

    def share(number: int) -> dg.OpDefinition:
        @dg.op(
            name=f"fits_share_{number + 1}", ins=dict.fromkeys(DEPENDENCIES, dg.In(dg.Nothing)), tags=tags, **options
        )
        def play(context: dg.OpExecutionContext, warehouse: Warehouse, tracking: Tracking) -> list[str]:
            return _play(context, warehouse, tracking, number, shares)

        return play

    @dg.op(name="fits_sum", retry_policy=options["retry_policy"])
    def total(fits: list[list[str]], warehouse: Warehouse) -> dg.MaterializeResult:
        return _report(list(chain.from_iterable(fits)), warehouse)

    after = {name: dg.AssetIn(key, dagster_type=dg.Nothing) for name, key in DEPENDENCIES.items()}

    @dg.graph_asset(**OF_ALL, ins=after)
    def walk_forward_results(windows: None, features: None) -> Any:
        return total([share(number)(windows=windows, features=features) for number in range(shares)])

    return walk_forward_results


def _play(context: Context, warehouse: Warehouse, tracking: Tracking, number: int = 0, shares: int = 1) -> list[str]:
    """Play one share of the fits, as far as their results are missing; the fingerprints of the share."""
    from lem_pipeline.panel import on_fold, read_panel
    from lem_pipeline.tracking import model_code_hash
    from lem_pipeline.walk_forward import attempts, keep, make_ready, play_all, share_of, workers_here

    chosen, rules = settings(), settings().walk_forward
    workers = rules.workers or workers_here()
    fits: list[str] = []
    with explained():
        stored = make_ready(warehouse)
        for position, (name, asset_classes) in enumerate(chosen.models.items()):
            data = read_panel(warehouse, asset_classes)
            config = replace(chosen.model, features=data.features)
            every = list(attempts(name, config, chosen.training, rules.folds, rules.seeds))
            wanted = {
                attempt.fingerprint(data.snapshot, model_code_hash()): attempt
                for attempt in share_of(every, number, shares, before=position * len(every))
            }
            fits += wanted
            missing = [attempt for fit, attempt in wanted.items() if fit not in stored]
            context.log.info(f"{name}: {len(wanted)} fits on earlier years, {len(missing)} of them to train")
            folds = {fold: on_fold(data, warehouse, asset_classes, fold) for fold in {a.fold for a in missing}}
            for done, outcome in enumerate(play_all(missing, folds, workers), 1):
                attempt = outcome.attempt
                fit = attempt.fingerprint(data.snapshot, model_code_hash())
                parameters = {**attempt.config.to_dict(), **asdict(attempt.training), "snapshot": data.snapshot}
                tags = {"fold": str(attempt.fold), "fingerprint": fit, **dagster_tags(context.run.run_id, RESULTS)}
                tracking.note_fit(f"{name} walk-forward", with_note(tags), parameters, outcome.history)
                keep(warehouse, fit, outcome)
                best = min(outcome.history, key=lambda epoch: epoch["validation_loss"])
                context.log.info(
                    f"{name}: fold {attempt.fold}, seed {attempt.training.seed}, {len(outcome.history)} epochs, "
                    f"validation loss {best['validation_loss']:+.4f} ({done}/{len(missing)})"
                )
    return fits


def _report(fits: list[str], warehouse: Warehouse) -> dg.MaterializeResult:
    """Forget the fits that nobody asks for any more, and say what is there."""
    from lem_pipeline.walk_forward import forget_others

    with explained():
        table = forget_others(warehouse, fits)
    return dg.MaterializeResult(metadata={**table_metadata(table.columns, table.rows, FOLD_COLUMNS), "fits": len(fits)})


@dg.asset(
    key=["reports", "walk_forward"],
    group_name="reports",
    deps=[asset_key("reports.walk_forward_days")],
    kinds={"duckdb"},
    pool="duckdb",
    automation_condition=FOLLOW,
)
def walk_forward(warehouse: Warehouse) -> dg.MaterializeResult:
    """One row per model, baseline, kind of order and stretch before the hold-out: the edge, with its interval."""
    from lem_pipeline.edges import walk_forward_edges

    with explained():
        edges = walk_forward_edges(warehouse.read("from reports.walk_forward_days").to_pandas())
        table = warehouse.write_table("reports.walk_forward", pa.Table.from_pandas(edges, preserve_index=False))
    return dg.MaterializeResult(metadata=table_metadata(table.columns, table.rows, INTERVAL_COLUMNS | EDGE_COLUMNS))


@dg.definitions
def walk_forward_assets() -> dg.Definitions:
    """The results of all fits, and what models gain in them."""
    return dg.Definitions(assets=[results_asset(), walk_forward])
