"""The home of a soak: a small profile whose venues are a replay, its scheduled jobs, and what lies in it afterwards."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    import dagster as dg

    from lem_pipeline.replay.server import ReplayServer
    from lem_pipeline.sources.base import BarSource
    from lem_pipeline.storage import Warehouse

PROFILE = """
home = "{home}"

[models]
lem-crypto = ["crypto"]
lem-dow = ["dow"]

[crypto]
instruments = ["BTC/USDT", "ETH/USDT"]
start = "2024-01-01"
end = "2024-03-15"
bars = {{ source = "simulated", origin = "2024-01-01" }}

[dow]
instruments = ["AAPL", "IBM"]
start = "2018-01-01"
end = "2020-06-01"
bars = {{ source = "simulated", origin = "2018-01-01" }}

[model]
lookback = 8
width = 8
attention_heads = 2
memory_width = 4
head_width = 8

[training]
batch_size = 16
batches_per_epoch = 2
max_epochs = 1
validation_orders = 16
"""
FIRST, LAST = "2018-01-01", "2024-03-01"
NEWEST = {"crypto": ("2024-02-01", "2024-03-01"), "dow": ("2020-04-01", "2020-05-01")}  # asked for again every night
PARTS = {
    "warehouse": "warehouse.duckdb*",
    "readers": "readers.duckdb",
    "mlflow_db": "mlflow.db*",
    "artifacts": "artifacts/**/*",
    "dagster": "dagster/**/*",
    "checkpoints": "checkpoints/**/*",
}
GROWS = ("raw.revisions", "raw.fetched_periods", "quality.", "results.", "reports.")  # logs, and what is made of models


def prepare(folder: Path) -> Path:
    """Make a folder's profile that of this process, before anything reads the settings."""
    home, profile = folder / "home", folder / "profile.toml"
    profile.write_text(PROFILE.format(home=home))
    os.environ |= {"LEM_PROFILE": str(profile), "MLFLOW_DISABLE_TELEMETRY": "true", "TMPDIR": str(folder / "tmp")}
    (folder / "tmp").mkdir()
    from lem_pipeline.main_job import dagster_home

    os.environ["DAGSTER_HOME"] = str(dagster_home(home))
    return home


def venues() -> "ReplayServer":
    """Both venues, from the simulated market."""
    from lem_pipeline.replay import binance, yahoo
    from lem_pipeline.replay.bars import Clock
    from lem_pipeline.replay.server import ReplayServer
    from lem_pipeline.sources.simulated import SimulatedBars

    clock = Clock(None)
    crypto = SimulatedBars(asset_class="crypto", origin="2024-01-01")
    dow = SimulatedBars(asset_class="dow", origin="2018-01-01")
    return ReplayServer(binance.routes(crypto, ["BTC/USDT", "ETH/USDT"], clock) | yahoo.routes(dow, clock), clock=clock)


def clients(url: str) -> "dict[str, BarSource]":
    """The live sources, pointed at the replay."""
    from lem_pipeline.sources.ccxt import CcxtBars
    from lem_pipeline.sources.yfinance import YFinanceBars

    return {
        "crypto": CcxtBars(api_url=url, backoff_s=0.05, timeout_s=5),
        "dow": YFinanceBars(api_url=url, backoff_s=0.05, timeout_s=5),
    }


@lru_cache
def job(name: str) -> "dg.JobDefinition":
    """A job of the profile."""
    return _definitions().resolve_job_def(name)


@lru_cache(maxsize=1)
def _definitions() -> "dg.Definitions":
    from lem_pipeline.definitions import defs

    return defs()


def launch(name: str, url: str, warehouse: str, months: tuple[str, str], **config: Any) -> str | None:
    """Execute a job in this process as its schedule would; None where it succeeded, else what failed.

    Args:
        name: Of the job.
        url: Of the replay.
        warehouse: The DuckDB file.
        months: First and last.
        config: By op, such as ``raw__crypto_bars={"refetch": True}``.
    """
    import dagster as dg

    from lem_pipeline.failures import sentence
    from lem_pipeline.main_job import END_TAG, START_TAG
    from lem_pipeline.storage import Warehouse

    with dg.DagsterInstance.get() as instance:
        result = job(name).execute_in_process(
            instance=instance,
            tags=dict(zip((START_TAG, END_TAG), months, strict=True)),
            run_config={"ops": {op: {"config": given} for op, given in config.items()}, "loggers": {"progress": {}}},
            resources={"sources": clients(url), "warehouse": Warehouse(path=warehouse, patience_s=60)},
            raise_on_error=False,
        )
    if result.success:
        return None
    return next(
        (f"{event.step_key}: {sentence(event)}" for event in result.all_events if event.is_step_failure), "a check"
    )


def killed(name: str, url: str, warehouse: str, months: tuple[str, str], give_up_s: float = 60, **config: Any) -> bool:
    """Execute a job in a process of its own, and kill it while a transaction is on its way to the disk."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.soak_preloaded"])
    run = context.Process(target=launch, args=(name, url, warehouse, months), kwargs=config)
    run.start()
    log, deadline = Path(f"{warehouse}.wal"), time.monotonic() + give_up_s
    while run.is_alive() and time.monotonic() < deadline:
        if log.exists():
            os.kill(run.pid, signal.SIGKILL)
            break
        time.sleep(0.0005)
    run.join()
    return run.exitcode == -signal.SIGKILL


def _hold(file: str, seconds: float) -> None:
    import duckdb

    for _ in range(100):
        try:
            with duckdb.connect(file, read_only=True) as reader:
                reader.execute("select count(*) from bars.market_bars").fetchall()
                time.sleep(seconds)
            return
        except duckdb.IOException:
            time.sleep(0.02)


@contextmanager
def a_reader_of(file: str, seconds: float = 1.0) -> Iterator[None]:
    """Another program that opens a file within the block and keeps it for a while."""
    reader = get_context("forkserver").Process(target=_hold, args=(file, seconds))
    reader.start()
    try:
        yield
    finally:
        reader.join()


def megabytes(home: Path) -> dict[str, float]:
    """Sizes of the parts of a home."""
    sizes = {name: [f.stat().st_size for f in home.glob(pattern) if f.is_file()] for name, pattern in PARTS.items()}
    return {name: sum(each) / 1e6 for name, each in sizes.items()}


def files(folder: Path) -> int:
    """How many files lie in a folder, at any depth."""
    return sum(path.is_file() for path in folder.rglob("*"))


def contents(warehouse: "Warehouse") -> dict[str, pa.Table]:
    """Tables of bars and what follows from them, in an order of their own, without when something was seen."""
    from lem_pipeline.storage import tables_in

    with warehouse.connection() as connection:
        return {
            table: connection.sql(
                f"select columns(lambda c: c not in ('fetched_at', 'seen_at')) from {table} order by all"  # noqa: S608
            ).to_arrow_table()
            for table in tables_in(connection)
            if not table.startswith(GROWS)
        }
