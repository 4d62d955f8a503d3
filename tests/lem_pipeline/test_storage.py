"""The warehouse under concurrent processes, failing writes and foreign locks; every file and process is real."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from lem_pipeline.errors import WarehouseLockedError
from lem_pipeline.storage import SCHEMAS, Warehouse, Written, content_hash, replace_rows, written

NOTES = "raw.notes"
WRITERS = """
import os
import sys
import pyarrow as pa
from lem_pipeline.storage import Warehouse, replace_rows

path, *names = sys.argv[1:]
for name in names:
    if os.fork():
        continue
    for number in range(10):
        rows = pa.table({"writer": [name] * 3, "number": [number] * 3, "value": [0.0, 1.0, 2.0]})
        this_write = {"writer": name, "number": number}
        with Warehouse(path=path).transaction() as connection:
            replace_rows(connection, "raw.notes", rows, "writer = $writer and number = $number", this_write)
    sys.exit()
print([os.wait()[1] for _ in names])
"""
FOREIGN_PROGRAM = """
import sys
import duckdb

connection = duckdb.connect(sys.argv[1])
print("open", flush=True)
sys.stdin.read()
"""
OTHER_RUN = """
import sys
from filelock import FileLock

with FileLock(sys.argv[1] + ".lock"):
    print("open", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def warehouse(tmp_path) -> Warehouse:
    return Warehouse(path=str(tmp_path / "new folder" / "warehouse.duckdb"))


def notes(numbers: list[int], value: float | str = 1.0) -> pa.Table:
    return pa.table({"number": numbers, "value": [value] * len(numbers)})


def replace(warehouse: Warehouse, rows: pa.Table, where: str, parameters: dict[str, int]) -> Written:
    with warehouse.transaction() as connection:
        replace_rows(connection, NOTES, rows, where, parameters)
        return written(connection, NOTES, len(rows))


def stored(warehouse: Warehouse) -> list[tuple[int, float]]:
    return [tuple(row.values()) for row in warehouse.read(f"from {NOTES} order by all").to_pylist()]


@contextmanager
def running(program: str, path: str) -> Iterator[None]:
    """Another process that keeps the file open until the block ends."""
    command = [sys.executable, "-c", program, path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "open"
        try:
            yield
        finally:
            process.communicate()


def test_a_new_warehouse_has_its_folder_and_schemas(warehouse):
    schemas = warehouse.read("select schema_name from information_schema.schemata")["schema_name"].to_pylist()
    assert set(SCHEMAS) <= set(schemas)


def test_replacing_a_window_twice_leaves_the_table_as_after_the_first_time(warehouse):
    replace(warehouse, notes([1, 2, 3, 4]), "true", {})
    first = replace(warehouse, notes([2, 3], 7.0), "number between $low and $high", {"low": 2, "high": 3})
    after_first = stored(warehouse)
    second = replace(warehouse, notes([2, 3], 7.0), "number between $low and $high", {"low": 2, "high": 3})
    assert stored(warehouse) == after_first == [(1, 1.0), (2, 7.0), (3, 7.0), (4, 1.0)]
    assert first == second
    assert (first.table, first.inserted, first.rows) == (NOTES, 2, 4)
    assert first.columns == (("number", "BIGINT"), ("value", "DOUBLE"))


def test_a_window_replaced_by_nothing_is_emptied(warehouse):
    replace(warehouse, notes([1, 2]), "true", {})
    replace(warehouse, notes([]).cast(notes([1]).schema), "number = $number", {"number": 1})
    assert stored(warehouse) == [(2, 1.0)]


def test_columns_are_matched_by_name_and_not_by_place(warehouse):
    replace(warehouse, notes([1]), "true", {})
    replace(warehouse, notes([2]).select(["value", "number"]), "false", {})
    assert stored(warehouse) == [(1, 1.0), (2, 1.0)]


def test_rows_that_stream_in_replace_those_that_match_in_one_step(warehouse):
    def parts(value):
        for number in range(3):
            yield notes([number, number], value)

    for value in (1.0, 2.0):
        done = warehouse.replace_streamed(NOTES, parts(value), "value < 10", {})
        assert (done.inserted, done.rows) == (6, 6)
    kept = warehouse.replace_streamed(NOTES, parts(11.0), "value > 10", {})
    assert (kept.inserted, kept.rows) == (6, 12)
    assert set(warehouse.read(f"from {NOTES}")["value"].to_pylist()) == {2.0, 11.0}
    assert {path.suffix for path in Path(warehouse.path).parent.iterdir()} <= {".duckdb", ".lock"}


def test_a_stream_of_other_columns_takes_the_place_of_the_table(warehouse):
    warehouse.replace_streamed(NOTES, iter([notes([1])]), "true", {})
    done = warehouse.replace_streamed(NOTES, iter([pa.table({"other": [1, 2]})]), "false", {})
    assert done.rows == 2 and [name for name, _ in done.columns] == ["other"]


def test_a_stream_that_breaks_leaves_the_table_as_it_was(warehouse):
    def broken():
        yield notes([2])
        raise RuntimeError("the power went")

    warehouse.replace_streamed(NOTES, iter([notes([1])]), "true", {})
    with pytest.raises(RuntimeError):
        warehouse.replace_streamed(NOTES, broken(), "true", {})
    assert len(warehouse.read(f"from {NOTES}")) == 1


def test_a_failing_insert_leaves_the_table_as_it_was(warehouse):
    replace(warehouse, notes([1, 2, 3]), "true", {})
    before = stored(warehouse)
    with pytest.raises(duckdb.ConversionException):
        replace(warehouse, notes([2], "not a number"), "number >= 2", {})
    assert stored(warehouse) == before


def test_a_failing_first_write_leaves_no_table_behind(warehouse):
    with pytest.raises(duckdb.BinderException):
        replace(warehouse, notes([1]), "no_such_column = 1", {})
    assert not warehouse.has_table(NOTES)


def test_a_failing_select_keeps_the_table_it_should_have_replaced(warehouse):
    warehouse.create_table(NOTES, "select 1 as number", {})
    with pytest.raises(duckdb.Error):
        warehouse.create_table(NOTES, "select error('broken') as number", {})
    assert warehouse.read(f"from {NOTES}").to_pylist() == [{"number": 1}]


def test_a_created_table_reports_its_rows_and_columns(warehouse):
    written = warehouse.create_table(NOTES, "select range as number from range($count)", {"count": 5})
    assert (written.inserted, written.rows, written.columns) == (5, 5, (("number", "BIGINT"),))


def test_tables_are_known_by_schema_and_name(warehouse):
    warehouse.write_table(NOTES, notes([1]))
    assert warehouse.has_table(NOTES)
    assert not warehouse.has_table("bars.notes")


def test_four_processes_that_write_at_once_all_succeed_and_lose_nothing(warehouse):
    names = [f"writer {number}" for number in range(4)]
    command = [sys.executable, "-c", WRITERS, warehouse.path, *names]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "[0, 0, 0, 0]", finished.stderr
    written = warehouse.read(f"select writer, number, count(*) as rows from {NOTES} group by all order by all")
    expected = [{"writer": name, "number": number, "rows": 3} for name in names for number in range(10)]
    assert written.to_pylist() == expected


def test_a_file_open_in_another_program_is_waited_for_and_said(warehouse, caplog):
    warehouse.write_table(NOTES, notes([1]))
    with caplog.at_level("INFO"), ThreadPoolExecutor() as pool:
        with running(FOREIGN_PROGRAM, warehouse.path):
            read = pool.submit(stored, warehouse)
            with pytest.raises(TimeoutError):
                read.result(timeout=0.5)
        assert read.result(timeout=10) == [(1, 1.0)]
    assert f"waiting for another program to close {warehouse.path}" in caplog.text


def test_a_file_that_another_program_keeps_open_is_explained_in_one_sentence(warehouse):
    warehouse.write_table(NOTES, notes([1]))
    impatient = Warehouse(path=warehouse.path, patience_s=0.2)
    with running(FOREIGN_PROGRAM, warehouse.path), pytest.raises(WarehouseLockedError) as caught:
        impatient.read(f"from {NOTES}")
    sentence = str(caught.value)
    assert sentence.startswith(f"{warehouse.path} has been open in another program for 0 s; close that program's")
    assert "connection and read readers.duckdb beside it instead" in sentence
    assert "\n" not in sentence
    assert stored(warehouse) == [(1, 1.0)]


def test_a_reader_of_the_copy_stands_in_nobodys_way(warehouse):
    warehouse.write_table(NOTES, notes([1]))
    with duckdb.connect(str(warehouse.publish()), read_only=True) as analyst:
        warehouse.write_table(NOTES, notes([1, 2]))
        assert warehouse.publish() == warehouse.readers_copy
        assert analyst.sql(f"from {NOTES}").fetchall() == [(1, 1.0)]
    with duckdb.connect(str(warehouse.readers_copy), read_only=True) as analyst:
        assert analyst.sql(f"from {NOTES}").fetchall() == [(1, 1.0), (2, 1.0)]


def test_a_run_that_keeps_the_file_for_longer_than_patience_is_explained_in_one_sentence(warehouse):
    impatient = Warehouse(path=warehouse.path, patience_s=0.2)
    impatient.write_table(NOTES, notes([1]))
    with running(OTHER_RUN, warehouse.path), pytest.raises(WarehouseLockedError) as caught:
        impatient.write_table(NOTES, notes([2]))
    assert str(caught.value).startswith(f"another run has kept {warehouse.path} busy")
    assert "wait for it to finish or cancel it" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert stored(warehouse) == [(1, 1.0)]


def test_a_file_that_is_no_warehouse_is_not_called_open_elsewhere_whatever_its_folder_is_called(tmp_path):
    tmp_path = tmp_path / "block trades"
    tmp_path.mkdir()
    (tmp_path / "warehouse.duckdb").write_text("something else" * 1000)
    with pytest.raises(Exception, match="not a valid DuckDB database") as caught:
        Warehouse(path=str(tmp_path / "warehouse.duckdb")).read("select 1")
    assert "open in another program" not in str(caught.value)


def test_an_error_inside_a_connection_gives_the_file_back(warehouse):
    with pytest.raises(RuntimeError), warehouse.connection():
        raise RuntimeError("something went wrong in the middle")
    assert Warehouse(path=warehouse.path, patience_s=0).read("select 1 as one").to_pylist() == [{"one": 1}]


COLUMNS = {
    "number": pa.array([1, 2, None]),
    "value": pa.array([1.0, None, 0.0]),
    "name": pa.array(["a", None, ""]),
    "flag": pa.array([True, None, False]),
    "moment": pa.array([datetime(2024, 1, 1, tzinfo=UTC), None, datetime(2024, 1, 2, tzinfo=UTC)]),
}
OTHERS = {
    "number": [5, 0],
    "value": [1.0000000000000002, -1.0],
    "name": ["b", "ab"],
    "flag": [],
    "moment": [datetime(2024, 1, 1, 0, 0, 1, tzinfo=UTC)],
}


def replaced(column: pa.Array, row: int, value: object) -> pa.Array:
    values = column.to_pylist()
    return pa.array([*values[:row], value, *values[row + 1 :]], type=column.type)


CHANGES = [
    (name, row, value)
    for name, column in COLUMNS.items()
    for row in range(3)
    for value in [*column.to_pylist(), *OTHERS[name]]
    if value != column[row].as_py()
]


@pytest.mark.parametrize(("name", "row", "value"), CHANGES)
def test_the_hash_of_a_table_changes_with_any_value(name, row, value):
    changed = COLUMNS | {name: replaced(COLUMNS[name], row, value)}
    assert content_hash(pa.table(changed)) != content_hash(pa.table(COLUMNS))


def test_the_hash_of_a_table_changes_with_names_types_and_order():
    table = pa.table(COLUMNS)
    others = [
        table.rename_columns(["count", *table.column_names[1:]]),
        table.set_column(0, "number", table["number"].cast(pa.int32())),
        table.select(table.column_names[::-1]),
        table.take([1, 0, 2]),
        pa.table({name: column.take(pa.array([0, 1])) for name, column in COLUMNS.items()}),
    ]
    assert len({content_hash(each) for each in [table, *others]}) == len(others) + 1


def test_the_hash_of_a_table_does_not_depend_on_its_chunks():
    table = pa.table(COLUMNS)
    assert content_hash(pa.concat_tables([table.slice(0, 1), table.slice(1)])) == content_hash(table)


def test_the_same_stored_rows_have_the_same_hash(warehouse):
    warehouse.create_table(NOTES, "select i, if(i % 7 = 0, null, ln(i)) as v from range(200_000) as r(i)", {})
    assert len({content_hash(warehouse.read(f"from {NOTES} order by i")) for _ in range(3)}) == 1


def test_the_hash_of_a_part_of_a_table_differs_from_that_of_the_whole():
    table = pa.table({"value": [1.0, 2.0, 3.0]})
    parts = [table, table.slice(0, 2), table.slice(1, 2), table.slice(0, 0)]
    assert len({content_hash(each) for each in parts}) == len(parts)


def test_the_hash_of_a_table_changes_with_a_last_row_of_false():
    assert content_hash(pa.table({"flag": [True]})) != content_hash(pa.table({"flag": [True, False]}))


def test_the_warehouse_path_may_be_relative(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Warehouse(path="warehouse.duckdb").write_table(NOTES, notes([1]))
    assert Path(tmp_path / "warehouse.duckdb").exists()
