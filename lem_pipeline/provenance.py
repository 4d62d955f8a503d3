"""What a report rests on: bars, universe, models, code, seeds."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version

import pandas as pd

from lem_pipeline.holdout import looks
from lem_pipeline.settings import Settings
from lem_pipeline.sql_assets import SQL
from lem_pipeline.storage import Warehouse
from lem_pipeline.tracking import Tracking, code_version


def provenance(
    chosen: Settings, sources: Mapping[str, str], warehouse: Warehouse, tracking: Tracking, run: str
) -> list[tuple[str, str]]:
    """Where the figures of a report come from, name and value.

    Args:
        chosen: What the run was asked for.
        sources: Where the bars of each asset class come from.
        warehouse: Says what the bars are like.
        tracking: Says which models were compared.
        run: Dagster's name of the run.
    """
    rows = [(f"{name} bars", source) for name, source in sources.items()]
    if chosen.dow:
        rows.append(("Dow universe", dow_universe(chosen, warehouse)))
    for name in chosen.registered:
        version = tracking.latest(name)
        rows.append((f"{name} version", version.version))
        rows.append((f"{name} data snapshot", version.tags["data.snapshot"]))
        rows.append((f"{name} code", version.tags["code.version"]))
        rows.append((f"{name} MLflow run", version.run_id or "unknown"))
        rows.append((f"{name} configurations tried", f"{tracking.configurations_tried(name)} in this store"))
    for name in chosen.models:
        latest, total = looks(warehouse, name)
        rows.append((f"{name} looks at the hold-out", f"{latest} with this version, {total} with all versions"))
    rows += [("seed", str(chosen.training.seed)), ("report code", code_version()), ("Dagster run", run)]
    return rows


def dow_universe(chosen: Settings, warehouse: Warehouse) -> str:
    """The survivorship choice, and how much of the index has bars."""
    if not chosen.dow_members_only:
        return "every instrument of the settings at any time: names that joined the index later are traded before"
    coverage = warehouse.read("select sum(with_bars) / sum(member_sessions) as share from quality.dow_coverage")
    share = coverage["share"][0].as_py()
    return (
        "orders begin only while their name is a member of the index; "
        f"{share or 0:.1%} of all members and sessions have bars, data_quality.html lists the companies without"
    )


LIBRARIES = ("torch", "lightning", "arch", "duckdb", "mlflow", "dagster", "numpy", "pandas")


@dataclass(frozen=True)
class Origin:
    """Everything a report rests on, ready to read.

    Attributes:
        facts: Models, data snapshots, code, seeds and runs, name and value.
        bars: A row per asset class: how many bars, of whom, since when, and what the gap ledger says of them.
        windows: A row per asset class and split.
        configurations: Of each model, all that fixes it and its training, name and value.
        libraries: Versions of what computes.
    """

    facts: list[tuple[str, str]]
    bars: pd.DataFrame
    windows: pd.DataFrame
    configurations: dict[str, list[tuple[str, str]]]
    libraries: list[tuple[str, str]]


def origin(chosen: Settings, sources: Mapping[str, str], warehouse: Warehouse, tracking: Tracking, run: str) -> Origin:
    """What :func:`provenance` says, and more of the bars, the configurations and the libraries."""
    return Origin(
        facts=provenance(chosen, sources, warehouse, tracking, run),
        bars=bars_table(warehouse),
        windows=windows_table(warehouse),
        configurations={name: configuration(tracking, name) for name in chosen.registered},
        libraries=[("Python", platform.python_version()), *((name, version(name)) for name in LIBRARIES)],
    )


def bars_table(warehouse: Warehouse) -> pd.DataFrame:
    """The bars behind a report, a row per asset class."""
    rows = warehouse.read((SQL / "queries/bars_by_class.sql").read_text()).to_pandas()
    return pd.DataFrame(
        {
            "asset class": rows["asset_class"],
            "bars": rows["bars"].map("{:,}".format),
            "symbols": rows["symbols"],
            "first bar": _day(rows["first_bar"]),
            "last bar": _day(rows["last_bar"]),
            **{name: rows[name].map("{:,}".format) for name in ("missing", "masked", "unexplained")},
            "priced by the proxy": rows["proxy_share"].map("{:.2%}".format),
        }
    )


def windows_table(warehouse: Warehouse) -> pd.DataFrame:
    """The order windows of each split: when they begin, which is when each order is decided."""
    rows = warehouse.read((SQL / "queries/windows_by_split.sql").read_text()).to_pandas()
    return pd.DataFrame(
        {
            "asset class": rows["asset_class"],
            "split": rows["split"],
            "order windows": rows["order_windows"].map("{:,}".format),
            "symbols": rows["symbols"],
            "first start": _day(rows["first_start"]),
            "last start": _day(rows["last_start"]),
        }
    )


def _day(moments: pd.Series) -> pd.Series:
    return moments.dt.tz_convert("UTC").dt.strftime("%Y-%m-%d")


def configuration(tracking: Tracking, name: str) -> list[tuple[str, str]]:
    """All that fixes a model and its training, as its MLflow run tells."""
    run = tracking.latest(name).run_id or ""
    return sorted(tracking.client().get_run(run).data.params.items())
