"""From results per day to means with intervals, and the comparison report."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pyarrow as pa

from lem_pipeline.defs.resources import bar_provenance
from lem_pipeline.failures import explained
from lem_pipeline.settings import settings
from lem_pipeline.sql_assets import FOLLOW, SQL, asset_key, table_metadata
from lem_pipeline.storage import Warehouse
from lem_pipeline.tracking import Tracking

INTERVALS = {
    "improvements": "One row per model, strategy and kind of order: side-averaged improvement, with its interval.",
    "edges": "One row per model, baseline and kind of order: what the model gains over it, paired, with its interval.",
    "best_strategies": "One row per model, minimum duration and strategy: whether it may be the one that gains most.",
    "cost_curves": "One row per model, baseline, minimum duration and order size: the edge once impact is paid.",
    "net_improvements": "One row per model, strategy, minimum duration and order size: improvement less impact.",
}

INTERVAL_COLUMNS = {
    "baseline": "What the model is paired with on the same orders",
    "mean_bps": "Side-averaged mean over order windows; positive is good",
    "low_bps": "Lower end of its 95 % interval, from a bootstrap of runs of days; empty for too few days",
    "high_bps": "Upper end",
    "minimum_detectable_bps": "The mean that a test at 5 % would find with a power of 80 %",
    "mean_sigma": "The mean in volatilities of one bar",
    "size_percent": "Parent order in percent of a day's expected volume",
    "is_better": "Above zero after correction for all baselines and kinds of orders (StepM, 5 %)",
    "is_among_best": "Cannot be told from the best at 95 % (model confidence set); placebo and bound apart",
}


@dg.multi_asset(
    specs=[
        dg.AssetSpec(
            ["reports", table],
            deps=[asset_key("reports.daily_improvements")],
            description=description,
            group_name="reports",
            kinds={"duckdb"},
            automation_condition=FOLLOW,
        )
        for table, description in INTERVALS.items()
    ],
    pool="duckdb",
)
def intervals(context: dg.AssetExecutionContext, warehouse: Warehouse) -> Iterator[dg.MaterializeResult]:
    """Means over order windows with bootstrap intervals."""
    from lem_pipeline.edges import (
        best_strategies,
        cost_curves,
        edge_intervals,
        improvement_intervals,
        net_improvements,
    )

    with explained():
        daily = warehouse.read("from reports.daily_improvements").to_pandas()
        tables = {
            "improvements": improvement_intervals,
            "edges": edge_intervals,
            "best_strategies": best_strategies,
            "cost_curves": cost_curves,
            "net_improvements": net_improvements,
        }
        for table, intervals_of in tables.items():
            context.log.info(f"reports.{table}: intervals from {len(daily):,} daily means")
            rows = intervals_of(daily)
            written = warehouse.write_table(f"reports.{table}", pa.Table.from_pandas(rows, preserve_index=False))
            metadata = table_metadata(written.columns, written.rows, INTERVAL_COLUMNS)
            yield dg.MaterializeResult(asset_key=["reports", table], metadata=metadata)


@dg.asset(
    key=["reports", "comparison"],
    group_name="reports",
    deps=[
        asset_key("reports.slippage_by_scenario"),
        asset_key("reports.improvements"),
        asset_key("reports.edges"),
        asset_key("reports.best_strategies"),
        asset_key("reports.cost_curves"),
        asset_key("reports.capped_orders"),
        asset_key("reports.edges_by_group"),
        asset_key("reports.walk_forward"),
        asset_key("reports.studies"),
        asset_key("reports.price_effects"),
        asset_key("reports.net_improvements"),
        asset_key("reports.participation"),
        asset_key("results.mean_schedules"),
        asset_key("results.example_orders"),
        asset_key("quality.gap_ledger"),
        asset_key("quality.dow_coverage"),
    ],
    kinds={"html"},
    automation_condition=FOLLOW,
)
def comparison(context: dg.AssetExecutionContext, warehouse: Warehouse, tracking: Tracking) -> dg.MaterializeResult:
    """The comparison report: one self-contained HTML page; its headline is in this asset's metadata."""
    from lem_pipeline.provenance import origin
    from lem_pipeline.quality import as_image
    from lem_pipeline.report.learning import learning_curves
    from lem_pipeline.report.markdown import asset_page_tables, comparison_markdown, headline_markdown
    from lem_pipeline.report.model_card import model_card
    from lem_pipeline.report.page import Results, comparison_html, verdict
    from lem_pipeline.report.pictures import edges_picture
    from lem_pipeline.report.studies_tables import studies_section
    from lem_pipeline.report.tables import headline_edges

    chosen = settings()
    tables = {
        "scenarios": "from reports.slippage_by_scenario order by all",
        "improvements": "from reports.improvements order by all",
        "edges": "from reports.edges order by all",
        "best": "from reports.best_strategies order by all",
        "cost_curves": "from reports.cost_curves order by all",
        "groups": "from reports.edges_by_group order by all",
        "capped": "from reports.capped_orders order by all",
        "walk_forward": "from reports.walk_forward order by all",
        "net_improvements": "from reports.net_improvements order by all",
        "participation": "from reports.participation order by all",
        "schedules": "from results.mean_schedules order by all",
        "examples": "from results.example_orders order by all",
        "completions": (SQL / "queries/completions.sql").read_text(),
    }
    with explained():
        frames = {name: warehouse.read(query).to_pandas() for name, query in tables.items()}
        results = Results(learning=learning_curves(chosen, tracking), **frames)
        rests_on = origin(chosen, bar_provenance(chosen), warehouse, tracking, context.run.run_id)
    studies, effects = (warehouse.read(f"from reports.{name}").to_pandas() for name in ("studies", "price_effects"))
    section = studies_section(studies, effects)
    page = comparison_html(results, rests_on, chosen.simulated, section)
    shown = results.improvements, results.edges, results.scenarios
    path = chosen.comparison
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
    plain = comparison_markdown(results, rests_on.facts, chosen.simulated, section)
    path.with_suffix(".md").write_text(plain, encoding="utf-8")
    for name in chosen.models:
        version = tracking.latest(name)
        improvements, edges, scenarios = (frame[frame["model"] == name] for frame in shown)
        table = headline_markdown(improvements, edges, scenarios, simulated=False)
        card = model_card(name, str(version.version), version.tags, table)
        tracking.describe(name, str(version.version), card)
    return dg.MaterializeResult(
        metadata={
            "data": "SIMULATED, no market figures" if chosen.simulated else "real bars",
            "verdict": verdict(*shown, results.cost_curves),
            **{name: dg.MetadataValue.md(table) for name, table in asset_page_tables(*shown).items()},
            **{f"{name} over stopping, bps": edge for name, edge in headline_edges(results.edges).items()},
            "edges": dg.MetadataValue.md(f"![gain over each baseline]({as_image(edges_picture(results.edges))})"),
            "headline_in_full": dg.MetadataValue.md(headline_markdown(*shown, chosen.simulated)),
            "report": dg.MetadataValue.path(Path(path).resolve()),
        }
    )
