"""Sweeps as a user runs them: real trials, one of them bad, a kill in the middle, and not a look at the test."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from pydantic import ValidationError
from typer.testing import CliRunner
from warehouses import build, hourly

from lem_pipeline.cli import app
from lem_pipeline.defs.sweep import sweep_of
from lem_pipeline.settings import settings, settings_of
from lem_pipeline.settings.sweep import SweepSettings
from lem_pipeline.storage import Warehouse
from lem_pipeline.sweep import AS_SET, Sweep, as_toml, begin, end, work
from lem_pipeline.tracking import Tracking

pytestmark = pytest.mark.slow

PROFILE = """
home = "{home}"

[models]
lem-crypto = ["crypto"]

[crypto]
instruments = ["BTC/USDT", "ETH/USDT"]
start = "2024-01-01"
end = "2024-03-01"
bars = {{ source = "simulated", origin = "2024-01-01" }}

[model]
lookback = 8
horizon = 4
width = 8
attention_heads = 2
memory_width = 4
head_width = 8

[training]
batch_size = 16
batches_per_epoch = 2
max_epochs = 4
validation_orders = 32

[sweep]
trials = 6
fewest_trials = 2
fewest_epochs = 1
heartbeat_s = 1

[sweep.space]
"training.learning_rate" = {{ choices = [0.001, 0.01, 100.0] }}
"model.head_width" = {{ low = 4, high = 16, log = true }}

[sweep.ablations.gru]
"model.recurrence" = "gru"
"""
TRIALS = 6 + 2  # with the settings as they are, and one ablation


def states(home: Path) -> Counter[str]:
    with closing(sqlite3.connect(f"file:{home / 'sweep.db'}?mode=ro", uri=True)) as stored:
        return Counter(state for (state,) in stored.execute("select state from trials"))


def is_under_way(home: Path) -> bool:
    """Whether some trials are done, and another has trained an epoch and not its last."""
    try:
        with closing(sqlite3.connect(f"file:{home / 'sweep.db'}?mode=ro", uri=True)) as stored:
            (epochs,) = stored.execute(
                "select count(*) from trials inner join trial_intermediate_values using (trial_id) "
                "where state = 'RUNNING'"
            ).fetchone()
    except sqlite3.OperationalError:  # not there yet, or in the middle of a write
        return False
    return epochs in (1, 2) and sum(states(home).values()) - states(home)["WAITING"] > 3


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    build(folder, hourly(900))
    (folder / "sweep.toml").write_text(PROFILE.format(home=folder))
    return folder


@pytest.fixture(scope="module")
def killed(home: Path) -> Counter[str]:
    """States of the trials of a sweep that was killed in the middle of one."""
    command = [sys.executable, "-m", "lem_pipeline.cli", "sweep", "--profile", str(home / "sweep.toml")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    with (home / "sweep.log").open("w") as log:
        run = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        until = time.monotonic() + 300
        while time.monotonic() < until and run.poll() is None:
            if is_under_way(home):
                break
            time.sleep(0.02)
    finally:
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
    assert run.returncode == -signal.SIGKILL, (home / "sweep.log").read_text()
    return states(home)


@pytest.fixture(scope="module")
def finished(home: Path, killed: Counter[str]) -> str:
    """What the same command says that is run again."""
    before = dict(os.environ)
    try:
        done = CliRunner().invoke(app, ["sweep", "--profile", str(home / "sweep.toml")])
    finally:
        os.environ.clear()
        os.environ.update(before)
        settings.cache_clear()
    assert done.exit_code == 0, done.output
    return done.output


def the_sweep(home: Path) -> Sweep:
    chosen = settings_of(str(home / "sweep.toml"))
    return sweep_of("lem-crypto", chosen, Warehouse(path=str(chosen.warehouse)))


@pytest.fixture(scope="module")
def sweep(home: Path, finished: str) -> Sweep:
    return the_sweep(home)


@pytest.fixture(scope="module")
def study(sweep: Sweep) -> optuna.Study:
    return optuna.load_study(study_name=sweep.name, storage=sweep.storage)


@pytest.fixture(scope="module")
def ranked(sweep: Sweep, home: Path):
    return end(sweep, Tracking(home=str(home)))


def test_a_sweep_that_was_killed_repeats_what_was_cut_short_and_nothing_else(killed, study, ranked):
    assert killed["RUNNING"] == 1 and killed["WAITING"] >= 1
    planned = Counter(str(trial.user_attrs["planned"]) for trial in study.trials)
    assert len(planned) == TRIALS and len(study.trials) == TRIALS + 1
    (again,) = (name for name, count in planned.items() if count == 2)
    dead, successor = (trial for trial in study.trials if str(trial.user_attrs["planned"]) == again)
    assert dead.state.name == "FAIL" and successor.params == dead.params | successor.params
    assert successor.state.name in ("COMPLETE", "PRUNED")
    assert sorted(each.name for each in ranked) == sorted([*map(str, range(6)), AS_SET, "gru"])


def test_no_two_trials_draw_the_same_numbers_after_a_resumption(study):
    sampled = [tuple(trial.params.items()) for trial in study.trials if "variant" not in trial.user_attrs]
    assert len(set(sampled)) >= 4


def test_a_bad_trial_is_stopped_early_and_a_good_one_is_not(ranked):
    bad = [each for each in ranked if each.changes.get("training.learning_rate") == 100.0]
    assert bad and all(each.state == "pruned" and each.epochs < 4 for each in bad)
    assert all("worse than the median" in each.reason for each in bad)
    complete = [each for each in ranked if each.state == "complete"]
    assert all(each.epochs == 4 and each.loss is not None for each in complete)
    assert [each.loss for each in complete] == sorted(each.loss for each in complete)
    assert ranked[: len(complete)] == complete


def test_every_variant_is_trained_to_its_end_beside_the_settings_as_they_are(ranked):
    variants = {each.name: each for each in ranked if each.name in (AS_SET, "gru")}
    assert {name: dict(each.changes) for name, each in variants.items()} == {
        AS_SET: {},
        "gru": {"model.recurrence": "gru"},
    }
    assert all(each.state == "complete" for each in variants.values())
    assert variants[AS_SET].loss != variants["gru"].loss


def test_every_trial_is_a_child_of_one_run_and_counts_as_a_configuration_tried(home, study, ranked):
    tracking = Tracking(home=str(home))
    client = tracking.client()
    experiment = client.get_experiment_by_name("lem-crypto sweep").experiment_id
    runs = client.search_runs([experiment])
    (parent,) = (run for run in runs if "mlflow.parentRunId" not in run.data.tags)
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert len(children) == len(runs) - 1 == TRIALS + 1
    assert parent.info.status == "FINISHED"
    counted = Counter(run.data.tags["state"] for run in children)
    assert counted["running"] == 1 and [r.info.status for r in children if r.data.tags["state"] == "running"] == [
        "KILLED"
    ]
    assert counted["complete"] == sum(each.state == "complete" for each in ranked)
    by_number = {int(run.data.tags["trial"]): run for run in children}
    for trial in study.trials:
        run = by_number[trial.number]
        logged = client.get_metric_history(run.info.run_id, "validation_loss")
        assert {metric.step: metric.value for metric in logged} == pytest.approx(trial.intermediate_values)
        for place, value in trial.params.items():
            assert json.loads(run.data.params[place.partition(".")[2]]) == value
    configurations = {tuple(sorted(run.data.params.items())) for run in children if run.data.params}
    assert tracking.configurations_tried("lem-crypto") == len(configurations) > 4
    assert tracking.configurations_tried("lem-dow") == 0


def test_the_best_settings_are_said_as_a_profile_has_them(finished, ranked):
    said = as_toml(ranked[0].changes) or "the settings as they are"
    assert said.splitlines()[0] in finished and said.splitlines()[-1] in finished


def test_a_sweep_that_is_done_makes_no_further_trial_and_more_are_made_when_asked_for(sweep, home, study):
    tracking = Tracking(home=str(home))
    before = len(study.trials)
    begin(sweep, tracking)
    assert work(sweep, tracking) == 0 and len(study.trials) == before
    more = replace(sweep, chosen=sweep.chosen.model_copy(update={"trials": 7}))
    assert more.name == sweep.name
    begin(more, tracking)
    assert work(more, tracking) == 1 and len(study.trials) == before + 1


def test_bars_of_the_test_change_no_trial(sweep, home, tmp_path):
    tracking, found = Tracking(home=str(home)), []
    rows = sweep.data.rows("test")
    for name in ("as it was", "other"):
        data = sweep.data
        if name == "other":
            touched = {column: getattr(data.panel, column).clone() for column in vars(data.panel)}
            for values in touched.values():
                values[rows] = values[rows] * 3 + 1
            data = replace(data, panel=replace(data.panel, **touched))
        one = replace(
            sweep,
            data=data,
            training=replace(sweep.training, max_epochs=1),
            storage=f"sqlite:///{tmp_path / name}.db",
            chosen=sweep.chosen.model_copy(update={"trials": 1, "ablations": {}}),
        )
        begin(one, tracking)
        work(one, tracking)
        found.append(end(one, tracking))
    assert found[0] == found[1] and len(found[0]) == 2


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"space": {"training.epochs": {"choices": [1]}}}, "'training.epochs' is no setting of model or training"),
        ({"space": {"splits.train": {"choices": [1]}}}, "'splits.train' is no setting of model or training"),
        (
            {"ablations": {"bold": {"training.risk_aversion": 0.0}}},
            "training.risk_aversion is not for a sweep to choose",
        ),
        ({"space": {"model.lookback": {"low": 8, "high": 16}}}, "model.lookback is not for a sweep to choose"),
        ({"space": {"model.width": {"low": 8}}}, "give choices, or low and high"),
        ({"space": {"model.width": {"low": 8, "high": 8}}}, "low is below high"),
        ({"space": {"training.learning_rate": {"low": 0, "high": 1, "log": True}}}, "above zero where log is set"),
        ({"ablations": {"No Recurrence": {}}}, "names no ablation"),
    ],
)
def test_a_space_that_makes_no_sense_is_refused_in_a_sentence(wrong, sentence):
    with pytest.raises(ValidationError, match=sentence):
        SweepSettings(**wrong)
