"""Raw tables: bars exactly as their source reported them, the exchange calendar, and who was a Dow member."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pandas as pd
import pyarrow as pa

from lem_pipeline.defs.raw_columns import RAW_COLUMNS
from lem_pipeline.engine import tried_again
from lem_pipeline.failures import explained
from lem_pipeline.fetched import Period
from lem_pipeline.ingest import Ingested, ingest, make_ready, together, wanted_period
from lem_pipeline.main_job import months
from lem_pipeline.refusals import refuse_an_empty_period
from lem_pipeline.settings import Settings, settings
from lem_pipeline.settings.markets import MarketSettings
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

BarSources = dict[str, BarSource]
Sources = dg.ResourceParam[BarSources]

CALENDAR = {"asset_class": "dow", "data": "real"}  # whatever the bars are

WRITTEN_WITH_BARS = {
    "revisions": "What sources said differently the second time: old value, new value, when it was seen.",
    "fetched_periods": "Which periods sources were asked for, when, and how many bars they answered.",
}


class IngestConfig(dg.Config):
    """How to ingest."""

    refetch: bool = False  # fetch the whole period again, also what is stored


Context = dg.AssetExecutionContext | dg.OpExecutionContext


@dataclass(frozen=True)
class RawBars:
    """The raw table of an asset class, ingested as a whole or share by share."""

    asset: AssetClass
    market: MarketSettings | None  # what the settings ask for, if they do for anything

    @property
    def shares(self) -> int:
        """Steps that the instruments are divided into."""
        return min(settings().cluster.shards, len(self.market.instruments)) if self.market else 1

    def fetch(
        self, context: Context, refetch: bool, sources: BarSources, warehouse: Warehouse, number: int = 0
    ) -> Ingested:
        """Fetch one share of the instruments: those whose position leaves the number when divided by the shares."""
        with explained():
            make_ready(warehouse)
            start, end = self._period(context)
            if not self.market or end <= start:
                return Ingested()
            return ingest(
                sources[self.asset.name],
                self._asked,
                self.market.instruments[number :: self.shares],
                warehouse,
                self._table,
                start,
                end,
                refetch=refetch,
                is_share=True,
                log=context.log.info,
            )

    def report(
        self, context: Context, done: Ingested, sources: BarSources, warehouse: Warehouse
    ) -> dg.MaterializeResult:
        """Say what all shares have fetched; refuse a period in which none of them found a bar."""
        start, end = self._period(context)
        if not self.market:
            return dg.MaterializeResult(metadata={"note": f"the settings ask for no {self.asset.name} bars"})
        if end <= start:
            return dg.MaterializeResult(metadata={"note": "the settings ask for no bars in this period"})
        source = sources[self.asset.name]
        with explained():
            refuse_an_empty_period(done.bars, source, self._asked, warehouse, self._table, start, end)
            with warehouse.connection() as connection:
                stored = written(connection, self._table, sum(done.bars.values()))
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

    @property
    def _table(self) -> str:
        return f"raw.{self.asset.name}_bars"

    @property
    def _asked(self) -> AssetClass:
        return self.asset.with_bars_of(settings().source_bar(self.asset.name))

    def _period(self, context: Context) -> Period:
        if not self.market:
            return FIRST_MONTH, FIRST_MONTH
        return wanted_period(self.market, *context.partition_time_window)


def bars_asset(asset: AssetClass) -> dg.AssetsDefinition:
    """The raw table of an asset class: one run takes any range of months."""
    market = settings().markets.get(asset.name)
    bars = RawBars(asset, market)
    options: dict[str, Any] = {
        "key": ["raw", f"{asset.name}_bars"],
        "group_name": "raw",
        "partitions_def": MONTHS,
        "backfill_policy": dg.BackfillPolicy.single_run(),
        "kinds": {market.bars.source, "duckdb"} if market else {"duckdb"},
        "description": f"{asset.name.title()} bars exactly as their source reported them; safe to run twice.",
    }
    made = _divided(bars, options) if bars.shares > 1 else _whole(bars, options)
    freshness = DAILY if asset.name in settings().live else None
    return made.map_asset_specs(lambda spec: spec.replace_attributes(freshness_policy=freshness))


# No pool: a run that downloads for an hour holds no connection, and must not keep others from writing.
def _whole(bars: RawBars, options: dict[str, Any]) -> dg.AssetsDefinition:
    @dg.asset(**options, retry_policy=tried_again(settings()))
    def whole(
        context: dg.AssetExecutionContext,
        config: IngestConfig,
        sources: Sources,
        warehouse: Warehouse,
    ) -> dg.MaterializeResult:
        return bars.report(context, bars.fetch(context, config.refetch, sources, warehouse), sources, warehouse)

    return whole  # type: ignore[no-any-return]


def _divided(bars: RawBars, options: dict[str, Any]) -> dg.AssetsDefinition:
    """A step per share of the instruments, side by side where the engine allows it; then one that sums up."""

    def share(number: int) -> dg.OpDefinition:
        @dg.op(name=f"{bars.asset.name}_share_{number + 1}", retry_policy=tried_again(settings()))
        def fetch(
            context: dg.OpExecutionContext,
            config: IngestConfig,
            sources: Sources,
            warehouse: Warehouse,
        ) -> Ingested:
            return bars.fetch(context, config.refetch, sources, warehouse, number)

        return fetch

    @dg.op(name=f"{bars.asset.name}_sum", retry_policy=tried_again(settings()))
    def total(
        context: dg.OpExecutionContext,
        shares: list[Ingested],
        sources: Sources,
        warehouse: Warehouse,
    ) -> dg.MaterializeResult:
        return bars.report(
            context, together(shares, bars.market.instruments if bars.market else ()), sources, warehouse
        )

    steps = [share(number) for number in range(bars.shares)]

    @dg.config_mapping
    def as_the_whole(config: IngestConfig) -> dict[str, Any]:
        return {step.name: {"config": {"refetch": config.refetch}} for step in steps}

    @dg.graph_asset(**options, config=as_the_whole)
    def divided() -> Any:
        return total([step() for step in steps])

    return divided


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
