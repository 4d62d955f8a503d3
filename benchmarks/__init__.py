"""Benchmarks: each prints one JSON object per line, a ratio against a baseline measured in the same run."""

import json
import time
from collections.abc import Callable
from statistics import median


def seconds(work: Callable[[], object], repeats: int = 5) -> float:
    """Median time of one call, after one to warm up."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return median(times)


def report(name: str, ours: float, baseline: float, aim: float) -> None:
    """Print a result; rates, so that larger is better."""
    ratio = ours / baseline
    line = {"name": name, "ours": ours, "baseline": baseline, "ratio": round(ratio, 2), "aim": aim, "ok": ratio >= aim}
    print(json.dumps(line))
