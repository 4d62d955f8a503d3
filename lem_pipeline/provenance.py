"""What a report rests on: bars, universe, models, code, seeds."""

from collections.abc import Mapping

from lem_pipeline.holdout import looks
from lem_pipeline.settings import Settings
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
    for name in (*chosen.models, *chosen.rivals):
        version = tracking.latest(name)
        rows.append((f"{name} version", version.version))
        rows.append((f"{name} data snapshot", version.tags["data.snapshot"]))
        rows.append((f"{name} code", version.tags["code.version"]))
        rows.append((f"{name} MLflow run", version.run_id or "unknown"))
        rows.append((f"{name} configurations tried", f"{tracking.configurations_tried(name)} in this store"))
    for name in chosen.models:
        latest, total = looks(warehouse, name, "results.order_results")
        rows.append((f"{name} looks at the hold-out", f"{latest} with these versions, {total} with all versions"))
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
