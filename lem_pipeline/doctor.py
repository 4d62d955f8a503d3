"""What may keep a profile from working on this computer, and how to mend each."""

import os
import platform
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path
from typing import Literal

import dagster as dg
from filelock import FileLock, Timeout
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from lem_pipeline.errors import LemError, VenueRefusedError, VenueUnreachableError
from lem_pipeline.fetched import FETCHED
from lem_pipeline.settings import Settings
from lem_pipeline.sources.base import RAW_BARS, BarSource
from lem_pipeline.storage import Warehouse
from lem_pipeline.stores import tracking_of, warehouse_of

PACKAGE = "lem-pipeline"
GIGABYTE = 10**9
ROOM_NEEDED, ROOM_WANTED = 1, 5  # gigabytes: a demo's home, and one of years of bars with a few models
A_WEEK = timedelta(days=7)
A_DAY = timedelta(days=1)

State = Literal["ok", "doubt", "wrong"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: Its name.
        state: A doubt keeps nothing from working; what is wrong does.
        found: What it is like.
        mend: What to do about it; empty where nothing is to be done, or the finding says so itself.
    """

    what: str
    state: State
    found: str
    mend: str = ""


def examine(chosen: Settings, sources: Mapping[str, BarSource], offline: bool = False) -> Iterator[Finding]:
    """Look at everything a run rests on, cheapest first; nothing is changed.

    Args:
        chosen: The profile.
        sources: Where its bars come from.
        offline: Ask no venue.
    """
    yield python()
    yield packages()
    yield room(chosen.home)
    yield processors()
    yield warehouse_lock(chosen)
    yield warehouse_schema(chosen)
    yield registry(chosen)
    yield dagster_state()
    for name, source in sources.items():
        if not (offline and chosen.market(name).bars.source in ("ccxt", "yfinance")):
            yield bars(name, source, chosen.market(name).instruments)


def python() -> Finding:
    """The interpreter against what the package asks for."""
    asked = SpecifierSet(metadata(PACKAGE)["Requires-Python"])
    found = f"Python {platform.python_version()}"
    if platform.python_version() in asked:
        return Finding("Python", "ok", found)
    return Finding(
        "Python", "wrong", f"{found}, and it has to be {asked}", "make clean, then make demo PYTHON=python3.12"
    )


def packages() -> Finding:
    """Installed packages against the ranges of the project."""
    asked = [Requirement(line) for line in requires(PACKAGE) or []]
    asked = [each for each in asked if not each.marker or each.marker.evaluate({"extra": ""})]
    off = [problem for each in asked if (problem := _off(each))]
    if not off:
        return Finding("packages", "ok", f"all {len(asked)} within their ranges")
    return Finding("packages", "wrong", "; ".join(off), ".venv/bin/python -m pip install --editable '.[dev]'")


def _off(asked: Requirement) -> str:
    try:
        found = version(asked.name)
    except PackageNotFoundError:
        return f"{asked.name} is not installed"
    return "" if found in asked.specifier else f"{asked.name} is {found} and has to be {asked.specifier}"


def room(home: Path) -> Finding:
    """Whether the home can be written, and how much fits into it."""
    place = next(folder for folder in (home.resolve(), *home.resolve().parents) if folder.exists())
    if not os.access(place, os.W_OK):
        return Finding("disk", "wrong", f"{place} cannot be written", "set LEM_HOME to a folder of your own")
    free = shutil.disk_usage(place).free / GIGABYTE
    state: State = "ok" if free >= ROOM_WANTED else "doubt" if free >= ROOM_NEEDED else "wrong"
    mend = "" if state == "ok" else f"make room, or set LEM_HOME to a larger disk; years of bars take {ROOM_WANTED} GB"
    return Finding("disk", state, f"{free:.1f} GB free for {home}", mend)


def processors() -> Finding:
    """What trains: a GPU where torch sees one, else the cores."""
    import torch

    if torch.cuda.is_available():
        return Finding("processors", "ok", f"GPU {torch.cuda.get_device_name()}; trainings run on it")
    cores = f"{os.cpu_count()} cores, no GPU that torch {torch.__version__} can use; trainings run on the cores"
    if shutil.which("nvidia-smi"):
        mend = "install the torch build for this driver's CUDA version"
        return Finding("processors", "doubt", f"{cores}, though there is an NVIDIA driver", mend)
    return Finding("processors", "ok", cores)


def warehouse_lock(chosen: Settings) -> Finding:
    """Whether somebody keeps the warehouse busy, or the lake cannot be reached."""
    if chosen.lake:
        return _lake(warehouse_of(chosen, patience_s=1))
    path = chosen.warehouse
    if not path.is_file():
        return Finding("warehouse", "ok", f"none yet at {path}; lem run --profile {chosen.profile} makes it")
    try:
        with FileLock(f"{path}.lock", timeout=0):
            pass
    except Timeout:
        mend = "wait for the run, or cancel it in the Dagster UI"
        return Finding("warehouse", "doubt", f"a run is writing {path}", mend)
    try:
        tables = Warehouse(path=str(path), patience_s=1).tables()
    except LemError as error:
        mend = "close the program that has it open, or restore the file from a backup (docs/operations.md)"
        return Finding("warehouse", "wrong", str(error), mend)
    return Finding("warehouse", "ok", f"{path}, {len(tables)} tables, nobody has it open")


def _lake(lake: Warehouse) -> Finding:
    try:
        return Finding("warehouse", "ok", f"{lake.place}, {len(lake.tables())} tables")
    except LemError as error:
        mend = "see whether its PostgreSQL and its object store run, and whether the keys are theirs (docs/scale.md)"
        return Finding("warehouse", "wrong", str(error), mend)


def warehouse_schema(chosen: Settings) -> Finding:
    """Whether raw bars have the columns of today's code."""
    what = "tables of bars"
    warehouse = warehouse_of(chosen, patience_s=1)
    if not warehouse.exists:
        return Finding(what, "ok", "none yet")
    try:
        if not warehouse.has_table(FETCHED):
            return Finding(what, "ok", "none yet")
        tables = [f"raw.{name}_bars" for name in chosen.markets if warehouse.has_table(f"raw.{name}_bars")]
        lacking = {t: set(RAW_BARS.names) - set(warehouse.read(f"from {t} limit 0").column_names) for t in tables}
    except LemError as error:
        return Finding(what, "doubt", f"not looked at: {error}", "see the line above")
    if not any(lacking.values()):
        return Finding(what, "ok", f"{' and '.join(tables)} have the {len(RAW_BARS)} columns of this version")
    said = "; ".join(f"{table} lacks {', '.join(sorted(names))}" for table, names in lacking.items() if names)
    return Finding(what, "wrong", said, "run the version that made it, or ingest into a new home (docs/operations.md)")


def registry(chosen: Settings) -> Finding:
    """Whether today's MLflow reads the store."""
    tracking = tracking_of(chosen)
    if not tracking.exists:
        return Finding("MLflow store", "ok", "none yet")
    try:
        models = tracking.client().search_registered_models()
    except Exception as error:  # whatever its database stumbles over
        said = str(error).strip().splitlines()[0]
        return Finding("MLflow store", "wrong", said, f"back it up, then .venv/bin/mlflow db upgrade {tracking.place}")
    return Finding("MLflow store", "ok", f"{len(models)} registered models, schema of MLflow {version('mlflow')}")


def dagster_state() -> Finding:
    """Whether today's Dagster reads its own state, and whether a run died without saying so."""
    what = "Dagster's state"
    try:
        with dg.DagsterInstance.get() as instance:
            under_way = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])
            runs = instance.get_run_records(under_way)
    except Exception as error:  # whatever its database stumbles over
        said = str(error).strip().splitlines()[0]
        return Finding(what, "wrong", said, "back it up, then .venv/bin/dagster instance migrate")
    old = [run for run in runs if datetime.now(UTC).timestamp() - (run.start_time or 0) > A_DAY.total_seconds()]
    if old:
        names = ", ".join(run.dagster_run.run_id[:8] for run in old)
        mend = "if its process is gone, terminate it in the Dagster UI; the next run goes on where it stopped"
        return Finding(what, "doubt", f"under way for more than a day: run {names}", mend)
    return Finding(what, "ok", f"schema of Dagster {version('dagster')}, {len(runs)} runs under way")


def bars(asset_class: str, source: BarSource, instruments: list[str]) -> Finding:
    """Whether a source answers: its list of instruments, and the bars of one of them."""
    what = f"{asset_class} bars"
    now = datetime.now(UTC)
    looks: list[Callable[[], object]] = [
        lambda: source.check(instruments),
        lambda: source.fetch(instruments[0], now - A_WEEK, now),
    ]
    try:
        for look in looks:
            look()
    except (VenueUnreachableError, VenueRefusedError) as error:
        return Finding(what, "wrong", str(error), "until then, lem replay answers in the venue's place")
    except LemError as error:
        return Finding(what, "wrong", str(error))
    return Finding(what, "ok", f"{source.provenance}; {len(instruments)} instruments")
