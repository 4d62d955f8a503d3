"""Schedules and automation as the daemon evaluates them: on time over the changes of the clock, and never twice."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import dagster as dg
import pandas as pd
import pyarrow as pa
import pytest

from lem_pipeline.defs.automation import NIGHTLY, nightly_ingest
from lem_pipeline.errors import VenueUnreachableError
from lem_pipeline.main_job import END_TAG, START_TAG
from lem_pipeline.sources.simulated import SimulatedBars
from lem_pipeline.storage import Warehouse
from lem_pipeline.universe import nyse_sessions

NEW_YORK = ZoneInfo("America/New_York")
SWITCHES = [datetime(2024, 3, 10, tzinfo=UTC), datetime(2024, 11, 3, tzinfo=UTC)]  # in New York


def tick(at: datetime, market: str = "dow") -> dg.RunRequest | dg.SkipReason:
    return nightly_ingest(market)(dg.build_schedule_context(scheduled_execution_time=at))


@pytest.mark.parametrize("market", ["crypto", "dow"])
@pytest.mark.parametrize("switch", SWITCHES, ids=["spring", "autumn"])
def test_the_nightly_run_comes_every_24_hours_over_a_change_of_the_clock(switch, market):
    since = switch - timedelta(days=2)
    nightly = nightly_ingest(market)
    assert (nightly.execution_timezone, nightly.cron_schedule) == ("UTC", NIGHTLY[market])
    minute, hour, *every_day = NIGHTLY[market].split()
    assert every_day == ["*"] * 3
    schedule = pd.date_range(since, periods=5, freq="D") + timedelta(hours=int(hour), minutes=int(minute))
    assert len({tick(at.to_pydatetime(), market).run_key for at in schedule}) == 5


@pytest.mark.parametrize("switch", SWITCHES, ids=["spring", "autumn"])
def test_sessions_keep_their_date_and_their_hour_in_new_york_over_a_change_of_the_clock(switch):
    sessions = nyse_sessions(switch - timedelta(days=5), switch + timedelta(days=5))
    assert (sessions["closes_at"].dt.tz_convert(NEW_YORK).dt.hour == 16).all()
    assert sessions["closes_at"].dt.hour.nunique() == 2
    assert (sessions["closes_at"].dt.date == sessions["bar_start"].dt.date).all()


@pytest.mark.parametrize(
    ("market", "now", "months"),
    [
        ("dow", datetime(2024, 3, 31, 1, 30, tzinfo=UTC), ("2024-03-01", "2024-03-01")),
        ("dow", datetime(2024, 4, 1, 1, 30, tzinfo=UTC), ("2024-03-01", "2024-04-01")),
        ("dow", datetime(2024, 4, 8, 1, 30, tzinfo=UTC), ("2024-03-01", "2024-04-01")),
        ("dow", datetime(2024, 4, 9, 1, 30, tzinfo=UTC), ("2024-04-01", "2024-04-01")),
        ("dow", datetime(2025, 1, 2, 1, 30, tzinfo=UTC), ("2024-12-01", "2025-01-01")),
        ("crypto", datetime(2024, 4, 2, 1, 30, tzinfo=UTC), ("2024-03-01", "2024-04-01")),
        ("crypto", datetime(2024, 4, 3, 1, 30, tzinfo=UTC), ("2024-04-01", "2024-04-01")),
        ("crypto", datetime(2025, 7, 2, 1, 30, tzinfo=UTC), ("2025-06-01", "2025-06-01")),
    ],
)
def test_a_night_takes_the_months_of_every_bar_that_may_still_be_corrected(market, now, months, definitions):
    request = tick(now, market)
    assert (request.tags[START_TAG], request.tags[END_TAG]) == months
    assert request.tags["dagster/max_retries"] == "2"
    partitions = definitions.resolve_job_def(f"ingest_{market}").partitions_def.get_partition_keys(current_time=now)
    assert set(months) <= set(partitions)


def test_a_night_after_the_last_bar_that_the_settings_ask_for_says_that_there_is_nothing_to_fetch():
    assert tick(datetime(2025, 7, 4, 1, 30, tzinfo=UTC), "crypto").skip_message == (
        "the settings ask for crypto bars until 2025-07-01, and those have settled"
    )


@pytest.fixture(scope="module")
def definitions() -> dg.Definitions:
    from lem_pipeline.definitions import defs

    return defs()


class Daemon:
    """What the automation sensor would do, tick by tick, on an instance that forgets."""

    def __init__(self, definitions: dg.Definitions, instance: dg.DagsterInstance):
        self.definitions, self.instance = definitions, instance
        self.graph = definitions.resolve_asset_graph()
        self.cursor = None

    def tick(self) -> set[str]:
        """Assets that are asked for."""
        result = dg.evaluate_automation_conditions(self.definitions, self.instance, cursor=self.cursor)
        self.cursor = result.cursor
        return {r.key.to_user_string() for r in result.results if r.true_subset.size}

    def materialize(self, key: dg.AssetKey) -> None:
        month = "2024-01-01" if self.graph.get(key).partitions_def else None
        self.instance.report_runless_asset_event(dg.AssetMaterialization(key, partition=month))

    def check(self, key: dg.AssetCheckKey, passed: bool) -> None:
        self.instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(key.asset_key, key.name, passed, metadata={}, blocking=True)
        )


@pytest.fixture
def daemon(definitions) -> Iterator[Daemon]:
    """Every table was made once, and every check has passed."""
    with dg.DagsterInstance.ephemeral() as instance:
        daemon = Daemon(definitions, instance)
        daemon.tick()
        for key in daemon.graph.toposorted_asset_keys:
            if daemon.graph.get(key).is_materializable:
                daemon.materialize(key)
        for check in daemon.graph.asset_check_keys:
            daemon.check(check, passed=True)
        daemon.tick()
        assert daemon.tick() == set()
        yield daemon


def test_new_bars_are_followed_by_every_table_that_is_made_of_them(daemon):
    daemon.materialize(dg.AssetKey(["raw", "crypto_bars"]))
    asked = daemon.tick()
    assert {"staging/crypto_bars", "bars/market_bars", "features/bar_features", "windows/order_windows"} <= asked
    assert "reports/readers_copy" in asked
    assert not asked & {"staging/dow_bars", "raw/crypto_bars", "raw/dow_bars", "results/order_results"}
    assert daemon.tick() == set()


class Broken(SimulatedBars):
    def fetch(self, instrument: str, start: datetime, end: datetime) -> pa.Table:
        raise VenueUnreachableError("the venue is away; try again later")


@pytest.mark.parametrize(("source", "follows"), [(Broken(), False), (SimulatedBars(), True)])
def test_nothing_follows_an_ingestion_that_failed(daemon, tmp_path, source, follows):
    run = dg.materialize(
        [daemon.definitions.get_assets_def(dg.AssetKey(["raw", "crypto_bars"]))],
        instance=daemon.instance,
        partition_key="2024-01-01",
        resources={"sources": {"crypto": source}, "warehouse": Warehouse(path=str(tmp_path / "warehouse.duckdb"))},
        raise_on_error=False,
    )
    assert run.success is follows
    assert ("features/bar_features" in daemon.tick()) is follows


@pytest.mark.parametrize("table", ["crypto_bars", "dow_bars"])
def test_raw_bars_come_in_months_and_years_of_them_are_one_run(definitions, table):
    bars = definitions.get_assets_def(dg.AssetKey(["raw", table]))
    assert isinstance(bars.partitions_def, dg.MonthlyPartitionsDefinition)
    assert len(bars.partitions_def.get_partition_keys(current_time=datetime(2030, 1, 1, tzinfo=UTC))) < 400
    assert bars.backfill_policy == dg.BackfillPolicy.single_run()


def test_nothing_is_made_of_bars_that_failed_a_check(daemon):
    bars = dg.AssetKey(["bars", "market_bars"])
    daemon.check(dg.AssetCheckKey(bars, "one_row_per_bar"), passed=False)
    daemon.materialize(bars)
    assert "features/bar_features" not in daemon.tick()
    daemon.check(dg.AssetCheckKey(bars, "one_row_per_bar"), passed=True)
    daemon.materialize(bars)
    assert "features/bar_features" in daemon.tick()


def test_reports_follow_their_results(daemon):
    daemon.materialize(dg.AssetKey(["results", "order_results"]))
    assert {"reports/slippage_by_scenario", "reports/comparison"} <= daemon.tick()
