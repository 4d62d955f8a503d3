"""Two overlapping backfills, a scheduled run and analysts who read, all at once, each a process of its own."""

import shutil
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Thread

import dagster as dg
import duckdb
import pytest
from runs import FIRST, LAST, contents, simulated, started

import lem_pipeline.main_job
from lem_pipeline.defs.automation import nightly_ingest
from lem_pipeline.main_job import END_TAG, START_TAG
from lem_pipeline.storage import Warehouse

QUESTION = "select count(*), count(distinct (symbol, bar_start)) from raw.crypto_bars"


@pytest.fixture
def home(tmp_path) -> Path:
    """Dagster's own state, shared by all runs, with the settings that the project ships."""
    folder = tmp_path / "dagster"
    folder.mkdir()
    shutil.copy(Path(lem_pipeline.main_job.__file__).with_name("dagster.yaml"), folder / "dagster.yaml")
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        instance.get_runs()  # as the web server or the daemon does long before: makes Dagster's own tables
    return folder


def scheduled_months() -> tuple[str, str]:
    night = dg.build_schedule_context(scheduled_execution_time=datetime(2024, 2, 5, 2, 30, tzinfo=UTC))
    request = nightly_ingest("dow")(night)
    return request.tags[START_TAG], request.tags[END_TAG]


def analyst(copy: Path, stop: Event, answers: list[tuple[int, int]]) -> None:
    """Opens the readers' copy again and again, and keeps each session for a while."""
    while not stop.wait(0.02):
        if copy.exists():
            with duckdb.connect(str(copy), read_only=True) as session:
                for _ in range(5):
                    answers += session.execute(QUESTION).fetchall()
                    stop.wait(0.02)


def impatient_analyst(path: str, stop: Event, sessions: list[int]) -> None:
    """Opens the warehouse itself, against the advice of the README, whenever nobody writes."""
    while not stop.wait(0.05):
        try:
            with duckdb.connect(path, read_only=True) as session:
                sessions.append(len(session.execute("show all tables").fetchall()))
                stop.wait(0.2)
        except duckdb.IOException:
            continue


def test_overlapping_runs_and_readers_lose_nothing_and_nobody_waits_without_a_word(tmp_path, home):
    alone = Warehouse(path=str(tmp_path / "alone" / "warehouse.duckdb"))
    undisturbed = started(tmp_path, alone.path, simulated, tmp_path / "alone.log")
    undisturbed.join()
    assert undisturbed.exitcode == 0, (tmp_path / "alone.log").read_text()

    shared = Warehouse(path=str(tmp_path / "shared" / "warehouse.duckdb"))
    stop, answers, sessions = Event(), [], []
    readers = [
        Thread(target=analyst, args=(shared.readers_copy, stop, answers)),
        Thread(target=impatient_analyst, args=(shared.path, stop, sessions)),
    ]
    for reader in readers:
        reader.start()
    runs = {
        "backfill": ((FIRST, "2024-01-01"), True),
        "overlapping backfill": (("2024-01-01", LAST), False),
        "scheduled run": (scheduled_months(), False),
    }
    processes = [
        started(tmp_path, shared.path, simulated, tmp_path / f"{name}.log", months, refetch, home)
        for name, (months, refetch) in runs.items()
    ]
    for process in processes:
        process.join()
    stop.set()
    for reader in readers:
        reader.join()

    logs = {name: (tmp_path / f"{name}.log").read_text() for name in runs}
    assert [process.exitcode for process in processes] == [0, 0, 0], "\n".join(logs.values())
    assert not any("Could not set lock" in line for log in logs.values() for line in log.splitlines() if "✗" in line)
    said = [line for log in logs.values() for line in log.splitlines() if "waiting for" in line]
    assert any("waiting for another step to finish" in line for line in said)
    assert any("waiting for another program to close" in line for line in said)
    assert sessions and answers
    assert all(rows == bars for rows, bars in answers)

    # Each of the three saw a part of the period; what follows from all of it is made once more, by nobody in a hurry.
    last = started(tmp_path, shared.path, simulated, tmp_path / "last.log", (FIRST, LAST))
    last.join()
    assert last.exitcode == 0
    together, expected = contents(shared), contents(alone)
    assert together.keys() == expected.keys()
    for table in expected.keys() - {"raw.fetched_periods"}:
        assert together[table].equals(expected[table]), table
