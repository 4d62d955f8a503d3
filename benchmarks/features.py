"""Features of a million bars in SQL, against the same in pandas and in polars: bars per second, and bars per MB.

The market is simulated: 20 crypto symbols of 45,000 hours, 30 Dow symbols of 3,350 days, with gaps, splits and bars
without trades. Each contestant starts from bars in memory in its own format (a DuckDB table, a pandas frame, a polars
frame) and ends with the features in that format. All of them agree to nine digits on a smaller market before any is
timed.

Memory is measured in a process for each contestant alone: the peak while the features are made, less what the process
held with its bars loaded. It is printed as bars per MB, so that here too larger is better. It needs Linux.
"""

import gc
import tempfile
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType

import pandas as pd
from pandas.testing import assert_frame_equal

from benchmarks import report, resident_mb, seconds_in_turns
from benchmarks.bar_features.market import write_market

HORIZON = 12
SPEED_AIMS = {"pandas": 2, "polars": 1}
MEMORY_AIM = 1
KEYS = ["asset_class", "symbol", "bar_number"]


def contestant(name: str) -> ModuleType:
    return import_module(f"benchmarks.bar_features.in_{name}")


def features_by(name: str, path: Path, horizon: int = HORIZON) -> pd.DataFrame:
    """Features of the bars in a file, in the order of their keys."""
    library = contestant(name)
    frame = library.to_pandas(library.features(library.load(path), horizon))
    return frame.astype({"asset_class": str, "symbol": str}).sort_values(KEYS, ignore_index=True)


def assert_all_agree(path: Path, horizon: int = HORIZON) -> None:
    """Raise an AssertionError where pandas or polars differs from SQL in any column of any row."""
    ours = features_by("sql", path, horizon)
    for name in SPEED_AIMS:
        theirs = features_by(name, path, horizon)
        # What is zero but for rounding may come out as 0 here and as 1e-16 there.
        assert_frame_equal(theirs, ours, check_like=True, check_dtype=False, rtol=1e-9, atol=1e-12)


def peak_mb(name: str, path: Path) -> float:
    """Memory that making the features takes at its peak, beyond what this process holds with its bars loaded."""
    library = contestant(name)
    bars = library.load(path)
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = resident_mb("VmRSS")
    library.features(bars, HORIZON)
    return resident_mb("VmHWM") - before


def peak_of_own_process(name: str, path: Path) -> float:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(peak_mb, name, path).result()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        small, large = Path(folder) / "small.parquet", Path(folder) / "large.parquet"
        write_market(small, symbols=(4, 4), bars=(6_000, 1_000), break_every=200)
        assert_all_agree(small)
        write_market(large, symbols=(20, 30), bars=(45_000, 3_350), break_every=2_000)
        bars = len(pd.read_parquet(large, columns=["symbol"]))

        names = ["sql", *SPEED_AIMS]
        loaded = {name: contestant(name).load(large) for name in names}
        times = seconds_in_turns([lambda n=name: contestant(n).features(loaded[n], HORIZON) for name in names])
        speed = {name: round(bars / time) for name, time in zip(names, times, strict=True)}
        for name, aim in SPEED_AIMS.items():
            report(f"features: bars per second, SQL over {name}", speed["sql"], speed[name], aim)

        density = {name: round(bars / peak_of_own_process(name, large)) for name in names}
        for name in SPEED_AIMS:
            report(f"features: bars per MB of memory, SQL over {name}", density["sql"], density[name], MEMORY_AIM)


if __name__ == "__main__":
    main()
