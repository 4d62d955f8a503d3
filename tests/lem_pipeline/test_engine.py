"""Engines that the settings choose, and assets that are divided among steps: what differs, and all that does not."""

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from itertools import chain
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pytest
from runs import contents

from lem_pipeline.defs.ingest import bars_asset
from lem_pipeline.engine import executor, handed_on, training_tags, tried_again
from lem_pipeline.errors import ConfigurationError, VenueUnreachableError
from lem_pipeline.main_job import dagster_home
from lem_pipeline.settings import Settings, settings
from lem_pipeline.sources.simulated import SimulatedBars
from lem_pipeline.storage import Warehouse
from lem_pipeline.universe import CRYPTO_HOURLY
from lem_pipeline.walk_forward import share_of

SYMBOLS = ["BTC/USDT", "ETH/USDT", "BNB/USDT"]
MONTH = "2024-01-01"


@pytest.fixture
def chosen(monkeypatch) -> Iterator[pytest.MonkeyPatch]:
    """The demo with three instruments; what a test sets besides counts from its first question for settings on."""
    monkeypatch.setenv("LEM_PROFILE", "demo")
    monkeypatch.setenv("LEM_CRYPTO__INSTRUMENTS", '["BTC/USDT", "ETH/USDT", "BNB/USDT"]')
    settings.cache_clear()
    yield monkeypatch
    settings.cache_clear()


class Patchy(SimulatedBars):
    """Has bars of some instruments alone."""

    listed: list[str]

    def fetch(self, instrument: str, start: datetime, end: datetime) -> pa.Table:
        answer = super().fetch(instrument, start, end)
        return answer if instrument in self.listed else answer.slice(0, 0)


class Down(SimulatedBars):
    """Fails for a reason that it tells, or for one that nobody foresaw."""

    explains: bool

    def fetch(self, instrument: str, start: datetime, end: datetime) -> pa.Table:
        raise VenueUnreachableError("the venue is away") if self.explains else OSError("the disk is full")


def ingested(folder: Path, source: SimulatedBars, refetch: bool = False) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        [bars_asset(CRYPTO_HOURLY)],
        resources={"sources": {"crypto": source}, "warehouse": Warehouse(path=str(folder / "warehouse.duckdb"))},
        partition_key=MONTH,
        run_config={"ops": {"raw__crypto_bars": {"config": {"refetch": refetch}}}},
        raise_on_error=False,
    )


def said(run: dg.ExecuteInProcessResult) -> list[str]:
    return [event.step_failure_data.user_failure_data.description for event in run.all_events if event.is_step_failure]


def test_shares_together_store_and_say_what_one_step_does(chosen, tmp_path):
    stored, told = [], []
    for shards in ("1", "3"):
        chosen.setenv("LEM_CLUSTER__SHARDS", shards)
        settings.cache_clear()
        for refetch in (False, True):
            run = ingested(tmp_path / shards, SimulatedBars(), refetch)
        assert run.success
        assert len(run.get_step_success_events()) == (1 if shards == "1" else 4)
        stored.append(contents(Warehouse(path=str(tmp_path / shards / "warehouse.duckdb"))))
        told.append({event.asset_key: event.materialization.metadata for event in materialized(run)})
    assert len(stored[0]["raw.crypto_bars"]) == 3 * 31 * 24
    assert stored[0] == stored[1]
    assert told[0] == told[1]
    assert told[1][dg.AssetKey(["raw", "crypto_bars"])]["bars_per_instrument"].value == dict.fromkeys(SYMBOLS, 744)


def materialized(run: dg.ExecuteInProcessResult) -> list[dg.DagsterEvent]:
    return run.get_asset_materialization_events()


@pytest.mark.parametrize("shards", ["1", "2", "3"])
def test_a_share_without_a_bar_is_no_failure_while_another_has_some(chosen, tmp_path, shards):
    chosen.setenv("LEM_CLUSTER__SHARDS", shards)
    run = ingested(tmp_path, Patchy(listed=["ETH/USDT"]))
    assert run.success
    metadata = materialized(run)[-1].materialization.metadata
    assert metadata["instruments_without_new_bars"].value == ", ".join({*SYMBOLS} - {"ETH/USDT"}) or "BNB" in str(
        metadata
    )
    assert metadata["bars_written"].value == 744


@pytest.mark.parametrize("shards", ["1", "3"])
def test_a_period_without_a_bar_of_any_share_is_refused(chosen, tmp_path, shards):
    chosen.setenv("LEM_CLUSTER__SHARDS", shards)
    (sentence,) = said(ingested(tmp_path, Patchy(listed=[])))
    assert "has no bar of BTC/USDT, " in sentence and sentence.endswith("choose a period that it covers")


@pytest.mark.parametrize(("explains", "attempts"), [(True, 1), (False, 3)])
def test_a_step_is_tried_again_unless_it_says_what_is_wrong(chosen, tmp_path, explains, attempts):
    chosen.setenv("LEM_CLUSTER__ENGINE", "multiprocess")
    chosen.setenv("LEM_CLUSTER__SHARDS", "3")
    run = ingested(tmp_path, Down(explains=explains))
    assert not run.success
    own = [event for event in run.all_events if event.step_key == "raw__crypto_bars.crypto_share_1"]
    assert sum(event.is_step_up_for_retry for event in own) == attempts - 1
    assert sum(event.is_step_failure for event in own) == 1


def test_in_one_process_no_step_is_tried_again(chosen, tmp_path):
    run = ingested(tmp_path, Down(explains=False))
    assert not any(event.is_step_up_for_retry for event in run.all_events)


@pytest.mark.parametrize("fits", [1, 4, 7])
@pytest.mark.parametrize("shares", [1, 2, 3])
def test_every_fit_is_in_one_share_and_shares_are_as_equal_as_can_be(fits, shares):
    models = [[f"{model}{fit}" for fit in range(fits)] for model in "ab"]
    every = [
        [fit for position, own in enumerate(models) for fit in share_of(own, number, shares, before=position * fits)]
        for number in range(shares)
    ]
    assert sorted(chain.from_iterable(every)) == sorted(chain.from_iterable(models))
    assert max(map(len, every)) - min(map(len, every)) <= 1


def with_engine(engine: str, **options: object) -> Settings:
    return Settings(cluster={"engine": engine, **options})


def test_the_engine_is_the_one_that_the_settings_name(chosen):
    pytest.importorskip("dagster_ray")
    names = {engine: executor(with_engine(engine)).name for engine in ("in_process", "multiprocess", "ray")}
    assert names == {"in_process": "in_process", "multiprocess": "multiprocess", "ray": "ray"}


def test_without_its_packages_ray_is_refused_in_one_sentence(chosen):
    chosen.setitem(sys.modules, "dagster_ray.core.executor", None)
    with pytest.raises(ConfigurationError, match=r"dagster_ray.* is not installed; install .* extra cluster"):
        executor(with_engine("ray"))


def test_steps_elsewhere_find_the_settings_of_the_run_and_no_secret_is_handed_on(chosen, tmp_path):
    chosen.chdir(tmp_path)
    chosen.setenv("LEM_LAKE__CATALOG", "postgresql://lem:secret@db/lake")
    chosen.setenv("LEM_LAKE__DATA", "s3://lem/lake")
    own = with_engine("ray").model_copy(update={"home": Path("var/demo"), "profile": "own.toml"})
    told = handed_on(own)
    assert {f"LEM_HOME={tmp_path}/var/demo", f"LEM_PROFILE={tmp_path}/own.toml", f"LEM_ARCHIVE={tmp_path}"} <= {*told}
    assert {"LEM_LAKE__DATA", "LEM_CRYPTO__INSTRUMENTS"} <= {*told}
    assert not any("CATALOG" in each or "secret" in each for each in told)
    assert "LEM_PROFILE=demo" in handed_on(own.model_copy(update={"profile": "demo"}))


def test_trainings_take_gpus_of_the_cluster_and_steps_as_many_attempts_as_the_settings_say(chosen):
    assert training_tags(with_engine("ray", training_gpus=0.5)) == {"dagster-ray/config": {"num_gpus": 0.5}}
    assert training_tags(with_engine("ray")) == {}
    policy = tried_again(with_engine("ray", attempts=5))
    assert policy and policy.max_retries == 4


@pytest.mark.slow
def test_steps_run_in_processes_of_their_own_and_what_they_say_reaches_the_terminal(tmp_path):
    home = tmp_path / "home"
    environment = os.environ | {
        "LEM_PROFILE": "demo",
        "LEM_HOME": str(home),
        "LEM_CLUSTER__ENGINE": "multiprocess",
        "DAGSTER_HOME": str(dagster_home(home)),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    script = Path(__file__).parents[1] / "some_assets.py"
    command = [sys.executable, str(script), MONTH, MONTH, "raw.dow_members", "raw.nyse_sessions"]
    run = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert run.returncode == 0, run.stdout + run.stderr
    assert {line.split()[1] for line in run.stdout.splitlines() if "✓" in line} == {
        "raw/dow_members",
        "raw/nyse_sessions",
    }
    with dg.DagsterInstance.from_config(environment["DAGSTER_HOME"]) as instance:
        (only,) = instance.get_runs()
        pids = {
            entry.dagster_event.pid
            for entry in instance.all_logs(only.run_id)
            if entry.step_key and entry.dagster_event
        }
    assert len(pids) >= 2
