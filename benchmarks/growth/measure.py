"""Time, peak memory and disk of one piece of work, in a process of its own."""

import gc
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import duckdb

from benchmarks import resident_mb

Work = Callable[[], object]


@dataclass(frozen=True)
class Cost:
    """What a piece of work took.

    Attributes:
        time: Seconds of one core, of all threads together, so that neighbours do not count.
        memory: MB by which the process grew at its peak.
        disk: MB by which files grew.
    """

    time: float
    memory: float = 0.0
    disk: float = 0.0


def measured(prepare: Callable[..., Work], folder: Path, **given: Any) -> Cost:
    """Prepare a work in a process of its own, and measure it there; a folder's growth is its disk. It needs Linux."""
    context = get_context("forkserver")  # what is imported once need not be imported by each
    context.set_forkserver_preload(["benchmarks.growth.market", "benchmarks.growth.models"])
    with ProcessPoolExecutor(1, mp_context=context) as process:
        return process.submit(_measured, prepare, folder, given).result()


def _measured(prepare: Callable[..., Work], folder: Path, given: dict[str, Any]) -> Cost:
    work = prepare(folder, **given)
    before = _megabytes(folder)
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    resident, start = resident_mb("VmRSS"), time.process_time()
    work()
    taken = time.process_time() - start
    return Cost(taken, max(resident_mb("VmHWM") - resident, 0.0), max(_megabytes(folder) - before, 0.0))


def _megabytes(folder: Path) -> float:
    return sum(_bytes(file) for file in folder.rglob("*") if file.is_file()) / 1e6


def _bytes(file: Path) -> int:
    """Of a DuckDB file the blocks in use: it keeps those that a replaced table has left, and fills them later."""
    if file.suffix != ".duckdb":
        return file.stat().st_size
    with duckdb.connect(str(file)) as connection:
        size = connection.execute("select block_size * used_blocks from pragma_database_size()").fetchone()
    return int(size[0]) if size else 0
