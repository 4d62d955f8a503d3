"""A team's deployment, on real servers: the main job on a lake, and writers who come at once or die."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import psycopg2
import pytest
from conftest import SMALL_DEMO
from lake_programs import SEEN, hashes, write_into
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


class Colleague:
    """A process of its own that does what it is told, one thing at a time."""

    def __init__(self, log: Path) -> None:
        command = [sys.executable, "-m", "lake_programs"]
        self.process = subprocess.Popen(
            command, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log.open("w"), text=True
        )

    def tell(self, name: str, *arguments: object, **settings: str) -> None:
        print(json.dumps([name, arguments, settings], default=str), file=self.process.stdin, flush=True)

    def hear(self) -> Any:
        return json.loads(self.process.stdout.readline())

    def does(self, name: str, *arguments: object, **settings: str) -> Any:
        self.tell(name, *arguments, **settings)
        return self.answers()

    def answers(self) -> Any:
        heard = self.hear()
        assert "answer" in heard, heard
        return heard["answer"]


@pytest.fixture(scope="module")
def colleagues(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Colleague, Colleague]]:
    folder = tmp_path_factory.mktemp("colleagues")
    both = Colleague(folder / "one.log"), Colleague(folder / "other.log")
    yield both
    for each in both:
        each.process.kill()
        each.process.wait()


def on(servers: Team, name: str) -> dict[str, str]:
    """Settings of a lake of its own, empty."""
    place = {"LEM_LAKE__CATALOG": servers.make_database(name), "LEM_LAKE__DATA": f"s3://{BUCKET}/{name}"}
    return servers.environment | place


def test_every_statement_gives_the_lake_what_it_gives_the_file(servers, colleagues, tmp_path):
    file, lake = colleagues[0].does("same_sql", tmp_path, **on(servers, "same_sql"))
    assert len(file) > 12
    assert lake == file


def test_writers_at_once_lose_and_double_nothing(servers, colleagues, tmp_path):
    settings, (one, other) = on(servers, "writers"), colleagues
    alone = Warehouse(path=str(tmp_path / "warehouse.duckdb"))
    for symbols in (("BTC/USDT", "ETH/USDT"), ("LTC/USDT", "LTC/USDT")):
        for colleague, symbol in zip(colleagues, symbols, strict=True):
            colleague.tell("write", symbol, ANSWERS, **settings)
        assert (one.answers(), other.answers()) == (ANSWERS, ANSWERS)
        for symbol in dict.fromkeys(symbols):
            write_into(alone, symbol, ANSWERS)
        found, expected = one.does("contents", **settings), hashes(alone)
        for table in ("raw.crypto_bars", "raw.fetched_periods"):
            assert found[table] == expected[table], (symbols, table)


def test_a_writer_killed_in_mid_transaction_leaves_nothing_and_keeps_nobody_waiting(servers, colleagues, tmp_path):
    settings, (one, _) = on(servers, "killed") | {"LEM_PATIENCE_S": "1"}, colleagues
    one.does("write", "BTC/USDT", 1, **settings)
    before = one.does("contents", **settings)
    victim = Colleague(tmp_path / "victim.log")
    victim.tell("stop_in_mid_transaction", "BTC/USDT", **settings)
    assert victim.hear() == "half"
    assert one.does("contents", **settings) == before, "nobody sees what is half done"
    one.tell("write", "BTC/USDT", 1, **settings)
    assert "has kept raw.crypto_bars of the lake busy" in one.hear()["error"]
    victim.process.kill()
    victim.process.wait()
    assert one.does("contents", **settings) == before
    assert one.does("write", "BTC/USDT", 2, **settings) == 2


def test_a_home_moves_into_a_lake_whose_upkeep_changes_no_row(servers, colleagues, tmp_path):
    home, settings = Warehouse(path=str(tmp_path / "warehouse.duckdb")), on(servers, "moved")
    for symbol in ("BTC/USDT", "ETH/USDT"):
        write_into(home, symbol, ANSWERS)
    write_out(home, tmp_path / "carried")
    arrived, tidied = colleagues[0].does("move_in", tmp_path / "carried", **settings)
    assert arrived == tidied == hashes(home)
    colleagues[0].tell("move_in", tmp_path / "carried", **settings)
    assert "has rows in raw." in colleagues[0].hear()["error"]


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


@pytest.mark.scale
def test_the_main_job_on_a_lake_ends_like_the_one_on_a_file(ran, demo, servers, colleagues, tmp_path):
    assert not list(ran.rglob("*.duckdb*")) and not list(ran.rglob("*.db"))
    colleagues[0].does("carry_out", tmp_path / "lake", **servers.environment)
    expected = write_out(Warehouse(path=str(demo / "var/demo/warehouse.duckdb")), tmp_path / "file")
    assert len(expected) > 30
    for table in expected:
        far, near = (comparable(tmp_path / place / f"{table}.parquet") for place in ("lake", "file"))
        # DuckDB 2.0 interpolates quantiles of single-precision basis points otherwise than 1.5.5, by their last digit.
        rounding = 1e-5 if table.startswith("reports.") else 0
        pd.testing.assert_frame_equal(far, near, rtol=rounding, atol=rounding, obj=table)


def comparable(file: Path) -> pd.DataFrame:
    """Rows in an order that no last digit decides, without the columns that say when."""
    rows = pd.read_parquet(file).drop(columns=list(SEEN), errors="ignore")
    lists = [name for name in rows if rows[name].dtype == object]
    rows[lists] = rows[lists].astype(str)
    by = sorted(rows, key=lambda name: pd.api.types.is_float_dtype(rows[name]))
    return rows.sort_values(by, ignore_index=True)


@pytest.mark.scale
def test_its_run_is_in_the_database_of_dagster(ran, servers):
    with psycopg2.connect(servers.database("dagster")) as connection, connection.cursor() as cursor:
        cursor.execute("select pipeline_name, status from runs")
        assert cursor.fetchall() == [("main", "SUCCESS")]


@pytest.mark.scale
def test_its_models_are_in_the_registry_and_decide_like_those_of_one_computer(ran, demo, servers, colleagues):
    with psycopg2.connect(servers.database("mlflow")) as connection, connection.cursor() as cursor:
        cursor.execute("select name, storage_location from model_versions order by name")
        versions = cursor.fetchall()
    assert [name for name, _ in versions] == list(MODELS)
    for _, place in versions:
        assert (servers.bucket.parent / place.removeprefix("s3://") / "artifacts/weights.pt").is_file()
    far = colleagues[0].does("schedules", *MODELS, **servers.environment)
    near = colleagues[1].does("schedules", *MODELS, LEM_HOME=str(demo / "var/demo"))
    assert far == near


@pytest.mark.scale
def test_no_password_is_written_anywhere(ran, servers):
    with psycopg2.connect(servers.database("dagster")) as connection, connection.cursor() as cursor:
        cursor.execute("select string_agg(event, '') from event_logs")
        events = cursor.fetchall()[0][0]
    assert servers.database("lake").replace(f":{servers.password}", "") in events, "the place is told"
    for secret in (servers.password, servers.secret):
        assert secret not in events
        assert places_of(secret, ran) == places_of(secret, servers.bucket) == []
