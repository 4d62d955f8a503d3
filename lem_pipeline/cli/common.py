"""What commands share: the profile they work on, their refusals, their answers to scripts."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, NoReturn

import typer

Profile = Annotated[str, typer.Option(help="demo, archive, live, another of profiles/, or the path of a TOML file")]
Json = Annotated[bool, typer.Option("--json", help="one JSON object for a script, and nothing else")]

REFUSED = 3


def prepare(profile: str) -> None:
    """Make a profile that of this process, before anything reads the settings."""
    os.environ["LEM_PROFILE"] = profile
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # Threads that spin while they wait take the cores from any other program: a run beside one took twice as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from lem_pipeline.main_job import dagster_home
    from lem_pipeline.settings import settings

    settings.cache_clear()
    with refusals():
        os.environ["DAGSTER_HOME"] = str(dagster_home(settings().home, settings().dagster.store))


@contextmanager
def refusals() -> Iterator[None]:
    """End the command with the sentence of a mistake that its user can mend."""
    from lem_pipeline.errors import LemError

    try:
        yield
    except LemError as error:
        fail(str(error))


def fail(reason: str) -> NoReturn:
    """End the command with exit code 1."""
    typer.secho(f"\nFAILED  {reason}", fg="red", err=True)
    raise typer.Exit(1)


def as_json(answer: Any) -> None:
    """Print an answer as one line of JSON: dates and paths as text, tables as rows, figures nobody knows as null."""
    from pydantic_core import to_json

    line = to_json(answer, inf_nan_mode="null", fallback=lambda table: table.to_dict("records"))
    typer.echo(line.decode())
