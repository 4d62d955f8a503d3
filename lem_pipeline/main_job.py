"""Runs the main job, or a sweep, and says how it ended."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import SecretStr
from rich.console import Console
from rich.text import Text

from lem_pipeline.addresses import with_driver
from lem_pipeline.dead_runs import alive
from lem_pipeline.engine import executor
from lem_pipeline.failures import sentence
from lem_pipeline.progress import followed
from lem_pipeline.report.rendering import screen_banner
from lem_pipeline.settings import Settings, settings

START_TAG, END_TAG = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


def dagster_home(home: Path, store: SecretStr | None = None) -> Path:
    """The folder of Dagster's own state within a profile's folder, made ready for use.

    Args:
        home: The profile's folder.
        store: The database of the history, where it is not kept in that folder, too.
    """
    folder = (home / "dagster").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    parts = ["dagster.yaml"]
    if store:
        os.environ["DAGSTER_POSTGRES_URL"] = with_driver(store.get_secret_value())  # the file names it, no more
        parts.append("dagster_postgres.yaml")
    text = "\n".join(Path(__file__).with_name(part).read_text() for part in parts)
    (folder / "dagster.yaml").write_text(text)
    return folder


def months(chosen: Settings) -> tuple[str, str]:
    """First and last monthly partition that the settings ask for."""
    first = min(market.start for market in chosen.markets.values())
    today = datetime.now(UTC).date()
    last = max(market.end or today for market in chosen.markets.values())
    return f"{first:%Y-%m}-01", f"{min(last, today):%Y-%m}-01"


def main_job() -> dg.JobDefinition:
    """The main job."""
    return _job("main")


def sweep_job() -> dg.JobDefinition:
    """The job that tries other settings."""
    return _job("sweep")


def _job(name: str) -> dg.JobDefinition:
    from lem_pipeline.definitions import defs

    return defs().resolve_job_def(name)


def run_main_job(verbose: bool = False) -> str | None:
    """Execute every asset over all months of the settings; progress goes to the terminal.

    Args:
        verbose: Print Dagster's whole event log.

    Returns:
        None on success, else the sentence that says what failed.

    Raises:
        ConfigurationError: The engine that the settings choose is not installed.
    """
    chosen = settings()
    first, last = months(chosen)
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"[bold]main job[/bold], profile {chosen.profile}, months {first} to {last}")
    with dg.DagsterInstance.get() as instance:
        result = execute(instance, main_job, {START_TAG: first, END_TAG: last}, verbose)
    if not result.success:
        return next(failures(result.all_events))
    for line in _summary(result, chosen):
        console.print(line)
    return None


def run_sweep(verbose: bool = False) -> str | None:
    """Execute job ``sweep``.

    Args:
        verbose: Print Dagster's whole event log.

    Returns:
        None on success, else the sentence that says what failed.

    Raises:
        ConfigurationError: The engine that the settings choose is not installed.
    """
    with dg.DagsterInstance.get() as instance:
        result = execute(instance, sweep_job, {}, verbose)
    return None if result.success else next(failures(result.all_events))


def execute(
    instance: dg.DagsterInstance,
    job: Callable[[], dg.JobDefinition],
    tags: Mapping[str, str],
    verbose: bool = False,
    asset_selection: Sequence[dg.AssetKey] | None = None,
) -> dg.ExecuteInProcessResult | dg.JobExecutionResult:
    """Execute a job, or some of its assets, on the engine that the settings choose.

    Args:
        instance: Keeps the event log; a persistent one where steps have processes of their own.
        job: A function of a module, by which the process of a step finds the job, too.
        tags: Of the run; those of assets name its months.
        verbose: Print Dagster's whole event log.
        asset_selection: What to make, if not everything.
    """
    with alive(instance) as mark:
        if settings().cluster.engine == "in_process":
            return job().execute_in_process(
                instance=instance,
                raise_on_error=False,
                run_config={"loggers": {"console" if verbose else "progress": {}}},
                tags={**tags, **mark},
                asset_selection=asset_selection,
            )
        executor(settings())  # says in a sentence what it lacks, where a reconstructed job would say it in many lines
        level = "DEBUG" if verbose else "CRITICAL"  # steps tell what they do in the event log
        with followed(instance) as watched:
            return dg.execute_job(
                dg.reconstructable(job),
                instance=instance,
                run_config={"loggers": {"console": {"config": {"log_level": level}}}},
                tags={**tags, **mark, **watched},
                asset_selection=asset_selection,
            )


def failures(events: Sequence[dg.DagsterEvent]) -> Iterator[str]:
    """What failed, in a sentence each: a check, a step, or else the run itself."""
    for event in events:
        if event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            check = event.asset_check_evaluation_data
            if not check.passed and check.severity is dg.AssetCheckSeverity.ERROR:
                claim = check.check_name.replace("_", " ")
                yield f"{check.asset_key.to_user_string()}: it is not true that {claim}: {check.description}"
    for event in events:
        if event.is_step_failure:
            yield f"{str(event.step_key).replace('__', '/')}: {sentence(event)}"
    for event in events:
        if event.event_type is dg.DagsterEventType.RUN_FAILURE and (error := event.job_failure_data.error):
            # What broke first stands innermost: the rest broke in tidying up.
            while first := error.cause or error.context:
                error = first
            yield f"the run failed: {error.message.strip()}"
    yield "the run failed; see its event log in the Dagster UI"


def _summary(result: dg.ExecuteInProcessResult | dg.JobExecutionResult, chosen: Settings) -> Iterator[str | Text]:
    metadata: dict[str, Any] = {}
    for event in result.get_asset_materialization_events():
        key = event.asset_key.to_user_string() if event.asset_key else ""
        metadata[key] = event.step_materialization_data.materialization.metadata
    yield ""
    yield from screen_banner(chosen.simulated)
    yield str(metadata["reports/comparison"]["verdict"].value)
    yield ""
    for name in chosen.models:
        yield f"model       {metadata['models/' + name.replace('-', '_')]['model'].value}, alias challenger"
        yield f"desk        {metadata['promotions/' + name.replace('-', '_')]['decision'].value}"
    yield f"report      {metadata['reports/comparison']['report'].value}"
    yield f"quality     {metadata['reports/data_quality']['report'].value}"
    yield f"Dagster UI  make ui PROFILE={chosen.profile}       (http://127.0.0.1:3000)"
    yield f"MLflow UI   make mlflow PROFILE={chosen.profile}   (http://127.0.0.1:5000)"
