"""What a profile's home holds now: bars, models, decisions, runs."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import dagster as dg
import pandas as pd
from rich.console import Group, RenderableType
from rich.text import Text

from lem_pipeline.promotion import LOG
from lem_pipeline.report.rendering import screen_banner, screen_table
from lem_pipeline.settings import Settings
from lem_pipeline.sql_assets import SQL
from lem_pipeline.storage import Warehouse
from lem_pipeline.stores import tracking_of, warehouse_of
from lem_pipeline.tracking import CHALLENGER, CHAMPION

MEGABYTE = 1_000_000
BARS_SHOWN = ["asset_class", "bars", "symbols", "last_bar", "missing", "unexplained"]


@dataclass(frozen=True)
class Status:
    """A profile's home, ready to show.

    Attributes:
        profile: Its name, or the path of its file.
        home: Its folder.
        megabytes: What the folder takes on disk.
        simulated: Whether any price in it is simulated.
        bars: A row per asset class: asset_class, bars, symbols, first_bar, last_bar, missing, masked, unexplained.
        models: A row per model: model, champion, challenger (numbers, or None), registered_at of the challenger.
        decisions: The latest decision about each model: model, decided_at, action, decided_by, reason.
        runs: The latest five Dagster runs: run, job, status, started_at, seconds.
        schedules: Names of the schedules and sensors that are switched on.
        report: The report's page and when it was written, or None.
    """

    profile: str
    home: Path
    megabytes: int
    simulated: bool
    bars: pd.DataFrame
    models: pd.DataFrame
    decisions: pd.DataFrame
    runs: pd.DataFrame
    schedules: list[str]
    report: tuple[Path, datetime] | None


def status(chosen: Settings, instance: dg.DagsterInstance) -> Status:
    """Look at a home without changing it; what does not exist yet is empty."""
    warehouse = warehouse_of(chosen)
    page = chosen.comparison.resolve()
    return Status(
        profile=chosen.profile,
        home=chosen.home.resolve(),
        megabytes=sum(file.stat().st_size for file in chosen.home.rglob("*") if file.is_file()) // MEGABYTE,
        simulated=chosen.simulated,
        bars=_read(warehouse, "bars.market_bars", (SQL / "queries/bars_by_class.sql").read_text()),
        models=_models(chosen),
        decisions=_read(warehouse, LOG, (SQL / "queries/latest_decisions.sql").read_text()),
        runs=_runs(instance),
        schedules=[s.name for s in instance.all_instigator_state() if s.is_running],
        report=(page, datetime.fromtimestamp(page.stat().st_mtime).astimezone()) if page.is_file() else None,
    )


def _read(warehouse: Warehouse, table: str, query: str) -> pd.DataFrame:
    if not warehouse.exists or not warehouse.has_table(table):
        return pd.DataFrame()
    return warehouse.read(query).to_pandas()


def _models(chosen: Settings) -> pd.DataFrame:
    tracking = tracking_of(chosen)
    if not tracking.exists:
        return pd.DataFrame()
    registered = {model.name: model.aliases for model in tracking.client().search_registered_models()}
    rows = []
    for name in chosen.registered:
        aliases = registered.get(name, {})
        numbers = {alias: aliases.get(alias) for alias in (CHAMPION, CHALLENGER)}
        made = tracking.latest(name).creation_timestamp if numbers[CHALLENGER] else None
        rows.append({"model": name, **numbers, "registered_at": pd.to_datetime(made, unit="ms", utc=True)})
    return pd.DataFrame(rows)


def _runs(instance: dg.DagsterInstance) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "run": record.dagster_run.run_id[:8],
            "job": record.dagster_run.job_name,
            "status": record.dagster_run.status.value.lower(),
            "started_at": pd.to_datetime(record.start_time, unit="s", utc=True),
            "seconds": record.end_time - record.start_time if record.start_time and record.end_time else None,
        }
        for record in instance.get_run_records(limit=5)
    )


def on_screen(found: Status) -> RenderableType:
    """A status for a terminal."""
    seen = found.bars.reindex(columns=BARS_SHOWN) if len(found.bars) else found.bars
    tables = {"Bars": seen, "Models": found.models, "Decisions": found.decisions, "Latest runs": found.runs}
    page, written = found.report or (None, None)
    return Group(
        *screen_banner(found.simulated),
        *(screen_table(title, _readable(table)) for title, table in tables.items() if len(table)),
        Text(f"home        {found.home} ({found.megabytes:,} MB)"),
        Text(f"report      {page}, {written:%Y-%m-%d %H:%M}" if page else f"report      none; {_first_run(found)}"),
        Text(f"switched on {', '.join(found.schedules) or 'no schedule and no sensor'}"),
    )


def _first_run(found: Status) -> str:
    return f"lem run --profile {found.profile} makes one"


def _readable(table: pd.DataFrame) -> pd.DataFrame:
    def text(value: object) -> str:
        if isinstance(value, pd.Timestamp):
            return f"{value.tz_convert('UTC'):%Y-%m-%d %H:%M}"
        return f"{value:,.0f}" if isinstance(value, int | float) else str(value)

    missing = table.isna()
    return table.astype(object).map(text).mask(missing, "–").rename(columns=lambda name: str(name).replace("_", " "))
