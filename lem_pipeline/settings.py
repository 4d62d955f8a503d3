"""What a user may choose: a profile in TOML, single values overridden by ``LEM_`` environment variables.

``LEM_PROFILE`` names a packaged profile (such as ``demo``) or a TOML file of your own. A nested value is
overridden as ``LEM_TRAINING__MAX_EPOCHS=20``.
"""

import os
import tomllib
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from tomllib import TOMLDecodeError
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
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
from lem_pipeline.names import instrument, model_name, quoted, shown
from lem_pipeline.sources.mirror import Mirror
from lem_pipeline.universe import ASSET_CLASSES, DAY, FIRST_MONTH

PROFILES = Path(__file__).parent / "profiles"

DAY_MINUTES = DAY // timedelta(minutes=1)

# Lengths of bars in minutes, and what ccxt calls them; a venue need not have them all.
TIMEFRAMES = {
    1: "1m", 3: "3m", 5: "5m", 15: "15m", 30: "30m", 60: "1h", 120: "2h", 240: "4h", 360: "6h", 480: "8h", 720: "12h",
    DAY_MINUTES: "1d",
}  # fmt: skip

STRICT = ConfigDict(extra="forbid", hide_input_in_errors=True)


class Strict(BaseModel):
    """Settings that refuse names they do not know."""

    model_config = STRICT


def _of_a_mirror(address: SecretStr) -> SecretStr:
    Mirror.at(address.get_secret_value())
    return address


Instrument = Annotated[str, AfterValidator(instrument)]
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


class MarketSettings(Strict):
    """One asset class: where its bars come from, which instruments, since when.

    Attributes:
        bars: Where bars come from, never with a silent fallback; see the sources below.
        instruments: What to fetch.
        start: First day.
        end: The day after the last one; without it, up to the last closed bar.
        unseen: Instruments that are tested on and that no model is trained on.
        price: What child orders fill at: ``vwap``, the typical price where there is none; or ``typical`` throughout.
    """

    bars: Source
    instruments: list[Instrument] = Field(min_length=1)
    start: date
    end: date | None = None
    unseen: list[str] = []
    price: Literal["vwap", "typical"] = "vwap"

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


class CryptoSettings(MarketSettings):
    """A market around the clock: how long the bars of its source last, and those that orders trade in.

    Attributes:
        source_bar_minutes: Length of the bars that the source is asked for.
        bar_minutes: Length of the bars that orders trade in, counted from midnight UTC of 1970-01-01 on: a multiple of
            ``source_bar_minutes``.
    """

    source_bar_minutes: int = Field(default=60, ge=1, le=DAY_MINUTES)
    bar_minutes: int = Field(default=60, ge=1, le=DAY_MINUTES)

    @model_validator(mode="after")
    def _lengths_that_the_source_can_give(self) -> Self:
        asked = self.source_bar_minutes
        if self.bar_minutes % asked:
            raise ValueError(
                f"bars of {self.bar_minutes} minutes cannot be put together from bars of {asked}; "
                f"set bar_minutes to a multiple of source_bar_minutes"
            )
        if isinstance(self.bars, SimulatedSource) and asked != 60:
            raise ValueError(
                f"the simulated market has bars of 60 minutes and none of {asked}; leave source_bar_minutes at 60 and "
                "set bar_minutes to a multiple of it"
            )
        if isinstance(self.bars, CcxtSource) and asked not in TIMEFRAMES:
            raise ValueError(
                f"no venue has bars of {asked} minutes; set source_bar_minutes to one of "
                f"{', '.join(map(str, TIMEFRAMES))}, and bar_minutes to a multiple of it"
            )
        return self


class SplitSettings(Strict):
    """How time is cut into training, validation and test, as fractions of an asset class's bars.

    Attributes:
        train: What models are fitted to.
        validation: What settings and the epoch that is kept are chosen on. The rest is the test, a hold-out.
    """

    train: float = Field(default=0.7, gt=0, lt=1)
    validation: float = Field(default=0.15, gt=0, lt=1)

    @model_validator(mode="after")
    def _leave_a_test_split(self) -> Self:
        if self.train + self.validation >= 1:
            raise ValueError(f"train {self.train} + validation {self.validation} leaves nothing to test on")
        return self


class WalkForwardSettings(Strict):
    """How often the way a model is made is tried on years before the hold-out.

    Attributes:
        folds: Stretches of time that a model is trained anew for.
        seeds: Seeds of training, in every fold.
        workers: Fits at a time; without it, one per core, or one where a GPU trains.
    """

    folds: int = Field(default=0, ge=0)
    seeds: int = Field(default=1, ge=1)
    workers: int | None = Field(default=None, ge=1)


class ShadowSettings(Strict):
    """When the champion's newest orders count as drift, which asks for retraining.

    Attributes:
        feature_weeks: Newest weeks whose features are judged, once there are as many.
        feature_psi: Population stability index from which a feature may have drifted.
        edge_days: Newest days whose edge over no-forecast stopping is judged.
        fewest_edge_days: Days from the first shadow order to the last before an edge is judged.
        edge_fall_sigma: Fall since the hold-out that is let pass, in volatilities of one bar.
    """

    feature_weeks: int = Field(default=2, ge=1)
    feature_psi: float = Field(default=0.25, gt=0)
    edge_days: int = Field(default=182, ge=1)
    fewest_edge_days: int = Field(default=28, ge=1)
    edge_fall_sigma: float = Field(default=0.0, ge=0)


class Rival(Strict):
    """A model that differs in its recurrence alone, registered beside the one it is compared with.

    Attributes:
        rival_of: The model whose orders it plays.
        recurrence: Its recurrence.
    """

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
    """Everything a run depends on besides code and data.

    Attributes:
        profile: The profile, as ``LEM_PROFILE`` names it.
        home: The folder that holds everything a profile writes.
        archive: The folder that paths of archives start from.
        crypto: The market around the clock; left out where no model trains on it.
        dow: The market with daily sessions; left out where no model trains on it.
        dow_members_only: Windows of a Dow name only while it was in the index; false for shares that never were.
        patience_s: Seconds to wait for other programs to close the warehouse.
        dagster_ui: Where people open the Dagster UI, for the links that MLflow shows.
        mlflow_ui: Where they open the MLflow UI, for the links on asset pages.
        models: Which models there are, and the asset classes each trains on; ``["crypto", "dow"]`` trains one on both.
        model: The network and its orders.
        training: How a model is fitted.
        splits: How time is cut.
        rivals: Models that differ in their recurrence alone and play the same orders.
        walk_forward: How often the way a model is made is tried on earlier years.
        shadow: When the champion's newest orders count as drift.
        studies: Other profiles, whose finished results the report shows beside its own.
    """

    model_config = SettingsConfigDict(
        env_prefix="LEM_",
        env_nested_delimiter="__",
        extra="forbid",
        hide_input_in_errors=True,
        toml_file=PROFILES / "demo.toml",
    )

    profile: str = "demo"
    home: Path = Path("var/demo")
    archive: Path = Path()
    crypto: CryptoSettings | None = None
    dow: MarketSettings | None = None
    dow_members_only: bool = True
    patience_s: float = 60
    dagster_ui: str = "http://127.0.0.1:3000"
    mlflow_ui: str = "http://127.0.0.1:5000"
    models: dict[str, list[Literal["crypto", "dow"]]]
    model: ModelSettings = ModelSettings()
    training: TrainingSettings = TrainingSettings()
    splits: SplitSettings = SplitSettings()
    rivals: dict[str, Rival] = {}
    walk_forward: WalkForwardSettings = WalkForwardSettings()
    shadow: ShadowSettings = ShadowSettings()
    studies: list[str] = []

    @model_validator(mode="after")
    def _names_are_those_of_models(self) -> Self:
        for name in (*self.models, *self.rivals):  # here, as a complaint about a key would begin with the key
            model_name(name)
        return self

    @model_validator(mode="after")
    def _rivals_have_a_model(self) -> Self:
        for name, rival in self.rivals.items():
            if rival.rival_of not in self.models:
                raise ValueError(f"rival {name} is one of {rival.rival_of}; the models are {', '.join(self.models)}")
            if name in self.models:
                raise ValueError(f"{name} is a model and a rival; give one of them another name")
        return self

    @model_validator(mode="after")
    def _each_model_has_its_market(self) -> Self:
        for model, asset_classes in self.models.items():
            if lacking := [name for name in asset_classes if name not in self.markets]:
                raise ValueError(
                    f"{model} trains on {' and '.join(lacking)}, whose bars the settings do not name; "
                    f"add a section [{lacking[0]}], or take it from the model"
                )
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

    @property
    def markets(self) -> dict[str, MarketSettings]:
        """The asset classes that there are settings for."""
        given: dict[str, MarketSettings | None] = {name: getattr(self, name) for name in ASSET_CLASSES}
        return {name: market for name, market in given.items() if market}

    def market(self, asset_class: str) -> MarketSettings:
        """The settings of an asset class that a model trains on."""
        return self.markets[asset_class]

    def source_bar(self, asset_class: str) -> timedelta:
        """How long a bar of the source lasts."""
        return self._length(asset_class, "source_bar_minutes")

    def bar(self, asset_class: str) -> timedelta:
        """How long a bar of the market lasts, which orders trade in."""
        return self._length(asset_class, "bar_minutes")

    def _length(self, asset_class: str, setting: str) -> timedelta:
        minutes = getattr(self.markets.get(asset_class), setting, None)
        return timedelta(minutes=minutes) if minutes else ASSET_CLASSES[asset_class].bar_size

    @property
    def registered(self) -> dict[str, list[Literal["crypto", "dow"]]]:
        """Models and their rivals, with the asset classes that each trades."""
        return {**self.models, **{name: self.models[rival.rival_of] for name, rival in self.rivals.items()}}

    @property
    def simulated(self) -> bool:
        """Whether any price behind the results is simulated."""
        return any(market.bars.source == "simulated" for market in self.markets.values())

    @property
    def live(self) -> list[str]:
        """Asset classes whose bars are fetched up to the present."""
        return [name for name, market in self.markets.items() if market.end is None]

    @property
    def warehouse(self) -> Path:
        """The DuckDB file."""
        return self.home / "warehouse.duckdb"

    @property
    def reports(self) -> Path:
        """The folder of finished reports."""
        return self.home / "reports"

    @property
    def comparison(self) -> Path:
        """The page of the comparison report."""
        return self.reports / "comparison.html"


class AsWritten(Settings):
    """A profile as its file has it, whatever the environment says."""

    model_config = SettingsConfigDict(toml_file=None)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only arguments count."""
        return (init_settings,)


def settings_of(profile: str) -> Settings:
    """The settings of another profile than that of this process; the environment does not override them.

    Raises:
        ConfigurationError: There is no such profile, or a value in it is missing or wrong.
    """
    path = profile_path(profile)
    try:
        return AsWritten(**{"profile": profile} | tomllib.loads(path.read_text()))
    except ValidationError as error:
        raise ConfigurationError(_explain(error.errors(), path)) from error
    except TOMLDecodeError as error:
        raise ConfigurationError(f"profile {path} is not valid TOML: {error}") from error


def profile_path(name: str | None = None) -> Path:
    """The TOML file of a profile, or of the one that ``LEM_PROFILE`` chooses.

    Raises:
        ConfigurationError: There is no such profile.
    """
    name = os.environ.get("LEM_PROFILE", "demo") if name is None else name
    path = PROFILES / f"{name}.toml"
    if not os.path.exists(path):  # unlike Path's, also false for what no file can be called
        path = Path(name)
    if not os.path.isfile(path):
        packaged = ", ".join(sorted(p.stem for p in PROFILES.glob("*.toml")))
        raise ConfigurationError(
            f"LEM_PROFILE is {quoted(name)}; it must be one of {packaged}, or the path of a TOML file"
        )
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
        raise ConfigurationError(_explain(error.errors(), profile_path())) from error
    except TOMLDecodeError as error:
        raise ConfigurationError(f"profile {profile_path()} is not valid TOML: {error}") from error
    except SettingsError as error:
        raise ConfigurationError(f"{error}; lists and tables are written as JSON in the environment") from error


def _explain(problems: list[Any], path: Path) -> str:
    parts = [": ".join(filter(None, [".".join(shown(str(part)) for part in p["loc"]), p["msg"]])) for p in problems]
    return f"profile {path} has wrong settings: {'; '.join(parts)}"
