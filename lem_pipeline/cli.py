"""The command line: run the main job of a profile, open its two user interfaces, replay its bars."""

import io
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_show_locals=False)

Profile = Annotated[str, typer.Option(help="demo, archive, live, or the path of a TOML file")]


@app.callback()
def lem() -> None:
    """Learned order execution: from market bars to a registered model and its comparison report."""


@app.command()
def run(
    profile: Profile = "demo",
    verbose: Annotated[bool, typer.Option(help="print Dagster's whole event log")] = False,
) -> None:
    """Run the main job from source to report; a second run fetches and trains only what is new.

    Example: lem run --profile demo
    """
    _prepare(profile)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # progress is worth reading as it happens, in a file as well
    from lem_pipeline.main_job import run_main_job

    if failure := run_main_job(verbose):
        _fail(failure)


@app.command()
def ui(profile: Profile = "demo", port: int = 3000) -> None:
    """Open the Dagster UI of a profile on 127.0.0.1, with its schedules running once switched on."""
    _prepare(profile)
    workspace = Path(__file__).parents[1] / "workspace.yaml"
    arguments = ["dev", "-w", str(workspace), "-h", "127.0.0.1", "-p", str(port)]
    os.execv(sys.executable, [sys.executable, "-m", "dagster", *arguments])


@app.command()
def mlflow(profile: Profile = "demo", port: int = 5000) -> None:
    """Open the MLflow UI of a profile on 127.0.0.1."""
    _prepare(profile)
    from lem_pipeline.settings import settings
    from lem_pipeline.tracking import Tracking

    store = Tracking(home=str(settings().home)).uri
    arguments = ["ui", "--backend-store-uri", store, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", *arguments])


@app.command()
def replay(
    profile: Profile = "demo",
    port: Annotated[int, typer.Option(help="where to listen on 127.0.0.1; 0 chooses a free port")] = 8900,
    faults: Annotated[str, typer.Option(help='faults to switch on, such as "slow-drip status:code=429,first=3"')] = "",
    now: Annotated[datetime | None, typer.Option(help="stop the venues' clock at this time, UTC")] = None,
) -> None:
    """Answer as Binance and Yahoo Finance do, from the bars of a profile, until interrupted.

    Example: lem replay --faults "status:code=503,every=5"
    """
    _prepare(profile)
    from lem_pipeline.defs.resources import bar_source
    from lem_pipeline.errors import LemError
    from lem_pipeline.replay.serve import serve
    from lem_pipeline.settings import settings
    from lem_pipeline.universe import CRYPTO

    chosen = settings()
    try:
        serve(
            bar_source("crypto", chosen.crypto.bars),
            bar_source("dow", chosen.dow.bars),
            [*chosen.crypto.instruments, *CRYPTO],
            port=port,
            faults=faults,
            now=now and now.replace(tzinfo=UTC),
            say=typer.echo,
        )
    except LemError as error:
        _fail(str(error))


@app.command()
def advise(
    events: Annotated[
        typer.FileText, typer.Argument(help="JSON lines of orders, bars and fills; - for standard input")
    ],
    model: Annotated[str, typer.Option(help="name@alias or name/version")] = "lem-crypto@challenger",
    asset_class: Annotated[str, typer.Option(help="crypto or dow")] = "crypto",
    history: Annotated[
        Path | None, typer.Option(help="bars so far: parquet, CSV or .jsonl; else the warehouse's")
    ] = None,
    state: Annotated[Path | None, typer.Option(help="where to go on from, and to keep everything told")] = None,
    export: Annotated[Path | None, typer.Option(help="child orders as .csv, .json or .fix")] = None,
    profile: Profile = "demo",
) -> None:
    """Say the next child order of parent orders under way, bar by bar: JSON lines in, JSON lines out.

    Exit code 3: some lines were refused. docs/session.md says what lines hold.

    Example: lem advise events.jsonl --history bars.parquet --state desk.json --export schedule.fix
    """
    _prepare(profile)
    from lem_pipeline.advise_setup import open_desk
    from lem_pipeline.child_orders import check_format, write
    from lem_pipeline.defs.tables import parameters
    from lem_pipeline.errors import LemError
    from lem_pipeline.settings import settings

    try:
        if export:
            check_format(export)
        desk = open_desk(settings(), parameters(), model, asset_class, history, state)
        for answer in desk.answers(events):
            typer.echo(json.dumps(answer, ensure_ascii=False))
        if export:
            write(export, desk.children())
    except LemError as error:
        _fail(str(error))
    if desk.refused:
        raise typer.Exit(3)


def _prepare(profile: str) -> None:
    os.environ["LEM_PROFILE"] = profile
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from lem_pipeline.errors import LemError
    from lem_pipeline.main_job import dagster_home
    from lem_pipeline.settings import settings

    try:
        os.environ["DAGSTER_HOME"] = str(dagster_home(settings().home))
    except LemError as error:
        _fail(str(error))


def _fail(reason: str) -> None:
    typer.secho(f"\nFAILED  {reason}", fg="red", err=True)
    raise typer.Exit(1)


if __name__ == "__main__":
    app()
