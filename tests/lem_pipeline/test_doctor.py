"""The doctor finds what was broken on purpose, and says how to mend it."""

import json
import multiprocessing
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest
from filelock import FileLock
from packaging.requirements import Requirement
from typer.testing import CliRunner

from lem_pipeline import doctor
from lem_pipeline.cli import app
from lem_pipeline.doctor import Finding, examine
from lem_pipeline.settings import Settings, settings
from lem_pipeline.sources.archive import ArchiveBars
from lem_pipeline.sources.ccxt import CcxtBars
from lem_pipeline.sources.simulated import SimulatedBars
from lem_pipeline.sources.yfinance import YFinanceBars

SOURCES = {"crypto": SimulatedBars(asset_class="crypto"), "dow": SimulatedBars(asset_class="dow", origin="2018-01-01")}


@pytest.fixture(autouse=True)
def of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"LEM_HOME": "home", "DAGSTER_HOME": "home/dagster", "LEM_PROFILE": "demo"}.items():
        monkeypatch.setenv(name, str(tmp_path / value) if "/" in value or value == "home" else value)
    (tmp_path / "home" / "dagster").mkdir(parents=True)
    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.fixture
def chosen() -> Settings:
    return settings()


@pytest.fixture
def warehouse(chosen: Settings) -> Path:
    """A warehouse with the tables of an ingestion, without rows."""
    with duckdb.connect(str(chosen.warehouse)) as connection:
        connection.execute("create schema raw; create table raw.fetched_periods (raw_table varchar)")
        for name in ("crypto", "dow"):
            bars = doctor.RAW_BARS.empty_table()  # noqa: F841 - read by the statement
            connection.execute(f"create table raw.{name}_bars as from bars")
    return chosen.warehouse


def wrong(findings: list[Finding]) -> list[str]:
    return [finding.what for finding in findings if finding.state == "wrong"]


def test_a_sound_home_and_a_new_one_have_nothing_wrong(chosen: Settings, warehouse: Path) -> None:
    findings = list(examine(chosen, SOURCES))
    assert wrong(findings) == []
    assert all(finding.mend for finding in findings if finding.state != "ok")
    warehouse.unlink()
    assert wrong(list(examine(chosen, SOURCES))) == []
    assert not warehouse.exists()


@pytest.mark.parametrize("asked", ["no-such-package>=1", "duckdb<1"])
def test_a_package_that_is_missing_or_out_of_range_is_named(asked: str) -> None:
    assert asked.split("<")[0].split(">")[0] in doctor._off(Requirement(asked))
    assert doctor._off(Requirement("duckdb>=1")) == ""


def test_a_full_disk_is_wrong_and_a_filling_one_a_doubt(chosen: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    real = shutil.disk_usage(chosen.home)
    for free, state in ((0.5, "wrong"), (3, "doubt"), (50, "ok")):
        usage = real._replace(free=int(free * doctor.GIGABYTE))
        monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _, usage=usage: usage)
        assert doctor.room(chosen.home).state == state


def _hold(path: str, held: "multiprocessing.synchronize.Event", done: "multiprocessing.synchronize.Event") -> None:
    with FileLock(path):
        held.set()
        done.wait(60)


def test_a_run_that_writes_the_warehouse_is_a_doubt(chosen: Settings, warehouse: Path) -> None:
    context = multiprocessing.get_context("spawn")  # the server that forks remembers the environment of its first user
    held, done = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(f"{warehouse}.lock", held, done))
    process.start()
    try:
        assert held.wait(60)
        found = doctor.warehouse_lock(chosen)
    finally:
        done.set()
        process.join()
    assert found.state == "doubt" and "is writing" in found.found and found.mend
    assert doctor.warehouse_lock(chosen).state == "ok"


def test_a_program_that_keeps_the_file_open_is_wrong(chosen: Settings, warehouse: Path) -> None:
    script = f"import duckdb, sys; c = duckdb.connect({str(warehouse)!r}); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout and holder.stdout.readline() == b"open\n"
        found = doctor.warehouse_lock(chosen)
        holder.communicate()
    assert found.state == "wrong" and "has been open in another program" in found.found


def test_a_file_that_is_no_warehouse_is_wrong(chosen: Settings) -> None:
    chosen.warehouse.write_bytes(b"no database" * 1000)
    assert doctor.warehouse_lock(chosen).state == "wrong"


def test_bars_of_another_version_are_wrong(chosen: Settings, warehouse: Path) -> None:
    assert doctor.warehouse_schema(chosen).state == "ok"
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute("alter table raw.dow_bars drop column splits_until")
    found = doctor.warehouse_schema(chosen)
    assert (found.state, found.found) == ("wrong", "raw.dow_bars lacks splits_until")


def test_a_registry_that_mlflow_cannot_read_is_wrong(chosen: Settings) -> None:
    (chosen.home / "mlflow.db").write_bytes(b"no database" * 1000)
    found = doctor.registry(chosen)
    assert found.state == "wrong" and "mlflow db upgrade" in found.mend


def test_an_archive_that_is_missing_is_wrong(tmp_path: Path) -> None:
    found = doctor.bars("crypto", ArchiveBars(path=str(tmp_path / "none.parquet")), ["BTC/USDT"])
    assert found.state == "wrong" and "there is no bar archive" in found.found


@pytest.mark.parametrize("live", [CcxtBars, YFinanceBars])
def test_a_venue_that_does_not_answer_is_wrong(
    live: type[CcxtBars] | type[YFinanceBars], closed_port: str, unthrottled: None, no_remembered_zones: None
) -> None:
    source = live(api_url=closed_port, attempts=1)
    found = doctor.bars("its", source, ["BTC/USDT" if live is CcxtBars else "AAPL"])
    assert found.state == "wrong" and "lem replay" in found.mend


def test_the_command_ends_with_one_where_something_is_wrong_and_asks_no_venue_offline(chosen: Settings) -> None:
    done = CliRunner().invoke(app, ["doctor", "--json"])
    assert done.exit_code == 0, done.output
    assert {finding["state"] for finding in json.loads(done.stdout)} <= {"ok", "doubt"}
    chosen.warehouse.write_bytes(b"no database" * 1000)
    settings.cache_clear()
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == 1
    assert "✗ warehouse" in done.stdout and "→" in done.stdout
    settings.cache_clear()
    done = CliRunner().invoke(app, ["doctor", "--profile", "live", "--offline", "--json"])
    assert not {"crypto bars", "dow bars"} & {finding["what"] for finding in json.loads(done.stdout)}


def test_a_run_that_began_two_days_ago_is_a_doubt(chosen: Settings) -> None:
    import dagster as dg

    with dg.DagsterInstance.get() as instance:
        assert doctor.dagster_state().state == "ok"
        run = instance.create_run_for_job(dg.JobDefinition(name="main", graph_def=dg.GraphDefinition(name="main")))
        two_days_ago = datetime.now(UTC).timestamp() - 2 * 86400
        event = dg.DagsterEvent(dg.DagsterEventType.RUN_START.value, job_name="main")
        instance.report_dagster_event(event, run.run_id, timestamp=two_days_ago)
    found = doctor.dagster_state()
    assert found.state == "doubt" and run.run_id[:8] in found.found
