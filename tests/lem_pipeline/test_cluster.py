"""The same assets on one process and on a cluster, a node of which is killed while it works."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import dagster as dg
import pytest
from clusters import GIVE_UP_S, Cluster, cluster, wait_for
from conftest import SMALL_DEMO
from runs import contents

from lem_pipeline.main_job import dagster_home
from lem_pipeline.storage import Warehouse, content_hash
from lem_pipeline.tracking import Tracking

pytest.importorskip("dagster_ray", reason="Ray is not installed: pip install 'lem-pipeline[cluster]'")

pytestmark = pytest.mark.scale

BARS, FITS, MODELS = "raw.crypto_bars", "results.walk_forward_results", ["models.lem_crypto", "models.lem_dow"]
VICTIM = "results__walk_forward_results.fits_share_1"
TRAININGS = {"models__lem_crypto", "models__lem_dow", VICTIM, "results__walk_forward_results.fits_share_2"}
INGESTION = {f"raw__crypto_bars.crypto_{part}" for part in ("share_1", "share_2", "sum")}
STEPS = TRAININGS | INGESTION | {"results__walk_forward_results.fits_sum"}
BEGINS, ENDS = {"STEP_START", "STEP_RESTARTED"}, {"STEP_SUCCESS", "STEP_FAILURE", "STEP_UP_FOR_RETRY"}
GPUS = 2
MONTHS = ["2024-01-01", "2024-03-01"]
FOLDS = {"LEM_WALK_FORWARD__FOLDS": "2", "LEM_WALK_FORWARD__WORKERS": "1"}


def started(home: Path, tables: list[str], **settings: str) -> subprocess.Popen:
    """A process that makes some assets in a home; what it says goes into a file beside."""
    environment = os.environ | SMALL_DEMO | FOLDS | settings
    environment |= {
        "LEM_HOME": home.name,
        "DAGSTER_HOME": str(dagster_home(home)),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    script = Path(__file__).parents[1] / "some_assets.py"
    with home.with_suffix(".log").open("w") as log:
        return subprocess.Popen(
            [sys.executable, str(script), *MONTHS, *tables], cwd=home.parent, env=environment, stdout=log, stderr=log
        )


@pytest.fixture(scope="module")
def alone(demo: Path, tmp_path_factory) -> Path:
    """A home in which the demo ran, and then the fits on earlier years, all in one process."""
    home = tmp_path_factory.mktemp("cluster") / "alone"
    shutil.copytree(demo / "var/demo", home)
    run = started(home, ["windows.walk_forward", FITS])
    assert run.wait(GIVE_UP_S) == 0, home.with_suffix(".log").read_text()
    return home


def warehouse(home: Path) -> Warehouse:
    return Warehouse(path=str(home / "warehouse.duckdb"))


@dataclass
class Run:
    """What a run left: its home, its events in their order, and the node of each attempt at a step."""

    home: Path
    events: list[tuple[datetime, dg.DagsterEvent]]
    nodes: dict[str, list[str]]

    def attempts(self, step: str) -> list[tuple[datetime, datetime]]:
        """When each attempt at a step began and ended."""
        own = [(at, event.event_type_value) for at, event in self.events if event.step_key == step]
        marks = [(at, kind) for at, kind in own if kind in BEGINS | ENDS]
        return [(begin, end) for (begin, first), (end, _) in pairwise(marks) if first in BEGINS]


@pytest.fixture(scope="module")
def ran(alone: Path) -> Iterator[Run]:
    """Some of it once more on a cluster, from a home that lacks it; a node dies while it tries fits."""
    home = alone.with_name("spread")
    shutil.copytree(alone, home)
    shutil.rmtree(home / "dagster")
    shutil.rmtree(home / "artifacts")
    (home / "mlflow.db").unlink()
    with warehouse(home).connection() as connection:
        for table in (BARS, FITS):
            connection.execute(f"delete from {table}")
        connection.execute("delete from raw.fetched_periods where raw_table = $table", {"table": BARS})
    own = os.environ | {"DAGSTER_HOME": str(dagster_home(home))}
    limit = [sys.executable, "-m", "dagster", "instance", "concurrency", "set", "gpu", str(GPUS)]
    subprocess.run(limit, env=own, check=True, capture_output=True)
    # Room for every step at once: it is the pool alone that holds trainings back.
    with cluster(workers=2, cores=3) as ray, dg.DagsterInstance.from_config(own["DAGSTER_HOME"]) as instance:
        asked = {"LEM_CLUSTER__ENGINE": "ray", "LEM_CLUSTER__RAY_ADDRESS": ray.address, "LEM_CLUSTER__SHARDS": "2"}
        run = started(home, [BARS, *MODELS, FITS], **asked)
        try:
            wait_for(lambda: VICTIM in begun(instance), run)
            (node,) = [node for node in ray.workers if node.runs(VICTIM)]
            node.kill()
            assert run.wait(GIVE_UP_S) == 0, home.with_suffix(".log").read_text()
        finally:
            run.kill()
        events = told(instance)
        yield Run(home, events, nodes(events, ray))


def begun(instance: dg.DagsterInstance) -> set[str | None]:
    """Steps that have begun."""
    kind = dg.DagsterEventType.STEP_START
    return {entry.step_key for run in instance.get_runs() for entry in instance.all_logs(run.run_id, of_type=kind)}


def told(instance: dg.DagsterInstance) -> list[tuple[datetime, dg.DagsterEvent]]:
    """Every event of the only run."""
    entries = [entry for run in instance.get_runs() for entry in instance.all_logs(run.run_id)]
    return [(datetime.fromtimestamp(e.timestamp), e.dagster_event) for e in entries if e.dagster_event]


def nodes(events: list[tuple[datetime, dg.DagsterEvent]], ray: Cluster) -> dict[str, list[str]]:
    """Which node Ray gave each attempt at a step to."""
    from ray.job_submission import JobSubmissionClient

    client, found = JobSubmissionClient(ray.address), {}
    for _, event in events:
        if event.event_type_value == "STEP_WORKER_STARTING":
            job = client.get_job_info(event.engine_event_data.metadata["Ray Submission ID"].text)
            found.setdefault(event.step_key, []).append(job.driver_node_id)
    return found


def test_every_step_of_the_shares_and_models_ran_on_one_of_two_nodes(ran):
    assert set(ran.nodes) == STEPS
    assert len({node for tried in ran.nodes.values() for node in tried}) == 2
    assert all(ran.attempts(step) for step in STEPS)


def test_a_step_whose_node_is_killed_is_tried_again_on_the_other(ran):
    assert len(ran.attempts(VICTIM)) == 2
    killed, survivor = ran.nodes[VICTIM]
    assert killed != survivor
    again = {event.step_key for _, event in ran.events if event.is_step_up_for_retry}
    assert VICTIM in again
    assert again == {step for step, tried in ran.nodes.items() if len(tried) == 2}
    assert all(ran.nodes[step] == [killed, survivor] for step in again)
    assert not any(event.is_step_failure for _, event in ran.events)


def test_tables_are_those_of_one_process(ran, alone):
    found, expected = contents(warehouse(ran.home)), contents(warehouse(alone))
    assert len(expected[BARS]) and len(expected[FITS])
    assert found.keys() == expected.keys()
    assert {name: content_hash(found[name]) for name in (BARS, FITS)} == {
        name: content_hash(expected[name]) for name in (BARS, FITS)
    }
    for table in expected:
        assert found[table].equals(expected[table]), table


@pytest.mark.parametrize("model", ["lem-crypto", "lem-dow"])
def test_a_model_is_that_of_one_process(ran, alone, model):
    marks, metrics = [], []
    for home in (ran.home, alone):
        tracking = Tracking(home=str(home))
        (version,) = tracking.versions(model)
        marks.append(version.tags["fingerprint"])
        metrics.append(tracking.client().get_run(version.run_id).data.metrics)
    assert marks[0] == marks[1]
    assert metrics[0] == pytest.approx(metrics[1], rel=1e-6)


def test_the_pool_holds_back_trainings_beyond_its_limit_and_no_others(ran):
    spans = [span for step in TRAININGS for span in ran.attempts(step)]
    at_once = [sum(begin <= moment < end for begin, end in spans) for moment, _ in spans]
    assert max(at_once) == GPUS
