"""The resources that the settings choose."""

import dagster as dg

from lem_pipeline.errors import ConfigurationError
from lem_pipeline.settings import (
    ArchiveSource,
    CcxtSource,
    Settings,
    SimulatedSource,
    Source,
    YFinanceSource,
    settings,
)
from lem_pipeline.sources.archive import ArchiveBars
from lem_pipeline.sources.base import BarSource
from lem_pipeline.sources.ccxt import CcxtBars
from lem_pipeline.sources.simulated import SimulatedBars
from lem_pipeline.sources.yfinance import YFinanceBars
from lem_pipeline.storage import Warehouse
from lem_pipeline.tracking import Tracking
from lem_pipeline.universe import ASSET_CLASSES


def bar_source(asset_class: str, chosen: Source) -> BarSource:
    """The source of an asset class.

    Raises:
        ConfigurationError: The venue does not trade this asset class.
    """
    match asset_class, chosen:
        case _, SimulatedSource():
            return SimulatedBars(asset_class=asset_class, seed=chosen.seed, origin=chosen.origin)
        case _, ArchiveSource():
            return ArchiveBars(path=chosen.path, price_basis=chosen.price_basis)
        case "crypto", CcxtSource():
            return CcxtBars(venues=chosen.venues, api_url=chosen.api_url)
        case "dow", YFinanceSource():
            return YFinanceBars(api_url=chosen.api_url)
        case _:
            raise ConfigurationError(f"source {chosen.source} has no {asset_class} bars; choose another source for it")


def bar_provenance(chosen: Settings) -> dict[str, str]:
    """Where the bars of each asset class come from, for a reader of a report."""
    return {name: bar_source(name, chosen.market(name).bars).provenance for name in ASSET_CLASSES}


@dg.definitions
def resources() -> dg.Definitions:
    """Sources, warehouse and tracking, as the profile says."""
    chosen = settings()
    return dg.Definitions(
        resources={
            "sources": {name: bar_source(name, chosen.market(name).bars) for name in ("crypto", "dow")},
            "warehouse": Warehouse(path=str(chosen.warehouse), patience_s=chosen.patience_s),
            "tracking": Tracking(home=str(chosen.home)),
        }
    )
