"""Looks for a secret in everything that a run has written, compressed columns and split pages of databases included."""

import sqlite3
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import duckdb
import pyarrow.parquet as pq


def places_of(secret: str, home: Path) -> list[str]:
    """Files below a folder whose name, bytes or contents hold a secret."""
    files = sorted(path for path in home.rglob("*") if path.is_file())
    return [str(path) for path in files if secret in str(path) or any(_found(secret, path))]


def _found(secret: str, path: Path) -> Iterator[bool]:
    raw = path.read_bytes()
    yield secret.encode() in raw
    if path.suffix == ".duckdb":
        with duckdb.connect(str(path), read_only=True) as connection:
            tables = connection.execute("select table_schema, table_name from information_schema.tables").fetchall()
            for schema, table in tables:
                query = f'select count(*) from "{schema}"."{table}" as t where contains(t::varchar, $secret)'
                yield connection.execute(query, {"secret": secret}).fetchall() != [(0,)]
    elif raw.startswith(b"SQLite"):
        with closing(sqlite3.connect(path)) as connection:
            for (table,) in connection.execute("select name from sqlite_master where type = 'table'").fetchall():
                columns = [row[1] for row in connection.execute(f'pragma table_info("{table}")')]
                holds = " or ".join(f'instr(cast("{column}" as text), :secret) > 0' for column in columns)
                query = f'select count(*) from "{table}" where {holds}'
                yield connection.execute(query, {"secret": secret}).fetchall() != [(0,)]
    elif path.suffix == ".parquet":
        yield secret in str(pq.read_table(path).to_pylist())
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            yield from (secret.encode() in archive.read(name) for name in archive.namelist())
