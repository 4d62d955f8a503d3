"""One asset per model of the settings: train, track, register."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from shutil import rmtree
from typing import Any

import dagster as dg

from lem_models.config import LEMConfig
from lem_pipeline.checkpoints import checkpoints_of, clear_abandoned
from lem_pipeline.defs.links import dagster_tags, mlflow_pages, with_note
from lem_pipeline.engine import training_tags, tried_again
from lem_pipeline.failures import explained
from lem_pipeline.gates import GATES
from lem_pipeline.settings import settings
from lem_pipeline.sql_assets import asset_key
from lem_pipeline.storage import Warehouse
from lem_pipeline.tracking import Tracking

SHOWN = ("train_loss", "validation_loss", "improvement_sigma")  # by epoch, as wide as an asset page


class TrainConfig(dg.Config):
    """How to train."""

    retrain: bool = False  # train again although the same data, code and settings already have a version


def model_key(name: str) -> dg.AssetKey:
    """``lem-crypto`` as an asset key."""
    return dg.AssetKey(["models", name.replace("-", "_")])


def model_asset(name: str, asset_classes: Sequence[str]) -> dg.AssetsDefinition:
    """The asset that trains and registers one model, or a rival."""
    shape = settings().shape_of(name)

    @dg.asset(
        key=model_key(name),
        description=(
            f"Large Execution Model `{name}` with {shape.recurrence.upper()}, trained on {' and '.join(asset_classes)} "
            "order windows."
        ),
        group_name="models",
        deps=[asset_key("windows.order_windows"), asset_key("features.bar_features")],
        kinds={"pytorch", "lightning", "mlflow"},
        check_specs=[
            dg.AssetCheckSpec(gate, asset=model_key(name), blocking=True, description=claim)
            for gate, claim in GATES.items()
        ],
        pool="gpu",
        retry_policy=tried_again(settings()),
        op_tags=training_tags(settings()),
    )
    def model(
        context: dg.AssetExecutionContext, config: TrainConfig, warehouse: Warehouse, tracking: Tracking
    ) -> dg.MaterializeResult:
        with explained():
            metadata, evidence = _train(context, config.retrain, name, asset_classes, shape, warehouse, tracking)
        # A model that fails a gate is not registered, and its asset fails with the reason.
        passed = [
            dg.AssetCheckResult(passed=True, check_name=gate, metadata={"evidence": evidence[gate]}) for gate in GATES
        ]
        return dg.MaterializeResult(metadata=metadata, check_results=passed)

    return model


def _train(
    context: dg.AssetExecutionContext,
    retrain: bool,
    name: str,
    asset_classes: Sequence[str],
    shape: LEMConfig,
    warehouse: Warehouse,
    tracking: Tracking,
) -> tuple[dict[str, Any], dict[str, str]]:
    from lem_models.training import fit
    from lem_pipeline.gates import evidence_of, pass_gates
    from lem_pipeline.panel import read_panel
    from lem_pipeline.quality import as_image
    from lem_pipeline.report.pictures import learning_picture
    from lem_pipeline.tracking import code_version, fingerprint

    chosen = settings()
    data = read_panel(warehouse, asset_classes)
    model_config, training_config = replace(shape, features=data.features), chosen.training
    mark = fingerprint(data.snapshot, model_config, training_config)
    version = tracking.registered(name, mark)
    if version and (passed := evidence_of(version.tags)) and not retrain:
        context.log.info(f"{name}: version {version.version} was made from the same data, code and settings")
        return _metadata(name, version, tracking, {"trained_now": False}), passed

    train, validation = data.rows("train"), data.rows("validation")
    context.log.info(f"{name}: {len(train):,} training and {len(validation):,} validation windows")
    tags = {
        **dagster_tags(context.run.run_id, model_key(name)),
        "data.snapshot": data.snapshot,
        "data.symbols": ", ".join(sorted(set(data.keys["symbol"].to_pylist()))),
        "data.from": data.first_bar("train").isoformat(),
        "data.chosen_until": data.last_bar("validation", model_config.horizon).isoformat(),
        "data.until": data.last_bar("test", model_config.horizon).isoformat(),
        "code.version": code_version(),
        "fingerprint": mark,
        "simulated": str(any(chosen.market(a).bars.source == "simulated" for a in asset_classes)).lower(),
    }
    checkpoints = checkpoints_of(chosen.home, name, mark)
    told = set[int]()
    with tracking.run(name, with_note(tags)) as run:
        import mlflow

        mlflow.log_params({**model_config.to_dict(), **asdict(training_config), "snapshot": data.snapshot})

        def report(epoch: int, metrics: dict[str, float]) -> None:
            # By its id: where several processes train, this is called in another thread, which has no active run.
            mlflow.log_metrics(metrics, step=epoch, run_id=run.info.run_id)
            told.add(epoch)
            context.log.info(
                f"{name}: epoch {epoch + 1}/{training_config.max_epochs}, training loss {metrics['train_loss']:+.4f}, "
                f"validation loss {metrics['validation_loss']:+.4f}, "
                f"improvement {metrics['improvement_sigma']:+.4f} σ"
            )

        fitted = fit(data.panel, train, validation, model_config, training_config, checkpoints, report)
        for epoch, metrics in enumerate(fitted.history):  # those of an earlier run, or of torchrun
            if epoch not in told:
                mlflow.log_metrics(metrics, step=epoch)
        context.log.info(f"{name}: trained on {fitted.windows_seen:,} windows; now through {len(GATES)} gates")
        evidence = pass_gates(fitted.model, data, model_config.lookback, model_config.limits)
        tags |= {f"gate.{gate}": found for gate, found in evidence.items()}
        example = data.panel.orders(data.rows("test")[:4], model_config.lookback, model_config.horizon)
        version = tracking.register(name, fitted.model, example, tags)
    rmtree(checkpoints)
    clear_abandoned(checkpoints.parent)
    rounded = [{metric: round(value, 4) for metric, value in epoch.items()} for epoch in fitted.history]
    best = min(rounded, key=lambda epoch: epoch["validation_loss"])
    epochs = [
        dg.TableRecord({"epoch": number} | {metric: epoch[metric] for metric in SHOWN})
        for number, epoch in enumerate(rounded, 1)
    ]
    facts = {
        "trained_now": True,
        "windows_seen": fitted.windows_seen,
        "epochs": dg.MetadataValue.table(epochs),
        "learning_curve": dg.MetadataValue.md(f"![loss by epoch]({as_image(learning_picture(fitted.history))})"),
    }
    return _metadata(name, version, tracking, {**best, **facts}), evidence


def _metadata(name: str, version: Any, tracking: Tracking, facts: dict[str, Any]) -> dict[str, Any]:
    return {
        "model": f"models:/{name}/{version.version}",
        "alias": ", ".join(version.aliases) or "none",
        **mlflow_pages(name, version, tracking),
        **facts,
        "tracking_uri": tracking.place,
    }


@dg.definitions
def models() -> dg.Definitions:
    """The models of the settings, and their rivals."""
    return dg.Definitions(assets=[model_asset(name, classes) for name, classes in settings().registered.items()])
