"""Raw tables: bars exactly as their source reported them, and the exchange calendar."""

from datetime import UTC, datetime, timedelta

import dagster as dg
import pyarrow as pa

from lem_pipeline.failures import explained
from lem_pipeline.ingest import ingest, wanted_period
from lem_pipeline.settings import settings
from lem_pipeline.sources.base import BarSource
from lem_pipeline.sql_assets import table_metadata
from lem_pipeline.storage import Warehouse
from lem_pipeline.universe import FIRST_MONTH, nyse_sessions

MONTHS = dg.MonthlyPartitionsDefinition(start_date=FIRST_MONTH, end_offset=1)


class IngestConfig(dg.Config):
    """How to ingest."""

    refetch: bool = False  # fetch the whole period again, also what is stored


@dg.asset(
    key=["raw", "crypto_bars"],
    group_name="raw",
    partitions_def=MONTHS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    kinds={"ccxt", "duckdb"},
    pool="duckdb",
)
def crypto_bars(
    context: dg.AssetExecutionContext,
    config: IngestConfig,
    crypto_source: dg.ResourceParam[BarSource],
    warehouse: Warehouse,
) -> dg.MaterializeResult:
    """Crypto bars exactly as the source reported them; safe to run twice."""
    return _ingest(context, config, "crypto", crypto_source, warehouse)


@dg.asset(
    key=["raw", "dow_bars"],
    group_name="raw",
    partitions_def=MONTHS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    kinds={"yfinance", "duckdb"},
    pool="duckdb",
)
def dow_bars(
    context: dg.AssetExecutionContext,
    config: IngestConfig,
    dow_source: dg.ResourceParam[BarSource],
    warehouse: Warehouse,
) -> dg.MaterializeResult:
    """Daily Dow bars exactly as the source reported them, with splits and dividends; safe to run twice."""
    return _ingest(context, config, "dow", dow_source, warehouse)


def _ingest(
    context: dg.AssetExecutionContext,
    config: IngestConfig,
    asset_class: str,
    source: BarSource,
    warehouse: Warehouse,
) -> dg.MaterializeResult:
    market = settings().market(asset_class)
    start, end = wanted_period(market, *context.partition_time_window)
    if end <= start:
        return dg.MaterializeResult(metadata={"note": f"the settings ask for no {asset_class} bars in this period"})
    with explained():
        table = f"raw.{asset_class}_bars"
        done = ingest(
            source, market.instruments, warehouse, table, start, end, refetch=config.refetch, log=context.log.info
        )
    return dg.MaterializeResult(
        metadata={
            **table_metadata(done.written.columns, done.written.rows, {}),
            "source": source.provenance,
            "bars_written": sum(done.bars.values()),
            "bars_per_instrument": dg.MetadataValue.json(done.bars),
            "instruments_without_bars": ", ".join(done.empty) or "none",
        }
    )


@dg.asset(key=["raw", "nyse_sessions"], group_name="raw", kinds={"duckdb"}, pool="duckdb")
def sessions(warehouse: Warehouse) -> dg.MaterializeResult:
    """New York Stock Exchange sessions since 2000, half days included, a year ahead: which daily bars must exist."""
    until = datetime.now(UTC) + timedelta(days=365)
    table = pa.Table.from_pandas(nyse_sessions(FIRST_MONTH, until), preserve_index=False)
    with explained():
        written = warehouse.write_table("raw.nyse_sessions", table)
    return dg.MaterializeResult(metadata=table_metadata(written.columns, written.rows, {}))
