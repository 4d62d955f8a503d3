"""What tests have done by a process of its own, which has the DuckDB of the overlay.

``python -m lake_programs`` reads orders, one line of JSON each: a function, its arguments, settings as variables. It
answers each with one line of JSON, the answer or the error.
"""

import hashlib
import json
import os
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
from warehouses import PARAMETERS, bars_at, daily, hourly, raw, with_raw_tables
from warehouses import run as build_tables

from lem_pipeline.storage import Warehouse, content_hash

TABLE, FIRST = "raw.crypto_bars", datetime(2024, 1, 1, tzinfo=UTC)
SEEN = ("fetched_at", "seen_at", "decided_at", "looked_at", "found_at", "run", "report")


def lake() -> Warehouse:
    """The lake of the environment."""
    from lem_pipeline.settings import settings
    from lem_pipeline.stores import warehouse_of

    return warehouse_of(settings())


def hashes(warehouse: Warehouse) -> dict[str, str]:
    """A hash of each table in an order of its own, without the columns that say when."""
    found = {}
    for table in warehouse.tables():
        rows = warehouse.read(f"select columns(lambda c: not list_contains({list(SEEN)}, c)) from {table} order by all")
        for place, field in enumerate(rows.schema):
            if pa.types.is_list(field.type):  # which pandas cannot hash
                rows = rows.set_column(place, field.name, pa.array(map(str, rows[field.name].to_pylist())))
        found[table] = content_hash(rows)
    return found


def contents(*places: str) -> dict[str, str]:
    """Of the lake, or of a file."""
    return hashes(Warehouse(path=places[0]) if places else lake())


def same_sql(folder: str) -> list[dict[str, str]]:
    """Every table that SQL makes of bars, on a file and on the lake."""
    answers = []
    for warehouse in (Warehouse(path=str(Path(folder) / "warehouse.duckdb")), lake()):
        with_raw_tables(Path(folder), hourly(320), daily(320), into=warehouse)
        build_tables(warehouse, PARAMETERS)
        answers.append(hashes(warehouse))
    return answers


def write(symbol: str, answers: int) -> int:
    """Store answers in the lake."""
    return write_into(lake(), symbol, answers)


def write_into(warehouse: Warehouse, symbol: str, answers: int) -> int:
    """Store answers of one symbol, each of which restates half of the one before."""
    from lem_pipeline.ingest import make_ready, store

    make_ready(warehouse)
    for number in range(answers):
        since = FIRST + timedelta(hours=12 * number)
        rows = raw(bars_at(pd.date_range(since, periods=24, freq="h"), symbol, seed=number))
        store(warehouse, TABLE, symbol, rows, (since, since + timedelta(hours=24)))
    return answers


def stop_in_mid_transaction(symbol: str) -> None:
    """Write, say so, and never come to an end."""
    from lem_pipeline.storage import replace_rows

    warehouse, starts = lake(), pd.date_range(FIRST, periods=48, freq="h")
    with warehouse.transaction(TABLE) as connection:
        replace_rows(connection, TABLE, raw(bars_at(starts, symbol, seed=99)), "symbol = $symbol", {"symbol": symbol})
        print(json.dumps("half"), flush=True)
        time.sleep(600)


def move_in(folder: str) -> list[dict[str, str]]:
    """Take in what another warehouse wrote out; then tidy up."""
    from lem_pipeline.carry_over import take_in
    from lem_pipeline.upkeep import upkeep

    warehouse, answers = lake(), []
    take_in(Path(folder), warehouse)
    answers.append(hashes(warehouse))
    upkeep(warehouse, 0)
    answers.append(hashes(warehouse))
    return answers


def carry_out(folder: str) -> list[str]:
    """Write every table of the lake into files."""
    from lem_pipeline.carry_over import write_out

    return write_out(lake(), Path(folder))


def schedules(*names: str) -> dict[str, str]:
    """A hash of what each latest version decides about the orders that it was registered with."""
    import numpy as np
    from mlflow.artifacts import download_artifacts

    from lem_pipeline.serving import answer
    from lem_pipeline.settings import settings
    from lem_pipeline.stores import tracking_of

    tracking = tracking_of(settings())
    found = {}
    for name in names:
        version = tracking.latest(name)
        arrays = dict(np.load(download_artifacts(f"runs:/{version.run_id}/example.npz")))
        kept = arrays.pop("schedule")
        decided = answer(tracking.load(name), arrays)
        assert np.array_equal(decided, kept)
        found[name] = hashlib.sha256(decided.tobytes()).hexdigest()
    return found


def obeyed(name: str, arguments: list[str], variables: dict[str, str]) -> dict[str, object]:
    """The answer to an order, or what went wrong."""
    from lem_pipeline.settings import settings

    os.environ.update(variables)
    settings.cache_clear()
    try:
        return {"answer": globals()[name](*arguments)}
    except Exception as error:
        return {"error": str(error)}
    finally:
        for variable in variables:
            os.environ.pop(variable, None)


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(obeyed(*json.loads(line))), flush=True)
