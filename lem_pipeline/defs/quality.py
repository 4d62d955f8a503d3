"""The quality page, and the check that shows on the ledger's asset page what is missing."""

import dagster as dg
import pandas as pd

from lem_pipeline.defs.resources import bar_provenance
from lem_pipeline.failures import explained
from lem_pipeline.settings import settings
from lem_pipeline.sql_assets import FOLLOW, SQL, asset_key
from lem_pipeline.storage import Warehouse

MOST_ROWS = 200  # of a table on an asset page


@dg.asset_check(asset=["quality", "gap_ledger"], additional_deps=[asset_key("quality.completeness")])
def every_fault_is_explained(warehouse: Warehouse) -> dg.AssetCheckResult:
    """No fault in the ledger casts doubt on the data; a warning, as windows leave doubtful bars out."""
    from lem_pipeline.quality import as_image, headline, heat_map, incomplete_months

    with explained():
        faults, completeness = _faults_and_completeness(warehouse)
    unexplained = int(faults["unexplained"].sum())
    return dg.AssetCheckResult(
        passed=not unexplained,
        severity=dg.AssetCheckSeverity.WARN,
        description=headline(completeness),
        metadata={
            "unexplained_faults": unexplained,
            "faults_by_kind": _table(faults),
            "incomplete_months": _table(incomplete_months(completeness).head(MOST_ROWS)),
            "completeness": _shown(as_image(heat_map(completeness))),
        },
    )


@dg.asset(
    key=["reports", "data_quality"],
    group_name="reports",
    deps=[asset_key(f"quality.{table}") for table in ("gap_ledger", "completeness", "dow_coverage", "price_proxy")],
    kinds={"html"},
    automation_condition=FOLLOW,
)
def data_quality(warehouse: Warehouse) -> dg.MaterializeResult:
    """What is missing, doubtful or repaired, symbol by symbol and month by month: one self-contained HTML page."""
    from lem_pipeline.quality import as_image, headline, heat_map, quality_html

    chosen = settings()
    with explained():
        faults, completeness = _faults_and_completeness(warehouse)
        coverage = warehouse.read("from quality.dow_coverage order by year").to_pandas()
        proxy = warehouse.read("from quality.price_proxy order by all").to_pandas()
    sources = [f"{name}: {provenance}" for name, provenance in bar_provenance(chosen).items()]
    picture = as_image(heat_map(completeness))
    page = quality_html(completeness, picture, faults, coverage, proxy, sources, chosen.simulated)
    path = chosen.reports / "data_quality.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
    return dg.MaterializeResult(
        metadata={
            "headline": headline(completeness),
            "completeness": _shown(picture),
            "report": dg.MetadataValue.path(path.resolve()),
        }
    )


def _faults_and_completeness(warehouse: Warehouse) -> tuple[pd.DataFrame, pd.DataFrame]:
    faults = warehouse.read((SQL / "queries/faults_by_kind.sql").read_text()).to_pandas()
    return faults, warehouse.read("from quality.completeness order by all").to_pandas()


def _table(rows: pd.DataFrame) -> dg.TableMetadataValue:
    records = [dg.TableRecord(row) for row in rows.astype(str).to_dict("records")]
    return dg.MetadataValue.table(records, dg.TableSchema([dg.TableColumn(str(name)) for name in rows.columns]))


def _shown(picture: str) -> dg.MarkdownMetadataValue:
    return dg.MetadataValue.md(f"![completeness by symbol and month]({picture})")
