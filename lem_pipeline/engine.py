"""The engine that steps run on, as the settings choose it: the same definitions on all of them."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import SecretStr

from lem_pipeline.errors import ConfigurationError
from lem_pipeline.settings import PROFILES, Settings

QUIETER = ("OMP_WAIT_POLICY", "MLFLOW_DISABLE_TELEMETRY")  # set by commands, see cli/common.py


def executor(chosen: Settings) -> dg.ExecutorDefinition:
    """What runs the steps of a job.

    Raises:
        ConfigurationError: The engine is Ray, which is not installed.
    """
    match chosen.cluster.engine:
        case "in_process":
            # DuckDB has one writer, and a step that waits in line needs no process of its own.
            return dg.in_process_executor
        case "multiprocess":
            return dg.multiprocess_executor.configured({"start_method": {"forkserver": {}}})
        case "ray":
            return _on_ray(chosen)


def _on_ray(chosen: Settings) -> dg.ExecutorDefinition:
    try:
        from dagster_ray.core.executor import ray_executor
    except ImportError as error:
        raise ConfigurationError(
            f"cluster.engine is ray, and {error.name or 'dagster_ray'} is not installed; "
            "install this package with its extra cluster: pip install 'lem-pipeline[cluster]'"
        ) from error
    # A step is a job of its own, scheduled for its cores on whichever node has them free.
    options = {
        "address": chosen.cluster.ray_address,
        "num_cpus": chosen.cluster.step_cores,
        "env_vars": handed_on(chosen),
    }
    return ray_executor.configured({"ray": options})


def handed_on(chosen: Settings) -> list[str]:
    """What the process of a step must find in its environment to have the settings of this one.

    Values are left out where Ray's client reads them here, so that none of them is stored with the definitions. What
    holds a secret is not handed on at all, as Ray shows the environment of a job to everybody: nodes have their own.
    """
    places = {
        "LEM_PROFILE": _whole(chosen.profile),
        "LEM_HOME": str(chosen.home.resolve()),
        "LEM_ARCHIVE": str(chosen.archive.resolve()),
    }
    secrets = set(_secrets(chosen.model_dump()))
    harmless = {
        name
        for name, value in os.environ.items()
        if name.startswith("LEM_") and not any(secret in value for secret in secrets)
    }
    return [f"{name}={place}" for name, place in places.items()] + sorted(harmless - places.keys()) + [*QUIETER]


def _secrets(values: Mapping[str, Any]) -> Iterator[str]:
    for value in values.values():
        if isinstance(value, SecretStr) and value.get_secret_value():
            yield value.get_secret_value()
        elif isinstance(value, Mapping):
            yield from _secrets(value)


def _whole(profile: str) -> str:
    """A profile of a file as any folder finds it; one that comes with the package keeps its name."""
    return profile if (PROFILES / f"{profile}.toml").exists() else str(Path(profile).resolve())


def tried_again(chosen: Settings) -> dg.RetryPolicy | None:
    """How often a step is tried that fails without saying why, such as one whose process died.

    In one process there is nothing to survive: what kills the step kills the run.
    """
    lives_apart = chosen.cluster.engine != "in_process"
    return dg.RetryPolicy(max_retries=chosen.cluster.attempts - 1) if lives_apart else None


def training_tags(chosen: Settings) -> dict[str, Any]:
    """What a step that trains takes of a Ray cluster, besides cores."""
    gpus = chosen.cluster.training_gpus
    return {"dagster-ray/config": {"num_gpus": gpus}} if gpus else {}
