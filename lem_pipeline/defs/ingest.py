"""Raw tables: bars exactly as their source reported them, the exchange calendar, and who was a Dow member."""

from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pandas as pd
import pyarrow as pa

from lem_pipeline.defs.raw_columns import RAW_COLUMNS
from lem_pipeline.failures import explained
from lem_pipeline.ingest import ingest, make_ready, wanted_period
from lem_pipeline.main_job import months
from lem_pipeline.settings import Settings, settings
from lem_pipeline.sources.base import BarSource
from lem_pipeline.sql_assets import DAILY, asset_key, last_bar, table_metadata
from lem_pipeline.storage import Warehouse, Written, written
from lem_pipeline.universe import ASSET_CLASSES, FIRST_MONTH, AssetClass, dow_members, nyse_sessions


def months_of(chosen: Settings) -> dg.MonthlyPartitionsDefinition:
    """Every month that the settings ask for bars of, the one under way included, so that "all months" means these."""
    first, _ = months(chosen)
    ends = [market.end for market in chosen.markets.values()]
    if not all(ends):
        return dg.MonthlyPartitionsDefinition(first, end_offset=1)
    month_after = max(end for end in ends if end).replace(day=1) + timedelta(days=31)
    return dg.MonthlyPartitionsDefinition(first, f"{month_after:%Y-%m}-01", end_offset=1)


MONTHS = months_of(settings())

CALENDAR = {"asset_class": "dow", "data": "real"}  # whatever the bars are

WRITTEN_WITH_BARS = {
    "revisions": "What sources said differently the second time: old value, new value, when it was seen.",
    "fetched_periods": "Which periods sources were asked for, when, and how many bars they answered.",
}


class IngestConfig(dg.Config):
    """How to ingest."""

    refetch: bool = False  # fetch the whole period again, also what is stored


def bars_asset(asset: AssetClass) -> dg.AssetsDefinition:
    """The raw table of an asset class: one run takes any range of months."""
    market = settings().markets.get(asset.name)

    # No pool: a run that downloads for an hour holds no connection, and must not keep others from writing.
    @dg.asset(
        key=["raw", f"{asset.name}_bars"],
        group_name="raw",
        partitions_def=MONTHS,
        backfill_policy=dg.BackfillPolicy.single_run(),
        kinds={market.bars.source, "duckdb"} if market else {"duckdb"},
        freshness_policy=DAILY if asset.name in settings().live else None,
        description=f"{asset.name.title()} bars exactly as their source reported them; safe to run twice.",
    )
    def bars(
        context: dg.AssetExecutionContext,
        config: IngestConfig,
        sources: dg.ResourceParam[dict[str, BarSource]],
        warehouse: Warehouse,
    ) -> dg.MaterializeResult:
        start, end = wanted_period(market, *context.partition_time_window) if market else (FIRST_MONTH, FIRST_MONTH)
        table = f"raw.{asset.name}_bars"
        with explained():
            make_ready(warehouse)
            if not market:
                return dg.MaterializeResult(metadata={"note": f"the settings ask for no {asset.name} bars"})
            source = sources[asset.name]
            if end <= start:
                return dg.MaterializeResult(metadata={"note": "the settings ask for no bars in this period"})
            done = ingest(
                source,
                asset.with_bars_of(settings().source_bar(asset.name)),
                market.instruments,
                warehouse,
                table,
                start,
                end,
                refetch=config.refetch,
                log=context.log.info,
            )
            with warehouse.connection() as connection:
                stored = written(connection, table, sum(done.bars.values()))
                notes = [written(connection, f"raw.{name}", 0) for name in WRITTEN_WITH_BARS]
        for note in notes:
            context.log_event(dg.AssetMaterialization(asset_key(note.table), metadata=_shown(note)))
        return dg.MaterializeResult(
            metadata={
                **_shown(stored),
                "source": source.provenance,
                "bars_written": stored.inserted,
                "bars_per_instrument": dg.MetadataValue.json(done.bars),
                "instruments_without_new_bars": ", ".join(done.empty) or "none",
                "instruments_no_longer_known": ", ".join(done.gone) or "none",
                "values_revised": done.revisions,
            }
        )

    return bars


@dg.asset(key=["raw", "nyse_sessions"], group_name="raw", kinds={"duckdb"}, tags=CALENDAR)
def sessions(warehouse: Warehouse) -> dg.MaterializeResult:
    """New York Stock Exchange sessions since 2000, half days included, a year ahead: which daily bars must exist."""
    until = datetime.now(UTC) + timedelta(days=365)
    return _write(warehouse, "raw.nyse_sessions", nyse_sessions(FIRST_MONTH, until))


@dg.asset(key=["raw", "dow_members"], group_name="raw", kinds={"duckdb"}, tags=CALENDAR)
def members(warehouse: Warehouse) -> dg.MaterializeResult:
    """Who was a member of the Dow Jones Industrial Average when, since 2000: which names windows are built from."""
    return _write(warehouse, "raw.dow_members", dow_members())


def _write(warehouse: Warehouse, table: str, rows: pd.DataFrame) -> dg.MaterializeResult:
    with explained():
        done = warehouse.write_table(table, pa.Table.from_pandas(rows, preserve_index=False))
    return dg.MaterializeResult(metadata=table_metadata(done.columns, done.rows, RAW_COLUMNS[table]))


def _shown(table: Written) -> dict[str, Any]:
    return {**table_metadata(table.columns, table.rows, RAW_COLUMNS[table.table]), **last_bar(table)}


@dg.definitions
def raw_tables() -> dg.Definitions:
    """Every raw table; revisions and fetched periods are written together with the bars they concern."""
    bars = [bars_asset(asset) for asset in ASSET_CLASSES.values()]
    written_with_bars = [
        dg.AssetSpec(
            ["raw", name],
            deps=[asset.key for asset in bars],
            group_name="raw",
            kinds={"duckdb"},
            description=description,
        )
        for name, description in WRITTEN_WITH_BARS.items()
    ]
    return dg.Definitions(assets=[*bars, *written_with_bars, sessions, members])
