"""What a user may choose: a profile in TOML, single values overridden by ``LEM_`` environment variables.

``LEM_PROFILE`` names a packaged profile (such as ``demo``) or a TOML file of your own. A nested value is
overridden as ``LEM_TRAINING__MAX_EPOCHS=20``.
"""

import os
import tomllib
from dataclasses import replace
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from tomllib import TOMLDecodeError
from typing import Any, Literal, Self

from pydantic import ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from lem_pipeline.errors import ConfigurationError
from lem_pipeline.names import model_name, quoted, shown
from lem_pipeline.settings.cluster import ClusterSettings
from lem_pipeline.settings.markets import CryptoSettings, MarketSettings
from lem_pipeline.settings.models import (
    ModelSettings,
    Rival,
    ShadowSettings,
    SplitSettings,
    TrainingSettings,
    WalkForwardSettings,
)
from lem_pipeline.settings.stores import DagsterSettings, LakeSettings, S3Settings, TrackingSettings
from lem_pipeline.settings.sweep import SweepSettings
from lem_pipeline.universe import ASSET_CLASSES

PROFILES = Path(__file__).parents[1] / "profiles"


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
        sweep: What job `sweep` tries.
        cluster: Where steps run, and how wide they fan out.
        studies: Other profiles, whose finished results the report shows beside its own.
        lake: Where tables go that many programs write at once; without it, into one DuckDB file in the home.
        s3: The object store that lake and tracking name with ``s3://``.
        tracking: Where MLflow keeps runs and versions.
        dagster: Where Dagster keeps its history.
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
    sweep: SweepSettings = SweepSettings()
    cluster: ClusterSettings = ClusterSettings()
    studies: list[str] = []
    lake: LakeSettings | None = None
    s3: S3Settings = S3Settings()
    tracking: TrackingSettings = TrackingSettings()
    dagster: DagsterSettings = DagsterSettings()

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

    def shape_of(self, name: str) -> ModelSettings:
        """The shape of a model, or of a rival, before its features are known.

        Raises:
            ConfigurationError: The settings name no such model.
        """
        if name not in self.registered:
            raise ConfigurationError(f"{name} is no model of the settings; they are {', '.join(self.registered)}")
        rival = self.rivals.get(name)
        return replace(self.model, recurrence=rival.recurrence) if rival else self.model

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
