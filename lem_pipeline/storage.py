"""The DuckDB warehouse: the only Python that writes tables.

One writing process at a time, by design: every connection is short and held under a file lock, network and training
work hold none, and whoever waits says so.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pyarrow as pa
from filelock import FileLock, Timeout

from lem_pipeline.errors import WarehouseError, WarehouseLockedError

if TYPE_CHECKING:
    import duckdb

SCHEMAS = ("raw", "staging", "bars", "features", "windows", "results", "reports")


@dataclass(frozen=True)
class Written:
    """What a write did to a table.

    Attributes:
        table: The table, ``schema.name``.
        inserted: Rows written now.
        rows: Rows the table has afterwards.
        columns: Name and type of each column.
    """

    table: str
    inserted: int
    rows: int
    columns: tuple[tuple[str, str], ...]


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
        """A short-lived connection, alone on the file.

        Raises:
            WarehouseLockedError: Another process kept the file for longer than ``patience_s``.
        """
        path = Path(self.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{path}.lock")
        try:
            with lock.acquire(timeout=0):
                yield from self._connected(path)
                return
        except Timeout:
            dg.get_dagster_logger().info(f"waiting for another step to finish with {path}")
        try:
            with lock.acquire(timeout=self.patience_s):
                yield from self._connected(path)
        except Timeout as timeout:
            raise WarehouseLockedError(
                f"another run has kept {path} busy for {self.patience_s:.0f} s; wait for it to finish or cancel it"
            ) from timeout

    def _connected(self, path: Path) -> Iterator["duckdb.DuckDBPyConnection"]:
        import duckdb

        try:
            connection = duckdb.connect(str(path))
        except duckdb.IOException as error:
            if "lock" not in str(error):
                raise WarehouseError(f"{path} cannot be opened as a warehouse: {_first_line(error)}") from error
            raise WarehouseLockedError(
                f"{path} is open in another program, which DuckDB does not share with a writer; "
                f"close that program's connection and run again ({_first_line(error)})"
            ) from error
        with connection:
            connection.execute("set timezone = 'UTC'; set enable_progress_bar = false")
            for schema in SCHEMAS:
                connection.execute(f"create schema if not exists {schema}")
            yield connection

    def replace_window(self, table: str, rows: pa.Table, where: str, parameters: Mapping[str, Any]) -> Written:
        """Delete the rows of a table that match, insert others, in one transaction: safe to run twice.

        Args:
            table: ``schema.name``; created with the columns of ``rows`` where missing.
            rows: What the window holds from now on.
            where: Condition of the rows to delete, with ``$name`` parameters.
            parameters: Their values.
        """
        with self.connection() as connection:
            connection.register("new_rows", rows)
            connection.begin()
            connection.execute(f"create table if not exists {table} as from new_rows limit 0")
            connection.execute(f"delete from {table} where {where}", dict(parameters))
            connection.execute(f"insert into {table} by name from new_rows")
            connection.commit()
            return _written(connection, table, len(rows))

    def write_table(self, table: str, rows: pa.Table) -> Written:
        """Replace a table by the rows given."""
        with self.connection() as connection:
            connection.register("new_rows", rows)
            connection.execute(f"create or replace table {table} as from new_rows")
            return _written(connection, table, len(rows))

    def create_table(self, table: str, select: str, parameters: Mapping[str, Any]) -> Written:
        """Replace a table by the answer of a select statement."""
        with self.connection() as connection:
            connection.execute(f"create or replace table {table} as {select}", dict(parameters))
            written = _written(connection, table, 0)
        return Written(table, written.rows, written.rows, written.columns)

    def read(self, select: str, parameters: Mapping[str, Any] | None = None) -> pa.Table:
        """The answer of a select statement."""
        with self.connection() as connection:
            return connection.sql(select, params=dict(parameters or {})).to_arrow_table()

    def has_table(self, table: str) -> bool:
        """True where the table exists."""
        schema, name = table.split(".")
        found = self.read(
            "select 1 from information_schema.tables where table_schema = $schema and table_name = $name",
            {"schema": schema, "name": name},
        )
        return len(found) > 0


def content_hash(table: pa.Table) -> str:
    """A short hash of a table's names, types and values, in their order."""
    import pandas as pd

    rows = pd.util.hash_pandas_object(table.to_pandas(), index=False)
    return hashlib.sha256(str(table.schema).encode() + rows.to_numpy().tobytes()).hexdigest()[:16]


def _written(connection: "duckdb.DuckDBPyConnection", table: str, inserted: int) -> Written:
    rows = connection.execute(f"select count(*) from {table}").fetchall()[0][0]
    columns = connection.execute(f"describe {table}").fetchall()
    return Written(table, inserted, rows, tuple((str(c[0]), str(c[1])) for c in columns))


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
