"""Carries every table of one warehouse into another by Parquet files, which any DuckDB writes and reads.

``python -m lem_pipeline.carry_over out FOLDER`` writes the tables of the profile that ``LEM_PROFILE`` names into a
folder, ``... in FOLDER`` takes them from there into the warehouse of the settings, such as a lake.
"""

import sys
from pathlib import Path

from lem_pipeline.errors import WarehouseError
from lem_pipeline.lake import literal
from lem_pipeline.storage import Warehouse, tables_in
from lem_pipeline.universe import ASSET_CLASSES

RAW_TABLES = {f"raw.{name}_bars" for name in ASSET_CLASSES}


def write_out(warehouse: Warehouse, folder: Path) -> list[str]:
    """Write each table into ``folder/schema.table.parquet``.

    Returns:
        The tables.

    Raises:
        WarehouseError: There is no warehouse, or the folder holds other files already.
    """
    if not warehouse.exists:
        raise WarehouseError(f"there is no warehouse at {warehouse.place}; name the profile that has one")
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise WarehouseError(f"{folder} is not empty; name a new folder")
    with warehouse.connection() as connection:
        connection.begin()  # one state of all tables
        tables = tables_in(connection)
        for table in tables:
            connection.execute(f"copy {table} to {literal(str(folder / f'{table}.parquet'))} (compression zstd)")
    return tables


def take_in(folder: Path, warehouse: Warehouse) -> list[str]:
    """Make each table that :func:`write_out` wrote, all of them or none, where none is yet.

    Returns:
        The tables.

    Raises:
        WarehouseError: The folder has none, or the warehouse has one of them with rows in it.
    """
    files = {file.stem: file for file in sorted(folder.glob("*.*.parquet"))}
    if not files:
        raise WarehouseError(f"{folder} holds no table; write one out into it first")
    with warehouse.transaction(*files) as connection:
        known = set(tables_in(connection))
        for table in known & files.keys():
            if connection.execute(f"from {table} limit 1").fetchall():
                raise WarehouseError(f"{warehouse.place} has rows in {table} already; take the others into a new one")
        for table, file in files.items():
            rows = f"from read_parquet({literal(str(file))})"
            connection.execute(f"create or replace table {table} as {rows} limit 0")
            if table in RAW_TABLES:
                warehouse.divide(connection, table, "symbol")
            connection.execute(f"insert into {table} {rows}")
    return list(files)


if __name__ == "__main__":
    from lem_pipeline.settings import settings
    from lem_pipeline.stores import warehouse_of

    way, place = sys.argv[1:]
    chosen = warehouse_of(settings())
    carried = write_out(chosen, Path(place)) if way == "out" else take_in(Path(place), chosen)
    print(f"{len(carried)} tables carried {way}")
