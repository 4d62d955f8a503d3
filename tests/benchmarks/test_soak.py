"""Whatever leaks, is lost or is doubled in a soak would be found; runs that are killed have tests of their own."""

import time

import duckdb
import pyarrow as pa
import pytest

from benchmarks.soak import AIMS, FAULTS, judged, lost_or_doubled
from benchmarks.soak_home import a_reader_of, files, megabytes
from lem_pipeline.replay.catalogue import parse
from lem_pipeline.storage import Warehouse

NIGHT = {"memory_mb": 500.0, "files": 20, "threads": 7, "opens_s": 0.05, "warehouse": 13.0, "dagster": 10.0}


def lines(nights: list[dict[str, float]]) -> dict[str, dict]:
    return {str(line["name"]).removeprefix("soak: "): line for line in judged(nights)}


def test_what_grows_from_night_to_night_is_no_success_and_what_is_flat_is():
    wobble = [0.0, 2.0, -1.0, 1.0, -2.0, 0.5, 1.5, -0.5, 0.0]
    flat = lines([NIGHT | {"memory_mb": 500 + each} for each in wobble])
    assert all(line["ok"] for name, line in flat.items() if name in AIMS)
    leaking = lines([NIGHT | {"memory_mb": 500 + 3 * n + each, "files": 20 + n} for n, each in enumerate(wobble)])
    assert not leaking["memory_mb"]["ok"] and not leaking["files"]["ok"] and leaking["threads"]["ok"]
    assert leaking["memory_mb"]["per_night"]["estimate"] == pytest.approx(3, abs=0.5)
    assert not lines([NIGHT, NIGHT | {"opens_s": 2.0}])["opens_s"]["ok"]


def test_a_row_that_is_lost_or_doubled_is_found_and_logs_may_differ(tmp_path):
    rows, log = pa.table({"bar": [1, 2, 3]}), pa.table({"seen": [1]})
    alone, sound, doubled, lost = (Warehouse(path=str(tmp_path / f"{name}.duckdb")) for name in "abcd")
    for warehouse, bars in (
        (alone, rows),
        (sound, rows),
        (doubled, pa.concat_tables([rows, rows[:1]])),
        (lost, rows[1:]),
    ):
        warehouse.write_table("bars.market_bars", bars)
    sound.write_table("raw.revisions", log)
    assert lost_or_doubled(sound, alone) == []
    assert lost_or_doubled(doubled, alone) == lost_or_doubled(lost, alone) == ["bars.market_bars"]
    lost.write_table("bars.others", rows)
    assert lost_or_doubled(lost, alone) == ["bars.market_bars", "bars.others"]


def test_every_kind_of_fault_that_is_named_is_one_of_the_replay():
    kinds = {fault.name() for text in FAULTS.values() for fault in parse(text)}
    assert kinds == {"status", "connection-reset", "truncated-body", "half-formed-bar"}


def test_another_program_that_reads_a_warehouse_is_waited_for(tmp_path):
    warehouse = Warehouse(path=str(tmp_path / "warehouse.duckdb"))
    warehouse.write_table("bars.market_bars", pa.table({"bar": [1]}))
    refused = 0
    with a_reader_of(warehouse.path, seconds=0.3):
        for _ in range(4000):
            try:
                duckdb.connect(warehouse.path).close()
            except duckdb.IOException:
                refused += 1
                break
            time.sleep(0.005)
        warehouse.append("bars.market_bars", pa.table({"bar": [2]}))
    assert refused and len(warehouse.read("from bars.market_bars")) == 2


def test_the_files_of_a_home_are_counted_by_part(tmp_path):
    for name, size in {
        "warehouse.duckdb": 3,
        "warehouse.duckdb.wal": 1,
        "dagster/a/b.db": 5,
        "artifacts/1/w.pt": 7,
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(bytes(size * 1_000_000))
    sizes = {name: size for name, size in megabytes(tmp_path).items() if size}
    assert sizes == {"warehouse": 4, "dagster": 5, "artifacts": 7}
    assert files(tmp_path) == 4
