"""Runs of the real backfill job in processes of their own, forked from one process that has everything imported."""

import contextlib
import multiprocessing
import os
import sys
from collections.abc import Callable
from functools import lru_cache
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from unittest.mock import patch

import dagster as dg
import pyarrow as pa

from lem_pipeline.main_job import END_TAG, START_TAG
from lem_pipeline.settings import settings
from lem_pipeline.sources.base import BarSource
from lem_pipeline.sources.ccxt import CcxtBars
from lem_pipeline.sources.simulated import SimulatedBars
from lem_pipeline.sources.yfinance import YFinanceBars
from lem_pipeline.storage import Warehouse, tables_in

PROFILE = """
home = "unused"

[models]
lem-crypto = ["crypto"]
lem-dow = ["dow"]

[crypto]
instruments = ["BTC/USDT", "ETH/USDT"]
start = "2024-01-01"
end = "2024-03-01"
bars = { source = "simulated", origin = "2024-01-01" }

[dow]
instruments = ["AAPL", "IBM"]
start = "2022-01-01"
end = "2024-03-01"
bars = { source = "simulated", origin = "2022-01-01" }
"""
FIRST, LAST = "2022-01-01", "2024-02-01"


def simulated() -> dict[str, BarSource]:
    """The sources of the profile above."""
    return {
        "crypto": SimulatedBars(asset_class="crypto", origin="2024-01-01"),
        "dow": SimulatedBars(asset_class="dow", origin="2022-01-01"),
    }


def replayed(url: str) -> dict[str, BarSource]:
    """The live sources, pointed at a replay."""
    return {"crypto": CcxtBars(api_url=url, backoff_s=0.001), "dow": YFinanceBars(api_url=url, backoff_s=0.001)}


@lru_cache(maxsize=1)
def job() -> dg.JobDefinition:
    """The backfill job of the profile above."""
    from lem_pipeline.definitions import defs

    return defs().resolve_job_def("backfill")


def run(
    warehouse: str,
    sources: Callable[[], dict[str, BarSource]],
    log: Path,
    months: tuple[str, str] = (FIRST, LAST),
    refetch: bool = False,
    home: Path | None = None,
) -> None:
    """Execute the job; what a person would see of it goes to a file, and a failure becomes the exit status."""
    with log.open("a", buffering=1) as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        config = {"config": {"refetch": refetch}}
        result = job().execute_in_process(
            instance=dg.DagsterInstance.from_config(str(home)) if home else None,
            tags=dict(zip((START_TAG, END_TAG), months, strict=True)),
            run_config={
                "loggers": {"progress": {}},
                "ops": {"raw__crypto_bars": config, "raw__dow_bars": config},
            },
            resources={"sources": sources(), "warehouse": Warehouse(path=warehouse)},
            raise_on_error=False,
        )
    os._exit(0 if result.success else 1)


def _run_in(profile: Path, *args: Any, **options: Any) -> None:
    """Execute the job; the process forked from may have been started by others, for a profile of theirs."""
    os.environ["LEM_PROFILE"] = str(profile)
    settings.cache_clear()
    run(*args, **options)


def started(folder: Path, *args: object, **options: object) -> BaseProcess:
    """A process of its own that executes the job; arguments are those of ``run``."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["preloaded"])
    profile = folder / "profile.toml"
    profile.write_text(PROFILE)
    process = context.Process(target=_run_in, args=(profile, *args), kwargs=options)
    # Read once, by the process that all others are forked from; Python 3.11 forgets to hand it the path.
    with patch.dict(os.environ, LEM_PROFILE=str(profile), PYTHONPATH=os.pathsep.join(sys.path)):
        process.start()
    return process


def contents(warehouse: Warehouse) -> dict[str, pa.Table]:
    """Every table, in an order of its own, without the columns that say when something was seen."""
    with warehouse.connection() as connection:
        return {
            table: connection.sql(
                f"select columns(lambda c: c not in ('fetched_at', 'seen_at')) from {table} order by all"
            ).to_arrow_table()
            for table in tables_in(connection)
        }
