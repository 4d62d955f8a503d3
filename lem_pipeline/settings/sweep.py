"""Sweeps: which settings are tried, how often, and which variants are compared."""

from dataclasses import fields
from typing import Any, Self

from pydantic import Field, SecretStr, model_validator

from lem_models.config import LEMConfig, TrainingConfig
from lem_pipeline.names import is_model_name, quoted
from lem_pipeline.settings.strict import Strict

# Windows are cut for these, a loss is made of them, or nothing but time depends on them.
FIXED = {
    "model": {"features", "lookback", "horizon", "information_set", "floor", "cap"},
    "training": {"validation_orders", "risk", "risk_aversion", "cvar_level", "devices", "threads", "compile"},
}


class Dimension(Strict):
    """What one setting may be: one of a list, or a number between two.

    Attributes:
        choices: The list.
        low: The least number.
        high: The greatest; numbers are whole where both bounds are.
        log: Whether tenths are tried as often as units.
    """

    choices: list[bool | int | float | str] = Field(default=[])
    low: int | float | None = None
    high: int | float | None = None
    log: bool = False

    @model_validator(mode="after")
    def _one_or_the_other(self) -> Self:
        bounds = [bound for bound in (self.low, self.high) if bound is not None]
        if bool(self.choices) == bool(bounds) or len(bounds) == 1:
            raise ValueError("give choices, or low and high")
        if bounds and (bounds[0] >= bounds[1] or (self.log and bounds[0] <= 0)):
            raise ValueError("low is below high, and above zero where log is set")
        return self


class SweepSettings(Strict):
    """What the job `sweep` tries. Every trial is judged by its validation loss; the test is never touched.

    Attributes:
        trials: Points of the space that are tried.
        space: What settings may be, by their place, such as `training.learning_rate` or `model.width`.
        ablations: Variants that are tried once each, besides the settings as they are: what differs, by its place.
        seed: Of the sampler.
        fewest_trials: Trials that have to end before one may be stopped early.
        fewest_epochs: Epochs that every trial may train first.
        workers: Steps that try at the same time, where the executor lets them; one after the other in one process.
        heartbeat_s: Seconds between the signs of life of a trial; one that gave none for three times as long is tried
            again.
        storage: Where trials are kept, as an address of SQLAlchemy; without it, `sweep.db` in the home.
    """

    trials: int = Field(default=20, ge=0)
    space: dict[str, Dimension] = Field(default={})
    ablations: dict[str, dict[str, bool | int | float | str]] = Field(default={})
    seed: int = 0
    fewest_trials: int = Field(default=4, ge=0)
    fewest_epochs: int = Field(default=2, ge=1)
    workers: int = Field(default=1, ge=1)
    heartbeat_s: int = Field(default=20, ge=1)
    storage: SecretStr | None = None

    @model_validator(mode="after")
    def _settings_that_a_sweep_may_choose(self) -> Self:
        for name in self.ablations:
            if not is_model_name(name):
                raise ValueError(f"{quoted(name)} names no ablation; use a-z, 0-9 and -, such as no-recurrence")
        for place in (*self.space, *(place for changed in self.ablations.values() for place in changed)):
            section, _, setting = place.partition(".")
            kinds: dict[str, Any] = {"model": LEMConfig, "training": TrainingConfig}
            known = {field.name for field in fields(kinds[section])} if section in kinds else set()
            if setting not in known:
                raise ValueError(f"{quoted(place)} is no setting of model or training, such as training.learning_rate")
            if setting in FIXED[section]:
                raise ValueError(
                    f"{place} is not for a sweep to choose: trials would differ in their windows, their loss, or in "
                    "nothing that the loss could tell"
                )
        return self
