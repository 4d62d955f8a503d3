"""The models: network and orders, how they are fitted, tried and watched."""

from typing import Self

from pydantic import Field, field_validator, model_validator
from pydantic.dataclasses import dataclass

from lem_models.config import LEMConfig, Recurrence, TrainingConfig
from lem_models.orders import InformationSet
from lem_pipeline.settings.strict import STRICT, Strict


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
