"""Bars written to a DuckDB file per second, as ingestion stores answers and by the raw ways into the same engine.

The bars are simulated: one answer for each crypto instrument. Ingestion stores an answer as it does every day: under
the file lock, in a connection of its own so that others get their turn before the next answer, and in one transaction
with the revisions and the ledger. The raw ways insert the same rows into one table and do nothing else. All start
without a file, and are timed until the last bar is in it and the file is closed. The aim is to take at most 1.5 times
as long as raw Arrow.

To open and close a DuckDB file takes longer than to insert a year of hours, as whoever closes it compresses the last
rows once more. So Arrow is timed both ways: with the file opened for each answer, as ingestion must, and kept open for
all of them, which leaves nobody a turn. The second is no like for like, and is printed to show what the turns cost;
raw Arrow that takes turns misses it as well. DataFrame and COPY open the file for each answer.

A re-fetch stores the same answers once more: it compares every value with what is stored, deletes the bars and inserts
them again. Its aim is a quarter of the rate at which raw Arrow fills an empty table: read, compare, delete and insert
are four passes where Arrow has one.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import report, seconds_in_turns
from lem_pipeline.ingest import store
from lem_pipeline.sources.base import RAW_BARS
from lem_pipeline.sources.simulated import SimulatedBars
from lem_pipeline.storage import Warehouse
from lem_pipeline.universe import CRYPTO_HOURLY

TABLE = "raw.crypto_bars"
START = datetime(2019, 1, 1, tzinfo=UTC)
REPEATS = {8_760: 11, 50_000: 5}  # by bars in an answer: a year of hours, and almost six
AIM = 0.67
REFETCH_AIM = 0.25

Write = Callable[[Path], None]


def answers_of(bars: int, instruments: Sequence[str] = CRYPTO_HOURLY.instruments) -> list[pa.Table]:
    """One answer per instrument, as a source gives it."""
    market = SimulatedBars(origin=f"{START:%Y-%m-%d}")
    end = START + timedelta(hours=bars)
    return [market.fetch(instrument, START, end) for instrument in instruments]


def ingested(answers: Sequence[pa.Table], file: Path) -> None:
    """Store answers as ingestion does; again where the file has them."""
    warehouse = Warehouse(path=str(file))
    for answer in answers:
        period = START, START + timedelta(hours=len(answer))
        store(warehouse, TABLE, answer["symbol"][0].as_py(), answer, period)


def file_opened_for_each(answers: Sequence[object], insert: str, file: Path) -> None:
    for answer in answers:
        with opened(file) as connection:
            run(connection, insert, answer)


def file_kept_open(answers: Sequence[object], insert: str, file: Path) -> None:
    with opened(file) as connection:
        for answer in answers:
            run(connection, insert, answer)


@contextmanager
def opened(file: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A plain connection to a file with a table for bars."""
    is_new = not file.exists()
    with duckdb.connect(str(file)) as connection:
        if is_new:
            connection.register("no_bars", RAW_BARS.empty_table())
            connection.execute(f"create schema raw; create table {TABLE} as from no_bars")
        yield connection


def run(connection: duckdb.DuckDBPyConnection, insert: str, answer: object) -> None:
    if isinstance(answer, Path):
        connection.execute(insert, {"file": str(answer)})
    else:
        connection.register("answer", answer)
        connection.execute(insert)


def contestants(answers: Sequence[pa.Table], folder: Path) -> dict[str, Write]:
    """Every way to write the answers into a file, by its name; the first is ours."""
    frames = [answer.to_pandas() for answer in answers]
    parquet = [folder / f"{number}.parquet" for number in range(len(answers))]
    for answer, file in zip(answers, parquet, strict=True):
        pq.write_table(answer, file)
    insert, copy = f"insert into {TABLE} from answer", f"copy {TABLE} from $file"
    return {
        "ingestion": partial(ingested, answers),
        "Arrow, file opened for each": partial(file_opened_for_each, answers, insert),
        "Arrow, file kept open": partial(file_kept_open, answers, insert),
        "DataFrame": partial(file_opened_for_each, frames, insert),
        "COPY from Parquet": partial(file_opened_for_each, parquet, copy),
    }


def assert_all_agree(ways: dict[str, Write], answers: Sequence[pa.Table], folder: Path) -> None:
    """Raise an AssertionError where a contestant's file has other bars than the answers."""
    for name, write in ways.items():
        file = folder / f"{name}.duckdb"
        write(file)
        stored = Warehouse(path=str(file)).read(f"from {TABLE}")
        assert stored.cast(RAW_BARS).equals(pa.concat_tables(answers)), name


def into_new_file(write: Write, file: Path) -> None:
    file.unlink(missing_ok=True)
    write(file)


def compare(bars: int, repeats: int, folder: Path) -> None:
    """Print the results for answers of so many bars."""
    answers = answers_of(bars)
    ways = contestants(answers, folder)
    refetched = folder / "refetched.duckdb"
    ways["ingestion"](refetched)
    works = [partial(into_new_file, write, folder / "new.duckdb") for write in ways.values()]
    works.append(partial(ways["ingestion"], refetched))
    times = seconds_in_turns(works, repeats)
    speed = {name: round(bars * len(answers) / time) for name, time in zip([*ways, "re-fetch"], times, strict=True)}
    subject = f"ingest: bars per second in answers of {bars:,}"
    for name in list(ways)[1:]:
        report(f"{subject}, over {name}", speed["ingestion"], speed[name], AIM)
    arrow = "Arrow, file opened for each"
    report(f"{subject}, re-fetch over {arrow}", speed["re-fetch"], speed[arrow], REFETCH_AIM)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        few = answers_of(bars=1_000)
        assert_all_agree(contestants(few, Path(folder)), few, Path(folder))
    for bars, repeats in REPEATS.items():
        with tempfile.TemporaryDirectory() as folder:
            compare(bars, repeats, Path(folder))


if __name__ == "__main__":
    main()
