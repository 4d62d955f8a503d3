"""What the fits say of markets and desks that were not measured. Everything here is arithmetic; nothing ran."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.growth.fit import Fit

Fits = Mapping[tuple[str, str, str], Fit]  # by stage, dimension and resource

SYMBOLS, YEARS = 5_000, 10
BARS = {"crypto": SYMBOLS * YEARS * 525_600, "equities": SYMBOLS * YEARS * 252 * 390}
SESSIONS = 10_000
MARKET_STAGES = ("ingestion", "staging and quality", "features", "windows", "panel")
WORKER_MB, WORKERS = 64_000, 64  # assumed: one core and 64 GB each
HORIZON = 12
TESTED = 0.15  # of the windows
EPOCHS, GPU_OVER_CORE = 10, 50  # assumed: passes over windows that do not overlap, and what a GPU is faster than a core


@dataclass(frozen=True)
class Line:
    """One stage of a projection.

    Attributes:
        stage: Its name.
        core_hours: Of all shards together.
        memory_gb: At the peak of one worker.
        disk_tb: Of all shards together.
        plan: How it is cut.
    """

    stage: str
    core_hours: float
    memory_gb: float
    disk_tb: float
    plan: str


def shards_of(bars: int, fits: Fits) -> int:
    """The least power of two of shards whose greediest stage fits a worker."""
    shards = 1
    while shards < SYMBOLS and _greediest(bars / shards, fits) > WORKER_MB:
        shards *= 2
    return shards


def _greediest(bars: float, fits: Fits) -> float:
    stages = [fits[stage, "bars", "memory"].at(bars) for stage in MARKET_STAGES]
    return max(*stages, fits["evaluation", "bars", "memory"].at(TESTED * bars / HORIZON))


def history(bars: int, fits: Fits) -> list[Line]:
    """So many bars, in shards of symbols: each costs what the fit says of its size."""
    shards = shards_of(bars, fits)
    each = bars / shards
    cut = f"{shards} shards of {math.ceil(SYMBOLS / shards)} symbols"
    lines = [
        Line(
            stage,
            shards * fits[stage, "bars", "time"].at(each) / 3600,
            fits[stage, "bars", "memory"].at(each) / 1e3,
            shards * fits[stage, "bars", "disk"].at(each) / 1e6,
            f"{cut}, {shards * YEARS * 12:,} partitions by month" if stage == "ingestion" else cut,
        )
        for stage in MARKET_STAGES
    ]
    windows = bars / HORIZON
    train = EPOCHS * fits["training", "windows", "time"].at(windows) / 3600
    lines.append(
        Line(
            "training",
            train,
            lines[-1].memory_gb,
            0.0,
            f"{train / GPU_OVER_CORE:,.0f} GPU hours, one shard's panel each",
        )
    )
    tested = TESTED * windows / shards
    evaluate = [shards * fits["evaluation", "bars", kind].at(tested) for kind in ("time", "disk")]
    memory = fits["evaluation", "bars", "memory"].at(tested) / 1e3
    lines.append(Line("evaluation", evaluate[0] / 3600, memory, evaluate[1] / 1e6, f"{cut}, 15 % of the windows"))
    days = YEARS * 365
    boot = [fits["bootstrap", "bars", kind].at(days) for kind in ("time", "memory")]
    return [*lines, Line("bootstrap", boot[0] / 3600, boot[1] / 1e3, 0.0, "one process: days, not bars")]


def desk(sessions: int, decisions: int, fits: Fits) -> dict[str, float]:
    """So many orders under way: seconds of one core a decision of all, cores to answer within a second, and memory."""
    a_round = fits["sessions", "sessions", "time"].at(sessions) / decisions
    return {
        "core_seconds_a_round": a_round,
        "cores_for_a_round_a_second": math.ceil(a_round),
        "memory_gb": fits["sessions", "sessions", "memory"].at(sessions) / 1e3,
    }
