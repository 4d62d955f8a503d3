"""The command line: run the main job of a profile, open its two user interfaces, replay its bars."""

import io
import json
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from getpass import getuser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer

if TYPE_CHECKING:
    from lem_pipeline.promotion import Decision, Desk

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_show_locals=False)

Profile = Annotated[str, typer.Option(help="demo, archive, live, another of profiles/, or the path of a TOML file")]


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
    from lem_pipeline.defs.resources import bar_sources
    from lem_pipeline.errors import LemError
    from lem_pipeline.replay.serve import serve
    from lem_pipeline.settings import settings
    from lem_pipeline.universe import CRYPTO

    chosen = settings()
    try:
        serve(
            bar_sources(chosen),
            [*(chosen.crypto.instruments if chosen.crypto else []), *CRYPTO],
            chosen.source_bar("crypto"),
            port=port,
            faults=faults,
            now=now and now.replace(tzinfo=UTC),
            say=typer.echo,
        )
    except LemError as error:
        _fail(str(error))


@app.command()
def compare(
    one: Annotated[str, typer.Argument(help="lem-crypto@challenger, lem-crypto/3, or a name, meaning its challenger")],
    other: Annotated[str, typer.Argument(help="what it is judged by, named likewise")],
    profile: Profile = "demo",
    split: Annotated[Literal["test", "validation"], typer.Option(help="whose orders both play")] = "test",
    html: Annotated[Path | None, typer.Option(help="where to write the page; else into the profile's reports")] = None,
) -> None:
    """Play two registered versions on the same orders, and say which is better.

    Example: lem compare lem-crypto@challenger lem-crypto/3 --split validation
    """
    _prepare(profile)
    from rich.console import Console

    from lem_pipeline.compare import compare_versions
    from lem_pipeline.errors import LemError
    from lem_pipeline.report.compare_page import comparison_page, on_screen
    from lem_pipeline.settings import settings

    try:
        found = compare_versions(one, other, split)
    except LemError as error:
        _fail(str(error))
    Console().print(on_screen(found))
    page = html or settings().reports / found.file_name
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(comparison_page(found), encoding="utf-8")
    typer.echo(f"\nreport      {page.resolve()}")


Model = Annotated[str, typer.Argument(help="a model of the profile, such as lem-crypto")]
Reason = Annotated[str, typer.Option(help="why, for the log")]


@app.command()
def promote(
    model: Model,
    version: Annotated[str, typer.Option(help="the version that shall trade, whatever the rule says")] = "",
    reason: Reason = "",
    profile: Profile = "demo",
) -> None:
    """Judge the latest version of a model and let it trade if it is better; or name a version and say why.

    Exit code 0: promoted, or the champion stays. 3: refused.

    Example: lem promote lem-crypto --version 3 --reason "new fee schedule"
    """
    desk = _desk(profile)
    _decide(lambda: desk.promote(model, version, getuser(), reason) if version else desk.decide(model))


@app.command()
def roll_back(model: Model, reason: Reason = "", profile: Profile = "demo") -> None:
    """Give the place back to the version of a model that traded before. Exit code 3: refused.

    Example: lem roll-back lem-crypto --reason "fills worse than in the report"
    """
    desk = _desk(profile)
    _decide(lambda: desk.roll_back(model, getuser(), reason))


def _desk(profile: str) -> "Desk":
    _prepare(profile)
    from lem_pipeline.promotion import Desk
    from lem_pipeline.settings import settings
    from lem_pipeline.storage import Warehouse
    from lem_pipeline.tracking import Tracking

    chosen = settings()
    warehouse = Warehouse(path=str(chosen.warehouse), patience_s=chosen.patience_s)
    return Desk(chosen, warehouse, Tracking(home=str(chosen.home)), "command line")


def _decide(decision: Callable[[], "Decision"]) -> None:
    from lem_pipeline.errors import LemError

    try:
        made = decision()
    except LemError as error:
        _fail(str(error))
    typer.echo(made.sentence)
    if made.action == "refused":
        raise typer.Exit(3)


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


def _fail(reason: str) -> NoReturn:
    typer.secho(f"\nFAILED  {reason}", fg="red", err=True)
    raise typer.Exit(1)


if __name__ == "__main__":
    app()
