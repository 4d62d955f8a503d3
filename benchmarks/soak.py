"""Nights of scheduled runs, one after another in one process, while everything goes wrong: does anything leak?

A night asks a replayed Binance and Yahoo for the newest months again, through the real clients, while requests are
refused, connections dropped, answers cut short and a bar comes half-formed; a run in another process is killed by
SIGKILL in the middle of a write; another program reads the warehouse, and one its copy. Then the venues are sound, and
the same jobs run again, ``shadow`` too; every third night a model is trained and compared. ``MINUTES`` says for how
long, ``NIGHTS`` how many nights at most.

After each night: memory, open files and threads of the process, files and megabytes of the home by part, files left in
the temporary folder, and whether the warehouse opens at once. At the end: slopes per night, after the first third, and
whether bars, features and windows are row by row those of a home that nobody disturbed.
"""

import contextlib
import gc
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path

from benchmarks import soak_home
from benchmarks.processes import holding
from benchmarks.slopes import slope
from benchmarks.soak_home import FIRST, LAST, NEWEST, a_reader_of, killed, launch
from lem_pipeline.replay.catalogue import parse
from lem_pipeline.replay.server import ReplayServer
from lem_pipeline.storage import Warehouse

FAULTS = {
    "crypto": "status:code=429,first=2,path=klines connection-reset:every=5,path=klines half-formed-bar:path=klines",
    "dow": "status:code=500,first=1,path=chart truncated-body:every=3,path=chart half-formed-bar:path=chart",
}
AIMS = {
    "memory_mb": 1.0,
    "files": 0.0,
    "threads": 0.0,
    "warehouse": 0.1,
    "readers": 0.1,
    "checkpoints": 0.0,
    "temporary": 0.0,
}
"""Most by which each may grow a night; what is not named here is expected to grow, and reported."""
OPENS_WITHIN_S = 1.0
TRAINS_EVERY = 3


def night(number: int, server: ReplayServer, warehouse: str, trains: bool) -> Counter[str]:
    """What a night's runs came to."""
    ended: Counter[str] = Counter()

    def run(name: str, months: tuple[str, str], **config: object) -> None:
        failure = launch(name, server.url, warehouse, months, **config)
        ended[f"{name} failed: {failure}" if failure else f"{name} done"] += 1

    for market, months in NEWEST.items():
        again = {f"raw__{market}_bars": {"refetch": True}}
        with contextlib.ExitStack() as on:
            for fault in parse(FAULTS[market]):
                on.enter_context(server.faults.add(fault.model_copy(update={"seed": number})))
            on.enter_context(a_reader_of(warehouse))
            run(f"ingest_{market}", months, **again)
        was_killed = killed(f"ingest_{market}", server.url, warehouse, months, **again)
        ended[f"ingest_{market} {'killed' if was_killed else 'not killed in time'}"] += 1
    for market, months in NEWEST.items():
        with a_reader_of(str(Path(warehouse).with_name("readers.duckdb"))):
            run(f"ingest_{market}", months, **{f"raw__{market}_bars": {"refetch": True}})
    run("shadow", (FIRST, LAST))
    if trains:
        run("train", (FIRST, LAST), models__lem_crypto={"retrain": True})
        run("compare", (FIRST, LAST))
    return ended


def measured(folder: Path, home: Path) -> dict[str, float]:
    """What the process and the home hold now."""
    gc.collect()
    held, start = holding(os.getpid()), time.perf_counter()
    with Warehouse(path=str(home / "warehouse.duckdb"), patience_s=5).connection():
        opens_s = time.perf_counter() - start
    own = holding_of_this_process_alone()
    sizes = {name: round(size, 3) for name, size in soak_home.megabytes(home).items()}
    more = {"home_files": soak_home.files(home), "temporary": soak_home.files(folder / "tmp")}
    return {**own, "processes": len(held.pids), "opens_s": round(opens_s, 3)} | sizes | more


def holding_of_this_process_alone() -> dict[str, float]:
    """Without the process that killed runs are forked from."""
    status = Path("/proc/self/status").read_text().splitlines()
    fields = {line.partition(":")[0]: line.split()[1] for line in status if line.startswith(("VmRSS", "Threads"))}
    files = len(list(Path("/proc/self/fd").iterdir()))
    return {"memory_mb": round(int(fields["VmRSS"]) * 1024 / 1e6, 1), "files": files, "threads": int(fields["Threads"])}


def judged(nights: list[Mapping[str, float]]) -> Iterator[dict[str, object]]:
    """A line for everything that was measured: growth per night after the first third."""
    kept = nights[len(nights) // 3 :]
    for name in kept[0]:
        values = [each[name] for each in kept]
        line: dict[str, object] = {"name": f"soak: {name}", "first": values[0], "last": values[-1], "most": max(values)}
        if len(kept) >= 4:
            grown = slope(range(len(kept)), values, lags=2)
            line["per_night"] = grown.rounded(4)
            if name in AIMS:
                line |= {"aim": AIMS[name], "ok": not grown.is_growth or grown.estimate < AIMS[name]}
        if name == "opens_s":
            line |= {"aim": OPENS_WITHIN_S, "ok": max(values) < OPENS_WITHIN_S}
        yield line


def lost_or_doubled(disturbed: Warehouse, alone: Warehouse) -> list[str]:
    """Tables whose rows are not those of the undisturbed home."""
    found, expected = soak_home.contents(disturbed), soak_home.contents(alone)
    return sorted(
        table for table in {*found, *expected} if table not in found or not found[table].equals(expected.get(table))
    )


def soak(folder: Path, minutes: float, most_nights: int | None, trains: bool) -> None:
    home, nights = soak_home.prepare(folder), []
    alone, warehouse = folder / "alone" / "warehouse.duckdb", home / "warehouse.duckdb"
    with soak_home.venues() as server:
        for name, path in (("backfill", alone), ("main" if trains else "backfill", warehouse)):
            failure = launch(name, server.url, str(path), (FIRST, LAST))
            assert not failure, failure
        start = time.monotonic()
        for number in count(1):
            ended = night(number, server, str(warehouse), trains=trains and number % TRAINS_EVERY == 1)
            nights.append(measured(folder, home))
            print(json.dumps({"name": f"soak: night {number}", **nights[-1], "runs": dict(ended)}), flush=True)
            if number == most_nights or time.monotonic() - start > 60 * minutes:
                break
    for line in judged(nights):
        print(json.dumps(line), flush=True)
    differ = lost_or_doubled(Warehouse(path=str(warehouse)), Warehouse(path=str(alone)))
    print(json.dumps({"name": "soak: tables with a row lost or doubled", "tables": differ, "ok": not differ}))


def main() -> None:
    minutes, nights = float(os.environ.get("MINUTES", "3")), os.environ.get("NIGHTS")
    with tempfile.TemporaryDirectory() as folder:
        soak(Path(folder), minutes, int(nights) if nights else None, trains=os.environ.get("TRAIN", "1") != "0")


if __name__ == "__main__":
    main()
