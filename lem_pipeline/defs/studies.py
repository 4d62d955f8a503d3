"""The finished results of other profiles beside those of this one."""

from collections.abc import Iterator

import dagster as dg

from lem_pipeline.failures import explained
from lem_pipeline.settings import settings, settings_of
from lem_pipeline.sql_assets import FOLLOW, asset_key, table_metadata
from lem_pipeline.storage import Warehouse

DESCRIPTIONS = {
    "studies": "One row per study, strategy and key minimum duration: headline orders of this profile and of others.",
    "price_effects": "One row per pair of studies that differ in the price alone, strategy and key minimum duration.",
}
COLUMNS = {
    "study": "Profile that the results are of",
    "status": "finished, or why there are no results",
    "bar": "Length of a bar of the market",
    "price_basis": "VWAP where most bars have one, else typical price",
    "mean_bps": "Side-averaged gain of fixed-quantity orders on VWAP; in price_effects the difference of two prices",
    "edge_bps": "What the model gains over the strategy, paired",
    "buy_bps": "Slippage of buyers; positive is a cost",
    "against": "Profile with the same bars at typical prices",
    "std_bps": "Standard deviation of a single order",
    "source": "Where the bars come from",
    "bar_minutes": "Length of a bar of the market, in minutes",
    "edge_low_bps": "Lower end of its 95 % interval",
    "edge_high_bps": "Upper end of it",
    "edge_detectable_bps": "The gain that a test at 5 % would find with a power of 80 %",
    "buy_std_bps": "Standard deviation of a single buy order's slippage",
    "sell_bps": "Slippage of sellers",
    "sell_std_bps": "Standard deviation of a single sell order's slippage",
    "std_against_bps": "Standard deviation of a single order at typical prices",
}


@dg.multi_asset(
    specs=[
        dg.AssetSpec(
            ["reports", table],
            deps=[
                asset_key("reports.improvements"),
                asset_key("reports.edges"),
                asset_key("reports.slippage_by_scenario"),
                asset_key("quality.price_proxy"),
            ],
            description=description,
            group_name="reports",
            kinds={"duckdb"},
            automation_condition=FOLLOW,
        )
        for table, description in DESCRIPTIONS.items()
    ],
    pool="duckdb",
)
def studies(context: dg.AssetExecutionContext, warehouse: Warehouse) -> Iterator[dg.MaterializeResult]:
    """Headline results of this profile and of the studies that its settings name."""
    from lem_pipeline.studies import FINISHED, Study, headline_rows, price_effects, reader_of

    chosen = settings()
    with explained():
        compared = [Study(chosen.profile, chosen, lambda *asked: warehouse.read(*asked).to_pandas())]
        for profile in (name for name in chosen.studies if name != chosen.profile):
            theirs = settings_of(profile)
            compared.append(Study(profile, theirs, reader_of(theirs)))
        for study in compared:
            if (status := study.status) != FINISHED:
                context.log.info(f"{study.name}: {status}")
        for name, rows in (("studies", headline_rows(compared)), ("price_effects", price_effects(compared))):
            written = warehouse.write_table(f"reports.{name}", rows)
            metadata = table_metadata(written.columns, written.rows, COLUMNS)
            yield dg.MaterializeResult(asset_key=["reports", name], metadata=metadata)
