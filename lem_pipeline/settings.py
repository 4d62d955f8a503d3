"""What a user may choose: a profile in TOML, single values overridden by ``LEM_`` environment variables.

``LEM_PROFILE`` names a packaged profile (``demo``, ``archive``, ``live``) or a TOML file of your own. A nested value is
overridden as ``LEM_TRAINING__MAX_EPOCHS=20``.
"""

import os
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from lem_models.orders import Limits
from lem_pipeline.errors import ConfigurationError

PROFILES = Path(__file__).parent / "profiles"


class SimulatedSource(BaseModel):
    """Bars of the seeded simulated market."""

    source: Literal["simulated"]
    seed: int = 7
    origin: str = "2024-01-01"


class ArchiveSource(BaseModel):
    """Bars of a user's parquet or CSV files."""

    source: Literal["archive"]
    path: str
    price_basis: Literal["as_traded", "split_adjusted"] = "as_traded"


class CcxtSource(BaseModel):
    """Bars of a crypto exchange."""

    source: Literal["ccxt"]
    venue: str = "binance"
    api_url: str | None = None  # a mirror of the exchange's public API


class YFinanceSource(BaseModel):
    """Daily bars of Yahoo Finance."""

    source: Literal["yfinance"]
    api_url: str | None = None  # a mirror of Yahoo's chart API


Source = Annotated[SimulatedSource | ArchiveSource | CcxtSource | YFinanceSource, Field(discriminator="source")]


class MarketSettings(BaseModel):
    """One asset class: where its bars come from, which instruments, since when."""

    bars: Source
    instruments: list[str]
    start: date
    end: date | None = None  # exclusive; None means up to the last closed bar


class SplitSettings(BaseModel):
    """How time is cut into training, validation and test, as fractions of an asset class's bars."""

    train: float = Field(default=0.7, gt=0, lt=1)
    validation: float = Field(default=0.15, gt=0, lt=1)


class ModelSettings(BaseModel):
    """The network and its orders; names as in ``LEMConfig``."""

    lookback: int = 48
    horizon: int = 12
    width: int = 32
    embedding: int = 8
    attention_heads: int = 4
    tkan_layers: int = 2
    memories: int = 1
    memory_width: int = 16
    head_width: int = 32
    independent_heads: bool = False
    floor: float = 0.0
    cap: float = 1.0

    @model_validator(mode="after")
    def _orders_can_be_filled(self) -> Self:
        Limits(horizon=self.horizon, floor=self.floor, cap=self.cap)
        return self


class TrainingSettings(BaseModel):
    """How a model is fitted; names as in ``TrainingConfig``."""

    batch_size: int = 128
    batches_per_epoch: int = 40
    validation_orders: int = 512
    max_epochs: int = 8
    patience: int = 4
    learning_rate: float = 5e-3
    risk_aversion: float = 0.1
    gradient_clip: float = 1.0
    seed: int = 0
    threads: int = 1


class Settings(BaseSettings):
    """Everything a run depends on besides code and data."""

    model_config = SettingsConfigDict(
        env_prefix="LEM_", env_nested_delimiter="__", extra="forbid", toml_file=PROFILES / "demo.toml"
    )

    profile: str = "demo"
    home: Path = Path("var/demo")
    crypto: MarketSettings
    dow: MarketSettings
    models: dict[str, list[Literal["crypto", "dow"]]]
    model: ModelSettings = ModelSettings()
    training: TrainingSettings = TrainingSettings()
    splits: SplitSettings = SplitSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments win over the environment, the environment over the profile."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, profile_path())

    def market(self, asset_class: str) -> MarketSettings:
        """The settings of an asset class."""
        market: MarketSettings = getattr(self, asset_class)
        return market

    @property
    def warehouse(self) -> Path:
        """The DuckDB file."""
        return self.home / "warehouse.duckdb"

    @property
    def reports(self) -> Path:
        """The folder of finished reports."""
        return self.home / "reports"


def profile_path() -> Path:
    """The TOML file that ``LEM_PROFILE`` chooses.

    Raises:
        ConfigurationError: There is no such profile.
    """
    name = os.environ.get("LEM_PROFILE", "demo")
    path = PROFILES / f"{name}.toml"
    if not path.exists():
        path = Path(name)
    if not path.is_file():
        packaged = ", ".join(sorted(p.stem for p in PROFILES.glob("*.toml")))
        raise ConfigurationError(f"LEM_PROFILE is {name!r}; it must be one of {packaged}, or the path of a TOML file")
    return path


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings of this process.

    Raises:
        ConfigurationError: A value is missing or wrong; the message names it.
    """
    try:
        return Settings()  # type: ignore[call-arg]
    except ValidationError as error:
        raise ConfigurationError(_explain(error.errors())) from error


def _explain(problems: list[Any]) -> str:
    parts = [f"{'.'.join(str(p) for p in problem['loc'])}: {problem['msg']}" for problem in problems]
    return f"profile {profile_path()} has wrong settings: {'; '.join(parts)}"
