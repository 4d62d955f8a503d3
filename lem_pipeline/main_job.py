"""Runs the main job in this process and says how it ended."""

import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
from rich.console import Console
from rich.text import Text

from lem_pipeline.addresses import with_driver
from lem_pipeline.failures import sentence
from lem_pipeline.report.rendering import screen_banner
from lem_pipeline.settings import Settings, settings

START_TAG, END_TAG = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


def dagster_home(chosen: Settings) -> Path:
    """The folder of Dagster's own state within a profile's folder, made ready for use."""
    folder = (chosen.home / "dagster").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    parts = ["dagster.yaml"]
    if store := chosen.dagster.store:
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


def run_main_job(verbose: bool = False) -> str | None:
    """Execute every asset over all months of the settings; progress goes to the terminal.

    Args:
        verbose: Print Dagster's whole event log.

    Returns:
        None on success, else the sentence that says what failed.
    """
    from lem_pipeline.definitions import defs

    chosen = settings()
    first, last = months(chosen)
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"[bold]main job[/bold], profile {chosen.profile}, months {first} to {last}")
    result = (
        defs()
        .resolve_job_def("main")
        .execute_in_process(
            instance=dg.DagsterInstance.get(),
            raise_on_error=False,
            run_config={"loggers": {"console" if verbose else "progress": {}}},
            tags={START_TAG: first, END_TAG: last},
        )
    )
    if not result.success:
        return next(_failures(result.all_events), "the run failed; see its event log in the Dagster UI")
    for line in _summary(result, chosen):
        console.print(line)
    return None


def _failures(events: Sequence[dg.DagsterEvent]) -> Iterator[str]:
    for event in events:
        if event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            check = event.asset_check_evaluation_data
            if not check.passed and check.severity is dg.AssetCheckSeverity.ERROR:
                claim = check.check_name.replace("_", " ")
                yield f"{check.asset_key.to_user_string()}: it is not true that {claim}: {check.description}"
    for event in events:
        if event.is_step_failure:
            yield f"{str(event.step_key).replace('__', '/')}: {sentence(event)}"


def _summary(result: dg.ExecuteInProcessResult, chosen: Settings) -> Iterator[str | Text]:
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
