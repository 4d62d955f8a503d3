"""Commands that run jobs, and the one that shows what the main job found."""

import io
import sys
from typing import Annotated, Literal

import typer

from lem_pipeline.cli.common import Json, Profile, as_json, fail, prepare, refusals

Verbose = Annotated[bool, typer.Option(help="print Dagster's whole event log")]


def demo(verbose: Verbose = False) -> None:
    """Run the main job on the embedded simulated market: from nothing to a report in a few minutes.

    Example: lem demo
    """
    run("demo", verbose)


def run(profile: Profile = "demo", verbose: Verbose = False) -> None:
    """Run the main job from source to report; a second run fetches and trains only what is new.

    Example: lem run --profile archive
    """
    _execute("main", profile, verbose)


def sweep(profile: Profile = "demo", verbose: Verbose = False) -> None:
    """Try the settings and ablations that section sweep of the profile names; one that was cut short goes on.

    Example: lem sweep --profile archive
    """
    _execute("sweep", profile, verbose)


def _execute(job: Literal["main", "sweep"], profile: str, verbose: bool) -> None:
    prepare(profile)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # progress is worth reading as it happens, in a file as well
    from lem_pipeline.main_job import run_main_job, run_sweep

    run = {"main": run_main_job, "sweep": run_sweep}[job]
    with refusals():
        failure = run(verbose)
    if failure:
        fail(failure)


def report(
    profile: Profile = "demo",
    browser: Annotated[bool, typer.Option("--open", help="open the whole page in a browser, too")] = False,
    json: Json = False,
) -> None:
    """Show the verdict and the headline of the last report, and where the whole page is.

    Example: lem report --profile archive --open
    """
    prepare(profile)
    from lem_pipeline.report.headline import headline, on_screen
    from lem_pipeline.settings import settings

    with refusals():
        found = headline(settings())
    if json:
        return as_json(found.answer())
    from rich.console import Console

    Console().print(on_screen(found))
    if browser:
        typer.launch(str(found.page))
