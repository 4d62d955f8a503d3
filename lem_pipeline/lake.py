"""The warehouse of many writers: a DuckLake, tables as Parquet files in a shared place, their catalog in PostgreSQL.

Statements and snapshots are DuckLake's. It lets two transactions that add the same rows both pass, though, and refuses
one of any two that delete from a table, be it other rows: so those who write a table take turns, by an advisory lock
that PostgreSQL forgets together with whoever held it. Downloads, trainings and readers take none.
"""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import dagster as dg

from lem_pipeline.addresses import opened
from lem_pipeline.errors import ConfigurationError, WarehouseError, WarehouseLockedError
from lem_pipeline.storage import SCHEMAS, Warehouse, first_line

if TYPE_CHECKING:
    import duckdb

EXTENSIONS = ("ducklake", "postgres_scanner", "httpfs")
S3_VARIABLES = {
    "key_id": "ACCESS_KEY_ID",
    "secret": "SECRET_ACCESS_KEY",
    "session_token": "SESSION_TOKEN",
    "region": "DEFAULT_REGION",
}
NAME = "lake"
KEEP_DAYS = 7
HALF_GONE = 0.5  # of the rows of a file, before it is written anew without them
TURN = "hashtextextended('lem_pipeline ' || %s, 0)"
NOTICES_DEATH = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}  # a host that went away
# Writers of different tables only meet at the catalog's next number: asking again soon beats waiting ever longer.
SETTINGS = "set ducklake_max_retry_count = 1000; set ducklake_retry_wait_ms = 50; set ducklake_retry_backoff = 1.0"

_engines: dict[tuple[object, ...], "duckdb.DuckDBPyConnection"] = {}
_opening = Lock()


class Lake(Warehouse):
    """A DuckLake.

    Attributes:
        path: Where its files are, ``s3://bucket/prefix`` or a folder.
        catalog: The database of its catalog, without a password, which this process knows (``addresses.py``).
        url_style: Whether a bucket is named in the ``path`` or the ``vhost`` of an address.
        patience_s: How long to wait for others who write the same table.
    """

    catalog: str
    url_style: str = "path"

    @property
    def place(self) -> str:
        """Where it is, for people."""
        return f"{self.path}, catalog {self.catalog}"

    @property
    def exists(self) -> bool:
        """True: whoever opens a lake makes it."""
        return True

    @contextmanager
    def connection(self) -> Iterator["duckdb.DuckDBPyConnection"]:
        """A connection to the last snapshot; nobody waits for it.

        Raises:
            WarehouseError: The lake, or the place of its files, cannot be reached.
        """
        import duckdb

        try:
            with self._engine().cursor() as connection:
                connection.execute(f"use {NAME}; set timezone = 'UTC'; set enable_progress_bar = false")
                yield connection
        except duckdb.IOException as error:
            _engines.pop(self._key, None)  # its connections may be broken; the next to ask gets new ones
            raise self._unreachable(error) from None
        except duckdb.Error as error:
            if opened(self.catalog) == self.catalog or opened(self.catalog) not in str(error):
                raise
            raise type(error)(self._without_password(str(error))) from None

    @contextmanager
    def transaction(self, *tables: str) -> Iterator["duckdb.DuckDBPyConnection"]:
        """A connection whose writes all happen, or none.

        Args:
            tables: What is written, which nobody else writes meanwhile.

        Raises:
            ValueError: No table is named.
            WarehouseLockedError: Somebody kept writing one of them for longer than ``patience_s``.
            WarehouseError: The lake cannot be reached.
        """
        if not tables:
            raise ValueError("a transaction on a lake has to name the tables that it writes, to take its turn at them")
        with self._turns(tables), self.connection() as connection:
            connection.begin()
            yield connection
            connection.commit()

    def publish(self) -> Path | None:
        """None: readers attach the lake itself, and see its last snapshot."""
        return None

    def divide(self, connection: "duckdb.DuckDBPyConnection", table: str, column: str) -> None:
        """Keep rows in files by the values of a column, so that who reads one value opens no other's."""
        connection.execute(f"alter table {table} set partitioned by ({column})")

    def tidy(self, keep_days: int = KEEP_DAYS) -> None:
        """Merge small files; forget snapshots older than some days, and delete files that nobody knows of then."""
        older = f"older_than => now() - interval {int(keep_days)} day"
        for call in (
            f"ducklake_flush_inlined_data('{NAME}')",
            f"ducklake_rewrite_data_files('{NAME}', delete_threshold => {HALF_GONE})",
            f"ducklake_merge_adjacent_files('{NAME}')",
            f"ducklake_expire_snapshots('{NAME}', {older})",
            f"ducklake_cleanup_old_files('{NAME}', {older})",
            # Of writers who were killed; those of today may be of one who is still at it.
            f"ducklake_delete_orphaned_files('{NAME}', older_than => now() - interval {max(1, int(keep_days))} day)",
        ):
            with self.transaction(*self.tables()) as connection:
                connection.execute(f"call {call}")

    def _waiting_room(self) -> str | None:
        return None

    @contextmanager
    def _turns(self, tables: tuple[str, ...]) -> Iterator[None]:
        import psycopg2

        try:
            turns = psycopg2.connect(opened(self.catalog), **NOTICES_DEATH)
        except psycopg2.OperationalError as error:
            raise self._unreachable(error) from None
        with closing(turns), turns.cursor() as cursor:
            for table in sorted(tables):
                self._take_turn(cursor, table)
            yield

    def _take_turn(self, cursor: Any, table: str) -> None:
        from psycopg2.errors import LockNotAvailable

        cursor.execute(f"select pg_try_advisory_xact_lock({TURN})", (table,))
        if cursor.fetchone()[0]:
            return
        dg.get_dagster_logger().info(f"waiting for another program to finish writing {table}")
        try:
            cursor.execute("select set_config('lock_timeout', %s, true)", (f"{self.patience_s * 1000:.0f}ms",))
            cursor.execute(f"select pg_advisory_xact_lock({TURN})", (table,))
        except LockNotAvailable:
            raise WarehouseLockedError(
                f"another run has kept {table} of the lake busy for {self.patience_s:.0f} s; wait for it to finish or "
                "cancel it"
            ) from None

    @property
    def _key(self) -> tuple[object, ...]:
        return os.getpid(), self.catalog, self.path

    def _engine(self) -> "duckdb.DuckDBPyConnection":
        """DuckDB with the lake attached, once in a process: loading its extensions takes half a second."""
        with _opening:
            if self._key not in _engines:
                _engines[self._key] = self._opened_lake()
            return _engines[self._key]

    def _opened_lake(self) -> "duckdb.DuckDBPyConnection":
        import duckdb

        engine = duckdb.connect()
        load_extensions(engine)
        engine.execute(SETTINGS)
        if self.path.startswith("s3://"):
            engine.execute(s3_secret(self.url_style))
        try:
            with self._turns((NAME,)):  # two who make the same lake at once
                engine.execute(
                    f"attach {literal(f'ducklake:postgres:{opened(self.catalog)}')} as {NAME} "
                    f"(data_path {literal(self.path)})"
                )
                engine.execute(f"use {NAME}")
                known = {name for (name,) in engine.execute("select schema_name from duckdb_schemas()").fetchall()}
                for schema in SCHEMAS:
                    if schema not in known:
                        engine.execute(f"create schema if not exists {schema}")
        except duckdb.Error as error:
            raise self._unreachable(error) from None
        return engine

    def _unreachable(self, error: Exception) -> WarehouseError:
        return WarehouseError(f"the lake at {self.place} cannot be opened: {self._without_password(first_line(error))}")

    def _without_password(self, text: str) -> str:
        return text.replace(opened(self.catalog), self.catalog)


def load_extensions(connection: "duckdb.DuckDBPyConnection") -> None:
    """Load what a lake needs of DuckDB: from installed packages, else from DuckDB's own place in the internet.

    Raises:
        ConfigurationError: They are in neither.
    """
    import duckdb

    for name in EXTENSIONS:
        package = f"duckdb_extension_{name}"
        try:
            if find_spec(package):
                folder = Path(str(import_module(package).__file__)).parent / "extensions" / f"v{duckdb.__version__}"
                connection.execute(f"load {literal(str(folder / f'{name}.duckdb_extension'))}")
            else:
                connection.execute(f"install {name}; load {name}")
        except duckdb.Error as error:
            raise ConfigurationError(
                f"DuckDB {duckdb.__version__} has no extension {name} here, which a lake needs; install the extra that "
                f"brings it, pip install '.[team]' ({first_line(error)})"
            ) from error


def s3_secret(url_style: str) -> str:
    """The statement that lets DuckDB into the object store that the usual variables name."""
    scheme, _, host = os.environ.get("AWS_ENDPOINT_URL", "").rstrip("/").rpartition("://")
    known = {name: os.environ.get(f"AWS_{variable}", "") for name, variable in S3_VARIABLES.items()}
    options = [f"{name} {literal(value)}" for name, value in (known | {"endpoint": host}).items() if value]
    if host:
        options += [f"url_style {literal(url_style)}", f"use_ssl {'true' if scheme == 'https' else 'false'}"]
    return f"create secret objects (type s3, {', '.join(options)})"


def literal(text: str) -> str:
    """A text as SQL writes it, where nothing can be bound.

    >>> literal("it's")
    "'it''s'"
    """
    return "'" + text.replace("'", "''") + "'"
