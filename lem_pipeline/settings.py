"""What a user may choose: a profile in TOML, single values overridden by ``LEM_`` environment variables.

``LEM_PROFILE`` names a packaged profile (``demo``, ``archive``, ``live``) or a TOML file of your own. A nested value is
overridden as ``LEM_TRAINING__MAX_EPOCHS=20``.
"""

import os
from datetime import UTC, date, datetime
from functools import lru_cache
from pathlib import Path
from tomllib import TOMLDecodeError
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.dataclasses import dataclass
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from lem_models.config import LEMConfig, Recurrence, TrainingConfig
from lem_models.orders import InformationSet
from lem_pipeline.errors import ConfigurationError
from lem_pipeline.universe import ASSET_CLASSES, FIRST_MONTH

PROFILES = Path(__file__).parent / "profiles"


STRICT = ConfigDict(extra="forbid")


class Strict(BaseModel):
    """Settings that refuse names they do not know."""

    model_config = STRICT


class SimulatedSource(Strict):
    """Bars of the seeded simulated market."""

    source: Literal["simulated"]
    seed: int = 7
    origin: str = "2024-01-01"


class ArchiveSource(Strict):
    """Bars of a user's parquet or CSV files."""

    source: Literal["archive"]
    path: str
    price_basis: Literal["as_traded", "split_adjusted"] = "as_traded"


class CcxtSource(Strict):
    """Bars of the first crypto exchange that serves this country."""

    source: Literal["ccxt"]
    venues: list[str] = Field(default=["binance"], min_length=1)  # in order of preference
    api_url: str | None = None  # a mirror of the exchanges' public API


class YFinanceSource(Strict):
    """Daily bars of Yahoo Finance."""

    source: Literal["yfinance"]
    api_url: str | None = None  # a mirror of Yahoo's chart API


Source = Annotated[SimulatedSource | ArchiveSource | CcxtSource | YFinanceSource, Field(discriminator="source")]


class MarketSettings(Strict):
    """One asset class: where its bars come from, which instruments, since when."""

    bars: Source
    instruments: list[str] = Field(min_length=1)
    start: date
    end: date | None = None  # exclusive; None means up to the last closed bar
    unseen: list[str] = []  # instruments that are tested on and that no model is trained on

    @model_validator(mode="after")
    def _unseen_among_others(self) -> Self:
        if strangers := sorted(set(self.unseen) - set(self.instruments)):
            raise ValueError(f"unseen names {', '.join(strangers)}, which is not among the instruments")
        if set(self.unseen) == set(self.instruments):
            raise ValueError("every instrument is unseen, which leaves none to train on")
        return self

    @model_validator(mode="after")
    def _start_before_end_and_now(self) -> Self:
        if self.end and self.start >= self.end:
            raise ValueError(f"the period starts on {self.start} and ends before, on {self.end}")
        if self.start < FIRST_MONTH.date():
            raise ValueError(f"the period starts on {self.start}, and bars are kept from {FIRST_MONTH:%Y-%m-%d} on")
        if self.start > datetime.now(UTC).date():
            raise ValueError(f"the period starts on {self.start}, in the future")
        return self


class SplitSettings(Strict):
    """How time is cut into training, validation and test, as fractions of an asset class's bars."""

    train: float = Field(default=0.7, gt=0, lt=1)
    validation: float = Field(default=0.15, gt=0, lt=1)

    @model_validator(mode="after")
    def _leave_a_test_split(self) -> Self:
        if self.train + self.validation >= 1:
            raise ValueError(f"train {self.train} + validation {self.validation} leaves nothing to test on")
        return self


class WalkForwardSettings(Strict):
    """How often the way a model is made is tried on years before the hold-out."""

    folds: int = Field(default=0, ge=0)
    seeds: int = Field(default=1, ge=1)  # of training, in every fold
    workers: int | None = Field(default=None, ge=1)  # fits at a time; None for one per core, or one where a GPU trains


class Rival(Strict):
    """A model that differs in its recurrence alone, registered beside the one it is compared with."""

    rival_of: str
    recurrence: Recurrence


@dataclass(config=STRICT, frozen=True)
class ModelSettings(LEMConfig):
    """The network and its orders."""

    @field_validator("information_set")
    @classmethod
    def _no_look_ahead(cls, chosen: InformationSet) -> InformationSet:
        if chosen != "causal":
            raise ValueError(
                f"{chosen} sees the bar it trades in; models of the pipeline are causal, and make bench NAME=ablations "
                "measures what the look-ahead is worth"
            )
        return chosen


@dataclass(config=STRICT, frozen=True)
class TrainingSettings(TrainingConfig):
    """How a model is fitted."""


class Settings(BaseSettings):
    """Everything a run depends on besides code and data."""

    model_config = SettingsConfigDict(
        env_prefix="LEM_", env_nested_delimiter="__", extra="forbid", toml_file=PROFILES / "demo.toml"
    )

    profile: str = "demo"  # what LEM_PROFILE says
    home: Path = Path("var/demo")
    crypto: MarketSettings
    dow: MarketSettings
    dow_members_only: bool = True  # build windows of a name only while it was in the index
    patience_s: float = 60  # how long to wait for other programs to close the warehouse
    models: dict[str, list[Literal["crypto", "dow"]]]
    model: ModelSettings = ModelSettings()
    training: TrainingSettings = TrainingSettings()
    splits: SplitSettings = SplitSettings()
    rivals: dict[str, Rival] = {}
    walk_forward: WalkForwardSettings = WalkForwardSettings()

    @model_validator(mode="after")
    def _rivals_have_a_model(self) -> Self:
        for name, rival in self.rivals.items():
            if rival.rival_of not in self.models:
                raise ValueError(f"rival {name} is one of {rival.rival_of}; the models are {', '.join(self.models)}")
            if name in self.models:
                raise ValueError(f"{name} is a model and a rival; give one of them another name")
        return self

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
    def simulated(self) -> bool:
        """Whether any price behind the results is simulated."""
        return any(self.market(name).bars.source == "simulated" for name in ASSET_CLASSES)

    @property
    def live(self) -> list[str]:
        """Asset classes whose bars are fetched up to the present."""
        return [name for name in ASSET_CLASSES if self.market(name).end is None]

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
    except TOMLDecodeError as error:
        raise ConfigurationError(f"profile {profile_path()} is not valid TOML: {error}") from error
    except SettingsError as error:
        raise ConfigurationError(f"{error}; lists and tables are written as JSON in the environment") from error


def _explain(problems: list[Any]) -> str:
    parts = [f"{'.'.join(str(p) for p in problem['loc'])}: {problem['msg']}" for problem in problems]
    return f"profile {profile_path()} has wrong settings: {'; '.join(parts)}"
