"""What the Dagster UI shows of every asset, check, job, schedule and sensor, whoever wrote it."""

import dagster as dg
import pytest

from lem_pipeline.definitions import defs
from lem_pipeline.storage import Warehouse
from lem_pipeline.tracking import Tracking

DEFINITIONS = defs()
GRAPH = DEFINITIONS.resolve_asset_graph()
ASSETS = {key.to_user_string(): GRAPH.get(key) for key in sorted(GRAPH.get_all_asset_keys())}
REPOSITORY = DEFINITIONS.get_repository_def()
JOBS = {job.name: job for job in REPOSITORY.get_all_jobs() if not job.name.startswith("__")}
AUTOMATION = {a.name: a for a in (*REPOSITORY.schedule_defs, *REPOSITORY.sensor_defs)}


@pytest.mark.parametrize("name", ASSETS)
def test_an_asset_says_what_it_is_who_answers_for_it_and_how_to_find_it(name):
    asset = ASSETS[name]
    assert asset.group_name not in (None, "default")
    assert asset.owners and all(owner.startswith("team:") for owner in asset.owners)
    assert asset.kinds
    assert {"asset_class", "data"} <= set(asset.tags)
    assert len(asset.description or "") > 20


def test_tags_tell_the_asset_class_and_simulated_bars_apart():
    tags = {name: (asset.tags["asset_class"], asset.tags["data"]) for name, asset in ASSETS.items()}
    assert tags["models/lem_crypto"] == tags["staging/crypto_bars"] == ("crypto", "simulated")
    assert tags["promotions/lem_dow"] == ("dow", "simulated")
    assert tags["windows/order_windows"] == ("crypto-and-dow", "simulated")
    assert tags["raw/nyse_sessions"] == ("dow", "real")
    assert ASSETS["raw/crypto_bars"].kinds == {"simulated", "duckdb"}


@pytest.mark.parametrize("check", sorted(GRAPH.asset_check_keys), ids=lambda check: check.to_user_string())
def test_a_check_says_what_it_claims(check):
    assert len(GRAPH.get(check).description or "") > 20


def test_jobs_are_named_for_what_people_do():
    of_people = {"backfill", "ingest_crypto", "ingest_dow", "train", "compare", "promote", "roll_back", "sweep"}
    assert set(JOBS) == {"main", "shadow", *of_people}


@pytest.mark.parametrize("name", [*JOBS, *AUTOMATION])
def test_jobs_schedules_and_sensors_say_in_a_sentence_what_they_do(name):
    description = (JOBS | AUTOMATION)[name].description or ""
    assert len(description) > 40 and description.endswith(".")


def test_nothing_starts_by_itself():
    assert all(a.default_status.value == "STOPPED" for a in AUTOMATION.values())


def test_a_schedule_runs_a_job_that_is_there():
    jobs = {job.name for job in REPOSITORY.get_all_jobs()}
    assert {schedule.job_name for schedule in REPOSITORY.schedule_defs} <= jobs
    assert REPOSITORY.get_schedule_def("nightly_crypto").job_name == "ingest_crypto"


@pytest.mark.parametrize("name", ["ingest_crypto", "ingest_dow"])
def test_ingesting_one_market_leaves_the_bars_of_the_other_alone(name):
    made = {key.to_user_string() for key in JOBS[name].asset_layer.executable_asset_keys}
    assert made & {"raw/crypto_bars", "raw/dow_bars"} == {f"raw/{name.removeprefix('ingest_')}_bars"}
    assert {"windows/order_windows", "reports/readers_copy"} <= made


def test_training_plays_no_test_order_and_comparing_trains_nothing():
    made = {name: {key.path[0] for key in job.asset_layer.executable_asset_keys} for name, job in JOBS.items()}
    assert made["train"] == {"models"}
    assert made["compare"] == {"results", "reports", "promotions"}


def test_drift_asks_for_training_and_the_comparison_after_it():
    job = REPOSITORY.get_job(REPOSITORY.get_sensor_def("retrain_on_drift").job_name)
    made = {key.path[0] for key in job.asset_layer.executable_asset_keys}
    assert made == {"models", "results", "reports", "promotions"}


@pytest.fixture(scope="module")
def unready(tmp_path_factory):
    """A warehouse that cannot be opened, a registry without models."""
    folder = tmp_path_factory.mktemp("unready")
    (folder / "warehouse.duckdb").write_text("no database")
    return {
        "warehouse": Warehouse(path=str(folder / "warehouse.duckdb")),
        "tracking": Tracking(home=str(folder)),
        "sources": {},
    }


def of_its_own(asset: dg.AssetsDefinition) -> bool:
    """Assets of SQL files share one function: one of them stands for all."""
    return "sql" not in next(iter(asset.specs)).kinds or asset.key == dg.AssetKey(["bars", "market_bars"])


STEPS = {
    asset.op.name: asset for asset in DEFINITIONS.assets if isinstance(asset, dg.AssetsDefinition) and of_its_own(asset)
}


@pytest.mark.parametrize("name", STEPS)
def test_an_asset_that_fails_shows_the_sentence_that_helps_and_no_other(name, unready):
    asset = STEPS[name]
    with dg.DagsterInstance.ephemeral() as instance:
        run = dg.materialize(
            [asset],
            instance=instance,
            partition_key="2024-01-01" if asset.partitions_def else None,
            resources={key: unready[key] for key in asset.required_resource_keys & set(unready)},
            raise_on_error=False,
        )
    (failure,) = [event for event in run.all_events if event.is_step_failure]
    said = failure.step_failure_data.user_failure_data
    helps = "train it first" if name.startswith("promotions__") else "cannot be opened as a warehouse"
    assert said and helps in said.description
