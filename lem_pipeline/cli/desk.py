"""Commands of those who trade by a model: compare, promote, take back, and be advised bar by bar."""

from collections.abc import Callable
from getpass import getuser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lem_pipeline.cli.common import REFUSED, Json, Profile, as_json, prepare, refusals

if TYPE_CHECKING:
    from lem_pipeline.promotion import Decision, Desk

Model = Annotated[str, typer.Argument(help="a model of the profile, such as lem-crypto")]
Reason = Annotated[str, typer.Option(help="why, for the log")]


def compare(
    one: Annotated[str, typer.Argument(help="lem-crypto@challenger, lem-crypto/3, or a name, meaning its challenger")],
    other: Annotated[str, typer.Argument(help="what it is judged by, named likewise")],
    profile: Profile = "demo",
    split: Annotated[Literal["test", "validation"], typer.Option(help="whose orders both play")] = "test",
    html: Annotated[Path | None, typer.Option(help="where to write the page; else into the profile's reports")] = None,
    json: Json = False,
) -> None:
    """Play two registered versions on the same orders, and say which is better.

    Example: lem compare lem-crypto@challenger lem-crypto/3 --split validation
    """
    prepare(profile)
    from rich.console import Console

    from lem_pipeline.compare import compare_versions
    from lem_pipeline.report.compare_page import answer, comparison_page, on_screen
    from lem_pipeline.settings import settings

    with refusals():
        found = compare_versions(one, other, split)
    page = html or settings().reports / found.file_name
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(comparison_page(found), encoding="utf-8")
    if json:
        return as_json(answer(found) | {"page": page.resolve()})
    Console().print(on_screen(found))
    typer.echo(f"\nreport      {page.resolve()}")


def promote(
    model: Model,
    version: Annotated[str, typer.Option(help="the version that shall trade, whatever the rule says")] = "",
    reason: Reason = "",
    profile: Profile = "demo",
    json: Json = False,
) -> None:
    """Judge the latest version of a model and let it trade if it is better; or name a version and say why.

    Exit code 0: promoted, or the champion stays. 3: refused.

    Example: lem promote lem-crypto --version 3 --reason "new fee schedule"
    """
    desk = _desk(profile)
    _decide(lambda: desk.promote(model, version, getuser(), reason) if version else desk.decide(model), json)


def roll_back(model: Model, reason: Reason = "", profile: Profile = "demo", json: Json = False) -> None:
    """Give the place back to the version of a model that traded before. Exit code 3: refused.

    Example: lem roll-back lem-crypto --reason "fills worse than in the report"
    """
    desk = _desk(profile)
    _decide(lambda: desk.roll_back(model, getuser(), reason), json)


def _desk(profile: str) -> "Desk":
    prepare(profile)
    from lem_pipeline.promotion import Desk
    from lem_pipeline.settings import settings
    from lem_pipeline.stores import tracking_of, warehouse_of

    chosen = settings()
    return Desk(chosen, warehouse_of(chosen), tracking_of(chosen), "command line")


def _decide(decision: Callable[[], "Decision"], json: bool) -> None:
    with refusals():
        made = decision()
    if json:
        as_json(made)
    else:
        typer.echo(made.sentence)
    if made.action == "refused":
        raise typer.Exit(REFUSED)


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
    prepare(profile)
    from lem_pipeline.advise_setup import open_desk
    from lem_pipeline.child_orders import check_format, write
    from lem_pipeline.defs.tables import parameters
    from lem_pipeline.settings import settings

    with refusals():
        if export:
            check_format(export)
        desk = open_desk(settings(), parameters(), model, asset_class, history, state)
        for answer in desk.answers(events):
            as_json(answer)
        if export:
            write(export, desk.children())
    if desk.refused:
        raise typer.Exit(REFUSED)
