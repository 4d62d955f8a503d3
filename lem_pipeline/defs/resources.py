"""The resources that the settings choose."""

from datetime import timedelta
from pathlib import Path

import dagster as dg
from pydantic import SecretStr

from lem_pipeline.errors import ConfigurationError
from lem_pipeline.settings import Settings, settings
from lem_pipeline.settings.markets import TIMEFRAMES, MarketSettings
from lem_pipeline.settings.sources import ArchiveSource, CcxtSource, SimulatedSource, Source, YFinanceSource
from lem_pipeline.sources.archive import ArchiveBars
from lem_pipeline.sources.base import BarSource
from lem_pipeline.sources.ccxt import CcxtBars
from lem_pipeline.sources.simulated import SimulatedBars
from lem_pipeline.sources.yfinance import YFinanceBars
from lem_pipeline.stores import tracking_of, warehouse_of


def bar_source(asset_class: str, chosen: Source, archive: Path = Path(), timeframe: str = "1h") -> BarSource:
    """The source of an asset class.

    Args:
        asset_class: The family of instruments.
        chosen: What the settings say about it.
        archive: The folder that a relative path of an archive starts from.
        timeframe: Length of a bar, by its name in ccxt.

    Raises:
        ConfigurationError: The venue does not trade this asset class.
    """
    match asset_class, chosen:
        case _, SimulatedSource():
            return SimulatedBars(asset_class=asset_class, seed=chosen.seed, origin=chosen.origin)
        case _, ArchiveSource():
            return ArchiveBars(path=str(archive / chosen.path), price_basis=chosen.price_basis)
        case "crypto", CcxtSource():
            return CcxtBars(venues=chosen.venues, bar_size=timeframe, api_url=_revealed(chosen.api_url))
        case "dow", YFinanceSource():
            return YFinanceBars(api_url=_revealed(chosen.api_url))
        case _:
            raise ConfigurationError(f"source {chosen.source} has no {asset_class} bars; choose another source for it")


def _revealed(address: SecretStr | None) -> str | None:
    return address.get_secret_value() if address else None


def bar_sources(chosen: Settings) -> dict[str, BarSource]:
    """The source of each asset class that the settings have bars of."""

    def source(name: str, market: MarketSettings) -> BarSource:
        timeframe = TIMEFRAMES.get(chosen.source_bar(name) // timedelta(minutes=1), "1h")
        return bar_source(name, market.bars, chosen.archive, timeframe)

    return {name: source(name, market) for name, market in chosen.markets.items()}


def bar_provenance(chosen: Settings) -> dict[str, str]:
    """Where the bars of each asset class come from, for a reader of a report."""
    return {name: source.provenance for name, source in bar_sources(chosen).items()}


@dg.definitions
def resources() -> dg.Definitions:
    """Sources, warehouse and tracking, as the profile says."""
    chosen = settings()
    return dg.Definitions(
        resources={
            "sources": bar_sources(chosen),
            "warehouse": warehouse_of(chosen),
            "tracking": tracking_of(chosen),
        }
    )
