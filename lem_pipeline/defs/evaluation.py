"""Every strategy on the same test orders, and the comparison report."""

from pathlib import Path

import dagster as dg
import pyarrow as pa

from lem_pipeline.defs.resources import bar_provenance
from lem_pipeline.defs.training import model_key
from lem_pipeline.failures import explained
from lem_pipeline.settings import Settings, settings
from lem_pipeline.sql_assets import FOLLOW, SQL, asset_key, table_metadata
from lem_pipeline.storage import Warehouse
from lem_pipeline.tracking import Tracking, code_version

RESULT_DESCRIPTIONS = {
    "model": "Registered model the orders belong to",
    "strategy": "LEM, or a baseline on the same orders",
    "slippage_bps": "Against the benchmark over the realised window; positive is a cost",
    "fixed_window_slippage_bps": "Against the benchmark over the whole horizon",
    "arrival_slippage_bps": "Against the last close before the order",
    "completion_bar": "Bar in which the order is done, counted from 1; at least the minimum duration",
    "filled_fraction": "1 unless the market did not trade",
    "volatility_bps": "Standard deviation of one bar's log return, known at the start",
}

UI_COLUMNS = {  # of the headline table, short enough for an asset page
    "model": "model",
    "minimum duration": "duration",
    "LEM, bps": "LEM, bps",
    "no-forecast stopping, bps": "stopping, bps",
    "LEM over stopping, paired, bps": "LEM over stopping, bps",
    "order windows": "windows",
}
UNBROKEN = str.maketrans(" -", "\N{NO-BREAK SPACE}\N{NON-BREAKING HYPHEN}")


@dg.asset(
    key=["results", "order_results"],
    group_name="results",
    deps=[model_key(name) for name in settings().models],
    kinds={"mlflow", "duckdb"},
    pool="duckdb",
)
def order_results(context: dg.AssetExecutionContext, warehouse: Warehouse, tracking: Tracking) -> dg.MaterializeResult:
    """What each test order cost under each strategy: all scenarios, all minimum durations, models as registered."""
    from lem_models.baselines import Strategy
    from lem_models.baselines.optimal_stopping import OptimalStopping
    from lem_models.baselines.twap import Twap
    from lem_models.baselines.volume_curve import VolumeCurve
    from lem_models.evaluation import evaluate
    from lem_models.orders import Limits
    from lem_pipeline.panel import read_panel
    from lem_pipeline.results import order_results as tables
    from lem_pipeline.serving import Registered

    chosen = settings().model
    limits = Limits(horizon=chosen.horizon, floor=chosen.floor, cap=chosen.cap)
    parts: list[pa.Table] = []
    with explained():
        for name, asset_classes in settings().models.items():
            data = read_panel(warehouse, asset_classes)
            rows = data.rows("test", every=chosen.horizon)
            context.log.info(f"{name}: {len(rows):,} test windows that do not overlap")
            baselines: list[Strategy] = [OptimalStopping(limits), Twap(limits), VolumeCurve(limits)]
            strategies: list[Strategy] = [Registered(tracking.load(name)), *baselines]
            parts += tables(name, data, evaluate(strategies, data.panel, rows, chosen.lookback, chosen.horizon))
        written = warehouse.write_table("results.order_results", pa.concat_tables(parts))
    return dg.MaterializeResult(metadata=table_metadata(written.columns, written.rows, RESULT_DESCRIPTIONS))


@dg.asset(
    key=["reports", "comparison"],
    group_name="reports",
    deps=[
        asset_key("reports.slippage_by_scenario"),
        asset_key("reports.side_averaged_improvement"),
        asset_key("quality.dow_coverage"),
    ],
    kinds={"html"},
    automation_condition=FOLLOW,
)
def comparison(context: dg.AssetExecutionContext, warehouse: Warehouse, tracking: Tracking) -> dg.MaterializeResult:
    """The comparison report: one self-contained HTML page; its headline is in this asset's metadata."""
    from lem_pipeline.report import comparison_html, headline_markdown, verdict
    from lem_pipeline.report_tables import headline_table

    chosen = settings()
    with explained():
        scenarios = warehouse.read("from reports.slippage_by_scenario order by all").to_pandas()
        improvements = warehouse.read("from reports.side_averaged_improvement order by all").to_pandas()
        completions = warehouse.read((SQL / "queries/completions.sql").read_text()).to_pandas()
    page = comparison_html(
        scenarios, improvements, completions, provenance(context, chosen, warehouse, tracking), chosen.simulated
    )
    path = chosen.reports / "comparison.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
    rows = headline_table(improvements, scenarios).to_dict("records")
    headline = [
        dg.TableRecord({ours: str(row[name]).translate(UNBROKEN) for name, ours in UI_COLUMNS.items()}) for row in rows
    ]
    return dg.MaterializeResult(
        metadata={
            "data": "SIMULATED, no market figures" if chosen.simulated else "real bars",
            "headline_table": dg.MetadataValue.table(headline),
            "headline_in_full": dg.MetadataValue.md(headline_markdown(improvements, scenarios, chosen.simulated)),
            "verdict": verdict(improvements),
            "report": dg.MetadataValue.path(Path(path).resolve()),
        }
    )


def provenance(
    context: dg.AssetExecutionContext, chosen: Settings, warehouse: Warehouse, tracking: Tracking
) -> list[tuple[str, str]]:
    """Where the report's figures come from."""
    rows = [(f"{name} bars", source) for name, source in bar_provenance(chosen).items()]
    rows.append(("Dow universe", dow_universe(chosen, warehouse)))
    client = tracking.client()
    for name in chosen.models:
        version = client.get_model_version_by_alias(name, "challenger")
        rows.append((f"{name} version", version.version))
        rows.append((f"{name} data snapshot", version.tags["data.snapshot"]))
        rows.append((f"{name} code", version.tags["code.version"]))
        rows.append((f"{name} MLflow run", version.run_id or "unknown"))
    rows += [("seed", str(chosen.training.seed)), ("report code", code_version()), ("Dagster run", context.run.run_id)]
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
