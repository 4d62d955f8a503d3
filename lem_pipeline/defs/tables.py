"""Staging, bars, quality, features, windows and report tables: one asset per SQL file, one blocking check per claim."""

from datetime import timedelta

import dagster as dg

from lem_pipeline.causality import look_ahead
from lem_pipeline.failures import explained
from lem_pipeline.round_trip import windows_of_other_dates
from lem_pipeline.settings import settings
from lem_pipeline.sql_assets import (
    DAILY,
    FOLLOW,
    SQL,
    SqlFile,
    asset_key,
    check_result,
    sql_asset,
    sql_check,
    sql_files,
)
from lem_pipeline.storage import Warehouse

FEATURES, WINDOWS = SqlFile(SQL / "features/bar_features.sql"), SqlFile(SQL / "windows/order_windows.sql")


def parameters() -> dict[str, object]:
    """What SQL files may bind."""
    chosen = settings()
    return {
        "asset_classes": sorted({name for classes in chosen.models.values() for name in classes}),
        "lookback": chosen.model.lookback,
        "horizon": chosen.model.horizon,
        "live": chosen.live,
        "crypto_source_bar_minutes": chosen.source_bar("crypto") // timedelta(minutes=1),
        "crypto_bar_minutes": chosen.bar("crypto") // timedelta(minutes=1),
        "typically_priced": [name for name, market in chosen.markets.items() if market.price == "typical"],
        "dow_members_only": chosen.dow_members_only,
        "train": chosen.splits.train,
        "validation": chosen.splits.validation,
        "unseen_symbols": [symbol for market in chosen.markets.values() for symbol in market.unseen],
        "folds": chosen.walk_forward.folds,
    }


@dg.asset_check(asset=["features", "bar_features"], blocking=True)
def features_are_causal(warehouse: Warehouse) -> dg.AssetCheckResult:
    """Nothing known before a bar moves when that bar and all later ones are overwritten."""
    with explained():
        offending = look_ahead(warehouse, FEATURES, parameters())
    return check_result(len(offending), offending[:10])


@dg.asset_check(asset=["windows", "order_windows"], blocking=True)
def windows_are_those_of_their_dates(warehouse: Warehouse) -> dg.AssetCheckResult:
    """With recent bars deleted at random, orders meet the bars of their dates, and features tell their hour and day.

    A check of the windows and no gate of a model: no model is trained on windows that fail it.
    """
    with explained():
        offending = windows_of_other_dates(warehouse, FEATURES, WINDOWS, parameters())
    return check_result(len(offending), offending[:10])


@dg.asset(
    key=["reports", "readers_copy"],
    group_name="reports",
    deps=[asset_key(file.table) for schema in ("windows", "reports") for file in sql_files(schema)],
    kinds={"duckdb"},
    pool="duckdb",
    automation_condition=FOLLOW,
)
def readers_copy(warehouse: Warehouse) -> dg.MaterializeResult:
    """A copy of the warehouse for analysts, who may keep it open for as long as they like."""
    with explained():
        path = warehouse.publish()
    if not path:
        return dg.MaterializeResult(metadata={"note": f"no copy: readers attach {warehouse.place} itself"})
    return dg.MaterializeResult(
        metadata={"file": dg.MetadataValue.path(path.resolve()), "megabytes": round(path.stat().st_size / 1e6, 1)}
    )


@dg.definitions
def tables() -> dg.Definitions:
    """Every SQL file as an asset or a check."""
    bound = parameters()
    schemas = ("staging", "bars", "quality", "features", "windows", "reports")
    freshness = DAILY if settings().live else None
    return dg.Definitions(
        assets=[readers_copy, *(sql_asset(file, bound, freshness) for schema in schemas for file in sql_files(schema))],
        asset_checks=[
            features_are_causal,
            windows_are_those_of_their_dates,
            *(sql_check(file, bound) for file in sql_files("checks")),
        ],
    )
