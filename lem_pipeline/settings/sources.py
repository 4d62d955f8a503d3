"""Where bars come from."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr

from lem_pipeline.settings.strict import Strict
from lem_pipeline.sources.mirror import Mirror


def _of_a_mirror(address: SecretStr) -> SecretStr:
    Mirror.at(address.get_secret_value())
    return address


MirrorAddress = Annotated[SecretStr, AfterValidator(_of_a_mirror)]  # it may hold a log-in


class SimulatedSource(Strict):
    """Bars of the seeded simulated market.

    Attributes:
        source: Bars drawn by a random generator; every figure made of them says so.
        seed: Another seed, another market.
        origin: Day of the first bar.
    """

    source: Literal["simulated"]
    seed: int = 7
    origin: str = "2024-01-01"


class ArchiveSource(Strict):
    """Bars of a user's parquet or CSV files.

    Attributes:
        source: Bars of files.
        path: A file, or a folder of them; below the folder ``archive`` of the settings, unless it is absolute.
        price_basis: ``split_adjusted`` where later splits have rescaled the prices.
    """

    source: Literal["archive"]
    path: str
    price_basis: Literal["as_traded", "split_adjusted"] = "as_traded"


class CcxtSource(Strict):
    """Bars of the first crypto exchange that serves this country.

    Attributes:
        source: Bars of an exchange that ccxt knows.
        venues: Exchanges by their names in ccxt, in order of preference.
        api_url: A mirror of the exchanges' public API, such as ``make replay``.
    """

    source: Literal["ccxt"]
    venues: list[str] = Field(default=["binance"], min_length=1)
    api_url: MirrorAddress | None = None


class YFinanceSource(Strict):
    """Daily bars of Yahoo Finance.

    Attributes:
        source: Daily bars of US shares.
        api_url: A mirror of Yahoo's chart API, such as ``make replay``.
    """

    source: Literal["yfinance"]
    api_url: MirrorAddress | None = None


Source = Annotated[SimulatedSource | ArchiveSource | CcxtSource | YFinanceSource, Field(discriminator="source")]
