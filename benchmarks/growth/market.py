"""Stages from a source to the panel, on bars that a simulated source gives, with holes and bars without trades.

Every symbol has the bars of the same simulated one: what they cost does not depend on that.
"""

from datetime import UTC, datetime, timedelta
from functools import partial
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pyarrow as pa

from benchmarks.growth.measure import Work
from lem_models.simulation import SimulatedSymbol, hours_of_week
from lem_pipeline.ingest import ingest, make_ready
from lem_pipeline.panel import read_panel
from lem_pipeline.sources.base import BarSource, raw_bars
from lem_pipeline.sql_assets import SqlFile, sql_files
from lem_pipeline.storage import Warehouse
from lem_pipeline.universe import CRYPTO_HOURLY, FIRST_MONTH, dow_members, nyse_sessions

START = datetime(2000, 1, 1, tzinfo=UTC)
FAULT_EVERY = 500  # bars

PARAMETERS: dict[str, Any] = {
    "asset_classes": ["crypto"],
    "lookback": 48,
    "horizon": 12,
    "live": [],
    "train": 0.7,
    "validation": 0.15,
    "dow_members_only": True,
    "unseen_symbols": [],
    "folds": 2,
    "crypto_source_bar_minutes": 60,
    "crypto_bar_minutes": 60,
    "typically_priced": [],
}


class Recorded(BarSource):
    """Answers every instrument with the same bars, at next to no cost."""

    bars: ClassVar[pa.Table]

    @property
    def provenance(self) -> str:
        """Says SIMULATED first."""
        return "SIMULATED bars, the same for all"

    def fetch(self, instrument: str, start: datetime, end: datetime) -> pa.Table:
        """All of them."""
        return self.bars.set_column(0, self.bars.schema.field(0), pa.array([instrument] * len(self.bars)))


def recorded(bars: int) -> pa.Table:
    """Hours of one symbol, some of them missing, some without trades."""
    starts = pd.date_range(START, periods=bars, freq="h")
    market = SimulatedSymbol("S", 7, 100.0, 0.01, 1e3, hours_of_week())
    columns = market.bars((starts.day_of_week * 24 + starts.hour).to_numpy().astype(np.int64))
    struck = np.random.default_rng(0).random(bars) < 1 / FAULT_EVERY
    silent = struck & (np.arange(bars) % 2 == 0)
    columns |= {name: np.where(silent, 0.0, columns[name]) for name in ("volume", "notional", "taker_buy_volume")}
    table = raw_bars({"bar_start": starts, **columns}, symbol="S", venue="simulated")
    return table.filter(pa.array(~struck | silent))


def warehouse_in(folder: Path) -> Warehouse:
    return Warehouse(path=str(folder / "warehouse.duckdb"))


def ingestion(folder: Path, symbols: int, bars: int) -> Work:
    """One answer per symbol, stored as every day: a transaction each."""
    warehouse = warehouse_in(folder)
    make_ready(warehouse)
    sessions = nyse_sessions(FIRST_MONTH, datetime(2026, 1, 1, tzinfo=UTC))
    for name, rows in {"nyse_sessions": sessions, "dow_members": dow_members()}.items():
        warehouse.write_table(f"raw.{name}", pa.Table.from_pandas(rows, preserve_index=False))
    Recorded.bars = recorded(bars)
    names = [f"C{number:05}/USDT" for number in range(symbols)]
    period = START, START + timedelta(hours=bars)
    return partial(ingest, Recorded(), CRYPTO_HOURLY, names, warehouse, "raw.crypto_bars", *period, log=lambda _: None)


def tables(folder: Path, schemas: tuple[str, ...], horizon: int = 12) -> Work:
    """The tables of some schemas, and the blocking checks on them, by the repository's own statements."""
    warehouse, parameters = warehouse_in(folder), PARAMETERS | {"horizon": horizon}
    files = {file.table: file for schema in schemas for file in sql_files(schema)}
    order = TopologicalSorter({table: file.upstreams for table, file in files.items()}).static_order()
    made = [files[table] for table in order if table in files]
    checks = [file for file in sql_files("checks") if file.table in files and _is_ready(file, schemas)]

    def run() -> None:
        for file in made:
            warehouse.create_table(file.table, file.text, file.bind(parameters))
        for file in checks:
            warehouse.read(file.text, file.bind(parameters))

    return run


def _is_ready(check: SqlFile, schemas: tuple[str, ...]) -> bool:
    """A check of bars may read what is made later."""
    later = {"results", "reports"} | ({"windows", "features"} - set(schemas) if "bars" in schemas else set())
    return not later & {table.split(".")[0] for table in check.upstreams}


def panel(folder: Path) -> Work:
    """What training and evaluation read."""
    return partial(read_panel, warehouse_in(folder), ["crypto"])
