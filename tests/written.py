"""Everything that a run has written, as text: whoever looks for a secret must not miss one in a compressed column."""

import sqlite3
import zipfile
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow.parquet as pq


def everything_written(home: Path) -> Iterator[tuple[str, bytes]]:
    """Where and what, below a folder: the bytes of each file, and what is inside of those that pack it."""
    for path in sorted(path for path in home.rglob("*") if path.is_file()):
        yield str(path), str(path).encode() + path.read_bytes()
        for inside in _unpacked(path):
            yield f"inside of {path}", inside.encode(errors="replace")


def _unpacked(path: Path) -> Iterator[str]:
    if path.suffix == ".duckdb":
        with duckdb.connect(str(path), read_only=True) as connection:
            tables = connection.execute("select table_schema, table_name from information_schema.tables").fetchall()
            for schema, table in tables:
                yield from map(str, connection.table(f"{schema}.{table}").fetchall())
    elif path.read_bytes()[:6] == b"SQLite":
        with sqlite3.connect(path) as connection:
            yield from connection.iterdump()
    elif path.suffix == ".parquet":
        yield str(pq.read_table(path).to_pylist())
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            yield from (archive.read(name).decode(errors="replace") for name in archive.namelist())


def places_of(secret: str, home: Path) -> list[str]:
    """Files below a folder that hold a secret."""
    return [place for place, text in everything_written(home) if secret.encode() in text]
