"""Hyper-parameter and ablation sweeps by Optuna: trials that several processes share, stop early, and take up again.

All trials of a sweep are queued before the first one starts, so that however many processes take from the queue, and
however often they are killed, as many are made as were asked for.
"""

import hashlib
import json
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from lem_pipeline.panel import OrderPanel
from lem_pipeline.settings.sweep import SweepSettings
from lem_pipeline.tracking import Tracking, model_code_hash, sweep_experiment

if TYPE_CHECKING:
    import optuna

    from lem_models.config import LEMConfig, TrainingConfig

AS_SET = "as-set"
"""The variant that differs in nothing."""

PLANNED, VARIANT, PARENT, REASON = "planned", "variant", "mlflow_run", "reason"


class _Surplus(Exception):
    """Another process took the last trial of the queue."""


@dataclass(frozen=True)
class Sweep:
    """A sweep over one model.

    Attributes:
        model: Its name.
        config: Its shape, features included.
        training: How it is fitted where nothing else is tried.
        chosen: What is tried.
        data: Bars and windows; those of the test are left alone.
        storage: Where trials are kept, as an address of SQLAlchemy.
    """

    model: str
    config: "LEMConfig"
    training: "TrainingConfig"
    chosen: SweepSettings
    data: OrderPanel
    storage: str

    @property
    def name(self) -> str:
        """Of its study: the same data, code, settings and space, the same sweep; it may be asked for more trials."""
        asked = self.chosen.model_dump(mode="json", include={"space", "ablations", "seed"})
        parts = {
            "snapshot": self.data.snapshot,
            "code": model_code_hash(),
            "model": self.config.to_dict(),
            "training": self.training.made_of(),
            **asked,
        }
        return f"{self.model}-{hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]}"

    @property
    def variants(self) -> dict[str, Mapping[str, Any]]:
        """What differs in each variant, by its place in the settings."""
        return {AS_SET: {}, **self.chosen.ablations}

    def with_changes(self, changes: Mapping[str, Any]) -> "tuple[LEMConfig, TrainingConfig]":
        """The configuration in which these settings, named by their places, are changed."""
        parts = [(*place.split("."), value) for place, value in changes.items()]
        model, training = (
            {setting: value for section, setting, value in parts if section == wanted}
            for wanted in ("model", "training")
        )
        return replace(self.config, **model), replace(self.training, **training)


def study_of(sweep: Sweep) -> "optuna.Study":
    """The study, whoever began it."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    chosen = sweep.chosen
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # heartbeats, experimental since 2021
        storage = optuna.storages.RDBStorage(
            sweep.storage,
            heartbeat_interval=chosen.heartbeat_s,
            grace_period=3 * chosen.heartbeat_s,
            heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(),
        )
    return optuna.create_study(
        storage=storage,
        study_name=sweep.name,
        pruner=optuna.pruners.MedianPruner(chosen.fewest_trials, chosen.fewest_epochs - 1),
        direction="minimize",
        load_if_exists=True,
    )


def begin(sweep: Sweep, tracking: Tracking) -> "optuna.Study":
    """Queue what is not queued yet, and open the run in MLflow that all trials are children of."""
    study = study_of(sweep)
    if PARENT not in study.user_attrs:
        tags = {"mlflow.runName": study.study_name, "data.snapshot": sweep.data.snapshot}
        study.set_user_attr(PARENT, tracking.begun(sweep_experiment(sweep.model), tags))
    attributes = [trial.user_attrs for trial in study.get_trials(deepcopy=False)]
    for variant in sweep.variants.keys() - {each.get(VARIANT) for each in attributes}:
        study.enqueue_trial({}, {PLANNED: variant, VARIANT: variant})
    queued = {each[PLANNED] for each in attributes if PLANNED in each and VARIANT not in each}
    for number in range(len(queued), sweep.chosen.trials if sweep.chosen.space else 0):
        study.enqueue_trial({}, {PLANNED: number})
    return study


def work(sweep: Sweep, tracking: Tracking) -> int:
    """Make trials until none is left, then wait for those of others, and take up those that died.

    Returns:
        Trials that this process made.
    """
    import optuna
    from optuna.trial import TrialState

    study = study_of(sweep)
    made = 0

    def attempt(trial: "optuna.Trial") -> float:
        nonlocal made
        if PLANNED not in trial.user_attrs:
            raise _Surplus
        made += 1
        # By trial: a sampler of a resumed sweep, or of another process, would begin with the same draws again.
        study.sampler = optuna.samplers.TPESampler(seed=_seed(sweep.chosen.seed, trial.user_attrs[PLANNED]))
        return _play(sweep, tracking, study.user_attrs[PARENT], trial)

    while left := study.get_trials(deepcopy=False, states=(TrialState.WAITING, TrialState.RUNNING)):
        if any(trial.state is TrialState.WAITING for trial in left):
            study.optimize(attempt, n_trials=1, catch=(_Surplus, FloatingPointError))
        else:
            time.sleep(1)
            optuna.storages.fail_stale_trials(study)
    return made


def _play(sweep: Sweep, tracking: Tracking, parent: str, trial: "optuna.Trial") -> float:
    import mlflow
    import optuna

    from lem_models.training import fit

    variant = trial.user_attrs.get(VARIANT)
    changes = sweep.variants[variant] if variant else dict(_suggested(sweep, trial))
    name = variant or f"trial {trial.user_attrs[PLANNED]}"
    tags = {"mlflow.parentRunId": parent, "mlflow.runName": name, "trial": str(trial.number), "state": "running"}
    failure: Exception | None = None
    with tracking.run(sweep_experiment(sweep.model), tags) as run:
        client = tracking.client()

        def report(epoch: int, metrics: dict[str, float]) -> None:
            mlflow.log_metrics(metrics, step=epoch, run_id=run.info.run_id)
            trial.report(metrics["validation_loss"], epoch)
            if not variant and trial.should_prune():  # variants are compared on the same budget
                raise optuna.TrialPruned(f"after epoch {epoch + 1}, worse than the median of the others")

        try:
            config, training = sweep.with_changes(changes)
            mlflow.log_params({**config.to_dict(), **asdict(training), "snapshot": sweep.data.snapshot})
            rows = sweep.data.rows("train"), sweep.data.rows("validation")
            with TemporaryDirectory() as checkpoints:
                fitted = fit(sweep.data.panel, *rows, config, training, Path(checkpoints), report)
        except (optuna.TrialPruned, FloatingPointError, ValueError) as error:
            failure = error
        stopped = isinstance(failure, optuna.TrialPruned)
        state = "pruned" if stopped else "failed" if failure else "complete"
        client.set_tag(run.info.run_id, "state", state)
        if failure:
            trial.set_user_attr(REASON, str(failure))
            client.set_tag(run.info.run_id, "reason", str(failure))
    if failure:
        # Settings that cannot be, or that diverge, are a finding about the space: the sweep goes on.
        raise failure if stopped else FloatingPointError(str(failure)) from failure
    return min(epoch["validation_loss"] for epoch in fitted.history)


def _seed(*parts: Any) -> int:
    return int.from_bytes(hashlib.sha256(json.dumps(parts).encode()).digest()[:4])


def _suggested(sweep: Sweep, trial: "optuna.Trial") -> Iterator[tuple[str, Any]]:
    for place, allowed in sweep.chosen.space.items():
        if allowed.low is None or allowed.high is None:
            yield place, trial.suggest_categorical(place, allowed.choices)
        elif isinstance(allowed.low, int) and isinstance(allowed.high, int):
            yield place, trial.suggest_int(place, allowed.low, allowed.high, log=allowed.log)
        else:
            yield place, trial.suggest_float(place, allowed.low, allowed.high, log=allowed.log)


@dataclass(frozen=True)
class Ranked:
    """A trial as the ranking has it.

    Attributes:
        name: Of a variant, or its number.
        state: complete, pruned or failed.
        loss: Validation loss of its best epoch; None where it was not trained to its end.
        epochs: Epochs that it was trained.
        changes: What differs from the settings, by its place.
        reason: Why it was not trained to its end.
    """

    name: str
    state: str
    loss: float | None
    epochs: int
    changes: Mapping[str, Any]
    reason: str


def ranking(sweep: Sweep) -> list[Ranked]:
    """Every trial that ended, the best first; one that died and was tried again counts once."""
    from optuna.trial import TrialState

    names = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
    found = [
        Ranked(
            name=str(trial.user_attrs[PLANNED]),
            state=names[trial.state],
            loss=trial.value if trial.state is TrialState.COMPLETE else None,
            epochs=len(trial.intermediate_values),
            changes=sweep.variants[trial.user_attrs[VARIANT]] if VARIANT in trial.user_attrs else trial.params,
            reason=trial.user_attrs.get(REASON, ""),
        )
        for trial in study_of(sweep).get_trials(deepcopy=False, states=tuple(names))
        # Whoever failed without a reason died, and has a successor.
        if PLANNED in trial.user_attrs and (trial.state is not TrialState.FAIL or REASON in trial.user_attrs)
    ]
    return sorted(found, key=lambda each: (each.loss is None, each.loss or 0.0, each.name))


def end(sweep: Sweep, tracking: Tracking) -> list[Ranked]:
    """Close the runs in MLflow, of trials that died as well; the ranking."""
    parent = study_of(sweep).user_attrs[PARENT]
    tracking.close_children(sweep_experiment(sweep.model), parent)
    return ranking(sweep)


def as_toml(changes: Mapping[str, Any]) -> str:
    r"""Settings to paste into a profile.

    Example:
        >>> print(as_toml({"training.learning_rate": 0.003, "model.recurrence": "gru"}))
        [model]
        recurrence = "gru"
        <BLANKLINE>
        [training]
        learning_rate = 0.003
    """
    sections: dict[str, list[str]] = {}
    for place, value in sorted(changes.items()):
        section, setting = place.split(".")
        sections.setdefault(section, [f"[{section}]"]).append(f"{setting} = {json.dumps(value)}")
    return "\n\n".join("\n".join(lines) for lines in sections.values())
