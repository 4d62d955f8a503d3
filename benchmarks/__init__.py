"""Benchmarks: each prints one JSON object per line, a ratio against a baseline measured in the same run."""

import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # a thread that waits leaves its core to its neighbours


def seconds(work: Callable[[], object], repeats: int = 5) -> float:
    """Median time of one call, after one to warm up."""
    return seconds_in_turns([work], repeats)[0]


def seconds_in_turns(works: Sequence[Callable[[], object]], repeats: int = 5) -> list[float]:
    """Median time of one call of each, after one to warm up; in turns, so that noise hits all alike."""
    times: list[list[float]] = [[] for _ in works]
    for _ in range(1 + repeats):
        for work, taken in zip(works, times, strict=True):
            start = time.perf_counter()
            work()
            taken.append(time.perf_counter() - start)
    return [median(taken[1:]) for taken in times]


def report(name: str, ours: float, baseline: float, aim: float, **also: object) -> None:
    """Print a result; rates, so that larger is better. What else there is to say comes last in the line."""
    ratio = ours / baseline
    line = {"name": name, "ours": ours, "baseline": baseline, "ratio": round(ratio, 2), "aim": aim, "ok": ratio >= aim}
    print(json.dumps(line | also))


def resident_mb(field: str) -> float:
    """A field of this process's status, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024 / 1e6
