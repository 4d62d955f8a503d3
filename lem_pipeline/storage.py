"""The DuckDB warehouse: the only Python that writes tables.

One writing process at a time, by design: every connection is short and held under a file lock, network and training
work hold none, and whoever waits says so. ``lake.py`` has the warehouse of many writers.
"""

import hashlib
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import dagster as dg
import pyarrow as pa
from filelock import FileLock, Timeout
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_delay, wait_random

from lem_pipeline.errors import WarehouseError, WarehouseLockedError

if TYPE_CHECKING:
    import duckdb

SCHEMAS = ("raw", "staging", "bars", "quality", "features", "windows", "results", "reports")

SORTING = "set memory_limit = '1GB'; set threads = 4"  # DuckDB asks for 125 MB a thread at least
UNSORTED = "reset memory_limit; reset threads"  # a lake's connections share them
PART = 122_880  # rows of an answer that is read part by part: those that DuckDB stores together

LOCKED = "Could not set lock on file"  # DuckDB's words; "lock" alone may be part of a path


@dataclass(frozen=True)
class Written:
    """What a write did to a table.

    Attributes:
        table: The table, ``schema.name``.
        inserted: Rows written now.
        rows: Rows the table has afterwards.
        columns: Name and type of each column.
        last_bar: Start of the last bar, UTC; None for a table without bars.
    """

    table: str
    inserted: int
    rows: int
    columns: tuple[tuple[str, str], ...]
    last_bar: datetime | None = None


class Warehouse(dg.ConfigurableResource):
    """A DuckDB file.

    Attributes:
        path: The file; its folder is created where missing.
        patience_s: How long to wait for other processes before giving up.
    """

    path: str
    patience_s: float = 60.0

    @contextmanager
    def connection(self) -> Iterator["duckdb.DuckDBPyConnection"]:
        """A short-lived connection, alone on the file; whoever has to wait for it says so in the log.

        Raises:
            WarehouseLockedError: Another process kept the file for longer than ``patience_s``.
            WarehouseError: The file is no warehouse.
        """
        path = Path(self.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._turn(path), self._opened(path) as connection:
            connection.execute("set timezone = 'UTC'; set enable_progress_bar = false")
            for schema in SCHEMAS:
                connection.execute(f"create schema if not exists {schema}")
            yield connection

    @property
    def place(self) -> str:
        """Where it is, for people."""
        return self.path

    @property
    def exists(self) -> bool:
        """Whether anything was ever written into it."""
        return Path(self.path).is_file()

    @contextmanager
    def transaction(self, *tables: str) -> Iterator["duckdb.DuckDBPyConnection"]:
        """A connection whose writes all happen, or none.

        Args:
            tables: What is written, which nobody else writes meanwhile; in one file, nobody writes anything.
        """
        with self.connection() as connection:
            connection.begin()
            yield connection
            connection.commit()

    @contextmanager
    def _turn(self, path: Path) -> Iterator[None]:
        lock = FileLock(f"{path}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            dg.get_dagster_logger().info(f"waiting for another step to finish with {path}")
            try:
                lock.acquire(timeout=self.patience_s)
            except Timeout as timeout:
                raise WarehouseLockedError(
                    f"another run has kept {path} busy for {self.patience_s:.0f} s; wait for it to finish or cancel it"
                ) from timeout
        try:
            yield
        finally:
            lock.release()

    def _opened(self, path: Path) -> "duckdb.DuckDBPyConnection":
        import duckdb

        def say_who_is_waited_for(state: RetryCallState) -> None:
            if state.attempt_number == 1 and state.outcome:
                reason = first_line(state.outcome.exception())
                dg.get_dagster_logger().info(f"waiting for another program to close {path} ({reason})")

        retrying = Retrying(
            retry=retry_if_exception(lambda error: isinstance(error, duckdb.IOException) and LOCKED in str(error)),
            stop=stop_after_delay(self.patience_s),
            wait=wait_random(0.05, 0.25),
            before_sleep=say_who_is_waited_for,
            reraise=True,
        )
        try:
            return retrying(duckdb.connect, str(path))
        except duckdb.IOException as error:
            if LOCKED not in str(error):
                raise WarehouseError(f"{path} cannot be opened as a warehouse: {first_line(error)}") from error
            raise WarehouseLockedError(
                f"{path} has been open in another program for {self.patience_s:.0f} s; close that program's "
                f"connection and read {self.readers_copy.name} beside it instead ({first_line(error)})"
            ) from error

    def publish(self) -> Path | None:
        """Copy the warehouse for readers, who then stand in nobody's way; None where they need no copy.

        The copy takes the place of the one before in one step: a session that reads the old one goes on undisturbed.
        """
        target = self.readers_copy
        unfinished = target.with_suffix(".unfinished")
        with self.connection() as connection:
            connection.execute("checkpoint")
        with self._turn(Path(self.path)):
            shutil.copyfile(self.path, unfinished)
        unfinished.replace(target)
        return target

    @property
    def readers_copy(self) -> Path:
        """Where readers find their copy."""
        return Path(self.path).with_name("readers.duckdb")

    def write_table(self, table: str, rows: pa.Table) -> Written:
        """Replace a table by the rows given."""
        with self.transaction(table) as connection:
            connection.register("new_rows", rows)
            connection.execute(f"create or replace table {table} as from new_rows")
            return written(connection, table, len(rows))

    def append(self, table: str, rows: pa.Table) -> None:
        """Add rows to a table that only grows; it is created where missing."""
        with self.transaction(table) as connection:
            replace_rows(connection, table, rows, "false", {})

    def replace_streamed(
        self, table: str, parts: Iterable[pa.Table], where: str, parameters: Mapping[str, Any]
    ) -> Written:
        """Delete the rows of a table that match and add others, which may be more than memory holds.

        They wait in a file of this computer until all are there: the warehouse is taken for the last step alone.
        A table of other columns, as earlier code wrote it, is dropped.
        """
        import pyarrow.parquet as pq

        parts = iter(parts)
        first = next(parts)
        with TemporaryDirectory(dir=self._waiting_room()) as folder:
            waiting = Path(folder) / "rows.parquet"
            with pq.ParquetWriter(waiting, first.schema, compression="zstd") as writer:
                for part in chain([first], parts):
                    writer.write_table(part)
            with self.transaction(table) as connection:
                rows = connection.read_parquet(str(waiting))
                count = rows.shape[0]
                create_if_missing(connection, table, first.schema)
                if set(connection.table(table).columns) != set(rows.columns):
                    connection.execute(f"drop table {table}")
                replace_rows(connection, table, rows, where, parameters)
                return written(connection, table, count)

    def create_table(self, table: str, select: str, parameters: Mapping[str, Any]) -> Written:
        """Replace a table by the answer of a select statement."""
        with self.transaction(table) as connection:
            connection.execute(f"create or replace table {table} as {select}", dict(parameters))
            done = written(connection, table, 0)
        return replace(done, inserted=done.rows)

    def read(self, select: str, parameters: Mapping[str, Any] | None = None) -> pa.Table:
        """The answer of a select statement."""
        with self.connection() as connection:
            return connection.sql(select, params=dict(parameters or {})).to_arrow_table()

    @contextmanager
    def reading(self, select: str, parameters: Mapping[str, Any]) -> Iterator[tuple[int, pa.RecordBatchReader]]:
        """How many rows a select statement has, and the rows part by part: more than should stand in memory as a whole.

        What DuckDB sorts beyond ``SORTING`` waits in files beside the warehouse, which is taken until the block ends.
        """
        bound = dict(parameters)
        with self.connection() as connection:
            connection.execute(SORTING)
            connection.begin()  # both answers are of one state of the tables
            try:
                ((count,),) = connection.execute(f"select count(*) from ({select})", bound).fetchall()  # noqa: S608 - our own statement
                yield count, connection.sql(select, params=bound).to_arrow_reader(PART)
            finally:
                connection.rollback()
                connection.execute(UNSORTED)

    def has_table(self, table: str) -> bool:
        """True where the table exists."""
        return table in self.tables()

    def tables(self) -> list[str]:
        """Every table, ``schema.name``."""
        with self.connection() as connection:
            return tables_in(connection)

    def divide(self, connection: "duckdb.DuckDBPyConnection", table: str, column: str) -> None:
        """Keep rows of a table apart by the values of a column, where that helps; within one file it does not."""

    def _waiting_room(self) -> str | None:
        """The folder where rows wait that are more than memory holds; None for the computer's own."""
        place = Path(self.path).parent
        place.mkdir(parents=True, exist_ok=True)
        return str(place)


class ContentHash:
    """A short hash of names, types and values, in their order; rows may come in parts."""

    def __init__(self, schema: pa.Schema) -> None:
        self._digest = hashlib.sha256(str(schema).encode())

    def add(self, rows: pa.Table | pa.RecordBatch) -> None:
        """Take the next rows in."""
        import pandas as pd

        self._digest.update(pd.util.hash_pandas_object(rows.to_pandas(), index=False).to_numpy().tobytes())

    def __str__(self) -> str:
        return self._digest.hexdigest()[:16]


def content_hash(table: pa.Table) -> str:
    """A short hash of a table's names, types and values, in their order."""
    found = ContentHash(table.schema)
    found.add(table)
    return str(found)


def tables_in(connection: "duckdb.DuckDBPyConnection") -> list[str]:
    """Every table of the warehouse that a connection is to, ``schema.name``."""
    found = connection.execute(
        "select schema_name, table_name from duckdb_tables() where database_name = current_database() order by all"
    )
    return [f"{schema}.{name}" for schema, name in found.fetchall()]


def create_if_missing(connection: "duckdb.DuckDBPyConnection", table: str, schema: pa.Schema) -> None:
    """Create an empty table, unless it exists."""
    connection.register("empty_rows", schema.empty_table())
    connection.execute(f"create table if not exists {table} as from empty_rows")


def replace_rows(
    connection: "duckdb.DuckDBPyConnection",
    table: str,
    rows: "pa.Table | duckdb.DuckDBPyRelation",
    where: str,
    parameters: Mapping[str, Any],
) -> None:
    """Delete the rows of a table that match and add others; within a transaction, safe to run twice.

    Args:
        connection: Within a transaction.
        table: ``schema.name``; created with the columns of ``rows`` where missing.
        rows: What takes the place of the rows deleted.
        where: Condition of the rows to delete, with ``$name`` parameters.
        parameters: Their values.
    """
    connection.register("new_rows", rows)
    connection.execute(f"create table if not exists {table} as from new_rows limit 0")
    connection.execute(f"delete from {table} where {where}", dict(parameters))  # noqa: S608 - our own names, values bound
    connection.execute(f"insert into {table} by name from new_rows")


def written(connection: "duckdb.DuckDBPyConnection", table: str, inserted: int) -> Written:
    """What a table looks like after rows were inserted."""
    columns = tuple((str(c[0]), str(c[1])) for c in connection.execute(f"describe {table}").fetchall())
    last_bar = "max(bar_start)" if "bar_start" in dict(columns) else "null"
    rows, last = connection.execute(f"select count(*), {last_bar} from {table}").fetchall()[0]  # noqa: S608 - our own names
    return Written(table, inserted, rows, columns, last)


def first_line(error: BaseException | None) -> str:
    """The first line of what an error says."""
    return str(error).splitlines()[0]
