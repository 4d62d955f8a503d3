"""A team's deployment, on real servers: the main job on a lake, and writers who come at once or die."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest
from conftest import SMALL_DEMO
from lake_programs import hashes, write_into
from team import BUCKET, OVERLAY, REPOSITORY, Team, needs_the_overlay, team
from written import places_of

from lem_pipeline.carry_over import write_out
from lem_pipeline.storage import Warehouse

pytestmark = [pytest.mark.slow, needs_the_overlay]

PYTHONPATH = os.pathsep.join(str(place) for place in (OVERLAY, REPOSITORY, REPOSITORY / "tests"))
ANSWERS = 8
MODELS = ("lem-crypto", "lem-dow")


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    with team(tmp_path_factory.mktemp("team")) as running:
        yield running


def environment(**more: str) -> dict[str, str]:
    """That of a program with the overlay's DuckDB, which knows of no other settings."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("LEM_", "AWS_", "MLFLOW_"))}
    return inherited | {"PYTHONPATH": PYTHONPATH, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"} | more


def started(name: str, *arguments: object, **settings: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "lake_programs", name, *map(str, arguments)]
    told, complaints = subprocess.PIPE, subprocess.PIPE
    return subprocess.Popen(words, env=environment(**settings), stdout=told, stderr=complaints, text=True)


def answer(program: subprocess.Popen[str]) -> object:
    said, complaints = program.communicate(timeout=300)
    assert program.returncode == 0, complaints
    return json.loads(said.splitlines()[-1])


def on(servers: Team, name: str) -> dict[str, str]:
    """Settings of a lake of its own, empty."""
    place = {"LEM_LAKE__CATALOG": servers.make_database(name), "LEM_LAKE__DATA": f"s3://{BUCKET}/{name}"}
    return servers.environment | place


def test_every_statement_gives_the_lake_what_it_gives_the_file(servers, tmp_path):
    file, lake = answer(started("same_sql", tmp_path, **on(servers, "same_sql")))
    assert len(file) > 12
    assert lake == file


def test_writers_at_once_lose_and_double_nothing(servers, tmp_path):
    settings = on(servers, "writers")
    together = [started("write", symbol, ANSWERS, **settings) for symbol in ("BTC/USDT", "ETH/USDT", "BTC/USDT")]
    assert [answer(program) for program in together] == [ANSWERS] * 3
    alone = Warehouse(path=str(tmp_path / "warehouse.duckdb"))
    for symbol in ("BTC/USDT", "ETH/USDT"):
        write_into(alone, symbol, ANSWERS)
    found, expected = answer(started("contents", **settings)), hashes(alone)
    for table in ("raw.crypto_bars", "raw.fetched_periods"):
        assert found[table] == expected[table], table


def test_a_writer_killed_in_mid_transaction_leaves_nothing_and_keeps_nobody_waiting(servers):
    settings = on(servers, "killed") | {"LEM_PATIENCE_S": "5"}
    assert answer(started("write", "BTC/USDT", 1, **settings)) == 1
    before = answer(started("contents", **settings))
    with started("stop_in_mid_transaction", "BTC/USDT", **settings) as writer:
        assert writer.stdout.readline() == "half\n"
        assert answer(started("contents", **settings)) == before, "nobody sees what is half done"
        late = started("write", "BTC/USDT", 1, **settings)
        assert "has kept raw.crypto_bars of the lake busy" in late.communicate(timeout=100)[1]
        writer.kill()
    assert answer(started("contents", **settings)) == before
    assert answer(started("write", "BTC/USDT", 2, **settings)) == 2


def test_a_home_moves_into_a_lake_whose_upkeep_changes_no_row(servers, tmp_path):
    home, settings = Warehouse(path=str(tmp_path / "warehouse.duckdb")), on(servers, "moved")
    for symbol in ("BTC/USDT", "ETH/USDT"):
        write_into(home, symbol, ANSWERS)
    write_out(home, tmp_path / "carried")
    arrived, tidied = answer(started("move_in", tmp_path / "carried", **settings))
    assert arrived == tidied == hashes(home)
    again = started("move_in", tmp_path / "carried", **settings)
    assert "has rows in raw." in again.communicate(timeout=100)[1]


@pytest.fixture(scope="module")
def ran(servers: Team, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the main job of the small demo has run, with everything it keeps at the servers."""
    folder = tmp_path_factory.mktemp("main")
    command = [sys.executable, "-m", "lem_pipeline.cli", "run", "--profile", "demo"]
    done = subprocess.run(
        command, cwd=folder, env=environment(**SMALL_DEMO, **servers.environment), capture_output=True, text=True
    )
    (folder / "said.txt").write_text(done.stdout + done.stderr)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_main_job_on_a_lake_ends_like_the_one_on_a_file(ran, demo, servers):
    assert not list(ran.rglob("*.duckdb*")) and not list(ran.rglob("*.db"))
    found = answer(started("contents", **servers.environment))
    expected = hashes(Warehouse(path=str(demo / "var/demo/warehouse.duckdb")))
    assert found.keys() == expected.keys()
    assert {table for table in expected if found[table] != expected[table]} == set()


def test_its_run_is_in_the_database_of_dagster(ran, servers):
    with psycopg2.connect(servers.database("dagster")) as connection, connection.cursor() as cursor:
        cursor.execute("select pipeline_name, status from runs")
        assert cursor.fetchall() == [("main", "SUCCESS")]


def test_its_models_are_in_the_registry_and_decide_like_those_of_one_computer(ran, demo, servers):
    with psycopg2.connect(servers.database("mlflow")) as connection, connection.cursor() as cursor:
        cursor.execute("select name, storage_location from model_versions order by name")
        versions = cursor.fetchall()
    assert [name for name, _ in versions] == list(MODELS)
    for _, place in versions:
        assert (servers.bucket.parent / place.removeprefix("s3://") / "artifacts/weights.pt").is_file()
    far = answer(started("schedules", *MODELS, **servers.environment))
    near = answer(started("schedules", *MODELS, LEM_HOME=str(demo / "var/demo")))
    assert far == near


def test_no_password_is_written_anywhere(ran, servers):
    with psycopg2.connect(servers.database("dagster")) as connection, connection.cursor() as cursor:
        cursor.execute("select string_agg(event, '') from event_logs")
        events = cursor.fetchall()[0][0]
    assert servers.database("lake").replace(f":{servers.password}", "") in events, "the place is told"
    for secret in (servers.password, servers.secret):
        assert secret not in events
        assert places_of(secret, ran) == places_of(secret, servers.bucket) == []
